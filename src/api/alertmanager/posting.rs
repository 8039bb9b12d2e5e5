//! `POST alerts`: what is good is kept, and only then it is said what was wrong with the rest.

use hyper::StatusCode;

use crate::api::alerting::Alerting;
use crate::api::alertmanager::coded;
use crate::api::alertmanager::empty;
use crate::api::alertmanager::refused;
use crate::api::alertmanager::required;
use crate::api::alertmanager::sentence;
use crate::api::metrics::Metrics;
use crate::config::compat::is_classic_name;
use crate::serve::Response;
use crate::wire::alerts;
use crate::wire::alerts::Batch;
use crate::wire::alerts::Unreadable;

/// Of wrong alerts so many are told; a request may hold 20,000 of them.
const TOLD: usize = 100;

/// Reads and keeps alerts.
pub async fn alerts(state: &dyn Alerting, metrics: &Metrics, body: &[u8], now: i64) -> Response {
    let resolve_timeout = i64::try_from(state.resolve_timeout().as_millis()).unwrap_or(i64::MAX);
    match alerts::read(body, now, resolve_timeout) {
        Ok(mut batch) => {
            if let Some(after) = state.stale_after() {
                let ends = now.saturating_add(i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
                for alert in batch.good.iter_mut().filter(|alert| !alert.is_over(now)) {
                    (alert.ends, alert.times_out) = (ends, true);
                }
            }
            keep(state, metrics, batch).await
        }
        Err(Unreadable::Lacks(place)) if place.is_empty() => required("alerts"),
        Err(Unreadable::Lacks(place)) => required(&place),
        Err(Unreadable::Malformed(why)) => {
            coded(StatusCode::BAD_REQUEST, 400, &format!("parsing alerts body from \"\" failed, because {why}"))
        }
    }
}

/// Keeps what is good of it.
pub async fn keep(state: &dyn Alerting, metrics: &Metrics, mut batch: Batch) -> Response {
    if state.classic_names() {
        batch.only_names(is_classic_name);
    }
    metrics.alerts(&batch);
    if !batch.good.is_empty()
        && let Err(why) = state.post(batch.good).await
    {
        return refused(why);
    }
    if batch.wrong.is_empty() {
        return empty(StatusCode::OK);
    }
    let mut told: Vec<&str> = batch.wrong.iter().take(TOLD).map(String::as_str).collect();
    let more = format!("and {} more", batch.wrong.len().saturating_sub(TOLD));
    if batch.wrong.len() > TOLD {
        told.push(&more);
    }
    sentence(StatusCode::BAD_REQUEST, &told.join("\n"))
}

//! `POST /api/v1/alerts/in/{source}`: alerts by webhook, of Grafana, of another Alertmanager, or in any JSON that the settings explain.
//!
//! The answer comes when a majority of the nodes has the alerts. Left out on purpose: a memory of signatures that were shown: within their five minutes a
//! request can be sent once more, and then says the same once more.

use hyper::HeaderMap;
use hyper::StatusCode;
use serde::Serialize;

use crate::api::Call;
use crate::api::alerting::Alerting;
use crate::api::alertmanager;
use crate::api::alertmanager::posting;
use crate::api::answer::Failure;
use crate::api::answer::json;
use crate::api::deps::Deps;
use crate::config::inputs::Input;
use crate::config::inputs::Signature;
use crate::model::alert::Alert;
use crate::secret::signed;
use crate::serve::Response;
use crate::wire::alerts::Unreadable;
use crate::wire::hooks;

/// Where they are.
const BELOW: &str = "/api/v1/alerts/in/";
/// Replicas of Grafana tell the same within one interval of a group: five minutes unless somebody wants otherwise.
const TURNS_MS: i64 = 10 * 60_000;
/// How far off a signed time may be, seconds.
const CLOCKS: i64 = 300;

/// Whether alerts come in at a path.
pub fn takes(path: &str) -> bool {
    path.starts_with(BELOW) || path.starts_with(alertmanager::BELOW)
}

#[derive(Serialize)]
struct Taken {
    kind: &'static str,
    alerts: usize,
}

/// Reads and keeps alerts.
pub(super) async fn post(deps: &Deps, source: &str, call: &Call, now: i64) -> Result<Response, Failure> {
    let state = (deps.alerting)().map_err(alertmanager::off)?;
    let inputs = state.inputs();
    let plain;
    let input = match inputs.iter().find(|input| input.name == source) {
        Some(input) => input,
        None => {
            plain = Input::plain(source);
            &plain
        }
    };
    if let Some(signature) = &input.signature {
        verify(signature, &call.headers, &call.body, now)?;
    }
    let (kind, mut batch) = hooks::read(&call.body, input, now).map_err(|error| {
        let why = match error {
            Unreadable::Malformed(why) => why,
            Unreadable::Lacks(place) if place.is_empty() => "the body is empty".to_owned(),
            Unreadable::Lacks(place) => format!("{place} is missing"),
        };
        Failure::wrong(format!("what {source} sent cannot be used: {why}"), "docs/alerting.md shows what is understood")
    })?;
    let (alerts, wrong) = (batch.good.len(), batch.wrong.len());
    batch.good.retain(|alert| !is_late(&*state, alert, now));
    let response = posting::keep(&*state, &deps.alert_counts, batch).await;
    let all_is_well = wrong == 0 && response.status() == StatusCode::OK;
    Ok(if all_is_well { json(StatusCode::OK, &Taken { kind: kind.word(), alerts }) } else { response })
}

/// Whether a webhook says that an alert holds of which another one of the same source has said, a moment ago, that it is over: replicas take turns, and the
/// later one may not know yet. What fires anew began after that end.
fn is_late(state: &dyn Alerting, alert: &Alert, now: i64) -> bool {
    if !alert.times_out {
        return false;
    }
    let ended = state.known(&alert.labels).filter(|known| known.is_over(now) && !known.times_out);
    ended.is_some_and(|known| alert.starts <= known.ends && now - known.updated < TURNS_MS)
}

/// Whether the sender knows the secret.
fn verify(wanted: &Signature, headers: &HeaderMap, body: &[u8], now: i64) -> Result<(), Failure> {
    const REMEDY: &str = "the sender's secret and headers must be those of the settings (alerting.inputs, docs/alerting.md)";
    let refused = |text: String| Failure::new(StatusCode::UNAUTHORIZED, "unsigned", text, REMEDY);
    let secret = std::fs::read_to_string(&wanted.secret_file).map_err(|error| {
        // Whoever sends is told no path.
        tracing::error!(file = %wanted.secret_file.display(), %error, "the secret of an input cannot be read: what comes is answered 503");
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "no_secret", "the secret that signs this cannot be read", "look at the node's log")
    })?;
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.ok_or_else(|| refused(format!("there is no header {name}")))
    };
    let signature = header(&wanted.header)?;
    let mut message = Vec::with_capacity(body.len() + 16);
    if let Some(name) = &wanted.timestamp_header {
        let text = header(name)?;
        let seconds = text.parse::<i64>().map_err(|_| refused(format!("the header {name} is no number of seconds")))?;
        if (seconds.saturating_sub(now / 1000)).abs() > CLOCKS {
            return Err(refused(format!("the header {name} is more than {CLOCKS} s off")));
        }
        message.extend_from_slice(text.as_bytes());
        message.push(b':');
    }
    message.extend_from_slice(body);
    if signed::is_signed(secret.trim_end().as_bytes(), &message, signature) {
        return Ok(());
    }
    Err(refused("the signature is not right".to_owned()))
}

//! A sign of life for somebody outside, who raises the alarm when it stays away: from the node that leads the control shard, and only if a majority notes what it
//! proposes. So it says more than that a process runs: alerts can be taken, and receivers can be told.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use hyper::Method;
use tokio::sync::watch;

use crate::alert::book::Gone;
use crate::app::alerting::Alerting;
use crate::app::alerting::lock;
use crate::clock;
use crate::config::alerting::Heartbeat;
use crate::config::receivers::http::Http;
use crate::notify::http;
use crate::notify::http::Asked;
use crate::shard::alerting::Change;

/// Between two looks whether it is time.
const LOOK: Duration = Duration::from_millis(500);
/// What was not taken is tried again after this, if the interval is not shorter.
const AGAIN: Duration = Duration::from_secs(5);
/// An answer is waited for so long.
const ANSWER: Duration = Duration::from_secs(10);

/// Beats until `stop`.
pub async fn keep(alerting: Arc<Alerting>, mut stop: watch::Receiver<bool>) {
    let mut next: Option<Instant> = None;
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let Some(heartbeat) = alerting.current().and_then(|current| current.written.heartbeat.clone()) else {
            next = None;
            *lock(&alerting.unheard) = None;
            continue;
        };
        if !alerting.node.leads_control() {
            next = None;
            *lock(&alerting.unheard) = None;
            continue;
        }
        let now = clock::now();
        if next.is_some_and(|next| now < next) {
            continue;
        }
        // Nothing goes by it: it is there to be agreed on.
        if alerting.note(Change::Sweep(Gone::default())).await.is_err() {
            continue;
        }
        let beaten = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            beaten = beat(&heartbeat, &alerting.name) => beaten,
        };
        let wait = if beaten.is_ok() { heartbeat.interval } else { heartbeat.interval.min(AGAIN) };
        next = Some(now + wait);
        let before = std::mem::replace(&mut *lock(&alerting.unheard), beaten.clone().err());
        match (beaten, before) {
            (Err(why), before) if before.as_ref() != Some(&why) => tracing::warn!("the heartbeat was not taken, it is tried again: {why}"),
            (Ok(()), Some(_)) => tracing::info!("the heartbeat is taken again"),
            _ => {}
        }
    }
}

async fn beat(heartbeat: &Heartbeat, name: &str) -> Result<(), String> {
    let http = Http { timeout: ANSWER, ..Http::default() };
    let body = serde_json::json!({ "from": "sluice", "node": name, "at": clock::rfc3339(clock::wall_ms()) });
    let (method, headers, body) = match heartbeat.post {
        true => (Method::POST, vec![("Content-Type".to_owned(), "application/json".to_owned())], Bytes::from(body.to_string())),
        false => (Method::GET, Vec::new(), Bytes::new()),
    };
    let answer = http::exchange(&http, Asked { method, url: heartbeat.url.clone(), headers, body }).await?;
    if (200..300).contains(&answer.status) { Ok(()) } else { Err(format!("it answers {}", answer.status)) }
}

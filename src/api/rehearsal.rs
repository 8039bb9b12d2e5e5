//! `POST /api/v1/alerts/dry-run`: what would have been told within the last days with other policies, beside what would have been with those in force. Nothing is
//! told, and nothing changes.

use hyper::StatusCode;
use serde::Deserialize;
use serde::Serialize;

use crate::api::Call;
use crate::api::alerting::Refused;
use crate::api::alerting::Rehearsal;
use crate::api::alerting::Rehearsed;
use crate::api::alerting::Told;
use crate::api::alertmanager;
use crate::api::answer::Failure;
use crate::api::deps::Deps;
use crate::clock;

/// Days that are lived through unless something is said,
const DAYS: u64 = 7;
/// and at most.
const MOST_DAYS: u64 = 400;
const DAY_MS: i64 = 86_400_000;
const EXPECTED: &str = r#"send {"policies": "recovery: { observe: 2m }", "days": 7}"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    policies: String,
    #[serde(default = "days")]
    days: u64,
}

fn days() -> u64 {
    DAYS
}

/// The answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    from: String,
    to: String,
    episodes: u64,
    missing: u64,
    /// Null: none was left out.
    left_out_before: Option<String>,
    messages: Messages,
    alerts: Vec<Alert>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Messages {
    in_force: u64,
    proposed: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    alertname: String,
    episodes: u64,
    silenced: u64,
    told_then: u64,
    in_force: Told,
    proposed: Told,
}

/// Lives through them.
pub(super) async fn rehearse(deps: &Deps, call: &Call, now: i64) -> Result<Answer, Failure> {
    let state = (deps.alerting)().map_err(alertmanager::off)?;
    let wrong = |why: &dyn std::fmt::Display| Failure::wrong(format!("the body is not as expected: {why}"), EXPECTED);
    let Said { policies, days } = serde_json::from_slice(&call.body).map_err(|error| wrong(&error))?;
    if !(1..=MOST_DAYS).contains(&days) {
        return Err(wrong(&format!("days must be 1 to {MOST_DAYS}")));
    }
    let from = now.saturating_sub(i64::try_from(days).unwrap_or(1).saturating_mul(DAY_MS));
    let done = state.rehearse(Rehearsal { policies, from, to: now }).await.map_err(|refused| match refused {
        Refused::Wrong(why) => Failure::wrong(why, "docs/alerting.md#policies has every key"),
        Refused::Full(why) | Refused::Later(why) => {
            Failure::new(StatusCode::SERVICE_UNAVAILABLE, "later", why, "try again, or ask another node")
        }
        Refused::Unknown => Failure::new(StatusCode::SERVICE_UNAVAILABLE, "later", "there is no history here", "ask another node"),
    })?;
    let Rehearsed { episodes, missing, since, messages, names } = done;
    let alerts = names.into_iter().map(|one| Alert {
        alertname: one.alert,
        episodes: one.episodes,
        silenced: one.silenced,
        told_then: one.told_then,
        in_force: one.in_force,
        proposed: one.proposed,
    });
    Ok(Answer {
        from: clock::rfc3339(from),
        to: clock::rfc3339(now),
        episodes,
        missing,
        left_out_before: since.map(clock::rfc3339),
        messages: Messages { in_force: messages.0, proposed: messages.1 },
        alerts: alerts.collect(),
    })
}

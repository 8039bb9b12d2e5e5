//! `POST /api/v1/alerts/dry-run` and `GET /api/v1/alerts/dry-run/{id}`: what would have been told within the last days with other policies, beside what would have been
//! with those in force. Nothing is told, and nothing changes. It may take minutes, so the first begins it, and the second says how far it is, or what came of it.

use hyper::StatusCode;
use serde::Deserialize;
use serde::Serialize;

use crate::api::Call;
use crate::api::alerting::Refused;
use crate::api::alerting::Rehearsal;
use crate::api::alerting::Rehearsed;
use crate::api::alerting::RehearsedName;
use crate::api::alerting::Rehearsing;
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

/// What came of it.
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

/// That it has begun.
#[derive(Serialize)]
pub struct Begun {
    id: String,
}

/// How far it is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    id: String,
    lived: u64,
    /// 0: the history is still being read.
    of: u64,
    /// Null: it goes on.
    result: Option<Answer>,
}

fn failure(refused: Refused) -> Failure {
    match refused {
        Refused::Wrong(why) => Failure::wrong(why, "docs/alerting.md#policies has every key"),
        Refused::Full(why) | Refused::Later(why) => {
            Failure::new(StatusCode::SERVICE_UNAVAILABLE, "later", why, "try again, or ask another node")
        }
        Refused::Unknown => Failure::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is no such dry run at this node",
            "ask the node that began it; only its last one is kept",
        ),
    }
}

/// Begins it.
pub(super) fn begin(deps: &Deps, call: &Call, now: i64) -> Result<Begun, Failure> {
    let state = (deps.alerting)().map_err(alertmanager::off)?;
    let wrong = |why: &dyn std::fmt::Display| Failure::wrong(format!("the body is not as expected: {why}"), EXPECTED);
    let Said { policies, days } = serde_json::from_slice(&call.body).map_err(|error| wrong(&error))?;
    if !(1..=MOST_DAYS).contains(&days) {
        return Err(wrong(&format!("days must be 1 to {MOST_DAYS}")));
    }
    let from = now.saturating_sub(i64::try_from(days).unwrap_or(1).saturating_mul(DAY_MS));
    let id = state.rehearse(Rehearsal { policies, from, to: now }).map_err(failure)?;
    Ok(Begun { id })
}

/// How far it is.
pub(super) fn look(deps: &Deps, id: String) -> Result<Progress, Failure> {
    let state = (deps.alerting)().map_err(alertmanager::off)?;
    Ok(match state.rehearsed(&id).map_err(failure)? {
        Rehearsing::UnderWay { lived, of } => Progress { id, lived, of, result: None },
        Rehearsing::Done(done) => Progress { id, lived: 2 * done.episodes, of: 2 * done.episodes, result: Some(Answer::of(&done)) },
    })
}

impl Answer {
    fn of(done: &Rehearsed) -> Answer {
        let alert = |one: &RehearsedName| Alert {
            alertname: one.alert.clone(),
            episodes: one.episodes,
            silenced: one.silenced,
            told_then: one.told_then,
            in_force: one.in_force,
            proposed: one.proposed,
        };
        Answer {
            from: clock::rfc3339(done.from),
            to: clock::rfc3339(done.to),
            episodes: done.episodes,
            missing: done.missing,
            left_out_before: done.since.map(clock::rfc3339),
            messages: Messages { in_force: done.messages.0, proposed: done.messages.1 },
            alerts: done.names.iter().map(alert).collect(),
        }
    }
}

//! That somebody takes care of an alert: said by a person, by its fingerprint.

use serde::Deserialize;

use crate::api::Call;
use crate::api::alerting::Acknowledged;
use crate::api::alerting::Refused;
use crate::api::alertmanager;
use crate::api::answer::Failure;
use crate::api::deps::Deps;
use crate::api::groups::Done;

/// Bytes of what is said.
const MOST_COMMENT: usize = 4096;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Said {
    by: String,
    comment: String,
}

/// Does it.
pub(super) async fn acknowledge(deps: &Deps, fingerprint: &str, call: &Call, now: i64) -> Result<Done, Failure> {
    const EXPECTED: &str = r#"send {"comment": "on it"}, and "by": "NAME" if it is not the token's name"#;
    const REMEDY: &str = "`sluice alert list` shows them";
    let state = (deps.alerting)().map_err(alertmanager::off)?;
    let wrong = |why: &dyn std::fmt::Display| Failure::wrong(format!("the body is not as expected: {why}"), EXPECTED);
    let said: Said = match call.body.is_empty() {
        true => Said::default(),
        false => serde_json::from_slice(&call.body).map_err(|error| wrong(&error))?,
    };
    if said.by.len() + said.comment.len() > MOST_COMMENT {
        return Err(wrong(&format!("more than {MOST_COMMENT} bytes")));
    }
    let unknown = || Failure::unknown("alert", fingerprint, REMEDY);
    let number = u64::from_str_radix(fingerprint, 16).map_err(|_| unknown())?;
    let by = if said.by.is_empty() { call.who.0.to_string() } else { said.by };
    let acknowledged = Acknowledged { by: by.clone(), comment: said.comment, at: now };
    match state.acknowledge(number, acknowledged).await {
        Ok(()) => Ok(Done { done: format!("{fingerprint} is taken care of by {by}") }),
        Err(Refused::Unknown) => Err(unknown()),
        Err(Refused::Wrong(why)) => Err(Failure::conflict(why, REMEDY)),
        Err(Refused::Full(why) | Refused::Later(why)) => {
            Err(Failure::new(hyper::StatusCode::SERVICE_UNAVAILABLE, "later", why, "try again in a few seconds"))
        }
    }
}

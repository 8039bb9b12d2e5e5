//! What a receiver would be sent for an alert, text by text, without sending it; or what a text comes to that is not in force yet.

use serde::Deserialize;
use serde::Serialize;

use crate::api::Call;
use crate::api::alerting::Preview;
use crate::api::alerting::Refused;
use crate::api::alertmanager;
use crate::api::answer::Failure;
use crate::api::deps::Deps;
use crate::model::labels::Labels;

/// Bytes of all labels and annotations.
const MOST: usize = 64 << 10;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Said {
    labels: Labels,
    annotations: Labels,
    resolved: bool,
    text: Option<String>,
}

/// The answer.
#[derive(Serialize)]
pub struct Texts {
    texts: Vec<Text>,
}

#[derive(Serialize)]
struct Text {
    key: String,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    instead: Option<String>,
}

/// Shows them.
pub(super) fn preview(deps: &Deps, receiver: &str, call: &Call, now: i64) -> Result<Texts, Failure> {
    const EXPECTED: &str =
        r#"send {"labels": {"alertname": "DiskFull"}}, and if need be "annotations", "resolved": true, "text": "{{ status }}""#;
    let state = (deps.alerting)().map_err(alertmanager::off)?;
    let wrong = |why: &dyn std::fmt::Display| Failure::wrong(format!("the body is not as expected: {why}"), EXPECTED);
    let Said { labels, annotations, resolved, text } = serde_json::from_slice(&call.body).map_err(|error| wrong(&error))?;
    let bytes = |labels: &Labels| labels.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    if bytes(&labels) + bytes(&annotations) + text.as_ref().map_or(0, String::len) > MOST {
        return Err(wrong(&format!("more than {MOST} bytes")));
    }
    match state.preview(Preview { receiver: receiver.to_owned(), labels, annotations, resolved, text, at: now }) {
        Ok(texts) => {
            Ok(Texts { texts: texts.into_iter().map(|one| Text { key: one.key, text: one.text, instead: one.instead }).collect() })
        }
        Err(Refused::Unknown) => Err(Failure::unknown("receiver", receiver, "GET /api/v2/receivers shows them")),
        Err(Refused::Wrong(why) | Refused::Full(why) | Refused::Later(why)) => {
            Err(Failure::wrong(why, "docs/receivers.md shows the words of templates"))
        }
    }
}

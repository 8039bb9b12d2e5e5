//! What an answer means: taken, later, or never. HTTP's status first; then, where a receiver says it in its body, the body: 200 with an error in it is no success.

use std::time::Duration;

use serde_json::Value;

use crate::config::receivers::hooks::Expect;
use crate::notify::Outcome;
use crate::notify::http::Answer;
use crate::notify::say;

/// How long after a robot said that too much was sent.
const TOO_FAST: Duration = Duration::from_secs(60);
/// DingTalk hears nothing for so long.
const DINGTALK_DEAF: Duration = Duration::from_secs(600);

/// By the status alone.
pub fn status(answer: Result<Answer, String>) -> Result<Answer, Outcome> {
    let answer = answer.map_err(|why| Outcome::Again { after: None, why })?;
    let why = || format!("it answers {}{}", answer.status, words(&answer.body));
    match answer.status {
        200..=299 => Ok(answer),
        408 | 425 | 429 | 500..=599 => Err(Outcome::Again { after: answer.retry_after, why: why() }),
        301..=303 => Err(Outcome::Never {
            why: format!("it answers {}, which would lose the content; write the URL that it leads to", answer.status),
        }),
        _ => Err(Outcome::Never { why: why() }),
    }
}

/// What a body says, for people: one line, not long, no letters that could lead a terminal astray.
fn words(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(2048)]);
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().filter(|letter| !letter.is_control()).collect();
    let line = say::short(&line, 300);
    if line.is_empty() { String::new() } else { format!(": {line}") }
}

/// A status that is enough.
pub fn plain(answer: Result<Answer, String>) -> Outcome {
    status(answer).map_or_else(|outcome| outcome, |_| Outcome::Taken)
}

fn json(answer: &Answer) -> Option<Value> {
    serde_json::from_slice(&answer.body).ok()
}

fn said(answer: &Answer) -> String {
    format!("it answers {}{}", answer.status, words(&answer.body))
}

fn code(value: &Value, names: &[&str]) -> Option<i64> {
    names.iter().find_map(|name| value.get(name)).and_then(Value::as_i64)
}

/// A robot: a code of 0 is success, whatever HTTP says.
fn robot(answer: Result<Answer, String>, names: &[&str], later: &[(i64, Duration)]) -> Outcome {
    let answer = match status(answer) {
        Ok(answer) => answer,
        Err(outcome) => return outcome,
    };
    match json(&answer).and_then(|body| code(&body, names)) {
        Some(0) => Outcome::Taken,
        Some(code) => match later.iter().find(|(known, _)| *known == code) {
            Some((_, after)) => Outcome::Again { after: Some(*after), why: said(&answer) },
            None => Outcome::Never { why: said(&answer) },
        },
        // A page of some proxy: nobody knows whether the robot has seen it.
        None => Outcome::Again { after: None, why: format!("{}; a robot's answer says more", said(&answer)) },
    }
}

/// WeCom's robot, and its app.
pub fn wecom(answer: Result<Answer, String>) -> Outcome {
    // -1: busy; 45009: more than a minute's number; 45033: too many at once.
    robot(answer, &["errcode"], &[(-1, Duration::from_secs(5)), (45009, TOO_FAST), (45033, TOO_FAST)])
}

/// DingTalk's robot.
pub fn dingtalk(answer: Result<Answer, String>) -> Outcome {
    // 130101: more than 20 in a minute, and then it is deaf; -1: busy; 130102 and 410100 are other words for too fast.
    robot(answer, &["errcode"], &[(-1, Duration::from_secs(5)), (130_101, DINGTALK_DEAF), (130_102, DINGTALK_DEAF), (410_100, TOO_FAST)])
}

/// Feishu's robot.
pub fn feishu(answer: Result<Answer, String>) -> Outcome {
    robot(answer, &["code", "StatusCode"], &[(9499, TOO_FAST), (11232, TOO_FAST), (99_991_400, TOO_FAST)])
}

/// Slack: a webhook says `ok` in plain text; a method says `"ok": true`.
pub fn slack(answer: Result<Answer, String>, method: bool) -> Outcome {
    let answer = match status(answer) {
        Ok(answer) => answer,
        Err(outcome) => return outcome,
    };
    let body = json(&answer);
    let taken = body.as_ref().and_then(|body| body.get("ok")).and_then(Value::as_bool);
    match (taken, method) {
        (Some(true), _) => Outcome::Taken,
        (Some(false), _) => {
            let error = body.as_ref().and_then(|body| body.get("error")).and_then(Value::as_str).unwrap_or_default();
            let again = [
                "ratelimited",
                "rate_limited",
                "message_limit_exceeded",
                "internal_error",
                "fatal_error",
                "request_timeout",
                "service_unavailable",
            ];
            if again.contains(&error) {
                Outcome::Again { after: answer.retry_after, why: said(&answer) }
            } else {
                Outcome::Never { why: said(&answer) }
            }
        }
        // What speaks like Slack (Mattermost, Rocket.Chat) says `ok`, something of its own, or nothing.
        (None, false) => Outcome::Taken,
        (None, true) => Outcome::Again { after: None, why: format!("{}; Slack's answer says more", said(&answer)) },
    }
}

/// An alert center: what its `expect` says.
pub fn expected(answer: Result<Answer, String>, expect: Option<&Expect>) -> Outcome {
    let answer = match status(answer) {
        Ok(answer) => answer,
        Err(outcome) => return outcome,
    };
    let Some(expect) = expect else { return Outcome::Taken };
    let body = json(&answer);
    let found = expect.field.split('.').try_fold(body.as_ref(), |value, name| Some(value?.get(name)));
    let found = found.flatten().map(|value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    match found {
        Some(value) if expect.values.contains(&value) => Outcome::Taken,
        Some(value) if expect.again.contains(&value) => Outcome::Again { after: answer.retry_after, why: said(&answer) },
        Some(_) => Outcome::Never { why: said(&answer) },
        None => Outcome::Again { after: None, why: format!("{}; there is no {} in it", said(&answer), expect.field) },
    }
}

//! How answers look: JSON that nobody caches; and what a refusal says: what is wrong, and what to do about it.

use hyper::StatusCode;
use hyper::header::ALLOW;
use hyper::header::CACHE_CONTROL;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use hyper::header::RETRY_AFTER;
use hyper::header::X_CONTENT_TYPE_OPTIONS;
use serde::Serialize;

use crate::api::deps::Refusal;
use crate::node::offer::ProposeError;
use crate::serve;
use crate::serve::Response;

/// Why something was not answered as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The HTTP status.
    pub status: StatusCode,
    /// A short fixed word.
    pub code: &'static str,
    /// What is wrong.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
    /// The methods that there are, for 405.
    pub allow: Option<&'static str>,
}

/// A failure as it is published.
#[derive(Serialize)]
struct Published<'a> {
    error: &'a str,
    remedy: &'a str,
    code: &'static str,
}

impl Failure {
    /// Of its parts.
    pub fn new(status: StatusCode, code: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Failure {
        Failure { status, code, text: text.into(), remedy: remedy.into(), allow: None }
    }

    /// 404.
    pub fn unknown(what: &str, name: &str, remedy: &str) -> Failure {
        Failure::new(StatusCode::NOT_FOUND, "not_found", format!("there is no {what} `{name}`"), remedy)
    }

    /// 400.
    pub fn wrong(text: impl Into<String>, remedy: impl Into<String>) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, "wrong", text, remedy)
    }

    /// 409.
    pub fn conflict(text: impl Into<String>, remedy: impl Into<String>) -> Failure {
        Failure::new(StatusCode::CONFLICT, "conflict", text, remedy)
    }

    /// Of what a sink or a sender says.
    pub fn of_refusal(refusal: Refusal, what: &str, name: &str, remedy: &str) -> Failure {
        match refusal {
            Refusal::Unknown => Failure::unknown(what, name, remedy),
            Refusal::Conflict { text, remedy } => Failure::conflict(text, remedy),
            Refusal::Later(text) => Failure::new(StatusCode::SERVICE_UNAVAILABLE, "later", text, "try again in a few seconds"),
        }
    }

    /// Of a command that was not carried out.
    pub fn of_command(error: ProposeError) -> Failure {
        let (status, code, remedy) = match &error {
            ProposeError::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "busy", "try again in a few seconds"),
            ProposeError::NotLeader(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "not_leader",
                "try again in a few seconds, or ask the node that leads the shard (/api/v1/status)",
            ),
            ProposeError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping", "ask again when the node is back"),
            ProposeError::Unknown => (StatusCode::SERVICE_UNAVAILABLE, "unknown_outcome", "look whether it happened, then ask again"),
            ProposeError::NoShard(_) => (StatusCode::INTERNAL_SERVER_ERROR, "no_shard", "report this with the node's log"),
            ProposeError::Void(_) => (StatusCode::CONFLICT, "void", "look at the present state and ask again"),
        };
        Failure::new(status, code, error.to_string(), remedy)
    }

    /// As it goes out.
    pub fn response(&self) -> Response {
        let mut response = json(self.status, &Published { error: &self.text, remedy: &self.remedy, code: self.code });
        if let Some(allow) = self.allow {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

/// An answer in JSON.
pub fn json(status: StatusCode, content: &impl Serialize) -> Response {
    // Writing our own structs into memory fails only by a defect of ours, and then there is nothing better to say.
    let text = serde_json::to_vec(content).unwrap_or_else(|_| b"{}".to_vec());
    let mut response = serve::answer(status, "application/json", text);
    unstored(&mut response, &[(X_CONTENT_TYPE_OPTIONS, "nosniff")]);
    response
}

/// Marks an answer as one that is true only now, and adds headers.
pub fn unstored(response: &mut Response, more: &[(HeaderName, &'static str)]) {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for (name, value) in more {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

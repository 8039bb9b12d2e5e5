//! What a sink asks beside its receiver: schemas, tokens. Short, since a worker waits for it.
//!
//! Left out on purpose: how one asks (`serve::ask`), and retries (whoever asks comes again).

use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;

use crate::forward::remote_write::settings::Place;
use crate::serve::ask;
use crate::serve::ask::Answer;
use crate::serve::ask::Way;
use crate::serve::tls;

/// All of it, the connection included. Short, since a worker waits for it, and a stop for the worker.
const WITHIN: Duration = Duration::from_secs(4);
/// Answers are short; what is longer is none of those that are expected.
const ANSWER_MAX: usize = 1 << 20;

/// What is asked.
pub struct Question {
    /// Behind the URL's own path.
    pub path: String,
    /// Beside Host and User-Agent.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The content.
    pub body: Bytes,
}

/// Posts, and takes the answer. The error is for people.
pub async fn post(place: &Place, question: Question, ca_option: &str) -> Result<Answer, String> {
    let path = format!("{}{}", place.path.trim_end_matches('/'), question.path);
    let mut request = Request::post(if path.is_empty() { "/" } else { path.as_str() });
    for (name, value) in question.headers {
        request = request.header(name, value);
    }
    let tls = place.tls.as_ref().map(|with| {
        let own = with.own.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
        (&*with.name, tls::Trust { authorities: with.authorities.as_deref(), own, option: ca_option })
    });
    let way = Way { host: &place.host, port: place.port, authority: &place.authority, tls };
    match tokio::time::timeout(WITHIN, ask::exchange(way, (request, question.body), ANSWER_MAX)).await {
        Ok(answer) => answer.map_err(|silence| silence.to_string()),
        Err(_) => Err(format!("no answer within {} s", WITHIN.as_secs())),
    }
}

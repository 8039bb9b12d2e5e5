//! One request over a connection of its own, for what a sink asks beside its receiver: schemas, tokens. Rare, so nothing is kept open.
//!
//! Left out on purpose: retries (whoever asks comes again) and redirects (a password must not follow them).

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::forward::remote_write::settings::Place;
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

/// What came back.
pub struct Answer {
    /// HTTP's.
    pub status: u16,
    /// The content.
    pub body: Vec<u8>,
}

impl Answer {
    /// The content as one line for people, not too long.
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(1024)]).into_owned();
        format!("{} {}", self.status, text.split_whitespace().collect::<Vec<_>>().join(" ")).trim_end().to_owned()
    }
}

/// Posts, and takes the answer. The error is for people.
pub async fn post(place: &Place, question: Question, ca_option: &str) -> Result<Answer, String> {
    match tokio::time::timeout(WITHIN, exchange(place, question, ca_option)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} s", WITHIN.as_secs())),
    }
}

async fn exchange(place: &Place, question: Question, ca_option: &str) -> Result<Answer, String> {
    let stream = TcpStream::connect((place.host.as_str(), place.port)).await.map_err(|error| error.to_string())?;
    match &place.tls {
        None => converse(stream, place, question).await,
        Some(with) => {
            let own = with.own.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
            let trust = tls::Trust { authorities: with.authorities.as_deref(), own, option: ca_option };
            let stream = tls::connect(stream, &with.name, trust).await?;
            converse(stream, place, question).await
        }
    }
}

async fn converse<Io>(stream: Io, place: &Place, question: Question) -> Result<Answer, String>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // Ends with its sender, which this function drops.
    tokio::spawn(connection);
    let path = format!("{}{}", place.path.trim_end_matches('/'), question.path);
    let mut request = Request::post(if path.is_empty() { "/" } else { path.as_str() })
        .header(header::HOST, place.authority.as_str())
        .header(header::USER_AGENT, concat!("sluice/", env!("CARGO_PKG_VERSION")));
    for (name, value) in question.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(question.body)).map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    let body = http_body_util::Limited::new(response.into_body(), ANSWER_MAX).collect().await.map_err(|error| error.to_string())?;
    Ok(Answer { status, body: body.to_bytes().to_vec() })
}

//! Asks a running node over HTTP and turns what can go wrong into a sentence with a remedy.
//!
//! HTTP, with TLS or without, to one address per call; no pool, no retry: a person is waiting and wants to know at once.

use std::path::PathBuf;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::cli::Failure;
use crate::serve::tls;

/// Longest wait for the beginning of an answer.
const ANSWER_WITHIN: std::time::Duration = std::time::Duration::from_secs(30);

/// A node to ask.
pub struct Client {
    server: String,
    /// Authorities to trust instead of the system's.
    authorities: Option<PathBuf>,
    shown: Shown,
}

/// The token to show.
#[derive(Clone, Debug)]
pub enum Shown {
    /// This one.
    Token(String),
    /// The one in this file.
    File(PathBuf),
    /// That of a node on this host, if it can be read and the connection leads nowhere else: it must not be told to others.
    Local(PathBuf),
}

/// Where the server's URL leads.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    address: String,
    /// The name that its certificate must have; `None`: no TLS.
    secure: Option<String>,
}

type Sender = SendRequest<Full<Bytes>>;

impl Client {
    /// The node at `http://host:port` (the scheme may be left out) or `https://host:port`.
    pub fn new(server: &str, authorities: Option<PathBuf>, shown: Shown) -> Client {
        Client { server: server.to_owned(), authorities, shown }
    }

    /// The JSON at this path.
    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.ask(Method::GET, path, None).await
    }

    /// Sends JSON to this path.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// Asks that what is at this path be no more.
    pub async fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.ask(Method::DELETE, path, None).await
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let answer = self.send(method, path, body).await?;
        let status = answer.status();
        let bytes = answer.into_body().collect().await.map_err(|error| self.broken(&error))?.to_bytes();
        if !status.is_success() {
            return Err(Failure::Failed(refusal(status, &bytes)));
        }
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        let not_ours = |_| Failure::Failed(format!("{} answered something that is not JSON; is it a sluice node?", self.server));
        serde_json::from_slice(&bytes).map_err(not_ours)
    }

    /// The answer as it comes in, for streams.
    pub async fn open(&self, path: &str) -> Result<Incoming, Failure> {
        let answer = self.send(Method::GET, path, None).await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer.into_body());
        }
        let bytes = answer.into_body().collect().await.map_err(|error| self.broken(&error))?.to_bytes();
        Err(Failure::Failed(refusal(status, &bytes)))
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response<Incoming>, Failure> {
        let place = self.place()?;
        let stream = TcpStream::connect(&place.address).await.map_err(|error| self.no_answer(&error))?;
        let token = self.token(&stream)?;
        let mut sender = self.converse(stream, &place).await?;
        let mut request = Request::builder();
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let request = request
            .method(method)
            .uri(path)
            .header("Host", place.address)
            .header("Content-Type", "application/json")
            .body(Full::new(body.map(|body| Bytes::from(body.to_string())).unwrap_or_default()))
            .map_err(|error| Failure::Wrong(format!("`{path}` is no path: {error}")))?;
        match tokio::time::timeout(ANSWER_WITHIN, sender.send_request(request)).await {
            Ok(answer) => answer.map_err(|error| self.no_answer(&error)),
            Err(_) => Err(self.no_answer(&format!("nothing came within {} s", ANSWER_WITHIN.as_secs()))),
        }
    }

    /// The token to show over this connection.
    fn token(&self, stream: &TcpStream) -> Result<Option<String>, Failure> {
        let read = |path: &PathBuf| std::fs::read_to_string(path).map(|text| text.trim().to_owned());
        match &self.shown {
            Shown::Token(token) => Ok(Some(token.trim().to_owned())),
            Shown::File(path) => {
                let cannot = |error| Failure::Wrong(format!("--token-file {}: {error}", path.display()));
                read(path).map(Some).map_err(cannot)
            }
            Shown::Local(path) => Ok(read(path).ok().filter(|_| stays_here(stream))),
        }
    }

    async fn converse(&self, stream: TcpStream, place: &Place) -> Result<Sender, Failure> {
        let Some(host) = &place.secure else { return self.handshake(stream).await };
        let trust = tls::Trust { authorities: self.authorities.as_deref(), own: None, option: "--ca-file" };
        let stream = tls::connect(stream, host, trust).await;
        self.handshake(stream.map_err(|error| Failure::NoAnswer(format!("{}: {error}", self.server)))?).await
    }

    async fn handshake<Io>(&self, stream: Io) -> Result<Sender, Failure>
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| self.no_answer(&error))?;
        // Ends with the answer; the runtime ends with the verb.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn no_answer(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::NoAnswer(format!(
            "no answer from {}: {error}\n  is the node running there? `sluice dev` starts one; --server URL or SLUICE_SERVER names another",
            self.server
        ))
    }

    /// What the URL says.
    fn place(&self) -> Result<Place, Failure> {
        let wrong = |why: &str| Failure::Wrong(format!("--server {}: {why}; write http://HOST:PORT or https://HOST:PORT", self.server));
        let (secure, rest) = match self.server.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, self.server.strip_prefix("http://").unwrap_or(&self.server)),
        };
        let rest = rest.trim_end_matches('/');
        if rest.is_empty() || rest.contains('/') {
            return Err(wrong("is not the address of a node"));
        }
        let has_port = rest.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
        let address = if has_port { rest.to_owned() } else { format!("{rest}:9201") };
        let host = address.rsplit_once(':').map_or("", |(host, _)| host).trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Place { address, secure: secure.then_some(host) })
    }

    fn broken(&self, error: &hyper::Error) -> Failure {
        Failure::NoAnswer(format!("{} broke off its answer: {error}", self.server))
    }
}

/// Whether a connection leads to this very host: from one of its addresses to the same one, or over loopback.
fn stays_here(stream: &TcpStream) -> bool {
    let (Ok(own), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else { return false };
    own.ip() == peer.ip() || own.ip().is_loopback() && peer.ip().is_loopback()
}

/// What a node says when it refuses: its own words if it gives any.
fn refusal(status: hyper::StatusCode, body: &[u8]) -> String {
    let said: Option<Value> = serde_json::from_slice(body).ok();
    let word = |key: &str| said.as_ref().and_then(|said| said.get(key)).and_then(Value::as_str);
    // Alertmanager's API says a sentence alone, or a message and a code.
    let sentence = said.as_ref().and_then(Value::as_str).or(word("message"));
    match (word("error").or(sentence), word("remedy")) {
        (Some(error), Some(remedy)) => format!("{error}\n  {remedy}"),
        (Some(error), None) => error.to_owned(),
        _ => format!("the node answered {status}: {}", String::from_utf8_lossy(body).trim()),
    }
}

/// A name as one segment of a path: group names hold slashes.
pub fn segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_no_scheme_and_no_port() {
        let place = |server: &str| {
            let place = Client::new(server, None, Shown::Token(String::new())).place().map_err(|error| error.to_string());
            place.map(|place| (place.address, place.secure))
        };
        assert_eq!(place("http://10.0.0.1:9300/"), Ok(("10.0.0.1:9300".into(), None)));
        assert_eq!(place("db1"), Ok(("db1:9201".into(), None)));
        assert_eq!(place("https://db1"), Ok(("db1:9201".into(), Some("db1".into()))));
        assert_eq!(place("https://[::1]:77"), Ok(("[::1]:77".into(), Some("::1".into()))));
        assert!(place("http://db1/x").unwrap_err().contains("HOST:PORT"));
    }

    #[test]
    fn a_name_with_slashes_is_one_segment() {
        assert_eq!(segment("monitoring/k8s ü"), "monitoring%2Fk8s%20%C3%BC");
    }

    #[test]
    fn a_refusal_speaks_with_the_nodes_own_words() {
        let said = br#"{"error":"no group is called `x`","remedy":"`sluice group list` shows them"}"#;
        assert_eq!(refusal(hyper::StatusCode::NOT_FOUND, said), "no group is called `x`\n  `sluice group list` shows them");
        assert_eq!(refusal(hyper::StatusCode::NOT_FOUND, b"\"silence not found\""), "silence not found");
        assert_eq!(refusal(hyper::StatusCode::NOT_FOUND, br#"{"code":404,"message":"no"}"#), "no");
        assert_eq!(refusal(hyper::StatusCode::BAD_GATEWAY, b"proxy"), "the node answered 502 Bad Gateway: proxy");
    }
}

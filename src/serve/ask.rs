//! One request over a connection of its own, wholly within a deadline: what a Prometheus says of itself, a list of targets, alerts for a webhook.
//!
//! A new connection each time, because a kept one says nothing about a listener that is gone. Left out on purpose: redirects, passwords, and every other
//! thing that the blackbox modules can do.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::Request;
use hyper::Uri;
use hyper::client::conn::http1;
use hyper::header;
use hyper::http::request::Builder;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::config::remote_write::ClientTls;
use crate::serve::tls;

/// A request without what every one has, and its content.
type Asked = (Builder, Bytes);

/// Bytes of an answer that nobody reads but people.
const ANSWER: usize = 64 << 10;

/// Where somebody is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// As it was written.
    pub url: String,
    host: String,
    port: u16,
    authority: String,
    /// Before every path.
    prefix: String,
    /// Where nothing follows: path and query as they were written.
    whole: String,
    tls: Option<Secure>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Secure {
    name: String,
    authorities: Option<PathBuf>,
    own: Option<(PathBuf, PathBuf)>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Silence {
    /// The host says that nobody listens there.
    Refused,
    /// Nothing in time.
    Timeout,
    /// Anything else, in words.
    Broken(String),
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP's.
    pub status: u16,
    /// `X-Prometheus-Stopping`, where it is there.
    pub stopping: Option<bool>,
    /// The content.
    pub body: Bytes,
}

impl Place {
    /// `None`: it is no URL.
    pub fn new(url: &str, tls: &ClientTls) -> Option<Place> {
        let uri: Uri = url.parse().ok()?;
        let secure = uri.scheme_str() == Some("https");
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = tls.server_name.clone().unwrap_or_else(|| host.clone());
        Some(Place {
            url: url.to_owned(),
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            authority: uri.authority()?.as_str().to_owned(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            whole: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            tls: secure.then(|| Secure { name, authorities: tls.ca_file.clone(), own: tls.own.clone() }),
            host,
        })
    }
}

/// Posts to the place itself. Whatever happens, it is over within the time.
pub async fn post(place: &Place, headers: &[(String, String)], body: Bytes, within: Duration) -> Result<Answer, Silence> {
    let mut request = Request::post(place.whole.as_str());
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let exchanged = exchange(place, (request, body), ANSWER);
    tokio::time::timeout(within, exchanged).await.unwrap_or(Err(Silence::Timeout))
}

/// Asks for a path below the place (none: for the place itself), and takes at most so many bytes. Whatever happens, it is over within the time.
pub async fn get(place: &Place, path: &str, (within, most): (Duration, usize)) -> Result<Answer, Silence> {
    let path = if path.is_empty() { place.whole.clone() } else { format!("{}{path}", place.prefix) };
    let exchanged = exchange(place, (Request::get(path), Bytes::new()), most);
    tokio::time::timeout(within, exchanged).await.unwrap_or(Err(Silence::Timeout))
}

async fn exchange(place: &Place, asked: Asked, most: usize) -> Result<Answer, Silence> {
    let stream = TcpStream::connect((place.host.as_str(), place.port)).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => Silence::Refused,
        _ => Silence::Broken(error.to_string()),
    })?;
    match &place.tls {
        None => converse(stream, place, asked, most).await,
        Some(with) => {
            let own = with.own.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
            let trust = tls::Trust { authorities: with.authorities.as_deref(), own, option: "tls.ca_file" };
            let stream = tls::connect(stream, &with.name, trust).await.map_err(Silence::Broken)?;
            converse(stream, place, asked, most).await
        }
    }
}

async fn converse<Io>(stream: Io, place: &Place, (request, content): Asked, most: usize) -> Result<Answer, Silence>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| Silence::Broken(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let request = request
        .header(header::HOST, place.authority.as_str())
        .header(header::USER_AGENT, concat!("sluice/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Full::new(content))
        .map_err(|error| Silence::Broken(error.to_string()))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let stopping = response.headers().get("x-prometheus-stopping").map(|value| value.as_bytes() == b"true");
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), most).collect().await.map_err(|error| Silence::Broken(error.to_string()))?;
        Ok(Answer { status, stopping, body: body.to_bytes() })
    };
    // No task: the connection moves while its one exchange is waited for. It may end before the last of it was read.
    let (mut exchange, mut connection) = (std::pin::pin!(exchange), std::pin::pin!(connection));
    let mut open = true;
    loop {
        tokio::select! {
            answer = &mut exchange => return answer,
            _ = &mut connection, if open => open = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where() {
        let place = |url| Place::new(url, &ClientTls::default()).unwrap();
        let plain = place("http://[::1]:9090/prometheus/");
        assert_eq!((&*plain.host, plain.port, &*plain.prefix, plain.tls.is_some()), ("::1", 9090, "/prometheus", false));
        let secure = place("https://h.example");
        assert_eq!((&*secure.host, secure.port, &*secure.prefix, secure.tls.is_some()), ("h.example", 443, "", true));
        assert_eq!(Place::new("/nothing", &ClientTls::default()), None);
    }
}

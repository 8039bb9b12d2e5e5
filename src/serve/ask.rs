//! One request over a connection of its own, wholly within a deadline: what a Prometheus says of itself, a list of targets, alerts for a receiver, a token.
//!
//! A new connection each time, because a kept one says nothing about a listener that is gone, and such questions are rare. Left out on purpose: retries
//! (whoever asks comes again), redirects (a password must not follow them), and every other thing that the blackbox modules can do.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::HeaderMap;
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
pub type Asked = (Builder, Bytes);

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

/// How to get there, for whoever has a place of another kind.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// Name or address.
    pub host: &'a str,
    /// Port.
    pub port: u16,
    /// HTTP's `Host`.
    pub authority: &'a str,
    /// With TLS: the name that its certificate must have, and whom to trust.
    pub tls: Option<(&'a str, tls::Trust<'a>)>,
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
    /// The same.
    pub headers: HeaderMap,
    /// The content.
    pub body: Bytes,
}

impl Answer {
    /// Status and content as one line for people, not too long.
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(1024)]).into_owned();
        format!("{} {}", self.status, text.split_whitespace().collect::<Vec<_>>().join(" ")).trim_end().to_owned()
    }
}

impl fmt::Display for Silence {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Silence::Refused => to.write_str("nobody listens there"),
            Silence::Timeout => to.write_str("no answer in time"),
            Silence::Broken(why) => to.write_str(why),
        }
    }
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

    /// Connects, and says nothing.
    pub async fn connect(&self) -> io::Result<TcpStream> {
        TcpStream::connect((&*self.host, self.port)).await
    }

    fn way(&self) -> Way<'_> {
        let tls = self.tls.as_ref().map(|with| {
            let own = with.own.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
            (&*with.name, tls::Trust { authorities: with.authorities.as_deref(), own, option: "tls.ca_file" })
        });
        Way { host: &self.host, port: self.port, authority: &self.authority, tls }
    }
}

/// Posts to the place itself. Whatever happens, it is over within the time.
pub async fn post(place: &Place, headers: &[(String, String)], body: Bytes, within: Duration) -> Result<Answer, Silence> {
    let mut request = Request::post(place.whole.as_str());
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let exchanged = exchange(place.way(), (request, body), ANSWER);
    tokio::time::timeout(within, exchanged).await.unwrap_or(Err(Silence::Timeout))
}

/// Asks for a path below the place (none: for the place itself), and takes at most so many bytes. Whatever happens, it is over within the time.
pub async fn get(place: &Place, path: &str, (within, most): (Duration, usize)) -> Result<Answer, Silence> {
    let path = if path.is_empty() { place.whole.clone() } else { format!("{}{path}", place.prefix) };
    let exchanged = exchange(place.way(), (Request::get(path), Bytes::new()), most);
    tokio::time::timeout(within, exchanged).await.unwrap_or(Err(Silence::Timeout))
}

/// Asks, and takes at most so many bytes of an answer. How long it may take is the caller's.
pub async fn exchange(way: Way<'_>, asked: Asked, most: usize) -> Result<Answer, Silence> {
    let stream = TcpStream::connect((way.host, way.port)).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => Silence::Refused,
        _ => Silence::Broken(error.to_string()),
    })?;
    match way.tls {
        None => dress_and_converse(stream, way.authority, asked, most).await,
        Some((name, trust)) => {
            let stream = tls::connect(stream, name, trust).await.map_err(Silence::Broken)?;
            dress_and_converse(stream, way.authority, asked, most).await
        }
    }
}

async fn dress_and_converse<Io>(stream: Io, authority: &str, (request, content): Asked, most: usize) -> Result<Answer, Silence>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = request
        .header(header::HOST, authority)
        .header(header::USER_AGENT, concat!("sluice/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Full::new(content))
        .map_err(|error| Silence::Broken(error.to_string()))?;
    converse(stream, request, most).await
}

/// Sends a request as it is over a connection that is there, and takes at most so many bytes of the answer. How long it may take is the caller's.
pub async fn converse<Io>(stream: Io, request: Request<Full<Bytes>>, most: usize) -> Result<Answer, Silence>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| Silence::Broken(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, most).collect().await.map_err(|error| Silence::Broken(error.to_string()))?;
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes() })
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

/// Retry-After: seconds, or a date of HTTP (`Sun, 06 Nov 1994 08:49:37 GMT`) compared with `now_ms`.
pub fn retry_after(text: &str, now_ms: i64) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(now_ms).ok()?);
    httpdate::parse_http_date(text).ok()?.duration_since(now).ok()
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

//! One request over one connection, each part of it a phase: name, connection, TLS, answer, body. Connections are not kept, as a probe is to see
//! all of it; and no task is started for one: whoever waits for the answer drives the connection (for HTTP/2 with `beside`).

use std::future::Future;
use std::future::poll_fn;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::HeaderMap;
use hyper::Method;
use hyper::Version;
use hyper::body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::client::conn::http2;
use hyper::header;
use hyper::header::HeaderValue;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use crate::config::probe::Family;
use crate::probe::connect;
use crate::probe::connect::CloseOnly;
use crate::probe::connect::Io;
use crate::probe::guard::Guard;
use crate::probe::http::beside::Beside;
use crate::probe::http::proxy::Way as ProxyWay;
use crate::probe::http::url::Url;
use crate::probe::http::url::with_port;
use crate::probe::outcome::Cause;
use crate::probe::record::Record;
use crate::probe::record::Stop;
use crate::probe::record::Way;
use crate::probe::resolve;
use crate::probe::tls::Tls;

/// The answer to CONNECT is no longer.
const CONNECT_HEAD: usize = 16 << 10;

/// A request without its place.
pub struct Request {
    /// GET and so on.
    pub method: Method,
    /// `Host`.
    pub host: String,
    /// Beside `Host`.
    pub headers: HeaderMap,
    /// The content.
    pub body: Bytes,
}

/// Where it goes, and how.
pub struct Hop<'a> {
    /// There.
    pub url: &'a Url,
    /// For https.
    pub tls: Option<&'a Tls>,
    /// The name that the certificate must have, unless the module says another.
    pub name: &'a str,
    /// Which address.
    pub family: Family,
    /// Where it must not lead.
    pub guard: Option<&'a Guard>,
    /// By way of whom.
    pub proxy: Option<&'a ProxyWay>,
    /// The name is resolved here, even if a proxy is asked.
    pub resolves: bool,
    /// HTTP/2 may be spoken.
    pub http2: bool,
}

/// The head of an answer.
pub struct Answer<'a> {
    /// 200 and so on.
    pub status: u16,
    /// HTTP's.
    pub version: Version,
    /// All of them.
    pub headers: &'a HeaderMap,
    /// Bytes on the way; -1: not said.
    pub length: i64,
}

/// Who takes an answer.
pub trait Ends {
    /// Its head has come. False: nobody wants the body.
    fn head(&mut self, answer: &Answer<'_>, record: &mut Record) -> Way<bool>;
    /// A piece of its body.
    fn piece(&mut self, bytes: &[u8]) -> Way<()>;
}

impl Hop<'_> {
    /// Asks, and hands over what is answered.
    pub async fn go(&self, request: Request, ends: &mut (impl Ends + Send), record: &mut Record) -> Way<()> {
        let resolved = if self.resolves { Some(resolve::resolve(&self.url.host, self.family, self.guard, record).await?) } else { None };
        let wire = match self.proxy {
            None => {
                let address = resolved.ok_or_else(|| Stop::new(Cause::Other, "nothing was resolved"))?;
                connect::tcp(SocketAddr::new(address, self.url.port()), None, record).await?
            }
            Some(proxy) => self.by(proxy, resolved, record).await?,
        };
        match self.tls.filter(|_| self.url.tls) {
            None => {
                // By its name: a proxy asks whomever this names, and overwrites `Host` with it (RFC 9112, 3.2.2).
                let absolute = self.proxy.map(|_| self.url.authority());
                self.ask(request, CloseOnly(wire), (false, absolute), ends, record).await
            }
            Some(tls) => {
                let secured = tls.shake(self.name, wire, record).await?;
                let http2 = secured.get_ref().1.alpn_protocol() == Some(b"h2");
                Box::pin(self.ask(request, secured, (http2, None), ends, record)).await
            }
        }
    }

    async fn by(&self, proxy: &ProxyWay, resolved: Option<IpAddr>, record: &mut Record) -> Way<tokio::net::TcpStream> {
        let mut aside = Record::new(std::time::Duration::ZERO, false);
        record.begin("connect", || format!("proxy {}", proxy.url.authority()));
        // The operator named the proxy: it is nobody's target.
        let address = resolve::resolve(&proxy.url.host, self.family, None, &mut aside).await?;
        let mut wire = connect::tcp(SocketAddr::new(address, proxy.url.port()), None, &mut aside).await?;
        if self.url.tls {
            let place = with_port(&resolved.map_or_else(|| self.url.host.clone(), |address| address.to_string()), Some(self.url.port()));
            tunnel(&mut wire, &place, proxy).await?;
        }
        record.end();
        Ok(wire)
    }

    async fn ask(
        &self,
        request: Request,
        wire: impl Io + 'static,
        (http2, absolute): (bool, Option<String>),
        ends: &mut (impl Ends + Send),
        record: &mut Record,
    ) -> Way<()> {
        record.begin("processing", || format!("{} {}", request.method, self.url));
        let head = request.method == Method::HEAD;
        let place = match (http2, absolute) {
            (true, _) => format!("{}://{}{}", self.url.scheme(), request.host, self.url.path),
            (false, Some(place)) => format!("http://{place}{}", self.url.path),
            (false, None) => self.url.path.clone(),
        };
        let mut built =
            hyper::Request::builder().method(request.method).uri(place).version(if http2 { Version::HTTP_2 } else { Version::HTTP_11 });
        if let Some(headers) = built.headers_mut() {
            *headers = request.headers;
            if !http2 {
                let host =
                    HeaderValue::from_str(&request.host).map_err(|_| Stop::new(Cause::Target, "the host cannot stand in a header"))?;
                headers.insert(header::HOST, host);
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
        }
        let built = built.body(Full::new(request.body)).map_err(|error| Stop::new(Cause::Target, format!("{}: {error}", self.url)))?;
        let io = TokioIo::new(wire);
        if http2 {
            let beside = Beside::default();
            let (mut sender, connection) = http2::handshake(beside.hand(), io).await.map_err(|error| of_hyper(&error))?;
            Box::pin(drive(beside.of(connection), take(sender.send_request(built), head, ends, record))).await
        } else {
            let shaken = http1::Builder::new().max_headers(512).handshake(io).await;
            let (mut sender, connection) = shaken.map_err(|error| of_hyper(&error))?;
            drive(connection, take(sender.send_request(built), head, ends, record)).await
        }
    }
}

/// Does `work`, and what the connection must do meanwhile.
pub async fn drive<T>(connection: impl Future, work: impl Future<Output = T>) -> T {
    let (mut connection, mut work) = (pin!(connection), pin!(work));
    let mut over = false;
    poll_fn(move |context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(done);
        }
        if !over && connection.as_mut().poll(context).is_ready() {
            over = true;
        }
        work.as_mut().poll(context)
    })
    .await
}

async fn take(
    answer: impl Future<Output = hyper::Result<hyper::Response<Incoming>>>,
    head: bool,
    ends: &mut (impl Ends + Send),
    record: &mut Record,
) -> Way<()> {
    let response = answer.await.map_err(|error| of_hyper(&error))?;
    record.end();
    let (parts, mut body) = response.into_parts();
    let answer =
        Answer { status: parts.status.as_u16(), version: parts.version, headers: &parts.headers, length: length(&parts, &body, head) };
    record.note(|| format!("answers {} ({:?})", answer.status, answer.version));
    if !ends.head(&answer, record)? {
        return Ok(());
    }
    record.begin("transfer", String::new);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| of_hyper(&error))?;
        if let Some(bytes) = frame.data_ref() {
            ends.piece(bytes)?;
        }
    }
    record.end();
    Ok(())
}

/// What Go calls ContentLength.
fn length(parts: &hyper::http::response::Parts, body: &Incoming, head: bool) -> i64 {
    let said = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    match parts.status.as_u16() {
        204 | 304 if !head => 0,
        _ if head => said.unwrap_or(-1),
        _ if parts.headers.contains_key(header::TRANSFER_ENCODING) => -1,
        _ => said.or_else(|| body.size_hint().exact().and_then(|exact| i64::try_from(exact).ok())).unwrap_or(-1),
    }
}

/// Why an exchange failed.
pub fn of_hyper(error: &hyper::Error) -> Stop {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut text = error.to_string();
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            let stop = connect::of_io(io, "the connection");
            let cause = if stop.cause == Cause::Other { Cause::Closed } else { stop.cause };
            return Stop::new(cause, stop.text);
        }
        text = inner.to_string();
        source = inner.source();
    }
    if error.is_parse() || error.is_parse_too_large() {
        return Stop::new(Cause::Protocol, format!("what came is no answer of HTTP: {text}"));
    }
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return Stop::new(Cause::Closed, "the connection was ended before the answer was");
    }
    Stop::new(Cause::Protocol, text)
}

/// Asks a proxy for a connection to a place.
async fn tunnel(wire: &mut (impl Io + ?Sized), place: &str, proxy: &ProxyWay) -> Way<()> {
    let mut text = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n");
    for (name, value) in &proxy.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let wrong = |error: std::io::Error| connect::of_io(&error, "the proxy");
    wire.write_all(text.as_bytes()).await.map_err(wrong)?;
    let mut head = Vec::new();
    // Byte by byte: what follows the head belongs to the target.
    while !head.ends_with(b"\r\n\r\n") {
        let byte = wire.read_u8().await.map_err(wrong)?;
        head.push(byte);
        if head.len() > CONNECT_HEAD {
            return Err(Stop::new(Cause::Protocol, "the proxy's answer has no end"));
        }
    }
    let line = String::from_utf8_lossy(&head);
    let line = line.lines().next().unwrap_or_default();
    match line.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(Stop::new(Cause::Refused, format!("the proxy does not connect: {line}"))),
    }
}

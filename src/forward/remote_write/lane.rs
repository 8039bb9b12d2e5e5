//! One connection to a store, over which one request goes after the other: HTTP/1.1, as Prometheus itself sends since 3.0.
//!
//! A connection that was idle may be gone without our knowing, so a request that finds it closed is sent at once over a new one. Left out on
//! purpose: any other retry, and what an answer means (`policy`).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::HeaderMap;
use hyper::Request;
use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::client::conn::http1::SendRequest;
use hyper::header;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::clock;
use crate::forward::remote_write::policy;
use crate::forward::remote_write::policy::Answer;
use crate::forward::remote_write::settings::SLOT;
use crate::forward::remote_write::settings::StoreSettings;
use crate::forward::remote_write::trouble::StoreTrouble;
use crate::serve::tls;
use crate::wire::pack::Packing;
use crate::wire::remote_write::Protocol;

/// To reach a host: what is not there after this is down.
const CONNECT: Duration = Duration::from_secs(10);
/// Of a store's words so many bytes are kept, as Prometheus does.
const TEXT_MAX: usize = 1024;
/// Beyond this an answer is not read on: its connection is given up.
const BODY_MAX: usize = 64 << 10;

/// How rustls begins to tell what the other side has against us.
const ALERT: &str = "received fatal alert";

const VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");
const ZSTD_VERSION: HeaderName = HeaderName::from_static("x-victoriametrics-remote-write-version");
const TENANT: HeaderName = HeaderName::from_static("x-scope-orgid");
const ATTEMPT: HeaderName = HeaderName::from_static("retry-attempt");
const WRITTEN: [&str; 2] = ["x-prometheus-remote-write-samples-written", "x-prometheus-remote-write-histograms-written"];

/// A connection, or none yet.
#[derive(Default)]
pub struct Lane {
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// What is the same in every request of a sink.
pub struct Head {
    headers: HeaderMap,
}

/// A packed request.
pub struct Parcel {
    /// The body.
    pub body: Bytes,
    /// How it is packed.
    pub packing: Packing,
    /// How often it was sent before.
    pub attempt: u32,
    /// Whose samples it holds, as the store is told; empty: it is not.
    pub tenant: Arc<str>,
}

impl Head {
    /// With these credentials.
    pub fn new(settings: &StoreSettings, login: Option<HeaderValue>) -> Head {
        let mut headers = HeaderMap::new();
        if let Ok(host) = HeaderValue::from_str(&settings.place.authority) {
            headers.insert(header::HOST, host);
        }
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("sluice/", env!("CARGO_PKG_VERSION"))));
        let (kind, version) = match settings.protocol {
            Protocol::V1 => ("application/x-protobuf", "0.1.0"),
            Protocol::V2 => ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"),
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(VERSION, HeaderValue::from_static(version));
        for (name, value) in &settings.headers {
            headers.append(name, value.clone());
        }
        if let Some(login) = login {
            headers.insert(header::AUTHORIZATION, login);
        }
        Head { headers }
    }

    fn request(&self, settings: &StoreSettings, parcel: &Parcel) -> Result<Request<Full<Bytes>>, String> {
        let path = settings.place.path.as_str();
        let path = if settings.tenants.url { Cow::from(path.replace(SLOT, &parcel.tenant)) } else { path.into() };
        let mut request = Request::post(&*path).body(Full::new(parcel.body.clone())).map_err(|error| error.to_string())?;
        let headers = request.headers_mut();
        *headers = self.headers.clone();
        if settings.tenants.header && !parcel.tenant.is_empty() {
            headers.insert(TENANT, HeaderValue::from_str(&parcel.tenant).map_err(|error| error.to_string())?);
        }
        let encoding = match parcel.packing {
            Packing::Snappy => "snappy",
            Packing::Zstd => {
                headers.insert(ZSTD_VERSION, HeaderValue::from_static("1"));
                "zstd"
            }
        };
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        if parcel.attempt > 0 {
            headers.insert(ATTEMPT, HeaderValue::from(parcel.attempt));
        }
        Ok(request)
    }
}

impl Lane {
    /// Sends a request and takes the answer. Whoever drops this before it ends drops the connection, too.
    pub async fn post(&mut self, settings: &StoreSettings, head: &Head, parcel: &Parcel) -> Result<Answer, StoreTrouble> {
        let lost = |detail: String| {
            let url = settings.url.clone();
            // A store that wants a certificate says so after the handshake, by an alert.
            if detail.contains(ALERT) { StoreTrouble::NotTrusted { url, detail } } else { StoreTrouble::Unreachable { url, detail } }
        };
        let mut kept = self.sender.take().filter(|sender| !sender.is_closed());
        loop {
            let reused = kept.is_some();
            let mut sender = match kept.take() {
                Some(sender) => sender,
                None => connect(settings).await?,
            };
            let request = head.request(settings, parcel).map_err(lost)?;
            let answered = match sender.ready().await {
                Ok(()) => sender.send_request(request).await,
                Err(error) => Err(error),
            };
            match answered {
                Ok(response) => {
                    let (answer, whole) = take(response).await.map_err(|error| lost(in_words(&error)))?;
                    self.sender = Some(sender).filter(|_| whole);
                    return Ok(answer);
                }
                // It was idle, and the store had closed it.
                Err(error) if reused && !error.is_timeout() => {}
                Err(error) => return Err(lost(in_words(&error))),
            }
        }
    }
}

/// A new connection.
async fn connect(settings: &StoreSettings) -> Result<SendRequest<Full<Bytes>>, StoreTrouble> {
    let place = &settings.place;
    let lost = |detail: String| StoreTrouble::Unreachable { url: settings.url.clone(), detail };
    let reached = tokio::time::timeout(CONNECT, TcpStream::connect((place.host.as_str(), place.port))).await;
    let stream = match reached {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(lost(error.to_string())),
        Err(_) => return Err(lost(format!("nobody took the connection within {} s", CONNECT.as_secs()))),
    };
    stream.set_nodelay(true).map_err(|error| lost(error.to_string()))?;
    match &place.tls {
        None => handshake(stream).await.map_err(|error| lost(in_words(&error))),
        Some(with) => {
            let own = with.own.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
            let trust = tls::Trust { authorities: with.authorities.as_deref(), own, option: "tls.ca_file" };
            let untrusted = |detail| StoreTrouble::NotTrusted { url: settings.url.clone(), detail };
            let stream = tls::connect(stream, &with.name, trust).await.map_err(untrusted)?;
            handshake(stream).await.map_err(|error| lost(in_words(&error)))
        }
    }
}

async fn handshake<Io>(stream: Io) -> Result<SendRequest<Full<Bytes>>, hyper::Error>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with its sender.
    tokio::spawn(connection);
    Ok(sender)
}

/// Status, headers and the first words; whether the connection can be used again.
async fn take(response: Response<Incoming>) -> Result<(Answer, bool), hyper::Error> {
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let count = |name: &&str| header(name).and_then(|text| text.trim().parse::<u64>().ok());
    let counts: Vec<u64> = WRITTEN.iter().filter_map(count).collect();
    let mut answer = Answer {
        status: response.status().as_u16(),
        retry_after: header("retry-after").and_then(|text| policy::retry_after(text, clock::wall_ms())),
        written: (!counts.is_empty()).then(|| counts.iter().fold(0, |sum: u64, count| sum.saturating_add(*count))),
        text: String::new(),
    };
    let mut body = response.into_body();
    let (mut kept, mut read) = (Vec::new(), 0);
    let whole = loop {
        let Some(frame) = body.frame().await.transpose()? else { break true };
        let Ok(data) = frame.into_data() else { continue };
        read += data.len();
        kept.extend_from_slice(&data[..data.len().min(TEXT_MAX - kept.len())]);
        if read > BODY_MAX {
            break false;
        }
    };
    let text = String::from_utf8_lossy(&kept);
    // One line: it stands in lists and logs.
    answer.text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok((answer, whole))
}

/// hyper says what happened, and its source why.
fn in_words(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

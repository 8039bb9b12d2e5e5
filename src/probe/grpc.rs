//! `prober: grpc`: gRPC's health service (grpc.health.v1.Health/Check) over HTTP/2, its two messages written and read by hand.
//!
//! The address that the module prefers is the one that is asked, and the deadline holds for all of it.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::HeaderMap;
use hyper::Method;
use hyper::Version;
use hyper::client::conn::http2;
use hyper::header;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use hyper_util::rt::TokioIo;

use crate::config::probe;
use crate::probe::connect;
use crate::probe::connect::Wire;
use crate::probe::http::beside::Beside;
use crate::probe::http::hop::drive;
use crate::probe::http::hop::of_hyper;
use crate::probe::http::url::Url;
use crate::probe::http::url::decoded;
use crate::probe::http::url::with_port;
use crate::probe::outcome::Cause;
use crate::probe::outcome::Metric;
use crate::probe::record::Record;
use crate::probe::record::Stop;
use crate::probe::record::Way;
use crate::probe::resolve;
use crate::probe::run::Ask;
use crate::probe::tls;
use crate::probe::tls::Tls;

/// What a service may say of itself, by its number.
const STATES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
/// Its answer is two bytes.
const ANSWER: usize = 4096;
/// Codes of gRPC for what never came to an answer.
const DEADLINE_EXCEEDED: u16 = 4;
const INTERNAL: u16 = 13;
const UNAVAILABLE: u16 = 14;

/// `prober: grpc`
#[derive(Debug)]
pub struct Grpc {
    settings: probe::Grpc,
    tls: Tls,
    headers: HeaderMap,
}

/// What came of it, however far it came.
#[derive(Debug, Default)]
pub struct Told {
    code: Option<u16>,
    state: Option<usize>,
}

impl Grpc {
    /// Of what the module says.
    pub fn new(settings: &probe::Grpc) -> Grpc {
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.metadata {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes())) {
                headers.append(name, value);
            }
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(concat!("sluice/", env!("CARGO_PKG_VERSION"))));
        Grpc { settings: settings.clone(), tls: Tls::new(&settings.tls_config, &[b"h2"]), headers }
    }

    /// Probes.
    pub async fn run(&self, ask: &Ask<'_>, told: &mut Told, record: &mut Record) -> Way<()> {
        let settings = &self.settings;
        let url = Url::of_target(ask.target).map_err(|text| Stop::new(Cause::Target, text))?;
        let port = url.port.unwrap_or(if settings.tls { 443 } else { 80 });
        let address = resolve::resolve(&url.host, settings.family, ask.guard, record).await?;
        let name = ask.hostname.unwrap_or(&url.host);
        let stream = connect::tcp(SocketAddr::new(address, port), None, record).await?;
        let wire: Wire = if settings.tls { Box::new(self.tls.shake(name, stream, record).await?) } else { Box::new(stream) };
        record.begin("check", || settings.service.clone());
        let scheme = if settings.tls { "https" } else { "http" };
        let request = hyper::Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(format!("{scheme}://{}/grpc.health.v1.Health/Check", with_port(name, Some(port))));
        let mut request = request.body(Full::new(asked(&settings.service))).map_err(|error| Stop::new(Cause::Target, error.to_string()))?;
        *request.headers_mut() = self.headers.clone();
        let beside = Beside::default();
        let (mut sender, connection) = http2::handshake(beside.hand(), TokioIo::new(wire)).await.map_err(|error| of_hyper(&error))?;
        drive(beside.of(connection), self.exchange(sender.send_request(request), told, record)).await
    }

    async fn exchange(
        &self,
        answer: impl Future<Output = hyper::Result<hyper::Response<hyper::body::Incoming>>>,
        told: &mut Told,
        record: &mut Record,
    ) -> Way<()> {
        let (head, mut body) = answer.await.map_err(|error| of_hyper(&error))?.into_parts();
        let (mut content, mut code, mut message) = (Vec::new(), code(&head.headers), message(&head.headers));
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| of_hyper(&error))?;
            if let Some(bytes) = frame.data_ref() {
                content.extend_from_slice(bytes);
            }
            if let Some(trailers) = frame.trailers_ref() {
                code = self::code(trailers).or(code);
                message = self::message(trailers).or(message);
            }
            if content.len() > ANSWER {
                return Err(Stop::new(Cause::Size, "no answer of the health service is so long"));
            }
        }
        record.end();
        if head.status != 200 && code.is_none() {
            told.code = Some(of_http(head.status.as_u16()));
            return Err(Stop::new(Cause::Protocol, format!("the answer is {} of HTTP, and not gRPC's", head.status)));
        }
        match code {
            Some(0) => {}
            Some(code) => {
                told.code = Some(code);
                return Err(Stop::new(Cause::Status, format!("the answer's code is {code} {}", message.unwrap_or_default()).trim_end()));
            }
            None => {
                told.code = Some(INTERNAL);
                return Err(Stop::new(Cause::Protocol, "the answer has no code"));
            }
        }
        let Some(state) = state(&content) else {
            told.code = Some(INTERNAL);
            return Err(Stop::new(Cause::Protocol, "the answer is none of the health service"));
        };
        (told.code, told.state) = (Some(0), Some(state));
        let word = STATES.get(state).copied().unwrap_or("a state that nobody knows");
        if word == "SERVING" { Ok(()) } else { Err(Stop::new(Cause::NotServing, format!("it says {word}"))) }
    }
}

/// HealthCheckRequest { service = 1 } behind the head of a message.
fn asked(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        message.push(u8::try_from(length).unwrap_or(0));
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

/// HealthCheckResponse { status = 1 }; an empty message says UNKNOWN.
fn state(content: &[u8]) -> Option<usize> {
    let (head, message) = content.split_at_checked(5)?;
    if head[0] != 0 || usize::try_from(u32::from_be_bytes([head[1], head[2], head[3], head[4]])).ok()? != message.len() {
        return None;
    }
    match message {
        [] => Some(0),
        [0x08, state] if *state < 0x80 => Some(usize::from(*state)),
        _ => None,
    }
}

/// Where there is no code of gRPC, by its table for codes of HTTP (doc/http-grpc-status-mapping.md).
fn of_http(status: u16) -> u16 {
    match status {
        400 => INTERNAL,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => UNAVAILABLE,
        _ => 2,
    }
}

/// Whatever the server says of it, percent-encoded.
fn message(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("grpc-message")?;
    Some(decoded(&String::from_utf8_lossy(text.as_bytes())))
}

fn code(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Metrics.
pub fn tell(grpc: &Grpc, told: &Told, record: &mut Record, (strict, failed, late): (bool, bool, bool)) {
    resolve::tell(record);
    let (name, help) = ("probe_grpc_duration_seconds", "Duration of gRPC request by phase");
    let check = record.took("connect") + record.took("tls") + record.took("check");
    for (phase, took) in [("resolve", record.took("resolve")), ("check", check)] {
        record.metrics.push(Metric::with(name, help, ("phase", phase.into()), took.as_secs_f64()));
    }
    for (number, state) in STATES.into_iter().enumerate() {
        let (name, help) = ("probe_grpc_healthcheck_response", "Response HealthCheck response");
        let value = f64::from(u8::from(told.state == Some(number)));
        record.metrics.push(Metric::with(name, help, ("serving_status", state.into()), value));
    }
    let spoken = grpc.settings.tls && told.code.is_some();
    record.set("probe_grpc_ssl", "Indicates if SSL was used for the connection", f64::from(u8::from(spoken)));
    let code = match told.code {
        Some(code) => code,
        None if !record.has("resolve") => 0,
        None if late => DEADLINE_EXCEEDED,
        None => UNAVAILABLE,
    };
    record.set("probe_grpc_status_code", "Response gRPC status code", f64::from(code));
    tls::tell(record, tls::Told::Few, strict, failed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_the_health_service() {
        assert_eq!(&asked("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&asked("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(&asked(&"x".repeat(200))[5..8], [0x0a, 0xc8, 1]);
        assert_eq!((state(&[0, 0, 0, 0, 0]), state(&[0, 0, 0, 0, 2, 8, 2])), (Some(0), Some(2)));
        for wrong in [&[][..], &[0, 0, 0, 0, 1], &[1, 0, 0, 0, 0], &[0, 0, 0, 0, 2, 16, 2]] {
            assert_eq!(state(wrong), None);
        }
    }
}

//! `sluice bench load`: replicas of one Prometheus pair that write in real time, like real ones, and measure the answers.
//!
//! Every series has one sample an interval; each connection sends its share in order and one request at a time, as Prometheus' shards do.
//! A 503 is retried after its Retry-After. What the tool leaves out: it judges nothing and reads nothing back (`tests/e2e` does).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::template::Template;
use crate::wire::pack;
use crate::wire::remote_write::Protocol;

/// Samples of one request: Prometheus' `max_samples_per_send`.
const SAMPLES_PER_REQUEST: usize = 2000;
/// Longest time waited for one answer: Prometheus' `remote_timeout`.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What is to be sent.
#[derive(Clone, Debug)]
pub struct Load {
    /// `host:port` of the node.
    pub server: String,
    /// Replicas of the pair; each sends every series.
    pub replicas: usize,
    /// Series per group.
    pub series: usize,
    /// Groups, each with its own pair.
    pub groups: usize,
    /// Time between two samples of one series.
    pub interval: Duration,
    /// How long to send.
    pub duration: Duration,
    /// Remote Write 1.0 or 2.0.
    pub protocol: Protocol,
    /// Connections of each replica.
    pub connections: usize,
    /// Wall clock at the start, milliseconds since 1970.
    pub start_ms: i64,
}

/// What came of it. Times in milliseconds, from the first byte of a request to its whole answer, of answered requests.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Samples in requests answered 2xx.
    pub samples: u64,
    /// Requests answered 2xx.
    pub requests: u64,
    /// Bytes of bodies sent, as on the wire.
    pub packed_bytes: u64,
    /// Answers 503, retried.
    pub retried: u64,
    /// Answers that a sender would take as final refusal, and broken connections.
    pub failed: u64,
    /// Wall seconds from the first request to the last answer.
    pub seconds: f64,
    /// Acknowledged samples a second.
    pub samples_per_second: f64,
    /// The farthest that a request went out behind its schedule.
    pub behind_ms: f64,
    /// Median time of an answer.
    pub p50_ms: f64,
    /// 90 of 100.
    pub p90_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
    /// CPU (user + system) of the server while it ran, by its own `process_cpu_seconds_total`; none if it has no such metric.
    pub server_cpu_seconds: Option<f64>,
    /// The same divided by samples, microseconds.
    pub server_cpu_us_per_sample: Option<f64>,
    /// Resident memory of the server at the end, bytes.
    pub server_resident_bytes: Option<f64>,
}

/// Why a load could not be run at all.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Nobody listens there.
    #[error("cannot connect to {server}: {source}; is sluice running there? `sluice dev` starts one, `--server` names another")]
    Connect {
        /// As given.
        server: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A connection broke off or answered no HTTP.
    #[error("{0} broke the connection: {1}")]
    Http(String, hyper::Error),
}

/// What one connection saw.
struct Seen {
    samples: u64,
    requests: u64,
    packed_bytes: u64,
    retried: u64,
    failed: u64,
    behind: Duration,
    answers_us: Histogram<u64>,
}

/// Sends the load and waits for the last answer.
pub async fn run(load: Load) -> Result<Report, LoadError> {
    let before = process_figures(&load.server).await;
    let start = Instant::now();
    let load = Arc::new(load);
    let mut connections = JoinSet::new();
    for group in 0..load.groups {
        for replica in 0..load.replicas {
            for connection in 0..load.connections {
                connections.spawn(one_connection(load.clone(), start, [group, replica, connection]));
            }
        }
    }
    let mut all = Seen::new();
    while let Some(joined) = connections.join_next().await {
        if let Ok(seen) = joined {
            all.add(&seen?);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let after = process_figures(&load.server).await;
    Ok(all.report(seconds, before, after))
}

impl Seen {
    fn new() -> Seen {
        let answers_us =
            Histogram::new_with_max(120_000_000, 3).unwrap_or_else(|_| unreachable!("120 s with 3 digits is a valid histogram"));
        Seen { samples: 0, requests: 0, packed_bytes: 0, retried: 0, failed: 0, behind: Duration::ZERO, answers_us }
    }

    fn add(&mut self, other: &Seen) {
        self.samples += other.samples;
        self.requests += other.requests;
        self.packed_bytes += other.packed_bytes;
        self.retried += other.retried;
        self.failed += other.failed;
        self.behind = self.behind.max(other.behind);
        // Both have the same bounds, so nothing can be out of range.
        let _ = self.answers_us.add(&other.answers_us);
    }

    fn report(&self, seconds: f64, before: Option<Figures>, after: Option<Figures>) -> Report {
        let quantile = |q: f64| self.answers_us.value_at_quantile(q) as f64 / 1000.0;
        let cpu = before.zip(after).map(|(before, after)| after.cpu_seconds - before.cpu_seconds);
        Report {
            samples: self.samples,
            requests: self.requests,
            packed_bytes: self.packed_bytes,
            retried: self.retried,
            failed: self.failed,
            seconds,
            samples_per_second: self.samples as f64 / seconds,
            behind_ms: self.behind.as_secs_f64() * 1000.0,
            p50_ms: quantile(0.5),
            p90_ms: quantile(0.9),
            p99_ms: quantile(0.99),
            max_ms: self.answers_us.max() as f64 / 1000.0,
            server_cpu_seconds: cpu,
            server_cpu_us_per_sample: cpu.map(|seconds| seconds * 1e6 / self.samples.max(1) as f64),
            server_resident_bytes: after.map(|figures| figures.resident_bytes),
        }
    }
}

/// Sends every request whose number belongs to this connection, each at its moment of the interval, until the time is up.
async fn one_connection(load: Arc<Load>, start: Instant, [group, replica, connection]: [usize; 3]) -> Result<Seen, LoadError> {
    let mut seen = Seen::new();
    let group_name = format!("bench/group-{group}");
    let replica_name = format!("prometheus-{group}-{replica}");
    let requests = load.series.div_ceil(SAMPLES_PER_REQUEST);
    let mut templates = Vec::new();
    for number in (connection..requests).step_by(load.connections) {
        let first = number * SAMPLES_PER_REQUEST;
        let count = SAMPLES_PER_REQUEST.min(load.series - first);
        templates.push((number, Template::new(load.protocol, &group_name, &replica_name, first, count)));
    }
    let mut sender = connect(&load.server).await?;
    // Replicas never scrape at the same moment; a third of an interval apart is as good as any distance.
    let offset = load.interval * replica as u32 / 3;
    for round in 0.. {
        for (number, template) in &mut templates {
            let due = load.interval * round + offset + load.interval * *number as u32 / requests as u32;
            if due > load.duration {
                return Ok(seen);
            }
            tokio::time::sleep_until(start + due).await;
            let samples = template.samples() as u64;
            let raw = template.at(load.start_ms + due.as_millis() as i64);
            let mut packed = Vec::new();
            pack::pack_snappy(raw, &mut packed);
            seen.behind = seen.behind.max((start + due).elapsed());
            deliver(&load, &mut sender, Bytes::from(packed), samples, &mut seen).await?;
        }
        if templates.is_empty() {
            break;
        }
    }
    Ok(seen)
}

/// Sends one request until it is answered for good, as Prometheus does.
async fn deliver(load: &Load, sender: &mut SendRequest<Full<Bytes>>, body: Bytes, samples: u64, seen: &mut Seen) -> Result<(), LoadError> {
    loop {
        let begun = Instant::now();
        let answer = tokio::time::timeout(ANSWER_WITHIN, send(load, sender, body.clone())).await;
        match answer {
            Ok(Ok((status, _))) if status.is_success() => {
                seen.answers_us.saturating_record(begun.elapsed().as_micros() as u64);
                seen.samples += samples;
                seen.requests += 1;
                seen.packed_bytes += body.len() as u64;
                return Ok(());
            }
            Ok(Ok((status, wait))) if status.is_server_error() => {
                seen.retried += 1;
                tokio::time::sleep(wait).await;
            }
            Ok(Ok(_)) => {
                seen.failed += 1;
                return Ok(());
            }
            Ok(Err(_)) | Err(_) => {
                seen.failed += 1;
                *sender = connect(&load.server).await?;
            }
        }
    }
}

async fn send(load: &Load, sender: &mut SendRequest<Full<Bytes>>, body: Bytes) -> Result<(StatusCode, Duration), hyper::Error> {
    let (content_type, version) = match load.protocol {
        Protocol::V1 => ("application/x-protobuf", "0.1.0"),
        Protocol::V2 => ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"),
    };
    let request = Request::builder()
        .method(Method::POST)
        .uri("/api/v1/write")
        .header("Host", &load.server)
        .header("User-Agent", concat!("sluice-bench/", env!("CARGO_PKG_VERSION")))
        .header("Content-Type", content_type)
        .header("Content-Encoding", "snappy")
        .header("X-Prometheus-Remote-Write-Version", version)
        .body(Full::new(body))
        .unwrap_or_else(|_| unreachable!("all parts are constants but the host, which was connected to"));
    sender.ready().await?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let wait =
        answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok()).map_or(100, |seconds: u64| seconds * 1000);
    answer.into_body().collect().await?;
    Ok((status, Duration::from_millis(wait)))
}

async fn connect(server: &str) -> Result<SendRequest<Full<Bytes>>, LoadError> {
    let stream = TcpStream::connect(server).await.map_err(|source| LoadError::Connect { server: server.to_owned(), source })?;
    let _ = stream.set_nodelay(true);
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| LoadError::Http(server.to_owned(), error))?;
    tokio::spawn(connection);
    Ok(sender)
}

/// What a server says of its own process.
#[derive(Clone, Copy)]
struct Figures {
    cpu_seconds: f64,
    resident_bytes: f64,
}

async fn process_figures(server: &str) -> Option<Figures> {
    let mut sender = connect(server).await.ok()?;
    let request = Request::builder().uri("/metrics").header("Host", server).body(Full::new(Bytes::new())).ok()?;
    let body = sender.send_request(request).await.ok()?.into_body().collect().await.ok()?.to_bytes();
    let text = std::str::from_utf8(&body).ok()?;
    let figure = |name: &str| {
        let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    Some(Figures {
        cpu_seconds: figure("process_cpu_seconds_total")?,
        resident_bytes: figure("process_resident_memory_bytes").unwrap_or(0.0),
    })
}

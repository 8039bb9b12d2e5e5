//! `sluice bench load`: replicas of one Prometheus pair that write in real time, like real ones, and measure the answers.
//!
//! Every series has one sample an interval; each connection sends its share in order and one request at a time, as Prometheus' shards do.
//! A 503 is retried after its Retry-After. After the last answer the server still has to deliver; so the tool waits until its sinks have
//! nothing pending, and the CPU that it reports includes that. What it leaves out: it judges nothing and reads nothing back (`tests/e2e`
//! does).

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
/// The server's figures are asked after this often while it delivers what is left; its own are a second old.
const ASK_EVERY: Duration = Duration::from_millis(250);

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
    /// Number of the first of them.
    pub first_group: usize,
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
    /// How long to wait after the last answer until the server's sinks have everything; zero: not at all.
    pub drain: Duration,
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
    /// What the server says of itself; none if it has no such metrics.
    pub server: Option<Server>,
}

/// What the server's own metrics say of the run: from before the first request until its sinks had delivered, or the waiting was given up.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Server {
    /// CPU (user + system), seconds.
    pub cpu_seconds: f64,
    /// The same divided by acknowledged samples, microseconds.
    pub cpu_us_per_sample: f64,
    /// Resident memory at the end, bytes.
    pub resident_bytes: f64,
    /// Wall seconds from the last answer until all was delivered.
    pub drain_seconds: f64,
    /// Samples that were let through and some sink did not have at the end; not 0: the other figures leave that work out.
    pub undelivered: f64,
    /// Rows that its sinks delivered.
    pub rows: f64,
    /// The same a second, from the first request until all was delivered.
    pub rows_per_second: f64,
    /// Transactions committed by its sinks.
    pub commits: f64,
    /// Bytes handed to the disk, divided by acknowledged samples.
    pub log_bytes_per_sample: f64,
    /// Syncs of the disk a second, while requests came.
    pub syncs_per_second: f64,
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
    let before = server_figures(&load.server).await;
    let start = Instant::now();
    let load = Arc::new(load);
    let mut connections = JoinSet::new();
    for group in load.first_group..load.first_group + load.groups {
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
    let answered = server_figures(&load.server).await;
    let after = delivered(&load, answered).await;
    let drained = start.elapsed().as_secs_f64();
    let figures = before.zip(answered).zip(after).map(|((before, answered), after)| [before, answered, after]);
    Ok(all.report([seconds, drained], figures))
}

/// The server's figures when its sinks have all that was let through, or when the time for that is over.
async fn delivered(load: &Load, answered: Option<Figures>) -> Option<Figures> {
    let until = Instant::now() + load.drain;
    let mut now = answered?;
    // Its figures are a second old: nothing pending counts when it was seen at two looks that far apart.
    let mut clear: Option<Instant> = None;
    while Instant::now() < until {
        match (now.pending + now.waiting > 0.0, clear) {
            (true, _) => clear = None,
            (false, None) => clear = Some(Instant::now()),
            (false, Some(since)) if since.elapsed() > Duration::from_millis(1500) => break,
            (false, Some(_)) => {}
        }
        tokio::time::sleep(ASK_EVERY).await;
        now = server_figures(&load.server).await?;
    }
    Some(now)
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

    fn report(&self, [seconds, drained]: [f64; 2], figures: Option<[Figures; 3]>) -> Report {
        let quantile = |q: f64| self.answers_us.value_at_quantile(q) as f64 / 1000.0;
        let samples = self.samples.max(1) as f64;
        let server = figures.map(|[before, answered, after]| Server {
            cpu_seconds: after.cpu_seconds - before.cpu_seconds,
            cpu_us_per_sample: (after.cpu_seconds - before.cpu_seconds) * 1e6 / samples,
            resident_bytes: after.resident_bytes,
            drain_seconds: drained - seconds,
            undelivered: after.pending + after.waiting,
            rows: after.rows - before.rows,
            rows_per_second: (after.rows - before.rows) / drained,
            commits: after.commits - before.commits,
            log_bytes_per_sample: (after.written_bytes - before.written_bytes) / samples,
            syncs_per_second: (answered.syncs - before.syncs) / seconds,
        });
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
            server,
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

/// What a server says of itself; sums of all its sinks, shards and groups.
#[derive(Clone, Copy)]
struct Figures {
    cpu_seconds: f64,
    resident_bytes: f64,
    /// Let through, and some sink does not have it yet.
    pending: f64,
    /// Waits for a twin.
    waiting: f64,
    rows: f64,
    commits: f64,
    written_bytes: f64,
    syncs: f64,
}

async fn server_figures(server: &str) -> Option<Figures> {
    let mut sender = connect(server).await.ok()?;
    let request = Request::builder().uri("/metrics").header("Host", server).body(Full::new(Bytes::new())).ok()?;
    let body = sender.send_request(request).await.ok()?.into_body().collect().await.ok()?.to_bytes();
    let text = std::str::from_utf8(&body).ok()?;
    let sum = |name| figure(text, name).unwrap_or(0.0);
    Some(Figures {
        cpu_seconds: figure(text, "process_cpu_seconds_total")?,
        resident_bytes: sum("process_resident_memory_bytes"),
        pending: sum("sluice_sink_pending_samples"),
        waiting: sum("sluice_group_waiting_samples"),
        rows: sum("sluice_sink_rows_total"),
        commits: sum("sluice_sink_commits_total"),
        written_bytes: sum("sluice_store_written_bytes_total"),
        syncs: sum("sluice_store_syncs_total"),
    })
}

/// The sum of all series of this name; none if there is not one.
fn figure(text: &str, name: &str) -> Option<f64> {
    let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
    let values = text.lines().filter(of_name).map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value?))
}

#[cfg(test)]
mod tests {
    use super::figure;

    #[test]
    fn a_figure_is_the_sum_of_all_series_of_its_very_name() {
        let text = "# TYPE a gauge\na{shard=\"1\"} 2\na{shard=\"2\"} 0.5\nab 7\nb 1e3\n";
        assert_eq!((figure(text, "a"), figure(text, "b"), figure(text, "c")), (Some(2.5), Some(1000.0), None));
    }
}

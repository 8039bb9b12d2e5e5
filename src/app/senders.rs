//! The synthetic senders of `sluice dev`: a pair of Prometheus replicas that scrape the same made-up shop and write it over HTTP.
//!
//! They behave as Prometheus does where it matters to what is shown: each replica scrapes at its own moments, sends 2.0 in requests of at most
//! 2,000 samples, waits for the answer, tries again after a 503 and gives up a request that is refused. A stopped sender keeps nothing:
//! the hole it leaves is what its twin has to fill.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::Request;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api::deps::DevControls;
use crate::api::deps::Later;
use crate::api::deps::Refusal;
use crate::api::deps::Sender;
use crate::clock;
use crate::secret::token::Token;
use crate::wire::encode::Encoder;
use crate::wire::encode::NewSeries;
use crate::wire::encode::Sample;
use crate::wire::pack;
use crate::wire::remote_write::Protocol;

/// The pair that writes.
const GROUP: &str = "demo/shop";
const REPLICAS: [&str; 2] = ["prometheus-shop-0", "prometheus-shop-1"];
/// Pods of the made-up shop; each has [`SERIES_OF_POD`] series.
const PODS: usize = 60;
const SERIES_OF_POD: usize = 10;

/// Both senders, and the switches that stop them.
pub struct Senders {
    interval: Duration,
    running: [Arc<AtomicBool>; REPLICAS.len()],
}

impl Senders {
    /// Senders that write once an interval, when they are started.
    pub fn new(interval: Duration) -> Senders {
        Senders { interval, running: std::array::from_fn(|_| Arc::new(AtomicBool::new(true))) }
    }

    /// Starts both, with the node's own token; they end with `stop` or with the set.
    pub fn start(&self, node: SocketAddr, token: &Token, stop: &watch::Receiver<bool>, tasks: &mut JoinSet<()>) {
        for (number, running) in self.running.iter().enumerate() {
            let token = format!("Bearer {}", token.reveal());
            let sender = One { node, token, number, interval: self.interval, running: Arc::clone(running) };
            let mut stop = stop.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = sender.run() => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            });
        }
    }
}

impl DevControls for Senders {
    fn list(&self) -> Vec<Sender> {
        let rate = ((PODS * SERIES_OF_POD) as f64 / self.interval.as_secs_f64()) as u64;
        let one = |(replica, running): (&&str, &Arc<AtomicBool>)| Sender {
            name: format!("{GROUP}/{replica}"),
            group: GROUP.to_owned(),
            replica: (*replica).to_owned(),
            running: running.load(Ordering::Relaxed),
            samples_per_second: rate,
        };
        REPLICAS.iter().zip(&self.running).map(one).collect()
    }

    fn set<'a>(&'a self, name: &'a str, running: bool) -> Later<'a, Result<(), Refusal>> {
        let of_name = |replica: &str| replica == name || format!("{GROUP}/{replica}") == name;
        let found = REPLICAS.iter().position(|replica| of_name(replica));
        let outcome = match found {
            Some(number) => {
                self.running[number].store(running, Ordering::Relaxed);
                Ok(())
            }
            None => Err(Refusal::Unknown),
        };
        Box::pin(std::future::ready(outcome))
    }
}

struct One {
    node: SocketAddr,
    /// As it stands in the header.
    token: String,
    number: usize,
    interval: Duration,
    running: Arc<AtomicBool>,
}

impl One {
    async fn run(self) {
        // Replicas scrape at moments of their own; 0.37 of an interval apart is never close to a half or a whole one.
        let step = i64::try_from(self.interval.as_millis()).unwrap_or(5000);
        let offset = step * 37 / 100 * self.number as i64;
        let mut connection = None;
        // The first one seen leads, and what is printed says that it is the first one here: the others begin an interval later.
        tokio::time::sleep(self.interval * self.number as u32).await;
        loop {
            let now = clock::wall_ms();
            let next = (now - offset).div_euclid(step) * step + step + offset;
            tokio::time::sleep(Duration::from_millis((next - now).unsigned_abs())).await;
            if self.running.load(Ordering::Relaxed) {
                self.send(&mut connection, next).await;
            } else {
                connection = None;
            }
        }
    }

    /// Sends one scrape, again and again while it is refused for now; a scrape that is an interval old is given up.
    async fn send(&self, connection: &mut Option<SendRequest<Full<Bytes>>>, time: i64) {
        let mut packed = Vec::new();
        pack::pack_snappy(&scrape(REPLICAS[self.number], time), &mut packed);
        let body = Bytes::from(packed);
        let begun = tokio::time::Instant::now();
        while begun.elapsed() < self.interval && self.running.load(Ordering::Relaxed) {
            if connection.is_none() {
                *connection = connect(self.node).await;
            }
            let answer = match connection.as_mut() {
                Some(open) => post(open, self.node, &self.token, body.clone()).await,
                None => None,
            };
            match answer {
                Some(status) if !status.is_server_error() => return,
                Some(_) => tokio::time::sleep(Duration::from_millis(500)).await,
                None => {
                    *connection = None;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }
}

async fn connect(node: SocketAddr) -> Option<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(node).await.ok()?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    // It ends when the sender is dropped.
    tokio::spawn(connection);
    Some(sender)
}

async fn post(open: &mut SendRequest<Full<Bytes>>, node: SocketAddr, token: &str, body: Bytes) -> Option<hyper::StatusCode> {
    let request = Request::post("/api/v1/write")
        .header("Host", node.to_string())
        .header("Authorization", token)
        .header("User-Agent", concat!("sluice-dev/", env!("CARGO_PKG_VERSION")))
        .header("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
        .header("Content-Encoding", "snappy")
        .header("X-Prometheus-Remote-Write-Version", "2.0.0")
        .body(Full::new(body))
        .ok()?;
    open.ready().await.ok()?;
    let answer = open.send_request(request).await.ok()?;
    let status = answer.status();
    answer.into_body().collect().await.ok()?;
    Some(status)
}

/// What one replica sees of the shop at this time: counters that grow, gauges that move.
fn scrape(replica: &str, time: i64) -> Vec<u8> {
    const NAMES: [(&str, bool); SERIES_OF_POD] = [
        ("container_cpu_usage_seconds_total", true),
        ("container_memory_working_set_bytes", false),
        ("container_network_receive_bytes_total", true),
        ("container_network_transmit_bytes_total", true),
        ("http_request_duration_seconds_count", true),
        ("http_request_duration_seconds_sum", true),
        ("http_requests_in_flight", false),
        ("http_requests_total", true),
        ("orders_total", true),
        ("up", false),
    ];
    let mut encoder = Encoder::new(Protocol::V2);
    let seconds = time as f64 / 1000.0;
    for pod in 0..PODS {
        let app = ["checkout", "catalog", "billing"][pod % 3];
        let (name, instance, namespace) =
            (format!("{app}-{:02}", pod / 3), format!("10.0.{}.{}:8080", pod / 20, pod % 20), format!("shop-{}", pod % 4));
        for (number, (metric, counter)) in NAMES.iter().enumerate() {
            let wave = (seconds / 60.0 + pod as f64).sin();
            let value = match (*metric, *counter) {
                ("up", _) => 1.0,
                (_, true) => (seconds % 1e7 * (number + 1) as f64 * (1.0 + pod as f64 / 10.0)).floor(),
                (_, false) => ((2.0 + wave) * 1e6 * (number + 1) as f64).round(),
            };
            encoder.push(&NewSeries {
                labels: &[
                    ("__name__", metric),
                    ("instance", &instance),
                    ("job", "shop"),
                    ("namespace", &namespace),
                    ("pod", &name),
                    ("prometheus", GROUP),
                    ("prometheus_replica", replica),
                ],
                samples: &[Sample::new(time, value)],
                ..NewSeries::default()
            });
        }
    }
    let mut raw = Vec::new();
    encoder.finish(&mut raw);
    raw
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sender_is_stopped_by_its_name() {
        let senders = Senders::new(Duration::from_secs(5));
        assert_eq!(senders.list()[0].samples_per_second, 120);
        senders.set("demo/shop/prometheus-shop-1", false).await.unwrap();
        senders.set("prometheus-shop-0", false).await.unwrap();
        assert!(senders.list().iter().all(|sender| !sender.running));
        assert_eq!(senders.set("nobody", true).await, Err(Refusal::Unknown));
    }
}

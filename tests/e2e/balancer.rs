//! Where Prometheus points, as docs/cluster.md says it for each situation: HAProxy before three nodes with the page's configuration, a balancer of
//! connections, and one name with three A records; while nodes are drained, stopped, killed and given their load again.
//!
//! A balancer of connections is HAProxy with `mode tcp`. It stands for a Service of Kubernetes, too: both choose a node when a connection begins and
//! leave it there, and ask `/-/ready` only for new ones. What is not tried here is kube-proxy itself.

use super::crash::{Accounts, sender};
use crate::support::check::{Case, Received, receive};
use crate::support::exporter::Exporter;
use crate::support::gate::Samples;
use crate::support::http::Client;
use crate::support::kafka::Kafka;
use crate::support::load::Running;
use crate::support::names::Names;
use crate::support::peers::{Peer, need};
use crate::support::process::{Process, Scratch, Signal, eventually, free_port, let_pass, now_ms};
use crate::support::prometheus::{Prometheus, Replica};
use crate::support::trio::{NAMES, NOWHERE, Shape, Trio};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// The page's configuration for this port and these nodes.
fn of_the_page(port: u16, trio: &Trio) -> String {
    let page = include_str!("../../docs/cluster.md");
    let (_, rest) = page.split_once("```haproxy\n").expect("the page has it");
    let mut text = rest.split_once("```").expect("its end").0.replace("bind :9201", &format!("bind 127.0.0.1:{port}"));
    for (node, number) in trio.nodes.iter().zip(1..) {
        let written = format!("mon{number}.example:9201");
        assert!(text.contains(&written), "{text}");
        text = text.replace(&written, &node.sluice.address().to_string());
    }
    text
}

/// HAProxy with this configuration, once it has found a node.
fn haproxy(scratch: &Scratch, port: u16, text: &str) -> (Process, SocketAddr) {
    let dir = scratch.sub("haproxy");
    let file = dir.join("haproxy.cfg");
    std::fs::write(&file, text).unwrap();
    let args = ["-db".to_owned(), "-f".to_owned(), file.display().to_string()];
    let process = Process::start("haproxy", "haproxy", &args, &dir, &dir.join("log"));
    let front = SocketAddr::from(([127, 0, 0, 1], port));
    eventually(Duration::from_secs(30), "HAProxy to find a node", || {
        let ready = Client::new(front).call("GET", "/-/ready").map_err(|error| error.to_string())?;
        if ready.status() == 200 { Ok(()) } else { Err(format!("{} {}", ready.status(), ready.text())) }
    });
    (process, front)
}

/// Requests with samples that a node was sent, whoever leads their groups.
fn taken(trio: &Trio, node: usize) -> Result<u64, String> {
    let status = trio.nodes[node].json("/api/v1/status")?;
    status["ingest"]["requests"].as_u64().ok_or_else(|| status.to_string())
}

/// Waits until a node has been sent so many more than now.
#[track_caller]
fn gets_load(trio: &Trio, node: usize, more: u64) {
    let before = taken(trio, node).unwrap_or(0);
    eventually(Duration::from_secs(90), "requests to come", || match taken(trio, node)? {
        now if now >= before + more => Ok(()),
        now => Err(format!("{} has {now}, and had {before}", NAMES[node])),
    });
}

#[test]
fn behind_haproxy_a_node_is_drained_restarted_and_gets_its_load_again_without_a_refused_request() {
    if !need(&[Peer::Haproxy]) {
        return;
    }
    let scratch = Scratch::new("balancer");
    let mut trio = Trio::up(&scratch, NOWHERE);
    let port = free_port();
    let (_haproxy, front) = haproxy(&scratch, port, &of_the_page(port, &trio));
    let senders: Vec<Running> = (0..6).map(|number| sender(&format!("group-{number}"), "a", number * 30).start(front)).collect();
    (0..3).for_each(|node| gets_load(&trio, node, 20));
    for node in [2, 0] {
        trio.nodes[node].must(&["cluster", "drain"]);
        // When its balancer has looked: the page says for how long.
        let_pass(Duration::from_secs(3));
        trio.nodes[node].sluice.stop();
        let_pass(Duration::from_secs(2));
        trio.nodes[node].sluice.launch();
        trio.nodes[node].sluice.wait_ready(Duration::from_secs(60));
        gets_load(&trio, node, 20);
        trio.wait_well();
    }
    let accounts = Accounts::of(senders, Vec::new());
    assert_eq!(accounts.repeated(), 0, "requests were refused, or went unanswered");
    trio.nodes.iter_mut().for_each(|node| node.sluice.stop());
}

/// Three nodes with a Kafka behind them, and a pair of real Prometheus that find them by a name or a balancer.
struct Field {
    kafka: Arc<Kafka>,
    topic: String,
    trio: Trio,
    replicas: Vec<Prometheus>,
    exporter: Exporter,
}

const INTERVAL: i64 = 1_000;

impl Field {
    fn new(scratch: &Scratch, name: &str, doors: Option<[SocketAddr; 3]>) -> Field {
        let kafka = Kafka::shared();
        let topic = format!("{name}-{}", fastrand::u32(..));
        kafka.create_topic(&topic, 4);
        // Connections are old after seconds instead of ten minutes, so that the load's return can be seen.
        let sinks = format!(
            "limits: {{ connection_age: 5s }}\nsinks:\n  - name: platform\n    kafka: {{ brokers: [\"{}\"], topic: {topic}, format: rows }}\n",
            kafka.address()
        );
        let trio = Trio::up_as(scratch, &Shape { sinks: &sinks, doors, ..Shape::default() });
        Field { kafka, topic, trio, replicas: Vec::new(), exporter: Exporter::start(4, 20) }
    }

    /// A pair that writes there.
    fn write_to(&mut self, scratch: &Scratch, to: &str, names: Option<&Names>) {
        for name in ["a", "b"] {
            let labels = [("cluster", self.topic.as_str()), ("__replica__", name)].map(|(name, value)| (name.to_owned(), value.to_owned()));
            let replica =
                Replica { name: name.to_owned(), labels: labels.into(), interval: 1, write_to: to.to_owned(), targets: (0..4).collect() };
            let started = match names {
                Some(names) => Prometheus::start_among(scratch, replica, &self.exporter, names),
                None => Prometheus::start(scratch, replica, &self.exporter, None),
            };
            self.replicas.push(started);
        }
    }

    /// Samples that the pair had to send again, or gave up.
    fn trouble(&self) -> (f64, f64) {
        let sum = |names: &[&str]| self.replicas.iter().flat_map(|one| names.iter().map(|name| one.metric(name))).sum();
        let lost = ["prometheus_remote_storage_samples_failed_total", "prometheus_remote_storage_samples_dropped_total"];
        (sum(&["prometheus_remote_storage_samples_retried_total"]), sum(&lost))
    }

    /// Everything that either replica scraped until now is covered in Kafka, and nothing is there twice.
    #[track_caller]
    fn finish(mut self) {
        let until = now_ms() - 2 * INTERVAL;
        let scraped: Vec<Samples> = self.replicas.iter().map(Prometheus::scraped).collect();
        assert!(scraped.iter().all(|samples| samples.len() > 80), "{:?}", scraped.iter().map(Samples::len).collect::<Vec<_>>());
        let (retried, lost) = self.trouble();
        assert!(lost < 0.5, "{lost} samples were given up");
        let before = |samples: &Samples| -> Samples {
            let times =
                samples.iter().map(|(series, times)| (series.clone(), times.range(..until).map(|(at, one)| (*at, one.clone())).collect()));
            times.collect()
        };
        let acknowledged: Vec<Samples> = scraped.iter().map(before).collect();
        self.replicas.iter_mut().for_each(Prometheus::stop);
        let case = Case { interval: INTERVAL, acknowledged: &acknowledged, offered: &scraped };
        let reader = self.kafka.reader(&self.topic);
        let mut received = Received::new();
        let mut check = || {
            receive(&mut received, &reader.drain());
            // What was scraped last is in nobody's account.
            received.values_mut().for_each(|rows| rows.retain(|one| one.row.time < until));
            case.check(&received)
        };
        eventually(Duration::from_secs(100), "Kafka to hold what was scraped", &mut check);
        self.trio.nodes.iter_mut().for_each(|node| node.sluice.stop());
        // After the end nothing more may come that breaks the promise.
        let seen = check().unwrap_or_else(|problems| panic!("after the end: {problems}"));
        eprintln!("{}: {seen:?}, {retried} samples were sent again", self.topic);
    }
}

#[test]
fn behind_a_balancer_of_connections_a_drained_node_loses_its_load_and_gets_it_again_and_prometheus_repeats_nothing() {
    if !need(&[Peer::Haproxy, Peer::Kafka, Peer::Prometheus]) {
        return;
    }
    let scratch = Scratch::new("connections");
    let mut field = Field::new(&scratch, "connections", None);
    let port = free_port();
    let text = of_the_page(port, &field.trio).replace("mode http", "mode tcp");
    let (_haproxy, front) = haproxy(&scratch, port, &text);
    field.write_to(&scratch, &front.to_string(), None);
    (0..3).for_each(|node| gets_load(&field.trio, node, 3));
    for node in [1, 2] {
        field.trio.nodes[node].must(&["cluster", "drain"]);
        // The connections that are there end with their next answer, and new ones go elsewhere.
        let_pass(Duration::from_secs(5));
        let before = taken(&field.trio, node).unwrap();
        let_pass(Duration::from_secs(5));
        assert_eq!(taken(&field.trio, node).unwrap(), before, "a drained node is still sent requests");
        field.trio.nodes[node].sluice.stop();
        let_pass(Duration::from_secs(3));
        field.trio.nodes[node].sluice.launch();
        field.trio.nodes[node].sluice.wait_ready(Duration::from_secs(60));
        // Connections that are old make way for new ones, of which it gets its part.
        gets_load(&field.trio, node, 3);
        field.trio.wait_well();
    }
    let (retried, _) = field.trouble();
    assert!(retried < 0.5, "{retried} samples were refused, or went unanswered");
    // One that dies costs those whose connections were there an attempt.
    field.trio.nodes[0].sluice.kill();
    let_pass(Duration::from_secs(10));
    field.trio.nodes[0].sluice.launch();
    field.trio.nodes[0].sluice.wait_ready(Duration::from_secs(60));
    gets_load(&field.trio, 0, 3);
    field.finish();
}

#[test]
fn with_three_a_records_a_node_may_die_stand_still_or_be_drained_and_gets_its_load_again() {
    if !need(&[Peer::NameServer, Peer::Kafka, Peer::Prometheus]) {
        return;
    }
    let scratch = Scratch::new("records");
    let (net, port) = (fastrand::u8(100..250), free_port());
    let addresses: Vec<Ipv4Addr> = (1..=3).map(|host| Ipv4Addr::new(127, net, 0, host)).collect();
    let doors = [0, 1, 2].map(|node: usize| SocketAddr::from((addresses[node], port)));
    let mut field = Field::new(&scratch, "records", Some(doors));
    let names = Names::of(&scratch, addresses);
    field.write_to(&scratch, &format!("sluice.example.test:{port}"), Some(&names));
    (0..3).for_each(|node| gets_load(&field.trio, node, 3));
    // It dies: its address refuses, and the next one is tried within the same attempt.
    field.trio.nodes[0].sluice.kill();
    let_pass(Duration::from_secs(10));
    field.trio.nodes[0].sluice.launch();
    field.trio.nodes[0].sluice.wait_ready(Duration::from_secs(60));
    gets_load(&field.trio, 0, 3);
    // It stands still: whoever comes there waits for `remote_timeout`, and then comes somewhere else.
    field.trio.nodes[1].sluice.process().signal(Signal::STOP);
    let_pass(Duration::from_secs(15));
    field.trio.nodes[1].sluice.process().signal(Signal::CONT);
    gets_load(&field.trio, 1, 3);
    field.trio.wait_well();
    // Nobody asks whether it is ready: it is sent requests all the same, and passes them on.
    let (before, _) = field.trouble();
    field.trio.nodes[2].must(&["cluster", "drain"]);
    gets_load(&field.trio, 2, 3);
    let (after, _) = field.trouble();
    assert!(after - before < 0.5, "{} samples were refused, or went unanswered", after - before);
    field.trio.nodes[2].sluice.stop();
    let_pass(Duration::from_secs(5));
    field.trio.nodes[2].sluice.launch();
    field.trio.nodes[2].sluice.wait_ready(Duration::from_secs(60));
    gets_load(&field.trio, 2, 3);
    assert!(names.asked() > 10, "the name was asked for {} times", names.asked());
    field.finish();
}

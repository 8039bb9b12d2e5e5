//! The main job as a whole: real Prometheus replicas, a gate for each, one sluice, a topic of a real Kafka.

use super::check::{Case, Received, Seen, receive};
use super::exporter::Exporter;
use super::gate::{Gate, Samples};
use super::kafka::{Kafka, Reader};
use super::process::{Scratch, eventually, let_pass, now_ms};
use super::prometheus::{NodeExporter, Prometheus, Replica};
use super::sluice::Sluice;
use std::sync::Arc;
use std::time::Duration;

/// What a scenario is made of.
pub struct Setup<'a> {
    pub name: &'a str,
    /// Seconds between scrapes.
    pub interval: u32,
    /// External labels of each replica.
    pub replicas: Vec<Vec<(String, String)>>,
    /// Numbers of our targets for each replica; empty: all.
    pub targets: Vec<Vec<usize>>,
    /// Whether they scrape the machine's node exporter too.
    pub node_exporter: bool,
    /// YAML for the end of the sink.
    pub sink: &'a str,
}

impl<'a> Setup<'a> {
    /// Two replicas of one group, by the labels of Mimir's and Cortex' convention.
    pub fn pair(name: &'a str, interval: u32) -> Setup<'a> {
        let labels =
            |replica: &str| [("cluster", name), ("__replica__", replica)].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Setup { name, interval, replicas: vec![labels("a"), labels("b")], targets: vec![Vec::new(); 2], node_exporter: true, sink: "" }
    }
}

/// It, running. Replica 0 is started first and leads.
pub struct Pair {
    interval: i64,
    kafka: Arc<Kafka>,
    topic: String,
    pub exporter: Exporter,
    _node: Option<NodeExporter>,
    pub sluice: Sluice,
    pub gates: Vec<Gate>,
    pub replicas: Vec<Prometheus>,
    // Last, so that it goes after what writes into it.
    _scratch: Scratch,
}

/// Targets of our exporter, and series of each.
pub const TARGETS: usize = 8;
pub const SERIES: usize = 40;

impl Pair {
    pub fn start(setup: Setup<'_>) -> Pair {
        let kafka = Kafka::shared();
        let topic = format!("{}-{}", setup.name, fastrand::u32(..));
        kafka.create_topic(&topic, 4);
        let scratch = Scratch::new(setup.name);
        let exporter = Exporter::start(TARGETS, SERIES);
        let node = setup.node_exporter.then(|| NodeExporter::start(&scratch));
        let sluice = Sluice::start(&scratch, &kafka.address(), &topic, setup.sink);
        let mut pair = Pair {
            interval: i64::from(setup.interval) * 1000,
            kafka,
            topic,
            exporter,
            _node: node,
            sluice,
            gates: Vec::new(),
            replicas: Vec::new(),
            _scratch: scratch,
        };
        for (number, labels) in setup.replicas.into_iter().enumerate() {
            let gate = Gate::to(pair.sluice.address());
            let targets = if setup.targets[number].is_empty() { (0..TARGETS).collect() } else { setup.targets[number].clone() };
            let name = char::from(b'a' + u8::try_from(number).expect("few")).to_string();
            let replica = Replica { name, labels, interval: setup.interval, write_to: gate.address().to_string(), targets };
            let prometheus = Prometheus::start(&pair._scratch, replica, &pair.exporter, pair._node.as_ref());
            pair.replicas.push(prometheus);
            pair.gates.push(gate);
            pair.wait_for_news(number);
        }
        pair
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Waits until a replica has had samples acknowledged that were scraped after this call.
    #[track_caller]
    pub fn wait_for_news(&self, replica: usize) {
        let now = now_ms();
        let deadline = Duration::from_millis(u64::try_from(self.interval).expect("positive") * 3 + 30_000);
        eventually(deadline, "acknowledged samples of a replica", || {
            let newest = self.gates[replica].newest();
            if newest > now {
                Ok(())
            } else {
                Err(format!(
                    "replica {replica}: {} requests, the newest sample is of {newest}, now is {now}",
                    self.gates[replica].requests()
                ))
            }
        });
    }

    /// Lets `intervals` scrapes go by.
    pub fn scrape(&self, intervals: u32) {
        let_pass(Duration::from_millis(u64::try_from(self.interval).expect("positive")) * intervals);
    }

    /// Ends the senders in order, then holds Kafka against what the gates saw.
    #[track_caller]
    pub fn finish(self) -> Seen {
        self.finish_and_read().0
    }

    /// The same, and gives what Kafka holds.
    #[track_caller]
    pub fn finish_and_read(mut self) -> (Seen, Received) {
        for replica in &mut self.replicas {
            replica.stop();
        }
        let acknowledged: Vec<Samples> = self.gates.iter().map(Gate::acknowledged).collect();
        let offered: Vec<Samples> = self.gates.iter().map(Gate::offered).collect();
        for gate in &self.gates {
            assert_eq!(gate.refusals(), Vec::<String>::new(), "sluice refused what a real Prometheus sent");
        }
        let reader = self.kafka.reader(&self.topic);
        let case = Case { interval: self.interval, acknowledged: &acknowledged, offered: &offered };
        let mut received = Received::new();
        // The standby's last samples wait up to one and a half intervals and the usual lag (at most a minute) for a twin.
        let seen = eventually(Duration::from_secs(100), "Kafka to hold what was acknowledged", || {
            receive(&mut received, &reader.drain());
            case.check(&received)
        });
        self.sluice.stop();
        settle(&reader, &mut received, &case);
        eprintln!("{}: {seen:?}", self.topic);
        (seen, received)
    }
}

/// After sluice has ended nothing more may come that breaks the promise.
pub fn settle(reader: &Reader, received: &mut Received, case: &Case<'_>) {
    receive(received, &reader.drain());
    if let Err(problems) = case.check(received) {
        panic!("after the end: {problems}");
    }
}

//! The leading Prometheus and the node that leads its group's shard, killed together or shortly after each other: what takes over is on one side a
//! replica that was only a standby, on the other a node that was only a follower.
//!
//! As in `failover`: real Prometheus, real Kafka, and the topic held against what was acknowledged (docs/testing.md).

use crate::support::check::{Case, Received, receive};
use crate::support::exporter::Exporter;
use crate::support::gate::{Gate, Samples};
use crate::support::kafka::Kafka;
use crate::support::pair::{SERIES, TARGETS, settle};
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, let_pass, now_ms};
use crate::support::prometheus::{Prometheus, Replica};
use crate::support::trio::Trio;
use std::time::Duration;

const NAMES: [&str; 2] = ["a", "b"];

/// Who is killed first.
#[derive(Clone, Copy, Debug)]
enum First {
    Prometheus,
    Node,
}

struct Pair {
    group: String,
    trio: Trio,
    gates: Vec<Gate>,
    replicas: Vec<Prometheus>,
    _exporter: Exporter,
}

impl Pair {
    /// Each replica writes to a node of its own first, and to the next one if that does not answer.
    fn up(scratch: &Scratch, group: &str, sinks: &str) -> Pair {
        let trio = Trio::up(scratch, sinks);
        let to: Vec<_> = trio.nodes.iter().map(|node| node.sluice.address()).collect();
        let exporter = Exporter::start(TARGETS, SERIES);
        let gates: Vec<Gate> = (0..2).map(|replica| Gate::to_any((0..3).map(|node| to[(replica + node) % 3]).collect())).collect();
        let mut pair = Pair { group: group.to_owned(), trio, gates, replicas: Vec::new(), _exporter: exporter };
        for (number, name) in NAMES.iter().enumerate() {
            let labels = [("cluster", group), ("__replica__", name)].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            let write_to = pair.gates[number].address().to_string();
            let replica = Replica { name: (*name).to_owned(), labels, interval: 1, write_to, targets: (0..TARGETS).collect() };
            pair.replicas.push(Prometheus::start(scratch, replica, &pair._exporter, None));
            pair.wait_for_news(number);
        }
        pair
    }

    #[track_caller]
    fn wait_for_news(&self, replica: usize) {
        let now = now_ms();
        eventually(Duration::from_secs(40), "acknowledged samples of a replica", || {
            let newest = self.gates[replica].newest();
            if newest > now { Ok(()) } else { Err(format!("replica {replica}: the newest sample is of {newest}, now is {now}")) }
        });
    }

    /// Which replica leads.
    #[track_caller]
    fn leading(&self) -> usize {
        eventually(Duration::from_secs(20), "a leading replica", || {
            let group = self.trio.nodes[0].json(&format!("/api/v1/groups/{}", self.group))?;
            NAMES.iter().position(|name| group["leader"] == **name).ok_or_else(|| group.to_string())
        })
    }

    /// Kills both, and starts both again after a while.
    fn lose_both(&mut self, first: First, apart: Duration) {
        let (replica, node) = (self.leading(), eventually(Duration::from_secs(20), "a leader", || self.trio.leader_of(&self.group, 0)));
        for number in 0..2 {
            if matches!(first, First::Prometheus) == (number == 0) {
                self.replicas[replica].kill();
            } else {
                self.trio.nodes[node].sluice.kill();
            }
            if number == 0 {
                let_pass(apart);
            }
        }
        self.wait_for_news(1 - replica);
        let_pass(Duration::from_secs(12));
        self.trio.nodes[node].sluice.up();
        self.replicas[replica].up();
        self.wait_for_news(replica);
        self.trio.wait_well();
        let_pass(Duration::from_secs(5));
    }
}

fn scenario(apart: Duration) {
    if !need(&[Peer::Kafka, Peer::Prometheus]) {
        return;
    }
    let group = format!("double-{}s", apart.as_secs());
    let scratch = Scratch::new(&group);
    let kafka = Kafka::shared();
    let topic = format!("{group}-{}", fastrand::u32(..));
    kafka.create_topic(&topic, 4);
    let sinks = format!("sinks:\n  - name: platform\n    kafka: {{ brokers: [\"{}\"], topic: {topic}, format: rows }}\n", kafka.address());
    let mut pair = Pair::up(&scratch, &group, &sinks);
    let_pass(Duration::from_secs(15));
    for first in [First::Prometheus, First::Node] {
        pair.lose_both(first, apart);
    }
    pair.replicas.iter_mut().for_each(Prometheus::stop);
    let acknowledged: Vec<Samples> = pair.gates.iter().map(Gate::acknowledged).collect();
    let offered: Vec<Samples> = pair.gates.iter().map(Gate::offered).collect();
    for gate in &pair.gates {
        assert_eq!(gate.refusals(), Vec::<String>::new(), "sluice refused what a real Prometheus sent");
    }
    let (reader, mut received) = (kafka.reader(&topic), Received::new());
    let case = Case { interval: 1000, acknowledged: &acknowledged, offered: &offered };
    let seen = eventually(Duration::from_secs(100), "Kafka to hold what was acknowledged", || {
        receive(&mut received, &reader.drain());
        case.check(&received)
    });
    pair.trio.nodes.iter_mut().for_each(|node| node.sluice.stop());
    settle(&reader, &mut received, &case);
    eprintln!("{topic}: {seen:?}");
}

#[test]
fn the_leading_prometheus_and_the_shards_leader_are_killed_in_the_same_second() {
    scenario(Duration::ZERO);
}

#[test]
fn the_leading_prometheus_and_the_shards_leader_are_killed_two_seconds_apart() {
    scenario(Duration::from_secs(2));
}

#[test]
fn the_leading_prometheus_and_the_shards_leader_are_killed_ten_seconds_apart() {
    scenario(Duration::from_secs(10));
}

//! A trio under load, and what must hold of it in the end, whatever was done to it.
//!
//! Each node has a replica of its own writing to it, of whose samples each must come through, and pairs write to two different nodes each, of which one
//! copy must; and all rows say how far their counters rose, which must be what the rows themselves say (`check::order`).

use super::crash::{Accounts, INTERVAL, sender};
use crate::support::check::risen;
use crate::support::kafka::Kafka;
use crate::support::load::Running;
use crate::support::process::{Scratch, eventually};
use crate::support::trio::{NAMES, Shape, Trio};
use std::sync::Arc;
use std::time::Duration;

/// The pairs' groups.
pub const PAIRS: [&str; 2] = ["pair-0", "pair-1"];

pub struct Loaded {
    pub trio: Trio,
    pub kafka: Arc<Kafka>,
    topic: String,
    alone: Vec<Running>,
    pairs: Vec<[Running; 2]>,
}

impl Loaded {
    /// A trio of this shape with a Kafka sink, samples flowing through every node.
    #[track_caller]
    pub fn up(scratch: &Scratch, name: &str, shape: Shape<'_>) -> Loaded {
        let kafka = Kafka::shared();
        let topic = format!("{name}-{}", fastrand::u32(..));
        kafka.create_topic(&topic, 4);
        let sinks = format!(
            "{}sinks:\n  - name: platform\n    kafka: {{ brokers: [\"{}\"], topic: {topic}, format: rows }}\n    increase: {{ match: load }}\n",
            shape.sinks,
            kafka.address()
        );
        let trio = Trio::up_as(scratch, &Shape { sinks: &sinks, ..shape });
        let to: Vec<_> = trio.nodes.iter().map(|node| node.sluice.address()).collect();
        let alone = (0..3).map(|number| sender(&format!("alone-{number}"), "a", 0).start(to[number])).collect();
        let pair = |(number, group): (usize, &&str)| {
            let replica = |name, offset, node: usize| sender(group, name, offset).start(to[node % 3]);
            [replica("a", 0, number), replica("b", 70, number + 1)]
        };
        let pairs = PAIRS.iter().enumerate().map(pair).collect();
        let loaded = Loaded { trio, kafka, topic, alone, pairs };
        loaded.flows(&[0, 1, 2], 200);
        loaded
    }

    /// Waits until every node leads a data shard: until then leadership moves by itself.
    #[track_caller]
    pub fn wait_balanced(&self) {
        eventually(Duration::from_secs(60), "every node to lead a shard", || {
            let view = self.trio.nodes[0].json("/api/v1/cluster")?;
            let shards = view["shards"].as_array().cloned().unwrap_or_default();
            let leads = |name: &str| shards.iter().any(|shard| shard["shard"] != 0 && shard["leader"] == *name);
            if NAMES.iter().all(|name| leads(name)) { Ok(()) } else { Err(view["shards"].to_string()) }
        });
    }

    /// Waits until so many more samples were taken by each of these nodes, from the replica that writes to it alone.
    #[track_caller]
    pub fn flows(&self, nodes: &[usize], more: u64) {
        let before: Vec<u64> = nodes.iter().map(|node| self.alone[*node].acknowledged()).collect();
        eventually(Duration::from_secs(60), &format!("samples to flow through {nodes:?}"), || {
            let now: Vec<u64> = nodes.iter().map(|node| self.alone[*node].acknowledged()).collect();
            if before.iter().zip(&now).all(|(before, now)| *now > before + more) { Ok(()) } else { Err(format!("{before:?}, now {now:?}")) }
        });
    }

    /// The node that leads a group's shard, as another node sees it in the end.
    #[track_caller]
    pub fn leader_of(&self, group: &str, asked: usize) -> usize {
        eventually(Duration::from_secs(30), "the shard's leader", || self.trio.leader_of(group, asked))
    }

    /// Another one than this leads the group's shard, in the eyes of a third.
    #[track_caller]
    pub fn wait_for_another(&self, group: &str, than: usize, asked: usize) -> usize {
        eventually(Duration::from_secs(30), "another leader", || match self.trio.leader_of(group, asked)? {
            leader if leader != than => Ok(leader),
            _ => Err("the same".to_owned()),
        })
    }

    /// Every node is ready and says that all is well.
    #[track_caller]
    pub fn wait_well(&mut self) {
        self.trio.nodes.iter_mut().for_each(|node| node.sluice.wait_ready(Duration::from_secs(60)));
        self.trio.wait_well();
    }

    /// All is well, samples flow through every node, all hold the same state, and Kafka holds what was acknowledged, nothing twice.
    #[track_caller]
    pub fn finish(mut self, what: &str) {
        self.wait_well();
        self.flows(&[0, 1, 2], 200);
        let accounts = Accounts::of(self.alone, self.pairs);
        let trio = &mut self.trio;
        let received = accounts.read_back(&self.kafka.reader(&self.topic), || {
            same_states(trio);
            trio.nodes.iter_mut().for_each(|node| node.sluice.stop());
        });
        let (risen, rows) = (risen(&received), received.values().map(Vec::len).sum::<usize>());
        assert!(risen * 10 > rows * 9, "{risen} of {rows} rows say how far their counter rose");
        eprintln!("{what}: every {INTERVAL} ms, {}", accounts.told(&received));
    }
}

/// Images are taken once a minute; their hashes are compared where they are of the same entry.
#[track_caller]
fn same_states(trio: &Trio) {
    for node in &trio.nodes {
        eventually(Duration::from_secs(90), "every shard's state to be the same on all nodes", || {
            let view = node.json("/api/v1/cluster")?;
            let shards = view["shards"].as_array().cloned().unwrap_or_default();
            // A node that was started since, and a control shard in which nothing happened since, have no image to compare.
            let idle = |shard: &serde_json::Value| shard["shard"] == 0 && shard["same_state"].is_null();
            let same = shards.len() == 4 && shards.iter().all(|shard| shard["same_state"] == true || idle(shard));
            if same { Ok(()) } else { Err(view["shards"].to_string()) }
        });
    }
}

//! A sink that an operator holds: on whichever node its shards are led, and across restarts, until somebody lets it go on.

use super::crash::{Accounts, sender};
use crate::support::kafka::Kafka;
use crate::support::load::Running;
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, let_pass};
use crate::support::trio::Trio;
use std::time::Duration;

/// What a node says of the sink: its state, and samples that it has delivered where it leads.
fn told(trio: &Trio, node: usize) -> Result<(String, u64), String> {
    let sink = trio.nodes[node].json("/api/v1/sinks/platform")?;
    let state = sink["state"].as_str().ok_or_else(|| sink.to_string())?.to_owned();
    Ok((state, sink["delivered"].as_u64().ok_or_else(|| sink.to_string())?))
}

#[track_caller]
fn everywhere_paused(trio: &Trio) {
    for node in 0..3 {
        eventually(Duration::from_secs(30), "the sink to be held", || match told(trio, node)? {
            (state, _) if state == "paused" => Ok(()),
            (state, _) => Err(format!("n{} says {state}", node + 1)),
        });
    }
}

#[test]
fn a_sink_that_is_held_stays_so_when_its_shards_move_and_nodes_restart_and_goes_on_where_it_was() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let scratch = Scratch::new("pauses");
    let kafka = Kafka::shared();
    let topic = format!("pauses-{}", fastrand::u32(..));
    kafka.create_topic(&topic, 2);
    let sinks = format!("sinks:\n  - name: platform\n    kafka: {{ brokers: [\"{}\"], topic: {topic}, format: rows }}\n", kafka.address());
    let mut trio = Trio::up(&scratch, &sinks);
    let to: Vec<_> = trio.nodes.iter().map(|node| node.sluice.address()).collect();
    let senders: Vec<Running> = (0..3).map(|number| sender(&format!("group-{number}"), "a", 0).start(to[number])).collect();
    let reader = kafka.reader(&topic);
    eventually(Duration::from_secs(60), "rows", || if reader.drain().is_empty() { Err("none yet".to_owned()) } else { Ok(()) });

    assert!(trio.nodes[1].must(&["sink", "pause", "platform"]).starts_with("paused: "));
    everywhere_paused(&trio);
    let silent = |what: &str| {
        let_pass(Duration::from_secs(2));
        drop(reader.drain()); // what was under way
        let_pass(Duration::from_secs(3));
        let came = reader.drain();
        assert!(came.is_empty(), "{} messages came although the sink is held ({what})", came.len());
    };
    silent("at once");
    trio.nodes[0].must(&["cluster", "transfer", "--all", "--to", "n3"]);
    everywhere_paused(&trio);
    silent("its shards have moved");
    for node in [2, 0] {
        trio.nodes[node].sluice.kill();
        trio.nodes[node].sluice.launch();
        trio.nodes[node].sluice.wait_ready(Duration::from_secs(60));
        everywhere_paused(&trio);
    }
    silent("nodes were restarted");
    let waits = trio.nodes[0].must(&["sink", "list"]);
    assert!(waits.contains("paused"), "{waits}");
    trio.nodes[0].must(&["sink", "resume", "platform"]);
    assert!(trio.nodes[0].ask(&["sink", "pause", "nobody"]).expect_err("there is no such sink").contains("no sink"));
    let accounts = Accounts::of(senders, Vec::new());
    // From the beginning: everything, once.
    let received = accounts.read_back(&kafka.reader(&topic), || trio.nodes.iter_mut().for_each(|node| node.sluice.stop()));
    eprintln!("pauses: {}", accounts.told(&received));
}

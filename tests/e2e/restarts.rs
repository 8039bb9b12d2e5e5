//! Three nodes stopped and started, in every order in which an operator, or a power cut, does it; and their certificates changed, under load.
//!
//! Every test ends in `Loaded::finish`: nothing acknowledged is missing, nothing is there twice, all nodes are well and hold the same.

use super::loaded::Loaded;
use crate::support::faults::Way;
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, let_pass};
use crate::support::trio::{NAMES, Shape};
use std::time::Duration;

#[track_caller]
fn says(loaded: &Loaded, node: usize, words: &str) {
    eventually(Duration::from_secs(30), &format!("{} to say what it waits for", NAMES[node]), || {
        let ready = loaded.trio.nodes[node].get("/-/ready")?;
        let text = ready.text();
        if ready.status() == 503 && text.contains(words) { Ok(()) } else { Err(format!("{} {text}", ready.first)) }
    });
}

#[test]
fn a_cluster_that_was_down_starts_in_any_order() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let scratch = Scratch::new("cold");
    let mut loaded = Loaded::up(&scratch, "cold", Shape::default());
    // In order and by a power cut; the last one comes a while after the others, or not much.
    for (order, killed, pause) in [([0, 1, 2], false, 1_500), ([2, 1, 0], true, 300), ([1, 2, 0], true, 3_000)] {
        for node in &mut loaded.trio.nodes {
            if killed { node.sluice.kill() } else { node.sluice.stop() }
        }
        let [first, second, third] = order;
        loaded.trio.nodes[first].sluice.launch();
        says(&loaded, first, "this node sees no other node");
        loaded.trio.nodes[second].sluice.launch();
        for node in [first, second] {
            loaded.trio.nodes[node].sluice.wait_ready(Duration::from_secs(60));
        }
        loaded.flows(&[first, second], 200);
        let_pass(Duration::from_millis(pause));
        loaded.trio.nodes[third].sluice.launch();
        loaded.wait_well();
        loaded.flows(&[0, 1, 2], 200);
    }
    // All at the same moment.
    loaded.trio.nodes.iter_mut().for_each(|node| node.sluice.kill());
    loaded.trio.nodes.iter_mut().for_each(|node| node.sluice.launch());
    loaded.finish("cold start");
}

#[test]
fn nodes_are_restarted_one_after_the_other_under_load() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let scratch = Scratch::new("rolling");
    let mut loaded = Loaded::up(&scratch, "rolling", Shape::default());
    // As the page says: drained first. Then by SIGTERM alone.
    for drained in [true, false] {
        for node in 0..3 {
            let member = &mut loaded.trio.nodes[node];
            if drained {
                eventually(Duration::from_secs(30), "it to be safe to stop", || member.ask(&["cluster", "safe-to-stop"]).map(drop));
                member.must(&["cluster", "drain"]);
            }
            member.sluice.stop();
            member.sluice.launch();
            loaded.wait_well();
        }
        loaded.flows(&[0, 1, 2], 200);
    }
    loaded.finish("rolling restart");
}

#[test]
fn certificates_between_nodes_are_changed_under_load() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let scratch = Scratch::new("swap");
    let loaded = Loaded::up(&scratch, "swap", Shape { faults: true, ..Shape::default() });
    for round in 0..2 {
        for member in &loaded.trio.nodes {
            let before = std::fs::read(member.sluice.data().join("cluster/node.pem")).unwrap();
            member.must(&["cluster", "join", &loaded.trio.bundle(), "--config", &member.sluice.config(), "--node", member.name]);
            assert_ne!(std::fs::read(member.sluice.data().join("cluster/node.pem")).unwrap(), before);
            let reloaded = member.post("/-/reload").unwrap();
            assert!(reloaded.status() == 200 && reloaded.text().contains("node's certificate renewed"), "{}", reloaded.text());
            if round == 1 {
                // Old and new ones meet: every connection is made anew.
                loaded.trio.faults().everywhere(Way::Closed);
                let_pass(Duration::from_millis(200));
                loaded.trio.faults().everywhere(Way::Open);
            }
            loaded.flows(&[0, 1, 2], 200);
        }
    }
    loaded.finish("certificates changed");
}

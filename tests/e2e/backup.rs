//! A running node's data as a backup, and a new cluster made of it: it knows what the old one knew, and delivers what that had not.

use super::crash::{Accounts, sender};
use crate::support::kafka::Kafka;
use crate::support::load::Running;
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, free_port, now_ms};
use crate::support::sluice::Sluice;
use crate::support::trio::{Member, NAMES, Trio, is_private};
use std::net::SocketAddr;
use std::time::Duration;

fn flowing(running: &Running, more: u64) {
    let before = running.acknowledged();
    eventually(Duration::from_secs(60), "samples to flow", || {
        let now = running.acknowledged();
        if now > before + more { Ok(()) } else { Err(format!("{before}, {now}")) }
    });
}

pub(super) fn knows_its_group(node: &Member) {
    eventually(Duration::from_secs(20), "the group to be known", || {
        let groups = node.json("/api/v1/groups")?;
        if groups["groups"][0]["name"] == "g" { Ok(()) } else { Err(groups.to_string()) }
    });
}

#[test]
fn a_backup_of_one_node_of_three_becomes_a_new_cluster_that_delivers_what_the_old_one_had_not() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let scratch = Scratch::new("trio-backup");
    let kafka = Kafka::shared();
    let topic = format!("backup-{}", fastrand::u32(..));
    kafka.create_topic(&topic, 4);
    let sinks = format!("sinks:\n  - name: platform\n    kafka: {{ brokers: [\"{}\"], topic: {topic}, format: rows }}\n", kafka.address());
    let mut trio = Trio::up(&scratch, &sinks);
    let to: Vec<SocketAddr> = trio.nodes.iter().map(|node| node.sluice.address()).collect();
    let running = sender("g", "a", 0).start(to[0]);
    flowing(&running, 500);
    // From here on nothing is delivered by the old cluster: it is what the backup is for.
    trio.nodes[0].must(&["sink", "pause", "platform"]);
    flowing(&running, 500);
    let before = Accounts::of(vec![running], Vec::new());
    let old = trio.nodes[0].json("/api/v1/cluster").unwrap()["id"].clone();
    let told = trio.nodes[1].must(&["cluster", "backup", "first"]);
    let path = trio.nodes[1].sluice.data().join("backups/first");
    assert!(told.contains(&path.display().to_string()) && is_private(&path.join("backup.json")) && is_private(&path), "{told}");
    let again = trio.nodes[1].ask(&["cluster", "backup", "first"]).expect_err("it is there");
    assert!(again.contains("is there already"), "{again}");
    let kept = scratch.join("kept");
    assert!(std::process::Command::new("cp").args(["-r".as_ref(), path.as_os_str(), kept.as_os_str()]).status().unwrap().success());
    let kept = kept.display().to_string();
    let config = trio.nodes[0].sluice.config();
    let full = trio.nodes[0].ask(&["cluster", "restore", &kept, "--config", &config]).expect_err("there is data");
    assert!(full.contains("holds data already"), "{full}");

    // Everything burns down.
    for node in &mut trio.nodes {
        node.sluice.kill();
        std::fs::remove_dir_all(node.sluice.data()).unwrap();
    }
    let stranger = trio.nodes[0].ask(&["cluster", "restore", &kept, "--config", &config]).expect_err("it has no certificate");
    assert!(stranger.contains("sluice cluster join BUNDLE"), "{stranger}");
    trio.nodes[0].must(&["cluster", "join", &trio.bundle(), "--config", &config, "--node", NAMES[0]]);
    let restored = trio.nodes[0].must(&["cluster", "restore", &kept, "--config", &config]);
    assert!(restored.contains("a cluster of its own") && restored.contains("sluice cluster add"), "{restored}");
    trio.nodes[0].sluice.launch();
    trio.nodes[0].sluice.wait_ready(Duration::from_secs(60));
    let new = trio.nodes[0].json("/api/v1/cluster").unwrap()["id"].clone();
    assert!(new.is_string() && new != old, "{old} {new}");
    knows_its_group(&trio.nodes[0]);
    for (node, name) in NAMES.iter().enumerate().skip(1) {
        trio.nodes[node].must(&["cluster", "join", &trio.bundle(), "--config", &trio.nodes[node].sluice.config(), "--node", name]);
        trio.nodes[node].sluice.launch();
        eventually(Duration::from_secs(60), "it to be added", || trio.nodes[0].ask(&["cluster", "add", name]).map(drop));
        trio.nodes[node].sluice.wait_ready(Duration::from_secs(60));
    }
    trio.wait_well();
    // It was held when the backup was made, and so it is now.
    trio.nodes[1].must(&["sink", "resume", "platform"]);
    let after = sender("h", "a", 0).start(to[2]);
    flowing(&after, 500);
    let after = Accounts::of(vec![after], Vec::new());
    after.arrived(&kafka.reader(&topic));
    before.arrived(&kafka.reader(&topic));
    trio.nodes.iter_mut().for_each(|node| node.sluice.stop());
    // A node that is all there is can have it, too.
    let mut one = alone(&scratch, &sinks);
    let restored = one.must(&["cluster", "restore", &kept, "--config", &one.sluice.config()]);
    assert!(restored.contains("restored from the backup"), "{restored}");
    one.sluice.up();
    knows_its_group(&one);
    eventually(Duration::from_secs(20), "a write to be taken", || {
        let answer = one.write(sender("g", "a", 0).body(now_ms()))?;
        if answer.status() == 204 { Ok(()) } else { Err(format!("{} {}", answer.status(), answer.text())) }
    });
    one.sluice.stop();
}

/// A node that is all there is, not started.
pub(super) fn alone(scratch: &Scratch, sinks: &str) -> Member {
    let dir = scratch.sub("alone");
    let port = free_port();
    let text = format!("listen: 127.0.0.1:{port}\nname: alone\ndata_dir: {}\n{sinks}", dir.join("data").display());
    Member { name: "alone", sluice: Sluice::prepare_as("alone", dir, SocketAddr::from(([127, 0, 0, 1], port)), &text, None) }
}

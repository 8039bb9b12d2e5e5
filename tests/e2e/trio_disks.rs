//! One node's disk, or two nodes', full, slow and failing, under load. One such node costs nothing; two full ones cost that samples wait.
//!
//! Every test ends in `Loaded::finish`: nothing acknowledged is missing, nothing is there twice, all nodes are well and hold the same.

use super::crash::sender;
use super::loaded::{Loaded, PAIRS};
use crate::support::disk::{SmallDisk, fail_fsync, slow_fsync};
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, let_pass, now_ms};
use crate::support::trio::{NAMES, Shape};
use std::time::Duration;

/// Of which a tenth is the reserve.
const MEGABYTES: u32 = 256;
/// Less than the reserve, and more than half of it.
const BELOW_RESERVE: u64 = 22 << 20;
/// Less than half of it.
const NEARLY_USED_UP: u64 = 9 << 20;

/// The data shards that a node leads, in its own eyes.
fn led_by(loaded: &Loaded, node: usize) -> Result<Vec<u64>, String> {
    let view = loaded.trio.nodes[node].json("/api/v1/cluster")?;
    let shards = view["shards"].as_array().ok_or("no shards")?.iter();
    Ok(shards.filter(|shard| shard["leader"] == *NAMES[node]).filter_map(|shard| shard["shard"].as_u64()).collect())
}

#[track_caller]
fn wait_for_write(loaded: &Loaded, node: usize, status: u16, words: &str) {
    eventually(Duration::from_secs(30), &format!("{} to answer {status}", NAMES[node]), || {
        // Of a group of its own: one that is still taken is in nobody's account.
        let answer = loaded.trio.nodes[node].write(sender("asked", "a", 0).body(now_ms()))?;
        let text = answer.text();
        if answer.status() == status && text.contains(words) { Ok(()) } else { Err(format!("{} {text}", answer.first)) }
    });
}

#[test]
fn a_node_whose_disk_is_full_leads_nothing_and_the_others_take_everything() {
    if !need(&[Peer::Kafka, Peer::Tmpfs]) {
        return;
    }
    let scratch = Scratch::new("one-full");
    let disk = SmallDisk::named(&scratch, "full-n2", MEGABYTES);
    let mut loaded = Loaded::up(&scratch, "one-full", Shape { disks: [None, Some(&disk), None], ..Shape::default() });
    loaded.wait_balanced();
    for left in [BELOW_RESERVE, NEARLY_USED_UP] {
        disk.fill_but(left);
        eventually(Duration::from_secs(30), "the full node to lead nothing", || match led_by(&loaded, 1)? {
            none if none.is_empty() => Ok(()),
            some => Err(format!("{some:?}")),
        });
        // It passes on what comes, whoever decides on it has room.
        loaded.flows(&[0, 1, 2], 1000);
        eventually(Duration::from_secs(10), "the others to say so", || {
            let status = loaded.trio.nodes[0].run(&["cluster", "status"]);
            let text = String::from_utf8_lossy(&status.stdout).into_owned();
            if status.status.code() == Some(1) && text.contains("full to its reserve") { Ok(()) } else { Err(text) }
        });
    }
    disk.free();
    loaded.wait_well();
    eventually(Duration::from_secs(60), "it to lead again", || match led_by(&loaded, 1)? {
        none if none.is_empty() => Err("nothing".to_owned()),
        _ => Ok(()),
    });
    loaded.finish("one full disk");
}

#[test]
fn with_two_disks_full_samples_wait_and_cursors_switches_and_members_do_not() {
    if !need(&[Peer::Kafka, Peer::Tmpfs]) {
        return;
    }
    let scratch = Scratch::new("two-full");
    let disks = ["full-n1", "full-n2"].map(|name| SmallDisk::named(&scratch, name, MEGABYTES));
    let mut loaded = Loaded::up(&scratch, "two-full", Shape { disks: [Some(&disks[0]), Some(&disks[1]), None], ..Shape::default() });
    for disk in &disks {
        disk.fill_but(BELOW_RESERVE);
    }
    for node in 0..3 {
        wait_for_write(&loaded, node, 503, "disk");
    }
    // What was taken is delivered, and the positions of it are agreed on: with the room that is left, on disks of which two are full.
    eventually(Duration::from_secs(60), "everything that was taken to be delivered", || {
        let sinks = loaded.trio.nodes[2].json("/api/v1/sinks")?;
        let pending = &sinks["sinks"][0]["pending"];
        if *pending == 0 { Ok(()) } else { Err(sinks.to_string()) }
    });
    eventually(Duration::from_secs(20), "a switch", || {
        let answer = loaded.trio.nodes[2].post(&format!("/api/v1/groups/{}/step-down", PAIRS[1]))?;
        if answer.status() == 200 { Ok(()) } else { Err(answer.text()) }
    });
    for node in 0..3 {
        wait_for_write(&loaded, node, 503, "disk");
    }
    // One of the two is given an empty disk and takes its own place as a new node: with a full one among those who agree on that.
    loaded.trio.nodes[1].sluice.kill();
    std::fs::remove_dir_all(disks[1].outside().join("data")).expect("its data");
    disks[1].free();
    let (bundle, config) = (loaded.trio.bundle(), loaded.trio.nodes[1].sluice.config());
    loaded.trio.nodes[1].must(&["cluster", "join", &bundle, "--config", &config, "--node", "n2"]);
    loaded.trio.nodes[1].sluice.launch();
    let done = eventually(Duration::from_secs(60), "it to be replaced", || loaded.trio.nodes[0].ask(&["cluster", "replace", "n2"]));
    assert!(done.contains("every shard has its seats"), "{done}");
    // One with room beside the one that had it all the time: a majority.
    loaded.flows(&[0, 1, 2], 500);
    disks[0].free();
    loaded.wait_well();
    loaded.finish("two full disks");
}

#[test]
fn a_disk_without_a_byte_left_costs_its_node_and_once_there_is_room_it_takes_what_it_lacks() {
    if !need(&[Peer::Kafka, Peer::Tmpfs]) {
        return;
    }
    let scratch = Scratch::new("no-byte");
    let disk = SmallDisk::named(&scratch, "full-n2", MEGABYTES);
    // Away for longer than this it finds no log any more, and takes snapshots.
    let shape = Shape { more: "  away: 10s\n", disks: [None, Some(&disk), None], ..Shape::default() };
    let mut loaded = Loaded::up(&scratch, "no-byte", shape);
    loaded.wait_balanced();
    disk.fill();
    loaded.flows(&[0, 2], 2000);
    // It may have ended by itself: what could not be written is not promised.
    loaded.trio.nodes[1].sluice.kill();
    loaded.trio.nodes[1].sluice.launch();
    let (status, log) = loaded.trio.nodes[1].sluice.wait_death(Duration::from_secs(60));
    assert!(!status.success() && (log.contains("No space left") || log.contains("space")), "{status}: {log}");
    loaded.flows(&[0, 2], 2000);
    let_pass(Duration::from_secs(14));
    // Enough to start, too little to take anything.
    disk.free();
    disk.fill_but(NEARLY_USED_UP);
    loaded.trio.nodes[1].sluice.launch();
    let_pass(Duration::from_secs(5));
    loaded.flows(&[0, 2], 1000);
    disk.free();
    loaded.wait_well();
    loaded.finish("no byte left");
}

#[test]
fn a_disk_that_gets_slow_and_then_fails_holds_nobody_up_and_ends_its_node_only() {
    if !need(&[Peer::Kafka, Peer::Strace]) {
        return;
    }
    let scratch = Scratch::new("slow-disk");
    let mut loaded = Loaded::up(&scratch, "slow-disk", Shape::default());
    let failing = loaded.leader_of(PAIRS[0], 0);
    let pid = loaded.trio.nodes[failing].sluice.process().pid();
    let strace = slow_fsync(pid, &scratch, Duration::from_millis(400));
    let_pass(Duration::from_secs(2));
    loaded.flows(&[0, 1, 2], 1000);
    drop(strace);
    let strace = fail_fsync(pid, &scratch);
    let (status, log) = loaded.trio.nodes[failing].sluice.wait_death(Duration::from_secs(30));
    drop(strace);
    assert!(!status.success() && (log.contains("sync") || log.contains("Input/output error")), "{status}: {log}");
    loaded.flows(&[(failing + 1) % 3, (failing + 2) % 3], 1000);
    loaded.trio.nodes[failing].sluice.launch();
    loaded.wait_well();
    loaded.finish("slow and failing disk");
}

//! Three nodes of which one has a wrong clock: it is not founded with, and where it comes about later, the others lead.

use super::crash::sender;
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, now_ms};
use crate::support::trio::{NOWHERE, Trio};
use std::time::Duration;

#[test]
fn a_node_with_a_wrong_clock_is_not_founded_with_and_leads_nothing() {
    if !need(&[Peer::Faketime]) {
        return;
    }
    let scratch = Scratch::new("clocks");
    let mut trio = Trio::prepare(&scratch, NOWHERE);
    trio.join();
    trio.nodes[..2].iter_mut().for_each(|node| node.sluice.launch());
    trio.nodes[2].sluice.launch_at("+10s");
    eventually(Duration::from_secs(30), "the wrong clock to be named", || {
        let early = trio.nodes[0].ask(&["cluster", "init"]).expect_err("n3's clock is wrong");
        if early.contains("n3: its clock differs by") && early.contains("set both by NTP") { Ok(()) } else { Err(early) }
    });
    trio.nodes[2].sluice.kill();
    trio.nodes[2].sluice.launch();
    trio.init();
    trio.nodes.iter_mut().for_each(|node| node.sluice.wait_ready(Duration::from_secs(60)));
    trio.wait_well();

    // It comes about later, on a node that leads.
    trio.nodes[0].must(&["cluster", "transfer", "--all", "--to", "n3"]);
    trio.nodes[2].sluice.stop();
    trio.nodes[2].sluice.launch_at("-10s");
    trio.nodes[2].sluice.wait_ready(Duration::from_secs(60));
    eventually(Duration::from_secs(30), "n3 to say so", || {
        let status = trio.nodes[2].run(&["cluster", "status"]);
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        let told = text.contains("this node's clock is off the median") && text.contains("set it by NTP");
        if told && status.status.code() == Some(1) { Ok(()) } else { Err(text) }
    });
    let refused = trio.nodes[0].ask(&["cluster", "transfer", "--all", "--to", "n3"]).expect_err("its clock is wrong");
    assert!(refused.contains("its clock is wrong"), "{refused}");
    eventually(Duration::from_secs(30), "others to lead everything", || {
        let view = trio.nodes[0].json("/api/v1/cluster")?;
        let shards = view["shards"].as_array().cloned().unwrap_or_default();
        let led = shards.iter().all(|shard| shard["leader"] == "n1" || shard["leader"] == "n2");
        if led && shards.len() == 4 { Ok(()) } else { Err(view["shards"].to_string()) }
    });
    // It takes what comes all the same, and passes it on.
    eventually(Duration::from_secs(20), "the write to be taken", || {
        let answer = trio.nodes[2].write(sender("g", "a", 0).body(now_ms()))?;
        if answer.status() == 204 { Ok(()) } else { Err(format!("{} {}", answer.status(), answer.text())) }
    });
    trio.nodes[2].sluice.stop();
    trio.nodes[2].sluice.launch();
    trio.nodes[2].sluice.wait_ready(Duration::from_secs(60));
    trio.wait_well();
    trio.nodes.iter_mut().for_each(|node| node.sluice.stop());
}

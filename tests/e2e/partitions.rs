//! Three nodes whose network fails in every way in which networks do, under load: split, cut in one direction, bridged, slow, narrow, flapping.
//!
//! Every test ends in `Loaded::finish`: nothing acknowledged is missing, nothing is there twice, all nodes are well and hold the same.

use super::crash::sender;
use super::loaded::{Loaded, PAIRS};
use crate::support::faults::{Faults, Way};
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, let_pass, now_ms};
use crate::support::trio::Shape;
use std::time::Duration;

/// Longer than an election, and than a connection that says nothing is kept.
const WHILE: Duration = Duration::from_secs(6);

fn up(scratch: &Scratch, name: &str) -> Loaded {
    Loaded::up(scratch, name, Shape { faults: true, ..Shape::default() })
}

/// The other two.
fn others(node: usize) -> [usize; 2] {
    [(node + 1) % 3, (node + 2) % 3]
}

/// Does something to the network around the node that leads a group's shard, and sees the other two go on and the node know it; then heals it.
#[track_caller]
fn leader_loses_touch(loaded: &mut Loaded, group: &str, what: &str, fault: impl Fn(&Faults, usize)) {
    let leader = loaded.leader_of(group, 0);
    let since = now_ms();
    fault(loaded.trio.faults(), leader);
    loaded.wait_for_another(group, leader, others(leader)[0]);
    eprintln!("{what}: another one leads after {} ms", now_ms() - since);
    loaded.flows(&others(leader), 500);
    refuses(loaded, leader);
    let_pass(WHILE);
    loaded.trio.faults().everywhere(Way::Open);
    loaded.wait_well();
}

/// A node without the others answers 503, and says when to come back.
#[track_caller]
fn refuses(loaded: &Loaded, node: usize) {
    eventually(Duration::from_secs(20), "503 of a node that is alone", || {
        let answer = loaded.trio.nodes[node].write(sender("other", "a", 0).body(now_ms()))?;
        let refused = answer.status() == 503 && answer.header("retry-after").is_some();
        if refused { Ok(()) } else { Err(format!("{} {}", answer.first, answer.text())) }
    });
}

#[test]
fn a_leader_split_from_both_others_gives_way_and_comes_back_as_a_follower() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let scratch = Scratch::new("split");
    let mut loaded = up(&scratch, "split");
    leader_loses_touch(&mut loaded, PAIRS[0], "split, closed", |faults, leader| faults.around(leader, Way::Closed));
    leader_loses_touch(&mut loaded, PAIRS[1], "split, swallowed", |faults, leader| faults.around(leader, Way::Held));
    loaded.finish("split");
}

#[test]
fn a_follower_that_is_isolated_holds_nobody_up_and_catches_up() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let scratch = Scratch::new("isolated");
    let mut loaded = up(&scratch, "isolated");
    loaded.wait_balanced();
    for (group, way) in [(PAIRS[0], Way::Held), (PAIRS[1], Way::Closed)] {
        let leader = loaded.leader_of(group, 0);
        let [isolated, _] = others(leader);
        loaded.trio.faults().around(isolated, way);
        loaded.flows(&others(isolated), 1000);
        refuses(&loaded, isolated);
        // Balance may have moved it between the two, but it never was without a leader for long.
        assert_ne!(loaded.leader_of(group, leader), isolated, "who leads goes on");
        let_pass(WHILE);
        loaded.trio.faults().everywhere(Way::Open);
        loaded.wait_well();
    }
    loaded.finish("isolated");
}

#[test]
fn a_leader_that_can_only_send_or_only_receive_gives_way() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let scratch = Scratch::new("one-way");
    let mut loaded = up(&scratch, "one-way");
    leader_loses_touch(&mut loaded, PAIRS[0], "it cannot receive", |faults, leader| {
        others(leader).iter().for_each(|other| faults.set(*other, leader, Way::Held));
    });
    leader_loses_touch(&mut loaded, PAIRS[1], "it cannot send", |faults, leader| {
        others(leader).iter().for_each(|other| faults.set(leader, *other, Way::Held));
    });
    loaded.finish("one way");
}

#[test]
fn with_the_way_between_two_nodes_cut_the_third_takes_everything_and_nobody_loses_leadership() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let scratch = Scratch::new("bridge");
    let mut loaded = up(&scratch, "bridge");
    loaded.wait_balanced();
    for (group, way) in [(PAIRS[0], Way::Held), (PAIRS[1], Way::Closed)] {
        let leader = loaded.leader_of(group, 0);
        let [cut, bridge] = others(leader);
        loaded.trio.faults().between_both(leader, cut, way);
        let_pass(WHILE);
        // Whoever sees all takes samples of groups that either of the others leads.
        loaded.flows(&[bridge], 500);
        assert_eq!(loaded.leader_of(group, bridge), leader, "a majority sees its leader, so nothing moves");
        loaded.trio.faults().everywhere(Way::Open);
        loaded.wait_well();
    }
    loaded.finish("bridge");
}

#[test]
fn a_slow_network_and_a_narrow_way_to_one_node_cost_time_and_nothing_else() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let scratch = Scratch::new("slow");
    let mut loaded = up(&scratch, "slow");
    loaded.trio.faults().everywhere(Way::Late(Duration::from_millis(150), Duration::from_millis(100)));
    let_pass(WHILE);
    loaded.flows(&[0, 1, 2], 500);
    loaded.trio.faults().everywhere(Way::Open);
    let leader = loaded.leader_of(PAIRS[0], 0);
    let [narrow, other] = others(leader);
    loaded.trio.faults().around(narrow, Way::Narrow(20 << 10));
    let_pass(WHILE);
    loaded.flows(&[leader, other], 500);
    loaded.trio.faults().everywhere(Way::Open);
    loaded.wait_well();
    loaded.finish("slow");
}

#[test]
fn a_network_that_comes_and_goes_loses_nothing_and_doubles_nothing() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let scratch = Scratch::new("flapping");
    let loaded = up(&scratch, "flapping");
    for _ in 0..20 {
        let (one, way) = (fastrand::usize(0..3), if fastrand::bool() { Way::Held } else { Way::Closed });
        let [other, third] = others(one);
        let faults = loaded.trio.faults();
        match fastrand::u8(0..4) {
            0 => faults.around(one, way),
            1 => faults.between_both(one, other, way),
            2 => faults.set(one, other, way),
            _ => {
                faults.set(one, other, way);
                faults.set(third, one, Way::Held);
            }
        }
        let_pass(Duration::from_millis(fastrand::u64(100..1_500)));
        faults.everywhere(Way::Open);
        let_pass(Duration::from_millis(fastrand::u64(0..800)));
    }
    loaded.finish("flapping");
}

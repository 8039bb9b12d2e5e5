//! What a service manager hears of a node, and that the watchdog of one that stands still is not fed. The manager's part is played by a socket, as systemd listens at one;
//! systemd itself takes no part (docs/testing.md).

use crate::support::disk::slow_fsync;
use crate::support::load::Sender;
use crate::support::manager::Manager;
use crate::support::peers::{Peer, need};
use crate::support::process::{Process, Scratch, Signal, eventually, let_pass};
use crate::support::sluice::Sluice;
use crate::support::trio::{NOWHERE, Trio};
use std::time::Duration;

/// Long enough for a machine that is busy with other tests: parts must move within a third of it, and it is fed six times in it.
const WATCHDOG: Duration = Duration::from_secs(9);
const SOON: Duration = Duration::from_secs(60);

fn alone(scratch: &Scratch) -> Sluice {
    Sluice::prepare(scratch, "127.0.0.1:9", "nowhere", "", None)
}

/// It is fed no more within a time in which it would have been fed six times.
#[track_caller]
fn starves(manager: &Manager, log: &dyn Fn() -> String, part: &str) {
    eventually(SOON, "the log to say what stands still", || {
        let log = log();
        if log.contains("the watchdog is not fed any more") && log.contains(part) { Ok(()) } else { Err(log) }
    });
    let before = manager.count("WATCHDOG=1");
    let_pass(WATCHDOG);
    assert_eq!(manager.count("WATCHDOG=1"), before, "{:?}", manager.heard());
}

#[test]
fn a_node_tells_its_manager_all_of_its_life() {
    let scratch = Scratch::new("service");
    let manager = Manager::new(&scratch, "one");
    let mut sluice = alone(&scratch);
    sluice.launch_as_service(manager.path(), WATCHDOG, None);
    manager.wait_more("READY=1", 0, SOON);
    assert_eq!(sluice.get("/-/ready").status(), 200, "what is ready takes samples");
    manager.wait_more("WATCHDOG=1", 3, SOON);
    manager.wait_more("STATUS=leads ", 0, SOON);
    let log = std::fs::read_to_string(sluice.log()).expect("its log");
    assert!(log.lines().any(|line| line.starts_with("<6>2") && line.contains("ready")), "lines have priorities in the journal: {log}");
    sluice.process_ref().signal(Signal::HUP);
    manager.wait_more("RELOADING=1\nMONOTONIC_USEC=", 0, SOON);
    manager.wait_more("READY=1", 1, SOON);
    sluice.stop();
    let heard = manager.heard();
    let last = heard.iter().rposition(|one| one.starts_with("STOPPING=1")).expect("it said that it ends");
    assert!(heard[last..].iter().all(|one| !one.contains("READY=1")), "{heard:?}");
    let first = heard.iter().position(|one| one.contains("READY=1")).expect("it was ready");
    assert!(heard[..first].iter().all(|one| !one.contains("WATCHDOG=1")), "{heard:?}");
}

#[test]
fn one_of_three_is_ready_to_its_manager_while_it_waits_for_the_others() {
    let scratch = Scratch::new("service-trio");
    let managers = ["n1", "n2", "n3"].map(|name| Manager::new(&scratch, name));
    let mut trio = Trio::prepare(&scratch, NOWHERE);
    trio.join();
    for (node, manager) in trio.nodes.iter_mut().zip(&managers) {
        node.sluice.launch_as_service(manager.path(), WATCHDOG, None);
        manager.wait_more("READY=1\nSTATUS=waits: this node belongs to no cluster yet", 0, SOON);
        assert_eq!(node.get("/-/ready").expect("it answers").status(), 503);
    }
    trio.init();
    trio.nodes.iter_mut().for_each(|node| node.sluice.wait_ready(SOON));
    managers.iter().for_each(|manager| manager.wait_more("STATUS=leads ", 0, SOON));
    // Two are stopped; one that is started without a majority is ready to its manager, and says why it is no use.
    trio.nodes.iter_mut().for_each(|node| node.sluice.stop());
    trio.nodes[0].sluice.launch_as_service(managers[0].path(), WATCHDOG, None);
    managers[0].wait_more("READY=1\nSTATUS=waits: not every shard has a leader", 0, SOON);
    let fed = managers[0].count("WATCHDOG=1");
    managers[0].wait_more("WATCHDOG=1", fed + 2, SOON);
    trio.nodes[0].sluice.stop();
}

#[test]
fn a_shard_that_stands_still_is_not_fed() {
    let scratch = Scratch::new("service-hang");
    let manager = Manager::new(&scratch, "one");
    let mut sluice = alone(&scratch);
    // What a node proposes by itself while it starts is less than that.
    sluice.launch_as_service(manager.path(), WATCHDOG, Some("applied.unanswered:150:hang"));
    manager.wait_more("READY=1", 0, SOON);
    manager.wait_more("WATCHDOG=1", 1, SOON);
    let sender = Sender { group: "shop".to_owned(), replica: "a".to_owned(), series: 3, interval: 20, offset: 0 };
    let load = sender.start(sluice.address());
    let log = sluice.log();
    starves(&manager, &|| crate::support::process::tail(&log, 4000), "the thread of shard");
    // As the manager would.
    sluice.kill();
    sluice.up();
    assert_eq!(load.stop().refused, Vec::<String>::new());
    sluice.stop();
}

#[test]
fn a_disk_that_hangs_is_not_fed_until_it_moves_again() {
    if !need(&[Peer::Strace]) {
        return;
    }
    let scratch = Scratch::new("service-disk");
    let manager = Manager::new(&scratch, "one");
    let mut sluice = alone(&scratch);
    sluice.launch_as_service(manager.path(), WATCHDOG, None);
    manager.wait_more("WATCHDOG=1", 1, SOON);
    // Nobody writes: the disk is asked all the same.
    let strace: Process = slow_fsync(sluice.process().pid(), &scratch, Duration::from_secs(600));
    let log = sluice.log();
    starves(&manager, &|| crate::support::process::tail(&log, 4000), "the disk");
    drop(strace);
    let fed = manager.count("WATCHDOG=1");
    manager.wait_more("WATCHDOG=1", fed + 1, SOON);
    sluice.stop();
}

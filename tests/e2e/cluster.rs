//! Three nodes as one: founded as an operator would, killed one after the other under load, and left without a majority.

use super::crash::{Accounts, INTERVAL, sender};
use crate::support::kafka::Kafka;
use crate::support::load::Running;
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, Signal, eventually, let_pass, now_ms};
use crate::support::trio::{Trio, is_private};
use std::path::Path;
use std::time::Duration;

/// A sink that reaches nobody: these tests look at the door only.
const NOWHERE: &str = "sinks:\n  - name: nowhere\n    kafka: { brokers: [\"127.0.0.1:9\"], topic: t, format: rows }\n";

#[test]
fn a_cluster_is_founded_by_a_few_commands_and_each_wrong_step_says_what_to_do() {
    let scratch = Scratch::new("founding");
    let mut trio = Trio::prepare(&scratch, NOWHERE);
    let refused = trio.nodes[0].ask(&["run", "--config", &trio.nodes[0].sluice.config()]).expect_err("it has no certificate");
    assert!(refused.contains("sluice cluster join BUNDLE"), "{refused}");
    trio.join();
    assert!(is_private(Path::new(&trio.bundle())) && is_private(&trio.nodes[1].sluice.data().join("cluster/node.key")));
    let again = trio.nodes[0].ask(&["cluster", "prepare", "--bundle", &trio.bundle(), "--config", &trio.nodes[0].sluice.config()]);
    assert!(again.expect_err("it would lock out who joined").contains("is there already"));

    trio.nodes[..2].iter_mut().for_each(|node| node.sluice.launch());
    eventually(Duration::from_secs(30), "n1 to see n2", || {
        let ready = trio.nodes[0].get("/-/ready")?.text();
        if ready.contains("sluice cluster init") && ready.contains("it sees n2") { Ok(()) } else { Err(ready) }
    });
    let status = trio.nodes[0].run(&["cluster", "status"]);
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.status.code() == Some(2) && text.contains("waiting_for_init") && text.contains("unreachable"), "{text}");
    assert!(trio.nodes[0].json("/api/v1/status").unwrap()["cluster"]["phase"] == "waiting_for_init");
    let write = trio.nodes[0].write(sender("g", "a", 0).body(now_ms())).unwrap();
    assert_eq!((write.status(), write.header("retry-after").is_some()), (503, true), "{}", write.text());
    let early = trio.nodes[1].ask(&["cluster", "init"]).expect_err("n3 is not there");
    assert!(early.contains("n3: ") && early.contains("run `sluice cluster init` again"), "{early}");

    // A file of its own opinion is found out before anything is founded.
    let file = trio.nodes[2].sluice.config();
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, good.replace("shards: 3", "shards: 4")).unwrap();
    trio.nodes[2].sluice.launch();
    eventually(Duration::from_secs(30), "the differing file to be named", || {
        let early = trio.nodes[0].ask(&["cluster", "init"]).expect_err("n3 has another file");
        if early.contains("n3: its configuration differs") { Ok(()) } else { Err(early) }
    });
    trio.nodes[2].sluice.kill();
    std::fs::write(&file, good).unwrap();
    trio.nodes[2].sluice.launch();
    trio.init();
    trio.nodes.iter_mut().for_each(|node| node.sluice.wait_ready(Duration::from_secs(60)));
    trio.wait_well();
    let id = |node: usize| trio.nodes[node].json("/api/v1/cluster").unwrap()["id"].clone();
    let (first, done) = (id(0), trio.nodes[2].must(&["cluster", "init"]));
    assert!(done.contains(first.as_str().unwrap()), "asked again nothing changes: {done}");
    assert!(id(1) == first && id(2) == first);

    // Any node takes any write.
    for node in [0, 1, 2, 0] {
        eventually(Duration::from_secs(20), "the write to be taken", || {
            let answer = trio.nodes[node].write(sender("g", "a", 0).body(now_ms()))?;
            if answer.status() == 204 { Ok(()) } else { Err(format!("{} {}", answer.status(), answer.text())) }
        });
    }
    // A node whose data is gone does not come back under its old id.
    trio.nodes[2].sluice.stop();
    std::fs::remove_dir_all(trio.nodes[2].sluice.data().join("db")).unwrap();
    std::fs::remove_file(trio.nodes[2].sluice.data().join("identity.json")).unwrap();
    std::fs::remove_file(trio.nodes[2].sluice.data().join("acked")).unwrap();
    let refused = trio.nodes[2].ask(&["run", "--config", &trio.nodes[2].sluice.config()]).expect_err("its promises are gone");
    assert!(refused.contains("the data is gone"), "{refused}");
    trio.nodes[..2].iter_mut().for_each(|node| node.sluice.stop());
}

#[test]
fn without_a_majority_samples_are_answered_503_and_with_one_they_are_taken_again() {
    let scratch = Scratch::new("majority");
    let mut trio = Trio::up(&scratch, NOWHERE);
    let taken = |trio: &Trio, deadline| {
        eventually(Duration::from_secs(deadline), "a write to be taken", || {
            let answer = trio.nodes[0].write(sender("g", "a", 0).body(now_ms()))?;
            if answer.status() == 204 { Ok(()) } else { Err(format!("{} {}", answer.status(), answer.text())) }
        });
    };
    taken(&trio, 20);
    trio.nodes[1].sluice.kill();
    taken(&trio, 20);
    trio.nodes[2].sluice.kill();
    eventually(Duration::from_secs(20), "the node to know that it is alone", || {
        let status = trio.nodes[0].run(&["cluster", "status"]);
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        let alone = status.status.code() == Some(2) && text.contains("shards 0, 1, 2, 3 have no leader");
        if alone { Ok(()) } else { Err(text) }
    });
    let started = std::time::Instant::now();
    let answer = trio.nodes[0].write(sender("g", "a", 0).body(now_ms())).unwrap();
    assert_eq!((answer.status(), answer.header("retry-after").is_some()), (503, true), "{}", answer.text());
    eprintln!("majority: 503 after {} ms", started.elapsed().as_millis());
    assert_eq!(trio.nodes[0].get("/-/ready").unwrap().status(), 503);
    trio.nodes[2].sluice.launch();
    taken(&trio, 60);
    eventually(Duration::from_secs(20), "only the node that is still away to be complained of", || {
        let status = trio.nodes[0].run(&["cluster", "status"]);
        if status.status.code() == Some(1) { Ok(()) } else { Err(String::from_utf8_lossy(&status.stdout).into_owned()) }
    });
    trio.nodes[1].sluice.launch();
    trio.wait_well();
    trio.nodes.iter_mut().for_each(|node| node.sluice.stop());
}

#[test]
fn killing_or_pausing_whichever_node_leads_loses_nothing_acknowledged_and_doubles_nothing() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let scratch = Scratch::new("trio-kills");
    let kafka = Kafka::shared();
    let topic = format!("trio-{}", fastrand::u32(..));
    kafka.create_topic(&topic, 4);
    let sinks = format!("sinks:\n  - name: platform\n    kafka: {{ brokers: [\"{}\"], topic: {topic}, format: rows }}\n", kafka.address());
    let mut trio = Trio::up(&scratch, &sinks);
    let to: Vec<_> = trio.nodes.iter().map(|node| node.sluice.address()).collect();
    // Replicas of their own, one a node, of whose samples each must come through; and pairs on different nodes, of which one copy must.
    let alone: Vec<Running> = (0..3).map(|number| sender(&format!("alone-{number}"), "a", 0).start(to[number])).collect();
    let pair = |number: usize| {
        let replica = |name, offset, node: usize| sender(&format!("pair-{number}"), name, offset).start(to[node % 3]);
        [replica("a", 0, number), replica("b", 70, number + 1)]
    };
    let pairs: Vec<[Running; 2]> = (0..2).map(pair).collect();
    eventually(Duration::from_secs(30), "samples to flow", || {
        let few = alone.iter().chain(pairs.iter().flatten()).map(Running::acknowledged).min().unwrap_or(0);
        if few > 500 { Ok(()) } else { Err(format!("{few}")) }
    });
    // Killed six times; then stopped in the middle of whatever they did, and let go on when another one leads.
    for round in 0..9 {
        let (asked, paused) = (round % 3, round >= 6);
        let group = ["pair-0", "alone-0", "pair-1", "alone-1", "pair-0", "alone-2"][round % 6];
        let leader = eventually(Duration::from_secs(30), "the shard's leader", || trio.leader_of(group, asked));
        let killed = now_ms();
        if paused {
            trio.nodes[leader].sluice.process().signal(Signal::STOP);
        } else {
            trio.nodes[leader].sluice.kill();
        }
        let witness = (leader + 1) % 3;
        eventually(Duration::from_secs(30), "another leader", || match trio.leader_of(group, witness) {
            Ok(other) if other != leader => Ok(()),
            other => Err(format!("{other:?}")),
        });
        let what = if paused { "paused" } else { "killed" };
        eprintln!("trio: round {round}: {} led {group}, {what}; another one leads after {} ms", trio.nodes[leader].name, now_ms() - killed);
        let_pass(Duration::from_millis(fastrand::u64(0..3_000)));
        if paused {
            trio.nodes[leader].sluice.process().signal(Signal::CONT);
        } else {
            trio.nodes[leader].sluice.launch();
        }
        trio.nodes[leader].sluice.wait_ready(Duration::from_secs(60));
        trio.wait_well();
    }
    let accounts = Accounts::of(alone, pairs);
    let received = accounts.read_back(&kafka.reader(&topic), || trio.nodes.iter_mut().for_each(|node| node.sluice.stop()));
    eprintln!("trio: every {INTERVAL} ms, {}", accounts.told(&received));
}

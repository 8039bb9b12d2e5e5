//! Three nodes as one: founded as an operator would, killed one after the other under load, and left without a majority.

use super::crash::{Accounts, INTERVAL, sender};
use crate::support::kafka::Kafka;
use crate::support::load::Running;
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, Signal, eventually, let_pass, now_ms};
use crate::support::trio::{NOWHERE, Trio, is_private};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

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
    tells_what_it_waits_for(&trio, &scratch);
    // One that waits ends when it is told to.
    trio.nodes[1].sluice.stop();
    trio.nodes[1].sluice.launch();
    let early = eventually(Duration::from_secs(30), "n2 to refuse", || match trio.nodes[1].ask(&["cluster", "init"]) {
        Ok(done) => panic!("n3 is not there: {done}"),
        Err(early) if early.contains("n3: ") => Ok(early),
        Err(early) => Err(early),
    });
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
    for node in &trio.nodes {
        let log = std::fs::read_to_string(node.sluice.log()).unwrap();
        assert!(!log.contains("code=\"fenced\""), "{} took a successor for a stranger: {log}", node.name);
    }
    let accounts = Accounts::of(alone, pairs);
    let received = accounts.read_back(&kafka.reader(&topic), || trio.nodes.iter_mut().for_each(|node| node.sluice.stop()));
    eprintln!("trio: every {INTERVAL} ms, {}", accounts.told(&received));
}

#[test]
fn a_node_that_lost_its_disk_is_replaced_under_load_while_nothing_can_be_delivered() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let scratch = Scratch::new("trio-replace");
    let kafka = Kafka::shared();
    let topic = format!("trio-replace-{}", fastrand::u32(..));
    kafka.create_topic(&topic, 4);
    let sinks = format!("sinks:\n  - name: platform\n    kafka: {{ brokers: [\"{}\"], topic: {topic}, format: rows }}\n", kafka.address());
    let mut trio = Trio::up_with(&scratch, &sinks, "  away: 10s\n");
    let to: Vec<_> = trio.nodes.iter().map(|node| node.sluice.address()).collect();
    let alone: Vec<Running> = (0..2).map(|number| sender(&format!("alone-{number}"), "a", 0).start(to[number])).collect();
    let pairs = vec![[sender("pair", "a", 0).start(to[0]), sender("pair", "b", 70).start(to[1])]];
    // To the node that is never killed.
    let flowing = |more: u64| {
        let before = alone[1].acknowledged();
        eventually(Duration::from_secs(60), "samples to flow", || {
            let now = alone[1].acknowledged();
            if now > before + more { Ok(()) } else { Err(format!("{before}, {now}")) }
        });
    };
    flowing(200);
    // From here on nothing is delivered: all of it is in the logs only.
    trio.nodes.iter().for_each(|node| assert_eq!(node.sluice.post("/api/v1/sinks/platform/pause").status(), 200));
    trio.nodes[2].sluice.kill();
    std::fs::remove_dir_all(trio.nodes[2].sluice.data()).unwrap();
    // An image is taken once a minute, and after it the log is cut beyond what anybody remembers of the node that is gone.
    let_pass(Duration::from_secs(85));
    flowing(200);
    let text = trio.nodes[0].ask(&["cluster", "replace", "n3"]).expect_err("it is not there");
    assert!(text.contains("n3: "), "{text}");
    trio.nodes[2].must(&["cluster", "join", &trio.bundle(), "--config", &trio.nodes[2].sluice.config(), "--node", "n3"]);
    trio.nodes[2].sluice.launch();
    eventually(Duration::from_secs(30), "the new node to say what it waits for", || {
        let ready = trio.nodes[2].get("/-/ready")?.text();
        if ready.contains("sluice cluster replace n3") { Ok(()) } else { Err(ready) }
    });
    eventually(Duration::from_secs(30), "the others to say that it waits", || {
        let status = trio.nodes[0].run(&["cluster", "status"]);
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        if text.contains("it waits to be admitted") { Ok(()) } else { Err(text) }
    });
    let wrong = trio.nodes[0].ask(&["cluster", "add", "n3"]).expect_err("there is one of that name");
    assert!(wrong.contains("sluice cluster replace n3"), "{wrong}");
    let done = eventually(Duration::from_secs(60), "n2 to see it, too", || trio.nodes[1].ask(&["cluster", "replace", "n3"]));
    assert!(done.contains("every shard has its seats"), "{done}");
    trio.nodes[2].sluice.wait_ready(Duration::from_secs(60));
    assert_eq!(trio.nodes[2].sluice.post("/api/v1/sinks/platform/pause").status(), 200);
    trio.wait_well();
    let log = std::fs::read_to_string(trio.nodes[2].sluice.log()).unwrap();
    assert!(log.contains("the snapshot is taken"), "the log was still there, so this shows less than it should: {log}");
    flowing(100);
    // The new one holds what the others hold: with one of them gone for good, too, nothing is missing.
    trio.nodes[0].sluice.kill();
    flowing(200);
    trio.nodes[0].sluice.launch();
    trio.nodes[0].sluice.wait_ready(Duration::from_secs(60));
    trio.wait_well();
    trio.nodes.iter().for_each(|node| assert_eq!(node.sluice.post("/api/v1/sinks/platform/resume").status(), 200));
    let accounts = Accounts::of(alone, pairs);
    let received = accounts.read_back(&kafka.reader(&topic), || trio.nodes.iter_mut().for_each(|node| node.sluice.stop()));
    eprintln!("trio, replaced: every {INTERVAL} ms, {}", accounts.told(&received));
}

#[test]
fn a_node_is_drained_restarted_and_given_its_share_again_without_a_refused_request() {
    let scratch = Scratch::new("trio-drain");
    let mut trio =
        Trio::up(&scratch, &NOWHERE.replace("format: rows", "format: rows, properties: { ssl.key.password: canary-of-properties }"));
    let to: Vec<_> = trio.nodes.iter().map(|node| node.sluice.address()).collect();
    // Groups in all shards, written to the two nodes that stay.
    let senders: Vec<Running> =
        (0..6).map(|number| sender(&format!("group-{number}"), "a", number * 30).start(to[number as usize % 2])).collect();
    let leads = |trio: &Trio, node: usize| {
        let view = trio.nodes[1].json("/api/v1/cluster")?;
        let shards = view["shards"].as_array().cloned().unwrap_or_default();
        Ok::<usize, String>(shards.iter().filter(|shard| shard["leader"] == *trio.nodes[node].name).count())
    };
    let has_its_share = |trio: &Trio| {
        eventually(Duration::from_secs(60), "n3 to lead a shard", || match leads(trio, 2)? {
            0 => Err("none".to_owned()),
            _ => Ok(()),
        });
    };
    has_its_share(&trio);
    eventually(Duration::from_secs(20), "the doctor to be content", || {
        let checked = trio.nodes[1].run(&["cluster", "doctor"]);
        let text = String::from_utf8_lossy(&checked.stdout).into_owned();
        let lines =
            ["ok    majority      every shard has one; 1 of 3 nodes may be lost now", "ok    versions", "ok    clocks", "ok    leaders"];
        if lines.into_iter().all(|line| text.contains(line)) { Ok(()) } else { Err(text) }
    });
    let upgrade = trio.nodes[1].must(&["cluster", "upgrade", "status"]);
    assert!(
        upgrade.contains("feature level 1") && upgrade.matches("1 to 1").count() == 3 && upgrade.contains("nothing to finalise"),
        "{upgrade}"
    );
    assert!(trio.nodes[1].must(&["cluster", "upgrade", "finalize"]).contains("already"));
    // By hand: to a node that is there, and not to one that is not.
    let moved = trio.nodes[0].must(&["cluster", "transfer", "--all", "--to", "n3"]);
    assert!(moved.contains("n3 leads shard 0, 1, 2, 3"), "{moved}");
    let unknown = trio.nodes[0].ask(&["cluster", "transfer", "--shard", "1", "--to", "n4"]).expect_err("there is no n4");
    assert!(unknown.contains("there are: n1, n2, n3"), "{unknown}");
    let safe = trio.nodes[2].must(&["cluster", "safe-to-stop"]);
    assert!(safe.contains("keeps a majority"), "{safe}");
    let done = trio.nodes[2].must(&["cluster", "drain"]);
    assert!(done.contains("it leads nothing any more"), "{done}");
    let refused = trio.nodes[0].ask(&["cluster", "transfer", "--shard", "1", "--to", "n3"]).expect_err("n3 is being drained");
    assert!(refused.contains("is being drained"), "{refused}");
    let ready = trio.nodes[2].get("/-/ready").unwrap();
    assert_eq!((ready.status(), ready.text().contains("being drained")), (503, true), "{}", ready.text());
    let answer = trio.nodes[2].write(sender("group-0", "a", 0).body(now_ms())).unwrap();
    assert_eq!((answer.status(), answer.header("connection")), (204, Some("close")), "it takes what comes, and sends away who sent it");
    trio.nodes[2].sluice.stop();
    let alone = trio.nodes[1].ask(&["cluster", "safe-to-stop"]).expect_err("n3 is away");
    assert!(alone.contains("only 1 would be there"), "{alone}");
    let checked = trio.nodes[1].run(&["cluster", "doctor"]);
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.code().is_some_and(|code| code > 0) && text.contains("no further node may be lost now"), "{text}");
    let_pass(Duration::from_secs(3));
    trio.nodes[2].sluice.launch();
    trio.nodes[2].sluice.wait_ready(Duration::from_secs(60));
    has_its_share(&trio);
    trio.wait_well();
    let accounts = Accounts::of(senders, Vec::new());
    assert_eq!(accounts.repeated(), 0, "requests were refused, or went unanswered");
    has_all_but_secrets(&trio, &scratch);
    is_told_that_it_was_removed(&mut trio);
    trio.nodes.iter_mut().for_each(|node| node.sluice.stop());
}

/// Every file of a bundle, by its name.
fn unpacked(bundle: &str, scratch: &Scratch) -> BTreeMap<String, String> {
    let dir = scratch.sub(&format!("unpacked-{}", fastrand::u32(..)));
    let done = std::process::Command::new("tar").args(["xzf", bundle, "-C"]).arg(&dir).output().expect("tar");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let inside = |dir: &Path| std::fs::read_dir(dir).expect("a directory").flatten().map(|entry| entry.path()).collect::<Vec<_>>();
    let files = inside(&dir.join("sluice-debug")).into_iter().flat_map(|node| inside(&node));
    let named = |path: &Path| path.strip_prefix(dir.join("sluice-debug")).expect("below it").display().to_string();
    files.map(|path| (named(&path), std::fs::read_to_string(&path).expect("text"))).collect()
}

/// A bundle of nodes that belong to no cluster yet.
fn tells_what_it_waits_for(trio: &Trio, scratch: &Scratch) {
    let file = scratch.join("waiting.tar.gz").display().to_string();
    let done = trio.nodes[0].must(&["cluster", "debug-bundle", &file]);
    assert!(done.contains("without n3: "), "{done}");
    let files = unpacked(&file, scratch);
    for node in ["n1", "n2"] {
        let has = |name: &str, word: &str| {
            let text = files.get(&format!("{node}/{name}")).unwrap_or_else(|| panic!("no {node}/{name} in {:?}", files.keys()));
            assert!(text.contains(word), "{node}/{name}: {text}");
        };
        has("ready.txt", "not ready: this node belongs to no cluster yet (`sluice cluster init`)");
        has("file.txt", "cluster.nodes[0]");
        has("log.txt", "this node belongs to no cluster yet");
        has("cluster.json", "\"waiting_for_init\"");
        has("version.txt", "sluice ");
        has("disk.txt", "cluster/node.key");
    }
    let key = std::fs::read_to_string(trio.nodes[0].sluice.data().join("cluster/node.key")).unwrap();
    let secret = key.lines().nth(1).unwrap();
    assert!(!files.values().any(|text| text.contains(secret)), "the node's key is in it");
}

/// A bundle for whoever helps: of all nodes, and nothing in it lets anybody in.
fn has_all_but_secrets(trio: &Trio, scratch: &Scratch) {
    let made = trio.nodes[0].must(&["token", "create", "canary"]);
    let token = made.split_whitespace().find(|word| word.starts_with("slc_")).expect("a token").to_owned();
    let own = std::fs::read_to_string(trio.nodes[0].sluice.data().join("local-token")).unwrap();
    let key = std::fs::read_to_string(trio.nodes[0].sluice.data().join("cluster/node.key")).unwrap();
    let file = scratch.sub("bundle").join("bundle.tar.gz").display().to_string();
    let done = trio.nodes[0].must(&["cluster", "debug-bundle", &file]);
    assert!(done.contains("42 files") && is_private(Path::new(&file)), "{done}");
    let files = unpacked(&file, scratch);
    let has = |word: &str| files.values().any(|text| text.contains(word));
    for node in ["n1", "n2", "n3"] {
        for file in ["status.json", "cluster.json", "settings.txt", "file.txt", "metrics.txt", "log.txt", "ready.txt", "disk.txt"] {
            assert!(files.contains_key(&format!("{node}/{file}")), "no {node}/{file}");
        }
    }
    assert!(
        has("sinks[0].kafka.properties.ssl.key.password: (hidden)")
            && has("sluice_shard_leads")
            && has("this node is part of a cluster now")
    );
    let secret_line = key.lines().nth(1).unwrap();
    for secret in ["canary-of-properties", &token, &token[4..], own.trim(), secret_line] {
        assert!(!has(secret), "it holds {secret}");
    }
    assert!(trio.nodes[0].ask(&["cluster", "debug-bundle", &file]).expect_err("it is there").contains("exists"));
}

/// n3 is removed while it runs, and is started again later.
fn is_told_that_it_was_removed(trio: &mut Trio) {
    trio.nodes[0].must(&["cluster", "remove", "n3"]);
    for _ in 0..2 {
        eventually(Duration::from_secs(60), "n3 to say that it was removed", || {
            let status = trio.nodes[2].run(&["cluster", "status"]);
            let text = String::from_utf8_lossy(&status.stdout).into_owned();
            let ready = trio.nodes[2].get("/-/ready")?.text();
            let told = text.contains("this node was removed from the cluster") && text.contains("sluice cluster join BUNDLE");
            if told && status.status.code() == Some(2) && ready.contains("was removed") { Ok(()) } else { Err(format!("{text}{ready}")) }
        });
        let others = String::from_utf8_lossy(&trio.nodes[0].run(&["cluster", "status"]).stdout).into_owned();
        assert!(others.contains("it was removed from the cluster and still runs"), "{others}");
        trio.nodes[2].sluice.stop();
        trio.nodes[2].sluice.launch();
    }
    assert!(std::fs::read_to_string(trio.nodes[2].sluice.log()).unwrap().contains("this node was removed from the cluster"));
}

#[test]
fn one_node_with_its_data_grows_into_three_under_load() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let scratch = Scratch::new("trio-grows");
    let kafka = Kafka::shared();
    let topic = format!("trio-grows-{}", fastrand::u32(..));
    kafka.create_topic(&topic, 4);
    let sinks = format!("sinks:\n  - name: platform\n    kafka: {{ brokers: [\"{}\"], topic: {topic}, format: rows }}\n", kafka.address());
    let mut trio = Trio::prepare(&scratch, &sinks);
    // At first it is alone, under the name that the cluster will have.
    let file = trio.nodes[0].sluice.config();
    let of_three = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = of_three.split_once("cluster:\n").unwrap();
    let name = rest.lines().next().unwrap().trim();
    std::fs::write(&file, format!("{before}{name}\n{sinks}")).unwrap();
    trio.nodes[0].sluice.up();
    let to: Vec<_> = trio.nodes.iter().map(|node| node.sluice.address()).collect();
    let mut alone = vec![sender("first", "a", 0).start(to[0])];
    let flowing = |running: &Running, more: u64| {
        let before = running.acknowledged();
        eventually(Duration::from_secs(60), "samples to flow", || {
            let now = running.acknowledged();
            if now > before + more { Ok(()) } else { Err(format!("{before}, {now}")) }
        });
    };
    flowing(&alone[0], 500);
    trio.nodes[0].sluice.stop();
    std::fs::write(&file, &of_three).unwrap();
    trio.join();
    trio.nodes.iter_mut().for_each(|node| node.sluice.launch());
    trio.nodes[0].sluice.wait_ready(Duration::from_secs(60));
    flowing(&alone[0], 200);
    for added in ["n2", "n3"] {
        let done = eventually(Duration::from_secs(60), "it to be added", || trio.nodes[0].ask(&["cluster", "add", added]));
        assert!(done.contains("every shard has its seats"), "{done}");
    }
    trio.nodes.iter_mut().for_each(|node| node.sluice.wait_ready(Duration::from_secs(60)));
    trio.wait_well();
    // What the first one has taken alone is on the others' disks, too: they go on without it.
    alone.push(sender("second", "a", 0).start(to[1]));
    trio.nodes[0].sluice.kill();
    flowing(&alone[1], 500);
    trio.nodes[0].sluice.launch();
    trio.nodes[0].sluice.wait_ready(Duration::from_secs(60));
    trio.wait_well();
    let accounts = Accounts::of(alone, Vec::new());
    let received = accounts.read_back(&kafka.reader(&topic), || trio.nodes.iter_mut().for_each(|node| node.sluice.stop()));
    eprintln!("trio, grown: every {INTERVAL} ms, {}", accounts.told(&received));
}

#[test]
fn after_the_loss_of_two_disks_the_node_that_is_left_goes_on_and_becomes_three_again() {
    let scratch = Scratch::new("trio-recover");
    let mut trio = Trio::up(&scratch, NOWHERE);
    let taken = |trio: &Trio, node: usize| {
        eventually(Duration::from_secs(60), "a write to be taken", || {
            let answer = trio.nodes[node].write(sender("g", "a", 0).body(now_ms()))?;
            if answer.status() == 204 { Ok(()) } else { Err(format!("{} {}", answer.status(), answer.text())) }
        });
    };
    taken(&trio, 0);
    // A majority has it by now; the one that will be left shall be part of it.
    let has_group = |trio: &Trio| {
        eventually(Duration::from_secs(20), "n1 to have the group", || {
            let groups = trio.nodes[0].json("/api/v1/groups")?;
            let has = groups["groups"].as_array().is_some_and(|groups| groups.iter().any(|group| group["name"] == "g"));
            if has { Ok(()) } else { Err(groups.to_string()) }
        });
    };
    has_group(&trio);
    for lost in [1, 2] {
        trio.nodes[lost].sluice.kill();
        std::fs::remove_dir_all(trio.nodes[lost].sluice.data()).unwrap();
    }
    let config = trio.nodes[0].sluice.config();
    let running = trio.nodes[0].ask(&["cluster", "recover", "--config", &config]).expect_err("it still runs");
    assert!(running.contains("in use"), "{running}");
    trio.nodes[0].sluice.kill();
    let dry = trio.nodes[0].must(&["cluster", "recover", "--config", &config]);
    assert!(dry.contains("nothing was changed") && dry.contains("--i-accept-data-loss"), "{dry}");
    let done = trio.nodes[0].must(&["cluster", "recover", "--config", &config, "--i-accept-data-loss"]);
    assert!(done.contains("only member of every shard"), "{done}");
    trio.nodes[0].sluice.launch();
    trio.nodes[0].sluice.wait_ready(Duration::from_secs(60));
    has_group(&trio);
    taken(&trio, 0);
    // What those who are gone had delivered must not be taken for this node's own.
    eventually(Duration::from_secs(20), "a second epoch", || {
        let sinks = trio.nodes[0].json("/api/v1/sinks")?;
        let shards = sinks["sinks"][0]["shards"].as_array().cloned().unwrap_or_default();
        if shards.len() == 3 && shards.iter().all(|shard| shard["epoch"] == 2) { Ok(()) } else { Err(sinks.to_string()) }
    });
    for (node, name) in [(1, "n2"), (2, "n3")] {
        trio.nodes[node].must(&["cluster", "join", &trio.bundle(), "--config", &trio.nodes[node].sluice.config(), "--node", name]);
        trio.nodes[node].sluice.launch();
        eventually(Duration::from_secs(60), "it to be added", || trio.nodes[0].ask(&["cluster", "add", name]).map(drop));
        trio.nodes[node].sluice.wait_ready(Duration::from_secs(60));
    }
    trio.wait_well();
    taken(&trio, 2);
    trio.nodes.iter_mut().for_each(|node| node.sluice.stop());
}

//! A process dies at every place where something is put on the disk, told to others or taken back: just before, in the middle and just after. Whatever
//! it was, starting the node or typing the command again must do, and nothing acknowledged is missing or doubled.
//!
//! The places are those of `src/failpoint.rs`, by name; a place that no test here goes to fails the first one.

use super::alerting;
use super::backup::{alone, knows_its_group};
use super::crash::sender;
use super::files;
use super::letters::{dead, long_series};
use super::loaded::Loaded;
use super::store_nodes;
use crate::support::kafka::Kafka;
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, Signal, eventually, let_pass, now_ms};
use crate::support::prompb::encode_v1;
use crate::support::sluice::{BINARY, Sluice};
use crate::support::trio::{Member, NAMES, NOWHERE, Shape, Trio};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// How a running node of three is brought to a place.
#[derive(Clone, Copy)]
enum Drive {
    /// It is asked to lead.
    Lead,
    /// It is asked to lead, and then another one is.
    LeadAndNot,
    /// It leads and is stopped, which makes it take images.
    Stop,
    /// Another one that leads is stopped, and all take images.
    OtherStops,
    /// It gets new settings.
    Apply,
    /// It reads its files again.
    Reload,
    /// It writes a backup.
    Backup,
}

const RUNNING: &[(&str, Drive)] = &[
    ("log.unwritten", Drive::Lead),
    ("log.written", Drive::Lead),
    ("log.synced", Drive::Lead),
    ("promise.unmarked", Drive::Lead),
    ("promise.marked", Drive::Lead),
    ("messages.unsent", Drive::Lead),
    ("messages.sent", Drive::Lead),
    ("applied.unanswered", Drive::Lead),
    ("image.made", Drive::Stop),
    ("cut.unwritten", Drive::OtherStops),
    ("cut.synced", Drive::OtherStops),
    ("room.half_back", Drive::OtherStops),
    ("leadership.handed_over", Drive::LeadAndNot),
    ("sink.fenced", Drive::Lead),
    ("sink.filled", Drive::Lead),
    ("sink.positioned", Drive::Lead),
    ("sink.committed", Drive::Lead),
    ("settings.agreed", Drive::Apply),
    ("settings.half", Drive::Apply),
    ("certificates.read", Drive::Reload),
    ("backup.half", Drive::Backup),
    ("backup.unnamed", Drive::Backup),
];
/// Of a node that takes the place of one that lost its disk.
const TAKING: &[&str] = &["snapshot.staged", "snapshot.complete", "snapshot.installed", "members.committed"];
/// Of the node that leads meanwhile.
const GIVING: &[&str] = &["nodes.changed", "seat.proposed", "snapshot.offered", "snapshot.read"];
const FOUNDING: &[&str] = &["charter.unwritten", "charter.written", "data.begun"];
const VERBS: &[&str] = &["join.half", "restore.copied", "restore.moved", "recover.half", "recover.unwritten"];
const STARTING: &[&str] = &["restore.unsettled"];
const LETTERS: &[&str] = &["letters.resent"];

fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}

/// It has come to the place, and to no other end.
#[track_caller]
fn dies(sluice: &mut Sluice, place: &str) {
    let (status, log) = sluice.wait_death(Duration::from_secs(5));
    assert!(was_killed(status) && log.contains(&format!("fail point {place}: ")), "{place}: {status}\n{log}");
}

#[test]
fn every_place_has_a_test() {
    let output = Command::new(BINARY).args(["check", "none"]).env("SLUICE_FAILPOINT", "?").output().expect("the binary");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let names = text.split_once("the names are ").unwrap_or_else(|| panic!("{text}")).1;
    let mut known: Vec<&str> = names.trim().split(", ").collect();
    let lists = [TAKING, GIVING, FOUNDING, VERBS, STARTING, LETTERS, alerting::PLACES, files::PLACES, store_nodes::PLACES];
    let mut tested: Vec<&str> = RUNNING.iter().map(|(name, _)| *name).chain(lists.into_iter().flatten().copied()).collect();
    known.sort_unstable();
    tested.sort_unstable();
    assert_eq!(known, tested);
}

/// One step towards the place, by whatever the node that dies and the other two can be asked. What fails is tried again.
fn step(loaded: &mut Loaded, (node, other): (usize, usize), drive: Drive, round: usize) {
    let lead = |loaded: &Loaded, asked: usize, to: usize| {
        drop(loaded.trio.nodes[asked].run(&["cluster", "transfer", "--all", "--to", NAMES[to]]));
    };
    match drive {
        Drive::Lead => lead(loaded, other, node),
        Drive::LeadAndNot => {
            lead(loaded, other, node);
            lead(loaded, other, other);
        }
        Drive::Stop => {
            lead(loaded, other, node);
            loaded.trio.nodes[node].sluice.process().signal(Signal::TERM);
        }
        Drive::OtherStops => {
            lead(loaded, other, other);
            let other = &mut loaded.trio.nodes[other].sluice;
            other.stop();
            other.up();
            let_pass(Duration::from_secs(1));
        }
        Drive::Apply => {
            let member = &loaded.trio.nodes[node];
            let file = member.sluice.log().with_file_name("settings.yaml");
            let text = std::fs::read_to_string(member.sluice.config()).unwrap();
            let (_, sinks) = text.split_once("sinks:\n").unwrap();
            let age = 300 + 10 * (round % 10);
            std::fs::write(&file, format!("sinks:\n{}", sinks.replace("format: rows", &format!("format: rows, transaction_age: {age}ms"))))
                .unwrap();
            drop(member.run(&["config", "apply", &file.display().to_string()]));
        }
        Drive::Reload => drop(loaded.trio.nodes[node].post("/-/reload")),
        Drive::Backup => drop(loaded.trio.nodes[node].run(&["cluster", "backup", "again"])),
    }
}

#[test]
fn a_node_of_three_dies_at_every_edge_under_load_and_nothing_is_lost_or_doubled() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let scratch = Scratch::new("edges");
    let mut loaded = Loaded::up(&scratch, "edges", Shape::default());
    for (at, (place, drive)) in RUNNING.iter().enumerate() {
        let (node, other) = (at % 3, (at + 1) % 3);
        loaded.trio.nodes[node].sluice.kill();
        loaded.trio.nodes[node].sluice.launch_armed(place);
        let mut round = 0;
        eventually(Duration::from_secs(60), &format!("{place} to be reached"), || {
            if loaded.trio.nodes[node].sluice.process().ended().is_some() {
                return Ok(());
            }
            // It may be starting still.
            let ready = loaded.trio.nodes[node].get("/-/ready").map(|answer| answer.status());
            if ready == Ok(200) {
                step(&mut loaded, (node, other), *drive, round);
                round += 1;
            }
            Err(format!("{round} rounds, {ready:?}"))
        });
        let again = &mut loaded.trio.nodes[node];
        dies(&mut again.sluice, place);
        again.sluice.launch();
        again.sluice.wait_ready(Duration::from_secs(60));
        if matches!(drive, Drive::Backup) {
            again.must(&["cluster", "backup", &format!("after-{at}")]);
        }
        loaded.flows(&[0, 1, 2], 20);
    }
    // A file that says what the settings are by now keeps everybody content.
    loaded.trio.nodes[0].must(&["config", "apply", &loaded.trio.nodes[0].sluice.config()]);
    loaded.finish("a death at every edge");
}

/// Everything is in images, and the log is cut behind them: whoever comes new takes snapshots.
fn cut_logs(loaded: &mut Loaded) {
    eventually(Duration::from_secs(60), "n1 to lead everything", || {
        loaded.trio.nodes[0].ask(&["cluster", "transfer", "--all", "--to", NAMES[0]]).map(drop)
    });
    loaded.trio.nodes[0].sluice.stop();
    loaded.trio.nodes[0].sluice.up();
    // What nobody needs is looked for every ten seconds.
    let_pass(Duration::from_secs(12));
}

/// The third node's disk is gone; a new one of its name waits to be admitted.
fn lose_disk(loaded: &mut Loaded) {
    loaded.trio.nodes[2].sluice.kill();
    let lost = &loaded.trio.nodes[2];
    std::fs::remove_dir_all(lost.sluice.data()).unwrap();
    lost.must(&["cluster", "join", &loaded.trio.bundle(), "--config", &lost.sluice.config(), "--node", NAMES[2]]);
}

/// The verb would wait until it is done, which it is not when somebody dies.
fn ask_to_replace(asked: &Member) -> String {
    asked.post(&format!("/api/v1/cluster/replace/{}", NAMES[2])).map_or_else(|error| error, |answer| answer.text())
}

#[test]
fn a_replacement_goes_on_whoever_dies_at_whichever_edge_of_it() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let scratch = Scratch::new("edges-snapshot");
    let mut loaded = Loaded::up(&scratch, "edges-snapshot", Shape::default());
    cut_logs(&mut loaded);
    // The taker dies again and again on its way.
    lose_disk(&mut loaded);
    for place in TAKING {
        loaded.trio.nodes[2].sluice.launch_armed(place);
        eventually(Duration::from_secs(60), &format!("{place} to be reached"), || {
            if loaded.trio.nodes[2].sluice.process().ended().is_some() {
                return Ok(());
            }
            Err(ask_to_replace(&loaded.trio.nodes[0]))
        });
        dies(&mut loaded.trio.nodes[2].sluice, place);
    }
    loaded.trio.nodes[2].sluice.launch();
    loaded.wait_well();
    // Whoever leads dies once in each of the next ones.
    for place in GIVING {
        lose_disk(&mut loaded);
        loaded.trio.nodes[0].sluice.kill();
        loaded.trio.nodes[0].sluice.launch_armed(place);
        loaded.trio.nodes[2].sluice.launch();
        eventually(Duration::from_secs(90), &format!("{place} to be reached"), || {
            if loaded.trio.nodes[0].sluice.process().ended().is_some() {
                return Ok(());
            }
            let lead = loaded.trio.nodes[1].ask(&["cluster", "transfer", "--all", "--to", NAMES[0]]);
            Err(format!("{lead:?} {}", ask_to_replace(&loaded.trio.nodes[0])))
        });
        dies(&mut loaded.trio.nodes[0].sluice, place);
        loaded.trio.nodes[0].sluice.launch();
        loaded.trio.nodes[0].sluice.wait_ready(Duration::from_secs(60));
        // Said again only where it was not taken; what was begun goes on by itself.
        if *place == "nodes.changed" {
            loaded.wait_well();
            continue;
        }
        eventually(Duration::from_secs(60), "it to be a member", || {
            let ready = loaded.trio.nodes[2].get("/-/ready")?.status() == 200;
            if ready { Ok(()) } else { Err(ask_to_replace(&loaded.trio.nodes[0])) }
        });
        loaded.wait_well();
    }
    loaded.finish("a death at every edge of a replacement");
}

/// The command dies at the place and, typed again, does what it should.
#[track_caller]
fn dies_and_does(member: &Member, place: &str, args: &[&str]) -> Result<String, String> {
    let output = member.run_armed(place, args);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let name = place.split(':').next().unwrap_or_default();
    assert!(was_killed(output.status) && text.contains(&format!("fail point {name}: ")), "{place}: {} {text}", output.status);
    member.ask(args)
}

#[test]
fn founding_and_the_verbs_of_a_stopped_node_are_done_by_typing_them_again() {
    let scratch = Scratch::new("edges-verbs");
    let mut trio = Trio::prepare(&scratch, NOWHERE);
    trio.nodes[0].must(&["cluster", "prepare", "--bundle", &trio.bundle(), "--config", &trio.nodes[0].sluice.config()]);
    for (member, file) in trio.nodes.iter().zip(1..) {
        let (bundle, config) = (trio.bundle(), member.sluice.config());
        let join = ["cluster", "join", &bundle, "--config", &config, "--node", member.name];
        for half in [file, 4] {
            dies_and_does(member, &format!("join.half:{half}"), &join).unwrap();
        }
    }
    for (member, place) in trio.nodes.iter_mut().zip(["data.begun", "charter.unwritten", "charter.written"]) {
        member.sluice.launch_armed(place);
    }
    let mut to_die = FOUNDING.to_vec();
    eventually(Duration::from_secs(60), "the cluster to be founded", || {
        for (member, place) in trio.nodes.iter_mut().zip(["data.begun", "charter.unwritten", "charter.written"]) {
            if member.sluice.process().ended().is_some() {
                dies(&mut member.sluice, place);
                to_die.retain(|one| *one != place);
                member.sluice.launch();
            }
        }
        let done = trio.nodes[0].ask(&["cluster", "init"])?;
        if to_die.is_empty() { Ok(()) } else { Err(format!("{done}, without {to_die:?}")) }
    });
    trio.nodes.iter_mut().for_each(|node| node.sluice.wait_ready(Duration::from_secs(60)));
    trio.wait_well();
    let taken = |node: &Member| {
        eventually(Duration::from_secs(60), "a write to be taken", || {
            let answer = node.write(sender("g", "a", 0).body(now_ms()))?;
            if answer.status() == 204 { Ok(()) } else { Err(format!("{} {}", answer.status(), answer.text())) }
        });
    };
    taken(&trio.nodes[0]);
    knows_its_group(&trio.nodes[0]);
    trio.nodes[0].must(&["cluster", "backup", "kept"]);
    let kept = trio.nodes[0].sluice.data().join("backups/kept").display().to_string();

    trio.nodes[1].sluice.kill();
    trio.nodes[2].sluice.kill();
    trio.nodes[0].sluice.kill();
    let config = trio.nodes[0].sluice.config();
    let recover = ["cluster", "recover", "--config", &config, "--i-accept-data-loss"];
    for place in ["recover.half:2", "recover.unwritten"] {
        let done = dies_and_does(&trio.nodes[0], place, &recover).unwrap();
        assert!(done.contains("only member of every shard"), "{done}");
    }
    trio.nodes[0].sluice.up();
    knows_its_group(&trio.nodes[0]);
    taken(&trio.nodes[0]);
    trio.nodes[0].sluice.stop();

    let mut one = alone(&scratch, NOWHERE);
    let restore = ["cluster", "restore", &kept, "--config", &one.sluice.config()];
    dies_and_does(&one, "restore.copied", &restore).unwrap();
    std::fs::remove_dir_all(one.sluice.data()).unwrap();
    // Half a restore is not taken for data, and says what to do.
    let refused = dies_and_does(&one, "restore.moved", &restore).expect_err("something is there");
    assert!(refused.contains("restore into an empty directory"), "{refused}");
    std::fs::remove_dir_all(one.sluice.data()).unwrap();
    one.must(&restore);
    one.sluice.launch_armed("restore.unsettled");
    dies(&mut one.sluice, "restore.unsettled");
    one.sluice.up();
    knows_its_group(&one);
    taken(&one);
    one.sluice.stop();
}

#[test]
fn a_node_that_dies_between_kafka_and_its_log_sends_a_dead_letter_once_more() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let kafka = Kafka::shared();
    let topic = format!("edges-letters-{}", fastrand::u32(..));
    kafka.create_topic(&topic, 1);
    kafka.bound_messages(&topic, 3_000);
    let scratch = Scratch::new("edges-letters");
    let mut sluice = Sluice::start(&scratch, &kafka.address(), &topic, "");
    assert_eq!(sluice.write(encode_v1(vec![long_series(now_ms())])).unwrap().status() / 100, 2);
    eventually(Duration::from_secs(30), "a dead letter", || if dead(&sluice).len() == 1 { Ok(()) } else { Err(String::new()) });
    kafka.bound_messages(&topic, 100_000);
    sluice.stop();
    sluice.launch_armed("letters.resent");
    sluice.wait_ready(Duration::from_secs(60));
    eventually(Duration::from_secs(60), "the letter to be sent", || {
        let replay = Command::new(BINARY).args(["sink", "replay", "platform", "--server", &sluice.address().to_string()]).output();
        let told = replay.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        if sluice.process().ended().is_some() { Ok(()) } else { Err(told) }
    });
    dies(&mut sluice, "letters.resent");
    sluice.up();
    assert_eq!(dead(&sluice).len(), 1);
    assert_eq!(sluice.ask(&["sink", "replay", "platform"]), "1 sent again\n");
    assert_eq!(dead(&sluice).len(), 0);
    sluice.stop();
}

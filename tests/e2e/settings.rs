//! What nodes agree on, changed while samples flow through three of them: sinks come, change and go, files that differ are told and bring nothing back,
//! and nothing is missing or doubled in Kafka.

use super::crash::{Accounts, sender};
use crate::support::check::{Received, first_few, order, receive};
use crate::support::kafka::Kafka;
use crate::support::load::Running;
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, let_pass, now_ms};
use crate::support::trio::{Member, Trio};
use std::time::Duration;

/// Within a minute every node has it in force.
#[track_caller]
fn everywhere(trio: &Trio, version: u64, sinks: &[&str]) {
    for node in &trio.nodes {
        eventually(Duration::from_secs(60), "the version to be in force", || {
            let (shown, running) = (node.json("/api/v1/config")?, node.json("/api/v1/sinks")?);
            let names: Vec<&str> = running["sinks"].as_array().into_iter().flatten().filter_map(|sink| sink["name"].as_str()).collect();
            if shown["version"] == version && names == sinks { Ok(()) } else { Err(format!("{}: {shown} {names:?}", node.name)) }
        });
    }
}

/// The node's file, with other sinks.
fn rewrite(node: &Member, from: &str, to: &str) {
    let text = std::fs::read_to_string(node.sluice.config()).unwrap();
    assert!(text.contains(from));
    std::fs::write(node.sluice.config(), text.replace(from, to)).unwrap();
}

fn problems(node: &Member) -> Vec<String> {
    let view = node.json("/api/v1/cluster").unwrap();
    view["problems"].as_array().unwrap().iter().map(|problem| problem["code"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn sinks_come_change_and_go_on_three_nodes_under_load_and_forgotten_files_bring_nothing_back() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let scratch = Scratch::new("trio-settings");
    let kafka = Kafka::shared();
    let [main, archive] = ["main", "archive"].map(|name| format!("settings-{name}-{}", fastrand::u32(..)));
    [&main, &archive].into_iter().for_each(|topic| kafka.create_topic(topic, 4));
    let sink = |name: &str, topic: &str, more: &str| {
        format!("  - name: {name}\n    kafka: {{ brokers: [\"{}\"], topic: {topic}, format: rows{more} }}\n", kafka.address())
    };
    let first = format!("sinks:\n{}", sink("platform", &main, ""));
    let mut trio = Trio::up(&scratch, &first);
    everywhere(&trio, 1, &["platform"]);
    assert!(trio.nodes[0].must(&["config", "history"]).contains("the file of n"));
    let to: Vec<_> = trio.nodes.iter().map(|node| node.sluice.address()).collect();
    let alone: Vec<Running> = (0..3).map(|number| sender(&format!("alone-{number}"), "a", 0).start(to[number])).collect();
    let pairs = vec![[sender("pair", "a", 0).start(to[0]), sender("pair", "b", 70).start(to[1])]];

    // One more sink, from a file with nothing else, asked of any node.
    let two = format!("{first}{}", sink("archive", &archive, ", properties: { sasl.password: hunter2 }"));
    let file = scratch.join("settings.yaml");
    let path = file.display().to_string();
    std::fs::write(&file, &two).unwrap();
    let differs = trio.nodes[1].run(&["config", "diff", &path]);
    let text = String::from_utf8_lossy(&differs.stdout).into_owned();
    assert!(differs.status.code() == Some(1) && text.contains("+  - name: archive") && !text.contains("hunter2"), "{text}");
    let done = trio.nodes[1].must(&["config", "apply", &path]);
    assert!(done.contains("version 2 is in force: sink archive added"), "{done}");
    everywhere(&trio, 2, &["archive", "platform"]);
    let shown = trio.nodes[2].must(&["config", "show"]);
    assert!(shown.contains("sasl.password: (hidden)") && !shown.contains("hunter2"), "{shown}");
    assert!(trio.nodes[0].must(&["config", "diff", &path]).contains("the same as version 2"));
    let from = now_ms() + 1_000;
    let_pass(Duration::from_secs(4));

    // Changed, twice in a row: the second one follows the first whoever is asked.
    for (asked, age, version) in [(2, "700ms", 3), (0, "500ms", 4)] {
        std::fs::write(&file, two.replace("format: rows }", &format!("format: rows, transaction_age: {age} }}"))).unwrap();
        let done = eventually(Duration::from_secs(20), "it to be applied", || trio.nodes[asked].ask(&["config", "apply", &path]));
        assert!(done.contains(&format!("version {version} is in force: sink platform changed")), "{done}");
    }
    everywhere(&trio, 4, &["archive", "platform"]);

    // A node that was away with its old file does as all do, and says that the file differs; reading it again changes nothing.
    trio.nodes[2].sluice.kill();
    trio.nodes[2].sluice.launch();
    trio.nodes[2].sluice.wait_ready(Duration::from_secs(60));
    everywhere(&trio, 4, &["archive", "platform"]);
    eventually(Duration::from_secs(20), "the differing file to be told", || {
        let codes = problems(&trio.nodes[2]);
        if codes.contains(&"settings_differ".to_owned()) { Ok(()) } else { Err(format!("{codes:?}")) }
    });
    let reloaded = trio.nodes[2].post("/-/reload").unwrap();
    assert!(reloaded.status() == 200 && reloaded.text().contains("sluice config diff"), "{}", reloaded.text());
    assert_eq!(trio.nodes[2].run(&["config", "diff"]).status.code(), Some(1), "its own file differs");
    everywhere(&trio, 4, &["archive", "platform"]);
    // Brought in line, it is content.
    let four = std::fs::read_to_string(&file).unwrap();
    for node in &trio.nodes {
        rewrite(node, &first, &four);
        let reloaded = node.post("/-/reload").unwrap();
        assert_eq!((reloaded.status(), reloaded.text().contains("nothing changed")), (200, true), "{}", reloaded.text());
    }
    everywhere(&trio, 4, &["archive", "platform"]);
    trio.wait_well();
    // What came until now is delivered before the sink is held: of each series there is something newer.
    let (until, reader, mut archived) = (now_ms(), kafka.reader(&archive), Received::new());
    eventually(Duration::from_secs(60), "the archive to hold what came until now", || {
        receive(&mut archived, &reader.drain());
        let behind = archived.values().filter(|rows| rows.iter().all(|one| one.row.time < until)).count();
        if behind == 0 && !archived.is_empty() { Ok(()) } else { Err(format!("{behind} of {} series are not there yet", archived.len())) }
    });

    // What a sink has not delivered is not thrown away unasked.
    trio.nodes.iter().for_each(|node| assert_eq!(node.post("/api/v1/sinks/archive/pause").unwrap().status(), 200));
    let_pass(Duration::from_secs(2));
    let gone = four.replace(four.split_once("  - name: archive").map(|(_, rest)| rest).unwrap(), "").replace("  - name: archive", "");
    rewrite(&trio.nodes[0], &four, &gone);
    let refused = trio.nodes[0].post("/-/reload").unwrap();
    assert!(refused.status() == 400 && refused.text().contains("--discard archive"), "{}", refused.text());
    std::fs::write(&file, &gone).unwrap();
    let refused = trio.nodes[1].ask(&["config", "apply", &path]).expect_err("something is undelivered");
    assert!(refused.contains("archive (") && refused.contains("--discard archive"), "{refused}");
    everywhere(&trio, 4, &["archive", "platform"]);
    let done = trio.nodes[1].must(&["config", "apply", &path, "--discard", "archive"]);
    assert!(done.contains("sink archive removed"), "{done}");
    everywhere(&trio, 5, &["platform"]);
    // Now a file that was changed while its node ran proposes, as one did before there were three.
    rewrite(&trio.nodes[1], &four, &gone.replace("500ms", "600ms"));
    let reloaded = trio.nodes[1].post("/-/reload").unwrap();
    assert!(reloaded.status() == 200 && reloaded.text().contains("sink platform changed"), "{}", reloaded.text());
    everywhere(&trio, 6, &["platform"]);
    assert!(trio.nodes[0].must(&["config", "history"]).contains("the file of n2"));
    let_pass(Duration::from_secs(2));

    let accounts = Accounts::of(alone, pairs);
    receive(&mut archived, &reader.drain());
    let received = accounts.read_back(&kafka.reader(&main), || trio.nodes.iter_mut().for_each(|node| node.sluice.stop()));
    let mut wrong: Vec<String> = archived.iter().flat_map(|(series, rows)| order(series, rows)).collect();
    wrong.extend(accounts.missing_between(&archived, from, until));
    assert!(wrong.is_empty(), "{}", first_few(&wrong));
    eprintln!("trio, other settings: {}", accounts.told(&received));
}

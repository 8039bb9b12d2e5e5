//! One group far over its limits beside others: it is refused, they are not; and what operators see of who sends what.

use crate::support::http::Client;
use crate::support::load::Sender;
use crate::support::process::{Scratch, eventually, free_port, now_ms};
use crate::support::sluice::{BINARY, Sluice, write_request};
use crate::support::trio::{NAMES, NOWHERE, Shape, Trio};
use serde_json::Value as Json;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn node(scratch: &Scratch, more: &str) -> Sluice {
    let (dir, port) = (scratch.sub("sluice"), free_port());
    let text = format!("listen: 127.0.0.1:{port}\ndata_dir: {}\n{more}{NOWHERE}", dir.join("data").display());
    let mut sluice = Sluice::prepare_as("sluice", dir, SocketAddr::from(([127, 0, 0, 1], port)), &text, None);
    sluice.up();
    sluice
}

fn replica(group: &str, replica: &str, series: usize, interval: i64) -> Sender {
    Sender { group: group.to_owned(), replica: replica.to_owned(), series, interval, offset: 0 }
}

#[test]
fn a_group_at_ten_times_its_limit_is_refused_and_the_others_are_not() {
    const LIMIT: usize = 2_000;
    let scratch = Scratch::new("limits");
    // One shard, so that all of them meet.
    let sluice =
        node(&scratch, &format!("shards: 1\ngroups:\n  overrides:\n    - {{ name: greedy, limits: {{ samples_per_second: {LIMIT} }} }}\n"));
    let calm: Vec<_> = (0..4).map(|number| replica(&format!("calm-{number}"), "a", 50, 100).start(sluice.address())).collect();
    // Ten requests of 2,000 samples a second, and what is refused is sent again after a tenth of a second: no Retry-After is heeded.
    let (stop, taken, told) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
    let greedy = {
        let (stop, taken, told, address) = (Arc::clone(&stop), Arc::clone(&taken), Arc::clone(&told), sluice.address());
        std::thread::spawn(move || {
            let (mut client, sender) = (Client::new(address), replica("greedy", "a", LIMIT, 100));
            while !stop.load(Ordering::Relaxed) {
                let answer = client.send(&write_request(sender.body(now_ms()))).expect("an answer");
                match answer.status() {
                    204 => drop(taken.fetch_add(LIMIT as u64, Ordering::Relaxed)),
                    status => told.lock().unwrap().push((status, answer.header("retry-after").is_some(), answer.text())),
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        })
    };
    // Ten seconds' worth are taken at once; then nine of ten requests are refused.
    eventually(Duration::from_secs(60), "the greedy group to be refused a hundred times", || {
        let refused = told.lock().unwrap().len();
        if refused >= 100 { Ok(()) } else { Err(format!("{refused} refused, {} samples taken", taken.load(Ordering::Relaxed))) }
    });
    stop.store(true, Ordering::Relaxed);
    greedy.join().unwrap();
    for (number, sender) in calm.into_iter().enumerate() {
        let account = sender.stop();
        assert!(account.refused.is_empty() && account.repeated == 0, "calm-{number}: {} repeated, {:?}", account.repeated, account.refused);
        assert!(account.acknowledged.len() >= 50, "calm-{number} wrote");
    }
    let told = told.lock().unwrap();
    let asked_to_wait = |(status, wait, text): &(u16, bool, String)| *status == 503 && *wait && text.contains("samples_per_second");
    assert!(told.iter().all(asked_to_wait), "{:?}", told.iter().find(|one| !asked_to_wait(one)));
    assert!(sluice.metric("sluice_ingest_limited_total", "group=\"greedy\"") >= 100.0);
    assert!(sluice.metric("sluice_ingest_limited_total", "group=\"calm") == 0.0);
}

#[test]
fn a_group_with_too_many_series_keeps_those_it_has() {
    let scratch = Scratch::new("too-many-series");
    let sluice = node(&scratch, "limits: { per_group: { series: 100 } }\n");
    let few = replica("g", "a", 100, 1000);
    let many = replica("g", "a", 1000, 1000);
    let now = now_ms();
    assert_eq!(sluice.write(few.body(now)).unwrap().status(), 204);
    let answer = sluice.write(many.body(now + 1000)).unwrap();
    let text = answer.text();
    assert!(answer.status() == 400 && text.contains("900 x too_many_series") && text.contains("has 100 series"), "{text}");
    assert_eq!(sluice.write(few.body(now + 2000)).unwrap().status(), 204, "the series that it has go on");
    // The series of the first request, three times: what was refused is nowhere.
    eventually(Duration::from_secs(30), "what was taken to be counted", || {
        let (series, emitted) =
            (sluice.metric("sluice_group_series", "\"g\""), sluice.metric("sluice_group_emitted_samples_total", "\"g\""));
        if (series, emitted) == (100.0, 300.0) { Ok(()) } else { Err(format!("{series} series, {emitted} emitted")) }
    });
    assert_eq!(sluice.write(replica("h", "a", 100, 1000).body(now)).unwrap().status(), 204, "another group has its own bound");
}

#[test]
fn who_sends_and_what_is_seen_on_every_node() {
    let scratch = Scratch::new("who-sends");
    let trio =
        Trio::up_as(&scratch, &Shape { sinks: &format!("limits: {{ per_group: {{ series: 60 }} }}\n{NOWHERE}"), ..Shape::default() });
    let [one, two] = [0, 1].map(|number| trio.nodes[number].sluice.address());
    let send = |to, series, time| {
        let answer = Client::new(to).send(&write_request(replica("g", "a", series, 1000).body(time))).expect("an answer");
        answer.status()
    };
    let now = now_ms();
    assert_eq!(send(one, 50, now), 204);
    assert_eq!(send(one, 50, now), 204, "the same once more");
    assert_eq!(send(two, 80, now + 1000), 400, "twenty are too many");
    assert_eq!(Client::new(two).call("POST", "/api/v1/write").expect("an answer").status(), 400);
    let seen: Json = serde_json::from_str(&trio.nodes[2].sluice.ask(&["sender", "list", "--json"])).expect("JSON");
    let senders = seen["senders"].as_array().expect("senders");
    let at = |node: &str, group: &str| {
        senders.iter().find(|one| one["node"] == node && one["group"] == group).unwrap_or_else(|| panic!("{seen:#}"))
    };
    let first = at(NAMES[0], "g");
    assert_eq!(
        (&first["replica"], &first["samples"], &first["requests"], &first["repeated"]),
        (&"a".into(), &100.into(), &2.into(), &1.into())
    );
    assert!(first["last_refusal"].is_null() && first["samples_per_second"].as_f64() > Some(0.0), "{first:#}");
    let second = at(NAMES[1], "g");
    assert_eq!((&second["refused"], &second["last_refusal"]["status"]), (&20.into(), &400.into()), "{second:#}");
    assert_eq!(at(NAMES[1], "")["last_refusal"]["status"], 400, "whoever sends nothing is told by address");
    let table = trio.nodes[2].sluice.ask(&["sender", "list"]);
    assert!(table.contains("! g a: told 400") && table.lines().count() >= 6, "{table}");
    eventually(Duration::from_secs(30), "the group to be shown", || {
        let groups = trio.nodes[2].json("/api/v1/groups")?;
        if groups["groups"][0]["series"] == 60 { Ok(()) } else { Err(groups.to_string()) }
    });
    // Sixty series by the samples of two nodes: each saw a part.
    let counted: Json = serde_json::from_str(&trio.nodes[2].sluice.ask(&["group", "cardinality", "g", "--json"])).expect("JSON");
    assert_eq!(
        (&counted["exact"], &counted["metrics"][0]["name"], &counted["metrics"][0]["series"]),
        (&true.into(), &"load".into(), &80.into())
    );
    assert_eq!((&counted["labels"][0]["name"], &counted["labels"][0]["values"]), (&"number".into(), &80.into()), "{counted:#}");
    // What other nodes saw comes to this one from time to time.
    eventually(Duration::from_secs(60), "all groups' sketches on a node that leads none", || {
        let told = trio.nodes[0].sluice.ask(&["group", "cardinality"]);
        if told.contains("load") { Ok(()) } else { Err(told) }
    });
}

#[test]
fn tap_shows_each_sample_with_its_verdict() {
    let scratch = Scratch::new("tap");
    let sluice = node(&scratch, "");
    let write = |who: &str, time| {
        let answer = sluice.write(replica("g", who, 3, 1000).body(time)).unwrap();
        assert_eq!(answer.status(), 204);
    };
    let now = now_ms();
    write("a", now - 10_000);
    eventually(Duration::from_secs(30), "the group to be shown", || {
        let groups = sluice.ask(&["group", "list"]);
        if groups.contains("\ng ") { Ok(()) } else { Err(groups) }
    });
    let tap = |args: &[&str]| {
        let mut command = std::process::Command::new(BINARY);
        command.arg("tap").args(args).env("SLUICE_SERVER", format!("http://{}", sluice.address())).env("SLUICE_DATA_DIR", sluice.data());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().expect("the binary")
    };
    let taps = [
        tap(&["--at", "in", "-n", "6", "--json"]),
        tap(&["-n", "3", "--group", "g", "--match", r#"load{number=~"1"}"#, "--json"]),
        tap(&["--at", "waiting", "-n", "3"]),
        tap(&["--at", "covered", "-n", "3"]),
    ];
    // Until all of them listen; each sends new samples.
    let (stop, mut time) = (Arc::new(AtomicBool::new(false)), now);
    let done = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let out: Vec<_> = taps.into_iter().map(|tap| tap.wait_with_output().expect("it ends")).collect();
            stop.store(true, Ordering::Relaxed);
            out
        })
    };
    eventually(Duration::from_secs(90), "the taps to have seen enough", || {
        time += 1000;
        write("a", time);
        write("b", time);
        std::thread::sleep(Duration::from_millis(300));
        if stop.load(Ordering::Relaxed) { Ok(()) } else { Err("some still listen".to_owned()) }
    });
    let texts: Vec<String> = done.join().unwrap().into_iter().map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).collect();
    let json = |text: &str| -> Vec<Json> {
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).filter(|line: &Json| line["left_out"].is_null()).collect()
    };
    let came = json(&texts[0]);
    assert!(
        came.len() == 6 && came.iter().all(|one| one["verdict"] == "taken" && one["labels"]["__replica__"] == one["replica"]),
        "{came:?}"
    );
    let passed = json(&texts[1]);
    assert!(passed.len() == 3 && passed.iter().all(|one| one["reason"] == "leader" && one["labels"]["number"] == "1"), "{passed:?}");
    assert!(passed[0]["labels"]["__replica__"].is_null() && passed[0]["value"].is_number(), "{passed:?}");
    assert!(
        texts[2].lines().count() == 3 && texts[2].lines().all(|line| line.contains("waiting/standby") && line.contains(" g b load{")),
        "{}",
        texts[2]
    );
    assert!(texts[3].lines().count() == 3 && texts[3].lines().all(|line| line.contains(" covered ")), "{}", texts[3]);
}

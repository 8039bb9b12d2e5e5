//! One group far over its limits beside others: it is refused, they are not; and what operators see of who sends what.

use crate::support::http::Client;
use crate::support::load::Sender;
use crate::support::process::{Scratch, eventually, free_port, now_ms};
use crate::support::sluice::{Sluice, write_request};
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
    assert!(trio.nodes[0].sluice.ask(&["group", "cardinality"]).contains("load"));
}

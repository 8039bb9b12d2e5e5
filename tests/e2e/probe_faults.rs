//! What is looked at while something is wrong: a Prometheus whose remote write is stuck, that replays its log for long, whose disk is full; and nodes that stand
//! still, are cut off, or die while they look. What is well is never called down, what is sick is said to be, and looks go on.

use super::probe_jobs::{Heard, webhook};
use crate::support::disk::SmallDisk;
use crate::support::exporter::Exporter;
use crate::support::faults::Way;
use crate::support::http::{Http, Server};
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, Signal, eventually, let_pass, now_ms};
use crate::support::prometheus::Prometheus;
use crate::support::sluice::Sluice;
use crate::support::trio::{NAMES, NOWHERE, Shape, Trio};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const LATER: Duration = Duration::from_secs(180);

/// A Prometheus that scrapes every second and writes there.
fn configuration(exporter: &Exporter, to: &Server) -> String {
    format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nremote_write:\n- url: http://{}/api/v1/write\n  remote_timeout: 5s\n  \
         queue_config: {{ batch_send_deadline: 500ms, max_shards: 1 }}\nscrape_configs:\n- job_name: demo\n  metrics_path: /t/0\n  \
         static_configs: [{{ targets: ['{}'] }}]\n",
        to.address,
        exporter.address()
    )
}

/// Takes remote write, and while `stuck` says nothing.
fn receiver(stuck: &Arc<AtomicBool>) -> Server {
    let stuck = Arc::clone(stuck);
    Server::start(move |_: &Http| {
        while stuck.load(Ordering::Relaxed) {
            let_pass(Duration::from_millis(20));
        }
        Some(Http::answer(204, ""))
    })
}

/// A node that looks at one Prometheus, `a` of `pair`.
fn looking(scratch: &Scratch, name: &str, at: &Prometheus) -> Sluice {
    let sinks = NOWHERE.strip_prefix("sinks:\n").unwrap();
    let groups = format!("groups:\n  overrides:\n    - name: pair\n      replicas:\n        - {{ name: a, url: \"{}\" }}\n", at.url());
    let notify = "notify: { alerts: { PrometheusSick: { for: 1s }, PrometheusDown: { for: 1s } } }\n";
    let mut sluice = Sluice::prepare_with(scratch, name, &format!("{sinks}{groups}{notify}"), None);
    sluice.up();
    sluice
}

/// How it is seen, and what alerts there are of it.
fn seen(sluice: &Sluice) -> (Value, Vec<Value>) {
    let all = sluice.get("/api/v1/probes").json();
    let open = |alert: &&Value| alert["ended"].is_null();
    (all["prometheus"][0].clone(), all["alerts"].as_array().into_iter().flatten().filter(open).cloned().collect())
}

#[track_caller]
fn wait(sluice: &Sluice, what: &str, is: impl Fn(&Value, &[Value]) -> bool) -> Value {
    eventually(LATER, what, || {
        let (seen, alerts) = seen(sluice);
        if is(&seen, &alerts) { Ok(seen) } else { Err(format!("{seen} {alerts:?}")) }
    })
}

/// Looks go on: each is newer than the one before.
#[track_caller]
fn looks_go_on(sluice: &Sluice) {
    let mut last = seen(sluice).0["looked"].as_i64().unwrap();
    for _ in 0..3 {
        last = eventually(SOON, "another look", || {
            let looked = seen(sluice).0["looked"].as_i64().unwrap();
            if looked > last { Ok(looked) } else { Err(looked.to_string()) }
        });
    }
}

fn says(alerts: &[Value], name: &str, words: &str) -> bool {
    alerts.iter().any(|alert| alert["name"] == name && alert["summary"].as_str().is_some_and(|summary| summary.contains(words)))
}

#[test]
fn a_prometheus_whose_remote_write_is_stuck_is_sick_and_not_down() {
    if !need(&[Peer::Prometheus]) {
        return;
    }
    let scratch = Scratch::new("faults-stuck");
    let (exporter, stuck) = (Exporter::start(1, 10), Arc::new(AtomicBool::new(false)));
    let to = receiver(&stuck);
    let prometheus = Prometheus::start_as(&scratch, "a", &configuration(&exporter, &to));
    let sluice = looking(&scratch, "stuck", &prometheus);
    wait(&sluice, "its figures", |seen, _| seen["state"] == "up" && seen["behind_seconds"].is_number());
    stuck.store(true, Ordering::Relaxed);
    let sick = wait(&sluice, "it to be sick", |_, alerts| says(alerts, "PrometheusSick", "behind with its remote write"));
    assert_eq!(sick["state"], "up");
    looks_go_on(&sluice);
    stuck.store(false, Ordering::Relaxed);
    wait(&sluice, "it to be well", |seen, alerts| seen["state"] == "up" && alerts.iter().all(|alert| alert["name"] != "PrometheusSick"));
}

#[test]
fn a_prometheus_that_replays_its_log_for_long_is_starting_and_says_how_far_it_is() {
    if !need(&[Peer::Prometheus, Peer::Strace]) {
        return;
    }
    let scratch = Scratch::new("faults-replay");
    let (exporter, stuck) = (Exporter::start(1, 10), Arc::new(AtomicBool::new(false)));
    let to = receiver(&stuck);
    let mut prometheus = Prometheus::start_as(&scratch, "a", &configuration(&exporter, &to));
    let sluice = looking(&scratch, "replay", &prometheus);
    // Each start begins a segment.
    for _ in 0..3 {
        wait(&sluice, "it to be up", |seen, _| seen["state"] == "up");
        let_pass(Duration::from_secs(3));
        prometheus.kill();
        wait(&sluice, "it to be down", |seen, _| seen["state"] == "down");
        prometheus.up();
    }
    wait(&sluice, "it to be up", |seen, _| seen["state"] == "up");
    prometheus.kill();
    let slow = prometheus.up_slowly(Duration::from_secs(4));
    let seen = wait(&sluice, "it to start", |seen, _| seen["state"] == "starting" && seen["replay"].as_u64() > Some(0));
    assert!(seen["replayed"].as_u64() <= seen["replay"].as_u64(), "{seen}");
    wait(&sluice, "it to be sick", |_, alerts| says(alerts, "PrometheusSick", "segments of its log replayed"));
    looks_go_on(&sluice);
    wait(&sluice, "it to be up again", |seen, alerts| {
        seen["state"] == "up" && alerts.iter().all(|alert| alert["name"] != "PrometheusSick")
    });
    drop(slow);
}

#[test]
fn a_prometheus_whose_disk_is_full_is_sick_until_it_has_room() {
    if !need(&[Peer::Prometheus, Peer::Tmpfs]) {
        return;
    }
    let scratch = Scratch::new("faults-full");
    let (exporter, stuck) = (Exporter::start(1, 200), Arc::new(AtomicBool::new(false)));
    let to = receiver(&stuck);
    let disk = SmallDisk::new(&scratch, 64);
    let prometheus = Prometheus::start_on(&scratch, "a", &configuration(&exporter, &to), &disk);
    let sluice = looking(&scratch, "full", &prometheus);
    wait(&sluice, "its figures", |seen, _| seen["state"] == "up" && seen["failed_writes"] == 0.0);
    disk.fill();
    let sick = wait(&sluice, "it to be sick", |_, alerts| says(alerts, "PrometheusSick", "cannot write to its own log"));
    assert_eq!(sick["state"], "up", "it answers as ever");
    assert!(sick["failed_writes"].as_f64() > Some(0.0), "{sick}");
    looks_go_on(&sluice);
    disk.free();
    wait(&sluice, "it to be well", |_, alerts| alerts.iter().all(|alert| alert["name"] != "PrometheusSick"));
}

/// Twelve targets, all well, looked at every second.
fn job(target: &Server) -> String {
    let targets: Vec<String> = (0..12).map(|number| format!("\"http://{}/{number}\"", target.address)).collect();
    format!("probe:\n  jobs:\n    - {{ name: shops, interval: 1s, timeout: 900ms, targets: [{}] }}\n", targets.join(", "))
}

#[track_caller]
fn all_up(trio: &Trio, nodes: &[usize]) {
    for node in nodes {
        eventually(SOON, "every target to be up", || {
            let all = trio.nodes[*node].json("/api/v1/probes")?;
            let targets = all["targets"].as_array().cloned().unwrap_or_default();
            let up = targets.iter().filter(|target| target["verdict"] == "up").count();
            let looked = targets.iter().filter(|target| target["ours"] == true && target["success"] == true).count();
            if up == 12 && looked > 0 { Ok(()) } else { Err(all.to_string()) }
        });
    }
}

#[test]
fn nodes_that_stand_still_or_are_cut_off_make_nothing_down() {
    let scratch = Scratch::new("faults-cut-off");
    let well = Server::start(|_: &Http| Some(Http::answer(200, "")));
    let heard = Heard::default();
    let hook = webhook(&heard);
    let notify = format!(
        "notify: {{ webhook: {{ url: \"http://{}/hook\", headers: {{ X-Key: k }} }}, alerts: {{ NodeDown: {{ for: 1s }} }} }}\n",
        hook.address
    );
    let sinks = format!("{NOWHERE}{}{notify}", job(&well));
    let trio = Trio::up_as(&scratch, &Shape { sinks: &sinks, faults: true, ..Shape::default() });
    all_up(&trio, &[0, 1, 2]);
    for node in 0..3 {
        // Cut off from the others, not from the targets.
        trio.faults().around(node, Way::Held);
        let_pass(Duration::from_secs(8));
        trio.faults().around(node, Way::Open);
        all_up(&trio, &[0, 1, 2]);
        // Its looks and its votes are late when it goes on.
        trio.nodes[node].sluice.process_ref().signal(Signal::STOP);
        let_pass(Duration::from_secs(8));
        trio.nodes[node].sluice.process_ref().signal(Signal::CONT);
        all_up(&trio, &[0, 1, 2]);
    }
    // Somebody was told of the nodes, so somebody would have been told of targets.
    heard.wait("NodeDown", "firing");
    assert_eq!(heard.times("ProbeDown", "firing"), 0);
}

#[test]
fn a_dead_nodes_share_of_targets_is_looked_at_by_the_others() {
    let scratch = Scratch::new("faults-share");
    let well = Server::start(|_: &Http| Some(Http::answer(200, "")));
    let rows = scratch.sub("rows");
    let sinks =
        format!("sinks:\n  - name: rows\n    file: {{ directory: {}, sync: 100ms, compression: none }}\n{}", rows.display(), job(&well));
    let mut trio = Trio::up(&scratch, &sinks);
    all_up(&trio, &[0, 1, 2]);
    let ours = |node: usize| -> BTreeSet<String> {
        let all = trio.nodes[node].json("/api/v1/probes").unwrap();
        let ours = all["targets"].as_array().unwrap().iter().filter(|target| target["ours"] == true);
        ours.map(|target| target["instance"].as_str().unwrap().to_owned()).collect()
    };
    let shares: Vec<BTreeSet<String>> = (0..3).map(ours).collect();
    let dead = (0..3).max_by_key(|node| shares[*node].len()).unwrap();
    assert!(!shares[dead].is_empty(), "{shares:?} {NAMES:?}");
    trio.nodes[dead].sluice.kill();
    let killed = now_ms();
    // Of each target there are samples from then on, and none of them says that it is down.
    eventually(LATER, "samples of all targets", || {
        let mut times: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
        for file in std::fs::read_dir(&rows).unwrap().filter_map(|file| std::fs::read_to_string(file.unwrap().path()).ok()) {
            for row in file.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter(|row| row["name"] == "probe_success")
            {
                assert_eq!(row["v"], 1, "{row}");
                let (instance, time) = (row["instance"].as_str().unwrap_or_default().to_owned(), row["ts"].as_i64().unwrap_or(0));
                if time > killed {
                    times.entry(instance).or_default().insert(time);
                }
            }
        }
        let fewest = times.values().map(BTreeSet::len).min().unwrap_or(0);
        if times.len() == 12 && fewest >= 10 { Ok(()) } else { Err(format!("{} targets, {fewest} times", times.len())) }
    });
}

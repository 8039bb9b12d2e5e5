//! Probe jobs on three nodes: a target goes down and comes back while the node that leads dies; the verdict is several nodes', and the webhook hears of each
//! change, once.

use super::crash::sender;
use crate::support::http::{Http, Server};
use crate::support::peers::{Peer, need};
use crate::support::process::{Process, Scratch, eventually, free_port};
use crate::support::sluice::Sluice;
use crate::support::trio::{NAMES, NOWHERE, Trio};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// What the webhook was told and took: alert by alert.
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<Vec<Value>>>);

impl Heard {
    /// How often it was told so of an alert of this name.
    pub fn times(&self, name: &str, status: &str) -> usize {
        let heard = self.0.lock().unwrap();
        heard.iter().filter(|alert| alert["labels"]["alertname"] == name && alert["status"] == status).count()
    }

    #[track_caller]
    pub fn wait(&self, name: &str, status: &str) {
        eventually(SOON, &format!("{name} to be told as {status}"), || {
            if self.times(name, status) > 0 { Ok(()) } else { Err(format!("{:?}", self.0.lock().unwrap())) }
        });
    }
}

/// A webhook that refuses at first.
pub fn webhook(heard: &Heard) -> Server {
    let (heard, refused) = (heard.clone(), AtomicUsize::new(0));
    Server::start(move |request: &Http| {
        assert_eq!((request.target(), request.header("x-key")), (("POST", "/hook"), Some("k")));
        if refused.fetch_add(1, Ordering::Relaxed) < 2 {
            return Some(Http::answer(500, "not yet"));
        }
        let body = request.json();
        assert_eq!(body["version"], "4");
        heard.0.lock().unwrap().extend(body["alerts"].as_array().unwrap().iter().cloned());
        Some(Http::answer(200, ""))
    })
}

/// The target as a node sees it.
fn target(trio: &Trio, node: usize) -> Result<Value, String> {
    let answer = trio.nodes[node].json("/api/v1/probes")?;
    Ok(answer["targets"][0].clone())
}

#[test]
fn a_target_is_down_by_several_nodes_and_each_change_is_told_once_though_the_leader_dies() {
    let scratch = Scratch::new("probe-jobs");
    let well = Arc::new(AtomicBool::new(true));
    let shop = {
        let well = Arc::clone(&well);
        Server::start(move |_: &Http| Some(Http::answer(if well.load(Ordering::Relaxed) { 200 } else { 500 }, "")))
    };
    let heard = Heard::default();
    let hook = webhook(&heard);
    let more = format!(
        "probe:\n  jobs:\n    - name: shops\n      interval: 1s\n      timeout: 1s\n      targets: [\"http://{}\"]\n      labels: {{ team: shop }}\n\
         notify:\n  webhook: {{ url: \"http://{}/hook\", headers: {{ X-Key: k }} }}\n  alerts: {{ NodeDown: {{ for: 1s }} }}\n",
        shop.address, hook.address
    );
    let mut trio = Trio::up(&scratch, &format!("{NOWHERE}{more}"));
    eventually(SOON, "somebody to look at the target", || {
        let seen = target(&trio, 0)?;
        let by = (0..3).map(|node| target(&trio, node)).collect::<Result<Vec<_>, _>>()?;
        let ours: Vec<&Value> = by.iter().filter(|seen| seen["ours"] == true).collect();
        if ours.len() == 1 && ours[0]["success"] == true { Ok(()) } else { Err(seen.to_string()) }
    });
    eventually(SOON, "samples of the target", || {
        let groups = trio.nodes[1].json("/api/v1/groups")?;
        let found = groups["groups"].as_array().into_iter().flatten().find(|group| group["name"] == "probes").cloned();
        let group = found.ok_or("no group")?;
        if group["counts"]["emitted"].as_u64() > Some(30) { Ok(()) } else { Err(group.to_string()) }
    });

    well.store(false, Ordering::Relaxed);
    for node in 0..3 {
        eventually(SOON, "the target to be down", || {
            let seen = target(&trio, node)?;
            let from = seen["down_from"].as_array().map_or(0, Vec::len);
            if seen["verdict"] == "down" && from >= 2 { Ok(()) } else { Err(seen.to_string()) }
        });
    }
    heard.wait("ProbeDown", "firing");
    let told = heard.0.lock().unwrap().iter().find(|alert| alert["labels"]["alertname"] == "ProbeDown").cloned().unwrap();
    let labels = ["job", "team", "cause", "level"].map(|name| told["labels"][name].as_str().unwrap_or_default().to_owned());
    assert_eq!(labels, ["shops", "shop", "status", "P3"], "{told}");

    // Whoever leads the control shard dies: the next one knows what was told.
    let view = trio.nodes[0].json("/api/v1/cluster").unwrap();
    let control = view["shards"].as_array().unwrap().iter().find(|shard| shard["shard"] == 0).unwrap()["leader"].clone();
    let leader = NAMES.iter().position(|name| control == **name).unwrap();
    trio.nodes[leader].sluice.kill();
    heard.wait("NodeDown", "firing");
    well.store(true, Ordering::Relaxed);
    heard.wait("ProbeDown", "resolved");
    assert_eq!((heard.times("ProbeDown", "firing"), heard.times("ProbeDown", "resolved")), (1, 1));
    let other = (leader + 1) % 3;
    eventually(SOON, "the target to be up", || {
        let seen = target(&trio, other)?;
        if seen["verdict"] == "up" { Ok(()) } else { Err(seen.to_string()) }
    });
    trio.nodes[leader].sluice.up();
    heard.wait("NodeDown", "resolved");
    assert!(trio.nodes[other].must(&["probes"]).contains("shops"));
}

#[test]
fn a_node_that_is_all_there_is_decides_alone_and_remembers_over_a_restart() {
    let scratch = Scratch::new("probe-alone");
    let sinks = NOWHERE.strip_prefix("sinks:\n").unwrap();
    // Nobody listens there: every interval still has its sample.
    let more =
        format!("probe:\n  jobs:\n    - {{ name: gone, module: tcp_connect, interval: 1s, targets: [\"127.0.0.1:{}\"] }}\n", free_port());
    let mut sluice = Sluice::prepare_with(&scratch, "probe-alone", &format!("{sinks}{more}"), None);
    sluice.up();
    let down = |sluice: &Sluice| {
        eventually(SOON, "the target to be down", || {
            let all = sluice.get("/api/v1/probes").json();
            let alert = all["alerts"][0].clone();
            if all["targets"][0]["verdict"] == "down" && alert["name"] == "ProbeDown" {
                Ok((alert["since"].clone(), alert["told"].clone()))
            } else {
                Err(all.to_string())
            }
        })
    };
    let (since, told) = down(&sluice);
    assert_eq!(told, false, "there is nobody to be told");
    assert!(sluice.ask(&["probes", "--down"]).contains("not told to anybody"));
    eventually(SOON, "samples of the target", || {
        let emitted = sluice.metric("sluice_group_emitted_samples_total", "group=\"probes\"");
        if emitted > 10.0 { Ok(()) } else { Err(emitted.to_string()) }
    });
    assert_eq!((sluice.metric("sluice_probe_targets_down", ""), sluice.metric("sluice_alerts", "")), (1.0, 1.0));
    sluice.stop();
    sluice.up();
    assert_eq!(down(&sluice).0, since, "it has been down since then");
}

#[test]
fn a_prometheus_that_refuses_two_of_three_nodes_is_dead_at_once_wherever_its_group_is_led() {
    let scratch = Scratch::new("probe-trio");
    let ready = || Server::start(|_: &Http| Some(Http::answer(200, "ready")));
    let (a, b) = (ready(), ready());
    let replica = |name: &str, at: &Server| format!("        - {{ name: {name}, url: \"http://{}\" }}\n", at.address);
    let groups = format!("groups:\n  overrides:\n    - name: pair\n      replicas:\n{}{}", replica("a", &a), replica("b", &b));
    let trio = Trio::up(&scratch, &format!("{NOWHERE}{groups}"));
    let to: Vec<_> = trio.nodes.iter().map(|node| node.sluice.address()).collect();
    let first = sender("pair", "a", 0).start(to[0]);
    let group = |node: usize| -> Result<Value, String> {
        let groups = trio.nodes[node].json("/api/v1/groups")?;
        groups["groups"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|group| group["name"] == "pair")
            .cloned()
            .ok_or_else(|| "no group".to_owned())
    };
    eventually(SOON, "a to lead", || if group(2)?["leader"] == "a" { Ok(()) } else { Err("not yet".to_owned()) });
    let second = sender("pair", "b", 70).start(to[1]);
    eventually(SOON, "b to stand by", || {
        let group = group(2)?;
        let samples = group["replicas"].as_array().into_iter().flatten().find(|one| one["name"] == "b").map(|one| one["samples"].clone());
        if samples.and_then(|samples| samples.as_u64()) > Some(500) { Ok(()) } else { Err(group.to_string()) }
    });
    for node in &trio.nodes {
        eventually(SOON, "both to be seen", || {
            let all = node.json("/api/v1/probes")?;
            let up = all["prometheus"].as_array().map_or(0, |seen| seen.iter().filter(|one| one["state"] == "up").count());
            if up == 2 { Ok(()) } else { Err(all.to_string()) }
        });
    }
    // Its samples go on coming: nothing but the refusals says that it is dead.
    drop(a);
    let last = eventually(SOON, "b to lead", || {
        let history = trio.nodes[1].json("/api/v1/groups/pair/history")?;
        let last = history["switches"].as_array().and_then(|all| all.iter().max_by_key(|one| one["at"].as_i64())).cloned();
        last.filter(|last| last["to"] == "b").ok_or_else(|| history.to_string())
    });
    assert_eq!(last["reason"], "refused", "{last}");
    drop((first, second));
}

/// Whoever sends lives on, and the next look is up to a minute away: nothing but the end of a silent connection says that the process died.
#[test]
fn a_process_that_dies_is_looked_at_in_that_moment() {
    if !need(&[Peer::Python]) {
        return;
    }
    let scratch = Scratch::new("probe-line");
    let pages = scratch.sub("pages");
    std::fs::create_dir(pages.join("-")).unwrap();
    std::fs::write(pages.join("-/ready"), "ready").unwrap();
    let port = free_port();
    let args = ["-m", "http.server", "--bind", "127.0.0.1", "--directory", pages.to_str().unwrap(), &port.to_string()].map(str::to_owned);
    let mut a = Process::start("a", "python3", &args, scratch.path(), &scratch.join("a.log"));
    eventually(SOON, "a to listen", || std::net::TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|error| error.to_string()));
    let b = Server::start(|_: &Http| Some(Http::answer(200, "ready")));
    let replicas = format!("{{ name: a, url: \"http://127.0.0.1:{port}\" }}, {{ name: b, url: \"http://{}\" }}", b.address);
    let groups = format!("groups:\n  probe: {{ interval: 60s }}\n  overrides: [ {{ name: pair, replicas: [ {replicas} ] }} ]\n");
    let sinks = NOWHERE.strip_prefix("sinks:\n").unwrap();
    let mut sluice = Sluice::prepare_with(&scratch, "probe-line", &format!("{sinks}{groups}"), None);
    sluice.up();
    let group =
        || sluice.get("/api/v1/groups").json()["groups"].as_array().into_iter().flatten().find(|one| one["name"] == "pair").cloned();
    let first = sender("pair", "a", 0).start(sluice.address());
    eventually(SOON, "a to lead", || group().filter(|group| group["leader"] == "a").map(drop).ok_or_else(|| "not yet".to_owned()));
    let second = sender("pair", "b", 70).start(sluice.address());
    eventually(SOON, "b to stand by, both seen", || {
        let (group, seen) = (group().unwrap_or_default(), sluice.get("/api/v1/probes").json());
        let samples =
            group["replicas"].as_array().into_iter().flatten().find(|one| one["name"] == "b").and_then(|one| one["samples"].as_u64());
        let up = seen["prometheus"].as_array().map_or(0, |seen| seen.iter().filter(|one| one["state"] == "up").count());
        if samples > Some(500) && up == 2 { Ok(()) } else { Err(format!("{group} {seen}")) }
    });
    a.kill();
    let killed = std::time::Instant::now();
    let last = eventually(SOON, "b to lead", || {
        let history = sluice.get("/api/v1/groups/pair/history").json();
        let last = history["switches"].as_array().and_then(|all| all.iter().max_by_key(|one| one["at"].as_i64())).cloned();
        last.filter(|last| last["to"] == "b").ok_or_else(|| history.to_string())
    });
    assert_eq!(last["reason"], "refused", "{last}");
    assert!(killed.elapsed() < Duration::from_secs(30), "{:?}: a look of the schedule found it", killed.elapsed());
    drop((first, second));
}

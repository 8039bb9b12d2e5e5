//! Real Prometheus that are looked at: one that is killed, told to end, or stopped is noticed by the look and not by its silence, and its twin leads.
//! Kafka is held against what was acknowledged, as in every failover.

use crate::support::pair::{Pair, Setup};
use crate::support::peers::{Peer, need};
use crate::support::process::{Signal, eventually};
use std::time::Duration;

const PEERS: [Peer; 3] = [Peer::Kafka, Peer::Prometheus, Peer::NodeExporter];

/// A pair whose Prometheus are looked at, both up.
fn looked_at(name: &str) -> Pair {
    let pair = Pair::start(Setup::pair(name, 5));
    let replica = |number: usize, name: &str| format!("        - {{ name: {name}, url: \"{}\" }}\n", pair.replicas[number].url());
    let groups = format!("groups:\n  overrides:\n    - name: {name}\n      replicas:\n{}{}", replica(0, "a"), replica(1, "b"));
    let text = std::fs::read_to_string(pair.sluice.config()).unwrap();
    std::fs::write(pair.sluice.config(), format!("{text}{groups}")).unwrap();
    assert_eq!(pair.sluice.post("/-/reload").status(), 200);
    state_is(&pair, "a", "up");
    state_is(&pair, "b", "up");
    pair.scrape(4);
    pair
}

#[track_caller]
fn state_is(pair: &Pair, replica: &str, state: &str) {
    eventually(Duration::from_secs(30), &format!("{replica} to be seen as {state}"), || {
        let answer = pair.sluice.get("/api/v1/probes").json();
        let seen = answer["prometheus"].as_array().into_iter().flatten().find(|one| one["replica"] == replica).cloned().unwrap_or_default();
        if seen["state"] == state { Ok(()) } else { Err(seen.to_string()) }
    });
}

/// Waits until b leads; says why.
#[track_caller]
fn b_leads(pair: &Pair) -> String {
    eventually(Duration::from_secs(30), "b to lead", || {
        let groups = pair.sluice.get("/api/v1/groups").json();
        let group = groups["groups"][0].clone();
        let name = group["name"].as_str().unwrap_or_default().replace('/', "%2F");
        let history = pair.sluice.get(&format!("/api/v1/groups/{name}/history")).json();
        let last = history["switches"].as_array().and_then(|switches| switches.iter().max_by_key(|switch| switch["at"].as_i64())).cloned();
        match last {
            Some(switch) if group["leader"] == "b" => Ok(switch["reason"].as_str().unwrap_or_default().to_owned()),
            _ => Err(group.to_string()),
        }
    })
}

#[test]
fn a_killed_prometheus_is_dead_at_once() {
    if !need(&PEERS) {
        return;
    }
    let mut pair = looked_at("probed-killed");
    pair.replicas[0].kill();
    assert_eq!(b_leads(&pair), "refused");
    state_is(&pair, "a", "down");
    pair.scrape(4);
    pair.finish();
}

#[test]
fn a_prometheus_that_ends_in_order_hands_over() {
    if !need(&PEERS) {
        return;
    }
    let mut pair = looked_at("probed-ended");
    pair.replicas[0].stop();
    let reason = b_leads(&pair);
    assert!(["refused", "stopping"].contains(&&*reason), "{reason}");
    pair.replicas[0].up();
    state_is(&pair, "a", "up");
    pair.scrape(3);
    pair.finish();
}

#[test]
fn a_stopped_prometheus_answers_no_look_and_is_seen_to_come_back() {
    if !need(&PEERS) {
        return;
    }
    let pair = looked_at("probed-stopped");
    pair.replicas[0].process().signal(Signal::STOP);
    state_is(&pair, "a", "silent");
    let reason = b_leads(&pair);
    assert!(["sick", "silent"].contains(&&*reason), "{reason}");
    pair.replicas[0].process().signal(Signal::CONT);
    state_is(&pair, "a", "up");
    pair.scrape(3);
    pair.finish();
}

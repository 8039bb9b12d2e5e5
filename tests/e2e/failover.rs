//! The main job and every way in which a leader fails, with real Prometheus replicas and a real Kafka.
//!
//! Each scenario ends in `Pair::finish`, which holds the topic against what sluice acknowledged (docs/testing.md). The leader is replica 0,
//! the first one seen.

use crate::support::gate::Mode;
use crate::support::pair::{Pair, Setup};
use crate::support::peers::{Peer, need};
use crate::support::process::Signal;

const PEERS: [Peer; 3] = [Peer::Kafka, Peer::Prometheus, Peer::NodeExporter];

/// The short and the usual scrape interval, each with its scrapes before, during and after the fault.
const SECOND: (u32, u32) = (1, 15);
const QUARTER: (u32, u32) = (15, 4);

/// Runs a pair through `fault`, which is given the pair and how many scrapes a phase lasts.
fn scenario(name: &str, (interval, phase): (u32, u32), fault: impl FnOnce(&mut Pair, u32)) {
    if !need(&PEERS) {
        return;
    }
    let mut pair = Pair::start(Setup::pair(name, interval));
    pair.scrape(phase);
    fault(&mut pair, phase);
    pair.finish();
}

fn steady(pair: &mut Pair, phase: u32) {
    pair.scrape(phase);
}

fn killed(pair: &mut Pair, phase: u32) {
    pair.replicas[0].kill();
    pair.scrape(phase * 2);
}

fn stopped(pair: &mut Pair, phase: u32) {
    pair.replicas[0].process().signal(Signal::STOP);
    pair.scrape(phase);
    pair.replicas[0].process().signal(Signal::CONT);
    pair.scrape(phase);
}

fn restarted(pair: &mut Pair, phase: u32) {
    pair.replicas[0].stop();
    pair.scrape(phase / 2);
    pair.replicas[0].up();
    pair.scrape(phase);
}

/// Its network swallows everything, and gives it back later: the backlog of a leader that never stopped scraping.
fn cut_off_then_sends_its_backlog(pair: &mut Pair, phase: u32) {
    pair.gates[0].set(Mode::Cut);
    pair.scrape(phase);
    pair.gates[0].set(Mode::Open);
    pair.wait_for_news(0);
    pair.scrape(phase);
}

fn answers_lost(pair: &mut Pair, phase: u32) {
    pair.gates[0].set(Mode::Deaf);
    pair.scrape(phase);
    pair.gates[0].set(Mode::Open);
    pair.wait_for_news(0);
    pair.scrape(phase / 2);
}

fn robbed_of_half_its_targets(pair: &mut Pair, phase: u32) {
    pair.exporter.rob("a");
    pair.scrape(phase);
    pair.exporter.heal();
    pair.scrape(phase);
}

/// Both copies of the network gone at once: nobody's samples arrive, then both backlogs do.
fn both_cut_off(pair: &mut Pair, phase: u32) {
    pair.gates.iter().for_each(|gate| gate.set(Mode::Hold));
    pair.scrape(phase);
    pair.gates.iter().for_each(|gate| gate.set(Mode::Open));
    pair.wait_for_news(0);
    pair.wait_for_news(1);
    pair.scrape(phase / 2);
}

fn sluice_restarted_in_order(pair: &mut Pair, phase: u32) {
    pair.sluice.stop();
    pair.sluice.up();
    pair.scrape(phase);
}

fn leader_and_sluice_killed_together(pair: &mut Pair, phase: u32) {
    pair.replicas[0].kill();
    pair.sluice.kill();
    pair.sluice.up();
    pair.wait_for_news(1);
    pair.scrape(phase);
}

#[test]
fn every_second_steady() {
    scenario("steady-1s", SECOND, steady);
}

#[test]
fn every_second_leader_killed() {
    scenario("killed-1s", SECOND, killed);
}

#[test]
fn every_second_leader_stopped_and_continued() {
    scenario("stopped-1s", SECOND, stopped);
}

#[test]
fn every_second_leader_restarted() {
    scenario("restarted-1s", SECOND, restarted);
}

#[test]
fn every_second_leader_cut_off_then_sends_its_backlog() {
    scenario("cut-1s", SECOND, cut_off_then_sends_its_backlog);
}

#[test]
fn every_second_answers_to_the_leader_lost() {
    scenario("deaf-1s", SECOND, answers_lost);
}

#[test]
fn every_second_leader_robbed_of_half_its_targets() {
    scenario("robbed-1s", SECOND, robbed_of_half_its_targets);
}

#[test]
fn every_second_both_cut_off() {
    scenario("both-cut-1s", SECOND, both_cut_off);
}

#[test]
fn every_second_sluice_restarted_in_order() {
    scenario("reborn-1s", SECOND, sluice_restarted_in_order);
}

#[test]
fn every_second_leader_and_sluice_killed_together() {
    scenario("together-1s", SECOND, leader_and_sluice_killed_together);
}

#[test]
fn every_quarter_minute_steady() {
    scenario("steady-15s", QUARTER, steady);
}

#[test]
fn every_quarter_minute_leader_killed() {
    scenario("killed-15s", QUARTER, killed);
}

#[test]
fn every_quarter_minute_leader_stopped_and_continued() {
    scenario("stopped-15s", QUARTER, stopped);
}

#[test]
fn every_quarter_minute_leader_restarted() {
    scenario("restarted-15s", QUARTER, restarted);
}

#[test]
fn every_quarter_minute_leader_cut_off_then_sends_its_backlog() {
    scenario("cut-15s", QUARTER, cut_off_then_sends_its_backlog);
}

#[test]
fn every_quarter_minute_leader_robbed_of_half_its_targets() {
    scenario("robbed-15s", QUARTER, robbed_of_half_its_targets);
}

/// The Operator's labels with `shards: 2`: four servers under one `prometheus`, two of which scrape one half of the targets and two the
/// other. The shard's number is in the replica's name, and belongs to the group.
#[test]
fn every_second_two_operator_shards_of_two_replicas_lose_their_leaders() {
    if !need(&PEERS) {
        return;
    }
    let labels = |name: &str| {
        [("prometheus", "monitoring/k8s"), ("prometheus_replica", name)].map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    };
    let names = ["prometheus-k8s-0", "prometheus-k8s-1", "prometheus-k8s-shard-1-0", "prometheus-k8s-shard-1-1"];
    let (first, second): (Vec<usize>, Vec<usize>) = ((0..4).collect(), (4..8).collect());
    let setup = Setup {
        name: "operator-1s",
        interval: 1,
        replicas: names.map(labels).into(),
        targets: vec![first.clone(), first, second.clone(), second],
        node_exporter: false,
        sink: "",
    };
    let mut pair = Pair::start(setup);
    pair.scrape(15);
    pair.replicas[0].kill();
    pair.replicas[2].kill();
    pair.scrape(25);
    pair.finish();
}

/// The same servers with names that do not tell the shard: four "replicas" of one group that were never copies of each other.
#[test]
fn every_second_replicas_that_were_never_copies_lose_nothing() {
    if !need(&PEERS) {
        return;
    }
    let labels = |name: &str| [("cluster", "never"), ("__replica__", name)].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let (first, second): (Vec<usize>, Vec<usize>) = ((0..4).collect(), (4..8).collect());
    let setup = Setup {
        name: "never-copies-1s",
        interval: 1,
        replicas: ["a", "b", "c", "d"].map(labels).into(),
        targets: vec![first.clone(), first, second.clone(), second],
        node_exporter: false,
        sink: "",
    };
    let mut pair = Pair::start(setup);
    pair.scrape(15);
    pair.replicas[0].kill();
    pair.scrape(25);
    pair.finish();
}

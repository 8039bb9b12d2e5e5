//! Stores and the nodes that write to them: a death at every step, leaders that die, certificates on both sides, and everything a store can hold.

use super::crash::{INTERVAL, sender};
use super::stores::{end, goes_on_at_all, holds, listed, load, sink, sluice};
use crate::support::gate::{Samples, note};
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, let_pass, now_ms};
use crate::support::prompb::{Label, Sample, TimeSeries, encode_v1};
use crate::support::series::samples_of;
use crate::support::stores::{Kind, Store};
use crate::support::trio::Trio;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

/// Places of `src/failpoint.rs` on the way into stores.
pub const PLACES: &[&str] = &["store.taken", "store.buried"];

/// A sample of a series of its own.
fn sample(job: &str, time: i64) -> TimeSeries {
    let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
    TimeSeries {
        labels: vec![label("__name__", "old"), label("job", job)],
        samples: vec![Sample { value: 1.0, timestamp: time }],
        ..TimeSeries::default()
    }
}

#[test]
fn a_death_at_every_step_into_a_store_loses_nothing() {
    if !need(&[Peer::Prometheus, Peer::VictoriaMetrics]) {
        return;
    }
    let scratch = Scratch::new("stores-edges");
    let victoria = Store::start(&scratch, Kind::VictoriaMetrics);
    let prometheus = Store::start(&scratch, Kind::Prometheus);
    let sinks = sink("victoria", &victoria.url(), "") + &sink("prometheus", &prometheus.url(), "");
    let mut sluice = sluice(&scratch, "edges", &sinks);
    let senders = load(&sluice, 2);
    let mut extra = Samples::new();
    for place in PLACES {
        for times in ["", ":2"] {
            goes_on_at_all(&sluice, &["victoria", "prometheus"]);
            sluice.kill();
            sluice.launch_armed(&format!("{place}{times}"));
            if *place == "store.buried" {
                sluice.wait_ready(Duration::from_secs(60));
                // A Prometheus refuses for good what is of days before its newest.
                for number in 0..4 {
                    let old = sample(&format!("{place}{times}-{number}"), now_ms() - 3 * 86_400_000);
                    note(&mut extra, &samples_of(std::slice::from_ref(&old)));
                    // It may die meanwhile.
                    drop(sluice.write(encode_v1(vec![old])));
                }
            }
            let (status, log) = sluice.wait_death(Duration::from_secs(60));
            assert!(status.signal() == Some(9) && log.contains(&format!("fail point {place}: ")), "{place}: {status}\n{log}");
            sluice.up();
        }
    }
    goes_on_at_all(&sluice, &["victoria", "prometheus"]);
    let_pass(Duration::from_millis(u64::try_from(INTERVAL).expect("positive") * 3));
    let (acknowledged, mut offered) = end(senders);
    offered.extend(extra);
    holds(&victoria, Kind::VictoriaMetrics, &acknowledged, &offered);
    holds(&prometheus, Kind::Prometheus, &acknowledged, &offered);
    // Each once, whatever died between the letter and the rest of its round.
    let letters = listed(&sluice, "prometheus")["dead"].as_u64().expect("a number");
    assert!((2..=8).contains(&letters), "{letters} dead letters");
    sluice.stop();
}

#[test]
fn leaders_that_die_lose_nothing_in_the_stores() {
    if !need(&[Peer::Prometheus, Peer::VictoriaMetrics]) {
        return;
    }
    let scratch = Scratch::new("stores-trio");
    let victoria = Store::start(&scratch, Kind::VictoriaMetrics);
    let prometheus = Store::start(&scratch, Kind::Prometheus);
    let sinks = sink("victoria", &victoria.url(), ", compression: zstd") + &sink("prometheus", &prometheus.url(), "");
    let mut trio = Trio::up(&scratch, &format!("sinks:\n{sinks}"));
    let senders: Vec<_> = (0..3).map(|node| sender(&format!("alone-{node}"), "a", 0).start(trio.nodes[node].sluice.address())).collect();
    for kill in 0..6 {
        let leader = eventually(Duration::from_secs(60), "a leader", || trio.leader_of("alone-0", kill % 3));
        let_pass(Duration::from_millis(500 + fastrand::u64(0..1500)));
        trio.nodes[leader].sluice.kill();
        if kill % 2 == 0 {
            let_pass(Duration::from_secs(3));
        }
        trio.nodes[leader].sluice.up();
        trio.wait_well();
    }
    let (acknowledged, offered) = end(senders);
    holds(&victoria, Kind::VictoriaMetrics, &acknowledged, &offered);
    holds(&prometheus, Kind::Prometheus, &acknowledged, &offered);
    for name in ["victoria", "prometheus"] {
        let dead: u64 = trio.nodes.iter().map(|node| listed(&node.sluice, name)["dead"].as_u64().expect("a number")).max().expect("nodes");
        assert_eq!(dead, 0, "{name}");
    }
    trio.nodes.iter_mut().for_each(|node| node.sluice.stop());
}

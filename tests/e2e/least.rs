//! What `at_least_once` doubles: a node killed under load, with the same samples in transactions beside it. What a reader gets twice is counted, told, and tells itself by its headers.

use super::crash::{Accounts, sender};
use crate::support::check::{Received, receive};
use crate::support::kafka::Kafka;
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, let_pass};
use crate::support::sluice::Sluice;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const KILLS: usize = 6;

#[test]
fn at_least_once_doubles_no_more_than_a_moment_of_rows_a_kill_and_readers_can_tell() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let (kafka, scratch) = (Kafka::shared(), Scratch::new("least"));
    let own = format!("least-{}-{}", std::process::id(), fastrand::u32(..));
    let sink = |name: &str, delivery: &str| {
        kafka.create_topic(&format!("{own}-{name}"), 3);
        format!(
            "  - {{ name: {name}, kafka: {{ brokers: [\"{}\"], topic: {own}-{name}, format: rows, delivery: {delivery} }} }}\n",
            kafka.address()
        )
    };
    let sinks = sink("exact", "exactly_once") + &sink("least", "at_least_once");
    let mut sluice = Sluice::prepare_with(&scratch, &own, &sinks, None);
    sluice.up();
    let senders = (0..4).map(|number| sender(&format!("alone-{number}"), "a", 0).start(sluice.address())).collect();
    for _ in 0..KILLS {
        // Long enough that the cursor has followed: what is sent again after a shorter life is sent again after the next one, too.
        let_pass(Duration::from_millis(fastrand::u64(6000..8000)));
        sluice.kill();
        sluice.up();
    }
    let accounts = Accounts::of(senders, Vec::new());
    let least = kafka.reader(&format!("{own}-least"));
    let (mut records, mut received) = (Vec::new(), Received::new());
    eventually(Duration::from_secs(120), "what was acknowledged", || {
        let more = least.drain();
        receive(&mut received, &more);
        records.extend(more);
        let problems = accounts.missing_between(&received, 0, i64::MAX);
        if problems.is_empty() { Ok(()) } else { Err(format!("{} missing", problems.len())) }
    });
    accounts.read_back(&kafka.reader(&format!("{own}-exact")), || sluice.stop());
    records.extend(least.drain());
    let (mut rows, mut known, mut doubled, mut messages) = (0, BTreeSet::new(), 0, BTreeMap::new());
    for record in &records {
        let header = |name: &str| record.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).expect("a header");
        let place = ["sluice-cluster", "sluice-sink", "sluice-shard", "sluice-epoch", "sluice-emission"].map(header);
        let mut again = 0;
        for line in record.payload.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            rows += 1;
            again += usize::from(!known.insert(line.to_vec()));
        }
        doubled += again;
        let first: u64 = place[4].parse().expect("a number");
        let newest = messages.entry((place[2].clone(), record.partition)).or_insert(0);
        assert!(again == 0 || first <= *newest, "a repeat says so by its emission: {place:?} after {newest}");
        *newest = first.max(*newest);
    }
    eprintln!("{KILLS} kills: {doubled} of {rows} rows are there twice");
    // Four senders of fifty series, five times a second: three seconds of them a kill, where a life has six at least.
    assert!(doubled <= KILLS * 3 * 1000, "{doubled} of {rows}");
}

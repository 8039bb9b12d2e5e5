//! sluice killed a hundred times under load, with Kafka up and down: nothing acknowledged is missing, nothing is there twice.

use crate::support::check::{Case, Received, first_few, order, receive};
use crate::support::gate::Samples;
use crate::support::kafka::{Kafka, Reader};
use crate::support::load::{Account, Running, Sender};
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, let_pass};
use crate::support::sluice::Sluice;
use std::time::Duration;

const KILLS: u32 = 100;
/// Milliseconds between the samples of a series.
pub const INTERVAL: i64 = 200;

pub fn sender(group: &str, replica: &str, offset: i64) -> Sender {
    Sender { group: group.to_owned(), replica: replica.to_owned(), series: 50, interval: INTERVAL, offset }
}

#[test]
fn a_hundred_kills_lose_nothing_acknowledged_and_double_nothing() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let scratch = Scratch::new("kills");
    let kafka = Kafka::start("kills-kafka");
    kafka.create_topic("kills", 4);
    let mut sluice = Sluice::start(&scratch, &kafka.address(), "kills", "");
    let to = sluice.address();
    // Replicas of their own, of whose samples each must come through; and pairs, of which one copy must.
    let alone: Vec<Running> = (0..3).map(|number| sender(&format!("alone-{number}"), "a", 0).start(to)).collect();
    let pairs: Vec<[Running; 2]> = (0..2)
        .map(|number| ["a", "b"].map(|name| sender(&format!("pair-{number}"), name, if name == "a" { 0 } else { 70 }).start(to)))
        .collect();

    let mut kafka_runs = true;
    for kill in 1..=KILLS {
        let_pass(Duration::from_millis(fastrand::u64(50..900)));
        sluice.kill();
        // In five of twenty lives there is no Kafka: at sluice's start, at its death, or in the midst of it.
        if kill % 20 == 10 {
            kafka.down();
            kafka_runs = false;
        }
        sluice.launch();
        if kill % 20 == 15 {
            kafka.up();
            kafka_runs = true;
        }
        // Every third life is ended before it was ready.
        if kill % 3 != 0 {
            sluice.wait_ready(Duration::from_secs(60));
        }
    }
    assert!(kafka_runs, "the last life has a Kafka");
    sluice.wait_ready(Duration::from_secs(60));

    let accounts = Accounts::of(alone, pairs);
    let repeated = accounts.repeated();
    assert!(repeated > u64::from(KILLS / 4), "the kills were to hit requests under way: {repeated} were sent again");
    let received = accounts.read_back(&kafka.reader("kills"), || sluice.stop());
    eprintln!("kills: {}", accounts.told(&received));
}

#[test]
fn a_sinks_thread_that_stands_still_in_a_transaction_is_relieved_and_nothing_is_lost_or_doubled() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let (scratch, kafka, topic) = (Scratch::new("relief"), Kafka::shared(), format!("relief-{}", std::process::id()));
    kafka.create_topic(&topic, 4);
    let mut sluice = Sluice::prepare(&scratch, &kafka.address(), &topic, "", None);
    // As in a call of librdkafka's that does not return: within a transaction, to which its position belongs already.
    sluice.launch_armed("sink.positioned:5:hang");
    sluice.wait_ready(Duration::from_secs(60));
    let alone = vec![sender("alone-0", "a", 0).start(sluice.address())];
    eventually(Duration::from_secs(150), "another thread to go on", || {
        let listed = sluice.ask(&["sink", "list", "--json"]);
        if listed.contains("\"relieved\"") { Ok(()) } else { Err(listed) }
    });
    let accounts = Accounts::of(alone, Vec::new());
    let received = accounts.read_back(&kafka.reader(&topic), || sluice.stop());
    eprintln!("relief: {}", accounts.told(&received));
}

/// What was sent by replicas of their own, each of whose samples must come through, and by pairs, of which one copy must.
pub struct Accounts {
    alone: Vec<Account>,
    pairs: Vec<[Account; 2]>,
}

impl Accounts {
    /// Stops the senders, none of whom may have been refused anything for good.
    pub fn of(alone: Vec<Running>, pairs: Vec<[Running; 2]>) -> Accounts {
        let alone = alone.into_iter().map(Running::stop).collect();
        let pairs = pairs.into_iter().map(|pair| pair.map(Running::stop)).collect();
        let accounts = Accounts { alone, pairs };
        for account in accounts.all() {
            assert_eq!(account.refused, Vec::<String>::new());
        }
        accounts
    }

    fn all(&self) -> impl Iterator<Item = &Account> {
        self.alone.iter().chain(self.pairs.iter().flatten())
    }

    /// Requests that were sent more than once.
    pub fn repeated(&self) -> u64 {
        self.all().map(|account| account.repeated).sum()
    }

    /// Reads until nothing acknowledged is missing, stops what writes, and reads on: nothing may be there twice or out of order.
    #[track_caller]
    pub fn read_back(&self, reader: &Reader, stop: impl FnOnce()) -> Received {
        let mut received = Received::new();
        eventually(Duration::from_secs(120), "Kafka to hold what was acknowledged", || {
            receive(&mut received, &reader.drain());
            let mut problems: Vec<String> = self.alone.iter().flat_map(|account| missing(account, &received)).collect();
            problems.extend(self.pairs.iter().filter_map(|pair| covered(pair, &received).err()));
            if problems.is_empty() { Ok(()) } else { Err(first_few(&problems)) }
        });
        stop();
        receive(&mut received, &reader.drain());
        let problems: Vec<String> = received.iter().flat_map(|(series, rows)| order(series, rows)).collect();
        assert!(problems.is_empty(), "{}", first_few(&problems));
        received
    }

    /// Waits until nothing that was acknowledged to replicas without a twin is missing; it may be there twice.
    #[track_caller]
    pub fn arrived(&self, reader: &Reader) {
        let mut received = Received::new();
        eventually(Duration::from_secs(120), "Kafka to hold what was acknowledged", || {
            receive(&mut received, &reader.drain());
            let problems = self.missing_between(&received, 0, i64::MAX);
            if problems.is_empty() { Ok(()) } else { Err(first_few(&problems)) }
        });
    }

    /// Of what was acknowledged to replicas without a twin in this time: what is not there.
    pub fn missing_between(&self, received: &Received, from: i64, to: i64) -> Vec<String> {
        let mut problems = Vec::new();
        for (series, times) in self.alone.iter().flat_map(|account| &account.acknowledged) {
            let there = |time: i64| received.get(series).is_some_and(|rows| rows.iter().any(|one| one.row.time == time));
            let absent = times.keys().filter(|time| (from..to).contains(*time) && !there(**time));
            problems.extend(absent.map(|time| format!("{series}: {time} was acknowledged and is missing")));
        }
        problems
    }

    /// For the test's log.
    pub fn told(&self, received: &Received) -> String {
        let rows: usize = received.values().map(Vec::len).sum();
        format!("{rows} rows of {} series, {} requests sent more than once", received.len(), self.repeated())
    }
}

/// Acknowledged samples of a replica without a twin that are not in Kafka, and rows that nobody sent.
fn missing(account: &Account, received: &Received) -> Vec<String> {
    let mut problems = Vec::new();
    for (series, times) in &account.acknowledged {
        let rows = received.get(series).map(Vec::as_slice).unwrap_or_default();
        let there: std::collections::HashSet<i64> = rows.iter().map(|one| one.row.time).collect();
        problems.extend(
            times.keys().filter(|time| !there.contains(time)).map(|time| format!("{series}: {time} was acknowledged and is missing")),
        );
        let offered = &account.offered[series];
        problems.extend(
            rows.iter()
                .filter(|one| offered.get(&one.row.time) != Some(&one.row.value))
                .map(|one| format!("{series}: nobody sent {}", one.row.time)),
        );
    }
    problems
}

/// What the gates' checker says of one pair.
fn covered(pair: &[Account; 2], received: &Received) -> Result<(), String> {
    let acknowledged: Vec<Samples> = pair.iter().map(|account| account.acknowledged.clone()).collect();
    let offered: Vec<Samples> = pair.iter().map(|account| account.offered.clone()).collect();
    let own: Received = received
        .iter()
        .filter(|(series, _)| offered[0].contains_key(*series))
        .map(|(series, rows)| (series.clone(), rows.clone()))
        .collect();
    Case { interval: INTERVAL, acknowledged: &acknowledged, offered: &offered }.check(&own).map(drop)
}

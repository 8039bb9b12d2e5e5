//! Disks that are full, that fail, and that give back something else than was written.
//!
//! In every case: nothing acknowledged is lost, or sluice says clearly that it will not go on.

use crate::support::check::{Received, first_few, receive};
use crate::support::disk::{SmallDisk, fail_fsync};
use crate::support::gate::Samples;
use crate::support::kafka::Kafka;
use crate::support::load::{Account, Sender};
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, let_pass, now_ms};
use crate::support::proxy::Proxy;
use crate::support::series::Series;
use crate::support::sluice::Sluice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

fn sender() -> Sender {
    Sender { group: "disk".to_owned(), replica: "a".to_owned(), series: 200, interval: 100, offset: 0 }
}

/// Waits until Kafka holds every acknowledged sample.
#[track_caller]
fn expect_all(kafka: &Kafka, topic: &str, acknowledged: &Samples) {
    let reader = kafka.reader(topic);
    let mut received = Received::new();
    eventually(Duration::from_secs(60), "Kafka to hold what was acknowledged", || {
        receive(&mut received, &reader.drain());
        let there = |series: &Series, time: &i64| received.get(series).is_some_and(|rows| rows.iter().any(|one| one.row.time == *time));
        let missing = acknowledged
            .iter()
            .flat_map(|(series, times)| times.keys().filter(move |time| !there(series, time)).map(move |time| format!("{series} {time}")));
        let missing: Vec<String> = missing.collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{} missing: {}", missing.len(), first_few(&missing))) }
    });
}

fn topic(kafka: &Kafka, name: &str) -> String {
    let topic = format!("{name}-{}", fastrand::u32(..));
    kafka.create_topic(&topic, 2);
    topic
}

#[test]
fn a_full_disk_answers_503_and_recovers_by_itself() {
    if !need(&[Peer::Kafka, Peer::Tmpfs]) {
        return;
    }
    let kafka = Kafka::shared();
    let topic = topic(&kafka, "full");
    let scratch = Scratch::new("full");
    let disk = SmallDisk::new(&scratch, 256);
    let mut sluice = Sluice::on_small_disk(&scratch, &disk, &kafka.address(), &topic, "");
    let load = sender().start(sluice.address());
    eventually(Duration::from_secs(20), "samples to be taken", || {
        if load.acknowledged() > 1000 { Ok(()) } else { Err(load.acknowledged().to_string()) }
    });

    disk.fill();
    let body = || Sender { group: "other".to_owned(), ..sender() }.body(now_ms());
    eventually(Duration::from_secs(30), "503", || {
        let answer = sluice.write(body()).map_err(|error| error.to_string())?;
        assert!(answer.status() == 503 || answer.status() / 100 == 2, "neither taken nor \"later\": {} {}", answer.first, answer.text());
        if answer.status() != 503 {
            return Err(answer.first);
        }
        assert!(answer.header("retry-after").is_some(), "503 says when to come back: {:?}", answer.headers);
        assert!(answer.text().contains("disk"), "503 says why: {}", answer.text());
        Ok(())
    });
    let_pass(Duration::from_secs(3));
    assert!(sluice.process().ended().is_none(), "sluice runs on");
    disk.free();
    eventually(Duration::from_secs(60), "samples to be taken again", || {
        let answer = sluice.write(body()).map_err(|error| error.to_string())?;
        if answer.status() / 100 == 2 { Ok(()) } else { Err(answer.text()) }
    });
    let account = load.stop();
    assert_eq!(account.refused, Vec::<String>::new());
    expect_all(&kafka, &topic, &account.acknowledged);
    sluice.stop();
    sluice.up();
    sluice.stop();
}

#[test]
fn a_failed_fsync_ends_the_process_and_loses_nothing_acknowledged() {
    if !need(&[Peer::Kafka, Peer::Strace]) {
        return;
    }
    let kafka = Kafka::shared();
    let topic = topic(&kafka, "fsync");
    let scratch = Scratch::new("fsync");
    let mut sluice = Sluice::start(&scratch, &kafka.address(), &topic, "");
    let load = sender().start(sluice.address());
    eventually(Duration::from_secs(20), "samples to be taken", || {
        if load.acknowledged() > 1000 { Ok(()) } else { Err(load.acknowledged().to_string()) }
    });
    let strace = fail_fsync(sluice.process().pid(), &scratch);
    let (status, log) = sluice.wait_death(Duration::from_secs(30));
    drop(strace);
    assert!(!status.success(), "a failed fsync is a failure: {status}");
    assert!(log.contains("sync") || log.contains("Input/output error"), "the last words name the reason: {log}");
    // The sender holds on to what was not acknowledged, and comes again.
    sluice.up();
    let before = load.acknowledged();
    eventually(Duration::from_secs(20), "samples to be taken again", || {
        if load.acknowledged() > before + 1000 { Ok(()) } else { Err("none".to_owned()) }
    });
    let account = load.stop();
    expect_all(&kafka, &topic, &account.acknowledged);
    sluice.stop();
}

/// What is done to the files of a sluice that was killed with undelivered samples.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// Bytes of a write that never finished, after the end of the log.
    TornTail,
    /// The log's second half is gone, acknowledged entries with it.
    Truncated,
    /// One bit in the middle of the log.
    FlippedBit,
    /// One bit in the middle of the largest table or blob file.
    FlippedBitInTable,
    /// The file that says which manifest counts.
    NoCurrent,
    /// Every file is there and empty.
    Emptied,
}

/// What must come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It starts, and Kafka gets all that was acknowledged.
    Recovered,
    /// It ends with an error that names the directory or the file, and says what to do.
    Refused,
    /// One of both: whether the damaged bytes are needed is RocksDB's affair.
    Either,
}

fn files(dir: &Path, kinds: &[&str]) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).expect("data directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(files(&path, kinds));
        } else if path.extension().is_some_and(|kind| kinds.iter().any(|one| kind == *one)) {
            all.push(path);
        }
    }
    all.sort_by_key(|path| path.metadata().map_or(0, |meta| meta.len()));
    all
}

fn damage(data: &Path, how: Damage) {
    let largest = |kinds: &[&str]| files(data, kinds).pop().unwrap_or_else(|| panic!("no {kinds:?} below {}", data.display()));
    let change = |path: PathBuf, how: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = std::fs::read(&path).expect("file");
        how(&mut bytes);
        std::fs::write(&path, bytes).expect("file");
    };
    // RocksDB's write-ahead logs are the `.log` files with bytes in them.
    match how {
        Damage::TornTail => change(largest(&["log"]), &|bytes| bytes.extend_from_slice(&[0x5a; 777])),
        Damage::Truncated => change(largest(&["log"]), &|bytes| bytes.truncate(bytes.len() / 2)),
        Damage::FlippedBit => change(largest(&["log"]), &|bytes| flip(bytes)),
        Damage::FlippedBitInTable => change(largest(&["sst", "blob"]), &|bytes| flip(bytes)),
        Damage::NoCurrent => {
            let current = walk(data).into_iter().find(|path| path.ends_with("CURRENT")).expect("a CURRENT");
            std::fs::remove_file(current).expect("CURRENT");
        }
        Damage::Emptied => walk(data).into_iter().for_each(|path| std::fs::write(path, "").expect("file")),
    }
}

fn flip(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("data directory").flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// Takes samples while Kafka cannot be reached, is killed, its files are damaged, and it is started with a way to Kafka.
fn after_damage(how: Damage, outcome: Outcome) {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let name = format!("{how:?}").to_lowercase();
    let kafka = Kafka::shared();
    let topic = topic(&kafka, &name);
    let scratch = Scratch::new(&name);
    // The broker sends its own address to who gets through once, so this cuts sluice off only until then.
    let proxy = Proxy::to(kafka.address().parse().expect("an address"));
    let mut sluice = Sluice::start(&scratch, &proxy.address(), &topic, "");
    let account = fill(&mut sluice, how);
    sluice.kill();
    damage(sluice.data(), how);
    proxy.set_open(true);
    sluice.launch();
    let refused = recovered_or_refused(&mut sluice, &kafka, &topic, &account);
    match (outcome, refused) {
        (Outcome::Recovered, Some(log)) => panic!("{how:?}: nothing acknowledged was lost, but it refused to start: {log}"),
        (Outcome::Refused, None) => panic!("{how:?}: went on as if nothing had happened"),
        (_, Some(log)) => {
            let data = sluice.data().display().to_string();
            assert!(log.contains(&data), "{how:?}: the message names the directory {data}: {log}");
        }
        (_, None) => {}
    }
}

/// Enough samples for what is to be damaged.
fn fill(sluice: &mut Sluice, how: Damage) -> Account {
    let load = sender().start(sluice.address());
    let enough = if matches!(how, Damage::FlippedBitInTable) { 60_000 } else { 4_000 };
    eventually(Duration::from_secs(60), "samples to be taken", || {
        if load.acknowledged() > enough { Ok(()) } else { Err(load.acknowledged().to_string()) }
    });
    let account = load.stop();
    if matches!(how, Damage::FlippedBitInTable) {
        // An orderly end leaves tables.
        sluice.stop();
        sluice.up();
    }
    account
}

/// The log's end when it refused; None when it runs and Kafka holds all.
fn recovered_or_refused(sluice: &mut Sluice, kafka: &Arc<Kafka>, topic: &str, account: &Account) -> Option<String> {
    let reader = kafka.reader(topic);
    let mut received = Received::new();
    eventually(Duration::from_secs(90), "an end, or all samples in Kafka", || {
        if let Some(status) = sluice.process().ended() {
            assert!(!status.success(), "an end with an error: {status}");
            return Ok(Some(sluice.process().log_tail(4000)));
        }
        receive(&mut received, &reader.drain());
        let there = |series: &Series, time: &i64| received.get(series).is_some_and(|rows| rows.iter().any(|one| one.row.time == *time));
        let all = account.acknowledged.iter().flat_map(|(series, times)| times.keys().map(move |time| (series, time)));
        let missing = all.filter(|(series, time)| !there(series, time)).count();
        if missing == 0 {
            Ok(None)
        } else {
            Err(format!("{missing} are missing, and it runs; the end of its log: {}", sluice.process().log_tail(1500)))
        }
    })
}

#[test]
fn a_torn_tail_of_the_log_is_cut_off_and_nothing_is_lost() {
    after_damage(Damage::TornTail, Outcome::Recovered);
}

#[test]
fn a_truncated_log_is_refused() {
    after_damage(Damage::Truncated, Outcome::Refused);
}

#[test]
fn a_flipped_bit_in_the_log_is_refused() {
    after_damage(Damage::FlippedBit, Outcome::Refused);
}

#[test]
fn a_flipped_bit_in_a_table_is_refused_or_does_not_matter() {
    after_damage(Damage::FlippedBitInTable, Outcome::Either);
}

#[test]
fn a_data_directory_without_its_manifest_is_refused() {
    after_damage(Damage::NoCurrent, Outcome::Refused);
}

#[test]
fn a_data_directory_of_empty_files_is_refused() {
    after_damage(Damage::Emptied, Outcome::Refused);
}

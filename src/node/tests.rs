//! A whole node on a real disk: offers in, emissions and bodies out, across stops, kills and damage.

use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::*;
use crate::clock;
use crate::node::settings::Reserve;
use crate::node::settings::Settings;
use crate::node::start::Node;
use crate::shard::command::CursorMove;
use crate::shard::command::Policy;
use crate::shard::command::Resent;
use crate::shard::command::Start;
use crate::shard::command::SwitchTo;
use crate::wire::digest;
use crate::wire::encode::Encoder;
use crate::wire::encode::NewSeries;
use crate::wire::encode::Sample;
use crate::wire::measure;
use crate::wire::pack::Packing;
use crate::wire::remote_write::Limits;
use crate::wire::remote_write::Protocol;
use crate::wire::remote_write::Walker;

mod churn;
mod damage;
mod forget;
mod leadership;
mod levels;
mod limits;
mod pulse;
mod snapshots;
mod space;
mod together;

fn settings(directory: &Path) -> Settings {
    let mut settings = Settings { data_shards: 2, reserve: Reserve::Bytes(1), ..Settings::new(directory) };
    settings.timing.view = Duration::from_millis(20);
    settings.timing.free = Duration::from_millis(50);
    settings.timing.space = Duration::from_millis(20);
    settings
}

fn start(settings: Settings) -> Node {
    Node::start(settings, Box::new(|reason| eprintln!("fatal: {reason}"))).unwrap()
}

/// A runtime on which to wait for answers.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), future).await.expect("no answer in 30 s") })
}

#[track_caller]
fn eventually(mut holds: impl FnMut() -> bool) {
    let before = clock::now();
    while !holds() {
        assert!(clock::now() - before < Duration::from_secs(60), "not in 60 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A request of so many series with one sample each; `pad` makes bodies large.
fn offer(seed: u64, group: &str, replica: &str, (series, time, pad): (usize, i64, usize)) -> Offer {
    let mut encoder = Encoder::new(Protocol::V1);
    let mut random = fastrand::Rng::with_seed(time as u64);
    for number in 0..series {
        let name = number.to_string();
        let padding: String = std::iter::repeat_with(|| random.alphanumeric()).take(pad).collect();
        let labels = [("__name__", "m"), ("__replica__", replica), ("n", &*name), ("pad", &*padding)];
        let labels = if pad > 0 { &labels[..] } else { &labels[..3] };
        encoder.push(&NewSeries { labels, samples: &[Sample::new(time, number as f64)], ..NewSeries::default() });
    }
    let (mut raw, mut packed, mut items, mut encoded) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    encoder.finish(&mut raw);
    measure::digest_of(&mut Walker::new(seed), (Protocol::V1, &raw), &Limits::default(), &mut items).unwrap();
    pack::pack_snappy(&raw, &mut packed);
    digest::encode(&items, &mut encoded);
    Offer {
        group: group.to_owned(),
        replica: replica.to_owned(),
        protocol: Protocol::V1,
        packing: Packing::Snappy,
        strip: vec!["__replica__".to_owned()],
        settings: 0,
        digest: encoded,
        body: Bytes::from(packed),
        unpacked: None,
        bare: Vec::new(),
        claim: None,
    }
}

fn send(handle: &Handle, mut offer: Offer) -> Result<(), OfferError> {
    wait(async {
        let shard = handle.assign(&offer.group).await.unwrap();
        offer.settings = handle.settings_version(shard);
        handle.offer(offer).await
    })
}

fn sink(name: &str) -> SinkSettings {
    SinkSettings { name: name.into(), start: Start::Oldest, budget_bytes: 1 << 40, budget_ms: i64::MAX / 2, policy: Policy::DropOldest }
}

fn all_emissions(handle: &Handle, shard: ShardId) -> Vec<Arc<Emission>> {
    let mut found = Vec::new();
    loop {
        let more = handle.emissions(shard, found.len() as u64, 100).unwrap();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

#[test]
fn what_is_offered_comes_out_once_and_stays_across_a_stop() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(settings(directory.path()));
    let handle = node.handle.clone();
    wait(handle.ready()).unwrap();
    wait(handle.set_sinks(&[sink("k")], 0)).unwrap();
    let (seed, now) = (handle.hash_seed(), clock::wall_ms());
    for step in 0..20 {
        let time = now - 20_000 + step * 1_000;
        for replica in ["a", "b"] {
            for group in ["g", "h"] {
                send(&handle, offer(seed, group, replica, (10, time, 0))).unwrap();
            }
        }
    }
    let shards = [handle.group("g").unwrap(), handle.group("h").unwrap()];
    assert_ne!(shards[0], shards[1]);
    let before: Vec<_> = shards.iter().map(|&shard| all_emissions(&handle, shard)).collect();
    for (emissions, shard) in before.iter().zip(shards) {
        assert_eq!(emissions.iter().map(|emission| emission.picks.len()).sum::<usize>(), 200);
        assert_eq!(emissions.iter().map(|emission| emission.number).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
        let body = handle.body(shard, emissions[0].entry).unwrap().unwrap();
        let mut seen = Vec::new();
        body.pick(&mut Walker::new(seed), &emissions[0].picks, &mut |picked| {
            assert!(picked.labels.iter().all(|label| label.name != "__replica__"));
            seen.push(picked.item);
        })
        .unwrap();
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
    }
    eventually(|| handle.groups().len() == 2 && handle.groups()[0].counts.received == 400);
    let group = &handle.groups()[0];
    assert_eq!((group.leader.as_deref(), group.series, group.counts.emitted, group.counts.received), (Some("a"), 10, 200, 400));
    assert_eq!(node.stop(), Vec::<String>::new());
    drop(handle); // the disk is closed with the last handle

    let node = start(settings(directory.path()));
    let again = node.handle.clone();
    wait(again.ready()).unwrap();
    assert_eq!(again.hash_seed(), seed);
    for (emissions, &shard) in before.iter().zip(&shards) {
        assert_eq!(all_emissions(&again, shard), *emissions);
        assert!(emissions.iter().all(|emission| again.body(shard, emission.entry).unwrap().is_some()));
    }
    // What waited still waits, and a switch lets it out only where the leader left a hole: nowhere.
    let switch = SwitchTo { group: "g".into(), from: "a".into(), to: "b".into(), reason: "test".into(), ..SwitchTo::default() };
    wait(again.propose(shards[0], Command::Switch(switch))).unwrap();
    eventually(|| again.groups()[0].leader.as_deref() == Some("b"));
    assert_eq!(all_emissions(&again, shards[0]).len(), 20);
    assert_eq!(again.groups()[0].switches[0].reason, "test");
    assert!(node.stop().is_empty());
    assert!(matches!(send(&again, offer(seed, "g", "a", (1, now, 0))), Err(OfferError::Stopping)));
}

#[test]
fn a_fill_keeps_its_body_and_cursors_are_seen() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(settings(directory.path()));
    let handle = node.handle.clone();
    wait(handle.ready()).unwrap();
    wait(handle.set_sinks(&[sink("k")], 0)).unwrap();
    let (seed, now) = (handle.hash_seed(), clock::wall_ms());
    send(&handle, offer(seed, "g", "a", (5, now - 5_000, 0))).unwrap();
    send(&handle, offer(seed, "g", "b", (5, now, 0))).unwrap();
    let shard = handle.group("g").unwrap();
    let switch = SwitchTo { group: "g".into(), to: "b".into(), ..SwitchTo::default() };
    wait(handle.propose(shard, Command::Switch(switch.clone()))).unwrap();
    let found = all_emissions(&handle, shard);
    assert_eq!((found.len(), &*found[1].replica), (2, "b"));
    assert_eq!(handle.body(shard, found[1].entry).unwrap().unwrap().strip, ["__replica__"]);
    assert!(matches!(wait(handle.propose(shard, Command::Switch(switch))), Err(ProposeError::Void(_))));
    assert_eq!(handle.cursors(shard)[0].pending, 10);
    let moved = CursorMove { sink: "k".into(), epoch: 1, emission: 2, dead: 1, ..CursorMove::default() };
    wait(handle.propose(shard, Command::Cursor(moved))).unwrap();
    let cursor = handle.cursors(shard)[0].clone();
    assert_eq!((cursor.emission, cursor.delivered, cursor.dead, cursor.pending), (2, 9, 1, 0));
    let letter =
        DeadLetter { sink: "k".into(), emission: 2, item: 3, reason: "too large".into(), payload: b"row".to_vec(), tenant: "a".into() };
    wait(handle.propose(shard, Command::Dead(letter.clone()))).unwrap();
    eventually(|| handle.dead(shard, "k", 0, 10).unwrap() == [(1, letter.clone())]);
    assert_eq!(handle.dead(shard, "k", u64::MAX, 10).unwrap(), []);
    wait(handle.propose(shard, Command::Dead(letter.clone()))).unwrap();
    wait(handle.propose(shard, Command::Resent(Resent { sink: "k".into(), numbers: vec![1] }))).unwrap();
    // At once, whatever the disk has.
    assert!(handle.dead(shard, "k", 0, 10).unwrap().iter().all(|(number, _)| *number == 2));
    eventually(|| handle.dead(shard, "k", 0, 10).unwrap() == [(2, letter.clone())]);
    assert!(node.stop().is_empty());
}

#[test]
fn many_offers_share_a_sync_and_answers_come_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(settings(directory.path()));
    let handle = node.handle.clone();
    wait(handle.ready()).unwrap();
    let (seed, now) = (handle.hash_seed(), clock::wall_ms());
    send(&handle, offer(seed, "g", "a", (1, now - 100_000, 0))).unwrap();
    let before = handle.stats().store.syncs;
    let dropped = Arc::new(AtomicU64::new(0));
    struct Claim(Arc<AtomicU64>);
    impl Drop for Claim {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    wait(async {
        let mut answers = tokio::task::JoinSet::new();
        for step in 0..500 {
            let (handle, mut offer) = (handle.clone(), offer(seed, "g", "a", (20, now - 90_000 + step, 0)));
            offer.claim = Some(Box::new(Claim(Arc::clone(&dropped))));
            answers.spawn(async move { handle.offer(offer).await });
        }
        while let Some(answer) = answers.join_next().await {
            answer.unwrap().unwrap();
        }
    });
    assert!(handle.stats().store.syncs - before < 250, "{} syncs", handle.stats().store.syncs - before);
    assert_eq!(dropped.load(Ordering::SeqCst), 500);
    assert!(node.stop().is_empty());
}

#[test]
fn a_queue_that_is_full_refuses_and_says_which() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(Settings { queue_slots: 0, ..settings(directory.path()) });
    let handle = node.handle.clone();
    wait(handle.ready()).unwrap();
    let refused = send(&handle, offer(1, "g", "a", (1, clock::wall_ms(), 0)));
    assert_eq!(refused, Err(OfferError::Overloaded { reason: "slots" }));
    eventually(|| handle.stats().shards.iter().any(|shard| shard.refused == [("slots", 1)]));
    assert!(node.stop().is_empty());
}

#[test]
fn a_second_process_is_told_that_the_directory_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(settings(directory.path()));
    let Err(error) = Node::start(settings(directory.path()), Box::new(|_| {})) else { panic!("opened twice") };
    assert!(error.to_string().contains("in use"), "{error}");
    assert!(node.stop().is_empty());
}

#[test]
fn without_room_samples_are_refused_and_commands_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(Settings { reserve: Reserve::Bytes(u64::MAX / 4), ..settings(directory.path()) });
    let handle = node.handle.clone();
    wait(handle.ready()).unwrap();
    assert_eq!(send(&handle, offer(1, "g", "a", (1, clock::wall_ms(), 0))), Err(OfferError::DiskFull));
    assert!(handle.stats().store.disk_full);
    wait(handle.set_sinks(&[sink("k")], 0)).unwrap();
    assert!(node.stop().is_empty());
}

#[test]
fn a_silent_leader_is_followed_by_its_twin_and_people_can_ask_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = settings(directory.path());
    settings.timing.detect = Duration::from_millis(20);
    let node = start(settings);
    let handle = node.handle.clone();
    wait(handle.ready()).unwrap();
    let seed = handle.hash_seed();
    let both = |replicas: &[&str]| {
        let now = clock::wall_ms();
        replicas.iter().for_each(|replica| send(&handle, offer(seed, "g", replica, (20, now, 0))).unwrap());
        std::thread::sleep(Duration::from_millis(100));
    };
    for _ in 0..40 {
        both(&["a", "b"]);
    }
    let leader = || handle.groups().first().and_then(|group| group.leader.clone());
    eventually(|| leader().as_deref() == Some("a"));
    wait(handle.step_down("g")).unwrap();
    eventually(|| leader().as_deref() == Some("b"));
    let before = clock::now();
    while leader().as_deref() != Some("a") {
        both(&["a"]);
        assert!(clock::now() - before < Duration::from_secs(20), "b is silent and leads on");
    }
    let group = &handle.groups()[0];
    let reasons: Vec<&str> = group.switches.iter().map(|switch| &*switch.reason).collect();
    assert_eq!(reasons, ["step-down", "silent"]);
    assert!(!group.switches[1].evidence.is_empty());
    assert!(node.stop().is_empty());
}

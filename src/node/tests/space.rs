//! Room is given back as sinks come along, shard by shard, and a sink that does not costs its own bodies and no more.

use super::*;

const BODY: usize = 100 << 10;

/// Sends about so many MiB to a group, every second request by the standby.
fn fill(handle: &Handle, group: &str, mebibytes: usize) {
    let (seed, now) = (handle.hash_seed(), clock::wall_ms());
    for step in 0..(mebibytes << 20) / BODY {
        let replica = ["a", "b"][step % 2];
        let time = now - 1_000_000 + step as i64 * 700;
        let mut large = offer(seed, group, replica, (10, time, 7_000));
        large.body = Bytes::from(large.body.to_vec());
        send(handle, large).unwrap();
    }
}

fn deliver(handle: &Handle, shard: ShardId, sink: &str) {
    let progress = *handle.progress(shard).borrow();
    let cursor = handle.cursors(shard).iter().find(|cursor| cursor.sink == sink).unwrap().clone();
    let (emission, delivered) = (progress.last_emission, progress.samples - (cursor.delivered));
    let moved = CursorMove { sink: sink.into(), epoch: cursor.epoch, emission, delivered, ..CursorMove::default() };
    wait(handle.propose(shard, Command::Cursor(moved))).unwrap();
}

fn log_entries(handle: &Handle, family: Family, shard: ShardId) -> usize {
    let mut count = 0;
    handle
        .shared
        .store
        .scan(family, shard, 0, &mut |_, _| {
            count += 1;
            true
        })
        .unwrap();
    count
}

#[test]
fn room_comes_back_when_sinks_have_come_along_shard_by_shard() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = settings(directory.path());
    settings.timing.image = Duration::from_millis(200);
    let node = start(settings);
    let handle = node.handle.clone();
    wait(handle.ready()).unwrap();
    wait(handle.set_sinks(&[sink("quick"), sink("slow")], 0)).unwrap();
    fill(&handle, "g", 12);
    fill(&handle, "h", 12);
    let (g, h) = (handle.group("g").unwrap(), handle.group("h").unwrap());
    // Everything waiting is judged within the minute that a sample may wait; a switch does it now.
    for (group, shard) in [("g", g), ("h", h)] {
        let switch = SwitchTo { group: group.into(), to: "b".into(), ..SwitchTo::default() };
        wait(handle.propose(shard, Command::Switch(switch))).unwrap();
    }
    for (shard, sinks) in [(g, &["quick", "slow"][..]), (h, &["quick"][..])] {
        sinks.iter().for_each(|sink| deliver(&handle, shard, sink));
    }
    let few = |family, shard| log_entries(&handle, family, shard) < 10;
    eventually(|| few(Family::LogStandby, g) && few(Family::LogStandby, h) && few(Family::LogLeader, g) && few(Family::Emissions, g));
    let kept = log_entries(&handle, Family::LogLeader, h);
    let emitted = all_emissions(&handle, h);
    assert!(kept >= 60, "the slow sink's bodies stay: {kept}");
    assert!(emitted.iter().all(|emission| handle.body(h, emission.entry).unwrap().is_some()));
    deliver(&handle, h, "slow");
    eventually(|| few(Family::LogLeader, h));
    // Tables and blob files go with them; the write-ahead log goes with its next file.
    let before = handle.shared.store.taken().unwrap();
    eventually(|| {
        let taken = handle.shared.store.taken().unwrap();
        taken.disk_bytes - taken.wal_bytes < 2 << 20
    });
    assert!(before.wal_bytes > 0);
    assert!(node.stop().is_empty());
}

#[test]
fn a_budget_drops_the_oldest_by_an_entry() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(settings(directory.path()));
    let handle = node.handle.clone();
    wait(handle.ready()).unwrap();
    let small = SinkSettings { budget_bytes: 1 << 20, ..sink("small") };
    wait(handle.set_sinks(&[small, sink("large")], 0)).unwrap();
    fill(&handle, "g", 4);
    let shard = handle.group("g").unwrap();
    let of = |name: &str| handle.cursors(shard).iter().find(|cursor| cursor.sink == name).unwrap().clone();
    eventually(|| of("small").dropped > 0 && of("small").pending_bytes <= 1 << 20);
    let (small, large) = (of("small"), of("large"));
    assert!(small.epoch > 1 && large.epoch == 1 && large.dropped == 0);
    let samples = handle.progress(shard).borrow().samples;
    assert_eq!(small.dropped + small.pending, samples);
    assert_eq!(large.pending, samples);
    assert!(node.stop().is_empty());
}

#[test]
fn a_budget_may_refuse_instead() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(settings(directory.path()));
    let handle = node.handle.clone();
    wait(handle.ready()).unwrap();
    wait(handle.set_sinks(&[SinkSettings { budget_bytes: 300 << 10, policy: Policy::Refuse, ..sink("strict") }], 0)).unwrap();
    let (seed, now) = (handle.hash_seed(), clock::wall_ms());
    let mut step = 0;
    eventually(|| {
        step += 1;
        send(&handle, offer(seed, "g", "a", (10, now + step, 7_000))) == Err(OfferError::Overloaded { reason: "sink_budget" })
    });
    let shard = handle.group("g").unwrap();
    deliver(&handle, shard, "strict");
    eventually(|| send(&handle, offer(seed, "g", "a", (10, now + step, 7_000))).is_ok());
    assert!(node.stop().is_empty());
}

/// On a small file system named by `SLUICE_SMALL_DISK` (a tmpfs of 64 MiB or more): it fills up, samples are refused, commands are not, and
/// it recovers by itself once a sink has come along; a restart while it is full has everything that was acknowledged.
#[test]
fn a_full_disk_refuses_and_recovers_by_itself() {
    let Some(disk) = std::env::var_os("SLUICE_SMALL_DISK") else {
        eprintln!("not run: SLUICE_SMALL_DISK names no small file system");
        return;
    };
    let directory = tempfile::tempdir_in(disk).unwrap();
    let settings = || {
        let mut settings = Settings { reserve: Reserve::Percent(10), ..settings(directory.path()) };
        settings.timing.image = Duration::from_millis(200);
        settings
    };
    let node = start(settings());
    let handle = node.handle.clone();
    wait(handle.ready()).unwrap();
    wait(handle.set_sinks(&[sink("k")], 0)).unwrap();
    let (seed, now) = (handle.hash_seed(), clock::wall_ms());
    let (mut sent, mut refused) = (0, 0);
    while refused < 20 {
        match send(&handle, offer(seed, "g", "a", (10, now - 1_000_000 + sent * 700, 7_000))) {
            Ok(()) => (sent, refused) = (sent + 1, 0),
            Err(error) => {
                assert_eq!(error, OfferError::DiskFull);
                refused += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
    println!("full after {sent} requests: {:?}", handle.stats().store);
    assert!(sent > 100);
    let shard = handle.group("g").unwrap();
    assert_eq!(handle.progress(shard).borrow().samples, 10 * sent as u64);
    assert!(node.stop().is_empty());
    drop(handle);

    let node = start(settings());
    let handle = node.handle.clone();
    wait(handle.ready()).unwrap();
    assert_eq!(all_emissions(&handle, shard).len(), sent as usize);
    // The start itself wrote the write-ahead log into tables, which may have made room already.
    deliver(&handle, shard, "k");
    eventually(|| send(&handle, offer(seed, "g", "a", (10, now, 7_000))).is_ok());
    println!("recovered: {:?}", handle.stats().store);
    assert!(node.stop().is_empty());
}

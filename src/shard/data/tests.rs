//! The state by example, and replay from any image.

use super::*;
use crate::model::Item;
use crate::model::Kind;
use crate::shard::command::CursorMove;
use crate::shard::command::NewEpoch;
use crate::shard::command::Policy;
use crate::shard::command::Resent;
use crate::shard::command::SinkSettings;
use crate::shard::command::Start;
use crate::wire::digest;
use crate::wire::pack::Packing;
use crate::wire::remote_write::Protocol;

const T0: i64 = 1_790_000_000_000;

fn samples(at: i64, replica: &str, leads: bool, items: &[(u64, i64)]) -> Vec<u8> {
    let items: Vec<Item> = items.iter().map(|&(series, time)| Item { series, time, kind: Kind::Float, refused: false }).collect();
    let mut encoded_digest = Vec::new();
    // Of some entries nobody said values.
    let values: Vec<u64> = items.iter().filter(|_| at % 5 != 0).map(|item| (item.time as f64).to_bits()).collect();
    digest::encode_valued(&items, &values, &mut encoded_digest);
    let samples = Samples {
        group: "g",
        replica,
        settings: 0,
        protocol: Protocol::V1,
        packing: Packing::Snappy,
        strip: vec![],
        from_leader: leads,
        digest: &encoded_digest,
        body: &[7; 100],
    };
    let mut encoded = Vec::new();
    entry::encode(at, &Entry::Samples(samples), &mut encoded);
    encoded
}

fn command(at: i64, command: Command) -> Vec<u8> {
    let mut encoded = Vec::new();
    entry::encode(at, &Entry::Command(command), &mut encoded);
    encoded
}

fn plain(at: i64, entry: &Entry<'_>) -> Vec<u8> {
    let mut encoded = Vec::new();
    entry::encode(at, entry, &mut encoded);
    encoded
}

fn apply(data: &mut Data, encoded: &[u8]) -> Effects {
    let mut effects = Effects::default();
    data.apply(data.applied + 1, encoded, &mut effects).unwrap();
    effects
}

fn sink(name: &str, start: Start) -> SinkSettings {
    SinkSettings { name: name.into(), start, budget_bytes: 1 << 30, budget_ms: 1 << 40, policy: Policy::DropOldest }
}

#[test]
fn the_leaders_samples_go_out_at_once_and_a_switch_lets_the_standbys_out_with_their_bodies() {
    let mut data = Data::default();
    let first = apply(&mut data, &samples(T0, "a", true, &[(1, T0), (2, T0)]));
    assert_eq!((first.emissions.len(), first.emissions[0].picks.len(), first.copies.len()), (1, 2, 0));
    let standby = apply(&mut data, &samples(T0 + 1_100, "b", false, &[(1, T0 + 1_000), (2, T0 + 1_000)]));
    assert!(standby.emissions.is_empty());
    assert_eq!(data.oldest_waiting(), Some(2));
    let order = SwitchTo { group: "g".into(), from: "a".into(), to: "b".into(), ..SwitchTo::default() };
    let switched = apply(&mut data, &command(T0 + 1_200, Command::Switch(order.clone())));
    assert_eq!(switched.copies, [2]);
    assert_eq!((switched.emissions[0].number, switched.emissions[0].entry, &*switched.emissions[0].replica), (2, 2, "b"));
    assert_eq!((switched.emissions[0].samples_before, data.samples), (2, 4));
    assert!(apply(&mut data, &command(T0 + 1_300, Command::Switch(order))).void.is_some());
}

#[test]
fn a_run_of_one_entry_is_cut_at_ten_thousand_samples() {
    let mut data = Data::default();
    let items: Vec<(u64, i64)> = (0..25_000).map(|series| (series, T0)).collect();
    let effects = apply(&mut data, &samples(T0, "a", true, &items));
    let sizes: Vec<usize> = effects.emissions.iter().map(|emission| emission.picks.len()).collect();
    assert_eq!(sizes, [10_000, 10_000, 5_000]);
    assert_eq!(effects.emissions[2].samples_before, 20_000);
}

#[test]
fn over_the_bound_on_waiting_the_oldest_are_judged() {
    let mut data = Data::default();
    apply(&mut data, &command(T0, Command::Settings(ShardSettings { version: 1, waiting_bytes: 240, ..ShardSettings::default() })));
    apply(&mut data, &samples(T0, "a", true, &[(1, T0)]));
    for step in 1..=20 {
        apply(&mut data, &samples(T0 + step, "b", false, &[(100 + step as u64, T0 + step)]));
        assert!(data.waiting_bytes() <= 240);
    }
    assert!(data.emissions > 8);
}

#[test]
fn cursors_add_up_and_epochs_keep_old_positions_out() {
    let mut data = Data::default();
    apply(
        &mut data,
        &command(T0, Command::Settings(ShardSettings { version: 1, sinks: vec![sink("k", Start::Now)], ..ShardSettings::default() })),
    );
    for step in 0..10 {
        apply(&mut data, &samples(T0 + step * 1_000, "a", true, &[(1, T0 + step * 1_000), (2, T0 + step * 1_000)]));
    }
    let pending = |data: &Data| data.samples - data.sinks.cursors["k"].samples;
    assert_eq!(pending(&data), 20);
    let moved = CursorMove { sink: "k".into(), epoch: 1, emission: 4, delivered: 6, filtered: 1, dead: 1, samples: 8 };
    assert!(apply(&mut data, &command(T0, Command::Cursor(moved.clone()))).void.is_none());
    assert!(apply(&mut data, &command(T0, Command::Cursor(moved.clone()))).void.is_none()); // said twice: no harm
    assert_eq!((pending(&data), data.sinks.cursors["k"].done(), data.sinks.cursors["k"].delivered), (12, 8, 6));
    assert!(apply(&mut data, &command(T0, Command::Cursor(CursorMove { emission: 99, ..moved.clone() }))).void.is_some());
    let drop = crate::shard::command::DropUpTo { sink: "k".into(), epoch: 1, up_to: 7, samples: 14 };
    assert!(apply(&mut data, &command(T0, Command::Drop(drop))).void.is_none());
    assert_eq!((pending(&data), data.sinks.cursors["k"].dropped, data.sinks.cursors["k"].epoch), (6, 6, 2));
    assert!(apply(&mut data, &command(T0, Command::Cursor(CursorMove { emission: 8, ..moved }))).void.is_some());
    // Removed and added again: another epoch, so that positions in Kafka do not count.
    let settings = |version, sinks| command(T0, Command::Settings(ShardSettings { version, sinks, ..ShardSettings::default() }));
    apply(&mut data, &settings(2, vec![]));
    apply(&mut data, &settings(3, vec![sink("k", Start::Now)]));
    assert_eq!((data.sinks.cursors["k"].epoch, data.sinks.cursors["k"].emission), (3, data.emissions));
}

#[test]
fn a_pause_is_of_the_shard_and_ends_with_the_sink() {
    let mut data = Data::default();
    let settings = |version, sinks| command(T0, Command::Settings(ShardSettings { version, sinks, ..ShardSettings::default() }));
    apply(&mut data, &settings(1, vec![sink("k", Start::Now)]));
    let pause = |name: &str, paused| command(T0, Command::Pause { sink: name.into(), paused });
    let before = data.sinks.version;
    assert_eq!(apply(&mut data, &pause("k", true)).void, None);
    assert_eq!(apply(&mut data, &pause("k", true)).void, None, "said twice");
    assert_eq!((data.sinks.cursors["k"].paused, data.sinks.version), (true, before + 1));
    assert!(apply(&mut data, &pause("other", true)).void.is_some());
    // A changed sink stays held; one that is removed and added again is a new one.
    apply(&mut data, &settings(2, vec![SinkSettings { budget_bytes: 7, ..sink("k", Start::Now) }]));
    assert!(data.sinks.cursors["k"].paused);
    apply(&mut data, &settings(3, vec![]));
    apply(&mut data, &settings(4, vec![sink("k", Start::Now)]));
    assert!(!data.sinks.cursors["k"].paused);
    apply(&mut data, &pause("k", true));
    apply(&mut data, &pause("k", false));
    assert!(!data.sinks.cursors["k"].paused);
}

#[test]
fn what_is_done_stays_for_a_time_and_a_sink_can_go_back_so_far() {
    let mut data = Data::default();
    let settings = ShardSettings { version: 1, sinks: vec![sink("k", Start::Oldest)], keep_ms: 10_000, ..ShardSettings::default() };
    apply(&mut data, &command(T0, Command::Settings(settings)));
    let moved = |emission| CursorMove { sink: "k".into(), epoch: 1, emission, samples: emission, ..CursorMove::default() };
    for second in 1..=30 {
        apply(&mut data, &samples(T0 + second * 1000, "a", true, &[(1, T0 + second * 1000)]));
        let emission = data.emissions;
        apply(&mut data, &command(T0 + second * 1000, Command::Cursor(moved(emission))));
    }
    assert_eq!(data.emissions, 30);
    // Of 30 seconds ten are kept, and up to a sixteenth more.
    assert!((19..=20).contains(&data.done()), "{}", data.done());
    let back = |emission| NewEpoch { sink: "k".into(), epoch: 1, emission, samples: emission };
    assert!(apply(&mut data, &command(T0 + 30_000, Command::Epoch(back(15)))).void.is_some(), "it is gone");
    assert_eq!(apply(&mut data, &command(T0 + 30_000, Command::Epoch(back(22)))).void, None);
    assert_eq!((data.sinks.cursors["k"].epoch, data.sinks.cursors["k"].emission, data.sinks.cursors["k"].dropped), (2, 22, 0));
    // A new sink that wants the oldest begins with what is kept.
    let two = vec![sink("k", Start::Oldest), sink("new", Start::Oldest)];
    let settings = ShardSettings { version: 2, sinks: two, keep_ms: 10_000, ..ShardSettings::default() };
    apply(&mut data, &command(T0 + 30_000, Command::Settings(settings)));
    assert_eq!(data.sinks.cursors["new"].emission, data.done());
    // Nothing is kept any more: what all sinks are done with goes at once.
    apply(
        &mut data,
        &command(
            T0 + 31_000,
            Command::Settings(ShardSettings { version: 3, sinks: vec![sink("k", Start::Now)], ..ShardSettings::default() }),
        ),
    );
    assert_eq!(data.done(), 22);
}

/// A log of everything, made by chance.
fn log(seed: u64) -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut now = T0;
    let mut log = vec![command(
        T0,
        Command::Settings(ShardSettings { version: 1, sinks: vec![sink("k", Start::Oldest)], ..ShardSettings::default() }),
    )];
    for _ in 0..300 {
        now += random.i64(0..700);
        log.push(match random.u8(..20) {
            0 => plain(now, &Entry::Image),
            1 => command(
                now,
                Command::Switch(SwitchTo { group: "g".into(), to: ["a", "b"][random.usize(..2)].into(), ..SwitchTo::default() }),
            ),
            2 => plain(now, &Entry::Forget { group: "g" }),
            3 | 4 => plain(now, &Entry::Tick),
            5 => command(now, Command::Dead(DeadLetter { sink: "k".into(), ..DeadLetter::default() })),
            6 => command(now, Command::Resent(Resent { sink: "k".into(), numbers: vec![random.u64(..8), random.u64(..20)] })),
            _ => {
                let replica = ["a", "b", ""][random.usize(..3)];
                let items: Vec<(u64, i64)> = (0..random.u64(1..20)).map(|series| (series, now - random.i64(0..4_000))).collect();
                samples(now, replica, random.bool(), &items)
            }
        });
    }
    log
}

#[test]
fn replay_from_any_image_comes_to_the_same_state_and_the_same_emissions() {
    for seed in 0..20 {
        let log = log(seed);
        let mut whole = Data::default();
        let (mut emissions, mut images) = (Vec::new(), vec![(0, Vec::new())]);
        let mut copied = std::collections::BTreeSet::new();
        for encoded in &log {
            let effects = apply(&mut whole, encoded);
            assert!(effects.copies.iter().all(|&index| copied.insert(index)), "seed {seed}: a body is copied twice");
            emissions.extend(effects.emissions);
            if effects.image {
                let mut image = Vec::new();
                whole.write_image(&mut image);
                images.push((whole.applied as usize, image));
            }
        }
        assert!(emissions.iter().any(|emission| !emission.befores.is_empty()), "seed {seed}");
        for (applied, image) in images {
            let mut again = if applied == 0 { Data::default() } else { Data::read_image(&image).unwrap() };
            let before = again.emissions as usize;
            let replayed: Vec<Emission> = log[applied..].iter().flat_map(|encoded| apply(&mut again, encoded).emissions).collect();
            assert_eq!(replayed, emissions[before..], "seed {seed} from {applied}");
            assert_eq!(again.state_hash(), whole.state_hash(), "seed {seed} from {applied}");
        }
    }
}

#[test]
fn letters_that_were_sent_again_are_gone_once_and_for_all() {
    let mut data = Data::default();
    let bury = |data: &mut Data| apply(data, &command(T0, Command::Dead(DeadLetter::default()))).dead[0].0;
    let resent = |data: &mut Data, numbers: &[u64]| {
        let command = command(T0, Command::Resent(Resent { sink: "k".into(), numbers: numbers.to_vec() }));
        apply(data, &command).resent
    };
    assert_eq!((0..5).map(|_| bury(&mut data)).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(resent(&mut data, &[2, 4, 99, 0]), [2, 4]);
    assert_eq!((resent(&mut data, &[2, 4]), data.dead_letters()), (vec![], 3));
    let mut image = Vec::new();
    data.write_image(&mut image);
    data = Data::read_image(&image).unwrap();
    assert_eq!((resent(&mut data, &[1, 3, 2]), data.dead, data.resent.len()), (vec![1, 3], (4, 5), 0));
    assert_eq!((bury(&mut data), data.dead_letters()), (6, 2));
    // The bound on how many are kept passes over those that are gone.
    assert_eq!(resent(&mut data, &[6]), [6]);
    for _ in 0..DEAD_LETTERS {
        bury(&mut data);
    }
    assert_eq!((data.dead_letters(), data.resent.len()), (DEAD_LETTERS, 0));
}

#[test]
fn an_image_of_the_version_before_is_read() {
    let mut data = Data::default();
    log(3).iter().filter(|entry| !matches!(entry[1], 27)).for_each(|encoded| drop(apply(&mut data, encoded)));
    let mut image = Vec::new();
    data.write_image(&mut image);
    // Version 1 ends where version 2 counts the letters that were sent again: there are none.
    assert_eq!(image.pop(), Some(0));
    image[0] = 1;
    assert_eq!(Data::read_image(&image).unwrap().state_hash(), data.state_hash());
    image[0] = 3;
    assert_eq!(Data::read_image(&image).err(), Some(Malformed::Version(3)));
}

#[test]
fn a_damaged_image_is_an_error_and_never_a_panic() {
    let mut data = Data::default();
    for encoded in log(3) {
        apply(&mut data, &encoded);
    }
    let sealed = crate::shard::member::State::Data(Box::new(data)).seal();
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..2_000 {
        let mut damaged = sealed.clone();
        let place = random.usize(..damaged.len());
        damaged[place] ^= 1 << random.u8(..8);
        assert!(crate::shard::member::State::unseal(crate::model::ShardId(1), &damaged).is_err());
        // Without the checksum, too.
        let _ = Data::read_image(&damaged[2..damaged.len() - 8]);
        let _ = Data::read_image(&damaged[2..place.max(2)]);
    }
}

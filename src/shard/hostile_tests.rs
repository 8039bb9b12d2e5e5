//! Bytes that the disk gives back, damaged: entries, emissions, dead letters, and the images of both states.
//!
//! None may panic, none may take memory beyond what its bytes can stand for, and what is taken for good must be usable: it is applied,
//! written again and read as the same. RocksDB's checksums stand before all this; these parsers must not need them. The images of groups
//! have a fuzzer of their own in `dedup`, `SEED` and `ROUNDS` work as everywhere.

use fastrand::Rng;

use super::alerting;
use super::alerts;
use super::command::Command;
use super::command::CursorMove;
use super::command::DeadLetter;
use super::command::DropUpTo;
use super::command::Founding;
use super::command::NewEpoch;
use super::command::Policy;
use super::command::ShardSettings;
use super::command::SinkSettings;
use super::command::Start;
use super::command::SwitchTo;
use super::control::Control;
use super::control::ControlEffects;
use super::data::Data;
use super::data::Effects;
use super::emission::Emission;
use super::emission::MAX_PICKS;
use super::entry;
use super::entry::Entry;
use super::entry::Samples;
use super::pushed;
use super::settings::NewVersion;
use super::tokens::NewToken;
use super::verdicts;
use crate::model::Before;
use crate::model::Item;
use crate::model::Kind;
use crate::model::Pick;
use crate::mutate::damage;
use crate::mutate::seeds;
use crate::wire::digest;
use crate::wire::families;
use crate::wire::pack::Packing;
use crate::wire::remote_write::Protocol;

const T0: i64 = 1_790_000_000_000;

fn commands() -> Vec<Command> {
    let text = |text: &str| text.to_owned();
    let sink =
        SinkSettings { name: text("k"), start: Start::Oldest, budget_bytes: 1 << 30, budget_ms: 1 << 40, policy: Policy::DropOldest };
    let settings = ShardSettings { version: 1, sinks: vec![sink], ..ShardSettings::default() };
    let (group, from, to) = (text("g"), text("a"), text("b"));
    let mut commands = vec![
        Command::Settings(settings),
        Command::Switch(SwitchTo {
            group: group.clone(),
            from,
            to: to.clone(),
            reason: text("silent"),
            evidence: text("nothing for 31 s"),
        }),
        Command::Pin { group: group.clone(), replica: Some(to.clone()) },
        Command::ForgetReplica { group: group.clone(), replica: to },
        Command::Cursor(CursorMove { sink: text("k"), epoch: 1, emission: 2, delivered: 3, filtered: 4, dead: 5, samples: 6 }),
        Command::Epoch(NewEpoch { sink: text("k"), epoch: 1, emission: 1, samples: 3 }),
        Command::Dead(letter()),
        Command::Drop(DropUpTo { sink: text("k"), epoch: 1, up_to: 1, samples: 3 }),
        Command::Pause { sink: text("k"), paused: true },
        Command::Assign { group },
        Command::Found(Founding { cluster: 1 << 100, seed: 7, data_shards: 6 }),
        Command::Reidentify(u128::MAX / 3),
        Command::ClusterSettings(NewVersion { number: 1, text: text("groups: {}"), by: text("alice") }),
        Command::CreateToken(token("people", Some(T0))),
        Command::CreateToken(token("k8s-0", None)),
        Command::RevokeToken { name: text("people"), by: text("k8s-0") },
        Command::Finalize { level: 2, by: text("people") },
        Command::Verdicts(vec![verdicts::Change { job: text("web"), instance: text("h:80"), down: Some((text("refused"), vec![1, 2])) }]),
        Command::Push(pushed::Change::Failed(pushed_group())),
        Command::Push(pushed::Change::Expire(pushed_group(), 7)),
        Command::Push(pushed::Change::Delete(pushed_group())),
        Command::Push(pushed::Change::Push { group: pushed_group(), replace: true, families: pushed_families() }),
        Command::Alerts(vec![
            alerts::Change::Raise {
                id: text("x"),
                said: alerts::Said { name: text("ProbeDown"), level: 2, labels: vec![(text("a"), text("b"))], ..alerts::Said::default() },
            },
            alerts::Change::Told { id: text("x"), ended: false },
            alerts::Change::End { id: text("x") },
        ]),
    ];
    commands.extend(alerting::examples().into_iter().map(Command::Alerting));
    commands
}

fn pushed_group() -> pushed::Key {
    pushed::Key { tenant: "a".into(), labels: vec![("job".into(), "backup".into())] }
}

fn pushed_families() -> Vec<(String, pushed::Stored)> {
    let text = b"# HELP took so long\n# TYPE took histogram\ntook_bucket{le=\"1\"} 2\ntook_sum 1.5\ntook_count 3\nrows{table=\"x\"} 7\n";
    let read = families::text::read(text).unwrap();
    read.families.iter().map(|family| (family.name.clone(), pushed::Stored::new(family))).collect()
}

fn token(name: &str, expires_ms: Option<i64>) -> NewToken {
    NewToken { name: name.into(), hash: [0xa5; 32], hint: "wxyz".into(), by: "first".into(), expires_ms, first: false, tenant: "a".into() }
}

fn letter() -> DeadLetter {
    DeadLetter { sink: "k".into(), emission: 1, item: 2, reason: "too large".into(), payload: br#"{"ts":1}"#.to_vec(), tenant: "a".into() }
}

fn samples(at: i64, replica: &str, leads: bool, series: std::ops::Range<u64>) -> Vec<u8> {
    let items: Vec<Item> = series.map(|series| Item { series, time: at, kind: Kind::Float, refused: false }).collect();
    let (mut encoded_digest, mut encoded) = (Vec::new(), Vec::new());
    digest::encode(&items, &mut encoded_digest);
    let (protocol, packing) = (Protocol::V1, Packing::Snappy);
    let strip = vec!["__replica__"];
    let (digest, body) = (&encoded_digest[..], &[7; 30][..]);
    let samples = Samples { group: "g", replica, settings: 1, protocol, packing, strip, from_leader: leads, digest, body };
    entry::encode(at, &Entry::Samples(samples), &mut encoded);
    encoded
}

/// A log of some length, of everything that may stand in one.
fn log() -> Vec<Vec<u8>> {
    let mut log = Vec::new();
    let encoded = |at, entry: &Entry<'_>| {
        let mut bytes = Vec::new();
        entry::encode(at, entry, &mut bytes);
        bytes
    };
    let commands = commands();
    log.push(encoded(T0, &Entry::Command(commands[0].clone())));
    for step in 0..12_i64 {
        log.push(samples(T0 + step * 15_000, "a", true, 0..30));
        log.push(samples(T0 + step * 15_000 + 5_000, "b", false, 0..33));
        if step % 4 == 3 {
            log.push(encoded(T0 + step * 15_000 + 9_000, &Entry::Tick));
        }
    }
    log.extend(commands[1..].iter().map(|command| encoded(T0 + 200_000, &Entry::Command(command.clone()))));
    log.extend([Entry::Image, Entry::Forget { group: "g" }].map(|entry| encoded(T0 + 200_000, &entry)));
    log
}

/// Applies a log as far as it is one.
fn applied(data: &mut Data, control: &mut Control, log: &[Vec<u8>]) {
    for encoded in log {
        let mut effects = Effects::default();
        if data.apply(data.applied.saturating_add(1), encoded, &mut effects).is_err() {
            return;
        }
        assert!(effects.emissions.iter().all(|emission| emission.picks.len() <= MAX_PICKS));
        let _void = control.apply(control.applied.saturating_add(1), encoded, &mut ControlEffects::default());
    }
}

#[test]
fn damaged_entries_are_refused_or_applied_and_never_panic() {
    let log = log();
    let (mut accepted, mut all) = (0, 0);
    for seed in seeds(3_000) {
        let random = &mut Rng::with_seed(seed);
        let place = random.usize(0..log.len());
        let mut damaged = log.clone();
        damage(random, &mut damaged[place]);
        all += 1;
        if let Ok(stamped) = entry::parse(&damaged[place]) {
            accepted += 1;
            let mut again = Vec::new();
            entry::encode(stamped.at, &stamped.entry, &mut again);
            assert!(again.len() <= damaged[place].len() + 16, "SEED={seed}: {} bytes became {}", damaged[place].len(), again.len());
            // A time that a clock can show: an entry's own time is the shard's, and never from outside.
            if stamped.at.unsigned_abs() < 1 << 53 {
                let state = (&mut Data::default(), &mut Control::default());
                applied(state.0, state.1, &damaged);
            }
        }
    }
    assert!(accepted * 20 > all, "{accepted} of {all} accepted: the fuzzer does not get far");
}

#[test]
fn damaged_images_are_refused_or_whole() {
    let (mut data, mut control) = (Data::default(), Control::default());
    let log = log();
    applied(&mut data, &mut control, &log);
    for command in commands() {
        let mut bytes = Vec::new();
        entry::encode(T0, &Entry::Command(command), &mut bytes);
        control.apply(control.applied + 1, &bytes, &mut ControlEffects::default()).unwrap();
    }
    let (mut of_data, mut of_control) = (Vec::new(), Vec::new());
    data.write_image(&mut of_data);
    control.write_image(&mut of_control);
    assert!(control.founding.is_some() && data.emissions > 0);
    let mut accepted = 0;
    for seed in seeds(4_000) {
        let random = &mut Rng::with_seed(seed);
        let (mut image, mut again) = (of_data.clone(), Vec::new());
        damage(random, &mut image);
        if let Ok(read) = Data::read_image(&image) {
            accepted += 1;
            read.write_image(&mut again);
            assert!(Data::read_image(&again).is_ok_and(|twice| twice.state_hash() == read.state_hash()), "SEED={seed}");
            assert!(again.len() <= image.len() + 64, "SEED={seed}: {} bytes became {}", image.len(), again.len());
        }
        let (mut image, mut again) = (of_control.clone(), Vec::new());
        damage(random, &mut image);
        if let Ok(read) = Control::read_image(&image) {
            read.write_image(&mut again);
            assert_eq!(Control::read_image(&again).as_ref(), Ok(&read), "SEED={seed}");
        }
    }
    assert!(accepted > 0 || std::env::var("SEED").is_ok());
}

#[test]
fn damaged_emissions_and_dead_letters_stay_within_their_bounds() {
    let late = |item: u32| Pick { item, late: item.is_multiple_of(7) };
    let picks = (0..200).chain(500..900).map(late).collect();
    let before = |place: u32| (place, Before { time: T0 - i64::from(place % 3), bits: f64::from(place).to_bits() });
    let befores = (0..50).chain(100..500).map(before).collect();
    let emission =
        Emission { number: 9, entry: 1 << 40, at: T0, group: "g".into(), replica: "a".into(), picks, befores, ..Emission::default() };
    let (emission, letter) = (emission.encode(), letter().encode());
    for seed in seeds(20_000) {
        let random = &mut Rng::with_seed(seed);
        let mut bytes = emission.clone();
        damage(random, &mut bytes);
        if let Ok(read) = Emission::decode(&bytes) {
            assert!(read.picks.len() <= MAX_PICKS && read.picks.capacity() <= 2 * MAX_PICKS, "SEED={seed}");
            assert!(read.picks.windows(2).all(|two| two[0].item < two[1].item), "SEED={seed}");
            assert!(read.befores.len() <= read.picks.len() && read.befores.capacity() <= 2 * MAX_PICKS, "SEED={seed}");
            assert!(read.befores.windows(2).all(|two| two[0].0 < two[1].0), "SEED={seed}");
            assert_eq!(Emission::decode(&read.encode()).as_ref(), Ok(&read), "SEED={seed}");
        }
        let mut bytes = letter.clone();
        damage(random, &mut bytes);
        if let Ok(read) = DeadLetter::decode(&bytes) {
            assert!(read.payload.len() + read.reason.len() + read.sink.len() <= bytes.len(), "SEED={seed}");
        }
    }
}

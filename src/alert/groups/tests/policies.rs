//! What policies do to what is told: each by itself; and long random streams with all of them, of which it must hold that nothing is told twice, whoever was told
//! that an alert holds hears of its end, and what is kept back is never lost.

use super::*;
use crate::alert::lesson::Lessons;
use crate::alert::listed::Listed;
use crate::alert::maintenance::Windows;
use crate::alert::message::Reason;
use crate::alert::policy::EpisodeRules;
use crate::alert::policy::Flapping;
use crate::alert::policy::Transient;
use crate::config::policies::Maintenance;
use crate::config::policies::Mode;
use crate::config::routing::Place;

const MINUTE: i64 = 60;

fn recovery(seconds: i64) -> EpisodeRules {
    EpisodeRules { recovery: Listed::new(vec![(vec![], seconds * 1000)]), ..EpisodeRules::default() }
}

fn flapping() -> EpisodeRules {
    let policy = Flapping { changes: 4, within: 3_600_000, calm: 900_000 };
    EpisodeRules { flapping: Listed::new(vec![(vec![], policy)]), ..EpisodeRules::default() }
}

fn transient() -> EpisodeRules {
    let policy = Transient { within: 120_000, share: 80, least: 20, percentile: 90, most: 300_000 };
    EpisodeRules { transient: Listed::new(vec![(vec![], policy)]), ..EpisodeRules::default() }
}

/// A window in the second quarter of an hour after `World` begins, at 14:13:20.
fn windows(mode: Mode) -> Windows {
    let time = |minutes: i64| format!("2026-09-21T14:{:02}:20Z", 13 + minutes);
    let matchers = vec![(Place::default(), "alertname=\"X\"".to_owned())];
    let once = Some((time(15), time(30)));
    Windows::new(&[Maintenance { name: "disks".into(), matchers, once, mode, ..Maintenance::default() }]).unwrap()
}

impl World {
    fn with(rules: EpisodeRules) -> World {
        let mut world = World::new();
        Arc::make_mut(&mut world.book).change_rules(rules, world.now);
        world
    }

    fn within(windows: Windows) -> World {
        let plan = plan().as_ref().clone().with_windows(windows);
        World { groups: Groups::new(Arc::new(plan), SEED), ..World::new() }
    }

    fn learned(mut self, name: &str) -> World {
        let mut lessons = Lessons::default();
        (0..20).for_each(|at| lessons.learn(name, Some(80_000), at));
        let rules = EpisodeRules::clone(self.book.rules());
        Arc::make_mut(&mut self.book).restore_policies(rules, lessons);
        self
    }

    /// All that is told in so many seconds, looked at every second.
    fn during(&mut self, seconds: i64) -> Vec<String> {
        (0..seconds).flat_map(|_| self.after(1)).collect()
    }
}

#[test]
fn an_end_is_told_when_it_was_watched_and_an_alert_that_comes_again_meanwhile_is_told_nothing_of() {
    let mut world = World::with(recovery(400));
    world.post("alertname=X,i=1", 7_200);
    assert_eq!(world.during(31), ["all0 First 1"]);
    world.post("alertname=X,i=1", 0);
    assert_eq!(world.during(390), [""; 0]);
    world.post("alertname=X,i=1", 7_200);
    assert_eq!(world.during(20 * MINUTE), [""; 0]);
    world.post("alertname=X,i=1", 0);
    assert_eq!(world.during(399), [""; 0]);
    assert_eq!(world.during(301), ["all0 AllOver 1"]);
    assert!(world.book.ledger().totals().0 == 0, "one episode, and it is not closed");
    // Who was not told of a beginning is told of the next one in time.
    world.post("alertname=Y,i=3", 10);
    assert_eq!(world.during(60), [""; 0]);
    world.post("alertname=Y,i=3", 7_200);
    assert_eq!(world.during(31), ["all0 First 3"]);
    // Who was not told is not told of an end that is watched.
    world.post("alertname=X,i=2", 10);
    assert_eq!(world.during(3_600), [""; 0]);
}

#[test]
fn what_flaps_is_told_once_as_flapping_and_its_end_when_it_is_calm() {
    let mut world = World::with(flapping());
    world.post("alertname=X,i=1", 7_200);
    let mut told = world.during(31);
    for _ in 0..6 {
        world.post("alertname=X,i=1", 0);
        told.extend(world.during(6 * MINUTE));
        world.post("alertname=X,i=1", 7_200);
        told.extend(world.during(6 * MINUTE));
    }
    // The second beginning is the third change; the end before the third one is told, and then that it flaps.
    assert_eq!(told, ["all0 First 1", "all0 AllOver 1", "all0 First 1", "all0 AllOver 1", "all0 First 1"]);
    let (_, kept) = world.book.alerts().iter().next().unwrap();
    assert!(kept.flaps_at(world.now) && kept.noted.again == 4);
    world.post("alertname=X,i=1", 0);
    assert_eq!(world.during(15 * MINUTE - 1), [""; 0]);
    assert_eq!(world.during(5 * MINUTE + 1), ["all0 AllOver 1"]);
}

#[test]
fn whoever_knows_that_it_holds_is_told_once_that_it_flaps_and_so_is_whoever_knows_nothing() {
    // So quickly that nobody hears of an end, and, the second time, of nothing at all.
    for (holds, expected) in [(60, vec!["all0 First 1", "all0 New 1"]), (10, vec!["all0 First 1"])] {
        let mut world = World::with(flapping());
        let mut told = Vec::new();
        for _ in 0..4 {
            world.post("alertname=X,i=1", 7_200);
            told.extend(world.during(holds));
            world.post("alertname=X,i=1", 0);
            told.extend(world.during(20));
        }
        told.extend(world.during(12 * MINUTE));
        assert_eq!(told, expected, "{holds}");
        assert_eq!(world.during(15 * MINUTE), ["all0 AllOver 1"], "{holds}");
    }
}

#[test]
fn what_mostly_ends_by_itself_is_told_when_it_does_not() {
    let mut world = World::with(transient()).learned("X");
    world.post("alertname=X,severity=warning,i=1", 7_200);
    assert_eq!(world.during(89), [""; 0]);
    assert_eq!(world.during(2), ["all0 First 1"]);
    // The worst does not wait, neither does what is not known; and what ends while it waits is never told.
    world.post("alertname=X,severity=critical,cluster=z,i=2", 7_200);
    world.post("alertname=Y,severity=warning,i=3", 7_200);
    world.post("alertname=X,severity=warning,i=4", 60);
    assert_eq!(world.during(31), ["all0 First 3"]);
    assert_eq!(world.during(20 * MINUTE), ["all0 New 12"]);
}

#[test]
fn maintenance_suppresses_or_decides_afterwards() {
    let mut world = World::within(windows(Mode::Suppress));
    world.now += 20 * MINUTE * 1000;
    world.post("alertname=X,i=1", 7_200);
    world.post("alertname=Y,i=2", 7_200);
    assert_eq!(world.during(9 * MINUTE), ["all0 First 2"]);
    let (id, kept) = world.book.alerts().iter().find(|(_, kept)| value(&kept.alert.labels, "i") == "1").unwrap();
    assert_eq!(world.groups.standing(id, kept, world.now).maintained_by, ["disks"]);
    assert_eq!(world.during(6 * MINUTE), ["all0 First 1"]);

    let mut world = World::within(windows(Mode::DecideAfter));
    world.post("alertname=X,i=1", 7_200);
    assert_eq!(world.during(15 * MINUTE), ["all0 First 1"]);
    world.post("alertname=X,i=2", 60);
    world.post("alertname=X,i=3", 7_200);
    assert_eq!(world.during(5 * MINUTE), [""; 0]);
    // What held before is not the maintenance's.
    world.post("alertname=X,i=1", 0);
    assert_eq!(world.during(10 * MINUTE - 1), ["all0 AllOver 1"]);
    let told = world.during(60);
    assert_eq!(told, ["all0 First 3"], "what still holds, and not what came and went");
}

#[test]
fn a_message_shows_what_is_watched_as_holding_with_its_level() {
    let levels = Listed::new(vec![(matcher::read("i=1").unwrap().matchers, 2)]);
    let mut world = World::with(EpisodeRules { levels, ..recovery(600) });
    world.post("alertname=X,i=1", 7_200);
    world.during(31);
    world.post("alertname=X,i=1", 0);
    world.post("alertname=X,i=2", 7_200);
    world.now += 300_000;
    let wanted = world.wanted().remove(0);
    Arc::make_mut(&mut world.book).claim(SEED, vec![wanted.clone()]).unwrap();
    let log = log_id(SEED, &wanted.whom);
    let message = words::message(&world.book, &[(log, world.book.logs().get(log).unwrap(), &wanted.claim)], false).unwrap();
    assert!(message.alerts.iter().all(|alert| !alert.is_over(message.at)) && message.alerts.len() == 2);
    assert_eq!((message.level, message.marks.iter().map(|mark| mark.level).collect::<Vec<_>>()), (2, vec![2, 3]));
}

/// What one lane was told of one alert.
#[derive(Default)]
struct Heard {
    holds: bool,
    flaps: i64,
}

/// Takes what is wanted, and holds it against what was told before.
fn tell(world: &mut World, heard: &mut BTreeMap<(u64, u64), Heard>, context: &str) -> usize {
    let mut messages = 0;
    for wanted in world.wanted() {
        let book = Arc::clone(&world.book);
        let (log, now) = (log_id(SEED, &wanted.whom), world.now);
        Arc::make_mut(&mut world.book).claim(SEED, vec![wanted.clone()]).unwrap();
        Arc::make_mut(&mut world.book).end(&[(log, wanted.claim.number, End::Taken)], now);
        let mut news = wanted.claim.reason.is_none() || wanted.claim.reason == Some(Reason::Repeat);
        messages += usize::from(wanted.claim.reason.is_some());
        for id in &wanted.claim.firing {
            let (kept, known) = (book.alerts().get(*id).unwrap(), heard.entry((log, *id)).or_default());
            let flaps = if kept.flaps_at(now) { kept.noted.flaps } else { 0 };
            assert!(known.holds || kept.noted.released <= now, "{context}: told too early");
            assert!(known.holds || !kept.alert.is_over(now) || flaps > 0, "{context}: told though it is over");
            news |= !known.holds || flaps > known.flaps;
            *known = Heard { holds: true, flaps: known.flaps.max(flaps) };
        }
        for id in &wanted.claim.over {
            let (kept, known) = (book.alerts().get(*id).unwrap(), heard.entry((log, *id)).or_default());
            assert!(!known.holds || kept.is_closed(now), "{context}: an end that does not count yet");
            news |= known.holds;
            known.holds = false;
        }
        assert!(news || !wanted.claim.over.is_empty(), "{context}: nothing new");
    }
    messages
}

#[test]
fn streams_with_all_policies() {
    let rules = || EpisodeRules { flapping: flapping().flapping, transient: transient().transient, ..recovery(120) };
    let (mut messages, mut flapped, mut waited, mut again) = (0, 0, 0, 0);
    for seed in seeds(12) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::within(windows(Mode::DecideAfter));
        let now = world.now;
        Arc::make_mut(&mut world.book).change_rules(rules(), now);
        world = world.learned("X");
        let mut heard = BTreeMap::new();
        let post = |world: &mut World, random: &mut fastrand::Rng, span: i64| {
            let (name, i) = (if random.bool() { "X" } else { "Y" }, random.u8(1..6));
            world.post(&format!("alertname={name},severity=warning,i={i}"), span);
        };
        for round in 0..600 {
            let context = format!("SEED={seed} round {round}");
            world.now += random.i64(500..20_000);
            if random.u8(0..3) == 0 {
                let span = if random.bool() { 0 } else { random.i64(20..1_500) };
                post(&mut world, &mut random, span);
            }
            if random.u8(0..50) == 0 {
                world.groups = Groups::new(Arc::clone(world.groups.plan()), SEED);
            }
            if random.u8(0..20) == 0 {
                let gone = world.book.sweepings(world.now, (600_000, 500_000_000), 50);
                Arc::make_mut(&mut world.book).sweep(&gone, world.now);
                let book = Arc::clone(&world.book);
                heard.retain(|(_, id), _| book.alerts().get(*id).is_some());
            }
            messages += tell(&mut world, &mut heard, &context);
            for (_, kept) in world.book.alerts().iter() {
                flapped += usize::from(kept.flaps_at(world.now));
                waited += usize::from(kept.noted.released > world.now);
                again += usize::from(kept.noted.again > 0);
            }
        }
        // What holds now is told to everybody, and when it is over, that is told, too.
        (0..10).for_each(|_| post(&mut world, &mut random, 100_000));
        for over in [false, true] {
            if over {
                let labels: Vec<_> = world.book.alerts().iter().map(|(_, kept)| kept.alert.labels.clone()).collect();
                for labels in labels {
                    let text: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
                    world.post(&text.join(","), 0);
                }
            }
            for _ in 0..360 {
                world.now += 10_000;
                tell(&mut world, &mut heard, &format!("SEED={seed} at the end"));
            }
            for (id, kept) in world.book.alerts().iter() {
                let told = heard.iter().any(|((_, other), known)| *other == id && known.holds);
                assert_eq!(told, !kept.is_closed(world.now), "SEED={seed} over {over}: {kept:?}");
            }
        }
    }
    assert!(messages > 300 && flapped > 300 && waited > 50 && again > 300, "{messages} {flapped} {waited} {again}");
}

//! Single rules by example, above all those that the model leaves out.

use crate::dedup::group::Group;
use crate::dedup::group::Switch;
use crate::dedup::group::SwitchOutcome;
use crate::dedup::judged::Judged;
use crate::dedup::replicas::SILENT;
use crate::model::Item;
use crate::model::Kind;

const T: i64 = 1_000_000_000;

/// A group, and what passed as (series, time) pairs.
struct Play {
    group: Group,
    out: Judged,
    entries: Vec<Vec<Item>>,
}

impl Play {
    fn new() -> Play {
        Play { group: Group::new("g"), out: Judged::new(), entries: Vec::new() }
    }

    fn send(&mut self, replica: &str, at: i64, kind: Kind, points: &[(u64, i64)]) -> Vec<(u64, i64)> {
        let items: Vec<Item> = points.iter().map(|&(series, time)| Item { series, time, kind, refused: false }).collect();
        self.group.samples(self.entries.len() as u64, replica, at, items.iter().copied(), &mut self.out);
        self.entries.push(items);
        self.take()
    }

    fn float(&mut self, replica: &str, at: i64, series: u64, time: i64) -> Vec<(u64, i64)> {
        self.send(replica, at, Kind::Float, &[(series, time)])
    }

    fn tick(&mut self, at: i64) -> Vec<(u64, i64)> {
        self.group.tick(at, &mut self.out);
        self.take()
    }

    fn switch(&mut self, from: &str, to: &str, at: i64) -> SwitchOutcome {
        self.group.switch(&Switch { from, to, reason: "test", evidence: "because" }, at, &mut self.out)
    }

    fn take(&mut self) -> Vec<(u64, i64)> {
        assert!(self.group.counts().balanced(), "{:?}", self.group.counts());
        let point = |passed: &crate::dedup::judged::Passed| {
            let item = self.entries[passed.entry as usize][passed.item as usize];
            (item.series, item.time)
        };
        let points = self.out.passed.iter().map(point).collect();
        self.out.clear();
        points
    }

    /// Scrapes each 15 s of both replicas, b's 5 s after a's.
    fn both(&mut self, scrapes: std::ops::Range<i64>) {
        for scrape in scrapes {
            let time = T + scrape * 15_000;
            assert_eq!(self.float("a", time + 100, 1, time), [(1, time)]);
            assert_eq!(self.float("b", time + 5100, 1, time + 5000), []);
        }
    }
}

#[test]
fn the_leaders_pass_and_the_standbys_are_covered() {
    let mut play = Play::new();
    play.both(0..20);
    assert_eq!(play.tick(T + 1_000_000), []);
    let counts = play.group.counts();
    assert_eq!((counts.received, counts.emitted, counts.covered, counts.waiting), (40, 20, 20, 0));
    let names: Vec<_> = play.group.replicas().map(|r| (&*r.name, r.received, r.emitted, r.covered, r.lag, r.newest())).collect();
    let newest = Some(T + 19 * 15_000);
    assert_eq!(names, [("a", 20, 20, 0, 100, newest), ("b", 20, 0, 20, 100, newest.map(|time| time + 5000))]);
}

#[test]
fn histograms_follow_the_rule_of_floats() {
    let mut play = Play::new();
    for scrape in 0..5 {
        let time = T + scrape * 15_000;
        assert_eq!(play.send("a", time, Kind::Histogram, &[(1, time)]), [(1, time)]);
        assert_eq!(play.send("b", time + 5000, Kind::Histogram, &[(1, time + 5000)]), []);
    }
    // The leader is gone: the second of the standby's fills as soon as it has waited.
    assert_eq!(play.send("b", T + 80_000, Kind::Histogram, &[(1, T + 80_000)]), []);
    assert_eq!(play.tick(T + 110_000), [(1, T + 80_000)]);
}

#[test]
fn a_stale_marker_waits_and_passes_once_and_only_if_nothing_came_later() {
    let mut play = Play::new();
    play.both(0..5);
    let end = T + 5 * 15_000;
    assert_eq!(play.send("a", end, Kind::Stale, &[(1, end)]), []);
    assert_eq!(play.send("b", end + 5000, Kind::Stale, &[(1, end + 5000)]), []);
    assert_eq!(play.tick(end + 60_000), [(1, end)], "of both markers one");
    let again = end + 90_000;
    assert_eq!(play.send("a", again, Kind::Stale, &[(1, again)]), []);
    assert_eq!(play.float("a", again + 15_000, 1, again + 15_000), [(1, again + 15_000)]);
    assert_eq!(play.tick(again + 100_000), [], "something came later");
}

#[test]
fn an_exemplar_passes_with_the_first_copy_at_once() {
    let mut play = Play::new();
    play.both(0..5);
    let time = T + 5 * 15_000;
    assert_eq!(play.send("b", time, Kind::Exemplar, &[(1, time), (9, time)]), [(1, time), (9, time)], "of an unknown series, too");
    assert_eq!(play.send("a", time, Kind::Exemplar, &[(1, time), (1, time + 5000)]), [], "the same, and the same by its own scrape");
    assert_eq!(play.send("a", time + 15_000, Kind::Exemplar, &[(1, time + 15_000)]), [(1, time + 15_000)]);
    assert_eq!(play.send("a", time + 15_000, Kind::Exemplar, &[(1, time + 15_000)]), [], "sent again");
    assert_eq!(play.float("a", time + 100, 1, time), [(1, time)], "samples go their own way");
}

#[test]
fn samples_of_no_replica_pass_unless_their_time_is_the_last() {
    let mut play = Play::new();
    assert_eq!(play.float("", T, 1, T), [(1, T)]);
    assert_eq!(play.float("", T, 1, T), []);
    assert_eq!(play.float("", T, 1, T - 60_000), [(1, T - 60_000)]);
    assert_eq!(play.float("", T, 1, T + 400_000), [(1, T + 400_000)]);
    assert_eq!(play.float("", T, 1, T + 5000), [(1, T + 5000)]);
    let counts = play.group.counts();
    assert_eq!((counts.late, counts.ahead, counts.repeated, counts.filled), (1, 1, 1, 0));
    assert_eq!(play.group.leader(), None);
}

#[test]
fn a_ninth_name_is_refused_until_a_silent_one_is_forgotten() {
    let mut play = Play::new();
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        play.float(name, T, 1, T);
    }
    assert_eq!(play.float("i", T, 2, T), []);
    assert_eq!(play.group.counts().ninth, 1);
    assert_eq!(play.group.series(), 1, "it leaves no trace but the count");
    let later = T + SILENT;
    play.tick(later);
    assert!(!play.group.forget_replica("a", later), "it leads");
    assert_eq!(play.group.silent(later), ["b", "c", "d", "e", "f", "g", "h"]);
    play.float("c", later, 1, later);
    assert!(!play.group.forget_replica("c", later), "it has just sent");
    assert!(play.group.forget_replica("b", later));
    play.float("i", later, 2, later);
    assert_eq!(play.group.counts().ninth, 1);
}

#[test]
fn a_forgotten_replicas_number_means_nothing_to_its_successor() {
    let mut play = Play::new();
    play.both(0..5);
    play.float("a", T + 60_000, 2, T + 60_000);
    // a stops; the series is taken from b.
    let then = T + 5 * 15_000;
    for scrape in 0..6 {
        play.float("b", then + scrape * 15_000, 1, then + scrape * 15_000);
    }
    play.switch("a", "b", then + 100_000);
    play.tick(then + 200_000);
    let last = then + SILENT + 300_000;
    play.float("b", last, 1, last);
    // Series 2 was a's last of all; its newest sample is nobody's from now on.
    assert!(play.group.forget_replica("a", last));
    let close = then - 15_000 + 1000;
    assert_eq!(play.float("c", last, 2, close), []);
    assert_eq!(play.tick(last + 70_000), [], "a second after a's, and not by the same replica");
    let last = last + 70_000;
    // c gets a's number. It is neither the leader nor where the series is taken from.
    assert_eq!(play.float("c", last + 1000, 1, last + 20_000), []);
    assert_eq!(play.switch("b", "c", last + 2000), SwitchOutcome::Done(2));
    assert_eq!(play.take(), [(1, last + 20_000)]);
}

#[test]
fn a_pin_holds_the_leader() {
    let mut play = Play::new();
    play.both(0..5);
    assert_eq!(play.group.pin("nobody", T + 80_000, &mut play.out), SwitchOutcome::Unknown);
    assert!(!play.group.pinned());
    assert_eq!(play.group.pin("b", T + 80_000, &mut play.out), SwitchOutcome::Done(1));
    assert_eq!(play.switch("b", "a", T + 81_000), SwitchOutcome::Pinned);
    assert_eq!((play.group.leader(), play.group.pinned()), (Some("b"), true));
    play.group.unpin();
    assert_eq!(play.switch("a", "b", T + 82_000), SwitchOutcome::Outdated);
    assert_eq!(play.switch("b", "z", T + 82_000), SwitchOutcome::Unknown);
    assert_eq!(play.switch("b", "b", T + 82_000), SwitchOutcome::Leads);
    assert_eq!(play.switch("b", "a", T + 82_000), SwitchOutcome::Done(2));
}

#[test]
fn a_switch_is_measured() {
    let mut play = Play::new();
    play.both(0..10);
    // a dies after its scrape at 9 * 15 s. b has sent two when the switch comes: the first is too close to a's last.
    let from = T + 9 * 15_000;
    play.float("b", from + 20_100, 1, from + 20_000);
    assert_eq!(play.switch("a", "b", from + 21_000), SwitchOutcome::Done(1));
    assert_eq!(play.take(), [(1, from + 20_000)]);
    let record = play.group.history().next_back().unwrap().clone();
    assert_eq!((record.number, record.at, &*record.from, &*record.to), (1, from + 21_000, "a", "b"));
    assert_eq!((&*record.reason, &*record.evidence), ("test", "because"));
    assert_eq!((record.gap, record.spliced, record.wide, record.late, record.filled), (20_000, 1, 0, 0, 0));
    assert!(record.overlap > 0, "the one at 5 s was dropped: {record:?}");
    // a comes back and fills nothing; then b pauses, and a's go out: filled, and counted to the switch.
    play.float("a", from + 60_000, 1, from + 60_000);
    play.tick(from + 120_000);
    assert_eq!(play.group.history().next_back().unwrap().filled, 1);
}

#[test]
fn the_splice_before_a_slow_switch_is_measured_too() {
    let mut play = Play::new();
    play.both(0..10);
    let from = T + 9 * 15_000;
    for scrape in 1..6 {
        play.float("b", from + 5000 + scrape * 15_000, 1, from + 5000 + scrape * 15_000);
    }
    play.tick(from + 120_000);
    play.switch("a", "b", from + 120_000);
    let record = play.group.history().next_back().unwrap();
    assert_eq!((record.gap, record.spliced, record.wide), (20_000, 1, 0));
}

#[test]
fn over_the_bound_the_oldest_entry_is_judged_at_once() {
    let mut play = Play::new();
    play.both(0..5);
    let then = T + 5 * 15_000;
    play.tick(then + 50_000);
    assert_eq!(play.group.waiting_bytes(), 0);
    play.float("b", then + 50_000, 1, then);
    let first = play.group.oldest_waiting();
    play.float("b", then + 50_000, 1, then + 15_000);
    assert!(play.group.next_due().is_some_and(|due| due > then + 50_000) && play.group.waiting_bytes() > 0);
    assert!(play.group.judge_oldest(&mut play.out));
    assert_eq!(play.take(), [(1, then)]);
    assert!(play.group.oldest_waiting() > first);
    assert!(play.group.judge_oldest(&mut play.out) && !play.group.judge_oldest(&mut play.out));
    assert_eq!(play.take(), [(1, then + 15_000)]);
}

#[test]
fn times_that_no_clock_shows_are_refused() {
    let mut play = Play::new();
    let points = [(1, i64::MAX), (1, i64::MIN), (1, (1 << 53) + 1), (1, T)];
    assert_eq!(play.send("a", i64::MAX, Kind::Float, &points), [(1, T)]);
    assert_eq!(play.send("b", i64::MIN, Kind::Float, &points), []);
    assert_eq!(play.send("", 0, Kind::Float, &points), []);
    play.tick(i64::MAX);
    assert_eq!(play.group.counts().refused, 9);
    play.group.forget(i64::MAX, i64::MAX);
}

/// Every cut and every flipped bit of an image is an error or a group that works; nothing panics.
#[test]
fn a_damaged_image_never_panics() {
    let mut play = Play::new();
    play.both(0..4);
    play.float("a", T + 200_000, 1, T + 200_000);
    play.float("a", T + 200_000, 2, T + 900_000);
    play.send("b", T + 200_000, Kind::Exemplar, &[(3, T)]);
    play.send("b", T + 200_000, Kind::Stale, &[(4, T)]);
    play.switch("a", "b", T + 210_000);
    play.take();
    play.float("a", T + 215_000, 1, T + 215_000);
    play.group.forget(100_000, 100_000);
    let mut image = Vec::new();
    play.group.write_image(&mut image);
    assert!(Group::read_image(&image).is_ok());
    assert!((0..image.len()).all(|end| Group::read_image(&image[..end]).is_err()));
    let mut read = 0;
    for bit in 0..image.len() * 8 {
        let mut damaged = image.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let Ok(mut group) = Group::read_image(&damaged) else { continue };
        read += 1;
        let mut out = Judged::new();
        let items = (0..6).map(|series| Item { series, time: T + 230_000, kind: Kind::Float, refused: false });
        for replica in ["a", "b", "c", ""] {
            group.samples(100, replica, T + 230_000, items.clone(), &mut out);
        }
        group.switch(&Switch { from: "b", to: "a", reason: "", evidence: "" }, T + 240_000, &mut out);
        group.tick(T + 400_000, &mut out);
        group.forget(1000, 1000);
        group.write_image(&mut Vec::new());
    }
    assert!(read > 0);
}

#[test]
fn a_marker_does_not_swallow_the_twins_next_sample() {
    let mut play = Play::new();
    play.both(0..20);
    // a's next scrape fails: a marker. b goes on seeing the series.
    let failed = T + 20 * 15_000;
    let mut passed = play.send("a", failed + 100, Kind::Stale, &[(1, failed)]);
    for scrape in 20..26 {
        let time = T + scrape * 15_000 + 5000;
        passed.extend(play.tick(time));
        passed.extend(play.float("b", time + 100, 1, time));
    }
    passed.extend(play.tick(T + 1_000_000));
    let wanted: Vec<(u64, i64)> = (20..26).map(|scrape| (1, T + scrape * 15_000 + 5000)).collect();
    // Once the series is taken from b, its newest passes at once and the one that still waits comes late.
    passed.sort_unstable();
    assert_eq!(passed, wanted, "every sample of b, and no marker between them");
}

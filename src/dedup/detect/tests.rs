//! The detector, by stories: two replicas, a trouble, and what is proposed when.

use super::doctor::Oddity;
use super::*;
use crate::dedup::group::Switch;
use crate::dedup::judged::Judged;

const BEGIN: i64 = 1_790_000_000_000;

/// A group and its detector under one clock; each replica sends each five seconds what a scrape each fifteen gives it.
struct Story {
    group: Group,
    detector: Detector,
    out: Judged,
    now: u64,
    entry: u64,
    /// Each check's findings, while they are not looked at.
    proposals: Vec<(u64, Proposal)>,
    alarms: usize,
    obey: bool,
}

/// What a replica sends.
#[derive(Clone, Copy)]
struct Habit {
    name: &'static str,
    series: u64,
    /// Its data is this much older than now, ms.
    old: u64,
    on: bool,
}

fn habit(name: &'static str) -> Habit {
    Habit { name, series: 300, old: 0, on: true }
}

impl Story {
    fn new() -> Story {
        let group = Group::new("g");
        Story {
            group,
            detector: Detector::new(),
            out: Judged::new(),
            now: 5_004_000,
            entry: 0,
            proposals: Vec::new(),
            alarms: 0,
            obey: false,
        }
    }

    fn at(&self) -> i64 {
        BEGIN + self.now as i64
    }

    fn run(&mut self, seconds: u64, replicas: &[Habit]) {
        for _ in 0..seconds {
            self.now += 1000;
            for (number, replica) in replicas.iter().enumerate().filter(|(_, replica)| replica.on) {
                let phase = self.now / 1000 + 10 - number as u64 * 2;
                if !phase.is_multiple_of(5) {
                    continue;
                }
                let (time, third) = (self.at() - 500 - replica.old as i64, phase / 5 % 3);
                let series = (0..replica.series).filter(|series| series % 3 == third);
                let hash = |series: u64| (series + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let items: Vec<Item> =
                    series.map(|series| Item { series: hash(series), time, kind: Kind::Float, refused: false }).collect();
                self.detector.observe("g", replica.name, (self.now, self.at()), items.iter().copied());
                let at = self.at();
                self.group.samples(self.entry, replica.name, at, items.into_iter(), &mut self.out);
                self.entry += 1;
            }
            self.check();
        }
    }

    fn check(&mut self) {
        let findings = self.detector.check(self.now, std::iter::once(&self.group));
        self.alarms += findings.alarms.len();
        for proposal in findings.proposals {
            let order = Switch { from: &proposal.from, to: &proposal.to, reason: proposal.reason, evidence: &proposal.evidence };
            if self.obey {
                let at = self.at();
                self.group.switch(&order, at, &mut self.out);
            }
            self.proposals.push((self.now, proposal));
        }
    }

    /// The first proposal, after how long, and its reason.
    #[track_caller]
    fn first(&self, since: u64) -> (u64, &Proposal) {
        let (when, proposal) = self.proposals.first().expect("nothing was proposed");
        (when - since, proposal)
    }
}

#[test]
fn nothing_is_proposed_while_all_is_well() {
    let mut story = Story::new();
    story.run(3600, &[habit("a"), habit("b")]);
    assert_eq!(story.proposals, []);
}

#[test]
fn a_dead_leader_is_left_after_two_or_three_batches() {
    let mut story = Story::new();
    story.run(1800, &[habit("a"), habit("b")]);
    let since = story.now;
    story.run(60, &[Habit { on: false, ..habit("a") }, habit("b")]);
    let (after, proposal) = story.first(since);
    assert!((8_000..16_000).contains(&after), "{after} ms");
    assert_eq!((proposal.reason, &*proposal.from, &*proposal.to), ("silent", "a", "b"));
    let evidence = &proposal.evidence;
    assert!(
        evidence.starts_with("no data time progress of a for 1") && evidence.contains("; b is 0.5 s behind now and covers 100 %"),
        "{evidence}"
    );
}

#[test]
fn hints_make_it_quicker_but_prove_nothing() {
    let mut story = Story::new();
    story.run(1800, &[habit("a"), habit("b")]);
    story.detector.hint("g", "a", Hint::Closed);
    story.run(120, &[habit("a"), habit("b")]);
    assert_eq!(story.proposals, [], "it went on sending");
    story.run(60, &[Habit { on: false, ..habit("a") }, habit("b")]);
    assert_eq!(story.first(0).1.reason, "silent", "and so the hint was forgotten");
    story.run(600, &[habit("a"), habit("b")]);
    story.proposals.clear();
    story.detector.hint("g", "a", Hint::Closed);
    let since = story.now;
    story.run(60, &[Habit { on: false, ..habit("a") }, habit("b")]);
    let (after, proposal) = story.first(since);
    assert!(after <= 8_000 && proposal.reason == "closed", "{after} ms, {}", proposal.reason);
}

#[test]
fn a_leader_whose_prometheus_is_dead_or_stopping_goes_at_once() {
    for (hint, reason) in [(Hint::Refused, "refused"), (Hint::Stopping, "stopping")] {
        let mut story = Story::new();
        story.run(1800, &[habit("a"), habit("b")]);
        story.detector.hint("g", "a", hint);
        story.detector.hint("g", "a", Hint::Closed);
        let since = story.now;
        story.run(2, &[Habit { on: false, ..habit("a") }, habit("b")]);
        let (after, proposal) = story.first(since);
        assert!(after <= 1_000 && proposal.reason == reason, "{after} ms, {}", proposal.reason);
    }
}

#[test]
fn a_dead_standby_is_given_nothing() {
    let mut story = Story::new();
    story.run(1800, &[habit("a"), habit("b")]);
    story.detector.hint("g", "a", Hint::Refused);
    story.detector.hint("g", "b", Hint::Refused);
    story.run(2, &[]);
    assert_eq!(story.proposals, []);
}

#[test]
fn a_sick_one_goes_once_it_is_silent_for_longer_than_usual() {
    let mut story = Story::new();
    story.run(1800, &[habit("a"), habit("b")]);
    story.detector.hint("g", "a", Hint::Sick);
    story.run(120, &[habit("a"), habit("b")]);
    assert_eq!(story.proposals, [], "it went on sending");
    story.detector.hint("g", "a", Hint::Sick);
    let since = story.now;
    story.run(60, &[Habit { on: false, ..habit("a") }, habit("b")]);
    let (after, proposal) = story.first(since);
    assert!(after <= 8_000 && proposal.reason == "sick", "{after} ms, {}", proposal.reason);
}

#[test]
fn when_nobody_sends_nobody_is_better() {
    let mut story = Story::new();
    story.run(1800, &[habit("a"), habit("b")]);
    story.run(600, &[]);
    assert_eq!(story.proposals, []);
}

#[test]
fn a_leader_that_sends_only_its_backlog_is_left() {
    let mut story = Story::new();
    story.run(1800, &[habit("a"), habit("b")]);
    let since = story.now;
    story.run(300, &[Habit { old: 120_000, ..habit("a") }, habit("b")]);
    let (after, proposal) = story.first(since);
    // Its data time does not advance for two minutes, then it does, far behind: whichever is seen first.
    assert!(after <= 60_000 && ["silent", "behind"].contains(&proposal.reason), "{after} ms, {proposal:?}");

    let mut story = Story::new();
    story.run(1800, &[Habit { old: 120_000, ..habit("a") }, Habit { old: 120_000, ..habit("b") }]);
    let since = story.now;
    story.run(300, &[Habit { old: 120_000, ..habit("a") }, habit("b")]);
    let (after, proposal) = story.first(since);
    assert!(after <= 60_000 && proposal.reason == "behind", "{after} ms, {proposal:?}");
}

#[test]
fn a_half_blind_leader_is_left() {
    let mut story = Story::new();
    story.run(1800, &[habit("a"), habit("b")]);
    let since = story.now;
    story.run(300, &[Habit { series: 150, ..habit("a") }, habit("b")]);
    let (after, proposal) = story.first(since);
    assert!(after <= 120_000 && proposal.reason == "half", "{after} ms, {proposal:?}");
    assert!(proposal.evidence.contains("% of the series of b"), "{}", proposal.evidence);
}

#[test]
fn switches_too_many_end_in_an_alarm() {
    let mut story = Story::new();
    story.obey = true;
    story.run(1800, &[habit("a"), habit("b")]);
    for turn in 0..20 {
        let (a, b) = (turn % 2 == 1, turn % 2 == 0);
        story.run(80, &[Habit { on: a, ..habit("a") }, Habit { on: b, ..habit("b") }]);
        story.run(40, &[habit("a"), habit("b")]);
    }
    assert_eq!(story.proposals.len(), SWITCHES_AN_HOUR);
    assert!(story.alarms > 0);
    story.run(3700, &[habit("a"), habit("b")]);
    let leader = story.group.leader().unwrap().to_owned();
    let (a, b) = (leader != "a", leader != "b");
    story.run(60, &[Habit { on: a, ..habit("a") }, Habit { on: b, ..habit("b") }]);
    assert_eq!(story.proposals.len(), SWITCHES_AN_HOUR + 1, "an hour later there are switches again");
}

#[test]
fn a_group_may_have_a_limit_of_its_own() {
    for (usual, special, proposals) in [(1, None, 1), (6, Some(0), 0), (0, Some(1), 1)] {
        let mut story = Story::new();
        let special = special.map(|limit| ("g".to_owned(), limit)).into_iter().collect();
        story.detector.limit(Arc::new(SwitchLimits { usual, special }));
        story.obey = true;
        story.run(600, &[habit("a"), habit("b")]);
        for _ in 0..2 {
            let leads_a = story.group.leader() == Some("a");
            story.run(80, &[Habit { on: !leads_a, ..habit("a") }, Habit { on: leads_a, ..habit("b") }]);
            story.run(40, &[habit("a"), habit("b")]);
        }
        assert_eq!((story.proposals.len(), story.alarms > 0), (proposals, true));
    }
}

#[test]
fn a_pinned_group_is_left_alone_and_step_down_takes_the_best() {
    let mut story = Story::new();
    story.run(600, &[habit("a"), Habit { series: 100, ..habit("b") }, habit("c")]);
    assert_eq!(story.detector.step_down(story.now, &story.group).map(|proposal| proposal.to), Some("c".to_owned()));
    let at = story.at();
    story.group.pin("a", at, &mut story.out);
    story.run(300, &[Habit { on: false, ..habit("a") }, habit("b"), habit("c")]);
    assert_eq!(story.proposals, []);
    assert_eq!(story.detector.step_down(story.now, &story.group), None);
}

#[test]
fn the_doctor_names_what_is_odd() {
    let mut story = Story::new();
    story.run(700, &[habit("a")]);
    assert_eq!(story.detector.oddities(story.now, &story.group), [Oddity::OneReplica { replica: "a".to_owned() }]);

    // Names that change, and a lone one that sends.
    let mut story = Story::new();
    for name in ["a-1", "a-2", "a-3"] {
        story.run(700, &[habit(name)]);
    }
    let odd = story.detector.oddities(story.now, &story.group);
    assert!(odd.contains(&Oddity::NameChanges { names: 3, active: 1, refused: 0 }), "{odd:?}");

    // Replicas without a common series.
    let mut story = Story::new();
    story.run(700, &[habit("a"), habit("b")]);
    let time = story.at();
    for _ in 0..2 {
        story.now += 400_000;
        for (replica, series) in [("a", 0..90_u64), ("b", 1000..1090)] {
            let at = (story.now, story.at());
            let items = series.map(|series| Item { series, time: at.1, kind: Kind::Float, refused: false });
            story.detector.observe("g", replica, at, items.clone());
            story.group.samples(story.entry, replica, at.1, items, &mut story.out);
        }
    }
    story.now += 400_000;
    story.check();
    let odd = story.detector.oddities(story.now, &story.group);
    assert!(time < story.at() && odd.iter().any(|odd| matches!(odd, Oddity::HardlyOverlap { percent: 0, .. })), "{odd:?}");
}

#[test]
fn groups_that_share_most_series_are_found_among_all_shards_groups() {
    let bare = |hashes: std::ops::Range<u64>| {
        let mut bare = Bare::default();
        hashes.for_each(|n| bare.insert((n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        Arc::new(bare)
    };
    let groups = [("a", 0..900), ("b", 0..1000), ("c", 5000..6000), ("d", 900..2000), ("few", 0..10)];
    let groups: Vec<(String, Arc<Bare>)> = groups.into_iter().map(|(name, series)| (name.to_owned(), bare(series))).collect();
    let odd = doctor::sharing(&groups);
    let with = |name: &str| -> Vec<&str> {
        let found = odd.get(name).into_iter().flatten();
        found.map(|odd| if let Oddity::SharesSeries { with, .. } = odd { &**with } else { panic!("{odd:?}") }).collect()
    };
    assert_eq!(["a", "b", "c", "d", "few"].map(with), [vec!["b"], vec!["a"], vec![], vec![], vec![]]);
    let many: Vec<(String, Arc<Bare>)> = (0..1000).map(|number| (format!("g{number:03}"), bare(0..500))).collect();
    assert!(doctor::sharing(&many).values().all(|odd| (1..=3).contains(&odd.len())));
}

#[test]
fn what_a_group_does_not_send_any_more_is_compared_no_longer() {
    let mut story = Story::new();
    story.detector.watch_for(300_000);
    story.run(200, &[habit("a"), habit("b")]);
    story.detector.bare("g", 0..100);
    assert_eq!(story.detector.bared().count(), 0, "not watched for long enough");
    story.run(200, &[habit("a"), habit("b")]);
    assert_eq!(story.detector.bared().map(|(name, bare)| (name, bare.len())).collect::<Vec<_>>(), [("g", 64)]);
    story.run(400, &[habit("a"), habit("b")]);
    assert_eq!(story.detector.bared().count(), 0);
}

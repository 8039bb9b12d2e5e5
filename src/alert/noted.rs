//! What the policies come to for one alert: how bad it is, and was, when its end counts, whether it flaps, before when nobody is told.
//!
//! It changes when an alert comes, and comes again after it was over, and at no other time; between those it is a function of the clock. So it stands in the
//! book, and every node says the same. Left out on purpose: whom that concerns (`groups`), how it is written (`shard::policies`).

use crate::alert::lesson::Lessons;
use crate::alert::message;
use crate::alert::policy::EpisodeRules;
use crate::model::alert::name;
use crate::model::labels::Labels;

/// Beginnings and ends that are remembered of one alert: more than any policy counts.
const MOST_CHANGES: usize = 64;

/// What is noted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// 1 to 5, where a rule says so; 0: its labels do.
    pub level: u8,
    /// The worst that it was before within its episode, 1 to 5; 0: it was never worse than it is.
    pub worst: u8,
    /// Nobody is told before, ms since 1970; 0: it does not wait.
    pub released: i64,
    /// So long its end is watched before it counts, ms,
    pub observe: i64,
    /// and so long while it flaps.
    pub calm: i64,
    /// So long after its end it is remembered, ms, so that it is known when it comes again.
    pub remembered: i64,
    /// Since when it flaps; 0: it does not.
    pub flaps: i64,
    /// So often it came again while its end was watched: one episode.
    pub again: u64,
    /// When it did so last; 0: it did not.
    pub since: i64,
    /// When it began, ended, began, and so on, as far as that is still counted; the last one is a beginning.
    pub changes: Vec<i64>,
}

impl Noted {
    /// Whether no policy is for it.
    pub fn is_nothing(&self) -> bool {
        *self == Noted::default()
    }

    /// How bad an alert is, 1 (the worst) to 5.
    pub fn level_of(&self, labels: &Labels) -> u8 {
        if self.level > 0 { self.level } else { message::level(labels) }
    }

    /// How bad it was at its worst, within its episode.
    pub fn worst_of(&self, labels: &Labels) -> u8 {
        if self.worst > 0 { self.worst } else { self.level_of(labels) }
    }

    /// Whether it flaps at this time, where it ends, or will, at `ends`.
    pub fn flaps_at(&self, ends: i64, now: i64) -> bool {
        let Some(began) = self.changes.last().filter(|_| self.flaps > 0) else { return false };
        // Its end is a change as well, unless it was calm by then.
        let ended = ends <= now && ends < began.saturating_add(self.calm);
        now < if ended { ends } else { *began }.saturating_add(self.calm)
    }

    /// When an end at `ends` counts: not before it was watched.
    pub fn counts(&self, ends: i64) -> i64 {
        ends.saturating_add(if self.flaps_at(ends, ends) { self.calm.max(self.observe) } else { self.observe })
    }
}

impl EpisodeRules {
    /// What rules say of an alert, whatever it did before.
    fn fresh(&self, labels: &Labels) -> Noted {
        let flapping = self.flapping.first(labels).copied().unwrap_or_default();
        let observe = self.recovery.first(labels).copied().unwrap_or(0);
        Noted {
            level: self.levels.first(labels).copied().unwrap_or(0),
            observe,
            calm: flapping.calm,
            remembered: flapping.within.max(flapping.calm).max(observe),
            ..Noted::default()
        }
    }

    /// The worst that an alert was, where these rules make it less bad.
    fn worst(&self, labels: &Labels, before: &Noted) -> u8 {
        let was = before.worst_of(labels);
        if was < self.level(labels) { was } else { 0 }
    }

    fn released(&self, labels: &Labels, lessons: &Lessons, at: i64) -> i64 {
        // The worst never waits.
        let policy = self.transient.first(labels).filter(|_| self.level(labels) > 1);
        let delay = policy.and_then(|policy| lessons.of(name(labels))?.delay(policy));
        delay.map_or(0, |delay| at.saturating_add(delay))
    }

    /// An alert comes of which nothing is known.
    pub fn comes(&self, labels: &Labels, lessons: &Lessons, at: i64) -> Noted {
        let mut noted = self.fresh(labels);
        noted.released = self.released(labels, lessons, at);
        if self.flapping.first(labels).is_some() {
            noted.changes.push(at);
        }
        noted
    }

    /// One comes again that ended at `ends`; and whether that is the same episode, since its end did not count yet.
    pub fn comes_again(&self, labels: &Labels, (before, ends): (&Noted, i64), lessons: &Lessons, at: i64) -> (Noted, bool) {
        let same = at < before.counts(ends);
        let mut noted = self.fresh(labels);
        if let Some(policy) = self.flapping.first(labels) {
            noted.changes =
                before.changes.iter().copied().chain([ends, at]).filter(|change| *change > at.saturating_sub(policy.within)).collect();
            let surplus = noted.changes.len().saturating_sub(MOST_CHANGES);
            noted.changes.drain(..surplus);
            noted.flaps = match () {
                () if before.flaps_at(ends, at) => before.flaps,
                () if noted.changes.len() as u64 >= policy.changes => at,
                () => 0,
            };
        }
        noted.worst = if same { self.worst(labels, before) } else { 0 };
        (noted.again, noted.since) = if same { (before.again.saturating_add(1), at) } else { (0, 0) };
        noted.released = match () {
            // That it flaps is to be known.
            () if noted.flaps > 0 => 0,
            () if same => before.released,
            () => self.released(labels, lessons, at),
        };
        (noted, same)
    }

    /// The rules are others than they were when this was noted.
    pub fn renewed(&self, labels: &Labels, before: &Noted) -> Noted {
        let flapping = self.flapping.first(labels).is_some();
        let worst = self.worst(labels, before);
        let mut noted = Noted { again: before.again, since: before.since, worst, ..self.fresh(labels) };
        if flapping {
            (noted.flaps, noted.changes) = (before.flaps, before.changes.clone());
        }
        if self.transient.first(labels).is_some() && self.level(labels) > 1 {
            noted.released = before.released;
        }
        noted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::listed::Listed;
    use crate::alert::policy::Flapping;
    use crate::alert::policy::Transient;

    fn rules() -> EpisodeRules {
        EpisodeRules {
            recovery: Listed::new(vec![(vec![], 120_000)]),
            flapping: Listed::new(vec![(vec![], Flapping { changes: 4, within: 600_000, calm: 300_000 })]),
            ..EpisodeRules::default()
        }
    }

    fn labels(severity: &str) -> Labels {
        [("alertname", "A"), ("severity", severity)].map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn an_end_is_watched_and_what_comes_again_meanwhile_is_the_same_episode() {
        let (rules, labels, lessons) = (rules(), labels("warning"), Lessons::default());
        let first = rules.comes(&labels, &lessons, 1_000_000);
        assert_eq!((first.counts(1_100_000), first.again), (1_220_000, 0));
        let (second, same) = rules.comes_again(&labels, (&first, 1_100_000), &lessons, 1_219_999);
        assert!(same && second.again == 1 && second.flaps == 0 && second.changes.len() == 3);
        let (_, same) = rules.comes_again(&labels, (&first, 1_100_000), &lessons, 1_220_000);
        assert!(!same);
    }

    #[test]
    fn it_flaps_from_the_change_that_is_one_too_many_until_it_was_calm_for_long_enough() {
        let (rules, labels, lessons) = (rules(), labels("warning"), Lessons::default());
        let first = rules.comes(&labels, &lessons, 1_000_000);
        let (second, _) = rules.comes_again(&labels, (&first, 1_010_000), &lessons, 1_200_000);
        assert!(!second.flaps_at(i64::MAX, 1_200_000), "three changes");
        let (third, same) = rules.comes_again(&labels, (&second, 1_210_000), &lessons, 1_400_000);
        assert_eq!((third.flaps, same, third.changes.len()), (1_400_000, false, 5));
        // It holds: calm after five minutes.
        assert!(third.flaps_at(i64::MAX, 1_699_999) && !third.flaps_at(i64::MAX, 1_700_000));
        // It ends before: calm five minutes after that, and its end counts then.
        assert!(third.flaps_at(1_600_000, 1_899_999) && !third.flaps_at(1_600_000, 1_900_000));
        assert_eq!(third.counts(1_600_000), 1_900_000);
        // It ends after it was calm.
        assert!(!third.flaps_at(1_700_000, 1_700_000));
        assert_eq!(third.counts(1_700_000), 1_820_000);
        // It comes again before it is calm, though fewer changes than four are in the window by then: hysteresis.
        let (fourth, same) = rules.comes_again(&labels, (&third, 1_690_000), &lessons, 1_980_000);
        assert_eq!((fourth.flaps, same, fourth.again, fourth.changes.len()), (1_400_000, true, 1, 3));
        let (fifth, same) = rules.comes_again(&labels, (&third, 1_690_000), &lessons, 1_990_001);
        assert_eq!((fifth.flaps, same, fifth.again), (0, false, 0));
    }

    #[test]
    fn what_mostly_ends_by_itself_waits_but_for_the_worst_and_what_flaps() {
        let mut lessons = Lessons::default();
        (0..20).for_each(|at| lessons.learn("A", Some(40_000), at));
        let policy = Transient { within: 120_000, share: 80, least: 20, percentile: 90, most: 300_000 };
        let rules = EpisodeRules { transient: Listed::new(vec![(vec![], policy)]), ..rules() };
        assert_eq!(rules.comes(&labels("warning"), &lessons, 1_000).released, 46_000);
        assert_eq!(rules.comes(&labels("critical"), &lessons, 1_000).released, 0);
        let first = rules.comes(&labels("warning"), &lessons, 1_000_000);
        let (second, _) = rules.comes_again(&labels("warning"), (&first, 1_010_000), &lessons, 1_020_000);
        assert_eq!(second.released, first.released, "one episode, one delay");
        let (third, _) = rules.comes_again(&labels("warning"), (&second, 1_025_000), &lessons, 1_030_000);
        assert_eq!((third.flaps, third.released), (1_030_000, 0));
    }

    #[test]
    fn other_rules_hold_at_once_and_do_not_forget() {
        let (labels, lessons) = (labels("warning"), Lessons::default());
        let mut noted = rules().comes(&labels, &lessons, 1_000);
        (noted.again, noted.flaps) = (3, 500);
        assert_eq!(rules().renewed(&labels, &noted), noted);
        let none = EpisodeRules::default().renewed(&labels, &noted);
        assert_eq!(none, Noted { again: 3, ..Noted::default() });
        let levels = EpisodeRules { levels: Listed::new(vec![(vec![], 2)]), ..EpisodeRules::default() };
        assert_eq!(levels.renewed(&labels, &Noted::default()).level, 2);
    }

    /// Rules that come and go, ends that count and ends that do not: the worst is the least of all levels that the episode had.
    #[test]
    fn the_worst_of_an_episode_is_remembered_until_it_ends() {
        let (labels, lessons) = (labels("warning"), Lessons::default());
        for seed in crate::mutate::seeds(40) {
            let mut random = fastrand::Rng::with_seed(seed);
            let leveled = |random: &mut fastrand::Rng| match random.u8(0..6) {
                0 => rules(),
                level => EpisodeRules { levels: Listed::new(vec![(vec![], level)]), ..rules() },
            };
            let (mut at, mut in_force) = (1_000_000, leveled(&mut random));
            let mut noted = in_force.comes(&labels, &lessons, at);
            let mut had = vec![in_force.level(&labels)];
            for _ in 0..50 {
                at += random.i64(1..200_000);
                if random.bool() {
                    in_force = leveled(&mut random);
                    noted = in_force.renewed(&labels, &noted);
                } else {
                    let ends = at;
                    at += random.i64(1..300_000);
                    let (next, same) = in_force.comes_again(&labels, (&noted, ends), &lessons, at);
                    noted = next;
                    if !same {
                        had.clear();
                    }
                }
                had.push(in_force.level(&labels));
                assert_eq!(Some(noted.worst_of(&labels)), had.iter().min().copied(), "SEED={seed} {had:?}");
                assert_eq!(noted.level_of(&labels), in_force.level(&labels), "SEED={seed}");
            }
        }
    }

    /// Any stream of beginnings and ends: what `noted` says at each, held against what the words of the policy say, reckoned anew from all changes.
    #[test]
    fn flapping_is_what_its_definition_says_for_any_stream() {
        let (rules, labels, lessons) = (rules(), labels("warning"), Lessons::default());
        for seed in crate::mutate::seeds(40) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut at = 1_000_000;
            let mut noted = rules.comes(&labels, &lessons, at);
            let (mut changes, mut flaps) = (vec![at], false);
            for _ in 0..60 {
                let mut span = || if random.bool() { random.i64(1..60_000) } else { random.i64(1..500_000) };
                let ends = at + span();
                let again = ends + span();
                // By definition: calm ends it, four changes within ten minutes begin it, and that is looked at when it fires.
                flaps &= ends < at + 300_000;
                let counts = ends + if flaps { 300_000 } else { 120_000 };
                assert_eq!(noted.counts(ends), counts, "SEED={seed}");
                flaps &= again < ends + 300_000;
                changes.extend([ends, again]);
                flaps |= changes.iter().filter(|change| **change > again - 600_000).count() >= 4;
                let (next, same) = rules.comes_again(&labels, (&noted, ends), &lessons, again);
                assert_eq!((next.flaps_at(i64::MAX, again), same), (flaps, again < counts), "SEED={seed}");
                (noted, at) = (next, again);
            }
        }
    }
}

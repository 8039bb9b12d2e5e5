//! Which targets this node looks at next, and what it thinks of each. Pure: the time and what came of a look go in.
//!
//! The owner of a target looks once an interval, and what it sees becomes samples of that moment. Nobody else looks while all is well. As soon as a look
//! fails, the others are asked to look, too (`After::ask`), and go on for as long as they are asked, or find it down, or the verdict says that it is. A look
//! that failed is repeated at once, as often as the job says (`retries`), before this node says that the target is down; only the first look of an interval
//! becomes samples, so that a retry hides nothing.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::probe::schedule;
use crate::probe::targets::Target;
use crate::probe::verdict::Remark;

/// Between a look that failed and its repetition.
const RETRY: Duration = Duration::from_millis(500);
/// Whoever was asked to look goes on for so many intervals.
const ASKED: i64 = 3;

/// What came of a look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    /// It was as it should be.
    pub success: bool,
    /// What was not, in a word.
    pub cause: String,
    /// How long it took.
    pub took: Duration,
    /// When the first certificate that came ends, ms since 1970.
    pub certificate_ends_ms: Option<i64>,
    /// What that time was spent on, in order.
    pub spent: Vec<Spent>,
}

/// A part of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// As in the label `phase`.
    pub phase: &'static str,
    /// How long it took, or until it was cut off.
    pub took: Duration,
    /// It came to its end.
    pub done: bool,
}

/// What this node knows of a target.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Looks that failed, one after the other.
    pub failed: u32,
    /// The last look, and when it began, ms since 1970.
    pub last: Option<(i64, Look)>,
    /// Others, or a verdict, want it looked at until then.
    asked_until: i64,
    running: bool,
    /// Since when looks take longer than the job allows, ms since 1970.
    pub slow_since: Option<i64>,
}

/// A look to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// At this target.
    pub key: u64,
    /// Its time, ms since 1970: that of its samples.
    pub slot: i64,
    /// What comes of it becomes samples.
    pub writes: bool,
}

/// What follows from a look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct After {
    /// Others shall look.
    pub ask: bool,
}

/// All targets and when they are due.
#[derive(Debug, Default)]
pub struct Plan {
    targets: BTreeMap<u64, Target>,
    standings: BTreeMap<u64, Standing>,
    /// Targets of which there may be something to say (`speaks`): whoever asks several times a second need not go through all.
    spoken: BTreeSet<u64>,
    /// By time: looks of the schedule,
    due: BTreeSet<(i64, u64)>,
    /// and those beside it.
    soon: BTreeSet<(i64, u64)>,
    /// The worst delay of a look since somebody asked, ms.
    late: i64,
    /// The newest time that was heard.
    heard: i64,
    /// How often the targets were replaced.
    lists: u64,
}

fn interval(target: &Target) -> u64 {
    u64::try_from(target.ready.job.interval.as_millis()).unwrap_or(u64::MAX).max(1)
}

impl Plan {
    /// From now on these are the targets. What is known of those that stay is kept.
    pub fn replace(&mut self, targets: BTreeMap<u64, Target>, now: i64) {
        self.standings.retain(|key, _| targets.contains_key(key));
        self.soon.retain(|(_, key)| targets.contains_key(key));
        // What is overdue stays so, or lists that change often would have it never looked at.
        let before: BTreeMap<u64, i64> = self.due.iter().map(|(at, key)| (*key, *at)).collect();
        let unchanged = |key: &u64, target: &Target| self.targets.get(key).is_some_and(|known| interval(known) == interval(target));
        let due = |(key, target): (&u64, &Target)| {
            let known = before.get(key).copied().filter(|_| unchanged(key, target));
            (known.unwrap_or_else(|| first(*key, target, now)), *key)
        };
        self.due = targets.iter().map(due).collect();
        self.targets = targets;
        self.lists += 1;
        // What a job says of its targets may be different now.
        let speaks =
            |(key, standing): (&u64, &Standing)| self.targets.get(key).is_some_and(|target| speaks(target, standing, now)).then_some(*key);
        self.spoken = self.standings.iter().filter_map(speaks).collect();
    }

    /// Another number: other targets, perhaps.
    pub fn lists(&self) -> u64 {
        self.lists
    }

    /// By key.
    pub fn target(&self, key: u64) -> Option<&Target> {
        self.targets.get(&key)
    }

    /// What is known of one.
    pub fn standing(&self, key: u64) -> Option<&Standing> {
        self.standings.get(&key)
    }

    /// All of them, with what is known of those that were looked at.
    pub fn all(&self) -> impl Iterator<Item = (&Target, Option<&Standing>)> {
        self.targets.values().map(|target| (target, self.standings.get(&target.key)))
    }

    /// When something is due next, ms since 1970.
    pub fn next(&self) -> Option<i64> {
        [self.due.first(), self.soon.first()].into_iter().flatten().map(|(at, _)| *at).min()
    }

    /// The worst delay since this was asked last, ms.
    pub fn take_late(&mut self) -> i64 {
        std::mem::take(&mut self.late)
    }

    /// What is to begin now, at most so many: as one node (`own`) of those that live.
    pub fn start(&mut self, now: i64, (own, living): (u64, &[u64]), most: usize, is_down: &dyn Fn(&Target) -> bool) -> Vec<Start> {
        if now < self.heard {
            self.step_back(now);
        }
        self.heard = now;
        let mut starts = Vec::new();
        while starts.len() < most
            && let Some(&(slot, key)) = self.due.first().filter(|(at, _)| *at <= now)
        {
            self.due.pop_first();
            let Some(target) = self.targets.get(&key) else { continue };
            let interval = interval(target);
            self.due.insert((schedule::next(now, schedule::phase(key, interval), interval), key));
            let ours = schedule::owner(key, living) == own;
            let standing = self.standings.entry(key).or_default();
            if !ours && standing.failed == 0 && standing.asked_until < now && !is_down(target) {
                // Somebody else's business: what was known of it grows old.
                self.standings.remove(&key);
                self.spoken.remove(&key);
                continue;
            }
            if !standing.running {
                standing.running = true;
                self.late = self.late.max(now - slot);
                starts.push(Start { key, slot, writes: ours });
            }
        }
        while starts.len() < most
            && let Some(&(slot, key)) = self.soon.first().filter(|(at, _)| *at <= now)
        {
            self.soon.pop_first();
            if self.targets.contains_key(&key) {
                let standing = self.standings.entry(key).or_default();
                if !standing.running {
                    standing.running = true;
                    starts.push(Start { key, slot, writes: false });
                }
            }
        }
        starts
    }

    /// The clock was set back: nothing is due later than it would be if it had always been so late.
    fn step_back(&mut self, now: i64) {
        let (targets, due) = (&self.targets, std::mem::take(&mut self.due));
        let again = |(at, key): (i64, u64)| {
            let target = targets.get(&key)?;
            let far = at > now.saturating_add_unsigned(interval(target));
            Some((if far { first(key, target, now) } else { at }, key))
        };
        self.due = due.into_iter().filter_map(again).collect();
        self.soon = std::mem::take(&mut self.soon).into_iter().map(|(at, key)| (at.min(now + RETRY.as_millis() as i64), key)).collect();
    }

    /// A look broke off: nothing is known of it, and the next one may begin.
    pub fn broke_off(&mut self, key: u64) {
        if let Some(standing) = self.standings.get_mut(&key) {
            standing.running = false;
        }
    }

    /// A look is over.
    pub fn done(&mut self, start: &Start, mut look: Look, now: i64) -> After {
        let (Some(target), Some(standing)) = (self.targets.get(&start.key), self.standings.get_mut(&start.key)) else {
            return After::default();
        };
        standing.running = false;
        let job = &target.ready.job;
        let slow = job.alert.latency.is_some_and(|most| look.success && look.took > most);
        let failed = !look.success;
        if failed {
            // It says nothing of how long an answer takes, and of a certificate only if it came so far.
            let before = standing.last.as_ref().and_then(|(_, look)| look.certificate_ends_ms);
            look.certificate_ends_ms = look.certificate_ends_ms.or(before);
        } else {
            standing.slow_since = slow.then(|| standing.slow_since.unwrap_or(start.slot));
        }
        standing.failed = if failed { standing.failed.saturating_add(1) } else { 0 };
        standing.last = Some((start.slot, look));
        if speaks(target, standing, now) {
            self.spoken.insert(start.key);
        } else {
            self.spoken.remove(&start.key);
        }
        if failed && standing.failed <= job.retries {
            self.soon.insert((now + RETRY.min(job.interval / 4).as_millis() as i64, start.key));
        }
        After { ask: failed && job.nodes > 1 }
    }

    /// Another node wants this looked at. `false`: it is none of ours.
    pub fn asked(&mut self, key: u64, now: i64) -> bool {
        let Some(target) = self.targets.get(&key) else { return false };
        let standing = self.standings.entry(key).or_default();
        let known = standing.asked_until >= now;
        standing.asked_until = now.saturating_add((interval(target) as i64).saturating_mul(ASKED));
        // Whoever asks again a moment later need not be asked back: the look is on its way.
        if !known && !standing.running {
            self.soon.insert((now, key));
        }
        true
    }

    /// What this node says is down: key and cause.
    pub fn down(&self) -> BTreeMap<u64, String> {
        let says = |key: &u64| {
            let (target, standing) = (self.targets.get(key)?, self.standings.get(key)?);
            let (_, look) = standing.last.as_ref().filter(|_| standing.failed > target.ready.job.retries)?;
            Some((*key, look.cause.clone()))
        };
        self.spoken.iter().filter_map(says).collect()
    }
}

const DAY_MS: i64 = 86_400_000;
/// A certificate is watched so long before it is to be remarked on: longer than from one look to the next, which is a day at most.
const WATCHED_MS: i64 = 2 * DAY_MS;

/// `down` or `remarks` may name it, now or before its next look.
fn speaks(target: &Target, standing: &Standing, now: i64) -> bool {
    let ends = standing.last.as_ref().and_then(|(_, look)| look.certificate_ends_ms);
    let days = target.ready.job.alert.certificate_days.and_then(|days| i64::try_from(days).ok());
    let near = ends.zip(days).is_some_and(|(ends, days)| ends - now < days.saturating_mul(DAY_MS).saturating_add(WATCHED_MS));
    standing.failed > 0 || standing.slow_since.is_some() || near
}

impl Plan {
    /// What this node remarks on targets: certificates that end soon, looks that take long.
    pub fn remarks(&self, now: i64) -> BTreeMap<u64, Remark> {
        let remark = |key: &u64| {
            let (alert, standing) = (&self.targets.get(key)?.ready.job.alert, self.standings.get(key)?);
            let days = alert.certificate_days.and_then(|days| i64::try_from(days).ok());
            let ends = standing.last.as_ref().and_then(|(_, look)| look.certificate_ends_ms);
            let ends = ends.filter(|ends| days.is_some_and(|days| ends - now < days.saturating_mul(DAY_MS)));
            let remark = Remark { certificate_ends_ms: ends, slow_since_ms: standing.slow_since };
            (remark != Remark::default()).then_some((*key, remark))
        };
        self.spoken.iter().filter_map(remark).collect()
    }
}

/// When a target that was just heard of is looked at first.
fn first(key: u64, target: &Target, now: i64) -> i64 {
    schedule::next(now, schedule::phase(key, interval(target)), interval(target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::probe::targets;
    use crate::probe::targets::Ready;
    use std::sync::Arc;

    const NOW: i64 = 1_790_000_000_000;

    fn targets(job: &str) -> BTreeMap<u64, Target> {
        let text = format!("listen: 127.0.0.1:1\ndata_dir: /x\nsinks: []\nprobe:\n  jobs:\n    - {job}\n");
        let config = Config::parse(&text).unwrap_or_else(|problems| panic!("{problems:#?}"));
        targets::all([(&Arc::new(Ready::new(&config.jobs.jobs[0]).unwrap()), &[][..])]).0
    }

    fn many(number: usize) -> BTreeMap<u64, Target> {
        let list: Vec<String> = (0..number).map(|number| format!("h{number}")).collect();
        targets(&format!("{{ name: web, interval: 10s, targets: [{}] }}", list.join(", ")))
    }

    fn failed() -> Look {
        Look { success: false, cause: "refused".into(), ..Look::default() }
    }

    fn well() -> Look {
        Look { success: true, ..Look::default() }
    }

    /// Some nodes with a plan each; what one asks the others hear at once.
    struct Cluster {
        plans: Vec<Plan>,
        now: i64,
        /// Samples written: key and slot.
        written: Vec<(u64, i64)>,
        looks: Vec<usize>,
    }

    impl Cluster {
        fn new(nodes: usize, targets: &BTreeMap<u64, Target>) -> Cluster {
            let mut plans: Vec<Plan> = (0..nodes).map(|_| Plan::default()).collect();
            plans.iter_mut().for_each(|plan| plan.replace(targets.clone(), NOW));
            Cluster { plans, now: NOW, written: Vec::new(), looks: vec![0; nodes] }
        }

        fn run(&mut self, ms: i64, living: &[u64], sees: &dyn Fn(u64, u64) -> Look) {
            for _ in 0..ms / 50 {
                self.now += 50;
                for node in living {
                    let own = *node as usize;
                    let starts = self.plans[own].start(self.now, (*node, living), 10_000, &|_| false);
                    for start in starts {
                        self.looks[own] += 1;
                        if start.writes {
                            self.written.push((start.key, start.slot));
                        }
                        let after = self.plans[own].done(&start, sees(*node, start.key), self.now);
                        if after.ask {
                            living
                                .iter()
                                .filter(|other| *other != node)
                                .for_each(|other| assert!(self.plans[*other as usize].asked(start.key, self.now)));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_target_is_written_once_an_interval_by_one_node_also_when_a_node_dies() {
        let targets = many(300);
        let mut cluster = Cluster::new(3, &targets);
        cluster.run(30_000, &[0, 1, 2], &|_, _| well());
        assert_eq!(cluster.written.len(), 900);
        assert!(cluster.looks.iter().all(|looks| (200..400).contains(looks)), "{:?}", cluster.looks);
        cluster.run(30_000, &[0, 2], &|_, _| well());
        let mut slots = cluster.written.clone();
        slots.sort_unstable();
        slots.dedup();
        assert_eq!((cluster.written.len(), slots.len()), (1_800, 1_800), "no interval is missing, none is there twice");
    }

    #[test]
    fn nodes_that_disagree_on_who_lives_write_the_same_moment() {
        let targets = many(50);
        let mut plans = [Plan::default(), Plan::default()];
        plans.iter_mut().for_each(|plan| plan.replace(targets.clone(), NOW));
        let slots = plans.each_mut().map(|plan| {
            let starts = plan.start(NOW + 10_000, (1, &[1]), 100, &|_| false);
            starts.into_iter().map(|start| (start.key, start.slot)).collect::<Vec<_>>()
        });
        assert!(slots[0].len() == 50 && slots[0] == slots[1], "the second sample of a moment is a repeat, and is dropped");
    }

    #[test]
    fn a_failure_is_confirmed_by_all_and_forgotten_when_it_is_over() {
        let targets = many(3);
        let key = *targets.keys().next().unwrap();
        let mut cluster = Cluster::new(3, &targets);
        let broken = move |_, looked: u64| if looked == key { failed() } else { well() };
        cluster.run(10_000, &[0, 1, 2], &|_, _| well());
        assert!(cluster.plans.iter().all(|plan| plan.down().is_empty()));
        cluster.run(11_000, &[0, 1, 2], &broken);
        for plan in &cluster.plans {
            assert_eq!(plan.down(), BTreeMap::from([(key, "refused".to_owned())]), "each found out for itself, retries included");
        }
        cluster.run(60_000, &[0, 1, 2], &|_, _| well());
        let before: usize = cluster.looks.iter().sum();
        cluster.run(30_000, &[0, 1, 2], &|_, _| well());
        assert!(cluster.plans.iter().all(|plan| plan.down().is_empty()));
        assert_eq!(cluster.looks.iter().sum::<usize>() - before, 9, "three targets, three intervals, one node each");
    }

    #[test]
    fn one_node_that_is_cut_off_is_contradicted_by_the_others() {
        let targets = many(100);
        let mut cluster = Cluster::new(3, &targets);
        cluster.run(40_000, &[0, 1, 2], &|node, _| if node == 1 { failed() } else { well() });
        assert!(cluster.plans[1].down().len() > 20, "its own targets, and those it was asked about");
        assert!(cluster.plans[0].down().is_empty() && cluster.plans[2].down().is_empty());
    }

    #[test]
    fn a_retry_that_works_is_no_failure_and_hides_no_sample() {
        let targets = targets("{ name: web, interval: 10s, retries: 2, targets: [h] }");
        let key = *targets.keys().next().unwrap();
        let mut plan = Plan::default();
        plan.replace(targets, NOW);
        let first = plan.start(NOW + 10_000, (0, &[0]), 9, &|_| false).remove(0);
        assert!(first.writes && plan.done(&first, failed(), NOW + 10_000).ask);
        assert!(plan.down().is_empty());
        let second = plan.start(NOW + 10_600, (0, &[0]), 9, &|_| false).into_iter().find(|start| start.key == key).unwrap();
        assert!(!second.writes);
        assert!(!plan.done(&second, well(), NOW + 10_600).ask);
        assert_eq!((plan.down().len(), plan.all().next().unwrap().1.unwrap().failed), (0, 0));
    }

    #[test]
    fn certificates_that_end_soon_and_slow_looks_are_remarked() {
        let targets = targets("{ name: web, interval: 10s, targets: [h], alert: { certificate_days: 10, latency: 1s } }");
        let key = *targets.keys().next().unwrap();
        let mut plan = Plan::default();
        plan.replace(targets, NOW);
        let mut look = |certificate_ends_ms, took| {
            let start = Start { key, slot: NOW, writes: true };
            plan.standings.entry(key).or_default();
            plan.done(&start, Look { certificate_ends_ms, took: Duration::from_millis(took), ..well() }, NOW);
            plan.remarks(NOW).remove(&key)
        };
        assert_eq!(look(Some(NOW + 11 * DAY_MS), 900), None);
        assert_eq!(look(Some(NOW + 9 * DAY_MS), 900), Some(Remark { certificate_ends_ms: Some(NOW + 9 * DAY_MS), slow_since_ms: None }));
        assert_eq!(look(None, 1_100), Some(Remark { certificate_ends_ms: None, slow_since_ms: Some(NOW) }));
        let both = Some(Remark { certificate_ends_ms: Some(NOW + DAY_MS), slow_since_ms: Some(NOW) });
        assert_eq!(look(Some(NOW + DAY_MS), 1_100), both);
        let start = Start { key, slot: NOW, writes: true };
        plan.done(&start, failed(), NOW);
        assert_eq!(plan.remarks(NOW).remove(&key), both, "a look that failed says nothing of either");
    }

    #[test]
    fn targets_of_which_nobody_says_anything_are_not_gone_through() {
        let job = |days: u64| targets(&format!("{{ name: web, interval: 10s, targets: [h], alert: {{ certificate_days: {days} }} }}"));
        let key = *job(10).keys().next().unwrap();
        let mut plan = Plan::default();
        plan.replace(job(10), NOW);
        let mut look = |look: Look, now: i64| {
            plan.standings.entry(key).or_default();
            plan.done(&Start { key, slot: now, writes: true }, look, now);
            (plan.spoken.contains(&key), plan.down().len(), plan.remarks(now).len())
        };
        let ends = |days: i64| Look { certificate_ends_ms: Some(NOW + days * DAY_MS), ..well() };
        assert_eq!(look(well(), NOW), (false, 0, 0));
        assert_eq!(look(failed(), NOW), (true, 0, 0), "it will be repeated");
        assert_eq!(look(failed(), NOW), (true, 1, 0));
        assert_eq!(look(ends(20), NOW), (false, 0, 0));
        assert_eq!(look(ends(20), NOW + 9 * DAY_MS), (true, 0, 0), "before the next look it may be so far");
        assert_eq!(plan.remarks(NOW + 10 * DAY_MS + 1).len(), 1);
        plan.replace(job(1), NOW);
        assert_eq!((plan.spoken.len(), plan.remarks(NOW).len()), (0, 0));
        plan.replace(job(30), NOW);
        assert_eq!(plan.remarks(NOW).len(), 1, "another list has another number of days, and nothing needs to be looked at for it");
        plan.replace(BTreeMap::new(), NOW);
        assert!(plan.spoken.is_empty());
    }

    #[test]
    fn what_cannot_begin_now_begins_late_and_that_is_known() {
        let mut plan = Plan::default();
        plan.replace(many(100), NOW);
        assert_eq!(plan.start(NOW + 10_000, (0, &[0]), 30, &|_| false).len(), 30);
        assert!(plan.next().is_some_and(|next| next <= NOW + 10_000));
        assert_eq!(plan.start(NOW + 10_000, (0, &[0]), 1_000, &|_| false).len(), 70);
        assert!(plan.take_late() > 5_000 && plan.take_late() == 0);
    }

    #[test]
    fn a_list_that_changes_all_the_time_holds_up_nobody() {
        let (mut plan, mut looks) = (Plan::default(), 0);
        for second in 0..30 {
            // Another target each second, and no look at the clock for one second: all that was due in it is overdue.
            plan.replace(many(20 + second), NOW + second as i64 * 1_000);
            looks += plan.start(NOW + second as i64 * 1_000, (0, &[0]), 1_000, &|_| false).iter().filter(|start| start.writes).count();
            plan.standings.values_mut().for_each(|standing| standing.running = false);
        }
        assert!(looks >= 40, "{looks} looks at 20 targets and more, in 29 s, every 10 s");
    }

    #[test]
    fn a_clock_that_is_set_back_stops_no_look() {
        let mut plan = Plan::default();
        plan.replace(many(20), NOW);
        let looks = |plan: &mut Plan, from: i64| {
            let starts: Vec<Start> = (0..100).flat_map(|step| plan.start(from + step * 100, (0, &[0]), 100, &|_| false)).collect();
            for start in &starts {
                plan.done(start, well(), from);
            }
            starts.len()
        };
        assert_eq!(looks(&mut plan, NOW + 1), 20);
        assert_eq!(looks(&mut plan, NOW - 3_600_000), 20);
    }

    #[test]
    fn a_look_that_breaks_off_is_not_the_last() {
        let mut plan = Plan::default();
        plan.replace(many(1), NOW);
        let start = plan.start(NOW + 10_000, (0, &[0]), 9, &|_| false).remove(0);
        assert!(plan.start(NOW + 20_000, (0, &[0]), 9, &|_| false).is_empty(), "it is still under way");
        plan.broke_off(start.key);
        assert_eq!(plan.start(NOW + 30_000, (0, &[0]), 9, &|_| false).len(), 1);
    }
}

//! Says each second what this node finds down, and, where this node leads the control shard, what all nodes together make of it: only that becomes an
//! entry.
//!
//! Left out on purpose: the rule (`verdict`), and what follows from a verdict (`app::alerts`).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::clock;
use crate::model::ShardId;
use crate::node::Handle;
use crate::probe::jobs;
use crate::probe::prometheus::State;
use crate::probe::schedule;
use crate::probe::targets::Target;
use crate::probe::verdict::Ballot;
use crate::probe::verdict::Count;
use crate::probe::verdict::Down;
use crate::probe::verdict::GOOD_FOR;
use crate::probe::watcher;
use crate::shard::command::Command;
use crate::shard::verdicts::Change;
use crate::shard::verdicts::Verdicts;

/// Between two looks at what there is to say,
const LOOK: Duration = Duration::from_millis(200);
/// and the most between two ballots.
const SAY: Duration = Duration::from_secs(1);
/// So long a node that has begun keeps its vote back.
const YOUNG: Duration = Duration::from_secs(5);
/// A node that began so long ago has read its lists: what it does not know then is none of its targets.
const READ: Duration = Duration::from_secs(60);
/// One that has led for so long strikes verdicts on what nobody looks at any more.
const KNOWS: Duration = Duration::from_secs(15);
/// A node whose looks are so late has trouble of its own, ms.
const LATE: i64 = 2_000;
/// So long after that it keeps its vote back.
const LATE_FOR: Duration = Duration::from_secs(5);
/// Between two looks at the references, and what one may take.
const REFERENCES: Duration = Duration::from_secs(3);
const REFERENCE_WITHIN: Duration = Duration::from_secs(2);
/// Changes of one entry.
const AN_ENTRY: usize = 500;
/// Nodes that must find a Prometheus down, where there are so many.
const OF_PROMETHEUS: usize = 2;

/// What nodes look at.
#[derive(Clone)]
pub struct Looked {
    /// Targets of jobs.
    pub jobs: Arc<jobs::Board>,
    /// Prometheus of groups.
    pub prometheus: Arc<watcher::Board>,
}

/// A target, by name, and how many nodes must find it down.
type Named = (String, String, usize);

impl Looked {
    /// What this node finds down. Where a verdict says that a Prometheus is down, probing it has worked before, if not by this process.
    fn down(&self, verdicts: &Verdicts) -> BTreeMap<u64, String> {
        let mut down = self.jobs.plan().down();
        for ((group, replica), seen) in self.prometheus.all() {
            let instance = watcher::instance(&group, &replica);
            let worked = seen.worked || verdicts.of(watcher::JOB, &instance).is_some();
            if worked && matches!(seen.state, State::Down | State::Silent) {
                down.insert(schedule::key(watcher::JOB, &instance), seen.state.word().to_owned());
            }
        }
        down
    }

    /// What is down by verdict and was not looked at here yet: it is, now.
    fn unlooked(&self, verdicts: &Verdicts, young: bool) -> BTreeSet<u64> {
        let mut unlooked: BTreeSet<u64> = verdicts.all().map(|(job, instance, _)| schedule::key(job, instance)).collect();
        if unlooked.is_empty() {
            return unlooked;
        }
        for ((group, replica), seen) in self.prometheus.all() {
            if seen.state != State::Unknown {
                unlooked.remove(&schedule::key(watcher::JOB, &watcher::instance(&group, &replica)));
            }
        }
        {
            let plan = self.jobs.plan();
            unlooked.retain(|key| plan.standing(*key).is_none_or(|standing| standing.last.is_none()));
        }
        unlooked.retain(|key| self.jobs.ask(*key) || self.prometheus.has(*key) || young);
        unlooked
    }

    /// Names of these. There may be ten thousand targets of which nobody says anything.
    fn named(&self, keys: &BTreeSet<u64>) -> BTreeMap<u64, Named> {
        if keys.is_empty() {
            return BTreeMap::new();
        }
        let of_target = |target: &Target| (target.ready.job.name.clone(), target.instance.clone(), target.ready.job.nodes);
        let mut named: BTreeMap<u64, Named> = {
            let plan = self.jobs.plan();
            keys.iter().filter_map(|key| Some((*key, of_target(plan.target(*key)?)))).collect()
        };
        for (group, replica) in self.prometheus.all().into_keys() {
            let instance = watcher::instance(&group, &replica);
            let key = schedule::key(watcher::JOB, &instance);
            if keys.contains(&key) {
                named.insert(key, (watcher::JOB.to_owned(), instance, OF_PROMETHEUS));
            }
        }
        named
    }
}

/// Runs until `stop`. `cut_off`: this node reaches none of its references.
pub async fn keep(looked: Looked, node: Handle, cut_off: Arc<AtomicBool>, mut stop: watch::Receiver<bool>) {
    let begun = clock::now();
    let (mut said, mut before): (Option<Instant>, Vec<u8>) = (None, Vec::new());
    let (mut late, mut leads): (Option<Instant>, Option<Instant>) = (None, None);
    loop {
        let now = clock::now();
        if looked.jobs.plan().take_late() > LATE {
            late = Some(now);
        }
        let since = |when: Option<Instant>| when.map_or(Duration::MAX, |when| now.saturating_duration_since(when));
        let withheld = since(Some(begun)) < YOUNG || since(late) < LATE_FOR || cut_off.load(Ordering::Relaxed);
        let verdicts = node.verdicts();
        let unlooked = looked.unlooked(&verdicts, since(Some(begun)) < READ);
        let remarks = looked.jobs.plan().remarks(clock::wall_ms());
        let ballot = Ballot { withheld, down: looked.down(&verdicts), remarks, unlooked }.encode();
        if ballot != before || since(said) >= SAY {
            node.vote(ballot.clone());
            (said, before) = (Some(now), ballot);
        }
        leads = if node.leads_control() { leads.or(Some(now)) } else { None };
        if let Some(leads) = leads {
            judge(&looked, &node, now.saturating_duration_since(leads)).await;
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = node.notes().voted() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Counts, and proposes what is different.
async fn judge(looked: &Looked, node: &Handle, leads_for: Duration) {
    let (now, members) = (clock::now(), node.members());
    let age = |came: Instant| u64::try_from(now.saturating_duration_since(came).as_millis()).unwrap_or(u64::MAX);
    let ballots: Vec<_> =
        node.notes().ballots().into_iter().filter_map(|(id, came, bytes)| Some((id, age(came), Ballot::read(&bytes).ok()?))).collect();
    let fresh = ballots.iter().filter(|(id, age, _)| *age <= GOOD_FOR && members.contains(id)).count();
    // Whoever leads for a moment has not heard from all that live.
    if fresh < members.len() && leads_for.as_millis() < u128::from(GOOD_FOR) {
        return;
    }
    let (count, present) = (Count::new(&members, ballots), node.verdicts());
    let spoken_of = present.all().map(|(job, instance, _)| schedule::key(job, instance)).chain(count.complaints()).collect();
    let changes = changes(&count, &looked.named(&spoken_of), &present, leads_for >= KNOWS);
    for changes in changes.chunks(AN_ENTRY) {
        for Change { job, instance, down } in changes {
            match down {
                Some((cause, by)) => tracing::warn!(job, instance, cause, nodes = by.len(), "a target is down"),
                None => tracing::info!(job, instance, "a target is up again"),
            }
        }
        // Not taken: it is found again.
        if let Err(error) = node.propose(ShardId::CONTROL, Command::Verdicts(changes.to_vec())).await {
            tracing::debug!("verdicts were not taken: {error}");
            return;
        }
    }
}

/// What is different from what is written down. Pure. `knows`: what is not named is looked at by nobody, and not only unheard of yet.
fn changes(count: &Count, named: &BTreeMap<u64, Named>, present: &Verdicts, knows: bool) -> Vec<Change> {
    let mut changes = Vec::new();
    for (job, instance, verdict) in present.all() {
        let known = named.get(&schedule::key(job, instance));
        let was = Down { cause: verdict.cause.clone(), by: verdict.by.clone() };
        let still = match known {
            Some((_, _, nodes)) => count.judge(schedule::key(job, instance), *nodes, Some(&was)).is_some(),
            None => !knows,
        };
        if !still {
            changes.push(Change { job: job.to_owned(), instance: instance.to_owned(), down: None });
        }
    }
    for key in count.complaints() {
        let Some((job, instance, nodes)) = named.get(&key) else { continue };
        if present.of(job, instance).is_none()
            && let Some(Down { cause, by }) = count.judge(key, *nodes, None)
        {
            changes.push(Change { job: job.clone(), instance: instance.clone(), down: Some((cause, by)) });
        }
    }
    changes
}

/// Looks at the references, until `stop`.
pub async fn references(mut wanted: watch::Receiver<Vec<String>>, cut_off: Arc<AtomicBool>, mut stop: watch::Receiver<bool>) {
    loop {
        let references = wanted.borrow_and_update().clone();
        let mut reached = references.is_empty();
        for reference in &references {
            let connected = tokio::time::timeout(REFERENCE_WITHIN, TcpStream::connect(reference.as_str())).await;
            if matches!(connected, Ok(Ok(_))) {
                reached = true;
                break;
            }
        }
        if cut_off.swap(!reached, Ordering::Relaxed) == reached {
            if reached {
                tracing::info!("a reference answers again: this node has its vote back");
            } else {
                tracing::warn!(?references, "no reference answers: this node keeps its vote on what is down back");
            }
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            changed = wanted.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(REFERENCES) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::plan::Look;
    use crate::probe::targets;
    use crate::probe::targets::Ready;
    use crate::shard::control::Control;
    use crate::shard::control::ControlEffects;
    use crate::shard::entry;
    use crate::shard::entry::Entry;

    #[test]
    fn only_what_is_different_is_proposed_and_what_nobody_looks_at_any_more_goes() {
        let key = |instance: &str| schedule::key("web", instance);
        let named: BTreeMap<u64, Named> =
            ["a", "b"].into_iter().map(|instance| (key(instance), ("web".to_owned(), instance.to_owned(), 2))).collect();
        let ballot = |node, down: &[&str]| {
            let down = down.iter().map(|instance| (key(instance), "refused".to_owned())).collect();
            (node, 0, Ballot { down, ..Ballot::default() })
        };
        let count = Count::new(&[1, 2, 3], [ballot(1, &["a", "b", "gone"]), ballot(2, &["a", "gone"]), ballot(3, &[])]);
        let none = Verdicts::default();
        let down = Change { job: "web".into(), instance: "a".into(), down: Some(("refused".into(), vec![1, 2])) };
        assert_eq!(changes(&count, &named, &none, true), [down]);
        let up = Count::new(&[1, 2, 3], [ballot(1, &[]), ballot(2, &[]), ballot(3, &[])]);
        assert_eq!(changes(&up, &named, &none, true), []);
        let written = applied([changes(&count, &named, &none, true), vec![down_change("gone")]].concat());
        let struck = |changes: Vec<Change>| changes.into_iter().map(|change| change.instance).collect::<Vec<_>>();
        assert_eq!(struck(changes(&up, &named, &written, true)), ["a", "gone"]);
        assert_eq!(struck(changes(&up, &named, &written, false)), ["a"], "a node that has only begun to lead has not read its lists");
    }

    fn down_change(instance: &str) -> Change {
        Change { job: "web".into(), instance: instance.into(), down: Some(("refused".into(), vec![1, 2])) }
    }

    /// What the control shard makes of changes.
    fn applied(changes: Vec<Change>) -> Verdicts {
        let (mut control, mut bytes) = (Control::default(), Vec::new());
        entry::encode(0, &Entry::Command(Command::Verdicts(changes)), &mut bytes);
        control.apply(1, &bytes, &mut ControlEffects::default()).unwrap();
        (*control.verdicts).clone()
    }

    #[test]
    fn what_is_down_by_verdict_stays_so_until_this_node_has_looked() {
        let looked = Looked { jobs: Arc::default(), prometheus: Arc::default() };
        let text = "listen: 127.0.0.1:1\ndata_dir: /x\nsinks: []\nprobe:\n  jobs:\n    - { name: web, interval: 1m, targets: [a, b] }\n";
        let config = crate::config::Config::parse(text).unwrap();
        let ready = Arc::new(Ready::new(&config.jobs.jobs[0]).unwrap());
        let (all, _) = targets::all([(&ready, &[][..])]);
        looked.jobs.plan().replace(all, clock::wall_ms());
        let key = |instance| schedule::key("web", instance);
        let verdicts = applied(vec![down_change("a"), down_change("unheard")]);
        assert_eq!(looked.unlooked(&verdicts, true), BTreeSet::from([key("a"), key("unheard")]));
        assert_eq!(looked.unlooked(&verdicts, false), BTreeSet::from([key("a")]), "what is in no list by now is none of its targets");
        let starts = looked.jobs.plan().start(clock::wall_ms(), (1, &[2]), 9, &|_| false);
        assert_eq!(starts.iter().map(|start| start.key).collect::<Vec<_>>(), [key("a")], "it is looked at now, whosever turn it is");
        let look = Look { cause: "refused".into(), ..Look::default() };
        looked.jobs.plan().done(&starts[0], look, clock::wall_ms());
        assert_eq!(looked.unlooked(&verdicts, false), BTreeSet::new());
    }

    #[test]
    fn a_prometheus_that_is_down_by_verdict_was_once_up() {
        let looked = Looked { jobs: Arc::default(), prometheus: Arc::default() };
        let (none, change) = (Verdicts::default(), Change { job: watcher::JOB.into(), ..down_change("g/a") });
        let verdicts = applied(vec![change]);
        looked.prometheus.show(("g", "a"), State::Unknown);
        assert_eq!((looked.down(&verdicts).len(), looked.unlooked(&verdicts, false).len()), (0, 1));
        looked.prometheus.show(("g", "a"), State::Down);
        assert_eq!((looked.down(&verdicts).len(), looked.unlooked(&verdicts, false).len()), (1, 0));
        assert_eq!(looked.down(&none).len(), 0, "one that never answered is no evidence");
    }
}

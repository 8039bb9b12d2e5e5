//! When an alert begins and ends: what is different from what is written down, by what the node that leads the control shard knows.
//!
//! That a target or a Prometheus is down is a verdict of several nodes; of certificates and slowness any node's remark is enough; the rest is what this node
//! sees of groups, sinks, Prometheus and other nodes. Pure. Left out on purpose: who proposes it and when (`probes`), routes, silences, inhibition, and who is
//! told (`notify`).

use std::collections::BTreeMap;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::config::notify::Notify;
use crate::node::view::GroupView;
use crate::probe::prometheus::State;
use crate::probe::targets::Target;
use crate::probe::verdict::Remark;
use crate::probe::watcher;
use crate::probe::watcher::Seen;
use crate::shard::alerts::Alerts;
use crate::shard::alerts::Change;
use crate::shard::alerts::Said;
use crate::shard::verdicts::TEXT;
use crate::shard::verdicts::Verdicts;

/// A replica that has sent nothing for so long does not stand by, ms.
const ABSENT_MS: i64 = 120_000;
/// Remote write that is further behind than this is sick, seconds.
const BEHIND: f64 = 60.0;
/// A sink that is further behind than this lags, ms.
const LAG_MS: i64 = 300_000;
/// Percent of a budget that are nearly all.
const NEARLY: u64 = 80;
/// What an open alert says is renewed at most so often, ms: numbers in it change at every look, and each time is an entry.
const RENEWED_MS: i64 = 10_000;

/// A sink, all its shards together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkFacts {
    /// Its name.
    pub name: String,
    /// Age of the oldest that is not delivered, ms.
    pub lag_ms: i64,
    /// Bytes that stay for it, and may.
    pub pending_bytes: u64,
    /// See there.
    pub budget_bytes: u64,
    /// An operator holds it.
    pub paused: bool,
}

/// Everything that alerts are made of, at one time.
#[derive(Default)]
pub struct Facts<'a> {
    /// Now, ms since 1970.
    pub now: i64,
    /// What is down.
    pub verdicts: Option<&'a Verdicts>,
    /// Names of nodes, by id.
    pub names: BTreeMap<u64, String>,
    /// The targets of jobs that verdicts and remarks speak of, by key.
    pub targets: BTreeMap<u64, Target>,
    /// What nodes remark on them.
    pub remarks: BTreeMap<u64, Remark>,
    /// The Prometheus of groups, as this node sees them.
    pub prometheus: BTreeMap<(String, String), Seen>,
    /// Groups.
    pub groups: Vec<GroupView>,
    /// Sinks.
    pub sinks: Vec<SinkFacts>,
    /// Other nodes that do not answer.
    pub nodes_down: Vec<String>,
}

/// Something that holds: it is an alert once it has held for `after`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holds {
    /// After so long.
    pub after: Duration,
    /// Then this is said; `since` 0: since it was first seen.
    pub said: Said,
}

type All = BTreeMap<String, Holds>;

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// By name and labels, as they are compared.
fn id(name: &str, labels: &[(String, String)]) -> String {
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    let id = format!("{name}{{{}}}", labels.join(","));
    if id.len() <= TEXT {
        return id;
    }
    // Entries hold no longer one: a hash stands for the rest, or two would be one, and none would be found again.
    let hash = format!("#{:016x}", xxh3_64(id.as_bytes()));
    let end = (0..=TEXT - hash.len()).rev().find(|end| id.is_char_boundary(*end)).unwrap_or(0);
    format!("{}{hash}", &id[..end])
}

fn hold(all: &mut All, after: Duration, mut said: Said) {
    said.labels.sort();
    said.labels.dedup_by(|later, first| later.0 == first.0);
    all.insert(id(&said.name, &said.labels), Holds { after, said });
}

/// Everything that holds now.
pub fn holding(facts: &Facts<'_>, notify: &Notify) -> All {
    let mut all = All::new();
    of_targets(facts, &mut all);
    let mut shipped = |name: &str, labels: &[(&str, &str)], (since, summary, remedy): (i64, String, &str)| {
        if let Some((after, level)) = notify.shipped(name) {
            let annotations = pairs(&[("summary", &summary), ("description", remedy)]);
            hold(&mut all, after, Said { name: name.to_owned(), level, labels: pairs(labels), annotations, since });
        }
    };
    for ((group, replica), seen) in &facts.prometheus {
        let labels = [("group", &**group), ("replica", replica), ("instance", &*seen.url)];
        if let Some(verdict) = facts.verdicts.and_then(|verdicts| verdicts.of(watcher::JOB, &watcher::instance(group, replica))) {
            let summary = format!("the Prometheus {replica} of {group} is {}", verdict.cause);
            shipped(
                "PrometheusDown",
                &labels,
                (verdict.since, summary, "start it again; its twin's samples go on meanwhile (`sluice group list`)"),
            );
        } else if let Some((since, what)) = sickness(seen) {
            let summary = format!("the Prometheus {replica} of {group} {what}");
            shipped(
                "PrometheusSick",
                &labels,
                (since, summary, "`sluice probes` shows what it says of itself; look at its log, its memory and its disk"),
            );
        }
    }
    for group in &facts.groups {
        let present = |seen: i64| facts.now - seen <= ABSENT_MS;
        let named: Vec<_> = group.replicas.iter().filter(|replica| !replica.name.is_empty()).collect();
        if let [alone] = named.iter().filter(|replica| present(replica.last_seen)).collect::<Vec<_>>()[..]
            && named.len() > 1
        {
            let summary = format!("in the group {} only {} sends: nothing stands by", group.name, alone.name);
            shipped(
                "ReplicaMissing",
                &[("group", &group.name)],
                (0, summary, "start the other replica, or look why it does not send (`sluice sender list`)"),
            );
        }
    }
    for sink in facts.sinks.iter().filter(|sink| !sink.paused) {
        if sink.lag_ms > LAG_MS {
            let summary = format!("the sink {} is {} s behind", sink.name, sink.lag_ms / 1000);
            shipped("SinkLagging", &[("sink", &sink.name)], (0, summary, "`sluice sink list` says what stands in its way"));
        }
        let percent = (sink.pending_bytes * 100).checked_div(sink.budget_bytes).unwrap_or(0);
        if percent >= NEARLY {
            let summary = format!("{percent} % of the budget of the sink {} are used: soon samples are dropped, or refused", sink.name);
            shipped("BudgetNearlyUsed", &[("sink", &sink.name)], (0, summary, "mend the sink's receiver, or raise sinks[].budget.bytes"));
        }
    }
    for node in &facts.nodes_down {
        let summary = format!("the node {node} does not answer");
        shipped("NodeDown", &[("node", node)], (0, summary, "`sluice cluster status` and `sluice cluster doctor` say what is known"));
    }
    all
}

fn sickness(seen: &Seen) -> Option<(i64, String)> {
    match seen.state {
        State::Starting => {
            let replay = seen.replay.map_or(String::new(), |(done, all)| format!(", {done} of {all} segments of its log replayed"));
            Some((seen.since_ms, format!("is not ready{replay}")))
        }
        State::Strange if seen.worked => {
            Some((seen.since_ms, format!("is not to be recognised: {}", seen.trouble.as_deref().unwrap_or("no answer"))))
        }
        State::Up if seen.failing => Some((0, "cannot write to its own log: is its disk full?".to_owned())),
        State::Up => {
            let behind = seen.figures.as_ref().and_then(|figures| figures.behind).filter(|behind| *behind > BEHIND)?;
            Some((0, format!("is {behind:.0} s behind with its remote write")))
        }
        _ => None,
    }
}

/// Alerts of the jobs' targets.
fn of_targets(facts: &Facts<'_>, all: &mut All) {
    for target in facts.targets.values() {
        let (job, alert) = (&target.ready.job, &target.ready.job.alert);
        if !alert.enabled {
            continue;
        }
        let mut told = |name: &str, since: i64, summary: String, more: &[(&str, &str)]| {
            let mut labels = alert.labels.clone();
            labels.extend(target.labels.iter().cloned());
            labels.extend(pairs(more));
            let mut annotations = alert.annotations.clone();
            if annotations.iter().all(|(name, _)| name != "summary") {
                annotations.push(("summary".to_owned(), summary));
            }
            let after = if name == "ProbeCertificateEnds" { Duration::ZERO } else { alert.after };
            hold(all, after, Said { name: name.to_owned(), level: alert.level, labels, annotations, since });
        };
        if let Some(verdict) = facts.verdicts.and_then(|verdicts| verdicts.of(&job.name, &target.instance)) {
            let from: Vec<String> = verdict.by.iter().map(|id| facts.names.get(id).cloned().unwrap_or_else(|| format!("{id:x}"))).collect();
            let summary = format!("{} of {} is down ({}), seen from {}", target.instance, job.name, verdict.cause, from.join(", "));
            told("ProbeDown", verdict.since, summary, &[("cause", &verdict.cause)]);
        }
        // They hold while it is down as they did before: nothing is known that would end them.
        let Some(remark) = facts.remarks.get(&target.key) else { continue };
        if let Some(ends) = remark.certificate_ends_ms {
            let days = (ends - facts.now) / 86_400_000;
            let summary = if ends <= facts.now { "is over".to_owned() } else { format!("ends in {days} days") };
            told("ProbeCertificateEnds", 0, format!("the certificate of {} {summary}", target.instance), &[]);
        }
        if let Some(since) = remark.slow_since_ms {
            told("ProbeSlow", since, format!("{} of {} answers more slowly than it should", target.instance, job.name), &[]);
        }
    }
}

/// What has been holding, by our own memory.
#[derive(Default)]
pub struct Memory(BTreeMap<String, Remembered>);

#[derive(Clone, Copy)]
struct Remembered {
    /// Since when, ms since 1970.
    since: i64,
    /// When its words were proposed last, or it was first seen, ms since 1970.
    said: i64,
}

impl Memory {
    /// What is different from what is written down. `may_end`: this node has looked for long enough to know what does not hold.
    pub fn changes(&mut self, now: i64, holding: All, present: &Alerts, may_end: bool) -> Vec<Change> {
        let known: BTreeMap<&str, _> = present.all().collect();
        self.0.retain(|id, _| holding.contains_key(id));
        let mut changes = Vec::new();
        for (id, Holds { after, said }) in &holding {
            let memory = self.0.entry(id.clone()).or_insert(Remembered { since: now, said: now });
            let since = if said.since > 0 { said.since } else { memory.since };
            let open = known.get(&**id).filter(|alert| alert.ended.is_none());
            let raise = match open {
                Some(alert) => now - memory.said >= RENEWED_MS && !said.is_kept_as(&alert.said),
                None => now - since >= i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            };
            if raise {
                memory.said = now;
                changes.push(Change::Raise { id: id.clone(), said: Said { since, ..said.clone() } });
            }
        }
        for (id, alert) in known {
            if may_end && alert.ended.is_none() && !holding.contains_key(id) {
                changes.push(Change::End { id: id.to_owned() });
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests;

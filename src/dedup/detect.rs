//! Is the leader sick, and is another replica better? Volatile observations of the shard's leader; only what comes of them (`Switch`) is
//! an entry. Losing all of this, or being wrong, costs speed and never a sample: the rules of `rules` fill every hole.
//!
//! Evidence is content: data time that advances, and series, each compared with the other replicas. Requests and connections alone prove
//! nothing, except that a closed connection or a probe without an answer makes a silence count sooner, and that a Prometheus which refuses
//! connections from all sides, or says that it is stopping, is gone before any silence can tell. A leader is sick when it is
//! - `refused` or `stopping`: its Prometheus is dead, or says that it is about to be (`Hint`), and another replica is well;
//! - `silent`: its data time has not advanced for longer than its own pattern allows (`pattern`), while another's has, twice;
//! - `behind`: its data time is further behind another's than that, and has been for as long (it sends its backlog);
//! - `half`: it lacks a quarter or more of the series that another sends, and that one lacks few of its (`sketch`), twice running.
//!
//! After a switch nothing but silence moves the leader for a minute. More than six switches an hour (`groups.switches_per_hour`) are too
//! many: then the leader stays, and an alarm says so. A pinned group is left alone. Time is the caller's monotonic clock, ms; what a replica sent is told by `observe`.

pub mod doctor;
pub mod pattern;
pub mod sketch;

use super::group::Group;
use crate::model::Item;
use crate::model::Kind;
use doctor::Bare;
use pattern::Pattern;
use sketch::Sketch;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Switches by detection in an hour of `at`; then the leader stays. Unless [`Detector::limit`] says otherwise.
pub const SWITCHES_AN_HOUR: usize = 6;
const HOUR: i64 = 3_600_000;
/// After a switch only silence moves the leader, for so long, ms.
const CALM: i64 = 60_000;
/// A proposal that has not become a switch is made again after this, ms.
const AGAIN: u64 = 5_000;
/// Further ahead of the group's `at` than this, a time proves nothing, ms.
const BELIEVED: i64 = 10_000;
/// Stretches over which series are gathered, ms; and in usual silences of the slowest replica.
const SHORTEST_STRETCH: u64 = 30_000;
const LONGEST_STRETCH: u64 = 300_000;
const STRETCH: u64 = 3;
/// A leader that has less than this percent of another's series is half blind,
const HALF: u32 = 75;
/// if the other has at least this percent of the leader's; twice running.
const WHOLE: u32 = 90;
const TWICE: u32 = 2;
/// With fewer sampled series than this a share says nothing.
const FEW: usize = 4;

/// A switch that the shard's leader should propose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The group.
    pub group: String,
    /// Who leads.
    pub from: String,
    /// Who should.
    pub to: String,
    /// `silent`, `closed`, `refused`, `stopping`, `sick`, `behind`, `half` or `step-down`.
    pub reason: &'static str,
    /// What was observed, for people.
    pub evidence: String,
}

/// A leader that should go but stays: switches of its group would be too many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// The switch that was not proposed.
    pub withheld: Proposal,
    /// Switches of the last hour.
    pub switches: usize,
}

/// What came of looking at all groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// To be proposed.
    pub proposals: Vec<Proposal>,
    /// To be shown, for as long as they are found.
    pub alarms: Vec<Alarm>,
}

/// A hint that makes a silence count sooner, or needs none. Forgotten when data time advances. The weightier ones come later: one is never replaced by a lighter one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hint {
    /// Its last connection was closed: a silence longer than the usual one counts.
    Closed,
    /// Its Prometheus answers no probe, or answers that it is not ready: the same.
    Sick,
    /// Its Prometheus says that it is stopping: it hands over now, while it can still send what it has.
    Stopping,
    /// Enough nodes found its Prometheus refusing connections, where probing had worked before: it is dead now.
    Refused,
}

/// What is known of one replica.
#[derive(Debug)]
struct Sender {
    newest: i64,
    /// When its data time advanced, last and before the detector knew better: its first entry.
    advanced: u64,
    advances: u64,
    pattern: Pattern,
    hint: Option<Hint>,
    /// Since when it has been too far behind another one.
    behind: Option<u64>,
    /// Series of live samples in this stretch, and in the one before.
    now: Sketch,
    before: Sketch,
}

#[derive(Debug, Default)]
struct Watch {
    senders: BTreeMap<String, Sender>,
    stretch: u64,
    /// Whole stretches watched.
    stretches: u32,
    /// Stretches running in which the leader was half blind, and who it was.
    half: (String, u32),
    proposed: Option<(u64, String)>,
    /// Series hashed without the group's own labels, in this long stretch and in the one before.
    bare: Bare,
    bare_before: Arc<Bare>,
    bare_since: u64,
    begin: u64,
}

/// How many switches an hour detection may propose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchLimits {
    /// Of any group.
    pub usual: usize,
    /// Of single groups, by name.
    pub special: BTreeMap<String, usize>,
}

impl Default for SwitchLimits {
    fn default() -> SwitchLimits {
        SwitchLimits { usual: SWITCHES_AN_HOUR, special: BTreeMap::new() }
    }
}

impl SwitchLimits {
    /// Of this group.
    pub fn of(&self, group: &str) -> usize {
        self.special.get(group).copied().unwrap_or(self.usual)
    }
}

/// Watches the groups of one shard, on its leader.
#[derive(Debug)]
pub struct Detector {
    watches: BTreeMap<String, Watch>,
    limits: Arc<SwitchLimits>,
    /// How long a group is watched before the doctor speaks of it, ms.
    watched: u64,
}

impl Default for Detector {
    fn default() -> Detector {
        Detector { watches: BTreeMap::new(), limits: Arc::default(), watched: doctor::WATCHED }
    }
}

impl Detector {
    /// One that has seen nothing.
    pub fn new() -> Detector {
        Detector::default()
    }

    /// How long a group is to be watched before the doctor speaks of it, ms.
    pub fn watch_for(&mut self, ms: u64) {
        self.watched = ms;
    }

    /// An entry of a replica. `at` is the group's time, `now` ours. About 2 ns an item.
    pub fn observe(&mut self, group: &str, replica: &str, (now, at): (u64, i64), items: impl Iterator<Item = Item>) {
        if replica.is_empty() {
            return;
        }
        // No entry API: it would want an owned name for each request.
        if !self.watches.contains_key(group) {
            self.watches.insert(group.to_owned(), Watch { begin: now, stretch: now, bare_since: now, ..Watch::default() });
        }
        let Some(watch) = self.watches.get_mut(group) else { return };
        if !watch.senders.contains_key(replica) {
            watch.senders.insert(replica.to_owned(), Sender::new(now));
        }
        watch.turn(now);
        let live = watch.newest() - 2 * watch.length() as i64;
        let Some(sender) = watch.senders.get_mut(replica) else { return };
        let mut newest = i64::MIN;
        for item in items.filter(|item| !item.refused && matches!(item.kind, Kind::Float | Kind::Histogram)) {
            if item.time <= at.saturating_add(BELIEVED) {
                newest = newest.max(item.time);
                if item.time > live {
                    sender.now.insert(item.series);
                }
            }
        }
        if newest > sender.newest {
            sender.advance(now, newest);
        }
    }

    /// From now on so many switches an hour.
    pub fn limit(&mut self, limits: Arc<SwitchLimits>) {
        self.limits = limits;
    }

    /// Something made us doubt a replica.
    pub fn hint(&mut self, group: &str, replica: &str, hint: Hint) {
        if let Some(sender) = self.watches.get_mut(group).and_then(|watch| watch.senders.get_mut(replica)) {
            sender.hint = sender.hint.max(Some(hint));
        }
    }

    /// Hashes of series over labels without the replica's and the group's own: for the doctor's question whether two groups share most
    /// series. The smallest of a request are enough ([`doctor::BARE`]), and so are those of one round of all series in each long stretch.
    pub fn bare(&mut self, group: &str, hashes: impl Iterator<Item = u64>) {
        if let Some(watch) = self.watches.get_mut(group) {
            hashes.for_each(|hash| watch.bare.insert(hash));
        }
    }

    /// What was gathered so in the last whole long stretch, by group.
    pub fn bared(&self) -> impl Iterator<Item = (&str, &Arc<Bare>)> {
        self.watches.iter().filter(|(_, watch)| !watch.bare_before.is_empty()).map(|(name, watch)| (&**name, &watch.bare_before))
    }

    /// Looks at every group: call it each second or so.
    pub fn check<'a>(&mut self, now: u64, groups: impl Iterator<Item = &'a Group>) -> Findings {
        let mut findings = Findings::default();
        for group in groups {
            let Some(watch) = self.watches.get_mut(group.name()) else { continue };
            watch.turn(now);
            watch.turn_bare(now, self.watched);
            let known = |name: &String| group.replicas().any(|replica| replica.name == *name);
            watch.senders.retain(|name, _| known(name));
            let Some(leader) = group.leader().filter(|_| !group.pinned()) else { continue };
            let Some(proposal) = watch.judge(group, leader, now) else { continue };
            let switches = group.history().rev().take_while(|record| group.at() - record.at < HOUR);
            let switches = switches.filter(|record| record.reason != "pinned" && record.reason != "step-down").count();
            if switches >= self.limits.of(group.name()) {
                findings.alarms.push(Alarm { withheld: proposal, switches });
            } else if watch.proposed.as_ref().is_none_or(|(when, from)| *from != proposal.from || now - when >= AGAIN) {
                watch.proposed = Some((now, proposal.from.clone()));
                findings.proposals.push(proposal);
            }
        }
        findings
    }

    /// An operator wants another leader: the best of the others, if one is well.
    pub fn step_down(&self, now: u64, group: &Group) -> Option<Proposal> {
        let leader = group.leader().filter(|_| !group.pinned())?;
        let watch = self.watches.get(group.name())?;
        let (to, other) = watch.best(leader, now)?;
        let evidence = format!("an operator asked {leader} to step down; {}", watch.praise(to, other, leader, group));
        Some(Proposal { group: group.name().to_owned(), from: leader.to_owned(), to: to.to_owned(), reason: "step-down", evidence })
    }
}

impl Sender {
    fn new(now: u64) -> Sender {
        Sender {
            newest: i64::MIN / 4,
            advanced: now,
            advances: 0,
            pattern: Pattern::default(),
            hint: None,
            behind: None,
            now: Sketch::default(),
            before: Sketch::default(),
        }
    }

    fn advance(&mut self, now: u64, newest: i64) {
        if self.advances > 0 {
            self.pattern.learn(now.saturating_sub(self.advanced));
        }
        (self.newest, self.advanced, self.hint) = (newest, now, None);
        self.advances += 1;
    }

    fn silence(&self, now: u64) -> u64 {
        now.saturating_sub(self.advanced)
    }
}

impl Watch {
    /// How long series are gathered before they are compared.
    fn length(&self) -> u64 {
        let slowest = self.senders.values().map(|sender| sender.pattern.usual()).max();
        (slowest.unwrap_or(0) * STRETCH).clamp(SHORTEST_STRETCH, LONGEST_STRETCH)
    }

    fn newest(&self) -> i64 {
        self.senders.values().map(|sender| sender.newest).max().unwrap_or(i64::MIN / 4)
    }

    /// A stretch ends: what was gathered can be compared. The first one has seen replicas join at different times: it counts for none.
    fn turn(&mut self, now: u64) {
        if now.saturating_sub(self.stretch) < self.length() {
            return;
        }
        (self.stretch, self.stretches) = (now, self.stretches + 1);
        for sender in self.senders.values_mut() {
            sender.before = std::mem::take(&mut sender.now);
        }
        // Judged anew in each stretch, once.
        self.half.1 |= 1 << 31;
    }

    /// A long stretch ends: what it has shown is the group's set, and what it has not shown has gone.
    fn turn_bare(&mut self, now: u64, length: u64) {
        if now.saturating_sub(self.bare_since) >= length {
            self.bare_since = now;
            self.bare_before = Arc::new(std::mem::take(&mut self.bare));
        }
    }

    /// The other replica that is well and has most to offer.
    fn best(&self, leader: &str, now: u64) -> Option<(&str, &Sender)> {
        let well = |sender: &Sender| sender.advances >= 2 && sender.silence(now) <= sender.pattern.limit() && sender.hint.is_none();
        let others = self.senders.iter().filter(|(name, sender)| *name != leader && well(sender));
        let best = others.max_by_key(|(name, sender)| (sender.before.len().min(64), sender.newest, std::cmp::Reverse(*name)));
        best.map(|(name, sender)| (&**name, sender))
    }

    fn judge(&mut self, group: &Group, leader: &str, now: u64) -> Option<Proposal> {
        let calm = group.history().next_back().is_some_and(|record| group.at() - record.at < CALM);
        let half = self.turned_half(leader, now);
        self.note_behind(leader, now);
        let (to, other) = self.best(leader, now)?;
        let sick = self.senders.get(leader);
        let (limit, usual) = sick.map_or((Pattern::default().limit(), 0), |sender| (sender.pattern.limit(), sender.pattern.usual()));
        let silence = sick.map_or(now - self.begin, |sender| sender.silence(now));
        // The other has advanced since, twice: its silence is short beside the leader's.
        let passed = other.silence(now) * 2 < silence && sick.is_none_or(|sender| other.newest > sender.newest);
        let (reason, what) = match sick.and_then(|sender| sender.hint) {
            Some(Hint::Refused) => ("refused", silent(leader, silence, usual) + ", and its Prometheus refuses connections"),
            Some(Hint::Stopping) => ("stopping", format!("the Prometheus of {leader} says that it is stopping")),
            Some(Hint::Sick) if passed && silence > usual.max(2000) => {
                ("sick", silent(leader, silence, usual) + ", and its Prometheus answers no probe, or is not ready")
            }
            Some(Hint::Closed) if passed && silence > usual.max(2000) => {
                ("closed", silent(leader, silence, usual) + ", and it closed its connections")
            }
            _ if passed && silence > limit => ("silent", silent(leader, silence, usual)),
            _ if calm => return None,
            _ => {
                let sender = sick?;
                let behind = other.newest - sender.newest;
                if sender.behind.is_some_and(|since| now - since > limit) {
                    ("behind", format!("{leader} is {} behind {to} for {}", seconds(behind.unsigned_abs()), seconds(now - sender.behind?)))
                } else if half {
                    let share = other.before.share_in(&sender.before)?;
                    ("half", format!("{leader} sends {share} % of the series of {to}"))
                } else {
                    return None;
                }
            }
        };
        let evidence = format!("{what}; {}", self.praise(to, other, leader, group));
        Some(Proposal { group: group.name().to_owned(), from: leader.to_owned(), to: to.to_owned(), reason, evidence })
    }

    /// Since when the leader has been too far behind.
    fn note_behind(&mut self, leader: &str, now: u64) {
        let newest = self.best(leader, now).map(|(_, other)| other.newest);
        if let Some(sender) = self.senders.get_mut(leader) {
            let far = newest.is_some_and(|newest| newest - sender.newest > 2 * sender.pattern.limit() as i64);
            sender.behind = if far { sender.behind.or(Some(now)) } else { None };
        }
    }

    /// Whether the leader has been half blind for whole stretches, twice running.
    fn turned_half(&mut self, leader: &str, now: u64) -> bool {
        const FRESH: u32 = 1 << 31;
        if self.half.1 & FRESH != 0 {
            let half = self.stretches > 1 && self.best(leader, now).is_some_and(|(_, other)| self.is_half(leader, other));
            let times = if half && self.half.0 == leader { (self.half.1 & !FRESH) + 1 } else { u32::from(half) };
            self.half = (leader.to_owned(), times);
        }
        self.half.0 == leader && self.half.1 >= TWICE
    }

    fn is_half(&self, leader: &str, other: &Sender) -> bool {
        let Some(sender) = self.senders.get(leader) else { return false };
        let enough = other.before.len() >= FEW;
        let lacks = other.before.share_in(&sender.before).is_some_and(|share| share < HALF);
        enough && lacks && sender.before.share_in(&other.before).is_none_or(|share| share >= WHOLE)
    }

    fn praise(&self, to: &str, other: &Sender, leader: &str, group: &Group) -> String {
        let behind = seconds((group.at() - other.newest).max(0).unsigned_abs());
        let share = self.senders.get(leader).and_then(|sender| sender.before.share_in(&other.before));
        let covers = share.map_or(String::new(), |share| format!(" and covers {share} %"));
        format!("{to} is {behind} behind now{covers}")
    }
}

fn silent(leader: &str, silence: u64, usual: u64) -> String {
    let usual = if usual == 0 { "not known".to_owned() } else { seconds(usual) };
    format!("no data time progress of {leader} for {} (usual {usual})", seconds(silence))
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

#[cfg(test)]
mod tests;

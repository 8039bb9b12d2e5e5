//! The state of a data shard: a pure function of its log.
//!
//! [`Data::apply`] takes committed entries in order and says what follows (`Effects`): which emissions to write, which bodies must outlive
//! the standby's family of the log, what is dead. It reads no clock and no setting that is not an entry, so every member, and every replay
//! from any image, comes to the same state and the same emissions.
//!
//! Left out on purpose: which samples pass (`dedup`), where bytes are kept (`store`), when to propose (`node`).

pub mod image;
pub mod sinks;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;

use crate::dedup::group::Group;
use crate::dedup::group::Switch;
use crate::dedup::group::SwitchOutcome;
use crate::dedup::judged::Counts;
use crate::dedup::judged::Fate;
use crate::dedup::judged::Fates;
use crate::dedup::judged::Judged;
use crate::model::Pick;
use crate::shard::codec::Malformed;
use crate::shard::command::Command;
use crate::shard::command::DeadLetter;
use crate::shard::command::ShardSettings;
use crate::shard::command::SwitchTo;
use crate::shard::data::sinks::Mark;
use crate::shard::data::sinks::Sinks;
use crate::shard::emission::Emission;
use crate::shard::emission::MAX_PICKS;
use crate::shard::entry;
use crate::shard::entry::Entry;
use crate::shard::entry::Samples;
use crate::wire::digest::Digest;

/// Dead letters kept per shard: at most 64 KiB each, usually some 500 B, so 5 MB.
pub const DEAD_LETTERS: u64 = 10_000;

/// What an applied entry leads to.
#[derive(Debug, Default)]
pub struct Effects {
    /// To write, in order; sinks read them.
    pub emissions: Vec<Emission>,
    /// Entries of the standby's family of which bodies are needed from now on: to be copied into the leader's.
    pub copies: Vec<u64>,
    /// An image of the state as it is now is to be taken.
    pub image: bool,
    /// To write by number.
    pub dead: Vec<(u64, DeadLetter)>,
    /// Dead letters to delete, by number.
    pub resent: Vec<u64>,
    /// What the entry's items came to.
    pub counts: Counts,
    /// Committed, but void: why. For the one who proposed it.
    pub void: Option<String>,
    /// Whether anything of the state changed that an image holds.
    pub changed: bool,
    /// What became of each item, while somebody listens.
    pub fates: Fates,
}

/// An entry of which something may still wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub entry: u64,
    pub replica: String,
    pub bytes: u64,
    /// Its body is in the leader's family.
    pub kept: bool,
}

/// A group, and where its waiting samples are.
#[derive(Debug)]
pub struct Place {
    /// Its table.
    pub group: Group,
    pub(super) sent: VecDeque<Sent>,
}

/// The state of one data shard.
#[derive(Debug, Default)]
pub struct Data {
    /// Index of the last applied entry.
    pub applied: u64,
    /// The shard's time: the largest `at` applied.
    pub at: i64,
    /// As applied.
    pub settings: ShardSettings,
    /// Groups by name.
    pub groups: BTreeMap<String, Place>,
    /// Number of the last emission.
    pub emissions: u64,
    /// Samples emitted.
    pub samples: u64,
    /// Log bytes that have been kept for sinks.
    pub bytes: u64,
    /// Where the sinks are.
    pub sinks: Sinks,
    /// Numbers of the last dead letter that is gone, and of the last one.
    pub dead: (u64, u64),
    /// Numbers between these two of letters that are gone, too: they were sent again.
    pub resent: BTreeSet<u64>,
    /// Index of the last `Image` entry, and the smallest entry that waited then.
    pub image: (u64, u64),
    pub(super) judged: Judged,
}

/// The entry in hand while its group judges.
struct Hand<'a> {
    index: u64,
    replica: &'a str,
    bytes: u64,
    from_leader: bool,
}

impl Data {
    /// Applies the entry at `index`. An error means that the log holds what this program cannot read: the shard must stop.
    pub fn apply(&mut self, index: u64, encoded: &[u8], effects: &mut Effects) -> Result<(), Malformed> {
        self.applied = index;
        if encoded.is_empty() {
            return Ok(()); // a new leader's own entry
        }
        let stamped = entry::parse(encoded)?;
        self.at = self.at.max(stamped.at);
        effects.changed = true;
        match stamped.entry {
            Entry::Samples(samples) => self.samples(index, encoded.len() as u64, &samples, effects)?,
            Entry::Tick => self.tick(index, effects),
            Entry::Image => {
                self.image = (index, self.oldest_waiting().unwrap_or(index + 1));
                effects.image = true;
                effects.changed = false;
            }
            Entry::Forget { group } => {
                let (age, hole_age) = (self.settings.forget_series_ms, self.settings.forget_holes_ms);
                if let Some(place) = self.groups.get_mut(group) {
                    place.group.forget(age, hole_age);
                }
            }
            Entry::Command(command) => self.command(index, command, effects),
        }
        self.bound_waiting(index, effects);
        let mark = Mark { emission: self.emissions, samples: self.samples, at: self.at };
        self.sinks.note(mark, self.settings.keep_ms);
        Ok(())
    }

    /// The last emission that nobody wants any more; what comes after it is kept.
    pub fn done(&self) -> u64 {
        self.sinks.done().0
    }

    fn samples(&mut self, index: u64, bytes: u64, samples: &Samples<'_>, effects: &mut Effects) -> Result<(), Malformed> {
        let digest = Digest::parse(samples.digest).map_err(|_| Malformed::Impossible("a digest like this"))?;
        if !self.groups.contains_key(samples.group) {
            let place = Place { group: Group::new(samples.group), sent: VecDeque::new() };
            self.groups.insert(samples.group.to_owned(), place);
        }
        let Some(place) = self.groups.get_mut(samples.group) else { return Ok(()) };
        let mut judged = std::mem::take(&mut self.judged);
        judged.clear();
        place.group.valued_samples((index, samples.replica), self.at, digest.iter(), |values| digest.values(values), &mut judged);
        let hand = Hand { index, replica: samples.replica, bytes, from_leader: samples.from_leader };
        self.close(samples.group, Some(&hand), index, judged, effects);
        Ok(())
    }

    fn tick(&mut self, index: u64, effects: &mut Effects) {
        let due: Vec<String> = self.groups.iter().filter(|(_, place)| place.is_due(self.at)).map(|(name, _)| name.clone()).collect();
        for name in due {
            self.judge(&name, index, effects, |group, at, judged| group.tick(at, judged));
        }
    }

    /// Lets `act` decide in a group, then writes down what passed.
    fn judge<T: Default>(
        &mut self,
        name: &str,
        index: u64,
        effects: &mut Effects,
        act: impl FnOnce(&mut Group, i64, &mut Judged) -> T,
    ) -> T {
        let Some(place) = self.groups.get_mut(name) else { return T::default() };
        let mut judged = std::mem::take(&mut self.judged);
        judged.clear();
        let answer = act(&mut place.group, self.at, &mut judged);
        self.close(name, None, index, judged, effects);
        answer
    }

    /// Over the bound, the oldest are judged at once.
    fn bound_waiting(&mut self, index: u64, effects: &mut Effects) {
        while self.waiting_bytes() > self.settings.waiting_bytes {
            let oldest = self.groups.iter().filter_map(|(name, place)| Some((place.group.oldest_waiting()?, name)));
            let Some((_, name)) = oldest.min() else { return };
            let name = name.clone();
            if !self.judge(&name, index, effects, |group, _, judged| group.judge_oldest(judged)) {
                return;
            }
        }
    }

    /// What passed becomes emissions: consecutive samples of one entry with ascending items stand in one.
    fn close(&mut self, name: &str, hand: Option<&Hand<'_>>, index: u64, judged: Judged, effects: &mut Effects) {
        let Some(place) = self.groups.get_mut(name) else { return };
        let mut judged = judged;
        tell(&mut judged, effects);
        let first = effects.emissions.len();
        let mut hand_kept = false;
        if let Some(hand) = hand.filter(|hand| hand.from_leader) {
            self.bytes += hand.bytes;
            hand_kept = true;
        }
        let (mut rest, mut befores, mut before_run) = (&judged.passed[..], &judged.befores[..], 0);
        while let Some(head) = rest.first() {
            let more =
                rest.windows(2).take(MAX_PICKS - 1).take_while(|two| two[0].entry == two[1].entry && two[0].item < two[1].item).count();
            let (run, after) = rest.split_at(more + 1);
            rest = after;
            let (of_run, of_later) = befores.split_at(befores.partition_point(|(place, _)| (*place as usize) < before_run + run.len()));
            let of_run = of_run.iter().map(|(place, before)| (place - before_run as u32, *before)).collect();
            (befores, before_run) = (of_later, before_run + run.len());
            self.emissions += 1;
            let mut emission = Emission {
                number: self.emissions,
                entry: head.entry,
                at: self.at,
                group: name.to_owned(),
                samples_before: self.samples,
                bytes_before: self.bytes,
                floor: head.entry,
                picks: run.iter().map(|passed| Pick { item: passed.item, late: passed.late }).collect(),
                befores: of_run,
                ..Emission::default()
            };
            self.samples += run.len() as u64;
            if let Some(hand) = hand.filter(|hand| hand.index == head.entry) {
                emission.replica = hand.replica.to_owned();
                if !hand_kept {
                    hand_kept = true;
                    self.bytes += hand.bytes;
                    effects.copies.push(hand.index);
                }
            } else if let Ok(found) = place.sent.binary_search_by_key(&head.entry, |sent| sent.entry) {
                let sent = &mut place.sent[found];
                emission.replica = sent.replica.clone();
                if !sent.kept {
                    sent.kept = true;
                    self.bytes += sent.bytes;
                    effects.copies.push(sent.entry);
                }
            }
            effects.emissions.push(emission);
        }
        place.note(hand, hand_kept);
        effects.counts.add(judged.counts);
        effects.counts.waiting = judged.counts.waiting;
        self.judged = judged;
        let mut floor = self.oldest_waiting().unwrap_or(index + 1).min(index + 1);
        for emission in effects.emissions[first..].iter_mut().rev() {
            floor = floor.min(emission.entry);
            emission.floor = floor;
        }
        // Emissions of an earlier group of the same entry: they may not claim more than the later ones leave.
        for emission in effects.emissions[..first].iter_mut().rev() {
            emission.floor = emission.floor.min(floor);
        }
    }

    fn command(&mut self, index: u64, command: Command, effects: &mut Effects) {
        match command {
            Command::Switch(order) => self.switch(index, &order, effects),
            Command::Pin { group, replica } => {
                if !self.groups.contains_key(&group) {
                    effects.void = Some(format!("there is no group `{group}`"));
                    return;
                }
                let outcome = self.judge(&group, index, effects, |group, at, judged| match &replica {
                    Some(replica) => Some(group.pin(replica, at, judged)),
                    None => {
                        group.unpin();
                        None
                    }
                });
                effects.void = outcome.and_then(void_pin);
            }
            Command::ForgetReplica { group, replica } => {
                let (at, place) = (self.at, self.groups.get_mut(&group));
                if !place.is_some_and(|place| place.group.forget_replica(&replica, at)) {
                    effects.void =
                        Some(format!("replica `{replica}` is unknown, leads, has samples that wait, or was heard of within the hour"));
                }
            }
            Command::Settings(settings) if settings.version <= self.settings.version => {
                effects.void = Some(format!("settings version {} is applied already", self.settings.version));
            }
            Command::Settings(settings) => {
                self.sinks.configure(&settings.sinks, (self.emissions, self.samples));
                self.settings = settings;
            }
            Command::Cursor(moved) => effects.void = self.sinks.moved(&moved, self.emissions),
            Command::Epoch(epoch) => effects.void = self.sinks.epoch(&epoch, self.emissions),
            Command::Drop(drop) => effects.void = self.sinks.dropped(&drop, self.emissions),
            Command::Pause { sink, paused } => effects.void = self.sinks.pause(&sink, paused),
            Command::Dead(letter) => {
                let (gone, last) = self.dead;
                self.dead = ((last + 1).saturating_sub(DEAD_LETTERS).max(gone), last + 1);
                self.settle_dead();
                effects.dead.push((last + 1, letter));
            }
            Command::Resent(resent) => {
                let (gone, last) = self.dead;
                for number in resent.numbers.into_iter().filter(|number| (gone + 1..=last).contains(number)) {
                    if self.resent.insert(number) {
                        effects.resent.push(number);
                    }
                }
                self.settle_dead();
            }
            Command::Assign { .. }
            | Command::Nodes(_)
            | Command::Reidentify(_)
            | Command::ClusterSettings(_)
            | Command::Found(_)
            | Command::CreateToken(_)
            | Command::RevokeToken { .. }
            | Command::Finalize { .. }
            | Command::Verdicts(_)
            | Command::Push(_)
            | Command::Alerts(_)
            | Command::Alerting(_) => {
                effects.void = Some("this is for the control shard".to_owned());
            }
        }
    }

    /// Only numbers between the two are remembered one by one.
    fn settle_dead(&mut self) {
        while let Some(&first) = self.resent.first().filter(|first| **first <= self.dead.0 + 1) {
            self.dead.0 = self.dead.0.max(first);
            self.resent.pop_first();
        }
    }

    /// How many dead letters are kept.
    pub fn dead_letters(&self) -> u64 {
        self.dead.1 - self.dead.0 - self.resent.len() as u64
    }

    fn switch(&mut self, index: u64, order: &SwitchTo, effects: &mut Effects) {
        if !self.groups.contains_key(&order.group) {
            effects.void = Some(format!("there is no group `{}`", order.group));
            return;
        }
        let outcome = self.judge(&order.group, index, effects, |group, at, judged| {
            let (from, leader) = (&order.from, group.leader().unwrap_or_default().to_owned());
            let from = if from.is_empty() { &leader } else { from };
            Some(group.switch(&Switch { from, to: &order.to, reason: &order.reason, evidence: &order.evidence }, at, judged))
        });
        effects.void = match outcome {
            Some(SwitchOutcome::Done(_)) | None => None,
            Some(SwitchOutcome::Leads) => Some(format!("`{}` leads already", order.to)),
            Some(SwitchOutcome::Outdated) => Some(format!("`{}` does not lead any more", order.from)),
            Some(SwitchOutcome::Unknown) => Some(format!("there is no replica `{}`", order.to)),
            Some(SwitchOutcome::Pinned) => Some("the leader is pinned".to_owned()),
        };
    }

    /// From now on it is told what becomes of each item, or not any more.
    pub fn listen(&mut self, listens: bool) {
        if self.judged.fates.is_some() != listens {
            self.judged.fates = listens.then(Fates::default);
        }
    }

    /// The smallest entry of which a sample waits.
    pub fn oldest_waiting(&self) -> Option<u64> {
        self.groups.values().filter_map(|place| place.group.oldest_waiting()).min()
    }

    /// When the next waiting sample is due.
    pub fn next_due(&self) -> Option<i64> {
        self.groups.values().filter_map(|place| place.group.next_due()).min()
    }

    /// Bytes of memory that wait.
    pub fn waiting_bytes(&self) -> u64 {
        self.groups.values().map(|place| place.group.waiting_bytes()).sum()
    }

    /// Replay from the last image needs no entry below; nor does what waited then.
    pub fn replay_floor(&self) -> u64 {
        let (index, oldest_waiting) = self.image;
        oldest_waiting.min(index + 1)
    }

    /// Whether this replica leads its group (the first one seen does).
    pub fn leads(&self, group: &str, replica: &str) -> bool {
        self.groups.get(group).is_none_or(|place| place.group.leader().is_none_or(|leader| leader == replica)) || replica.is_empty()
    }
}

/// What is told to whoever listens; no part of the state.
fn tell(judged: &mut Judged, effects: &mut Effects) {
    if let Some(fates) = &mut judged.fates {
        effects.fates.take(fates);
        for passed in &judged.passed {
            effects.fates.push(passed.entry, passed.item, Fate::Passed { late: passed.late, filled: passed.filled });
        }
    }
}

impl Place {
    fn is_due(&self, at: i64) -> bool {
        self.group.next_due().is_some_and(|due| due <= at)
    }

    /// Remembers the entry in hand while something of it may wait; forgets those of which nothing can.
    fn note(&mut self, hand: Option<&Hand<'_>>, kept: bool) {
        let Some(oldest) = self.group.oldest_waiting() else {
            self.sent.clear();
            return;
        };
        if let Some(hand) = hand {
            self.sent.push_back(Sent { entry: hand.index, replica: hand.replica.to_owned(), bytes: hand.bytes, kept });
        }
        while self.sent.front().is_some_and(|sent| sent.entry < oldest) {
            self.sent.pop_front();
        }
    }
}

fn void_pin(outcome: SwitchOutcome) -> Option<String> {
    (outcome == SwitchOutcome::Unknown).then(|| "there is no such replica".to_owned())
}

#[cfg(test)]
mod tests;

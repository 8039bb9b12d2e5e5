//! One group: what each kind of entry does to it.
//!
//! `samples`, `tick` and `switch` are those of `tests/model/slots.py`. Beyond the model: samples of no replica pass when they are later
//! than what was forwarded of their series, or older (they may repeat after a retry), and only an equal time is dropped; exemplars pass at
//! once (`rules`); a ninth name is refused; `forget` drops series and holes by the group's own data time; a pin holds the leader.

use super::history::History;
use super::history::Splice;
use super::history::SwitchRecord;
use super::judged::Counts;
use super::judged::Fate;
use super::judged::Judged;
use super::queues::Queues;
use super::queues::Ripe;
use super::queues::WAITING_COST;
use super::replicas::REPLICAS;
use super::replicas::Replica;
use super::replicas::Replicas;
use super::replicas::SILENT;
use super::rows::NEVER;
use super::rows::NOBODY;
use super::rows::Rows;
use super::rules::MARKERS_VALUE;
use super::rules::Place;
use crate::model::Item;
use crate::model::Kind;
use crate::model::NO_VALUE;

/// A time that no clock shows, 285,000 years away, ms: no sum of times within it overflows.
const FAR: u64 = 1 << 53;

/// A group of replicas: its table, what waits, who leads. Changed by entries only.
#[derive(Debug)]
pub struct Group {
    pub(super) name: String,
    pub(super) rows: Rows,
    pub(super) queues: Queues,
    pub(super) replicas: Replicas,
    /// Number of the leader, or `NOBODY`.
    pub(super) leader: u8,
    pub(super) pinned: bool,
    /// The largest `at` so far.
    pub(super) now: i64,
    /// The interval shown last by any series, for those that have shown none; 0: none has.
    pub(super) interval: u32,
    /// Newest forwarded time, as far as it is believable by `at`: what `forget` measures age against.
    pub(super) newest: i64,
    /// What is older than this may have been forwarded for series that are forgotten.
    pub(super) floor: i64,
    pub(super) totals: Counts,
    pub(super) history: History,
    pub(super) splices: [Splice; REPLICAS],
    ripe: Ripe,
}

/// An order to change the leader. Reason and evidence are for people; they are cut to 64 and 400 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Switch<'a> {
    /// Must lead, or the switch is void: it was proposed by somebody who knew less.
    pub from: &'a str,
    /// Who shall lead.
    pub to: &'a str,
    /// A short word.
    pub reason: &'a str,
    /// What was observed.
    pub evidence: &'a str,
}

/// What came of a switch or a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchOutcome {
    /// The leader changed; the switch has this number in the history.
    Done(u64),
    /// Nothing to change: it leads already.
    Leads,
    /// Void: `from` does not lead.
    Outdated,
    /// Void: there is no such replica.
    Unknown,
    /// Void: an operator holds the leader.
    Pinned,
}

/// What `forget` dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Series.
    pub series: u64,
    /// Holes of series that stay.
    pub holes: u64,
}

impl Group {
    /// A group that has seen nothing.
    pub fn new(name: &str) -> Group {
        Group {
            name: name.to_owned(),
            rows: Rows::default(),
            queues: Queues::default(),
            replicas: Replicas::default(),
            leader: NOBODY,
            pinned: false,
            now: 0,
            interval: 0,
            newest: NEVER,
            floor: NEVER,
            totals: Counts::default(),
            history: History::default(),
            splices: [Splice::default(); REPLICAS],
            ripe: Ripe::default(),
        }
    }

    /// An entry of samples. `replica` is "" for samples of no replica. Entries come in the order of the log; `items` in body order, of
    /// which only the first 2^31 count. The first replica seen leads.
    pub fn samples(&mut self, entry: u64, replica: &str, at: i64, items: impl Iterator<Item = Item>, out: &mut Judged) {
        self.valued_samples((entry, replica), at, items, |values| values.clear(), out);
    }

    /// The same of items whose values' bits somebody said: `values` puts one for each item (`NO_VALUE`: not this one's), or none at all.
    pub fn valued_samples(
        &mut self,
        (entry, replica): (u64, &str),
        at: i64,
        items: impl Iterator<Item = Item>,
        values: impl FnOnce(&mut Vec<u64>),
        out: &mut Judged,
    ) {
        values(&mut out.values);
        let mut batch = std::mem::take(&mut out.items);
        batch.clear();
        batch.extend(items);
        let mut counts = Counts { received: batch.len() as u64, ..Counts::default() };
        let from = if replica.is_empty() { Some(NOBODY) } else { self.replicas.find(replica).or_else(|| self.join(replica, at)) };
        self.ripen(at, &mut counts, out);
        let before = counts;
        match from {
            None => {
                counts.refused += batch.len() as u64;
                counts.ninth += batch.len() as u64;
                (0..batch.len()).for_each(|item| out.note(entry, item as u32, Fate::Ninth));
            }
            Some(NOBODY) => self.of_nobody(entry, &batch, &mut counts, out),
            Some(from) => self.of_replica(entry, from, &batch, &mut counts, out),
        }
        if let Some(replica) = from.and_then(|number| self.replicas.get_mut(number)) {
            replica.last_seen = self.now;
            replica.received += batch.len() as u64;
            replica.emitted += counts.emitted - before.emitted;
            replica.filled += counts.filled - before.filled;
            replica.covered += counts.covered - before.covered;
        }
        out.items = batch;
        self.close(counts, out);
    }

    /// Time goes on: what is due is judged.
    pub fn tick(&mut self, at: i64, out: &mut Judged) {
        let mut counts = Counts::default();
        self.ripen(at, &mut counts, out);
        self.close(counts, out);
    }

    /// The leader changes, unless the switch is void. Every series goes back to being taken from the leader, and what waits of it,
    /// stale markers apart, is judged at once, in order of due times.
    pub fn switch(&mut self, order: &Switch<'_>, at: i64, out: &mut Judged) -> SwitchOutcome {
        let mut counts = Counts::default();
        self.ripen(at, &mut counts, out);
        let outcome = match self.replicas.find(order.to) {
            _ if self.pinned => SwitchOutcome::Pinned,
            _ if self.leader == NOBODY || self.replicas.name(self.leader) != order.from => SwitchOutcome::Outdated,
            None => SwitchOutcome::Unknown,
            Some(to) if to == self.leader => SwitchOutcome::Leads,
            Some(to) => self.lead(to, order, &mut counts, out),
        };
        self.close(counts, out);
        outcome
    }

    /// An operator fixes the leader: a switch to it if need be; other switches are void until `unpin`.
    pub fn pin(&mut self, replica: &str, at: i64, out: &mut Judged) -> SwitchOutcome {
        let mut counts = Counts::default();
        self.ripen(at, &mut counts, out);
        let from = self.replicas.name(self.leader).to_owned();
        let outcome = match self.replicas.find(replica) {
            None => SwitchOutcome::Unknown,
            Some(to) if to == self.leader => SwitchOutcome::Leads,
            Some(to) => {
                let order = Switch { from: &from, to: replica, reason: "pinned", evidence: "an operator pinned it" };
                self.lead(to, &order, &mut counts, out)
            }
        };
        self.pinned |= outcome != SwitchOutcome::Unknown;
        self.close(counts, out);
        outcome
    }

    /// The leader may change again.
    pub fn unpin(&mut self) {
        self.pinned = false;
    }

    /// Forgets series of which nothing was forwarded for `age` of the group's own data time, and nothing waits; and holes that ended more
    /// than `hole_age` before it (both ms). `at` has no say, so a long outage forgets nothing. Samples of a forgotten series that are
    /// older than what was forgotten are refused from then on, since they may have been forwarded: choose `age` longer than senders keep
    /// data (Prometheus: two hours).
    pub fn forget(&mut self, age: i64, hole_age: i64) -> Forgotten {
        let mut done = Forgotten::default();
        if self.newest == NEVER {
            return done;
        }
        let horizon = self.newest - age.max(0);
        let hole_horizon = self.newest - hole_age.max(0);
        let waits = self.slots_that_wait();
        for slot in 0..self.rows.slab.len() as u32 {
            let (row, ahead) = (self.rows.slab.get(slot), self.rows.ahead(slot));
            if row.is_free() {
                continue;
            }
            let fresh = row.last >= horizon && row.last != NEVER || row.has_ahead() && (ahead - self.newest).abs() <= age;
            if !fresh && !is_set(&waits, slot) {
                self.rows.remove(slot);
                done.series += 1;
            } else if row.hole_len > 0 {
                let mut all = self.rows.holes.unfold(row);
                let old = all.drop_before(hole_horizon);
                if old > 0 {
                    done.holes += old as u64;
                    self.rows.holes.fold(self.rows.slab.get_mut(slot), &all);
                }
            }
        }
        self.floor = self.floor.max(horizon);
        done
    }

    /// One bit for each slot that a waiting sample names.
    fn slots_that_wait(&self) -> Vec<u64> {
        let mut bits = vec![0_u64; self.rows.slab.len().div_ceil(64)];
        for sample in self.queues.list.iter().flat_map(|queue| &queue.samples) {
            bits[sample.slot as usize / 64] |= 1 << (sample.slot % 64);
        }
        bits
    }

    /// Forgets a replica that has been silent for an hour, does not lead, and of which nothing waits; so its place is free for another
    /// name. Says whether it did.
    pub fn forget_replica(&mut self, replica: &str, at: i64) -> bool {
        self.now = self.now.max(at.min(FAR as i64));
        let Some(number) = self.replicas.find(replica) else { return false };
        let silent = self.replicas.get(number).is_some_and(|replica| self.now - replica.last_seen >= SILENT);
        if !silent || number == self.leader || !self.queues.forget(number) {
            return false;
        }
        self.rows.scrub(number);
        self.replicas.all[usize::from(number)] = None;
        self.splices[usize::from(number)] = Splice::default();
        true
    }

    /// The replicas that `forget_replica` would forget at `at`.
    pub fn silent(&self, at: i64) -> Vec<&str> {
        let leader = self.replicas.name(self.leader);
        self.replicas().filter(|replica| at - replica.last_seen >= SILENT && replica.name != leader).map(|replica| &*replica.name).collect()
    }

    /// When the next waiting sample is due.
    pub fn next_due(&self) -> Option<i64> {
        self.queues.next_due()
    }

    /// The smallest entry that a waiting sample names.
    pub fn oldest_waiting(&self) -> Option<u64> {
        self.queues.oldest_entry()
    }

    /// What waits, in bytes of memory: a fixed cost a sample, the same on every node.
    pub fn waiting_bytes(&self) -> u64 {
        self.queues.len() * WAITING_COST
    }

    /// Judges at once all that waits of the entry `oldest_waiting`: how the shard keeps its bound on waiting bytes. Says whether there was any.
    pub fn judge_oldest(&mut self, out: &mut Judged) -> bool {
        let Some(entry) = self.queues.oldest_entry() else { return false };
        let mut counts = Counts::default();
        let mut ripe = std::mem::take(&mut self.ripe);
        self.queues.take_entry(entry, &mut ripe);
        self.settle_all(&ripe, false, &mut counts, out);
        self.ripe = ripe;
        self.close(counts, out);
        true
    }

    /// Where every received item went, ever.
    pub fn counts(&self) -> Counts {
        Counts { waiting: self.queues.len(), ..self.totals }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who leads.
    pub fn leader(&self) -> Option<&str> {
        self.replicas.get(self.leader).map(|replica| &*replica.name)
    }

    /// Whether an operator holds the leader.
    pub fn pinned(&self) -> bool {
        self.pinned
    }

    /// Its replicas.
    pub fn replicas(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.all.iter().flatten()
    }

    /// The last switches, oldest first.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &SwitchRecord> {
        self.history.records.iter()
    }

    /// The place of a series, if it is known; `guess`, the one after the last one found, is tried first.
    pub fn slot_of(&self, series: u64, guess: u32) -> Option<u32> {
        self.rows.find(series, guess)
    }

    /// Series known.
    pub fn series(&self) -> usize {
        self.rows.len()
    }

    /// Memory held for its series and what waits, bytes: this node's, no part of the state.
    pub fn memory_bytes(&self) -> usize {
        self.rows.bytes() + self.queues.bytes()
    }

    /// Holes known beyond the newest of each series.
    pub fn older_holes(&self) -> usize {
        self.rows.holes.len()
    }

    /// Newest forwarded time, as far as it is believable.
    pub fn newest(&self) -> Option<i64> {
        (self.newest != NEVER).then_some(self.newest)
    }

    /// The interval shown last by any of its series, ms; 0: none has.
    pub fn interval(&self) -> u32 {
        self.interval
    }

    /// The largest `at` so far.
    pub fn at(&self) -> i64 {
        self.now
    }

    fn join(&mut self, name: &str, at: i64) -> Option<u8> {
        let number = self.replicas.join(name, self.now.max(at.min(FAR as i64)))?;
        if self.leader == NOBODY {
            self.leader = number;
        }
        Some(number)
    }

    fn lead(&mut self, to: u8, order: &Switch<'_>, counts: &mut Counts, out: &mut Judged) -> SwitchOutcome {
        self.leader = to;
        let record = SwitchRecord {
            at: self.now,
            from: order.from.to_owned(),
            to: order.to.to_owned(),
            reason: order.reason.to_owned(),
            evidence: order.evidence.to_owned(),
            ..SwitchRecord::default()
        };
        let before = std::mem::take(&mut self.splices)[usize::from(to)];
        self.history.open(record, before);
        for row in self.rows.slab.iter_mut().filter(|row| !row.is_free()) {
            row.source = NOBODY;
            row.set_seen(None);
        }
        let mut ripe = std::mem::take(&mut self.ripe);
        self.queues.take_replica(to, &mut ripe);
        self.settle_all(&ripe, true, counts, out);
        self.ripe = ripe;
        SwitchOutcome::Done(self.history.number)
    }

    /// Moves the group's time and judges what is due.
    fn ripen(&mut self, at: i64, counts: &mut Counts, out: &mut Judged) {
        self.now = self.now.max(at.min(FAR as i64));
        let mut ripe = std::mem::take(&mut self.ripe);
        while self.queues.take_due(self.now, &mut ripe) {
            self.settle_all(&ripe, false, counts, out);
        }
        self.ripe = ripe;
    }

    /// At the end of every call: the totals, and the measures of the newest switch.
    fn close(&mut self, mut counts: Counts, out: &mut Judged) {
        self.totals.add(counts);
        if counts.late + counts.filled > 0
            && let Some(record) = self.history.current(self.now)
        {
            record.late += counts.late;
            record.filled += counts.filled;
        }
        counts.waiting = 0;
        out.counts.add(counts);
        out.counts.waiting = self.queues.len();
    }

    /// Samples that carry no replica.
    fn of_nobody(&mut self, entry: u64, items: &[Item], counts: &mut Counts, out: &mut Judged) {
        let believed = self.replicas.believed(NOBODY, self.now);
        let mut guess = 0;
        for (number, item) in items.iter().enumerate() {
            if Self::refused(number, item) {
                counts.refused += 1;
                out.note(entry, number as u32, Fate::AtDoor);
                continue;
            }
            let slot = self.rows.find(item.series, guess).unwrap_or_else(|| self.rows.add(item.series));
            guess = slot + 1;
            let bits = if item.kind == Kind::Stale { MARKERS_VALUE } else { out.values.get(number).copied().unwrap_or(NO_VALUE) };
            let place = Place { entry, item: number as u32, slot, replica: NOBODY, time: item.time, bits };
            if item.kind == Kind::Exemplar {
                self.exemplar(place, counts, out);
            } else {
                self.lone(place, believed, counts, out);
            }
        }
    }

    /// Struck at the door, beyond what a reference can name, or a time that no clock shows.
    pub(super) fn refused(number: usize, item: &Item) -> bool {
        item.refused || number >= 1 << 31 || item.time.unsigned_abs() > FAR
    }
}

fn is_set(bits: &[u64], slot: u32) -> bool {
    bits[slot as usize / 64] & 1 << (slot % 64) != 0
}

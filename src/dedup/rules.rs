//! The rules of `tests/model/slots.py` for one sample: does it wait, does it pass, and what does its series learn from it.

use super::group::Group;
use super::judged::Counts;
use super::judged::Fate;
use super::judged::Judged;
use super::judged::Passed;
use super::queues::Due;
use super::queues::Ripe;
use super::queues::Waiting;
use super::rows::NEVER;
use super::rows::NOBODY;
use crate::model::Before;
use crate::model::Item;
use crate::model::Kind;
use crate::model::NO_VALUE;

/// No sample waits longer than this for another replica's to cover it, ms; none waits less than the other.
const MAX_WAIT: i64 = 60_000;
const MIN_WAIT: i64 = 2_000;
/// Marks the class of a queue of stale markers; classes themselves are at most 32.
const MARKERS: u8 = 0x80;
/// While the whole group has shown no interval: how long to wait is judged by this, ms,
const FIRST_GUESS: u32 = 15_000;
/// and how close is too close by this (rather a sample too many than one too few).
const FIRST_GUARD: u32 = 1_000;
/// Intervals before a series' first sample that count as its first hole.
const BACK: i64 = 64;
/// Older holes that a group remembers whatever its size; beyond that one for each series: 16 bytes each.
const OLDER_HOLES: usize = 16_384;
/// Holes of a series while its group is over that bound.
const FEW_HOLES: usize = 2;

/// Samples whose rows are looked for at once.
const AT_ONCE: usize = 32;
const NO_SLOT: u32 = u32::MAX;
/// Of the bits of a float: all of these are set in infinities and NaN.
pub(super) const EXPONENT: u64 = 0x7ff0_0000_0000_0000;
/// In place of a stale marker's value: no number, but no sample whose value nobody said either.
pub(super) const MARKERS_VALUE: u64 = EXPONENT;

/// One sample: where it stands in the log, whose it is, its series' row, the bits of its value if somebody said them.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub entry: u64,
    pub item: u32,
    pub slot: u32,
    pub replica: u8,
    pub time: i64,
    pub bits: u64,
}

/// What the rules say of a sample.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Pass,
    Repeated,
    Covered,
    Disbelieved,
    TooOld,
}

impl Verdict {
    fn count(self, place: Place, counts: &mut Counts, out: &mut Judged) {
        let fate = match self {
            Verdict::Pass => return,
            Verdict::Repeated => {
                counts.repeated += 1;
                Fate::Repeated
            }
            Verdict::Covered => {
                counts.covered += 1;
                Fate::Covered
            }
            Verdict::Disbelieved => {
                counts.refused += 1;
                counts.disbelieved += 1;
                Fate::Disbelieved
            }
            Verdict::TooOld => {
                counts.refused += 1;
                counts.too_old += 1;
                Fate::TooOld
            }
        };
        out.note(place.entry, place.item, fate);
    }
}

fn or(interval: u32, guess: u32) -> i64 {
    i64::from(if interval == 0 { guess } else { interval })
}

impl Group {
    /// Samples of a replica with a name: those of series that are taken from it pass or not, the others wait.
    pub(super) fn of_replica(&mut self, entry: u64, replica: u8, items: &[Item], counts: &mut Counts, out: &mut Judged) {
        self.observe(replica, items);
        let believed = self.replicas.believed(replica, self.now);
        // The queue of the last one that waited: the next one usually goes there, too.
        let mut queue = (u8::MAX, 0);
        let (mut slots, mut guess) = ([NO_SLOT; AT_ONCE], 0);
        for (number, item) in items.iter().enumerate() {
            if number.is_multiple_of(AT_ONCE) {
                guess = self.find_all(&items[number..items.len().min(number + AT_ONCE)], guess, &mut slots);
            }
            if Self::refused(number, item) {
                counts.refused += 1;
                out.note(entry, number as u32, Fate::AtDoor);
                continue;
            }
            let slot = match Some(slots[number % AT_ONCE]).filter(|&slot| slot != NO_SLOT).or_else(|| self.rows.find(item.series, NO_SLOT))
            {
                Some(slot) => slot,
                None if item.time <= self.floor => {
                    let place = Place { entry, item: number as u32, slot: NO_SLOT, replica, time: item.time, bits: NO_VALUE };
                    Verdict::TooOld.count(place, counts, out);
                    continue;
                }
                None => self.rows.add(item.series),
            };
            let bits = out.values.get(number).copied().unwrap_or(NO_VALUE);
            let place = Place { entry, item: number as u32, slot, replica, time: item.time, bits };
            if item.kind == Kind::Exemplar {
                self.exemplar(place, counts, out);
                continue;
            }
            let row = self.rows.slab.get_mut(slot);
            if row.interval == 0 {
                row.interval = self.interval;
            }
            let own = row.source == replica || row.source == NOBODY && self.leader == replica;
            if !own || item.kind == Kind::Stale {
                out.note(entry, place.item, Fate::Waiting);
                self.wait(place, item.kind == Kind::Stale, &mut queue);
                continue;
            }
            if item.time <= believed {
                let seen = row.seen();
                if let Some(seen) = seen.filter(|&seen| seen < item.time) {
                    row.learn(item.time - seen);
                    self.interval = row.interval;
                }
                if seen.is_none_or(|seen| seen < item.time) && row.last != NEVER {
                    row.set_seen(Some(item.time));
                }
                if self.follows(place) {
                    counts.emitted += 1;
                    counts.filled += u64::from(self.leader != replica);
                    out.passed.push(Passed { entry, item: place.item, late: false, filled: self.leader != replica });
                    self.count_from(place, out);
                    continue;
                }
            }
            self.judge_own(place, believed, counts, out);
        }
    }

    /// Finds rows for some samples at once, so that the processor waits for their memory at once, too. `NO_SLOT` where there is none yet.
    /// Gives back the slot after the last one found.
    fn find_all(&self, items: &[Item], mut guess: u32, slots: &mut [u32; AT_ONCE]) -> u32 {
        for (slot, item) in slots.iter_mut().zip(items) {
            *slot = self.rows.find(item.series, guess).unwrap_or(NO_SLOT);
            guess = slot.saturating_add(1);
        }
        guess
    }

    /// The usual case, and the only one that must be fast: the next sample of a series from the replica that sent its last one, no
    /// hole between them, none to be forgotten. True: it passed, and the row says so.
    #[inline]
    fn follows(&mut self, place: Place) -> bool {
        let row = self.rows.slab.get_mut(place.slot);
        if row.replica != place.replica || place.time <= row.last || row.has_ahead() {
            return false;
        }
        let interval = or(row.interval, FIRST_GUARD);
        if (place.time - row.last) * 2 > interval * 3 || !self.rows.holes.all_open(row, interval) {
            return false;
        }
        row.set_last(place.time);
        row.set_marker(false);
        row.fills = NOBODY;
        self.newest = self.newest.max(place.time.min(self.now + super::replicas::AHEAD));
        true
    }

    /// A sample of a series that is taken from its replica, outside the usual case.
    fn judge_own(&mut self, place: Place, believed: i64, counts: &mut Counts, out: &mut Judged) {
        match self.verdict(place, believed) {
            Verdict::Pass => {
                let row = self.rows.slab.get_mut(place.slot);
                if place.time > row.last {
                    row.fills = NOBODY;
                }
                self.emit(place, believed, counts, out);
                let row = self.rows.slab.get_mut(place.slot);
                // A first sample is where `seen` begins: before it there was no `last` to count from.
                if place.time == row.last && row.seen().is_none() && place.time <= believed {
                    row.set_seen(Some(place.time));
                }
            }
            verdict => {
                if verdict == Verdict::Covered
                    && place.replica == self.leader
                    && let Some(record) = self.history.current(self.now)
                {
                    record.overlap += 1;
                }
                // Older than the last and in no hole: this replica's own, sent again, or another's covered it; who can tell.
                let older = verdict == Verdict::Covered && place.time < self.rows.slab.get(place.slot).last;
                if older { Verdict::Repeated.count(place, counts, out) } else { verdict.count(place, counts, out) }
            }
        }
    }

    /// What the entry says of its replica: how late it usually is, and how far it is.
    fn observe(&mut self, replica: u8, items: &[Item]) {
        let (mut oldest, mut newest) = (i64::MAX, NEVER);
        for (number, item) in items.iter().enumerate() {
            if Self::refused(number, item) || item.kind == Kind::Exemplar {
                continue;
            }
            newest = newest.max(item.time);
            if item.time <= self.now {
                oldest = oldest.min(item.time);
            }
        }
        let now = self.now;
        if let Some(replica) = self.replicas.get_mut(replica) {
            replica.newest = replica.newest.max(newest);
            if oldest != i64::MAX {
                replica.lagged(now, oldest);
            }
        }
    }

    fn wait(&mut self, place: Place, stale: bool, queue: &mut (u8, usize)) {
        let row = self.rows.slab.get(place.slot);
        let interval = if row.interval == 0 { FIRST_GUESS } else { row.interval };
        let class = (u32::BITS - interval.leading_zeros()) as u8;
        let source = if row.source == NOBODY { self.leader } else { row.source };
        let interval = i64::from(interval);
        let cover = (interval + interval / 2 + self.replicas.lag(source)).clamp(MIN_WAIT, MAX_WAIT);
        // A marker of one replica (a scrape that failed) must not end a series that its twin still sees: it is judged after the twin's next
        // sample would have been, and stands in a queue of its own so that it holds nobody up.
        let (class, cover) = if stale { (class | MARKERS, cover * 2) } else { (class, cover) };
        if queue.0 != class {
            *queue = (class, self.queues.of(place.replica, class));
        }
        let sample = Waiting::new(place.time, place.slot, place.item, stale);
        self.queues.list[queue.1].push(self.now + cover, place.entry, (sample, place.bits));
    }

    /// Judges samples that waited, all of one replica. `own`: since it leads now.
    pub(super) fn settle_all(&mut self, ripe: &Ripe, own: bool, counts: &mut Counts, out: &mut Judged) {
        let Some(replica) = ripe.samples.first().map(|due| due.replica) else { return };
        let believed = self.replicas.believed(replica, self.now);
        let before = *counts;
        for &Due { entry, sample, bits, replica, .. } in &ripe.samples {
            let bits = if sample.stale() { MARKERS_VALUE } else { bits };
            let place = Place { entry, item: sample.item(), slot: sample.slot, replica, time: sample.time, bits };
            if sample.stale() { self.settle_marker(place, believed, counts, out) } else { self.settle(place, believed, own, counts, out) }
        }
        if let Some(replica) = self.replicas.get_mut(replica) {
            replica.emitted += counts.emitted - before.emitted;
            replica.filled += counts.filled - before.filled;
            replica.covered += counts.covered - before.covered;
        }
    }

    fn settle(&mut self, place: Place, believed: i64, own: bool, counts: &mut Counts, out: &mut Judged) {
        let verdict = self.verdict(place, believed);
        if verdict != Verdict::Pass {
            if own
                && verdict == Verdict::Covered
                && let Some(record) = self.history.current(self.now)
            {
                record.overlap += 1;
            }
            let same = self.rows.slab.get(place.slot).replica == place.replica;
            return if verdict == Verdict::Repeated && !same {
                Verdict::Covered.count(place, counts, out)
            } else {
                verdict.count(place, counts, out)
            };
        }
        let newest = place.time > self.rows.slab.get(place.slot).last;
        self.emit(place, believed, counts, out);
        if newest && !own {
            // At the newest end, twice running: take it from there.
            let row = self.rows.slab.get_mut(place.slot);
            if row.fills == place.replica {
                (row.source, row.fills) = (place.replica, NOBODY);
                row.set_seen(None);
            } else {
                row.fills = place.replica;
            }
        }
    }

    /// A stale marker passes once, and only if nobody has brought anything later.
    fn settle_marker(&mut self, place: Place, believed: i64, counts: &mut Counts, out: &mut Judged) {
        let row = self.rows.slab.get(place.slot);
        if row.last == NEVER || place.time <= row.last || row.marker() {
            return Verdict::Covered.count(place, counts, out);
        }
        self.emit(place, believed, counts, out);
        self.rows.slab.get_mut(place.slot).set_marker(true);
    }

    fn verdict(&self, place: Place, believed: i64) -> Verdict {
        let (row, ahead) = (self.rows.slab.get(place.slot), self.rows.ahead(place.slot));
        let Place { time, replica, .. } = place;
        if time > believed {
            let source = if row.source == NOBODY { self.leader } else { row.source };
            return match time > ahead && replica == source {
                true => Verdict::Pass,
                false if time == ahead => Verdict::Repeated,
                false => Verdict::Disbelieved,
            };
        }
        if row.last == NEVER {
            return if time > self.floor { Verdict::Pass } else { Verdict::TooOld };
        }
        if time == row.last || time == ahead {
            return Verdict::Repeated;
        }
        let interval = or(row.interval, FIRST_GUARD);
        let pass = if time > row.last {
            row.replica == replica || (time - row.last) * 2 >= interval
        } else {
            self.rows.holes.has_room(row, time, interval)
        };
        if pass { Verdict::Pass } else { Verdict::Covered }
    }

    /// Forwards it, and changes its row by that.
    fn emit(&mut self, place: Place, believed: i64, counts: &mut Counts, out: &mut Judged) {
        let Place { entry, item, slot, replica, time, .. } = place;
        let last = self.rows.slab.get(slot).last;
        let (late, filled) = (last != NEVER && time < last, replica != self.leader && replica != NOBODY);
        out.passed.push(Passed { entry, item, late, filled });
        counts.emitted += 1;
        counts.late += u64::from(late);
        counts.filled += u64::from(filled);
        self.newest = self.newest.max(time.min(self.now + super::replicas::AHEAD));
        if time > believed {
            counts.ahead += 1;
            return self.rows.set_ahead(slot, time);
        }
        let most = if self.rows.holes.len() < OLDER_HOLES + self.rows.len() { super::holes::HOLES } else { FEW_HOLES };
        let row = self.rows.slab.get_mut(slot);
        let interval = or(row.interval, FIRST_GUARD);
        let mut holes = self.rows.holes.unfold(row);
        if last == NEVER {
            let back = time - BACK * or(row.interval, FIRST_GUESS);
            holes.push(back.max(self.floor).min(time), time);
        } else {
            holes.split(time);
            if time > last {
                holes.push(last, time);
            }
        }
        holes.filter(interval);
        holes.limit(most, interval);
        self.rows.holes.fold(row, &holes);
        if last == NEVER || time > last {
            self.count_from(place, out);
            let row = self.rows.slab.get_mut(slot);
            row.set_last(time);
            let other = std::mem::replace(&mut row.replica, replica) != replica;
            if last != NEVER {
                row.set_marker(false);
                if other {
                    self.spliced(replica, time - last, interval);
                }
            }
        }
    }

    /// The sample that was put into `out` last is the newest of its series, whoever sent it. Where its value and that of the one before it are known, the
    /// sink is told what was before; what has no number for a value (a marker, NaN) is passed over. Late samples never come here.
    #[inline]
    fn count_from(&mut self, place: Place, out: &mut Judged) {
        if place.bits != NO_VALUE || self.rows.knows_values() {
            self.count(place, out);
        }
    }

    /// Apart, so that it costs those nothing of whose values nobody asks.
    #[inline(never)]
    fn count(&mut self, place: Place, out: &mut Judged) {
        let Place { slot, time, bits, .. } = place;
        if bits == NO_VALUE {
            self.rows.forget_before(slot);
        } else if bits & EXPONENT != EXPONENT
            && let Some(before) = self.rows.follow(slot, Before { time, bits })
        {
            out.befores.push((out.passed.len() as u32 - 1, before));
        }
    }

    /// A series passed from another replica to this one: part of what a switch is measured by.
    fn spliced(&mut self, replica: u8, distance: i64, interval: i64) {
        let (now, wide) = (self.now, distance * 2 > interval * 3);
        if replica == self.leader {
            if let Some(record) = self.history.current(now) {
                record.gap = record.gap.max(distance);
                record.spliced += 1;
                record.wide += u64::from(wide);
            }
        } else if let Some(splice) = self.splices.get_mut(usize::from(replica)) {
            splice.note(now, distance, wide);
        }
    }

    /// An exemplar passes with the first copy, at once. Best effort: it must be newer than the newest that passed of its series, and if
    /// that one was another replica's, half an interval newer, since replicas stamp the same exemplar by their own scrapes.
    pub(super) fn exemplar(&mut self, place: Place, counts: &mut Counts, out: &mut Judged) {
        let interval = or(self.rows.slab.get(place.slot).interval, FIRST_GUARD);
        let known = self.rows.exemplar(place.slot);
        let passes = match known {
            None => true,
            Some((last, whose)) => place.time > last && (whose == place.replica || (place.time - last) * 2 >= interval),
        };
        if !passes {
            let repeated = known.is_some_and(|(_, whose)| whose == place.replica);
            return if repeated { Verdict::Repeated.count(place, counts, out) } else { Verdict::Covered.count(place, counts, out) };
        }
        self.rows.set_exemplar(place.slot, place.time, place.replica);
        let filled = place.replica != self.leader && place.replica != NOBODY;
        out.passed.push(Passed { entry: place.entry, item: place.item, late: false, filled });
        counts.emitted += 1;
        counts.exemplars += 1;
        counts.filled += u64::from(filled);
    }

    /// A sample of no replica: later than the last passes, equal is a repeat, older passes. It opens no holes; one it lies in is split.
    pub(super) fn lone(&mut self, place: Place, believed: i64, counts: &mut Counts, out: &mut Judged) {
        let ahead = self.rows.ahead(place.slot);
        let row = self.rows.slab.get_mut(place.slot);
        let last = row.last;
        if last != NEVER && place.time == last || row.has_ahead() && place.time == ahead {
            return Verdict::Repeated.count(place, counts, out);
        }
        let late = last != NEVER && place.time < last;
        out.passed.push(Passed { entry: place.entry, item: place.item, late, filled: false });
        counts.emitted += 1;
        counts.late += u64::from(late);
        self.newest = self.newest.max(place.time.min(self.now + super::replicas::AHEAD));
        if place.time > believed {
            counts.ahead += 1;
            if place.time > ahead {
                self.rows.set_ahead(place.slot, place.time);
            }
        } else if late {
            if self.rows.holes.has_room(row, place.time, 0) {
                let mut holes = self.rows.holes.unfold(row);
                holes.split(place.time);
                holes.filter(or(row.interval, FIRST_GUARD));
                holes.limit(super::holes::HOLES, or(row.interval, FIRST_GUARD));
                self.rows.holes.fold(row, &holes);
            }
        } else {
            row.set_last(place.time);
            row.replica = NOBODY;
            row.set_marker(false);
            self.count_from(place, out);
        }
    }
}

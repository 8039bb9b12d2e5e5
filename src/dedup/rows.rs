//! What is kept per series: one row of 48 bytes, found by the series' hash; what few series need stands beside.
//!
//! 48 bytes a row and 5 to 11 bytes of index: a million series are about 60 MB, and 16 MB more while a sink asks how far counters rise. Rows lie in chunks, so that growing neither copies nor
//! doubles them, in the order in which series were first seen. Senders keep to one order, so the row after the last one found is usually
//! the next one wanted, and the index is not asked at all.
//!
//! A row's number (slot) and the order in which free slots are used again are part of the group's state and of its image: waiting
//! samples name rows by slot. The index and the side tables are never walked in their own order.

use super::holes::Holes;
use super::holes::NIL;
use crate::model::Before;
use hashbrown::HashTable;
use std::collections::BTreeMap;

/// Whose it is when it is nobody's: no replica, or not known any more.
pub(super) const NOBODY: u8 = 255;
/// `Row::replica` of a slot that holds no series.
const FREE: u8 = 254;
/// A time that no sample has.
pub(super) const NEVER: i64 = i64::MIN;
const NOT_SEEN: i32 = i32::MIN;

const NOTHING_BEFORE: Before = Before { time: NEVER, bits: 0 };

const GUESS: u8 = 1;
const MARKER: u8 = 2;
const AHEAD: u8 = 4;
const EXEMPLAR: u8 = 8;
const ODD_SHIFT: u8 = 4;

/// Rows of a chunk: 196 kB.
const CHUNK: usize = 4096;

/// A vector that grows by chunks: no copy, no doubling, at most one chunk unused.
#[derive(Debug)]
pub(super) struct Chunks<T> {
    chunks: Vec<Vec<T>>,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Chunks { chunks: Vec::new() }
    }
}

impl<T> Chunks<T> {
    pub fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    /// Adds one and says its number.
    pub fn push(&mut self, value: T) -> u32 {
        let number = self.len();
        if number.is_multiple_of(CHUNK) {
            // The first chunk grows as it needs to: most groups of a laptop are small.
            self.chunks.push(if number == 0 { Vec::new() } else { Vec::with_capacity(CHUNK) });
        }
        if let Some(last) = self.chunks.last_mut() {
            last.push(value);
        }
        number as u32
    }

    #[inline]
    pub fn get(&self, number: u32) -> &T {
        &self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }

    #[inline]
    pub fn get_mut(&mut self, number: u32) -> &mut T {
        &mut self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }

    /// Memory held, bytes.
    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(Vec::capacity).sum::<usize>() * size_of::<T>()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flatten()
    }
}

/// What apply keeps per series. 48 bytes; times in ms since 1970, distances in ms.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// The series' hash.
    pub series: u64,
    /// Newest forwarded time, or `NEVER`.
    pub last: i64,
    /// The newest hole's end.
    pub hole_end: i64,
    /// The newest hole's length; 0: there is no hole.
    pub hole_len: u32,
    /// The node of the next older hole.
    pub older: u32,
    /// 0: not known; a guess comes from the group until the series shows its own.
    pub interval: u32,
    /// Another distance, seen `odd_n` times running.
    pub odd: u32,
    /// Newest time of the replica the series is taken from, forwarded or not, counted from `last`.
    seen: i32,
    /// Whose the newest forwarded sample was.
    pub replica: u8,
    /// The replica it is taken from; `NOBODY`: from the group's leader.
    pub source: u8,
    /// Who had to fill at the newest end, the last time.
    pub fills: u8,
    bits: u8,
}

impl Row {
    pub fn new(series: u64) -> Row {
        Row {
            series,
            last: NEVER,
            hole_end: 0,
            hole_len: 0,
            older: NIL,
            interval: 0,
            odd: 0,
            seen: NOT_SEEN,
            replica: NOBODY,
            source: NOBODY,
            fills: NOBODY,
            bits: GUESS,
        }
    }

    pub fn is_free(&self) -> bool {
        self.replica == FREE
    }

    #[inline]
    pub fn seen(&self) -> Option<i64> {
        (self.seen != NOT_SEEN && self.last != NEVER).then(|| self.last + i64::from(self.seen))
    }

    /// Distances over 24 days are cut: nothing that far apart teaches an interval.
    #[inline]
    pub fn set_seen(&mut self, seen: Option<i64>) {
        self.seen = match seen {
            Some(time) => (time - self.last).clamp(i64::from(NOT_SEEN) + 1, i64::from(i32::MAX)) as i32,
            None => NOT_SEEN,
        };
    }

    /// Moves `last` and leaves `seen` where it is in time.
    #[inline]
    pub fn set_last(&mut self, time: i64) {
        let seen = self.seen();
        self.last = time;
        self.set_seen(seen);
    }

    pub fn marker(&self) -> bool {
        self.bits & MARKER != 0
    }

    pub fn set_marker(&mut self, set: bool) {
        self.bits = if set { self.bits | MARKER } else { self.bits & !MARKER };
    }

    #[inline]
    pub fn has_ahead(&self) -> bool {
        self.bits & AHEAD != 0
    }

    pub fn has_exemplar(&self) -> bool {
        self.bits & EXEMPLAR != 0
    }

    fn odd_n(&self) -> u8 {
        self.bits >> ODD_SHIFT
    }

    fn set_odd(&mut self, distance: u32, times: u8) {
        self.odd = distance;
        self.bits = (self.bits & ((1 << ODD_SHIFT) - 1)) | (times << ODD_SHIFT);
    }

    /// A distance of the replica it is taken from. A missed scrape, a shifted one or a pause is no new interval; eight alike are, two
    /// if they are shorter or if what we have is only a guess.
    #[inline]
    pub fn learn(&mut self, distance: i64) {
        let d = u32::try_from(distance).unwrap_or(u32::MAX);
        let guess = self.bits & GUESS != 0;
        let alike = |a: u32, b: u32| u64::from(a.abs_diff(b)) * 8 <= u64::from(b);
        if self.interval == 0 || guess && d < self.interval || alike(d, self.interval) {
            self.settle_on(d);
        } else if self.odd_n() > 0 && alike(d, self.odd) {
            let times = self.odd_n() + 1;
            if times >= if guess || d < self.interval { 2 } else { 8 } {
                self.settle_on(d);
            } else {
                self.set_odd(d, times);
            }
        } else {
            self.set_odd(d, 1);
        }
    }

    #[inline]
    fn settle_on(&mut self, interval: u32) {
        self.interval = interval;
        self.odd = 0;
        self.bits &= ((1 << ODD_SHIFT) - 1) & !GUESS;
    }

    /// Flags and progress as they stand in an image.
    pub fn bits(&self) -> (u8, i32) {
        (self.bits, self.seen)
    }

    pub fn set_bits(&mut self, bits: u8, seen: i32) {
        (self.bits, self.seen) = (bits, seen);
    }
}

/// The rows of a group, their index, and what only few series need.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub slab: Chunks<Row>,
    index: HashTable<u32>,
    free: Vec<u32>,
    pub holes: Holes,
    /// By slot, as far as it reaches: the newest forwarded sample of which the value is known, as of `NEVER` if there is none. Empty while none is known.
    befores: Chunks<Before>,
    /// How many are known.
    known: usize,
    /// By slot: newest time forwarded although it was not believed.
    ahead: BTreeMap<u32, i64>,
    /// By slot: time of the newest exemplar that passed, and whose it was.
    exemplars: BTreeMap<u32, (i64, u8)>,
}

impl Rows {
    /// Series known.
    pub fn len(&self) -> usize {
        self.slab.len() - self.free.len()
    }

    /// Memory held, bytes, what few series need left out: rows, index (4 bytes and a control byte a bucket), older holes, free slots.
    pub fn bytes(&self) -> usize {
        let buckets = (self.index.capacity() * 8 / 7).next_power_of_two();
        self.slab.bytes() + self.befores.bytes() + buckets * 5 + self.holes.bytes() + self.free.capacity() * 4
    }

    /// The series' slot; `guess` is tried first.
    #[inline]
    pub fn find(&self, series: u64, guess: u32) -> Option<u32> {
        if (guess as usize) < self.slab.len() {
            let row = self.slab.get(guess);
            if row.series == series && !row.is_free() {
                return Some(guess);
            }
        }
        self.index.find(series, |&slot| self.slab.get(slot).series == series).copied()
    }

    /// A row for a series that has none.
    pub fn add(&mut self, series: u64) -> u32 {
        let slot = match self.free.pop() {
            Some(slot) => {
                *self.slab.get_mut(slot) = Row::new(series);
                slot
            }
            None => self.slab.push(Row::new(series)),
        };
        self.enter(slot);
        slot
    }

    fn enter(&mut self, slot: u32) {
        let slab = &self.slab;
        self.index.insert_unique(slab.get(slot).series, slot, |&slot| slab.get(slot).series);
    }

    /// Forgets a series.
    pub fn remove(&mut self, slot: u32) {
        let row = self.slab.get_mut(slot);
        if row.is_free() {
            return;
        }
        let series = row.series;
        self.holes.release(row);
        row.replica = FREE;
        row.bits = 0;
        self.ahead.remove(&slot);
        self.exemplars.remove(&slot);
        self.forget_before(slot);
        if let Ok(entry) = self.index.find_entry(series, |&other| other == slot) {
            entry.remove();
        }
        self.free.push(slot);
    }

    /// Newest time forwarded although it was not believed; 0 if there is none, as in the model.
    #[inline]
    pub fn ahead(&self, slot: u32) -> i64 {
        if self.slab.get(slot).has_ahead() { self.ahead.get(&slot).copied().unwrap_or(0) } else { 0 }
    }

    pub fn set_ahead(&mut self, slot: u32, time: i64) {
        self.slab.get_mut(slot).bits |= AHEAD;
        self.ahead.insert(slot, time);
    }

    /// Whether the value of any series is known.
    #[inline]
    pub fn knows_values(&self) -> bool {
        self.known > 0
    }

    /// What was forwarded of the series, if its value is known.
    pub fn before(&self, slot: u32) -> Option<Before> {
        let within = (slot as usize) < self.befores.len();
        within.then(|| *self.befores.get(slot)).filter(|before| before.time != NEVER)
    }

    /// This was forwarded now. What was before?
    pub fn follow(&mut self, slot: u32, now: Before) -> Option<Before> {
        while self.befores.len() <= slot as usize {
            self.befores.push(NOTHING_BEFORE);
        }
        let before = std::mem::replace(self.befores.get_mut(slot), now);
        if before.time == NEVER {
            self.known += 1;
            return None;
        }
        Some(before)
    }

    /// The next one is counted from nothing.
    pub fn forget_before(&mut self, slot: u32) {
        if self.before(slot).is_some() {
            *self.befores.get_mut(slot) = NOTHING_BEFORE;
            self.known -= 1;
            if self.known == 0 {
                self.befores = Chunks::default();
            }
        }
    }

    pub fn exemplar(&self, slot: u32) -> Option<(i64, u8)> {
        if self.slab.get(slot).has_exemplar() { self.exemplars.get(&slot).copied() } else { None }
    }

    pub fn set_exemplar(&mut self, slot: u32, time: i64, replica: u8) {
        self.slab.get_mut(slot).bits |= EXEMPLAR;
        self.exemplars.insert(slot, (time, replica));
    }

    /// A replica is no longer one: nothing may mean it when its number goes to another name.
    pub fn scrub(&mut self, replica: u8) {
        for row in self.slab.iter_mut().filter(|row| !row.is_free()) {
            if row.source == replica {
                row.source = NOBODY;
                row.seen = NOT_SEEN;
            }
            for whose in [&mut row.replica, &mut row.fills] {
                if *whose == replica {
                    *whose = NOBODY;
                }
            }
        }
        for (_, whose) in self.exemplars.values_mut().filter(|(_, whose)| *whose == replica) {
            *whose = NOBODY;
        }
    }

    /// Free slots, the one used next last.
    pub fn free(&self) -> &[u32] {
        &self.free
    }

    /// Before `restore`: so many rows come. Makes room at once instead of step by step.
    pub fn expect(&mut self, rows: usize) {
        let slab = &self.slab;
        self.index.reserve(rows, |&slot| slab.get(slot).series);
    }

    /// From an image: the next slot, with its row or without one.
    pub fn restore(&mut self, row: Option<Row>) -> Result<u32, u64> {
        let Some(row) = row else {
            let mut row = Row::new(0);
            (row.replica, row.bits) = (FREE, 0);
            return Ok(self.slab.push(row));
        };
        if self.find(row.series, u32::MAX).is_some() {
            return Err(row.series);
        }
        let slot = self.slab.push(row);
        self.enter(slot);
        Ok(slot)
    }

    /// From an image: the order in which free slots are used. It must name each free slot once.
    pub fn restore_free(&mut self, free: Vec<u32>) -> bool {
        let mut sorted = free.clone();
        sorted.sort_unstable();
        let known = (0..self.slab.len() as u32).filter(|&slot| self.slab.get(slot).is_free());
        if !known.eq(sorted) {
            return false;
        }
        self.free = free;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_takes_48_bytes() {
        assert_eq!(size_of::<Row>(), 48);
    }

    #[test]
    fn slots_are_used_again_and_found_by_their_new_series_only() {
        let mut rows = Rows::default();
        let (a, b) = (rows.add(7), rows.add(9));
        rows.remove(a);
        assert_eq!((rows.find(7, a), rows.find(9, u32::MAX), rows.len()), (None, Some(b), 1));
        assert_eq!(rows.add(11), a);
        assert_eq!((rows.find(7, a), rows.find(11, b)), (None, Some(a)));
    }

    #[test]
    fn seen_keeps_its_place_when_last_moves() {
        let mut row = Row::new(1);
        row.set_last(1000);
        row.set_seen(Some(1000));
        row.set_last(16_000);
        assert_eq!(row.seen(), Some(1000));
        row.set_seen(None);
        row.set_last(20_000);
        assert_eq!(row.seen(), None);
    }
}

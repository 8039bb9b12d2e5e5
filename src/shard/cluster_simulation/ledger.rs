//! What must hold at every moment, and what is needed to judge the end: one book for the whole cluster, which no crash reaches.
//!
//! For every shard a *reference* applies each committed entry once, as soon as the first member has applied it. Against it are held: every later
//! member (the same entry at the same index, the same state after it, the same emissions), time in the log, and every row that Kafka shows.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use xxhash_rust::xxh3::xxh3_64;

use super::kafka;
use super::kafka::Row;
use super::sender::Request;
use super::shape::Shape;
use super::sink;
use crate::model::Item;
use crate::model::ShardId;
use crate::shard::control::ControlEffects;
use crate::shard::data::Effects;
use crate::shard::emission::Emission;
use crate::shard::entry;
use crate::shard::entry::Entry;
use crate::shard::log::ORIGIN;
use crate::shard::log::Place;
use crate::shard::log::is_of_members;
use crate::shard::member::State;
use crate::wire::digest::Digest;

/// Clocks that never go back run a little fast or slow, and messages take their time, ms.
const STRAY: i64 = 1_000;

/// A shard as it should be.
pub struct Reference {
    pub state: State,
    /// Of each committed entry, from the one after `ORIGIN`: its term, its bytes' hash, and the state's hash after it.
    entries: Vec<(u64, u64, u64)>,
    /// The largest time in an entry.
    at: i64,
    pub emissions: Vec<Emission>,
    /// What every sink has to show, in this order.
    pub rows: Vec<Row>,
    /// Items and replica of entries, by index.
    bodies: BTreeMap<u64, (String, Vec<Item>)>,
    requests: BTreeSet<u64>,
    /// Of the last entry: sink, emission, item.
    letters: Vec<(String, u64, u32)>,
}

/// The book.
pub struct Ledger {
    pub shards: Vec<Reference>,
    /// Who led, by shard and term.
    leaders: BTreeMap<(u16, u64), u64>,
    /// The row that each sink of each shard has to show next, by epoch; those of epochs that are over stay as they are.
    shown: BTreeMap<(String, u16, u64), usize>,
    /// By request: the items, once answered 2xx.
    pub promised: BTreeMap<u64, Vec<Item>>,
    scraped: BTreeSet<(u64, i64, String)>,
    requests: u64,
    /// Snapshots taken; and whether a disk had little room, so that the log was not kept for those who were away.
    pub snapshots: usize,
    pub pressed: bool,
    /// The right time, and how far ahead of it any clock was that a leader believed.
    pub now: i64,
    ahead: i64,
    /// What became dead letters: sink, shard, emission, item.
    letters: BTreeSet<(String, u16, u64, u32)>,
    pub broken: Option<String>,
}

impl Ledger {
    pub fn new(shape: &Shape) -> Ledger {
        let reference = |shard| Reference {
            state: State::new(ShardId(shard)),
            entries: Vec::new(),
            at: 0,
            emissions: Vec::new(),
            rows: Vec::new(),
            bodies: BTreeMap::new(),
            requests: BTreeSet::new(),
            letters: Vec::new(),
        };
        Ledger {
            shards: (0..=shape.data_shards).map(reference).collect(),
            leaders: BTreeMap::new(),
            shown: BTreeMap::new(),
            promised: BTreeMap::new(),
            scraped: BTreeSet::new(),
            requests: 0,
            snapshots: 0,
            pressed: false,
            now: 0,
            ahead: 0,
            letters: BTreeSet::new(),
            broken: None,
        }
    }

    fn claim(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.broken.is_none() {
            self.broken = Some(what());
        }
    }

    /// A replica has scraped this: the number of the request that carries it.
    pub fn scraped(&mut self, replica: &str, items: &[Item]) -> u64 {
        self.scraped.extend(items.iter().map(|item| (item.series, item.time, replica.to_owned())));
        self.requests += 1;
        self.requests
    }

    /// A sender has its 2xx.
    pub fn acknowledged(&mut self, request: &Request) {
        self.promised.insert(request.id, request.items.clone());
    }

    /// A member says that it leads. Whether that is news.
    pub fn leads(&mut self, shard: ShardId, term: u64, id: u64) -> bool {
        let known = self.leaders.len();
        let first = *self.leaders.entry((shard.0, term)).or_insert(id);
        self.claim(first == id, || format!("shard {} has two leaders in term {term}: members {first} and {id}", shard.0));
        self.leaders.len() > known
    }

    /// A member has applied this entry.
    pub fn applied(&mut self, shard: ShardId, place: Place, bytes: &[u8]) {
        let reference = &mut self.shards[usize::from(shard.0)];
        let (at, hash) = ((place.index - ORIGIN.index - 1) as usize, xxh3_64(bytes));
        if let Some(&(term, known, _)) = reference.entries.get(at) {
            return self.claim((term, known) == (place.term, hash), || {
                format!("shard {}: entry {} was committed in term {term}, and is another one in term {}", shard.0, place.index, place.term)
            });
        }
        if at != reference.entries.len() {
            return self.claim(false, || format!("shard {}: entry {} was applied before the one before it", shard.0, place.index));
        }
        if let Err(what) = reference.apply(place, bytes) {
            return self.claim(false, || format!("shard {}: {what}", shard.0));
        }
        let letters = std::mem::take(&mut reference.letters);
        self.letters.extend(letters.into_iter().map(|(sink, emission, item)| (sink, shard.0, emission, item)));
        let mut miscounted = None;
        // Where a sink begins is known when its cursor is there.
        if let State::Data(data) = &reference.state {
            for (sink, cursor) in &data.sinks.cursors {
                let emitted = reference.emissions.get((cursor.emission as usize).wrapping_sub(1)).map_or(0, Emission::samples_after);
                if emitted != cursor.samples {
                    miscounted = Some(format!("sink {sink} is done with {emitted} samples, and counts {}", cursor.samples));
                }
                self.shown.entry((sink.clone(), shard.0, cursor.epoch)).or_insert(cursor.samples as usize);
            }
        }
        let (at, most) = (reference.at, self.now + self.ahead + STRAY);
        self.claim(at <= most, || format!("shard {}: entry {} is of {at}, when no clock was later than {most}", shard.0, place.index));
        self.claim(miscounted.is_none(), || format!("shard {}: {}", shard.0, miscounted.unwrap_or_default()));
    }

    /// A leader stamps entries by a clock that says this.
    pub fn believes(&mut self, wall: i64) {
        self.ahead = self.ahead.max(wall - self.now);
    }

    /// A member's state after this entry.
    pub fn state(&mut self, shard: ShardId, index: u64, hash: u64) {
        let reference = &self.shards[usize::from(shard.0)];
        let Some(at) = index.checked_sub(ORIGIN.index + 1) else { return };
        let same = reference.entries.get(at as usize).is_some_and(|entry| entry.2 == hash);
        self.claim(same, || format!("shard {}: a member's state after entry {index} is another one", shard.0));
    }

    /// A member writes an emission.
    pub fn emitted(&mut self, shard: ShardId, emission: &Emission) {
        let known = self.shards[usize::from(shard.0)].emissions.get(emission.number as usize - 1);
        // Not known yet: the reference will come to the same, or the states differ.
        let same = known.is_none_or(|known| known == emission);
        self.claim(same, || format!("shard {}: emission {} is another one on another member", shard.0, emission.number));
    }

    /// The next row that a sink has to show, or why one that it may not show is not accounted for.
    fn past_letters(&self, sink: &str, shard: u16, mut next: usize) -> Result<usize, String> {
        let rows = &self.shards[usize::from(shard)].rows;
        while let Some(row) = rows.get(next).filter(|row| kafka::refuses(row)) {
            if !self.letters.contains(&(sink.to_owned(), shard, row.emission, row.item)) {
                return Err(format!("shard {shard}: {row:?} was refused, and is no dead letter of sink {sink}"));
            }
            next += 1;
        }
        Ok(next)
    }

    /// Rows have become visible in Kafka: always the next ones, but for those that were refused.
    pub fn visible(&mut self, (sink, epoch): (usize, u64), shard: ShardId, rows: &[Row]) {
        let name = sink::name(sink);
        let Some(mut next) = self.shown.get(&(name.clone(), shard.0, epoch)).copied() else {
            return self.claim(false, || format!("shard {}: sink {sink} shows rows of epoch {epoch}, which never was", shard.0));
        };
        for row in rows {
            next = match self.past_letters(&name, shard.0, next) {
                Ok(next) => next,
                Err(what) => return self.claim(false, || what),
            };
            let expected = self.shards[usize::from(shard.0)].rows.get(next).cloned();
            if expected.as_ref() != Some(row) {
                return self.claim(false, || format!("shard {}: sink {sink} shows {row:?}, next should be {expected:?}", shard.0));
            }
            next += 1;
        }
        self.shown.insert((name, shard.0, epoch), next);
    }

    /// A sink, of those there are in the end, that does not show everything.
    pub fn unshown(&self) -> Option<String> {
        for (shard, reference) in self.shards.iter().enumerate() {
            let State::Data(data) = &reference.state else { continue };
            for (sink, cursor) in &data.sinks.cursors {
                let shown = self.shown.get(&(sink.clone(), shard as u16, cursor.epoch)).copied().unwrap_or(0);
                let shown = match self.past_letters(sink, shard as u16, shown) {
                    Ok(shown) => shown,
                    Err(what) => return Some(what),
                };
                if shown != reference.rows.len() {
                    return Some(format!("shard {shard}: sink {sink} shows rows up to {shown} of {}", reference.rows.len()));
                }
            }
        }
        None
    }

    /// Whether a replica has scraped this.
    pub fn was_scraped(&self, row: &Row) -> bool {
        self.scraped.contains(&(row.series, row.time, row.replica.clone()))
    }

    /// Whether the log of any shard has this request.
    pub fn has(&self, request: u64) -> bool {
        self.shards.iter().any(|shard| shard.requests.contains(&request))
    }

    /// Terms that had a leader, of all shards.
    pub fn terms(&self) -> usize {
        self.leaders.len()
    }

    /// Entries committed, of all shards.
    pub fn committed(&self) -> usize {
        self.shards.iter().map(|shard| shard.entries.len()).sum()
    }
}

impl Reference {
    /// Index of the last entry.
    pub fn last(&self) -> u64 {
        ORIGIN.index + self.entries.len() as u64
    }

    fn apply(&mut self, place: Place, stored: &[u8]) -> Result<(), String> {
        // A change of members is Raft's, and nothing to the state.
        let bytes = if is_of_members(stored) { &[] } else { stored };
        if !bytes.is_empty() {
            let stamped = entry::parse(bytes).map_err(|error| error.to_string())?;
            if stamped.at < self.at {
                return Err(format!("time goes back at entry {}: from {} to {}", place.index, self.at, stamped.at));
            }
            self.at = stamped.at;
            if let Entry::Samples(samples) = &stamped.entry {
                let (request, replica, items) = Request::read(samples.body).map_err(|error| error.to_string())?;
                let digest = Digest::parse(samples.digest).map_err(|error| error.to_string())?;
                assert!(digest.iter().eq(items.iter().copied()), "the body is another one than the digest says");
                self.requests.insert(request);
                self.bodies.insert(place.index, (replica.to_owned(), items));
            }
        }
        match &mut self.state {
            State::Control(control) => {
                control.apply(place.index, bytes, &mut ControlEffects::default()).map_err(|error| error.to_string())?;
            }
            State::Data(data) => {
                let mut effects = Effects::default();
                data.apply(place.index, bytes, &mut effects).map_err(|error| error.to_string())?;
                self.letters.extend(effects.dead.into_iter().map(|(_, letter)| (letter.sink, letter.emission, letter.item)));
                for emission in effects.emissions {
                    let (replica, items) = &self.bodies[&emission.entry];
                    self.rows.extend(rows(&emission, replica, items));
                    self.emissions.push(emission);
                }
            }
        }
        self.entries.push((place.term, xxh3_64(stored), self.state.state_hash()));
        Ok(())
    }
}

/// The rows of an emission.
pub fn rows(emission: &Emission, replica: &str, items: &[Item]) -> Vec<Row> {
    let mut befores = emission.befores.iter().peekable();
    let row = |(place, pick): (usize, &crate::model::Pick)| {
        let Item { series, time, kind, .. } = items[pick.item as usize];
        let before = befores.next_if(|(of, _)| *of as usize == place).map(|(_, before)| *before);
        Row { emission: emission.number, item: pick.item, series, time, kind, late: pick.late, replica: replica.to_owned(), before }
    };
    emission.picks.iter().enumerate().map(row).collect()
}

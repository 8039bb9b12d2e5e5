//! Where the sinks of a shard are, and what each has become of what was emitted: emitted = delivered + filtered + dead + dropped + pending.

use std::collections::BTreeMap;

use crate::shard::codec::Malformed;
use crate::shard::codec::Reader;
use crate::shard::codec::Writer;
use crate::shard::command::CursorMove;
use crate::shard::command::DropUpTo;
use crate::shard::command::NewEpoch;
use crate::shard::command::SinkSettings;
use crate::shard::command::Start;

/// Names of removed sinks whose epochs are remembered, so that a sink that is added again does not take up an old position in Kafka.
const REMOVED: usize = 256;

/// One sink's cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Positions count only with it.
    pub epoch: u64,
    /// The last emission that is done.
    pub emission: u64,
    /// Samples done, by what became of them.
    pub delivered: u64,
    /// Not wanted.
    pub filtered: u64,
    /// Refused for good.
    pub dead: u64,
    /// Let go by the budget, or skipped by a new epoch.
    pub dropped: u64,
    /// Samples that the shard had emitted up to `emission`: what it has emitted since is pending.
    pub samples: u64,
    /// An operator holds the sink.
    pub paused: bool,
}

impl Cursor {
    /// All that is done.
    pub fn done(&self) -> u64 {
        self.delivered + self.filtered + self.dead + self.dropped
    }
}

/// All sinks of a shard.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sinks {
    /// By name.
    pub cursors: BTreeMap<String, Cursor>,
    /// Changes when sinks come, go, begin anew, are held or let go on.
    pub version: u64,
    pub(super) removed: BTreeMap<String, u64>,
}

impl Sinks {
    /// The last emission that every sink is done with; `None`: there is no sink.
    pub fn slowest(&self) -> Option<u64> {
        self.cursors.values().map(|cursor| cursor.emission).min()
    }

    /// `last`: the shard's last emission, and how many samples it has emitted.
    pub(super) fn configure(&mut self, sinks: &[SinkSettings], last: (u64, u64)) {
        let oldest = self.cursors.values().map(|cursor| (cursor.emission, cursor.samples)).min().unwrap_or(last);
        let gone: Vec<String> = self.cursors.keys().filter(|name| sinks.iter().all(|sink| sink.name != **name)).cloned().collect();
        for name in gone {
            if let Some(cursor) = self.cursors.remove(&name) {
                self.removed.insert(name, cursor.epoch);
                self.version += 1;
            }
        }
        while self.removed.len() > REMOVED {
            self.removed.pop_first();
        }
        for sink in sinks {
            if self.cursors.contains_key(&sink.name) {
                continue;
            }
            let epoch = self.removed.remove(&sink.name).unwrap_or(0) + 1;
            let (emission, samples) = if sink.start == Start::Oldest { oldest } else { last };
            self.cursors.insert(sink.name.clone(), Cursor { epoch, emission, samples, ..Cursor::default() });
            self.version += 1;
        }
    }

    fn with_epoch(&mut self, sink: &str, epoch: u64) -> Result<&mut Cursor, String> {
        match self.cursors.get_mut(sink) {
            None => Err(format!("there is no sink `{sink}`")),
            Some(cursor) if cursor.epoch != epoch => Err(format!("sink `{sink}` has epoch {}, not {epoch}", cursor.epoch)),
            Some(cursor) => Ok(cursor),
        }
    }

    pub(super) fn moved(&mut self, moved: &CursorMove, last: u64) -> Option<String> {
        let cursor = match self.with_epoch(&moved.sink, moved.epoch) {
            Ok(cursor) => cursor,
            Err(reason) => return Some(reason),
        };
        if moved.emission < cursor.emission || moved.emission > last {
            return Some(format!("emission {} is not between {} and {last}", moved.emission, cursor.emission));
        }
        let done = moved.samples.saturating_sub(cursor.samples);
        let filtered = moved.filtered.min(done);
        let dead = moved.dead.min(done - filtered);
        cursor.emission = moved.emission;
        cursor.filtered += filtered;
        cursor.dead += dead;
        cursor.delivered += done - filtered - dead;
        cursor.samples += done;
        None
    }

    pub(super) fn epoch(&mut self, epoch: &NewEpoch, last: u64) -> Option<String> {
        let oldest = self.slowest().unwrap_or(last);
        let cursor = match self.with_epoch(&epoch.sink, epoch.epoch) {
            Ok(cursor) => cursor,
            Err(reason) => return Some(reason),
        };
        if epoch.emission < oldest || epoch.emission > last {
            return Some(format!("emission {} is not among those kept, {oldest} to {last}", epoch.emission));
        }
        cursor.epoch += 1;
        cursor.emission = epoch.emission;
        cursor.dropped = cursor.dropped.saturating_add(epoch.samples.saturating_sub(cursor.samples));
        cursor.samples = epoch.samples;
        self.version += 1;
        None
    }

    pub(super) fn dropped(&mut self, drop: &DropUpTo, last: u64) -> Option<String> {
        let cursor = match self.with_epoch(&drop.sink, drop.epoch) {
            Ok(cursor) => cursor,
            Err(reason) => return Some(reason),
        };
        if drop.up_to <= cursor.emission || drop.up_to > last {
            return Some(format!("emission {} is not between {} and {last}", drop.up_to, cursor.emission));
        }
        cursor.epoch += 1;
        cursor.emission = drop.up_to;
        cursor.dropped = cursor.dropped.saturating_add(drop.samples.saturating_sub(cursor.samples));
        cursor.samples = drop.samples;
        self.version += 1;
        None
    }

    /// Saying what is so already is no harm.
    pub(super) fn pause(&mut self, sink: &str, paused: bool) -> Option<String> {
        let Some(cursor) = self.cursors.get_mut(sink) else { return Some(format!("there is no sink `{sink}`")) };
        self.version += u64::from(cursor.paused != paused);
        cursor.paused = paused;
        None
    }

    pub(super) fn write(&self, out: &mut Writer<'_>) {
        out.number(self.version);
        out.number(self.cursors.len() as u64);
        for (name, cursor) in &self.cursors {
            out.text(name);
            let Cursor { epoch, emission, delivered, filtered, dead, dropped, samples, paused } = *cursor;
            [epoch, emission, delivered, filtered, dead, dropped, samples].into_iter().for_each(|n| out.number(n));
            out.byte(u8::from(paused));
        }
        out.number(self.removed.len() as u64);
        for (name, epoch) in &self.removed {
            out.text(name);
            out.number(*epoch);
        }
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Sinks, Malformed> {
        let mut sinks = Sinks { version: from.number()?, ..Sinks::default() };
        for _ in 0..from.count(9)? {
            let name = from.text()?.to_owned();
            let cursor = Cursor {
                epoch: from.number()?,
                emission: from.number()?,
                delivered: from.number()?,
                filtered: from.number()?,
                dead: from.number()?,
                dropped: from.number()?,
                samples: from.number()?,
                paused: from.byte()? != 0,
            };
            sinks.cursors.insert(name, cursor);
        }
        for _ in 0..from.count(2)? {
            sinks.removed.insert(from.text()?.to_owned(), from.number()?);
        }
        Ok(sinks)
    }
}

//! The log's account of a sink: what was done since the last cursor entry, and when to write the next.
//!
//! A step holds the samples since the step before, so a step whose outcome is unknown must not be counted twice: the cursor is read again
//! before the next one.

use std::time::Duration;
use std::time::Instant;

use crate::forward::source::Cursor;
use crate::forward::source::Source;
use crate::forward::source::SourceError;
use crate::forward::source::Step;

/// A cursor entry is small; once a second lets bodies go soon and costs nothing.
const EVERY: Duration = Duration::from_secs(1);

/// What became of samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Delivered.
    pub delivered: u64,
    /// Not wanted, or without a form in which it could go.
    pub filtered: u64,
    /// Dead letters.
    pub dead: u64,
}

impl Tally {
    /// All of them.
    pub fn samples(&self) -> u64 {
        self.delivered + self.filtered + self.dead
    }

    /// Adds.
    pub fn add(&mut self, other: &Tally) {
        self.delivered += other.delivered;
        self.filtered += other.filtered;
        self.dead += other.dead;
    }
}

/// One epoch's account.
#[derive(Debug)]
pub struct Book {
    epoch: u64,
    /// The last emission of the last step known to be committed.
    cursor: u64,
    /// The last emission that is done.
    position: u64,
    /// Done since the last step.
    owed: Tally,
    unclear: Option<Step>,
    last: Option<Instant>,
}

impl Book {
    /// Begins at the log's cursor.
    pub fn new(cursor: &Cursor) -> Book {
        Book { epoch: cursor.epoch, cursor: cursor.emission, position: cursor.emission, owed: Tally::default(), unclear: None, last: None }
    }

    /// The epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The last emission that is done.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Everything up to this emission is done. Emissions that were done again (Kafka had lost them) do not count twice.
    pub fn advance(&mut self, emission: u64, tally: &Tally) {
        if emission > self.position && emission > self.cursor {
            self.owed.add(tally);
        }
        self.position = emission;
    }

    /// Samples that are in Kafka by its own position, but in no step yet: a predecessor was killed between the two.
    pub fn inherit(&mut self, position: u64, source: &dyn Source) -> Result<(), SourceError> {
        let mut after = self.position;
        while after < position {
            let batch = source.emissions(after, 100_000)?;
            if batch.is_empty() {
                break;
            }
            for emission in batch.iter().filter(|emission| emission.number <= position) {
                self.owed.delivered += emission.picks.len() as u64;
            }
            after = batch.last().map_or(position, |emission| emission.number);
        }
        self.position = position;
        Ok(())
    }

    /// Writes a step if one is due (or `at_once`, when the worker ends). `Ok(false)`: the epoch has passed.
    pub fn settle(&mut self, source: &dyn Source, now: Instant, at_once: bool) -> Result<bool, SourceError> {
        let rested = self.last.is_none_or(|last| now.saturating_duration_since(last) >= EVERY);
        if self.position <= self.cursor || !(rested || at_once) {
            return Ok(true);
        }
        self.last = Some(now);
        if let Some(step) = self.unclear.take() {
            match source.cursor()? {
                Some(cursor) if cursor.epoch != self.epoch => return Ok(false),
                Some(cursor) if cursor.emission >= step.emission => self.done(&step),
                Some(_) => {}
                None => return Ok(false),
            }
        }
        if self.position <= self.cursor {
            return Ok(true);
        }
        let Tally { delivered, filtered, dead } = self.owed;
        let step = Step { epoch: self.epoch, emission: self.position, delivered, filtered, dead };
        match source.step(step) {
            Ok(()) => self.done(&step),
            Err(SourceError::Busy) => {}
            Err(SourceError::Unknown) => self.unclear = Some(step),
            Err(SourceError::Void(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    fn done(&mut self, step: &Step) {
        self.cursor = step.emission;
        self.owed.delivered -= step.delivered;
        self.owed.filtered -= step.filtered;
        self.owed.dead -= step.dead;
    }
}

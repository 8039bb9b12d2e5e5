//! What a sink's worker needs of its shard, and no more: so that tests can stand in for the log.
//!
//! All calls may block; they are made from the worker's own thread. `forward::shard_log` is the real one.

use std::sync::Arc;
use std::time::Duration;

use crate::forward::rows::Row;
use crate::shard::emission::Emission;
use crate::wire::body::Picked;

/// How far the shard has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Number of the last emission; 0: none yet.
    pub last_emission: u64,
    /// Number of the oldest one that is kept.
    pub oldest_emission: u64,
    /// Samples emitted since the shard began.
    pub samples: u64,
    /// Changes when a sink was added, rewound, cut, held, let go on or removed.
    pub sinks_version: u64,
    /// Whether this node leads the shard: only then its sinks run here.
    pub leads: bool,
    /// The shard's time, ms since 1970.
    pub at: i64,
}

/// A sink's place in this shard as the log knows it, and its budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Positions count only with this epoch.
    pub epoch: u64,
    /// Number of the last emission that is done.
    pub emission: u64,
    /// Samples since the sink was added, by what became of them.
    pub delivered: u64,
    /// Not wanted by the sink.
    pub filtered: u64,
    /// Refused for good.
    pub dead: u64,
    /// Let go by the budget.
    pub dropped: u64,
    /// Emitted and not done.
    pub pending: u64,
    /// Bytes of the log that stay for it.
    pub pending_bytes: u64,
    /// Age of the oldest that is not done, ms.
    pub pending_ms: i64,
    /// The budget in bytes.
    pub budget_bytes: u64,
    /// At the present rate the budget is used up in so many seconds.
    pub seconds_left: Option<u64>,
    /// An operator holds the sink, wherever its shard is led.
    pub paused: bool,
}

/// A step of the cursor: what became of the samples since the last step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The present epoch.
    pub epoch: u64,
    /// Number of the last emission that is done.
    pub emission: u64,
    /// Samples delivered.
    pub delivered: u64,
    /// Samples not wanted.
    pub filtered: u64,
    /// Samples refused for good.
    pub dead: u64,
}

/// A row refused for good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dead {
    /// Its emission.
    pub emission: u64,
    /// Its place in body order.
    pub item: u32,
    /// Why.
    pub reason: String,
    /// The row as encoded; the log keeps at most 64 KiB of it.
    pub payload: Vec<u8>,
    /// Whose it is; empty: nobody's.
    pub tenant: String,
}

/// Why the shard did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Another node leads, or the node stops.
    #[error("this node does not lead the shard any more")]
    NotLeading,
    /// Too much to do; try later.
    #[error("the shard has too much to do")]
    Busy,
    /// It may or may not have been committed.
    #[error("it is not known whether it was committed")]
    Unknown,
    /// Committed and without effect, as with an epoch that has passed.
    #[error("the shard would not have it: {0}")]
    Void(String),
    /// The disk, or bytes that do not parse.
    #[error("the shard's log cannot be read: {0}")]
    Unreadable(String),
}

/// One shard, as seen by one sink.
pub trait Source: Send + Sync + 'static {
    /// How far the shard has come. Cheap.
    fn standing(&self) -> Standing;
    /// Waits until the standing changes, or for so long.
    fn wait(&self, seen: &Standing, at_most: Duration);
    /// The sink's place; `None`: the shard has no such sink (any more).
    fn cursor(&self) -> Result<Option<Cursor>, SourceError>;
    /// Emissions after this number, in order: at least one if there is one, and about as many samples.
    fn emissions(&self, after: u64, samples: usize) -> Result<Vec<Arc<Emission>>, SourceError>;
    /// Shows every row of an emission that the sink wants, in order; says how many it does not want. `None`: the emission's body is gone.
    fn rows(&self, emission: &Emission, visit: &mut dyn FnMut(&Row<'_>)) -> Result<Option<u64>, SourceError>;
    /// The same of its points, which are shown as they stand in the body but for their labels.
    fn points(&self, emission: &Emission, visit: &mut dyn FnMut(&Picked<'_, '_>)) -> Result<Option<u64>, SourceError>;
    /// Returns when the step is committed.
    fn step(&self, step: Step) -> Result<(), SourceError>;
    /// Returns when the dead letter is committed.
    fn bury(&self, dead: Dead) -> Result<(), SourceError>;
    /// The same of several. An error is that of one of them; others may be committed.
    fn bury_all(&self, dead: Vec<Dead>) -> Result<(), SourceError> {
        dead.into_iter().try_for_each(|one| match self.bury(one) {
            Err(SourceError::Void(_)) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        })
    }
}

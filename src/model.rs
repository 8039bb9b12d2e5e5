//! The words that every part shares: what a sample is, which protocol carried it, which shard holds it.
//!
//! Plain values only: no IO, no clock, and of serde no more than that labels are written the same everywhere. Wire formats live in `wire`, disk formats in `shard`
//! and `store`.

pub mod alert;
pub mod labels;
pub mod tenant;

/// What one point of a series is. The numbers are part of the digest's format and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A float sample.
    Float = 0,
    /// A native histogram.
    Histogram = 1,
    /// A stale marker: a float sample (or a native histogram's sum) whose bits are [`STALE_NAN`].
    Stale = 2,
    /// An exemplar; it hangs on a series and is no sample of it.
    Exemplar = 3,
}

impl Kind {
    /// The kind with this number, if there is one.
    pub fn from_number(number: u8) -> Option<Kind> {
        match number {
            0 => Some(Kind::Float),
            1 => Some(Kind::Histogram),
            2 => Some(Kind::Stale),
            3 => Some(Kind::Exemplar),
            _ => None,
        }
    }
}

/// The bit pattern of Prometheus' stale marker (a signalling NaN; `model/value` of prometheus).
pub const STALE_NAN: u64 = 0x7ff0_0000_0000_0002;

/// In place of a value's bits: nobody said what the value is. No sample has it, since these bits are a marker's.
pub const NO_VALUE: u64 = STALE_NAN;

/// A sample that was forwarded before another one of its series: what an increase is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// Milliseconds since 1970.
    pub time: i64,
    /// Bits of its value.
    pub bits: u64,
}

/// One point of a request in the form on which the shard decides: no labels, no value.
///
/// Items stand in *body order*: series as on the wire; within a series samples, then histograms, then exemplars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// Hash of the labels without the replica labels, by the cluster's seed; the order of labels does not matter
    /// (`wire::remote_write::series_hash`).
    pub series: u64,
    /// Milliseconds since 1970.
    pub time: i64,
    /// Sample, histogram, marker or exemplar.
    pub kind: Kind,
    /// Refused at the door (bad series, too far in the future, over a limit): counted in body order, never forwarded.
    pub refused: bool,
}

/// One point of an entry that goes out: its place in body order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// Index in body order of the entry's body.
    pub item: u32,
    /// Older than what had been forwarded of its series.
    pub late: bool,
}

/// Number of a shard: 0 is the control shard, data shards count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The shard of members, settings and the group table; it carries no samples.
    pub const CONTROL: ShardId = ShardId(0);
}

/// The name of a group of which a sample knows none (`groups.unidentified: forward`).
pub const NO_GROUP: &str = "-";
/// The name of the replica of samples that carry no replica label.
pub const NO_REPLICA: &str = "";

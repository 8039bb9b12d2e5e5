//! What passed: numbered lists of places in entries. Sinks read these, in order, and fetch the bodies.

use crate::model::Pick;

/// At most so many picks are in one emission.
pub const MAX_PICKS: usize = 10_000;

/// Samples of one entry that go out together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Emission {
    /// Per shard, from 1, without gaps.
    pub number: u64,
    /// The entry whose body holds the samples.
    pub entry: u64,
    /// The shard's time when they passed, ms.
    pub at: i64,
    /// The group.
    pub group: String,
    /// The replica that sent them.
    pub replica: String,
    /// Samples emitted by this shard before this emission.
    pub samples_before: u64,
    /// Log bytes that this shard kept for sinks before this emission.
    pub bytes_before: u64,
    /// Neither this emission nor a later one needs an entry below.
    pub floor: u64,
    /// Ascending by item.
    pub picks: Vec<Pick>,
}

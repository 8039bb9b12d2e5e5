//! Sinks: what passed leaves here. Each sink of each shard has a worker of its own, which reads emissions after its position, encodes
//! them and delivers them, so that no sink ever waits for another.
//!
//! Deliberately absent: a queue of samples (a sink reads the shard's log at its own pace) and any decision about what passes (that was
//! made by `dedup`, is in the log, and is the same for every sink).

pub mod adapter;
pub mod format;
pub mod pack;
pub mod rows;
pub mod settings;
pub mod source;
pub mod text;
pub mod trouble;

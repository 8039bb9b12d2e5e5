//! What is asked of a node's shards, and why it may be refused.

use bytes::Bytes;
use std::sync::Arc;

use crate::model::ShardId;
use crate::wire::body::Body;
use crate::wire::pack::Packing;
use crate::wire::remote_write::Protocol;

/// One replica's samples of one group, digested, to be committed.
pub struct Offer {
    /// The group; its shard must have been assigned (`Handle::assign`).
    pub group: String,
    /// The replica; empty where the samples carry no such label.
    pub replica: String,
    /// How `body` is written.
    pub protocol: Protocol,
    /// How `body` is packed.
    pub packing: Packing,
    /// Labels that no sink is ever given (the replica labels).
    pub strip: Vec<String>,
    /// The settings version by which it was digested (`Handle::settings_version`).
    pub settings: u64,
    /// `wire::digest`, encoded.
    pub digest: Vec<u8>,
    /// The packed request.
    pub body: Bytes,
    /// The same unpacked, if at hand: sinks then need not unpack it again.
    pub unpacked: Option<Arc<Body>>,
    /// Now and then: the smallest hashes of its series without the group's own labels. Evidence only, and not in the log.
    pub bare: Vec<u64>,
    /// Dropped once the bytes are no longer held.
    pub claim: Option<Box<dyn Send + Sync>>,
}

/// What was struck from an offer, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Struck {
    /// Float samples, stale markers included.
    pub samples: u64,
    /// Native histograms.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
}

/// Why an offer was not taken, or not all of it. All but `Settings`, `TooLarge` and `NewSeries` mean: try again later (503).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// A queue or budget is full.
    #[error("overloaded: {reason}")]
    Overloaded {
        /// Which one: `slots`, `bytes`, `log`, `sink_budget`, or a rate of the group (`node::group_limits`).
        reason: &'static str,
    },
    /// Free space is below the reserve.
    #[error("the disk is nearly full: free space is below the reserve")]
    DiskFull,
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
    /// Another node leads the shard, or none.
    #[error("this node does not lead shard {shard}")]
    NotLeader {
        /// Which shard.
        shard: u16,
        /// Who leads it, if known: a node's id.
        leader: Option<u64>,
    },
    /// It was proposed but its outcome is unknown: leadership changed.
    #[error("it is not known whether it was committed")]
    Unknown,
    /// Digested by other settings than the shard has: digest it again.
    #[error("digested by settings {offered}, the shard has {applied}")]
    Settings {
        /// The offer's.
        offered: u64,
        /// The shard's.
        applied: u64,
    },
    /// Committed, but for samples of new series: the group has as many series as it may have.
    #[error("samples of new series were refused: the group has {series} series, at most {limit} are taken")]
    NewSeries {
        /// What was refused.
        struck: Struck,
        /// The group's series.
        series: u64,
        /// The most that it may have.
        limit: u64,
    },
    /// The group has no shard yet: `assign` first.
    #[error("the group has no shard yet")]
    Unassigned,
    /// Larger than any entry may be.
    #[error("{bytes} bytes are more than an entry may hold ({limit})")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
}

impl OfferError {
    /// Whether the sender may simply send it again.
    pub fn retryable(&self) -> bool {
        !matches!(self, OfferError::TooLarge { .. } | OfferError::NewSeries { .. })
    }

    /// A short fixed word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            OfferError::Overloaded { reason } => reason,
            OfferError::DiskFull => "disk_full",
            OfferError::Stopping => "stopping",
            OfferError::NotLeader { .. } => "not_leader",
            OfferError::Unknown => "unknown",
            OfferError::Settings { .. } => "settings",
            OfferError::Unassigned => "unassigned",
            OfferError::TooLarge { .. } => "too_large",
            OfferError::NewSeries { .. } => "new_series",
        }
    }
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// 1024 wait already.
    #[error("too many requests wait for shard {0}")]
    Busy(u16),
    /// Another node leads the shard, or none.
    #[error("this node does not lead shard {0}")]
    NotLeader(u16),
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
    /// Its outcome is not known.
    #[error("it is not known whether it was committed")]
    Unknown,
    /// There is no such shard.
    #[error("there is no shard {0}")]
    NoShard(u16),
    /// Committed, but void when applied: the reason.
    #[error("{0}")]
    Void(String),
}

/// What came of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The entry's index.
    pub index: u64,
    /// `Assign`: the shard.
    pub shard: Option<ShardId>,
}

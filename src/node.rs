//! (being written) One node: threads that drive the shards, and the handle by which everything above uses them.

pub mod offer;
pub mod view;

use std::sync::Arc;
use tokio::sync::watch;

use crate::model::ShardId;
use crate::node::offer::Applied;
use crate::node::offer::Offer;
use crate::node::offer::OfferError;
use crate::node::offer::ProposeError;
use crate::node::view::CursorView;
use crate::node::view::GroupView;
use crate::node::view::NodeStats;
use crate::node::view::Progress;
use crate::shard::command::Command;
use crate::shard::command::DeadLetter;
use crate::shard::emission::Emission;
use crate::shard::standin::Body;

/// Why a read failed. Any of these is a defect of the disk: the node is about to end.
#[derive(Debug, thiserror::Error)]
#[error("the store cannot be read: {0}")]
pub struct ReadError(pub String);

/// Everything above the shards uses them by this.
#[derive(Clone)]
pub struct Handle {
    _inner: Arc<()>,
}

impl Handle {
    /// Resolves when the offer is committed on a majority.
    pub async fn offer(&self, _offer: Offer) -> Result<(), OfferError> {
        Err(OfferError::Stopping)
    }

    /// Resolves when the command has been applied.
    pub async fn propose(&self, _shard: ShardId, _command: Command) -> Result<Applied, ProposeError> {
        Err(ProposeError::Stopping)
    }

    /// The data shards.
    pub fn shards(&self) -> &[ShardId] {
        &[]
    }

    /// How far the shard has come.
    pub fn progress(&self, shard: ShardId) -> watch::Receiver<Progress> {
        let _ = shard;
        watch::channel(Progress::default()).1
    }

    /// Emissions after the number, in order, until `max_samples` are reached (at least one, if there is one). Blocking: not on an async worker.
    pub fn emissions(&self, _shard: ShardId, _after: u64, _max_samples: usize) -> Result<Vec<Arc<Emission>>, ReadError> {
        Ok(Vec::new())
    }

    /// The unpacked body of an entry. Blocking.
    pub fn body(&self, _shard: ShardId, _entry: u64) -> Result<Option<Arc<Body>>, ReadError> {
        Ok(None)
    }

    /// The shard of a group, if it has one.
    pub fn group(&self, _name: &str) -> Option<ShardId> {
        None
    }

    /// The shard of a group; gives it one first if it has none.
    pub async fn assign(&self, _name: &str) -> Result<ShardId, ProposeError> {
        Err(ProposeError::Stopping)
    }

    /// The settings version that offers must name.
    pub fn settings_version(&self) -> u64 {
        0
    }

    /// The cluster's seed of series hashes.
    pub fn hash_seed(&self) -> u64 {
        0
    }

    /// All groups, a second old at most.
    pub fn groups(&self) -> Vec<GroupView> {
        Vec::new()
    }

    /// Where the sinks stand in this shard; up to date as of the last `Progress`.
    pub fn cursors(&self, _shard: ShardId) -> Vec<CursorView> {
        Vec::new()
    }

    /// Dead letters of a sink in a shard after a number, at most so many. Blocking.
    pub fn dead(&self, _shard: ShardId, _sink: &str, _after: u64, _limit: usize) -> Result<Vec<(u64, DeadLetter)>, ReadError> {
        Ok(Vec::new())
    }

    /// Figures for `/metrics`.
    pub fn stats(&self) -> NodeStats {
        NodeStats::default()
    }
}

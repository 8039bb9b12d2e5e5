//! What apply decided of each sample, for whoever listens: `sluice tap`.
//!
//! One channel for all shards, bounded; a shard's thread puts into it only while somebody listens, and waits for nobody. Listeners that are too slow miss
//! batches, and are told how many. What a sample says (labels, value) is looked up by the listener, off the shard's thread.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::dedup::judged::Fates;
use crate::model::ShardId;
use crate::model::tenant;
use crate::node::Handle;
use crate::node::ReadError;
use crate::node::worker::Worker;
use crate::shard::entry;
use crate::shard::entry::Entry;
use crate::shard::member::State;
use crate::wire::body::Body;
use crate::wire::pack;
use crate::wire::pack::Bounds;

/// Batches that a listener may be behind: of 16,384 samples at most, so 25 MB at worst.
const BEHIND_MAX: usize = 64;

/// What one turn of a shard decided.
#[derive(Debug)]
pub struct Batch {
    /// Which shard.
    pub shard: ShardId,
    /// What became of its items.
    pub fates: Fates,
}

/// Where shards tell, and listeners subscribe.
pub(super) struct FateTap {
    batches: broadcast::Sender<Arc<Batch>>,
}

impl Default for FateTap {
    fn default() -> FateTap {
        FateTap { batches: broadcast::channel(BEHIND_MAX).0 }
    }
}

/// One listener.
#[derive(Debug)]
pub struct Listener {
    batches: broadcast::Receiver<Arc<Batch>>,
}

impl Listener {
    /// The next batch, and how many were missed before it; `None`: the node is gone.
    pub async fn next(&mut self) -> Option<(Arc<Batch>, u64)> {
        let mut missed = 0;
        loop {
            match self.batches.recv().await {
                Ok(batch) => return Some((batch, missed)),
                Err(broadcast::error::RecvError::Lagged(batches)) => missed += batches,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// One replica's samples as they stand in the log.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The group.
    pub group: String,
    /// The replica; empty: of none.
    pub replica: String,
    /// The request, unpacked.
    pub body: Arc<Body>,
}

impl Handle {
    /// What is decided of all samples from now on, as this node applies it.
    pub fn fates(&self) -> Listener {
        Listener { batches: self.shared.fates.batches.subscribe() }
    }

    /// The samples of an entry; `None`: it has been let go. May block.
    pub fn sent(&self, shard: ShardId, number: u64) -> Result<Option<Sent>, ReadError> {
        let Some(stored) = self.shared.store.log_entry(shard, number).map_err(ReadError::new)? else { return Ok(None) };
        let wrong = |error: &dyn std::fmt::Display| ReadError(format!("entry {number} of shard {}: {error}", shard.0));
        let stamped = entry::parse(&stored).map_err(|error| wrong(&error))?;
        let Entry::Samples(samples) = stamped.entry else { return Ok(None) };
        let mut raw = Vec::new();
        pack::unpack(samples.packing, samples.body, Bounds::default(), &mut raw).map_err(|error| wrong(&error))?;
        let strip = samples.strip.iter().map(|label| (*label).to_owned()).collect();
        let body = Arc::new(Body { protocol: samples.protocol, raw, strip, tenant: tenant::of(samples.group).to_owned() });
        Ok(Some(Sent { group: samples.group.to_owned(), replica: samples.replica.to_owned(), body }))
    }
}

impl Worker {
    /// Before entries are applied: whether anybody wants to know.
    pub(super) fn mind_listeners(&mut self) {
        if let State::Data(data) = &mut self.member.state {
            data.listen(self.shared.fates.batches.receiver_count() > 0);
        }
    }

    /// After it.
    pub(super) fn tell_fates(&self, fates: Fates) {
        if !fates.is_empty() {
            // An error only says that nobody listens any more.
            let _ = self.shared.fates.batches.send(Arc::new(Batch { shard: self.lane.shard, fates }));
        }
    }
}

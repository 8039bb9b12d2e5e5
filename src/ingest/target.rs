//! What ingest needs of the shards, and no more: so that its tests can stand in for them.

use std::future::Future;

use crate::dedup::detect::Hint;
use crate::model::ShardId;
use crate::node::Handle;
use crate::node::offer::Offer;
use crate::node::offer::OfferError;
use crate::node::offer::ProposeError;

/// Takes offers.
pub trait Target: Send + Sync + 'static {
    /// Resolves when the offer is committed.
    fn offer(&self, offer: Offer) -> impl Future<Output = Result<(), OfferError>> + Send;
    /// The shard of a group, if it has one.
    fn group(&self, name: &str) -> Option<ShardId>;
    /// Gives a group a shard.
    fn assign(&self, name: &str) -> impl Future<Output = Result<ShardId, ProposeError>> + Send;
    /// How many groups there are; asked only when a new one comes.
    fn known_groups(&self) -> usize;
    /// The settings that offers to this shard must name.
    fn settings_version(&self, shard: ShardId) -> u64;
    /// The seed of series hashes.
    fn hash_seed(&self) -> u64;
    /// Something made us doubt a replica. Best effort.
    fn doubt(&self, group: &str, replica: &str, hint: Hint);
}

impl Target for Handle {
    async fn offer(&self, offer: Offer) -> Result<(), OfferError> {
        Handle::offer(self, offer).await
    }

    fn group(&self, name: &str) -> Option<ShardId> {
        Handle::group(self, name)
    }

    async fn assign(&self, name: &str) -> Result<ShardId, ProposeError> {
        Handle::assign(self, name).await
    }

    fn known_groups(&self) -> usize {
        self.groups().len()
    }

    fn settings_version(&self, shard: ShardId) -> u64 {
        Handle::settings_version(self, shard)
    }

    fn hash_seed(&self) -> u64 {
        Handle::hash_seed(self)
    }

    fn doubt(&self, group: &str, replica: &str, hint: Hint) {
        self.hint(group, replica, hint);
    }
}

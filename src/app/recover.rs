//! When the majority is gone for good: one node that is left goes on alone, with what it has. What was acknowledged and never came to it is lost, so
//! this is asked for in words, by hand, on a stopped node; without them it only says what would be done.
//!
//! It makes the node the only member of every shard. At its next start it takes the others off the list of nodes and gives every sink a new epoch:
//! the one that is gone may have delivered more than this node knows of, and that position must not be taken for its own. Then others are added
//! (`sluice cluster add`), as to any node that grows.
//!
//! Left out on purpose: choosing the best of several survivors. Each says how far it has come; a person compares.

use crate::app;
use crate::app::Fault;
use crate::clock;
use crate::config::Config;
use crate::failpoint;
use crate::model::ShardId;
use crate::node::Handle;
use crate::node::offer::ProposeError;
use crate::peer::charter::Charter;
use crate::peer::charter::Founder;
use crate::secret::NodeSecrets;
use crate::shard::command::Command;
use crate::shard::command::NewEpoch;
use crate::shard::log;
use crate::shard::log::Remembered;
use crate::shard::members::Node as Seat;
use crate::shard::members::Nodes;
use crate::shard::members::Role;
use crate::store::Store;
use crate::store::batch::Batch;
use crate::store::mark::MOST_SHARDS;
use crate::store::open;

/// What a survivor has of a shard.
#[derive(Debug, PartialEq, Eq)]
pub struct Survivor {
    /// Which.
    pub shard: u16,
    /// Term and index of the last entry of its log: of several survivors the one with the later term, then the higher index, has more.
    pub last: (u64, u64),
    /// Up to here it knows that a majority had the log.
    pub committed: u64,
}

fn failed(error: impl std::fmt::Display) -> Fault {
    Fault::Start(error.to_string())
}

/// What the stopped node has; with `force`, it is the only member from now on.
pub fn recover(config: &Config, force: bool) -> Result<Vec<Survivor>, Fault> {
    let secrets = NodeSecrets::read(&config.data_dir).map_err(failed)?;
    let charter = Charter::read(&config.data_dir).map_err(failed)?;
    let (Some(secrets), Some(charter)) = (secrets, charter) else {
        return Err(failed("this node belongs to no cluster: there is nothing to recover"));
    };
    if app::identity(&config.data_dir)? != Some(secrets.id) {
        return Err(failed("this node has no data of its cluster: recover one that has"));
    }
    let store = open::open(&config.data_dir, clock::wall_ms()).map_err(failed)?.store;
    let mut survivors = Vec::new();
    for shard in (0..MOST_SHARDS as u16).map(ShardId) {
        let Some(raft) = store.raft(shard).map_err(failed)? else { break };
        let last_term = raft.terms.range(..=raft.last_index).next_back().map_or(raft.cut.1, |(_, term)| *term);
        survivors.push(Survivor { shard: shard.0, last: (last_term, raft.last_index), committed: raft.hard_state.2 });
        if force {
            alone(&store, shard, secrets.id, raft.last_index).map_err(failed)?;
            failpoint::reach(failpoint::Place::RecoverHalf);
        }
    }
    store.sync().map_err(failed)?;
    if force {
        failpoint::reach(failpoint::Place::RecoverUnwritten);
        let only = Founder { id: secrets.card.node.clone(), name: secrets.card.name.clone() };
        let charter = Charter { nodes: vec![only], recovered: true, ..charter };
        charter.write(&config.data_dir).map_err(failed)?;
    }
    store.close().map_err(failed)?;
    Ok(survivors)
}

/// This node is the shard's only member, also after what its log says of members is replayed.
pub(super) fn alone(store: &Store, shard: ShardId, id: u64, last: u64) -> Result<(), String> {
    let from = store.image(shard).map_err(|error| error.to_string())?.map_or(log::ORIGIN.index, |(index, _)| index) + 1;
    let mut batch = Batch::new(store, 1024);
    batch.members(shard, &Remembered::fresh(vec![id]).members_stored());
    for family in [crate::store::Family::LogLeader, crate::store::Family::LogStandby] {
        let mut of_members = Vec::new();
        let scanned = store.scan(family, shard, from, &mut |index, stored| {
            of_members.extend((index <= last && log::is_of_members(stored)).then_some(index));
            true
        });
        scanned.map_err(|error| error.to_string())?;
        of_members.into_iter().for_each(|index| batch.put(family, shard, index, &[]));
    }
    store.write(batch.seal()).map_err(|error| error.to_string())
}

/// The first start after it: the list of nodes and the sinks' epochs follow.
pub(super) async fn settle(node: &Handle, own: Seat) -> Result<(), ProposeError> {
    let nodes = node.nodes();
    let only = Nodes { version: nodes.version + 1, nodes: vec![Seat { role: Role::Member, ..own }] };
    node.propose(ShardId::CONTROL, Command::Nodes(only)).await?;
    new_epochs(node).await?;
    tracing::warn!("this node goes on alone with what it has; every sink began a new epoch and may repeat its last rows");
    Ok(())
}

/// Every sink begins anew where it is: the position that it finds in Kafka may be another's.
pub(super) async fn new_epochs(node: &Handle) -> Result<(), ProposeError> {
    for &shard in node.shards() {
        for cursor in node.cursors(shard).iter() {
            let epoch = NewEpoch { sink: cursor.sink.clone(), epoch: cursor.epoch, emission: cursor.emission, samples: 0 };
            match node.propose(shard, Command::Epoch(epoch)).await {
                // Void: a sink that has moved on meanwhile has an epoch of its own time.
                Ok(_) | Err(ProposeError::Void(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

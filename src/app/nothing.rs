//! The parts of a node that waits for its cluster, as `api` asks them: it has no shard and no sink yet, and says so in every answer.

use std::sync::Arc;

use crate::api::deps;
use crate::api::deps::Later;
use crate::model::ShardId;
use crate::node::ReadError;
use crate::node::offer::Applied;
use crate::node::offer::ProposeError;
use crate::node::view::GroupView;
use crate::node::view::NodeStats;
use crate::shard::command::Command;
use crate::shard::command::DeadLetter;
use crate::shard::pushed::Groups;
use crate::shard::tokens::Tokens;

/// Shards and sinks of a node that has none yet.
pub struct Nothing;

impl deps::Node for Nothing {
    fn shards(&self) -> Vec<ShardId> {
        Vec::new()
    }

    fn groups(&self) -> Vec<GroupView> {
        Vec::new()
    }

    fn stats(&self) -> NodeStats {
        NodeStats::default()
    }

    fn propose(&self, shard: ShardId, _: Command) -> Later<'_, Result<Applied, ProposeError>> {
        Box::pin(std::future::ready(Err(ProposeError::NotLeader(shard.0))))
    }

    fn tokens(&self) -> Arc<Tokens> {
        Arc::default()
    }

    fn pushed(&self) -> Arc<Groups> {
        Arc::default()
    }

    fn dead(&self, _: ShardId, _: &str, _: u64, _: usize) -> Result<Vec<(u64, DeadLetter)>, ReadError> {
        Ok(Vec::new())
    }
}

impl deps::Sinks for Nothing {
    fn list(&self) -> Vec<deps::Sink> {
        Vec::new()
    }

    fn tap(&self, _: &str) -> Option<Box<dyn deps::Rows>> {
        None
    }

    fn replay<'a>(&'a self, _: &'a str, _: deps::Letters) -> Later<'a, Result<deps::Replayed, deps::Refusal>> {
        Box::pin(std::future::ready(Err(deps::Refusal::Unknown)))
    }

    fn explain(&self, _: &str, _: Option<&str>) -> Result<Vec<deps::Explained>, String> {
        Ok(Vec::new())
    }

    fn test<'a>(&'a self, _: &'a str) -> Later<'a, Result<deps::Tried, deps::Refusal>> {
        Box::pin(std::future::ready(Err(deps::Refusal::Unknown)))
    }

    fn rewind<'a>(&'a self, _: &'a str, _: i64) -> Later<'a, Result<Vec<deps::Rewound>, deps::Refusal>> {
        Box::pin(std::future::ready(Err(deps::Refusal::Unknown)))
    }

    fn pause<'a>(&'a self, _: &'a str, _: bool) -> Later<'a, Result<(), deps::Refusal>> {
        Box::pin(std::future::ready(Err(deps::Refusal::Unknown)))
    }
}

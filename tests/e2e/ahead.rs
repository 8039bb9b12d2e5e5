//! Scenarios that take a minute and more: libtest begins tests in the order of their names, and what is begun late is waited for alone.

// Where their files look for them, and whence others look for the public ones (`scenarios.rs`).
use super::{alerting, backup, captures, files, increase, letters, loaded, store_nodes};

#[path = "balancer.rs"]
mod balancer;
#[path = "crash.rs"]
pub mod crash;
#[path = "double_failure.rs"]
mod double_failure;
#[path = "druid.rs"]
mod druid;
#[path = "edges.rs"]
mod edges;
#[path = "escalation.rs"]
mod escalation;
#[path = "failover.rs"]
mod failover;
#[path = "operator.rs"]
mod operator;
#[path = "partitions.rs"]
mod partitions;
#[path = "policies.rs"]
mod policies;
#[path = "restarts.rs"]
mod restarts;
#[path = "stores.rs"]
pub mod stores;
#[path = "topics.rs"]
pub mod topics;
#[path = "trio_disks.rs"]
mod trio_disks;

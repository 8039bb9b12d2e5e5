//! Probes: what is looked at from outside, by every node for itself, and what the nodes together make of it.
//!
//! - `ask`, `prometheus`, `watcher`: the Prometheus of the groups, once a second, as evidence for whoever leads their shards.
//!
//! Left out on purpose: who gets the results (`app` hands them on), and what a switch of leaders needs (`dedup`).

pub mod ask;
pub mod prometheus;
pub mod schedule;
pub mod verdict;
pub mod watcher;

//! sluice takes remote-write from pairs of Prometheus, lets exactly one copy of each sample through, and forwards it.
//!
//! The modules stand in reading order, from what is fixed to what is built of it; a module names only modules above it in this
//! list's layers (`tests/tidy.rs` checks that).
#![doc = include_str!("ARCHITECTURE.md")]

// The ground: text, sockets, numbers, time.
pub mod admission;
pub mod clock;
pub mod config;
pub mod failpoint;
pub mod secret;
pub mod serve;
pub mod telemetry;

#[cfg(test)]
mod mutate;

// The words.
pub mod model;

// Pure: bytes <-> model, and what passes.
pub mod alert;
pub mod dedup;
pub mod relabel;
pub mod wire;

// One Raft group as a value, and the disk below it.
pub mod shard;
pub mod store;

// Threads that drive the shards.
pub mod node;

// In and out.
pub mod api;
pub mod console;
pub mod forward;
pub mod ingest;
pub mod notify;
pub mod peer;
pub mod probe;

// What builds and starts it all.
pub mod app;
pub mod cli;

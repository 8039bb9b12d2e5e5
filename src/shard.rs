//! One Raft group as a value: what its log holds, how it is agreed on, and what follows from it. No clock, socket, thread or randomness.
//!
//! Read `entry` first (what stands in the log), then `data` and `control` (the two states that a log can mean), `emission` (what sinks
//! read), `replica` (agreement), and `member`, which joins one replica with one state; that is what threads (`node`) and the simulator drive.
//!
//! Left out on purpose: which samples pass (`dedup`), the disk (`store`), when something is proposed (`node`).

pub mod alerting;
pub mod alerts;
#[cfg(test)]
mod cluster_simulation;
pub mod codec;
pub mod command;
pub mod control;
pub mod data;
pub mod emission;
pub mod entry;
pub mod episodes;
#[cfg(test)]
mod hostile_tests;
pub mod level;
pub mod log;
pub mod member;
pub mod members;
pub mod policies;
pub mod pushed;
mod raft_log;
pub mod replica;
pub mod settings;
pub mod snapshot;
pub mod telling;
pub mod time;
pub mod tokens;
pub mod verdicts;

//! (being written) One Raft group as a value.

pub mod command;
pub mod emission;
pub mod standin;

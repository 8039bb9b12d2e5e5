//! (skeleton)
pub mod bench;

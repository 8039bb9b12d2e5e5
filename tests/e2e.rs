//! End to end: real peers, the real binary, everything on loopback ports of its own. One test binary, since each links RocksDB.
//!
//! `support` is the harness; `e2e` the scenarios. Needs what `scripts/test` installs; see docs/testing.md.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, which does not cover their helpers")]
#![allow(clippy::disallowed_methods, reason = "tests keep time by the real clock, and unpack with the crates' own functions")]
#![allow(clippy::cast_precision_loss, reason = "test values are small")]
#![allow(dead_code, reason = "helpers that only some scenarios use")]

#[path = "e2e/scenarios.rs"]
mod e2e;
#[path = "support/support.rs"]
mod support;

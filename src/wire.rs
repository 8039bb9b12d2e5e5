//! Bytes from outside into the words of `model`, and back: remote write, the digest, bodies that sinks read.
//!
//! Pure: no clock, no IO, no thread. Whatever comes from outside is bounded before memory is taken for it, walked over borrowed
//! bytes, and never trusted; every parser here has a mutation test (`wire::hostile_tests`) that asserts no panic and bounded memory.
//!
//! What is deliberately absent: HTTP (headers choose the [`remote_write::Protocol`] in `ingest`), groups and replicas (`ingest`), and
//! owned trees of messages: a request is visited series by series, and only what passes is ever built.

pub mod alerts;
pub mod body;
pub mod capture;
pub mod digest;
pub mod encode;
pub mod families;
pub mod histogram;
pub mod hooks;
pub mod measure;
pub mod outgoing;
pub mod pack;
mod proto;
pub mod remote_write;
mod symbols;

#[cfg(test)]
mod captured_tests;
#[cfg(test)]
mod differential_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod reference;

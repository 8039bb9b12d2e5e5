//! Alerts, as a value: whom an alert goes to, by the configuration that people know from Alertmanager.
//!
//! Like `dedup` this has no clock, socket, thread or randomness of its own: labels and a time go in, decisions come out. What stands in a file is read by
//! `config::routing`; here it gets its meaning: matchers, the tree of routes, inhibition, time intervals. Alerts themselves, silences and what was told stand in
//! the `book`, which the control shard keeps; `groups` says what of it is to be told, to whom and when. Left out on purpose: sending (`notify`).

pub mod beat;
pub mod book;
pub mod buckets;
pub mod episode;
pub mod groups;
pub mod inhibit;
pub mod interval;
pub mod lesson;
pub mod lint;
pub mod listed;
pub mod maintenance;
pub mod matcher;
pub mod message;
pub mod noted;
pub mod policy;
pub mod quoted;
pub mod rehearsal;
pub mod route;
pub mod silence;
pub mod sought;
pub mod spent;
pub mod suppress;
pub mod telling;
pub mod told;
pub mod translate;

use crate::model::labels::Labels;

/// The value of a label.
pub fn value<'l>(labels: &'l Labels, name: &str) -> &'l str {
    labels.get(name).unwrap_or_default()
}

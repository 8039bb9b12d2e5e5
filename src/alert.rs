//! Alerts, as a value: whom an alert goes to, by the configuration that people know from Alertmanager.
//!
//! Like `dedup` this has no clock, socket, thread or randomness of its own: labels and a time go in, decisions come out. What stands in a file is read by
//! `config::routing`; here it gets its meaning: matchers, the tree of routes, inhibition, time intervals. Left out so far: alerts' own lives (groups with
//! their timers, silences, what is sent): so far sluice's own alerts go to one webhook without any of this.

pub mod inhibit;
pub mod interval;
pub mod lint;
pub mod matcher;
pub mod message;
pub mod quoted;
pub mod route;
pub mod translate;

use crate::model::alert::Labels;

/// The value of a label.
pub fn value<'l>(labels: &'l Labels, name: &str) -> &'l str {
    labels.get(name).map_or("", String::as_str)
}

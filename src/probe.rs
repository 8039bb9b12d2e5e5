//! Probing: whether something answers as it should, how long each part of that took, and why it does not.
//!
//! Modules, metrics and their names are blackbox_exporter's, so that its configuration and whoever reads its metrics need not change. A probe is
//! one call (`run::probe`) that never takes longer than its timeout: phases are timed where they end, and also where they are cut off.
//! Left out on purpose: retries (an attempt that failed is a fact), and keeping what a probe is to see: names, connections, sessions of TLS, answers.
//! What a module needs is kept, for it is nothing of the target's: expressions, authorities and certificates of its own until their files change, a token of
//! OAuth 2 until it ends or is refused.
//!
//! Beside it stands what is looked at without being asked for, by every node for itself, and what the nodes together make of it:
//! - `prometheus`, `watcher`, `line`: the Prometheus of the groups, once a second and when their host ends a connection, as evidence for whoever leads their shards;
//! - `discovery`, `targets`: the targets of jobs, as they are written and found;
//! - `schedule`, `plan`, `jobs`, `written`: who looks at which and when; what came of a probe is samples, and series that are there no more end;
//! - `verdict`, `court`: what is down, by the votes of several nodes.

pub mod certificate;
pub mod connect;
pub mod court;
pub mod dialogue;
pub mod discovery;
pub mod dns;
pub mod exposition;
pub mod files;
pub mod grpc;
pub mod guard;
pub mod http;
pub mod icmp;
pub mod jobs;
pub mod line;
pub mod module;
pub mod out;
pub mod outcome;
pub mod plan;
pub mod prometheus;
pub mod record;
pub mod resolve;
pub mod run;
pub mod schedule;
pub mod targets;
pub mod tcp;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod verdict;
pub mod watcher;
pub mod written;

//! Probing: whether something answers as it should, how long each part of that took, and why it does not.
//!
//! Modules, metrics and their names are blackbox_exporter's, so that its configuration and whoever reads its metrics need not change. A probe is
//! one call (`run::probe`) that never takes longer than its timeout: phases are timed where they end, and also where they are cut off.
//! Left out on purpose: when what is probed and what follows from it (jobs and verdicts stand beside this), caches of any kind (a probe asks
//! anew), and retries (an attempt that failed is a fact).

pub mod certificate;
pub mod connect;
pub mod dialogue;
pub mod dns;
pub mod exposition;
pub mod files;
pub mod grpc;
pub mod guard;
pub mod http;
pub mod icmp;
pub mod module;
pub mod outcome;
pub mod record;
pub mod resolve;
pub mod run;
pub mod tcp;
pub mod tls;

#[cfg(test)]
mod tests;

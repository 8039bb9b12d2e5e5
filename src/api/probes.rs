//! What is looked at from outside: the Prometheus of the groups as the asked node sees them, the targets of probe jobs, and what all nodes together
//! found down; the alerts that came of it.

use serde::Serialize;

use crate::api::answer::Failure;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Probes {
    /// The Prometheus of the groups, as this node sees them.
    pub prometheus: Vec<Prometheus>,
    /// All targets of probe jobs, with what this node saw of those that it has looked at.
    pub targets: Vec<Target>,
    /// Alerts that hold, and those that were over a moment ago.
    pub alerts: Vec<Alert>,
}

/// A replica's Prometheus.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Prometheus {
    /// Its group.
    pub group: String,
    /// Its name there.
    pub replica: String,
    /// Where it was looked at.
    pub url: String,
    /// `unknown`, `up`, `starting`, `stopping`, `down`, `silent`, `strange`.
    pub state: String,
    /// Since when, ms since 1970.
    pub since: i64,
    /// The last look, ms since 1970; 0: none yet.
    pub looked: i64,
    /// How long that took, ms.
    pub took_ms: u64,
    /// Segments of its log that it has replayed, while it does.
    pub replayed: Option<u64>,
    /// Of how many.
    pub replay: Option<u64>,
    /// What stood in the way.
    pub trouble: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// How far behind its remote write is.
    pub behind_seconds: Option<f64>,
    /// Shards of its remote write,
    pub shards: Option<f64>,
    /// and how many it wants.
    pub shards_wanted: Option<f64>,
    /// Samples that wait in its queues.
    pub pending: Option<f64>,
    /// Failed writes to its own log.
    pub failed_writes: Option<f64>,
}

/// A target of a probe job.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Target {
    /// The job.
    pub job: String,
    /// The target.
    pub instance: String,
    /// This node looks at it by turn.
    pub ours: bool,
    /// The last look of this node worked; nothing: it has not looked.
    pub success: Option<bool>,
    /// What went wrong with it.
    pub cause: Option<String>,
    /// How long it took, ms.
    pub took_ms: Option<u64>,
    /// When it began, ms since 1970.
    pub looked: Option<i64>,
    /// The verdict of all nodes: `up`, or `down`.
    pub verdict: String,
    /// Since when it has been down, ms since 1970.
    pub down_since: Option<i64>,
    /// Which nodes say so.
    pub down_from: Vec<String>,
}

/// An alert.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Alert {
    /// Its name.
    pub name: String,
    /// `P1` (the worst) to `P5`.
    pub level: String,
    /// What it is about.
    pub labels: Vec<(String, String)>,
    /// For people.
    pub summary: String,
    /// Since when, ms since 1970.
    pub since: i64,
    /// When it was over.
    pub ended: Option<i64>,
    /// The webhook has it, in its present state.
    pub told: bool,
}

/// With `?down`, only what is not well.
pub fn show(mut all: Probes, query: &str) -> Result<Probes, Failure> {
    match query {
        "" => {}
        "down" | "down=" | "down=true" => {
            all.prometheus.retain(|one| one.state != "up");
            all.targets.retain(|one| one.verdict != "up" || one.success == Some(false));
        }
        other => return Err(Failure::wrong(format!("{other} is not understood"), "the query takes down")),
    }
    Ok(all)
}

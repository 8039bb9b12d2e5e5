//! What is looked at from outside: the Prometheus of the groups as the asked node sees them, the targets of probe jobs, and what all nodes together
//! found down; the alerts that came of it.

use std::cmp::Reverse;

use serde::Serialize;

use crate::api::answer::Failure;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Probes {
    /// When this was so, ms since 1970.
    pub now: i64,
    /// How many targets there are, also where not all of them are shown.
    pub counts: Counts,
    /// The Prometheus of the groups, as this node sees them.
    pub prometheus: Vec<Prometheus>,
    /// All targets of probe jobs, with what this node saw of those that it has looked at.
    pub targets: Vec<Target>,
    /// Alerts that hold, and those that were over a moment ago.
    pub alerts: Vec<Alert>,
}

/// Numbers of targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All.
    pub targets: usize,
    /// Down by the verdict of all nodes.
    pub down: usize,
    /// Those that the query wants; what is beyond its limit is not shown.
    pub matched: usize,
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
    /// What it spent its time on, in order.
    pub phases: Vec<Phase>,
    /// The verdict of all nodes: `up`, or `down`.
    pub verdict: String,
    /// Since when it has been down, ms since 1970.
    pub down_since: Option<i64>,
    /// Which nodes say so.
    pub down_from: Vec<String>,
}

/// A part of a look.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Phase {
    /// `resolve`, `connect` and so on, as in the metrics.
    pub name: String,
    /// How long it took, ms.
    pub took_ms: f64,
    /// It came to its end; else it was cut off there.
    pub done: bool,
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

impl Target {
    fn well(&self) -> bool {
        self.verdict == "up" && self.success != Some(false)
    }
}

/// With `down`, only what is not well; with `match`, only targets whose job or name has this in it, however it is written; with `limit`, so many targets at most. What is not well
/// comes first.
pub fn show(mut all: Probes, query: &str, now: i64) -> Result<Probes, Failure> {
    let (mut down, mut part, mut limit) = (false, String::new(), usize::MAX);
    let wrong = |text: String| Failure::wrong(text, "the query takes down, match=PART and limit=NUMBER");
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "down" if ["", "true"].contains(&&*value) => down = true,
            "match" => part = value.to_lowercase(),
            "limit" => limit = value.parse().map_err(|_| wrong(format!("limit={value} is no number")))?,
            _ => return Err(wrong(format!("{key}={value} is not understood"))),
        }
    }
    all.now = now;
    (all.counts.targets, all.counts.down) = (all.targets.len(), all.targets.iter().filter(|one| one.verdict != "up").count());
    if down {
        all.prometheus.retain(|one| one.state != "up");
        all.targets.retain(|one| !one.well());
    }
    if !part.is_empty() {
        all.targets.retain(|one| one.job.to_lowercase().contains(&part) || one.instance.to_lowercase().contains(&part));
    }
    all.counts.matched = all.targets.len();
    let order = |one: &Target, other: &Target| {
        let key = |target: &Target| (Reverse(!target.well()), Reverse(target.verdict != "up"));
        key(one).cmp(&key(other)).then_with(|| (&one.job, &one.instance).cmp(&(&other.job, &other.instance)))
    };
    all.targets.sort_by(order);
    all.targets.truncate(limit);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(job: &str, instance: &str, success: Option<bool>, verdict: &str) -> Target {
        Target { job: job.to_owned(), instance: instance.to_owned(), success, verdict: verdict.to_owned(), ..Target::default() }
    }

    #[test]
    fn targets_are_filtered_counted_and_those_that_are_not_well_come_first() {
        let all = Probes {
            targets: vec![
                target("web", "b", Some(true), "up"),
                target("web", "a", None, "up"),
                target("mail", "Shop.example", Some(false), "up"),
                target("web", "z", None, "down"),
            ],
            ..Probes::default()
        };
        let shown = |query: &str| {
            let shown = show(all.clone(), query, 7).unwrap();
            let names: Vec<&str> = shown.targets.iter().map(|one| &*one.instance).collect();
            (names.join(" "), shown.counts.targets, shown.counts.down, shown.counts.matched, shown.now)
        };
        assert_eq!(shown(""), ("z Shop.example a b".to_owned(), 4, 1, 4, 7));
        assert_eq!(shown("down"), ("z Shop.example".to_owned(), 4, 1, 2, 7));
        assert_eq!(shown("limit=1&down=true"), ("z".to_owned(), 4, 1, 2, 7));
        assert_eq!(shown("match=SHOP"), ("Shop.example".to_owned(), 4, 1, 1, 7));
        assert_eq!(shown("match=mai&limit=9"), ("Shop.example".to_owned(), 4, 1, 1, 7));
        assert_eq!(shown("match=%3Cimg"), (String::new(), 4, 1, 0, 7));
        for wrong in ["up", "down=false", "limit=x", "limit=-1", "matches=x"] {
            assert!(show(all.clone(), wrong, 7).is_err(), "{wrong}");
        }
    }
}

//! What looks wrong about a group, from its counts alone. Hints, not alarms: each may be as its owner wants it.
//!
//! Left out: two groups that share most of their series. A shard keeps hashes of series per group and offers no comparison across groups.

use serde::Serialize;

use crate::model::NO_GROUP;
use crate::node::view::GroupView;

/// Something that looks wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hint {
    /// A short fixed word.
    pub code: &'static str,
    /// What is seen.
    pub text: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// A group that is younger is still being set up; a replica that is silent for less may be restarting, ms.
const SETTLED_MS: i64 = 600_000;
/// Samples of standbys below which shares mean nothing.
const ENOUGH_SAMPLES: u64 = 10_000;
/// Names of one stem that are gone, from which on they are taken for one replica that is renamed.
const RENAMED: usize = 3;

/// All hints about a group.
pub fn hints(view: &GroupView, now: i64) -> Vec<Hint> {
    let mut hints = Vec::new();
    if view.name == NO_GROUP {
        hints.push(Hint {
            code: "unidentified",
            text: "these series do not say which pair they come from, so nothing can be deduplicated".into(),
            remedy: "give each Prometheus external_labels with the group's and the replica's name (docs/senders.md)",
        });
        return hints;
    }
    hints.extend(renamed(view, now));
    if hints.is_empty() {
        hints.extend(alone(view, now));
    }
    hints.extend(strangers(view));
    hints
}

/// Names that differ only in their ends, most of them gone.
fn renamed(view: &GroupView, now: i64) -> Option<Hint> {
    let gone = view.replicas.iter().filter(|replica| now - replica.last_seen > SETTLED_MS);
    let mut stems: Vec<&str> = gone.map(|replica| stem(&replica.name)).collect();
    stems.sort_unstable();
    let most = stems.chunk_by(|a, b| a == b).max_by_key(|same| same.len()).filter(|same| same.len() >= RENAMED)?;
    Some(Hint {
        code: "renamed",
        text: format!("{} names of replicas that begin with `{}` came and went: the name seems to change at each restart", most.len(), most[0]),
        remedy: "use a stable name as replica label: a StatefulSet's pod name, not a Deployment's or a container's id",
    })
}

/// The part of a name before its last random or counted ending (`prom-7d9f8` and `prom-12` are both of `prom-`).
fn stem(name: &str) -> &str {
    match name.rfind(['-', '_', '.']) {
        Some(at) if name[at..].bytes().any(|byte| byte.is_ascii_digit()) => &name[..=at],
        _ => name.trim_end_matches(|end: char| end.is_ascii_hexdigit()),
    }
}

fn alone(view: &GroupView, now: i64) -> Option<Hint> {
    let silent: Vec<&str> =
        view.replicas.iter().filter(|replica| now - replica.last_seen > SETTLED_MS).map(|replica| replica.name.as_str()).collect();
    if view.replicas.len() - silent.len() != 1 || !settled(view) {
        return None;
    }
    let text = if silent.is_empty() {
        "only one replica has ever written: when it dies, nobody stands in".to_owned()
    } else {
        format!("only one replica writes; silent for more than 10 min: {}", silent.join(", "))
    };
    Some(Hint { code: "alone", text, remedy: "start its twin, with the same external_labels but for the replica's name" })
}

/// Whether the group has sent for ten minutes: as many scrapes as ten minutes have, on average over its series.
fn settled(view: &GroupView) -> bool {
    let scrapes = view.counts.received / view.series.max(1);
    view.interval > 0 && i64::try_from(scrapes).unwrap_or(i64::MAX).saturating_mul(view.interval) >= SETTLED_MS
}

/// Replicas of which the others' samples are no copies.
fn strangers(view: &GroupView) -> Option<Hint> {
    let covered: u64 = view.replicas.iter().map(|replica| replica.covered).sum();
    let filled: u64 = view.replicas.iter().map(|replica| replica.filled).sum();
    if view.replicas.len() < 2 || covered + filled < ENOUGH_SAMPLES || covered >= filled {
        return None;
    }
    let share = 100 * filled / (covered + filled);
    Some(Hint {
        code: "strangers",
        text: format!("{share} % of what the standbys sent was of series, or times, that the leader has not: these replicas are hardly copies"),
        remedy: "give both the same scrape configuration and labels; if they watch different targets, give them different group names",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::view::CountsView;
    use crate::node::view::ReplicaView;

    const NOW: i64 = 1_790_000_000_000;

    fn group(replicas: &[(&str, i64)]) -> GroupView {
        let replica = |(name, ago): &(&str, i64)| ReplicaView { name: (*name).into(), last_seen: NOW - ago, ..ReplicaView::default() };
        GroupView {
            name: "monitoring/k8s".into(),
            series: 100,
            interval: 15_000,
            counts: CountsView { received: 100 * 41, ..CountsView::default() },
            replicas: replicas.iter().map(replica).collect(),
            ..GroupView::default()
        }
    }

    fn codes(view: &GroupView) -> Vec<&'static str> {
        hints(view, NOW).into_iter().map(|hint| hint.code).collect()
    }

    #[test]
    fn a_pair_in_order_needs_no_hint() {
        assert_eq!(codes(&group(&[("a", 1000), ("b", 2000)])), [""; 0]);
        assert_eq!(codes(&group(&[("a", 1000), ("b", 599_000)])), [""; 0]);
    }

    #[test]
    fn one_replica_only_is_told_after_ten_minutes() {
        assert_eq!(codes(&group(&[("a", 1000)])), ["alone"]);
        assert!(hints(&group(&[("a", 1000), ("b", 601_000)]), NOW)[0].text.ends_with(": b"));
        let mut young = group(&[("a", 1000)]);
        young.counts.received = 100 * 39;
        assert_eq!(codes(&young), [""; 0]);
    }

    #[test]
    fn names_that_change_at_each_restart_are_told() {
        assert_eq!(codes(&group(&[("prom-7d9f8", 1000), ("prom-1a2b3", 700_000), ("prom-9", 800_000), ("prom-x1", 900_000)])), ["renamed"]);
        assert_eq!(codes(&group(&[("k8s-0", 1000), ("k8s-1", 1000), ("k8s-2", 700_000), ("k8s-3", 900_000)])), [""; 0]);
    }

    #[test]
    fn replicas_that_are_no_copies_are_told() {
        let mut view = group(&[("a", 1000), ("b", 1000)]);
        view.replicas[1].filled = 6000;
        view.replicas[1].covered = 4000;
        assert_eq!(codes(&view), ["strangers"]);
        assert!(hints(&view, NOW)[0].text.starts_with("60 %"));
        view.replicas[1].covered = 6000;
        assert_eq!(codes(&view), [""; 0]);
    }

    #[test]
    fn samples_of_no_group_say_which_labels_are_missing() {
        let view = GroupView { name: NO_GROUP.into(), ..group(&[("", 1000)]) };
        assert!(hints(&view, NOW)[0].remedy.contains("external_labels"));
    }
}

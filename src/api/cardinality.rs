//! What a group's series are: which metrics and labels have most of them, and which bring new ones. Added up from samples (`deps::Sampled`), of all nodes for
//! one group, of the node that is asked for the list of all.
//!
//! A sample holds all series with hashes below a bound, so each of its series stands for as many as the bound says, and samples of several nodes are one below
//! the smallest of their bounds. A group of up to some two thousand series is counted, not estimated.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde::Serialize;

use crate::api::answer::Failure;
use crate::api::deps::Deps;
use crate::api::deps::Sampled;
use crate::api::deps::SampledSeries;
use crate::api::groups;
use crate::api::senders::Unreachable;

/// What other nodes are asked for (`bundle::Itself`); the group's name follows.
pub const ASKED: &str = "cardinality/";
/// What began within so long is new, ms.
const NEW_MS: i64 = 3_600_000;
/// Metrics, labels and pairs that are named unless the query says otherwise.
const TOP: usize = 10;
const TOP_MOST: usize = 1000;

/// `GET /api/v1/groups/{name}/cardinality`.
#[derive(Debug, Serialize)]
pub struct Cardinality {
    group: String,
    /// As the group's shard counts them.
    series: u64,
    /// Begun within the hour.
    new_series: u64,
    /// Of these the rest is estimated.
    sampled: u64,
    /// The sample holds all of them.
    exact: bool,
    /// Since when they are watched.
    since: Option<i64>,
    metrics: Vec<Metric>,
    labels: Vec<LabelName>,
    pairs: Vec<Pair>,
    unreachable: Vec<Unreachable>,
}

/// A metric's name.
#[derive(Debug, Serialize)]
struct Metric {
    name: String,
    series: u64,
    new_series: u64,
}

/// A label's name: how many values the sample shows of it.
#[derive(Debug, Serialize)]
struct LabelName {
    name: String,
    values: u64,
    new_values: u64,
}

/// A label with its value.
#[derive(Debug, Serialize)]
struct Pair {
    label: String,
    value: String,
    series: u64,
    new_series: u64,
}

/// `GET /api/v1/cardinality`.
#[derive(Debug, Serialize)]
pub struct Cardinalities {
    groups: Vec<Short>,
}

/// One group in a line.
#[derive(Debug, Serialize)]
struct Short {
    group: String,
    series: u64,
    new_series: u64,
    exact: bool,
    top_metric: Option<String>,
    top_label: Option<String>,
}

/// How a list is drawn up.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    top: usize,
    by_churn: bool,
}

fn wanted(query: &str) -> Result<Wanted, Failure> {
    let mut wanted = Wanted { top: TOP, by_churn: false };
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match (&*key, &*value, value.parse::<usize>()) {
            ("top", _, Ok(top)) if (1..=TOP_MOST).contains(&top) => wanted.top = top,
            ("by", "series", _) => wanted.by_churn = false,
            ("by", "churn", _) => wanted.by_churn = true,
            _ => {
                let text = format!("{key}={value} is not understood");
                return Err(Failure::wrong(text, "the query takes top=1 to 1000, and by=series or by=churn"));
            }
        }
    }
    Ok(wanted)
}

/// One group, by the samples of all nodes that answer.
pub async fn one(deps: &Deps, name: &str, query: &str, now: i64) -> Result<Cardinality, Failure> {
    let wanted = wanted(query)?;
    let view = groups::find(&*deps.node, name)?;
    let (mut samples, mut unreachable) = ((deps.census)(Some(name)), Vec::new());
    if let Some(cluster) = &deps.cluster {
        for (node, said) in cluster.of_others(&format!("{ASKED}{name}")).await {
            match said.and_then(|said| serde_json::from_slice::<Vec<Sampled>>(&said).map_err(|error| error.to_string())) {
                Ok(theirs) => samples.extend(theirs),
                Err(reason) => unreachable.push(Unreachable { node, reason }),
            }
        }
    }
    let together = together(name, samples);
    Ok(Cardinality { series: view.series, unreachable, ..counted(&together, wanted, now) })
}

/// All groups, by the samples of this node.
pub fn all(deps: &Deps, now: i64) -> Cardinalities {
    let samples: BTreeMap<String, Sampled> = (deps.census)(None).into_iter().map(|sample| (sample.group.clone(), sample)).collect();
    let short = |view: &crate::node::view::GroupView| {
        let nothing = Sampled { group: view.name.clone(), ..Sampled::default() };
        let counted = counted(samples.get(&view.name).unwrap_or(&nothing), Wanted { top: 1, by_churn: false }, now);
        Short {
            group: view.name.clone(),
            series: view.series,
            new_series: counted.new_series,
            exact: counted.exact,
            top_metric: counted.metrics.into_iter().next().map(|metric| metric.name),
            top_label: counted.labels.into_iter().next().map(|label| label.name),
        }
    };
    let mut groups: Vec<Short> = deps.node.groups().iter().map(short).collect();
    groups.sort_by(|a, b| b.series.cmp(&a.series).then(a.group.cmp(&b.group)));
    Cardinalities { groups }
}

/// What another node is told.
pub(super) fn itself(deps: &Deps, group: &str) -> Vec<u8> {
    serde_json::to_vec(&(deps.census)(Some(group))).unwrap_or_default()
}

/// Several nodes' samples of one group as one.
fn together(group: &str, samples: Vec<Sampled>) -> Sampled {
    let below = samples.iter().map(|sample| sample.below).min().unwrap_or(u64::MAX);
    let since = samples.iter().map(|sample| sample.since).min().unwrap_or(0);
    let mut all: BTreeMap<u64, SampledSeries> = BTreeMap::new();
    for series in samples.into_iter().flat_map(|sample| sample.series).filter(|series| below == u64::MAX || series.hash < below) {
        match all.get_mut(&series.hash) {
            Some(known) => {
                known.first = known.first.min(series.first);
                // Who does not know whether it was there before may be the one that had it before.
                known.fresh &= series.fresh;
            }
            None => drop(all.insert(series.hash, series)),
        }
    }
    Sampled { group: group.to_owned(), since, below, series: all.into_values().collect() }
}

fn counted(sample: &Sampled, wanted: Wanted, now: i64) -> Cardinality {
    // Each stands for so many.
    let weight = if sample.below == u64::MAX || sample.below == 0 { 1.0 } else { 2_f64.powi(64) / sample.below as f64 };
    let estimate = |count: u64| (count as f64 * weight).round() as u64;
    let is_new = |series: &SampledSeries| series.fresh && now - series.first <= NEW_MS;
    let mut metrics: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut pairs: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
    for series in &sample.series {
        let new = u64::from(is_new(series));
        for (name, value) in &series.labels {
            let count = if name == "__name__" { metrics.entry(value).or_default() } else { pairs.entry((name, value)).or_default() };
            *count = (count.0 + 1, count.1 + new);
        }
    }
    let mut values: BTreeMap<&str, (BTreeSet<&str>, u64)> = BTreeMap::new();
    for ((name, value), (series, new)) in &pairs {
        let of_name = values.entry(name).or_default();
        of_name.0.insert(value);
        of_name.1 += u64::from(series == new);
    }
    let sampled = sample.series.len() as u64;
    let new = sample.series.iter().filter(|series| is_new(series)).count() as u64;
    let labels = values.into_iter().map(|(name, (values, new))| (name, (values.len() as u64, new)));
    Cardinality {
        group: sample.group.clone(),
        series: estimate(sampled),
        new_series: estimate(new),
        sampled,
        exact: sample.below == u64::MAX,
        since: (sample.since > 0).then_some(sample.since),
        metrics: top(metrics.into_iter(), wanted)
            .map(|(name, (series, new))| Metric { name: name.to_owned(), series: estimate(series), new_series: estimate(new) })
            .collect(),
        labels: top(labels, wanted).map(|(name, (values, new_values))| LabelName { name: name.to_owned(), values, new_values }).collect(),
        pairs: top(pairs.into_iter(), wanted)
            .map(|((label, value), (series, new))| Pair {
                label: label.to_owned(),
                value: value.to_owned(),
                series: estimate(series),
                new_series: estimate(new),
            })
            .collect(),
        unreachable: Vec::new(),
    }
}

/// The largest, by the first number or by the second.
fn top<Name: Ord>(all: impl Iterator<Item = (Name, (u64, u64))>, wanted: Wanted) -> impl Iterator<Item = (Name, (u64, u64))> {
    let mut all: Vec<(Name, (u64, u64))> = all.collect();
    let order = |(all, new): (u64, u64)| if wanted.by_churn { (new, all) } else { (all, new) };
    all.sort_by(|a, b| order(b.1).cmp(&order(a.1)).then_with(|| a.0.cmp(&b.0)));
    all.truncate(wanted.top);
    all.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(hash: u64, labels: &[(&str, &str)], first: i64, fresh: bool) -> SampledSeries {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        SampledSeries { hash, labels, first, fresh }
    }

    fn sample(below: u64, series: Vec<SampledSeries>) -> Sampled {
        Sampled { group: "g".into(), since: 1, below, series }
    }

    #[test]
    fn metrics_and_labels_are_counted_and_new_ones_told() {
        let up = |hash, pod: &str, fresh| series(hash, &[("__name__", "up"), ("job", "x"), ("pod", pod)], 0, fresh);
        let one = sample(u64::MAX, vec![up(1, "a", false), up(2, "b", true), series(3, &[("__name__", "down"), ("job", "x")], 0, false)]);
        let counted = counted(&one, Wanted { top: 1, by_churn: true }, 1000);
        assert_eq!((counted.series, counted.new_series, counted.exact), (3, 1, true));
        assert_eq!((&*counted.metrics[0].name, counted.metrics[0].series, counted.metrics[0].new_series), ("up", 2, 1));
        assert_eq!((&*counted.labels[0].name, counted.labels[0].values, counted.labels[0].new_values), ("pod", 2, 1));
        assert_eq!(&*counted.pairs[0].value, "x", "of two with as many new ones the one with more series");
        assert_eq!(super::counted(&one, Wanted { top: 1, by_churn: false }, NEW_MS + 1).new_series, 0, "an hour later it is new no more");
    }

    #[test]
    fn samples_of_several_nodes_are_one() {
        let half = u64::MAX / 2;
        let a = sample(u64::MAX, vec![series(5, &[], 100, false), series(half + 1, &[], 0, false)]);
        let b = sample(half, vec![series(5, &[], 900, true), series(7, &[], 900, true)]);
        let both = together("g", vec![a, b]);
        assert_eq!((both.below, both.series.len()), (half, 2), "above the smallest bound nothing is known");
        assert_eq!(both.series[0], series(5, &[], 100, false));
        let counted = counted(&both, Wanted { top: 10, by_churn: false }, 1000);
        assert_eq!((counted.series, counted.new_series, counted.exact), (4, 2, false), "each stands for two");
    }
}

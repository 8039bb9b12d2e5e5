//! What this node wrote last of each target, so that series end where they are there no more: with Prometheus' stale marker, as the series of a scrape end that the
//! next one does not show, or whose target is gone. Pure: what is written goes in, what ends comes out.
//!
//! Nobody ends what another node goes on with: of a target that is gone only its owner's word counts, and only while what it wrote is fresh. So a target whose owner
//! changes ends nowhere; a series that is not there any more just as the owner changes has no marker, for the new one does not know of it. Nor has what is gone while no node runs.
//!
//! Most targets of a module have the same series but for the labels of the target, so these are kept once (`Shape`): a target costs some 150 bytes, one over TLS, whose
//! certificate is a series of its own, a kilobyte.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use crate::probe::outcome::Label;
use crate::probe::outcome::Metric;
use crate::probe::plan::Plan;
use crate::probe::schedule;
use crate::probe::targets::Labels;
use crate::probe::targets::Target;

/// What was written is fresh for so many intervals; after that another node may have written since.
const FRESH: i64 = 2;

/// A series without the labels of its target.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Series {
    /// Its metric,
    pub name: &'static str,
    /// and the metric's own labels.
    pub labels: Vec<Label>,
}

/// All series of a look, in the order in which they were written.
type Shape = Arc<[Series]>;

/// Series that end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Onto each of them.
    pub labels: Labels,
    /// Which.
    pub series: Vec<Series>,
    /// When, ms since 1970.
    pub at: i64,
}

#[derive(Debug)]
struct Last {
    slot: i64,
    interval: i64,
    labels: Labels,
    shape: Shape,
}

/// Of all targets.
#[derive(Debug, Default)]
pub struct Written {
    last: HashMap<u64, Last>,
    shapes: HashSet<Shape>,
}

impl Series {
    fn of(metric: &Metric) -> Series {
        Series { name: metric.name, labels: metric.labels.clone() }
    }

    fn is(&self, metric: &Metric) -> bool {
        self.name == metric.name && self.labels == metric.labels
    }
}

impl Last {
    fn fresh(&self, now: i64) -> bool {
        now - self.slot <= FRESH * self.interval
    }
}

impl Written {
    /// These samples of a target are written; what its last ones had and these have not ends.
    pub fn wrote(&mut self, target: &Target, slot: i64, metrics: &[&Metric]) -> Option<End> {
        let interval = i64::try_from(target.ready.job.interval.as_millis()).unwrap_or(i64::MAX / 4);
        if let Some(last) = self.last.get_mut(&target.key)
            && last.labels == target.labels
            && last.shape.len() == metrics.len()
            && last.shape.iter().zip(metrics).all(|(series, metric)| series.is(metric))
        {
            (last.slot, last.interval) = (slot, interval);
            return None;
        }
        let shape = self.shape(metrics);
        let last = Last { slot, interval, labels: Arc::clone(&target.labels), shape: Arc::clone(&shape) };
        let before = self.last.insert(target.key, last)?;
        let stays = |series: &&Series| before.labels == target.labels && shape.contains(series);
        let series: Vec<Series> = before.shape.iter().filter(|series| !stays(series)).cloned().collect();
        let end = (before.fresh(slot) && !series.is_empty()).then(|| End { labels: Arc::clone(&before.labels), series, at: slot });
        self.forget(before);
        end
    }

    /// Those of whom the plan knows no more end, where they are ours (`own`, of those that live). What is not fresh is forgotten.
    pub fn gone(&mut self, plan: &Plan, now: i64, (own, living): (u64, &[u64])) -> Vec<End> {
        let over = |key: &u64, last: &Last| plan.target(*key).is_none() || !last.fresh(now);
        let over: Vec<u64> = self.last.iter().filter(|(key, last)| over(key, last)).map(|(key, _)| *key).collect();
        let mut ends = Vec::new();
        for key in over {
            let Some(last) = self.last.remove(&key) else { continue };
            if last.fresh(now) && schedule::owner(key, living) == own {
                // Behind its last sample, wherever the clock is.
                let at = now.max(last.slot.saturating_add(1));
                ends.push(End { labels: Arc::clone(&last.labels), series: last.shape.to_vec(), at });
            }
            self.forget(last);
        }
        ends
    }

    fn shape(&mut self, metrics: &[&Metric]) -> Shape {
        let series: Vec<Series> = metrics.iter().map(|metric| Series::of(metric)).collect();
        if let Some(known) = self.shapes.get(&series[..]) {
            return Arc::clone(known);
        }
        let shape: Shape = series.into();
        self.shapes.insert(Arc::clone(&shape));
        shape
    }

    /// Nobody needs a shape that only the set has.
    fn forget(&mut self, last: Last) {
        const HERE_AND_IN_THE_SET: usize = 2;
        if Arc::strong_count(&last.shape) == HERE_AND_IN_THE_SET {
            self.shapes.remove(&last.shape);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::probe::targets;
    use crate::probe::targets::Ready;
    use std::collections::BTreeMap;

    const NOW: i64 = 1_790_000_000_000;
    const INTERVAL: i64 = 10_000;

    fn targets(job: &str) -> BTreeMap<u64, Target> {
        let text = format!("listen: 127.0.0.1:1\ndata_dir: /x\nsinks: []\nprobe:\n  jobs:\n    - {job}\n");
        let config = Config::parse(&text).unwrap_or_else(|problems| panic!("{problems:#?}"));
        targets::all([(&Arc::new(Ready::new(&config.jobs.jobs[0]).unwrap()), &[][..])]).0
    }

    fn one(labels: &str) -> Target {
        targets(&format!("{{ name: web, interval: 10s, targets: [h], labels: {{ {labels} }} }}")).into_values().next().unwrap()
    }

    fn well() -> [Metric; 2] {
        [Metric::plain("probe_success", "", 1.0), Metric::plain("probe_duration_seconds", "", 0.1)]
    }

    fn failed(cause: &'static str) -> [Metric; 2] {
        [Metric::plain("probe_success", "", 0.0), Metric::with("sluice_probe_failure_info", "", ("cause", cause.into()), 1.0)]
    }

    fn wrote(written: &mut Written, target: &Target, slot: i64, metrics: &[Metric]) -> Vec<String> {
        let end = written.wrote(target, slot, &metrics.iter().collect::<Vec<_>>());
        end.map_or_else(Vec::new, |end| {
            assert_eq!(end.at, slot, "at the time of the samples beside which it is missing");
            shown(&end)
        })
    }

    fn shown(end: &End) -> Vec<String> {
        end.series
            .iter()
            .map(|series| format!("{}{:?}", series.name, series.labels.iter().map(|(_, value)| &**value).collect::<Vec<_>>()))
            .collect()
    }

    #[test]
    fn what_a_look_does_not_show_any_more_ends_once() {
        let (mut written, target) = (Written::default(), one(""));
        assert!(wrote(&mut written, &target, NOW, &well()).is_empty(), "the first");
        assert!(wrote(&mut written, &target, NOW + INTERVAL, &well()).is_empty(), "the same");
        let gone = wrote(&mut written, &target, NOW + 2 * INTERVAL, &failed("refused"));
        assert_eq!(gone, ["probe_duration_seconds[]"]);
        let gone = wrote(&mut written, &target, NOW + 3 * INTERVAL, &failed("timeout"));
        assert_eq!(gone, ["sluice_probe_failure_info[\"refused\"]"], "another label, another series");
        let gone = wrote(&mut written, &target, NOW + 4 * INTERVAL, &well());
        assert_eq!(gone, ["sluice_probe_failure_info[\"timeout\"]"]);
        assert!(wrote(&mut written, &target, NOW + 5 * INTERVAL, &well()).is_empty());
        // What was long ago is none of ours to end: another node wrote in between.
        assert!(wrote(&mut written, &target, NOW + 8 * INTERVAL, &failed("refused")).is_empty());
        assert_eq!((written.last.len(), written.shapes.len()), (1, 1), "what nobody has any more is forgotten");
    }

    #[test]
    fn other_labels_are_other_series() {
        let mut written = Written::default();
        wrote(&mut written, &one("team: a"), NOW, &well());
        let end = written.wrote(&one("team: b"), NOW + INTERVAL, &well().iter().collect::<Vec<_>>()).unwrap();
        assert_eq!((end.series.len(), end.labels.iter().any(|(_, value)| value == "a")), (2, true));
    }

    #[test]
    fn a_target_that_is_gone_ends_with_all_its_series_behind_its_last_sample() {
        let many = targets("{ name: web, interval: 10s, targets: [a, b, c] }");
        let (mut written, mut plan) = (Written::default(), Plan::default());
        plan.replace(many.clone(), NOW);
        many.values().for_each(|target| drop(wrote(&mut written, target, NOW, &well())));
        assert_eq!(written.shapes.len(), 1, "three targets have the same");
        assert!(written.gone(&plan, NOW + 10, (7, &[7])).is_empty(), "all are there");
        plan.replace(targets("{ name: web, interval: 10s, targets: [b] }"), NOW + 20);
        let ends = written.gone(&plan, NOW - 60_000, (7, &[7]));
        assert_eq!(
            ends.iter().map(|end| (end.series.len(), end.at)).collect::<Vec<_>>(),
            [(2, NOW + 1); 2],
            "though the clock was set back"
        );
        assert!(written.gone(&plan, NOW + 30, (7, &[7])).is_empty(), "once");
        plan.replace(BTreeMap::new(), NOW + 40);
        assert_eq!(written.gone(&plan, NOW + 40, (7, &[7]))[0].at, NOW + 40);
        assert!(written.last.is_empty() && written.shapes.is_empty());
    }

    /// Three nodes, each with its plan and what it wrote: one dies, comes back, and then the targets are gone.
    #[test]
    fn a_target_that_another_node_takes_over_ends_nowhere_and_once_when_it_is_gone() {
        let many = targets(&format!(
            "{{ name: web, interval: 10s, targets: [{}] }}",
            (0..60).map(|n| format!("h{n}")).collect::<Vec<_>>().join(", ")
        ));
        let mut nodes: Vec<(Plan, Written)> = (0..3).map(|_| Default::default()).collect();
        nodes.iter_mut().for_each(|(plan, _)| plan.replace(many.clone(), NOW));
        let (mut now, mut ends) = (NOW, Vec::new());
        let mut run = |nodes: &mut Vec<(Plan, Written)>, ms: i64, living: &[u64], ends: &mut Vec<End>| {
            for _ in 0..ms / 100 {
                now += 100;
                for own in living {
                    let (plan, written) = &mut nodes[*own as usize];
                    for start in plan.start(now, (*own, living), 1_000, &|_| false) {
                        plan.broke_off(start.key);
                        let target = plan.target(start.key).unwrap().clone();
                        ends.extend(written.wrote(&target, start.slot, &well().iter().collect::<Vec<_>>()));
                    }
                    ends.extend(written.gone(plan, now, (*own, living)));
                }
            }
        };
        for living in [&[0, 1, 2][..], &[0, 2], &[0, 1, 2], &[1, 2], &[0, 1, 2]] {
            run(&mut nodes, 35_000, living, &mut ends);
        }
        assert!(ends.is_empty(), "{ends:?}");
        nodes.iter_mut().for_each(|(plan, _)| plan.replace(BTreeMap::new(), NOW));
        run(&mut nodes, 1_000, &[0, 1, 2], &mut ends);
        let mut instances: Vec<_> =
            ends.iter().map(|end| end.labels.iter().find(|(name, _)| name == "instance").unwrap().1.clone()).collect();
        instances.sort_unstable();
        instances.dedup();
        assert_eq!((ends.len(), instances.len()), (60, 60), "each ends, and one node says so");
    }
}

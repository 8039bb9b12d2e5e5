//! From a job and the groups of targets that files and servers name to what is looked at: address, labels, key. Pure.
//!
//! As Prometheus does it: a target begins as `__address__`, `job` and its group's labels; `relabel_configs` work on these; what is then looked at is
//! `__param_target`, or else `__address__`, and labels that begin with `__` are gone. `instance` is the address where nothing else says it. So the rules of a
//! scrape configuration for blackbox_exporter mean the same here.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::jobs::Job;
use crate::config::jobs::TargetGroup;
use crate::probe::schedule;
use crate::relabel::rules::Rule;
use crate::relabel::rules::Rules;
use crate::relabel::rules::Work;
use crate::relabel::rules::Wrong;
use crate::shard::verdicts::TEXT;

/// Targets of all jobs; more are left out, which is logged (`jobs`).
pub const MOST: usize = 50_000;

/// Targets that there is no room for, and those whose `instance` is longer than a verdict can name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// More than there may be.
    pub many: usize,
    /// Too long.
    pub long: usize,
}

/// A job with its rules, ready to be used.
#[derive(Debug)]
pub struct Ready {
    /// As written.
    pub job: Job,
    rules: Rules,
}

/// Labels in order, of whoever shares them.
pub type Labels = Arc<[(String, String)]>;

/// Something that is looked at.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its job.
    pub ready: Arc<Ready>,
    /// What the module is given.
    pub address: String,
    /// Label `instance`.
    pub instance: String,
    /// Onto all its series, `job` and `instance` included; in order.
    pub labels: Labels,
    /// By which nodes speak of it.
    pub key: u64,
}

impl Ready {
    /// A job whose rules mean something, or all that is wrong with those that do not: number and what.
    pub fn check(job: &Job) -> Result<Ready, Vec<(usize, Wrong)>> {
        let (mut checked, mut all) = (Vec::new(), Vec::new());
        for (number, rule) in job.rules.iter().enumerate() {
            match Rule::check(rule) {
                Ok(rule) => checked.push(rule),
                Err(wrong) => all.extend(wrong.into_iter().map(|wrong| (number, wrong))),
            }
        }
        if all.is_empty() { Ok(Ready { job: job.clone(), rules: Rules::new(checked) }) } else { Err(all) }
    }

    /// The same with the first that is wrong in words.
    pub fn new(job: &Job) -> Result<Ready, String> {
        Ready::check(job).map_err(|all| {
            let what = all.first().map(|(number, wrong)| format!("relabel_configs[{number}].{}: {}", wrong.key, wrong.rule));
            format!("probe.jobs, job {}: {}", job.name, what.unwrap_or_default())
        })
    }

    /// What is to be looked at of these groups.
    fn targets(self: &Arc<Ready>, groups: &[TargetGroup], (into, left): (&mut BTreeMap<u64, Target>, &mut Left)) {
        let mut work = Work::default();
        for group in groups {
            for address in &group.targets {
                work.clear();
                work.push("__address__", address, None);
                work.push("job", &self.job.name, None);
                self.job.labels.iter().chain(&group.labels).for_each(|(name, value)| work.set(name, value));
                if self.rules.apply(&mut work).is_err() {
                    continue;
                }
                let asked = work.value("__param_target").or(work.value("__address__")).unwrap_or_default().to_owned();
                let instance = work.value("instance").unwrap_or(address).to_owned();
                work.set("instance", &instance);
                let kept = work.labels().filter(|(name, ..)| !name.starts_with("__"));
                let mut labels: Vec<_> = kept.map(|(name, value, _)| (name.to_owned(), value.to_owned())).collect();
                labels.sort_unstable();
                let key = schedule::key(&self.job.name, &instance);
                if asked.is_empty() {
                    continue;
                }
                if instance.len() > TEXT {
                    left.long += 1;
                } else if into.len() >= MOST && !into.contains_key(&key) {
                    left.many += 1;
                } else {
                    into.entry(key).or_insert(Target { ready: Arc::clone(self), address: asked, instance, labels: labels.into(), key });
                }
            }
        }
    }
}

/// All targets of all jobs by key, with what was found for each job beside what is written in it; and what was left out.
pub fn all<'a>(jobs: impl IntoIterator<Item = (&'a Arc<Ready>, &'a [TargetGroup])>) -> (BTreeMap<u64, Target>, Left) {
    let (mut all, mut left) = (BTreeMap::new(), Left::default());
    for (ready, found) in jobs {
        ready.targets(&ready.job.groups, (&mut all, &mut left));
        ready.targets(found, (&mut all, &mut left));
    }
    (all, left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn ready(job: &str) -> Result<Arc<Ready>, String> {
        let text = format!("listen: 127.0.0.1:1\ndata_dir: /x\nsinks: []\nprobe:\n  jobs:\n    - {job}\n");
        let config = Config::parse(&text).unwrap_or_else(|problems| panic!("{problems:#?}"));
        Ready::new(&config.jobs.jobs[0]).map(Arc::new)
    }

    fn shown(all: &BTreeMap<u64, Target>) -> Vec<String> {
        let mut shown: Vec<String> = all
            .values()
            .map(|target| {
                let labels: Vec<String> = target.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{} {}", target.address, labels.join(","))
            })
            .collect();
        shown.sort();
        shown
    }

    #[test]
    fn targets_are_as_written_with_their_labels() {
        let job = ready(
            "{ name: web, targets: [a, a], labels: { team: x, dc: '1' }, static_configs: [ { targets: [b], labels: { team: y } } ] }",
        )
        .unwrap();
        let found = [TargetGroup { targets: vec!["c".into()], labels: vec![("instance".into(), "see".into())] }];
        let (all, _) = all([(&job, &found[..])]);
        assert_eq!(
            shown(&all),
            ["a dc=1,instance=a,job=web,team=x", "b dc=1,instance=b,job=web,team=y", "c dc=1,instance=see,job=web,team=x"]
        );
    }

    #[test]
    fn the_rules_of_a_scrape_configuration_for_blackbox_exporter_mean_the_same() {
        let rules = "[ { source_labels: [__address__], target_label: __param_target }, { source_labels: [__param_target], target_label: instance }, \
                     { target_label: __address__, replacement: 'blackbox:9115' }, { source_labels: [env], regex: test, action: drop } ]";
        let job = ready(&format!(
            "{{ name: web, relabel_configs: {rules}, static_configs: [ {{ targets: [a] }}, {{ targets: [b], labels: {{ env: test }} }} ] }}"
        ));
        assert_eq!(shown(&all([(&job.unwrap(), &[][..])]).0), ["a instance=a,job=web"]);
    }

    #[test]
    fn a_rule_that_means_nothing_is_named() {
        let wrong = ready("{ name: web, relabel_configs: [ { action: replac } ] }").unwrap_err();
        assert!(wrong.starts_with("probe.jobs, job web: relabel_configs[0].action: "), "{wrong}");
    }

    #[test]
    fn there_are_not_more_than_there_may_be() {
        let job = ready("{ name: web }").unwrap();
        let found = [TargetGroup { targets: (0..MOST + 10).map(|number| number.to_string()).collect(), labels: Vec::new() }];
        let (all, left) = all([(&job, &found[..])]);
        assert_eq!((all.len(), left), (MOST, Left { many: 10, long: 0 }));
    }

    #[test]
    fn what_no_verdict_can_name_is_no_target() {
        let job = ready("{ name: web }").unwrap();
        let found = [TargetGroup { targets: vec!["x".repeat(TEXT), "x".repeat(TEXT + 1)], labels: Vec::new() }];
        let (all, left) = all([(&job, &found[..])]);
        assert_eq!((all.len(), left), (1, Left { many: 0, long: 1 }));
    }
}

//! Why an alert is not told: silences that fit it, and alerts that explain it. Kept up as alerts and silences come and go, so that a question costs no
//! walk over all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::alert::book::Kept;
use crate::alert::buckets::Buckets;
use crate::alert::inhibit::Inhibition;
use crate::alert::silence::Phase;
use crate::alert::silence::Silence;
use crate::alert::sought::Sought;
use crate::alert::value;
use crate::model::labels::Labels;

type Silences = BTreeMap<String, Arc<Silence>>;
/// Sources of one rule, by the values that must be equal: their ids, and whether they are targets, too.
type Sources = BTreeMap<Vec<String>, BTreeMap<u64, bool>>;

/// What suppresses.
#[derive(Default)]
pub struct Suppress {
    silences: Silences,
    fitting: Sought<String>,
    /// Silences that fit an alert, whatever the time; none where there are none.
    of_alert: BTreeMap<u64, Vec<String>>,
    rules: Arc<Vec<Inhibition>>,
    by_source: Sought<usize>,
    by_target: Sought<usize>,
    sources: Vec<Sources>,
}

fn equal(rule: &Inhibition, labels: &Labels) -> Vec<String> {
    rule.equal.iter().map(|name| value(labels, name).to_owned()).collect()
}

impl Suppress {
    /// By these rules.
    pub fn new(rules: Arc<Vec<Inhibition>>) -> Suppress {
        let mut new = Suppress { sources: vec![Sources::new(); rules.len()], ..Suppress::default() };
        for (number, rule) in rules.iter().enumerate() {
            new.by_source.add(rule.source.iter(), number);
            new.by_target.add(rule.target.iter(), number);
        }
        new.rules = rules;
        new
    }

    /// Takes the silences as they are now; `alerts`: those that are there, by id.
    pub fn silences<'a>(&mut self, now: &Silences, alerts: impl Iterator<Item = (u64, &'a Labels)> + Clone) {
        let same = |id: &String, silence: &Arc<Silence>| now.get(id).is_some_and(|known| Arc::ptr_eq(known, silence));
        let gone: Vec<String> = self.silences.iter().filter(|(id, silence)| !same(id, silence)).map(|(id, _)| id.clone()).collect();
        for id in &gone {
            if let Some(silence) = self.silences.remove(id) {
                self.fitting.remove(&silence.matchers, id);
            }
        }
        if !gone.is_empty() {
            for fitting in self.of_alert.values_mut() {
                fitting.retain(|id| !gone.contains(id));
            }
            self.of_alert.retain(|_, fitting| !fitting.is_empty());
        }
        for (id, silence) in now {
            if self.silences.contains_key(id) {
                continue;
            }
            self.silences.insert(id.clone(), Arc::clone(silence));
            self.fitting.add(&silence.matchers, id.clone());
            for (alert, _) in alerts.clone().filter(|(_, labels)| silence.matches(labels)) {
                self.of_alert.entry(alert).or_default().push(id.clone());
            }
        }
    }

    /// An alert has come.
    pub fn add(&mut self, id: u64, labels: &Labels) {
        let fits = |silence: &&String| self.silences.get(*silence).is_some_and(|known| known.matches(labels));
        let fitting: Vec<String> = self.fitting.of(labels).filter(fits).cloned().collect();
        if !fitting.is_empty() {
            self.of_alert.insert(id, fitting);
        }
        for number in self.by_source.of(labels) {
            let (Some(rule), Some(sources)) = (self.rules.get(*number), self.sources.get_mut(*number)) else { continue };
            if rule.source.matches(labels) {
                sources.entry(equal(rule, labels)).or_default().insert(id, rule.target.matches(labels));
            }
        }
    }

    /// An alert is gone.
    pub fn remove(&mut self, id: u64, labels: &Labels) {
        self.of_alert.remove(&id);
        for number in self.by_source.of(labels) {
            let (Some(rule), Some(sources)) = (self.rules.get(*number), self.sources.get_mut(*number)) else { continue };
            let key = equal(rule, labels);
            if let Some(alike) = sources.get_mut(&key) {
                alike.remove(&id);
                if alike.is_empty() {
                    sources.remove(&key);
                }
            }
        }
    }

    /// The silences that keep an alert from being told at this time, sorted.
    pub fn silenced(&self, id: u64, now: i64) -> Vec<&str> {
        let Some(fitting) = self.of_alert.get(&id) else { return Vec::new() };
        let holds = |id: &&String| self.silences.get(*id).is_some_and(|silence| silence.phase(now) == Phase::Active);
        let mut found: Vec<&str> = fitting.iter().filter(holds).map(String::as_str).collect();
        found.sort_unstable();
        found
    }

    /// Alerts that hold and explain one with these labels, by id: all of them, or the first one that is found.
    pub fn inhibited(&self, labels: &Labels, now: i64, alerts: &Buckets<Kept>, all: bool) -> Vec<u64> {
        let mut found = Vec::new();
        for number in self.by_target.of(labels) {
            let (Some(rule), Some(sources)) = (self.rules.get(*number), self.sources.get(*number)) else { continue };
            if sources.is_empty() || !rule.target.matches(labels) {
                continue;
            }
            let Some(alike) = sources.get(&equal(rule, labels)) else { continue };
            let both = rule.source.matches(labels);
            for (id, other_is_both) in alike {
                let holds = || alerts.get(*id).is_some_and(|kept| !kept.alert.is_over(now));
                if !(both && *other_is_both) && holds() {
                    found.push(*id);
                    if !all {
                        return found;
                    }
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

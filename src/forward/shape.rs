//! What a sink takes, and as what: the cluster's external labels, then the sink's `match`, then its `relabel_configs`, then `late`; and of which counters it is
//! told how far they rose, which goes by the labels before `relabel_configs`.
//!
//! Costs are kept where they belong. A series that is not wanted, or that goes out as it came, costs a lookup by its hash a sample; labels that every
//! series gets are merged in without copying a text; only what rules really change is worked out anew each time, since its text would cost more
//! memory than its work is worth. Left out on purpose: reading any of it (`config`), and what labels mean (`relabel`).

use std::sync::Arc;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::model::tenant;
use crate::relabel::counters::Counters;
use crate::relabel::counters::found;
use crate::relabel::rules::Rules;
use crate::relabel::rules::Work;
use crate::relabel::selector::Selector;
use crate::wire::remote_write::Label;
use crate::wire::remote_write::series_hash;

/// Decisions that are remembered; 16 bytes each. A shard with more live series decides some of them again.
const KNOWN_MAX: usize = 1 << 20;

/// What a sink takes, and as what. Checked.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// Go onto every series that lacks them; by name.
    pub external: Vec<(String, String)>,
    /// A series must be taken by one of them; none at all takes every series.
    pub selectors: Vec<Selector>,
    /// Work on its labels.
    pub rules: Rules,
    /// Samples older than what was forwarded of their series stay behind.
    pub drops_late: bool,
    /// Of which series it is told how far they rose; `None`: of none.
    pub counters: Option<Counters>,
}

/// What becomes of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It stays behind.
    Out,
    /// It goes out as it came.
    Same,
    /// It goes out with other labels.
    Changed,
}

/// Why a series stays behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// No selector takes it.
    Unmatched,
    /// The rule of this number, from 0, dropped it.
    Rule(usize),
    /// The rules left no label.
    Bare,
}

/// Labels as text: name and value.
pub type Pairs = Vec<(String, String)>;

/// Gets labels, their hash and the tenant.
pub type Show<'a> = &'a mut dyn FnMut(&[Label<'_>], u64, &str);

/// A shape at work. One a worker, for what it remembers.
#[derive(Debug)]
pub struct Shaper {
    shape: Arc<Shape>,
    /// The walker's seed.
    seed: u64,
    known: HashTable<(u64, Verdict)>,
    /// The tenant of the sample before, and what makes its series others than those of the next one.
    tenant: (String, u64),
    work: Work,
    /// Room for the labels of one series.
    room: Vec<Label<'static>>,
}

impl Shape {
    /// Whether everything goes out as it came.
    pub fn is_plain(&self) -> bool {
        self.external.is_empty() && self.selectors.is_empty() && self.rules.is_empty() && !self.drops_late && self.counters.is_none()
    }

    /// Whether the sink is told how far this series rises, whose labels, the tenant's among them, `value` finds.
    pub fn counts<'v>(&'v self, value: impl Fn(&str) -> Option<&'v str>) -> bool {
        let value = |name: &str| value(name).or_else(|| found(&self.external, name));
        self.counters.as_ref().is_some_and(|counters| counters.takes(value))
    }

    /// The labels with which a series goes out, and its tenant, after each rule: `show` gets the rule's number and the labels behind it, the tenant among them.
    pub fn follow(&self, labels: &[(&str, &str)], tenant: &str, show: &mut dyn FnMut(usize, Pairs)) -> Result<(Pairs, String), Left> {
        let mut work = Work::default();
        labels.iter().for_each(|(name, value)| work.push(name, value, None));
        self.add_external(&mut work);
        work.set(tenant::LABEL, tenant);
        if !self.matches(&work) {
            return Err(Left::Unmatched);
        }
        self.rules.follow(&mut work, &mut |number, work| show(number, pairs(work))).map_err(Left::Rule)?;
        if own(&work).next().is_none() { Err(Left::Bare) } else { Ok((own_pairs(&work), tenant_of(&work, tenant).to_owned())) }
    }

    fn add_external(&self, work: &mut Work) {
        for (name, value) in &self.external {
            if work.value(name).is_none() {
                work.set(name, value);
            }
        }
    }

    fn matches(&self, work: &Work) -> bool {
        self.selectors.is_empty() || self.selectors.iter().any(|selector| selector.takes(|name| work.value(name)))
    }
}

fn pairs(work: &Work) -> Pairs {
    let mut pairs: Pairs = work.labels().map(|(name, value, _)| (name.to_owned(), value.to_owned())).collect();
    pairs.sort_unstable();
    pairs
}

fn own_pairs(work: &Work) -> Pairs {
    let mut pairs = pairs(work);
    pairs.retain(|(name, _)| name != tenant::LABEL);
    pairs
}

/// The labels that go out: the tenant's is none of them.
fn own(work: &Work) -> impl Iterator<Item = (&str, &str, Option<u64>)> {
    work.labels().filter(|(name, ..)| *name != tenant::LABEL)
}

/// The tenant behind the rules: they may set another one, if it is one, and cannot take it away, so that `labelkeep` does not mix tenants.
fn tenant_of<'a>(work: &'a Work, before: &'a str) -> &'a str {
    work.value(tenant::LABEL).filter(|tenant| tenant::legal(tenant)).unwrap_or(before)
}

impl Shaper {
    /// Nothing remembered yet; `seed` is that of the labels' hashes.
    pub fn new(shape: Arc<Shape>, seed: u64) -> Shaper {
        Shaper { shape, seed, known: HashTable::new(), tenant: (String::new(), 0), work: Work::default(), room: Vec::new() }
    }

    /// Whether samples that come late stay behind.
    pub fn drops_late(&self) -> bool {
        self.shape.drops_late
    }

    /// Whether the sink is told how far the series with these labels rises, as it came and of whom it came.
    pub fn counts(&self, labels: &[Label<'_>], tenant: &str) -> bool {
        self.shape.counts(|name| match name {
            tenant::LABEL => Some(tenant),
            name => labels.iter().find(|label| label.name == name).map(|label| label.value),
        })
    }

    /// Shows the labels and the hash with which a series goes out, and whose it is then. False: it stays behind.
    pub fn shape(&mut self, (labels, series, tenant): (&[Label<'_>], u64, &str), show: Show<'_>) -> bool {
        let key = series ^ self.of_tenant(tenant);
        let verdict = self.known.find(key, |(known, _)| *known == key).map(|(_, verdict)| *verdict);
        let verdict = verdict.unwrap_or_else(|| self.judge(labels, tenant, key));
        match verdict {
            Verdict::Out => return false,
            Verdict::Same => show(labels, series, tenant),
            Verdict::Changed if self.shape.rules.is_empty() => self.merged(labels, tenant, show),
            Verdict::Changed => self.relabelled(labels, tenant, show),
        }
        true
    }

    /// What tells a tenant's series from equal ones of others'. Nearly always it is the tenant of the sample before.
    fn of_tenant(&mut self, tenant: &str) -> u64 {
        if self.tenant.0 != tenant {
            let mark = if tenant.is_empty() { 0 } else { xxh3_64_with_seed(tenant.as_bytes(), self.seed) };
            self.tenant = (tenant.to_owned(), mark);
        }
        self.tenant.1
    }

    fn judge(&mut self, labels: &[Label<'_>], tenant: &str, key: u64) -> Verdict {
        self.fill(labels, tenant);
        let shape = &self.shape;
        let verdict = if !shape.matches(&self.work) || shape.rules.apply(&mut self.work).is_err() || own(&self.work).next().is_none() {
            Verdict::Out
        } else if own(&self.work).count() == labels.len()
            && own(&self.work).all(|(_, _, part)| part.is_some())
            && tenant_of(&self.work, tenant) == tenant
        {
            Verdict::Same
        } else {
            Verdict::Changed
        };
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        // The hash is as good as random, by a secret seed: it is its own.
        self.known.insert_unique(key, (key, verdict), |(known, _)| *known);
        verdict
    }

    /// The labels with the external ones, and the tenant's.
    fn fill(&mut self, labels: &[Label<'_>], tenant: &str) {
        self.work.clear();
        labels.iter().for_each(|label| self.work.push(label.name, label.value, Some(label.part())));
        self.shape.add_external(&mut self.work);
        self.work.set(tenant::LABEL, tenant);
    }

    /// External labels only: both lists are in order.
    fn merged(&mut self, labels: &[Label<'_>], tenant: &str, show: Show<'_>) {
        let mut room = emptied(std::mem::take(&mut self.room));
        let mut left = labels;
        for (name, value) in &self.shape.external {
            let before = left.iter().take_while(|label| label.name < name.as_str()).count();
            let (smaller, rest) = left.split_at(before);
            room.extend_from_slice(smaller);
            left = rest;
            if left.first().is_none_or(|label| label.name != name) {
                room.push(Label::new(self.seed, name, value));
            }
        }
        room.extend_from_slice(left);
        show(&room, series_hash(&room, &[]), tenant);
        self.room = emptied(room);
    }

    fn relabelled(&mut self, labels: &[Label<'_>], tenant: &str, show: Show<'_>) {
        self.fill(labels, tenant);
        // Judged before: no rule drops it.
        if self.shape.rules.apply(&mut self.work).is_err() {
            return;
        }
        let mut room = emptied(std::mem::take(&mut self.room));
        let seed = self.seed;
        let label = |(name, value, part): (_, _, Option<u64>)| match part {
            Some(part) => Label::known(name, value, part),
            None => Label::new(seed, name, value),
        };
        room.extend(own(&self.work).map(label));
        show(&room, series_hash(&room, &[]), tenant_of(&self.work, tenant));
        self.room = emptied(room);
    }
}

/// The same memory, for labels of another life.
fn emptied<'new>(mut labels: Vec<Label<'_>>) -> Vec<Label<'new>> {
    labels.clear();
    labels.into_iter().map(|label| Label::known("", "", label.part())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::shape::Relabel;
    use crate::relabel::rules::Rule;

    const SEED: u64 = 7;

    fn shape(external: &[(&str, &str)], selectors: &[&str], drafts: Vec<Relabel>) -> Shape {
        Shape {
            external: external.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            selectors: selectors.iter().map(|text| Selector::parse(text).unwrap()).collect(),
            rules: Rules::new(drafts.iter().map(|draft| Rule::check(draft).unwrap()).collect()),
            ..Shape::default()
        }
    }

    fn own(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    /// As text, and whether the hash is that of the labels shown; the second time from memory.
    fn shown(shaper: &mut Shaper, pairs: &[(&str, &str)]) -> Option<String> {
        let labels: Vec<Label<'_>> = pairs.iter().map(|(name, value)| Label::new(SEED, name, value)).collect();
        let hash = series_hash(&labels, &[]);
        let mut out = [None, None];
        for out in &mut out {
            let went = shaper.shape((&labels, hash, ""), &mut |labels, hash, tenant| {
                assert_eq!(tenant, "");
                let anew: Vec<Label<'_>> = labels.iter().map(|label| Label::new(SEED, label.name, label.value)).collect();
                assert_eq!(hash, series_hash(&anew, &[]));
                assert!(labels.is_sorted_by(|a, b| a.name < b.name));
                *out = Some(labels.iter().map(|label| format!("{}={}", label.name, label.value)).collect::<Vec<_>>().join(" "));
            });
            assert_eq!(went, out.is_some());
        }
        let [first, second] = out;
        assert_eq!(first, second);
        first
    }

    #[test]
    fn external_labels_go_onto_what_lacks_them() {
        let mut shaper = Shaper::new(Arc::new(shape(&[("datacenter", "nj1"), ("zone", "z")], &[], Vec::new())), SEED);
        let text = |pairs: &[(&str, &str)], shaper: &mut Shaper| shown(shaper, pairs).unwrap();
        assert_eq!(text(&[("__name__", "up"), ("job", "a")], &mut shaper), "__name__=up datacenter=nj1 job=a zone=z");
        assert_eq!(text(&[("__name__", "up"), ("datacenter", "own")], &mut shaper), "__name__=up datacenter=own zone=z");
        assert_eq!(text(&[("datacenter", "own"), ("zone", "x")], &mut shaper), "datacenter=own zone=x");
    }

    #[test]
    fn external_labels_come_before_selectors_and_those_before_rules() {
        let drop = Relabel { source_labels: Some(vec!["job".to_owned()]), regex: own("noise"), action: own("drop"), ..Relabel::default() };
        let lift = Relabel { regex: own("instance"), action: own("labeldrop"), ..Relabel::default() };
        let shape = shape(&[("datacenter", "nj1")], &["{datacenter=\"nj1\", job=~\".+\"}", "down"], vec![drop, lift]);
        let mut shaper = Shaper::new(Arc::new(shape.clone()), SEED);
        assert_eq!(shown(&mut shaper, &[("__name__", "up"), ("instance", "i"), ("job", "a")]).unwrap(), "__name__=up datacenter=nj1 job=a");
        assert_eq!(shown(&mut shaper, &[("__name__", "up"), ("datacenter", "nj2"), ("job", "a")]), None);
        assert_eq!(shown(&mut shaper, &[("__name__", "down"), ("datacenter", "nj2")]).unwrap(), "__name__=down datacenter=nj2");
        assert_eq!(shown(&mut shaper, &[("__name__", "up"), ("job", "noise")]), None);
        let mut steps = 0;
        let left = shape.follow(&[("__name__", "up"), ("job", "noise")], "", &mut |_, _| steps += 1);
        assert_eq!((left, steps), (Err(Left::Rule(0)), 0));
        assert_eq!(shape.follow(&[("__name__", "up")], "", &mut |_, _| steps += 1), Err(Left::Unmatched));
        let out = shape.follow(&[("__name__", "up"), ("job", "a")], "", &mut |_, _| steps += 1).unwrap();
        assert_eq!((out.0.len(), steps), (3, 2));
    }

    #[test]
    fn what_is_left_without_a_label_stays_behind() {
        let bare = Relabel { regex: own(".*"), action: own("labeldrop"), ..Relabel::default() };
        let shape = shape(&[], &[], vec![bare]);
        assert_eq!(shape.follow(&[("__name__", "up")], "", &mut |_, _| ()), Err(Left::Bare));
        assert_eq!(shown(&mut Shaper::new(Arc::new(shape), SEED), &[("__name__", "up")]), None);
    }

    /// As text, and the tenant behind it.
    fn of_tenant(shaper: &mut Shaper, pairs: &[(&str, &str)], tenant: &str) -> Option<(String, String)> {
        let labels: Vec<Label<'_>> = pairs.iter().map(|(name, value)| Label::new(SEED, name, value)).collect();
        let mut out = None;
        shaper.shape((&labels, series_hash(&labels, &[]), tenant), &mut |labels, _, tenant| {
            let text = labels.iter().map(|label| format!("{}={}", label.name, label.value)).collect::<Vec<_>>().join(" ");
            out = Some((text, tenant.to_owned()));
        });
        out
    }

    #[test]
    fn equal_series_of_two_tenants_are_told_apart_and_none_goes_out_with_the_tenants_label() {
        let up = [("__name__", "up"), ("job", "a")];
        let went = |text: &str, tenant: &str| Some((text.to_owned(), tenant.to_owned()));
        let mut only_a = Shaper::new(Arc::new(shape(&[], &["{__tenant__=\"a\"}"], Vec::new())), SEED);
        for _ in 0..2 {
            assert_eq!(of_tenant(&mut only_a, &up, "a"), went("__name__=up job=a", "a"));
            assert_eq!(of_tenant(&mut only_a, &up, "b"), None);
            assert_eq!(of_tenant(&mut only_a, &up, ""), None);
        }
        // Seen by rules; as another label it goes out.
        let copy = Relabel { source_labels: Some(vec!["__tenant__".to_owned()]), target_label: own("team"), ..Relabel::default() };
        let keep = Relabel { regex: own("__name__|team"), action: own("labelkeep"), ..Relabel::default() };
        let mut copied = Shaper::new(Arc::new(shape(&[], &[], vec![copy, keep])), SEED);
        for _ in 0..2 {
            assert_eq!(of_tenant(&mut copied, &up, "a"), went("__name__=up team=a", "a"), "labelkeep takes no tenant away");
            assert_eq!(of_tenant(&mut copied, &up, ""), went("__name__=up", ""));
        }
    }

    #[test]
    fn a_rule_may_give_another_tenant_if_it_is_one() {
        let rule = Relabel { source_labels: Some(vec!["team".to_owned()]), target_label: own("__tenant__"), ..Relabel::default() };
        let mut shaper = Shaper::new(Arc::new(shape(&[], &[], vec![rule])), SEED);
        let mut tenant = |team: &str, before: &str| {
            let went = of_tenant(&mut shaper, &[("__name__", "up"), ("team", team)], before).unwrap();
            assert_eq!(went.0, format!("__name__=up team={team}"));
            went.1
        };
        assert_eq!([tenant("x", "a"), tenant("x", ""), tenant("x", "x"), tenant("a b", "a")], ["x", "x", "x", "a"]);
    }

    #[test]
    fn a_million_series_are_remembered_and_no_more() {
        let mut shaper = Shaper::new(Arc::new(shape(&[], &["up"], Vec::new())), SEED);
        let labels = [Label::new(SEED, "__name__", "up")];
        for series in 0..KNOWN_MAX as u64 + 10 {
            assert!(shaper.shape((&labels, series, ""), &mut |_, _, _| ()));
        }
        assert_eq!(shaper.known.len(), 10);
    }
}

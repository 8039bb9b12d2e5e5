//! What short-lived jobs have pushed: groups of families of metrics, each group known by the labels of its path, as a Pushgateway keeps them.
//!
//! A push is an entry. Whether it fits to what is there (types, series that another group has, room) is judged when it is applied, alike on every member; one that
//! does not fit leaves the time of its failure. Left out on purpose: what bodies look like (`wire::families`), when groups expire and who writes samples of them
//! (`app::pushed`), and HTTP (`api::push`).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use crate::shard::codec::Malformed;
use crate::shard::codec::Reader;
use crate::shard::codec::Writer;
use crate::wire::families::Family;
use crate::wire::families::Kind;
use crate::wire::families::Labels;
use crate::wire::families::Metric;
use crate::wire::families::Parts;
use crate::wire::families::Value;

/// Groups of all tenants together.
pub const MOST_GROUPS: usize = 10_000;
/// Bytes of a group as they are kept: some 20,000 series.
pub const MOST_GROUP_BYTES: usize = 2 << 20;
/// Bytes of all groups. An image holds them, and every member has them in its memory.
pub const MOST_BYTES: usize = 32 << 20;
/// Bytes that a group takes beside its families.
const GROUP_BYTES: usize = 128;
/// What a Pushgateway says of each group itself; whoever pushes it is not heard.
pub const TIMES: [(&str, &str); 2] = [
    ("push_time_seconds", "Last Unix time when changing this group in the Pushgateway succeeded."),
    ("push_failure_time_seconds", "Last Unix time when changing this group in the Pushgateway failed."),
];

/// What a group is known by.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Whose it is; empty: nobody's.
    pub tenant: String,
    /// The labels of its path by name, `job` among them.
    pub labels: Labels,
}

/// A group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// The last push that was taken, by the shard's time, ms since 1970; 0: none yet.
    pub pushed: i64,
    /// The last push that was not.
    pub failed: i64,
    /// By name.
    pub families: BTreeMap<String, Arc<Stored>>,
}

/// A family as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What it is.
    pub kind: Kind,
    /// For people.
    pub help: Option<String>,
    /// When it was pushed.
    pub at: i64,
    /// Its metrics, written.
    metrics: Vec<u8>,
    /// A hash of each metric's labels.
    series: Vec<u64>,
}

/// What happens to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Metrics are pushed.
    Push {
        /// Where to.
        group: Key,
        /// All that was there goes; else what has the same name.
        replace: bool,
        /// By name. One without metrics takes the place of what was there.
        families: Vec<(String, Stored)>,
    },
    /// Something was pushed that cannot be taken.
    Failed(Key),
    /// It goes.
    Delete(Key),
    /// It goes, if nothing was pushed since.
    Expire(Key, i64),
}

/// All groups, for readers.
pub type Groups = BTreeMap<Key, Arc<Group>>;

/// What groups take of [`MOST_BYTES`].
pub fn bytes(groups: &Groups) -> usize {
    groups.iter().map(|(key, group)| key.bytes() + group.bytes()).sum()
}

/// All groups, and what is known of them together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    groups: Arc<Groups>,
    bytes: usize,
    /// The type of each name of each tenant, and how many groups have it.
    kinds: BTreeMap<(String, String), (u8, usize)>,
    /// All series.
    series: BTreeSet<u64>,
}

impl Stored {
    /// Of a family whose labels are complete and in order.
    pub fn new(family: &Family) -> Stored {
        let mut metrics = Vec::new();
        let mut out = Writer(&mut metrics);
        out.number(family.metrics.len() as u64);
        family.metrics.iter().for_each(|metric| write_metric(&mut out, metric));
        let series = family.metrics.iter().map(|metric| series(&metric.labels)).collect();
        Stored { kind: family.kind, help: family.help.clone(), at: 0, metrics, series }
    }

    /// As a family again.
    pub fn family(&self, name: &str) -> Family {
        // It was read once already when it came from the log or from an image.
        let metrics = read_metrics(&mut Reader(&self.metrics), self.kind).unwrap_or_default();
        Family { name: name.to_owned(), help: self.help.clone(), kind: self.kind, metrics }
    }

    fn bytes(&self) -> usize {
        self.metrics.len() + self.help.as_ref().map_or(0, String::len) + 8 * self.series.len()
    }

    fn write(&self, out: &mut Writer<'_>) {
        out.byte(self.kind.number() | if self.help.is_some() { 0x80 } else { 0 });
        if let Some(help) = &self.help {
            out.text(help);
        }
        out.signed(self.at);
        out.bytes(&self.metrics);
    }

    fn read(from: &mut Reader<'_>) -> Result<Stored, Malformed> {
        let kind = from.byte()?;
        let helped = kind & 0x80 != 0;
        let kind = Kind::of(u64::from(kind & 0x7f)).ok_or(Malformed::Impossible("a type of metrics of this number"))?;
        let help = if helped { Some(from.text()?.to_owned()) } else { None };
        let (at, metrics) = (from.signed()?, from.bytes()?.to_vec());
        let mut inner = Reader(&metrics);
        let read = read_metrics(&mut inner, kind)?;
        inner.end()?;
        let series = read.iter().map(|metric| series(&metric.labels)).collect();
        Ok(Stored { kind, help, at, metrics, series })
    }
}

fn write_metric(out: &mut Writer<'_>, metric: &Metric) {
    write_labels(out, &metric.labels);
    match &metric.value {
        Value::Single(value) => out.fixed(value.to_bits()),
        Value::Parts(Parts { count, sum, steps }) => {
            out.fixed(count.to_bits());
            out.fixed(sum.to_bits());
            out.number(steps.len() as u64);
            steps.iter().flat_map(|(step, value)| [step, value]).for_each(|number| out.fixed(number.to_bits()));
        }
    }
}

fn write_labels(out: &mut Writer<'_>, labels: &Labels) {
    out.number(labels.len() as u64);
    for (name, value) in labels {
        out.text(name);
        out.text(value);
    }
}

fn read_labels(from: &mut Reader<'_>) -> Result<Labels, Malformed> {
    (0..from.count(2)?).map(|_| Ok((from.text()?.to_owned(), from.text()?.to_owned()))).collect()
}

fn read_metrics(from: &mut Reader<'_>, kind: Kind) -> Result<Vec<Metric>, Malformed> {
    let parted = !kind.suffixes().is_empty();
    let metric = |from: &mut Reader<'_>| {
        let labels = read_labels(from)?;
        let first = f64::from_bits(from.fixed()?);
        if !parted {
            return Ok(Metric { labels, value: Value::Single(first) });
        }
        let sum = f64::from_bits(from.fixed()?);
        let double = |from: &mut Reader<'_>| from.fixed().map(f64::from_bits);
        let steps = (0..from.count(16)?).map(|_| Ok((double(from)?, double(from)?))).collect::<Result<_, Malformed>>()?;
        Ok(Metric { labels, value: Value::Parts(Parts { count: first, sum, steps }) })
    };
    (0..from.count(9)?).map(|_| metric(from)).collect()
}

fn series(labels: &Labels) -> u64 {
    let mut hash = Xxh3::new();
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        hash.update(&(text.len() as u32).to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash.digest()
}

/// The same of a whole series, tenants apart.
fn whole(tenant: &str, name: &str, labels: u64) -> u64 {
    let mut hash = Xxh3::with_seed(labels);
    hash.update(tenant.as_bytes());
    hash.update(&[0xff]);
    hash.update(name.as_bytes());
    hash.digest()
}

impl Key {
    /// `{job="a"}`, for people.
    pub fn shown(&self) -> String {
        let labels: Vec<String> = self.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        format!("{{{}}}", labels.join(","))
    }

    fn bytes(&self) -> usize {
        GROUP_BYTES + self.tenant.len() + self.labels.iter().map(|(name, value)| name.len() + value.len() + 8).sum::<usize>()
    }

    fn write(&self, out: &mut Writer<'_>) {
        out.text(&self.tenant);
        write_labels(out, &self.labels);
    }

    fn read(from: &mut Reader<'_>) -> Result<Key, Malformed> {
        Ok(Key { tenant: from.text()?.to_owned(), labels: read_labels(from)? })
    }
}

impl Group {
    /// When it counts as pushed last: where nothing was ever taken, when something was refused.
    pub fn last(&self) -> i64 {
        if self.pushed > 0 { self.pushed } else { self.failed }
    }

    /// All its families, with what a Pushgateway adds.
    pub fn all(&self, key: &Key) -> Vec<Family> {
        let mut all: Vec<Family> = self.families.iter().map(|(name, stored)| stored.family(name)).collect();
        for ((name, help), at) in TIMES.into_iter().zip([self.pushed, self.failed]) {
            let metrics = vec![Metric { labels: Labels::new(), value: Value::Single(at as f64 / 1000.0) }];
            let mut family = Family { name: name.to_owned(), help: Some(help.to_owned()), kind: Kind::Gauge, metrics };
            family.label(&key.labels);
            all.push(family);
        }
        all
    }

    fn bytes(&self) -> usize {
        self.families.iter().map(|(name, stored)| name.len() + stored.bytes()).sum()
    }
}

impl Pushed {
    /// All groups. Shared with those who look at them.
    pub fn groups(&self) -> &Arc<Groups> {
        &self.groups
    }

    /// Carries out a change, or says why not.
    pub(super) fn change(&mut self, change: Change, at: i64) -> Result<(), String> {
        match change {
            Change::Delete(key) => drop(self.take(&key)),
            Change::Expire(key, last) => {
                if self.groups.get(&key).is_some_and(|group| group.last() == last) {
                    self.take(&key);
                }
            }
            Change::Failed(key) => self.fail(key, at),
            Change::Push { group: key, replace, families } => {
                let before = self.take(&key);
                let mut group = before.as_deref().cloned().unwrap_or_default();
                if replace {
                    group.families.clear();
                }
                for (name, stored) in families {
                    if stored.series.is_empty() || TIMES.iter().any(|(ours, _)| *ours == name) {
                        group.families.remove(&name);
                    } else {
                        group.families.insert(name, Arc::new(Stored { at, ..stored }));
                    }
                }
                group.pushed = at;
                if let Err(why) = self.put(key.clone(), Arc::new(group)) {
                    // What was there goes back: it fitted before.
                    if let Some(before) = before {
                        let _ = self.put(key.clone(), before);
                    }
                    self.fail(key, at);
                    return Err(why);
                }
            }
        }
        Ok(())
    }

    fn fail(&mut self, key: Key, at: i64) {
        let room = self.groups.len() < MOST_GROUPS && self.bytes + key.bytes() <= MOST_BYTES;
        let groups = Arc::make_mut(&mut self.groups);
        if let Some(group) = groups.get_mut(&key) {
            Arc::make_mut(group).failed = at;
        } else if room {
            self.bytes += key.bytes();
            groups.insert(key, Arc::new(Group { failed: at, ..Group::default() }));
        }
    }

    /// Takes a group out, with all that is known of it.
    fn take(&mut self, key: &Key) -> Option<Arc<Group>> {
        let group = Arc::make_mut(&mut self.groups).remove(key)?;
        self.bytes -= key.bytes() + group.bytes();
        for (name, stored) in &group.families {
            self.forget(&key.tenant, name, stored);
        }
        Some(group)
    }

    fn forget(&mut self, tenant: &str, name: &str, stored: &Stored) {
        let kind = (tenant.to_owned(), name.to_owned());
        if let Some((_, groups)) = self.kinds.get_mut(&kind) {
            *groups -= 1;
            if *groups == 0 {
                self.kinds.remove(&kind);
            }
        }
        for labels in &stored.series {
            self.series.remove(&whole(tenant, name, *labels));
        }
    }

    /// Puts a group in whose key is free, if it fits to the others.
    fn put(&mut self, key: Key, group: Arc<Group>) -> Result<(), String> {
        let bytes = group.bytes();
        let remedy = "push less of it, or delete groups that nobody needs any more (docs/push.md)";
        if bytes > MOST_GROUP_BYTES {
            return Err(format!("the group {} would have {bytes} bytes, and {MOST_GROUP_BYTES} are the most: {remedy}", key.shown()));
        }
        if self.groups.len() >= MOST_GROUPS {
            return Err(format!("there are {MOST_GROUPS} groups already: {remedy}"));
        }
        if self.bytes + key.bytes() + bytes > MOST_BYTES {
            return Err(format!("all groups together would have more than {MOST_BYTES} bytes: {remedy}"));
        }
        let mut done: Vec<(&str, &Stored)> = Vec::new();
        for (name, stored) in &group.families {
            if let Err(why) = self.learn(&key.tenant, name, stored) {
                done.into_iter().for_each(|(name, stored)| self.forget(&key.tenant, name, stored));
                return Err(why);
            }
            done.push((name, stored));
        }
        self.bytes += key.bytes() + bytes;
        Arc::make_mut(&mut self.groups).insert(key, group);
        Ok(())
    }

    /// Notes a family; or says what it does not fit to, and notes nothing.
    fn learn(&mut self, tenant: &str, name: &str, stored: &Stored) -> Result<(), String> {
        let of = |name: &str| (tenant.to_owned(), name.to_owned());
        let kind = |number: u8| Kind::of(u64::from(number)).unwrap_or(Kind::Untyped);
        if let Some((other, _)) = self.kinds.get(&of(name)).filter(|(other, _)| *other != stored.kind.number()) {
            return Err(format!("{name} has type {} but should have {}: another group has it so", stored.kind.word(), kind(*other).word()));
        }
        for suffix in ["_sum", "_count", "_bucket"] {
            let base = name.strip_suffix(suffix).and_then(|base| Some((base, kind(self.kinds.get(&of(base))?.0))));
            if let Some((base, kind)) = base.filter(|(_, kind)| kind.suffixes().contains(&suffix)) {
                return Err(format!("{name} collides with a part of the {} {base}", kind.word()));
            }
        }
        for suffix in stored.kind.suffixes() {
            if self.kinds.contains_key(&of(&format!("{name}{suffix}"))) {
                return Err(format!("the {} {name} collides with {name}{suffix}", stored.kind.word()));
            }
        }
        for (at, labels) in stored.series.iter().enumerate() {
            if !self.series.insert(whole(tenant, name, *labels)) {
                for before in &stored.series[..at] {
                    self.series.remove(&whole(tenant, name, *before));
                }
                return Err(format!("a metric {name} was there before with the same labels and values, in this push or in another group"));
            }
        }
        self.kinds.entry(of(name)).or_insert((stored.kind.number(), 0)).1 += 1;
        Ok(())
    }

    pub(super) fn write(&self, out: &mut Writer<'_>) {
        out.number(self.groups.len() as u64);
        for (key, group) in self.groups.iter() {
            key.write(out);
            out.signed(group.pushed);
            out.signed(group.failed);
            out.number(group.families.len() as u64);
            for (name, stored) in &group.families {
                out.text(name);
                stored.write(out);
            }
        }
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Pushed, Malformed> {
        let mut pushed = Pushed::default();
        for _ in 0..from.count(5)? {
            let key = Key::read(from)?;
            let mut group = Group { pushed: from.signed()?, failed: from.signed()?, families: BTreeMap::new() };
            for _ in 0..from.count(4)? {
                group.families.insert(from.text()?.to_owned(), Arc::new(Stored::read(from)?));
            }
            if pushed.groups.contains_key(&key) {
                return Err(Malformed::Impossible("a group that stands there twice"));
            }
            pushed.put(key, Arc::new(group)).map_err(|_| Malformed::Impossible("a group that does not fit to the others"))?;
        }
        Ok(pushed)
    }
}

impl Change {
    pub(super) fn write(&self, out: &mut Writer<'_>) {
        match self {
            Change::Push { group, replace, families } => {
                out.byte(u8::from(*replace));
                group.write(out);
                out.number(families.len() as u64);
                for (name, stored) in families {
                    out.text(name);
                    stored.write(out);
                }
            }
            Change::Failed(group) => {
                out.byte(2);
                group.write(out);
            }
            Change::Delete(group) => {
                out.byte(3);
                group.write(out);
            }
            Change::Expire(group, last) => {
                out.byte(4);
                group.write(out);
                out.signed(*last);
            }
        }
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Change, Malformed> {
        Ok(match from.byte()? {
            replace @ (0 | 1) => {
                let group = Key::read(from)?;
                let family = |from: &mut Reader<'_>| Ok((from.text()?.to_owned(), Stored::read(from)?));
                let families = (0..from.count(4)?).map(|_| family(from)).collect::<Result<_, Malformed>>()?;
                Change::Push { group, replace: replace == 1, families }
            }
            2 => Change::Failed(Key::read(from)?),
            3 => Change::Delete(Key::read(from)?),
            4 => Change::Expire(Key::read(from)?, from.signed()?),
            _ => return Err(Malformed::Impossible("a change of a pushed group of this number")),
        })
    }
}

#[cfg(test)]
mod tests;

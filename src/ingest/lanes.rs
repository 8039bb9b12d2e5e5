//! One walk over a request: every point is judged at the door, and the points are parted by group and replica.
//!
//! A *lane* is what one request holds of one replica of one group. Nearly every request has one; then its digest is the walk's list as it
//! is and its body goes on as it came. Points that are refused keep their place in the list, because body order numbers them.
//!
//! Nothing is allocated per sample: the lists live in [`Lanes`], which is reused from request to request.

use std::sync::Arc;

use crate::config::groups::Groups;
use crate::config::groups::Unidentified as Policy;
use crate::config::limits::Limits;
use crate::dedup::detect::doctor::Bare;
use crate::ingest::census::Census;
use crate::ingest::census::Sample;
use crate::ingest::head::Hint;
use crate::ingest::identity::Identifier;
use crate::ingest::identity::Identity;
use crate::ingest::identity::Unidentified;
use crate::ingest::offenders::Offenders;
use crate::label_words;
use crate::model::Item;
use crate::model::Kind;
use crate::model::NO_VALUE;
use crate::model::tenant;
use crate::node::offer::Struck;
use crate::relabel::counters::Asked;
use crate::wire::remote_write::DecodeError;
use crate::wire::remote_write::Limits as WireLimits;
use crate::wire::remote_write::Point;
use crate::wire::remote_write::Protocol;
use crate::wire::remote_write::Series;
use crate::wire::remote_write::SeriesFault;
use crate::wire::remote_write::Totals;
use crate::wire::remote_write::Walker;
use crate::wire::remote_write::without;

label_words! {
    /// Why points are refused at the door.
    Refusal {
        /// No metric name.
        NoName = "no_name",
        /// A label without a name.
        EmptyLabelName = "empty_label_name",
        /// A label name twice.
        DuplicateLabel = "duplicate_label",
        /// Not UTF-8.
        NotUtf8 = "not_utf8",
        /// Too many labels.
        TooManyLabels = "too_many_labels",
        /// A label name too long.
        LongName = "long_label_name",
        /// A label value too long.
        LongValue = "long_label_value",
        /// 2.0: references do not pair up.
        OddReferences = "odd_references",
        /// 2.0: no such symbol.
        ReferenceRange = "reference_out_of_range",
        /// A native histogram that makes no sense.
        Histogram = "bad_histogram",
        /// Too far ahead of this node's clock.
        Future = "future",
        /// Without labels that say whose it is, where that is not allowed.
        Unidentified = "unidentified",
        /// The group is new and there are as many as are taken.
        TooManyGroups = "too_many_groups",
        /// The group has as many series as it may have, and this one is new.
        TooManySeries = "too_many_series",
        /// More groups and replicas in one request than are taken.
        TooManyLanes = "too_many_replicas",
    }
}

impl From<SeriesFault> for Refusal {
    fn from(fault: SeriesFault) -> Refusal {
        match fault {
            SeriesFault::NoName => Refusal::NoName,
            SeriesFault::EmptyLabelName => Refusal::EmptyLabelName,
            SeriesFault::DuplicateLabel => Refusal::DuplicateLabel,
            SeriesFault::NotUtf8 => Refusal::NotUtf8,
            SeriesFault::TooManyLabels => Refusal::TooManyLabels,
            SeriesFault::LongName => Refusal::LongName,
            SeriesFault::LongValue => Refusal::LongValue,
            SeriesFault::OddReferences => Refusal::OddReferences,
            SeriesFault::ReferenceRange => Refusal::ReferenceRange,
            SeriesFault::Histogram(_) => Refusal::Histogram,
        }
    }
}

/// What was written, in the words of 2.0's headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Float samples, stale markers included.
    pub samples: u64,
    /// Native histograms.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
}

impl Written {
    fn count(&mut self, point: &Point<'_>) {
        match point.kind {
            Kind::Exemplar => self.exemplars += 1,
            _ if point.histogram => self.histograms += 1,
            _ => self.samples += 1,
        }
    }

    /// Both together.
    pub fn plus(self, other: Written) -> Written {
        Written {
            samples: self.samples + other.samples,
            histograms: self.histograms + other.histograms,
            exemplars: self.exemplars + other.exemplars,
        }
    }

    /// Without what was struck by the shard's leader.
    pub fn without(self, struck: Struck) -> Written {
        Written {
            samples: self.samples.saturating_sub(struck.samples),
            histograms: self.histograms.saturating_sub(struck.histograms),
            exemplars: self.exemplars.saturating_sub(struck.exemplars),
        }
    }

    /// All of them.
    pub fn total(self) -> u64 {
        self.samples + self.histograms + self.exemplars
    }
}

/// What a request holds of one replica of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The group's name.
    pub group: String,
    /// The replica's.
    pub replica: String,
    /// What was missing to know them.
    pub missing: Option<Unidentified>,
    /// Points that are not refused.
    pub good: Written,
    /// Points that are.
    pub refused: u64,
    /// Newest time of a good point.
    pub newest: i64,
    /// Smallest hashes of its series without the group's own labels; empty unless they were asked for.
    pub bare: Bare,
    identity: (String, String),
}

/// Neighbouring series of one lane.
#[derive(Clone, Copy, Debug)]
struct Run {
    lane: usize,
    series: u32,
    items: u32,
}

/// A request mixes two pairs now and then; a relay may merge some dozens. Each lane is an entry of its own.
const LANES_MAX: usize = 64;
/// A faulty series before any other: it goes to the first lane there will be.
const NOT_YET: usize = usize::MAX;

/// The rules at the door.
#[derive(Debug)]
pub struct Door {
    /// Whose series are.
    pub identifier: Identifier,
    /// What is special about groups.
    pub groups: Groups,
    /// Of which series the shards are told values.
    pub counters: Asked,
    /// Bounds of the walk: the widest that any group has.
    pub wire: WireLimits,
    labels_per_series: usize,
    future_ms: i64,
}

impl Door {
    /// Of a configuration.
    pub fn new(groups: &Groups, limits: &Limits, counters: &Asked) -> Door {
        let widest =
            groups.overrides.iter().filter_map(|special| special.labels_per_series).max().unwrap_or(0).max(limits.labels_per_series);
        Door {
            identifier: Identifier::new(groups),
            groups: groups.clone(),
            counters: counters.clone(),
            wire: WireLimits {
                labels_per_series: widest,
                label_name_bytes: limits.label_name_bytes,
                label_value_bytes: limits.label_value_bytes,
                series: limits.series_per_request,
                points: limits.points_per_request,
                symbols: limits.symbols_per_request,
            },
            labels_per_series: limits.labels_per_series,
            future_ms: millis(limits.future),
        }
    }
}

/// Of so many refused points the reason is kept, for those who read along: a hostile request must not make a list of its own length.
const REASONS_MAX: usize = 1000;

fn note(reasons: &mut Vec<(u32, Refusal)>, (from, points): (usize, usize), refusal: Refusal) {
    let room = REASONS_MAX.saturating_sub(reasons.len());
    reasons.extend((from..from + points.min(room)).map(|at| (at as u32, refusal)));
}

/// The same text, often an empty one. Comparing those is no work for `memcmp`: glibc's for AVX-512 reads both under a mask that lets nothing through, at an address
/// where nothing is, which makes the processor stumble for some 200 ns (glibc 2.36 on an AMD EPYC), up to twice a series.
fn alike(a: &str, b: &str) -> bool {
    a.len() == b.len() && (a.is_empty() || a == b)
}

fn millis(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// When a walk is, and what it looks at beside.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// The node's wall clock.
    pub now_ms: i64,
    /// Also hashes without the groups' own labels are gathered, and series are sampled.
    pub bare: bool,
    /// The samples of groups.
    pub census: &'a Census,
    /// Series that one of them holds at most.
    pub most: usize,
}

/// What one walk found. Reused.
#[derive(Debug, Default)]
pub struct Lanes {
    /// In order of first sight.
    pub lanes: Vec<Lane>,
    /// Every point of the request, in body order.
    pub items: Vec<Item>,
    /// The bits of their values, one for each; empty, if the shards need none.
    pub values: Vec<u64>,
    /// What was refused.
    pub offenders: Offenders,
    /// Why, of the first points: by their place among `items`.
    reasons: Vec<(u32, Refusal)>,
    runs: Vec<Run>,
    /// Bounds of each lane's group, where they differ from the door's: (future, labels per series).
    special: Vec<(i64, usize)>,
    /// Each lane's group's sample, where its series are to be looked at.
    samples: Vec<Option<Arc<Sample>>>,
}

impl Lanes {
    /// Walks a request. On an error nothing of it counts.
    pub fn walk(
        &mut self,
        walker: &mut Walker,
        (protocol, raw): (Protocol, &[u8]),
        door: &Door,
        hint: &Hint,
        look: Look<'_>,
    ) -> Result<Totals, DecodeError> {
        self.clear();
        let outcome = walker.walk(protocol, raw, &door.wire, &mut |series| self.series(&series, door, hint, look));
        if outcome.is_err() {
            self.clear();
        }
        outcome
    }

    fn clear(&mut self) {
        self.lanes.clear();
        self.items.clear();
        self.reasons.clear();
        self.values.clear();
        self.runs.clear();
        self.special.clear();
        self.samples.clear();
        self.offenders = Offenders::default();
    }

    fn series(&mut self, series: &Series<'_, '_>, door: &Door, hint: &Hint, look: Look<'_>) {
        if let Some(fault) = series.fault {
            let lane = self.runs.last().map_or(NOT_YET, |run| run.lane);
            return self.refuse(series, lane, fault.into(), || fault.to_string());
        }
        let identity = door.identifier.identify(series.labels, hint);
        let Some(number) = self.lane_of(&identity, (door, hint), look) else {
            let lane = self.runs.last().map_or(NOT_YET, |run| run.lane);
            return self.refuse(series, lane, Refusal::TooManyLanes, || "the request holds series of more than 64 replicas".into());
        };
        if let (Some(missing), Policy::Refuse) = (identity.missing, door.groups.unidentified) {
            let detail = || format!("{}: it does not say which group and replica it is of (groups.unidentified: refuse)", missing.word());
            return self.refuse(series, number, Refusal::Unidentified, detail);
        }
        let (future, labels_most) = self.special[number];
        if series.labels.len() > labels_most {
            let detail = || format!("it has {} labels, at most {labels_most} are taken", series.labels.len());
            return self.refuse(series, number, Refusal::TooManyLabels, detail);
        }
        let hash = without(series.hash(&[]), identity.replicas);
        let latest = look.now_ms.saturating_add(future);
        if let Some(sample) = &self.samples[number] {
            sample.saw(hash, series.labels, (door.identifier.strip(), look.most), look.now_ms);
        }
        let lane = &mut self.lanes[number];
        if look.bare {
            lane.bare.insert(without(hash, identity.own));
        }
        for point in series.points {
            let refused = point.time > latest;
            if refused {
                lane.refused += 1;
                let ahead = || format!("it lies {} s ahead of this node's clock", point.time.saturating_sub(look.now_ms) / 1000);
                self.offenders.count(Refusal::Future, number, 1);
                note(&mut self.reasons, (self.items.len(), 1), Refusal::Future);
                self.offenders.show(series.labels, ahead);
            } else {
                lane.good.count(point);
                lane.newest = lane.newest.max(point.time);
            }
            self.items.push(Item { series: hash, time: point.time, kind: point.kind, refused });
        }
        if !door.counters.is_empty() {
            self.say_values(series, (door, hint));
        }
        self.run(number, series.points.len());
    }

    /// Values of a series, if a sink asks how far it rises. They catch up with the items, whatever was refused before.
    fn say_values(&mut self, series: &Series<'_, '_>, (door, hint): (&Door, &Hint)) {
        self.values.resize(self.items.len() - series.points.len(), NO_VALUE);
        let strip = door.identifier.strip();
        let value = |name: &str| {
            if name == tenant::LABEL {
                return hint.tenant.as_deref();
            }
            let label = series.labels.iter().find(|label| label.name == name)?;
            (!strip.iter().any(|stripped| stripped == name)).then_some(label.value)
        };
        let counts = door.counters.takes(value);
        let bits = |point: &Point<'_>| if counts && point.kind == Kind::Float { point.bits } else { NO_VALUE };
        self.values.extend(series.points.iter().map(bits));
    }

    fn refuse(&mut self, series: &Series<'_, '_>, lane: usize, refusal: Refusal, detail: impl FnOnce() -> String) {
        let points = series.points.len();
        note(&mut self.reasons, (self.items.len(), points), refusal);
        self.items.extend(series.points.iter().map(|point| Item { series: 0, time: point.time, kind: point.kind, refused: true }));
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.refused += points as u64;
        }
        // A bad series without any point is refused, too: say so once.
        self.offenders.count(refusal, if lane == NOT_YET { 0 } else { lane }, (points as u64).max(1));
        self.offenders.show(series.labels, detail);
        self.run(lane, points);
    }

    fn run(&mut self, lane: usize, points: usize) {
        let items = points as u32;
        match self.runs.last_mut() {
            Some(run) if run.lane == lane => {
                run.series += 1;
                run.items += items;
            }
            _ => self.runs.push(Run { lane, series: 1, items }),
        }
    }

    /// The lane of an identity: nearly always the last one. All of a request is of one tenant.
    fn lane_of(&mut self, identity: &Identity<'_>, (door, hint): (&Door, &Hint), look: Look<'_>) -> Option<usize> {
        let same = |lane: &Lane| {
            lane.identity.0 == identity.group && alike(&lane.replica, identity.replica) && alike(&lane.identity.1, identity.shard)
        };
        if let Some(last) = self.runs.last().map(|run| run.lane)
            && self.lanes.get(last).is_some_and(same)
        {
            return Some(last);
        }
        if let Some(known) = self.lanes.iter().position(same) {
            return Some(known);
        }
        if self.lanes.len() >= LANES_MAX {
            return None;
        }
        let group = tenant::group_name(hint.tenant.as_deref().unwrap_or_default(), &identity.group_name());
        let special = door.groups.of(&group);
        self.special.push((
            special.and_then(|special| special.future).map_or(door.future_ms, millis),
            special.and_then(|special| special.labels_per_series).unwrap_or(door.labels_per_series),
        ));
        self.samples.push(look.census.of(&group, look.now_ms, look.bare));
        self.lanes.push(Lane {
            group,
            replica: identity.replica.to_string(),
            missing: identity.missing,
            good: Written::default(),
            refused: 0,
            newest: i64::MIN,
            bare: Bare::default(),
            identity: (identity.group.to_string(), identity.shard.to_string()),
        });
        Some(self.lanes.len() - 1)
    }

    /// Why points of one lane were refused, the first ones: by their place in what [`Lanes::items_of`] gives.
    pub fn reasons_of(&self, lane: usize) -> Vec<(u32, Refusal)> {
        let (mut out, mut from, mut before) = (Vec::new(), 0, 0);
        let mut left = self.reasons.as_slice();
        for run in &self.runs {
            let to = from + run.items;
            let (own, rest) = left.split_at(left.partition_point(|(at, _)| *at < to));
            left = rest;
            if self.home(run) == lane {
                out.extend(own.iter().map(|(at, refusal)| (at - from + before, *refusal)));
                before += run.items;
            }
            from = to;
        }
        out
    }

    /// The items of one lane, in the body order of what [`Lanes::holds`] keeps for it; and their values, if there are any.
    pub fn items_of(&self, lane: usize, out: &mut Vec<Item>, values: &mut Vec<u64>) {
        out.clear();
        values.clear();
        let mut from = 0;
        for run in &self.runs {
            let to = from + run.items as usize;
            if self.home(run) == lane {
                out.extend_from_slice(&self.items[from..to]);
                let said = self.values.get(from..to.min(self.values.len())).unwrap_or_default();
                values.extend_from_slice(said);
                values.resize(if self.values.is_empty() { 0 } else { out.len() }, NO_VALUE);
            }
            from = to;
        }
    }

    /// For each series in turn, whether it belongs to `lane`: to be called with ascending numbers.
    pub fn holds(&self, lane: usize) -> impl FnMut(u32) -> bool {
        let mut runs = self.runs.iter();
        let mut current = runs.next();
        let mut end = current.map_or(0, |run| run.series);
        move |number| {
            while number >= end {
                current = runs.next();
                match current {
                    Some(run) => end += run.series,
                    None => return false,
                }
            }
            current.is_some_and(|run| self.home(run) == lane)
        }
    }

    fn home(&self, run: &Run) -> usize {
        if run.lane == NOT_YET { 0 } else { run.lane }
    }
}

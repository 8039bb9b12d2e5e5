//! What one group may do, judged by the leader of its shard before an offer becomes an entry: only there do all its samples meet, whatever node took them.
//!
//! Over a rate the offer is refused for now. Over the number of series the samples of new ones are struck from the digest, and the rest is committed. Both cost
//! nothing to speak of while a group is far from its bounds: then nobody asks which of its series are new. Near them each series is looked for in the
//! group's table, so every offer that is under way must have been looked through, too: once, the first one waits for those that were not.
//!
//! Rates are not in the log and begin anew with a leader, as detection does; how many series a group has is known from its rows, which every member has. What was
//! struck stands in the digest, and apply needs no limit. Left out on purpose: bytes under
//! way and the number of groups, which the node judges that takes the request (`ingest`).

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::time::Instant;

use crate::config::limits::PerGroup;
use crate::dedup::group::Group;
use crate::model::Item;
use crate::model::Kind;
use crate::node::lane::lock;
use crate::node::mailbox::Queued;
use crate::node::offer::OfferError;
use crate::node::offer::Struck;
use crate::node::worker::Worker;
use crate::shard::entry;
use crate::shard::entry::Entry;
use crate::shard::entry::Samples;
use crate::shard::member::State;
use crate::wire::digest;
use crate::wire::digest::Digest;

/// Reason of a refusal: more samples a second than the group may send.
pub const SAMPLES: &str = "group_samples";
/// Reason of a refusal: more new series than the group may begin.
pub const NEW_SERIES: &str = "group_new_series";

/// Seconds' worth of samples that may come at once: a sender that was cut off for a moment catches up.
const SAMPLES_AT_ONCE: u64 = 10;
/// Seconds' worth of new series that may come at once: the first scrape of a group is nothing but new series.
const SERIES_AT_ONCE: u64 = 60;
/// A group that came near its bounds is looked at closely for so long, ms.
const CLOSELY: u64 = 10_000;

/// The bounds of all groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupLimits {
    /// Of those of which nothing else is said.
    pub usual: PerGroup,
    /// Of single groups.
    pub special: BTreeMap<String, PerGroup>,
}

impl GroupLimits {
    /// Of this group.
    pub fn of(&self, group: &str) -> PerGroup {
        self.special.get(group).copied().unwrap_or(self.usual)
    }
}

/// What is to be done with an offer.
pub(super) enum Ruling {
    /// To be proposed.
    Take(Taken),
    /// Not now: what is under way must be applied first.
    Wait,
    /// Refused, or nothing of it is left.
    Refuse(OfferError),
}

/// An offer that may be proposed.
#[derive(Default)]
pub(super) struct Taken {
    items: u64,
    /// Its new series; `None`: nobody looked.
    fresh: Option<Vec<u64>>,
    /// What its sender is told once it is committed.
    pub struck: Option<OfferError>,
}

/// What passes at a rate, with some at once. A large request may overdraw it, and the next one waits.
#[derive(Debug)]
struct Bucket {
    /// Thousandths.
    left: i64,
    at: u64,
}

impl Bucket {
    fn full(now: u64) -> Bucket {
        Bucket { left: i64::MAX, at: now }
    }

    fn refill(&mut self, now: u64, rate: u64, seconds: u64) {
        let rate = i64::try_from(rate).unwrap_or(i64::MAX);
        let most = rate.saturating_mul(seconds as i64).saturating_mul(1000);
        let came = rate.saturating_mul(i64::try_from(now.saturating_sub(self.at)).unwrap_or(i64::MAX));
        self.left = self.left.saturating_add(came).min(most);
        self.at = now;
    }

    fn take(&mut self, units: u64) {
        self.left = self.left.saturating_sub(i64::try_from(units).unwrap_or(i64::MAX).saturating_mul(1000));
    }

    fn is_spent(&self) -> bool {
        self.left <= 0
    }
}

/// What is known of one group.
struct Meter {
    samples: Bucket,
    series: Bucket,
    /// Its series when they were last counted.
    counted: u64,
    /// Offers that are proposed and not applied: index, items, new series.
    under_way: VecDeque<(u64, u64, Option<Vec<u64>>)>,
    items: u64,
    fresh: HashSet<u64>,
    closely_until: u64,
}

impl Meter {
    fn new(now: u64, series: u64) -> Meter {
        Meter {
            samples: Bucket::full(now),
            series: Bucket::full(now),
            counted: series,
            under_way: VecDeque::new(),
            items: 0,
            fresh: HashSet::new(),
            closely_until: 0,
        }
    }

    fn settle(&mut self, case: &Case<'_>) {
        while self.under_way.front().is_some_and(|(index, ..)| *index <= case.applied) {
            let Some((_, items, fresh)) = self.under_way.pop_front() else { break };
            self.items -= items;
            for series in fresh.iter().flatten() {
                self.fresh.remove(series);
            }
        }
        self.samples.refill(case.now, case.limits.samples_per_second, SAMPLES_AT_ONCE);
        self.series.refill(case.now, case.limits.new_series_per_second, SERIES_AT_ONCE);
        let series = case.series();
        // Fewer: some were forgotten, and counting begins there.
        self.series.take(series.saturating_sub(self.counted));
        self.counted = series;
    }

    /// The ruling of an offer whose every series is looked for.
    fn closely(&self, case: &Case<'_>, samples: &Samples<'_>, encoded: &mut Vec<u8>) -> Ruling {
        let Ok(digest) = Digest::parse(samples.digest) else { return Ruling::Take(Taken::default()) };
        let limit = case.limits.series;
        let room = limit.saturating_sub(case.series() + self.fresh.len() as u64);
        let (mut items, mut fresh, mut struck, mut guess, mut good) =
            (Vec::with_capacity(digest.len()), HashSet::new(), Struck::default(), 0, false);
        for item in digest.iter() {
            let mut item: Item = item;
            if !item.refused {
                let found = case.group.and_then(|group| group.slot_of(item.series, guess));
                guess = found.map_or(guess, |slot| slot + 1);
                if found.is_none() && !self.fresh.contains(&item.series) && !fresh.contains(&item.series) {
                    if fresh.len() as u64 >= room {
                        item.refused = true;
                        struck.count(item.kind);
                    } else if self.series.is_spent() {
                        return Ruling::Refuse(OfferError::Overloaded { reason: NEW_SERIES });
                    } else {
                        fresh.insert(item.series);
                    }
                }
                good |= !item.refused;
            }
            items.push(item);
        }
        let mut taken = Taken { items: items.len() as u64, fresh: Some(fresh.into_iter().collect()), struck: None };
        if struck != Struck::default() {
            let error = OfferError::NewSeries { struck, series: case.series(), limit };
            if !good {
                return Ruling::Refuse(error);
            }
            let (mut values, mut struck_digest, mut again) = (Vec::new(), Vec::new(), Vec::new());
            digest.values(&mut values);
            digest::encode_valued(&items, &values, &mut struck_digest);
            entry::encode(0, &Entry::Samples(Samples { digest: &struck_digest, ..samples.clone() }), &mut again);
            *encoded = again;
            taken.struck = Some(error);
        }
        Ruling::Take(taken)
    }
}

/// How things stand when an offer is judged.
struct Case<'a> {
    now: u64,
    applied: u64,
    limits: PerGroup,
    group: Option<&'a Group>,
}

impl Case<'_> {
    fn series(&self) -> u64 {
        self.group.map_or(0, |group| group.series() as u64)
    }
}

/// What a shard's leader has measured of its groups.
#[derive(Default)]
pub(super) struct Meters {
    groups: HashMap<String, Meter>,
}

impl Meters {
    fn rule(&mut self, case: &Case<'_>, offer: &mut Queued) -> Ruling {
        let encoded = std::mem::take(&mut offer.encoded);
        let Ok(entry::Stamped { entry: Entry::Samples(samples), .. }) = entry::parse(&encoded) else {
            offer.encoded = encoded;
            return Ruling::Take(Taken::default());
        };
        if !self.groups.contains_key(&offer.group) {
            self.groups.insert(offer.group.clone(), Meter::new(case.now, case.series()));
        }
        let items = digest::count(samples.digest);
        let mut replaced = Vec::new();
        let ruling = match self.groups.get_mut(&offer.group) {
            Some(meter) => {
                meter.settle(case);
                if meter.series.is_spent() || case.series() + meter.items + items > case.limits.series {
                    meter.closely_until = case.now + CLOSELY;
                }
                if meter.samples.is_spent() {
                    Ruling::Refuse(OfferError::Overloaded { reason: SAMPLES })
                } else if meter.closely_until <= case.now {
                    Ruling::Take(Taken { items, ..Taken::default() })
                } else if meter.under_way.iter().any(|(_, _, fresh)| fresh.is_none()) {
                    Ruling::Wait
                } else {
                    meter.closely(case, &samples, &mut replaced)
                }
            }
            None => Ruling::Take(Taken::default()),
        };
        offer.encoded = if replaced.is_empty() { encoded } else { replaced };
        ruling
    }

    /// An offer was proposed.
    pub fn proposed(&mut self, group: &str, index: u64, taken: Taken) {
        let Some(meter) = self.groups.get_mut(group) else { return };
        meter.samples.take(taken.items);
        meter.items += taken.items;
        meter.fresh.extend(taken.fresh.iter().flatten());
        meter.under_way.push_back((index, taken.items, taken.fresh));
    }

    /// Somebody else leads.
    pub fn forget(&mut self) {
        self.groups.clear();
    }
}

impl Struck {
    fn count(&mut self, kind: Kind) {
        match kind {
            // A marker may be a histogram's; the digest does not tell, and nearly all are not.
            Kind::Float | Kind::Stale => self.samples += 1,
            Kind::Histogram => self.histograms += 1,
            Kind::Exemplar => self.exemplars += 1,
        }
    }
}

impl Worker {
    /// What is to be done with an offer, by what its group may do.
    pub(super) fn limit(&mut self, now: Instant, offer: &mut Queued) -> Ruling {
        let limits = lock(&self.shared.group_limits).of(&offer.group);
        let now = self.mono(now);
        let State::Data(data) = &self.member.state else { return Ruling::Take(Taken::default()) };
        let group = data.groups.get(&offer.group).map(|place| &place.group);
        self.meters.rule(&Case { now, applied: data.applied, limits, group }, offer)
    }
}

//! Storms (`alerting.storm`): more new alerts for a receiver than anybody reads. One digest a minute then says how many there are and of what kind; groups wait, but
//! for levels that pass and ends of what they told, until it was calm for a while. Then each group that still holds something is told as ever.
//!
//! Whether there is a storm follows from when alerts came, which the book keeps, so every leader finds the same. A digest is a message like others: it has a log
//! (`Whom::of_storm`), so it is sent once more with the same id if nobody noted that it was taken, and whoever was told of an alert by it alone hears by it
//! that the alert is over.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::AGAIN_MS;
use super::Groups;
use super::gate::Why;
use crate::alert::book::Wanted;
use crate::alert::book::log_id;
use crate::alert::message::Reason;
use crate::alert::spent::Target;
use crate::alert::telling::Storm;
use crate::alert::told::Claim;
use crate::alert::told::Told;
use crate::alert::told::Whom;
use crate::model::labels::Labels;

/// Between two digests, ms.
const DIGEST_MS: i64 = 60_000;

/// When alerts came to each receiver of which storms are told so.
pub(super) type Arrivals = BTreeMap<Arc<str>, BTreeSet<(i64, u64)>>;
/// Receivers at which there is one, and until when.
pub(super) type Storms = BTreeMap<Arc<str>, i64>;

/// An alert came to a receiver of which storms are told. Forgets what came too long ago to make one: a node that tells nobody looks for no storms.
pub(super) fn arrives(all: &mut BTreeSet<(i64, u64)>, storm: &Storm, (came, id): (i64, u64), now: i64) {
    all.insert((came, id));
    let oldest = now.saturating_sub(storm.calm + storm.within);
    while all.first().is_some_and(|(came, _)| *came < oldest) {
        all.pop_first();
    }
}

impl Groups {
    /// Looks at which receivers there is a storm, and until when, and forgets what came too long ago to make one.
    pub(super) fn find_storms(&mut self, now: i64) {
        let mut storms = BTreeMap::new();
        for (receiver, all) in &mut self.arrivals {
            let Some(storm) = self.plan.telling.bounds(receiver).and_then(|bounds| bounds.storm.as_ref()) else { continue };
            let oldest = now.saturating_sub(storm.calm + storm.within);
            while all.first().is_some_and(|(came, _)| *came < oldest) {
                all.pop_first();
            }
            // The last alert that came as one too many: that many before it came within the time.
            let lately = || all.range(..=(now, u64::MAX)).rev().map(|(came, _)| *came);
            let last = lately().zip(lately().skip(storm.alerts)).find(|(came, before)| came - before < storm.within);
            let until = last.map(|(came, _)| came.saturating_add(storm.calm)).filter(|until| *until > now);
            storms.extend(until.map(|until| (Arc::clone(receiver), until)));
        }
        self.storms = storms;
    }

    /// Targets of which storms are told so.
    fn stormy(&self) -> impl Iterator<Item = Target> {
        let of = |(receiver, lanes): (&str, usize)| {
            let receiver: Arc<str> = receiver.into();
            (0..lanes).filter_map(move |lane| Some(Target { receiver: Arc::clone(&receiver), integration: u32::try_from(lane).ok()? }))
        };
        self.plan.stormy().flat_map(of)
    }

    pub(super) fn digested(&self, target: &Target) -> Option<&Told> {
        self.book.logs().get(log_id(self.seed, &Whom::of_storm(target))).map(|told| &**told)
    }

    /// When one is to be looked at whether a digest is to be told.
    fn digest_due(&self, target: &Target) -> Option<i64> {
        let waits = self.waiting.get(target).is_some_and(|waiting| waiting.why == Why::Storm);
        let due = match self.digested(target) {
            Some(told) if told.claim.is_some() => None,
            Some(told) if told.is_open() || waits => Some(told.base.saturating_add(DIGEST_MS)),
            Some(_) => None,
            None => waits.then_some(i64::MIN),
        };
        let again = self.digests_seen.get(target).map_or(i64::MIN, |seen| seen + AGAIN_MS);
        due.map(|due| due.max(again))
    }

    /// When a digest is due.
    pub(super) fn next_digest(&self) -> Option<i64> {
        self.stormy().filter_map(|target| self.digest_due(&target)).min()
    }

    /// Digests that are due, or what is to be noted of those that were told.
    pub(super) fn digests(&mut self, now: i64) -> Vec<Wanted> {
        let due: Vec<Target> = self.stormy().filter(|target| self.digest_due(target).is_some_and(|due| due <= now)).collect();
        self.digests_seen.extend(due.iter().map(|target| (target.clone(), now)));
        due.iter().filter_map(|target| self.digest(target, self.storms.get(&target.receiver).copied(), now)).collect()
    }

    fn digest(&self, target: &Target, until: Option<i64>, now: i64) -> Option<Wanted> {
        let none = Told::default();
        let told = self.digested(target);
        let before = told.unwrap_or(&none);
        let waiting = if until.is_some() { self.kept_back(target, now) } else { BTreeSet::new() };
        if waiting.is_empty() && !before.is_open() {
            return None;
        }
        let mut claim = Claim { at: now, firing: waiting.iter().copied().collect(), ..Claim::default() };
        for id in before.firing.iter().chain(&before.maybe).filter(|id| !waiting.contains(*id)) {
            let kept = self.book.alerts().get(*id);
            match kept.filter(|kept| !kept.is_closed(now)) {
                // Its own group was told of it since, and will be told the end.
                _ if self.is_told_alone(*id, target) => claim.settled.push(*id),
                Some(_) => claim.firing.push(*id),
                None if kept.is_some() && self.plan.wants_over(target) => claim.over.push(*id),
                None => claim.settled.push(*id),
            }
        }
        let new = claim.firing.iter().any(|id| !before.is_owed(*id));
        claim.reason = match () {
            () if new && before.firing.is_empty() => Some(Reason::First),
            () if new => Some(Reason::New),
            () if !claim.over.is_empty() && claim.firing.is_empty() => Some(Reason::AllOver),
            () if !claim.over.is_empty() => Some(Reason::SomeOver),
            () if !claim.settled.is_empty() => {
                claim.stay = std::mem::take(&mut claim.firing);
                None
            }
            () => return None,
        };
        // Every node comes to the same number from the same book.
        claim.number = told.map_or_else(|| until.unwrap_or(now).unsigned_abs().max(1), |told| told.number.saturating_add(1));
        let whom = Whom::of_storm(target);
        Some(Wanted { whom, labels: Labels::new(), claim })
    }

    /// Alerts that hold, and are not told to a target because there is a storm.
    fn kept_back(&self, target: &Target, now: i64) -> BTreeSet<u64> {
        let mut all = BTreeSet::new();
        let waiting = self.waiting.get(target).filter(|waiting| waiting.why == Why::Storm);
        for (number, place) in waiting.into_iter().flat_map(|waiting| &waiting.lanes) {
            if let Some(decided) = self.decide(*number, *place, now).and_then(|(decided, _)| decided) {
                let told = self.book.logs().get(log_id(self.seed, &decided.whom));
                all.extend(decided.claim.firing.into_iter().filter(|id| !told.is_some_and(|told| told.has_it(*id))));
            }
        }
        all
    }

    /// Whether one of an alert's groups was told of it at a target.
    fn is_told_alone(&self, id: u64, target: &Target) -> bool {
        let groups = self.of_alert.get(&id).into_iter().flat_map(|known| &known.groups).filter_map(|number| self.groups.get(number));
        let mut lanes = groups.flat_map(|group| &group.lanes).filter(|lane| Target::of(&lane.whom) == *target);
        lanes.any(|lane| self.book.logs().get(lane.log).is_some_and(|told| told.has_it(id)))
    }
}

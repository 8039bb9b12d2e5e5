//! What is due, and what of it may go now: receivers with bounds (`alerting.throttle`, `bundle`, `storm`) are told less often, and then of several groups in one
//! message.
//!
//! A group that may not be told waits with its target until that opens, and is decided anew then, so that it is told as it stands by then. What waits for a
//! window is noted in the book (`Told::held`), since that may take an hour: an alert that is over by then is still told, as over. What waits for a bundle is
//! not: that is seconds, as `group_wait` is; nor what waits for the end of a storm, of which digests tell (`storm`). When a target opens follows from the
//! book (when groups are due, what was told), so another leader waits no longer and no shorter. Ends of what was told, and levels that pass, never wait for
//! a window.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use xxhash_rust::xxh3::Xxh3;

use super::Groups;
use crate::alert::book::Wanted;
use crate::alert::book::log_id;
use crate::alert::spent::Target;
use crate::alert::telling::Bounds;
use crate::alert::told::Claim;
use crate::alert::told::has;

/// Groups of one message,
const MOST_BUNDLED: usize = 500;
/// and about how many bytes they may be in an entry.
const BUNDLE_BYTES: usize = 512 << 10;

/// A group, and which of its lanes.
type Place = (u64, usize);

/// What one target waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Others that go in the same message.
    Bundle,
    /// There is a storm.
    Storm,
    /// It was told as much as it may be.
    Window,
}

/// What waits for a target.
pub(super) struct Waiting {
    pub(super) opens: i64,
    pub(super) why: Why,
    pub(super) lanes: BTreeSet<Place>,
    /// Not looked at yet whether something of them is to be noted as held.
    fresh: BTreeSet<Place>,
}

/// All that waits.
pub(super) type Waitings = BTreeMap<Target, Waiting>;

impl Groups {
    /// When something is due next.
    pub fn next_due(&self) -> Option<i64> {
        let due = self.due.first().map(|(due, ..)| *due);
        due.into_iter().chain(self.next_digest()).chain(self.waiting.values().map(|waiting| waiting.opens)).min()
    }

    /// What is to be told now: about so many messages, since one may be of several groups. What of it does not come into the book is decided again later.
    pub fn due(&mut self, now: i64, most: usize) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        self.find_storms(now);
        while wanted.len() < most
            && let Some((due, number, place)) = self.due.first().copied().filter(|(due, ..)| *due <= now)
        {
            self.due.remove(&(due, number, place));
            let (decided, first) = self.decide(number, place, now).unwrap_or_default();
            let (goes, waits) = match decided {
                Some(decided) if self.goes(&decided, now) => (Some(decided), None),
                Some(decided) => (None, Some(decided)),
                None => (None, None),
            };
            if let Some(lane) = self.groups.get_mut(&number).and_then(|group| group.lanes.get_mut(place)) {
                lane.due = None;
                lane.decided = goes.is_some().then_some(now);
                if goes.is_none() {
                    lane.seen = now;
                    lane.first = if waits.is_some() { lane.first } else { first };
                }
            }
            match waits {
                Some(waits) => self.wait(&waits, (due, number, place), now),
                None => self.waits_no_more((number, place)),
            }
            wanted.extend(goes.map(|goes| self.counted(goes)));
            self.schedule(number, place);
        }
        for target in self.waiting.keys().cloned().collect::<Vec<Target>>() {
            if wanted.len() < most {
                self.release(&target, now, &mut wanted);
                self.hold(&target, now, (most, &mut wanted));
            }
        }
        wanted.extend(self.digests(now));
        self.waiting.retain(|_, waiting| !waiting.lanes.is_empty());
        wanted
    }

    fn bounds(&self, target: &Target) -> Option<&Bounds> {
        self.plan.telling.bounds(&target.receiver)
    }

    fn has_level(&self, claim: &Claim, of: impl Fn(u8) -> bool) -> bool {
        claim.firing.iter().filter_map(|id| self.book.alerts().get(*id)).any(|kept| of(kept.level()))
    }

    /// Whether it says that something is over of which its receiver was told.
    fn ends(&self, wanted: &Wanted) -> bool {
        let told = self.book.logs().get(log_id(self.seed, &wanted.whom));
        told.is_some_and(|told| wanted.claim.over.iter().any(|id| told.has_it(*id)))
    }

    /// Until when digests tell of a group in its stead.
    fn stormed(&self, target: &Target, claim: &Claim) -> Option<i64> {
        let pass = self.bounds(target)?.storm.as_ref()?.pass;
        let until = *self.storms.get(&target.receiver)?;
        (!self.has_level(claim, |level| pass.has(level))).then_some(until)
    }

    /// Whether a message goes at once, whatever else there is for its target.
    fn goes(&self, wanted: &Wanted, now: i64) -> bool {
        let target = Target::of(&wanted.whom);
        let Some(bounds) = self.bounds(&target).filter(|_| wanted.claim.reason.is_some()) else { return true };
        let shut = self.waiting.get(&target).filter(|waiting| waiting.why != Why::Bundle && waiting.opens > now);
        let storms = shut.is_some_and(|waiting| waiting.why == Why::Storm);
        let passes = |level| bounds.pass.has(level) || storms && bounds.storm.as_ref().is_some_and(|storm| storm.pass.has(level));
        self.has_level(&wanted.claim, passes) || shut.is_some() && self.ends(wanted)
    }

    fn wait(&mut self, wanted: &Wanted, (due, number, place): (i64, u64, usize), now: i64) {
        let target = Target::of(&wanted.whom);
        let within = self.bounds(&target).and_then(|bounds| bounds.bundle).unwrap_or(0);
        let storms = self.stormed(&target, &wanted.claim).filter(|_| !self.ends(wanted));
        let opens = due.saturating_add(within).max(now);
        let new = || Waiting { opens, why: Why::Bundle, lanes: BTreeSet::new(), fresh: BTreeSet::new() };
        let waiting = self.waiting.entry(target).or_insert_with(new);
        waiting.lanes.insert((number, place));
        match storms {
            Some(until) if waiting.why == Why::Window => (waiting.opens, waiting.why) = (waiting.opens.min(until), Why::Storm),
            None if waiting.why == Why::Window => drop(waiting.fresh.insert((number, place))),
            _ => {}
        }
    }

    fn waits_no_more(&mut self, lane: Place) {
        let whom = self.groups.get(&lane.0).and_then(|group| group.lanes.get(lane.1)).map(|lane| &lane.whom);
        if let Some(waiting) = whom.and_then(|whom| self.waiting.get_mut(&Target::of(whom))) {
            waiting.lanes.remove(&lane);
            waiting.fresh.remove(&lane);
        }
    }

    /// It counts where its receiver has windows.
    fn counted(&self, mut wanted: Wanted) -> Wanted {
        wanted.claim.counts = self.plan.telling.bounds(&wanted.whom.receiver).is_some_and(|bounds| !bounds.windows.is_empty());
        wanted
    }

    /// Tells what waits for a target that is open.
    fn release(&mut self, target: &Target, now: i64, wanted: &mut Vec<Wanted>) {
        let Some(bounds) = self.bounds(target).cloned() else { return };
        let Some(lanes) = self.waiting.get(target).filter(|waiting| waiting.opens <= now).map(|waiting| waiting.lanes.clone()) else {
            return;
        };
        let (mut free, mut bound, mut stormed, mut until) = (Vec::new(), Vec::new(), BTreeSet::new(), now);
        for lane in lanes {
            let Some(decided) = self.decided_anew(lane, now) else { continue };
            if decided.claim.reason.is_none() {
                wanted.extend(self.sent_together(vec![(lane, decided)], now));
                continue;
            }
            let ends = self.ends(&decided);
            match self.stormed(target, &decided.claim).filter(|_| !ends) {
                Some(storms) => {
                    until = until.max(storms);
                    stormed.insert(lane);
                }
                None if ends || bounds.windows.is_empty() => free.push((lane, decided)),
                None => bound.push((lane, decided)),
            }
        }
        let (room, opens) = match self.book.spent().room(target, &bounds.windows, now) {
            Ok(room) => (room, now),
            Err(opens) => (0, opens),
        };
        let together = self.plan.bundles(target);
        let of = |gathers: bool| if gathers && together { MOST_BUNDLED } else { 1 };
        let mut parts = chunks(free, of(bounds.bundle.is_some()));
        // Where there is room for some messages and not for each group's own, one message takes them all.
        let gathers = bounds.bundle.is_some() || bound.len() > room;
        let mut goes = chunks(bound, of(gathers));
        let rest = goes.split_off(room.min(goes.len()));
        parts.append(&mut goes);
        let held: BTreeSet<Place> = rest.into_iter().flatten().map(|(lane, _)| lane).collect();
        if let Some(waiting) = self.waiting.get_mut(target) {
            (waiting.opens, waiting.why) = match () {
                () if stormed.is_empty() && !held.is_empty() => (opens.max(now + 1), Why::Window),
                () if held.is_empty() && !stormed.is_empty() => (until.max(now + 1), Why::Storm),
                () if !held.is_empty() => (until.min(opens).max(now + 1), Why::Storm),
                // Nothing is left, so that the next one begins anew.
                () => (i64::MAX, Why::Bundle),
            };
            waiting.fresh.clone_from(&held);
            waiting.lanes = &held | &stormed;
        }
        for part in parts {
            wanted.extend(self.sent_together(part, now));
        }
    }

    /// A lane that waits, as it is to be told now.
    fn decided_anew(&self, (number, place): Place, now: i64) -> Option<Wanted> {
        let lane = self.groups.get(&number)?.lanes.get(place)?;
        let claimed = self.book.logs().get(lane.log).is_some_and(|told| told.claim.is_some());
        // What was decided a moment ago is not in the book yet, and not waited for twice.
        if claimed || lane.decided.is_some() { None } else { self.decide(number, place, now)?.0 }
    }

    fn sent_together(&mut self, chunk: Vec<(Place, Wanted)>, now: i64) -> Vec<Wanted> {
        let mut hash = Xxh3::with_seed(self.seed);
        for (_, one) in &chunk {
            hash.update(&log_id(self.seed, &one.whom).to_le_bytes());
            hash.update(&one.claim.number.to_le_bytes());
        }
        let bundle = if chunk.len() > 1 { hash.digest().max(1) } else { 0 };
        let mut all = Vec::new();
        for ((number, place), one) in chunk {
            if let Some(lane) = self.groups.get_mut(&number).and_then(|group| group.lanes.get_mut(place)) {
                lane.decided = Some(now);
            }
            self.schedule(number, place);
            let mut one = self.counted(one);
            one.claim.bundle = bundle;
            all.push(one);
        }
        all
    }

    /// Notes what is held, so that it is told even if it is over by then.
    fn hold(&mut self, target: &Target, now: i64, (most, wanted): (usize, &mut Vec<Wanted>)) {
        while wanted.len() < most
            && let Some(lane) = self.waiting.get_mut(target).and_then(|waiting| waiting.fresh.pop_first())
        {
            let Some(mut decided) = self.decided_anew(lane, now) else { continue };
            let told = self.book.logs().get(log_id(self.seed, &decided.whom));
            let known = |id: &u64| told.is_some_and(|told| has(&told.firing, *id) || has(&told.held, *id));
            let held: Vec<u64> = decided.claim.firing.iter().filter(|id| !known(id)).copied().collect();
            if !held.is_empty() {
                decided.claim = Claim { at: now, number: decided.claim.number, held, ..Claim::default() };
                wanted.push(decided);
            }
        }
    }
}

/// In parts of so many groups, and not too many bytes.
fn chunks(all: Vec<(Place, Wanted)>, most: usize) -> Vec<Vec<(Place, Wanted)>> {
    let (mut chunks, mut bytes) = (Vec::<Vec<(Place, Wanted)>>::new(), 0);
    for one in all {
        let labels: usize = one.1.labels.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        let size = one.1.whom.group.len() + labels + 8 * (one.1.claim.firing.len() + one.1.claim.over.len()) + 64;
        match chunks.last_mut().filter(|last| last.len() < most && bytes + size <= BUNDLE_BYTES) {
            Some(last) => last.push(one),
            None => {
                bytes = 0;
                chunks.push(vec![one]);
            }
        }
        bytes += size;
    }
    chunks
}

//! Which alerts are told together, to whom, and when: the groups, kept up with the book, and what is due.
//!
//! A group first waits for `group_wait` from when its first alert came, then looks every `group_interval` from when it was told last. All of that follows
//! from the book (when alerts came, when what was told), so timers survive restarts, reloads and changes of leaders. Every integration of a receiver
//! has a log and a time of its own: one that is stuck keeps no other back. Work is done for what changed in the book, not for all that is in it.
//!
//! Bounds of receivers hold back what is due (`gate`, `storm`), policies and windows of maintenance what holds (`policed`); a message's words are `words`; what is still to
//! come is shown by `outlook`.
//! Left out on purpose: sending, and noting what was sent (`app::alerting`).

mod gate;
pub mod measure;
pub mod outlook;
mod policed;
pub mod standing;
mod storm;
mod upkeep;
pub mod words;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::alert::book::Book;
use crate::alert::book::Kept;
use crate::alert::book::Wanted;
use crate::alert::book::log_id;
use crate::alert::buckets::ByHash;
use crate::alert::groups::gate::Waitings;
use crate::alert::groups::policed::begins;
use crate::alert::groups::storm::Arrivals;
use crate::alert::groups::storm::Storms;
use crate::alert::groups::upkeep::Known;
use crate::alert::groups::upkeep::Seen;
use crate::alert::maintenance::Spans;
use crate::alert::maintenance::Windows;
use crate::alert::route::Route;
use crate::alert::route::Routing;
use crate::alert::spent::Target;
use crate::alert::suppress::Suppress;
use crate::alert::telling::TellingRules;
use crate::alert::told::Claim;
use crate::alert::told::Found;
use crate::alert::told::Look;
use crate::alert::told::Told;
use crate::alert::told::Whom;
use crate::alert::told::decide;
use crate::alert::told::has;
use crate::model::labels::Labels;

/// What was decided and is not in the book after so long is decided anew, ms.
const AGAIN_MS: i64 = 5_000;

/// All that the settings say of who is told what, and when.
#[derive(Clone)]
pub struct Plan {
    routing: Routing,
    /// Who is told besides, and how much at most.
    telling: TellingRules,
    /// Of every receiver, for each integration whether it wants to hear what is over.
    receivers: BTreeMap<String, Vec<bool>>,
    /// Timers count from then at the earliest.
    since: i64,
    /// Of maintenance.
    windows: Windows,
    /// Whose format takes one group a message.
    single: BTreeSet<(String, u32)>,
}

/// A group.
struct Group {
    route: usize,
    hash: u64,
    key: Arc<str>,
    labels: Labels,
    alerts: BTreeSet<u64>,
    lanes: Vec<Lane>,
}

/// A group's way to one integration, of the route's receiver or of a step of escalation.
struct Lane {
    whom: Whom,
    log: u64,
    wants_over: bool,
    /// The policy's number, and the step's place.
    step: Option<(usize, usize)>,
    /// When the first alert came that came after what was told last.
    first: Option<i64>,
    /// The last time at which there was nothing to tell.
    seen: i64,
    /// Something was decided then, which should soon be in the book.
    decided: Option<i64>,
    /// In the list of what is due.
    due: Option<i64>,
}

/// A message on its way to one integration, of one group: log, what was told, and what is being told.
pub type Member<'a> = (u64, &'a Told, &'a Claim);

/// What goes in one message. Never empty.
pub type Parcel<'a> = Vec<Member<'a>>;

/// The groups.
pub struct Groups {
    plan: Arc<Plan>,
    seed: u64,
    /// As it was looked at last, while anybody asks.
    book: Arc<Book>,
    /// In its place, while nobody does.
    nothing: Arc<Book>,
    seen: Seen,
    suppress: Suppress,
    /// Until when alerts wait by windows of maintenance, those that do.
    released: BTreeMap<u64, i64>,
    spans: Spans,
    groups: BTreeMap<u64, Group>,
    next: u64,
    /// Groups by route and [`Route::group_hash`].
    by_hash: BTreeMap<(usize, u64), Vec<u64>>,
    /// Asked for each alert that comes; nothing depends on its order.
    of_alert: ByHash<Known>,
    of_log: BTreeMap<u64, (u64, usize)>,
    due: BTreeSet<(i64, u64, usize)>,
    open: BTreeSet<u64>,
    /// Logs in which windows hold something.
    held: BTreeSet<u64>,
    waiting: Waitings,
    arrivals: Arrivals,
    storms: Storms,
    digests_seen: BTreeMap<Target, i64>,
}

fn ms(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

impl Plan {
    /// `receivers`: of each, for each integration whether it wants to hear what is over.
    pub fn new(routing: Routing, receivers: BTreeMap<String, Vec<bool>>) -> Plan {
        let (telling, single, windows) = (TellingRules::default(), BTreeSet::new(), Windows::default());
        Plan { routing, telling, receivers, since: i64::MIN, windows, single }
    }

    /// The same, with timers that begin anew at this time, as Alertmanager's do with a reload.
    pub fn anew(self, since: i64) -> Plan {
        Plan { since, ..self }
    }

    /// With windows of maintenance.
    pub fn with_windows(self, windows: Windows) -> Plan {
        Plan { windows, ..self }
    }

    /// With what is said of who is told besides, and how much at most.
    pub fn with_telling(self, telling: TellingRules) -> Plan {
        Plan { telling, ..self }
    }

    /// Integrations of receivers whose format takes one group a message.
    pub fn with_single(self, single: BTreeSet<(String, u32)>) -> Plan {
        Plan { single, ..self }
    }

    fn bundles(&self, target: &Target) -> bool {
        !self.single.contains(&(target.receiver.to_string(), target.integration))
    }

    fn wants_over(&self, target: &Target) -> bool {
        let place = usize::try_from(target.integration).ok();
        place.and_then(|place| self.lanes(&target.receiver).get(place)).is_some_and(|wants| *wants)
    }

    /// Receivers of which storms are told, and how many integrations each has.
    fn stormy(&self) -> impl Iterator<Item = (&str, usize)> {
        self.telling.storms().map(|name| (name, self.lanes(name).len()))
    }

    /// The routes.
    pub fn routing(&self) -> &Routing {
        &self.routing
    }

    /// The same, and nobody hears what is over.
    pub fn without_ends(&self) -> Plan {
        let without = |(name, lanes): (&String, &Vec<bool>)| (name.clone(), vec![false; lanes.len()]);
        let receivers = self.receivers.iter().map(without).collect();
        Plan { receivers, ..self.clone() }
    }

    fn lanes(&self, receiver: &str) -> &[bool] {
        self.receivers.get(receiver).map_or(&[], Vec::as_slice)
    }

    /// When an alert comes to a lane: to a step of escalation when it has been told for so long, if nobody took care and the policy is its own.
    fn comes(&self, book: &Book, (route, lane): (&Route, &Lane), (id, released): (u64, i64), kept: &Kept) -> Option<i64> {
        let Some((policy, _)) = lane.step else { return Some(begins(kept, released, route)) };
        let begun = book.ledger().begun().get(id)?;
        let counts =
            kept.acknowledged.is_none() && self.telling.escalation_of(&route.receiver, &kept.alert.labels, kept.level()) == Some(policy);
        counts.then(|| Some(begun.saturating_add(self.telling.step(lane.step?)?.after))).flatten()
    }

    /// All ways of a group: to its route's receiver, then of each step of escalation that may count there.
    fn lanes_of(&self, seed: u64, route: &Route, key: &Arc<str>) -> Vec<Lane> {
        let mut ways = vec![(Arc::clone(key), Arc::from(route.receiver.as_str()), None)];
        for (number, policy) in self.telling.escalations(&route.receiver) {
            for (place, step) in policy.steps.iter().enumerate() {
                ways.push((Whom::group_of_step(key, &policy.name, place + 1), Arc::clone(&step.receiver), Some((number, place))));
            }
        }
        let mut lanes = Vec::new();
        for (group, receiver, step) in ways {
            for (integration, wants_over) in (0..).zip(self.lanes(&receiver)) {
                let whom = Whom { group: Arc::clone(&group), receiver: Arc::clone(&receiver), integration };
                let log = log_id(seed, &whom);
                lanes.push(Lane { whom, log, wants_over: *wants_over, step, first: None, seen: i64::MIN, decided: None, due: None });
            }
        }
        lanes
    }
}

impl Groups {
    /// With nothing in them.
    pub fn new(plan: Arc<Plan>, seed: u64) -> Groups {
        let nothing = Arc::<Book>::default();
        let suppress = Suppress::new(Arc::new(plan.routing.inhibitions.clone()));
        Groups {
            plan,
            seed,
            book: Arc::clone(&nothing),
            nothing,
            seen: Seen::default(),
            suppress,
            released: BTreeMap::new(),
            spans: Spans::default(),
            groups: BTreeMap::new(),
            next: 0,
            by_hash: BTreeMap::new(),
            of_alert: ByHash::default(),
            of_log: BTreeMap::new(),
            due: BTreeSet::new(),
            open: BTreeSet::new(),
            held: BTreeSet::new(),
            waiting: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            storms: BTreeMap::new(),
            digests_seen: BTreeMap::new(),
        }
    }

    /// The book as it was looked at last.
    pub fn book(&self) -> &Arc<Book> {
        &self.book
    }

    /// The routes.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// From when on a lane looks, and how often.
    fn times(&self, group: &Group, lane: &Lane) -> Option<(i64, i64)> {
        let route = self.plan.routing.route(group.route)?;
        let step = lane.step.and_then(|step| self.plan.telling.step(step));
        let every = step.and_then(|step| step.repeat).unwrap_or(i64::MAX).min(ms(route.group_interval)).max(1);
        let (told, since) = (self.book.logs().get(lane.log), self.plan.since);
        let wait = if lane.step.is_some() { 0 } else { ms(route.group_wait) };
        let begins = || lane.first.map(|first| first.max(since).saturating_add(wait));
        let goes_on = |told: &Told| told.base.max(since).saturating_add(every);
        let from = match told {
            // Held: whoever leads looks at once when it may be told.
            Some(told) if !told.held.is_empty() && told.claim.is_none() => told.base,
            Some(told) if told.is_open() || told.claim.is_some() => goes_on(told),
            // A step looks on for what was suppressed when its time came; what comes first is looked for besides.
            Some(told) if lane.step.is_some() => goes_on(told),
            Some(told) => begins().unwrap_or(goes_on(told)),
            None => begins()?,
        };
        Some((from, every))
    }

    fn schedule(&mut self, number: u64, place: usize) {
        let Some(group) = self.groups.get(&number) else { return };
        let Some(lane) = group.lanes.get(place) else { return };
        // What is on its way is waited for.
        let claimed = self.book.logs().get(lane.log).is_some_and(|told| told.claim.is_some());
        let due = match (lane.decided, self.times(group, lane)) {
            _ if claimed => None,
            (Some(decided), _) => Some(decided + AGAIN_MS),
            (None, Some((from, every))) if lane.seen >= from => Some(tick(from, every, lane.seen).saturating_add(every)),
            (None, times) => times.map(|(from, _)| from),
        };
        let gathers = lane.step.is_none() || self.book.logs().get(lane.log).is_some_and(|told| told.is_open());
        let first = lane.first.filter(|first| !gathers && *first > lane.seen && lane.decided.is_none());
        let due = due.map(|due| first.map_or(due, |first| due.min(first)));
        let Some(lane) = self.groups.get_mut(&number).and_then(|group| group.lanes.get_mut(place)) else { return };
        let before = std::mem::replace(&mut lane.due, due);
        if let Some(before) = before {
            self.due.remove(&(before, number, place));
        }
        self.due.extend(due.map(|due| (due, number, place)));
    }

    /// What is to be told; where it is nothing, from when on something may be: then whatever comes next begins with its wait.
    fn decide(&self, number: u64, place: usize, now: i64) -> Option<(Option<Wanted>, Option<i64>)> {
        let group = self.groups.get(&number)?;
        let lane = group.lanes.get(place)?;
        let route = self.plan.routing.route(group.route)?;
        let told = self.book.logs().get(lane.log).map(|told| &**told);
        let (from, every) = self.times(group, lane)?;
        let repeat = lane.step.and_then(|step| self.plan.telling.step(step)?.repeat).unwrap_or(ms(route.repeat_interval));
        let gathers = lane.step.is_none() || told.is_some_and(Told::is_open);
        let look = Look { now, tick: if gathers { tick(from, every, now) } else { now }, repeat, wants_over: lane.wants_over };
        let muted = self.plan.routing.muted_by(route, now).is_some();
        let (mut waits, mut later) = (false, None::<i64>);
        let found = group.alerts.iter().filter_map(|id| {
            let kept = self.book.alerts().get(*id)?;
            let owed = told.is_some_and(|told| told.is_owed(*id));
            let mut found = self.found((*id, kept), owed, route, now);
            if lane.step.is_some() {
                let known = owed || found.over && told.is_some_and(|told| has(&told.over, *id));
                let came = self.comes((route, lane), *id, kept);
                if !known {
                    // Nobody was told here, and nobody is to be yet: an alert's end is no news either.
                    let came = came.filter(|_| !found.over)?;
                    if came > now {
                        later = Some(later.map_or(came, |later| later.min(came)));
                        return None;
                    }
                }
                found.came = came.unwrap_or(found.came);
                found.suppressed |= found.acknowledged && !told.is_some_and(|told| has(&told.firing, *id));
            }
            waits |= !found.over && !owed;
            Some(Found { suppressed: found.suppressed || muted, ..found })
        });
        let decided = decide(told, found, look);
        let first = lane.first.filter(|first| waits && (lane.step.is_none() || *first <= now));
        let Some(mut claim) = decided else { return Some((None, first.or(later))) };
        // Every node comes to the same number from the same book.
        claim.number = told.map_or_else(|| from.unsigned_abs().max(1), |told| told.number.saturating_add(1));
        Some((Some(Wanted { whom: lane.whom.clone(), labels: group.labels.clone(), claim }), None))
    }

    /// When an alert comes to a lane, where it does.
    fn comes(&self, (route, lane): (&Route, &Lane), id: u64, kept: &Kept) -> Option<i64> {
        self.plan.comes(&self.book, (route, lane), (id, self.released(id, kept)), kept)
    }

    /// Whether a silence, a window of maintenance or another alert keeps an alert from being told.
    pub fn is_suppressed(&self, id: u64, kept: &Kept, now: i64) -> bool {
        !self.suppress.silenced(id, now).is_empty()
            || self.plan.windows.suppresses(&kept.alert.labels, now)
            || !self.suppress.inhibited(&kept.alert.labels, now, self.book.alerts(), false).is_empty()
    }

    /// Messages that are on their way, by log.
    pub fn open(&self) -> impl Iterator<Item = (u64, &Told, &Claim)> {
        self.open.iter().filter_map(|id| {
            let told = self.book.logs().get(*id)?;
            Some((*id, &**told, told.claim.as_ref()?))
        })
    }

    /// The same, with what goes in one message together.
    pub fn parcels(&self) -> Vec<Parcel<'_>> {
        let (mut all, mut bundles) = (Vec::<Parcel<'_>>::new(), BTreeMap::new());
        for part in self.open() {
            let (whom, bundle) = (&part.1.whom, part.2.bundle);
            let known =
                if bundle == 0 { None } else { Some(*bundles.entry((&whom.receiver, whom.integration, bundle)).or_insert(all.len())) };
            match known.and_then(|known| all.get_mut(known)) {
                Some(parcel) => parcel.push(part),
                None => all.push(vec![part]),
            }
        }
        all
    }

    /// Whether a message on its way is still to be told: something in it is over, or holds and is not suppressed by now (nor, for escalation, acknowledged).
    pub fn is_wanted(&self, log: u64, claim: &Claim, now: i64) -> bool {
        let muted = || {
            let group = self.of_log.get(&log).and_then(|(group, _)| self.groups.get(group));
            let route = group.and_then(|group| self.plan.routing.route(group.route));
            route.is_some_and(|route| self.plan.routing.muted_by(route, now).is_some())
        };
        let step = self.book.logs().get(log).is_some_and(|told| told.whom.step().is_some());
        let told = |id: &u64| {
            let held = |kept: &Arc<Kept>| !(self.is_suppressed(*id, kept, now) || step && kept.acknowledged.is_some());
            self.book.alerts().get(*id).is_some_and(|kept| kept.alert.is_over(now) || held(kept))
        };
        !claim.over.is_empty() || claim.firing.iter().any(told) && !muted()
    }

    /// All groups: route, key, labels, and the ids of their alerts, those that are over among them.
    pub fn all(&self) -> impl Iterator<Item = (&Route, &str, &Labels, &BTreeSet<u64>)> {
        self.groups.values().filter_map(|group| {
            let route = self.plan.routing.route(group.route)?;
            Some((route, &*group.key, &group.labels, &group.alerts))
        })
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

/// The last of the times `from`, `from + every`, ... that is not after `now`; `from` where none is.
fn tick(from: i64, every: i64, now: i64) -> i64 {
    let since = now.saturating_sub(from).max(0);
    from.saturating_add(since / every * every)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod timelines;

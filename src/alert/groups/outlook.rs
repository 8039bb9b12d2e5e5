//! What is still to come, for whoever looks: of an alert the steps of escalation, of a receiver what its windows, bundles and storms keep back.
//!
//! It decides nothing. What stands in the book (windows and what they hold, steps, digests) every node says alike; what waits for a bundle, for the end of a
//! storm, or to be repeated is known to the node that tells alone (`gate`). Left out on purpose: why a receiver takes nothing (`app::alerting::teller`).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::Groups;
use super::Plan;
use super::gate::Why;
use crate::alert::book::Kept;
use crate::alert::spent::Target;
use crate::alert::telling::Bounds;

/// An alert's way through a policy of escalation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escalation {
    /// The policy that counts for it.
    pub policy: Arc<str>,
    /// The highest step that was told that it holds.
    pub last: Option<Rung>,
    /// The first one that is to come; none where all were told, somebody takes care, or its end is watched.
    pub next: Option<Rung>,
}

/// A step of a policy, for one alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rung {
    /// Its place among the steps, from 1.
    pub step: usize,
    /// Who is told.
    pub receiver: Arc<str>,
    /// So long after the alert was first told to anybody, ms.
    pub after: i64,
    /// When it was told, or is to be, ms since 1970; `None`: nobody was told of the alert yet, so that its time has not begun.
    pub at: Option<i64>,
}

/// What an integration of a receiver is not told yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Messages that are noted as on their way.
    pub open: usize,
    /// How much of its windows is used.
    pub windows: Vec<Window>,
    /// What they hold, as the book has it.
    pub held: Held,
    /// Where they are full: when there is room for a message again, ms since 1970.
    pub opens: Option<i64>,
    /// Groups that wait, as far as this node knows: how many, for what, and until when.
    pub waiting: Option<(usize, WaitsFor, i64)>,
    /// There is a storm.
    pub storm: Option<Storm>,
}

/// A window, and how much of it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// So many messages
    pub messages: usize,
    /// in so many ms.
    pub per: i64,
    /// Told within that time.
    pub used: usize,
    /// Where it is full: when there is room again, ms since 1970.
    pub opens: Option<i64>,
}

/// What windows hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Groups of alerts,
    pub groups: usize,
    /// and the alerts of all of them, each once.
    pub alerts: usize,
}

/// What groups wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// Others that go in the same message.
    Bundle,
    /// The end of a storm.
    Storm,
    /// Room in a window.
    Window,
}

/// More new alerts than anybody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storm {
    /// It is over then, if no more come, ms since 1970.
    pub until: i64,
    /// Alerts of which the last digest said that they hold.
    pub told: usize,
}

impl Plan {
    /// How much a receiver is told, where anything is said of it.
    pub fn bounds(&self, receiver: &str) -> Option<&Bounds> {
        self.telling.bounds(receiver)
    }
}

impl Groups {
    /// Where an alert stands in each policy of escalation that counts for it, in the order of its groups.
    pub fn escalations(&self, id: u64, kept: &Kept, now: i64) -> Vec<Escalation> {
        let mut all = Vec::new();
        let policies = &self.plan.telling;
        let groups = if policies.escalates() { self.of(id) } else { &[] };
        for group in groups.iter().filter_map(|number| self.groups.get(number)) {
            let Some(route) = self.plan.routing.route(group.route) else { continue };
            let Some(counts) = policies.escalation_of(&route.receiver, &kept.alert.labels, kept.level()) else { continue };
            let Some(policy) = policies.escalations(&route.receiver).find_map(|(number, one)| (number == counts).then_some(one)) else {
                continue;
            };
            let is_told = |place: usize| {
                let of_step = group.lanes.iter().filter(|lane| lane.step == Some((counts, place)));
                of_step.filter_map(|lane| self.book.logs().get(lane.log)).any(|told| told.has_it(id))
            };
            let told: Vec<bool> = (0..policy.steps.len()).map(is_told).collect();
            let rung = |place: usize, was_told: bool| {
                let step = policy.steps.get(place)?;
                let due = self.book.ledger().begun().get(id).map(|begun| begun.saturating_add(step.after));
                let at = if was_told { self.told_at(id, &step.receiver).max(due) } else { due };
                Some(Rung { step: place + 1, receiver: Arc::clone(&step.receiver), after: step.after, at })
            };
            let goes_on = kept.acknowledged.is_none() && !kept.alert.is_over(now);
            let next = told.iter().position(|told| !told).filter(|_| goes_on);
            all.push(Escalation {
                policy: Arc::clone(&policy.name),
                last: told.iter().rposition(|told| *told).and_then(|place| rung(place, true)),
                next: next.and_then(|place| rung(place, false)),
            });
        }
        all
    }

    /// When it was noted that a receiver has it that an alert holds.
    fn told_at(&self, id: u64, receiver: &str) -> Option<i64> {
        let told = self.book.ledger().told().get(id)?;
        told.iter().find(|telling| &*telling.receiver == receiver && telling.over == 0).map(|telling| telling.at)
    }

    /// What each integration of each receiver is not told yet.
    pub fn outlooks(&mut self, now: i64) -> BTreeMap<Target, Outlook> {
        self.find_storms(now);
        let plan = Arc::clone(&self.plan);
        let targets = plan.receivers.iter().flat_map(|(name, lanes)| targets(name, lanes.len()));
        let mut all: BTreeMap<Target, Outlook> = targets.map(|target| (target.clone(), self.bounded(&target, now))).collect();
        for log in &self.open {
            let target = self.book.logs().get(*log).map(|told| Target::of(&told.whom));
            if let Some(outlook) = target.and_then(|target| all.get_mut(&target)) {
                outlook.open += 1;
            }
        }
        let mut held = BTreeMap::<Target, BTreeSet<u64>>::new();
        for told in self.held.iter().filter_map(|log| self.book.logs().get(*log)) {
            let target = Target::of(&told.whom);
            if let Some(outlook) = all.get_mut(&target) {
                outlook.held.groups += 1;
                held.entry(target).or_default().extend(&told.held);
            }
        }
        for (target, alerts) in held {
            if let Some(outlook) = all.get_mut(&target) {
                outlook.held.alerts = alerts.len();
            }
        }
        all
    }

    /// By its bounds alone.
    fn bounded(&self, target: &Target, now: i64) -> Outlook {
        let Some(bounds) = self.plan.bounds(&target.receiver) else { return Outlook::default() };
        let room = |windows: &[(usize, i64)]| self.book.spent().room(target, windows, now);
        let window = |(messages, per): &(usize, i64)| match room(&[(*messages, *per)]) {
            Ok(left) => Window { messages: *messages, per: *per, used: messages.saturating_sub(left), opens: None },
            Err(opens) => Window { messages: *messages, per: *per, used: *messages, opens: Some(opens) },
        };
        let waiting = self.waiting.get(target).filter(|waiting| waiting.opens > now && !waiting.lanes.is_empty());
        let waiting = waiting.map(|waiting| {
            let waits_for = match waiting.why {
                Why::Bundle => WaitsFor::Bundle,
                Why::Storm => WaitsFor::Storm,
                Why::Window => WaitsFor::Window,
            };
            (waiting.lanes.len(), waits_for, waiting.opens)
        });
        let storm = self.storms.get(&target.receiver).filter(|_| bounds.storm.is_some());
        Outlook {
            windows: bounds.windows.iter().map(window).collect(),
            opens: room(&bounds.windows).err(),
            waiting,
            storm: storm.map(|until| Storm { until: *until, told: self.digested(target).map_or(0, |told| told.firing.len()) }),
            ..Outlook::default()
        }
    }
}

fn targets(receiver: &str, integrations: usize) -> impl Iterator<Item = Target> {
    let receiver: Arc<str> = receiver.into();
    (0..integrations).filter_map(move |number| Some(Target { receiver: Arc::clone(&receiver), integration: u32::try_from(number).ok()? }))
}

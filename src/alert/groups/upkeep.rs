//! Keeps the groups up with the book: what changed since the last look is put into its groups, taken out of them, or looked at again.
//!
//! Between two looks nothing of the book is held, so that it is changed where it stands. Left out on purpose: what is due by then (`super`).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::Group;
use super::Groups;
use super::Lane;
use super::Plan;
use super::storm;
use crate::alert::book::Book;
use crate::alert::book::Kept;
use crate::alert::buckets;
use crate::alert::buckets::each_once;
use crate::alert::route::Route;
use crate::alert::silence::Silence;
use crate::model::labels::Labels;

/// What is known of an alert that is in the book.
pub(super) struct Known {
    pub(super) labels: Labels,
    /// In the order of the routes.
    pub(super) groups: Box<[u64]>,
}

/// How far the book was looked at.
#[derive(Default)]
pub(super) struct Seen {
    silences: Arc<BTreeMap<String, Arc<Silence>>>,
    alerts: buckets::Seen,
    logs: buckets::Seen,
    begun: buckets::Seen,
}

impl Groups {
    /// Takes the book as it is now, and holds it.
    pub fn look(&mut self, book: &Arc<Book>) {
        if Arc::ptr_eq(&self.book, book) {
            return;
        }
        self.book = Arc::clone(book);
        let begun = book.ledger().begun();
        let now =
            Seen { silences: Arc::clone(book.silences()), alerts: book.alerts().seen(), logs: book.logs().seen(), begun: begun.seen() };
        let before = std::mem::replace(&mut self.seen, now);
        if !Arc::ptr_eq(&before.silences, book.silences()) {
            self.suppress.silences(book.silences(), self.of_alert.iter().map(|(id, known)| (*id, &known.labels)));
        }
        let (plan, mut changed) = (Arc::clone(&self.plan), Vec::new());
        let every =
            || each_once(self.of_log.keys().chain(&self.open).chain(&self.held).copied().chain(book.logs().iter().map(|(id, _)| id)));
        for id in book.logs().since(&before.logs).unwrap_or_else(every) {
            self.look_at_log(id, &mut changed);
        }
        let every = || each_once(self.of_alert.keys().copied().chain(book.alerts().iter().map(|(id, _)| id)));
        let news = book.alerts().since(&before.alerts).unwrap_or_else(every);
        // Found before anything is done, as `fetch` does: another processor has just written it.
        let found: Vec<(u64, bool, Option<&Arc<Kept>>)> =
            news.into_iter().map(|id| (id, self.of_alert.contains_key(&id), book.alerts().get(id))).collect();
        for (id, is_known, kept) in found {
            match (is_known, kept) {
                (false, Some(kept)) => self.add((&plan, book), (id, kept), &mut changed),
                (true, None) => self.remove(id),
                (true, Some(kept)) => self.came((&plan, book), (id, kept), &mut changed),
                (false, None) => {}
            }
        }
        if self.plan.telling.escalates() {
            for id in begun.since(&before.begun).unwrap_or_else(|| begun.iter().map(|(id, _)| id).collect()) {
                if let Some(kept) = book.alerts().get(id) {
                    self.came((&plan, book), (id, kept), &mut changed);
                }
            }
        }
        changed.sort_unstable();
        changed.dedup();
        for (group, lane) in changed {
            self.schedule(group, lane);
        }
    }

    /// Holds the book no longer: it is changed where it stands until somebody looks again.
    pub fn rest(&mut self) {
        self.book = Arc::clone(&self.nothing);
    }

    fn look_at_log(&mut self, id: u64, changed: &mut Vec<(u64, usize)>) {
        let told = self.book.logs().get(id);
        let (is_open, is_held) = told.map_or((false, false), |told| (told.claim.is_some(), !told.held.is_empty()));
        for (is, all) in [(is_open, &mut self.open), (is_held, &mut self.held)] {
            let _ = if is { all.insert(id) } else { all.remove(&id) };
        }
        if let Some((group, lane)) = self.of_log.get(&id).copied() {
            changed.push((group, lane));
            if let Some(lane) = self.groups.get_mut(&group).and_then(|group| group.lanes.get_mut(lane)) {
                lane.decided = None;
            }
            self.first_anew(group, lane);
        }
    }

    fn add(&mut self, (plan, book): (&Plan, &Book), (id, kept): (u64, &Kept), changed: &mut Vec<(u64, usize)>) {
        let labels = &kept.alert.labels;
        self.suppress.add(id, labels);
        let groups = plan.routing.root.matching(labels).into_iter().map(|route| self.group_of(route, labels)).collect::<Box<[u64]>>();
        for group in &groups {
            if let Some(group) = self.groups.get_mut(group) {
                group.alerts.insert(id);
            }
        }
        self.of_alert.insert(id, Known { labels: labels.clone(), groups });
        self.came((plan, book), (id, kept), changed);
    }

    fn group_of(&mut self, route: &Route, labels: &Labels) -> u64 {
        let hash = (route.number, route.group_hash(self.seed, labels));
        let alike = self.by_hash.get(&hash).map(Vec::as_slice).unwrap_or_default();
        let is_it = |number: &&u64| self.groups.get(number).is_some_and(|group| route.is_group(&group.labels, labels));
        if let Some(known) = alike.iter().find(is_it) {
            return *known;
        }
        let number = self.next;
        self.next += 1;
        let key = Arc::<str>::from(route.group_key(labels));
        let lanes = self.plan.lanes_of(self.seed, route, &key);
        self.of_log.extend(lanes.iter().enumerate().map(|(place, lane)| (lane.log, (number, place))));
        let labels = route.group(labels);
        self.groups.insert(number, Group { route: route.number, hash: hash.1, key, labels, alerts: BTreeSet::new(), lanes });
        self.by_hash.entry(hash).or_default().push(number);
        number
    }

    fn remove(&mut self, id: u64) {
        let Some(known) = self.of_alert.remove(&id) else { return };
        self.suppress.remove(id, &known.labels);
        self.released.remove(&id);
        for number in known.groups {
            let Some(group) = self.groups.get_mut(&number) else { continue };
            group.alerts.remove(&id);
            if !group.alerts.is_empty() {
                continue;
            }
            if let Some(group) = self.groups.remove(&number) {
                let hash = (group.route, group.hash);
                if let Some(alike) = self.by_hash.get_mut(&hash) {
                    alike.retain(|other| *other != number);
                    if alike.is_empty() {
                        self.by_hash.remove(&hash);
                    }
                }
                for (lane, Lane { log, due, .. }) in group.lanes.into_iter().enumerate() {
                    // Of two routes with the same key and receiver the other one may have it.
                    if self.of_log.get(&log) == Some(&(number, lane)) {
                        self.of_log.remove(&log);
                    }
                    if let Some(due) = due {
                        self.due.remove(&(due, number, lane));
                    }
                }
            }
        }
    }

    /// An alert of these groups holds since then, or is told from now on: lanes that were told before may look again.
    fn came(&mut self, (plan, book): (&Plan, &Book), (id, kept): (u64, &Kept), changed: &mut Vec<(u64, usize)>) {
        match plan.windows.released(&kept.alert.labels, kept.came, &mut self.spans) {
            0 => self.released.remove(&id),
            until => self.released.insert(id, until),
        };
        let released = self.released(id, kept);
        let groups = self.of_alert.get(&id).map_or(&[][..], |known| &known.groups);
        for number in groups {
            let Some(group) = self.groups.get_mut(number) else { continue };
            let Some(route) = plan.routing.route(group.route) else { continue };
            for (place, lane) in group.lanes.iter_mut().enumerate() {
                // What comes to no step any more may still be owed its end.
                changed.push((*number, place));
                let Some(came) = plan.comes(book, (route, lane), (id, released), kept) else { continue };
                if let Some(storm) = plan.telling.bounds(&lane.whom.receiver).and_then(|bounds| bounds.storm.as_ref()) {
                    storm::arrives(self.arrivals.entry(Arc::clone(&lane.whom.receiver)).or_default(), storm, (came, id), kept.came);
                }
                let base = book.logs().get(lane.log).map_or(i64::MIN, |told| told.base);
                if came > base && lane.first.is_none_or(|first| came < first) {
                    lane.first = Some(came);
                }
            }
        }
    }

    /// Something was told: what came later is looked for.
    fn first_anew(&mut self, number: u64, lane: usize) {
        let Some(group) = self.groups.get(&number) else { return };
        let (Some(route), Some(of)) = (self.plan.routing.route(group.route), group.lanes.get(lane)) else { return };
        let base = self.book.logs().get(of.log).map_or(i64::MIN, |told| told.base);
        let came = group.alerts.iter().filter_map(|id| self.comes((route, of), *id, self.book.alerts().get(*id)?));
        let first = came.filter(|came| *came > base).min();
        if let Some(lane) = self.groups.get_mut(&number).and_then(|group| group.lanes.get_mut(lane)) {
            lane.first = first;
        }
    }
}

//! What is to be remembered of an alert when all is said of it: an episode, from when it came to when it was over, with who was told, and who took care.
//!
//! The book keeps what receivers were told of each alert beside it, and makes an episode of an alert that it forgets, or that fires again after it was over. Episodes are
//! numbered without a gap, and each says how many bytes came before it, so that whoever keeps them knows what is missing, and how much there is. Left out on
//! purpose: where they are kept (`node::history`), and how they are written (`shard::episodes`).

use std::sync::Arc;

use crate::alert::book::Acknowledged;
use crate::alert::book::Kept;
use crate::alert::buckets::Buckets;
use crate::alert::silence::Silence;
use crate::alert::told::Whom;
use crate::model::alert::Alert;

/// Receivers of one alert that are remembered.
const MOST_TOLD: usize = 32;
/// Of each entry: so often a silence is held against an alert of which nobody was told. An entry must not stop the shard.
const MOST_LOOKS: usize = 100_000;

/// A receiver was told of an alert.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Telling {
    /// The receiver.
    pub receiver: Arc<str>,
    /// When it was first noted that it has been told that the alert holds, ms since 1970.
    pub at: i64,
    /// That it is over; 0: it was not told.
    pub over: i64,
    /// By a digest alone, in a storm.
    pub digest: bool,
}

/// An alert, from when it came to when it was over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Episode {
    /// What was said of it last.
    pub alert: Alert,
    /// When it was first said that it holds.
    pub came: i64,
    /// When it was forgotten, or fired again.
    pub closed: i64,
    /// Who took care.
    pub acknowledged: Option<Arc<Acknowledged>>,
    /// Who was told, in this order.
    pub told: Vec<Telling>,
    /// A silence that fitted while it held, where nobody was told; empty: none did, or somebody was told.
    pub silenced: String,
    /// How bad it was at its worst, 1 to 5 (other policies may have changed that while it held),
    pub level: u8,
    /// and at its end.
    pub level_at_end: u8,
    /// So often it came again while its end was watched.
    pub again: u64,
}

/// An episode that is closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// The first one has 1.
    pub number: u64,
    /// Bytes of all before it.
    pub before: u64,
    /// The episode.
    pub episode: Episode,
}

/// What receivers were told of the alerts that are kept, and how many episodes there were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// By the alert's id. Behind a pointer, so that changes of other things do not copy it.
    told: Arc<Buckets<Vec<Telling>>>,
    /// When it was first decided that anybody is told of an alert, ms since 1970, by its id: from then on escalation counts.
    begun: Arc<Buckets<i64>>,
    count: u64,
    bytes: u64,
    /// Episodes up to this one are where the history goes besides.
    exported: u64,
    /// Closed since somebody took them: never anything between two entries.
    closed: Vec<Closed>,
    looks: usize,
}

impl Episode {
    /// What it counts for.
    pub fn bytes(&self) -> u64 {
        let of = |labels: &crate::model::labels::Labels| labels.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>();
        let alert = of(&self.alert.labels) + of(&self.alert.annotations) + self.alert.generator.len();
        let told: usize = self.told.iter().map(|telling| telling.receiver.len() + 16).sum();
        let acknowledged = self.acknowledged.as_ref().map_or(0, |known| known.by.len() + known.comment.len() + 8);
        (alert + told + acknowledged + self.silenced.len() + 64) as u64
    }

    /// Of an alert as it is kept.
    pub fn of(kept: &Kept, told: Vec<Telling>, closed: i64) -> Episode {
        Episode {
            alert: kept.alert.clone(),
            came: kept.came,
            closed,
            acknowledged: kept.acknowledged.clone(),
            told,
            silenced: String::new(),
            level: kept.worst(),
            level_at_end: kept.level(),
            again: kept.noted.again,
        }
    }
}

impl Ledger {
    /// What receivers were told, by the alert's id.
    pub fn told(&self) -> &Buckets<Vec<Telling>> {
        &self.told
    }

    /// Episodes up to this one are where the history goes besides.
    pub fn exported(&self) -> u64 {
        self.exported
    }

    /// Those up to this one are.
    pub(super) fn export(&mut self, number: u64) {
        self.exported = self.exported.max(number.min(self.count));
    }

    /// When it was first decided that anybody is told of an alert, by its id.
    pub fn begun(&self) -> &Buckets<i64> {
        &self.begun
    }

    /// Somebody is to be told that these hold.
    pub(super) fn begin(&mut self, firing: impl Iterator<Item = u64>, at: i64) {
        for id in firing {
            if self.begun.get(id).is_none() {
                Arc::make_mut(&mut self.begun).set(id, at);
            }
        }
    }

    /// How many episodes were closed, and their bytes.
    pub fn totals(&self) -> (u64, u64) {
        (self.count, self.bytes)
    }

    /// A receiver has it that alerts hold, and that others are over.
    pub(super) fn note(&mut self, whom: &Whom, (firing, over): (&[u64], &[u64]), at: i64) {
        let (receiver, digest) = (&whom.receiver, whom.is_storm());
        for id in firing {
            let known = self.told.get(*id).map(|told| &***told).unwrap_or_default();
            let is_known = |telling: &Telling| telling.receiver == *receiver && telling.over == 0 && (digest || !telling.digest);
            if known.len() < MOST_TOLD && !known.iter().any(is_known) {
                let mut told: Vec<Telling> = known.iter().filter(|telling| telling.receiver != *receiver).cloned().collect();
                let first = known.iter().find(|telling| telling.receiver == *receiver).map_or(at, |telling| telling.at);
                told.push(Telling { receiver: Arc::clone(receiver), at: first, over: 0, digest });
                Arc::make_mut(&mut self.told).set(*id, told);
            }
        }
        for id in over {
            let Some(known) = self.told.get(*id) else { continue };
            if known.iter().any(|telling| telling.receiver == *receiver && telling.over == 0) {
                let mut told = Vec::clone(known);
                told.iter_mut().filter(|telling| telling.receiver == *receiver && telling.over == 0).for_each(|telling| telling.over = at);
                Arc::make_mut(&mut self.told).set(*id, told);
            }
        }
    }

    /// Nothing more is said of this episode. Whoever still has it that the alert holds was told of the next one, too, if it fires again.
    pub(super) fn close<'s>(&mut self, (id, kept): (u64, &Kept), silences: impl Iterator<Item = &'s Arc<Silence>>, at: i64, again: bool) {
        let told = self.told.get(id).map(|told| Vec::clone(told)).unwrap_or_default();
        let rest: Vec<Telling> = told.iter().filter(|telling| again && telling.over == 0).cloned().collect();
        if self.begun.get(id).is_some() {
            let all = Arc::make_mut(&mut self.begun);
            if rest.is_empty() { drop(all.remove(id)) } else { drop(all.set(id, at)) }
        }
        if !told.is_empty() {
            let all = Arc::make_mut(&mut self.told);
            if rest.is_empty() { drop(all.remove(id)) } else { drop(all.set(id, rest)) }
        }
        let mut episode = Episode::of(kept, told, at);
        if episode.told.is_empty() {
            episode.silenced = self.silenced(&episode, silences);
        }
        self.count += 1;
        let closed = Closed { number: self.count, before: self.bytes, episode };
        self.bytes += closed.episode.bytes();
        self.closed.push(closed);
    }

    fn silenced<'s>(&mut self, episode: &Episode, silences: impl Iterator<Item = &'s Arc<Silence>>) -> String {
        let (looks, from, to) = (&mut self.looks, episode.came, episode.alert.ends);
        let mut fits = silences.take_while(|_| {
            *looks += 1;
            *looks <= MOST_LOOKS
        });
        let found = fits.find(|silence| {
            silence.starts < to && silence.ends > from && silence.matchers.iter().all(|matcher| matcher.matches(&episode.alert.labels))
        });
        found.map(|silence| silence.id.clone()).unwrap_or_default()
    }

    /// What was closed since this was asked last.
    pub(super) fn take(&mut self) -> Vec<Closed> {
        self.looks = 0;
        std::mem::take(&mut self.closed)
    }

    /// Puts back what was written: how many there were, and their bytes,
    pub fn restore_totals(&mut self, (count, bytes): (u64, u64)) {
        (self.count, self.bytes) = (count, bytes);
    }

    /// how many of them went where the history goes besides,
    pub fn restore_exported(&mut self, number: u64) {
        self.exported = number;
    }

    /// since when an alert is told,
    pub fn restore_begun(&mut self, id: u64, at: i64) {
        Arc::make_mut(&mut self.begun).set(id, at);
    }

    /// the same of what was written by a program that did not know it: since when a receiver has it,
    pub fn begin_as_told(&mut self) {
        for (id, told) in Arc::clone(&self.told).iter() {
            let since = told.iter().filter(|telling| telling.over == 0).map(|telling| telling.at).min();
            since.into_iter().for_each(|at| self.restore_begun(id, at));
        }
    }

    /// and who was told of an alert.
    pub fn restore_told(&mut self, id: u64, told: Vec<Telling>) {
        Arc::make_mut(&mut self.told).set(id, told);
    }
}

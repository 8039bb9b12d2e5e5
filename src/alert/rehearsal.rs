//! What would have been told: episodes of the past are lived through once more, with the groups, timers and policies that tell in earnest, by a clock that jumps
//! from one moment at which something happens to the next. Every message is taken at once, since how receivers fared then is not known.
//!
//! Nothing here decides what is told: a book is posted to and groups are asked, as by a node that leads. So a policy that stands in the book, in the groups
//! or in what they say is due is rehearsed without a word here; one that stands behind them (how fast a receiver may be told) looks at the messages as they
//! come (`Watch`). What an episode does not know is not lived through: silences (an episode that one kept back stays so), beginnings and ends within it.

pub mod measure;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::alert::book;
use crate::alert::book::Acknowledged;
use crate::alert::book::Book;
use crate::alert::book::Wanted;
use crate::alert::book::log_id;
use crate::alert::episode::Episode;
use crate::alert::groups::Groups;
use crate::alert::groups::Plan;
use crate::alert::lesson::Lessons;
use crate::alert::policy::EpisodeRules;
use crate::alert::told::End;
use crate::model::alert::Alert;
use crate::model::alert::name;

/// Any: nothing leaves the rehearsal.
const SEED: u64 = 0;
/// Behind the last end something may still be told for so long: the longest calm, and an interval of groups, ms.
const AFTERWARDS_MS: i64 = 26 * 3_600_000;
/// What nobody needs is forgotten so often, as in earnest after so long, ms,
const SWEEP_MS: i64 = 30 * 60_000;
const OVER_MS: i64 = 20 * 60_000;
const KEEP_MS: i64 = 5 * 86_400_000;
/// An alert holds for longer than any episode until its end is posted, ms.
const HOLDS_MS: i64 = 4_000 * 86_400_000;
/// Messages that are due at once are asked for in such parts.
const AT_ONCE: usize = 1_000;

/// By which rules it is lived through.
pub struct Script {
    /// The routes, with windows of maintenance.
    pub plan: Arc<Plan>,
    /// The other policies.
    pub rules: EpisodeRules,
    /// What is known before it begins.
    pub lessons: Lessons,
}

/// Looks on: messages as they would be told, and how many of the episodes were lived through.
pub trait Watch {
    /// A message.
    fn told(&mut self, wanted: &Wanted, at: i64);
    /// So many episodes have begun. `false`: enough.
    fn goes_on(&mut self, begun: usize) -> bool;
}

/// What came of an episode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// When somebody was first told that it holds, ms since 1970; 0: nobody was.
    pub told: i64,
    /// When somebody was first told that it is over; 0: nobody was.
    pub over: i64,
    /// Why nobody was told.
    pub kept: Kept,
}

/// Why nobody was told of an episode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    /// No policy: it was over before its group was looked at, or something else explained or muted it.
    #[default]
    Otherwise,
    /// It was over while it waited whether it is.
    Waited,
    /// It came while the end of another episode was watched, or while it flapped: whoever knew that it holds still knew.
    Joined,
    /// Maintenance.
    Maintained,
    /// A silence, then; it is not lived through.
    Silenced,
}

/// What came of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Of each episode, in the order in which they were given.
    pub fates: Vec<Fate>,
    /// Messages.
    pub messages: u64,
    /// The rehearsal was ended before its end.
    pub broken_off: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    // At the same moment an end comes before a beginning.
    End,
    Begin,
    Acknowledge,
}

struct Stage<'e> {
    episodes: &'e [Episode],
    book: Arc<Book>,
    groups: Groups,
    outcome: Outcome,
    /// Which episode an alert is in.
    running: BTreeMap<u64, usize>,
    /// When it was last looked what nobody needs.
    swept: i64,
    begun: usize,
}

/// Lives through episodes.
pub fn rehearse(episodes: &[Episode], script: Script, watch: &mut dyn Watch) -> Outcome {
    let mut events: Vec<(i64, What, usize)> = Vec::with_capacity(episodes.len() * 2);
    for (number, episode) in episodes.iter().enumerate().filter(|(_, episode)| episode.silenced.is_empty()) {
        events.push((episode.came, What::Begin, number));
        events.push((episode.alert.ends.max(episode.came + 1), What::End, number));
        events.extend(episode.acknowledged.iter().map(|known| (known.at, What::Acknowledge, number)));
    }
    events.sort_unstable();
    let mut stage = Stage::new(episodes, script);
    for (at, what, number) in events {
        stage.until(at, watch);
        stage.happens(at, what, number);
        if what == What::Begin {
            stage.begun += 1;
            stage.look_on(watch);
        }
        if stage.outcome.broken_off {
            return stage.outcome;
        }
    }
    let last = episodes.iter().map(|episode| episode.alert.ends).max().unwrap_or(0);
    stage.until(last + AFTERWARDS_MS, watch);
    stage.outcome
}

impl<'e> Stage<'e> {
    fn new(episodes: &'e [Episode], script: Script) -> Stage<'e> {
        let mut book = Book::default();
        let Script { plan, rules, lessons } = script;
        book.restore_policies(rules, lessons);
        let kept = |episode: &Episode| if episode.silenced.is_empty() { Kept::Otherwise } else { Kept::Silenced };
        let fates = episodes.iter().map(|episode| Fate { kept: kept(episode), ..Fate::default() }).collect();
        Stage {
            groups: Groups::new(plan, SEED),
            episodes,
            book: Arc::new(book),
            outcome: Outcome { fates, ..Outcome::default() },
            running: BTreeMap::new(),
            swept: 0,
            begun: 0,
        }
    }

    fn look_on(&mut self, watch: &mut dyn Watch) {
        self.outcome.broken_off |= !watch.goes_on(self.begun);
    }

    /// Tells what is due until then, and forgets now and then what nobody needs.
    fn until(&mut self, at: i64, watch: &mut dyn Watch) {
        while !self.book.alerts().is_empty() && !self.outcome.broken_off {
            let next = self.swept.saturating_add(SWEEP_MS);
            self.tell(next.min(at), watch);
            if next > at {
                return;
            }
            self.sweep(next);
            self.swept = next;
            self.look_on(watch);
        }
        // With nothing in the book there is nothing to wait for.
        self.swept = at;
    }

    fn tell(&mut self, until: i64, watch: &mut dyn Watch) {
        while let Some(now) = self.groups.next_due().filter(|due| *due <= until) {
            let wanted = self.groups.due(now, AT_ONCE);
            if wanted.is_empty() {
                // Where nothing came of looking, looking again at the same moment would not either.
                if self.groups.next_due() <= Some(now) {
                    return;
                }
                continue;
            }
            let mut bundles = BTreeSet::new();
            for one in &wanted {
                let alone = one.claim.bundle == 0 || bundles.insert((&one.whom.receiver, one.whom.integration, one.claim.bundle));
                self.outcome.messages += u64::from(alone && one.claim.reason.is_some());
                self.note(one, now, watch);
            }
            let ends: Vec<(u64, u64, End)> = wanted.iter().map(|one| (log_id(SEED, &one.whom), one.claim.number, End::Taken)).collect();
            let book = self.book_mut();
            // Nothing else tells here, so that nothing is left out.
            let _ = book.claim(SEED, wanted);
            book.end(&ends, now);
            self.groups.look(&self.book);
        }
    }

    fn sweep(&mut self, at: i64) {
        let gone = self.book.sweepings(at, (OVER_MS, KEEP_MS), usize::MAX);
        if gone.alerts.is_empty() && gone.logs.is_empty() {
            return;
        }
        let book = self.book_mut();
        book.sweep(&gone, at);
        drop(book.take_closed());
        self.running.retain(|id, _| self.book.alerts().get(*id).is_some());
        self.groups.look(&self.book);
    }

    fn note(&mut self, wanted: &Wanted, now: i64, watch: &mut dyn Watch) {
        if wanted.claim.reason.is_none() {
            return;
        }
        watch.told(wanted, now);
        for (ids, over) in [(&wanted.claim.firing, false), (&wanted.claim.over, true)] {
            for number in ids.iter().filter_map(|id| self.running.get(id)) {
                let Some(fate) = self.outcome.fates.get_mut(*number) else { continue };
                match over {
                    false if fate.told == 0 => fate.told = now,
                    true if fate.over == 0 => fate.over = now,
                    _ => {}
                }
            }
        }
    }

    fn happens(&mut self, at: i64, what: What, number: usize) {
        let Some(episode) = self.episodes.get(number) else { return };
        let id = book::id(SEED, &episode.alert.labels);
        match what {
            What::Begin => {
                let alert = Alert { starts: at, ends: at + HOLDS_MS, updated: at, ..Alert::clone(&episode.alert) };
                self.post(alert, at);
                let joins = self.book.alerts().get(id).is_some_and(|kept| kept.noted.again > 0);
                let before = self.running.insert(id, number).and_then(|before| self.outcome.fates.get(before)).copied();
                let was_told = before.is_some_and(|before| before.told > 0 || before.kept == Kept::Joined);
                if let Some(fate) = self.outcome.fates.get_mut(number).filter(|_| joins && was_told) {
                    fate.kept = Kept::Joined;
                }
            }
            What::End => {
                self.judge(id, number, at);
                self.post(Alert { starts: at, ends: at, updated: at, ..Alert::clone(&episode.alert) }, at);
            }
            What::Acknowledge => {
                let by = episode.acknowledged.as_deref().map(|known| known.by.clone()).unwrap_or_default();
                // One that was over by then is no error here.
                let _ = self.book_mut().acknowledge(id, Acknowledged { by, comment: String::new(), at }, at);
            }
        }
        self.groups.look(&self.book);
    }

    /// To be changed where it stands: nobody holds it meanwhile.
    fn book_mut(&mut self) -> &mut Book {
        self.groups.rest();
        Arc::make_mut(&mut self.book)
    }

    fn post(&mut self, alert: Alert, at: i64) {
        let book = self.book_mut();
        // What does not fit did not fit then either.
        let _ = book.post(SEED, vec![alert], at);
        drop(book.take_closed());
    }

    /// An episode ends: why was nobody told?
    fn judge(&mut self, id: u64, number: usize, at: i64) {
        let Some(kept) = self.book.alerts().get(id) else { return };
        let Some(fate) = self.outcome.fates.get_mut(number).filter(|fate| fate.told == 0 && fate.kept == Kept::Otherwise) else { return };
        fate.kept = match () {
            () if kept.noted.released > at => Kept::Waited,
            () if !self.groups.standing(id, kept, at).maintained_by.is_empty() => Kept::Maintained,
            () => Kept::Otherwise,
        };
    }
}

/// What came of all episodes of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Episodes.
    pub episodes: u64,
    /// Of which somebody was told.
    pub told: u64,
    /// Of which somebody was told that they are over.
    pub over: u64,
    /// Of which nobody was told: by the reason.
    pub kept: BTreeMap<Kept, u64>,
    /// Told later than in another rehearsal, the ms of all of them, and of the one that was told latest.
    pub later: (u64, i64, i64),
}

/// By name; `other`: another rehearsal of the same episodes.
pub fn tally(episodes: &[Episode], outcome: &Outcome, other: Option<&Outcome>) -> BTreeMap<String, Tally> {
    let mut all: BTreeMap<String, Tally> = BTreeMap::new();
    for (number, (episode, fate)) in episodes.iter().zip(&outcome.fates).enumerate() {
        let tally = all.entry(name(&episode.alert.labels).to_owned()).or_default();
        tally.episodes += 1;
        tally.told += u64::from(fate.told > 0);
        tally.over += u64::from(fate.over > 0);
        if fate.told == 0 {
            *tally.kept.entry(fate.kept).or_default() += 1;
        }
        let before = other.and_then(|other| other.fates.get(number)).map_or(0, |fate| fate.told);
        if before > 0 && fate.told > before {
            let later = fate.told - before;
            tally.later = (tally.later.0 + 1, tally.later.1 + later, tally.later.2.max(later));
        }
    }
    all
}

#[cfg(test)]
mod tests;

//! What one integration of a receiver was told of a group, and what it is being told: the log of notifications, and the rule that says what is to be told next.
//!
//! The rule is Alertmanager's (`needsUpdate`), mended where it loses: what is over is told to whoever was told that it holds, silenced or not; and what
//! was being told while a receiver was away (the claim) is told when it is back, before anything newer. Left out on purpose: when one looks (`groups`).

use std::sync::Arc;

use crate::alert::message::Reason;
use crate::alert::spent::Target;
use crate::model::labels::Labels;

/// Behind the key of a group, where it is not the route's own receiver that is told. A key ends with a brace, so that none reads like that.
const STEP: &str = "\nescalation ";
/// The whole of it, where one message is told of very many groups.
const STORM: &str = "{}:{}\nstorm";

/// Whose log it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Whom {
    /// The group's key, as Alertmanager writes it; of a step of escalation, its policy and number stand behind it.
    pub group: Arc<str>,
    /// The receiver.
    pub receiver: Arc<str>,
    /// Which of its integrations.
    pub integration: u32,
}

/// What it was told. Alerts by their ids in the book, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Whose log it is.
    pub whom: Whom,
    /// What the group's alerts have in common.
    pub labels: Labels,
    /// Of the last message; the next one's is greater.
    pub number: u64,
    /// When the last one that was taken was decided, ms since 1970; 0: none was.
    pub at: i64,
    /// When the last one was decided, whatever came of it: the group looks again after `group_interval`.
    pub base: i64,
    /// It was told that these hold,
    pub firing: Vec<u64>,
    /// and that these are over.
    pub over: Vec<u64>,
    /// It may have been told that these hold.
    pub maybe: Vec<u64>,
    /// It is to be told of these as soon as it may be told anything, that they hold, or else that they are over.
    pub held: Vec<u64>,
    /// What it is being told.
    pub claim: Option<Claim>,
}

/// A message on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Its number.
    pub number: u64,
    /// When it was decided.
    pub at: i64,
    /// Why.
    pub reason: Option<Reason>,
    /// The node that sends it.
    pub owner: u64,
    /// It says that these hold,
    pub firing: Vec<u64>,
    /// and that these are over.
    pub over: Vec<u64>,
    /// Told before, not told now, and still holding.
    pub stay: Vec<u64>,
    /// Over, and nothing need be said of it.
    pub settled: Vec<u64>,
    /// No message: these hold, and are told when the receiver may be told anything. Then nothing else is in it.
    pub held: Vec<u64>,
    /// Goes in one message with all that have this number; 0: alone.
    pub bundle: u64,
    /// It counts for the receiver's windows.
    pub counts: bool,
}

/// What came of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The receiver has it.
    Taken,
    /// It will never take it.
    Never,
    /// Nothing of it is to be told any more; the receiver may have it.
    Dropped,
}

/// Whether a sorted list has it.
pub fn has(sorted: &[u64], id: u64) -> bool {
    sorted.binary_search(&id).is_ok()
}

impl Whom {
    /// What a group's key is for a step of escalation. Steps have numbers from 1.
    pub fn group_of_step(key: &str, policy: &str, number: usize) -> Arc<str> {
        format!("{key}{STEP}{policy} {number}").into()
    }

    /// Of digests that a target gets in a storm.
    pub fn of_storm(target: &Target) -> Whom {
        Whom { group: STORM.into(), receiver: Arc::clone(&target.receiver), integration: target.integration }
    }

    /// Whether it is told by digests.
    pub fn is_storm(&self) -> bool {
        &*self.group == STORM
    }

    fn parts(&self) -> (&str, Option<(&str, u32)>) {
        let split = || {
            let (key, rest) = self.group.rsplit_once(STEP)?;
            let (policy, number) = rest.rsplit_once(' ')?;
            Some((key, Some((policy, number.parse().ok()?))))
        };
        split().unwrap_or((&self.group, None))
    }

    /// The group's key, as Alertmanager writes it.
    pub fn key(&self) -> &str {
        if self.is_storm() { "{}:{}" } else { self.parts().0 }
    }

    /// The policy of escalation, and the step's number, where it is one that is told.
    pub fn step(&self) -> Option<(&str, u32)> {
        self.parts().1
    }
}

impl Told {
    /// It was told, or may have been, or was to be told that an alert holds, and not that it is over.
    pub fn is_owed(&self, id: u64) -> bool {
        self.has_it(id) || has(&self.held, id)
    }

    /// It was told, or may have been, that an alert holds.
    pub fn has_it(&self, id: u64) -> bool {
        has(&self.firing, id) || has(&self.maybe, id)
    }

    /// Whether anything is told as holding, or to be.
    pub fn is_open(&self) -> bool {
        !(self.firing.is_empty() && self.maybe.is_empty() && self.held.is_empty())
    }

    /// A claim without a reason changes what was told, without a word.
    pub fn claim(&mut self, mut claim: Claim) {
        for list in [&mut claim.firing, &mut claim.over, &mut claim.stay, &mut claim.settled, &mut claim.held] {
            list.sort_unstable();
            list.dedup();
        }
        if !claim.held.is_empty() {
            // Not before the first message's number, which no other message may have had.
            self.number = if self.number == 0 { claim.number } else { self.number };
            // What came by then is what is held, however late it is looked at.
            self.base = if self.is_open() { self.base } else { claim.at };
            self.held = joined(&self.held, &claim.held);
            return;
        }
        self.base = claim.at;
        match claim.reason {
            Some(_) => (self.number, self.claim) = (claim.number, Some(claim)),
            None => self.set(&claim),
        }
    }

    /// Something came of the claim.
    pub fn end(&mut self, number: u64, end: End) -> bool {
        let Some(claim) = self.claim.take_if(|claim| claim.number == number) else { return false };
        match end {
            End::Taken => {
                self.at = claim.at;
                self.set(&claim);
            }
            End::Never => {}
            End::Dropped => self.maybe = joined(&self.maybe, &claim.firing),
        }
        true
    }

    fn set(&mut self, claim: &Claim) {
        self.held.retain(|id| ![&claim.firing, &claim.over, &claim.stay, &claim.settled].into_iter().any(|list| has(list, *id)));
        (self.firing, self.over, self.maybe) = (joined(&claim.firing, &claim.stay), joined(&claim.over, &claim.settled), Vec::new());
    }
}

fn joined(one: &[u64], other: &[u64]) -> Vec<u64> {
    let mut all = [one, other].concat();
    all.sort_unstable();
    all.dedup();
    all
}

/// An alert of a group, as one finds it.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// In the book.
    pub id: u64,
    /// It is over, and that counts.
    pub over: bool,
    /// When it is, or was.
    pub ends: i64,
    /// When it came.
    pub came: i64,
    /// Since when it flaps; 0: it does not.
    pub flaps: i64,
    /// It is not to be told that it holds.
    pub suppressed: bool,
    /// Somebody takes care of it.
    pub acknowledged: bool,
}

/// How one looks.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Now, ms since 1970.
    pub now: i64,
    /// What came later waits for the next look.
    pub tick: i64,
    /// What was told is told again after this, ms.
    pub repeat: i64,
    /// The receiver wants to hear what is over.
    pub wants_over: bool,
}

/// What is to be told, or noted without a word; nothing: neither. Number and owner are the caller's.
pub fn decide(told: Option<&Told>, group: impl Iterator<Item = Found>, look: Look) -> Option<Claim> {
    let none = Told::default();
    let before = told.unwrap_or(&none);
    let mut claim = Claim { at: look.now, ..Claim::default() };
    let (mut new, mut owed_over, mut other_over, mut unattended, mut quiet) = (false, false, false, false, false);
    for Found { id, over, ends, came, flaps, suppressed, acknowledged } in group {
        let known = has(&before.firing, id);
        if !over {
            match (suppressed, known) {
                (false, _) => {
                    claim.firing.push(id);
                    // Whoever knows that it holds is told once that it flaps.
                    new |= if known { flaps > before.at && flaps <= look.tick } else { came <= look.tick };
                    unattended |= !acknowledged;
                }
                (true, true) => claim.stay.push(id),
                (true, false) => {}
            }
        } else if before.is_owed(id) {
            match look.wants_over {
                true => claim.over.push(id),
                false => claim.settled.push(id),
            }
            owed_over |= look.wants_over;
            quiet |= !look.wants_over;
        } else if has(&before.over, id) {
            claim.settled.push(id);
        } else if look.wants_over && !suppressed && before.is_open() {
            claim.over.push(id);
            other_over |= came <= look.tick && ends <= look.tick;
        }
    }
    claim.reason = match before.is_open() {
        _ if new && before.firing.is_empty() => Some(Reason::First),
        _ if new => Some(Reason::New),
        true if owed_over && claim.firing.is_empty() && claim.stay.is_empty() => Some(Reason::AllOver),
        true if owed_over || other_over => Some(Reason::SomeOver),
        true if unattended && before.at.saturating_add(look.repeat) <= look.now => Some(Reason::Repeat),
        _ => None,
    };
    if claim.reason.is_none() && quiet {
        // What is told stays told, but for what is over.
        claim.stay.extend(claim.firing.drain(..).filter(|id| has(&before.firing, *id)));
        claim.settled.append(&mut claim.over);
        return Some(claim);
    }
    claim.reason.map(|_| claim)
}

#[cfg(test)]
mod tests;

//! All that is known of alerts: the alerts, silences, and what whom was told. A value that the control shard keeps, alike on every node.
//!
//! Rules of how words about one alert are put together are Alertmanager's: the later word counts, the earliest start, and an end that a source said before
//! one that was only reckoned. Everything is bounded, and what does not fit is refused in words. Times come from outside, in entries. Left out on purpose:
//! whom an alert goes to (`groups`), how all this is written (`shard::alerting`).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::alert::beat::Beat;
use crate::alert::buckets::Buckets;
use crate::alert::episode::Closed;
use crate::alert::episode::Ledger;
use crate::alert::lesson::Lessons;
use crate::alert::noted::Noted;
use crate::alert::policy::EpisodeRules;
use crate::alert::silence::Phase;
use crate::alert::silence::Silence;
use crate::alert::spent::Spent;
use crate::alert::told::Claim;
use crate::alert::told::End;
use crate::alert::told::Told;
use crate::alert::told::Whom;
use crate::model::alert::Alert;
use crate::model::alert::name;
use crate::model::labels::Labels;

/// Alerts at the same time, those that are over and not yet forgotten among them.
pub const MOST_ALERTS: usize = 200_000;
/// Bytes of all their texts.
pub const MOST_BYTES: u64 = 512 << 20;
/// Bytes of one alert's texts.
pub const MOST_OF_ONE: usize = 64 << 10;
/// Labels, and annotations, of one.
pub const MOST_LABELS: usize = 256;
/// Silences, those that are over among them.
pub const MOST_SILENCES: usize = 10_000;
/// Logs: groups by integrations.
pub const MOST_LOGS: usize = 300_000;
/// So far the time of entries may be behind the clock of the node that took a word, ms: it leans towards it (`shard::time`), and steps when it is two seconds away.
const BEHIND_MS: i64 = 5_000;
/// An alert that only held longer was not known: the source's whole word is needed.
pub const UNKNOWN_ALERT: &str = "there is no such alert";
/// There is no such silence.
pub const UNKNOWN_SILENCE: &str = "there is no such silence";

/// An alert as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// What was said of it.
    pub alert: Alert,
    /// When it was first said that it holds, since it did not hold.
    pub came: i64,
    /// Somebody takes care of it, for as long as it holds.
    pub acknowledged: Option<Arc<Acknowledged>>,
    /// What the policies come to for it.
    pub noted: Noted,
    /// How often it is said.
    pub beat: Beat,
}

impl Kept {
    /// How bad it is, 1 (the worst) to 5.
    pub fn level(&self) -> u8 {
        self.noted.level_of(&self.alert.labels)
    }

    /// How bad it was at its worst, since it came.
    pub fn worst(&self) -> u8 {
        self.noted.worst_of(&self.alert.labels)
    }

    /// Since when it holds without being said as often as it usually is.
    pub fn unconfirmed_since(&self, now: i64) -> Option<i64> {
        self.beat.missed(self.alert.updated).filter(|missed| *missed <= now && !self.alert.is_over(now))
    }

    /// From when on it counts as over: policies may watch its end for a while.
    pub fn counts(&self) -> i64 {
        self.noted.counts(self.alert.ends)
    }

    /// Whether it is over, and that counts.
    pub fn is_closed(&self, now: i64) -> bool {
        self.counts() <= now
    }

    /// Whether it flaps.
    pub fn flaps_at(&self, now: i64) -> bool {
        self.noted.flaps_at(self.alert.ends, now)
    }
}

/// That somebody takes care.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// Who.
    pub by: String,
    /// What they say.
    pub comment: String,
    /// When.
    pub at: i64,
}

/// Alerts that hold longer than was said, and nothing else is new: what sources say most of the time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Longer {
    /// Until then.
    pub ends: i64,
    /// Said then.
    pub updated: i64,
    /// Which.
    pub ids: Vec<u64>,
}

/// A message that is to be sent: whose it is, and what it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Who is told.
    pub whom: Whom,
    /// What the group's alerts have in common.
    pub labels: Labels,
    /// What they are told.
    pub claim: Claim,
}

/// What nobody needs any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// Alerts that are over.
    pub alerts: Vec<u64>,
    /// Logs that say nothing.
    pub logs: Vec<u64>,
    /// Silences that are over.
    pub silences: Vec<String>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    alerts: Buckets<Kept>,
    bytes: u64,
    logs: Buckets<Told>,
    silences: Arc<BTreeMap<String, Arc<Silence>>>,
    ledger: Ledger,
    rules: Arc<EpisodeRules>,
    lessons: Lessons,
    spent: Arc<Spent>,
}

/// Under which an alert is kept: a hash with the cluster's own seed, so that nobody can make two alerts of one id. (Fingerprints can be made alike.)
pub fn id(seed: u64, labels: &Labels) -> u64 {
    xxh3_64_with_seed(labels.packed().as_bytes(), seed)
}

/// Under which a log is kept.
pub fn log_id(seed: u64, whom: &Whom) -> u64 {
    let mut hash = Xxh3::with_seed(!seed);
    for text in [&whom.group, &whom.receiver] {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash.update(&whom.integration.to_le_bytes());
    hash.digest()
}

/// As they are kept.
fn bytes(alert: &Alert) -> usize {
    alert.labels.packed().len() + alert.annotations.packed().len() + alert.generator.len()
}

/// Whether an alert is of a size that is taken; else what is wrong.
pub fn judge(alert: &Alert) -> Result<(), String> {
    let size = bytes(alert);
    match () {
        () if alert.labels.is_empty() => Err("at least one label pair required".to_owned()),
        () if alert.ends < alert.starts => Err("start time must be before end time".to_owned()),
        () if [&alert.labels, &alert.annotations].iter().any(|labels| labels.more_than(MOST_LABELS)) => {
            Err(format!("more labels or annotations than one alert may have ({MOST_LABELS})"))
        }
        () if size > MOST_OF_ONE => Err(format!("{size} bytes of labels and annotations are more than one alert may have ({MOST_OF_ONE})")),
        () => Ok(()),
    }
}

/// Two words about one alert, as one. `at`: now.
pub fn merged(before: &Alert, new: &Alert, at: i64) -> Alert {
    let within = |time: i64| time > before.starts && time < before.ends;
    if !(within(new.ends) || within(new.starts)) {
        return if new.updated < before.updated { before.clone() } else { new.clone() };
    }
    let (older, younger) = if new.updated < before.updated { (new, before) } else { (before, new) };
    let mut one = younger.clone();
    one.starts = older.starts.min(younger.starts);
    let later = older.ends > younger.ends;
    let wins = if younger.is_over(at) { older.is_over(at) && later } else { later && !older.times_out };
    if wins {
        (one.ends, one.times_out) = (older.ends, older.times_out);
    }
    one
}

/// An episode is closed: did it end by itself?
fn learn(lessons: &mut Lessons, kept: &Kept, at: i64) {
    let alert = &kept.alert;
    let by_itself = kept.acknowledged.is_none() && !alert.is_unconfirmed();
    lessons.learn(name(&alert.labels), by_itself.then(|| alert.ends.saturating_sub(kept.came).max(0)), at);
}

impl Book {
    /// The alerts, by id.
    pub fn alerts(&self) -> &Buckets<Kept> {
        &self.alerts
    }

    /// What was told, by `log_id`.
    pub fn logs(&self) -> &Buckets<Told> {
        &self.logs
    }

    /// The silences, by id.
    pub fn silences(&self) -> &Arc<BTreeMap<String, Arc<Silence>>> {
        &self.silences
    }

    /// What receivers were told of the alerts, and how many episodes there were.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What throttled receivers were told, and when.
    pub fn spent(&self) -> &Spent {
        &self.spent
    }

    /// The same, to be put back as it was written.
    pub fn spent_mut(&mut self) -> &mut Spent {
        Arc::make_mut(&mut self.spent)
    }

    /// The same, to be put back as it was written.
    pub fn ledger_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// The policies in force.
    pub fn rules(&self) -> &Arc<EpisodeRules> {
        &self.rules
    }

    /// What was learned of episodes.
    pub fn lessons(&self) -> &Lessons {
        &self.lessons
    }

    /// Episodes that the last change closed.
    pub fn take_closed(&mut self) -> Vec<Closed> {
        self.ledger.take()
    }

    /// Bytes of all alerts' texts.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Of words about alerts those that say something new, and those that say no more than that the alerts hold longer. The same words from several
    /// sources, or to several nodes, are new once.
    pub fn news(&self, seed: u64, words: Vec<Alert>, now: i64) -> (Vec<Alert>, Vec<Longer>) {
        let (mut new, mut longer) = (Vec::new(), BTreeMap::<(i64, i64), Vec<u64>>::new());
        let ids: Vec<u64> = words.iter().map(|word| id(seed, &word.labels)).collect();
        self.alerts.fetch(&ids);
        for (word, id) in words.into_iter().zip(ids) {
            let Some(kept) = self.alerts.get(id).filter(|kept| kept.alert.labels == word.labels) else {
                // Nobody was told of what was over before it came.
                if !word.is_over(now) {
                    new.push(word);
                }
                continue;
            };
            let known = &kept.alert;
            let one = merged(known, &word, now);
            let same = one.starts == known.starts && one.annotations == known.annotations && one.generator == known.generator;
            match same && one.times_out == known.times_out {
                true if one.ends == known.ends => {}
                true if one.ends > known.ends && !known.is_over(now) => longer.entry((one.ends, one.updated)).or_default().push(id),
                _ => new.push(word),
            }
        }
        (new, longer.into_iter().map(|((ends, updated), ids)| Longer { ends, updated, ids }).collect())
    }

    /// Takes words about alerts; what does not fit is left out, and said.
    pub fn post(&mut self, seed: u64, words: Vec<Alert>, at: i64) -> Result<(), String> {
        let mut left_out = 0;
        let ids: Vec<u64> = words.iter().map(|word| id(seed, &word.labels)).collect();
        self.alerts.fetch(&ids);
        for (mut word, id) in words.into_iter().zip(ids) {
            // By then it was said: an end that had come when it was said has come, whatever the entry's own time says.
            let said = word.updated.clamp(at, at.saturating_add(BEHIND_MS));
            word.updated = word.updated.min(at);
            let known = self.alerts.get(id);
            if judge(&word).is_err() || known.is_some_and(|kept| kept.alert.labels != word.labels) {
                left_out += 1;
                continue;
            }
            let (kept, closes) = match known {
                Some(kept) => self.said_again(kept, merged(&kept.alert, &word, said), at),
                None if word.is_over(at) => continue,
                None => {
                    let noted = self.rules.comes(&word.labels, &self.lessons, at);
                    (Kept { alert: word, came: at, noted, ..Kept::default() }, false)
                }
            };
            let before = known.map_or(0, |kept| bytes(&kept.alert) as u64);
            let after = self.bytes - before + bytes(&kept.alert) as u64;
            if after > MOST_BYTES || known.is_none() && self.alerts.len() >= MOST_ALERTS {
                left_out += 1;
                continue;
            }
            if let Some(known) = known.filter(|_| closes) {
                self.ledger.close((id, known), self.silences.values(), at, true);
                learn(&mut self.lessons, known, at);
            }
            self.bytes = after;
            self.alerts.set(id, kept);
        }
        let (alerts, bytes) = (self.alerts.len(), self.bytes);
        let full =
            || format!("{left_out} alerts were not taken: there are {alerts} of {bytes} bytes, {MOST_ALERTS} of {MOST_BYTES} at most");
        if left_out > 0 { Err(full()) } else { Ok(()) }
    }

    /// An alert of which there is a new word, put together with what was said; and whether that ends its episode, and another one begins.
    fn said_again(&self, kept: &Kept, mut one: Alert, at: i64) -> (Kept, bool) {
        if !kept.alert.is_over(at) || one.is_over(at) {
            // Only what lets it hold longer comes with every word, and says how often there is one.
            let again = one.ends > kept.alert.ends;
            let beat = if again { kept.beat.said_after(one.updated - kept.alert.updated) } else { kept.beat };
            return (Kept { alert: one, beat, ..Kept::clone(kept) }, false);
        }
        let before = (&kept.noted, kept.alert.ends);
        let (noted, same) = self.rules.comes_again(&one.labels, before, &self.lessons, at);
        if !same {
            return (Kept { alert: one, came: at, acknowledged: None, noted, beat: kept.beat }, true);
        }
        one.starts = one.starts.min(kept.alert.starts);
        (Kept { alert: one, noted, ..Kept::clone(kept) }, false)
    }

    /// The policies are others. What was noted of alerts is made anew by them; how bad one was that is over stays.
    pub fn change_rules(&mut self, rules: EpisodeRules, at: i64) {
        let renewed: Vec<(u64, Kept)> = self
            .alerts
            .iter()
            .filter_map(|(id, kept)| {
                let mut noted = rules.renewed(&kept.alert.labels, &kept.noted);
                if kept.is_closed(at) {
                    (noted.level, noted.worst) = (kept.noted.level, kept.noted.worst);
                }
                (noted != kept.noted).then(|| (id, Kept { noted, ..Kept::clone(kept) }))
            })
            .collect();
        renewed.into_iter().for_each(|(id, kept)| drop(self.alerts.set(id, kept)));
        self.rules = Arc::new(rules);
    }

    /// These hold longer. One that is not known, or over by now, is an error; the others are taken.
    pub fn longer(&mut self, longer: &[Longer], at: i64) -> Result<(), String> {
        let mut unknown = false;
        for Longer { ends, updated, ids } in longer {
            for id in ids {
                let Some(kept) = self.alerts.get(*id).filter(|kept| !kept.alert.is_over(at)) else {
                    unknown = true;
                    continue;
                };
                if *ends > kept.alert.ends {
                    // No news for anybody: it holds as it did.
                    self.alerts.alter(*id, |Kept { alert, beat, .. }| {
                        let said = alert.updated.max((*updated).min(at));
                        *beat = beat.said_after(said - alert.updated);
                        (alert.ends, alert.updated) = (*ends, said);
                    });
                }
            }
        }
        if unknown { Err(UNKNOWN_ALERT.to_owned()) } else { Ok(()) }
    }

    /// Somebody takes care of an alert that holds.
    pub fn acknowledge(&mut self, id: u64, acknowledged: Acknowledged, at: i64) -> Result<(), String> {
        let kept = self.alerts.get(id).filter(|kept| !kept.is_closed(at)).ok_or(UNKNOWN_ALERT)?;
        let kept = Kept { acknowledged: Some(Arc::new(acknowledged)), ..Kept::clone(kept) };
        self.alerts.set(id, kept);
        Ok(())
    }

    /// Makes a silence, or changes the one called `changes` in place where Alertmanager would; elsewhere that one ends, and the new one has its own id.
    pub fn silence(&mut self, mut new: Silence, changes: Option<&str>, at: i64) -> Result<(), String> {
        if new.ends <= at {
            return Err("end time can't be in the past".to_owned());
        }
        new.updated = at;
        if let Some(id) = changes {
            let known = Arc::clone(self.silences.get(id).ok_or(UNKNOWN_SILENCE)?);
            let second = |time: i64| time.div_euclid(1000);
            let in_place = known.matchers == new.matchers
                && match known.phase(at) {
                    Phase::Active => second(known.starts) == second(new.starts),
                    Phase::Pending => new.starts >= at,
                    Phase::Expired => false,
                };
            if in_place {
                new.id = id.to_owned();
                Arc::make_mut(&mut self.silences).insert(new.id.clone(), Arc::new(new));
                return Ok(());
            }
        }
        if self.silences.len() >= MOST_SILENCES {
            return Err(format!("there are {MOST_SILENCES} silences already; expired ones are kept for five days"));
        }
        if self.silences.contains_key(&new.id) || new.id.is_empty() {
            return Err("there is a silence of this id already".to_owned());
        }
        if let Some(id) = changes.filter(|id| self.silences.get(*id).is_some_and(|known| known.phase(at) != Phase::Expired)) {
            self.expire(id, at)?;
        }
        new.starts = new.starts.max(at);
        Arc::make_mut(&mut self.silences).insert(new.id.clone(), Arc::new(new));
        Ok(())
    }

    /// A silence is over from now on.
    pub fn expire(&mut self, id: &str, at: i64) -> Result<(), String> {
        let known = self.silences.get(id).ok_or(UNKNOWN_SILENCE)?;
        let starts = match known.phase(at) {
            Phase::Expired => return Ok(()),
            Phase::Active => known.starts,
            Phase::Pending => at,
        };
        let over = Silence { starts, ends: at, updated: at, ..Silence::clone(known) };
        Arc::make_mut(&mut self.silences).insert(id.to_owned(), Arc::new(over));
        Ok(())
    }

    /// Messages are on their way. One whose log has another on its way, or a later number, is left out, and said.
    pub fn claim(&mut self, seed: u64, wanted: Vec<Wanted>) -> Result<(), String> {
        let mut left_out = 0;
        for Wanted { whom, labels, claim } in wanted {
            let id = log_id(seed, &whom);
            let mut told = match self.logs.get(id) {
                Some(told) if told.whom == whom && told.claim.is_none() => Told::clone(told),
                None if self.logs.len() < MOST_LOGS => Told { whom: whom.clone(), labels, ..Told::default() },
                _ => {
                    left_out += 1;
                    continue;
                }
            };
            if claim.reason.is_some() && claim.number <= told.number {
                left_out += 1;
                continue;
            }
            if claim.reason.is_some() && claim.counts {
                Arc::make_mut(&mut self.spent).add(&whom, claim.bundle, claim.at);
            }
            if claim.reason.is_some() {
                self.ledger.begin(claim.firing.iter().copied().filter(|id| self.alerts.get(*id).is_some()), claim.at);
            }
            told.claim(claim);
            self.logs.set(id, told);
        }
        if left_out > 0 { Err(format!("{left_out} messages were not noted: others are on their way")) } else { Ok(()) }
    }

    /// Something came of messages: by log and number. What is no news is no harm.
    pub fn end(&mut self, ended: &[(u64, u64, End)], at: i64) {
        for (id, number, end) in ended {
            if let Some(known) = self.logs.get(*id) {
                if let Some(claim) = known.claim.as_ref().filter(|claim| claim.number == *number && *end == End::Taken) {
                    self.ledger.note(&known.whom, (&claim.firing, &claim.over), at);
                }
                let mut told = Told::clone(known);
                if told.end(*number, *end) {
                    self.logs.set(*id, told);
                }
            }
        }
    }

    /// Episodes up to this one are where the history goes besides.
    pub fn exported(&mut self, number: u64) {
        self.ledger.export(number);
    }

    /// Forgets what nobody needs; what somebody does need after all stays.
    pub fn sweep(&mut self, gone: &Gone, at: i64) {
        for id in &gone.alerts {
            if self.alerts.get(*id).is_some_and(|kept| kept.is_closed(at))
                && let Some(kept) = self.alerts.remove(*id)
            {
                self.bytes -= bytes(&kept.alert) as u64;
                self.ledger.close((*id, &kept), self.silences.values(), at, false);
                learn(&mut self.lessons, &kept, at);
            }
        }
        for id in &gone.logs {
            if self.logs.get(*id).is_some_and(|told| told.claim.is_none()) {
                self.logs.remove(*id);
            }
        }
        for id in &gone.silences {
            if self.silences.get(id).is_some_and(|silence| silence.phase(at) == Phase::Expired) {
                Arc::make_mut(&mut self.silences).remove(id);
            }
        }
    }

    /// What nobody needs any more, at most so much of each: alerts that have been over for `over_ms` and are owed to nobody, logs that say nothing, silences
    /// that have been over for `keep_ms`, and what was owed for so long that it cannot be.
    pub fn sweepings(&self, now: i64, (over_ms, keep_ms): (i64, i64), most: usize) -> Gone {
        let mut owed = BTreeSet::new();
        let mut gone = Gone::default();
        let holds = |id: &u64| self.alerts.get(*id).is_some_and(|kept| !kept.alert.is_over(now));
        for (id, told) in self.logs.iter() {
            let claimed = told.claim.iter().flat_map(|claim| claim.firing.iter().chain(&claim.over));
            let open = || told.firing.iter().chain(&told.maybe).chain(&told.held);
            owed.extend(open().chain(claimed).copied());
            let old = now - told.base;
            let idle = !told.is_open() && old > over_ms && told.over.iter().all(|id| self.alerts.get(*id).is_none());
            if told.claim.is_none() && (idle || old > keep_ms && !open().any(holds)) && gone.logs.len() < most {
                gone.logs.push(id);
            }
        }
        let is_gone = |id: u64, kept: &Kept| {
            let over = now - kept.alert.ends;
            over > keep_ms || over > over_ms.max(kept.noted.remembered) && !owed.contains(&id)
        };
        gone.alerts = self.alerts.iter().filter(|(id, kept)| is_gone(*id, kept)).map(|(id, _)| id).take(most).collect();
        let silences = self.silences.values().filter(|silence| now - silence.ends > keep_ms);
        gone.silences = silences.map(|silence| silence.id.clone()).take(most).collect();
        gone
    }

    /// Puts back what was written: an alert,
    pub fn restore_alert(&mut self, id: u64, kept: Kept) {
        self.bytes += bytes(&kept.alert) as u64;
        if let Some(before) = self.alerts.set(id, kept) {
            self.bytes -= bytes(&before.alert) as u64;
        }
    }

    /// a log,
    pub fn restore_log(&mut self, id: u64, told: Told) {
        self.logs.set(id, told);
    }

    /// policies, and what was learned,
    pub fn restore_policies(&mut self, rules: EpisodeRules, lessons: Lessons) {
        (self.rules, self.lessons) = (Arc::new(rules), lessons);
    }

    /// what they come to for an alert that is there,
    pub fn restore_noted(&mut self, id: u64, noted: Noted) {
        if let Some(kept) = self.alerts.get(id) {
            let kept = Kept { noted, ..Kept::clone(kept) };
            self.alerts.set(id, kept);
        }
    }

    /// how often one is said that is there,
    pub fn restore_beat(&mut self, id: u64, beat: Beat) {
        if let Some(kept) = self.alerts.get(id) {
            let kept = Kept { beat, ..Kept::clone(kept) };
            self.alerts.set(id, kept);
        }
    }

    /// a silence.
    pub fn restore_silence(&mut self, silence: Silence) {
        Arc::make_mut(&mut self.silences).insert(silence.id.clone(), Arc::new(silence));
    }
}

#[cfg(test)]
mod tests;

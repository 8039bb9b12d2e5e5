//! Tells receivers, from the node that leads the control shard: what is due is first noted in the book (claimed), then sent, then noted as taken. So whoever
//! leads next, or starts again, sends what was claimed and not noted as taken once more, with the same id; and timers follow from what is noted.
//!
//! Every integration of a receiver has its own messages on their way, a few at most, so that one that is stuck keeps no other back. What is not taken is
//! tried again for as long as it is to be told. Left out on purpose: what is due (`alert::groups`), and the sending itself (`notify`).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::alert::groups::words::message;
use crate::alert::message::Message;
use crate::alert::told::End;
use crate::app::alerting::Alerting;
use crate::app::alerting::Current;
use crate::app::alerting::degraded::Alone;
use crate::app::alerting::lock;
use crate::app::alerting::own;
use crate::clock;
use crate::config::alerting::Alerting as Written;
use crate::failpoint;
use crate::model::ShardId;
use crate::node::Handle;
use crate::node::offer::ProposeError;
use crate::notify::Outcome;
use crate::shard::alerting::Change;
use crate::shard::alerts::Change as Told;
use crate::shard::command::Command;

/// Between two turns, at least, so that much that comes at once is one turn's,
const PAUSE: Duration = Duration::from_millis(10);
/// and at most.
const LOOK: Duration = Duration::from_secs(1);
/// Messages of one entry.
const AN_ENTRY: usize = 100;
/// Messages on their way to one integration,
const TO_ONE: usize = 8;
/// and to all.
const TO_ALL: usize = 256;
/// Between two tries: the least, doubled up to the most.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// What another node claimed is left to it for so long, ms: longer than a receiver is usually waited for.
const OTHERS_MS: i64 = 15_000;
/// A proposal is waited for so long.
const PROPOSAL: Duration = Duration::from_secs(5);
/// Somebody who led so lately leads, or another one will soon.
const LED: Duration = Duration::from_secs(5);
/// What nobody needs any more is looked for so often.
const SWEEP: Duration = Duration::from_secs(30);
/// Alerts that are over are forgotten after this (senders repeat for a quarter of an hour that one is over), ms,
const OVER_MS: i64 = 20 * 60_000;
/// and what is kept for people, or for a receiver that never came back, after this.
const KEEP_MS: i64 = 5 * 86_400_000;
/// So much of each is forgotten at once.
const A_SWEEP: usize = 5_000;

type Target = (String, u32);

/// A message on its way.
struct Sending {
    /// Logs, each with the number of what it is told; the first one stands for all.
    parts: Vec<(u64, u64)>,
    target: Target,
    message: Message,
    /// Nothing can be noted.
    alone: bool,
}

/// What came of it.
struct Sent {
    parts: Vec<(u64, u64)>,
    target: Target,
    kind: &'static str,
    outcome: Outcome,
    /// It is over, and could not be noted.
    unnoted: Option<End>,
    /// Nothing was to be noted.
    alone: bool,
}

/// A try that was not taken.
struct Failed {
    number: u64,
    tries: u32,
    not_before: Instant,
}

/// What is under way, known to this process alone.
#[derive(Default)]
pub struct Tells {
    tasks: JoinSet<Sent>,
    under_way: BTreeSet<u64>,
    of_target: BTreeMap<Target, usize>,
    failed: BTreeMap<u64, Failed>,
    unnoted: BTreeMap<u64, (u64, End)>,
    alone: Alone,
    swept: Option<Instant>,
    said_own: Option<Instant>,
}

/// Tells until `stop`.
pub async fn keep(alerting: Arc<Alerting>, mut written: watch::Receiver<Option<Written>>, mut stop: watch::Receiver<bool>) {
    let mut tells = Tells { tasks: JoinSet::new(), ..Tells::default() };
    let mut progress = alerting.node.progress(ShardId::CONTROL);
    loop {
        let wait = alerting.turn(&mut tells).await;
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            changed = written.changed() => match changed {
                Ok(()) => alerting.take(written.borrow_and_update().as_ref()),
                Err(_) => return,
            },
            changed = progress.changed() => if changed.is_err() { return },
            Some(sent) = tells.tasks.join_next() => if let Ok(sent) = sent { alerting.sent(&mut tells, sent) },
            () = tokio::time::sleep(wait) => {}
        }
        tokio::time::sleep(PAUSE).await;
        while let Some(Ok(sent)) = tells.tasks.try_join_next() {
            alerting.sent(&mut tells, sent);
        }
    }
}

impl Tells {
    fn spawn(&mut self, node: &Handle, current: &Arc<Current>, sending: Sending) {
        self.under_way.extend(sending.parts.iter().map(|(log, _)| *log));
        *self.of_target.entry(sending.target.clone()).or_default() += 1;
        self.tasks.spawn(send(node.clone(), Arc::clone(current), sending));
    }
}

impl Alerting {
    /// Does what is to be done now. Says when there is something next, at the latest.
    async fn turn(&self, tells: &mut Tells) -> Duration {
        let Some(current) = self.current() else { return LOOK };
        if !self.node.leads_control() {
            (tells.failed, tells.unnoted, tells.swept) = (BTreeMap::new(), BTreeMap::new(), None);
            lock(&self.trouble).clear();
            self.tell_alone(&current, tells);
            return LOOK;
        }
        tells.alone.ends();
        self.agree(&current).await;
        let now = clock::now();
        if tells.said_own.is_none_or(|when| now.saturating_duration_since(when) >= LOOK) {
            tells.said_own = Some(now);
            self.say_own().await;
        }
        let held = current.written.compat.start_delay.saturating_sub(now.saturating_duration_since(self.started));
        if held.is_zero() {
            self.claim(&current).await;
        }
        self.send(&current, tells).await;
        if tells.swept.is_none_or(|when| now.saturating_duration_since(when) >= SWEEP) {
            tells.swept = Some(now);
            let gone = self.node.book().sweepings(self.now(), (OVER_MS, KEEP_MS), A_SWEEP);
            if !(gone.alerts.is_empty() && gone.logs.is_empty() && gone.silences.is_empty()) {
                let _ = self.note(Change::Sweep(gone)).await;
            }
        }
        let next = self.with_groups(&current, |groups| groups.next_due());
        let wait = next.and_then(|next| u64::try_from((next - self.now()).max(0)).ok()).map_or(LOOK, Duration::from_millis);
        wait.max(held).min(LOOK)
    }

    /// Notes what is due as on its way.
    async fn claim(&self, current: &Arc<Current>) {
        loop {
            let (at, own) = (self.now(), self.node.own_id());
            let mut wanted = self.with_groups(current, |groups| groups.due(at, AN_ENTRY));
            wanted.iter_mut().for_each(|wanted| wanted.claim.owner = own);
            let full = wanted.len() >= AN_ENTRY;
            // Not taken: it is decided anew.
            if wanted.is_empty() || self.note(Change::Claim(wanted)).await.is_err() {
                break;
            }
            failpoint::reach(failpoint::Place::AlertClaimed);
            if !full {
                break;
            }
        }
    }

    /// Where there is no majority: what is to be told anyway.
    fn tell_alone(&self, current: &Arc<Current>, tells: &mut Tells) {
        let (led, at, seed) = (self.node.control_led_within(LED), self.now(), self.node.hash_seed());
        for (parts, integration, message) in tells.alone.due(current, (led, at, seed), || self.node.book()) {
            let target: Target = (message.receiver.clone(), integration);
            let under_way = tells.of_target.get(&target).copied().unwrap_or(0);
            if !parts.iter().any(|(log, _)| tells.under_way.contains(log)) && under_way < TO_ONE && tells.tasks.len() < TO_ALL {
                tells.spawn(&self.node, current, Sending { parts, target, message, alone: true });
            }
        }
    }

    /// Proposes a change of the book.
    pub(super) async fn note(&self, change: Change) -> Result<(), ProposeError> {
        let proposed = self.node.propose(ShardId::CONTROL, Command::Alerting(change));
        match tokio::time::timeout(PROPOSAL, proposed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ProposeError::Unknown),
        }
    }

    /// Sluice's own alerts.
    async fn say_own(&self) {
        let (words, told) = own::news(&self.node.alerts(), &self.node.book(), self.node.hash_seed(), self.now());
        let (ends, begins): (Vec<_>, Vec<_>) = told.into_iter().partition(|told| matches!(told, Told::Told { ended: true, .. }));
        // Before it is said: what ends meanwhile and was not noted is called off without a word. What is noted and not in the book is said at the next turn.
        if !begins.is_empty() && self.node.propose(ShardId::CONTROL, Command::Alerts(begins)).await.is_err() {
            return;
        }
        if !words.is_empty() && self.post(words).await.is_ok() && !ends.is_empty() {
            // Not taken: it is posted once more, which is no news.
            let _ = self.node.propose(ShardId::CONTROL, Command::Alerts(ends)).await;
        }
    }

    /// Sends what is claimed and not under way.
    async fn send(&self, current: &Arc<Current>, tells: &mut Tells) {
        let (now, at, own) = (clock::now(), self.now(), self.node.own_id());
        let (mut sends, mut dropped, mut planned) = (Vec::new(), Vec::new(), BTreeMap::<Target, usize>::new());
        self.with_groups(current, |groups| {
            let open: BTreeMap<u64, u64> = groups.open().map(|(log, _, claim)| (log, claim.number)).collect();
            tells.failed.retain(|log, failed| open.get(log) == Some(&failed.number));
            tells.unnoted.retain(|log, (number, _)| open.get(log) == Some(number));
            for parcel in groups.parcels() {
                let Some((log, told, claim)) = parcel.first().copied() else { continue };
                let known = |log: &u64| tells.under_way.contains(log) || tells.unnoted.contains_key(log);
                if parcel.iter().any(|(log, ..)| known(log)) || tells.tasks.len() + sends.len() >= TO_ALL {
                    continue;
                }
                let target: Target = (told.whom.receiver.to_string(), told.whom.integration);
                let waits = tells.failed.get(&log).is_some_and(|failed| now < failed.not_before);
                let others = claim.owner != own && at - claim.at < OTHERS_MS;
                let of_target = |of: &BTreeMap<Target, usize>| of.get(&target).copied().unwrap_or(0);
                if waits || others || of_target(&tells.of_target) + of_target(&planned) >= TO_ONE {
                    continue;
                }
                // Of several groups all go where one is wanted: every try has the same words.
                if !parcel.iter().any(|(log, _, claim)| groups.is_wanted(*log, claim, at)) || gone(current, &target) {
                    dropped.extend(parcel.iter().map(|(log, _, claim)| (*log, claim.number, End::Dropped)));
                    continue;
                }
                let Some(message) = message(groups.book(), &parcel, false) else { continue };
                *planned.entry(target.clone()).or_default() += 1;
                let parts = parcel.iter().map(|(log, _, claim)| (*log, claim.number)).collect();
                sends.push(Sending { parts, target, message, alone: false });
            }
        });
        sends.into_iter().for_each(|sending| tells.spawn(&self.node, current, sending));
        dropped.extend(tells.unnoted.iter().map(|(log, (number, end))| (*log, *number, *end)));
        if !dropped.is_empty() && self.note(Change::End(dropped)).await.is_ok() {
            tells.unnoted.clear();
        }
    }

    fn sent(&self, tells: &mut Tells, sent: Sent) {
        let Sent { parts, target, kind, outcome, unnoted, alone } = sent;
        let Some((log, number)) = parts.first().copied() else { return };
        self.metrics.sent((kind, &target.0), &outcome);
        for (log, number) in &parts {
            tells.under_way.remove(log);
            tells.unnoted.extend(unnoted.map(|end| (*log, (*number, end))));
        }
        if alone {
            tells.alone.end(&parts, outcome == Outcome::Taken);
        }
        if let Some(count) = tells.of_target.get_mut(&target) {
            *count -= 1;
            if *count == 0 {
                tells.of_target.remove(&target);
            }
        }
        let (receiver, integration) = (&target.0, target.1);
        match outcome {
            Outcome::Taken => {
                tells.failed.remove(&log);
                if lock(&self.trouble).remove(&target).is_some() {
                    tracing::info!(receiver, integration, "the receiver takes alerts again");
                }
            }
            Outcome::Never { why } => {
                tracing::error!(receiver, integration, "the receiver will not take a message, which is given up: {why}");
                lock(&self.trouble).insert(target, why);
            }
            Outcome::Again { after, why } => {
                let tries = tells.failed.get(&log).map_or(0, |failed| failed.tries);
                let wait = BACKOFF.0.saturating_mul(1 << tries.min(6)).min(BACKOFF.1);
                // Up to a quarter less, so that nodes and receivers do not fall into step.
                let wait = wait.mul_f64(1.0 - fastrand::f64() / 4.0).max(after.unwrap_or_default());
                tells.failed.insert(log, Failed { number, tries: tries + 1, not_before: clock::now() + wait });
                let before = lock(&self.trouble).insert(target.clone(), why.clone());
                if before.as_ref() != Some(&why) {
                    tracing::warn!(receiver, integration, "the receiver has not taken a message, it is tried again: {why}");
                }
            }
        }
    }
}

/// The receiver, or this integration of it, is no more.
fn gone(current: &Current, (receiver, integration): &Target) -> bool {
    usize::try_from(*integration).is_ok_and(|integration| integration >= current.receivers.integrations(receiver))
}

async fn send(node: Handle, current: Arc<Current>, sending: Sending) -> Sent {
    let Sending { parts, target, message, alone } = sending;
    let integration = usize::try_from(target.1).unwrap_or_default();
    let kind = current.receivers.kind(&target.0, integration);
    let outcome = current.receivers.send(&message, &target.0, integration).await;
    let end = match outcome {
        Outcome::Taken => End::Taken,
        Outcome::Never { .. } => End::Never,
        Outcome::Again { .. } => return Sent { parts, target, kind, outcome, unnoted: None, alone },
    };
    if alone {
        return Sent { parts, target, kind, outcome, unnoted: None, alone };
    }
    failpoint::reach(failpoint::Place::AlertSent);
    let ended = parts.iter().map(|(log, number)| (*log, *number, end)).collect();
    let noted = node.propose(ShardId::CONTROL, Command::Alerting(Change::End(ended)));
    let unnoted = match tokio::time::timeout(PROPOSAL, noted).await {
        Ok(Ok(_)) => None,
        _ => Some(end),
    };
    Sent { parts, target, kind, outcome, unnoted, alone }
}

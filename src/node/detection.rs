//! Who should lead a group, asked twice a second by the shard's leader: what it saw stays here, and only its proposals become entries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::dedup::detect::Detector;
use crate::dedup::detect::Proposal;
use crate::node::evidence::Refusals;
use crate::node::lane::lock;
use crate::node::mailbox::Queued;
use crate::node::worker::Worker;
use crate::shard::command::Command;
use crate::shard::command::SwitchTo;
use crate::shard::entry;
use crate::shard::entry::Entry;
use crate::shard::member::State;
use crate::wire::digest::Digest;

/// What a shard's leader has seen. Lost with its leadership.
#[derive(Default)]
pub(super) struct Watched {
    pub detector: Detector,
    /// By group: a switch that is withheld.
    pub alarms: BTreeMap<String, String>,
    /// Who found which Prometheus refusing connections.
    pub(super) refusals: Refusals,
    used: bool,
}

fn command(proposal: Proposal) -> Command {
    let Proposal { group, from, to, reason, evidence } = proposal;
    Command::Switch(SwitchTo { group, from, to, reason: reason.to_owned(), evidence })
}

impl Worker {
    /// Milliseconds of our own clock.
    pub(super) fn mono(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_millis() as u64
    }

    /// A replica sent this.
    pub(super) fn observe(&mut self, (now, at): (Instant, i64), offer: &Queued) {
        let Ok(entry::Stamped { entry: Entry::Samples(samples), .. }) = entry::parse(&offer.encoded) else { return };
        let Ok(digest) = Digest::parse(samples.digest) else { return };
        let now = self.mono(now);
        self.watched.used = true;
        self.watched.detector.observe(&offer.group, &offer.replica, (now, at), digest.iter());
        self.watched.detector.bare(&offer.group, offer.bare.iter().copied());
    }

    /// Proposes what detection finds.
    pub(super) fn detect(&mut self, now: Instant) {
        let (mono, at) = (self.mono(now), self.at(now));
        let State::Data(data) = &self.member.state else { return };
        self.watched.detector.limit(Arc::clone(&lock(&self.shared.switch_limits)));
        self.watched.detector.watch_for(self.timing.watched.as_millis() as u64);
        let findings = self.watched.detector.check(mono, data.groups.values().map(|place| &place.group));
        for proposal in findings.proposals {
            tracing::info!(
                group = proposal.group,
                from = proposal.from,
                to = proposal.to,
                reason = proposal.reason,
                "{}",
                proposal.evidence
            );
            // Not taken: it is found again.
            let _ = self.member.propose(at, &Entry::Command(command(proposal)));
        }
        let mut alarms = BTreeMap::new();
        for alarm in findings.alarms {
            let withheld = alarm.withheld;
            let text = format!(
                "{} switches within the hour: {} leads on, although it is {} ({})",
                alarm.switches, withheld.from, withheld.reason, withheld.evidence
            );
            if !self.watched.alarms.contains_key(&withheld.group) {
                tracing::warn!(group = withheld.group, "{text}");
            }
            alarms.insert(withheld.group, text);
        }
        self.watched.alarms = alarms;
    }

    /// Somebody else leads: what was seen here is not what happens there.
    pub(super) fn forget_observations(&mut self) {
        self.meters.forget();
        if self.watched.used {
            self.watched = Watched::default();
        }
    }

    /// The command by which the leader of a group gives way.
    pub(super) fn step_down(&mut self, now: Instant, group: &str) -> Result<Command, String> {
        let mono = self.mono(now);
        let State::Data(data) = &self.member.state else { return Err("this is for a data shard".to_owned()) };
        let place = data.groups.get(group).ok_or_else(|| format!("there is no group `{group}`"))?;
        let proposal = self.watched.detector.step_down(mono, &place.group);
        proposal.map(command).ok_or_else(|| "its leader is pinned, or no other replica is well".to_owned())
    }
}

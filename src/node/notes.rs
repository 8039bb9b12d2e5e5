//! What nodes tell each other of probes: "look at this now", who writes to each (which Prometheus there are, where that may be learned), and each node's ballot
//! (what it finds down) for whoever leads the control shard.
//!
//! Like all evidence it may be lost: a look is asked for again with the next failure, a ballot is sent again every second and a list of
//! senders every five, and each holds all that its node has to say. Only what comes of ballots becomes an entry. Left out on purpose: what is looked at and what ballots say (`probe`).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::Notify;

use crate::clock;
use crate::model::ShardId;
use crate::node::Handle;
use crate::node::lane::lock;
use crate::node::peers::Place;
use crate::shard::alerts::Alerts;
use crate::shard::verdicts::Verdicts;

/// The first byte of what is told: something to be looked at follows,
pub(super) const OF_LOOK: u8 = 2;
/// or a node's id and its ballot,
pub(super) const OF_BALLOT: u8 = 3;
/// or a node's id and the addresses of those who write to it.
pub(super) const OF_SENDERS: u8 = 4;
/// Looks that wait here; more are dropped, since whoever wants one asks again.
const MOST_LOOKS: usize = 4_096;
/// Nodes whose ballots are kept: a cluster has a handful.
const MOST_BALLOTS: usize = 16;
/// Of a node that has been silent for so long nothing counts.
const SILENT: Duration = Duration::from_secs(60);

/// What has come and waits to be read.
#[derive(Default)]
pub struct Notes {
    looks: Mutex<BTreeSet<u64>>,
    ballots: Mutex<BTreeMap<u64, (Instant, Vec<u8>)>>,
    senders: Mutex<BTreeMap<u64, (Instant, Vec<u8>)>>,
    looked: Notify,
    voted: Notify,
}

impl Notes {
    fn look(&self, what: u64) {
        let mut looks = lock(&self.looks);
        if looks.len() < MOST_LOOKS {
            looks.insert(what);
            self.looked.notify_one();
        }
    }

    fn ballot(&self, node: u64, ballot: Vec<u8>) {
        let mut ballots = lock(&self.ballots);
        if ballots.len() < MOST_BALLOTS || ballots.contains_key(&node) {
            let same = ballots.get(&node).is_some_and(|(_, before)| *before == ballot);
            ballots.insert(node, (clock::now(), ballot));
            if !same {
                self.voted.notify_one();
            }
        }
    }

    fn sender(&self, node: u64, said: Vec<u8>) {
        let mut senders = lock(&self.senders);
        if senders.len() < MOST_BALLOTS || senders.contains_key(&node) {
            senders.insert(node, (clock::now(), said));
        }
    }

    /// What is to be looked at now, once there is something. For one reader.
    pub async fn looks(&self) -> BTreeSet<u64> {
        loop {
            let looks = std::mem::take(&mut *lock(&self.looks));
            if !looks.is_empty() {
                return looks;
            }
            self.looked.notified().await;
        }
    }

    /// The newest ballot of every node that sent one here, and when it came. Those of nodes that have been silent for a minute are gone.
    pub fn ballots(&self) -> Vec<(u64, Instant, Vec<u8>)> {
        let now = clock::now();
        let mut ballots = lock(&self.ballots);
        ballots.retain(|_, (came, _)| now.saturating_duration_since(*came) < SILENT);
        ballots.iter().map(|(node, (came, ballot))| (*node, *came, ballot.clone())).collect()
    }

    /// What other nodes said last of who writes to them; those that have been silent for a minute say nothing.
    pub fn senders(&self) -> Vec<Vec<u8>> {
        let now = clock::now();
        let mut senders = lock(&self.senders);
        senders.retain(|_, (came, _)| now.saturating_duration_since(*came) < SILENT);
        senders.values().map(|(_, said)| said.clone()).collect()
    }

    /// A ballot says something else than before. For one reader.
    pub async fn voted(&self) {
        self.voted.notified().await;
    }
}

impl Handle {
    /// What others told this node.
    pub fn notes(&self) -> &Notes {
        &self.shared.notes
    }

    /// The members of the control shard, by id; none yet, or this node is all there is: this node alone.
    pub fn members(&self) -> Vec<u64> {
        // Raft has an id of its own for a node that is all there is.
        if self.shared.together.is_none() {
            return vec![self.own_id()];
        }
        let voters = self.shared.lane(ShardId::CONTROL).map(|lane| lock(&lane.views).seats.voters.clone()).unwrap_or_default();
        if voters.is_empty() { vec![self.own_id()] } else { voters }
    }

    /// What the nodes together found down, as far as applied here.
    pub fn verdicts(&self) -> Arc<Verdicts> {
        self.shared.lane(ShardId::CONTROL).map(|lane| Arc::clone(&lock(&lane.views).verdicts)).unwrap_or_default()
    }

    /// Alerts, as far as applied here.
    pub fn alerts(&self) -> Arc<Alerts> {
        self.shared.lane(ShardId::CONTROL).map(|lane| Arc::clone(&lock(&lane.views).alerts)).unwrap_or_default()
    }

    /// Whether this node leads the control shard.
    pub fn leads_control(&self) -> bool {
        self.shared.lane(ShardId::CONTROL).is_some_and(|lane| lane.progress.borrow().leads)
    }

    /// All other nodes shall look at something now, and this one, too. Best effort.
    pub fn ask_for_a_look(&self, what: u64) {
        self.shared.notes.look(what);
        self.ask_others_for_a_look(what);
    }

    /// The others shall.
    pub fn ask_others_for_a_look(&self, what: u64) {
        self.tell_others([&[OF_LOOK], &what.to_le_bytes()[..]].concat());
    }

    /// Who writes to this node, for the others. Best effort.
    pub fn tell_of_senders(&self, senders: &[u8]) {
        self.tell_others([&[OF_SENDERS], &self.own_id().to_le_bytes()[..], senders].concat());
    }

    fn tell_others(&self, told: Vec<u8>) {
        let Some(together) = &self.shared.together else { return };
        for id in self.members().into_iter().filter(|id| *id != together.id) {
            together.peers.tell(id, ShardId::CONTROL, told.clone());
        }
    }

    /// What this node finds down, for whoever leads the control shard. Best effort.
    pub fn vote(&self, ballot: Vec<u8>) {
        let Some(lane) = self.shared.lane(ShardId::CONTROL) else { return };
        match self.place_of(lane) {
            Place::Here => self.shared.notes.ballot(self.own_id(), ballot),
            Place::There(leader, peers) => {
                let told = [&[OF_BALLOT], &self.own_id().to_le_bytes()[..], &ballot].concat();
                peers.tell(leader, ShardId::CONTROL, told);
            }
            Place::Nowhere => {}
        }
    }

    /// A note of another node, without its first byte.
    pub(super) fn take_note(&self, kind: u8, note: &[u8]) {
        let Some((head, rest)) = note.split_first_chunk::<8>() else { return };
        let number = u64::from_le_bytes(*head);
        match kind {
            OF_LOOK => self.shared.notes.look(number),
            OF_BALLOT => self.shared.notes.ballot(number, rest.to_vec()),
            OF_SENDERS => self.shared.notes.sender(number, rest.to_vec()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_bounded_and_the_newest_ballot_counts() {
        let notes = Notes::default();
        (0..MOST_LOOKS as u64 + 100).for_each(|what| notes.look(what));
        assert_eq!(lock(&notes.looks).len(), MOST_LOOKS);
        (0..100).for_each(|node| notes.ballot(node, vec![1]));
        notes.ballot(3, vec![2]);
        let ballots = notes.ballots();
        assert_eq!(ballots.len(), MOST_BALLOTS);
        assert_eq!(ballots[3].2, [2]);
    }

    #[test]
    fn a_node_that_is_gone_says_nothing_of_senders_and_makes_room() {
        let notes = Notes::default();
        (0..100).for_each(|node| notes.sender(node, vec![1]));
        assert_eq!(notes.senders().len(), MOST_BALLOTS);
        lock(&notes.senders).values_mut().for_each(|(came, _)| *came = came.checked_sub(SILENT).unwrap());
        notes.sender(3, vec![2]);
        assert_eq!(notes.senders(), [[2]]);
    }
}

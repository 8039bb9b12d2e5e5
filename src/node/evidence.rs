//! What only one node knows, and the leader of the shard wants to know: that a replica closed its last connection there, what a probe of its Prometheus
//! came to, and which series a request showed. And what only the leader knows and all want to: which series its groups have, since whether two groups share theirs can be
//! told only where both are known.
//!
//! All of it is evidence that may be lost: it goes to other nodes without an answer, and where it does not arrive detection and hints go on without it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::dedup::detect::Hint;
use crate::dedup::detect::doctor::Bare;
use crate::model::ShardId;
use crate::node::Handle;
use crate::node::lane::Lane;
use crate::node::lane::lock;
use crate::node::mailbox::Ask;
use crate::node::mailbox::Wanted;
use crate::node::notes;
use crate::node::peers::Place;
use crate::node::worker::Worker;
use crate::shard::codec::Malformed;
use crate::shard::codec::Reader;
use crate::shard::codec::Writer;

/// The first byte of what a node tells another one: evidence about a replica follows.
const OF_REPLICA: u8 = 0;
/// The series of all groups of a shard follow, from its leader.
const OF_GROUPS: u8 = 1;

/// So many nodes must have been refused, where there are so many,
const REFUSED_BY: usize = 2;
/// within this time: probes are a second apart, and may be a little late.
const REFUSED_WITHIN: u64 = 3_000;
/// Replicas of whom refusals are remembered: those of a thousand groups.
const REFUSALS: usize = 4_096;

/// Which nodes found which Prometheus refusing connections, and when by our own clock.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<(String, String), BTreeMap<u64, u64>>);

impl Refusals {
    /// One more; says how many nodes there are by now.
    fn refused(&mut self, now: u64, (group, replica): (&str, &str), node: u64) -> usize {
        let key = (group.to_owned(), replica.to_owned());
        if self.0.len() >= REFUSALS && !self.0.contains_key(&key) {
            self.0.retain(|_, nodes| nodes.values().any(|when| now.saturating_sub(*when) <= REFUSED_WITHIN));
        }
        if self.0.len() >= REFUSALS {
            return 0;
        }
        let nodes = self.0.entry(key).or_default();
        nodes.insert(node, now);
        nodes.retain(|_, when| now.saturating_sub(*when) <= REFUSED_WITHIN);
        nodes.len()
    }
}

/// About one replica of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Evidence {
    pub group: String,
    pub replica: String,
    /// Something made us doubt it.
    pub hint: Option<Hint>,
    /// The node that says so: what several say counts for more.
    pub node: u64,
    /// Smallest hashes of its series without the group's own labels.
    pub bare: Vec<u64>,
}

impl Evidence {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![OF_REPLICA];
        let mut out = Writer(&mut bytes);
        out.text(&self.group);
        out.text(&self.replica);
        out.byte(match self.hint {
            None => 0,
            Some(Hint::Closed) => 1,
            Some(Hint::Refused) => 2,
            Some(Hint::Stopping) => 3,
            Some(Hint::Sick) => 4,
        });
        out.fixed(self.node);
        hashes(&mut out, &self.bare);
        bytes
    }

    fn read(from: &mut Reader<'_>) -> Result<Evidence, Malformed> {
        let (group, replica) = (from.text()?.to_owned(), from.text()?.to_owned());
        let hint = match from.byte()? {
            0 => None,
            1 => Some(Hint::Closed),
            2 => Some(Hint::Refused),
            3 => Some(Hint::Stopping),
            4 => Some(Hint::Sick),
            _ => return Err(Malformed::Impossible("a hint of this kind")),
        };
        Ok(Evidence { group, replica, hint, node: from.fixed()?, bare: read_hashes(from)? })
    }
}

fn hashes(out: &mut Writer<'_>, hashes: &[u64]) {
    out.number(hashes.len() as u64);
    hashes.iter().for_each(|hash| out.fixed(*hash));
}

fn read_hashes(from: &mut Reader<'_>) -> Result<Vec<u64>, Malformed> {
    (0..from.count(8)?).map(|_| from.fixed()).collect()
}

fn read_groups(from: &mut Reader<'_>) -> Result<Vec<(String, Arc<Bare>)>, Malformed> {
    let mut groups = Vec::new();
    for _ in 0..from.count(2)? {
        let (name, mut bare) = (from.text()?.to_owned(), Bare::default());
        read_hashes(from)?.into_iter().for_each(|hash| bare.insert(hash));
        groups.push((name, Arc::new(bare)));
    }
    Ok(groups)
}

impl Handle {
    /// Something made us doubt a replica: detection takes its next silence more seriously. Best effort.
    pub fn hint(&self, group: &str, replica: &str, hint: Hint) {
        if let Some(lane) = self.group(group).and_then(|shard| self.shared.lane(shard)) {
            let (group, replica) = (group.to_owned(), replica.to_owned());
            self.testify(lane, Evidence { group, replica, hint: Some(hint), node: self.own_id(), bare: Vec::new() });
        }
    }

    /// This node's id; 0 where it is all there is.
    pub fn own_id(&self) -> u64 {
        self.shared.together.as_ref().map_or(0, |together| together.id)
    }

    /// To whoever leads the shard.
    pub(super) fn testify(&self, lane: &Lane, evidence: Evidence) {
        match self.place_of(lane) {
            // Full: detection goes on without it.
            Place::Here => drop(lane.mailbox.ask(Ask { wanted: Wanted::Evidence(evidence), reply: None })),
            Place::There(leader, peers) => peers.tell(leader, lane.shard, evidence.encode()),
            Place::Nowhere => {}
        }
    }

    /// What another node tells. What cannot be read (a peer of another version, perhaps) is no evidence.
    pub fn take_told(&self, shard: ShardId, told: &[u8]) {
        let Some(lane) = self.shared.lane(shard) else { return };
        let mut from = Reader(told);
        match from.byte() {
            Ok(OF_REPLICA) => {
                if let Ok(evidence) = Evidence::read(&mut from) {
                    let _ = lane.mailbox.ask(Ask { wanted: Wanted::Evidence(evidence), reply: None });
                }
            }
            Ok(OF_GROUPS) => {
                if let Ok(groups) = read_groups(&mut from)
                    && !lane.progress.borrow().leads
                {
                    lock(&lane.views).bare = groups;
                }
            }
            Ok(kind @ (notes::OF_LOOK | notes::OF_BALLOT | notes::OF_SENDERS)) => self.take_note(kind, from.0),
            _ => {}
        }
    }
}

impl Worker {
    /// A node tells what it saw. What leaves no doubt is acted on at once, since every tick of waiting is a hole in what is fresh.
    pub(super) fn weigh_evidence(&mut self, now: Instant, evidence: Evidence) {
        let Evidence { group, replica, hint, node, bare } = evidence;
        let hint = hint.filter(|hint| *hint != Hint::Refused || self.refused_by_enough(now, &group, &replica, node));
        if let Some(hint) = hint {
            self.watched.detector.hint(&group, &replica, hint);
            if hint >= Hint::Stopping && self.member.replica.leads_surely() {
                self.detect(now);
            }
        }
        self.watched.detector.bare(&group, bare.into_iter());
    }

    /// Connections refused to one node alone may be that node's firewall.
    fn refused_by_enough(&mut self, now: Instant, group: &str, replica: &str, node: u64) -> bool {
        let enough = self.member.replica.seats().voters.len().min(REFUSED_BY);
        let now = self.mono(now);
        self.watched.refusals.refused(now, (group, replica), node) >= enough.max(1)
    }

    /// Once a second: the series of this shard's groups, for the comparison with others'. All nodes are told when they have changed.
    pub(super) fn show_bare(&mut self) {
        if !self.member.replica.leads_surely() {
            return;
        }
        let bare: Vec<(String, Arc<Bare>)> =
            self.watched.detector.bared().map(|(name, bare)| (name.to_owned(), Arc::clone(bare))).collect();
        let before = std::mem::replace(&mut lock(&self.lane.views).bare, bare.clone());
        let same = before.len() == bare.len() && before.iter().zip(&bare).all(|(old, new)| Arc::ptr_eq(&old.1, &new.1));
        let Some(together) = self.shared.together.as_ref().filter(|_| !same && !bare.is_empty()) else { return };
        let mut told = vec![OF_GROUPS];
        let mut out = Writer(&mut told);
        out.number(bare.len() as u64);
        for (name, bare) in &bare {
            out.text(name);
            hashes(&mut out, bare.hashes());
        }
        for id in self.member.replica.seats().voters.into_iter().filter(|id| *id != together.id) {
            together.peers.tell(id, self.lane.shard, told.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_read_as_it_was_written_and_nonsense_is_none() {
        let evidence = Evidence { group: "g".into(), replica: "a".into(), hint: Some(Hint::Sick), node: 7 << 40, bare: vec![1, u64::MAX] };
        let bytes = evidence.encode();
        assert_eq!(Evidence::read(&mut Reader(&bytes[1..])).as_ref(), Ok(&evidence));
        for end in 1..bytes.len() {
            assert!(Evidence::read(&mut Reader(&bytes[1..end])).is_err(), "{end}");
        }
        assert!(read_groups(&mut Reader(&[0xff, 0xff, 0xff, 0x7f])).is_err());
    }

    #[test]
    fn refusals_count_by_node_and_not_for_long() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.refused(0, ("g", "a"), 1), 1);
        assert_eq!(refusals.refused(1_000, ("g", "a"), 1), 1, "the same node again");
        assert_eq!(refusals.refused(1_000, ("g", "b"), 2), 1, "another replica");
        assert_eq!(refusals.refused(3_500, ("g", "a"), 2), 2);
        assert_eq!(refusals.refused(5_000, ("g", "a"), 2), 1, "the first node has said nothing for long");
        for number in 0..REFUSALS + 10 {
            refusals.refused(5_000, ("g", &number.to_string()), 1);
        }
        assert!(refusals.0.len() <= REFUSALS);
    }
}

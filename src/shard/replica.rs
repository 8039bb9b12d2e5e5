//! One member's part in one Raft group, as a value: inputs go in (ticks, proposals, messages, what has become durable), and one `Output` at a
//! time comes out: what to send, what to write, what is committed.
//!
//! raft-rs wants to be called in a strict order; that order is in [`Replica::output`] and nowhere else. Promises (votes, acknowledgements) are
//! held back here until the write they rest on is durable, so that no caller can send them too early. Nothing reads a clock or a random
//! number: time is `tick`, and election timeouts come from `entropy`.
//!
//! The log is cut at what every member has that is not hopelessly behind: one that was away for longer takes a snapshot (`snapshot`). The leader
//! knows that place ([`Replica::floor`]) and tells the others beside its messages ([`Replica::learn_floor`]). A majority has the log up to
//! there without those who were left out, so it stays true whoever leads next.
//!
//! Left out on purpose: what entries mean (`data`, `control`), how bytes are written (`store`), how a snapshot is carried (Raft is told only where
//! one begins, and how it ended).

use prost::Message as _;
use raft::Config;
use raft::ProgressState;
use raft::RawNode;
use raft::ReadOnlyOption;
use raft::SnapshotStatus;
use raft::StateRole;
use raft::eraftpb::ConfChangeSingle;
use raft::eraftpb::ConfChangeType;
use raft::eraftpb::ConfChangeV2;
use raft::eraftpb::ConfState;
use raft::eraftpb::Entry;
use raft::eraftpb::EntryType;
use raft::eraftpb::HardState;
use raft::eraftpb::Message;
use raft::eraftpb::MessageType;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::shard::entry;
use crate::shard::log::Disk;
use crate::shard::log::Log;
use crate::shard::log::Place;
use crate::shard::log::Remembered;
use crate::shard::members::Change;
use crate::shard::members::Seats;
use crate::shard::snapshot;

/// What members of a group say to each other. Only its bytes leave a node.
pub type PeerMessage = Message;

/// Appends a message as it goes to a peer, its length before it as [`crate::shard::codec`] writes the length of bytes.
pub fn append_message(message: &PeerMessage, out: &mut Vec<u8>) {
    // Only what has no room left can fail, and a vector makes room.
    let _ = message.encode_length_delimited(out);
}

/// What a peer sent. The bytes may be anything.
pub fn decode_message(bytes: &[u8]) -> Result<PeerMessage, String> {
    Message::decode(bytes).map_err(|error| error.to_string())
}

/// About what a message takes in memory and on the wire.
pub fn message_bytes(message: &PeerMessage) -> usize {
    64 + message.entries.iter().map(|entry| entry.data.len() + 32).sum::<usize>()
}

/// Whether a message brings samples for the log.
pub fn brings_samples(message: &PeerMessage) -> bool {
    message.entries.iter().any(|entry| entry.entry_type() == EntryType::EntryNormal && entry::is_samples(&entry.data))
}

/// Every bound of a Raft group. Bytes, or ticks of 100 ms.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Without a heartbeat for so long (up to twice as long) a follower asks for votes: 1-2 s.
    pub election_ticks: usize,
    /// Between heartbeats.
    pub heartbeat_ticks: usize,
    /// Entries in one message to a peer.
    pub message_bytes: u64,
    /// Messages on their way to one peer: 64 of 1 MiB.
    pub inflight: usize,
    /// Proposed and not committed. At 100 MB/s this is a third of a second.
    pub uncommitted_bytes: u64,
    /// The part of it that samples may not use, so that cursors and switches get through.
    pub reserved_bytes: u64,
    /// Committed entries handed out at a time, so that catching up does not keep heartbeats waiting.
    pub committed_bytes: u64,
    /// Entries kept in memory after they are on disk and applied.
    pub tail_bytes: usize,
    /// A member that was not heard of for so long is hopelessly behind: the log is not kept for it. 30 minutes.
    pub away_ticks: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            election_ticks: 10,
            heartbeat_ticks: 1,
            message_bytes: 1 << 20,
            inflight: 64,
            uncommitted_bytes: 32 << 20,
            reserved_bytes: 2 << 20,
            committed_bytes: 4 << 20,
            tail_bytes: 1 << 20,
            away_ticks: 18_000,
        }
    }
}

/// The number of the write that makes a member of a snapshot ([`Replica::begins_unsynced`]).
pub const INSTALLED: u64 = 1;

/// A member that lacks fewer entries than this keeps up: some seconds of a busy shard.
const KEEPS_UP: u64 = 1_000;

/// What is added to the shortest election timeout in a term: members must differ in it, or they ask for votes at the same moment, term after term.
fn drawn(entropy: u64, term: u64, below: usize) -> usize {
    (mixed(mixed(entropy) ^ term) >> 33) as usize % below
}

/// Every bit of the number in every bit of the result (the finish of splitmix64).
fn mixed(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ number >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ number >> 31
}

/// Why a proposal was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// This member does not lead; who does, if known.
    NotLeader(Option<u64>),
    /// Too much is proposed and not committed.
    Full,
}

/// What a group wants done next. In this order: send `messages`, write `write`, apply `committed`.
#[derive(Debug, Default)]
pub struct Output {
    /// To send now.
    pub messages: Vec<Message>,
    /// To write; report `number` by [`Replica::persisted`] once it (and all before) is durable.
    pub write: Option<Write>,
    /// To apply, in order; then report by [`Replica::applied`].
    pub committed: Vec<Entry>,
    /// New members, to be written with the applied index.
    pub members: Option<ConfState>,
}

/// One write of the log. All of it or nothing.
#[derive(Debug, Default)]
pub struct Write {
    /// For [`Replica::persisted`].
    pub number: u64,
    /// In order.
    pub entries: Vec<Arc<Entry>>,
    /// Entries from..=to that were there before and must go first.
    pub void: Option<(u64, u64)>,
    /// Runs of terms that begin: (first index, term).
    pub terms: Vec<(u64, u64)>,
    /// Term, vote, commit.
    pub hard_state: HardState,
    /// Term or vote changed: the mark of what was promised must follow before anything is sent.
    pub promise: bool,
    /// The end of the log after this write.
    pub last: Place,
}

/// One member's part in one Raft group.
pub struct Replica<D: Disk> {
    node: RawNode<Log<D>>,
    limits: Limits,
    entropy: u64,
    /// Numbers that are not durable yet, and what must not be sent before they are. `true`: a write was handed out for it.
    writing: VecDeque<(u64, bool, Vec<Message>)>,
    released: Vec<Message>,
    /// What our numbers of writes are ahead of Raft's.
    ahead: u64,
    promised: (u64, u64),
    /// Up to here every member has the log, as far as a leader has said.
    floor: u64,
    alone: bool,
    /// Leader: ticks since each other member was heard of.
    away: BTreeMap<u64, u32>,
    /// There is little room on the disk: whoever is away now is hopelessly behind.
    pressed: bool,
}

impl<D: Disk> Replica<D> {
    /// Goes on from what the disk remembers; `applied`: the index up to which the state machine has come (its image).
    pub fn new(id: u64, disk: D, known: Remembered, applied: u64, limits: Limits, entropy: u64) -> Result<Replica<D>, String> {
        let config = Config {
            id,
            election_tick: limits.election_ticks,
            heartbeat_tick: limits.heartbeat_ticks,
            applied,
            max_size_per_msg: limits.message_bytes,
            max_inflight_msgs: limits.inflight,
            check_quorum: true,
            pre_vote: true,
            min_election_tick: limits.election_ticks,
            max_election_tick: limits.election_ticks * 2,
            read_only_option: ReadOnlyOption::Safe,
            skip_bcast_commit: false,
            // Never true with raft-rs 0.7: it joins entries to a waiting message that has none without looking where that message stands, so a
            // follower acknowledges entries that do not exist (found by `tests`, seed by seed).
            batch_append: false,
            priority: 0,
            max_uncommitted_size: limits.uncommitted_bytes,
            max_committed_size_per_ready: limits.committed_bytes,
        };
        if !(known.truncated.index..=known.hard_state.commit).contains(&applied) || known.hard_state.commit > known.last_index {
            return Err(format!(
                "the log reaches from {} to {}, its commit index is {}, the state is that of {applied}",
                known.truncated.index, known.last_index, known.hard_state.commit
            ));
        }
        let promised = (known.hard_state.term, known.hard_state.vote);
        let alone = known.members.voters == [id];
        let log = Log::new(disk, known, limits.tail_bytes);
        let node = RawNode::new(&config, log, &super::raft_log::logger(id)).map_err(|error| error.to_string())?;
        let (away, pressed) = (BTreeMap::new(), false);
        let mut replica = Replica {
            node,
            limits,
            entropy,
            writing: VecDeque::new(),
            released: Vec::new(),
            ahead: 0,
            promised,
            floor: 0,
            alone,
            away,
            pressed,
        };
        replica.pin_election_timeout();
        if alone {
            replica.node.campaign().map_err(|error| error.to_string())?;
            replica.pin_election_timeout();
        }
        Ok(replica)
    }

    /// What it begins from is still on its way to the disk, as write [`INSTALLED`]: it promises nothing before that is durable. A leader that heard
    /// otherwise would count on a log which a loss of power takes away.
    pub fn begins_unsynced(&mut self) {
        self.ahead = INSTALLED;
        self.writing.push_back((INSTALLED, true, Vec::new()));
    }

    /// From now on followers hear that an entry is committed with the next one, or with the next heartbeat, and not by a message of its own: half of
    /// the messages there are otherwise.
    pub fn commits_ride_along(&mut self) {
        self.node.skip_bcast_commit(true);
    }

    /// 100 ms have passed.
    pub fn tick(&mut self) {
        self.node.tick();
        self.pin_election_timeout();
        if !self.leads() {
            return self.away.clear();
        }
        let raft = &self.node.raft;
        self.away.retain(|id, _| raft.prs().get(*id).is_some());
        for (id, progress) in raft.prs().iter().filter(|(id, _)| **id != raft.id) {
            let away = self.away.entry(*id).or_default();
            *away = if progress.recent_active { 0 } else { *away + 1 };
        }
    }

    /// A peer says something.
    pub fn step(&mut self, message: Message) {
        // A snapshot is not Raft's to take: the member begins anew with it (`snapshot`). One that is not needed Raft answers, so that the leader
        // goes on with the log. Errors are of peers that are not members (any more), and of proposals: nothing to do about them.
        if message.msg_type() != MessageType::MsgSnapshot || snapshot::place(&message).is_some_and(|place| self.has(place)) {
            let _ = self.node.step(message);
        }
        self.pin_election_timeout();
    }

    /// Appends an entry to the leader's log; its index and term. Samples may not use the reserved share.
    pub fn propose(&mut self, data: Vec<u8>, reserved: bool) -> Result<Place, Refused> {
        if !self.leads() {
            let leader = self.node.raft.leader_id;
            return Err(Refused::NotLeader((leader != 0).then_some(leader)));
        }
        let bytes = self.node.raft.uncommitted_size() as u64;
        let most = self.limits.uncommitted_bytes - if reserved { 0 } else { self.limits.reserved_bytes };
        if bytes > 0 && bytes + data.len() as u64 > most {
            return Err(Refused::Full);
        }
        self.node.propose(Vec::new(), data).map_err(|_| Refused::Full)?;
        Ok(Place { index: self.node.raft.raft_log.last_index(), term: self.node.raft.term })
    }

    /// Everything handed out as `Write` up to this number is durable.
    pub fn persisted(&mut self, number: u64) {
        while let Some(&(next, is_write, _)) = self.writing.front() {
            if next > number && is_write {
                break;
            }
            if let Some((_, _, messages)) = self.writing.pop_front() {
                self.released.extend(messages);
            }
            self.node.on_persist_ready(next - self.ahead);
        }
        self.settle();
    }

    /// Everything handed out as committed has been applied up to here.
    pub fn applied(&mut self, index: u64) {
        self.node.advance_apply_to(index);
        self.settle();
    }

    fn settle(&mut self) {
        let log = &mut self.node.raft.raft_log;
        let settled = log.applied.min(log.persisted);
        log.store.settle(settled);
    }

    /// What is to be done next, if anything.
    pub fn output(&mut self) -> Option<Output> {
        if !self.node.has_ready() {
            if self.released.is_empty() {
                return None;
            }
            return Some(Output { messages: std::mem::take(&mut self.released), ..Output::default() });
        }
        let mut ready = self.node.ready();
        let number = ready.number() + self.ahead;
        let mut output = Output { messages: std::mem::take(&mut self.released), ..Output::default() };
        output.messages.append(&mut ready.take_messages());
        output.committed = ready.take_committed_entries();
        let (entries, mut held) = (ready.take_entries(), ready.take_persisted_messages());
        if let Some(hard_state) = ready.hs() {
            self.node.mut_store().known.hard_state = hard_state.clone();
        }
        let must_write = ready.must_sync();
        if must_write {
            let log = self.node.mut_store();
            let appended = log.append(entries);
            let hard_state = log.known.hard_state.clone();
            let promise = (hard_state.term, hard_state.vote);
            output.write = Some(Write {
                number,
                entries: appended.entries,
                void: appended.void,
                terms: appended.terms,
                promise: promise != self.promised,
                hard_state,
                last: log.known.last(),
            });
            self.promised = promise;
        }
        self.node.advance_append_async(ready);
        if must_write || !self.writing.is_empty() {
            // A follower's sign of life rests on no write but a promise's; without this a slow disk would cost the leader its quorum.
            if !must_write {
                let alive = |message: &Message| message.msg_type() == MessageType::MsgHeartbeatResponse;
                output.messages.extend(held.extract_if(.., |message| alive(message)));
            }
            self.writing.push_back((number, must_write, held));
        } else {
            output.messages.append(&mut held);
            self.node.on_persist_ready(number - self.ahead);
        }
        output.members = self.membership(&output.committed);
        self.pin_election_timeout();
        Some(output)
    }

    /// Membership entries take effect when they are handed out.
    fn membership(&mut self, committed: &[Entry]) -> Option<ConfState> {
        let mut members = None;
        for entry in committed.iter().filter(|entry| entry.entry_type() == EntryType::EntryConfChangeV2) {
            let change = ConfChangeV2::decode(&entry.data[..]).unwrap_or_default();
            if let Ok(state) = self.node.apply_conf_change(&change) {
                self.alone = state.voters == [self.node.raft.id] && state.learners.is_empty();
                self.node.mut_store().known.members = state.clone();
                members = Some(state);
            }
        }
        members
    }

    /// raft-rs draws election timeouts from the thread's random numbers, which would make a simulation's seed worthless.
    fn pin_election_timeout(&mut self) {
        let raft = &mut self.node.raft;
        let shortest = raft.election_timeout();
        raft.set_randomized_election_timeout(shortest + drawn(self.entropy, raft.term, shortest));
    }

    /// Up to here the log is not needed any more; what to remember of it. Never beyond what every member has.
    pub fn truncate(&mut self, index: u64) -> Option<Place> {
        let floor = if self.alone { u64::MAX } else { self.floor() };
        let log = &mut self.node.raft.raft_log;
        let index = index.min(log.applied).min(floor);
        log.store.truncate(index)
    }

    /// Up to here every member that is not hopelessly behind has the log on its disk, or will have it by the snapshot that it is taking.
    pub fn floor(&mut self) -> u64 {
        if self.leads() {
            let most = if self.pressed { 2 * self.limits.election_ticks as u32 } else { self.limits.away_ticks };
            let reachable = self.node.raft.prs().iter().filter(|(id, _)| self.away.get(id).is_none_or(|away| *away < most));
            let has = reachable.map(|(_, progress)| progress.matched.max(progress.pending_snapshot));
            self.floor = self.floor.max(has.min().unwrap_or(0));
        }
        self.floor
    }

    /// Whether there is little room on the disk.
    pub fn press(&mut self, pressed: bool) {
        self.pressed = pressed;
    }

    /// The state's image was taken after the entry at this index: snapshots begin with it.
    pub fn image_taken(&mut self, index: u64) {
        let log = self.node.mut_store();
        log.image = log.known.term(index).map(|term| Place { index, term }).or(log.image);
    }

    /// A peer has taken the snapshot that it was told of, or has given up.
    pub fn snapshot_ended(&mut self, peer: u64, taken: bool) {
        let status = if taken { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.node.report_snapshot(peer, status);
    }

    /// Whether the log here has, or had, this entry: no snapshot that ends with it is needed.
    pub fn has(&self, place: Place) -> bool {
        place.index <= self.hard_state().commit || self.known().term(place.index) == Some(place.term)
    }

    /// Who takes part, as far as applied here.
    pub fn seats(&self) -> Seats {
        let members = &self.known().members;
        Seats { voters: members.voters.clone(), learners: members.learners.clone() }
    }

    /// Where this one leads: whether a member has nearly all of the log and gets what comes as it comes.
    pub fn keeps_up(&self, member: u64) -> bool {
        let raft = &self.node.raft;
        let progress = raft.prs().get(member).filter(|_| self.leads());
        progress.is_some_and(|progress| {
            progress.recent_active
                && progress.state == ProgressState::Replicate
                && progress.matched + KEEPS_UP >= raft.raft_log.last_index()
        })
    }

    /// Proposes that one seat changes. One change at a time: false if another one is under way, or this member does not lead.
    pub fn propose_seat(&mut self, change: Change) -> bool {
        let raft = &self.node.raft;
        if !self.leads_surely() || raft.has_pending_conf() {
            return false;
        }
        let (kind, node_id) = match change {
            Change::Learner(id) => (ConfChangeType::AddLearnerNode, id),
            Change::Voter(id) => (ConfChangeType::AddNode, id),
            Change::Remove(id) => (ConfChangeType::RemoveNode, id),
        };
        let mut single = ConfChangeSingle { node_id, ..ConfChangeSingle::default() };
        single.set_change_type(kind);
        let change = ConfChangeV2 { changes: vec![single], ..ConfChangeV2::default() };
        self.node.propose_conf_change(Vec::new(), change).is_ok()
    }

    /// A leader, of whichever term, said up to where every member has the log.
    pub fn learn_floor(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
    }

    /// Where this one leads: each member, up to where it has the log, and whether it was heard of lately.
    pub fn members(&self) -> impl Iterator<Item = (u64, u64, bool)> {
        let raft = &self.node.raft;
        let known = if self.leads() { Some(raft.prs()) } else { None };
        let own = raft.id;
        known.into_iter().flat_map(move |all| all.iter().map(move |(&id, one)| (id, one.matched, one.recent_active || id == own)))
    }

    /// Messages to this peer do not arrive: send one at a time until it answers.
    pub fn unreachable(&mut self, peer: u64) {
        self.node.report_unreachable(peer);
    }

    /// Hands leadership to the member that has most of the log and was heard of, of those that want it; says whether there is one. Proposals are
    /// refused meanwhile.
    pub fn hand_over(&mut self, wants: impl Fn(u64) -> bool) -> bool {
        let raft = &self.node.raft;
        let voters = &raft.prs().conf().voters();
        let others =
            raft.prs().iter().filter(|(id, progress)| **id != raft.id && progress.recent_active && voters.contains(**id) && wants(**id));
        let best = others.max_by_key(|(_, progress)| progress.matched).map(|(id, _)| *id);
        if let Some(best) = best.filter(|_| self.leads()) {
            self.node.transfer_leader(best);
            return true;
        }
        false
    }

    /// Hands leadership to this member, if it has a vote and was heard of.
    pub fn hand_over_to(&mut self, member: u64) -> bool {
        let raft = &self.node.raft;
        let fit = raft.prs().get(member).is_some_and(|progress| progress.recent_active) && raft.prs().conf().voters().contains(member);
        if fit && self.leads() {
            self.node.transfer_leader(member);
        }
        fit && self.leads()
    }

    /// Leads, and lets another one lead in a moment: takes no proposals.
    pub fn is_handing_over(&self) -> bool {
        self.leads() && self.node.raft.lead_transferee.is_some()
    }

    /// Leads, and takes no proposals for a moment: it is handing over, or was just elected and may not know yet what its predecessors left.
    pub fn is_settling(&self) -> bool {
        self.leads() && (self.is_handing_over() || !self.leads_surely())
    }

    /// Leads, by Raft's word.
    pub fn leads(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// Leads, and has applied an entry of its own term: knows all that was committed before.
    pub fn leads_surely(&self) -> bool {
        self.leads() && self.node.raft.apply_to_current_term()
    }

    /// Who leads, if known.
    pub fn leader(&self) -> Option<u64> {
        Some(self.node.raft.leader_id).filter(|&id| id != 0)
    }

    /// Term, vote, commit as of now.
    pub fn hard_state(&self) -> HardState {
        self.node.raft.hard_state()
    }

    /// The end of the log.
    pub fn last(&self) -> Place {
        self.node.store().known.last()
    }

    /// What Raft still has of the log, and where it was cut.
    pub fn known(&self) -> &Remembered {
        &self.node.store().known
    }

    /// Bytes proposed and not committed.
    pub fn uncommitted_bytes(&self) -> usize {
        self.node.raft.uncommitted_size()
    }

    /// Writes that were handed out and are not durable.
    pub fn writes_open(&self) -> usize {
        self.writing.len()
    }

    /// The disk's first error. After it nothing here may be used.
    pub fn failed(&self) -> Option<String> {
        self.node.store().failed.borrow().clone()
    }
}

#[cfg(test)]
mod tests;

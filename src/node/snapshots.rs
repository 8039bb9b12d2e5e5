//! Snapshots between nodes: the leader's side, which reads what a member asks for, and the taker's, which asks for one piece after the other.
//!
//! The leader remembers nothing but the image and when it was asked last, and its log is kept from the image on meanwhile
//! (`Replica::floor`). What else it deletes while a snapshot is taken is what every sink has passed by then, and the taker will hear of that from
//! the log. Whatever ends a snapshot, Raft is told: it offers another one then.
//!
//! Left out on purpose: what pieces consist of and when a member has all (`shard::snapshot`), the network (`peer`).

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::clock;
use crate::failpoint;
use crate::model::ShardId;
use crate::node::Handle;
use crate::node::ReadError;
use crate::node::keeper::Keeper;
use crate::node::lane::lock;
use crate::node::start;
use crate::node::worker::ShardDisk;
use crate::node::worker::Worker;
use crate::shard::member::Begin;
use crate::shard::member::Member;
use crate::shard::member::Op;
use crate::shard::member::Turn;
use crate::shard::replica::PeerMessage;
use crate::shard::snapshot::Given;
use crate::shard::snapshot::Intake;
use crate::shard::snapshot::Part;
use crate::shard::snapshot::Request;
use crate::shard::snapshot::announced;
use crate::store::Family;
use crate::store::batch::Batch;

/// About so much is in a piece: a hundredth of a second of the network, and what the writer takes at once. (Tests want many of them.)
const PIECE_BYTES: usize = if cfg!(test) { 4 << 10 } else { 1 << 20 };
/// A snapshot for which nothing was asked for so long is given up.
const IDLE: Duration = Duration::from_secs(10);
/// Between two tries to get a piece.
const AGAIN: Duration = Duration::from_millis(500);

/// A snapshot that a member may take.
pub(super) struct Outgoing {
    given: Given,
    asked: Instant,
}

/// The taker's side.
pub(super) struct Taking {
    intake: Intake,
    /// A piece is on its way.
    asking: bool,
    again: Instant,
    /// Entries beyond the member's own end are on the disk.
    staged: bool,
    bytes: u64,
}

fn family(part: Part) -> Option<Family> {
    match part {
        Part::Image => None,
        Part::LogLeader => Some(Family::LogLeader),
        Part::LogStandby => Some(Family::LogStandby),
        Part::Emission => Some(Family::Emissions),
        Part::Dead => Some(Family::Dead),
    }
}

/// What a snapshot has to write.
pub(super) fn pack_snapshot(batch: &mut Batch<'_>, shard: ShardId, op: Op) {
    let put = |batch: &mut Batch<'_>, (part, number, value): (Part, u64, Vec<u8>)| {
        if let Some(family) = family(part) {
            batch.put(family, shard, number, &value);
        }
    };
    match op {
        Op::Staged(own_end) => batch.staged(shard, own_end),
        Op::Stage(part, number, value) => put(batch, (part, number, value)),
        Op::Unstage(own_end) => {
            batch.delete(Family::LogLeader, shard, own_end + 1, u64::MAX);
            batch.delete(Family::LogStandby, shard, own_end + 1, u64::MAX);
            batch.end_staged(shard);
        }
        Op::Install(install) => {
            let hard = &install.hard_state;
            batch.void(shard, install.void.0, install.void.1);
            install.entries.into_iter().for_each(|entry| put(batch, entry));
            batch.cut(shard, install.place.index, install.place.term);
            batch.members(shard, &install.members);
            batch.image(shard, install.place.index, &install.image);
            batch.hard_state(shard, hard.term, hard.vote, hard.commit);
            batch.end_staged(shard);
        }
        _ => {}
    }
}

impl Handle {
    /// A member asks for a piece, or says that it has all. `None`: there is no such snapshot (any more). May block.
    pub fn take_fetch(&self, shard: ShardId, from: u64, request: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let Some(lane) = self.shared.lane(shard) else { return Ok(None) };
        match Request::decode(request).map_err(ReadError::new)? {
            Request::Taken(index) => {
                let known = lock(&lane.outgoing).get(&from).is_some_and(|outgoing| outgoing.given.index == index);
                if known {
                    lane.mailbox.taken(from);
                }
                Ok(known.then(Vec::new))
            }
            Request::Piece(index, bookmark) => {
                let given = {
                    let mut all = lock(&lane.outgoing);
                    let Some(outgoing) = all.get_mut(&from).filter(|outgoing| outgoing.given.index == index) else { return Ok(None) };
                    outgoing.asked = clock::now();
                    outgoing.given.clone()
                };
                let store = &self.shared.store;
                let piece = given.piece(bookmark, PIECE_BYTES, |part, number, take| match family(part) {
                    Some(family) => store.scan(family, shard, number, take),
                    None => Ok(()),
                });
                let piece = piece.map_err(ReadError::new)?.encode();
                failpoint::reach(failpoint::Place::SnapshotRead);
                if let Some(outgoing) = lock(&lane.outgoing).get_mut(&from) {
                    outgoing.asked = clock::now();
                }
                Ok(Some(piece))
            }
        }
    }
}

impl Worker {
    /// Raft tells a member that it needs a snapshot: from now on that member may fetch it. What cannot be given is not announced.
    pub(super) fn give(&mut self, messages: &mut Vec<PeerMessage>) -> Result<(), String> {
        for at in (0..messages.len()).rev() {
            let Some((to, index)) = announced(&messages[at]) else { continue };
            let image = self.shared.store.image(self.lane.shard).map_err(|error| error.to_string())?;
            match image.filter(|(stored, _)| *stored == index) {
                Some((_, sealed)) => {
                    tracing::info!(
                        shard = self.lane.shard.0,
                        index,
                        to = format!("{to:016x}"),
                        "a member lacks what the log no longer has: it takes a snapshot"
                    );
                    let given = Given { index, image: Arc::new(sealed), numbers: self.member.at_image() };
                    lock(&self.lane.outgoing).insert(to, Outgoing { given, asked: clock::now() });
                    failpoint::reach(failpoint::Place::SnapshotOffered);
                }
                None => {
                    // The writer has not come to it yet, or a newer one is there: Raft asks again.
                    messages.remove(at);
                    self.member.replica.snapshot_ended(to, false);
                }
            }
        }
        Ok(())
    }

    /// A member has taken its snapshot.
    pub(super) fn given(&mut self, to: u64) {
        if lock(&self.lane.outgoing).remove(&to).is_some() {
            self.member.replica.snapshot_ended(to, true);
        }
    }

    /// Gives up what nobody asks for; only leaders give.
    pub(super) fn tend_outgoing(&mut self, now: Instant) {
        let leads = self.member.replica.leads();
        let mut given_up = Vec::new();
        lock(&self.lane.outgoing).retain(|to, outgoing| {
            let alive = leads && now.saturating_duration_since(outgoing.asked) < IDLE;
            given_up.extend((!alive).then_some(*to));
            alive
        });
        given_up.into_iter().for_each(|to| self.member.replica.snapshot_ended(to, false));
    }

    /// This member lacks what the leader's log no longer has.
    pub(super) fn offered(&mut self, message: &PeerMessage) -> Result<(), String> {
        let Some(together) = &self.shared.together else { return Ok(()) };
        let replica = &self.member.replica;
        let Some(intake) = Intake::begin(message, together.id, &replica.hard_state(), replica.last().index) else { return Ok(()) };
        if replica.has(intake.place()) {
            return Ok(()); // the message was late
        }
        if self.taking.as_ref().is_some_and(|taking| (taking.intake.from, taking.intake.index()) == (intake.from, intake.index())) {
            return Ok(());
        }
        let (shard, index) = (self.lane.shard.0, intake.index());
        tracing::info!(shard, index, from = format!("{:016x}", intake.from), "a snapshot is taken: the leader's log begins later");
        self.give_up_taking()?;
        self.taking = Some(Taking { intake, asking: false, again: clock::now(), staged: false, bytes: 0 });
        Ok(())
    }

    /// The member goes on with its own log. What was staged of a snapshot goes at once: another one may end earlier.
    fn give_up_taking(&mut self) -> Result<(), String> {
        match self.taking.take().filter(|taking| taking.staged) {
            Some(taking) => self.carry_out(Turn { ops: vec![Op::Unstage(taking.intake.own_end())], ..Turn::default() }),
            None => Ok(()),
        }
    }

    /// An answer to what was asked for.
    pub(super) fn piece(&mut self, answer: Option<Vec<u8>>, now: Instant) -> Result<(), String> {
        let Some(taking) = &mut self.taking else { return Ok(()) };
        taking.asking = false;
        let Some(bytes) = answer else {
            taking.again = now + AGAIN;
            return Ok(());
        };
        match taking.intake.take(&bytes) {
            Ok(ops) => {
                taking.staged = true;
                taking.bytes += bytes.len() as u64;
                self.carry_out(Turn { ops, ..Turn::default() })?;
                failpoint::reach(failpoint::Place::SnapshotStaged);
                Ok(())
            }
            Err(why) => {
                // The leader hears nothing more of it, gives it up, and offers another one.
                tracing::warn!(shard = self.lane.shard.0, "a snapshot cannot be taken: {why}");
                taking.again = now + IDLE;
                Ok(())
            }
        }
    }

    /// Asks for the next piece; once all is there and nothing of the member's own is on its way to the disk, it goes on from the snapshot.
    pub(super) fn take_snapshot(&mut self, now: Instant) -> Result<(), String> {
        if self.taking.as_ref().is_some_and(|taking| self.member.replica.has(taking.intake.place())) {
            // The log has come that far by itself, and what it has beyond may have been acknowledged: to go back to the image would take it away.
            return self.give_up_taking();
        }
        let Some(taking) = self.taking.as_mut().filter(|taking| !taking.asking && taking.again <= now) else { return Ok(()) };
        let Some(together) = &self.shared.together else { return Ok(()) };
        if let Some(request) = taking.intake.wants() {
            taking.asking = true;
            let lane = Arc::clone(&self.lane);
            let answered = Box::new(move |answer| lane.mailbox.piece(answer));
            together.peers.fetch(taking.intake.from, self.lane.shard, request.encode(), answered);
            return Ok(());
        }
        if self.member.replica.writes_open() > 0 {
            return Ok(());
        }
        failpoint::reach(failpoint::Place::SnapshotComplete);
        let (peers, id) = (Arc::clone(&together.peers), together.id);
        let Some(Taking { intake, bytes, .. }) = self.taking.take() else { return Ok(()) };
        let (from, index) = (intake.from, intake.index());
        let (known, image, install) = intake.finish(self.member.replica.hard_state());
        let shard = self.lane.shard;
        self.lane.image_taken(index, &image);
        let disk = ShardDisk { store: Arc::clone(&self.shared.store), shard };
        let (limits, entropy) = (self.shared.settings.limits, start::entropy(id, shard));
        self.member = Member::open(Begin { shard, id, disk, known, image: Some(image), limits, entropy })?;
        self.member.replica.begins_unsynced();
        self.number_anew();
        self.carry_out(Turn { ops: vec![install], ..Turn::default() })?;
        failpoint::reach(failpoint::Place::SnapshotInstalled);
        self.begin_anew(now);
        tracing::info!(shard = shard.0, index, bytes, "the snapshot is taken");
        peers.fetch(from, shard, Request::Taken(index).encode(), Box::new(|_| {}));
        Ok(())
    }

    /// Before anything of the new member is handed out: its writes begin with number 1 again.
    fn number_anew(&mut self) {
        self.persisted = 0;
        self.unsynced.forget();
        self.lane.mailbox.forget_persisted();
    }

    /// What was known of the member before the snapshot is void.
    fn begin_anew(&mut self, now: Instant) {
        self.keeper = Keeper::new(now);
        self.lane.forget_recent();
        self.show();
        self.publish();
    }

    /// The log goes on from its own end: what was staged behind it goes first.
    pub(super) fn unstage_before(&mut self, ops: &mut Vec<Op>) {
        let own = |op: &Op| matches!(op, Op::Log(write) if !write.entries.is_empty());
        let Some(at) = ops.iter().position(own).filter(|_| self.taking.is_some()) else { return };
        if let Some(taking) = self.taking.take().filter(|taking| taking.staged) {
            ops.insert(at, Op::Unstage(taking.intake.own_end()));
        }
    }
}

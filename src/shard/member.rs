//! One member of a shard: a replica of the log joined with the state that the log means.
//!
//! Everything it wants from the world comes out of [`Member::turn`] as a `Turn`: messages, operations for the disk in their order, and what
//! was applied. The shell (`node`'s threads, or the simulator) carries them out and reports what is durable. Operations of one shard must
//! reach the disk in the order given; only `Op::Log` and `Op::Free` need a sync, everything else comes back by replay.

use prost::Message as _;
use raft::eraftpb::HardState;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

use crate::alert::episode::Closed;
use crate::dedup::judged::Counts;
use crate::dedup::judged::Fates;
use crate::model::ShardId;
use crate::shard::codec::Reader;
use crate::shard::codec::Writer;
use crate::shard::command::DeadLetter;
use crate::shard::control::Control;
use crate::shard::control::ControlEffects;
use crate::shard::data::Data;
use crate::shard::data::Effects;
use crate::shard::emission::Emission;
use crate::shard::entry;
use crate::shard::entry::Entry;
use crate::shard::log::Disk;
use crate::shard::log::ORIGIN;
use crate::shard::log::Place;
use crate::shard::log::Remembered;
use crate::shard::replica::Limits;
use crate::shard::replica::PeerMessage;
use crate::shard::replica::Refused;
use crate::shard::replica::Replica;
use crate::shard::replica::Write;
use crate::shard::snapshot::Install;
use crate::shard::snapshot::Part;
use crate::shard::time::ShardTime;

/// Raised when the layout of sealed images changes.
const IMAGE_VERSION: u8 = 1;

/// What a shard's log means.
#[derive(Debug)]
pub enum State {
    /// Groups and their samples.
    Data(Box<Data>),
    /// The cluster.
    Control(Box<Control>),
}

impl State {
    /// Of a shard that has applied nothing.
    pub fn new(shard: ShardId) -> State {
        if shard == ShardId::CONTROL { State::Control(Box::default()) } else { State::Data(Box::default()) }
    }

    /// Index of the last applied entry.
    pub fn applied(&self) -> u64 {
        match self {
            State::Data(data) => data.applied,
            State::Control(control) => control.applied,
        }
    }

    fn at(&self) -> i64 {
        match self {
            State::Data(data) => data.at,
            State::Control(control) => control.at,
        }
    }

    /// Replay from the last image needs no entry below.
    pub fn replay_floor(&self) -> u64 {
        match self {
            State::Data(data) => data.replay_floor(),
            State::Control(control) => control.image + 1,
        }
    }

    fn numbers(&self) -> Numbers {
        match self {
            State::Data(data) => Numbers { emission: data.emissions, dead: data.dead.1 },
            State::Control(_) => Numbers::default(),
        }
    }

    /// The same on every member that has applied the same entries.
    pub fn state_hash(&self) -> u64 {
        match self {
            State::Data(data) => data.state_hash(),
            State::Control(control) => control.state_hash(),
        }
    }

    /// The state as bytes: version, kind, state, and a hash over all of it.
    pub fn seal(&self) -> Vec<u8> {
        let mut bytes = vec![IMAGE_VERSION];
        match self {
            State::Data(data) => {
                bytes.push(1);
                data.write_image(&mut bytes);
            }
            State::Control(control) => {
                bytes.push(0);
                control.write_image(&mut bytes);
            }
        }
        let hash = xxh3_64(&bytes);
        Writer(&mut bytes).fixed(hash);
        bytes
    }

    /// The state that was sealed; an error says what is wrong with the bytes.
    pub fn unseal(shard: ShardId, sealed: &[u8]) -> Result<State, String> {
        let (bytes, hash) = sealed.split_last_chunk::<8>().ok_or("it ends too early")?;
        if xxh3_64(bytes) != u64::from_le_bytes(*hash) {
            return Err("its checksum is wrong".to_owned());
        }
        let mut from = Reader(bytes);
        let head = (from.byte(), from.byte());
        match head {
            (Ok(IMAGE_VERSION), Ok(1)) if shard != ShardId::CONTROL => Data::read_image(from.0).map(|data| State::Data(Box::new(data))),
            (Ok(IMAGE_VERSION), Ok(0)) if shard == ShardId::CONTROL => Control::read_image(from.0).map(|c| State::Control(Box::new(c))),
            (Ok(IMAGE_VERSION), _) => return Err("it is of another kind of shard".to_owned()),
            (version, _) => return Err(format!("its version {version:?} is not known to this program")),
        }
        .map_err(|error| error.to_string())
    }
}

/// Something for the disk to do, in order.
#[derive(Debug)]
pub enum Op {
    /// To be synced; then to be reported by `Replica::persisted`.
    Log(Write),
    /// An emission to keep.
    Emission(Arc<Emission>),
    /// The entry's body must outlive the standby's family: copy it into the leader's.
    Copy(u64),
    /// A dead letter to keep, and the number below which they go.
    Dead(u64, DeadLetter, u64),
    /// Dead letters to delete: they were sent again.
    Resent(Vec<u64>),
    /// Episodes of alerts to keep.
    Closed(Vec<Closed>),
    /// An image of the state; it takes the place of the one before. The hard state goes with it, so that `commit` is never behind it.
    Image(Box<Image>),
    /// New members, as `Remembered::members_stored` gives them. The hard state goes with them, so that `commit` is never behind the change: replay
    /// that ends before it would have members who may be gone for good, and no majority.
    Members(Vec<u8>, HardState),
    /// What is below is not needed. To be synced with all before, then files may go.
    Free(Free),
    /// From now on entries beyond this one are those of a snapshot that is being taken: not of this member's log.
    Staged(u64),
    /// Something of a snapshot: which family, number, bytes.
    Stage(Part, u64, Vec<u8>),
    /// The member goes on with its own log, which ends here: what was taken of a snapshot's entries goes.
    Unstage(u64),
    /// All of a snapshot is there. In one batch, with the end of `Staged`.
    Install(Box<Install>),
}

/// An image of the state.
#[derive(Debug)]
pub struct Image {
    /// The entry after which it was taken.
    pub index: u64,
    /// Sealed state.
    pub sealed: Vec<u8>,
    /// Term, vote, commit at that time.
    pub hard_state: HardState,
}

/// What may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Free {
    /// Where Raft's log is cut.
    pub truncated: Place,
    /// Entries of the standby's family below.
    pub standby_below: u64,
    /// Entries of the leader's family below.
    pub leader_below: u64,
    /// Emissions below.
    pub emissions_below: u64,
}

/// An applied entry.
#[derive(Debug)]
pub struct Done {
    /// Which.
    pub place: Place,
    /// Committed but void: why.
    pub void: Option<String>,
    /// `Assign`: the shard.
    pub shard: Option<ShardId>,
    /// It emitted samples of its own body: sinks will want it at once.
    pub emitted: bool,
}

/// What comes of a turn.
#[derive(Debug, Default)]
pub struct Turn {
    /// To send.
    pub messages: Vec<PeerMessage>,
    /// For the disk, in order.
    pub ops: Vec<Op>,
    /// What was applied, in order.
    pub done: Vec<Done>,
    /// What its items came to.
    pub counts: Counts,
    /// The state changed in a way that an image should hold.
    pub changed: bool,
    /// What became of each item, while somebody listens (`Data::listen`).
    pub fates: Fates,
}

/// One member of a shard.
pub struct Member<D: Disk> {
    /// Agreement on the log.
    pub replica: Replica<D>,
    /// What the log means, as far as applied.
    pub state: State,
    time: ShardTime,
    effects: Effects,
    at_image: Numbers,
}

/// The last emission and the last dead letter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// The last emission.
    pub emission: u64,
    /// The last dead letter.
    pub dead: u64,
}

/// What a member is and starts from.
pub struct Begin<D> {
    /// Which shard.
    pub shard: ShardId,
    /// Which member: the node's id.
    pub id: u64,
    /// The disk, and what it remembers.
    pub disk: D,
    /// From the disk.
    pub known: Remembered,
    /// The last image, sealed.
    pub image: Option<Vec<u8>>,
    /// Bounds.
    pub limits: Limits,
    /// For election timeouts.
    pub entropy: u64,
}

impl<D: Disk> Member<D> {
    /// Goes on where the disk ends: the image, then replay of what was committed after it (in the first turns).
    pub fn open(begin: Begin<D>) -> Result<Member<D>, String> {
        let Begin { shard, id, disk, known, image, limits, entropy } = begin;
        let state = match &image {
            None => State::new(shard),
            Some(sealed) => {
                State::unseal(shard, sealed).map_err(|error| format!("the image of shard {} cannot be read: {error}", shard.0))?
            }
        };
        let applied = state.applied().max(ORIGIN.index);
        let mut replica = Replica::new(id, disk, known, applied, limits, entropy).map_err(|error| format!("shard {}: {error}", shard.0))?;
        if image.is_some() {
            replica.image_taken(applied);
        }
        if shard != ShardId::CONTROL {
            // Samples come all the time and are answered by the leader; what the control shard agrees on all nodes carry out, and people wait for it.
            replica.commits_ride_along();
        }
        let mut time = ShardTime::default();
        time.saw(state.at());
        let at_image = state.numbers();
        Ok(Member { replica, state, time, effects: Effects::default(), at_image })
    }

    /// What the last image holds: what comes after it is in no snapshot.
    pub fn at_image(&self) -> Numbers {
        self.at_image
    }

    /// The time for entries that are proposed now; `wall`: nothing where that clock is known to be wrong.
    pub fn stamp(&mut self, mono: i64, wall: Option<i64>) -> i64 {
        if self.replica.leads() { self.time.stamp(mono, wall) } else { self.time.follow(mono) }
    }

    /// Proposes samples that were encoded elsewhere; `at` and whether the replica leads are filled in here.
    pub fn propose_samples(&mut self, at: i64, from_leader: bool, mut encoded: Vec<u8>) -> Result<Place, Refused> {
        entry::stamp(&mut encoded, at, from_leader);
        self.replica.propose(encoded, false)
    }

    /// Proposes anything else. A new leader is none yet for this: before it has applied what its predecessors left it does not know their time.
    pub fn propose(&mut self, at: i64, entry: &Entry<'_>) -> Result<Place, Refused> {
        if !self.replica.leads_surely() {
            return Err(Refused::NotLeader(self.replica.leader()));
        }
        let mut encoded = Vec::new();
        entry::encode(at, entry, &mut encoded);
        self.replica.propose(encoded, true)
    }

    /// Does all that can be done now. An error is final: the log cannot be read.
    pub fn turn(&mut self, turn: &mut Turn) -> Result<(), String> {
        while let Some(output) = self.replica.output() {
            turn.messages.extend(output.messages);
            if let Some(write) = output.write {
                turn.ops.push(Op::Log(write));
            }
            turn.ops.extend(output.members.map(|members| Op::Members(members.encode_to_vec(), self.replica.hard_state())));
            for committed in &output.committed {
                let place = Place { index: committed.index, term: committed.term };
                let ours = committed.entry_type == 0;
                self.apply(place, if ours { &committed.data } else { &[] }, turn)
                    .map_err(|error| format!("entry {} of the log cannot be read: {error}", place.index))?;
            }
            if let Some(last) = output.committed.last() {
                self.replica.applied(last.index);
            }
        }
        self.replica.failed().map_or(Ok(()), Err)
    }

    fn apply(&mut self, place: Place, encoded: &[u8], turn: &mut Turn) -> Result<(), crate::shard::codec::Malformed> {
        let mut done = Done { place, void: None, shard: None, emitted: false };
        let image = match &mut self.state {
            State::Control(control) => {
                let mut effects = ControlEffects::default();
                control.apply(place.index, encoded, &mut effects)?;
                turn.changed |= effects.changed;
                (done.void, done.shard) = (effects.void, effects.shard);
                if !effects.closed.is_empty() {
                    turn.ops.push(Op::Closed(effects.closed));
                }
                effects.image
            }
            State::Data(data) => {
                let mut effects = std::mem::take(&mut self.effects);
                data.apply(place.index, encoded, &mut effects)?;
                done.emitted = effects.emissions.iter().any(|emission| emission.entry == place.index);
                done.void = effects.void.take();
                turn.changed |= effects.changed;
                turn.counts.add(effects.counts);
                turn.fates.take(&mut effects.fates);
                turn.counts.waiting = effects.counts.waiting;
                // Copies first: an emission must never be readable before the body that it names is there to stay.
                turn.ops.extend(effects.copies.drain(..).map(Op::Copy));
                turn.ops.extend(effects.emissions.drain(..).map(|emission| Op::Emission(Arc::new(emission))));
                turn.ops.extend(effects.dead.drain(..).map(|(number, letter)| Op::Dead(number, letter, data.dead.0 + 1)));
                if !effects.resent.is_empty() {
                    turn.ops.push(Op::Resent(std::mem::take(&mut effects.resent)));
                }
                let image = effects.image;
                (effects.image, effects.changed, effects.counts) = (false, false, Counts::default());
                self.effects = effects;
                image
            }
        };
        self.time.saw(self.state.at());
        if image {
            let image = Image { index: place.index, sealed: self.state.seal(), hard_state: self.replica.hard_state() };
            turn.ops.push(Op::Image(Box::new(image)));
            self.replica.image_taken(place.index);
            self.at_image = self.state.numbers();
        }
        turn.done.push(done);
        Ok(())
    }

    /// What may go. `floor_after` answers the floor of the first emission after a number, if there is such an emission.
    pub fn free(&mut self, floor_after: impl FnOnce(u64) -> Option<u64>) -> Option<Free> {
        let replay = self.state.replay_floor();
        let truncated = self.replica.truncate(replay.saturating_sub(1));
        let truncated = truncated.unwrap_or(self.replica.known().truncated);
        // What Raft may still have to send to a member that lacks it stays, too.
        let below = replay.min(truncated.index + 1);
        let mut free = Free { truncated, standby_below: below, leader_below: below, emissions_below: 0 };
        if let State::Data(data) = &self.state {
            let done = data.done();
            free.emissions_below = done + 1;
            if done < data.emissions {
                // Unknown: better nothing goes.
                free.leader_below = below.min(floor_after(done).unwrap_or(0));
            }
        }
        (replay > ORIGIN.index).then_some(free)
    }
}

#[cfg(test)]
pub(crate) mod simulation;

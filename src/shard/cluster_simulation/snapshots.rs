//! Snapshots between nodes: `node::snapshots` without threads, its steps in its order. What pieces consist of, and when a member has all, is the
//! code of production (`shard::snapshot`).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::bugs::Bug;
use super::disk::ShardDisk;
use super::keeper::Keeper;
use super::process::Host;
use super::process::Job;
use super::process::entropy;
use super::process::limits;
use super::shape::PATIENT;
use super::shape::Theme;
use super::stage::Mail;
use super::stage::Moment;
use super::stage::Stage;
use super::stage::Taker;
use super::worker::Worker;
use crate::model::ShardId;
use crate::shard::member::Begin;
use crate::shard::member::Member;
use crate::shard::member::Op;
use crate::shard::member::State;
use crate::shard::replica::PeerMessage;
use crate::shard::snapshot::Given;
use crate::shard::snapshot::Install;
use crate::shard::snapshot::Intake;
use crate::shard::snapshot::Part;
use crate::shard::snapshot::Request;
use crate::shard::snapshot::announced;

/// A snapshot for which nothing was asked for so long is given up, ms; so long an answer is waited for.
const IDLE: i64 = 10_000;
const PATIENCE: i64 = 10_000;
/// Between two tries to get a piece.
const AGAIN: i64 = 500;

/// A snapshot that a member may take.
pub struct Outgoing {
    given: Given,
    asked: i64,
}

/// The taker's side.
pub struct Taking {
    intake: Intake,
    asking: bool,
    again: i64,
    staged: bool,
}

impl Host {
    /// A member that begins from a snapshot has what a sink may still want of it.
    pub fn has_all(&self, shard: ShardId, install: &Install, stage: &mut Stage) {
        let (Ok(State::Data(image)), State::Data(now)) =
            (State::unseal(shard, &install.image), &stage.ledger.shards[usize::from(shard.0)].state)
        else {
            return;
        };
        let disk = self.disk.borrow();
        let here = disk.shard(shard);
        let has = |number: &u64| here.emissions.get(number).is_some_and(|emission| here.entry(emission.entry).is_some());
        let wanted = now.done() + 1..=image.emissions;
        if let Some(number) = wanted.into_iter().find(|number| !has(number)) {
            stage.broken(format!("shard {}: n{} has taken a snapshot, and lacks emission {number} or its body", shard.0, self.node));
        }
    }
}

impl Worker {
    /// A member asks for a piece, or says that it has all.
    pub(super) fn fetched(&mut self, host: &Host, stage: &mut Stage, from: u64, request: &[u8]) -> Option<Vec<u8>> {
        let now = self.mono(host, stage);
        let outgoing = self.outgoing.get_mut(&from)?;
        match Request::decode(request).ok()? {
            Request::Taken(index) if index == outgoing.given.index => {
                self.mail.taken.insert(from);
                Some(Vec::new())
            }
            Request::Piece(index, bookmark) if index == outgoing.given.index => {
                outgoing.asked = now;
                stage.strikes(host.node, Moment::AfterPiece);
                let disk = host.disk.borrow();
                let scan = |part, number, take: &mut dyn FnMut(u64, &[u8]) -> bool| {
                    let left_out = stage.has(Bug::SnapshotWithoutLog) && part != Part::Image;
                    if !left_out {
                        disk.shard(self.shard).scan(part, number, take);
                    }
                    Ok::<_, std::convert::Infallible>(())
                };
                outgoing.given.piece(bookmark, stage.shape.piece, scan).ok().map(|piece| piece.encode())
            }
            _ => None,
        }
    }

    /// An answer, or none in time.
    pub(super) fn piece_arrived(&mut self, number: u64, answer: Option<Vec<u8>>) {
        if self.asked.1.remove(&number).is_some() {
            self.mail.piece = Some(answer);
        }
    }

    /// Raft tells a member that it needs a snapshot: from now on that member may fetch it.
    pub(super) fn give(&mut self, messages: &mut Vec<PeerMessage>, host: &Host, stage: &mut Stage) {
        let now = self.mono(host, stage);
        for at in (0..messages.len()).rev() {
            let Some((to, index)) = announced(&messages[at]) else { continue };
            let disk = host.disk.borrow();
            match disk.shard(self.shard).image.as_ref().filter(|_| disk.shard(self.shard).image_index == index) {
                Some(sealed) => {
                    stage.say(|| format!("n{} gives member {to} a snapshot of shard {} at {index}", host.node, self.shard.0));
                    stage.begins.insert((self.shard, host.id), self.member.replica.known().truncated.index);
                    let given = Given { index, image: Arc::new(sealed.clone()), numbers: self.member.at_image() };
                    self.outgoing.insert(to, Outgoing { given, asked: now });
                }
                None => {
                    messages.remove(at);
                    self.member.replica.snapshot_ended(to, false);
                }
            }
        }
    }

    /// A member has taken its snapshot.
    pub(super) fn given(&mut self, to: u64) {
        if self.outgoing.remove(&to).is_some() {
            self.member.replica.snapshot_ended(to, true);
        }
    }

    /// Gives up what nobody asks for; only leaders give.
    pub(super) fn tend_outgoing(&mut self, now: i64) {
        let leads = self.member.replica.leads();
        let mut given_up = Vec::new();
        self.outgoing.retain(|to, outgoing| {
            let alive = leads && now - outgoing.asked < IDLE;
            given_up.extend((!alive).then_some(*to));
            alive
        });
        given_up.into_iter().for_each(|to| self.member.replica.snapshot_ended(to, false));
    }

    /// This member lacks what the leader's log no longer has.
    pub(super) fn offered(&mut self, message: &PeerMessage, host: &Host, stage: &mut Stage, jobs: &mut Vec<Job>) {
        let replica = &self.member.replica;
        let Some(intake) = Intake::begin(message, host.id, &replica.hard_state(), replica.last().index) else { return };
        if replica.has(intake.place()) {
            return;
        }
        if self.taking.as_ref().is_some_and(|taking| (taking.intake.from, taking.intake.index()) == (intake.from, intake.index())) {
            return;
        }
        stage.say(|| format!("n{} takes a snapshot of shard {} at {}", host.node, self.shard.0, intake.index()));
        // Raft may also go back too far, after refusals that came late: then the log has what this one lacks.
        let lacks = stage.begins.get(&(self.shard, message.from)).is_some_and(|begins| replica.last().index < *begins);
        if lacks && stage.shape.away == PATIENT && stage.shape.theme != Theme::Seats && !stage.ledger.pressed {
            stage.broken(format!("shard {}: n{} needs a snapshot, and was not away", self.shard.0, host.node));
        }
        self.give_up_taking(stage, jobs);
        self.taking = Some(Taking { intake, asking: false, again: self.mono(host, stage), staged: false });
    }

    fn give_up_taking(&mut self, stage: &mut Stage, jobs: &mut Vec<Job>) {
        if let Some(taking) = self.taking.take().filter(|taking| taking.staged) {
            self.write(Op::Unstage(taking.intake.own_end()), stage, jobs);
        }
    }

    /// An answer to what was asked for.
    pub(super) fn piece(&mut self, answer: Option<Vec<u8>>, host: &Host, stage: &mut Stage, jobs: &mut Vec<Job>) {
        let now = self.mono(host, stage);
        let Some(taking) = &mut self.taking else { return };
        taking.asking = false;
        let Some(bytes) = answer else {
            taking.again = now + AGAIN;
            return;
        };
        match taking.intake.take(&bytes) {
            Ok(ops) => {
                taking.staged = true;
                if stage.shape.slow_piece > 0 {
                    taking.again = now + stage.random.i64(0..stage.shape.slow_piece);
                }
                ops.into_iter().for_each(|op| self.write(op, stage, jobs));
                stage.strikes(host.node, Moment::AfterPiece);
            }
            Err(why) => {
                stage.say(|| format!("n{} cannot take a snapshot of shard {}: {why}", host.node, self.shard.0));
                taking.again = now + IDLE;
            }
        }
    }

    /// Asks for the next piece; once all is there and nothing of the member's own is on its way to the disk, it goes on from the snapshot.
    pub(super) fn take_snapshot(&mut self, host: &Host, stage: &mut Stage, jobs: &mut Vec<Job>) {
        let now = self.mono(host, stage);
        let late: Vec<u64> = self.asked.1.iter().filter(|(_, asked)| now - **asked >= PATIENCE).map(|(number, _)| *number).collect();
        late.into_iter().for_each(|number| self.piece_arrived(number, None));
        if self.taking.as_ref().is_some_and(|taking| self.member.replica.has(taking.intake.place())) {
            return self.give_up_taking(stage, jobs);
        }
        let Some(taking) = self.taking.as_mut().filter(|taking| !taking.asking && taking.again <= now) else { return };
        let early =
            |request: &Request| stage.has(Bug::InstalledEarly) && matches!(request, Request::Piece(_, (part, _)) if *part != Part::Image);
        if let Some(request) = taking.intake.wants().filter(|request| !early(request)) {
            taking.asking = true;
            let from = taking.intake.from;
            self.ask_giver(from, request, host, stage);
            return;
        }
        if self.member.replica.writes_open() > 0 {
            return;
        }
        let Some(Taking { intake, .. }) = self.taking.take() else { return };
        let (from, index) = (intake.from, intake.index());
        let (known, image, install) = intake.finish(self.member.replica.hard_state());
        let (shard, id) = (self.shard, host.id);
        let disk = ShardDisk { disk: std::rc::Rc::clone(&host.disk), shard };
        let begin = Begin { shard, id, disk, known, image: Some(image), limits: limits(&stage.shape), entropy: entropy(id, shard) };
        match Member::open(begin) {
            Ok(member) => self.member = member,
            Err(error) => return stage.broken(format!("n{} cannot go on from a snapshot: {error}", host.node)),
        }
        self.member.replica.begins_unsynced();
        self.write(install, stage, jobs);
        (self.keeper, self.persisted, self.mail.persisted, self.recent) = (Keeper::new(), 0, 0, BTreeMap::new());
        stage.say(|| format!("n{} has taken the snapshot of shard {} at {index}", host.node, shard.0));
        stage.ledger.state(shard, index, self.member.state.state_hash());
        stage.ledger.snapshots += 1;
        self.ask_giver(from, Request::Taken(index), host, stage);
    }

    fn ask_giver(&mut self, from: u64, request: Request, host: &Host, stage: &mut Stage) {
        let (number, open) = &mut self.asked;
        *number += 1;
        if matches!(request, Request::Piece(..)) {
            open.insert(*number, host.mono(stage.now) - self.started);
        }
        let back = Taker { id: host.id, boot: host.boot, number: *number };
        stage.send_to(host.node, from, Mail::Fetch { shard: self.shard, request: request.encode(), back });
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

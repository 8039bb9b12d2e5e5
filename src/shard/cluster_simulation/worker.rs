//! A shard's thread on one node: `node::worker` without threads. Mail, ticks, proposals, housekeeping (`keeper`), then the member's turn, whose
//! operations go to the writer and whose applied entries answer those who wait, in the order of `node`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::sync::Arc;

use super::bugs::Bug;
use super::keeper::Keeper;
use super::process::Host;
use super::process::Job;
use super::sink::Sink;
use super::snapshots::Outgoing;
use super::snapshots::Taking;
use super::stage::Back;
use super::stage::Moment;
use super::stage::Stage;
use crate::dedup::detect::Detector;
use crate::model::ShardId;
use crate::shard::command::Command;
use crate::shard::command::SwitchTo;
use crate::shard::emission::Emission;
use crate::shard::entry;
use crate::shard::entry::Entry;
use crate::shard::member::Done;
use crate::shard::member::Member;
use crate::shard::member::Op;
use crate::shard::member::State;
use crate::shard::member::Turn;
use crate::shard::member::simulation::Record;
use crate::shard::replica::INSTALLED;
use crate::shard::replica::PeerMessage;
use crate::wire::digest::Digest;

use super::disk::ShardDisk;
use super::stage::Mail;
use raft::eraftpb::MessageType;

/// Raft's tick, ms; and how many are caught up after a stall (`node::worker`).
pub const TICK: i64 = 100;
const MOST_TICKS: u32 = 5;
/// Emissions kept in memory: few, so that sinks that are behind read the disk.
const RECENT: usize = 8;

/// An offer that waits to be proposed.
pub struct Offer {
    pub encoded: Vec<u8>,
    pub back: Back,
}

/// What waits for the shard.
#[derive(Default)]
pub struct Waiting {
    pub raft: Vec<(u64, PeerMessage)>,
    pub offers: Vec<Offer>,
    pub commands: Vec<Command>,
    pub persisted: u64,
    /// Members that have taken their snapshot.
    pub taken: BTreeSet<u64>,
    /// The answer to the one piece of a snapshot that was asked for.
    pub piece: Option<Option<Vec<u8>>>,
}

/// One shard's part of a process.
pub struct Worker {
    pub shard: ShardId,
    pub member: Member<ShardDisk>,
    pub mail: Waiting,
    /// When it goes on next.
    pub turn_at: i64,
    pub sinks: Vec<Sink>,
    pub(super) keeper: Keeper,
    pub(super) detector: Detector,
    pub(super) recent: BTreeMap<u64, Arc<Emission>>,
    /// What became dead letters since the process began: sink, emission, item.
    pub(super) letters: BTreeSet<(String, u64, u32)>,
    backlog: VecDeque<Offer>,
    waiters: BTreeMap<u64, (u64, Back)>,
    pub(super) persisted: u64,
    /// A snapshot that this member takes, those that it gives, and what was asked for and is not answered: number and time.
    pub(super) taking: Option<Taking>,
    pub(super) outgoing: BTreeMap<u64, Outgoing>,
    pub(super) asked: (u64, BTreeMap<u64, i64>),
    /// When the process began, by the node's clock; from then on its own counts.
    pub(super) started: i64,
    ticked: i64,
}

impl Worker {
    pub fn new(shard: ShardId, member: Member<ShardDisk>, host: &Host, stage: &Stage) -> Worker {
        let sinks = if shard == ShardId::CONTROL { 0 } else { stage.shape.sinks };
        Worker {
            shard,
            member,
            mail: Waiting::default(),
            turn_at: i64::MAX,
            sinks: (0..sinks).map(Sink::new).collect(),
            keeper: Keeper::new(),
            detector: Detector::new(),
            recent: BTreeMap::new(),
            letters: BTreeSet::new(),
            backlog: VecDeque::new(),
            waiters: BTreeMap::new(),
            persisted: 0,
            taking: None,
            outgoing: BTreeMap::new(),
            asked: Default::default(),
            started: host.mono(stage.now),
            ticked: 0,
        }
    }

    /// One turn; what the writer has to do.
    pub fn turn(&mut self, host: &Host, stage: &mut Stage) -> Vec<Job> {
        let mut jobs = Vec::new();
        self.inputs(host, stage, &mut jobs);
        self.take_snapshot(host, stage, &mut jobs);
        self.keep(host, stage, &mut jobs);
        let mut turn = Turn::default();
        if let Err(error) = self.member.turn(&mut turn) {
            stage.broken(format!("n{} shard {}: {error}", host.node, self.shard.0));
            return jobs;
        }
        self.carry_out(turn, host, stage, &mut jobs);
        jobs
    }

    fn inputs(&mut self, host: &Host, stage: &mut Stage, jobs: &mut Vec<Job>) {
        let (mono, mut ticks) = (self.mono(host, stage), 0);
        while self.ticked + TICK <= mono {
            self.ticked += TICK;
            if ticks < MOST_TICKS {
                ticks += 1;
                self.member.replica.tick();
            }
        }
        let mail = std::mem::take(&mut self.mail);
        if mail.persisted > self.persisted {
            self.persisted = mail.persisted;
            self.member.replica.persisted(mail.persisted);
        }
        for (floor, message) in mail.raft {
            self.member.replica.learn_floor(floor);
            self.offered(&message, host, stage, jobs);
            self.member.replica.step(message);
        }
        mail.taken.into_iter().for_each(|peer| self.given(peer));
        if let Some(answer) = mail.piece {
            self.piece(answer, host, stage, jobs);
        }
        let at = self.at(host, stage);
        for mut command in mail.commands {
            let uncounted = matches!(command, Command::Drop(_)) && stage.has(Bug::CutUncounted);
            if !uncounted && self.complete(&mut command, host).is_none() {
                continue;
            }
            let asked = Entry::Command(command);
            if stage.has(Bug::AskedTooSoon) {
                let mut encoded = Vec::new();
                entry::encode(at, &asked, &mut encoded);
                let _ = self.member.replica.propose(encoded, true);
            } else {
                let _ = self.member.propose(at, &asked);
            }
        }
        self.backlog.extend(mail.offers);
        while let Some(offer) = self.backlog.pop_front() {
            if let Some(later) = self.offer(at, offer, host, stage) {
                self.backlog.push_front(later);
                break;
            }
        }
    }

    /// The time for entries proposed now.
    pub(super) fn at(&mut self, host: &Host, stage: &mut Stage) -> i64 {
        let (mono, wall) = (self.mono(host, stage), host.wall(stage.now));
        let believed = !stage.clock_is_off(host.node);
        if believed && self.member.replica.leads() {
            stage.ledger.believes(wall);
        }
        if stage.has(Bug::ClockBehind) {
            return wall;
        }
        self.member.stamp(mono, (believed || stage.has(Bug::WrongClockBelieved)).then_some(wall))
    }

    /// The process' clock that never goes back.
    pub(super) fn mono(&self, host: &Host, stage: &Stage) -> i64 {
        host.mono(stage.now) - self.started
    }

    /// Proposes an offer, or refuses it, or gives it back: later.
    fn offer(&mut self, at: i64, mut offer: Offer, host: &Host, stage: &mut Stage) -> Option<Offer> {
        let mono = self.mono(host, stage);
        let State::Data(data) = &self.member.state else { return None };
        let parsed = entry::parse(&offer.encoded).map(|stamped| stamped.entry);
        let Ok(Entry::Samples(samples)) = parsed else { return None };
        if self.member.replica.leads() && !self.member.replica.leads_surely() {
            return Some(offer);
        }
        let over_budget = self.keeper.refuses;
        if !self.member.replica.leads() || samples.settings != data.settings.version || host.is_full(stage.now) || over_budget {
            host.answer(offer.back, false, stage);
            return None;
        }
        let from_leader = data.leads(samples.group, samples.replica);
        if let Ok(digest) = Digest::parse(samples.digest) {
            self.detector.observe(samples.group, samples.replica, (mono as u64, at), digest.iter());
        }
        match self.member.propose_samples(at, from_leader, std::mem::take(&mut offer.encoded)) {
            Ok(_) if stage.has(Bug::AnsweredBeforeCommit) => host.answer(offer.back, true, stage),
            Ok(place) => drop(self.waiters.insert(place.index, (place.term, offer.back))),
            Err(_) => host.answer(offer.back, false, stage),
        }
        None
    }

    fn carry_out(&mut self, mut turn: Turn, host: &Host, stage: &mut Stage, jobs: &mut Vec<Job>) {
        self.unstage_before(&mut turn.ops);
        self.give(&mut turn.messages, host, stage);
        let term = self.member.replica.hard_state().term;
        if self.member.replica.leads() && stage.ledger.leads(self.shard, term, host.id) {
            stage.say(|| format!("n{} leads shard {} in term {term}", host.node, self.shard.0));
            self.hurry(stage);
        }
        if stage.strikes(host.node, Moment::BeforeSend) {
            return;
        }
        self.post(turn.messages, host, stage);
        if stage.strikes(host.node, Moment::BeforeWrite) {
            return;
        }
        self.keeper.changed |= turn.changed;
        for op in turn.ops {
            self.write(op, stage, jobs);
        }
        self.applied(&turn.done, host, stage);
        turn.done.iter().for_each(|done| self.answer(done, host, stage));
        if !self.member.replica.leads() {
            for (_, back) in std::mem::take(&mut self.waiters).into_values() {
                host.answer(back, stage.has(Bug::AnsweredOnLoss), stage);
            }
        }
        if !turn.done.is_empty() {
            stage.strikes(host.node, Moment::AfterApply);
        }
    }

    /// Somebody wants something of a new leader before it has applied what its predecessor left.
    fn hurry(&mut self, stage: &mut Stage) {
        if self.shard != ShardId::CONTROL && !stage.healed && stage.one_in(3) {
            let group = format!("g{}", stage.random.usize(..stage.shape.groups.len()));
            let to = ["a", "b"][stage.random.usize(..2)].to_owned();
            self.mail.commands.push(Command::Switch(SwitchTo { group, to, reason: "trial".into(), ..SwitchTo::default() }));
        }
    }

    fn post(&mut self, messages: Vec<PeerMessage>, host: &Host, stage: &mut Stage) {
        let floor = self.member.replica.floor();
        for message in messages {
            let voted = message.msg_type() == MessageType::MsgRequestVoteResponse && !message.reject;
            stage.send_to(host.node, message.to, Mail::Raft { shard: self.shard, floor, message: Box::new(message) });
            if voted {
                stage.strikes(host.node, Moment::AfterVote);
            }
        }
    }

    pub(super) fn write(&mut self, op: Op, stage: &mut Stage, jobs: &mut Vec<Job>) {
        let (mut log, mut vote, mut sync) = (None, false, false);
        match &op {
            Op::Log(write) => (log, vote) = (Some(write.number), write.promise && write.entries.is_empty()),
            Op::Free(_) => sync = true,
            Op::Install(_) => log = Some(INSTALLED),
            Op::Image(image) => self.keeper.image_taken(image.index),
            Op::Emission(emission) => {
                stage.ledger.emitted(self.shard, emission);
                self.recent.insert(emission.number, Arc::clone(emission));
                if self.recent.len() > RECENT {
                    self.recent.pop_first();
                }
            }
            Op::Dead(_, letter, _) => drop(self.letters.insert((letter.sink.clone(), letter.emission, letter.item))),
            _ => {}
        }
        if matches!(op, Op::Copy(_)) && stage.has(Bug::BodyNotCopied) {
            return;
        }
        if let Some(record) = Record::of(op) {
            jobs.push(Job { shard: self.shard, record, log, vote, sync });
        }
    }

    /// Holds what was applied against the ledger.
    fn applied(&mut self, done: &[Done], host: &Host, stage: &mut Stage) {
        for done in done {
            let disk = host.disk.borrow();
            let Some(bytes) = disk.shard(self.shard).entry(done.place.index) else {
                stage.broken(format!("shard {}: entry {} was applied and is not on the disk", self.shard.0, done.place.index));
                return;
            };
            stage.ledger.applied(self.shard, done.place, bytes);
        }
        if done.is_empty() {
            return;
        }
        if let State::Data(data) = &mut self.member.state
            && stage.has(Bug::ApplyReadsClock)
        {
            data.at = data.at.max(host.wall(stage.now));
        }
        let (index, hash) = (self.member.state.applied(), self.member.state.state_hash());
        stage.trace.fact(&[u64::from(self.shard.0), index, hash]);
        stage.ledger.state(self.shard, index, hash);
    }

    fn answer(&mut self, done: &Done, host: &Host, stage: &mut Stage) {
        if let Some((term, back)) = self.waiters.remove(&done.place.index) {
            host.answer(back, term == done.place.term, stage);
        }
    }

    /// Fills in what only the shard's leader knows; `None`: it does not.
    fn complete(&self, command: &mut Command, host: &Host) -> Option<()> {
        match command {
            Command::Cursor(moved) => moved.samples = self.samples_up_to(moved.emission, host)?,
            Command::Drop(cut) => cut.samples = self.samples_up_to(cut.up_to, host)?,
            _ => {}
        }
        Some(())
    }

    fn samples_up_to(&self, number: u64, host: &Host) -> Option<u64> {
        let State::Data(data) = &self.member.state else { return None };
        match (self.emission(number, host), self.emission(number + 1, host)) {
            _ if number == 0 => Some(0),
            (Some(emission), _) => Some(emission.samples_after()),
            (None, Some(next)) => Some(next.samples_before),
            (None, None) => (data.emissions == number).then_some(data.samples),
        }
    }

    /// One emission, from memory or from the disk.
    pub fn emission(&self, number: u64, host: &Host) -> Option<Arc<Emission>> {
        let recent = self.recent.get(&number).cloned();
        recent.or_else(|| host.disk.borrow().shard(self.shard).emissions.get(&number).cloned().map(Arc::new))
    }
}

//! A shard's thread: takes what waits, lets the member decide, carries out what it says. The only place where offers become entries.
//!
//! One turn: mail, ticks, proposals, housekeeping (`keeper`), then the member's turn, whose operations go to the writer as one batch and whose
//! applied entries answer those who wait. It blocks only in its mailbox and, when the writer is behind, in front of the writer.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::oneshot;

use crate::clock;
use crate::failpoint;
use crate::model::ShardId;
use crate::node::detection::Watched;
use crate::node::group_limits::Meters;
use crate::node::group_limits::Ruling;
use crate::node::history;
use crate::node::keeper::Keeper;
use crate::node::lane::Lane;
use crate::node::leadership::Unsynced;
use crate::node::mailbox::Ask;
use crate::node::mailbox::Mail;
use crate::node::mailbox::Queued;
use crate::node::mailbox::Wanted;
use crate::node::offer::Applied;
use crate::node::offer::OfferError;
use crate::node::offer::ProposeError;
use crate::node::packed::Packed;
use crate::node::packed::op_bytes;
use crate::node::settings::Timing;
use crate::node::shared::Shared;
use crate::node::snapshots::Taking;
use crate::node::snapshots::pack_snapshot;
use crate::node::writer::Job;
use crate::shard::command::Command;
use crate::shard::emission::Emission;
use crate::shard::entry;
use crate::shard::entry::Entry;
use crate::shard::log::Disk;
use crate::shard::log::to_stored;
use crate::shard::member::Done;
use crate::shard::member::Member;
use crate::shard::member::Op;
use crate::shard::member::State;
use crate::shard::member::Turn;
use crate::shard::replica::INSTALLED;
use crate::shard::replica::Refused;
use crate::shard::replica::Write;
use crate::store::Family;
use crate::store::Store;
use crate::store::mark::Promise;
use crate::wire::body::Body;

/// A batch is handed to the writer when it has grown to this: a switch may copy a minute of bodies.
const BATCH_BYTES: usize = 8 << 20;
/// How long a stopping shard waits for what it has proposed.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// So long those who wait for entries of a lost leadership are let wait: whoever leads next usually has the entries and commits them.
const MAY_COME: Duration = Duration::from_secs(2);
/// How long of it a leader waits for its successor.
const HAND_OVER: Duration = Duration::from_secs(1);
/// After a stall (of the disk, of the machine) at most so many ticks are caught up: fewer than an election takes, since peers' messages that
/// came meanwhile have not been read yet.
const MOST_TICKS: u32 = 5;
/// Requests that may wait for leadership to settle, beside those in the mailbox.
const MOST_HELD: usize = 1024;

/// The log on the store, as a replica reads it.
pub(super) struct ShardDisk {
    pub store: Arc<Store>,
    pub shard: ShardId,
}

impl Disk for ShardDisk {
    fn stored(&self, low: u64, high: u64, most_bytes: u64) -> Result<Vec<Vec<u8>>, String> {
        self.store.log(self.shard, low, high, most_bytes).map_err(|error| error.to_string())
    }
}

enum Reply {
    Offer {
        reply: oneshot::Sender<Result<(), OfferError>>,
        struck: Option<OfferError>,
        unpacked: Option<Arc<Body>>,
        _claim: Option<Box<dyn Send + Sync>>,
    },
    Ask(Option<oneshot::Sender<Result<Applied, ProposeError>>>),
}

struct Waiter {
    term: u64,
    reply: Reply,
}

/// One shard's thread.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) lane: Arc<Lane>,
    pub(super) member: Member<ShardDisk>,
    pub(super) keeper: Keeper,
    pub(super) watched: Watched,
    pub(super) meters: Meters,
    pub(super) timing: Timing,
    pub(super) started: Instant,
    backlog: VecDeque<Queued>,
    /// Asked while leadership settles: proposed, or refused, when it has.
    held: VecDeque<Ask>,
    waiters: BTreeMap<u64, Waiter>,
    pub(super) persisted: u64,
    /// Writes that wait for their sync.
    pub(super) unsynced: Unsynced,
    /// A snapshot that this member takes.
    pub(super) taking: Option<Taking>,
    ticked: Instant,
    stop_by: Option<Instant>,
    /// Since when this member does not lead, and somebody still waits.
    lost: Option<Instant>,
    handing_over: bool,
    pub(super) weighed: (Instant, u64), // bytes of log since then
}

impl Worker {
    pub fn new(shared: Arc<Shared>, lane: Arc<Lane>, member: Member<ShardDisk>, timing: Timing) -> Worker {
        let now = clock::now();
        Worker {
            shared,
            lane,
            member,
            keeper: Keeper::new(now),
            watched: Watched::default(),
            meters: Meters::default(),
            timing,
            started: now,
            backlog: VecDeque::new(),
            held: VecDeque::new(),
            waiters: BTreeMap::new(),
            persisted: 0,
            unsynced: Unsynced::default(),
            taking: None,
            ticked: now,
            stop_by: None,
            lost: None,
            handing_over: false,
            weighed: (now, 0),
        }
    }

    /// The thread; says what it had to abort.
    pub fn run(mut self) -> Vec<String> {
        // raft-rs panics where it cannot go on; that ends the node as any other failure does, with the same words.
        let worked = catch_unwind(AssertUnwindSafe(|| self.work()));
        let shard = self.lane.shard.0;
        match worked {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.shared.fatal.end(format!("shard {shard}: {error}")),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
                let error = self.member.replica.failed().unwrap_or_else(|| text.unwrap_or("a panic").to_owned());
                self.shared.fatal.end(format!("shard {shard}: {error}"));
            }
        }
        self.lane.mailbox.stop();
        let mut aborted = Vec::new();
        if !self.waiters.is_empty() {
            aborted.push(format!("shard {shard}: {} requests whose entries were not committed in time", self.waiters.len()));
        }
        aborted
    }

    fn work(&mut self) -> Result<(), String> {
        loop {
            let mail = self.lane.mailbox.take(self.pause());
            if self.shared.fatal.reason().is_some() {
                return Ok(());
            }
            let now = clock::now();
            self.lane.turned.beat(now);
            self.inputs(mail, now)?;
            self.take_snapshot(now)?;
            self.keep(now)?;
            let mut turn = Turn::default();
            self.mind_listeners();
            self.advance(&mut turn)?;
            self.carry_out(turn)?;
            if self.stop_by.is_some_and(|by| self.has_stopped(by, now)) {
                return Ok(());
            }
        }
    }

    fn pause(&self) -> Duration {
        (self.ticked + self.timing.tick).saturating_duration_since(clock::now())
    }

    fn inputs(&mut self, mail: Mail, now: Instant) -> Result<(), String> {
        let mut ticks = 0;
        while self.ticked + self.timing.tick <= now {
            self.ticked += self.timing.tick;
            if ticks < MOST_TICKS {
                ticks += 1;
                self.member.replica.tick();
            }
        }
        if mail.persisted > self.persisted {
            self.persisted = mail.persisted;
            self.member.replica.persisted(mail.persisted);
            self.unsynced.synced(mail.persisted);
        }
        self.mind_disk(now);
        for (floor, message) in mail.messages {
            self.member.replica.learn_floor(floor);
            if !self.has_room_for(&message) {
                continue;
            }
            self.offered(&message)?;
            self.member.replica.step(message);
        }
        mail.unreachable.into_iter().for_each(|peer| self.member.replica.unreachable(peer));
        mail.taken.into_iter().for_each(|peer| self.given(peer));
        if let Some(answer) = mail.piece {
            self.piece(answer, now)?;
        }
        let at = self.at(now);
        self.held.extend(mail.asks);
        for ask in std::mem::take(&mut self.held) {
            self.ask((now, at), ask);
        }
        self.backlog.extend(mail.offers);
        if mail.stop && self.stop_by.is_none() {
            self.stop_by = Some(now + STOP_WAIT);
        }
        while let Some(offer) = self.backlog.pop_front() {
            let bytes = offer.encoded.len();
            if let Some(later) = self.offer((now, at), offer) {
                self.backlog.push_front(later);
                break;
            }
            self.lane.mailbox.left(bytes);
        }
        Ok(())
    }

    /// The time for entries proposed now.
    pub(super) fn at(&mut self, now: Instant) -> i64 {
        let mono = (now - self.started).as_millis() as i64;
        self.member.stamp(mono, self.shared.trusted_wall_ms())
    }

    /// Proposes an offer, or refuses it, or gives it back: later.
    fn offer(&mut self, (now, at): (Instant, i64), mut offer: Queued) -> Option<Queued> {
        let State::Data(data) = &self.member.state else {
            let _ = offer.reply.send(Err(OfferError::Unassigned));
            return None;
        };
        let refusal = if self.stop_by.is_some() {
            Some(OfferError::Stopping)
        } else if !self.member.replica.leads() {
            Some(OfferError::NotLeader { shard: self.lane.shard.0, leader: self.member.replica.leader() })
        } else if self.member.replica.is_settling() {
            return Some(offer);
        } else if offer.settings != data.settings.version {
            Some(OfferError::Settings { offered: offer.settings, applied: data.settings.version })
        } else {
            None
        };
        if let Some(error) = refusal {
            self.lane.refused(error.reason());
            let _ = offer.reply.send(Err(error));
            return None;
        }
        let from_leader = data.leads(&offer.group, &offer.replica);
        let uncommitted = self.member.replica.uncommitted_bytes() as u64;
        let limits = &self.shared.settings.limits;
        // Asked here first, so that an offer that has to wait keeps its bytes.
        if self.member.replica.leads()
            && uncommitted > 0
            && uncommitted + offer.encoded.len() as u64 > limits.uncommitted_bytes - limits.reserved_bytes
        {
            return Some(offer);
        }
        let mut taken = match self.limit(now, &mut offer) {
            Ruling::Take(taken) => taken,
            Ruling::Wait => return Some(offer),
            Ruling::Refuse(error) => {
                let _ = offer.reply.send(Err(error));
                return None;
            }
        };
        self.observe((now, at), &offer);
        let encoded = std::mem::take(&mut offer.encoded);
        match self.member.propose_samples(at, from_leader, encoded) {
            Ok(place) => {
                let struck = taken.struck.take();
                let reply = Reply::Offer { reply: offer.reply, struck, unpacked: offer.unpacked, _claim: offer.claim };
                self.meters.proposed(&offer.group, place.index, taken);
                self.waiters.insert(place.index, Waiter { term: place.term, reply });
            }
            Err(refused) => {
                let error = match refused {
                    Refused::NotLeader(leader) => OfferError::NotLeader { shard: self.lane.shard.0, leader },
                    Refused::Full => OfferError::Overloaded { reason: "log" },
                };
                self.lane.refused(error.reason());
                let _ = offer.reply.send(Err(error));
            }
        }
        None
    }

    fn ask(&mut self, (now, at): (Instant, i64), ask: Ask) {
        let hint = matches!(ask.wanted, Wanted::Evidence(_));
        if self.member.replica.is_settling() && self.stop_by.is_none() && !hint {
            // What nobody waits for is best effort, and is said again.
            if ask.reply.is_some() && self.held.len() < MOST_HELD {
                self.held.push_back(ask);
            } else if let Some(reply) = ask.reply {
                let _ = reply.send(Err(ProposeError::Busy(self.lane.shard.0)));
            }
            return;
        }
        let Ask { wanted, reply } = ask;
        let shard = self.lane.shard.0;
        let command = match wanted {
            _ if self.stop_by.is_some() => Err(ProposeError::Stopping),
            Wanted::Command(mut command) => self.complete(&mut command).map(|()| command).map_err(ProposeError::Void),
            Wanted::StepDown(group) => self.step_down(now, &group).map_err(ProposeError::Void),
            Wanted::HandOver(to) => {
                let begun = self.hand_over_as_asked(to);
                return reply.into_iter().for_each(|reply| drop(reply.send(begun.clone())));
            }
            Wanted::Evidence(evidence) => return self.weigh_evidence(now, evidence),
        };
        let proposed = command.and_then(|command| {
            self.member.propose(at, &Entry::Command(command)).map_err(|refused| match refused {
                Refused::NotLeader(_) => ProposeError::NotLeader(shard),
                Refused::Full => ProposeError::Busy(shard),
            })
        });
        match (proposed, reply) {
            (Ok(place), reply) => drop(self.waiters.insert(place.index, Waiter { term: place.term, reply: Reply::Ask(reply) })),
            (Err(error), Some(reply)) => drop(reply.send(Err(error))),
            (Err(_), None) => {}
        }
    }

    /// Fills in what only the shard's leader knows.
    fn complete(&self, command: &mut Command) -> Result<(), String> {
        match command {
            Command::Cursor(moved) => moved.samples = self.samples_up_to(moved.emission)?,
            Command::Epoch(epoch) => epoch.samples = self.samples_up_to(epoch.emission)?,
            Command::Drop(drop) => drop.samples = self.samples_up_to(drop.up_to)?,
            _ => {}
        }
        Ok(())
    }

    /// Samples emitted up to and with an emission.
    pub(super) fn samples_up_to(&self, number: u64) -> Result<u64, String> {
        if number == 0 {
            return Ok(0);
        }
        // It may have gone already, but then the next one has not.
        if let Some(emission) = self.emission(number)? {
            return Ok(emission.samples_after());
        }
        let next = self.emission(number + 1)?.map(|emission| emission.samples_before);
        match (next, &self.member.state) {
            (Some(samples), _) => Ok(samples),
            (None, State::Data(data)) if data.emissions == number => Ok(data.samples),
            _ => Err(format!("emission {number} is not kept")),
        }
    }

    /// One emission, from memory or from the disk.
    pub(super) fn emission(&self, number: u64) -> Result<Option<Arc<Emission>>, String> {
        if let Some(found) = self.lane.recent(number - 1, 1).and_then(|found| found.into_iter().next()) {
            return Ok(Some(found));
        }
        let stored = self.shared.store.get(Family::Emissions, self.lane.shard, number).map_err(|error| error.to_string())?;
        stored.map(|bytes| Emission::decode(&bytes).map(Arc::new).map_err(|error| format!("emission {number}: {error}"))).transpose()
    }

    pub(super) fn carry_out(&mut self, turn: Turn) -> Result<(), String> {
        let Turn { mut messages, mut ops, done, counts: _, changed, fates } = turn;
        self.tell_fates(fates);
        self.unstage_before(&mut ops);
        self.give(&mut messages)?;
        // Promises among them rest on what is durable already: the replica holds them back until then.
        if let Some(together) = self.shared.together.as_ref().filter(|_| !messages.is_empty()) {
            failpoint::reach(failpoint::Place::MessagesUnsent);
            together.peers.send(self.lane.shard, self.member.replica.floor(), messages);
            failpoint::reach(failpoint::Place::MessagesSent);
        }
        self.keeper.changed |= changed;
        let bytes = ops.iter().map(op_bytes).sum::<usize>().min(BATCH_BYTES * 2);
        let shared = Arc::clone(&self.shared);
        let mut packed = Packed::new(&shared.store, bytes);
        for op in ops {
            self.pack(&mut packed, op)?;
            if packed.bytes >= BATCH_BYTES {
                self.submit(std::mem::replace(&mut packed, Packed::new(&shared.store, BATCH_BYTES)));
            }
        }
        self.submit(packed);
        let any = !done.is_empty();
        done.into_iter().for_each(|done| self.answer(done));
        self.abandon_if_lost();
        let replica = &self.member.replica;
        if any || self.keeper.leads != replica.leads_surely() || self.keeper.leader != replica.leader().unwrap_or(0) {
            self.publish();
        }
        Ok(())
    }

    fn pack(&mut self, packed: &mut Packed<'_>, op: Op) -> Result<(), String> {
        let shard = self.lane.shard;
        packed.bytes += op_bytes(&op);
        let batch = &mut packed.batch;
        match op {
            Op::Log(write) => self.pack_log(packed, &write),
            Op::Emission(emission) => {
                batch.put(Family::Emissions, shard, emission.number, &emission.encode());
                packed.emissions = emission.number;
                self.lane.push(emission);
            }
            Op::Copy(index) => {
                batch.copy(shard, index).map_err(|error| error.to_string())?;
                packed.bytes += 64 << 10; // as a body usually is: it is read only now
            }
            Op::Dead(number, letter, below) => {
                batch.put(Family::Dead, shard, number, &letter.encode());
                batch.delete(Family::Dead, shard, 0, below);
            }
            Op::Closed(closed) => history::pack(packed, &self.shared, &closed)?,
            Op::Resent(numbers) => numbers.iter().for_each(|number| batch.delete(Family::Dead, shard, *number, number + 1)),
            Op::Image(image) => {
                failpoint::reach(failpoint::Place::ImageMade);
                let hard = &image.hard_state;
                batch.image(shard, image.index, &image.sealed);
                batch.hard_state(shard, hard.term, hard.vote, hard.commit);
                self.keeper.image_taken(image.index);
                self.lane.image_taken(image.index, &image.sealed);
            }
            Op::Members(members, hard) => {
                failpoint::reach(failpoint::Place::MembersCommitted);
                batch.members(shard, &members);
                batch.hard_state(shard, hard.term, hard.vote, hard.commit);
            }
            Op::Free(free) => {
                batch.cut(shard, free.truncated.index, free.truncated.term);
                batch.delete(Family::LogStandby, shard, 0, free.standby_below);
                batch.delete(Family::LogLeader, shard, 0, free.leader_below);
                batch.delete(Family::Emissions, shard, 0, free.emissions_below);
                let ranges = [
                    (Family::LogStandby, free.standby_below),
                    (Family::LogLeader, free.leader_below),
                    (Family::Emissions, free.emissions_below),
                ];
                packed.free = Some(ranges.to_vec());
            }
            Op::Install(install) => {
                let (hard, last) = (&install.hard_state, install.place);
                let promise = Promise { term: hard.term, vote: hard.vote, last_term: last.term, last_index: last.index };
                self.unsynced.handed_out(INSTALLED, clock::now());
                (packed.log, packed.promise) = (Some((INSTALLED, promise)), true);
                pack_snapshot(batch, shard, Op::Install(install));
            }
            Op::Staged(_) | Op::Stage(..) | Op::Unstage(_) => pack_snapshot(batch, shard, op),
        }
        Ok(())
    }

    fn pack_log(&mut self, packed: &mut Packed<'_>, write: &Write) {
        let (shard, batch) = (self.lane.shard, &mut packed.batch);
        if let Some((from, to)) = write.void {
            batch.void(shard, from, to);
        }
        for &(index, term) in &write.terms {
            batch.term(shard, index, term);
        }
        for log_entry in &write.entries {
            let stored = to_stored(log_entry);
            let family = if entry::is_from_leader(&stored) { Family::LogLeader } else { Family::LogStandby };
            batch.put(family, shard, log_entry.index, &stored);
            self.keeper.logged += stored.len() as u64;
            self.weighed.1 += stored.len() as u64;
        }
        let hard = &write.hard_state;
        batch.hard_state(shard, hard.term, hard.vote, hard.commit);
        let promise = Promise { term: hard.term, vote: hard.vote, last_term: write.last.term, last_index: write.last.index };
        self.unsynced.handed_out(write.number, clock::now());
        packed.log = Some((write.number, promise));
        packed.promise |= write.promise;
    }

    pub(super) fn submit(&self, packed: Packed<'_>) {
        let Packed { batch, log, promise, free, emissions, .. } = packed;
        let batch = batch.seal();
        if !batch.is_empty() || log.is_some() {
            self.shared.writer.submit(Job { lane: Arc::clone(&self.lane), batch, log, promise, free, emissions });
        }
    }

    fn answer(&mut self, done: Done) {
        let Done { place, void, shard, emitted } = done;
        let Some(Waiter { term, reply }) = self.waiters.remove(&place.index) else { return };
        failpoint::reach(failpoint::Place::AppliedUnanswered);
        let ours = term == place.term;
        match reply {
            Reply::Offer { reply, struck, unpacked, _claim } => {
                let answer =
                    if ours { struck.map_or(Ok(()), Err) } else { Err(OfferError::NotLeader { shard: self.lane.shard.0, leader: None }) };
                let _ = reply.send(answer);
                if let Some(body) = unpacked.filter(|_| ours && emitted) {
                    self.shared.bodies.put(self.lane.shard, place.index, body);
                }
            }
            Reply::Ask(reply) => {
                let answer = match void {
                    _ if !ours => Err(ProposeError::NotLeader(self.lane.shard.0)),
                    Some(reason) => Err(ProposeError::Void(reason)),
                    None => Ok(Applied { index: place.index, shard }),
                };
                // Views first, so that whoever asked sees what it did.
                self.publish();
                if let Some(reply) = reply {
                    let _ = reply.send(answer);
                }
            }
        }
    }

    /// Leadership went elsewhere. What was proposed here is answered as it comes, by whoever leads; for some time.
    fn abandon_if_lost(&mut self) {
        if self.member.replica.leads() || self.waiters.is_empty() {
            self.lost = None;
            return;
        }
        let now = clock::now();
        let lost = *self.lost.get_or_insert(now);
        if now.saturating_duration_since(lost) >= MAY_COME || self.stop_by.is_some_and(|by| now + HAND_OVER >= by) {
            self.abandon();
        }
    }

    /// Leadership went elsewhere: whether what was proposed here will be committed is not known, and nobody shall wait for it.
    fn abandon(&mut self) {
        for waiter in std::mem::take(&mut self.waiters).into_values() {
            match waiter.reply {
                Reply::Offer { reply, .. } => drop(reply.send(Err(OfferError::Unknown))),
                Reply::Ask(Some(reply)) => drop(reply.send(Err(ProposeError::Unknown))),
                Reply::Ask(None) => {}
            }
        }
    }

    /// Whether everything that was promised is done, or time is up. An image at the end makes the next start quick.
    fn has_stopped(&mut self, by: Instant, now: Instant) -> bool {
        if now >= by {
            return true;
        }
        if !self.waiters.is_empty() || !self.backlog.is_empty() {
            return false;
        }
        if self.keeper.changed && self.member.replica.leads_surely() {
            return !self.propose_image(now);
        }
        if self.keeper.image_open() {
            return false;
        }
        if self.shared.together.is_some() && self.member.replica.leads() {
            // Another one leads at once instead of after an election; its first message ends this one's part.
            if !self.handing_over {
                self.handing_over = true;
                let shared = Arc::clone(&self.shared);
                return !self.member.replica.hand_over(|id| shared.wants_to_lead(id));
            }
            return now + STOP_WAIT >= by + HAND_OVER;
        }
        true
    }

    pub(super) fn count_waiters(&self) -> usize {
        self.waiters.len() + self.backlog.len()
    }

    pub(super) fn refuse(&self, refuse: bool) {
        self.lane.refuse.store(refuse, Ordering::Relaxed);
    }
}

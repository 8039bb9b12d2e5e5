//! Senders: replicas of a group, each a Prometheus that scrapes the same series on its own phase and sends them, in order, until it hears 2xx.
//!
//! A scrape may be missed, or fail (then it ends the series with stale markers); a replica may die for good, stop and come back with what it had
//! not sent (and a little that it had), lose its way to us and send its backlog later. An attempt that nobody answers is made again elsewhere.
//!
//! A value says whose it is: it is made of series and time. Left out: histograms and exemplars (`dedup::tests` has them), sharded queues.

use std::collections::VecDeque;
use std::sync::Arc;

use super::stage::EPOCH;
use super::stage::Event;
use super::stage::Mail;
use super::stage::Stage;
use crate::model::Item;
use crate::model::Kind;
use crate::model::NO_VALUE;
use crate::shard::codec::Malformed;
use crate::shard::codec::Reader;
use crate::shard::codec::Writer;

/// An attempt without an answer is made again after this, ms.
const TIMEOUT: i64 = 5_000;
/// Between attempts that were refused, ms.
const BACKOFF: (i64, i64) = (30, 2_000);
/// Requests that a restarted Prometheus sends once more, though they were answered.
const REPEATS: usize = 3;

/// The bits of a sample's value: no other has them.
pub fn value(series: u64, time: i64) -> u64 {
    (time.cast_unsigned() << 8) ^ (series >> 32 << 4) ^ (series & 15)
}

/// The same, as a digest says it.
pub fn said(item: &Item) -> u64 {
    if item.kind == Kind::Float { value(item.series, item.time) } else { NO_VALUE }
}

/// What a replica sends at once.
#[derive(Debug)]
pub struct Request {
    pub id: u64,
    pub group: String,
    pub replica: String,
    pub items: Vec<Item>,
}

impl Request {
    /// As it stands in the log: ours stands for a remote-write body, which the shards do not read either.
    pub fn body(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut out = Writer(&mut bytes);
        out.number(self.id);
        out.text(&self.replica);
        for item in &self.items {
            out.fixed(item.series);
            out.signed(item.time);
            out.byte(item.kind as u8);
        }
        bytes
    }

    /// Request, replica and items of a body.
    pub fn read(body: &[u8]) -> Result<(u64, &str, Vec<Item>), Malformed> {
        let mut from = Reader(body);
        let (id, replica, mut items) = (from.number()?, from.text()?, Vec::new());
        while !from.0.is_empty() {
            let (series, time, kind) = (from.fixed()?, from.signed()?, from.byte()?);
            let kind = Kind::from_number(kind).ok_or(Malformed::Impossible("a kind of this number"))?;
            items.push(Item { series, time, kind, refused: false });
        }
        Ok((id, replica, items))
    }
}

/// What a replica does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Well,
    /// Until then it neither scrapes nor sends.
    Stopped(i64),
    /// Until then it scrapes and cannot send.
    CutOff(i64),
    Dead,
}

/// One replica.
pub struct Sender {
    pub number: usize,
    pub group: usize,
    pub replica: String,
    pub state: State,
    pub queue: VecDeque<Arc<Request>>,
    answered: VecDeque<Arc<Request>>,
    interval: i64,
    phase: i64,
    clock: i64,
    series: u64,
    /// Of the attempt made last, and whether it is under way.
    attempt: u64,
    waiting: bool,
    backoff: i64,
}

impl Sender {
    pub fn new(number: usize, (group, replica): (usize, usize), stage: &mut Stage) -> Sender {
        let interval = stage.shape.groups[group];
        let name = ["a", "b", "c"][replica];
        let (phase, clock) = (stage.random.i64(0..interval), stage.random.i64(-300..300));
        stage.after(phase, Event::Scrape { sender: number });
        Sender {
            number,
            group,
            replica: name.to_owned(),
            state: State::Well,
            queue: VecDeque::new(),
            answered: VecDeque::new(),
            interval,
            phase,
            clock,
            series: 4,
            attempt: 0,
            waiting: false,
            backoff: BACKOFF.0,
        }
    }

    /// How many attempts it has made.
    pub fn attempts(&self) -> u64 {
        self.attempt
    }

    pub fn name(&self) -> String {
        format!("g{}/{}", self.group, self.replica)
    }

    /// The next scrape.
    pub fn scrape(&mut self, stage: &mut Stage) {
        let moment = stage.now;
        if stage.healed || self.state == State::Dead {
            return;
        }
        let next = (moment - self.phase).div_euclid(self.interval) * self.interval + self.phase + self.interval;
        stage.at(next, Event::Scrape { sender: self.number });
        if matches!(self.state, State::Stopped(until) if moment < until) || stage.one_in(60) {
            return; // missed
        }
        let failed = stage.one_in(80);
        let jitter = self.interval / 200;
        let time = EPOCH + moment + self.clock + stage.random.i64(-jitter..=jitter);
        let kind = if failed { Kind::Stale } else { Kind::Float };
        let series = (0..self.series).map(|series| (self.group as u64 + 1) << 32 | series);
        let items: Vec<Item> = series.map(|series| Item { series, time, kind, refused: false }).collect();
        let id = stage.ledger.scraped(&self.replica, &items);
        let request = Request { id, group: format!("g{}", self.group), replica: self.replica.clone(), items };
        self.queue.push_back(Arc::new(request));
        self.attempt_if_idle(stage);
    }

    fn attempt_if_idle(&mut self, stage: &mut Stage) {
        if !self.waiting {
            self.attempt(stage);
        }
    }

    /// Tries the oldest request, at any node.
    fn attempt(&mut self, stage: &mut Stage) {
        self.waiting = false;
        let until = match self.state {
            State::Well => stage.now,
            State::Stopped(until) | State::CutOff(until) => until,
            State::Dead => return,
        };
        if until > stage.now && !stage.healed {
            self.waiting = true;
            return stage.at(until, Event::Attempt { sender: self.number, after: self.attempt });
        }
        self.state = State::Well;
        let Some(request) = self.queue.front().cloned() else { return };
        self.attempt += 1;
        self.waiting = true;
        let node = match stage.serving.len() {
            0 => stage.random.usize(..stage.shape.nodes),
            some => stage.serving[stage.random.usize(..some)],
        };
        let mail = Mail::Request { request, sender: self.number, attempt: self.attempt };
        if let Some(delay) = stage.way() {
            stage.after(delay, Event::Mail { node, mail });
        }
        stage.after(TIMEOUT, Event::Attempt { sender: self.number, after: self.attempt });
    }

    /// Time for another attempt, if the last one was this and is still without an answer, or was refused.
    pub fn again(&mut self, after: u64, stage: &mut Stage) {
        if after == self.attempt {
            self.attempt(stage);
        }
    }

    /// An answer. One to an earlier attempt comes over a connection that is closed.
    pub fn answer(&mut self, attempt: u64, taken: bool, stage: &mut Stage) {
        let stopped = self.state == State::Dead || matches!(self.state, State::Stopped(until) if stage.now < until);
        if attempt != self.attempt || !self.waiting || stopped {
            return;
        }
        if !taken {
            stage.after(self.backoff, Event::Attempt { sender: self.number, after: self.attempt });
            self.backoff = (self.backoff * 2).min(BACKOFF.1);
            return;
        }
        self.backoff = BACKOFF.0;
        // The timeout of this attempt comes to nothing.
        self.attempt += 1;
        if let Some(request) = self.queue.pop_front() {
            stage.say(|| format!("{} has 2xx for request {}", self.name(), request.id));
            stage.ledger.acknowledged(&request);
            self.answered.push_back(request);
            if self.answered.len() > REPEATS {
                self.answered.pop_front();
            }
        }
        self.attempt(stage);
    }

    /// Something happens to it.
    pub fn suffer(&mut self, state: State, stage: &mut Stage) {
        if self.state != State::Well {
            return;
        }
        stage.say(|| format!("{} is now {state:?}", self.name()));
        self.state = state;
        if matches!(state, State::Stopped(_)) && stage.random.bool() {
            // Its write-ahead log goes back a little.
            while let Some(request) = self.answered.pop_back() {
                self.queue.push_front(request);
            }
        }
        if state == State::Dead {
            self.queue.clear();
        }
        if matches!(state, State::Stopped(_)) {
            // The connection is closed; after the pause it begins with its oldest.
            self.attempt += 1;
            self.attempt(stage);
        }
    }
}

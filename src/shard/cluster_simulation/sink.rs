//! A sink of a shard on one node, as `forward::kafka` works with `delivery: exactly_once`: init, position, then transactions of rows and position.
//!
//! It works while its node leads the shard, and believes so as long as the node does. An answer that does not come is asked for again, and after a
//! while given up: then the next session reads from Kafka which of the two happened. It is not `forward`'s code (that speaks to librdkafka, by
//! threads), but its order of steps; `begin` is its rule for where to go on. A row that Kafka
//! refuses becomes a dead letter by an entry, and only then the rest goes on. Left out: what a worker remembers of one epoch for the next.

use std::collections::BTreeSet;

use super::bugs::Bug;
use super::kafka;
use super::kafka::Reply;
use super::kafka::Request;
use super::kafka::Row;
use super::stage::Caller;
use super::stage::Event;
use super::stage::Moment;
use super::stage::Stage;
use crate::model::ShardId;
use crate::shard::command::Command;
use crate::shard::command::CursorMove;
use crate::shard::command::DeadLetter;
use crate::shard::data::Data;

/// One attempt of a call, and how long it is tried, ms.
const CALL: i64 = 1_000;
const GIVE_UP: i64 = 20_000;
/// How long Kafka's position may be ahead of what this node has applied, ms.
const CATCH_UP: i64 = 20_000;
/// Rest after trouble, ms.
const REST: i64 = 300;
/// Between two cursor entries, ms.
const CURSOR: i64 = 1_000;

/// What a session does.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing until then.
    Away(i64),
    Init,
    AskPosition,
    /// Kafka has been given more than this node has applied; since when.
    Behind(u64, i64),
    Ready,
    /// Rows are under way, then the position, then the commit.
    Rows,
    Offset,
    Commit,
    /// This emission's item was refused; when it was last said that it is to be a dead letter.
    Bury(u64, u32, i64),
}

struct Pending {
    number: u64,
    request: Request,
    since: i64,
    sent: i64,
}

/// What a sink needs of its process.
pub struct View<'a> {
    pub node: usize,
    pub boot: u64,
    pub shard: ShardId,
    pub leads: bool,
    pub data: &'a Data,
    /// The emissions after a number, in order, some of them.
    pub emissions: &'a dyn Fn(u64) -> Vec<Emitted>,
    /// Dead letters: sink, emission, item.
    pub letters: &'a BTreeSet<(String, u64, u32)>,
}

/// An emission, and its rows if its body is there.
pub struct Emitted {
    pub number: u64,
    pub entry: u64,
    pub rows: Option<Vec<Row>>,
}

/// One sink of one shard.
pub struct Sink {
    number: usize,
    name: String,
    phase: Phase,
    pending: Option<Pending>,
    asked: u64,
    producer: u64,
    transaction: u64,
    epoch: u64,
    position: u64,
    upto: u64,
    rows: Vec<Row>,
    /// Rows that are left out, since they are dead letters.
    buried: BTreeSet<(u64, u32)>,
    told: (i64, u64),
}

pub fn name(number: usize) -> String {
    format!("k{number}")
}

impl Sink {
    pub fn new(number: usize) -> Sink {
        Sink {
            number,
            name: name(number),
            phase: Phase::Away(0),
            pending: None,
            asked: 0,
            producer: 0,
            transaction: 0,
            epoch: 0,
            position: 0,
            upto: 0,
            rows: Vec::new(),
            buried: BTreeSet::new(),
            told: (0, 0),
        }
    }

    fn ask(&mut self, view: &View<'_>, request: Request, stage: &mut Stage) {
        self.asked += 1;
        self.pending = Some(Pending { number: self.asked, request: request.clone(), since: stage.now, sent: stage.now });
        self.send(view, request, stage);
    }

    fn send(&mut self, view: &View<'_>, request: Request, stage: &mut Stage) {
        let &View { node, boot, shard, .. } = view;
        if stage.network.from_kafka.contains(&node) {
            return;
        }
        let from = Caller { node, boot, shard, sink: self.number, number: self.asked };
        if let Some(delay) = stage.way() {
            stage.after(1 + delay, Event::Kafka { from, request });
        }
    }

    fn end(&mut self, stage: &Stage) {
        self.phase = Phase::Away(stage.now + REST);
        self.pending = None;
    }

    /// Goes on, if there is anything to do. Gives back a cursor to propose.
    pub fn step(&mut self, view: &View<'_>, stage: &mut Stage) -> Option<Command> {
        if !view.leads {
            self.phase = Phase::Away(stage.now);
            self.pending = None;
            return None;
        }
        if self.epoch_passed(view) {
            self.end(stage);
        }
        if let Some(pending) = &mut self.pending {
            if stage.now - pending.since >= GIVE_UP {
                self.end(stage);
            } else if stage.now - pending.sent >= CALL {
                pending.sent = stage.now;
                let request = pending.request.clone();
                self.send(view, request, stage);
            }
            return None;
        }
        if let Phase::Bury(emission, item, told) = self.phase {
            return self.bury(view, (emission, item), told, stage);
        }
        match self.phase {
            Phase::Away(until) if stage.now >= until => {
                let cursor = view.data.sinks.cursors.get(&self.name)?;
                self.epoch = cursor.epoch;
                self.phase = Phase::Init;
                self.ask(view, Request::Init { fence: !stage.has(Bug::NotFenced) }, stage);
            }
            Phase::Behind(found, since) => self.begin(view, found, since, stage),
            Phase::Ready if view.data.emissions > self.position => self.transaction(view, stage),
            _ => {}
        }
        self.cursor(stage)
    }

    /// Goes on without a row once that is a dead letter.
    fn bury(&mut self, view: &View<'_>, (emission, item): (u64, u32), told: i64, stage: &Stage) -> Option<Command> {
        if stage.has(Bug::DeadUnsaid) || view.letters.contains(&(self.name.clone(), emission, item)) {
            self.buried.insert((emission, item));
            self.phase = Phase::Ready;
            return None;
        }
        if stage.now - told < CALL {
            return None;
        }
        self.phase = Phase::Bury(emission, item, stage.now);
        let (sink, reason) = (self.name.clone(), "refused".to_owned());
        Some(Command::Dead(DeadLetter { sink, emission, item, reason, payload: Vec::new(), tenant: String::new() }))
    }

    /// Whether positions have begun anew since this session did, or the sink has gone.
    fn epoch_passed(&self, view: &View<'_>) -> bool {
        let epoch = view.data.sinks.cursors.get(&self.name).map(|cursor| cursor.epoch);
        !matches!(self.phase, Phase::Away(_)) && epoch != Some(self.epoch)
    }

    /// The group of its positions.
    fn group(&self, view: &View<'_>, stage: &Stage) -> String {
        kafka::group(&self.name, view.shard, if stage.has(Bug::EpochForgotten) { 1 } else { self.epoch })
    }

    /// Where to go on, by Kafka's position; the cursor's if Kafka has none.
    fn begin(&mut self, view: &View<'_>, found: u64, since: i64, stage: &mut Stage) {
        let Some(cursor) = view.data.sinks.cursors.get(&self.name) else { return self.end(stage) };
        let oldest = view.data.done() + 1;
        if found > view.data.emissions {
            self.phase = Phase::Behind(found, since);
            if stage.now - since >= CATCH_UP {
                self.end(stage);
            }
            return;
        }
        self.position = if found < cursor.emission && found + 1 < oldest { cursor.emission } else { found };
        self.phase = Phase::Ready;
        stage.say(|| format!("n{} s{} {} goes on after emission {}", view.node, view.shard.0, self.name, self.position));
    }

    /// Some emissions into a transaction.
    fn transaction(&mut self, view: &View<'_>, stage: &mut Stage) {
        let most = stage.random.usize(1..12);
        self.transaction += 1;
        self.rows.clear();
        for emitted in (view.emissions)(self.position).into_iter().take(most) {
            let Some(rows) = emitted.rows else {
                let (shard, sink) = (view.shard.0, &self.name);
                stage.broken(format!("shard {shard}: the body of entry {} is gone before {sink} had it", emitted.entry));
                return;
            };
            self.rows.extend(rows.into_iter().filter(|row| !self.buried.contains(&(row.emission, row.item))));
            self.upto = emitted.number;
        }
        if self.upto <= self.position {
            return;
        }
        if stage.has(Bug::PositionBeforeRows) { self.send_offset(view, stage) } else { self.send_rows(view, stage) }
    }

    fn send_rows(&mut self, view: &View<'_>, stage: &mut Stage) {
        self.phase = Phase::Rows;
        let (epoch, transaction, life, rows) = (self.producer, self.transaction, self.epoch, self.rows.clone());
        self.ask(view, Request::Rows { epoch, transaction, life, rows }, stage);
    }

    fn send_offset(&mut self, view: &View<'_>, stage: &mut Stage) {
        self.phase = Phase::Offset;
        let group = self.group(view, stage);
        let (epoch, transaction, position) = (self.producer, self.transaction, self.upto);
        self.ask(view, Request::Offset { epoch, transaction, group, position }, stage);
    }

    fn commit(&mut self, view: &View<'_>, stage: &mut Stage) {
        self.phase = Phase::Commit;
        self.ask(view, Request::Commit { epoch: self.producer, transaction: self.transaction }, stage);
        stage.strikes(view.node, Moment::AfterCommit);
    }

    /// Kafka has answered.
    pub fn answer(&mut self, number: u64, reply: &Reply, view: &View<'_>, stage: &mut Stage) {
        if self.pending.as_ref().is_none_or(|pending| pending.number != number) {
            return;
        }
        self.pending = None;
        if self.epoch_passed(view) {
            return self.end(stage);
        }
        match (&self.phase, reply) {
            (Phase::Init, Reply::Producer(epoch)) => {
                (self.producer, self.phase) = (*epoch, Phase::AskPosition);
                self.ask(view, Request::Position { group: self.group(view, stage) }, stage);
            }
            (Phase::AskPosition, Reply::Position(found)) => {
                let cursor = view.data.sinks.cursors.get(&self.name).map_or(0, |cursor| cursor.emission);
                self.begin(view, found.unwrap_or(cursor), stage.now, stage);
            }
            (Phase::Rows, Reply::Taken) if stage.has(Bug::PositionBeforeRows) => self.commit(view, stage),
            (Phase::Rows, Reply::Taken) => self.send_offset(view, stage),
            // `told`: long ago.
            (Phase::Rows, Reply::Refused(emission, item)) => self.phase = Phase::Bury(*emission, *item, -CALL),
            (Phase::Offset, Reply::Taken) => self.commit(view, stage),
            (Phase::Commit, Reply::Committed)
                if stage.has(Bug::PositionBeforeRows) && !self.rows.is_empty() && self.upto > self.position =>
            {
                // The position is there; now the rows, in a transaction of their own.
                self.transaction += 1;
                self.position = self.upto;
                self.send_rows(view, stage);
            }
            (Phase::Commit, Reply::Committed) => {
                self.position = self.upto;
                self.phase = Phase::Ready;
            }
            _ => self.end(stage), // fenced, or out of order
        }
    }

    /// Once a second: how far it is, for the log.
    fn cursor(&mut self, stage: &Stage) -> Option<Command> {
        let (when, position) = self.told;
        if self.phase != Phase::Ready || self.position == position || stage.now - when < CURSOR {
            return None;
        }
        self.told = (stage.now, self.position);
        let (sink, epoch, emission) = (self.name.clone(), self.epoch, self.position);
        Some(Command::Cursor(CursorMove { sink, epoch, emission, ..CursorMove::default() }))
    }
}

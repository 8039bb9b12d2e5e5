//! What all actors share: the time, the one source of chance, what happens when, who reaches whom, and the ledger of what must hold.
//!
//! Nothing here knows what an event means; `world` hands each to the one it concerns. Events of one time happen in the order in which they were
//! planned, so a seed is a whole history.

use fastrand::Rng;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::bugs::Bug;
use super::faults::Fault;
use super::kafka::Reply;
use super::kafka::Request as KafkaRequest;
use super::ledger::Ledger;
use super::network::Network;
use super::sender::Request;
use super::settings;
use super::shape::Shape;
use super::shape::Theme;
use crate::model::ShardId;
use crate::shard::command::Command;
use crate::shard::command::ShardSettings;
use crate::shard::members::MOST_NODES;
use crate::shard::replica::PeerMessage;

/// Simulated time 0 on a right clock, ms since 1970.
pub const EPOCH: i64 = 1_790_000_000_000;

/// A clock that is further off is not believed, ms; it is known so long after it was set.
const CLOCK_OFF: i64 = 2_000;
const KNOWN_AFTER: i64 = 1_500;

/// Something that happens at a time.
pub enum Event {
    /// To the process that runs as boot `boot` of this node, if it still does.
    Process { node: usize, boot: u64, what: ProcessEvent },
    /// Something arrives at a node, whichever process runs there.
    Mail { node: usize, mail: Mail },
    /// A request arrives at Kafka.
    Kafka { from: Caller, request: KafkaRequest },
    /// A sender's scrape is due, or its next attempt, or an answer is there.
    Scrape { sender: usize },
    /// Its time to try, as of the attempt that it made last.
    Attempt { sender: usize, after: u64 },
    /// An answer to one of its attempts.
    Answer { sender: usize, attempt: u64, taken: bool },
    /// The next trouble, or one that ends.
    Fault(Fault),
    /// An operator looks at the change of nodes that is under way.
    Operate,
    /// Is everything delivered?
    Look,
}

/// What happens to a process.
pub enum ProcessEvent {
    /// A shard's thread goes on, as planned at this time.
    Turn(ShardId, i64),
    /// The writer takes what waits.
    Write,
    /// The disk has synced what was written.
    Synced,
    /// Kafka's answer to a sink.
    Kafka(Caller, Reply),
}

/// Which sink asks Kafka, from which process, and its number for the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub node: usize,
    pub boot: u64,
    pub shard: ShardId,
    pub sink: usize,
    pub number: u64,
}

/// Where an offer's answer goes: to the process that a sender asked, for an attempt of that sender.
#[derive(Clone, Copy, Debug)]
pub struct Back {
    pub node: usize,
    pub boot: u64,
    pub sender: usize,
    pub attempt: u64,
}

/// Which member asks for a piece of a snapshot, from which process, and its number for the question.
#[derive(Clone, Copy, Debug)]
pub struct Taker {
    pub id: u64,
    pub boot: u64,
    pub number: u64,
}

/// What arrives at a node.
#[derive(Clone)]
pub enum Mail {
    /// Raft's, with the floor that travels beside it.
    Raft { shard: ShardId, floor: u64, message: Box<PeerMessage> },
    /// An offer that another node took.
    Offer { shard: ShardId, encoded: Vec<u8>, back: Back },
    /// Anything else that another node wants proposed.
    Ask { shard: ShardId, command: Command },
    /// The answer to an offer that was passed on.
    Passed { back: Back, taken: bool },
    /// A member asks for a piece of a snapshot.
    Fetch { shard: ShardId, request: Vec<u8>, back: Taker },
    /// The piece, if there is one.
    Fetched { shard: ShardId, answer: Option<Vec<u8>>, back: Taker },
    /// From a sender.
    Request { request: Arc<Request>, sender: usize, attempt: u64 },
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed: what was written is still there.
    Kill,
    /// The machine loses power: of what was not synced a part from the beginning is there.
    Power,
}

/// The bad moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The member has decided, nothing has left yet.
    BeforeSend,
    /// Messages are out, nothing is written.
    BeforeWrite,
    /// Written, not synced.
    BeforeSync,
    /// Synced, and nobody knows.
    AfterSync,
    /// A vote was just given.
    AfterVote,
    /// Applied, perhaps answered; what follows of it is not written.
    AfterApply,
    /// The commit is on its way to Kafka.
    AfterCommit,
    /// A piece of a snapshot was read, or written.
    AfterPiece,
}

/// The node on which members of this id are, or were.
pub fn node_of(id: u64) -> usize {
    (id as usize - 1) % MOST_NODES
}

/// The trace: its hash always, its lines when somebody reads them.
#[derive(Default)]
pub struct Trace {
    pub hash: u64,
    pub loud: bool,
}

impl Trace {
    /// Takes numbers into the hash.
    pub fn fact(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.hash = (self.hash ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        }
    }
}

/// What all share.
pub struct Stage {
    /// Simulated ms since the beginning.
    pub now: i64,
    pub random: Rng,
    pub shape: Shape,
    pub network: Network,
    pub ledger: Ledger,
    pub trace: Trace,
    /// Nothing bad happens any more.
    pub healed: bool,
    pub planted: Option<Bug>,
    /// What the members on each node are called.
    pub ids: Vec<u64>,
    /// Nodes that senders are told of.
    pub serving: Vec<usize>,
    /// Votes that were just proposed: shard, member, and where the log begins that the leader still has.
    pub votes: Vec<(ShardId, u64, u64)>,
    /// Where the log began of a member that gave a snapshot.
    pub begins: BTreeMap<(ShardId, u64), u64>,
    /// What every shard is to do, newest version.
    pub settings: ShardSettings,
    /// By node: until then it is drained; how far its clock is off, and since when.
    pub drained: Vec<i64>,
    pub clocks: Vec<(i64, i64)>,
    /// Nodes that crash once the present event is over, and how.
    pub crashing: Option<(usize, Crash, Moment)>,
    plan: BTreeMap<(i64, u64), Event>,
    planned: u64,
}

impl Stage {
    pub fn new(shape: Shape, mut random: Rng, planted: Option<Bug>, loud: bool) -> Stage {
        let trace = Trace { loud, ..Trace::default() };
        let (network, ledger) = (Network::default(), Ledger::new(&shape));
        let (plan, planned, crashing) = (BTreeMap::new(), 0, None);
        let settings = settings::first(&shape, &mut random);
        let ids = (1..=shape.nodes as u64).collect();
        let (drained, clocks) = (vec![0; shape.nodes], vec![(0, 0); shape.nodes]);
        let (serving, votes, begins) = ((0..shape.founders).collect(), Vec::new(), BTreeMap::new());
        Stage {
            now: 0,
            ids,
            serving,
            votes,
            begins,
            settings,
            random,
            shape,
            network,
            ledger,
            trace,
            drained,
            clocks,
            healed: false,
            planted,
            crashing,
            plan,
            planned,
        }
    }

    /// Plans an event.
    pub fn after(&mut self, delay: i64, event: Event) {
        self.at(self.now + delay, event);
    }

    /// Plans an event.
    pub fn at(&mut self, time: i64, event: Event) {
        self.planned += 1;
        self.plan.insert((time.max(self.now), self.planned), event);
    }

    /// The next event; time moves to it.
    pub fn next(&mut self) -> Option<Event> {
        let ((time, number), event) = self.plan.pop_first()?;
        self.now = time;
        self.ledger.now = EPOCH + time;
        self.trace.fact(&[time as u64, number]);
        Some(event)
    }

    /// Whether a node knows that its clock is off the others' median (`app::seats`), which takes a moment.
    pub fn clock_is_off(&self, node: usize) -> bool {
        let mut all: Vec<i64> = self.serving.iter().map(|other| self.clocks[*other].0).collect();
        all.sort_unstable();
        let (own, since) = self.clocks[node];
        all.len() > 2 && self.now - since >= KNOWN_AFTER && (own - all[all.len() / 2]).abs() > CLOCK_OFF
    }

    /// Whether other nodes are to lead what this one could lead (`node::leadership`).
    pub fn stands_aside(&self, node: usize) -> bool {
        self.now < self.drained[node] || self.clock_is_off(node)
    }

    /// One in so many.
    pub fn one_in(&mut self, many: u32) -> bool {
        self.random.u32(0..many.max(1)) == 0
    }

    pub fn has(&self, bug: Bug) -> bool {
        self.planted == Some(bug)
    }

    /// Whether this node crashes at this bad moment. The caller does nothing more then.
    pub fn strikes(&mut self, node: usize, moment: Moment) -> bool {
        if self.crashing.is_some() {
            return true;
        }
        let many = match moment {
            Moment::AfterVote if self.shape.theme == Theme::Votes => 3,
            Moment::AfterVote => self.shape.strike / 40,
            Moment::AfterCommit => self.shape.strike / 20,
            Moment::AfterPiece => self.shape.strike / 100,
            _ => self.shape.strike,
        };
        if self.healed || self.shape.strike == 0 || !self.one_in(many) {
            return false;
        }
        let crash = if moment != Moment::AfterVote && self.one_in(3) { Crash::Kill } else { Crash::Power };
        self.crashing = Some((node, crash, moment));
        true
    }

    /// A line of the trace.
    pub fn say(&self, line: impl FnOnce() -> String) {
        if self.trace.loud {
            println!("{:>8.3} {}", self.now as f64 / 1e3, line());
        }
    }

    /// The first breach of what must hold.
    pub fn broken(&mut self, what: String) {
        self.ledger.broken.get_or_insert(what);
    }
}

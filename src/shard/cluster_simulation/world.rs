//! A run: nodes, senders and Kafka on one stage, from a seed to a verdict.

use fastrand::Rng;

use super::bugs::Bug;
use super::disk::Shards;
use super::faults;
use super::faults::Fault;
use super::faults::SenderFault;
use super::kafka;
use super::kafka::Kafka;
use super::process::Node;
use super::seats::Wanted;
use super::sender;
use super::sender::Sender;
use super::settings;
use super::shape::Shape;
use super::sink;
use super::stage::Caller;
use super::stage::Crash;
use super::stage::Event;
use super::stage::Mail;
use super::stage::Moment;
use super::stage::ProcessEvent;
use super::stage::Stage;
use super::verdict;
use crate::model::ShardId;
use crate::shard::command::Command;
use crate::shard::command::SwitchTo;
use crate::shard::member::State;

/// After all trouble everything must be delivered within this, ms: twice the longest wait for a twin (stale markers), an election, a Kafka
/// transaction that times out, and the backlogs.
const LIVELY: i64 = 240_000;

/// What came of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was broken first.
    pub broken: Option<String>,
    /// Too close, or a hole: rare, by the rules.
    pub flaws: Vec<String>,
    /// Of the trace.
    pub hash: u64,
    pub entries: usize,
    pub rows: usize,
    pub promised: usize,
    pub crashes: usize,
    /// Terms of all shards that had a leader.
    pub terms: usize,
    pub snapshots: usize,
    /// Simulated ms.
    pub lasted: i64,
}

pub struct World {
    pub(super) stage: Stage,
    pub(super) nodes: Vec<Node>,
    /// A change of nodes that an operator wants, and that is not done.
    pub(super) wanted: Option<Wanted>,
    /// What a node's disk will be found to have gone back to: which node, its id, the disk.
    pub(super) copy: Option<(usize, u64, Shards)>,
    senders: Vec<Sender>,
    kafka: Kafka,
    crashes: usize,
    healed_at: i64,
}

/// Plays a seed.
pub fn run(seed: u64, planted: Option<Bug>, loud: bool) -> Outcome {
    let mut random = Rng::with_seed(seed);
    let shape = Shape::new(seed, &mut random);
    let mut world = World::new(Stage::new(shape, random, planted, loud));
    world.stage.say(|| format!("seed {seed}: {:?}", world.stage.shape));
    while world.stage.ledger.broken.is_none() {
        let Some(event) = world.stage.next() else { break };
        if !world.event(event) {
            break;
        }
    }
    world.outcome()
}

impl World {
    fn new(mut stage: Stage) -> World {
        let mut nodes: Vec<Node> = (0..stage.shape.nodes).map(|node| Node::new(node, &mut stage)).collect();
        nodes.iter_mut().for_each(|node| node.start(&mut stage));
        let pairs = (0..stage.shape.groups.len()).flat_map(|group| (0..stage.shape.replicas).map(move |replica| (group, replica)));
        let senders =
            pairs.collect::<Vec<_>>().into_iter().enumerate().map(|(number, pair)| Sender::new(number, pair, &mut stage)).collect();
        stage.after(5_000, Event::Fault(Fault::Next));
        stage.after(stage.shape.trouble, Event::Fault(Fault::Heal));
        World { stage, nodes, wanted: None, copy: None, senders, kafka: Kafka::default(), crashes: 0, healed_at: 0 }
    }

    /// One event; false: the run is over.
    fn event(&mut self, event: Event) -> bool {
        let stage = &mut self.stage;
        match event {
            // Nothing runs on a paused node; what comes, waits.
            Event::Process { node, .. } | Event::Mail { node, .. } if self.nodes[node].host.paused > stage.now => {
                stage.at(self.nodes[node].host.paused, event);
            }
            Event::Process { node, boot, what } => self.nodes[node].event(boot, what, stage),
            Event::Mail { node, mail } => {
                if let Mail::Raft { shard, message, .. } = &mail {
                    stage.trace.fact(&[node as u64, u64::from(shard.0), message.msg_type as u64, message.index, message.term]);
                }
                self.nodes[node].mail(mail, stage);
            }
            Event::Kafka { from, request } => self.kafka_asked(from, request),
            Event::Scrape { sender } => self.senders[sender].scrape(stage),
            Event::Attempt { sender, after } => self.senders[sender].again(after, stage),
            Event::Answer { sender, attempt, taken } => self.senders[sender].answer(attempt, taken, stage),
            Event::Fault(fault) => self.fault(fault),
            Event::Operate => self.look_after(),
            Event::Look => return !self.is_done(),
        }
        self.mind_votes();
        if let Some((node, crash, moment)) = self.stage.crashing.take() {
            self.stage.say(|| format!("n{node} crashes ({crash:?}, {moment:?})"));
            let soon = if moment == Moment::AfterVote { 150 } else { 10_000 };
            let down = self.stage.random.i64(5..soon);
            self.crash(node, crash, down);
        }
        true
    }

    fn crash(&mut self, node: usize, crash: Crash, down: i64) {
        self.nodes[node].crash(crash, &mut self.stage);
        self.crashes += 1;
        self.stage.after(down, Event::Fault(Fault::Start(node)));
    }

    fn kafka_asked(&mut self, from: Caller, request: kafka::Request) {
        let stage = &mut self.stage;
        if self.kafka.away.get(&from.sink).is_some_and(|until| stage.now < *until) {
            return;
        }
        let (reply, life, visible) = self.kafka.ask((from.sink, from.shard), request, stage.now);
        if !visible.is_empty() {
            stage.say(|| {
                let (first, last) = (visible.first().map_or(0, |row| row.emission), visible.last().map_or(0, |row| row.emission));
                format!("sink {} of shard {} shows {} rows of emissions {first} to {last}", from.sink, from.shard.0, visible.len())
            });
            stage.ledger.visible((from.sink, life), from.shard, &visible);
        }
        // Lost on the way back: its outcome is unknown.
        if stage.network.from_kafka.contains(&from.node) {
            return;
        }
        if let Some(delay) = stage.way() {
            let what = ProcessEvent::Kafka(from, reply);
            stage.after(1 + delay, Event::Process { node: from.node, boot: from.boot, what });
        }
    }

    fn fault(&mut self, fault: Fault) {
        if self.stage.healed && !matches!(fault, Fault::Start(_)) {
            return;
        }
        let fault = if matches!(fault, Fault::Next) {
            let fault = faults::draw(self.senders.len(), &mut self.stage);
            faults::follow(&fault, &mut self.stage);
            fault
        } else {
            fault
        };
        self.stage.say(|| format!("trouble: {fault:?}"));
        let (now, stage) = (self.stage.now, &mut self.stage);
        match fault {
            Fault::Next => {}
            Fault::Heal => self.heal(),
            Fault::Crash(node, crash) => {
                let down = stage.random.i64(50..20_000);
                self.crash(node, crash, down);
            }
            Fault::Blackout => {
                for node in 0..self.nodes.len() {
                    let down = self.stage.random.i64(20..1_500);
                    self.crash(node, Crash::Power, down);
                }
            }
            Fault::Stop(node, long) => {
                self.nodes[node].hand_over(stage);
                let soon = stage.random.i64(1..1_000);
                stage.after(soon, Event::Fault(Fault::Stopped(node, long)));
            }
            Fault::Stopped(node, long) => self.crash(node, Crash::Kill, long),
            Fault::Start(node) => self.nodes[node].start(stage),
            Fault::Pause(node, long) if self.nodes[node].process.is_some() => self.nodes[node].host.paused = now + long,
            Fault::Pause(..) => {}
            Fault::Cut(ways) => stage.network.cut.extend(ways),
            Fault::Mended(ways) => stage.network.cut.retain(|way| !ways.contains(way)),
            Fault::Loss(loss) => stage.network.loss = loss,
            Fault::Slow(node, long) => self.nodes[node].host.slow = now + long,
            Fault::Full(node, long) => self.nodes[node].host.full = now + long,
            Fault::NoSpace(node, long) => self.crash(node, Crash::Kill, long),
            Fault::Clock(node, offset) => (self.nodes[node].host.offset, stage.clocks[node]) = (offset, (offset, now)),
            Fault::Drain(node, long) => stage.drained[node] = now + long,
            Fault::KafkaAway(sink, long) => drop(self.kafka.away.insert(sink, now + long)),
            Fault::KafkaCut(node) => drop(stage.network.from_kafka.insert(node)),
            Fault::KafkaMended(node) => drop(stage.network.from_kafka.remove(&node)),
            Fault::Wipe(node) => self.wipe(node),
            Fault::Relapse(node) => self.remember(node),
            Fault::Relapsed(node) => self.relapse(node),
            Fault::LoseComer => self.lose_comer(),
            Fault::Remove(node) => self.remove(node),
            Fault::Add => self.add(),
            Fault::Sender(number, what) => {
                let state = match what {
                    SenderFault::Stop(long) => sender::State::Stopped(now + long),
                    SenderFault::CutOff(long) => sender::State::CutOff(now + long),
                    // One of a group at least goes on.
                    SenderFault::Die if self.last_of_its_group(number) => return,
                    SenderFault::Die => sender::State::Dead,
                };
                self.senders[number].suffer(state, &mut self.stage);
            }
            Fault::Switch(group) => self.switch(group),
            Fault::Settings => {
                stage.settings = settings::next(&stage.settings, &stage.shape, &mut stage.random);
                stage.say(|| format!("{:?}", stage.settings));
            }
        }
    }

    fn last_of_its_group(&self, number: usize) -> bool {
        let group = self.senders[number].group;
        self.senders.iter().filter(|sender| sender.group == group && sender.state != sender::State::Dead).count() < 2
    }

    /// An operator's word, to whoever leads the group's shard.
    fn switch(&mut self, group: usize) {
        let name = format!("g{group}");
        let to = ["a", "b"][self.stage.random.usize(..2)].to_owned();
        let command = match self.stage.random.u8(..6) {
            0 => Command::Pin { group: name, replica: Some(to) },
            1 | 2 => Command::Pin { group: name, replica: None },
            _ => Command::Switch(SwitchTo { group: name, to, reason: "trial".into(), ..SwitchTo::default() }),
        };
        for shard in (1..=self.stage.shape.data_shards).map(ShardId) {
            for node in 0..self.nodes.len() {
                self.stage.after(1, Event::Mail { node, mail: Mail::Ask { shard, command: command.clone() } });
            }
        }
    }

    /// All trouble ends, and with it what is new: what was sent must arrive.
    fn heal(&mut self) {
        let stage = &mut self.stage;
        stage.healed = true;
        self.healed_at = stage.now;
        (stage.network.loss, stage.network.cut, stage.network.from_kafka) = (0, Default::default(), Default::default());
        self.kafka.away.clear();
        stage.drained.iter_mut().for_each(|until| *until = 0);
        for node in &mut self.nodes {
            (node.host.slow, node.host.full) = (0, 0);
            node.host.paused = node.host.paused.min(stage.now);
            node.start(stage);
        }
        for sender in &mut self.senders {
            stage.after(0, Event::Attempt { sender: sender.number, after: sender.attempts() });
        }
        stage.after(1_000, Event::Look);
    }

    /// Everything sent is answered, applied by all, judged, delivered; or it has taken too long.
    fn is_done(&mut self) -> bool {
        match self.undone() {
            None => return true,
            Some(what) if self.stage.now - self.healed_at > LIVELY => {
                self.stage.broken(format!("{} s after all trouble ended: {what}", LIVELY / 1_000));
                return true;
            }
            Some(_) => self.stage.after(500, Event::Look),
        }
        false
    }

    /// A node that leads a shard which a member with a right clock could lead.
    fn led_by_a_wrong_clock(&self, members: &[u64]) -> Option<usize> {
        let mut living = self.nodes.iter().filter(|node| members.contains(&node.host.id) && node.process.is_some());
        let fit = living.clone().any(|node| !self.stage.stands_aside(node.host.node));
        let leads = |node: &&Node| {
            node.process.as_ref().is_some_and(|process| process.workers.iter().any(|worker| worker.member.replica.leads_surely()))
        };
        living.find(|node| fit && self.stage.stands_aside(node.host.node) && leads(node)).map(|node| node.host.node)
    }

    fn undone(&self) -> Option<String> {
        let Some(members) = self.settled() else { return Some(format!("{:?} is not done", self.wanted)) };
        if let Some(sender) = self.senders.iter().find(|sender| !sender.queue.is_empty()) {
            return Some(format!("{} requests of {} are not answered", sender.queue.len(), sender.name()));
        }
        if let Some(node) = self.led_by_a_wrong_clock(&members) {
            return Some(format!("n{node} leads, though its clock is wrong and others could"));
        }
        for (number, shard) in self.stage.ledger.shards.iter().enumerate() {
            let number = ShardId(number as u16);
            for node in self.nodes.iter().filter(|node| members.contains(&node.host.id)) {
                let applied = node.process.as_ref().map(|process| process.workers[usize::from(number.0)].member.state.applied());
                if applied != Some(shard.last()) {
                    return Some(format!("shard {}: n{} has applied up to {applied:?} of {}", number.0, node.host.node, shard.last()));
                }
            }
            let State::Data(data) = &shard.state else { continue };
            let (version, wanted) = (data.settings.version, self.stage.settings.version);
            if version != wanted {
                return Some(format!("shard {}: its settings are of version {version}, not {wanted}", number.0));
            }
            if let Some(due) = data.next_due() {
                return Some(format!("shard {}: samples wait, the next until {due}", number.0));
            }
            for (name, cursor) in &data.sinks.cursors {
                let sink = (0..self.stage.shape.sinks).find(|sink| sink::name(*sink) == *name)?;
                let position = self.kafka.position(sink, number, &kafka::group(name, number, cursor.epoch));
                // One that began with what came after it, when nothing came any more, has no position.
                let position = position.unwrap_or(cursor.emission);
                if position < data.emissions || cursor.emission < data.emissions {
                    let (last, cursor) = (data.emissions, cursor.emission);
                    return Some(format!("shard {}: {name} is at {position}, its cursor at {cursor}, of {last} emissions", number.0));
                }
            }
        }
        None
    }

    fn outcome(mut self) -> Outcome {
        let ledger = &self.stage.ledger;
        let mut outcome = Outcome {
            broken: ledger.broken.clone(),
            hash: self.stage.trace.hash,
            entries: ledger.committed(),
            rows: ledger.shards.iter().map(|shard| shard.rows.len()).sum(),
            promised: ledger.promised.len(),
            crashes: self.crashes,
            terms: ledger.terms(),
            snapshots: ledger.snapshots,
            lasted: self.stage.now,
            ..Outcome::default()
        };
        if outcome.broken.is_none() {
            outcome.broken = ledger.unshown();
            let judged = verdict::judge(ledger, &self.stage.shape);
            outcome.broken = outcome.broken.or(judged.broken);
            outcome.flaws = judged.flaws;
        }
        if let Some(broken) = &outcome.broken {
            self.stage.say(|| format!("BROKEN: {broken}"));
        }
        self.nodes.clear();
        outcome
    }
}

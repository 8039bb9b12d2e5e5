//! A node: its clocks and its disk, which stay, and the process that runs on them: a worker a shard, one writer, and what `node::Handle` does for
//! requests (which shard, where it is led, pass on and relay the answer).
//!
//! Left out: bounds of queues, the last image of an orderly stop.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use super::bugs::Bug;
use super::disk::NodeDisk;
use super::disk::ShardDisk;
use super::kafka::Reply;
use super::ledger::rows;
use super::sender::Request;
use super::sender::said;
use super::sender::value;
use super::shape::Shape;
use super::sink::Emitted;
use super::sink::View;
use super::stage::Back;
use super::stage::Caller;
use super::stage::Crash;
use super::stage::EPOCH;
use super::stage::Event;
use super::stage::Mail;
use super::stage::Moment;
use super::stage::ProcessEvent;
use super::stage::Stage;
use super::worker::Offer;
use super::worker::TICK;
use super::worker::Worker;
use crate::model::Before;
use crate::model::Kind;
use crate::model::NO_VALUE;
use crate::model::ShardId;
use crate::shard::command::Command;
use crate::shard::entry;
use crate::shard::entry::Entry;
use crate::shard::entry::Samples;
use crate::shard::member::Begin;
use crate::shard::member::Member;
use crate::shard::member::State;
use crate::shard::member::simulation::Record;
use crate::shard::replica::Limits;
use crate::wire::digest;
use crate::wire::pack::Packing;
use crate::wire::remote_write::Protocol;

/// Bounds small enough to be met.
pub fn limits(shape: &Shape) -> Limits {
    Limits {
        election_ticks: 10,
        heartbeat_ticks: 1,
        message_bytes: 2_000,
        inflight: 8,
        uncommitted_bytes: 4_000,
        reserved_bytes: 1_000,
        committed_bytes: 2_000,
        tail_bytes: 1_000,
        away_ticks: shape.away,
    }
}

/// What stays when a process goes.
pub struct Host {
    pub node: usize,
    /// What the members here are called.
    pub id: u64,
    /// It is of the cluster, or is to be: its disk has what members begin with.
    pub begun: bool,
    /// Counts processes.
    pub boot: u64,
    pub disk: Rc<RefCell<NodeDisk>>,
    /// How far its wall clock is off, and by how many parts of a million its clocks run fast.
    pub offset: i64,
    pub drift: i64,
    /// Until then nothing runs here.
    pub paused: i64,
    /// Until then a sync takes long; until then samples are refused.
    pub slow: i64,
    pub full: i64,
}

impl Host {
    /// A clock that never goes back.
    pub fn mono(&self, now: i64) -> i64 {
        now + now * self.drift / 1_000_000
    }

    pub fn wall(&self, now: i64) -> i64 {
        EPOCH + self.offset + self.mono(now)
    }

    pub fn is_full(&self, now: i64) -> bool {
        now < self.full
    }

    /// Answers an offer: the sender, or the node that passed it on.
    pub fn answer(&self, back: Back, taken: bool, stage: &mut Stage) {
        if back.node != self.node {
            return stage.send(self.node, back.node, Mail::Passed { back, taken });
        }
        if back.boot == self.boot
            && let Some(delay) = stage.way()
        {
            stage.after(delay, Event::Answer { sender: back.sender, attempt: back.attempt, taken });
        }
    }
}

/// From which a member draws its election timeouts.
pub fn entropy(id: u64, shard: ShardId) -> u64 {
    id ^ u64::from(shard.0).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Something for the writer.
pub struct Job {
    pub shard: ShardId,
    pub record: Record,
    /// To be reported once it is durable.
    pub log: Option<u64>,
    /// It is a promise, and nothing else.
    pub vote: bool,
    pub sync: bool,
}

/// A node.
pub struct Node {
    pub host: Host,
    pub process: Option<Process>,
}

/// What runs on it.
pub struct Process {
    pub workers: Vec<Worker>,
    jobs: VecDeque<Job>,
    /// The writer is busy; with what it will report.
    syncing: Option<Vec<(ShardId, u64)>>,
    write_planned: bool,
}

impl Node {
    pub fn new(node: usize, stage: &mut Stage) -> Node {
        let voters: Vec<u64> = (1..=stage.shape.founders as u64).collect();
        let shards = (0..=stage.shape.data_shards).map(ShardId);
        let disk = Rc::new(RefCell::new(NodeDisk::fresh(shards, &voters)));
        let (offset, drift) = (stage.random.i64(-900..=900), stage.random.i64(-300..=300));
        stage.clocks[node].0 = offset;
        Node {
            host: Host {
                node,
                id: stage.ids[node],
                begun: node < stage.shape.founders,
                boot: 0,
                disk,
                offset,
                drift,
                paused: 0,
                slow: 0,
                full: 0,
            },
            process: None,
        }
    }

    /// A process starts from what the disk has.
    pub fn start(&mut self, stage: &mut Stage) {
        if self.process.is_some() || !self.host.begun {
            return;
        }
        self.host.boot += 1;
        stage.say(|| format!("n{} starts", self.host.node));
        self.host.disk.borrow_mut().open(stage.has(Bug::StagedKept));
        let mut workers = Vec::new();
        for shard in (0..=stage.shape.data_shards).map(ShardId) {
            let disk = ShardDisk { disk: Rc::clone(&self.host.disk), shard };
            let (known, image) = {
                let disk = self.host.disk.borrow();
                (disk.shard(shard).known.clone(), disk.shard(shard).image.clone())
            };
            if let Some(index) = self.host.disk.borrow().shard(shard).hole() {
                return stage.broken(format!("n{} does not start: entry {index} of shard {} is missing", self.host.node, shard.0));
            }
            let (id, limits) = (self.host.id, limits(&stage.shape));
            match Member::open(Begin { shard, id, disk, known, image, limits, entropy: entropy(id, shard) }) {
                Ok(member) => workers.push(Worker::new(shard, member, &self.host, stage)),
                Err(error) => return stage.broken(format!("n{} does not start: {error}", self.host.node)),
            }
        }
        let mut process = Process { workers, jobs: VecDeque::new(), syncing: None, write_planned: false };
        (0..process.workers.len()).for_each(|shard| process.wake(&self.host, shard, stage));
        self.process = Some(process);
    }

    /// The process ends.
    pub fn crash(&mut self, crash: Crash, stage: &mut Stage) {
        if self.process.take().is_some() {
            self.host.disk.borrow_mut().crash(crash, &mut stage.random);
            self.host.paused = 0;
        }
    }

    /// It is told to stop: what it leads goes to others first (`node::worker`).
    pub fn hand_over(&mut self, stage: &mut Stage) {
        let (host, Some(process)) = (&self.host, &mut self.process) else { return };
        for shard in 0..process.workers.len() {
            if process.workers[shard].member.replica.hand_over(|_| true) {
                stage.say(|| format!("n{} hands shard {shard} over", host.node));
            }
            process.wake(host, shard, stage);
        }
    }

    /// Something for the process.
    pub fn event(&mut self, boot: u64, what: ProcessEvent, stage: &mut Stage) {
        let (host, Some(process)) = (&self.host, &mut self.process) else { return };
        if boot != host.boot {
            return;
        }
        match what {
            ProcessEvent::Turn(shard, at) => process.turn(host, usize::from(shard.0), at, stage),
            ProcessEvent::Write => process.write(host, stage),
            ProcessEvent::Synced => process.synced(host, stage),
            ProcessEvent::Kafka(caller, reply) => process.kafka(host, caller, &reply, stage),
        }
    }

    /// Something arrives.
    pub fn mail(&mut self, mail: Mail, stage: &mut Stage) {
        let (host, Some(process)) = (&self.host, &mut self.process) else { return };
        let shard = match mail {
            // Nodes know each other by their certificates.
            Mail::Raft { message, .. } if message.to != host.id => return,
            Mail::Raft { shard, floor, message } => {
                process.worker(shard).mail.raft.push((floor, *message));
                shard
            }
            Mail::Offer { back, .. } if host.is_full(stage.now) => return host.answer(back, false, stage),
            Mail::Offer { shard, encoded, back } => {
                process.worker(shard).mail.offers.push(Offer { encoded, back });
                shard
            }
            Mail::Ask { shard, command } => {
                process.worker(shard).mail.commands.push(command);
                shard
            }
            Mail::Passed { back, taken } => return host.answer(back, taken, stage),
            Mail::Fetch { shard, request, back } => {
                let answer = process.worker(shard).fetched(host, stage, back.id, &request);
                stage.send_to(host.node, back.id, Mail::Fetched { shard, answer, back });
                shard
            }
            Mail::Fetched { back, .. } if (back.id, back.boot) != (host.id, host.boot) => return,
            Mail::Fetched { shard, answer, back } => {
                process.worker(shard).piece_arrived(back.number, answer);
                shard
            }
            Mail::Request { request, sender, attempt } => {
                let back = Back { node: host.node, boot: host.boot, sender, attempt };
                match process.request(host, &request, back, stage) {
                    Some(shard) => shard,
                    None => return host.answer(back, false, stage),
                }
            }
        };
        process.wake(host, usize::from(shard.0), stage);
    }
}

impl Process {
    fn worker(&mut self, shard: ShardId) -> &mut Worker {
        &mut self.workers[usize::from(shard.0)]
    }

    /// A shard has mail: its thread goes on soon.
    pub(super) fn wake(&mut self, host: &Host, shard: usize, stage: &mut Stage) {
        let at = stage.now + stage.random.i64(0..3);
        self.plan(host, shard, at, stage);
    }

    fn plan(&mut self, host: &Host, shard: usize, at: i64, stage: &mut Stage) {
        let worker = &mut self.workers[shard];
        if at < worker.turn_at {
            worker.turn_at = at;
            let what = ProcessEvent::Turn(worker.shard, at);
            stage.at(at, Event::Process { node: host.node, boot: host.boot, what });
        }
    }

    fn turn(&mut self, host: &Host, shard: usize, at: i64, stage: &mut Stage) {
        if self.workers[shard].turn_at != at {
            return;
        }
        self.workers[shard].turn_at = i64::MAX;
        if std::mem::take(&mut self.workers[shard].keeper.look) {
            self.reseat(host, shard, stage);
        }
        let jobs = self.workers[shard].turn(host, stage);
        self.jobs.extend(jobs);
        self.plan_write(host, stage);
        self.sinks(host, shard, stage);
        self.plan(host, shard, stage.now + TICK, stage);
    }

    /// Sinks look now and then, not after each turn: they are threads of their own.
    fn sinks(&mut self, host: &Host, shard: usize, stage: &mut Stage) {
        let Worker { sinks, .. } = &mut self.workers[shard];
        let mut sinks = std::mem::take(sinks);
        for sink in &mut sinks {
            let worker = &self.workers[shard];
            if let State::Data(data) = &worker.member.state
                && stage.one_in(3)
            {
                let by_memory = stage.has(Bug::CountedByMemory);
                let emissions = |after| emissions(worker, host, after, by_memory);
                let view = view(worker, data, host, &emissions);
                if let Some(cursor) = sink.step(&view, stage) {
                    self.workers[shard].mail.commands.push(cursor);
                    self.wake(host, shard, stage);
                }
            }
        }
        self.workers[shard].sinks = sinks;
    }

    fn kafka(&mut self, host: &Host, caller: Caller, reply: &Reply, stage: &mut Stage) {
        let shard = usize::from(caller.shard.0);
        let mut sinks = std::mem::take(&mut self.workers[shard].sinks);
        let worker = &self.workers[shard];
        if let (State::Data(data), Some(sink)) = (&worker.member.state, sinks.get_mut(caller.sink)) {
            let by_memory = stage.has(Bug::CountedByMemory);
            let emissions = |after| emissions(worker, host, after, by_memory);
            sink.answer(caller.number, reply, &view(worker, data, host, &emissions), stage);
        }
        self.workers[shard].sinks = sinks;
    }

    fn plan_write(&mut self, host: &Host, stage: &mut Stage) {
        if !self.jobs.is_empty() && self.syncing.is_none() && !self.write_planned {
            self.write_planned = true;
            let delay = stage.random.i64(0..3);
            stage.after(delay, Event::Process { node: host.node, boot: host.boot, what: ProcessEvent::Write });
        }
    }

    /// The writer: all that waits, then one sync for all.
    fn write(&mut self, host: &Host, stage: &mut Stage) {
        self.write_planned = false;
        let (mut sync, mut reports) = (false, Vec::new());
        for job in std::mem::take(&mut self.jobs) {
            let installed = if let Record::Install(install) = &job.record { Some(Rc::clone(install)) } else { None };
            host.disk.borrow_mut().write(job.shard, job.record);
            if let Some(install) = installed {
                host.has_all(job.shard, &install, stage);
            }
            sync |= job.sync || job.log.is_some();
            let early = if job.vote { Bug::VoteNotSynced } else { Bug::EntriesNotSynced };
            match job.log {
                Some(number) if stage.has(early) => self.persisted(host, job.shard, number, stage),
                Some(number) => reports.push((job.shard, number)),
                None => {}
            }
        }
        if stage.strikes(host.node, Moment::BeforeSync) || !sync {
            return;
        }
        let takes = if stage.now < host.slow { stage.random.i64(300..4_000) } else { stage.random.i64(1..12) };
        self.syncing = Some(reports);
        stage.after(takes, Event::Process { node: host.node, boot: host.boot, what: ProcessEvent::Synced });
    }

    fn synced(&mut self, host: &Host, stage: &mut Stage) {
        host.disk.borrow_mut().sync();
        if stage.strikes(host.node, Moment::AfterSync) {
            return;
        }
        for (shard, number) in self.syncing.take().unwrap_or_default() {
            self.persisted(host, shard, number, stage);
        }
        self.plan_write(host, stage);
    }

    fn persisted(&mut self, host: &Host, shard: ShardId, number: u64, stage: &mut Stage) {
        let mail = &mut self.worker(shard).mail;
        mail.persisted = mail.persisted.max(number);
        self.wake(host, usize::from(shard.0), stage);
    }

    /// A sender's request. The shard that has mail because of it; `None`: it is refused at once.
    fn request(&mut self, host: &Host, request: &Arc<Request>, back: Back, stage: &mut Stage) -> Option<ShardId> {
        let State::Control(control) = &self.workers[0].member.state else { return None };
        let Some(&shard) = control.groups.get(&request.group) else {
            self.assign(host, &request.group, stage);
            return None;
        };
        let State::Data(data) = &self.workers[usize::from(shard.0)].member.state else { return None };
        // A node takes nothing before its shards have their settings (`app`).
        if host.is_full(stage.now) || data.settings.version == 0 {
            return None;
        }
        let encoded = encode(request, data.settings.version, stage.has(Bug::ValuesUnsaid));
        let leader = self.worker(shard).member.replica.leader()?;
        if leader == host.id {
            self.worker(shard).mail.offers.push(Offer { encoded, back });
            return Some(shard);
        }
        stage.send_to(host.node, leader, Mail::Offer { shard, encoded, back });
        // Nothing to wake; the answer comes by mail, or the sender's patience ends.
        Some(shard)
    }

    fn assign(&mut self, host: &Host, group: &str, stage: &mut Stage) {
        let command = Command::Assign { group: group.to_owned() };
        let Some(leader) = self.workers[0].member.replica.leader() else { return };
        if leader == host.id {
            self.workers[0].mail.commands.push(command);
            self.wake(host, 0, stage);
        } else {
            stage.send_to(host.node, leader, Mail::Ask { shard: ShardId::CONTROL, command });
        }
    }
}

fn view<'a>(worker: &'a Worker, data: &'a crate::shard::data::Data, host: &Host, emissions: &'a dyn Fn(u64) -> Vec<Emitted>) -> View<'a> {
    View {
        node: host.node,
        boot: host.boot,
        shard: worker.shard,
        leads: worker.member.replica.leads_surely(),
        data,
        emissions,
        letters: &worker.letters,
    }
}

/// Emissions after a number, with their rows, as a sink reads them: picks from the emission, samples from the body.
fn emissions(worker: &Worker, host: &Host, after: u64, by_memory: bool) -> Vec<Emitted> {
    let mut memory = BTreeMap::new();
    let found = (after + 1..after + 12).map_while(|number| worker.emission(number, host));
    found
        .map(|emission| {
            let disk = host.disk.borrow();
            let stored = disk.shard(worker.shard).entry(emission.entry);
            let rows = stored.and_then(|stored| {
                let Entry::Samples(samples) = entry::parse(stored).ok()?.entry else { return None };
                let (_, replica, items) = Request::read(samples.body).ok()?;
                let mut rows = rows(&emission, replica, &items);
                for row in rows.iter_mut().filter(|row| by_memory && !row.late && row.kind == Kind::Float) {
                    row.before = memory.insert(row.series, Before { time: row.time, bits: value(row.series, row.time) });
                }
                Some(rows)
            });
            Emitted { number: emission.number, entry: emission.entry, rows }
        })
        .collect()
}

fn encode(request: &Request, settings: u64, unsaid: bool) -> Vec<u8> {
    let (mut digest, mut encoded) = (Vec::new(), Vec::new());
    let values: Vec<u64> = request.items.iter().map(|item| if unsaid { NO_VALUE } else { said(item) }).collect();
    digest::encode_valued(&request.items, &values, &mut digest);
    let samples = Samples {
        group: &request.group,
        replica: &request.replica,
        settings,
        protocol: Protocol::V1,
        packing: Packing::Snappy,
        strip: Vec::new(),
        from_leader: false,
        digest: &digest,
        body: &request.body(),
    };
    entry::encode(0, &Entry::Samples(samples), &mut encoded);
    encoded
}

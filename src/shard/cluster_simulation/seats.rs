//! Who takes part: each shard's leader follows the list of nodes as `node::seats` does, and an operator changes that list as `sluice cluster
//! replace`, `remove` and `add` do: one change at a time, asked again until it is in the list, and done when nobody comes or goes any more.
//!
//! Left out: what an operator checks before a change (`app::seats`), but for what would lose the majority.

use super::bugs::Bug;
use super::disk::NodeDisk;
use super::disk::Shards;
use super::faults::Fault;
use super::process::Host;
use super::process::Process;
use super::stage::Crash;
use super::stage::Event;
use super::stage::Mail;
use super::stage::Stage;
use super::stage::node_of;
use super::world::World;
use crate::model::ShardId;
use crate::shard::command::Command;
use crate::shard::entry::Entry;
use crate::shard::member::State;
use crate::shard::member::simulation::Contents;
use crate::shard::members::Change;
use crate::shard::members::MOST_NODES;
use crate::shard::members::Node;
use crate::shard::members::Nodes;
use crate::shard::members::Role;
use crate::shard::members::Step;
use crate::shard::members::meanwhile;
use crate::shard::members::next_step;

/// What an operator wants changed: ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub leaving: Option<u64>,
    pub joining: Option<u64>,
}

/// What a disk has of what was promised in a shard (`store::mark`).
#[derive(Clone, Copy)]
struct Promise {
    term: u64,
    vote: u64,
    last: (u64, u64),
}

impl Promise {
    fn is_short_of(self, marked: Promise) -> bool {
        let vote_lost = self.term == marked.term && marked.vote != 0 && self.vote != marked.vote;
        self.term < marked.term || vote_lost || self.last < marked.last
    }
}

fn promises(shards: &Shards) -> Vec<Promise> {
    let promise = |contents: &Contents| {
        let (hard, last) = (&contents.known.hard_state, contents.known.last());
        Promise { term: hard.term, vote: hard.vote, last: (last.term, last.index) }
    };
    shards.values().map(promise).collect()
}

/// Between two looks of the operator, ms.
pub const OPERATE: i64 = 1_500;

impl Process {
    /// Once a round, by the shard's leader.
    pub(super) fn reseat(&mut self, host: &Host, shard: usize, stage: &mut Stage) {
        let State::Control(control) = &self.workers[0].member.state else { return };
        let nodes = control.nodes.clone();
        if nodes.version == 0 || !self.workers[shard].member.replica.leads_surely() {
            return;
        }
        let follow = |worker: &super::worker::Worker| worker.member.replica.seats().follow(&nodes);
        let waits_for_the_rest = shard == 0 && !self.workers[1..].iter().all(follow);
        let seated = self.workers[shard].member.replica.seats().voters.contains(&host.id);
        if shard == 0 && !waits_for_the_rest && seated && follow(&self.workers[0]) && !nodes.is_settled() {
            let worker = &mut self.workers[0];
            let at = worker.at(host, stage);
            let _ = worker.member.propose(at, &Entry::Command(Command::Nodes(nodes.settled())));
            return self.wake(host, shard, stage);
        }
        let replica = &mut self.workers[shard].member.replica;
        let (seats, begins) = (replica.seats(), replica.known().truncated.index);
        let step = if waits_for_the_rest {
            meanwhile(host.id, &seats, &nodes)
        } else {
            next_step(host.id, &seats, &nodes, |id| stage.has(Bug::VoteTooSoon) || replica.keeps_up(id))
        };
        let done = match step {
            None => return,
            Some(Step::Change(change)) => replica.propose_seat(change),
            Some(Step::HandOver) => replica.hand_over(|id| nodes.stays(id)),
        };
        if done {
            stage.say(|| format!("n{} s{shard}: {step:?}, of {seats:?}", host.node));
            if let Some(Step::Change(Change::Voter(id))) = step {
                stage.votes.push((ShardId(shard as u16), id, begins));
            }
            self.wake(host, shard, stage);
        }
    }
}

impl World {
    /// The list of nodes, as committed.
    fn list(&self) -> Nodes {
        let State::Control(control) = &self.stage.ledger.shards[0].state else { return Nodes::default() };
        if control.nodes.version > 0 {
            return control.nodes.clone();
        }
        let founder = |id| Node { id, name: format!("n{id}"), role: Role::Member };
        Nodes { version: 0, nodes: (1..=self.stage.shape.founders as u64).map(founder).collect() }
    }

    /// Members of the list, once nobody comes and nobody goes.
    pub(super) fn settled(&self) -> Option<Vec<u64>> {
        let list = self.list();
        (self.wanted.is_none() && list.is_settled()).then(|| list.nodes.iter().map(|node| node.id).collect())
    }

    /// A node loses its disk, and its place goes to what comes back with an empty one.
    pub(super) fn wipe(&mut self, node: usize) {
        let id = self.stage.ids[node];
        if !self.settled().is_some_and(|members| members.len() > 2 && members.contains(&id)) {
            return;
        }
        self.take_away(node);
        if self.stage.has(Bug::OldId) {
            let founders: Vec<u64> = (1..=self.stage.shape.founders as u64).collect();
            return self.bring(node, id, &founders);
        }
        let joining = self.new_id(node);
        self.operate(Wanted { leaving: Some(id), joining: Some(joining) });
    }

    /// A node leaves the cluster, alive.
    pub(super) fn remove(&mut self, node: usize) {
        let id = self.stage.ids[node];
        if self.settled().is_some_and(|members| members.len() > 1 && members.contains(&id)) {
            self.operate(Wanted { leaving: Some(id), joining: None });
        }
    }

    /// One that is not of the cluster comes, empty.
    pub(super) fn add(&mut self) {
        let Some(members) = self.settled() else { return };
        let spare = (0..self.nodes.len()).find(|node| !members.contains(&self.stage.ids[*node]));
        if let Some(node) = spare {
            self.take_away(node);
            let joining = self.new_id(node);
            self.operate(Wanted { leaving: None, joining: Some(joining) });
        }
    }

    /// Whoever is on its way in loses its disk: another one takes its place, with an id of its own.
    pub(super) fn lose_comer(&mut self) {
        let Some(Wanted { joining: Some(id), .. }) = self.wanted else { return };
        let list = self.list();
        let coming = list.nodes.iter().any(|node| node.id == id && node.role == Role::Joining);
        // It may have its vote already: without it the others must be a majority.
        let others = list.nodes.iter().filter(|node| node.role == Role::Member).count();
        if self.stage.ids[node_of(id)] != id || !coming || others < 2 {
            return;
        }
        self.take_away(node_of(id));
        if self.stage.has(Bug::ComerOldId) {
            let others: Vec<u64> = self.list().nodes.iter().map(|node| node.id).filter(|other| *other != id).collect();
            return self.bring(node_of(id), id, &others);
        }
        let joining = self.new_id(node_of(id));
        self.operate(Wanted { leaving: Some(id), joining: Some(joining) });
    }

    /// What a node's disk has now is what it will be found to have.
    pub(super) fn remember(&mut self, node: usize) {
        let durable = self.nodes[node].host.disk.borrow().durable();
        self.copy = Some((node, self.stage.ids[node], durable));
        let later = self.stage.random.i64(3_000..15_000);
        self.stage.after(later, Event::Fault(Fault::Relapsed(node)));
    }

    /// A node finds that its disk has lost some seconds. Its mark tells (the last second apart, which the mark may lack: here it has everything): then it
    /// does not start, and another one takes its place.
    pub(super) fn relapse(&mut self, node: usize) {
        let Some((_, id, old)) = self.copy.take_if(|copy| copy.0 == node) else { return };
        let replaceable = self.settled().is_some_and(|members| members.len() > 2 && members.contains(&id));
        if self.stage.ids[node] != id || !replaceable || self.nodes[node].process.is_none() {
            return;
        }
        self.nodes[node].crash(Crash::Power, &mut self.stage);
        let marked = promises(&self.nodes[node].host.disk.borrow().durable());
        let short = promises(&old).iter().zip(&marked).any(|(found, marked)| found.is_short_of(*marked));
        self.nodes[node].host.disk.borrow_mut().go_back(old);
        self.stage.say(|| format!("n{node} has lost the end of its log; its mark {}", if short { "says so" } else { "says nothing" }));
        if !short || self.stage.has(Bug::MarkIgnored) {
            return self.nodes[node].start(&mut self.stage);
        }
        self.take_away(node);
        let joining = self.new_id(node);
        self.operate(Wanted { leaving: Some(id), joining: Some(joining) });
    }

    fn operate(&mut self, wanted: Wanted) {
        self.stage.say(|| format!("the operator wants {wanted:?}"));
        self.wanted = Some(wanted);
        let soon = self.stage.random.i64(3_000..8_000);
        self.stage.after(soon, Event::Operate);
        if self.wanted.as_ref().is_some_and(|wanted| wanted.joining.is_some()) && self.stage.one_in(3) {
            let late = soon + self.stage.random.i64(0..12_000);
            self.stage.after(late, Event::Fault(Fault::LoseComer));
        }
    }

    fn new_id(&self, node: usize) -> u64 {
        self.stage.ids[node] + MOST_NODES as u64
    }

    fn take_away(&mut self, node: usize) {
        self.nodes[node].crash(Crash::Kill, &mut self.stage);
        self.nodes[node].host.begun = false;
        self.stage.serving.retain(|other| *other != node);
    }

    /// An empty node begins, with what it was told of the others.
    fn bring(&mut self, node: usize, id: u64, others: &[u64]) {
        let shards = (0..=self.stage.shape.data_shards).map(ShardId);
        let host = &mut self.nodes[node].host;
        *host.disk.borrow_mut() = NodeDisk::fresh(shards, others);
        (host.id, host.begun, self.stage.ids[node]) = (id, true, id);
        self.stage.serving.push(node);
        self.nodes[node].start(&mut self.stage);
    }

    /// The operator looks, and asks again for what is not in the list yet.
    pub(super) fn look_after(&mut self) {
        let Some(Wanted { leaving, joining }) = self.wanted.clone() else { return };
        self.stage.after(OPERATE, Event::Operate);
        let list = self.list();
        let role = |id: u64| list.nodes.iter().find(|node| node.id == id).map(|node| node.role);
        let leaves = leaving.is_none_or(|id| matches!(role(id), None | Some(Role::Leaving)));
        let joins = joining.is_none_or(|id| role(id).is_some());
        if !leaves || !joins {
            return self.ask(list, leaving, joining);
        }
        if let Some(id) = joining.filter(|id| self.stage.ids[node_of(*id)] != *id) {
            let others: Vec<u64> = list.nodes.iter().map(|node| node.id).filter(|other| *other != id).collect();
            return self.bring(node_of(id), id, &others);
        }
        if list.is_settled() {
            self.stage.say(|| format!("the list of nodes is settled: {list:?}"));
            self.wanted = None;
            // The one that left is stopped for good, and its disk goes.
            if let Some(id) = leaving.filter(|id| self.stage.ids[node_of(*id)] == *id) {
                self.take_away(node_of(id));
            }
        }
    }

    fn ask(&mut self, list: Nodes, leaving: Option<u64>, joining: Option<u64>) {
        let mut next = Nodes { version: list.version + 1, nodes: list.nodes };
        next.nodes.iter_mut().filter(|node| Some(node.id) == leaving).for_each(|node| node.role = Role::Leaving);
        next.nodes.extend(joining.map(|id| Node { id, name: format!("n{id}"), role: Role::Joining }));
        for node in 0..self.nodes.len() {
            let command = Command::Nodes(next.clone());
            self.stage.after(1, Event::Mail { node, mail: Mail::Ask { shard: ShardId::CONTROL, command } });
        }
    }

    /// Votes that were just proposed: whoever gets one needs no snapshot any more.
    pub(super) fn mind_votes(&mut self) {
        for (shard, id, begins) in std::mem::take(&mut self.stage.votes) {
            let ends = self.nodes[node_of(id)].host.disk.borrow().shard(shard).known.last_index;
            if ends < begins {
                let shard = shard.0;
                self.stage
                    .broken(format!("shard {shard}: member {id} gets a vote, and ends at {ends}, before the log begins, after {begins}"));
            }
        }
    }
}

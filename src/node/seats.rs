//! Seats: each shard's leader brings its shard, one change after the other, to what the list of nodes in the control shard says. Nobody has to
//! stay there for it: who leads next goes on. Whoever comes gets the control shard's log first, to know the list; for the rest the control shard
//! changes last, and then says that it is done.
//!
//! Left out on purpose: the order of changes (`shard::members`), who asked for them (`api`), who of the members leads (`leadership`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::failpoint;
use crate::model::ShardId;
use crate::node::Handle;
use crate::node::lane::lock;
use crate::node::worker::Worker;
use crate::shard::command::Command;
use crate::shard::member::State;
use crate::shard::members::Nodes;
use crate::shard::members::Seats;
use crate::shard::members::Step;
use crate::shard::members::meanwhile;
use crate::shard::members::next_step;

impl Worker {
    /// Once a round, by the leader.
    pub(super) fn reseat(&mut self) {
        let free = self.shared.space.free.load(Ordering::Relaxed);
        self.member.replica.press(free < 2 * self.shared.space.reserve.load(Ordering::Relaxed));
        let (Some(together), true) = (&self.shared.together, self.member.replica.leads_surely()) else { return };
        let Some(control) = self.shared.lane(ShardId::CONTROL) else { return };
        let nodes = Arc::clone(&lock(&control.views).nodes);
        let seats = self.member.replica.seats();
        if nodes.version == 0 {
            return;
        }
        let mut waits_for_the_rest = false;
        if let State::Control(state) = &self.member.state {
            let mut rest = self.shared.lanes.iter().filter(|lane| lane.shard != ShardId::CONTROL);
            waits_for_the_rest = state.nodes != *nodes || !rest.all(|lane| lock(&lane.views).seats.follow(&nodes));
            if !waits_for_the_rest && seats.voters.contains(&together.id) && seats.follow(&nodes) && !nodes.is_settled() {
                let at = self.at(crate::clock::now());
                let settled = crate::shard::entry::Entry::Command(Command::Nodes(nodes.settled()));
                let _ = self.member.propose(at, &settled); // not taken: the next round says it again
                return;
            }
        }
        let replica = &mut self.member.replica;
        let step = if waits_for_the_rest {
            meanwhile(together.id, &seats, &nodes)
        } else {
            next_step(together.id, &seats, &nodes, |id| replica.keeps_up(id))
        };
        let done = match step {
            None => return,
            Some(Step::Change(change)) => replica.propose_seat(change),
            Some(Step::HandOver) => replica.hand_over(|id| nodes.stays(id) && together.peers.wants_to_lead(id)),
        };
        if done {
            failpoint::reach(failpoint::Place::SeatProposed);
            tracing::info!(shard = self.lane.shard.0, ?step, "the shard's seats follow the list of nodes");
        }
    }

    /// Who takes part, for everybody who asks.
    pub(super) fn show_seats(&mut self) {
        let seats = self.member.replica.seats();
        let mut views = lock(&self.lane.views);
        if views.seats != seats {
            views.seats = seats;
        }
    }
}

impl Handle {
    /// Index of the last image of a shard here, and its hash: the same on every member.
    pub fn image(&self, shard: ShardId) -> (u64, u64) {
        self.shared.lane(shard).map(|lane| lane.image()).unwrap_or_default()
    }

    /// The node cannot go on.
    pub fn end(&self, reason: String) {
        self.shared.fatal.end(reason);
    }

    /// Who takes part in a shard, as far as applied here.
    pub fn seats(&self, shard: ShardId) -> Seats {
        self.shared.lane(shard).map(|lane| lock(&lane.views).seats.clone()).unwrap_or_default()
    }

    /// Who takes part in the cluster, as far as applied here; version 0: as founded.
    pub fn nodes(&self) -> Arc<Nodes> {
        self.shared.lane(ShardId::CONTROL).map(|lane| Arc::clone(&lock(&lane.views).nodes)).unwrap_or_default()
    }
}

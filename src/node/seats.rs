//! Seats: each shard's leader brings its shard, one change after the other, to what the list of nodes in the control shard says. Nobody has to
//! stay there for it: who leads next goes on. Whoever comes gets the control shard's log first, to know the list; for the rest the control shard
//! changes last, and then says that it is done.
//!
//! And leadership: spread over the nodes by number, moved only where one leads two more than another, and away from a node that is being drained.
//!
//! Left out on purpose: the order of changes (`shard::members`), who asked for them (`api`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::model::ShardId;
use crate::node::Handle;
use crate::node::lane::lock;
use crate::node::worker::Worker;
use crate::shard::command::Command;
use crate::shard::member::State;
use crate::shard::members::Change;
use crate::shard::members::Nodes;
use crate::shard::members::Seats;
use crate::shard::members::Step;
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
            if !waits_for_the_rest && seats.follow(&nodes) && !nodes.is_settled() {
                let at = self.at(crate::clock::now());
                let settled = crate::shard::entry::Entry::Command(Command::Nodes(nodes.settled()));
                let _ = self.member.propose(at, &settled); // not taken: the next round says it again
                return;
            }
        }
        let replica = &mut self.member.replica;
        let step = next_step(together.id, &seats, &nodes, |id| replica.keeps_up(id));
        // Whoever comes reads the list at once, before it may lead anything: a leader that knew no list could not go on.
        let step = step.filter(|step| !waits_for_the_rest || matches!(step, Step::Change(Change::Learner(_))));
        let done = match step {
            None => return,
            Some(Step::Change(change)) => replica.propose_seat(change),
            Some(Step::HandOver) => replica.hand_over(|id| together.peers.wants_to_lead(id)),
        };
        if done {
            tracing::info!(shard = self.lane.shard.0, ?step, "the shard's seats follow the list of nodes");
        }
    }

    /// A node that is being drained leads nothing; else leadership of the data shards is spread evenly over the nodes, one move at a time.
    pub(super) fn balance(&mut self, now: Instant) {
        let shared = Arc::clone(&self.shared);
        let (Some(together), true) = (&shared.together, self.member.replica.leads_surely()) else { return };
        let replica = &mut self.member.replica;
        if replica.is_handing_over() {
            return;
        }
        if shared.stands_aside() {
            // Only to one that can lead at once: until then this one goes on.
            let fit: Vec<u64> = replica.seats().voters.into_iter().filter(|&id| replica.keeps_up(id) && shared.wants_to_lead(id)).collect();
            replica.hand_over(|id| fit.contains(&id));
            return;
        }
        let leaders: Vec<u64> =
            shared.shards.iter().filter_map(|shard| shared.lane(*shard)).map(|lane| lane.progress.borrow().leader).collect();
        let others = replica.seats().voters.into_iter().filter(|&id| id != together.id && replica.keeps_up(id) && shared.wants_to_lead(id));
        // Of the shards that are led here the last one goes, so that not all go at once.
        let last_here = shared.shards.iter().zip(&leaders).rev().find(|(_, leader)| **leader == together.id).map(|(shard, _)| *shard);
        let Some(to) = gets_one(together.id, &leaders, others).filter(|_| last_here == Some(self.lane.shard)) else { return };
        let mut balanced = lock(&shared.balanced);
        if balanced.is_none_or(|at| now.saturating_duration_since(at) >= shared.settings.timing.balance) && replica.hand_over_to(to) {
            *balanced = Some(now);
            tracing::info!(shard = self.lane.shard.0, to = format!("{to:016x}"), "leadership goes to a node that leads less");
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

/// Who of the others gets a shard of ours, if any leads at least two fewer.
fn gets_one(own: u64, leaders: &[u64], others: impl Iterator<Item = u64>) -> Option<u64> {
    let count = |id: u64| leaders.iter().filter(|leader| **leader == id).count();
    others.min_by_key(|&id| (count(id), id)).filter(|&id| count(own) >= count(id) + 2)
}

impl Handle {
    /// From now on this node leads nothing, or may lead again. What it leads goes to others within a second or two.
    pub fn drain(&self, drained: bool) {
        self.shared.draining.store(drained, Ordering::Relaxed);
    }

    /// This node shall lead nothing.
    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
    }

    /// The node's clock is wrong, or right again: what it stamps on samples is not to be believed, so others lead where they can.
    pub fn mistrust_clock(&self, off: bool) {
        self.shared.clock_off.store(off, Ordering::Relaxed);
    }

    /// Others are to lead what this node could lead.
    pub fn stands_aside(&self) -> bool {
        self.shared.stands_aside()
    }

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

#[cfg(test)]
mod tests {
    use super::gets_one;

    #[test]
    fn a_shard_goes_to_whoever_leads_least_and_only_where_it_evens_things_out() {
        let to = |leaders: &[u64], others: &[u64]| gets_one(1, leaders, others.iter().copied());
        assert_eq!(to(&[1, 1, 1, 1, 1, 1], &[2, 3]), Some(2));
        assert_eq!(to(&[1, 1, 2, 1, 1, 2], &[2, 3]), Some(3));
        assert_eq!(to(&[1, 1, 2, 3, 2, 3], &[2, 3]), None);
        assert_eq!(to(&[1, 1, 2, 2, 3], &[2, 3]), None, "one more is no reason to move");
        assert_eq!(to(&[1, 1, 1], &[]), None);
    }
}

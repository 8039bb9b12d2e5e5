//! Which of a shard's members leads it, where Raft leaves the choice: leadership is spread over the nodes by number and moved only where one leads two
//! more than another; it goes away from a node that is being drained, whose clock is wrong or whose disk is slow; and it goes where a person wants it.
//!
//! What a person moved stays there: balance leaves that shard alone for an hour, or until the node loses it (it stops, is drained, dies), or somebody
//! moves it again. For good would be longer than people remember what they did before the last maintenance.
//!
//! A disk is slow when a write has waited for its sync for more than a second: then every answer waits so long, though the other members could commit
//! without this one. The node gives away what it leads and is given nothing for two minutes after the last such write, so that shards do not come and
//! go with every hiccup. It goes on as a follower, which is how it knows when its disk is well again. Where no other member can lead, it leads on.
//!
//! Left out on purpose: elections (`shard::replica`), who takes part (`seats`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use crate::clock;
use crate::model::ShardId;
use crate::node::Handle;
use crate::node::lane::Lane;
use crate::node::lane::lock;
use crate::node::mailbox::Wanted;
use crate::node::offer::Applied;
use crate::node::offer::ProposeError;
use crate::node::peers::ASK_STAY;
use crate::node::worker::Worker;

/// A member that was asked to lead does so within some milliseconds; if not by then, it does not.
const LEADS_WITHIN: Duration = Duration::from_secs(5);

/// Writes of the log that were handed to the writer and are not durable, oldest first.
#[derive(Default)]
pub(super) struct Unsynced(VecDeque<(u64, Instant)>);

impl Unsynced {
    pub fn handed_out(&mut self, number: u64, now: Instant) {
        self.0.push_back((number, now));
    }

    /// All up to this number are durable.
    pub fn synced(&mut self, number: u64) {
        while self.0.front().is_some_and(|(oldest, _)| *oldest <= number) {
            self.0.pop_front();
        }
    }

    /// Numbers begin anew.
    pub fn forget(&mut self) {
        self.0.clear();
    }

    fn age(&self, now: Instant) -> Duration {
        self.0.front().map_or(Duration::ZERO, |(_, since)| now.saturating_duration_since(*since))
    }
}

/// When a write last waited too long.
#[derive(Default)]
pub(super) struct Slow(Mutex<Option<Instant>>);

impl Slow {
    fn note(&self, now: Instant, rest: Duration) {
        if lock(&self.0).replace(now).is_none_or(|before| now.saturating_duration_since(before) >= rest) {
            tracing::warn!("the disk is slow: a write has waited more than a second for its sync. This node gives away what it leads");
        }
    }

    fn within(&self, now: Instant, rest: Duration) -> bool {
        lock(&self.0).is_some_and(|last| now.saturating_duration_since(last) < rest)
    }
}

impl Worker {
    /// Once a turn: how long the oldest write has waited for its sync.
    pub(super) fn mind_disk(&mut self, now: Instant) {
        let age = self.unsynced.age(now);
        self.lane.unsynced_ms.store(age.as_millis() as u64, Ordering::Relaxed);
        if age < self.timing.slow {
            return;
        }
        self.shared.slow.note(now, self.timing.rest);
        let replica = &mut self.member.replica;
        if replica.leads_surely() && !replica.is_handing_over() {
            let shared = Arc::clone(&self.shared);
            if replica.hand_over(|id| shared.wants_to_lead(id)) {
                self.lane.gave_way.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(shard = self.lane.shard.0, "leadership goes to another node: this one's disk is slow");
            }
        }
    }

    /// A node that others are to stand in for leads nothing; else leadership of the data shards is spread evenly over the nodes, one move at a time.
    pub(super) fn balance(&mut self, now: Instant) {
        let shared = Arc::clone(&self.shared);
        let (Some(together), true) = (&shared.together, self.member.replica.leads_surely()) else { return };
        let replica = &mut self.member.replica;
        if replica.is_handing_over() {
            return;
        }
        if Handle::new(Arc::clone(&shared)).stands_aside() {
            replica.hand_over(|id| together.peers.wants_to_lead(id));
            return;
        }
        let lanes: Vec<&Arc<Lane>> = shared.shards.iter().filter_map(|shard| shared.lane(*shard)).collect();
        let leaders: Vec<u64> = lanes.iter().map(|lane| lane.progress.borrow().leader).collect();
        let others = replica.seats().voters.into_iter().filter(|&id| id != together.id && replica.keeps_up(id) && shared.wants_to_lead(id));
        // Of the shards that are led here and may go the last one goes, so that not all go at once.
        let movable = lanes.iter().zip(&leaders).rev().find(|(lane, leader)| **leader == together.id && !lane.stays(now));
        let last_here = movable.map(|(lane, _)| lane.shard);
        let Some(to) = gets_one(together.id, &leaders, others).filter(|_| last_here == Some(self.lane.shard)) else { return };
        let mut balanced = lock(&shared.balanced);
        if balanced.is_none_or(|at| now.saturating_duration_since(at) >= shared.settings.timing.balance) && replica.hand_over_to(to) {
            *balanced = Some(now);
            tracing::info!(shard = self.lane.shard.0, to = format!("{to:016x}"), "leadership goes to a node that leads less");
        }
    }

    /// A person wants that node to lead. Says whether it was asked to, or why not.
    pub(super) fn hand_over_as_asked(&mut self, to: u64) -> Result<Applied, ProposeError> {
        let (shard, replica) = (self.lane.shard.0, &mut self.member.replica);
        if !replica.leads() {
            return Err(ProposeError::NotLeader(shard));
        }
        let void = |why: &str| Err(ProposeError::Void(format!("shard {shard}: {why}")));
        if self.shared.together.as_ref().is_none_or(|together| together.id == to) {
            return Ok(Applied::default());
        }
        if !replica.seats().voters.contains(&to) {
            return void("that node has no vote in it; `sluice cluster status` shows who has");
        }
        if !self.shared.wants_to_lead(to) {
            return void("that node is being drained, or its clock is wrong or its disk slow; `sluice cluster status` says which");
        }
        if !replica.keeps_up(to) {
            return void("that node does not keep up (or cannot be reached): it would have to catch up first");
        }
        if !replica.hand_over_to(to) {
            return void("that node was not heard of just now");
        }
        tracing::info!(shard, to = format!("{to:016x}"), "leadership goes where a person wants it");
        Ok(Applied::default())
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

    /// A write waited too long for its sync, now or a moment ago.
    pub fn has_slow_disk(&self) -> bool {
        self.shared.slow.within(clock::now(), self.shared.settings.timing.rest)
    }

    /// Others are to lead what this node could lead: why, as a short fixed word.
    pub fn aside(&self) -> Option<&'static str> {
        if self.is_draining() {
            Some("draining")
        } else if self.shared.clock_off.load(Ordering::Relaxed) {
            Some("clock")
        } else {
            self.has_slow_disk().then_some("slow_disk")
        }
    }

    /// Others are to lead what this node could lead.
    pub fn stands_aside(&self) -> bool {
        self.aside().is_some()
    }

    /// A person gives the shard to this node, which keeps it for some time.
    pub(super) fn stay(&self, lane: &Lane) {
        lane.stay(Some(clock::now() + self.shared.settings.timing.stay));
    }

    /// A person wants that node to lead the shard. Resolves when it does, as far as is seen here.
    pub async fn transfer(&self, shard: ShardId, to: u64) -> Result<(), ProposeError> {
        let lane = self.lane(shard)?;
        let Some(together) = &self.shared.together else {
            return Err(ProposeError::Void("this node is all there is: nobody else can lead".to_owned()));
        };
        // First, so that it is not given back in between. A node that does not know what this is may give it back soon.
        if to == together.id {
            self.stay(lane);
        } else {
            let _ = together.peers.ask(to, shard, vec![ASK_STAY]).await;
        }
        let mut progress = lane.progress.subscribe();
        self.ask(shard, Wanted::HandOver(to)).await?;
        let leads = progress.wait_for(|progress| progress.leader == to);
        match tokio::time::timeout(LEADS_WITHIN, leads).await {
            Ok(Ok(_)) => Ok(()),
            _ => {
                Err(ProposeError::Void(format!("shard {}: that node was asked to lead and does not yet; look again in a moment", shard.0)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_goes_to_whoever_leads_least_and_only_where_it_evens_things_out() {
        let to = |leaders: &[u64], others: &[u64]| gets_one(1, leaders, others.iter().copied());
        assert_eq!(to(&[1, 1, 1, 1, 1, 1], &[2, 3]), Some(2));
        assert_eq!(to(&[1, 1, 2, 1, 1, 2], &[2, 3]), Some(3));
        assert_eq!(to(&[1, 1, 2, 3, 2, 3], &[2, 3]), None);
        assert_eq!(to(&[1, 1, 2, 2, 3], &[2, 3]), None, "one more is no reason to move");
        assert_eq!(to(&[1, 1, 1], &[]), None);
    }

    #[test]
    fn the_oldest_write_counts_until_it_is_synced() {
        let (mut unsynced, start) = (Unsynced::default(), clock::now());
        let after = |ms| start + Duration::from_millis(ms);
        unsynced.handed_out(3, start);
        unsynced.handed_out(5, after(700));
        assert_eq!(unsynced.age(after(900)), Duration::from_millis(900));
        unsynced.synced(4);
        assert_eq!(unsynced.age(after(900)), Duration::from_millis(200));
        unsynced.synced(5);
        assert_eq!(unsynced.age(after(900)), Duration::ZERO);
        let slow = Slow::default();
        assert!(!slow.within(start, Duration::from_secs(1)));
        slow.note(start, Duration::from_secs(1));
        assert!(slow.within(after(999), Duration::from_secs(1)) && !slow.within(after(1_000), Duration::from_secs(1)));
    }
}

//! Which of a shard's members leads it, where Raft leaves the choice: leadership is spread over the nodes by measured load, bytes of log a second as every
//! member sees them, and by number as long as nothing flows; it is moved only where that evens things out by a good part; it goes away from a node that is
//! being drained, whose clock is wrong or whose disk is slow; and it goes where a person wants it.
//!
//! What a person moved stays there: balance leaves that shard alone for an hour, or until the node loses it (it stops, is drained, dies), or somebody
//! moves it again. For good would be longer than people remember what they did before the last maintenance.
//!
//! A disk is slow when a write has waited for its sync for more than a second (`cluster.slow_sync`): then every answer waits so long, though the other members could commit
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
use crate::failpoint;
use crate::model::ShardId;
use crate::node::Handle;
use crate::node::lane::Lane;
use crate::node::lane::lock;
use crate::node::mailbox::Wanted;
use crate::node::offer::Applied;
use crate::node::offer::ProposeError;
use crate::node::peers::ASK_STAY;
use crate::node::worker::Worker;

/// How much of a shard's load so far gives way to the last second's: a burst of some seconds moves nothing.
const NEWEST: f64 = 1.0 / 30.0;
/// Nothing is moved that takes less than this share of a node's mean load off the one that carries more.
const EVEN: f64 = 0.2;
/// What leading an idle shard counts for, as a share of a shard's mean load: so that where nothing flows numbers decide.
const IDLE: f64 = 0.1;

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
            tracing::warn!(
                "the disk is slow: a write has waited longer for its sync than cluster.slow_sync allows. This node gives away what it leads"
            );
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
        // Also one that was just elected: what it has to write first may be what the disk does not take, and then it would never lead surely.
        if replica.leads() && !replica.is_handing_over() {
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
            // Only to one that can lead at once: until then this one goes on.
            let fit: Vec<u64> = replica.seats().voters.into_iter().filter(|&id| replica.keeps_up(id) && shared.wants_to_lead(id)).collect();
            replica.hand_over(|id| fit.contains(&id));
            return;
        }
        let others = replica.seats().voters.into_iter().filter(|&id| id != together.id && replica.keeps_up(id) && shared.wants_to_lead(id));
        let led = |lane: &Arc<Lane>| Led {
            shard: lane.shard,
            leader: lane.progress.borrow().leader,
            load: f64::from_bits(lane.load.load(Ordering::Relaxed)),
            movable: !lane.stays(now),
        };
        let all: Vec<Led> = shared.shards.iter().filter_map(|shard| shared.lane(*shard)).map(led).collect();
        let Some((_, to)) = gets_one(together.id, &all, others).filter(|(shard, _)| *shard == self.lane.shard) else { return };
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
        failpoint::reach(failpoint::Place::HandedOver);
        tracing::info!(shard, to = format!("{to:016x}"), "leadership goes where a person wants it");
        Ok(Applied::default())
    }
}

/// A data shard, as balance sees it.
#[derive(Clone, Copy, Debug)]
struct Led {
    shard: ShardId,
    leader: u64,
    /// Bytes of log a second.
    load: f64,
    movable: bool,
}

/// Which of our shards goes to whom of the others: the one that leaves both of us with the least, if that is less than we carry now by a good part.
fn gets_one(own: u64, all: &[Led], others: impl Iterator<Item = u64>) -> Option<(ShardId, u64)> {
    let mean = all.iter().map(|led| led.load).sum::<f64>() / all.len().max(1) as f64;
    let weight = |led: &Led| led.load + (mean * IDLE).max(1.0);
    let carries = |id: u64| all.iter().filter(|led| led.leader == id).map(weight).sum::<f64>();
    let to = others.min_by(|a, b| carries(*a).total_cmp(&carries(*b)).then(a.cmp(b)))?;
    let nodes: std::collections::BTreeSet<u64> = all.iter().map(|led| led.leader).chain([to]).collect();
    let a_nodes = all.iter().map(weight).sum::<f64>() / nodes.len() as f64;
    let (here, there) = (carries(own), carries(to));
    let after = |led: &Led| (here - weight(led)).max(there + weight(led));
    let ours = all.iter().filter(|led| led.leader == own && led.movable);
    // Of equals the last one goes, as every shard's thread finds by itself.
    let goes = ours.min_by(|a, b| after(a).total_cmp(&after(b)).then(b.shard.cmp(&a.shard)))?;
    (after(goes) < here - EVEN * a_nodes).then_some((goes.shard, to))
}

impl Worker {
    /// Once a round: how much is written to the shard's log.
    pub(super) fn weigh(&mut self, now: Instant) {
        let (since, bytes) = std::mem::replace(&mut self.weighed, (now, 0));
        let seconds = now.saturating_duration_since(since).as_secs_f64().max(0.001);
        let before = f64::from_bits(self.lane.load.load(Ordering::Relaxed));
        let newest = (NEWEST * seconds).min(1.0);
        let load = before + (bytes as f64 / seconds - before) * newest;
        self.lane.load.store(load.to_bits(), Ordering::Relaxed);
    }
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
        } else if self.shared.together.is_some() && self.shared.is_full() {
            Some("full_disk")
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
            // It knows best whether it may lead; where it cannot be reached, whoever leads now decides.
            if let Err(ProposeError::Void(why)) = together.peers.ask(to, shard, vec![ASK_STAY]).await {
                return Err(ProposeError::Void(why));
            }
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

    /// From us (1) to the others, of shards 1, 2, ... by leader and load.
    fn to(shards: &[(u64, f64)], others: &[u64]) -> Option<(u16, u64)> {
        let led = |(at, &(leader, load)): (usize, &(u64, f64))| Led { shard: ShardId(at as u16 + 1), leader, load, movable: true };
        let all: Vec<Led> = shards.iter().enumerate().map(led).collect();
        gets_one(1, &all, others.iter().copied()).map(|(shard, to)| (shard.0, to))
    }

    #[test]
    fn where_nothing_flows_a_shard_goes_to_whoever_leads_least_and_only_where_it_evens_things_out() {
        let idle = |leaders: &[u64], others: &[u64]| to(&leaders.iter().map(|leader| (*leader, 0.0)).collect::<Vec<_>>(), others);
        assert_eq!(idle(&[1, 1, 1, 1, 1, 1], &[2, 3]), Some((6, 2)));
        assert_eq!(idle(&[1, 1, 2, 1, 1, 2], &[2, 3]), Some((5, 3)));
        assert_eq!(idle(&[1, 1, 2, 3, 2, 3], &[2, 3]), None);
        assert_eq!(idle(&[1, 1, 2, 2, 3], &[2, 3]), None, "one more is no reason to move");
        assert_eq!(idle(&[1, 1, 1], &[]), None);
    }

    #[test]
    fn what_flows_counts_more_than_numbers_and_small_differences_move_nothing() {
        let (busy, calm) = (1e6, 1e4);
        assert_eq!(to(&[(1, busy), (1, busy), (2, calm), (2, calm), (3, calm), (3, calm)], &[2, 3]), Some((2, 2)), "two busy ones");
        assert_eq!(
            to(&[(1, busy), (1, calm), (2, calm), (2, calm), (3, calm), (3, calm)], &[2, 3]),
            None,
            "a calm one beside a busy one is not worth it"
        );
        assert_eq!(to(&[(1, busy), (2, calm), (2, calm), (2, calm), (3, calm), (3, calm)], &[2, 3]), None, "one alone is as good anywhere");
        assert_eq!(to(&[(1, 3e5), (1, 2e5), (2, 4.5e5), (3, 5e5)], &[2, 3]), None, "even enough");
        let stays = Led { shard: ShardId(1), leader: 1, load: busy, movable: false };
        let other = Led { shard: ShardId(2), movable: true, ..stays };
        assert_eq!(gets_one(1, &[stays, other], [2].into_iter()), Some((ShardId(2), 2)));
        assert_eq!(gets_one(1, &[stays, Led { movable: false, ..other }], [2].into_iter()), None);
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

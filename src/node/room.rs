//! Full disks among several nodes. A node below its reserve hands leadership over and leads nothing that another one can lead. It still takes what is
//! needed to agree; what brings samples only down to half of the reserve: below it counts as lost. Samples are refused once those with room are no
//! majority, which every leader learns within a second or two. So the other half is there for cursors, switches, members and RocksDB itself, and
//! what was proposed before the leader knew stands nowhere in their way.
//!
//! Left out on purpose: how room is seen and made (`watch`), a node without others, which refuses samples below its reserve (`peers`).

use std::sync::atomic::Ordering;

use crate::node::Handle;
use crate::node::lane::Lane;
use crate::node::shared::Shared;
use crate::node::worker::Worker;
use crate::shard::replica;
use crate::shard::replica::PeerMessage;

impl Shared {
    /// Half of the reserve is gone, too: nothing with samples is taken any more.
    fn is_nearly_used_up(&self) -> bool {
        let half = i64::try_from(self.space.reserve.load(Ordering::Relaxed) / 2).unwrap_or(i64::MAX);
        self.space.left.load(Ordering::Relaxed) < -half
    }

    /// There is no room for a shard's samples.
    pub fn has_no_room(&self, lane: &Lane) -> bool {
        match self.together {
            None => self.is_full(),
            Some(_) => lane.crowded.load(Ordering::Relaxed) || self.is_nearly_used_up(),
        }
    }
}

impl Worker {
    /// Once a round: whether those of the shard's members that have room are a majority.
    pub(super) fn mind_room(&mut self) {
        let Some(together) = &self.shared.together else { return };
        let voters = self.member.replica.seats().voters;
        let full = |id: &&u64| if **id == together.id { self.shared.is_full() } else { together.peers.is_full(**id) };
        let crowded = is_crowded(voters.len(), voters.iter().filter(full).count());
        if self.lane.crowded.swap(crowded, Ordering::Relaxed) != crowded {
            tracing::warn!(shard = self.lane.shard.0, crowded, "whether too many members' disks are full to take samples has changed");
        }
    }

    /// Whether a message is to be taken: one that brings samples needs room.
    pub(super) fn has_room_for(&self, message: &PeerMessage) -> bool {
        !self.shared.is_nearly_used_up() || !replica::brings_samples(message)
    }
}

/// Those that have room are no majority.
fn is_crowded(members: usize, full: usize) -> bool {
    2 * (members - full) <= members
}

impl Handle {
    /// The disk is full to the reserve.
    pub fn disk_is_full(&self) -> bool {
        self.shared.is_full()
    }
}

#[cfg(test)]
mod tests {
    use super::is_crowded;

    #[test]
    fn samples_are_taken_while_a_majority_has_room() {
        let crowded: Vec<bool> = (0..=3).map(|full| is_crowded(3, full)).collect();
        assert_eq!(crowded, [false, false, true, true]);
        assert!(!is_crowded(1, 0) && is_crowded(1, 1) && !is_crowded(5, 2) && is_crowded(5, 3) && is_crowded(4, 2));
    }
}

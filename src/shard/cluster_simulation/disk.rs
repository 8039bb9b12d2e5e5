//! A node's disk, for all of its shards: what is written is seen at once and stays after a crash only as far as it was synced.

use fastrand::Rng;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::stage::Crash;
use crate::model::ShardId;
use crate::shard::log::Disk;
use crate::shard::member::simulation::Contents;
use crate::shard::member::simulation::Record;

pub type Shards = BTreeMap<ShardId, Contents>;

/// What a disk holds, as read and as it would be after a power loss.
#[derive(Default)]
pub struct NodeDisk {
    seen: Shards,
    synced: Shards,
    unsynced: Vec<(ShardId, Record)>,
}

impl NodeDisk {
    /// The disk of a member of these shards that has not begun yet.
    pub fn fresh(shards: impl Iterator<Item = ShardId>, voters: &[u64]) -> NodeDisk {
        let synced: Shards = shards.map(|shard| (shard, Contents::fresh(voters))).collect();
        NodeDisk { seen: synced.clone(), synced, unsynced: Vec::new() }
    }

    /// What is read of a shard.
    pub fn shard(&self, shard: ShardId) -> &Contents {
        &self.seen[&shard]
    }

    /// What would be there after a loss of power.
    pub fn durable(&self) -> Shards {
        self.synced.clone()
    }

    /// It has lost what came after this, without a word.
    pub fn go_back(&mut self, to: Shards) {
        (self.seen, self.synced) = (to.clone(), to);
        self.unsynced.clear();
    }

    /// What is done before members begin on it: what was cut short goes (`node::start`).
    pub fn open(&mut self, keep_staged: bool) {
        self.sync();
        self.seen.values_mut().chain(self.synced.values_mut()).for_each(|contents| contents.open(keep_staged));
    }

    pub fn write(&mut self, shard: ShardId, record: Record) {
        if let Some(contents) = self.seen.get_mut(&shard) {
            contents.put(record.clone());
        }
        self.unsynced.push((shard, record));
    }

    /// All that was written is durable.
    pub fn sync(&mut self) {
        self.keep(usize::MAX);
    }

    fn keep(&mut self, records: usize) {
        for (shard, record) in self.unsynced.drain(..).take(records) {
            if let Some(contents) = self.synced.get_mut(&shard) {
                contents.put(record);
            }
        }
    }

    /// What a new process finds. After a kill that is everything: the system has it, and RocksDB syncs what it recovers when it opens.
    pub fn crash(&mut self, crash: Crash, random: &mut Rng) {
        match crash {
            Crash::Kill => self.sync(),
            Crash::Power => {
                // Not all the time something in between: nothing at all is the worst case.
                let all = self.unsynced.len();
                self.keep(if random.bool() { 0 } else { random.usize(0..=all) });
                self.seen = self.synced.clone();
            }
        }
    }
}

/// One shard's part of it.
#[derive(Clone)]
pub struct ShardDisk {
    pub disk: Rc<RefCell<NodeDisk>>,
    pub shard: ShardId,
}

impl Disk for ShardDisk {
    fn stored(&self, low: u64, high: u64, most_bytes: u64) -> Result<Vec<Vec<u8>>, String> {
        let disk = self.disk.borrow();
        let (mut found, mut bytes) = (Vec::new(), 0);
        for index in low..high {
            let stored = disk.shard(self.shard).entry(index).ok_or_else(|| format!("entry {index} is missing"))?;
            bytes += stored.len() as u64;
            if bytes > most_bytes && !found.is_empty() {
                break;
            }
            found.push(stored.clone());
        }
        Ok(found)
    }
}

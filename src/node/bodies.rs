//! Recent bodies, unpacked once for all sinks. Oldest first out: sinks read a log.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;

use crate::model::ShardId;
use crate::node::lane::lock;
use crate::wire::body::Body;

/// A larger one goes back to the system.
const SPARE_MOST: usize = 4 << 20;

#[derive(Default)]
struct Kept {
    by_entry: HashMap<(ShardId, u64), Arc<Body>>,
    order: VecDeque<(ShardId, u64)>,
    bytes: usize,
    /// Memory of one that went: a fresh megabyte costs as much in page faults as unpacking into it.
    spare: Vec<u8>,
}

pub(super) struct Bodies {
    kept: Mutex<Kept>,
    most_bytes: usize,
}

fn size(body: &Body) -> usize {
    body.raw.capacity() + 256
}

impl Bodies {
    pub fn new(most_bytes: usize) -> Bodies {
        Bodies { kept: Mutex::default(), most_bytes }
    }

    pub fn get(&self, shard: ShardId, entry: u64) -> Option<Arc<Body>> {
        lock(&self.kept).by_entry.get(&(shard, entry)).cloned()
    }

    /// Room for the next body; what it holds is to be written over.
    pub fn room(&self) -> Vec<u8> {
        std::mem::take(&mut lock(&self.kept).spare)
    }

    pub fn put(&self, shard: ShardId, entry: u64, body: Arc<Body>) {
        let bytes = size(&body);
        if bytes > self.most_bytes {
            return;
        }
        let mut gone = Vec::new(); // freed after the lock
        let mut kept = lock(&self.kept);
        if kept.by_entry.contains_key(&(shard, entry)) {
            return;
        }
        kept.by_entry.insert((shard, entry), body);
        kept.order.push_back((shard, entry));
        kept.bytes += bytes;
        while kept.bytes > self.most_bytes {
            let Some(oldest) = kept.order.pop_front() else { break };
            if let Some(body) = kept.by_entry.remove(&oldest) {
                kept.bytes -= size(&body);
                gone.push(body);
            }
        }
        // Another sink may still read one.
        if let Some(body) = gone.pop().and_then(Arc::into_inner).filter(|body| body.raw.capacity() <= SPARE_MOST) {
            kept.spare = body.raw;
        }
        drop(kept);
    }
}

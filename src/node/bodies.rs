//! Recent bodies, unpacked once for all sinks. Oldest first out: sinks read a log.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;

use crate::model::ShardId;
use crate::node::lane::lock;
use crate::wire::body::Body;

#[derive(Default)]
struct Kept {
    by_entry: HashMap<(ShardId, u64), Arc<Body>>,
    order: VecDeque<(ShardId, u64)>,
    bytes: usize,
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
        drop(kept);
    }
}

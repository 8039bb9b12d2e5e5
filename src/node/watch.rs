//! The thread that looks after the disk's room: how much is free, how much we take, and giving back what shards have let go.
//!
//! Below the reserve samples are refused, so that there is still room for what makes room: cursors, switches, images, and RocksDB's own
//! flushes. It clears by itself, a little above the reserve.

use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock;
use crate::node::lane::lock;
use crate::node::shared::Shared;
use crate::store::StoreError;
use crate::store::space;

/// Between two counts of our files.
const COUNT: Duration = Duration::from_secs(5);

/// Tells the thread to end.
#[derive(Default)]
pub(super) struct Bell {
    rung: Mutex<bool>,
    wake: Condvar,
}

impl Bell {
    pub fn ring(&self) {
        *lock(&self.rung) = true;
        self.wake.notify_all();
    }

    /// Waits, at most so long; says whether it has been rung.
    pub fn wait(&self, most: Duration) -> bool {
        let waited = self.wake.wait_timeout_while(lock(&self.rung), most, |rung| !*rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

pub(super) fn run(shared: &Shared, bell: &Bell) {
    let mut counted = None;
    loop {
        let now = clock::now();
        let count = counted.is_none_or(|counted| now - counted >= COUNT);
        if count {
            counted = Some(now);
        }
        // Not knowing how much room there is, is no reason to stop: writing will tell.
        if let Err(error) = look(shared, count) {
            tracing::warn!("free space is not known: {error}");
        }
        if let Err(error) = give_back(shared) {
            shared.fatal.end(error.to_string());
            return;
        }
        if bell.wait(shared.settings.timing.space) {
            return;
        }
    }
}

/// Looks at the room there is.
pub(super) fn look(shared: &Shared, count: bool) -> Result<(), StoreError> {
    let space = &shared.space;
    let room = space::room(shared.store.path())?;
    let reserve = shared.settings.reserve.of(room.total);
    let was = space.full.load(Ordering::Relaxed);
    let full = room.free < if was { reserve + reserve / 20 } else { reserve };
    if full != was {
        if full {
            tracing::error!(
                free = room.free,
                reserve,
                "the disk is nearly full: until space is free again samples are refused, or other nodes lead"
            );
        } else {
            tracing::info!(free = room.free, "the disk has room again: samples are taken");
        }
    }
    let whole = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    space.left.store(whole(room.free) - whole(reserve), Ordering::Relaxed);
    space.full.store(full, Ordering::Relaxed);
    space.free.store(room.free, Ordering::Relaxed);
    space.reserve.store(reserve, Ordering::Relaxed);
    if count {
        let taken = shared.store.taken()?;
        space.disk_bytes.store(taken.disk_bytes, Ordering::Relaxed);
        space.wal_bytes.store(taken.wal_bytes, Ordering::Relaxed);
    }
    Ok(())
}

fn give_back(shared: &Shared) -> Result<(), StoreError> {
    for lane in &shared.lanes {
        let ranges = std::mem::take(&mut *lock(&lane.give_back));
        for (family, below) in ranges.into_values() {
            shared.store.give_back(family, lane.shard, below)?;
        }
    }
    Ok(())
}

//! How much room there is, how much we take, and giving it back.

use rocksdb::CompactOptions;
use std::path::Path;

use crate::failpoint;
use crate::model::ShardId;
use crate::store::Family;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::key;
use crate::store::rocks;

/// Of the file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Bytes in all.
    pub total: u64,
    /// Bytes that we may still write.
    pub free: u64,
}

/// Of the file system that holds `path`.
pub fn room(path: &Path) -> Result<Room, StoreError> {
    let found = rustix::fs::statvfs(path).map_err(|error| StoreError::File { path: path.to_owned(), error: error.into() })?;
    Ok(Room { total: found.f_blocks * found.f_frsize, free: found.f_bavail * found.f_frsize })
}

/// What we take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// All files.
    pub disk_bytes: u64,
    /// Of these, the write-ahead log.
    pub wal_bytes: u64,
}

impl Store {
    /// The size of the database's files.
    pub fn taken(&self) -> Result<Taken, StoreError> {
        let mut taken = Taken::default();
        let directory = self.path.join("db");
        let wrong = |error| StoreError::File { path: directory.clone(), error };
        for file in std::fs::read_dir(&directory).map_err(wrong)? {
            let file = file.map_err(wrong)?;
            // A file may go while we look.
            let Ok(about) = file.metadata() else { continue };
            taken.disk_bytes += about.len();
            if Path::new(&file.file_name()).extension().is_some_and(|extension| extension == "log") {
                taken.wal_bytes += about.len();
            }
        }
        Ok(taken)
    }

    /// Gives back the room of a range that was deleted by a synced batch: files wholly inside go at once, then the tables (keys only) are
    /// compacted, which frees the blob files that hold nothing else. Blocks for as long as that takes; not for the writer's thread.
    pub fn give_back(&self, family: Family, shard: ShardId, below: u64) -> Result<(), StoreError> {
        if below == 0 {
            return Ok(());
        }
        let (from, to) = (key(shard, 0), key(shard, below - 1)); // both ends count
        self.db.delete_file_in_range_cf(self.family(family), from, to).map_err(rocks("deleting files"))?;
        failpoint::reach(failpoint::Place::RoomHalfBack);
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        self.db.compact_range_cf_opt(self.family(family), Some(from), Some(to), &options);
        Ok(())
    }

    /// The data directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

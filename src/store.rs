//! The disk of a node: RocksDB and nothing but RocksDB.
//!
//! One database holds everything of all shards, in column families by how long it lives: the log in two of them, by who led when the entry
//! was proposed, because the standby's bodies go within minutes while the leader's may have to wait for a dead sink; the emissions; one
//! image of the state per shard; dead letters; episodes of alerts; and Raft's own few numbers. Large values are blob files, so that a body is written twice (WAL,
//! blob file) and compactions never move it, and a range of the log goes away as whole files.
//!
//! Read `store` (what is read), `batch` (what is written), `open` (how damage is told from a torn tail), `mark` (what was promised), `space`
//! (free space and what is given back). Keys begin with the shard's number, then the index, both big-endian, so that a shard is a range.
//!
//! Left out on purpose: what the bytes mean (`shard`), who writes when (`node`: one thread). A failed write or sync is not repeated here
//! or anywhere: after a failed fsync nobody knows what is on the disk.

pub mod batch;
pub mod identity;
pub mod mark;
pub mod open;
mod options;
pub mod space;

use rocksdb::ColumnFamily;
use rocksdb::DB;
use rocksdb::Direction;
use rocksdb::IteratorMode;
use rocksdb::ReadOptions;
use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::model::ShardId;

/// The column families. The names are part of the disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Log entries of leaders, and of standbys as far as sinks need them.
    LogLeader,
    /// All other log entries.
    LogStandby,
    /// Emissions by number.
    Emissions,
    /// One image per shard, in chunks.
    Image,
    /// Dead letters by number.
    Dead,
    /// Episodes of alerts by number.
    History,
    /// Raft's numbers, schema version.
    Meta,
}

impl Family {
    /// All of them.
    pub const ALL: [Family; 7] =
        [Family::LogLeader, Family::LogStandby, Family::Emissions, Family::Image, Family::Dead, Family::History, Family::Meta];

    /// As RocksDB knows it.
    pub fn name(self) -> &'static str {
        match self {
            Family::LogLeader => "log_leader",
            Family::LogStandby => "log_standby",
            Family::Emissions => "emissions",
            Family::Image => "image",
            Family::Dead => "dead",
            Family::History => "history",
            Family::Meta => "meta",
        }
    }
}

/// What went wrong with the disk. All of it is final: the process ends and says why.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// RocksDB says so.
    #[error("{doing}: {error}")]
    Rocks {
        /// What was being done.
        doing: &'static str,
        /// RocksDB's words.
        error: rocksdb::Error,
    },
    /// The file system says so.
    #[error("{path}: {error}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// Bytes that cannot be.
    #[error("the data in {path} is damaged: {what}. {remedy}", path = path.display())]
    Damaged {
        /// The data directory.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Another process has it open.
    #[error("{path} is in use by another process", path = path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// Written by a newer program.
    #[error("the data has schema version {found}; this program reads up to {known}: use the version that wrote it, or a newer one")]
    Schema {
        /// On disk.
        found: u64,
        /// By this program.
        known: u64,
    },
}

/// Says what was being done.
pub(crate) fn rocks(doing: &'static str) -> impl FnOnce(rocksdb::Error) -> StoreError {
    move |error| StoreError::Rocks { doing, error }
}

/// The opened disk. Reads may come from any thread; writes from one.
pub struct Store {
    pub(crate) db: DB,
    pub(crate) path: PathBuf,
}

/// A shard's key.
pub(crate) fn key(shard: ShardId, number: u64) -> [u8; 10] {
    let mut key = [0; 10];
    key[..2].copy_from_slice(&shard.0.to_be_bytes());
    key[2..].copy_from_slice(&number.to_be_bytes());
    key
}

fn number(shard: ShardId, key: &[u8]) -> Option<u64> {
    let (head, number) = key.split_first_chunk::<2>()?;
    (u16::from_be_bytes(*head) == shard.0).then_some(())?;
    number.try_into().ok().map(u64::from_be_bytes)
}

impl Store {
    pub(crate) fn family(&self, family: Family) -> &ColumnFamily {
        // Every family was opened or made by `open`.
        #[expect(clippy::expect_used, reason = "`open` fails if a family is missing")]
        self.db.cf_handle(family.name()).expect("an opened family")
    }

    /// One value.
    pub fn get(&self, family: Family, shard: ShardId, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.get_cf(self.family(family), key(shard, number)).map_err(rocks("reading"))
    }

    /// Writes all that there is now into a directory that must not exist yet, on the same file system: tables are linked, not copied.
    pub fn checkpoint(&self, to: &std::path::Path) -> Result<(), StoreError> {
        let checkpoint = rocksdb::checkpoint::Checkpoint::new(&self.db).map_err(rocks("preparing a backup"))?;
        checkpoint.create_checkpoint(to).map_err(rocks("writing a backup"))
    }

    /// One value of `Meta`.
    pub fn meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.get_cf(self.family(Family::Meta), key).map_err(rocks("reading"))
    }

    /// All of `Meta` whose keys begin so.
    pub fn meta_range(&self, prefix: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
        let mut found = BTreeMap::new();
        for item in self.db.iterator_cf(self.family(Family::Meta), IteratorMode::From(prefix, Direction::Forward)) {
            let (key, value) = item.map_err(rocks("reading"))?;
            if !key.starts_with(prefix) {
                break;
            }
            found.insert(key.into_vec(), value.into_vec());
        }
        Ok(found)
    }

    /// Values with numbers from `from` on, in order, until `take` says no more.
    pub fn scan(&self, family: Family, shard: ShardId, from: u64, take: &mut dyn FnMut(u64, &[u8]) -> bool) -> Result<(), StoreError> {
        let mut iterator = self.db.raw_iterator_cf_opt(self.family(family), self.reading(shard));
        iterator.seek(key(shard, from));
        while let Some((key, value)) = iterator.item() {
            let Some(number) = number(shard, key) else { break };
            if !take(number, value) {
                return Ok(());
            }
            iterator.next();
        }
        iterator.status().map_err(rocks("reading"))
    }

    /// Values with numbers up to `to`, the largest first, until `take` says no more.
    pub fn scan_back(&self, family: Family, shard: ShardId, to: u64, take: &mut dyn FnMut(u64, &[u8]) -> bool) -> Result<(), StoreError> {
        let mut iterator = self.db.raw_iterator_cf_opt(self.family(family), self.reading(shard));
        iterator.seek_for_prev(key(shard, to));
        while let Some((key, value)) = iterator.item() {
            let Some(number) = number(shard, key) else { break };
            if !take(number, value) {
                return Ok(());
            }
            iterator.prev();
        }
        iterator.status().map_err(rocks("reading"))
    }

    /// The largest number of a shard, if it has any.
    pub fn last(&self, family: Family, shard: ShardId) -> Result<Option<u64>, StoreError> {
        let mut iterator = self.db.raw_iterator_cf_opt(self.family(family), self.reading(shard));
        iterator.seek_for_prev(key(shard, u64::MAX));
        let last = iterator.key().and_then(|key| number(shard, key));
        iterator.status().map_err(rocks("reading"))?;
        Ok(last)
    }

    /// Bounds an iterator to the shard, so that deleted ranges of other shards are never walked.
    fn reading(&self, shard: ShardId) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(key(shard, 0));
        options.set_iterate_upper_bound([&key(shard, u64::MAX)[..], &[0]].concat());
        options
    }
}

#[cfg(test)]
mod tests;

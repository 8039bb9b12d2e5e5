//! What this node promised to others: per shard its term, its vote, and the end of the log that it has acknowledged.
//!
//! RocksDB forgets silently: a damaged write-ahead log opens, shorter. So what was acknowledged stands in a file of its own, `acked`: two
//! slots of 4 KiB, written in turn, so that a torn write leaves the other. It is written after the log is synced, never before: it says
//! less than the log has, by a second at most, unless the log has lost something. That last second is what it cannot see.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use xxhash_rust::xxh3::xxh3_64;

use crate::store::StoreError;

const SLOT: usize = 4096;
const VERSION: u64 = 1;
/// Head of a slot: version, generation, shards, hash.
const HEAD: usize = 32;
const PROMISE: usize = 40;
/// Shards that fit into a slot.
pub const MOST_SHARDS: usize = (SLOT - HEAD) / PROMISE;

/// What was promised in one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promise {
    /// Raft's term.
    pub term: u64,
    /// Vote in it; 0: none.
    pub vote: u64,
    /// Term of the last entry acknowledged.
    pub last_term: u64,
    /// Index of it.
    pub last_index: u64,
}

impl Promise {
    /// Whether a disk that holds `self` has lost something of what `promised` says.
    pub fn is_short_of(self, promised: Promise) -> bool {
        let vote_lost = self.term == promised.term && promised.vote != 0 && self.vote != promised.vote;
        self.term < promised.term || vote_lost || (self.last_term, self.last_index) < (promised.last_term, promised.last_index)
    }
}

/// The file.
#[derive(Debug)]
pub struct Mark {
    file: File,
    path: PathBuf,
    generation: u64,
    /// By shard.
    pub promises: BTreeMap<u16, Promise>,
}

impl Mark {
    /// Of a new data directory.
    pub fn create(directory: &Path) -> Result<Mark, StoreError> {
        let path = directory.join("acked");
        let wrong = |error| StoreError::File { path: path.clone(), error };
        let file = File::options().read(true).write(true).create_new(true).open(&path).map_err(wrong)?;
        let mut mark = Mark { file, path, generation: 0, promises: BTreeMap::new() };
        mark.write()?;
        mark.write()?;
        Ok(mark)
    }

    /// Of a data directory that has been used. An error of kind `InvalidData`: both slots are damaged.
    pub fn open(directory: &Path) -> Result<Mark, StoreError> {
        let path = directory.join("acked");
        let wrong = |error| StoreError::File { path: path.clone(), error };
        let file = File::options().read(true).write(true).open(&path).map_err(wrong)?;
        let mut best: Option<(u64, BTreeMap<u16, Promise>)> = None;
        for slot in 0..2 {
            let mut bytes = vec![0; SLOT];
            let read = file.read_exact_at(&mut bytes, slot * SLOT as u64);
            if let Some(found) = read.ok().and_then(|()| parse(&bytes))
                && best.as_ref().is_none_or(|best| best.0 < found.0)
            {
                best = Some(found);
            }
        }
        let damaged = || std::io::Error::new(std::io::ErrorKind::InvalidData, "both copies of it are damaged");
        let (generation, promises) = best.ok_or_else(damaged).map_err(wrong)?;
        Ok(Mark { file, path, generation, promises })
    }

    /// Notes a promise; it counts once `write` has returned.
    pub fn promise(&mut self, shard: u16, promise: Promise) {
        self.promises.insert(shard, promise);
    }

    /// Writes the older slot and syncs it.
    pub fn write(&mut self) -> Result<(), StoreError> {
        self.generation += 1;
        let mut bytes = vec![0; SLOT];
        let numbers = [VERSION, self.generation, self.promises.len() as u64];
        let promises = self.promises.iter().flat_map(|(shard, p)| [u64::from(*shard), p.term, p.vote, p.last_term, p.last_index]);
        for (place, number) in bytes[HEAD..].chunks_exact_mut(8).zip(promises) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let hash = xxh3_64(&bytes);
        bytes[24..HEAD].copy_from_slice(&hash.to_le_bytes());
        let offset = self.generation % 2 * SLOT as u64;
        let written = self.file.write_all_at(&bytes, offset).and_then(|()| self.file.sync_data());
        written.map_err(|error| StoreError::File { path: self.path.clone(), error })
    }
}

fn parse(slot: &[u8]) -> Option<(u64, BTreeMap<u16, Promise>)> {
    let (words, _) = slot.as_chunks::<8>();
    let word = |place: usize| words.get(place).map(|bytes| u64::from_le_bytes(*bytes));
    let mut plain = slot.to_vec();
    plain.get_mut(24..HEAD)?.fill(0);
    if xxh3_64(&plain) != word(3)? || word(0)? != VERSION {
        return None;
    }
    let mut promises = BTreeMap::new();
    for number in 0..usize::try_from(word(2)?).ok().filter(|&shards| shards <= MOST_SHARDS)? {
        let at = HEAD / 8 + number * PROMISE / 8;
        let promise = Promise { term: word(at + 1)?, vote: word(at + 2)?, last_term: word(at + 3)?, last_index: word(at + 4)? };
        promises.insert(u16::try_from(word(at)?).ok()?, promise);
    }
    Some((word(1)?, promises))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_slot_is_none_or_what_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let mut mark = Mark::create(directory.path()).unwrap();
        for shard in 0..7 {
            mark.promise(shard, Promise { term: 2, vote: 9, last_term: 2, last_index: u64::from(shard) });
        }
        mark.write().unwrap();
        let bytes = std::fs::read(directory.path().join("acked")).unwrap();
        let from = (mark.generation % 2) as usize * SLOT;
        let slot = &bytes[from..from + SLOT];
        let whole = parse(slot).unwrap();
        for seed in crate::mutate::seeds(3_000) {
            let mut damaged = slot.to_vec();
            crate::mutate::damage(&mut fastrand::Rng::with_seed(seed), &mut damaged);
            assert!(parse(&damaged).is_none_or(|read| read == whole), "SEED={seed}");
        }
    }

    #[test]
    fn a_torn_slot_leaves_the_other_and_two_damaged_ones_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mut mark = Mark::create(directory.path()).unwrap();
        for index in 1..=5 {
            mark.promise(3, Promise { term: 2, vote: 9, last_term: 2, last_index: index });
            mark.write().unwrap();
        }
        assert_eq!(Mark::open(directory.path()).unwrap().promises[&3].last_index, 5);
        let path = directory.path().join("acked");
        let mut bytes = std::fs::read(&path).unwrap();
        let newest = (mark.generation % 2) as usize * SLOT;
        bytes[newest + 50] ^= 4;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(Mark::open(directory.path()).unwrap().promises[&3].last_index, 4);
        bytes[(SLOT - newest) + 8] ^= 4;
        std::fs::write(&path, &bytes).unwrap();
        assert!(Mark::open(directory.path()).unwrap_err().to_string().contains("damaged"));
    }

    #[test]
    fn a_newer_term_may_have_a_shorter_log() {
        let old = Promise { term: 3, vote: 1, last_term: 3, last_index: 100 };
        assert!(!Promise { term: 4, vote: 0, last_term: 4, last_index: 90 }.is_short_of(old));
        assert!(Promise { term: 3, vote: 1, last_term: 3, last_index: 99 }.is_short_of(old));
        assert!(Promise { term: 3, vote: 2, last_term: 3, last_index: 100 }.is_short_of(old));
        assert!(Promise { term: 2, vote: 1, last_term: 3, last_index: 100 }.is_short_of(old));
    }
}

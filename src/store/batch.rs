//! What is written: batches that take effect wholly or not at all, in the order in which they are given to [`Store::write`].

use rocksdb::WriteBatch;
use rocksdb::WriteOptions;

use crate::model::ShardId;
use crate::store::Family;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::key;
use crate::store::rocks;

/// Bytes of an image in one value.
const CHUNK: usize = 1 << 20;

/// Of a shard in `Meta`.
pub(crate) fn meta_key(kind: u8, shard: ShardId, rest: &[u8]) -> Vec<u8> {
    [&[kind][..], &shard.0.to_be_bytes(), rest].concat()
}

/// Term, vote, commit.
pub(crate) const HARD: u8 = b'h';
/// Members.
pub(crate) const MEMBERS: u8 = b'm';
/// Where the log was cut.
pub(crate) const CUT: u8 = b'c';
/// Runs of terms.
pub(crate) const TERM: u8 = b't';
/// Where the member's own log ends while it takes a snapshot: entries beyond are those of the snapshot.
pub(crate) const STAGED: u8 = b's';

pub(crate) fn numbers<const N: usize>(values: [u64; N]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub(crate) fn read_numbers<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let (chunks, rest) = bytes.as_chunks::<8>();
    (chunks.len() == N && rest.is_empty()).then(|| std::array::from_fn(|place| u64::from_le_bytes(chunks[place])))
}

/// Something to write.
pub struct Batch<'s> {
    store: &'s Store,
    inner: WriteBatch,
}

/// A batch that is complete.
pub struct Sealed(WriteBatch);

impl Sealed {
    /// Its size.
    pub fn bytes(&self) -> usize {
        self.0.size_in_bytes()
    }

    /// Nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'s> Batch<'s> {
    /// An empty one, with room for so many bytes.
    pub fn new(store: &'s Store, bytes: usize) -> Batch<'s> {
        Batch { store, inner: WriteBatch::with_capacity_bytes(bytes) }
    }

    /// A value.
    pub fn put(&mut self, family: Family, shard: ShardId, number: u64, value: &[u8]) {
        self.inner.put_cf(self.store.family(family), key(shard, number), value);
    }

    /// Values from..to go.
    pub fn delete(&mut self, family: Family, shard: ShardId, from: u64, to: u64) {
        if from < to {
            self.inner.delete_range_cf(self.store.family(family), key(shard, from), key(shard, to));
        }
    }

    /// Term, vote, commit.
    pub fn hard_state(&mut self, shard: ShardId, term: u64, vote: u64, commit: u64) {
        self.meta(&meta_key(HARD, shard, &[]), &numbers([term, vote, commit]));
    }

    /// Members, as the caller encodes them.
    pub fn members(&mut self, shard: ShardId, encoded: &[u8]) {
        self.meta(&meta_key(MEMBERS, shard, &[]), encoded);
    }

    /// The log begins after this entry.
    pub fn cut(&mut self, shard: ShardId, index: u64, term: u64) {
        self.meta(&meta_key(CUT, shard, &[]), &numbers([index, term]));
    }

    /// Entries from `index` on are of this term.
    pub fn term(&mut self, shard: ShardId, index: u64, term: u64) {
        self.meta(&meta_key(TERM, shard, &index.to_be_bytes()), &numbers([term]));
    }

    /// From now on entries beyond this one are those of a snapshot.
    pub fn staged(&mut self, shard: ShardId, own_end: u64) {
        self.meta(&meta_key(STAGED, shard, &[]), &numbers([own_end]));
    }

    /// All entries are the member's own again.
    pub fn end_staged(&mut self, shard: ShardId) {
        self.inner.delete_cf(self.store.family(Family::Meta), meta_key(STAGED, shard, &[]));
    }

    /// Entries from..=to are void, and so are the runs of terms that begin from there on.
    pub fn void(&mut self, shard: ShardId, from: u64, to: u64) {
        self.delete(Family::LogLeader, shard, from, to + 1);
        self.delete(Family::LogStandby, shard, from, to + 1);
        let terms = (meta_key(TERM, shard, &from.to_be_bytes()), meta_key(TERM, shard, &u64::MAX.to_be_bytes()));
        self.inner.delete_range_cf(self.store.family(Family::Meta), terms.0, terms.1);
    }

    /// An image takes the place of the one before.
    pub fn image(&mut self, shard: ShardId, index: u64, sealed: &[u8]) {
        self.delete(Family::Image, shard, 0, u64::MAX);
        let chunks = sealed.len().div_ceil(CHUNK) as u64;
        self.put(Family::Image, shard, 0, &numbers([index, chunks, sealed.len() as u64]));
        for (number, chunk) in (1..).zip(sealed.chunks(CHUNK)) {
            self.put(Family::Image, shard, number, chunk);
        }
    }

    /// The entry's body is copied from the standby's family into the leader's. If it has gone it was copied before, and this is replay.
    pub fn copy(&mut self, shard: ShardId, index: u64) -> Result<(), StoreError> {
        if let Some(value) = self.store.get(Family::LogStandby, shard, index)? {
            self.put(Family::LogLeader, shard, index, &value);
        }
        Ok(())
    }

    /// A value of `Meta`.
    pub fn meta(&mut self, key: &[u8], value: &[u8]) {
        self.inner.put_cf(self.store.family(Family::Meta), key, value);
    }

    /// Complete.
    pub fn seal(self) -> Sealed {
        Sealed(self.inner)
    }
}

impl Store {
    /// Writes without sync: after a crash of the process it is there, after one of the machine perhaps not.
    pub fn write(&self, batch: Sealed) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.set_sync(false);
        self.db.write_opt(batch.0, &options).map_err(rocks("writing"))
    }

    /// Everything written so far is durable when this returns.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.db.flush_wal(true).map_err(rocks("syncing the write-ahead log"))
    }

    /// The last image of a shard: index of its entry, and bytes.
    pub fn image(&self, shard: ShardId) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let Some(head) = self.get(Family::Image, shard, 0)? else { return Ok(None) };
        let damaged = |what: String| self.damaged(what);
        let [index, chunks, bytes] = read_numbers(&head).ok_or_else(|| damaged(format!("the head of shard {}'s image", shard.0)))?;
        let mut sealed = Vec::new();
        for number in 1..=chunks {
            let chunk = self.get(Family::Image, shard, number)?;
            sealed.extend(chunk.ok_or_else(|| damaged(format!("chunk {number} of shard {}'s image is missing", shard.0)))?);
        }
        if sealed.len() as u64 == bytes {
            Ok(Some((index, sealed)))
        } else {
            Err(damaged(format!("the image of shard {} is cut", shard.0)))
        }
    }
}

//! Opening a data directory: a torn tail is no loss, everything else that is missing or changed is said and refused.
//!
//! First RocksDB is asked to accept no damage at all. If it finds some, the directory is opened for reading as far as the write-ahead log can
//! be read, and compared with the mark of what was acknowledged: if nothing of that is missing, only a tail was torn that nobody was promised,
//! and the node goes on. The comparison is made in any case, since a file that is gone altogether leaves no damage to find.

use rocksdb::DB;
use rocksdb::DBRecoveryMode;
use rocksdb::ErrorKind;
use std::collections::BTreeMap;
use std::path::Path;

use crate::model::ShardId;
use crate::store::Family;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::batch::Batch;
use crate::store::batch::CUT;
use crate::store::batch::HARD;
use crate::store::batch::MEMBERS;
use crate::store::batch::STAGED;
use crate::store::batch::TERM;
use crate::store::batch::meta_key;
use crate::store::batch::numbers;
use crate::store::batch::read_numbers;
use crate::store::identity::Identity;
use crate::store::mark::Mark;
use crate::store::mark::Promise;
use crate::store::options;
use crate::store::rocks;
use crate::store::space;

/// Raised when anything on disk changes its layout.
const SCHEMA: u64 = 1;
const SCHEMA_KEY: &[u8] = b"schema";
const DATABASE: &str = "db";

/// What to do about a log that is shorter than what was acknowledged.
const LOST: &str = "This node has lost data that it had acknowledged, so it must not go on as if it had it. Restore the directory from a backup, \
or remove it: the node then begins anew";

/// An opened directory.
pub struct Opened {
    /// The disk.
    pub store: Store,
    /// What was promised.
    pub mark: Mark,
    /// Who this node is.
    pub identity: Identity,
    /// A torn tail was left out; nothing of it had been acknowledged.
    pub torn: Option<String>,
}

/// What the disk remembers of one Raft group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftOnDisk {
    /// Term, vote, commit.
    pub hard_state: (u64, u64, u64),
    /// As the caller encoded them.
    pub members: Vec<u8>,
    /// Index and term of the entry after which the log begins.
    pub cut: (u64, u64),
    /// First index of each run of one term.
    pub terms: BTreeMap<u64, u64>,
    /// Index of the last entry; that of `cut` if there is none.
    pub last_index: u64,
}

impl RaftOnDisk {
    fn promise(&self) -> Promise {
        let (term, vote, _) = self.hard_state;
        let last_term = self.terms.range(..=self.last_index).next_back().map_or(self.cut.1, |(_, term)| *term);
        let last_term = if self.last_index == self.cut.0 { self.cut.1 } else { last_term };
        Promise { term, vote, last_term, last_index: self.last_index }
    }
}

/// Opens `directory`, or begins it (it may exist if it is empty).
pub fn open(directory: &Path, now_ms: i64) -> Result<Opened, StoreError> {
    open_as(directory, None, now_ms)
}

/// The same; where it begins, as this node.
pub fn open_as(directory: &Path, node: Option<u64>, now_ms: i64) -> Result<Opened, StoreError> {
    std::fs::create_dir_all(directory).map_err(|error| StoreError::File { path: directory.to_owned(), error })?;
    let database = directory.join(DATABASE);
    let Some(identity) = Identity::read(directory)? else {
        if database.exists() {
            return Err(damaged(directory, "identity.json is missing, but there is data"));
        }
        let _ = std::fs::remove_file(directory.join("acked")); // of a first start that was cut short
        let mark = Mark::create(directory)?;
        let identity = Identity::create(directory, node, now_ms)?;
        let store = open_database(directory, DBRecoveryMode::AbsoluteConsistency)?;
        return Ok(Opened { store, mark, identity, torn: None });
    };
    let mark = Mark::open(directory).map_err(|error| match error {
        StoreError::File { error, .. } if error.kind() == std::io::ErrorKind::NotFound => damaged(directory, "the file `acked` is missing"),
        StoreError::File { error, .. } if error.kind() == std::io::ErrorKind::InvalidData => damaged(directory, "the file `acked`"),
        other => other,
    })?;
    let (store, torn) = match open_database(directory, DBRecoveryMode::AbsoluteConsistency) {
        Ok(store) => (store, None),
        Err(StoreError::Rocks { error, .. }) if error.kind() == ErrorKind::Corruption => {
            let read_only = read_only(directory)?;
            compare(&read_only, &mark)?;
            drop(read_only);
            (open_database(directory, DBRecoveryMode::PointInTime)?, Some(error.into_string()))
        }
        Err(error) => return Err(error),
    };
    compare(&store, &mark)?;
    Ok(Opened { store, mark, identity, torn })
}

fn damaged(directory: &Path, what: &str) -> StoreError {
    StoreError::Damaged { path: directory.to_owned(), what: what.to_owned(), remedy: LOST }
}

fn explain(directory: &Path, error: rocksdb::Error) -> StoreError {
    let text = error.as_ref();
    if text.contains("lock hold by current process") || text.contains("While lock file") {
        return StoreError::InUse { path: directory.to_owned() };
    }
    StoreError::Rocks { doing: "opening the database", error }
}

fn open_database(directory: &Path, recovery: DBRecoveryMode) -> Result<Store, StoreError> {
    let total = space::room(directory)?.total;
    let options = options::database(recovery, total);
    let database = directory.join(DATABASE);
    let db = DB::open_cf_descriptors(&options, &database, options::families(total)).map_err(|error| explain(directory, error))?;
    let store = Store { db, path: directory.to_owned() };
    match store.meta(SCHEMA_KEY)? {
        Some(bytes) => match read_numbers(&bytes) {
            Some([found]) if found > SCHEMA => return Err(StoreError::Schema { found, known: SCHEMA }),
            Some([_]) => {}
            None => return Err(store.damaged("the schema version".to_owned())),
        },
        None => {
            let mut batch = Batch::new(&store, 64);
            batch.meta(SCHEMA_KEY, &numbers([SCHEMA]));
            store.write(batch.seal())?;
            store.sync()?;
        }
    }
    Ok(store)
}

/// As far as the write-ahead log can be read; changes nothing.
fn read_only(directory: &Path) -> Result<Store, StoreError> {
    let total = space::room(directory)?.total;
    let options = options::database(DBRecoveryMode::PointInTime, total);
    let database = directory.join(DATABASE);
    // Nothing is made here: the one family that the program before did not know is left out. Whichever other one is missing is damage.
    let new = Family::History.name();
    let has_new = DB::list_cf(&options, &database).is_ok_and(|known| known.iter().any(|name| name == new));
    let families = options::families(total).into_iter().filter(|family| has_new || family.name() != new);
    let db = DB::open_cf_descriptors_read_only(&options, database, families, false).map_err(|error| {
        let what = format!("the database cannot be opened, not even for reading: {error}");
        damaged(directory, &what)
    })?;
    Ok(Store { db, path: directory.to_owned() })
}

/// Nothing that was acknowledged may be missing.
fn compare(store: &Store, mark: &Mark) -> Result<(), StoreError> {
    for (&shard, &promised) in &mark.promises {
        let found = store.raft(ShardId(shard))?.map_or(Promise::default(), |raft| raft.promise());
        if found.is_short_of(promised) {
            return Err(store.damaged(format!(
                "shard {shard} has entries up to {} of term {}, its term is {}; acknowledged were {} of term {}, in term {}",
                found.last_index, found.last_term, found.term, promised.last_index, promised.last_term, promised.term
            )));
        }
    }
    Ok(())
}

impl Store {
    pub(crate) fn damaged(&self, what: String) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), what, remedy: LOST }
    }

    /// What is remembered of a shard's Raft group; `None`: nothing was ever written.
    pub fn raft(&self, shard: ShardId) -> Result<Option<RaftOnDisk>, StoreError> {
        let Some(hard) = self.meta(&meta_key(HARD, shard, &[]))? else { return Ok(None) };
        let wrong = |what: &str| self.damaged(format!("{what} of shard {}", shard.0));
        let [term, vote, commit] = read_numbers(&hard).ok_or_else(|| wrong("the hard state"))?;
        let cut = self.meta(&meta_key(CUT, shard, &[]))?.ok_or_else(|| wrong("the beginning of the log"))?;
        let [cut_index, cut_term] = read_numbers(&cut).ok_or_else(|| wrong("the beginning of the log"))?;
        let members = self.meta(&meta_key(MEMBERS, shard, &[]))?.ok_or_else(|| wrong("the members"))?;
        let mut terms = BTreeMap::new();
        for (key, value) in self.meta_range(&meta_key(TERM, shard, &[]))? {
            let index = key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes));
            let (Some(index), Some([term])) = (index, read_numbers(&value)) else { return Err(wrong("the terms")) };
            terms.insert(index, term);
        }
        let last = [self.last(Family::LogLeader, shard)?, self.last(Family::LogStandby, shard)?].into_iter().flatten().max();
        let last_index = last.unwrap_or(cut_index).min(self.own_end(shard)?.unwrap_or(u64::MAX)).max(cut_index);
        Ok(Some(RaftOnDisk { hard_state: (term, vote, commit), members, cut: (cut_index, cut_term), terms, last_index }))
    }

    /// Where the member's own log ends, if it was taking a snapshot.
    fn own_end(&self, shard: ShardId) -> Result<Option<u64>, StoreError> {
        let Some(stored) = self.meta(&meta_key(STAGED, shard, &[]))? else { return Ok(None) };
        let wrong = || self.damaged(format!("the mark of a snapshot of shard {}", shard.0));
        let [own_end] = read_numbers(&stored).ok_or_else(wrong)?;
        Ok(Some(own_end))
    }

    /// A snapshot that was cut short: its entries go. To be done before the shard begins.
    pub fn forget_staged(&self, shard: ShardId) -> Result<(), StoreError> {
        let Some(own_end) = self.own_end(shard)? else { return Ok(()) };
        let mut batch = Batch::new(self, 256);
        batch.delete(Family::LogLeader, shard, own_end + 1, u64::MAX);
        batch.delete(Family::LogStandby, shard, own_end + 1, u64::MAX);
        batch.end_staged(shard);
        self.write(batch.seal())?;
        self.sync()
    }

    /// Reads every entry after the cut, and with it every checksum: a hole or a flipped bit is found here, and not when Raft asks.
    pub fn verify_log(&self, shard: ShardId, raft: &RaftOnDisk) -> Result<(), StoreError> {
        let first = raft.cut.0 + 1;
        let mut seen = vec![false; usize::try_from(raft.last_index - raft.cut.0).unwrap_or(0)];
        for family in [Family::LogLeader, Family::LogStandby] {
            self.scan(family, shard, first, &mut |index, _| {
                if let Some(place) = seen.get_mut((index - first) as usize) {
                    *place = true;
                }
                true
            })
            .map_err(|error| self.damaged(format!("the log of shard {}: {error}", shard.0)))?;
        }
        match seen.iter().position(|seen| !seen) {
            None => Ok(()),
            Some(place) => Err(self.damaged(format!("entry {} of shard {} is missing", first + place as u64, shard.0))),
        }
    }

    /// Stored bytes of the log: consecutive entries from `low` up to below `high`, about `most_bytes` of them and at least one.
    pub fn log(&self, shard: ShardId, low: u64, high: u64, most_bytes: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        for index in low..high {
            let Some(value) = self.log_entry(shard, index)? else {
                return Err(self.damaged(format!("entry {index} of shard {} is missing", shard.0)));
            };
            bytes += value.len() as u64;
            if bytes > most_bytes && !found.is_empty() {
                break;
            }
            found.push(value);
        }
        Ok(found)
    }

    /// One entry of the log, from whichever family has it.
    pub fn log_entry(&self, shard: ShardId, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        match self.get(Family::LogLeader, shard, index)? {
            Some(value) => Ok(Some(value)),
            None => self.get(Family::LogStandby, shard, index),
        }
    }

    /// Closes cleanly: buffers are flushed, so that the next start has no log to read.
    pub fn close(&self) -> Result<(), StoreError> {
        self.db.cancel_all_background_work(true);
        self.sync()
    }

    /// Writes all buffers out.
    pub fn flush(&self) -> Result<(), StoreError> {
        for family in Family::ALL {
            self.db.flush_cf(self.family(family)).map_err(rocks("flushing"))?;
        }
        Ok(())
    }
}

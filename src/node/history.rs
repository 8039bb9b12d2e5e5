//! The history of alerts on this node's disk: a row for each episode, written as it is applied, whoever leads. It is kept for some days, and for so many bytes.
//!
//! A row's number follows from the log, so that an entry that is applied once more after a crash writes the same row. A node that took a snapshot, or began later,
//! has no rows of what was closed without it; since numbers have no gaps it knows how many, and says so. Rows go when later ones come.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::alert::episode::Closed;
use crate::model::ShardId;
use crate::node::Handle;
use crate::node::ReadError;
use crate::node::packed::Packed;
use crate::node::shared::Shared;
use crate::shard::episodes;
use crate::store::Family;
use crate::store::Store;
use crate::store::batch::Batch;

/// How long rows are kept unless the settings say otherwise: 400 days, ms.
pub(super) const KEEP_MS: i64 = 400 * 86_400_000;
/// Bytes of all rows, before they are packed.
const MOST_BYTES: u64 = 1 << 30;
/// After so many rows it is looked which ones may go,
const A_LOOK: u64 = 64;
/// and so many go at most: more than come.
const AT_ONCE: usize = 10_000;
/// In `Meta`: the number below which rows went because of their age, or for room.
const GONE: &[u8] = b"gone-episodes";
const SHARD: ShardId = ShardId::CONTROL;

/// What was read of the history.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Episodes that are not here among those that were looked at: this node was not there when they were closed.
    pub missing: u64,
    /// There is more behind this number.
    pub next: Option<u64>,
}

fn gone_below(store: &Store) -> Result<u64, String> {
    let stored = store.meta(GONE).map_err(|error| error.to_string())?;
    Ok(stored.and_then(|bytes| bytes.try_into().ok().map(u64::from_le_bytes)).unwrap_or(1))
}

/// Adds rows to a batch, and takes out those whose time is over.
pub(super) fn pack(packed: &mut Packed<'_>, shared: &Shared, closed: &[Closed]) -> Result<(), String> {
    add(&mut packed.batch, &shared.store, shared.history_keep.load(Ordering::Relaxed), closed)
}

fn add(batch: &mut Batch<'_>, store: &Store, keep: i64, closed: &[Closed]) -> Result<(), String> {
    for one in closed {
        batch.put(Family::History, SHARD, one.number, &episodes::encode(one));
    }
    let looks = closed.iter().any(|one| one.number % A_LOOK == 0);
    let Some(last) = closed.last().filter(|_| looks) else { return Ok(()) };
    let (oldest, bytes) = (last.episode.closed - keep, last.before + last.episode.bytes());
    let (mut below, mut left) = (0, AT_ONCE);
    let from = gone_below(store)?;
    let walked = store.scan(Family::History, SHARD, from, &mut |number, row| {
        // What cannot be read is of no use to anybody.
        let stays = episodes::head(row).is_ok_and(|head| head.closed >= oldest && bytes - head.before.min(bytes) <= MOST_BYTES);
        left -= 1;
        if !stays {
            below = number + 1;
        }
        !stays && left > 0
    });
    walked.map_err(|error| error.to_string())?;
    if below > from {
        batch.delete(Family::History, SHARD, 0, below);
        batch.meta(GONE, &below.to_le_bytes());
    }
    Ok(())
}

/// Rows from the one of number `last` on backwards, as far as none was closed before `oldest`.
fn walk(store: &Store, (last, oldest): (u64, i64), most: usize, take: &mut dyn FnMut(Closed) -> bool) -> Result<Read, String> {
    let (mut read, mut goes_on, mut wrong) = (Read::default(), true, None);
    let (mut expected, mut left) = (last, most);
    let scanned = store.scan_back(Family::History, SHARD, last, &mut |number, row| {
        read.missing += expected - number;
        expected = number - 1;
        left -= 1;
        goes_on = match episodes::decode(number, row) {
            Ok(closed) if closed.episode.closed < oldest => false,
            Ok(closed) => take(closed),
            Err(error) => {
                wrong = Some(format!("episode {number}: {error}"));
                false
            }
        };
        read.next = (goes_on && left == 0).then_some(number);
        goes_on && left > 0
    });
    scanned.map_err(|error| error.to_string())?;
    if goes_on && left > 0 {
        read.missing += (expected + 1).saturating_sub(gone_below(store)?);
    }
    wrong.map_or(Ok(read), Err)
}

/// Rows behind number `after`, the oldest first; a row that cannot be read is left out.
fn behind(store: &Store, after: u64, most: usize) -> Result<Vec<Closed>, String> {
    let mut found = Vec::new();
    let scanned = store.scan(Family::History, SHARD, after + 1, &mut |number, row| {
        found.extend(episodes::decode(number, row));
        found.len() < most
    });
    scanned.map_err(|error| error.to_string())?;
    Ok(found)
}

impl Handle {
    /// Episodes with numbers behind `after` that this node has, the oldest first, at most so many. May block.
    pub fn history_behind(&self, after: u64, most: usize) -> Result<Vec<Closed>, ReadError> {
        behind(&self.shared.store, after, most).map_err(ReadError)
    }

    /// How long the history is kept.
    pub fn keep_history(&self, keep: Duration) {
        self.shared.history_keep.store(i64::try_from(keep.as_millis()).unwrap_or(KEEP_MS), Ordering::Relaxed);
    }

    /// Episodes with numbers below `before`, the latest first, until `take` says no more; at most `most` of them are looked at. May block.
    pub fn history(&self, before: u64, most: usize, take: &mut dyn FnMut(Closed) -> bool) -> Result<Read, ReadError> {
        let last = self.book().ledger().totals().0.min(before.saturating_sub(1));
        let oldest = self.now_ms() - self.shared.history_keep.load(Ordering::Relaxed);
        walk(&self.shared.store, (last, oldest), most, take).map_err(ReadError)
    }

    fn now_ms(&self) -> i64 {
        self.progress(SHARD).borrow().at.max(crate::clock::wall_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::episode::Episode;
    use crate::store::open;

    fn rows(numbers: std::ops::RangeInclusive<u64>) -> Vec<Closed> {
        let of = |number: u64| {
            let episode = Episode { closed: number as i64 * 10, ..Episode::default() };
            Closed { number, before: (number - 1) * episode.bytes(), episode }
        };
        numbers.map(of).collect()
    }

    fn write(store: &Store, keep: i64, rows: &[Closed]) {
        let mut batch = Batch::new(store, 0);
        add(&mut batch, store, keep, rows).unwrap();
        store.write(batch.seal()).unwrap();
    }

    fn numbers(store: &Store, last: u64, most: usize) -> (Vec<u64>, Read) {
        let mut found = Vec::new();
        let read = walk(store, (last, 0), most, &mut |closed| {
            found.push(closed.number);
            true
        });
        (found, read.unwrap())
    }

    #[test]
    fn rows_are_there_once_go_by_age_and_what_is_missing_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let store = open::open(directory.path(), 0).unwrap().store;
        assert_eq!(numbers(&store, 0, 9), (vec![], Read::default()));
        write(&store, KEEP_MS, &rows(1..=5));
        // As after a crash: the same entries once more.
        write(&store, KEEP_MS, &rows(3..=6));
        assert_eq!(numbers(&store, 6, 9), (vec![6, 5, 4, 3, 2, 1], Read::default()));
        let ahead = |after, most| behind(&store, after, most).unwrap().iter().map(|closed| closed.number).collect::<Vec<_>>();
        assert_eq!((ahead(0, 2), ahead(4, 9), ahead(6, 9)), (vec![1, 2], vec![5, 6], vec![]));
        assert_eq!(numbers(&store, 6, 2), (vec![6, 5], Read { missing: 0, next: Some(5) }));
        // Taken out by a snapshot: 7 to 60 were closed while this node was away, 71 to 80 afterwards.
        write(&store, KEEP_MS, &rows(61..=70));
        let (found, read) = numbers(&store, 80, 100);
        assert_eq!((found.len(), read), (16, Read { missing: 64, next: None }));
        // 128 is looked at: what was closed before 1280 - 600 goes, and is not missing then.
        write(&store, 600, &rows(81..=128));
        let (found, read) = numbers(&store, 128, 1_000);
        assert_eq!((found.len(), found.last(), read.missing), (51, Some(&68), 10));
    }

    #[test]
    fn a_node_that_began_later_says_how_many_it_never_had() {
        let directory = tempfile::tempdir().unwrap();
        let store = open::open(directory.path(), 0).unwrap().store;
        write(&store, KEEP_MS, &rows(41..=42));
        assert_eq!(numbers(&store, 42, 9), (vec![42, 41], Read { missing: 40, next: None }));
    }
}

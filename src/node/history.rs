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
    for one in closed {
        packed.batch.put(Family::History, SHARD, one.number, &episodes::encode(one));
    }
    let looks = closed.iter().any(|one| one.number % A_LOOK == 0);
    let Some(last) = closed.last().filter(|_| looks) else { return Ok(()) };
    let (oldest, bytes) = (last.episode.closed - shared.history_keep.load(Ordering::Relaxed), last.before + last.episode.bytes());
    let (mut below, mut left) = (0, AT_ONCE);
    let from = gone_below(&shared.store)?;
    let walked = shared.store.scan(Family::History, SHARD, from, &mut |number, row| {
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
        packed.batch.delete(Family::History, SHARD, 0, below);
        packed.batch.meta(GONE, &below.to_le_bytes());
    }
    Ok(())
}

impl Handle {
    /// How long the history is kept.
    pub fn keep_history(&self, keep: Duration) {
        self.shared.history_keep.store(i64::try_from(keep.as_millis()).unwrap_or(KEEP_MS), Ordering::Relaxed);
    }

    /// Episodes with numbers below `before`, the latest first, until `take` says no more; at most `most` of them are looked at. May block.
    pub fn history(&self, before: u64, most: usize, take: &mut dyn FnMut(Closed) -> bool) -> Result<Read, ReadError> {
        let store = &self.shared.store;
        let last = self.book().ledger().totals().0;
        let (mut expected, mut left, mut wrong) = (last.min(before.saturating_sub(1)), most, None);
        let oldest = self.now_ms() - self.shared.history_keep.load(Ordering::Relaxed);
        let (mut read, mut goes_on) = (Read::default(), true);
        let scanned = store.scan_back(Family::History, SHARD, expected, &mut |number, row| {
            read.missing += expected - number;
            expected = number - 1;
            left -= 1;
            goes_on = match episodes::decode(number, row) {
                Ok(closed) if closed.episode.closed < oldest => false,
                Ok(closed) => take(closed),
                Err(error) => {
                    wrong = Some(ReadError(format!("episode {number}: {error}")));
                    false
                }
            };
            read.next = (goes_on && left == 0).then_some(number);
            goes_on && left > 0
        });
        scanned.map_err(ReadError::new)?;
        if goes_on && left > 0 {
            let gone = gone_below(store).map_err(ReadError)?;
            read.missing += (expected + 1).saturating_sub(gone);
        }
        wrong.map_or(Ok(read), Err)
    }

    fn now_ms(&self) -> i64 {
        self.progress(SHARD).borrow().at.max(crate::clock::wall_ms())
    }
}

//! Whether a node's threads move: when each shard's thread last took a turn, how long the writer has been at what it writes, when the disk last took
//! something for good. For whoever has a program restarted that stands still (`app::service`): such a one still holds its connections and its vote, and the others wait for it.
//!
//! Where nothing comes the writer writes nothing, so the disk is asked by a thread of its own: each second it writes some bytes into `DATA_DIR/disk-probe` and
//! syncs them, unless the writer has just synced. A disk that hangs hangs this thread, and nothing else is needed to see it. A disk that answers with an
//! error does not move either, but for one that is full: that it says so is an answer.
//!
//! Left out on purpose: what is done about it. A failed sync of the probe's file ends nothing, since nobody was promised what is in it; the writer's does.

use std::fs::File;
use std::io::ErrorKind;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use crate::clock;
use crate::node::Handle;
use crate::node::shared::Shared;
use crate::node::watch::Bell;

/// The probe's file in the data directory. Its bytes mean nothing.
const FILE: &str = "disk-probe";
/// Nothing is to be done, and nothing is waited for.
const AT_REST: u64 = u64::MAX;

/// When something last moved; at rest until it first does.
pub(super) struct Beat {
    since: Instant,
    /// Milliseconds after `since`.
    last: AtomicU64,
}

impl Default for Beat {
    fn default() -> Beat {
        Beat { since: clock::now(), last: AtomicU64::new(AT_REST) }
    }
}

impl Beat {
    /// It moves now, and is expected to move again.
    pub fn beat(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.since).as_millis();
        self.last.store(u64::try_from(millis).unwrap_or(AT_REST), Ordering::Relaxed);
    }

    /// It is done, and may rest for as long as it likes.
    pub fn rest(&self) {
        self.last.store(AT_REST, Ordering::Relaxed);
    }

    /// How long ago it last moved; nothing while it rests.
    pub fn age(&self, now: Instant) -> Duration {
        match self.last.load(Ordering::Relaxed) {
            AT_REST => Duration::ZERO,
            last => now.saturating_duration_since(self.since + Duration::from_millis(last)),
        }
    }
}

/// A part of a node that does not move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Still {
    /// Which.
    pub part: String,
    /// For how long.
    pub span: Duration,
}

impl Handle {
    /// Parts of this node that have not moved for longer than this; none: all is well.
    pub fn still(&self, longer_than: Duration) -> Vec<Still> {
        let (shared, now) = (&self.shared, clock::now());
        let shards = shared.lanes.iter().map(|lane| (format!("the thread of shard {}", lane.shard.0), lane.turned.age(now)));
        let disk = [("the writer", &shared.writer.writes), ("the disk", &shared.writer.synced)];
        let disk = disk.map(|(part, beat)| (part.to_owned(), beat.age(now)));
        shards.chain(disk).filter(|(_, span)| *span > longer_than).map(|(part, span)| Still { part, span }).collect()
    }
}

/// The thread that asks the disk. Ends when the bell rings.
pub(super) fn probe(shared: &Shared, bell: &Bell) {
    let (path, every) = (shared.store.path().join(FILE), shared.settings.timing.probe);
    let mut told = false;
    while !bell.wait(every) {
        if shared.writer.synced.age(clock::now()) < every {
            continue;
        }
        match ask(&path) {
            Ok(()) => {
                shared.writer.synced.beat(clock::now());
                told = false;
            }
            Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                shared.writer.synced.beat(clock::now());
            }
            Err(error) if !told => {
                told = true;
                tracing::warn!(path = %path.display(), %error, "the disk takes nothing");
            }
            Err(_) => {}
        }
    }
}

fn ask(path: &Path) -> std::io::Result<()> {
    let mut file = File::options().create(true).truncate(false).write(true).open(path)?;
    file.write_all(b"probed\n")?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rests_is_not_late_and_what_moved_is_as_old_as_its_last_move() {
        let (start, beat) = (clock::now(), Beat::default());
        let after = |millis| start + Duration::from_millis(millis);
        assert_eq!(beat.age(after(90_000)), Duration::ZERO);
        beat.beat(after(2_000));
        assert!(beat.age(after(5_000)) >= Duration::from_millis(2_990) && beat.age(after(5_000)) <= Duration::from_millis(3_010));
        assert_eq!(beat.age(start), Duration::ZERO);
        beat.rest();
        assert_eq!(beat.age(after(90_000)), Duration::ZERO);
    }

    #[test]
    fn a_disk_is_asked_by_a_file_of_the_same_size_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        ask(&path).unwrap();
        ask(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 7);
        assert!(ask(&directory.path().join("nowhere/probe")).is_err());
    }
}

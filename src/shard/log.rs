//! The log as Raft reads it: the tail that may not be on disk yet, in memory; everything older from the disk, through [`Disk`].
//!
//! Raft must be able to read what it has handed out before that is durable (asynchronous append), so the tail keeps every entry until it is
//! on disk and applied, and after that as long as there is room. Terms are kept as runs: a term changes at elections only, so a log of a
//! billion entries has a handful of runs, and the entries' own bytes need no room for one.

use prost::Message as _;
use raft::GetEntriesContext;
use raft::RaftState;
use raft::Storage;
use raft::StorageError;
use raft::eraftpb::ConfState;
use raft::eraftpb::Entry;
use raft::eraftpb::EntryType;
use raft::eraftpb::HardState;
use raft::eraftpb::Snapshot;
use raft::eraftpb::SnapshotMetadata;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// Marks one of Raft's own membership entries among the stored bytes; no entry of ours begins with it (`entry`).
const MEMBERSHIP: u8 = 0xC2;

/// Where a log begins that nobody has written yet. Not at zero: a member with an empty disk then always needs a snapshot, which tells it who
/// is a member, and cannot be led to build a log from nothing.
pub const ORIGIN: Place = Place { index: 1, term: 1 };

/// A place in a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Decides first when two logs are compared (derived order: term is compared by `newer`).
    pub index: u64,
    /// Of the entry there.
    pub term: u64,
}

impl Place {
    /// Raft's order: the later term wins, then the longer log.
    pub fn is_behind(self, other: Place) -> bool {
        (self.term, self.index) < (other.term, other.index)
    }
}

/// What a disk remembers of one Raft group when it is opened.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    /// Term, vote, commit.
    pub hard_state: HardState,
    /// Who is a member.
    pub members: ConfState,
    /// Everything up to here may be gone.
    pub truncated: Place,
    /// Index of the last entry; `truncated.index` if there is none.
    pub last_index: u64,
    /// First index of each run of entries of one term.
    pub terms: BTreeMap<u64, u64>,
}

impl Remembered {
    /// What a disk that holds nothing yet would remember, if these are the members.
    pub fn fresh(voters: Vec<u64>) -> Remembered {
        let hard_state = HardState { term: ORIGIN.term, vote: 0, commit: ORIGIN.index };
        let members = ConfState { voters, ..ConfState::default() };
        Remembered { hard_state, members, truncated: ORIGIN, last_index: ORIGIN.index, terms: BTreeMap::new() }
    }

    /// From what a disk holds: term, vote and commit; the members as [`Remembered::members_stored`] gave them; where the log was cut.
    pub fn from_stored((term, vote, commit): (u64, u64, u64), members: &[u8], truncated: Place) -> Result<Remembered, String> {
        let members = ConfState::decode(members).map_err(|error| format!("the members cannot be read: {error}"))?;
        let hard_state = HardState { term, vote, commit };
        Ok(Remembered { hard_state, members, truncated, last_index: truncated.index, terms: BTreeMap::new() })
    }

    /// The members as bytes.
    pub fn members_stored(&self) -> Vec<u8> {
        self.members.encode_to_vec()
    }

    /// The term of the entry at `index`, as far as the log reaches.
    pub fn term(&self, index: u64) -> Option<u64> {
        if index == self.truncated.index {
            return Some(self.truncated.term);
        }
        if index < self.truncated.index || index > self.last_index {
            return None;
        }
        self.terms.range(..=index).next_back().map(|(_, term)| *term)
    }

    /// The end of the log.
    pub fn last(&self) -> Place {
        Place { index: self.last_index, term: self.term(self.last_index).unwrap_or(0) }
    }
}

/// What the log needs of a disk: stored bytes of consecutive entries from `low` up to below `high`, about `most_bytes` of them and at least one.
pub trait Disk {
    /// Reads; an entry that should be there and is not is an error.
    fn stored(&self, low: u64, high: u64, most_bytes: u64) -> Result<Vec<Vec<u8>>, String>;
}

/// As an entry is stored: its own bytes, so that they need not be copied.
pub fn to_stored(entry: &Entry) -> std::borrow::Cow<'_, [u8]> {
    if entry.entry_type() == EntryType::EntryNormal {
        std::borrow::Cow::Borrowed(&entry.data)
    } else {
        let mut bytes = Vec::with_capacity(entry.data.len() + 2);
        bytes.extend([MEMBERSHIP, entry.entry_type as u8]);
        bytes.extend_from_slice(&entry.data);
        std::borrow::Cow::Owned(bytes)
    }
}

/// Whether a stored entry changes who is a member.
pub fn is_of_members(stored: &[u8]) -> bool {
    stored.first() == Some(&MEMBERSHIP)
}

fn from_stored(index: u64, term: u64, mut stored: Vec<u8>) -> Entry {
    let mut entry = Entry { term, index, ..Entry::default() };
    if let [MEMBERSHIP, kind, ..] = stored[..] {
        entry.entry_type = i32::from(kind);
        stored.drain(..2);
    }
    entry.data = stored;
    entry
}

/// Raft's view of the log.
pub(super) struct Log<D> {
    pub(super) disk: D,
    pub(super) known: Remembered,
    /// The newest entries, in order up to `known.last_index`.
    tail: VecDeque<Arc<Entry>>,
    tail_bytes: usize,
    /// Up to here everything is on disk and applied.
    settled: u64,
    tail_most: usize,
    /// Where the state's last image was taken: what a snapshot begins with.
    pub(super) image: Option<Place>,
    /// The first error of the disk: Raft cannot say it, and panics.
    pub(super) failed: RefCell<Option<String>>,
}

/// What has to be written so that the disk holds what `append` took.
#[derive(Debug, Default)]
pub(super) struct Appended {
    pub entries: Vec<Arc<Entry>>,
    /// Entries from..=to that were there before and are void now.
    pub void: Option<(u64, u64)>,
    /// Runs of terms that begin.
    pub terms: Vec<(u64, u64)>,
}

impl<D> Log<D> {
    pub fn new(disk: D, known: Remembered, tail_most: usize) -> Log<D> {
        let settled = known.last_index;
        Log { disk, known, tail: VecDeque::new(), tail_bytes: 0, settled, tail_most, image: None, failed: RefCell::new(None) }
    }

    pub fn append(&mut self, entries: Vec<Entry>) -> Appended {
        let mut appended = Appended::default();
        let Some(first) = entries.first().map(|entry| entry.index) else { return appended };
        if first <= self.known.last_index {
            appended.void = Some((first, self.known.last_index));
            while self.tail.back().is_some_and(|entry| entry.index >= first) {
                self.pop_back();
            }
            self.known.terms.split_off(&first);
            self.settled = self.settled.min(first - 1);
            self.known.last_index = first - 1;
        }
        for entry in entries {
            if self.known.last().term != entry.term || self.known.last_index == self.known.truncated.index {
                self.known.terms.insert(entry.index, entry.term);
                appended.terms.push((entry.index, entry.term));
            }
            self.known.last_index = entry.index;
            self.tail_bytes += entry.data.len();
            let entry = Arc::new(entry);
            self.tail.push_back(Arc::clone(&entry));
            appended.entries.push(entry);
        }
        appended
    }

    fn pop_back(&mut self) {
        if let Some(entry) = self.tail.pop_back() {
            self.tail_bytes -= entry.data.len();
        }
    }

    /// Everything up to here is on disk and applied: the tail may let go of it.
    pub fn settle(&mut self, index: u64) {
        self.settled = self.settled.max(index);
        while self.tail_bytes > self.tail_most && self.tail.front().is_some_and(|entry| entry.index <= self.settled) {
            if let Some(entry) = self.tail.pop_front() {
                self.tail_bytes -= entry.data.len();
            }
        }
    }

    /// Everything up to here is no longer needed by Raft.
    pub fn truncate(&mut self, index: u64) -> Option<Place> {
        let term = self.known.term(index)?;
        if index <= self.known.truncated.index {
            return None;
        }
        self.known.truncated = Place { index, term };
        let keep = self.known.terms.range(..=index).next_back().map(|(start, term)| (*start, *term));
        self.known.terms = self.known.terms.split_off(&(index + 1));
        if let Some((_, term)) = keep.filter(|_| index < self.known.last_index) {
            self.known.terms.entry(index + 1).or_insert(term);
        }
        while self.tail.front().is_some_and(|entry| entry.index <= index) {
            if let Some(entry) = self.tail.pop_front() {
                self.tail_bytes -= entry.data.len();
            }
        }
        Some(self.known.truncated)
    }
}

impl<D: Disk> Log<D> {
    fn read(&self, low: u64, high: u64, most: u64) -> Result<Vec<Entry>, String> {
        let tail_first = self.tail.front().map_or(u64::MAX, |entry| entry.index);
        let (mut entries, mut bytes) = (Vec::new(), 0_u64);
        if low < tail_first {
            for (index, stored) in (low..).zip(self.disk.stored(low, high.min(tail_first), most)?) {
                let term = self.known.term(index).ok_or_else(|| format!("the term of entry {index} is unknown"))?;
                bytes += stored.len() as u64;
                entries.push(from_stored(index, term, stored));
            }
            if entries.is_empty() {
                return Err(format!("entry {low} is missing"));
            }
        }
        let next = low + entries.len() as u64;
        if next >= tail_first && next < high {
            for entry in self.tail.range((next - tail_first) as usize..(high - tail_first) as usize) {
                bytes += entry.data.len() as u64;
                if bytes > most && !entries.is_empty() {
                    break;
                }
                entries.push(Entry::clone(entry));
            }
        }
        Ok(entries)
    }
}

impl<D: Disk> Storage for Log<D> {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.known.hard_state.clone(), self.known.members.clone()))
    }

    fn entries(&self, low: u64, high: u64, most: impl Into<Option<u64>>, _: GetEntriesContext) -> raft::Result<Vec<Entry>> {
        if low <= self.known.truncated.index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        self.read(low, high, most.into().unwrap_or(u64::MAX)).map_err(|error| {
            self.failed.borrow_mut().get_or_insert(error);
            raft::Error::Store(StorageError::Unavailable)
        })
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        self.known.term(index).ok_or(raft::Error::Store(if index < self.known.truncated.index {
            StorageError::Compacted
        } else {
            StorageError::Unavailable
        }))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.known.truncated.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.known.last_index)
    }

    /// Only where it was taken: the member that needs it fetches the rest itself (`snapshot`).
    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let Some(image) = self.image.filter(|image| image.index >= request_index.max(self.known.truncated.index)) else {
            return Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        };
        let mut snapshot = Snapshot::default();
        snapshot.set_metadata(SnapshotMetadata { conf_state: Some(self.known.members.clone()), index: image.index, term: image.term });
        Ok(snapshot)
    }
}

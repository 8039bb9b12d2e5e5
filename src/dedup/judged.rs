//! What comes out of a group: which samples passed, and where all the others went.
//!
//! One sum is kept at all times and tested: received = emitted + covered + repeated + refused + waiting.

use crate::model::Before;
use crate::model::Item;

/// A sample that goes out. Kept small: one is written for every forwarded sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The entry that carried it.
    pub entry: u64,
    /// Its place in that entry's body.
    pub item: u32,
    /// Older than what had been forwarded of its series.
    pub late: bool,
    /// From another replica than the group's leader.
    pub filled: bool,
}

/// What was decided by one or more calls. Clear it (`clear`) and use it again: it then allocates nothing.
#[derive(Debug, Default)]
pub struct Judged {
    /// In the order of forwarding.
    pub passed: Vec<Passed>,
    /// What was forwarded before some of them, by place in `passed`: those whose value and the one before it are known.
    pub befores: Vec<(u32, Before)>,
    /// Of the calls since `clear`; `waiting` is the gauge of the group that was called last.
    pub counts: Counts,
    /// What became of each item, while somebody listens.
    pub fates: Option<Fates>,
    /// The items of the entry in hand; kept here only so that its memory is used again.
    pub(super) items: Vec<Item>,
    /// The bits of their values; empty, if nobody said any.
    pub(super) values: Vec<u64>,
}

impl Judged {
    /// An empty one.
    pub fn new() -> Judged {
        Judged::default()
    }

    /// Forgets what was decided, keeps the memory.
    pub fn clear(&mut self) {
        self.passed.clear();
        self.befores.clear();
        self.counts = Counts::default();
        if let Some(fates) = &mut self.fates {
            fates.clear();
        }
    }

    #[inline]
    pub(super) fn note(&mut self, entry: u64, item: u32, fate: Fate) {
        if let Some(fates) = &mut self.fates {
            fates.push(entry, item, fate);
        }
    }
}

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It went out.
    Passed {
        /// Older than what had been forwarded of its series.
        late: bool,
        /// From another replica than the group's leader.
        filled: bool,
    },
    /// It waits for another replica's copy.
    Waiting,
    /// Another replica's copy went out.
    Covered,
    /// It, or its equal, had gone out before.
    Repeated,
    /// Refused: too far ahead, and not from the replica its series is taken from.
    Disbelieved,
    /// Refused: of a forgotten series, and older than what was forgotten.
    TooOld,
    /// Refused: from a replica beyond the eighth.
    Ninth,
    /// Refused before it came here.
    AtDoor,
}

/// Items that are told of one batch; those beyond are counted. Nobody can read more, and a switch may judge a minute's worth at once.
const FATES_MOST: usize = 16_384;

/// What became of items: entry, place in its body, fate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fates {
    /// In the order of judging.
    pub list: Vec<(u64, u32, Fate)>,
    /// So many more.
    pub beyond: u64,
}

impl Fates {
    /// Adds one, or counts it.
    pub fn push(&mut self, entry: u64, item: u32, fate: Fate) {
        if self.list.len() < FATES_MOST {
            self.list.push((entry, item, fate));
        } else {
            self.beyond += 1;
        }
    }

    /// Takes all of the other's.
    pub fn take(&mut self, other: &mut Fates) {
        other.list.drain(..).for_each(|(entry, item, fate)| self.push(entry, item, fate));
        self.beyond += std::mem::take(&mut other.beyond);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && self.beyond == 0
    }

    fn clear(&mut self) {
        self.list.clear();
        self.beyond = 0;
    }
}

/// Where every received item went. received = emitted + covered + repeated + refused + waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Items of entries: samples, histograms, markers, exemplars.
    pub received: u64,
    /// Forwarded.
    pub emitted: u64,
    /// Not forwarded, since another replica's copy was.
    pub covered: u64,
    /// Not forwarded, since the same replica had sent it before.
    pub repeated: u64,
    /// Not forwarded for a reason that somebody should see: at the door, or one of the three below.
    pub refused: u64,
    /// Gauge: neither forwarded nor dropped yet.
    pub waiting: u64,

    /// Of the emitted: older than what had been forwarded of its series.
    pub late: u64,
    /// Of the emitted: from another replica than the leader.
    pub filled: u64,
    /// Of the emitted: too far ahead to be believed, let through nevertheless.
    pub ahead: u64,
    /// Of the emitted: exemplars.
    pub exemplars: u64,
    /// Of the refused: too far ahead, and not from the replica its series is taken from.
    pub disbelieved: u64,
    /// Of the refused: of a series that is unknown by now, and older than what has been forgotten.
    pub too_old: u64,
    /// Of the refused: from a replica beyond the eighth.
    pub ninth: u64,
}

impl Counts {
    /// The sum that must always hold.
    pub fn balanced(&self) -> bool {
        self.received == self.emitted + self.covered + self.repeated + self.refused + self.waiting
    }

    /// Every counter in the order of the image, `waiting` left out: the queues know it.
    pub(super) fn counters(&mut self) -> [&mut u64; 12] {
        let Counts {
            received,
            emitted,
            covered,
            repeated,
            refused,
            waiting: _,
            late,
            filled,
            ahead,
            exemplars,
            disbelieved,
            too_old,
            ninth,
        } = self;
        [received, emitted, covered, repeated, refused, late, filled, ahead, exemplars, disbelieved, too_old, ninth]
    }

    /// Adds the counters of `other`; the gauge stays.
    pub fn add(&mut self, mut other: Counts) {
        for (mine, more) in self.counters().into_iter().zip(other.counters()) {
            *mine += *more;
        }
    }
}

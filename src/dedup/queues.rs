//! What waits: references to samples in the log, in queues per replica and class of interval whose due times never decrease.
//!
//! A waiting sample takes 16 bytes, its entry and due time stand once per run of samples that share them. Queues keep the order in which
//! they came to be, which settles the order of samples that are due in the same millisecond; it is part of the state.

use std::collections::VecDeque;

/// Set in `Waiting::item` for a stale marker. A body has at most 2^31 items.
const STALE: u32 = 1 << 31;
/// What a waiting sample counts for in the bound on waiting bytes: itself and its share of its run, rounded up.
pub(super) const WAITING_COST: u64 = 24;

/// A sample that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub time: i64,
    pub slot: u32,
    item: u32,
}

impl Waiting {
    /// `item` must be below 2^31.
    pub fn new(time: i64, slot: u32, item: u32, stale: bool) -> Waiting {
        Waiting { time, slot, item: if stale { item | STALE } else { item } }
    }

    pub fn item(&self) -> u32 {
        self.item & !STALE
    }

    pub fn stale(&self) -> bool {
        self.item & STALE != 0
    }
}

/// Waiting samples of one entry that are due together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub due: i64,
    pub entry: u64,
    pub count: u32,
}

/// One queue. Its due times and its entries never decrease from front to back.
#[derive(Debug)]
pub(super) struct Queue {
    pub replica: u8,
    pub class: u8,
    /// The newest due time given; stays when the queue is empty.
    pub due: i64,
    pub runs: VecDeque<Run>,
    pub samples: VecDeque<Waiting>,
}

impl Queue {
    pub fn new(replica: u8, class: u8) -> Queue {
        Queue { replica, class, due: 0, runs: VecDeque::new(), samples: VecDeque::new() }
    }

    #[inline]
    pub fn push(&mut self, due: i64, entry: u64, sample: Waiting) {
        self.due = self.due.max(due);
        match self.runs.back_mut() {
            Some(run) if run.due == self.due && run.entry == entry => run.count += 1,
            _ => self.runs.push_back(Run { due: self.due, entry, count: 1 }),
        }
        self.samples.push_back(sample);
    }

    /// The front run with its samples. The caller takes all of them before it asks again.
    fn pop_run(&mut self) -> Option<(Run, impl Iterator<Item = Waiting>)> {
        let run = self.runs.pop_front()?;
        let count = (run.count as usize).min(self.samples.len());
        Some((run, self.samples.drain(..count)))
    }

    /// Gives memory back once a burst is over.
    fn shrink(&mut self) {
        if self.samples.capacity() > 4096 && self.samples.len() * 8 < self.samples.capacity() {
            self.samples.shrink_to(self.samples.len() * 2);
        }
    }
}

/// A run that is being judged: whose, and its samples in a buffer that is used again.
#[derive(Debug, Default)]
pub(super) struct Ripe {
    pub samples: Vec<(Run, u8, Waiting)>,
}

/// All queues of a group, in the order in which they came to be.
#[derive(Debug, Default)]
pub(super) struct Queues {
    pub list: Vec<Queue>,
}

impl Queues {
    /// Samples that wait.
    pub fn len(&self) -> u64 {
        self.list.iter().map(|queue| queue.samples.len() as u64).sum()
    }

    /// The queue of a replica and a class; made if there is none.
    pub fn of(&mut self, replica: u8, class: u8) -> usize {
        let found = self.list.iter().position(|queue| queue.replica == replica && queue.class == class);
        found.unwrap_or_else(|| {
            self.list.push(Queue::new(replica, class));
            self.list.len() - 1
        })
    }

    pub fn next_due(&self) -> Option<i64> {
        self.list.iter().filter_map(|queue| queue.runs.front()).map(|run| run.due).min()
    }

    pub fn oldest_entry(&self) -> Option<u64> {
        self.list.iter().filter_map(|queue| queue.runs.front()).map(|run| run.entry).min()
    }

    /// Takes the run that is due first, of those due by `now`; of two due together the one whose queue is older.
    pub fn take_due(&mut self, now: i64, into: &mut Ripe) -> bool {
        into.samples.clear();
        let first = self.list.iter_mut().filter(|queue| queue.runs.front().is_some_and(|run| run.due <= now));
        // `min_by_key` gives the first of equal ones.
        let Some(queue) = first.min_by_key(|queue| queue.runs.front().map(|run| run.due)) else { return false };
        let replica = queue.replica;
        if let Some((run, samples)) = queue.pop_run() {
            into.samples.extend(samples.map(|sample| (run, replica, sample)));
        }
        queue.shrink();
        true
    }

    /// Takes all that wait of one entry, in order of due times.
    pub fn take_entry(&mut self, entry: u64, into: &mut Ripe) {
        into.samples.clear();
        for queue in &mut self.list {
            let replica = queue.replica;
            while queue.runs.front().is_some_and(|run| run.entry == entry) {
                if let Some((run, samples)) = queue.pop_run() {
                    into.samples.extend(samples.map(|sample| (run, replica, sample)));
                }
            }
            queue.shrink();
        }
        into.samples.sort_by_key(|(run, _, _)| run.due);
    }

    /// Takes all that wait of one replica, stale markers apart, in order of due times.
    pub fn take_replica(&mut self, replica: u8, into: &mut Ripe) {
        into.samples.clear();
        for queue in self.list.iter_mut().filter(|queue| queue.replica == replica) {
            let mut kept = Queue::new(replica, queue.class);
            while let Some((run, samples)) = queue.pop_run() {
                for sample in samples {
                    if sample.stale() {
                        kept.push(run.due, run.entry, sample);
                    } else {
                        into.samples.push((run, replica, sample));
                    }
                }
            }
            kept.due = queue.due;
            *queue = kept;
        }
        into.samples.sort_by_key(|(run, _, _)| run.due);
    }

    /// Forgets the queues of a replica, if nothing waits in them.
    pub fn forget(&mut self, replica: u8) -> bool {
        if self.list.iter().any(|queue| queue.replica == replica && !queue.samples.is_empty()) {
            return false;
        }
        self.list.retain(|queue| queue.replica != replica);
        true
    }
}

//! What waits: references to samples in the log, in queues per replica and class of interval whose due times never decrease.
//!
//! A waiting sample takes 16 bytes, and 8 for its value where somebody said it; its entry and due time stand once per run of samples that share
//! them. Queues keep the order in which
//! they came to be, which settles the order of samples that are due in the same millisecond; it is part of the state.

use crate::model::NO_VALUE;
use std::collections::VecDeque;

/// Set in `Waiting::item` for a stale marker. A body has at most 2^31 items.
const STALE: u32 = 1 << 31;
/// What a waiting sample counts for in the bound on waiting bytes: itself and its value, or its share of its run.
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
    /// The bits of their values, one for each sample; empty while nobody has said any.
    values: VecDeque<u64>,
}

impl Queue {
    pub fn new(replica: u8, class: u8) -> Queue {
        Queue { replica, class, due: 0, runs: VecDeque::new(), samples: VecDeque::new(), values: VecDeque::new() }
    }

    #[inline]
    pub fn push(&mut self, due: i64, entry: u64, (sample, bits): (Waiting, u64)) {
        self.due = self.due.max(due);
        match self.runs.back_mut() {
            Some(run) if run.due == self.due && run.entry == entry => run.count += 1,
            _ => self.runs.push_back(Run { due: self.due, entry, count: 1 }),
        }
        if bits != NO_VALUE || !self.values.is_empty() {
            self.values.resize(self.samples.len(), NO_VALUE);
            self.values.push_back(bits);
        }
        self.samples.push_back(sample);
    }

    /// The bits of the values, in the order of the samples; nothing, if there are none.
    pub fn values(&self) -> impl Iterator<Item = u64> {
        self.values.iter().copied()
    }

    /// From an image: one for each sample.
    pub fn set_values(&mut self, values: VecDeque<u64>) {
        self.values = values;
    }

    /// Whether there is a value among them.
    pub fn is_valued(&self) -> bool {
        self.values.iter().any(|bits| *bits != NO_VALUE)
    }

    /// The front run with its samples. The caller takes all of them before it asks again.
    fn pop_run(&mut self) -> Option<(Run, impl Iterator<Item = (Waiting, u64)>)> {
        let run = self.runs.pop_front()?;
        let count = (run.count as usize).min(self.samples.len());
        let mut values = self.values.drain(..count.min(self.values.len()));
        Some((run, self.samples.drain(..count).map(move |sample| (sample, values.next().unwrap_or(NO_VALUE)))))
    }

    /// Gives memory back once a burst is over.
    fn shrink(&mut self) {
        if self.samples.capacity() > 4096 && self.samples.len() * 8 < self.samples.capacity() {
            self.samples.shrink_to(self.samples.len() * 2);
            self.values.shrink_to(self.values.len() * 2);
        }
    }
}

/// A sample that is being judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub due: i64,
    pub entry: u64,
    pub sample: Waiting,
    pub bits: u64,
    pub replica: u8,
}

/// Samples that are being judged, all of one replica, in a buffer that is used again.
#[derive(Debug, Default)]
pub(super) struct Ripe {
    pub samples: Vec<Due>,
}

impl Ripe {
    fn take(&mut self, replica: u8, run: Run, samples: impl Iterator<Item = (Waiting, u64)>) {
        let Run { due, entry, .. } = run;
        self.samples.extend(samples.map(|(sample, bits)| Due { due, entry, sample, bits, replica }));
    }
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

    /// Memory held, bytes.
    pub fn bytes(&self) -> usize {
        let held = |queue: &Queue| {
            let Queue { samples, values, runs, .. } = queue;
            samples.capacity() * size_of::<Waiting>() + values.capacity() * size_of::<u64>() + runs.capacity() * size_of::<Run>()
        };
        self.list.iter().map(held).sum()
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
            into.take(replica, run, samples);
        }
        queue.shrink();
        true
    }

    /// Takes all that wait of one entry (so of one replica), in order of due times.
    pub fn take_entry(&mut self, entry: u64, into: &mut Ripe) {
        into.samples.clear();
        for queue in &mut self.list {
            let replica = queue.replica;
            while queue.runs.front().is_some_and(|run| run.entry == entry) {
                if let Some((run, samples)) = queue.pop_run() {
                    into.take(replica, run, samples);
                }
            }
            queue.shrink();
        }
        into.samples.sort_by_key(|due| due.due);
    }

    /// Takes all that wait of one replica, stale markers apart, in order of due times.
    pub fn take_replica(&mut self, replica: u8, into: &mut Ripe) {
        into.samples.clear();
        for queue in self.list.iter_mut().filter(|queue| queue.replica == replica) {
            let mut kept = Queue::new(replica, queue.class);
            while let Some((run, samples)) = queue.pop_run() {
                for (sample, bits) in samples {
                    if sample.stale() {
                        kept.push(run.due, run.entry, (sample, bits));
                    } else {
                        into.samples.push(Due { due: run.due, entry: run.entry, sample, bits, replica });
                    }
                }
            }
            kept.due = queue.due;
            *queue = kept;
        }
        into.samples.sort_by_key(|due| due.due);
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

//! The one thread of a node that writes: the batches of all shards, in the order in which they come, and one sync for all that wait for one.
//!
//! While a sync is under way, batches gather (Q3, bounded in bytes: a shard that has more to write waits here, which makes its offers wait,
//! which makes senders wait). After a failed write or sync nothing more is written: [`Fatal`] is told, once, and the process must end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use crate::clock;
use crate::failpoint;
use crate::node::lane::Lane;
use crate::node::pulse::Beat;
use crate::store::Family;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::batch::Sealed;
use crate::store::mark::Mark;
use crate::store::mark::Promise;

/// At most so old is the mark while the log moves.
const MARK_AGE: Duration = Duration::from_secs(1);

/// The end of everything: told once, by whoever meets it first.
pub(super) struct Fatal {
    first: OnceLock<String>,
    tell: Box<dyn Fn(&str) + Send + Sync>,
}

impl Fatal {
    pub fn new(tell: Box<dyn Fn(&str) + Send + Sync>) -> Fatal {
        Fatal { first: OnceLock::new(), tell }
    }

    pub fn end(&self, reason: String) {
        if self.first.set(reason.clone()).is_ok() {
            tracing::error!("the node ends: {reason}");
            (self.tell)(&reason);
        }
    }

    pub fn reason(&self) -> Option<&str> {
        self.first.get().map(String::as_str)
    }
}

/// Something to write for a shard.
pub(super) struct Job {
    pub lane: Arc<Lane>,
    pub batch: Sealed,
    /// Report this number once it is durable, and keep this promise.
    pub log: Option<(u64, Promise)>,
    /// The mark must be written before the report.
    pub promise: bool,
    /// Sync although there is no number to report; then this range may be given back.
    pub free: Option<Vec<(Family, u64)>>,
    /// Emissions up to here are in the batch.
    pub emissions: u64,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    bytes: usize,
    stop: bool,
}

pub(super) struct Writer {
    queue: Mutex<Queue>,
    changed: Condvar,
    most_bytes: usize,
    pub figures: Figures,
    /// When it last moved in what it writes.
    pub writes: Beat,
    /// When the disk last took something for good, from here or from the probe.
    pub synced: Beat,
    /// As long as it is held nothing is written: a disk that does not answer.
    #[cfg(test)]
    pub held: Mutex<()>,
}

/// Counters for `/metrics`.
#[derive(Default)]
pub(super) struct Figures {
    pub syncs: AtomicU64,
    pub batches: AtomicU64,
    pub bytes: AtomicU64,
    pub sync_micros: AtomicU64,
}

impl Writer {
    pub fn new(most_bytes: usize) -> Writer {
        Writer {
            queue: Mutex::default(),
            changed: Condvar::new(),
            most_bytes,
            figures: Figures::default(),
            writes: Beat::default(),
            synced: Beat::default(),
            #[cfg(test)]
            held: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while the queue is full. After `stop` jobs are dropped: their shard is told nothing, so it promises nothing.
    pub fn submit(&self, job: Job) {
        let full = |queue: &mut Queue| !queue.stop && queue.bytes > 0 && queue.bytes + job.batch.bytes() > self.most_bytes;
        let mut queue = self.changed.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        if queue.stop {
            return;
        }
        queue.bytes += job.batch.bytes();
        queue.jobs.push_back(job);
        drop(queue);
        self.changed.notify_all();
    }

    /// What is queued is still written.
    pub fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }

    fn take(&self) -> Option<VecDeque<Job>> {
        let idle = |queue: &mut Queue| queue.jobs.is_empty() && !queue.stop;
        let mut queue = self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        if queue.jobs.is_empty() {
            return None;
        }
        Some(std::mem::take(&mut queue.jobs))
    }

    /// The thread. Ends after `stop`, or at the first error.
    pub fn run(&self, store: &Store, mut mark: Mark, fatal: &Fatal) {
        let mut marked = clock::now();
        while let Some(jobs) = self.take() {
            self.writes.beat(clock::now());
            let bytes = jobs.iter().map(|job| job.batch.bytes()).sum::<usize>();
            if let Err(error) = self.write(store, &mut mark, &mut marked, jobs) {
                fatal.end(error.to_string());
                self.stop();
                return;
            }
            self.writes.rest();
            self.lock().bytes -= bytes;
            self.changed.notify_all();
        }
        if let Err(error) = store.sync().and_then(|()| mark.write()) {
            fatal.end(error.to_string());
        }
    }

    fn write(&self, store: &Store, mark: &mut Mark, marked: &mut Instant, jobs: VecDeque<Job>) -> Result<(), StoreError> {
        #[cfg(test)]
        let _held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut sync, mut promise, mut cut) = (false, false, false);
        let logs = jobs.iter().any(|job| job.log.is_some());
        if logs {
            failpoint::reach(failpoint::Place::LogUnwritten);
        }
        let mut written = Vec::with_capacity(jobs.len());
        for job in jobs {
            let Job { lane, batch, log, promise: promised, free, emissions } = job;
            self.figures.batches.fetch_add(1, Ordering::Relaxed);
            self.figures.bytes.fetch_add(batch.bytes() as u64, Ordering::Relaxed);
            cut |= free.is_some();
            if free.is_some() {
                failpoint::reach(failpoint::Place::CutUnwritten);
            }
            if !batch.is_empty() {
                store.write(batch)?;
                self.writes.beat(clock::now()); // much may wait for a slow disk: it moves, batch by batch
            }
            sync |= log.is_some() || free.is_some();
            promise |= promised;
            if emissions > 0 {
                lane.written(emissions);
            }
            written.push((lane, log, free));
        }
        if !sync {
            return Ok(());
        }
        if logs {
            failpoint::reach(failpoint::Place::LogWritten);
        }
        let before = clock::now();
        store.sync()?;
        let now = clock::now();
        self.synced.beat(now);
        if cut {
            failpoint::reach(failpoint::Place::CutSynced);
        }
        if promise {
            failpoint::reach(failpoint::Place::PromiseUnmarked);
        }
        self.figures.syncs.fetch_add(1, Ordering::Relaxed);
        self.figures.sync_micros.store((now - before).as_micros() as u64, Ordering::Relaxed);
        for (lane, log, _) in &written {
            if let Some((_, promise)) = log {
                mark.promise(lane.shard.0, *promise);
            }
        }
        if promise || now - *marked >= MARK_AGE {
            mark.write()?;
            *marked = now;
        }
        if promise {
            failpoint::reach(failpoint::Place::PromiseMarked);
        }
        if logs {
            failpoint::reach(failpoint::Place::LogSynced);
        }
        for (lane, log, free) in written {
            if let Some((number, _)) = log {
                lane.mailbox.persisted(number);
            }
            if let Some(ranges) = free {
                lane.freed(ranges);
            }
        }
        Ok(())
    }
}

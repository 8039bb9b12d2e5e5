//! What a sink's worker does whatever it writes to: it lives as long as its sink, on every node, and works while its node leads the shard. Whatever
//! goes wrong ends the *session*, never the worker: it says what is wrong, rests, and begins a new session at the position. So there is one
//! way back from every kind of trouble, and it is the way of every start.
//!
//! Left out on purpose: how anything is delivered (`kafka`, `remote_write`), and a queue of rows: the shard's log is it.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use crate::clock;
use crate::forward::book::Book;
use crate::forward::source::Cursor;
use crate::forward::source::Dead;
use crate::forward::source::Source;
use crate::forward::source::SourceError;
use crate::forward::tap::Tap;
use crate::forward::trouble::Trouble;
use crate::forward::view::ClientStats;
use crate::forward::view::Phase;
use crate::forward::view::Report;
use crate::shard::emission::Emission;

/// Samples read from the log at once: an emission holds at most 10,000.
const SAMPLES_A_READ: usize = 20_000;
const REST_MIN: Duration = Duration::from_millis(250);
const REST_MAX: Duration = Duration::from_secs(15);
/// The view's figures and the cursor are looked after this often.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// Why a session is over.
#[derive(Debug)]
pub(crate) enum End {
    /// The worker is to stop.
    Stopped,
    /// Another node leads the shard.
    Elsewhere,
    /// Positions begin anew: read the cursor again.
    NewEpoch,
    /// An operator pauses the sink.
    Paused,
    /// Something was learnt; go on at once with a new session.
    Again,
    /// Something is wrong.
    Trouble(Trouble),
}

/// How a worker is told to stop or pause. Every wait of a worker asks here whether it goes on, so that one that has not asked for long stands still.
#[derive(Debug)]
pub struct Control {
    since: Instant,
    /// When the worker asked last, ms after `since`.
    asked: AtomicU64,
    stop: AtomicBool,
    /// As the shard's log has it (`Duty::heed`).
    paused: AtomicBool,
    /// When what is open must be left undone.
    until: Mutex<Option<Instant>>,
}

impl Default for Control {
    fn default() -> Control {
        let (asked, stop, paused, until) = Default::default();
        Control { since: clock::now(), asked, stop, paused, until }
    }
}

impl Control {
    /// How long the worker has not asked.
    pub fn still(&self) -> Duration {
        since(self.since).saturating_sub(Duration::from_millis(self.asked.load(Ordering::Relaxed)))
    }

    fn asks(&self) {
        self.asked.store(u64::try_from(since(self.since).as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Stop by then.
    pub fn stop(&self, until: Instant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        self.stop.store(true, Ordering::Release);
    }

    fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
    }

    pub(crate) fn stopping(&self) -> bool {
        self.asks();
        self.stop.load(Ordering::Acquire)
    }

    pub(crate) fn pausing(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// The grace is over.
    pub(crate) fn expired(&self) -> bool {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        self.stopping() && until.is_some_and(|until| clock::now() >= until)
    }
}

/// What a worker is made of, whatever it writes to.
pub struct Parts {
    /// Its shard.
    pub source: Arc<dyn Source>,
    /// How it is stopped.
    pub control: Arc<Control>,
    /// Its account of itself.
    pub report: Arc<Report>,
    /// Who reads along.
    pub tap: Tap,
    /// For what is done by futures.
    pub runtime: tokio::runtime::Handle,
}

/// A worker's part that does not depend on what it writes to.
pub(crate) struct Duty {
    pub source: Arc<dyn Source>,
    pub control: Arc<Control>,
    pub report: Arc<Report>,
    pub tap: Tap,
    pub runtime: tokio::runtime::Handle,
    /// The epoch and the last emission that this process saw delivered.
    pub seen: Option<(u64, u64)>,
    /// How often it was seen that another node leads.
    pub absences: u64,
    prng: fastrand::Rng,
    rest: Duration,
    looked: Option<Instant>,
    /// The cursor with which the last session began, and the standing of that moment.
    begun: Option<Cursor>,
    sinks_version: u64,
    /// The standing's version for which `control` knows whether the sink is held.
    heeded: Option<u64>,
}

/// What delivers: everything that does depend on it.
pub(crate) trait Deliver {
    /// The common part.
    fn duty(&mut self) -> &mut Duty;
    /// From the cursor on, until something ends it.
    fn session(&mut self, cursor: Cursor) -> End;
    /// Says what is wrong and waits a while.
    fn rest_after(&mut self, trouble: &Trouble) {
        self.duty().rest_after(trouble);
    }
}

/// Works until it is stopped.
pub(crate) fn work(worker: &mut dyn Deliver) {
    loop {
        let end = match worker.duty().turn() {
            Ok(Some(cursor)) => worker.session(cursor),
            Ok(None) => continue,
            Err(end) => end,
        };
        match end {
            End::Stopped => break,
            End::Elsewhere => worker.duty().absences += 1,
            End::NewEpoch | End::Paused => {}
            End::Again => worker.duty().rest_for(Duration::from_millis(50)),
            // Nobody waits for what it says any more.
            End::Trouble(_) if worker.duty().control.stopping() => {}
            End::Trouble(trouble) => worker.rest_after(&trouble),
        }
    }
    worker.duty().report.change(|view| view.phase = Phase::Stopped);
}

impl Duty {
    /// Nothing done yet.
    pub fn new(parts: Parts) -> Duty {
        let Parts { source, control, report, tap, runtime } = parts;
        Duty {
            source,
            control,
            report,
            tap,
            runtime,
            seen: None,
            absences: 0,
            prng: fastrand::Rng::new(),
            rest: REST_MIN,
            looked: None,
            begun: None,
            sinks_version: 0,
            heeded: None,
        }
    }

    /// Where a session is to begin now; `None`: not now, and some time was waited.
    fn turn(&mut self) -> Result<Option<Cursor>, End> {
        if self.control.stopping() {
            return Err(End::Stopped);
        }
        let standing = self.source.standing();
        self.heed();
        if !standing.leads || self.control.pausing() {
            self.aside(standing.leads);
            self.source.wait(&standing, Duration::from_millis(500));
            return Ok(None);
        }
        self.sinks_version = standing.sinks_version;
        match self.source.cursor() {
            Ok(Some(cursor)) => {
                self.carry_over(&cursor);
                Ok(Some(cursor))
            }
            // The entry that adds the sink has not been applied yet.
            Ok(None) => {
                self.source.wait(&standing, Duration::from_millis(500));
                Ok(None)
            }
            Err(error) => Err(log_end(error)),
        }
    }

    /// Another node sees to the shard, or an operator has paused the sink. What waits is the other's to tell; of a pause it goes on growing here.
    fn aside(&mut self, leads: bool) {
        self.absences += u64::from(!leads);
        let phase = if leads { Phase::Paused } else { Phase::Elsewhere };
        self.report.change(|view| (view.phase, view.trouble) = (phase, None));
        if !leads {
            self.report.change(|view| {
                (view.lag_emissions, view.lag_samples, view.lag_ms) = (0, 0, 0);
                (view.cursor.pending, view.cursor.pending_bytes) = (0, 0);
                view.cursor.paused = self.control.pausing();
            });
        } else if let Ok(Some(cursor)) = self.source.cursor() {
            self.look(cursor.epoch, self.seen_of(cursor.epoch).unwrap_or(0).max(cursor.emission), || None);
        }
    }

    /// An operator's pause is an entry of the shard, so that it holds whoever leads.
    fn heed(&mut self) {
        let version = self.source.standing().sinks_version;
        if self.heeded == Some(version) {
            return;
        }
        if let Ok(cursor) = self.source.cursor() {
            self.control.pause(cursor.is_some_and(|cursor| cursor.paused));
            self.heeded = Some(version);
        }
    }

    /// A session begins.
    pub fn connecting(&self) {
        if self.report.view().trouble.is_none() {
            self.report.change(|view| view.phase = Phase::Connecting);
        }
    }

    /// A budget's cut raises the epoch while rows beyond it may have been delivered under the old one, by this very process: those are
    /// not sent again. After a rewind (nothing dropped) they are; that is what it is for.
    fn carry_over(&mut self, cursor: &Cursor) {
        if let (Some(begun), Some((epoch, position))) = (self.begun, self.seen)
            && epoch < cursor.epoch
            && cursor.dropped > begun.dropped
            && position > cursor.emission
        {
            self.seen = Some((cursor.epoch, position));
        }
        self.begun = Some(*cursor);
    }

    /// Whether positions have begun anew since this session did.
    pub fn epoch_passed(&self, epoch: u64) -> Result<(), End> {
        if self.source.standing().sinks_version == self.sinks_version {
            return Ok(());
        }
        match self.source.cursor() {
            Ok(Some(cursor)) if cursor.epoch == epoch => Ok(()),
            Ok(_) => Err(End::NewEpoch),
            Err(error) => Err(log_end(error)),
        }
    }

    pub fn seen_of(&self, epoch: u64) -> Option<u64> {
        self.seen.filter(|(of, _)| *of == epoch).map(|(_, position)| position)
    }

    /// Says what is wrong and waits a while.
    pub fn rest_after(&mut self, trouble: &Trouble) {
        self.report.trouble(trouble, clock::wall_ms());
        let rest = self.next_rest();
        self.rest_for(rest);
    }

    /// How long to wait after this trouble: longer from time to time, with jitter so that shards do not knock all at once.
    pub fn next_rest(&mut self) -> Duration {
        let rest = self.rest;
        self.rest = (self.rest * 2).min(REST_MAX);
        rest.mul_f64(0.5 + self.prng.f64())
    }

    /// As [`Duty::next_rest`], for a time that is given.
    pub fn jittered(&mut self, rest: Duration) -> Duration {
        self.rest = (self.rest * 2).min(REST_MAX);
        rest.mul_f64(0.5 + self.prng.f64())
    }

    /// Waits, but not longer than this node leads and nobody stops the worker; the lag goes on growing in the view.
    pub fn rest_for(&mut self, time: Duration) {
        let until = clock::now() + time;
        loop {
            let left = until.saturating_duration_since(clock::now());
            let standing = self.source.standing();
            self.heed();
            if left.is_zero() || self.control.stopping() || self.control.pausing() || !standing.leads {
                return;
            }
            if let Ok(Some(cursor)) = self.source.cursor() {
                self.look(cursor.epoch, self.seen_of(cursor.epoch).unwrap_or(0).max(cursor.emission), || None);
            }
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
    }

    /// Rows flow: the next trouble begins with a short rest again.
    pub fn well(&mut self) {
        self.rest = REST_MIN;
        self.report.well(clock::wall_ms());
    }

    /// Emissions after this one.
    pub fn read(&self, after: u64) -> Result<Vec<Arc<Emission>>, End> {
        self.source.emissions(after, SAMPLES_A_READ).map_err(log_end)
    }

    /// The emission after this one, if there is one.
    pub fn read_one(&self, after: u64) -> Result<Option<Arc<Emission>>, End> {
        self.source.emissions(after, 1).map(|batch| batch.into_iter().next()).map_err(log_end)
    }

    /// Whether the session goes on; once a second the cursor and the figures.
    pub fn look_after(&mut self, book: &mut Book, client: impl FnOnce() -> Option<ClientStats>) -> Result<(), End> {
        if self.control.stopping() {
            return Err(End::Stopped);
        }
        self.heed();
        if self.control.pausing() {
            return Err(End::Paused);
        }
        self.goes_on(book, client)
    }

    /// The same while something is under way, which a stop or a pause lets come to its end.
    pub fn goes_on(&mut self, book: &mut Book, client: impl FnOnce() -> Option<ClientStats>) -> Result<(), End> {
        if self.control.expired() {
            return Err(End::Stopped);
        }
        if !self.source.standing().leads {
            return Err(End::Elsewhere);
        }
        self.epoch_passed(book.epoch())?;
        self.look(book.epoch(), book.position(), client);
        match book.settle(self.source.as_ref(), clock::now(), false) {
            Ok(true) => Ok(()),
            Ok(false) => Err(End::NewEpoch),
            Err(error) => Err(log_end(error)),
        }
    }

    /// Whose a row is, for its letter; nobody's where the log does not say.
    pub fn tenant_of(&self, emission: u64, item: u32) -> String {
        let mut tenant = String::new();
        let found = self.source.emissions(emission.saturating_sub(1), 1).unwrap_or_default();
        for emission in found.iter().filter(|found| found.number == emission) {
            let read = self.source.rows(emission, &mut |row| {
                if row.item == item {
                    row.tenant.clone_into(&mut tenant);
                }
            });
            if let Err(error) = read {
                tracing::debug!(%error, "whose a dead letter is could not be read");
            }
        }
        tenant
    }

    /// What was refused for good goes into the log, and returns when it is there.
    pub fn bury(&self, letter: Dead) -> Result<(), End> {
        match self.source.bury(letter) {
            // Void: the sink is gone, or has such a letter.
            Ok(()) | Err(SourceError::Void(_)) => Ok(()),
            // Unknown: it may be there twice, which is better than not at all.
            Err(error) => Err(log_end(error)),
        }
    }

    /// The same of several, which wait for the log together.
    pub fn bury_all(&self, letters: Vec<Dead>) -> Result<(), End> {
        match self.source.bury_all(letters) {
            Ok(()) | Err(SourceError::Void(_)) => Ok(()),
            Err(error) => Err(log_end(error)),
        }
    }

    /// The session is over: what is owed to the cursor.
    pub fn settle_last(&self, book: &mut Book, sink: &str) {
        if let Err(error) = book.settle(self.source.as_ref(), clock::now(), true) {
            tracing::debug!(%sink, %error, "the last cursor of a session was not written");
        }
    }

    /// The view's figures, once a second.
    fn look(&mut self, epoch: u64, position: u64, client: impl FnOnce() -> Option<ClientStats>) {
        let now = clock::now();
        if self.looked.is_some_and(|last| now.saturating_duration_since(last) < LOOK_AFTER) {
            return;
        }
        self.looked = Some(now);
        let standing = self.source.standing();
        let next = self.source.emissions(position, 1).ok().and_then(|batch| batch.into_iter().next());
        let cursor = self.source.cursor().ok().flatten().unwrap_or_default();
        let wall = clock::wall_ms();
        let client = client();
        self.report.change(|view| {
            view.epoch = epoch;
            view.position = position;
            view.lag_emissions = standing.last_emission.saturating_sub(position);
            view.lag_samples = next.as_ref().map_or(0, |next| standing.samples.saturating_sub(next.samples_before));
            view.lag_ms = next.as_ref().map_or(0, |next| (wall - next.at).max(0));
            view.cursor = cursor;
            if let Some(client) = client {
                view.client = client;
            }
        });
    }
}

/// Time since then.
pub(crate) fn since(then: Instant) -> Duration {
    clock::now().saturating_duration_since(then)
}

/// What the log's refusal means for a session.
pub(crate) fn log_end(error: SourceError) -> End {
    match error {
        SourceError::NotLeading => End::Elsewhere,
        SourceError::Void(_) => End::NewEpoch,
        SourceError::Busy | SourceError::Unknown | SourceError::Unreadable(_) => End::Trouble(Trouble::Log { detail: error.to_string() }),
    }
}

/// An emission whose body is not there any more, though the sink needs it.
pub(crate) fn body_gone(emission: &Emission) -> End {
    let detail = format!("entry {} of emission {} is gone, though this sink has not had it", emission.entry, emission.number);
    End::Trouble(Trouble::Log { detail })
}

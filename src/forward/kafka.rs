//! The Kafka sink: one worker thread for each shard of each sink.
//!
//! A worker lives as long as its sink does, on every node; it works while its node leads the shard. Whatever goes wrong ends the
//! *session* (one producer), never the worker: it says what is wrong, rests, and begins a new session, which reads from Kafka how far the
//! last one came. So there is one way back from every kind of trouble, and it is the way of every start.
//!
//! Deliberately absent: a queue of rows (the shard's log is it), retries of single messages (librdkafka's), and any guess about a
//! transaction whose outcome is not known.

mod at_least_once;
mod book;
mod client;
mod connect;
mod exactly_once;
pub mod measure;
mod outlet;
pub mod replay;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::clock;
use crate::forward::kafka::book::Book;
pub use crate::forward::kafka::client::Identity;
use crate::forward::kafka::client::Link;
use crate::forward::kafka::client::Refusal;
use crate::forward::kafka::outlet::Outlet;
use crate::forward::kafka::outlet::Unsent;
use crate::forward::pack::Note;
use crate::forward::settings::BATCH_BYTES;
use crate::forward::settings::Delivery;
use crate::forward::settings::KafkaSettings;
use crate::forward::source::Cursor;
use crate::forward::source::Dead;
use crate::forward::source::Source;
use crate::forward::source::SourceError;
use crate::forward::tap::Tap;
use crate::forward::trouble;
use crate::forward::trouble::Trouble;
use crate::forward::view::Phase;
use crate::forward::view::Report;
use crate::shard::emission::Emission;

/// Samples read from the log at once: an emission holds at most 10,000.
const SAMPLES_A_READ: usize = 20_000;
/// A fenced worker that still leads tries again this often: two clusters of one name must not fight every second.
const AFTER_FENCE: Duration = Duration::from_secs(60);
/// So long after being fenced a worker waits for the news that another node leads, before it tries again.
const UNTIL_HEARD: Duration = Duration::from_secs(2);
/// Fenced a second time within this time, a worker complains: it is no news that was late.
const AGAIN_WITHIN: Duration = Duration::from_secs(300);
const REST_MIN: Duration = Duration::from_millis(250);
const REST_MAX: Duration = Duration::from_secs(15);
/// The view's figures and the cursor are looked after this often.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// How long the report of a refused message is waited for, once its transaction has failed: it is on its way.
const REPORT: Duration = Duration::from_secs(1);
/// Whether the topic has grown is asked this often, while rows flow.
const ASK_PARTITIONS: Duration = Duration::from_secs(60);

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
    /// Something was learnt; go on at once with a new producer.
    Again,
    /// Something is wrong.
    Trouble(Trouble),
}

/// How a worker is told to stop or pause.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicBool,
    paused: AtomicBool,
    /// When what is open must be left undone.
    until: Mutex<Option<Instant>>,
}

impl Control {
    /// Stop by then.
    pub fn stop(&self, until: Instant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        self.stop.store(true, Ordering::Release);
    }

    /// Pause, or go on.
    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn pausing(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// The grace is over.
    fn expired(&self) -> bool {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        self.stopping() && until.is_some_and(|until| clock::now() >= until)
    }
}

/// What a worker is made of.
pub struct Parts {
    /// What to do.
    pub settings: Arc<KafkaSettings>,
    /// Who it is.
    pub identity: Identity,
    /// Its shard.
    pub source: Arc<dyn Source>,
    /// How it is stopped.
    pub control: Arc<Control>,
    /// Its account of itself.
    pub report: Arc<Report>,
    /// Who reads along.
    pub tap: Tap,
    /// For the few calls of rdkafka that are futures.
    pub runtime: tokio::runtime::Handle,
}

/// One shard of one sink. Its [`run`](Worker::run) is a thread.
pub struct Worker {
    settings: Arc<KafkaSettings>,
    identity: Identity,
    source: Arc<dyn Source>,
    control: Arc<Control>,
    report: Arc<Report>,
    tap: Tap,
    runtime: tokio::runtime::Handle,
    prng: fastrand::Rng,
    rest: Duration,
    /// When another producer took over last.
    fenced: Option<Instant>,
    /// The most that the broker has been seen to take at once.
    batch_bytes: usize,
    /// Rows that are dead letters, until the position has passed them.
    dead: BTreeSet<(u64, u32)>,
    dead_rows: u64,
    /// The epoch and the last emission that this process saw committed.
    seen: Option<(u64, u64)>,
    partitions: usize,
    looked: Option<Instant>,
    /// The cursor with which the last session began, and the standing of that moment.
    begun: Option<Cursor>,
    sinks_version: u64,
}

impl Worker {
    /// Not running yet.
    pub fn new(parts: Parts) -> Worker {
        let Parts { settings, identity, source, control, report, tap, runtime } = parts;
        Worker {
            settings,
            identity,
            source,
            control,
            report,
            tap,
            runtime,
            prng: fastrand::Rng::new(),
            rest: REST_MIN,
            fenced: None,
            batch_bytes: BATCH_BYTES,
            dead: BTreeSet::new(),
            dead_rows: 0,
            seen: None,
            partitions: 0,
            looked: None,
            begun: None,
            sinks_version: 0,
        }
    }

    /// Works until it is stopped.
    pub fn run(mut self) {
        while !self.control.stopping() {
            let standing = self.source.standing();
            if !standing.leads || self.control.pausing() {
                let phase = if standing.leads { Phase::Paused } else { Phase::Elsewhere };
                self.report.change(|view| (view.phase, view.trouble) = (phase, None));
                self.source.wait(&standing, Duration::from_millis(500));
                continue;
            }
            self.sinks_version = standing.sinks_version;
            let end = match self.source.cursor() {
                Ok(Some(cursor)) => {
                    self.carry_over(&cursor);
                    self.session(cursor)
                }
                // The entry that adds the sink has not been applied yet.
                Ok(None) => {
                    self.source.wait(&standing, Duration::from_millis(500));
                    continue;
                }
                Err(error) => log_end(error),
            };
            match end {
                End::Stopped => break,
                End::Elsewhere | End::NewEpoch | End::Paused => {}
                End::Again => self.rest_for(Duration::from_millis(50)),
                End::Trouble(trouble) => self.rest_after(&trouble),
            }
        }
        self.report.change(|view| view.phase = Phase::Stopped);
    }

    /// One producer, from its making to its end.
    fn session(&mut self, cursor: Cursor) -> End {
        if self.report.view().trouble.is_none() {
            self.report.change(|view| view.phase = Phase::Connecting);
        }
        let ready = match self.connect(&cursor) {
            Ok(ready) => ready,
            Err(end) => return end,
        };
        if self.partitions > 0 && self.partitions != ready.partitions {
            let (from, to) = (self.partitions, ready.partitions);
            self.report.note(&Trouble::PartitionsChanged { topic: self.settings.topic.clone(), from, to }, clock::wall_ms());
        }
        self.partitions = ready.partitions;
        self.report.change(|view| (view.partitions, view.epoch) = (ready.partitions, cursor.epoch));
        let mut book = Book::new(&cursor);
        if let Err(error) = book.inherit(ready.position, self.source.as_ref()) {
            return log_end(error);
        }
        let bytes_max = self.settings.bytes_per_message.min(self.batch_bytes);
        let outlet = Outlet::new(&self.settings, &self.identity, cursor.epoch, ready.partitions, bytes_max);
        let end = match (self.settings.delivery, &ready.group) {
            (Delivery::ExactlyOnce, Some(group)) => self.transactions((&ready.link, group), outlet, &mut book),
            (Delivery::ExactlyOnce, None) => {
                End::Trouble(Trouble::Settings { detail: "librdkafka gave no group for the position".to_owned() })
            }
            (Delivery::AtLeastOnce, _) => self.stream(&ready.link, outlet, &mut book),
        };
        if let Err(error) = book.settle(self.source.as_ref(), clock::now(), true) {
            tracing::debug!(sink = %self.identity.sink, %error, "the last cursor of a session was not written");
        }
        end
    }

    /// A budget's cut raises the epoch while rows beyond it may have been committed under the old one, by this very process: those are
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
    fn epoch_passed(&self, epoch: u64) -> Result<(), End> {
        if self.source.standing().sinks_version == self.sinks_version {
            return Ok(());
        }
        match self.source.cursor() {
            Ok(Some(cursor)) if cursor.epoch == epoch => Ok(()),
            Ok(_) => Err(End::NewEpoch),
            Err(error) => Err(log_end(error)),
        }
    }

    fn seen_of(&self, epoch: u64) -> Option<u64> {
        self.seen.filter(|(of, _)| *of == epoch).map(|(_, position)| position)
    }

    /// Says what is wrong and waits a while, growing from time to time, with jitter so that shards do not knock all at once.
    fn rest_after(&mut self, trouble: &Trouble) {
        if matches!(trouble, Trouble::Fenced { .. }) {
            // Leadership moved most likely: the successor is there before this node has heard of it, or this one is the successor, and its
            // predecessor connected when it had not heard of it.
            self.rest_for(UNTIL_HEARD);
            let now = clock::now();
            let again = self.fenced.replace(now).is_some_and(|before| now.saturating_duration_since(before) < AGAIN_WITHIN);
            if !again || !self.source.standing().leads {
                return;
            }
        }
        self.report.trouble(trouble, clock::wall_ms());
        let rest = if matches!(trouble, Trouble::Fenced { .. }) { AFTER_FENCE } else { self.rest };
        self.rest = (self.rest * 2).min(REST_MAX);
        let jitter = 0.5 + self.prng.f64();
        self.rest_for(rest.mul_f64(jitter));
    }

    /// Waits, but not longer than this node leads and nobody stops the worker; the lag goes on growing in the view.
    fn rest_for(&mut self, time: Duration) {
        let until = clock::now() + time;
        loop {
            let left = until.saturating_duration_since(clock::now());
            let standing = self.source.standing();
            if left.is_zero() || self.control.stopping() || self.control.pausing() || !standing.leads {
                return;
            }
            if let Ok(Some(cursor)) = self.source.cursor() {
                self.look(cursor.epoch, self.seen_of(cursor.epoch).unwrap_or(0).max(cursor.emission), None);
            }
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
    }

    /// Rows flow: the next trouble begins with a short rest again.
    fn well(&mut self) {
        self.rest = REST_MIN;
        self.report.well(clock::wall_ms());
    }

    /// Emissions after this one.
    fn read(&self, after: u64) -> Result<Vec<Arc<Emission>>, End> {
        self.source.emissions(after, SAMPLES_A_READ).map_err(log_end)
    }

    /// Gives all rows of an emission to the outlet.
    fn emit(&mut self, link: &Link, outlet: &mut Outlet, emission: &Emission) -> Result<(), End> {
        let tapped = self.tap.wanted();
        let mut unsent = None;
        let (dead, control, source) = (&self.dead, &self.control, &self.source);
        let there = source
            .rows(emission, &mut |row| {
                if unsent.is_none() {
                    unsent = outlet.take((link, control), row, emission.number, (dead, tapped)).err();
                }
            })
            .map_err(log_end)?;
        match unsent {
            Some(unsent) => Err(self.unsent(link, outlet, unsent)),
            None if there => Ok(()),
            None => {
                let detail = format!("entry {} of emission {} is gone, though this sink has not had it", emission.entry, emission.number);
                Err(End::Trouble(Trouble::Log { detail }))
            }
        }
    }

    /// What becomes of rows that did not leave.
    fn unsent(&mut self, link: &Link, outlet: &Outlet, unsent: Unsent) -> End {
        match unsent {
            Unsent::Refused(refusal, note) => self.refused(link, outlet, &refusal, note),
            Unsent::Stopped => End::Stopped,
            Unsent::Error(error) => self.fault(link, outlet, &error),
        }
    }

    /// What an error means: a refused message, if there is one, says more than the call that noticed.
    fn fault(&mut self, link: &Link, outlet: &Outlet, error: &KafkaError) -> End {
        if let Some(refusal) = link.awaited_refusal(error) {
            return self.refused(link, outlet, &refusal, None);
        }
        let (code, detail) = link.producer_fatal().unwrap_or((error.rdkafka_error_code().unwrap_or(Code::Unknown), error.to_string()));
        self.ended_by(link, code, &detail)
    }

    fn ended_by(&self, link: &Link, code: Code, detail: &str) -> End {
        let names = self.identity.names(&self.settings, 0);
        // Purged messages, and calls out of order, are what follows from something else, which the producer still knows.
        let follows = matches!(code, Code::PurgeQueue | Code::PurgeInflight | Code::State | Code::Fatal);
        let cause = if follows { link.producer_fatal().or_else(|| link.abort_cause()) } else { None };
        let (code, detail) = cause.as_ref().map_or((code, detail), |(code, detail)| (*code, detail.as_str()));
        End::Trouble(trouble::of_error(code, detail, link.signals.error().as_ref(), &names))
    }

    /// A message was refused. Too large: the next producer sends less at once; if the message is a single row that was alone in its
    /// batch, no way of packing helps, and the row becomes a dead letter.
    fn refused(&mut self, link: &Link, outlet: &Outlet, refusal: &Refusal, note: Option<Note>) -> End {
        if refusal.code != Code::MessageSizeTooLarge {
            return self.ended_by(link, refusal.code, "a message was refused");
        }
        let Some(note) = note.or_else(|| outlet.note(refusal.id)) else { return End::Again };
        // A batch longer than the broker takes is refused as a whole, whoever made it too long.
        if note.rows > 1 || note.bytes + BATCH_OVERHEAD < self.batch_bytes {
            self.batch_bytes = (self.batch_bytes / 2).max(1);
            let now = self.batch_bytes;
            self.report.note(&Trouble::MessagesTooLarge { topic: self.settings.topic.clone(), now }, clock::wall_ms());
            return End::Again;
        }
        let reason = format!("too large for the topic ({} bytes)", note.bytes);
        let letter = Dead { emission: note.first_emission, item: note.first_item, reason, payload: refusal.payload.clone() };
        match self.source.bury(letter) {
            // Unknown: it may be there twice, which is better than not at all.
            Ok(()) | Err(SourceError::Void(_)) => {}
            Err(SourceError::NotLeading) => return End::Elsewhere,
            Err(error) => return log_end(error),
        }
        self.dead.insert((note.first_emission, note.first_item));
        self.dead_rows += 1;
        let rows = self.dead_rows;
        self.report.note(&Trouble::RowsTooLarge { topic: self.settings.topic.clone(), rows }, clock::wall_ms());
        End::Again
    }

    /// Once a second: the cursor, the figures. An end, if the session is over.
    fn look_after(&mut self, link: &Link, book: &mut Book) -> Result<(), End> {
        if self.control.stopping() {
            return Err(End::Stopped);
        }
        if self.control.pausing() {
            return Err(End::Paused);
        }
        if !self.source.standing().leads {
            return Err(End::Elsewhere);
        }
        self.epoch_passed(book.epoch())?;
        self.look(book.epoch(), book.position(), Some(link));
        match book.settle(self.source.as_ref(), clock::now(), false) {
            Ok(true) => Ok(()),
            Ok(false) => Err(End::NewEpoch),
            Err(error) => Err(log_end(error)),
        }
    }

    /// The view's figures, once a second.
    fn look(&mut self, epoch: u64, position: u64, link: Option<&Link>) {
        let now = clock::now();
        if self.looked.is_some_and(|last| now.saturating_duration_since(last) < LOOK_AFTER) {
            return;
        }
        self.looked = Some(now);
        let standing = self.source.standing();
        let next = self.source.emissions(position, 1).ok().and_then(|batch| batch.into_iter().next());
        let cursor = self.source.cursor().ok().flatten().unwrap_or_default();
        let wall = clock::wall_ms();
        self.report.change(|view| {
            view.epoch = epoch;
            view.position = position;
            view.lag_emissions = standing.last_emission.saturating_sub(position);
            view.lag_samples = next.as_ref().map_or(0, |next| standing.samples.saturating_sub(next.samples_before));
            view.lag_ms = next.as_ref().map_or(0, |next| (wall - next.at).max(0));
            view.cursor = cursor;
            if let Some(link) = link {
                view.client = link.signals.stats();
            }
        });
    }
}

/// Time since then.
pub(crate) fn since(then: Instant) -> Duration {
    clock::now().saturating_duration_since(then)
}

/// A batch's frame around a single message, and then some.
const BATCH_OVERHEAD: usize = 256;

/// What the log's refusal means for a session.
fn log_end(error: SourceError) -> End {
    match error {
        SourceError::NotLeading => End::Elsewhere,
        SourceError::Void(_) => End::NewEpoch,
        SourceError::Busy | SourceError::Unknown | SourceError::Unreadable(_) => End::Trouble(Trouble::Log { detail: error.to_string() }),
    }
}

impl Link {
    /// The fatal error, if the producer has one: it is beyond repair.
    pub(crate) fn producer_fatal(&self) -> Option<(Code, String)> {
        use rdkafka::producer::Producer;
        self.producer.client().fatal_error()
    }

    /// The refusal behind an error. librdkafka marks a transaction as failed before it reports the message that failed it, so where a
    /// call finds the transaction failed, the report is waited for a little: without it nobody would learn what is to be sent smaller.
    fn awaited_refusal(&self, error: &KafkaError) -> Option<Refusal> {
        use rdkafka::producer::Producer;
        let failed = match error {
            KafkaError::Transaction(error) => error.txn_requires_abort(),
            KafkaError::MessageProduction(code) => *code == Code::State,
            // Our own word for a message that was found refused while the others were waited for.
            KafkaError::Flush(code) => *code == Code::Fail,
            _ => false,
        };
        let until = clock::now() + REPORT;
        let known = || self.signals.refusal().is_some_and(|refusal| !refusal.is_purged());
        while failed && !known() && self.producer.in_flight_count() > 0 && clock::now() < until {
            self.producer.poll(Duration::from_millis(1));
        }
        self.signals.refusal()
    }

    /// Why the open transaction can only be aborted, if so. A second `begin` is refused with that reason, and changes nothing.
    fn abort_cause(&self) -> Option<(Code, String)> {
        use rdkafka::producer::Producer;
        match self.producer.begin_transaction() {
            Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => Some((error.code(), error.to_string())),
            _ => None,
        }
    }

    /// Whether a call may simply be made again.
    pub(crate) fn may_retry(error: &KafkaError) -> bool {
        match error {
            KafkaError::Transaction(error) => error.is_retriable() && !error.is_fatal() && !error.txn_requires_abort(),
            KafkaError::Flush(Code::OperationTimedOut) => true,
            _ => false,
        }
    }
}

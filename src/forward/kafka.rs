//! The Kafka sink: one worker thread for each shard of each sink ([`crate::forward::worker`]). A session is one producer; the next one reads from Kafka
//! how far the last one came.
//!
//! Deliberately absent: a queue of rows (the shard's log is it), retries of single messages (librdkafka's), and any guess about a
//! transaction whose outcome is not known.

pub mod access;
mod at_least_once;
mod client;
mod connect;
mod exactly_once;
pub mod few;
pub mod measure;
pub(super) mod outlet;
mod registry;
pub mod replay;
pub mod topics;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::clock;
use crate::forward::book::Book;
use crate::forward::kafka::access::Files;
use crate::forward::kafka::access::Found;
pub use crate::forward::kafka::client::Identity;
use crate::forward::kafka::client::Link;
use crate::forward::kafka::client::Maker;
use crate::forward::kafka::client::Refusal;
use crate::forward::kafka::outlet::Outlet;
use crate::forward::kafka::outlet::Unsent;
use crate::forward::kafka::topics::Schemas;
use crate::forward::kafka::topics::Topics;
use crate::forward::pack::Note;
use crate::forward::route::Taken;
use crate::forward::settings::BATCH_BYTES;
use crate::forward::settings::Delivery;
use crate::forward::settings::KafkaSettings;
use crate::forward::source::Cursor;
use crate::forward::source::Dead;
use crate::forward::trouble;
use crate::forward::trouble::Names;
use crate::forward::trouble::Trouble;
use crate::forward::worker::Deliver;
use crate::forward::worker::Duty;
use crate::forward::worker::End;
use crate::forward::worker::body_gone;
use crate::forward::worker::log_end;
use crate::forward::worker::since;
use crate::shard::emission::Emission;

/// A fenced worker that still leads tries again this often: two clusters of one name must not fight every second.
const AFTER_FENCE: Duration = Duration::from_secs(60);
/// So long after being fenced a worker waits for the news that another node leads, before it tries again.
const UNTIL_HEARD: Duration = Duration::from_secs(2);
/// Fenced a second time within this time, a worker complains: it is no news that was late.
const AGAIN_WITHIN: Duration = Duration::from_secs(300);
/// How long the report of a refused message is waited for, once its transaction has failed: it is on its way.
const REPORT: Duration = Duration::from_secs(1);
/// Whether topics have grown, or have come into being, is asked this often, while rows flow.
const ASK_PARTITIONS: Duration = Duration::from_secs(20);

/// One shard of one sink.
pub(crate) struct Worker {
    maker: Arc<Maker>,
    taken: Arc<Taken>,
    duty: Duty,
    /// As they were when the present client was made.
    files: Files,
    schemas: Schemas,
    /// When another producer took over.
    fences: Fences,
    /// The most that the broker has been seen to take at once.
    batch_bytes: usize,
    /// Rows that are dead letters, until the position has passed them.
    dead: BTreeSet<(u64, u32)>,
    dead_rows: u64,
    /// Of topics, as they were last.
    partitions: BTreeMap<String, usize>,
}

impl Deliver for Worker {
    fn duty(&mut self) -> &mut Duty {
        &mut self.duty
    }

    /// One producer, from its making to its end.
    fn session(&mut self, cursor: Cursor) -> End {
        self.duty.connecting();
        let ready = match self.connect(&cursor) {
            Ok(ready) => ready,
            Err(end) => return end,
        };
        let partitions = ready.topic.partitions;
        self.count_partitions(&ready.topic.name, partitions);
        self.duty.report.change(|view| (view.partitions, view.epoch) = (partitions, cursor.epoch));
        let mut book = Book::new(&cursor);
        if let Err(error) = book.inherit(ready.position, self.duty.source.as_ref()) {
            return log_end(error);
        }
        let settings = Arc::clone(&self.maker.settings);
        let bytes_max = settings.bytes_per_message.min(self.batch_bytes);
        let topics = Topics::new(&self.maker, (&self.taken, &self.duty.report), ready.topic, self.schemas.clone());
        let mut outlet = Outlet::new(&settings, &self.maker.identity, cursor.epoch, topics, bytes_max);
        let end = match (settings.delivery, &ready.group) {
            (Delivery::ExactlyOnce, Some(group)) => self.transactions((&ready.link, group), &mut outlet, &mut book),
            (Delivery::ExactlyOnce, None) => {
                End::Trouble(Trouble::Settings { detail: "librdkafka gave no group for the position".to_owned() })
            }
            (Delivery::AtLeastOnce, _) => self.stream(&ready.link, &mut outlet, &mut book),
        };
        self.schemas.clone_from(outlet.topics().schemas());
        self.duty.settle_last(&mut book, &self.maker.identity.sink);
        end
    }

    fn rest_after(&mut self, trouble: &Trouble) {
        if !matches!(trouble, Trouble::Fenced { .. }) {
            return self.duty.rest_after(trouble);
        }
        // Leadership moved most likely: the successor is there before this node has heard of it, or this one is the successor, and its
        // predecessor connected when it had not heard of it.
        self.duty.rest_for(UNTIL_HEARD);
        if self.fences.again(clock::now(), self.duty.absences) && self.duty.source.standing().leads {
            self.duty.report.trouble(trouble, clock::wall_ms());
            let rest = self.duty.jittered(AFTER_FENCE);
            self.duty.rest_for(rest);
        }
    }
}

/// When another producer took over last, and how often this node had led no more by then.
#[derive(Debug, Default)]
struct Fences(Option<(Instant, u64)>);

impl Fences {
    /// Another one took over now. Is that no news that was late? Where leadership has been elsewhere since the last time, it may be late again.
    fn again(&mut self, now: Instant, absences: u64) -> bool {
        let before = self.0.replace((now, absences));
        before.is_some_and(|(at, then)| then == absences && now.saturating_duration_since(at) < AGAIN_WITHIN)
    }
}

impl Worker {
    /// Not running yet.
    pub fn new(settings: Arc<KafkaSettings>, identity: Identity, taken: Arc<Taken>, duty: Duty) -> Worker {
        let files = Files::now(&settings);
        let maker = Arc::new(Maker::new(settings, identity, Some(duty.runtime.clone())));
        Worker {
            maker,
            taken,
            duty,
            files,
            schemas: Schemas::new(),
            fences: Fences::default(),
            batch_bytes: BATCH_BYTES,
            dead: BTreeSet::new(),
            dead_rows: 0,
            partitions: BTreeMap::new(),
        }
    }

    /// Tells when a topic has other partitions than when it was last seen.
    fn count_partitions(&mut self, topic: &str, to: usize) {
        if let Some(from) = self.partitions.insert(topic.to_owned(), to).filter(|from| *from != to) {
            self.duty.report.note(&Trouble::PartitionsChanged { topic: topic.to_owned(), from, to }, clock::wall_ms());
        }
    }

    /// Whether a session should make way for another one: partitions were added, there are other files to get in with, or it holds too many tenants' buffers.
    fn is_outdated(&mut self, link: &Link, outlet: &mut Outlet, asked: &mut Instant) -> bool {
        if self.files.look() == Found::New {
            match self.maker.asker(0) {
                Ok(_) => {
                    tracing::info!(sink = %self.maker.identity.sink, shard = self.maker.identity.shard, "the files of TLS or SASL have changed: a new client is made");
                    return true;
                }
                Err(trouble) => self.duty.report.note(&Trouble::NewFiles { detail: trouble.to_string() }, clock::wall_ms()),
            }
        }
        if outlet.is_crowded() {
            return true;
        }
        if since(*asked) < ASK_PARTITIONS {
            return false;
        }
        *asked = clock::now();
        outlet.topics().forget();
        let Some((topic, from, to)) = outlet.topics().changed(link) else { return false };
        self.partitions.insert(topic.clone(), from);
        self.count_partitions(&topic, to);
        true
    }

    /// Gives all rows of an emission to the outlet.
    fn emit(&mut self, link: &Link, outlet: &mut Outlet, emission: &Emission) -> Result<(), End> {
        let tapped = self.duty.tap.wanted();
        let mut unsent = None;
        let (dead, control, source) = (&self.dead, &self.duty.control, &self.duty.source);
        let there = source
            .rows(emission, &mut |row| {
                if unsent.is_none() {
                    unsent = outlet.take((link, control), row, emission.number, (dead, tapped)).err();
                }
            })
            .map_err(log_end)?;
        match unsent {
            Some(unsent) => Err(self.unsent(link, outlet, unsent)),
            None => {
                outlet.tally.filtered += there.ok_or_else(|| body_gone(emission))?;
                Ok(())
            }
        }
    }

    /// What becomes of rows that did not leave.
    fn unsent(&mut self, link: &Link, outlet: &Outlet, unsent: Unsent) -> End {
        match unsent {
            Unsent::Refused(refusal, note) => self.refused(link, outlet, &refusal, note),
            Unsent::Stopped => End::Stopped,
            Unsent::Unready(why) => connect::unready(why),
            Unsent::Error(error, topic) => self.fault_of(link, outlet, &error, &topic),
        }
    }

    /// What an error means: a refused message, if there is one, says more than the call that noticed.
    fn fault(&mut self, link: &Link, outlet: &Outlet, error: &KafkaError) -> End {
        let topic = self.maker.settings.topic.clone();
        self.fault_of(link, outlet, error, &topic)
    }

    fn fault_of(&mut self, link: &Link, outlet: &Outlet, error: &KafkaError, topic: &str) -> End {
        if let Some(refusal) = link.awaited_refusal(error) {
            return self.refused(link, outlet, &refusal, None);
        }
        let (code, detail) = link.producer_fatal().unwrap_or((error.rdkafka_error_code().unwrap_or(Code::Unknown), error.to_string()));
        self.ended_by(link, code, &detail, topic)
    }

    fn ended_by(&self, link: &Link, code: Code, detail: &str, topic: &str) -> End {
        let names = Names { topic: topic.to_owned(), ..self.maker.identity.names(&self.maker.settings, 0) };
        // Purged messages, and calls out of order, are what follows from something else, which the producer still knows.
        let follows = matches!(code, Code::PurgeQueue | Code::PurgeInflight | Code::State | Code::Fatal);
        let cause = if follows { link.producer_fatal().or_else(|| link.abort_cause()) } else { None };
        let (code, detail) = cause.as_ref().map_or((code, detail), |(code, detail)| (*code, detail.as_str()));
        End::Trouble(trouble::of_error(code, detail, link.signals.error().as_ref(), &names))
    }

    /// A message was refused. Too large: the next producer sends less at once; if the message is a single row that was alone in its
    /// batch, no way of packing helps, and the row becomes a dead letter.
    fn refused(&mut self, link: &Link, outlet: &Outlet, refusal: &Refusal, note: Option<Note>) -> End {
        let note = note.or_else(|| outlet.note(refusal.id));
        let topic = note.as_ref().map_or(self.maker.settings.topic.as_str(), |note| outlet.topic_of(note)).to_owned();
        if refusal.code != Code::MessageSizeTooLarge {
            return self.ended_by(link, refusal.code, "a message was refused", &topic);
        }
        let Some(note) = note else { return End::Again };
        // A batch longer than the broker takes is refused as a whole, whoever made it too long.
        if note.rows > 1 || note.bytes + BATCH_OVERHEAD < self.batch_bytes {
            self.batch_bytes = (self.batch_bytes / 2).max(1);
            let now = self.batch_bytes;
            self.duty.report.note(&Trouble::MessagesTooLarge { topic, now }, clock::wall_ms());
            return End::Again;
        }
        let reason = format!("too large for the topic ({} bytes)", note.bytes);
        let (emission, item, payload) = (note.first_emission, note.first_item, refusal.payload.clone());
        let tenant = self.duty.tenant_of(emission, item);
        let letter = Dead { emission, item, reason, payload, tenant };
        if let Err(end) = self.duty.bury(letter) {
            return end;
        }
        self.dead.insert((note.first_emission, note.first_item));
        self.dead_rows += 1;
        let rows = self.dead_rows;
        self.duty.report.note(&Trouble::RowsTooLarge { topic, rows }, clock::wall_ms());
        End::Again
    }
}

/// A batch's frame around a single message, and then some.
const BATCH_OVERHEAD: usize = 256;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn being_fenced_again_is_worth_a_word_unless_leadership_was_elsewhere_meanwhile() {
        let (start, mut fences) = (clock::now(), Fences::default());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        assert!(!fences.again(at(0), 0));
        assert!(fences.again(at(3), 0), "somebody else uses the id");
        // It moved away and came back: its predecessor may have been late once more.
        assert!(!fences.again(at(6), 2));
        assert!(fences.again(at(9), 2));
        assert!(!fences.again(at(10 + AGAIN_WITHIN.as_secs()), 2));
    }
}

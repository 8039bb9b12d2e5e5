//! Rows and position in one transaction: the session of a sink with `delivery: exactly_once`.
//!
//! A transaction begins with the first row that waits, and closes at the end of the emission in which it is full, or when the one before it was closed long enough ago
//! (`transaction_age`): there are no more of them than one in that time, and what comes after a pause waits for nothing. The position it carries is the number of its last emission. A call that may be made again is; any other error ends the session, and the
//! next one reads from Kafka which of the two happened.

use std::time::Duration;
use std::time::Instant;

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::KafkaError;
use rdkafka::error::KafkaResult;
use rdkafka::producer::Producer;
use rdkafka::producer::PurgeConfig;
use rdkafka::topic_partition_list::Offset;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::clock;
use crate::failpoint;
use crate::forward::book::Book;
use crate::forward::kafka::Worker;
use crate::forward::kafka::client::Link;
use crate::forward::kafka::outlet::Outlet;
use crate::forward::settings::TRANSACTION_TIMEOUT_MS;
use crate::forward::trouble::Trouble;
use crate::forward::worker::End;
use crate::forward::worker::since;

/// One attempt of a call that is made again; short, so that a stop is noticed.
const CALL: Duration = Duration::from_secs(2);
/// How long a commit is tried: beyond the broker's own timeout it cannot succeed any more.
const COMMIT: Duration = Duration::from_millis(TRANSACTION_TIMEOUT_MS as u64 + 5_000);
/// A commit that takes longer than this is worth saying.
const SLOW: Duration = Duration::from_secs(5);
const ABORT: Duration = Duration::from_secs(2);

/// How often it is looked whether all messages are taken.
const LOOK: Duration = Duration::from_micros(500);

/// Waits until every message is taken or refused. rdkafka's own `flush` looks once in 100 ms, so that no transaction was shorter than
/// that, and its `poll` with a timeout spins through the last millisecond; hence polls that do not wait, and naps.
fn delivered(link: &Link, timeout: Duration) -> KafkaResult<()> {
    let began = clock::now();
    let mut left = link.producer.in_flight_count();
    loop {
        link.producer.poll(Duration::ZERO);
        let now = link.producer.in_flight_count();
        if now == 0 || link.signals.refusal().is_some() {
            return Ok(());
        }
        // A poll takes one report; where there was one there may be more.
        let some = now < left;
        left = now;
        if some {
            continue;
        }
        if since(began) >= timeout {
            return Err(KafkaError::Flush(Code::OperationTimedOut));
        }
        std::thread::sleep(LOOK);
    }
}

/// What an open transaction has come to.
struct Open {
    since: Instant,
    /// Then it closes, unless it is full before.
    until: Instant,
    /// The last emission in it.
    upto: u64,
}

impl Worker {
    /// Delivers until something ends the session.
    pub(super) fn transactions(&mut self, (link, group): (&Link, &ConsumerGroupMetadata), outlet: &mut Outlet, book: &mut Book) -> End {
        let mut asked = clock::now();
        // When the last one was closed; before the first, long ago.
        let mut closed: Option<Instant> = None;
        loop {
            if let Err(end) = self.duty.look_after(book, || Some(link.signals.stats())) {
                return end;
            }
            if self.is_outdated(link, outlet, &mut asked) {
                return End::Again;
            }
            let standing = self.duty.source.standing();
            if standing.last_emission <= book.position() {
                self.duty.well();
                link.producer.poll(Duration::ZERO);
                self.duty.source.wait(&standing, Duration::from_millis(500));
                continue;
            }
            let outcome = self.transaction((link, group), outlet, book, &mut closed);
            if let Err(end) = outcome {
                self.give_up(link, outlet, &end);
                return end;
            }
        }
    }

    /// One transaction.
    fn transaction(
        &mut self,
        (link, group): (&Link, &ConsumerGroupMetadata),
        outlet: &mut Outlet,
        book: &mut Book,
        closed: &mut Option<Instant>,
    ) -> Result<(), End> {
        if let Err(error) = link.producer.begin_transaction() {
            return Err(self.fault(link, outlet, &error));
        }
        let since = clock::now();
        let until = closed.map_or(since, |closed| closed + self.maker.settings.transaction_age);
        let mut open = Open { since, until, upto: book.position() };
        self.fill(link, outlet, &mut open)?;
        *closed = Some(clock::now());
        if let Err(unsent) = outlet.flush(link, &self.duty.control) {
            return Err(self.unsent(link, outlet, unsent));
        }
        self.duty.epoch_passed(book.epoch())?;
        self.commit((link, group), outlet, &open, book.epoch())?;
        self.committed(outlet, book, &open);
        Ok(())
    }

    /// Takes emissions until the transaction is full or its time has come; all that waits already is taken in any case.
    fn fill(&mut self, link: &Link, outlet: &mut Outlet, open: &mut Open) -> Result<(), End> {
        loop {
            let standing = self.duty.source.standing();
            for emission in self.duty.read(open.upto)? {
                self.emit(link, outlet, &emission)?;
                open.upto = emission.number;
                if outlet.bytes >= self.maker.settings.transaction_bytes as u64 || since(open.since) >= self.maker.settings.transaction_age
                {
                    return Ok(());
                }
            }
            link.producer.poll(Duration::ZERO);
            let left = open.until.saturating_duration_since(clock::now());
            if left.is_zero() || self.duty.control.stopping() || self.duty.control.pausing() || !standing.leads {
                return Ok(());
            }
            self.duty.source.wait(&standing, left.min(Duration::from_millis(100)));
        }
    }

    fn commit(&mut self, (link, group): (&Link, &ConsumerGroupMetadata), outlet: &Outlet, open: &Open, epoch: u64) -> Result<(), End> {
        let offsets = match self.offsets(open.upto) {
            Ok(offsets) => offsets,
            Err(error) => return Err(self.fault(link, outlet, &error)),
        };
        let began = clock::now();
        failpoint::reach(failpoint::Place::SinkFilled);
        self.insist((link, outlet), (began, epoch), |timeout| link.producer.send_offsets_to_transaction(&offsets, group, timeout))?;
        failpoint::reach(failpoint::Place::SinkPositioned);
        self.insist((link, outlet), (began, epoch), |timeout| {
            delivered(link, timeout)?;
            // A refused message is known by now; committing would only say so in worse words.
            if link.signals.refusal().is_some() {
                return Err(KafkaError::Flush(Code::Fail));
            }
            link.producer.commit_transaction(timeout)
        })?;
        failpoint::reach(failpoint::Place::SinkCommitted);
        let micros = u64::try_from(since(began).as_micros()).unwrap_or(u64::MAX);
        self.duty.report.change(|view| view.sums.commit_micros += micros);
        Ok(())
    }

    fn offsets(&self, position: u64) -> KafkaResult<TopicPartitionList> {
        let mut offsets = TopicPartitionList::new();
        let position = i64::try_from(position).unwrap_or(i64::MAX);
        offsets.add_partition_offset(&self.maker.settings.topic, 0, Offset::Offset(position))?;
        if let Some(mut element) = offsets.find_partition(&self.maker.settings.topic, 0) {
            element.set_metadata(self.maker.identity.seal.as_str());
        }
        Ok(offsets)
    }

    /// Makes a call again for as long as that may help.
    fn insist(
        &mut self,
        (link, outlet): (&Link, &Outlet),
        (began, epoch): (Instant, u64),
        call: impl Fn(Duration) -> KafkaResult<()>,
    ) -> Result<(), End> {
        loop {
            let outcome = call(CALL);
            link.producer.poll(Duration::ZERO);
            let Err(error) = outcome else { return Ok(()) };
            if link.signals.refusal().is_some() || !Link::may_retry(&error) {
                return Err(self.fault(link, outlet, &error));
            }
            if self.duty.control.expired() {
                return Err(End::Stopped);
            }
            self.duty.epoch_passed(epoch)?;
            let taken = since(began);
            if taken >= COMMIT {
                return Err(End::Trouble(Trouble::CommitUnclear { detail: error.to_string() }));
            }
            if taken >= SLOW {
                let trouble = match self.meaning(&error, &link.signals, 0) {
                    unreachable @ (Trouble::Unreachable { .. } | Trouble::NotLetIn { .. }) if link.signals.error().is_some() => unreachable,
                    _ => Trouble::Slow { seconds: taken.as_secs() },
                };
                self.duty.report.trouble(&trouble, clock::wall_ms());
            }
        }
    }

    fn committed(&mut self, outlet: &mut Outlet, book: &mut Book, open: &Open) {
        let (tally, bytes, messages, aside) = (outlet.tally, outlet.bytes, outlet.messages(), outlet.topics().take_aside());
        book.advance(open.upto, &tally);
        self.duty.seen = Some((book.epoch(), open.upto));
        self.dead = self.dead.split_off(&(open.upto + 1, 0));
        if outlet.untapped > 0 {
            self.duty.tap.miss(outlet.untapped);
        }
        self.duty.tap.publish(outlet.tapped.drain(..));
        outlet.reset();
        self.duty.report.change(|view| {
            view.position = open.upto;
            view.sums.rows += tally.delivered;
            view.sums.filtered += tally.filtered;
            view.sums.dead += tally.dead;
            view.sums.bytes += bytes;
            view.sums.messages += messages;
            view.sums.aside += aside;
            view.sums.commits += 1;
        });
        self.duty.well();
    }

    /// Leaves a transaction open as short as possible: readers wait for its end. If this fails, the successor's init aborts it.
    fn give_up(&mut self, link: &Link, outlet: &Outlet, end: &End) {
        if matches!(end, End::Stopped) {
            let samples = outlet.tally.samples();
            self.duty.report.change(|view| {
                view.aborted =
                    Some(format!("an open transaction of {samples} samples; they stay in the log and are sent at the next start"));
            });
        }
        self.duty.report.change(|view| view.sums.aborts += 1);
        if link.producer_fatal().is_none() {
            link.producer.purge(PurgeConfig::default().queue().inflight());
            if let Err(error) = link.producer.abort_transaction(ABORT) {
                tracing::debug!(sink = %self.maker.identity.sink, %error, "aborting a transaction failed; the next producer does it");
            }
        }
    }
}

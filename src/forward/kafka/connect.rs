//! From nothing to a producer that may send: the topic, the fence against a predecessor, the position to go on from.
//!
//! Order matters: the position is read only after `init_transactions`, which aborts what a predecessor left open, so that nothing can be
//! committed between the reading and the first row.

use std::time::Duration;

use rdkafka::consumer::BaseConsumer;
use rdkafka::consumer::Consumer;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer;
use rdkafka::topic_partition_list::Offset;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::clock;
use crate::failpoint;
use crate::forward::kafka::Worker;
use crate::forward::kafka::access::Files;
use crate::forward::kafka::client::Context;
use crate::forward::kafka::client::Link;
use crate::forward::kafka::client::Signals;
use crate::forward::kafka::topics;
use crate::forward::kafka::topics::ASK;
use crate::forward::kafka::topics::Topic;
use crate::forward::kafka::topics::Unready;
use crate::forward::settings::Delivery;
use crate::forward::source::Cursor;
use crate::forward::source::Standing;
use crate::forward::trouble;
use crate::forward::trouble::Trouble;
use crate::forward::worker::End;

/// All of `init_transactions`: it waits for a predecessor's open transaction to be aborted, and on a new cluster for the coordinator's topic.
const INIT: Duration = Duration::from_secs(40);
/// How long Kafka's position may be ahead of what this node has applied: a successor that has just taken over.
const CATCH_UP: Duration = Duration::from_secs(20);

/// Ready to send.
pub struct Ready {
    /// The producer.
    pub link: Link,
    /// Under which the position is committed; none where the log's cursor is all there is.
    pub group: Option<ConsumerGroupMetadata>,
    /// The sink's own topic.
    pub topic: Topic,
    /// The last emission that is in Kafka.
    pub position: u64,
}

/// What a position is found in Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The last emission committed.
    pub position: u64,
    /// Who committed it.
    pub seal: String,
}

/// Where to go on, and what is worth a note about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The last emission that counts as done.
    pub position: u64,
    /// What somebody should know.
    pub note: Option<Trouble>,
}

/// Chooses between Kafka's position, the log's cursor and what this process saw committed. Pure; docs/kafka.md tells it in words.
pub fn choose(found: Option<&Found>, cursor: &Cursor, seen: Option<u64>, standing: &Standing, group: &str) -> Result<Chosen, Trouble> {
    let own = cursor.emission.max(seen.unwrap_or(0));
    let Some(found) = found else {
        let used = seen.is_some() || (cursor.delivered > 0 && cursor.dropped == 0);
        let note = used.then(|| Trouble::PositionMissing { group: group.to_owned(), cursor: own });
        return Ok(Chosen { position: own, note });
    };
    let position = found.position;
    if position > standing.last_emission {
        return Err(Trouble::PositionAhead { position, last: standing.last_emission });
    }
    if position < own && position + 1 < standing.oldest_emission {
        let note = Some(Trouble::PositionTooOld { position, oldest: standing.oldest_emission });
        return Ok(Chosen { position: own, note });
    }
    Ok(Chosen { position, note: None })
}

impl Worker {
    /// Connects. The cursor is the log's, of the present epoch.
    pub(super) fn connect(&mut self, cursor: &Cursor) -> Result<Ready, End> {
        self.files = Files::now(&self.maker.settings);
        let (asker, asked) = self.maker.asker(cursor.epoch).map_err(End::Trouble)?;
        let topic = topics::open(&self.maker, (&asker, &asked), &self.maker.settings.topic, &mut self.schemas).map_err(unready)?;
        let link = self.maker.producer(self.batch_bytes).map_err(End::Trouble)?;
        self.duty.report.change(|view| view.sums.producers += 1);
        if self.maker.settings.delivery == Delivery::AtLeastOnce {
            let position = self.duty.seen_of(cursor.epoch).unwrap_or(0).max(cursor.emission);
            return Ok(Ready { link, group: None, topic, position });
        }
        self.init(&link, cursor.epoch)?;
        let found = self.found(&asker, &asked, cursor.epoch)?;
        let group = asker.group_metadata();
        drop(asker);
        let position = self.position(found, cursor)?;
        Ok(Ready { link, group, topic, position })
    }

    /// What an error of a call means, with the connection's own words where there are any.
    pub(super) fn meaning(&self, error: &KafkaError, signals: &Signals, epoch: u64) -> Trouble {
        let names = self.maker.identity.names(&self.maker.settings, epoch);
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        trouble::of_error(code, &error.to_string(), signals.error().as_ref(), &names)
    }

    /// Fences a predecessor.
    fn init(&self, link: &Link, epoch: u64) -> Result<(), End> {
        let until = clock::now() + INIT;
        loop {
            if self.duty.control.stopping() {
                return Err(End::Stopped);
            }
            let outcome = link.producer.init_transactions(ASK);
            (0..topics::EVENTS).for_each(|_| link.producer.poll(Duration::ZERO));
            match outcome {
                Ok(()) => {
                    failpoint::reach(failpoint::Place::SinkFenced);
                    return Ok(());
                }
                Err(KafkaError::Transaction(error)) if error.is_retriable() && !error.is_fatal() && clock::now() < until => {
                    // It goes on in the background; the next call waits for it.
                    let error = KafkaError::Transaction(error);
                    self.duty.report.trouble(&self.meaning(&error, &link.signals, epoch), clock::wall_ms());
                }
                Err(error) => return Err(End::Trouble(self.meaning(&error, &link.signals, epoch))),
            }
        }
    }

    /// The position that Kafka has of this epoch.
    fn found(&self, asker: &BaseConsumer<Context>, asked: &Signals, epoch: u64) -> Result<Option<Found>, End> {
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition(&self.maker.settings.topic, 0);
        let list = asker.committed_offsets(wanted, ASK).map_err(|error| End::Trouble(self.meaning(&error, asked, epoch)))?;
        let Some(element) = list.elements().into_iter().next() else { return Ok(None) };
        element.error().map_err(|error| End::Trouble(self.meaning(&error, asked, epoch)))?;
        match element.offset() {
            Offset::Offset(offset) => Ok(Some(Found { position: offset.unsigned_abs(), seal: element.metadata().to_owned() })),
            _ => Ok(None),
        }
    }

    /// Checks and chooses; waits until this node has applied as far as Kafka has been given.
    fn position(&self, found: Option<Found>, cursor: &Cursor) -> Result<u64, End> {
        let group = self.maker.identity.group(cursor.epoch);
        if let Some(found) = &found
            && found.seal != self.maker.identity.seal
        {
            return Err(End::Trouble(Trouble::PositionForeign { group, owner: found.seal.clone() }));
        }
        let until = clock::now() + CATCH_UP;
        loop {
            let standing = self.duty.source.standing();
            match choose(found.as_ref(), cursor, self.duty.seen_of(cursor.epoch), &standing, &group) {
                Ok(chosen) => {
                    if let Some(note) = &chosen.note {
                        self.duty.report.note(note, clock::wall_ms());
                    }
                    return Ok(chosen.position);
                }
                Err(trouble) if clock::now() >= until => return Err(End::Trouble(trouble)),
                Err(_) if self.duty.control.stopping() => return Err(End::Stopped),
                Err(_) => self.duty.source.wait(&standing, Duration::from_millis(200)),
            }
        }
    }
}

/// What a session does about a topic that it cannot write to.
pub(super) fn unready(why: Unready) -> End {
    match why {
        Unready::Soon => End::Again,
        Unready::Topic(trouble) | Unready::All(trouble) => End::Trouble(trouble),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(position: u64) -> Option<Found> {
        Some(Found { position, seal: "s".into() })
    }

    #[test]
    fn kafka_counts_within_what_is_kept_else_the_cursor_does() {
        let cursor = Cursor { epoch: 1, emission: 50, delivered: 10, ..Cursor::default() };
        let standing = Standing { last_emission: 100, oldest_emission: 40, ..Standing::default() };
        let choose = |found: Option<Found>, seen| choose(found.as_ref(), &cursor, seen, &standing, "g");
        assert_eq!(choose(found(70), None), Ok(Chosen { position: 70, note: None }));
        assert_eq!(choose(found(45), None), Ok(Chosen { position: 45, note: None }), "Kafka lost rows and position together");
        let old = choose(found(10), None).unwrap();
        assert_eq!((old.position, old.note.unwrap().code()), (50, "position_too_old"));
        let none = choose(None, None).unwrap();
        assert_eq!((none.position, none.note.unwrap().code()), (50, "position_missing"));
        assert_eq!(choose(None, Some(60)).unwrap().position, 60);
        assert_eq!(choose(found(101), None), Err(Trouble::PositionAhead { position: 101, last: 100 }));
        let fresh = Cursor::default();
        let start = super::choose(None, &fresh, None, &standing, "g").unwrap();
        assert_eq!(start, Chosen { position: 0, note: None }, "a new sink is no alarm");
    }
}

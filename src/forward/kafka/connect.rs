//! From nothing to a producer that may send: the topic, the fence against a predecessor, the position to go on from.
//!
//! Order matters: the position is read only after `init_transactions`, which aborts what a predecessor left open, so that nothing can be
//! committed between the reading and the first row.

use std::time::Duration;

use rdkafka::admin::AdminOptions;
use rdkafka::admin::NewTopic;
use rdkafka::admin::TopicReplication;
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
use crate::forward::kafka::client;
use crate::forward::kafka::client::Context;
use crate::forward::kafka::client::Link;
use crate::forward::kafka::client::Signals;
use crate::forward::settings::Delivery;
use crate::forward::source::Cursor;
use crate::forward::source::Standing;
use crate::forward::trouble;
use crate::forward::trouble::Trouble;
use crate::forward::worker::End;

/// One question to the brokers. Short, so that a stop is never held up for long.
const ASK: Duration = Duration::from_secs(4);
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
    /// Partitions of the topic.
    pub partitions: usize,
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
        let (asker, asked) = client::asker(&self.settings, &self.identity, cursor.epoch).map_err(|error| self.unmade(&error))?;
        let partitions = self.partitions(&asker, &asked, cursor.epoch)?;
        let link = client::producer(&self.settings, &self.identity, self.batch_bytes).map_err(|error| self.unmade(&error))?;
        self.duty.report.change(|view| view.sums.producers += 1);
        if self.settings.delivery == Delivery::AtLeastOnce {
            let position = self.duty.seen_of(cursor.epoch).unwrap_or(0).max(cursor.emission);
            return Ok(Ready { link, group: None, partitions, position });
        }
        self.init(&link, cursor.epoch)?;
        let found = self.found(&asker, &asked, cursor.epoch)?;
        let group = asker.group_metadata();
        drop(asker);
        let position = self.position(found, cursor)?;
        Ok(Ready { link, group, partitions, position })
    }

    fn unmade(&self, error: &KafkaError) -> End {
        End::Trouble(Trouble::Settings { detail: error.to_string() })
    }

    /// What an error of a call means, with the connection's own words where there are any.
    pub(super) fn meaning(&self, error: &KafkaError, signals: &Signals, epoch: u64) -> Trouble {
        let names = self.identity.names(&self.settings, epoch);
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        trouble::of_error(code, &error.to_string(), signals.error().as_ref(), &names)
    }

    /// How many partitions the topic has; makes it where that is asked for.
    fn partitions(&self, asker: &BaseConsumer<Context>, asked: &Signals, epoch: u64) -> Result<usize, End> {
        let mut made = false;
        loop {
            let metadata = asker.fetch_metadata(Some(&self.settings.topic), ASK);
            // Errors of the connection wait in the client's queue.
            let _ = asker.poll(Duration::ZERO);
            let metadata = metadata.map_err(|error| End::Trouble(self.meaning(&error, asked, epoch)))?;
            let topic = metadata.topics().iter().find(|topic| topic.name() == self.settings.topic);
            let error = topic.and_then(|topic| topic.error()).map(Code::from);
            match (topic.map(|topic| topic.partitions().len()), error) {
                (Some(count), None) if count > 0 => return Ok(count),
                (_, None | Some(Code::UnknownTopic | Code::UnknownTopicOrPartition)) => match self.settings.create_topic {
                    Some(_) if !made => {
                        self.create_topic()?;
                        made = true;
                    }
                    // Just made: its leaders are being chosen.
                    Some(_) => return Err(End::Again),
                    None => return Err(End::Trouble(Trouble::TopicMissing { topic: self.settings.topic.clone() })),
                },
                (_, Some(Code::LeaderNotAvailable)) => return Err(End::Again),
                (_, Some(code)) => {
                    return Err(End::Trouble(self.meaning(&KafkaError::MetadataFetch(code), asked, epoch)));
                }
            }
        }
    }

    fn create_topic(&self) -> Result<(), End> {
        let Some(wanted) = self.settings.create_topic else { return Ok(()) };
        let failed = |detail: String| End::Trouble(Trouble::TopicNotMade { topic: self.settings.topic.clone(), detail });
        let admin = client::admin(&self.settings, &self.identity).map_err(|error| self.unmade(&error))?;
        let topic = NewTopic::new(&self.settings.topic, wanted.partitions, TopicReplication::Fixed(wanted.replication));
        let options = AdminOptions::new().request_timeout(Some(ASK)).operation_timeout(Some(ASK));
        let results = self.duty.runtime.block_on(admin.create_topics([&topic], &options)).map_err(|error| failed(error.to_string()))?;
        for result in results {
            match result {
                // Another shard's worker was quicker.
                Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(failed(code.to_string())),
            }
        }
        tracing::info!(sink = %self.identity.sink, topic = %self.settings.topic, partitions = wanted.partitions, "created the topic");
        Ok(())
    }

    /// Fences a predecessor.
    fn init(&self, link: &Link, epoch: u64) -> Result<(), End> {
        let until = clock::now() + INIT;
        loop {
            if self.duty.control.stopping() {
                return Err(End::Stopped);
            }
            let outcome = link.producer.init_transactions(ASK);
            link.producer.poll(Duration::ZERO);
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
        wanted.add_partition(&self.settings.topic, 0);
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
        let group = self.identity.group(cursor.epoch);
        if let Some(found) = &found
            && found.seal != self.identity.seal
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

    /// Partitions as of now; `None` if the brokers do not say.
    pub(super) fn partitions_now(&self, link: &Link) -> Option<usize> {
        let metadata = link.producer.client().fetch_metadata(Some(&self.settings.topic), Duration::from_secs(2)).ok()?;
        metadata.topics().first().map(|topic| topic.partitions().len()).filter(|count| *count > 0)
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

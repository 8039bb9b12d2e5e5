//! A few records to one topic, each confirmed before the next ones are read: for what is no samples (the history of alerts).
//!
//! There is no position in Kafka: whoever sends notes how far it came, and sends once more what was under way when it ended. Left out on purpose: waiting and
//! trying again.

use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::producer::BaseRecord;
use rdkafka::producer::Producer;
use rdkafka::producer::PurgeConfig;
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::clock;
use crate::forward::kafka::access::Files;
use crate::forward::kafka::access::Found;
use crate::forward::kafka::client::Identity;
use crate::forward::kafka::client::Link;
use crate::forward::kafka::client::Maker;
use crate::forward::kafka::topics;
use crate::forward::kafka::topics::Schemas;
use crate::forward::kafka::topics::Unready;
use crate::forward::settings::BATCH_BYTES;
use crate::forward::settings::KafkaSettings;
use crate::forward::trouble;
use crate::forward::trouble::Trouble;

/// All records of a call are confirmed within this, or the producer is given up.
const CONFIRM: Duration = Duration::from_secs(30);

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Decides the partition.
    pub key: String,
    /// What it says.
    pub payload: String,
}

/// Sends a few records.
pub struct Few {
    maker: Maker,
    files: Files,
    link: Option<Link>,
}

impl Few {
    /// Reaches nobody yet. The settings are of `at_least_once`.
    pub fn new(settings: KafkaSettings, identity: Identity, runtime: Option<tokio::runtime::Handle>) -> Few {
        let files = Files::now(&settings);
        Few { maker: Maker::new(settings.into(), identity, runtime), files, link: None }
    }

    /// Sends records; they are on the brokers when this returns, or some of them may be. Blocks.
    pub fn send(&mut self, records: &[Record]) -> Result<(), Trouble> {
        if self.files.look() == Found::New {
            self.link = None;
        }
        let sent = self.try_to(records);
        if sent.is_err()
            && let Some(link) = self.link.take()
        {
            // A producer that is dropped waits for what is under way.
            link.producer.purge(PurgeConfig::default().queue().inflight());
            link.producer.poll(Duration::ZERO);
        }
        sent
    }

    fn link(&mut self) -> Result<&Link, Trouble> {
        if self.link.is_none() {
            let (asker, asked) = self.maker.asker(0)?;
            topics::open(&self.maker, (&asker, &asked), &self.maker.settings.topic, &mut Schemas::new()).map_err(
                |unready| match unready {
                    Unready::Topic(trouble) | Unready::All(trouble) => trouble,
                    Unready::Soon => Trouble::Slow { seconds: topics::ASK.as_secs() },
                },
            )?;
        }
        let made = match self.link.take() {
            Some(link) => link,
            None => self.maker.producer(BATCH_BYTES)?,
        };
        Ok(self.link.insert(made))
    }

    fn try_to(&mut self, records: &[Record]) -> Result<(), Trouble> {
        let names = self.maker.identity.names(&self.maker.settings, 0);
        let topic = self.maker.settings.topic.clone();
        let link = self.link()?;
        let (until, mut left, mut taken) = (clock::now() + CONFIRM, records.len(), Vec::new());
        let mut rest = records.iter().enumerate().peekable();
        loop {
            while let Some((number, record)) = rest.peek() {
                let one = BaseRecord::with_opaque_to(&topic, *number).key(record.key.as_str()).payload(record.payload.as_str());
                match link.producer.send(one) {
                    Ok(()) => drop(rest.next()),
                    // What is in it goes first.
                    Err((KafkaError::MessageProduction(Code::QueueFull), _)) => break,
                    Err((error, _)) => {
                        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                        return Err(trouble::of_error(code, &error.to_string(), link.signals.error().as_ref(), &names));
                    }
                }
            }
            link.producer.poll(Duration::from_millis(20));
            if let Some(refusal) = link.signals.refusal() {
                return Err(trouble::of_error(refusal.code, "a record of the history was refused", link.signals.error().as_ref(), &names));
            }
            link.signals.drain_taken(&mut taken);
            left -= taken.len().min(left);
            if left == 0 {
                link.signals.clear_error();
                return Ok(());
            }
            if clock::now() >= until {
                return Err(match link.signals.error() {
                    Some((code, reason)) => trouble::of_error(code, &reason, None, &names),
                    None => Trouble::Slow { seconds: CONFIRM.as_secs() },
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::mock::MockKafka;
    use crate::forward::settings::KafkaDraft;
    use rdkafka::Message;
    use rdkafka::config::ClientConfig;
    use rdkafka::consumer::BaseConsumer;
    use rdkafka::consumer::Consumer;

    fn few(brokers: &str) -> Few {
        let draft = KafkaDraft {
            brokers: vec![brokers.to_owned()],
            topic: "episodes".to_owned(),
            delivery: Some("at_least_once".to_owned()),
            ..KafkaDraft::default()
        };
        let identity = Identity { cluster: "c".into(), sink: "alerts".into(), shard: 0, seal: String::new() };
        Few::new(KafkaSettings::check(&draft).unwrap(), identity, None)
    }

    #[test]
    fn records_are_there_when_it_returns() {
        let kafka = MockKafka::start("episodes", 3).unwrap();
        let mut few = few(&kafka.address());
        let records: Vec<Record> =
            (0..5).map(|number| Record { key: format!("k{}", number % 2), payload: format!("{{\"n\":{number}}}") }).collect();
        few.send(&records[..3]).unwrap();
        few.send(&records[3..]).unwrap();
        let reader: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", kafka.address())
            .set("group.id", "g")
            .set("auto.offset.reset", "earliest")
            .create()
            .unwrap();
        reader.subscribe(&["episodes"]).unwrap();
        let mut found = Vec::new();
        let until = clock::now() + Duration::from_secs(30);
        while found.len() < 5 && clock::now() < until {
            if let Some(Ok(message)) = reader.poll(Duration::from_millis(100)) {
                found.push((message.key().unwrap().to_vec(), String::from_utf8(message.payload().unwrap().to_vec()).unwrap()));
            }
        }
        found.sort_by(|a, b| a.1.cmp(&b.1));
        let expected: Vec<(Vec<u8>, String)> = records.into_iter().map(|record| (record.key.into_bytes(), record.payload)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_topic_that_is_not_there_is_said() {
        let kafka = MockKafka::start("another", 1).unwrap();
        let port = kafka.address();
        drop(kafka);
        let told = few(&port).send(&[Record { key: String::new(), payload: String::new() }]).unwrap_err().to_string();
        assert!(!told.is_empty());
    }
}

//! Dead letters, sent again after the cause was mended: what `sluice sink replay` does.
//!
//! By a producer of its own, idempotent and without transactions: the rows are old, no position moves with them, and the worker must not
//! be held up. A letter's row holds all labels of its series, so its partition and key are found from the row itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::message::Header;
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::BaseRecord;

use crate::forward::avro;
use crate::forward::format::Format;
use crate::forward::format::RESERVED;
use crate::forward::kafka::client::Identity;
use crate::forward::kafka::client::Link;
use crate::forward::kafka::client::Maker;
use crate::forward::kafka::topics;
use crate::forward::kafka::topics::Schemas;
use crate::forward::kafka::topics::Topics;
use crate::forward::kafka::topics::Unready;
use crate::forward::resend::ReplayError;
use crate::forward::route::Key;
use crate::forward::route::java_partition;
use crate::forward::settings::BATCH_BYTES;
use crate::forward::settings::Delivery;
use crate::forward::settings::KafkaSettings;
use crate::forward::view::Report;
use crate::shard::command::DeadLetter;
use crate::wire::pack::Bounds;
use crate::wire::pack::Packing;
use crate::wire::pack::unpack;
use crate::wire::remote_write::Label;
use crate::wire::remote_write::Limits;
use crate::wire::remote_write::Protocol;
use crate::wire::remote_write::Walker;
use crate::wire::remote_write::series_hash;

/// A message as it is sent again, and of what series it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Again {
    message: Vec<u8>,
    labels: Vec<(String, String)>,
    series: u64,
}

/// Sends letters again, in order, for as long as `go_on` says so; one outcome each. Blocking.
pub fn replay(
    settings: &KafkaSettings,
    identity: &Identity,
    runtime: &tokio::runtime::Handle,
    (seed, letters): (u64, &[DeadLetter]),
    go_on: &dyn Fn() -> bool,
) -> Result<Vec<Result<(), ReplayError>>, String> {
    let settings = Arc::new(KafkaSettings { delivery: Delivery::AtLeastOnce, ..settings.clone() });
    let maker = Arc::new(Maker::new(Arc::clone(&settings), identity.clone(), Some(runtime.clone())));
    let mut schemas = Schemas::new();
    let (asker, asked) = maker.asker(0).map_err(|trouble| trouble.to_string())?;
    let own = topics::open(&maker, (&asker, &asked), &settings.topic, &mut schemas).map_err(|why| told(&why))?;
    drop(asker);
    let link = maker.producer(BATCH_BYTES).map_err(|trouble| trouble.to_string())?;
    let report = Arc::new(Report::new(&identity.sink, identity.shard));
    let topics = Topics::new(&maker, (&Arc::default(), &report), own, schemas);
    let mut way = Way { settings: &settings, link, topics, taken: Vec::new(), key: Vec::new() };
    Ok(letters.iter().enumerate().map(|(id, letter)| way.send(id, (seed, letter), go_on)).collect())
}

/// Asks for the topic, and the registry for the schema, without a record. Blocking.
pub fn connect(settings: &Arc<KafkaSettings>, identity: &Identity, runtime: &tokio::runtime::Handle) -> Result<String, String> {
    // Nothing is made by looking.
    let settings = Arc::new(KafkaSettings { create_topic: None, ..(**settings).clone() });
    let maker = Maker::new(Arc::clone(&settings), identity.clone(), Some(runtime.clone()));
    let mut schemas = Schemas::new();
    let (asker, asked) = maker.asker(0).map_err(|trouble| trouble.to_string())?;
    let topic = topics::open(&maker, (&asker, &asked), &settings.topic, &mut schemas).map_err(|why| told(&why))?;
    let schema = topic.schema.map(|number| format!(", schema {number} in the registry")).unwrap_or_default();
    Ok(format!("{} has topic {} with {} partitions{schema}", settings.brokers, topic.name, topic.partitions))
}

fn told(why: &Unready) -> String {
    match why {
        Unready::Soon => "the topic is being made".to_owned(),
        Unready::Topic(trouble) | Unready::All(trouble) => trouble.to_string(),
    }
}

struct Way<'a> {
    settings: &'a KafkaSettings,
    link: Link,
    topics: Topics,
    taken: Vec<usize>,
    key: Vec<u8>,
}

impl Way<'_> {
    fn send(&mut self, id: usize, (seed, letter): (u64, &DeadLetter), go_on: &dyn Fn() -> bool) -> Result<(), ReplayError> {
        if !go_on() {
            return Err(ReplayError::NotTried);
        }
        let settings = self.settings;
        let again = Again::of((settings.format, settings.registry.is_some()), seed, &letter.payload).ok_or(ReplayError::NotWhole)?;
        let labels: Vec<Label<'_>> = again.labels.iter().map(|(name, value)| Label::new(seed, name, value)).collect();
        let topic = self.topics.of((&labels, &letter.tenant)).map_err(|why| ReplayError::Refused(told(&why)))?;
        let topic = self.topics.at(topic);
        let there = settings.key.write((&labels, &letter.tenant), again.series, &mut self.key);
        let partition = match settings.key {
            Key::Labels(_) if there => java_partition(&self.key, topic.partitions),
            _ => (again.series % topic.partitions.max(1) as u64) as usize,
        };
        if let Some(tenant) = &settings.tenant {
            let own = Some(&letter.tenant).filter(|own| settings.pass_tenant && !own.is_empty());
            self.key = own.unwrap_or(tenant).clone().into_bytes();
        }
        let keyed = settings.tenant.is_some() || settings.keyed && there;
        let mut record =
            BaseRecord::<[u8], [u8], usize>::with_opaque_to(&topic.name, id).partition(partition as i32).payload(&again.message);
        record.key = keyed.then_some(self.key.as_slice());
        record.headers =
            settings.format.header().map(|format| OwnedHeaders::new().insert(Header { key: "sluice-format", value: Some(format) }));
        self.link.producer.send(record).map_err(|(error, _)| refused(&error))?;
        // One after the other: order is kept, and each has an outcome of its own.
        loop {
            self.link.producer.poll(Duration::from_millis(5));
            self.link.signals.drain_taken(&mut self.taken);
            // By its number: the answer to one that was given up may still come.
            if self.taken.contains(&id) {
                return Ok(());
            }
            if let Some(refusal) = self.link.signals.take_refusal().filter(|refusal| refusal.id == id) {
                return Err(refused(&refusal.code));
            }
            if !go_on() {
                return Err(refused(&"no answer in time"));
            }
        }
    }
}

fn refused(why: &dyn std::fmt::Display) -> ReplayError {
    ReplayError::Refused(format!("kafka did not take it: {why}"))
}

impl Again {
    /// Reads the labels back from the letter; marks it late, which it is, where the format can say so. `framed`: Avro with a registry.
    fn of((format, framed): (Format, bool), seed: u64, letter: &[u8]) -> Option<Again> {
        match format {
            Format::Rows | Format::Row | Format::Adapter => Again::of_row(format, seed, letter),
            Format::RemoteWrite => {
                let mut raw = Vec::new();
                unpack(Packing::Snappy, letter, Bounds::default(), &mut raw).ok()?;
                Again::of_request(seed, letter, &raw)
            }
            Format::Mimir => Again::of_request(seed, letter, letter),
            Format::Avro => {
                let read = avro::read(letter, framed)?;
                let mut message = letter.to_vec();
                message[read.late_at] = 1;
                Some(Again::new(seed, message, read.labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))))
            }
        }
    }

    fn new(seed: u64, message: Vec<u8>, labels: impl Iterator<Item = (String, String)>) -> Again {
        let labels: Vec<(String, String)> = labels.collect();
        let hashed: Vec<Label<'_>> = labels.iter().map(|(name, value)| Label::new(seed, name, value)).collect();
        let series = series_hash(&hashed, &[]);
        Again { message, labels, series }
    }

    /// A request with one point.
    fn of_request(seed: u64, letter: &[u8], raw: &[u8]) -> Option<Again> {
        let (mut labels, mut points) = (None, 0);
        let walked = Walker::new(seed).walk(Protocol::V1, raw, &Limits::default(), &mut |series| {
            points += series.points.len();
            if series.fault.is_none() {
                let owned = series.labels.iter().map(|label| (label.name.to_owned(), label.value.to_owned()));
                labels = Some(owned.collect::<Vec<_>>());
            }
        });
        walked.ok().filter(|_| points == 1)?;
        labels.map(|labels| Again::new(seed, letter.to_vec(), labels.into_iter()))
    }

    fn of_row(format: Format, seed: u64, row: &[u8]) -> Option<Again> {
        let text = std::str::from_utf8(row).ok()?.trim_end();
        let json: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).ok()?;
        let mut labels = BTreeMap::new();
        for (name, value) in json.get("labels")?.as_object()? {
            labels.insert(name.as_str(), value.as_str()?);
        }
        if format == Format::Adapter {
            json.get("timestamp")?;
        } else {
            json.get("ts")?;
            for (name, value) in json.iter().filter(|(name, _)| !RESERVED.contains(&name.as_str())) {
                labels.insert(name, value.as_str()?);
            }
            if let Some(name) = json.get("name").and_then(|name| name.as_str()).filter(|name| !name.is_empty()) {
                labels.insert("__name__", name);
            }
        }
        let mut row = text.to_owned();
        if format != Format::Adapter && !json.contains_key("late") {
            // Inside a string the quotes would be escaped, so this is the key and nothing else.
            row = row.replacen(",\"labels\":{", ",\"late\":true,\"labels\":{", 1);
        }
        if format == Format::Rows {
            row.push('\n');
        }
        Some(Again::new(seed, row.into_bytes(), labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::format::Columns;
    use crate::forward::rows::Row;
    use crate::forward::rows::RowEncoder;
    use crate::forward::rows::Value;
    use crate::mutate::damage;
    use crate::mutate::seeds;

    #[test]
    fn damaged_letters_are_sent_whole_or_not_at_all() {
        let rows = [
            &br#"{"ts":1790000000123,"name":"up","v":1,"job":"node","labels":{"zone":"a","x":"y,\"labels\":{"}}"#[..],
            br#"{"ts":1,"name":"h","v":null,"histogram":{"count":1,"sum":1.5,"schema":3,"buckets":[[0,1]]},"late":true,"labels":{}}"#,
            br#"{"labels":{"__name__":"up"},"name":"up","timestamp":"2026-09-21T14:13:20Z","value":"1"}"#,
        ];
        let mut sent = 0;
        for seed in seeds(20_000) {
            let random = &mut fastrand::Rng::with_seed(seed);
            let mut row = rows[random.usize(0..rows.len())].to_vec();
            damage(random, &mut row);
            for format in [Format::Rows, Format::Row, Format::Adapter] {
                let Some(again) = Again::of((format, false), 9, &row) else { continue };
                sent += 1;
                assert!(again.message.len() <= row.len() + 16, "SEED={seed}");
                assert!(serde_json::from_slice::<serde_json::Value>(&again.message).is_ok(), "SEED={seed}");
            }
        }
        assert!(sent > 0 || std::env::var("SEED").is_ok());
        // Nested beyond what any row of ours is: refused, not followed.
        let deep = [br#"{"ts":1,"labels":{"a":"#.to_vec(), b"[".repeat(100_000)].concat();
        assert_eq!(Again::of((Format::Rows, false), 9, &deep), None);
    }

    #[test]
    fn a_row_tells_its_series_and_is_late_when_sent_again() {
        let labels =
            [("__name__", "up"), ("a", "x\"y,\"labels\":{"), ("job", "node"), ("ts", "t")].map(|(name, value)| Label::new(9, name, value));
        let series = series_hash(&labels, &[]);
        let mut row = Vec::new();
        let sample = Row { labels: &labels, time: 5, value: Value::Float(1.5), late: false, series, item: 0, before: None, tenant: "" };
        RowEncoder::new(Columns::default()).encode(&sample, &mut row);
        let again = Again::of((Format::Row, false), 9, &row).unwrap();
        assert_eq!(again.series, series);
        let mut late = Vec::new();
        RowEncoder::new(Columns::default()).encode(&Row { late: true, ..sample }, &mut late);
        assert_eq!(String::from_utf8(again.message).unwrap(), String::from_utf8(late.clone()).unwrap());
        assert_eq!(Again::of((Format::Row, false), 9, &late).unwrap().message, late, "marked once");
        assert_eq!(Again::of((Format::Row, false), 9, &row[..row.len() - 3]), None);
        assert_eq!(Again::of((Format::Adapter, false), 9, &row), None);
    }
    #[test]
    fn a_letter_in_any_format_tells_its_series() {
        use crate::forward::kafka::outlet::Encoder;
        use crate::forward::settings::KafkaDraft;
        use crate::wire::pack::pack_snappy;
        let labels = [("__name__", "up"), ("a", "x"), ("job", "node")].map(|(name, value)| Label::new(9, name, value));
        let series = series_hash(&labels, &[]);
        for format in [Format::Rows, Format::Row, Format::RemoteWrite, Format::Mimir, Format::Avro] {
            let tenant = (format == Format::Mimir).then(|| "nj1".to_owned());
            let draft = KafkaDraft {
                brokers: vec!["k:1".into()],
                topic: "t".into(),
                format: Some(format.word().into()),
                tenant,
                ..KafkaDraft::default()
            };
            let mut letter = Vec::new();
            let sample = Row { labels: &labels, time: 5, value: Value::Float(1.5), late: false, series, item: 0, before: None, tenant: "" };
            Encoder::new(&KafkaSettings::check(&draft).unwrap()).encode(&sample, None, &mut letter);
            if format == Format::RemoteWrite {
                let raw = std::mem::take(&mut letter);
                pack_snappy(&raw, &mut letter);
            }
            let again = Again::of((format, false), 9, &letter).unwrap();
            assert_eq!((again.series, again.labels.len()), (series, 3), "{format:?}");
            assert_eq!(Again::of((format, false), 9, &letter[..letter.len() - 1]), None, "{format:?}");
            let seeds = seeds(2_000);
            for seed in seeds {
                let mut damaged = letter.clone();
                damage(&mut fastrand::Rng::with_seed(seed), &mut damaged);
                if let Some(again) = Again::of((format, false), 9, &damaged) {
                    assert!(again.message.len() <= damaged.len() + 16, "SEED={seed}");
                }
            }
        }
    }
}

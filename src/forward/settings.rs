//! What a Kafka sink is told to do, checked: holding a [`KafkaSettings`] proves that every rule below holds.
//!
//! Pure: nothing is opened or resolved here. librdkafka itself checks the properties that are passed through (names, values, ranges), so
//! that a misspelt one is told at `sluice check` and not at the first record.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;

use crate::forward::format::Columns;
use crate::forward::format::DEFAULT_COLUMNS;
use crate::forward::format::Format;

/// How hard a sink works against repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// Rows and position in one Kafka transaction: each row once for `read_committed` readers.
    ExactlyOnce,
    /// Idempotent, no transactions; the last fraction of a second may come twice after a crash.
    AtLeastOnce,
}

impl Delivery {
    /// The word used in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Delivery::ExactlyOnce => "exactly_once",
            Delivery::AtLeastOnce => "at_least_once",
        }
    }

    /// The delivery of that name.
    pub fn from_word(word: &str) -> Option<Delivery> {
        [Delivery::ExactlyOnce, Delivery::AtLeastOnce].into_iter().find(|delivery| delivery.word() == word)
    }
}

/// What to make of a topic that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateTopic {
    /// How many partitions.
    pub partitions: i32,
    /// How many copies of each.
    pub replication: i32,
}

/// A sink as written down: what `config` reads, before any rule was checked. `None` is "not said".
#[derive(Clone, Debug, Default)]
pub struct KafkaDraft {
    /// host:port, one or more.
    pub brokers: Vec<String>,
    /// The topic.
    pub topic: String,
    /// `rows`, `row` or `adapter`.
    pub format: Option<String>,
    /// Labels at the top of a row.
    pub columns: Option<Vec<String>>,
    /// `exactly_once` or `at_least_once`.
    pub delivery: Option<String>,
    /// Make the topic where it is missing.
    pub create_topic: Option<CreateTopic>,
    /// `none`, `gzip`, `snappy`, `lz4`, `zstd`.
    pub compression: Option<String>,
    /// Most rows in a message of format `rows`.
    pub rows_per_message: Option<usize>,
    /// Most bytes in such a message (one row may be longer).
    pub bytes_per_message: Option<usize>,
    /// A transaction is closed when it holds so many bytes ...
    pub transaction_bytes: Option<usize>,
    /// ... or is so old, ms.
    pub transaction_ms: Option<u64>,
    /// librdkafka's own, passed through.
    pub properties: BTreeMap<String, String>,
}

/// One thing wrong with a sink's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key below the sink's `kafka:`.
    pub key: String,
    /// What was written.
    pub value: String,
    /// The rule it breaks.
    pub rule: String,
    /// What to write instead.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {:?}: {}; {}", self.key, self.value, self.rule, self.remedy)
    }
}

/// librdkafka properties. They may hold passwords, so they print by name only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    /// In order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_set().entries(self.0.keys()).finish()
    }
}

/// A Kafka sink, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct KafkaSettings {
    /// host:port, comma separated.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// Shape of a message.
    pub format: Format,
    /// Labels at the top of a row.
    pub columns: Columns,
    /// Once, or at least once.
    pub delivery: Delivery,
    /// Make the topic where it is missing.
    pub create_topic: Option<CreateTopic>,
    /// librdkafka's name of the codec.
    pub compression: String,
    /// Most rows a message.
    pub rows_per_message: usize,
    /// Most bytes a message, but for one row longer than that.
    pub bytes_per_message: usize,
    /// A transaction is closed at the end of the emission in which it grows beyond this,
    pub transaction_bytes: usize,
    /// or is older than this.
    pub transaction_age: Duration,
    /// librdkafka's own.
    pub properties: Properties,
}

/// librdkafka's default and the usual broker's cap on a batch (1 MB; brokers take 1,048,588).
pub const BATCH_BYTES: usize = 1_000_000;
/// 500 rows of 490 bytes: beyond 100 rows a message no CPU is saved, but lz4 finds more to fold.
const ROWS_PER_MESSAGE: usize = 500;
const BYTES_PER_MESSAGE: usize = 256 * 1024;
/// A commit costs 1-4 ms: at 4 MB (8,000 rows of 490 bytes) or twice a second that is below 1 % of the time.
const TRANSACTION_BYTES: usize = 4 << 20;
const TRANSACTION_MS: u64 = 500;

/// Properties that sluice sets itself, and why a file may not.
const OWN: [(&str, &str); 16] = [
    ("bootstrap.servers", "`brokers` says it"),
    ("metadata.broker.list", "`brokers` says it"),
    ("compression.codec", "`compression` says it"),
    ("compression.type", "`compression` says it"),
    ("transactional.id", "it names this sink's shard, so that a successor fences its predecessor"),
    ("transaction.timeout.ms", "15 s, so that a dead node's open transaction holds readers no longer"),
    ("enable.idempotence", "without it a retry may repeat or reorder rows"),
    ("enable.gapless.guarantee", "it would end the producer at the first refused row"),
    ("acks", "anything but `all` loses rows when a broker dies"),
    ("request.required.acks", "anything but `all` loses rows when a broker dies"),
    ("message.timeout.ms", "rows are kept in the log and sent until they are taken"),
    ("delivery.timeout.ms", "rows are kept in the log and sent until they are taken"),
    ("partitioner", "the partition is the series' hash modulo their number"),
    ("group.id", "it names this sink's shard and epoch, under which its position is kept"),
    ("enable.auto.commit", "the position is committed with the rows"),
    ("test.mock.num.brokers", "`sluice dev` starts a mock cluster"),
];

impl KafkaSettings {
    /// Checks everything, and tells everything that is wrong.
    pub fn check(draft: &KafkaDraft) -> Result<KafkaSettings, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut wrong = |key: &str, value: &dyn fmt::Display, rule: &str, remedy: &str| {
            problems.push(Problem { key: key.into(), value: value.to_string(), rule: rule.into(), remedy: remedy.into() });
        };
        if draft.brokers.is_empty() {
            wrong("brokers", &"", "at least one broker must be named", "write brokers: [\"host:9092\"]");
        }
        for broker in &draft.brokers {
            if !broker.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)) {
                wrong("brokers", broker, "a broker is host:port", "write for instance kafka-1.example:9092");
            }
        }
        if !legal_topic(&draft.topic) {
            wrong(
                "topic",
                &draft.topic,
                "a topic has 1 to 249 letters, digits, dots, underscores and hyphens",
                "write for instance metrics",
            );
        }
        let format = draft.format.as_deref().map_or(Some(Format::Rows), Format::from_word);
        if format.is_none() {
            wrong("format", &text(&draft.format), "no such format", "write rows, row or adapter");
        }
        let delivery = draft.delivery.as_deref().map_or(Some(Delivery::ExactlyOnce), Delivery::from_word);
        if delivery.is_none() {
            wrong("delivery", &text(&draft.delivery), "no such delivery", "write exactly_once or at_least_once");
        }
        let compression = draft.compression.clone().unwrap_or_else(|| "lz4".to_owned());
        if !["none", "gzip", "snappy", "lz4", "zstd"].contains(&compression.as_str()) {
            wrong("compression", &compression, "no such codec", "write lz4 (least CPU), zstd (fewest bytes), snappy, gzip or none");
        }
        let defaults: Vec<String> = DEFAULT_COLUMNS.iter().map(|name| (*name).to_owned()).collect();
        let columns = Columns::new(draft.columns.as_ref().unwrap_or(&defaults));
        if let Err(found) = &columns {
            for problem in found {
                wrong("columns", &draft.columns.clone().unwrap_or_default().join(", "), &problem.to_string(), "see docs/rows.md");
            }
        }
        if let Some(topic) = draft.create_topic {
            if !(1..=10_000).contains(&topic.partitions) {
                wrong("create_topic.partitions", &topic.partitions, "between 1 and 10000", "12 serve most");
            }
            if !(1..=10).contains(&topic.replication) {
                wrong("create_topic.replication", &topic.replication, "between 1 and 10", "3, or 1 where there is one broker");
            }
        }
        problems.extend(check_sizes(draft));
        problems.extend(check_properties(&draft.properties));
        match (format, delivery, columns) {
            (Some(format), Some(delivery), Ok(columns)) if problems.is_empty() => Ok(KafkaSettings {
                brokers: draft.brokers.join(","),
                topic: draft.topic.clone(),
                format,
                columns,
                delivery,
                create_topic: draft.create_topic,
                compression,
                rows_per_message: format.rows_a_message(draft.rows_per_message.unwrap_or(ROWS_PER_MESSAGE)),
                bytes_per_message: draft.bytes_per_message.unwrap_or(BYTES_PER_MESSAGE),
                transaction_bytes: draft.transaction_bytes.unwrap_or(TRANSACTION_BYTES),
                transaction_age: Duration::from_millis(draft.transaction_ms.unwrap_or(TRANSACTION_MS)),
                properties: Properties(draft.properties.clone()),
            }),
            _ => Err(problems),
        }
    }
}

fn text(asked: &Option<String>) -> &str {
    asked.as_deref().unwrap_or("")
}

/// Numbers that must lie in a range: (key, value, least, most, what serves most).
fn check_sizes(draft: &KafkaDraft) -> Vec<Problem> {
    let sizes = [
        ("rows_per_message", draft.rows_per_message, 1, 100_000, "500 serve most"),
        ("bytes_per_message", draft.bytes_per_message, 1024, BATCH_BYTES, "262144 serve most; brokers refuse more than about 1 MB"),
        ("transaction_bytes", draft.transaction_bytes, 1024, 32 << 20, "4194304 serve most; it is held in memory once per shard"),
        ("transaction_ms", draft.transaction_ms.map(|ms| ms as usize), 10, 10_000, "500 serve most; readers see rows this much later"),
    ];
    let outside = |(key, value, least, most, remedy): &(&str, Option<usize>, usize, usize, &str)| {
        value.filter(|value| !(*least..=*most).contains(value)).map(|value| Problem {
            key: (*key).to_owned(),
            value: value.to_string(),
            rule: format!("between {least} and {most}"),
            remedy: (*remedy).to_owned(),
        })
    };
    sizes.iter().filter_map(outside).collect()
}

/// Each property by itself, through librdkafka's own check. Values are not repeated: they may be secrets.
fn check_properties(properties: &BTreeMap<String, String>) -> Vec<Problem> {
    let problem = |name: &str, rule: String, remedy: &str| Problem {
        key: format!("properties.{name}"),
        value: "(not shown)".to_owned(),
        rule,
        remedy: remedy.to_owned(),
    };
    let mut problems = Vec::new();
    for (name, value) in properties {
        if let Some((_, why)) = OWN.iter().find(|(own, _)| own == name) {
            problems.push(problem(name, format!("sluice sets this itself: {why}"), "leave it out"));
            continue;
        }
        if let Err(error) = ClientConfig::new().set(name, value).create_native_config() {
            problems.push(problem(name, refusal(&error), "see librdkafka's CONFIGURATION.md"));
        }
    }
    problems
}

/// librdkafka's words without the value, which it likes to repeat.
fn refusal(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, words, _, value) if !value.is_empty() => {
            format!("librdkafka refuses it: {}", words.replace(value.as_str(), "(the value)"))
        }
        KafkaError::ClientConfig(_, words, ..) => format!("librdkafka refuses it: {words}"),
        _ => "librdkafka refuses it".to_owned(),
    }
}

fn legal_topic(topic: &str) -> bool {
    (1..=249).contains(&topic.len())
        && topic != "."
        && topic != ".."
        && topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn least() -> KafkaDraft {
        KafkaDraft { brokers: vec!["127.0.0.1:9092".into()], topic: "metrics".into(), ..KafkaDraft::default() }
    }

    #[test]
    fn brokers_and_topic_are_enough() {
        let settings = KafkaSettings::check(&least()).unwrap();
        assert_eq!((settings.format, settings.delivery), (Format::Rows, Delivery::ExactlyOnce));
        assert_eq!(settings.compression, "lz4");
    }

    #[test]
    fn every_problem_is_told_with_its_key() {
        let draft = KafkaDraft {
            brokers: vec!["kafka".into()],
            topic: "a b".into(),
            format: Some("csv".into()),
            columns: Some(vec!["ts".into()]),
            delivery: Some("twice".into()),
            compression: Some("brotli".into()),
            create_topic: Some(CreateTopic { partitions: 0, replication: 99 }),
            rows_per_message: Some(0),
            bytes_per_message: Some(5 << 20),
            transaction_ms: Some(1),
            properties: [("linger.ms", "fast"), ("no.such", "1"), ("acks", "1")].map(|(a, b)| (a.to_owned(), b.to_owned())).into(),
            ..KafkaDraft::default()
        };
        let keys: Vec<String> = KafkaSettings::check(&draft).unwrap_err().into_iter().map(|problem| problem.key).collect();
        assert_eq!(
            keys,
            [
                "brokers",
                "topic",
                "format",
                "delivery",
                "compression",
                "columns",
                "create_topic.partitions",
                "create_topic.replication",
                "rows_per_message",
                "bytes_per_message",
                "transaction_ms",
                "properties.acks",
                "properties.linger.ms",
                "properties.no.such"
            ]
        );
    }

    #[test]
    fn secrets_are_not_printed() {
        let mut draft = least();
        draft.properties.insert("sasl.password".into(), "hunter2".into());
        assert!(!format!("{:?}", KafkaSettings::check(&draft).unwrap()).contains("hunter2"));
        draft.properties.insert("sasl.passwort".into(), "hunter3".into());
        let told = KafkaSettings::check(&draft).unwrap_err()[0].to_string();
        assert!(!told.contains("hunter3"), "{told}");
        let mut draft = least();
        draft.properties.insert("ssl.ca.location".into(), "hunter4".into());
        draft.properties.insert("linger.ms".into(), "hunter5".into());
        let told = format!("{:?}", KafkaSettings::check(&draft).unwrap_err());
        assert!(!told.contains("hunter"), "{told}");
    }
}

//! What a Kafka sink is told to do, checked: holding a [`KafkaSettings`] proves that every rule below holds.
//!
//! Pure: nothing is opened or resolved here. librdkafka itself checks the properties that are passed through (names, values, ranges), so
//! that a misspelt one is told at `sluice check` and not at the first record.

mod more;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseProducer;

use crate::config::kafka as written;
use crate::config::remote_write::ClientTls;
use crate::config::remote_write::Login;
use crate::forward::format::Columns;
use crate::forward::format::DEFAULT_COLUMNS;
use crate::forward::format::Format;
use crate::forward::remote_write::settings::Place;
use crate::forward::route;
use crate::forward::route::Key;
use crate::forward::route::Template;

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
    /// The topic, or a template for topics.
    pub topic: String,
    /// Where a template may lead.
    pub topics: Option<written::Topics>,
    /// What decides the partition.
    pub key: Option<written::Key>,
    /// The tenant, for Mimir.
    pub tenant: Option<String>,
    /// Samples of a tenant carry theirs instead.
    pub pass_tenant: bool,
    /// Where Avro's schema is registered.
    pub registry: Option<written::Registry>,
    /// Whom sluice trusts.
    pub tls: Option<ClientTls>,
    /// How it shows who it is.
    pub sasl: Option<written::Sasl>,
    /// `rows`, `row`, `adapter`, `remote-write`, `mimir` or `avro`.
    pub format: Option<String>,
    /// Labels at the top of a row.
    pub columns: Option<Vec<String>>,
    /// Histograms in rows show no buckets.
    pub no_buckets: bool,
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
    /// The topic that holds the position; the only one, unless there is a template: then the one for rows without another.
    pub topic: String,
    /// Other topics.
    pub routes: Option<Routes>,
    /// What decides the partition.
    pub key: Key,
    /// Whether single rows carry it.
    pub keyed: bool,
    /// The tenant of `mimir`.
    pub tenant: Option<String>,
    /// Samples of a tenant carry theirs instead.
    pub pass_tenant: bool,
    /// Where Avro's schema is registered.
    pub registry: Option<RegistrySettings>,
    /// How sluice gets in.
    pub access: Access,
    /// Shape of a message.
    pub format: Format,
    /// Labels at the top of a row.
    pub columns: Columns,
    /// Histograms in rows show their buckets, beside count and sum.
    pub buckets: bool,
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

/// Topics by labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    /// How a topic's name is made.
    pub template: Template,
    /// Which names are good; none written: all.
    pub allow: Vec<String>,
    /// How many different ones.
    pub max: usize,
}

impl Routes {
    /// Whether rows may go to this topic.
    pub fn allows(&self, topic: &str) -> bool {
        self.allow.is_empty() || self.allow.iter().any(|pattern| route::fits(pattern, topic))
    }
}

/// Who sluice is towards Kafka, and whom it trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// TLS, and with which files.
    pub tls: Option<ClientTls>,
    /// SASL.
    pub sasl: Option<Sasl>,
}

/// How sluice shows who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sasl {
    /// Mechanism, user, and the file of the password.
    Password(written::Mechanism, String, PathBuf),
    /// The file of a token.
    TokenFile(PathBuf),
    /// Tokens from an authorization server.
    Client(Box<written::OauthClient>, Place),
}

/// A schema registry, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrySettings {
    /// As written: for people.
    pub url: String,
    /// Where to connect to.
    pub place: Place,
    /// How sluice shows who it is.
    pub login: Option<Login>,
    /// The subject instead of the topic's.
    pub subject: Option<String>,
    /// Whether a schema that is not there is registered.
    pub register: bool,
}

/// How long a transaction may stay open before the broker aborts it: what a dead node's holds up readers at most.
pub const TRANSACTION_TIMEOUT_MS: u32 = 15_000;
/// librdkafka's queue: a transaction fits many times over; backlog belongs in the log.
const QUEUE_KBYTES: u32 = 64 * 1024;

/// librdkafka's default and the usual broker's cap on a batch (1 MB; brokers take 1,048,588).
pub const BATCH_BYTES: usize = 1_000_000;
/// 500 rows of 490 bytes: beyond 100 rows a message no CPU is saved, but lz4 finds more to fold.
const ROWS_PER_MESSAGE: usize = 500;
const BYTES_PER_MESSAGE: usize = 256 * 1024;
/// A commit costs 1-4 ms: at 4 MB (8,000 rows of 490 bytes) or twice a second that is below 1 % of the time.
const TRANSACTION_BYTES: usize = 4 << 20;
const TRANSACTION_MS: u64 = 500;

/// Properties that a file may not set, and why: sluice sets them itself, or they would do more than say how to reach Kafka.
const OWN: [(&str, &str); 23] = [
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
    ("plugin.library.paths", "it would load code into sluice"),
    ("ssl.engine.location", "it would load code into sluice"),
    ("ssl.providers", "it would load code into sluice"),
    ("sasl.kerberos.kinit.cmd", "it would run a command of whoever may change settings"),
    ("sasl.oauthbearer.config", "`sasl` says where tokens come from"),
    ("sasl.oauthbearer.method", "`sasl` says where tokens come from"),
    ("enable.sasl.oauthbearer.unsecure.jwt", "a token that nobody signed lets everybody in"),
];

impl KafkaSettings {
    /// The topic or the template, for people.
    pub fn shown_topic(&self) -> &str {
        self.routes.as_ref().map_or(&self.topic, |routes| routes.template.text())
    }

    /// Sets what delivery rests on, and speed where the file says nothing else.
    pub fn tune(&self, config: &mut ClientConfig, id: &str) {
        let linger = match self.delivery {
            // The last messages of every transaction wait that long before they leave; 5 ms of encoding fill a batch of every partition.
            Delivery::ExactlyOnce => "5",
            Delivery::AtLeastOnce => "20",
        };
        let (kbytes, bytes) = (QUEUE_KBYTES.to_string(), BATCH_BYTES.to_string());
        let speed = [
            ("linger.ms", linger),
            ("batch.num.messages", "10000"),
            ("queue.buffering.max.messages", "1000000"),
            ("queue.buffering.max.kbytes", &kbytes),
            ("statistics.interval.ms", "5000"),
            ("reconnect.backoff.max.ms", "5000"),
            ("message.max.bytes", &bytes),
        ];
        for (name, value) in speed {
            if !self.properties.iter().any(|(given, _)| given == name) {
                config.set(name, value);
            }
        }
        config.set("compression.type", &self.compression).set("enable.idempotence", "true").set("acks", "all");
        match self.delivery {
            Delivery::ExactlyOnce => {
                config.set("transactional.id", id).set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS.to_string());
            }
            Delivery::AtLeastOnce => {
                config.set("message.timeout.ms", "0");
            }
        }
    }

    /// What librdkafka finds wrong with all properties together: a client is made of them that knows no broker.
    fn check_together(&self) -> Option<Problem> {
        let mut config = ClientConfig::new();
        // Files may be there on one node and not on another.
        for (name, value) in self.properties.iter().filter(|(name, _)| !name.ends_with(".location") && *name != "debug") {
            config.set(name, value);
        }
        self.tune(&mut config, "check");
        config.set("log_level", "0");
        let made: Result<BaseProducer, KafkaError> = config.create();
        made.err().map(|error| Problem {
            key: "properties".to_owned(),
            value: "(not shown)".to_owned(),
            rule: match error {
                KafkaError::ClientCreation(words) => format!("librdkafka refuses them together: {words}"),
                _ => "librdkafka refuses them together".to_owned(),
            },
            remedy: "see librdkafka's CONFIGURATION.md".to_owned(),
        })
    }

    /// Checks everything, and tells everything that is wrong.
    pub fn check(draft: &KafkaDraft) -> Result<KafkaSettings, Vec<Problem>> {
        let settings = KafkaSettings::check_each(draft)?;
        // Without properties there is nothing that a test has not seen.
        let problem = if draft.properties.is_empty() { None } else { settings.check_together() };
        problem.map_or(Ok(settings), |problem| Err(vec![problem]))
    }

    fn check_each(draft: &KafkaDraft) -> Result<KafkaSettings, Vec<Problem>> {
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
        let format = draft.format.as_deref().map_or(Some(Format::Rows), Format::from_word);
        if format.is_none() {
            wrong("format", &text(&draft.format), "no such format", "write rows, row, adapter, remote-write, mimir or avro");
        }
        let delivery = draft.delivery.as_deref().map_or(Some(Delivery::ExactlyOnce), Delivery::from_word);
        if delivery.is_none() {
            wrong("delivery", &text(&draft.delivery), "no such delivery", "write exactly_once or at_least_once");
        }
        // Snappy's output is not packed any smaller by another codec.
        let best = if format == Some(Format::RemoteWrite) { "none" } else { "lz4" };
        let compression = draft.compression.clone().unwrap_or_else(|| best.to_owned());
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
        let (topic, routes) = more::topics(draft, &mut problems);
        let key = more::key(draft, &mut problems);
        let more = more::check(draft, format.unwrap_or(Format::Rows), &mut problems);
        problems.extend(check_sizes(draft));
        problems.extend(check_properties(&draft.properties));
        match (format, delivery, columns) {
            (Some(format), Some(delivery), Ok(columns)) if problems.is_empty() => Ok(KafkaSettings {
                brokers: draft.brokers.join(","),
                topic,
                routes,
                keyed: match format {
                    Format::Row | Format::Avro => key != Key::None,
                    // As the adapter has it, unless somebody asks for more.
                    Format::Adapter => draft.key.is_some() && key != Key::None,
                    Format::Rows | Format::RemoteWrite | Format::Mimir => false,
                },
                key,
                tenant: draft.tenant.clone(),
                pass_tenant: draft.pass_tenant,
                registry: more.registry,
                access: more.access,
                format,
                columns,
                buckets: !draft.no_buckets,
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
            problems.push(problem(name, format!("is not to be set: {why}"), "leave it out"));
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
                "format",
                "delivery",
                "compression",
                "columns",
                "create_topic.partitions",
                "create_topic.replication",
                "topic",
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

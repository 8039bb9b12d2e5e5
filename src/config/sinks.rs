//! `sinks:` where what passed goes: a Kafka topic, a store (`remote_write`), or files of the node's own disk (`file`). What librdkafka alone can judge (its properties) is checked by `forward`,
//! which owns these sections.

use std::time::Duration;

use crate::config::file;
use crate::config::file::Files;
use crate::config::kafka;
use crate::config::kafka::Key;
use crate::config::kafka::Registry;
use crate::config::kafka::Sasl;
use crate::config::kafka::Topics;
use crate::config::read::Node;
use crate::config::read::Refusal;
use crate::config::read::Section;
use crate::config::remote_write;
use crate::config::remote_write::ClientTls;
use crate::config::remote_write::RemoteWrite;
use crate::config::shape;
use crate::config::shape::Shape;
use crate::config::values;

/// One way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// In metrics, in the position's name and on the command line.
    pub name: String,
    /// What it writes to.
    pub target: Target,
    /// What it takes, and as what.
    pub shape: Shape,
    /// How much may wait for it.
    pub budget: Budget,
    /// Where it begins when it is new.
    pub from: From,
}

/// What a sink writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a handful of them, which nobody moves about")]
pub enum Target {
    /// A Kafka topic.
    Kafka(Kafka),
    /// A store, by Remote Write.
    RemoteWrite(RemoteWrite),
    /// Files of rows.
    Files(Files),
}

/// A Kafka topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kafka {
    /// Some of the cluster's brokers, as host:port.
    pub brokers: Vec<String>,
    /// Must exist, unless `create_topic` says how to make it. A template leads to several.
    pub topic: String,
    /// Where a template may lead.
    pub topics: Option<Topics>,
    /// What decides the partition.
    pub key: Option<Key>,
    /// What a message is.
    pub format: Format,
    /// With what promise.
    pub delivery: Delivery,
    /// The tenant, which Mimir reads from a record's key.
    pub tenant: Option<String>,
    /// Samples of a tenant carry theirs instead.
    pub pass_tenant: bool,
    /// Labels that stand at the top of a row; `None`: those of the default.
    pub columns: Option<Vec<String>>,
    /// Histograms in rows show their buckets, beside count and sum.
    pub buckets: bool,
    /// Where the schema of `avro` is registered.
    pub registry: Option<Registry>,
    /// How the topic is made where it is missing.
    pub create_topic: Option<CreateTopic>,
    /// How messages are packed; `None`: as suits the format.
    pub compression: Option<Compression>,
    /// Most rows of a message of `rows`.
    pub rows_per_message: Option<u64>,
    /// Most bytes of such a message.
    pub bytes_per_message: Option<u64>,
    /// A transaction ends when it holds so many bytes,
    pub transaction_bytes: Option<u64>,
    /// or is so old.
    pub transaction_age: Option<Duration>,
    /// Whom sluice trusts, with TLS.
    pub tls: Option<ClientTls>,
    /// How sluice shows who it is.
    pub sasl: Option<Sasl>,
    /// Further settings of librdkafka, as `linger.ms: 20`.
    pub properties: Vec<(String, String)>,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Many rows, one a line.
    Rows,
    /// One row.
    Row,
    /// What prometheus-kafka-adapter writes.
    Adapter,
    /// What vmagent writes and reads.
    RemoteWrite,
    /// What Mimir's ingest storage reads.
    Mimir,
    /// A sample in Avro.
    Avro,
}

/// With what promise rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// In transactions: once for readers with `read_committed`.
    ExactlyOnce,
    /// May repeat the last fraction of a second after a crash.
    AtLeastOnce,
}

/// How messages are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// Cheap; the default.
    Lz4,
    /// Smaller and dearer.
    Zstd,
    /// For old readers.
    Gzip,
    /// For old readers.
    Snappy,
}

/// How a topic is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateTopic {
    /// Its partitions.
    pub partitions: u16,
    /// Its copies.
    pub replication: u16,
}

/// How much may wait for a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// On disk, of this node.
    pub bytes: u64,
    /// Of the oldest of it.
    pub age: Duration,
    /// What happens at the bound.
    pub policy: Policy,
}

/// What happens where a sink's budget ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The oldest is given up, counted and alarmed.
    DropOldest,
    /// Senders get 503 and keep their data.
    Refuse,
}

/// Where a new sink begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// With what passes from now on.
    Now,
    /// With the oldest that is still kept.
    Oldest,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { bytes: 64 << 30, age: Duration::from_secs(24 * 3600), policy: Policy::DropOldest }
    }
}

impl Format {
    /// The word in the file.
    pub fn word(self) -> &'static str {
        match self {
            Format::Rows => "rows",
            Format::Row => "row",
            Format::Adapter => "adapter",
            Format::RemoteWrite => "remote-write",
            Format::Mimir => "mimir",
            Format::Avro => "avro",
        }
    }
}

impl Delivery {
    /// The word in the file.
    pub fn word(self) -> &'static str {
        match self {
            Delivery::ExactlyOnce => "exactly_once",
            Delivery::AtLeastOnce => "at_least_once",
        }
    }
}

impl Compression {
    /// The word in the file.
    pub fn word(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
        }
    }
}

impl Kafka {
    /// A topic with everything else at its default.
    pub fn new(brokers: Vec<String>, topic: &str) -> Kafka {
        Kafka {
            brokers,
            topic: topic.into(),
            topics: None,
            key: None,
            format: Format::Rows,
            delivery: Delivery::ExactlyOnce,
            tenant: None,
            pass_tenant: false,
            columns: None,
            buckets: true,
            registry: None,
            create_topic: None,
            compression: None,
            rows_per_message: None,
            bytes_per_message: None,
            transaction_bytes: None,
            transaction_age: None,
            tls: None,
            sasl: None,
            properties: Vec::new(),
        }
    }
}

/// Labels that stand at the top of a row where nobody says which.
pub fn default_columns() -> Vec<String> {
    ["job", "instance", "namespace", "cluster"].map(String::from).to_vec()
}

/// Reads `sinks:`.
pub fn read(top: &Section<'_>) -> Vec<Sink> {
    let Some(node) = top.get("sinks") else {
        top.missing(
            "sinks",
            "write where samples go; the smallest: sinks: [{ name: platform, kafka: { brokers: [\"127.0.0.1:9092\"], topic: metrics } }]",
        );
        return Vec::new();
    };
    let external = shape::external(top);
    let mut sinks: Vec<Sink> = Vec::new();
    for item in node.list() {
        let Some(mut sink) = read_sink(&item) else { continue };
        sink.shape.external.clone_from(&external);
        if sinks.iter().any(|known| known.name == sink.name) {
            item.complain(format!("the name `{}` is taken by a sink above", sink.name), "give each sink a name of its own");
        }
        sinks.push(sink);
    }
    sinks
}

fn read_sink(item: &Node<'_>) -> Option<Sink> {
    let section = item.section();
    let name = section.must("name", "give the sink a name: it is how metrics and `sluice sink list` call it", values::name);
    let target = read_target(&section);
    let shape = shape::read(&section);
    let budget = section.below("budget").map(|section| read_budget(&section)).unwrap_or_default();
    let from = section.or("from", From::Oldest, values::one_of(&[("now", From::Now), ("oldest", From::Oldest)]));
    section.finish();
    Some(Sink { name: name?, target: target?, shape, budget, from })
}

fn read_target(section: &Section<'_>) -> Option<Target> {
    let named = [section.get("kafka"), section.get("remote_write"), section.get("file")];
    let mut written = named.iter().flatten();
    if written.next().is_none() {
        let remedy = "write: kafka: { brokers: [\"host:9092\"], topic: metrics }, or remote_write: { url: https://store.example/api/v1/write }, or file: { directory: /var/lib/sluice-rows }";
        section.missing("kafka", remedy);
        return None;
    }
    if let Some(second) = written.next() {
        second.complain("is a second thing to write to", "make two sinks of it, each with a name of its own");
        return None;
    }
    let [kafka, store, files] = named;
    kafka
        .and_then(|node| read_kafka(&node.section()).map(Target::Kafka))
        .or_else(|| store.and_then(|node| remote_write::read(&node.section()).map(Target::RemoteWrite)))
        .or_else(|| files.and_then(|node| file::read(&node.section()).map(Target::Files)))
}

/// What every writer to Kafka has: brokers, a topic, how sluice gets in, how the topic is made and messages are packed.
fn read_common(section: &Section<'_>, topic: impl FnOnce(&str) -> Result<String, Refusal>) -> Option<Kafka> {
    let brokers = section.get("brokers");
    if brokers.is_none() {
        section.missing("brokers", "write one or more of the cluster's brokers: brokers: [\"kafka-1.example:9092\"]");
    }
    let brokers: Option<Vec<String>> = brokers.map(|node| {
        let named: Vec<String> = node.list().iter().filter_map(|item| item.value(values::host_port)).collect();
        if node.list().is_empty() {
            node.complain("must name at least one broker", "for example [\"kafka-1.example:9092\"]");
        }
        named
    });
    let topic = section.must("topic", "write the topic's name: topic: metrics", topic);
    let mut sink = Kafka::new(brokers.unwrap_or_default(), &topic.clone().unwrap_or_default());
    sink.tls = section.below("tls").map(|section| remote_write::tls(&section));
    sink.sasl = section.below("sasl").and_then(|section| kafka::sasl(&section));
    sink.create_topic = section.below("create_topic").map(|section| {
        let number = |key, default| u16::try_from(section.or(key, default, values::number(1..=10_000))).unwrap_or(1);
        let create = CreateTopic { partitions: number("partitions", 12), replication: number("replication", 3) };
        section.finish();
        create
    });
    let compressions = values::one_of(&[
        ("none", Compression::None),
        ("lz4", Compression::Lz4),
        ("zstd", Compression::Zstd),
        ("gzip", Compression::Gzip),
        ("snappy", Compression::Snappy),
    ]);
    sink.compression = section.opt("compression", compressions);
    sink.properties = section.below("properties").map(|section| read_properties(&section)).unwrap_or_default();
    topic.map(|_| sink)
}

/// A topic for records that are no samples.
pub fn read_topic(section: &Section<'_>) -> Option<Kafka> {
    let kafka = read_common(section, values::topic).map(|kafka| Kafka { delivery: Delivery::AtLeastOnce, ..kafka });
    section.finish();
    kafka
}

fn read_kafka(section: &Section<'_>) -> Option<Kafka> {
    let read = read_common(section, kafka::topic);
    let mut sink = read.clone().unwrap_or_else(|| Kafka::new(Vec::new(), ""));
    sink.topics = section.below("topics").and_then(|section| kafka::topics(&section));
    sink.key = section.get("key").and_then(|node| kafka::key(&node));
    let formats = values::one_of(&[
        ("rows", Format::Rows),
        ("row", Format::Row),
        ("adapter", Format::Adapter),
        ("remote-write", Format::RemoteWrite),
        ("mimir", Format::Mimir),
        ("avro", Format::Avro),
    ]);
    sink.format = section.or("format", sink.format, formats);
    sink.tenant = section.opt("tenant", values::text);
    sink.pass_tenant = section.or("pass_tenant", false, values::switch);
    sink.registry = section.below("schema_registry").and_then(|section| kafka::registry(&section));
    let deliveries = values::one_of(&[("exactly_once", Delivery::ExactlyOnce), ("at_least_once", Delivery::AtLeastOnce)]);
    sink.delivery = section.or("delivery", sink.delivery, deliveries);
    if let Some(node) = section.get("columns") {
        sink.columns = Some(read_columns(&node));
    }
    sink.buckets = read_buckets(section);
    sink.rows_per_message = section.opt("rows_per_message", values::number(1..=100_000));
    sink.bytes_per_message = section.opt("bytes_per_message", values::size_in(1 << 10..=1 << 20));
    sink.transaction_bytes = section.opt("transaction_bytes", values::size_in(1 << 10..=32 << 20));
    sink.transaction_age = section.opt("transaction_age", values::duration_in(Duration::from_millis(10)..=Duration::from_secs(10)));
    section.finish();
    read.map(|_| sink)
}

/// Reads `histograms: { buckets: ... }` of a sink that writes rows.
pub fn read_buckets(section: &Section<'_>) -> bool {
    section.below("histograms").is_none_or(|section| {
        let buckets = section.or("buckets", true, values::switch);
        section.finish();
        buckets
    })
}

/// Names of columns, none of which is a field already.
pub fn read_columns(node: &Node<'_>) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for item in node.list() {
        let Some(column) = item.value(values::label) else { continue };
        if matches!(column.as_str(), "ts" | "name" | "v" | "d" | "dt" | "late" | "labels" | "__name__") {
            item.complain("is a field that every row has already", "choose other labels, or leave this one to `labels`");
        } else if columns.contains(&column) {
            item.complain("stands here a second time", "keep one of the two");
        }
        columns.push(column);
    }
    columns
}

fn read_properties(section: &Section<'_>) -> Vec<(String, String)> {
    let mut properties = Vec::new();
    for (name, node) in section.pairs() {
        if let Some(value) = node.text() {
            properties.push((name.to_string(), value.to_string()));
        }
    }
    properties
}

fn read_budget(section: &Section<'_>) -> Budget {
    let default = Budget::default();
    let bytes = section.or("bytes", default.bytes, values::size_in(1 << 20..=1 << 50));
    let age = section.or("age", default.age, values::duration_in(Duration::from_secs(60)..=Duration::from_secs(90 * 86_400)));
    let policies = values::one_of(&[("drop_oldest", Policy::DropOldest), ("refuse", Policy::Refuse)]);
    let policy = section.or("policy", default.policy, policies);
    section.finish();
    Budget { bytes, age, policy }
}

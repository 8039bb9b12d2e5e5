//! Rows in, messages out: encodes, packs by partition, hands to librdkafka, and remembers which message holds what.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::message::Header;
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::BaseRecord;
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::forward::adapter;
use crate::forward::avro;
use crate::forward::book::Tally;
use crate::forward::format::Columns;
use crate::forward::format::Format;
use crate::forward::kafka::client::Identity;
use crate::forward::kafka::client::Link;
use crate::forward::kafka::client::Refusal;
use crate::forward::kafka::topics::OWN;
use crate::forward::kafka::topics::Topics;
use crate::forward::kafka::topics::Unready;
use crate::forward::pack::Note;
use crate::forward::pack::Packer;
use crate::forward::pack::RowId;
use crate::forward::route::Key;
use crate::forward::route::java_partition;
use crate::forward::rows::Row;
use crate::forward::rows::RowEncoder;
use crate::forward::rows::Value;
use crate::forward::settings::Delivery;
use crate::forward::settings::KafkaSettings;
use crate::forward::tap::ROWS_A_COMMIT;
use crate::forward::worker::Control;
use crate::model::STALE_NAN;
use crate::wire::outgoing::Said;
use crate::wire::outgoing::put_series;
use crate::wire::pack::pack_snappy;

/// Why a message did not leave.
#[derive(Clone, Debug)]
pub enum Unsent {
    /// Kafka, or librdkafka, refused a message.
    Refused(Refusal, Option<Note>),
    /// librdkafka's queue stayed full until the worker had to stop.
    Stopped,
    /// There is no topic for it now.
    Unready(Unready),
    /// Anything else, and for which topic.
    Error(KafkaError, String),
}

/// One producer's outlet.
pub struct Outlet {
    packer: Packer,
    encoder: Encoder,
    topics: Topics,
    slots: Slots,
    key: Key,
    post: Post,
    /// What became of the samples since the last [`Outlet::reset`].
    pub tally: Tally,
    /// Bytes of rows since then.
    pub bytes: u64,
    /// Rows for those who read along.
    pub tapped: Vec<Arc<[u8]>>,
    /// Rows that they do not get to see.
    pub untapped: u64,
}

/// Rows as messages hold them.
pub enum Encoder {
    /// `rows/1`.
    Rows(RowEncoder),
    /// prometheus-kafka-adapter's.
    Adapter,
    /// Series of Remote Write 1.0, and memory for a point.
    Series(Vec<u8>),
    /// Avro.
    Avro,
}

impl Encoder {
    /// As the settings have it.
    pub fn new(settings: &KafkaSettings) -> Encoder {
        match settings.format {
            Format::Rows | Format::Row => Encoder::Rows(RowEncoder::new(settings.columns.clone()).with_buckets(settings.buckets)),
            Format::Adapter => Encoder::Adapter,
            Format::RemoteWrite | Format::Mimir => Encoder::Series(Vec::new()),
            Format::Avro => Encoder::Avro,
        }
    }

    /// Appends the row; false if it has none.
    #[inline]
    pub fn encode(&mut self, row: &Row<'_>, schema: Option<u32>, out: &mut Vec<u8>) -> bool {
        match self {
            Encoder::Rows(rows) => rows.encode(row, out),
            Encoder::Adapter => adapter::encode(row, out),
            Encoder::Series(point) => {
                let said = match row.value {
                    Value::Float(value) => Said::Bits(value.to_bits()),
                    Value::Stale => Said::Bits(STALE_NAN),
                    Value::Histogram(histogram) => Said::Histogram(histogram),
                    Value::Exemplar => return false,
                };
                put_series(row.labels, row.time, said, point, out);
                true
            }
            Encoder::Avro => avro::encode(row, schema, out),
        }
    }
}

/// What messages are gathered for: a topic, or where messages are of one tenant, a topic and a tenant.
struct Slots {
    /// By slot: its topic.
    topics: Vec<usize>,
    /// By tenant: topics and their slots.
    known: HashMap<String, Vec<(usize, usize)>>,
    /// Each tenant has its own.
    by_tenant: bool,
}

/// Tenants of one session, each with buffers of its own: a rule may make one of any label. Beyond that the session makes way for one without them.
const TENANTS_MAX: usize = 10_000;

impl Slots {
    /// The slot of a topic and a tenant, if there is one.
    #[inline]
    fn of(&self, topic: usize, tenant: &str) -> Option<usize> {
        if !self.by_tenant {
            return Some(topic);
        }
        self.known.get(tenant)?.iter().find(|(of, _)| *of == topic).map(|(_, slot)| *slot)
    }
}

/// Everything about sending, apart from the rows.
struct Post {
    /// By slot: the topic's name, and the key where all messages of the slot have one (a tenant).
    names: Vec<(String, Vec<u8>)>,
    format: Format,
    keyed: Keyed,
    /// The key of the next message.
    key: Vec<u8>,
    /// A packed message.
    packed: Vec<u8>,
    /// Cluster, sink, shard and epoch, for the headers; `None`: no headers beyond the format's.
    origin: Option<[(&'static str, String); 4]>,
    /// Messages that are under way, oldest first; `None`: taken.
    notes: VecDeque<Option<Note>>,
    /// Number of the first of them.
    first: usize,
    unpolled: u32,
}

/// Whether messages have keys.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keyed {
    No,
    /// Each its own.
    Each(bool),
    /// All the same.
    All,
}

/// Delivery reports are fetched every so many messages: cheap for packed messages, rare enough for single rows.
const POLL_EVERY: u32 = 32;

impl Outlet {
    /// For a fresh producer. `bytes_max`: the most a message may hold.
    pub fn new(settings: &KafkaSettings, identity: &Identity, epoch: u64, topics: Topics, bytes_max: usize) -> Outlet {
        // With headers a single row costs a third more, so in transactions only packed messages carry where they come from.
        let told = settings.delivery == Delivery::AtLeastOnce || settings.format.packs();
        let origin = told.then(|| {
            [
                ("sluice-cluster", identity.cluster.clone()),
                ("sluice-sink", identity.sink.clone()),
                ("sluice-shard", identity.shard.to_string()),
                ("sluice-epoch", epoch.to_string()),
            ]
        });
        let keyed = match &settings.tenant {
            Some(_) => Keyed::All,
            None if settings.keyed => Keyed::Each(false),
            None => Keyed::No,
        };
        let key = settings.tenant.clone().unwrap_or_default().into_bytes();
        let mut packer = Packer::new(settings.rows_per_message, bytes_max, settings.format == Format::Rows);
        let mut names = Vec::new();
        for topic in topics.all() {
            packer.add_topic(topic.partitions);
            names.push((topic.name.clone(), key.clone()));
        }
        Outlet {
            packer,
            encoder: Encoder::new(settings),
            slots: Slots {
                topics: (0..topics.all().len()).collect(),
                known: HashMap::from([(String::new(), (0..topics.all().len()).map(|topic| (topic, topic)).collect())]),
                by_tenant: settings.pass_tenant,
            },
            topics,
            key: settings.key.clone(),
            post: Post {
                names,
                format: settings.format,
                keyed,
                key: Vec::new(),
                packed: Vec::new(),
                origin,
                notes: VecDeque::new(),
                first: 0,
                unpolled: 0,
            },
            tally: Tally::default(),
            bytes: 0,
            tapped: Vec::new(),
            untapped: 0,
        }
    }

    /// Whether so many tenants have been seen that a session should begin without their buffers.
    pub fn is_crowded(&self) -> bool {
        self.slots.known.len() > TENANTS_MAX
    }

    fn new_slot(&mut self, topic: usize, tenant: &str) -> usize {
        let new = self.topics.at(topic);
        let slot = self.packer.add_topic(new.partitions);
        let own = !tenant.is_empty() && self.slots.by_tenant;
        let key = if own { tenant.into() } else { self.post.names[OWN].1.clone() };
        self.post.names.push((new.name.clone(), key));
        self.slots.topics.push(topic);
        self.slots.known.entry(if own { tenant.to_owned() } else { String::new() }).or_default().push((topic, slot));
        slot
    }

    /// Where a row goes; a topic that is new gets its buffers.
    #[inline]
    fn place(&mut self, row: &Row<'_>, emission: u64) -> Result<(usize, usize), Unsent> {
        let topic = self.topics.of((row.labels, row.tenant)).map_err(Unsent::Unready)?;
        let slot = match self.slots.of(topic, row.tenant) {
            Some(slot) if slot < self.post.names.len() => slot,
            _ => self.new_slot(topic, row.tenant),
        };
        let partitions = self.packer.partitions(slot);
        let post = &mut self.post;
        let partition = match &self.key {
            Key::Series => {
                if let Keyed::Each(there) = &mut post.keyed {
                    *there = self.key.write((row.labels, row.tenant), row.series, &mut post.key);
                }
                (row.series % partitions as u64) as usize
            }
            Key::Labels(_) => {
                // Packed messages have rows of many keys, and none of their own.
                let there = self.key.write((row.labels, row.tenant), row.series, &mut post.key);
                if let Keyed::Each(keyed) = &mut post.keyed {
                    *keyed = there;
                }
                if there { java_partition(&post.key, partitions) } else { (row.series % partitions as u64) as usize }
            }
            // In turn, and the same when it is sent again.
            Key::None => ((emission + u64::from(row.item / self.packer.rows_max())) % partitions as u64) as usize,
        };
        Ok((slot, partition))
    }

    /// Takes one row on its way; `dead` are rows that Kafka has refused for good.
    pub fn take(
        &mut self,
        (link, control): (&Link, &Control),
        row: &Row<'_>,
        emission: u64,
        (dead, tapped): (&BTreeSet<(u64, u32)>, bool),
    ) -> Result<(), Unsent> {
        if !dead.is_empty() && dead.contains(&(emission, row.item)) {
            self.tally.dead += 1;
            return Ok(());
        }
        let place = self.place(row, emission)?;
        let schema = self.topics.at(self.slots.topics[place.0]).schema;
        let Outlet { packer, encoder, post, tally, bytes, tapped: shown, untapped, .. } = self;
        let id = RowId { emission, item: row.item };
        let binary = post.format.is_binary();
        let encode = |out: &mut Vec<u8>| {
            let start = out.len();
            if !encoder.encode(row, schema, out) {
                return false;
            }
            *bytes += (out.len() - start) as u64;
            if tapped && shown.len() < ROWS_A_COMMIT {
                shown.push(if binary { as_text(row) } else { out[start..].into() });
            } else if tapped {
                *untapped += 1;
            }
            true
        };
        if packer.push(place, id, encode, |note, message| post.send(link, control, note, message))? {
            tally.delivered += 1;
        } else {
            tally.filtered += 1;
        }
        Ok(())
    }

    /// Sends what is begun.
    pub fn flush(&mut self, link: &Link, control: &Control) -> Result<(), Unsent> {
        let Outlet { packer, post, .. } = self;
        packer.flush(|note, message| post.send(link, control, note, message))
    }

    /// Its topics.
    pub fn topics(&mut self) -> &mut Topics {
        &mut self.topics
    }

    /// The topic of a message.
    pub fn topic_of(&self, note: &Note) -> &str {
        &self.post.names[note.topic].0
    }

    /// Messages handed over since the last [`Outlet::reset`].
    pub fn messages(&self) -> u64 {
        self.post.notes.len() as u64
    }

    /// The next message's number.
    pub fn next_id(&self) -> usize {
        self.post.first + self.post.notes.len()
    }

    /// What message `id` holds.
    pub fn note(&self, id: usize) -> Option<Note> {
        id.checked_sub(self.post.first).and_then(|place| self.post.notes.get(place).copied().flatten())
    }

    /// Message `id` is in Kafka.
    pub fn taken(&mut self, id: usize) -> Option<Note> {
        let note = self.post.notes.get_mut(id.checked_sub(self.post.first)?)?.take();
        while let Some(None) = self.post.notes.front() {
            self.post.notes.pop_front();
            self.post.first += 1;
        }
        note
    }

    /// All messages so far are in Kafka: begins the next transaction's account.
    pub fn reset(&mut self) {
        self.post.first = self.next_id();
        self.post.notes.clear();
        self.tally = Tally::default();
        self.bytes = 0;
        self.tapped.clear();
        self.untapped = 0;
    }
}

impl Post {
    fn headers(&self, note: &Note) -> Option<OwnedHeaders> {
        let mut headers = self.format.header().map(|format| {
            let headers = OwnedHeaders::new_with_capacity(6);
            headers.insert(Header { key: "sluice-format", value: Some(format) })
        });
        if let Some(origin) = &self.origin {
            let mut all = headers.unwrap_or_else(|| OwnedHeaders::new_with_capacity(5));
            for (key, value) in origin {
                all = all.insert(Header { key, value: Some(value.as_str()) });
            }
            let emission = if note.first_emission == note.last_emission {
                note.first_emission.to_string()
            } else {
                format!("{}-{}", note.first_emission, note.last_emission)
            };
            headers = Some(all.insert(Header { key: "sluice-emission", value: Some(emission.as_str()) }));
        }
        headers
    }

    /// Hands a message over; waits while librdkafka's queue is full.
    fn send(&mut self, link: &Link, control: &Control, mut note: Note, message: &[u8]) -> Result<(), Unsent> {
        let id = self.first + self.notes.len();
        let message = if self.format == Format::RemoteWrite {
            pack_snappy(message, &mut self.packed);
            note.bytes = self.packed.len();
            self.packed.as_slice()
        } else {
            message
        };
        let (topic, fixed) = &self.names[note.topic];
        let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, id).partition(note.partition).payload(message);
        record.key = match self.keyed {
            Keyed::All => Some(fixed.as_slice()),
            Keyed::Each(true) => Some(self.key.as_slice()),
            Keyed::Each(false) | Keyed::No => None,
        };
        record.headers = self.headers(&note);
        loop {
            match link.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(Code::QueueFull), back)) => {
                    record = back;
                    link.producer.poll(Duration::from_millis(5));
                    if let Some(refusal) = link.signals.refusal() {
                        let note = refusal.id.checked_sub(self.first).and_then(|place| self.notes.get(place).copied().flatten());
                        return Err(Unsent::Refused(refusal, note));
                    }
                    if control.expired() {
                        return Err(Unsent::Stopped);
                    }
                }
                Err((KafkaError::MessageProduction(code @ Code::MessageSizeTooLarge), _)) => {
                    let payload = message[..message.len().min(64 * 1024)].to_vec();
                    return Err(Unsent::Refused(Refusal { id, code, payload }, Some(note)));
                }
                Err((error, _)) => return Err(Unsent::Error(error, topic.clone())),
            }
        }
        self.notes.push_back(Some(note));
        self.unpolled += 1;
        if self.unpolled >= POLL_EVERY {
            self.unpolled = 0;
            link.producer.poll(Duration::ZERO);
        }
        Ok(())
    }
}

/// A row for people, where messages are none. Its labels are all in one place; few rows are asked for.
fn as_text(row: &Row<'_>) -> Arc<[u8]> {
    let mut text = Vec::new();
    RowEncoder::new(Columns::default()).encode(row, &mut text);
    text.into()
}

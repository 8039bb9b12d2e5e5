//! What a row costs up to Kafka: encoding, packing and handing over on our thread; batching, compressing and sending on librdkafka's.
//!
//! Time is read per thread from `/proc/self/task/*/schedstat` (ns on a CPU), by the names that librdkafka gives its threads, so that a mock
//! cluster in the same process (`rdk:mock`) does not count.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::producer::Producer;
use rustix::time::ClockId;

use crate::forward::kafka::client::Identity;
use crate::forward::kafka::client::Maker;
use crate::forward::kafka::outlet::Outlet;
use crate::forward::kafka::outlet::Unsent;
use crate::forward::kafka::topics::Schemas;
use crate::forward::kafka::topics::Topic;
use crate::forward::kafka::topics::Topics;
use crate::forward::measure::cpu;
use crate::forward::measure::micros;
use crate::forward::measure::series;
use crate::forward::rows::Row;
use crate::forward::rows::Value;
use crate::forward::settings::KafkaDraft;
use crate::forward::settings::KafkaSettings;
use crate::forward::view::Report;
use crate::forward::worker::Control;
use crate::wire::remote_write::Label;

/// CPU a row, µs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProduceCost {
    /// On our thread: encode, pack, hand over.
    pub own_micros: f64,
    /// On librdkafka's: batches, compression, sockets.
    pub client_micros: f64,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// Settings that are not.
    #[error("{0}")]
    Settings(String),
    /// Kafka, or librdkafka.
    #[error("kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// A row did not leave.
    #[error("a row was not sent: {0:?}")]
    Unsent(Unsent),
}

/// Sends so many rows to a topic, packed as by default, without transactions.
pub fn produce_rows(brokers: &str, topic: &str, compression: &str, rows: u64) -> Result<ProduceCost, MeasureError> {
    let draft = KafkaDraft {
        brokers: brokers.split(',').map(str::to_owned).collect(),
        topic: topic.to_owned(),
        compression: Some(compression.to_owned()),
        delivery: Some("at_least_once".to_owned()),
        ..KafkaDraft::default()
    };
    let settings = KafkaSettings::check(&draft).map_err(|problems| MeasureError::Settings(format!("{problems:?}")))?;
    let identity = Identity { cluster: "bench".into(), sink: "rows".into(), shard: 0, seal: String::new() };
    let settings = Arc::new(settings);
    let maker = Arc::new(Maker::new(Arc::clone(&settings), identity.clone(), None));
    let link = maker.producer(usize::MAX).map_err(|trouble| MeasureError::Settings(trouble.to_string()))?;
    let metadata = link.producer.client().fetch_metadata(Some(topic), Duration::from_secs(10))?;
    let partitions = metadata.topics().first().map_or(1, |topic| topic.partitions().len().max(1));
    let topic = Topic { name: topic.to_owned(), partitions, schema: None };
    let topics = Topics::new(&maker, (&Arc::default(), &Arc::new(Report::new("rows", 0))), topic, Schemas::new());
    let series = series(2000);
    let labels: Vec<Vec<Label<'_>>> =
        series.iter().map(|labels| labels.iter().map(|(name, value)| Label::new(0, name, value)).collect()).collect();
    let mut outlet = Outlet::new(&settings, &identity, 1, topics, settings.bytes_per_message);
    let (control, dead) = (Control::default(), BTreeSet::new());
    let (own, others) = (cpu(ClockId::ThreadCPUTime), client_threads());
    for number in 0..rows {
        let place = (number % labels.len() as u64) as usize;
        let value = Value::Float(if number % 3 == 0 { number as f64 * 0.37 } else { number as f64 });
        let time = 1_790_000_000_000 + number as i64;
        let row =
            Row { labels: &labels[place], time, value, late: false, series: place as u64 * 0x9e37_79b9, item: 0, before: None, tenant: "" };
        outlet.take((&link, &control), &row, number / 2000, (&dead, false)).map_err(MeasureError::Unsent)?;
        if number % 10_000 == 9_999 {
            outlet.reset();
        }
    }
    outlet.flush(&link, &control).map_err(MeasureError::Unsent)?;
    let own = cpu(ClockId::ThreadCPUTime) - own;
    link.producer.flush(Duration::from_secs(60))?;
    let others = client_threads().saturating_sub(others);
    Ok(ProduceCost { own_micros: micros(own, rows), client_micros: micros(others, rows) })
}

/// CPU time of librdkafka's client threads in this process.
fn client_threads() -> Duration {
    let mut nanos = 0;
    for thread in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let read = |file: &str| std::fs::read_to_string(thread.path().join(file)).unwrap_or_default();
        let name = read("comm");
        if name.starts_with("rdk:") && !name.starts_with("rdk:mock") {
            nanos += read("schedstat").split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0_u64);
        }
    }
    Duration::from_nanos(nanos)
}

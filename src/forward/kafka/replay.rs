//! Dead letters, sent again after the cause was mended: what `sluice sink replay` does.
//!
//! By a producer of its own, idempotent and without transactions: the rows are old, no position moves with them, and the worker must not
//! be held up. A letter's row holds all labels of its series, so its partition and key are found from the row itself.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::message::Header;
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::BaseRecord;
use rdkafka::producer::Producer;

use crate::forward::format::Format;
use crate::forward::format::RESERVED;
use crate::forward::kafka::client;
use crate::forward::kafka::client::Identity;
use crate::forward::resend::ReplayError;
use crate::forward::settings::BATCH_BYTES;
use crate::forward::settings::Delivery;
use crate::forward::settings::KafkaSettings;
use crate::wire::remote_write::Label;
use crate::wire::remote_write::series_hash;

/// A row as it is sent again, and the hash of its series.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Again {
    row: Vec<u8>,
    series: u64,
}

/// Sends rows again, in order, for as long as `go_on` says so; one outcome each. Blocking.
pub fn replay(
    settings: &KafkaSettings,
    identity: &Identity,
    seed: u64,
    rows: &[&[u8]],
    go_on: &dyn Fn() -> bool,
) -> Result<Vec<Result<(), ReplayError>>, KafkaError> {
    let settings = KafkaSettings { delivery: Delivery::AtLeastOnce, ..settings.clone() };
    let link = client::producer(&settings, identity, BATCH_BYTES)?;
    let metadata = link.producer.client().fetch_metadata(Some(&settings.topic), Duration::from_secs(5))?;
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len()) as u64;
    if partitions == 0 {
        return Err(KafkaError::MetadataFetch(rdkafka::types::RDKafkaErrorCode::UnknownTopicOrPartition));
    }
    let mut taken = Vec::new();
    let mut send = |id: usize, row: &[u8]| {
        if !go_on() {
            return Err(ReplayError::NotTried);
        }
        let again = Again::of(settings.format, seed, row).ok_or(ReplayError::NotWhole)?;
        let key = (settings.format == Format::Row).then(|| format!("{:016x}", again.series));
        let partition = (again.series % partitions) as i32;
        let mut record = BaseRecord::<str, [u8], usize>::with_opaque_to(&settings.topic, id).partition(partition).payload(&again.row);
        record.key = key.as_deref();
        record.headers =
            settings.format.header().map(|format| OwnedHeaders::new().insert(Header { key: "sluice-format", value: Some(format) }));
        link.producer.send(record).map_err(|(error, _)| refused(&error))?;
        // One after the other: order is kept, and each has an outcome of its own.
        loop {
            link.producer.poll(Duration::from_millis(5));
            link.signals.drain_taken(&mut taken);
            // By its number: the answer to one that was given up may still come.
            if taken.contains(&id) {
                return Ok(());
            }
            if let Some(refusal) = link.signals.take_refusal().filter(|refusal| refusal.id == id) {
                return Err(refused(&refusal.code));
            }
            if !go_on() {
                return Err(refused(&"no answer in time"));
            }
        }
    };
    Ok(rows.iter().enumerate().map(|(id, row)| send(id, row)).collect())
}

fn refused(why: &dyn std::fmt::Display) -> ReplayError {
    ReplayError::Refused(format!("kafka did not take it: {why}"))
}

impl Again {
    /// Reads the labels back from the row; marks it late, which it is.
    fn of(format: Format, seed: u64, row: &[u8]) -> Option<Again> {
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
        let labels: Vec<Label<'_>> = labels.into_iter().map(|(name, value)| Label::new(seed, name, value)).collect();
        let mut row = text.to_owned();
        if format != Format::Adapter && !json.contains_key("late") {
            // Inside a string the quotes would be escaped, so this is the key and nothing else.
            row = row.replacen(",\"labels\":{", ",\"late\":true,\"labels\":{", 1);
        }
        if format == Format::Rows {
            row.push('\n');
        }
        Some(Again { row: row.into_bytes(), series: series_hash(&labels, &[]) })
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
                let Some(again) = Again::of(format, 9, &row) else { continue };
                sent += 1;
                assert!(again.row.len() <= row.len() + 16, "SEED={seed}");
                assert!(serde_json::from_slice::<serde_json::Value>(&again.row).is_ok(), "SEED={seed}");
            }
        }
        assert!(sent > 0 || std::env::var("SEED").is_ok());
        // Nested beyond what any row of ours is: refused, not followed.
        let deep = [br#"{"ts":1,"labels":{"a":"#.to_vec(), b"[".repeat(100_000)].concat();
        assert_eq!(Again::of(Format::Rows, 9, &deep), None);
    }

    #[test]
    fn a_row_tells_its_series_and_is_late_when_sent_again() {
        let labels =
            [("__name__", "up"), ("a", "x\"y,\"labels\":{"), ("job", "node"), ("ts", "t")].map(|(name, value)| Label::new(9, name, value));
        let series = series_hash(&labels, &[]);
        let mut row = Vec::new();
        let sample = Row { labels: &labels, time: 5, value: Value::Float(1.5), late: false, series, item: 0 };
        RowEncoder::new(Columns::default()).encode(&sample, &mut row);
        let again = Again::of(Format::Row, 9, &row).unwrap();
        assert_eq!(again.series, series);
        let mut late = Vec::new();
        RowEncoder::new(Columns::default()).encode(&Row { late: true, ..sample }, &mut late);
        assert_eq!(String::from_utf8(again.row).unwrap(), String::from_utf8(late.clone()).unwrap());
        assert_eq!(Again::of(Format::Row, 9, &late).unwrap().row, late, "marked once");
        assert_eq!(Again::of(Format::Row, 9, &row[..row.len() - 3]), None);
        assert_eq!(Again::of(Format::Adapter, 9, &row), None);
    }
}

//! What messages hold in the formats that are no rows, read back by others' eyes.

use super::desk::desk;
use super::*;
use crate::config::kafka::Registry;
use crate::config::remote_write::ClientTls;
use crate::forward::avro;
use crate::wire::pack::Bounds;
use crate::wire::pack::Packing;
use crate::wire::pack::unpack;
use crate::wire::remote_write::Limits;
use crate::wire::remote_write::Protocol;
use crate::wire::remote_write::Walker;

/// What each series counted, by a request's content.
pub(super) fn requests(got: &[Got], unpacked: impl Fn(&[u8]) -> Vec<u8>) -> BTreeMap<u64, Vec<u64>> {
    let mut series: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for message in got {
        let raw = unpacked(&message.payload);
        assert!(raw.len() <= 256 * 1024 + 1024, "{}", raw.len());
        let mut walker = Walker::new(0);
        let walked = walker.walk(Protocol::V1, &raw, &Limits::default(), &mut |one| {
            assert_eq!((one.fault, one.points.len()), (None, 1));
            let number: u64 = one.labels.iter().find(|label| label.name == "s").unwrap().value.parse().unwrap();
            assert_eq!(number % PARTITIONS as u64, message.partition as u64, "a series keeps its partition");
            series.entry(number).or_default().push(f64::from_bits(one.points[0].bits) as u64);
        });
        walked.unwrap();
    }
    series
}

#[track_caller]
fn counts(series: &BTreeMap<u64, Vec<u64>>, samples: u64) {
    assert_eq!(series.len(), 7);
    for (number, values) in series {
        assert_eq!(values, &(0..(samples - number).div_ceil(7)).collect::<Vec<_>>(), "series {number}");
    }
}

fn delivered_as(bench: &Bench, samples: u64) -> Vec<Got> {
    bench.shard.emit(7, samples);
    let sink = bench.start();
    delivered(bench, &sink);
    stop(sink);
    bench.read(samples as usize)
}

#[test]
fn a_remote_write_record_is_a_packed_request_of_many_series() {
    let bench = bench().format("remote-write");
    bench.shard.emit(7, 3_000);
    let sink = bench.start();
    let mut listener = sink.listen();
    delivered(&bench, &sink);
    bench.shard.emit(7, 7);
    let shown = bench.runtime.block_on(async { tokio::time::timeout(LONG, listener.next()).await }).unwrap().unwrap();
    assert!(serde_json::from_slice::<serde_json::Value>(&shown).unwrap()["labels"]["s"].is_string(), "people see rows");
    delivered(&bench, &sink);
    stop(sink);
    let got = bench.read(4);
    assert!(got.len() <= 15, "{} messages for 3,007 samples", got.len());
    let unpacked = |packed: &[u8]| {
        let mut raw = Vec::new();
        unpack(Packing::Snappy, packed, Bounds::default(), &mut raw).unwrap();
        raw
    };
    counts(&requests(&got, unpacked), 3_007);
    assert!(got.iter().all(|message| message.key.is_none() && message.headers["sluice-format"] == "remote-write/1.0"));
}

#[test]
fn a_record_for_mimir_is_the_bare_request_with_the_tenant_as_key() {
    let mut bench = bench().format("mimir");
    bench.draft.tenant = Some("nj1".into());
    bench.shard.emit(7, 3_000);
    let sink = bench.start();
    delivered(&bench, &sink);
    stop(sink);
    let got = bench.read(4);
    counts(&requests(&got, <[u8]>::to_vec), 3_000);
    assert!(got.iter().all(|message| message.key.as_deref() == Some("nj1") && !message.headers.contains_key("Version")));
}

/// What Avro's own reader finds in a message.
fn counted_in(message: &[u8]) -> (u64, u64) {
    use apache_avro::types::Value;
    let schema = apache_avro::Schema::parse_str(avro::SCHEMA).unwrap();
    let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema).build().unwrap();
    let Value::Record(fields) = reader.read_value(&mut &message[..]).unwrap() else { panic!() };
    let field = |name: &str| fields.iter().find(|(field, _)| field == name).unwrap().1.clone();
    let Value::Map(labels) = field("labels") else { panic!() };
    let Value::String(series) = &labels["s"] else { panic!() };
    let Value::Union(1, value) = field("v") else { panic!() };
    let Value::Double(value) = *value else { panic!() };
    (series.parse().unwrap(), value as u64)
}

#[test]
fn an_avro_message_is_one_sample_with_its_series_as_key() {
    for delivery in ["exactly_once", "at_least_once"] {
        let got = delivered_as(&bench().format("avro").delivery(delivery), 50);
        let mut series: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for message in &got {
            let (number, value) = counted_in(&message.payload);
            assert_eq!(message.key, Some(format!("{number:016x}")));
            assert_eq!(message.headers["sluice-format"], "avro/1");
            series.entry(number).or_default().push(value);
        }
        counts(&series, 50);
    }
}

#[test]
fn the_schemas_number_comes_from_the_registry_and_nothing_is_sent_or_lost_until_it_does() {
    let desk = desk();
    let dir = tempfile::tempdir().unwrap();
    let password_file = dir.path().join("password");
    std::fs::write(&password_file, "secret\n").unwrap();
    let login = crate::config::remote_write::Login::Basic { username: "sluice".into(), password_file };
    let mut bench = bench().format("avro");
    let registry =
        Registry { url: format!("{}/api/", desk.address), login: Some(login), tls: ClientTls::default(), subject: None, register: true };
    bench.draft.registry = Some(registry);
    bench.shard.emit(7, 50);
    let sink = bench.start();
    assert!(trouble(&sink, "registry").text.contains("503"));
    for (status, body, words) in [
        (401, "{}", "basic_auth"),
        (409, r#"{"error_code":409,"message":"incompatible"}"#, "another schema"),
        (200, "{}", "is the URL that of a schema registry"),
    ] {
        *desk.says.lock().unwrap() = (status, body.to_owned());
        eventually(words, || view(&sink).trouble.filter(|shown| shown.code == "registry" && shown.remedy.contains(words)));
    }
    assert_eq!(view(&sink).position, 0);
    *desk.says.lock().unwrap() = (200, r#"{"id":66051}"#.to_owned());
    delivered(&bench, &sink);
    stop(sink);
    let got = bench.read(50);
    assert_eq!(got.len(), 50);
    for message in &got {
        assert_eq!(message.payload[..5], [0, 0, 1, 2, 3]);
        counted_in(&message.payload[5..]);
    }
    let heard = desk.heard.lock().unwrap();
    let last = heard.last().unwrap();
    assert!(last.starts_with("POST /api/subjects/metrics-value/versions HTTP/1.1\r\n"), "{last}");
    assert!(last.contains("authorization: Basic c2x1aWNlOnNlY3JldA=="), "{last}");
    let body: serde_json::Value = serde_json::from_str(last.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(body["schema"].as_str(), Some(avro::SCHEMA));
}

#[test]
fn a_registry_may_be_asked_only() {
    let desk = desk();
    let mut bench = bench().format("avro").delivery("at_least_once");
    let registry =
        Registry { url: desk.address.clone(), login: None, tls: ClientTls::default(), subject: Some("samples".into()), register: false };
    bench.draft.registry = Some(registry);
    *desk.says.lock().unwrap() = (404, r#"{"error_code":40403,"message":"Schema not found"}"#.to_owned());
    bench.shard.emit(7, 5);
    let sink = bench.start();
    assert!(trouble(&sink, "registry").remedy.contains("sluice schema avro"));
    *desk.says.lock().unwrap() = (200, r#"{"subject":"samples","id":1,"version":3,"schema":"..."}"#.to_owned());
    delivered(&bench, &sink);
    stop(sink);
    assert!(desk.heard.lock().unwrap().iter().all(|one| one.starts_with("POST /subjects/samples HTTP/1.1\r\n")));
}

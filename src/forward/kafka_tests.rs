//! The Kafka sink against librdkafka's mock cluster. What that cannot show (fencing, aborts, positions, ACLs) is shown with a real Kafka
//! in the end-to-end tests.

mod desk;
mod faults;
mod formats;
mod pace;
mod routes;
mod tenants;
mod tokens;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::consumer::BaseConsumer;
use rdkafka::consumer::Consumer;
use rdkafka::message::Headers;
use rdkafka::topic_partition_list::Offset;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaApiKey as Api;
use rdkafka::types::RDKafkaRespErr as Wrong;

use crate::clock;
use crate::forward::Shaping;
use crate::forward::Sink;
use crate::forward::SinkIdentity;
use crate::forward::Target;
use crate::forward::mock::MockKafka;
use crate::forward::settings::KafkaDraft;
use crate::forward::settings::KafkaSettings;
use crate::forward::source::Source;
use crate::forward::source::SourceError;
use crate::forward::standin::LONG;
use crate::forward::standin::Sample;
use crate::forward::standin::Shard;
use crate::forward::standin::eventually;
use crate::forward::standin::stop;
use crate::forward::standin::trouble;
use crate::forward::standin::view;
use crate::forward::view::Phase;

const PARTITIONS: i32 = 3;
/// A topic, a shard, and a runtime for the few futures.
struct Bench {
    kafka: MockKafka,
    shard: Arc<Shard>,
    runtime: tokio::runtime::Runtime,
    draft: KafkaDraft,
}

fn bench() -> Bench {
    let kafka = MockKafka::start("metrics", PARTITIONS).unwrap();
    let draft = KafkaDraft {
        brokers: vec![kafka.address()],
        topic: "metrics".into(),
        transaction_ms: Some(50),
        // Reconnecting at once keeps the tests short.
        properties: [("reconnect.backoff.max.ms", "100"), ("reconnect.backoff.ms", "20")]
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
        ..KafkaDraft::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    Bench { kafka, shard: Shard::new(), runtime, draft }
}

impl Bench {
    fn delivery(mut self, delivery: &str) -> Bench {
        self.draft.delivery = Some(delivery.into());
        self
    }

    fn format(mut self, format: &str) -> Bench {
        self.draft.format = Some(format.into());
        self
    }

    fn start(&self) -> Sink {
        let identity = SinkIdentity { cluster: "c".into(), seal: "one-of-a-kind".into(), sink: "platform".into(), node: 7 };
        let target = Target::Kafka(Arc::new(KafkaSettings::check(&self.draft).unwrap()));
        let source: Arc<dyn Source> = Arc::clone(&self.shard) as Arc<dyn Source>;
        Sink::start(target, &Shaping::default(), &identity, vec![(1, source)], self.runtime.handle()).unwrap()
    }

    /// All messages, until there are so many rows (or no more come).
    fn read(&self, rows: usize) -> Vec<Got> {
        self.read_topic("metrics", PARTITIONS, rows)
    }

    fn read_topic(&self, topic: &str, partitions: i32, rows: usize) -> Vec<Got> {
        read_at(&self.kafka.address(), topic, partitions, rows)
    }
}

fn read_at(kafka: &str, topic: &str, partitions: i32, rows: usize) -> Vec<Got> {
    let reader: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", kafka).set("group.id", "reader").set("enable.auto.commit", "false").create().unwrap();
    let mut all = TopicPartitionList::new();
    for partition in 0..partitions {
        all.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    reader.assign(&all).unwrap();
    let mut got: Vec<Got> = Vec::new();
    let until = clock::now() + LONG;
    while clock::now() < until {
        let enough = got.iter().map(|message| message.rows.len()).sum::<usize>() >= rows;
        // Once there are enough, a moment longer: what is too many must show.
        match reader.poll(Duration::from_millis(if enough { 300 } else { 1000 })) {
            Some(Ok(message)) => got.push(Got::new(&message)),
            Some(Err(_)) => {}
            None if enough => break,
            None => {}
        }
    }
    got
}

#[derive(Clone)]
struct Got {
    partition: i32,
    key: Option<String>,
    headers: BTreeMap<String, String>,
    /// Of formats that are text; of others one for each message.
    rows: Vec<serde_json::Value>,
    text: String,
    payload: Vec<u8>,
}

impl Got {
    fn new(message: &rdkafka::message::BorrowedMessage<'_>) -> Got {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let payload = message.payload().unwrap().to_vec();
        let headers = message.headers().map_or_else(BTreeMap::new, |headers| {
            headers.iter().map(|header| (header.key.to_owned(), text(header.value.unwrap()))).collect()
        });
        let readable = std::str::from_utf8(&payload).ok().filter(|text| text.starts_with('{')).map(str::to_owned);
        let rows = readable
            .as_ref()
            .map_or(vec![serde_json::Value::Null], |text| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect());
        let text_of = readable.unwrap_or_default();
        Got { partition: message.partition(), key: message.key().map(text), headers, rows, text: text_of, payload }
    }
}

/// What each series counted, in the order of its partition.
fn counted(got: &[Got]) -> BTreeMap<u64, Vec<u64>> {
    let mut series: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for message in got {
        for row in &message.rows {
            let number: u64 = row["labels"]["s"].as_str().unwrap().parse().unwrap();
            assert_eq!(number % PARTITIONS as u64, message.partition as u64, "a series keeps its partition");
            series.entry(number).or_default().push(row["v"].as_u64().unwrap());
        }
    }
    series
}

#[track_caller]
fn each_once_in_order(got: &[Got], series: u64, samples: u64) {
    let counted = counted(got);
    for number in 0..series {
        let expect: Vec<u64> = (0..(samples - number).div_ceil(series)).collect();
        assert_eq!(counted.get(&number), Some(&expect), "series {number}");
    }
}

/// None missing, and nothing but repeats out of order.
#[track_caller]
fn none_missing(got: &[Got], series: u64, samples: u64) {
    for (number, values) in counted(got) {
        let mut next = 0;
        for value in values {
            assert!(value <= next, "series {number}: {value} came before {next}");
            next = next.max(value + 1);
        }
        assert_eq!(next, (samples - number).div_ceil(series), "series {number}");
    }
}

fn delivered(bench: &Bench, sink: &Sink) {
    let last = bench.shard.last();
    eventually(&format!("emission {last}"), || (view(sink).position == last).then_some(()));
}

fn once_over_restarts(bench: &Bench) {
    for _ in 0..3 {
        let sink = bench.start();
        for _ in 0..10 {
            bench.shard.emit(7, 500);
        }
        delivered(bench, &sink);
        bench.shard.emit(7, 500);
        stop(sink);
    }
    let sink = bench.start();
    delivered(bench, &sink);
    eventually("the cursor", || (bench.shard.cursor_now().emission == bench.shard.last()).then_some(()));
    stop(sink);
    let got = bench.read(16_500);
    each_once_in_order(&got, 7, 16_500);
    let cursor = bench.shard.cursor_now();
    assert_eq!((cursor.delivered, cursor.filtered, cursor.dead), (16_500, 0, 0));
}

#[test]
fn transactions_deliver_each_row_once_and_in_order_over_restarts() {
    once_over_restarts(&bench());
}

#[test]
fn at_least_once_delivers_each_row_once_when_it_is_stopped_in_order() {
    once_over_restarts(&bench().delivery("at_least_once"));
}

#[test]
fn errors_that_a_broker_takes_back_lose_nothing_and_repeat_only_what_was_aborted() {
    let bench = bench();
    let errors = [
        Wrong::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        Wrong::RD_KAFKA_RESP_ERR__TRANSPORT,
        Wrong::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
    ];
    let sink = bench.start();
    for round in 0..5 {
        bench.shard.emit(7, 2_000);
        bench.kafka.cluster().request_errors(Api::Produce, &errors);
        let coordinator = Wrong::RD_KAFKA_RESP_ERR_NOT_COORDINATOR;
        bench.kafka.cluster().request_errors(if round % 2 == 0 { Api::AddOffsetsToTxn } else { Api::EndTxn }, &[coordinator]);
        delivered(&bench, &sink);
    }
    let aborts = view(&sink).sums.aborts;
    stop(sink);
    let got = bench.read(10_000);
    if aborts == 0 {
        each_once_in_order(&got, 7, 10_000);
    } else {
        // librdkafka may give up a transaction that lost its connection; the mock shows its rows too, a real broker does not.
        none_missing(&got, 7, 10_000);
    }
}

#[test]
fn a_broker_that_goes_and_comes_back_costs_no_row_and_no_restart() {
    for delivery in ["exactly_once", "at_least_once"] {
        let bench = bench().delivery(delivery);
        let sink = bench.start();
        bench.shard.emit(7, 1_000);
        delivered(&bench, &sink);
        bench.kafka.cluster().broker_down(1).unwrap();
        for _ in 0..5 {
            bench.shard.emit(7, 1_000);
        }
        let shown = trouble(&sink, "unreachable");
        assert!(shown.remedy.contains("check that the brokers run"), "{shown:?}");
        eventually("the lag", || (view(&sink).lag_samples >= 4_000).then_some(()));
        bench.kafka.cluster().broker_up(1).unwrap();
        delivered(&bench, &sink);
        eventually("no trouble", || view(&sink).trouble.is_none().then_some(()));
        stop(sink);
        none_missing(&bench.read(6_000), 7, 6_000);
    }
}

#[test]
fn a_broker_that_is_not_there_at_the_start_is_waited_for() {
    let bench = bench();
    bench.kafka.cluster().broker_down(1).unwrap();
    bench.shard.emit(7, 1_000);
    let sink = bench.start();
    trouble(&sink, "unreachable");
    bench.kafka.cluster().broker_up(1).unwrap();
    delivered(&bench, &sink);
    assert_eq!(view(&sink).phase, Phase::Running);
    stop(sink);
    each_once_in_order(&bench.read(1_000), 7, 1_000);
}

#[test]
fn a_crash_repeats_at_most_what_the_cursor_had_not_seen() {
    let bench = bench().delivery("at_least_once");
    let sink = bench.start();
    for _ in 0..4 {
        bench.shard.emit(7, 500);
    }
    delivered(&bench, &sink);
    stop(sink);
    // The log of a node that died before its last cursor entries.
    let other = Bench { shard: Shard::new(), ..bench };
    for _ in 0..6 {
        other.shard.emit(7, 500);
    }
    let sink = other.start();
    delivered(&other, &sink);
    stop(sink);
    let got = other.read(5_000);
    none_missing_from(&got);
    let repeats: Vec<&Got> = got.iter().filter(|message| message.headers["sluice-emission"] == "2").collect();
    assert!(repeats.len() >= 2, "a reader can tell repeats by their headers");
    assert_eq!(repeats[0].text, repeats.iter().find(|again| again.partition == repeats[0].partition).unwrap().text);
}

#[track_caller]
fn none_missing_from(got: &[Got]) {
    for (number, values) in counted(got) {
        let last = values.iter().max().copied().unwrap();
        assert_eq!(last, (3_000 - number).div_ceil(7) - 1);
        assert!((0..=last).all(|wanted| values.contains(&wanted)), "series {number}");
    }
}

#[test]
fn a_row_that_is_too_large_becomes_a_dead_letter_and_the_others_go() {
    for delivery in ["exactly_once", "at_least_once"] {
        let bench = bench().delivery(delivery);
        let sample = |number, filling| Sample { series: 0, number, filling, exemplar: false };
        bench.shard.emit_these(vec![sample(0, 10), sample(1, 1_500_000), sample(2, 10)]);
        bench.shard.emit_these(vec![sample(3, 10), Sample { exemplar: true, ..sample(4, 10) }]);
        let sink = bench.start();
        delivered(&bench, &sink);
        let noted = view(&sink).notes;
        assert!(noted.iter().any(|note| note.code == "rows_too_large" && note.remedy.contains("max.message.bytes")), "{noted:?}");
        stop(sink);
        let dead = bench.shard.dead();
        assert_eq!(dead.iter().map(|dead| (dead.emission, dead.item)).collect::<Vec<_>>(), [(1, 1)], "{delivery}");
        assert!(dead[0].reason.contains("too large") && dead[0].payload.starts_with(b"{\"ts\":"));
        assert_eq!(dead[0].payload.len(), 64 * 1024);
        let mut values = counted(&bench.read(3)).remove(&0).unwrap();
        values.dedup();
        assert_eq!(values, [0, 2, 3], "{delivery}");
        let cursor = bench.shard.cursor_now();
        assert_eq!((cursor.delivered, cursor.filtered, cursor.dead), (3, 1, 1), "{delivery}");
    }
}

#[test]
fn a_batch_that_the_broker_finds_too_large_is_cut_smaller() {
    let bench = bench();
    bench.kafka.cluster().request_errors(Api::Produce, &[Wrong::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    bench.shard.emit(7, 2_000);
    let sink = bench.start();
    delivered(&bench, &sink);
    assert!(view(&sink).notes.iter().any(|note| note.code == "messages_too_large"), "{:?}", view(&sink).notes);
    stop(sink);
    assert_eq!(bench.shard.dead(), []);
    // The mock shows aborted rows too.
    none_missing(&bench.read(2_000), 7, 2_000);
}

#[test]
fn what_is_denied_is_named_with_its_remedy_and_passes_when_granted() {
    let bench = bench();
    bench.kafka.cluster().topic_error("metrics", Wrong::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    bench.shard.emit(7, 100);
    let sink = bench.start();
    let shown = trouble(&sink, "topic_denied");
    assert!(shown.remedy.contains("grant WRITE and READ on topic metrics"), "{shown:?}");
    bench.kafka.cluster().topic_error("metrics", Wrong::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let shown = trouble(&sink, "topic_missing");
    assert!(shown.remedy.contains("create_topic"), "{shown:?}");
    bench.kafka.cluster().topic_error("metrics", Wrong::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    delivered(&bench, &sink);
    let denied = [Wrong::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 3];
    bench.kafka.cluster().request_errors(Api::TxnOffsetCommit, &denied[..1]);
    bench.shard.emit(7, 100);
    eventually("an abort", || (view(&sink).sums.aborts > 0).then_some(()));
    delivered(&bench, &sink);
    stop(sink);
}

#[test]
fn a_transactional_id_that_is_denied_is_named() {
    let bench = bench();
    let denied = [Wrong::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED; 4];
    bench.kafka.cluster().request_errors(Api::InitProducerId, &denied[..1]);
    bench.shard.emit(7, 100);
    let sink = bench.start();
    let shown = trouble(&sink, "transaction_denied");
    assert!(shown.remedy.contains("transactional id sluice-c-platform-1") && shown.remedy.contains("at_least_once"), "{shown:?}");
    delivered(&bench, &sink);
    stop(sink);
    each_once_in_order(&bench.read(100), 7, 100);
}

#[test]
fn a_worker_that_is_fenced_goes_on_once_and_stops_and_says_so_the_next_time() {
    let bench = bench();
    let sink = bench.start();
    let fenced = || bench.kafka.cluster().request_errors(Api::EndTxn, &[Wrong::RD_KAFKA_RESP_ERR_PRODUCER_FENCED]);
    bench.shard.emit(7, 100);
    delivered(&bench, &sink);
    fenced();
    bench.shard.emit(7, 100);
    delivered(&bench, &sink);
    fenced();
    bench.shard.emit(7, 100);
    let shown = trouble(&sink, "fenced");
    assert!(shown.text.contains("sluice-c-platform-1") && shown.remedy.contains("same name"), "{shown:?}");
    assert!(view(&sink).position < bench.shard.last());
    stop(sink);
}

#[test]
fn a_cut_by_the_budget_goes_on_after_the_cut_under_a_new_epoch() {
    let bench = bench();
    let sink = bench.start();
    bench.shard.emit(1, 10);
    delivered(&bench, &sink);
    eventually("the cursor", || (bench.shard.cursor_now().emission == 1).then_some(()));
    bench.kafka.cluster().broker_down(1).unwrap();
    for _ in 0..4 {
        bench.shard.emit(1, 10);
    }
    trouble(&sink, "unreachable");
    bench.shard.cut(3);
    bench.kafka.cluster().broker_up(1).unwrap();
    delivered(&bench, &sink);
    eventually("the new epoch", || (view(&sink).epoch == 2).then_some(()));
    stop(sink);
    let mut values = counted(&bench.read(30)).remove(&0).unwrap();
    // What was sent before the cut, in a transaction that was aborted, the mock shows too; from the cut on everything is there.
    values.sort_unstable();
    values.dedup();
    assert!((30..50).all(|wanted| values.contains(&wanted)), "{values:?}");
    let cursor = bench.shard.cursor_now();
    assert_eq!((cursor.delivered, cursor.dropped), (30, 20));
}

#[test]
fn a_cursor_entry_whose_outcome_is_unknown_counts_once() {
    let bench = bench();
    bench.shard.next_step(SourceError::Unknown);
    let sink = bench.start();
    bench.shard.emit(7, 100);
    delivered(&bench, &sink);
    eventually("a step", || (!bench.shard.steps().is_empty()).then_some(()));
    bench.shard.emit(7, 50);
    eventually("two steps", || (bench.shard.steps().len() == 2).then_some(()));
    stop(sink);
    assert_eq!(bench.shard.steps().iter().map(|step| step.delivered).collect::<Vec<_>>(), [100, 50]);
}

#[test]
fn a_body_that_is_gone_is_trouble_and_not_a_hole() {
    let bench = bench();
    bench.shard.lose_bodies(true);
    bench.shard.emit(7, 100);
    let sink = bench.start();
    assert!(trouble(&sink, "log").text.contains("is gone"));
    bench.shard.lose_bodies(false);
    delivered(&bench, &sink);
    stop(sink);
    each_once_in_order(&bench.read(100), 7, 100);
}

#[test]
fn a_sink_works_only_where_its_shard_is_led_and_not_while_paused() {
    let bench = bench();
    bench.shard.lead(false);
    bench.shard.emit(7, 100);
    let sink = bench.start();
    eventually("elsewhere", || (view(&sink).phase == Phase::Elsewhere).then_some(()));
    bench.shard.lead(true);
    delivered(&bench, &sink);
    bench.shard.pause(true);
    eventually("paused", || (view(&sink).phase == Phase::Paused).then_some(()));
    bench.shard.emit(7, 100);
    eventually("what waits to be told", || (view(&sink).lag_samples == 100).then_some(()));
    assert_eq!(view(&sink).position, 1);
    // From now on that is the business of whoever leads.
    bench.shard.lead(false);
    eventually("elsewhere again", || (view(&sink).lag_samples == 0).then_some(()));
    bench.shard.lead(true);
    bench.shard.pause(false);
    delivered(&bench, &sink);
    stop(sink);
}

#[test]
fn packed_messages_say_what_they_are_and_hold_many_rows() {
    let bench = bench();
    bench.shard.emit(7, 3_000);
    let sink = bench.start();
    delivered(&bench, &sink);
    stop(sink);
    let got = bench.read(3_000);
    assert!(got.len() <= 12, "{} messages for 3,000 rows", got.len());
    for message in &got {
        assert_eq!(message.headers["sluice-format"], "rows/1");
        assert_eq!((message.headers["sluice-cluster"].as_str(), message.headers["sluice-shard"].as_str()), ("c", "1"));
        assert_eq!((message.key.as_ref(), message.text.ends_with('\n')), (None, true));
    }
}

#[test]
fn a_row_a_message_has_the_series_as_key() {
    let bench = bench().format("row");
    bench.shard.emit(7, 50);
    let sink = bench.start();
    delivered(&bench, &sink);
    stop(sink);
    let got = bench.read(50);
    assert_eq!(got.len(), 50);
    for message in &got {
        assert_eq!(message.key, Some(format!("{:016x}", message.rows[0]["labels"]["s"].as_str().unwrap().parse::<u64>().unwrap())));
        assert_eq!(message.headers["sluice-format"], "rows/1");
        assert!(!message.text.ends_with('\n'));
    }
    each_once_in_order(&got, 7, 50);
}

#[test]
fn the_adapters_messages_have_no_key_and_no_headers() {
    let bench = bench().format("adapter");
    bench.shard.emit(1, 3);
    let sink = bench.start();
    delivered(&bench, &sink);
    stop(sink);
    let got = bench.read(3);
    assert_eq!(got.len(), 3);
    assert!(got.iter().all(|message| message.key.is_none() && message.headers.is_empty()));
    assert_eq!(got[2].rows[0]["value"].as_str(), Some("2"));
    assert_eq!(got[2].rows[0]["timestamp"].as_str(), Some("2026-09-21T14:13:20Z"));
}

#[test]
fn those_who_read_along_see_what_was_delivered() {
    let bench = bench();
    let sink = bench.start();
    let mut listener = sink.listen();
    bench.shard.emit(7, 20);
    let row = bench.runtime.block_on(async { tokio::time::timeout(LONG, listener.next()).await }).unwrap().unwrap();
    let row: serde_json::Value = serde_json::from_slice(&row).unwrap();
    assert_eq!(row["name"].as_str(), Some("counted"));
    stop(sink);
}

#[test]
fn a_stop_while_the_broker_is_gone_is_bounded_and_names_what_stays_undone() {
    let bench = bench().delivery("at_least_once");
    let sink = bench.start();
    bench.shard.emit(7, 10);
    delivered(&bench, &sink);
    bench.kafka.cluster().broker_down(1).unwrap();
    bench.shard.emit(7, 10);
    trouble(&sink, "unreachable");
    let began = clock::now();
    let undone = sink.stop(Duration::from_millis(500));
    assert!(clock::now() - began < Duration::from_secs(6));
    assert_eq!(undone.len(), 1);
    assert!(undone[0].starts_with("sink platform shard 1: 10 samples under way"), "{undone:?}");
}

#[test]
fn what_a_row_costs_can_be_measured() {
    let kafka = MockKafka::start("metrics", PARTITIONS).unwrap();
    // Few rows unless asked: the figures of docs/benchmarks.md come from `sluice bench rows` and from this test with more of them.
    let rows = std::env::var("SLUICE_BENCH_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(20_000);
    let encoded = crate::forward::measure::encode_rows(rows);
    println!("encode: {:.3} us a row of {} bytes", encoded.micros_a_row, encoded.bytes / encoded.rows);
    for compression in ["none", "lz4", "zstd"] {
        let cost = crate::forward::kafka::measure::produce_rows(&kafka.address(), "metrics", compression, rows).unwrap();
        println!("{compression}: encode and hand over {:.3}, librdkafka's threads {:.3} us a row", cost.own_micros, cost.client_micros);
        // A busy machine's CPU clocks are too coarse for more: no time is asserted.
        assert!(cost.own_micros.is_finite() && cost.client_micros.is_finite());
    }
}

#[test]
fn dead_letters_are_sent_again_late_and_where_their_series_is() {
    let bench = bench();
    let sample = |number, filling| Sample { series: 5, number, filling, exemplar: false };
    bench.shard.emit_these(vec![sample(0, 10), sample(1, 10)]);
    let sink = bench.start();
    delivered(&bench, &sink);
    let row = bench.read(2).remove(0).text.lines().next().unwrap().to_owned();
    let letter = |payload: &[u8]| crate::shard::command::DeadLetter { payload: payload.to_vec(), ..Default::default() };
    let outcomes = sink.resender().send((1, 0), &[letter(row.as_bytes()), letter(&row.as_bytes()[..50])], &|| true).unwrap();
    use crate::forward::resend::ReplayError;
    assert_eq!(outcomes, [Ok(()), Err(ReplayError::NotWhole)]);
    assert_eq!(sink.resender().send((1, 0), &[letter(row.as_bytes())], &|| false).unwrap(), [Err(ReplayError::NotTried)]);
    stop(sink);
    let again: Vec<serde_json::Value> =
        bench.read(3).into_iter().flat_map(|message| message.rows).filter(|row| row["late"] == true).collect();
    assert_eq!((again.len(), again[0]["v"].as_u64(), again[0]["labels"]["s"].as_str()), (1, Some(0), Some("5")));
}

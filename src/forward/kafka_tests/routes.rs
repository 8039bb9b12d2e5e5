//! Topics by labels, and partitions by keys.

use super::*;
use crate::config::kafka::Key;
use crate::config::kafka::Topics;
use crate::forward::route::java_partition;

fn topics(bench: &mut Bench, allow: &[&str], max: u64) {
    bench.draft.topic = "m.{{s}}".into();
    let allow = allow.iter().map(|pattern| (*pattern).to_owned()).collect();
    bench.draft.topics = Some(Topics { allow, max, fallback: "metrics".into() });
}

/// Values of each series in a topic.
fn values(got: &[Got]) -> BTreeMap<String, Vec<u64>> {
    let mut series: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for row in got.iter().flat_map(|message| &message.rows) {
        series.entry(row["labels"]["s"].as_str().unwrap().to_owned()).or_default().push(row["v"].as_u64().unwrap());
    }
    series
}

#[test]
fn labels_choose_the_topic_and_what_has_none_goes_aside_and_is_counted() {
    for delivery in ["exactly_once", "at_least_once"] {
        let mut bench = bench().delivery(delivery);
        for (topic, partitions) in [("m.0", 2), ("m.1", 3), ("m.5", 1)] {
            bench.kafka.cluster().create_topic(topic, partitions, 1).unwrap();
        }
        // Series 5 is not allowed, 2 has no topic, 3 and 4 neither; 6 is one more than there may be.
        topics(&mut bench, &["m.0", "m.1", "m.2"], 3);
        bench.shard.emit(7, 700);
        let sink = bench.start();
        delivered(&bench, &sink);
        bench.shard.emit(7, 700);
        delivered(&bench, &sink);
        let shown = view(&sink);
        assert_eq!((shown.sums.rows, shown.sums.aside), (1_400, 1_000), "{delivery}");
        let note = shown.notes.iter().find(|note| note.code == "topics_outside").unwrap();
        assert!(note.text.contains("went to metrics") && note.remedy.contains("topics.allow"), "{note:?}");
        assert!(sink.view().target.starts_with("m.{{s}} at "));
        stop(sink);
        let all: Vec<u64> = (0..200).collect();
        assert_eq!(values(&bench.read_topic("m.0", 2, 200)), BTreeMap::from([("0".to_owned(), all.clone())]), "{delivery}");
        assert_eq!(values(&bench.read_topic("m.1", 3, 200)), BTreeMap::from([("1".to_owned(), all.clone())]), "{delivery}");
        let aside = values(&bench.read(1_000));
        assert_eq!(aside.keys().collect::<Vec<_>>(), ["2", "3", "4", "5", "6"]);
        assert!(aside.values().all(|values| *values == all), "{delivery}");
        assert_eq!(bench.shard.cursor_now().delivered, 1_400);
    }
}

#[test]
fn senders_cannot_make_more_topics_than_there_may_be() {
    let mut bench = bench();
    topics(&mut bench, &[], 2);
    for number in 0..7 {
        bench.kafka.cluster().create_topic(&format!("m.{number}"), 1, 1).unwrap();
    }
    bench.shard.emit(7, 70);
    let sink = bench.start();
    delivered(&bench, &sink);
    let shown = view(&sink);
    assert_eq!(shown.sums.aside, 50);
    assert!(shown.notes.iter().any(|note| note.text.contains("there are 2 topics already")), "{:?}", shown.notes);
    stop(sink);
}

#[test]
fn a_topic_that_is_not_there_is_made_where_that_is_asked_for() {
    let mut bench = bench();
    topics(&mut bench, &["m.0", "m.1"], 20);
    bench.draft.create_topic = Some(crate::forward::settings::CreateTopic { partitions: 2, replication: 1 });
    bench.shard.emit(2, 20);
    let sink = bench.start();
    // The mock makes no topics by request; a real broker does (end to end).
    eventually("rows aside", || (view(&sink).sums.aside == 20).then_some(()));
    assert!(view(&sink).notes.iter().any(|note| note.text.contains("could not be created")), "{:?}", view(&sink).notes);
    stop(sink);
}

#[test]
fn a_key_of_labels_has_the_partition_that_javas_producer_gives_it() {
    let mut bench = bench().format("row");
    bench.draft.key = Some(Key::Labels(vec!["s".into(), "none".into()]));
    bench.shard.emit(50, 500);
    let sink = bench.start();
    delivered(&bench, &sink);
    stop(sink);
    let got = bench.read(500);
    let mut seen = BTreeMap::new();
    for message in &got {
        let key = format!("{},", message.rows[0]["labels"]["s"].as_str().unwrap());
        assert_eq!(message.key.as_ref(), Some(&key));
        assert_eq!(message.partition as usize, java_partition(key.as_bytes(), PARTITIONS as usize));
        *seen.entry(message.partition).or_insert(0) += 1;
    }
    assert_eq!((got.len(), seen.len()), (500, PARTITIONS as usize));
}

#[test]
fn packed_rows_share_the_partition_of_their_key_and_the_message_has_none() {
    let mut bench = bench();
    bench.draft.key = Some(Key::Labels(vec!["s".into()]));
    bench.shard.emit(50, 500);
    let sink = bench.start();
    delivered(&bench, &sink);
    stop(sink);
    for message in bench.read(500) {
        assert_eq!(message.key, None);
        for row in &message.rows {
            assert_eq!(message.partition as usize, java_partition(row["labels"]["s"].as_str().unwrap().as_bytes(), PARTITIONS as usize));
        }
    }
}

#[test]
fn without_a_key_partitions_are_filled_in_turn() {
    for (format, each) in [("row", 1), ("rows", 50)] {
        let mut bench = bench().format(format);
        bench.draft.key = Some(Key::None);
        bench.draft.rows_per_message = Some(50);
        bench.shard.emit(1, 600);
        let sink = bench.start();
        delivered(&bench, &sink);
        stop(sink);
        let got = bench.read(600);
        assert!(got.iter().all(|message| message.key.is_none() && message.rows.len() == each), "{format}");
        let mut by_partition = BTreeMap::new();
        got.iter().for_each(|message| *by_partition.entry(message.partition).or_insert(0) += message.rows.len());
        assert_eq!(by_partition, BTreeMap::from([(0, 200), (1, 200), (2, 200)]), "{format}");
        let mut all: Vec<u64> = values(&got).remove("0").unwrap();
        all.sort_unstable();
        assert_eq!(all, (0..600).collect::<Vec<_>>(), "{format}");
    }
}

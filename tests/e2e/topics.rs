//! Topics that change under a sink: partitions are added, a topic is deleted and made anew, several clusters and sinks share one, a data directory is
//! wiped, topics are chosen by labels. With a real broker, since librdkafka's mock deletes nothing and keeps no position.

use crate::support::check::{Received, receive};
use crate::support::gate::Samples;
use crate::support::kafka::{Kafka, Reader, Record};
use crate::support::load::Sender;
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, now_ms};
use crate::support::sluice::Sluice;
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(120);

/// The sink as `sluice sink list` shows it.
pub(super) fn shown(sluice: &Sluice, name: &str) -> Json {
    let list: Json = serde_json::from_str(&sluice.ask(&["sink", "list", "--json"])).expect("JSON");
    let sinks = list["sinks"].as_array().expect("sinks").iter();
    sinks.into_iter().find(|sink| sink["name"] == name).cloned().unwrap_or_else(|| panic!("no sink {name}: {list}"))
}

/// Waits until the sink says this, as a trouble or as a note.
#[track_caller]
pub(super) fn wait_said(sluice: &Sluice, sink: &str, code: &str) {
    eventually(LONG, &format!("{sink} to say {code}"), || {
        let sink = shown(sluice, sink);
        let said = ["troubles", "notes"].iter().filter_map(|kind| sink[*kind].as_array()).flatten().any(|one| one["code"] == code);
        if said { Ok(()) } else { Err(format!("{} {}", sink["troubles"], sink["notes"])) }
    });
}

/// Waits until nothing waits for the sinks, and nothing is wrong.
#[track_caller]
pub(super) fn wait_delivered(sluice: &Sluice, sinks: &[&str]) {
    for name in sinks {
        eventually(LONG, &format!("{name} to have delivered"), || {
            let sink = shown(sluice, name);
            let done = sink["pending"] == 0 && sink["troubles"].as_array().is_some_and(Vec::is_empty);
            if done { Ok(()) } else { Err(sink.to_string()) }
        });
    }
}

fn sink(name: &str, kafka: &Kafka, topic: &str, delivery: &str, more: &str) -> String {
    let address = kafka.address();
    format!("  - name: {name}\n    kafka: {{ brokers: [\"{address}\"], topic: \"{topic}\", format: rows, delivery: {delivery}{more} }}\n")
}

fn sender(group: &str) -> Sender {
    Sender { group: group.to_owned(), replica: "a".to_owned(), series: 20, interval: 250, offset: 0 }
}

/// A cluster's name and a topic's, used by nobody else.
fn own(what: &str) -> String {
    format!("{what}-{}-{}", std::process::id(), fastrand::u32(..))
}

fn received(records: &[Record]) -> Received {
    let mut received = Received::new();
    receive(&mut received, records);
    received
}

/// Each sample from this time on is there once, and none that nobody sent.
#[track_caller]
pub(super) fn each_once(received: &Received, acknowledged: &Samples, from: i64, what: &str) {
    assert!(!acknowledged.is_empty());
    for (series, samples) in acknowledged {
        let mut times: Vec<i64> = received.get(series).into_iter().flatten().map(|one| one.row.time).collect();
        times.sort_unstable();
        let all = times.len();
        times.dedup();
        assert_eq!(all, times.len(), "{what}: {series} has a sample twice");
        let sent: BTreeSet<i64> = samples.keys().copied().filter(|time| *time >= from).collect();
        let got: BTreeSet<i64> = times.into_iter().filter(|time| *time >= from).collect();
        let missing: Vec<&i64> = sent.difference(&got).collect();
        assert!(missing.is_empty(), "{what}: {series} lacks {} of {} samples, among them {:?}", missing.len(), sent.len(), missing[0]);
    }
}

#[test]
fn partitions_that_are_added_are_used_and_each_sample_is_there_once() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let kafka = Kafka::shared();
    let (exact, least) = (own("grown"), own("grown-least"));
    for topic in [&exact, &least] {
        kafka.create_topic(topic, 2);
    }
    let scratch = Scratch::new("grown");
    let sinks = sink("exact", &kafka, &exact, "exactly_once", "") + &sink("least", &kafka, &least, "at_least_once", "");
    let mut sluice = Sluice::prepare_with(&scratch, &own("grown"), &sinks, None);
    sluice.up();
    let running = sender("grown").start(sluice.address());
    eventually(LONG, "samples", || if running.acknowledged() > 100 { Ok(()) } else { Err(running.acknowledged().to_string()) });
    for topic in [&exact, &least] {
        kafka.add_partitions(topic, 5);
    }
    for name in ["exact", "least"] {
        wait_said(&sluice, name, "partitions_changed");
    }
    let before = running.acknowledged();
    eventually(LONG, "samples after that", || if running.acknowledged() > before + 200 { Ok(()) } else { Err(String::new()) });
    let account = running.stop();
    assert_eq!(account.refused, Vec::<String>::new());
    wait_delivered(&sluice, &["exact", "least"]);
    for topic in [&exact, &least] {
        let records = kafka.reader(topic).drain();
        let used: BTreeSet<i32> = records.iter().map(|record| record.partition).collect();
        assert!(used.iter().any(|partition| *partition >= 2), "{topic}: {used:?}");
        each_once(&received(&records), &account.acknowledged, 0, topic);
    }
    sluice.stop();
}

#[test]
fn a_topic_that_is_deleted_and_made_anew_gets_all_that_came_since_once() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let scratch = Scratch::new("anew");
    // One that makes no topics by being asked after them.
    let authority = crate::support::tls::Authority::new(scratch.sub("tls"));
    let kafka = Kafka::secured("anew-kafka", &authority);
    let topics = ["exact", "least"];
    topics.iter().for_each(|topic| kafka.create_topic(topic, 2));
    let sinks = sink("exact", &kafka, "exact", "exactly_once", "") + &sink("least", &kafka, "least", "at_least_once", "");
    let mut sluice = Sluice::prepare_with(&scratch, &own("anew"), &sinks, None);
    sluice.up();
    let running = sender("anew").start(sluice.address());
    eventually(LONG, "samples", || if running.acknowledged() > 200 { Ok(()) } else { Err(running.acknowledged().to_string()) });
    topics.iter().for_each(|topic| kafka.delete_topic(topic));
    topics.iter().for_each(|name| wait_said(&sluice, name, "topic_missing"));
    // A broker goes on taking rows for a topic for some moments after it has deleted it, and they are gone with it.
    let missing = now_ms();
    let before = running.acknowledged();
    eventually(LONG, "samples meanwhile", || if running.acknowledged() > before + 100 { Ok(()) } else { Err(String::new()) });
    topics.iter().for_each(|topic| kafka.create_topic(topic, 3));
    let before = running.acknowledged();
    eventually(LONG, "samples after that", || if running.acknowledged() > before + 200 { Ok(()) } else { Err(String::new()) });
    let account = running.stop();
    assert_eq!(account.refused, Vec::<String>::new());
    wait_delivered(&sluice, &topics);
    for topic in topics {
        let received = received(&kafka.reader(topic).drain());
        each_once(&received, &account.acknowledged, missing, topic);
    }
    sluice.stop();
}

#[test]
fn two_clusters_and_two_sinks_of_each_share_a_topic_and_each_writes_each_sample_once() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let kafka = Kafka::shared();
    let topic = own("shared");
    kafka.create_topic(&topic, 3);
    let sinks = ["one", "two"].map(|name| sink(name, &kafka, &topic, "exactly_once", "")).concat();
    let clusters = [own("first"), own("second")];
    let scratches = [Scratch::new("first"), Scratch::new("second")];
    let mut nodes = [0, 1].map(|at| Sluice::prepare_with(&scratches[at], &clusters[at], &sinks, None));
    nodes.iter_mut().for_each(Sluice::up);
    let running = [0, 1].map(|at| sender(&format!("group-{at}")).start(nodes[at].address()));
    for _ in 0..3 {
        let before = running[0].acknowledged();
        eventually(LONG, "samples", || if running[0].acknowledged() > before + 100 { Ok(()) } else { Err(String::new()) });
        nodes[0].kill();
        nodes[0].up();
    }
    let accounts = running.map(crate::support::load::Running::stop);
    nodes.iter().for_each(|node| wait_delivered(node, &["one", "two"]));
    let records = kafka.reader(&topic).drain();
    for (cluster, account) in clusters.iter().zip(&accounts) {
        for name in ["one", "two"] {
            let header = |record: &Record, key: &str| record.headers.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
            let of = |record: &&Record| {
                header(record, "sluice-cluster").as_ref() == Some(cluster) && header(record, "sluice-sink").as_deref() == Some(name)
            };
            let own: Vec<Record> = records.iter().filter(of).cloned().collect();
            each_once(&received(&own), &account.acknowledged, 0, &format!("{cluster} {name}"));
        }
    }
    nodes.iter_mut().for_each(Sluice::stop);
}

#[test]
fn a_wiped_node_does_not_take_up_another_clusters_position_and_goes_on_under_another_name() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let kafka = Kafka::shared();
    let topic = own("wiped");
    kafka.create_topic(&topic, 2);
    let scratch = Scratch::new("wiped");
    let name = own("wiped");
    let mut sluice = Sluice::prepare_with(&scratch, &name, &sink("platform", &kafka, &topic, "exactly_once", ""), None);
    sluice.up();
    let running = sender("wiped").start(sluice.address());
    eventually(LONG, "samples", || if running.acknowledged() > 200 { Ok(()) } else { Err(running.acknowledged().to_string()) });
    let first = running.stop();
    wait_delivered(&sluice, &["platform"]);
    sluice.kill();
    std::fs::remove_dir_all(sluice.data()).expect("the data");
    sluice.up();
    let running = sender("wiped").start(sluice.address());
    wait_said(&sluice, "platform", "position_foreign");
    let second = running.stop();
    assert_eq!(second.refused, Vec::<String>::new(), "it takes data all the same");
    // What it says is done: the cluster gets another name.
    let config = std::fs::read_to_string(sluice.config()).expect("the configuration");
    std::fs::write(sluice.config(), config.replace(&name, &own("renamed"))).expect("the configuration");
    sluice.kill();
    sluice.up();
    wait_delivered(&sluice, &["platform"]);
    let received = received(&kafka.reader(&topic).drain());
    each_once(&received, &first.acknowledged, 0, "before");
    each_once(&received, &second.acknowledged, 0, "after");
    sluice.stop();
}

#[test]
fn labels_choose_topics_which_are_made_and_one_transaction_spans_them() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let kafka = Kafka::shared();
    let base = own("by-label");
    let other = format!("{base}.other");
    let scratch = Scratch::new("by-label");
    let more = format!(
        ", topics: {{ allow: [\"{base}.load-*\"], fallback: {other} }}, create_topic: {{ partitions: 2, replication: 1 }}, transaction_age: 200ms"
    );
    let sinks = sink("platform", &kafka, &format!("{base}.{{{{cluster}}}}"), "exactly_once", &more);
    let mut sluice = Sluice::prepare_with(&scratch, &own("by-label"), &sinks, None);
    sluice.up();
    let groups = ["load-1", "load-2", "stranger"];
    let running = groups.map(|group| sender(group).start(sluice.address()));
    for _ in 0..3 {
        let before = running[0].acknowledged();
        eventually(LONG, "samples", || if running[0].acknowledged() > before + 200 { Ok(()) } else { Err(String::new()) });
        sluice.kill();
        sluice.up();
    }
    let accounts = running.map(crate::support::load::Running::stop);
    wait_delivered(&sluice, &["platform"]);
    wait_said(&sluice, "platform", "topics_outside");
    let read = |topic: &str| -> Received {
        let reader: Reader = kafka.reader(topic);
        received(&reader.drain())
    };
    for (group, account) in groups.iter().zip(&accounts) {
        let topic = if *group == "stranger" { other.clone() } else { format!("{base}.{group}") };
        let received = read(&topic);
        assert_eq!(received.len(), 20, "{topic}: {} of {other}: {}", received.len(), shown(&sluice, "platform")["notes"]);
        each_once(&received, &account.acknowledged, 0, &topic);
    }
    let metrics = sluice.get("/metrics").text();
    assert!(metrics.contains("sluice_sink_fallback_rows_total{sink=\"platform\""), "{metrics}");
    sluice.stop();
}

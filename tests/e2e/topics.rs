//! Topics that change under a sink: partitions are added, a topic is deleted and made anew, several clusters and sinks share one, a data directory is
//! wiped, topics are chosen by labels. With a real broker, since librdkafka's mock deletes nothing and keeps no position.

use crate::support::check::{Received, receive};
use crate::support::gate::Samples;
use crate::support::kafka::{Kafka, Record};
use crate::support::load::Sender;
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, now_ms};
use crate::support::sluice::Sluice;
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(120);

/// The sink as `sluice sink list` shows it.
pub fn shown(sluice: &Sluice, name: &str) -> Json {
    let list: Json = serde_json::from_str(&sluice.ask(&["sink", "list", "--json"])).expect("JSON");
    let sinks = list["sinks"].as_array().expect("sinks").iter();
    sinks.into_iter().find(|sink| sink["name"] == name).cloned().unwrap_or_else(|| panic!("no sink {name}: {list}"))
}

/// Waits until the sink says this, as a trouble or as a note.
#[track_caller]
pub fn wait_said(sluice: &Sluice, sink: &str, code: &str) {
    eventually(LONG, &format!("{sink} to say {code}"), || {
        let sink = shown(sluice, sink);
        let said = ["troubles", "notes"].iter().filter_map(|kind| sink[*kind].as_array()).flatten().any(|one| one["code"] == code);
        if said { Ok(()) } else { Err(format!("{} {}", sink["troubles"], sink["notes"])) }
    });
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

/// Each sample from this time on is there once.
fn each_once(received: &Received, acknowledged: &Samples, from: i64, repeats: bool) -> Result<(), String> {
    for (series, samples) in acknowledged {
        let mut times: Vec<i64> = received.get(series).into_iter().flatten().map(|one| one.row.time).collect();
        times.sort_unstable();
        let all = times.len();
        times.dedup();
        if !repeats && all != times.len() {
            return Err(format!("{series} has a sample twice"));
        }
        let sent: BTreeSet<i64> = samples.keys().copied().filter(|time| *time >= from).collect();
        let got: BTreeSet<i64> = times.into_iter().filter(|time| *time >= from).collect();
        if let Some(first) = sent.difference(&got).next() {
            return Err(format!("{series} lacks some of {} samples, the first at {first}", sent.len()));
        }
    }
    if acknowledged.is_empty() { Err("nothing was acknowledged".to_owned()) } else { Ok(()) }
}

/// What is expected in a topic.
pub struct Expected<'a> {
    pub acknowledged: &'a Samples,
    /// From this time on.
    pub from: i64,
    /// Samples may be there twice.
    pub repeats: bool,
}

impl<'a> Expected<'a> {
    pub fn all(acknowledged: &'a Samples) -> Expected<'a> {
        Expected { acknowledged, from: 0, repeats: false }
    }

    /// Reads the topic, of it what is wanted, until all is there.
    #[track_caller]
    pub fn arrives(&self, kafka: &Kafka, topic: &str, wanted: &dyn Fn(&Record) -> bool) -> (Received, BTreeSet<i32>) {
        let reader = kafka.reader(topic);
        let (mut received, mut partitions) = (Received::new(), BTreeSet::new());
        eventually(LONG, &format!("{topic} to hold all"), || {
            let records: Vec<Record> = reader.drain().into_iter().filter(|record| wanted(record)).collect();
            partitions.extend(records.iter().map(|record| record.partition));
            receive(&mut received, &records);
            each_once(&received, self.acknowledged, self.from, self.repeats)
        });
        (received, partitions)
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
    for topic in [&exact, &least] {
        let (_, used) = Expected::all(&account.acknowledged).arrives(&kafka, topic, &|_| true);
        assert!(used.iter().any(|partition| *partition >= 2), "{topic}: {used:?}");
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
    for topic in topics {
        Expected { from: missing, ..Expected::all(&account.acknowledged) }.arrives(&kafka, topic, &|_| true);
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
    for (cluster, account) in clusters.iter().zip(&accounts) {
        for name in ["one", "two"] {
            let header = |record: &Record, key: &str| record.headers.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
            let of = |record: &Record| {
                header(record, "sluice-cluster").as_ref() == Some(cluster) && header(record, "sluice-sink").as_deref() == Some(name)
            };
            Expected::all(&account.acknowledged).arrives(&kafka, &topic, &of);
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
    Expected::all(&first.acknowledged).arrives(&kafka, &topic, &|_| true);
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
    Expected::all(&second.acknowledged).arrives(&kafka, &topic, &|_| true);
    Expected::all(&first.acknowledged).arrives(&kafka, &topic, &|_| true);
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
    // A process says it of rows that it delivers itself.
    wait_said(&sluice, "platform", "topics_outside");
    let accounts = running.map(crate::support::load::Running::stop);
    for (group, account) in groups.iter().zip(&accounts) {
        let topic = if *group == "stranger" { other.clone() } else { format!("{base}.{group}") };
        let (received, _) = Expected::all(&account.acknowledged).arrives(&kafka, &topic, &|_| true);
        assert_eq!(received.len(), 20, "{topic}: {}", shown(&sluice, "platform")["notes"]);
    }
    let metrics = sluice.get("/metrics").text();
    assert!(metrics.contains("sluice_sink_fallback_rows_total{sink=\"platform\""), "{metrics}");
    sluice.stop();
}

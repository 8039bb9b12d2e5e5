//! A sink on a real shard: requests of a replica pair offered to a node on disk, read back from Kafka, over a restart of both.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::consumer::BaseConsumer;
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::Offset;
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::clock;
use crate::forward::Shaping;
use crate::forward::Sink;
use crate::forward::SinkIdentity;
use crate::forward::Target;
use crate::forward::mock::MockKafka;
use crate::forward::settings::KafkaDraft;
use crate::forward::settings::KafkaSettings;
use crate::forward::shard_log::ShardLog;
use crate::forward::source::Source;
use crate::model::ShardId;
use crate::node::Handle;
use crate::node::offer::Offer;
use crate::node::settings::Reserve;
use crate::node::settings::Settings;
use crate::node::start::Node;
use crate::shard::command::Policy;
use crate::shard::command::SinkSettings;
use crate::shard::command::Start;
use crate::wire::digest;
use crate::wire::encode::Encoder;
use crate::wire::encode::NewSeries;
use crate::wire::encode::Sample;
use crate::wire::measure;
use crate::wire::pack;
use crate::wire::remote_write::Limits;
use crate::wire::remote_write::Protocol;
use crate::wire::remote_write::Walker;

const SERIES: usize = 50;

fn offer(handle: &Handle, settings: u64, replica: &str, time: i64) -> Offer {
    let mut encoder = Encoder::new(Protocol::V2);
    for number in 0..SERIES {
        let name = number.to_string();
        let labels = [("__name__", "m"), ("__replica__", replica), ("job", "上海"), ("n", &*name)];
        let sample = Sample::new(time, time as f64 / 1000.0);
        encoder.push(&NewSeries { labels: &labels, samples: &[sample], ..NewSeries::default() });
    }
    let (mut raw, mut packed, mut items, mut encoded) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    encoder.finish(&mut raw);
    measure::digest_of(&mut Walker::new(handle.hash_seed()), (Protocol::V2, &raw), &Limits::default(), &mut items).unwrap();
    pack::pack_snappy(&raw, &mut packed);
    digest::encode(&items, &mut encoded);
    Offer {
        group: "g".into(),
        replica: replica.into(),
        protocol: Protocol::V2,
        packing: pack::Packing::Snappy,
        strip: vec!["__replica__".into()],
        settings,
        digest: encoded,
        body: packed.into(),
        unpacked: None,
        bare: Vec::new(),
        claim: None,
    }
}

#[track_caller]
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = clock::now() + Duration::from_secs(30);
    while !holds() {
        assert!(clock::now() < until, "it never came: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn start(node: &Node, kafka: &MockKafka, runtime: &tokio::runtime::Runtime) -> (Sink, ShardId) {
    let handle = &node.handle;
    let sink =
        SinkSettings { name: "k".into(), start: Start::Oldest, budget_bytes: 1 << 40, budget_ms: i64::MAX / 2, policy: Policy::DropOldest };
    let shard = runtime.block_on(async {
        handle.ready().await.unwrap();
        handle.set_sinks(&[sink], 0).await.unwrap();
        handle.assign("g").await.unwrap()
    });
    let draft = KafkaDraft { brokers: vec![kafka.address()], topic: "metrics".into(), transaction_ms: Some(50), ..KafkaDraft::default() };
    let identity = SinkIdentity { cluster: "c".into(), seal: handle.cluster_id(), sink: "k".into(), node: 7 };
    let source: Arc<dyn Source> = Arc::new(ShardLog::new(handle.clone(), shard, "k", false, runtime.handle().clone()));
    let target = Target::Kafka(Arc::new(KafkaSettings::check(&draft).unwrap()));
    (Sink::start(target, &Shaping::default(), &identity, vec![(shard.0, source)], runtime.handle()).unwrap(), shard)
}

#[test]
fn a_pairs_samples_reach_kafka_once_over_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let kafka = MockKafka::start("metrics", 2).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let begin = clock::wall_ms() - 60_000;
    for round in 0..2 {
        let settings = Settings { data_shards: 2, reserve: Reserve::Bytes(1), ..Settings::new(directory.path()) };
        let node = Node::start(settings, Box::new(|reason| eprintln!("fatal: {reason}"))).unwrap();
        let handle = node.handle.clone();
        let (sink, shard) = start(&node, &kafka, &runtime);
        runtime.block_on(async {
            for step in round * 10..round * 10 + 10 {
                let version = handle.settings_version(shard);
                handle.offer(offer(&handle, version, "a", begin + step * 1000)).await.unwrap();
                handle.offer(offer(&handle, version, "b", begin + step * 1000 + 300)).await.unwrap();
            }
        });
        let wanted = (round as u64 + 1) * 10 * SERIES as u64;
        eventually("the cursor", || handle.cursors(shard).first().is_some_and(|cursor| cursor.delivered >= wanted && cursor.pending == 0));
        assert_eq!(sink.stop(Duration::from_secs(5)), Vec::<String>::new());
        assert_eq!(node.stop(), Vec::<String>::new());
    }
    let reader: BaseConsumer = ClientConfig::new().set("bootstrap.servers", kafka.address()).set("group.id", "r").create().unwrap();
    let mut all = TopicPartitionList::new();
    (0..2).for_each(|partition| all.add_partition_offset("metrics", partition, Offset::Beginning).unwrap());
    reader.assign(&all).unwrap();
    let mut times = vec![Vec::new(); SERIES];
    let mut quiet = 0;
    while quiet < 3 {
        let Some(Ok(message)) = reader.poll(Duration::from_millis(500)) else {
            quiet += 1;
            continue;
        };
        quiet = 0;
        for line in std::str::from_utf8(message.payload().unwrap()).unwrap().lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!((row["job"].as_str(), row["labels"].get("__replica__")), (Some("上海"), None));
            let (time, value) = (row["ts"].as_i64().unwrap(), row["v"].as_f64().unwrap());
            assert_eq!(value, time as f64 / 1000.0);
            times[row["labels"]["n"].as_str().unwrap().parse::<usize>().unwrap()].push(time);
        }
    }
    let expect: Vec<i64> = (0..20).map(|step| begin + step * 1000).collect();
    assert!(times.iter().all(|times| *times == expect), "{:?}", times[0]);
}

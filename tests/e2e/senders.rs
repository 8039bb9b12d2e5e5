//! docs/senders.md, typed: what the page tells people to write, given to the real senders.
//!
//! Blocks are taken from the page as they stand; only addresses, ports, paths and the interval of scrapes change. Each time two replicas
//! write to one sluice, and the samples must arrive once, as the group and the replicas that the page promises. Not here: the Operator
//! itself, which needs a Kubernetes. What it would make of the page's block is written out below, as it generates it.

use super::manual::{blocks_of, root};
use crate::support::check::{Case, Received, receive};
use crate::support::exporter::Exporter;
use crate::support::gate::{Gate, Samples};
use crate::support::http::Client;
use crate::support::kafka::Kafka;
use crate::support::peers::{Peer, need};
use crate::support::process::{Process, Scratch, eventually, free_port, let_pass};
use crate::support::sluice::Sluice;
use serde_json::Value as Json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The page scrapes every 15 seconds; ten scrapes of that would be a long test.
const INTERVAL: (&str, &str) = ("15s", "3s");
const INTERVAL_MS: i64 = 3_000;
const SERIES: usize = 30;
/// What stands in the page for the sender's target and for sluice.
const TARGET: &str = "127.0.0.1:9090";
const SLUICE: &str = "127.0.0.1:9201";

/// The text below a heading of the page, up to the next.
pub(super) fn section(heading: &str) -> String {
    let page = std::fs::read_to_string(root().join("docs/senders.md")).expect("docs/senders.md");
    let begin = page.find(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("docs/senders.md has no `{heading}`"));
    let rest = &page[begin + 1..];
    rest.split("\n## ").next().expect("a part").to_owned()
}

/// The one block of a section in this language.
pub(super) fn block(heading: &str, language: &str) -> String {
    let blocks = blocks_of(&section(heading), language);
    assert_eq!(blocks.len(), 1, "docs/senders.md, `{heading}`: blocks of `{language}`");
    blocks[0].clone()
}

/// A text with every one of these replaced; each must be there, or the page has become another one than this test knows.
pub(super) fn typed(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "the page does not say `{from}` any more:\n{text}");
        text.replace(from, to)
    })
}

/// Senders that write through gates into one sluice.
struct Scene {
    kafka: Arc<Kafka>,
    topic: String,
    exporter: Exporter,
    sluice: Sluice,
    gates: Vec<Gate>,
    senders: Vec<Process>,
    scratch: Scratch,
}

impl Scene {
    fn new(name: &str) -> Scene {
        let kafka = Kafka::shared();
        let topic = format!("{name}-{}", fastrand::u32(..));
        kafka.create_topic(&topic, 4);
        let scratch = Scratch::new(name);
        let sluice = Sluice::start(&scratch, &kafka.address(), &topic, "");
        Scene { kafka, topic, exporter: Exporter::start(1, SERIES), sluice, gates: Vec::new(), senders: Vec::new(), scratch }
    }

    /// A new gate to sluice, and its address as the page's `127.0.0.1:9201`.
    fn gate(&mut self) -> String {
        self.gates.push(Gate::to(self.sluice.address()));
        self.gates.last().expect("pushed").address().to_string()
    }

    fn target(&self) -> String {
        self.exporter.address().to_string()
    }

    /// A Prometheus with this configuration, started as people start it.
    fn prometheus(&mut self, configuration: &str, args: &[String]) {
        let number = self.senders.len();
        let dir = self.scratch.sub(&format!("prometheus-{number}"));
        std::fs::write(dir.join("prometheus.yml"), configuration).expect("configuration");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut line = vec!["--config.file=prometheus.yml".to_owned(), format!("--web.listen-address={address}")];
        line.extend_from_slice(args);
        let process = Process::start(&format!("prometheus {number}"), "prometheus", &line, &dir, &dir.join("log"));
        self.ready(process, address);
    }

    /// Waits until a sender takes calls, then until its first samples are acknowledged: the first one started leads.
    fn ready(&mut self, mut process: Process, address: SocketAddr) {
        let mut client = Client::new(address);
        eventually(Duration::from_secs(60), "a sender to be up", || {
            assert!(process.ended().is_none(), "it ended: {}", process.log_tail(3000));
            client.call("GET", "/metrics").map(drop).map_err(|error| error.to_string())
        });
        self.senders.push(process);
        let gate = self.gates.last().expect("a gate a sender");
        eventually(Duration::from_secs(60), "the sender's first samples", || {
            if gate.newest() > 0 { Ok(()) } else { Err(format!("{} requests, refused: {:?}", gate.requests(), gate.refusals())) }
        });
    }

    /// Groups as `sluice group list` has them: name, leader, all replicas that wrote.
    fn groups(&self) -> Vec<(String, String, Vec<String>)> {
        let list: Json = serde_json::from_str(&self.sluice.ask(&["group", "list", "--json"])).expect("JSON");
        let text = |json: &Json| json.as_str().unwrap_or_default().to_owned();
        let group = |one: &Json| {
            let replicas = one["replicas"].as_array().expect("replicas").iter();
            let wrote = replicas.filter(|one| one["samples"].as_u64() > Some(0)).map(|one| text(&one["name"])).collect();
            (text(&one["name"]), text(&one["leader"]), wrote)
        };
        list["groups"].as_array().expect("groups").iter().map(group).collect()
    }

    /// Lets them scrape, ends them, and holds Kafka against what the gates saw. `groups`: every group with its replicas, the leader first;
    /// gates were made in that order.
    #[track_caller]
    fn finish(mut self, groups: &[(&str, &[&str])]) {
        let_pass(Duration::from_secs(30));
        let wanted: Vec<(String, String, Vec<String>)> = groups
            .iter()
            .map(|(name, all)| ((*name).to_owned(), all[0].to_owned(), all.iter().map(|one| (*one).to_owned()).collect()))
            .collect();
        eventually(Duration::from_secs(30), "the groups of the page", || {
            let found = self.groups();
            if found == wanted { Ok(()) } else { Err(format!("{found:?}, wanted {wanted:?}")) }
        });
        for sender in &mut self.senders {
            sender.terminate(Duration::from_secs(90));
        }
        assert_eq!(self.sluice.metric("sluice_ingest_unidentified_total", ""), 0.0);
        let mut acknowledged: Vec<Samples> = Vec::new();
        let mut offered: Vec<Samples> = Vec::new();
        for gate in &self.gates {
            assert_eq!(gate.refusals(), Vec::<String>::new());
            acknowledged.push(gate.acknowledged());
            offered.push(gate.offered());
        }
        let scrapes = acknowledged.iter().map(|one| one.values().map(|times| times.len()).max().unwrap_or(0));
        assert!(scrapes.clone().all(|count| count >= 6), "too few scrapes to say anything: {:?}", scrapes.collect::<Vec<_>>());
        let case = Case { interval: INTERVAL_MS, acknowledged: &acknowledged, offered: &offered };
        let reader = self.kafka.reader(&self.topic);
        let mut received = Received::new();
        let seen = eventually(Duration::from_secs(100), "Kafka to hold what was acknowledged", || {
            receive(&mut received, &reader.drain());
            case.check(&received)
        });
        // Once and not twice: half of what came at most, but for the first scrapes.
        let sent: usize = acknowledged.iter().flat_map(|one| one.values()).map(std::collections::BTreeMap::len).sum();
        let copies = groups.iter().map(|(_, replicas)| replicas.len()).max().unwrap_or(1);
        assert!(seen.rows * copies < sent * 3 / 2, "{} rows of {sent} samples from {copies} copies: {seen:?}", seen.rows);
        self.sluice.stop();
        receive(&mut received, &reader.drain());
        case.check(&received).unwrap_or_else(|problems| panic!("after the end: {problems}"));
    }
}

/// The page's Prometheus, as replica a and as "the other one".
fn pair(name: &str, args: &[String]) {
    let mut scene = Scene::new(name);
    let target = scene.target();
    for replica in ["a", "b"] {
        let gate = scene.gate();
        let text = typed(&block("Prometheus", "yaml"), &[INTERVAL, (TARGET, &target), (SLUICE, &gate)]);
        let text = if replica == "a" { text } else { typed(&text, &[("__replica__: a ", "__replica__: b ")]) };
        scene.prometheus(&text, args);
    }
    scene.finish(&[("shop-eu-1", &["a", "b"])]);
}

#[test]
fn the_pages_prometheus_is_a_pair() {
    if need(&[Peer::Kafka, Peer::Prometheus]) {
        pair("page-prometheus", &["--storage.tsdb.path=data".to_owned()]);
    }
}

#[test]
fn the_pages_agents_are_a_pair() {
    if !need(&[Peer::Kafka, Peer::Prometheus]) {
        return;
    }
    let output = std::process::Command::new("prometheus").arg("--version").output().expect("prometheus");
    let version = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let flag = if version.contains("version 2.") { "--enable-feature=agent" } else { "--agent" };
    assert!(section("Agent mode").contains(&format!("`{flag}`")), "the page does not name {flag}");
    pair("page-agent", &[flag.to_owned(), "--storage.agent.path=data".to_owned()]);
}

#[test]
fn both_urls_of_the_page_name_group_and_replica_without_labels() {
    if !need(&[Peer::Kafka, Peer::Prometheus]) {
        return;
    }
    let mut scene = Scene::new("page-url");
    let block = block("Without labels: by URL", "yaml");
    let other = block.lines().find_map(|line| line.trim().strip_prefix("# the same: ")).expect("the other spelling").to_owned();
    let first = block.lines().find_map(|line| line.trim().strip_prefix("- url: ")).expect("the URL").to_owned();
    // Everything of the page's Prometheus but its external labels.
    let plain = self::block("Prometheus", "yaml");
    let (head, rest) = plain.split_once("  external_labels:\n").expect("external labels");
    let scrapes = &rest[rest.find("scrape_configs:").expect("scrape_configs")..rest.find("remote_write:").expect("remote_write")];
    for url in [typed(&first, &[]), typed(&other, &[("/replicas/a/", "/replicas/b/")])] {
        let (target, gate) = (scene.target(), scene.gate());
        let written = block.replace(&first, &url);
        scene.prometheus(
            &typed(&format!("{head}{scrapes}{written}"), &[INTERVAL, (TARGET, &target), (SLUICE, &gate)]),
            &["--storage.tsdb.path=data".to_owned()],
        );
    }
    scene.finish(&[("shop-eu-1", &["a", "b"])]);
}

/// The word behind `key: ` in a block.
fn value_of<'a>(block: &'a str, key: &str) -> &'a str {
    let rest = block.split_once(&format!("{key}: ")).unwrap_or_else(|| panic!("no `{key}` in {block}")).1;
    rest.split([' ', ',', '\n']).next().expect("a word")
}

/// `prometheus.yml` as the Operator generates it for the page's object: its external labels, and the page's URL.
fn of_operator(object: &str, pod: &str, target: &str, gate: &str) -> String {
    let url = typed(value_of(object, "url"), &[("sluice.monitoring.svc:9201", gate)]);
    format!(
        "global:\n  evaluation_interval: 30s\n  scrape_interval: {}\n  external_labels:\n    prometheus: {}/{}\n    prometheus_replica: {pod}\n\
         scrape_configs:\n- job_name: demo\n  static_configs:\n  - targets: [\"{target}\"]\nremote_write:\n- url: {url}\n",
        INTERVAL.1,
        value_of(object, "namespace"),
        value_of(object, "name"),
    )
}

#[test]
fn what_the_operator_generates_is_a_pair_and_each_of_its_shards_another() {
    if !need(&[Peer::Kafka, Peer::Prometheus]) {
        return;
    }
    let mut scene = Scene::new("page-operator");
    let object = block("Prometheus Operator", "yaml");
    assert_eq!(value_of(&object, "replicas"), "2");
    // The second shard scrapes other targets in truth; here another exporter stands for them.
    let shard = Exporter::start(1, SERIES);
    let targets = [scene.target(), scene.target(), shard.address().to_string()];
    for (pod, target) in ["prometheus-k8s-0", "prometheus-k8s-1", "prometheus-k8s-shard-1-0"].into_iter().zip(targets) {
        let gate = scene.gate();
        scene.prometheus(&of_operator(&object, pod, &target, &gate), &["--storage.tsdb.path=data".to_owned()]);
    }
    let page = section("Prometheus Operator");
    assert!(page.contains("`prometheus-k8s-shard-1-0`") && page.contains("`monitoring/k8s/shard-1`"), "{page}");
    scene.finish(&[
        ("monitoring/k8s", &["prometheus-k8s-0", "prometheus-k8s-1"]),
        ("monitoring/k8s/shard-1", &["prometheus-k8s-shard-1-0"]),
    ]);
}

#[test]
fn the_pages_vmagents_are_a_pair() {
    if !need(&[Peer::Kafka, Peer::Prometheus, Peer::Vmagent]) {
        return;
    }
    let mut scene = Scene::new("page-vmagent");
    let line = block("vmagent", "").replace("\\\n", " ");
    // A scrape.yml is what stands in any Prometheus' configuration up to `remote_write`, without external labels.
    let plain = block("Prometheus", "yaml");
    let (head, rest) = plain.split_once("  external_labels:\n").expect("external labels");
    let scrapes = &rest[rest.find("scrape_configs:").expect("scrape_configs")..rest.find("remote_write:").expect("remote_write")];
    let knows_zstd = vmagent_knows_zstd();
    for replica in ["a", "b"] {
        let (target, gate) = (scene.target(), scene.gate());
        let dir = scene.scratch.sub(&format!("vmagent-{replica}"));
        std::fs::write(dir.join("scrape.yml"), typed(&format!("{head}{scrapes}"), &[INTERVAL, (TARGET, &target)])).expect("file");
        let line = typed(&line, &[(SLUICE, &gate)]);
        let line = if replica == "a" { line } else { typed(&line, &[("_replica=a", "_replica=b")]) };
        let mut words = line.split_whitespace().map(str::to_owned);
        let program = words.next().expect("a program");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut args: Vec<String> = words.collect();
        args.extend([format!("-httpListenAddr={address}"), "-remoteWrite.tmpDataPath=queue".to_owned()]);
        let process = Process::start(&format!("vmagent {replica}"), &program, &args, &dir, &dir.join("log"));
        scene.ready(process, address);
    }
    let packings: Vec<Vec<String>> = scene.gates.iter().map(Gate::packings).collect();
    let wanted = if knows_zstd { "zstd" } else { "snappy" };
    assert!(packings.iter().all(|all| *all == [wanted]), "{packings:?}, and this vmagent's is {wanted}");
    scene.finish(&[("shop-eu-1", &["a", "b"])]);
}

/// vmagent speaks zstd from 1.88 on, which is also when the flag that forces it came.
fn vmagent_knows_zstd() -> bool {
    let output = std::process::Command::new("vmagent").arg("-help").output().expect("vmagent");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).contains("-remoteWrite.forceVMProto")
}

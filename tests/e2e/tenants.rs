//! Tenants with the real binary: equal series of two of them, from two replicas each, through a header, a URL and a token, to a real store, to real Kafka, and to a stand-in that
//! notes what requests say of themselves (VictoriaMetrics' cluster and Mimir are packaged nowhere). And two datacenters that write one topic.

use crate::support::http::{Client, Http, Server};
use crate::support::kafka::Kafka;
use crate::support::load::Sender;
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, now_ms};
use crate::support::prompb::decode_v1;
use crate::support::sluice::{Sluice, write_request};
use crate::support::stores::{Kind, Store};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(90);
const SERIES: usize = 20;
const ROUNDS: i64 = 10;

fn own(what: &str) -> String {
    format!("{what}-{}-{}", std::process::id(), fastrand::u32(..))
}

fn replica(name: &str) -> Sender {
    Sender { group: "k8s".to_owned(), replica: name.to_owned(), series: SERIES, interval: 1000, offset: 0 }
}

/// A request of this sender at this path, perhaps with a header and a token.
fn send(sluice: &Sluice, body: Vec<u8>, path: &str, header: Option<&str>, token: Option<&str>) -> Http {
    let mut request = write_request(body);
    request.first = format!("POST {path} HTTP/1.1");
    request.headers.extend(header.map(|tenant| ("X-Scope-OrgID".to_owned(), tenant.to_owned())));
    let client = Client::new(sluice.address());
    let mut client = if let Some(token) = token { client.with_token(token) } else { client };
    client.send(&request).expect("an answer")
}

/// What requests said of themselves: path and header, and the samples of each.
type Told = Arc<Mutex<BTreeMap<(String, String), usize>>>;

fn noting() -> (Server, Told) {
    let told = Told::default();
    let kept = Arc::clone(&told);
    let server = Server::start(move |request| {
        let (path, tenant) = (request.target().1.to_owned(), request.header("x-scope-orgid").unwrap_or_default().to_owned());
        let samples = decode_v1(&request.body).iter().map(|series| series.samples.len()).sum::<usize>();
        *kept.lock().unwrap().entry((path, tenant)).or_default() += samples;
        Some(Http::answer(204, ""))
    });
    (server, told)
}

/// Rows of a topic, each as its tenant's label, number and time.
fn rows(kafka: &Kafka, topic: &str, label: &str, expected: usize) -> Vec<(String, String, i64)> {
    let (reader, mut rows) = (kafka.reader(topic), Vec::new());
    eventually(LONG, &format!("{topic} to hold {expected}"), || {
        for line in reader.drain().iter().flat_map(|record| record.payload.split(|byte| *byte == b'\n')).filter(|line| !line.is_empty()) {
            let row: Json = serde_json::from_slice(line).expect("a row");
            let text = |name: &str| row["labels"][name].as_str().unwrap_or_default().to_owned();
            rows.push((text(label), text("number"), row["ts"].as_i64().expect("a time")));
        }
        if rows.len() >= expected { Ok(()) } else { Err(format!("{}", rows.len())) }
    });
    rows
}

#[test]
fn equal_series_of_two_tenants_are_kept_apart_from_the_door_to_every_sink() {
    if !need(&[Peer::Kafka, Peer::VictoriaMetrics]) {
        return;
    }
    let (kafka, scratch) = (Kafka::shared(), Scratch::new("tenants"));
    let (topic, store) = (own("tenants"), Store::start(&scratch, Kind::VictoriaMetrics));
    for name in ["", ".team-a", ".team-b"] {
        kafka.create_topic(&format!("{topic}{name}"), 2);
    }
    let ((by_url, urls), (by_header, headers)) = (noting(), noting());
    let sinks = format!(
        "  - name: by-tenant
    kafka: {{ brokers: [\"{broker}\"], topic: \"{topic}.{{{{__tenant__}}}}\", topics: {{ allow: [\"{topic}.team-*\"], fallback: {topic} }}, format: rows }}
  - name: victoria
    relabel_configs: [{{ source_labels: [__tenant__], target_label: team }}]
    remote_write: {{ url: \"{victoria}\" }}
  - name: cluster
    remote_write: {{ url: \"http://{by_url}/insert/{{{{__tenant__}}}}/prometheus/api/v1/write\", tenant: \"0\" }}
  - name: mimir
    match: '{{__tenant__=~\"team-.+\"}}'
    remote_write: {{ url: \"http://{by_header}/api/v1/push\", pass_tenant: true }}
groups:
  tenant: {{ header: X-Scope-OrgID }}
",
        broker = kafka.address(),
        victoria = store.url(),
        by_url = by_url.address,
        by_header = by_header.address
    );
    let mut sluice = Sluice::prepare_with(&scratch, &own("tenants"), &sinks, None);
    sluice.up();
    // From the first token on one is wanted: those of a tenant bind it.
    let token = |args: &[&str]| sluice.ask(&[&["token", "create"], args].concat()).trim().to_owned();
    let (free, bound) = (token(&["free"]), token(&["of-b", "--tenant", "team-b"]));
    let start = now_ms() / 1000 * 1000 - ROUNDS * 1000;
    for round in 0..ROUNDS {
        for name in ["a", "b"] {
            let body = || replica(name).body(start + round * 1000);
            let ways = [("/api/v1/write", Some("team-a"), &free), ("/api/v1/push", None, &bound), ("/api/v1/write", None, &free)];
            for (path, header, token) in ways {
                let answer = send(&sluice, body(), path, header, Some(token));
                assert_eq!(answer.status(), 204, "{path} {header:?}: {}", answer.text());
            }
        }
    }
    // What does not agree is told, and not taken.
    let body = || replica("a").body(start);
    for (path, header, token) in [
        ("/api/v1/write", Some("team-a"), &bound),
        ("/tenants/team-a/api/v1/write", None, &bound),
        ("/tenants/a/api/v1/write", Some("b"), &free),
    ] {
        let answer = send(&sluice, body(), path, header, Some(token));
        assert!(answer.status() == 400 && answer.text().contains("leave one out"), "{path}: {} {}", answer.status(), answer.text());
    }
    // Kafka: a topic for each, and each sample once, though two replicas sent it.
    let each = SERIES * ROUNDS as usize;
    for (name, expected) in [("", each), (".team-a", each), (".team-b", each)] {
        let rows = rows(&kafka, &format!("{topic}{name}"), "__tenant__", expected);
        assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), rows.len(), "{name}: twice");
        assert!(rows.len() == expected && rows.iter().all(|(tenant, ..)| tenant.is_empty()), "{name}: no row has the label");
    }
    // A real store: three series where there would be one.
    eventually(LONG, "the store to hold all", || {
        let samples = store.samples();
        let of = |team: &str| samples.iter().filter(|(series, _)| series.contains(team)).map(|(_, times)| times.len()).sum::<usize>();
        let (a, b, all) = (of("team=\"team-a\""), of("team=\"team-b\""), samples.values().map(BTreeMap::len).sum::<usize>());
        if (a, b, all) == (each, each, 3 * each) {
            Ok(())
        } else {
            Err(format!("{a} {b} {all} of {each} each: {:?}", samples.keys().next()))
        }
    });
    // Requests say whose they are, and hold nobody else's.
    let said = |told: &Told| told.lock().unwrap().clone();
    let insert = |tenant: &str| (format!("/insert/{tenant}/prometheus/api/v1/write"), String::new());
    let push = |tenant: &str| ("/api/v1/push".to_owned(), tenant.to_owned());
    for (told, expected) in
        [(&urls, vec![insert("0"), insert("team-a"), insert("team-b")]), (&headers, vec![push("team-a"), push("team-b")])]
    {
        let expected: BTreeMap<_, _> = expected.into_iter().map(|one| (one, each)).collect();
        eventually(LONG, "all to be told", || if said(told) == expected { Ok(()) } else { Err(format!("{:?}", said(told))) });
    }
    seen_by_operators(&sluice);
    sluice.stop();
}

fn seen_by_operators(sluice: &Sluice) {
    // A shard publishes its groups once a second; all of the above may take less.
    eventually(LONG, "the groups to be listed", || {
        let groups: Json = serde_json::from_str(&sluice.ask(&["group", "list", "--json"])).map_err(|error| error.to_string())?;
        let names: Vec<&str> = groups["groups"].as_array().expect("groups").iter().filter_map(|group| group["name"].as_str()).collect();
        if names == ["k8s", "team-a::k8s", "team-b::k8s"] { Ok(()) } else { Err(format!("{names:?}")) }
    });
    let senders = sluice.ask(&["sender", "list"]);
    assert!(senders.contains("team-a::k8s") && senders.contains("leave one out"), "{senders}");
    let explained = sluice.ask(&["sink", "explain", "load{job=\"load\"}", "--tenant", "team-a"]);
    assert!(explained.contains("team=\"team-a\"") && explained.contains("of tenant                       team-a"), "{explained}");
    let without = sluice.ask(&["sink", "explain", "load{job=\"load\"}"]);
    assert!(
        without.contains("left: no selector of `match` takes it") && without.contains("of tenant                       0"),
        "{without}"
    );
    assert!(sluice.ask(&["group", "show", "team-a::k8s"]).contains("team-a::k8s"));
}

#[test]
fn two_datacenters_write_one_topic_and_nothing_collides() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let (kafka, topic) = (Kafka::shared(), own("datacenters"));
    kafka.create_topic(&topic, 3);
    let start = now_ms() / 1000 * 1000 - ROUNDS * 1000;
    let scratches = ["nj1", "fra1"].map(Scratch::new);
    let mut nodes = Vec::new();
    for (scratch, datacenter) in scratches.iter().zip(["nj1", "fra1"]) {
        let sinks = format!(
            "  - {{ name: platform, kafka: {{ brokers: [\"{}\"], topic: {topic}, format: rows }} }}\nexternal_labels: {{ datacenter: {datacenter} }}\n",
            kafka.address()
        );
        let mut sluice = Sluice::prepare_with(scratch, &own(datacenter), &sinks, None);
        sluice.up();
        nodes.push(sluice);
    }
    // The same groups, series and times in both; one of them is killed in the middle.
    for round in 0..ROUNDS {
        if round == ROUNDS / 2 {
            nodes[0].kill();
            nodes[0].up();
        }
        for (sluice, name) in nodes.iter().flat_map(|sluice| [(sluice, "a"), (sluice, "b")]) {
            assert_eq!(sluice.write(replica(name).body(start + round * 1000)).expect("an answer").status(), 204);
        }
    }
    let each = SERIES * ROUNDS as usize;
    let rows = rows(&kafka, &topic, "datacenter", 2 * each);
    let distinct: BTreeSet<_> = rows.iter().collect();
    assert_eq!((rows.len(), distinct.len()), (2 * each, 2 * each), "each sample of each datacenter once");
    assert_eq!(rows.iter().filter(|(datacenter, ..)| datacenter == "nj1").count(), each);
    nodes.into_iter().for_each(|mut sluice| sluice.stop());
}

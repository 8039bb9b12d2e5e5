//! Sinks that write to stores, with real ones: VictoriaMetrics, and a Prometheus that receives. What they hold is read back and held against what was sent.

use super::captures::requests;
use super::crash::{INTERVAL, sender};
use crate::support::check::first_few;
use crate::support::gate::{Samples, note};
use crate::support::http::Client;
use crate::support::kafka::Kafka;
use crate::support::load::Running;
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, free_port, let_pass};
use crate::support::prompb::{TimeSeries, decode_v1, decode_v2};
use crate::support::series::{Value, samples_of};
use crate::support::sluice::{BINARY, Sluice};
use crate::support::stores::{Kind, Store};
use crate::support::tls::Authority;
use serde_json::Value as Json;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

/// A sink of a configuration.
pub fn sink(name: &str, url: &str, more: &str) -> String {
    format!("  - name: {name}\n    remote_write: {{ url: \"{url}\"{more} }}\n")
}

pub fn sluice(scratch: &Scratch, name: &str, sinks: &str) -> Sluice {
    let name = format!("{name}-{}", fastrand::u32(..));
    let mut sluice = Sluice::prepare_with(scratch, &name, sinks, None);
    sluice.up();
    sluice
}

/// What a Prometheus' query tells of a native histogram: count, sum, and what is in its buckets that are not empty, from the lowest up, that of zero among them.
fn told(histogram: &Json) -> (f64, f64, Vec<f64>) {
    let number = |json: &Json| json.as_f64().or_else(|| json.as_str()?.parse().ok()).unwrap_or(0.0);
    let filled = |key: &str| -> Vec<f64> {
        let buckets = histogram[key].as_array().into_iter().flatten();
        buckets.map(|bucket| number(&bucket[bucket.as_array().map_or(0, Vec::len) - 1])).collect()
    };
    let below = filled("negative_buckets").into_iter().rev();
    let all = below.chain([number(&histogram["zero_count"])]).chain(filled("buckets"));
    (number(&histogram["count"]), number(&histogram["sum"]), all.filter(|count| *count > 0.0).collect())
}

/// Whether a store has this value. VictoriaMetrics keeps decimals: beyond some twelve digits a double may differ.
fn same(kind: Kind, sent: &Value, got: Option<&Value>) -> bool {
    match (sent, got) {
        (Value::Histogram(sent), Some(Value::Histogram(got))) => told(sent) == told(got),
        (Value::Number(sent), Some(Value::Number(got))) if kind == Kind::VictoriaMetrics && sent.is_finite() => {
            (sent - got).abs() <= sent.abs() * 1e-12
        }
        (sent, got) => Some(sent) == got,
    }
}

/// What a store should have of what was sent, and has not.
fn missing(kind: Kind, sent: &Samples, got: &Samples) -> Vec<String> {
    let mut problems = Vec::new();
    for (series, times) in sent {
        for (time, value) in times {
            // VictoriaMetrics keeps no NaN but the stale marker, and knows no native histograms.
            if kind == Kind::VictoriaMetrics && matches!(value, Value::Nan | Value::Histogram(_)) {
                continue;
            }
            let found = got.get(series).and_then(|times| times.get(time));
            if !same(kind, value, found) {
                problems.push(format!("{series} at {time}: sent {value:?}, there is {found:?}"));
            }
        }
    }
    problems
}

/// Waits until nothing is missing; then nothing may be there that nobody sent.
#[track_caller]
pub fn holds(store: &Store, kind: Kind, sent: &Samples, offered: &Samples) {
    let got = eventually(Duration::from_secs(120), &format!("{kind:?} to hold everything"), || {
        let got = store.samples();
        let problems = missing(kind, sent, &got);
        if problems.is_empty() { Ok(got) } else { Err(format!("{} problems, among them:\n{}", problems.len(), first_few(&problems))) }
    });
    let strange = got.iter().flat_map(|(series, times)| times.iter().map(move |(time, value)| (series, time, value)));
    let strange = strange.filter(|(series, time, value)| {
        let sent = offered.get(*series).and_then(|times| times.get(*time));
        !sent.is_some_and(|sent| same(kind, sent, Some(*value)))
    });
    let strange: Vec<String> = strange.map(|(series, time, value)| format!("{series} at {time}: nobody sent {value:?}")).collect();
    assert!(strange.is_empty(), "{kind:?}: {}", first_few(&strange));
}

pub fn listed(sluice: &Sluice, sink: &str) -> Json {
    let answer = sluice.get("/api/v1/sinks").json();
    answer["sinks"].as_array().expect("sinks").iter().find(|one| one["name"] == sink).expect("the sink").clone()
}

/// Sends a captured run of a real Prometheus; what was in it.
pub fn send(sluice: &Sluice, file: &str, decode: fn(&[u8]) -> Vec<TimeSeries>) -> Samples {
    let (mut client, mut sent) = (Client::new(sluice.address()), Samples::new());
    for request in requests(file) {
        note(&mut sent, &samples_of(&decode(&request.body)));
        let answer = client.send(&request).expect("an answer");
        assert_eq!(answer.status() / 100, 2, "{}: {}", answer.first, answer.text());
    }
    sent
}

#[test]
fn what_a_prometheus_sent_by_1_0_is_in_the_stores_value_for_value() {
    value_for_value("prometheus-3.14-v1.cap", decode_v1);
}

#[test]
fn what_a_prometheus_sent_by_2_0_is_in_the_stores_value_for_value() {
    value_for_value("prometheus-3.14-v2.cap", decode_v2);
}

/// Every kind of sample, NaN, infinities, stale markers, native histograms: through this version of the protocol, and through a second sluice.
fn value_for_value(file: &str, decode: fn(&[u8]) -> Vec<TimeSeries>) {
    if !need(&[Peer::Prometheus, Peer::VictoriaMetrics]) {
        return;
    }
    let (scratch, beyond) = (Scratch::new("stores"), Scratch::new("stores-beyond"));
    let victoria = Store::start(&scratch, Kind::VictoriaMetrics);
    let near = Store::start(&scratch, Kind::Prometheus);
    let far = Store::start(&scratch, Kind::Prometheus);
    let mut second = sluice(&beyond, "beyond", &sink("far", &far.url(), ""));
    let sinks = sink("victoria", &victoria.url(), ", compression: zstd")
        + &sink("near", &near.url(), "")
        + &sink("second", &format!("http://{}/api/v1/write", second.address()), ", protocol: v2");
    let mut first = sluice(&scratch, "first", &sinks);
    let sent = send(&first, file, decode);
    holds(&victoria, Kind::VictoriaMetrics, &sent, &sent);
    holds(&near, Kind::Prometheus, &sent, &sent);
    holds(&far, Kind::Prometheus, &sent, &sent);
    // To the bit: Prometheus' own NaN is not any NaN.
    for store in [&near, &far] {
        let nans: Vec<u64> = store
            .series()
            .iter()
            .flat_map(|series| &series.samples)
            .map(|sample| sample.value.to_bits())
            .filter(|bits| f64::from_bits(*bits).is_nan())
            .collect();
        let stale = nans.iter().filter(|bits| **bits == 0x7ff0_0000_0000_0002).count();
        assert_eq!((stale, nans.len()), (10, 405), "stale markers, and NaN of either kind");
        assert!(nans.iter().all(|bits| [0x7ff0_0000_0000_0002, 0x7ff8_0000_0000_0001].contains(bits)), "{nans:x?}");
    }
    for name in ["victoria", "near", "second"] {
        let shown = listed(&first, name);
        assert_eq!((&shown["dead"], &shown["troubles"]), (&Json::from(0), &Json::Array(Vec::new())), "{shown}");
        assert_eq!(shown["kind"], "remote_write");
    }
    first.stop();
    second.stop();
}

/// Senders without a twin, each of whose samples must come through.
pub fn load(sluice: &Sluice, count: u32) -> Vec<Running> {
    (0..count).map(|number| sender(&format!("alone-{number}"), "a", 0).start(sluice.address())).collect()
}

/// Ends the senders; what was acknowledged, and what was sent at all.
pub fn end(senders: Vec<Running>) -> (Samples, Samples) {
    let (mut acknowledged, mut offered) = (Samples::new(), Samples::new());
    for account in senders.into_iter().map(Running::stop) {
        assert_eq!(account.refused, Vec::<String>::new());
        acknowledged.extend(account.acknowledged);
        offered.extend(account.offered);
    }
    (acknowledged, offered)
}

#[test]
fn kills_under_load_lose_nothing_in_the_stores() {
    if !need(&[Peer::Prometheus, Peer::VictoriaMetrics]) {
        return;
    }
    let scratch = Scratch::new("stores-kills");
    let mut victoria = Store::start(&scratch, Kind::VictoriaMetrics);
    let prometheus = Store::start(&scratch, Kind::Prometheus);
    let sinks = sink("victoria", &victoria.url(), ", compression: zstd") + &sink("prometheus", &prometheus.url(), "");
    let mut sluice = sluice(&scratch, "kills", &sinks);
    let senders = load(&sluice, 3);
    for kill in 1..=20 {
        let_pass(Duration::from_millis(fastrand::u64(100..1200)));
        sluice.kill();
        if kill == 8 {
            victoria.down();
        }
        sluice.launch();
        if kill == 12 {
            victoria.up();
        }
        // Every third life is ended before it was ready.
        if kill % 3 != 0 {
            sluice.wait_ready(Duration::from_secs(60));
        }
    }
    sluice.wait_ready(Duration::from_secs(60));
    let_pass(Duration::from_millis(u64::try_from(INTERVAL).expect("positive") * 3));
    let (acknowledged, offered) = end(senders);
    for (name, store, kind) in [("victoria", &victoria, Kind::VictoriaMetrics), ("prometheus", &prometheus, Kind::Prometheus)] {
        holds(store, kind, &acknowledged, &offered);
        // A Prometheus refuses what is out of order, as what is sent twice is: that is no dead letter.
        let shown = listed(&sluice, name);
        assert_eq!((&shown["dead"], &shown["troubles"]), (&Json::from(0), &Json::Array(Vec::new())), "{shown}");
    }
    sluice.stop();
}

#[test]
fn a_dead_store_and_a_dead_kafka_do_not_disturb_each_other() {
    if !need(&[Peer::Kafka, Peer::VictoriaMetrics]) {
        return;
    }
    let scratch = Scratch::new("stores-apart");
    let kafka = Kafka::start("stores-kafka");
    kafka.create_topic("apart", 4);
    let mut victoria = Store::start(&scratch, Kind::VictoriaMetrics);
    let sinks = format!("  - name: platform\n    kafka: {{ brokers: [\"{}\"], topic: apart }}\n", kafka.address());
    let mut sluice = sluice(&scratch, "apart", &(sinks + &sink("victoria", &victoria.url(), "")));
    let senders = load(&sluice, 2);
    let delivered = |sluice: &Sluice, sink: &str| listed(sluice, sink)["delivered"].as_u64().expect("a number");
    // While one is away the other goes on: a thousand samples are four seconds of these senders.
    let goes_on = |sluice: &Sluice, sink: &str, other: &str, code: &str| {
        let before = delivered(sluice, sink);
        eventually(Duration::from_secs(60), &format!("{sink} to go on while {other} is away"), || {
            let (now, shown) = (delivered(sluice, sink), listed(sluice, other));
            let told = shown["troubles"][0]["code"] == code;
            if now > before + 2000 && told && shown["lag_ms"].as_i64() > Some(2000) { Ok(()) } else { Err(format!("{now} {shown}")) }
        });
    };
    goes_on_at_all(&sluice, &["platform", "victoria"]);
    kafka.down();
    goes_on(&sluice, "victoria", "platform", "unreachable");
    kafka.up();
    goes_on_at_all(&sluice, &["platform"]);
    victoria.down();
    goes_on(&sluice, "platform", "victoria", "unreachable");
    victoria.up();
    goes_on_at_all(&sluice, &["victoria"]);
    let (acknowledged, offered) = end(senders);
    holds(&victoria, Kind::VictoriaMetrics, &acknowledged, &offered);
    eventually(Duration::from_secs(60), "everything delivered", || {
        let pending: u64 = ["platform", "victoria"].iter().map(|name| listed(&sluice, name)["pending"].as_u64().expect("a number")).sum();
        if pending == 0 { Ok(()) } else { Err(format!("{pending} pending")) }
    });
    let rows: usize = kafka.reader("apart").drain().iter().map(|record| record.payload.iter().filter(|byte| **byte == b'\n').count()).sum();
    assert_eq!(rows, acknowledged.values().map(std::collections::BTreeMap::len).sum::<usize>());
    sluice.stop();
}

#[track_caller]
pub fn goes_on_at_all(sluice: &Sluice, sinks: &[&str]) {
    for sink in sinks {
        eventually(Duration::from_secs(60), &format!("{sink} to deliver"), || {
            let shown = listed(sluice, sink);
            let fresh = shown["delivered"].as_u64() > Some(100) && shown["lag_ms"].as_i64() < Some(1500);
            if fresh && shown["troubles"] == Json::Array(Vec::new()) { Ok(()) } else { Err(shown.to_string()) }
        });
    }
}

/// A store behind TLS by an authority that no system trusts, which wants a token: another sluice.
#[test]
fn a_store_behind_tls_that_wants_a_token_is_told_apart_and_then_written_to() {
    if !need(&[Peer::Prometheus]) {
        return;
    }
    let (scratch, beyond) = (Scratch::new("stores-tls"), Scratch::new("stores-tls-beyond"));
    let last = Store::start(&scratch, Kind::Prometheus);
    let authority = Authority::new(beyond.sub("ca"));
    authority.renew();
    let (dir, port) = (beyond.sub("sluice"), free_port());
    let text = format!(
        "listen: 0.0.0.0:{port}\ndata_dir: {}\n{}sinks:\n{}",
        dir.join("data").display(),
        authority.configuration(),
        sink("last", &last.url(), "")
    );
    let mut second = Sluice::prepare_as("second", dir, SocketAddr::from(([127, 0, 0, 1], port)), &text, None);
    second.launch();
    let mut client = Client::new(second.address()).secure(authority.client());
    eventually(Duration::from_secs(60), "the second to be ready", || {
        let answer = client.call("GET", "/-/ready").map_err(|error| error.to_string())?;
        if answer.status() == 200 { Ok(()) } else { Err(answer.text()) }
    });
    let url = format!("https://127.0.0.1:{port}/api/v1/write");
    let token_file = scratch.join("token");
    let with_token = format!(", bearer_token_file: {}", token_file.display());
    let with_authority = format!(", tls: {{ ca_file: {} }}", authority.trusted().display());
    let sinks = sink("trustless", &url, &with_token)
        + &sink("store", &url, &format!("{with_token}{with_authority}, compression: zstd"))
        + "    late: drop\n";
    let mut first = sluice(&scratch, "tls", &sinks);
    let senders = load(&first, 1);
    let told = |sink: &str, code: &str, words: &str| {
        eventually(Duration::from_secs(60), &format!("{sink} to say {code}"), || {
            let shown = listed(&first, sink);
            let trouble = &shown["troubles"][0];
            let said = trouble["code"] == code && trouble["text"].as_str().is_some_and(|text| text.contains(words));
            if said { Ok(()) } else { Err(shown.to_string()) }
        });
    };
    told("store", "file", "No such file");
    std::fs::write(&token_file, "slc_nobody\n").unwrap();
    told("trustless", "not_trusted", "tls.ca_file");
    // There is no token at all yet, so the second cannot know this one: it asks to come again.
    told("store", "busy", "503");
    let made = make_token(&second, &authority);
    told("store", "not_let_in", "401");
    std::fs::write(&token_file, made).unwrap();
    goes_on_at_all(&first, &["store"]);
    let (acknowledged, offered) = end(senders);
    holds(&last, Kind::Prometheus, &acknowledged, &offered);
    assert_eq!(listed(&first, "trustless")["delivered"], 0);
    first.stop();
    second.stop();
}

/// The first token of a node that listens with TLS.
pub fn make_token(sluice: &Sluice, authority: &Authority) -> String {
    let output = Command::new(BINARY)
        .args(["token", "create", "first", "--ca-file", &authority.trusted().display().to_string()])
        .env("SLUICE_SERVER", format!("https://{}", sluice.address()))
        .env("SLUICE_DATA_DIR", sluice.data())
        .output()
        .expect("the binary");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

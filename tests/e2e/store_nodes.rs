//! Stores and the nodes that write to them: a death at every step, leaders that die, certificates on both sides, and everything a store can hold.

use super::crash::{INTERVAL, sender};
use super::stores::{end, goes_on_at_all, holds, listed, load, sink, sluice};
use crate::support::gate::{Samples, note};
use crate::support::http::Http;
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, let_pass, now_ms};
use crate::support::prompb::decode_v1;
use crate::support::prompb::{Label, Sample, TimeSeries, encode_v1};
use crate::support::series::samples_of;
use crate::support::sluice::Sluice;
use crate::support::stores::{Kind, Store};
use crate::support::tls::{Authority, demanding};
use crate::support::trio::Trio;
use std::io::BufReader;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_rustls::rustls::{ServerConnection, StreamOwned};

/// Places of `src/failpoint.rs` on the way into stores.
pub const PLACES: &[&str] = &["store.taken", "store.buried"];

/// A sample of a series of its own.
fn sample(job: &str, time: i64) -> TimeSeries {
    let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
    TimeSeries {
        labels: vec![label("__name__", "old"), label("job", job)],
        samples: vec![Sample { value: 1.0, timestamp: time }],
        ..TimeSeries::default()
    }
}

#[test]
fn a_death_at_every_step_into_a_store_loses_nothing() {
    if !need(&[Peer::Prometheus, Peer::VictoriaMetrics]) {
        return;
    }
    let scratch = Scratch::new("stores-edges");
    let victoria = Store::start(&scratch, Kind::VictoriaMetrics);
    let prometheus = Store::start(&scratch, Kind::Prometheus);
    let sinks = sink("victoria", &victoria.url(), "") + &sink("prometheus", &prometheus.url(), "");
    let mut sluice = sluice(&scratch, "edges", &sinks);
    let senders = load(&sluice, 2);
    let mut extra = Samples::new();
    for place in PLACES {
        for times in ["", ":2"] {
            goes_on_at_all(&sluice, &["victoria", "prometheus"]);
            sluice.kill();
            sluice.launch_armed(&format!("{place}{times}"));
            if *place == "store.buried" {
                sluice.wait_ready(Duration::from_secs(60));
                // A Prometheus refuses for good what is of days before its newest.
                for number in 0..4 {
                    let old = sample(&format!("{place}{times}-{number}"), now_ms() - 3 * 86_400_000);
                    note(&mut extra, &samples_of(std::slice::from_ref(&old)));
                    // It may die meanwhile.
                    drop(sluice.write(encode_v1(vec![old])));
                }
            }
            let (status, log) = sluice.wait_death(Duration::from_secs(60));
            assert!(status.signal() == Some(9) && log.contains(&format!("fail point {place}: ")), "{place}: {status}\n{log}");
            sluice.up();
        }
    }
    goes_on_at_all(&sluice, &["victoria", "prometheus"]);
    let_pass(Duration::from_millis(u64::try_from(INTERVAL).expect("positive") * 3));
    let (acknowledged, mut offered) = end(senders);
    offered.extend(extra);
    holds(&victoria, Kind::VictoriaMetrics, &acknowledged, &offered);
    holds(&prometheus, Kind::Prometheus, &acknowledged, &offered);
    // Each once, whatever died between the letter and the rest of its round.
    eventually(Duration::from_secs(60), "dead letters", || match listed(&sluice, "prometheus")["dead"].as_u64().expect("a number") {
        2..=8 => Ok(()),
        letters => Err(format!("{letters} dead letters")),
    });
    sluice.stop();
}

#[test]
fn leaders_that_die_lose_nothing_in_the_stores() {
    if !need(&[Peer::Prometheus, Peer::VictoriaMetrics]) {
        return;
    }
    let scratch = Scratch::new("stores-trio");
    let victoria = Store::start(&scratch, Kind::VictoriaMetrics);
    let prometheus = Store::start(&scratch, Kind::Prometheus);
    let sinks = sink("victoria", &victoria.url(), ", compression: zstd") + &sink("prometheus", &prometheus.url(), "");
    let mut trio = Trio::up(&scratch, &format!("sinks:\n{sinks}"));
    let senders: Vec<_> = (0..3).map(|node| sender(&format!("alone-{node}"), "a", 0).start(trio.nodes[node].sluice.address())).collect();
    trio.kill_leaders("alone-0", 6);
    let (acknowledged, offered) = end(senders);
    holds(&victoria, Kind::VictoriaMetrics, &acknowledged, &offered);
    holds(&prometheus, Kind::Prometheus, &acknowledged, &offered);
    for name in ["victoria", "prometheus"] {
        let dead: u64 = trio.nodes.iter().map(|node| listed(&node.sluice, name)["dead"].as_u64().expect("a number")).max().expect("nodes");
        assert_eq!(dead, 0, "{name}");
    }
    trio.nodes.iter_mut().for_each(|node| node.sluice.stop());
}

/// `catch_up: fresh_first`, with a kill while fresh samples are ahead.
#[test]
fn after_an_outage_what_is_new_is_there_long_before_the_backlog() {
    if !need(&[Peer::VictoriaMetrics]) {
        return;
    }
    let scratch = Scratch::new("stores-fresh");
    let mut victoria = Store::start(&scratch, Kind::VictoriaMetrics);
    // Requests so small that the backlog takes a while.
    let sinks = sink("victoria", &victoria.url(), ", catch_up: fresh_first, connections: 1, samples_per_request: 5");
    let mut sluice = sluice(&scratch, "fresh", &sinks);
    let senders = load(&sluice, 3);
    goes_on_at_all(&sluice, &["victoria"]);
    victoria.down();
    let_pass(Duration::from_secs(45));
    let back = now_ms();
    victoria.up();
    let newest = |store: &Store| store.samples().values().filter_map(|times| times.keys().max().copied()).max().unwrap_or(0);
    let pending = |sluice: &Sluice| listed(sluice, "victoria")["pending"].as_u64().expect("a number");
    let left = eventually(Duration::from_secs(60), "what is new", || {
        let (left, newest) = (pending(&sluice), newest(&victoria));
        if newest >= back { Ok(left) } else { Err(format!("{} ms too old, {left} pending", back - newest)) }
    });
    assert!(left > 10_000, "the backlog was to be there still: {left}");
    sluice.kill();
    sluice.up();
    eventually(Duration::from_secs(120), "the backlog to be done", || {
        let left = pending(&sluice);
        if left < 1500 { Ok(()) } else { Err(format!("{left} pending")) }
    });
    let (acknowledged, offered) = end(senders);
    holds(&victoria, Kind::VictoriaMetrics, &acknowledged, &offered);
    let shown = listed(&sluice, "victoria");
    assert_eq!(shown["dead"], 0, "{shown}");
    sluice.stop();
}

/// A store that lets nobody in without a certificate; what it has taken.
fn guarded(authority: &Authority) -> (SocketAddr, Arc<Mutex<Samples>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (address, config, taken) = (listener.local_addr().expect("an address"), demanding(authority), Arc::<Mutex<Samples>>::default());
    let kept = Arc::clone(&taken);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (config, kept) = (Arc::clone(&config), Arc::clone(&kept));
            std::thread::spawn(move || {
                let connection = ServerConnection::new(config).expect("a connection");
                let mut reader = BufReader::new(StreamOwned::new(connection, stream.expect("a stream")));
                while let Ok(Some(request)) = Http::read(&mut reader) {
                    note(&mut kept.lock().expect("samples"), &samples_of(&decode_v1(&request.body)));
                    if Http::answer(204, "").write(reader.get_mut()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, taken)
}

#[test]
fn a_store_that_wants_a_certificate_gets_one_and_is_told_apart_without() {
    let scratch = Scratch::new("stores-mtls");
    let authority = Authority::new(scratch.sub("ca"));
    authority.renew();
    let (address, taken) = guarded(&authority);
    let url = format!("https://{address}/api/v1/write");
    let (ca, own, key) = (authority.trusted(), authority.certificate(), authority.key());
    let trust = format!(", tls: {{ ca_file: {}", ca.display());
    let sinks = sink("bare", &url, &format!("{trust} }}"))
        + &sink("shown", &url, &format!("{trust}, cert_file: {}, key_file: {} }}", own.display(), key.display()));
    let mut sluice = sluice(&scratch, "mtls", &sinks);
    let senders = load(&sluice, 1);
    eventually(Duration::from_secs(60), "the refusal to be told", || {
        let shown = listed(&sluice, "bare");
        let trouble = &shown["troubles"][0];
        let told = trouble["code"] == "not_trusted" && trouble["remedy"].as_str().is_some_and(|remedy| remedy.contains("cert_file"));
        if told { Ok(()) } else { Err(shown.to_string()) }
    });
    goes_on_at_all(&sluice, &["shown"]);
    let (acknowledged, _) = end(senders);
    eventually(Duration::from_secs(60), "everything to be there", || {
        let taken = taken.lock().expect("samples");
        let missing = acknowledged
            .iter()
            .find(|(series, times)| taken.get(*series).is_none_or(|there| times.keys().any(|time| !there.contains_key(time))));
        missing.map_or(Ok(()), |(series, _)| Err(series.to_string()))
    });
    assert_eq!(listed(&sluice, "bare")["delivered"], 0);
    sluice.stop();
}

/// Whatever a double can be, to the bit, through both versions of the protocol.
#[test]
fn any_value_is_read_back_from_a_prometheus_bit_for_bit() {
    if !need(&[Peer::Prometheus]) {
        return;
    }
    let (scratch, beyond) = (Scratch::new("stores-bits"), Scratch::new("stores-bits-beyond"));
    let (near, far) = (Store::start(&scratch, Kind::Prometheus), Store::start(&scratch, Kind::Prometheus));
    let mut second = sluice(&beyond, "bits-beyond", &sink("far", &far.url(), ""));
    let second_url = format!("http://{}/api/v1/write", second.address());
    let mut first = sluice(&scratch, "bits", &(sink("near", &near.url(), "") + &sink("second", &second_url, ", protocol: v2")));
    // Not -0.0: Go's encoder leaves it out as it does 0.0, so a Prometheus neither sends nor shows it.
    let special =
        [0.0, 1.0, -1.5, 0.1, 5e-324, f64::MIN_POSITIVE, f64::MAX, f64::MIN, f64::INFINITY, f64::NEG_INFINITY, 9_007_199_254_740_993.0];
    // Prometheus' own NaN, its stale marker, and NaN that nobody means anything by.
    let payloads = [0x7ff8_0000_0000_0001, 0x7ff0_0000_0000_0002, 0x7ff8_0000_dead_beef, 0xfff8_0000_0000_0007, 0x7ff0_0000_0000_0003];
    let random = std::iter::repeat_with(|| fastrand::u64(..)).take(200);
    let bits: Vec<u64> = special.iter().map(|value: &f64| value.to_bits()).chain(payloads).chain(random).collect();
    let begin = now_ms() - 250_000;
    let mut expected: Vec<(i64, u64)> = bits.iter().enumerate().map(|(at, bits)| (begin + at as i64 * 1000, *bits)).collect();
    for (time, bits) in &expected {
        let mut one = sample("bits", *time);
        one.samples[0].value = f64::from_bits(*bits);
        assert_eq!(first.write(encode_v1(vec![one])).expect("an answer").status(), 204);
    }
    expected.sort_unstable();
    for (name, store) in [("near", &near), ("far", &far)] {
        eventually(Duration::from_secs(60), name, || {
            let mut got: Vec<(i64, u64)> =
                store.series().iter().flat_map(|series| &series.samples).map(|sample| (sample.timestamp, sample.value.to_bits())).collect();
            got.sort_unstable();
            let wrong = expected.iter().find(|one| got.binary_search(one).is_err());
            match wrong {
                None if got.len() == expected.len() => Ok(()),
                _ => Err(format!("{} of {} samples, without {wrong:x?}", got.len(), expected.len())),
            }
        });
    }
    first.stop();
    second.stop();
}

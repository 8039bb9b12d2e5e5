//! Requests over a real socket, against shards that only take notes.

mod tenants;

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::*;
use crate::model::Item;
use crate::model::NO_VALUE;
use crate::model::ShardId;
use crate::node::offer::ProposeError;
use crate::relabel::counters::Asked;
use crate::relabel::counters::Counters;
use crate::wire::body::Body;
use crate::wire::capture;
use crate::wire::digest::Digest;
use crate::wire::encode::Encoder;
use crate::wire::encode::Exemplar;
use crate::wire::encode::NewSeries;
use crate::wire::encode::Sample;
use crate::wire::pack;
use crate::wire::remote_write::Walker;

const SEED: u64 = 7;

/// Shards that remember what they were offered.
#[derive(Default)]
struct Notes {
    offers: Mutex<Vec<Offer>>,
    groups: Mutex<Vec<String>>,
    refuse: Mutex<Option<OfferError>>,
    doubted: Mutex<Vec<(String, String, detect::Hint)>>,
    tries: AtomicUsize,
}

impl Target for Arc<Notes> {
    async fn offer(&self, mut offer: Offer) -> Result<(), OfferError> {
        self.tries.fetch_add(1, Ordering::Relaxed);
        offer.claim = None;
        if let Some(error) = self.refuse.lock().unwrap().clone() {
            return Err(error);
        }
        self.offers.lock().unwrap().push(offer);
        Ok(())
    }

    fn group(&self, name: &str) -> Option<ShardId> {
        self.groups.lock().unwrap().iter().any(|known| known == name).then_some(ShardId(1))
    }

    async fn assign(&self, name: &str) -> Result<ShardId, ProposeError> {
        self.groups.lock().unwrap().push(name.to_string());
        Ok(ShardId(1))
    }

    fn known_groups(&self) -> usize {
        self.groups.lock().unwrap().len()
    }

    fn settings_version(&self, _: ShardId) -> u64 {
        3
    }

    fn hash_seed(&self) -> u64 {
        SEED
    }

    fn doubt(&self, group: &str, replica: &str, hint: detect::Hint) {
        self.doubted.lock().unwrap().push((group.to_owned(), replica.to_owned(), hint));
    }
}

struct Bench {
    notes: Arc<Notes>,
    ingest: Arc<Ingest<Arc<Notes>>>,
    address: std::net::SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    _stop: tokio::sync::watch::Sender<bool>,
}

struct Told {
    status: u16,
    headers: hyper::HeaderMap,
    text: String,
}

impl Told {
    fn written(&self) -> [Option<&str>; 3] {
        answer::WRITTEN.map(|name| self.headers.get(name).and_then(|value| value.to_str().ok()))
    }
}

impl Bench {
    async fn new(change: impl FnOnce(&mut Groups, &mut Limits)) -> Bench {
        let (mut groups, mut limits) = (Groups::default(), Limits::default());
        change(&mut groups, &mut limits);
        let notes: Arc<Notes> = Arc::default();
        let ingest = Arc::new(Ingest::new(Arc::clone(&notes), &groups, &limits, &Asked::default(), 2));
        let listener = serve::Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.address();
        let (stop, stopping) = tokio::sync::watch::channel(false);
        let (inner, told) = (Arc::clone(&ingest), Arc::clone(&ingest));
        let answerer: serve::Answerer = Arc::new(move |request, peer| {
            let ingest = Arc::clone(&inner);
            Box::pin(async move {
                let hint = head::route(request.uri().path(), request.uri().query()).unwrap();
                ingest.take(request, peer, hint).await
            })
        });
        let bounds = serve::Bounds { connections: limits.connections, age: Duration::ZERO, drain: Duration::from_secs(1) };
        let door = serve::Door { answerer, gone: Arc::new(move |connection, ours| drop(told.gone(connection, ours))) };
        tokio::spawn(serve::run(listener, bounds, door, serve::metrics::Metrics::default(), stopping));
        let client = Client::builder(TokioExecutor::new()).build_http();
        Bench { notes, ingest, address, client, _stop: stop }
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Told {
        let mut request = hyper::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.client.request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Told { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    async fn post(&self, protocol: Protocol, raw: &[u8]) -> Told {
        self.post_to("/api/v1/write", protocol, raw).await
    }

    async fn post_to(&self, path: &str, protocol: Protocol, raw: &[u8]) -> Told {
        let mut packed = Vec::new();
        pack::pack_snappy(raw, &mut packed);
        let kind = match protocol {
            Protocol::V1 => "application/x-protobuf",
            Protocol::V2 => "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        };
        self.send("POST", path, &[("content-type", kind), ("content-encoding", "snappy")], packed).await
    }

    /// (group, replica, items, good items' names as a sink would see them) of every offer.
    fn offered(&self) -> Vec<(String, String, Vec<Item>, Vec<String>)> {
        let mut walker = Walker::new(SEED);
        let offers = self.notes.offers.lock().unwrap();
        let one = |offer: &Offer| {
            let items: Vec<Item> = Digest::parse(&offer.digest).unwrap().iter().collect();
            let mut raw = Vec::new();
            pack::unpack(offer.packing, &offer.body, pack::Bounds::default(), &mut raw).unwrap();
            let body = Body { protocol: offer.protocol, raw, strip: offer.strip.clone(), tenant: String::new() };
            let good = |(at, item): (usize, &Item)| (!item.refused).then_some(crate::model::Pick { item: at as u32, late: false });
            let picks: Vec<_> = items.iter().enumerate().filter_map(good).collect();
            let mut names = Vec::new();
            body.pick(&mut walker, &picks, &mut |picked| {
                assert_eq!(picked.series, items[picked.item as usize].series, "the sink's hash is the digest's");
                assert_eq!(picked.point.time, items[picked.item as usize].time);
                let labels: Vec<String> = picked.labels.iter().map(|label| format!("{}={}", label.name, label.value)).collect();
                names.push(labels.join(","));
            })
            .unwrap();
            (offer.group.clone(), offer.replica.clone(), items, names)
        };
        offers.iter().map(one).collect()
    }
}

fn series(encoder: &mut Encoder, labels: &[(&str, &str)], times: &[i64]) {
    let samples: Vec<Sample> = times.iter().map(|time| Sample::new(*time, 1.0)).collect();
    encoder.push(&NewSeries { labels, samples: &samples, histograms: &[], exemplars: &[], metadata: None });
}

fn request(protocol: Protocol, all: &[&[(&str, &str)]]) -> Vec<u8> {
    let mut encoder = Encoder::new(protocol);
    let now = clock::wall_ms();
    all.iter().for_each(|labels| series(&mut encoder, labels, &[now]));
    let mut raw = Vec::new();
    encoder.finish(&mut raw);
    raw
}

const A: [(&str, &str); 3] = [("__name__", "up"), ("__replica__", "a"), ("cluster", "c")];
const B: [(&str, &str); 3] = [("__name__", "up"), ("__replica__", "b"), ("cluster", "c")];
const NAMELESS: [(&str, &str); 2] = [("__replica__", "a"), ("cluster", "c")];

#[tokio::test]
async fn captured_requests_of_a_real_prometheus_are_taken_whole() {
    for (bytes, total) in [
        (include_bytes!("../../tests/captures/prometheus-3.14-v1.cap").as_slice(), 8323),
        (include_bytes!("../../tests/captures/prometheus-3.14-v2.cap").as_slice(), 8323),
    ] {
        let bench = Bench::new(|_, _| {}).await;
        for captured in capture::read(bytes).unwrap() {
            let headers = ["content-type", "content-encoding"].map(|name| (name, captured.header(name).unwrap()));
            let told = bench.send("POST", "/api/v1/write", &headers, captured.body.to_vec()).await;
            assert_eq!((told.status, told.text.as_str()), (204, ""));
        }
        let offered = bench.offered();
        assert!(offered.iter().all(|(group, replica, ..)| (group.as_str(), replica.as_str()) == ("c3", "a")));
        assert_eq!(offered.iter().map(|(_, _, items, _)| items.len()).sum::<usize>(), total);
        assert!(
            offered.iter().all(|(.., items, names)| items.len() == names.len() && !names.iter().any(|name| name.contains("__replica__")))
        );
        assert_eq!(bench.ingest.budget().held(), 0, "every claim came back");
    }
}

#[tokio::test]
async fn both_replicas_hash_alike_and_their_replica_label_is_gone() {
    let bench = Bench::new(|_, _| {}).await;
    for protocol in [Protocol::V1, Protocol::V2] {
        bench.post(protocol, &request(protocol, &[&A])).await;
        bench.post(protocol, &request(protocol, &[&B])).await;
    }
    let offered = bench.offered();
    assert!(offered.iter().all(|(_, _, items, names)| items[0].series == offered[0].2[0].series && names == &["__name__=up,cluster=c"]));
    assert_eq!(offered.iter().map(|(_, replica, ..)| replica.as_str()).collect::<Vec<_>>(), ["a", "b", "a", "b"]);
}

/// Bits of values, of those counters of which a sink asks; also where a request is divided, and beside what is refused.
#[tokio::test]
async fn values_of_counters_are_told_where_a_sink_asks() {
    const COUNTER: [(&str, &str); 3] = [("__name__", "a_total"), ("__replica__", "a"), ("cluster", "c")];
    const OF_B: [(&str, &str); 3] = [("__name__", "a_total"), ("__replica__", "b"), ("cluster", "c")];
    for protocol in [Protocol::V1, Protocol::V2] {
        let bench = Bench::new(|_, _| {}).await;
        let values = || {
            let offers = std::mem::take(&mut *bench.notes.offers.lock().unwrap());
            let one = |offer: &Offer| {
                let mut values = Vec::new();
                Digest::parse(&offer.digest).unwrap().values(&mut values);
                (offer.replica.clone(), values)
            };
            let mut all: Vec<(String, Vec<u64>)> = offers.iter().map(one).collect();
            all.sort();
            all
        };
        bench.post(protocol, &request(protocol, &[&COUNTER])).await;
        assert_eq!(values(), [("a".to_owned(), Vec::new())], "nobody asks");
        bench.ingest.reload(&Groups::default(), &Limits::default(), &Asked::new(std::iter::once(Counters::default()), &[]));
        bench.post(protocol, &request(protocol, &[&A])).await;
        assert_eq!(values(), [("a".to_owned(), Vec::new())], "no counter");
        let (none, one) = (NO_VALUE, 1.0_f64.to_bits());
        bench.post(protocol, &request(protocol, &[&NAMELESS, &COUNTER, &A, &COUNTER])).await;
        assert_eq!(values(), [("a".to_owned(), vec![none, one, none, one])]);
        bench.post(protocol, &request(protocol, &[&COUNTER, &OF_B, &B, &NAMELESS, &A, &OF_B])).await;
        assert_eq!(values(), [("a".to_owned(), vec![one, none]), ("b".to_owned(), vec![one, none, none, one])]);
    }
}

#[tokio::test]
async fn a_request_that_mixes_replicas_is_split_and_nothing_is_lost() {
    for protocol in [Protocol::V1, Protocol::V2] {
        let bench = Bench::new(|_, _| {}).await;
        let other: [(&str, &str); 2] = [("__name__", "alone"), ("job", "x")];
        let told = bench.post(protocol, &request(protocol, &[&A, &A, &B, &NAMELESS, &A, &other, &B])).await;
        assert_eq!(told.status, 400, "one has no name");
        let mut offered = bench.offered();
        offered.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        let seen: Vec<_> =
            offered.iter().map(|(group, replica, items, names)| (group.as_str(), replica.as_str(), items.len(), names.len())).collect();
        // The nameless one stands beside b's and is counted there as refused.
        assert_eq!(seen, [("-", "", 1, 1), ("c", "a", 3, 3), ("c", "b", 3, 2)]);
        assert_eq!(bench.ingest.budget().held(), 0);
    }
}

#[tokio::test]
async fn the_good_part_is_taken_and_the_counts_are_exact() {
    let bench = Bench::new(|_, limits| limits.future = Duration::from_secs(600)).await;
    let now = clock::wall_ms();
    let mut encoder = Encoder::new(Protocol::V2);
    series(&mut encoder, &A, &[now, now + 599_000, now + 700_000]);
    series(&mut encoder, &NAMELESS, &[now]);
    let exemplar = Exemplar { labels: &[("trace_id", "1")], bits: 0, time: now };
    encoder.push(&NewSeries { labels: &A, samples: &[], histograms: &[], exemplars: &[exemplar], metadata: None });
    let mut raw = Vec::new();
    encoder.finish(&mut raw);
    let told = bench.post(Protocol::V2, &raw).await;
    assert_eq!((told.status, told.written()), (400, [Some("2"), Some("0"), Some("1")]));
    assert!(
        told.text.starts_with("2 refused, the rest was taken: ") && told.text.contains("1 x future") && told.text.contains("1 x no_name"),
        "{}",
        told.text
    );
    let (_, _, items, _) = bench.offered().remove(0);
    assert_eq!(items.iter().map(|item| item.refused).collect::<Vec<_>>(), [false, false, true, true, false]);
}

#[tokio::test]
async fn all_bad_offers_nothing() {
    let bench = Bench::new(|_, _| {}).await;
    let told = bench.post(Protocol::V2, &request(Protocol::V2, &[&NAMELESS])).await;
    assert_eq!((told.status, told.written()), (400, [Some("0"); 3]));
    assert_eq!(bench.notes.tries.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn trouble_of_the_shard_is_503_with_retry_after_and_wins() {
    let bench = Bench::new(|_, _| {}).await;
    for error in [OfferError::DiskFull, OfferError::Stopping, OfferError::Overloaded { reason: "slots" }, OfferError::Unknown] {
        *bench.notes.refuse.lock().unwrap() = Some(error);
        let told = bench.post(Protocol::V2, &request(Protocol::V2, &[&A, &NAMELESS])).await;
        assert_eq!((told.status, told.written()[0]), (503, Some("0")));
        assert!(told.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    }
    assert_eq!(bench.ingest.budget().held(), 0);
    *bench.notes.refuse.lock().unwrap() = Some(OfferError::Settings { offered: 3, applied: 4 });
    let before = bench.notes.tries.load(Ordering::Relaxed);
    assert_eq!(bench.post(Protocol::V1, &request(Protocol::V1, &[&A])).await.status, 503);
    assert_eq!(bench.notes.tries.load(Ordering::Relaxed) - before, 2, "digested a second time by the new settings");
}

#[tokio::test]
async fn what_is_wrong_with_the_head_is_told_before_the_body_is_read() {
    let bench = Bench::new(|_, _| {}).await;
    let garbage = vec![0xff; 100];
    for (method, headers, status) in [
        ("GET", vec![], 405),
        ("PUT", vec![], 405),
        ("POST", vec![("content-type", "application/json")], 415),
        ("POST", vec![("content-encoding", "gzip")], 415),
        ("POST", vec![], 400),
    ] {
        let told = bench.send(method, "/api/v1/write", &headers, garbage.clone()).await;
        assert_eq!(told.status, status, "{method} {headers:?} {}", told.text);
        assert_eq!(told.written(), [None; 3]);
    }
    let told = bench.send("GET", "/api/v1/write?get_vm_proto_version=1", &[], "").await;
    assert_eq!((told.status, told.text.as_str()), (200, "1"));
}

#[tokio::test]
async fn bounds_on_size_are_413_and_on_memory_503() {
    let bench = Bench::new(|_, limits| limits.packed_bytes = 10).await;
    assert_eq!(bench.post(Protocol::V1, &request(Protocol::V1, &[&A])).await.status, 413);
    let bench = Bench::new(|_, limits| limits.unpacked_bytes = 10).await;
    assert_eq!(bench.post(Protocol::V1, &request(Protocol::V1, &[&A])).await.status, 413);
    let four_gib = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0];
    assert_eq!(Bench::new(|_, _| {}).await.send("POST", "/api/v1/write", &[], four_gib.to_vec()).await.status, 413);
    let bench = Bench::new(|_, limits| limits.in_flight_bytes = 10).await;
    let told = bench.post(Protocol::V1, &request(Protocol::V1, &[&A])).await;
    assert_eq!((told.status, bench.ingest.budget().held()), (503, 0));
}

#[tokio::test]
async fn the_unidentified_pass_or_are_refused_as_configured() {
    let alone: [(&str, &str); 2] = [("__name__", "up"), ("job", "x")];
    let bench = Bench::new(|_, _| {}).await;
    assert_eq!(bench.post(Protocol::V1, &request(Protocol::V1, &[&alone])).await.status, 204);
    assert_eq!(bench.offered()[0].0, crate::model::NO_GROUP);
    assert_eq!(bench.ingest.senders().all()[0].2.missing, Some("no_labels"));
    let bench = Bench::new(|groups, _| groups.unidentified = crate::config::groups::Unidentified::Refuse).await;
    let told = bench.post(Protocol::V1, &request(Protocol::V1, &[&alone, &A])).await;
    assert!(told.status == 400 && told.text.contains("1 x unidentified"), "{}", told.text);
    assert_eq!(bench.offered().len(), 1);
}

#[tokio::test]
async fn metadata_alone_and_nothing_at_all_are_204() {
    let bench = Bench::new(|groups, _| groups.unidentified = crate::config::groups::Unidentified::Refuse).await;
    let mut encoder = Encoder::new(Protocol::V1);
    encoder.push_metadata("up", 2, "help", "");
    let mut raw = Vec::new();
    encoder.finish(&mut raw);
    assert_eq!(bench.post(Protocol::V1, &raw).await.status, 204);
    assert_eq!(bench.post(Protocol::V1, &[]).await.status, 204);
    assert_eq!(bench.post(Protocol::V2, &request(Protocol::V2, &[])).await.status, 204);
    assert_eq!(bench.notes.tries.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn group_and_replica_of_the_url_win() {
    let bench = Bench::new(|_, _| {}).await;
    bench.post_to("/groups/eu%2Fk8s/replicas/p-0/api/v1/push", Protocol::V1, &request(Protocol::V1, &[&[("__name__", "up")]])).await;
    let (group, replica, ..) = bench.offered().remove(0);
    assert_eq!((group.as_str(), replica.as_str()), ("eu/k8s", "p-0"));
}

#[tokio::test]
async fn groups_have_limits_of_their_own_and_a_bound_on_their_number() {
    let bench = Bench::new(|groups, limits| {
        limits.groups = 1;
        limits.labels_per_series = 3;
        groups.overrides = vec![crate::config::groups::Override { name: "wide".into(), labels_per_series: Some(4), ..Default::default() }];
    })
    .await;
    let four = |cluster: &'static str| [("__name__", "up"), ("__replica__", "a"), ("cluster", cluster), ("x", "y")];
    assert_eq!(bench.post(Protocol::V1, &request(Protocol::V1, &[&four("wide")])).await.status, 204);
    let told = bench.post(Protocol::V1, &request(Protocol::V1, &[&A])).await;
    assert!(told.status == 400 && told.text.contains("too_many_groups"), "{}", told.text);
    bench.notes.groups.lock().unwrap().push("c".into());
    let told = bench.post(Protocol::V1, &request(Protocol::V1, &[&four("c")])).await;
    assert!(told.status == 400 && told.text.contains("too_many_labels"), "{}", told.text);
}

#[tokio::test]
async fn twenty_five_writers_at_once_do_not_mix_their_bytes() {
    let bench = Arc::new(Bench::new(|_, _| {}).await);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..25 {
        let bench = Arc::clone(&bench);
        writers.spawn(async move {
            for round in 0..8 {
                let value = format!("w{writer}r{round}");
                let labels: Vec<Vec<(&str, &str)>> = (0..50)
                    .map(|_| vec![("__name__", "up"), ("__replica__", value.as_str()), ("cluster", "c"), ("who", value.as_str())])
                    .collect();
                let slices: Vec<&[(&str, &str)]> = labels.iter().map(Vec::as_slice).collect();
                assert_eq!(bench.post(Protocol::V2, &request(Protocol::V2, &slices)).await.status, 204);
            }
        });
    }
    while let Some(outcome) = writers.join_next().await {
        outcome.unwrap();
    }
    let offered = bench.offered();
    assert_eq!(offered.len(), 200);
    for (_, replica, _, names) in offered {
        assert_eq!(names.len(), 50);
        assert!(names.iter().all(|name| name.ends_with(&format!("who={replica}"))));
    }
}

#[tokio::test]
async fn a_replica_whose_last_connection_is_closed_is_doubted() {
    let bench = Bench::new(|_, _| {}).await;
    let body = request(Protocol::V1, &[&A]);
    assert_eq!(bench.post(Protocol::V1, &body).await.status, 204);
    assert_eq!(bench.notes.doubted.lock().unwrap().len(), 0, "its connection is kept");
    let Bench { notes, client, _stop, .. } = bench;
    drop(client);
    while notes.doubted.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(*notes.doubted.lock().unwrap(), [("c".to_owned(), "a".to_owned(), detect::Hint::Closed)]);
}

#[tokio::test]
async fn a_connection_that_this_side_closed_is_no_reason_for_doubt() {
    let bench = Bench::new(|_, _| {}).await;
    let body = request(Protocol::V1, &[&A]);
    assert_eq!(bench.post(Protocol::V1, &body).await.status, 204);
    bench.ingest.gone(1, true); // old, or the node is being drained
    assert_eq!(bench.notes.doubted.lock().unwrap().len(), 0);
    assert_eq!(bench.post(Protocol::V1, &body).await.status, 204);
    bench.ingest.gone(1, false);
    assert_eq!(bench.notes.doubted.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn vmagents_question_is_answered() {
    let bench = Bench::new(|_, _| ()).await;
    // As vmagent 1.102 sends it, and the same by GET.
    let headers = [("content-type", "application/x-protobuf"), ("content-encoding", "snappy"), ("user-agent", "vmagent")];
    for (method, path) in
        [("POST", "/api/v1/write?get_vm_proto_version=1"), ("GET", "/groups/g/replicas/a/api/v1/write?get_vm_proto_version=1")]
    {
        let told = bench.send(method, path, &headers, Bytes::new()).await;
        assert_eq!((told.status, told.text.as_str()), (200, "1"), "{method} {path}");
    }
}

#[tokio::test]
async fn new_series_beyond_a_groups_limit_are_refused_and_the_rest_counts_as_written() {
    let bench = Bench::new(|_, _| {}).await;
    let struck = crate::node::offer::Struck { samples: 1, ..Default::default() };
    *bench.notes.refuse.lock().unwrap() = Some(OfferError::NewSeries { struck, series: 1000, limit: 1000 });
    let told =
        bench.post(Protocol::V2, &request(Protocol::V2, &[&A, &[("__name__", "new"), ("__replica__", "a"), ("cluster", "c")]])).await;
    assert_eq!((told.status, told.written()), (400, [Some("1"), Some("0"), Some("0")]));
    assert!(told.text.contains("1 x too_many_series") && told.text.contains("has 1000 series and 1000 are taken at most"), "{}", told.text);
}

#[tokio::test]
async fn over_a_rate_of_its_group_a_sender_is_told_to_wait() {
    let bench = Bench::new(|_, _| {}).await;
    for reason in [group_limits::SAMPLES, group_limits::NEW_SERIES] {
        *bench.notes.refuse.lock().unwrap() = Some(OfferError::Overloaded { reason });
        let told = bench.post(Protocol::V1, &request(Protocol::V1, &[&A])).await;
        assert_eq!((told.status, told.headers.contains_key("retry-after")), (503, true));
        assert!(told.text.contains("its group"), "{}", told.text);
    }
    let (_, _, sender) = bench.ingest.senders().all().remove(0);
    assert_eq!((sender.taken, sender.put_off), (0, 2), "what was put off was not taken");
}

#[tokio::test]
async fn whoever_reads_along_at_the_door_sees_why_points_are_refused_even_where_nothing_is_left() {
    let bench = Bench::new(|_, _| {}).await;
    let mut listener = bench.ingest.tap().listen();
    let late: Vec<u8> = {
        let (mut encoder, mut raw) = (Encoder::new(Protocol::V1), Vec::new());
        let now = clock::wall_ms();
        series(&mut encoder, &A, &[now, now + 3_600_000]);
        series(&mut encoder, &NAMELESS, &[now]);
        series(&mut encoder, &B, &[now, now + 7_200_000]);
        encoder.finish(&mut raw);
        raw
    };
    assert_eq!(bench.post(Protocol::V1, &late).await.status, 400);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let (came, missed) = listener.next().await.unwrap();
        let reasons: Vec<(u32, &str)> = came.reasons.iter().map(|(at, refusal)| (*at, refusal.word())).collect();
        seen.push((came.replica.clone(), came.told, reasons, missed));
    }
    seen.sort();
    // The series without a name goes with the one before it.
    assert_eq!(
        seen,
        [("a".to_owned(), "taken", vec![(1, "future"), (2, "no_name")], 0), ("b".to_owned(), "taken", vec![(1, "future")], 0)]
    );
    assert_eq!(bench.post(Protocol::V1, &request(Protocol::V1, &[&NAMELESS])).await.status, 400);
    let mut encoder = Encoder::new(Protocol::V1);
    series(&mut encoder, &A, &[clock::wall_ms() + 3_600_000]);
    let mut raw = Vec::new();
    encoder.finish(&mut raw);
    assert_eq!(bench.post(Protocol::V1, &raw).await.status, 400);
    let came = listener.next().await.unwrap().0;
    assert_eq!((came.told, came.reasons.len()), ("refused", 1), "a request of which nothing is left");
}

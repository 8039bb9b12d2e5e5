//! What a real Prometheus 3.14 sent (tests/captures/README.md), read in both protocols; bodies, subsets and the encoder on top of it.

use std::collections::BTreeMap;

use super::body::Body;
use super::body::subset;
use super::capture;
use super::digest::Digest;
use super::digest::encode;
use super::encode::Encoder;
use super::encode::Exemplar;
use super::encode::NewSeries;
use super::encode::Sample;
use super::histogram::Histogram;
use super::measure;
use super::measure::digest_of;
use super::pack::Bounds;
use super::pack::unpack;
use super::remote_write::Limits;
use super::remote_write::Protocol;
use super::remote_write::Totals;
use super::remote_write::Walker;
use super::remote_write::metadata;
use crate::model::Kind;
use crate::model::Pick;

const SEED: u64 = 42;

/// The capture of this protocol, as files.
pub fn capture_bytes(protocol: Protocol) -> &'static [u8] {
    match protocol {
        Protocol::V1 => include_bytes!("../../tests/captures/prometheus-3.14-v1.cap"),
        Protocol::V2 => include_bytes!("../../tests/captures/prometheus-3.14-v2.cap"),
    }
}

/// Its requests, unpacked.
pub fn captured(protocol: Protocol) -> Vec<Vec<u8>> {
    let requests = capture::read(capture_bytes(protocol)).unwrap();
    requests
        .iter()
        .map(|request| {
            assert_eq!(request.protocol(), protocol);
            let mut raw = Vec::new();
            unpack(request.packing(), request.body, Bounds::default(), &mut raw).unwrap();
            raw
        })
        .collect()
}

fn add(sum: &mut Totals, totals: Totals) {
    sum.series += totals.series;
    sum.faulty += totals.faulty;
    sum.unsorted += totals.unsorted;
    sum.empty_values += totals.empty_values;
    sum.points += totals.points;
    sum.samples += totals.samples;
    sum.histograms += totals.histograms;
    sum.exemplars += totals.exemplars;
    sum.stale += totals.stale;
    sum.metadata += totals.metadata;
    sum.symbols += totals.symbols;
}

/// Everything in a capture that a receiver can know: (series, time, kind, bits) with its labels' text, counted.
type Content = BTreeMap<(u64, i64, Kind, u64), (String, usize)>;

fn content(protocol: Protocol) -> (Totals, Content, usize) {
    let (mut walker, mut sum, mut content, mut nans) = (Walker::new(SEED), Totals::default(), Content::new(), 0);
    for raw in captured(protocol) {
        let totals = walker
            .walk(protocol, &raw, &Limits::default(), &mut |series| {
                assert_eq!(series.fault, None);
                let text = series.labels.iter().map(|label| format!("{}={:?} ", label.name, label.value)).collect::<String>();
                for point in series.points {
                    nans += usize::from(!point.histogram && point.kind == Kind::Float && f64::from_bits(point.bits).is_nan());
                    let key = (series.hash(&["__replica__"]), point.time, point.kind, point.bits);
                    content.entry(key).or_insert((text.clone(), 0)).1 += 1;
                }
            })
            .unwrap();
        add(&mut sum, totals);
    }
    (sum, content, nans)
}

#[test]
fn the_captures_hold_what_their_readme_says() {
    let (one, _, nans) = content(Protocol::V1);
    assert_eq!((one.series, one.samples, one.histograms, one.exemplars), (8_323, 7_723, 200, 400));
    assert_eq!((nans, one.stale, one.metadata), (395, 10, 576));
    assert_eq!((one.faulty, one.points, one.symbols), (0, 8_323, 0));
    let (two, _, _) = content(Protocol::V2);
    assert_eq!((two.series, two.symbols, two.faulty), (8_323, 7_191, 0));
}

#[test]
fn both_protocols_hold_the_same_series_under_the_same_hashes() {
    let (one, in_one, _) = content(Protocol::V1);
    let (two, in_two, _) = content(Protocol::V2);
    assert_eq!((one.samples, one.histograms, one.exemplars, one.stale), (two.samples, two.histograms, two.exemplars, two.stale));
    let series = |content: &Content| content.iter().map(|(key, (text, _))| (key.0, text.clone())).collect::<BTreeMap<_, _>>();
    assert_eq!(series(&in_one), series(&in_two));
    let texts: std::collections::BTreeSet<_> = in_one.values().map(|(text, _)| text).collect();
    assert_eq!(texts.len(), series(&in_one).len(), "different series have different hashes");
    assert_eq!(in_one, in_two);
}

#[test]
fn the_hash_leaves_out_the_replica_and_depends_on_everything_else() {
    let mut hashes = std::collections::BTreeSet::new();
    let mut hash = |protocol, seed, labels: &[(&str, &str)]| {
        let mut encoder = Encoder::new(protocol);
        encoder.push(&NewSeries { labels, samples: &[Sample::new(1, 1.0)], ..NewSeries::default() });
        let mut raw = Vec::new();
        encoder.finish(&mut raw);
        let mut found = 0;
        Walker::new(seed).walk(protocol, &raw, &Limits::default(), &mut |series| found = series.hash(&["__replica__"])).unwrap();
        hashes.insert(found);
        found
    };
    for protocol in [Protocol::V1, Protocol::V2] {
        let plain = hash(Protocol::V1, 1, &[("__name__", "up"), ("job", "a")]);
        assert_eq!(plain, hash(protocol, 1, &[("__name__", "up"), ("__replica__", "x"), ("job", "a")]));
        assert_eq!(plain, hash(protocol, 1, &[("job", "a"), ("__name__", "up"), ("x", "")]));
        hash(protocol, 1, &[("__name__", "up"), ("job", "b")]);
        hash(protocol, 1, &[("__name__", "up"), ("joba", "a")]);
        hash(protocol, 1, &[("__name__", "job"), ("up", "a")]);
        hash(protocol, 1, &[("__name__", "up")]);
        hash(protocol, 1, &[("__name__", "up"), ("x", "y")]);
        hash(protocol, 1, &[("__name__", "up"), ("y", "x")]);
        hash(protocol, 2, &[("__name__", "up"), ("job", "a")]);
    }
    assert_eq!(hashes.len(), 8);
}

#[test]
fn metadata_is_visited_and_an_empty_message_is_none() {
    let mut families = BTreeMap::new();
    for raw in captured(Protocol::V1) {
        metadata(&raw, &mut |entry| {
            families.insert(entry.family.to_owned(), (entry.kind, entry.help.to_owned(), entry.unit.to_owned()));
        })
        .unwrap();
    }
    assert_eq!(families.len(), 288);
    assert_eq!(families["go_goroutines"], (2, "Number of goroutines that currently exist.".to_owned(), String::new()));
    // 2.0: without its metadata feature Prometheus sends the message with nothing in it.
    assert_eq!(content(Protocol::V2).0.metadata, 0);
}

#[test]
fn picks_of_a_body_are_its_points_by_number_without_the_replica_label() {
    for protocol in [Protocol::V1, Protocol::V2] {
        let mut walker = Walker::new(SEED);
        for raw in captured(protocol) {
            let mut all = Vec::new();
            let mut items = Vec::new();
            digest_of(&mut walker, (protocol, &raw), &Limits::default(), &mut items).unwrap();
            let body = Body { protocol, raw, strip: vec!["__replica__".to_owned()], tenant: String::new() };
            let picks: Vec<_> =
                (0..items.len() as u32).filter(|item| item % 3 != 1).map(|item| Pick { item, late: item % 2 == 0 }).collect();
            let visited = body
                .pick(&mut walker, &picks, &mut |picked| {
                    assert!(picked.labels.iter().all(|label| label.name != "__replica__"));
                    let item = &items[picked.item as usize];
                    assert_eq!((item.series, item.time, item.kind), (picked.series, picked.point.time, picked.point.kind));
                    all.push(Pick { item: picked.item, late: picked.late });
                })
                .unwrap();
            assert_eq!((visited, all), (picks.len(), picks));
            let beyond = [Pick { item: items.len() as u32, late: false }];
            assert_eq!(body.pick(&mut walker, &beyond, &mut |_| unreachable!()), Ok(0));
        }
    }
}

#[test]
fn the_parts_of_a_divided_body_hold_all_of_it_once() {
    for protocol in [Protocol::V1, Protocol::V2] {
        let mut walker = Walker::new(SEED);
        for raw in captured(protocol) {
            let (mut whole, mut parts, mut numbers) = (Vec::new(), vec![Vec::new(), Vec::new()], Vec::new());
            walker
                .walk(protocol, &raw, &Limits::default(), &mut |series| {
                    numbers.push(series.number % 3 == 0);
                    whole.push((series.number % 3 == 0, series.hash(&[]), series.points.first().map(|point| point.time)));
                })
                .unwrap();
            for (part, side) in parts.iter_mut().zip([true, false]) {
                let mut body = Vec::new();
                subset(protocol, &raw, &mut |number| numbers[number as usize] == side, &mut body).unwrap();
                walker
                    .walk(protocol, &body, &Limits::default(), &mut |series| {
                        assert_eq!(series.fault, None);
                        part.push((side, series.hash(&[]), series.points.first().map(|point| point.time)));
                    })
                    .unwrap();
            }
            for (part, side) in parts.iter().zip([true, false]) {
                assert_eq!(*part, whole.iter().filter(|series| series.0 == side).copied().collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn native_histograms_are_whole_and_their_buckets_add_up() {
    let (mut histogram, mut seen, mut walker) = (Histogram::default(), 0, Walker::new(SEED));
    for protocol in [Protocol::V1, Protocol::V2] {
        for raw in captured(protocol) {
            walker
                .walk(protocol, &raw, &Limits::default(), &mut |series| {
                    for point in series.points.iter().filter(|point| point.kind == Kind::Histogram) {
                        histogram.decode(point.raw).unwrap();
                        histogram.check().unwrap();
                        let (mut sum, mut last) = (0.0, f64::NEG_INFINITY);
                        histogram.buckets(&mut |bucket| {
                            assert!(bucket.lower < bucket.upper && last <= bucket.lower, "{bucket:?}");
                            (sum, last) = (sum + bucket.count, bucket.upper);
                        });
                        assert_eq!(sum, histogram.count.to_f64());
                        seen += 1;
                    }
                })
                .unwrap();
        }
    }
    assert_eq!(seen, 400);
}

#[test]
fn what_the_encoder_writes_is_read_back_in_both_protocols() {
    let mut histogram = Histogram { schema: 2, sum_bits: 5f64.to_bits(), time: 77, start: 7, ..Histogram::default() };
    histogram.positive.spans.push(super::histogram::Span { offset: -3, length: 2 });
    histogram.positive.deltas.extend([2, -1]);
    histogram.count = super::histogram::Count::Int(3);
    let labels = [("__name__", "m"), ("job", "Straße"), ("le", "+Inf")];
    let samples = [Sample::new(-5, 0.0), Sample { start: 3, ..Sample::stale(6) }];
    let exemplars = [Exemplar { labels: &[("trace_id", "abc")], bits: 1f64.to_bits(), time: 9 }];
    for protocol in [Protocol::V1, Protocol::V2] {
        let (histograms, metadata) = (std::slice::from_ref(&histogram), Some((1, "helps", "bytes")));
        let mut encoder = Encoder::new(protocol);
        for _ in 0..2 {
            encoder.push(&NewSeries { labels: &labels, samples: &samples, histograms, exemplars: &exemplars, metadata });
            encoder.push_metadata("m", 1, "helps", "bytes");
            let (mut raw, mut visits) = (Vec::new(), 0);
            encoder.finish(&mut raw);
            let totals = Walker::new(1).walk(protocol, &raw, &Limits::default(), &mut |series| {
                visits += 1;
                assert_eq!(series.fault, None);
                assert_eq!(series.labels.iter().map(|label| (label.name, label.value)).collect::<Vec<_>>(), labels);
                let start = if protocol == Protocol::V2 { 3 } else { 0 };
                let points: Vec<_> = series.points.iter().map(|point| (point.time, point.kind, point.start)).collect();
                let exemplar = (9, Kind::Exemplar, 0);
                assert_eq!(points, [(-5, Kind::Float, 0), (6, Kind::Stale, start), (77, Kind::Histogram, 7), exemplar]);
                let mut read = Histogram::default();
                read.decode(series.points[2].raw).unwrap();
                assert_eq!(read, histogram);
                series.exemplar_labels(&series.points[3], &mut |name, value| assert_eq!((name, value), ("trace_id", "abc")));
            });
            assert_eq!((visits, totals.unwrap().metadata), (1, 1));
        }
    }
}

/// cAdvisor under Prometheus Operator: 14 labels, about 490 B a sample in 1.0; metric by metric, container by container.
pub fn cadvisor(protocol: Protocol, from: usize, count: usize) -> Vec<u8> {
    let mut encoder = Encoder::new(protocol);
    for number in from..from + count {
        // A node of 100 containers: 20 metrics make one request of 2,000.
        let (metric, container) = (format!("container_memory_usage_{}_bytes", number / 100), number % 100 + number / 2000 * 100);
        let hex = |salt: u64| format!("{:016x}", (container as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ salt));
        let id = format!("/kubepods/burstable/pod{}{}", hex(1), hex(3));
        let name = format!("{}{}{}{}", hex(3), hex(4), hex(5), hex(6));
        let pod = format!("checkout-service-{}-x{}", container % 40, container);
        let labels = [
            ("__name__", &metric[..]),
            ("__replica__", "prometheus-k8s-0"),
            ("cluster", "dc3-prod-7"),
            ("container", ["app", "sidecar", "init"][container % 3]),
            ("endpoint", "https-metrics"),
            ("id", &id),
            ("image", "registry.example/shop/checkout:v1.48.2"),
            ("instance", "10.42.117.23:10250"),
            ("job", "kubelet"),
            ("metrics_path", "/metrics/cadvisor"),
            ("name", &name),
            ("namespace", ["shop-checkout", "shop-search", "platform"][container / 7 % 3]),
            ("node", "ip-10-42-117-23"),
            ("pod", &pod),
        ];
        let sample = Sample::new(1_790_000_000_123, number as f64 * 4096.0 + 0.5);
        encoder.push(&NewSeries { labels: &labels, samples: &[sample], ..NewSeries::default() });
    }
    let mut raw = Vec::new();
    encoder.finish(&mut raw);
    raw
}

/// Not a check of speed (machines differ) but the way to see it: `cargo test --lib wire_speed -- --nocapture`, `SPEED_ROUNDS=300` for a good look.
#[test]
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn wire_speed_is_measured_and_the_figures_are_about_the_whole_request() {
    let rounds = std::env::var("SPEED_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let begun = std::time::Instant::now();
    let now = || begun.elapsed().as_nanos() as u64;
    for protocol in [Protocol::V1, Protocol::V2] {
        let packed: Vec<_> = (0..10)
            .map(|request| {
                let mut packed = Vec::new();
                super::pack::pack_snappy(&cadvisor(protocol, request * 2000, 2000), &mut packed);
                packed
            })
            .collect();
        let file = capture::read(capture_bytes(protocol)).unwrap();
        let made = packed.iter().map(|packed| &packed[..]).collect::<Vec<_>>();
        let real = file.iter().map(|request| request.body).collect::<Vec<_>>();
        for (name, bodies) in [("cadvisor", made), ("capture", real)] {
            let packing = super::pack::Packing::Snappy;
            let requests: Vec<_> = bodies.iter().map(|packed| measure::Request { protocol, packing, packed }).collect();
            let got = measure::decode(&requests, rounds, &now).unwrap();
            assert_eq!(got.points, if name == "capture" { 8_323 } else { 20_000 });
            let per = |nanos: u64| nanos as f64 / got.points as f64;
            let show = |step: measure::Step| format!("{:6.1}/{:6.1}", per(step.least), per(step.median));
            let bytes = |bytes: usize| bytes as f64 / got.points as f64;
            println!(
                "{protocol:?} {name:9} ns/point least/median: unpack {} walk {} walk+hash {} encode {} parse {} | B/point {:.1} packed {:.1} digest {:.2}",
                show(got.unpack),
                show(got.walk),
                show(got.walk_and_hash),
                show(got.encode),
                show(got.parse),
                bytes(got.unpacked_bytes),
                bytes(got.packed_bytes),
                bytes(got.digest_bytes)
            );
        }
    }
}

#[test]
fn scratch_memory_is_kept_between_requests() {
    for protocol in [Protocol::V1, Protocol::V2] {
        let (mut walker, raw) = (Walker::new(SEED), cadvisor(protocol, 0, 2000));
        let mut kept = Vec::new();
        for _ in 0..3 {
            walker.walk(protocol, &raw, &Limits::default(), &mut |_| ()).unwrap();
            kept.push((walker.kept_bytes(), walker.peak_bytes));
        }
        assert!(kept[0].0 > 1000 && kept.iter().all(|bytes| *bytes == (kept[0].0, kept[0].0)), "{kept:?}");
    }
}

#[test]
fn a_digest_of_a_capture_is_small_and_complete() {
    let mut walker = Walker::new(SEED);
    for raw in captured(Protocol::V1) {
        let (mut items, mut bytes) = (Vec::new(), Vec::new());
        digest_of(&mut walker, (Protocol::V1, &raw), &Limits::default(), &mut items).unwrap();
        encode(&items, &mut bytes);
        assert_eq!(Digest::parse(&bytes).unwrap().iter().collect::<Vec<_>>(), items);
        assert!(bytes.len() <= items.len() * 12 + 16);
    }
}

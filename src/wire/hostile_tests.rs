//! Hostile bytes: nothing here may panic, and nothing may take more memory than the limits say.
//!
//! Two parts: inputs made by hand, each of which hurt some receiver once (facts on other receivers: snappy bombs, symbol references out of
//! range, empty messages by the million), and a mutation fuzzer over these and the captures. Every parser of outside bytes has its run:
//! unpacking, both walkers, digest, histogram, division, capture files. `SEED=n` replays, `ROUNDS=n` goes on longer.

use fastrand::Rng;

use super::body::Body;
use super::body::subset;
use super::capture;
use super::captured_tests::capture_bytes;
use super::captured_tests::captured;
use super::digest::Digest;
use super::digest::encode;
use super::digest::encode_valued;
use super::encode::Encoder;
use super::encode::NewSeries;
use super::encode::Sample;
use super::histogram::ELEMENTS_MAX;
use super::histogram::Histogram;
use super::histogram::HistogramFault;
use super::measure::digest_of;
use super::pack::Bounds;
use super::pack::Packing;
use super::pack::pack_snappy;
use super::pack::pack_zstd;
use super::pack::unpack;
use super::proto::put_bytes;
use super::proto::put_varint;
use super::remote_write::DecodeError;
use super::remote_write::Limits;
use super::remote_write::Protocol;
use super::remote_write::SeriesFault;
use super::remote_write::Totals;
use super::remote_write::Walker;
use super::remote_write::metadata;
use crate::model::NO_VALUE;
use crate::model::Pick;
use crate::mutate::damage;
use crate::mutate::seeds;

/// Scratch that the default limits allow: 400,000 points, or 200,000 series of 128 labels visited one by one, or 400,000 symbols.
const SCRATCH_MAX: usize = 96 << 20;

fn walk(protocol: Protocol, raw: &[u8]) -> (Result<Totals, DecodeError>, Vec<Option<SeriesFault>>, usize) {
    let (mut walker, mut faults) = (Walker::new(1), Vec::new());
    let outcome = walker.walk(protocol, raw, &Limits::default(), &mut |series| faults.push(series.fault));
    assert!(walker.peak_bytes <= SCRATCH_MAX, "{} bytes of scratch", walker.peak_bytes);
    assert!(walker.kept_bytes() <= 9 << 20, "{} bytes kept", walker.kept_bytes());
    (outcome, faults, walker.peak_bytes)
}

fn repeated(piece: &[u8], times: usize) -> Vec<u8> {
    piece.repeat(times)
}

#[test]
fn millions_of_empty_series_are_refused_and_take_no_memory() {
    for (protocol, empty) in [(Protocol::V1, [0x0a, 0]), (Protocol::V2, [0x2a, 0])] {
        let (outcome, faults, peak) = walk(protocol, &repeated(&empty, 16_800_000));
        assert_eq!(outcome, Err(DecodeError::TooMany { what: "series", limit: 200_000 }));
        assert!(faults.iter().all(|fault| *fault == Some(SeriesFault::NoName)));
        assert!(peak < 4096, "{peak}");
    }
}

#[test]
fn millions_of_empty_points_are_refused() {
    for (protocol, key, field) in [(Protocol::V1, 1, 0x12), (Protocol::V1, 1, 0x1a), (Protocol::V2, 5, 0x12), (Protocol::V2, 5, 0x1a)] {
        let mut raw = Vec::new();
        put_bytes(&mut raw, key, &repeated(&[field, 0], 8_000_000));
        let (outcome, _, _) = walk(protocol, &raw);
        assert_eq!(outcome, Err(DecodeError::TooMany { what: "points", limit: 400_000 }));
    }
}

#[test]
fn a_series_of_65_thousand_labels_is_a_fault_of_that_series_alone() {
    let names: Vec<_> = (0..65_536).map(|number| format!("l{number:05}")).collect();
    let many: Vec<_> = names.iter().map(|name| (&name[..], "v")).collect();
    for protocol in [Protocol::V1, Protocol::V2] {
        let mut encoder = Encoder::new(protocol);
        for labels in [&many[..], &[("__name__", "up")]] {
            encoder.push(&NewSeries { labels, samples: &[Sample::new(1, 1.0)], ..NewSeries::default() });
        }
        let mut raw = Vec::new();
        encoder.finish(&mut raw);
        let (outcome, faults, peak) = walk(protocol, &raw);
        assert_eq!(outcome.map(|totals| (totals.points, totals.faulty)), Ok((2, 1)));
        assert_eq!(faults, [Some(SeriesFault::TooManyLabels), None]);
        assert!(peak < 6 << 20, "{peak}");
    }
}

#[test]
fn a_million_symbols_are_refused() {
    let mut raw = repeated(&[0x22, 0], 1);
    (0..1_000_000).for_each(|_| put_bytes(&mut raw, 4, b"x"));
    let (outcome, _, peak) = walk(Protocol::V2, &raw);
    assert_eq!(outcome, Err(DecodeError::TooMany { what: "symbols", limit: 400_000 }));
    assert!(peak <= 32 << 20, "{peak}");
}

#[test]
fn millions_of_references_take_no_memory() {
    let mut series = Vec::new();
    put_bytes(&mut series, 1, &vec![0; 32 << 20]);
    let mut raw = vec![0x22, 0];
    put_bytes(&mut raw, 5, &series);
    let (outcome, faults, peak) = walk(Protocol::V2, &raw);
    assert_eq!(outcome.map(|totals| totals.series), Ok(1));
    assert_eq!(faults, [Some(SeriesFault::EmptyLabelName)]);
    assert!(peak < 64 << 10, "{peak}");
}

#[test]
fn millions_of_buckets_take_little_memory_and_are_a_fault() {
    let mut message = Vec::new();
    put_bytes(&mut message, 12, &vec![0; 32 << 20]);
    message.extend(repeated(&[0x5a, 0], 1_000_000));
    let mut histogram = Histogram::default();
    histogram.decode(&message).unwrap();
    assert_eq!(histogram.check(), Err(HistogramFault::TooLarge));
    assert!(histogram.positive.deltas.capacity() <= 2 * ELEMENTS_MAX && histogram.positive.spans.capacity() <= 2 * ELEMENTS_MAX);
    // A span of four billion buckets, of which one is there.
    let mut message = vec![0x62, 1, 2];
    put_bytes(&mut message, 11, &[0x10, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    histogram.decode(&message).unwrap();
    assert_eq!(histogram.check(), Err(HistogramFault::Spans));
    let mut seen = 0;
    histogram.buckets(&mut |_| seen += 1);
    assert_eq!(seen, 1);
}

#[test]
fn text_that_alternates_between_valid_and_not_is_read_in_linear_time() {
    // Each label's value is a long text with a bad byte at its end: a walk that checks "as far as it goes" again and again would take hours.
    let mut value = vec![b'a'; 100];
    value.push(0xff);
    let mut label = Vec::new();
    put_bytes(&mut label, 2, &value);
    put_bytes(&mut label, 1, b"n");
    let mut series = Vec::new();
    (0..100_000).for_each(|_| put_bytes(&mut series, 1, &label));
    let mut raw = Vec::new();
    put_bytes(&mut raw, 1, &series);
    let (outcome, faults, _) = walk(Protocol::V1, &raw);
    assert_eq!((outcome.map(|totals| totals.series), faults), (Ok(1), vec![Some(SeriesFault::NotUtf8)]));
}

#[test]
fn every_fault_of_a_series_is_told_and_leaves_the_rest() {
    let check = |labels: &[(&str, &str)], expected: Option<SeriesFault>| {
        for protocol in [Protocol::V1, Protocol::V2] {
            let mut encoder = Encoder::new(protocol);
            for labels in [labels, &[("__name__", "up")]] {
                encoder.push(&NewSeries { labels, samples: &[Sample::new(1, 1.0)], ..NewSeries::default() });
            }
            let mut raw = Vec::new();
            encoder.finish(&mut raw);
            let (outcome, faults, _) = walk(protocol, &raw);
            assert_eq!((outcome.map(|totals| totals.points), faults), (Ok(2), vec![expected, None]), "{labels:?}");
        }
    };
    check(&[("__name__", "m"), ("b", "1"), ("a", "1")], None);
    check(&[("__name__", "m"), ("a", "")], None);
    check(&[("__name__", "m"), ("dotted.ä", "line\nbreak")], None);
    check(&[], Some(SeriesFault::NoName));
    check(&[("a", "1")], Some(SeriesFault::NoName));
    check(&[("__name__", ""), ("a", "1")], Some(SeriesFault::NoName));
    check(&[("__name__", "m"), ("", "1")], Some(SeriesFault::EmptyLabelName));
    check(&[("__name__", "m"), ("a", "1"), ("a", "1")], Some(SeriesFault::DuplicateLabel));
    check(&[("a", "1"), ("__name__", "m"), ("a", "2")], Some(SeriesFault::DuplicateLabel));
    check(&[("__name__", "m"), (&"n".repeat(1025), "1")], Some(SeriesFault::LongName));
    check(&[("__name__", "m"), ("a", &"v".repeat(16_385))], Some(SeriesFault::LongValue));
    check(&[("__name__", "m"), (&"n".repeat(1024), &"v".repeat(16_384))], None);
}

#[test]
fn a_series_is_judged_by_itself_whatever_stood_in_its_place_before() {
    // Each place remembers the series before; shorter, longer and reordered neighbours must not lend each other their order.
    let rows: [&[(&str, &str)]; 6] = [
        &[("__name__", "m"), ("b", "1"), ("c", "1")],
        &[("__name__", "m"), ("z", "1")],
        &[("__name__", "m"), ("z", "1"), ("c", "1")],
        &[("__name__", "m"), ("c", "2"), ("c", "1")],
        &[("__name__", "m"), ("b", "1"), ("c", "1")],
        &[("__name__", "m"), ("c", "1"), ("b", "1")],
    ];
    for protocol in [Protocol::V1, Protocol::V2] {
        let mut encoder = Encoder::new(protocol);
        rows.iter().for_each(|labels| encoder.push(&NewSeries { labels, ..NewSeries::default() }));
        let mut raw = Vec::new();
        encoder.finish(&mut raw);
        let mut seen = Vec::new();
        Walker::new(1).walk(protocol, &raw, &Limits::default(), &mut |series| seen.push((series.sorted, series.fault))).unwrap();
        let twice = Some(SeriesFault::DuplicateLabel);
        assert_eq!(seen, [(true, None), (true, None), (false, None), (false, twice), (true, None), (false, None)], "{protocol:?}");
    }
}

#[test]
fn references_and_symbols_of_2_0_are_checked_everywhere() {
    let request = |symbols: &[&[u8]], series: &[u8]| {
        let mut raw = Vec::new();
        symbols.iter().for_each(|symbol| put_bytes(&mut raw, 4, symbol));
        put_bytes(&mut raw, 5, series);
        put_bytes(&mut raw, 5, &[0x0a, 2, 1, 2]);
        walk(Protocol::V2, &raw)
    };
    let table: [&[u8]; 4] = [b"", b"__name__", b"m", b"\xff"];
    let faults = |series: &[u8]| request(&table, series).1;
    assert_eq!(faults(&[0x0a, 2, 1, 2]), [None, None]);
    assert_eq!(faults(&[0x0a, 3, 1, 2, 1]), [Some(SeriesFault::OddReferences), None]);
    assert_eq!(faults(&[0x0a, 4, 1, 2, 2, 9]), [Some(SeriesFault::ReferenceRange), None]);
    assert_eq!(faults(&[0x0a, 4, 1, 2, 2, 3]), [Some(SeriesFault::NotUtf8), None]);
    assert_eq!(faults(&[0x0a, 2, 1, 2, 0x22, 3, 0x0a, 1, 2]), [Some(SeriesFault::OddReferences), None]);
    assert_eq!(faults(&[0x0a, 2, 1, 2, 0x22, 4, 0x0a, 2, 2, 9]), [Some(SeriesFault::ReferenceRange), None]);
    assert_eq!(faults(&[0x0a, 2, 1, 2, 0x2a, 2, 0x18, 9]), [Some(SeriesFault::ReferenceRange), None]);
    assert_eq!(faults(&[0x0a, 2, 1, 2, 0x2a, 2, 0x20, 9]), [Some(SeriesFault::ReferenceRange), None]);
    assert_eq!(request(&[b"x", b"__name__", b"m"], &[]).0, Err(DecodeError::FirstSymbol));
    // No table at all, and no reference: an empty request is not wrong.
    assert_eq!(walk(Protocol::V2, &[]).0.map(|totals| totals.series), Ok(0));
    assert_eq!(walk(Protocol::V2, &[0x2a, 2, 0x0a, 0]).1, [Some(SeriesFault::NoName)]);
}

/// One input for the fuzzer: which parser, and the bytes.
fn corpus() -> Vec<(Packing, Protocol, Vec<u8>)> {
    let mut corpus = Vec::new();
    for protocol in [Protocol::V1, Protocol::V2] {
        for whole in captured(protocol) {
            let (mut raw, from) = (Vec::new(), corpus.len() as u32 * 20);
            subset(protocol, &whole, &mut |number| (from..from + 30).contains(&number), &mut raw).unwrap();
            let mut packed = Vec::new();
            pack_snappy(&raw, &mut packed);
            corpus.push((Packing::Snappy, protocol, packed));
            corpus.push((Packing::Zstd, protocol, pack_zstd(&raw).unwrap()));
        }
    }
    let mut bomb = Vec::new();
    pack_snappy(&vec![0; 1 << 20], &mut bomb);
    corpus.push((Packing::Snappy, Protocol::V1, bomb));
    corpus.push((Packing::Zstd, Protocol::V1, pack_zstd(&vec![10; 1 << 20]).unwrap()));
    corpus.push((Packing::Snappy, Protocol::V1, vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]));
    corpus
}

#[test]
fn damaged_bodies_do_not_panic_and_stay_within_their_bounds() {
    let (bounds, limits) = (Bounds { unpacked_bytes: 2 << 20 }, Limits::default());
    let corpus = corpus();
    let (mut walker, mut out, mut items, mut digest) = (Walker::new(1), Vec::new(), Vec::new(), Vec::new());
    let (mut unpacked, mut walked) = (0, 0);
    for seed in seeds(6_000) {
        let random = &mut Rng::with_seed(seed);
        let (packing, protocol, packed) = &corpus[random.usize(0..corpus.len())];
        let mut body = packed.clone();
        damage(random, &mut body);
        if unpack(*packing, &body, bounds, &mut out).is_err() {
            assert!(out.is_empty() && out.capacity() <= 2 * bounds.unpacked_bytes, "SEED={seed}");
            continue;
        }
        unpacked += 1;
        assert!(out.len() <= bounds.unpacked_bytes && out.capacity() <= 2 * bounds.unpacked_bytes, "SEED={seed}");
        if random.bool() {
            damage(random, &mut out);
        }
        let listed = metadata(&out, &mut |_| ());
        let mut part = Vec::new();
        let divided = subset(*protocol, &out, &mut |number| number % 2 == 0, &mut part);
        if digest_of(&mut walker, (*protocol, &out), &limits, &mut items).is_ok() {
            walked += 1;
            assert!(
                (*protocol == Protocol::V2 || listed.is_ok())
                    && divided.is_ok()
                    && walker.walk(*protocol, &part, &limits, &mut |_| ()).is_ok(),
                "SEED={seed}"
            );
            digest.clear();
            encode(&items, &mut digest);
            assert!(Digest::parse(&digest).unwrap().iter().eq(items.iter().copied()), "SEED={seed}");
            let picks: Vec<_> = (0..items.len() as u32).map(|item| Pick { item, late: false }).collect();
            let body = Body { protocol: *protocol, raw: std::mem::take(&mut out), strip: vec!["job".to_owned()], tenant: String::new() };
            let taken = items.iter().filter(|item| !item.refused).count();
            assert_eq!(body.pick(&mut walker, &picks, &mut |_| ()), Ok(taken), "SEED={seed}");
            out = body.raw;
        }
        assert!(walker.peak_bytes <= SCRATCH_MAX, "SEED={seed}");
    }
    assert!(unpacked > 500 || unpacked + walked < 3, "{unpacked} unpacked: the fuzzer does not get far");
    assert!(walked > 100 || unpacked + walked < 3, "{walked} walked: the fuzzer does not get far");
}

#[test]
fn damaged_digests_do_not_panic_and_iterate_as_often_as_they_say() {
    let mut items = Vec::new();
    let raw = &captured(Protocol::V1)[1];
    digest_of(&mut Walker::new(1), (Protocol::V1, raw), &Limits::default(), &mut items).unwrap();
    let mut accepted = 0;
    for seed in seeds(20_000) {
        let random = &mut Rng::with_seed(seed);
        let (from, mut bytes) = (random.usize(0..items.len()), Vec::new());
        let mut part = items[from..(from + random.usize(0..40)).min(items.len())].to_vec();
        part.iter_mut().for_each(|item| item.refused = random.u8(..) < 50);
        let values: Vec<u64> = part.iter().map(|_| if random.bool() { NO_VALUE } else { random.u64(..) }).collect();
        encode_valued(&part, if random.bool() { &values } else { &[] }, &mut bytes);
        damage(random, &mut bytes);
        if let Ok(digest) = Digest::parse(&bytes) {
            accepted += 1;
            assert_eq!(digest.iter().count(), digest.len(), "SEED={seed}");
            let (mut again, mut values, mut values_again) = (Vec::new(), Vec::new(), vec![1]);
            digest.values(&mut values);
            assert!(values.is_empty() || values.len() == digest.len(), "SEED={seed}");
            encode_valued(&digest.iter().collect::<Vec<_>>(), &values, &mut again);
            let digest_again = Digest::parse(&again).unwrap();
            digest_again.values(&mut values_again);
            assert!(digest_again.iter().eq(digest.iter()) && values_again == values, "SEED={seed}");
        }
    }
    assert!(accepted != 0 || std::env::var("SEED").is_ok());
}

#[test]
fn damaged_histograms_and_capture_files_do_not_panic() {
    let mut histogram = Histogram::default();
    let mut messages = Vec::new();
    for raw in captured(Protocol::V2) {
        let keep = &mut |series: super::remote_write::Series<'_, '_>| {
            messages.extend(series.points.iter().filter(|point| point.histogram).map(|point| point.raw.to_vec()));
        };
        Walker::new(1).walk(Protocol::V2, &raw, &Limits::default(), keep).unwrap();
    }
    let file = &capture_bytes(Protocol::V2)[..20_000];
    for seed in seeds(10_000) {
        let random = &mut Rng::with_seed(seed);
        let mut message = messages[random.usize(0..messages.len())].clone();
        damage(random, &mut message);
        if histogram.decode(&message).is_ok() && histogram.check().is_ok() {
            let mut seen = 0;
            histogram.buckets(&mut |_| seen += 1);
            assert!(seen <= 2 * ELEMENTS_MAX + 1, "SEED={seed}");
        }
        let mut bytes = file.to_vec();
        damage(random, &mut bytes);
        if random.bool() {
            bytes.iter_mut().take(8).for_each(|byte| *byte = random.u8(..));
        }
        drop(capture::read(&bytes));
    }
    let mut length = Vec::new();
    put_varint(&mut length, 5);
    assert!(histogram.decode(&length).is_err());
}

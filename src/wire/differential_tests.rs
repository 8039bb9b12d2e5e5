//! Ours against prost: random messages, the same in every shape the wire allows, and damaged ones.
//!
//! The rule: whenever prost accepts, we accept and see the same, but for what is stricter on purpose (groups, the first symbol); whenever we
//! accept, prost accepts. `SEED=n` replays one seed, `ROUNDS=n` runs longer.

use fastrand::Rng;
use prost::Message;

use super::histogram::Histogram;
use super::proto::Malformed;
use super::proto::Reader;
use super::proto::put_bytes;
use super::proto::put_varint;
use super::reference::BucketSpan;
use super::reference::LABELS_MAX;
use super::reference::NAME_MAX;
use super::reference::OneCount;
use super::reference::OneZero;
use super::reference::RefHistogram;
use super::reference::RefSeries;
use super::reference::VALUE_MAX;
use super::reference::one;
use super::reference::read;
use super::reference::two;
use super::remote_write::DecodeError;
use super::remote_write::Label;
use super::remote_write::Limits;
use super::remote_write::Protocol;
use super::remote_write::Series;
use super::remote_write::Walker;
use super::remote_write::series_hash;
use crate::model::Kind;
use crate::model::STALE_NAN;
use crate::mutate::damage;
use crate::mutate::seeds;

fn limits() -> Limits {
    Limits { labels_per_series: LABELS_MAX, label_name_bytes: NAME_MAX, label_value_bytes: VALUE_MAX, ..Limits::default() }
}

/// What we see of a series, in the reference's terms; of a faulty one no labels.
fn seen(series: &Series<'_, '_>) -> RefSeries {
    let mut ours = RefSeries { faults: series.fault.into_iter().collect(), ..RefSeries::default() };
    ours.points = series.points.iter().map(|point| (point.time, point.kind, point.histogram, point.bits, point.start)).collect();
    if series.fault.is_none() {
        assert!(series.labels.windows(2).all(|pair| pair[0].name < pair[1].name), "labels are sorted and unique");
        ours.labels = series.labels.iter().map(|label| (label.name.to_owned(), label.value.to_owned())).collect();
        for point in series.points.iter().filter(|point| point.kind == Kind::Exemplar) {
            let mut labels = Vec::new();
            series.exemplar_labels(point, &mut |name, value| labels.push((name.to_owned(), value.to_owned())));
            ours.exemplars.push(labels);
        }
        ours.metadata = series.metadata.map(|about| (about.kind, about.help.to_owned(), about.unit.to_owned()));
    }
    ours
}

/// Walks and compares; says whether both accepted. `walker` is used for all of a test, so that leftovers of one request would show.
#[track_caller]
fn compare(walker: &mut Walker, protocol: Protocol, raw: &[u8], what: &str) -> bool {
    let mut ours = Vec::new();
    let outcome = walker.walk(protocol, raw, &limits(), &mut |series| ours.push(seen(&series)));
    match (outcome, read(protocol, raw)) {
        (Ok(totals), Some(theirs)) => {
            assert_eq!(totals.series, theirs.len(), "{what}");
            assert_eq!(totals.points, theirs.iter().map(|series| series.points.len()).sum::<usize>(), "{what}");
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert_eq!(ours.points, theirs.points, "{what}");
                match ours.faults.first() {
                    Some(fault) => assert!(theirs.faults.contains(fault), "{what}: {fault} is not among {:?}", theirs.faults),
                    None => assert_eq!(ours, theirs, "{what}"),
                }
            }
            stripped(walker, protocol, raw, &ours, what);
            true
        }
        (Err(_), None) => false,
        // Stricter on purpose.
        (Err(DecodeError::FirstSymbol), Some(_)) => false,
        (Err(DecodeError::Malformed(Malformed::WireType)), Some(_)) if has_group(raw) => false,
        (Err(refused), Some(_)) => panic!("{what}: prost accepts, we say: {refused}"),
        (Ok(_), None) => panic!("{what}: we accept, prost does not"),
    }
}

/// Walks again without some labels: all else is as it was.
#[track_caller]
fn stripped(walker: &mut Walker, protocol: Protocol, raw: &[u8], whole: &[RefSeries], what: &str) {
    let strip = ["a".to_owned(), "job".to_owned()];
    let mut number = 0;
    let walked = walker.walk_stripped((protocol, raw), &limits(), &strip, &mut |series| {
        let mut expected = whole[number].clone();
        expected.labels.retain(|name, _| !strip.contains(name));
        assert_eq!(seen(&series), expected, "{what}, without {strip:?}");
        let left: Vec<Label<'_>> = expected.labels.iter().map(|(name, value)| Label::new(1, name, value)).collect();
        assert!(series.fault.is_some() || series.hash(&[]) == series_hash(&left, &[]), "{what}, without {strip:?}");
        number += 1;
    });
    assert!(walked.is_ok() && number == whole.len(), "{what}");
}

/// A group's start stands somewhere: as the key of a field, at any byte where one could be. Good enough to excuse a refusal.
fn has_group(raw: &[u8]) -> bool {
    raw.iter().any(|byte| byte & 7 == 3) && raw.iter().any(|byte| byte & 7 == 4)
}

fn word(random: &mut Rng) -> Vec<u8> {
    const WORDS: [&[u8]; 10] = [b"__name__", b"job", b"a", b"b", b"up", b"Stra\xc3\x9fe", b"", b"\xff", b"instance", b"__name__"];
    match random.u8(..) {
        0..5 => vec![b'x'; random.usize(0..260)],
        _ => WORDS[random.usize(0..WORDS.len())].to_vec(),
    }
}

fn value(random: &mut Rng) -> f64 {
    match random.u8(0..6) {
        0 => 0.0,
        1 => f64::from_bits(STALE_NAN),
        2 => f64::from_bits(random.u64(..)),
        3 => -0.0,
        _ => f64::from(random.i16(..)),
    }
}

fn time(random: &mut Rng) -> i64 {
    if random.bool() { 1_790_000_000_000 + random.i64(0..100_000) } else { random.i64(..) >> random.u32(0..64) }
}

fn few<T>(random: &mut Rng, most: usize, mut make: impl FnMut(&mut Rng) -> T) -> Vec<T> {
    (0..random.usize(0..=most)).map(|_| make(random)).collect()
}

fn histogram(random: &mut Rng) -> RefHistogram {
    let span = |random: &mut Rng| BucketSpan { offset: random.i32(-2..5), length: random.u32(0..3) };
    let mut made = RefHistogram {
        count: [None, Some(OneCount::Int(random.u64(0..20))), Some(OneCount::Float(value(random)))][random.usize(0..3)].clone(),
        sum: value(random),
        schema: [0, 3, -53, 9, 77, -4][random.usize(0..6)],
        zero_threshold: if random.bool() { 0.0 } else { 1e-128 },
        zero_count: [None, Some(OneZero::Int(random.u64(0..3))), Some(OneZero::Float(value(random)))][random.usize(0..3)].clone(),
        negative_spans: few(random, 1, span),
        positive_spans: few(random, 3, span),
        reset_hint: random.i32(0..5),
        timestamp: time(random),
        custom_values: few(random, 3, value),
        start_timestamp: if random.bool() { 0 } else { time(random) },
        ..RefHistogram::default()
    };
    let spoken_of: u32 = made.positive_spans.iter().map(|span| span.length).sum();
    made.positive_deltas = (0..spoken_of).map(|_| random.i64(-1..3)).collect();
    made.positive_counts = few(random, 3, value);
    made.negative_deltas = few(random, 2, |random| random.i64(..) >> random.u32(0..64));
    made.negative_counts = few(random, 2, value);
    if random.bool() {
        make_valid(&mut made);
    }
    made
}

fn make_valid(made: &mut RefHistogram) {
    let mut running = 0;
    made.positive_spans.iter_mut().skip(1).for_each(|span| span.offset = span.offset.abs());
    made.positive_deltas.iter_mut().for_each(|delta| *delta = delta.abs());
    let mut bucket = |delta: &i64| {
        running += delta;
        running
    };
    let buckets: i64 = made.positive_deltas.iter().map(&mut bucket).sum();
    made.count = Some(OneCount::Int(buckets as u64));
    made.zero_count = None;
    made.sum = 3.0;
    made.schema = 1;
    made.negative_spans.clear();
    made.negative_deltas.clear();
    made.custom_values.clear();
}

fn request_one(random: &mut Rng) -> Vec<u8> {
    let label = |random: &mut Rng| one::Label { name: word(random), value: word(random) };
    let mut usual = few(random, 4, label);
    usual.insert(0, one::Label { name: b"__name__".to_vec(), value: b"m".to_vec() });
    let series = |random: &mut Rng| one::TimeSeries {
        labels: match random.u8(0..5) {
            0 => few(random, 8, label),
            1 => usual.iter().filter(|_| random.bool()).cloned().collect(),
            2 => usual.iter().map(|usual| if random.u8(0..4) == 0 { label(random) } else { usual.clone() }).collect(),
            _ => usual.clone(),
        },
        samples: few(random, 2, |random| one::Sample { value: value(random), timestamp: time(random) }),
        exemplars: few(random, 1, |random| one::Exemplar { labels: few(random, 2, label), value: value(random), timestamp: time(random) }),
        histograms: few(random, 1, histogram),
    };
    let metadata = |random: &mut Rng| one::Metadata {
        kind: random.i32(..) >> random.u32(0..32),
        family: word(random),
        help: word(random),
        unit: word(random),
    };
    one::Request { timeseries: few(random, 6, series), metadata: few(random, 1, metadata) }.encode_to_vec()
}

fn request_two(random: &mut Rng) -> Vec<u8> {
    let mut symbols = few(random, 12, word);
    if random.u8(..) > 10 {
        symbols.splice(0..0, [Vec::new(), b"__name__".to_vec(), b"m".to_vec()]);
    }
    let most = symbols.len() as u32;
    let reference = |random: &mut Rng| if random.u8(..) == 0 { random.u32(..) } else { random.u32(0..most.max(1)) };
    let mut usual = few(random, 8, reference);
    usual.truncate(usual.len() / 2 * 2);
    usual.splice(0..0, [1, 2]);
    let series = |random: &mut Rng| two::TimeSeries {
        labels_refs: if random.u8(0..3) == 0 { few(random, 18, reference) } else { usual.clone() },
        samples: few(random, 2, |random| two::Sample {
            value: value(random),
            timestamp: time(random),
            start_timestamp: if random.bool() { 0 } else { time(random) },
        }),
        histograms: few(random, 1, histogram),
        exemplars: few(random, 1, |random| two::Exemplar {
            labels_refs: few(random, 4, reference),
            value: value(random),
            timestamp: time(random),
        }),
        metadata: random.bool().then(|| two::Metadata {
            kind: random.i32(0..9),
            help_ref: if random.bool() { 0 } else { reference(random) },
            unit_ref: if random.bool() { 0 } else { reference(random) },
        }),
        created_timestamp: if random.bool() { 0 } else { time(random) },
    };
    two::Request { timeseries: few(random, 6, series), symbols }.encode_to_vec()
}

fn request(protocol: Protocol, random: &mut Rng) -> Vec<u8> {
    if protocol == Protocol::V1 { request_one(random) } else { request_two(random) }
}

/// Field numbers (as a path would give them) of nested messages and packed scalars, by message.
#[derive(Clone, Copy)]
enum Shape {
    Plain,
    Varints,
    Doubles,
    Message(&'static [(u32, Shape)]),
}

const SPAN: Shape = Shape::Message(&[]);
const LABEL: Shape = Shape::Message(&[]);
const SAMPLE: Shape = Shape::Message(&[]);
const HISTOGRAM: Shape = Shape::Message(&[
    (8, SPAN),
    (9, Shape::Varints),
    (10, Shape::Doubles),
    (11, SPAN),
    (12, Shape::Varints),
    (13, Shape::Doubles),
    (16, Shape::Doubles),
]);
const ONE: Shape = Shape::Message(&[
    (1, Shape::Message(&[(1, LABEL), (2, SAMPLE), (3, Shape::Message(&[(1, LABEL)])), (4, HISTOGRAM)])),
    (3, Shape::Message(&[])),
]);
const TWO: Shape = Shape::Message(&[(
    5,
    Shape::Message(&[
        (1, Shape::Varints),
        (2, SAMPLE),
        (3, HISTOGRAM),
        (4, Shape::Message(&[(1, Shape::Varints)])),
        (5, Shape::Message(&[])),
    ]),
)]);

/// The same request in another of its shapes: fields in another order, packed fields split or unpacked, unknown fields, padded varints.
fn reshape(random: &mut Rng, raw: &[u8], shape: Shape) -> Vec<u8> {
    let Shape::Message(inner) = shape else { return raw.to_vec() };
    let mut fields = Vec::new();
    let mut reader = Reader::new(raw);
    while let Some(key) = reader.key().unwrap() {
        let number = key >> 3;
        let start = reader.at();
        if key & 7 != 2 {
            reader.skip(key, &[]).unwrap();
            let mut field = Vec::new();
            put_varint(&mut field, u64::from(key));
            field.extend_from_slice(&raw[start..reader.at()]);
            fields.push(field);
            continue;
        }
        let content = reader.message().unwrap().rest();
        let known = inner.iter().find(|(field, _)| *field == number).map_or(Shape::Plain, |(_, shape)| *shape);
        reshape_field(random, number, known, content, &mut fields);
    }
    if random.u8(0..4) == 0 {
        let mut unknown = Vec::new();
        match random.u8(0..4) {
            0 => put_bytes(&mut unknown, 99, b"\xff\x00unknown"),
            1 => unknown.extend_from_slice(&[0xf8, 0x06, 0x80, 0x80, 0x01]),
            2 => unknown.extend_from_slice(&[0xf9, 0x06, 1, 2, 3, 4, 5, 6, 7, 8]),
            _ => unknown.extend_from_slice(&[0xfd, 0x06, 1, 2, 3, 4]),
        }
        fields.push(unknown);
    }
    if random.bool() {
        random.shuffle(&mut fields);
    }
    fields.concat()
}

fn reshape_field(random: &mut Rng, number: u32, shape: Shape, content: &[u8], fields: &mut Vec<Vec<u8>>) {
    let mut field = Vec::new();
    match shape {
        Shape::Varints | Shape::Doubles if random.bool() => {
            let mut reader = Reader::new(content);
            while !reader.rest().is_empty() {
                let start = reader.at();
                if matches!(shape, Shape::Varints) {
                    reader.varint().unwrap();
                } else {
                    reader.fixed64().unwrap();
                }
                let element = &content[start..reader.at()];
                let mut field = Vec::new();
                if random.bool() {
                    put_bytes(&mut field, number, element);
                } else {
                    put_varint(&mut field, u64::from(number << 3 | u32::from(matches!(shape, Shape::Doubles))));
                    field.extend_from_slice(element);
                }
                fields.push(field);
            }
            return;
        }
        Shape::Message(_) => put_bytes(&mut field, number, &reshape(random, content, shape)),
        // A length padded to more bytes than it needs.
        _ if content.len() < 128 && random.u8(0..4) == 0 => {
            put_varint(&mut field, u64::from(number << 3 | 2));
            field.extend_from_slice(&[content.len() as u8 | 0x80, 0x80, 0x00]);
            field.extend_from_slice(content);
        }
        _ => put_bytes(&mut field, number, content),
    }
    fields.push(field);
}

#[test]
fn random_requests_read_as_prost_reads_them_in_any_shape() {
    let mut walker = Walker::new(1);
    for seed in seeds(3_000) {
        let random = &mut Rng::with_seed(seed);
        for (protocol, shape) in [(Protocol::V1, ONE), (Protocol::V2, TWO)] {
            let raw = request(protocol, random);
            compare(&mut walker, protocol, &raw, &format!("SEED={seed} {protocol:?} as prost writes it"));
            let raw = reshape(random, &raw, shape);
            compare(&mut walker, protocol, &raw, &format!("SEED={seed} {protocol:?} reshaped"));
        }
    }
}

#[test]
fn damaged_requests_are_accepted_exactly_when_prost_accepts_them() {
    let mut walker = Walker::new(1);
    let (mut both, mut all) = (0, 0);
    for seed in seeds(20_000) {
        let random = &mut Rng::with_seed(seed);
        for protocol in [Protocol::V1, Protocol::V2] {
            let mut raw = request(protocol, random);
            damage(random, &mut raw);
            both += usize::from(compare(&mut walker, protocol, &raw, &format!("SEED={seed} {protocol:?} damaged")));
            all += 1;
        }
    }
    // Otherwise this test would compare refusals only.
    assert!(all < 100 || both * 10 > all, "{both} of {all} were accepted");
}

#[test]
fn histograms_read_as_prost_reads_them() {
    let mut ours = Histogram::default();
    for seed in seeds(20_000) {
        let random = &mut Rng::with_seed(seed);
        let mut raw = histogram(random).encode_to_vec();
        if random.bool() {
            raw = reshape(random, &raw, HISTOGRAM);
        }
        if random.bool() {
            damage(random, &mut raw);
        }
        match (ours.decode(&raw), RefHistogram::decode(&raw[..])) {
            (Ok(()), Ok(theirs)) => assert_eq!(ours, theirs.to_ours(), "SEED={seed}"),
            (Err(Malformed::WireType), Ok(_)) if has_group(&raw) => {}
            (Err(_), Err(_)) => {}
            (ours, theirs) => panic!("SEED={seed}: {ours:?} {theirs:?}"),
        }
    }
}

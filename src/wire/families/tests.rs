//! What is read and how it looks afterwards; and bytes that are damaged.

use super::*;
use crate::mutate::damage;
use crate::mutate::seeds;
use crate::wire::proto::put_bytes;
use crate::wire::proto::put_double_always;
use crate::wire::proto::put_varint;

fn shown(body: &str) -> Result<String, String> {
    let read = text::read(body.as_bytes()).map_err(|wrong| wrong.to_string())?;
    assert_eq!(read.refused, None);
    Ok(write(read.families))
}

const ALL: &str = "# a comment\n#\n\n# HELP http_requests_total  Of all \\\\ kinds\\nand \"more\".\n# TYPE http_requests_total counter\n\
    http_requests_total{method=\"post\",code=\"200\"} 1027\n  http_requests_total { method = \"post\" , code=\"400\", }\t3.0\n\
    # TYPE took summary\ntook{quantile=\"0.5\"} 0.25\ntook{quantile=\"0.99\"} NaN\ntook_sum 17.5\ntook_count 2693\n\
    # TYPE size histogram\nsize_bucket{a=\"x\",le=\"100000\"} 1\nsize_bucket{a=\"x\",le=\"1e6\"} 2\nsize_sum{a=\"x\"} 1.5e6\nsize_count{a=\"x\"} 3\n\
    bare -Inf\nquoted{path=\"C:\\\\DIR\\n\\\"FILE\\\"\"} 1.458255915e9\n# TYPE never gauge\n";

#[test]
fn text_is_read_and_written_as_prometheus_own_library_does() {
    let expected = "# TYPE bare untyped\nbare -Inf\n# HELP http_requests_total Of all \\\\ kinds\\nand \"more\".\n\
        # TYPE http_requests_total counter\nhttp_requests_total{method=\"post\",code=\"200\"} 1027\nhttp_requests_total{method=\"post\",code=\"400\"} 3\n\
        # TYPE quoted untyped\nquoted{path=\"C:\\\\DIR\\n\\\"FILE\\\"\"} 1.458255915e+09\n\
        # TYPE size histogram\nsize_bucket{a=\"x\",le=\"100000\"} 1\nsize_bucket{a=\"x\",le=\"1e+06\"} 2\nsize_bucket{a=\"x\",le=\"+Inf\"} 3\n\
        size_sum{a=\"x\"} 1.5e+06\nsize_count{a=\"x\"} 3\n\
        # TYPE took summary\ntook{quantile=\"0.5\"} 0.25\ntook{quantile=\"0.99\"} NaN\ntook_sum 17.5\ntook_count 2693\n";
    assert_eq!(shown(ALL).as_deref(), Ok(expected));
    assert_eq!(shown(expected).as_deref(), Ok(expected), "what is written is read as the same");
}

#[test]
fn numbers_look_as_go_writes_them() {
    let pairs =
        [(0.0001, "0.0001"), (0.00001, "1e-05"), (123_456.0, "123456"), (1_234_567.0, "1.234567e+06"), (1e21, "1e+21"), (1e100, "1e+100")];
    for (value, text) in
        pairs.into_iter().chain([(-0.0, "0"), (2.5, "2.5"), (-1e6, "-1e+06"), (f64::MIN_POSITIVE, "2.2250738585072014e-308")])
    {
        assert_eq!(number(value), text);
    }
}

#[test]
fn what_is_no_text_of_metrics_is_refused_with_its_line() {
    let wrong = |body: &str| shown(body).unwrap_err();
    for (body, why) in [
        ("x 1", "line 1: unexpected end of input stream"),
        ("x 1\ny", "line 2: unexpected end"),
        ("x\n", "expected float as value, got \"\""),
        ("x 1 \n", "expected integer as timestamp, got \"\""),
        ("x 1 2 3\n", "spurious string after timestamp"),
        ("x 1.5.0\n", "expected float"),
        ("x 1e999\n", "expected float"),
        ("x 1\r\n", "expected float"),
        ("1x 1\n", "invalid metric name"),
        ("x{1=\"\"} 1\n", "invalid label name"),
        ("x{__name__=\"y\"} 1\n", "reserved"),
        ("x{a=\"1\",a=\"2\"} 1\n", "duplicate label names"),
        ("x{a=\"1} 1\n", "has no end"),
        ("x{a=\"\\t\"} 1\n", "invalid escape sequence"),
        ("x{a=\"1\" b=\"2\"} 1\n", "unexpected end of the value"),
        ("# TYPE x counter\n# TYPE x counter\n", "line 2: second TYPE"),
        ("x 1\n# TYPE x counter\n", "line 2: second TYPE line"),
        ("# HELP x a\n# HELP x b\n", "second HELP"),
        ("# TYPE x thing\n", "unknown metric type \"thing\""),
        ("# TYPE 1 thing\n", "invalid metric name in comment"),
    ] {
        let told = wrong(body);
        assert!(told.contains(why), "{body:?}: {told}");
    }
    assert!(matches!(text::read(b"x{a=\"\xff\"} 1\n"), Err(Wrong::Text { line: 1, .. })));
    let read = text::read(b"x 1 1700000000000\n").unwrap();
    assert_eq!(read.refused.as_deref(), Some(NO_TIMES), "it can be read, and is not taken");
    assert_eq!(text::read(b"").unwrap(), Read::default());
    let many = |times: usize| text::read("x{a=\"b\"} 1\n".repeat(times).as_bytes());
    assert!(many(MOST_ITEMS / 2).is_ok() && many(MOST_ITEMS / 2 + 1).is_err());
    // An empty family of empty metrics, and a metric of empty labels: two bytes each.
    let mut family = message(&[(1, b"x")]);
    family.extend([0x22, 0].repeat(MOST_ITEMS + 1));
    let mut body = Vec::new();
    put_varint(&mut body, family.len() as u64);
    body.extend(family);
    assert!(delimited::read(&body).unwrap_err().to_string().contains("more than"));
}

fn message(parts: &[(u32, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    parts.iter().for_each(|(field, bytes)| put_bytes(&mut out, *field, bytes));
    out
}

fn single(value: f64) -> Vec<u8> {
    let mut out = Vec::new();
    put_double_always(&mut out, 1, value.to_bits());
    out
}

/// A family with a label on its one metric, whose value is that of a field.
fn family(name: &str, kind: u8, field: u32, value: &[u8]) -> Vec<u8> {
    let label = message(&[(1, b"a"), (2, b"x")]);
    let metric = message(&[(1, &label), (field, value)]);
    let mut family = message(&[(1, name.as_bytes()), (2, b"help")]);
    family.extend([0x18, kind]);
    put_bytes(&mut family, 4, &metric);
    let mut out = Vec::new();
    put_varint(&mut out, family.len() as u64);
    out.extend(family);
    out
}

fn histogram() -> Vec<u8> {
    let mut bucket = vec![0x08, 2];
    put_double_always(&mut bucket, 2, 0.5_f64.to_bits());
    let mut out = vec![0x08, 3];
    put_double_always(&mut out, 2, 1.5_f64.to_bits());
    put_bytes(&mut out, 3, &bucket);
    out
}

#[test]
fn protobuf_is_read_to_the_same() {
    let body = [family("h", 4, 7, &histogram()), family("c", 0, 3, &single(7.0)), family("u", 3, 5, &single(1.0))].concat();
    let read = delimited::read(&body).unwrap();
    assert_eq!(read.refused, None);
    let expected = "# HELP c help\n# TYPE c counter\nc{a=\"x\"} 7\n# HELP h help\n# TYPE h histogram\nh_bucket{a=\"x\",le=\"0.5\"} 2\n\
        h_bucket{a=\"x\",le=\"+Inf\"} 3\nh_sum{a=\"x\"} 1.5\nh_count{a=\"x\"} 3\n# HELP u help\n# TYPE u untyped\nu{a=\"x\"} 1\n";
    assert_eq!(write(read.families), expected);
    let other = delimited::read(&family("c", 0, 2, &single(7.0))).unwrap();
    assert_eq!(other.refused.as_deref(), Some("a metric c is not a counter"));
    assert!(delimited::read(&body[..body.len() - 1]).is_err() && delimited::read(&family("", 0, 3, b"")).is_err());
    assert!(delimited::read(&family("x", 5, 7, &histogram())).is_err(), "a type that is not known");
}

#[test]
fn grouping_labels_win_and_there_is_always_an_instance() {
    let mut read = text::read(b"x{job=\"mine\",b=\"1\"} 1\ny{instance=\"i\"} 1\n").unwrap();
    read.families.iter_mut().for_each(|family| family.label(&[("job".into(), "theirs".into())]));
    let expected = "# TYPE x untyped\nx{b=\"1\",instance=\"\",job=\"theirs\"} 1\n# TYPE y untyped\ny{instance=\"i\",job=\"theirs\"} 1\n";
    assert_eq!(write(read.families), expected);
}

#[test]
fn damaged_bodies_never_panic_and_what_is_taken_can_be_written() {
    let protobuf = [family("h", 4, 7, &histogram()), family("c", 0, 3, &single(7.0))].concat();
    for seed in seeds(3_000) {
        let random = &mut fastrand::Rng::with_seed(seed);
        let mut body = if random.bool() { ALL.as_bytes().to_vec() } else { protobuf.clone() };
        damage(random, &mut body);
        for (from_text, read) in [(true, text::read(&body)), (false, delimited::read(&body))] {
            let Ok(read) = read else { continue };
            let metrics: usize = read.families.iter().map(|family| family.metrics.len()).sum();
            assert!(metrics <= body.len(), "seed {seed}");
            let written = write(read.families);
            // Protobuf can say what no text can.
            let again = text::read(written.as_bytes());
            assert!(!from_text || again.is_ok(), "seed {seed}: {again:?}: {written}");
        }
    }
}

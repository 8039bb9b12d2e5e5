//! The contract `rows/1`: golden rows, the schema in docs/, and what a real Prometheus sent, written and read back.

use serde_json::Value as Json;

use crate::forward::format::Columns;
use crate::forward::rows::Row;
use crate::forward::rows::RowEncoder;
use crate::forward::rows::Value;
use crate::forward::rows::push_value;
use crate::model::Before;
use crate::model::Kind;
use crate::mutate::seeds;
use crate::wire::capture;
use crate::wire::histogram::Count;
use crate::wire::histogram::Histogram;
use crate::wire::histogram::Side;
use crate::wire::histogram::Span;
use crate::wire::pack;
use crate::wire::remote_write::Label;
use crate::wire::remote_write::Limits;
use crate::wire::remote_write::Walker;

fn row_text(columns: &[&str], labels: &[(&str, &str)], value: Value<'_>, late: bool) -> Option<String> {
    let labels: Vec<Label<'_>> = labels.iter().map(|(name, value)| Label::new(0, name, value)).collect();
    let mut out = Vec::new();
    let row = Row { labels: &labels, time: 1_790_000_000_123, value, late, series: 1, item: 0, before: None, tenant: "" };
    let written = RowEncoder::new(Columns::new(columns).unwrap()).encode(&row, &mut out);
    written.then(|| String::from_utf8(out).unwrap())
}

#[track_caller]
fn check(labels: &[(&str, &str)], value: Value<'_>, late: bool, expect: &str) {
    let row = row_text(&["job", "instance", "namespace", "cluster"], labels, value, late).unwrap();
    assert_eq!(row, expect);
    assert_fits(&row);
}

const UP: [(&str, &str); 4] = [("__name__", "up"), ("cluster", "c3"), ("job", "node"), ("zone", "a")];

#[test]
fn a_histogram_without_buckets_has_count_and_sum() {
    let labels = [Label::new(0, "__name__", "h")];
    let histogram = Histogram { count: Count::Int(12), sum_bits: 18.4f64.to_bits(), reset_hint: 2, ..Histogram::default() };
    let value = Value::Histogram(&histogram);
    let row = Row { labels: &labels, time: 1, value, late: false, series: 0, item: 0, tenant: "", before: None };
    let mut out = Vec::new();
    assert!(RowEncoder::new(Columns::default()).with_buckets(false).encode(&row, &mut out));
    let expected = r#"{"ts":1,"name":"h","v":null,"histogram":{"count":12,"sum":18.4,"reset":"no"},"labels":{}}"#;
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn the_order_of_keys_is_fixed_and_columns_stand_in_theirs() {
    check(&UP, Value::Float(1.0), false, r#"{"ts":1790000000123,"name":"up","v":1,"job":"node","cluster":"c3","labels":{"zone":"a"}}"#);
    check(
        &UP,
        Value::Float(0.5),
        true,
        r#"{"ts":1790000000123,"name":"up","v":0.5,"job":"node","cluster":"c3","late":true,"labels":{"zone":"a"}}"#,
    );
    check(&UP[..1], Value::Float(-0.0), false, r#"{"ts":1790000000123,"name":"up","v":-0.0,"labels":{}}"#);
    check(&[], Value::Float(1e300), false, r#"{"ts":1790000000123,"name":"","v":1e300,"labels":{}}"#);
}

#[test]
fn how_far_a_counter_rose_stands_behind_its_value() {
    let labels: Vec<Label<'_>> = [("__name__", "a_total"), ("job", "node")].map(|(name, value)| Label::new(0, name, value)).into();
    let text = |was: f64, value: Value<'_>, late: bool| {
        let before = Some(Before { time: 1_790_000_000_123 - 15_001, bits: was.to_bits() });
        let row = Row { labels: &labels, time: 1_790_000_000_123, value, late, series: 1, item: 0, tenant: "", before };
        let mut out = Vec::new();
        assert!(RowEncoder::new(Columns::default()).encode(&row, &mut out));
        let text = String::from_utf8(out).unwrap();
        assert_fits(&text);
        text.split_once("\"v\":").unwrap().1.split_once(",\"job\"").unwrap().0.to_owned()
    };
    assert_eq!(text(12.0, Value::Float(17.5), false), r#"17.5,"d":5.5,"dt":15001"#);
    assert_eq!(text(12.0, Value::Float(12.0), false), r#"12,"d":0,"dt":15001"#);
    assert_eq!(text(12.0, Value::Float(3.0), false), r#"3,"d":3,"dt":15001"#, "it began anew");
    // What is no number, and what overflows.
    assert_eq!(text(12.0, Value::Float(f64::NAN), false), r#"null,"nan":true"#);
    assert_eq!(text(12.0, Value::Stale, false), r#"null,"stale":true"#);
    assert_eq!(text(-f64::MAX, Value::Float(f64::MAX), false), "1.7976931348623157e308");
}

/// Over any stretch the increases add up to the last value less the first, resets counted.
#[test]
fn increases_telescope() {
    for seed in seeds(500) {
        let random = &mut fastrand::Rng::with_seed(seed);
        let (mut before, mut value, mut expected, mut sum) = (None, 0.0, 0.0, 0.0);
        let first = f64::from(random.u16(..));
        for time in 0..100_i64 {
            let step = f64::from(random.u16(..)) / 8.0;
            value = match time {
                0 => first,
                _ if random.u8(..) < 20 => {
                    // What it counts from zero is counted, even if it comes further than it was: then nobody can tell.
                    let anew = step % (value + 0.125);
                    expected += if anew < value { anew } else { anew - value };
                    anew
                }
                _ => {
                    expected += step;
                    value + step
                }
            };
            let row = Row { labels: &[], time, value: Value::Float(value), late: false, series: 1, item: 0, tenant: "", before };
            sum += row.rise().map_or(0.0, |rise| rise.by);
            before = Some(Before { time, bits: value.to_bits() });
        }
        assert_eq!(sum, expected, "SEED={seed}");
    }
}

#[test]
fn what_json_cannot_say_has_a_key_of_its_own() {
    let up = &UP[..1];
    check(up, Value::Float(f64::NAN), false, r#"{"ts":1790000000123,"name":"up","v":null,"nan":true,"labels":{}}"#);
    check(up, Value::Float(f64::INFINITY), false, r#"{"ts":1790000000123,"name":"up","v":null,"inf":1,"labels":{}}"#);
    check(up, Value::Float(f64::NEG_INFINITY), false, r#"{"ts":1790000000123,"name":"up","v":null,"inf":-1,"labels":{}}"#);
    check(up, Value::Stale, false, r#"{"ts":1790000000123,"name":"up","v":null,"stale":true,"labels":{}}"#);
    assert_eq!(row_text(&[], up, Value::Exemplar, false), None);
}

#[test]
fn labels_that_are_named_like_keys_clash_with_nothing() {
    let labels = [("__name__", "up"), ("labels", "b"), ("late", "x"), ("name", "c"), ("ts", "d"), ("v", "e")];
    check(
        &labels,
        Value::Float(1.0),
        false,
        r#"{"ts":1790000000123,"name":"up","v":1,"labels":{"labels":"b","late":"x","name":"c","ts":"d","v":"e"}}"#,
    );
}

#[test]
fn tricky_text_reads_back() {
    let labels = [("__name__", "温度"), ("job", "a\"b\\c"), ("机房", "上海\n二号"), ("ü ber", "\u{7f}\u{1}\u{2028}")];
    let row = row_text(&["job"], &labels, Value::Float(2.0), false).unwrap();
    assert_fits(&row);
    let json: Json = serde_json::from_str(&row).unwrap();
    assert_eq!((json["name"].as_str(), json["job"].as_str()), (Some("温度"), Some("a\"b\\c")));
    assert_eq!(json["labels"]["机房"].as_str(), Some("上海\n二号"));
    assert_eq!(json["labels"]["ü ber"].as_str(), Some("\u{7f}\u{1}\u{2028}"));
}

#[test]
fn more_labels_than_a_machine_word_has_bits() {
    let names: Vec<String> = (0..300).map(|n| format!("label_{n:03}")).collect();
    let labels: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    let row = row_text(&["label_005", "label_200"], &labels, Value::Float(2.0), false).unwrap();
    let json: Json = serde_json::from_str(&row).unwrap();
    assert_eq!(json["labels"].as_object().unwrap().len(), 298);
    assert_eq!((json["label_005"].as_str(), json["label_200"].as_str()), (Some("x"), Some("x")));
}

#[test]
fn a_native_histogram_is_an_object_with_absolute_counts() {
    let histogram = Histogram {
        count: Count::Int(12),
        sum_bits: 18.4_f64.to_bits(),
        schema: 3,
        zero_threshold_bits: 1e-128_f64.to_bits(),
        zero_count: Count::Int(2),
        positive: Side {
            spans: vec![Span { offset: -1, length: 2 }, Span { offset: 3, length: 1 }],
            deltas: vec![1, 2, 1],
            counts: vec![],
        },
        negative: Side { spans: vec![Span { offset: 0, length: 1 }], deltas: vec![2], counts: vec![] },
        reset_hint: 2,
        ..Histogram::default()
    };
    let expect = concat!(
        r#"{"ts":1790000000123,"name":"up","v":null,"histogram":{"count":12,"sum":18.4,"schema":3,"zero_threshold":1e-128,"#,
        r#""zero_count":2,"buckets":[[-1,1],[0,3],[4,4]],"negative_buckets":[[0,2]],"reset":"no"},"labels":{}}"#
    );
    check(&UP[..1], Value::Histogram(&histogram), false, expect);
    let floats = Histogram {
        count: Count::Float(2.5_f64.to_bits()),
        sum_bits: f64::NAN.to_bits(),
        schema: -53,
        zero_count: Count::Float(0),
        positive: Side { spans: vec![Span { offset: 0, length: 2 }], deltas: vec![], counts: vec![1.0_f64.to_bits(), 1.5_f64.to_bits()] },
        custom_values: vec![0.5_f64.to_bits()],
        ..Histogram::default()
    };
    let expect = concat!(
        r#"{"ts":1790000000123,"name":"up","v":null,"histogram":{"count":2.5,"sum":null,"schema":-53,"zero_threshold":0,"#,
        r#""zero_count":0,"buckets":[[0,1],[1,1.5]],"bounds":[0.5],"reset":"unknown"},"labels":{}}"#
    );
    check(&UP[..1], Value::Histogram(&floats), false, expect);
}

/// The row as docs/rows.md words it, without memory of any other and without haste.
fn plainly(columns: &[&str], row: &Row<'_>) -> String {
    let pair = |label: &Label<'_>| format!("{}:{}", Json::from(label.name), Json::from(label.value));
    let find = |name: &str| row.labels.iter().find(|label| label.name == name);
    let mut value = Vec::new();
    push_value(&mut value, &row.value, true);
    let top: String = columns.iter().filter_map(|name| find(name)).map(|label| format!(",{}", pair(label))).collect();
    let rest = row.labels.iter().filter(|label| label.name != "__name__" && !columns.contains(&label.name)).map(pair);
    format!(
        "{{\"ts\":{},\"name\":{},\"v\":{}{top}{},\"labels\":{{{}}}}}",
        row.time,
        Json::from(find("__name__").map_or("", |label| label.value)),
        String::from_utf8(value).unwrap(),
        if row.late { ",\"late\":true" } else { "" },
        rest.collect::<Vec<_>>().join(",")
    )
}

#[test]
fn a_row_does_not_depend_on_the_row_before() {
    const COLUMNS: [&str; 3] = ["c", "job", "a"];
    const NAMES: [&str; 9] = ["__name__", "a", "b", "c", "d", "e", "job", "zone", "zz"];
    const VALUES: [&str; 7] = ["", "x", "y", "longer than the others", "\"", "a\\b\n", "上海"];
    for seed in seeds(2_000) {
        let random = &mut fastrand::Rng::with_seed(seed);
        let mut encoder = RowEncoder::new(Columns::new(&COLUMNS).unwrap());
        let mut values = [0; NAMES.len()];
        for number in 0..30 {
            // Mostly one label changes, comes or goes (value 0), as from series to series of a scrape.
            for _ in 0..[0, 1, 1, 1, 2, 9][random.usize(0..6)] {
                values[random.usize(0..NAMES.len())] = random.usize(0..VALUES.len());
            }
            let there = NAMES.iter().zip(values).filter(|(_, value)| *value > 0);
            let labels: Vec<Label<'_>> = there.map(|(name, value)| Label::new(3, name, VALUES[value])).collect();
            let row = Row {
                labels: &labels,
                time: number,
                value: Value::Float(1.5),
                late: random.bool(),
                series: 0,
                item: 0,
                before: None,
                tenant: "",
            };
            let mut out = Vec::new();
            encoder.encode(&row, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), plainly(&COLUMNS, &row), "SEED={seed}");
        }
    }
}

/// Every point of a capture, as a row and read back: labels and values as they were.
fn capture_reads_back(bytes: &[u8], wanted: &[(&str, usize)]) {
    const COLUMNS: [&str; 3] = ["job", "instance", "text"];
    let mut encoder = RowEncoder::new(Columns::new(&COLUMNS).unwrap());
    let mut walker = Walker::new(7);
    let mut raw = Vec::new();
    let mut out = Vec::new();
    let mut histogram = Histogram::default();
    let mut seen = std::collections::BTreeMap::<&str, usize>::new();
    for request in capture::read(bytes).unwrap() {
        raw.clear();
        pack::unpack(request.packing(), request.body, pack::Bounds::default(), &mut raw).unwrap();
        let mut visit = |series: crate::wire::remote_write::Series<'_, '_>| {
            for point in series.points {
                let value = match point.kind {
                    Kind::Float => Value::Float(f64::from_bits(point.bits)),
                    Kind::Stale => Value::Stale,
                    Kind::Exemplar => Value::Exemplar,
                    Kind::Histogram => {
                        histogram.decode(point.raw).unwrap();
                        Value::Histogram(&histogram)
                    }
                };
                out.clear();
                let row = Row { labels: series.labels, time: point.time, value, late: false, series: 0, item: 0, before: None, tenant: "" };
                if !encoder.encode(&row, &mut out) {
                    *seen.entry("exemplar").or_default() += 1;
                    continue;
                }
                let text = std::str::from_utf8(&out).unwrap();
                assert_fits(text);
                assert_eq!(text, plainly(&COLUMNS, &row), "what stood in the row before shows in no other");
                let json: Json = serde_json::from_str(text).unwrap();
                assert_eq!(labels_of(&json), series.labels.iter().map(|label| (label.name.into(), label.value.into())).collect());
                assert_eq!(json["ts"].as_i64(), Some(point.time));
                *seen.entry(value_reads_back(text, &json, &value)).or_default() += 1;
            }
        };
        walker.walk(request.protocol(), &raw, &Limits::default(), &mut visit).unwrap();
    }
    let counts: Vec<(&str, usize)> = seen.into_iter().collect();
    assert_eq!(counts, wanted);
}

fn labels_of(json: &Json) -> std::collections::BTreeMap<String, String> {
    let mut labels: std::collections::BTreeMap<String, String> =
        json["labels"].as_object().unwrap().iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
    for column in ["job", "instance", "text"] {
        if let Some(value) = json.get(column) {
            labels.insert(column.into(), value.as_str().unwrap().into());
        }
    }
    labels.insert("__name__".into(), json["name"].as_str().unwrap().into());
    labels
}

fn value_reads_back(text: &str, json: &Json, value: &Value<'_>) -> &'static str {
    match value {
        Value::Stale => {
            assert_eq!(json["stale"], Json::Bool(true));
            "stale"
        }
        Value::Float(number) if number.is_nan() => {
            assert_eq!(json["nan"], Json::Bool(true));
            "nan"
        }
        Value::Float(number) if number.is_infinite() => {
            assert_eq!(json["inf"].as_f64(), Some(number.signum()));
            "inf"
        }
        Value::Float(number) => {
            // Not through serde_json, which reads some numbers one bit off (feature `float_roundtrip`).
            let written = text.split_once("\"v\":").unwrap().1.split_once(',').unwrap().0;
            assert_eq!(written.parse::<f64>().unwrap().to_bits(), number.to_bits());
            "float"
        }
        Value::Histogram(histogram) => {
            let object = &json["histogram"];
            assert_eq!(object["count"].as_f64(), Some(histogram.count.to_f64()));
            let sides = ["buckets", "negative_buckets"].map(|side| object[side].as_array().cloned().unwrap_or_default());
            let counted: f64 = sides.iter().flatten().filter_map(|bucket| bucket[1].as_f64()).sum();
            assert_eq!(counted + object["zero_count"].as_f64().unwrap(), histogram.count.to_f64());
            "histogram"
        }
        Value::Exemplar => "exemplar",
    }
}

#[test]
fn what_a_real_prometheus_sent_reads_back_from_rows() {
    let v1 = include_bytes!("../../tests/captures/prometheus-3.14-v1.cap");
    let v2 = include_bytes!("../../tests/captures/prometheus-3.14-v2.cap");
    let wanted = [("exemplar", 400), ("float", 7298), ("histogram", 200), ("inf", 20), ("nan", 395), ("stale", 10)];
    capture_reads_back(v1, &wanted);
    capture_reads_back(v2, &wanted);
}

/// Holds a row against docs/rows.schema.json, and its keys against the fixed order.
#[track_caller]
fn assert_fits(row: &str) {
    let schema: Json = serde_json::from_str(include_str!("../../docs/rows.schema.json")).unwrap();
    let json: Json = serde_json::from_str(row).unwrap_or_else(|error| panic!("{error}: {row}"));
    if let Err(why) = fits(&json, &schema, &schema) {
        panic!("{why}: {row}");
    }
    assert!(row.starts_with("{\"ts\":") && row.ends_with("}}"), "{row}");
    let says = ["nan", "inf", "stale", "histogram"].iter().filter(|key| json.get(**key).is_some()).count();
    assert_eq!(usize::from(json["v"].is_null()), says, "{row}");
    assert_eq!(json.get("d").is_some(), json.get("dt").is_some(), "{row}");
}

/// As much of JSON Schema as that file uses.
fn fits(json: &Json, schema: &Json, root: &Json) -> Result<(), String> {
    if let Some(path) = schema.get("$ref").and_then(Json::as_str) {
        return fits(json, root.pointer(path.trim_start_matches('#')).ok_or("no such $ref")?, root);
    }
    if let Some(wanted) = schema.get("const").filter(|wanted| *wanted != json) {
        return Err(format!("{json} is not {wanted}"));
    }
    if let Some(choice) = schema.get("enum").and_then(Json::as_array).filter(|choice| !choice.contains(json)) {
        return Err(format!("{json} is none of {choice:?}"));
    }
    if let Some(kinds) = schema.get("type") {
        let kinds: Vec<&str> =
            kinds.as_array().map_or_else(|| vec![kinds.as_str().unwrap()], |kinds| kinds.iter().filter_map(Json::as_str).collect());
        let kind = match json {
            Json::Null => "null",
            Json::Bool(_) => "boolean",
            Json::Number(number) if number.is_i64() || number.is_u64() => "integer",
            Json::Number(_) => "number",
            Json::String(_) => "string",
            Json::Array(_) => "array",
            Json::Object(_) => "object",
        };
        if !(kinds.contains(&kind) || kind == "integer" && kinds.contains(&"number")) {
            return Err(format!("{json} is not {kinds:?}"));
        }
    }
    for key in schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str) {
        json.get(key).ok_or(format!("no {key}"))?;
    }
    for (key, value) in json.as_object().into_iter().flatten() {
        match (schema.pointer(&format!("/properties/{key}")), schema.get("additionalProperties")) {
            (Some(rule), _) | (None, Some(rule @ Json::Object(_))) => fits(value, rule, root).map_err(|why| format!("{key}: {why}"))?,
            (None, Some(Json::Bool(false))) => return Err(format!("{key} is not allowed")),
            (None, _) => {}
        }
    }
    let items = json.as_array().map_or(0, Vec::len) as u64;
    if schema.get("minItems").and_then(Json::as_u64).is_some_and(|least| items < least) {
        return Err(format!("too few items in {json}"));
    }
    if schema.get("maxItems").and_then(Json::as_u64).is_some_and(|most| items > most) {
        return Err(format!("too many items in {json}"));
    }
    match schema.get("items") {
        Some(rule) => json.as_array().into_iter().flatten().try_for_each(|item| fits(item, rule, root)),
        None => Ok(()),
    }
}

#[test]
fn the_schema_refuses_what_is_no_row() {
    let schema: Json = serde_json::from_str(include_str!("../../docs/rows.schema.json")).unwrap();
    for wrong in [
        r#"{"ts":1,"name":"up","v":1}"#,
        r#"{"ts":"1","name":"up","v":1,"labels":{}}"#,
        r#"{"ts":1,"name":"up","v":"1","labels":{}}"#,
        r#"{"ts":1,"name":"up","v":1,"job":7,"labels":{}}"#,
        r#"{"ts":1,"name":"up","v":1,"late":false,"labels":{}}"#,
        r#"{"ts":1,"name":"up","v":null,"histogram":{"count":1},"labels":{}}"#,
        r#"{"ts":1,"name":"up","v":1,"labels":{"a":1}}"#,
    ] {
        assert!(fits(&serde_json::from_str(wrong).unwrap(), &schema, &schema).is_err(), "{wrong}");
    }
}

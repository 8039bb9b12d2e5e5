//! Samples as the tests compare them: by labels, time and value, whether they come from a request or from a row in Kafka.

use super::prompb::{TimeSeries, WholeOrFloat, Zero};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The bits of Prometheus' stale marker.
pub const STALE: u64 = 0x7ff0_0000_0000_0002;
/// Labels that name a replica and never reach a sink.
pub const REPLICA_LABELS: [&str; 2] = ["__replica__", "prometheus_replica"];

/// Labels in the field's notation, sorted: `{__name__="up", job="x"}`.
pub type Series = Arc<str>;

/// What a sample says. NaN equals NaN here: rows do not carry its bits.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Number(f64),
    Nan,
    Stale,
    Histogram(Box<Json>),
}

impl Value {
    pub fn of(number: f64) -> Value {
        if number.to_bits() == STALE {
            Value::Stale
        } else if number.is_nan() {
            Value::Nan
        } else {
            Value::Number(number)
        }
    }
}

/// The samples of a request, without replica labels and empty values.
pub fn samples_of(series: &[TimeSeries]) -> Vec<(Series, i64, Value)> {
    let mut all = Vec::new();
    for one in series {
        let labels = one.labels.iter().filter(|label| !REPLICA_LABELS.contains(&label.name.as_str()) && !label.value.is_empty());
        let name = series_name(&labels.map(|label| (label.name.clone(), label.value.clone())).collect());
        all.extend(one.samples.iter().map(|sample| (name.clone(), sample.timestamp, Value::of(sample.value))));
        all.extend(one.histograms.iter().map(|histogram| {
            let value = if histogram.sum.to_bits() == STALE { Value::Stale } else { Value::Histogram(Box::new(histogram_json(histogram))) };
            (name.clone(), histogram.timestamp, value)
        }));
    }
    all
}

/// Labels as one text.
pub fn series_name(labels: &BTreeMap<String, String>) -> Series {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{{}}}", pairs.join(", ")).into()
}

/// A row of Kafka.
#[derive(Clone, Debug)]
pub struct Row {
    pub series: Series,
    pub time: i64,
    pub value: Value,
    pub late: bool,
    /// How far a counter rose, and within how many milliseconds.
    pub rise: Option<(f64, i64)>,
}

/// Reads a row of the contract `rows/1` (docs/rows.md); panics at what the contract does not know.
pub fn parse_row(line: &str) -> Row {
    let row: Json = serde_json::from_str(line).unwrap_or_else(|error| panic!("a row is not JSON ({error}): {line}"));
    let mut labels = BTreeMap::new();
    let mut value = None;
    let mut late = false;
    let mut time = None;
    let mut rise = (None, None);
    for (key, part) in row.as_object().expect("a row is an object") {
        let text = || part.as_str().unwrap_or_else(|| panic!("`{key}` is no text: {line}")).to_owned();
        match key.as_str() {
            "ts" => time = part.as_i64(),
            "name" => drop(labels.insert("__name__".to_owned(), text())),
            "v" => value = value.or(part.as_f64().map(Value::Number)),
            "d" => rise.0 = part.as_f64(),
            "dt" => rise.1 = part.as_i64(),
            "nan" => value = Some(Value::Nan),
            "inf" => value = part.as_f64().map(|sign| Value::Number(sign * f64::INFINITY)),
            "stale" => value = Some(Value::Stale),
            "histogram" => value = Some(Value::Histogram(Box::new(part.clone()))),
            "late" => late = part.as_bool().expect("`late` is true or absent"),
            "labels" => {
                for (name, value) in part.as_object().expect("`labels` is an object") {
                    labels.insert(name.clone(), value.as_str().expect("a label is text").to_owned());
                }
            }
            column => drop(labels.insert(column.to_owned(), text())),
        }
    }
    // A name that is empty stands for a series without one.
    labels.retain(|_, value| !value.is_empty());
    let value = value.unwrap_or_else(|| panic!("no value: {line}"));
    assert_eq!(rise.0.is_some(), rise.1.is_some(), "`d` and `dt` stand together: {line}");
    let time = time.unwrap_or_else(|| panic!("no time: {line}"));
    Row { series: series_name(&labels), time, value, late, rise: rise.0.zip(rise.1) }
}

/// Rows of a message, one a line.
pub fn parse_rows(payload: &[u8]) -> Vec<Row> {
    let text = std::str::from_utf8(payload).expect("rows are UTF-8");
    text.lines().filter(|line| !line.is_empty()).map(parse_row).collect()
}

/// A native histogram as rows show it: absolute bucket counts by bucket index.
fn histogram_json(histogram: &super::prompb::Histogram) -> Json {
    let whole = !matches!(histogram.count, Some(WholeOrFloat::Float(_)));
    let buckets = |spans: &[super::prompb::Span], deltas: &[i64], counts: &[f64]| {
        let (mut index, mut at, mut running, mut all) = (0_i64, 0, 0_i64, Vec::new());
        for span in spans {
            index += i64::from(span.offset);
            for _ in 0..span.length {
                running += deltas.get(at).copied().unwrap_or(0);
                all.push(if whole { serde_json::json!([index, running]) } else { serde_json::json!([index, number(counts[at])]) });
                (index, at) = (index + 1, at + 1);
            }
        }
        Json::Array(all)
    };
    let mut shown = serde_json::json!({
        "count": match histogram.count { Some(WholeOrFloat::Whole(count)) => Json::from(count), Some(WholeOrFloat::Float(count)) => number(count), None => Json::from(0) },
        "sum": number(histogram.sum),
        "schema": histogram.schema,
        "zero_threshold": number(histogram.zero_threshold),
        "zero_count": match histogram.zero_count { Some(Zero::Whole(count)) => Json::from(count), Some(Zero::Float(count)) => number(count), None => Json::from(0) },
        "buckets": buckets(&histogram.positive_spans, &histogram.positive_deltas, &histogram.positive_counts),
        "reset": match histogram.reset_hint { 1 => "yes", 2 => "no", 3 => "gauge", _ => "unknown" },
    });
    if !histogram.negative_spans.is_empty() {
        shown["negative_buckets"] = buckets(&histogram.negative_spans, &histogram.negative_deltas, &histogram.negative_counts);
    }
    if !histogram.custom_values.is_empty() {
        shown["bounds"] = histogram.custom_values.iter().map(|bound| number(*bound)).collect();
    }
    normal(&shown)
}

fn number(number: f64) -> Json {
    serde_json::Number::from_f64(number).map_or(Json::Null, Json::Number)
}

/// Whole numbers and floats of the same value look the same, so that `0` and `0.0` are equal in a comparison.
pub fn normal(json: &Json) -> Json {
    match json {
        Json::Number(one) => one.as_f64().map_or(json.clone(), number),
        Json::Array(all) => all.iter().map(normal).collect(),
        Json::Object(all) => Json::Object(all.iter().map(|(key, value)| (key.clone(), normal(value))).collect()),
        other => other.clone(),
    }
}

//! A sample as a row of JSON: the published contract `rows/1` of docs/rows.md.
//!
//! Key order is fixed: `ts`, `name`, `v`, `d` and `dt`, what stands for a `v` that JSON cannot say (`nan`, `inf`, `stale`, `histogram`), the sink's
//! columns in their configured order, `late`, `labels`. Whatever changes here that a reader could notice takes a new contract number.
//! No allocation a row, no cache of label text per series either: at a million series it would hold half a gigabyte to save 0.1 µs.

use crate::forward::format::Columns;
use crate::forward::label_text::LabelText;
use crate::forward::text::{push_finite, push_integer, push_number_or_null, push_unsigned};
use crate::model::Before;
use crate::model::Kind;
use crate::wire::body::Picked;
use crate::wire::histogram::Count;
use crate::wire::histogram::Histogram;
use crate::wire::histogram::Side;
use crate::wire::remote_write::DecodeError;
use crate::wire::remote_write::Label;

/// What a point of a series says.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A float, NaN and infinities included.
    Float(f64),
    /// The series ends here.
    Stale,
    /// A native histogram.
    Histogram(&'a Histogram),
    /// An exemplar: no row of its own (docs/rows.md), so a sink counts it as filtered.
    Exemplar,
}

/// One sample on its way out.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The series' labels, sorted by name, without the replica labels, no empty values.
    pub labels: &'a [Label<'a>],
    /// Milliseconds since 1970.
    pub time: i64,
    /// What it says.
    pub value: Value<'a>,
    /// Older than what had been forwarded of its series.
    pub late: bool,
    /// The series' hash.
    pub series: u64,
    /// Its place in body order of its entry.
    pub item: u32,
    /// Whose it is; empty: nobody's.
    pub tenant: &'a str,
    /// What was forwarded of the series before: it is a counter, and the sink asks how far it rose.
    pub before: Option<Before>,
}

/// How far a counter rose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rise {
    /// What it counted since the sample before.
    pub by: f64,
    /// How long before that was, ms.
    pub within: i64,
}

impl<'a> Row<'a> {
    /// A point of a body as a row; `histogram` is room for what it says. An error: the body does not hold what it held at the door.
    pub fn of(picked: &'a Picked<'a, 'a>, histogram: &'a mut Histogram) -> Result<Row<'a>, DecodeError> {
        let point = picked.point;
        let value = match point.kind {
            Kind::Float => Value::Float(f64::from_bits(point.bits)),
            Kind::Stale => Value::Stale,
            Kind::Exemplar => Value::Exemplar,
            Kind::Histogram => {
                histogram.decode(point.raw)?;
                Value::Histogram(histogram)
            }
        };
        Ok(Row {
            labels: picked.labels,
            time: point.time,
            value,
            late: picked.late,
            series: picked.series,
            item: picked.item,
            tenant: picked.tenant,
            before: picked.before,
        })
    }

    /// How far it rose since what was forwarded before, if that is known. A counter that fell has begun anew, and counted all that it shows.
    #[inline]
    pub fn rise(&self) -> Option<Rise> {
        let (before, Value::Float(now)) = (self.before?, self.value) else { return None };
        let was = f64::from_bits(before.bits);
        let by = if now < was { now } else { now - was };
        by.is_finite().then_some(Rise { by, within: self.time.saturating_sub(before.time) })
    }
}

/// Writes rows. One a worker, for what it remembers of the row before.
#[derive(Clone, Debug)]
pub struct RowEncoder {
    labels: LabelText,
    /// Histograms show their buckets.
    buckets: bool,
}

impl RowEncoder {
    /// Rows with these columns.
    pub fn new(columns: Columns) -> RowEncoder {
        RowEncoder { labels: LabelText::new(columns), buckets: true }
    }

    /// Whether histograms show their buckets, beside count and sum.
    pub fn with_buckets(self, buckets: bool) -> RowEncoder {
        RowEncoder { buckets, ..self }
    }

    /// Appends the row, without a line feed. False (and nothing appended): this point has no row (an exemplar).
    pub fn encode(&mut self, row: &Row<'_>, out: &mut Vec<u8>) -> bool {
        if matches!(row.value, Value::Exemplar) {
            return false;
        }
        let RowEncoder { labels, buckets } = self;
        labels.follow(row.labels);
        out.reserve(labels.name().len() + labels.top().len() + labels.rest().len() + 128);
        out.extend_from_slice(b"{\"ts\":");
        push_integer(out, row.time);
        out.extend_from_slice(b",\"name\":\"");
        out.extend_from_slice(labels.name());
        out.extend_from_slice(b"\",\"v\":");
        push_value(out, &row.value, *buckets);
        if let Some(rise) = row.rise() {
            push_rise(out, rise);
        }
        out.extend_from_slice(labels.top());
        if row.late {
            out.extend_from_slice(b",\"late\":true");
        }
        out.extend_from_slice(b",\"labels\":{");
        out.extend_from_slice(labels.rest());
        out.extend_from_slice(b"}}");
        labels.shrink();
        true
    }
}

fn push_rise(out: &mut Vec<u8>, rise: Rise) {
    out.extend_from_slice(b",\"d\":");
    push_finite(out, rise.by);
    out.extend_from_slice(b",\"dt\":");
    push_integer(out, rise.within);
}

/// What follows `"v":`.
#[inline]
pub(super) fn push_value(out: &mut Vec<u8>, value: &Value<'_>, buckets: bool) {
    match value {
        Value::Float(number) if number.is_finite() => push_finite(out, *number),
        Value::Float(number) if number.is_nan() => out.extend_from_slice(b"null,\"nan\":true"),
        Value::Float(number) if *number > 0.0 => out.extend_from_slice(b"null,\"inf\":1"),
        Value::Float(_) => out.extend_from_slice(b"null,\"inf\":-1"),
        Value::Stale => out.extend_from_slice(b"null,\"stale\":true"),
        Value::Histogram(histogram) => {
            out.extend_from_slice(b"null,\"histogram\":");
            push_histogram(out, histogram, buckets);
        }
        Value::Exemplar => out.extend_from_slice(b"null"),
    }
}

/// The object after `"histogram":`. Bucket indexes instead of bounds: exact, half the bytes, and Prometheus' own words.
fn push_histogram(out: &mut Vec<u8>, histogram: &Histogram, buckets: bool) {
    out.extend_from_slice(b"{\"count\":");
    push_count(out, histogram.count);
    out.extend_from_slice(b",\"sum\":");
    push_number_or_null(out, f64::from_bits(histogram.sum_bits));
    if !buckets {
        return push_reset(out, histogram);
    }
    out.extend_from_slice(b",\"schema\":");
    push_integer(out, i64::from(histogram.schema));
    out.extend_from_slice(b",\"zero_threshold\":");
    push_number_or_null(out, f64::from_bits(histogram.zero_threshold_bits));
    out.extend_from_slice(b",\"zero_count\":");
    push_count(out, histogram.zero_count);
    out.extend_from_slice(b",\"buckets\":");
    push_buckets(out, &histogram.positive, histogram.is_float());
    if !histogram.negative.spans.is_empty() {
        out.extend_from_slice(b",\"negative_buckets\":");
        push_buckets(out, &histogram.negative, histogram.is_float());
    }
    if !histogram.custom_values.is_empty() {
        out.extend_from_slice(b",\"bounds\":[");
        for (at, bound) in histogram.custom_values.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            push_number_or_null(out, f64::from_bits(*bound));
        }
        out.push(b']');
    }
    push_reset(out, histogram);
}

fn push_reset(out: &mut Vec<u8>, histogram: &Histogram) {
    let reset: &[u8] = match histogram.reset_hint {
        1 => b",\"reset\":\"yes\"}",
        2 => b",\"reset\":\"no\"}",
        3 => b",\"reset\":\"gauge\"}",
        _ => b",\"reset\":\"unknown\"}",
    };
    out.extend_from_slice(reset);
}

/// `[[index,count],...]`, upwards, every bucket the sender named, empty ones too.
fn push_buckets(out: &mut Vec<u8>, side: &Side, float: bool) {
    let (mut index, mut number, mut running) = (0_i64, 0, 0_i64);
    let buckets = if float { side.counts.len() } else { side.deltas.len() };
    out.push(b'[');
    for span in &side.spans {
        index += i64::from(span.offset);
        // Bounded by the buckets there are: the spans of a histogram that was checked speak of no more.
        for _ in 0..(span.length as usize).min(buckets - number) {
            let open: &[u8] = if number > 0 { b",[" } else { b"[" };
            out.extend_from_slice(open);
            push_integer(out, index);
            out.push(b',');
            if float {
                push_number_or_null(out, f64::from_bits(side.counts[number]));
            } else {
                running = running.wrapping_add(side.deltas[number]);
                push_integer(out, running);
            }
            out.push(b']');
            number += 1;
            index += 1;
        }
    }
    out.push(b']');
}

fn push_count(out: &mut Vec<u8>, count: Count) {
    match count {
        Count::Int(whole) => push_unsigned(out, whole),
        Count::Float(bits) => push_number_or_null(out, f64::from_bits(bits)),
    }
}

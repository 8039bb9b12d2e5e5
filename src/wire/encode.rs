//! Requests as a Prometheus would send them, made by us: the synthetic senders of `sluice dev`, `sluice bench load`, probes, tests.
//!
//! Labels are written as given: sorted, without empty values, is the caller's business (and a hostile test's wish). Proto3's defaults are
//! left out as every encoder does, so that a value of 0 takes no bytes.

use std::hash::BuildHasher;
use std::hash::RandomState;

use super::histogram::Count;
use super::histogram::Histogram;
use super::histogram::Side;
use super::proto::LENGTH;
use super::proto::put_bytes;
use super::proto::put_double;
use super::proto::put_double_always;
use super::proto::put_uint;
use super::proto::put_varint;
use super::proto::zigzag;
use super::remote_write::Protocol;
use super::symbols::Symbols;

/// A sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Milliseconds since 1970.
    pub time: i64,
    /// Bits of the value ([`crate::model::STALE_NAN`] ends the series).
    pub bits: u64,
    /// When the counter began; 0 = unset. Written in 2.0 only.
    pub start: i64,
}

impl Sample {
    /// A sample with this value.
    pub fn new(time: i64, value: f64) -> Sample {
        Sample { time, bits: value.to_bits(), start: 0 }
    }

    /// A stale marker.
    pub fn stale(time: i64) -> Sample {
        Sample { time, bits: crate::model::STALE_NAN, start: 0 }
    }
}

/// An exemplar.
#[derive(Clone, Copy, Debug)]
pub struct Exemplar<'a> {
    /// `trace_id` and the like.
    pub labels: &'a [(&'a str, &'a str)],
    /// Bits of the value.
    pub bits: u64,
    /// Milliseconds since 1970.
    pub time: i64,
}

/// One TimeSeries to write.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewSeries<'a> {
    /// Names and values, in this order.
    pub labels: &'a [(&'a str, &'a str)],
    /// Float samples.
    pub samples: &'a [Sample],
    /// Native histograms.
    pub histograms: &'a [Histogram],
    /// Exemplars.
    pub exemplars: &'a [Exemplar<'a>],
    /// 2.0: type, help, unit, with the type's number as in [`super::remote_write::Metadata`].
    pub metadata: Option<(u32, &'a str, &'a str)>,
}

/// Collects series, then gives the request. Kept between requests, it allocates little.
pub struct Encoder {
    protocol: Protocol,
    series: Vec<u8>,
    metadata: Vec<u8>,
    symbols: Symbols,
    message: Vec<u8>,
    inner: Vec<u8>,
}

impl Encoder {
    /// An empty request of this protocol.
    pub fn new(protocol: Protocol) -> Encoder {
        let mut symbols = Symbols::default();
        // Texts may come from whoever names targets.
        symbols.begin(RandomState::new().hash_one(0));
        Encoder { protocol, series: Vec::new(), metadata: Vec::new(), symbols, message: Vec::new(), inner: Vec::new() }
    }

    /// Adds one TimeSeries.
    pub fn push(&mut self, series: &NewSeries<'_>) {
        self.message.clear();
        let mut message = std::mem::take(&mut self.message);
        let mut inner = std::mem::take(&mut self.inner);
        self.put_labels(series.labels, (&mut message, &mut inner));
        for sample in series.samples {
            inner.clear();
            put_double(&mut inner, 1, sample.bits);
            put_uint(&mut inner, 2, sample.time.cast_unsigned());
            if self.protocol == Protocol::V2 {
                put_uint(&mut inner, 3, sample.start.cast_unsigned());
            }
            put_bytes(&mut message, 2, &inner);
        }
        let (exemplar_field, histogram_field) = match self.protocol {
            Protocol::V1 => (3, 4),
            Protocol::V2 => (4, 3),
        };
        for histogram in series.histograms {
            inner.clear();
            put_histogram(&mut inner, histogram);
            put_bytes(&mut message, histogram_field, &inner);
        }
        for exemplar in series.exemplars {
            let mut labels = Vec::new();
            self.put_labels(exemplar.labels, (&mut labels, &mut inner));
            put_double(&mut labels, 2, exemplar.bits);
            put_uint(&mut labels, 3, exemplar.time.cast_unsigned());
            put_bytes(&mut message, exemplar_field, &labels);
        }
        if let (Protocol::V2, Some((kind, help, unit))) = (self.protocol, series.metadata) {
            inner.clear();
            put_uint(&mut inner, 1, u64::from(kind));
            put_uint(&mut inner, 3, u64::from(self.symbols.number(help)));
            put_uint(&mut inner, 4, u64::from(self.symbols.number(unit)));
            put_bytes(&mut message, 5, &inner);
        }
        put_bytes(&mut self.series, if self.protocol == Protocol::V1 { 1 } else { 5 }, &message);
        self.message = message;
        self.inner = inner;
    }

    /// Adds a metadata entry of 1.0; in 2.0 metadata goes with its series and this does nothing.
    pub fn push_metadata(&mut self, family: &str, kind: u32, help: &str, unit: &str) {
        if self.protocol == Protocol::V1 {
            self.inner.clear();
            put_uint(&mut self.inner, 1, u64::from(kind));
            for (field, text) in [(2, family), (4, help), (5, unit)] {
                if !text.is_empty() {
                    put_bytes(&mut self.inner, field, text.as_bytes());
                }
            }
            put_bytes(&mut self.metadata, 3, &self.inner);
        }
    }

    /// Writes the request into `out`, whose former content goes, and starts an empty one.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.clear();
        let symbols = self.symbols.finish();
        if self.protocol == Protocol::V2 && symbols.is_empty() {
            put_bytes(out, 4, b"");
        }
        out.extend_from_slice(&symbols);
        for part in [&mut self.series, &mut self.metadata] {
            out.extend_from_slice(part);
            part.clear();
        }
    }

    fn put_labels(&mut self, labels: &[(&str, &str)], (out, inner): (&mut Vec<u8>, &mut Vec<u8>)) {
        match self.protocol {
            Protocol::V1 => {
                for (name, value) in labels {
                    inner.clear();
                    for (field, text) in [(1, name), (2, value)] {
                        if !text.is_empty() {
                            put_bytes(inner, field, text.as_bytes());
                        }
                    }
                    put_bytes(out, 1, inner);
                }
            }
            Protocol::V2 => {
                inner.clear();
                for (name, value) in labels {
                    put_varint(inner, u64::from(self.symbols.number(name)));
                    put_varint(inner, u64::from(self.symbols.number(value)));
                }
                if !inner.is_empty() {
                    put_bytes(out, 1, inner);
                }
            }
        }
    }
}

/// Appends the fields of a Histogram message.
pub fn put_histogram(out: &mut Vec<u8>, histogram: &Histogram) {
    put_count(out, (1, 2), histogram.count);
    put_double(out, 3, histogram.sum_bits);
    put_uint(out, 4, zigzag(i64::from(histogram.schema)));
    put_double(out, 5, histogram.zero_threshold_bits);
    put_count(out, (6, 7), histogram.zero_count);
    put_side(out, 8, &histogram.negative);
    put_side(out, 11, &histogram.positive);
    put_uint(out, 14, u64::from(histogram.reset_hint));
    put_uint(out, 15, histogram.time.cast_unsigned());
    put_doubles(out, 16, &histogram.custom_values);
    put_uint(out, 17, histogram.start.cast_unsigned());
}

fn put_count(out: &mut Vec<u8>, (whole, float): (u32, u32), count: Count) {
    match count {
        Count::Int(count) => {
            put_varint(out, u64::from(whole << 3));
            put_varint(out, count);
        }
        Count::Float(bits) => put_double_always(out, float, bits),
    }
}

fn put_side(out: &mut Vec<u8>, first_field: u32, side: &Side) {
    let mut inner = Vec::new();
    for span in &side.spans {
        inner.clear();
        put_uint(&mut inner, 1, zigzag(i64::from(span.offset)));
        put_uint(&mut inner, 2, u64::from(span.length));
        put_bytes(out, first_field, &inner);
    }
    if !side.deltas.is_empty() {
        inner.clear();
        side.deltas.iter().for_each(|delta| put_varint(&mut inner, zigzag(*delta)));
        put_bytes(out, first_field + 1, &inner);
    }
    put_doubles(out, first_field + 2, &side.counts);
}

fn put_doubles(out: &mut Vec<u8>, field: u32, bits: &[u64]) {
    if !bits.is_empty() {
        put_varint(out, u64::from(field << 3 | LENGTH));
        put_varint(out, bits.len() as u64 * 8);
        bits.iter().for_each(|bits| out.extend_from_slice(&bits.to_le_bytes()));
    }
}

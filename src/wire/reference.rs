//! The messages of both protocols for prost, written by hand from the field tables, and what prost's reading of a request means.
//!
//! This is the other side of the differential tests: slow, owned, obvious. Strings are bytes here, because prost refuses a whole request for
//! one bad string where we refuse the series.

use std::collections::BTreeMap;

use prost::Message;

use super::histogram::Count;
use super::histogram::Histogram;
use super::histogram::Side;
use super::histogram::Span;
use super::remote_write::Protocol;
use super::remote_write::SeriesFault;
use crate::model::Kind;
use crate::model::STALE_NAN;

/// `oneof count`.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum OneCount {
    #[prost(uint64, tag = "1")]
    Int(u64),
    #[prost(double, tag = "2")]
    Float(f64),
}

/// `oneof zero_count`.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum OneZero {
    #[prost(uint64, tag = "6")]
    Int(u64),
    #[prost(double, tag = "7")]
    Float(f64),
}

/// `BucketSpan`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BucketSpan {
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

/// `Histogram` of both protocols.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RefHistogram {
    #[prost(oneof = "OneCount", tags = "1, 2")]
    pub count: Option<OneCount>,
    #[prost(double, tag = "3")]
    pub sum: f64,
    #[prost(sint32, tag = "4")]
    pub schema: i32,
    #[prost(double, tag = "5")]
    pub zero_threshold: f64,
    #[prost(oneof = "OneZero", tags = "6, 7")]
    pub zero_count: Option<OneZero>,
    #[prost(message, repeated, tag = "8")]
    pub negative_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "9")]
    pub negative_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "10")]
    pub negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    pub positive_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "12")]
    pub positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    pub positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    pub reset_hint: i32,
    #[prost(int64, tag = "15")]
    pub timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    pub custom_values: Vec<f64>,
    #[prost(int64, tag = "17")]
    pub start_timestamp: i64,
}

impl RefHistogram {
    /// The same as our value.
    pub fn to_ours(&self) -> Histogram {
        let bits = |list: &[f64]| list.iter().map(|value| value.to_bits()).collect();
        let spans = |list: &[BucketSpan]| list.iter().map(|span| Span { offset: span.offset, length: span.length }).collect();
        let mut ours = Histogram {
            count: match &self.count {
                Some(OneCount::Float(value)) => Count::Float(value.to_bits()),
                Some(OneCount::Int(value)) => Count::Int(*value),
                None => Count::Int(0),
            },
            zero_count: match &self.zero_count {
                Some(OneZero::Float(value)) => Count::Float(value.to_bits()),
                Some(OneZero::Int(value)) => Count::Int(*value),
                None => Count::Int(0),
            },
            ..Histogram::default()
        };
        ours.sum_bits = self.sum.to_bits();
        ours.schema = self.schema;
        ours.zero_threshold_bits = self.zero_threshold.to_bits();
        ours.negative =
            Side { spans: spans(&self.negative_spans), deltas: self.negative_deltas.clone(), counts: bits(&self.negative_counts) };
        ours.positive =
            Side { spans: spans(&self.positive_spans), deltas: self.positive_deltas.clone(), counts: bits(&self.positive_counts) };
        ours.reset_hint = self.reset_hint.cast_unsigned();
        ours.time = self.timestamp;
        ours.start = self.start_timestamp;
        ours.custom_values = bits(&self.custom_values);
        ours
    }
}

/// 1.0.
pub mod one {
    /// `Label`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Label {
        #[prost(bytes = "vec", tag = "1")]
        pub name: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub value: Vec<u8>,
    }
    /// `Sample`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Sample {
        #[prost(double, tag = "1")]
        pub value: f64,
        #[prost(int64, tag = "2")]
        pub timestamp: i64,
    }
    /// `Exemplar`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Exemplar {
        #[prost(message, repeated, tag = "1")]
        pub labels: Vec<Label>,
        #[prost(double, tag = "2")]
        pub value: f64,
        #[prost(int64, tag = "3")]
        pub timestamp: i64,
    }
    /// `MetricMetadata`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Metadata {
        #[prost(int32, tag = "1")]
        pub kind: i32,
        #[prost(bytes = "vec", tag = "2")]
        pub family: Vec<u8>,
        #[prost(bytes = "vec", tag = "4")]
        pub help: Vec<u8>,
        #[prost(bytes = "vec", tag = "5")]
        pub unit: Vec<u8>,
    }
    /// `TimeSeries`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct TimeSeries {
        #[prost(message, repeated, tag = "1")]
        pub labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        pub samples: Vec<Sample>,
        #[prost(message, repeated, tag = "3")]
        pub exemplars: Vec<Exemplar>,
        #[prost(message, repeated, tag = "4")]
        pub histograms: Vec<super::RefHistogram>,
    }
    /// `WriteRequest`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Request {
        #[prost(message, repeated, tag = "1")]
        pub timeseries: Vec<TimeSeries>,
        #[prost(message, repeated, tag = "3")]
        pub metadata: Vec<Metadata>,
    }
}

/// 2.0, with the fields of both layouts.
pub mod two {
    /// `Sample`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Sample {
        #[prost(double, tag = "1")]
        pub value: f64,
        #[prost(int64, tag = "2")]
        pub timestamp: i64,
        #[prost(int64, tag = "3")]
        pub start_timestamp: i64,
    }
    /// `Exemplar`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Exemplar {
        #[prost(uint32, repeated, tag = "1")]
        pub labels_refs: Vec<u32>,
        #[prost(double, tag = "2")]
        pub value: f64,
        #[prost(int64, tag = "3")]
        pub timestamp: i64,
    }
    /// `Metadata`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Metadata {
        #[prost(int32, tag = "1")]
        pub kind: i32,
        #[prost(uint32, tag = "3")]
        pub help_ref: u32,
        #[prost(uint32, tag = "4")]
        pub unit_ref: u32,
    }
    /// `TimeSeries`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct TimeSeries {
        #[prost(uint32, repeated, tag = "1")]
        pub labels_refs: Vec<u32>,
        #[prost(message, repeated, tag = "2")]
        pub samples: Vec<Sample>,
        #[prost(message, repeated, tag = "3")]
        pub histograms: Vec<super::RefHistogram>,
        #[prost(message, repeated, tag = "4")]
        pub exemplars: Vec<Exemplar>,
        #[prost(message, optional, tag = "5")]
        pub metadata: Option<Metadata>,
        #[prost(int64, tag = "6")]
        pub created_timestamp: i64,
    }
    /// `Request`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Request {
        #[prost(bytes = "vec", repeated, tag = "4")]
        pub symbols: Vec<Vec<u8>>,
        #[prost(message, repeated, tag = "5")]
        pub timeseries: Vec<TimeSeries>,
    }
}

/// A point as both sides see it: time, kind, from a histogram, bits, start.
pub type RefPoint = (i64, Kind, bool, u64, i64);

/// A series as both sides see it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RefSeries {
    /// Sorted, without empty values; looked at only if there is no fault.
    pub labels: BTreeMap<String, String>,
    /// Everything that is wrong with it.
    pub faults: Vec<SeriesFault>,
    /// In body order.
    pub points: Vec<RefPoint>,
    /// The labels of each exemplar.
    pub exemplars: Vec<Vec<(String, String)>>,
    /// Type, help, unit.
    pub metadata: Option<(u32, String, String)>,
}

/// Labels above this are too many: kept small so that random messages meet it.
pub const LABELS_MAX: usize = 6;
/// Longer names and values are too long.
pub const NAME_MAX: usize = 12;
/// See [`NAME_MAX`].
pub const VALUE_MAX: usize = 200;

impl RefSeries {
    fn take_labels(&mut self, labels: &[(Vec<u8>, Vec<u8>)]) {
        if labels.len() > LABELS_MAX {
            self.faults.push(SeriesFault::TooManyLabels);
        }
        let mut seen = BTreeMap::<String, usize>::new();
        for (name, value) in labels {
            let (Ok(name), Ok(value)) = (String::from_utf8(name.clone()), String::from_utf8(value.clone())) else {
                self.faults.push(SeriesFault::NotUtf8);
                continue;
            };
            for (wrong, fault) in [
                (name.is_empty(), SeriesFault::EmptyLabelName),
                (name.len() > NAME_MAX, SeriesFault::LongName),
                (value.len() > VALUE_MAX, SeriesFault::LongValue),
            ] {
                if wrong {
                    self.faults.push(fault);
                }
            }
            if !value.is_empty() {
                *seen.entry(name.clone()).or_default() += 1;
                self.labels.insert(name, value);
            }
        }
        if seen.values().any(|count| *count > 1) {
            self.faults.push(SeriesFault::DuplicateLabel);
        }
        if !seen.contains_key("__name__") {
            self.faults.push(SeriesFault::NoName);
        }
    }

    fn take_sample(&mut self, value: f64, time: i64, start: i64) {
        let kind = if value.to_bits() == STALE_NAN { Kind::Stale } else { Kind::Float };
        self.points.push((time, kind, false, value.to_bits(), start));
    }

    fn take_histogram(&mut self, histogram: &RefHistogram, created: i64) {
        let kind = if histogram.sum.to_bits() == STALE_NAN { Kind::Stale } else { Kind::Histogram };
        let start = if histogram.start_timestamp == 0 { created } else { histogram.start_timestamp };
        self.points.push((histogram.timestamp, kind, true, histogram.sum.to_bits(), start));
        if let Err(fault) = histogram.to_ours().check() {
            self.faults.push(SeriesFault::Histogram(fault));
        }
    }

    fn take_exemplar(&mut self, labels: &[(Vec<u8>, Vec<u8>)], value: f64, time: i64) {
        self.points.push((time, Kind::Exemplar, false, value.to_bits(), 0));
        let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone());
        let labels: Result<Vec<_>, _> =
            labels.iter().map(|(name, value)| text(name).and_then(|name| text(value).map(|value| (name, value)))).collect();
        match labels {
            Ok(labels) => self.exemplars.push(labels),
            Err(_) => self.faults.push(SeriesFault::NotUtf8),
        }
    }
}

/// What prost makes of the bytes; none if it refuses them.
pub fn read(protocol: Protocol, raw: &[u8]) -> Option<Vec<RefSeries>> {
    match protocol {
        Protocol::V1 => one::Request::decode(raw).ok().map(|request| request.timeseries.iter().map(read_one).collect()),
        Protocol::V2 => two::Request::decode(raw)
            .ok()
            .map(|request| request.timeseries.iter().map(|series| read_two(series, &request.symbols)).collect()),
    }
}

fn read_one(series: &one::TimeSeries) -> RefSeries {
    let mut seen = RefSeries::default();
    let pairs = |labels: &[one::Label]| labels.iter().map(|label| (label.name.clone(), label.value.clone())).collect::<Vec<_>>();
    seen.take_labels(&pairs(&series.labels));
    series.samples.iter().for_each(|sample| seen.take_sample(sample.value, sample.timestamp, 0));
    series.histograms.iter().for_each(|histogram| seen.take_histogram(histogram, 0));
    series.exemplars.iter().for_each(|exemplar| seen.take_exemplar(&pairs(&exemplar.labels), exemplar.value, exemplar.timestamp));
    seen
}

fn read_two(series: &two::TimeSeries, symbols: &[Vec<u8>]) -> RefSeries {
    let mut seen = RefSeries::default();
    let lookup = |reference: u32, faults: &mut Vec<SeriesFault>| {
        let found = symbols.get(reference as usize).cloned();
        if found.is_none() {
            faults.push(SeriesFault::ReferenceRange);
        }
        found
    };
    let pairs = |references: &[u32], faults: &mut Vec<SeriesFault>| {
        if references.len() % 2 == 1 {
            faults.push(SeriesFault::OddReferences);
        }
        let pair = |pair: &[u32]| lookup(pair[0], faults).zip(lookup(pair[1], faults));
        references.chunks_exact(2).filter_map(pair).collect::<Vec<_>>()
    };
    let labels = pairs(&series.labels_refs, &mut seen.faults);
    seen.take_labels(&labels);
    if series.labels_refs.len() / 2 > LABELS_MAX {
        seen.faults.push(SeriesFault::TooManyLabels);
    }
    let created = series.created_timestamp;
    for sample in &series.samples {
        let start = if sample.start_timestamp == 0 { created } else { sample.start_timestamp };
        seen.take_sample(sample.value, sample.timestamp, start);
    }
    series.histograms.iter().for_each(|histogram| seen.take_histogram(histogram, created));
    for exemplar in &series.exemplars {
        // A reference without a partner is looked up too.
        exemplar.labels_refs.iter().for_each(|reference| {
            if lookup(*reference, &mut seen.faults).is_some_and(|text| std::str::from_utf8(&text).is_err()) {
                seen.faults.push(SeriesFault::NotUtf8);
            }
        });
        let labels = pairs(&exemplar.labels_refs, &mut seen.faults);
        seen.take_exemplar(&labels, exemplar.value, exemplar.timestamp);
    }
    seen.points.iter_mut().filter(|point| point.1 == Kind::Exemplar).for_each(|point| point.4 = created);
    if let Some(about) = &series.metadata {
        let mut text = |reference: u32| {
            let found = if reference == 0 { symbols.first().cloned().or(Some(Vec::new())) } else { lookup(reference, &mut seen.faults) };
            String::from_utf8(found.unwrap_or_default()).unwrap_or_else(|_| {
                seen.faults.push(SeriesFault::NotUtf8);
                String::new()
            })
        };
        if about.kind != 0 || about.help_ref != 0 || about.unit_ref != 0 {
            let (help, unit) = (text(about.help_ref), text(about.unit_ref));
            seen.metadata = Some((about.kind.cast_unsigned(), help, unit));
        }
    }
    seen
}

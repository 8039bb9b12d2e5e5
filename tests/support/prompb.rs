//! Remote Write's messages by prost, for tests only: what the code under test is compared with, so none of it is used here.
//!
//! Field numbers: prometheus/prompb/types.proto and io/prometheus/write/v2/types.proto. 2.0 is read in the layout that senders use.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    pub exemplars: Vec<Exemplar>,
    #[prost(message, repeated, tag = "4")]
    pub histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Label {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct Sample {
    #[prost(double, tag = "1")]
    pub value: f64,
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

/// Counted only: its fields are skipped.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Exemplar {}

#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    #[prost(oneof = "WholeOrFloat", tags = "1, 2")]
    pub count: Option<WholeOrFloat>,
    #[prost(double, tag = "3")]
    pub sum: f64,
    #[prost(sint32, tag = "4")]
    pub schema: i32,
    #[prost(double, tag = "5")]
    pub zero_threshold: f64,
    #[prost(oneof = "Zero", tags = "6, 7")]
    pub zero_count: Option<Zero>,
    #[prost(message, repeated, tag = "8")]
    pub negative_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "9")]
    pub negative_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "10")]
    pub negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    pub positive_spans: Vec<Span>,
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
}

#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub enum WholeOrFloat {
    #[prost(uint64, tag = "1")]
    Whole(u64),
    #[prost(double, tag = "2")]
    Float(f64),
}

#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub enum Zero {
    #[prost(uint64, tag = "6")]
    Whole(u64),
    #[prost(double, tag = "7")]
    Float(f64),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct Span {
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

/// What is asked of a store by remote read.
#[derive(Clone, PartialEq, Message)]
pub struct ReadRequest {
    #[prost(message, repeated, tag = "1")]
    pub queries: Vec<Query>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Query {
    #[prost(int64, tag = "1")]
    pub start: i64,
    #[prost(int64, tag = "2")]
    pub end: i64,
    #[prost(message, repeated, tag = "3")]
    pub matchers: Vec<Matcher>,
}

/// `kind` 2: the value is a regular expression.
#[derive(Clone, PartialEq, Message)]
pub struct Matcher {
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub value: String,
}

/// Its answer.
#[derive(Clone, PartialEq, Message)]
pub struct ReadResponse {
    #[prost(message, repeated, tag = "1")]
    pub results: Vec<QueryResult>,
}

#[derive(Clone, PartialEq, Message)]
pub struct QueryResult {
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}

/// Everything that a store has, as a packed request of remote read.
pub fn read_all() -> Vec<u8> {
    let matchers = vec![Matcher { kind: 2, name: "__name__".to_owned(), value: ".+".to_owned() }];
    let request = ReadRequest { queries: vec![Query { start: 0, end: i64::MAX / 2, matchers }] };
    snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).expect("snappy")
}

/// The series in a packed answer to remote read.
pub fn read_answer(packed: &[u8]) -> Vec<TimeSeries> {
    let raw = snap::raw::Decoder::new().decompress_vec(packed).expect("snappy");
    ReadResponse::decode(&*raw).expect("an answer to remote read").results.into_iter().flat_map(|result| result.timeseries).collect()
}

/// A request of Remote Write 2.0.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    #[prost(string, repeated, tag = "4")]
    pub symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    pub timeseries: Vec<TimeSeries2>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries2 {
    #[prost(uint32, repeated, tag = "1")]
    pub labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    pub histograms: Vec<Histogram>,
    #[prost(message, repeated, tag = "4")]
    pub exemplars: Vec<Exemplar>,
}

/// Unpacks and decodes a 1.0 request.
pub fn decode_v1(packed: &[u8]) -> Vec<TimeSeries> {
    let raw = snap::raw::Decoder::new().decompress_vec(packed).expect("snappy");
    decode_raw_v1(&raw)
}

/// Decodes an unpacked 1.0 request.
pub fn decode_raw_v1(raw: &[u8]) -> Vec<TimeSeries> {
    WriteRequest::decode(raw).expect("a 1.0 request").timeseries
}

/// Unpacks and decodes a 2.0 request into the form of 1.0.
pub fn decode_v2(packed: &[u8]) -> Vec<TimeSeries> {
    let raw = snap::raw::Decoder::new().decompress_vec(packed).expect("snappy");
    let request = Request::decode(&*raw).expect("a 2.0 request");
    let symbol = |at: u32| request.symbols[at as usize].clone();
    let series = |one: &TimeSeries2| {
        let labels = one.labels_refs.chunks(2).map(|pair| Label { name: symbol(pair[0]), value: symbol(pair[1]) }).collect();
        TimeSeries { labels, samples: one.samples.clone(), exemplars: one.exemplars.clone(), histograms: one.histograms.clone() }
    };
    request.timeseries.iter().map(series).collect()
}

/// Encodes and packs a 1.0 request.
pub fn encode_v1(timeseries: Vec<TimeSeries>) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(&WriteRequest { timeseries }.encode_to_vec()).expect("snappy")
}

//! Remote Write 1.0 and 2.0, walked over borrowed bytes: one visit per series, no tree, no owned string.
//!
//! What a visitor is told is settled here once for everybody: labels are sorted and unique, empty values are left out, strings are UTF-8,
//! and a series that breaks a rule is visited all the same, with its `fault`, because its points keep their numbers. **Body order**: series
//! as on the wire; within a series samples, then histograms, then exemplars, each as on the wire. Digest, emissions and sinks number the
//! points of a body this way and by nothing else.
//!
//! Both layouts of 2.0 that are in use are read: `created_timestamp` in the series (field 6, up to rc.3) fills the `start` of points that
//! have none of their own (`start_timestamp`, rc.4). Fields may come in any order, symbols after the series that use them included.
//!
//! Deliberately absent: limits by group, time bounds, the choice of a replica label. Those need to know who sends and when (`ingest`).

mod fields;
mod hash;
mod labels;
mod text;
mod v1;
mod v2;

use super::histogram::Histogram;
use super::histogram::HistogramFault;
use super::proto::Malformed;
use crate::model::Kind;

pub use hash::series_hash;
pub use hash::without;
pub use v1::metadata;

/// Which message a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Remote Write 1.0: `prometheus.WriteRequest`.
    V1,
    /// Remote Write 2.0: `io.prometheus.write.v2.Request`.
    V2,
}

/// How much one request may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Labels of a series; more is a fault of the series.
    pub labels_per_series: usize,
    /// Bytes of a label's name; more is a fault of the series.
    pub label_name_bytes: usize,
    /// Bytes of a label's value; more is a fault of the series.
    pub label_value_bytes: usize,
    /// Series messages; more refuses the request. (An empty one takes two bytes on the wire: 64 MiB could hold 33 million.)
    pub series: usize,
    /// Samples, histograms and exemplars together; more refuses the request.
    pub points: usize,
    /// Symbols of a 2.0 request; more refuses the request.
    pub symbols: usize,
}

impl Default for Limits {
    /// A hundred times what Prometheus sends by default (2,000 samples of some 15 labels).
    fn default() -> Limits {
        Limits {
            labels_per_series: 128,
            label_name_bytes: 1 << 10,
            label_value_bytes: 16 << 10,
            series: 200_000,
            points: 400_000,
            symbols: 400_000,
        }
    }
}

impl Limits {
    /// For bodies that have been let in already, perhaps under other limits: only what a body of 64 MiB can hold bounds them.
    pub fn none() -> Limits {
        let max = usize::MAX;
        Limits { labels_per_series: max, label_name_bytes: max, label_value_bytes: max, series: max, points: max, symbols: max }
    }
}

/// Why a request is refused as a whole. What has been visited before must be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not the protobuf message it claims to be.
    #[error("it is not the protobuf message it should be: {0}")]
    Malformed(#[from] Malformed),
    /// The first symbol must be the empty string; a sender that breaks this counts its references from another place.
    #[error("its first symbol is not the empty string")]
    FirstSymbol,
    /// Over a limit on the whole request.
    #[error("it holds more than {limit} {what}")]
    TooMany {
        /// `series`, `points` or `symbols`.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

impl DecodeError {
    /// Too large (answered 413), not merely wrong (400).
    pub fn is_size(&self) -> bool {
        matches!(self, DecodeError::TooMany { .. })
    }
}

/// Why a series is refused; the rest of its request is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SeriesFault {
    /// No `__name__`, or an empty one.
    #[error("it has no metric name (__name__)")]
    NoName,
    /// A label without a name.
    #[error("a label's name is empty")]
    EmptyLabelName,
    /// Two labels of one name.
    #[error("a label's name appears twice")]
    DuplicateLabel,
    /// A name or value (or a label of an exemplar) is not UTF-8. Such labels are not among those visited.
    #[error("a label is not valid UTF-8")]
    NotUtf8,
    /// Over [`Limits::labels_per_series`]; as many as are allowed are visited.
    #[error("it has too many labels")]
    TooManyLabels,
    /// Over [`Limits::label_name_bytes`]. The label is not among those visited.
    #[error("a label's name is too long")]
    LongName,
    /// Over [`Limits::label_value_bytes`]. The label is not among those visited.
    #[error("a label's value is too long")]
    LongValue,
    /// 2.0: names and values do not pair up.
    #[error("its label references are odd in number")]
    OddReferences,
    /// 2.0: no such symbol.
    #[error("a symbol reference points outside the symbol table")]
    ReferenceRange,
    /// A native histogram that makes no sense.
    #[error("a native histogram is not valid: {0}")]
    Histogram(HistogramFault),
}

/// A label; both parts are never empty in a series without fault.
#[derive(Clone, Copy, Debug)]
pub struct Label<'b> {
    /// Its name.
    pub name: &'b str,
    /// Its value.
    pub value: &'b str,
    /// This label's part of the series' hash.
    hash: u64,
}

impl<'b> Label<'b> {
    /// A label that comes from no request (probes, tests); `seed` is the walker's.
    pub fn new(seed: u64, name: &'b str, value: &'b str) -> Label<'b> {
        Label { name, value, hash: hash::fold(hash::part(seed, name), hash::part(seed, value)) }
    }

    /// A label whose part of the series' hash is known.
    pub fn known(name: &'b str, value: &'b str, part: u64) -> Label<'b> {
        Label { name, value, hash: part }
    }

    /// Its part of the series' hash.
    pub fn part(&self) -> u64 {
        self.hash
    }
}

/// One sample, histogram or exemplar.
#[derive(Clone, Copy, Debug)]
pub struct Point<'b> {
    /// Milliseconds since 1970.
    pub time: i64,
    /// What it is.
    pub kind: Kind,
    /// The message is a native histogram; a stale one has the kind [`Kind::Stale`], like a stale sample.
    pub histogram: bool,
    /// Bits of the value; of a histogram's sum.
    pub bits: u64,
    /// When the counter began; 0 = unset.
    pub start: i64,
    /// The Sample, Histogram or Exemplar message.
    pub raw: &'b [u8],
}

/// What 2.0 says about a series' metric, when it says anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata<'b> {
    /// 1.0: the family's name. 2.0: empty, for it stands in the series.
    pub family: &'b str,
    /// 0 unknown, 1 counter, 2 gauge, 3 histogram, 4 gauge histogram, 5 summary, 6 info, 7 state set: the same in both protocols.
    pub kind: u32,
    /// Help text.
    pub help: &'b str,
    /// Unit.
    pub unit: &'b str,
}

/// One TimeSeries message.
#[derive(Clone, Copy)]
pub struct Series<'w, 'b> {
    /// Sorted by name, without empty values. Of a faulty series: what can be shown of it.
    pub labels: &'w [Label<'b>],
    /// In body order.
    pub points: &'w [Point<'b>],
    /// Set: none of its points may be forwarded.
    pub fault: Option<SeriesFault>,
    /// Its labels came sorted. (They are sorted here in any case.)
    pub sorted: bool,
    /// 2.0 only, and only if it says anything.
    pub metadata: Option<Metadata<'b>>,
    /// Which TimeSeries message of the request it is, from 0.
    pub number: u32,
    /// The body-order number of its first point.
    pub first_item: u32,
    /// The TimeSeries message.
    pub raw: &'b [u8],
    /// The fields of `labels` as they stand in `raw`, in two pieces of which one may be empty; both are where they do not stand there just so (1.0).
    fields: [&'b [u8]; 2],
    /// The request's symbols: what references in `raw` mean (2.0).
    symbols: &'w [labels::Symbol<'b>],
}

impl<'b> Series<'_, 'b> {
    /// The series' identity: see [`series_hash`].
    pub fn hash(&self, leave_out: &[&str]) -> u64 {
        series_hash(self.labels, leave_out)
    }

    /// The value of this label, if the series has it.
    pub fn label(&self, name: &str) -> Option<&'b str> {
        self.labels.iter().find(|label| label.name == name).map(|label| label.value)
    }

    /// The fields of `labels` in a message of 1.0, which can be copied into another one; `None`: they do not stand there so. Of 2.0 never.
    pub fn label_fields(&self) -> Option<[&'b [u8]; 2]> {
        Some(self.fields).filter(|pieces| self.fault.is_none() && pieces.iter().any(|piece| !piece.is_empty()))
    }

    /// The labels of an exemplar of this series, as sent; none if the series is faulty.
    pub fn exemplar_labels(&self, exemplar: &Point<'b>, visit: &mut dyn FnMut(&'b str, &'b str)) {
        if self.fault.is_none() && exemplar.kind == Kind::Exemplar {
            fields::exemplar_labels(exemplar.raw, self.symbols, visit);
        }
    }
}

/// What a request held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// TimeSeries messages.
    pub series: usize,
    /// Of them: with a fault.
    pub faulty: usize,
    /// Of them: whose labels came unsorted.
    pub unsorted: usize,
    /// Labels left out because their value was empty.
    pub empty_values: usize,
    /// All points, those of faulty series included: samples, histograms and exemplars.
    pub points: usize,
    /// Float samples, stale markers included.
    pub samples: usize,
    /// Native histograms, stale ones included.
    pub histograms: usize,
    /// Exemplars.
    pub exemplars: usize,
    /// Stale markers among samples and histograms.
    pub stale: usize,
    /// Metadata entries: of 1.0's own field, or series of 2.0 that carry some.
    pub metadata: usize,
    /// Symbols (2.0).
    pub symbols: usize,
}

/// Reads requests, one after the other; keeps its scratch memory between them.
#[derive(Default)]
pub struct Walker {
    seed: u64,
    scratch: labels::Scratch<'static>,
    histogram: Histogram,
    /// The most scratch memory that a request has taken; tests of hostile input read it.
    #[cfg(test)]
    pub(crate) peak_bytes: usize,
}

impl Walker {
    /// A walker whose series hashes use the cluster's seed.
    pub fn new(seed: u64) -> Walker {
        Walker { seed, ..Walker::default() }
    }

    /// Visits every series of an unpacked request. On an error, what has been visited must be forgotten.
    pub fn walk<'b>(
        &mut self,
        protocol: Protocol,
        raw: &'b [u8],
        limits: &Limits,
        visit: &mut dyn FnMut(Series<'_, 'b>),
    ) -> Result<Totals, DecodeError> {
        self.walk_stripped((protocol, raw), limits, &[], visit)
    }

    /// As [`Walker::walk`], but the visitor does not get the labels named in `strip`. They count for every check.
    pub(crate) fn walk_stripped<'b>(
        &mut self,
        (protocol, raw): (Protocol, &'b [u8]),
        limits: &Limits,
        strip: &[String],
        visit: &mut dyn FnMut(Series<'_, 'b>),
    ) -> Result<Totals, DecodeError> {
        let mut scratch = std::mem::take(&mut self.scratch).recycle();
        let mut pass = labels::Pass {
            seed: self.seed,
            limits,
            strip,
            scratch: &mut scratch,
            histogram: &mut self.histogram,
            totals: Totals::default(),
            visit,
        };
        let outcome = match protocol {
            Protocol::V1 => v1::walk(&mut pass, raw),
            Protocol::V2 => v2::walk(&mut pass, raw),
        };
        let totals = pass.totals;
        #[cfg(test)]
        {
            self.peak_bytes = self.peak_bytes.max(scratch.bytes());
        }
        self.scratch = scratch.recycle();
        outcome.map(|()| totals)
    }

    #[cfg(test)]
    pub(crate) fn kept_bytes(&self) -> usize {
        self.scratch.bytes()
    }
}

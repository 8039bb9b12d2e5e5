//! What ingest counts.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::ingest::answer::Unable;
use crate::ingest::identity::Unidentified;
use crate::ingest::lanes::Refusal;
use crate::ingest::lanes::Written;
use crate::label_words;
use crate::wire::remote_write::Protocol;
use crate::wire::remote_write::Totals;

label_words! {
    /// The protocol, as a label.
    Version {
        /// Remote Write 1.0.
        V1 = "1.0",
        /// Remote Write 2.0.
        V2 = "2.0",
        /// Not known, because the request was refused before.
        Unknown = "unknown",
    }
}

label_words! {
    /// Points by kind.
    PointKind {
        /// Float samples.
        Sample = "sample",
        /// Native histograms.
        Histogram = "histogram",
        /// Exemplars.
        Exemplar = "exemplar",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    protocol: Version,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: PointKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    reason: Refusal,
    group: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: Refusal,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UnableLabels {
    reason: Unable,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitedLabels {
    reason: Unable,
    group: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UnidentifiedLabels {
    missing: Unidentified,
}

/// Counters of ingest.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    accepted: Family<KindLabels, Counter>,
    refused: Family<RefusedLabels, Counter>,
    unable: Family<UnableLabels, Counter>,
    limited: Family<LimitedLabels, Counter>,
    unidentified: Family<UnidentifiedLabels, Counter>,
    packed_bytes: Counter,
    unpacked_bytes: Counter,
    mixed: Counter,
    unsorted: Counter,
    empty_values: Counter,
    metadata: Counter,
    retried: Counter,
    new_names: Counter,
    seconds: Histogram,
    decode_seconds: Histogram,
    waiting_for_slot: Gauge,
    /// Requests, whatever became of them.
    all_requests: Counter,
    /// Refused points of all groups together, for the page; `/metrics` has them by group.
    refused_by_reason: Family<ReasonLabels, Counter>,
}

/// What the status page shows of all this.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Requests.
    pub requests: u64,
    /// Samples and histograms committed.
    pub samples: u64,
    /// Points refused, by reason.
    pub refused: Vec<(String, u64)>,
    /// Requests answered 503, by reason.
    pub unable: Vec<(String, u64)>,
    /// Points that do not say whose they are, by what is missing.
    pub unidentified: Vec<(String, u64)>,
}

/// 0.5 ms to 16 s.
fn buckets() -> impl Iterator<Item = f64> {
    prometheus_client::metrics::histogram::exponential_buckets(0.0005, 2.0, 16)
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            requests: Family::default(),
            accepted: Family::default(),
            refused: Family::default(),
            unable: Family::default(),
            limited: Family::default(),
            unidentified: Family::default(),
            packed_bytes: Counter::default(),
            unpacked_bytes: Counter::default(),
            mixed: Counter::default(),
            unsorted: Counter::default(),
            empty_values: Counter::default(),
            metadata: Counter::default(),
            retried: Counter::default(),
            new_names: Counter::default(),
            seconds: Histogram::new(buckets()),
            decode_seconds: Histogram::new(buckets()),
            waiting_for_slot: Gauge::default(),
            all_requests: Counter::default(),
            refused_by_reason: Family::default(),
        }
    }
}

impl Metrics {
    /// Registers them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("ingest_requests", "Remote-write requests, by protocol and answer", self.requests.clone());
        registry.register(
            "ingest_accepted",
            "Samples, histograms and exemplars that were committed, from leaders and standbys",
            self.accepted.clone(),
        );
        registry.register("ingest_refused", "Points refused for good, by reason and group", self.refused.clone());
        registry.register("ingest_unable", "Requests answered 503, by reason", self.unable.clone());
        registry.register("ingest_limited", "Requests answered 503 since their group is over a limit of its own", self.limited.clone());
        registry.register("ingest_unidentified", "Points that do not say which group and replica they are of", self.unidentified.clone());
        registry.register("ingest_packed_bytes", "Bytes of bodies as they came", self.packed_bytes.clone());
        registry.register("ingest_unpacked_bytes", "The same unpacked", self.unpacked_bytes.clone());
        registry.register("ingest_mixed_requests", "Requests that mix groups or replicas", self.mixed.clone());
        registry.register("ingest_unsorted_series", "Series whose labels came unsorted", self.unsorted.clone());
        registry.register("ingest_empty_label_values", "Labels left out because their value is empty", self.empty_values.clone());
        registry.register("ingest_metadata", "Metadata entries seen", self.metadata.clone());
        registry.register("ingest_retried_requests", "Requests that the sender had tried before", self.retried.clone());
        registry.register("ingest_replica_names_beyond_pair", "New replica names in groups that had two or more", self.new_names.clone());
        registry.register("ingest_answer_seconds", "From the head of a request to its answer", self.seconds.clone());
        registry.register("ingest_decode_seconds", "Unpacking, walking and digesting one request", self.decode_seconds.clone());
        registry.register("ingest_waiting_for_slot", "Requests that wait for a decode slot", self.waiting_for_slot.clone());
    }

    /// One answer went out.
    pub fn answered(&self, protocol: Option<Protocol>, status: u16, retries: u32, took: Duration) {
        let protocol = match protocol {
            Some(Protocol::V1) => Version::V1,
            Some(Protocol::V2) => Version::V2,
            None => Version::Unknown,
        };
        self.requests.get_or_create(&RequestLabels { protocol, status }).inc();
        self.all_requests.inc();
        self.seconds.observe(took.as_secs_f64());
        if retries > 0 {
            self.retried.inc();
        }
    }

    /// One request was decoded.
    pub fn decoded(&self, packed: usize, unpacked: usize, totals: &Totals, lanes: usize, took: Duration) {
        self.packed_bytes.inc_by(packed as u64);
        self.unpacked_bytes.inc_by(unpacked as u64);
        self.unsorted.inc_by(totals.unsorted as u64);
        self.empty_values.inc_by(totals.empty_values as u64);
        self.metadata.inc_by(totals.metadata as u64);
        if lanes > 1 {
            self.mixed.inc();
        }
        self.decode_seconds.observe(took.as_secs_f64());
    }

    /// Committed.
    pub fn accepted(&self, written: Written) {
        for (kind, count) in
            [(PointKind::Sample, written.samples), (PointKind::Histogram, written.histograms), (PointKind::Exemplar, written.exemplars)]
        {
            if count > 0 {
                self.accepted.get_or_create(&KindLabels { kind }).inc_by(count);
            }
        }
    }

    /// Refused for good.
    pub fn refused(&self, reason: Refusal, group: &str, points: u64) {
        self.refused.get_or_create(&RefusedLabels { reason, group: group.to_string() }).inc_by(points);
        self.refused_by_reason.get_or_create(&ReasonLabels { reason }).inc_by(points);
    }

    /// Answered 503.
    pub fn unable(&self, reason: Unable) {
        self.unable.get_or_create(&UnableLabels { reason }).inc();
    }

    /// A group is over a limit of its own.
    pub fn limited(&self, reason: Unable, group: &str) {
        self.limited.get_or_create(&LimitedLabels { reason, group: group.to_string() }).inc();
    }

    /// Points that do not say whose they are.
    pub fn unidentified(&self, missing: Unidentified, points: u64) {
        self.unidentified.get_or_create(&UnidentifiedLabels { missing }).inc_by(points);
    }

    /// A third or later name in a group.
    pub fn new_name(&self) {
        self.new_names.inc();
    }

    /// One more waits for a slot, or one less.
    pub fn waits(&self, more: i64) {
        self.waiting_for_slot.inc_by(more);
    }

    /// For the status page.
    pub fn shown(&self) -> Shown {
        let kind = |kind| self.accepted.get(&KindLabels { kind }).map_or(0, |counter| counter.get());
        let seen = |pairs: Vec<(&'static str, u64)>| {
            pairs.into_iter().filter(|(_, count)| *count > 0).map(|(word, count)| (word.to_owned(), count)).collect()
        };
        let refused = |reason: &Refusal| {
            (reason.word(), self.refused_by_reason.get(&ReasonLabels { reason: *reason }).map_or(0, |counter| counter.get()))
        };
        let unable =
            |reason: &Unable| (reason.word(), self.unable.get(&UnableLabels { reason: *reason }).map_or(0, |counter| counter.get()));
        let unidentified = |missing: &Unidentified| {
            (missing.word(), self.unidentified.get(&UnidentifiedLabels { missing: *missing }).map_or(0, |counter| counter.get()))
        };
        Shown {
            requests: self.all_requests.get(),
            samples: kind(PointKind::Sample) + kind(PointKind::Histogram),
            refused: seen(Refusal::ALL.iter().map(refused).collect()),
            unable: seen(Unable::ALL.iter().map(unable).collect()),
            unidentified: seen(Unidentified::ALL.iter().map(unidentified).collect()),
        }
    }
}

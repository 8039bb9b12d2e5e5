//! `limits:` what a sender may do at most. Every bound is on by default, and every refusal by one of them is counted under its name.

use std::time::Duration;

use crate::config::read::Section;
use crate::config::values;

/// Bounds on what senders may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A request's body as it comes in. Prometheus packs 2,000 samples into about 85 KB.
    pub packed_bytes: usize,
    /// The same unpacked; looked at before anything is allocated.
    pub unpacked_bytes: usize,
    /// All requests together, from the first byte of the body until the shard has written it.
    pub in_flight_bytes: u64,
    /// Open connections; above it requests get 503 and the connection stays.
    pub connections: usize,
    /// After about so long (a fifth more or less) a connection ends with its next answer, so that a balancer spreads senders anew; 0: never.
    pub connection_age: Duration,
    /// Labels of one series.
    pub labels_per_series: usize,
    /// A label's name.
    pub label_name_bytes: usize,
    /// A label's value.
    pub label_value_bytes: usize,
    /// Series entries of one request.
    pub series_per_request: usize,
    /// Samples, histograms and exemplars of one request.
    pub points_per_request: usize,
    /// Symbols of one 2.0 request.
    pub symbols_per_request: usize,
    /// Groups there may be; series of one more are refused.
    pub groups: usize,
    /// How far a sample may lie ahead of this node's clock.
    pub future: Duration,
    /// A body that comes slower than so many bytes a second is answered 408.
    pub body_bytes_per_second: u64,
    /// What each group may do, unless something else is said of it (`groups.overrides`).
    pub per_group: PerGroup,
}

/// Bounds on what one group may do, so that it cannot hurt the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerGroup {
    /// Series that the shard knows of it; samples of one more are refused for good, those of known ones are taken.
    pub series: u64,
    /// Series that it may begin a second; a minute's worth at once.
    pub new_series_per_second: u64,
    /// Samples that its replicas together may send a second; ten seconds' worth at once.
    pub samples_per_second: u64,
    /// Of its requests under way in this node.
    pub in_flight_bytes: u64,
}

/// The same for one group, as far as it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Special {
    /// See [`PerGroup::series`].
    pub series: Option<u64>,
    /// See [`PerGroup::new_series_per_second`].
    pub new_series_per_second: Option<u64>,
    /// See [`PerGroup::samples_per_second`].
    pub samples_per_second: Option<u64>,
    /// See [`PerGroup::in_flight_bytes`].
    pub in_flight_bytes: Option<u64>,
}

impl Default for PerGroup {
    fn default() -> PerGroup {
        PerGroup {
            series: 10_000_000,             // 600 MB of every node's memory
            new_series_per_second: 100_000, // a group of six million at its first scrape
            samples_per_second: 5_000_000,
            in_flight_bytes: 256 << 20, // a quarter of what all may have
        }
    }
}

impl PerGroup {
    /// With what is said of one group.
    pub fn with(self, special: &Special) -> PerGroup {
        PerGroup {
            series: special.series.unwrap_or(self.series),
            new_series_per_second: special.new_series_per_second.unwrap_or(self.new_series_per_second),
            samples_per_second: special.samples_per_second.unwrap_or(self.samples_per_second),
            in_flight_bytes: special.in_flight_bytes.unwrap_or(self.in_flight_bytes),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            packed_bytes: 32 << 20,
            unpacked_bytes: 64 << 20,
            in_flight_bytes: 1 << 30,
            connections: 10_000,                      // 50 connections a replica, two replicas, a hundred groups
            connection_age: Duration::from_secs(600), // a restarted node has its share again within 12 minutes
            labels_per_series: 128,
            label_name_bytes: 1 << 10,
            label_value_bytes: 16 << 10,
            series_per_request: 500_000,
            points_per_request: 1_000_000,
            symbols_per_request: 1_000_000,
            groups: 1000,
            future: Duration::from_secs(600),
            body_bytes_per_second: 1 << 10,
            per_group: PerGroup::default(),
        }
    }
}

/// Reads `limits:`.
pub fn read(section: &Section<'_>) -> Limits {
    let default = Limits::default();
    let bytes = |key, default: usize, most: u64| narrow(section.or(key, default as u64, values::size_in(1..=most)));
    let count = |key, default: usize, most: u64| narrow(section.or(key, default as u64, values::number(1..=most)));
    let limits = Limits {
        packed_bytes: bytes("packed_bytes", default.packed_bytes, 1 << 30),
        unpacked_bytes: bytes("unpacked_bytes", default.unpacked_bytes, 1 << 30),
        in_flight_bytes: section.or("in_flight_bytes", default.in_flight_bytes, values::size_in(1 << 20..=1 << 40)),
        connections: count("connections", default.connections, 1_000_000),
        connection_age: section.or(
            "connection_age",
            default.connection_age,
            values::duration_in(Duration::ZERO..=Duration::from_secs(7 * 86_400)),
        ),
        labels_per_series: count("labels_per_series", default.labels_per_series, 65_536),
        label_name_bytes: bytes("label_name_bytes", default.label_name_bytes, 1 << 20),
        label_value_bytes: bytes("label_value_bytes", default.label_value_bytes, 1 << 24),
        series_per_request: count("series_per_request", default.series_per_request, 10_000_000),
        points_per_request: count("points_per_request", default.points_per_request, 10_000_000),
        symbols_per_request: count("symbols_per_request", default.symbols_per_request, 10_000_000),
        groups: count("groups", default.groups, 100_000),
        future: section.or("future", default.future, values::duration_in(Duration::from_secs(1)..=Duration::from_secs(365 * 86_400))),
        body_bytes_per_second: section.or("body_bytes_per_second", default.body_bytes_per_second, values::size_in(1..=1 << 30)),
        per_group: section.below("per_group").map(|section| default.per_group.with(&read_special(&section))).unwrap_or(default.per_group),
    };
    section.finish();
    let needed = (limits.packed_bytes + limits.unpacked_bytes) as u64;
    if limits.in_flight_bytes < needed {
        section.node().complain(
            format!("in_flight_bytes must hold one request, packed and unpacked: {} here", values::shown_size(needed)),
            "raise in_flight_bytes, or lower packed_bytes and unpacked_bytes",
        );
    }
    limits
}

/// Reads what one group may do, or each of them.
pub fn read_special(section: &Section<'_>) -> Special {
    let count = |key| section.opt(key, values::number(1..=1 << 40));
    let special = Special {
        series: count("series"),
        new_series_per_second: count("new_series_per_second"),
        samples_per_second: count("samples_per_second"),
        in_flight_bytes: section.opt("in_flight_bytes", values::size_in(1 << 16..=1 << 40)),
    };
    section.finish();
    special
}

fn narrow(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

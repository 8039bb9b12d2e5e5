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

fn narrow(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

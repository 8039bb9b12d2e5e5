//! `sluice bench decode | dedup | alerts | rows`: single parts on this machine, one thread, nothing else running.
//!
//! The parts measure themselves and read no clock; time is brought from here.

use std::path::PathBuf;

use clap::Args;

use super::Version;
use super::template::Template;
use crate::alert::book::MOST_ALERTS;
use crate::alert::groups::measure as state;
use crate::alert::rehearsal::measure as rehearsal;
use crate::cli::Failure;
use crate::clock;
use crate::dedup::bench as dedup;
use crate::forward;
use crate::wire::alerts::measure as alerts;
use crate::wire::capture;
use crate::wire::measure;
use crate::wire::pack;
use crate::wire::pack::Packing;
use crate::wire::remote_write::Protocol;

/// Requests of 2,000 samples that are made up where no capture is given.
const REQUESTS: usize = 20;
const SAMPLES: usize = 2000;

/// `sluice bench decode`.
#[derive(Debug, Args)]
pub struct Decode {
    /// A capture (tests/captures/README.md has the format); without one, requests like `bench load` sends.
    file: Option<PathBuf>,
    /// Which Remote Write is made up: v1 or v2.
    #[arg(long, value_enum, hide_possible_values = true, default_value_t = Version::V1)]
    protocol: Version,
    /// How often all requests are gone over.
    #[arg(long, default_value_t = 200)]
    rounds: usize,
}

/// `sluice bench dedup`.
#[derive(Debug, Args)]
pub struct Dedup {
    /// Series of the group.
    #[arg(long, default_value_t = 1_000_000)]
    series: usize,
    /// Scrapes of each replica.
    #[arg(long, default_value_t = 20)]
    scrapes: usize,
    /// A new order of series in every scrape: the worst that a cache can meet.
    #[arg(long)]
    scattered: bool,
}

/// `sluice bench alerts`.
#[derive(Debug, Args)]
pub struct Alerts {
    /// How often a request of 256 alerts is read.
    #[arg(long, default_value_t = 2_000)]
    rounds: usize,
    /// How many alerts are then taken into the state, grouped and looked at.
    #[arg(long, default_value_t = 100_000)]
    alerts: usize,
}

/// `sluice bench rows`.
#[derive(Debug, Args)]
pub struct Rows {
    /// Rows to encode.
    #[arg(long, default_value_t = 2_000_000)]
    rows: u64,
    /// Also send them to this Kafka.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// The topic for that.
    #[arg(long, default_value = "sluice-bench")]
    topic: String,
}

/// Nanoseconds of the monotonic clock.
fn ticks() -> impl Fn() -> u64 {
    let start = clock::now();
    move || u64::try_from(clock::now().duration_since(start).as_nanos()).unwrap_or(u64::MAX)
}

/// Unpack, walk, hash, digest.
pub fn decode(arguments: &Decode) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Failed(error.to_string());
    let file = match &arguments.file {
        Some(path) => std::fs::read(path).map_err(|error| Failure::Wrong(format!("{}: {error}", path.display())))?,
        None => Vec::new(),
    };
    let captured = capture::read(&file).map_err(|error| failed(&error))?;
    let made = if captured.is_empty() { made_up(arguments.protocol) } else { Vec::new() };
    let mut requests: Vec<measure::Request<'_>> =
        captured.iter().map(|one| measure::Request { protocol: one.protocol(), packing: one.packing(), packed: one.body }).collect();
    let protocol = arguments.protocol.protocol();
    requests.extend(made.iter().map(|packed| measure::Request { protocol, packing: Packing::Snappy, packed }));
    let found = measure::decode(&requests, arguments.rounds.max(1), &ticks()).map_err(|error| failed(&error))?;
    let points = found.points.max(1) as f64;
    println!("requests        {} with {} points, {} rounds", requests.len(), found.points, arguments.rounds.max(1));
    println!(
        "bytes a point   {:.1} packed, {:.1} unpacked, {:.1} digest",
        found.packed_bytes as f64 / points,
        found.unpacked_bytes as f64 / points,
        found.digest_bytes as f64 / points
    );
    let steps = [
        ("unpack", found.unpack),
        ("walk", found.walk),
        ("walk and hash", found.walk_and_hash),
        ("write digest", found.encode),
        ("read digest", found.parse),
    ];
    for (name, step) in steps {
        println!("{name:<15} {:7.1} ns a point (least), {:.1} (median)", step.least as f64 / points, step.median as f64 / points);
    }
    Ok(())
}

fn made_up(version: Version) -> Vec<Vec<u8>> {
    let one = |number: usize| {
        let mut packed = Vec::new();
        let mut template = Template::new(version.protocol(), "bench/group", "prometheus-0", number * SAMPLES, SAMPLES);
        pack::pack_snappy(template.at(clock::wall_ms()), &mut packed);
        packed
    };
    (0..REQUESTS).map(one).collect()
}

/// Of which a dry run is measured.
const EPISODES: usize = 10_000;

/// Reading, keeping and grouping, per alert.
pub fn alerts(arguments: &Alerts) -> Result<(), Failure> {
    let found = alerts::measure(arguments.rounds, &ticks()).map_err(|error| Failure::Failed(format!("{error:?}")))?;
    println!("bytes an alert  {:.0}", found.bytes);
    println!("read            {:7.0} ns an alert (least), {:.0} (median)", found.least_ns, found.median_ns);
    println!("fingerprint     {:7.0} ns an alert (least)", found.fingerprint_ns);
    let alerts = arguments.alerts.clamp(1, MOST_ALERTS);
    let state = state::measure(alerts, &ticks()).ok_or_else(|| Failure::Failed("the state does not take them".to_owned()))?;
    println!("{alerts} alerts in {} groups of 51 routes, 10 rules of inhibition:", state.groups);
    println!("take into state {:7.0} ns an alert, request by request", state.post_ns);
    println!("group           {:7.0} ns an alert, the same", state.look_ns);
    println!("what is due     {:7.0} ns an alert", state.due_ns);
    println!("how it stands   {:7.0} ns an alert, as for a list of all", state.standing_ns);
    println!("holds longer    {:7.0} ns an alert", state.longer_ns);
    let (each_ns, messages) = rehearsal::measure(EPISODES, &ticks()).ok_or_else(|| Failure::Failed("there is no rehearsal".to_owned()))?;
    println!("dry run         {:7.1} µs an episode, {EPISODES} of a week with {messages} messages", each_ns / 1000.0);
    Ok(())
}

/// The rules, per sample.
pub fn dedup(arguments: &Dedup) -> Result<(), Failure> {
    let ticks = ticks();
    let load = dedup::Load { series: arguments.series, scrapes: arguments.scrapes, scattered: arguments.scattered };
    let found = dedup::measure(load, &mut || ticks()).map_err(|error| Failure::Failed(error.to_string()))?;
    println!("leader's sample, passes        {:7.1} ns", found.leader_ns);
    println!("the same, with `increase`       {:7.1} ns", found.counted_ns);
    println!("standby's sample, starts to wait {:5.1} ns", found.waits_ns);
    println!("standby's sample, is covered   {:7.1} ns", found.covered_ns);
    println!("detection, per sample          {:7.1} ns", found.observe_ns);
    println!("memory a series                {:7.1} B, with `increase` {:.1} B", found.bytes_per_series, found.counted_bytes);
    println!(
        "image                          {:7.1} B a series, {:.0} ns to write, {:.0} ns to read",
        found.image_bytes, found.write_ns, found.read_ns
    );
    println!("a switch                       {:7.2} ms", found.switch_ms);
    Ok(())
}

/// Rows, and what Kafka's client adds.
pub fn rows(arguments: &Rows) -> Result<(), Failure> {
    let found = forward::measure::encode_rows(arguments.rows);
    println!("encode    {:.3} µs CPU a row of {:.0} B", found.micros_a_row, found.bytes as f64 / found.rows.max(1) as f64);
    for (version, protocol) in [("1.0", Protocol::V1), ("2.0", Protocol::V2)] {
        let store =
            forward::measure::encode_requests(arguments.rows / 2000, protocol).map_err(|error| Failure::Failed(error.to_string()))?;
        println!(
            "a store   {:.3} µs CPU a sample of {version} to find it in its body, {:.3} with it written into a request as it came, {:.3} with other labels",
            store.walk, store.copied, store.anew
        );
    }
    if let Some(broker) = &arguments.kafka {
        let cost = forward::kafka::measure::produce_rows(broker, &arguments.topic, "lz4", arguments.rows);
        let cost = cost.map_err(|error| Failure::Failed(error.to_string()))?;
        println!(
            "to Kafka  {:.3} µs CPU a row on our thread (encoding included), {:.3} µs on the client's (lz4)",
            cost.own_micros, cost.client_micros
        );
    }
    Ok(())
}

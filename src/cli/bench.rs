//! `sluice bench`: measuring tools that an operator can run too. Figures of ours stand in docs/benchmarks.md with their commands.

mod load;
mod local;
mod template;

use std::time::Duration;

use clap::Args;
use clap::Subcommand;
use clap::ValueEnum;

use crate::cli::Failure;
use crate::cli::wait_for;
use crate::wire::remote_write::Protocol;

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write to a node like pairs of Prometheus: in real time, 2,000 samples a request, series like cAdvisor's.
    Load(LoadArguments),
    /// Unpack, walk and digest requests, one thread.
    Decode(local::Decode),
    /// The dedup core alone: what a sample costs, what a series keeps.
    Dedup(local::Dedup),
    /// Alerts as Prometheus posts them: read them, and say which each is.
    Alerts(local::Alerts),
    /// Rows: encode them, and send them to a Kafka if one is named.
    Rows(local::Rows),
}

/// `sluice bench load`.
#[derive(Debug, Args)]
pub struct LoadArguments {
    /// The node to write to.
    #[arg(long, value_name = "HOST:PORT", default_value = crate::config::LISTEN_DEFAULT)]
    server: String,
    /// Replicas of each group; every one sends every series.
    #[arg(long, default_value_t = 2)]
    replicas: usize,
    /// Groups.
    #[arg(long, default_value_t = 1)]
    groups: usize,
    /// Number of the first group, so that two loads at a time write to groups of their own.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    first_group: usize,
    /// Series of each group.
    #[arg(long, default_value_t = 100_000)]
    series: usize,
    /// Samples a second of all groups and replicas together; the interval of a series follows from it.
    #[arg(long, default_value_t = 100_000)]
    rate: u64,
    /// How long to write, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    seconds: u64,
    /// Which Remote Write: v1 or v2.
    #[arg(long, value_enum, hide_possible_values = true, default_value_t = Version::V1)]
    protocol: Version,
    /// Connections of each replica.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// How long to wait after the last answer until the node's sinks have delivered all; its CPU is counted until then. 0: not at all.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    drain: u64,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// As the argument names it.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Version {
    /// Remote Write 1.0.
    V1,
    /// Remote Write 2.0.
    V2,
}

impl Version {
    fn protocol(self) -> Protocol {
        match self {
            Version::V1 => Protocol::V1,
            Version::V2 => Protocol::V2,
        }
    }
}

/// Does it.
pub fn carry_out(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Load(arguments) => wait_for(run_load(arguments)),
        Verb::Decode(arguments) => local::decode(&arguments),
        Verb::Dedup(arguments) => local::dedup(&arguments),
        Verb::Alerts(arguments) => local::alerts(&arguments),
        Verb::Rows(arguments) => local::rows(&arguments),
    }
}

async fn run_load(arguments: LoadArguments) -> Result<(), Failure> {
    let [replicas, groups, series, connections] =
        [arguments.replicas, arguments.groups, arguments.series, arguments.connections].map(|number| number.max(1));
    let per_interval = (replicas * groups * series) as f64;
    let interval = Duration::from_secs_f64((per_interval / arguments.rate.max(1) as f64).max(0.001));
    let load = load::Load {
        server: arguments.server,
        replicas,
        series,
        groups,
        first_group: arguments.first_group,
        interval,
        duration: Duration::from_secs(arguments.seconds),
        protocol: arguments.protocol.protocol(),
        connections,
        start_ms: crate::clock::wall_ms(),
        drain: Duration::from_secs(arguments.drain),
    };
    let report = load::run(load).await.map_err(|error| Failure::NoAnswer(error.to_string()))?;
    if arguments.json {
        println!("{:#}", serde_json::json!(report));
        return Ok(());
    }
    println!("interval of a series    {:.3} s", interval.as_secs_f64());
    println!("acknowledged            {} samples in {} requests, {:.1} s", report.samples, report.requests, report.seconds);
    println!("rate                    {:.0} samples/s", report.samples_per_second);
    println!("bytes a sample          {:.1} packed", report.packed_bytes as f64 / report.samples.max(1) as f64);
    println!(
        "answers                 p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        report.p50_ms, report.p90_ms, report.p99_ms, report.max_ms
    );
    println!("behind schedule         at most {:.0} ms", report.behind_ms);
    println!("retried (503), failed   {}, {}", report.retried, report.failed);
    let Some(server) = report.server else {
        println!("server                  has no metrics of its own");
        return Ok(());
    };
    println!(
        "delivered               {:.0} rows, {:.0} rows/s, {:.0} transactions, {:.1} s after the last answer",
        server.rows, server.rows_per_second, server.commits, server.drain_seconds
    );
    if server.undelivered > 0.0 {
        println!("NOT delivered           {:.0} samples: the server's CPU leaves that work out", server.undelivered);
    }
    println!("server CPU              {:.3} µs a sample, {:.2} s in all", server.cpu_us_per_sample, server.cpu_seconds);
    println!("server memory           {:.0} MiB resident", server.resident_bytes / 1048576.0);
    println!(
        "server disk             {:.1} bytes a sample handed over, {:.1} syncs/s",
        server.log_bytes_per_sample, server.syncs_per_second
    );
    Ok(())
}

//! Trials: `sluice sink test` sends a running sink's receiver one record of its own; `sluice check --connect` reaches everything that a configuration names,
//! without a node and without a sample.

use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use crate::api::deps::Tried;
use crate::app::check;
use crate::clock;
use crate::config::Config;
use crate::forward::preview;
use crate::forward::resend::Resender;
use crate::forward::trial;
use crate::shard::command::DeadLetter;
use crate::store::space;

/// How long a receiver is waited for.
const WAIT: Duration = Duration::from_secs(20);

/// One record of a sink's own, and what becomes of it.
pub struct Trial {
    /// What sends.
    pub resender: Resender,
    /// Its series.
    pub labels: Vec<(String, String)>,
    /// The record, or why there can be none.
    pub letter: Result<Vec<u8>, String>,
    /// Of the cluster's series hashes.
    pub seed: u64,
}

impl Trial {
    /// Sends it. Blocking.
    pub fn run(self) -> Tried {
        let began = clock::now();
        let labels: Vec<(&str, &str)> = self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let series = preview::series(&labels);
        let sent = self.letter.and_then(|payload| {
            let letter = DeadLetter { payload, ..DeadLetter::default() };
            let go_on = || passed(began) < WAIT;
            let mut outcomes = self.resender.send((0, self.seed), &[letter], &go_on)?;
            outcomes.pop().unwrap_or(Ok(())).map_err(|error| error.to_string())
        });
        let millis = u64::try_from(passed(began).as_millis()).unwrap_or(u64::MAX);
        Tried { delivered: sent.is_ok(), millis, series, problem: sent.err() }
    }
}

fn passed(since: Instant) -> Duration {
    clock::now().saturating_duration_since(since)
}

/// What a configuration names, and whether it was reached: what was found there, or what is wrong.
pub fn reach(config: &Config) -> Vec<(String, Result<String, String>)> {
    let mut all = vec![("data_dir".to_owned(), disk(&config.data_dir, config.log.reserve_percent))];
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return vec![("runtime".to_owned(), Err(error.to_string()))],
    };
    for sink in &config.sinks {
        let reached = check::judged_or_why(sink)
            .and_then(|(target, _)| trial::connect(&target, &trial::identity(&config.name, &sink.name), runtime.handle()));
        all.push((format!("sink {}", sink.name), reached));
    }
    runtime.shutdown_timeout(Duration::from_secs(1));
    all
}

/// Whether data can be written there, with room above the reserve.
fn disk(directory: &Path, reserve_percent: u8) -> Result<String, String> {
    let there = trial::writable(directory)?;
    let room = space::room(trial::existing(directory)).map_err(|error| error.to_string())?;
    let percent = room.free.saturating_mul(100) / room.total.max(1);
    if percent < u64::from(reserve_percent) {
        return Err(format!("{there}, but only {percent} % of the disk is free, and {reserve_percent} % is the reserve (log.reserve)"));
    }
    Ok(format!("{there}, {percent} % of the disk is free"))
}

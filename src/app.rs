//! The only place that builds the parts and ties them together: what runs, in which order it starts, and in which order it stops.
//!
//! Everything above the command line's words and below the parts' own work is here: [`run`] is `sluice run`, [`dev`] is `sluice dev`.
//! Deliberately absent: any rule about samples, sinks or requests.

pub mod alerting;
mod alerts;
pub mod backup;
pub mod cases;
mod certificates;
pub mod check;
mod cluster;
pub mod dev;
mod disk;
pub mod explain;
mod flow;
mod guard;
mod leadership;
mod metrics;
mod nothing;
mod notify;
mod own_metrics;
mod pins;
mod probes;
mod probing;
mod pushed;
pub mod recover;
mod reload;
mod removal;
mod replay;
mod rewind;
mod running;
mod seats;
mod seen;
mod senders;
mod service;
mod settings;
mod sinks;
mod translate;
pub mod trial;
mod upgrade;

use std::path::Path;
use std::sync::Arc;

use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::app::running::Running;
use crate::app::service::Service;
use crate::config::Config;

/// Why the program ends otherwise than by a wish.
#[derive(Debug)]
pub enum Fault {
    /// The configuration is wrong: every problem.
    Config(Vec<String>),
    /// It could not start: why, and what to do.
    Start(String),
    /// It ran and could not go on.
    Ended(String),
    /// It was told to end before it had begun: it waited for others.
    Quit,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Config(problems) => {
                let number = problems.len();
                write!(
                    out,
                    "the configuration has {number} {}:\n  {}",
                    if number == 1 { "problem" } else { "problems" },
                    problems.join("\n  ")
                )
            }
            Fault::Start(reason) => write!(out, "cannot start: {reason}"),
            Fault::Ended(reason) => write!(out, "{reason}"),
            Fault::Quit => write!(out, "it was told to end while it waited for the other nodes"),
        }
    }
}

/// `sluice run`: until SIGTERM, SIGINT, or a fault of the disk.
pub fn run(path: &Path) -> Result<(), Fault> {
    let config = check::file(path)?;
    crate::telemetry::logs::set_up(&config.logging);
    keep_memory();
    let runtime = runtime()?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let service = Arc::new(Service::of_environment());
        let mut told = JoinSet::new();
        told.spawn(Arc::clone(&service).keep());
        let (tell, quit) = watch::channel(false);
        let plan = running::Plan { config, file: Some(path.to_owned()), dev: None, quit, service: Arc::clone(&service) };
        let mut starting = std::pin::pin!(Running::start(plan));
        let started = loop {
            tokio::select! {
                started = starting.as_mut() => break started,
                _ = signals.terminate.recv() => drop(tell.send_replace(true)),
                _ = signals.interrupt.recv() => drop(tell.send_replace(true)),
            }
        };
        match started {
            Ok(running) => until_the_end(running, signals, &service, *tell.borrow()).await,
            Err(Fault::Quit) => Ok(()),
            Err(fault) => Err(fault),
        }
    })
}

/// Teaches glibc to keep freed memory instead of giving it back at once: every transaction takes and frees some 4 MB of messages in
/// librdkafka, and the page faults of taking them anew are a tenth of all CPU. A freed block that was mapped raises the size from which
/// blocks are mapped to its own, and what is kept of freed memory to twice that (mallopt(3), M_MMAP_THRESHOLD); 32 MiB is the most that
/// it lets itself be taught. Nothing of it is touched, so it takes no memory. Other allocators do not mind.
fn keep_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(31 << 20)));
}

fn runtime() -> Result<tokio::runtime::Runtime, Fault> {
    let built = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("async").build();
    built.map_err(|error| Fault::Start(format!("the runtime: {error}")))
}

/// Signals that are ours to answer. Made before anything starts: one that comes during the start is answered when it is done, or at once by a node
/// that waits for others, where the system's own answer would be to end the process in the middle of things.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Signals, Fault> {
        let on = |kind: SignalKind| signal(kind).map_err(|error| Fault::Start(format!("signals: {error}")));
        Ok(Signals { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())?, hangup: on(SignalKind::hangup())? })
    }
}

/// Waits for a signal (unless one came already) or a fault, then stops everything in order.
async fn until_the_end(running: Running, signals: Signals, service: &Service, told: bool) -> Result<(), Fault> {
    let Signals { mut terminate, mut interrupt, mut hangup } = signals;
    let mut fatal = running.fatal();
    let fault = loop {
        if told {
            break None;
        }
        tokio::select! {
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break None,
            reason = fatal.wait_for(Option::is_some) => break reason.ok().and_then(|reason| reason.clone()),
            _ = hangup.recv() => {
                service.reloading();
                match running.reload().await {
                    Ok(done) => tracing::info!("reloaded: {done}"),
                    Err(problems) => tracing::error!("not reloaded, all stays as it was: {}", problems.join("; ")),
                }
                service.reloaded();
            }
        }
    };
    service.stopping();
    // A second signal means: at once. What was acknowledged is on the disk already.
    let stopped = tokio::select! {
        undone = running.stop() => undone,
        _ = terminate.recv() => vec!["everything: a second signal came".to_owned()],
        _ = interrupt.recv() => vec!["everything: a second signal came".to_owned()],
    };
    for what in &stopped {
        tracing::warn!("aborted: {what}");
    }
    match fault {
        Some(reason) => Err(Fault::Ended(reason)),
        None => Ok(()),
    }
}

/// The id of the node whose data is there, if there is any.
pub fn identity(data_dir: &Path) -> Result<Option<u64>, Fault> {
    let identity = crate::store::identity::Identity::read(data_dir).map_err(|error| Fault::Start(error.to_string()))?;
    Ok(identity.map(|identity| identity.node))
}

/// Directory of the data, made if it is missing.
fn make_data_dir(config: &Config) -> Result<(), Fault> {
    let dir = &config.data_dir;
    std::fs::create_dir_all(dir).map_err(|error| {
        Fault::Start(format!(
            "data_dir {}: {error}; make it and give it to the user that runs sluice, or name another in the file",
            dir.display()
        ))
    })
}

#[cfg(test)]
mod tests;

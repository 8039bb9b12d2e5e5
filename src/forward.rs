//! Sinks: what passed leaves here. Each sink of each shard has a worker of its own, which reads emissions after its position, encodes
//! them and delivers them, so that no sink ever waits for another.
//!
//! Deliberately absent: a queue of samples (a sink reads the shard's log at its own pace) and any decision about what passes (that was
//! made by `dedup`, is in the log, and is the same for every sink).

pub mod adapter;
pub mod format;
pub mod kafka;
pub mod label_text;
pub mod measure;
pub mod mock;
pub mod pack;
pub mod rows;
pub mod settings;
pub mod shard_log;
pub mod source;
pub mod tap;
pub mod text;
pub mod trouble;
pub mod view;

#[cfg(test)]
mod kafka_tests;
#[cfg(test)]
mod rows_tests;
#[cfg(test)]
mod shard_log_tests;
#[cfg(test)]
mod standin;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::error::KafkaError;

use crate::clock;
use crate::forward::kafka::Control;
use crate::forward::kafka::Identity;
use crate::forward::kafka::Parts;
use crate::forward::kafka::Worker;
use crate::forward::kafka::replay;
use crate::forward::kafka::replay::ReplayError;
use crate::forward::settings::KafkaSettings;
use crate::forward::source::Source;
use crate::forward::tap::Listener;
use crate::forward::tap::Tap;
use crate::forward::view::Report;
use crate::forward::view::SinkView;
use crate::shard::command::DeadLetter;

/// One running sink: a worker for each shard.
#[derive(Debug)]
pub struct Sink {
    name: String,
    identity: Identity,
    settings: Arc<KafkaSettings>,
    tap: Tap,
    workers: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    shard: u16,
    control: Arc<Control>,
    report: Arc<Report>,
    thread: JoinHandle<()>,
}

/// Sends dead letters again, as the sink was set when this was taken from it.
#[derive(Clone, Debug)]
pub struct Resender {
    identity: Identity,
    settings: Arc<KafkaSettings>,
}

impl Resender {
    /// Sends the letters in order, for as long as `go_on` says so: one outcome each, or why no broker could be asked. `seed` is that of
    /// the cluster's series hashes. What Kafka took is to be followed by a `Command::Resent`. Blocking.
    pub fn send(
        &self,
        (shard, seed): (u16, u64),
        letters: &[DeadLetter],
        go_on: &dyn Fn() -> bool,
    ) -> Result<Vec<Result<(), ReplayError>>, KafkaError> {
        let identity = Identity { shard, ..self.identity.clone() };
        let rows: Vec<&[u8]> = letters.iter().map(|letter| letter.payload.as_slice()).collect();
        replay::replay(&self.settings, &identity, seed, &rows, go_on)
    }
}

/// Who a sink is: the names that Kafka sees, and what no other cluster has.
#[derive(Clone, Debug)]
pub struct SinkIdentity {
    /// The cluster's name.
    pub cluster: String,
    /// The cluster's unique id.
    pub seal: String,
    /// The sink's name.
    pub sink: String,
}

impl Sink {
    /// Starts the workers. Nothing is reached here: what is wrong shows in [`Sink::view`].
    pub fn start(
        settings: KafkaSettings,
        identity: &SinkIdentity,
        shards: Vec<(u16, Arc<dyn Source>)>,
        runtime: &tokio::runtime::Handle,
    ) -> std::io::Result<Sink> {
        let settings = Arc::new(settings);
        let tap = Tap::default();
        let mut workers = Vec::new();
        let SinkIdentity { cluster, seal, sink } = identity.clone();
        let identity = Identity { cluster, sink, shard: 0, seal };
        for (shard, source) in shards {
            let control = Arc::new(Control::default());
            let report = Arc::new(Report::new(&identity.sink, shard));
            let worker = Worker::new(Parts {
                settings: Arc::clone(&settings),
                identity: Identity { shard, ..identity.clone() },
                source,
                control: Arc::clone(&control),
                report: Arc::clone(&report),
                tap: tap.clone(),
                runtime: runtime.clone(),
            });
            let thread = std::thread::Builder::new().name(format!("sink-{}-{shard}", identity.sink)).spawn(move || worker.run())?;
            workers.push(Running { shard, control, report, thread });
        }
        Ok(Sink { name: identity.sink.clone(), identity, settings, tap, workers })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is to be seen of it.
    pub fn view(&self) -> SinkView {
        SinkView {
            name: self.name.clone(),
            kind: "kafka",
            target: format!("{} at {}", self.settings.topic, self.settings.brokers),
            format: self.settings.format.word(),
            delivery: self.settings.delivery.word(),
            shards: self.workers.iter().map(|worker| worker.report.view()).collect(),
            tap_missed: self.tap.missed(),
        }
    }

    /// Rows as they are delivered from now on.
    pub fn listen(&self) -> Listener {
        self.tap.listen()
    }

    /// Holds delivery, or lets it go on. What is open is delivered first.
    pub fn pause(&self, paused: bool) {
        self.workers.iter().for_each(|worker| worker.control.pause(paused));
    }

    /// What sends dead letters again. It has nothing to do with the workers, and outlives the sink if need be.
    pub fn resender(&self) -> Resender {
        Resender { identity: self.identity.clone(), settings: Arc::clone(&self.settings) }
    }

    /// Stops: what is open is committed within the grace. Returns what had to be left undone, by name. Blocking.
    pub fn stop(self, grace: Duration) -> Vec<String> {
        let until = clock::now() + grace;
        self.workers.iter().for_each(|worker| worker.control.stop(until));
        // A call to librdkafka that is under way takes at most 4 s more.
        let gone = until + Duration::from_secs(5);
        let mut undone = Vec::new();
        for Running { shard, report, thread, .. } in self.workers {
            let who = format!("sink {} shard {shard}", self.name);
            while !thread.is_finished() && clock::now() < gone {
                std::thread::sleep(Duration::from_millis(5));
            }
            if !thread.is_finished() {
                undone.push(format!("{who}: its thread did not end"));
            } else if thread.join().is_err() {
                undone.push(format!("{who}: its thread panicked"));
            } else if let Some(what) = report.view().aborted {
                undone.push(format!("{who}: {what}"));
            }
        }
        undone
    }
}

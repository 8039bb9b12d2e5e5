//! Sinks: what passed leaves here. Each sink of each shard has a worker of its own, which reads emissions after its position, encodes
//! them and delivers them, so that no sink ever waits for another.
//!
//! Deliberately absent: a queue of samples (a sink reads the shard's log at its own pace) and any decision about what passes (that was
//! made by `dedup`, is in the log, and is the same for every sink).

pub mod adapter;
pub mod avro;
mod book;
pub mod file;
pub mod format;
pub mod http;
pub mod kafka;
pub mod label_text;
pub mod measure;
pub mod mock;
pub mod pack;
pub mod preview;
pub mod remote_write;
pub mod resend;
pub mod route;
pub mod rows;
pub mod settings;
pub mod shape;
mod shaped;
pub mod shard_log;
pub mod source;
pub mod tap;
pub mod text;
pub mod trial;
pub mod trouble;
pub mod view;
pub mod worker;

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

use crate::clock;
use crate::forward::file::Author;
use crate::forward::file::settings::FileSettings;
use crate::forward::format::Format;
use crate::forward::kafka::Identity;
use crate::forward::remote_write::settings::StoreSettings;
use crate::forward::resend::Resender;
use crate::forward::route::Taken;
use crate::forward::settings::Delivery;
use crate::forward::settings::KafkaSettings;
use crate::forward::shape::Pairs;
use crate::forward::shape::Shape;
use crate::forward::shaped::Shaped;
use crate::forward::source::Source;
use crate::forward::tap::Listener;
use crate::forward::tap::Tap;
use crate::forward::trouble::Trouble;
use crate::forward::view::Report;
use crate::forward::view::SinkView;
use crate::forward::worker::Control;
use crate::forward::worker::Duty;
use crate::forward::worker::Parts;

/// What a sink writes to, checked.
#[derive(Clone, Debug)]
pub enum Target {
    /// A Kafka topic.
    Kafka(Arc<KafkaSettings>),
    /// A store, by remote write.
    Store(Arc<StoreSettings>),
    /// Files of rows on this node's disk.
    Files(Arc<FileSettings>),
}

impl Target {
    /// As the configuration calls it.
    pub fn kind(&self) -> &'static str {
        match self {
            Target::Kafka(_) => "kafka",
            Target::Store(_) => "remote_write",
            Target::Files(_) => "file",
        }
    }

    /// Where it is, for people.
    pub fn place(&self) -> String {
        match self {
            Target::Kafka(settings) => format!("{} at {}", settings.shown_topic(), settings.brokers),
            Target::Store(settings) => settings.url.clone(),
            Target::Files(settings) => settings.directory.display().to_string(),
        }
    }

    /// In which form samples go there.
    pub fn format(&self) -> &'static str {
        match self {
            Target::Kafka(settings) => settings.format.word(),
            Target::Store(settings) => settings.version(),
            Target::Files(_) => Format::Rows.word(),
        }
    }

    /// Whose a sample of this tenant is told to be; `None`: nothing is told.
    pub fn tenant_of(&self, tenant: &str) -> Option<String> {
        let told = match self {
            Target::Kafka(settings) => match &settings.tenant {
                Some(_) if settings.pass_tenant && !tenant.is_empty() => tenant,
                fixed => fixed.as_deref().unwrap_or_default(),
            },
            Target::Store(settings) => settings.tenant_of(tenant),
            Target::Files(_) => "",
        };
        Some(told.to_owned()).filter(|told| !told.is_empty())
    }

    /// With what promise.
    pub fn delivery(&self) -> Delivery {
        match self {
            Target::Kafka(settings) => settings.delivery,
            Target::Store(_) | Target::Files(_) => Delivery::AtLeastOnce,
        }
    }
}

/// One running sink: a worker for each shard.
pub struct Sink {
    name: String,
    identity: Identity,
    node: u64,
    target: Target,
    tap: Tap,
    taken: Arc<Taken>,
    runtime: tokio::runtime::Handle,
    workers: Vec<Running>,
}

struct Running {
    shard: u16,
    source: Arc<dyn Source>,
    control: Arc<Control>,
    report: Arc<Report>,
    thread: JoinHandle<()>,
    /// It stood still when it was looked at last.
    suspected: bool,
    /// In whose place others came, as they stood still. They end when their call returns.
    left: Vec<JoinHandle<()>>,
}

/// So many threads of one shard may be left behind.
const MOST_LEFT: usize = 8;

/// Who a sink is: the names that Kafka sees, and what no other cluster has.
#[derive(Clone, Debug)]
pub struct SinkIdentity {
    /// The cluster's name.
    pub cluster: String,
    /// The cluster's unique id.
    pub seal: String,
    /// The sink's name.
    pub sink: String,
    /// This node's number among all that ever were.
    pub node: u64,
}

/// What a sink takes, and as what.
#[derive(Clone, Debug, Default)]
pub struct Shaping {
    /// Checked.
    pub shape: Arc<Shape>,
    /// The seed of series' hashes.
    pub seed: u64,
}

impl Sink {
    /// Starts the workers. Nothing is reached here: what is wrong shows in [`Sink::view`].
    pub fn start(
        target: Target,
        shaping: &Shaping,
        identity: &SinkIdentity,
        shards: Vec<(u16, Arc<dyn Source>)>,
        runtime: &tokio::runtime::Handle,
    ) -> std::io::Result<Sink> {
        let SinkIdentity { cluster, seal, sink, node } = identity.clone();
        let identity = Identity { cluster, sink: sink.clone(), shard: 0, seal };
        let (tap, taken, runtime) = (Tap::default(), Arc::default(), runtime.clone());
        let mut started = Sink { name: sink, identity, node, target, tap, taken, runtime, workers: Vec::new() };
        for (shard, source) in shards {
            let source = Shaped::over(source, &shaping.shape, shaping.seed);
            let report = Arc::new(Report::new(&started.name, shard));
            let (control, thread) = started.launch(shard, &source, &report)?;
            started.workers.push(Running { shard, source, control, report, thread, suspected: false, left: Vec::new() });
        }
        Ok(started)
    }

    fn launch(&self, shard: u16, source: &Arc<dyn Source>, report: &Arc<Report>) -> std::io::Result<(Arc<Control>, JoinHandle<()>)> {
        let control = Arc::new(Control::default());
        let (source, held, reported) = (Arc::clone(source), Arc::clone(&control), Arc::clone(report));
        let duty = Duty::new(Parts { source, control: held, report: reported, tap: self.tap.clone(), runtime: self.runtime.clone() });
        let (target, identity) = (self.target.clone(), Identity { shard, ..self.identity.clone() });
        let (taken, node) = (Arc::clone(&self.taken), self.node);
        let work = move || match target {
            Target::Kafka(settings) => worker::work(&mut kafka::Worker::new(settings, identity, taken, duty)),
            Target::Store(settings) => worker::work(&mut remote_write::Worker::new(settings, &identity.sink, duty)),
            Target::Files(settings) => {
                let author = Author { cluster: identity.seal, node, sink: identity.sink, shard };
                worker::work(&mut file::Worker::new(settings, author, duty));
            }
        };
        let thread = std::thread::Builder::new().name(format!("sink-{}-{shard}", self.name)).spawn(work)?;
        Ok((control, thread))
    }

    /// Puts another thread in the place of one that has not moved for so long, so that a call of a client library that does not return keeps back nothing for longer than
    /// that (librdkafka's `send_offsets_to_transaction` waits for a coordinator without an end). The former one is told to stop, for when its call does
    /// return: its producer is fenced by then, or what it commits is found by its heir; the log's cursor only goes forward. Of files there is no second writer: it is
    /// told that they stand still. To be called from time to time; the second time that it is found so counts.
    pub fn relieve(&mut self, within: Duration) {
        let now = clock::wall_ms();
        for place in 0..self.workers.len() {
            let Some(worker) = self.workers.get_mut(place) else { return };
            worker.left.retain(|thread| !thread.is_finished());
            let still = worker.control.still();
            // Where all of the process was stopped for a while, nobody is behind at the next look.
            let before = std::mem::replace(&mut worker.suspected, still >= within);
            if !(before && worker.suspected) || worker.thread.is_finished() {
                continue;
            }
            let seconds = still.as_secs();
            if matches!(self.target, Target::Files(_)) || worker.left.len() >= MOST_LEFT {
                worker.report.trouble(&Trouble::Still { seconds }, now);
                continue;
            }
            let (shard, source, report) = (worker.shard, Arc::clone(&worker.source), Arc::new(worker.report.heir()));
            match self.launch(shard, &source, &report) {
                Ok((control, thread)) => {
                    if let Some(worker) = self.workers.get_mut(place) {
                        report.note(&Trouble::Relieved { seconds }, now);
                        worker.suspected = false;
                        std::mem::replace(&mut worker.control, control).stop(clock::now());
                        worker.left.push(std::mem::replace(&mut worker.thread, thread));
                        worker.report = report;
                    }
                }
                Err(error) => tracing::error!(sink = %self.name, shard, %error, "a thread that stands still cannot be relieved"),
            }
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is to be seen of it.
    pub fn view(&self) -> SinkView {
        SinkView {
            name: self.name.clone(),
            kind: self.target.kind(),
            target: self.target.place(),
            format: self.target.format(),
            delivery: self.target.delivery().word(),
            shards: self.workers.iter().map(|worker| worker.report.view()).collect(),
            tap_missed: self.tap.missed(),
        }
    }

    /// Rows as they are delivered from now on.
    pub fn listen(&self) -> Listener {
        self.tap.listen()
    }

    /// A record of its own: the series by which it is tried, and the record as a letter, or why there can be none.
    pub fn trial(&self, node: &str, time: i64) -> (Pairs, Result<Vec<u8>, String>) {
        let labels = trial::series(&self.identity, node);
        let letter = trial::letter(&self.target, &labels, time);
        (labels, letter)
    }

    /// What sends dead letters again. It has nothing to do with the workers, and outlives the sink if need be.
    pub fn resender(&self) -> Resender {
        match &self.target {
            Target::Kafka(settings) => Resender::Kafka(self.identity.clone(), Arc::clone(settings), self.runtime.clone()),
            Target::Store(settings) => Resender::Store(Arc::clone(settings), self.runtime.clone()),
            Target::Files(_) => Resender::Files,
        }
    }

    /// Stops: what is open is committed within the grace. Returns what had to be left undone, by name. Blocking.
    pub fn stop(self, grace: Duration) -> Vec<String> {
        let until = clock::now() + grace;
        self.workers.iter().for_each(|worker| worker.control.stop(until));
        // A call to librdkafka, or a question to a store, that is under way takes at most 4 s more.
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

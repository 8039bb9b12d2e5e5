//! The running sinks: started, changed and stopped here, and shown to `api` in its own words.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::api::deps;
use crate::api::deps::Later;
use crate::api::deps::Letters;
use crate::api::deps::Refusal;
use crate::api::deps::Rows;
use crate::app::check;
use crate::app::explain;
use crate::app::explain::Sample;
use crate::app::replay::Replay;
use crate::app::rewind;
use crate::app::trial::Trial;
use crate::clock;
use crate::config::Config;
use crate::config::sinks::Sink as Wanted;
use crate::forward::Shaping;
use crate::forward::Sink;
use crate::forward::SinkIdentity;
use crate::forward::shard_log::ShardLog;
use crate::forward::source::Source;
use crate::forward::tap::Listener;
use crate::forward::view::Phase;
use crate::forward::view::ShardView;
use crate::forward::view::SinkView;
use crate::forward::view::TroubleView;
use crate::node::Handle;
use crate::shard::command::Command;
use crate::store::identity::Identity;

/// How long a sink may take to commit what is open when it is stopped.
pub const GRACE: Duration = Duration::from_secs(5);
/// How often it is looked whether threads move.
const LOOK: Duration = Duration::from_secs(5);
/// One that has not moved for so long stands still. Longer than any wait of its own: a commit is tried for 20 s, and so long is waited for an emission that Kafka's
/// position is ahead of.
const STILL: Duration = Duration::from_secs(60);
/// How long a replay may take; those who ask wait half a minute, and reaching Kafka may take 5 s beyond.
const REPLAY: Duration = Duration::from_secs(20);

/// All sinks of this node.
pub struct SinkSet {
    node: Handle,
    runtime: tokio::runtime::Handle,
    cluster: String,
    seal: String,
    /// With the node's number.
    data: PathBuf,
    /// By name; changed only on start, reload and stop.
    running: Mutex<BTreeMap<String, (Wanted, Sink)>>,
    /// Held by the replay that is under way: two would send the same letters.
    replaying: Arc<tokio::sync::Mutex<()>>,
    stopping: Arc<AtomicBool>,
}

impl SinkSet {
    /// No sink yet.
    pub fn new(node: Handle, runtime: tokio::runtime::Handle, config: &Config) -> SinkSet {
        let (seal, data) = (node.cluster_id(), config.data_dir.clone());
        let (replaying, stopping) = (Arc::default(), Arc::default());
        SinkSet { node, runtime, cluster: config.name.clone(), seal, data, running: Mutex::default(), replaying, stopping }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, (Wanted, Sink)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings what runs in line with the configuration; sinks that did not change are not touched. Blocking.
    pub fn arrange(&self, config: &Config) -> Result<Vec<String>, String> {
        let mut running = self.running();
        let mut undone = Vec::new();
        let names: Vec<String> = running.keys().cloned().collect();
        for name in names {
            let stays = config.sinks.iter().any(|wanted| running.get(&name).is_some_and(|(present, _)| present == wanted));
            if !stays && let Some((_, sink)) = running.remove(&name) {
                undone.extend(sink.stop(GRACE));
            }
        }
        for wanted in &config.sinks {
            if !running.contains_key(&wanted.name) {
                let sink = self.start(wanted)?;
                running.insert(wanted.name.clone(), (wanted.clone(), sink));
            }
        }
        Ok(undone)
    }

    fn start(&self, wanted: &Wanted) -> Result<Sink, String> {
        let (target, shape) = check::judged_or_why(wanted)?;
        let own = Identity::read(&self.data).map_err(|error| error.to_string())?;
        let node = own.map_or(0, |own| own.node);
        let identity = SinkIdentity { cluster: self.cluster.clone(), seal: self.seal.clone(), sink: wanted.name.clone(), node };
        let source = |shard: &crate::model::ShardId| {
            let log = ShardLog::new(self.node.clone(), *shard, &wanted.name, shape.counters.is_some(), self.runtime.clone());
            (shard.0, Arc::new(log) as Arc<dyn Source>)
        };
        let shards = self.node.shards().iter().map(source).collect();
        let shape = Shaping { shape, seed: self.node.hash_seed() };
        Sink::start(target, &shape, &identity, shards, &self.runtime)
            .map_err(|error| format!("sink {}: a thread cannot be started: {error}", wanted.name))
    }

    /// Puts other threads in the place of those that stand still. Waits while settings change.
    fn relieve(&self) {
        self.running().values_mut().for_each(|(_, sink)| sink.relieve(STILL));
    }

    /// Stops all, at the same time; says what had to be left undone. Blocking.
    pub fn stop(&self) -> Vec<String> {
        self.stopping.store(true, Ordering::Relaxed);
        // What a replay has sent must still leave the list, and for that the shards must run.
        let replayed = self.runtime.block_on(async { tokio::time::timeout(GRACE, self.replaying.lock()).await.is_ok() });
        let all = std::mem::take(&mut *self.running());
        let stopping: Vec<_> = all.into_values().map(|(_, sink)| self.runtime.spawn_blocking(move || sink.stop(GRACE))).collect();
        let undone = stopping
            .into_iter()
            .flat_map(|one| self.runtime.block_on(one).unwrap_or_else(|_| vec!["a sink panicked while stopping".into()]));
        let unreplayed = (!replayed).then(|| "a replay of dead letters: the next one may send up to a hundred of a shard again".to_owned());
        undone.chain(unreplayed).collect()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.running().is_empty()
    }

    /// What is to be seen of them, by name.
    pub fn views(&self) -> Vec<SinkView> {
        self.running().values().map(|(_, sink)| sink.view()).collect()
    }
}

/// Looks until `stop` whether their threads move.
pub async fn keep(sinks: Arc<SinkSet>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let looked = Arc::clone(&sinks);
        if tokio::task::spawn_blocking(move || looked.relieve()).await.is_err() {
            tracing::error!("looking after the sinks' threads failed");
        }
    }
}

impl deps::Sinks for SinkSet {
    fn list(&self) -> Vec<deps::Sink> {
        self.views().into_iter().map(shown).collect()
    }

    fn tap(&self, sink: &str) -> Option<Box<dyn Rows>> {
        self.running().get(sink).map(|(_, sink)| Box::new(Tapped(sink.listen())) as Box<dyn Rows>)
    }

    fn replay<'a>(&'a self, sink: &'a str, letters: Letters) -> Later<'a, Result<deps::Replayed, Refusal>> {
        let resender = self.running().get(sink).map(|(_, sink)| sink.resender());
        let turn = Arc::clone(&self.replaying).try_lock_owned();
        Box::pin(async move {
            let resender = resender.ok_or(Refusal::Unknown)?;
            let turn = turn.map_err(|_| Refusal::Conflict {
                text: "dead letters are being sent again already".into(),
                remedy: "wait for its end, half a minute at most, and look what is left with `sluice sink dead`".into(),
            })?;
            let replay = Replay { node: self.node.clone(), runtime: self.runtime.clone(), sink: sink.to_owned(), resender };
            let (until, stopping) = (clock::now() + REPLAY, Arc::clone(&self.stopping));
            let work = move || {
                let _turn = turn;
                replay.run(letters, &|| clock::now() < until && !stopping.load(Ordering::Relaxed))
            };
            self.runtime.spawn_blocking(work).await.unwrap_or_else(|_| Err(Refusal::Later("sending was given up".into())))
        })
    }

    fn test<'a>(&'a self, sink: &'a str) -> Later<'a, Result<deps::Tried, Refusal>> {
        let trial = self.running().get(sink).map(|(_, sink)| {
            let (labels, letter) = sink.trial(&host(), clock::wall_ms());
            Trial { resender: sink.resender(), labels, letter, seed: self.node.hash_seed() }
        });
        Box::pin(async move {
            let trial = trial.ok_or(Refusal::Unknown)?;
            self.runtime.spawn_blocking(move || trial.run()).await.map_err(|_| Refusal::Later("the trial was given up".into()))
        })
    }

    fn rewind<'a>(&'a self, sink: &'a str, to: i64) -> Later<'a, Result<Vec<deps::Rewound>, Refusal>> {
        let known = self.running().contains_key(sink);
        Box::pin(async move {
            if !known {
                return Err(Refusal::Unknown);
            }
            let mut all = Vec::new();
            for shard in self.node.shards() {
                all.push(rewind::shard(&self.node, *shard, sink, to).await?);
            }
            Ok(all)
        })
    }

    fn explain(&self, sample: &str, tenant: Option<&str>) -> Result<Vec<deps::Explained>, String> {
        let sample = Sample::of(sample, tenant)?;
        self.running().values().map(|(wanted, _)| explain::at(wanted, &sample)).collect()
    }

    fn pause<'a>(&'a self, sink: &'a str, paused: bool) -> Later<'a, Result<(), Refusal>> {
        let known = self.running().contains_key(sink);
        Box::pin(async move {
            if !known {
                return Err(Refusal::Unknown);
            }
            for shard in self.node.shards() {
                let pause = Command::Pause { sink: sink.to_owned(), paused };
                // Said of some shards only is no harm: it is said again.
                let failed = |error| Refusal::Later(format!("shard {}: {error}", shard.0));
                self.node.propose(*shard, pause).await.map_err(failed)?;
            }
            Ok(())
        })
    }
}

/// This machine, in the series by which sinks are tried.
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

struct Tapped(Listener);

impl Rows for Tapped {
    fn next(&mut self) -> Later<'_, Option<Bytes>> {
        Box::pin(async { self.0.next().await.map(|row| Bytes::copy_from_slice(&row)) })
    }
}

fn shown(view: SinkView) -> deps::Sink {
    deps::Sink {
        name: view.name,
        kind: view.kind.to_owned(),
        target: view.target,
        format: view.format.to_owned(),
        delivery: view.delivery.to_owned(),
        shards: view.shards.into_iter().map(shard).collect(),
        tap_missed: view.tap_missed,
    }
}

fn shard(view: ShardView) -> deps::SinkShard {
    deps::SinkShard {
        shard: view.shard,
        phase: phase(&view).word().to_owned(),
        epoch: view.epoch,
        position: view.position,
        delivered: view.cursor.delivered,
        filtered: view.cursor.filtered,
        dead: view.cursor.dead,
        dropped: view.cursor.dropped,
        pending: view.cursor.pending,
        pending_bytes: view.cursor.pending_bytes,
        lag_ms: view.lag_ms,
        budget_bytes: view.cursor.budget_bytes,
        seconds_left: view.cursor.seconds_left,
        trouble: view.trouble.map(trouble),
        notes: view.notes.into_iter().map(trouble).collect(),
    }
}

/// A sink that is held is so for whoever leads: any node that is asked says it.
fn phase(view: &ShardView) -> Phase {
    if view.phase == Phase::Elsewhere && view.cursor.paused { Phase::Paused } else { view.phase }
}

fn trouble(view: TroubleView) -> deps::Trouble {
    deps::Trouble { code: view.code.to_owned(), text: view.text, remedy: view.remedy, since: view.since }
}

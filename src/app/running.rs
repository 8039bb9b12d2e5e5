//! A running node, all parts of it. Start order: disk and shards, settings, sinks, then the door; stop order is the reverse, each stage with
//! a bound of its own, and whatever had to be aborted is named.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::task::JoinSet;

use crate::api::Api;
use crate::api::deps;
use crate::api::deps::Deps;
use crate::app::Fault;
use crate::app::make_data_dir;
use crate::app::metrics;
use crate::app::pins;
use crate::app::reload::Reload;
use crate::app::senders::Senders;
use crate::app::sinks::SinkSet;
use crate::app::translate;
use crate::clock;
use crate::config::Config;
use crate::console;
use crate::ingest;
use crate::ingest::Ingest;
use crate::node::Handle;
use crate::node::start::Node;
use crate::serve;
use crate::serve::Listener;
use crate::telemetry::Telemetry;

/// How long a start may take before a person is told that it goes on: replaying a minute of log takes seconds.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long requests under way may take at the end: less than a sender waits.
const DRAIN: Duration = Duration::from_secs(10);

/// What to run.
pub struct Plan {
    /// A good configuration.
    pub config: Config,
    /// Where it was read from, to be read again.
    pub file: Option<PathBuf>,
    /// Synthetic senders.
    pub dev: Option<Arc<Senders>>,
}

/// A running node.
pub struct Running {
    node: Node,
    sinks: Arc<SinkSet>,
    reload: Arc<Reload>,
    address: SocketAddr,
    stop_door: watch::Sender<bool>,
    door: JoinHandle<usize>,
    tasks: JoinSet<()>,
    fatal: watch::Receiver<Option<String>>,
}

impl Running {
    /// Builds and starts everything. On a fault what was started is gone again.
    pub async fn start(plan: Plan) -> Result<Running, Fault> {
        let Plan { config, file, dev } = plan;
        make_data_dir(&config)?;
        // The socket first: a taken port is the commonest mistake, and it costs nothing to find out.
        let listener = Listener::bind(config.listen).await.map_err(|error| Fault::Start(error.to_string()))?;
        let address = listener.address();
        let (tell, fatal) = watch::channel(None);
        let (node, sinks) = start_node(&config, tell).await?;
        let handle = node.handle.clone();
        let telemetry = Telemetry::default();
        let ingest = Arc::new(Ingest::new(handle.clone(), &config.groups, &config.limits, desks()));
        let served = serve::metrics::Metrics::default();
        telemetry.register_process(clock::wall_ms());
        telemetry.register(|registry| ingest.metrics().register(registry));
        telemetry.register(|registry| served.register(registry));
        telemetry.register(|registry| metrics::register(registry, handle.clone(), Arc::clone(&sinks)));
        let (stop_door, stop) = watch::channel(false);
        let (name, connections) = (config.name.clone(), config.limits.connections);
        let reload = Arc::new(Reload::new(config, file, handle.clone(), Arc::clone(&sinks), Arc::clone(&ingest)));
        let deps = Deps {
            node: Arc::new(handle),
            sinks: Arc::clone(&sinks) as Arc<dyn deps::Sinks>,
            ingest: shown_ingest(&ingest, &served),
            metrics: Arc::new(move || telemetry.render()),
            reload: {
                let reload = Arc::clone(&reload);
                Arc::new(move || {
                    let reload = Arc::clone(&reload);
                    Box::pin(async move { reload.run().await })
                })
            },
            not_ready: not_ready(&node.handle, stop.clone()),
            problems: Arc::new(Vec::new),
            dev: dev.clone().map(|senders| senders as Arc<dyn deps::DevControls>),
            pages: Arc::new(console::answer),
            stopping: stop.clone(),
            version: env!("CARGO_PKG_VERSION"),
            name,
            listen: address,
            started_ms: clock::wall_ms(),
        };
        let bounds = serve::Bounds { connections, drain: DRAIN };
        let door = tokio::spawn(serve::run(listener, bounds, front_door(Api::new(deps), ingest), served, stop.clone()));
        let mut tasks = JoinSet::new();
        tasks.spawn(pins::keep(node.handle.clone(), reload.groups(), stop.clone()));
        if let Some(senders) = dev {
            senders.start(address, &stop, &mut tasks);
        }
        tracing::info!(listen = %address, version = env!("CARGO_PKG_VERSION"), "ready");
        Ok(Running { node, sinks, reload, address, stop_door, door, tasks, fatal })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tells why it cannot go on, if that happens.
    pub fn fatal(&self) -> watch::Receiver<Option<String>> {
        self.fatal.clone()
    }

    /// Reads the configuration again: prepares everything, then swaps.
    pub async fn reload(&self) -> Result<String, Vec<String>> {
        self.reload.run().await
    }

    /// Stops everything; says what had to be aborted.
    pub async fn stop(mut self) -> Vec<String> {
        let mut undone = Vec::new();
        let _ = self.stop_door.send(true);
        match self.door.await {
            Ok(0) => {}
            Ok(cut) => undone.push(format!("{cut} connections whose requests took longer than {} s", DRAIN.as_secs())),
            Err(_) => undone.push("the listener panicked".to_owned()),
        }
        self.tasks.shutdown().await;
        let (sinks, node) = (self.sinks, self.node);
        let rest = tokio::task::spawn_blocking(move || {
            let mut undone = sinks.stop();
            undone.extend(node.stop());
            undone
        });
        undone.extend(rest.await.unwrap_or_else(|_| vec!["the shards panicked while stopping".to_owned()]));
        undone
    }
}

/// Disk, shards, settings, sinks.
async fn start_node(config: &Config, tell: watch::Sender<Option<String>>) -> Result<(Node, Arc<SinkSet>), Fault> {
    let settings = translate::node(config);
    let fatal = Box::new(move |reason: &str| {
        tell.send_replace(Some(reason.to_owned()));
    });
    let started = tokio::task::spawn_blocking(move || Node::start(settings, fatal)).await;
    let node = match started {
        Ok(Ok(node)) => node,
        Ok(Err(error)) => return Err(Fault::Start(error.to_string())),
        Err(_) => return Err(Fault::Start("the shards panicked while starting".to_owned())),
    };
    let begun = async {
        node.handle.ready().await?;
        node.handle.set_sinks(&translate::sinks(config, node.handle.shards().len())).await
    };
    let failed = match tokio::time::timeout(READY_WITHIN, begun).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(node.handle.fatal().unwrap_or_else(|| error.to_string())),
        Err(_) => Some(format!("the shards had no leader after {} s", READY_WITHIN.as_secs())),
    };
    let sinks = Arc::new(SinkSet::new(node.handle.clone(), tokio::runtime::Handle::current(), config));
    let failed = failed.or_else(|| sinks.arrange(config).err());
    if let Some(reason) = failed {
        let _ = tokio::task::spawn_blocking(move || node.stop()).await;
        return Err(Fault::Start(reason));
    }
    Ok((node, sinks))
}

/// Requests that are decoded at the same time: one a core.
fn desks() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Remote write goes to `ingest`, everything else to `api`.
fn front_door(api: Api, ingest: Arc<Ingest<Handle>>) -> serve::Door {
    let told = Arc::clone(&ingest);
    let answerer: serve::Answerer = Arc::new(move |request, peer| match ingest::head::route(request.uri().path(), request.uri().query()) {
        Some(hint) => {
            let ingest = Arc::clone(&ingest);
            Box::pin(async move { ingest.take(request, peer, hint).await })
        }
        None => {
            let api = api.clone();
            Box::pin(async move { api.answer(request, peer).await })
        }
    });
    serve::Door { answerer, gone: Arc::new(move |connection| told.gone(connection)) }
}

fn shown_ingest(ingest: &Arc<Ingest<Handle>>, served: &serve::metrics::Metrics) -> Arc<dyn Fn() -> deps::Ingest + Send + Sync> {
    let (ingest, served) = (Arc::clone(ingest), served.clone());
    Arc::new(move || {
        let shown = ingest.metrics().shown();
        let counted = |pairs: Vec<(String, u64)>| pairs.into_iter().map(|(reason, count)| deps::Counted { reason, count }).collect();
        deps::Ingest {
            requests: shown.requests,
            samples: shown.samples,
            refused: counted(shown.refused),
            unable: counted(shown.unable),
            unidentified: counted(shown.unidentified),
            in_flight_bytes: ingest.budget().held(),
            in_flight_limit: ingest.budget().limit(),
            connections: served.open(),
        }
    })
}

fn not_ready(node: &Handle, stop: watch::Receiver<bool>) -> Arc<dyn Fn() -> Vec<String> + Send + Sync> {
    let node = node.clone();
    Arc::new(move || {
        let mut reasons = Vec::new();
        if *stop.borrow() {
            reasons.push("the node is stopping".to_owned());
        }
        if let Some(reason) = node.fatal() {
            reasons.push(reason);
        }
        if node.stats().store.disk_full {
            reasons.push("the disk is full to its reserve".to_owned());
        }
        let leaderless = node.shards().iter().filter(|shard| !node.progress(**shard).borrow().leads).count();
        if leaderless > 0 {
            reasons.push(format!("{leaderless} shards have no leader here"));
        }
        reasons
    })
}

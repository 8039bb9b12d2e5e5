//! A running node, all parts of it. Start order: disk and shards, settings, sinks, then the door; stop order is the reverse, each stage with
//! a bound of its own, and whatever had to be aborted is named.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::task::JoinSet;

use crate::api::Api;
use crate::api::alerting::Off;
use crate::api::cluster::Cluster;
use crate::api::deps;
use crate::api::deps::Deps;
use crate::app::Fault;
use crate::app::alerting;
use crate::app::alerting::Alerting;
use crate::app::backup;
use crate::app::certificates::Certificates;
use crate::app::check;
use crate::app::cluster::Membership;
use crate::app::cluster::Seen;
use crate::app::disk;
use crate::app::flow;
use crate::app::guard;
use crate::app::guard::Guard;
use crate::app::guard::Known;
use crate::app::make_data_dir;
use crate::app::metrics;
use crate::app::nothing::Nothing;
use crate::app::own_metrics;
use crate::app::pins;
use crate::app::probes;
use crate::app::probes::Probes;
use crate::app::probing::Probing;
use crate::app::pushed;
use crate::app::reload::Parts;
use crate::app::reload::Reload;
use crate::app::removal;
use crate::app::seats;
use crate::app::seen;
use crate::app::senders::Senders;
use crate::app::service::Service;
use crate::app::settings;
use crate::app::sinks;
use crate::app::sinks::SinkSet;
use crate::app::translate;
use crate::clock;
use crate::config::Config;
use crate::config::groups::Groups;
use crate::config::push::Push;
use crate::console;
use crate::ingest;
use crate::ingest::Ingest;
use crate::node::Handle;
use crate::node::peers::Together;
use crate::node::start::Node;
use crate::secret::token::Token;
use crate::serve;
use crate::serve::Listener;
use crate::shard::tokens::Tokens;
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
    /// Turns true: whoever waits for other nodes before it has begun need not wait any longer.
    pub quit: watch::Receiver<bool>,
    /// Whoever started this process.
    pub service: Arc<Service>,
}

/// A running node.
pub struct Running {
    node: Node,
    sinks: Arc<SinkSet>,
    reload: Arc<Reload>,
    membership: Option<Membership>,
    address: SocketAddr,
    stop_door: watch::Sender<bool>,
    door: JoinHandle<usize>,
    tasks: JoinSet<()>,
    fatal: watch::Receiver<Option<String>>,
}

impl Running {
    /// Builds and starts everything. On a fault what was started is gone again.
    pub async fn start(plan: Plan) -> Result<Running, Fault> {
        let Plan { config, file, dev, quit, service } = plan;
        make_data_dir(&config)?;
        // The socket first: a taken port is the commonest mistake, and it costs nothing to find out.
        let listener = Listener::bind(config.listen).await.map_err(|error| Fault::Start(error.to_string()))?;
        let address = listener.address();
        let (guard, own_token) = Guard::new(config.access, address)?;
        let guard = Arc::new(guard);
        guard.warnings(config.tls.is_some()).iter().for_each(|warning| tracing::warn!(listen = %address, "{warning}"));
        let (tell, fatal) = watch::channel(None);
        let (stop_door, stop) = watch::channel(false);
        let served = serve::metrics::Metrics::default();
        let bounds = serve::Bounds { connections: config.limits.connections, age: config.limits.connection_age, drain: DRAIN };
        let membership = Membership::start(&config, quit).await?;
        let peers = membership.as_ref().map(|membership| membership.seen.common());
        let certificates = Arc::new(Certificates::new(config.tls.as_ref(), peers)?);
        let probing = Arc::new(Probing::new(&config.probe));
        let mut entrance = Entrance::Closed(listener.with_tls(certificates.tls()), bounds, served.clone(), stop.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&certificates).keep(stop.clone()));
        if let Some(membership) = &membership {
            guard::leave(&own_token, &config.data_dir).map_err(Fault::Start)?; // `sluice cluster init` comes before the data
            tasks.spawn(removal::watch(Arc::clone(&membership.seen), stop.clone()));
            let api = waiting((&config, file.as_ref()), address, &membership.seen, &certificates, (&probing, &stop));
            membership.seen.common().tell_of_itself(api.itself());
            entrance = entrance.open_for_now(guard.before(until_ready(api, &membership.seen)));
        }
        let (node, sinks, in_force) = match &membership {
            None => start_node(&config, &own_token, tell, &service).await?,
            Some(membership) => start_member(&config, membership, tell, &service).await?,
        };
        let handle = node.handle.clone();
        let seen = membership.as_ref().map(|membership| Arc::clone(&membership.seen));
        guard.knows(Box::new(Heard { node: handle.clone(), seen: seen.clone() }));
        guard.problems().iter().for_each(|problem| tracing::error!("{}. {}", problem.text, problem.remedy));
        let ingest = Arc::new(Ingest::new(handle.clone(), &in_force.groups, &config.limits, &check::asked(&in_force), desks()));
        let name = config.name.clone();
        let backups_of = (config.name.clone(), config.data_dir.clone());
        let parts = Parts {
            node: handle.clone(),
            sinks: Arc::clone(&sinks),
            ingest: Arc::clone(&ingest),
            certificates: Arc::clone(&certificates),
            guard: Arc::clone(&guard),
            probing: Arc::clone(&probing),
        };
        let peers = seen.clone().map(|seen| Arc::new(move || seen.peers()) as metrics::Peers);
        let telemetry = measured(&parts, &served, peers);
        let instance = seen.as_ref().map_or_else(|| address.to_string(), |seen| seen.common().name().to_owned());
        let own = (config.own_metrics, own_metrics::Who { instance, node: format!("{:016x}", node.id()) }, telemetry.clone());
        let own_name = seen.as_ref().map_or_else(|| config.name.clone(), |seen| seen.common().name().to_owned());
        let (file_of_node, disk) = (file.clone(), disk_report(&config.data_dir));
        let reload = Arc::new(Reload::new((config, file), in_force, own_name.clone(), seen.is_none(), parts));
        let sender = format!("http://{address}");
        let alerting = alerting::Parts { node: handle.clone(), seen: seen.clone(), name: own_name, sender, written: reload.alerting() };
        let alerting = Alerting::start(alerting, &stop, &mut tasks);
        let looked_at = probes::Parts {
            node: &node.handle,
            ingest: &ingest,
            groups: reload.groups(),
            probing: reload.looked_at(),
            seen: seen.clone(),
            sender: format!("http://{address}"),
        };
        let probes = Probes::start(looked_at, &stop, &mut tasks).map_err(Fault::Start)?;
        telemetry.register(|registry| metrics::register_probes(registry, probes.shown(), node.handle.clone()));
        let alert_counts = crate::api::metrics::Metrics::default();
        alerting::metrics::register(&alerting, &alert_counts, &telemetry);
        let deps = Deps {
            node: Arc::new(handle),
            sinks: Arc::clone(&sinks) as Arc<dyn deps::Sinks>,
            alerting: alerting.source(),
            alert_counts,
            ingest: shown_ingest(&ingest, &served),
            senders: seen::senders(&ingest),
            flow: flow::flows(&node.handle, &ingest),
            probes: probes.shown(),
            census: seen::census(&ingest),
            metrics: {
                let telemetry = telemetry.clone();
                Arc::new(move || telemetry.render())
            },
            push: pushing(reload.push(), reload.groups()),
            probe: Arc::clone(&probing) as Arc<dyn crate::api::probe::Prober>,
            reload: {
                let reload = Arc::clone(&reload);
                Arc::new(move || {
                    let reload = Arc::clone(&reload);
                    Box::pin(async move { reload.run().await })
                })
            },
            file: file_of_node,
            disk,
            not_ready: not_ready(&node.handle, seen.clone(), stop.clone()),
            problems: problems((&certificates, &guard), &reload, (&probes, &alerting)),
            backup: backup::writer(node.handle.clone(), backups_of),
            settings: Some(Arc::clone(&reload) as Arc<dyn crate::api::settings::Settings>),
            public_certificate_expires: public_expiry(&certificates),
            cluster: seen.map(|seen| seen as Arc<dyn Cluster>),
            dev: dev.clone().map(|senders| senders as Arc<dyn deps::DevControls>),
            pages: Arc::new(console::answer),
            stopping: stop.clone(),
            version: env!("CARGO_PKG_VERSION"),
            name,
            listen: address,
            started_ms: clock::wall_ms(),
        };
        let api = Api::new(deps);
        membership.iter().for_each(|membership| membership.seen.common().tell_of_itself(api.itself()));
        if let (true, who, telemetry) = own {
            tasks.spawn(own_metrics::keep(Arc::clone(&ingest), Arc::clone(&sinks), (telemetry, who), stop.clone()));
        }
        let takes_own = Arc::clone(&ingest);
        let door = front_door(api, ingest, (node.handle.clone(), probes));
        let door = entrance.open(serve::Door { answerer: guard.before(door.answerer), gone: door.gone });
        if let Some(membership) = &membership {
            tasks.spawn(seats::keep(node.handle.clone(), Arc::clone(&membership.seen), stop.clone()));
        }
        tasks.spawn(sinks::keep(Arc::clone(&sinks), stop.clone()));
        tasks.spawn(settings::keep(Arc::clone(&reload), node.handle.clone(), stop.clone()));
        tasks.spawn(pushed::keep(node.handle.clone(), takes_own, reload.push(), stop.clone()));
        tasks.spawn(pins::keep(node.handle.clone(), reload.groups(), stop.clone()));
        if let Some(senders) = dev {
            senders.start(address, &own_token, &stop, &mut tasks);
        }
        service.ready();
        tracing::info!(listen = %address, version = env!("CARGO_PKG_VERSION"), "ready");
        Ok(Running { node, sinks, reload, membership, address, stop_door, door, tasks, fatal })
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
        // Last: a leader hands over by messages.
        if let Some(membership) = self.membership {
            membership.stop().await;
        }
        undone
    }
}

/// The public socket. A node that is all there is opens it once it is ready; one of several at once, to say what it waits for.
enum Entrance {
    Closed(Listener, serve::Bounds, serve::metrics::Metrics, watch::Receiver<bool>),
    Open(Arc<RwLock<serve::Door>>, JoinHandle<usize>),
}

impl Entrance {
    /// Answers so until `open` says otherwise.
    fn open_for_now(self, answerer: serve::Answerer) -> Entrance {
        let Entrance::Closed(listener, bounds, served, stop) = self else { return self };
        let current = Arc::new(RwLock::new(serve::Door { answerer, gone: Arc::new(|_, _| {}) }));
        let (for_requests, for_ends) = (Arc::clone(&current), Arc::clone(&current));
        let now = |current: &RwLock<serve::Door>| current.read().unwrap_or_else(PoisonError::into_inner).clone();
        let whoever = serve::Door {
            answerer: Arc::new(move |request, peer| (now(&for_requests).answerer)(request, peer)),
            gone: Arc::new(move |connection, ours| (now(&for_ends).gone)(connection, ours)),
        };
        Entrance::Open(current, tokio::spawn(serve::run(listener, bounds, whoever, served, stop)))
    }

    fn open(self, door: serve::Door) -> JoinHandle<usize> {
        match self {
            Entrance::Closed(listener, bounds, served, stop) => tokio::spawn(serve::run(listener, bounds, door, served, stop)),
            Entrance::Open(current, task) => {
                *current.write().unwrap_or_else(PoisonError::into_inner) = door;
                task
            }
        }
    }
}

/// For a node whose shards do not run yet, or have no leader yet.
fn waiting(
    (config, file): (&Config, Option<&PathBuf>),
    address: SocketAddr,
    seen: &Arc<Seen>,
    certificates: &Arc<Certificates>,
    (probing, stop): (&Arc<Probing>, &watch::Receiver<bool>),
) -> Api {
    let waits = {
        let seen = Arc::clone(seen);
        Arc::new(move || seen.waits_for())
    };
    let deps = Deps {
        node: Arc::new(Nothing),
        sinks: Arc::new(Nothing),
        alerting: Arc::new(|| Err(Off::Starting)),
        alert_counts: crate::api::metrics::Metrics::default(),
        ingest: Arc::new(deps::Ingest::default),
        senders: Arc::new(|_| Vec::new()),
        flow: Arc::new(|_| Box::new(flow::Silent)),
        probes: Arc::new(Default::default),
        census: Arc::new(|_| Vec::new()),
        metrics: Arc::new(|| Telemetry::default().render()),
        push: Arc::new(|| deps::Pushing { enabled: true, ..deps::Pushing::default() }),
        probe: Arc::clone(probing) as Arc<dyn crate::api::probe::Prober>,
        reload: Arc::new(|| Box::pin(async { Err(vec!["the node is only starting".to_owned()]) })),
        file: file.cloned(),
        disk: disk_report(&config.data_dir),
        not_ready: waits,
        problems: Arc::new(Vec::new),
        backup: Arc::new(|_| Box::pin(async { Err(deps::Refusal::Later("the node is only starting".to_owned())) })),
        settings: None,
        public_certificate_expires: public_expiry(certificates),
        cluster: Some(Arc::clone(seen) as Arc<dyn Cluster>),
        dev: None,
        pages: Arc::new(console::answer),
        stopping: stop.clone(),
        version: env!("CARGO_PKG_VERSION"),
        name: config.name.clone(),
        listen: address,
        started_ms: clock::wall_ms(),
    };
    Api::new(deps)
}

/// Answers of such a node.
fn until_ready(api: Api, seen: &Arc<Seen>) -> serve::Answerer {
    let seen = Arc::clone(seen);
    Arc::new(move |request, peer| match ingest::head::route(request.uri().path(), request.uri().query()) {
        Some(_) => {
            let text = format!("not taken now, send it again: {}\n", seen.waits_for().join("; "));
            let mut response = serve::answer(hyper::StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", text);
            let wait = hyper::header::HeaderValue::from(fastrand::u64(2..8));
            response.headers_mut().insert(hyper::header::RETRY_AFTER, wait);
            Box::pin(std::future::ready(response))
        }
        None => {
            let api = api.clone();
            Box::pin(async move { api.answer(request, peer).await })
        }
    })
}

/// The same as `start_node` for one of several: it waits as long as it takes, since others decide.
async fn start_member(
    config: &Config,
    membership: &Membership,
    tell: watch::Sender<Option<String>>,
    service: &Service,
) -> Result<(Node, Arc<SinkSet>, Config), Fault> {
    let fatal = tell.subscribe();
    let seen = Arc::clone(&membership.seen);
    service.waits(Box::new(move || seen.waits_for()));
    if !membership.is_founded() {
        service.ready(); // it answers, and says what it waits for
    }
    let together = membership.founded().await?;
    let node = open_node(config, Some(together), tell).await?;
    service.runs(&node.handle);
    service.ready(); // the rest is not this node's alone
    let sinks = match membership.ready(&node, config, fatal).await {
        Ok(in_force) => {
            let sinks = Arc::new(SinkSet::new(node.handle.clone(), tokio::runtime::Handle::current(), config));
            sinks.arrange(&in_force).map(|_| (sinks, in_force)).map_err(Fault::Start)
        }
        Err(fault) => Err(fault),
    };
    match sinks {
        Ok((sinks, in_force)) => Ok((node, sinks, in_force)),
        Err(fault) => {
            let _ = tokio::task::spawn_blocking(move || node.stop()).await;
            Err(fault)
        }
    }
}

/// Disk, shards, settings, sinks.
async fn start_node(
    config: &Config,
    own_token: &Token,
    tell: watch::Sender<Option<String>>,
    service: &Service,
) -> Result<(Node, Arc<SinkSet>, Config), Fault> {
    let node = open_node(config, None, tell).await?;
    service.runs(&node.handle);
    let begun = async {
        node.handle.ready().await.map_err(|error| Fault::Start(error.to_string()))?;
        backup::settle(&node.handle, &config.data_dir).await?;
        settings::at_start(&node.handle, config, &config.name, true).await
    };
    let begun = match tokio::time::timeout(READY_WITHIN, begun).await {
        Ok(Ok(in_force)) => Ok(in_force),
        Ok(Err(fault)) => Err(node.handle.fatal().map_or(fault, Fault::Start)),
        Err(_) => Err(Fault::Start(format!("the shards had no leader after {} s", READY_WITHIN.as_secs()))),
    };
    let sinks = Arc::new(SinkSet::new(node.handle.clone(), tokio::runtime::Handle::current(), config));
    let begun = begun.and_then(|in_force| {
        guard::leave(own_token, &config.data_dir).map_err(Fault::Start)?;
        sinks.arrange(&in_force).map_err(Fault::Start)?;
        Ok(in_force)
    });
    match begun {
        Ok(in_force) => Ok((node, sinks, in_force)),
        Err(fault) => {
            let _ = tokio::task::spawn_blocking(move || node.stop()).await;
            Err(fault)
        }
    }
}

/// Disk and shards.
async fn open_node(config: &Config, together: Option<Together>, tell: watch::Sender<Option<String>>) -> Result<Node, Fault> {
    let settings = translate::node(config);
    let fatal = Box::new(move |reason: &str| {
        tell.send_replace(Some(reason.to_owned()));
    });
    let started = tokio::task::spawn_blocking(move || Node::start_with(settings, together, fatal)).await;
    match started {
        Ok(Ok(node)) => Ok(node),
        Ok(Err(error)) => Err(Fault::Start(error.to_string())),
        Err(_) => Err(Fault::Start("the shards panicked while starting".to_owned())),
    }
}

/// What is wrong beside what the parts say themselves.
fn problems(
    (certificates, guard): (&Arc<Certificates>, &Arc<Guard>),
    reload: &Arc<Reload>,
    (probes, alerting): (&Arc<Probes>, &Arc<Alerting>),
) -> Arc<dyn Fn() -> Vec<deps::Problem> + Send + Sync> {
    let (certificates, guard, reload, probes) = (Arc::clone(certificates), Arc::clone(guard), Arc::clone(reload), Arc::clone(probes));
    let alerting = Arc::clone(alerting);
    Arc::new(move || {
        let mut problems = guard.problems();
        problems.extend(reload.problems());
        problems.extend(probes.problems());
        problems.extend(alerting.problems());
        problems.extend(certificates.problems(clock::wall_ms()));
        problems
    })
}

fn disk_report(data_dir: &std::path::Path) -> Arc<dyn Fn() -> String + Send + Sync> {
    let data_dir = data_dir.to_owned();
    Arc::new(move || disk::report(&data_dir))
}

/// All numbers of the node.
fn measured(parts: &Parts, served: &serve::metrics::Metrics, peers: Option<metrics::Peers>) -> Telemetry {
    let telemetry = Telemetry::default();
    telemetry.register_process(clock::wall_ms());
    telemetry.register(|registry| parts.ingest.metrics().register(registry));
    telemetry.register(|registry| served.register(registry));
    telemetry.register(|registry| parts.guard.metrics().register(registry));
    telemetry.register(|registry| {
        metrics::register(registry, parts.node.clone(), Arc::clone(&parts.sinks), Arc::clone(&parts.certificates), peers);
    });
    telemetry
}

/// What this node has heard of tokens.
struct Heard {
    node: Handle,
    seen: Option<Arc<Seen>>,
}

impl Known for Heard {
    fn tokens(&self) -> Arc<Tokens> {
        self.node.tokens()
    }

    fn current(&self) -> bool {
        // A node that is all there is has applied everything before it is ready.
        self.seen.as_ref().is_none_or(|seen| seen.control_is_current())
    }
}

fn pushing(push: watch::Receiver<Push>, groups: watch::Receiver<Groups>) -> Arc<dyn Fn() -> deps::Pushing + Send + Sync> {
    Arc::new(move || deps::Pushing { enabled: push.borrow().enabled, tenant: groups.borrow().tenant.clone() })
}

fn public_expiry(certificates: &Arc<Certificates>) -> Arc<dyn Fn() -> Option<i64> + Send + Sync> {
    let certificates = Arc::clone(certificates);
    Arc::new(move || certificates.listener_ends_ms())
}

/// Requests that are decoded at the same time: one a core.
fn desks() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Remote write goes to `ingest`, everything else to `api`.
fn front_door(api: Api, ingest: Arc<Ingest<Handle>>, (drained, probes): (Handle, Arc<Probes>)) -> serve::Door {
    let told = Arc::clone(&ingest);
    let answerer: serve::Answerer = Arc::new(move |request, peer| match ingest::head::route(request.uri().path(), request.uri().query()) {
        Some(hint) => {
            let ingest = Arc::clone(&ingest);
            let node = drained.clone();
            Box::pin(async move {
                let mut response = ingest.take(request, peer, hint).await;
                // The sender connects anew, and by the balancer to another node.
                if node.is_draining() {
                    response.headers_mut().insert(hyper::header::CONNECTION, hyper::header::HeaderValue::from_static("close"));
                }
                response
            })
        }
        None => {
            let api = api.clone();
            Box::pin(async move { api.answer(request, peer).await })
        }
    });
    serve::Door { answerer, gone: Arc::new(move |connection, ours| probes.doubt(&told.gone(connection, ours))) }
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

fn not_ready(node: &Handle, seen: Option<Arc<Seen>>, stop: watch::Receiver<bool>) -> Arc<dyn Fn() -> Vec<String> + Send + Sync> {
    let (node, together) = (node.clone(), seen.is_some());
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
        let led = |shard: &crate::model::ShardId| {
            let progress = *node.progress(*shard).borrow();
            progress.leads || together && progress.leader != 0
        };
        if node.is_draining() {
            reasons.push("the node is being drained (`sluice cluster drain --off` ends it)".to_owned());
        }
        reasons.extend(seen.as_ref().and_then(|seen| seen.removed()));
        let leaderless = node.shards().iter().filter(|shard| !led(shard)).count();
        if leaderless > 0 {
            reasons.push(format!("{leaderless} shards have no leader{}", if together { "" } else { " here" }));
        }
        reasons
    })
}

//! Node to node: one HTTP/2 connection to each peer, always with certificates of the cluster's own authority on both sides (`secret`), that
//! carries Raft's messages, and offers and proposals that came to a node which does not lead their shard.
//!
//! All of it runs on one thread of its own: a sign of life must not wait behind requests that are being decoded, and a message that is passed from task
//! to task wakes no second thread.
//!
//! Read `hello` and `charter` (what nodes know of each other and of their cluster), `link` (the way out), `door` (the way in), `stream` and `frame`
//! (Raft's messages, and what is written), `way` (how the shards use it). A cluster comes into being by [`Common::init`] and by nothing else: the first node of the list asks all, and only if all are there, empty
//! and of one mind is the record written, first here, then there. Asked again it completes what was cut short.
//!
//! A node that comes later is known by its certificate, but has no part in anything until the cluster's list of nodes names it and it has been given
//! the record ([`Common::admit`]).
//!
//! Left out on purpose: what is decided by the shards, the list of nodes among it.

pub mod charter;
mod door;
pub mod frame;
pub mod hello;
mod itself;
pub mod link;
mod stream;
mod tls;
mod way;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio::task::JoinSet;
use xxhash_rust::xxh3::xxh3_64;

use crate::admission::Budget;
use crate::clock;
use crate::config::cluster::Cluster;
use crate::failpoint;
use crate::model::ShardId;
use crate::node::Handle;
use crate::node::peers::Together;
use crate::peer::charter::Charter;
use crate::peer::charter::Founder;
use crate::peer::hello::Hello;
use crate::peer::hello::Standing;
use crate::peer::link::Link;
use crate::peer::link::Sight;
use crate::peer::way::Way;
use crate::secret::FirstToken;
use crate::secret::NodeSecrets;
use crate::shard::command::Founding;
use crate::shard::members::Node as Seat;
use crate::shard::members::Nodes;

const CLUSTER_HEADER: &str = "sluice-cluster";
/// Bytes of peers' offers and batches that are held here: four nodes' batches of 4 MiB and 10,000 requests of 20 KiB.
const HELD_BYTES: u64 = 256 << 20;
/// An offer that has no answer by then is reported as unknown; longer than an election.
const OFFER: Duration = Duration::from_secs(10);
/// What is told and may be lost: so many at a time, of 100 bytes or, of a shard's groups, some hundred KiB.
const TELLING: usize = 128;
/// Clocks that differ by more must be set before a cluster is founded, ms.
const CLOCKS_MS: i64 = 1_000;

/// What is needed to begin.
pub struct Plan {
    /// Nodes and the address to listen on.
    pub cluster: Cluster,
    /// Certificate and key of this node.
    pub secrets: NodeSecrets,
    /// Where the record of the cluster is kept.
    pub data_dir: PathBuf,
    /// Of the cluster to be founded.
    pub data_shards: u16,
    /// What all nodes must say alike.
    pub agreed: String,
    /// There is data already.
    pub data: bool,
}

/// What links and door share.
pub struct Common {
    tls: tls::Current,
    /// As they were at the start; id and name stay.
    secrets: NodeSecrets,
    /// When the certificate of the public listener ends, ms since 1970; 0: it has none.
    public_expires_ms: AtomicI64,
    data_dir: PathBuf,
    data_shards: u16,
    agreed: String,
    data: bool,
    /// All nodes' names, in the order of the file.
    names: Vec<String>,
    links: Vec<Arc<Link>>,
    node: OnceLock<Handle>,
    charter: watch::Sender<Option<Charter>>,
    budget: Budget,
    initiating: tokio::sync::Mutex<()>,
    /// What is told and not answered yet.
    telling: Arc<Semaphore>,
    /// What this node says of itself to another one that collects it for a person.
    itself: itself::Slot,
}

/// The running connections of a node.
pub struct Peering {
    /// For everybody who asks.
    pub common: Arc<Common>,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Peering {
    /// Listens, and begins to connect. The error says what to do.
    pub async fn start(plan: Plan) -> Result<Peering, String> {
        let Plan { cluster, secrets, data_dir, data_shards, agreed, data } = plan;
        let name = &secrets.card.name;
        if !cluster.nodes.iter().any(|node| node.name == *name) {
            return Err(format!(
                "this node joined as {name}, which is not in cluster.nodes; name it there on all nodes, or join again as one of them"
            ));
        }
        let charter = Charter::read(&data_dir).map_err(|error| error.to_string())?;
        let taken = |error| format!("cannot listen for peers on {}: {error}; cluster.listen names another address", cluster.listen);
        let listener = TcpListener::bind(cluster.listen).await.map_err(taken)?;
        let others = cluster.nodes.iter().filter(|node| node.name != *name);
        let common = Arc::new(Common {
            tls: tls::Current::new(tls::of(&secrets)?),
            public_expires_ms: AtomicI64::new(0),
            links: others.map(|node| Arc::new(Link::new(node.clone(), cluster.listen.ip()))).collect(),
            names: cluster.nodes.iter().map(|node| node.name.clone()).collect(),
            secrets,
            data_dir,
            data_shards,
            agreed: format!("{:016x}", xxh3_64(agreed.as_bytes())),
            data,
            node: OnceLock::new(),
            charter: watch::Sender::new(charter),
            budget: Budget::new(HELD_BYTES),
            initiating: tokio::sync::Mutex::default(),
            telling: Arc::new(Semaphore::new(TELLING)),
            itself: itself::Slot::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let failed = |error| format!("the thread for peers cannot be started: {error}");
        let listener = listener.into_std().map_err(failed)?;
        let runtime = Builder::new_current_thread().enable_all().thread_name("peers-disk").build().map_err(failed)?;
        let shared = Arc::clone(&common);
        let thread = std::thread::Builder::new().name("peers".to_owned()).spawn(move || runtime.block_on(keep(shared, listener, stopped)));
        Ok(Peering { common, stop, thread: thread.map_err(failed)? })
    }

    /// Closes all connections.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = tokio::task::spawn_blocking(move || self.thread.join()).await;
    }
}

/// The thread: the door, and a task for each peer.
async fn keep(common: Arc<Common>, listener: std::net::TcpListener, stopped: watch::Receiver<bool>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "peers cannot be listened for"),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(door::run(listener, Arc::clone(&common), stopped.clone()));
    for link in &common.links {
        tasks.spawn(Arc::clone(link).run(Arc::clone(&common), stopped.clone()));
    }
    while tasks.join_next().await.is_some() {}
}

impl Common {
    /// Resolves when this node belongs to a cluster.
    pub async fn founded(&self) -> Charter {
        let mut charter = self.charter.subscribe();
        loop {
            if let Some(charter) = charter.borrow_and_update().clone() {
                return charter;
            }
            if charter.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// What makes the node's shards part of the cluster.
    pub fn together(self: &Arc<Common>, charter: &Charter) -> Result<Together, String> {
        Ok(Together {
            id: self.secrets.id,
            members: charter.nodes.iter().map(Founder::number).filter(|id| !charter.admitted || *id != self.secrets.id).collect(),
            founding: charter.check()?,
            begun: charter.begun,
            peers: Way::new(Arc::clone(self)),
        })
    }

    /// What makes a node that was a cluster of one the first of several: its data stay as they are. Others are added to it.
    pub fn together_alone(self: &Arc<Common>) -> Together {
        let founding = Founding { cluster: 0, seed: 0, data_shards: self.data_shards };
        let peers = Way::new(Arc::clone(self));
        Together { id: self.secrets.id, members: vec![self.secrets.id], founding, begun: true, peers }
    }

    /// Writes down what the data of a node that was a cluster of one say.
    pub fn adopt(&self, founding: Founding) -> Result<(), String> {
        let charter = Charter {
            cluster: format!("{:032x}", founding.cluster),
            seed: format!("{:016x}", founding.seed),
            data_shards: founding.data_shards,
            nodes: vec![Founder { id: self.secrets.card.node.clone(), name: self.secrets.card.name.clone() }],
            founded_ms: clock::wall_ms(),
            begun: true,
            admitted: false,
            recovered: false,
        };
        charter.check()?;
        charter.write(&self.data_dir).map_err(|error| error.to_string())?;
        self.charter.send_replace(Some(charter));
        Ok(())
    }

    /// The shards run: peers' messages have somewhere to go. The record says from now on that there must be data.
    pub fn begun(&self, node: Handle) -> Result<(), String> {
        let _ = self.node.set(node);
        let charter = self.charter.borrow().clone();
        let Some(charter) = charter.filter(|charter| !charter.begun) else { return Ok(()) };
        let charter = Charter { begun: true, ..charter };
        failpoint::reach(failpoint::Place::DataBegun);
        charter.write(&self.data_dir).map_err(|error| error.to_string())?;
        self.charter.send_replace(Some(charter));
        Ok(())
    }

    /// What followed from the loss of the majority is done.
    pub fn end_recovery(&self) -> Result<(), String> {
        let Some(charter) = self.charter() else { return Ok(()) };
        let charter = Charter { recovered: false, ..charter };
        charter.write(&self.data_dir).map_err(|error| error.to_string())?;
        self.charter.send_replace(Some(charter));
        Ok(())
    }

    /// The connection on whose other side that node is.
    fn link_to(&self, id: u64) -> Option<&Arc<Link>> {
        self.links.iter().find(|link| link.id() == Some(id))
    }

    /// The list of nodes is this one now: the record follows.
    pub fn follow(&self, nodes: &Nodes) -> Result<(), String> {
        let Some(charter) = self.charter() else { return Ok(()) };
        let founder = |node: &Seat| Founder { id: format!("{:016x}", node.id), name: node.name.clone() };
        let renewed = Charter { nodes: nodes.nodes.iter().map(founder).collect(), ..charter.clone() };
        if nodes.version == 0 || renewed == charter {
            return Ok(());
        }
        renewed.write(&self.data_dir).map_err(|error| error.to_string())?;
        self.charter.send_replace(Some(renewed));
        Ok(())
    }

    /// Gives the record to a node that the list of nodes has just come to name. May be repeated.
    pub async fn admit(&self, link: &Link) -> Result<(), String> {
        let charter = self.charter().ok_or("this node belongs to no cluster itself")?;
        let charter = Charter { admitted: true, begun: false, ..charter };
        let body = serde_json::to_vec(&charter).map_err(|error| error.to_string())?;
        match link.ask(self, "/found", body.into(), OFFER).await {
            Ok(Some((StatusCode::OK, _))) => Ok(()),
            Ok(Some((_, why))) => Err(String::from_utf8_lossy(&why).into_owned()),
            Ok(None) | Err(()) => Err("no answer".to_owned()),
        }
    }

    /// The cluster's id, 32 hexadecimal digits.
    pub fn cluster(&self) -> Option<String> {
        self.charter.borrow().as_ref().map(|charter| charter.cluster.clone())
    }

    /// The record of the cluster, if there is one.
    pub fn charter(&self) -> Option<Charter> {
        self.charter.borrow().clone()
    }

    /// The token that the cluster begins with.
    pub fn first_token(&self) -> Option<FirstToken> {
        self.secrets.first_token.clone()
    }

    /// When this node's certificate ends, ms since 1970.
    pub fn expires_ms(&self) -> i64 {
        self.tls.get().expires_ms()
    }

    /// What the others are told of the public listener's certificate.
    pub fn tell_public_expiry(&self, ends_ms: Option<i64>) {
        self.public_expires_ms.store(ends_ms.unwrap_or(0), Ordering::Relaxed);
    }

    /// Takes the certificate that `sluice cluster join` has written meanwhile: for new connections. False: there is no other one.
    pub fn renew(&self) -> Result<bool, String> {
        let secrets = NodeSecrets::read(&self.data_dir).map_err(|error| error.to_string())?;
        let secrets = secrets.ok_or("the node's certificate is gone; `sluice cluster join BUNDLE` writes it anew")?;
        self.tls.renew(secrets)
    }

    /// This node's id.
    pub fn id(&self) -> u64 {
        self.secrets.id
    }

    /// This node's name.
    pub fn name(&self) -> &str {
        &self.secrets.card.name
    }

    /// All nodes' names, in the order of the file.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The other nodes.
    pub fn links(&self) -> &[Arc<Link>] {
        &self.links
    }

    /// What this node says of itself.
    pub fn hello(&self) -> Hello {
        let space = self.node.get().map(Handle::space);
        Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.secrets.card.node.clone(),
            name: self.secrets.card.name.clone(),
            cluster: self.cluster(),
            agreed: self.agreed.clone(),
            data: self.data || self.charter.borrow().as_ref().is_some_and(|charter| charter.begun),
            running: self.node.get().is_some(),
            draining: self.node.get().is_some_and(Handle::stands_aside),
            aside: self.node.get().and_then(Handle::aside).map(str::to_owned),
            free_bytes: space.map(|(free, _)| free),
            reserve_bytes: space.map(|(_, reserve)| reserve),
            levels: self.node.get().map(|node| node.levels().1).map(|levels| (levels.oldest, levels.newest)),
            you_are: None,
            disk_full: self.node.get().is_some_and(Handle::disk_is_full),
            now_ms: clock::wall_ms(),
            shards: self.node.get().map(standings).unwrap_or_default(),
            expires_ms: self.expires_ms(),
            public_expires_ms: Some(self.public_expires_ms.load(Ordering::Relaxed)).filter(|ends| *ends != 0),
        }
    }

    /// What that node, which says that it is of this cluster, is to it. Whoever has the cluster's record was given it by a member.
    fn relation_to(&self, id: u64, theirs: &str) -> &'static str {
        match (self.is_member(id), self.cluster().is_some_and(|own| own == theirs)) {
            (true, _) => "member",
            (false, true) => "removed",
            (false, false) => "stranger",
        }
    }

    fn is_member(&self, id: u64) -> bool {
        self.charter.borrow().as_ref().is_some_and(|charter| charter.nodes.iter().any(|node| node.number() == id))
    }

    /// Whether the node of this name may have this id.
    fn is_expected(&self, name: &str, id: u64) -> Result<(), String> {
        let charter = self.charter.borrow();
        let known = charter.as_ref().and_then(|charter| charter.nodes.iter().find(|node| node.number() == id));
        match known {
            Some(known) if known.name != name => {
                Err(format!("it is {}, not {name}: two names in cluster.nodes have one address", known.name))
            }
            _ => Ok(()),
        }
    }

    fn unreachable(&self, id: u64) {
        if let Some(node) = self.node.get() {
            node.unreachable(id);
        }
    }

    /// The first node of the list founded the cluster; this one takes its record.
    fn accept(&self, charter: Charter) -> Result<(), String> {
        charter.check()?;
        if !charter.nodes.iter().any(|node| node.number() == self.secrets.id) {
            return Err(format!("node {} is not among the members", self.secrets.card.node));
        }
        if let Some(own) = self.cluster() {
            return if own == charter.cluster { Ok(()) } else { Err(format!("this node belongs to cluster {own} already")) };
        }
        if self.data {
            return Err("this node has data: it never becomes part of a new cluster".to_owned());
        }
        let charter = Charter { begun: false, ..charter };
        failpoint::reach(failpoint::Place::CharterUnwritten);
        charter.write(&self.data_dir).map_err(|error| error.to_string())?;
        failpoint::reach(failpoint::Place::CharterWritten);
        tracing::info!(cluster = charter.cluster, "this node is part of a cluster now");
        self.charter.send_replace(Some(charter));
        Ok(())
    }

    /// Founds the cluster, or completes its founding: says what was done, or everything that is in the way. One node of the list does it for all, so
    /// that two people who ask two nodes at the same time found one cluster.
    pub async fn init(self: &Arc<Common>) -> Result<String, Vec<String>> {
        let first = self.names.first().filter(|first| **first != self.secrets.card.name);
        let Some(link) = first.and_then(|first| self.links.iter().find(|link| link.member.name == *first)) else {
            return self.init_here().await;
        };
        let no_answer = || vec![format!("{}: no answer, and a cluster is founded by the first node of the list", link.member.name)];
        match link.ask(self, "/init", Bytes::new(), OFFER).await {
            Ok(Some((StatusCode::OK, done))) => Ok(String::from_utf8_lossy(&done).into_owned()),
            Ok(Some((_, why))) => Err(String::from_utf8_lossy(&why).lines().map(str::to_owned).collect()),
            Ok(None) => Err(no_answer()),
            Err(()) => match link.sight() {
                Sight::Unreachable(why) => Err(vec![format!("{}: {why}", link.member.name)]),
                Sight::Greeted { .. } => Err(no_answer()),
            },
        }
    }

    async fn init_here(self: &Arc<Common>) -> Result<String, Vec<String>> {
        let _one_at_a_time = self.initiating.lock().await;
        let present = self.charter();
        let charter = match present {
            Some(charter) => charter,
            None => self.draw_up()?,
        };
        if self.charter.borrow().is_none() {
            self.accept(charter.clone()).map_err(|why| vec![why])?;
        }
        let body = serde_json::to_vec(&charter).map_err(|error| vec![error.to_string()])?;
        let mut problems = Vec::new();
        for link in &self.links {
            let has_it = matches!(link.sight(), Sight::Greeted { hello, .. } if hello.cluster.as_ref() == Some(&charter.cluster));
            if has_it {
                continue;
            }
            match link.ask(self, "/found", Bytes::from(body.clone()), OFFER).await {
                Ok(Some((StatusCode::OK, _))) => {}
                Ok(Some((_, why))) => problems.push(format!("{}: {}", link.member.name, String::from_utf8_lossy(&why))),
                Ok(None) | Err(()) => {
                    problems.push(format!("{}: no answer; `sluice cluster init` again once it is there", link.member.name))
                }
            }
        }
        let names = self.names.join(", ");
        if problems.is_empty() { Ok(format!("cluster {} of {names}", charter.cluster)) } else { Err(problems) }
    }

    /// A new cluster, if nothing is in the way.
    fn draw_up(&self) -> Result<Charter, Vec<String>> {
        let mut problems = Vec::new();
        let own = self.hello();
        let mut nodes = BTreeMap::from([(own.name.clone(), own.node.clone())]);
        if own.data {
            problems.push(format!("{}: it has data; a cluster begins with empty nodes (remove data_dir and join again)", own.name));
        }
        for link in &self.links {
            let name = &link.member.name;
            match link.sight() {
                Sight::Unreachable(why) => problems.push(format!("{name}: {why}")),
                Sight::Greeted { hello, clock_off_ms } => {
                    nodes.insert(name.clone(), hello.node.clone());
                    let differs = hello.agreed != own.agreed;
                    let all = [
                        (
                            hello.cluster.is_some(),
                            "it belongs to a cluster already; remove its data_dir and join again to begin anew".to_owned(),
                        ),
                        (hello.data, "it has data; a cluster begins with empty nodes (remove its data_dir and join again)".to_owned()),
                        (hello.version != own.version, format!("it runs version {}, this node {}", hello.version, own.version)),
                        (
                            differs,
                            "its configuration differs in name, shards, cluster.nodes, groups or sinks; copy one file to all nodes"
                                .to_owned(),
                        ),
                        (clock_off_ms.abs() > CLOCKS_MS, format!("its clock differs by {clock_off_ms} ms; set both by NTP")),
                    ];
                    problems.extend(all.into_iter().filter(|(wrong, _)| *wrong).map(|(_, why)| format!("{name}: {why}")));
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let random = || crate::secret::random().map_err(|error| vec![error.to_string()]);
        Ok(Charter {
            cluster: format!("{:016x}{:016x}", random()?.max(1), random()?),
            seed: format!("{:016x}", random()?),
            data_shards: self.data_shards,
            nodes: nodes.into_iter().map(|(name, id)| Founder { id, name }).collect(),
            founded_ms: own.now_ms,
            begun: false,
            admitted: false,
            recovered: false,
        })
    }
}

fn standings(node: &Handle) -> Vec<Standing> {
    let all = [ShardId::CONTROL].into_iter().chain(node.shards().iter().copied());
    let standing = |shard: ShardId| {
        let progress = *node.progress(shard).borrow();
        let leader = (progress.leader != 0).then(|| format!("{:016x}", progress.leader));
        let (image, hash) = node.image(shard);
        Standing { shard: shard.0, leader, applied: progress.applied, image, hash: format!("{hash:016x}") }
    };
    all.map(standing).collect()
}

#[cfg(test)]
mod tests;

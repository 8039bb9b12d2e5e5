//! Several nodes: who is there, who leads which shard, who lags, and what is wrong, as one node sees it. `app` draws it up.

use hyper::StatusCode;
use serde::Deserialize;
use serde::Serialize;

use crate::api::answer::Failure;
use crate::api::deps::Deps;
use crate::api::deps::Later;
use crate::api::deps::Problem;
use crate::api::groups::Done;
use crate::api::upgrade::Upgrade;

/// A member that is further behind is a problem: some seconds of a busy shard.
pub const BEHIND: u64 = 5_000;

/// What problems with what all nodes agree on are about.
pub const SETTINGS: &str = "settings";

/// A node's name, and what it says of itself or why it says nothing.
pub type Said = (String, Result<Vec<u8>, String>);

/// The name of the node that is asked.
pub(super) fn this_node(deps: &Deps) -> String {
    let view = deps.cluster.as_ref().map(|cluster| cluster.view());
    let this = view.as_ref().and_then(|view| view.nodes.iter().find(|node| node.state == "this"));
    this.map_or_else(|| "node".to_owned(), |node| node.name.clone())
}

/// What is asked of the cluster.
pub trait Cluster: Send + Sync {
    /// Everything at a glance.
    fn view(&self) -> View;
    /// Founds it, or completes its founding: what was done, or everything that is in the way.
    fn init(&self) -> Later<'_, Result<String, Vec<String>>>;
    /// This node shall lead nothing (and its balancers shall look elsewhere), or may lead again.
    fn drain(&self, drained: bool);
    /// That node shall lead the shard, or every shard: what is so now, or everything that is in the way.
    fn transfer<'a>(&'a self, shard: Option<u16>, to: &'a str) -> Later<'a, Result<String, Vec<String>>>;
    /// Which feature level the cluster is at, and who knows which.
    fn upgrade(&self) -> Upgrade;
    /// The cluster goes to the newest level that this node's program knows, and not back: what is so now, or everything that is in the way.
    fn finalize<'a>(&'a self, who: &'a str) -> Later<'a, Result<String, Vec<String>>>;
    /// What each of the other nodes says of itself when it is asked for this (`bundle::Itself`): its name, and its answer or why there is none.
    fn of_others(&self, what: &str) -> Later<'_, Vec<Said>>;
    /// Begins a change of who takes part: what was begun, or everything that is in the way. It goes on by itself; `view` shows how far.
    fn reseat<'a>(&'a self, change: Reseat, node: &'a str) -> Later<'a, Result<String, Vec<String>>>;
}

/// A change of who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reseat {
    /// A new node takes the place of the one that had its name.
    Replace,
    /// A new node comes.
    Add,
    /// A node goes, living or not.
    Remove,
}

/// `GET /api/v1/cluster`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct View {
    /// The cluster's name.
    pub name: String,
    /// Its id, 32 hexadecimal digits; none before it was founded.
    pub id: Option<String>,
    /// What this node does: `waiting_for_init`, `starting` or `running`.
    pub phase: Phase,
    /// The worst of the problems: `ok`, `degraded` (it works, somebody should look), `critical` (samples are refused).
    pub health: Health,
    /// All nodes, in the order of the file.
    pub nodes: Vec<Node>,
    /// The node that was asked shall lead nothing.
    pub draining: bool,
    /// What speaks against stopping the node that was asked: then some shard would have no majority. Empty: it is safe.
    pub unsafe_to_stop: Vec<String>,
    /// Nodes come or go: not every shard has its seats yet.
    pub changing: bool,
    /// The shards, the control shard (0) first.
    pub shards: Vec<Shard>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It belongs to no cluster: `sluice cluster init` founds one.
    WaitingForInit,
    /// It waits until every shard has a leader.
    Starting,
    /// It takes samples.
    Running,
}

/// How it is, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// All is well.
    Ok,
    /// It works, and somebody should look.
    Degraded,
    /// Samples are refused.
    Critical,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its id, 16 hexadecimal digits, if known.
    pub id: Option<String>,
    /// Where the others reach it; none for the node that was asked.
    pub address: Option<String>,
    /// `this`, `connected` or `unreachable`.
    pub state: String,
    /// What it is to the cluster: `member`, `joining`, `leaving` or `stranger` (it waits to be admitted); none before the founding.
    pub role: Option<String>,
    /// Why it is unreachable.
    pub reason: Option<String>,
    /// Why it leads nothing that another node can lead: `draining`, `clock` or `slow_disk`; none: it may lead.
    pub aside: Option<String>,
    /// The program's version.
    pub version: Option<String>,
    /// The cluster that it belongs to.
    pub cluster: Option<String>,
    /// Its file says the same as that of the node that was asked.
    pub same_file: Option<bool>,
    /// Its clock less that of the node that was asked, ms.
    pub clock_off_ms: Option<i64>,
    /// Its disk is full to its reserve.
    pub disk_full: Option<bool>,
    /// When its certificate ends, ms since 1970.
    pub certificate_expires: Option<i64>,
    /// When the certificate of its public listener ends, ms since 1970; none: it speaks without TLS.
    pub public_certificate_expires: Option<i64>,
    /// Free bytes of its disk.
    pub free_bytes: Option<u64>,
    /// Below so many it takes no samples.
    pub reserve_bytes: Option<u64>,
    /// Raft's messages to it since the process began.
    pub sent: u64,
    /// Those that were dropped.
    pub dropped: u64,
}

/// A shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Shard {
    /// Which.
    pub shard: u16,
    /// The name of the node that leads it, as the node that was asked knows.
    pub leader: Option<String>,
    /// Who has a vote: names.
    pub voters: Vec<String>,
    /// Who gets the log and has no vote yet: names.
    pub learners: Vec<String>,
    /// Where the last image of another node is of the same entry as that of the node that was asked: whether both are the same. None: nobody's is.
    pub same_state: Option<bool>,
    /// How far each node that was heard of has applied it.
    pub applied: Vec<Applied>,
}

/// How far a node has applied a shard's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// The node's name.
    pub node: String,
    /// Index of the last entry.
    pub index: u64,
    /// Entries that it is behind the first of them.
    pub behind: u64,
}

/// `GET /api/v1/cluster`, or that there is none.
pub fn show(deps: &Deps) -> Result<View, Failure> {
    let mut view = deps.cluster.as_ref().map(|cluster| cluster.view()).ok_or_else(no_cluster)?;
    let settings = (deps.problems)().into_iter().filter(|problem| problem.about == SETTINGS);
    view.problems.extend(settings);
    if view.health == Health::Ok && !view.problems.is_empty() {
        view.health = Health::Degraded;
    }
    Ok(view)
}

/// `POST /api/v1/cluster/init`.
pub async fn init(deps: &Deps) -> Result<Done, Failure> {
    let cluster = deps.cluster.as_ref().ok_or_else(no_cluster)?;
    let refused = |problems: Vec<String>| {
        let remedy = "mend these and run `sluice cluster init` again; it may be repeated as often as you like";
        Failure::new(StatusCode::CONFLICT, "not_founded", format!("the cluster was not founded:\n  {}", problems.join("\n  ")), remedy)
    };
    cluster.init().await.map(|done| Done { done }).map_err(refused)
}

/// `POST /api/v1/cluster/{replace,add,remove}/{name}`.
pub async fn reseat(deps: &Deps, change: Reseat, node: &str) -> Result<Done, Failure> {
    let cluster = deps.cluster.as_ref().ok_or_else(no_cluster)?;
    let refused = |problems: Vec<String>| {
        let text = format!("nothing was changed:\n  {}", problems.join("\n  "));
        Failure::new(StatusCode::CONFLICT, "not_changed", text, "mend these and say it again; it may be repeated as often as you like")
    };
    cluster.reseat(change, node).await.map(|done| Done { done }).map_err(refused)
}

/// The body of `POST /api/v1/cluster/transfer`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Transfer {
    /// None: all.
    shard: Option<u16>,
    to: String,
}

/// `POST /api/v1/cluster/transfer`.
pub async fn transfer(deps: &Deps, body: &[u8]) -> Result<Done, Failure> {
    let cluster = deps.cluster.as_ref().ok_or_else(no_cluster)?;
    let wrong =
        |error| Failure::wrong(format!("the body is not as expected: {error}"), r#"send {"shard": 1, "to": "NAME"}; without a shard: all"#);
    let Transfer { shard, to } = serde_json::from_slice(body).map_err(wrong)?;
    let refused = |problems: Vec<String>| {
        let text = format!("not everything is led by {to}:\n  {}", problems.join("\n  "));
        Failure::new(StatusCode::CONFLICT, "not_transferred", text, "`sluice cluster status` shows who leads what; it may be said again")
    };
    cluster.transfer(shard, &to).await.map(|done| Done { done }).map_err(refused)
}

/// `POST /api/v1/cluster/drain` and `undrain`.
pub fn drain(deps: &Deps, drained: bool) -> Result<Done, Failure> {
    deps.cluster.as_ref().ok_or_else(no_cluster)?.drain(drained);
    let done = if drained {
        "what this node leads goes to the others, /-/ready says 503, connections are closed after their answer"
    } else {
        "this node may lead again"
    };
    Ok(Done { done: done.to_owned() })
}

pub(super) fn no_cluster() -> Failure {
    let remedy = "docs/cluster.md shows how three nodes become one";
    Failure::new(StatusCode::NOT_FOUND, "no_cluster", "this node is a cluster of one: its file has no `cluster:`", remedy)
}

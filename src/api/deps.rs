//! What `api` needs of the rest of the program, as `app` hands it in. `api` may not name `forward` or `ingest` (they stand beside it), so
//! what it shows of them are plain values of its own, in the shape in which they are published (docs/api.md).

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde::Serialize;
use tokio::sync::watch;

use crate::api::cluster::Cluster;
use crate::config::groups::Tenant;
use crate::model::ShardId;
use crate::node;
use crate::node::ReadError;
use crate::node::offer::Applied;
use crate::node::offer::ProposeError;
use crate::node::view::GroupView;
use crate::node::view::NodeStats;
use crate::serve::Response;
use crate::shard::command::Command;
use crate::shard::command::DeadLetter;
use crate::shard::pushed::Groups;
use crate::shard::tokens::Tokens;
use crate::wire::body::Body;

/// Something that will be known later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// From a path and the request's headers to a file, if there is one.
pub type Pages = dyn Fn(&str, &hyper::HeaderMap) -> Option<Response> + Send + Sync;

/// Who has written to a node, as of a time.
pub type Who = dyn Fn(i64) -> Vec<RemoteSender> + Send + Sync;

/// The series of one group that has written to a node, or of all of them, by sample.
pub type Census = dyn Fn(Option<&str>) -> Vec<Sampled> + Send + Sync;

/// Samples from now on, at a point of their way.
pub type Flows = dyn Fn(Tapped) -> Box<dyn Flow> + Send + Sync;

/// Everything that [`crate::api::Api`] is made of.
#[derive(Clone)]
pub struct Deps {
    /// The shards: `Arc::new(handle)`.
    pub node: Arc<dyn Node>,
    /// The sinks.
    pub sinks: Arc<dyn Sinks>,
    /// The state of alerts.
    pub alerting: Arc<crate::api::alerting::Source>,
    /// What is counted of alerts that come in.
    pub alert_counts: crate::api::metrics::Metrics,
    /// What came in.
    pub ingest: Arc<dyn Fn() -> Ingest + Send + Sync>,
    /// Who has written to this node, as of this time.
    pub senders: Arc<Who>,
    /// What is looked at from outside.
    pub probes: Arc<dyn Fn() -> crate::api::probes::Probes + Send + Sync>,
    /// The series of one group that has written to this node, or of all of them, by sample.
    pub census: Arc<Census>,
    /// Samples from now on, at a point of their way.
    pub flow: Arc<Flows>,
    /// The exposition: `Telemetry::render`.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Whether metrics may be pushed here, and by whom.
    pub push: Arc<dyn Fn() -> Pushing + Send + Sync>,
    /// Who probes at somebody's wish.
    pub probe: Arc<dyn crate::api::probe::Prober>,
    /// Prepares everything, then swaps: what changed, or all problems.
    pub reload: Arc<dyn Fn() -> Later<'static, Result<String, Vec<String>>> + Send + Sync>,
    /// The node's file, to be shown without secrets.
    pub file: Option<PathBuf>,
    /// What the node's directory takes and what is left on its disk, for people.
    pub disk: Arc<dyn Fn() -> String + Send + Sync>,
    /// Why the node is not ready; empty: it is.
    pub not_ready: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// What else is wrong and known to `app` (a file that differs from the settings in force, say).
    pub problems: Arc<dyn Fn() -> Vec<Problem> + Send + Sync>,
    /// When the listener's certificate ends, ms since 1970; `None`: it speaks without TLS.
    pub public_certificate_expires: Arc<dyn Fn() -> Option<i64> + Send + Sync>,
    /// Writes all that the node has into a directory.
    pub backup: Arc<dyn Fn(crate::api::backup::Wanted) -> Later<'static, Result<crate::api::backup::Made, Refusal>> + Send + Sync>,
    /// What all nodes agree on; `None`: not yet.
    pub settings: Option<Arc<dyn crate::api::settings::Settings>>,
    /// The other nodes; `None`: there are none.
    pub cluster: Option<Arc<dyn Cluster>>,
    /// The synthetic senders of `sluice dev`.
    pub dev: Option<Arc<dyn DevControls>>,
    /// Pages for people, asked for GET and HEAD before a path counts as unknown: `Arc::new(console::answer)`.
    pub pages: Arc<Pages>,
    /// Turns true when the node stops: streams end.
    pub stopping: watch::Receiver<bool>,
    /// Of the program.
    pub version: &'static str,
    /// `name:` of the configuration.
    pub name: String,
    /// Where remote write, API and page are reached.
    pub listen: SocketAddr,
    /// The wall clock when the process began, ms.
    pub started_ms: i64,
}

/// What the settings say of pushed metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pushing {
    /// They are taken.
    pub enabled: bool,
    /// Where a push's tenant comes from, beside its path and its token.
    pub tenant: Tenant,
}

/// What is asked of the shards. A trait, so that the tests of `api` need no disk.
pub trait Node: Send + Sync {
    /// The data shards.
    fn shards(&self) -> Vec<ShardId>;
    /// All groups, a second old at most.
    fn groups(&self) -> Vec<GroupView>;
    /// Figures.
    fn stats(&self) -> NodeStats;
    /// Resolves when the command has been applied.
    fn propose(&self, shard: ShardId, command: Command) -> Later<'_, Result<Applied, ProposeError>>;
    /// Who may ask.
    fn tokens(&self) -> Arc<Tokens>;
    /// Pushed metrics.
    fn pushed(&self) -> Arc<Groups>;
    /// Dead letters of a sink in a shard after a number, at most so many. Blocking.
    fn dead(&self, shard: ShardId, sink: &str, after: u64, limit: usize) -> Result<Vec<(u64, DeadLetter)>, ReadError>;
}

impl Node for node::Handle {
    fn shards(&self) -> Vec<ShardId> {
        node::Handle::shards(self).to_vec()
    }

    fn groups(&self) -> Vec<GroupView> {
        node::Handle::groups(self)
    }

    fn stats(&self) -> NodeStats {
        node::Handle::stats(self)
    }

    fn propose(&self, shard: ShardId, command: Command) -> Later<'_, Result<Applied, ProposeError>> {
        Box::pin(node::Handle::propose(self, shard, command))
    }

    fn tokens(&self) -> Arc<Tokens> {
        node::Handle::tokens(self)
    }

    fn pushed(&self) -> Arc<Groups> {
        node::Handle::pushed(self)
    }

    fn dead(&self, shard: ShardId, sink: &str, after: u64, limit: usize) -> Result<Vec<(u64, DeadLetter)>, ReadError> {
        node::Handle::dead(self, shard, sink, after, limit)
    }
}

/// What is asked of the sinks.
pub trait Sinks: Send + Sync {
    /// All of them.
    fn list(&self) -> Vec<Sink>;
    /// Rows as they are delivered from now on; `None`: no such sink.
    fn tap(&self, sink: &str) -> Option<Box<dyn Rows>>;
    /// Delivers dead letters again: which were, and why others were not. What was delivered is no dead letter any more.
    fn replay<'a>(&'a self, sink: &'a str, letters: Letters) -> Later<'a, Result<Replayed, Refusal>>;
    /// Goes back to a time, ms since 1970, as far as the log is kept: what was delivered since is delivered once more.
    fn rewind<'a>(&'a self, sink: &'a str, to: i64) -> Later<'a, Result<Vec<Rewound>, Refusal>>;
    /// Sends the sink's receiver one record of its own.
    fn test<'a>(&'a self, sink: &'a str) -> Later<'a, Result<Tried, Refusal>>;
    /// What becomes of a sample at each sink; nothing is sent. An error: the text is no sample.
    fn explain(&self, sample: &str, tenant: Option<&str>) -> Result<Vec<Explained>, String>;
    /// Holds delivery, or lets it go on.
    fn pause<'a>(&'a self, sink: &'a str, paused: bool) -> Later<'a, Result<(), Refusal>>;
}

/// What came of trying a sink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tried {
    /// Its receiver took the record.
    pub delivered: bool,
    /// How long that took, connecting included.
    pub millis: u64,
    /// The record's series.
    pub series: String,
    /// What went wrong.
    pub problem: Option<String>,
}

/// What a rewind came to in a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rewound {
    /// The shard.
    pub shard: u16,
    /// Samples that will be delivered once more.
    pub samples: u64,
    /// From when on, ms since 1970; nothing where nothing is delivered once more.
    pub from: Option<i64>,
    /// What was asked for is older than what is kept.
    pub short: bool,
}

/// What becomes of a sample at a sink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// The sink.
    pub sink: String,
    /// `kafka`, `remote_write`.
    pub kind: String,
    /// Where it writes to.
    pub target: String,
    /// Whether the sample goes out.
    pub taken: bool,
    /// Why not.
    pub why: Option<String>,
    /// Rules that changed something, in order.
    pub steps: Vec<Relabelled>,
    /// As which series it goes out.
    pub series: Option<String>,
    /// What is written; a sample and its series in words where that is no text.
    pub record: Option<String>,
    /// Whose it is told to be, where the sink passes that on.
    pub tenant: Option<String>,
}

/// What a rule did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Relabelled {
    /// Which one, as `relabel_configs[2]`.
    pub rule: String,
    /// Its action.
    pub action: String,
    /// The series behind it.
    pub series: String,
}

/// Which dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Letters {
    /// All that are kept.
    All,
    /// One.
    One {
        /// Its shard.
        shard: u16,
        /// Its number there.
        number: u64,
    },
}

/// What came of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// The shards that had letters.
    pub shards: Vec<ReplayedShard>,
    /// Some were not tried: time was up, or something stood in the way.
    pub more: bool,
}

/// What came of it in one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReplayedShard {
    /// Its number.
    pub shard: u16,
    /// Letters that were delivered.
    pub replayed: u64,
    /// Letters that were tried, and stay.
    pub failed: u64,
    /// The first of these, and why.
    pub letters: Vec<Unsent>,
    /// What ended it before its time.
    pub problem: Option<String>,
}

/// A letter that stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unsent {
    /// Its number in its shard.
    pub number: u64,
    /// Why it was not delivered.
    pub reason: String,
}

/// Why something asked for was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such thing.
    Unknown,
    /// It cannot be done as things are (409): why, and what to do.
    Conflict {
        /// Why.
        text: String,
        /// What to do.
        remedy: String,
    },
    /// Not now (503): why.
    Later(String),
}

/// Rows that a sink delivers.
pub trait Rows: Send {
    /// The next one, without a line feed; `None`: the sink is gone. Dropping the future loses no row.
    fn next(&mut self) -> Later<'_, Option<Bytes>>;
}

/// A point of the samples' way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// At the door: all that came, and what the sender was told.
    In,
    /// What went on to the sinks.
    Passed,
    /// What waits for another replica's copy.
    Waiting,
    /// What did not go on.
    Covered,
}

/// What is read along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tapped {
    /// Where.
    pub point: Point,
    /// Of this group alone.
    pub group: Option<String>,
}

/// Samples at a point of their way.
pub trait Flow: Send {
    /// The next ones; `None`: the node is gone. Dropping the future may lose some.
    fn next(&mut self) -> Later<'_, Option<Passing>>;
}

/// Samples that passed a point together.
#[derive(Debug, Default)]
pub struct Passing {
    /// By request.
    pub parts: Vec<Part>,
    /// What could not be shown since the last one: batches, requests or samples.
    pub missed: u64,
}

/// Samples of one request.
#[derive(Debug)]
pub struct Part {
    /// The group.
    pub group: String,
    /// The replica.
    pub replica: String,
    /// The request.
    pub body: Arc<Body>,
    /// Which of its points, ascending, and what was decided.
    pub items: Vec<(u32, Mark)>,
}

/// What was decided of a sample, and why, in fixed words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// `taken`, `put_off`, `refused`, `passed`, `waiting`, `covered`.
    pub verdict: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// The synthetic senders of `sluice dev`.
pub trait DevControls: Send + Sync {
    /// All of them.
    fn list(&self) -> Vec<Sender>;
    /// Stops or starts one.
    fn set<'a>(&'a self, name: &'a str, running: bool) -> Later<'a, Result<(), Refusal>>;
}

/// A synthetic sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sender {
    /// Its name: the group, a slash, the replica.
    pub name: String,
    /// The group it writes as.
    pub group: String,
    /// The replica it writes as.
    pub replica: String,
    /// Whether it sends.
    pub running: bool,
    /// Samples a second that it sends when it runs.
    pub samples_per_second: u64,
}

/// Who writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RemoteSender {
    /// The group as which it writes; empty: it was refused before that was known.
    pub group: String,
    /// The replica.
    pub replica: String,
    /// Where its last request came from.
    pub address: String,
    /// Its `User-Agent`.
    pub agent: String,
    /// `1.0` or `2.0`.
    pub protocol: Option<String>,
    /// Samples taken of it, over some half a minute.
    pub samples_per_second: f64,
    /// How old its newest sample was when it came, ms.
    pub lag_ms: Option<i64>,
    /// When its last request came.
    pub last_seen: i64,
    /// Open connections.
    pub connections: u64,
    /// Requests.
    pub requests: u64,
    /// Samples taken.
    pub samples: u64,
    /// Samples refused for good.
    pub refused: u64,
    /// Requests that it had sent before.
    pub repeated: u64,
    /// Requests answered 503.
    pub put_off: u64,
    /// What its series lack to say whose they are.
    pub missing: Option<String>,
    /// The last answer that was not 2xx.
    pub last_refusal: Option<LastRefusal>,
}

/// An answer that was not 2xx.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRefusal {
    /// When.
    pub at: i64,
    /// The status.
    pub status: u16,
    /// Why.
    pub text: String,
}

/// A sample of a group's series: all with hashes below a bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampled {
    /// The group.
    pub group: String,
    /// Since when it is watched.
    pub since: i64,
    /// The bound; `u64::MAX`: there are no others.
    pub below: u64,
    /// The series.
    pub series: Vec<SampledSeries>,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampledSeries {
    /// Its hash, by the cluster's seed.
    pub hash: u64,
    /// Its labels, without the replica's.
    pub labels: Vec<(String, String)>,
    /// When it was first seen.
    pub first: i64,
    /// It was not there before.
    pub fresh: bool,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// A short fixed word.
    pub code: String,
    /// What it is about: `group monitoring/k8s`, `sink platform`, `disk`.
    pub about: String,
    /// What is wrong.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
}

/// How bad a problem is; the worst come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Samples are refused, lost, or will be.
    Error,
    /// Something will go wrong, or went wrong and is over.
    Warning,
    /// Worth knowing.
    Note,
}

/// What came in since the process began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ingest {
    /// Requests of remote write.
    pub requests: u64,
    /// Samples taken.
    pub samples: u64,
    /// Samples refused, by reason.
    pub refused: Vec<Counted>,
    /// Requests that could not be taken now (503), by reason.
    pub unable: Vec<Counted>,
    /// Series that do not say whose they are, by what is missing.
    pub unidentified: Vec<Counted>,
    /// Bytes of requests under way.
    pub in_flight_bytes: u64,
    /// The most that may be.
    pub in_flight_limit: u64,
    /// Open connections.
    pub connections: u64,
}

/// A number with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// A short fixed word.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// One sink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sink {
    /// Its name.
    pub name: String,
    /// `kafka` or `remote_write`.
    pub kind: String,
    /// Where to, for people.
    pub target: String,
    /// `rows`, `row` or `adapter`.
    pub format: String,
    /// `exactly_once` or `at_least_once`.
    pub delivery: String,
    /// Its shards, ascending.
    pub shards: Vec<SinkShard>,
    /// Rows that slow readers of `tap` missed.
    pub tap_missed: u64,
}

/// One sink in one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SinkShard {
    /// The shard.
    pub shard: u16,
    /// `elsewhere`, `connecting`, `running`, `troubled`, `paused` or `stopped`.
    pub phase: String,
    /// The position's epoch.
    pub epoch: u64,
    /// The last emission that is delivered.
    pub position: u64,
    /// Samples since the sink was added: delivered for good.
    pub delivered: u64,
    /// Not wanted by the sink.
    pub filtered: u64,
    /// Refused by it for good.
    pub dead: u64,
    /// Let go by its budget.
    pub dropped: u64,
    /// Emitted and not delivered yet.
    pub pending: u64,
    /// Bytes of the log that stay for it.
    pub pending_bytes: u64,
    /// Age of the oldest that is not delivered, ms.
    pub lag_ms: i64,
    /// Its budget, bytes.
    pub budget_bytes: u64,
    /// At the present rate the budget is used up in so many seconds.
    pub seconds_left: Option<u64>,
    /// What stops rows.
    pub trouble: Option<Trouble>,
    /// What is worth knowing, newest last.
    pub notes: Vec<Trouble>,
}

/// Something wrong with a sink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// A short fixed word.
    pub code: String,
    /// What is wrong.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
    /// Since when, ms since 1970.
    pub since: i64,
}

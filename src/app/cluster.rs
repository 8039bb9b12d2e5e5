//! A node as one of several: from its files to its part in the cluster, and what it says meanwhile. Until every shard has a leader for the first
//! time there is nobody to decide on samples: remote write is answered 503, everything else says what is being waited for.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use crate::api::cluster::Applied;
use crate::api::cluster::BEHIND;
use crate::api::cluster::Cluster;
use crate::api::cluster::Health;
use crate::api::cluster::Node as NodeView;
use crate::api::cluster::Phase;
use crate::api::cluster::Reseat;
use crate::api::cluster::Said;
use crate::api::cluster::Shard;
use crate::api::cluster::View;
use crate::api::deps::Later;
use crate::api::deps::Problem;
use crate::api::deps::Severity;
use crate::api::upgrade::Upgrade;
use crate::app;
use crate::app::Fault;
use crate::app::backup;
use crate::app::certificates;
use crate::app::leadership;
use crate::app::recover;
use crate::app::removal;
use crate::app::seats::role_of;
use crate::app::settings;
use crate::clock;
use crate::config::Config;
use crate::model::ShardId;
use crate::node::Handle;
use crate::node::offer::ProposeError;
use crate::node::peers::Together;
use crate::node::start::Node;
use crate::peer::Common;
use crate::peer::Peering;
use crate::peer::Plan;
use crate::peer::hello::Standing;
use crate::peer::link::Sight;
use crate::secret::NodeSecrets;
use crate::shard::command::Command;
use crate::shard::members::Node as Seat;
use crate::shard::members::Role;
use crate::shard::tokens::NewToken;

/// Between two tries to propose the first token, while leaders change.
const AGAIN: Duration = Duration::from_millis(500);
/// Tries to propose the first token: as long as settings, which come next, are usually waited for.
const FIRST_TOKEN_TRIES: usize = 60;
/// A certificate that ends sooner is a problem, ms.
const EXPIRES_SOON_MS: i64 = 30 * 86_400_000;
/// A clock that differs by more is a problem, ms.
pub(super) const CLOCK_OFF_MS: i64 = 2_000;

/// A node's part in a cluster.
pub struct Membership {
    peering: Option<Peering>,
    /// The node has the data of a cluster of one.
    grows: bool,
    /// Turns true: nobody need wait any longer.
    quit: watch::Receiver<bool>,
    /// For the API.
    pub seen: Arc<Seen>,
}

/// What is to be seen of the cluster from here.
pub struct Seen {
    pub(super) common: Arc<Common>,
    name: String,
    /// Where nodes reach each other, as this node's file says it, by name.
    addresses: BTreeMap<String, String>,
    pub(super) node: OnceLock<Handle>,
    running: AtomicBool,
    /// This node's clock is off the others': it does not lead.
    pub(super) clock_wrong: AtomicBool,
    /// The others say that this node was removed.
    pub(super) removed: AtomicBool,
}

/// Whether there is data in the directory, of a cluster of one or of several.
fn has_data(data_dir: &Path) -> bool {
    data_dir.join("identity.json").exists() || data_dir.join("db").exists()
}

impl Membership {
    /// Listens for peers and begins to connect; `None`: the file has no `cluster:`.
    pub async fn start(config: &Config, quit: watch::Receiver<bool>) -> Result<Option<Membership>, Fault> {
        let secrets = NodeSecrets::read(&config.data_dir).map_err(|error| Fault::Start(error.to_string()))?;
        let Some(cluster) = &config.cluster else {
            if secrets.is_some() {
                let text = "this node joined a cluster, but its file has no `cluster:`; write it, as on the other nodes".to_owned();
                return Err(Fault::Start(text));
            }
            return Ok(None);
        };
        let Some(secrets) = secrets else {
            let text = "this node has no certificate yet. `sluice cluster prepare` on one node makes a bundle; `sluice cluster join BUNDLE` on each \
                        makes the node's certificate from it"
                .to_owned();
            return Err(Fault::Start(text));
        };
        let expired = secrets.card.expires_ms < clock::wall_ms();
        if expired {
            return Err(Fault::Start("this node's certificate has expired; `sluice cluster join BUNDLE` makes a new one".to_owned()));
        }
        let grows = app::identity(&config.data_dir).is_ok_and(|id| id == Some(secrets.id));
        let plan = Plan {
            cluster: cluster.clone(),
            secrets,
            data_dir: config.data_dir.clone(),
            data_shards: config.shards,
            agreed: config.agreed(),
            data: has_data(&config.data_dir),
        };
        let peering = Peering::start(plan).await.map_err(Fault::Start)?;
        let seen = Arc::new(Seen {
            common: Arc::clone(&peering.common),
            name: config.name.clone(),
            addresses: cluster.nodes.iter().map(|node| (node.name.clone(), node.address.clone())).collect(),
            node: OnceLock::new(),
            running: AtomicBool::new(false),
            clock_wrong: AtomicBool::new(false),
            removed: AtomicBool::new(false),
        });
        Ok(Some(Membership { peering: Some(peering), grows, quit, seen }))
    }

    /// Nobody need found it any more: it was, or this node brings what it is.
    pub fn is_founded(&self) -> bool {
        self.grows || self.seen.common.charter().is_some()
    }

    /// Waits until the cluster is founded.
    pub async fn founded(&self) -> Result<Together, Fault> {
        let common = &self.seen.common;
        if common.charter().is_none() && self.grows {
            tracing::info!(
                "this node was a cluster of one and keeps its data: it is the first node of the cluster; `sluice cluster add` adds the others"
            );
            return Ok(common.together_alone());
        }
        if common.charter().is_none() {
            tracing::info!("this node belongs to no cluster yet: `sluice cluster init` founds one, once all nodes are there");
        }
        let mut quit = self.quit.clone();
        let charter = tokio::select! {
            charter = common.founded() => charter,
            _ = quit.wait_for(|quit| *quit) => return Err(Fault::Quit),
        };
        common.together(&charter).map_err(Fault::Start)
    }

    /// The shards run. Waits until each has a leader, and until they have settings.
    /// Says what is in force.
    pub async fn ready(&self, node: &Node, config: &Config, mut fatal: watch::Receiver<Option<String>>) -> Result<Config, Fault> {
        let handle = &node.handle;
        self.seen.common.begun(handle.clone()).map_err(Fault::Start)?;
        let _ = self.seen.node.set(handle.clone());
        let settled = async {
            handle.ready().await.map_err(|error| Fault::Start(error.to_string()))?;
            if let Some(founding) = handle.founding().filter(|_| self.seen.common.charter().is_none()) {
                self.seen.common.adopt(founding).map_err(Fault::Start)?;
            }
            if self.seen.common.charter().is_some_and(|charter| charter.recovered) {
                let own = Seat { id: self.seen.common.id(), name: self.seen.common.name().to_owned(), role: Role::Member };
                recover::settle(handle, own).await.map_err(|error| Fault::Start(error.to_string()))?;
                self.seen.common.end_recovery().map_err(Fault::Start)?;
            }
            backup::settle(handle, &config.data_dir).await?;
            self.begin_with_token(handle).await;
            settings::at_start(handle, config, self.seen.common.name(), false).await
        };
        let mut quit = self.quit.clone();
        let in_force = tokio::select! {
            _ = quit.wait_for(|quit| *quit) => return Err(Fault::Quit),
            reason = fatal.wait_for(Option::is_some) => {
                let reason = reason.ok().and_then(|reason| reason.clone());
                return Err(Fault::Ended(reason.unwrap_or_else(|| "the shards ended".to_owned())));
            }
            settled = settled => settled?,
        };
        self.seen.running.store(true, Ordering::Release);
        Ok(in_force)
    }

    /// Proposes the token that the cluster begins with, as `prepare` made it: all nodes do, and the first one counts, whenever that is. Not taken
    /// (leaders change): whoever operates the node can still make one, and the next start tries again.
    async fn begin_with_token(&self, handle: &Handle) {
        let Some(first) = self.seen.common.first_token().filter(|_| handle.tokens().never_any()) else { return };
        let Some(hash) = first.hash() else {
            return tracing::warn!("the hash of the first token is damaged; `sluice token create NAME` on this node makes another one");
        };
        let new = NewToken {
            name: "first".to_owned(),
            hash,
            hint: first.hint,
            by: "cluster prepare".to_owned(),
            first: true,
            ..NewToken::default()
        };
        for _ in 0..FIRST_TOKEN_TRIES {
            match handle.propose(ShardId::CONTROL, Command::CreateToken(new.clone())).await {
                // Void: another node's came first.
                Ok(_) | Err(ProposeError::Void(_)) => return,
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
        tracing::warn!("the first token was not taken; `sluice token create NAME` on this node makes another one");
    }

    /// Closes the connections; the shards have stopped.
    pub async fn stop(mut self) {
        if let Some(peering) = self.peering.take() {
            peering.stop().await;
        }
    }
}

impl Seen {
    /// Whether this node has applied all of the control shard that it can know of: there is a leader, a majority is greeted, and nobody said that it
    /// has come further. What it does not know then, nobody knew a second ago.
    pub fn control_is_current(&self) -> bool {
        let control = |shards: &[Standing]| shards.iter().find(|standing| standing.shard == ShardId::CONTROL.0).cloned();
        let Some(own) = control(&self.common.hello().shards).filter(|standing| standing.leader.is_some()) else { return false };
        let sights = self.common.links().iter().map(|link| link.sight());
        let greeted: Vec<Option<Standing>> = sights
            .filter_map(|sight| match sight {
                Sight::Greeted { hello, .. } => Some(control(&hello.shards)),
                Sight::Unreachable(_) => None,
            })
            .collect();
        2 * (greeted.len() + 1) > self.common.names().len() && greeted.iter().flatten().all(|other| other.applied <= own.applied)
    }

    /// All nodes that take part, by name, and where the others reach each; empty for one that this node's file does not name.
    pub fn places(&self) -> Vec<(String, String)> {
        let placed = |name: String| {
            let address = self.addresses.get(&name).cloned().unwrap_or_default();
            (name, address)
        };
        self.roles().nodes.into_iter().map(|node| placed(node.name)).collect()
    }

    /// What links and door share.
    pub fn common(&self) -> Arc<Common> {
        Arc::clone(&self.common)
    }

    fn phase(&self) -> Phase {
        match (self.common.charter().is_some(), self.running.load(Ordering::Acquire)) {
            (false, _) => Phase::WaitingForInit,
            (true, false) => Phase::Starting,
            (true, true) => Phase::Running,
        }
    }

    /// What a node that does not take samples yet waits for.
    pub fn waits_for(&self) -> Vec<String> {
        if let Some(removed) = self.removed() {
            return vec![removed];
        }
        let greeted: Vec<&str> = self
            .common
            .links()
            .iter()
            .filter(|link| matches!(link.sight(), Sight::Greeted { .. }))
            .map(|link| &*link.member.name)
            .collect();
        let sees = if greeted.is_empty() { "no other node".to_owned() } else { greeted.join(", ") };
        match self.phase() {
            Phase::WaitingForInit => match self.others_cluster() {
                None => vec![format!("this node belongs to no cluster yet (`sluice cluster init`); it sees {sees}")],
                Some(cluster) => vec![format!(
                    "the other nodes are cluster {cluster}, and this node waits to be admitted (`sluice cluster replace {0}` or `sluice cluster add {0}`, asked of one of them); it sees {sees}",
                    self.common.name()
                )],
            },
            Phase::Starting => vec![format!("not every shard has a leader yet; this node sees {sees}")],
            Phase::Running => Vec::new(),
        }
    }

    fn nodes(&self) -> Vec<(NodeView, Vec<Standing>)> {
        let own = self.common.hello();
        let charter = self.common.charter();
        let node = |name: &String| {
            let known =
                charter.as_ref().and_then(|charter| charter.nodes.iter().find(|node| node.name == *name)).map(|node| node.id.clone());
            let Some(link) = self.common.links().iter().find(|link| link.member.name == *name) else {
                let view = NodeView {
                    name: name.clone(),
                    id: Some(own.node.clone()),
                    state: "this".to_owned(),
                    version: Some(own.version.clone()),
                    aside: own.aside.clone(),
                    free_bytes: own.free_bytes,
                    reserve_bytes: own.reserve_bytes,
                    cluster: own.cluster.clone(),
                    disk_full: Some(own.disk_full),
                    certificate_expires: Some(own.expires_ms),
                    public_certificate_expires: own.public_expires_ms,
                    ..NodeView::default()
                };
                return (view, own.shards.clone());
            };
            let (sent, dropped) = link.figures();
            let address = Some(link.member.address.clone());
            let view = NodeView { name: name.clone(), id: known, address, sent, dropped, ..NodeView::default() };
            match link.sight() {
                Sight::Unreachable(reason) => (NodeView { state: "unreachable".to_owned(), reason: Some(reason), ..view }, Vec::new()),
                Sight::Greeted { hello, clock_off_ms } => {
                    let view = NodeView {
                        state: "connected".to_owned(),
                        id: Some(hello.node),
                        version: Some(hello.version),
                        aside: hello.aside,
                        free_bytes: hello.free_bytes,
                        reserve_bytes: hello.reserve_bytes,
                        cluster: hello.cluster,
                        same_file: Some(hello.agreed == own.agreed),
                        clock_off_ms: Some(clock_off_ms),
                        disk_full: Some(hello.disk_full),
                        certificate_expires: Some(hello.expires_ms),
                        public_certificate_expires: hello.public_expires_ms,
                        ..view
                    };
                    (view, hello.shards)
                }
            }
        };
        let roles = self.roles();
        let with_role = |(view, shards): (NodeView, Vec<Standing>)| {
            let role = view.id.as_ref().filter(|_| charter.is_some()).map(|id| role_of(&roles, id));
            (NodeView { role, ..view }, shards)
        };
        self.common.names().iter().map(node).map(with_role).collect()
    }

    fn shards(&self, nodes: &[(NodeView, Vec<Standing>)]) -> Vec<Shard> {
        let own = nodes.iter().find(|(node, _)| node.state == "this").map(|(_, shards)| shards.as_slice()).unwrap_or_default();
        let name_of = |id: &String| nodes.iter().find(|(node, _)| node.id.as_ref() == Some(id)).map(|(node, _)| node.name.clone());
        let shard = |standing: &Standing| {
            let of = |shards: &[Standing]| shards.iter().find(|other| other.shard == standing.shard).map(|other| other.applied);
            let all: Vec<(String, u64)> = nodes.iter().filter_map(|(node, shards)| Some((node.name.clone(), of(shards)?))).collect();
            let first = all.iter().map(|(_, applied)| *applied).max().unwrap_or(0);
            let seats = self.node.get().map(|node| node.seats(ShardId(standing.shard))).unwrap_or_default();
            let names = |ids: &[u64]| ids.iter().map(|id| self.name_of(*id)).collect();
            Shard {
                shard: standing.shard,
                leader: standing.leader.as_ref().and_then(name_of),
                same_state: same_state(standing, nodes),
                voters: names(&seats.voters),
                learners: names(&seats.learners),
                applied: all.into_iter().map(|(node, index)| Applied { node, index, behind: first - index }).collect(),
            }
        };
        own.iter().map(shard).collect()
    }
}

/// Whether the others' images of the same entry are the same as ours. Pure.
fn same_state(own: &Standing, nodes: &[(NodeView, Vec<Standing>)]) -> Option<bool> {
    let others = nodes.iter().filter(|(node, _)| node.state != "this").flat_map(|(_, shards)| shards);
    let mut same =
        others.filter(|other| own.image > 0 && (other.shard, other.image) == (own.shard, own.image)).map(|other| other.hash == own.hash);
    let first = same.next()?;
    Some(first && same.all(|same| same))
}

pub(super) fn problem(severity: Severity, code: &str, about: String, text: String, remedy: &str) -> Problem {
    Problem { severity, code: code.to_owned(), about, text, remedy: remedy.to_owned() }
}

/// What is wrong, by what there is to be seen. Pure.
fn problems(phase: Phase, nodes: &[NodeView], shards: &[Shard], now: i64) -> Vec<Problem> {
    let mut found = Vec::new();
    if phase == Phase::WaitingForInit {
        let text = "this node belongs to no cluster yet: samples are answered 503, the senders keep them".to_owned();
        let remedy = "`sluice cluster init` on one node, once all nodes are connected";
        found.push(problem(Severity::Error, "not_founded", "cluster".into(), text, remedy));
    }
    let leaderless: Vec<String> = shards.iter().filter(|shard| shard.leader.is_none()).map(|shard| shard.shard.to_string()).collect();
    if !leaderless.is_empty() {
        let text = format!("shards {} have no leader: their samples are answered 503, the senders keep them", leaderless.join(", "));
        let remedy = "an election takes some two seconds; if it lasts, a majority of the nodes is not there: start them, look at the network between them";
        found.push(problem(Severity::Error, "no_leader", "cluster".into(), text, remedy));
    }
    for shard in shards.iter().filter(|shard| shard.same_state == Some(false)) {
        let text = format!("the state of shard {} is not the same on all nodes", shard.shard);
        let remedy = "keep the data directories of all nodes and report this; a node that is alone with its state stops by itself, and is then to be replaced";
        found.push(problem(Severity::Error, "state_differs", "cluster".into(), text, remedy));
    }
    let own_cluster = nodes.iter().find(|node| node.state == "this").and_then(|node| node.cluster.as_deref());
    for node in nodes {
        let about = || format!("node {}", node.name);
        if let Some(reason) = &node.reason {
            let text = format!("it cannot be reached: {reason}");
            let remedy =
                "start it, or look at the network; the log is kept for it until it is back, which takes room on the disks of the others";
            found.push(problem(Severity::Warning, "node_unreachable", about(), text, remedy));
        }
        found.extend(removal::stranger(node, own_cluster));
        found.extend(leadership::slow_disk(node));
        if node.same_file == Some(false) {
            let text = "its file differs from this node's in name, shards, cluster.nodes, groups or sinks".to_owned();
            found.push(problem(Severity::Warning, "file_differs", about(), text, "copy one file to all nodes, then reload each"));
        }
        if node.disk_full == Some(true) {
            let text =
                "its disk is full to its reserve: it leads nothing that another node can lead, and below half of it takes no more samples";
            let remedy = "free space on it, it goes on by itself; once the nodes with room are no majority samples are answered 503";
            found.push(problem(Severity::Warning, "node_disk_full", about(), text.to_owned(), remedy));
        }
        if let Some(off) = node.clock_off_ms.filter(|off| off.abs() > CLOCK_OFF_MS) {
            found.push(problem(Severity::Warning, "clock", about(), format!("its clock differs by {off} ms"), "set both clocks by NTP"));
        }
        if let Some(left) = node.certificate_expires.map(|expires| expires - now).filter(|left| *left < EXPIRES_SOON_MS) {
            let text = format!("its certificate ends in {} days", left.max(0) / 86_400_000);
            let remedy = "`sluice cluster join BUNDLE` on that node makes a new one, which it takes by itself";
            found.push(problem(Severity::Warning, "certificate", about(), text, remedy));
        }
        found.extend(node.public_certificate_expires.and_then(|ends| certificates::ends_soon(about(), ends, now)));
        let behind =
            shards.iter().flat_map(|shard| &shard.applied).filter(|applied| applied.node == node.name).map(|applied| applied.behind).max();
        if let Some(behind) = behind.filter(|behind| *behind > BEHIND) {
            let text = format!("it is {behind} entries behind the others");
            found.push(problem(
                Severity::Warning,
                "behind",
                about(),
                text,
                "it catches up by itself; if it does not, look at its disk and its CPU",
            ));
        }
    }
    found
}

/// What speaks against stopping the node that was asked. Pure.
fn unsafe_to_stop(nodes: &[NodeView], shards: &[Shard]) -> Vec<String> {
    let others: Vec<&str> = nodes.iter().filter(|node| node.state == "connected").map(|node| node.name.as_str()).collect();
    let stays = |shard: &Shard| {
        let well = |name: &&String| {
            let behind = shard.applied.iter().find(|applied| applied.node == **name).map(|applied| applied.behind);
            others.contains(&name.as_str()) && behind.is_some_and(|behind| behind <= BEHIND)
        };
        let there = shard.voters.iter().filter(well).count();
        (2 * there <= shard.voters.len())
            .then(|| format!("shard {}: of its {} members only {there} would be there and up to date", shard.shard, shard.voters.len()))
    };
    shards.iter().filter_map(stays).collect()
}

impl Cluster for Seen {
    fn view(&self) -> View {
        let nodes = self.nodes();
        let shards = self.shards(&nodes);
        let nodes: Vec<NodeView> = nodes.into_iter().map(|(node, _)| node).collect();
        let phase = self.phase();
        let draining = self.node.get().is_some_and(Handle::is_draining);
        let unsafe_to_stop = unsafe_to_stop(&nodes, &shards);
        let changing = self.node.get().is_some_and(|node| !node.nodes().is_settled());
        let mut problems = problems(phase, &nodes, &shards, clock::wall_ms());
        problems.extend(self.removal_problem());
        if self.clock_wrong.load(Ordering::Acquire) {
            let text = "this node's clock is off the median of the cluster's by more than 2 s: it leads nothing that another node can lead"
                .to_owned();
            problems.push(problem(Severity::Warning, "own_clock", "this node".into(), text, "set it by NTP"));
        }
        let health = match problems.iter().map(|problem| problem.severity).min() {
            Some(Severity::Error) => Health::Critical,
            Some(_) => Health::Degraded,
            None => Health::Ok,
        };
        View {
            name: self.name.clone(),
            id: self.common.cluster(),
            phase,
            health,
            nodes,
            draining,
            unsafe_to_stop,
            changing,
            shards,
            problems,
        }
    }

    fn init(&self) -> Later<'_, Result<String, Vec<String>>> {
        Box::pin(self.common.init())
    }

    fn drain(&self, drained: bool) {
        if let Some(node) = self.node.get() {
            node.drain(drained);
        }
    }

    fn transfer<'a>(&'a self, shard: Option<u16>, to: &'a str) -> Later<'a, Result<String, Vec<String>>> {
        Box::pin(self.transfer_to(shard, to))
    }

    fn upgrade(&self) -> Upgrade {
        self.upgrade_view()
    }

    fn finalize<'a>(&'a self, who: &'a str) -> Later<'a, Result<String, Vec<String>>> {
        Box::pin(self.go_up(who))
    }

    fn of_others(&self, what: &str) -> Later<'_, Vec<Said>> {
        let what = what.to_owned();
        Box::pin(async move { self.common.of_others(&what).await })
    }

    fn reseat<'a>(&'a self, change: Reseat, node: &'a str) -> Later<'a, Result<String, Vec<String>>> {
        Box::pin(self.change_seats(change, node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_and_the_worst_decides() {
        let well = NodeView { name: "a".into(), state: "this".into(), certificate_expires: Some(i64::MAX / 2), ..NodeView::default() };
        let shard = |leader: Option<&str>, behind| Shard {
            shard: 1,
            leader: leader.map(Into::into),
            applied: vec![Applied { node: "a".into(), index: 9, behind }],
            ..Shard::default()
        };
        let codes = |phase, node: NodeView, shard: Shard| -> Vec<String> {
            problems(phase, &[node], &[shard], 0).into_iter().map(|problem| problem.code).collect()
        };
        assert_eq!(codes(Phase::Running, well.clone(), shard(Some("a"), 0)), Vec::<String>::new());
        assert_eq!(codes(Phase::WaitingForInit, well.clone(), shard(Some("a"), 0)), ["not_founded"]);
        assert_eq!(codes(Phase::Running, well.clone(), shard(None, 0)), ["no_leader"]);
        assert_eq!(codes(Phase::Running, well.clone(), shard(Some("a"), 1 << 20)), ["behind"]);
        let bad = NodeView {
            reason: Some("refused".into()),
            same_file: Some(false),
            clock_off_ms: Some(-2_001),
            certificate_expires: Some(86_400_000),
            public_certificate_expires: Some(-1),
            ..well
        };
        let expected = ["node_unreachable", "file_differs", "clock", "certificate", "public_certificate"];
        assert_eq!(codes(Phase::Running, bad, shard(Some("a"), 0)), expected);
    }
}

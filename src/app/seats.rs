//! Who takes part in the cluster, as an operator changes it: `replace`, `add` and `remove` write the wanted list of nodes into the control shard,
//! and the shards' leaders see to the rest (`node`). Here is what must hold before such a change is begun, and the record that every node keeps.
//!
//! Left out on purpose: the order of changes (`shard::members`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use crate::api::cluster::Reseat;
use crate::app::cluster::CLOCK_OFF_MS;
use crate::app::cluster::Seen;
use crate::app::metrics::Peer;
use crate::failpoint;
use crate::model::ShardId;
use crate::node::Handle;
use crate::peer::charter::Founder;
use crate::peer::hello::Hello;
use crate::peer::link::Link;
use crate::peer::link::Sight;
use crate::shard::command::Command;
use crate::shard::members::Node;
use crate::shard::members::Nodes;
use crate::shard::members::Role;

/// How often the list of nodes is compared with the record of it.
const LOOK: Duration = Duration::from_millis(500);

/// Keeps the record as the list of nodes is, until the end.
pub async fn keep(node: Handle, seen: Arc<Seen>, mut stop: watch::Receiver<bool>) {
    loop {
        if let Err(why) = seen.common.follow(&node.nodes()) {
            tracing::warn!("the record of the cluster cannot be written: {why}");
        }
        seen.mind_clock(&node);
        seen.compare_states(&node);
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = async { seen.admit_comers(&node).await; tokio::time::sleep(LOOK).await } => {}
        }
    }
}

/// In a word, by the list of nodes.
pub(super) fn role_of(nodes: &Nodes, id: &str) -> String {
    let role = nodes.nodes.iter().find(|node| format!("{:016x}", node.id) == id).map(|node| node.role);
    match role {
        Some(Role::Member) => "member",
        Some(Role::Joining) => "joining",
        Some(Role::Leaving) => "leaving",
        None => "stranger",
    }
    .to_owned()
}

/// The list as it shall be, or what is in the way.
fn wanted(nodes: &Nodes, change: Reseat, name: &str, id: Option<u64>) -> Result<Nodes, String> {
    let named = |node: &&Node| node.name == name && node.role != Role::Leaving;
    let old = nodes.nodes.iter().find(named);
    let mut next = Nodes { version: nodes.version + 1, nodes: nodes.nodes.clone() };
    match (change, old, id) {
        (Reseat::Replace, None, _) => return Err(format!("no node of the cluster is called {name}; `sluice cluster add {name}` adds one")),
        (Reseat::Add, Some(_), _) => return Err(format!("a node called {name} is there; `sluice cluster replace {name}` replaces it")),
        (Reseat::Remove, None, _) => return Err(format!("no node of the cluster is called {name}")),
        (Reseat::Replace, Some(old), Some(id)) if old.id == id => {
            return Err(format!(
                "{name} is the node that it was; to replace it, stop it, give it an empty data_dir, `sluice cluster join BUNDLE` and start it"
            ));
        }
        _ => {}
    }
    if change != Reseat::Add {
        next.nodes.iter_mut().filter(|node| node.name == name).for_each(|node| node.role = Role::Leaving);
    }
    if let Some(id) = id.filter(|_| change != Reseat::Remove) {
        next.nodes.push(Node { id, name: name.to_owned(), role: Role::Joining });
    }
    match next.wrong() {
        Some(wrong) => Err(wrong.to_owned()),
        None => Ok(next),
    }
}

/// A change that has to be done before this one may begin. Whoever dies on its way in, perhaps with its disk, would never be done: it may be replaced or
/// removed meanwhile.
fn under_way(nodes: &Nodes, change: Reseat, name: &str) -> Option<String> {
    let mut joining = nodes.nodes.iter().filter(|node| node.role == Role::Joining).peekable();
    if nodes.is_settled() || change != Reseat::Add && joining.peek().is_some() && joining.all(|node| node.name == name) {
        return None;
    }
    let whose: Vec<&str> = nodes.nodes.iter().filter(|node| node.role != Role::Member).map(|node| node.name.as_str()).collect();
    Some(format!(
        "another change is under way, of {}; `sluice cluster status` shows how far it is, and a node that is lost on its way in may be replaced or \
         removed",
        whose.join(" and ")
    ))
}

/// What a node must be before it is admitted.
fn unfit(hello: &Hello, own: &Hello) -> Vec<String> {
    let name = &hello.name;
    let all = [
        (hello.cluster.is_some() && hello.cluster != own.cluster, "it belongs to another cluster".to_owned()),
        (hello.data && hello.cluster.is_none(), "it has data; a node is admitted empty (remove its data_dir and join again)".to_owned()),
        (hello.version != own.version, format!("it runs version {}, this node {}", hello.version, own.version)),
        (
            hello.agreed != own.agreed,
            "its configuration differs in name, shards, cluster.nodes, groups or sinks; copy one file to all nodes".to_owned(),
        ),
    ];
    all.into_iter().filter(|(wrong, _)| *wrong).map(|(_, why)| format!("{name}: {why}")).collect()
}

/// How far this node's clock is from the median of all, given how far the others' are from it, ms.
fn off_median(others: &[i64]) -> i64 {
    let mut all: Vec<i64> = others.iter().copied().chain([0]).collect();
    all.sort_unstable();
    let middle = all.len() / 2;
    let median = if all.len() % 2 == 1 { all[middle] } else { (all[middle - 1] + all[middle]) / 2 };
    -median
}

/// Whether this node is alone with what it holds: at least two others took the image of the same entry, and theirs are the same.
fn is_alone(own: (u64, &str), others: &[(u64, &str)]) -> bool {
    let mut same_entry = others.iter().filter(|(index, _)| own.0 > 0 && *index == own.0).map(|(_, hash)| *hash);
    let Some(first) = same_entry.next() else { return false };
    let mut count = 1;
    same_entry.all(|hash| {
        count += 1;
        hash == first
    }) && count >= 2
        && first != own.1
}

impl Seen {
    fn greeted(&self) -> Vec<(Hello, i64)> {
        let greeted = self.common.links().iter().filter_map(|link| match link.sight() {
            Sight::Greeted { hello, clock_off_ms } => Some((*hello, clock_off_ms)),
            Sight::Unreachable(_) => None,
        });
        greeted.collect()
    }

    /// Whoever is on its way in and knows of no cluster gets the record of it: the node that was asked to let it in may have died before it told it.
    async fn admit_comers(&self, node: &Handle) {
        if !node.progress(ShardId::CONTROL).borrow().leads {
            return;
        }
        let nodes = node.nodes();
        let comes = |id: Option<u64>| nodes.nodes.iter().any(|node| Some(node.id) == id && node.role == Role::Joining);
        for link in self.common.links() {
            let Sight::Greeted { hello, .. } = link.sight() else { continue };
            if hello.cluster.is_none() && comes(link.id()) {
                match self.common.admit(link).await {
                    Ok(()) => tracing::info!(node = link.member.name, "a node that is on its way in was told of the cluster"),
                    Err(why) => {
                        tracing::debug!(node = link.member.name, why, "a node that is on its way in could not be told of the cluster")
                    }
                }
            }
        }
    }

    /// For `/metrics`.
    pub(super) fn peers(&self) -> Vec<Peer> {
        let peer = |link: &Arc<Link>| {
            let clock_off_ms = match link.sight() {
                Sight::Greeted { clock_off_ms, .. } => Some(clock_off_ms),
                Sight::Unreachable(_) => None,
            };
            let (sent, dropped) = link.figures();
            Peer { name: link.member.name.clone(), clock_off_ms, sent, dropped }
        };
        self.common.links().iter().map(peer).collect()
    }

    /// Who leads stamps the samples' time of arrival: a node whose clock is off does not lead while another one can.
    fn mind_clock(&self, node: &Handle) {
        let others: Vec<i64> = self.greeted().iter().map(|(_, off)| *off).collect();
        let off = off_median(&others);
        // With one other node nobody knows whose clock is right.
        let wrong = others.len() >= 2 && off.abs() > CLOCK_OFF_MS;
        if wrong != self.clock_wrong.swap(wrong, Ordering::AcqRel) {
            if wrong {
                tracing::error!("this node's clock is {off} ms off the median of the cluster's: it leads nothing until it is set (NTP)");
            } else {
                tracing::info!("this node's clock agrees with the others' again: it may lead");
            }
        }
        node.mistrust_clock(wrong);
    }

    /// A member that is alone with its state must not go on: it would lead one day.
    fn compare_states(&self, node: &Handle) {
        let (own, greeted) = (self.common.hello(), self.greeted());
        for standing in &own.shards {
            let others = greeted.iter().flat_map(|(hello, _)| &hello.shards).filter(|other| other.shard == standing.shard);
            let others: Vec<(u64, &str)> = others.map(|other| (other.image, other.hash.as_str())).collect();
            if is_alone((standing.image, &standing.hash), &others) {
                node.end(format!(
                    "the state of shard {} here is not that of the other nodes (image of entry {}). It must not go on: keep its data directory and report \
                     this, then give it an empty one, `sluice cluster join BUNDLE`, start it, and `sluice cluster replace {}` on another node",
                    standing.shard, standing.image, own.name
                ));
            }
        }
    }

    /// The list of nodes: as it stands in the control shard, or as founded.
    pub(super) fn roles(&self) -> Nodes {
        let nodes = self.node.get().map(|node| node.nodes()).filter(|nodes| nodes.version > 0);
        nodes.map(|nodes| (*nodes).clone()).unwrap_or_else(|| {
            let member = |founder: &Founder| Node { id: founder.number(), name: founder.name.clone(), role: Role::Member };
            let founders = self.common.charter().map(|charter| charter.nodes).unwrap_or_default();
            Nodes { version: 0, nodes: founders.iter().map(member).collect() }
        })
    }

    /// A node's name, or its id where it has none.
    pub(super) fn name_of(&self, id: u64) -> String {
        let known = self.roles().nodes.into_iter().find(|node| node.id == id);
        known.map_or_else(|| format!("{id:016x}"), |node| node.name)
    }

    /// The cluster of the nodes that are seen from here, if they have one.
    pub(super) fn others_cluster(&self) -> Option<String> {
        self.common.links().iter().find_map(|link| match link.sight() {
            Sight::Greeted { hello, .. } => hello.cluster,
            Sight::Unreachable(_) => None,
        })
    }

    /// Begins a change; what was begun, or what is in the way.
    pub(super) async fn change_seats(&self, change: Reseat, name: &str) -> Result<String, Vec<String>> {
        let one = |why: String| vec![why];
        let node = self.node.get().ok_or_else(|| one("this node is only starting".to_owned()))?;
        let nodes = self.roles();
        let link = self.common.links().iter().find(|link| link.member.name == name);
        let comer = match (change, link) {
            (Reseat::Remove, _) => None,
            (_, None) => return Err(one(format!("{name} is not in cluster.nodes of this node's file, or is this node; ask another node"))),
            (_, Some(link)) => match link.sight() {
                Sight::Unreachable(why) => return Err(one(format!("{name}: {why}"))),
                Sight::Greeted { hello, .. } => Some((link, hello)),
            },
        };
        let id = comer.as_ref().and_then(|(link, _)| link.id());
        // Said again: it is on its way already, and may not have got the record.
        let on_its_way = nodes.nodes.iter().any(|node| Some(node.id) == id && node.role == Role::Joining);
        if !on_its_way {
            if let Some(busy) = under_way(&nodes, change, name) {
                return Err(one(busy));
            }
            if let Some((_, hello)) = &comer {
                let problems = unfit(hello, &self.common.hello());
                if !problems.is_empty() {
                    return Err(problems);
                }
            }
            let next = wanted(&nodes, change, name, id).map_err(one)?;
            self.majority_stays(&next).map_err(one)?;
            node.propose(ShardId::CONTROL, Command::Nodes(next)).await.map_err(|error| one(error.to_string()))?;
            failpoint::reach(failpoint::Place::NodesChanged);
        }
        self.common.follow(&node.nodes()).map_err(one)?;
        if let Some((link, _)) = &comer {
            self.common.admit(link).await.map_err(|why| one(format!("{name}: {why}; say it again once it answers")))?;
        }
        Ok(match change {
            Reseat::Replace => format!("{name} is taking the place of the node that had its name"),
            Reseat::Add => format!("{name} is joining"),
            Reseat::Remove => format!("{name} is leaving; take it out of cluster.nodes on all nodes"),
        })
    }

    /// Of those who shall stay, comers apart, a majority must be there now: else nothing could be agreed on any more.
    fn majority_stays(&self, next: &Nodes) -> Result<(), String> {
        let own = self.common.id();
        let staying: Vec<&Node> = next.nodes.iter().filter(|node| node.role == Role::Member).collect();
        let there =
            staying.iter().filter(|node| node.id == own || self.common.links().iter().any(|link| link.id() == Some(node.id))).count();
        if 2 * there > staying.len() {
            return Ok(());
        }
        Err(format!("of the {} nodes that would stay only {there} can be reached: the cluster would stop", staying.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64, name: &str, role: Role) -> Node {
        Node { id, name: name.into(), role }
    }

    #[test]
    fn a_clock_is_measured_against_the_median_and_a_state_against_two_others() {
        assert_eq!(off_median(&[3_000, 3_100]), -3_000, "this one is behind both");
        assert_eq!(off_median(&[9_000, 10]), -10, "the other one is off, not this one");
        assert_eq!(off_median(&[-4_000, -4_000, 5, 0]), 0);
        assert_eq!(off_median(&[]), 0);
        assert!(is_alone((7, "a"), &[(7, "b"), (7, "b")]));
        assert!(!is_alone((7, "a"), &[(7, "b")]), "nobody knows which one is wrong");
        assert!(!is_alone((7, "a"), &[(7, "b"), (7, "a")]));
        assert!(!is_alone((7, "a"), &[(8, "b"), (8, "b")]));
        assert!(!is_alone((0, "0"), &[(0, "b"), (0, "b")]), "no image yet");
    }

    #[test]
    fn the_wanted_list_follows_from_what_is_asked_and_nonsense_is_refused() {
        let three = Nodes { version: 4, nodes: [(1, "a"), (2, "b"), (3, "c")].map(|(id, name)| node(id, name, Role::Member)).to_vec() };
        let replaced = wanted(&three, Reseat::Replace, "c", Some(9)).unwrap();
        assert_eq!((replaced.version, &replaced.nodes[2..]), (5, &[node(3, "c", Role::Leaving), node(9, "c", Role::Joining)][..]));
        assert!(wanted(&three, Reseat::Replace, "c", Some(3)).unwrap_err().contains("is the node that it was"));
        assert!(wanted(&three, Reseat::Replace, "d", Some(9)).unwrap_err().contains("cluster add d"));
        assert!(wanted(&three, Reseat::Add, "c", Some(9)).unwrap_err().contains("cluster replace c"));
        assert_eq!(wanted(&three, Reseat::Add, "d", Some(9)).unwrap().nodes[3], node(9, "d", Role::Joining));
        assert_eq!(wanted(&three, Reseat::Remove, "a", None).unwrap().nodes[0], node(1, "a", Role::Leaving));
        // One that is lost on its way in does not hold up everything for ever.
        assert!(under_way(&three, Reseat::Add, "d").is_none());
        assert!(under_way(&replaced, Reseat::Add, "d").unwrap().contains("of c and c"));
        assert!(under_way(&replaced, Reseat::Remove, "a").is_some() && under_way(&replaced, Reseat::Replace, "b").is_some());
        assert!(under_way(&replaced, Reseat::Remove, "c").is_none() && under_way(&replaced, Reseat::Replace, "c").is_none());
        let again = wanted(&replaced, Reseat::Replace, "c", Some(11)).unwrap();
        assert_eq!(again.nodes[2..], [node(3, "c", Role::Leaving), node(9, "c", Role::Leaving), node(11, "c", Role::Joining)]);
        assert!(wanted(&replaced, Reseat::Replace, "c", Some(9)).unwrap_err().contains("is the node that it was"));
        let leaving = wanted(&three, Reseat::Remove, "a", None).unwrap();
        assert!(under_way(&leaving, Reseat::Remove, "a").is_some(), "it goes as it is");
        let last = Nodes { version: 1, nodes: vec![node(1, "a", Role::Member)] };
        assert!(wanted(&last, Reseat::Remove, "a", None).is_err(), "a cluster has a member");
    }
}

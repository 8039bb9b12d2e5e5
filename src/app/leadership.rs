//! Who leads, as a person asks for it: shards by their numbers, nodes by their names. And why a node leads nothing.
//!
//! Left out on purpose: how leadership moves (`node::leadership`).

use crate::api::cluster::Node as NodeView;
use crate::api::deps::Problem;
use crate::api::deps::Severity;
use crate::app::cluster::Seen;
use crate::app::cluster::problem;
use crate::model::ShardId;
use crate::shard::members::Nodes;
use crate::shard::members::Role;

/// The node of that name, if it can lead.
fn named(nodes: &Nodes, name: &str) -> Result<u64, String> {
    let of_role = |role| nodes.nodes.iter().find(|node| node.name == name && node.role == role);
    if let Some(member) = of_role(Role::Member) {
        return Ok(member.id);
    }
    if of_role(Role::Joining).is_some() {
        return Err(format!("{name} is only joining: it has no vote yet; `sluice cluster status` shows how far it is"));
    }
    if of_role(Role::Leaving).is_some() {
        return Err(format!("{name} is leaving the cluster"));
    }
    let names: Vec<&str> = nodes.nodes.iter().map(|node| node.name.as_str()).collect();
    Err(format!("no node of the cluster is called {name}; there are: {}", names.join(", ")))
}

impl Seen {
    /// That node shall lead the shard, or all: what is so now, or what is in the way.
    pub(super) async fn transfer_to(&self, shard: Option<u16>, to: &str) -> Result<String, Vec<String>> {
        let one = |why: String| vec![why];
        let node = self.node.get().ok_or_else(|| one("this node is only starting".to_owned()))?;
        let id = named(&self.roles(), to).map_err(one)?;
        let all: Vec<ShardId> = [ShardId::CONTROL].into_iter().chain(node.shards().iter().copied()).collect();
        let wanted: Vec<ShardId> = match shard.map(ShardId) {
            None => all,
            Some(shard) if all.contains(&shard) => vec![shard],
            Some(shard) => return Err(one(format!("there is no shard {}; 0 is the control shard, then 1 to {}", shard.0, all.len() - 1))),
        };
        let (mut done, mut problems) = (Vec::new(), Vec::new());
        for shard in wanted {
            match node.transfer(shard, id).await {
                Ok(()) => done.push(shard.0.to_string()),
                Err(error) => problems.push(error.to_string()),
            }
        }
        if problems.is_empty() { Ok(format!("{to} leads shard {}", done.join(", "))) } else { Err(problems) }
    }
}

/// A node whose disk is slow. Pure.
pub(super) fn slow_disk(node: &NodeView) -> Option<Problem> {
    let slow = node.aside.as_deref() == Some("slow_disk");
    slow.then(|| {
        let text = "its disk is slow: a write waited longer for its sync than cluster.slow_sync allows within the last two minutes, so it leads nothing that another node can lead";
        let remedy = "look at what else uses that disk, and at its health (dmesg, smartctl); it leads again by itself two minutes after the last such write";
        problem(Severity::Warning, "slow_disk", format!("node {}", node.name), text.to_owned(), remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::members::Node;

    #[test]
    fn only_a_member_can_be_given_a_shard() {
        let node = |id, name: &str, role| Node { id, name: name.into(), role };
        let nodes = Nodes { version: 3, nodes: vec![node(1, "a", Role::Member), node(2, "b", Role::Leaving), node(3, "b", Role::Joining)] };
        assert_eq!(named(&nodes, "a"), Ok(1));
        assert!(named(&nodes, "b").unwrap_err().contains("only joining"));
        assert!(named(&nodes, "c").unwrap_err().contains("there are: a, b"));
    }

    #[test]
    fn a_slow_disk_is_named_and_a_drained_node_is_no_problem() {
        let node = |aside: &str| NodeView { name: "a".into(), aside: Some(aside.into()), ..NodeView::default() };
        assert_eq!(slow_disk(&node("slow_disk")).map(|problem| problem.code), Some("slow_disk".to_owned()));
        assert_eq!(slow_disk(&node("draining")), None);
    }
}

//! `cluster:`: the nodes that hold the shards together. Byte-identical on all of them; which of them a node is, `sluice cluster join` writes down.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::read::Refusal;
use crate::config::read::Section;
use crate::config::values;

/// Where nodes reach each other, unless something else is said.
const PORT: u16 = 9202;
/// More members make every write slower and nothing safer.
const MOST_NODES: usize = 7;

/// A restart, a new disk, a kernel: so long the log is kept for a node that is away.
const AWAY: Duration = Duration::from_secs(30 * 60);
/// Shorter than an election and a restart makes no sense; longer than a week, and a dead node was forgotten.
const AWAY_RANGE: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(7 * 86_400);

/// Every answer waits for a sync: a second is a hundred times what a good disk takes.
const SLOW_SYNC: Duration = Duration::from_secs(1);
/// Shorter, and every compaction moves leadership; longer than a minute, and senders have given up.
const SLOW_SYNC_RANGE: std::ops::RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_secs(60);

/// Several nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// All of them, this one among them.
    pub nodes: Vec<Member>,
    /// Where this node listens for the others.
    pub listen: SocketAddr,
    /// For a node that is away for longer the log is not kept: it takes a snapshot when it is back.
    pub away: Duration,
    /// A node whose disk takes longer for a sync leads nothing that another one can lead.
    pub slow_sync: Duration,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name in certificates and on pages: the host's, unless one is written before a slash.
    pub name: String,
    /// Where the others reach it: host:port.
    pub address: String,
}

/// `mon1.example`, `mon1.example:9202` or `mon1/10.0.0.1:9202`.
fn member(text: &str) -> Result<Member, Refusal> {
    let (name, place) = text.split_once('/').map_or((None, text), |(name, place)| (Some(name), place));
    let address = if place.contains(':') { place.to_owned() } else { format!("{place}:{PORT}") };
    let address = values::host_port(&address)?;
    let host = address.rsplit_once(':').map_or("", |(host, _)| host);
    let name = name.unwrap_or(host);
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.');
    let is_name = (1..=64).contains(&name.len()) && name.chars().all(fits) && !name.starts_with(['-', '.']) && !name.ends_with(['-', '.']);
    if !is_name {
        let remedy = "for example mon1.dc1.example, or mon1/10.0.0.1:9202";
        return Err(("must be a host, or name/host:port; a name is of letters, digits, `-` and `.`".into(), remedy.into()));
    }
    Ok(Member { name: name.to_ascii_lowercase(), address })
}

/// The section, and the cluster's name if it stands here.
pub fn read(section: &Section<'_>) -> (Option<Cluster>, Option<String>) {
    let name = section.opt("name", values::name);
    let listen = section.or("listen", SocketAddr::from(([0, 0, 0, 0], PORT)), values::listen);
    let away = section.or("away", AWAY, values::duration_in(AWAY_RANGE));
    let slow_sync = section.or("slow_sync", SLOW_SYNC, values::duration_in(SLOW_SYNC_RANGE));
    let remedy = "name all nodes, this one among them: nodes: [mon1.example, mon2.example, mon3.example]";
    let nodes = match section.get("nodes") {
        None => {
            section.missing("nodes", remedy);
            None
        }
        Some(node) => {
            let list = node.list();
            let nodes: Vec<Member> = list.iter().filter_map(|one| one.value(member)).collect();
            let twice = nodes
                .iter()
                .enumerate()
                .find(|(at, one)| nodes[..*at].iter().any(|other| other.name == one.name || other.address == one.address));
            if list.len() != nodes.len() {
                None
            } else if let Some((_, twice)) = twice {
                node.complain(format!("names {} or its address twice", twice.name), "each node once");
                None
            } else if nodes.len().is_multiple_of(2) || nodes.len() > MOST_NODES {
                node.complain("must be 1, 3, 5 or 7 nodes: a majority of an even number bears no more losses", remedy);
                None
            } else {
                Some(nodes)
            }
        }
    };
    section.finish();
    (nodes.map(|nodes| Cluster { nodes, listen, away, slow_sync }), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_a_host_or_has_a_name_of_its_own() {
        let of = |text: &str| member(text).map(|member| (member.name, member.address)).map_err(|refusal| refusal.0);
        assert_eq!(of("Mon1.example"), Ok(("mon1.example".into(), "Mon1.example:9202".into())));
        assert_eq!(of("a/10.0.0.1:77"), Ok(("a".into(), "10.0.0.1:77".into())));
        for wrong in ["", "a_b", "a/b:x", "/b:1", "a b"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}

//! Who writes to the cluster: each node knows those that write to it, so the others are asked, too.

use serde::Deserialize;
use serde::Serialize;

use crate::api::answer::Failure;
use crate::api::cluster;
use crate::api::deps::Deps;
use crate::api::deps::RemoteSender;

/// What other nodes are asked for (`bundle::Itself`).
pub const ASKED: &str = "senders";

/// `GET /api/v1/senders`.
#[derive(Debug, Serialize)]
pub struct Senders {
    /// By group, replica and node.
    senders: Vec<Row>,
    /// Nodes that did not answer, so whose senders are missing.
    unreachable: Vec<Unreachable>,
}

/// A sender at one node.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    node: String,
    #[serde(flatten)]
    sender: RemoteSender,
}

/// A node that did not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unreachable {
    /// Its name.
    pub node: String,
    /// Why.
    pub reason: String,
}

/// Of all nodes, or with `?node=this` of the one that is asked.
pub async fn all(deps: &Deps, query: &str, now: i64) -> Result<Senders, Failure> {
    let mut alone = false;
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match (&*key, &*value) {
            ("node", "this") => alone = true,
            _ => return Err(Failure::wrong(format!("{key}={value} is not understood"), "the query takes node=this")),
        }
    }
    let row = |node: &str, sender| Row { node: node.to_owned(), sender };
    let this = cluster::this_node(deps);
    let mut senders: Vec<Row> = (deps.senders)(now).into_iter().map(|sender| row(&this, sender)).collect();
    let mut unreachable = Vec::new();
    if let Some(cluster) = deps.cluster.as_ref().filter(|_| !alone) {
        for (node, said) in cluster.of_others(ASKED).await {
            match said.and_then(|said| serde_json::from_slice::<Vec<RemoteSender>>(&said).map_err(|error| error.to_string())) {
                Ok(theirs) => senders.extend(theirs.into_iter().map(|sender| row(&node, sender))),
                Err(reason) => unreachable.push(Unreachable { node, reason }),
            }
        }
    }
    let key = |row: &Row| (row.sender.group.clone(), row.sender.replica.clone(), row.node.clone());
    senders.sort_by_key(key);
    Ok(Senders { senders, unreachable })
}

/// What another node is told.
pub(super) fn itself(deps: &Deps, now: i64) -> Vec<u8> {
    serde_json::to_vec(&(deps.senders)(now)).unwrap_or_default()
}

//! Upgrades from one version to the next: which feature level the cluster is at, and who could go to the next one. `app` draws it up.

use hyper::StatusCode;
use serde::Serialize;

use crate::api::answer::Failure;
use crate::api::cluster::no_cluster;
use crate::api::deps::Deps;
use crate::api::groups::Done;
use crate::serve::Who;

/// `GET /api/v1/cluster/upgrade`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Upgrade {
    /// The cluster's feature level.
    pub level: u64,
    /// The newest level that the program of the node that was asked knows: what finalising would lead to.
    pub newest: u64,
    /// The nodes.
    pub nodes: Vec<Knows>,
    /// What is in the way of finalising; empty: nothing.
    pub in_the_way: Vec<String>,
}

/// What a node's program knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Knows {
    /// The node's name.
    pub name: String,
    /// The program's version; none: it cannot be reached.
    pub version: Option<String>,
    /// The oldest level that it can work at.
    pub oldest: Option<u64>,
    /// The newest.
    pub newest: Option<u64>,
}

/// `GET /api/v1/cluster/upgrade`.
pub fn show(deps: &Deps) -> Result<Upgrade, Failure> {
    deps.cluster.as_ref().map(|cluster| cluster.upgrade()).ok_or_else(no_cluster)
}

/// `POST /api/v1/cluster/upgrade/finalize`.
pub async fn finalize(deps: &Deps, who: &Who) -> Result<Done, Failure> {
    let cluster = deps.cluster.as_ref().ok_or_else(no_cluster)?;
    let refused = |problems: Vec<String>| {
        let text = format!("the cluster stays at the level it is at:\n  {}", problems.join("\n  "));
        Failure::new(
            StatusCode::CONFLICT,
            "not_finalized",
            text,
            "mend these and say it again; until then the version before can be started again",
        )
    };
    cluster.finalize(&who.0).await.map(|done| Done { done }).map_err(refused)
}

//! `sluice cluster`: three nodes become one cluster. `prepare` and `join` work on files of this machine; `init` and `status` ask a running node.

use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;
use serde_json::Value;

use crate::app;
use crate::cli::Asked;
use crate::cli::Failure;
use crate::cli::table::Table;
use crate::cli::table::cell;
use crate::clock;
use crate::config::Config;
use crate::config::cluster::Cluster;
use crate::secret::Bundle;
use crate::secret::NodeSecrets;
use crate::secret::SecretError;
use crate::secret::token::Token;

/// Verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make the cluster's own authority and the bundle by which nodes join; once, on any node.
    Prepare(Prepare),
    /// Make this node's key and certificate from the bundle; on each node, before its first start.
    Join(Join),
    /// Found the cluster through one node, once all are connected. May be repeated.
    Init(Asked),
    /// Who is there, who leads, who lags. Ends with 0: well, 1: somebody should look, 2: samples are refused.
    Status(Asked),
}

/// `sluice cluster prepare`.
#[derive(Debug, Args)]
pub struct Prepare {
    /// The configuration, the same on all nodes.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The bundle to write. Whoever has it can let nodes into the cluster.
    #[arg(long, value_name = "FILE", default_value = "sluice-join.bundle")]
    bundle: PathBuf,
}

/// `sluice cluster join`.
#[derive(Debug, Args)]
pub struct Join {
    /// The bundle.
    bundle: PathBuf,
    /// The configuration, the same on all nodes.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Which of cluster.nodes this is; without it, the one that is called like this host.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

/// Does it.
pub async fn carry_out(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Prepare(prepare) => self::prepare(&prepare),
        Verb::Join(join) => self::join(&join),
        Verb::Init(asked) => init(&asked).await,
        Verb::Status(asked) => status(&asked).await,
    }
}

fn read(path: &Path) -> Result<(Config, Cluster), Failure> {
    let config = app::check::file(path)?;
    let cluster = config
        .cluster
        .clone()
        .ok_or_else(|| Failure::Wrong(format!("{} has no `cluster:`; add it: cluster: {{ nodes: [mon1, mon2, mon3] }}", path.display())))?;
    Ok((config, cluster))
}

fn failed(error: SecretError) -> Failure {
    Failure::Failed(error.to_string())
}

fn prepare(wanted: &Prepare) -> Result<(), Failure> {
    let (config, cluster) = read(&wanted.config)?;
    let names: Vec<String> = cluster.nodes.iter().map(|node| node.name.clone()).collect();
    let mut bundle = Bundle::make(&config.name, &names, clock::wall_ms()).map_err(failed)?;
    // Where a token will be wanted from the first request on, there must be one.
    let token = if config.listen.ip().is_loopback() || config.access.allow_unauthenticated {
        None
    } else {
        Some(Token::make().map_err(|error| Failure::Failed(format!("/dev/urandom: {error}")))?)
    };
    if let Some(token) = &token {
        bundle.begin_with(token);
    }
    bundle.write(&wanted.bundle).map_err(failed)?;
    let (file, bundle) = (wanted.config.display(), wanted.bundle.display());
    println!(
        "{bundle}: the authority of cluster {}, for {}.\n\
         Whoever has this file can let nodes into the cluster: copy it by a safe way, and keep one copy off the nodes.\n\n\
         On each node, with {file} copied unchanged:\n  \
         sluice cluster join {bundle} --config {file}\n  \
         sluice run --config {file}\n\
         Then, on one of them:\n  \
         sluice cluster init",
        config.name,
        names.join(", ")
    );
    if let Some(token) = token {
        println!(
            "\nThe cluster's first token, for senders and people; only its hash is kept, so it is not shown again:\n  {}\n\
             `sluice token create NAME` on a node makes more, one for each sender; then `sluice token revoke first`.",
            token.reveal()
        );
    }
    Ok(())
}

fn join(wanted: &Join) -> Result<(), Failure> {
    let (config, cluster) = read(&wanted.config)?;
    let bundle = Bundle::read(&wanted.bundle).map_err(failed)?;
    if bundle.cluster != config.name {
        return Err(Failure::Wrong(format!(
            "{} is of cluster {}, the file is of cluster {}; use the bundle that was made with this file",
            wanted.bundle.display(),
            bundle.cluster,
            config.name
        )));
    }
    let name = who(wanted.node.as_deref(), &cluster, &host_name())?;
    let id = id_of(&config.data_dir)?;
    let fresh = id.is_none();
    let id = match id {
        Some(id) => id,
        None => crate::secret::random().map_err(|error| Failure::Failed(format!("/dev/urandom: {error}")))?.max(1),
    };
    let secrets = bundle.admit(id, &name, clock::wall_ms()).map_err(failed)?;
    secrets.write(&config.data_dir).map_err(failed)?;
    let days = (secrets.card.expires_ms - clock::wall_ms()) / 86_400_000;
    let what = if fresh { "this node is" } else { "a new certificate for" };
    // A running node takes it within a minute, or at a reload.
    println!("{what} {name}, node {id:016x}; its certificate is good for {days} days ({}/cluster)", config.data_dir.display());
    if fresh {
        println!("next: sluice run --config {}", wanted.config.display());
    }
    Ok(())
}

/// The id that this node has already: of its data, or of a certificate that was not used yet.
fn id_of(data_dir: &Path) -> Result<Option<u64>, Failure> {
    let of_data = app::identity(data_dir)?;
    let joined = NodeSecrets::read(data_dir).map_err(failed)?.map(|secrets| secrets.id);
    match (of_data, joined) {
        (Some(_), None) => Err(Failure::Failed(format!(
            "{} holds the data of a cluster of one, and growing one into a cluster of several is not part of this version; name an empty data_dir",
            data_dir.display()
        ))),
        (of_data, joined) => Ok(of_data.or(joined)),
    }
}

/// The node's name in the file.
fn who(said: Option<&str>, cluster: &Cluster, host: &str) -> Result<String, Failure> {
    let names: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
    let wanted = said.unwrap_or(host).to_ascii_lowercase();
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let found = names.iter().find(|name| **name == wanted).or_else(|| {
        let mut alike = names.iter().filter(|name| said.is_none() && short(name) == short(&wanted));
        alike.next().filter(|_| alike.next().is_none())
    });
    found.map(|name| (*name).to_owned()).ok_or_else(|| {
        let whose = if said.is_some() { "is not" } else { "is this host's name, and not" };
        Failure::Wrong(format!("{wanted} {whose} in cluster.nodes ({}); say which one this is: --node NAME", names.join(", ")))
    })
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

async fn init(asked: &Asked) -> Result<(), Failure> {
    let answer = asked.client().post("/api/v1/cluster/init", &Value::Null).await?;
    if asked.json {
        println!("{answer:#}");
    } else {
        println!("{}", cell(&answer["done"]));
    }
    Ok(())
}

async fn status(asked: &Asked) -> Result<(), Failure> {
    let answer = asked.client().get("/api/v1/cluster").await?;
    if asked.json {
        println!("{answer:#}");
    } else {
        print!("{}", text(&answer, clock::wall_ms()));
    }
    match answer["health"].as_str() {
        Some("ok") => Ok(()),
        Some("degraded") => Err(Failure::Failed(String::new())),
        _ => Err(Failure::Critical),
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text(answer: &Value, now: i64) -> String {
    let mut out =
        format!("cluster {} {}: {} ({})\n\n", cell(&answer["name"]), cell(&answer["id"]), cell(&answer["health"]), cell(&answer["phase"]));
    let mut nodes = Table::new(&["NODE", "STATE", "LEADS", "BEHIND", "CLOCK", "CERTIFICATE", "PUBLIC", "VERSION"]);
    let shards = list(answer, "shards");
    let days = |ends: &Value| ends.as_i64().map_or("-".to_owned(), |ends| format!("{} days", (ends - now) / 86_400_000));
    for node in list(answer, "nodes") {
        let leads = shards.iter().filter(|shard| shard["leader"] == node["name"]).count();
        let applied = shards.iter().flat_map(|shard| list(shard, "applied")).filter(|applied| applied["node"] == node["name"]);
        let behind = applied.filter_map(|applied| applied["behind"].as_u64()).max();
        nodes.row(vec![
            cell(&node["name"]),
            cell(&node["state"]),
            leads.to_string(),
            behind.map_or("-".to_owned(), |behind| behind.to_string()),
            node["clock_off_ms"].as_i64().map_or("-".to_owned(), |off| format!("{off} ms")),
            days(&node["certificate_expires"]),
            days(&node["public_certificate_expires"]),
            cell(&node["version"]),
        ]);
    }
    out.push_str(&nodes.text("no node"));
    let mut table = Table::new(&["SHARD", "LEADER", "APPLIED"]);
    for shard in shards {
        let applied: Vec<String> =
            list(shard, "applied").iter().map(|applied| format!("{} {}", cell(&applied["node"]), cell(&applied["index"]))).collect();
        table.row(vec![cell(&shard["shard"]), cell(&shard["leader"]), applied.join(", ")]);
    }
    out.push('\n');
    out.push_str(&table.text("no shard yet"));
    for problem in list(answer, "problems") {
        out.push_str(&format!("\n! {}: {}\n  {}\n", cell(&problem["about"]), cell(&problem["text"]), cell(&problem["remedy"])));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::cluster::Member;

    fn cluster(names: &[&str]) -> Cluster {
        let nodes = names.iter().map(|name| Member { name: (*name).into(), address: format!("{name}:9202") }).collect();
        Cluster { nodes, listen: "127.0.0.1:9202".parse().unwrap() }
    }

    #[test]
    fn a_node_is_found_by_its_hosts_name_or_as_said() {
        let three = cluster(&["mon1.dc1", "mon2.dc1", "mon3.dc1"]);
        let who = |said, host: &str| who(said, &three, host).map_err(|failure| failure.to_string());
        assert_eq!(who(None, "Mon2.dc1"), Ok("mon2.dc1".into()));
        assert_eq!(who(None, "mon3"), Ok("mon3.dc1".into()));
        assert_eq!(who(Some("mon1.dc1"), "mon3"), Ok("mon1.dc1".into()));
        assert!(who(Some("mon1"), "mon1").is_err(), "what is said must be said as it stands in the file");
        assert!(who(None, "laptop").unwrap_err().contains("--node NAME"));
        assert!(super::who(None, &cluster(&["a.dc1", "a.dc2", "b"]), "a").is_err(), "two are called like it");
    }
}

//! `sluice cluster`: three nodes become one cluster. `prepare` and `join` work on files of this machine; `init` and `status` ask a running node.

mod bundle;
mod doctor;
mod transfer;
mod upgrade;

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::Subcommand;
use serde_json::Value;

use crate::app;
use crate::cli::Asked;
use crate::cli::Failure;
use crate::cli::backup;
use crate::cli::backup::Backup;
use crate::cli::backup::Restore;
use crate::cli::owner;
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
    /// The node leads nothing from now on, and balancers send it nothing: to be restarted without a refused request. Ends when that is so.
    Drain(Drain),
    /// A node leads a shard, or all, from now on: planned, without a refused request. Balance leaves it there for an hour, or until the node loses it.
    Transfer(transfer::Transfer),
    /// Whether every shard would still have a majority without this node. Ends with 0: yes, 1: no, and why.
    SafeToStop(Asked),
    /// A new node takes the place of the one that had its name (its disk is gone, or its host). Ask a node that is well.
    Replace(Change),
    /// A new node comes; it is in cluster.nodes of all nodes' files already.
    Add(Change),
    /// A node goes, living or not.
    Remove(Change),
    /// The majority is gone for good: this node, which is stopped, goes on alone with what it has. Without the long option it only says what it has.
    Recover(Recover),
    /// Write all that a running node has into a directory beside its data.
    Backup(Backup),
    /// Make a new cluster of a backup: fills the empty data directory of its first node.
    Restore(Restore),
    /// Write one file with everything that somebody who helps would ask for: status, settings without secrets, metrics, recent log, of all nodes that answer.
    DebugBundle(bundle::Wanted),
    /// From one version to the next: status, and finalising once all nodes have it.
    #[command(subcommand)]
    Upgrade(upgrade::Verb),
    /// What an operator would look at by hand, each well, to be looked at or bad, with a remedy. Ends with 0: all is well, 1: look, 2: bad.
    Doctor(Asked),
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

/// `sluice cluster recover`.
#[derive(Debug, Args)]
pub struct Recover {
    /// The configuration of the stopped node.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Do it. What was acknowledged and is not on this node's disk is lost.
    #[arg(long)]
    i_accept_data_loss: bool,
}

/// `sluice cluster drain`.
#[derive(Debug, Args)]
pub struct Drain {
    /// The node may lead again. (A restart does the same.)
    #[arg(long)]
    off: bool,
    #[command(flatten)]
    asked: Asked,
}

/// `sluice cluster replace | add | remove`.
#[derive(Debug, Args)]
pub struct Change {
    /// The node's name in cluster.nodes.
    node: String,
    /// Begin it and do not wait until it is done.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    asked: Asked,
}

/// Does it.
pub async fn carry_out(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Prepare(prepare) => self::prepare(&prepare),
        Verb::Join(join) => self::join(&join),
        Verb::Init(asked) => init(&asked).await,
        Verb::Recover(wanted) => recover(&wanted),
        Verb::Backup(wanted) => backup::backup(&wanted).await,
        Verb::Restore(wanted) => backup::restore(&wanted),
        Verb::Drain(wanted) => drain(&wanted).await,
        Verb::Transfer(wanted) => transfer::transfer(&wanted).await,
        Verb::SafeToStop(asked) => safe_to_stop(&asked).await,
        Verb::Replace(wanted) => change("replace", &wanted).await,
        Verb::Add(wanted) => change("add", &wanted).await,
        Verb::Remove(wanted) => change("remove", &wanted).await,
        Verb::Doctor(asked) => doctor::doctor(&asked).await,
        Verb::Upgrade(verb) => upgrade::carry_out(&verb).await,
        Verb::DebugBundle(wanted) => bundle::write(&wanted).await,
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
    let grows = !fresh && NodeSecrets::read(&config.data_dir).map_err(failed)?.is_none();
    let id = match id {
        Some(id) => id,
        None => crate::secret::random().map_err(|error| Failure::Failed(format!("/dev/urandom: {error}")))?.max(1),
    };
    let secrets = bundle.admit(id, &name, clock::wall_ms()).map_err(failed)?;
    secrets.write(&config.data_dir).map_err(failed)?;
    owner::hand_over(&config.data_dir)?;
    let days = (secrets.card.expires_ms - clock::wall_ms()) / 86_400_000;
    let what = if fresh { "this node is" } else { "a new certificate for" };
    // A running node takes it within a minute, or at a reload.
    println!("{what} {name}, node {id:016x}; its certificate is good for {days} days ({}/cluster)", config.data_dir.display());
    if grows {
        println!(
            "its data stay: it is the first node of the cluster. Restart it, start the others, then `sluice cluster add NAME` for each of them"
        );
    }
    if fresh {
        println!("next: sluice run --config {}", wanted.config.display());
    }
    Ok(())
}

/// The id that this node has already: of its data, or of a certificate that was not used yet.
fn id_of(data_dir: &Path) -> Result<Option<u64>, Failure> {
    let of_data = app::identity(data_dir)?;
    let joined = NodeSecrets::read(data_dir).map_err(failed)?.map(|secrets| secrets.id);
    Ok(of_data.or(joined))
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

fn recover(wanted: &Recover) -> Result<(), Failure> {
    let (config, _) = read(&wanted.config)?;
    let survivors = app::recover::recover(&config, wanted.i_accept_data_loss)?;
    owner::hand_over(&config.data_dir)?;
    let mut table = Table::new(&["SHARD", "LAST TERM", "LAST ENTRY", "COMMITTED"]);
    for survivor in &survivors {
        let numbers = [u64::from(survivor.shard), survivor.last.0, survivor.last.1, survivor.committed];
        table.row(numbers.iter().map(u64::to_string).collect());
    }
    print!("{}", table.text("no shard"));
    if wanted.i_accept_data_loss {
        println!(
            "this node is the only member of every shard now. Start it; give the others empty data directories, join and start them, and add \
             each: sluice cluster add NAME. Nodes of the old majority must never be started with their old data"
        );
    } else {
        println!(
            "nothing was changed. Ask every node that is left: the one with the later last term, then the higher last entry, has more. On that one:\n  \
             sluice cluster recover --config {} --i-accept-data-loss",
            wanted.config.display()
        );
    }
    Ok(())
}

async fn drain(wanted: &Drain) -> Result<(), Failure> {
    let client = wanted.asked.client();
    let path = if wanted.off { "/api/v1/cluster/undrain" } else { "/api/v1/cluster/drain" };
    let answer = client.post(path, &Value::Null).await?;
    if !wanted.off {
        until_it_leads_nothing(&wanted.asked).await?;
    }
    if wanted.asked.json {
        println!("{answer:#}");
    } else if wanted.off {
        println!("{}", cell(&answer["done"]));
    } else {
        println!("it leads nothing any more, and /-/ready says 503: it may be stopped when its balancer has looked");
    }
    Ok(())
}

async fn until_it_leads_nothing(asked: &Asked) -> Result<(), Failure> {
    let mut said = usize::MAX;
    loop {
        let view = asked.client().get("/api/v1/cluster").await?;
        let own = list(&view, "nodes").iter().find(|node| node["state"] == "this").map(|node| node["name"].clone());
        let left = list(&view, "shards").iter().filter(|shard| Some(&shard["leader"]) == own.as_ref()).count();
        if left == 0 {
            return Ok(());
        }
        if left != said && !asked.json {
            println!("  it leads {left} shards");
        }
        said = left;
        tokio::time::sleep(LOOK).await;
    }
}

async fn safe_to_stop(asked: &Asked) -> Result<(), Failure> {
    let view = asked.client().get("/api/v1/cluster").await?;
    let against = list(&view, "unsafe_to_stop");
    if asked.json {
        println!("{}", serde_json::json!({"safe": against.is_empty(), "reasons": against}));
    }
    if against.is_empty() {
        if !asked.json {
            println!("safe: every shard keeps a majority without this node");
        }
        return Ok(());
    }
    Err(Failure::Failed(format!("not now:\n  {}", against.iter().map(cell).collect::<Vec<_>>().join("\n  "))))
}

/// Between two looks at how far a change is.
const LOOK: Duration = Duration::from_millis(500);

async fn change(verb: &str, wanted: &Change) -> Result<(), Failure> {
    let client = wanted.asked.client();
    let answer = client.post(&format!("/api/v1/cluster/{verb}/{}", wanted.node), &Value::Null).await?;
    if !wanted.asked.json {
        println!("{}", cell(&answer["done"]));
    }
    let end = if wanted.no_wait {
        "it goes on by itself; `sluice cluster status` shows how far"
    } else {
        watch(wanted).await?;
        "done: every shard has its seats"
    };
    if wanted.asked.json {
        println!("{answer:#}");
    } else {
        println!("{end}");
    }
    Ok(())
}

/// Shows how far the change is, until it is done.
async fn watch(wanted: &Change) -> Result<(), Failure> {
    let mut said = String::new();
    loop {
        let view = wanted.asked.client().get("/api/v1/cluster").await?;
        if view["changing"] == false {
            return Ok(());
        }
        let now = progress(&view);
        if now != said && !wanted.asked.json {
            println!("  {now}");
        }
        said = now;
        tokio::time::sleep(LOOK).await;
    }
}

/// Who has no vote yet, and how far behind the slowest is, in a line.
fn progress(view: &Value) -> String {
    let shards = list(view, "shards");
    let waiting = shards.iter().filter(|shard| !list(shard, "learners").is_empty()).count();
    let behind = shards.iter().flat_map(|shard| list(shard, "applied")).filter_map(|applied| applied["behind"].as_u64()).max().unwrap_or(0);
    format!("{waiting} of {} shards have a member that catches up, at most {behind} entries behind", shards.len())
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

/// Whether it can be reached, and why it leads nothing.
fn state(node: &Value) -> String {
    let state = cell(&node["state"]);
    match node["aside"].as_str() {
        Some(aside) => format!("{state}, {}", aside.replace('_', " ")),
        None => state,
    }
}

fn text(answer: &Value, now: i64) -> String {
    let mut out =
        format!("cluster {} {}: {} ({})\n\n", cell(&answer["name"]), cell(&answer["id"]), cell(&answer["health"]), cell(&answer["phase"]));
    let mut nodes = Table::new(&["NODE", "STATE", "ROLE", "LEADS", "BEHIND", "CLOCK", "CERTIFICATE", "PUBLIC", "VERSION"]);
    let shards = list(answer, "shards");
    let days = |ends: &Value| ends.as_i64().map_or("-".to_owned(), |ends| format!("{} days", (ends - now) / 86_400_000));
    for node in list(answer, "nodes") {
        let leads = shards.iter().filter(|shard| shard["leader"] == node["name"]).count();
        let applied = shards.iter().flat_map(|shard| list(shard, "applied")).filter(|applied| applied["node"] == node["name"]);
        let behind = applied.filter_map(|applied| applied["behind"].as_u64()).max();
        nodes.row(vec![
            cell(&node["name"]),
            state(node),
            cell(&node["role"]),
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
        Cluster { nodes, listen: "127.0.0.1:9202".parse().unwrap(), away: Duration::from_secs(60), slow_sync: Duration::from_secs(1) }
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

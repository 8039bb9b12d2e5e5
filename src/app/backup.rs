//! Backups: all that a running node has, as it is at one moment, in a directory beside its data; and a new cluster of one from such a directory.
//!
//! A backup is RocksDB's own checkpoint (its tables linked, not copied, so it takes a moment and little room at first) and `backup.json`, which says of
//! what and when. Certificates and keys are not in it; the hashes of tokens, the settings with their passwords, and undelivered samples are.
//!
//! What is restored is another cluster: it has a new identity, and its sinks begin new positions where the backup's were, because whoever went on
//! with the old ones may have delivered more. It keeps the seed of the hashes, and so knows every series. Then it grows as any node does.
//!
//! Left out on purpose: carrying the directory away, and how often (a timer and rsync do that better); which of those of a timer go again stands in `older`.

pub mod older;

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;
use tokio::sync::Mutex;

use crate::api::backup::Made;
use crate::api::backup::Wanted;
use crate::api::deps::Later;
use crate::api::deps::Refusal;
use crate::app;
use crate::app::Fault;
use crate::app::recover;
use crate::clock;
use crate::config::Config;
use crate::failpoint;
use crate::model::ShardId;
use crate::node::Handle;
use crate::node::offer::ProposeError;
use crate::peer::charter::Charter;
use crate::peer::charter::Founder;
use crate::secret;
use crate::secret::NodeSecrets;
use crate::shard::command::Command;
use crate::store::identity;
use crate::store::identity::Identity;
use crate::store::mark::MOST_SHARDS;
use crate::store::mark::Mark;
use crate::store::open;

/// Below the data directory.
const FOLDER: &str = "backups";
const MANIFEST: &str = "backup.json";
/// As in the data directory.
const DATABASE: &str = "db";
/// Stands in a data directory that was restored, until its first start has settled what it is.
const RESTORED: &str = "restored.json";
/// Ends the name of one that is being written.
const UNDER_WAY: &str = ".part";
/// Raised when the layout changes.
const FORMAT: u32 = 1;

/// `backup.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: u32,
    /// When, ms since 1970.
    pub made_ms: i64,
    /// The program that wrote it.
    version: String,
    /// The cluster that it is of, 32 hexadecimal digits.
    pub cluster: String,
    /// Its name.
    pub name: String,
    /// Seed of the hashes, 16 hexadecimal digits.
    seed: String,
    data_shards: u16,
}

/// `restored.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Restored {
    /// What it is from now on, 32 hexadecimal digits.
    cluster: String,
}

/// Writes backups, one after the other: so whatever else is there and has no name yet was cut short.
pub fn writer(
    node: Handle,
    (cluster, data_dir): (String, PathBuf),
) -> Arc<dyn Fn(Wanted) -> Later<'static, Result<Made, Refusal>> + Send + Sync> {
    let one_at_a_time = Arc::new(Mutex::new(()));
    Arc::new(move |wanted| {
        let (node, cluster, data_dir, turn) = (node.clone(), cluster.clone(), data_dir.clone(), Arc::clone(&one_at_a_time));
        Box::pin(async move {
            let turn = turn.lock_owned().await;
            let made = tokio::task::spawn_blocking(move || {
                // Kept here: whoever asked may go away meanwhile.
                let _turn = turn;
                make(&node, (&cluster, &data_dir), &wanted)
            });
            made.await.unwrap_or_else(|_| Err(Refusal::Later("writing it was given up".to_owned())))
        })
    })
}

/// Writes a backup, and removes older ones where that is wanted. Blocking.
fn make(node: &Handle, of: (&str, &Path), wanted: &Wanted) -> Result<Made, Refusal> {
    let folder = of.1.join(FOLDER);
    if wanted.keep.is_some() && node.disk_is_full() {
        // Nobody looks at what a timer does, and every backup keeps room from being given back. Whoever asks by hand knows why.
        let text = "no backup was written: the disk is full to its reserve; `sluice cluster backup` without --keep writes one all the same";
        return Err(Refusal::Later(text.to_owned()));
    }
    let (path, bytes) = write(node, of, &folder, &wanted.name)?;
    let removed = match wanted.keep {
        Some(keep) => older::remove(&folder, &wanted.name, keep)
            .map_err(|error| Refusal::Later(format!("{} was written, but older ones could not be removed: {error}", path.display())))?,
        None => Vec::new(),
    };
    Ok(Made { path, bytes, removed })
}

/// Writes one of this name; gives its directory, and its bytes.
fn write(node: &Handle, (cluster, _): (&str, &Path), folder: &Path, name: &str) -> Result<(PathBuf, u64), Refusal> {
    let (to, under_way) = (folder.join(name), folder.join(format!("{name}{UNDER_WAY}")));
    if to.exists() {
        let remedy = "take another name, or remove the directory".to_owned();
        return Err(Refusal::Conflict { text: format!("{} is there already", to.display()), remedy });
    }
    let later = |what: &str, error: &dyn std::fmt::Display| Refusal::Later(format!("no backup was written: {what}: {error}"));
    let founding = node.founding().ok_or_else(|| Refusal::Later("the cluster has not been founded".to_owned()))?;
    let manifest = Manifest {
        format: FORMAT,
        made_ms: clock::wall_ms(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cluster: format!("{:032x}", founding.cluster),
        name: cluster.to_owned(),
        seed: format!("{:016x}", founding.seed),
        data_shards: founding.data_shards,
    };
    let written = || -> Result<u64, Refusal> {
        let file = |error: std::io::Error| later(&under_way.display().to_string(), &error);
        // Of a try that was cut short.
        if under_way.exists() {
            std::fs::remove_dir_all(&under_way).map_err(file)?;
        }
        private_directory(&under_way).map_err(file)?;
        node.checkpoint(&under_way.join(DATABASE)).map_err(|error| later("the database", &error))?;
        failpoint::reach(failpoint::Place::BackupHalf);
        let text = serde_json::to_string_pretty(&manifest).map_err(|error| later(MANIFEST, &error))?;
        secret::write(&under_way.join(MANIFEST), &text).map_err(|error| later(MANIFEST, &error))?;
        let bytes = size(&under_way).map_err(file)?;
        failpoint::reach(failpoint::Place::BackupUnnamed);
        std::fs::rename(&under_way, &to).map_err(file)?;
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(file)?;
        Ok(bytes)
    };
    let bytes = written().inspect_err(|_| drop(std::fs::remove_dir_all(&under_way)))?;
    Ok((to, bytes))
}

/// Only for the owner's eyes: there are samples and passwords in it.
fn private_directory(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn size(directory: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let (path, meta) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
        bytes += if meta.is_dir() { size(&path)? } else { meta.len() };
    }
    Ok(bytes)
}

/// Fills an empty data directory from a backup; the node that starts there is a new cluster of one. Says what it is made of.
pub fn restore(config: &Config, from: &Path) -> Result<Manifest, Fault> {
    let data_dir = &config.data_dir;
    let wrong = |text: String| Fault::Start(text);
    let file = |path: PathBuf| move |error: std::io::Error| Fault::Start(format!("{}: {error}", path.display()));
    let manifest: Manifest = {
        let path = from.join(MANIFEST);
        let text = std::fs::read(&path).map_err(|error| {
            wrong(format!("{}: {error}; name the directory that `sluice cluster backup` wrote, with its `{MANIFEST}`", path.display()))
        })?;
        serde_json::from_slice(&text).map_err(|error| wrong(format!("{}: {error}", path.display())))?
    };
    if manifest.format > FORMAT {
        return Err(wrong(format!(
            "the backup has format {}, this program reads up to {FORMAT}: restore it with sluice {}",
            manifest.format, manifest.version
        )));
    }
    if app::identity(data_dir)?.is_some() || data_dir.join(DATABASE).exists() {
        return Err(wrong(format!("{} holds data already; restore into an empty directory", data_dir.display())));
    }
    let secrets = NodeSecrets::read(data_dir).map_err(|error| wrong(error.to_string()))?;
    if config.cluster.is_some() && secrets.is_none() {
        return Err(wrong("this node has no certificate yet: `sluice cluster join BUNDLE` first, as for a new node".to_owned()));
    }
    app::make_data_dir(config)?;
    let cluster = identity::random()
        .and_then(|low| identity::random().map(|high| format!("{:032x}", u128::from(high) << 64 | u128::from(low))))
        .map_err(file(PathBuf::from("/dev/urandom")))?;
    let (database, under_way) = (data_dir.join(DATABASE), data_dir.join("db.part"));
    if under_way.exists() {
        std::fs::remove_dir_all(&under_way).map_err(file(under_way.clone()))?;
    }
    copy(&from.join(DATABASE), &under_way).map_err(file(under_way.clone()))?;
    failpoint::reach(failpoint::Place::RestoreCopied);
    // The database comes last but one: without identity.json and with it the directory is refused as damaged, so a restore that was cut short is not
    // taken for data.
    let restored = serde_json::to_string(&Restored { cluster: cluster.clone() }).map_err(|error| wrong(error.to_string()))?;
    secret::write(&data_dir.join(RESTORED), &restored).map_err(|error| wrong(error.to_string()))?;
    std::fs::rename(&under_way, &database).map_err(file(database))?;
    failpoint::reach(failpoint::Place::RestoreMoved);
    let _ = std::fs::remove_file(data_dir.join("acked"));
    Mark::create(data_dir).map_err(|error| wrong(error.to_string()))?;
    let id = Identity::create(data_dir, secrets.as_ref().map(|secrets| secrets.id), clock::wall_ms())
        .map_err(|error| wrong(error.to_string()))?
        .node;
    only_member(data_dir, id)?;
    if let Some(secrets) = secrets.filter(|_| config.cluster.is_some()) {
        let charter = Charter {
            cluster,
            seed: manifest.seed.clone(),
            data_shards: manifest.data_shards,
            nodes: vec![Founder { id: secrets.card.node.clone(), name: secrets.card.name.clone() }],
            founded_ms: clock::wall_ms(),
            begun: true,
            admitted: false,
            recovered: true,
        };
        charter.write(data_dir).map_err(|error| wrong(error.to_string()))?;
    }
    Ok(manifest)
}

/// The node is the only member of every shard.
fn only_member(data_dir: &Path, id: u64) -> Result<(), Fault> {
    let failed = |error: &dyn std::fmt::Display| Fault::Start(error.to_string());
    let store = open::open(data_dir, clock::wall_ms()).map_err(|error| failed(&error))?.store;
    for shard in (0..MOST_SHARDS as u16).map(ShardId) {
        store.forget_staged(shard).map_err(|error| failed(&error))?;
        let Some(raft) = store.raft(shard).map_err(|error| failed(&error))? else { break };
        recover::alone(&store, shard, id, raft.last_index).map_err(|error| failed(&error))?;
    }
    store.sync().map_err(|error| failed(&error))?;
    store.close().map_err(|error| failed(&error))
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    private_directory(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.metadata()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
            std::fs::File::open(&target)?.sync_all()?;
        }
    }
    std::fs::File::open(to)?.sync_all()
}

/// The first start of what was restored: it becomes the cluster that `restore` made of it, and its sinks begin anew.
pub async fn settle(node: &Handle, data_dir: &Path) -> Result<(), Fault> {
    let path = data_dir.join(RESTORED);
    if !path.exists() {
        return Ok(());
    }
    let wrong = |error: &dyn std::fmt::Display| Fault::Start(format!("{}: {error}", path.display()));
    let text = std::fs::read(&path).map_err(|error| wrong(&error))?;
    let restored: Restored = serde_json::from_slice(&text).map_err(|error| wrong(&error))?;
    let cluster = u128::from_str_radix(&restored.cluster, 16).map_err(|error| wrong(&error))?;
    let settled = async {
        if node.founding().is_none_or(|founding| founding.cluster != cluster) {
            recover::new_epochs(node).await?;
            failpoint::reach(failpoint::Place::RestoreUnsettled);
            node.propose(ShardId::CONTROL, Command::Reidentify(cluster)).await?;
        }
        Ok::<(), ProposeError>(())
    };
    settled.await.map_err(|error| wrong(&error))?;
    std::fs::remove_file(&path).map_err(|error| wrong(&error))?;
    tracing::warn!(
        cluster = restored.cluster,
        "this is a new cluster, restored from a backup; every sink began a new epoch and may repeat rows"
    );
    Ok(())
}

//! What the nodes of a cluster agree on (`groups:`, `sinks:`), from the file or an operator into the control shard, and from there into what runs, on
//! every node by itself: whoever proposes a version only proposes it.
//!
//! The file of a node that is all there is counts at each start and reload, and becomes the next version where it differs. Of several nodes the
//! first one's file becomes version 1; after that a file counts only when its own settings change while the node runs and it is reloaded, so that a
//! forgotten file brings nothing old back. A node whose file differs says so.
//!
//! Left out on purpose: reading files (`reload`), the text's meaning (`config`), its versions (`shard::settings`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::api::settings::Refused;
use crate::app::Fault;
use crate::app::alerting;
use crate::app::check;
use crate::app::reload::Reload;
use crate::app::translate;
use crate::config::Config;
use crate::model::ShardId;
use crate::node::Handle;
use crate::node::offer::ProposeError;
use crate::probe::targets;
use crate::shard::command::Command;
use crate::shard::settings::NewVersion;
use crate::shard::settings::Version;

/// Between two tries while leaders change.
const AGAIN: Duration = Duration::from_millis(500);
/// How often a node looks for a new version where nothing woke it.
const LOOK: Duration = Duration::from_secs(1);

/// Who made a version that a node's file proposed.
pub fn by_file(node: &str) -> String {
    format!("the file of {node}")
}

/// At the start, when every shard has a leader: what is in force, the node's file before that if it counts. `alone`: the node is all there is.
pub async fn at_start(node: &Handle, file: &Config, name: &str, alone: bool) -> Result<Config, Fault> {
    loop {
        let current = node.cluster_settings().current.clone();
        let in_force = match read(file, &current) {
            Ok(in_force) => Some(in_force),
            Err(problem) if alone => {
                tracing::warn!("{problem}");
                None
            }
            Err(problem) => return Err(Fault::Start(problem)),
        };
        let counts = current.number == 0 || alone && in_force.as_ref().is_none_or(|in_force| !in_force.agrees_with(file));
        let config = match in_force.filter(|_| !counts) {
            Some(in_force) => in_force,
            None => {
                let gone = in_force_names(node).into_iter().filter(|name| !file.sinks.iter().any(|sink| sink.name == *name));
                gone.for_each(|sink| {
                    tracing::warn!(
                        sink,
                        undelivered_bytes = node.undelivered(&sink),
                        "the file names this sink no more: it goes, with what it has not delivered"
                    )
                });
                match propose(node, current.number, &file.settings, by_file(name)).await {
                    Ok(()) => file.clone(),
                    // Another node's came first, or leaders change, or the majority is gone again.
                    Err(error) if alone => return Err(Fault::Start(error.to_string())),
                    Err(_) => {
                        tokio::time::sleep(AGAIN).await;
                        continue;
                    }
                }
            }
        };
        spread(node, &config).await;
        return Ok(config);
    }
}

fn in_force_names(node: &Handle) -> Vec<String> {
    let shard = node.shards().first().copied();
    shard.map(|shard| node.cursors(shard).iter().map(|cursor| cursor.sink.clone()).collect()).unwrap_or_default()
}

/// A version as this node carries it out.
pub fn read(own: &Config, version: &Version) -> Result<Config, String> {
    let wrong = |problems: Vec<String>| {
        format!(
            "version {} of the settings, by {}, cannot be carried out here: {}. Was it made by a newer sluice? `sluice config show` shows it, `sluice config apply` makes another one",
            version.number,
            version.by,
            problems.join("; ")
        )
    };
    judge(own, &version.text).map_err(wrong)
}

/// This node's own part with these settings, judged by whoever owns a section.
pub fn judge(own: &Config, text: &str) -> Result<Config, Vec<String>> {
    let config = own.with_settings(text).map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let mut judged: Vec<String> = config.sinks.iter().filter_map(|sink| check::judged_or_why(sink).err()).collect();
    judged.extend(config.jobs.jobs.iter().filter_map(|job| targets::Ready::new(job).err()));
    judged.extend(config.alerting.iter().filter_map(|written| alerting::judge(written).err()).flatten());
    if judged.is_empty() { Ok(config) } else { Err(judged) }
}

/// Proposes the version after `before`.
pub async fn propose(node: &Handle, before: u64, text: &str, by: String) -> Result<(), ProposeError> {
    let new = NewVersion { number: before + 1, text: text.to_owned(), by };
    node.propose(ShardId::CONTROL, Command::ClusterSettings(new)).await?;
    Ok(())
}

/// Tells the data shards their sinks. All nodes do so and want the same; whoever comes second finds it done.
pub async fn spread(node: &Handle, config: &Config) {
    let sinks = translate::sinks(config, node.shards().len());
    let keep_ms = i64::try_from(config.log.keep.as_millis()).unwrap_or(i64::MAX);
    while let Err(error) = node.set_sinks(&sinks, keep_ms).await {
        if node.fatal().is_some() || matches!(error, ProposeError::Stopping) {
            return;
        }
        // Another node was quicker, or leaders change.
        tokio::time::sleep(AGAIN / 10).await;
    }
}

/// What would be lost with the sinks that `new` has no more, unless they are named in `discard`.
pub fn undelivered(node: &Handle, present: &Config, new: &Config, discard: &[String]) -> Result<(), Refused> {
    let stays = |name: &str| new.sinks.iter().any(|sink| sink.name == name) || discard.iter().any(|named| named == name);
    let gone = present.sinks.iter().map(|sink| sink.name.as_str()).filter(|name| !stays(name));
    let losing: Vec<(String, u64)> = gone.map(|name| (name.to_owned(), node.undelivered(name))).filter(|(_, bytes)| *bytes > 0).collect();
    if losing.is_empty() { Ok(()) } else { Err(Refused::Undelivered(losing)) }
}

/// Carries out every version that comes, until `stop`.
pub async fn keep(reload: Arc<Reload>, node: Handle, mut stop: watch::Receiver<bool>) {
    let mut progress = node.progress(ShardId::CONTROL);
    loop {
        reload.follow().await;
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            changed = progress.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

//! `sluice cluster backup` and `restore`: a running node's data into a directory beside it, and from there into a new cluster.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use crate::app;
use crate::app::backup::older;
use crate::cli::Asked;
use crate::cli::Failure;
use crate::cli::client::segment;
use crate::cli::owner;
use crate::cli::table::cell;
use crate::clock;

/// `sluice cluster backup`.
#[derive(Debug, Args)]
pub struct Backup {
    /// Name of the directory, below `backups` in the node's data directory; without it, the time.
    name: Option<String>,
    /// Then remove the oldest of those that are called by their time, until so many are left; what was given a name stays. For timers: with a full disk nothing
    /// is written.
    #[arg(long, value_name = "NUMBER", conflicts_with = "name", value_parser = clap::value_parser!(u16).range(1..=366))]
    keep: Option<u16>,
    #[command(flatten)]
    asked: Asked,
}

/// `sluice cluster restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// The directory that `backup` wrote, or a copy of it.
    backup: PathBuf,
    /// The configuration of the node that shall have it; its data directory must hold no data.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Asks the node to write one.
pub async fn backup(wanted: &Backup) -> Result<(), Failure> {
    let name = wanted.name.clone().unwrap_or_else(|| older::name_of(clock::wall_ms()));
    let keep = wanted.keep.map(|keep| format!("?keep={keep}")).unwrap_or_default();
    let answer = wanted.asked.client().post(&format!("/api/v1/backups/{}{keep}", segment(&name)), &Value::Null).await?;
    if wanted.asked.json {
        println!("{answer:#}");
        return Ok(());
    }
    let path = cell(&answer["path"]);
    for removed in answer["removed"].as_array().into_iter().flatten() {
        println!("{}: removed", cell(removed));
    }
    println!(
        "{path}: {} bytes\n\
         It lies on the node's own disk, and holds samples, the settings with their passwords and the hashes of tokens: copy it to a safe place,\n\
         then remove it, because it keeps room from being given back. `sluice cluster restore DIRECTORY --config FILE` makes a new cluster of it.",
        cell(&answer["bytes"])
    );
    Ok(())
}

/// Fills an empty data directory.
pub fn restore(wanted: &Restore) -> Result<(), Failure> {
    let config = app::check::file(&wanted.config)?;
    let manifest = app::backup::restore(&config, &wanted.backup)?;
    owner::hand_over(&config.data_dir)?;
    let more = if config.cluster.is_some() {
        "; then give the other nodes empty data directories, join and start them, and add each: sluice cluster add NAME"
    } else {
        ""
    };
    println!(
        "{}: restored from the backup of cluster {} ({}) of {}\n\
         It is a cluster of its own, with one node and a new identity. Its sinks go on where the backup's were, as new ones: what the old cluster\n\
         delivered after the backup and this one has, comes a second time. Start it: sluice run --config {}{more}",
        config.data_dir.display(),
        manifest.name,
        manifest.cluster,
        clock::rfc3339(manifest.made_ms),
        wanted.config.display()
    );
    Ok(())
}

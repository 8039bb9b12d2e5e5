//! `sluice cluster transfer`: leadership goes where a person wants it.

use clap::Args;
use serde_json::json;

use crate::cli::Asked;
use crate::cli::Failure;
use crate::cli::table::cell;

/// `sluice cluster transfer`.
#[derive(Debug, Args)]
pub struct Transfer {
    /// The shard; 0 is the control shard. `sluice cluster status` lists them.
    #[arg(long, value_name = "N", required_unless_present = "all", conflicts_with = "all")]
    shard: Option<u16>,
    /// Every shard.
    #[arg(long)]
    all: bool,
    /// The node that shall lead: its name in cluster.nodes.
    #[arg(long, value_name = "NODE")]
    to: String,
    #[command(flatten)]
    asked: Asked,
}

/// Asks for it, and says when it is so.
pub async fn transfer(wanted: &Transfer) -> Result<(), Failure> {
    let body = json!({"shard": wanted.shard, "to": wanted.to});
    let answer = wanted.asked.client().post("/api/v1/cluster/transfer", &body).await?;
    if wanted.asked.json {
        println!("{answer:#}");
    } else {
        println!("{}", cell(&answer["done"]));
    }
    Ok(())
}

//! `sluice sender`: who writes to the cluster, how it goes for them, and what they were told last.

use clap::Subcommand;
use serde_json::Value;

use crate::cli::Asked;
use crate::cli::Failure;
use crate::cli::table::Table;
use crate::cli::table::cell;
use crate::cli::table::span;

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// All senders of all nodes: where from, as what, how fast, and the last refusal with its reason.
    List {
        /// Only those that write to the node that is asked.
        #[arg(long)]
        this_node: bool,
        #[command(flatten)]
        asked: Asked,
    },
}

/// Does it.
pub async fn carry_out(verb: Verb) -> Result<(), Failure> {
    let Verb::List { this_node, asked } = verb;
    let answer = asked.client().get(if this_node { "/api/v1/senders?node=this" } else { "/api/v1/senders" }).await?;
    if asked.json {
        println!("{answer:#}");
    } else {
        print!("{}", list(&answer, crate::clock::wall_ms()));
    }
    Ok(())
}

fn list(answer: &Value, now: i64) -> String {
    let items = |key: &str| answer.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut table = Table::new(&[
        "GROUP",
        "REPLICA",
        "NODE",
        "ADDRESS",
        "AGENT",
        "PROTOCOL",
        "SAMPLES/S",
        "LAG",
        "SEEN",
        "REFUSED",
        "REPEATED",
        "PUT OFF",
    ]);
    let mut refusals = String::new();
    let ago = |at: &Value| span(&at.as_i64().map_or(Value::Null, |at| Value::from((now - at).max(0))));
    for sender in items("senders") {
        table.row(vec![
            cell(&sender["group"]),
            cell(&sender["replica"]),
            cell(&sender["node"]),
            cell(&sender["address"]),
            cell(&sender["agent"]),
            cell(&sender["protocol"]),
            cell(&sender["samples_per_second"]),
            span(&sender["lag_ms"]),
            ago(&sender["last_seen"]),
            cell(&sender["refused"]),
            cell(&sender["repeated"]),
            cell(&sender["put_off"]),
        ]);
        let who = if sender["group"] == "" {
            cell(&sender["address"])
        } else {
            format!("{} {}", cell(&sender["group"]), cell(&sender["replica"]))
        };
        if !sender["missing"].is_null() {
            refusals.push_str(&format!("! {who}: its series do not say whose they are ({}); docs/senders.md\n", cell(&sender["missing"])));
        }
        let told = &sender["last_refusal"];
        if !told.is_null() {
            refusals.push_str(&format!("! {who}: told {} {} ago: {}\n", cell(&told["status"]), ago(&told["at"]), cell(&told["text"])));
        }
    }
    for node in items("unreachable") {
        refusals.push_str(&format!("! {} does not answer, its senders are missing: {}\n", cell(&node["node"]), cell(&node["reason"])));
    }
    format!("{}{refusals}", table.text("nobody has written yet; docs/senders.md shows how to point a Prometheus here"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_shows_rates_and_the_last_refusal() {
        let answer = json!({"senders": [{"group": "g", "replica": "a", "node": "mon1", "address": "10.0.0.7", "agent": "Prometheus/3.1.0",
            "protocol": "2.0", "samples_per_second": 1333.3, "lag_ms": 400, "last_seen": 99_000, "refused": 0, "repeated": 2, "put_off": 1,
            "missing": null, "last_refusal": {"at": 40_000, "status": 503, "text": "the node is stopping"}}],
            "unreachable": [{"node": "mon2", "reason": "no route"}]});
        let text = list(&answer, 100_000);
        assert!(text.contains("1333.3") && text.contains("400 ms") && text.contains("1.0 s"), "{text}");
        assert!(text.contains("! g a: told 503 60.0 s ago: the node is stopping\n"), "{text}");
        assert!(text.ends_with("! mon2 does not answer, its senders are missing: no route\n"), "{text}");
    }
}

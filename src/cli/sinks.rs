//! `sluice sink` and `sluice tap`: where samples go, how far they are, and what they look like.

use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;
use http_body_util::BodyExt;
use serde_json::Value;
use serde_json::json;

use crate::app;
use crate::cli::Asked;
use crate::cli::Failure;
use crate::cli::Node;
use crate::cli::client::segment;
use crate::cli::table::Table;
use crate::cli::table::cell;
use crate::cli::table::span;

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// All sinks: delivered, pending, how long the budget lasts, what is wrong and what to do.
    List(Asked),
    /// What a sink's receiver refused for good, oldest first.
    Dead(One),
    /// What becomes of a sample at each sink: which rule does what, and what goes out. Nothing is sent.
    Explain(Explain),
    /// Send a sink's dead letters again; those that Kafka takes leave the list.
    Replay(One),
    /// Hold a sink, on whichever node and across restarts, until `resume`. What comes stays in the log, within the sink's budget.
    Pause(One),
    /// Let a sink that is held go on where it was.
    Resume(One),
}

/// A verb about one sink.
#[derive(Debug, Args)]
pub struct One {
    /// The sink, as `sink list` shows it.
    sink: String,
    #[command(flatten)]
    asked: Asked,
}

/// `sluice sink explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// A series as PromQL writes it, and a value and a time in ms if they matter: 'up{job="node"} 1'.
    sample: String,
    /// Judge by this configuration instead of the running node's.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    asked: Asked,
}

/// `sluice tap`.
#[derive(Debug, Args)]
pub struct Tap {
    /// The sink whose rows are shown.
    #[arg(long = "at", value_name = "SINK")]
    sink: String,
    /// Stop after so many rows.
    #[arg(long, short = 'n', value_name = "ROWS")]
    count: Option<u64>,
    #[command(flatten)]
    node: Node,
}

/// Does it.
pub async fn carry_out(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List(asked) => {
            let answer = asked.client().get("/api/v1/sinks").await?;
            print_or_json(&asked, &answer, list)
        }
        Verb::Pause(one) => hold(&one, "pause").await,
        Verb::Resume(one) => hold(&one, "resume").await,
        Verb::Dead(one) => {
            let answer = one.asked.client().get(&format!("/api/v1/sinks/{}/dead", segment(&one.sink))).await?;
            print_or_json(&one.asked, &answer, dead)
        }
        Verb::Explain(explain) => {
            let answer = match &explain.config {
                Some(file) => explained_by(file, &explain.sample)?,
                None => explain.asked.client().get(&format!("/api/v1/explain?sample={}", segment(&explain.sample))).await?,
            };
            print_or_json(&explain.asked, &answer, explained)
        }
        Verb::Replay(one) => {
            // A call sends for some seconds; a long list takes several.
            loop {
                let answer = one.asked.client().post(&format!("/api/v1/sinks/{}/replay", segment(&one.sink)), &json!({})).await?;
                print_or_json(&one.asked, &answer, replayed)?;
                if !goes_on(&answer)? {
                    return Ok(());
                }
            }
        }
    }
}

async fn hold(one: &One, word: &str) -> Result<(), Failure> {
    let answer = one.asked.client().post(&format!("/api/v1/sinks/{}/{word}", segment(&one.sink)), &json!({})).await?;
    print_or_json(&one.asked, &answer, |answer| format!("{}\n", cell(&answer["done"])))
}

/// Copies rows to standard output until there are enough of them, or nobody reads on.
pub async fn tap(tap: Tap) -> Result<(), Failure> {
    let mut body = tap.node.client().open(&format!("/api/v1/sinks/{}/tap", segment(&tap.sink))).await?;
    let mut out = std::io::stdout().lock();
    let mut left = tap.count.unwrap_or(u64::MAX);
    let mut begun: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::NoAnswer(format!("the node broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        begun.extend_from_slice(&data);
        while let Some(end) = begun.iter().position(|byte| *byte == b'\n') {
            let row: Vec<u8> = begun.drain(..=end).collect();
            // A closed pipe (`| head`) is the reader's way to say that it has enough.
            if out.write_all(&row).is_err() {
                return Ok(());
            }
            left -= 1;
            if left == 0 {
                return Ok(());
            }
        }
        let _ = out.flush();
    }
    Ok(())
}

fn print_or_json(asked: &Asked, answer: &Value, text: fn(&Value) -> String) -> Result<(), Failure> {
    if asked.json {
        println!("{answer:#}");
    } else {
        print!("{}", text(answer));
    }
    Ok(())
}

fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn list(answer: &Value) -> String {
    let mut table = Table::new(&["SINK", "TARGET", "STATE", "DELIVERED", "FILTERED", "DEAD", "DROPPED", "PENDING", "LAG", "TIME LEFT"]);
    let mut troubles = String::new();
    for sink in items(answer, "sinks") {
        let left = sink["seconds_left"].as_f64().map_or(Value::Null, |seconds| Value::from(seconds * 1000.0));
        table.row(vec![
            cell(&sink["name"]),
            cell(&sink["target"]),
            cell(&sink["state"]),
            cell(&sink["delivered"]),
            cell(&sink["filtered"]),
            cell(&sink["dead"]),
            cell(&sink["dropped"]),
            cell(&sink["pending"]),
            span(&sink["lag_ms"]),
            span(&left),
        ]);
        for trouble in items(sink, "troubles") {
            troubles.push_str(&format!("! {}: {}\n  {}\n", cell(&sink["name"]), cell(&trouble["text"]), cell(&trouble["remedy"])));
        }
    }
    format!("{}{troubles}", table.text("no sinks; `sinks:` in the configuration names them"))
}

fn dead(answer: &Value) -> String {
    let mut table = Table::new(&["SHARD", "NUMBER", "REASON", "ROW"]);
    for letter in items(answer, "dead") {
        table.row(vec![cell(&letter["shard"]), cell(&letter["number"]), cell(&letter["reason"]), cell(&letter["payload"])]);
    }
    table.text("no dead letters")
}

/// The answer of a node with this file.
fn explained_by(file: &Path, sample: &str) -> Result<Value, Failure> {
    let config = app::check::file(file)?;
    let sample = app::explain::Sample::parse(sample).map_err(Failure::Wrong)?;
    let sinks = config.sinks.iter().map(|sink| app::explain::at(sink, &sample)).collect::<Result<Vec<_>, String>>();
    Ok(json!({ "sinks": sinks.map_err(Failure::Wrong)? }))
}

fn explained(answer: &Value) -> String {
    let mut text = String::new();
    for sink in items(answer, "sinks") {
        let verdict = if sink["taken"] == true { "taken".to_owned() } else { format!("left: {}", cell(&sink["why"])) };
        text.push_str(&format!("{} ({}, {}): {verdict}\n", cell(&sink["sink"]), cell(&sink["kind"]), cell(&sink["target"])));
        for step in items(sink, "steps") {
            let rule = format!("{} ({})", cell(&step["rule"]), cell(&step["action"]));
            text.push_str(&format!("  {rule:<30}  {}\n", cell(&step["series"])));
        }
        if sink["taken"] == true {
            text.push_str(&format!("  {:<30}  {}\n", "goes out as", cell(&sink["record"])));
        }
    }
    if text.is_empty() { "no sinks; `sinks:` in the configuration names them\n".to_owned() } else { text }
}

fn replayed(answer: &Value) -> String {
    let mut text = format!("{} sent again\n", cell(&answer["replayed"]));
    for shard in items(answer, "shards") {
        for letter in items(shard, "letters") {
            text.push_str(&format!("! shard {} number {}: {}\n", shard["shard"], letter["number"], cell(&letter["reason"])));
        }
        if !shard["problem"].is_null() {
            text.push_str(&format!("! shard {}: {}\n", shard["shard"], cell(&shard["problem"])));
        }
    }
    text
}

/// Whether to ask once more: letters were not tried for want of time. Letters that stay are a failure.
fn goes_on(answer: &Value) -> Result<bool, Failure> {
    let failed = answer["failed"].as_u64().unwrap_or(0);
    let stuck = items(answer, "shards").iter().any(|shard| !shard["problem"].is_null());
    let more = answer["more"] == true;
    if failed > 0 || stuck || (more && answer["replayed"] == 0) {
        let which = if failed > 0 { format!("{failed} dead letters stay") } else { "dead letters stay".to_owned() };
        return Err(Failure::Failed(format!("{which}: mend the cause, then ask again; `sluice sink dead` lists them")));
    }
    Ok(more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_what_is_wrong_and_what_to_do() {
        let answer = json!({"sinks": [{"name": "platform", "target": "metrics", "state": "troubled", "delivered": 12, "pending": 3400,
            "lag_ms": 65000, "seconds_left": 7200, "troubles": [{"text": "no broker answers", "remedy": "start it"}]}]});
        let text = list(&answer);
        assert!(text.contains("65.0 s") && text.contains("2.0 h"), "{text}");
        assert!(text.ends_with("! platform: no broker answers\n  start it\n"));
    }
}

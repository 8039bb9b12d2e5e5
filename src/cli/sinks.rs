//! `sluice sink`: where samples go, how far they are, and what was refused.

use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;
use serde_json::Value;
use serde_json::json;

use crate::app;
use crate::cli::Asked;
use crate::cli::Failure;
use crate::cli::client::segment;
use crate::cli::table::Table;
use crate::cli::table::cell;
use crate::cli::table::span;
use crate::config::values;

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
    /// Send a sink's receiver one record of its own, and say what happened.
    Test(One),
    /// Go back in time: what a sink has delivered since is delivered once more, as far as the log is kept (`log.keep`).
    Rewind(Back),
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

/// `sluice sink rewind`.
#[derive(Debug, Args)]
pub struct Back {
    /// The sink, as `sink list` shows it.
    sink: String,
    /// So far back from now, as 10m or 1h30m.
    #[arg(long, value_name = "SPAN", required_unless_present = "to")]
    by: Option<String>,
    /// To this time, ms since 1970.
    #[arg(long, value_name = "MS", conflicts_with = "by")]
    to: Option<i64>,
    #[command(flatten)]
    asked: Asked,
}

/// `sluice sink explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// A series as PromQL writes it, and a value and a time in ms if they matter: 'up{job="node"} 1'. For a sink with `increase` the sample before may follow: 'x_total 17 1700000015000 after 12
    /// 1700000000000'.
    sample: String,
    /// It is of this tenant; the same as the label `__tenant__` in the sample.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Judge by this configuration instead of the running node's.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    asked: Asked,
}

/// Does it.
pub async fn carry_out(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List(asked) => {
            let answer = asked.client().get("/api/v1/sinks").await?;
            print_or_json(&asked, &answer, list)
        }
        Verb::Test(one) => {
            let answer = one.asked.client().post(&format!("/api/v1/sinks/{}/test", segment(&one.sink)), &json!({})).await?;
            print_or_json(&one.asked, &answer, tried)?;
            let problem = answer["problem"].as_str().map(|problem| Failure::Failed(format!("{}: {problem}", one.sink)));
            problem.map_or(Ok(()), Err)
        }
        Verb::Rewind(back) => rewind(&back).await,
        Verb::Pause(one) => hold(&one, "pause").await,
        Verb::Resume(one) => hold(&one, "resume").await,
        Verb::Dead(one) => {
            let answer = one.asked.client().get(&format!("/api/v1/sinks/{}/dead", segment(&one.sink))).await?;
            print_or_json(&one.asked, &answer, dead)
        }
        Verb::Explain(explain) => {
            let answer = match &explain.config {
                Some(file) => explained_by(file, &explain.sample, explain.tenant.as_deref())?,
                None => {
                    let tenant = explain.tenant.as_deref().map(|tenant| format!("&tenant={}", segment(tenant))).unwrap_or_default();
                    explain.asked.client().get(&format!("/api/v1/explain?sample={}{tenant}", segment(&explain.sample))).await?
                }
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

fn tried(answer: &Value) -> String {
    let verdict = if answer["delivered"] == true { "taken" } else { "not taken" };
    format!("{} 1: {verdict} after {} ms\n", cell(&answer["series"]), cell(&answer["millis"]))
}

async fn rewind(back: &Back) -> Result<(), Failure> {
    let body = match (&back.by, back.to) {
        (Some(span), _) => {
            let span = values::duration(span).map_err(|(rule, remedy)| Failure::Wrong(format!("--by {span}: {rule}; {remedy}")))?;
            json!({ "by_ms": u64::try_from(span.as_millis()).unwrap_or(u64::MAX) })
        }
        (None, to) => json!({ "to": to }),
    };
    let answer = back.asked.client().post(&format!("/api/v1/sinks/{}/rewind", segment(&back.sink)), &body).await?;
    print_or_json(&back.asked, &answer, rewound)
}

fn rewound(answer: &Value) -> String {
    let mut text = format!("{} samples will be delivered once more\n", cell(&answer["samples"]));
    for shard in items(answer, "shards").iter().filter(|shard| shard["short"] == true) {
        text.push_str(&format!(
            "! shard {}: begins at {} ms, since nothing older is kept; `log.keep` says for how long it is\n",
            cell(&shard["shard"]),
            cell(&shard["from"])
        ));
    }
    text
}

/// The answer of a node with this file.
fn explained_by(file: &Path, sample: &str, tenant: Option<&str>) -> Result<Value, Failure> {
    let config = app::check::file(file)?;
    let sample = app::explain::Sample::of(sample, tenant).map_err(Failure::Wrong)?;
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
            if let Some(tenant) = sink["tenant"].as_str() {
                text.push_str(&format!("  {:<30}  {tenant}\n", "of tenant"));
            }
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

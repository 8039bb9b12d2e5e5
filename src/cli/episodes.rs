//! `sluice alert history`: alerts that are over, how long they lasted, who was told, and who took care.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::cli::Asked;
use crate::cli::Failure;
use crate::cli::alerts;
use crate::cli::client::segment;
use crate::cli::table::Table;
use crate::cli::table::cell;
use crate::cli::table::span;
use crate::clock;

/// `sluice alert history`.
#[derive(Debug, Args)]
pub struct History {
    /// Only those that fit all of them: `team=db`, `severity=~"critical|page"`; a word alone is the alert's name.
    #[arg(value_name = "MATCHER")]
    matchers: Vec<String>,
    /// Those that held within this time.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = alerts::time)]
    since: Duration,
    /// So many at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    asked: Asked,
}

/// Does it.
pub async fn show(asked: &History) -> Result<(), Failure> {
    let mut query = alerts::filters(&asked.matchers)?;
    let since = i64::try_from(asked.since.as_millis()).unwrap_or(i64::MAX);
    query.push(format!("from={}&limit={}", segment(&clock::wall_ms().saturating_sub(since).to_string()), asked.limit));
    let answer = asked.asked.client().get(&format!("/api/v1/alerts/history?{}", query.join("&"))).await?;
    if asked.asked.json {
        println!("{answer:#}");
    } else {
        print!("{}", table(&answer));
    }
    Ok(())
}

fn table(answer: &Value) -> String {
    let mut table = Table::new(&["ALERT", "LEVEL", "START", "LASTED", "TOLD", "ACKNOWLEDGED", "LABELS"]);
    for episode in answer["episodes"].as_array().into_iter().flatten() {
        let told = alerts::words(&episode["told"], |telling| cell(&telling["receiver"]));
        let told = match (&*told, &episode["silencedBy"]) {
            ("-", Value::String(_)) => "nobody: silenced".to_owned(),
            ("-", _) => "nobody".to_owned(),
            _ => told,
        };
        let acknowledged = match &episode["acknowledged"]["by"] {
            Value::String(by) => format!("{by} after {}", span(&episode["acknowledged"]["afterMs"])),
            _ => "-".to_owned(),
        };
        table.row(vec![
            cell(&episode["labels"]["alertname"]),
            level(episode),
            cell(&episode["startsAt"]),
            span(&episode["lastedMs"]),
            told,
            acknowledged,
            alerts::labels(&episode["labels"], &["alertname"]),
        ]);
    }
    let mut text = table.text("no alert is over within this time; `sluice alert list` shows those that hold");
    if let Some(missing) = answer["missing"].as_u64().filter(|missing| *missing > 0) {
        text.push_str(&format!("\n{missing} more ended while this node was not there; ask another one (--server)\n"));
    }
    if !answer["next"].is_null() {
        text.push_str("\nthere may be more: raise --limit, or shorten --since\n");
    }
    text
}

/// The worst that it had, and that at its end where it is another one.
fn level(episode: &Value) -> String {
    match (cell(&episode["level"]), cell(&episode["levelAtEnd"])) {
        (worst, end) if end == "-" || end == worst => worst,
        (worst, end) => format!("{worst}, then {end}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_was_told_and_who_took_care() {
        let one = json!({"labels": {"alertname": "DiskFull", "instance": "a"}, "level": "P1", "startsAt": "1970-01-01T00:00:10.000Z", "lastedMs": 240_000,
            "told": [{"receiver": "db"}, {"receiver": "all"}], "acknowledged": {"by": "ann", "afterMs": 12_345}, "silencedBy": null});
        let mut other = one.clone();
        (other["told"], other["acknowledged"], other["silencedBy"]) = (json!([]), Value::Null, json!("x"));
        let text = table(&json!({"episodes": [one, other], "missing": 2, "next": 7}));
        assert!(text.contains("db, all") && text.contains("ann after 12.3 s") && text.contains("4 min"), "{text}");
        assert!(text.contains("nobody: silenced") && text.contains("\n2 more ended") && text.contains("raise --limit"), "{text}");
        assert!(table(&json!({"episodes": [], "missing": 0, "next": null})).starts_with("no alert is over"));
    }
}

//! `sluice alert dry-run`: what would have been told within the last days with the policies of a file, beside what would have been with those in force.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use serde_json::json;

use crate::cli::Asked;
use crate::cli::Failure;
use crate::cli::client::segment;
use crate::cli::table::Table;
use crate::cli::table::cell;
use crate::cli::table::span;
use crate::config::policies;

/// So often it is asked how far it is.
const LOOK: Duration = Duration::from_millis(200);

/// Where it is begun, and below it asked for.
const DRY_RUN: &str = "/api/v1/alerts/dry-run";

/// `sluice alert dry-run`.
#[derive(Debug, Args)]
pub struct DryRun {
    /// Policies as they would stand below `alerting:`, or a whole sluice.yaml.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Days of the history that are lived through.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=400))]
    days: u64,
    #[command(flatten)]
    asked: Asked,
}

/// Does it.
pub async fn show(asked: &DryRun) -> Result<(), Failure> {
    let file = asked.policy.display();
    let text = std::fs::read_to_string(&asked.policy).map_err(|error| Failure::Wrong(format!("{file} cannot be read: {error}")))?;
    policies::of_text(&text).map_err(|problems| {
        let all: Vec<String> = problems.iter().map(|problem| format!("{file}: {problem}")).collect();
        Failure::Wrong(all.join("\n"))
    })?;
    let client = asked.asked.client();
    let begun = client.post(DRY_RUN, &json!({ "policies": text, "days": asked.days })).await?;
    let path = format!("{DRY_RUN}/{}", segment(&cell(&begun["id"])));
    let mut line = Line { on: std::io::stderr().is_terminal(), width: 0 };
    let answer = loop {
        let mut progress = client.get(&path).await?;
        if !progress["result"].is_null() {
            break progress["result"].take();
        }
        line.say(&said(&progress));
        tokio::time::sleep(LOOK).await;
    };
    line.say("");
    if asked.asked.json {
        println!("{answer:#}");
    } else {
        print!("{}", shown(&answer));
    }
    Ok(())
}

/// A line of the terminal that is written over; elsewhere nothing is said.
struct Line {
    on: bool,
    width: usize,
}

impl Line {
    fn say(&mut self, text: &str) {
        if self.on && (self.width > 0 || !text.is_empty()) {
            eprint!("\r{text:<width$}{}", if text.is_empty() { "\r" } else { "" }, width = self.width);
            self.width = text.chars().count();
        }
    }
}

/// How far it is.
fn said(progress: &Value) -> String {
    match (progress["lived"].as_u64(), progress["of"].as_u64()) {
        (Some(lived), Some(of)) if of > 0 => {
            let half = if lived * 2 < of { "with the policies in force" } else { "with those of the file" };
            format!("{} % of {} episodes, {half}", lived * 100 / of, of / 2)
        }
        _ => "the history is read".to_owned(),
    }
}

fn shown(answer: &Value) -> String {
    let mut table =
        Table::new(&["ALERT", "EPISODES", "TOLD THEN", "IN FORCE", "PROPOSED", "WAITED", "JOINED", "MAINTENANCE", "SILENCED", "LATER"]);
    let mut alerts: Vec<&Value> = answer["alerts"].as_array().into_iter().flatten().collect();
    // Where most changes first.
    let saved = |alert: &Value| alert["inForce"]["told"].as_i64().unwrap_or(0) - alert["proposed"]["told"].as_i64().unwrap_or(0);
    alerts.sort_by_key(|alert| (-saved(alert).abs(), cell(&alert["alertname"])));
    for alert in alerts {
        let proposed = &alert["proposed"];
        let later = match proposed["later"].as_u64() {
            Some(later) if later > 0 => format!("{later} by {}", span(&proposed["laterMeanMs"])),
            _ => "-".to_owned(),
        };
        let number = |value: &Value| if value.as_u64() == Some(0) { "-".to_owned() } else { cell(value) };
        table.row(vec![
            cell(&alert["alertname"]),
            cell(&alert["episodes"]),
            cell(&alert["toldThen"]),
            cell(&alert["inForce"]["told"]),
            cell(&proposed["told"]),
            number(&proposed["waited"]),
            number(&proposed["joined"]),
            number(&proposed["maintained"]),
            number(&alert["silenced"]),
            later,
        ]);
    }
    let mut out = table.text("no alert began and was over within this time");
    out.push_str(&format!(
        "\n{} episodes from {} to {}: {} messages with the policies in force, {} with those of the file\n",
        cell(&answer["episodes"]),
        cell(&answer["from"]),
        cell(&answer["to"]),
        cell(&answer["messages"]["inForce"]),
        cell(&answer["messages"]["proposed"]),
    ));
    if let Some(missing) = answer["missing"].as_u64().filter(|missing| *missing > 0) {
        out.push_str(&format!("{missing} more ended while this node was not there; ask another one (--server)\n"));
    }
    if let Some(before) = answer["leftOutBefore"].as_str() {
        out.push_str(&format!("there were more than one dry-run takes: those before {before} were left out\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_it_is_is_said_of_both_halves() {
        let said = |lived: u64, of: u64| said(&json!({"id": "x", "lived": lived, "of": of, "result": null}));
        assert_eq!(said(0, 0), "the history is read");
        assert_eq!(said(250, 1_000), "25 % of 500 episodes, with the policies in force");
        assert_eq!(said(990, 1_000), "99 % of 500 episodes, with those of the file");
    }

    #[test]
    fn what_changes_most_stands_first() {
        let told = |told: u64, joined: u64, later: u64| json!({"told": told, "joined": joined, "waited": 0, "maintained": 0, "later": later, "laterMeanMs": 30_000});
        let one = |name: &str, in_force: Value, proposed: Value| json!({"alertname": name, "episodes": 40, "toldThen": 38, "silenced": 0, "inForce": in_force, "proposed": proposed});
        let alerts = [one("Calm", told(40, 0, 0), told(40, 0, 2)), one("Flaps", told(40, 0, 0), told(3, 37, 0))];
        let answer = json!({"from": "a", "to": "b", "episodes": 80, "missing": 2, "leftOutBefore": null, "messages": {"inForce": 160, "proposed": 86}, "alerts": alerts});
        let text = shown(&answer);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("Flaps") && lines[2].starts_with("Calm") && lines[2].contains("2 by 30"), "{text}");
        assert!(text.contains("160 messages with the policies in force, 86 with") && text.contains("2 more ended"), "{text}");
    }
}

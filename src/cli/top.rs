//! `sluice top`: groups and sinks live, as rates between two looks at what the node says of itself (`GET /api/v1/status`).
//!
//! Plain escape sequences: the other screen of the terminal, home, lines, clear the rest. The terminal is put back whatever ends it. Left out on purpose: colours,
//! scrolling (what does not fit is counted), anything that can be changed.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::io::Read;
use std::io::Write;
use std::time::Duration;

use clap::Args;
use rustix::termios;
use rustix::termios::LocalModes;
use rustix::termios::OptionalActions;
use rustix::termios::SpecialCodeIndex;
use rustix::termios::Termios;
use serde_json::Value;
use serde_json::json;

use crate::cli::Asked;
use crate::cli::Failure;
use crate::cli::table::Table;
use crate::cli::table::cell;
use crate::cli::table::span;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks at the keyboard.
const KEYS: Duration = Duration::from_millis(50);

/// `sluice top`.
#[derive(Debug, Args)]
pub struct Top {
    /// Look twice, so many seconds apart, print it and end; so does a standard output that is no terminal.
    #[arg(long)]
    once: bool,
    /// Rates over so many seconds: those of a scrape interval jump least.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=300))]
    over: u64,
    #[command(flatten)]
    asked: Asked,
}

/// Does it.
pub async fn carry_out(top: Top) -> Result<(), Failure> {
    let client = top.asked.client();
    let mut looks = VecDeque::from([client.get("/api/v1/status").await?]);
    if top.once || top.asked.json || !std::io::stdout().is_terminal() {
        tokio::time::sleep(Duration::from_secs(top.over)).await;
        let rates = rates(&looks[0], &client.get("/api/v1/status").await?);
        if top.asked.json {
            println!("{rates:#}");
        } else {
            print!("{}", text(&rates, usize::MAX));
        }
        return Ok(());
    }
    let screen = Screen::take();
    loop {
        if wait_for_end(&screen).await {
            return Ok(());
        }
        let now = client.get("/api/v1/status").await?;
        screen.draw(&text(&rates(&looks[0], &now), screen.height()));
        looks.push_back(now);
        while looks.len() as u64 > top.over {
            looks.pop_front();
        }
    }
}

/// Waits until the next look is due; true: somebody wants it to end.
async fn wait_for_end(screen: &Screen) -> bool {
    let ended = async {
        loop {
            if screen.wants_end() {
                return;
            }
            tokio::time::sleep(KEYS).await;
        }
    };
    tokio::select! {
        () = ended => true,
        _ = tokio::signal::ctrl_c() => true,
        () = tokio::time::sleep(LOOK) => false,
    }
}

/// The terminal's other screen, and its keys one by one; both go back when it is dropped.
struct Screen {
    /// As it was; `None`: standard input is no terminal.
    before: Option<Termios>,
}

impl Screen {
    fn take() -> Screen {
        let before = termios::tcgetattr(std::io::stdin()).ok();
        if let Some(mut keys) = before.clone() {
            keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            // Reading never waits.
            keys.special_codes[SpecialCodeIndex::VMIN] = 0;
            keys.special_codes[SpecialCodeIndex::VTIME] = 0;
            let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &keys);
        }
        print!("\x1b[?1049h\x1b[?25l\x1b[H\x1b[Jlooking ...");
        let _ = std::io::stdout().flush();
        Screen { before }
    }

    fn wants_end(&self) -> bool {
        let mut keys = [0; 64];
        let read = if self.before.is_some() { std::io::stdin().read(&mut keys).unwrap_or(0) } else { 0 };
        keys[..read].iter().any(|key| matches!(key, b'q' | b'Q' | 3 | 4))
    }

    fn height(&self) -> usize {
        termios::tcgetwinsize(std::io::stdout()).map_or(24, |size| usize::from(size.ws_row)).max(10)
    }

    /// Line by line over what was there, so that nothing flickers.
    fn draw(&self, text: &str) {
        let mut out = String::from("\x1b[H");
        for line in text.lines() {
            out.push_str(line);
            out.push_str("\x1b[K\r\n");
        }
        out.push_str("\x1b[J");
        print!("{out}");
        let _ = std::io::stdout().flush();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        print!("\x1b[?25h\x1b[?1049l");
        let _ = std::io::stdout().flush();
        if let Some(before) = &self.before {
            let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What changed between two looks, a second: the shape that `--json` prints.
fn rates(before: &Value, now: &Value) -> Value {
    let at = |value: &Value| value["now"].as_i64().unwrap_or(0);
    let seconds = ((at(now) - at(before)) as f64 / 1000.0).max(0.001);
    let grown = |before: &Value, now: &Value| {
        let grown = now.as_f64().unwrap_or(0.0) - before.as_f64().unwrap_or(0.0);
        // Less than before: the node began anew.
        (grown.max(0.0) / seconds * 10.0).round() / 10.0
    };
    let same = |list: &'static str, name: &Value| items(before, list).iter().find(|other| other["name"] == *name).cloned();
    let groups: Vec<Value> = items(now, "groups")
        .iter()
        .map(|group| {
            // A group that has just come shows its rates in the next look.
            let earlier = same("groups", &group["name"]).unwrap_or_else(|| group.clone());
            let rate = |key: &str| grown(&earlier["counts"][key], &group["counts"][key]);
            let age = |replica: &Value| replica["last_seen"].as_i64().map(|seen| (at(now) - seen).max(0));
            let replicas = items(group, "replicas").iter().map(|replica| json!({"name": replica["name"], "age_ms": age(replica)}));
            json!({
                "name": group["name"], "leader": group["leader"], "series": group["series"], "in": rate("received"), "passed": rate("emitted"),
                "covered": rate("covered"), "waiting": group["counts"]["waiting"], "replicas": replicas.collect::<Vec<_>>(),
            })
        })
        .collect();
    let sinks: Vec<Value> = items(now, "sinks")
        .iter()
        .map(|sink| {
            let earlier = same("sinks", &sink["name"]).unwrap_or_else(|| sink.clone());
            let trouble = items(sink, "troubles").first().map(|trouble| trouble["text"].clone());
            json!({
                "name": sink["name"], "state": sink["state"], "delivered": grown(&earlier["delivered"], &sink["delivered"]),
                "pending": sink["pending"], "lag_ms": sink["lag_ms"], "dead": sink["dead"], "dropped": sink["dropped"],
                "seconds_left": sink["seconds_left"], "trouble": trouble,
            })
        })
        .collect();
    let problems: Vec<Value> = items(now, "problems").iter().map(|problem| problem["text"].clone()).collect();
    json!({
        "name": now["name"], "version": now["version"], "now": now["now"], "groups": groups, "sinks": sinks, "problems": problems,
        "requests": grown(&before["ingest"]["requests"], &now["ingest"]["requests"]),
        "samples": grown(&before["ingest"]["samples"], &now["ingest"]["samples"]),
    })
}

/// The page, so many lines at most: the busiest groups first.
fn text(rates: &Value, height: usize) -> String {
    let when = rates["now"].as_i64().map(crate::clock::rfc3339).unwrap_or_default();
    let head = format!(
        "sluice {} {}  {when}   {} requests/s, {} samples/s taken   q ends\n",
        cell(&rates["name"]),
        cell(&rates["version"]),
        cell(&rates["requests"]),
        cell(&rates["samples"])
    );
    let mut sinks = Table::new(&["SINK", "STATE", "DELIVERED/S", "PENDING", "LAG", "DEAD", "DROPPED", "TIME LEFT"]);
    let mut troubles = String::new();
    for sink in items(rates, "sinks") {
        let left = sink["seconds_left"].as_f64().map_or(Value::Null, |seconds| Value::from(seconds * 1000.0));
        sinks.row(vec![
            cell(&sink["name"]),
            cell(&sink["state"]),
            cell(&sink["delivered"]),
            cell(&sink["pending"]),
            span(&sink["lag_ms"]),
            cell(&sink["dead"]),
            cell(&sink["dropped"]),
            span(&left),
        ]);
        if !sink["trouble"].is_null() {
            troubles.push_str(&format!("! {}: {}\n", cell(&sink["name"]), cell(&sink["trouble"])));
        }
    }
    for problem in items(rates, "problems").iter().take(3) {
        troubles.push_str(&format!("! {}\n", cell(problem)));
    }
    let below = format!("\n{}{troubles}", sinks.text("no sinks"));
    let room = height.saturating_sub(head.lines().count() + below.lines().count() + 4).max(3);
    let mut order: Vec<&Value> = items(rates, "groups").iter().collect();
    order.sort_by(|a, b| b["in"].as_f64().total_cmp(&a["in"].as_f64()).then_with(|| cell(&a["name"]).cmp(&cell(&b["name"]))));
    let mut groups = Table::new(&["GROUP", "LEADER", "SERIES", "IN/S", "PASSED/S", "COVERED/S", "WAITING", "REPLICAS, LAST HEARD OF"]);
    for group in order.iter().take(room) {
        let ages: Vec<String> =
            items(group, "replicas").iter().map(|one| format!("{} {}", cell(&one["name"]), span(&one["age_ms"]))).collect();
        groups.row(vec![
            cell(&group["name"]),
            cell(&group["leader"]),
            cell(&group["series"]),
            cell(&group["in"]),
            cell(&group["passed"]),
            cell(&group["covered"]),
            cell(&group["waiting"]),
            if ages.is_empty() { "-".to_owned() } else { ages.join(", ") },
        ]);
    }
    let more = if order.len() > room { format!("... and {} more\n", order.len() - room) } else { String::new() };
    format!("{head}\n{}{more}{below}", groups.text("no group has written yet"))
}

trait Order {
    fn total_cmp(&self, other: &Self) -> std::cmp::Ordering;
}

impl Order for Option<f64> {
    fn total_cmp(&self, other: &Option<f64>) -> std::cmp::Ordering {
        self.unwrap_or(0.0).total_cmp(&other.unwrap_or(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(now: i64, received: u64) -> Value {
        let group = |name: &str, received: u64| {
            json!({"name": name, "leader": "a", "series": 7, "counts": {"received": received, "emitted": received / 2, "covered": 0, "waiting": 3},
                "replicas": [{"name": "a", "last_seen": now - 400}]})
        };
        json!({"name": "mon1", "version": "0.1.0", "now": now, "groups": [group("busy", received), group("idle", 100)],
            "sinks": [{"name": "platform", "state": "troubled", "delivered": received, "pending": 5, "lag_ms": 2000, "dead": 0, "dropped": 0,
                "seconds_left": 97, "troubles": [{"text": "no broker answers"}]}],
            "problems": [], "ingest": {"requests": received / 10, "samples": received}})
    }

    #[test]
    fn rates_are_what_changed_a_second_and_the_busiest_group_comes_first() {
        let rates = rates(&status(1000, 0), &status(3000, 2000));
        assert_eq!(
            (&rates["groups"][0]["in"], &rates["groups"][0]["passed"], &rates["groups"][1]["in"]),
            (&json!(1000.0), &json!(500.0), &json!(0.0))
        );
        assert_eq!((&rates["sinks"][0]["delivered"], &rates["samples"]), (&json!(1000.0), &json!(1000.0)));
        let page = text(&rates, 40);
        let at = |words: &str| page.find(words).unwrap_or_else(|| panic!("{words}: {page}"));
        assert!(at("busy") < at("idle") && at("idle") < at("platform") && page.contains("a 400 ms"), "{page}");
        assert!(page.ends_with("! platform: no broker answers\n"), "{page}");
    }

    #[test]
    fn what_does_not_fit_is_counted_and_a_restart_is_no_negative_rate() {
        let mut many = status(3000, 10);
        let group = many["groups"][0].clone();
        many["groups"] = (0..50)
            .map(|number| {
                let mut group = group.clone();
                group["name"] = format!("g{number}").into();
                group
            })
            .collect();
        let page = text(&rates(&many, &many), 24);
        assert!(page.lines().count() <= 24 && page.contains("more\n"), "{}: {page}", page.lines().count());
        assert_eq!(rates(&status(1000, 500), &status(2000, 0))["groups"][0]["in"], json!(0.0));
    }
}

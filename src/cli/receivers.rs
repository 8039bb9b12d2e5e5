//! `sluice alert receivers`: what receivers are not told yet.

use clap::Args;
use serde_json::Value;

use crate::cli::Asked;
use crate::cli::Failure;
use crate::cli::alerts::moment;
use crate::cli::table::Table;
use crate::cli::table::cell;
use crate::cli::table::span;
use crate::clock;

/// `sluice alert receivers`.
#[derive(Debug, Args)]
pub struct Receivers {
    /// Only those that something is kept back from, or that do not take what they are told.
    #[arg(long)]
    waiting: bool,
    #[command(flatten)]
    asked: Asked,
}

/// Does it.
pub async fn show(asked: &Receivers) -> Result<(), Failure> {
    let mut answer = asked.asked.client().get("/api/v1/alerts/receivers").await?;
    if asked.waiting
        && let Some(all) = answer["receivers"].as_array_mut()
    {
        all.retain(waits);
    }
    if asked.asked.json {
        println!("{answer:#}");
    } else {
        print!("{}", shown(&answer, clock::wall_ms()));
    }
    Ok(())
}

fn waits(one: &Value) -> bool {
    one["held"]["groups"] != 0 || ["waiting", "storm", "trouble"].iter().any(|key| !one[key].is_null())
}

fn shown(answer: &Value, now: i64) -> String {
    let mut table = Table::new(&["RECEIVER", "KIND", "ON THE WAY", "HELD", "WINDOWS", "ROOM", "WAITING", "STORM", "TROUBLE"]);
    let left = |at: &Value| moment(at).map_or("-".to_owned(), |at| format!("in {}", span(&Value::from((at - now).max(0)))));
    for one in answer["receivers"].as_array().into_iter().flatten() {
        let windows: Vec<String> = one["windows"].as_array().into_iter().flatten().map(window).collect();
        let held = match (one["held"]["alerts"].as_u64(), one["held"]["groups"].as_u64()) {
            (Some(alerts), Some(groups)) if groups > 0 => format!("{} of {}", many(alerts, "alert"), many(groups, "group")),
            _ => "-".to_owned(),
        };
        let waiting = match &one["waiting"] {
            Value::Null => "-".to_owned(),
            some => {
                format!("{} for a {}, {}", many(some["groups"].as_u64().unwrap_or(0), "group"), cell(&some["for"]), left(&some["until"]))
            }
        };
        let storm = match &one["storm"] {
            Value::Null => "-".to_owned(),
            some => format!("{}, over {}", many(some["alerts"].as_u64().unwrap_or(0), "alert"), left(&some["until"])),
        };
        let room = match windows.is_empty() {
            true => "-".to_owned(),
            false if one["held"]["until"].is_null() => "now".to_owned(),
            false => left(&one["held"]["until"]),
        };
        table.row(vec![
            cell(&one["receiver"]),
            cell(&one["kind"]),
            cell(&one["onTheWay"]),
            held,
            if windows.is_empty() { "-".to_owned() } else { windows.join(", ") },
            room,
            waiting,
            storm,
            cell(&one["trouble"]),
        ]);
    }
    let mut out = table.text("no receiver");
    if answer["tells"] == false {
        out.push_str("\nanother node tells: what waits there, and whether receivers take what they are told, it alone knows (--server)\n");
    }
    out
}

fn window(one: &Value) -> String {
    format!("{}/{} in {}", cell(&one["used"]), cell(&one["messages"]), span(&one["perMs"]))
}

fn many(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_kept_back_stands_beside_each_receiver() {
        let at = |seconds: i64| clock::rfc3339(seconds * 1000);
        let chat = json!({
            "receiver": "chat", "integration": 0, "kind": "slack", "onTheWay": 1, "trouble": null,
            "windows": [{ "messages": 2, "perMs": 60_000, "used": 2, "opensAt": at(40) }],
            "held": { "groups": 3, "alerts": 1, "until": at(40) }, "waiting": { "groups": 4, "for": "window", "until": at(40) },
            "storm": { "until": at(200), "alerts": 30 },
        });
        let none = json!({
            "receiver": "db", "integration": 0, "kind": "email", "onTheWay": 0, "trouble": null, "windows": [], "waiting": null, "storm": null,
            "held": { "groups": 0, "alerts": 0, "until": null },
        });
        assert!(waits(&chat) && !waits(&none));
        let text = shown(&json!({ "tells": true, "receivers": [chat, none] }), 10_000);
        let lines: Vec<&str> = text.lines().collect();
        for part in ["1 alert of 3 groups", "2/2 in 60.0 s", "in 30.0 s", "4 groups for a window, in 30.0 s", "30 alerts, over in 3 min"] {
            assert!(lines[1].contains(part), "{part}: {text}");
        }
        assert_eq!((lines.len(), lines[2].split_whitespace().collect::<Vec<_>>()), (3, "db email 0 - - - - - -".split(' ').collect()));
        assert!(shown(&json!({ "tells": false, "receivers": [] }), 0).contains("another node tells"));
    }
}

//! `sluice probes`: what is looked at from outside, and how it is.

use clap::Args;
use serde_json::Value;

use crate::cli::Asked;
use crate::cli::Failure;
use crate::cli::table::Table;
use crate::cli::table::cell;
use crate::cli::table::span;

/// How it is asked.
#[derive(Debug, Args)]
pub struct Probes {
    /// Only what is not well.
    #[arg(long)]
    down: bool,
    #[command(flatten)]
    asked: Asked,
}

/// Does it.
pub async fn carry_out(probes: Probes) -> Result<(), Failure> {
    let answer = probes.asked.client().get(if probes.down { "/api/v1/probes?down" } else { "/api/v1/probes" }).await?;
    if probes.asked.json {
        println!("{answer:#}");
    } else {
        print!("{}", text(&answer, crate::clock::wall_ms()));
    }
    Ok(())
}

fn text(answer: &Value, now: i64) -> String {
    let items = |key: &str| answer.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let ago = |at: &Value| span(&at.as_i64().filter(|at| *at > 0).map_or(Value::Null, |at| Value::from((now - at).max(0))));
    let mut table = Table::new(&["JOB", "TARGET", "STATE", "FOR", "LOOKED", "TOOK", "BEHIND", "WHAT"]);
    for one in items("prometheus") {
        let behind = one["behind_seconds"].as_f64().map_or(Value::Null, |seconds| Value::from((seconds * 1000.0) as i64));
        let what = match (&one["replayed"], &one["trouble"]) {
            (Value::Number(done), _) => format!("replayed {done} of {} segments", cell(&one["replay"])),
            (_, Value::String(trouble)) => trouble.clone(),
            _ => cell(&one["url"]),
        };
        let target = format!("{}/{}", cell(&one["group"]), cell(&one["replica"]));
        let (state, since, looked) = (cell(&one["state"]), ago(&one["since"]), ago(&one["looked"]));
        table.row(vec!["prometheus".to_owned(), target, state, since, looked, span(&one["took_ms"]), span(&behind), what]);
    }
    for one in items("targets") {
        let state = match (&*cell(&one["verdict"]), &one["success"]) {
            ("up", Value::Bool(false)) => "doubted".to_owned(),
            ("up", Value::Null) => "-".to_owned(),
            (verdict, _) => verdict.to_owned(),
        };
        let from: Vec<String> = one["down_from"].as_array().into_iter().flatten().map(cell).collect();
        let what = if from.is_empty() { cell(&one["cause"]) } else { format!("{} (from {})", cell(&one["cause"]), from.join(", ")) };
        let (job, target, looked) = (cell(&one["job"]), cell(&one["instance"]), ago(&one["looked"]));
        table.row(vec![job, target, state, ago(&one["down_since"]), looked, span(&one["took_ms"]), "-".to_owned(), what]);
    }
    let mut alerts = String::new();
    for one in items("alerts").iter().filter(|one| one["ended"].is_null()) {
        let told = if one["told"] == true { "" } else { " (not told to anybody)" };
        alerts.push_str(&format!(
            "! {} {} for {}: {}{told}\n",
            cell(&one["level"]),
            cell(&one["name"]),
            ago(&one["since"]),
            cell(&one["summary"])
        ));
    }
    format!("{}{alerts}", table.text("nothing is looked at; docs/verdicts.md shows how to have a Prometheus looked at"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_shows_what_is_down_and_what_is_doubted() {
        let answer = json!({"prometheus": [{"group": "g", "replica": "a", "url": "http://h:9090", "state": "starting", "since": 40_000, "looked": 99_000,
            "took_ms": 3, "replayed": 4, "replay": 9, "behind_seconds": 1.5}],
            "targets": [
                {"job": "web", "instance": "h:80", "success": false, "verdict": "up", "cause": "refused", "down_from": []},
                {"job": "web", "instance": "i:80", "success": false, "verdict": "down", "down_since": 10_000, "cause": "refused", "down_from": ["n1", "n2"]}],
            "alerts": [{"name": "PrometheusDown", "level": "P2", "summary": "g/a is down", "since": 70_000, "ended": null, "told": false}]});
        let text = text(&answer, 100_000);
        assert!(text.contains("starting") && text.contains("replayed 4 of 9 segments") && text.contains("1.5 s"), "{text}");
        assert!(text.contains("doubted") && text.contains("refused (from n1, n2)"), "{text}");
        assert!(text.ends_with("! P2 PrometheusDown for 30.0 s: g/a is down (not told to anybody)\n"), "{text}");
    }
}

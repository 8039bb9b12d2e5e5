//! `sluice cluster doctor`: what an operator would look at by hand.

use serde_json::Value;

use crate::cli::Asked;
use crate::cli::Failure;
use crate::cli::cluster::list;
use crate::cli::table::cell;

/// Prints what the node says of each thing; the exit code is that of the worst.
pub async fn doctor(asked: &Asked) -> Result<(), Failure> {
    let answer = asked.client().get("/api/v1/cluster/doctor").await?;
    if asked.json {
        println!("{answer:#}");
    } else {
        print!("{}", text(&answer));
    }
    match answer["verdict"].as_str() {
        Some("ok") => Ok(()),
        Some("warn") => Err(Failure::Failed(String::new())),
        _ => Err(Failure::Critical),
    }
}

fn text(answer: &Value) -> String {
    let mut out = String::new();
    for check in list(answer, "checks") {
        out.push_str(&format!("{:<5} {:<13} {}\n", cell(&check["verdict"]), cell(&check["check"]), cell(&check["text"])));
        if let Some(remedy) = check["remedy"].as_str() {
            out.push_str(&format!("{:<19} {remedy}\n", ""));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_and_the_remedy_below() {
        let answer = serde_json::json!({"verdict": "warn", "checks": [
            {"check": "leaders", "verdict": "ok", "text": "all 4 shards are led", "remedy": null},
            {"check": "lag", "verdict": "warn", "text": "node n3: it is behind", "remedy": "wait"},
        ]});
        assert_eq!(
            text(&answer),
            "ok    leaders       all 4 shards are led\nwarn  lag           node n3: it is behind\n                    wait\n"
        );
    }
}

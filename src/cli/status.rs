//! `sluice status`: the page at `/` in a few lines of text.

use serde_json::Value;

use crate::cli::Asked;
use crate::cli::Failure;
use crate::cli::table::cell;

/// Asks and prints. Ends with a failure if the node itself says that something is wrong.
pub async fn show(asked: &Asked) -> Result<(), Failure> {
    let answer = asked.client().get("/api/v1/status").await?;
    if asked.json {
        println!("{answer:#}");
    } else {
        print!("{}", text(&answer));
    }
    let problems = answer.get("problems").and_then(Value::as_array).map_or(0, Vec::len);
    if problems > 0 { Err(Failure::Failed(String::new())) } else { Ok(()) }
}

fn text(answer: &Value) -> String {
    let count = |key: &str| answer.get(key).and_then(Value::as_array).map_or(0, Vec::len);
    let mut out = format!("sluice {}  groups {}, sinks {}\n", cell(&answer["version"]), count("groups"), count("sinks"));
    let problems = answer.get("problems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if problems.is_empty() {
        out.push_str("all is well\n");
    }
    for problem in problems {
        out.push_str(&format!("! {}\n  {}\n", cell(&problem["text"]), cell(&problem["remedy"])));
    }
    out
}

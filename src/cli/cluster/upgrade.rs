//! `sluice cluster upgrade`: which feature level the cluster is at, and going to the next one.

use clap::Subcommand;
use serde_json::Value;

use crate::cli::Asked;
use crate::cli::Failure;
use crate::cli::cluster::list;
use crate::cli::table::Table;
use crate::cli::table::cell;

/// Verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// The cluster's feature level, what each node's version knows, and what is in the way of finalising.
    Status(Asked),
    /// The cluster goes to the newest level that all nodes know. From then on the version before cannot be started any more.
    Finalize(Asked),
}

/// Does it.
pub async fn carry_out(verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Status(asked) => {
            let answer = asked.client().get("/api/v1/cluster/upgrade").await?;
            if asked.json {
                println!("{answer:#}");
            } else {
                print!("{}", text(&answer));
            }
        }
        Verb::Finalize(asked) => {
            let answer = asked.client().post("/api/v1/cluster/upgrade/finalize", &Value::Null).await?;
            if asked.json {
                println!("{answer:#}");
            } else {
                println!("{}", cell(&answer["done"]));
            }
        }
    }
    Ok(())
}

fn text(answer: &Value) -> String {
    let mut nodes = Table::new(&["NODE", "VERSION", "KNOWS LEVELS"]);
    for node in list(answer, "nodes") {
        let knows = match (node["oldest"].as_u64(), node["newest"].as_u64()) {
            (Some(oldest), Some(newest)) => format!("{oldest} to {newest}"),
            _ => "-".to_owned(),
        };
        nodes.row(vec![cell(&node["name"]), cell(&node["version"]), knows]);
    }
    let (level, newest) = (&answer["level"], &answer["newest"]);
    let mut out = format!("feature level {level}\n\n{}\n", nodes.text("no node"));
    let against = list(answer, "in_the_way");
    if level == newest {
        out.push_str("nothing to finalise: this is the newest level that the version of this node knows\n");
    } else if against.is_empty() {
        out.push_str(&format!(
            "`sluice cluster upgrade finalize` goes to level {newest}; until then the version before can be started again\n"
        ));
    } else {
        out.push_str(&format!("not yet to level {newest}:\n"));
        against.iter().for_each(|why| out.push_str(&format!("  {}\n", cell(why))));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_comes_next() {
        let nodes = serde_json::json!([{"name": "n1", "version": "0.2.0", "oldest": 1, "newest": 2}, {"name": "n2", "version": null}]);
        let shown =
            |newest: u64, against: &[&str]| text(&serde_json::json!({"level": 1, "newest": newest, "nodes": nodes, "in_the_way": against}));
        assert!(shown(1, &[]).contains("nothing to finalise") && shown(1, &[]).contains("1 to 2"));
        assert!(shown(2, &[]).contains("goes to level 2"));
        assert!(shown(2, &["n2 cannot be reached"]).ends_with("not yet to level 2:\n  n2 cannot be reached\n"));
    }
}

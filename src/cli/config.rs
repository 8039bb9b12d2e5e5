//! `sluice config`: what all nodes agree on, as it is in force, how a file differs from it, and making the file the next version.
//!
//! A file is read here, so that its problems are told with their lines; the node gets the part that nodes agree on.

use std::io::BufRead;
use std::io::IsTerminal;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use clap::Subcommand;
use serde_json::Value;
use serde_json::json;

use crate::app;
use crate::cli::Asked;
use crate::cli::Failure;
use crate::cli::table::Table;
use crate::cli::table::cell;
use crate::config::settings;

/// Lines that stay, shown around those that do not.
const AROUND: usize = 3;

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// The groups and sinks in force, without what is secret: version, who made it, when.
    Show {
        /// One from before, as `history` lists them.
        #[arg(long, value_name = "NUMBER")]
        version: Option<u64>,
        #[command(flatten)]
        asked: Asked,
    },
    /// The versions that are still known, newest first.
    History(Asked),
    /// How a file differs from what is in force: exit code 0 if it does not, 1 if it does.
    Diff {
        /// The file; without it, the one that the node was started with, as it is now.
        file: Option<PathBuf>,
        #[command(flatten)]
        asked: Asked,
    },
    /// Make the groups and sinks of a file the next version; every node carries it out.
    Apply {
        /// A node's configuration, or a file with nothing but `groups:` and `sinks:`.
        file: PathBuf,
        /// This sink may go with what it has not delivered. May be given several times.
        #[arg(long, value_name = "SINK")]
        discard: Vec<String>,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        asked: Asked,
    },
}

/// Does it.
pub async fn carry_out(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Show { version, asked } => {
            let path = version.map_or_else(|| "/api/v1/config".to_owned(), |version| format!("/api/v1/config?version={version}"));
            print(&asked, &asked.client().get(&path).await?, show);
            Ok(())
        }
        Verb::History(asked) => {
            print(&asked, &asked.client().get("/api/v1/config").await?, history);
            Ok(())
        }
        Verb::Diff { file, asked } => {
            let difference = match file {
                Some(file) => asked.client().post("/api/v1/config/diff", &json!({ "text": read(&file)? })).await?,
                None => asked.client().get("/api/v1/config/diff").await?,
            };
            print(&asked, &difference, diff);
            // As diff(1): no word beyond the difference itself.
            if difference["same"] == true { Ok(()) } else { Err(Failure::Failed(String::new())) }
        }
        Verb::Apply { file, discard, yes, asked } => apply(&file, &discard, yes, &asked).await,
    }
}

fn print(asked: &Asked, answer: &Value, text: impl Fn(&Value) -> String) {
    if asked.json {
        println!("{answer:#}");
    } else {
        print!("{}", text(answer));
    }
}

async fn apply(file: &Path, discard: &[String], yes: bool, asked: &Asked) -> Result<(), Failure> {
    let text = read(file)?;
    let difference = asked.client().post("/api/v1/config/diff", &json!({ "text": text })).await?;
    if !asked.json {
        print!("{}", diff(&difference));
    }
    if difference["same"] == true && !asked.json {
        return Ok(());
    }
    if !yes && !asked.json && std::io::stdin().is_terminal() && !agreed(&difference)? {
        return Err(Failure::Failed("nothing was changed".to_owned()));
    }
    let wanted = json!({ "text": text, "base": difference["version"], "discard": discard });
    let answer = asked.client().post("/api/v1/config/apply", &wanted).await?;
    print(asked, &answer, |answer| format!("version {} is in force: {}\n", cell(&answer["version"]), cell(&answer["done"])));
    Ok(())
}

fn agreed(difference: &Value) -> Result<bool, Failure> {
    let failed = |error: std::io::Error| Failure::Failed(format!("the answer cannot be read: {error}; --yes does not ask"));
    print!("make this version {} on all nodes? [y/N] ", difference["version"].as_u64().unwrap_or(0) + 1);
    std::io::stdout().flush().map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// The part of the file that nodes agree on.
fn read(file: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| Failure::Wrong(format!("{}: {error}", file.display())))?;
    if !settings::alone(&text) {
        return app::check::file(file).map(|config| config.settings).map_err(Failure::from);
    }
    let told = |problems: Vec<crate::config::read::Problem>| {
        let lines: Vec<String> = problems.iter().map(|problem| format!("{}: {problem}", file.display())).collect();
        Failure::Wrong(lines.join("\n"))
    };
    let dir = file.parent().unwrap_or(Path::new(""));
    app::check::with_routes(&text, dir).and_then(|text| settings::normal(&text)).map_err(told)
}

fn show(answer: &Value) -> String {
    if answer["version"] == 0 {
        return "# nothing is in force yet: every default, no sink\n".to_owned();
    }
    format!("# version {}, by {}, {}\n{}", cell(&answer["version"]), cell(&answer["by"]), cell(&answer["at_text"]), cell(&answer["text"]))
}

fn history(answer: &Value) -> String {
    let mut table = Table::new(&["VERSION", "BY", "SINCE"]);
    let earlier = answer["earlier"].as_array().map_or(&[][..], Vec::as_slice);
    for version in std::iter::once(answer).chain(earlier).filter(|version| version["version"] != 0) {
        table.row(vec![cell(&version["version"]), cell(&version["by"]), cell(&version["at_text"])]);
    }
    table.text("nothing is in force yet: every default, no sink")
}

/// The lines that differ, with some around them.
fn diff(answer: &Value) -> String {
    let lines: Vec<&str> = answer["lines"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if answer["same"] == true {
        return format!("the same as version {}, which is in force\n", cell(&answer["version"]));
    }
    let near = |at: usize| lines[at.saturating_sub(AROUND)..(at + AROUND + 1).min(lines.len())].iter().any(|line| !line.starts_with(' '));
    let mut out = format!("from version {}, which is in force:\n", cell(&answer["version"]));
    let mut left_out = false;
    for (at, line) in lines.iter().enumerate() {
        if near(at) {
            out.push_str(line);
            out.push('\n');
        } else if !left_out {
            out.push_str(" ...\n");
        }
        left_out = !near(at);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_shows_what_changes_and_some_lines_around_it() {
        let lines: Vec<String> =
            (0..20).map(|line| format!(" line {line}")).chain(["-gone".into(), "+come".into(), " end".into()]).collect();
        let text = diff(&json!({ "version": 4, "same": false, "lines": lines }));
        assert_eq!(text, "from version 4, which is in force:\n ...\n line 17\n line 18\n line 19\n-gone\n+come\n end\n");
        assert!(diff(&json!({ "version": 4, "same": true, "lines": lines })).contains("the same as version 4"));
    }

    #[test]
    fn a_file_may_hold_settings_alone_and_is_told_what_is_wrong_with_them() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("settings.yaml");
        let kafka = "kafka: { brokers: [\"127.0.0.1:9092\"], topic: metrics }";
        std::fs::write(&file, format!("sinks: [{{ name: a, {kafka} }}]")).unwrap();
        let text = read(&file).unwrap();
        assert!(text.starts_with("sinks:\n  - name: a\n"), "{text}");
        std::fs::write(&file, format!("data_dir: /x\nsinks: [{{ name: a, {kafka} }}]")).unwrap();
        assert_eq!(read(&file).unwrap(), text, "a whole configuration says the same");
        std::fs::write(&file, "sinks: [{ name: a }]").unwrap();
        assert!(read(&file).unwrap_err().to_string().contains("settings.yaml: line 1: sinks[0]"));
    }

    #[test]
    fn versions_are_listed_newest_first() {
        let version = |number: u64| json!({ "version": number, "by": "alice", "at_text": "t", "text": "sinks: []\n", "earlier": [] });
        let mut answer = version(2);
        answer["earlier"] = json!([version(1)]);
        assert_eq!(history(&answer).lines().count(), 3);
        assert!(show(&answer).starts_with("# version 2, by alice, t\nsinks"));
        assert!(show(&version(0)).contains("nothing is in force"));
    }
}

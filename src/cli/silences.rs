//! `sluice silence`: alerts that shall not be told for a time.

use std::time::Duration;

use clap::Args;
use clap::Subcommand;
use serde_json::Value;
use serde_json::json;

use crate::alert::matcher::Matcher;
use crate::alert::matcher::Op;
use crate::cli::Asked;
use crate::cli::Failure;
use crate::cli::alerts::filters;
use crate::cli::alerts::matchers;
use crate::cli::alerts::moment;
use crate::cli::client::segment;
use crate::cli::table::Table;
use crate::cli::table::cell;
use crate::cli::table::span;
use crate::clock;
use crate::config::values;

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Let alerts that fit not be told for a time; its id is printed.
    Add(Add),
    /// Silences that hold and those to come: what for, until when, by whom, why.
    List {
        /// Only those that have each of these matchers, as it is written there.
        #[arg(value_name = "MATCHER")]
        matchers: Vec<String>,
        /// Those that are over, too.
        #[arg(long)]
        expired: bool,
        #[command(flatten)]
        asked: Asked,
    },
    /// Let silences be over now: what they held back is told again.
    Expire {
        /// Their ids, or the beginnings of them.
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        asked: Asked,
    },
}

/// `sluice silence add`.
#[derive(Debug, Args)]
pub struct Add {
    /// What alerts must fit, all of it: `team=db`, `instance=~"web.*"`; a word alone is the alert's name.
    #[arg(required = true, value_name = "MATCHER")]
    matchers: Vec<String>,
    /// So long it holds.
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = time, conflicts_with = "until")]
    lasts: Duration,
    /// Until then, as 2026-12-24T18:00:00Z, instead of --for.
    #[arg(long, value_name = "TIME", value_parser = at)]
    until: Option<i64>,
    /// From then on, as 2026-12-24T18:00:00Z; from now on if nothing is said.
    #[arg(long, value_name = "TIME", value_parser = at)]
    from: Option<i64>,
    /// Why.
    #[arg(long)]
    comment: String,
    /// Who wants it.
    #[arg(long, env = "USER", default_value = "somebody")]
    by: String,
    #[command(flatten)]
    asked: Asked,
}

fn time(text: &str) -> Result<Duration, String> {
    values::duration(text).map_err(|(rule, remedy)| format!("{rule}, {remedy}"))
}

fn at(text: &str) -> Result<i64, String> {
    clock::from_rfc3339(text).ok_or_else(|| "it is no time; write it as 2026-12-24T18:00:00Z".to_owned())
}

/// Does it.
pub async fn carry_out(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Add(add) => {
            let answer = add.asked.client().post("/api/v2/silences", &wanted(&add, clock::wall_ms())?).await?;
            if add.asked.json {
                println!("{answer:#}");
            } else {
                println!("{}", cell(&answer["silenceID"]));
            }
            Ok(())
        }
        Verb::List { matchers, expired, asked } => {
            let mut query = filters(&matchers)?;
            query.push(format!("expired={expired}"));
            let answer = asked.client().get(&format!("/api/v2/silences?{}", query.join("&"))).await?;
            if asked.json {
                println!("{answer:#}");
            } else {
                print!("{}", table(&answer, clock::wall_ms()));
            }
            Ok(())
        }
        Verb::Expire { ids, asked } => {
            let all = asked.client().get("/api/v2/silences?expired=false").await?;
            let whole = ids.iter().map(|id| find(&all, id)).collect::<Result<Vec<_>, _>>()?;
            for id in &whole {
                asked.client().delete(&format!("/api/v2/silence/{}", segment(id))).await?;
            }
            if asked.json {
                println!("{:#}", json!({ "expired": whole }));
            } else {
                whole.iter().for_each(|id| println!("{id} is over"));
            }
            Ok(())
        }
    }
}

/// What is posted.
fn wanted(add: &Add, now: i64) -> Result<Value, Failure> {
    let matchers = matchers(&add.matchers)?;
    let shown = |one: &Matcher| {
        json!({ "name": one.name, "value": one.value, "isRegex": matches!(one.op, Op::Matches | Op::NotMatches),
            "isEqual": matches!(one.op, Op::Equal | Op::Matches) })
    };
    let starts = add.from.unwrap_or(now);
    let lasts = i64::try_from(add.lasts.as_millis()).unwrap_or(i64::MAX);
    let ends = add.until.unwrap_or_else(|| starts.max(now).saturating_add(lasts));
    Ok(
        json!({ "matchers": matchers.iter().map(shown).collect::<Vec<_>>(), "startsAt": clock::rfc3339(starts), "endsAt": clock::rfc3339(ends),
        "createdBy": add.by, "comment": add.comment }),
    )
}

/// The id that begins so.
fn find(all: &Value, id: &str) -> Result<String, Failure> {
    let known = all.as_array().into_iter().flatten().filter_map(|silence| silence["id"].as_str());
    let mut found = known.filter(|whole| whole.starts_with(&id.to_ascii_lowercase()));
    match (found.next(), found.next()) {
        (Some(whole), None) => Ok(whole.to_owned()),
        (Some(_), Some(_)) => Err(Failure::Failed(format!("`{id}` is the beginning of several ids\n  write more of it"))),
        (None, _) => {
            Err(Failure::Failed(format!("no silence that holds or is to come has the id `{id}`\n  `sluice silence list` shows them")))
        }
    }
}

fn table(answer: &Value, now: i64) -> String {
    let mut table = Table::new(&["ID", "STATE", "MATCHERS", "LEFT", "ENDS", "BY", "COMMENT"]);
    for silence in answer.as_array().into_iter().flatten() {
        let matcher = |one: &Value| {
            let sign = match (one["isEqual"] != false, one["isRegex"] == true) {
                (true, false) => "=",
                (false, false) => "!=",
                (true, true) => "=~",
                (false, true) => "!~",
            };
            format!("{}{sign}{}", cell(&one["name"]), one["value"])
        };
        let matchers: Vec<String> = silence["matchers"].as_array().into_iter().flatten().map(matcher).collect();
        let left = moment(&silence["endsAt"]).filter(|ends| *ends > now).map_or(Value::Null, |ends| Value::from(ends - now));
        table.row(vec![
            cell(&silence["id"]),
            cell(&silence["status"]["state"]),
            matchers.join(" "),
            span(&left),
            cell(&silence["endsAt"]),
            cell(&silence["createdBy"]),
            cell(&silence["comment"]),
        ]);
    }
    table.text("no silence; `sluice silence add team=db --comment WHY` makes one")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        verb: Verb,
    }

    fn add(words: &str) -> Value {
        let line = Line::parse_from(["silence", "add", "--by", "ann", "--comment", "why"].into_iter().chain(words.split_whitespace()));
        let Verb::Add(add) = line.verb else { panic!() };
        wanted(&add, 1_000_000).unwrap()
    }

    #[test]
    fn a_silence_is_what_was_said() {
        let one = add("--for 10m DiskFull team!~a|b");
        let matchers = json!([{"name": "alertname", "value": "DiskFull", "isRegex": false, "isEqual": true},
            {"name": "team", "value": "a|b", "isRegex": true, "isEqual": false}]);
        assert_eq!(one["matchers"], matchers);
        assert_eq!((&one["startsAt"], &one["endsAt"]), (&"1970-01-01T00:16:40.000Z".into(), &"1970-01-01T00:26:40.000Z".into()));
        let late = add("--from 1970-01-02T00:00:00Z a=b");
        assert_eq!((&late["startsAt"], &late["endsAt"]), (&"1970-01-02T00:00:00.000Z".into(), &"1970-01-02T01:00:00.000Z".into()));
        assert_eq!(add("--until 1970-01-03T00:00:00Z a=b")["endsAt"], "1970-01-03T00:00:00.000Z");
        assert!(Line::try_parse_from(["silence", "add", "a=b"]).is_err(), "why is asked for");
    }

    #[test]
    fn a_list_shows_how_long_is_left() {
        let one = json!({"id": "00000000-0000-4000-8000-000000000001", "status": {"state": "active"}, "endsAt": "1970-01-01T00:16:40.000Z", "createdBy": "ann",
            "comment": "works", "matchers": [{"name": "a", "value": "b", "isRegex": true, "isEqual": false}]});
        let text = table(&json!([one]), 940_000);
        assert!(text.contains("a!~\"b\"") && text.contains("60.0 s") && text.contains("works"), "{text}");
        assert_eq!(find(&json!([one]), "00000000").unwrap(), "00000000-0000-4000-8000-000000000001");
        assert!(find(&json!([one]), "1").unwrap_err().to_string().contains("sluice silence list"));
        assert!(table(&json!([]), 0).contains("silence add"));
    }
}

//! `sluice route`: where alerts would go by a file of Alertmanager, tried without a node; and what in the file is wrong or hardly meant.

use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;
use serde_json::Value;
use serde_json::json;

use crate::alert::lint;
use crate::alert::matcher;
use crate::alert::matcher::Op;
use crate::alert::route;
use crate::alert::route::GroupBy;
use crate::alert::route::Route;
use crate::alert::route::Routing;
use crate::cli::Failure;
use crate::cli::table::Table;
use crate::config::read::Problem;
use crate::config::routing as written;
use crate::config::values::shown_duration;
use crate::model::labels::Labels;
use crate::notify::doubts;

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// All that is wrong with an alertmanager.yml, and what is hardly meant: routes that no alert reaches, receivers without a route, texts to write anew.
    Check {
        /// An alertmanager.yml.
        file: PathBuf,
        /// As JSON, for scripts.
        #[arg(long)]
        json: bool,
    },
    /// The tree of routes of an alertmanager.yml, with what each has from its parents.
    Show {
        /// An alertmanager.yml.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// As JSON, for scripts.
        #[arg(long)]
        json: bool,
    },
    /// Whom an alert with these labels would go to, in which group, and whether the time mutes it.
    Test(Test),
}

/// `sluice route test`.
#[derive(Debug, Args)]
pub struct Test {
    /// An alertmanager.yml.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// The alert's labels: `alertname=DiskFull severity=critical`.
    #[arg(value_name = "LABEL=VALUE")]
    labels: Vec<String>,
    /// The time to judge time intervals by, as 2026-12-24T18:00:00Z; now if nothing is said.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Receivers that are expected, in order: others are a failure. For reviews and CI.
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    receivers: Vec<String>,
    /// Alerts that fire beside it, each as labels with commas between them: which of them would inhibit it.
    #[arg(long = "firing", value_name = "LABELS")]
    firing: Vec<String>,
    /// As JSON, for scripts.
    #[arg(long)]
    json: bool,
}

/// Does it.
pub fn carry_out(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Check { file, json } => check(&file, json),
        Verb::Show { file, json } => show(&file, json),
        Verb::Test(asked) => test(&asked),
    }
}

/// Reads a file, and its routes.
pub fn read(path: &Path) -> Result<(written::Routing, Routing), Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::Wrong(format!("{}: cannot be read: {error}", path.display())))?;
    let wrong = |problems: Vec<Problem>| Failure::Wrong(lines(path, &problems));
    let file = written::parse(&text).map_err(wrong)?;
    let routing = Routing::new(&file).map_err(wrong)?;
    Ok((file, routing))
}

/// Files that `templates:` names, beside the file itself where they are no whole paths: names and texts.
fn templates(path: &Path, named: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let mut found = Vec::new();
    for pattern in named {
        let whole = path.parent().unwrap_or(Path::new("")).join(pattern);
        let folder = whole.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // One star, as `*.tmpl`; a folder that is not there has no files, as for Alertmanager.
        let fits = |file: &str| match name.split_once('*') {
            Some((before, behind)) => file.len() >= name.len() - 1 && file.starts_with(before) && file.ends_with(behind),
            None => file == name,
        };
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.retain(|file| file.is_file() && file.file_name().is_some_and(|name| fits(&name.to_string_lossy())));
        files.sort();
        for file in files {
            let text =
                std::fs::read_to_string(&file).map_err(|error| Failure::Wrong(format!("{}: cannot be read: {error}", file.display())))?;
            found.push((file.display().to_string(), text));
        }
    }
    Ok(found)
}

fn lines(path: &Path, problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{}: {problem}", path.display())).collect::<Vec<_>>().join("\n")
}

fn check(path: &Path, json: bool) -> Result<(), Failure> {
    let (file, routing) = read(path)?;
    let mut doubts = lint::doubts(&file, &routing);
    doubts.extend(doubts::doubts(&file, &templates(path, &file.templates)?));
    doubts.sort_by_key(|doubt| doubt.line);
    if json {
        let doubts: Vec<Value> = doubts
            .iter()
            .map(|doubt| json!({ "line": doubt.line, "key": doubt.key, "rule": doubt.rule, "remedy": doubt.remedy }))
            .collect();
        println!("{:#}", json!({ "routes": routing.root.walk().len(), "receivers": file.receivers.len(), "doubts": doubts }));
        return Ok(());
    }
    if !doubts.is_empty() {
        println!("{}", lines(path, &doubts));
    }
    let (routes, receivers, rules) = (routing.root.walk().len(), file.receivers.len(), routing.inhibitions.len());
    println!("{}: good; {routes} routes, {receivers} receivers, {rules} rules of inhibition; {} doubts", path.display(), doubts.len());
    Ok(())
}

fn show(path: &Path, json: bool) -> Result<(), Failure> {
    let (_, routing) = read(path)?;
    if json {
        println!("{:#}", tree(&routing.root));
        return Ok(());
    }
    let mut table = Table::new(&["ROUTE", "RECEIVER", "GROUP BY", "WAIT", "INTERVAL", "REPEAT", "GOES ON", "LINE"]);
    for (depth, route) in routing.root.walk() {
        table.row(vec![
            format!("{}{}", "  ".repeat(depth), route.matchers),
            route.receiver.clone(),
            grouped(&route.group_by),
            shown_duration(route.group_wait),
            shown_duration(route.group_interval),
            shown_duration(route.repeat_interval),
            if route.goes_on { "yes" } else { "-" }.to_owned(),
            route.place.line.to_string(),
        ]);
    }
    print!("{}", table.text("no routes"));
    Ok(())
}

fn grouped(by: &GroupBy) -> String {
    match by {
        GroupBy::All => "(every alert)".to_owned(),
        GroupBy::Labels(names) if names.is_empty() => "(one group)".to_owned(),
        GroupBy::Labels(names) => names.join(", "),
    }
}

fn tree(route: &Route) -> Value {
    let mut value = told(route);
    value["matchers"] = json!(route.matchers.iter().map(ToString::to_string).collect::<Vec<_>>());
    value["continue"] = json!(route.goes_on);
    value["routes"] = json!(route.routes.iter().map(tree).collect::<Vec<_>>());
    value
}

fn told(route: &Route) -> Value {
    let group_by = match &route.group_by {
        GroupBy::All => vec!["...".to_owned()],
        GroupBy::Labels(names) => names.clone(),
    };
    json!({
        "receiver": route.receiver,
        "line": route.place.line,
        "key": route.key,
        "group_by": group_by,
        "group_wait_seconds": route.group_wait.as_secs_f64(),
        "group_interval_seconds": route.group_interval.as_secs_f64(),
        "repeat_interval_seconds": route.repeat_interval.as_secs_f64(),
        "mute_time_intervals": route.mute,
        "active_time_intervals": route.active,
    })
}

fn test(asked: &Test) -> Result<(), Failure> {
    let (_, routing) = read(&asked.file)?;
    let labels = labels(asked.labels.iter().map(String::as_str))?;
    let firing = asked.firing.iter().map(|text| self::labels([text.as_str()])).collect::<Result<Vec<_>, _>>()?;
    let at = match &asked.at {
        Some(text) => crate::alert::interval::time(text).map_err(Failure::Wrong)?,
        None => crate::clock::wall_ms(),
    };
    let inhibitors: Vec<(&Labels, usize)> = firing
        .iter()
        .filter_map(|source| Some((source, routing.inhibitions.iter().find(|rule| rule.applies(source, &labels))?.place.line)))
        .collect();
    let routes = routing.root.matching(&labels);
    if asked.json {
        let routes: Vec<Value> = routes
            .iter()
            .map(|route| {
                let mut value = told(route);
                value["group_key"] = json!(route.group_key(&labels));
                value["group_labels"] = json!(route.group(&labels));
                value["muted_by"] = json!(routing.muted_by(route, at));
                value
            })
            .collect();
        let inhibited: Vec<Value> = inhibitors.iter().map(|(source, line)| json!({ "labels": source, "rule_line": line })).collect();
        println!("{:#}", json!({ "labels": labels, "routes": routes, "inhibited_by": inhibited }));
    } else {
        let mut table = Table::new(&["RECEIVER", "GROUP", "WAIT", "INTERVAL", "REPEAT", "MUTED BY", "ROUTE", "LINE"]);
        for route in &routes {
            table.row(vec![
                route.receiver.clone(),
                route::shown(&route.group(&labels)),
                shown_duration(route.group_wait),
                shown_duration(route.group_interval),
                shown_duration(route.repeat_interval),
                routing.muted_by(route, at).unwrap_or("-").to_owned(),
                route.key.clone(),
                route.place.line.to_string(),
            ]);
        }
        print!("{}", table.text("no route"));
        for (source, line) in &inhibitors {
            println!("inhibited by {} (rule of line {line})", route::shown(source));
        }
    }
    let got: Vec<&str> = routes.iter().map(|route| route.receiver.as_str()).collect();
    if !asked.receivers.is_empty() && got != asked.receivers {
        return Err(Failure::Failed(format!("expected receivers {}, got {}", asked.receivers.join(", "), got.join(", "))));
    }
    Ok(())
}

/// Labels of texts as `a=b` or `a=b,c=d`.
pub fn labels<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Labels, Failure> {
    let mut pairs = Vec::new();
    for text in texts {
        let read = matcher::read(text).map_err(|why| Failure::Wrong(format!("{text}: {why}\n    write label=value")))?;
        for matcher in read.matchers {
            if matcher.op != Op::Equal {
                return Err(Failure::Wrong(format!("{matcher}: is a condition; an alert's label is written label=value")));
            }
            pairs.push((matcher.name, matcher.value));
        }
    }
    Ok(pairs.into_iter().collect::<Labels>().said())
}

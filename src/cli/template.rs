//! `sluice template`: what a receiver would be sent, and what becomes of a text in Go's template language; without a node.

use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;
use serde_json::Value;
use serde_json::json;

use crate::alert::translate;
use crate::cli::Failure;
use crate::cli::routes;
use crate::clock;
use crate::model::labels::Labels;
use crate::notify::doubts;
use crate::notify::preview;

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Every text of a receiver as it would be sent for an alert with these labels; nothing is sent.
    Show(Show),
    /// A text in Go's template language, written anew in MiniJinja.
    Translate {
        /// The text: '{{ range .Alerts }}{{ .Labels.instance }} {{ end }}'.
        #[arg(required_unless_present = "file")]
        text: Option<String>,
        /// A file of templates: each that it defines, and those that the text may call.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// `sluice template show`.
#[derive(Debug, Args)]
pub struct Show {
    /// An alertmanager.yml.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// The receiver; all of them if nothing is said.
    #[arg(long, value_name = "NAME")]
    receiver: Option<String>,
    /// The alert's labels: `alertname=DiskFull severity=critical`.
    #[arg(value_name = "LABEL=VALUE")]
    labels: Vec<String>,
    /// Its annotations, each as `summary=the disk is full`.
    #[arg(long = "annotation", value_name = "NAME=TEXT")]
    annotations: Vec<String>,
    /// The alert is over.
    #[arg(long)]
    resolved: bool,
    /// The URL by which people reach sluice, as `externalURL`.
    #[arg(long, value_name = "URL", default_value = "http://sluice.example:9201")]
    external: String,
    /// As JSON, for scripts.
    #[arg(long)]
    json: bool,
}

/// Does it.
pub fn carry_out(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Show(asked) => show(&asked),
        Verb::Translate { text, file } => translate(text.as_deref(), file.as_deref()),
    }
}

fn translate(text: Option<&str>, file: Option<&Path>) -> Result<(), Failure> {
    let mut named = Vec::new();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|error| Failure::Wrong(format!("{}: cannot be read: {error}", path.display())))?;
        let unended = || Failure::Wrong(format!("{}: is no file of Go's templates: a block in it does not end", path.display()));
        named = translate::named(&text).ok_or_else(unended)?;
    }
    let remedy = "cannot be translated: something in it is not known here; docs/receivers.md shows the words of MiniJinja's templates";
    if let Some(text) = text {
        let ours = doubts::ours(text, &named).ok_or_else(|| Failure::Failed(remedy.to_owned()))?;
        println!("{ours}");
        return Ok(());
    }
    let mut failed = 0;
    for one in &named {
        let ours = doubts::ours(&one.body, &named);
        println!("{:?} (line {})", one.name, one.line);
        failed += usize::from(ours.is_none());
        ours.as_deref().unwrap_or(remedy).trim().lines().for_each(|line| println!("  | {line}"));
    }
    if failed > 0 { Err(Failure::Failed(format!("{failed} of {} cannot be translated", named.len()))) } else { Ok(()) }
}

fn show(asked: &Show) -> Result<(), Failure> {
    let (file, _) = routes::read(&asked.file)?;
    let labels = routes::labels(asked.labels.iter().map(String::as_str))?.or("alertname", "Example");
    let annotation = |text: &String| {
        let wrong = || Failure::Wrong(format!("{text}: is no annotation\n    write NAME=TEXT, for example summary='the disk is full'"));
        text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(wrong)
    };
    let annotations = asked.annotations.iter().map(annotation).collect::<Result<Labels, _>>()?;
    let receivers: Vec<_> = file.receivers.iter().filter(|one| asked.receiver.as_ref().is_none_or(|name| *name == one.name)).collect();
    if let (Some(name), true) = (&asked.receiver, receivers.is_empty()) {
        let known: Vec<&str> = file.receivers.iter().map(|one| one.name.as_str()).collect();
        return Err(Failure::Wrong(format!("{name}: is no receiver of {}\n    there are: {}", asked.file.display(), known.join(", "))));
    }
    let mut all: Vec<Value> = Vec::new();
    for receiver in receivers {
        let message = preview::message(&labels, annotations.clone(), &receiver.name, (asked.resolved, clock::wall_ms()));
        for one in preview::shown(receiver, &message, &asked.external) {
            if asked.json {
                let value =
                    json!({ "receiver": receiver.name, "key": one.key, "line": one.line, "text": one.text, "instead": one.instead });
                all.push(value);
                continue;
            }
            let line = if one.line > 0 { format!(" (line {})", one.line) } else { String::new() };
            println!("{}: {}{line}", receiver.name, one.key);
            if let Some(why) = &one.instead {
                println!("  not as it is written: {why}");
            }
            one.text.lines().for_each(|line| println!("  | {line}"));
        }
    }
    if asked.json {
        println!("{:#}", json!({ "texts": all }));
    }
    Ok(())
}

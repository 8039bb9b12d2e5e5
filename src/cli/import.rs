//! `sluice import`: a configuration made of those of other programs, and what became of each of their settings. Works without a node.
//!
//! The translation is `config::import`; here files are read and written, texts in templates looked at, and what came out judged as `sluice check` would.

#[cfg(test)]
mod tests;

use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;
use serde_json::json;

use crate::app;
use crate::cli::Failure;
use crate::config::import;
use crate::config::import::Around;
use crate::config::import::Content;
use crate::config::import::Fate;
use crate::config::import::Finding;
use crate::config::import::Input;
use crate::config::import::Kind;
use crate::config::import::Outcome;
use crate::config::import::Unreadable;
use crate::config::read::Problem;
use crate::config::routing;
use crate::notify::doubts;

/// A configuration of any of these programs is far smaller.
const INPUT_MAX: u64 = 16 << 20;
/// Where files of secrets are to be, unless something else is said.
const SECRETS_AT: &str = "/etc/sluice";
/// Beginnings of variables of prometheus-kafka-adapter, for which an environment is looked through.
const ADAPTER: [&str; 7] = ["KAFKA_", "BASIC_AUTH_", "SERIALIZATION_FORMAT", "GIN_MODE", "LOG_LEVEL", "MATCH", "PORT"];

const AFTER: &str = "\
What is read:
  alertmanager FILE          an alertmanager.yml
  blackbox FILE              a blackbox.yml
  kafka-adapter [ENV-FILE]   variables of prometheus-kafka-adapter, a NAME=value each;
                             without a file those of this process
  mimir FILE                 Mimir's or Cortex' configuration, or runtime overrides
  vmagent [FLAGS-FILE]       flags of vmagent: a unit, a container's args, a script;
                             without a file those behind --

Examples:
  sluice import alertmanager /etc/alertmanager/alertmanager.yml
  sluice import kafka-adapter adapter.env blackbox blackbox.yml --output sluice.yaml
  sluice import vmagent -- -remoteWrite.url=http://vm:8428/api/v1/write
  sluice import mimir mimir.yaml --json | jq '.findings[] | select(.fate != \"taken\")'

The configuration goes to standard output, or to --output; what became of each setting
goes to standard error: what has no counterpart first, with its line and what to do.
Exit codes: 0 written, and `sluice check` finds it good; 1 written, and it does not;
            2 an input cannot be read.";

/// `sluice import`.
#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub struct Import {
    /// Whose configuration, and its file; several after one another make one configuration.
    #[arg(required = true, value_name = "KIND [FILE]")]
    what: Vec<String>,
    /// Flags of vmagent, where no file holds them.
    #[arg(last = true, value_name = "FLAGS")]
    flags: Vec<String>,
    /// Write the configuration there. A file that is there already stays, unless --force is said.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write over files that are there.
    #[arg(long)]
    force: bool,
    /// Write secrets that stood in the inputs into files of this directory, readable by this user alone. Without it they are named, and not written.
    #[arg(long, value_name = "DIRECTORY")]
    secrets: Option<PathBuf>,
    /// Print one JSON document: what became of what, and the configuration unless it went to --output.
    #[arg(long)]
    json: bool,
}

/// Does it.
pub fn carry_out(wanted: &Import) -> Result<(), Failure> {
    let inputs = inputs(&wanted.what, &wanted.flags)?;
    let secrets = wanted.secrets.as_deref().unwrap_or(Path::new(SECRETS_AT));
    let around = Around { secrets: absolute(secrets)?, read: &read_text };
    let mut outcome = import::translate(&inputs, &around).map_err(|unreadable| Failure::Wrong(refused(&unreadable)))?;
    look_at_templates(&inputs, &mut outcome.findings);
    let dir = wanted.output.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    let problems = app::check::text(&outcome.text, dir).err().unwrap_or_default();
    write(wanted, &outcome)?;
    if wanted.json {
        println!("{:#}", document(&outcome, &problems, wanted.output.is_none()));
    } else {
        if wanted.output.is_none() {
            print!("{}", outcome.text);
        }
        eprint!("{}", report(&outcome.findings));
    }
    if problems.is_empty() {
        return Ok(());
    }
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Err(Failure::Failed(format!("the configuration is written, and `sluice check` would say of it:\n{}", problems.join("\n"))))
}

/// The inputs that the words name: a kind, and a file behind it.
fn inputs(words: &[String], flags: &[String]) -> Result<Vec<Input>, Failure> {
    let mut inputs: Vec<Input> = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.word()).collect();
        let unknown = || Failure::Wrong(format!("{word}: is nothing that can be imported\n    known: {}", known.join(", ")));
        let kind = Kind::of(word).ok_or_else(unknown)?;
        let file = words.next_if(|next| Kind::of(next).is_none());
        inputs.push(match (file, kind) {
            (Some(file), _) => Input { kind, name: file.clone(), path: absolute(Path::new(file))?, content: Content::Text(read(Path::new(file))?) },
            (None, Kind::KafkaAdapter) => nameless(kind, "(environment)", Content::Variables(environment())),
            (None, Kind::Vmagent) if !flags.is_empty() => nameless(kind, "(flags)", Content::Words(flags.to_vec())),
            (None, Kind::Vmagent) => {
                return Err(Failure::Wrong("vmagent: neither a file nor flags are named\n    sluice import vmagent FILE, or: sluice import vmagent -- -remoteWrite.url=...".into()));
            }
            (None, _) => return Err(Failure::Wrong(format!("{word}: no file is named\n    sluice import {word} FILE"))),
        });
    }
    let takes_flags = inputs.iter().any(|input| matches!(input.content, Content::Words(_)));
    if !flags.is_empty() && !takes_flags {
        return Err(Failure::Wrong(
            "flags stand behind --, and no vmagent without a file is imported\n    sluice import vmagent -- FLAGS".into(),
        ));
    }
    Ok(inputs)
}

fn nameless(kind: Kind, name: &str, content: Content) -> Input {
    Input { kind, name: name.to_owned(), path: PathBuf::new(), content }
}

fn environment() -> Vec<(String, String)> {
    let own = |name: &str| ADAPTER.iter().any(|begin| name.starts_with(begin) && (begin.ends_with('_') || name == *begin));
    let mut variables: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| own(name))
        .collect();
    variables.sort();
    variables
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::Wrong(format!("{}: {error}", path.display())))
}

fn read(path: &Path) -> Result<String, Failure> {
    read_text(path).map_err(|why| Failure::Wrong(format!("{}: {why}", path.display())))
}

/// A file's text, if it is of a size that such files have.
fn read_text(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut text = String::new();
    file.take(INPUT_MAX + 1).read_to_string(&mut text).map_err(|error| format!("cannot be read as text: {error}"))?;
    if text.len() as u64 > INPUT_MAX { Err(format!("is longer than {} MiB", INPUT_MAX >> 20)) } else { Ok(text) }
}

fn refused(unreadable: &[Unreadable]) -> String {
    let of_one = |one: &Unreadable| one.problems.iter().map(|problem| format!("{}: {problem}", one.source)).collect::<Vec<_>>();
    unreadable.iter().flat_map(of_one).collect::<Vec<_>>().join("\n")
}

/// Receivers that are not served, and texts in Go's template language: what `sluice route check` says of an alertmanager.yml.
fn look_at_templates(inputs: &[Input], findings: &mut Vec<Finding>) {
    for input in inputs.iter().filter(|input| input.kind == Kind::Alertmanager) {
        let Content::Text(text) = &input.content else { continue };
        let Ok(read) = routing::parse(text) else { continue };
        let unserved: Vec<(usize, &str)> = read
            .receivers
            .iter()
            .flat_map(|receiver| &receiver.integrations)
            .flat_map(|one| one.unserved.iter().map(|problem| (problem.line, problem.key.as_str())))
            .collect();
        for doubt in doubts::doubts(&read, &[]) {
            let missing = unserved.contains(&(doubt.line, doubt.key.as_str()));
            let Problem { line, key, rule, remedy, .. } = doubt;
            let fate = if missing { Fate::Missing } else { Fate::Different };
            findings.push(Finding { fate, source: input.name.clone(), line, key, value: String::new(), text: rule, remedy });
        }
    }
    let place = |found: &Finding| inputs.iter().position(|input| input.name == found.source);
    findings.sort_by_key(|found| (place(found), found.fate, found.line));
}

fn write(wanted: &Import, outcome: &Outcome) -> Result<(), Failure> {
    if wanted.secrets.is_some() {
        for secret in &outcome.secrets {
            put(&secret.path, &secret.value, 0o600, wanted.force)?;
        }
    }
    wanted.output.as_ref().map_or(Ok(()), |file| put(file, &outcome.text, 0o644, wanted.force))
}

/// Writes a file that is not there, or over one where that is wanted.
fn put(path: &Path, text: &str, mode: u32, force: bool) -> Result<(), Failure> {
    use std::os::unix::fs::OpenOptionsExt;
    use std::os::unix::fs::PermissionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).mode(mode).create_new(!force).create(force).truncate(force);
    let failed = |error: std::io::Error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::AlreadyExists => "it stays as it is; name another file, or say --force",
            _ => "name a file in a directory that is there and may be written to",
        };
        Failure::Failed(format!("{}: cannot be written: {error}\n    {remedy}", path.display()))
    };
    let mut file = options.open(path).map_err(failed)?;
    // One that was there keeps its mode otherwise.
    file.set_permissions(std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

/// For people.
fn report(findings: &[Finding]) -> String {
    let mut out = String::new();
    for Finding { fate, source, line, key, value, text, remedy } in findings {
        let place = if *line > 0 { format!("{source}:{line}") } else { source.clone() };
        let said = [key.as_str(), value.as_str()].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(": ");
        out.push_str(&format!("{:<14}  {place}{}{said}\n    {text}\n", fate.word(), if said.is_empty() { "" } else { "  " }));
        if !remedy.is_empty() {
            out.push_str(&format!("    {remedy}\n"));
        }
    }
    let count = |fate| findings.iter().filter(|found| found.fate == fate).count();
    let [missing, different, taken] = [Fate::Missing, Fate::Different, Fate::Taken].map(count);
    out.push_str(&format!("{taken} taken, {different} different, {missing} without counterpart\n"));
    out
}

/// For scripts.
fn document(outcome: &Outcome, problems: &[Problem], with_text: bool) -> Value {
    let findings: Vec<Value> = outcome
        .findings
        .iter()
        .map(|found| {
            json!({
                "fate": found.fate.word(),
                "source": found.source,
                "line": found.line,
                "key": found.key,
                "value": found.value,
                "text": found.text,
                "remedy": found.remedy,
            })
        })
        .collect();
    let secrets: Vec<String> = outcome.secrets.iter().map(|secret| secret.path.display().to_string()).collect();
    let problems: Vec<Value> = problems
        .iter()
        .map(|problem| json!({ "line": problem.line, "key": problem.key, "rule": problem.rule, "remedy": problem.remedy }))
        .collect();
    let mut document = json!({ "findings": findings, "secret_files": secrets, "problems": problems });
    if with_text {
        document["configuration"] = json!(outcome.text);
    }
    document
}

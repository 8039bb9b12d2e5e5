//! Configurations of the programs that sluice takes the place of, written anew as one of sluice's: texts in, a text out, and a line for whatever was
//! said there, what it became, or why it became nothing.
//!
//! Three rules. Nothing is dropped in silence: a key that is not known is a finding, too. Nothing is weakened in silence: what cannot be said is left out as a whole
//! (a probe's module, a rule), named, with what to do instead. No secret comes into a configuration: it is handed back beside it, for a file of its own.
//! Left out on purpose: reading and writing files (`cli`), and whether what comes out is right, which `sluice check` says of it as of any other.

mod adapter;
mod alertmanager;
mod blackbox;
pub mod draft;
mod flags;
mod mimir;
mod rules;
mod vmagent;

use std::path::Path;
use std::path::PathBuf;

use crate::config::import::draft::Draft;
use crate::config::read::Problem;

/// Whose configuration is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `alertmanager.yml`
    Alertmanager,
    /// `blackbox.yml`
    Blackbox,
    /// The environment of prometheus-kafka-adapter.
    KafkaAdapter,
    /// Mimir's or Cortex' limits and HA tracker.
    Mimir,
    /// vmagent's flags.
    Vmagent,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] = [Kind::Alertmanager, Kind::Blackbox, Kind::KafkaAdapter, Kind::Mimir, Kind::Vmagent];

    /// The word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Alertmanager => "alertmanager",
            Kind::Blackbox => "blackbox",
            Kind::KafkaAdapter => "kafka-adapter",
            Kind::Mimir => "mimir",
            Kind::Vmagent => "vmagent",
        }
    }

    /// The kind of that word.
    pub fn of(word: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// What an input says.
#[derive(Clone, Debug)]
pub enum Content {
    /// A file.
    Text(String),
    /// Variables of an environment.
    Variables(Vec<(String, String)>),
    /// Arguments of a command.
    Words(Vec<String>),
}

/// One input.
#[derive(Clone, Debug)]
pub struct Input {
    /// Whose it is.
    pub kind: Kind,
    /// For people: the file as it was named, or where else it is from.
    pub name: String,
    /// The file as a whole path: what the configuration names goes by it. Empty where there is no file.
    pub path: PathBuf,
    /// What it says.
    pub content: Content,
}

/// What an import needs beside its inputs.
pub struct Around<'a> {
    /// Where files of secrets are to be.
    pub secrets: PathBuf,
    /// Reads a file that an input names.
    pub read: &'a dyn Fn(&Path) -> Result<String, String>,
}

/// What became of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Nothing: sluice has nothing like it.
    Missing,
    /// Something, and it is not quite the same.
    Different,
    /// The same.
    Taken,
}

impl Fate {
    /// For people and machines.
    pub fn word(self) -> &'static str {
        match self {
            Fate::Missing => "no counterpart",
            Fate::Different => "different",
            Fate::Taken => "taken",
        }
    }
}

/// What was said somewhere, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What became of it.
    pub fate: Fate,
    /// The input's name.
    pub source: String,
    /// Its line, from 1; of arguments the number; 0 where it is about no line.
    pub line: usize,
    /// The key, the variable or the flag; empty where it is about the whole.
    pub key: String,
    /// What stands there; never a secret.
    pub value: String,
    /// What it became, or why it became nothing.
    pub text: String,
    /// What to do; empty where there is nothing to do.
    pub remedy: String,
}

/// A secret that stood in an input. It has no `Debug`, so that no log can hold it.
pub struct Secret {
    /// The file that the configuration names.
    pub path: PathBuf,
    /// What is to stand in it.
    pub value: String,
}

/// A configuration, what became of what, and the secrets that it names files for.
pub struct Outcome {
    /// YAML of sluice.
    pub text: String,
    /// In the order of the inputs, what needs an eye first.
    pub findings: Vec<Finding>,
    /// Files to be written.
    pub secrets: Vec<Secret>,
}

/// An input that cannot be read: its name, and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The input's name.
    pub source: String,
    /// What is wrong with it, with lines.
    pub problems: Vec<Problem>,
}

/// Writes one configuration of all inputs.
pub fn translate(inputs: &[Input], around: &Around<'_>) -> Result<Outcome, Vec<Unreadable>> {
    let mut draft = Draft::new(around.secrets.clone());
    let mut unreadable = Vec::new();
    for input in inputs {
        draft.begin(input);
        let read = match input.kind {
            Kind::Alertmanager => alertmanager::import(input, &mut draft),
            Kind::Blackbox => blackbox::import(input, &mut draft),
            Kind::KafkaAdapter => adapter::import(input, &mut draft),
            Kind::Mimir => mimir::import(input, &mut draft),
            Kind::Vmagent => vmagent::import(input, around, &mut draft),
        };
        if let Err(problems) = read {
            unreadable.push(Unreadable { source: input.name.clone(), problems });
        }
    }
    if unreadable.is_empty() { Ok(draft.finish(inputs)) } else { Err(unreadable) }
}

/// The text of an input that must be a file.
fn text_of(input: &Input) -> Result<&str, Vec<Problem>> {
    match &input.content {
        Content::Text(text) => Ok(text),
        Content::Variables(_) | Content::Words(_) => Err(vec![wrong(0, "(the input)", "is no file", "name the file")]),
    }
}

/// Something that keeps an input from being read.
fn wrong(line: usize, key: &str, rule: impl Into<String>, remedy: &str) -> Problem {
    Problem { line, key: key.to_owned(), value: String::new(), rule: rule.into(), remedy: remedy.to_owned() }
}

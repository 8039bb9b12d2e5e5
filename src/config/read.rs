//! Reads YAML into sections and scalars, and remembers everything that is wrong on the way.
//!
//! A reader of our own, because a derive gives up at the first problem and knows no lines. Every scalar is taken as the text that stands
//! in the file; what it means is the business of the key that holds it, so `1.10` is a fine name and `on` no surprise.

use std::cell::RefCell;
use std::fmt;

use crate::config::tree::Tree;
use crate::config::tree::Value;

/// One thing that is wrong in a configuration, said so that it can be mended without the manual.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1; 0 where no line is to blame.
    pub line: usize,
    /// The full key, as `sinks[0].kafka.topic`.
    pub key: String,
    /// What stands there; empty where nothing does.
    pub value: String,
    /// What is demanded.
    pub rule: String,
    /// What to write instead.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(out, "line {}: ", self.line)?;
        }
        write!(out, "{}", self.key)?;
        if !self.value.is_empty() {
            write!(out, ": {}", self.value)?;
        }
        write!(out, "\n    {}", self.rule)?;
        if !self.remedy.is_empty() {
            write!(out, "\n    {}", self.remedy)?;
        }
        Ok(())
    }
}

/// Why a value was refused: the rule, and what to write instead.
pub type Refusal = (String, String);

/// Where problems are collected while the file is read.
#[derive(Debug, Default)]
pub struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    /// Adds one.
    pub fn add(&self, problem: Problem) {
        self.0.borrow_mut().push(problem);
    }

    /// All of them, by line.
    pub fn take(&self) -> Vec<Problem> {
        let mut all = std::mem::take(&mut *self.0.borrow_mut());
        all.sort_by_key(|problem| problem.line);
        all
    }
}

/// A value somewhere in the file.
#[derive(Clone)]
pub struct Node<'a> {
    yaml: &'a Tree,
    key: String,
    line: usize,
    problems: &'a Problems,
}

impl<'a> Node<'a> {
    /// The document itself.
    pub fn root(yaml: &'a Tree, problems: &'a Problems) -> Node<'a> {
        Node { yaml, key: String::new(), line: yaml.line, problems }
    }

    /// The full key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The line on which it stands, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// As [`Node::complain`], of a value that may be a secret.
    pub fn complain_unshown(&self, rule: impl Into<String>, remedy: impl Into<String>) {
        self.problems.add(Problem {
            line: self.line,
            key: self.key.clone(),
            value: "(not shown)".into(),
            rule: rule.into(),
            remedy: remedy.into(),
        });
    }

    /// Complains about this value.
    pub fn complain(&self, rule: impl Into<String>, remedy: impl Into<String>) {
        self.problems.add(Problem {
            line: self.line,
            key: self.key.clone(),
            value: shown(self.yaml),
            rule: rule.into(),
            remedy: remedy.into(),
        });
    }

    /// Whether a single value stands here.
    pub fn is_single(&self) -> bool {
        scalar(self.yaml).is_some()
    }

    /// Whether a list stands here.
    pub fn is_list(&self) -> bool {
        matches!(self.yaml.value, Value::List(_))
    }

    /// Whether nothing stands here.
    pub fn is_empty(&self) -> bool {
        matches!(self.yaml.value, Value::Empty)
    }

    /// The scalar's text; a complaint and nothing where it is a list, a section or empty.
    pub fn text(&self) -> Option<&'a str> {
        match scalar(self.yaml) {
            Some(text) => Some(text),
            None if matches!(self.yaml.value, Value::Empty) => {
                self.complain("is empty", "write a value, or leave the key out");
                None
            }
            None => {
                self.complain("must be a single value", "write the value behind the colon");
                None
            }
        }
    }

    /// The scalar as bytes, which may be written as `!!binary`.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let text = self.text()?;
        if !self.yaml.binary {
            return Some(text.as_bytes().to_vec());
        }
        let packed: String = text.split_whitespace().collect();
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, packed);
        if bytes.is_err() {
            self.complain_unshown("is no base64", "`!!binary` is followed by base64, as `base64 FILE` prints it");
        }
        bytes.ok()
    }

    /// As it was parsed.
    pub fn tree(&self) -> &'a Tree {
        self.yaml
    }

    /// The scalar, understood by `parse`.
    pub fn value<T>(&self, parse: impl FnOnce(&str) -> Result<T, Refusal>) -> Option<T> {
        match parse(self.text()?) {
            Ok(value) => Some(value),
            Err((rule, remedy)) => {
                self.complain(rule, remedy);
                None
            }
        }
    }

    /// The members of a list. A single scalar is no list: that would hide a forgotten bracket.
    pub fn list(&self) -> Vec<Node<'a>> {
        match &self.yaml.value {
            Value::List(items) => {
                items.iter().enumerate().map(|(index, yaml)| self.child(yaml, format!("{}[{index}]", self.key))).collect()
            }
            Value::Empty => Vec::new(),
            _ => {
                self.complain("must be a list", "write `[a, b]`, or one `- item` a line");
                Vec::new()
            }
        }
    }

    /// The pairs as a section where there are pairs, for what may be a word as well.
    pub fn section_if_any(&self) -> Option<Section<'a>> {
        matches!(self.yaml.value, Value::Pairs(_)).then(|| self.section())
    }

    /// The key-value pairs as a section; a complaint where it is none.
    pub fn section(&self) -> Section<'a> {
        let mut entries: Vec<(&'a str, Node<'a>)> = Vec::new();
        match &self.yaml.value {
            Value::Pairs(pairs) => {
                for (key, yaml) in pairs {
                    let Some(name) = scalar(key) else {
                        self.complain("holds a key that is no plain word", "write `key: value`");
                        continue;
                    };
                    let path = if self.key.is_empty() { name.to_string() } else { format!("{}.{name}", self.key) };
                    let mut node = self.child(yaml, path);
                    node.line = key.line;
                    if entries.iter().any(|(known, _)| *known == name) {
                        node.complain("stands here a second time", "keep one of the two");
                    }
                    entries.push((name, node));
                }
            }
            Value::Empty => {}
            _ => self.complain("must be a section", "write `key: value` pairs below it"),
        }
        Section { node: self.clone(), entries, known: RefCell::new(Vec::new()) }
    }

    fn child(&self, yaml: &'a Tree, key: String) -> Node<'a> {
        Node { yaml, key, line: yaml.line, problems: self.problems }
    }
}

/// Key-value pairs, of which every key must be asked for before [`Section::finish`].
pub struct Section<'a> {
    node: Node<'a>,
    entries: Vec<(&'a str, Node<'a>)>,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    /// The value of `key`, if it is written.
    pub fn get(&self, key: &'static str) -> Option<Node<'a>> {
        self.known.borrow_mut().push(key);
        self.entries.iter().find(|(name, _)| *name == key).map(|(_, node)| node.clone())
    }

    /// The value of `key`, understood by `parse`; `default` where it is not written or wrong (and then complained about).
    pub fn or<T>(&self, key: &'static str, default: T, parse: impl FnOnce(&str) -> Result<T, Refusal>) -> T {
        self.get(key).and_then(|node| node.value(parse)).unwrap_or(default)
    }

    /// As [`Section::or`] without a default.
    pub fn opt<T>(&self, key: &'static str, parse: impl FnOnce(&str) -> Result<T, Refusal>) -> Option<T> {
        self.get(key).and_then(|node| node.value(parse))
    }

    /// As [`Section::opt`]; where the key is missing that is a problem, with this remedy.
    pub fn must<T>(&self, key: &'static str, remedy: &str, parse: impl FnOnce(&str) -> Result<T, Refusal>) -> Option<T> {
        match self.get(key) {
            Some(node) => node.value(parse),
            None => {
                self.missing(key, remedy);
                None
            }
        }
    }

    /// A section below this one; an empty one where it is not written.
    pub fn below(&self, key: &'static str) -> Option<Section<'a>> {
        self.get(key).map(|node| node.section())
    }

    /// All pairs, where the keys are free (then [`Section::finish`] is not called).
    pub fn pairs(&self) -> impl Iterator<Item = (&'a str, &Node<'a>)> {
        self.entries.iter().map(|(name, node)| (*name, node))
    }

    /// Complains about a key that is not there.
    pub fn missing(&self, key: &str, remedy: &str) {
        let key = if self.node.key.is_empty() { key.to_string() } else { format!("{}.{key}", self.node.key) };
        self.node.problems.add(Problem {
            line: self.node.line,
            key,
            value: String::new(),
            rule: "is missing".into(),
            remedy: remedy.into(),
        });
    }

    /// Adds a problem that was found elsewhere.
    pub fn add(&self, problem: Problem) {
        self.node.problems.add(problem);
    }

    /// The node this section is made of.
    pub fn node(&self) -> &Node<'a> {
        &self.node
    }

    /// Complains about every key that nobody asked for.
    pub fn finish(&self) {
        let known = self.known.borrow();
        for (name, node) in &self.entries {
            if known.contains(name) {
                continue;
            }
            let remedy = match nearest(name, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", known.join(", ")),
            };
            node.problems.add(Problem {
                line: node.line,
                key: node.key.clone(),
                value: shown(node.yaml),
                rule: "is no key known here".into(),
                remedy,
            });
        }
    }
}

/// The member of `words` most like `word`, if any is near enough to be a slip of the finger.
pub fn nearest<'w>(word: &str, words: &[&'w str]) -> Option<&'w str> {
    let (distance, near) = words.iter().map(|known| (slips(word, known), *known)).min()?;
    (distance <= 2.max(near.len() / 4)).then_some(near).filter(|near| distance < near.len())
}

/// Letters to insert, drop or change until `a` is `b` (Levenshtein), row by row.
fn slips(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let changed = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn scalar(yaml: &Tree) -> Option<&str> {
    match &yaml.value {
        Value::Scalar(text) => Some(text),
        _ => None,
    }
}

fn shown(yaml: &Tree) -> String {
    match &yaml.value {
        Value::Scalar(text) => text.chars().take(80).collect(),
        Value::List(items) => format!("[{} items]", items.len()),
        Value::Pairs(pairs) => format!("{{{} keys}}", pairs.len()),
        Value::Empty => String::new(),
    }
}

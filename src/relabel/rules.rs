//! `relabel_configs`: Prometheus' eleven actions, one rule after the other, on the labels of one series.
//!
//! Semantics from Prometheus' documentation and its published tests (`relabel_config` of the configuration page): the value is that of the source labels
//! joined by the separator; a label set to the empty text is a label taken away; `hashmod` is the last half of an MD5; names beginning with two
//! underscores stay, as in `write_relabel_configs`. Texts are kept in one buffer of the caller's, so that a series costs no allocation.

use std::ops::Range;

use md5::Digest;
use md5::Md5;
use regex::CaptureLocations;
use regex::Regex;

use crate::config::shape::Relabel;
use crate::relabel::pattern;

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The key within the rule.
    pub key: &'static str,
    /// What was written there.
    pub value: String,
    /// The rule it breaks.
    pub rule: String,
    /// What to write instead.
    pub remedy: String,
}

/// Checked rules, in their order.
#[derive(Clone, Debug, Default)]
pub struct Rules(Vec<Rule>);

/// A checked rule.
#[derive(Clone, Debug)]
pub struct Rule {
    source_labels: Vec<String>,
    separator: String,
    action: Action,
}

#[derive(Clone, Debug)]
enum Action {
    Replace { pattern: Regex, target: Template, replacement: Template },
    Keep(Regex),
    Drop(Regex),
    KeepEqual(String),
    DropEqual(String),
    HashMod { target: String, modulus: u64 },
    LabelMap { pattern: Regex, replacement: Template },
    LabelDrop(Regex),
    LabelKeep(Regex),
    Lowercase(String),
    Uppercase(String),
}

/// A text with places for what a pattern has caught, in Go's notation: `$1`, `${1}`, `${name}`, `$$`.
#[derive(Clone, Debug)]
struct Template(Vec<Piece>);

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    /// A group of the pattern; one that it does not have catches nothing.
    Caught(usize),
}

/// The labels of a series while rules work on them; always the same rules, whose room it keeps.
#[derive(Debug, Default)]
pub struct Work {
    text: String,
    labels: Vec<Slot>,
    joined: String,
    spare: Vec<Slot>,
    name: String,
    value: String,
    /// By rule: room for what its pattern catches.
    caught: Vec<Option<CaptureLocations>>,
}

/// A label, as places in the text.
#[derive(Clone, Debug)]
struct Slot {
    name: Range<usize>,
    value: Range<usize>,
    /// What the caller knows of the label; gone when it was changed.
    tag: Option<u64>,
}

const ACTIONS: [&str; 11] =
    ["replace", "keep", "drop", "keepequal", "dropequal", "hashmod", "labelmap", "labeldrop", "labelkeep", "lowercase", "uppercase"];
/// Text of a series above this goes back.
const KEPT_BYTES_MAX: usize = 1 << 20;

impl Rules {
    /// Of these rules.
    pub fn new(rules: Vec<Rule>) -> Rules {
        Rules(rules)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One rule after the other works on the labels, which are in order afterwards. An error: the rule, from 0, that drops the series.
    pub fn apply(&self, work: &mut Work) -> Result<(), usize> {
        work.caught.resize_with(self.0.len(), || None);
        if let Some(drops) = self.0.iter().enumerate().position(|(number, rule)| !rule.apply(number, work)) {
            return Err(drops);
        }
        work.sort();
        Ok(())
    }

    /// The same, step by step: after each rule `show` sees the labels.
    pub fn follow(&self, work: &mut Work, show: &mut dyn FnMut(usize, &Work)) -> Result<(), usize> {
        work.caught.resize_with(self.0.len(), || None);
        for (number, rule) in self.0.iter().enumerate() {
            if !rule.apply(number, work) {
                return Err(number);
            }
            work.sort();
            show(number, work);
        }
        Ok(())
    }
}

impl Rule {
    /// Checks a rule, by Prometheus' own rules for them.
    pub fn check(draft: &Relabel) -> Result<Rule, Vec<Wrong>> {
        let mut checker = Checker { draft, wrong: Vec::new() };
        let action = checker.action();
        match action.filter(|_| checker.wrong.is_empty()) {
            Some(action) => Ok(Rule {
                source_labels: draft.source_labels.clone().unwrap_or_default(),
                separator: draft.separator.clone().unwrap_or_else(|| ";".to_owned()),
                action,
            }),
            None => Err(checker.wrong),
        }
    }

    /// Works on the labels, as the rule of this number. False: the series is dropped.
    fn apply(&self, number: usize, work: &mut Work) -> bool {
        work.join(&self.source_labels, &self.separator);
        match &self.action {
            Action::Keep(pattern) => return pattern.is_match(&work.joined),
            Action::Drop(pattern) => return !pattern.is_match(&work.joined),
            Action::KeepEqual(target) => return work.value(target).unwrap_or_default() == work.joined,
            Action::DropEqual(target) => return work.value(target).unwrap_or_default() != work.joined,
            Action::Replace { pattern, target, replacement } => work.replace(number, pattern, (target, replacement)),
            Action::HashMod { target, modulus } => {
                let digest = Md5::digest(work.joined.as_bytes());
                let mut last = [0; 8];
                last.copy_from_slice(&digest[8..]);
                let value = (u64::from_be_bytes(last) % modulus).to_string();
                work.set(target, &value);
            }
            Action::Lowercase(target) => {
                let value = work.joined.to_lowercase();
                work.set(target, &value);
            }
            Action::Uppercase(target) => {
                let value = work.joined.to_uppercase();
                work.set(target, &value);
            }
            Action::LabelMap { pattern, replacement } => work.map(number, pattern, replacement),
            Action::LabelDrop(pattern) => work.retain(|name| !pattern.is_match(name)),
            Action::LabelKeep(pattern) => work.retain(|name| pattern.is_match(name)),
        }
        true
    }
}

struct Checker<'d> {
    draft: &'d Relabel,
    wrong: Vec<Wrong>,
}

impl Checker<'_> {
    fn complain(&mut self, key: &'static str, value: &str, rule: impl Into<String>, remedy: impl Into<String>) {
        self.wrong.push(Wrong { key, value: value.to_owned(), rule: rule.into(), remedy: remedy.into() });
    }

    fn action(&mut self) -> Option<Action> {
        let word = self.draft.action.as_deref().unwrap_or("replace").to_ascii_lowercase();
        let target = self.draft.target_label.clone().unwrap_or_default();
        let pattern = self.pattern();
        let replacement = self.draft.replacement.clone().unwrap_or_else(|| "$1".to_owned());
        match word.as_str() {
            "replace" => {
                self.needs_target(&word);
                let pattern = pattern?;
                if !target.contains('$') {
                    self.legal_target(&target);
                }
                let (target, replacement) = (Template::new(&target, &pattern), Template::new(&replacement, &pattern));
                Some(Action::Replace { pattern, target, replacement })
            }
            "keep" => pattern.map(Action::Keep),
            "drop" => pattern.map(Action::Drop),
            "keepequal" | "dropequal" => {
                self.needs_target(&word);
                self.only(&word, &["source_labels", "target_label"]);
                Some(if word == "keepequal" { Action::KeepEqual(target) } else { Action::DropEqual(target) })
            }
            "hashmod" => {
                self.needs_target(&word);
                self.legal_target(&target);
                match self.draft.modulus {
                    Some(modulus) if modulus > 0 => Some(Action::HashMod { target, modulus }),
                    other => {
                        let value = other.map_or(String::new(), |other| other.to_string());
                        self.complain("modulus", &value, "hashmod needs a number above 0 to divide by", "write for instance modulus: 8");
                        None
                    }
                }
            }
            "lowercase" | "uppercase" => {
                self.needs_target(&word);
                self.legal_target(&target);
                if let Some(written) = self.draft.replacement.clone() {
                    self.complain("replacement", &written, format!("means nothing to {word}"), "leave it out");
                }
                Some(if word == "lowercase" { Action::Lowercase(target) } else { Action::Uppercase(target) })
            }
            "labelmap" => {
                let pattern = pattern?;
                let replacement = Template::new(&replacement, &pattern);
                Some(Action::LabelMap { pattern, replacement })
            }
            "labeldrop" | "labelkeep" => {
                self.only(&word, &["regex"]);
                let pattern = pattern?;
                Some(if word == "labeldrop" { Action::LabelDrop(pattern) } else { Action::LabelKeep(pattern) })
            }
            other => {
                let other = other.to_owned();
                self.complain("action", &other, format!("must be one of: {}", ACTIONS.join(", ")), "");
                None
            }
        }
    }

    fn pattern(&mut self) -> Option<Regex> {
        let text = self.draft.regex.as_deref().unwrap_or("(.*)");
        match pattern::whole(text) {
            Ok(pattern) => Some(pattern),
            Err(what) => {
                self.complain("regex", text, format!("is not a regular expression: {what}"), "the syntax is RE2's, as in Prometheus");
                None
            }
        }
    }

    fn needs_target(&mut self, word: &str) {
        if self.draft.target_label.as_deref().unwrap_or_default().is_empty() {
            self.complain("target_label", "", format!("is missing, and {word} needs it"), "name the label: target_label: team");
        }
    }

    /// Any UTF-8 is a name since Prometheus 3, but a `$` that is no place for anything is a slip.
    fn legal_target(&mut self, target: &str) {
        if target.contains('$') {
            self.complain("target_label", target, "must be a label's name as it stands", "write it without `$`");
        }
    }

    /// Complains about every key that this action does not read.
    fn only(&mut self, word: &str, known: &[&str]) {
        let draft = self.draft;
        let written: [(&'static str, Option<String>); 6] = [
            ("source_labels", draft.source_labels.as_ref().map(|names| names.join(", "))),
            ("separator", draft.separator.clone()),
            ("target_label", draft.target_label.clone()),
            ("regex", draft.regex.clone()),
            ("modulus", draft.modulus.map(|number| number.to_string())),
            ("replacement", draft.replacement.clone()),
        ];
        for (key, value) in written {
            if let Some(value) = value.filter(|_| !known.contains(&key)) {
                self.complain(key, &value, format!("means nothing to {word}, which reads {} only", known.join(" and ")), "leave it out");
            }
        }
    }
}

impl Template {
    fn new(text: &str, pattern: &Regex) -> Template {
        let mut pieces = Vec::new();
        let mut rest = text;
        let mut plain = String::new();
        while let Some(at) = rest.find('$') {
            plain.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                plain.push('$');
                rest = after;
                continue;
            }
            let Some((name, after)) = group_name(rest) else {
                // Go keeps a `$` that begins nothing.
                plain.push('$');
                continue;
            };
            rest = after;
            let number = name.parse::<usize>().ok().or_else(|| pattern.capture_names().position(|known| known == Some(name)));
            if let Some(number) = number.filter(|number| *number < pattern.captures_len()) {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
                pieces.push(Piece::Caught(number));
            }
        }
        plain.push_str(rest);
        pieces.push(Piece::Text(plain));
        pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
        Template(pieces)
    }

    fn write(&self, caught: &CaptureLocations, of: &str, out: &mut String) {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Caught(number) => {
                    if let Some((start, end)) = caught.get(*number) {
                        out.push_str(&of[start..end]);
                    }
                }
            }
        }
    }
}

/// What stands behind a `$`: a name with or without braces, and what follows it.
fn group_name(text: &str) -> Option<(&str, &str)> {
    if let Some(inside) = text.strip_prefix('{') {
        let (name, after) = inside.split_once('}')?;
        let legal = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        return legal.then_some((name, after));
    }
    let length = text.bytes().position(|byte| !(byte.is_ascii_alphanumeric() || byte == b'_')).unwrap_or(text.len());
    (length > 0).then(|| text.split_at(length))
}

impl Work {
    /// Begins with no label.
    pub fn clear(&mut self) {
        if self.text.capacity() > KEPT_BYTES_MAX {
            *self = Work::default();
        }
        self.text.clear();
        self.labels.clear();
    }

    /// Adds a label that is not there yet; `tag` is what the caller knows of it, and gets back if nothing changes it.
    pub fn push(&mut self, name: &str, value: &str, tag: Option<u64>) {
        let slot = Slot { name: append(&mut self.text, name), value: append(&mut self.text, value), tag };
        self.labels.push(slot);
    }

    /// The value of a label.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.find(name).map(|place| &self.text[self.labels[place].value.clone()])
    }

    /// Brings the labels into the order of their names.
    fn sort(&mut self) {
        let text = &self.text;
        self.labels.sort_unstable_by(|a, b| text[a.name.clone()].cmp(&text[b.name.clone()]));
    }

    /// The labels: name, value, tag.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = (&str, &str, Option<u64>)> {
        self.labels.iter().map(|slot| (&self.text[slot.name.clone()], &self.text[slot.value.clone()], slot.tag))
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.labels.iter().position(|slot| self.text[slot.name.clone()] == *name)
    }

    /// Sets a label, or takes it away where the value is empty.
    pub fn set(&mut self, name: &str, value: &str) {
        let place = self.find(name);
        if value.is_empty() {
            if let Some(place) = place {
                self.labels.remove(place);
            }
            return;
        }
        match place {
            Some(place) if self.text[self.labels[place].value.clone()] == *value => {}
            Some(place) => {
                let value = append(&mut self.text, value);
                self.labels[place].value = value;
                self.labels[place].tag = None;
            }
            None => self.push(name, value, None),
        }
    }

    fn join(&mut self, names: &[String], separator: &str) {
        let mut joined = std::mem::take(&mut self.joined);
        joined.clear();
        for (place, name) in names.iter().enumerate() {
            if place > 0 {
                joined.push_str(separator);
            }
            joined.push_str(self.value(name).unwrap_or_default());
        }
        self.joined = joined;
    }

    fn room(&mut self, number: usize, pattern: &Regex) -> CaptureLocations {
        self.caught.get_mut(number).and_then(Option::take).unwrap_or_else(|| pattern.capture_locations())
    }

    fn replace(&mut self, number: usize, pattern: &Regex, (target, replacement): (&Template, &Template)) {
        let mut caught = self.room(number, pattern);
        if pattern.captures_read(&mut caught, &self.joined).is_some() {
            let (mut name, mut value) = (std::mem::take(&mut self.name), std::mem::take(&mut self.value));
            name.clear();
            value.clear();
            target.write(&caught, &self.joined, &mut name);
            replacement.write(&caught, &self.joined, &mut value);
            if !name.is_empty() {
                self.set(&name, &value);
            }
            (self.name, self.value) = (name, value);
        }
        self.caught[number] = Some(caught);
    }

    /// `labelmap`: labels whose name matches get a copy under a new name. All copies are of what was there before.
    fn map(&mut self, number: usize, pattern: &Regex, replacement: &Template) {
        let mut before = std::mem::take(&mut self.spare);
        before.clone_from(&self.labels);
        let mut caught = self.room(number, pattern);
        let (mut name, mut value) = (std::mem::take(&mut self.name), std::mem::take(&mut self.value));
        for slot in &before {
            let old = &self.text[slot.name.clone()];
            if pattern.captures_read(&mut caught, old).is_none() {
                continue;
            }
            name.clear();
            value.clear();
            replacement.write(&caught, old, &mut name);
            value.push_str(&self.text[slot.value.clone()]);
            if !name.is_empty() {
                self.set(&name, &value);
            }
        }
        (self.spare, self.name, self.value) = (before, name, value);
        self.caught[number] = Some(caught);
    }

    fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        let text = &self.text;
        self.labels.retain(|slot| keep(&text[slot.name.clone()]));
    }
}

fn append(text: &mut String, what: &str) -> Range<usize> {
    let start = text.len();
    text.push_str(what);
    start..text.len()
}

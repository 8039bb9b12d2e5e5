//! YAML text as a plain tree: lists, pairs in the order written, scalars as the text that stands there, each with its line.
//!
//! Made from the parser's events and not from a loaded document, because a loader keeps only the last of two equal keys and turns `1.10`
//! into a number. Anchors and aliases are refused in files of our own: a configuration that is read by many eyes says what it means where it means it.
//! Files of others ([`parse_foreign`]) may have them, and merge keys (`<<`).

use std::collections::HashMap;

use saphyr_parser::Event;
use saphyr_parser::Parser;
use saphyr_parser::ScalarStyle;

/// Sections in sections in lists: nothing of ours is deeper than six.
const DEPTH_MAX: usize = 24;

/// A value and its line.
#[derive(Clone, Debug)]
pub struct Tree {
    /// From 1.
    pub line: usize,
    /// What it is.
    pub value: Value,
    /// The scalar is base64 of what is meant (`!!binary`).
    pub binary: bool,
}

/// What a value is.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing behind the colon, or `~`.
    Empty,
    /// A single value, as text.
    Scalar(String),
    /// A list.
    List(Vec<Tree>),
    /// Pairs in the order written; equal keys are still all there.
    Pairs(Vec<(Tree, Tree)>),
}

impl Tree {
    fn values(&self) -> usize {
        1 + match &self.value {
            Value::Empty | Value::Scalar(_) => 0,
            Value::List(items) => items.iter().map(Tree::values).sum(),
            Value::Pairs(pairs) => pairs.iter().map(|(key, value)| key.values() + value.values()).sum(),
        }
    }
}

/// Puts what `<<` names in its place: a key that is written beside it wins, then the first of several. An error: the line of what has no keys.
fn merge(pairs: &mut Vec<(Tree, Tree)>) -> Result<(), usize> {
    let is_merge = |key: &Tree| matches!(&key.value, Value::Scalar(text) if text == "<<");
    let (merges, mut own): (Vec<_>, Vec<_>) = std::mem::take(pairs).into_iter().partition(|(key, _)| is_merge(key));
    for (_, value) in merges {
        let sources = match value.value {
            Value::List(items) => items,
            _ => vec![value],
        };
        for source in sources {
            let Value::Pairs(others) = source.value else { return Err(source.line) };
            for (key, value) in others {
                let same = |(own, _): &(Tree, Tree)| matches!((&own.value, &key.value), (Value::Scalar(a), Value::Scalar(b)) if a == b);
                if !own.iter().any(same) {
                    own.push((key, value));
                }
            }
        }
    }
    *pairs = own;
    Ok(())
}

/// Why a text is no YAML of ours.
#[derive(Debug)]
pub struct Broken {
    /// From 1.
    pub line: usize,
    /// In the parser's words.
    pub reason: String,
}

/// Values that a file with aliases may stand for: a few lines of them can multiply without end.
const FOREIGN_VALUES_MAX: usize = 200_000;

/// Reads the one document that `text` holds.
pub fn parse(text: &str) -> Result<Tree, Broken> {
    document(Events { parser: Parser::new_from_str(text), line: 1, anchors: None, values: 0 })
}

/// Reads a file that was written for another program: with anchors, aliases and merge keys, all written out.
pub fn parse_foreign(text: &str) -> Result<Tree, Broken> {
    document(Events { parser: Parser::new_from_str(text), line: 1, anchors: Some(HashMap::new()), values: 0 })
}

fn document(mut events: Events<'_>) -> Result<Tree, Broken> {
    let mut document = None;
    loop {
        match events.next()? {
            None => break,
            Some(Event::StreamStart | Event::StreamEnd | Event::Nothing | Event::DocumentEnd) => {}
            Some(Event::DocumentStart(_)) if document.is_some() => {
                return Err(events.broken("a second document starts here; one file is one configuration"));
            }
            Some(Event::DocumentStart(_)) => {}
            Some(event) => document = Some(events.value(event, 0)?),
        }
    }
    Ok(document.unwrap_or(Tree { line: 1, value: Value::Empty, binary: false }))
}

struct Events<'t> {
    parser: Parser<'t, saphyr_parser::StrInput<'t>>,
    line: usize,
    /// What anchors stand for, where they are taken.
    anchors: Option<HashMap<usize, Tree>>,
    /// Values so far, those of aliases included.
    values: usize,
}

impl<'t> Events<'t> {
    fn next(&mut self) -> Result<Option<Event<'t>>, Broken> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => {
                self.line = span.start.line().max(1);
                Ok(Some(event))
            }
            Some(Err(error)) => Err(Broken { line: error.marker().line(), reason: error.info().to_string() }),
        }
    }

    fn broken(&self, reason: &str) -> Broken {
        Broken { line: self.line, reason: reason.to_string() }
    }

    fn value(&mut self, event: Event<'t>, depth: usize) -> Result<Tree, Broken> {
        if depth > DEPTH_MAX {
            return Err(self.broken("is nested too deeply"));
        }
        let line = self.line;
        let binary = matches!(&event, Event::Scalar(_, _, _, Some(tag)) if tag.suffix == "binary");
        let anchor = match &event {
            Event::Scalar(_, _, anchor, _) | Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) => *anchor,
            _ => 0,
        };
        self.values += 1;
        let value = match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) if matches!(&*text, "" | "~" | "null") => Value::Empty,
            Event::Scalar(text, ..) => Value::Scalar(text.into_owned()),
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                while let Some(event) = self.member(&Event::SequenceEnd)? {
                    items.push(self.value(event, depth + 1)?);
                }
                Value::List(items)
            }
            Event::MappingStart(..) => {
                let mut pairs = Vec::new();
                while let Some(event) = self.member(&Event::MappingEnd)? {
                    let key = self.value(event, depth + 1)?;
                    let Some(event) = self.next()? else { return Err(self.broken("ends too early")) };
                    pairs.push((key, self.value(event, depth + 1)?));
                }
                if self.anchors.is_some() {
                    merge(&mut pairs).map_err(|line| Broken { line, reason: "`<<` takes keys, or a list of such".to_owned() })?;
                }
                Value::Pairs(pairs)
            }
            Event::Alias(anchor) if self.anchors.is_some() => return self.alias(anchor, line),
            Event::Alias(_) => return Err(self.broken("aliases (`*name`) are not taken; write the value again")),
            _ => return Err(self.broken("is no value")),
        };
        let tree = Tree { line, value, binary };
        if let Some(anchors) = self.anchors.as_mut().filter(|_| anchor > 0) {
            anchors.insert(anchor, tree.clone());
        }
        Ok(tree)
    }

    fn alias(&mut self, anchor: usize, line: usize) -> Result<Tree, Broken> {
        let known = self.anchors.as_ref().and_then(|anchors| anchors.get(&anchor)).cloned();
        let tree = known.ok_or_else(|| self.broken("this alias stands within what it names"))?;
        self.values += tree.values();
        if self.values > FOREIGN_VALUES_MAX {
            return Err(self.broken("its aliases make it too large"));
        }
        Ok(Tree { line, ..tree })
    }

    /// The next member's first event, or nothing at `end`.
    fn member(&mut self, end: &Event<'t>) -> Result<Option<Event<'t>>, Broken> {
        match self.next()? {
            Some(event) if event == *end => Ok(None),
            Some(event) => Ok(Some(event)),
            None => Err(self.broken("ends too early")),
        }
    }
}

//! The text format (version 0.0.4) into families, as strict as Prometheus' own parser: what that one refuses is refused here, since a body that was cut must not
//! pass for a whole one. A line is a step; nothing is kept of a body that breaks anywhere.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::wire::families::Family;
use crate::wire::families::Kind;
use crate::wire::families::Labels;
use crate::wire::families::MOST_ITEMS;
use crate::wire::families::Metric;
use crate::wire::families::NO_TIMES;
use crate::wire::families::Parts;
use crate::wire::families::Read;
use crate::wire::families::Value;
use crate::wire::families::Wrong;

/// Which part of a family a line is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Itself,
    Sum,
    Count,
}

/// A family that is being read: its kind may not be known yet.
struct Open {
    family: Family,
    typed: bool,
}

#[derive(Default)]
struct Reader {
    open: Vec<Open>,
    by_name: BTreeMap<String, usize>,
    /// Where the metric of these labels stands, of families with parts.
    known: BTreeMap<(usize, Labels), usize>,
    times: bool,
    items: usize,
}

type Step<T> = Result<T, String>;

/// Reads a body.
pub fn read(body: &[u8]) -> Result<Read, Wrong> {
    let mut reader = Reader::default();
    let mut rest = body;
    let mut line = 0;
    while !rest.is_empty() {
        line += 1;
        let wrong = |what| Wrong::Text { line, what };
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            // What stands behind the last line break is a line that was cut, unless it is nothing.
            if rest.iter().all(|byte| blank(char::from(*byte))) {
                break;
            }
            return Err(wrong("unexpected end of input stream: the last line has no end".to_owned()));
        };
        let (text, after) = (&rest[..end], &rest[end + 1..]);
        let text = std::str::from_utf8(text).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
        reader.line(text.trim_start_matches(blank)).map_err(wrong)?;
        rest = after;
    }
    // A family that was only described is none.
    let families = reader.open.into_iter().map(|open| open.family).filter(|family| !family.metrics.is_empty()).collect();
    Ok(Read { families, refused: reader.times.then(|| NO_TIMES.to_owned()) })
}

fn blank(letter: char) -> bool {
    letter == ' ' || letter == '\t'
}

/// The longest beginning that is a name of a metric.
fn metric_name(text: &str) -> (&str, &str) {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || byte == b':';
    if !text.bytes().next().is_some_and(first) {
        return ("", text);
    }
    text.split_at(text.bytes().position(|byte| !first(byte) && !byte.is_ascii_digit()).unwrap_or(text.len()))
}

fn label_name(text: &str) -> (&str, &str) {
    let name = metric_name(text).0;
    text.split_at(name.find(':').unwrap_or(name.len()))
}

impl Reader {
    fn line(&mut self, line: &str) -> Step<()> {
        match line.strip_prefix('#') {
            Some(comment) => self.comment(comment.trim_start_matches(blank)),
            None if line.is_empty() => Ok(()),
            None => self.sample(line),
        }
    }

    fn comment(&mut self, comment: &str) -> Step<()> {
        let (keyword, rest) = comment.split_at(comment.find(blank).unwrap_or(comment.len()));
        if rest.is_empty() || keyword != "HELP" && keyword != "TYPE" {
            return Ok(());
        }
        let rest = rest.trim_start_matches(blank);
        let (name, rest) = metric_name(rest);
        if rest.is_empty() {
            return Ok(());
        }
        if !rest.starts_with(blank) {
            return Err("invalid metric name in comment".to_owned());
        }
        let (place, _) = self.family(name);
        let (open, rest) = (&mut self.open[place], rest.trim_start_matches(blank));
        if rest.is_empty() {
            return Ok(());
        }
        if keyword == "HELP" {
            if open.family.help.is_some() {
                return Err(format!("second HELP line for metric name {:?}", open.family.name));
            }
            open.family.help = Some(unescaped(rest)?);
            return Ok(());
        }
        if std::mem::replace(&mut open.typed, true) {
            return Err(format!("second TYPE line for metric name {:?}, or TYPE reported after samples", open.family.name));
        }
        open.family.kind = Kind::of_word(rest).ok_or_else(|| format!("unknown metric type {rest:?}"))?;
        Ok(())
    }

    /// The family that a name is of, made where there is none, and which part of it.
    fn family(&mut self, name: &str) -> (usize, Part) {
        if let Some(place) = self.by_name.get(name) {
            return (*place, Part::Itself);
        }
        for (suffix, part) in [("_count", Part::Count), ("_sum", Part::Sum), ("_bucket", Part::Itself)] {
            let base = name.strip_suffix(suffix).filter(|base| !base.is_empty());
            let place = base.and_then(|base| self.by_name.get(base));
            if let Some(place) = place.filter(|place| self.open[**place].family.kind.suffixes().contains(&suffix)) {
                return (*place, part);
            }
        }
        let family = Family { name: name.to_owned(), help: None, kind: Kind::Untyped, metrics: Vec::new() };
        self.open.push(Open { family, typed: false });
        self.by_name.insert(name.to_owned(), self.open.len() - 1);
        (self.open.len() - 1, Part::Itself)
    }

    fn sample(&mut self, line: &str) -> Step<()> {
        let (name, rest) = metric_name(line);
        if name.is_empty() {
            return Err("invalid metric name".to_owned());
        }
        let (place, part) = self.family(name);
        self.open[place].typed = true;
        let kind = self.open[place].family.kind;
        let mut rest = rest.trim_start_matches(blank);
        let (mut labels, mut step) = (Labels::new(), None);
        if let Some(inner) = rest.strip_prefix('{') {
            rest = read_labels(inner, kind, (&mut labels, &mut step), name)?.trim_start_matches(blank);
        }
        self.items += 1 + labels.len();
        if self.items > MOST_ITEMS {
            return Err(format!("there are more than {MOST_ITEMS} samples and labels"));
        }
        let (value, rest) = rest.split_at(rest.find(blank).unwrap_or(rest.len()));
        let value = float(value).ok_or_else(|| format!("expected float as value, got {value:?}"))?;
        if !rest.is_empty() {
            self.times = true;
            let rest = rest.trim_start_matches(blank);
            let (time, rest) = rest.split_at(rest.find(blank).unwrap_or(rest.len()));
            time.parse::<i64>().map_err(|_| format!("expected integer as timestamp, got {time:?}"))?;
            if !rest.is_empty() {
                return Err(format!("spurious string after timestamp: {rest:?}"));
            }
        }
        if kind.suffixes().is_empty() {
            self.open[place].family.metrics.push(Metric { labels, value: Value::Single(value) });
        } else {
            self.part(place, labels, (part, step, value));
        }
        Ok(())
    }

    /// A line of a metric that has several.
    fn part(&mut self, place: usize, labels: Labels, (part, step, value): (Part, Option<f64>, f64)) {
        let family = &mut self.open[place].family;
        let mut key = labels.clone();
        key.sort();
        let number = *self.known.entry((place, key)).or_insert_with(|| {
            family.metrics.push(Metric { labels, value: Value::Parts(Parts::default()) });
            family.metrics.len() - 1
        });
        let Value::Parts(parts) = &mut family.metrics[number].value else { return };
        // Observations are counted in whole numbers.
        let whole = (value as u64) as f64;
        match (part, step) {
            (Part::Count, _) => parts.count = whole,
            (Part::Sum, _) => parts.sum = value,
            (Part::Itself, Some(step)) if !step.is_nan() => {
                parts.steps.push((step, if family.kind == Kind::Histogram { whole } else { value }));
            }
            (Part::Itself, _) => {}
        }
    }
}

/// Labels behind `{`, and what follows `}`. The label of a part is none of the metric's.
fn read_labels<'t>(text: &'t str, kind: Kind, (labels, step): (&mut Labels, &mut Option<f64>), metric: &str) -> Step<&'t str> {
    let mut rest = text;
    let mut names = BTreeSet::new();
    loop {
        rest = rest.trim_start_matches(blank);
        if let Some(after) = rest.strip_prefix('}') {
            return Ok(after);
        }
        let (name, after) = label_name(rest);
        if name.is_empty() {
            return Err(format!("invalid label name for metric {metric:?}"));
        }
        let Some(after) = after.trim_start_matches(blank).strip_prefix('=') else {
            return Err(format!("expected '=' after label name {name:?}"));
        };
        if name == "__name__" {
            return Err("label name \"__name__\" is reserved".to_owned());
        }
        let Some(after) = after.trim_start_matches(blank).strip_prefix('"') else {
            return Err(format!("expected '\"' at start of the value of label {name:?}"));
        };
        let (value, after) = quoted(after)?;
        if !kind.suffixes().is_empty() && name == kind.step_label() {
            *step = Some(float(&value).ok_or_else(|| format!("expected float as value for '{name}' label, got {value:?}"))?);
        } else if names.insert(name) {
            labels.push((name.to_owned(), value));
        } else {
            return Err(format!("duplicate label names for metric {metric:?}"));
        }
        rest = after.trim_start_matches(blank);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return Err(format!("unexpected end of the value of label {name:?}")),
        }
    }
}

/// Up to the closing quote, and what follows it.
fn quoted(text: &str) -> Step<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => value.push(escaped(letters.next().map(|(_, letter)| letter))?),
            other => value.push(other),
        }
    }
    Err(format!("label value {value:?} has no end in its line"))
}

/// A help text.
fn unescaped(text: &str) -> Step<String> {
    let mut value = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        value.push(if letter == '\\' { escaped(letters.next())? } else { letter });
    }
    Ok(value)
}

fn escaped(letter: Option<char>) -> Step<char> {
    match letter {
        Some('n') => Ok('\n'),
        Some(letter @ ('\\' | '"')) => Ok(letter),
        Some(other) => Err(format!("invalid escape sequence '\\{other}'")),
        None => Err("an escape sequence has no end in its line".to_owned()),
    }
}

/// As Go reads it: what is too large is none.
fn float(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    let said = text.trim_start_matches(['+', '-']).get(..3).is_some_and(|word| word.eq_ignore_ascii_case("inf"));
    (value.is_finite() || value.is_nan() || said).then_some(value)
}

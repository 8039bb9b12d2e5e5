//! Alertmanager's matchers: `severity="critical"`, `{team=~"a|b",instance!=x}`, `"any name"=value`.
//!
//! There are two grammars. The older one knows ASCII names and takes nearly anything for a value; the newer one knows names of any letters and wants odd
//! values in quotes. As in Alertmanager's default mode a text that the older one reads means what it means there, otherwise what the newer one makes of it;
//! where the two disagree [`Read::warning`] says so. Its strict modes are left out: a text that means the same in both is good in either.
//!
//! Not PromQL's selectors (`relabel::selector`): names, quoting and what needs quoting differ.

use std::cmp::Ordering;
use std::fmt;

use regex::Regex;

use crate::alert::quoted;
use crate::alert::value;
use crate::model::labels::Labels;
use crate::relabel::pattern;

/// What a value is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, the whole value.
    Matches,
    /// `!~`
    NotMatches,
}

impl Op {
    /// As written.
    pub fn sign(self) -> &'static str {
        match self {
            Op::Equal => "=",
            Op::NotEqual => "!=",
            Op::Matches => "=~",
            Op::NotMatches => "!~",
        }
    }
}

/// One condition on one label.
#[derive(Clone, Debug)]
pub struct Matcher {
    /// The label.
    pub name: String,
    /// How.
    pub op: Op,
    /// The value or the pattern, as written.
    pub value: String,
    pattern: Option<Regex>,
}

impl Matcher {
    /// A condition; the error says what is wrong with the pattern.
    pub fn new(name: impl Into<String>, op: Op, value: impl Into<String>) -> Result<Matcher, String> {
        let (name, value) = (name.into(), value.into());
        let pattern = match op {
            Op::Matches | Op::NotMatches => {
                // A dot takes no line feed here, unlike in relabelling.
                let compiled = pattern::whole(&format!("(?-s:{value})"));
                Some(compiled.map_err(|error| format!("{value:?} is no regular expression: {error}"))?)
            }
            Op::Equal | Op::NotEqual => None,
        };
        Ok(Matcher { name, op, value, pattern })
    }

    /// Whether a value fits.
    pub fn takes(&self, value: &str) -> bool {
        let holds = self.pattern.as_ref().map_or_else(|| self.value == value, |pattern| pattern.is_match(value));
        holds == matches!(self.op, Op::Equal | Op::Matches)
    }

    /// Whether an alert's label fits.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.takes(value(labels, &self.name))
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Matcher) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Matcher {}

impl PartialOrd for Matcher {
    fn partial_cmp(&self, other: &Matcher) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Matcher {
    fn cmp(&self, other: &Matcher) -> Ordering {
        (&self.name, &self.value, self.op).cmp(&(&other.name, &other.value, other.op))
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        match self.name.chars().any(reserved) || self.name.is_empty() {
            true => quoted::write(&self.name, &mut text),
            false => text.push_str(&self.name),
        }
        text.push_str(self.op.sign());
        quoted::write(&self.value, &mut text);
        out.write_str(&text)
    }
}

/// Conditions that must all hold, sorted; written as they stand in a group's key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matchers(Vec<Matcher>);

impl Matchers {
    /// In whatever order they come.
    pub fn new(mut matchers: Vec<Matcher>) -> Matchers {
        matchers.sort();
        Matchers(matchers)
    }

    /// Whether all hold; no condition holds for everything.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|matcher| matcher.matches(labels))
    }

    /// One by one, sorted.
    pub fn iter(&self) -> std::slice::Iter<'_, Matcher> {
        self.0.iter()
    }

    /// Whether there is no condition.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Matchers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("{")?;
        for (number, matcher) in self.0.iter().enumerate() {
            write!(out, "{}{matcher}", if number > 0 { "," } else { "" })?;
        }
        out.write_str("}")
    }
}

/// What a text of matchers means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// As they stand.
    pub matchers: Vec<Matcher>,
    /// The newer grammar refuses the text or means something else by it: what to write instead.
    pub warning: Option<String>,
}

/// Reads one or more matchers, with or without braces.
pub fn read(text: &str) -> Result<Read, String> {
    let (newer, older) = (newer(text), older(text));
    match (newer, older) {
        (Ok(matchers), Err(_)) => Ok(Read { matchers, warning: None }),
        (Ok(newer), Ok(older)) if newer == older => Ok(Read { matchers: newer, warning: None }),
        (Ok(_), Ok(older)) => Ok(Read { warning: Some(format!("two readings are possible; write {}", written(&older))), matchers: older }),
        (Err(why), Ok(older)) => {
            Ok(Read { warning: Some(format!("is of the older grammar only ({why}); write {}", written(&older))), matchers: older })
        }
        (Err(why), Err(_)) => Err(why),
    }
}

/// Reads exactly one, without braces: a filter of Alertmanager's API.
pub fn one(text: &str) -> Result<Matcher, String> {
    let newer = match text.starts_with('{') || text.ends_with('}') {
        true => Err("unexpected open or close brace".to_owned()),
        false => newer(text).and_then(|mut found| match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err("no matchers".to_owned()),
            many => Err(format!("expected 1 matcher, found {many}")),
        }),
    };
    // Where both refuse, the older one's words are what people know.
    older_one(text).or_else(|why| newer.map_err(|_| why))
}

fn written(matchers: &[Matcher]) -> String {
    matchers.iter().map(Matcher::to_string).collect::<Vec<_>>().join(",")
}

/// Letters that end an unquoted name or value in the newer grammar.
fn reserved(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, '{' | '}' | '!' | '=' | '~' | ',' | '\\' | '"' | '\'' | '`')
}

/// The newer grammar.
fn newer(text: &str) -> Result<Vec<Matcher>, String> {
    let mut rest = text.trim_start();
    let open = take(&mut rest, "{");
    let mut matchers = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() || rest.starts_with('}') {
            break;
        }
        let name = token(&mut rest, "a label's name")?;
        rest = rest.trim_start();
        let op = [("=~", Op::Matches), ("!~", Op::NotMatches), ("!=", Op::NotEqual), ("=", Op::Equal)];
        let Some((_, op)) = op.into_iter().find(|(sign, _)| take(&mut rest, sign)) else {
            return Err(format!("{}: expected =, !=, =~ or !~ behind {name:?}", shown(rest)));
        };
        rest = rest.trim_start();
        let value = token(&mut rest, "a label's value")?;
        matchers.push(Matcher::new(name, op, value)?);
        rest = rest.trim_start();
        if !take(&mut rest, ",") {
            break;
        }
    }
    rest = rest.trim_start();
    let closed = take(&mut rest, "}");
    if open != closed {
        return Err(format!("{text}: one brace without the other"));
    }
    if !rest.trim().is_empty() {
        return Err(format!("{}: expected a comma or the end", shown(rest)));
    }
    Ok(matchers)
}

fn take(rest: &mut &str, sign: &str) -> bool {
    match rest.strip_prefix(sign) {
        Some(behind) => {
            *rest = behind;
            true
        }
        None => false,
    }
}

fn token(rest: &mut &str, what: &str) -> Result<String, String> {
    if let Some(behind) = rest.strip_prefix('"') {
        let (text, behind) = quoted::read(behind)?;
        *rest = behind;
        return Ok(text);
    }
    let end = rest.find(reserved).unwrap_or(rest.len());
    let (text, behind) = rest.split_at(end);
    if text.is_empty() {
        return Err(format!("{}: expected {what}", shown(rest)));
    }
    *rest = behind;
    Ok(text.to_owned())
}

fn shown(rest: &str) -> String {
    if rest.is_empty() { "at the end".to_owned() } else { format!("at {:?}", rest.chars().take(20).collect::<String>()) }
}

/// The older grammar.
fn older(text: &str) -> Result<Vec<Matcher>, String> {
    let inner = text.trim();
    let inner = inner.strip_prefix('{').unwrap_or(inner);
    let inner = inner.strip_suffix('}').unwrap_or(inner);
    let (mut parts, mut part, mut within, mut escaped) = (Vec::new(), String::new(), false, false);
    for letter in inner.chars() {
        match letter {
            ',' if !within => parts.push(std::mem::take(&mut part)),
            letter => {
                within ^= letter == '"' && !escaped;
                part.push(letter);
            }
        }
        escaped = letter == '\\' && !escaped;
    }
    // A comma may end the list.
    if !part.trim().is_empty() || parts.is_empty() && !inner.is_empty() {
        parts.push(part);
    }
    parts.iter().map(|part| older_one(part)).collect()
}

fn older_one(text: &str) -> Result<Matcher, String> {
    let malformed = || format!("bad matcher format: {text}");
    let body = text.trim_start();
    let end = body.find(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '_' | ':'))).ok_or_else(malformed)?;
    let (name, rest) = body.split_at(end);
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(malformed());
    }
    let mut rest = rest.trim_start();
    let op = [("=~", Op::Matches), ("!=", Op::NotEqual), ("!~", Op::NotMatches), ("=", Op::Equal)];
    let (_, op) = op.into_iter().find(|(sign, _)| take(&mut rest, sign)).ok_or_else(malformed)?;
    let raw = rest.trim();
    let (raw, quotes) = match raw.strip_prefix('"') {
        Some(behind) => (behind, true),
        None => (raw, false),
    };
    let (mut value, mut letters) = (String::new(), raw.chars().peekable());
    let mut closed = false;
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some('n') => value.push('\n'),
                Some(escaped @ ('"' | '\\')) => value.push(escaped),
                Some(other) => value.extend(['\\', other]),
                None => value.push('\\'),
            },
            '"' if quotes && letters.peek().is_none() => closed = true,
            '"' => return Err(format!("matcher value contains unescaped double quote: {text}")),
            letter => value.push(letter),
        }
    }
    if quotes && !closed {
        return Err(format!("matcher value contains unescaped double quote: {text}"));
    }
    Matcher::new(name, op, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match read(text) {
            Ok(read) => format!("{}{}", if read.warning.is_some() { "!" } else { "" }, written(&read.matchers)),
            Err(_) => "wrong".into(),
        }
    }

    #[test]
    fn both_grammars() {
        for (text, expected) in [
            ("", ""),
            ("{}", ""),
            ("foo=bar", r#"foo="bar""#),
            ("{foo=bar}", r#"foo="bar""#),
            ("{foo=bar,}", r#"foo="bar""#),
            (r#" foo = "bar" , a!~"b|c" "#, r#"foo="bar",a!~"b|c""#),
            (r#"foo="a,b",c=d"#, r#"foo="a,b",c="d""#),
            (r#"foo="\"q\"\n""#, r#"foo="\"q\"\n""#),
            // The newer grammar alone.
            (r#""a b"=c"#, r#""a b"="c""#),
            ("fóó=bar", r#"fóó="bar""#),
            (r#"foo="\u00e9""#, r#"!foo="\\u00e9""#),
            // The older one alone.
            ("foo=bar baz", r#"!foo="bar baz""#),
            ("foo=", r#"!foo="""#),
            ("{foo=bar", r#"!foo="bar""#),
            // Neither.
            ("foo", "wrong"),
            ("foo=bar,,b=c", "wrong"),
            (r#"foo="bar"#, "wrong"),
            (r#"foo="b"ar""#, "wrong"),
            ("foo=~(", "wrong"),
            ("=bar", "wrong"),
            (",", "wrong"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn a_filter_is_one_matcher() {
        for (text, expected) in [
            ("foo=bar", Ok(r#"foo="bar""#)),
            (r#"foo!="bar""#, Ok(r#"foo!="bar""#)),
            (r#""a b"=~"c|d""#, Ok(r#""a b"=~"c|d""#)),
            ("foo=", Ok(r#"foo="""#)),
            ("foo=bar,b=c", Ok(r#"foo="bar,b=c""#)),
            ("foo", Err("bad matcher format: foo")),
            ("", Err("bad matcher format: ")),
            ("{foo=bar}", Err("bad matcher format: {foo=bar}")),
            (r#"foo="a",b="c""#, Err(r#"matcher value contains unescaped double quote: foo="a",b="c""#)),
        ] {
            assert_eq!(one(text).map(|matcher| matcher.to_string()), expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_missing_label_is_empty_and_patterns_match_the_whole_value() {
        let labels = Labels::from([("a", "xyz")]);
        for (text, expected) in [
            ("a=xyz", true),
            ("a=~y", false),
            ("a=~x.*", true),
            ("a!~y", true),
            ("b=\"\"", true),
            ("b!=\"\"", false),
            ("b=~\".*\"", true),
            ("b=~\".+\"", false),
            ("a=~\"xyz|q\"", true),
        ] {
            assert_eq!(Matchers::new(read(text).unwrap().matchers).matches(&labels), expected, "{text}");
        }
        assert!(!Matcher::new("a", Op::Matches, "x.y").unwrap().takes("x\ny"));
    }

    #[test]
    fn sorted_as_in_the_key_of_a_group() {
        let read = read(r#"b=1,a=~"2","c d"="x""#).unwrap();
        assert_eq!(Matchers::new(read.matchers).to_string(), r#"{a=~"2",b="1","c d"="x"}"#);
    }
}

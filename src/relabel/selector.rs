//! PromQL's series selectors: `up`, `up{job="node"}`, `{job=~"a|b", instance!="x"}`, `{"a metric.with dots", "a label"="x"}`.
//!
//! A label that a series lacks has the empty value, as everywhere in PromQL. One rule of PromQL is left out: a selector whose matchers all take the
//! empty value is refused there, since it would read everything; here `{job!="noise"}` is a sensible filter.

use std::fmt;

use regex::Regex;

use crate::relabel::pattern;

const NAME: &str = "__name__";

/// One condition on one label.
#[derive(Clone, Debug)]
pub struct Matcher {
    label: String,
    test: Test,
    negated: bool,
}

#[derive(Clone, Debug)]
enum Test {
    Equal(String),
    Matches(Regex),
}

/// Some conditions, all of which must hold.
#[derive(Clone, Debug)]
pub struct Selector {
    text: String,
    matchers: Vec<Matcher>,
}

/// Why a selector is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at letter {at}: {what}")]
pub struct Malformed {
    /// The letter, from 1.
    pub at: usize,
    /// What is wrong there.
    pub what: String,
}

impl PartialEq for Selector {
    fn eq(&self, other: &Selector) -> bool {
        self.text == other.text
    }
}

impl Eq for Selector {}

impl fmt::Display for Selector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl Matcher {
    /// Whether the value fits.
    #[inline]
    pub fn takes(&self, value: &str) -> bool {
        let fits = match &self.test {
            Test::Equal(wanted) => wanted == value,
            Test::Matches(pattern) => pattern.is_match(value),
        };
        fits != self.negated
    }
}

impl Selector {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Selector, Malformed> {
        let (selector, rest) = Selector::begin(text)?;
        if rest.is_empty() {
            return Ok(selector);
        }
        let at = text.len() - rest.len();
        Err(Reader { text, at }.wrong("the selector ends before this"))
    }

    /// Reads one at the beginning of a text; the rest begins with what is no space.
    pub fn begin(text: &str) -> Result<(Selector, &str), Malformed> {
        let mut reader = Reader { text, at: 0 };
        let matchers = reader.selector()?;
        let selector = Selector { text: text[..reader.at].trim().to_owned(), matchers };
        reader.space();
        Ok((selector, reader.rest()))
    }

    /// Whether it takes the series whose labels `value` finds.
    #[inline]
    pub fn takes<'v>(&self, value: impl Fn(&str) -> Option<&'v str>) -> bool {
        self.matchers.iter().all(|matcher| matcher.takes(value(&matcher.label).unwrap_or_default()))
    }

    /// The one series that it describes, where every condition is `=`: as people write a series. An error: the condition that is none.
    pub fn labels(&self) -> Result<Vec<(&str, &str)>, &str> {
        let pair = |matcher: &'_ Matcher| matches!(matcher.test, Test::Equal(_)) && !matcher.negated;
        if let Some(other) = self.matchers.iter().find(|matcher| !pair(matcher)) {
            return Err(&other.label);
        }
        let mut labels: Vec<(&str, &str)> = Vec::new();
        for matcher in &self.matchers {
            if let Test::Equal(value) = &matcher.test
                && !value.is_empty()
            {
                labels.push((&matcher.label, value));
            }
        }
        labels.sort_unstable();
        match labels.windows(2).find(|two| two[0].0 == two[1].0) {
            Some(two) => Err(two[0].0),
            None => Ok(labels),
        }
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn selector(&mut self) -> Result<Vec<Matcher>, Malformed> {
        self.space();
        let mut matchers = Vec::new();
        if let Some(name) = self.word(true) {
            matchers.push(Matcher { label: NAME.to_owned(), test: Test::Equal(name.to_owned()), negated: false });
            self.space();
        }
        if self.take("{") {
            self.matchers(&mut matchers)?;
        } else if matchers.is_empty() {
            return Err(self.wrong("a metric's name or `{` should stand here"));
        }
        Ok(matchers)
    }

    /// What follows `{`, and the bracket that ends it.
    fn matchers(&mut self, matchers: &mut Vec<Matcher>) -> Result<(), Malformed> {
        loop {
            self.space();
            if self.take("}") {
                return Ok(());
            }
            self.matcher(matchers)?;
            self.space();
            if self.take("}") {
                return Ok(());
            }
            if !self.take(",") {
                return Err(self.wrong("`,` or `}` should stand here"));
            }
        }
    }

    fn matcher(&mut self, matchers: &mut Vec<Matcher>) -> Result<(), Malformed> {
        let (label, quoted) = match self.word(false) {
            Some(word) => (word.to_owned(), false),
            None => (self.string()?.ok_or_else(|| self.wrong("a label's name should stand here"))?, true),
        };
        self.space();
        let Some((regex, negated)) = self.operator() else {
            // A quoted name alone is the metric's.
            if quoted && self.rest().starts_with([',', '}']) {
                if matchers.iter().any(|matcher| matcher.label == NAME) {
                    return Err(self.wrong("the metric's name stands here a second time"));
                }
                matchers.push(Matcher { label: NAME.to_owned(), test: Test::Equal(label), negated: false });
                return Ok(());
            }
            return Err(self.wrong("`=`, `!=`, `=~` or `!~` should stand here"));
        };
        self.space();
        let begins = self.at;
        let value = self.string()?.ok_or_else(|| self.wrong("a value in quotes should stand here"))?;
        let test = if regex {
            let wrong = |what| Malformed { at: self.letter(begins), what: format!("not a regular expression: {what}") };
            Test::Matches(pattern::whole(&value).map_err(wrong)?)
        } else {
            Test::Equal(value)
        };
        matchers.push(Matcher { label, test, negated });
        Ok(())
    }

    /// Whether it is one of patterns, and whether it is negated.
    fn operator(&mut self) -> Option<(bool, bool)> {
        let operators = [("=~", (true, false)), ("!~", (true, true)), ("!=", (false, true)), ("=", (false, false))];
        operators.into_iter().find_map(|(text, means)| self.take(text).then_some(means))
    }

    /// A name without quotes; a metric's may hold colons.
    fn word(&mut self, metric: bool) -> Option<&'t str> {
        let rest = self.rest();
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || metric && byte == b':';
        let length = rest.bytes().position(|byte| !inside(byte)).unwrap_or(rest.len());
        let word = &rest[..length];
        if word.is_empty() || word.as_bytes()[0].is_ascii_digit() {
            return None;
        }
        self.at += length;
        Some(word)
    }

    /// A text in quotes, with Go's escapes; in backticks, as it stands.
    fn string(&mut self) -> Result<Option<String>, Malformed> {
        let Some(quote) = self.rest().chars().next().filter(|letter| "\"'`".contains(*letter)) else { return Ok(None) };
        self.at += 1;
        let mut out = String::new();
        loop {
            let Some(letter) = self.next() else { return Err(self.wrong("the quote is not closed")) };
            match letter {
                letter if letter == quote => return Ok(Some(out)),
                '\\' if quote != '`' => out.push(self.escaped()?),
                letter => out.push(letter),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, Malformed> {
        let letter = self.next().ok_or_else(|| self.wrong("the quote is not closed"))?;
        let digits = match letter {
            'a' => return Ok('\x07'),
            'b' => return Ok('\x08'),
            'f' => return Ok('\x0c'),
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            't' => return Ok('\t'),
            'v' => return Ok('\x0b'),
            '\\' | '"' | '\'' => return Ok(letter),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return Err(self.wrong("no such escape; write `\\\\` for a backslash, or the value in backticks")),
        };
        let number = self.rest().get(..digits).and_then(|hex| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32);
        let letter = number.ok_or_else(|| self.wrong("an escape of a letter by its number is not complete"))?;
        self.at += digits;
        Ok(letter)
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.rest().chars().next()?;
        self.at += letter.len_utf8();
        Some(letter)
    }

    fn take(&mut self, token: &str) -> bool {
        let there = self.rest().starts_with(token);
        if there {
            self.at += token.len();
        }
        there
    }

    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn letter(&self, at: usize) -> usize {
        self.text[..at].chars().count() + 1
    }

    fn wrong(&self, what: &str) -> Malformed {
        Malformed { at: self.letter(self.at), what: what.to_owned() }
    }
}

//! Expressions of Go's templates: fields, pipelines, functions; and what `.` and the names with `$` stand for, since a field means nothing without what it is of.

use crate::alert::translate::Named;

/// What a value is: which fields it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// All that a template is given.
    Root,
    /// A list of alerts.
    Alerts,
    /// One.
    Alert,
    /// Labels or annotations.
    Map,
    /// A list of names with values.
    Pairs,
    /// One.
    Pair,
    /// A list of texts.
    Texts,
    /// A text.
    Text,
    /// A time.
    Time,
    /// A number.
    Number,
    /// Yes or no.
    Switch,
}

/// An expression of ours.
#[derive(Clone, Debug)]
pub struct Value {
    /// As it is written.
    pub text: String,
    /// What it is.
    pub what: What,
}

impl Value {
    fn new(text: impl Into<String>, what: What) -> Value {
        Value { text: text.into(), what }
    }

    /// As part of a larger expression.
    pub fn operand(&self) -> String {
        if self.is_one() { self.text.clone() } else { format!("({})", self.text) }
    }

    /// As what a dot or a bracket follows.
    fn whole(&self) -> String {
        if self.text.contains(['|', ' ']) { format!("({})", self.text) } else { self.text.clone() }
    }

    /// Whether no operator stands in it, outside of parentheses and quotes.
    fn is_one(&self) -> bool {
        let (mut depth, mut quoted, mut escaped) = (0, false, false);
        for letter in self.text.chars() {
            match letter {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                '(' | '[' if !quoted => depth += 1,
                ')' | ']' if !quoted => depth -= 1,
                ' ' if !quoted && depth == 0 => return false,
                _ => {}
            }
        }
        true
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// `.A.B`; whether it follows without a space.
    Fields(Vec<String>, bool),
    Name(String),
    /// As ours writes it.
    Text(String),
    Number(String),
    Word(String),
    Open,
    Close,
    Pipe,
}

/// What `.` and names stand for.
pub struct Words<'n> {
    dots: Vec<Value>,
    names: Vec<(String, Value)>,
    /// Templates that can be called.
    named: &'n [Named],
    /// Names that whoever calls has, which must not be taken again.
    taken: Vec<String>,
}

impl<'n> Words<'n> {
    /// At the beginning of a text.
    pub fn new(named: &'n [Named]) -> Words<'n> {
        Words { dots: vec![Value::new("", What::Root)], names: Vec::new(), named, taken: Vec::new() }
    }

    /// At the beginning of a template that is called with this.
    pub fn called(&self, dot: Value) -> Words<'n> {
        let taken = self.names.iter().map(|(name, _)| name.clone()).chain(self.taken.iter().cloned()).collect();
        Words { dots: vec![dot], names: Vec::new(), named: self.named, taken }
    }

    /// A template by its name; the last one of a name counts.
    pub fn template(&self, name: &str) -> Option<&'n Named> {
        self.named.iter().rev().find(|named| named.name == name)
    }

    /// `.` is this from here on.
    pub fn enter(&mut self, dot: Value) {
        self.dots.push(dot);
    }

    /// `.` is what it was before.
    pub fn leave(&mut self) {
        if self.dots.len() > 1 {
            self.dots.pop();
        }
    }

    /// How many names there are.
    pub fn names(&self) -> usize {
        self.names.len()
    }

    /// Forgets those beyond so many.
    pub fn forget(&mut self, names: usize) {
        self.names.truncate(names);
    }

    /// A name for a value.
    pub fn name(&mut self, name: &str, value: Value) {
        self.names.push((name.to_owned(), value));
    }

    /// A name that is not taken.
    pub fn free(&self, name: &str) -> String {
        let taken = |name: &str| self.names.iter().any(|(known, _)| known == name) || self.taken.iter().any(|known| known == name);
        (1..100)
            .map(|number| if number == 1 { name.to_owned() } else { format!("{name}{number}") })
            .find(|name| !taken(name))
            .unwrap_or_default()
    }

    /// A whole pipeline.
    pub fn pipeline(&self, text: &str) -> Option<Value> {
        let tokens = tokens(text)?;
        let mut at = 0;
        let value = self.commands(&tokens, &mut at, 0)?;
        (at == tokens.len()).then_some(value)
    }

    fn commands(&self, tokens: &[Token], at: &mut usize, depth: usize) -> Option<Value> {
        // Nobody nests so deep; whoever does shall not exhaust the stack.
        if depth > 16 {
            return None;
        }
        let mut value = self.command(tokens, at, None, depth)?;
        while tokens.get(*at) == Some(&Token::Pipe) {
            *at += 1;
            value = self.command(tokens, at, Some(value), depth)?;
        }
        Some(value)
    }

    fn command(&self, tokens: &[Token], at: &mut usize, piped: Option<Value>, depth: usize) -> Option<Value> {
        if let Some(Token::Word(word)) = tokens.get(*at)
            && !["true", "false", "nil"].contains(&word.as_str())
        {
            *at += 1;
            let mut given = self.operands(tokens, at, depth)?;
            given.extend(piped);
            return function(word, &given);
        }
        let first = *at;
        let value = self.operand(tokens, at, depth);
        let last = match tokens.get(first..*at).and_then(<[Token]>::last) {
            Some(Token::Fields(fields, _)) => fields.last().cloned(),
            _ => None,
        };
        let given = self.operands(tokens, at, depth)?;
        match (given.as_slice(), piped) {
            ([], None) => value,
            // A method with what it is given: its value without it is the one it is of.
            ([one], None) => self.method(tokens, first, (last?.as_str(), one), depth),
            _ => None,
        }
    }

    fn method(&self, tokens: &[Token], first: usize, (name, given): (&str, &Value), depth: usize) -> Option<Value> {
        let mut own: Vec<Token> = tokens.get(first..)?.to_vec();
        let at =
            own.iter().position(|token| matches!(token, Token::Fields(fields, _) if fields.last().is_some_and(|last| last == name)))?;
        if let Token::Fields(fields, _) = &mut own[at] {
            fields.pop();
        }
        own.truncate(at + 1);
        let of = self.operand(&own, &mut 0, depth)?;
        match (name, of.what) {
            ("Remove", What::Map) => Some(Value::new(format!("{}|remove({})", of.operand(), given.text), What::Map)),
            ("Format", What::Time) => Some(Value::new(format!("{}|date({})", of.operand(), given.text), What::Text)),
            _ => None,
        }
    }

    fn operands(&self, tokens: &[Token], at: &mut usize, depth: usize) -> Option<Vec<Value>> {
        let mut found = Vec::new();
        while tokens.get(*at).is_some_and(|token| !matches!(token, Token::Pipe | Token::Close)) {
            found.push(self.operand(tokens, at, depth)?);
        }
        Some(found)
    }

    fn operand(&self, tokens: &[Token], at: &mut usize, depth: usize) -> Option<Value> {
        let token = tokens.get(*at)?;
        *at += 1;
        let value = match token {
            Token::Fields(fields, _) => return along(self.dots.last()?.clone(), fields),
            Token::Name(name) if name.is_empty() => self.dots.first()?.clone(),
            Token::Name(name) => self.names.iter().rev().find(|(known, _)| known == name)?.1.clone(),
            Token::Text(text) => Value::new(text.clone(), What::Text),
            Token::Number(number) => Value::new(number.clone(), What::Number),
            Token::Word(word) if word == "true" || word == "false" => Value::new(word.clone(), What::Switch),
            // A function without anything: `now`.
            Token::Word(word) => function(word, &[])?,
            Token::Open => {
                let value = self.commands(tokens, at, depth + 1)?;
                if tokens.get(*at) != Some(&Token::Close) {
                    return None;
                }
                *at += 1;
                value
            }
            Token::Close | Token::Pipe => return None,
        };
        match tokens.get(*at) {
            Some(Token::Fields(fields, true)) => {
                *at += 1;
                along(value, fields)
            }
            _ => Some(value),
        }
    }
}

fn along(mut value: Value, fields: &[String]) -> Option<Value> {
    for field in fields {
        value = field_of(&value, field)?;
    }
    Some(value)
}

fn field_of(of: &Value, field: &str) -> Option<Value> {
    let below = |name: &str, what| Some(Value::new(format!("{}.{name}", of.whole()), what));
    let filtered = |filter: &str, what| Some(Value::new(format!("{}|{filter}", of.operand()), what));
    match (of.what, field) {
        (What::Root, "Receiver") => Some(Value::new("receiver", What::Text)),
        (What::Root, "Status") => Some(Value::new("status", What::Text)),
        (What::Root, "Alerts") => Some(Value::new("alerts", What::Alerts)),
        (What::Root, "GroupLabels") => Some(Value::new("groupLabels", What::Map)),
        (What::Root, "CommonLabels") => Some(Value::new("commonLabels", What::Map)),
        (What::Root, "CommonAnnotations") => Some(Value::new("commonAnnotations", What::Map)),
        (What::Root, "ExternalURL") => Some(Value::new("externalURL", What::Text)),
        (What::Root, "NotificationReason") => Some(Value::new("notificationReason", What::Text)),
        (What::Alerts, "Firing") => below("firing", What::Alerts),
        (What::Alerts, "Resolved") => below("resolved", What::Alerts),
        (What::Alert, "Status") => below("status", What::Text),
        (What::Alert, "Labels") => below("labels", What::Map),
        (What::Alert, "Annotations") => below("annotations", What::Map),
        (What::Alert, "StartsAt") => below("startsAt", What::Time),
        (What::Alert, "EndsAt") => below("endsAt", What::Time),
        (What::Alert, "GeneratorURL") => below("generatorURL", What::Text),
        (What::Alert, "Fingerprint") => below("fingerprint", What::Text),
        (What::Map, "SortedPairs") => filtered("sortedPairs", What::Pairs),
        (What::Map, "Names") => filtered("names", What::Texts),
        (What::Map, "Values") => filtered("values", What::Texts),
        (What::Map, "Remove") => None,
        (What::Map, name) if plain(name) => below(name, What::Text),
        (What::Map, name) => Some(Value::new(format!("{}[{}]", of.whole(), quoted(name)), What::Text)),
        // Of sorted pairs: those of the labels themselves are as sorted.
        (What::Pairs, "Names") => Some(Value::new(format!("{}|names", of.text.strip_suffix("|sortedPairs")?), What::Texts)),
        (What::Pairs, "Values") => Some(Value::new(format!("{}|values", of.text.strip_suffix("|sortedPairs")?), What::Texts)),
        (What::Pair, "Name") => below("name", What::Text),
        (What::Pair, "Value") => below("value", What::Text),
        _ => None,
    }
}

/// Whether a name can stand behind a dot.
fn plain(name: &str) -> bool {
    !["if", "else", "for", "in", "is", "not", "and", "or", "true", "false", "none"].contains(&name)
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

fn function(name: &str, given: &[Value]) -> Option<Value> {
    // One that becomes a filter of its last value, with the others in parentheses.
    let filter = |name: &str, number: usize, what| {
        let (of, others) = given.split_last().filter(|_| given.len() == number)?;
        let others: Vec<&str> = others.iter().map(|value| value.text.as_str()).collect();
        let behind = if others.is_empty() { String::new() } else { format!("({})", others.join(", ")) };
        Some(Value::new(format!("{}|{name}{behind}", of.operand()), what))
    };
    let between = |sign: &str| match given {
        [left, right] => Some(Value::new(format!("{} {sign} {}", left.operand(), right.operand()), What::Switch)),
        _ => None,
    };
    let joined = |word: &str| {
        let all: Vec<String> = given.iter().map(Value::operand).collect();
        (all.len() > 1).then(|| Value::new(all.join(&format!(" {word} ")), What::Switch))
    };
    match name {
        "toUpper" => filter("upper", 1, What::Text),
        "toLower" => filter("lower", 1, What::Text),
        "title" => filter("title", 1, What::Text),
        "trimSpace" => filter("trim", 1, What::Text),
        "len" => filter("length", 1, What::Number),
        "join" => filter("join", 2, What::Text),
        "match" => filter("match", 2, What::Switch),
        "reReplaceAll" => filter("reReplaceAll", 3, What::Text),
        "safeHtml" | "safeUrl" => filter("safe", 1, What::Text),
        "html" => filter("e", 1, What::Text),
        "urlquery" => filter("urlEscape", 1, What::Text),
        "urlUnescape" => filter("urlUnescape", 1, What::Text),
        "date" => filter("date", 2, What::Text),
        "tz" => filter("tz", 2, What::Time),
        "since" => filter("since", 1, What::Number),
        "humanizeDuration" => filter("humanizeDuration", 1, What::Text),
        "toJson" => filter("tojson", 1, What::Text),
        "base64encode" | "base64decode" => filter(name, 1, What::Text),
        "now" if given.is_empty() => Some(Value::new("now()", What::Time)),
        "stringSlice" => {
            let all: Vec<&str> = given.iter().map(|value| value.text.as_str()).collect();
            Some(Value::new(format!("[{}]", all.join(", ")), What::Texts))
        }
        "eq" if given.len() > 2 => {
            let (first, others) = given.split_first()?;
            let all: Vec<String> = others.iter().map(|other| format!("{} == {}", first.operand(), other.operand())).collect();
            Some(Value::new(format!("({})", all.join(" or ")), What::Switch))
        }
        "eq" => between("=="),
        "ne" => between("!="),
        "lt" => between("<"),
        "le" => between("<="),
        "gt" => between(">"),
        "ge" => between(">="),
        "and" => joined("and"),
        "or" => joined("or"),
        "not" => match given {
            [one] => Some(Value::new(format!("not {}", one.operand()), What::Switch)),
            _ => None,
        },
        "index" => match given {
            [of, at] => {
                let what = match of.what {
                    What::Alerts => What::Alert,
                    What::Map | What::Texts => What::Text,
                    _ => return None,
                };
                Some(Value::new(format!("{}[{}]", of.whole(), at.text), what))
            }
            _ => None,
        },
        "printf" => {
            let (pattern, others) = given.split_first()?;
            let verbs = pattern.text.matches('%').count();
            let known = ["%s", "%v", "%d"].iter().map(|verb| pattern.text.matches(verb).count()).sum::<usize>();
            if verbs != known || verbs != others.len() || others.is_empty() || !pattern.text.starts_with('"') {
                return None;
            }
            let others: Vec<&str> = others.iter().map(|value| value.text.as_str()).collect();
            Some(Value::new(format!("{}|format({})", pattern.text.replace("%v", "%s"), others.join(", ")), What::Text))
        }
        _ => None,
    }
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut spaced = true;
    while let Some(letter) = rest.chars().next() {
        let word = |from: &str| from.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(from.len());
        let taken = match letter {
            _ if letter.is_whitespace() => letter.len_utf8(),
            '(' | ')' | '|' => {
                tokens.push(match letter {
                    '(' => Token::Open,
                    ')' => Token::Close,
                    _ => Token::Pipe,
                });
                1
            }
            '"' => {
                let end = string_end(rest)?;
                // Go's escapes and ours agree on all that people write.
                tokens.push(Token::Text(rest[..end].to_owned()));
                end
            }
            '`' => {
                let end = rest[1..].find('`')? + 2;
                tokens.push(Token::Text(quoted(&rest[1..end - 1])));
                end
            }
            '$' => {
                let end = 1 + word(&rest[1..]);
                tokens.push(Token::Name(rest[1..end].to_owned()));
                end
            }
            '.' => {
                let mut fields = Vec::new();
                let mut end = 0;
                while rest[end..].starts_with('.') {
                    let length = word(&rest[end + 1..]);
                    if length == 0 {
                        break;
                    }
                    fields.push(rest[end + 1..end + 1 + length].to_owned());
                    end += 1 + length;
                }
                tokens.push(Token::Fields(fields, !spaced));
                end.max(1)
            }
            _ if letter.is_ascii_digit() || letter == '-' => {
                let end = 1 + rest[1..].find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len() - 1);
                rest[..end].parse::<f64>().ok()?;
                tokens.push(Token::Number(rest[..end].to_owned()));
                end
            }
            _ if letter.is_alphabetic() || letter == '_' => {
                let end = word(rest);
                tokens.push(Token::Word(rest[..end].to_owned()));
                end
            }
            _ => return None,
        };
        spaced = letter.is_whitespace() || matches!(letter, '(' | '|');
        rest = &rest[taken..];
    }
    (!tokens.is_empty()).then_some(tokens)
}

/// Behind the closing quote.
fn string_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

//! Texts in Go's template language, as receivers of Alertmanager have them, written anew in MiniJinja: the forms that people use, and nothing by guessing.
//!
//! What is not known here (templates of one's own, methods of Go's types) is not translated at all, since half a text would say something else. Whether what
//! comes out is a template of MiniJinja is for whoever runs it (`notify`) to see.

mod expression;

use crate::alert::translate::expression::Value;
use crate::alert::translate::expression::What;
use crate::alert::translate::expression::Words;

/// Alertmanager's own templates that are one expression of ours.
const OWN: [(&str, &str); 15] = [
    ("__subject", "subject"),
    ("__alertmanager", "\"sluice\""),
    ("__alertmanagerURL", "externalURL"),
    ("slack.default.title", "subject"),
    ("slack.default.username", "\"sluice\""),
    ("slack.default.fallback", "subject"),
    ("slack.default.titlelink", "externalURL"),
    ("pagerduty.default.description", "subject"),
    ("pagerduty.default.client", "\"sluice\""),
    ("pagerduty.default.clientURL", "externalURL"),
    ("email.default.subject", "subject"),
    ("msteamsv2.default.title", "subject"),
    ("wechat.default.to_user", "\"\""),
    ("wechat.default.to_party", "\"\""),
    ("slack.default.channel", "\"\""),
];
/// Words that begin an action of Go's, and no expression of ours.
const KEYWORDS: [&str; 42] = [
    "range",
    "if",
    "else",
    "end",
    "with",
    "template",
    "define",
    "block",
    "printf",
    "print",
    "println",
    "len",
    "index",
    "eq",
    "ne",
    "gt",
    "lt",
    "ge",
    "le",
    "not",
    "and",
    "or",
    "join",
    "match",
    "toUpper",
    "toLower",
    "title",
    "trimSpace",
    "reReplaceAll",
    "safeHtml",
    "safeUrl",
    "html",
    "urlquery",
    "urlUnescape",
    "date",
    "tz",
    "since",
    "humanizeDuration",
    "toJson",
    "base64encode",
    "base64decode",
    "stringSlice",
];

/// A piece of a text.
enum Piece<'t> {
    Text(&'t str),
    /// What stands between the braces, and whether the white space before and behind it is dropped.
    Action(&'t str, bool, bool),
}

/// Whether a text, which is no template of MiniJinja, is one of Go's.
pub fn is_go(text: &str) -> bool {
    let Some(pieces) = pieces(text) else { return false };
    pieces.iter().any(|piece| match piece {
        Piece::Text(_) => false,
        Piece::Action(body, ..) => {
            let word = body.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default();
            body.starts_with(['.', '$', '(', '`', '"']) || body.starts_with("/*") || KEYWORDS.contains(&word)
        }
    })
}

/// Whether a text is one of Alertmanager's defaults, by name, and nothing else.
pub fn names_default(text: &str) -> bool {
    let Some(pieces) = pieces(text.trim()) else { return false };
    match pieces.as_slice() {
        [Piece::Action(body, ..)] => {
            let name = body.strip_prefix("template").map(str::trim).and_then(|rest| rest.strip_suffix('.')).map(str::trim);
            name.is_some_and(|name| name.trim_matches('"').contains(".default."))
        }
        _ => false,
    }
}

/// A template with a name, as files of templates have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Where its `define` stands, from 1.
    pub line: usize,
    /// What stands between `define` and its `end`.
    pub body: String,
}

/// The templates that a file defines; `None`: it is not of Go's language.
pub fn named(text: &str) -> Option<Vec<Named>> {
    let mut found = Vec::new();
    // Name, line, where its body begins, and how many blocks are open within it.
    let mut open: Option<(String, usize, usize, usize)> = None;
    let (mut rest, mut at) = (text, 0);
    while let Some(start) = rest.find("{{") {
        let end = end_of_action(&rest[start + 2..])?;
        let body = rest[start + 2..start + 2 + end].trim_matches(|letter: char| letter.is_whitespace() || letter == '-');
        let behind = start + end + 4;
        let word = body.split(char::is_whitespace).next().unwrap_or_default();
        match (&mut open, word) {
            (None, "define") => {
                let name = body.split('"').nth(1)?.to_owned();
                open = Some((name, text[..at + start].matches('\n').count() + 1, at + behind, 0));
            }
            (Some((.., depth)), "if" | "range" | "with" | "block" | "define") => *depth += 1,
            (Some((name, line, from, 0)), "end") => {
                found.push(Named { name: std::mem::take(name), line: *line, body: text[*from..at + start].to_owned() });
                open = None;
            }
            (Some((.., depth)), "end") => *depth -= 1,
            _ => {}
        }
        (rest, at) = (&rest[behind..], at + behind);
    }
    open.is_none().then_some(found)
}

/// In MiniJinja; `None`: something in it has no counterpart that is known here.
pub fn translate(text: &str) -> Option<String> {
    translate_with(text, &[])
}

/// As [`translate`], with templates that the text may call: each stands, translated, where it is called.
pub fn translate_with(text: &str, named: &[Named]) -> Option<String> {
    within(text, Words::new(named), 0)
}

fn within(text: &str, mut words: Words<'_>, depth: usize) -> Option<String> {
    // A template that calls itself has no end.
    if depth > 8 || text.len() > 256 << 10 {
        return None;
    }
    let mut out = String::new();
    let mut open: Vec<Open> = Vec::new();
    for piece in pieces(text)? {
        match piece {
            Piece::Text(text) if text.contains("{%") || text.contains("{#") => return None,
            Piece::Text(text) => out.push_str(text),
            Piece::Action(body, left, right) => {
                let (left, right) = (if left { "-" } else { "" }, if right { "-" } else { "" });
                match action(body, &mut words, &mut open)? {
                    Said::Nothing => {}
                    Said::Call(body, dot) => out.push_str(&within(&body, words.called(dot), depth + 1)?),
                    Said::Value(value) => out.push_str(&format!("{{{{{left} {value} {right}}}}}")),
                    Said::Steps(steps) => {
                        let last = steps.len().saturating_sub(1);
                        for (at, step) in steps.iter().enumerate() {
                            let (left, right) = (if at == 0 { left } else { "" }, if at == last { right } else { "" });
                            out.push_str(&format!("{{%{left} {step} {right}%}}"));
                        }
                    }
                }
            }
        }
    }
    open.is_empty().then_some(out)
}

/// A block that has not ended yet.
struct Open {
    end: &'static str,
    /// Names that it has made.
    names: usize,
    /// Whether it gave `.` another meaning.
    dot: bool,
}

enum Said {
    Nothing,
    /// Another template, and what its `.` is.
    Call(String, Value),
    Value(String),
    Steps(Vec<String>),
}

fn action(body: &str, words: &mut Words<'_>, open: &mut Vec<Open>) -> Option<Said> {
    if body.starts_with("/*") {
        return Some(Said::Nothing);
    }
    let (word, rest) = body.split_once(char::is_whitespace).unwrap_or((body, ""));
    let rest = rest.trim();
    let steps = |steps: Vec<String>| Some(Said::Steps(steps));
    match word {
        "if" => {
            open.push(Open { end: "endif", names: words.names(), dot: false });
            steps(vec![format!("if {}", words.pipeline(rest)?.text)])
        }
        "with" => with(rest, words, open),
        "range" => range(rest, words, open),
        "else" => {
            let block = open.last_mut()?;
            if rest.is_empty() {
                // Behind it `.` is again what it was.
                if std::mem::take(&mut block.dot) {
                    words.leave();
                }
                return steps(vec!["else".to_owned()]);
            }
            let condition = rest.strip_prefix("if").filter(|_| block.end == "endif" && !block.dot)?;
            steps(vec![format!("elif {}", words.pipeline(condition.trim())?.text)])
        }
        "end" => {
            let block = open.pop()?;
            if block.dot {
                words.leave();
            }
            words.forget(block.names);
            steps(vec![block.end.to_owned()])
        }
        "template" => {
            let mut parts = rest.splitn(2, char::is_whitespace);
            let name = parts.next()?.trim_matches('"');
            if let Some(named) = words.template(name) {
                let dot = words.pipeline(parts.next()?.trim())?;
                return Some(Said::Call(named.body.clone(), dot));
            }
            let (_, ours) = OWN.iter().find(|(known, _)| *known == name)?;
            Some(Said::Value((*ours).to_owned()))
        }
        "define" | "block" | "break" | "continue" => None,
        _ => match assignment(body) {
            Some((name, value)) => {
                let value = words.pipeline(value)?;
                let step = format!("set {name} = {}", value.text);
                words.name(name, Value { text: name.to_owned(), what: value.what });
                steps(vec![step])
            }
            None => Some(Said::Value(words.pipeline(body)?.text)),
        },
    }
}

/// `$name := value`, or `$name = value`.
fn assignment(body: &str) -> Option<(&str, &str)> {
    let (name, value) = body.split_once(":=").or_else(|| body.split_once(" = "))?;
    let name = name.trim().strip_prefix('$')?;
    (!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')).then_some((name, value.trim()))
}

fn with(rest: &str, words: &mut Words<'_>, open: &mut Vec<Open>) -> Option<Said> {
    let names = words.names();
    let mut steps = Vec::new();
    let value = match assignment(rest) {
        Some((name, value)) => {
            let value = words.pipeline(value)?;
            steps.push(format!("set {name} = {}", value.text));
            let named = Value { text: name.to_owned(), what: value.what };
            words.name(name, named.clone());
            named
        }
        None => words.pipeline(rest)?,
    };
    steps.push(format!("if {}", value.text));
    words.enter(value);
    open.push(Open { end: "endif", names, dot: true });
    Some(Said::Steps(steps))
}

fn range(rest: &str, words: &mut Words<'_>, open: &mut Vec<Open>) -> Option<Said> {
    let names = words.names();
    let (named, over) = match rest.split_once(":=") {
        Some((named, over)) => (named.split(',').map(|name| name.trim().strip_prefix('$')).collect::<Option<Vec<_>>>()?, over.trim()),
        None => (Vec::new(), rest),
    };
    let over = words.pipeline(over)?;
    let (what, name) = match over.what {
        What::Alerts => (What::Alert, "alert"),
        What::Pairs => (What::Pair, "pair"),
        What::Texts => (What::Text, "item"),
        What::Map => (What::Text, "value"),
        _ => return None,
    };
    let name = match named.as_slice() {
        [] => words.free(name),
        [name] | [_, name] => (*name).to_owned(),
        _ => return None,
    };
    let one = Value { text: name.clone(), what };
    let mut steps = Vec::new();
    match (named.as_slice(), over.what) {
        ([key, _], What::Map) => {
            words.name(key, Value { text: (*key).to_owned(), what: What::Text });
            steps.push(format!("for {key}, {name} in {}|items", over.operand()));
        }
        (_, What::Map) => steps.push(format!("for {name} in {}|values", over.operand())),
        ([at, _], _) => {
            words.name(at, Value { text: (*at).to_owned(), what: What::Number });
            steps.push(format!("for {name} in {}", over.text));
            if *at != "_" {
                steps.push(format!("set {at} = loop.index0"));
            }
        }
        _ => steps.push(format!("for {name} in {}", over.text)),
    }
    words.name(&name, one.clone());
    words.enter(one);
    open.push(Open { end: "endfor", names, dot: true });
    Some(Said::Steps(steps))
}

/// Text and actions; `None`: an action does not end.
fn pieces(text: &str) -> Option<Vec<Piece<'_>>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        if start > 0 {
            pieces.push(Piece::Text(&rest[..start]));
        }
        let inside = &rest[start + 2..];
        let end = end_of_action(inside)?;
        let (body, behind) = (&inside[..end], &inside[end + 2..]);
        let (body, left) = body.strip_prefix("- ").or_else(|| body.strip_prefix("-\n")).map_or((body, false), |body| (body, true));
        let (body, right) = body.strip_suffix(" -").or_else(|| body.strip_suffix("\n-")).map_or((body, false), |body| (body, true));
        pieces.push(Piece::Action(body.trim(), left, right));
        rest = behind;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Some(pieces)
}

/// Where `}}` stands outside of a text in quotes.
fn end_of_action(inside: &str) -> Option<usize> {
    let bytes = inside.as_bytes();
    let mut quote = None;
    let mut at = 0;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (None, b'}') if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            (None, letter @ (b'"' | b'`')) => quote = Some(letter),
            (Some(b'"'), b'\\') => at += 1,
            (Some(open), letter) if open == letter => quote = None,
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::damage_text;
    use crate::mutate::seeds;

    #[test]
    fn what_people_write_is_translated() {
        for (go, ours) in [
            ("{{ .CommonLabels.alertname }}", "{{ commonLabels.alertname }}"),
            ("{{ .Status | toUpper }}: {{ .GroupLabels.job }}", "{{ status|upper }}: {{ groupLabels.job }}"),
            ("{{ range .Alerts }}{{ .Labels.instance }} {{ end }}", "{% for alert in alerts %}{{ alert.labels.instance }} {% endfor %}"),
            ("{{ if eq .Status \"firing\" }}danger{{ else }}good{{ end }}", "{% if status == \"firing\" %}danger{% else %}good{% endif %}"),
            (
                "[{{ .Status }}{{ if gt (len .Alerts.Firing) 1 }}:{{ .Alerts.Firing | len }}{{ end }}]",
                "[{{ status }}{% if alerts.firing|length > 1 %}:{{ alerts.firing|length }}{% endif %}]",
            ),
            ("{{ .GroupLabels.SortedPairs.Values | join \" \" }}", "{{ groupLabels|values|join(\" \") }}"),
            (
                "{{ range .Alerts -}}\n{{ range .Labels.SortedPairs }}{{ .Name }}={{ .Value }}{{ end }}{{- end }}",
                "{% for alert in alerts -%}\n{% for pair in alert.labels|sortedPairs %}{{ pair.name }}={{ pair.value }}{% endfor %}{%- endfor %}",
            ),
            (
                "{{ with .CommonLabels.Remove .GroupLabels.Names }}({{ .Values | join \", \" }}){{ end }}",
                "{% if commonLabels|remove(groupLabels|names) %}({{ commonLabels|remove(groupLabels|names)|values|join(\", \") }}){% endif %}",
            ),
            ("{{ template \"__subject\" . }}", "{{ subject }}"),
            ("{{ (index .Alerts 0).Annotations.summary }}", "{{ alerts[0].annotations.summary }}"),
            ("{{ $a := index .Alerts 0 }}{{ $a.StartsAt.Format \"15:04\" }}", "{% set a = alerts[0] %}{{ a.startsAt|date(\"15:04\") }}"),
            (
                "{{ range $i, $a := .Alerts }}{{ $i }}: {{ $a.Fingerprint }}{{ end }}",
                "{% for a in alerts %}{% set i = loop.index0 %}{{ i }}: {{ a.fingerprint }}{% endfor %}",
            ),
            ("{{ range $k, $v := .CommonLabels }}{{ $k }}{{ end }}", "{% for k, v in commonLabels|items %}{{ k }}{% endfor %}"),
            (
                "{{ if and .CommonLabels.a (not .CommonLabels.b) }}x{{ end }}",
                "{% if commonLabels.a and (not commonLabels.b) %}x{% endif %}",
            ),
            ("{{ reReplaceAll \"a(.*)\" \"$1\" .CommonLabels.x }}", "{{ commonLabels.x|reReplaceAll(\"a(.*)\", \"$1\") }}"),
            ("{{ printf \"%s-%v\" .Status $.Receiver }}", "{{ \"%s-%s\"|format(status, receiver) }}"),
            (
                "{{ if .CommonAnnotations.a }}1{{ else if eq .Status `x` `y` }}2{{ end }}",
                "{% if commonAnnotations.a %}1{% elif (status == \"x\" or status == \"y\") %}2{% endif %}",
            ),
            ("{{/* nothing */}}plain", "plain"),
        ] {
            assert_eq!(translate(go).as_deref(), Some(ours), "{go}");
            assert!(is_go(go), "{go}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        for go in [
            "{{ template \"my.own\" . }}",
            "{{ define \"x\" }}a{{ end }}",
            "{{ .Unknown }}",
            "{{ .StartsAt }}",
            "{{ range .Alerts }}",
            "{{ end }}",
            "{{ .CommonLabels.x | fancy }}",
            "{{ .Status ",
            "{% x %}{{ .Status }}",
        ] {
            assert_eq!(translate(go), None, "{go}");
        }
        let named = named("a {{ define \"who\" }}{{ .Labels.instance }}{{ if .Annotations.x }}!{{ end }}{{ end }}\n{{- define \"all\" -}}{{ range .Alerts }}{{ template \"who\" . }} {{ end }}{{ end }}{{ define \"self\" }}{{ template \"self\" . }}{{ end }}").unwrap();
        assert_eq!(named.iter().map(|one| (one.name.as_str(), one.line)).collect::<Vec<_>>(), [("who", 1), ("all", 2), ("self", 2)]);
        let ours = "{% for alert in alerts %}{{ alert.labels.instance }}{% if alert.annotations.x %}!{% endif %} {% endfor %}";
        assert_eq!(translate_with("{{ template \"all\" . }}", &named).as_deref(), Some(ours));
        assert_eq!(translate_with("{{ template \"self\" . }}", &named), None);
        assert_eq!(super::named("{{ define \"x\" }}"), None);
        assert!(names_default("{{ template \"slack.default.title\" . }}") && !names_default("{{ template \"my.title\" . }}"));
        assert!(!is_go("{{ commonLabels.x }}") && !is_go("plain"));
    }

    #[test]
    fn damaged_texts_never_panic() {
        let text = "{{ range $i, $a := .Alerts }}{{ with (index .Alerts 0).Labels.SortedPairs }}{{ printf \"%s\" .Values | join \", \" }}{{ end }}{{ end }}";
        for seed in seeds(5_000) {
            let damaged = damage_text(&mut fastrand::Rng::with_seed(seed), text);
            let _ = (translate(&damaged), is_go(&damaged), names_default(&damaged), named(&damaged));
        }
    }
}

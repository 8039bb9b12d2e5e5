//! `alerting.inputs`: whose webhooks may bring alerts, how they are signed, and what JSON of another shape means.
//!
//! Grafana's and Alertmanager's webhooks need none of it. Left out on purpose: reading what they send (`wire::hooks`).

use std::path::PathBuf;
use std::time::Duration;

use crate::config::read::Node;
use crate::config::read::Refusal;
use crate::config::read::Section;
use crate::config::remote_write;
use crate::config::values;

/// How long an alert holds that a webhook brought and does not bring again: Grafana repeats after four hours.
pub const HOLD: Duration = Duration::from_secs(5 * 3600);

/// How far off a signed time may be, unless something else is said,
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);
/// and at most: what says later than this that an alert holds which is over may bring it back (`api::inputs`).
const MOST_TOLERANCE: Duration = Duration::from_secs(10 * 60);

/// A source of webhooks, by the name in its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The name.
    pub name: String,
    /// How long an alert holds that is not said again.
    pub hold: Duration,
    /// What it sends is signed so.
    pub signature: Option<Signature>,
    /// What it sends means this; without it, it must be of a shape that is known.
    pub mapping: Option<Mapping>,
}

impl Input {
    /// One that needs nothing said.
    pub fn plain(name: &str) -> Input {
        Input { name: name.to_owned(), hold: HOLD, signature: None, mapping: None }
    }
}

/// How a webhook is signed: by HMAC-SHA256, in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// A file with the secret.
    pub secret_file: PathBuf,
    /// The header with the signature.
    pub header: String,
    /// The header with the time, seconds since 1970, which is then signed as well.
    pub timestamp_header: Option<String>,
    /// How far off that time may be.
    pub tolerance: Duration,
}

/// What JSON means. Texts hold `{path}` where a value of it is put in: `{host.name}`, `{tags.0}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// Where the list of alerts is; empty: the whole is one alert, or a list of them.
    pub each: String,
    /// Label and text. One whose text comes to nothing is left out.
    pub labels: Vec<(String, Text)>,
    /// Annotation and text.
    pub annotations: Vec<(String, Text)>,
    /// What says whether it holds,
    pub status: Option<Text>,
    /// and what it says when it is over. Anything else: it holds.
    pub resolved: Vec<String>,
    /// Since when, in RFC 3339 or as seconds or ms since 1970.
    pub starts: Option<Text>,
    /// A page about it.
    pub link: Option<Text>,
}

/// A text with places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(pub Vec<Part>);

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// As it stands.
    Words(String),
    /// The value at this path: names and numbers of list members.
    Value(Vec<String>),
}

/// Reads the list.
pub fn read(list: &Node<'_>) -> Vec<Input> {
    let mut inputs: Vec<Input> = Vec::new();
    for node in list.list() {
        let section = node.section();
        let name = section.must("name", "write the name that its URL ends with: /api/v1/alerts/in/NAME", values::name);
        let input = Input {
            name: name.clone().unwrap_or_default(),
            hold: section.or("hold", HOLD, values::duration_in(Duration::from_secs(60)..=Duration::from_secs(30 * 86_400))),
            signature: section.below("hmac").and_then(|section| signature(&section)),
            mapping: section.below("mapping").map(|section| mapping(&section)),
        };
        section.finish();
        if inputs.iter().any(|known| known.name == input.name) && name.is_some() {
            node.complain_unshown("has a name that stands here twice", "give it another name");
        }
        inputs.push(input);
    }
    inputs
}

fn signature(section: &Section<'_>) -> Option<Signature> {
    let secret_file = section.must("secret_file", "write the path of a file that holds the secret", remote_write::absolute);
    let header = section.or("header", "X-Grafana-Alerting-Signature".to_owned(), header);
    let timestamp_header = section.opt("timestamp_header", self::header);
    let tolerance = section.or("tolerance", TOLERANCE, values::duration_in(Duration::from_secs(1)..=MOST_TOLERANCE));
    if timestamp_header.is_none()
        && let Some(node) = section.get("tolerance")
    {
        node.complain("is of a time that nobody sends", "write the header with the time: timestamp_header: X-Grafana-Alerting-Time");
    }
    section.finish();
    Some(Signature { secret_file: secret_file?, header, timestamp_header, tolerance })
}

fn header(name: &str) -> Result<String, Refusal> {
    let good = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    good.then(|| name.to_owned()).ok_or_else(|| ("is no name of a header".into(), "letters, digits and `-`".into()))
}

fn mapping(section: &Section<'_>) -> Mapping {
    let texts = |key: &'static str| -> Vec<(String, Text)> {
        let below = section.below(key);
        let pairs = below.iter().flat_map(Section::pairs).filter_map(|(name, node)| Some((name.to_owned(), node.value(text)?)));
        pairs.collect()
    };
    let mapping = Mapping {
        each: section.or("each", String::new(), values::text),
        labels: texts("labels"),
        annotations: texts("annotations"),
        status: section.opt("status", text),
        resolved: section.get("resolved").iter().flat_map(Node::list).filter_map(|node| node.value(values::text)).collect(),
        starts: section.opt("starts", text),
        link: section.opt("link", text),
    };
    if mapping.labels.is_empty() {
        section.missing("labels", "write what makes an alert that alert: labels: { alertname: \"{check}\", host: \"{host.name}\" }");
    }
    if mapping.status.is_some() == mapping.resolved.is_empty() {
        let (key, remedy) = match mapping.status {
            Some(_) => ("resolved", "write what the status is when the alert is over: resolved: [OK]"),
            None => ("status", "write where the status stands: status: \"{state}\""),
        };
        section.missing(key, remedy);
    }
    section.finish();
    mapping
}

/// Reads a text: `{{` and `}}` are braces.
pub fn text(written: &str) -> Result<Text, Refusal> {
    let wrong = |rule: &str| (rule.to_owned(), "write `{path}` where a value is put in, as `{host.name}`, and `{{` for a brace".to_owned());
    let (mut parts, mut words, mut letters) = (Vec::new(), String::new(), written.chars().peekable());
    while let Some(letter) = letters.next() {
        match letter {
            '{' | '}' if letters.next_if_eq(&letter).is_some() => words.push(letter),
            '}' => return Err(wrong("has a brace that closes nothing")),
            '{' => {
                let mut path = String::new();
                let closed = loop {
                    match letters.next() {
                        Some('}') => break true,
                        Some(letter) => path.push(letter),
                        None => break false,
                    }
                };
                if !closed || path.is_empty() || path.contains('{') {
                    return Err(wrong("has a brace that holds no path"));
                }
                if !words.is_empty() {
                    parts.push(Part::Words(std::mem::take(&mut words)));
                }
                parts.push(Part::Value(path.split('.').map(str::to_owned).collect()));
            }
            letter => words.push(letter),
        }
    }
    if !words.is_empty() {
        parts.push(Part::Words(words));
    }
    Ok(Text(parts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read::Problems;
    use crate::config::tree;

    fn inputs(text: &str) -> Result<Vec<Input>, String> {
        let tree = tree::parse(text).unwrap();
        let problems = Problems::default();
        let inputs = read(&Node::root(&tree, &problems));
        let problems = problems.take();
        if problems.is_empty() { Ok(inputs) } else { Err(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")) }
    }

    #[test]
    fn an_input_with_everything() {
        let read = inputs(
            r#"
- name: grafana
  hmac: { secret_file: /etc/sluice/grafana.secret, timestamp_header: X-Time }
- name: nagios
  hold: 2h
  mapping:
    each: checks
    labels: { alertname: "{check}", host: "{host.name}:{ports.0}" }
    annotations: { summary: "{{{output}}}" }
    status: "{state}"
    resolved: [OK, UP]
"#,
        );
        let [grafana, nagios] = &read.unwrap()[..] else { panic!() };
        assert_eq!((grafana.hold, grafana.mapping.clone()), (HOLD, None));
        let header = "X-Grafana-Alerting-Signature".to_owned();
        let (secret_file, timestamp_header) = ("/etc/sluice/grafana.secret".into(), Some("X-Time".into()));
        let signature = Signature { secret_file, header, timestamp_header, tolerance: TOLERANCE };
        assert_eq!(grafana.signature, Some(signature));
        let mapping = nagios.mapping.as_ref().unwrap();
        let path = |path: &[&str]| Part::Value(path.iter().map(|part| (*part).to_owned()).collect());
        let words = |words: &str| Part::Words(words.to_owned());
        assert_eq!(mapping.labels[1].1, Text(vec![path(&["host", "name"]), words(":"), path(&["ports", "0"])]));
        assert_eq!(mapping.annotations[0].1, Text(vec![words("{"), path(&["output"]), words("}")]));
        assert_eq!((mapping.each.as_str(), &mapping.resolved[..]), ("checks", &["OK".to_owned(), "UP".to_owned()][..]));
    }

    #[test]
    fn the_example_of_the_manual_is_good() {
        let manual = include_str!("../../docs/alerting.md");
        let block = manual.split("  inputs:\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let inputs = inputs(block).unwrap();
        let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
        assert_eq!(names, ["grafana", "nagios"]);
        assert!(inputs[0].signature.is_some() && inputs[1].mapping.as_ref().is_some_and(|mapping| mapping.annotations.len() == 1));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, told) in [
            ("- hold: 1h", "name"),
            ("- { name: a, hmac: { header: X } }", "secret_file"),
            ("- { name: a, hmac: { secret_file: relative } }", "secret_file"),
            ("- { name: a, hmac: { secret_file: /x, tolerance: 2m } }", "timestamp_header"),
            ("- { name: a, hmac: { secret_file: /x, timestamp_header: X, tolerance: 1h } }", "tolerance"),
            ("- { name: a }\n- { name: a }", "twice"),
            ("- { name: a, mapping: { each: x } }", "labels"),
            ("- { name: a, mapping: { labels: { a: b }, status: '{x}' } }", "resolved"),
            ("- { name: a, mapping: { labels: { a: '{x' } } }", "brace"),
            ("- { name: a, mapping: { labels: { a: '{}' } } }", "brace"),
            ("- { name: a, mapping: { labels: { a: 'x}' } } }", "brace"),
            ("- { name: a, more: 1 }", "known here"),
        ] {
            let wrong = inputs(text).unwrap_err();
            assert!(wrong.contains(told), "{text}: {wrong}");
        }
    }
}

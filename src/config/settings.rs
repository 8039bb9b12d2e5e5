//! The part of a configuration that all nodes of a cluster must agree on, as a text of its own: `external_labels:`, `groups:`, `sinks:`, `notify:`, `alerting:`, `push:`, `log.keep` and `probe`'s jobs and references, every key on a line, so that two
//! of them can be compared by lines whatever their files looked like.
//!
//! Everything else is of one node: where it listens, where its data is, its certificates, and `limits:`, which bound one node's memory and judge a
//! request where it comes in. Left out on purpose: keeping the text (`shard::settings`), carrying it out (`app`).

use std::time::Duration;

use crate::config::Log;
use crate::config::alerting;
use crate::config::alerting::Alerting;
use crate::config::groups;
use crate::config::groups::Groups;
use crate::config::jobs;
use crate::config::jobs::Jobs;
use crate::config::notify;
use crate::config::notify::Notify;
use crate::config::push;
use crate::config::push::Push;
use crate::config::read::Node;
use crate::config::read::Problem;
use crate::config::read::Problems;
use crate::config::sinks;
use crate::config::sinks::Sink;
use crate::config::tree;
use crate::config::tree::Tree;
use crate::config::tree::Value;

/// The sections that nodes agree on.
pub const SECTIONS: [&str; 8] = ["alerting", "external_labels", "groups", "log", "notify", "probe", "push", "sinks"];
/// Of a section that is not the cluster's as a whole: the keys that are.
const KEYS: [(&str, &str); 3] = [("log", "keep"), ("probe", jobs::KEYS[0]), ("probe", jobs::KEYS[1])];
/// What stands in the place of a value that is not for everybody's eyes.
const HIDDEN: &str = "(hidden)";
/// A key that holds one of these has such a value, unless it names a file. librdkafka's own names: `sasl.password`, `ssl.key.pem`, `sasl.oauthbearer.client.secret`,
/// `sasl.jaas.config`, `sasl.oauthbearer.config`.
const SECRET: [&str; 14] = [
    "api_url",
    "webhook_url",
    "routing_key",
    "service_key",
    "password",
    "secret",
    "token",
    "key.pem",
    "jaas",
    "oauthbearer.config",
    "authorization",
    "api-key",
    "apikey",
    "cookie",
];

/// What nodes agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How series find their group and replica.
    pub groups: Groups,
    /// Where rows go.
    pub sinks: Vec<Sink>,
    /// What all sinks are done with stays so long.
    pub keep: Duration,
    /// What is looked at from outside.
    pub jobs: Jobs,
    /// Whom alerts are told to.
    pub notify: Notify,
    /// Who is told of all alerts.
    pub alerting: Option<Alerting>,
    /// What is done with what is pushed.
    pub push: Push,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            groups: Groups::default(),
            sinks: Vec::new(),
            keep: Log::default().keep,
            jobs: Jobs::default(),
            notify: Notify::default(),
            alerting: None,
            push: Push::default(),
        }
    }
}

/// Reads a text that holds nothing else. Nothing at all is what a node without a file has: everything at its default, no sink.
pub fn parse(text: &str) -> Result<Settings, Vec<Problem>> {
    if text.trim().is_empty() {
        return Ok(Settings::default());
    }
    let tree = super::tree_of(text)?;
    let problems = Problems::default();
    let top = Node::root(&tree, &problems).section();
    let groups = top.below("groups").map(|section| groups::read(&section)).unwrap_or_default();
    // A file's `sinks: []` is not written down: there is nothing to say of them.
    let (written, _) = (top.get("sinks"), top.get("external_labels"));
    let sinks = written.map(|_| sinks::read(&top)).unwrap_or_default();
    let keep = top.below("log").map_or(Log::default().keep, |section| {
        let keep = super::read_keep(&section);
        section.finish();
        keep
    });
    let jobs = top.below("probe").map(|section| {
        let jobs = jobs::read(&section);
        section.finish();
        jobs
    });
    let notify = top.below("notify").map(|section| notify::read(&section)).unwrap_or_default();
    let push = top.below("push").map(|section| push::read(&section)).unwrap_or_default();
    let alerting = top.below("alerting").map(|section| (alerting::read(&section), section));
    if let Some((Alerting { file: Some(file), .. }, section)) = &alerting {
        let (key, value) = ("alerting.file".to_owned(), file.display().to_string());
        let (rule, remedy) = (
            "is a file of one node, and settings are of all",
            "write its content below `config:`, or apply a file on the node that has it",
        );
        section.add(Problem { line: section.node().line(), key, value, rule: rule.to_owned(), remedy: remedy.to_owned() });
    }
    let alerting = alerting.map(|(alerting, _)| alerting);
    top.finish();
    let (problems, jobs) = (problems.take(), jobs.unwrap_or_default());
    if problems.is_empty() { Ok(Settings { groups, sinks, keep, jobs, notify, alerting, push }) } else { Err(problems) }
}

/// Whether a text holds nothing but settings, so that it can be read without the rest of a configuration.
pub fn alone(text: &str) -> bool {
    match tree::parse(text).map(|tree| tree.value) {
        Ok(Value::Pairs(pairs)) => pairs.iter().all(|(key, value)| {
            let Value::Scalar(name) = &key.value else { return false };
            SECTIONS.contains(&name.as_str()) && parts(name, value).is_none_or(|(_, rest)| rest == 0)
        }),
        Ok(Value::Empty) => true,
        _ => false,
    }
}

/// A text that holds nothing else, in the normal form.
pub fn normal(text: &str) -> Result<String, Vec<Problem>> {
    parse(text)?;
    super::tree_of(text).map(|tree| of_file(&tree))
}

/// The settings in a configuration, each key on a line of its own. Comments and the manner of writing are gone.
pub(super) fn of_file(file: &Tree) -> String {
    let mut out = String::new();
    if let Value::Pairs(pairs) = &file.value {
        for section in SECTIONS {
            let named = |(key, _): &&(Tree, Tree)| matches!(&key.value, Value::Scalar(name) if name == section);
            let Some((_, value)) = pairs.iter().find(named) else { continue };
            let part = parts(section, value).map(|(part, _)| part);
            let value = part.as_ref().unwrap_or(value);
            if !is_empty(value) {
                out.push_str(section);
                out.push(':');
                write(value, 1, &mut out);
            }
        }
    }
    out
}

/// Of a section of which only some keys are the cluster's: those, and how many others there are.
fn parts(section: &str, tree: &Tree) -> Option<(Tree, usize)> {
    KEYS.iter().find(|(known, _)| *known == section)?;
    let Value::Pairs(pairs) = &tree.value else { return Some((tree.clone(), 0)) };
    let ours = |key: &Tree| matches!(&key.value, Value::Scalar(name) if KEYS.contains(&(section, name.as_str())));
    let kept: Vec<(Tree, Tree)> = pairs.iter().filter(|(key, _)| ours(key)).cloned().collect();
    let others = pairs.len() - kept.len();
    Some((Tree { value: Value::Pairs(kept), ..tree.clone() }, others))
}

fn is_empty(tree: &Tree) -> bool {
    match &tree.value {
        Value::Empty => true,
        Value::Scalar(_) => false,
        Value::List(items) => items.is_empty(),
        Value::Pairs(pairs) => pairs.is_empty(),
    }
}

/// Writes a value behind its key, to the end of the line.
fn write(tree: &Tree, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match &tree.value {
        Value::Empty => out.push_str(" ~\n"),
        Value::Scalar(text) => {
            out.push_str(if tree.binary { " !!binary " } else { " " });
            out.push_str(&scalar(text));
            out.push('\n');
        }
        Value::List(items) if items.is_empty() => out.push_str(" []\n"),
        Value::Pairs(pairs) if pairs.is_empty() => out.push_str(" {}\n"),
        Value::List(items) => {
            out.push('\n');
            for item in items {
                let mut below = String::new();
                write(item, depth + 1, &mut below);
                out.push_str(&indent);
                out.push('-');
                // The first pair of a section stands beside the dash.
                match below.strip_prefix('\n') {
                    Some(lines) => {
                        out.push(' ');
                        out.push_str(lines.trim_start_matches(' '));
                    }
                    None => out.push_str(&below),
                }
            }
        }
        Value::Pairs(pairs) => {
            out.push('\n');
            for (key, value) in pairs {
                let Value::Scalar(name) = &key.value else { continue };
                out.push_str(&indent);
                out.push_str(&scalar(name));
                out.push(':');
                write(value, depth + 1, out);
            }
        }
    }
}

/// A section alone, each key on a line of its own.
pub(super) fn lines_of(tree: &Tree) -> String {
    let mut out = String::new();
    write(tree, 0, &mut out);
    out.trim_start_matches('\n').to_owned()
}

/// A scalar as this project reads it: text. Quoted wherever it could be read as anything else.
pub(super) fn scalar(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_./+".contains(letter);
    let inside = |letter: char| plain(letter) || "-@%".contains(letter);
    let mut letters = text.chars();
    if letters.next().is_some_and(plain) && letters.all(inside) && text != "null" {
        return text.to_owned();
    }
    // JSON's strings are YAML's.
    serde_json::Value::from(text).to_string()
}

/// The text without what is not for everybody's eyes.
pub fn shown(text: &str) -> String {
    text.lines().map(|line| shown_line(line) + "\n").collect()
}

/// One line of it.
pub fn shown_line(line: &str) -> String {
    line_without_secret(line, HIDDEN)
}

/// The same with another word in the place of the secret.
pub(super) fn line_without_secret(line: &str, hidden: &str) -> String {
    let Some((key, value)) = line.split_once(": ") else { return line.to_owned() };
    let lower = key.to_ascii_lowercase();
    let names_file = lower.trim_end_matches('"').ends_with("_file");
    if value.is_empty() || names_file || !SECRET.iter().any(|word| lower.contains(word)) {
        let url = ["url", "proxy_url"].contains(&key.trim_start_matches(['+', '-', ' ']));
        return if url { format!("{key}: {}", url_without_key(value, hidden)) } else { line.to_owned() };
    }
    format!("{key}: {hidden}")
}

/// A URL without its password, its query, and a last step that is a key: the addresses of chats' robots are such.
fn url_without_key(value: &str, hidden: &str) -> String {
    let quote = if value.ends_with('"') { "\"" } else { "" };
    let bare = value.trim_end_matches('"');
    let Some((scheme, rest)) = bare.split_once("://") else { return value.to_owned() };
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_end);
    let authority = authority.rsplit_once('@').map_or(authority.to_owned(), |(_, host)| format!("{hidden}@{host}"));
    let (path, query) = path.split_once('?').map_or((path, false), |(path, _)| (path, true));
    let (steps, last) = path.rsplit_once('/').unwrap_or(("", path));
    let key = last.len() >= 16 && last.bytes().any(|byte| byte.is_ascii_digit());
    let path = if key { format!("{steps}/{hidden}") } else { path.to_owned() };
    format!("{scheme}://{authority}{path}{}{quote}", if query { format!("?{hidden}") } else { String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
listen: 127.0.0.1:9201 # of this node
data_dir: /var/lib/sluice
sinks:
  - name: platform
    kafka: { brokers: ["127.0.0.1:9092", 'b:1'], topic: metrics, format: rows, properties: { sasl.password: "a: b#c", client.id: null } }
    from: oldest
groups: { labels: [ { group: cluster, replica: __replica__ } ],
          overrides: [] }
limits: { groups: 7 }
"#;

    fn of(text: &str) -> String {
        of_file(&tree::parse(text).unwrap())
    }

    #[test]
    fn settings_are_written_a_key_a_line_and_mean_the_same() {
        let text = of(FILE);
        let expected = "\
groups:
  labels:
    - group: cluster
      replica: __replica__
  overrides: []
sinks:
  - name: platform
    kafka:
      brokers:
        - \"127.0.0.1:9092\"
        - \"b:1\"
      topic: metrics
      format: rows
      properties:
        sasl.password: \"a: b#c\"
        client.id: ~
    from: oldest
";
        assert_eq!(text, expected);
        assert_eq!(of(&text), text, "writing what was written changes nothing");
        let without = FILE.replace(", client.id: null", "");
        let config = super::super::Config::parse(&without).unwrap();
        assert_eq!(
            parse(&config.settings).unwrap(),
            Settings { groups: config.groups.clone(), sinks: config.sinks.clone(), keep: config.log.keep, ..Settings::default() }
        );
        assert_eq!(parse("").unwrap(), Settings::default());
    }

    #[test]
    fn a_file_without_sinks_has_settings_that_can_be_read() {
        let file = "listen: 127.0.0.1:1\ndata_dir: /x\nsinks: []\nexternal_labels: { a: b }\ngroups: { switches_per_hour: 3 }\n";
        let config = super::super::Config::parse(file).unwrap();
        let settings = parse(&config.settings).unwrap();
        assert_eq!((settings.groups.switches_per_hour, settings.sinks.len()), (3, 0));
    }

    #[test]
    fn any_scalar_is_read_back_as_it_was() {
        for text in
            ["", "~", "null", "-", "a b", "x: y", "#", "'", "\"", "\n", "ü", "- x", "1.10", "[", "0x", "@a", "%a", "a@b", "true", "a:"]
        {
            let text = format!("groups:\n  labels: {}\n", scalar(text));
            assert_eq!(of(&text), text);
        }
    }

    #[test]
    fn other_sections_and_mistakes_are_told() {
        let wrong = |text: &str| parse(text).unwrap_err().iter().map(ToString::to_string).collect::<String>();
        assert!(wrong("listen: 1").contains("listen"), "{}", wrong("listen: 1"));
        assert!(wrong("sinks: [{ name: a }]").contains("sinks[0]"));
        assert!(alone("sinks: []") && alone("") && alone("groups: {}\nsinks: []") && !alone(FILE) && !alone("- a"));
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        let text = of(FILE);
        let shown = shown(&text);
        assert!(shown.contains("sasl.password: (hidden)") && !shown.contains("a: b#c"), "{shown}");
        assert_eq!(shown.lines().count(), text.lines().count());
        assert_eq!(shown_line("  topic: metrics"), "  topic: metrics");
        assert_eq!(shown_line("    bearer_token_file: /etc/token"), "    bearer_token_file: /etc/token");
        for (url, seen) in [
            ("https://store.example/api/v1/write", "https://store.example/api/v1/write"),
            ("\"https://me:canary@h:1/x?a=canary\"", "\"https://(hidden)@h:1/x?(hidden)\""),
            ("https://open.feishu.cn/open-apis/bot/v2/hook/3f2a-0123-4567-89ab", "https://open.feishu.cn/open-apis/bot/v2/hook/(hidden)"),
            ("https://h", "https://h"),
        ] {
            assert_eq!(shown_line(&format!("+   - url: {url}")), format!("+   - url: {seen}"));
        }
        assert_eq!(shown_line("  webhook_url: \"https://x/canary\""), "  webhook_url: (hidden)");
        assert_eq!(shown_line("      X-Api-Key: x"), "      X-Api-Key: (hidden)");
        assert_eq!(shown_line("+   \"ssl.key.pem\": x"), "+   \"ssl.key.pem\": (hidden)");
    }
}

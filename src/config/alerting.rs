//! `alerting:`: who is told of alerts, as a file of Alertmanager's (`file:`) or its content (`config:`).
//!
//! Nodes agree on it, so what runs is the content: a file beside the configuration is read where settings are proposed, and stands in them as `config:`, key by
//! key, so that two versions can be compared. Left out on purpose: what the content means (`routing`, `alert`), and sending (`notify`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::compat;
use crate::config::compat::Compat;
use crate::config::inputs;
use crate::config::inputs::Input;
use crate::config::policies;
use crate::config::policies::Policies;
use crate::config::read::Node;
use crate::config::read::Problem;
use crate::config::read::Problems;
use crate::config::read::Section;
use crate::config::routing;
use crate::config::routing::Routing;
use crate::config::settings;
use crate::config::sinks;
use crate::config::sinks::Kafka;
use crate::config::telling;
use crate::config::telling::Telling;
use crate::config::tree;
use crate::config::tree::Tree;
use crate::config::tree::Value;
use crate::config::values;

const DAY: Duration = Duration::from_secs(86_400);
/// How long episodes of alerts are kept.
pub const KEEP: Duration = Duration::from_secs(400 * 86_400);

/// Somebody outside is told at this interval that sluice can tell anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Where.
    pub url: String,
    /// Between two beats.
    pub interval: Duration,
    /// By POST, else by GET.
    pub post: bool,
}

/// Who is told of alerts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alerting {
    /// A file that was not read yet.
    pub file: Option<PathBuf>,
    /// The content, a key a line.
    pub text: String,
    /// What it says; `None` where it stands in a file.
    pub routing: Option<Arc<Routing>>,
    /// By which people reach this sluice.
    pub external: Option<String>,
    /// What is said of webhooks that bring alerts.
    pub inputs: Vec<Input>,
    /// How long the history is kept, where that is said.
    pub keep: Option<Duration>,
    /// Where it goes besides.
    pub kafka: Option<Kafka>,
    /// Who notices that sluice is dead.
    pub heartbeat: Option<Heartbeat>,
    /// What is done as Alertmanager does it.
    pub compat: Compat,
    /// Sites whose pages may ask Alertmanager's API.
    pub pages: Vec<String>,
    /// How bad alerts are, and which are told later, once, or not at all.
    pub policies: Policies,
    /// Who is told besides, and how much at most.
    pub telling: Telling,
}

/// Reads the section.
pub fn read(section: &Section<'_>) -> Alerting {
    let file = section.opt("file", super::path);
    let config = section.get("config");
    let external = section.opt("external_url", values::url);
    let inputs = section.get("inputs").map(|list| inputs::read(&list)).unwrap_or_default();
    let (keep, kafka) = section.below("history").map(|section| history(&section)).unwrap_or_default();
    let heartbeat = section.below("heartbeat").and_then(|section| heartbeat(&section));
    let compat = section.below("compat").map(|section| compat::read(&section)).unwrap_or_default();
    let pages = section.get("pages").map(|list| list.list().iter().filter_map(|site| site.value(compat::page)).collect());
    let (policies, telling) = (policies::read(section), telling::read(section));
    let mut alerting = Alerting { file, external, inputs, keep, kafka, heartbeat, compat, policies, telling, ..Alerting::default() };
    alerting.pages = pages.unwrap_or_default();
    match (&alerting.file, &config) {
        (None, None) => section.missing("file", "write where the routes are: file: alertmanager.yml (or the content below `config:`)"),
        (Some(_), Some(node)) => node.complain("stands beside `file`", "keep one of the two"),
        (Some(_), None) => {}
        (None, Some(node)) => {
            let problems = content(node, &mut alerting).err().unwrap_or_default();
            problems.into_iter().for_each(|problem| section.add(problem));
        }
    }
    section.finish();
    alerting
}

fn history(section: &Section<'_>) -> (Option<Duration>, Option<Kafka>) {
    let keep = section.opt("keep", values::duration_in(DAY..=DAY * 3_660));
    let kafka = section.below("kafka").and_then(|section| sinks::read_topic(&section));
    section.finish();
    (keep, kafka)
}

fn heartbeat(section: &Section<'_>) -> Option<Heartbeat> {
    let url = section.must("url", "write the address that expects a sign of life: url: https://watch.example/ping/...", values::url);
    let range = Duration::from_secs(1)..=Duration::from_secs(3600);
    let interval = section.or("interval", Duration::from_secs(60), values::duration_in(range));
    let post = section.or("method", true, values::one_of(&[("post", true), ("get", false)]));
    section.finish();
    Some(Heartbeat { url: url?, interval, post })
}

/// Reads what stands below `config:`; problems with the lines on which it stands.
fn content(node: &Node<'_>, alerting: &mut Alerting) -> Result<(), Vec<Problem>> {
    alerting.text = settings::lines_of(node.tree());
    let placed = |mut problem: Problem| {
        let mut lines = Vec::new();
        super::lines(node.tree(), String::new(), &mut lines);
        let line = lines.iter().find(|(key, _)| *key == problem.key).map(|(_, line)| *line);
        problem.line = line.unwrap_or(node.line());
        problem.key = format!("{}.{}", node.key(), problem.key);
        problem
    };
    let routing = routing::parse(&alerting.text).map_err(|problems| problems.into_iter().map(placed).collect::<Vec<_>>())?;
    alerting.routing = Some(Arc::new(routing));
    Ok(())
}

/// Settings in which the content of the file stands in the place of its name.
pub fn with_content(settings: &str, content: &str) -> Result<String, Vec<Problem>> {
    let content = tree::parse_foreign(content).map_err(super::broken)?;
    let mut all = super::tree_of(settings)?;
    let is = |key: &Tree, name: &str| matches!(&key.value, Value::Scalar(text) if text == name);
    if let Value::Pairs(sections) = &mut all.value
        && let Some((_, section)) = sections.iter_mut().find(|(key, _)| is(key, "alerting"))
        && let Value::Pairs(pairs) = &mut section.value
        && let Some((key, value)) = pairs.iter_mut().find(|(key, _)| is(key, "file"))
    {
        (key.value, *value) = (Value::Scalar("config".to_owned()), content);
    }
    Ok(settings::of_file(&all))
}

/// The file that settings name, if they do.
pub fn named(settings: &str) -> Option<PathBuf> {
    let tree = super::tree_of(settings).ok()?;
    let problems = Problems::default();
    let section = Node::root(&tree, &problems).section_if_any()?.below("alerting")?;
    let file = section.get("file")?;
    file.is_single().then(|| file.text().map(PathBuf::from)).flatten()
}

/// Kinds of receivers that Alertmanager does not know.
const OWN: [&str; 4] = ["alert_center_configs:", "wecom_configs:", "dingtalk_configs:", "feishu_configs:"];

/// The content without what Alertmanager's tools, which read it, would refuse.
fn foreign(text: &str) -> String {
    let mut out = String::new();
    // Within the block of a key of this column; a key of that column begins the member of a list.
    let (mut within, mut begins) = (None, None);
    for line in text.lines() {
        let rest = line.trim_start_matches(' ');
        let (spaces, key) = (line.len() - rest.len(), rest.strip_prefix("- ").unwrap_or(rest));
        let (is_member, column) = (key.len() < rest.len(), line.len() - key.len());
        if within.is_some_and(|column| spaces > column) {
            continue;
        }
        within = OWN.contains(&key).then_some(column);
        if within.is_some() {
            begins = begins.or(is_member.then_some(column));
            continue;
        }
        match begins.take() == Some(column) && !is_member {
            true => out.push_str(&format!("{}- {key}\n", " ".repeat(column.saturating_sub(2)))),
            false => out.push_str(&format!("{line}\n")),
        }
    }
    out
}

/// The content for everybody's eyes, and for Alertmanager's tools: secrets as it hides them.
pub fn shown(text: &str) -> String {
    let line = |line: &str| match line.split_once(": ") {
        // Where alerts are posted is often all that is needed to post there. A URL stays one: amtool before 0.26 takes nothing else.
        Some((key, _)) if key.trim_start_matches([' ', '-']) == "url" => format!("{key}: http://secret.invalid/\n"),
        _ => settings::line_without_secret(line, "<secret>") + "\n",
    };
    foreign(text).lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const HEAD: &str = "data_dir: /x\nsinks: []\nalerting:\n";

    #[test]
    fn the_content_stands_in_the_settings_whichever_way_it_was_written() {
        let content = "x: &x { receiver: web }\nroute: { <<: *x, group_wait: 5s }\nreceivers:\n- { name: web, webhook_configs: [ { url: 'http://h/' } ] }\n";
        let content = content.replace("x: &x { receiver: web }\n", "").replace("<<: *x", "receiver: web");
        let from_file = Config::parse(&format!("{HEAD}  external_url: http://s:9201\n  file: alertmanager.yml\n")).unwrap();
        let written = with_content(&from_file.settings, &content).unwrap();
        let read = settings::parse(&written).unwrap().alerting.unwrap();
        assert_eq!(read.routing.unwrap().route.receiver.as_deref(), Some("web"));
        let below: String = content.lines().map(|line| format!("    {line}\n")).collect();
        let inline = Config::parse(&format!("{HEAD}  external_url: http://s:9201\n  config:\n{below}")).unwrap();
        assert_eq!(inline.settings, written);
        assert_eq!(with_content(&written, "a: b").unwrap(), written, "there is no file any more");
        assert_eq!(routing::parse(&read.text).unwrap().receivers[0].name, "web");
    }

    #[test]
    fn policies_are_the_same_in_a_file_and_in_the_settings_that_are_made_of_it() {
        let text = format!(
            "# A line more.\n{HEAD}  config: {{ route: {{ receiver: a }}, receivers: [{{ name: a }}] }}\n  levels: [{{ matchers: [a=b], level: P2 }}]\n  maintenance:\n  - {{ name: w, matchers: ['a=\"b\"'], time_intervals: [{{ weekdays: [sunday] }}] }}\n"
        );
        let read = Config::parse(&text).unwrap();
        let settings = settings::parse(&read.settings).unwrap();
        assert_eq!(settings.alerting, read.alerting);
        assert_eq!(
            (read.alerting.unwrap().policies.maintenance[0].place.line, settings.alerting.unwrap().policies.levels[0].level),
            (8, 2)
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let told = |text: &str| Config::parse(text).unwrap_err().remove(0).to_string();
        assert!(told(HEAD).contains("alerting.file"));
        let wrong = format!("{HEAD}  config:\n    route: {{ receiver: a }}\n    recievers: []\n");
        assert!(told(&wrong).starts_with("line 6: alerting.config.recievers"), "{}", told(&wrong));
        assert!(settings::parse("alerting:\n  file: x\n").unwrap_err()[0].to_string().contains("alerting.file"));
    }

    #[test]
    fn a_heartbeat_and_how_long_the_history_is_kept() {
        let text = format!(
            "{HEAD}  file: a.yml\n  history: {{ keep: 30d, kafka: {{ brokers: [\"k:9092\"], topic: episodes }} }}\n  heartbeat: {{ url: \"https://w/x\", interval: 30s, method: get }}\n"
        );
        let read = Config::parse(&text).unwrap();
        let written = with_content(&read.settings, "route: { receiver: a }\nreceivers: [{ name: a }]\n").unwrap();
        let alerting = settings::parse(&written).unwrap().alerting.unwrap();
        assert_eq!(alerting.keep, Some(DAY * 30));
        assert_eq!(alerting.kafka.as_ref().map(|kafka| kafka.topic.as_str()), Some("episodes"));
        let expected = Heartbeat { url: "https://w/x".into(), interval: Duration::from_secs(30), post: false };
        assert_eq!(alerting.heartbeat, Some(expected));
        let told = |text: &str| Config::parse(&format!("{HEAD}  file: a\n  {text}\n")).unwrap_err().remove(0).to_string();
        assert!(
            told("history: { kafka: { brokers: [k:1], topic: 't{{x}}' } }").contains("alerting.history.kafka.topic")
                && told("history: { keep: 1h }").contains("alerting.history.keep")
                && told("heartbeat: {}").contains("alerting.heartbeat.url")
        );
    }

    #[test]
    fn what_alertmanagers_tools_would_refuse_is_left_out() {
        let text = "receivers:\n  - wecom_configs:\n      - url: x\n        to:\n          - a\n    name: a\n    feishu_configs:\n      - url: y\n  - name: b\n    slack_configs:\n      - channel: c\nroute:\n  receiver: a\n";
        let expected = "receivers:\n  - name: a\n  - name: b\n    slack_configs:\n      - channel: c\nroute:\n  receiver: a\n";
        assert_eq!(foreign(text), expected);
        assert_eq!(foreign(expected), expected);
    }

    #[test]
    fn secrets_are_hidden() {
        let text = "receivers:\n  - name: a\n    slack_configs:\n      - api_url: http://h/T0/B0\n        channel: x\n";
        assert_eq!(shown(text), text.replace("http://h/T0/B0", "<secret>"));
    }
}

//! A file of Alertmanager (`alertmanager.yml`), as it is written: routes, receivers, inhibition, time intervals.
//!
//! Keys, and what is refused of routes, inhibition and intervals, are Alertmanager's, and so are the ways of YAML that its users have (anchors, merge keys).
//! Here a file becomes plain values; what matchers and intervals mean is `alert`'s business, and what a receiver holds below its kinds stands in `receivers`.
//! Left out so far: labels of routes and of receivers.

use std::time::Duration;

use crate::config::read::Node;
use crate::config::read::Problem;
use crate::config::read::Problems;
use crate::config::read::Refusal;
use crate::config::read::Section;
use crate::config::receivers;
use crate::config::receivers::Integration;
use crate::config::receivers::global;
use crate::config::receivers::global::Global;
use crate::config::tree;
use crate::config::values;

/// `global.resolve_timeout` where it is not written.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(300);

/// Where something stands, for whoever finds it wrong later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// The full key.
    pub key: String,
}

/// One entry of `matchers`, `match` or `match_re`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Where it stands.
    pub place: Place,
    /// How it is written.
    pub written: Written,
}

/// The three ways to write conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// `matchers: [ 'a="b"' ]`: may hold several.
    Matchers(String),
    /// `match: { a: b }`
    Equal(String, String),
    /// `match_re: { a: b.* }`
    Matches(String, String),
}

/// A route as written; what it does not say it has from its parent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Where it stands.
    pub place: Place,
    /// Whom its alerts go to.
    pub receiver: Option<String>,
    /// What it takes.
    pub conditions: Vec<Condition>,
    /// Labels that make a group; `...`: all of them.
    pub group_by: Option<Vec<String>>,
    /// How long a new group gathers.
    pub group_wait: Option<Duration>,
    /// How long a group waits before it tells what is new.
    pub group_interval: Option<Duration>,
    /// How long until what was told is told again.
    pub repeat_interval: Option<Duration>,
    /// Routes after this one are looked at, too.
    pub goes_on: bool,
    /// When its alerts are not told.
    pub mute: Vec<String>,
    /// When alone they are.
    pub active: Vec<String>,
    /// Routes below.
    pub routes: Vec<Route>,
}

/// A receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Where it stands.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// How it is told, each by itself.
    pub integrations: Vec<Integration>,
}

/// A rule of inhibition as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inhibition {
    /// Where it stands.
    pub place: Place,
    /// What inhibits.
    pub source: Vec<Condition>,
    /// What is inhibited.
    pub target: Vec<Condition>,
    /// Labels that must be equal.
    pub equal: Vec<String>,
}

/// A named list of intervals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intervals {
    /// Where it stands.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// One of them must hold.
    pub intervals: Vec<Interval>,
}

/// One interval as written: all of its fields must hold, of each field one item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// Where it stands.
    pub place: Place,
    /// `start_time` and `end_time`.
    pub times: Vec<(String, String)>,
    /// `monday:friday`
    pub weekdays: Vec<String>,
    /// `1:7`, `-3:-1`
    pub days_of_month: Vec<String>,
    /// `january:march`, `1:3`
    pub months: Vec<String>,
    /// `2026:2027`
    pub years: Vec<String>,
    /// A zone by name.
    pub location: Option<String>,
}

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// The root.
    pub route: Route,
    /// In the file's order.
    pub receivers: Vec<Receiver>,
    /// In the file's order.
    pub inhibitions: Vec<Inhibition>,
    /// Of `time_intervals` and `mute_time_intervals`.
    pub intervals: Vec<Intervals>,
    /// Files of templates.
    pub templates: Vec<String>,
    /// How long an alert holds after its last word, where its source does not say.
    pub resolve_timeout: Duration,
}

/// Reads a file, or says everything that is wrong with it.
pub fn parse(text: &str) -> Result<Routing, Vec<Problem>> {
    let tree = tree::parse_foreign(text).map_err(super::broken)?;
    let problems = Problems::default();
    let top = Node::root(&tree, &problems).section();
    let routing = file(&top);
    top.finish();
    match (routing, problems.take()) {
        (Some(routing), problems) if problems.is_empty() => Ok(routing),
        (_, problems) => Err(problems),
    }
}

fn file(top: &Section<'_>) -> Option<Routing> {
    let global = top.below("global").map(|section| (section.opt("resolve_timeout", span), global::read(section)));
    let (resolve_timeout, global) = global.unwrap_or_default();
    let resolve_timeout = resolve_timeout.unwrap_or(RESOLVE_TIMEOUT);
    // Of `tracing` and `event_recorder` nothing is taken over: sluice has its own.
    let _ = (top.get("tracing"), top.get("event_recorder"));
    let receivers =
        top.get("receivers").map(|node| node.list().iter().filter_map(|node| receiver(node, &global)).collect()).unwrap_or_default();
    let inhibitions = top.get("inhibit_rules").map(|node| node.list().iter().map(inhibition).collect()).unwrap_or_default();
    let named = ["time_intervals", "mute_time_intervals"].into_iter().filter_map(|key| top.get(key));
    let intervals = named.flat_map(|node| node.list()).filter_map(|node| intervals(&node)).collect();
    let templates = top.get("templates").map(|node| texts(&node)).unwrap_or_default();
    let route = match top.get("route") {
        Some(node) => Some(route(&node)),
        None => {
            top.missing("route", "no route provided in config: write at least `route: { receiver: NAME }`");
            None
        }
    };
    Some(Routing { route: route?, receivers, inhibitions, intervals, templates, resolve_timeout })
}

fn place(node: &Node<'_>) -> Place {
    Place { line: node.line(), key: node.key().to_owned() }
}

fn texts(node: &Node<'_>) -> Vec<String> {
    node.list().iter().filter_map(|item| item.text().map(str::to_owned)).collect()
}

fn listed(section: &Section<'_>, key: &'static str) -> Vec<String> {
    section.get(key).map(|node| texts(&node)).unwrap_or_default()
}

/// A time span as Prometheus writes it; `0` needs no unit.
fn span(text: &str) -> Result<Duration, Refusal> {
    if text == "0" { Ok(Duration::ZERO) } else { values::duration(text) }
}

fn above_zero(text: &str) -> Result<Duration, Refusal> {
    match span(text)? {
        Duration::ZERO => Err(("cannot be zero".into(), "write a time span, for example 5m".into())),
        span => Ok(span),
    }
}

fn route(node: &Node<'_>) -> Route {
    let section = node.section();
    let _ = section.get("labels");
    let route = Route {
        place: place(node),
        receiver: section.get("receiver").filter(|node| !node.is_empty()).and_then(|node| node.value(values::text)),
        conditions: conditions(&section, ["matchers", "match", "match_re"]),
        group_by: section.get("group_by").map(|node| texts(&node)),
        group_wait: section.opt("group_wait", span),
        group_interval: section.opt("group_interval", above_zero),
        repeat_interval: section.opt("repeat_interval", above_zero),
        goes_on: section.or("continue", false, values::switch),
        mute: listed(&section, "mute_time_intervals"),
        active: listed(&section, "active_time_intervals"),
        routes: section.get("routes").map(|node| node.list().iter().map(self::route).collect()).unwrap_or_default(),
    };
    section.finish();
    route
}

/// A single value, the empty one included.
fn single(node: &Node<'_>) -> Option<String> {
    if node.is_empty() { Some(String::new()) } else { node.text().map(str::to_owned) }
}

fn conditions(section: &Section<'_>, [matchers, equal, matches]: [&'static str; 3]) -> Vec<Condition> {
    let mut all = Vec::new();
    for node in section.get(matchers).map(|node| node.list()).unwrap_or_default() {
        if let Some(text) = node.text() {
            all.push(Condition { place: place(&node), written: Written::Matchers(text.to_owned()) });
        }
    }
    for (key, written) in [(equal, Written::Equal as fn(String, String) -> Written), (matches, Written::Matches)] {
        let Some(below) = section.below(key) else { continue };
        for (name, node) in below.pairs() {
            if let Some(value) = single(node) {
                all.push(Condition { place: place(node), written: written(name.to_owned(), value) });
            }
        }
    }
    all
}

fn receiver(node: &Node<'_>, global: &Global) -> Option<Receiver> {
    let section = node.section();
    let name = section.must("name", "missing name in receiver: write `name: ...`", values::text);
    let _ = section.get("labels");
    let integrations = receivers::read(&section, global);
    section.finish();
    Some(Receiver { place: place(node), name: name?, integrations })
}

fn inhibition(node: &Node<'_>) -> Inhibition {
    let section = node.section();
    let _ = section.get("name");
    let rule = Inhibition {
        place: place(node),
        source: conditions(&section, ["source_matchers", "source_match", "source_match_re"]),
        target: conditions(&section, ["target_matchers", "target_match", "target_match_re"]),
        equal: listed(&section, "equal"),
    };
    section.finish();
    rule
}

fn intervals(node: &Node<'_>) -> Option<Intervals> {
    let section = node.section();
    let name = section.must("name", "missing name in time interval: write `name: ...`", values::text);
    let intervals = section.get("time_intervals").map(|node| node.list().iter().map(interval).collect()).unwrap_or_default();
    section.finish();
    Some(Intervals { place: place(node), name: name?, intervals })
}

pub(super) fn interval(node: &Node<'_>) -> Interval {
    let section = node.section();
    let times = section.get("times").map(|node| node.list()).unwrap_or_default();
    let time = |node: &Node<'_>| {
        let section = node.section();
        let both = [
            section.must("start_time", "write a time of day: start_time: 09:00", values::text),
            section.must("end_time", "write a time of day: end_time: 17:00", values::text),
        ];
        section.finish();
        let [start, end] = both;
        start.zip(end)
    };
    let interval = Interval {
        place: place(node),
        times: times.iter().filter_map(time).collect(),
        weekdays: listed(&section, "weekdays"),
        days_of_month: listed(&section, "days_of_month"),
        months: listed(&section, "months"),
        years: listed(&section, "years"),
        location: section.opt("location", values::text),
    };
    section.finish();
    interval
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
global: { resolve_timeout: 10m, smtp_smarthost: 'localhost:25' }
templates: ['/etc/alertmanager/*.tmpl']
route:
  receiver: default
  group_by: [alertname]
  repeat_interval: 1h30m
  routes:
    - &db
      matchers: ['team="db"', severity=~"critical|page"]
      receiver: db
      continue: true
      mute_time_intervals: [weekends]
    - <<: *db
      receiver: web
      match: { team: web, empty: }
receivers:
  - name: default
    webhook_configs: [{ url: 'http://a/' }, { url: 'http://b/' }]
  - name: db
    slack_configs:
      - channel: '#db'
        api_url: 'http://slack/'
        title: '{{ .CommonLabels.alertname }}'
        fields: [{ title: x, value: '{{ .Status }}' }]
  - name: web
inhibit_rules:
  - { source_matchers: ['severity="critical"'], target_match_re: { severity: warn.* }, equal: [cluster] }
time_intervals:
  - name: weekends
    time_intervals:
      - { weekdays: ['saturday', 'sunday'], times: [{ start_time: '09:00', end_time: '17:00' }], location: Europe/Berlin }
"#;

    #[test]
    fn a_file_of_alertmanager_is_read_as_it_is() {
        let read = parse(FILE).unwrap();
        assert_eq!((read.route.repeat_interval, read.resolve_timeout), (Some(Duration::from_secs(5400)), Duration::from_secs(600)));
        let [db, web] = read.route.routes.as_slice() else { panic!("{:?}", read.route) };
        assert_eq!((db.conditions.len(), db.goes_on, db.mute.as_slice()), (2, true, ["weekends".to_owned()].as_slice()));
        // What stands beside a merge key wins over it.
        assert_eq!((web.receiver.as_deref(), web.goes_on, web.conditions.len()), (Some("web"), true, 4));
        assert_eq!(web.conditions[3].written, Written::Equal("empty".into(), String::new()));
        let texts = read.receivers[1].integrations[0].kind.texts();
        let keys: Vec<&str> = texts.iter().map(|text| text.place.key.as_str()).filter(|key| !key.ends_with("fields[0].title")).collect();
        let slack = "receivers[1].slack_configs[0]";
        assert_eq!(keys, ["channel", "title", "fields[0].value"].map(|key| format!("{slack}.{key}")));
        assert_eq!(read.inhibitions[0].target[0].written, Written::Matches("severity".into(), "warn.*".into()));
        assert_eq!(read.intervals[0].intervals[0].times, [("09:00".to_owned(), "17:00".to_owned())]);
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let wrong = "route:\n  recevier: a\n  group_interval: 0s\n  routes: [{ continue: maybe }]\nreceivers:\n  - webhok_configs: []\n";
        let keys: Vec<String> = parse(wrong).unwrap_err().into_iter().map(|problem| problem.key).collect();
        assert_eq!(
            keys,
            ["route.recevier", "route.group_interval", "route.routes[0].continue", "receivers[0].name", "receivers[0].webhok_configs"]
        );
        assert!(parse("receivers: []\n").unwrap_err()[0].remedy.starts_with("no route provided in config"));
    }

    #[test]
    fn aliases_cannot_grow_without_end() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for step in 1..12 {
            let item = format!("*a{}", step - 1);
            text.push_str(&format!("a{step}: &a{step} [{}]\n", [item.as_str(); 10].join(", ")));
        }
        assert!(parse(&text).unwrap_err()[0].rule.contains("too large"));
        assert!(parse("a: &a [*a]\n").unwrap_err()[0].rule.contains("within what it names"));
    }
}

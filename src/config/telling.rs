//! `alerting.escalation`, `throttle`, `bundle` and `storm`: who is told besides when nobody takes care, and how much a receiver is told at most.
//!
//! Here the keys become plain values. What needs the routes (whether a receiver is there, what a matcher means) is judged where they are known (`alert::telling`).

use std::time::Duration;

use crate::config::read::Node;
use crate::config::read::Refusal;
use crate::config::read::Section;
use crate::config::routing::Place;
use crate::config::values;

const DAY: Duration = Duration::from_secs(86_400);
/// Rules, throttles and such, of each kind.
const MOST: usize = 100;
/// Steps of a policy; windows of a throttle.
const MOST_BELOW: usize = 20;
/// Messages of a throttle's window: times of so many are kept of each target (`alert::spent`).
pub const MOST_MESSAGES: u64 = 600;

/// All four.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Telling {
    /// In the file's order: the first that fits an alert counts.
    pub escalation: Vec<Policy>,
    /// How much a receiver is told.
    pub throttle: Vec<Throttle>,
    /// What is told together.
    pub bundle: Vec<Bundle>,
    /// When one message stands for very many.
    pub storm: Vec<Storm>,
}

/// A name or a matcher, and where it stands: the same text is the same, whichever file or version of the settings it stands in.
#[derive(Clone, Debug, Default, Eq)]
pub struct Named {
    /// Where it stands.
    pub place: Place,
    /// What stands there.
    pub text: String,
}

impl PartialEq for Named {
    fn eq(&self, other: &Named) -> bool {
        self.text == other.text
    }
}

/// Who is told besides, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Steps are known by it.
    pub name: String,
    /// Alerts that routes lead to these; none: to any.
    pub receivers: Vec<Named>,
    /// What alerts must match.
    pub matchers: Vec<Named>,
    /// Their levels, 1 to 5; none: any.
    pub levels: Vec<u8>,
    /// In the file's order.
    pub steps: Vec<Step>,
}

/// One more who is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// So long after the alert was first told to anybody.
    pub after: Duration,
    /// Who.
    pub receiver: Named,
    /// Told again after this; else as the route says.
    pub repeat: Option<Duration>,
}

/// How much a receiver is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Throttle {
    /// Each of their integrations by itself.
    pub receivers: Vec<Named>,
    /// All of them hold.
    pub windows: Vec<(u64, Duration)>,
    /// Levels that are told whatever was told before.
    pub pass: Vec<u8>,
}

/// What is told together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    /// Each of their integrations by itself.
    pub receivers: Vec<Named>,
    /// From the first of them on.
    pub within: Duration,
}

/// When one message stands for very many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Storm {
    /// Each by itself.
    pub receivers: Vec<Named>,
    /// More new alerts than this,
    pub alerts: u64,
    /// within this, are a storm,
    pub within: Duration,
    /// until there were not for so long.
    pub calm: Duration,
    /// Levels that are told one by one all the same.
    pub pass: Vec<u8>,
}

/// Reads the four keys of the section.
pub fn read(section: &Section<'_>) -> Telling {
    let telling = Telling {
        escalation: listed(section, "escalation", policy),
        throttle: listed(section, "throttle", throttle),
        bundle: listed(section, "bundle", bundle),
        storm: listed(section, "storm", storm),
    };
    if let Some(list) = section.get("escalation") {
        for (number, node) in list.list().iter().enumerate() {
            let name = telling.escalation.get(number).map(|policy| policy.name.as_str()).unwrap_or_default();
            if !name.is_empty() && telling.escalation.iter().take(number).any(|known| known.name == name) {
                node.complain("has a name that stands here twice", "give it another name: steps are known by it");
            }
        }
    }
    telling
}

fn bounded<'a>(section: &Section<'a>, key: &'static str, most: usize) -> Vec<Node<'a>> {
    let Some(node) = section.get(key) else { return Vec::new() };
    let all = node.list();
    if all.len() > most {
        node.complain(format!("holds {} entries", all.len()), format!("write {most} at most"));
    }
    all
}

fn listed<T>(section: &Section<'_>, key: &'static str, one: impl Fn(&Section<'_>) -> T) -> Vec<T> {
    let read = |node: &Node<'_>| {
        let section = node.section();
        let one = one(&section);
        section.finish();
        one
    };
    bounded(section, key, MOST).iter().map(read).collect()
}

fn place(node: &Node<'_>) -> Place {
    Place { line: node.line(), key: node.key().to_owned() }
}

fn names(section: &Section<'_>, key: &'static str) -> Vec<Named> {
    let all = bounded(section, key, MOST);
    all.iter().filter_map(|node| Some(Named { place: place(node), text: node.value(values::text)? })).collect()
}

fn is_missing(section: &Section<'_>, key: &'static str) -> bool {
    section.get(key).is_none_or(|node| node.is_empty() || node.is_list() && node.list().is_empty())
}

/// Whose it is: at least one must be named.
fn receivers(section: &Section<'_>) -> Vec<Named> {
    let names = names(section, "receivers");
    if names.is_empty() {
        section.missing("receivers", "write whom it is about: receivers: [chat]");
    }
    names
}

fn level(text: &str) -> Result<u8, Refusal> {
    let number = text.strip_prefix(['P', 'p']).and_then(|number| number.parse().ok()).filter(|level| (1..=5).contains(level));
    number.ok_or_else(|| ("must be a level: P1 to P5".into(), "P1 is the worst, for example [P1, P2]".into()))
}

fn levels(section: &Section<'_>, key: &'static str) -> Option<Vec<u8>> {
    Some(section.get(key)?.list().iter().filter_map(|node| node.value(level)).collect())
}

fn policy(section: &Section<'_>) -> Policy {
    let steps: Vec<Step> = bounded(section, "steps", MOST_BELOW).iter().filter_map(step).collect();
    if is_missing(section, "steps") {
        section.missing("steps", "write who is told, and when: steps: [{ after: 15m, receiver: second-line }]");
    }
    Policy {
        name: section.must("name", "write a name: name: oncall", values::name).unwrap_or_default(),
        receivers: names(section, "receivers"),
        matchers: names(section, "matchers"),
        levels: levels(section, "levels").unwrap_or_default(),
        steps,
    }
}

fn step(node: &Node<'_>) -> Option<Step> {
    let section = node.section();
    let after =
        section.must("after", "write how long nobody may take care: after: 15m", values::duration_in(Duration::from_secs(1)..=DAY * 7));
    let receiver = section.must("receiver", "write who is told then: receiver: second-line", values::text);
    let at = section.get("receiver").map(|node| place(&node)).unwrap_or_default();
    let repeat = section.opt("repeat", values::duration_in(Duration::from_secs(1)..=DAY * 7));
    section.finish();
    Some(Step { after: after?, receiver: Named { place: at, text: receiver? }, repeat })
}

fn throttle(section: &Section<'_>) -> Throttle {
    let window = |node: &Node<'_>| {
        let section = node.section();
        let messages = section.must("messages", "write how many: messages: 10", values::number(1..=MOST_MESSAGES));
        let per = section.must("per", "write in what time: per: 1m", values::duration_in(Duration::from_secs(1)..=DAY));
        section.finish();
        messages.zip(per)
    };
    let windows = bounded(section, "windows", MOST_BELOW).iter().filter_map(window).collect();
    if is_missing(section, "windows") {
        section.missing("windows", "write how much: windows: [{ messages: 10, per: 1m }, { messages: 60, per: 1h }]");
    }
    Throttle { receivers: receivers(section), windows, pass: levels(section, "pass").unwrap_or(vec![1]) }
}

fn bundle(section: &Section<'_>) -> Bundle {
    let range = Duration::from_millis(100)..=Duration::from_secs(60);
    Bundle { receivers: receivers(section), within: section.or("within", Duration::from_secs(5), values::duration_in(range)) }
}

fn storm(section: &Section<'_>) -> Storm {
    let alerts = section.must("alerts", "write how many new alerts are a storm: alerts: 50", values::number(2..=100_000));
    // Alerts that are over are forgotten after 20 minutes, and a storm is reckoned from those that are there.
    Storm {
        receivers: receivers(section),
        alerts: alerts.unwrap_or_default(),
        within: section.or("within", Duration::from_secs(60), values::duration_in(Duration::from_secs(1)..=Duration::from_secs(600))),
        calm: section.or("calm", Duration::from_secs(300), values::duration_in(Duration::from_secs(1)..=Duration::from_secs(600))),
        pass: levels(section, "pass").unwrap_or(vec![1]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn told(below: &str) -> Result<Telling, Vec<String>> {
        let text = format!("data_dir: /x\nsinks: []\nalerting:\n  file: a.yml\n{below}");
        let all =
            Config::parse(&text).map_err(|problems| problems.iter().map(|one| format!("{} {}", one.key, one.rule)).collect::<Vec<_>>())?;
        Ok(all.alerting.unwrap().telling)
    }

    #[test]
    fn all_four_are_read_and_off_where_nothing_is_written() {
        assert_eq!(told(""), Ok(Telling::default()));
        let read = told(
            "  escalation:\n  - name: oncall\n    receivers: [db]\n    matchers: ['team=\"db\"']\n    levels: [P1, p2]\n    steps: [{ after: 15m, receiver: second }, { after: 1h, receiver: boss, repeat: 30m }]\n  \
             throttle: [{ receivers: [chat], windows: [{ messages: 10, per: 1m }, { messages: 60, per: 1h }] }]\n  \
             bundle: [{ receivers: [chat] }]\n  storm: [{ receivers: [chat], alerts: 50, pass: [] }]\n",
        );
        let read = read.unwrap();
        let policy = &read.escalation[0];
        assert_eq!(
            (policy.levels.as_slice(), policy.steps[1].repeat, policy.steps[0].receiver.text.as_str()),
            ([1, 2].as_slice(), Some(HOUR / 2), "second")
        );
        assert_eq!((read.throttle[0].windows[1], read.throttle[0].pass.as_slice()), ((60, HOUR), [1].as_slice()));
        assert_eq!((read.bundle[0].within, read.storm[0].calm, read.storm[0].pass.len()), (Duration::from_secs(5), HOUR / 12, 0));
    }

    #[test]
    fn it_is_the_same_wherever_it_stands() {
        let text = "  bundle: [{ receivers: [chat] }]\n  escalation: [{ name: a, receivers: [x], steps: [{ after: 1m, receiver: y }] }]\n";
        let lower = told(&format!("  external_url: http://x:1\n{text}")).unwrap();
        assert_eq!(told(text).unwrap(), lower);
        assert_ne!(told(&text.replace("chat", "mail")).unwrap(), lower);
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let wrong = told(
            "  escalation: [{ name: a, levels: [P6], steps: [{ after: 0s, reciever: x }] }, { name: a }]\n  \
             throttle: [{ windows: [{ messages: 0 }] }]\n  bundle: [{ receivers: [x], within: 5m }]\n  storm: [{ receivers: [x] }]\n",
        );
        let mut keys: Vec<String> = wrong.unwrap_err().iter().map(|one| one.split(' ').next().unwrap_or_default().to_owned()).collect();
        keys.sort();
        let expected = [
            "alerting.bundle[0].within",
            "alerting.escalation[0].levels[0]",
            "alerting.escalation[0].steps[0].after",
            "alerting.escalation[0].steps[0].receiver",
            "alerting.escalation[0].steps[0].reciever",
            "alerting.escalation[1]",
            "alerting.escalation[1].steps",
            "alerting.storm[0].alerts",
            "alerting.throttle[0].receivers",
            "alerting.throttle[0].windows[0].messages",
            "alerting.throttle[0].windows[0].per",
        ];
        assert_eq!(keys, expected);
    }
}

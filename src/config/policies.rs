//! `alerting`'s policies: how bad alerts are (`levels`), and which of them are told later, once, or not at all (`maintenance`, `recovery`, `flapping`,
//! `transient`), and after how long one is over that nobody says again (`stale`). None of them does anything unless it is written.
//!
//! Read as written; what matchers and intervals mean, and what that comes to, is `alert`'s business (`alert::policy`, `alert::maintenance`).

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::jobs;
use crate::config::read::Node;
use crate::config::read::Problem;
use crate::config::read::Problems;
use crate::config::read::Refusal;
use crate::config::read::Section;
use crate::config::routing;
use crate::config::routing::Interval;
use crate::config::routing::Place;
use crate::config::settings;
use crate::config::telling;
use crate::config::telling::Telling;
use crate::config::values;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// Rules of one kind. Every alert that comes is held against all of them, on every node.
pub const MOST: usize = 100;

const KEYS: [&str; 6] = ["levels", "maintenance", "recovery", "flapping", "transient", "stale"];

/// Which alerts a rule is for: all texts must fit; none: all alerts.
pub type Matching = Vec<(Place, String)>;

/// Everything that is written.
#[derive(Clone, Debug, Default, Eq)]
pub struct Policies {
    /// As it is written, a key a line.
    text: String,
    /// The first that fits says how bad an alert is.
    pub levels: Vec<Level>,
    /// Work that is planned.
    pub maintenance: Vec<Maintenance>,
    /// The first that fits says how long an end is watched before it is told.
    pub recovery: Vec<Recovery>,
    /// The first that fits says what flapping is.
    pub flapping: Vec<Flapping>,
    /// The first that fits says which alerts wait whether they end by themselves.
    pub transient: Vec<Transient>,
    /// An alert that is posted holds so long unless it is said again, whatever its source says.
    pub stale: Option<Duration>,
}

/// Two are the same that say the same, on whatever lines of their files.
impl PartialEq for Policies {
    fn eq(&self, other: &Policies) -> bool {
        self.text == other.text
    }
}

/// How bad some alerts are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// Which.
    pub matchers: Matching,
    /// 1 (the worst) to 5.
    pub level: u8,
}

/// What a window does to alerts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// None is told while it lasts.
    #[default]
    Suppress,
    /// What begins within it is told when it is over, if it still holds.
    DecideAfter,
}

/// A window of maintenance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maintenance {
    /// Where it stands.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// Which alerts.
    pub matchers: Matching,
    /// When, again and again,
    pub intervals: Vec<Interval>,
    /// or once: from and to, as written.
    pub once: Option<(String, String)>,
    /// What it does.
    pub mode: Mode,
}

/// How long an end is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Which alerts.
    pub matchers: Matching,
    /// So long.
    pub observe: Duration,
}

/// What flapping is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flapping {
    /// Which alerts.
    pub matchers: Matching,
    /// So many beginnings and ends
    pub changes: u64,
    /// within so long,
    pub within: Duration,
    /// until there was none for so long.
    pub calm: Duration,
}

/// Which alerts wait whether they end by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transient {
    /// Which alerts.
    pub matchers: Matching,
    /// An episode is short that ends by itself within this.
    pub within: Duration,
    /// So many of a hundred must have been short,
    pub share: u8,
    /// of so many, at least.
    pub least: u64,
    /// It is waited until so many of a hundred short ones are over,
    pub percentile: u8,
    /// and no longer than this.
    pub most: Duration,
}

/// Reads the keys that stand beside `file`.
pub fn read(section: &Section<'_>) -> Policies {
    let written = KEYS.iter().filter_map(|key| Some(format!("{key}:\n{}", settings::lines_of(section.get(key)?.tree()))));
    let policies = Policies {
        text: written.collect(),
        levels: rules(section.get("levels"), level),
        maintenance: rules(section.get("maintenance"), maintenance),
        recovery: rules(section.get("recovery"), recovery),
        flapping: rules(section.get("flapping"), flapping),
        transient: rules(section.get("transient"), transient),
        stale: section.below("stale").and_then(|stale| {
            let after = stale.must("after", "write how long an alert holds that is not said again: after: 15m", span(MINUTE..=24 * HOUR));
            stale.finish();
            after
        }),
    };
    if let Some(node) = section.get("maintenance") {
        for (number, one) in policies.maintenance.iter().enumerate() {
            if policies.maintenance.iter().take(number).any(|known| known.name == one.name) && !one.name.is_empty() {
                node.complain_unshown(format!("has {} twice", one.name), "give each window a name of its own");
            }
        }
    }
    policies
}

/// Policies as a text of their own: as they stand below `alerting:`, or with it, and then whatever else stands there and beside it is not looked at.
pub fn of_text(text: &str) -> Result<(Policies, Telling), Vec<Problem>> {
    let (tree, problems) = (super::tree_of(text)?, Problems::default());
    let top = Node::root(&tree, &problems).section();
    let both = |section: &Section<'_>| (read(section), telling::read(section));
    let policies = match top.below("alerting") {
        Some(section) => both(&section),
        None => {
            let policies = both(&top);
            top.finish();
            policies
        }
    };
    let problems = problems.take();
    if problems.is_empty() { Ok(policies) } else { Err(problems) }
}

/// A list of rules, or one that stands alone.
fn rules<T>(node: Option<Node<'_>>, one: impl Fn(&Section<'_>, Place) -> T) -> Vec<T> {
    let Some(node) = node else { return Vec::new() };
    let nodes = if node.is_list() { node.list() } else { vec![node] };
    if let Some(beyond) = nodes.get(MOST) {
        beyond.complain_unshown(format!("is one of more than {MOST} rules"), "let one rule say what several say: team=~\"a|b\"");
    }
    let read = |node: &Node<'_>| {
        let section = node.section();
        let read = one(&section, Place { line: node.line(), key: node.key().to_owned() });
        section.finish();
        read
    };
    nodes.iter().take(MOST).map(read).collect()
}

fn matchers(section: &Section<'_>) -> Matching {
    let all = section.get("matchers").map(|node| node.list()).unwrap_or_default();
    let one = |node: &Node<'_>| Some((Place { line: node.line(), key: node.key().to_owned() }, node.text()?.to_owned()));
    all.iter().filter_map(one).collect()
}

fn span(range: RangeInclusive<Duration>) -> impl FnOnce(&str) -> Result<Duration, Refusal> {
    values::duration_in(range)
}

/// `80%`, in a range.
fn share(range: RangeInclusive<u8>) -> impl FnOnce(&str) -> Result<u8, Refusal> {
    move |text| {
        let read = text.strip_suffix('%').and_then(|digits| digits.trim().parse().ok()).filter(|share| range.contains(share));
        read.ok_or_else(|| (format!("must be {}% to {}%", range.start(), range.end()), "for example 80%".to_owned()))
    }
}

fn level(section: &Section<'_>, _: Place) -> Level {
    let matchers = matchers(section);
    let level = section.must("level", "write how bad these alerts are: level: P2", jobs::level);
    Level { matchers, level: level.unwrap_or(3) }
}

fn maintenance(section: &Section<'_>, place: Place) -> Maintenance {
    let name = section.must("name", "write a name, by which people see what keeps alerts back", values::name);
    let matchers = matchers(section);
    let intervals = section.get("time_intervals").map(|node| node.list().iter().map(routing::interval).collect::<Vec<_>>());
    let (from, to) = (section.opt("from", values::text), section.opt("to", values::text));
    let mode = section.or("mode", Mode::Suppress, values::one_of(&[("suppress", Mode::Suppress), ("decide_after", Mode::DecideAfter)]));
    let when = "write when: from: 2026-12-24T18:00:00Z and to: ..., or time_intervals: [{ weekdays: [saturday] }]";
    match (&intervals, &from, &to) {
        (None, None, None) => section.missing("time_intervals", when),
        (Some(all), None, None) if all.is_empty() => section.missing("time_intervals", when),
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
            section
                .node()
                .complain_unshown("says both time_intervals and from or to", "keep one of the two ways, or make two windows of it");
        }
        (None, Some(_), None) => section.missing("to", "write when it is over: to: 2026-12-24T20:00:00Z"),
        (None, None, Some(_)) => section.missing("from", "write when it begins: from: 2026-12-24T18:00:00Z"),
        _ => {}
    }
    if matchers.is_empty() {
        section.missing("matchers", "write which alerts it is for: matchers: ['cluster=\"a\"']");
    }
    Maintenance { place, name: name.unwrap_or_default(), matchers, intervals: intervals.unwrap_or_default(), once: from.zip(to), mode }
}

fn recovery(section: &Section<'_>, _: Place) -> Recovery {
    let observe = section.must("observe", "write how long an end is watched: observe: 2m", span(Duration::from_secs(1)..=HOUR));
    Recovery { matchers: matchers(section), observe: observe.unwrap_or_default() }
}

fn flapping(section: &Section<'_>, _: Place) -> Flapping {
    Flapping {
        matchers: matchers(section),
        changes: section.or("changes", 4, values::number(3..=60)),
        within: section.or("within", HOUR, span(MINUTE..=24 * HOUR)),
        calm: section.or("calm", 15 * MINUTE, span(Duration::from_secs(10)..=24 * HOUR)),
    }
}

fn transient(section: &Section<'_>, _: Place) -> Transient {
    Transient {
        matchers: matchers(section),
        within: section.or("within", 2 * MINUTE, span(Duration::from_secs(5)..=HOUR)),
        share: section.or("share", 80, share(50..=100)),
        least: section.or("least", 20, values::number(5..=500)),
        percentile: section.or("percentile", 90, share(50..=100)),
        most: section.or("max", 5 * MINUTE, span(Duration::from_secs(5)..=HOUR)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Policies, Vec<String>> {
        of_text(text)
            .map(|(policies, _)| policies)
            .map_err(|wrong| wrong.into_iter().map(|one| format!("{} {} {}", one.line, one.key, one.rule)).collect())
    }

    #[test]
    fn nothing_written_is_no_policy_and_a_rule_that_stands_alone_is_a_list_of_one() {
        assert_eq!(parse("x: y").unwrap_err(), ["1 x is no key known here"]);
        let within = parse("data_dir: /x\nalerting:\n  file: a.yml\n  recovery: { observe: 2m }\n").unwrap();
        let (same, other) = (parse("\nrecovery:\n- observe: 2m\n").unwrap(), parse("recovery: { observe: 3m }\n").unwrap());
        assert!(within == parse("recovery: { observe: 2m }\n").unwrap() && within != other && within.recovery == same.recovery);
        let read = parse("recovery: { observe: 2m }\nflapping: [{}]\ntransient: {}\nstale: { after: 10m }\n").unwrap();
        assert_eq!((read.recovery[0].observe, read.stale), (2 * MINUTE, Some(10 * MINUTE)));
        let (flapping, transient) = (&read.flapping[0], &read.transient[0]);
        assert_eq!((flapping.changes, flapping.within, flapping.calm), (4, HOUR, 15 * MINUTE));
        assert_eq!((transient.within, transient.share, transient.least), (2 * MINUTE, 80, 20));
        assert_eq!((transient.percentile, transient.most), (90, 5 * MINUTE));
    }

    #[test]
    fn levels_and_windows_are_read_as_written() {
        let text = r#"
levels:
- { matchers: ['severity="page"', team=db], level: P1 }
- { level: P4 }
maintenance:
- { name: disks, matchers: [cluster=a], from: 2026-12-24T18:00:00Z, to: 2026-12-24T20:00:00Z, mode: decide_after }
- { name: nights, matchers: [team=web], time_intervals: [{ times: [{ start_time: '01:00', end_time: '03:00' }], location: Europe/Berlin }] }
"#;
        let read = parse(text).unwrap();
        assert_eq!(read.levels.iter().map(|level| (level.matchers.len(), level.level)).collect::<Vec<_>>(), [(2, 1), (0, 4)]);
        let [disks, nights] = read.maintenance.as_slice() else { panic!("{read:?}") };
        assert_eq!((disks.mode, disks.once.as_ref().unwrap().1.as_str()), (Mode::DecideAfter, "2026-12-24T20:00:00Z"));
        assert_eq!((nights.mode, nights.intervals[0].location.as_deref()), (Mode::Suppress, Some("Europe/Berlin")));
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let text = "levels: [{ matchers: [a=b] }, { level: P6 }]\nmaintenance:\n- { name: a }\n- { name: a, matchers: [x=y], from: z, time_intervals: [] }\n- { name: b, matchers: [x=y], from: z }\nrecovery: { observe: 2h }\nflapping: { changes: 2, quiet: 1m }\ntransient: { share: 10%, max: 2h }\nstale: {}\n";
        assert_eq!(
            parse(text).unwrap_err(),
            [
                "1 levels[0].level is missing",
                "1 levels[1].level must be P1 (the worst) to P5",
                "2 maintenance has a twice",
                "3 maintenance[0].time_intervals is missing",
                "3 maintenance[0].matchers is missing",
                "4 maintenance[1] says both time_intervals and from or to",
                "5 maintenance[2].to is missing",
                "6 recovery.observe must be 1s to 1h",
                "7 flapping.changes must be 3 to 60",
                "7 flapping.quiet is no key known here",
                "8 transient.share must be 50% to 100%",
                "8 transient.max must be 5s to 1h",
                "9 stale.after is missing",
            ]
        );
    }
}

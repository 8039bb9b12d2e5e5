//! What the settings say of who is told besides (escalation) and how much a receiver is told at most (throttles, bundles, storms), as it is asked.
//!
//! Left out on purpose: what follows from it (`groups`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::alert::matcher;
use crate::alert::matcher::Matchers;
use crate::alert::route::Routing;
use crate::config::read::Problem;
use crate::config::routing as written;
use crate::config::routing::Place;
use crate::config::telling::Named;
use crate::config::telling::Telling;
use crate::model::labels::Labels;

/// All policies of telling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TellingRules {
    escalation: Vec<Policy>,
    bounds: BTreeMap<String, Bounds>,
}

/// Who is told besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: Arc<str>,
    /// Alerts led to these; none: to any.
    receivers: Vec<String>,
    matchers: Matchers,
    levels: Levels,
    /// In order; a step's number is its place, from 1.
    pub steps: Vec<Step>,
}

/// One more who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// So long after the alert was first told to anybody, ms.
    pub after: i64,
    /// Who.
    pub receiver: Arc<str>,
    /// Told again after this, ms; else as the route says.
    pub repeat: Option<i64>,
}

/// How much a receiver's integration is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// So many messages in so many ms; all of them hold.
    pub windows: Vec<(usize, i64)>,
    /// What no window holds back.
    pub pass: Levels,
    /// What is due within so many ms goes in one message.
    pub bundle: Option<i64>,
    /// When one message stands for very many.
    pub storm: Option<Storm>,
}

/// When one message stands for very many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storm {
    /// More new alerts than this,
    pub alerts: usize,
    /// in so many ms, are one,
    pub within: i64,
    /// until there were not for so many.
    pub calm: i64,
    /// What is told by itself all the same.
    pub pass: Levels,
}

/// Some of the levels 1 to 5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels(u8);

impl Levels {
    fn of(all: &[u8]) -> Levels {
        Levels(all.iter().fold(0, |bits, level| bits | 1 << level))
    }

    /// Whether a level is among them.
    pub fn has(self, level: u8) -> bool {
        self.0 & 1 << level.min(7) != 0
    }
}

fn ms(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

struct Reader<'f> {
    file: &'f written::Routing,
    problems: Vec<Problem>,
}

impl TellingRules {
    /// What is written, or all that is wrong with it.
    pub fn new(telling: &Telling, file: &written::Routing) -> Result<TellingRules, Vec<Problem>> {
        let mut reader = Reader { file, problems: Vec::new() };
        let escalation = telling.escalation.iter().map(|policy| reader.policy(policy)).collect();
        let mut bounds = BTreeMap::<String, Bounds>::new();
        for throttle in &telling.throttle {
            let windows = || throttle.windows.iter().map(|(messages, per)| (usize::try_from(*messages).unwrap_or(usize::MAX), ms(*per)));
            reader.bound(&mut bounds, &throttle.receivers, "throttle", |bounds| {
                let twice = !bounds.windows.is_empty();
                (bounds.windows, bounds.pass) = (windows().collect(), Levels::of(&throttle.pass));
                twice
            });
        }
        for bundle in &telling.bundle {
            reader.bound(&mut bounds, &bundle.receivers, "bundle", |bounds| bounds.bundle.replace(ms(bundle.within)).is_some());
        }
        for storm in &telling.storm {
            let alerts = usize::try_from(storm.alerts).unwrap_or(usize::MAX);
            let pass = Levels::of(&storm.pass);
            let read = Storm { alerts, within: ms(storm.within), calm: ms(storm.calm), pass };
            reader.bound(&mut bounds, &storm.receivers, "storm", |bounds| bounds.storm.replace(read.clone()).is_some());
        }
        reader.problems.sort_by_key(|problem| problem.line);
        if reader.problems.is_empty() { Ok(TellingRules { escalation, bounds }) } else { Err(reader.problems) }
    }

    /// The policies of escalation that may count where a route leads to a receiver, with their numbers.
    pub fn escalations(&self, receiver: &str) -> impl Iterator<Item = (usize, &Policy)> {
        self.escalation.iter().enumerate().filter(move |(_, policy)| policy.is_for(receiver))
    }

    /// Whether there is any escalation.
    pub fn escalates(&self) -> bool {
        !self.escalation.is_empty()
    }

    /// A step, by its policy's number and its own place.
    pub fn step(&self, (policy, step): (usize, usize)) -> Option<&Step> {
        self.escalation.get(policy)?.steps.get(step)
    }

    /// The policy that counts for an alert that a route leads to a receiver: the first that fits.
    pub fn escalation_of(&self, receiver: &str, labels: &Labels, level: u8) -> Option<usize> {
        let fits = |policy: &Policy| {
            policy.is_for(receiver) && (policy.levels.0 == 0 || policy.levels.has(level)) && policy.matchers.matches(labels)
        };
        self.escalation.iter().position(fits)
    }

    /// Receivers of which storms are told.
    pub fn storms(&self) -> impl Iterator<Item = &str> {
        self.bounds.iter().filter(|(_, bounds)| bounds.storm.is_some()).map(|(name, _)| name.as_str())
    }

    /// How much a receiver is told, where anything is said of it.
    pub fn bounds(&self, receiver: &str) -> Option<&Bounds> {
        self.bounds.get(receiver)
    }
}

impl Policy {
    fn is_for(&self, receiver: &str) -> bool {
        self.receivers.is_empty() || self.receivers.iter().any(|known| known == receiver)
    }
}

impl Reader<'_> {
    fn wrong(&mut self, place: &Place, value: &str, rule: String, remedy: &str) {
        self.problems.push(Problem { line: place.line, key: place.key.clone(), value: value.to_owned(), rule, remedy: remedy.to_owned() });
    }

    fn known(&mut self, Named { place, text: name }: &Named) {
        if !self.file.receivers.iter().any(|known| known.name == *name) {
            self.wrong(place, name, "is no receiver of the routes' file".to_owned(), "write it below `receivers` there, or mend its name");
        }
    }

    fn bound(&mut self, bounds: &mut BTreeMap<String, Bounds>, names: &[Named], what: &str, mut set: impl FnMut(&mut Bounds) -> bool) {
        for named in names {
            self.known(named);
            if set(bounds.entry(named.text.clone()).or_default()) {
                self.wrong(&named.place, &named.text, format!("is named in `{what}` twice"), "keep one of them");
            }
        }
    }

    fn policy(&mut self, from: &crate::config::telling::Policy) -> Policy {
        from.receivers.iter().for_each(|named| self.known(named));
        let mut matchers = Vec::new();
        for Named { place, text } in &from.matchers {
            match matcher::read(text) {
                Ok(read) => matchers.extend(read.matchers),
                Err(why) => self.wrong(place, text, why, "write name=\"value\", with =, !=, =~ or !~"),
            }
        }
        let mut steps = Vec::new();
        for step in &from.steps {
            self.known(&step.receiver);
            steps.push(Step { after: ms(step.after), receiver: step.receiver.text.as_str().into(), repeat: step.repeat.map(ms) });
        }
        Policy {
            name: from.name.as_str().into(),
            receivers: from.receivers.iter().map(|named| named.text.clone()).collect(),
            matchers: Matchers::new(matchers),
            levels: Levels::of(&from.levels),
            steps,
        }
    }
}

/// What a whole section means, or all that is wrong with it.
pub fn judge(telling: &Telling, file: &written::Routing) -> Result<(Routing, TellingRules), Vec<Problem>> {
    match (Routing::new(file), TellingRules::new(telling, file)) {
        (Ok(routing), Ok(rules)) => Ok((routing, rules)),
        (routing, rules) => Err(routing.err().into_iter().chain(rules.err()).flatten().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::message;
    use crate::config::telling;

    fn named(name: &str) -> Named {
        Named { place: Place { line: 1, key: format!("of.{name}") }, text: name.to_owned() }
    }

    fn file() -> written::Routing {
        written::parse("route: { receiver: a }\nreceivers: [{ name: a }, { name: b }]\n").unwrap()
    }

    #[test]
    fn the_first_policy_that_fits_counts() {
        let policy = |name: &str, receivers: Vec<_>, matchers: Vec<_>, levels| telling::Policy {
            name: name.to_owned(),
            receivers,
            matchers,
            levels,
            steps: vec![telling::Step { receiver: named("b"), ..telling::Step::default() }],
        };
        let escalation = vec![
            policy("db", vec![named("a")], vec![named("team=\"db\"")], vec![1, 2]),
            policy("worst", vec![], vec![], vec![1]),
            policy("rest", vec![named("b")], vec![], vec![]),
        ];
        let rules = TellingRules::new(&Telling { escalation, ..Telling::default() }, &file()).unwrap();
        let of = |receiver: &str, pairs: &[(&str, &str)]| {
            let labels = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            rules.escalation_of(receiver, &labels, message::level(&labels))
        };
        let (db, bad) = (("team", "db"), ("severity", "critical"));
        assert_eq!([of("a", &[db, bad]), of("a", &[db]), of("a", &[bad]), of("b", &[bad])], [Some(0), None, Some(1), Some(1)]);
        assert_eq!([of("b", &[db]), of("c", &[])], [Some(2), None]);
        assert_eq!(rules.escalations("a").map(|(number, _)| number).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let policy = telling::Policy { receivers: vec![named("x")], matchers: vec![named("=")], ..telling::Policy::default() };
        let bundle = |name| telling::Bundle { receivers: vec![named(name)], ..telling::Bundle::default() };
        let all = Telling { escalation: vec![policy], bundle: vec![bundle("a"), bundle("a"), bundle("y")], ..Telling::default() };
        let wrong = judge(&all, &file()).unwrap_err();
        assert_eq!(wrong.iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>(), ["of.x", "of.=", "of.a", "of.y"]);
    }
}

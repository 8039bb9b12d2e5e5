//! The tree of routes: whom an alert goes to, in which group, and what a file says of it.
//!
//! As in Alertmanager: depth first, a route's children before itself; the first child that takes an alert ends the search among its siblings unless it says
//! `continue`; what a route does not say it has from its parent, but for its matchers and intervals.

use std::fmt::Write;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::alert::inhibit::Inhibition;
use crate::alert::interval::Intervals;
use crate::alert::matcher;
use crate::alert::matcher::Matcher;
use crate::alert::matcher::Matchers;
use crate::alert::matcher::Op;
use crate::alert::quoted;
use crate::alert::sought::Sought;
use crate::alert::value;
use crate::config::read::Problem;
use crate::config::routing as written;
use crate::config::routing::Place;
use crate::model::labels::Labels;

/// Labels that make a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// These, sorted.
    Labels(Vec<String>),
    /// `...`: all, so that every alert is its own group.
    All,
}

/// A route with all that it has from its parents.
#[derive(Clone, Debug)]
pub struct Route {
    /// Which one it is, in the file's order: the root is 0.
    pub number: usize,
    /// Where it stands.
    pub place: Place,
    /// Whom its alerts go to.
    pub receiver: String,
    /// What it takes, besides what its parents take.
    pub matchers: Matchers,
    /// Which alerts are told together.
    pub group_by: GroupBy,
    /// How long a new group gathers.
    pub group_wait: Duration,
    /// How long a group waits before it tells what is new.
    pub group_interval: Duration,
    /// How long until what was told is told again.
    pub repeat_interval: Duration,
    /// Siblings behind it are looked at, too.
    pub goes_on: bool,
    /// When its alerts are not told.
    pub mute: Vec<String>,
    /// When alone they are.
    pub active: Vec<String>,
    /// Matchers of the path from the root, as Alertmanager writes them: the first half of a group's key.
    pub key: String,
    /// Below it.
    pub routes: Vec<Route>,
    /// Which of them may take an alert, where there are many.
    below: Option<Sought<usize>>,
}

/// So few are tried one by one: each is a look into the alert's labels, as the search among many is, too.
const FEW: usize = 8;

/// All that a file says of alerts' ways.
#[derive(Clone, Debug)]
pub struct Routing {
    /// The root.
    pub root: Route,
    /// In the file's order.
    pub inhibitions: Vec<Inhibition>,
    /// By name.
    pub intervals: Vec<Intervals>,
}

impl Route {
    /// The routes that take an alert, in order; the root takes every one.
    pub fn matching(&self, labels: &Labels) -> Vec<&Route> {
        let mut found = Vec::new();
        self.find(labels, &mut found);
        found
    }

    fn find<'r>(&'r self, labels: &Labels, found: &mut Vec<&'r Route>) -> bool {
        if !self.matchers.matches(labels) {
            return false;
        }
        let before = found.len();
        let ends = |child: &'r Route, found: &mut Vec<&'r Route>| child.find(labels, found) && !child.goes_on;
        match &self.below {
            None => {
                self.routes.iter().any(|child| ends(child, found));
            }
            Some(below) => {
                let mut may: Vec<usize> = below.of(labels).copied().collect();
                may.sort_unstable();
                may.into_iter().filter_map(|place| self.routes.get(place)).any(|child| ends(child, found));
            }
        }
        if found.len() == before {
            found.push(self);
        }
        true
    }

    /// A hash by which an alert's group is looked for: groups that differ may have the same one, see [`Route::is_group`].
    pub fn group_hash(&self, seed: u64, labels: &Labels) -> u64 {
        let with = |hash: u64, text: &str| xxh3_64_with_seed(text.as_bytes(), hash);
        match &self.group_by {
            GroupBy::All => labels.iter().fold(seed, |hash, (name, value)| with(with(hash, name), value)),
            GroupBy::Labels(names) => names.iter().fold(seed, |hash, name| with(hash, value(labels, name))),
        }
    }

    /// Whether an alert with these labels is of the group with those.
    pub fn is_group(&self, group: &Labels, labels: &Labels) -> bool {
        match &self.group_by {
            GroupBy::All => group == labels,
            GroupBy::Labels(names) => names.iter().all(|name| group.get(name) == labels.get(name)),
        }
    }

    /// The labels of an alert's group.
    pub fn group(&self, labels: &Labels) -> Labels {
        match &self.group_by {
            GroupBy::All => labels.clone(),
            GroupBy::Labels(names) => names.iter().filter_map(|name| labels.get(name).map(|value| (name, value))).collect(),
        }
    }

    /// A group's key as Alertmanager writes it: `{}/{team="db"}:{alertname="X"}`.
    pub fn group_key(&self, labels: &Labels) -> String {
        format!("{}:{}", self.key, shown(&self.group(labels)))
    }

    /// This route and all below it, each with its depth, in the file's order.
    pub fn walk(&self) -> Vec<(usize, &Route)> {
        let mut all = vec![(0, self)];
        for child in &self.routes {
            all.extend(child.walk().into_iter().map(|(depth, route)| (depth + 1, route)));
        }
        all
    }
}

impl Routing {
    /// The file's meaning, or all that is wrong with it.
    pub fn new(file: &written::Routing) -> Result<Routing, Vec<Problem>> {
        let mut reader = Reader { problems: Vec::new(), file, routes: 0 };
        let root = reader.root();
        let inhibitions = file.inhibitions.iter().map(|rule| reader.inhibition(rule)).collect();
        let intervals = reader.intervals();
        reader.receivers();
        match reader.problems.is_empty() {
            true => Ok(Routing { root, inhibitions, intervals }),
            false => {
                reader.problems.sort_by_key(|problem| problem.line);
                Err(reader.problems)
            }
        }
    }

    /// A route by its number.
    pub fn route(&self, number: usize) -> Option<&Route> {
        let mut at = &self.root;
        while at.number != number {
            let below = at.routes.partition_point(|route| route.number <= number);
            at = at.routes.get(below.checked_sub(1)?)?;
        }
        Some(at)
    }

    /// The interval by which a route's alerts are not told at this time, ms since 1970, if there is one.
    pub fn muted_by<'r>(&self, route: &'r Route, at: i64) -> Option<&'r str> {
        let holds = |name: &str| self.intervals.iter().any(|intervals| intervals.name == name && intervals.hold(at));
        let muted = route.mute.iter().find(|name| holds(name));
        let inactive = || route.active.first().filter(|_| !route.active.iter().any(|name| holds(name)));
        muted.or_else(inactive).map(String::as_str)
    }
}

struct Reader<'f> {
    problems: Vec<Problem>,
    /// Read so far.
    routes: usize,
    file: &'f written::Routing,
}

impl Reader<'_> {
    fn wrong(&mut self, place: &Place, key: &str, value: &str, rule: impl Into<String>, remedy: impl Into<String>) {
        let key = if key.is_empty() { place.key.clone() } else { format!("{}.{key}", place.key) };
        self.problems.push(Problem { line: place.line, key, value: value.to_owned(), rule: rule.into(), remedy: remedy.into() });
    }

    fn root(&mut self) -> Route {
        let from = &self.file.route;
        if from.receiver.is_none() {
            self.wrong(&from.place, "receiver", "", "root route must specify a default receiver", "write receiver: NAME");
        }
        for (key, there) in [
            ("matchers", !from.conditions.is_empty()),
            ("mute_time_intervals", !from.mute.is_empty()),
            ("active_time_intervals", !from.active.is_empty()),
            ("continue", from.goes_on),
        ] {
            if there {
                self.wrong(&from.place, key, "", format!("root route must not have any {key}"), "write it at a route below");
            }
        }
        let above = Route {
            number: 0,
            place: from.place.clone(),
            receiver: String::new(),
            matchers: Matchers::default(),
            group_by: GroupBy::Labels(Vec::new()),
            group_wait: Duration::from_secs(30),
            group_interval: Duration::from_secs(300),
            repeat_interval: Duration::from_secs(4 * 3600),
            goes_on: false,
            mute: Vec::new(),
            active: Vec::new(),
            key: String::new(),
            routes: Vec::new(),
            below: None,
        };
        self.route(from, &above)
    }

    fn route(&mut self, from: &written::Route, above: &Route) -> Route {
        let matchers = Matchers::new(self.conditions(&from.conditions));
        let group_by = from.group_by.as_ref().map(|names| self.group_by(&from.place, names));
        if let Some(name) = from.receiver.as_deref().filter(|name| !self.file.receivers.iter().any(|known| known.name == *name)) {
            self.wrong(
                &from.place,
                "receiver",
                name,
                format!("undefined receiver {name:?} used in route"),
                "write it below `receivers`, or mend its name",
            );
        }
        for (key, names) in [("mute_time_intervals", &from.mute), ("active_time_intervals", &from.active)] {
            for name in names.iter().filter(|name| !self.file.intervals.iter().any(|known| known.name == **name)) {
                let remedy = "write it below `time_intervals`, or mend its name";
                self.wrong(&from.place, key, name, format!("undefined time interval {name:?} used in route"), remedy);
            }
        }
        let key = if above.key.is_empty() { matchers.to_string() } else { format!("{}/{matchers}", above.key) };
        let number = self.routes;
        self.routes += 1;
        let mut route = Route {
            number,
            place: from.place.clone(),
            receiver: from.receiver.clone().unwrap_or_else(|| above.receiver.clone()),
            matchers,
            group_by: group_by.unwrap_or_else(|| above.group_by.clone()),
            group_wait: from.group_wait.unwrap_or(above.group_wait),
            group_interval: from.group_interval.unwrap_or(above.group_interval),
            repeat_interval: from.repeat_interval.unwrap_or(above.repeat_interval),
            goes_on: from.goes_on,
            mute: from.mute.clone(),
            active: from.active.clone(),
            key,
            routes: Vec::new(),
            below: None,
        };
        route.routes = from.routes.iter().map(|child| self.route(child, &route)).collect();
        if route.routes.len() > FEW {
            let mut below = Sought::default();
            route.routes.iter().enumerate().for_each(|(place, child)| below.add(child.matchers.iter(), place));
            route.below = Some(below);
        }
        route
    }

    fn group_by(&mut self, place: &Place, names: &[String]) -> GroupBy {
        let mut sorted = names.to_vec();
        sorted.sort();
        if let Some([twice, _]) = sorted.windows(2).find(|pair| pair.first() == pair.last()) {
            self.wrong(place, "group_by", twice, format!("duplicated label {twice:?} in group_by"), "keep one of them");
        }
        match names.iter().any(|name| name == "...") {
            true if names.len() > 1 => {
                let rule = "cannot have wildcard group_by (`...`) and other labels at the same time";
                self.wrong(place, "group_by", "...", rule, "write ['...'] for all labels, or the labels alone");
                GroupBy::All
            }
            true => GroupBy::All,
            false => GroupBy::Labels(sorted),
        }
    }

    fn conditions(&mut self, from: &[written::Condition]) -> Vec<Matcher> {
        let mut matchers = Vec::new();
        for condition in from {
            let (read, text) = match &condition.written {
                written::Written::Matchers(text) => (matcher::read(text).map(|read| read.matchers), text),
                written::Written::Equal(name, value) => (Matcher::new(name, Op::Equal, value).map(|one| vec![one]), value),
                written::Written::Matches(name, value) => (Matcher::new(name, Op::Matches, value).map(|one| vec![one]), value),
            };
            match read {
                Ok(read) => matchers.extend(read),
                Err(why) => self.wrong(&condition.place, "", text, why, "write name=\"value\", with =, !=, =~ or !~"),
            }
        }
        matchers
    }

    fn inhibition(&mut self, from: &written::Inhibition) -> Inhibition {
        Inhibition {
            place: from.place.clone(),
            source: Matchers::new(self.conditions(&from.source)),
            target: Matchers::new(self.conditions(&from.target)),
            equal: from.equal.clone(),
        }
    }

    fn intervals(&mut self) -> Vec<Intervals> {
        let mut all: Vec<Intervals> = Vec::new();
        for from in &self.file.intervals {
            if all.iter().any(|known| known.name == from.name) {
                self.wrong(&from.place, "name", &from.name, format!("time interval {:?} is not unique", from.name), "give it another name");
            }
            match Intervals::new(from) {
                Ok(intervals) => all.push(intervals),
                Err(wrong) => wrong.into_iter().for_each(|(place, why)| self.wrong(&place, "", "", why, "")),
            }
        }
        all
    }

    fn receivers(&mut self) {
        let receivers = &self.file.receivers;
        for (number, receiver) in receivers.iter().enumerate() {
            if receivers.iter().take(number).any(|known| known.name == receiver.name) {
                let rule = format!("notification config name {:?} is not unique", receiver.name);
                self.wrong(&receiver.place, "name", &receiver.name, rule, "give it another name");
            }
        }
    }
}

/// Labels as people write them: `{a="b", c="d"}`.
pub fn shown(labels: &Labels) -> String {
    let mut out = String::from("{");
    for (number, name) in labels.keys().enumerate() {
        let _ = write!(out, "{}{name}=", if number > 0 { ", " } else { "" });
        quoted::write(value(labels, name), &mut out);
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::damage_text;
    use crate::mutate::seeds;

    const FILE: &str = r#"
route:
  receiver: all
  group_by: [alertname, cluster]
  routes:
    - matchers: [team=db]
      receiver: db
      continue: true
      routes:
        - { matchers: [severity=critical], receiver: pager, group_by: ['...'], group_wait: 0s }
        - { matchers: [severity=~"warning|info"] }
    - { matchers: ['team=~"db|web"'], receiver: web, group_by: [], mute_time_intervals: [nights], routes: [{ active_time_intervals: [nights], matchers: [late=yes] }] }
receivers: [{ name: all }, { name: db }, { name: pager }, { name: web }]
time_intervals: [{ name: nights, time_intervals: [{ times: [{ start_time: '20:00', end_time: '24:00' }] }] }]
"#;

    fn routing() -> Routing {
        Routing::new(&written::parse(FILE).unwrap()).unwrap()
    }

    fn labels(text: &str) -> Labels {
        matcher::read(text).unwrap().matchers.into_iter().map(|matcher| (matcher.name, matcher.value)).collect()
    }

    #[test]
    fn the_first_child_takes_an_alert_unless_it_goes_on() {
        let routing = routing();
        for (alert, receivers) in [
            ("team=db,severity=critical", "pager web"),
            ("team=db,severity=info", "db web"),
            ("team=db", "db web"),
            ("team=web", "web"),
            ("team=ops", "all"),
            ("", "all"),
        ] {
            let got: Vec<&str> = routing.root.matching(&labels(alert)).iter().map(|route| route.receiver.as_str()).collect();
            assert_eq!(got.join(" "), receivers, "{alert}");
        }
    }

    #[test]
    fn what_a_route_does_not_say_it_has_from_its_parent() {
        let routing = routing();
        let alert = labels("team=db,severity=info,alertname=X,cluster=c");
        let [first, second] = routing.root.matching(&alert)[..] else { panic!() };
        assert_eq!(first.group_key(&alert), r#"{}/{team="db"}/{severity=~"warning|info"}:{alertname="X", cluster="c"}"#);
        assert_eq!((first.group_wait, first.goes_on), (Duration::from_secs(30), false));
        assert_eq!(second.group_key(&alert), r#"{}/{team=~"db|web"}:{}"#);
        let critical = labels("team=db,severity=critical");
        let pager = routing.root.matching(&critical)[0];
        assert_eq!((pager.group(&critical), pager.group_wait), (critical.clone(), Duration::ZERO));
    }

    /// Trees that are wide enough for the search, against the plain walk of the manual.
    #[test]
    fn among_many_children_those_that_take_an_alert_are_found_in_their_order() {
        fn plain<'r>(route: &'r Route, labels: &Labels, found: &mut Vec<&'r Route>) -> bool {
            if !route.matchers.matches(labels) {
                return false;
            }
            let before = found.len();
            for child in &route.routes {
                if plain(child, labels, found) && !child.goes_on {
                    break;
                }
            }
            if found.len() == before {
                found.push(route);
            }
            true
        }
        let mut many = 0;
        for seed in seeds(100) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut file = "receivers: [{ name: a }]\nroute:\n  receiver: a\n  routes:\n".to_owned();
            for _ in 0..random.usize(FEW - 2..3 * FEW) {
                let sign = ["=", "=", "=", "!=", "=~", "!~"][random.usize(0..6)];
                let one = |random: &mut fastrand::Rng| format!("l{}{sign}\"{}\"", random.u8(0..3), ["", "a", "b", "c"][random.usize(0..4)]);
                let (first, second, goes_on) = (one(&mut random), one(&mut random), random.bool());
                file.push_str(&format!("    - {{ matchers: ['{first}', '{second}'], continue: {goes_on} }}\n"));
            }
            let routing = Routing::new(&written::parse(&file).unwrap()).unwrap();
            for _ in 0..50 {
                let pair = |name: u8| Some(format!("l{name}={}", ["a", "b", "c", "d"][random.usize(0..4)])).filter(|_| random.bool());
                let alert = labels(&(0..3).filter_map(pair).collect::<Vec<_>>().join(","));
                let mut expected = Vec::new();
                plain(&routing.root, &alert, &mut expected);
                let numbers = |routes: &[&Route]| routes.iter().map(|route| route.number).collect::<Vec<_>>();
                assert_eq!(numbers(&routing.root.matching(&alert)), numbers(&expected), "SEED={seed} {alert:?}\n{file}");
                many += usize::from(expected.len() > 1);
            }
        }
        assert!(many > 0);
    }

    #[test]
    fn an_alert_is_of_a_group_as_its_key_says() {
        let routing = routing();
        let alerts =
            ["", "alertname=A", "alertname=A,cluster=c", "alertname=A,cluster=c,x=y", "cluster=A", "alertname=c,cluster=A"].map(labels);
        for (_, route) in routing.root.walk() {
            for (one, other) in alerts.iter().flat_map(|one| alerts.iter().map(move |other| (one, other))) {
                let same = route.group_key(one) == route.group_key(other);
                assert_eq!(route.is_group(&route.group(one), other), same, "{one:?} {other:?}");
                assert!(!same || route.group_hash(7, one) == route.group_hash(7, other), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn routes_are_found_by_their_number() {
        let routing = routing();
        for (number, (_, route)) in routing.root.walk().into_iter().enumerate() {
            assert_eq!((route.number, routing.route(number).map(|found| &found.key)), (number, Some(&route.key)));
        }
        assert!(routing.route(99).is_none());
    }

    #[test]
    fn intervals_are_a_routes_own() {
        let routing = routing();
        let [day, night] = ["2026-01-01T12:00:00Z", "2026-01-01T21:00:00Z"].map(|time| crate::alert::interval::time(time).unwrap());
        let web = |alert: &str| routing.root.matching(&labels(alert))[0];
        let (plain, late) = (web("team=web"), web("team=web,late=yes"));
        assert_eq!((routing.muted_by(plain, day), routing.muted_by(plain, night)), (None, Some("nights")));
        assert_eq!((routing.muted_by(late, day), routing.muted_by(late, night)), (Some("nights"), None));
    }

    #[test]
    fn what_alertmanager_refuses_is_refused_in_its_words() {
        let told = |text: &str| -> Vec<String> {
            let file = written::parse(text).unwrap();
            Routing::new(&file).unwrap_err().into_iter().map(|problem| problem.rule).collect()
        };
        let root = "receivers: [{ name: a }]\nroute: { receiver: a, ";
        for (text, rule) in [
            ("receivers: [{ name: a }]\nroute: { group_wait: 1s }".to_owned(), "root route must specify a default receiver"),
            (format!("{root}matchers: [a=b] }}"), "root route must not have any matchers"),
            (format!("{root}continue: true }}"), "root route must not have any continue"),
            (format!("{root}routes: [{{ receiver: b }}] }}"), "undefined receiver \"b\" used in route"),
            (format!("{root}routes: [{{ mute_time_intervals: [x] }}] }}"), "undefined time interval \"x\" used in route"),
            (format!("{root}group_by: [a, b, a] }}"), "duplicated label \"a\" in group_by"),
            (format!("{root}group_by: [a, ...] }}"), "cannot have wildcard group_by (`...`) and other labels at the same time"),
            (format!("{root}}}\ntime_intervals: [{{ name: x }}, {{ name: x }}]"), "time interval \"x\" is not unique"),
            ("receivers: [{ name: a }, { name: a }]\nroute: { receiver: a }".to_owned(), "notification config name \"a\" is not unique"),
        ] {
            assert_eq!(told(&text), [rule], "{text}");
        }
    }

    /// Damaged files are refused in words or mean something, and never panic; so do damaged matchers.
    #[test]
    fn damaged_files_and_matchers_never_panic() {
        let (mut refused, mut taken) = (0, 0);
        for seed in seeds(3_000) {
            let mut random = fastrand::Rng::with_seed(seed);
            let text = damage_text(&mut random, FILE);
            let Ok(file) = written::parse(&text) else {
                refused += 1;
                continue;
            };
            let Ok(routing) = Routing::new(&file) else {
                refused += 1;
                continue;
            };
            taken += 1;
            let alert = labels("team=db,severity=info");
            for route in routing.root.matching(&alert) {
                let _ = (route.group_key(&alert), routing.muted_by(route, random.i64(..)));
            }
            let _ = crate::alert::lint::doubts(&file, &routing);
            for matcher in matcher::read(&damage_text(&mut random, "{team=~\"db|web\", \"a b\"!=\"\\u00e9\"}"))
                .into_iter()
                .flat_map(|read| read.matchers)
            {
                let again = matcher.to_string();
                assert!(matcher::read(&again).is_ok_and(|read| read.matchers == [matcher]), "SEED={seed}: {again}");
            }
        }
        assert!(refused > 0 && taken > 0, "{refused} {taken}");
    }
}

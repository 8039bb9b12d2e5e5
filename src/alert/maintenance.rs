//! Windows of maintenance: work that is planned, again and again or once, and what it does to alerts that fit.
//!
//! `suppress` is a silence that comes by itself. `decide_after` leaves alone what held before: what begins within the window waits for its end, and is told then
//! if it still holds. Asked by whoever tells, with a time; nothing of it is kept.

use crate::alert::interval;
use crate::alert::interval::Intervals;
use crate::alert::listed;
use crate::alert::listed::Listed;
use crate::config::policies::Maintenance;
use crate::config::policies::Mode;
use crate::config::read::Problem;
use crate::config::routing as written;
use crate::model::labels::Labels;

/// A window that lasts longer is looked at again then, ms: a month and a week.
const LONGEST_MS: i64 = 38 * 86_400_000;

/// When.
#[derive(Clone, Debug)]
enum When {
    /// From and to, ms since 1970.
    Once(i64, i64),
    /// Whenever one holds.
    Again(Intervals),
}

#[derive(Clone, Debug)]
struct Window {
    name: String,
    when: When,
    mode: Mode,
}

/// All of them, in the order in which they are written.
#[derive(Clone, Debug, Default)]
pub struct Windows {
    all: Listed<Window>,
}

/// Of each window the time that it was last found to last, so that 100,000 alerts that come within it ask for it once.
#[derive(Debug, Default)]
pub struct Spans(Vec<(i64, i64)>);

impl Window {
    fn lasts(&self, at: i64) -> bool {
        match &self.when {
            When::Once(from, to) => (*from..*to).contains(&at),
            When::Again(intervals) => intervals.hold(at),
        }
    }

    fn until(&self, at: i64) -> i64 {
        match &self.when {
            When::Once(_, to) => *to,
            When::Again(intervals) => intervals.until(at, LONGEST_MS),
        }
    }
}

impl Windows {
    /// What is written means this, or all that is wrong with it.
    pub fn new(from: &[Maintenance]) -> Result<Windows, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut all = Vec::new();
        for one in from {
            let matchers = listed::matchers(&one.matchers, &mut problems);
            let mut wrong = |place: &written::Place, value: &str, rule: String, remedy: &str| {
                let (line, key) = (place.line, place.key.clone());
                problems.push(Problem { line, key, value: value.to_owned(), rule, remedy: remedy.to_owned() });
            };
            let when = match &one.once {
                Some((from, to)) => match (interval::time(from), interval::time(to)) {
                    (Ok(first), Ok(last)) if first < last => Some(When::Once(first, last)),
                    (Ok(_), Ok(_)) => {
                        wrong(&one.place, to, "is over before it begins".to_owned(), "write `to` behind `from`");
                        None
                    }
                    (first, last) => {
                        let remedy = "write it as 2026-12-24T18:00:00Z";
                        first.err().into_iter().chain(last.err()).for_each(|why| wrong(&one.place, "", why, remedy));
                        None
                    }
                },
                None => {
                    let (place, name, intervals) = (one.place.clone(), one.name.clone(), one.intervals.clone());
                    let read = Intervals::new(&written::Intervals { place, name, intervals });
                    let told = |wrongs: Vec<(written::Place, String)>| {
                        wrongs
                            .into_iter()
                            .for_each(|(place, why)| wrong(&place, "", why, "docs/alerting.md shows how intervals are written"));
                    };
                    read.map_err(told).ok().map(When::Again)
                }
            };
            all.extend(when.map(|when| (matchers, Window { name: one.name.clone(), when, mode: one.mode })));
        }
        if problems.is_empty() { Ok(Windows { all: Listed::new(all) }) } else { Err(problems) }
    }

    fn fitting<'w>(&'w self, labels: &'w Labels, mode: Mode) -> impl Iterator<Item = (usize, &'w Window)> + 'w {
        let all = self.all.fitting(labels).filter_map(|number| Some((number, &self.all.rules().get(number)?.1)));
        all.filter(move |(_, window)| window.mode == mode)
    }

    /// Whether one keeps an alert from being told at this time.
    pub fn suppresses(&self, labels: &Labels, at: i64) -> bool {
        self.fitting(labels, Mode::Suppress).any(|(_, window)| window.lasts(at))
    }

    /// Names of windows that keep an alert, which came then, from being told at this time, sorted.
    pub fn names(&self, labels: &Labels, came: i64, at: i64) -> Vec<String> {
        let now = self.fitting(labels, Mode::Suppress).filter(|(_, window)| window.lasts(at));
        let after = self.fitting(labels, Mode::DecideAfter).filter(|(_, window)| window.lasts(came) && window.until(came) > at);
        let mut names: Vec<String> = now.chain(after).map(|(_, window)| window.name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// Until when an alert waits that came then, within windows that decide afterwards; 0: it does not.
    pub fn released(&self, labels: &Labels, came: i64, spans: &mut Spans) -> i64 {
        spans.0.resize(self.all.rules().len(), (0, 0));
        let mut released = 0;
        for (number, window) in self.fitting(labels, Mode::DecideAfter) {
            let Some((first, until)) = spans.0.get_mut(number) else { continue };
            if !(*first..*until).contains(&came) {
                if !window.lasts(came) {
                    continue;
                }
                (*first, *until) = (came, window.until(came));
            }
            released = released.max(*until);
        }
        released
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::matcher;
    use crate::config::routing::Interval;
    use crate::config::routing::Place;

    fn window(name: &str, matchers: &str, mode: Mode) -> Maintenance {
        let matchers = vec![(Place::default(), matchers.to_owned())];
        Maintenance { name: name.into(), matchers, mode, ..Maintenance::default() }
    }

    fn once(mut window: Maintenance, from: &str, to: &str) -> Maintenance {
        window.once = Some((from.into(), to.into()));
        window
    }

    fn labels(text: &str) -> Labels {
        matcher::read(text).unwrap().matchers.into_iter().map(|matcher| (matcher.name, matcher.value)).collect()
    }

    fn at(text: &str) -> i64 {
        interval::time(text).unwrap()
    }

    #[test]
    fn one_suppresses_while_it_lasts_and_the_other_lets_wait_what_begins_in_it() {
        let mut nights = window("nights", "team=web", Mode::DecideAfter);
        nights.intervals = vec![Interval { times: vec![("01:00".into(), "03:30".into())], ..Interval::default() }];
        let disks = once(window("disks", "cluster=a", Mode::Suppress), "2026-11-26T02:00:00Z", "2026-11-26T04:00:00Z");
        let windows = Windows::new(&[disks, nights]).unwrap();
        let (both, web, mut spans) = (labels("cluster=a,team=web"), labels("team=web"), Spans::default());
        assert!(windows.suppresses(&both, at("2026-11-26T02:00:00Z")) && !windows.suppresses(&both, at("2026-11-26T04:00:00Z")));
        assert!(!windows.suppresses(&web, at("2026-11-26T02:00:00Z")));
        let until = at("2026-11-26T03:30:00Z");
        for came in ["2026-11-26T02:10:00Z", "2026-11-26T01:00:00Z", "2026-11-26T03:29:00Z"] {
            assert_eq!(windows.released(&web, at(came), &mut spans), until, "{came}");
        }
        assert_eq!(windows.released(&web, at("2026-11-26T00:59:00Z"), &mut spans), 0, "it held before");
        assert_eq!(windows.released(&labels("team=db"), at("2026-11-26T02:00:00Z"), &mut spans), 0);
        let came = at("2026-11-26T02:10:00Z");
        assert_eq!(windows.names(&both, came, at("2026-11-26T02:20:00Z")), ["disks", "nights"]);
        assert_eq!(windows.names(&both, came, at("2026-11-26T03:40:00Z")), ["disks"]);
        assert_eq!(windows.names(&both, came, at("2026-11-26T04:40:00Z")), [""; 0]);
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let mut wrong = window("a", "x=~(", Mode::Suppress);
        wrong.intervals = vec![Interval { weekdays: vec!["someday".into()], ..Interval::default() }];
        let backward = once(window("b", "x=y", Mode::Suppress), "2026-11-26T02:00:00Z", "2026-11-26T02:00:00Z");
        let never = once(window("c", "x=y", Mode::Suppress), "today", "tomorrow");
        assert_eq!(Windows::new(&[wrong, backward, never]).unwrap_err().len(), 5);
    }
}

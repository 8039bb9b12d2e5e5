//! Intervals of time: `times`, `weekdays`, `days_of_month`, `months`, `years`, in a zone.
//!
//! All fields of an interval must hold, of each field one item; of a named list one interval. Zones are named and their rules are in the binary, so every
//! node says the same of the same time. `Local` is refused for that reason: nodes may stand in different zones.

use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;

use crate::config::routing as written;

/// A named list of intervals.
#[derive(Clone, Debug)]
pub struct Intervals {
    /// Its name.
    pub name: String,
    intervals: Vec<Interval>,
}

/// From the first to the last, both included.
type Range = (i32, i32);

/// One interval; an empty field holds always.
#[derive(Clone, Debug)]
struct Interval {
    /// Minutes of a day, the second not included.
    times: Vec<Range>,
    /// 0: Sunday.
    weekdays: Vec<Range>,
    /// Negative: from the month's end.
    days: Vec<Range>,
    months: Vec<Range>,
    years: Vec<Range>,
    zone: TimeZone,
}

const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
const MONTHS: [&str; 12] =
    ["january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"];

impl Intervals {
    /// The list as written, or what is wrong with it: where, and why.
    pub fn new(from: &written::Intervals) -> Result<Intervals, Vec<(written::Place, String)>> {
        let read = from.intervals.iter().map(|one| Interval::new(one).map_err(|why| (one.place.clone(), why)));
        let (good, bad): (Vec<_>, Vec<_>) = read.partition(Result::is_ok);
        match bad.is_empty() {
            true => Ok(Intervals { name: from.name.clone(), intervals: good.into_iter().flatten().collect() }),
            false => Err(bad.into_iter().filter_map(Result::err).collect()),
        }
    }

    /// Whether one of them holds at this time, ms since 1970.
    pub fn hold(&self, at: i64) -> bool {
        self.intervals.iter().any(|interval| interval.holds(at))
    }

    /// When they stop to hold, from a time at which one does: at most so many ms later.
    pub fn until(&self, at: i64, most: i64) -> i64 {
        let (mut time, last) = (at, at.saturating_add(most));
        while time < last && self.hold(time) {
            time = self.intervals.iter().map(|interval| interval.next_edge(time)).min().unwrap_or(last).max(time + 1);
        }
        time.min(last)
    }
}

impl Interval {
    fn new(from: &written::Interval) -> Result<Interval, String> {
        let all =
            |items: &[String], one: fn(&str) -> Result<Range, String>| items.iter().map(|item| one(item)).collect::<Result<Vec<_>, _>>();
        Ok(Interval {
            times: from.times.iter().map(|(start, end)| times(start, end)).collect::<Result<_, _>>()?,
            weekdays: all(&from.weekdays, |text| named(text, &WEEKDAYS, 0, "a day of the week: monday, or monday:friday"))?,
            days: all(&from.days_of_month, days)?,
            months: all(&from.months, |text| named(text, &MONTHS, 1, "a month: january, 1, or january:march"))?,
            years: all(&from.years, |text| range(text, "a year: 2026, or 2026:2028", |one| one.parse().ok().filter(|year| *year >= 0)))?,
            zone: zone(from.location.as_deref())?,
        })
    }

    fn holds(&self, at: i64) -> bool {
        let Ok(time) = Timestamp::from_millisecond(at) else { return false };
        let local = time.to_zoned(self.zone.clone());
        let within =
            |ranges: &[Range], value: i32| ranges.is_empty() || ranges.iter().any(|(first, last)| (*first..=*last).contains(&value));
        let minute = i32::from(local.hour()) * 60 + i32::from(local.minute());
        (self.times.is_empty() || self.times.iter().any(|(start, end)| (*start..*end).contains(&minute)))
            && within(&self.weekdays, weekday(local.weekday()))
            && self.day_fits(i32::from(local.day()), i32::from(local.days_in_month()))
            && within(&self.months, i32::from(local.month()))
            && within(&self.years, i32::from(local.year()))
    }

    /// The next time at which it may begin or stop to hold: a minute of `times`, or a quarter of an hour, since days begin, and clocks are put forward and
    /// back, at no other minutes.
    fn next_edge(&self, at: i64) -> i64 {
        let Ok(time) = Timestamp::from_millisecond(at) else { return i64::MAX };
        let local = time.to_zoned(self.zone.clone());
        let minute = i32::from(local.hour()) * 60 + i32::from(local.minute());
        let ends = self.times.iter().flat_map(|(start, end)| [*start, *end]).filter(|edge| *edge > minute);
        let minutes = ends.map(|edge| edge - minute).chain([15 - minute % 15]).min().unwrap_or(1);
        at.div_euclid(60_000).saturating_add(i64::from(minutes)).saturating_mul(60_000)
    }

    fn day_fits(&self, day: i32, of: i32) -> bool {
        let from_start = |day: i32| if day < 0 { of + day + 1 } else { day };
        // A range that begins behind the month's end holds on none of its days.
        let fits = |(first, last): &Range| from_start(*first) <= day && day <= from_start(*last);
        self.days.is_empty() || self.days.iter().any(fits)
    }
}

/// A time as `2026-12-24T18:00:00Z` or with another offset, ms since 1970.
pub fn time(text: &str) -> Result<i64, String> {
    let read = text.parse::<Timestamp>();
    read.map(Timestamp::as_millisecond).map_err(|_| format!("{text} is no time; write it as 2026-12-24T18:00:00Z"))
}

fn weekday(day: Weekday) -> i32 {
    i32::from(day.to_sunday_zero_offset())
}

fn zone(name: Option<&str>) -> Result<TimeZone, String> {
    match name {
        None | Some("UTC") => Ok(TimeZone::UTC),
        Some("Local") => Err("location: Local is not the same on every node; write the zone's name, as Europe/Berlin".into()),
        Some(name) => TimeZone::get(name).map_err(|_| format!("location: {name} is no time zone; write one by name, as Europe/Berlin")),
    }
}

/// Minutes of `HH:MM`, 24:00 included.
fn minutes(text: &str) -> Option<i32> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |part: &str| Some(part).filter(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok();
    let (hours, minutes): (i32, i32) = (two(hours)?, two(minutes)?);
    (minutes < 60 && hours < 24 || (hours, minutes) == (24, 0)).then_some(hours * 60 + minutes)
}

fn times(start: &str, end: &str) -> Result<Range, String> {
    let read = |text: &str| minutes(text).ok_or_else(|| format!("{text} is no time of day; write HH:MM, 00:00 to 24:00"));
    match (read(start)?, read(end)?) {
        (start, end) if start < end => Ok((start, end)),
        _ => Err(format!("{start} is not before {end}; what goes over midnight is written as two times")),
    }
}

fn range(text: &str, what: &str, one: impl Fn(&str) -> Option<i32>) -> Result<Range, String> {
    let lower = text.to_lowercase();
    let (first, last) = lower.split_once(':').unwrap_or((&lower, &lower));
    let (Some(first), Some(last)) = (one(first.trim()), one(last.trim())) else { return Err(format!("{text} is not {what}")) };
    Ok((first, last))
}

fn in_order(text: &str, (first, last): Range) -> Result<Range, String> {
    if first > last { Err(format!("{text}: the first lies behind the last; write two ranges")) } else { Ok((first, last)) }
}

fn named(text: &str, names: &[&str], first: i32, what: &str) -> Result<Range, String> {
    let one = |text: &str| {
        let by_name = names.iter().position(|name| *name == text).and_then(|at| i32::try_from(at).ok()).map(|at| at + first);
        // Months have numbers, days of the week have none.
        let by_number = || text.parse().ok().filter(|number| first == 1 && (1..=12).contains(number));
        by_name.or_else(by_number)
    };
    in_order(text, range(text, what, one)?)
}

fn days(text: &str) -> Result<Range, String> {
    let what = "a day of the month: 1 to 31, -1 is the last one, 1:7 a range";
    let (first, last) = range(text, what, |one| one.parse().ok().filter(|day: &i32| (1..=31).contains(&day.abs())))?;
    if first < 0 && last > 0 {
        return Err(format!("{text}: a range that begins at the month's end must end there: write two ranges"));
    }
    // By the shortest month, as Alertmanager does.
    let in_february = |day: i32| if day < 0 { 28 + day } else { day };
    in_order(text, (in_february(first), in_february(last)))?;
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> i64 {
        time.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn interval(change: impl FnOnce(&mut written::Interval)) -> Result<Interval, String> {
        let mut from = written::Interval::default();
        change(&mut from);
        Interval::new(&from)
    }

    fn list(items: &[&str]) -> Vec<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    #[test]
    fn fields_hold_as_in_alertmanager() {
        let office = interval(|it| {
            it.times = vec![("09:00".into(), "17:00".into())];
            it.weekdays = list(&["monday:friday"]);
        })
        .unwrap();
        for (time, expected) in [
            ("2020-04-01T13:30:00Z", true),
            ("2020-04-01T09:00:00Z", true),
            ("2020-04-01T17:00:00Z", false),
            ("2020-04-01T08:59:59Z", false),
            ("2020-04-04T12:00:00Z", false),
        ] {
            assert_eq!(office.holds(at(time)), expected, "{time}");
        }
        let days = |text: &str, time: &str| interval(|it| it.days_of_month = list(&[text])).unwrap().holds(at(time));
        assert!(days("-3:-1", "2021-02-26T00:00:00Z") && !days("-3:-1", "2021-02-25T23:59:00Z"));
        assert!(days("31", "2020-01-31T12:00:00Z") && !days("31", "2020-04-30T12:00:00Z"));
        assert!(days("25:31", "2021-02-28T12:00:00Z") && days("1:-1", "2021-02-28T12:00:00Z"));
        let seasons = interval(|it| (it.months, it.years) = (list(&["January:march", "12"]), list(&["2020:2021", "2030"]))).unwrap();
        assert!(seasons.holds(at("2020-12-31T23:59:00Z")) && seasons.holds(at("2030-03-01T00:00:00Z")));
        assert!(!seasons.holds(at("2022-01-01T00:00:00Z")) && !seasons.holds(at("2020-04-01T00:00:00Z")));
    }

    #[test]
    fn zones_and_their_summer_time() {
        let evening = |zone: &str| {
            interval(|it| {
                it.location = Some(zone.into());
                it.times = vec![("18:00".into(), "24:00".into())];
            })
        };
        let berlin = evening("Europe/Berlin").unwrap();
        assert!(berlin.holds(at("2026-07-01T16:00:00Z")) && !berlin.holds(at("2026-01-01T16:00:00Z")));
        assert!(berlin.holds(at("2026-01-01T17:00:00Z")));
        // The day, too, is the zone's.
        let monday = interval(|it| (it.weekdays, it.location) = (list(&["monday"]), Some("Australia/Sydney".into()))).unwrap();
        assert!(monday.holds(at("2026-11-29T14:00:00Z")) && !monday.holds(at("2026-11-30T14:00:00Z")));
        assert!(evening("Local").is_err() && evening("Mars/Olympus").is_err());
    }

    #[test]
    fn it_is_known_when_they_stop_to_hold() {
        let times = |pairs: &[(&str, &str)], zone: &str| written::Interval {
            times: pairs.iter().map(|(start, end)| ((*start).to_owned(), (*end).to_owned())).collect(),
            location: Some(zone.to_owned()),
            ..written::Interval::default()
        };
        let until = |intervals: Vec<written::Interval>, from: &str| {
            let named = written::Intervals { place: written::Place::default(), name: "x".into(), intervals };
            Intervals::new(&named).unwrap().until(at(from), 40 * 86_400_000)
        };
        let night = || times(&[("20:00", "24:00"), ("00:00", "06:10")], "Europe/Berlin");
        assert_eq!(until(vec![night()], "2026-11-26T19:30:30Z"), at("2026-11-27T05:10:00Z"), "over midnight");
        assert_eq!(until(vec![night()], "2026-11-26T12:00:00Z"), at("2026-11-26T12:00:00Z"), "does not hold");
        // Clocks are put forward at two, to three: half past two never comes.
        assert_eq!(until(vec![times(&[("00:00", "02:30")], "Europe/Berlin")], "2026-03-29T00:15:00Z"), at("2026-03-29T01:00:00Z"));
        let weekend = written::Interval { weekdays: list(&["saturday", "sunday"]), ..written::Interval::default() };
        assert_eq!(until(vec![weekend, night()], "2026-11-28T10:00:00Z"), at("2026-11-30T05:10:00Z"), "one after the other");
        assert_eq!(
            until(vec![written::Interval::default()], "2026-11-01T00:00:00Z"),
            at("2026-12-11T00:00:00Z"),
            "no later than asked for"
        );
    }

    #[test]
    fn what_is_no_interval_is_refused() {
        for (start, end) in
            [("09:00", "09:00"), ("17:00", "09:00"), ("9:00", "10:00"), ("09:00", "24:01"), ("09:60", "10:00"), ("", "10:00")]
        {
            assert!(interval(|it| it.times = vec![(start.into(), end.into())]).is_err(), "{start} {end}");
        }
        for text in ["friday:monday", "8", "someday", ""] {
            assert!(interval(|it| it.weekdays = list(&[text])).is_err(), "{text}");
        }
        for text in ["0", "32", "-32", "-1:5", "7:3", "-1:-5", "28:-1"] {
            assert!(interval(|it| it.days_of_month = list(&[text])).is_err(), "{text}");
        }
        for text in ["13", "0", "march:january", "Januarie"] {
            assert!(interval(|it| it.months = list(&[text])).is_err(), "{text}");
        }
        assert!(interval(|it| it.years = list(&["2021:2020x"])).is_err());
    }
}

//! The promises of the main job, checked on what Kafka holds against what the gates saw.
//!
//! Per series: no sample twice; order kept but for rows marked late, all in one partition; values those of a replica; neighbours at
//! least half an interval apart, and at most one and a half wherever a replica's acknowledged sample could have stood between them.

use super::gate::Samples;
use super::kafka::Record;
use super::series::{Row, Series, Value, normal, parse_rows};
use std::collections::{BTreeMap, HashMap, HashSet};

/// A row and where it was.
#[derive(Clone, Debug)]
pub struct Placed {
    pub partition: i32,
    pub row: Row,
}

/// Rows by series, in the order in which a reader gets them.
pub type Received = HashMap<Series, Vec<Placed>>;

/// Adds messages of packed rows.
pub fn receive(received: &mut Received, records: &[Record]) {
    for record in records {
        for row in parse_rows(&record.payload) {
            received.entry(row.series.clone()).or_default().push(Placed { partition: record.partition, row });
        }
    }
}

/// What was seen, for the test's log.
#[derive(Debug, Default)]
pub struct Seen {
    pub series: usize,
    pub rows: usize,
    pub late: usize,
    pub stale: usize,
    /// Neighbours' distances in thousandths of the interval.
    pub nearest: i64,
    pub farthest: i64,
}

/// What is compared.
pub struct Case<'a> {
    /// Milliseconds between scrapes.
    pub interval: i64,
    /// Per replica: what was answered 2xx.
    pub acknowledged: &'a [Samples],
    /// Per replica: what was sent at all.
    pub offered: &'a [Samples],
}

impl Case<'_> {
    /// All complaints, the first few in words.
    pub fn check(&self, received: &Received) -> Result<Seen, String> {
        let mut problems = Vec::new();
        let mut seen = Seen { nearest: i64::MAX, ..Seen::default() };
        for (series, rows) in received {
            seen.series += 1;
            seen.rows += rows.len();
            seen.late += rows.iter().filter(|one| one.row.late).count();
            seen.stale += rows.iter().filter(|one| one.row.value == Value::Stale).count();
            problems.extend(order(series, rows));
            problems.extend(
                rows.iter()
                    .filter(|one| !self.was_offered(series, &one.row))
                    .map(|one| format!("{series}: nobody sent {:?} at {}", one.row.value, one.row.time)),
            );
            self.neighbours(series, rows, &mut seen, &mut problems);
        }
        let known: HashSet<&Series> = self.acknowledged.iter().flat_map(HashMap::keys).collect();
        for series in known.into_iter().filter(|series| !received.contains_key(*series)) {
            if self.times(series).next().is_some() {
                problems.push(format!("{series}: acknowledged, and not one row"));
            }
        }
        if problems.is_empty() { Ok(seen) } else { Err(format!("{} problems, among them:\n{}", problems.len(), first_few(&problems))) }
    }

    fn was_offered(&self, series: &Series, row: &Row) -> bool {
        let same = |sent: &Value| match (sent, &row.value) {
            (Value::Histogram(sent), Value::Histogram(got)) => normal(sent) == normal(got),
            (sent, got) => sent == got,
        };
        self.offered.iter().any(|replica| replica.get(series).and_then(|times| times.get(&row.time)).is_some_and(same))
    }

    /// Times of acknowledged samples of the series, stale markers apart.
    fn times(&self, series: &Series) -> impl Iterator<Item = i64> {
        let all = self.acknowledged.iter().filter_map(|replica| replica.get(series)).flatten();
        all.filter(|(_, value)| **value != Value::Stale).map(|(time, _)| *time)
    }

    /// By how much the replicas' own scrapes of the series stray from the interval, at most a fifth of it.
    fn jitter(&self, series: &Series) -> i64 {
        let mut most = self.interval / 50;
        for times in self.acknowledged.iter().filter_map(|replica| replica.get(series)) {
            let times: Vec<i64> = times.keys().copied().collect();
            for pair in times.windows(2) {
                let stray = (pair[1] - pair[0] - self.interval).abs();
                if stray < self.interval / 2 {
                    most = most.max(stray);
                }
            }
        }
        most.min(self.interval / 5)
    }

    /// Whether one replica scraped at both times: then they are as near as the source made them (a scrape that was held up, say).
    fn of_one_replica(&self, series: &Series, from: i64, to: i64) -> bool {
        let both = |times: &BTreeMap<i64, Value>| times.contains_key(&from) && times.contains_key(&to);
        self.offered.iter().any(|replica| replica.get(series).is_some_and(both))
    }

    fn neighbours(&self, series: &Series, rows: &[Placed], seen: &mut Seen, problems: &mut Vec<String>) {
        let mut out: Vec<i64> = rows.iter().filter(|one| one.row.value != Value::Stale).map(|one| one.row.time).collect();
        out.sort_unstable();
        let mut want: Vec<i64> = self.times(series).collect();
        want.sort_unstable();
        let (Some(begin), Some(end)) = (want.first(), want.last()) else { return };
        let (interval, jitter) = (self.interval, self.jitter(series));
        let settled = begin + 3 * interval;
        for pair in out.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            if from < settled {
                continue;
            }
            seen.nearest = seen.nearest.min((to - from) * 1000 / interval);
            seen.farthest = seen.farthest.max((to - from) * 1000 / interval);
            if to - from < interval / 2 - jitter && !self.of_one_replica(series, from, to) {
                problems.push(format!("{series}: {from} and {to} are {} ms apart", to - from));
            }
            if to - from > interval * 3 / 2 + jitter {
                let room = interval / 2 + jitter + interval / 20;
                let between: Vec<i64> = want.iter().copied().filter(|time| from + room < *time && *time < to - room).collect();
                if !between.is_empty() {
                    problems.push(format!("{series}: a hole of {} ms after {from}, although these came: {between:?}", to - from));
                }
            }
        }
        let edge = interval * 8 / 5 + jitter;
        if out.first().is_none_or(|first| first - begin > edge) {
            problems.push(format!("{series}: begins at {:?}, and the first acknowledged is {begin}", out.first()));
        }
        if out.last().is_none_or(|last| end - last > edge) {
            problems.push(format!("{series}: ends at {:?}, and the last acknowledged is {end}", out.last()));
        }
    }
}

/// Twice, out of order, or spread over partitions.
pub fn order(series: &Series, rows: &[Placed]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut times: BTreeMap<i64, usize> = BTreeMap::new();
    let mut newest = i64::MIN;
    for one in rows {
        let (time, late) = (one.row.time, one.row.late);
        *times.entry(time).or_default() += 1;
        if late != (time < newest) && time != newest {
            problems
                .push(format!("{series}: {time} {} and came after {newest}", if late { "is marked late" } else { "is not marked late" }));
        }
        newest = newest.max(time);
    }
    problems.extend(times.iter().filter(|(_, count)| **count > 1).map(|(time, count)| format!("{series}: {time} is there {count} times")));
    if rows.windows(2).any(|pair| pair[0].partition != pair[1].partition) {
        problems.push(format!("{series}: is in more than one partition"));
    }
    problems.extend(increases(series, rows));
    problems
}

/// Where one row says how far the counter rose, each one does that has a row to count from, and it is what the rows themselves say.
fn increases(series: &Series, rows: &[Placed]) -> Vec<String> {
    let (mut problems, mut before) = (Vec::new(), None);
    if rows.iter().all(|one| one.row.rise.is_none()) {
        return problems;
    }
    for Placed { row, .. } in rows {
        let number = if let Value::Number(number) = row.value { Some(number).filter(|_| !row.late) } else { None };
        let rise = before.zip(number).map(|((time, was), now)| (if now < was { now } else { now - was }, row.time - time));
        if row.rise != rise {
            problems.push(format!("{series}: at {} it says that it rose by {:?}, and the rows say {rise:?}", row.time, row.rise));
        }
        before = number.map(|number| (row.time, number)).or(before);
    }
    problems
}

/// How many rows say how far their counter rose.
pub fn risen(received: &Received) -> usize {
    received.values().flatten().filter(|one| one.row.rise.is_some()).count()
}

/// A few of many.
pub fn first_few(problems: &[String]) -> String {
    problems.iter().take(12).cloned().collect::<Vec<_>>().join("\n")
}

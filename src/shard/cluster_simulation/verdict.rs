//! What must hold in the end, after all trouble: everything promised is delivered, by the rules of part 1.
//!
//! What a row says was before it is held against the rows themselves. Nothing here asks the cluster's own words: what was scraped and answered 2xx, by the senders; what is in the log, by the ledger; what is
//! delivered, by Kafka. The neighbour rule is that of `tests/model/slots.py`: neighbours at least half an interval and at most one and a half apart
//! wherever a replica delivered, give or take, once the interval of a series is known.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::kafka::Row;
use super::ledger::Ledger;
use super::sender::value;
use super::shape::Shape;
use crate::model::Before;
use crate::model::Kind;

/// Intervals at the beginning of a series that do not count: its interval is not known yet.
const UNSETTLED: i64 = 12;

/// What never may be, and what the rules let be now and then.
#[derive(Default)]
pub struct Verdict {
    pub broken: Option<String>,
    pub flaws: Vec<String>,
}

/// Judges the end of a run.
pub fn judge(ledger: &Ledger, shape: &Shape) -> Verdict {
    let mut verdict = Verdict::default();
    let lost = ledger.promised.keys().find(|request| !ledger.has(**request));
    if let Some(request) = lost {
        verdict.broken = Some(format!("request {request} was answered 2xx and is in no log"));
        return verdict;
    }
    let mut delivered: BTreeMap<u64, Vec<&Row>> = BTreeMap::new();
    for shard in &ledger.shards {
        for row in &shard.rows {
            delivered.entry(row.series).or_default().push(row);
        }
    }
    let (mut told, mut counted) = (0, 0);
    for (series, rows) in &delivered {
        if let Err(broken) = each(*series, rows, ledger) {
            verdict.broken.get_or_insert(broken);
        }
        told += rows.iter().filter(|row| row.before.is_some()).count();
        // The first row of a series has nothing before it.
        counted += rows.iter().filter(|row| row.kind == Kind::Float && !row.late).count().saturating_sub(1);
    }
    // `each` lets a row go untold that may lie too far ahead; those are few.
    if counted > 100 && told * 2 < counted {
        verdict.broken.get_or_insert(format!("only {told} of {counted} rows were told what was before"));
    }
    let mut promised: BTreeMap<u64, BTreeSet<i64>> = BTreeMap::new();
    for item in ledger.promised.values().flatten().filter(|item| item.kind == Kind::Float) {
        promised.entry(item.series).or_default().insert(item.time);
    }
    for (series, promised) in &promised {
        let rows = delivered.get(series).map_or(&[][..], Vec::as_slice);
        neighbours((*series, shape.groups[(series >> 32) as usize - 1]), rows, promised, &mut verdict);
    }
    verdict
}

/// None twice; in order but for late ones; scraped by the replica that it names; told what was before it.
fn each(series: u64, rows: &[&Row], ledger: &Ledger) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    // What may be remembered of the series: its newest time, and its newest value. A time too far ahead to be believed is told nothing and leaves no memory, and
    // which those were only apply knows: a newer row that is told nothing may be one, if what comes later agrees with that.
    let mut memories = vec![(i64::MIN, None)];
    for row in rows {
        let counts = row.kind == Kind::Float && !row.late;
        let now = Some(Before { time: row.time, bits: value(series, row.time) });
        let mut next = Vec::new();
        for &(newest, before) in &memories {
            if row.late == (row.time < newest) && row.before == before.filter(|_| counts) {
                next.push((newest.max(row.time), if counts { now } else { before }));
            }
            if !row.late && row.time > newest && row.before.is_none() {
                next.push((newest, before));
            }
        }
        next.dedup();
        if next.is_empty() {
            return Err(format!(
                "series {series:x}: {row:?} is marked wrongly, or was told wrongly what was before: at last {:?}",
                memories.last()
            ));
        }
        memories = next;
        if !seen.insert(row.time) {
            return Err(format!("series {series:x} has time {} twice", row.time));
        }
        if !ledger.was_scraped(row) {
            return Err(format!("series {series:x}: nobody scraped {row:?}"));
        }
    }
    Ok(())
}

/// A stale marker that passed stands where a sample would: whoever came with one more than a minute later is too late (`dedup::rules`).
fn neighbours((series, interval): (u64, i64), rows: &[&Row], promised: &BTreeSet<i64>, verdict: &mut Verdict) {
    let times: BTreeSet<i64> = rows.iter().map(|row| row.time).collect();
    let markers: BTreeSet<i64> = rows.iter().filter(|row| row.kind == Kind::Stale).map(|row| row.time).collect();
    let (Some(first), Some(last)) = (promised.first(), promised.last()) else { return };
    let tail = times.last().is_none_or(|newest| last - newest > interval * 16 / 10);
    let head = times.first().is_none_or(|oldest| oldest - first > interval * 16 / 10);
    if tail || head {
        verdict.broken.get_or_insert(format!("series {series:x} lacks its {}", if tail { "end" } else { "beginning" }));
    }
    let settled = times.first().map_or(0, |oldest| oldest + UNSETTLED * interval);
    for (&before, &after) in times.iter().zip(times.iter().skip(1)) {
        let distance = after - before;
        if before < settled {
            continue;
        }
        if distance * 100 < interval * 49 && !markers.contains(&before) && !markers.contains(&after) {
            verdict.flaws.push(format!("series {series:x}: {distance} ms between {before} and {after}"));
        }
        let inner = before + interval * 55 / 100..after - interval * 55 / 100;
        if distance * 100 > interval * 155 && promised.range(inner).next().is_some() {
            verdict.flaws.push(format!("series {series:x}: a hole of {distance} ms after {before}"));
        }
    }
}

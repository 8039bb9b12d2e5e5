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
    for (series, rows) in &delivered {
        if let Err(broken) = each(*series, rows, ledger) {
            verdict.broken.get_or_insert(broken);
        }
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
    let (mut seen, mut newest) = (BTreeSet::new(), i64::MIN);
    // What may be remembered of the series. A time too far ahead to be believed is told nothing and leaves no memory, and which those were only apply knows: a
    // row that is told nothing may be one, if what comes later agrees with that.
    let mut memories = vec![None];
    for row in rows {
        let counts = row.kind == Kind::Float && !row.late;
        let now = Some(Before { time: row.time, bits: value(series, row.time) });
        let passed_over = memories.iter().copied().filter(|_| row.before.is_none());
        let mut next: Vec<Option<Before>> = match counts {
            true => memories.iter().filter(|memory| **memory == row.before).map(|_| now).chain(passed_over).collect(),
            false => passed_over.collect(),
        };
        if next.is_empty() {
            return Err(format!("series {series:x}: before {row:?} was one of {memories:?}"));
        }
        next.dedup();
        memories = next;
        if !seen.insert(row.time) {
            return Err(format!("series {series:x} has time {} twice", row.time));
        }
        if row.late != (row.time < newest) {
            return Err(format!("series {series:x}: {} after {newest} is not marked as it should be", row.time));
        }
        if !ledger.was_scraped(row) {
            return Err(format!("series {series:x}: nobody scraped {row:?}"));
        }
        newest = newest.max(row.time);
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

//! A day of a cluster whose pods come and go: memory follows what lives.

use crate::dedup::group::Group;
use crate::dedup::judged::Judged;
use crate::model::Item;
use crate::model::Kind;
use std::collections::BTreeSet;
use std::collections::HashSet;
use std::collections::VecDeque;

const INTERVAL: i64 = 60_000;
const HOUR: i64 = 3_600_000;
const PODS: u64 = 500;
const SERIES_OF_A_POD: u64 = 4;
/// Longer than what senders keep (two hours).
const AGE: i64 = 3 * HOUR;

/// The pods of an hour: 4 % (20 of 500) are replaced each hour.
fn pods(hour: i64) -> std::ops::Range<u64> {
    let first = hour as u64 * PODS * 4 / 100;
    first..first + PODS
}

#[test]
fn rows_follow_the_living_and_the_returned_are_neither_doubled_nor_lost() {
    let (mut group, mut out) = (Group::new("g"), Judged::new());
    let mut most = 0;
    let (mut sent, mut passed, mut all) = (BTreeSet::new(), BTreeSet::new(), HashSet::new());
    let (mut recent, mut entry) = (VecDeque::new(), 0_u64);
    let begin = 1_790_000_000_000;
    for minute in 0..24 * 60_i64 {
        let (now, hour) = (begin + minute * INTERVAL, minute / 60);
        let mut living: Vec<u64> = pods(hour).collect();
        // Pod 0 goes with the first hour and comes back for the twelfth and the last: evicted between.
        if matches!(hour, 12 | 23) {
            living.push(0);
        }
        for (replica, offset) in [("a", 0), ("b", 20_000)] {
            let series = living.iter().flat_map(|pod| (0..SERIES_OF_A_POD).map(move |n| pod * SERIES_OF_A_POD + n));
            let items: Vec<Item> = series.map(|series| Item { series, time: now + offset, kind: Kind::Float, refused: false }).collect();
            group.samples(entry, replica, now + offset + 500, items.iter().copied(), &mut out);
            if replica == "a" {
                sent.extend(items.iter().map(|item| (item.series, minute)));
            }
            entry += 1;
            recent.push_back(items);
            for one in &out.passed {
                let item = recent[recent.len() - (entry - one.entry) as usize][one.item as usize];
                assert!(all.insert((item.series, item.time)), "twice: {item:?}");
                passed.insert((item.series, (item.time - begin) / INTERVAL));
            }
            if recent.len() > 8 {
                recent.pop_front();
            }
            out.clear();
        }
        if minute % 10 == 0 {
            group.forget(AGE, 2 * AGE);
            most = most.max(group.series());
        }
    }
    assert_eq!(passed, sent, "samples were lost");
    // In the group's first minute no interval is known, and both copies pass: the rule prefers one too many.
    assert!(all.len() - sent.len() <= (PODS * SERIES_OF_A_POD) as usize);
    // What lives, what died within the age, what died since the last Forget, and pod 0.
    let bound = (PODS + 20 * (AGE / HOUR) as u64 + 20 + 1) * SERIES_OF_A_POD;
    assert!(most as u64 <= bound, "{most} rows, {bound} expected at most");
    assert!(most as u64 > PODS * SERIES_OF_A_POD);
    assert!(group.memory_bytes() < bound as usize * 64 * 2 + 200_000, "{} bytes", group.memory_bytes());

    // A retry of what the evicted pod sent in its first hour is not let through again.
    let old = (0..60).map(|minute| Item { series: 8, time: begin + minute * INTERVAL, kind: Kind::Float, refused: false });
    let before = group.counts();
    group.samples(entry, "a", begin + 24 * HOUR, old.clone(), &mut out);
    group.samples(entry + 1, "b", begin + 24 * HOUR, old, &mut out);
    group.tick(begin + 25 * HOUR, &mut out);
    assert!(out.passed.is_empty());
    assert_eq!(group.counts().too_old - before.too_old, 120);
}

#[test]
fn a_long_outage_forgets_nothing() {
    let (mut group, mut out) = (Group::new("g"), Judged::new());
    let item = |time| std::iter::once(Item { series: 1, time, kind: Kind::Float, refused: false });
    group.samples(1, "a", HOUR, item(HOUR), &mut out);
    group.tick(100 * HOUR, &mut out);
    assert_eq!(group.forget(AGE, AGE).series, 0);
    group.samples(2, "a", 100 * HOUR, item(HOUR), &mut out);
    assert_eq!((out.passed.len(), group.counts().repeated), (1, 1));
}

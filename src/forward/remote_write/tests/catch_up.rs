//! A backlog behind fresh samples: which comes when, and a store that wants nothing older.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Answer;
use super::Got;
use super::Store;
use super::bench;
use super::plain;
use super::taken;
use crate::config::remote_write::CatchUp;
use crate::forward::standin::eventually;
use crate::forward::standin::trouble;
use crate::forward::standin::view;
use crate::forward::view::Phase;

/// A store that takes its time, so that a backlog lasts.
fn slowly(got: &Got) -> Answer {
    std::thread::sleep(Duration::from_millis(5));
    taken(got)
}

#[test]
fn fresh_samples_go_ahead_of_a_backlog_and_both_meet() {
    let store = Store::start(slowly);
    let mut bench = bench(&store);
    bench.wanted.catch_up = CatchUp::FreshFirst;
    let sink = bench.start();
    bench.shard.emit(7, 70);
    bench.delivered(&sink);
    assert_eq!(view(&sink).ahead, 0);
    bench.shard.pause(true);
    eventually("the pause", || (view(&sink).phase == Phase::Paused).then_some(()));
    for _ in 0..40 {
        bench.shard.emit_at(7, 350, -600_000);
    }
    bench.shard.pause(false);
    let (backlog, before) = (70 + 40 * 350, store.got().len());
    eventually("the backlog to go", || (store.got().len() > before + 4).then_some(()));
    bench.shard.emit(7, 7);
    bench.finish(sink);
    // How many of the others had come before the newest ones, of which none could be before.
    let order: Vec<(u64, u64)> = store.got().iter().flat_map(|got| got.samples.clone()).collect();
    let place = |number: u64| order.iter().position(|sample| *sample == (0, number)).unwrap();
    assert!(place(backlog / 7) < place(backlog / 7 - 1), "the newest sample came last");
    let mut numbers = store.counted().remove(&0).unwrap();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..=backlog / 7).collect::<Vec<_>>(), "none is missing, none there twice");
    assert_eq!(bench.shard.cursor_now().delivered, backlog + 7);
}

#[test]
fn a_store_that_takes_nothing_older_holds_the_backlog_and_not_what_is_fresh() {
    let (open, newest) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeMap::<u64, u64>::new())));
    let is_open = Arc::clone(&open);
    let store = Store::start(move |got| {
        let mut newest = newest.lock().unwrap();
        let older = got.samples.iter().any(|(series, number)| newest.get(series).is_some_and(|newest| newest > number));
        if older && !is_open.load(Ordering::Relaxed) {
            return plain(400, "out of order sample");
        }
        newest.extend(got.samples.iter().copied());
        slowly(got)
    });
    let mut bench = bench(&store);
    bench.wanted.catch_up = CatchUp::FreshFirst;
    for _ in 0..10 {
        bench.shard.emit_at(7, 700, -600_000);
    }
    let sink = bench.start();
    eventually("the backlog to go", || (store.got().len() > 4).then_some(()));
    bench.shard.emit(7, 70);
    let shown = trouble(&sink, "refuses_older");
    assert!(shown.remedy.contains("out_of_order_time_window"), "{shown:?}");
    for _ in 0..3 {
        bench.shard.emit(7, 70);
        let (ahead, last) = (view(&sink).ahead, bench.shard.last());
        eventually(&format!("fresh ones, {ahead} and {last}"), || (view(&sink).ahead > ahead).then_some(()));
    }
    assert_eq!(view(&sink).trouble.map(|trouble| trouble.code), Some("refuses_older"));
    open.store(true, Ordering::Relaxed);
    bench.finish(sink);
    assert_eq!(bench.shard.dead(), Vec::new());
    let mut numbers = store.counted().remove(&0).unwrap();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 7_000 / 7 + 40);
}

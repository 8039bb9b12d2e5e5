//! A store that refuses nearly all of a batch: what that costs, and that what is good still comes through.

use super::Store;
use super::bench;
use super::plain;
use super::taken;
use crate::forward::standin::view;

#[test]
fn a_batch_in_which_nearly_all_is_bad_costs_few_requests() {
    for (good, requests) in [(0, 500), (10, 600)] {
        // Samples of the first series are bad, the few of the others good.
        let store = Store::start(
            move |got| if got.samples.iter().any(|(series, _)| *series >= good) { plain(400, "too long") } else { taken(got) },
        );
        let mut bench = bench(&store);
        bench.wanted.connections = 1;
        bench.wanted.samples_per_request = 5000;
        let sink = bench.start();
        bench.shard.emit(1000, 5000);
        bench.delivered(&sink);
        let (dead, got) = (bench.shard.dead().len(), store.got().len());
        let delivered = bench.shard.cursor_now().delivered;
        eprintln!("{good} of 1000 series good: {got} requests, {dead} dead letters, {delivered} delivered");
        assert!(got <= requests, "{got} requests");
        assert!(view(&sink).notes.iter().any(|note| note.code == "samples_refused"));
        bench.finish(sink);
        let cursor = bench.shard.cursor_now();
        assert_eq!((cursor.delivered + cursor.dead, cursor.dead as usize), (5000, bench.shard.dead().len()));
        let together = bench.shard.dead().iter().filter(|dead| dead.reason.contains("together")).count();
        assert!(together > 4000, "{together}");
    }
}

/// A few offenders among many good ones are found one by one.
#[test]
fn offenders_among_good_ones_are_found_one_by_one() {
    let store =
        Store::start(|got| if got.samples.iter().any(|(series, _)| series % 20 == 3) { plain(400, "too long") } else { taken(got) });
    let bench = bench(&store);
    let sink = bench.start();
    bench.shard.emit(100, 2000);
    bench.finish(sink);
    let cursor = bench.shard.cursor_now();
    assert_eq!((cursor.delivered, cursor.dead), (1900, 100));
    assert!(bench.shard.dead().iter().all(|dead| !dead.reason.contains("together")));
}

//! How soon rows go: what comes after a pause at once, what comes right after it together.

use super::*;

#[test]
fn what_comes_after_a_pause_waits_for_nothing_and_the_rest_for_its_turn() {
    let mut bench = bench();
    // Longer than the test waits for anything.
    bench.draft.transaction_ms = Some(10_000);
    let sink = bench.start();
    // The first session asks for its place before it begins: that is not measured.
    eventually("a session", || (view(&sink).phase == Phase::Running).then_some(()));
    bench.shard.emit(7, 10);
    let began = clock::now();
    delivered(&bench, &sink);
    assert!(clock::now() - began < Duration::from_secs(5), "it waited until it was old");
    for _ in 0..5 {
        bench.shard.emit(7, 10);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!((view(&sink).sums.commits, view(&sink).position), (1, 1), "another transaction so soon after the first");
    stop(sink);
    each_once_in_order(&bench.read(60), 7, 60);
}

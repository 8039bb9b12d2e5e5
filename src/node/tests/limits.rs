//! One group at its limits: what is refused, what is struck, and that another group of the same shard notices nothing.

use super::*;
use crate::config::limits::PerGroup;
use crate::node::group_limits;
use crate::node::group_limits::GroupLimits;
use crate::node::offer::Struck;

/// So much for the group `g` alone.
fn only_g(handle: &Handle, change: impl FnOnce(&mut PerGroup)) {
    let mut limit = PerGroup::default();
    change(&mut limit);
    handle.limit_groups(GroupLimits { special: [("g".to_owned(), limit)].into(), ..GroupLimits::default() });
}

fn counts(handle: &Handle, group: &str) -> (u64, u64, u64) {
    let view = handle.groups().into_iter().find(|view| view.name == group);
    view.map_or((0, 0, 0), |view| (view.series, view.counts.emitted, view.counts.refused))
}

#[test]
fn new_series_beyond_the_limit_are_struck_and_known_ones_pass() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(settings(directory.path()));
    let handle = node.handle.clone();
    wait(handle.ready()).unwrap();
    let seed = handle.hash_seed();
    only_g(&handle, |limit| limit.series = 10);
    let second = |number: i64| 1_790_000_000_000 + number * 1000;
    assert_eq!(send(&handle, offer(seed, "g", "a", (8, second(1), 0))), Ok(()));
    assert_eq!(send(&handle, offer(seed, "g", "b", (8, second(1), 0))), Ok(()), "the twin's are known already");
    let struck = |samples, series| OfferError::NewSeries { struck: Struck { samples, ..Struck::default() }, series, limit: 10 };
    assert_eq!(send(&handle, offer(seed, "g", "a", (15, second(2), 0))), Err(struck(5, 8)), "two fit, five do not");
    assert_eq!(send(&handle, offer(seed, "g", "a", (15, second(3), 0))), Err(struck(5, 10)));
    assert_eq!(send(&handle, offer(seed, "g", "a", (10, second(4), 0))), Ok(()), "known ones go on");
    let fresh = offer(seed, "g", "a", (3, second(5), 5)); // padded: other series
    assert_eq!(send(&handle, fresh), Err(struck(3, 10)), "nothing of it is left, and no entry is made of it");
    assert_eq!(send(&handle, offer(seed, "h", "a", (500, second(1), 0))), Ok(()));
    eventually(|| counts(&handle, "g") == (10, 8 + 10 + 10 + 10, 10) && counts(&handle, "h").0 == 500);
    drop(node.stop());
}

#[test]
fn over_a_rate_one_group_is_told_to_wait_and_the_other_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(settings(directory.path()));
    let handle = node.handle.clone();
    wait(handle.ready()).unwrap();
    let seed = handle.hash_seed();
    let busy = |reason| Err(OfferError::Overloaded { reason });
    let time = |number: i64| 1_790_000_000_000 + number * 1000;
    // One sample a second: ten at once, and what overdraws passes once.
    only_g(&handle, |limit| limit.samples_per_second = 1);
    assert_eq!(send(&handle, offer(seed, "g", "a", (100, time(1), 0))), Ok(()));
    assert_eq!(send(&handle, offer(seed, "g", "b", (100, time(1), 0))), busy(group_limits::SAMPLES));
    assert_eq!(send(&handle, offer(seed, "h", "a", (100, time(1), 0))), Ok(()));
    // The hundred series above were begun at once, where sixty may be.
    only_g(&handle, |limit| limit.new_series_per_second = 1);
    assert_eq!(send(&handle, offer(seed, "h", "a", (200, time(2), 0))), Ok(()));
    eventually(|| counts(&handle, "g").0 == 100);
    let limits = |samples| PerGroup { new_series_per_second: 1, samples_per_second: samples, ..PerGroup::default() };
    handle.limit_groups(GroupLimits { special: [("i".to_owned(), limits(1_000_000))].into(), ..GroupLimits::default() });
    assert_eq!(send(&handle, offer(seed, "i", "a", (100, time(1), 0))), Ok(()));
    assert_eq!(send(&handle, offer(seed, "i", "a", (120, time(2), 0))), busy(group_limits::NEW_SERIES));
    assert_eq!(send(&handle, offer(seed, "i", "a", (100, time(2), 0))), Ok(()), "no new ones among them");
    assert_eq!(send(&handle, offer(seed, "h", "a", (500, time(3), 0))), Ok(()));
    drop(node.stop());
}

#[test]
fn series_that_are_under_way_count() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(settings(directory.path()));
    let handle = node.handle.clone();
    wait(handle.ready()).unwrap();
    let seed = handle.hash_seed();
    only_g(&handle, |limit| limit.series = 900);
    // Both replicas' first scrapes at the same moment: the second one is not more than the limit, though nothing is applied yet.
    let both = wait(async {
        let shard = handle.assign("g").await.unwrap();
        let offers = ["a", "b", "a", "b"].map(|replica| {
            let mut offer = offer(seed, "g", replica, (900, 1_790_000_000_000, 0));
            offer.settings = handle.settings_version(shard);
            let handle = handle.clone();
            tokio::spawn(async move { handle.offer(offer).await })
        });
        let mut answers = Vec::new();
        for offer in offers {
            answers.push(offer.await.unwrap());
        }
        answers
    });
    assert_eq!(both, vec![Ok(()); 4]);
    drop(node.stop());
}

/// Rates begin anew with a leader; the number of series does not, since it is that of the group's rows, which every member has.
#[test]
fn a_new_leader_knows_at_once_how_many_series_a_group_has() {
    let directory = tempfile::tempdir().unwrap();
    let second = |number: i64| 1_790_000_000_000 + number * 1000;
    for life in 1..=2 {
        let node = start(settings(directory.path()));
        let handle = node.handle.clone();
        wait(handle.ready()).unwrap();
        let seed = handle.hash_seed();
        only_g(&handle, |limit| limit.series = 10);
        let struck = |samples, series| OfferError::NewSeries { struck: Struck { samples, ..Struck::default() }, series, limit: 10 };
        let (series, expected) = if life == 1 { (10, Ok(())) } else { (15, Err(struck(5, 10))) };
        assert_eq!(send(&handle, offer(seed, "g", "a", (series, second(life), 0))), expected, "life {life}");
        drop(node.stop());
    }
}

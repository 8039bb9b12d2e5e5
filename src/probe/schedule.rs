//! Which node looks at a target, and when. Pure: every node works it out for itself from what all know, so nobody hands out work.
//!
//! A target's place in its interval is drawn from its key: a thousand targets are spread evenly over the interval, stay where they are when others come
//! and go, and keep their place when another node takes over. Its owner is the node that a hash of both ranks first (rendezvous), so a node that is gone
//! leaves its share to all others alike, and nothing else moves. Left out on purpose: who is alive (`app` says), and waiting (`jobs`).

use xxhash_rust::xxh3::xxh3_64;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A target, for whatever is said of it between nodes.
pub fn key(job: &str, instance: &str) -> u64 {
    xxh3_64(&[job.as_bytes(), &[0], instance.as_bytes()].concat())
}

/// A target's place in its interval, ms.
pub fn phase(key: u64, interval_ms: u64) -> u64 {
    // The upper half: the lower one decides elsewhere.
    ((u128::from(key) * u128::from(interval_ms)) >> 64) as u64
}

/// The first time after `now` with this place, ms since 1970.
pub fn next(now_ms: i64, phase_ms: u64, interval_ms: u64) -> i64 {
    let (phase, interval) = (phase_ms as i64, interval_ms.max(1) as i64);
    let next = now_ms - (now_ms - phase).rem_euclid(interval) + interval;
    debug_assert!(next > now_ms && next <= now_ms + interval);
    next
}

/// Whose target it is; 0: nobody's, since nobody lives.
pub fn owner(key: u64, living: &[u64]) -> u64 {
    living.iter().copied().max_by_key(|node| (xxh3_64_with_seed(&node.to_le_bytes(), key), *node)).unwrap_or(0)
}

/// Where all nodes look at a target: how much later than the first this one does, ms, so that somebody looks every `interval / nodes`.
pub fn turn(own: u64, nodes: &[u64], interval_ms: u64) -> u64 {
    let before = nodes.iter().filter(|node| **node < own).count() as u64;
    before * interval_ms / (nodes.len() as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(number: usize) -> Vec<u64> {
        (0..number).map(|number| key("web", &format!("host-{number}:80"))).collect()
    }

    #[test]
    fn ten_thousand_targets_begin_without_bursts() {
        let interval = 10_000;
        let mut slots = [0; 100];
        keys(10_000).into_iter().for_each(|key| slots[(phase(key, interval) / 100) as usize] += 1);
        // 100 each on average; chance alone gives a deviation of 10.
        assert!(slots.iter().all(|slot| (50..=150).contains(slot)), "{slots:?}");
    }

    #[test]
    fn a_time_comes_once_an_interval_and_never_twice() {
        for key in keys(500) {
            let phase = phase(key, 15_000);
            let mut now = 1_790_000_000_000;
            for _ in 0..5 {
                let at = next(now, phase, 15_000);
                assert!(at > now && at - now <= 15_000 && at.rem_euclid(15_000) == phase as i64);
                assert_eq!(next(at - 1, phase, 15_000), at);
                now = at;
            }
        }
    }

    #[test]
    fn the_nodes_share_evenly_and_a_dead_ones_targets_alone_move_to_all_others() {
        let (all, left) = ([11, 22, 33], [11, 33]);
        let keys = keys(9_000);
        let of = |node: u64, living: &[u64]| keys.iter().filter(|key| owner(**key, living) == node).count();
        assert!(all.iter().all(|node| (2_700..=3_300).contains(&of(*node, &all))));
        for key in &keys {
            let (before, after) = (owner(*key, &all), owner(*key, &left));
            assert!(before == after || before == 22);
        }
        assert!(left.iter().all(|node| (4_200..=4_800).contains(&of(*node, &left))));
        assert_eq!(owner(keys[0], &[33, 11, 22]), owner(keys[0], &all), "in whatever order they are known");
        assert_eq!(owner(1, &[]), 0);
    }

    #[test]
    fn nodes_that_all_look_take_turns() {
        assert_eq!([7, 9, 8].map(|own| turn(own, &[7, 8, 9], 1_000)), [0, 666, 333]);
        assert_eq!(turn(5, &[], 1_000), 0);
    }
}

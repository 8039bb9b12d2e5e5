//! Seeds without a planted bug must end well, seeds with one must not, and a seed must be one history.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use super::bugs::Bug;
use super::world;
use super::world::Outcome;

/// A panic is a broken promise like any other.
fn play(seed: u64, planted: Option<Bug>, loud: bool) -> Outcome {
    let played = catch_unwind(AssertUnwindSafe(|| world::run(seed, planted, loud)));
    played.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Outcome { broken: Some(format!("panic: {}", text.unwrap_or("?"))), ..Outcome::default() }
    })
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} should be a number")))
}

#[test]
fn cluster_simulation_keeps_all_promises() {
    if let Some(seed) = number("SEED") {
        let outcome = play(seed, None, true);
        println!("{outcome:?}");
        assert_eq!(outcome.broken, None);
        return;
    }
    let (from, seeds) = (number("FROM").unwrap_or(0), number("SEEDS").unwrap_or(100));
    let (mut sum, mut flawed) = (Outcome::default(), 0);
    for seed in from..from + seeds {
        let outcome = play(seed, None, false);
        if let Some(broken) = outcome.broken {
            panic!("seed {seed}: {broken}\nreplay it with: scripts/simulate --seed {seed}");
        }
        if !outcome.flaws.is_empty() {
            println!("seed {seed}: {:?}", &outcome.flaws[..outcome.flaws.len().min(3)]);
            flawed += 1;
        }
        sum.entries += outcome.entries;
        sum.rows += outcome.rows;
        sum.promised += outcome.promised;
        sum.crashes += outcome.crashes;
        sum.lasted += outcome.lasted;
        if (seed + 1 - from).is_multiple_of(100) {
            println!("{} seeds", seed + 1 - from);
        }
    }
    println!("{seeds} seeds, {flawed} with a flaw; {sum:?}");
}

#[test]
fn cluster_simulation_replays_a_seed() {
    for seed in 0..4 {
        assert_eq!(play(seed, None, false).hash, play(seed, None, false).hash, "seed {seed}");
    }
    assert_ne!(play(0, None, false).hash, play(1, None, false).hash);
}

/// Plays seeds until the planted bug breaks something.
#[track_caller]
fn found(bug: Bug, within: u64) {
    for seed in 0..within {
        if let Some(broken) = play(seed, Some(bug), false).broken {
            println!("{bug:?} is found by seed {seed}: {broken}");
            return;
        }
    }
    panic!("{bug:?} is not found by {within} seeds");
}

#[test]
fn cluster_simulation_finds_planted_bugs() {
    for bug in Bug::ALL {
        found(bug, 300);
    }
}

//! Seeds without a planted bug must end well, seeds with one must not, and a seed must be one history.
//!
//! `SEEDS=n FROM=n` plays others than usual, `SEED=n` one, and tells its history; with `BUG=VoteNotSynced` one that has this bug.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use super::bugs::Bug;
use super::world;
use super::world::Outcome;

/// What a run of the tests plays; a seed takes some 70 ms.
const SEEDS: u64 = 300;
/// A planted bug must be found within so many.
const WITHIN: u64 = 400;

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

/// What came of many seeds.
#[derive(Default)]
struct Sum {
    played: u64,
    all: Outcome,
    flawed: u64,
    broken: Option<(u64, String)>,
}

impl Sum {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.played += 1;
        if let Some(broken) = outcome.broken {
            self.broken.get_or_insert((seed, broken));
        }
        if let Some(flaw) = outcome.flaws.first() {
            println!("seed {seed}, a flaw: {flaw}");
            self.flawed += 1;
        }
        self.all.entries += outcome.entries;
        self.all.rows += outcome.rows;
        self.all.promised += outcome.promised;
        self.all.crashes += outcome.crashes;
        self.all.terms += outcome.terms;
        self.all.snapshots += outcome.snapshots;
        self.all.lasted += outcome.lasted;
        if self.played.is_multiple_of(100) {
            println!("{} seeds played", self.played);
        }
    }
}

/// Plays seeds on all cores, until one is broken.
fn play_all(from: u64, seeds: u64) -> Sum {
    let (next, sum) = (AtomicU64::new(from), Mutex::new(Sum::default()));
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + seeds || sum.lock().unwrap().broken.is_some() {
                return;
            }
            let outcome = play(seed, None, false);
            sum.lock().unwrap().add(seed, outcome);
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (0..cores).for_each(|_| drop(scope.spawn(worker)));
    });
    sum.into_inner().unwrap()
}

#[test]
fn cluster_simulation_keeps_all_promises() {
    if let Some(seed) = number("SEED") {
        let bug = std::env::var("BUG").ok();
        let planted = Bug::ALL.into_iter().find(|known| bug == Some(format!("{known:?}")));
        let outcome = play(seed, planted, true);
        assert_eq!(outcome.broken, None, "{outcome:?}");
        return;
    }
    let (from, seeds) = (number("FROM").unwrap_or(0), number("SEEDS").unwrap_or(SEEDS));
    let Sum { all, flawed, broken, .. } = play_all(from, seeds);
    if let Some((seed, broken)) = broken {
        panic!("seed {seed}: {broken}\nIts history: scripts/simulate --seed {seed}");
    }
    let Outcome { entries, rows, promised, crashes, terms, snapshots, lasted, .. } = all;
    println!(
        "{seeds} seeds, {} simulated hours: {crashes} crashes, {terms} terms with a leader, {snapshots} snapshots, {entries} entries, {promised} requests answered 2xx, {rows} \
         rows; {flawed} seeds with a flaw",
        lasted / 3_600_000
    );
    // Otherwise it proves little.
    let each = |count: usize, least: usize| count >= least * seeds as usize || seeds < 50;
    assert!(each(entries, 200) && each(promised, 100) && each(rows, 200) && each(crashes, 5) && each(terms, 10));
    assert!(2 * snapshots as u64 > seeds || seeds < 50, "{snapshots} snapshots");
    assert!(flawed * 100 <= seeds.max(100), "more than one seed in a hundred has a flaw");
}

#[test]
fn cluster_simulation_replays_a_seed() {
    for seed in 0..4 {
        assert_eq!(play(seed, None, false).hash, play(seed, None, false).hash, "seed {seed}");
    }
    assert_ne!(play(0, None, false).hash, play(1, None, false).hash);
}

/// Plays seeds until the planted bug breaks something, and that is what such a bug breaks.
#[track_caller]
fn found(bug: Bug, breaks: &[&str]) {
    for seed in 0..WITHIN {
        if let Some(broken) = play(seed, Some(bug), false).broken {
            println!("{bug:?} is found by seed {seed}: {broken}");
            assert!(breaks.iter().any(|words| broken.contains(words)), "{broken}");
            return;
        }
    }
    panic!("{bug:?} is not found by {WITHIN} seeds");
}

#[test]
fn a_vote_that_is_not_synced_is_found() {
    found(Bug::VoteNotSynced, &["two leaders", "told wrongly"]);
}

#[test]
fn entries_that_are_not_synced_are_found() {
    found(Bug::EntriesNotSynced, &["out of range", "in no log", "is another one"]);
}

#[test]
fn a_2xx_before_commit_is_found() {
    found(Bug::AnsweredBeforeCommit, &["in no log"]);
}

#[test]
fn a_position_before_its_rows_is_found() {
    found(Bug::PositionBeforeRows, &["next should be"]);
}

#[test]
fn a_sink_that_does_not_fence_is_found() {
    found(Bug::NotFenced, &["next should be"]);
}

#[test]
fn a_sink_that_comes_again_and_takes_up_an_old_position_is_found() {
    found(Bug::EpochForgotten, &["next should be"]);
}

#[test]
fn a_log_that_is_cut_before_a_waiting_sample_is_judged_is_found() {
    found(Bug::CutBeforeJudged, &["is gone before"]);
}

#[test]
fn a_log_that_is_cut_before_all_have_it_is_found() {
    found(Bug::CutForgetsOthers, &["and was not away"]);
}

#[test]
fn a_snapshot_without_the_undelivered_log_is_found() {
    found(Bug::SnapshotWithoutLog, &["and lacks emission"]);
}

#[test]
fn a_snapshot_that_is_installed_before_the_last_piece_is_found() {
    found(Bug::InstalledEarly, &["and lacks emission"]);
}

#[test]
fn a_snapshot_cut_short_that_counts_as_the_members_own_log_is_found() {
    found(Bug::StagedKept, &["does not start", "is another one", "out of range"]);
}

#[test]
fn a_wiped_node_under_its_old_id_is_found() {
    found(Bug::OldId, &["out of range", "two leaders", "in no log", "is another one"]);
}

#[test]
fn a_vote_for_a_member_that_lacks_the_log_is_found() {
    found(Bug::VoteTooSoon, &["gets a vote"]);
}

#[test]
fn a_body_that_is_not_copied_is_found() {
    found(Bug::BodyNotCopied, &["is gone before", "or its body"]);
}

#[test]
fn apply_that_reads_a_clock_is_found() {
    found(Bug::ApplyReadsClock, &["state after entry"]);
}

#[test]
fn a_new_leaders_clock_that_is_behind_is_found() {
    found(Bug::ClockBehind, &["time goes back"]);
}

#[test]
fn a_new_leader_that_proposes_before_it_knows_its_predecessors_time_is_found() {
    found(Bug::AskedTooSoon, &["time goes back"]);
}

#[test]
fn a_2xx_by_whoever_leads_no_more_is_found() {
    found(Bug::AnsweredOnLoss, &["in no log"]);
}

#[test]
fn a_wrong_clock_that_is_believed_is_found() {
    found(Bug::WrongClockBelieved, &["when no clock was later"]);
}

#[test]
fn a_node_with_a_wrong_clock_that_leads_on_is_found() {
    found(Bug::WrongClockLeads, &["though its clock is wrong"]);
}

#[test]
fn a_cut_that_is_not_counted_is_found() {
    found(Bug::CutUncounted, &["and counts"]);
}

#[test]
fn a_cut_before_it_is_agreed_on_is_found() {
    found(Bug::CutUnsaid, &["is gone before", "and lacks emission"]);
}

#[test]
fn a_refused_row_that_is_no_dead_letter_is_found() {
    found(Bug::DeadUnsaid, &["is no dead letter"]);
}

#[test]
fn a_disk_that_lost_its_end_and_starts_all_the_same_is_found() {
    found(Bug::MarkIgnored, &["out of range", "two leaders", "in no log", "is another one"]);
}

#[test]
fn a_comer_that_lost_its_disk_and_keeps_its_id_is_found() {
    found(Bug::ComerOldId, &["out of range", "in no log", "is another one", "is not done"]);
}

#[test]
fn a_sink_that_counts_from_what_it_remembers_is_found() {
    found(Bug::CountedByMemory, &["next should be"]);
}

#[test]
fn values_that_no_digest_says_are_found() {
    found(Bug::ValuesUnsaid, &["told wrongly", "were told what was before"]);
}

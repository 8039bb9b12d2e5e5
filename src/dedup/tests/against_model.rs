//! Our group against the executable rule (`tests/model/slots.py`): the same samples, in the same order, at the same events.
//!
//! `SLUICE_SEEDS=n` asks for more trials. Needs python3; without it the test fails.

use crate::dedup::group::Group;
use crate::dedup::group::Switch;
use crate::dedup::judged::Judged;
use crate::model::Item;
use crate::model::Kind;
use std::process::Command;

/// One sample that passed: series, time, replica, late.
type Line = (u64, i64, String, bool);

/// Our group, and what it was given, so that what passes can be named.
struct Ours {
    group: Group,
    out: Judged,
    entries: Vec<(String, Vec<Item>)>,
    emitted: u64,
}

impl Ours {
    fn new() -> Ours {
        Ours { group: Group::new("g"), out: Judged::new(), entries: Vec::new(), emitted: 0 }
    }

    fn samples(&mut self, replica: &str, at: i64, items: Vec<Item>) {
        let entry = self.entries.len() as u64;
        self.group.samples(entry, replica, at, items.iter().copied(), &mut self.out);
        self.entries.push((replica.to_owned(), items));
    }

    /// What has passed since the last call.
    fn take(&mut self) -> Vec<Line> {
        let line = |passed: &crate::dedup::judged::Passed| {
            let (replica, items) = &self.entries[passed.entry as usize];
            let item = items[passed.item as usize];
            (item.series, item.time, replica.clone(), passed.late)
        };
        let lines: Vec<Line> = self.out.passed.iter().map(line).collect();
        self.emitted += lines.len() as u64;
        self.out.clear();
        let counts = self.group.counts();
        assert!(counts.balanced() && counts.emitted == self.emitted, "{counts:?}");
        lines
    }
}

fn numbers(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.split_whitespace().map(|sample| sample.split(',').collect())
}

/// Plays one line; gives back the ticks that let something through too early.
fn play(ours: &mut Ours, line: &str) -> Vec<Line> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[0] {
        "s" => {
            let item = |sample: Vec<&str>| Item {
                series: sample[0].parse().unwrap(),
                time: sample[1].parse().unwrap(),
                kind: if sample.len() > 2 { Kind::Stale } else { Kind::Float },
                refused: false,
            };
            let items = numbers(line).skip(3).map(item).collect();
            ours.samples(words[1], words[2].parse().unwrap(), items);
        }
        "t" => {
            let (first, count): (i64, i64) = (words[1].parse().unwrap(), words[2].parse().unwrap());
            for step in 0..count {
                ours.group.tick(first + step * 250, &mut ours.out);
                if step + 1 < count && !ours.out.passed.is_empty() {
                    return ours.take();
                }
            }
        }
        "w" => {
            let order = Switch { from: words[1], to: words[2], reason: "trial", evidence: "" };
            ours.group.switch(&order, words[3].parse().unwrap(), &mut ours.out);
        }
        other => panic!("dump.py said {other}"),
    }
    Vec::new()
}

fn compare(kind: &str, first: u64, count: u64) -> u64 {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/model/dump.py");
    let output = Command::new("python3").args([script, kind, &first.to_string(), &count.to_string()]).output();
    let output = output.expect("this test needs python3 (the rule it checks against is a Python program): install python3");
    assert!(output.status.success(), "dump.py failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut ours = Ours::new();
    let (mut trial, mut passed, mut trials) = ("", 0, 0);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("seed") {
            (ours, trial, trials) = (Ours::new(), line, trials + 1);
            continue;
        }
        let early = play(&mut ours, line);
        assert!(early.is_empty(), "{trial}: after {line}: ours let through too early {early:?}");
        let ours_passed = ours.take();
        let mut theirs = Vec::new();
        if let Some(said) = lines.next_if(|next| next.starts_with("e ")) {
            theirs = numbers(said).skip(1).map(|e| (e[0].parse().unwrap(), e[1].parse().unwrap(), e[2].to_owned(), e[3] == "1")).collect();
        }
        let short: String = line.chars().take(300).collect();
        assert_eq!(ours_passed, theirs, "{trial}: after {short}: left ours, right the model's");
        passed += theirs.len() as u64;
    }
    assert_eq!(trials, count);
    passed
}

/// In two processes: Python takes nearly all of the time.
fn compare_many(kind: &'static str, share: u64) {
    let count = std::env::var("SLUICE_SEEDS").map_or(336, |text| text.parse::<u64>().expect("SLUICE_SEEDS is a number")) / share;
    let (half, rest) = (count / 2, count - count / 2);
    let passed: u64 = std::thread::scope(|scope| {
        let halves = [(0, half), (half, rest)].map(|(first, count)| scope.spawn(move || compare(kind, first, count)));
        halves.into_iter().map(|half| half.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).sum()
    });
    println!("{kind}: {count} trials, {passed} samples forwarded alike");
    assert!(passed > count * 100, "the trials let through {passed} samples only");
}

#[test]
fn agrees_with_the_model_in_its_own_trials() {
    compare_many("trials", 1);
}

#[test]
fn agrees_with_the_model_where_its_trials_do_not_go() {
    compare_many("wild", 3);
}

//! Configurations that nobody meant: damaged ones, and YAML made to hurt parsers. They are refused in words or taken, and never panic.

use fastrand::Rng;

use super::*;
use crate::mutate::damage_text;
use crate::mutate::seeds;

const SHIPPED: &str = include_str!("../../config/sluice.yaml");

/// The shipped file, the same with all its lines in force, and flow style.
fn corpus() -> Vec<String> {
    let is_prose = |rest: &str| rest.starts_with(' ') && !rest.starts_with("  ");
    let in_force = |line: &str| line.strip_prefix('#').filter(|rest| !is_prose(rest)).unwrap_or(line).to_owned();
    let all: Vec<String> = SHIPPED.lines().map(in_force).collect();
    let flow = "{listen: '127.0.0.1:1', data_dir: \"/x\\ty\", sinks: [{name: p, kafka: {brokers: [\"a:1\"], topic: t, format: rows}}]}";
    vec![SHIPPED.to_owned(), all.join("\n"), flow.to_owned()]
}

/// Values that parsers stumble over.
const WORDS: &[&str] = &[
    "",
    "-1",
    "18446744073709551615",
    "18446744073709551616",
    "9999999999999999999TiB",
    "1.7976931348623157e308GiB",
    "99999999999999999999h",
    "0x7f",
    "~",
    "[::1]:65536",
    "127.0.0.1:0",
    ":",
    "ä:1",
    "{}",
    "[]",
    "[[]]",
    "!!binary x",
    "&a *a",
    "|\n   x",
    "\"\\u0000\"",
    "\"\\xff\"",
    "100%",
    "101%",
];

#[test]
fn damaged_configurations_are_refused_in_words_and_never_panic() {
    let corpus = corpus();
    let (mut taken, mut all) = (0, 0);
    for seed in seeds(4_000) {
        let random = &mut Rng::with_seed(seed);
        let mut text = corpus[random.usize(0..corpus.len())].clone();
        if random.bool() {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            let line = random.usize(0..lines.len());
            if let Some((key, _)) = lines[line].split_once(": ") {
                lines[line] = format!("{key}: {}", WORDS[random.usize(0..WORDS.len())]);
            }
            text = lines.join("\n");
        } else {
            text = damage_text(random, &text);
        }
        all += 1;
        match Config::parse(&text) {
            Ok(_) => taken += 1,
            Err(problems) => {
                assert!(!problems.is_empty(), "SEED={seed}");
                let lines = text.lines().count() + 1;
                let fine = |problem: &Problem| !problem.rule.is_empty() && problem.line <= lines + 1;
                assert!(problems.iter().all(fine), "SEED={seed}: {problems:?}");
            }
        }
    }
    assert!(all < 100 || (taken * 20 > all && taken < all), "{taken} of {all} taken: the fuzzer does not get far");
}

#[test]
fn yaml_made_to_hurt_is_refused() {
    let laughs =
        "a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c]\n";
    let deep = [("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", "")].map(|(open, close)| open.repeat(50_000) + &close.repeat(50_000));
    let many = "x: 1\n".repeat(50_000);
    for text in deep.iter().map(String::as_str).chain([laughs, &many, "\u{feff}", "%YAML 9.9\n---\n", "---\n---\n", "\0", "a: 'x", "\t"]) {
        assert!(Config::parse(text).is_err(), "{:?}", &text[..text.len().min(40)]);
    }
}

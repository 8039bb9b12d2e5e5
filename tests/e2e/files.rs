//! Files of rows, read back with other programs: after kills, after a death at every step, and after leadership moved between nodes that share a directory.

use super::crash::{INTERVAL, sender};
use super::stores::{end, goes_on_at_all, listed, load};
use crate::support::check::first_few;
use crate::support::gate::Samples;
use crate::support::process::{Scratch, eventually, let_pass};
use crate::support::series::{Series, Value, parse_rows};
use crate::support::sluice::Sluice;
use crate::support::trio::Trio;
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Places of `src/failpoint.rs` on the way into files.
pub const PLACES: &[&str] = &["file.begun", "file.written", "file.placed", "file.finished"];

/// A sink of a configuration.
fn sink(name: &str, dir: &Path, more: &str) -> String {
    format!("  - name: {name}\n    file: {{ directory: {}{more} }}\n", dir.display())
}

/// All finished files; none may be unfinished once everybody has stopped.
fn files(dir: &Path) -> Vec<PathBuf> {
    let all: Vec<PathBuf> = std::fs::read_dir(dir).expect("the directory").map(|entry| entry.expect("an entry").path()).collect();
    let (places, files): (Vec<PathBuf>, Vec<PathBuf>) =
        all.into_iter().partition(|path| path.extension().is_some_and(|end| end == "place"));
    assert!(!places.is_empty() && files.iter().all(|path| path.extension().is_some_and(|end| end != "part")), "{files:?}");
    files
}

/// What a file holds, unpacked to its very end.
fn text(path: &Path) -> Vec<u8> {
    let raw = std::fs::read(path).expect("a file");
    match path.extension().and_then(|end| end.to_str()) {
        Some("zst") => zstd::decode_all(&raw[..]).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        Some("gz") => {
            let mut text = Vec::new();
            let read = flate2::read::MultiGzDecoder::new(&raw[..]).read_to_end(&mut text);
            read.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            text
        }
        _ => raw,
    }
}

/// Everything in a directory, and how many rows of it are there more than once.
pub(super) fn read_back(dir: &Path) -> (BTreeMap<(Series, i64), Value>, usize) {
    let (mut rows, mut doubles) = (BTreeMap::new(), 0);
    for path in files(dir) {
        let text = text(&path);
        assert!(text.ends_with(b"\n"), "{} ends within a row", path.display());
        for row in parse_rows(&text) {
            doubles += usize::from(rows.insert((row.series, row.time), row.value).is_some());
        }
    }
    (rows, doubles)
}

/// All that was acknowledged is there as it was sent, and nothing that nobody sent. Says how many rows are there twice.
#[track_caller]
fn holds(dir: &Path, acknowledged: &Samples, offered: &Samples) -> usize {
    let (rows, doubles) = read_back(dir);
    let mut problems = Vec::new();
    for (series, times) in acknowledged {
        for (time, value) in times {
            let found = rows.get(&(series.clone(), *time));
            if found != Some(value) {
                problems.push(format!("{series} at {time}: sent {value:?}, there is {found:?}"));
            }
        }
    }
    let strange = rows.iter().filter(|((series, time), value)| offered.get(series).and_then(|times| times.get(time)) != Some(*value));
    problems.extend(strange.map(|((series, time), value)| format!("{series} at {time}: nobody sent {value:?}")));
    assert!(problems.is_empty(), "{} problems, among them:\n{}", problems.len(), first_few(&problems));
    doubles
}

fn sluice(scratch: &Scratch, name: &str, sinks: &str) -> Sluice {
    let mut sluice = Sluice::prepare_with(scratch, &format!("{name}-{}", fastrand::u32(..)), sinks, None);
    sluice.up();
    sluice
}

#[test]
fn kills_under_load_lose_no_row_of_a_file_and_double_none() {
    let scratch = Scratch::new("files-kills");
    let dirs = ["zstd", "gzip", "none"].map(|packing| (packing, scratch.join(packing)));
    let sinks: String = dirs
        .iter()
        .map(|(packing, dir)| sink(packing, dir, &format!(", compression: {packing}, sync: 300ms, rotate: {{ age: 2s }}")))
        .collect();
    let mut sluice = sluice(&scratch, "files", &sinks);
    let senders = load(&sluice, 3);
    for kill in 1..=10 {
        let_pass(Duration::from_millis(fastrand::u64(100..1500)));
        sluice.kill();
        sluice.launch();
        // Every third life is ended before it was ready.
        if kill % 3 != 0 {
            sluice.wait_ready(Duration::from_secs(60));
        }
    }
    sluice.wait_ready(Duration::from_secs(60));
    goes_on_at_all(&sluice, &["zstd", "gzip", "none"]);
    let_pass(Duration::from_millis(u64::try_from(INTERVAL).expect("positive") * 3));
    let (acknowledged, offered) = end(senders);
    eventually(Duration::from_secs(60), "everything in the files", || {
        let pending: u64 = dirs.iter().map(|(name, _)| listed(&sluice, name)["pending"].as_u64().expect("a number")).sum();
        if pending == 0 { Ok(()) } else { Err(format!("{pending} pending")) }
    });
    let shown = listed(&sluice, "zstd");
    assert_eq!((&shown["kind"], &shown["format"], &shown["dead"]), (&"file".into(), &"rows".into(), &0.into()), "{shown}");
    assert!(sluice.ask(&["sink", "list"]).contains(&dirs[0].1.display().to_string()));
    sluice.stop();
    for (packing, dir) in &dirs {
        assert_eq!(holds(dir, &acknowledged, &offered), 0, "{packing}: rows that are there twice");
        assert!(files(dir).len() >= 5, "{packing}: they end by age");
    }
}

#[test]
fn a_death_at_every_step_into_a_file_loses_no_row_and_doubles_none() {
    let scratch = Scratch::new("files-edges");
    let dir = scratch.join("rows");
    let mut sluice = sluice(&scratch, "files-edges", &sink("rows", &dir, ", sync: 100ms, rotate: { age: 1s }"));
    let senders = load(&sluice, 2);
    for place in PLACES {
        for times in ["", ":3"] {
            sluice.kill();
            sluice.launch_armed(&format!("{place}{times}"));
            let (status, log) = sluice.wait_death(Duration::from_secs(60));
            assert!(status.signal() == Some(9) && log.contains(&format!("fail point {place}: ")), "{place}: {status}\n{log}");
            sluice.up();
            goes_on_at_all(&sluice, &["rows"]);
        }
    }
    let (acknowledged, offered) = end(senders);
    eventually(Duration::from_secs(60), "everything in the files", || {
        let pending = listed(&sluice, "rows")["pending"].as_u64().expect("a number");
        if pending == 0 { Ok(()) } else { Err(format!("{pending} pending")) }
    });
    sluice.stop();
    assert_eq!(holds(&dir, &acknowledged, &offered), 0, "rows that are there twice");
}

/// What was on the dead leader's disk and not in the log is written by the next one as well: a second of rows for each time.
#[test]
fn nodes_that_share_a_directory_lose_no_row_when_leadership_moves() {
    let scratch = Scratch::new("files-trio");
    let dir = scratch.join("shared");
    let mut trio = Trio::up(&scratch, &format!("sinks:\n{}", sink("rows", &dir, ", rotate: { age: 3s }")));
    let senders: Vec<_> = (0..3).map(|node| sender(&format!("alone-{node}"), "a", 0).start(trio.nodes[node].sluice.address())).collect();
    let kills = 5;
    trio.kill_leaders("alone-0", kills);
    let (acknowledged, offered) = end(senders);
    eventually(Duration::from_secs(60), "everything in the files", || {
        let pending: u64 = trio.nodes.iter().map(|node| listed(&node.sluice, "rows")["pending"].as_u64().expect("a number")).sum();
        if pending == 0 { Ok(()) } else { Err(format!("{pending} pending")) }
    });
    trio.nodes.iter_mut().for_each(|node| node.sluice.stop());
    let doubles = holds(&dir, &acknowledged, &offered);
    let rows: usize = acknowledged.values().map(BTreeMap::len).sum();
    eprintln!("{kills} leaders killed: {doubles} of {rows} rows are there twice");
    // Three senders of fifty series each, five times a second: two seconds of them a kill are a generous bound.
    assert!(doubles <= kills * 2 * 750, "{doubles}");
}

//! The file sink on a directory of its own: what is in the files after restarts, after what a crash leaves, and after the disk said no.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::settings::FileSettings;
use crate::config::file::Compression;
use crate::config::file::Files;
use crate::forward::Shaping;
use crate::forward::Sink;
use crate::forward::SinkIdentity;
use crate::forward::Target;
use crate::forward::source::Source;
use crate::forward::standin::Sample;
use crate::forward::standin::Shard;
use crate::forward::standin::eventually;
use crate::forward::standin::stop;
use crate::forward::standin::trouble;
use crate::forward::standin::view;
use crate::forward::view::Phase;

struct Bench {
    shard: Arc<Shard>,
    runtime: tokio::runtime::Runtime,
    dir: tempfile::TempDir,
    wanted: Files,
    node: u64,
}

fn bench() -> Bench {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let wanted = Files { sync: Duration::from_millis(100), ..Files::new(&dir.path().join("rows")) };
    Bench { shard: Shard::new(), runtime, dir, wanted, node: 7 }
}

impl Bench {
    fn start(&self) -> Sink {
        let identity = SinkIdentity { cluster: "c".into(), seal: "one-of-a-kind".into(), sink: "a-b".into(), node: self.node };
        let target = Target::Files(Arc::new(FileSettings::check(&self.wanted).unwrap()));
        let source: Arc<dyn Source> = Arc::clone(&self.shard) as Arc<dyn Source>;
        Sink::start(target, &Shaping::default(), &identity, vec![(1, source)], self.runtime.handle()).unwrap()
    }

    fn finish(&self, sink: Sink) {
        let last = self.shard.last();
        eventually(&format!("emission {last}"), || (view(&sink).position == last).then_some(()));
        stop(sink);
        assert_eq!(self.shard.cursor_now().emission, last);
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(&self.wanted.directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !name.ends_with(".place"));
        names.sort();
        names
    }

    fn path(&self, name: &str) -> PathBuf {
        self.wanted.directory.join(name)
    }

    /// What finished files hold: each series' numbers, in the order of files and lines.
    fn counted(&self) -> BTreeMap<u64, Vec<u64>> {
        let mut files: Vec<String> = self.names().into_iter().filter(|name| !name.ends_with(".part")).collect();
        // By their first emission: they may be of one second.
        files.sort_by_key(|name| name.split('-').nth(4).unwrap().parse::<u64>().unwrap());
        let mut counted: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for line in files.iter().flat_map(|name| lines(&self.path(name))) {
            let row: serde_json::Value = serde_json::from_str(&line).unwrap();
            let series = row["labels"]["s"].as_str().unwrap().parse().unwrap();
            counted.entry(series).or_default().push(row["v"].as_u64().unwrap());
        }
        counted
    }

    #[track_caller]
    fn each_once_in_order(&self, series: u64, samples: u64) {
        let counted = self.counted();
        for number in 0..series {
            let expect: Vec<u64> = (0..(samples - number).div_ceil(series)).collect();
            assert_eq!(counted.get(&number), Some(&expect), "series {number}");
        }
    }
}

/// Lines of a file, unpacked to its very end.
fn lines(path: &Path) -> Vec<String> {
    let raw = fs::read(path).unwrap();
    let text = match path.extension().unwrap().to_str().unwrap() {
        "zst" => {
            let mut bytes = Vec::new();
            zstd::stream::read::Decoder::new(&raw[..]).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        }
        "gz" => {
            let mut bytes = Vec::new();
            flate2::read::MultiGzDecoder::new(&raw[..]).read_to_end(&mut bytes).unwrap();
            bytes
        }
        _ => raw,
    };
    assert!(text.ends_with(b"\n"));
    String::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn every_packing_holds_each_row_once_over_restarts_and_says_what_it_is() {
    for (compression, ending) in [(Compression::None, ".ndjson"), (Compression::Gzip, ".ndjson.gz"), (Compression::Zstd, ".ndjson.zst")] {
        let mut bench = bench();
        bench.wanted.compression = compression;
        for _ in 0..3 {
            let sink = bench.start();
            for _ in 0..5 {
                bench.shard.emit(7, 100);
            }
            bench.shard.emit_these(vec![Sample { series: 9, number: 1, filling: 3, exemplar: true }]);
            bench.shard.emit(7, 99);
            bench.finish(sink);
        }
        assert!(bench.names().iter().all(|name| name.starts_with("a-b-1-20") && name.ends_with(&format!("-{:016x}{ending}", 7))));
        let mut rows: Vec<(u64, u64)> =
            bench.counted().into_iter().flat_map(|(series, numbers)| numbers.into_iter().map(move |number| (series, number))).collect();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), 3 * 599);
        let cursor = bench.shard.cursor_now();
        assert_eq!((cursor.delivered, cursor.filtered, cursor.dead), (3 * 599, 3, 0));
    }
}

#[test]
fn a_file_that_was_not_finished_ends_where_it_is_good_and_no_row_is_there_twice() {
    let mut bench = bench();
    let sink = bench.start();
    bench.shard.emit(5, 500);
    bench.finish(sink);
    let name = bench.names().remove(0);
    // A process that died: its file has no name yet, a frame was begun, and the log does not know of the last one.
    let part = bench.path(&format!("{name}.part"));
    let mut left = fs::read(bench.path(&name)).unwrap();
    left.extend_from_slice(b"(\xb5/\xfd torn");
    fs::write(&part, left).unwrap();
    fs::remove_file(bench.path(&name)).unwrap();
    bench.shard = Shard::new();
    bench.shard.emit(5, 500);
    bench.shard.emit(5, 250);
    let sink = bench.start();
    bench.finish(sink);
    bench.each_once_in_order(5, 750);
    assert_eq!(bench.shard.cursor_now().delivered, 750, "what was written and not noted counts");
    assert_eq!(bench.names().iter().filter(|name| name.ends_with(".part")).count(), 0);
    // Another node has no such place: it begins where the log says.
    bench.node = 8;
    bench.shard = Shard::new();
    bench.shard.emit(5, 500);
    let sink = bench.start();
    bench.finish(sink);
    assert_eq!(bench.counted()[&0].iter().filter(|number| **number == 0).count(), 2);
}

#[test]
fn a_file_that_lost_what_was_synced_is_left_alone_and_told() {
    let mut bench = bench();
    let sink = bench.start();
    bench.shard.emit(5, 500);
    bench.finish(sink);
    let name = bench.names().remove(0);
    let part = bench.path(&format!("{name}.part"));
    fs::rename(bench.path(&name), &part).unwrap();
    fs::write(&part, b"less").unwrap();
    bench.shard = Shard::new();
    bench.shard.emit(5, 500);
    let sink = bench.start();
    eventually("a note", || view(&sink).notes.iter().any(|note| note.code == "file_short").then_some(()));
    bench.finish(sink);
    assert_eq!(fs::read(&part).unwrap(), b"less");
}

#[test]
fn positions_that_begin_anew_count_and_those_of_files_do_not() {
    let bench = bench();
    let sink = bench.start();
    bench.shard.emit(5, 500);
    bench.finish(sink);
    bench.shard.emit(5, 100);
    bench.shard.cut(bench.shard.last());
    bench.shard.emit(5, 100);
    let sink = bench.start();
    bench.finish(sink);
    assert_eq!(bench.counted().values().map(Vec::len).sum::<usize>(), 600);
}

#[test]
fn files_end_by_size_and_by_age_and_the_oldest_go() {
    let mut bench = bench();
    bench.wanted.compression = Compression::None;
    bench.wanted.rotate_bytes = 64 << 10;
    bench.wanted.keep_bytes = 200 << 10;
    let strange = ["a-b-1-20200101T000000Z-1-0000000000000008.ndjson", "a-1-20200101T000000Z-1-0000000000000007.ndjson", "notes.txt"];
    fs::create_dir(&bench.wanted.directory).unwrap();
    for name in strange {
        fs::write(bench.path(name), "{}\n").unwrap();
    }
    let sink = bench.start();
    for _ in 0..10 {
        // Some 90 KB of rows, and a frame of their own.
        bench.shard.emit(7, 300);
        let last = bench.shard.last();
        eventually("a frame", || (view(&sink).position == last).then_some(()));
    }
    bench.finish(sink);
    let names = bench.names();
    assert!(strange.iter().all(|name| names.contains(&(*name).to_owned())), "{names:?}");
    let own: Vec<u64> =
        names.iter().filter(|name| !strange.contains(&name.as_str())).map(|name| fs::metadata(bench.path(name)).unwrap().len()).collect();
    assert!(own.len() >= 2 && own.iter().sum::<u64>() <= 200 << 10, "{names:?}");
    bench.wanted.keep_age = Some(Duration::from_millis(1));
    bench.wanted.rotate_age = Duration::from_millis(1);
    let sink = bench.start();
    bench.shard.emit(7, 10);
    bench.finish(sink);
    std::thread::sleep(Duration::from_millis(10));
    bench.finish(bench.start());
    assert_eq!(bench.names().len(), strange.len());
}

#[test]
fn a_directory_that_cannot_be_used_costs_no_row_and_no_restart() {
    let bench = bench();
    let above = bench.dir.path().join("rows");
    fs::write(&above, "a file").unwrap();
    let sink = bench.start();
    bench.shard.emit(5, 500);
    assert!(trouble(&sink, "no_directory").remedy.contains("make `directory`"));
    fs::remove_file(&above).unwrap();
    eventually("rows", || (view(&sink).phase == Phase::Running && view(&sink).trouble.is_none()).then_some(()));
    bench.finish(sink);
    bench.each_once_in_order(5, 500);
}

#[test]
fn a_pause_and_another_leader_finish_the_file() {
    let bench = bench();
    let sink = bench.start();
    bench.shard.emit(5, 500);
    eventually("rows", || (view(&sink).position == 1).then_some(()));
    bench.shard.pause(true);
    eventually("a pause", || (view(&sink).phase == Phase::Paused).then_some(()));
    assert_eq!(bench.names().iter().filter(|name| name.ends_with(".part")).count(), 0);
    bench.shard.emit(5, 500);
    bench.shard.pause(false);
    eventually("rows", || (view(&sink).position == 2).then_some(()));
    bench.shard.lead(false);
    eventually("another leader", || (view(&sink).phase == Phase::Elsewhere).then_some(()));
    assert_eq!(bench.names().iter().filter(|name| name.ends_with(".part")).count(), 0);
    bench.shard.lead(true);
    bench.shard.emit(5, 10);
    bench.finish(sink);
    bench.each_once_in_order(5, 1010);
}

#[test]
fn a_writer_that_stands_still_is_told_and_has_no_second_one() {
    let bench = bench();
    let mut sink = bench.start();
    bench.shard.emit(5, 500);
    eventually("rows", || (view(&sink).position == 1).then_some(()));
    let held = bench.shard.hold();
    std::thread::sleep(Duration::from_millis(600));
    for _ in 0..2 {
        assert_eq!(view(&sink).trouble, None);
        sink.relieve(Duration::from_millis(200));
    }
    assert_eq!((view(&sink).trouble.map(|told| told.code), view(&sink).notes), (Some("still"), Vec::new()));
    drop(held);
    bench.shard.emit(5, 500);
    bench.finish(sink);
    bench.each_once_in_order(5, 1000);
}

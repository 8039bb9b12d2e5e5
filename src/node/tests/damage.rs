//! Killed, torn, cut and flipped: what was acknowledged is there, or the node says that it is not.

use super::*;

/// What is on the disk at a moment at which the process could be killed: a copy of the files while it runs.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let to = to.join(file.file_name());
        if file.metadata().unwrap().is_dir() {
            copy(&file.path(), &to);
        } else if file.file_name() != "LOCK" {
            std::fs::copy(file.path(), to).unwrap();
        }
    }
}

/// A directory as a kill would leave it after so many acknowledged requests; and the clean one's emissions.
fn killed(directory: &Path, requests: i64, mark: bool) -> (tempfile::TempDir, Vec<Arc<Emission>>) {
    let node = start(settings(directory));
    let handle = node.handle.clone();
    wait(handle.ready()).unwrap();
    wait(handle.set_sinks(&[sink("k")], 0)).unwrap();
    let (seed, now) = (handle.hash_seed(), clock::wall_ms());
    for step in 0..requests {
        send(&handle, offer(seed, "g", "a", (20, now - 100_000 + step * 1_000, 40))).unwrap();
    }
    if mark {
        // The mark is at most a second old while the log moves.
        std::thread::sleep(Duration::from_millis(1_050));
        send(&handle, offer(seed, "g", "a", (1, now, 0))).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    let emissions = all_emissions(&handle, handle.group("g").unwrap());
    let dead = tempfile::tempdir().unwrap();
    copy(directory, dead.path());
    assert!(node.stop().is_empty());
    (dead, emissions)
}

fn wal(directory: &Path) -> std::path::PathBuf {
    let files = std::fs::read_dir(directory.join("db")).unwrap().map(|file| file.unwrap().path());
    let mut logs: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect();
    logs.sort();
    logs.pop().unwrap()
}

#[test]
fn after_a_kill_everything_acknowledged_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let (dead, emissions) = killed(directory.path(), 50, false);
    let node = start(settings(dead.path()));
    wait(node.handle.ready()).unwrap();
    assert_eq!(all_emissions(&node.handle, node.handle.group("g").unwrap()), emissions);
    assert!(node.stop().is_empty());
}

#[test]
fn a_torn_tail_of_which_nothing_was_acknowledged_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let (dead, emissions) = killed(directory.path(), 50, true);
    let path = wal(dead.path());
    let mut bytes = std::fs::read(&path).unwrap();
    // A record that was being written when the power went: its head is there, its end is not.
    bytes.extend([1, 2, 3, 4, 0, 32, 1]); // checksum, length (8192), a whole record
    bytes.extend([7; 100]);
    std::fs::write(&path, bytes).unwrap();
    let node = start(settings(dead.path()));
    wait(node.handle.ready()).unwrap();
    assert_eq!(all_emissions(&node.handle, node.handle.group("g").unwrap()), emissions);
    assert!(node.stop().is_empty());
}

#[track_caller]
fn refused(directory: &Path, words: &str) {
    for _ in 0..2 {
        let Err(error) = Node::start(settings(directory), Box::new(|_| {})) else { panic!("it started") };
        let error = error.to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_log_without_its_end_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (dead, _) = killed(directory.path(), 50, true);
    let path = wal(dead.path());
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() * 2 / 3]).unwrap();
    refused(dead.path(), "acknowledged were");
}

#[test]
fn a_flipped_bit_in_the_middle_of_the_log_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (dead, _) = killed(directory.path(), 50, true);
    let path = wal(dead.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 16;
    std::fs::write(&path, bytes).unwrap();
    refused(dead.path(), "acknowledged were");
}

#[test]
fn a_missing_log_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (dead, _) = killed(directory.path(), 20, true);
    std::fs::remove_file(wal(dead.path())).unwrap();
    let Err(_) = Node::start(settings(dead.path()), Box::new(|_| {})) else { panic!("it started") };
}

/// Any byte of any data file: it starts with everything, or says what is wrong, or ends itself when it meets it.
#[test]
fn a_flipped_bit_anywhere_never_serves_wrong_data() {
    let directory = tempfile::tempdir().unwrap();
    let (_, emissions) = killed(directory.path(), 30, true);
    // Stopped cleanly by now, so most of it can be flushed into tables and blob files.
    let opened = crate::store::open::open(directory.path(), 0).unwrap();
    opened.store.flush().unwrap();
    drop(opened);
    let mut random = fastrand::Rng::with_seed(9);
    let mut refusals = 0;
    for _ in 0..24 {
        let copied = tempfile::tempdir().unwrap();
        copy(directory.path(), copied.path());
        let files = std::fs::read_dir(copied.path().join("db")).unwrap().map(|file| file.unwrap().path());
        let data = |path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "sst" || extension == "blob");
        let mut files: Vec<_> = files.filter(data).collect();
        files.sort();
        let path = &files[random.usize(..files.len())];
        let mut bytes = std::fs::read(path).unwrap();
        let place = random.usize(..bytes.len());
        bytes[place] ^= 1 << random.u8(..8);
        std::fs::write(path, bytes).unwrap();
        let node = match Node::start(settings(copied.path()), Box::new(|_| {})) {
            Ok(node) => node,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refusals += 1;
                continue;
            }
        };
        let handle = node.handle.clone();
        if wait(handle.ready()).is_ok()
            && let Some(shard) = handle.group("g")
            && let Ok(found) = handle.emissions(shard, 0, usize::MAX)
            && handle.fatal().is_none()
        {
            assert_eq!(found, emissions, "{} at {place}", path.display());
            for emission in &found {
                if let Ok(body) = handle.body(shard, emission.entry) {
                    assert!(body.is_some());
                }
            }
        }
        node.stop();
    }
    assert!(refusals > 0);
}

#[test]
fn a_missing_mark_or_identity_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let (dead, _) = killed(directory.path(), 3, false);
    std::fs::rename(dead.path().join("acked"), dead.path().join("elsewhere")).unwrap();
    refused(dead.path(), "`acked` is missing");
    std::fs::rename(dead.path().join("elsewhere"), dead.path().join("acked")).unwrap();
    std::fs::remove_file(dead.path().join("identity.json")).unwrap();
    refused(dead.path(), "identity.json is missing");
}

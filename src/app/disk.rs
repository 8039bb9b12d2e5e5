//! What a node's directory takes and what is left on its disk, as text for whoever is to find out why a disk is full. Names and sizes only: what is in
//! the files is nobody's business.

use std::fmt::Write;
use std::path::Path;

use crate::store::space::room;

/// Files that are named, at most: RocksDB has some hundred.
const FILES: usize = 2_000;

/// Room, then the files with their sizes, the directory's own first.
pub fn report(data_dir: &Path) -> String {
    let mut out = match room(data_dir) {
        Ok(room) => format!("{} of {} bytes are free\n", room.free, room.total),
        Err(error) => format!("{error}\n"),
    };
    let mut named = 0;
    list(data_dir, "", &mut named, &mut out);
    if named > FILES {
        let _ = writeln!(out, "and {} more", named - FILES); // into a String: never fails
    }
    out
}

fn list(dir: &Path, above: &str, named: &mut usize, out: &mut String) {
    let mut entries: Vec<_> = std::fs::read_dir(dir).into_iter().flatten().flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = format!("{above}{}", entry.file_name().to_string_lossy());
        // A file may go while we look; a link is followed nowhere.
        let Ok(about) = entry.metadata() else { continue };
        if about.is_dir() {
            list(&entry.path(), &format!("{name}/"), named, out);
            continue;
        }
        *named += 1;
        if *named <= FILES {
            let _ = writeln!(out, "{:>14} {name}", about.len()); // into a String: never fails
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_with_their_sizes_and_directories_gone_into() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("db")).unwrap();
        std::fs::write(dir.path().join("db/CURRENT"), "x".repeat(16)).unwrap();
        std::fs::write(dir.path().join("identity.json"), "{}").unwrap();
        let text = report(dir.path());
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert!(lines[0].ends_with("bytes are free"), "{text}");
        assert_eq!(lines[1..], ["16 db/CURRENT", "2 identity.json"]);
        assert!(report(&dir.path().join("nowhere")).contains("nowhere"));
    }
}

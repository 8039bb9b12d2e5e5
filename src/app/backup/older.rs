//! Which backups go when another one has been written, so that a timer does not fill the disk: of those that are called by their time the oldest, until so many
//! are left, and what tries left that were cut short.
//!
//! Left out on purpose: whatever has another name. Somebody gave it that, and removes it.

use std::fs::DirEntry;
use std::io;
use std::path::Path;

use crate::app::backup::UNDER_WAY;
use crate::clock;

/// What a backup is called that nobody gives a name, as 2026-11-26T02-25-00: colons are trouble in names of files. Later is greater.
pub fn name_of(now: i64) -> String {
    clock::rfc3339(now).split('.').next().unwrap_or_default().replace(':', "-")
}

fn is_a_time(name: &str) -> bool {
    let Some((day, time)) = name.split_once('T') else { return false };
    clock::from_rfc3339(&format!("{day}T{}Z", time.replace('-', ":"))).is_some_and(|then| name_of(then) == name)
}

/// Removes from the folder what is too much after `made` was written, when nothing else is being written; gives the names. That one stays, also where a clock
/// that went back has called it older than others. Blocking.
pub(super) fn remove(folder: &Path, made: &str, keep: usize) -> io::Result<Vec<String>> {
    let mut times = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Some(name) = name_of_directory(&entry)? else { continue };
        if name.strip_suffix(UNDER_WAY).is_some_and(is_a_time) {
            std::fs::remove_dir_all(entry.path())?;
        } else if name != made && is_a_time(&name) {
            times.push(name);
        }
    }
    times.sort_unstable();
    let too_many = times.len().saturating_sub(keep.saturating_sub(usize::from(is_a_time(made))));
    times.truncate(too_many);
    for name in &times {
        // Away from its name first: what is half removed is no backup.
        let going = folder.join(format!("{name}{UNDER_WAY}"));
        std::fs::rename(folder.join(name), &going)?;
        std::fs::remove_dir_all(going)?;
    }
    Ok(times)
}

/// `None`: it is none (a link is none, either), or has a name that no backup has.
fn name_of_directory(entry: &DirEntry) -> io::Result<Option<String>> {
    Ok(if entry.file_type()?.is_dir() { entry.file_name().into_string().ok() } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_backup_is_called_by_its_time() {
        assert_eq!(name_of(1_000), "1970-01-01T00-00-01");
        assert!(is_a_time("2026-11-26T02-25-00"));
        for other in [
            "",
            "T",
            "before-upgrade",
            "2026-11-26",
            "2026-11-26T02:25:00",
            "2026-11-26T02-25-00.part",
            "2026-11-26T02-25",
            "2026-13-26T02-25-00",
        ] {
            assert!(!is_a_time(other), "{other}");
        }
    }

    #[test]
    fn the_oldest_go_and_what_somebody_named_stays() {
        let folder = tempfile::tempdir().unwrap();
        let made = "2026-11-05T02-00-00";
        let times = ["2026-11-01T02-00-00", "2026-11-02T02-00-00", "2026-11-04T02-00-00", made];
        let others = ["before-upgrade", "2026-11-01", "kept.part", "2026-11-03T02-00-00.part"];
        for name in times.iter().chain(&others) {
            std::fs::create_dir_all(folder.path().join(name).join("db")).unwrap();
        }
        std::fs::write(folder.path().join("2025-01-01T00-00-00"), "no directory").unwrap();
        std::os::unix::fs::symlink(folder.path().join("before-upgrade"), folder.path().join("2025-01-01T00-00-01")).unwrap();
        assert_eq!(remove(folder.path(), made, 2).unwrap(), times[..2]);
        let left = ["2025-01-01T00-00-00", "2025-01-01T00-00-01", "2026-11-01", times[2], made, "before-upgrade", "kept.part"];
        assert_eq!(names(folder.path()), left);
        assert_eq!(remove(folder.path(), made, 2).unwrap(), [""; 0], "nothing is too much");
    }

    #[test]
    fn what_was_just_written_stays_though_the_clock_went_back() {
        let folder = tempfile::tempdir().unwrap();
        let made = "2026-11-01T02-00-00";
        for name in ["2026-11-02T02-00-00", "2026-11-03T02-00-00", made] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        assert_eq!(remove(folder.path(), made, 1).unwrap(), ["2026-11-02T02-00-00", "2026-11-03T02-00-00"]);
        assert_eq!(names(folder.path()), [made]);
        // A name of its own counts for none.
        std::fs::create_dir(folder.path().join("mine")).unwrap();
        assert_eq!(remove(folder.path(), "mine", 1).unwrap(), [""; 0]);
    }
}

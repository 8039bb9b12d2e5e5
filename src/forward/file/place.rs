//! How far the files of a shard go, in a file beside them: the one truth after a crash. Up to this length the last file is whole, and holds everything up to this
//! emission; whatever stands behind it was never told to the log and goes.
//!
//! Two slots that are written in turn, each with a checksum: whatever a power cut leaves of one, the other is whole. Left out on purpose: a position inside the
//! data, which each way of packing would need in a form of its own.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

/// Of a slot. A place has some 300 bytes.
const SLOT: usize = 1024;
/// Digits of the checksum and a space.
const SUM: usize = 17;

/// How far files go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The unique id of the cluster whose emissions these are.
    pub cluster: String,
    /// The epoch of the sink.
    pub epoch: u64,
    /// The last emission that is in the files.
    pub emission: u64,
    /// The last file.
    pub file: String,
    /// Its good bytes.
    pub length: u64,
}

#[derive(Serialize, Deserialize)]
struct Slot {
    turn: u64,
    #[serde(flatten)]
    place: Place,
}

/// The file with the place.
#[derive(Debug)]
pub struct Places {
    file: File,
    turn: u64,
}

impl Places {
    /// Opens it, or makes it; what it says.
    pub fn open(path: &Path) -> io::Result<(Places, Option<Place>)> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o640).open(path)?;
        if file.metadata()?.len() < 2 * SLOT as u64 {
            file.set_len(2 * SLOT as u64)?;
            file.sync_all()?;
            sync_directory(path)?;
        }
        let mut newest: Option<Slot> = None;
        for number in 0..2 {
            let mut bytes = [0; SLOT];
            file.read_exact_at(&mut bytes, number * SLOT as u64)?;
            newest = newest.into_iter().chain(read(&bytes)).max_by_key(|slot| slot.turn);
        }
        let turn = newest.as_ref().map_or(0, |slot| slot.turn);
        Ok((Places { file, turn }, newest.map(|slot| slot.place)))
    }

    /// Puts it on the disk for good.
    pub fn write(&mut self, place: &Place) -> io::Result<()> {
        let turn = self.turn + 1;
        let text = serde_json::to_string(&Slot { turn, place: place.clone() })?;
        let mut bytes = format!("{:016x} {text}", xxh3_64(text.as_bytes())).into_bytes();
        if bytes.len() >= SLOT {
            return Err(io::Error::other("the name of the file is too long"));
        }
        bytes.resize(SLOT - 1, b' ');
        bytes.push(b'\n');
        self.file.write_all_at(&bytes, turn % 2 * SLOT as u64)?;
        self.file.sync_data()?;
        self.turn = turn;
        Ok(())
    }
}

fn read(bytes: &[u8]) -> Option<Slot> {
    let (sum, text) = bytes.split_at_checked(SUM)?;
    let text = text.trim_ascii_end();
    let sum = u64::from_str_radix(std::str::from_utf8(sum).ok()?.trim_end(), 16).ok()?;
    serde_json::from_slice(text).ok().filter(|_| sum == xxh3_64(text))
}

/// Names in a file's directory are on the disk for good.
pub fn sync_directory(of: &Path) -> io::Result<()> {
    File::open(of.parent().unwrap_or(of))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(emission: u64) -> Place {
        Place { cluster: "c".into(), epoch: 3, emission, file: "a-0-b.ndjson.zst".into(), length: emission * 7 }
    }

    #[test]
    fn the_last_place_is_found_and_a_torn_one_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.place");
        let (mut places, found) = Places::open(&path).unwrap();
        assert_eq!(found, None);
        for emission in 1..=5 {
            places.write(&place(emission)).unwrap();
            assert_eq!(Places::open(&path).unwrap().1, Some(place(emission)));
        }
        let whole = std::fs::read(&path).unwrap();
        // The fifth stands in the second slot: whatever becomes of it, the fourth is found.
        for torn in 0..SLOT {
            let mut bytes = whole.clone();
            bytes[SLOT + torn..].fill(0);
            std::fs::write(&path, bytes).unwrap();
            let found = Places::open(&path).unwrap().1.unwrap();
            assert!(found == place(4) || (found == place(5) && torn > 100), "{torn}: {found:?}");
        }
        std::fs::write(&path, "rubbish").unwrap();
        let (mut places, found) = Places::open(&path).unwrap();
        assert_eq!(found, None);
        places.write(&place(9)).unwrap();
        assert_eq!(Places::open(&path).unwrap().1, Some(place(9)));
    }
}

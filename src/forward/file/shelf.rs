//! The directory of a file sink: names of files, the one that is being written, what a crash left of it, and which old ones go.
//!
//! A file is called `SINK-SHARD-TIME-EMISSION-NODE.ndjson.zst`: when it was begun, its first emission, and the number of the node that writes it, so that nodes may share
//! a directory and never a file. While it is written `.part` stands behind that; whoever reads files without it reads whole ones.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use std::time::UNIX_EPOCH;

use crate::clock;
use crate::failpoint;
use crate::failpoint::Place as At;
use crate::forward::file::place;
use crate::forward::file::place::Place;
use crate::forward::file::place::Places;
use crate::forward::file::settings::FileSettings;
use crate::forward::file::trouble::FileTrouble;

/// Behind the name of a file that is being written.
const PART: &str = ".part";

/// The files of one sink and shard on this node.
#[derive(Debug)]
pub struct Shelf {
    settings: Arc<FileSettings>,
    sink: String,
    shard: u16,
    node: u64,
}

/// The file that is being written.
#[derive(Debug)]
pub struct Volume {
    /// Its name, when it is finished.
    pub name: String,
    /// Bytes that are good.
    pub length: u64,
    /// When it was begun.
    pub since: Instant,
    file: File,
}

/// A finished file.
struct Old {
    path: PathBuf,
    begun: String,
    bytes: u64,
    modified_ms: i64,
}

impl Shelf {
    /// Of this sink and shard, on this node.
    pub fn new(settings: Arc<FileSettings>, sink: &str, shard: u16, node: u64) -> Shelf {
        Shelf { settings, sink: sink.to_owned(), shard, node }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.settings.directory.join(name)
    }

    /// The directory is there, and what a process before this one left is in order: what it did not finish ends where it is good. Says how far that is, and what is
    /// worth knowing.
    pub fn take_up(&self) -> Result<(Places, Option<Place>, Option<FileTrouble>), FileTrouble> {
        let directory = &self.settings.directory;
        let unusable = |error: io::Error| FileTrouble::NoDirectory { path: directory.display().to_string(), detail: error.to_string() };
        match fs::DirBuilder::new().mode(0o750).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(unusable(error)),
            _ => {}
        }
        let path = self.path(&format!(".{}-{}-{:016x}.place", self.sink, self.shard, self.node));
        let (places, found) = Places::open(&path).map_err(unusable)?;
        let note = match &found {
            Some(place) if !place.file.is_empty() => {
                self.close_left(place).map_err(|error| FileTrouble::of(&self.path(&place.file), &error))?
            }
            _ => None,
        };
        Ok((places, found, note))
    }

    /// A file that was being written gets its end and its name.
    fn close_left(&self, place: &Place) -> io::Result<Option<FileTrouble>> {
        let part = self.path(&format!("{}{PART}", place.file));
        let file = match OpenOptions::new().write(true).open(&part) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if place.length == 0 {
            fs::remove_file(&part)?;
            return Ok(None);
        }
        let bytes = file.metadata()?.len();
        if bytes < place.length {
            return Ok(Some(FileTrouble::Short { path: part.display().to_string(), bytes, were: place.length }));
        }
        file.set_len(place.length)?;
        file.sync_all()?;
        self.name_it(&place.file)?;
        Ok(None)
    }

    fn name_it(&self, name: &str) -> io::Result<()> {
        let whole = self.path(name);
        fs::rename(self.path(&format!("{name}{PART}")), &whole)?;
        place::sync_directory(&whole)
    }

    /// What a file that begins now with this emission is called.
    pub fn name(&self, emission: u64) -> String {
        let time: String = clock::rfc3339(clock::wall_ms()).split('.').next().unwrap_or_default().replace(['-', ':'], "");
        format!("{}-{}-{time}Z-{emission}-{:016x}{}", self.sink, self.shard, self.node, self.settings.ending())
    }

    /// Makes a file; its name stands in the place already.
    pub fn begin(&self, name: String) -> Result<Volume, FileTrouble> {
        let part = self.path(&format!("{name}{PART}"));
        let make = || {
            if self.path(&name).try_exists()? {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&part)?;
            place::sync_directory(&part)?;
            Ok(file)
        };
        let file = make().map_err(|error| FileTrouble::of(&part, &error))?;
        failpoint::reach(At::FileBegun);
        Ok(Volume { name, length: 0, since: clock::now(), file })
    }

    /// Adds bytes, which are on the disk for good when this returns. After an error the file is as it was up to `length`.
    pub fn add(&self, volume: &mut Volume, bytes: &[u8]) -> Result<(), FileTrouble> {
        let added = volume.file.write_all_at(bytes, volume.length).and_then(|()| volume.file.sync_data());
        added.map_err(|error| FileTrouble::of(&self.path(&volume.name), &error))?;
        volume.length += bytes.len() as u64;
        failpoint::reach(At::FileWritten);
        Ok(())
    }

    /// A file is whole: it gets its name.
    pub fn finish(&self, volume: &Volume) -> Result<(), FileTrouble> {
        self.name_it(&volume.name).map_err(|error| FileTrouble::of(&self.path(&volume.name), &error))?;
        failpoint::reach(At::FileFinished);
        Ok(())
    }

    /// Deletes finished files of this sink and node, of whatever shard, that are too many or too old; oldest first.
    pub fn tidy(&self) -> Option<FileTrouble> {
        let mut old: Vec<Old> = fs::read_dir(&self.settings.directory).ok()?.flatten().filter_map(|entry| self.old(&entry)).collect();
        old.sort_by(|a, b| (&a.begun, &a.path).cmp(&(&b.begun, &b.path)));
        let mut bytes: u64 = old.iter().map(|one| one.bytes).sum();
        let oldest = self.settings.keep_age.map(|age| clock::wall_ms() - i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        let mut note = None;
        for one in old {
            if bytes <= self.settings.keep_bytes && oldest.is_none_or(|oldest| one.modified_ms >= oldest) {
                continue;
            }
            match fs::remove_file(&one.path) {
                // Another shard's worker was quicker.
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    note = Some(FileTrouble::NotDeleted { path: one.path.display().to_string(), detail: error.to_string() });
                }
                _ => bytes -= one.bytes,
            }
        }
        note
    }

    /// A finished file of this sink and node.
    fn old(&self, entry: &fs::DirEntry) -> Option<Old> {
        let name = entry.file_name().into_string().ok()?;
        let bare = [".ndjson", ".ndjson.gz", ".ndjson.zst"].iter().find_map(|ending| name.strip_suffix(ending))?;
        let mut parts = bare.rsplitn(5, '-');
        let (node, _emission, begun, shard, sink) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if sink != self.sink || shard.parse::<u16>().is_err() || node != format!("{:016x}", self.node) {
            return None;
        }
        let about = entry.metadata().ok()?;
        let modified = about.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        let modified_ms = i64::try_from(modified.as_millis()).ok()?;
        Some(Old { path: entry.path(), begun: begun.to_owned(), bytes: about.len(), modified_ms })
    }
}

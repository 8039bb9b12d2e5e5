//! What can be wrong with a directory of files: a closed list, each with a text and a remedy.

use std::fmt;
use std::io;
use std::path::Path;

/// What is wrong, or worth knowing, about the files of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "what the fields are stands in the text of each, in `Display` below")]
pub enum FileTrouble {
    /// There is no such directory, or it may not be used.
    NoDirectory { path: String, detail: String },
    /// There is no room.
    Full { path: String },
    /// A file cannot be written, read or renamed.
    Unwritable { path: String, detail: String },
    /// A file is shorter than it was when it had been synced.
    Short { path: String, bytes: u64, were: u64 },
    /// An old file cannot be deleted.
    NotDeleted { path: String, detail: String },
}

impl FileTrouble {
    /// What an error of the file system means.
    pub fn of(path: &Path, error: &io::Error) -> FileTrouble {
        let path = path.display().to_string();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FileTrouble::Full { path },
            _ => FileTrouble::Unwritable { path, detail: error.to_string() },
        }
    }

    /// A short fixed word for metrics.
    pub fn code(&self) -> &'static str {
        match self {
            FileTrouble::NoDirectory { .. } => "no_directory",
            FileTrouble::Full { .. } => "no_room",
            FileTrouble::Unwritable { .. } => "unwritable",
            FileTrouble::Short { .. } => "file_short",
            FileTrouble::NotDeleted { .. } => "not_deleted",
        }
    }

    /// What somebody can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            FileTrouble::NoDirectory { .. } => {
                "make `directory` on every node, or the one above it, and let the user that runs sluice write there (with systemd: ReadWritePaths=); sluice keeps trying, nothing is lost within the sink's budget"
            }
            FileTrouble::Full { .. } => "make room, or lower `keep`; sluice keeps trying, nothing is lost within the sink's budget",
            FileTrouble::Unwritable { .. } => {
                "look at the disk and at who may write there; sluice keeps trying, nothing is lost within the sink's budget"
            }
            FileTrouble::Short { .. } => {
                "the disk has lost what it had promised to keep: what the file lacks is in the log only if a rewind still finds it. Look at the disk"
            }
            FileTrouble::NotDeleted { .. } => "let the user that runs sluice delete in `directory`: it grows beyond `keep`",
        }
    }

    /// Whether rows do not flow because of it.
    pub fn stops_rows(&self) -> bool {
        !matches!(self, FileTrouble::Short { .. } | FileTrouble::NotDeleted { .. })
    }
}

impl fmt::Display for FileTrouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileTrouble::NoDirectory { path, detail } => write!(out, "{path} cannot be used: {detail}"),
            FileTrouble::Full { path } => write!(out, "there is no room for {path}"),
            FileTrouble::Unwritable { path, detail } => write!(out, "{path}: {detail}"),
            FileTrouble::Short { path, bytes, were } => write!(out, "{path} has {bytes} bytes, and had {were} on the disk for good"),
            FileTrouble::NotDeleted { path, detail } => write!(out, "{path} is to go and cannot be deleted: {detail}"),
        }
    }
}

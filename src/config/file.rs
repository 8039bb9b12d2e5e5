//! `file:` of a sink: files of rows on the node's own disk, for people who have neither Kafka nor a store.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::read::Refusal;
use crate::config::read::Section;
use crate::config::sinks;
use crate::config::values;

/// A directory of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Where they stand, on every node.
    pub directory: PathBuf,
    /// Labels that stand at the top of a row.
    pub columns: Vec<String>,
    /// How rows are packed.
    pub compression: Compression,
    /// So old rows become before they are on the disk for good.
    pub sync: Duration,
    /// A file ends when it is so long,
    pub rotate_bytes: u64,
    /// or so old.
    pub rotate_age: Duration,
    /// Finished files of a node: the oldest are deleted where they have more bytes,
    pub keep_bytes: u64,
    /// or are older; `None`: they may be as old as they like.
    pub keep_age: Option<Duration>,
    /// Histograms show their buckets, beside count and sum.
    pub buckets: bool,
}

/// How rows are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// What every tool reads.
    Gzip,
    /// Smaller, and less work.
    Zstd,
}

impl Files {
    /// A directory with everything else at its default.
    pub fn new(directory: &Path) -> Files {
        Files {
            directory: directory.to_owned(),
            columns: sinks::default_columns(),
            compression: Compression::Zstd,
            sync: Duration::from_secs(1),
            rotate_bytes: 256 << 20,
            rotate_age: Duration::from_secs(3600),
            keep_bytes: 64 << 30,
            keep_age: None,
            buckets: true,
        }
    }
}

/// Reads the section.
pub fn read(section: &Section<'_>) -> Option<Files> {
    let remedy = "write where the files go, outside of data_dir: directory: /var/lib/sluice-rows";
    let directory = section.must("directory", remedy, absolute);
    let mut files = Files::new(directory.as_deref().unwrap_or(Path::new("")));
    if let Some(node) = section.get("columns") {
        files.columns = sinks::read_columns(&node);
    }
    let compressions = values::one_of(&[("zstd", Compression::Zstd), ("gzip", Compression::Gzip), ("none", Compression::None)]);
    files.compression = section.or("compression", files.compression, compressions);
    files.sync = section.or("sync", files.sync, values::duration_in(Duration::from_millis(100)..=Duration::from_secs(60)));
    if let Some(rotate) = section.below("rotate") {
        files.rotate_bytes = rotate.or("bytes", files.rotate_bytes, values::size_in(64 << 10..=1 << 40));
        let ages = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);
        files.rotate_age = rotate.or("age", files.rotate_age, values::duration_in(ages));
        rotate.finish();
    }
    if let Some(keep) = section.below("keep") {
        files.keep_bytes = keep.or("bytes", files.keep_bytes, values::size_in(64 << 10..=1 << 50));
        files.keep_age = keep.opt("age", values::duration_in(Duration::from_secs(10)..=Duration::from_secs(3650 * 86_400)));
        keep.finish();
    }
    files.buckets = sinks::read_buckets(section);
    section.finish();
    directory.map(|_| files)
}

/// Settings are the same on all nodes, and have no directory.
fn absolute(text: &str) -> Result<PathBuf, Refusal> {
    if Path::new(text).is_absolute() {
        return Ok(PathBuf::from(text));
    }
    Err(("must be a whole path, since sinks are the same on all nodes".into(), "for example /var/lib/sluice-rows".into()))
}

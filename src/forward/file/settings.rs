//! What a file sink is told to do, checked. Pure: the directory may be there on one node and not on another, so what is wrong with it is a trouble of the sink on
//! that node.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::file::Compression;
use crate::config::file::Files;
use crate::forward::format::Columns;
use crate::forward::settings::Problem;

/// A file sink, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct FileSettings {
    /// Where files stand.
    pub directory: PathBuf,
    /// Labels at the top of a row.
    pub columns: Columns,
    /// How rows are packed.
    pub compression: Compression,
    /// So old rows become before they are on the disk for good.
    pub sync: Duration,
    /// A file ends when it is so long,
    pub rotate_bytes: u64,
    /// or so old.
    pub rotate_age: Duration,
    /// What finished files of this node may have together,
    pub keep_bytes: u64,
    /// and how old they may be.
    pub keep_age: Option<Duration>,
    /// Histograms show their buckets, beside count and sum.
    pub buckets: bool,
}

impl FileSettings {
    /// Checks everything, and tells everything that is wrong.
    pub fn check(files: &Files) -> Result<FileSettings, Vec<Problem>> {
        let columns = Columns::new(&files.columns).map_err(|found| {
            let problem = |rule: String| Problem {
                key: "columns".to_owned(),
                value: files.columns.join(", "),
                rule,
                remedy: "see docs/rows.md".to_owned(),
            };
            found.iter().map(|one| problem(one.to_string())).collect::<Vec<_>>()
        })?;
        Ok(FileSettings {
            directory: files.directory.clone(),
            columns,
            compression: files.compression,
            sync: files.sync,
            rotate_bytes: files.rotate_bytes,
            rotate_age: files.rotate_age,
            keep_bytes: files.keep_bytes,
            keep_age: files.keep_age,
            buckets: files.buckets,
        })
    }

    /// How a file's name ends.
    pub fn ending(&self) -> &'static str {
        match self.compression {
            Compression::None => ".ndjson",
            Compression::Gzip => ".ndjson.gz",
            Compression::Zstd => ".ndjson.zst",
        }
    }
}

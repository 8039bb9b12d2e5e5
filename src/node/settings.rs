//! What a node is started with: where its data is, and every bound.

use std::path::PathBuf;
use std::time::Duration;

use crate::dedup::detect::doctor::WATCHED;
use crate::shard::level::KNOWN;
use crate::shard::level::Levels;
use crate::shard::replica::Limits;

/// Bounds and places. `Default` is for one node of a large installation; the arithmetic stands beside each number.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Data shards of a cluster that begins now.
    pub data_shards: u16,
    /// Offers that may wait for one shard (Q1).
    pub queue_slots: usize,
    /// Bytes that may wait for one shard (Q1): 64 MiB are 600 requests of 2,000 samples.
    pub queue_bytes: usize,
    /// Bytes that may wait for the writer, of all shards together (Q3).
    pub write_bytes: usize,
    /// Unpacked bodies kept for sinks: 64 MiB are 65 requests of 2,000 samples of 490 B; sinks that keep up
    /// read an entry within the same second.
    pub body_bytes: usize,
    /// Emissions kept in memory per shard, in picks of 8 bytes.
    pub recent_picks: usize,
    /// Free space below which samples are refused.
    pub reserve: Reserve,
    /// Raft's bounds.
    pub limits: Limits,
    /// How often things happen.
    pub timing: Timing,
    /// The feature levels that this program knows.
    pub levels: Levels,
}

/// Free space that is not for samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// A share of the file system.
    Percent(u8),
    /// So many bytes.
    Bytes(u64),
}

impl Reserve {
    /// In bytes.
    pub fn of(self, total: u64) -> u64 {
        match self {
            Reserve::Percent(percent) => total / 100 * u64::from(percent),
            Reserve::Bytes(bytes) => bytes,
        }
    }
}

/// How often things happen.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Raft's tick.
    pub tick: Duration,
    /// At least between two `Tick` entries.
    pub due: Duration,
    /// At least between two images, unless there are many bytes.
    pub image: Duration,
    /// Log bytes after which an image is taken at once: replay reads these, 512 MiB in some three seconds.
    pub image_bytes: u64,
    /// Between two rounds of forgetting.
    pub forget: Duration,
    /// Between two looks at who should lead.
    pub detect: Duration,
    /// How long a group is watched before what is odd about it is shown.
    pub watched: Duration,
    /// Between two looks at what may be deleted.
    pub free: Duration,
    /// Between two views for people, and looks at budgets.
    pub view: Duration,
    /// Between two looks at free space.
    pub space: Duration,
    /// Between two questions to a disk that nobody writes to, whether it still moves.
    pub probe: Duration,
    /// Between two moves of leadership for balance.
    pub balance: Duration,
    /// A shard that a person gave to a node is not moved for balance for so long.
    pub stay: Duration,
    /// A write that waits for its sync for longer makes the disk a slow one.
    pub slow: Duration,
    /// After its disk was slow for the last time a node leads nothing for so long.
    pub rest: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            tick: Duration::from_millis(100),
            due: Duration::from_millis(250),
            image: Duration::from_secs(60),
            image_bytes: 512 << 20,
            forget: Duration::from_secs(600),
            detect: Duration::from_millis(500),
            watched: Duration::from_millis(WATCHED),
            free: Duration::from_secs(10),
            view: Duration::from_secs(1),
            space: Duration::from_millis(500),
            probe: Duration::from_secs(1),
            balance: Duration::from_secs(10),
            stay: Duration::from_secs(3600),
            slow: Duration::from_secs(1),
            rest: Duration::from_secs(120),
        }
    }
}

impl Settings {
    /// With everything at its default.
    pub fn new(data_dir: impl Into<PathBuf>) -> Settings {
        Settings {
            data_dir: data_dir.into(),
            data_shards: 6,
            queue_slots: 4096,
            queue_bytes: 64 << 20,
            write_bytes: 128 << 20,
            body_bytes: 64 << 20,
            recent_picks: 2 << 20,
            reserve: Reserve::Percent(10),
            limits: Limits::default(),
            timing: Timing::default(),
            levels: KNOWN,
        }
    }
}

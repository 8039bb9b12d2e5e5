//! What all threads of a node share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::clock;
use crate::dedup::detect::SwitchLimits;
use crate::dedup::detect::doctor;
use crate::dedup::detect::doctor::Oddity;
use crate::model::ShardId;
use crate::node::bodies::Bodies;
use crate::node::fates::FateTap;
use crate::node::group_limits::GroupLimits;
use crate::node::lane::Lane;
use crate::node::lane::lock;
use crate::node::leadership::Slow;
use crate::node::notes::Notes;
use crate::node::peers::Together;
use crate::node::settings::Settings;
use crate::node::writer::Fatal;
use crate::node::writer::Writer;
use crate::store::Store;

/// Comparing sorts 64 hashes of every group, and what is compared changes every ten minutes.
const VIEWS_A_COMPARISON: u32 = 10;

/// What was found when groups were compared, by name.
type Sharing = BTreeMap<String, Vec<Oddity>>;

pub(super) struct Shared {
    /// `None`: this node is all there is.
    pub together: Option<Together>,
    pub settings: Settings,
    pub store: Arc<Store>,
    pub writer: Writer,
    pub bodies: Bodies,
    pub fatal: Fatal,
    pub data_shards: u16,
    /// By shard number; the control shard first.
    pub lanes: Vec<Arc<Lane>>,
    /// The data shards.
    pub shards: Vec<ShardId>,
    pub space: Space,
    pub stopping: AtomicBool,
    /// What other nodes told this one of probes.
    pub notes: Notes,
    /// This node shall lead nothing.
    pub draining: AtomicBool,
    /// This node's clock is wrong: it shall lead nothing that another one can lead.
    pub clock_off: AtomicBool,
    /// This node's disk is, or was a moment ago, slow to sync.
    pub slow: Slow,
    /// When leadership was last given away for balance.
    pub balanced: Mutex<Option<Instant>>,
    /// Replaced as a whole; held only to take a copy of the pointer.
    pub switch_limits: Mutex<Arc<SwitchLimits>>,
    /// What is decided of samples, for those who listen.
    pub fates: FateTap,
    /// How long episodes of alerts are kept, ms.
    pub history_keep: AtomicI64,
    /// As `switch_limits`.
    pub group_limits: Mutex<Arc<GroupLimits>>,
    /// When groups were compared with each other, and what came of it. Held while they are.
    pub compared: Mutex<Option<(Instant, Sharing)>>,
}

/// As seen last by the thread that watches it.
#[derive(Default)]
pub(super) struct Space {
    /// Free space is below the reserve: no samples.
    pub full: AtomicBool,
    /// What samples may still take until somebody looks again.
    pub left: AtomicI64,
    pub free: AtomicU64,
    pub reserve: AtomicU64,
    pub disk_bytes: AtomicU64,
    pub wal_bytes: AtomicU64,
}

impl Shared {
    pub fn lane(&self, shard: ShardId) -> Option<&Arc<Lane>> {
        self.lanes.get(usize::from(shard.0))
    }

    /// Whether a node may be given leadership: it is not being drained, as far as is known.
    pub fn wants_to_lead(&self, id: u64) -> bool {
        self.together.as_ref().is_none_or(|together| together.peers.wants_to_lead(id))
    }

    /// The wall clock, unless it is known to be wrong.
    pub fn trusted_wall_ms(&self) -> Option<i64> {
        (!self.clock_off.load(Ordering::Relaxed)).then(clock::wall_ms)
    }

    pub fn is_full(&self) -> bool {
        self.space.full.load(Ordering::Relaxed) || self.space.left.load(Ordering::Relaxed) < 0
    }

    /// Groups of all shards that share most of their series, by name; as of some seconds ago.
    pub fn sharing(&self) -> Sharing {
        let (now, every) = (clock::now(), self.settings.timing.view * VIEWS_A_COMPARISON);
        let mut compared = lock(&self.compared);
        if let Some((_, odd)) = compared.as_ref().filter(|(when, _)| now.saturating_duration_since(*when) < every) {
            return odd.clone();
        }
        let bare: Vec<_> = self.lanes.iter().flat_map(|lane| lock(&lane.views).bare.clone()).collect();
        let odd = doctor::sharing(&bare);
        *compared = Some((now, odd.clone()));
        odd
    }

    /// So many bytes will be written, twice: to the write-ahead log and to a table.
    pub fn spend(&self, bytes: usize) {
        self.space.left.fetch_sub(2 * bytes as i64, Ordering::Relaxed);
    }
}

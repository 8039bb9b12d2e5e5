//! What one shard's thread shares with the rest of the program: its mailbox, its progress, its newest emissions, its views.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::RwLockReadGuard;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::watch;

use crate::alert::book::Book;
use crate::clock;
use crate::dedup::detect::doctor::Bare;
use crate::model::ShardId;
use crate::node::mailbox::Mailbox;
use crate::node::pulse::Beat;
use crate::node::snapshots::Outgoing;
use crate::node::view::CursorView;
use crate::node::view::GroupView;
use crate::node::view::Progress;
use crate::node::view::ShardStats;
use crate::shard::alerts::Alerts;
use crate::shard::command::Founding;
use crate::shard::command::ShardSettings;
use crate::shard::emission::Emission;
use crate::shard::members::Nodes;
use crate::shard::members::Seats;
use crate::shard::pushed::Groups;
use crate::shard::settings::Settings;
use crate::shard::tokens::Tokens;
use crate::shard::verdicts::Verdicts;
use crate::store::Family;

/// The newest emissions, so that sinks read nothing from the disk while they keep up.
#[derive(Default)]
pub(super) struct Recent {
    emissions: VecDeque<Arc<Emission>>,
    picks: usize,
}

/// Views for people and sinks.
#[derive(Default)]
pub(super) struct Views {
    pub groups: Arc<Vec<GroupView>>,
    pub cursors: Arc<Vec<CursorView>>,
    /// Smallest hashes of the groups' series without the groups' own labels, for comparison with those of other shards.
    pub bare: Vec<(String, Arc<Bare>)>,
    /// Dead letters up to this one are gone, and so are these, though the disk may still have them for a moment.
    pub dead_gone: (u64, Arc<BTreeSet<u64>>),
    /// Data shards only: as applied.
    pub settings: Arc<ShardSettings>,
    pub stats: ShardStats,
    /// Control shard only.
    pub assigned: Arc<BTreeMap<String, ShardId>>,
    /// Control shard only: the feature level; 0: nothing was applied yet.
    pub level: u64,
    /// Control shard only: what the cluster is.
    pub founding: Option<Founding>,
    /// Who takes part in the shard.
    pub seats: Seats,
    /// Control shard only: who takes part in the cluster.
    pub nodes: Arc<Nodes>,
    /// Control shard only: cluster settings.
    pub cluster_settings: Arc<Settings>,
    /// Control shard only: who may ask.
    pub tokens: Arc<Tokens>,
    /// Control shard only: what is down.
    pub verdicts: Arc<Verdicts>,
    /// Control shard only: alerts.
    pub alerts: Arc<Alerts>,
    /// Control shard only: pushed metrics.
    pub pushed: Arc<Groups>,
}

pub(super) struct Lane {
    pub shard: ShardId,
    pub mailbox: Mailbox,
    pub progress: watch::Sender<Progress>,
    recent: Mutex<Recent>,
    most_picks: usize,
    /// Emissions up to here can be read from the disk.
    written: AtomicU64,
    pub views: Mutex<Views>,
    /// Control shard only: the book of alerts, once there is one. Nobody reads it while entries are applied, so that it is changed where it stands.
    pub book: RwLock<Option<Arc<Book>>>,
    /// By reason.
    pub refused: Mutex<BTreeMap<&'static str, u64>>,
    /// A sink's budget says that no more may come.
    pub refuse: AtomicBool,
    /// So many members' disks are full that no more may come.
    pub crowded: AtomicBool,
    pub settings: AtomicU64,
    /// Bytes of log a second, over the last half minute or so: an `f64`.
    pub load: AtomicU64,
    image: Mutex<(u64, u64)>,
    /// When somebody was last known to lead.
    led: Mutex<Option<Instant>>,
    /// A person gave the shard to this node: until then it is not moved for balance.
    stays: Mutex<Option<Instant>>,
    /// When its thread last took a turn.
    pub turned: Beat,
    /// The oldest write that waits for its sync, ms; 0: none does.
    pub unsynced_ms: AtomicU64,
    /// How often leadership was given away since the disk was slow.
    pub gave_way: AtomicU64,
    /// Snapshots that members may take, by member.
    pub outgoing: Mutex<BTreeMap<u64, Outgoing>>,
    /// Ranges to give back: the highest bound by family.
    pub give_back: Mutex<BTreeMap<&'static str, (Family, u64)>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn read<T>(known: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    known.read().unwrap_or_else(PoisonError::into_inner)
}

impl Lane {
    pub fn new(shard: ShardId, mailbox: Mailbox, most_picks: usize) -> Lane {
        Lane {
            shard,
            mailbox,
            progress: watch::Sender::new(Progress::default()),
            recent: Mutex::default(),
            most_picks,
            written: AtomicU64::new(0),
            views: Mutex::default(),
            book: RwLock::default(),
            refused: Mutex::default(),
            refuse: AtomicBool::new(false),
            crowded: AtomicBool::new(false),
            settings: AtomicU64::new(0),
            load: AtomicU64::new(0),
            image: Mutex::default(),
            led: Mutex::default(),
            stays: Mutex::default(),
            turned: Beat::default(),
            unsynced_ms: AtomicU64::new(0),
            gave_way: AtomicU64::new(0),
            outgoing: Mutex::default(),
            give_back: Mutex::default(),
        }
    }

    pub fn written(&self, emission: u64) {
        self.written.fetch_max(emission, Ordering::Release);
    }

    /// An image was taken: every member takes it of the same entry, and it must be the same bytes.
    pub fn image_taken(&self, index: u64, sealed: &[u8]) {
        let hash = sealed.last_chunk::<8>().map_or(0, |hash| u64::from_le_bytes(*hash));
        *lock(&self.image) = (index, hash);
    }

    /// Index of the last image, and the hash that it ends with.
    pub fn image(&self) -> (u64, u64) {
        *lock(&self.image)
    }

    /// Somebody leads, as of now.
    pub fn led(&self, now: Instant) {
        *lock(&self.led) = Some(now);
    }

    /// Somebody led within this time.
    pub fn led_within(&self, span: Duration) -> bool {
        lock(&self.led).is_some_and(|led| clock::now().saturating_duration_since(led) < span)
    }

    /// Not moved for balance until then; `None`: as any other.
    pub fn stay(&self, until: Option<Instant>) {
        *lock(&self.stays) = until;
    }

    /// Not moved for balance now.
    pub fn stays(&self, now: Instant) -> bool {
        lock(&self.stays).is_some_and(|until| now < until)
    }

    /// The state is another one now.
    pub fn forget_recent(&self) {
        *lock(&self.recent) = Recent::default();
    }

    pub fn freed(&self, ranges: Vec<(Family, u64)>) {
        let mut waiting = lock(&self.give_back);
        for (family, below) in ranges {
            waiting.insert(family.name(), (family, below));
        }
    }

    pub fn refused(&self, reason: &'static str) {
        *lock(&self.refused).entry(reason).or_default() += 1;
    }

    /// Keeps the newest; what is not on the disk yet stays whatever its size.
    pub fn push(&self, emission: Arc<Emission>) {
        let written = self.written.load(Ordering::Acquire);
        let mut recent = lock(&self.recent);
        recent.picks += weight(&emission);
        recent.emissions.push_back(emission);
        while recent.picks > self.most_picks && recent.emissions.front().is_some_and(|oldest| oldest.number <= written) {
            if let Some(oldest) = recent.emissions.pop_front() {
                recent.picks -= weight(&oldest);
            }
        }
    }

    /// Emissions after a number, if memory has them all from there on; at least one, then up to so many samples.
    pub fn recent(&self, after: u64, most_samples: usize) -> Option<Vec<Arc<Emission>>> {
        let recent = lock(&self.recent);
        let first = recent.emissions.front()?.number;
        let skip = usize::try_from((after + 1).checked_sub(first)?).ok()?;
        let (mut found, mut samples) = (Vec::new(), 0);
        for emission in recent.emissions.iter().skip(skip) {
            samples += emission.picks.len();
            if samples > most_samples && !found.is_empty() {
                break;
            }
            found.push(Arc::clone(emission));
        }
        Some(found)
    }
}

/// What an emission takes of memory, in picks of 8 bytes.
fn weight(emission: &Emission) -> usize {
    emission.picks.len() + 3 * emission.befores.len() + 16
}

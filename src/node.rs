//! One node: threads that drive the shards, and the [`Handle`] by which everything above uses them.
//!
//! One thread per shard (`worker`, with its housekeeping in `keeper`), one that writes for all of them (`writer`), one that looks after free
//! space (`watch`), one that asks the disk whether it still moves (`pulse`). Queues: Q1 and Q2 are a shard's `mailbox`, Q3 is the `writer`'s queue and one number back, Q7 is `Progress`. Async callers
//! never wait for a thread but by awaiting a reply; reads of emissions, bodies and dead letters may read the disk and block.
//!
//! With peers (`peers`), a shard may be led elsewhere: offers and proposals then go to the node that leads it, and its answer comes back as it is.
//!
//! Left out on purpose: HTTP, how peers are reached, what sinks do, the text of settings.

pub mod alerting;
mod bodies;
mod detection;
mod evidence;
pub mod fates;
pub mod group_limits;
pub mod history;
mod keeper;
mod lane;
mod leadership;
mod mailbox;
pub mod measure;
pub mod notes;
pub mod offer;
mod packed;
pub mod peers;
pub mod pulse;
mod room;
mod seats;
pub mod settings;
mod shared;
mod show;
mod snapshots;
pub mod start;
pub mod view;
mod watch;
mod worker;
mod writer;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::sync::watch as latest;

use crate::clock;
use crate::dedup::detect::SwitchLimits;
use crate::model::ShardId;
use crate::model::tenant;
use crate::node::evidence::Evidence;
use crate::node::group_limits::GroupLimits;
use crate::node::lane::Lane;
use crate::node::lane::lock;
use crate::node::mailbox::Ask;
use crate::node::mailbox::Queued;
use crate::node::mailbox::Wanted;
use crate::node::offer::Applied;
use crate::node::offer::Offer;
use crate::node::offer::OfferError;
use crate::node::offer::ProposeError;
use crate::node::peers::Place;
use crate::node::shared::Shared;
use crate::node::view::CursorView;
use crate::node::view::GroupView;
use crate::node::view::NodeStats;
use crate::node::view::Progress;
use crate::node::view::StoreStats;
use crate::shard::command::Command;
use crate::shard::command::DeadLetter;
use crate::shard::command::Founding;
use crate::shard::command::ShardSettings;
use crate::shard::command::SinkSettings;
use crate::shard::emission::Emission;
use crate::shard::entry;
use crate::shard::entry::Entry;
use crate::shard::entry::Samples;
use crate::shard::level::FIRST;
use crate::shard::level::Levels;
use crate::shard::pushed::Groups;
use crate::shard::settings::Settings;
use crate::shard::tokens::Tokens;
use crate::store::Family;
use crate::wire::body::Body;
use crate::wire::pack;
use crate::wire::pack::Bounds;

/// No entry is larger: RocksDB and Raft take more, but one entry must fit into every queue's bound several times.
const MOST_ENTRY_BYTES: usize = 16 << 20;

/// So long an offer is held while leadership moves: a planned move takes some tens of milliseconds, an election up to two seconds.
const HOLD: Duration = Duration::from_secs(2);
/// Meanwhile it is tried again at least so often.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Why a read failed. Any of these is a defect of the disk, or of this program: the node should end.
#[derive(Debug, thiserror::Error)]
#[error("the store cannot be read: {0}")]
pub struct ReadError(pub String);

impl ReadError {
    fn new(error: impl std::fmt::Display) -> ReadError {
        ReadError(error.to_string())
    }
}

/// Everything above the shards uses them by this.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    fn new(shared: Arc<Shared>) -> Handle {
        Handle { shared }
    }

    fn lane(&self, shard: ShardId) -> Result<&Arc<Lane>, ProposeError> {
        self.shared.lane(shard).ok_or(ProposeError::NoShard(shard.0))
    }

    /// Resolves when the offer is committed on a majority. While leadership moves it is held for a moment and then goes to whoever leads.
    pub async fn offer(&self, mut offer: Offer) -> Result<(), OfferError> {
        let shard = self.group(&offer.group).ok_or(OfferError::Unassigned)?;
        let lane = self.shared.lane(shard).ok_or(OfferError::Unassigned)?;
        // Held here until the answer is there, and by whatever queue has the bytes.
        let claim = Arc::new(offer.claim.take());
        let mut progress = lane.progress.subscribe();
        let until = clock::now() + HOLD;
        loop {
            let answer = self.offer_once(lane, &mut offer, &claim).await;
            let moved = matches!(answer, Err(OfferError::NotLeader { .. } | OfferError::Stopping)) && self.shared.together.is_some();
            if !moved || clock::now() >= until || !lane.led_within(HOLD) {
                if let Err(error) = &answer {
                    lane.refused(error.reason());
                }
                return answer;
            }
            let _ = tokio::time::timeout(LOOK_AGAIN, progress.changed()).await;
        }
    }

    async fn offer_once(&self, lane: &Lane, offer: &mut Offer, claim: &Arc<Option<Box<dyn Send + Sync>>>) -> Result<(), OfferError> {
        match self.place_of(lane) {
            Place::Nowhere => Err(OfferError::NotLeader { shard: lane.shard.0, leader: None }),
            Place::There(leader, peers) => {
                let answer = peers.offer(leader, lane.shard, encode(offer)?).await;
                let bare = std::mem::take(&mut offer.bare);
                if answer.is_ok() && !bare.is_empty() {
                    let (group, replica) = (offer.group.clone(), offer.replica.clone());
                    self.testify(lane, Evidence { group, replica, hint: None, node: self.own_id(), bare });
                }
                answer
            }
            Place::Here => {
                let bytes = offer.body.len() + offer.digest.len();
                self.room_for(lane, bytes)?;
                let encoded = encode(offer)?;
                let (reply, answer) = oneshot::channel();
                self.shared.spend(bytes);
                lane.mailbox.offer(Queued {
                    encoded,
                    group: offer.group.clone(),
                    replica: offer.replica.clone(),
                    settings: offer.settings,
                    unpacked: offer.unpacked.clone(),
                    bare: std::mem::take(&mut offer.bare),
                    claim: Some(Box::new(Arc::clone(claim))),
                    reply,
                })?;
                // No answer: the shard's thread is gone, and with it what is known of the entry.
                answer.await.unwrap_or(Err(OfferError::Unknown))
            }
        }
    }

    /// Resolves when the command has been applied. Void commands are errors that say why.
    pub async fn propose(&self, shard: ShardId, command: Command) -> Result<Applied, ProposeError> {
        self.ask(shard, Wanted::Command(command)).await
    }

    /// The group's leader gives way to the best of the others; void if none is well. Resolves when it has been applied.
    pub async fn step_down(&self, group: &str) -> Result<Applied, ProposeError> {
        let shard = self.group(group).ok_or_else(|| ProposeError::Void(format!("there is no group `{group}`")))?;
        self.ask(shard, Wanted::StepDown(group.to_owned())).await
    }

    /// From now on detection may propose so many switches an hour. Local and volatile, like detection itself.
    pub fn limit_switches(&self, limits: SwitchLimits) {
        *lock(&self.shared.switch_limits) = Arc::new(limits);
    }

    /// From now on the groups of shards that are led here may do so much. Local and volatile, too.
    pub fn limit_groups(&self, limits: GroupLimits) {
        *lock(&self.shared.group_limits) = Arc::new(limits);
    }

    /// Says a command without waiting for what comes of it. Best effort: for cursors, which say more the next time.
    pub fn tell(&self, shard: ShardId, command: Command) {
        if let Some(lane) = self.shared.lane(shard) {
            let _ = lane.mailbox.ask(Ask { wanted: Wanted::Command(command), reply: None });
        }
    }

    /// Tells every data shard its sinks; a shard that has these already is left alone.
    pub async fn configure(&self, change: impl Fn(&mut ShardSettings)) -> Result<(), ProposeError> {
        for &shard in self.shards() {
            let before = lock(&self.lane(shard)?.views).settings.clone();
            let mut settings = (*before).clone();
            change(&mut settings);
            if settings != *before {
                settings.version = before.version + 1;
                self.propose(shard, Command::Settings(settings)).await?;
            }
        }
        Ok(())
    }

    /// Writes all that this node has on disk now into a directory that must not exist yet, on the same file system. Blocking.
    pub fn checkpoint(&self, to: &std::path::Path) -> Result<(), ReadError> {
        self.shared.store.checkpoint(to).map_err(ReadError::new)
    }

    /// Bytes of the log that stay for a sink in all shards, as far as applied here.
    pub fn undelivered(&self, sink: &str) -> u64 {
        let of_shard = |shard: &ShardId| {
            self.cursors(*shard).iter().filter(|cursor| cursor.sink == sink).map(|cursor| cursor.pending_bytes).sum::<u64>()
        };
        self.shards().iter().map(of_shard).sum()
    }

    /// Tells every data shard its sinks, and how long to keep what all of them are done with, ms.
    pub async fn set_sinks(&self, sinks: &[SinkSettings], keep_ms: i64) -> Result<(), ProposeError> {
        self.configure(|settings| (settings.sinks, settings.keep_ms) = (sinks.to_vec(), keep_ms)).await
    }

    /// Resolves when every shard is led, by this node where it has no peers, and the cluster has been founded: from then on it can take offers.
    pub async fn ready(&self) -> Result<(), ProposeError> {
        for lane in &self.shared.lanes {
            let mut progress = lane.progress.subscribe();
            let founded = || lane.shard != ShardId::CONTROL || lock(&lane.views).founding.is_some();
            let alone = self.shared.together.is_none();
            let ready = progress.wait_for(|progress| (progress.leads || !alone && progress.leader != 0) && founded()).await;
            ready.map_err(|_| ProposeError::Stopping)?;
        }
        Ok(())
    }

    /// The data shards.
    pub fn shards(&self) -> &[ShardId] {
        &self.shared.shards
    }

    /// How far the shard has come.
    pub fn progress(&self, shard: ShardId) -> latest::Receiver<Progress> {
        match self.shared.lane(shard) {
            Some(lane) => lane.progress.subscribe(),
            None => latest::channel(Progress::default()).1,
        }
    }

    /// Emissions after the number, in order, until `most_samples` are reached (at least one, if there is one). May block: not on an async worker.
    pub fn emissions(&self, shard: ShardId, after: u64, most_samples: usize) -> Result<Vec<Arc<Emission>>, ReadError> {
        let Some(lane) = self.shared.lane(shard) else { return Ok(Vec::new()) };
        if let Some(recent) = lane.recent(after, most_samples) {
            return Ok(recent);
        }
        let (mut found, mut samples, mut wrong) = (Vec::new(), 0, None);
        let scanned = self.shared.store.scan(Family::Emissions, shard, after + 1, &mut |number, bytes| {
            match Emission::decode(bytes) {
                Err(error) => wrong = Some(ReadError(format!("emission {number} of shard {}: {error}", shard.0))),
                Ok(emission) => {
                    samples += emission.picks.len();
                    if samples > most_samples && !found.is_empty() {
                        return false;
                    }
                    found.push(Arc::new(emission));
                }
            }
            wrong.is_none()
        });
        scanned.map_err(ReadError::new)?;
        wrong.map_or(Ok(found), Err)
    }

    /// The unpacked body of an entry; `None`: it has been let go. May block.
    pub fn body(&self, shard: ShardId, number: u64) -> Result<Option<Arc<Body>>, ReadError> {
        if let Some(body) = self.shared.bodies.get(shard, number) {
            return Ok(Some(body));
        }
        let Some(stored) = self.shared.store.log_entry(shard, number).map_err(ReadError::new)? else { return Ok(None) };
        let wrong = |error: &dyn std::fmt::Display| ReadError(format!("entry {number} of shard {}: {error}", shard.0));
        let stamped = entry::parse(&stored).map_err(|error| wrong(&error))?;
        let Entry::Samples(samples) = stamped.entry else { return Ok(None) };
        let mut raw = self.shared.bodies.room();
        pack::unpack(samples.packing, samples.body, Bounds::default(), &mut raw).map_err(|error| wrong(&error))?;
        let strip = samples.strip.iter().map(|label| (*label).to_owned()).collect();
        let body = Arc::new(Body { protocol: samples.protocol, raw, strip, tenant: tenant::of(samples.group).to_owned() });
        self.shared.bodies.put(shard, number, Arc::clone(&body));
        Ok(Some(body))
    }

    /// The shard of a group, if it has one.
    pub fn group(&self, name: &str) -> Option<ShardId> {
        let assigned = Arc::clone(&lock(&self.shared.lane(ShardId::CONTROL)?.views).assigned);
        assigned.get(name).copied()
    }

    /// The shard of a group; gives it one first if it has none.
    pub async fn assign(&self, name: &str) -> Result<ShardId, ProposeError> {
        if let Some(shard) = self.group(name) {
            return Ok(shard);
        }
        let applied = self.propose(ShardId::CONTROL, Command::Assign { group: name.to_owned() }).await?;
        applied.shard.ok_or(ProposeError::Unknown)
    }

    /// The settings version that offers to this shard must name.
    pub fn settings_version(&self, shard: ShardId) -> u64 {
        self.shared.lane(shard).map_or(0, |lane| lane.settings.load(Ordering::Acquire))
    }

    /// The cluster's seed of series hashes; 0 before `ready`.
    pub fn hash_seed(&self) -> u64 {
        self.founding().map_or(0, |founding| founding.seed)
    }

    /// What the cluster is; `None` before `ready`.
    pub fn founding(&self) -> Option<Founding> {
        self.shared.lane(ShardId::CONTROL).and_then(|lane| lock(&lane.views).founding)
    }

    /// The cluster's identity, 32 hexadecimal digits; zeros before `ready`.
    pub fn cluster_id(&self) -> String {
        format!("{:032x}", self.founding().map_or(0, |founding| founding.cluster))
    }

    /// What all nodes agree on, as far as this node has applied the control shard.
    pub fn cluster_settings(&self) -> Arc<Settings> {
        self.shared.lane(ShardId::CONTROL).map(|lane| Arc::clone(&lock(&lane.views).cluster_settings)).unwrap_or_default()
    }

    /// The cluster's feature level, as far as this node has applied the control shard, and what this program knows.
    pub fn levels(&self) -> (u64, Levels) {
        let level = self.shared.lane(ShardId::CONTROL).map_or(0, |lane| lock(&lane.views).level);
        (level.max(FIRST), self.shared.settings.levels)
    }

    /// Who may ask, as far as this node has applied the control shard.
    pub fn tokens(&self) -> Arc<Tokens> {
        self.shared.lane(ShardId::CONTROL).map(|lane| Arc::clone(&lock(&lane.views).tokens)).unwrap_or_default()
    }

    /// Pushed metrics, as far as this node has applied the control shard.
    pub fn pushed(&self) -> Arc<Groups> {
        self.shared.lane(ShardId::CONTROL).map(|lane| Arc::clone(&lock(&lane.views).pushed)).unwrap_or_default()
    }

    /// All groups by name, a second old at most.
    pub fn groups(&self) -> Vec<GroupView> {
        let mut groups: Vec<GroupView> = Vec::new();
        for lane in &self.shared.lanes {
            let of_shard = Arc::clone(&lock(&lane.views).groups);
            groups.extend(of_shard.iter().cloned());
        }
        let mut sharing = self.shared.sharing();
        for group in &mut groups {
            group.oddities.extend(sharing.remove(&group.name).unwrap_or_default());
        }
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        groups
    }

    /// Where the sinks stand in this shard. Positions are those of the newest `Progress`; bytes and ages a second old at most.
    pub fn cursors(&self, shard: ShardId) -> Arc<Vec<CursorView>> {
        self.shared.lane(shard).map(|lane| Arc::clone(&lock(&lane.views).cursors)).unwrap_or_default()
    }

    /// Dead letters of a sink in a shard after a number, at most so many. May block.
    pub fn dead(&self, shard: ShardId, sink: &str, after: u64, limit: usize) -> Result<Vec<(u64, DeadLetter)>, ReadError> {
        let (mut found, mut wrong) = (Vec::new(), None);
        let (gone, resent) = self.shared.lane(shard).map(|lane| lock(&lane.views).dead_gone.clone()).unwrap_or_default();
        let scanned = self.shared.store.scan(Family::Dead, shard, after.max(gone).saturating_add(1), &mut |number, bytes| {
            match DeadLetter::decode(bytes) {
                Ok(letter) if letter.sink == sink && !resent.contains(&number) => found.push((number, letter)),
                Ok(_) => {}
                Err(error) => wrong = Some(ReadError(format!("dead letter {number}: {error}"))),
            }
            found.len() < limit && wrong.is_none()
        });
        scanned.map_err(ReadError::new)?;
        wrong.map_or(Ok(found), Err)
    }

    /// Why the node must end, if it must.
    pub fn fatal(&self) -> Option<String> {
        self.shared.fatal.reason().map(str::to_owned)
    }

    /// Free bytes of the disk, and below how many no samples are taken.
    pub fn space(&self) -> (u64, u64) {
        let space = &self.shared.space;
        (space.free.load(Ordering::Relaxed), space.reserve.load(Ordering::Relaxed))
    }

    /// Figures for `/metrics`, a second old at most.
    pub fn stats(&self) -> NodeStats {
        let (shared, figures, space) = (&self.shared, &self.shared.writer.figures, &self.shared.space);
        let store = StoreStats {
            disk_bytes: space.disk_bytes.load(Ordering::Relaxed),
            wal_bytes: space.wal_bytes.load(Ordering::Relaxed),
            free_bytes: space.free.load(Ordering::Relaxed),
            reserve_bytes: space.reserve.load(Ordering::Relaxed),
            disk_full: shared.is_full(),
            syncs: figures.syncs.load(Ordering::Relaxed),
            written_bytes: figures.bytes.load(Ordering::Relaxed),
            batches: figures.batches.load(Ordering::Relaxed),
            last_sync_micros: figures.sync_micros.load(Ordering::Relaxed),
            slow: self.has_slow_disk(),
        };
        NodeStats { shards: shared.lanes.iter().map(|lane| lock(&lane.views).stats.clone()).collect(), store }
    }
}

/// As it will stand in the log, but for its time and whether its replica leads.
fn encode(offer: &Offer) -> Result<Vec<u8>, OfferError> {
    let bytes = offer.body.len() + offer.digest.len();
    if bytes > MOST_ENTRY_BYTES {
        return Err(OfferError::TooLarge { bytes, limit: MOST_ENTRY_BYTES });
    }
    let samples = Samples {
        group: &offer.group,
        replica: &offer.replica,
        settings: offer.settings,
        protocol: offer.protocol,
        packing: offer.packing,
        strip: offer.strip.iter().map(String::as_str).collect(),
        from_leader: false,
        digest: &offer.digest,
        body: &offer.body,
    };
    let mut encoded = Vec::new();
    entry::encode(0, &Entry::Samples(samples), &mut encoded);
    Ok(encoded)
}

#[cfg(test)]
mod tests;

//! Starting and stopping a node: the disk is opened and proved, shards go on where they ended, threads start; and in reverse order.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use crate::clock;
use crate::model::ShardId;
use crate::node::Handle;
use crate::node::bodies::Bodies;
use crate::node::fates::FateTap;
use crate::node::lane::Lane;
use crate::node::leadership::Slow;
use crate::node::mailbox::Mailbox;
use crate::node::peers::Together;
use crate::node::pulse;
use crate::node::settings::Settings;
use crate::node::shared::Shared;
use crate::node::shared::Space;
use crate::node::watch;
use crate::node::watch::Bell;
use crate::node::worker::ShardDisk;
use crate::node::worker::Worker;
use crate::node::writer::Fatal;
use crate::node::writer::Writer;
use crate::shard::log::Place;
use crate::shard::log::Remembered;
use crate::shard::member::Begin;
use crate::shard::member::Member;
use crate::shard::member::State;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::batch::Batch;
use crate::store::mark::MOST_SHARDS;
use crate::store::open;
use crate::store::open::RaftOnDisk;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is on it.
    #[error("the data in {path} cannot be used: {what}", path = path.display())]
    Data {
        /// The data directory.
        path: std::path::PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A thread.
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
    /// It is for another version of this program.
    #[error("{0}")]
    Level(String),
    /// A bound.
    #[error("a node has 1 to {most} data shards, not {0}", most = MOST_SHARDS - 1)]
    Shards(u16),
}

/// A running node. Drop it only after [`Node::stop`].
pub struct Node {
    /// How everything else uses it.
    pub handle: Handle,
    id: u64,
    workers: Vec<JoinHandle<Vec<String>>>,
    writer: Option<JoinHandle<()>>,
    watch: Option<JoinHandle<()>>,
    probe: Option<JoinHandle<()>>,
    bell: Arc<Bell>,
}

fn remembered(on_disk: RaftOnDisk) -> Result<Remembered, String> {
    let truncated = Place { index: on_disk.cut.0, term: on_disk.cut.1 };
    let known = Remembered::from_stored(on_disk.hard_state, &on_disk.members, truncated)?;
    Ok(Remembered { last_index: on_disk.last_index, terms: on_disk.terms, ..known })
}

/// All shards begin in one synced batch, so that there are either none or all.
fn begin(store: &Store, members: &[u64], data_shards: u16) -> Result<(), StoreError> {
    let mut batch = Batch::new(store, 4096);
    for shard in (0..=data_shards).map(ShardId) {
        let fresh = Remembered::fresh(members.to_vec());
        let hard = &fresh.hard_state;
        batch.hard_state(shard, hard.term, hard.vote, hard.commit);
        batch.members(shard, &fresh.members_stored());
        batch.cut(shard, fresh.truncated.index, fresh.truncated.term);
    }
    store.write(batch.seal())?;
    store.sync()
}

/// How many data shards the disk has; `None`: it has nothing.
fn count_shards(store: &Store) -> Result<Option<u16>, StoreError> {
    let mut count = None;
    for shard in 0..MOST_SHARDS as u16 {
        if store.raft(ShardId(shard))?.is_none() {
            break;
        }
        count = Some(shard);
    }
    Ok(count)
}

fn member(shared: &Shared, shard: ShardId, id: u64) -> Result<Member<ShardDisk>, StartError> {
    let store = &shared.store;
    let wrong = |what: String| StartError::Data { path: store.path().to_owned(), what };
    store.forget_staged(shard)?;
    let on_disk = store.raft(shard)?.ok_or_else(|| wrong(format!("shard {} is missing", shard.0)))?;
    store.verify_log(shard, &on_disk)?;
    let known = remembered(on_disk).map_err(wrong)?;
    let image = store.image(shard)?.map(|(_, sealed)| sealed);
    let disk = ShardDisk { store: Arc::clone(store), shard };
    Member::open(Begin { shard, id, disk, known, image, limits: shared.settings.limits, entropy: entropy(id, shard) }).map_err(wrong)
}

/// From which a member draws its election timeouts.
pub(super) fn entropy(id: u64, shard: ShardId) -> u64 {
    id ^ u64::from(shard.0).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Node {
    /// Opens the disk and starts the threads. `fatal` is told, at most once and from any thread, why the process must end.
    pub fn start(settings: Settings, fatal: Box<dyn Fn(&str) + Send + Sync>) -> Result<Node, StartError> {
        Node::start_with(settings, None, fatal)
    }

    /// The same as one node of several.
    pub fn start_with(
        mut settings: Settings,
        together: Option<Together>,
        fatal: Box<dyn Fn(&str) + Send + Sync>,
    ) -> Result<Node, StartError> {
        if let Some(together) = &together {
            settings.data_shards = together.founding.data_shards;
        }
        if settings.data_shards == 0 || usize::from(settings.data_shards) >= MOST_SHARDS {
            return Err(StartError::Shards(settings.data_shards));
        }
        let opened = open::open_as(&settings.data_dir, together.as_ref().map(|together| together.id), clock::wall_ms())?;
        if let Some(torn) = &opened.torn {
            tracing::warn!("the end of the write-ahead log was torn; nothing of it had been acknowledged, so nothing is lost ({torn})");
        }
        let (store, id) = (Arc::new(opened.store), opened.identity.node);
        let wrong = |what: String| StartError::Data { path: store.path().to_owned(), what };
        if let Some(together) = together.as_ref().filter(|together| together.id != id) {
            return Err(wrong(format!(
                "it is that of node {id:016x}, the certificate is that of node {:016x}; `sluice cluster join BUNDLE` makes one that fits",
                together.id
            )));
        }
        let count = count_shards(&store)?;
        if count.is_none() && together.as_ref().is_some_and(|together| together.begun) {
            return Err(wrong(
                "this node had data, and made promises to its peers that rest on it, but the data is gone. It must not go on under its old id: \
                 remove the whole directory and run `sluice cluster join BUNDLE` again"
                    .to_owned(),
            ));
        }
        let data_shards = match count {
            Some(count) => {
                if count != settings.data_shards {
                    tracing::warn!(
                        "this cluster was begun with {count} data shards and keeps them; `{}` is not used",
                        settings.data_shards
                    );
                }
                count
            }
            None => {
                let members = together.as_ref().map_or_else(|| vec![id], |together| together.members.clone());
                begin(&store, &members, settings.data_shards)?;
                settings.data_shards
            }
        };
        let lane = |shard| {
            let mailbox = Mailbox::new(settings.queue_slots, settings.queue_bytes);
            Arc::new(Lane::new(ShardId(shard), mailbox, settings.recent_picks))
        };
        let shared = Arc::new(Shared {
            writer: Writer::new(settings.write_bytes),
            bodies: Bodies::new(settings.body_bytes),
            fatal: Fatal::new(fatal),
            data_shards,
            lanes: (0..=data_shards).map(lane).collect(),
            shards: (1..=data_shards).map(ShardId).collect(),
            space: Space::default(),
            stopping: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            clock_off: AtomicBool::new(false),
            slow: Slow::default(),
            balanced: std::sync::Mutex::default(),
            notes: crate::node::notes::Notes::default(),
            switch_limits: std::sync::Mutex::default(),
            group_limits: std::sync::Mutex::default(),
            fates: FateTap::default(),
            history_keep: std::sync::atomic::AtomicI64::new(crate::node::history::KEEP_MS),
            together,
            compared: std::sync::Mutex::default(),
            store,
            settings,
        });
        watch::look(&shared, true)?;
        // All members before any thread: whatever is wrong with the data is said before anything is written.
        let mut workers = Vec::new();
        for lane in &shared.lanes {
            let member = member(&shared, lane.shard, id)?;
            if let State::Control(control) = &member.state {
                shared.settings.levels.check(control.level()).map_err(StartError::Level)?;
            }
            workers.push(Worker::new(Arc::clone(&shared), Arc::clone(lane), member, shared.settings.timing));
        }
        let mut node = Node {
            handle: Handle::new(Arc::clone(&shared)),
            id,
            workers: Vec::new(),
            writer: None,
            watch: None,
            probe: None,
            bell: Arc::default(),
        };
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let (for_writer, for_watch, bell) = (Arc::clone(&shared), Arc::clone(&shared), Arc::clone(&node.bell));
        let mark = opened.mark;
        let writer = thread("writer").spawn(move || for_writer.writer.run(&for_writer.store, mark, &for_writer.fatal));
        node.writer = Some(writer.map_err(StartError::Thread)?);
        node.watch = Some(thread("space").spawn(move || watch::run(&for_watch, &bell)).map_err(StartError::Thread)?);
        let (for_probe, bell) = (Arc::clone(&shared), Arc::clone(&node.bell));
        shared.writer.synced.beat(clock::now());
        node.probe = Some(thread("disk-probe").spawn(move || pulse::probe(&for_probe, &bell)).map_err(StartError::Thread)?);
        for worker in workers {
            worker.lane.turned.beat(clock::now());
            let name = format!("shard-{}", worker.lane.shard.0);
            node.workers.push(thread(&name).spawn(move || worker.run()).map_err(StartError::Thread)?);
        }
        Ok(node)
    }

    /// The node's number among all members.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Stops in order: no new offers; what is proposed is committed and answered; an image, so that the next start is quick; the writer; the
    /// disk. Blocks, at most some seconds (`worker::STOP_WAIT`, and a sync). Says what had to be aborted. The directory can be opened again
    /// when the last handle has been dropped.
    pub fn stop(mut self) -> Vec<String> {
        let shared = Arc::clone(&self.handle.shared);
        shared.stopping.store(true, Ordering::Release);
        shared.lanes.iter().for_each(|lane| lane.mailbox.stop());
        let mut aborted = Vec::new();
        for worker in self.workers.drain(..) {
            aborted.extend(worker.join().unwrap_or_else(|_| vec!["a shard's thread".to_owned()]));
        }
        shared.writer.stop();
        self.bell.ring();
        for (name, thread) in [
            ("the writer", self.writer.take()),
            ("the watch on free space", self.watch.take()),
            ("the probe of the disk", self.probe.take()),
        ] {
            if thread.is_some_and(|thread| thread.join().is_err()) {
                aborted.push(name.to_owned());
            }
        }
        if shared.fatal.reason().is_none()
            && let Err(error) = shared.store.close()
        {
            aborted.push(format!("closing the disk: {error}"));
        }
        aborted
    }
}

//! What the rest of the program sees of a node: copies of its state, a moment old.

/// How far a shard has come. Coalesces: a reader sees the newest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Index of the last applied entry.
    pub applied: u64,
    /// Number of the last emission; 0: none yet.
    pub last_emission: u64,
    /// Number of the oldest emission that is kept.
    pub oldest_emission: u64,
    /// Samples emitted since the shard began.
    pub samples: u64,
    /// Changes whenever sinks were added, rewound, cut or removed: read `Handle::cursors` again.
    pub sinks_version: u64,
    /// This node leads the shard (and has applied an entry of its own term).
    pub leads: bool,
    /// Who leads, by this node's knowledge: a node's id; 0: nobody.
    pub leader: u64,
    /// Raft's term.
    pub term: u64,
    /// The shard's time, ms since 1970.
    pub at: i64,
}

/// One sink's place in one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CursorView {
    /// The sink's name.
    pub sink: String,
    /// Positions count only with this epoch.
    pub epoch: u64,
    /// Number of the last emission that is done.
    pub emission: u64,
    /// Samples done since the sink was added, by what became of them.
    pub delivered: u64,
    /// Not wanted by the sink.
    pub filtered: u64,
    /// Refused for good, now dead letters.
    pub dead: u64,
    /// Let go by the sink's budget.
    pub dropped: u64,
    /// Emitted since the sink was added and not done yet.
    pub pending: u64,
    /// Bytes of the log that stay for it.
    pub pending_bytes: u64,
    /// Age of the oldest that is not done, ms.
    pub pending_ms: i64,
    /// The budget, bytes.
    pub budget_bytes: u64,
    /// How fast `pending_bytes` has been growing.
    pub bytes_a_second: u64,
    /// At the present rate the budget is used up in so many seconds; `None`: never.
    pub seconds_left: Option<u64>,
    /// An operator holds the sink.
    pub paused: bool,
}

/// One group, for people.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupView {
    /// Its name.
    pub name: String,
    /// Its data shard.
    pub shard: u16,
    /// Who leads.
    pub leader: Option<String>,
    /// Pinned by an operator to this replica.
    pub pinned: Option<String>,
    /// All that are known.
    pub replicas: Vec<ReplicaView>,
    /// When the present leader began to lead (`at`).
    pub since: i64,
    /// Series known.
    pub series: u64,
    /// The interval shown last by any of its series, ms; 0: none yet.
    pub interval: i64,
    /// Sums since the group began.
    pub counts: CountsView,
    /// The last switches, oldest first.
    pub switches: Vec<SwitchView>,
    /// What is odd about it, for people.
    pub oddities: Vec<crate::dedup::detect::doctor::Oddity>,
    /// A switch that detection wants and withholds, since there were too many.
    pub alarm: Option<String>,
}

/// Where every received sample went: received = emitted + covered + repeated + refused + waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CountsView {
    /// All.
    pub received: u64,
    /// Went out.
    pub emitted: u64,
    /// A twin's had gone out.
    pub covered: u64,
    /// Had gone out itself.
    pub repeated: u64,
    /// Bad, or not believed.
    pub refused: u64,
    /// Not judged yet.
    pub waiting: u64,
    /// Of the emitted: older than the newest of the series.
    pub late: u64,
    /// Of the emitted: not of the leader.
    pub filled: u64,
}

/// One replica of a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplicaView {
    /// Its name.
    pub name: String,
    /// Usual arrival lag, ms.
    pub lag: i64,
    /// Newest sample time.
    pub newest: i64,
    /// Samples received from it.
    pub samples: u64,
    /// Of these, forwarded.
    pub emitted: u64,
    /// Of these, dropped since another's copy was forwarded.
    pub covered: u64,
    /// Of these, forwarded while another replica led.
    pub filled: u64,
    /// When it was last heard of (`at`).
    pub last_seen: i64,
}

/// One switch of a group's leader.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SwitchView {
    /// When (`at`).
    pub at: i64,
    /// Who led.
    pub from: String,
    /// Who leads since.
    pub to: String,
    /// Why, a short fixed word.
    pub reason: String,
    /// What was seen.
    pub evidence: String,
    /// Longest time without samples around it, ms.
    pub gap: i64,
    /// Samples of the new leader that were dropped, since others' had been forwarded.
    pub overlap: u64,
    /// Late samples it let through.
    pub late: u64,
    /// Samples that waited and went out.
    pub filled: u64,
}

/// Figures for `/metrics`.
#[derive(Clone, Debug, Default)]
pub struct NodeStats {
    /// Per shard, control first.
    pub shards: Vec<ShardStats>,
    /// The disk.
    pub store: StoreStats,
}

/// Figures of one shard.
#[derive(Clone, Debug, Default)]
pub struct ShardStats {
    /// Which.
    pub shard: u16,
    /// Raft's term.
    pub term: u64,
    /// This node leads it.
    pub leads: bool,
    /// Who leads, by this node's knowledge; 0: nobody.
    pub leader: u64,
    /// How far the members are; known where it is led.
    pub members: Vec<MemberView>,
    /// Messages of peers that did not fit into the mailbox.
    pub messages_dropped: u64,
    /// Last index, committed, applied.
    pub last_index: u64,
    /// Committed.
    pub committed: u64,
    /// Applied.
    pub applied: u64,
    /// Last image.
    pub image: u64,
    /// Offers that wait, and their bytes.
    pub queued_offers: u64,
    /// Bytes of them.
    pub queued_bytes: u64,
    /// Requests that wait for their answer.
    pub unanswered: u64,
    /// Log bytes that were kept for sinks, since the shard began.
    pub kept_bytes: u64,
    /// Raft's uncommitted bytes.
    pub uncommitted_bytes: u64,
    /// Bytes that wait for a twin.
    pub waiting_bytes: u64,
    /// Samples emitted.
    pub samples: u64,
    /// Emissions.
    pub emissions: u64,
    /// Series known.
    pub series: u64,
    /// Dead letters kept.
    pub dead: u64,
    /// The oldest write that waits for its sync, ms.
    pub unsynced_ms: u64,
    /// How often its leadership was given away since the disk was slow.
    pub gave_way: u64,
    /// Refused offers by reason.
    pub refused: Vec<(&'static str, u64)>,
}

/// How far a member of a shard is, as its leader knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberView {
    /// The node's id.
    pub id: u64,
    /// Up to here it has the log on its disk.
    pub matched: u64,
    /// It was heard of within the last election timeout.
    pub active: bool,
}

/// Figures of the disk.
#[derive(Clone, Debug, Default)]
pub struct StoreStats {
    /// Bytes on disk: tables, blob files, WAL.
    pub disk_bytes: u64,
    /// Bytes of the WAL.
    pub wal_bytes: u64,
    /// Free bytes of the file system.
    pub free_bytes: u64,
    /// Free bytes below which samples are refused.
    pub reserve_bytes: u64,
    /// Below the reserve: samples are refused.
    pub disk_full: bool,
    /// Syncs since start.
    pub syncs: u64,
    /// Bytes handed to the store since start.
    pub written_bytes: u64,
    /// Batches written since start.
    pub batches: u64,
    /// Time of the last sync, µs.
    pub last_sync_micros: u64,
    /// It is, or was a moment ago, slow to sync: this node leads nothing that another one can lead.
    pub slow: bool,
}

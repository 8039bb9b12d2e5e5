//! What may be asked of a shard besides taking samples: the owned form of small entries, for callers of `node::Handle::propose`.

/// A proposal without samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The group's leader changes, if `from` leads; an empty `from` means: whoever leads.
    Switch(SwitchTo),
    /// The group is led by this replica whatever detection says; `None` lifts it.
    Pin {
        /// The group.
        group: String,
        /// The replica.
        replica: Option<String>,
    },
    /// A replica that will not come back.
    ForgetReplica {
        /// The group.
        group: String,
        /// The replica.
        replica: String,
    },
    /// What the shard has to know: sinks and bounds.
    Settings(ShardSettings),
    /// A sink has come further.
    Cursor(CursorMove),
    /// The sink's positions begin anew: rewound, or recovered from another one.
    Epoch(NewEpoch),
    /// What a sink refused for good.
    Dead(DeadLetter),
    /// A budget lets go of what a sink has not taken.
    Drop(DropUpTo),
    /// Control shard: give the group a data shard.
    Assign {
        /// The group.
        group: String,
    },
    /// Control shard: the cluster's settings, as text that `config` understands.
    ClusterSettings {
        /// Must be the present one + 1.
        version: u64,
        /// The text.
        text: String,
    },
}

/// A change of a group's leader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwitchTo {
    /// The group.
    pub group: String,
    /// Who leads.
    pub from: String,
    /// Who shall lead.
    pub to: String,
    /// Why: a short fixed word.
    pub reason: String,
    /// What was seen.
    pub evidence: String,
}

/// What a shard must know, and every member alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardSettings {
    /// Grows with every change. Offers must name it.
    pub version: u64,
    /// The sinks, by name.
    pub sinks: Vec<SinkSettings>,
    /// Bytes of bodies that may wait for a twin; above it the oldest are judged at once.
    pub waiting_bytes: u64,
    /// A series is forgotten when its last sample is so much older than the group's newest, ms.
    pub forget_series_ms: i64,
    /// A replica is forgotten when silent for so long, ms.
    pub forget_replica_ms: i64,
}

/// What a shard knows of a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkSettings {
    /// The name.
    pub name: String,
    /// Where a new one starts.
    pub start: Start,
    /// Log bytes that may stay for it in this shard.
    pub budget_bytes: u64,
    /// Age up to which they stay, ms.
    pub budget_ms: i64,
    /// What happens above it.
    pub policy: Policy,
}

/// Where a new sink starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what comes next.
    Now,
    /// With the oldest that is kept for another sink.
    Oldest,
}

/// What happens above a sink's budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The oldest is let go, by an entry.
    DropOldest,
    /// Offers are refused.
    Refuse,
}

/// A sink's new position and totals since it was added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CursorMove {
    /// The sink.
    pub sink: String,
    /// Must be the present one.
    pub epoch: u64,
    /// The last emission that is done.
    pub emission: u64,
    /// Samples since the last move.
    pub delivered: u64,
    /// Since the last move.
    pub filtered: u64,
    /// Since the last move.
    pub dead: u64,
}

/// A sink begins anew after `emission`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewEpoch {
    /// The sink.
    pub sink: String,
    /// Must be the present one; the new one is one more.
    pub epoch: u64,
    /// The last emission that counts as done.
    pub emission: u64,
}

/// What a sink refused for good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetter {
    /// The sink.
    pub sink: String,
    /// The emission.
    pub emission: u64,
    /// The item in the emission's entry.
    pub item: u32,
    /// Why.
    pub reason: String,
    /// The row as it was refused; at most 64 KiB are kept.
    pub payload: Vec<u8>,
}

/// A budget's cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DropUpTo {
    /// The sink.
    pub sink: String,
    /// Must be the present one; the new one is one more.
    pub epoch: u64,
    /// The last emission that is let go.
    pub up_to: u64,
}

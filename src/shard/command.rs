//! What may be asked of a shard besides taking samples: small, rare entries in owned form, and how they are written in the log.

use crate::shard::alerting;
use crate::shard::alerts;
use crate::shard::codec::Malformed;
use crate::shard::codec::Reader;
use crate::shard::codec::Writer;
use crate::shard::entry::COMMANDS;
use crate::shard::members::Nodes;
use crate::shard::pushed;
use crate::shard::settings::NewVersion;
use crate::shard::tokens::NewToken;
use crate::shard::verdicts;

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
    /// Dead letters that Kafka has taken after all: they go.
    Resent(Resent),
    /// A budget lets go of what a sink has not taken.
    Drop(DropUpTo),
    /// An operator holds a sink in this shard, or lets it go on: whoever leads.
    Pause {
        /// The sink.
        sink: String,
        /// Hold it.
        paused: bool,
    },
    /// Control shard: give the group a data shard.
    Assign {
        /// The group.
        group: String,
    },
    /// Control shard, once: the cluster begins.
    Found(Founding),
    /// Control shard: restored from a backup it is a cluster of its own, with this identity; what it had delivered under the old one is not its own.
    Reidentify(u128),
    /// Control shard: the next version of the cluster's settings.
    ClusterSettings(NewVersion),
    /// Control shard: who takes part. Its version must be the present one + 1.
    Nodes(Nodes),
    /// Control shard: whoever shows this token may ask from now on.
    CreateToken(NewToken),
    /// Control shard: this token is good for nothing any more.
    RevokeToken {
        /// Its name.
        name: String,
        /// Who revokes it; for readers of the log.
        by: String,
    },
    /// Control shard: the cluster goes to this feature level, and not back (`level`).
    Finalize {
        /// More than the present one.
        level: u64,
        /// Who says so; for readers of the log.
        by: String,
    },
    /// Control shard: targets of probes are down, or up again.
    Verdicts(Vec<verdicts::Change>),
    /// Control shard: alerts hold, are over, were told.
    Alerts(Vec<alerts::Change>),
    /// Control shard: something happens to the book of alerts.
    Alerting(alerting::Change),
    /// Control shard: a group of pushed metrics changes.
    Push(pushed::Change),
}

/// What a cluster is from its beginning to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Founding {
    /// Its identity.
    pub cluster: u128,
    /// Seed of all series hashes.
    pub seed: u64,
    /// How many data shards it has.
    pub data_shards: u16,
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
    /// A hole is forgotten when it ended so much before the group's newest sample, ms.
    pub forget_holes_ms: i64,
    /// What all sinks are done with stays so long, so that one can be rewound, ms.
    pub keep_ms: i64,
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

/// A sink's new position. Saying it twice is no harm: what has been done is the difference of the positions in samples, and what of it is
/// neither filtered nor dead counts as delivered, so the sums hold whatever a sink says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CursorMove {
    /// The sink.
    pub sink: String,
    /// Must be the present one.
    pub epoch: u64,
    /// The last emission that is done.
    pub emission: u64,
    /// Samples since the last move; for readers of the log.
    pub delivered: u64,
    /// Since the last move.
    pub filtered: u64,
    /// Since the last move.
    pub dead: u64,
    /// Samples that the shard had emitted up to `emission`; filled in by `node`.
    pub samples: u64,
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
    /// Samples that the shard had emitted up to it; filled in by `node`.
    pub samples: u64,
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
    /// Whose it is, where that matters to the sink; empty: nobody's.
    pub tenant: String,
}

/// Dead letters that were sent again, and are none any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resent {
    /// Whose they were. For readers of the log: the numbers are the shard's.
    pub sink: String,
    /// Their numbers. One that is gone already is no harm.
    pub numbers: Vec<u64>,
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
    /// Samples that the shard had emitted up to `up_to`; filled in by `node`.
    pub samples: u64,
}

/// What is kept of a dead letter's payload, bytes.
pub const DEAD_PAYLOAD: usize = 64 << 10;
/// What is kept of texts for people, bytes.
const TEXT: usize = 1 << 10;

impl Default for ShardSettings {
    /// 64 MiB hold 2.8 M waiting samples: a minute of 46,000 a second. A series is forgotten after two hours, as long as senders keep data.
    fn default() -> ShardSettings {
        ShardSettings {
            version: 0,
            sinks: Vec::new(),
            waiting_bytes: 64 << 20,
            forget_series_ms: 7_200_000,
            forget_holes_ms: 10_800_000,
            keep_ms: 0,
        }
    }
}

impl Command {
    pub(super) fn kind(&self) -> u8 {
        COMMANDS
            + match self {
                Command::Switch(_) => 0,
                Command::Pin { .. } => 1,
                Command::ForgetReplica { .. } => 2,
                Command::Settings(_) => 3,
                Command::Cursor(_) => 4,
                Command::Epoch(_) => 5,
                Command::Dead(_) => 6,
                Command::Drop(_) => 7,
                Command::Assign { .. } => 8,
                Command::ClusterSettings(_) => 9,
                Command::Found(_) => 10,
                Command::Resent(_) => 11,
                Command::Nodes(_) => 12,
                Command::Reidentify(_) => 13,
                Command::CreateToken(_) => 20,
                Command::RevokeToken { .. } => 21,
                Command::Finalize { .. } => 24,
                Command::Pause { .. } => 30,
                Command::Verdicts(_) => 40,
                Command::Alerts(_) => 41,
                Command::Alerting(_) => 42,
                Command::Push(_) => 50,
            }
    }

    pub(super) fn write(&self, out: &mut Writer<'_>) {
        match self {
            Command::Switch(switch) => {
                out.text(&switch.group);
                out.text(&switch.from);
                out.text(&switch.to);
                out.text(cut(&switch.reason));
                out.text(cut(&switch.evidence));
            }
            Command::Pin { group, replica } => {
                out.text(group);
                out.byte(u8::from(replica.is_some()));
                out.text(replica.as_deref().unwrap_or_default());
            }
            Command::ForgetReplica { group, replica } => {
                out.text(group);
                out.text(replica);
            }
            Command::Settings(settings) => settings.write(out),
            Command::Cursor(moved) => {
                out.text(&moved.sink);
                [moved.epoch, moved.emission, moved.delivered, moved.filtered, moved.dead, moved.samples]
                    .into_iter()
                    .for_each(|n| out.number(n));
            }
            Command::Epoch(epoch) => {
                out.text(&epoch.sink);
                out.number(epoch.epoch);
                out.number(epoch.emission);
                out.number(epoch.samples);
            }
            Command::Dead(letter) => letter.write(out),
            Command::Resent(resent) => {
                out.text(&resent.sink);
                out.number(resent.numbers.len() as u64);
                resent.numbers.iter().for_each(|number| out.number(*number));
            }
            Command::Drop(drop) => {
                out.text(&drop.sink);
                out.number(drop.epoch);
                out.number(drop.up_to);
                out.number(drop.samples);
            }
            Command::Pause { sink, paused } => {
                out.text(sink);
                out.byte(u8::from(*paused));
            }
            Command::Assign { group } => out.text(group),
            Command::Nodes(nodes) => nodes.write(out),
            Command::ClusterSettings(new) => new.write(out),
            Command::Reidentify(cluster) => {
                out.fixed(*cluster as u64);
                out.fixed((cluster >> 64) as u64);
            }
            Command::CreateToken(new) => new.write(out),
            Command::RevokeToken { name, by } => {
                out.text(name);
                out.text(cut(by));
            }
            Command::Finalize { level, by } => {
                out.number(*level);
                out.text(cut(by));
            }
            Command::Verdicts(changes) => {
                out.number(changes.len() as u64);
                changes.iter().for_each(|change| change.write(out));
            }
            Command::Alerts(changes) => {
                out.number(changes.len() as u64);
                changes.iter().for_each(|change| change.write(out));
            }
            Command::Alerting(change) => change.write(out),
            Command::Push(change) => change.write(out),
            Command::Found(founding) => {
                out.fixed(founding.cluster as u64);
                out.fixed((founding.cluster >> 64) as u64);
                out.fixed(founding.seed);
                out.number(u64::from(founding.data_shards));
            }
        }
    }

    pub(super) fn read(kind: u8, from: &mut Reader<'_>) -> Result<Command, Malformed> {
        let text = |from: &mut Reader<'_>| from.text().map(str::to_owned);
        Ok(match kind - COMMANDS {
            0 => Command::Switch(SwitchTo {
                group: text(from)?,
                from: text(from)?,
                to: text(from)?,
                reason: text(from)?,
                evidence: text(from)?,
            }),
            1 => {
                let (group, some, replica) = (text(from)?, from.byte()?, text(from)?);
                Command::Pin { group, replica: (some != 0).then_some(replica) }
            }
            2 => Command::ForgetReplica { group: text(from)?, replica: text(from)? },
            3 => Command::Settings(ShardSettings::read(from)?),
            4 => Command::Cursor(CursorMove {
                sink: text(from)?,
                epoch: from.number()?,
                emission: from.number()?,
                delivered: from.number()?,
                filtered: from.number()?,
                dead: from.number()?,
                samples: from.number()?,
            }),
            5 => Command::Epoch(NewEpoch { sink: text(from)?, epoch: from.number()?, emission: from.number()?, samples: from.number()? }),
            6 => Command::Dead(DeadLetter::read(from)?),
            7 => Command::Drop(DropUpTo { sink: text(from)?, epoch: from.number()?, up_to: from.number()?, samples: from.number()? }),
            8 => Command::Assign { group: text(from)? },
            9 => Command::ClusterSettings(NewVersion::read(from)?),
            10 => {
                let (low, high, seed) = (from.fixed()?, from.fixed()?, from.fixed()?);
                let cluster = u128::from(high) << 64 | u128::from(low);
                Command::Found(Founding { cluster, seed, data_shards: from.small()? })
            }
            11 => {
                let sink = text(from)?;
                let numbers = (0..from.count(1)?).map(|_| from.number()).collect::<Result<_, _>>()?;
                Command::Resent(Resent { sink, numbers })
            }
            12 => Command::Nodes(Nodes::read(from)?),
            13 => {
                let (low, high) = (from.fixed()?, from.fixed()?);
                Command::Reidentify(u128::from(high) << 64 | u128::from(low))
            }
            20 => Command::CreateToken(NewToken::read(from)?),
            21 => Command::RevokeToken { name: text(from)?, by: text(from)? },
            24 => Command::Finalize { level: from.number()?, by: text(from)? },
            40 => Command::Verdicts((0..from.count(3)?).map(|_| verdicts::Change::read(from)).collect::<Result<_, _>>()?),
            41 => Command::Alerts((0..from.count(2)?).map(|_| alerts::Change::read(from)).collect::<Result<_, _>>()?),
            42 => Command::Alerting(alerting::Change::read(from)?),
            50 => Command::Push(pushed::Change::read(from)?),
            30 => Command::Pause { sink: text(from)?, paused: from.byte()? != 0 },
            _ => return Err(Malformed::Impossible("an entry of this kind")),
        })
    }
}

impl ShardSettings {
    pub(super) fn write(&self, out: &mut Writer<'_>) {
        out.number(self.version);
        out.number(self.waiting_bytes);
        out.signed(self.forget_series_ms);
        out.signed(self.forget_holes_ms);
        out.signed(self.keep_ms);
        out.number(self.sinks.len() as u64);
        for sink in &self.sinks {
            out.text(&sink.name);
            out.byte(u8::from(sink.start == Start::Oldest));
            out.number(sink.budget_bytes);
            out.signed(sink.budget_ms);
            out.byte(u8::from(sink.policy == Policy::Refuse));
        }
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<ShardSettings, Malformed> {
        let (version, waiting_bytes) = (from.number()?, from.number()?);
        let (forget_series_ms, forget_holes_ms, keep_ms) = (from.signed()?, from.signed()?, from.signed()?);
        let mut sinks = Vec::new();
        for _ in 0..from.count(5)? {
            sinks.push(SinkSettings {
                name: from.text()?.to_owned(),
                start: if from.byte()? == 0 { Start::Now } else { Start::Oldest },
                budget_bytes: from.number()?,
                budget_ms: from.signed()?,
                policy: if from.byte()? == 0 { Policy::DropOldest } else { Policy::Refuse },
            });
        }
        Ok(ShardSettings { version, sinks, waiting_bytes, forget_series_ms, forget_holes_ms, keep_ms })
    }
}

impl DeadLetter {
    fn write(&self, out: &mut Writer<'_>) {
        out.text(&self.sink);
        out.number(self.emission);
        out.number(u64::from(self.item));
        out.text(cut(&self.reason));
        out.bytes(&self.payload[..self.payload.len().min(DEAD_PAYLOAD)]);
        out.text(&self.tenant);
    }

    fn read(from: &mut Reader<'_>) -> Result<DeadLetter, Malformed> {
        let (sink, emission, item) = (from.text()?.to_owned(), from.number()?, from.small()?);
        let (reason, payload) = (from.text()?.to_owned(), from.bytes()?.to_vec());
        Ok(DeadLetter { sink, emission, item, reason, payload, tenant: from.text_if_any()?.to_owned() })
    }

    /// As it is kept.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut Writer(&mut bytes));
        bytes
    }

    /// As it was kept.
    pub fn decode(bytes: &[u8]) -> Result<DeadLetter, Malformed> {
        DeadLetter::read(&mut Reader(bytes))
    }
}

fn cut(text: &str) -> &str {
    let end = (0..=TEXT.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

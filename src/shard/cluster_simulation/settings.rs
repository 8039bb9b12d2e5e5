//! What the shards are told to do, changed while everything runs: a sink goes and comes again, from the oldest or from now, and the memory for waiting
//! samples changes. Every leader brings its shard to the newest version, as `app::settings` does from the control shard.
//!
//! Some sinks have a budget that is soon used up. Left out: the control shard's part (which text is the next version), and what groups are told.

use fastrand::Rng;

use super::shape::Shape;
use super::sink;
use crate::shard::command::Policy;
use crate::shard::command::ShardSettings;
use crate::shard::command::SinkSettings;
use crate::shard::command::Start;

fn sink(number: usize, start: Start, random: &mut Rng) -> SinkSettings {
    let name = sink::name(number);
    if random.u8(..3) > 0 {
        return SinkSettings { name, start, budget_bytes: u64::MAX, budget_ms: i64::MAX, policy: Policy::Refuse };
    }
    // Some tens of entries, or seconds.
    let (budget_bytes, budget_ms) = (random.u64(3_000..20_000), random.i64(4_000..40_000));
    let policy = if random.u8(..4) == 0 { Policy::Refuse } else { Policy::DropOldest };
    SinkSettings { name, start, budget_bytes, budget_ms, policy }
}

/// As a cluster begins.
pub fn first(shape: &Shape, random: &mut Rng) -> ShardSettings {
    let sinks = (0..shape.sinks).map(|number| sink(number, Start::Oldest, random)).collect();
    ShardSettings { version: 1, sinks, waiting_bytes: shape.waiting, ..ShardSettings::default() }
}

/// The next version. The first sink stays: it is what everything is held against.
pub fn next(before: &ShardSettings, shape: &Shape, random: &mut Rng) -> ShardSettings {
    let keep_ms = [0, 0, 2_000, 20_000][random.usize(..4)];
    let mut next = ShardSettings { version: before.version + 1, keep_ms, ..before.clone() };
    if random.u8(..4) == 0 {
        next.waiting_bytes = [240, 4_000, 64 << 20][random.usize(..3)];
    }
    for number in 1..shape.sinks {
        let name = sink::name(number);
        let there = next.sinks.len();
        next.sinks.retain(|sink| sink.name != name);
        if next.sinks.len() == there {
            let start = if random.bool() { Start::Oldest } else { Start::Now };
            next.sinks.push(sink(number, start, random));
        }
    }
    next
}

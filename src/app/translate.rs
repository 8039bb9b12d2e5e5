//! From the configuration's words to what the parts take: shard settings, the node's bounds. Pure.

use crate::config::Config;
use crate::config::sinks;
use crate::node::settings::Reserve;
use crate::node::settings::Settings;
use crate::shard::command::Policy;
use crate::shard::command::SinkSettings;
use crate::shard::command::Start;

/// What the node is started with.
pub fn node(config: &Config) -> Settings {
    let mut settings = Settings::new(config.data_dir.clone());
    settings.data_shards = config.shards;
    if let Some(cluster) = &config.cluster {
        let ticks = cluster.away.as_millis() / settings.timing.tick.as_millis();
        settings.limits.away_ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
        settings.timing.slow = cluster.slow_sync;
    }
    settings.reserve = Reserve::Percent(config.log.reserve_percent);
    settings
}

/// What every data shard has to know of the sinks. A budget is divided evenly among the shards.
pub fn sinks(config: &Config, shards: usize) -> Vec<SinkSettings> {
    let sink = |sink: &sinks::Sink| SinkSettings {
        name: sink.name.clone(),
        start: match sink.from {
            sinks::From::Now => Start::Now,
            sinks::From::Oldest => Start::Oldest,
        },
        budget_bytes: sink.budget.bytes / shards.max(1) as u64,
        budget_ms: i64::try_from(sink.budget.age.as_millis()).unwrap_or(i64::MAX),
        policy: match sink.budget.policy {
            sinks::Policy::DropOldest => Policy::DropOldest,
            sinks::Policy::Refuse => Policy::Refuse,
        },
    };
    config.sinks.iter().map(sink).collect()
}

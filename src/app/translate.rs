//! From the configuration's words to what the parts take: shard settings, the node's bounds. Pure.

use crate::config::Config;
use crate::config::groups::Groups;
use crate::config::limits::PerGroup;
use crate::config::limits::Special;
use crate::config::sinks;
use crate::node::group_limits::GroupLimits;
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

/// What groups may do: what the file of this node says of all, and the settings of single ones.
pub fn group_limits(groups: &Groups, usual: PerGroup) -> GroupLimits {
    let special = groups.overrides.iter().filter(|special| special.limits != Special::default());
    GroupLimits { usual, special: special.map(|special| (special.name.clone(), usual.with(&special.limits))).collect() }
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

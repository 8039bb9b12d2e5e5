//! What is counted of alerts and of those who are told of them, under the names that dashboards of Alertmanager read.

use std::collections::BTreeMap;
use std::fmt::Error;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use xxhash_rust::xxh3::xxh3_64;

use crate::alert::silence::Phase;
use crate::app::alerting::Alerting;
use crate::app::metrics::Out;
use crate::notify::Outcome;

/// Whom a message goes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct To {
    integration: &'static str,
    receiver_name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

/// Tries, and those that failed.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    tries: Family<To, Counter>,
    failed: Family<To, Counter>,
    refused: Family<To, Counter>,
}

impl Metrics {
    /// Registers them, in a registry whose names begin with `alertmanager_`.
    pub fn register(alerting: &Arc<Alerting>, registry: &mut Registry) {
        let Metrics { tries, failed, refused } = alerting.metrics.clone();
        registry.register("notifications", "Messages sent to receivers, each try", tries);
        registry.register("notifications_failed", "Tries that a receiver did not take", failed);
        registry.register("notifications_refused", "Messages that a receiver will never take", refused);
        registry.register_collector(Box::new(Held(Arc::clone(alerting))));
    }

    pub(super) fn sent(&self, (integration, receiver): (&'static str, &str), outcome: &Outcome) {
        let to = To { integration, receiver_name: receiver.to_owned() };
        self.tries.get_or_create(&to).inc();
        if *outcome != Outcome::Taken {
            self.failed.get_or_create(&to).inc();
        }
        if matches!(outcome, Outcome::Never { .. }) {
            self.refused.get_or_create(&to).inc();
        }
    }
}

struct Held(Arc<Alerting>);

impl std::fmt::Debug for Held {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Held")
    }
}

impl Collector for Held {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let Some(current) = self.0.current() else { return Ok(()) };
        let now = self.0.now();
        let mut alerts = BTreeMap::from([("active", 0), ("suppressed", 0)]);
        let (groups, open) = self.0.with_groups(&current, |all| {
            for (id, kept) in all.book().alerts().iter().filter(|(_, kept)| !kept.alert.is_over(now)) {
                *alerts.entry(if all.is_suppressed(id, kept, now) { "suppressed" } else { "active" }).or_default() += 1;
            }
            (all.len(), all.open().count())
        });
        let mut silences = BTreeMap::from([("active", 0), ("expired", 0), ("pending", 0)]);
        for silence in self.0.node.book().silences().values() {
            let state = match silence.phase(now) {
                Phase::Active => "active",
                Phase::Pending => "pending",
                Phase::Expired => "expired",
            };
            *silences.entry(state).or_default() += 1;
        }
        let rows = |counted: BTreeMap<&'static str, u32>| counted.into_iter().map(|(state, count)| (State { state }, f64::from(count)));
        let mut out = Out(&mut encoder);
        out.gauges("alerts", "Alerts that hold", rows(alerts))?;
        out.gauges("silences", "Silences", rows(silences))?;
        out.gauge("dispatcher_aggregation_groups", "Groups of alerts", groups as f64)?;
        out.gauge("notifications_open", "Messages that are noted as on their way", open as f64)?;
        let others = self.0.seen.as_ref().map(|seen| seen.peers()).unwrap_or_default();
        let away = others.iter().filter(|peer| peer.clock_off_ms.is_none()).count();
        out.gauge("cluster_members", "Nodes, this one among them", (others.len() + 1) as f64)?;
        out.gauge("cluster_failed_peers", "Nodes that do not answer this one", away as f64)?;
        // Of 64 bits so many are whole numbers in a float.
        let hash = xxh3_64(current.written.text.as_bytes()) & ((1 << 48) - 1);
        out.gauge("config_hash", "Of the routes and receivers in force", hash as f64)?;
        out.gauge("config_last_reload_successful", "Settings are judged before they are taken: always 1", 1.0)
    }
}

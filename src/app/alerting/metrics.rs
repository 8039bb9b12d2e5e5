//! What is counted of alerts and of those who are told of them, under the names that dashboards of Alertmanager read; and what is kept back, which it has no name for.

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

use crate::alert::groups::outlook::Outlook;
use crate::alert::groups::outlook::WaitsFor;
use crate::alert::silence::Phase;
use crate::api;
use crate::app::alerting::Alerting;
use crate::app::metrics::Out;
use crate::notify::Outcome;
use crate::telemetry::Telemetry;

/// Whom a message goes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct To {
    integration: &'static str,
    receiver_name: String,
}

impl To {
    /// An integration's kind, and its receiver.
    fn new(integration: &'static str, receiver: &str) -> To {
        To { integration, receiver_name: receiver.to_owned() }
    }
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

/// Registers all of it, and what the API counts: under Alertmanager's names what it has a name for.
pub fn register(alerting: &Arc<Alerting>, counts: &api::metrics::Metrics, telemetry: &Telemetry) {
    telemetry.register_as("alertmanager", |registry| {
        counts.register(registry);
        Metrics::register(alerting, registry);
    });
    telemetry.register(|registry| registry.register_collector(Box::new(KeptBack(Arc::clone(alerting)))));
}

impl Metrics {
    fn register(alerting: &Arc<Alerting>, registry: &mut Registry) {
        let Metrics { tries, failed, refused } = alerting.metrics.clone();
        registry.register("notifications", "Messages sent to receivers, each try", tries);
        registry.register("notifications_failed", "Tries that a receiver did not take", failed);
        registry.register("notifications_refused", "Messages that a receiver will never take", refused);
        registry.register_collector(Box::new(Held(Arc::clone(alerting))));
    }

    pub(super) fn sent(&self, (integration, receiver): (&'static str, &str), outcome: &Outcome) {
        let to = To::new(integration, receiver);
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

/// What is kept back from receivers whose settings bound what they are told.
struct KeptBack(Arc<Alerting>);

impl std::fmt::Debug for KeptBack {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("KeptBack")
    }
}

/// Of all integrations of one kind that a receiver has.
#[derive(Default)]
struct Figures {
    held: usize,
    held_groups: usize,
    shut_ms: i64,
    bundled: usize,
    storm: bool,
}

impl Figures {
    fn add(&mut self, outlook: &Outlook, now: i64) {
        self.held += outlook.held.alerts;
        self.held_groups += outlook.held.groups;
        self.shut_ms = self.shut_ms.max(outlook.opens.map_or(0, |opens| opens - now));
        self.bundled += outlook.waiting.filter(|(_, waits_for, _)| *waits_for == WaitsFor::Bundle).map_or(0, |(groups, ..)| groups);
        self.storm |= outlook.storm.is_some();
    }
}

impl Collector for KeptBack {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let Some(current) = self.0.current() else { return Ok(()) };
        let (now, mut all) = (self.0.now(), BTreeMap::<(String, &'static str), Figures>::new());
        for one in self.0.receivers(&current, now) {
            if current.plan.bounds(&one.receiver).is_some() {
                all.entry((one.receiver, one.kind)).or_default().add(&one.outlook, now);
            }
        }
        let mut out = Out(&mut encoder);
        let silent = self.0.node.book().alerts().iter().filter(|(_, kept)| kept.unconfirmed_since(now).is_some()).count();
        out.gauge("alert_unconfirmed", "Alerts that hold and are not said as often as they usually are", silent as f64)?;
        let mut each = |name, help, figure: fn(&Figures) -> f64| {
            out.gauges(name, help, all.iter().map(|((receiver, kind), figures)| (To::new(kind, receiver), figure(figures))))
        };
        each("alert_held", "Alerts that are told when there is room in the receiver's windows", |all| all.held as f64)?;
        each("alert_held_groups", "Their groups", |all| all.held_groups as f64)?;
        each("alert_held_seconds", "How long there is no room in the receiver's windows; 0: there is", |all| all.shut_ms as f64 / 1000.0)?;
        each("alert_bundled_groups", "Groups that wait for others that go in the same message, at the node that tells", |all| {
            all.bundled as f64
        })?;
        each("alert_storm", "1: the receiver is told by digests", |all| f64::from(u8::from(all.storm)))
    }
}

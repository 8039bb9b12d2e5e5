//! Numbers of the shards, groups, disk and sinks for `/metrics`, read from their views when asked.
//!
//! Two sums hold at every moment and are what tests and alerts can lean on: per group, received = emitted + covered + repeated + refused +
//! waiting; per sink, what the shards emitted since it was added = delivered + filtered + dead + dropped + pending.

use std::fmt::Error;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::api;
use crate::app::certificates::Certificates;
use crate::app::sinks::SinkSet;
use crate::node::Handle;
use crate::node::view::GroupView;
use crate::node::view::NodeStats;
use crate::shard::pushed;

/// Registers them.
pub fn register(registry: &mut Registry, node: Handle, sinks: Arc<SinkSet>, certificates: Arc<Certificates>, peers: Option<Peers>) {
    registry.register_collector(Box::new(Measures { node, sinks, certificates, peers }));
}

/// The other nodes, as seen from here.
pub type Peers = Arc<dyn Fn() -> Vec<Peer> + Send + Sync>;

/// Another node.
pub struct Peer {
    /// Its name.
    pub name: String,
    /// It answers: its clock less ours, ms.
    pub clock_off_ms: Option<i64>,
    /// Raft's messages to it.
    pub sent: u64,
    /// Those that were dropped.
    pub dropped: u64,
}

struct Measures {
    node: Handle,
    sinks: Arc<SinkSet>,
    peers: Option<Peers>,
    certificates: Arc<Certificates>,
}

impl std::fmt::Debug for Measures {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Measures")
    }
}

impl Collector for Measures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut out = Out(&mut encoder);
        let stats = self.node.stats();
        shards(&mut out, &stats)?;
        disk(&mut out, &stats)?;
        groups(&mut out, &self.node.groups())?;
        if let Some(peers) = &self.peers {
            others(&mut out, &peers())?;
        }
        let ends = [("public", self.certificates.listener_ends_ms()), ("node", self.certificates.node_ends_ms())];
        let ends = ends.into_iter().filter_map(|(certificate, ends)| Some((CertificateLabels { certificate }, ends? as f64 / 1000.0)));
        out.gauges(
            "certificate_expiry_timestamp_seconds",
            "When the certificate ends: of the public listener, of the node towards others",
            ends,
        )?;
        let views = self.sinks.views();
        let mut rows: Vec<(SinkLabels, &crate::forward::view::ShardView)> = Vec::new();
        for sink in &views {
            for shard in &sink.shards {
                rows.push((SinkLabels { sink: sink.name.clone(), shard: shard.shard }, shard));
            }
        }
        let mut counter = |name, help, figure: fn(&crate::forward::view::ShardView) -> u64| {
            out.counters(name, help, rows.iter().map(|(labels, shard)| (labels.clone(), figure(shard) as f64)))
        };
        counter("sink_delivered_samples", "Samples the sink has for good, since it was added", |shard| shard.cursor.delivered)?;
        counter("sink_filtered_samples", "Samples the sink does not want, since it was added", |shard| shard.cursor.filtered)?;
        counter("sink_dead_samples", "Samples the sink's receiver refused for good (dead letters), since it was added", |shard| {
            shard.cursor.dead
        })?;
        counter("sink_dropped_samples", "Samples let go by the sink's budget, since it was added", |shard| shard.cursor.dropped)?;
        counter("sink_rows", "Rows delivered by this process", |shard| shard.sums.rows)?;
        counter("sink_bytes", "Bytes of rows delivered by this process, before compression", |shard| shard.sums.bytes)?;
        counter("sink_messages", "Messages or requests sent by this process", |shard| shard.sums.messages)?;
        counter("sink_retries", "Requests sent again: of the Kafka client, or to a store", |shard| shard.client.retries)?;
        counter("sink_commits", "Transactions committed by this process", |shard| shard.sums.commits)?;
        counter("sink_aborts", "Transactions given up by this process", |shard| shard.sums.aborts)?;
        counter("sink_fallback_rows", "Rows that went to the fallback topic by this process", |shard| shard.sums.aside)?;
        counter("sink_producers", "Kafka clients made by this process", |shard| shard.sums.producers)?;
        of_clients(&mut out, &rows)?;
        let mut gauge = |name, help, figure: fn(&crate::forward::view::ShardView) -> f64| {
            out.gauges(name, help, rows.iter().map(|(labels, shard)| (labels.clone(), figure(shard))))
        };
        gauge("sink_pending_samples", "Samples emitted and not delivered yet", |shard| shard.cursor.pending as f64)?;
        gauge("sink_pending_bytes", "Bytes of the log that stay for the sink", |shard| shard.cursor.pending_bytes as f64)?;
        gauge("sink_lag_seconds", "Age of the oldest sample not delivered yet", |shard| shard.lag_ms as f64 / 1000.0)?;
        gauge("sink_ahead_samples", "Samples delivered ahead of a backlog (`catch_up: fresh_first`)", |shard| shard.ahead as f64)?;
        gauge("sink_budget_bytes", "The sink's budget in this shard", |shard| shard.cursor.budget_bytes as f64)?;
        gauge("sink_troubled", "1: something stops the sink (`sluice sink list` says what)", |shard| {
            f64::from(u8::from(shard.trouble.is_some()))
        })
    }
}

/// What librdkafka says of itself, some seconds old: a figure for each sink and shard, whatever the number of brokers, topics and partitions. Counters
/// begin anew with each client.
fn of_clients(out: &mut Out<'_, '_>, rows: &[(SinkLabels, &crate::forward::view::ShardView)]) -> Result<(), Error> {
    type Figure = fn(&crate::forward::view::ClientStats) -> f64;
    let counters: [(&'static str, &'static str, Figure); 5] = [
        ("sink_client_errors", "Transmission errors: of the Kafka client, or requests to a store without an answer", |client| {
            client.errors as f64
        }),
        ("sink_client_requests", "Requests of the Kafka client", |client| client.requests as f64),
        ("sink_client_sent_bytes", "Bytes that the Kafka client has sent, requests included", |client| client.sent_bytes as f64),
        ("sink_client_timeouts", "Requests of the Kafka client without an answer in time", |client| client.timeouts as f64),
        ("sink_client_disconnects", "Connections of the Kafka client that ended", |client| client.disconnects as f64),
    ];
    for (name, help, figure) in counters {
        out.counters(name, help, rows.iter().map(|(labels, shard)| (labels.clone(), figure(&shard.client))))?;
    }
    let gauges: [(&'static str, &'static str, Figure); 8] = [
        ("sink_client_queue_messages", "Messages in the Kafka client's queue", |client| client.queue_messages as f64),
        ("sink_client_queue_bytes", "Bytes in the Kafka client's queue", |client| client.queue_bytes as f64),
        ("sink_client_brokers", "Brokers that the Kafka client knows", |client| client.brokers as f64),
        ("sink_client_brokers_up", "Brokers that it is connected to", |client| client.brokers_up as f64),
        ("sink_client_rtt_p99_seconds", "Round trip to the slowest broker", |client| client.rtt_p99_micros as f64 / 1e6),
        ("sink_client_wait_p99_seconds", "How long requests wait for the socket of the slowest broker", |client| {
            client.wait_p99_micros as f64 / 1e6
        }),
        ("sink_client_throttle_p99_seconds", "How long a broker's quotas make the client wait", |client| {
            client.throttle_p99_ms as f64 / 1e3
        }),
        ("sink_client_batch_bytes", "Mean size of a batch to Kafka", |client| client.batch_bytes as f64),
    ];
    for (name, help, figure) in gauges {
        out.gauges(name, help, rows.iter().map(|(labels, shard)| (labels.clone(), figure(&shard.client))))?;
    }
    Ok(())
}

/// What is looked at from outside.
pub type Probes = Arc<dyn Fn() -> api::probes::Probes + Send + Sync>;

/// Registers what is looked at, and what was pushed.
pub fn register_probes(registry: &mut Registry, probes: Probes, node: Handle) {
    registry.register_collector(Box::new(LookedAt(probes, node)));
}

struct LookedAt(Probes, Handle);

impl std::fmt::Debug for LookedAt {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("LookedAt")
    }
}

impl Collector for LookedAt {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let (mut out, all) = (Out(&mut encoder), (self.0)());
        let labels = |one: &api::probes::Prometheus| ReplicaLabels { group: one.group.clone(), replica: one.replica.clone() };
        let up = all.prometheus.iter().map(|one| (labels(one), f64::from(u8::from(one.state == "up"))));
        out.gauges("prometheus_up", "1: this node finds the replica's Prometheus ready", up)?;
        let behind = all.prometheus.iter().filter_map(|one| Some((labels(one), one.behind_seconds?)));
        out.gauges("prometheus_behind_seconds", "How far behind the Prometheus' remote write is, by its own metrics", behind)?;
        let down = all.targets.iter().filter(|target| target.verdict == "down").count();
        out.gauge("probe_targets", "Targets of probe jobs", all.targets.len() as f64)?;
        out.gauge("probe_targets_down", "Those that are down by the nodes' verdict", down as f64)?;
        let open = all.alerts.iter().filter(|alert| alert.ended.is_none()).count();
        out.gauge("alerts", "Alerts that hold", open as f64)?;
        let pushed = self.1.pushed();
        out.gauge("pushed_groups", "Groups of pushed metrics", pushed.len() as f64)?;
        out.gauge("pushed_bytes", "Bytes that they take, of 32 MiB", pushed::bytes(&pushed) as f64)
    }
}

fn shards(out: &mut Out<'_, '_>, stats: &NodeStats) -> Result<(), Error> {
    let mut each = |counter: bool, name, help, figure: fn(&crate::node::view::ShardStats) -> f64| {
        let rows = stats.shards.iter().map(|shard| (ShardLabels { shard: shard.shard }, figure(shard)));
        if counter { out.counters(name, help, rows) } else { out.gauges(name, help, rows) }
    };
    each(false, "shard_term", "Raft's term", |shard| shard.term as f64)?;
    each(false, "shard_leads", "1: this node leads the shard", |shard| f64::from(u8::from(shard.leads)))?;
    each(false, "shard_last_index", "Index of the last entry of the log", |shard| shard.last_index as f64)?;
    each(false, "shard_applied_index", "Index of the last applied entry", |shard| shard.applied as f64)?;
    each(false, "shard_image_index", "Entry of which the last image was taken", |shard| shard.image as f64)?;
    each(false, "shard_queued_offers", "Offers that wait for the shard (Q1)", |shard| shard.queued_offers as f64)?;
    each(false, "shard_queued_bytes", "Bytes of offers that wait for the shard (Q1)", |shard| shard.queued_bytes as f64)?;
    each(false, "shard_uncommitted_bytes", "Bytes proposed and not committed", |shard| shard.uncommitted_bytes as f64)?;
    each(false, "shard_waiting_bytes", "Bytes of bodies whose samples wait for a twin", |shard| shard.waiting_bytes as f64)?;
    each(false, "shard_series", "Series known", |shard| shard.series as f64)?;
    each(false, "shard_oldest_unsynced_seconds", "How long the oldest write has waited for its sync", |shard| {
        shard.unsynced_ms as f64 / 1000.0
    })?;
    each(false, "shard_dead_letters", "Dead letters kept", |shard| shard.dead as f64)?;
    each(true, "shard_emitted_samples", "Samples emitted since the shard began", |shard| shard.samples as f64)?;
    each(
        true,
        "shard_dropped_messages",
        "Peers' messages that did not fit into the shard's mailbox (Q2); Raft sends them again",
        |shard| shard.messages_dropped as f64,
    )?;
    each(true, "shard_slow_disk_hand_overs", "How often this node gave the shard's leadership away since its disk was slow", |shard| {
        shard.gave_way as f64
    })?;
    each(true, "shard_emissions", "Emissions since the shard began", |shard| shard.emissions as f64)?;
    let refused = stats
        .shards
        .iter()
        .flat_map(|shard| shard.refused.iter().map(|(reason, count)| (RefusedLabels { shard: shard.shard, reason }, *count as f64)));
    out.counters("shard_refused_offers", "Offers that were refused, by reason", refused)
}

fn others(out: &mut Out<'_, '_>, peers: &[Peer]) -> Result<(), Error> {
    let labels = |peer: &Peer| PeerLabels { peer: peer.name.clone() };
    let up = peers.iter().map(|peer| (labels(peer), f64::from(u8::from(peer.clock_off_ms.is_some()))));
    out.gauges("peer_connected", "1: the node answers", up)?;
    let off = peers.iter().filter_map(|peer| Some((labels(peer), peer.clock_off_ms? as f64 / 1000.0)));
    out.gauges("peer_clock_offset_seconds", "The node's clock less this one's", off)?;
    out.counters("peer_sent_messages", "Raft's messages to the node", peers.iter().map(|peer| (labels(peer), peer.sent as f64)))?;
    let dropped = peers.iter().map(|peer| (labels(peer), peer.dropped as f64));
    out.counters("peer_dropped_messages", "Those that did not fit or were lost with a connection (Q4); Raft sends them again", dropped)
}

fn disk(out: &mut Out<'_, '_>, stats: &NodeStats) -> Result<(), Error> {
    let store = &stats.store;
    out.gauge("store_disk_bytes", "Bytes on disk: log, emissions, images", store.disk_bytes as f64)?;
    out.gauge("store_wal_bytes", "Of these, the store's own write-ahead log", store.wal_bytes as f64)?;
    out.gauge("store_free_bytes", "Free bytes of the file system", store.free_bytes as f64)?;
    out.gauge("store_disk_full", "1: free space is below the reserve, samples are refused", f64::from(u8::from(store.disk_full)))?;
    out.gauge(
        "store_slow",
        "1: a write waited longer for its sync than cluster.slow_sync allows within the last two minutes; the node leads nothing that another can",
        f64::from(u8::from(store.slow)),
    )?;
    out.gauge("store_last_sync_seconds", "How long the last sync took", store.last_sync_micros as f64 / 1e6)?;
    out.counter("store_syncs", "Syncs", store.syncs as f64)?;
    out.counter("store_written_bytes", "Bytes handed to the store", store.written_bytes as f64)
}

fn groups(out: &mut Out<'_, '_>, groups: &[GroupView]) -> Result<(), Error> {
    let mut each = |counter: bool, name, help, figure: fn(&GroupView) -> f64| {
        let rows = groups.iter().map(|group| (GroupLabels { group: group.name.clone() }, figure(group)));
        if counter { out.counters(name, help, rows) } else { out.gauges(name, help, rows) }
    };
    each(true, "group_received_samples", "Samples received: emitted + covered + repeated + refused + waiting", |group| {
        group.counts.received as f64
    })?;
    each(true, "group_emitted_samples", "Samples let through", |group| group.counts.emitted as f64)?;
    each(true, "group_covered_samples", "Samples of which a twin's copy went through", |group| group.counts.covered as f64)?;
    each(true, "group_repeated_samples", "Samples sent again", |group| group.counts.repeated as f64)?;
    each(true, "group_refused_samples", "Samples refused", |group| group.counts.refused as f64)?;
    each(false, "group_waiting_samples", "Samples that wait for a twin", |group| group.counts.waiting as f64)?;
    each(true, "group_late_samples", "Of the emitted: older than the newest of their series", |group| group.counts.late as f64)?;
    each(true, "group_filled_samples", "Of the emitted: not of the leader", |group| group.counts.filled as f64)?;
    each(false, "group_series", "Series known", |group| group.series as f64)?;
    each(false, "group_replicas", "Replicas known", |group| group.replicas.len() as f64)?;
    let rows = groups.iter().flat_map(|group| {
        group.replicas.iter().map(|replica| {
            let leads = group.leader.as_deref() == Some(replica.name.as_str());
            (
                ReplicaLabels { group: group.name.clone(), replica: replica.name.clone() },
                replica.lag as f64 / 1000.0,
                f64::from(u8::from(leads)),
            )
        })
    });
    let rows: Vec<_> = rows.collect();
    out.gauges(
        "replica_lag_seconds",
        "Usual age of a replica's samples on arrival",
        rows.iter().map(|(labels, lag, _)| (labels.clone(), *lag)),
    )?;
    out.gauges("replica_leads", "1: the replica leads its group", rows.iter().map(|(labels, _, leads)| (labels.clone(), *leads)))
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PeerLabels {
    peer: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShardLabels {
    shard: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    certificate: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    shard: u16,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GroupLabels {
    group: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReplicaLabels {
    group: String,
    replica: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkLabels {
    sink: String,
    shard: u16,
}

/// Writes families whose values were read a moment ago.
pub(super) struct Out<'e, 'w>(pub &'e mut DescriptorEncoder<'w>);

impl Out<'_, '_> {
    fn counter(&mut self, name: &str, help: &str, value: f64) -> Result<(), Error> {
        ConstCounter::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    pub fn gauge(&mut self, name: &str, help: &str, value: f64) -> Result<(), Error> {
        ConstGauge::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    fn counters<L>(&mut self, name: &str, help: &str, rows: impl Iterator<Item = (L, f64)>) -> Result<(), Error>
    where
        L: EncodeLabelSet + Clone + std::hash::Hash + Eq,
    {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in rows {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    pub fn gauges<L>(&mut self, name: &str, help: &str, rows: impl Iterator<Item = (L, f64)>) -> Result<(), Error>
    where
        L: EncodeLabelSet + Clone + std::hash::Hash + Eq,
    {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in rows {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

//! The one document from which the page is drawn: everything at a glance, and what is wrong, each with its remedy.

use serde::Serialize;

use crate::api::cluster::View;
use crate::api::deps::Deps;
use crate::api::deps::Ingest;
use crate::api::deps::Problem;
use crate::api::deps::Sender;
use crate::api::deps::Severity;
use crate::api::doctor;
use crate::api::groups;
use crate::api::groups::Group;
use crate::api::groups::Switch;
use crate::api::sinks;
use crate::api::sinks::Sink;
use crate::api::tokens;
use crate::model::tenant;
use crate::node::view::GroupView;
use crate::node::view::ShardStats;
use crate::node::view::StoreStats;

/// `GET /api/v1/status`.
#[derive(Debug, Serialize)]
pub struct Status {
    name: String,
    version: &'static str,
    listen: String,
    public_certificate_expires: Option<i64>,
    now: i64,
    started: i64,
    uptime_seconds: i64,
    ready: bool,
    not_ready: Vec<String>,
    dev: bool,
    /// The worst first.
    pub problems: Vec<Problem>,
    ingest: Ingest,
    groups: Vec<Group>,
    switches: Vec<Switch>,
    shards: Vec<Shard>,
    disk: Disk,
    sinks: Vec<Sink>,
    senders: Vec<Sender>,
    /// The other nodes; none where this one is all there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<View>,
}

/// One shard.
#[derive(Debug, Serialize)]
pub struct Shard {
    shard: u16,
    control: bool,
    leads: bool,
    term: u64,
    committed: u64,
    applied: u64,
    queued_offers: u64,
    queued_bytes: u64,
    waiting_bytes: u64,
    samples: u64,
    emissions: u64,
    series: u64,
    dead: u64,
}

/// The disk.
#[derive(Debug, Serialize)]
pub struct Disk {
    used_bytes: u64,
    wal_bytes: u64,
    free_bytes: u64,
    reserve_bytes: u64,
    full: bool,
    last_sync_micros: u64,
}

/// A replica that has been silent for so long is a problem, ms: four scrapes of 15 s.
const SILENT_MS: i64 = 60_000;
/// After so long it is history, not news.
const FORGOTTEN_MS: i64 = 86_400_000;

/// Draws it up.
pub fn status(deps: &Deps, now: i64) -> Status {
    let views = deps.node.groups();
    let stats = deps.node.stats();
    let sinks: Vec<Sink> = deps.sinks.list().into_iter().map(sinks::one).collect();
    let ingest = (deps.ingest)();
    let not_ready = (deps.not_ready)();
    let mut problems = (deps.problems)();
    let cluster = deps.cluster.as_ref().map(|cluster| cluster.view());
    problems.extend(cluster.iter().flat_map(|view| view.problems.iter().cloned()));
    problems.extend(tokens::problems(&deps.node.tokens(), now));
    problems.extend(of_disk(&stats.store));
    problems.extend(sinks.iter().flat_map(of_sink));
    problems.extend(of_dead(&stats.shards, &sinks));
    problems.extend(views.iter().flat_map(|view| of_group(view, now)));
    problems.extend(views.iter().filter_map(of_withheld));
    problems.extend(of_unidentified(&ingest));
    problems.sort_by_key(|problem| problem.severity); // stable: kinds stay together
    Status {
        name: deps.name.clone(),
        version: deps.version,
        listen: deps.listen.to_string(),
        public_certificate_expires: (deps.public_certificate_expires)(),
        now,
        started: deps.started_ms,
        uptime_seconds: (now - deps.started_ms) / 1000,
        ready: not_ready.is_empty(),
        not_ready,
        dev: deps.dev.is_some(),
        problems,
        ingest,
        groups: groups::all(&views).groups,
        switches: groups::last_switches(&views),
        shards: stats.shards.iter().map(shard).collect(),
        disk: disk(&stats.store),
        sinks,
        senders: deps.dev.as_ref().map_or_else(Vec::new, |dev| dev.list()),
        cluster,
    }
}

fn shard(stats: &ShardStats) -> Shard {
    Shard {
        shard: stats.shard,
        control: stats.shard == 0,
        leads: stats.leads,
        term: stats.term,
        committed: stats.committed,
        applied: stats.applied,
        queued_offers: stats.queued_offers,
        queued_bytes: stats.queued_bytes,
        waiting_bytes: stats.waiting_bytes,
        samples: stats.samples,
        emissions: stats.emissions,
        series: stats.series,
        dead: stats.dead,
    }
}

fn disk(store: &StoreStats) -> Disk {
    Disk {
        used_bytes: store.disk_bytes,
        wal_bytes: store.wal_bytes,
        free_bytes: store.free_bytes,
        reserve_bytes: store.reserve_bytes,
        full: store.disk_full,
        last_sync_micros: store.last_sync_micros,
    }
}

fn problem(severity: Severity, code: &str, about: String, text: String, remedy: &str) -> Problem {
    Problem { severity, code: code.to_owned(), about, text, remedy: remedy.to_owned() }
}

fn of_disk(store: &StoreStats) -> Option<Problem> {
    const REMEDY: &str = "make room on the file system of data_dir, or lower the sinks' budgets";
    if store.disk_full {
        let text =
            "free space is below the reserve: samples are answered 503 (of several nodes: once a majority is full), the senders keep them"
                .to_owned();
        return Some(problem(Severity::Error, "disk_full", "disk".into(), text, REMEDY));
    }
    // A reserve of 0 is that of a node that has not looked yet.
    let low = store.reserve_bytes > 0 && store.free_bytes < store.reserve_bytes.saturating_add(store.reserve_bytes / 2);
    low.then(|| {
        let text = format!("{} MiB are free; below {} MiB samples will be refused", store.free_bytes >> 20, store.reserve_bytes >> 20);
        problem(Severity::Warning, "disk_low", "disk".into(), text, REMEDY)
    })
}

fn of_sink(sink: &Sink) -> Vec<Problem> {
    let about = || format!("sink {}", sink.name);
    let of_trouble = |trouble: &sinks::Merged| problem(Severity::Error, &trouble.code, about(), trouble.text.clone(), &trouble.remedy);
    let mut problems: Vec<Problem> = sink.troubles.iter().map(of_trouble).collect();
    // Budgets are held per shard: the fullest one overflows first.
    let fullest = sink.fullest_percent();
    if fullest >= 50 {
        let severity = if fullest >= 80 { Severity::Error } else { Severity::Warning };
        let text = format!(
            "{fullest} % of its budget is used{}",
            sink.seconds_left.map_or_else(String::new, |left| format!("; at this rate full in {left} s"))
        );
        problems.push(problem(
            severity,
            "budget",
            about(),
            text,
            "see to it that what it writes to takes more, or raise the sink's budget",
        ));
    }
    problems
}

fn of_dead(shards: &[ShardStats], sinks: &[Sink]) -> Option<Problem> {
    let kept: u64 = shards.iter().map(|shard| shard.dead).sum();
    if kept == 0 {
        return None;
    }
    let names: Vec<&str> = sinks.iter().filter(|sink| sink.dead > 0).map(|sink| sink.name.as_str()).collect();
    let text = format!("{kept} rows were refused for good and are kept as dead letters");
    let remedy = "look at them with `sluice sink dead NAME`, mend the cause, then `sluice sink replay NAME`";
    Some(problem(Severity::Warning, "dead_letters", format!("sink {}", names.join(", ")), text, remedy))
}

fn of_group(view: &GroupView, now: i64) -> Vec<Problem> {
    if tenant::is_no_group(&view.name) {
        return Vec::new(); // `of_unidentified` says it better
    }
    let about = || format!("group {}", view.name);
    let limit = SILENT_MS.max(4 * view.interval);
    let silent = |last_seen: i64| (limit..FORGOTTEN_MS).contains(&(now - last_seen));
    let gone: Vec<_> = view.replicas.iter().filter(|replica| silent(replica.last_seen)).collect();
    let alive = view.replicas.iter().any(|replica| now - replica.last_seen < limit);
    let ago = |last_seen: i64| (now - last_seen) / 1000;
    if !alive {
        let Some(last) = gone.iter().map(|replica| replica.last_seen).max() else { return Vec::new() };
        let text = format!("no replica has written for {} s: this group's metrics have a hole now", ago(last));
        let remedy = "look at these Prometheus servers, and at the network between them and here; what they still hold will be sent";
        return vec![problem(Severity::Error, "group_silent", about(), text, remedy)];
    }
    if doctor::renames(view) {
        return Vec::new(); // names that are gone for good: the hint says it
    }
    let of_replica = |replica: &&crate::node::view::ReplicaView| {
        let text = format!("replica {} has not written for {} s; its twin stands in", replica.name, ago(replica.last_seen));
        problem(Severity::Warning, "replica_silent", about(), text, "look at this Prometheus: nobody stands in if the other one dies too")
    };
    gone.iter().map(of_replica).collect()
}

fn of_withheld(view: &GroupView) -> Option<Problem> {
    let remedy = "look at both Prometheus servers, and pin the better one meanwhile: `sluice group pin GROUP REPLICA`; holes are filled all the same";
    let text = view.alarm.clone()?;
    Some(problem(Severity::Warning, "switches_withheld", format!("group {}", view.name), text, remedy))
}

fn of_unidentified(ingest: &Ingest) -> Option<Problem> {
    let missing: Vec<String> = ingest
        .unidentified
        .iter()
        .filter(|counted| counted.count > 0)
        .map(|counted| format!("{} x {}", counted.count, counted.reason))
        .collect();
    let remedy = "give each Prometheus external_labels with the group's and the replica's name (docs/senders.md)";
    let text = format!("series came that do not say whose they are, so they cannot be deduplicated: {}", missing.join(", "));
    (!missing.is_empty()).then(|| problem(Severity::Warning, "unidentified", "ingest".into(), text, remedy))
}

impl Sink {
    fn fullest_percent(&self) -> u64 {
        let used = |(pending, budget): (u64, u64)| pending.saturating_mul(100).checked_div(budget).unwrap_or(0);
        self.budgets().map(used).max().unwrap_or(0)
    }
}

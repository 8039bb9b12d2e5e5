//! Sets the probes going: which Prometheus there are to be looked at, by the settings and by who writes, which jobs and references, and what wakes a look;
//! where this node leads the control shard, proposes alerts and has them told, once a second. And shows all of it.
//!
//! Left out on purpose: how one looks and what nodes make of it (`probe`), what a hint does to a group (`dedup`, `node::evidence`), what holds (`alerts`), and
//! how it is told (`notify`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api;
use crate::app::alerts::Facts;
use crate::app::alerts::Memory;
use crate::app::alerts::SinkFacts;
use crate::app::alerts::holding;
use crate::app::cluster::Seen;
use crate::app::notify::Teller;
use crate::app::own_metrics;
use crate::clock;
use crate::config::groups::Groups;
use crate::config::jobs::Jobs;
use crate::config::notify::Notify;
use crate::config::probe::Probe;
use crate::config::remote_write::ClientTls;
use crate::ingest::Ingest;
use crate::model::ShardId;
use crate::node::Handle;
use crate::peer::link::Sight;
use crate::probe::court;
use crate::probe::court::Looked;
use crate::probe::jobs;
use crate::probe::jobs::Hands;
use crate::probe::jobs::Wanted;
use crate::probe::module::Modules;
use crate::probe::plan::Spent;
use crate::probe::plan::Standing;
use crate::probe::prometheus::Figures;
use crate::probe::schedule;
use crate::probe::targets::Ready;
use crate::probe::targets::Target;
use crate::probe::verdict::Ballot;
use crate::probe::watcher;
use crate::probe::watcher::JOB;
use crate::serve::ask::Place;
use crate::shard::alerts::Alert;
use crate::shard::command::Command;
use crate::shard::verdicts::TEXT;
use crate::shard::verdicts::Verdicts;

/// The group of what came of probes.
const GROUP: &str = "probes";
/// Between two looks at what alerts there are.
const ALARM: Duration = Duration::from_secs(1);
/// A node that has led for so long knows what does not hold any more.
const KNOWS: Duration = Duration::from_secs(15);
/// Changes of one entry.
const AN_ENTRY: usize = 200;

/// Jobs, what is done with alerts, and modules.
pub type Agreed = (Jobs, Told, Probe);

/// What the settings say of the alerts that sluice makes, and whether this tells them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Which there are, and the webhook.
    pub notify: Notify,
    /// They go by routes (`app::alerting`), which notes what was told of them.
    pub by_routes: bool,
}

/// Between two looks at who writes.
const LOOK: Duration = Duration::from_secs(5);
/// A sender that has been silent for longer is nobody's Prometheus any more, ms.
const SILENT_MS: i64 = 3_600_000;
/// Prometheus that are looked at: a thousand groups of two, with room.
const MOST: usize = 4_096;

/// Group, replica, and the address that it writes from.
type Writer = (String, String, IpAddr);

/// What runs.
pub struct Probes {
    /// What this node looks at.
    looked: Looked,
    node: Handle,
    seen: Option<Arc<Seen>>,
    /// What the webhook said last, where it did not take alerts.
    trouble: Mutex<Option<String>>,
}

/// What probes need of the rest of the program.
pub struct Parts<'a> {
    /// The shards.
    pub node: &'a Handle,
    /// Remote write: it takes what came of probes.
    pub ingest: &'a Arc<Ingest<Handle>>,
    /// Groups in force.
    pub groups: watch::Receiver<Groups>,
    /// Jobs, modules, and whom alerts are told to.
    pub probing: watch::Receiver<Agreed>,
    /// The other nodes; `None`: there are none.
    pub seen: Option<Arc<Seen>>,
    /// Where this node is, for whoever is told of alerts.
    pub sender: String,
}

impl Probes {
    /// Starts it all. An error: there is no thread for it.
    pub fn start(parts: Parts<'_>, stop: &watch::Receiver<bool>, tasks: &mut JoinSet<()>) -> Result<Arc<Probes>, String> {
        let Parts { node, ingest, groups, probing, seen, sender } = parts;
        let looked = Looked { jobs: Arc::default(), prometheus: Arc::default() };
        let probes = Arc::new(Probes { looked: looked.clone(), node: node.clone(), seen, trouble: Mutex::default() });
        let targets = watch::Sender::new(Vec::new());
        tasks.spawn(watcher::keep(Arc::clone(&looked.prometheus), node.clone(), targets.subscribe(), stop.clone()));
        tasks.spawn(find(node.clone(), Arc::clone(ingest), (groups, targets), stop.clone()));
        tasks.spawn(wake(Arc::clone(&probes), stop.clone()));
        let (wanted, references) = (watch::Sender::new(Arc::default()), watch::Sender::new(Vec::new()));
        tasks.spawn(jobs::find(Arc::clone(&looked.jobs), wanted.subscribe(), stop.clone()));
        let (living, taker) = (Arc::clone(&probes), Arc::clone(ingest));
        let hands = Hands {
            node: node.clone(),
            living: Arc::new(move || living.living()),
            deliver: Arc::new(move |packed| {
                let ingest = Arc::clone(&taker);
                Box::pin(async move { ingest.take_own(packed, GROUP).await })
            }),
            shared: runtime::Handle::current(),
        };
        let failed = |error| format!("the thread that looks at targets cannot be started: {error}");
        jobs::start(Arc::clone(&looked.jobs), hands, wanted.subscribe(), stop.clone()).map_err(failed)?;
        let cut_off: Arc<AtomicBool> = Arc::default();
        tasks.spawn(court::references(references.subscribe(), Arc::clone(&cut_off), stop.clone()));
        tasks.spawn(court::keep(looked, node.clone(), cut_off, stop.clone()));
        tasks.spawn(hand_out(probing.clone(), (wanted, references), stop.clone()));
        tasks.spawn(alarm(Arc::clone(&probes), probing, sender, stop.clone()));
        Ok(probes)
    }

    /// The nodes that share the work: this one, and members that answer it.
    fn living(&self) -> Vec<u64> {
        let own = self.node.own_id();
        let Some(seen) = &self.seen else { return vec![own] };
        let members = self.node.members();
        let links = seen.common();
        let answers = links.links().iter().filter(|link| matches!(link.sight(), Sight::Greeted { .. })).filter_map(|link| link.id());
        let mut living: Vec<u64> = answers.filter(|id| members.contains(id)).chain([own]).collect();
        living.sort_unstable();
        living
    }

    /// Names of nodes by id, and of those that do not answer.
    fn names(&self) -> (BTreeMap<u64, String>, Vec<String>) {
        let Some(seen) = &self.seen else { return ([(self.node.own_id(), "this node".to_owned())].into(), Vec::new()) };
        let (common, members) = (seen.common(), self.node.members());
        let names: BTreeMap<u64, String> = seen.roles().nodes.into_iter().map(|node| (node.id, node.name)).collect();
        let answers =
            |name: &str| common.links().iter().any(|link| link.member.name == name && matches!(link.sight(), Sight::Greeted { .. }));
        let others = names.iter().filter(|(id, _)| **id != common.id() && members.contains(id));
        let down = others.filter(|(_, name)| !answers(name)).map(|(_, name)| name.clone()).collect();
        (names, down)
    }

    /// What alerts are made of.
    fn facts<'a>(&self, verdicts: &'a Verdicts) -> Facts<'a> {
        let (names, nodes_down) = self.names();
        let mut remarks = BTreeMap::new();
        for (_, _, bytes) in self.node.notes().ballots() {
            remarks.extend(Ballot::read(&bytes).unwrap_or_default().remarks);
        }
        let mut sinks: BTreeMap<String, SinkFacts> = BTreeMap::new();
        for shard in self.node.shards() {
            for cursor in self.node.cursors(*shard).iter() {
                let sink =
                    sinks.entry(cursor.sink.clone()).or_insert_with(|| SinkFacts { name: cursor.sink.clone(), ..SinkFacts::default() });
                sink.lag_ms = sink.lag_ms.max(cursor.pending_ms);
                sink.pending_bytes += cursor.pending_bytes;
                sink.budget_bytes += cursor.budget_bytes;
                sink.paused |= cursor.paused;
            }
        }
        let down = verdicts.all().map(|(job, instance, _)| schedule::key(job, instance));
        let targets = self.looked.jobs.some(down.chain(remarks.keys().copied()));
        let groups = self.node.groups().into_iter().filter(|group| group.name != own_metrics::GROUP && group.name != GROUP);
        Facts {
            now: clock::wall_ms(),
            verdicts: Some(verdicts),
            names,
            targets,
            remarks,
            prometheus: self.looked.prometheus.all(),
            groups: groups.collect(),
            sinks: sinks.into_values().collect(),
            nodes_down,
        }
    }

    /// For people.
    pub fn shown(self: &Arc<Probes>) -> Arc<dyn Fn() -> api::probes::Probes + Send + Sync> {
        let probes = Arc::clone(self);
        Arc::new(move || {
            let prometheus = probes.looked.prometheus.all().into_iter().map(|((group, replica), seen)| shown(group, replica, seen));
            let (verdicts, (names, _), living) = (probes.node.verdicts(), probes.names(), probes.living());
            let own = probes.node.own_id();
            let target = |(target, standing): (Target, Option<Standing>)| {
                let ours = schedule::owner(target.key, &living) == own;
                shown_target((target, standing), ours, (&verdicts, &names))
            };
            api::probes::Probes {
                prometheus: prometheus.collect(),
                targets: probes.looked.jobs.all().into_iter().map(target).collect(),
                alerts: probes.node.alerts().all().map(|(_, alert)| shown_alert(alert)).collect(),
                ..api::probes::Probes::default()
            }
        })
    }

    /// What an operator should know.
    pub fn problems(&self) -> Vec<api::deps::Problem> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let problem = |why| api::deps::Problem {
            severity: api::deps::Severity::Warning,
            code: "webhook".to_owned(),
            about: "notify".to_owned(),
            text: format!("the webhook does not take alerts: {why}"),
            remedy: "look at its log, or write another notify.webhook.url; alerts wait meanwhile (`sluice probes`)".to_owned(),
        };
        trouble.map(problem).into_iter().collect()
    }

    /// These closed their last connection here: whoever can, looks at them now.
    pub fn doubt(&self, doubted: &[(String, String)]) {
        for (group, replica) in doubted {
            self.node.ask_for_a_look(schedule::key(JOB, &watcher::instance(group, replica)));
        }
    }
}

/// Hands the settings on to those who need parts of them.
async fn hand_out(
    mut probing: watch::Receiver<Agreed>,
    (wanted, references): (watch::Sender<Arc<Wanted>>, watch::Sender<Vec<String>>),
    mut stop: watch::Receiver<bool>,
) {
    let mut handed: Option<(Jobs, Probe)> = None;
    loop {
        let (read, _, probe) = probing.borrow_and_update().clone();
        references.send_if_modified(|present| std::mem::replace(present, read.references.clone()) != read.references);
        // A reload that changes nothing here changes nothing there.
        if handed.as_ref().is_none_or(|(jobs, modules)| (jobs, modules) != (&read, &probe)) {
            // Judged before they were taken: one that is wrong was made by another version.
            let ready = |job| Ready::new(job).inspect_err(|wrong| tracing::error!("a job is left out: {wrong}")).ok().map(Arc::new);
            let jobs = read.jobs.iter().filter_map(ready).collect();
            wanted.send_replace(Arc::new(Wanted { jobs, modules: Modules::new(&probe.modules, probe.strict) }));
            handed = Some((read, probe));
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            changed = probing.changed() => if changed.is_err() { return },
        }
    }
}

/// Where this node leads the control shard: proposes what alerts there are, and tells of them.
async fn alarm(probes: Arc<Probes>, probing: watch::Receiver<Agreed>, sender: String, mut stop: watch::Receiver<bool>) {
    let (mut memory, mut teller, mut leads) = (Memory::default(), Teller::default(), None);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(ALARM) => {}
        }
        if !probes.node.leads_control() {
            (memory, teller, leads) = (Memory::default(), Teller::default(), None);
            *probes.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
            continue;
        }
        let now = clock::now();
        let led = now.saturating_duration_since(*leads.get_or_insert(now));
        let Told { notify, by_routes } = probing.borrow().1.clone();
        let (verdicts, alerts) = (probes.node.verdicts(), probes.node.alerts());
        let holding = holding(&probes.facts(&verdicts), &notify);
        for changes in memory.changes(clock::wall_ms(), holding, &alerts, led >= KNOWS).chunks(AN_ENTRY) {
            // Not taken: it is found again.
            let _ = probes.node.propose(ShardId::CONTROL, Command::Alerts(changes.to_vec())).await;
        }
        if by_routes {
            // Whoever calls off what nobody is to hear of must not come before those who tell it.
            teller = Teller::default();
        } else {
            teller.tell(&probes.node, notify.webhook.as_ref(), &sender).await;
        }
        probes.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&teller.trouble());
    }
}

fn shown_target(
    (target, standing): (Target, Option<Standing>),
    ours: bool,
    (verdicts, names): (&Verdicts, &BTreeMap<u64, String>),
) -> api::probes::Target {
    let verdict = verdicts.of(&target.ready.job.name, &target.instance);
    let last = standing.and_then(|standing| standing.last);
    let look = last.as_ref().map(|(_, look)| look);
    let name = |id: &u64| names.get(id).cloned().unwrap_or_else(|| format!("{id:x}"));
    let cause = look.map(|look| look.cause.clone()).filter(|cause| !cause.is_empty());
    api::probes::Target {
        job: target.ready.job.name.clone(),
        instance: target.instance,
        ours,
        success: look.map(|look| look.success),
        cause: cause.or_else(|| verdict.map(|verdict| verdict.cause.clone())),
        took_ms: look.map(|look| u64::try_from(look.took.as_millis()).unwrap_or(u64::MAX)),
        looked: last.as_ref().map(|(at, _)| *at),
        phases: look.map(|look| look.spent.iter().map(shown_phase).collect()).unwrap_or_default(),
        verdict: if verdict.is_some() { "down" } else { "up" }.to_owned(),
        down_since: verdict.map(|verdict| verdict.since),
        down_from: verdict.map(|verdict| verdict.by.iter().map(name).collect()).unwrap_or_default(),
    }
}

fn shown_phase(spent: &Spent) -> api::probes::Phase {
    // To a hundredth: nobody reads more of it.
    let took_ms = (spent.took.as_secs_f64() * 100_000.0).round() / 100.0;
    api::probes::Phase { name: spent.phase.to_owned(), took_ms, done: spent.done }
}

fn shown_alert(alert: &Alert) -> api::probes::Alert {
    let mut labels = alert.said.labels.clone();
    labels.insert(0, ("alertname".to_owned(), alert.said.name.clone()));
    api::probes::Alert {
        name: alert.said.name.clone(),
        level: format!("P{}", alert.said.level),
        labels,
        summary: alert.said.annotations.iter().find(|(name, _)| name == "summary").map(|(_, text)| text.clone()).unwrap_or_default(),
        since: alert.said.since,
        ended: alert.ended,
        told: alert.told && alert.ended.is_none(),
    }
}

fn shown(group: String, replica: String, seen: watcher::Seen) -> api::probes::Prometheus {
    let figures = seen.figures;
    let figure = |pick: fn(&Figures) -> Option<f64>| figures.as_ref().and_then(pick);
    api::probes::Prometheus {
        group,
        replica,
        url: seen.url,
        state: seen.state.word().to_owned(),
        since: seen.since_ms,
        looked: seen.looked_ms,
        took_ms: u64::try_from(seen.took.as_millis()).unwrap_or(u64::MAX),
        replayed: seen.replay.map(|(done, _)| done),
        replay: seen.replay.map(|(_, all)| all),
        trouble: seen.trouble,
        behind_seconds: figure(|figures| figures.behind),
        shards: figure(|figures| figures.shards.map(|(shards, _)| shards)),
        shards_wanted: figure(|figures| figures.shards.map(|(_, wanted)| wanted)),
        pending: figure(|figures| figures.pending),
        failed_writes: figure(|figures| Some(figures.failed_writes)),
        version: figures.map(|figures| figures.version),
    }
}

/// Whatever other nodes want looked at.
async fn wake(probes: Arc<Probes>, mut stop: watch::Receiver<bool>) {
    loop {
        let looks = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            looks = probes.node.notes().looks() => looks,
        };
        for key in looks {
            if !probes.looked.prometheus.wake(key) {
                probes.looked.jobs.ask(key);
            }
        }
    }
}

/// Keeps the list of what is looked at.
async fn find(
    node: Handle,
    ingest: Arc<Ingest<Handle>>,
    (mut groups, targets): (watch::Receiver<Groups>, watch::Sender<Vec<watcher::Target>>),
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let read = groups.borrow_and_update().clone();
        let mut writers = Vec::new();
        if read.probe.senders.is_some() {
            writers = here(&ingest, clock::wall_ms());
            node.tell_of_senders(&written(&writers));
            // What this node saw itself counts; of several others any.
            writers.extend(node.notes().senders().iter().flat_map(|said| said_writers(said)));
        }
        let wanted = prometheus(&read, writers);
        targets.send_if_modified(|present| {
            let other = *present != wanted;
            *present = wanted;
            other
        });
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            changed = groups.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Who writes to this node.
fn here(ingest: &Ingest<Handle>, now_ms: i64) -> Vec<Writer> {
    let known = ingest.senders().all().into_iter().filter(|(group, replica, sender)| {
        !group.is_empty() && !replica.is_empty() && sender.agent.starts_with("Prometheus/") && now_ms - sender.last_ms < SILENT_MS
    });
    known.map(|(group, replica, sender)| (group, replica, sender.address)).collect()
}

fn written(writers: &[Writer]) -> Vec<u8> {
    let line = |(group, replica, address): &Writer| format!("{address}\t{group}\t{replica}\n");
    writers
        .iter()
        .filter(|(group, replica, _)| !group.contains(['\t', '\n']) && !replica.contains(['\t', '\n']))
        .map(line)
        .collect::<String>()
        .into()
}

fn said_writers(said: &[u8]) -> Vec<Writer> {
    let line = |line: &str| {
        let mut parts = line.splitn(3, '\t');
        let address = parts.next()?.parse().ok()?;
        let group = parts.next()?.to_owned();
        Some((group, parts.next()?.to_owned(), address))
    };
    String::from_utf8_lossy(said).lines().filter_map(line).collect()
}

/// The Prometheus to look at: what is written, and where nothing is and it is allowed, the senders.
fn prometheus(groups: &Groups, writers: Vec<Writer>) -> Vec<watcher::Target> {
    let mut places: BTreeMap<(String, String), Place> = BTreeMap::new();
    for special in &groups.overrides {
        for replica in &special.replicas {
            if let Some(place) = Place::new(&replica.url, &replica.tls) {
                places.insert((special.name.clone(), replica.name.clone()), place);
            }
        }
    }
    if let Some(port) = groups.probe.senders {
        for (group, replica, address) in writers {
            let url = format!("http://{}", std::net::SocketAddr::new(address, port));
            if let Some(place) = Place::new(&url, &ClientTls::default()) {
                places.entry((group, replica)).or_insert(place);
            }
        }
    }
    let target = |((group, replica), place)| watcher::Target {
        group,
        replica,
        place,
        interval: groups.probe.interval,
        timeout: groups.probe.timeout,
    };
    // One that no verdict can name is none.
    places.into_iter().map(target).filter(|target| target.instance().len() <= TEXT).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::groups::Override;
    use crate::config::groups::Replica;
    use crate::config::groups::Watched;

    #[test]
    fn what_is_written_counts_and_senders_are_looked_at_only_where_that_is_allowed() {
        let replica = Replica { name: "a".into(), url: "http://h:9091/p".into(), tls: ClientTls::default() };
        let special = Override { name: "g".into(), replicas: vec![replica], ..Override::default() };
        let mut groups = Groups { overrides: vec![special], ..Groups::default() };
        let writers = || {
            let writers: Vec<Writer> =
                vec![("g".into(), "a".into(), [10, 0, 0, 1].into()), ("g".into(), "b".into(), "fd00::1".parse().unwrap())];
            assert_eq!(said_writers(&written(&writers)), writers);
            writers
        };
        let urls = |groups: &Groups| -> Vec<String> { prometheus(groups, writers()).into_iter().map(|target| target.place.url).collect() };
        assert_eq!(urls(&groups), ["http://h:9091/p"]);
        groups.probe = Watched { senders: Some(9090), ..Watched::default() };
        assert_eq!(urls(&groups), ["http://h:9091/p", "http://[fd00::1]:9090"]);
    }
}

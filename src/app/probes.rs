//! Sets the probes going: which Prometheus there are to be looked at, by the settings and by who writes, and what wakes a look.
//!
//! Left out on purpose: how one looks (`probe`), and what becomes of what is seen (`dedup`, `node::evidence`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api;
use crate::clock;
use crate::config::groups::Groups;
use crate::config::remote_write::ClientTls;
use crate::ingest::Ingest;
use crate::node::Handle;
use crate::probe::ask::Place;
use crate::probe::prometheus::Figures;
use crate::probe::schedule;
use crate::probe::watcher;
use crate::probe::watcher::Board;
use crate::probe::watcher::JOB;
use crate::probe::watcher::Seen;
use crate::probe::watcher::Target;

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
    /// The Prometheus that this node looks at.
    pub board: Arc<Board>,
    node: Handle,
}

impl Probes {
    /// Starts it all.
    pub fn start(
        node: &Handle,
        ingest: &Arc<Ingest<Handle>>,
        groups: watch::Receiver<Groups>,
        (stop, tasks): (&watch::Receiver<bool>, &mut JoinSet<()>),
    ) -> Arc<Probes> {
        let probes = Arc::new(Probes { board: Arc::default(), node: node.clone() });
        let targets = watch::Sender::new(Vec::new());
        tasks.spawn(watcher::keep(Arc::clone(&probes.board), node.clone(), targets.subscribe(), stop.clone()));
        tasks.spawn(find(node.clone(), Arc::clone(ingest), (groups, targets), stop.clone()));
        tasks.spawn(wake(Arc::clone(&probes), stop.clone()));
        probes
    }

    /// For people.
    pub fn shown(self: &Arc<Probes>) -> Arc<dyn Fn() -> api::probes::Probes + Send + Sync> {
        let probes = Arc::clone(self);
        Arc::new(move || {
            let prometheus = probes.board.all().into_iter().map(|((group, replica), seen)| shown(group, replica, seen));
            api::probes::Probes { prometheus: prometheus.collect(), ..api::probes::Probes::default() }
        })
    }

    /// These closed their last connection here: whoever can, looks at them now.
    pub fn doubt(&self, doubted: &[(String, String)]) {
        for (group, replica) in doubted {
            self.node.ask_for_a_look(schedule::key(JOB, &watcher::instance(group, replica)));
        }
    }
}

fn shown(group: String, replica: String, seen: Seen) -> api::probes::Prometheus {
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
            probes.board.wake(key);
        }
    }
}

/// Keeps the list of what is looked at.
async fn find(
    node: Handle,
    ingest: Arc<Ingest<Handle>>,
    (mut groups, targets): (watch::Receiver<Groups>, watch::Sender<Vec<Target>>),
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
fn prometheus(groups: &Groups, writers: Vec<Writer>) -> Vec<Target> {
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
    let target =
        |((group, replica), place)| Target { group, replica, place, interval: groups.probe.interval, timeout: groups.probe.timeout };
    places.into_iter().map(target).take(MOST).collect()
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

//! A node and its sinks without disk or network, as `api` sees them.

use std::sync::Mutex;

use super::super::deps::*;
use super::*;
use crate::api::probes::Alert;
use crate::api::probes::Phase;
use crate::api::probes::Probes;
use crate::api::probes::Prometheus;
use crate::api::probes::Target;
use crate::api::settings;
use crate::api::settings::Refused;
use crate::api::settings::Wanted;
use crate::dedup::detect::doctor::Oddity;
use crate::model::ShardId;
use crate::node::ReadError;
use crate::node::offer::Applied;
use crate::node::offer::ProposeError;
use crate::node::view::*;
use crate::shard::command::Command;
use crate::shard::command::DeadLetter;
use crate::shard::control::Control;
use crate::shard::control::ControlEffects;
use crate::shard::entry;
use crate::shard::entry::Entry;
use crate::shard::pushed::Change;
use crate::shard::pushed::Groups;
use crate::shard::pushed::Key;
use crate::shard::pushed::Stored;
use crate::shard::settings::NewVersion;
use crate::shard::settings::Version;
use crate::shard::tokens::NewToken;
use crate::shard::tokens::Tokens;
use crate::wire::families;

pub const NOW: i64 = 1_790_000_000_000;

#[derive(Default)]
pub struct StandIn {
    pub proposed: Mutex<Vec<(u16, Command)>>,
    pub void: bool,
    pub pinned: bool,
    pub twin_silent_ms: i64,
    pub nothing_yet: bool,
    pub odd: bool,
}

impl StandIn {
    fn group(&self) -> GroupView {
        let replica = |name: &str, samples, ago| ReplicaView {
            name: name.into(),
            lag: 400,
            newest: NOW - ago - 400,
            samples,
            emitted: samples - 100,
            covered: 100,
            last_seen: NOW - ago,
            ..ReplicaView::default()
        };
        GroupView {
            name: "monitoring/k8s".into(),
            shard: 2,
            leader: Some("k8s-0".into()),
            pinned: self.pinned.then(|| "k8s-0".into()),
            replicas: vec![replica("k8s-0", 3000, 1000), replica("k8s-1", 1000, 2000 + self.twin_silent_ms)],
            since: NOW - 60_000,
            series: 100,
            interval: 15_000,
            counts: CountsView { received: 4000, emitted: 3800, covered: 190, waiting: 10, ..CountsView::default() },
            oddities: if self.odd { vec![Oddity::OneReplica { replica: "k8s-0".into() }] } else { Vec::new() },
            alarm: self.odd.then(|| "12 switches within the hour".into()),
            switches: vec![SwitchView {
                at: NOW - 60_000,
                from: "k8s-1".into(),
                to: "k8s-0".into(),
                reason: "silent".into(),
                evidence: "<b>nothing</b> for 31 s".into(),
                gap: 15_000,
                ..SwitchView::default()
            }],
        }
    }
}

impl Node for StandIn {
    fn shards(&self) -> Vec<ShardId> {
        vec![ShardId(1), ShardId(2)]
    }

    fn groups(&self) -> Vec<GroupView> {
        if self.nothing_yet { Vec::new() } else { vec![self.group()] }
    }

    fn stats(&self) -> NodeStats {
        let shard = |shard| ShardStats { shard, leads: true, term: 1, ..ShardStats::default() };
        NodeStats { shards: vec![shard(0), shard(1), shard(2)], ..NodeStats::default() }
    }

    fn propose(&self, shard: ShardId, command: Command) -> Later<'_, Result<Applied, ProposeError>> {
        self.proposed.lock().unwrap().push((shard.0, command));
        let result = if self.void { Err(ProposeError::Void("k8s-0 does not lead".into())) } else { Ok(Applied::default()) };
        Box::pin(async move { result })
    }

    fn tokens(&self) -> Arc<Tokens> {
        let mut control = Control::default();
        let new = |name: &str, expires_ms| NewToken {
            name: name.into(),
            hint: "wxyz".into(),
            by: "first".into(),
            expires_ms,
            ..NewToken::default()
        };
        for new in [new("k8s-0", None), new("people", Some(NOW + 60 * 86_400_000))] {
            let (mut entry, mut effects) = (Vec::new(), ControlEffects::default());
            entry::encode(NOW - 60_000, &Entry::Command(Command::CreateToken(new)), &mut entry);
            control.apply(control.applied + 1, &entry, &mut effects).unwrap();
        }
        control.tokens
    }

    fn pushed(&self) -> Arc<Groups> {
        let mut control = Control::default();
        let mut read = families::text::read(b"# HELP rows_total So many\n# TYPE rows_total counter\nrows_total 7\n").unwrap();
        let group = Key { tenant: String::new(), labels: vec![("job".into(), "backup".into())] };
        read.families.iter_mut().for_each(|family| family.label(&group.labels));
        let families = read.families.iter().map(|family| (family.name.clone(), Stored::new(family))).collect();
        let (mut entry, mut effects) = (Vec::new(), ControlEffects::default());
        entry::encode(NOW, &Entry::Command(Command::Push(Change::Push { group, replace: true, families })), &mut entry);
        control.apply(control.applied + 1, &entry, &mut effects).unwrap();
        Arc::clone(control.pushed.groups())
    }

    fn dead(&self, shard: ShardId, sink: &str, after: u64, limit: usize) -> Result<Vec<(u64, DeadLetter)>, ReadError> {
        let letter = |number| {
            (
                number,
                DeadLetter {
                    sink: sink.into(),
                    emission: 9,
                    item: 3,
                    reason: "too large".into(),
                    payload: b"{\"ts\":1}".to_vec(),
                    tenant: String::new(),
                },
            )
        };
        Ok(if shard.0 == 1 { (after.saturating_add(1)..=5).map(letter).take(limit).collect() } else { Vec::new() })
    }
}

pub struct StandInSinks;

struct ThreeRows(u8);

impl Rows for ThreeRows {
    fn next(&mut self) -> Later<'_, Option<Bytes>> {
        self.0 += 1;
        let row = (self.0 <= 3).then(|| Bytes::from(format!("{{\"v\":{}}}", self.0)));
        Box::pin(async move { row })
    }
}

impl Sinks for StandInSinks {
    fn list(&self) -> Vec<Sink> {
        let trouble = |shard| {
            let trouble =
                Trouble { code: "unreachable".into(), text: "no broker answers".into(), remedy: "start one".into(), since: NOW - shard };
            let note = Trouble { code: "slow".into(), ..trouble.clone() };
            (Some(trouble), vec![note])
        };
        let shard = |number: u16| {
            let (trouble, notes) = trouble(i64::from(number));
            let phase = if number == 2 { "running" } else { "troubled" };
            SinkShard {
                shard: number,
                phase: phase.into(),
                delivered: 10,
                pending: 5,
                pending_bytes: 60 * u64::from(number),
                budget_bytes: 200,
                lag_ms: 1000 * i64::from(number),
                seconds_left: Some(100 - u64::from(number)),
                trouble: trouble.filter(|_| number != 2),
                notes,
                ..SinkShard::default()
            }
        };
        vec![Sink { name: "platform".into(), kind: "kafka".into(), shards: vec![shard(1), shard(2), shard(3)], ..Sink::default() }]
    }

    fn tap(&self, sink: &str) -> Option<Box<dyn Rows>> {
        (sink == "platform").then(|| Box::new(ThreeRows(0)) as Box<dyn Rows>)
    }

    fn replay<'a>(&'a self, _sink: &'a str, letters: Letters) -> Later<'a, Result<Replayed, Refusal>> {
        let letters = if letters == Letters::All { 5 } else { 1 };
        let unsent = Unsent { number: 7, reason: "kafka did not take it: MessageSizeTooLarge".into() };
        let shard = ReplayedShard { shard: 1, replayed: letters, failed: 1, letters: vec![unsent], problem: None };
        Box::pin(async move { Ok(Replayed { shards: vec![shard], more: false }) })
    }

    fn test<'a>(&'a self, sink: &'a str) -> Later<'a, Result<Tried, Refusal>> {
        let tried = Tried { delivered: true, millis: 12, series: "sluice_sink_test{sink=\"platform\"}".into(), problem: None };
        let known = sink == "platform";
        Box::pin(async move { if known { Ok(tried) } else { Err(Refusal::Unknown) } })
    }

    fn rewind<'a>(&'a self, _sink: &'a str, to: i64) -> Later<'a, Result<Vec<Rewound>, Refusal>> {
        Box::pin(async move { Ok(vec![Rewound { shard: 1, samples: 7, from: Some(to), short: false }]) })
    }

    fn explain(&self, sample: &str, _: Option<&str>) -> Result<Vec<Explained>, String> {
        match sample {
            "up" => Ok(vec![Explained { sink: "platform".into(), steps: vec![Relabelled::default()], ..Explained::default() }]),
            other => Err(format!("{other} is no sample")),
        }
    }

    fn pause<'a>(&'a self, _sink: &'a str, paused: bool) -> Later<'a, Result<(), Refusal>> {
        let refused = Refusal::Conflict { text: "it is stopped".into(), remedy: "start it".into() };
        Box::pin(async move { if paused { Ok(()) } else { Err(refused) } })
    }
}

struct NoFlow;

impl Flow for NoFlow {
    fn next(&mut self) -> Later<'_, Option<Passing>> {
        Box::pin(std::future::ready(None))
    }
}

pub struct StandInDev;

impl DevControls for StandInDev {
    fn list(&self) -> Vec<Sender> {
        let (name, group, replica) = ("demo/a".to_owned(), "demo".to_owned(), "a".to_owned());
        vec![Sender { name, group, replica, running: true, samples_per_second: 100 }]
    }

    fn set<'a>(&'a self, name: &'a str, _running: bool) -> Later<'a, Result<(), Refusal>> {
        let known = name == "demo/a";
        Box::pin(async move { if known { Ok(()) } else { Err(Refusal::Unknown) } })
    }
}

/// Knows one module, and one host.
struct StandInProber;

impl crate::api::probe::Prober for StandInProber {
    fn probe(&self, asked: crate::api::probe::Asked) -> Later<'_, Result<crate::api::probe::Text, crate::api::probe::Refused>> {
        use crate::api::probe::Refused;
        Box::pin(std::future::ready(match (asked.module.as_str(), asked.hostname.as_deref()) {
            ("http_2xx", None) => Ok(("text/plain; version=0.0.4; charset=utf-8", format!("probe_success 1 # {}\n", asked.target))),
            ("http_2xx", Some(_)) => Err(Refused::OtherHost("a.example".into())),
            ("off", _) => Err(Refused::Off),
            _ => Err(Refused::NoModule(vec!["http_2xx".into()])),
        }))
    }
}

pub fn deps(node: Arc<StandIn>) -> Deps {
    Deps {
        push: Arc::new(|| Pushing { enabled: true, ..Pushing::default() }),
        probe: Arc::new(StandInProber),
        backup: Arc::new(|wanted| {
            let name = wanted.name;
            let made = match name.as_str() {
                "taken" => Err(Refusal::Conflict { text: "it is there".into(), remedy: "take another name".into() }),
                _ => Ok(crate::api::backup::Made {
                    path: format!("/var/lib/sluice/backups/{name}").into(),
                    bytes: 180_224_000,
                    removed: wanted.keep.map(|keep| format!("all but {keep}")).into_iter().collect(),
                }),
            };
            Box::pin(std::future::ready(made))
        }),
        settings: Some(Arc::new(StandInSettings::default())),
        node,
        sinks: Arc::new(StandInSinks),
        alerting: Arc::new(|| Err(crate::api::alerting::Off::NoSection)),
        alert_counts: crate::api::metrics::Metrics::default(),
        ingest: Arc::new(|| Ingest {
            refused: vec![Counted { reason: "future".into(), count: 1 }],
            unable: vec![Counted { reason: "disk_full".into(), count: 1 }],
            unidentified: vec![Counted { reason: "no_labels".into(), count: 7 }],
            ..Ingest::default()
        }),
        senders: Arc::new(|now| {
            let told = LastRefusal { at: now - 60_000, status: 503, text: "not taken now, send it again: the node is stopping".into() };
            let (group, replica, address) = ("monitoring/k8s".into(), "k8s-0".into(), "10.0.0.7".into());
            let (protocol, missing) = (Some("2.0".into()), None);
            vec![RemoteSender { group, replica, address, protocol, missing, last_refusal: Some(told), ..RemoteSender::default() }]
        }),
        probes: Arc::new(|| {
            let one = |replica: &str, state: &str| Prometheus {
                group: "g".into(),
                replica: replica.into(),
                state: state.into(),
                ..Prometheus::default()
            };
            let prometheus = vec![one("a", "up"), one("b", "down")];
            let phases = vec![Phase::default()];
            let targets = vec![Target { job: "web".into(), instance: "h:80".into(), verdict: "up".into(), phases, ..Target::default() }];
            let alerts = vec![Alert { name: "PrometheusDown".into(), ..Alert::default() }];
            Probes { prometheus, targets, alerts, ..Probes::default() }
        }),
        census: Arc::new(|group| {
            let labels = [("__name__", "up"), ("job", "node")].map(|(name, value)| (name.to_owned(), value.to_owned()));
            let series = vec![SampledSeries { hash: 7, labels: labels.into(), first: NOW - 60_000, fresh: true }];
            vec![Sampled { group: group.unwrap_or("monitoring/k8s").to_owned(), since: NOW - 7_200_000, below: u64::MAX, series }]
        }),
        flow: Arc::new(|_| Box::new(NoFlow)),
        metrics: Arc::new(|| "# EOF\n".into()),
        reload: Arc::new(|| Box::pin(async { Err(vec!["sinks[0].kafka.topic: missing".to_owned()]) })),
        file: None,
        disk: Arc::new(|| "1 GiB free\n".into()),
        not_ready: Arc::new(|| vec!["shard 3 has no leader".into()]),
        problems: Arc::new(Vec::new),
        public_certificate_expires: Arc::new(|| Some(NOW + 86_400_000 * 60)),
        cluster: None,
        dev: Some(Arc::new(StandInDev)),
        pages: Arc::new(|path, _| (path == "/").then(|| serve::answer(StatusCode::OK, "text/html", "page"))),
        stopping: Box::leak(Box::new(tokio::sync::watch::channel(false))).1.clone(), // its sender lives on
        version: "0.1.0",
        name: "sluice".into(),
        listen: "127.0.0.1:9201".parse().unwrap(),
        started_ms: NOW - 3_600_000,
    }
}

/// Settings that are only kept.
pub struct StandInSettings(Mutex<shard::settings::Settings>);

impl Default for StandInSettings {
    fn default() -> StandInSettings {
        let mut settings = shard::settings::Settings::default();
        for (number, text) in [(1, "sinks:\n  - name: keeps\n"), (2, "sinks:\n  - name: keeps\n    sasl.password: x\n")] {
            settings.change(NewVersion { number, text: text.into(), by: "alice".into() }, NOW).unwrap();
        }
        StandInSettings(Mutex::new(settings))
    }
}

impl settings::Settings for StandInSettings {
    fn version(&self, number: Option<u64>) -> Option<Version> {
        let kept = self.0.lock().unwrap();
        number.map_or(Some(kept.current.clone()), |number| kept.version(number).cloned())
    }

    fn earlier(&self) -> Vec<Version> {
        self.0.lock().unwrap().earlier.clone()
    }

    fn file(&self) -> Result<Option<String>, Vec<String>> {
        Ok(Some("sinks:\n  - name: keeps\n".into()))
    }

    fn apply<'a>(&'a self, wanted: Wanted, by: &'a str) -> Later<'a, Result<String, Refused>> {
        let mut kept = self.0.lock().unwrap();
        let applied = if wanted.text.contains("wrong") {
            Err(Refused::Wrong(vec!["line 1: it is wrong".into()]))
        } else if kept.current.text.contains("keeps") && !wanted.text.contains("keeps") && wanted.discard.is_empty() {
            Err(Refused::Undelivered(vec![("keeps".into(), 4096)]))
        } else {
            let number = wanted.base.map_or(kept.current.number, |base| base) + 1;
            let new = NewVersion { number, text: wanted.text, by: by.into() };
            kept.change(new, 1_000).map(|()| "sink added".into()).map_err(Refused::Moved)
        };
        Box::pin(std::future::ready(applied))
    }
}

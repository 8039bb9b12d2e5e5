//! Looks at the targets of jobs when their time has come, and hands on what came of it as samples.
//!
//! One task keeps the time; each look is a task of its own, bounded in number and each over within its timeout, so a target that hangs delays nobody. What a
//! look says is written at the moment that was planned for it. Samples wait in a bounded queue while nobody takes them. Left out on purpose: which node looks
//! (`plan`), what a look is (`run`), which series are there no more (`written`), and where samples go (`app` says).

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::task;
use tokio::task::JoinSet;

use crate::clock;
use crate::node::Handle;
use crate::probe::discovery::Discovery;
use crate::probe::module::Modules;
use crate::probe::outcome::Label;
use crate::probe::outcome::Metric;
use crate::probe::outcome::Outcome;
use crate::probe::plan::Look;
use crate::probe::plan::Plan;
use crate::probe::plan::Spent;
use crate::probe::plan::Standing;
use crate::probe::plan::Start;
use crate::probe::run;
use crate::probe::targets;
use crate::probe::targets::Left;
use crate::probe::targets::Ready;
use crate::probe::targets::Target;
use crate::probe::written::End;
use crate::probe::written::Written;
use crate::wire::encode::Encoder;
use crate::wire::encode::NewSeries;
use crate::wire::encode::Sample;
use crate::wire::pack;
use crate::wire::remote_write::Protocol;

/// Looks at the same time: 10,000 targets every 10 s that all take 2 s.
const MOST: usize = 2_000;
/// The least and the most that is waited between two looks at the clock.
const PAUSE: (i64, i64) = (1, 200);
/// Between two looks for new lists of targets.
const FIND: Duration = Duration::from_secs(1);
/// Samples of a request, and how long the first one waits for more.
const A_REQUEST: usize = 5_000;
const GATHER: Duration = Duration::from_millis(250);
/// Requests that wait while samples are not taken, all but the last full: a quarter of an hour of a thousand targets with twenty samples every 15 s.
const WAITING: usize = 256;
/// Between two tries then.
const AGAIN: Duration = Duration::from_secs(1);

/// What is to be looked at, and how.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The jobs whose rules mean something.
    pub jobs: Vec<Arc<Ready>>,
    /// All modules.
    pub modules: Modules,
}

/// Takes packed samples; an error: not now.
pub type Deliver = Arc<dyn Fn(Bytes) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// The nodes that live, this one among them.
pub type Living = Arc<dyn Fn() -> Vec<u64> + Send + Sync>;

/// What jobs need of the rest of the program.
#[derive(Clone)]
pub struct Hands {
    /// The shards.
    pub node: Handle,
    /// Who shares the work.
    pub living: Living,
    /// Where samples go.
    pub deliver: Deliver,
}

/// All targets and how they stand.
#[derive(Default)]
pub struct Board {
    plan: Mutex<Plan>,
    /// There is something to begin beside the schedule.
    soon: Notify,
}

impl Board {
    /// The plan; nothing waits while it is held.
    pub fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another node wants this looked at. `false`: it is none of ours.
    pub fn ask(&self, key: u64) -> bool {
        let ours = self.plan().asked(key, clock::wall_ms());
        if ours {
            self.soon.notify_one();
        }
        ours
    }

    /// Copies of these targets, as far as they are ours, by key.
    pub fn some(&self, keys: impl Iterator<Item = u64>) -> BTreeMap<u64, Target> {
        let plan = self.plan();
        keys.filter_map(|key| Some((key, plan.target(key)?.clone()))).collect()
    }

    /// Copies of all targets.
    pub fn all(&self) -> Vec<(Target, Option<Standing>)> {
        self.plan().all().map(|(target, standing)| (target.clone(), standing.cloned())).collect()
    }
}

/// Keeps the list of targets, until `stop`.
pub async fn find(board: Arc<Board>, mut wanted: watch::Receiver<Arc<Wanted>>, mut stop: watch::Receiver<bool>) {
    let (mut discovery, mut left) = (Discovery::default(), Left::default());
    let mut replace = |discovery: &Discovery| {
        let found = discovery.found();
        let (all, now_left) = targets::all(found.iter().map(|(ready, groups)| (ready, groups.as_slice())));
        if std::mem::replace(&mut left, now_left) != now_left && now_left != Left::default() {
            tracing::warn!(too_many = now_left.many, too_long = now_left.long, "targets of probe jobs are left out");
        }
        board.plan().replace(all, clock::wall_ms());
    };
    wanted.mark_changed();
    loop {
        if wanted.has_changed().unwrap_or(false) {
            discovery = discovery.replaced(wanted.borrow_and_update().jobs.clone());
            // What is written need not wait for what is still to be found.
            replace(&discovery);
        }
        let read = async {
            discovery.refresh(clock::now(), &mut replace).await;
            tokio::time::sleep(FIND).await;
        };
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            changed = wanted.changed() => match changed {
                Ok(()) => wanted.mark_changed(),
                Err(_) => return,
            },
            () = read => {}
        }
    }
}

/// Looks, until `stop`.
pub async fn keep(board: Arc<Board>, hands: Hands, wanted: watch::Receiver<Arc<Wanted>>, mut stop: watch::Receiver<bool>) {
    let mut looks = Looks::default();
    let mut out = Out::new(Arc::clone(&hands.deliver));
    let mut lists = 0;
    loop {
        let now = clock::wall_ms();
        ended(&board, &hands, &mut out, (&mut lists, now));
        begin(&board, &hands, &wanted.borrow().modules, (&mut looks, now));
        let next = board.plan().next().map_or(PAUSE.1, |next| next - now);
        let wait = Duration::from_millis(next.clamp(PAUSE.0, PAUSE.1).unsigned_abs());
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            done = looks.over() => for (start, ended) in done {
                match ended {
                    Some(outcome) => over(&board, &hands, &mut out, (start, outcome)),
                    None => board.plan().broke_off(start.key),
                }
            },
            () = board.soon.notified() => {}
            () = out.sent() => {}
            () = tokio::time::sleep(wait) => {}
        }
        out.send(clock::now());
    }
}

/// Looks that are under way.
#[derive(Default)]
struct Looks {
    tasks: JoinSet<Option<Outcome>>,
    starts: HashMap<task::Id, Start>,
}

impl Looks {
    fn begin(&mut self, start: Start, look: impl Future<Output = Option<Outcome>> + Send + 'static) {
        let id = self.tasks.spawn(look).id();
        self.starts.insert(id, start);
    }

    /// Waits for the next that is over, and takes all that are; for ever where none is under way. A start without anything broke off.
    async fn over(&mut self) -> Vec<(Start, Option<Option<Outcome>>)> {
        let Some(first) = self.tasks.join_next_with_id().await else { return std::future::pending().await };
        let more = std::iter::from_fn(|| self.tasks.try_join_next_with_id());
        let mut over = Vec::new();
        for ended in std::iter::once(first).chain(more) {
            let (id, outcome) = match ended {
                Ok((id, outcome)) => (id, Some(outcome)),
                Err(error) => {
                    tracing::error!("a look broke off: {error}");
                    (error.id(), None)
                }
            };
            over.extend(self.starts.remove(&id).map(|start| (start, outcome)));
        }
        over
    }
}

/// Ends what is no target any more, if there is another list of them than before.
fn ended(board: &Board, hands: &Hands, out: &mut Out, (lists, now): (&mut u64, i64)) {
    let plan = board.plan();
    if std::mem::replace(lists, plan.lists()) != plan.lists() {
        out.gone(&plan, now, (hands.node.own_id(), &(hands.living)()));
    }
}

/// Begins what is due.
fn begin(board: &Board, hands: &Hands, modules: &Modules, (looks, now): (&mut Looks, i64)) {
    let (own, living, verdicts) = (hands.node.own_id(), (hands.living)(), hands.node.verdicts());
    let is_down = |target: &Target| verdicts.of(&target.ready.job.name, &target.instance).is_some();
    let mut plan = board.plan();
    let starts = plan.start(now, (own, &living), MOST.saturating_sub(looks.starts.len()), &is_down);
    for start in starts {
        let Some(target) = plan.target(start.key) else { continue };
        let (address, job) = (target.address.clone(), Arc::clone(&target.ready));
        let module = modules.get(&job.job.module);
        looks.begin(start, async move {
            let module = module?;
            let ask = run::Ask::new(&address, &module, module.timeout(job.job.timeout));
            Some(Box::pin(run::probe(&ask)).await)
        });
    }
}

/// A look is over.
fn over(board: &Board, hands: &Hands, out: &mut Out, (start, outcome): (Start, Option<Outcome>)) {
    let mut plan = board.plan();
    let Some(target) = plan.target(start.key).cloned() else { return };
    let look = outcome.as_ref().map_or_else(|| Look { cause: "no_module".to_owned(), ..Look::default() }, looked);
    if start.writes {
        let down = hands.node.verdicts().of(&target.ready.job.name, &target.instance).is_some();
        let verdict = Metric::plain("sluice_probe_verdict", "", f64::from(u8::from(down)));
        match &outcome {
            Some(outcome) => out.push(&target, start.slot, &outcome.metrics.iter().chain([&verdict]).collect::<Vec<_>>()),
            None => out.push(&target, start.slot, &[&Metric::plain("probe_success", "", 0.0), &verdict]),
        }
    }
    let after = plan.done(&start, look, clock::wall_ms());
    drop(plan);
    if after.ask {
        hands.node.ask_others_for_a_look(start.key);
    }
}

fn looked(outcome: &Outcome) -> Look {
    Look {
        success: outcome.success,
        cause: outcome.failure.as_ref().map_or_else(String::new, |failure| failure.cause.word().to_owned()),
        took: outcome.duration,
        certificate_ends_ms: outcome.certificates.iter().map(|certificate| certificate.ends_ms).min(),
        spent: outcome.phases.iter().map(|phase| Spent { phase: phase.name, took: phase.took, done: phase.done }).collect(),
    }
}

/// Samples on their way.
struct Out {
    deliver: Deliver,
    encoder: Encoder,
    samples: usize,
    since: Option<Instant>,
    waiting: VecDeque<Bytes>,
    /// One request at a time, which is not among those that wait; it comes back where it was not taken.
    sending: JoinSet<Result<(), (Bytes, String)>>,
    dropped: u64,
    written: Written,
}

impl Out {
    fn new(deliver: Deliver) -> Out {
        let (encoder, written) = (Encoder::new(Protocol::V2), Written::default());
        Out { deliver, encoder, samples: 0, since: None, waiting: VecDeque::new(), sending: JoinSet::new(), dropped: 0, written }
    }

    /// Samples of one look, and the end of series that it does not show any more.
    fn push(&mut self, target: &Target, slot: i64, metrics: &[&Metric]) {
        for metric in metrics {
            self.sample(&target.labels, (metric.name, &metric.labels), Sample::new(slot, metric.value));
        }
        if let Some(end) = self.written.wrote(target, slot, metrics) {
            self.end(&end);
        }
        self.turn();
    }

    /// There are other targets than before: the series of those that are gone end.
    fn gone(&mut self, plan: &Plan, now: i64, nodes: (u64, &[u64])) {
        for end in self.written.gone(plan, now, nodes) {
            self.end(&end);
            self.turn();
        }
    }

    fn end(&mut self, end: &End) {
        for series in &end.series {
            self.sample(&end.labels, (series.name, &series.labels), Sample::stale(end.at));
        }
    }

    fn sample(&mut self, own: &[(String, String)], (name, labels): (&str, &[Label]), sample: Sample) {
        // In order, as remote write wants them; a target's own labels win.
        let mut all: BTreeMap<&str, &str> =
            labels.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (&**name, &**value)).collect();
        all.extend(own.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (&**name, &**value)));
        all.insert("__name__", name);
        let labels: Vec<(&str, &str)> = all.into_iter().collect();
        self.encoder.push(&NewSeries { labels: &labels, samples: &[sample], ..NewSeries::default() });
        self.samples += 1;
    }

    /// What is full goes.
    fn turn(&mut self) {
        self.since.get_or_insert_with(clock::now);
        if self.samples >= A_REQUEST {
            self.close();
        }
    }

    fn close(&mut self) {
        let (mut raw, mut packed) = (Vec::new(), Vec::new());
        std::mem::replace(&mut self.encoder, Encoder::new(Protocol::V2)).finish(&mut raw);
        pack::pack_snappy(&raw, &mut packed);
        (self.samples, self.since) = (0, None);
        if self.waiting.len() >= WAITING {
            self.waiting.pop_front();
            self.drop_one();
        }
        self.waiting.push_back(packed.into());
    }

    fn drop_one(&mut self) {
        self.dropped += 1;
        tracing::warn!(dropped = self.dropped, "what came of probes is not taken: the oldest is dropped");
    }

    /// Sends what waits, if nothing is on its way.
    fn send(&mut self, now: Instant) {
        // While others wait it can as well become full.
        if self.waiting.is_empty() && self.since.is_some_and(|since| now.saturating_duration_since(since) >= GATHER) {
            self.close();
        }
        if !self.sending.is_empty() {
            return;
        }
        let Some(first) = self.waiting.pop_front() else { return };
        let deliver = Arc::clone(&self.deliver);
        self.sending.spawn(async move {
            let Err(text) = deliver(first.clone()).await else { return Ok(()) };
            tokio::time::sleep(AGAIN).await;
            Err((first, text))
        });
    }

    /// Waits for what is on its way; for ever where nothing is.
    async fn sent(&mut self) {
        if self.sending.is_empty() {
            return std::future::pending().await;
        }
        if let Some(Ok(Err((packed, text)))) = self.sending.join_next().await {
            tracing::debug!("what came of probes was not taken, it is tried again: {text}");
            if self.waiting.len() < WAITING {
                self.waiting.push_front(packed);
            } else {
                // It is the oldest.
                self.drop_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::model::Kind;
    use crate::wire::pack::Bounds;
    use crate::wire::pack::Packing;
    use crate::wire::remote_write::Limits;
    use crate::wire::remote_write::Walker;
    use std::borrow::Cow;

    fn target() -> Target {
        let text = "listen: 127.0.0.1:1\ndata_dir: /x\nsinks: []\nprobe:\n  jobs:\n    - { name: web, targets: [h], labels: { phase: mine, empty: '' } }\n";
        let config = Config::parse(text).unwrap();
        let ready = Arc::new(Ready::new(&config.jobs.jobs[0]).unwrap());
        targets::all([(&ready, &[][..])]).0.into_values().next().unwrap()
    }

    /// Some labels, time and kind of each series' sample.
    fn seen(packed: &[u8]) -> Vec<([Option<String>; 5], i64, Kind)> {
        let (mut raw, mut seen) = (Vec::new(), Vec::new());
        pack::unpack(Packing::Snappy, packed, Bounds::default(), &mut raw).unwrap();
        let walked = Walker::new(0).walk(Protocol::V2, &raw, &Limits::default(), &mut |series| {
            let labels = ["__name__", "instance", "job", "phase", "empty"].map(|name| series.label(name).map(str::to_owned));
            seen.push((labels, series.points[0].time, series.points[0].kind));
        });
        assert!(walked.is_ok());
        seen
    }

    #[tokio::test]
    async fn samples_carry_the_targets_labels_and_wait_while_they_are_not_taken() {
        let target = target();
        let taken: Arc<Mutex<Vec<Bytes>>> = Arc::default();
        let (into, mut first) = (Arc::clone(&taken), true);
        let refuse_once = Arc::new(Mutex::new(move || std::mem::replace(&mut first, false)));
        let mut out = Out::new(Arc::new(move |packed| {
            let refused = (refuse_once.lock().unwrap())();
            into.lock().unwrap().push(packed);
            Box::pin(async move { if refused { Err("not now".to_owned()) } else { Ok(()) } })
        }));
        let label = ("phase", Cow::Borrowed("theirs"));
        out.push(&target, 7_000, &[&Metric::with("probe_duration_seconds", "", label, 0.5)]);
        out.send(clock::now() + GATHER);
        out.sent().await;
        assert_eq!(out.waiting.len(), 1, "it stays until it is taken");
        out.send(clock::now());
        out.sent().await;
        assert_eq!((out.waiting.len(), taken.lock().unwrap().len()), (0, 2));
        let some = |text: &str| Some(text.to_owned());
        let labels = [some("probe_duration_seconds"), some("h"), some("web"), some("mine"), None];
        assert_eq!(seen(&taken.lock().unwrap()[1]), [(labels, 7_000, Kind::Float)]);
    }

    #[tokio::test]
    async fn a_target_that_is_gone_ends_with_stale_markers() {
        let mut out = Out::new(Arc::new(|_| Box::pin(async { Ok(()) })));
        let target = target();
        let info = |cause: &'static str| Metric::with("sluice_probe_failure_info", "", ("phase", cause.into()), 1.0);
        out.push(&target, 7_000, &[&Metric::plain("probe_success", "", 0.0), &info("tls")]);
        out.push(&target, 8_000, &[&Metric::plain("probe_success", "", 1.0)]);
        out.gone(&Plan::default(), 9_000, (0, &[0]));
        out.gone(&Plan::default(), 9_500, (0, &[0]));
        out.close();
        let seen: Vec<_> = seen(&out.waiting[0]).into_iter().map(|([name, ..], time, kind)| (name.unwrap(), time, kind)).collect();
        let of = |name: &str, time, kind| (name.to_owned(), time, kind);
        assert_eq!(
            seen,
            [
                of("probe_success", 7_000, Kind::Float),
                of("sluice_probe_failure_info", 7_000, Kind::Float),
                of("probe_success", 8_000, Kind::Float),
                of("sluice_probe_failure_info", 8_000, Kind::Stale),
                of("probe_success", 9_000, Kind::Stale)
            ]
        );
    }

    #[tokio::test]
    async fn with_a_full_queue_the_oldest_is_dropped_and_what_is_under_way_is_no_reason_to_drop_another() {
        let taken: Arc<Mutex<Vec<Bytes>>> = Arc::default();
        let (into, refused) = (Arc::clone(&taken), Arc::new(Mutex::new(true)));
        let refuses = Arc::clone(&refused);
        let mut out = Out::new(Arc::new(move |packed| {
            let refused = *refuses.lock().unwrap();
            if !refused {
                into.lock().unwrap().push(packed);
            }
            Box::pin(async move { if refused { Err("not now".to_owned()) } else { Ok(()) } })
        }));
        let request = |number: usize| Bytes::from(number.to_string());
        out.waiting = (0..WAITING).map(request).collect();
        out.send(clock::now());
        // Under way is the first: two more have room for one.
        out.close();
        out.close();
        assert_eq!((out.waiting.len(), out.dropped, &out.waiting[0]), (WAITING, 1, &request(2)));
        out.sent().await;
        assert_eq!((out.waiting.len(), out.dropped, &out.waiting[0]), (WAITING, 2, &request(2)), "the oldest came back, and has no room");
        *refused.lock().unwrap() = false;
        for _ in 0..3 {
            out.send(clock::now());
            out.sent().await;
        }
        assert_eq!(*taken.lock().unwrap(), [2, 3, 4].map(request), "each was sent that went");
        // While others wait, what comes gathers to a full request.
        out.since = Some(clock::now());
        let waiting = out.waiting.len();
        out.send(clock::now() + GATHER);
        assert_eq!(out.waiting.len(), waiting - 1);
    }

    #[tokio::test]
    async fn a_look_that_breaks_off_is_known() {
        let mut looks = Looks::default();
        let start = Start { key: 7, slot: 1, writes: true };
        looks.begin(start.clone(), async { panic!("as a test wants it") });
        let over = looks.over().await;
        assert!(matches!(&over[..], [(broken, None)] if *broken == start), "{over:?}");
        assert!(looks.starts.is_empty());
    }
}

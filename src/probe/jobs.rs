//! Looks at the targets of jobs when their time has come, and hands on what came of it as samples.
//!
//! One task keeps the time; each look is a task of its own, bounded in number and each over within its timeout, so a target that hangs delays nobody. All of them
//! share one thread, as long as that is enough. What a look says is written at the moment that was planned for it. Left out on purpose: which node looks
//! (`plan`), what a look is (`run`), and what becomes of its samples (`out`).

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::task;
use tokio::task::JoinSet;

use crate::clock;
use crate::node::Handle;
use crate::probe::discovery::Discovery;
use crate::probe::module::Modules;
use crate::probe::out::Deliver;
use crate::probe::out::Out;
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

/// Looks at the same time: 10,000 targets every 10 s that all take 2 s.
const MOST: usize = 2_000;
/// Looks begin at most so often, those together that are due by then: going to sleep and waking up again costs about a tenth of a look each time.
const PACE: Duration = Duration::from_millis(5);
/// The most that is waited until the clock is looked at again, which may be set; ms.
const LONGEST: i64 = 200;
/// A look that begins so late goes to other threads, ms: this one has more to do than it can.
const LATE: i64 = 100;
/// Between two looks for new lists of targets.
const FIND: Duration = Duration::from_secs(1);

/// What is to be looked at, and how.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The jobs whose rules mean something.
    pub jobs: Vec<Arc<Ready>>,
    /// All modules.
    pub modules: Modules,
}

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
    /// The threads of everything else.
    pub shared: runtime::Handle,
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

/// Begins to look, on a thread of its own, until `stop`.
///
/// There may be thousands of looks a second, and a look is many short moments with waits between them: where several threads share them, most of what each moment
/// costs is waking another thread. What computes (`Module::computes`) goes to the threads of everything else, and so does what is late.
pub fn start(board: Arc<Board>, hands: Hands, wanted: watch::Receiver<Arc<Wanted>>, stop: watch::Receiver<bool>) -> io::Result<()> {
    let looks = move || {
        // Names are resolved beside it, where they may take their time.
        match runtime::Builder::new_current_thread().enable_all().thread_name("looks-names").build() {
            Ok(own) => {
                own.block_on(keep(board, hands, wanted, stop));
                // Nobody waits for a name server that does not answer.
                own.shutdown_background();
            }
            Err(error) => {
                tracing::warn!(%error, "looks have no runtime of their own and share the others'");
                let shared = hands.shared.clone();
                shared.block_on(keep(board, hands, wanted, stop));
            }
        }
    };
    thread::Builder::new().name("looks".to_owned()).spawn(looks).map(drop)
}

async fn keep(board: Arc<Board>, hands: Hands, wanted: watch::Receiver<Arc<Wanted>>, mut stop: watch::Receiver<bool>) {
    let mut looks = Looks::new();
    let mut out = Out::new(Arc::clone(&hands.deliver), hands.shared.clone());
    let (mut lists, mut begun) = (0, clock::now());
    let mut due = begun;
    loop {
        let now = clock::now();
        if now >= due {
            let wall = clock::wall_ms();
            ended(&board, &hands, &mut out, (&mut lists, wall));
            begin(&board, &hands, &wanted.borrow().modules, (&mut looks, wall));
            begun = now;
        }
        let next = board.plan().next().map_or(LONGEST, |next| (next - clock::wall_ms()).clamp(0, LONGEST));
        due = (begun + PACE).max(now + Duration::from_millis(next.unsigned_abs()));
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
            () = tokio::time::sleep_until(due.into()) => {}
        }
        out.send(clock::now());
    }
}

/// Looks that are under way.
struct Looks {
    tasks: JoinSet<Option<Outcome>>,
    starts: HashMap<task::Id, Start>,
}

impl Looks {
    fn new() -> Looks {
        Looks { tasks: JoinSet::new(), starts: HashMap::new() }
    }

    /// Here, or on another runtime.
    fn begin(&mut self, start: Start, there: Option<&runtime::Handle>, look: impl Future<Output = Option<Outcome>> + Send + 'static) {
        let task = match there {
            Some(there) => self.tasks.spawn_on(look, there),
            None => self.tasks.spawn(look),
        };
        self.starts.insert(task.id(), start);
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
        let elsewhere = now - start.slot > LATE || module.as_ref().is_some_and(|module| module.computes(&address));
        looks.begin(start, elsewhere.then_some(&hands.shared), async move {
            let module = module?;
            let ask = run::Ask::new(&address, &module, module.timeout(job.job.timeout));
            Some(Box::pin(run::probe(&ask)).await)
        });
    }
}

/// A look is over.
fn over(board: &Board, hands: &Hands, out: &mut Out, (start, outcome): (Start, Option<Outcome>)) {
    let mut plan = board.plan();
    let Some(target) = plan.target(start.key) else { return };
    let look = outcome.as_ref().map_or_else(|| Look { cause: "no_module".to_owned(), ..Look::default() }, looked);
    if start.writes {
        let down = hands.node.verdicts().of(&target.ready.job.name, &target.instance).is_some();
        let verdict = Metric::plain("sluice_probe_verdict", "", f64::from(u8::from(down)));
        match &outcome {
            Some(outcome) => out.push(target, start.slot, &outcome.metrics.iter().chain([&verdict]).collect::<Vec<_>>()),
            None => out.push(target, start.slot, &[&Metric::plain("probe_success", "", 0.0), &verdict]),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_look_that_breaks_off_is_known() {
        let mut looks = Looks::new();
        let start = Start { key: 7, slot: 1, writes: true };
        looks.begin(start.clone(), None, async { panic!("as a test wants it") });
        let over = looks.over().await;
        assert!(matches!(&over[..], [(broken, None)] if *broken == start), "{over:?}");
        assert!(looks.starts.is_empty());
    }
}

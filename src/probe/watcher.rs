//! Looks at the Prometheus of the groups, from every node, and tells whoever leads a group's shard what it finds.
//!
//! A task a Prometheus: a slow one delays nobody. Each look is over within its time. Nodes take turns, so that with three of them somebody looks three times
//! as often. When one is refused it is looked at again at once, and the other nodes are asked to look, too: refusals to two nodes are a death. A closed
//! connection of a sender has the same effect (`Notes`), and so has the end of a connection that each node holds for no other reason (`line`): so most deaths are known
//! before the next look would have been.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::task::JoinSet;

use crate::clock;
use crate::node::Handle;
use crate::probe::line::Line;
use crate::probe::prometheus;
use crate::probe::prometheus::Figures;
use crate::probe::prometheus::Sight;
use crate::probe::prometheus::State;
use crate::probe::prometheus::Watch;
use crate::probe::schedule;
use crate::serve::ask::Place;

/// Their job, where verdicts are kept by job and instance.
pub const JOB: &str = "prometheus";
/// Between two looks at one that was refused.
const AGAIN: Duration = Duration::from_millis(100);
/// So many refusals of one node count, where others are refused as well,
const ENOUGH: u32 = 2;
/// and where there are no others.
const ENOUGH_ALONE: u32 = 3;
/// A process that dies may end a connection before it stops listening, and whoever looks in between is told nothing that means anything: so often it is looked at again.
const HINTED: u32 = 3;
/// Looks between two readings of its metrics.
const DEEP: u32 = 10;
/// What that may take.
const DEEP_WITHIN: Duration = Duration::from_secs(5);

/// A replica's Prometheus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its group.
    pub group: String,
    /// Its name there.
    pub replica: String,
    /// Where it is.
    pub place: Place,
    /// Between two looks.
    pub interval: Duration,
    /// What one may take.
    pub timeout: Duration,
}

impl Target {
    /// Group and replica as one word.
    pub fn instance(&self) -> String {
        instance(&self.group, &self.replica)
    }
}

/// Group and replica as one word.
pub fn instance(group: &str, replica: &str) -> String {
    format!("{group}/{replica}")
}

/// What this node sees of one.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// How it is.
    pub state: State,
    /// Where it was looked at.
    pub url: String,
    /// Since when it is so, ms since 1970.
    pub since_ms: i64,
    /// The last look, ms since 1970; 0: none yet.
    pub looked_ms: i64,
    /// How long that took.
    pub took: Duration,
    /// Segments of its log that it has replayed, of how many.
    pub replay: Option<(u64, u64)>,
    /// What stood in the way.
    pub trouble: Option<String>,
    /// From its own metrics.
    pub figures: Option<Figures>,
    /// Writes to its own log failed between the last two readings of these.
    pub failing: bool,
    /// Probing has worked before.
    pub worked: bool,
}

impl Seen {
    /// What its metrics say now; nothing: they could not be read.
    fn read(&mut self, figures: Option<Figures>) {
        let Some(figures) = figures else { return };
        self.failing = self.figures.as_ref().is_some_and(|before| figures.failed_writes > before.failed_writes);
        self.figures = Some(figures);
    }
}

/// All that this node looks at, by group and replica.
#[derive(Default)]
pub struct Board {
    seen: Mutex<BTreeMap<(String, String), Seen>>,
    /// Wakes the one with this key.
    wakers: Mutex<HashMap<u64, Arc<Notify>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    /// A copy.
    pub fn all(&self) -> BTreeMap<(String, String), Seen> {
        lock(&self.seen).clone()
    }

    /// It is looked at now; `false`: nothing has this key.
    pub fn wake(&self, key: u64) -> bool {
        let waker = lock(&self.wakers).get(&key).cloned();
        waker.inspect(|waker| waker.notify_one()).is_some()
    }

    /// Something has this key.
    pub fn has(&self, key: u64) -> bool {
        lock(&self.wakers).contains_key(&key)
    }

    /// As if it had been seen so.
    #[cfg(test)]
    pub fn show(&self, (group, replica): (&str, &str), state: State) {
        lock(&self.wakers).insert(schedule::key(JOB, &instance(group, replica)), Arc::default());
        lock(&self.seen).insert((group.to_owned(), replica.to_owned()), Seen { state, ..Seen::default() });
    }

    fn saw(&self, target: &Target, watch: &Watch, sight: &Sight, (began, took): (i64, Duration)) {
        let mut all = lock(&self.seen);
        let Some(seen) = all.get_mut(&(target.group.clone(), target.replica.clone())) else { return };
        if seen.state != watch.state {
            tracing::info!(
                group = target.group,
                replica = target.replica,
                url = target.place.url,
                state = watch.state.word(),
                "a Prometheus is seen differently"
            );
            (seen.state, seen.since_ms) = (watch.state, began);
        }
        (seen.looked_ms, seen.took, seen.worked) = (began, took, watch.worked);
        (seen.replay, seen.trouble) = match sight {
            Sight::NotReady { replay, .. } => (*replay, None),
            Sight::Strange(why) => (None, Some(why.clone())),
            _ => (None, None),
        };
    }
}

/// Runs until `stop`, with whatever targets there are.
pub async fn keep(board: Arc<Board>, node: Handle, mut targets: watch::Receiver<Vec<Target>>, mut stop: watch::Receiver<bool>) {
    let mut tasks = JoinSet::new();
    let mut running: Vec<(Target, AbortHandle)> = Vec::new();
    targets.mark_changed();
    loop {
        if targets.has_changed().unwrap_or(false) {
            let wanted = targets.borrow_and_update().clone();
            running.retain(|(target, task)| {
                let stays = wanted.contains(target);
                if !stays {
                    task.abort();
                    lock(&board.seen).remove(&(target.group.clone(), target.replica.clone()));
                    lock(&board.wakers).remove(&schedule::key(JOB, &target.instance()));
                }
                stays
            });
            for target in wanted {
                if running.iter().all(|(known, _)| *known != target) {
                    let task = tasks.spawn(watch_one(Arc::clone(&board), node.clone(), target.clone()));
                    running.push((target, task));
                }
            }
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            changed = targets.changed() => match changed {
                Ok(()) => targets.mark_changed(),
                Err(_) => return,
            },
            _ = tasks.join_next(), if !tasks.is_empty() => {}
        }
    }
}

/// One Prometheus, for as long as the task lives.
async fn watch_one(board: Arc<Board>, node: Handle, target: Target) {
    let key = schedule::key(JOB, &target.instance());
    let waker = Arc::new(Notify::new());
    lock(&board.wakers).insert(key, Arc::clone(&waker));
    let shown = Seen { url: target.place.url.clone(), ..Seen::default() };
    lock(&board.seen).insert((target.group.clone(), target.replica.clone()), shown);
    let interval = u64::try_from(target.interval.as_millis()).unwrap_or(1_000).max(1);
    let (mut watch, mut looks, mut next) = (Watch::default(), 0_u32, clock::now());
    let (mut line, mut hinted) = (Line::default(), 0_u32);
    // Refusals are counted at their own pace: what else says that it is dead would only have the same moment counted twice.
    let mut counting = false;
    // Beside the looks, which a large answer must not hold up.
    let mut reading: Option<Pin<Box<dyn Future<Output = Option<Figures>> + Send>>> = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(next.into()) => {}
            () = waker.notified(), if !counting => hinted = HINTED,
            () = line.ended(), if !counting => hinted = HINTED,
            figures = read(&mut reading) => {
                reading = None;
                if let Some(seen) = lock(&board.seen).get_mut(&(target.group.clone(), target.replica.clone())) {
                    seen.read(figures);
                }
                continue;
            }
        }
        let members = node.members();
        let enough = if members.len() > 1 { ENOUGH } else { ENOUGH_ALONE };
        let (began, began_ms) = (clock::now(), clock::wall_ms());
        let sight = prometheus::look(&target.place, target.timeout).await;
        line.looked(&sight, clock::now(), (&target.place, target.timeout));
        let doubt = watch.note(&sight, enough);
        board.saw(&target, &watch, &sight, (began_ms, clock::now().saturating_duration_since(began)));
        if let Some(hint) = doubt.hint {
            node.hint(&target.group, &target.replica, hint);
        }
        counting = doubt.again;
        if doubt.again {
            if doubt.hint.is_none() {
                node.ask_others_for_a_look(key);
            }
            next = clock::now() + AGAIN;
            continue;
        }
        if let (Sight::Strange(_), Some(left)) = (&sight, hinted.checked_sub(1)) {
            (hinted, next) = (left, clock::now() + AGAIN);
            continue;
        }
        hinted = 0;
        if sight == Sight::Ready {
            if looks.is_multiple_of(DEEP) && reading.is_none() {
                let place = target.place.clone();
                reading = Some(Box::pin(async move { prometheus::figures(&place, DEEP_WITHIN).await }));
            }
            looks = looks.wrapping_add(1);
        }
        let phase = (schedule::phase(key, interval) + schedule::turn(node.own_id(), &members, interval)) % interval;
        let now = clock::wall_ms();
        next = clock::now() + Duration::from_millis(schedule::next(now, phase, interval).saturating_sub(now).unsigned_abs());
    }
}

/// What is being read; for ever where nothing is.
async fn read(reading: &mut Option<Pin<Box<dyn Future<Output = Option<Figures>> + Send>>>) -> Option<Figures> {
    match reading {
        Some(reading) => reading.await,
        None => std::future::pending().await,
    }
}

//! A sink's view of a real shard: `node::Handle` behind [`Source`].
//!
//! The handle's proposals are futures; a worker is a thread, so it waits for them here.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle as Runtime;
use tokio::sync::watch;

use crate::forward::rows::Row;
use crate::forward::source::Cursor;
use crate::forward::source::Dead;
use crate::forward::source::Source;
use crate::forward::source::SourceError;
use crate::forward::source::Standing;
use crate::forward::source::Step;
use crate::model::ShardId;
use crate::node;
use crate::node::offer::ProposeError;
use crate::node::view::Progress;
use crate::shard::command::Command;
use crate::shard::command::CursorMove;
use crate::shard::command::DeadLetter;
use crate::shard::emission::Emission;
use crate::wire::body::Body;
use crate::wire::body::Picked;
use crate::wire::histogram::Histogram;
use crate::wire::remote_write::DecodeError;
use crate::wire::remote_write::Walker;

/// How long a proposal is waited for: longer than an election takes.
const PROPOSAL: Duration = Duration::from_secs(5);

/// One shard, for one sink.
pub struct ShardLog {
    node: node::Handle,
    shard: ShardId,
    sink: String,
    /// The sink asks how far counters rise.
    counts: bool,
    progress: watch::Receiver<Progress>,
    runtime: Runtime,
    /// Scratch of the worker, the only caller; nothing else is done while it is held than walking a body.
    scratch: Mutex<Scratch>,
}

struct Scratch {
    walker: Walker,
    histogram: Histogram,
}

impl ShardLog {
    /// The shard as this sink sees it. `counts`: it asks how far counters rise.
    pub fn new(node: node::Handle, shard: ShardId, sink: &str, counts: bool, runtime: Runtime) -> ShardLog {
        let progress = node.progress(shard);
        let scratch = Mutex::new(Scratch { walker: Walker::new(node.hash_seed()), histogram: Histogram::default() });
        ShardLog { node, shard, sink: sink.to_owned(), counts, progress, runtime, scratch }
    }

    fn body(&self, emission: &Emission) -> Result<Option<Arc<Body>>, SourceError> {
        self.node.body(self.shard, emission.entry).map_err(|error| SourceError::Unreadable(error.to_string()))
    }

    fn propose(&self, command: Command) -> Result<(), SourceError> {
        let proposal = self.node.propose(self.shard, command);
        let outcome = self.runtime.block_on(async { tokio::time::timeout(PROPOSAL, proposal).await });
        outcome.map_or(Err(SourceError::Unknown), |outcome| outcome.map_or_else(|error| Err(refused(error)), |_| Ok(())))
    }

    fn letter(&self, dead: Dead) -> Command {
        let Dead { emission, item, reason, payload, tenant } = dead;
        Command::Dead(DeadLetter { sink: self.sink.clone(), emission, item, reason, payload, tenant })
    }
}

fn refused(error: ProposeError) -> SourceError {
    match error {
        ProposeError::Busy(_) => SourceError::Busy,
        ProposeError::NotLeader(_) | ProposeError::Stopping | ProposeError::NoShard(_) => SourceError::NotLeading,
        ProposeError::Void(reason) => SourceError::Void(reason),
        ProposeError::Unknown => SourceError::Unknown,
    }
}

/// Whether all that was picked was there.
fn whole(emission: &Emission, visited: Result<usize, DecodeError>, torn: Option<String>) -> Result<Option<u64>, SourceError> {
    let entry = emission.entry;
    let visited = visited.map_err(|error| SourceError::Unreadable(format!("entry {entry}: {error}")))?;
    if let Some(torn) = torn {
        return Err(SourceError::Unreadable(format!("entry {entry}: {torn}")));
    }
    let picks = emission.picks.len();
    if visited != picks {
        let number = emission.number;
        return Err(SourceError::Unreadable(format!("entry {entry} holds {visited} of the {picks} samples of emission {number}")));
    }
    Ok(Some(0))
}

fn standing(progress: &Progress) -> Standing {
    Standing {
        last_emission: progress.last_emission,
        oldest_emission: progress.oldest_emission,
        samples: progress.samples,
        sinks_version: progress.sinks_version,
        leads: progress.leads,
        at: progress.at,
    }
}

impl Source for ShardLog {
    fn standing(&self) -> Standing {
        standing(&self.progress.borrow())
    }

    fn wait(&self, seen: &Standing, at_most: Duration) {
        let mut progress = self.progress.clone();
        let news = progress.wait_for(|now| {
            let now = standing(now);
            (now.last_emission, now.sinks_version, now.leads) != (seen.last_emission, seen.sinks_version, seen.leads)
        });
        let ended = self.runtime.block_on(async { tokio::time::timeout(at_most, news).await.is_ok_and(|news| news.is_err()) });
        if ended {
            // The node is gone; the worker is about to be told.
            std::thread::sleep(at_most.min(Duration::from_millis(100)));
        }
    }

    fn cursor(&self) -> Result<Option<Cursor>, SourceError> {
        let cursor = self.node.cursors(self.shard).iter().find(|cursor| cursor.sink == self.sink).cloned();
        Ok(cursor.map(|cursor| Cursor {
            epoch: cursor.epoch,
            emission: cursor.emission,
            delivered: cursor.delivered,
            filtered: cursor.filtered,
            dead: cursor.dead,
            dropped: cursor.dropped,
            pending: cursor.pending,
            pending_bytes: cursor.pending_bytes,
            pending_ms: cursor.pending_ms,
            budget_bytes: cursor.budget_bytes,
            seconds_left: cursor.seconds_left,
            paused: cursor.paused,
        }))
    }

    fn emissions(&self, after: u64, samples: usize) -> Result<Vec<Arc<Emission>>, SourceError> {
        self.node.emissions(self.shard, after, samples).map_err(|error| SourceError::Unreadable(error.to_string()))
    }

    fn rows(&self, emission: &Emission, visit: &mut dyn FnMut(&Row<'_>)) -> Result<Option<u64>, SourceError> {
        let Some(body) = self.body(emission)? else { return Ok(None) };
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let Scratch { walker, histogram } = &mut *scratch;
        let mut torn = None;
        let befores = if self.counts { &emission.befores[..] } else { &[] };
        let visited = body.pick_with(walker, &emission.picks, befores, &mut |picked| match Row::of(&picked, histogram) {
            Ok(row) => visit(&row),
            Err(error) => torn = Some(error.to_string()),
        });
        whole(emission, visited, torn)
    }

    fn points(&self, emission: &Emission, visit: &mut dyn FnMut(&Picked<'_, '_>)) -> Result<Option<u64>, SourceError> {
        let Some(body) = self.body(emission)? else { return Ok(None) };
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let visited = body.pick(&mut scratch.walker, &emission.picks, &mut |picked| visit(&picked));
        whole(emission, visited, None)
    }

    fn step(&self, step: Step) -> Result<(), SourceError> {
        let Step { epoch, emission, delivered, filtered, dead } = step;
        self.propose(Command::Cursor(CursorMove {
            sink: self.sink.clone(),
            epoch,
            emission,
            delivered,
            filtered,
            dead,
            ..CursorMove::default()
        }))
    }

    fn bury(&self, dead: Dead) -> Result<(), SourceError> {
        self.propose(self.letter(dead))
    }

    fn bury_all(&self, dead: Vec<Dead>) -> Result<(), SourceError> {
        let mut under_way: Vec<_> = dead.into_iter().map(|dead| Box::pin(self.node.propose(self.shard, self.letter(dead)))).collect();
        let mut wrong = None;
        let all = std::future::poll_fn(|context| {
            under_way.retain_mut(|proposal| match proposal.as_mut().poll(context) {
                Poll::Pending => true,
                Poll::Ready(outcome) => {
                    // Void: the sink is gone, or has such a letter.
                    let error = outcome.err().map(refused).filter(|error| !matches!(error, SourceError::Void(_)));
                    wrong = wrong.take().or(error);
                    false
                }
            });
            if under_way.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        });
        match self.runtime.block_on(async { tokio::time::timeout(PROPOSAL, all).await }) {
            Ok(()) => wrong.map_or(Ok(()), Err),
            Err(_) => Err(SourceError::Unknown),
        }
    }
}

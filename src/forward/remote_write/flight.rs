//! Requests under way: a task of the runtime for each connection, which packs and sends what waits for it, in order, until something is not taken. So the
//! worker can make the next round meanwhile. Nothing is decided here about what was not taken.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::forward::remote_write::lane::Head;
use crate::forward::remote_write::lane::Lane;
use crate::forward::remote_write::lane::Parcel;
use crate::forward::remote_write::policy;
use crate::forward::remote_write::policy::Verdict;
use crate::forward::remote_write::round::Batch;
use crate::forward::remote_write::round::Zstd;
use crate::forward::remote_write::settings::StoreSettings;
use crate::forward::remote_write::trouble::StoreTrouble;
use crate::wire::pack::Packing;

/// Where requests go, and how.
#[derive(Clone)]
pub struct To {
    /// The store.
    pub settings: Arc<StoreSettings>,
    /// What stands in every request.
    pub head: Arc<Head>,
    /// How requests are packed that do not know better.
    pub packing: Packing,
}

/// What came of sending a connection's queue.
pub struct Drained {
    /// Requests that were taken.
    pub taken: u64,
    /// Requests that were sent.
    pub requests: u64,
    /// What is worth knowing.
    pub notes: Vec<StoreTrouble>,
    /// What the first request met that was not taken.
    pub stuck: Option<Verdict>,
}

/// All connections, with what is left for them.
pub struct Landed {
    /// The connections.
    pub lanes: Vec<Lane>,
    /// What they have not sent.
    pub queues: Vec<VecDeque<Batch>>,
    /// What came of it.
    pub drained: Vec<Drained>,
}

type Task = JoinHandle<(Lane, VecDeque<Batch>, Drained)>;

/// They go on until they have landed, or until this is dropped.
pub struct Flight {
    tasks: VecDeque<Task>,
    landed: Landed,
}

impl Flight {
    /// Takes connections and queues away, and sends.
    pub fn begin(runtime: &tokio::runtime::Handle, to: &To, lanes: &mut Vec<Lane>, queues: &mut Vec<VecDeque<Batch>>) -> Flight {
        let both = lanes.drain(..).zip(queues.drain(..));
        let tasks = both.map(|(lane, queue)| runtime.spawn(drain(lane, queue, to.clone()))).collect();
        Flight { tasks, landed: Landed { lanes: Vec::new(), queues: Vec::new(), drained: Vec::new() } }
    }

    /// Waits for so long; an error is a task that panicked.
    pub fn landed(&mut self, runtime: &tokio::runtime::Handle, within: Duration) -> Option<Result<Landed, String>> {
        while let Some(task) = self.tasks.front_mut() {
            match runtime.block_on(async { tokio::time::timeout(within, task).await }) {
                Err(_) => return None,
                Ok(Err(error)) => return Some(Err(error.to_string())),
                Ok(Ok((lane, queue, drained))) => {
                    self.landed.lanes.push(lane);
                    self.landed.queues.push(queue);
                    self.landed.drained.push(drained);
                    self.tasks.pop_front();
                }
            }
        }
        let empty = Landed { lanes: Vec::new(), queues: Vec::new(), drained: Vec::new() };
        Some(Ok(std::mem::replace(&mut self.landed, empty)))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Sends a queue in order until something is not taken.
async fn drain(mut lane: Lane, mut queue: VecDeque<Batch>, mut to: To) -> (Lane, VecDeque<Batch>, Drained) {
    let mut drained = Drained { taken: 0, requests: 0, notes: Vec::new(), stuck: None };
    while let Some(batch) = queue.front_mut() {
        let parcel = batch.parcel(to.packing);
        batch.attempts += 1;
        drained.requests += 1;
        match one(&mut lane, &to, &parcel, batch.samples).await {
            Verdict::Taken(note) => {
                drained.notes.extend(note);
                if let Zstd::Refused(text) = std::mem::take(&mut batch.zstd) {
                    drained.notes.push(StoreTrouble::ZstdRefused { url: to.settings.url.clone(), text });
                    to.packing = Packing::Snappy;
                }
                drained.taken += 1;
                queue.pop_front();
            }
            stuck => {
                drained.stuck = Some(stuck);
                break;
            }
        }
    }
    (lane, queue, drained)
}

/// One request, and what its answer means.
pub async fn one(lane: &mut Lane, to: &To, parcel: &Parcel, samples: u64) -> Verdict {
    let settings = &to.settings;
    match tokio::time::timeout(settings.timeout, lane.post(settings, &to.head, parcel)).await {
        // zstd is a dialect: its refusal is followed by an attempt with snappy.
        Ok(Ok(answer)) if parcel.packing == Packing::Zstd && policy::may_be_packing(answer.status) => Verdict::Refused(answer),
        Ok(Ok(answer)) => policy::judge(answer, &settings.url, settings.protocol, samples),
        Ok(Err(trouble)) => Verdict::Later(trouble, None),
        Err(_) => {
            let detail = format!("no answer within {} s (timeout)", settings.timeout.as_secs());
            Verdict::Later(StoreTrouble::Unreachable { url: settings.url.clone(), detail }, None)
        }
    }
}

//! Sinks as they are published: sums over their shards, dead letters, replay, and the rows they deliver as a stream.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Frame;
use hyper::header::X_CONTENT_TYPE_OPTIONS;
use serde::Deserialize;
use serde::Serialize;
use tokio::sync::watch;

use crate::api::answer;
use crate::api::answer::Failure;
use crate::api::deps;
use crate::api::deps::Later;
use crate::api::deps::Letters;
use crate::api::deps::Node;
use crate::api::deps::Rows;
use crate::api::deps::SinkShard;
use crate::api::deps::Trouble;
use crate::api::groups::Done;
use crate::api::tap;
use crate::api::tap::Fitting;
use crate::serve;
use crate::serve::Response;
use crate::shard::command::DeadLetter;

/// Shown where a sink is unknown.
pub const LIST: &str = "`sluice sink list` or GET /api/v1/sinks shows them";
/// Dead letters of an answer: at most 64 KiB each, so 64 MiB at worst, and half a megabyte as they mostly are.
const DEAD_MAX: usize = 1000;

/// `GET /api/v1/sinks`.
#[derive(Debug, Serialize)]
pub struct Sinks {
    /// In the configuration's order.
    pub sinks: Vec<Sink>,
}

/// One sink: sums over its shards, the worst lag and the least time left, and the shards.
#[derive(Debug, Serialize)]
pub struct Sink {
    /// Its name.
    pub name: String,
    kind: String,
    target: String,
    format: String,
    delivery: String,
    state: String,
    delivered: u64,
    filtered: u64,
    /// Refused for good.
    pub dead: u64,
    dropped: u64,
    pending: u64,
    pending_bytes: u64,
    budget_bytes: u64,
    lag_ms: i64,
    /// Until the budget is used up.
    pub seconds_left: Option<u64>,
    tap_missed: u64,
    /// What stops rows, one of a kind.
    pub troubles: Vec<Merged>,
    notes: Vec<Merged>,
    shards: Vec<SinkShard>,
}

impl Sink {
    /// Per shard: bytes that stay for it, and the most that may.
    pub fn budgets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.shards.iter().map(|shard| (shard.pending_bytes, shard.budget_bytes))
    }
}

/// A trouble with the shards that have it.
#[derive(Debug, Serialize)]
pub struct Merged {
    /// A short fixed word.
    pub code: String,
    /// What is wrong.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
    since: i64,
    shards: Vec<u16>,
}

/// The phases, worst first.
const PHASES: [&str; 6] = ["troubled", "stopped", "connecting", "paused", "running", "elsewhere"];

/// A sink as it is published.
pub fn one(sink: deps::Sink) -> Sink {
    let shards = sink.shards;
    let sum = |of: fn(&SinkShard) -> u64| shards.iter().map(of).sum();
    let rank = |phase: &str| PHASES.iter().position(|known| *known == phase).unwrap_or(0);
    Sink {
        state: shards.iter().map(|shard| shard.phase.as_str()).min_by_key(|phase| rank(phase)).unwrap_or("connecting").to_owned(),
        delivered: sum(|shard| shard.delivered),
        filtered: sum(|shard| shard.filtered),
        dead: sum(|shard| shard.dead),
        dropped: sum(|shard| shard.dropped),
        pending: sum(|shard| shard.pending),
        pending_bytes: sum(|shard| shard.pending_bytes),
        budget_bytes: sum(|shard| shard.budget_bytes),
        lag_ms: shards.iter().map(|shard| shard.lag_ms).max().unwrap_or(0),
        seconds_left: shards.iter().filter_map(|shard| shard.seconds_left).min(),
        troubles: merged(shards.iter().flat_map(|shard| shard.trouble.iter().map(|trouble| (shard.shard, trouble)))),
        notes: merged(shards.iter().flat_map(|shard| shard.notes.iter().map(|note| (shard.shard, note)))),
        name: sink.name,
        kind: sink.kind,
        target: sink.target,
        format: sink.format,
        delivery: sink.delivery,
        tap_missed: sink.tap_missed,
        shards,
    }
}

/// Six shards whose broker is gone have one trouble, not six.
fn merged<'a>(troubles: impl Iterator<Item = (u16, &'a Trouble)>) -> Vec<Merged> {
    let mut all: Vec<Merged> = Vec::new();
    for (shard, trouble) in troubles {
        if let Some(known) = all.iter_mut().find(|known| known.code == trouble.code) {
            known.since = known.since.min(trouble.since);
            known.shards.push(shard);
            continue;
        }
        let Trouble { code, text, remedy, since } = trouble.clone();
        all.push(Merged { code, text, remedy, since, shards: vec![shard] });
    }
    all
}

/// The sink of this name.
pub fn find(sinks: &dyn deps::Sinks, name: &str) -> Result<Sink, Failure> {
    sinks.list().into_iter().find(|sink| sink.name == name).map(one).ok_or_else(|| Failure::unknown("sink", name, LIST))
}

/// `GET /api/v1/sinks/{name}/dead`.
#[derive(Debug, Serialize)]
pub struct Dead {
    sink: String,
    dead: Vec<Letter>,
    /// There are more than these.
    more: bool,
}

/// One dead letter.
#[derive(Debug, Serialize)]
pub struct Letter {
    shard: u16,
    number: u64,
    emission: u64,
    item: u32,
    reason: String,
    payload: String,
    tenant: String,
}

/// Dead letters, the oldest of each shard first. The query takes `shard` and `after` (a number), to read on, and `limit`.
pub async fn dead(node: &Arc<dyn Node>, name: &str, query: &str) -> Result<Dead, Failure> {
    let (mut only, mut after, mut limit) = (None, 0u64, DEAD_MAX);
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let wrong =
            |_| Failure::wrong(format!("{key}={value} is no number"), "the query takes shard=NUMBER, after=NUMBER and limit=NUMBER");
        match &*key {
            "shard" => only = Some(value.parse::<u16>().map_err(wrong)?),
            "after" => after = value.parse().map_err(wrong)?,
            "limit" => limit = value.parse::<usize>().map_err(wrong)?.min(DEAD_MAX),
            _ => {}
        }
    }
    let (reader, sink) = (Arc::clone(node), name.to_owned());
    let read = move || {
        let mut dead = Vec::new();
        for shard in reader.shards().into_iter().filter(|shard| only.is_none_or(|only| shard.0 == only)) {
            let letters = reader.dead(shard, &sink, after, limit + 1 - dead.len())?;
            dead.extend(letters.into_iter().map(|(number, letter)| published(shard.0, number, letter)));
            if dead.len() > limit {
                break;
            }
        }
        Ok::<Vec<Letter>, crate::node::ReadError>(dead)
    };
    let broken = |text: String| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "store", text, "look at the node's log and disk");
    let mut dead = match tokio::task::spawn_blocking(read).await {
        Ok(read) => read.map_err(|error| broken(error.to_string()))?,
        Err(_) => return Err(broken("reading the dead letters was given up".into())),
    };
    let more = dead.len() > limit;
    dead.truncate(limit);
    Ok(Dead { sink: name.to_owned(), dead, more })
}

fn published(shard: u16, number: u64, letter: DeadLetter) -> Letter {
    let payload = String::from_utf8_lossy(&letter.payload).into_owned();
    Letter { shard, number, emission: letter.emission, item: letter.item, reason: letter.reason, payload, tenant: letter.tenant }
}

/// `POST /api/v1/sinks/{name}/replay`.
#[derive(Debug, Serialize)]
pub struct Replayed {
    replayed: u64,
    failed: u64,
    /// Some were not tried.
    more: bool,
    shards: Vec<deps::ReplayedShard>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    shard: Option<u16>,
    number: Option<u64>,
}

/// Delivers dead letters again.
pub async fn replay(sinks: &dyn deps::Sinks, name: &str, body: &[u8]) -> Result<Replayed, Failure> {
    const EXPECTED: &str = r#"send nothing for all of them, or {"shard": 1, "number": 7}"#;
    let which: Which = match body.trim_ascii() {
        [] => Which::default(),
        body => serde_json::from_slice(body).map_err(|error| Failure::wrong(format!("the body is not as expected: {error}"), EXPECTED))?,
    };
    let letters = match (which.shard, which.number) {
        (None, None) => Letters::All,
        (Some(shard), Some(number)) => Letters::One { shard, number },
        _ => return Err(Failure::wrong("a letter is named by its shard and its number", EXPECTED)),
    };
    let replayed = sinks.replay(name, letters).await.map_err(|refusal| Failure::of_refusal(refusal, "sink", name, LIST))?;
    let sum = |of: fn(&deps::ReplayedShard) -> u64| replayed.shards.iter().map(of).sum();
    Ok(Replayed { replayed: sum(|shard| shard.replayed), failed: sum(|shard| shard.failed), more: replayed.more, shards: replayed.shards })
}

/// `POST /api/v1/sinks/{name}/test`.
pub async fn test(sinks: &dyn deps::Sinks, name: &str) -> Result<deps::Tried, Failure> {
    sinks.test(name).await.map_err(|refusal| Failure::of_refusal(refusal, "sink", name, LIST))
}

/// `POST /api/v1/sinks/{name}/rewind`.
#[derive(Debug, Serialize)]
pub struct Rewinding {
    samples: u64,
    shards: Vec<deps::Rewound>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Back {
    to: Option<i64>,
    by_ms: Option<i64>,
}

/// Goes back in time; `now`: ms since 1970.
pub async fn rewind(sinks: &dyn deps::Sinks, name: &str, body: &[u8], now: i64) -> Result<Rewinding, Failure> {
    const EXPECTED: &str = r#"send {"by_ms": 600000} for the last ten minutes, or {"to": 1790000000000}, a time in ms since 1970"#;
    let back: Back =
        serde_json::from_slice(body).map_err(|error| Failure::wrong(format!("the body is not as expected: {error}"), EXPECTED))?;
    let to = match (back.to, back.by_ms) {
        (Some(to), None) => to,
        (None, Some(by)) if by > 0 => now.saturating_sub(by),
        _ => return Err(Failure::wrong("how far back is not said", EXPECTED)),
    };
    if to >= now {
        return Err(Failure::wrong("the time is not in the past", EXPECTED));
    }
    let shards = sinks.rewind(name, to).await.map_err(|refusal| Failure::of_refusal(refusal, "sink", name, LIST))?;
    Ok(Rewinding { samples: shards.iter().map(|shard| shard.samples).sum(), shards })
}

/// `GET /api/v1/explain`.
#[derive(Debug, Serialize)]
pub struct Explanation {
    sinks: Vec<deps::Explained>,
}

/// What becomes of the sample that the query names as `sample`, at every sink.
pub fn explain(sinks: &dyn deps::Sinks, query: &str) -> Result<Explanation, Failure> {
    const EXPECTED: &str = r#"ask for sample=up{job="node"} 1, encoded as a URL is; value and time may be left out"#;
    let asked = |name: &str| form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value);
    let sample = asked("sample").ok_or_else(|| Failure::wrong("the query names no sample", EXPECTED))?;
    Ok(Explanation { sinks: sinks.explain(&sample, asked("tenant").as_deref()).map_err(|text| Failure::wrong(text, EXPECTED))? })
}

/// Holds delivery, or lets it go on.
pub async fn pause(sinks: &dyn deps::Sinks, name: &str, paused: bool) -> Result<Done, Failure> {
    sinks.pause(name, paused).await.map_err(|refusal| Failure::of_refusal(refusal, "sink", name, LIST))?;
    let done = if paused { "paused: what comes stays in the log, within the sink's budget, until resume" } else { "delivers again" };
    Ok(Done { done: done.into() })
}

/// `GET /api/v1/sinks/{name}/tap`: rows as they are delivered, one a line, until the reader, the sink or the node goes.
pub fn tap(sinks: &dyn deps::Sinks, name: &str, query: &str, stopping: watch::Receiver<bool>) -> Result<Response, Failure> {
    let mut rows = sinks.tap(name).ok_or_else(|| Failure::unknown("sink", name, LIST))?;
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "match" => rows = Box::new(Fitting { rows, selector: tap::parsed(&value)? }),
            _ => return Err(Failure::wrong(format!("{key}={value} is not understood"), "the query takes match=SELECTOR")),
        }
    }
    Ok(stream(rows, stopping))
}

/// Rows as they come, one a line.
pub fn stream(rows: Box<dyn Rows>, stopping: watch::Receiver<bool>) -> Response {
    let mut response = serve::answer(StatusCode::OK, "application/x-ndjson", Bytes::new());
    answer::unstored(&mut response, &[(X_CONTENT_TYPE_OPTIONS, "nosniff")]);
    *response.body_mut() = Stream(Mutex::new(Some(next(rows, stopping)))).boxed();
    response
}

type Next = Later<'static, Option<(Bytes, Box<dyn Rows>, watch::Receiver<bool>)>>;

fn next(mut rows: Box<dyn Rows>, mut stopping: watch::Receiver<bool>) -> Next {
    Box::pin(async move {
        let row = tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => None,
            row = rows.next() => row,
        }?;
        let mut line = Vec::with_capacity(row.len() + 1);
        line.extend_from_slice(&row);
        line.push(b'\n');
        Some((line.into(), rows, stopping))
    })
}

/// A body that asks for the next row when the connection can take it: no queue, no task. The mutex is never contended: it makes the
/// future shareable, which bodies must be, and is only ever opened by its owner.
struct Stream(Mutex<Option<Next>>);

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let under_way = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(future) = under_way else { return Poll::Ready(None) };
        let Poll::Ready(row) = future.as_mut().poll(context) else { return Poll::Pending };
        let (frame, after) = match row {
            Some((line, rows, stopping)) => (Some(Ok(Frame::data(line))), Some(next(rows, stopping))),
            None => (None, None),
        };
        *under_way = after;
        Poll::Ready(frame)
    }
}

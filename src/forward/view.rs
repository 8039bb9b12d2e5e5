//! What people and `/metrics` see of a sink: plain values, copied out; and the one place where a worker writes them.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::forward::source::Cursor;
use crate::forward::trouble::Trouble;

/// What a sink's worker is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Another node leads the shard; the sink runs there.
    #[default]
    Elsewhere,
    /// Reaching the brokers, reading the position.
    Connecting,
    /// Rows flow, or would if there were any.
    Running,
    /// Something is wrong; it is tried again.
    Troubled,
    /// An operator paused it.
    Paused,
    /// The worker has ended.
    Stopped,
}

impl Phase {
    /// The word in metrics and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Elsewhere => "elsewhere",
            Phase::Connecting => "connecting",
            Phase::Running => "running",
            Phase::Troubled => "troubled",
            Phase::Paused => "paused",
            Phase::Stopped => "stopped",
        }
    }
}

/// One trouble, as shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TroubleView {
    /// A short fixed word.
    pub code: &'static str,
    /// What is wrong.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
    /// Since when, ms since 1970.
    pub since: i64,
}

/// What librdkafka says of itself, a few seconds old; of a store `errors` and `retries`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClientStats {
    /// Brokers that are connected.
    pub brokers_up: u64,
    /// Brokers known.
    pub brokers: u64,
    /// Messages in its queues.
    pub queue_messages: u64,
    /// Bytes in them.
    pub queue_bytes: u64,
    /// Bytes sent, requests included.
    pub sent_bytes: u64,
    /// Requests sent.
    pub requests: u64,
    /// Transmission errors.
    pub errors: u64,
    /// Requests without an answer in time.
    pub timeouts: u64,
    /// Connections that ended.
    pub disconnects: u64,
    /// Requests tried again.
    pub retries: u64,
    /// 99th percentile of a broker's round trip, µs; the worst broker's.
    pub rtt_p99_micros: u64,
    /// 99th percentile of the time a request waits for the socket, µs; the worst broker's.
    pub wait_p99_micros: u64,
    /// 99th percentile of the time that a broker makes us wait for its quotas, ms; the worst broker's.
    pub throttle_p99_ms: u64,
    /// Mean size of a batch, bytes.
    pub batch_bytes: u64,
}

/// Sums since this worker began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Rows in Kafka, samples in a store.
    pub rows: u64,
    /// Bytes of them, before compression.
    pub bytes: u64,
    /// Messages, or requests to a store.
    pub messages: u64,
    /// Points that have no row in this format.
    pub filtered: u64,
    /// Rows that became dead letters.
    pub dead: u64,
    /// Rows that went to the fallback topic.
    pub aside: u64,
    /// Transactions committed.
    pub commits: u64,
    /// Transactions given up, for whatever reason.
    pub aborts: u64,
    /// Producers made.
    pub producers: u64,
    /// Time spent committing, µs.
    pub commit_micros: u64,
}

/// One sink in one shard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShardView {
    /// The shard.
    pub shard: u16,
    /// What the worker is about.
    pub phase: Phase,
    /// The position's epoch.
    pub epoch: u64,
    /// The last emission that is in Kafka for good.
    pub position: u64,
    /// Emissions not there yet.
    pub lag_emissions: u64,
    /// Samples not there yet.
    pub lag_samples: u64,
    /// Age of the oldest that is not there yet, ms.
    pub lag_ms: i64,
    /// Samples that went ahead of the position: a store's backlog follows them.
    pub ahead: u64,
    /// The log's own account, budget included.
    pub cursor: Cursor,
    /// Sums since the worker began.
    pub sums: Sums,
    /// Partitions of the topic; 0: not known yet.
    pub partitions: usize,
    /// What stops rows, if anything does.
    pub trouble: Option<TroubleView>,
    /// What is worth knowing, newest last, at most [`NOTES_MAX`].
    pub notes: Vec<TroubleView>,
    /// librdkafka's own figures.
    pub client: ClientStats,
    /// What a stop had to leave undone.
    pub aborted: Option<String>,
}

/// One sink.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SinkView {
    /// Its name.
    pub name: String,
    /// `kafka` or `remote_write`.
    pub kind: &'static str,
    /// Where to: topic and brokers, or a URL, for people.
    pub target: String,
    /// `rows`, `row` or `adapter`; of a store the version of Remote Write.
    pub format: &'static str,
    /// `exactly_once` or `at_least_once`.
    pub delivery: &'static str,
    /// Its shards.
    pub shards: Vec<ShardView>,
    /// Rows that slow readers of `tap` missed.
    pub tap_missed: u64,
}

/// Notes kept.
pub const NOTES_MAX: usize = 8;

/// A worker's account of itself. Logs what changes, once.
#[derive(Debug)]
pub struct Report {
    sink: String,
    /// Guards plain values only; nobody blocks or calls out while holding it.
    view: Mutex<ShardView>,
}

impl Report {
    /// For one sink in one shard.
    pub fn new(sink: &str, shard: u16) -> Report {
        Report { sink: sink.to_owned(), view: Mutex::new(ShardView { shard, ..ShardView::default() }) }
    }

    /// For whoever goes on in the place of the one that wrote this: what was counted and noted, and who writes to the former one is not heard any more.
    pub fn heir(&self) -> Report {
        Report { sink: self.sink.clone(), view: Mutex::new(self.view()) }
    }

    /// A copy.
    pub fn view(&self) -> ShardView {
        self.lock().clone()
    }

    /// Changes something that is worth no line in the log.
    pub fn change(&self, change: impl FnOnce(&mut ShardView)) {
        change(&mut self.lock());
    }

    /// Something stops rows; logged unless it is what was wrong before.
    pub fn trouble(&self, trouble: &Trouble, now: i64) {
        let mut view = self.lock();
        view.phase = Phase::Troubled;
        let (text, code) = (trouble.to_string(), trouble.code());
        // The same kind of trouble in other words (another broker's refusal, more seconds) is no news for the log.
        let known = view.trouble.as_ref().filter(|shown| shown.code == code).map(|shown| shown.since);
        view.trouble = Some(TroubleView { code, text: text.clone(), remedy: trouble.remedy(), since: known.unwrap_or(now) });
        let shard = view.shard;
        drop(view);
        if known.is_none() {
            tracing::error!(sink = %self.sink, shard, code, error = %text, remedy = %trouble.remedy(), "the sink does not deliver");
        }
    }

    /// Something worth knowing; logged unless it stands there already.
    pub fn note(&self, note: &Trouble, now: i64) {
        let mut view = self.lock();
        let (text, code) = (note.to_string(), note.code());
        let known = view.notes.iter().any(|shown| shown.code == code);
        view.notes.retain(|shown| shown.code != code);
        if view.notes.len() == NOTES_MAX {
            view.notes.remove(0);
        }
        view.notes.push(TroubleView { code, text: text.clone(), remedy: note.remedy(), since: now });
        let shard = view.shard;
        drop(view);
        if !known {
            tracing::warn!(sink = %self.sink, shard, code, remedy = %note.remedy(), "{text}");
        }
    }

    /// Rows flow (again).
    pub fn well(&self, now: i64) {
        let mut view = self.lock();
        view.phase = Phase::Running;
        let gone = view.trouble.take();
        let shard = view.shard;
        drop(view);
        if let Some(gone) = gone {
            tracing::info!(sink = %self.sink, shard, was = gone.code, seconds = (now - gone.since) / 1000, "the sink delivers again");
        }
    }

    fn lock(&self) -> MutexGuard<'_, ShardView> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_keeps_its_beginning_and_goes_when_rows_flow() {
        let report = Report::new("platform", 1);
        let down = |detail: &str| Trouble::Unreachable { brokers: "k:9092".into(), detail: detail.into() };
        report.trouble(&down("refused"), 1000);
        report.trouble(&down("timed out"), 5000);
        let shown = report.view().trouble.unwrap();
        assert_eq!((shown.code, shown.since), ("unreachable", 1000));
        assert!(shown.text.contains("timed out") && shown.remedy.contains("brokers run"));
        report.trouble(&Trouble::TopicMissing { topic: "t".into() }, 6000);
        assert_eq!(report.view().trouble.unwrap().since, 6000);
        report.well(7000);
        assert_eq!((report.view().trouble, report.view().phase), (None, Phase::Running));
    }

    #[test]
    fn notes_are_few_and_one_of_a_kind() {
        let report = Report::new("platform", 1);
        for rows in 1..20 {
            report.note(&Trouble::RowsTooLarge { topic: "t".into(), rows }, 0);
        }
        assert_eq!(report.view().notes.len(), 1);
        assert!(report.view().notes[0].text.starts_with("19 rows"));
    }
}

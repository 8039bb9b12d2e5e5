//! Samples of looks on their way: written as remote write with the labels of their targets, gathered to requests, and kept in a bounded queue while nobody takes
//! them. With them go the ends of series that are there no more (`written`). Left out on purpose: who looks (`jobs`), and where samples go (`app` says).

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::clock;
use crate::probe::outcome::Label;
use crate::probe::outcome::Metric;
use crate::probe::plan::Plan;
use crate::probe::targets::Target;
use crate::probe::written::End;
use crate::probe::written::Written;
use crate::wire::encode::Encoder;
use crate::wire::encode::NewSeries;
use crate::wire::encode::Sample;
use crate::wire::pack;
use crate::wire::remote_write::Protocol;

/// Samples of a request, and how long the first one waits for more.
const A_REQUEST: usize = 5_000;
const GATHER: Duration = Duration::from_millis(250);
/// Requests that wait while samples are not taken, all but the last full: a quarter of an hour of a thousand targets with twenty samples every 15 s.
const WAITING: usize = 256;
/// Between two tries then.
const AGAIN: Duration = Duration::from_secs(1);

/// Takes packed samples; an error: not now.
pub type Deliver = Arc<dyn Fn(Bytes) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// Samples on their way.
pub struct Out {
    deliver: Deliver,
    runtime: Handle,
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
    /// Nothing yet. `runtime`: where it is delivered.
    pub fn new(deliver: Deliver, runtime: Handle) -> Out {
        let (encoder, written) = (Encoder::new(Protocol::V2), Written::default());
        Out { deliver, runtime, encoder, samples: 0, since: None, waiting: VecDeque::new(), sending: JoinSet::new(), dropped: 0, written }
    }

    /// Samples of one look, and the end of series that it does not show any more.
    pub fn push(&mut self, target: &Target, slot: i64, metrics: &[&Metric]) {
        let mut all = Vec::new();
        for metric in metrics {
            self.sample(&target.labels, (metric.name, &metric.labels), Sample::new(slot, metric.value), &mut all);
        }
        if let Some(end) = self.written.wrote(target, slot, metrics) {
            self.end(&end);
        }
        self.turn();
    }

    /// There are other targets than before: the series of those that are gone end.
    pub fn gone(&mut self, plan: &Plan, now: i64, nodes: (u64, &[u64])) {
        for end in self.written.gone(plan, now, nodes) {
            self.end(&end);
            self.turn();
        }
    }

    fn end(&mut self, end: &End) {
        let mut all = Vec::new();
        for series in &end.series {
            self.sample(&end.labels, (series.name, &series.labels), Sample::stale(end.at), &mut all);
        }
    }

    /// `all`: room for labels.
    fn sample<'a>(
        &mut self,
        own: &'a [(String, String)],
        (name, labels): (&'a str, &'a [Label]),
        sample: Sample,
        all: &mut Vec<(&'a str, &'a str)>,
    ) {
        all.clear();
        all.extend(labels.iter().map(|(name, value)| (&**name, &**value)));
        all.extend(own.iter().map(|(name, value)| (&**name, &**value)));
        all.retain(|(_, value)| !value.is_empty());
        all.push(("__name__", name));
        // In order, as remote write wants them; a target's own labels win, which stand behind.
        all.sort_by_key(|(name, _)| *name);
        all.dedup_by(|later, first| {
            let same = later.0 == first.0;
            if same {
                *first = *later;
            }
            same
        });
        self.encoder.push(&NewSeries { labels: all, samples: &[sample], ..NewSeries::default() });
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
        self.encoder.finish(&mut raw);
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
    pub fn send(&mut self, now: Instant) {
        // While others wait it can as well become full.
        if self.waiting.is_empty() && self.since.is_some_and(|since| now.saturating_duration_since(since) >= GATHER) {
            self.close();
        }
        if !self.sending.is_empty() {
            return;
        }
        let Some(first) = self.waiting.pop_front() else { return };
        let deliver = Arc::clone(&self.deliver);
        let send = async move {
            let Err(text) = deliver(first.clone()).await else { return Ok(()) };
            tokio::time::sleep(AGAIN).await;
            Err((first, text))
        };
        self.sending.spawn_on(send, &self.runtime);
    }

    /// Waits for what is on its way; for ever where nothing is.
    pub async fn sent(&mut self) {
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
    use crate::probe::targets;
    use crate::probe::targets::Ready;
    use crate::wire::pack::Bounds;
    use crate::wire::pack::Packing;
    use crate::wire::remote_write::Limits;
    use crate::wire::remote_write::Walker;
    use std::borrow::Cow;
    use std::sync::Mutex;

    fn out(deliver: Deliver) -> Out {
        Out::new(deliver, Handle::current())
    }

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
        let mut out = out(Arc::new(move |packed| {
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
        let mut out = out(Arc::new(|_| Box::pin(async { Ok(()) })));
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
        let mut out = out(Arc::new(move |packed| {
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
}

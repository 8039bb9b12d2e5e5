//! A shard that is a list in memory: what a sink reads, and what it wrote down, for tests; and how they wait for a sink and look at it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::time::Duration;

use crate::clock;
use crate::forward::Sink;
use crate::forward::rows::Row;
use crate::forward::rows::Value;
use crate::forward::source::Cursor;
use crate::forward::source::Dead;
use crate::forward::source::Source;
use crate::forward::source::SourceError;
use crate::forward::source::Standing;
use crate::forward::source::Step;
use crate::forward::view::ShardView;
use crate::forward::view::TroubleView;
use crate::model::Pick;
use crate::shard::emission::Emission;
use crate::wire::body::Body;
use crate::wire::body::Picked;
use crate::wire::encode as request;
use crate::wire::encode::Encoder;
use crate::wire::encode::Exemplar;
use crate::wire::encode::NewSeries;
use crate::wire::remote_write::Label;
use crate::wire::remote_write::Protocol;
use crate::wire::remote_write::Walker;

/// One row of the list: series `s`, counting `n`, and how long its filling label is.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub series: u64,
    pub number: u64,
    pub filling: usize,
    pub exemplar: bool,
}

#[derive(Default)]
struct State {
    emissions: BTreeMap<u64, (Arc<Emission>, Arc<Vec<Sample>>)>,
    standing: Standing,
    cursor: Cursor,
    dead: Vec<Dead>,
    steps: Vec<Step>,
    next_step: Option<SourceError>,
    gone: bool,
    /// One emission after the other is of one of these in turn; none: all are nobody's.
    tenants: Vec<String>,
}

#[derive(Default)]
pub struct Shard {
    state: Mutex<State>,
    news: Condvar,
}

impl Shard {
    pub fn new() -> Arc<Shard> {
        let shard = Shard::default();
        {
            let mut state = shard.state.lock().unwrap();
            state.standing.leads = true;
            state.standing.oldest_emission = 1;
            state.cursor.epoch = 1;
        }
        Arc::new(shard)
    }

    /// From the first emission on each is of one of these in turn.
    pub fn of_tenants(&self, tenants: &[&str]) {
        self.state.lock().unwrap().tenants = tenants.iter().map(|tenant| (*tenant).to_owned()).collect();
    }

    fn tenant(&self, emission: u64) -> String {
        let state = self.state.lock().unwrap();
        let number = (emission as usize - 1).checked_rem(state.tenants.len());
        number.map(|number| state.tenants[number].clone()).unwrap_or_default()
    }

    /// Emits `count` samples, spread over `series` series, each of which counts up from 0.
    pub fn emit(&self, series: u64, count: u64) {
        let mut state = self.state.lock().unwrap();
        let start = state.standing.samples;
        let samples = (start..start + count).map(|n| Sample { series: n % series, number: n / series, filling: 200, exemplar: false });
        add(&mut state, samples.collect());
        self.news.notify_all();
    }

    /// The same as an emission of so many milliseconds ago (below 0).
    pub fn emit_at(&self, series: u64, count: u64, ago: i64) {
        self.emit(series, count);
        let mut state = self.state.lock().unwrap();
        let last = state.standing.last_emission;
        let (emission, _) = state.emissions.get_mut(&last).unwrap();
        Arc::make_mut(emission).at += ago;
    }

    pub fn emit_these(&self, samples: Vec<Sample>) {
        add(&mut self.state.lock().unwrap(), samples);
        self.news.notify_all();
    }

    /// Emits these as older than what was emitted of their series.
    pub fn emit_late(&self, samples: Vec<Sample>) {
        let mut state = self.state.lock().unwrap();
        add(&mut state, samples);
        let last = state.standing.last_emission;
        let (emission, _) = state.emissions.get_mut(&last).unwrap();
        Arc::get_mut(emission).unwrap().picks.iter_mut().for_each(|pick| pick.late = true);
        self.news.notify_all();
    }

    pub fn cursor_now(&self) -> Cursor {
        self.state.lock().unwrap().cursor
    }

    /// An operator holds the sink, or lets it go on.
    pub fn pause(&self, paused: bool) {
        let mut state = self.state.lock().unwrap();
        state.cursor.paused = paused;
        state.standing.sinks_version += 1;
        self.news.notify_all();
    }

    pub fn steps(&self) -> Vec<Step> {
        self.state.lock().unwrap().steps.clone()
    }

    pub fn dead(&self) -> Vec<Dead> {
        self.state.lock().unwrap().dead.clone()
    }

    pub fn last(&self) -> u64 {
        self.state.lock().unwrap().standing.last_emission
    }

    /// The next step has this outcome (`Unknown`: it is done all the same).
    pub fn next_step(&self, outcome: SourceError) {
        self.state.lock().unwrap().next_step = Some(outcome);
    }

    /// Nothing that is asked of the shard returns until this is dropped.
    pub fn hold(&self) -> impl Sized + '_ {
        self.state.lock().unwrap()
    }

    pub fn lead(&self, leads: bool) {
        self.state.lock().unwrap().standing.leads = leads;
        self.news.notify_all();
    }

    fn samples(&self, emission: &Emission) -> Result<Option<Arc<Vec<Sample>>>, SourceError> {
        let state = self.state.lock().unwrap();
        if state.gone {
            return Ok(None);
        }
        let of = state.emissions.get(&emission.number).ok_or(SourceError::Unreadable("no such emission".into()))?;
        Ok(Some(Arc::clone(&of.1)))
    }

    /// The same samples as a request, in which they came from a replica.
    fn body(&self, emission: &Emission) -> Result<Option<Body>, SourceError> {
        let Some(samples) = self.samples(emission)? else { return Ok(None) };
        let mut encoder = Encoder::new(Protocol::V1);
        for sample in samples.iter() {
            let (series, filling) = (sample.series.to_string(), "x".repeat(sample.filling));
            let labels = [("__name__", "counted"), ("__replica__", "a"), ("filling", filling.as_str()), ("s", series.as_str())];
            let (time, value) = (1_790_000_000_000 + sample.number as i64, sample.number as f64);
            let exemplars = [Exemplar { labels: &[("trace_id", "7")], bits: value.to_bits(), time }];
            let samples = [request::Sample::new(time, value)];
            let (samples, exemplars) = if sample.exemplar { (&samples[..0], &exemplars[..]) } else { (&samples[..], &exemplars[..0]) };
            encoder.push(&NewSeries { labels: &labels, samples, exemplars, ..NewSeries::default() });
        }
        let mut raw = Vec::new();
        encoder.finish(&mut raw);
        Ok(Some(Body { protocol: Protocol::V1, raw, strip: vec!["__replica__".to_owned()], tenant: self.tenant(emission.number) }))
    }

    pub fn lose_bodies(&self, gone: bool) {
        self.state.lock().unwrap().gone = gone;
    }

    /// The budget's cut, as an entry does it.
    pub fn cut(&self, up_to: u64) {
        let mut state = self.state.lock().unwrap();
        let dropped =
            state.emissions.range(state.cursor.emission + 1..=up_to).map(|(_, (emission, _))| emission.picks.len() as u64).sum::<u64>();
        state.cursor.dropped += dropped;
        state.cursor.epoch += 1;
        state.cursor.emission = up_to;
        state.standing.oldest_emission = up_to + 1;
        state.standing.sinks_version += 1;
        state.emissions = state.emissions.split_off(&(up_to + 1));
        self.news.notify_all();
    }
}

fn add(state: &mut State, samples: Vec<Sample>) {
    let number = state.standing.last_emission + 1;
    let picks = (0..samples.len()).map(|item| Pick { item: item as u32, late: false }).collect();
    let emission = Emission {
        number,
        entry: number,
        at: crate::clock::wall_ms(),
        samples_before: state.standing.samples,
        picks,
        ..Emission::default()
    };
    state.standing.samples += samples.len() as u64;
    state.standing.last_emission = number;
    state.emissions.insert(number, (Arc::new(emission), Arc::new(samples)));
}

impl Source for Shard {
    fn standing(&self) -> Standing {
        self.state.lock().unwrap().standing
    }

    fn wait(&self, seen: &Standing, at_most: Duration) {
        let state = self.state.lock().unwrap();
        let _ = self.news.wait_timeout_while(state, at_most, |state| state.standing == *seen).unwrap();
    }

    fn cursor(&self) -> Result<Option<Cursor>, SourceError> {
        Ok(Some(self.cursor_now()))
    }

    fn emissions(&self, after: u64, samples: usize) -> Result<Vec<Arc<Emission>>, SourceError> {
        let state = self.state.lock().unwrap();
        let mut some = Vec::new();
        let mut count = 0;
        for (emission, _) in state.emissions.range(after + 1..).map(|(_, pair)| pair) {
            some.push(Arc::clone(emission));
            count += emission.picks.len();
            if count >= samples {
                break;
            }
        }
        Ok(some)
    }

    fn rows(&self, emission: &Emission, visit: &mut dyn FnMut(&Row<'_>)) -> Result<Option<u64>, SourceError> {
        let Some(samples) = self.samples(emission)? else { return Ok(None) };
        let tenant = self.tenant(emission.number);
        for (item, sample) in samples.iter().enumerate() {
            let series = sample.series.to_string();
            let filling = "x".repeat(sample.filling);
            let labels = [Label::new(0, "__name__", "counted"), Label::new(0, "filling", &filling), Label::new(0, "s", &series)];
            let value = if sample.exemplar { Value::Exemplar } else { Value::Float(sample.number as f64) };
            let time = 1_790_000_000_000 + sample.number as i64;
            visit(&Row {
                labels: &labels,
                time,
                value,
                late: false,
                series: sample.series,
                item: item as u32,
                before: None,
                tenant: &tenant,
            });
        }
        Ok(Some(0))
    }

    fn points(&self, emission: &Emission, visit: &mut dyn FnMut(&Picked<'_, '_>)) -> Result<Option<u64>, SourceError> {
        let Some(body) = self.body(emission)? else { return Ok(None) };
        let visited = body.pick(&mut Walker::new(0), &emission.picks, &mut |picked| visit(&picked)).unwrap();
        assert_eq!(visited, emission.picks.len());
        Ok(Some(0))
    }

    fn step(&self, step: Step) -> Result<(), SourceError> {
        let mut state = self.state.lock().unwrap();
        let outcome = state.next_step.take();
        if let Some(error) = outcome.clone().filter(|error| *error != SourceError::Unknown) {
            return Err(error);
        }
        if step.epoch != state.cursor.epoch || step.emission <= state.cursor.emission {
            return Err(SourceError::Void("another epoch, or a step back".into()));
        }
        state.cursor.emission = step.emission;
        state.cursor.delivered += step.delivered;
        state.cursor.filtered += step.filtered;
        state.cursor.dead += step.dead;
        state.steps.push(step);
        outcome.map_or(Ok(()), Err)
    }

    fn bury(&self, dead: Dead) -> Result<(), SourceError> {
        self.state.lock().unwrap().dead.push(dead);
        Ok(())
    }
}

/// The longest that a test waits for anything.
pub const LONG: Duration = Duration::from_secs(40);

#[track_caller]
pub fn eventually<T>(what: &str, check: impl Fn() -> Option<T>) -> T {
    let until = clock::now() + LONG;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(clock::now() < until, "it never came: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The one shard of a sink.
pub fn view(sink: &Sink) -> ShardView {
    sink.view().shards.remove(0)
}

/// A trouble of this code, as soon as the sink is in it.
pub fn trouble(sink: &Sink, code: &str) -> TroubleView {
    eventually(code, || view(sink).trouble.filter(|trouble| trouble.code == code))
}

/// Stops it; nothing may have to be aborted.
pub fn stop(sink: Sink) {
    assert_eq!(sink.stop(Duration::from_secs(10)), Vec::<String>::new());
}

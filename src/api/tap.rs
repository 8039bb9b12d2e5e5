//! Reading along: samples at a point of their way, each with what was decided of it and why, one a line.
//!
//! Nobody can read all of it: of what fits the selector every so many is shown, so that there are no more than so many a second, spread over the second; the
//! rest is counted and told once a second. Bodies are walked on a blocking thread a batch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::api::answer::Failure;
use crate::api::deps::Deps;
use crate::api::deps::Flow;
use crate::api::deps::Later;
use crate::api::deps::Part;
use crate::api::deps::Passing;
use crate::api::deps::Point;
use crate::api::deps::Rows;
use crate::api::deps::Tapped;
use crate::api::groups;
use crate::api::sinks;
use crate::clock;
use crate::model::Kind;
use crate::model::Pick;
use crate::model::tenant;
use crate::relabel::selector::Selector;
use crate::serve::Response;
use crate::wire::histogram::Histogram;
use crate::wire::remote_write::Walker;

/// Samples a second that are shown unless the query says otherwise.
const RATE: u64 = 100;
const RATE_MOST: u64 = 10_000;
const SECOND: Duration = Duration::from_secs(1);
/// A batch is walked to its end, but no more lines are made of it.
const LINES_MOST: usize = 1000;

/// A sample.
#[derive(Debug, Serialize)]
struct Line<'a> {
    time: i64,
    group: &'a str,
    replica: &'a str,
    verdict: &'a str,
    reason: &'a str,
    labels: BTreeMap<&'a str, &'a str>,
    value: Value,
}

/// What was not shown since the last line of this kind.
#[derive(Debug, Serialize)]
struct LeftOut {
    /// Samples that fit, beyond the rate.
    left_out: u64,
    /// Samples or requests that were not even looked at: the reader, or this node, was too slow.
    missed: u64,
}

/// `GET /api/v1/tap`.
pub fn tap(deps: &Deps, query: &str) -> Result<Response, Failure> {
    let (mut tapped, mut fitting, mut rate) = (Tapped { point: Point::Passed, group: None }, Wanted::default(), RATE);
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match (&*key, &*value) {
            ("at", "in") => tapped.point = Point::In,
            ("at", "passed") => tapped.point = Point::Passed,
            ("at", "waiting") => tapped.point = Point::Waiting,
            ("at", "covered") => tapped.point = Point::Covered,
            ("group", group) => tapped.group = Some(group.to_owned()),
            ("tenant", tenant) => fitting.tenant = Some(tenant.to_owned()),
            ("match", text) => fitting.selector = Some(parsed(text)?),
            ("rate", text) => rate = rate_of(text)?,
            _ => {
                let text = format!("{key}={value} is not understood");
                let remedy = "the query takes at=in, passed, waiting or covered, group=NAME, tenant=NAME, match=SELECTOR, rate=NUMBER; a sink has a path of its own";
                return Err(Failure::wrong(text, remedy));
            }
        }
    }
    if let Some(group) = tapped.group.as_deref().filter(|_| tapped.point != Point::In) {
        groups::find(&*deps.node, group)?;
    }
    let lines = Lines { flow: (deps.flow)(tapped), wanted: Arc::new(fitting), pace: Pace::new(rate, clock::now()) };
    Ok(sinks::stream(Box::new(lines), deps.stopping.clone()))
}

/// A selector of the query.
pub fn parsed(text: &str) -> Result<Selector, Failure> {
    Selector::parse(text).map_err(|error| {
        Failure::wrong(format!("match: {error}"), r#"write a selector as PromQL has them: up{job="node",instance=~"a.*"}"#)
    })
}

fn rate_of(text: &str) -> Result<u64, Failure> {
    let rate = text.parse().ok().filter(|rate| (1..=RATE_MOST).contains(rate));
    rate.ok_or_else(|| Failure::wrong(format!("rate={text} is not understood"), "write a number from 1 to 10000: samples a second"))
}

/// How many are shown.
#[derive(Debug)]
struct Pace {
    rate: u64,
    since: Instant,
    /// Of those that fit every so many is shown.
    every: u64,
    fit: u64,
    shown: u64,
    left_out: u64,
    missed: u64,
}

impl Pace {
    fn new(rate: u64, now: Instant) -> Pace {
        Pace { rate, since: now, every: 1, fit: 0, shown: 0, left_out: 0, missed: 0 }
    }

    /// One fits: whether it is shown.
    fn takes(&mut self) -> bool {
        self.fit += 1;
        let takes = self.fit.is_multiple_of(self.every) && self.shown < self.rate;
        if takes {
            self.shown += 1;
        } else {
            self.left_out += 1;
        }
        takes
    }

    /// A second is over: what was left out, if anything was.
    fn turn(&mut self, now: Instant) -> Option<LeftOut> {
        // Where a scrape brings everything at once the next one will, too.
        self.every = (self.fit / self.rate).max(1);
        (self.since, self.fit, self.shown) = (now, 0, 0);
        let left_out = LeftOut { left_out: std::mem::take(&mut self.left_out), missed: std::mem::take(&mut self.missed) };
        (left_out.left_out + left_out.missed > 0).then_some(left_out)
    }
}

/// Which samples are shown.
#[derive(Debug, Default)]
struct Wanted {
    tenant: Option<String>,
    selector: Option<Selector>,
}

struct Lines {
    flow: Box<dyn Flow>,
    wanted: Arc<Wanted>,
    pace: Pace,
}

impl Rows for Lines {
    fn next(&mut self) -> Later<'_, Option<Bytes>> {
        Box::pin(async {
            loop {
                let left = (self.pace.since + SECOND).saturating_duration_since(clock::now());
                let passing = tokio::select! {
                    biased;
                    () = tokio::time::sleep(left) => {
                        match self.pace.turn(clock::now()) {
                            Some(left_out) => return Some(serde_json::to_vec(&left_out).unwrap_or_default().into()),
                            None => continue,
                        }
                    }
                    passing = self.flow.next() => passing?,
                };
                let wanted = Arc::clone(&self.wanted);
                let mut pace = std::mem::replace(&mut self.pace, Pace::new(1, clock::now()));
                let walked = tokio::task::spawn_blocking(move || {
                    let lines = walk(&passing, &wanted, &mut pace);
                    (lines, pace)
                });
                let (lines, pace) = walked.await.ok()?;
                self.pace = pace;
                if !lines.is_empty() {
                    return Some(lines.into());
                }
            }
        })
    }
}

fn walk(passing: &Passing, wanted: &Wanted, pace: &mut Pace) -> Vec<u8> {
    let (mut out, mut walker, mut lines) = (Vec::new(), Walker::new(0), 0);
    pace.missed += passing.missed;
    let of_tenant = |part: &&Part| wanted.tenant.as_deref().is_none_or(|wanted| wanted == part.body.tenant);
    for part in passing.parts.iter().filter(of_tenant) {
        let picks: Vec<Pick> = part.items.iter().map(|(item, _)| Pick { item: *item, late: false }).collect();
        let mut marks = part.items.iter();
        // It was read at the door, so it cannot fail here.
        let _ = part.body.pick(&mut walker, &picks, &mut |picked| {
            let Some((_, mark)) = marks.find(|(item, _)| *item == picked.item) else { return };
            let value = |name: &str| match name {
                tenant::LABEL => Some(picked.tenant).filter(|tenant| !tenant.is_empty()),
                name => picked.labels.iter().find(|label| label.name == name).map(|label| label.value),
            };
            if wanted.selector.as_ref().is_some_and(|selector| !selector.takes(value)) || lines >= LINES_MOST || !pace.takes() {
                return;
            }
            lines += 1;
            let line = Line {
                time: picked.point.time,
                group: &part.group,
                replica: &part.replica,
                verdict: mark.verdict,
                reason: mark.reason,
                labels: picked.labels.iter().map(|label| (label.name, label.value)).collect(),
                value: shown(picked.point.kind, picked.point.bits, picked.point.raw),
            };
            if !out.is_empty() {
                out.push(b'\n');
            }
            // Writing to memory cannot fail.
            let _ = serde_json::to_writer(&mut out, &line);
        });
    }
    out
}

/// A value as JSON: a number, or what JSON has no number for as text.
fn shown(kind: Kind, bits: u64, raw: &[u8]) -> Value {
    let number = f64::from_bits(bits);
    match kind {
        Kind::Stale => "stale".into(),
        Kind::Histogram => {
            let mut histogram = Histogram::default();
            match histogram.decode(raw) {
                Ok(()) => serde_json::json!({ "histogram": { "sum": f64::from_bits(histogram.sum_bits) } }),
                Err(_) => "histogram".into(),
            }
        }
        Kind::Float | Kind::Exemplar if number.is_finite() => number.into(),
        Kind::Float | Kind::Exemplar if number.is_nan() => "NaN".into(),
        Kind::Float | Kind::Exemplar => if number > 0.0 { "+Inf" } else { "-Inf" }.into(),
    }
}

/// Rows of a sink that fit a selector: those that cannot be read do not.
pub struct Fitting {
    /// All rows.
    pub rows: Box<dyn Rows>,
    /// Which are wanted.
    pub selector: Selector,
}

impl Rows for Fitting {
    fn next(&mut self) -> Later<'_, Option<Bytes>> {
        Box::pin(async {
            loop {
                let row = self.rows.next().await?;
                if fits(&self.selector, &row) {
                    return Some(row);
                }
            }
        })
    }
}

/// Labels stand in a row of `rows` in `labels` and, as the sink's columns, beside it; in one of `adapter` all in `labels`.
fn fits(selector: &Selector, row: &[u8]) -> bool {
    let Ok(row) = serde_json::from_slice::<Value>(row) else { return false };
    selector.takes(|name| {
        let name_of_metric = if name == "__name__" { row["name"].as_str() } else { None };
        name_of_metric.or(row["labels"][name].as_str()).or(row[name].as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::deps::Mark;
    use crate::wire::body::Body;
    use crate::wire::encode::Encoder;
    use crate::wire::encode::NewSeries;
    use crate::wire::encode::Sample;
    use crate::wire::remote_write::Protocol;

    fn passing(series: usize) -> Passing {
        let mut encoder = Encoder::new(Protocol::V1);
        for number in 0..series {
            let n = number.to_string();
            let samples = [Sample::new(1000, number as f64)];
            encoder.push(&NewSeries {
                labels: &[("__name__", "up"), ("__replica__", "a"), ("n", &n)],
                samples: &samples,
                ..NewSeries::default()
            });
        }
        let mut raw = Vec::new();
        encoder.finish(&mut raw);
        let items = (0..series as u32).map(|item| (item, Mark { verdict: "covered", reason: "repeated" })).collect();
        let body = Arc::new(Body { protocol: Protocol::V1, raw, strip: vec!["__replica__".to_owned()], tenant: String::new() });
        Passing { parts: vec![Part { group: "g".into(), replica: "a".into(), body, items }], missed: 3 }
    }

    #[test]
    fn a_line_says_what_was_decided_and_why() {
        let wanted = Wanted { selector: Some(Selector::parse(r#"{n=~"1|7"}"#).unwrap()), tenant: None };
        let mut pace = Pace::new(10, clock::now());
        let lines = String::from_utf8(walk(&passing(8), &wanted, &mut pace)).unwrap();
        let first = r#"{"time":1000,"group":"g","replica":"a","verdict":"covered","reason":"repeated","labels":{"__name__":"up","n":"1"},"value":1.0}"#;
        assert_eq!(lines.lines().next(), Some(first));
        assert_eq!(lines.lines().count(), 2);
        let left_out = pace.turn(clock::now()).unwrap();
        assert_eq!((left_out.left_out, left_out.missed), (0, 3));
    }

    #[test]
    fn a_tenants_samples_are_shown_alone() {
        let shown = |tenant: Option<&str>, selector: Option<&str>| {
            let mut passing = passing(1);
            let body = Body { tenant: "a".to_owned(), ..(*passing.parts[0].body).clone() };
            passing.parts.push(Part {
                group: "a::g".into(),
                replica: "a".into(),
                body: Arc::new(body),
                items: passing.parts[0].items.clone(),
            });
            let selector = selector.map(|text| Selector::parse(text).unwrap());
            let wanted = Wanted { tenant: tenant.map(Into::into), selector };
            let lines = String::from_utf8(walk(&passing, &wanted, &mut Pace::new(10, clock::now()))).unwrap();
            lines.lines().map(|line| if line.contains("a::g") { 'a' } else { '-' }).collect::<String>()
        };
        assert_eq!([shown(None, None), shown(Some("a"), None), shown(Some(""), None), shown(Some("b"), None)], ["-a", "a", "-", ""]);
        assert_eq!([shown(None, Some(r#"{__tenant__="a"}"#)), shown(None, Some(r#"{__tenant__=""}"#))], ["a", "-"]);
    }

    #[test]
    fn no_more_than_so_many_a_second_are_shown_and_the_rest_is_told() {
        let mut pace = Pace::new(10, clock::now());
        assert_eq!(String::from_utf8(walk(&passing(1000), &Wanted::default(), &mut pace)).unwrap().lines().count(), 10);
        assert_eq!(pace.turn(clock::now()).unwrap().left_out, 990);
        // The next second they are spread: every hundredth.
        let lines = String::from_utf8(walk(&passing(1000), &Wanted::default(), &mut pace)).unwrap();
        assert!(lines.lines().count() == 10 && lines.contains(r#""n":"999""#), "{lines}");
        pace.turn(clock::now());
        assert!(pace.turn(clock::now()).is_none(), "nothing was left out");
    }

    #[test]
    fn rows_of_sinks_are_selected_by_name_labels_and_columns() {
        let fits = |selector: &str, row: &str| super::fits(&Selector::parse(selector).unwrap(), row.as_bytes());
        let row = r#"{"ts":1,"name":"up","v":1,"job":"node","labels":{"pod":"a"}}"#;
        assert!(fits(r#"up{job="node",pod=~"a|b",zone=""}"#, row));
        assert!(!fits(r#"down"#, row) && !fits("up", "no JSON"));
        assert!(fits("up{pod=\"a\"}", r#"{"labels":{"__name__":"up","pod":"a"},"value":"1"}"#));
    }

    #[test]
    fn values_that_json_cannot_say_are_words() {
        assert_eq!(shown(Kind::Float, f64::NAN.to_bits(), &[]), "NaN");
        assert_eq!(shown(Kind::Float, f64::NEG_INFINITY.to_bits(), &[]), "-Inf");
        assert_eq!(shown(Kind::Stale, crate::model::STALE_NAN, &[]), "stale");
    }
}

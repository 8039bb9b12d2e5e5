//! A sample through a configuration, without a node: which sinks take it, which rule does what, and what goes out. `sluice sink explain` and
//! `sluice test` show it.

use crate::api::deps::Explained;
use crate::api::deps::Relabelled;
use crate::app::check;
use crate::clock;
use crate::config::sinks::Sink;
use crate::forward::preview;
use crate::forward::shape::Left;
use crate::model::Before;
use crate::model::tenant;
use crate::relabel::counters::found;
use crate::relabel::selector::Selector;

/// A sample that somebody wrote down.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// By name.
    pub labels: Vec<(String, String)>,
    /// Its value.
    pub value: f64,
    /// Milliseconds since 1970.
    pub time: i64,
    /// Whose it is: written as the label `__tenant__`; empty: nobody's.
    pub tenant: String,
    /// What was forwarded of its series before.
    pub before: Option<Before>,
}

impl Sample {
    /// Reads a sample; `tenant`: whose it is, instead of a label.
    pub fn of(text: &str, tenant: Option<&str>) -> Result<Sample, String> {
        let mut sample = Sample::parse(text)?;
        if let Some(tenant) = tenant {
            if !tenant::legal(tenant) {
                return Err(format!("{tenant:?} is no tenant: {}", tenant::RULE));
            }
            tenant.clone_into(&mut sample.tenant);
        }
        Ok(sample)
    }

    /// Reads `up{job="node"}`, and behind it a value (1 otherwise) and a time in milliseconds (now otherwise); and, behind the word `after`, value and
    /// time of the sample before it.
    pub fn parse(text: &str) -> Result<Sample, String> {
        let (selector, rest) = Selector::begin(text).map_err(|wrong| format!("{text:?} is no series: {wrong}"))?;
        let labels = selector.labels().map_err(|label| format!("{text:?} is no series: label `{label}` has not one value"))?;
        if labels.is_empty() {
            return Err(format!("{text:?} is no series: it has no label; write one as PromQL does: 'up{{job=\"node\"}}'"));
        }
        let mut words = rest.split_whitespace();
        let number = |word: &str| match word {
            "NaN" => Ok(f64::NAN),
            "+Inf" | "Inf" => Ok(f64::INFINITY),
            "-Inf" => Ok(f64::NEG_INFINITY),
            word => word.parse().map_err(|_| format!("{word:?} is no value")),
        };
        let moment = |word: &str| {
            let time = word.parse::<i64>();
            time.map_err(|_| format!("{word:?} is no time: write milliseconds since 1970, as Prometheus does"))
        };
        let value = words.next().map_or(Ok(1.0), number)?;
        let time = words.next().map_or(Ok(clock::wall_ms()), moment)?;
        let before = match (words.next(), words.next(), words.next()) {
            (None, ..) => None,
            (Some("after"), Some(value), Some(time)) => Some(Before { bits: number(value)?.to_bits(), time: moment(time)? }),
            (Some("after"), ..) => return Err("behind `after` stand value and time of the sample before".to_owned()),
            (Some(more), ..) => return Err(format!("{more:?} is too much: a sample is a series, a value and a time")),
        };
        if let Some(more) = words.next() {
            return Err(format!("{more:?} is too much: a sample is a series, a value and a time"));
        }
        let mut labels: Vec<(String, String)> = labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let place = labels.iter().position(|(name, _)| name == tenant::LABEL);
        let tenant = place.map(|place| labels.remove(place).1).unwrap_or_default();
        if !tenant.is_empty() && !tenant::legal(&tenant) {
            return Err(format!("{tenant:?} is no tenant: {}", tenant::RULE));
        }
        Ok(Sample { labels, value, time, tenant, before })
    }
}

/// What becomes of the sample at a sink. An error: the sink's settings are wrong.
pub fn at(sink: &Sink, sample: &Sample) -> Result<Explained, String> {
    let (target, shape) = check::judged_or_why(sink)?;
    let labels: Vec<(&str, &str)> = borrowed(&sample.labels);
    let mut before: Option<Vec<(String, String)>> = None;
    let mut steps = Vec::new();
    let name = |number: usize| format!("relabel_configs[{number}]");
    let action = |number: usize| sink.shape.rules.get(number).and_then(|rule| rule.action.clone()).unwrap_or_else(|| "replace".to_owned());
    let outcome = shape.follow(&labels, &sample.tenant, &mut |number, behind| {
        let unchanged = match &before {
            Some(before) => *before == behind,
            None => {
                let with_external = sample.labels.iter().chain(shape.external.iter().filter(|(name, _)| !has(&sample.labels, name)));
                let mut with_external: Vec<_> = with_external.cloned().collect();
                if !sample.tenant.is_empty() {
                    with_external.push((tenant::LABEL.to_owned(), sample.tenant.clone()));
                }
                with_external.sort_unstable();
                with_external == behind
            }
        };
        if !unchanged {
            steps.push(Relabelled { rule: name(number), action: action(number), series: preview::series(&borrowed(&behind)) });
        }
        before = Some(behind);
    });
    let (kind, place) = (target.kind().to_owned(), target.place());
    let mut explained = Explained { sink: sink.name.clone(), kind, target: place, steps, taken: outcome.is_ok(), ..Explained::default() };
    match outcome {
        Ok((labels, tenant)) => {
            let labels = borrowed(&labels);
            explained.tenant = target.tenant_of(&tenant);
            explained.series = Some(preview::series(&labels));
            let before = sample.before.filter(|_| {
                shape.counts(|name| if name == tenant::LABEL { Some(sample.tenant.as_str()) } else { found(&sample.labels, name) })
            });
            explained.record = Some(preview::record(&target, &labels, (sample.value, sample.time), before));
        }
        Err(Left::Unmatched) => explained.why = Some("no selector of `match` takes it".to_owned()),
        Err(Left::Rule(number)) => explained.why = Some(format!("{} ({}) drops it", name(number), action(number))),
        Err(Left::Bare) => explained.why = Some("the rules leave it no label".to_owned()),
    }
    Ok(explained)
}

fn has(labels: &[(String, String)], name: &str) -> bool {
    found(labels, name).is_some()
}

fn borrowed(labels: &[(String, String)]) -> Vec<(&str, &str)> {
    labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const FILE: &str = r#"
listen: 127.0.0.1:9201
data_dir: /x
external_labels: { datacenter: nj1 }
sinks:
  - name: platform
    match: '{job="node"}'
    relabel_configs:
      - { source_labels: [nothing], target_label: nothing }
      - { source_labels: [instance], regex: "(.*):.*", target_label: host }
      - { source_labels: [host], regex: h2, action: drop }
    kafka: { brokers: ["127.0.0.1:9092"], topic: metrics, columns: [job] }
  - name: store
    remote_write: { url: "http://store/w" }
"#;

    fn explained(text: &str) -> Vec<Explained> {
        let config = Config::parse(FILE).unwrap();
        let sample = Sample::parse(text).unwrap();
        config.sinks.iter().map(|sink| at(sink, &sample).unwrap()).collect()
    }

    #[test]
    fn every_sink_says_what_becomes_of_a_sample() {
        let both = explained("up{job=\"node\", instance=\"h1:9100\"} 0.5 1700000000000");
        assert_eq!(both[0].steps.len(), 1, "rules that changed nothing are not told: {both:#?}");
        assert_eq!((both[0].steps[0].rule.as_str(), both[0].steps[0].action.as_str()), ("relabel_configs[1]", "replace"));
        let record =
            r#"{"ts":1700000000000,"name":"up","v":0.5,"job":"node","labels":{"datacenter":"nj1","host":"h1","instance":"h1:9100"}}"#;
        assert_eq!(both[0].record.as_deref(), Some(record));
        assert_eq!(both[1].record.as_deref(), Some("up{datacenter=\"nj1\", instance=\"h1:9100\", job=\"node\"} 0.5 1700000000000"));
        assert_eq!(explained("up{job=\"x\"}")[0].why.as_deref(), Some("no selector of `match` takes it"));
        let dropped = &explained("up{job=\"node\", instance=\"h2:1\"}")[0];
        assert_eq!(dropped.why.as_deref(), Some("relabel_configs[2] (drop) drops it"));
        assert!(!dropped.taken && dropped.record.is_none());
    }

    #[test]
    fn an_increase_is_counted_from_the_sample_before() {
        let file = FILE.replace("  - name: platform\n", "  - name: platform\n    increase: true\n");
        let record = |text: &str| {
            let config = Config::parse(&file).unwrap();
            at(&config.sinks[0], &Sample::parse(text).unwrap()).unwrap().record.unwrap()
        };
        let rose = record("a_total{job=\"node\"} 17 1700000015000 after 12 1700000000000");
        assert!(rose.starts_with(r#"{"ts":1700000015000,"name":"a_total","v":17,"d":5,"dt":15000,"job":"node","#), "{rose}");
        let anew = record("a_total{job=\"node\"} 3 1700000015000 after 12 1700000000000");
        assert!(anew.contains(r#""v":3,"d":3,"dt":15000,"#), "{anew}");
        for text in ["a_total{job=\"node\"} 17 1700000015000", "up{job=\"node\"} 1 1700000015000 after 0 1700000000000"] {
            assert!(!record(text).contains("\"d\""), "{text}");
        }
        assert!(Sample::parse("up 1 2 after 3").unwrap_err().contains("behind `after`"));
        assert!(Sample::parse("up 1 2 after 3 x").unwrap_err().contains("no time"));
    }

    #[test]
    fn what_is_no_sample_is_told() {
        let wrong = |text: &str| Sample::parse(text).unwrap_err();
        assert!(wrong("up{").contains("a label's name should stand here"), "{}", wrong("up{"));
        assert!(wrong("up{job=~\"a\"}").contains("label `job` has not one value"));
        assert!(wrong("{}").contains("has no label"));
        assert!(
            wrong("up x").contains("\"x\" is no value") && wrong("up 1 x").contains("no time") && wrong("up 1 2 3").contains("too much")
        );
        assert!(Sample::parse("up NaN").unwrap().value.is_nan());
    }
}

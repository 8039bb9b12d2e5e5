//! Alerts as webhooks bring them, known by their shape: Grafana's of unified alerting, the three that its older alerting had, Alertmanager's, a plain array as
//! for its API; and any JSON of which the configuration says what it means.
//!
//! A webhook says that an alert holds, once, and again after hours. So what it says is good for `hold`, unless it says that it is over. Which alert it is must
//! not depend on the way: Grafana's webhook and Grafana as a client of the API come to the same labels, and two replicas of it do, too. Left out on purpose:
//! signatures (`api::inputs`), an alert for each series of Grafana's older rules: they say nothing of a series that is well again.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::clock;
use crate::config::inputs::Input;
use crate::config::inputs::Mapping;
use crate::config::inputs::Part;
use crate::config::inputs::Text;
use crate::model::labels::Labels;
use crate::wire::alerts;
use crate::wire::alerts::Batch;
use crate::wire::alerts::MOST_ALERTS;
use crate::wire::alerts::ORG_ANNOTATION;
use crate::wire::alerts::Said;
use crate::wire::alerts::Unreadable;

/// The label by which Grafana says which rule an alert is of, where it is a client of the API.
const RULE_LABEL: &str = "__alert_rule_uid__";
/// Of the series that an older rule says match so many are told.
const MOST_MATCHES: usize = 20;

/// What sort of webhook it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grafana, unified alerting (8 and later).
    Grafana,
    /// Grafana, the alerting before.
    OldGrafana,
    /// Alertmanager.
    Alertmanager,
    /// An array as for the API.
    Plain,
    /// By the configuration.
    Mapped,
}

impl Kind {
    /// In JSON and logs.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Grafana => "grafana",
            Kind::OldGrafana => "grafana_legacy",
            Kind::Alertmanager => "alertmanager",
            Kind::Plain => "alerts",
            Kind::Mapped => "mapped",
        }
    }
}

/// Reads what came at `now`, ms since 1970.
pub fn read(body: &[u8], input: &Input, now: i64) -> Result<(Kind, Batch), Unreadable> {
    let hold = i64::try_from(input.hold.as_millis()).unwrap_or(i64::MAX);
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if input.mapping.is_none() && first == Some(&b'[') {
        return Ok((Kind::Plain, alerts::read(body, now, hold)?));
    }
    let value: Value = serde_json::from_slice(body).map_err(|error| Unreadable::Malformed(error.to_string()))?;
    let mut heard = Heard { batch: Batch::default(), now, hold };
    let kind = match &input.mapping {
        Some(mapping) => heard.mapped(&value, mapping).map(|()| Kind::Mapped),
        None => heard.known(&value),
    };
    Ok((kind?, heard.batch))
}

struct Heard {
    batch: Batch,
    now: i64,
    hold: i64,
}

impl Heard {
    fn known(&mut self, value: &Value) -> Result<Kind, Unreadable> {
        let rule = value.get("ruleId").is_some() && (value.get("state").is_some() || value.get("evalMatches").is_some());
        match (text(value, "version"), value.get("alerts")) {
            ("4", Some(alerts)) => self.each(alerts, |heard, alert| heard.alert(alert, None)).map(|()| Kind::Alertmanager),
            (_, Some(alerts)) if value.get("orgId").is_some() => {
                let org = shown(&value["orgId"]);
                self.each(alerts, |heard, alert| heard.alert(alert, Some(&org))).map(|()| Kind::Grafana)
            }
            _ if rule => {
                self.old_rule(value);
                Ok(Kind::OldGrafana)
            }
            _ => Err(Unreadable::Malformed(
                "it is neither Grafana's nor Alertmanager's, and no mapping says what it means (alerting.inputs, docs/alerting.md)"
                    .to_owned(),
            )),
        }
    }

    fn each(&mut self, list: &Value, mut one: impl FnMut(&mut Heard, &Value)) -> Result<(), Unreadable> {
        let list = list.as_array().ok_or_else(|| Unreadable::Malformed("its alerts are no list".to_owned()))?;
        if list.len() > MOST_ALERTS {
            return Err(Unreadable::Malformed(format!("more than {MOST_ALERTS} alerts in one request; send fewer at once")));
        }
        list.iter().for_each(|alert| one(self, alert));
        Ok(())
    }

    fn add(&mut self, said: Said) {
        self.batch.add(said, self.now, self.hold);
    }

    /// When it was over, if it is: now, unless it says that it was before.
    fn ended(&self, over: bool, at: Option<i64>) -> Option<i64> {
        over.then(|| at.map_or(self.now, |at| at.min(self.now)))
    }

    /// One of a list, Grafana's (then with its organisation) or Alertmanager's.
    fn alert(&mut self, alert: &Value, org: Option<&str>) {
        let (mut labels, mut annotations) = (pairs(&alert["labels"]), pairs(&alert["annotations"]));
        let time = |key: &str| alerts::time(text(alert, key)).ok().flatten();
        let ends = self.ended(text(alert, "status") == "resolved", time("endsAt"));
        let starts = time("startsAt").map(|starts| ends.map_or(starts, |ends| starts.min(ends)));
        if let Some(org) = org {
            let rule = text(alert, "ruleUID");
            if !rule.is_empty() {
                labels.entry(RULE_LABEL.to_owned()).or_insert_with(|| rule.to_owned());
            }
            let mut note = |name: &str, value: String| {
                if !value.is_empty() {
                    annotations.entry(name.to_owned()).or_insert(value);
                }
            };
            note(ORG_ANNOTATION, org.to_owned());
            note("__values__", shown(&alert["values"]));
            note("__value_string__", text(alert, "valueString").to_owned());
            for key in ["dashboardURL", "panelURL", "silenceURL", "imageURL"] {
                note(key, text(alert, key).to_owned());
            }
        }
        let generator = text(alert, "generatorURL").into();
        self.add(Said { labels: labels.iter().collect(), annotations: annotations.iter().collect(), generator, starts, ends });
    }

    /// A rule of Grafana's older alerting, one alert whatever it matches.
    fn old_rule(&mut self, rule: &Value) {
        let state = text(rule, "state");
        // `pending` is not yet an alert.
        if state == "pending" {
            return;
        }
        let mut labels = pairs(&rule["tags"]);
        let name = [text(rule, "ruleName"), text(rule, "title")].into_iter().find(|name| !name.is_empty()).unwrap_or("Grafana");
        labels.insert("alertname".to_owned(), name.to_owned());
        labels.insert("rule_id".to_owned(), shown(&rule["ruleId"]));
        let matches = rule["evalMatches"].as_array().map_or(&[][..], Vec::as_slice);
        let told = matches.iter().take(MOST_MATCHES).map(|one| {
            let tags: Vec<String> = pairs(&one["tags"]).iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{}{{{}}} = {}", text(one, "metric"), tags.join(", "), shown(&one["value"]))
        });
        let told = told.collect::<Vec<_>>().join("\n");
        let either =
            |new: &str, old: &str| [text(rule, new), text(rule, old)].into_iter().find(|one| !one.is_empty()).unwrap_or("").to_owned();
        let annotations = [
            ("title", text(rule, "title").to_owned()),
            ("message", text(rule, "message").to_owned()),
            ("state", state.to_owned()),
            ("matches", told),
            ("imageURL", either("imageUrl", "image_url")),
            (ORG_ANNOTATION, shown(&rule["orgId"])),
        ];
        let annotations = annotations.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let ends = self.ended(matches!(state, "ok" | "paused"), None);
        let generator = either("ruleUrl", "rule_url").into();
        self.add(Said { labels: labels.iter().collect(), annotations, generator, starts: None, ends });
    }

    fn mapped(&mut self, value: &Value, mapping: &Mapping) -> Result<(), Unreadable> {
        let found = match mapping.each.as_str() {
            "" => Some(value),
            path => at(value, path.split('.')),
        };
        let found = found.ok_or_else(|| Unreadable::Malformed(format!("nothing is at {}, where its alerts should be", mapping.each)))?;
        match found {
            Value::Array(_) => self.each(found, |heard, one| heard.by_mapping(one, mapping)),
            one => {
                self.by_mapping(one, mapping);
                Ok(())
            }
        }
    }

    fn by_mapping(&mut self, one: &Value, mapping: &Mapping) {
        let all = |texts: &[(String, Text)]| -> Labels {
            let filled = texts.iter().map(|(name, text)| (name, filled(text, one)));
            filled.filter(|(_, value)| !value.is_empty()).collect()
        };
        let over = mapping.status.as_ref().is_some_and(|status| mapping.resolved.contains(&filled(status, one)));
        let ends = self.ended(over, None);
        let said = mapping.starts.as_ref().map(|text| filled(text, one)).filter(|text| !text.is_empty());
        let starts = said.as_deref().and_then(moment);
        if let (Some(said), None) = (said, starts) {
            let said: String = said.chars().take(40).collect();
            self.batch.wrong.push(format!("{said:?} is no time; the alert is kept, as if it began now"));
        }
        let starts = starts.map(|starts| ends.map_or(starts, |ends| starts.min(ends)));
        let generator = mapping.link.as_ref().map(|text| filled(text, one)).unwrap_or_default().into();
        self.add(Said { labels: all(&mapping.labels), annotations: all(&mapping.annotations), generator, starts, ends });
    }
}

/// A text of an object; empty where there is none.
fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}

/// Names and values; what is neither text nor number nor a truth value is left out.
fn pairs(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter(|(_, value)| !value.is_object() && !value.is_array()).map(|(name, value)| (name.clone(), shown(value))).collect()
}

/// A value as text: empty for none.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What is at a path.
fn at<'v, 'p>(value: &'v Value, mut path: impl Iterator<Item = &'p str>) -> Option<&'v Value> {
    path.try_fold(value, |value, key| match value {
        Value::Array(list) => list.get(key.parse::<usize>().ok()?),
        other => other.get(key),
    })
}

/// A text with its values put in.
fn filled(text: &Text, value: &Value) -> String {
    let parts = text.0.iter().map(|part| match part {
        Part::Words(words) => words.clone(),
        Part::Value(path) => at(value, path.iter().map(String::as_str)).map(shown).unwrap_or_default(),
    });
    parts.collect()
}

/// RFC 3339, or seconds or ms since 1970.
fn moment(text: &str) -> Option<i64> {
    /// Seconds would be in the year 5138.
    const LEAST_MS: f64 = 100_000_000_000.0;
    if let Some(at) = clock::from_rfc3339(text) {
        return Some(at);
    }
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && (0.0..1e15).contains(number))?;
    Some(if number < LEAST_MS { (number * 1000.0) as i64 } else { number as i64 })
}

#[cfg(test)]
mod tests;

//! Tells one webhook of alerts, in the payload that Alertmanager's webhooks get (version 4), until it answers 2xx: from the node that leads the control shard,
//! whose state says what was told. So a restart, or another leader, tells what is open and not what was heard; only an answer that was lost leads to
//! telling something twice.
//!
//! Left out on purpose: when an alert begins (`alerts`), routes and other receivers.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;
use xxhash_rust::xxh3::xxh3_64;

use crate::clock;
use crate::config::notify::Webhook;
use crate::model::ShardId;
use crate::node::Handle;
use crate::serve::ask;
use crate::serve::ask::Place;
use crate::shard::alerts::Alert;
use crate::shard::alerts::Alerts;
use crate::shard::alerts::Change;
use crate::shard::command::Command;

/// Alerts of one request.
const A_REQUEST: usize = 100;
/// Between two tries: the least, doubled up to the most.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A request that failed.
struct Failed {
    /// The how manieth in a row.
    times: u32,
    not_before: Instant,
    why: String,
}

/// What was tried, by this process.
#[derive(Default)]
pub struct Teller {
    /// By the name of its alerts: one that is never taken holds up no other.
    failed: BTreeMap<String, Failed>,
    /// When an alert that holds was told last.
    told: BTreeMap<String, Instant>,
}

impl Teller {
    /// Why alerts are not taken.
    pub fn trouble(&self) -> Option<String> {
        self.failed.values().next().map(|failed| failed.why.clone())
    }

    /// Tells what is to be told, one request at most.
    pub async fn tell(&mut self, node: &Handle, webhook: Option<&Webhook>, sender: &str) {
        let (now, alerts) = (clock::now(), node.alerts());
        let known: (BTreeSet<&str>, BTreeSet<&str>) = alerts.all().map(|(id, alert)| (id, &*alert.said.name)).unzip();
        self.told.retain(|id, _| known.0.contains(&**id));
        self.failed.retain(|name, _| known.1.contains(&**name));
        // What another leader told, or this process before its restart, is repeated as if it had been told just now.
        for (id, _) in alerts.all().filter(|(_, alert)| alert.told && alert.ended.is_none()) {
            self.told.entry(id.to_owned()).or_insert(now);
        }
        let Some(webhook) = webhook else {
            self.failed.clear();
            write_down(node, called_off(&alerts)).await;
            return;
        };
        let due = self.due(&alerts, (now, webhook.repeat));
        let Some(name) = due.first().map(|(_, alert)| alert.said.name.clone()) else { return };
        let body = payload(&due, sender).to_string();
        let mut headers = webhook.headers.clone();
        headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
        let answer = match Place::new(&webhook.url, &webhook.tls) {
            None => Err("is no URL".to_owned()),
            Some(place) => match ask::post(&place, &headers, body.into(), webhook.timeout).await {
                Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
                Ok(answer) => Err(format!("it answers {}", answer.status)),
                Err(silence) => Err(silence.to_string()),
            },
        };
        match answer {
            Ok(()) => {
                self.failed.remove(&name);
                let holding = due.iter().filter(|(_, alert)| alert.ended.is_none());
                self.told.extend(holding.map(|(id, _)| ((*id).to_owned(), now)));
                let told: Vec<Change> = due
                    .iter()
                    .filter(|(_, alert)| alert.is_untold())
                    .map(|(id, alert)| Change::Told { id: (*id).to_owned(), ended: alert.ended.is_some() })
                    .collect();
                write_down(node, told).await;
            }
            Err(why) => {
                if self.failed.get(&name).is_none_or(|failed| failed.why != why) {
                    tracing::warn!(url = webhook.url, alert = name, "the webhook has not taken alerts, it is tried again: {why}");
                }
                self.fail(name, why, now);
            }
        }
    }

    fn fail(&mut self, name: String, why: String, now: Instant) {
        let times = self.failed.get(&name).map_or(0, |failed| failed.times);
        let wait = BACKOFF.0.saturating_mul(1 << times.min(6)).min(BACKOFF.1);
        // Up to a quarter less, so that nodes and receivers do not fall into step.
        let not_before = now + wait.mul_f64(1.0 - fastrand::f64() / 4.0);
        self.failed.insert(name, Failed { times: times.saturating_add(1), not_before, why });
    }

    /// What is to be told: all of one name, the oldest first.
    fn due<'a>(&self, alerts: &'a Alerts, (now, repeat): (Instant, Duration)) -> Vec<(&'a str, &'a Alert)> {
        let waits = |name: &str| self.failed.get(name).is_some_and(|failed| now < failed.not_before);
        let again = |id: &str| self.told.get(id).is_none_or(|when| now.saturating_duration_since(*when) >= repeat);
        let is_due = |(id, alert): &(&str, &Alert)| alert.is_untold() || alert.ended.is_none() && again(id);
        let mut due: Vec<_> = alerts.all().filter(|one| is_due(one) && !waits(&one.1.said.name)).collect();
        due.sort_by_key(|(id, alert)| (!alert.is_untold(), alert.said.since, *id));
        let Some(name) = due.first().map(|(_, alert)| alert.said.name.clone()) else { return due };
        due.retain(|(_, alert)| alert.said.name == name);
        due.truncate(A_REQUEST);
        due
    }
}

/// Without a webhook nobody is to be told that these are over, though somebody once heard that they hold.
fn called_off(alerts: &Alerts) -> Vec<Change> {
    let over = alerts.all().filter(|(_, alert)| alert.ended.is_some());
    over.map(|(id, _)| Change::Told { id: id.to_owned(), ended: true }).take(A_REQUEST).collect()
}

/// Not taken: it is told once more.
async fn write_down(node: &Handle, told: Vec<Change>) {
    if !told.is_empty()
        && let Err(error) = node.propose(ShardId::CONTROL, Command::Alerts(told)).await
    {
        tracing::warn!("what alerts were told could not be written down: {error}");
    }
}

/// Version 4 of Alertmanager's webhooks.
fn payload(due: &[(&str, &Alert)], sender: &str) -> Value {
    let labels = |alert: &Alert| {
        let mut labels: BTreeMap<String, String> = alert.said.labels.iter().cloned().collect();
        labels.insert("alertname".to_owned(), alert.said.name.clone());
        labels.insert("level".to_owned(), format!("P{}", alert.said.level));
        labels.insert("severity".to_owned(), if alert.said.level <= 2 { "critical" } else { "warning" }.to_owned());
        labels
    };
    let annotations = |alert: &Alert| alert.said.annotations.iter().cloned().collect::<BTreeMap<String, String>>();
    let common = |pairs: Vec<BTreeMap<String, String>>| {
        let mut pairs = pairs.into_iter();
        let first = pairs.next().unwrap_or_default();
        pairs.fold(first, |mut common, other| {
            common.retain(|name, value| other.get(name) == Some(value));
            common
        })
    };
    let status = |alert: &Alert| if alert.ended.is_some() { "resolved" } else { "firing" };
    let one = |(id, alert): &(&str, &Alert)| {
        json!({
            "status": status(alert),
            "labels": labels(alert),
            "annotations": annotations(alert),
            "startsAt": clock::rfc3339(alert.said.since),
            // Alertmanager's own word for "not yet".
            "endsAt": alert.ended.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), clock::rfc3339),
            "generatorURL": "",
            "fingerprint": format!("{:016x}", xxh3_64(id.as_bytes())),
        })
    };
    let name = due.first().map(|(_, alert)| alert.said.name.as_str()).unwrap_or_default();
    json!({
        "version": "4",
        "groupKey": format!("{{}}:{{alertname={name:?}}}"),
        "truncatedAlerts": 0,
        "status": if due.iter().any(|(_, alert)| alert.ended.is_none()) { "firing" } else { "resolved" },
        "receiver": "webhook",
        "groupLabels": { "alertname": name },
        "commonLabels": common(due.iter().map(|(_, alert)| labels(alert)).collect()),
        "commonAnnotations": common(due.iter().map(|(_, alert)| annotations(alert)).collect()),
        "externalURL": sender,
        "alerts": due.iter().map(one).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::alerts::Said;
    use crate::shard::control::Control;
    use crate::shard::control::ControlEffects;
    use crate::shard::entry;
    use crate::shard::entry::Entry;

    fn alert(name: &str, instance: &str, told: bool, ended: Option<i64>) -> Alert {
        let labels = vec![("instance".to_owned(), instance.to_owned()), ("job".to_owned(), "web".to_owned())];
        let annotations = vec![("summary".to_owned(), format!("{instance} is down"))];
        Alert { said: Said { name: name.into(), level: 2, labels, annotations, since: 1_790_000_000_000 }, told, ended }
    }

    /// The control shard after these.
    fn applied(changes: Vec<Change>) -> Control {
        let (mut control, mut bytes) = (Control::default(), Vec::new());
        entry::encode(1_790_000_000_000, &Entry::Command(Command::Alerts(changes)), &mut bytes);
        control.apply(1, &bytes, &mut ControlEffects::default()).unwrap();
        control
    }

    fn raised(names: &[&str]) -> Vec<Change> {
        let raise = |(name, since): (&&str, i64)| Change::Raise {
            id: (*name).to_owned(),
            said: Said { since, ..alert(name, "a", false, None).said },
        };
        names.iter().zip(1..).map(raise).collect()
    }

    #[test]
    fn what_is_never_taken_holds_up_nothing_of_another_name() {
        let control = applied(raised(&["Bad", "Good"]));
        let (mut teller, now) = (Teller::default(), clock::now());
        let due = |teller: &Teller, now| {
            let due = teller.due(&control.alerts, (now, Duration::from_secs(3_600)));
            due.first().map(|(id, _)| (*id).to_owned())
        };
        assert_eq!(due(&teller, now).as_deref(), Some("Bad"), "the oldest first");
        teller.fail("Bad".into(), "it answers 400".into(), now);
        assert_eq!((due(&teller, now).as_deref(), teller.trouble().as_deref()), (Some("Good"), Some("it answers 400")));
        teller.fail("Good".into(), "it answers 400".into(), now);
        assert_eq!(due(&teller, now), None);
        assert_eq!(due(&teller, now + BACKOFF.0).as_deref(), Some("Bad"), "it is tried again");
    }

    #[test]
    fn what_is_over_stays_for_nobody_where_there_is_no_webhook() {
        let end = |id: &str| Change::End { id: id.into() };
        let told = |id: &str| Change::Told { id: id.into(), ended: false };
        let before = [raised(&["Over", "Open"]), vec![told("Over"), told("Open"), end("Over")]].concat();
        let control = applied(before.clone());
        assert_eq!(called_off(&control.alerts), [Change::Told { id: "Over".into(), ended: true }]);
        let after = applied([before, called_off(&control.alerts)].concat());
        assert_eq!(after.alerts.all().map(|(id, _)| id).collect::<Vec<_>>(), ["Open"]);
    }

    #[test]
    fn the_payload_is_that_of_alertmanagers_webhooks() {
        let (firing, over) = (alert("ProbeDown", "a", false, None), alert("ProbeDown", "b", true, Some(1_790_000_060_000)));
        let sent = payload(&[("x", &firing), ("y", &over)], "http://mon1:9201");
        assert_eq!((&sent["version"], &sent["status"], &sent["truncatedAlerts"]), (&json!("4"), &json!("firing"), &json!(0)));
        assert_eq!(sent["groupLabels"], json!({"alertname": "ProbeDown"}));
        assert_eq!(sent["commonLabels"], json!({"alertname": "ProbeDown", "job": "web", "level": "P2", "severity": "critical"}));
        assert_eq!(sent["commonAnnotations"], json!({}));
        let alerts = sent["alerts"].as_array().unwrap();
        assert_eq!((&alerts[0]["status"], &alerts[0]["endsAt"]), (&json!("firing"), &json!("0001-01-01T00:00:00Z")));
        assert_eq!((&alerts[1]["status"], &alerts[1]["endsAt"]), (&json!("resolved"), &json!("2026-09-21T14:14:20.000Z")));
        assert_eq!(alerts[0]["startsAt"], json!("2026-09-21T14:13:20.000Z"));
        assert_ne!(alerts[0]["fingerprint"], alerts[1]["fingerprint"]);
        assert_eq!(payload(&[("y", &over)], "")["status"], json!("resolved"));
    }
}

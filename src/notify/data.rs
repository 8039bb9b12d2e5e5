//! What a message says, in the words of Alertmanager's templates and webhooks: status, what its alerts have in common, each alert.
//!
//! Left out on purpose: any receiver's way to write it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::alert::message::Digest;
use crate::alert::message::Mark;
use crate::alert::message::Message;
use crate::alert::message::Part;
use crate::alert::message::Reason;
use crate::clock;
use crate::model::alert::Alert;
use crate::model::labels::Labels;

/// Alertmanager's word for "not yet".
const NEVER: &str = "0001-01-01T00:00:00Z";

/// A message as receivers see it. The order of its fields is that of Alertmanager's webhooks.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Data<'a> {
    /// The receiver's name, quoted as a regular expression, as Alertmanager sends it.
    pub receiver: String,
    /// `firing` if any of its alerts is.
    pub status: &'static str,
    /// In the message's order.
    pub alerts: Vec<One<'a>>,
    /// Why it is sent.
    #[serde(rename = "notification_reason")]
    pub notification_reason: &'static str,
    /// What makes the group.
    pub group_labels: &'a Labels,
    /// What all of the alerts have.
    pub common_labels: BTreeMap<&'a str, &'a str>,
    /// The same of annotations.
    pub common_annotations: BTreeMap<&'a str, &'a str>,
    /// Labels of routes, which are not read yet.
    pub route_labels: BTreeMap<&'a str, &'a str>,
    /// Where people find sluice.
    #[serde(rename = "externalURL")]
    pub external_url: &'a str,
    /// Of this format.
    pub version: &'static str,
    /// The group.
    pub group_key: &'a str,
    /// Alerts that are not in it.
    pub truncated_alerts: usize,
    /// Where it is told because nobody took care: otherwise the body is Alertmanager's to the byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escalation: Option<Escalated<'a>>,
    /// Where it is of several groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<OfGroup<'a>>,
    /// Where it stands for very many alerts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digested<'a>>,
    /// Alerts that fire, those that are not in it included.
    #[serde(skip)]
    pub firing: usize,
}

/// A step of escalation as receivers see it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Escalated<'a> {
    /// The policy's name.
    pub policy: &'a str,
    /// From 1.
    pub step: u32,
}

/// A group of a message that is of several.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfGroup<'a> {
    /// As Alertmanager writes it.
    pub group_key: &'a str,
    /// What makes the group.
    pub group_labels: &'a Labels,
    /// Alerts that fire,
    pub firing: usize,
    /// and those that are over.
    pub resolved: usize,
}

/// What is said of very many alerts.
#[derive(Clone, Debug, Serialize)]
pub struct Digested<'a> {
    /// Alerts that fire,
    pub firing: usize,
    /// and those of them that were told and are over.
    pub resolved: usize,
    /// Of some labels, the values that most of the firing ones have.
    pub top: BTreeMap<&'a str, Vec<Counted<'a>>>,
}

/// A value, and how many alerts have it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Counted<'a> {
    /// Of the label.
    pub value: &'a str,
    /// How many.
    pub alerts: usize,
}

/// An alert as receivers see it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct One<'a> {
    /// `firing` or `resolved`.
    pub status: &'static str,
    /// Which alert it is.
    pub labels: &'a Labels,
    /// For people.
    pub annotations: &'a Labels,
    /// RFC 3339.
    pub starts_at: String,
    /// RFC 3339; the year 1 while it fires.
    pub ends_at: String,
    /// Where it was made.
    #[serde(rename = "generatorURL")]
    pub generator: &'a str,
    /// Of its labels.
    pub fingerprint: String,
    /// What Alertmanager's webhooks do not have: how bad it is, and whether it flaps.
    #[serde(skip)]
    pub mark: Mark,
    /// Neither: nobody said that it is over, it is only not said any more that it holds.
    #[serde(skip)]
    pub unconfirmed: bool,
}

impl<'a> Data<'a> {
    /// Of a message, at most so many of its alerts (0: all).
    pub fn new(message: &'a Message, external_url: &'a str, most: usize) -> Data<'a> {
        let marks = message.marks.iter().copied().chain(std::iter::repeat(Mark::default()));
        let taken = if most == 0 { message.alerts.len() } else { most.min(message.alerts.len()) };
        let alerts: Vec<One<'a>> = message.alerts[..taken].iter().zip(marks).map(|(alert, mark)| one(alert, mark, message.at)).collect();
        let firing = message
            .digest
            .as_ref()
            .map_or_else(|| message.alerts.iter().filter(|alert| !alert.is_over(message.at)).count(), |all| all.firing);
        Data {
            receiver: quoted(&message.receiver),
            status: if firing > 0 { "firing" } else { "resolved" },
            notification_reason: match message.reason {
                Reason::First => "first notification",
                Reason::New => "new alerts added",
                Reason::SomeOver => "some alerts resolved",
                Reason::AllOver => "all alerts resolved",
                Reason::Repeat => "repeat interval elapsed",
            },
            group_labels: &message.group_labels,
            common_labels: common(alerts.iter().map(|alert| alert.labels)),
            common_annotations: common(alerts.iter().map(|alert| alert.annotations)),
            route_labels: BTreeMap::new(),
            external_url,
            version: "4",
            group_key: &message.group_key,
            truncated_alerts: message.alerts.len() - taken + message.left_out,
            escalation: message.escalation.as_ref().map(|known| Escalated { policy: &known.policy, step: known.step }),
            groups: message.parts.iter().map(of_group).collect(),
            digest: message.digest.as_ref().map(digested),
            firing,
            alerts,
        }
    }

    /// As Alertmanager's webhooks get it, to the byte: Go's JSON escapes what could be HTML, and ends with a newline.
    pub fn webhook_body(&self) -> Vec<u8> {
        let mut body = go_json(&serde_json::to_string(self).unwrap_or_default());
        body.push('\n');
        body.into_bytes()
    }
}

/// `<`, `>`, `&` and the two separators that JavaScript knows stand in strings of JSON only, so they can be replaced wherever they are.
fn go_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for letter in text.chars() {
        match letter {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            other => out.push(other),
        }
    }
    out
}

fn of_group(part: &Part) -> OfGroup<'_> {
    OfGroup { group_key: &part.group_key, group_labels: &part.group_labels, firing: part.firing, resolved: part.over }
}

fn digested(digest: &Digest) -> Digested<'_> {
    let mut top = BTreeMap::new();
    for (name, values) in &digest.top {
        top.insert(name.as_str(), values.iter().map(|(value, alerts)| Counted { value, alerts: *alerts }).collect());
    }
    Digested { firing: digest.firing, resolved: digest.over, top }
}

fn one(alert: &Alert, mark: Mark, at: i64) -> One<'_> {
    let over = alert.is_over(at);
    One {
        status: if over { "resolved" } else { "firing" },
        labels: &alert.labels,
        annotations: &alert.annotations,
        starts_at: when(alert.starts),
        ends_at: if over { when(alert.ends) } else { NEVER.to_owned() },
        generator: &alert.generator,
        fingerprint: format!("{:016x}", alert.fingerprint()),
        mark,
        unconfirmed: over && alert.is_unconfirmed(),
    }
}

impl One<'_> {
    /// Its status in words for people.
    pub fn word(&self) -> &'static str {
        match (self.status, self.mark.flapping) {
            ("firing", true) => "flapping",
            ("resolved", _) if self.unconfirmed => "no longer confirmed",
            (status, _) => status,
        }
    }
}

fn common<'a>(mut all: impl Iterator<Item = &'a Labels>) -> BTreeMap<&'a str, &'a str> {
    let Some(first) = all.next() else { return BTreeMap::new() };
    let mut common: BTreeMap<&str, &str> = first.iter().collect();
    for other in all {
        common.retain(|name, value| other.get(name) == Some(*value));
    }
    common
}

/// RFC 3339 as Go writes it: no zeros at the end of a second's fraction.
pub fn when(ms: i64) -> String {
    let text = clock::rfc3339(ms);
    let text = text.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
    // A whole minute's zeros are no fraction.
    if ms.rem_euclid(1000) == 0 { clock::rfc3339(ms).replace(".000Z", "Z") } else { format!("{text}Z") }
}

/// Go's `regexp.QuoteMeta`.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if "\\.+*?()|[]{}^$".contains(letter) {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

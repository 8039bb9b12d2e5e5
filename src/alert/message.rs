//! What a receiver is told at once: a group's alerts as they stood when it was decided to tell them.
//!
//! Made by whoever keeps the groups, rendered and sent by `notify`. Left out on purpose: how any receiver wants it written.

use std::collections::BTreeMap;

use crate::model::alert::Alert;
use crate::model::labels::Labels;

/// Why a group is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing of it was told before.
    First,
    /// Alerts came to it.
    New,
    /// Some are over.
    SomeOver,
    /// All are over.
    AllOver,
    /// It still holds after `repeat_interval`.
    Repeat,
}

/// How bad an alert is, 1 (the worst) to 5: its `level` where it has one (`P1`), else by its `severity`.
pub fn level(labels: &Labels) -> u8 {
    let of = |name: &str| labels.get(name).map(|value| value.to_ascii_lowercase()).unwrap_or_default();
    let written = of("level").strip_prefix('p').and_then(|number| number.parse().ok()).filter(|level| (1..=5).contains(level));
    written.unwrap_or_else(|| match of("severity").as_str() {
        "critical" | "page" | "fatal" | "emergency" | "disaster" => 1,
        "error" | "high" | "major" => 2,
        "minor" | "low" => 4,
        "info" | "information" | "informational" | "notice" | "debug" | "none" => 5,
        _ => 3,
    })
}

/// What the policies come to for an alert of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// 1 (the worst) to 5.
    pub level: u8,
    /// It begins and ends again and again; nothing more is told until it does not.
    pub flapping: bool,
}

/// Whom a group is told to because nobody took care of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escalation {
    /// The policy's name.
    pub policy: String,
    /// Which of its steps, from 1.
    pub step: u32,
}

/// One group of a message that is of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// As Alertmanager writes it.
    pub group_key: String,
    /// What its alerts have in common.
    pub group_labels: Labels,
    /// Alerts that hold,
    pub firing: usize,
    /// and those that are over.
    pub over: usize,
}

/// What a message says of very many alerts, of which it holds the worst few.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Alerts that hold,
    pub firing: usize,
    /// and those of them that were told and are over.
    pub over: usize,
    /// Of some labels, the values that most of them have, and how many.
    pub top: BTreeMap<String, Vec<(String, usize)>>,
}

/// One notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Known by this for ever: the same from every node and with every try, so that a receiver that takes a key tells nobody twice.
    pub id: String,
    /// The receiver's name.
    pub receiver: String,
    /// As Alertmanager writes it: `{}/{team="db"}:{alertname="X"}`.
    pub group_key: String,
    /// What its alerts have in common, by the route.
    pub group_labels: Labels,
    /// Why it is told.
    pub reason: Reason,
    /// When it was decided, ms since 1970. An alert whose `ends` is not after it is resolved.
    pub at: i64,
    /// 1 (the worst) to 5: the worst of its firing alerts, or of all where none fires.
    pub level: u8,
    /// Sorted by start, then labels, the firing ones first; those that are over only where the receiver wants them.
    pub alerts: Vec<Alert>,
    /// Of each alert, in the same order.
    pub marks: Vec<Mark>,
    /// Sent without a majority: another node may tell the same.
    pub degraded: bool,
    /// It is told because nobody took care.
    pub escalation: Option<Escalation>,
    /// The groups, where it is of several.
    pub parts: Vec<Part>,
    /// Where it stands for very many alerts.
    pub digest: Option<Digest>,
    /// Alerts of it that are not in `alerts`.
    pub left_out: usize,
}

impl Message {
    /// Whether any of its alerts still holds.
    pub fn is_firing(&self) -> bool {
        self.alerts.iter().any(|alert| !alert.is_over(self.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_written_or_follows_from_the_severity() {
        let of = |pairs: &[(&str, &str)]| level(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect());
        assert_eq!([of(&[]), of(&[("severity", "critical")]), of(&[("severity", "Warning")]), of(&[("severity", "info")])], [3, 1, 3, 5]);
        assert_eq!([of(&[("severity", "critical"), ("level", "P2")]), of(&[("severity", "critical"), ("level", "P9")])], [2, 1]);
    }
}

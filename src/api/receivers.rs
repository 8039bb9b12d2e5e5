//! `GET /api/v1/alerts/receivers`: what receivers are not told yet: messages on their way, what windows hold and until when, bundles and storms.

use serde::Serialize;

use crate::alert::groups::outlook::Storm;
use crate::alert::groups::outlook::WaitsFor;
use crate::alert::groups::outlook::Window;
use crate::api::alerting::Receiving;
use crate::api::alertmanager;
use crate::api::answer::Failure;
use crate::api::deps::Deps;
use crate::clock;

/// The answer.
#[derive(Debug, Serialize)]
pub struct Receivers {
    /// This node is the one that tells. Another one knows neither `waiting` nor `trouble`.
    tells: bool,
    receivers: Vec<Shown>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    receiver: String,
    integration: u32,
    kind: &'static str,
    on_the_way: usize,
    windows: Vec<ShownWindow>,
    held: ShownHeld,
    /// Null: nothing waits, as far as this node knows.
    waiting: Option<ShownWaiting>,
    /// Null: there is none.
    storm: Option<ShownStorm>,
    /// Null: it took what it was told last, as far as this node knows.
    trouble: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownWindow {
    messages: usize,
    per_ms: i64,
    used: usize,
    /// Null: there is room.
    opens_at: Option<String>,
}

#[derive(Debug, Serialize)]
struct ShownHeld {
    groups: usize,
    alerts: usize,
    /// Until there is room in all windows; null: there is.
    until: Option<String>,
}

#[derive(Debug, Serialize)]
struct ShownWaiting {
    groups: usize,
    #[serde(rename = "for")]
    waits_for: &'static str,
    until: String,
}

#[derive(Debug, Serialize)]
struct ShownStorm {
    until: String,
    /// Of which the last digest said that they hold.
    alerts: usize,
}

impl From<Receiving> for Shown {
    fn from(one: Receiving) -> Shown {
        let Receiving { receiver, integration, kind, outlook, trouble } = one;
        let window =
            |Window { messages, per, used, opens }| ShownWindow { messages, per_ms: per, used, opens_at: opens.map(clock::rfc3339) };
        let waiting = outlook.waiting.map(|(groups, waits_for, until)| ShownWaiting {
            groups,
            waits_for: match waits_for {
                WaitsFor::Bundle => "bundle",
                WaitsFor::Storm => "storm",
                WaitsFor::Window => "window",
            },
            until: clock::rfc3339(until),
        });
        Shown {
            receiver,
            integration,
            kind,
            on_the_way: outlook.open,
            windows: outlook.windows.into_iter().map(window).collect(),
            held: ShownHeld { groups: outlook.held.groups, alerts: outlook.held.alerts, until: outlook.opens.map(clock::rfc3339) },
            waiting,
            storm: outlook.storm.map(|Storm { until, told }| ShownStorm { until: clock::rfc3339(until), alerts: told }),
            trouble,
        }
    }
}

/// Answers.
pub(super) fn receivers(deps: &Deps, now: i64) -> Result<Receivers, Failure> {
    let state = (deps.alerting)().map_err(alertmanager::off)?;
    let (all, tells) = state.receivers(now.max(state.noted_until()));
    Ok(Receivers { tells, receivers: all.into_iter().map(Shown::from).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::groups::outlook::Held;
    use crate::alert::groups::outlook::Outlook;

    #[test]
    fn a_receiver_says_what_it_is_not_told_yet() {
        let outlook = Outlook {
            open: 1,
            windows: vec![Window { messages: 2, per: 60_000, used: 2, opens: Some(5_000) }],
            held: Held { groups: 3, alerts: 7 },
            opens: Some(5_000),
            waiting: Some((4, WaitsFor::Window, 5_000)),
            storm: Some(Storm { until: 9_000, told: 30 }),
        };
        let one = Receiving { receiver: "chat".into(), integration: 1, kind: "slack", outlook, trouble: None };
        let shown = serde_json::to_value(Shown::from(one)).unwrap();
        let at = "1970-01-01T00:00:05.000Z";
        let expected = serde_json::json!({
            "receiver": "chat", "integration": 1, "kind": "slack", "onTheWay": 1, "trouble": null,
            "windows": [{ "messages": 2, "perMs": 60_000, "used": 2, "opensAt": at }],
            "held": { "groups": 3, "alerts": 7, "until": at }, "waiting": { "groups": 4, "for": "window", "until": at },
            "storm": { "until": "1970-01-01T00:00:09.000Z", "alerts": 30 },
        });
        assert_eq!(shown, expected);
    }
}

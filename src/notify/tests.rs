//! What each receiver is sent, and what its answers mean, tried with servers on this host, and with the files that people write.

mod chat;
mod hooks;
mod letters;
mod server;
mod texts;

use crate::alert::message::Mark;
use crate::alert::message::Message;
use crate::alert::message::Reason;
use crate::config::routing;
use crate::model::alert::Alert;
use crate::model::labels::Labels;
use crate::notify::Outcome;
use crate::notify::Receivers;

/// A September evening.
const AT: i64 = 1_790_000_060_000;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().copied().collect()
}

fn alert(instance: &str, summary: &str, ends: i64) -> Alert {
    Alert {
        labels: labels(&[("alertname", "DiskFull"), ("instance", instance), ("team", "db")]),
        annotations: labels(&[("summary", summary)]),
        generator: "http://prom/graph?a=1&b=2".into(),
        starts: 1_790_000_000_000,
        ends,
        times_out: false,
        // Its source said so.
        updated: ends,
    }
}

fn message(alerts: Vec<Alert>) -> Message {
    Message {
        id: "7f3a".to_owned(),
        receiver: "team.db".to_owned(),
        group_key: "{}:{alertname=\"DiskFull\"}".to_owned(),
        group_labels: labels(&[("alertname", "DiskFull")]),
        reason: Reason::First,
        at: AT,
        level: 2,
        marks: alerts.iter().map(|_| Mark { level: 2, flapping: false }).collect(),
        alerts,
        degraded: false,
        escalation: None,
        parts: Vec::new(),
        digest: None,
        left_out: 0,
    }
}

/// One that fires and one that is over.
fn both() -> Message {
    message(vec![alert("a", "a is full <b>", AT + 1), alert("b", "b is full", 1_790_000_030_500)])
}

/// A file with one receiver, `team.db`, of these lines.
fn receivers(lines: &str) -> Receivers {
    let text = format!("route: {{ receiver: team.db }}\nreceivers:\n- name: team.db\n{lines}");
    let file = routing::parse(&text).unwrap_or_else(|problems| panic!("{problems:?}\n{text}"));
    Receivers::new(&file, "http://sluice:9201", None)
}

async fn send(lines: &str, message: &Message) -> Outcome {
    receivers(lines).send(message, "team.db", 0).await
}

fn is_again(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Again { .. })
}

fn is_never(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Never { .. })
}

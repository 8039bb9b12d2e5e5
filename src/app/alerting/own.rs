//! The alerts that sluice makes itself (`app::alerts`), on the way that all others go, where the settings have routes: posted while they hold, and once more
//! when they are over.
//!
//! Left out on purpose: when such an alert begins, and telling it.

use crate::alert::book;
use crate::alert::book::Book;
use crate::model::alert::Alert;
use crate::model::labels::Labels;
use crate::model::labels::Piece;
use crate::shard::alerts;
use crate::shard::alerts::Alerts;
use crate::shard::alerts::Change;

/// So long an alert holds after it was said last: this node may die, and another goes on saying it.
const HOLDS_MS: i64 = 300_000;
/// One that holds for less than this is said again.
const AGAIN_MS: i64 = 180_000;

/// What is to be posted, and what of it is then written down as told.
pub fn news(alerts: &Alerts, book: &Book, seed: u64, now: i64) -> (Vec<Alert>, Vec<Change>) {
    let (mut words, mut told) = (Vec::new(), Vec::new());
    for (id, alert) in alerts.all() {
        let word = word(alert, now);
        let known = book.alerts().get(book::id(seed, &word.labels)).map(|kept| kept.alert.ends).unwrap_or_default();
        if alert.is_untold() || known - now < AGAIN_MS {
            words.push(word);
        }
        if alert.is_untold() {
            told.push(Change::Told { id: id.to_owned(), ended: alert.ended.is_some() });
        }
    }
    (words, told)
}

fn word(alert: &alerts::Alert, now: i64) -> Alert {
    let said = &alert.said;
    let labels = said.labels.iter().map(|(name, value)| (name, value)).collect::<Labels>().said();
    let labels = labels.with("alertname", &said.name).with("level", &format!("P{}", said.level));
    let labels = labels.or("severity", if said.level <= 2 { "critical" } else { "warning" });
    let starts = said.since.min(now);
    Alert {
        labels,
        annotations: said.annotations.iter().map(|(name, value)| (name, value)).collect(),
        generator: Piece::default(),
        starts,
        ends: alert.ended.unwrap_or(now + HOLDS_MS).max(starts),
        times_out: alert.ended.is_none(),
        updated: now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::alerts::Said;
    use crate::shard::command::Command;
    use crate::shard::control::Control;
    use crate::shard::control::ControlEffects;
    use crate::shard::entry;
    use crate::shard::entry::Entry;

    fn apply(control: &mut Control, at: i64, changes: Vec<Change>) {
        let mut bytes = Vec::new();
        entry::encode(at, &Entry::Command(Command::Alerts(changes)), &mut bytes);
        control.apply(control.applied + 1, &bytes, &mut ControlEffects::default()).unwrap();
    }

    #[test]
    fn they_are_posted_as_any_others_said_again_while_they_hold_and_once_when_they_are_over() {
        let said = Said { name: "ProbeDown".into(), level: 2, labels: vec![("job".into(), "web".into())], annotations: vec![], since: 5 };
        let raise = Change::Raise { id: "x".into(), said };
        let (mut control, mut book) = (Control::default(), Book::default());
        apply(&mut control, 10, vec![raise]);
        let (words, told) = news(&control.alerts, &book, 7, 10);
        assert_eq!((told.len(), words[0].ends, words[0].times_out), (1, 300_010, true));
        assert_eq!((&words[0].labels["level"], &words[0].labels["severity"]), ("P2", "critical"));
        book.post(7, words, 10).unwrap();
        apply(&mut control, 11, told);
        assert_eq!(news(&control.alerts, &book, 7, 100_000), (vec![], vec![]));
        assert_eq!(news(&control.alerts, &book, 7, 130_000).0.len(), 1);
        apply(&mut control, 140_000, vec![Change::End { id: "x".into() }]);
        let (words, told) = news(&control.alerts, &book, 7, 140_001);
        assert_eq!((words[0].ends, told), (140_000, vec![Change::Told { id: "x".into(), ended: true }]));
    }
}

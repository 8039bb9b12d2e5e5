//! Who was refused, and why: the first few with their labels, the rest as numbers.

use crate::ingest::lanes::Refusal;
use crate::wire::remote_write::Label;

/// Prometheus logs the first 1,024 bytes of an answer: what is beyond them nobody reads.
const SHOWN_BYTES: usize = 900;
/// Labels of one offender.
const LABELS_BYTES: usize = 200;

/// What was refused of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offenders {
    /// Points refused, by reason and lane.
    pub counts: Vec<(Refusal, usize, u64)>,
    /// The first ones, one a line.
    pub shown: String,
}

impl Offenders {
    /// Counts refused points of a lane.
    pub fn count(&mut self, refusal: Refusal, lane: usize, points: u64) {
        match self.counts.iter_mut().find(|(known, of, _)| *known == refusal && *of == lane) {
            Some((_, _, count)) => *count += points,
            None => self.counts.push((refusal, lane, points)),
        }
    }

    /// Shows a series, while there is room.
    pub fn show(&mut self, labels: &[Label<'_>], detail: impl FnOnce() -> String) {
        if self.shown.len() < SHOWN_BYTES {
            self.shown.push_str(&series(labels));
            self.shown.push_str(": ");
            self.shown.push_str(&detail());
            self.shown.push('\n');
        }
    }

    /// Points refused in all.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|(_, _, count)| count).sum()
    }

    /// Whether nothing was refused.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// For the sender: how many, why, and the first of them.
    pub fn text(&self) -> String {
        let mut by_reason: Vec<(Refusal, u64)> = Vec::new();
        for (refusal, _, count) in &self.counts {
            match by_reason.iter_mut().find(|(known, _)| known == refusal) {
                Some((_, sum)) => *sum += count,
                None => by_reason.push((*refusal, *count)),
            }
        }
        let reasons: Vec<String> = by_reason.iter().map(|(refusal, count)| format!("{count} x {}", refusal.word())).collect();
        let mut shown = self.shown.clone();
        if let Some((end, _)) = shown.char_indices().find(|(at, _)| *at >= SHOWN_BYTES) {
            shown.truncate(end);
            shown.push_str("...\n");
        }
        format!("{} refused, the rest was taken: {}\n{shown}", self.total(), reasons.join(", "))
    }
}

fn series(labels: &[Label<'_>]) -> String {
    let mut text = String::new();
    if let Some(name) = labels.iter().find(|label| label.name == "__name__") {
        text.push_str(name.value);
    }
    text.push('{');
    for label in labels.iter().filter(|label| label.name != "__name__") {
        if text.len() > LABELS_BYTES {
            text.push_str("...");
            break;
        }
        let value: String = label.value.chars().take(60).collect();
        text.push_str(&format!("{}={value:?},", label.name));
    }
    if text.ends_with(',') {
        text.pop();
    }
    text.push('}');
    text
}

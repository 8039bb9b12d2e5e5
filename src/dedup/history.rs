//! What a switch of the leader did, measured: the last 32 of a group are part of its state, and of `sluice group history`.

use std::collections::VecDeque;

/// Switches that a group remembers.
const KEPT: usize = 32;
/// For how long after a switch its outcome is measured, ms.
const WINDOW: i64 = 600_000;
/// Bytes of reason and evidence that are kept.
const REASON_BYTES: usize = 64;
const EVIDENCE_BYTES: usize = 400;

/// One switch and its measured outcome. Times and distances in ms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwitchRecord {
    /// Counted from 1 in the group.
    pub number: u64,
    /// `at` of its entry.
    pub at: i64,
    /// Who led; empty: nobody.
    pub from: String,
    /// Who leads since.
    pub to: String,
    /// A short word: `silent`, `half`, `pinned` ...
    pub reason: String,
    /// What was observed, for people.
    pub evidence: String,
    /// The largest distance of neighbours at the splice: of the last sample of another replica and the first of the new leader.
    pub gap: i64,
    /// Series whose splice was seen.
    pub spliced: u64,
    /// Of these, the ones where the distance was more than one and a half intervals.
    pub wide: u64,
    /// Samples of the new leader that were dropped since others' had been forwarded.
    pub overlap: u64,
    /// Samples forwarded late.
    pub late: u64,
    /// Samples forwarded of another replica than the new leader.
    pub filled: u64,
}

/// Distances seen where series passed from another replica to this one before it led: part of the splice when it then leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Splice {
    pub since: i64,
    pub gap: i64,
    pub spliced: u64,
    pub wide: u64,
}

#[derive(Debug, Default)]
pub(super) struct History {
    /// Switches ever.
    pub number: u64,
    pub records: VecDeque<SwitchRecord>,
}

impl History {
    pub fn open(&mut self, mut record: SwitchRecord, before: Splice) {
        self.number += 1;
        record.number = self.number;
        cut(&mut record.reason, REASON_BYTES);
        cut(&mut record.evidence, EVIDENCE_BYTES);
        if record.at - before.since <= WINDOW {
            (record.gap, record.spliced, record.wide) = (before.gap, before.spliced, before.wide);
        }
        self.records.push_back(record);
        if self.records.len() > KEPT {
            self.records.pop_front();
        }
    }

    /// The newest switch, while its outcome is being measured.
    pub fn current(&mut self, now: i64) -> Option<&mut SwitchRecord> {
        self.records.back_mut().filter(|record| now - record.at <= WINDOW)
    }
}

fn cut(text: &mut String, bytes: usize) {
    let end = (0..=bytes.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    text.truncate(end.unwrap_or(0));
}

impl Splice {
    pub fn note(&mut self, now: i64, distance: i64, wide: bool) {
        if now - self.since > WINDOW {
            *self = Splice { since: now, ..Splice::default() };
        }
        self.gap = self.gap.max(distance);
        self.spliced += 1;
        self.wide += u64::from(wide);
    }
}

//! Alerts that hold, and what whoever is to be told of them has been told: so that a node that takes over, or starts again, tells what is open, and
//! nothing twice that was heard.
//!
//! An alert goes when it is over and that was told, too, or when nobody was ever told of it. Left out on purpose: when an alert begins (`app::alerts`) and
//! how it is told (`notify`).

use std::collections::BTreeMap;

use crate::shard::codec::Malformed;
use crate::shard::codec::Reader;
use crate::shard::codec::Writer;
use crate::shard::verdicts::cut;

/// Alerts at the same time.
pub const MOST: usize = 10_000;
/// Labels, and annotations, of one.
const MOST_LABELS: usize = 64;

/// What an alert says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Its name.
    pub name: String,
    /// 1 (the worst) to 5.
    pub level: u8,
    /// What it is about, without `alertname`.
    pub labels: Vec<(String, String)>,
    /// For people.
    pub annotations: Vec<(String, String)>,
    /// Since when it holds, ms since 1970.
    pub since: i64,
}

/// An alert.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alert {
    /// What it says.
    pub said: Said,
    /// When it was over.
    pub ended: Option<i64>,
    /// It was told that it holds.
    pub told: bool,
}

impl Alert {
    /// Somebody is to be told that it holds, or that it is over.
    pub fn is_untold(&self) -> bool {
        self.ended.is_some() || !self.told
    }
}

/// What happens to an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It holds; or does again, before its end was told; or holds still, and says something else.
    Raise {
        /// By which it is known.
        id: String,
        /// What it says.
        said: Said,
    },
    /// It is over.
    End {
        /// Which.
        id: String,
    },
    /// It was told.
    Told {
        /// Which.
        id: String,
        /// That it is over; else that it holds.
        ended: bool,
    },
}

/// All of them, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alerts {
    all: BTreeMap<String, Alert>,
}

impl Alerts {
    /// Carries out changes.
    pub(super) fn change(&mut self, changes: Vec<Change>, at: i64) {
        for change in changes {
            let full = self.all.len() >= MOST;
            match change {
                Change::Raise { id, said } => match self.all.get_mut(&id) {
                    // Back before its end was told is as if it had not been away.
                    Some(known) => (known.said, known.ended) = (Said { since: known.said.since, ..said }, None),
                    None if !full => drop(self.all.insert(id, Alert { said, ended: None, told: false })),
                    None => {}
                },
                Change::End { id } => match self.all.get_mut(&id) {
                    Some(known) if known.told => known.ended = known.ended.or(Some(at)),
                    _ => drop(self.all.remove(&id)),
                },
                Change::Told { id, ended } => match self.all.get_mut(&id) {
                    Some(known) if ended && known.ended.is_some() => drop(self.all.remove(&id)),
                    Some(known) if !ended => known.told = true,
                    _ => {}
                },
            }
        }
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Alert)> {
        self.all.iter().map(|(id, alert)| (&**id, alert))
    }

    pub(super) fn write(&self, out: &mut Writer<'_>) {
        out.number(self.all.len() as u64);
        for (id, alert) in &self.all {
            out.text(id);
            alert.said.write(out);
            out.byte(u8::from(alert.told));
            out.byte(u8::from(alert.ended.is_some()));
            out.signed(alert.ended.unwrap_or(0));
        }
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Alerts, Malformed> {
        let mut alerts = Alerts::default();
        for _ in 0..from.count(8)? {
            let (id, said) = (from.text()?.to_owned(), Said::read(from)?);
            let (told, over, ended) = (from.byte()? != 0, from.byte()? != 0, from.signed()?);
            alerts.all.insert(id, Alert { said, told, ended: over.then_some(ended) });
        }
        Ok(alerts)
    }
}

impl Said {
    /// Whether what is kept says the same of the same level, but for what is cut off before it is kept. Its time does not count: it is that of the beginning.
    pub fn is_kept_as(&self, kept: &Said) -> bool {
        let short = |pairs: &[(String, String)]| -> Vec<(String, String)> {
            pairs.iter().take(MOST_LABELS).map(|(name, value)| (cut(name).to_owned(), cut(value).to_owned())).collect()
        };
        self.level == kept.level && short(&self.annotations) == short(&kept.annotations)
    }

    fn write(&self, out: &mut Writer<'_>) {
        out.text(cut(&self.name));
        out.byte(self.level);
        for pairs in [&self.labels, &self.annotations] {
            let pairs = &pairs[..pairs.len().min(MOST_LABELS)];
            out.number(pairs.len() as u64);
            for (name, value) in pairs {
                out.text(cut(name));
                out.text(cut(value));
            }
        }
        out.signed(self.since);
    }

    fn read(from: &mut Reader<'_>) -> Result<Said, Malformed> {
        let (name, level) = (from.text()?.to_owned(), from.byte()?);
        let mut pairs = [Vec::new(), Vec::new()];
        for pairs in &mut pairs {
            for _ in 0..from.count(2)? {
                pairs.push((from.text()?.to_owned(), from.text()?.to_owned()));
            }
        }
        let [labels, annotations] = pairs;
        Ok(Said { name, level, labels, annotations, since: from.signed()? })
    }
}

impl Change {
    pub(super) fn write(&self, out: &mut Writer<'_>) {
        match self {
            Change::Raise { id, said } => {
                out.byte(0);
                out.text(cut(id));
                said.write(out);
            }
            Change::End { id } => {
                out.byte(1);
                out.text(cut(id));
            }
            Change::Told { id, ended } => {
                out.byte(if *ended { 3 } else { 2 });
                out.text(cut(id));
            }
        }
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Change, Malformed> {
        let (kind, id) = (from.byte()?, from.text()?.to_owned());
        Ok(match kind {
            0 => Change::Raise { id, said: Said::read(from)? },
            1 => Change::End { id },
            2 | 3 => Change::Told { id, ended: kind == 3 },
            _ => return Err(Malformed::Impossible("what happens to an alert")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(level: u8) -> Said {
        let labels = vec![("job".to_owned(), "web".to_owned())];
        Said { name: "ProbeDown".into(), level, annotations: labels.clone(), labels, since: 5 }
    }

    fn raise(level: u8) -> Change {
        Change::Raise { id: "x".into(), said: said(level) }
    }

    fn end() -> Change {
        Change::End { id: "x".into() }
    }

    fn told(ended: bool) -> Change {
        Change::Told { id: "x".into(), ended }
    }

    /// Told, over, and whether somebody is to be told; nothing: there is no alert.
    fn after(changes: Vec<Change>) -> Option<(bool, bool, bool)> {
        let mut alerts = Alerts::default();
        alerts.change(changes, 9);
        let mut bytes = Vec::new();
        alerts.write(&mut Writer(&mut bytes));
        assert_eq!(Alerts::read(&mut Reader(&bytes)).as_ref(), Ok(&alerts));
        alerts.all().next().map(|(_, alert)| (alert.told, alert.ended.is_some(), alert.is_untold()))
    }

    #[test]
    fn an_alert_stays_until_all_was_told() {
        assert_eq!(after(vec![raise(2)]), Some((false, false, true)));
        assert_eq!(after(vec![raise(2), told(false)]), Some((true, false, false)));
        assert_eq!(after(vec![raise(2), told(false), end()]), Some((true, true, true)));
        assert_eq!(after(vec![raise(2), told(false), end(), told(true)]), None);
    }

    #[test]
    fn what_nobody_heard_of_need_not_be_called_off() {
        assert_eq!(after(vec![raise(2), end()]), None);
        assert_eq!(after(vec![end(), told(true), told(false)]), None);
    }

    #[test]
    fn one_that_is_back_before_its_end_was_told_was_never_away() {
        assert_eq!(after(vec![raise(2), told(false), end(), raise(1)]), Some((true, false, false)));
        assert_eq!(
            after(vec![raise(2), told(false), end(), raise(1), told(true)]),
            Some((true, false, false)),
            "that telling was of its end"
        );
    }

    #[test]
    fn changes_are_read_as_they_were_written() {
        for change in [raise(3), end(), told(true), told(false)] {
            let mut bytes = Vec::new();
            change.write(&mut Writer(&mut bytes));
            assert_eq!(Change::read(&mut Reader(&bytes)), Ok(change));
        }
    }
}

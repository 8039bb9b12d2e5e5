//! What the nodes together found down: one line a target that is down, and since when. What is up is not written down.
//!
//! Only changes are entries, so a target that stays as it is costs nothing. Left out on purpose: how nodes come to a verdict (`probe::verdict`), and
//! who is told (`alerts`).

use std::collections::BTreeMap;

use crate::shard::codec::Malformed;
use crate::shard::codec::Reader;
use crate::shard::codec::Writer;

/// Targets that are known to be down; with more, something else is wrong than the targets.
pub const MOST: usize = 20_000;
/// Bytes of a text in it; nothing has a longer name, since what is cut off would be missed when it is looked for.
pub const TEXT: usize = 1 << 10;

/// A target that is down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Since when, by the shard's time, ms since 1970.
    pub since: i64,
    /// Why, in a word.
    pub cause: String,
    /// The nodes that said so.
    pub by: Vec<u64>,
}

/// A target changes: down for this reason, or up again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The job.
    pub job: String,
    /// The target.
    pub instance: String,
    /// Why it is down and who says so; `None`: it is up, or gone.
    pub down: Option<(String, Vec<u64>)>,
}

/// All that is down, by job and instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    down: BTreeMap<(String, String), Verdict>,
}

impl Verdicts {
    /// Carries out changes.
    pub(super) fn change(&mut self, changes: Vec<Change>, at: i64) {
        for Change { job, instance, down } in changes {
            let key = (job, instance);
            match down {
                None => drop(self.down.remove(&key)),
                Some((cause, by)) => {
                    let known = self.down.contains_key(&key);
                    if known || self.down.len() < MOST {
                        let verdict = self.down.entry(key).or_insert(Verdict { since: at, ..Verdict::default() });
                        (verdict.cause, verdict.by) = (cause, by);
                    }
                }
            }
        }
    }

    /// Whether a target is down, and why.
    pub fn of(&self, job: &str, instance: &str) -> Option<&Verdict> {
        self.down.get(&(job.to_owned(), instance.to_owned()))
    }

    /// All that is down.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str, &Verdict)> {
        self.down.iter().map(|((job, instance), verdict)| (&**job, &**instance, verdict))
    }

    pub(super) fn write(&self, out: &mut Writer<'_>) {
        out.number(self.down.len() as u64);
        for ((job, instance), verdict) in &self.down {
            out.text(job);
            out.text(instance);
            out.signed(verdict.since);
            out.text(&verdict.cause);
            write_nodes(out, &verdict.by);
        }
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Verdicts, Malformed> {
        let mut verdicts = Verdicts::default();
        for _ in 0..from.count(5)? {
            let key = (from.text()?.to_owned(), from.text()?.to_owned());
            let (since, cause) = (from.signed()?, from.text()?.to_owned());
            verdicts.down.insert(key, Verdict { since, cause, by: read_nodes(from)? });
        }
        Ok(verdicts)
    }
}

impl Change {
    pub(super) fn write(&self, out: &mut Writer<'_>) {
        out.text(cut(&self.job));
        out.text(cut(&self.instance));
        out.byte(u8::from(self.down.is_some()));
        if let Some((cause, by)) = &self.down {
            out.text(cut(cause));
            write_nodes(out, by);
        }
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Change, Malformed> {
        let (job, instance) = (from.text()?.to_owned(), from.text()?.to_owned());
        let down = if from.byte()? == 0 { None } else { Some((from.text()?.to_owned(), read_nodes(from)?)) };
        Ok(Change { job, instance, down })
    }
}

fn write_nodes(out: &mut Writer<'_>, nodes: &[u64]) {
    out.number(nodes.len() as u64);
    nodes.iter().for_each(|node| out.fixed(*node));
}

fn read_nodes(from: &mut Reader<'_>) -> Result<Vec<u64>, Malformed> {
    (0..from.count(8)?).map(|_| from.fixed()).collect()
}

/// The beginning of a text that is longer than any should be.
pub(super) fn cut(text: &str) -> &str {
    let end = (0..=TEXT.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(instance: &str, down: Option<&str>) -> Change {
        Change { job: "web".into(), instance: instance.into(), down: down.map(|cause| (cause.to_owned(), vec![1, 2])) }
    }

    #[test]
    fn what_is_down_stays_so_since_then_until_it_is_up() {
        let mut verdicts = Verdicts::default();
        verdicts.change(vec![change("a", Some("refused")), change("b", Some("timeout"))], 10);
        verdicts.change(vec![change("a", Some("status")), change("b", None), change("c", None)], 20);
        let left: Vec<_> = verdicts.all().map(|(_, instance, verdict)| (instance, verdict.since, &*verdict.cause)).collect();
        assert_eq!(left, [("a", 10, "status")]);
        let mut bytes = Vec::new();
        verdicts.write(&mut Writer(&mut bytes));
        assert_eq!(Verdicts::read(&mut Reader(&bytes)), Ok(verdicts));
    }

    #[test]
    fn they_are_bounded() {
        let mut verdicts = Verdicts::default();
        verdicts.change((0..MOST + 5).map(|number| change(&number.to_string(), Some("x"))).collect(), 0);
        assert_eq!(verdicts.all().count(), MOST);
    }
}

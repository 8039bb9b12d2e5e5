//! The state of alerts as the control shard keeps it: what happens to the book, as entries, and how both are written.
//!
//! What the book holds and by which rules it changes stands in `alert::book`. Left out on purpose: who asks for changes, and who is told (`app::alerting`).

use std::sync::Arc;

use crate::alert::book::Acknowledged;
use crate::alert::book::Book;
use crate::alert::book::Gone;
use crate::alert::book::Kept;
use crate::alert::book::Longer;
use crate::alert::book::Wanted;
use crate::alert::matcher::Matcher;
use crate::alert::matcher::Op;
use crate::alert::message::Reason;
use crate::alert::policy::EpisodeRules;
use crate::alert::silence::Silence;
use crate::alert::told::Claim;
use crate::alert::told::End;
use crate::alert::told::Told;
use crate::alert::told::Whom;
use crate::model::alert::Alert;
use crate::model::labels::Labels;
use crate::model::labels::Piece;
use crate::shard::codec::Malformed;
use crate::shard::codec::Reader;
use crate::shard::codec::Writer;
use crate::shard::policies;

/// In the byte that says why a group is told, or whether it is being told: what only throttles and bundles know stands behind it.
const WITH_MORE: u8 = 0x80;

/// What happens to the book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Words about alerts.
    Post(Vec<Alert>),
    /// Alerts hold longer.
    Longer(Vec<Longer>),
    /// A silence, new or in the place of another one.
    Silence {
        /// With an id that no other has.
        silence: Silence,
        /// The other one's.
        changes: Option<String>,
    },
    /// A silence is over.
    Expire(String),
    /// Somebody takes care of an alert.
    Acknowledge {
        /// Which.
        id: u64,
        /// Who.
        acknowledged: Acknowledged,
    },
    /// Messages are on their way.
    Claim(Vec<Wanted>),
    /// Something came of messages: log, number, what.
    End(Vec<(u64, u64, End)>),
    /// What nobody needs any more.
    Sweep(Gone),
    /// The policies are these.
    Rules(Box<EpisodeRules>),
    /// Episodes up to this one are where the history goes besides.
    Exported(u64),
}

impl Change {
    /// Carries it out; an error says what of it was void.
    pub(super) fn carry_out(self, book: &mut Book, seed: u64, at: i64) -> Result<(), String> {
        match self {
            Change::Post(alerts) => book.post(seed, alerts, at),
            Change::Longer(longer) => book.longer(&longer, at),
            Change::Silence { silence, changes } => book.silence(silence, changes.as_deref(), at),
            Change::Expire(id) => book.expire(&id, at),
            Change::Acknowledge { id, acknowledged } => book.acknowledge(id, acknowledged, at),
            Change::Claim(wanted) => book.claim(seed, wanted),
            Change::End(ended) => {
                book.end(&ended, at);
                Ok(())
            }
            Change::Sweep(gone) => {
                book.sweep(&gone, at);
                Ok(())
            }
            Change::Rules(rules) => {
                book.change_rules(*rules, at);
                Ok(())
            }
            Change::Exported(number) => {
                book.exported(number);
                Ok(())
            }
        }
    }

    pub(super) fn write(&self, out: &mut Writer<'_>) {
        match self {
            Change::Post(alerts) => {
                out.byte(0);
                list(alerts, out, write_alert);
            }
            Change::Longer(longer) => {
                out.byte(1);
                list(longer, out, |longer, out| {
                    out.signed(longer.ends);
                    out.signed(longer.updated);
                    write_ids(&longer.ids, out);
                });
            }
            Change::Silence { silence, changes } => {
                out.byte(2);
                write_silence(silence, out);
                out.byte(u8::from(changes.is_some()));
                out.text(changes.as_deref().unwrap_or_default());
            }
            Change::Expire(id) => {
                out.byte(3);
                out.text(id);
            }
            Change::Acknowledge { id, acknowledged } => {
                out.byte(4);
                out.fixed(*id);
                write_acknowledged(acknowledged, out);
            }
            Change::Claim(wanted) => {
                out.byte(5);
                list(wanted, out, |Wanted { whom, labels, claim }, out| {
                    write_whom(whom, out);
                    write_labels(labels, out);
                    write_claim(claim, out);
                });
            }
            Change::End(ended) => {
                out.byte(6);
                list(ended, out, |(log, number, end), out| {
                    out.fixed(*log);
                    out.number(*number);
                    out.byte(match end {
                        End::Taken => 0,
                        End::Never => 1,
                        End::Dropped => 2,
                    });
                });
            }
            Change::Sweep(gone) => {
                out.byte(7);
                write_ids(&gone.alerts, out);
                write_ids(&gone.logs, out);
                list(&gone.silences, out, |id, out| out.text(id));
            }
            Change::Rules(rules) => {
                out.byte(8);
                policies::write_rules(rules, out);
            }
            Change::Exported(number) => {
                out.byte(16);
                out.number(*number);
            }
        }
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Change, Malformed> {
        Ok(match from.byte()? {
            0 => Change::Post(read_list(from, 7, read_alert)?),
            1 => Change::Longer(read_list(from, 3, |from| {
                Ok(Longer { ends: from.signed()?, updated: from.signed()?, ids: read_ids(from)? })
            })?),
            2 => {
                let (silence, some, changes) = (read_silence(from)?, from.byte()?, from.text()?);
                Change::Silence { silence, changes: (some != 0).then(|| changes.to_owned()) }
            }
            3 => Change::Expire(from.text()?.to_owned()),
            4 => Change::Acknowledge { id: from.fixed()?, acknowledged: read_acknowledged(from)? },
            5 => Change::Claim(read_list(from, 10, |from| {
                Ok(Wanted { whom: read_whom(from)?, labels: read_labels(from)?, claim: read_claim(from)? })
            })?),
            6 => Change::End(read_list(from, 10, |from| {
                let (log, number) = (from.fixed()?, from.number()?);
                let end = match from.byte()? {
                    0 => End::Taken,
                    1 => End::Never,
                    2 => End::Dropped,
                    _ => return Err(Malformed::Impossible("what came of a message")),
                };
                Ok((log, number, end))
            })?),
            7 => {
                let (alerts, logs) = (read_ids(from)?, read_ids(from)?);
                Change::Sweep(Gone { alerts, logs, silences: read_list(from, 1, |from| Ok(from.text()?.to_owned()))? })
            }
            8 => Change::Rules(Box::new(policies::read_rules(from)?)),
            16 => Change::Exported(from.number()?),
            _ => return Err(Malformed::Impossible("what happens to alerts")),
        })
    }
}

/// Appends the book.
pub(super) fn write(book: &Book, out: &mut Writer<'_>) {
    out.number(book.alerts().len() as u64);
    for (id, kept) in book.alerts().iter() {
        out.fixed(id);
        write_alert(&kept.alert, out);
        out.signed(kept.came);
        out.byte(u8::from(kept.acknowledged.is_some()));
        if let Some(acknowledged) = &kept.acknowledged {
            write_acknowledged(acknowledged, out);
        }
    }
    out.number(book.logs().len() as u64);
    for (id, told) in book.logs().iter() {
        out.fixed(id);
        write_told(told, out);
    }
    out.number(book.silences().len() as u64);
    book.silences().values().for_each(|silence| write_silence(silence, out));
}

/// The book as it was written.
pub(super) fn read(from: &mut Reader<'_>) -> Result<Book, Malformed> {
    let mut book = Book::default();
    for _ in 0..from.count(17)? {
        let (id, alert, came) = (from.fixed()?, read_alert(from)?, from.signed()?);
        let acknowledged = if from.byte()? == 0 { None } else { Some(Arc::new(read_acknowledged(from)?)) };
        book.restore_alert(id, Kept { alert, came, acknowledged, ..Kept::default() });
    }
    for _ in 0..from.count(18)? {
        let id = from.fixed()?;
        book.restore_log(id, read_told(from)?);
    }
    for _ in 0..from.count(8)? {
        book.restore_silence(read_silence(from)?);
    }
    Ok(book)
}

pub(super) fn list<T>(items: &[T], out: &mut Writer<'_>, one: impl Fn(&T, &mut Writer<'_>)) {
    out.number(items.len() as u64);
    items.iter().for_each(|item| one(item, out));
}

pub(super) fn read_list<T>(
    from: &mut Reader<'_>,
    least: usize,
    one: impl Fn(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    (0..from.count(least)?).map(|_| one(from)).collect()
}

fn write_ids(ids: &[u64], out: &mut Writer<'_>) {
    list(ids, out, |id, out| out.fixed(*id));
}

fn read_ids(from: &mut Reader<'_>) -> Result<Vec<u64>, Malformed> {
    read_list(from, 8, |from| from.fixed())
}

fn write_labels(labels: &Labels, out: &mut Writer<'_>) {
    out.text(labels.packed());
}

fn unpacked(piece: Piece) -> Result<Labels, Malformed> {
    Labels::unpack(piece).ok_or(Malformed::Impossible("names and values"))
}

fn read_labels(from: &mut Reader<'_>) -> Result<Labels, Malformed> {
    unpacked(from.text()?.into())
}

pub(super) fn write_alert(alert: &Alert, out: &mut Writer<'_>) {
    let (labels, annotations) = (alert.labels.packed(), alert.annotations.packed());
    // As one text, so that it is read as one piece of memory.
    out.number(labels.len() as u64);
    out.number(annotations.len() as u64);
    out.number((labels.len() + annotations.len() + alert.generator.len()) as u64);
    [labels, annotations, &alert.generator].into_iter().for_each(|text| out.0.extend_from_slice(text.as_bytes()));
    [alert.starts, alert.ends, alert.updated].into_iter().for_each(|time| out.signed(time));
    out.byte(u8::from(alert.times_out));
}

pub(super) fn read_alert(from: &mut Reader<'_>) -> Result<Alert, Malformed> {
    let (labels, annotations): (u32, u32) = (from.small()?, from.small()?);
    let text: Arc<str> = from.text()?.into();
    let (middle, whole) = (labels.saturating_add(annotations), u32::try_from(text.len()).unwrap_or(u32::MAX));
    Ok(Alert {
        labels: unpacked(Piece::of(&text, (0, labels)))?,
        annotations: unpacked(Piece::of(&text, (labels, middle)))?,
        generator: Piece::of(&text, (middle, whole)),
        starts: from.signed()?,
        ends: from.signed()?,
        updated: from.signed()?,
        times_out: from.byte()? != 0,
    })
}

pub(super) fn write_acknowledged(acknowledged: &Acknowledged, out: &mut Writer<'_>) {
    out.text(&acknowledged.by);
    out.text(&acknowledged.comment);
    out.signed(acknowledged.at);
}

pub(super) fn read_acknowledged(from: &mut Reader<'_>) -> Result<Acknowledged, Malformed> {
    Ok(Acknowledged { by: from.text()?.to_owned(), comment: from.text()?.to_owned(), at: from.signed()? })
}

pub(super) fn write_matchers(matchers: &[Matcher], out: &mut Writer<'_>) {
    list(matchers, out, |matcher, out| {
        out.text(&matcher.name);
        out.byte(match matcher.op {
            Op::Equal => 0,
            Op::NotEqual => 1,
            Op::Matches => 2,
            Op::NotMatches => 3,
        });
        out.text(&matcher.value);
    });
}

pub(super) fn read_matchers(from: &mut Reader<'_>) -> Result<Vec<Matcher>, Malformed> {
    read_list(from, 3, |from| {
        let name = from.text()?;
        let op = match from.byte()? {
            0 => Op::Equal,
            1 => Op::NotEqual,
            2 => Op::Matches,
            3 => Op::NotMatches,
            _ => return Err(Malformed::Impossible("a matcher's sign")),
        };
        Matcher::new(name, op, from.text()?).map_err(|_| Malformed::Impossible("a matcher's pattern"))
    })
}

fn write_silence(silence: &Silence, out: &mut Writer<'_>) {
    out.text(&silence.id);
    write_matchers(&silence.matchers, out);
    [silence.starts, silence.ends, silence.updated].into_iter().for_each(|time| out.signed(time));
    out.text(&silence.by);
    out.text(&silence.comment);
    write_labels(&silence.annotations, out);
}

fn read_silence(from: &mut Reader<'_>) -> Result<Silence, Malformed> {
    Ok(Silence {
        id: from.text()?.to_owned(),
        matchers: read_matchers(from)?,
        starts: from.signed()?,
        ends: from.signed()?,
        updated: from.signed()?,
        by: from.text()?.to_owned(),
        comment: from.text()?.to_owned(),
        annotations: read_labels(from)?,
    })
}

fn write_whom(whom: &Whom, out: &mut Writer<'_>) {
    out.text(&whom.group);
    out.text(&whom.receiver);
    out.number(u64::from(whom.integration));
}

fn read_whom(from: &mut Reader<'_>) -> Result<Whom, Malformed> {
    Ok(Whom { group: from.text()?.into(), receiver: from.text()?.into(), integration: from.small()? })
}

fn write_claim(claim: &Claim, out: &mut Writer<'_>) {
    out.number(claim.number);
    out.signed(claim.at);
    let reason = match claim.reason {
        None => 0,
        Some(Reason::First) => 1,
        Some(Reason::New) => 2,
        Some(Reason::SomeOver) => 3,
        Some(Reason::AllOver) => 4,
        Some(Reason::Repeat) => 5,
    };
    let more = claim.counts || claim.bundle != 0 || !claim.held.is_empty();
    out.byte(reason | if more { WITH_MORE } else { 0 });
    out.fixed(claim.owner);
    [&claim.firing, &claim.over, &claim.stay, &claim.settled].into_iter().for_each(|ids| write_ids(ids, out));
    if more {
        out.byte(u8::from(claim.counts));
        out.fixed(claim.bundle);
        write_ids(&claim.held, out);
    }
}

fn read_claim(from: &mut Reader<'_>) -> Result<Claim, Malformed> {
    let (number, at, byte) = (from.number()?, from.signed()?, from.byte()?);
    let reason = match byte & !WITH_MORE {
        0 => None,
        1 => Some(Reason::First),
        2 => Some(Reason::New),
        3 => Some(Reason::SomeOver),
        4 => Some(Reason::AllOver),
        5 => Some(Reason::Repeat),
        _ => return Err(Malformed::Impossible("why a group is told")),
    };
    let owner = from.fixed()?;
    let (firing, over, stay, settled) = (read_ids(from)?, read_ids(from)?, read_ids(from)?, read_ids(from)?);
    let claim = Claim { number, at, reason, owner, firing, over, stay, settled, ..Claim::default() };
    match byte & WITH_MORE {
        0 => Ok(claim),
        _ => Ok(Claim { counts: from.byte()? != 0, bundle: from.fixed()?, held: read_ids(from)?, ..claim }),
    }
}

fn write_told(told: &Told, out: &mut Writer<'_>) {
    write_whom(&told.whom, out);
    write_labels(&told.labels, out);
    out.number(told.number);
    out.signed(told.at);
    out.signed(told.base);
    [&told.firing, &told.over, &told.maybe].into_iter().for_each(|ids| write_ids(ids, out));
    let held = if told.held.is_empty() { 0 } else { WITH_MORE };
    out.byte(u8::from(told.claim.is_some()) | held);
    if let Some(claim) = &told.claim {
        write_claim(claim, out);
    }
    if held != 0 {
        write_ids(&told.held, out);
    }
}

fn read_told(from: &mut Reader<'_>) -> Result<Told, Malformed> {
    let (whom, labels, number) = (read_whom(from)?, read_labels(from)?, from.number()?);
    let (at, base) = (from.signed()?, from.signed()?);
    let (firing, over, maybe) = (read_ids(from)?, read_ids(from)?, read_ids(from)?);
    let byte = from.byte()?;
    let claim = if byte & !WITH_MORE == 0 { None } else { Some(read_claim(from)?) };
    let held = if byte & WITH_MORE == 0 { Vec::new() } else { read_ids(from)? };
    Ok(Told { whom, labels, number, at, base, firing, over, maybe, held, claim })
}

/// One of each kind, for the tests of this layer.
#[cfg(test)]
pub(super) fn examples() -> Vec<Change> {
    let labels = |name: &str| Labels::from([("alertname", name), ("a", "b")]);
    let alert = |name: &str, ends: i64| Alert {
        labels: labels(name),
        annotations: labels("x"),
        generator: "http://p/".into(),
        starts: 1_790_000_000_000,
        ends,
        times_out: true,
        updated: 1_790_000_000_000,
    };
    let matchers = crate::alert::matcher::read(r#"a=b,c!="d",e=~"f.*",g!~h"#).map(|read| read.matchers).unwrap_or_default();
    let id = "6ba7b810-9dad-41d1-80b4-00c04fd430c8".to_owned();
    let silence = Silence {
        id: id.clone(),
        matchers,
        starts: 1_790_000_000_000,
        ends: 1_890_000_000_000,
        updated: 0,
        by: "ann".into(),
        comment: "maintenance".into(),
        annotations: Labels::from([("ticket", "1")]),
    };
    let whom = Whom { group: r#"{}:{alertname="X"}"#.into(), receiver: "team".into(), integration: 1 };
    let known = crate::alert::book::id(7, &labels("X"));
    let claim = Claim { number: 5, at: 1_790_000_000_000, reason: Some(Reason::First), owner: 9, firing: vec![known], ..Claim::default() };
    let log = crate::alert::book::log_id(7, &whom);
    let other = Whom { receiver: "chat".into(), ..whom.clone() };
    let hold = Claim { number: 8, at: 1_790_000_000_000, held: vec![known], ..Claim::default() };
    let bundled = Claim { number: 9, bundle: 77, counts: true, ..claim.clone() };
    vec![
        Change::Post(vec![alert("X", 1_890_000_000_000), alert("Y", 1_890_000_000_000)]),
        Change::Longer(vec![Longer { ends: 1_890_000_060_000, updated: 1_790_000_060_000, ids: vec![known] }]),
        Change::Silence { silence: silence.clone(), changes: None },
        Change::Silence { silence: Silence { id: "another".into(), starts: 1_790_000_000_500, ..silence }, changes: Some(id.clone()) },
        Change::Acknowledge { id: known, acknowledged: Acknowledged { by: "ann".into(), comment: "mine".into(), at: 5 } },
        Change::Claim(vec![Wanted { whom, labels: labels("X"), claim }]),
        Change::End(vec![(log, 5, End::Taken), (log, 6, End::Never), (1, 7, End::Dropped)]),
        Change::Claim(vec![Wanted { whom: other.clone(), labels: labels("X"), claim: hold }]),
        Change::Claim(vec![Wanted { whom: other, labels: labels("X"), claim: bundled }]),
        Change::Rules(Box::new(policies::example())),
        Change::Post(vec![alert("Z", 1_890_000_000_000)]),
        Change::Expire(id),
        Change::Exported(1),
        Change::Sweep(Gone { alerts: vec![known, 3], logs: vec![1], silences: vec!["x".into()] }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::episodes;
    use crate::shard::telling;

    #[test]
    fn changes_and_the_book_are_read_as_they_were_written() {
        let mut book = Book::default();
        for change in examples() {
            let mut bytes = Vec::new();
            change.write(&mut Writer(&mut bytes));
            let mut from = Reader(&bytes);
            assert_eq!(Change::read(&mut from).as_ref(), Ok(&change));
            assert_eq!(from.end(), Ok(()));
            change.carry_out(&mut book, 7, 1_790_000_000_000).unwrap();
            // Those go out with the entry, and who was told stands behind the book.
            drop(book.take_closed());
            let mut image = Vec::new();
            write(&book, &mut Writer(&mut image));
            episodes::write(&book, &mut Writer(&mut image));
            policies::write(&book, &mut Writer(&mut image));
            telling::write(&book, &mut Writer(&mut image));
            let mut from = Reader(&image);
            let mut again = read(&mut from).unwrap();
            episodes::read(&mut from, &mut again, true).unwrap();
            policies::read(&mut from, &mut again, true).unwrap();
            telling::read(&mut from, &mut again, true).unwrap();
            assert_eq!(again, book);
            assert_eq!(from.end(), Ok(()));
        }
        assert_eq!((book.alerts().len(), book.logs().len(), book.silences().len()), (3, 2, 1));
        let noted: Vec<usize> =
            book.alerts().iter().filter(|(_, kept)| kept.noted.calm > 0).map(|(_, kept)| kept.noted.changes.len()).collect();
        assert_eq!((noted.len(), noted.iter().sum::<usize>()), (3, 1), "of what came before the rules no beginning is known");
    }
}

//! How episodes of alerts are written: each as a row of the history, and in the control shard's image what it takes to go on.

use std::sync::Arc;

use crate::alert::book::Book;
use crate::alert::episode::Closed;
use crate::alert::episode::Episode;
use crate::alert::episode::Telling;
use crate::alert::message;
use crate::shard::alerting::read_acknowledged;
use crate::shard::alerting::read_alert;
use crate::shard::alerting::write_acknowledged;
use crate::shard::alerting::write_alert;
use crate::shard::codec::Malformed;
use crate::shard::codec::Reader;
use crate::shard::codec::Writer;

/// Raised when a row's layout changes; rows are kept for more than a year.
const VERSION: u8 = 3;
/// Rows up to this version end before the level and how often the alert came again, and do not say who was told by a digest alone.
const FIRST: u8 = 1;
/// Rows up to this version know one level, that at the end.
const ONE_LEVEL: u8 = 2;

/// What decides whether a row goes: when it was closed, and the bytes of all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// ms since 1970.
    pub closed: i64,
    /// Bytes.
    pub before: u64,
}

/// A row, without its number.
pub fn encode(closed: &Closed) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut out, episode) = (Writer(&mut bytes), &closed.episode);
    out.byte(VERSION);
    out.signed(episode.closed);
    out.number(closed.before);
    write_alert(&episode.alert, &mut out);
    out.signed(episode.came);
    out.byte(u8::from(episode.acknowledged.is_some()));
    if let Some(acknowledged) = &episode.acknowledged {
        write_acknowledged(acknowledged, &mut out);
    }
    write_told(&episode.told, &mut out);
    out.text(&episode.silenced);
    out.byte(episode.level);
    out.number(episode.again);
    out.byte(episode.level_at_end);
    bytes
}

fn read_head(from: &mut Reader<'_>) -> Result<(u8, Head), Malformed> {
    match from.byte()? {
        version @ FIRST..=VERSION => Ok((version, Head { closed: from.signed()?, before: from.number()? })),
        other => Err(Malformed::Version(other)),
    }
}

/// What stands first in a row.
pub fn head(row: &[u8]) -> Result<Head, Malformed> {
    read_head(&mut Reader(row)).map(|(_, head)| head)
}

/// The row of a number.
pub fn decode(number: u64, row: &[u8]) -> Result<Closed, Malformed> {
    let mut from = Reader(row);
    let (version, Head { closed, before }) = read_head(&mut from)?;
    let (alert, came) = (read_alert(&mut from)?, from.signed()?);
    let acknowledged = if from.byte()? == 0 { None } else { Some(Arc::new(read_acknowledged(&mut from)?)) };
    let (told, silenced) = (read_told(&mut from, version > FIRST)?, from.text()?.to_owned());
    let (level, again) = match version {
        FIRST => (message::level(&alert.labels), 0),
        _ => (from.byte()?, from.number()?),
    };
    let level_at_end = if version > ONE_LEVEL { from.byte()? } else { level };
    from.end()?;
    Ok(Closed { number, before, episode: Episode { alert, came, closed, acknowledged, told, silenced, level, level_at_end, again } })
}

fn write_told(told: &[Telling], out: &mut Writer<'_>) {
    out.number(told.len() as u64);
    for Telling { receiver, at, over, digest } in told {
        out.text(receiver);
        out.signed(*at);
        out.signed(*over);
        out.byte(u8::from(*digest));
    }
}

fn read_told(from: &mut Reader<'_>, digests: bool) -> Result<Vec<Telling>, Malformed> {
    let one = |from: &mut Reader<'_>| {
        let (receiver, at, over) = (from.text()?.into(), from.signed()?, from.signed()?);
        Ok(Telling { receiver, at, over, digest: digests && from.byte()? != 0 })
    };
    (0..from.count(3)?).map(|_| one(from)).collect()
}

/// Appends how many episodes there were, and who was told of the alerts that are kept.
pub(super) fn write(book: &Book, out: &mut Writer<'_>) {
    let (count, bytes) = book.ledger().totals();
    out.number(count);
    out.number(bytes);
    let told = book.ledger().told();
    out.number(told.len() as u64);
    for (id, told) in told.iter() {
        out.fixed(id);
        write_told(told, out);
    }
}

/// Puts that into the book. `digests`: it says who was told by a digest alone.
pub(super) fn read(from: &mut Reader<'_>, book: &mut Book, digests: bool) -> Result<(), Malformed> {
    let ledger = book.ledger_mut();
    ledger.restore_totals((from.number()?, from.number()?));
    for _ in 0..from.count(9)? {
        ledger.restore_told(from.fixed()?, read_told(from, digests)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::book::Acknowledged;
    use crate::model::alert::Alert;
    use crate::model::labels::Labels;

    #[test]
    fn rows_are_read_as_they_were_written() {
        let labels = Labels::from([("alertname", "X")]);
        let alert = Alert { labels, starts: 1, ends: 9, ..Alert::default() };
        let acknowledged = Some(Arc::new(Acknowledged { by: "ann".into(), comment: "mine".into(), at: 4 }));
        let told = vec![
            Telling { receiver: "db".into(), at: 3, over: 10, digest: true },
            Telling { receiver: "all".into(), at: 4, ..Telling::default() },
        ];
        let episode = Episode { alert, came: 2, closed: 30, acknowledged, told, silenced: "x".into(), level: 2, level_at_end: 4, again: 0 };
        let closed = Closed { number: 7, before: 99, episode };
        let row = encode(&closed);
        assert_eq!(head(&row), Ok(Head { closed: 30, before: 99 }));
        assert_eq!(decode(7, &row), Ok(closed.clone()));
        assert!((0..row.len()).all(|cut| decode(7, &row[..cut]).is_err()));
        // As it was written while an episode had one level.
        let mut one_level = row.clone();
        one_level.pop();
        one_level[0] = ONE_LEVEL;
        assert_eq!(decode(7, &one_level).unwrap().episode, Episode { level_at_end: 2, ..closed.episode.clone() });
        // As it was first written: one byte less behind each receiver, and nothing of levels, which follow from the labels.
        let mut old = row.clone();
        for name in ["db", "all"] {
            let text = [&[u8::try_from(name.len()).unwrap()], name.as_bytes()].concat();
            let at = old.windows(text.len()).position(|bytes| bytes == text).unwrap();
            old.remove(at + text.len() + 2);
        }
        old.truncate(old.len() - 3);
        old[0] = FIRST;
        let without = |telling: &Telling| Telling { digest: false, ..telling.clone() };
        let told = closed.episode.told.iter().map(without).collect();
        assert_eq!(decode(7, &old).unwrap().episode, Episode { level: 3, level_at_end: 3, told, ..closed.episode });
        assert_eq!(head(&old), head(&row));
    }
}

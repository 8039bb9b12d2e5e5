//! What the control shard's image holds of how alerts are told, behind the book and its episodes: since when each is told, and when throttled receivers were
//! told anything; how far the history went where it goes besides; and how often alerts are said.
//!
//! Left out on purpose: the book itself (`shard::alerting`), and who was told (`shard::episodes`).

use crate::alert::beat::Beat;
use crate::alert::book::Book;
use crate::alert::spent::Target;
use crate::shard::codec::Malformed;
use crate::shard::codec::Reader;
use crate::shard::codec::Writer;

/// Appends it.
pub(super) fn write(book: &Book, out: &mut Writer<'_>) {
    let begun = book.ledger().begun();
    out.number(begun.len() as u64);
    for (id, at) in begun.iter() {
        out.fixed(id);
        out.signed(**at);
    }
    out.number(book.ledger().exported());
    let spent = book.spent();
    out.number(spent.all().count() as u64);
    for (target, bundle, times) in spent.all() {
        out.text(&target.receiver);
        out.number(u64::from(target.integration));
        out.fixed(bundle);
        out.number(times.len() as u64);
        times.iter().for_each(|at| out.signed(*at));
    }
    let beats = || book.alerts().iter().filter(|(_, kept)| kept.beat != Beat::default());
    out.number(beats().count() as u64);
    for (id, kept) in beats() {
        out.fixed(id);
        out.number(u64::from(kept.beat.ms));
        out.byte(kept.beat.seen);
    }
}

/// Puts it into the book. `beats`: it says how often alerts are said.
pub(super) fn read(from: &mut Reader<'_>, book: &mut Book, beats: bool) -> Result<(), Malformed> {
    let ledger = book.ledger_mut();
    for _ in 0..from.count(9)? {
        ledger.restore_begun(from.fixed()?, from.signed()?);
    }
    ledger.restore_exported(from.number()?);
    for _ in 0..from.count(11)? {
        let target = Target { receiver: from.text()?.into(), integration: from.small()? };
        let bundle = from.fixed()?;
        let times = (0..from.count(1)?).map(|_| from.signed()).collect::<Result<_, _>>()?;
        book.spent_mut().restore(target, bundle, times);
    }
    let count = if beats { from.count(10)? } else { 0 };
    for _ in 0..count {
        book.restore_beat(from.fixed()?, Beat { ms: from.small()?, seen: from.byte()? });
    }
    Ok(())
}

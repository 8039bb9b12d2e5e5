//! What the control shard's image holds of how alerts are told, behind the book and its episodes: since when each is told.
//!
//! Left out on purpose: the book itself (`shard::alerting`), and who was told (`shard::episodes`).

use crate::alert::book::Book;
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
}

/// Puts it into the book.
pub(super) fn read(from: &mut Reader<'_>, book: &mut Book) -> Result<(), Malformed> {
    let ledger = book.ledger_mut();
    for _ in 0..from.count(9)? {
        ledger.restore_begun(from.fixed()?, from.signed()?);
    }
    Ok(())
}

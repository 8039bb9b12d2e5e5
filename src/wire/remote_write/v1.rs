//! Remote Write 1.0: `prometheus.WriteRequest`. Labels stand in full in every series, usually one sample a series.

use super::DecodeError;
use super::Metadata;
use super::fields;
use super::labels::Found;
use super::labels::Pass;
use super::text::Text;
use crate::wire::proto::Malformed;
use crate::wire::proto::Reader;

/// Keys of `WriteRequest`.
pub(crate) const TIME_SERIES: u32 = 0x0a;
const METADATA: u32 = 0x1a;

pub(super) fn walk<'b>(pass: &mut Pass<'_, 'b>, raw: &'b [u8]) -> Result<(), DecodeError> {
    let mut request = Reader::new(raw);
    let mut text = Text::new(raw);
    while let Some(key) = request.key()? {
        match key {
            TIME_SERIES => series(pass, request.message()?, &mut text)?,
            METADATA => {
                read_metadata(request.message()?)?;
                pass.totals.metadata += 1;
            }
            other => request.skip(other, &[1, 3])?,
        }
    }
    Ok(())
}

fn series<'b>(pass: &mut Pass<'_, 'b>, mut message: Reader<'b>, text: &mut Text<'b>) -> Result<(), DecodeError> {
    pass.begin()?;
    let mut found = Found { raw: message.rest(), ..Found::default() };
    text.begin(message.end());
    labels(pass, &mut message, text, &mut found)?;
    loop {
        let (at, ahead) = (message.at(), message.rest());
        let Some(key) = message.key()? else { break };
        match key {
            0x0a => {
                let label = message.message()?;
                let fault = pass.label_message(label, text, ahead.get(..message.at() - at).unwrap_or_default())?;
                found.blame(fault);
                pass.scratch.messages.end_run(None);
            }
            0x12 => pass.sample(fields::sample(message.message()?, false)?)?,
            0x1a => {
                let (point, fault) = fields::exemplar_v1(message.message()?, text)?;
                found.blame(fault);
                pass.exemplar(point)?;
            }
            0x22 => {
                let (point, fault) = fields::histogram(message.message()?, pass.histogram)?;
                found.blame(fault);
                pass.histogram(point)?;
            }
            other => message.skip(other, &[1, 2, 3, 4])?,
        }
    }
    pass.finish(found);
    Ok(())
}

/// The labels with which a series begins: all of them, as every sender has it.
#[inline(always)]
fn labels<'b>(pass: &mut Pass<'_, 'b>, message: &mut Reader<'b>, text: &mut Text<'b>, found: &mut Found<'b>) -> Result<(), Malformed> {
    let fields = message.rest();
    let start = message.at();
    let mut newest = start;
    loop {
        let again = pass.scratch.messages.take_run(message.rest());
        message.advance(again)?;
        let (at, ahead) = (message.at(), message.rest());
        if !message.next_is(0x0a) {
            break;
        }
        let label = message.message()?;
        let field = ahead.get(..message.at() - at).unwrap_or_default();
        let fault = pass.label_message(label, text, field)?;
        found.blame(fault);
        newest = message.at();
    }
    text.ended(message.end() - newest);
    let fields = fields.get(..message.at() - start).filter(|_| found.fault.is_none());
    pass.scratch.messages.end_run(fields);
    Ok(())
}

/// Visits the metadata entries of a 1.0 request. Best effort, as metadata is everywhere: one that is not UTF-8 is left out.
pub fn metadata<'b>(raw: &'b [u8], visit: &mut dyn FnMut(Metadata<'b>)) -> Result<(), DecodeError> {
    let mut request = Reader::new(raw);
    while let Some(key) = request.key()? {
        match key {
            METADATA => {
                if let Some(entry) = read_metadata(request.message()?)? {
                    visit(entry);
                }
            }
            other => request.skip(other, &[3])?,
        }
    }
    Ok(())
}

fn read_metadata(mut message: Reader<'_>) -> Result<Option<Metadata<'_>>, Malformed> {
    let (mut kind, mut family, mut help, mut unit) = (0, &[][..], &[][..], &[][..]);
    while let Some(key) = message.key()? {
        match key {
            0x08 => kind = message.uint32()?,
            0x12 => family = message.message()?.rest(),
            0x22 => help = message.message()?.rest(),
            0x2a => unit = message.message()?.rest(),
            other => message.skip(other, &[1, 2, 4, 5])?,
        }
    }
    let text = |bytes| std::str::from_utf8(bytes).ok();
    Ok(match (text(family), text(help), text(unit)) {
        (Some(family), Some(help), Some(unit)) => Some(Metadata { family, kind, help, unit }),
        _ => None,
    })
}

//! Remote Write 2.0: `io.prometheus.write.v2.Request`. Strings stand once a request, in the symbol table; series refer to them.
//!
//! Two passes over the request's own fields: symbols may come after the series that use them. Skipping what the
//! other pass reads costs next to nothing.

use super::DecodeError;
use super::Metadata;
use super::SeriesFault;
use super::fields;
use super::hash;
use super::labels::Found;
use super::labels::Pass;
use super::labels::Symbol;
use super::text::Text;
use crate::wire::proto::Malformed;
use crate::wire::proto::Reader;

/// Keys of `Request`.
pub(crate) const SYMBOL: u32 = 0x22;
pub(crate) const TIME_SERIES: u32 = 0x2a;
const KNOWN: [u32; 2] = [4, 5];

pub(super) fn walk<'b>(pass: &mut Pass<'_, 'b>, raw: &'b [u8]) -> Result<(), DecodeError> {
    read_symbols(pass, raw)?;
    let mut request = Reader::new(raw);
    while let Some(key) = request.key()? {
        match key {
            TIME_SERIES => series(pass, request.message()?)?,
            SYMBOL => request.message().map(|_| ())?,
            other => request.skip(other, &KNOWN)?,
        }
    }
    Ok(())
}

fn read_symbols<'b>(pass: &mut Pass<'_, 'b>, raw: &'b [u8]) -> Result<(), DecodeError> {
    let mut request = Reader::new(raw);
    let mut text = Text::new(raw);
    while let Some(key) = request.key()? {
        match key {
            SYMBOL => {
                let string = request.message()?;
                fields::within(pass.scratch.symbols.len(), pass.limits.symbols, "symbols")?;
                let cut = text.cut(string.at(), string.end());
                let hash = cut.map_or(0, |text| hash::part(pass.seed, text));
                pass.scratch.symbols.push(Symbol { text: cut.unwrap_or_default(), hash, bad: cut.is_none() });
            }
            TIME_SERIES => request.message().map(|_| ())?,
            other => request.skip(other, &KNOWN)?,
        }
    }
    if pass.scratch.symbols.first().is_some_and(|first| first.bad || !first.text.is_empty()) {
        return Err(DecodeError::FirstSymbol);
    }
    pass.totals.symbols = pass.scratch.symbols.len();
    Ok(())
}

fn series<'b>(pass: &mut Pass<'_, 'b>, mut message: Reader<'b>) -> Result<(), DecodeError> {
    pass.begin()?;
    let mut found = Found { raw: message.rest(), ..Found::default() };
    let (mut half, mut about) = (None, About::default());
    while let Some(key) = message.key()? {
        match key {
            0x0a => {
                let mut packed = message.message()?;
                while !packed.is_empty() {
                    take_reference(pass, packed.uint32()?, &mut half, &mut found);
                }
            }
            0x08 => take_reference(pass, message.uint32()?, &mut half, &mut found),
            0x12 => pass.sample(fields::sample(message.message()?, true)?)?,
            0x1a => {
                let (point, fault) = fields::histogram(message.message()?, pass.histogram)?;
                found.blame(fault);
                pass.histogram(point)?;
            }
            0x22 => {
                let (point, fault) = fields::exemplar_v2(message.message()?, &pass.scratch.symbols)?;
                found.blame(fault);
                pass.exemplar(point)?;
            }
            0x2a => about.read(message.message()?)?,
            0x30 => found.created = message.int64()?,
            other => message.skip(other, &[1, 2, 3, 4, 5, 6])?,
        }
    }
    if half.is_some() {
        found.blame(Some(SeriesFault::OddReferences));
    }
    match about.resolve(&pass.scratch.symbols) {
        Ok(metadata) => found.metadata = metadata,
        Err(fault) => found.blame(Some(fault)),
    }
    pass.finish(found);
    Ok(())
}

/// Every second reference completes a label, however the field is packed or split.
#[inline(always)]
fn take_reference<'b>(pass: &mut Pass<'_, 'b>, reference: u32, half: &mut Option<u32>, found: &mut Found<'b>) {
    match half.take() {
        None => *half = Some(reference),
        Some(name) => {
            let fault = pass.label_pair((name, reference));
            found.blame(fault);
        }
    }
}

/// A Metadata message. If it comes in several pieces, they are one message: later fields replace earlier ones.
#[derive(Default)]
struct About {
    kind: u32,
    help: u32,
    unit: u32,
}

impl About {
    fn read(&mut self, mut message: Reader<'_>) -> Result<(), Malformed> {
        while let Some(key) = message.key()? {
            match key {
                0x08 => self.kind = message.uint32()?,
                0x18 => self.help = message.uint32()?,
                0x20 => self.unit = message.uint32()?,
                other => message.skip(other, &[1, 3, 4])?,
            }
        }
        Ok(())
    }

    /// Prometheus always sends the message, empty if it knows nothing: that counts as none.
    fn resolve<'b>(&self, symbols: &[Symbol<'b>]) -> Result<Option<Metadata<'b>>, SeriesFault> {
        if self.kind == 0 && self.help == 0 && self.unit == 0 {
            return Ok(None);
        }
        let text = |reference: u32| match symbols.get(reference as usize) {
            // 0 means "not set", also where there is no table.
            None if reference == 0 => Ok(""),
            None => Err(SeriesFault::ReferenceRange),
            Some(symbol) if symbol.bad => Err(SeriesFault::NotUtf8),
            Some(symbol) => Ok(symbol.text),
        };
        Ok(Some(Metadata { family: "", kind: self.kind, help: text(self.help)?, unit: text(self.unit)? }))
    }
}

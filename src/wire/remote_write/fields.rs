//! The small messages: samples and exemplars of both protocols, labels of 1.0, a histogram's frame.

use super::DecodeError;
use super::Point;
use super::SeriesFault;
use super::labels::Symbol;
use super::text::Text;
use crate::model::Kind;
use crate::model::STALE_NAN;
use crate::wire::histogram::Histogram;
use crate::wire::proto::Malformed;
use crate::wire::proto::Reader;

/// A Sample. Field 3, a start time, exists in 2.0 only.
#[inline(always)]
pub(super) fn sample<'b>(mut message: Reader<'b>, has_start: bool) -> Result<Point<'b>, Malformed> {
    let mut point = Point { time: 0, kind: Kind::Float, histogram: false, bits: 0, start: 0, raw: message.rest() };
    while let Some(key) = message.key()? {
        match key {
            0x09 => point.bits = message.fixed64()?,
            0x10 => point.time = message.int64()?,
            0x18 if has_start => point.start = message.int64()?,
            other if has_start => message.skip(other, &[1, 2, 3])?,
            other => message.skip(other, &[1, 2])?,
        }
    }
    if point.bits == STALE_NAN {
        point.kind = Kind::Stale;
    }
    Ok(point)
}

/// A Histogram, read and checked.
pub(super) fn histogram<'b>(message: Reader<'b>, scratch: &mut Histogram) -> Result<(Point<'b>, Option<SeriesFault>), Malformed> {
    let raw = message.rest();
    scratch.read(message)?;
    let kind = if scratch.sum_bits == STALE_NAN { Kind::Stale } else { Kind::Histogram };
    let point = Point { time: scratch.time, kind, histogram: true, bits: scratch.sum_bits, start: scratch.start, raw };
    Ok((point, scratch.check().err().map(SeriesFault::Histogram)))
}

/// A Label message of 1.0; none if it is not UTF-8. Like every proto3 field, the last name and value count.
#[inline(always)]
pub(super) fn label<'b>(message: Reader<'b>, text: &mut Text<'b>) -> Result<Option<(&'b str, &'b str)>, Malformed> {
    match usual_label(message, text) {
        Some(label) => Ok(Some(label)),
        None => any_label(message, text),
    }
}

/// The shape that every sender uses: a name and a value, once each, in this order; lengths below 128.
#[inline(always)]
fn usual_label<'b>(message: Reader<'b>, text: &mut Text<'b>) -> Option<(&'b str, &'b str)> {
    let (start, end) = (message.at(), message.end());
    let [0x0a, name_length @ ..=0x7f, rest @ ..] = message.rest() else { return None };
    let name_length = usize::from(*name_length);
    let (_, after) = rest.split_at_checked(name_length)?;
    let [0x12, value_length @ ..=0x7f, value @ ..] = after else { return None };
    if usize::from(*value_length) != value.len() {
        return None;
    }
    let name = text.cut(start + 2, start + 2 + name_length)?;
    let value = text.cut(start + 4 + name_length, end)?;
    Some((name, value))
}

fn any_label<'b>(mut message: Reader<'b>, text: &mut Text<'b>) -> Result<Option<(&'b str, &'b str)>, Malformed> {
    let (mut name, mut value) = (Some(""), Some(""));
    while let Some(key) = message.key()? {
        let slot = match key {
            0x0a => &mut name,
            0x12 => &mut value,
            other => {
                message.skip(other, &[1, 2])?;
                continue;
            }
        };
        let string = message.message()?;
        *slot = text.cut(string.at(), string.end());
    }
    Ok(name.zip(value))
}

/// An Exemplar of 1.0, whose labels are messages.
pub(super) fn exemplar_v1<'b>(mut message: Reader<'b>, text: &mut Text<'b>) -> Result<(Point<'b>, Option<SeriesFault>), Malformed> {
    let mut point = Point { time: 0, kind: Kind::Exemplar, histogram: false, bits: 0, start: 0, raw: message.rest() };
    let mut fault = None;
    while let Some(key) = message.key()? {
        match key {
            0x0a => {
                if label(message.message()?, text)?.is_none() {
                    fault = Some(SeriesFault::NotUtf8);
                }
            }
            0x11 => point.bits = message.fixed64()?,
            0x18 => point.time = message.int64()?,
            other => message.skip(other, &[1, 2, 3])?,
        }
    }
    Ok((point, fault))
}

/// An Exemplar of 2.0, whose labels are references.
pub(super) fn exemplar_v2<'b>(mut message: Reader<'b>, symbols: &[Symbol<'b>]) -> Result<(Point<'b>, Option<SeriesFault>), Malformed> {
    let mut point = Point { time: 0, kind: Kind::Exemplar, histogram: false, bits: 0, start: 0, raw: message.rest() };
    let (mut fault, mut references) = (None, 0u64);
    while let Some(key) = message.key()? {
        match key {
            0x08 | 0x0a => message.repeated(key, |from| {
                references += 1;
                match symbols.get(from.uint32()? as usize) {
                    None => fault = Some(SeriesFault::ReferenceRange),
                    Some(symbol) if symbol.bad => fault = Some(SeriesFault::NotUtf8),
                    Some(_) => {}
                }
                Ok(())
            })?,
            0x11 => point.bits = message.fixed64()?,
            0x18 => point.time = message.int64()?,
            other => message.skip(other, &[1, 2, 3])?,
        }
    }
    if references % 2 == 1 && fault.is_none() {
        fault = Some(SeriesFault::OddReferences);
    }
    Ok((point, fault))
}

/// The labels of an exemplar that has been read without fault: no symbols means 1.0 (a 2.0 request has at least the empty one, or no
/// references at all).
pub(super) fn exemplar_labels<'b>(raw: &'b [u8], symbols: &[Symbol<'b>], visit: &mut dyn FnMut(&'b str, &'b str)) {
    let mut message = Reader::new(raw);
    let mut text = Text::new(raw);
    let mut name = None;
    while let Ok(Some(key)) = message.key() {
        let read = match key {
            0x0a if symbols.is_empty() => message.message().map(|inner| {
                if let Ok(Some((name, value))) = label(inner, &mut text) {
                    visit(name, value);
                }
            }),
            0x08 | 0x0a => message.repeated(key, |from| {
                let symbol = symbols.get(from.uint32()? as usize).map_or("", |symbol| symbol.text);
                match name.take() {
                    None => name = Some(symbol),
                    Some(name) => visit(name, symbol),
                }
                Ok(())
            }),
            other => message.skip(other, &[]),
        };
        if read.is_err() {
            return;
        }
    }
}

/// Room for one more, or the refusal of the request.
pub(super) fn within(count: usize, limit: usize, what: &'static str) -> Result<(), DecodeError> {
    if count >= limit { Err(DecodeError::TooMany { what, limit }) } else { Ok(()) }
}

//! The protobuf wire format, as far as remote write needs it: a reader over borrowed bytes.
//!
//! Stricter than protobuf in two ways, both on purpose: groups are refused (deprecated, in no message of ours, and a way to nest without
//! end), and a known field with the wrong wire type is refused instead of being skipped (as prost does; a receiver that skips it answers
//! 2xx for data that it did not take). Varints may be padded (some encoders do), but not beyond 10 bytes or 64 bits.

/// What is wrong with the bytes, as protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A value or message ends after its container.
    #[error("it ends in the middle of a field")]
    Truncated,
    /// More than 64 bits.
    #[error("a varint is longer than 64 bits")]
    Varint,
    /// Field number 0, or one above 2^29.
    #[error("a field number is 0 or out of range")]
    FieldNumber,
    /// A group, wire type 6 or 7, or a known field in a form it cannot have.
    #[error("a field has a wire type it cannot have")]
    WireType,
}

/// Wire types; the low three bits of a key.
pub(crate) const VARINT: u32 = 0;
const FIXED64: u32 = 1;
/// Length-delimited: strings, messages, packed scalars.
pub(crate) const LENGTH: u32 = 2;
const FIXED32: u32 = 5;

/// A cursor over a message. `at` counts from the start of the outermost buffer, so that positions of nested messages can be compared.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'b> {
    /// From the start of the outermost buffer to the end of this message.
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Reader<'b> {
        Reader { bytes, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Where this message ends.
    pub(crate) fn end(&self) -> usize {
        self.bytes.len()
    }

    /// What has not been read.
    pub(crate) fn rest(&self) -> &'b [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Steps over the next byte if it is this one: a key of one byte that is expected here.
    #[inline(always)]
    pub(crate) fn next_is(&mut self, key: u8) -> bool {
        let is = self.bytes.get(self.at) == Some(&key);
        self.at += usize::from(is);
        is
    }

    #[inline(always)]
    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.varint_of_two(),
        }
    }

    /// References above 127 and lengths of most series.
    #[inline(always)]
    fn varint_of_two(&mut self) -> Result<u64, Malformed> {
        match self.rest().first_chunk::<2>() {
            Some([low, high]) if *high < 0x80 => {
                self.at += 2;
                Ok(u64::from(low & 0x7f) | u64::from(*high) << 7)
            }
            _ => self.varint_of_several(),
        }
    }

    fn varint_of_several(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for (place, &byte) in self.rest().iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                if place == 9 && byte > 1 {
                    return Err(Malformed::Varint);
                }
                self.at += place + 1;
                return Ok(value);
            }
        }
        Err(if self.rest().len() < 10 { Malformed::Truncated } else { Malformed::Varint })
    }

    /// The next key (field number << 3 | wire type), or none at the end of the message.
    #[inline(always)]
    pub(crate) fn key(&mut self) -> Result<Option<u32>, Malformed> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        let key = u32::try_from(self.varint()?).map_err(|_| Malformed::FieldNumber)?;
        if key < 8 { Err(Malformed::FieldNumber) } else { Ok(Some(key)) }
    }

    /// A length and that many bytes, as a reader of their own.
    #[inline(always)]
    pub(crate) fn message(&mut self) -> Result<Reader<'b>, Malformed> {
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed::Truncated)?;
        let start = self.at;
        let end = start.checked_add(length).ok_or(Malformed::Truncated)?;
        let bytes = self.bytes.get(..end).ok_or(Malformed::Truncated)?;
        self.at = end;
        Ok(Reader { bytes, at: start })
    }

    /// Eight bytes, little-endian: a double's bits.
    #[inline(always)]
    pub(crate) fn fixed64(&mut self) -> Result<u64, Malformed> {
        let bytes = self.rest().first_chunk::<8>().ok_or(Malformed::Truncated)?;
        self.at += 8;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// An int64 or int32: negative ones take ten bytes.
    #[inline(always)]
    pub(crate) fn int64(&mut self) -> Result<i64, Malformed> {
        Ok(self.varint()?.cast_signed())
    }

    /// A uint32 or enum; like every protobuf library, the high bits of a longer varint are dropped.
    #[inline(always)]
    pub(crate) fn uint32(&mut self) -> Result<u32, Malformed> {
        Ok((self.varint()? & 0xffff_ffff) as u32)
    }

    /// A sint32.
    pub(crate) fn sint32(&mut self) -> Result<i32, Malformed> {
        let zigzag = self.uint32()?;
        Ok((zigzag >> 1).cast_signed() ^ -((zigzag & 1).cast_signed()))
    }

    /// A sint64.
    pub(crate) fn sint64(&mut self) -> Result<i64, Malformed> {
        Ok(unzigzag(self.varint()?))
    }

    /// Skips the field of this key, which its message does not know; `known` are the numbers it does know, met here only in a wrong form.
    pub(crate) fn skip(&mut self, key: u32, known: &[u32]) -> Result<(), Malformed> {
        if known.contains(&(key >> 3)) {
            return Err(Malformed::WireType);
        }
        match key & 7 {
            VARINT => self.varint().map(|_| ()),
            LENGTH => self.message().map(|_| ()),
            FIXED64 => self.advance(8),
            FIXED32 => self.advance(4),
            _ => Err(Malformed::WireType),
        }
    }

    /// Steps over so many bytes.
    #[inline(always)]
    pub(crate) fn advance(&mut self, bytes: usize) -> Result<(), Malformed> {
        if self.rest().len() < bytes {
            return Err(Malformed::Truncated);
        }
        self.at += bytes;
        Ok(())
    }

    /// A repeated scalar, packed or not, as `key` says: `each` reads one.
    pub(crate) fn repeated(&mut self, key: u32, mut each: impl FnMut(&mut Reader<'b>) -> Result<(), Malformed>) -> Result<(), Malformed> {
        if key & 7 != LENGTH {
            return each(self);
        }
        let mut packed = self.message()?;
        while packed.at < packed.bytes.len() {
            each(&mut packed)?;
        }
        Ok(())
    }
}

/// What a zigzag varint stands for.
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// Small numbers of either sign as small varints.
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// Appends a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length-delimited field.
pub(crate) fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_varint(out, u64::from(field << 3 | LENGTH));
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a varint field; like proto3, nothing for 0.
pub(crate) fn put_uint(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        put_varint(out, u64::from(field << 3 | VARINT));
        put_varint(out, value);
    }
}

/// Appends a double by its bits; like proto3, nothing for +0.0.
pub(crate) fn put_double(out: &mut Vec<u8>, field: u32, bits: u64) {
    if bits != 0 {
        put_double_always(out, field, bits);
    }
}

/// Appends a double by its bits, +0.0 too: a member of a oneof, whose presence says which member it is.
pub(crate) fn put_double_always(out: &mut Vec<u8>, field: u32, bits: u64) {
    put_varint(out, u64::from(field << 3 | FIXED64));
    out.extend_from_slice(&bits.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_hold_64_bits_and_no_more() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.varint(), Ok(value));
            assert!(reader.rest().is_empty());
        }
        assert_eq!(Reader::new(&[0x81, 0x80, 0x00]).varint(), Ok(1), "padded");
        assert_eq!(Reader::new(&[0xff; 9]).varint(), Err(Malformed::Truncated));
        assert_eq!(Reader::new(&[0xff; 11]).varint(), Err(Malformed::Varint));
        let over = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(Reader::new(&over).varint(), Err(Malformed::Varint));
    }

    #[test]
    fn zigzag_goes_both_ways() {
        for value in [0, -1, 1, i64::MIN, i64::MAX, -300] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
        assert_eq!(Reader::new(&[0x03]).sint32(), Ok(-2));
    }

    #[test]
    fn groups_and_field_zero_and_known_fields_in_wrong_form_are_refused() {
        assert_eq!(Reader::new(&[0x00, 0x00]).key(), Err(Malformed::FieldNumber));
        for key in [0x0b, 0x0c, 0x0e, 0x0f] {
            assert_eq!(Reader::new(&[0; 9]).skip(key, &[]), Err(Malformed::WireType));
        }
        assert_eq!(Reader::new(&[0]).skip(0x08, &[1]), Err(Malformed::WireType));
        assert_eq!(Reader::new(&[0]).skip(0x08, &[2]), Ok(()));
        assert_eq!(Reader::new(&[5, 0]).skip(0x0a, &[]), Err(Malformed::Truncated));
    }
}

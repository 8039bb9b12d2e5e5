//! The alphabet of our own formats (entries, emissions, images): little-endian numbers, LEB128 varints, bytes with their length before them.
//!
//! Reading trusts nothing: whatever the bytes are, the answer is a value or an error, and no length in them makes us allocate.

/// Why bytes could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They end too early.
    #[error("it ends too early")]
    Cut,
    /// A version that this program does not know.
    #[error("it has version {0}, which this program does not know")]
    Version(u8),
    /// Something in them cannot be; this names it.
    #[error("{0} cannot be")]
    Impossible(&'static str),
}

/// Appends to bytes.
pub struct Writer<'a>(pub &'a mut Vec<u8>);

impl Writer<'_> {
    /// One byte.
    pub fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    /// A varint.
    pub fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A signed number, zigzag.
    pub fn signed(&mut self, value: i64) {
        self.number(((value << 1) ^ (value >> 63)) as u64);
    }

    /// Eight bytes, little-endian.
    pub fn fixed(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Bytes with their length.
    pub fn bytes(&mut self, value: &[u8]) {
        self.number(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// Text with its length.
    pub fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }
}

/// Reads bytes from their front.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// One byte.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let (&first, rest) = self.0.split_first().ok_or(Malformed::Cut)?;
        self.0 = rest;
        Ok(first)
    }

    /// A varint.
    pub fn number(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed::Impossible("a number of more than 64 bits"))
    }

    /// A signed number, zigzag.
    pub fn signed(&mut self) -> Result<i64, Malformed> {
        let value = self.number()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A varint that fits.
    pub fn small<T: TryFrom<u64>>(&mut self) -> Result<T, Malformed> {
        T::try_from(self.number()?).map_err(|_| Malformed::Impossible("a number that large"))
    }

    /// Eight bytes, little-endian.
    pub fn fixed(&mut self) -> Result<u64, Malformed> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Malformed::Cut)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*first))
    }

    /// Bytes with their length.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.number()?).map_err(|_| Malformed::Cut)?;
        let (first, rest) = self.0.split_at_checked(length).ok_or(Malformed::Cut)?;
        self.0 = rest;
        Ok(first)
    }

    /// Text with its length.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::Impossible("text that is not UTF-8"))
    }

    /// Text with its length; none where nothing is left, as from before there was such a text.
    pub fn text_if_any(&mut self) -> Result<&'a str, Malformed> {
        if self.0.is_empty() { Ok("") } else { self.text() }
    }

    /// A count of things of which each takes at least `least` bytes.
    pub fn count(&mut self, least: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.number()?).map_err(|_| Malformed::Cut)?;
        if count > self.0.len() / least.max(1) { Err(Malformed::Cut) } else { Ok(count) }
    }

    /// Nothing may be left.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed::Impossible("bytes after the end")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        let mut out = Writer(&mut bytes);
        for value in [0, 1, 127, 128, 300, u64::MAX] {
            out.number(value);
        }
        for value in [0, -1, 1, i64::MIN, i64::MAX] {
            out.signed(value);
        }
        out.text("text");
        let mut from = Reader(&bytes);
        for value in [0, 1, 127, 128, 300, u64::MAX] {
            assert_eq!(from.number(), Ok(value));
        }
        for value in [0, -1, 1, i64::MIN, i64::MAX] {
            assert_eq!(from.signed(), Ok(value));
        }
        assert_eq!(from.text(), Ok("text"));
        assert_eq!(from.end(), Ok(()));
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_refused() {
        assert!(Reader(&[0xff; 10]).number().is_err());
        assert!(Reader(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).number().is_err());
    }
}

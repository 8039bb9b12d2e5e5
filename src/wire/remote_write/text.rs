//! UTF-8 checked in long runs instead of string by string.
//!
//! A request holds 28 short strings a sample, and checking each costs more than walking it. But what stands between them, keys and
//! lengths below 128, is ASCII: so a whole stretch of labels is checked in one go and the strings are cut out of it. A longer string's
//! length ends the stretch; the next one starts at that string. Read front to back, each byte is looked at twice at most.

/// The stretch of `bytes` that is known to be text.
pub(crate) struct Text<'b> {
    start: usize,
    known: &'b str,
}

impl<'b> Text<'b> {
    pub(crate) fn new() -> Text<'b> {
        Text { start: 0, known: "" }
    }

    /// `bytes[from..to]` as text, if it is. `bytes` must be cut from the same buffer each time, and `to` be within it.
    #[inline(always)]
    pub(crate) fn cut(&mut self, bytes: &'b [u8], from: usize, to: usize) -> Option<&'b str> {
        match (from.checked_sub(self.start), to.checked_sub(self.start)) {
            (Some(first), Some(end)) if end <= self.known.len() => self.known.get(first..end),
            _ => self.extend(bytes, from, to),
        }
    }

    /// Starts a new stretch at `from`, as long as it can be.
    fn extend(&mut self, bytes: &'b [u8], from: usize, to: usize) -> Option<&'b str> {
        let ahead = bytes.get(from..)?;
        self.known = match std::str::from_utf8(ahead) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(ahead.get(..error.valid_up_to())?).unwrap_or_default(),
        };
        self.start = from;
        self.known.get(..to.checked_sub(from)?)
    }
}

#[cfg(test)]
mod tests {
    use super::Text;

    #[test]
    fn a_string_is_text_only_if_it_is_by_itself() {
        // "ä" is C3 A4. Cut in the middle it is no text, although its surroundings are.
        let bytes = "xä\u{1}y".as_bytes();
        let mut text = Text::new();
        assert_eq!(text.cut(bytes, 0, 3), Some("xä"));
        assert_eq!(text.cut(bytes, 0, 2), None);
        assert_eq!(text.cut(bytes, 2, 3), None);
        assert_eq!(text.cut(bytes, 3, 5), Some("\u{1}y"));
        assert_eq!(text.cut(bytes, 5, 5), Some(""));
    }

    #[test]
    fn a_stretch_ends_at_what_is_no_text_and_the_next_begins_behind_it() {
        let bytes = b"ab\x96\x01cd\xff";
        let mut text = Text::new();
        assert_eq!(text.cut(bytes, 0, 2), Some("ab"));
        assert_eq!(text.cut(bytes, 1, 3), None);
        assert_eq!(text.cut(bytes, 4, 6), Some("cd"));
        assert_eq!(text.cut(bytes, 4, 7), None);
        assert_eq!(text.cut(bytes, 0, 2), Some("ab"), "going back is allowed");
    }
}

//! UTF-8 checked in long runs instead of string by string.
//!
//! A request holds 28 short strings a sample, and checking each costs more than walking it. But what stands between them, keys and
//! lengths below 128, is ASCII: so a whole stretch of labels is checked in one go and the strings are cut out of it. A longer string's
//! length ends the stretch; the next one starts at that string. Read front to back, each byte is looked at twice at most.

/// The stretch of a buffer that is known to be text.
pub(crate) struct Text<'b> {
    bytes: &'b [u8],
    start: usize,
    known: &'b str,
    /// Where no more text is expected.
    end: usize,
    /// Behind the last label of the last series that had to be looked at there were so many bytes: labels known from the series before, which
    /// need no check, and a sample, which would end the stretch with an error and have its good part checked again.
    behind: usize,
}

impl<'b> Text<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Text<'b> {
        Text { bytes, start: 0, known: "", end: bytes.len(), behind: 0 }
    }

    /// A message begins that ends here.
    #[inline(always)]
    pub(crate) fn begin(&mut self, end: usize) {
        self.end = end.saturating_sub(self.behind);
    }

    /// The message's text, as far as it was new, has ended so many bytes before the message, and will probably do so in the next one.
    #[inline(always)]
    pub(crate) fn ended(&mut self, behind: usize) {
        self.behind = behind;
    }

    /// `bytes[from..to]` as text, if it is.
    #[inline(always)]
    pub(crate) fn cut(&mut self, from: usize, to: usize) -> Option<&'b str> {
        match (from.checked_sub(self.start), to.checked_sub(self.start)) {
            (Some(first), Some(end)) if end <= self.known.len() => self.known.get(first..end),
            _ => self.extend(from, to),
        }
    }

    /// Starts a new stretch at `from`, as long as it can be.
    fn extend(&mut self, from: usize, to: usize) -> Option<&'b str> {
        let ahead = self.bytes.get(from..self.end.max(to))?;
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
        let mut text = Text::new("xä\u{1}y".as_bytes());
        assert_eq!(text.cut(0, 3), Some("xä"));
        assert_eq!(text.cut(0, 2), None);
        assert_eq!(text.cut(2, 3), None);
        assert_eq!(text.cut(3, 5), Some("\u{1}y"));
        assert_eq!(text.cut(5, 5), Some(""));
    }

    #[test]
    fn a_stretch_ends_at_what_is_no_text_and_the_next_begins_behind_it() {
        let mut text = Text::new(b"ab\x96\x01cd\xff");
        assert_eq!(text.cut(0, 2), Some("ab"));
        assert_eq!(text.cut(1, 3), None);
        assert_eq!(text.cut(4, 6), Some("cd"));
        assert_eq!(text.cut(4, 7), None);
        assert_eq!(text.cut(0, 2), Some("ab"), "going back is allowed");
    }

    #[test]
    fn where_text_is_expected_to_end_changes_no_answer() {
        let mut text = Text::new(b"abcdef\xff\xffgh");
        text.ended(7);
        text.begin(8);
        assert_eq!((text.cut(0, 1), text.known), (Some("a"), "a"));
        assert_eq!(text.cut(0, 6), Some("abcdef"));
        assert_eq!(text.cut(0, 7), None);
        text.ended(100);
        text.begin(10);
        assert_eq!(text.cut(8, 10), Some("gh"));
    }
}

//! Names and values of an alert, in one piece of text that is shared and never changed: a hundred thousand alerts are a hundred thousand pieces of memory and not
//! some millions, what is written to entries is copied as it stands, and two of them are compared as texts.
//!
//! In the text each name, and each value, has its length before it, in digits of base 64 of which each is one character (the lowest first; all but the last
//! have 64 added): so the whole is UTF-8 and is looked through once. Names are sorted, none is there twice: equal labels are equal texts.
//! Left out on purpose: series, which have labels of their own kind (`wire`), and what labels mean.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de::MapAccess;
use serde::de::Visitor;

/// Bits of a digit of a length.
const DIGIT: u32 = 6;
/// What is added to a digit that is not the last.
const MORE: u8 = 1 << DIGIT;
/// No length has more digits.
const MOST_DIGITS: usize = 6;

/// A part of a text that others may have parts of, too.
#[derive(Clone, Default)]
pub struct Piece {
    text: Arc<str>,
    from: u32,
    to: u32,
}

impl Piece {
    /// A part of this text; empty where that is none.
    pub fn of(text: &Arc<str>, (from, to): (u32, u32)) -> Piece {
        Piece { text: Arc::clone(text), from, to }
    }
}

impl Deref for Piece {
    type Target = str;

    fn deref(&self) -> &str {
        self.text.get(self.from as usize..self.to as usize).unwrap_or_default()
    }
}

impl From<&str> for Piece {
    fn from(text: &str) -> Piece {
        Piece { text: text.into(), from: 0, to: place(text.len()) }
    }
}

impl From<String> for Piece {
    fn from(text: String) -> Piece {
        Piece::from(&*text)
    }
}

impl PartialEq for Piece {
    fn eq(&self, other: &Piece) -> bool {
        **self == **other
    }
}

impl Eq for Piece {}

impl fmt::Debug for Piece {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, out)
    }
}

fn place(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Names and values, sorted by name. A label that is not there has the empty value, as everywhere in Prometheus.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Labels(Piece);

/// A length, and what comes after it.
fn length(text: &str) -> Option<(usize, &str)> {
    let mut value = 0_usize;
    for (at, digit) in text.bytes().take(MOST_DIGITS).enumerate() {
        value |= usize::from(digit & (MORE - 1)) << (DIGIT * place(at));
        if digit < MORE {
            return Some((value, text.get(at + 1..)?));
        }
    }
    None
}

fn one(text: &str) -> Option<(&str, &str)> {
    let (length, rest) = length(text)?;
    rest.split_at_checked(length)
}

/// The pairs, in the order of their names.
#[derive(Clone)]
pub struct Pairs<'l>(&'l str);

impl<'l> Iterator for Pairs<'l> {
    type Item = (&'l str, &'l str);

    fn next(&mut self) -> Option<(&'l str, &'l str)> {
        let (name, rest) = one(self.0)?;
        let (value, rest) = one(rest)?;
        self.0 = rest;
        Some((name, value))
    }
}

impl Labels {
    /// None.
    pub fn new() -> Labels {
        Labels::default()
    }

    /// A list of a [`Packer`], by its text and the list's place there.
    pub fn of(text: &Arc<str>, place: (u32, u32)) -> Labels {
        Labels(Piece::of(text, place))
    }

    /// What [`Labels::packed`] gave, if that is what it is.
    pub fn unpack(piece: Piece) -> Option<Labels> {
        let mut pairs = Pairs(&piece);
        let (mut before, mut packed) = (None, 0);
        for (name, value) in pairs.by_ref() {
            if before.is_some_and(|before| before >= name) {
                return None;
            }
            packed += [name, value].into_iter().map(|text| digits(text.len()) + text.len()).sum::<usize>();
            before = Some(name);
        }
        (packed == piece.len()).then_some(Labels(piece))
    }

    /// The text in which they stand.
    pub fn packed(&self) -> &str {
        &self.0
    }

    /// The pairs, in the order of their names.
    pub fn iter(&self) -> Pairs<'_> {
        Pairs(&self.0)
    }

    /// The names.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(name, _)| name)
    }

    /// The values.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(_, value)| value)
    }

    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.iter().find(|(known, _)| *known >= name)?;
        (found.0 == name).then_some(found.1)
    }

    /// Whether there is this name.
    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there are more than so many; those that are short need not be counted, as each has two lengths.
    pub fn more_than(&self, most: usize) -> bool {
        self.0.len() > 2 * most && self.len() > most
    }

    /// The same with this one, in the place of another of its name.
    pub fn with(&self, name: &str, value: &str) -> Labels {
        self.iter().chain([(name, value)]).collect()
    }

    /// The same with this one, unless there is another of its name.
    pub fn or(self, name: &str, value: &str) -> Labels {
        if self.contains_key(name) { self } else { self.with(name, value) }
    }

    /// Those that say something: an empty value is the same as no label.
    pub fn said(self) -> Labels {
        if self.values().any(str::is_empty) { self.iter().filter(|(_, value)| !value.is_empty()).collect() } else { self }
    }
}

fn digits(length: usize) -> usize {
    (1..MOST_DIGITS).find(|digits| length >> (DIGIT * place(*digits)) == 0).unwrap_or(MOST_DIGITS)
}

/// Puts several lists of names and values, and other texts, into one text that all of them share. Its memory is used again.
#[derive(Debug, Default)]
pub struct Packer {
    text: String,
    /// Where the list begins.
    from: usize,
    /// Where its last name stands.
    last: Option<(usize, usize)>,
    unsorted: bool,
}

impl Packer {
    /// Adds a pair to the list. The last one of a name counts.
    pub fn add(&mut self, name: &str, value: &str) {
        let sorted = self.last.is_none_or(|(from, to)| self.text.get(from..to).is_some_and(|last| last < name));
        self.unsorted |= !sorted;
        let from = self.put(name);
        self.last = Some((from, self.text.len()));
        self.put(value);
    }

    fn put(&mut self, text: &str) -> usize {
        let mut length = text.len();
        while length >= usize::from(MORE) {
            self.text.push(char::from(MORE | (length & usize::from(MORE - 1)) as u8));
            length >>= DIGIT;
        }
        self.text.push(char::from(length as u8));
        let from = self.text.len();
        self.text.push_str(text);
        from
    }

    /// The list is whole, and another one begins. Says where it is.
    pub fn list(&mut self) -> (u32, u32) {
        if std::mem::take(&mut self.unsorted) {
            let packed = self.text.split_off(self.from);
            let mut pairs: Vec<_> = Pairs(&packed).collect();
            // Of one name the last comes first.
            pairs.reverse();
            pairs.sort_by_key(|(name, _)| *name);
            pairs.dedup_by_key(|(name, _)| *name);
            for (name, value) in pairs {
                self.put(name);
                self.put(value);
            }
        }
        self.last = None;
        self.place()
    }

    /// A text that is no list. Says where it is.
    pub fn text(&mut self, text: &str) -> (u32, u32) {
        self.text.push_str(text);
        self.place()
    }

    fn place(&mut self) -> (u32, u32) {
        let from = std::mem::replace(&mut self.from, self.text.len());
        (place(from), place(self.text.len()))
    }

    /// The text that all of it is in; begins anew.
    pub fn take(&mut self) -> Arc<str> {
        let text = Arc::from(&*self.text);
        self.clear();
        text
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        self.text.clear();
        (self.from, self.last, self.unsorted) = (0, None, false);
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Labels {
        let mut packer = Packer::default();
        pairs.into_iter().for_each(|(name, value)| packer.add(name.as_ref(), value.as_ref()));
        let place = packer.list();
        Labels::of(&packer.take(), place)
    }
}

impl<N: AsRef<str>, V: AsRef<str>, const COUNT: usize> From<[(N, V); COUNT]> for Labels {
    fn from(pairs: [(N, V); COUNT]) -> Labels {
        pairs.into_iter().collect()
    }
}

impl<'l> IntoIterator for &'l Labels {
    type Item = (&'l str, &'l str);
    type IntoIter = Pairs<'l>;

    fn into_iter(self) -> Pairs<'l> {
        self.iter()
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Labels) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Labels) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Labels, D::Error> {
        struct Reading;
        impl<'de> Visitor<'de> for Reading {
            type Value = Labels;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("names and values, all of them text")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Labels, A::Error> {
                let mut packer = Packer::default();
                while let Some((name, value)) = pairs.next_entry::<Cow<'_, str>, Cow<'_, str>>()? {
                    packer.add(&name, &value);
                }
                let place = packer.list();
                Ok(Labels::of(&packer.take(), place))
            }
        }
        reader.deserialize_map(Reading)
    }
}

/// For tests: where it must be there.
#[cfg(test)]
impl std::ops::Index<&str> for Labels {
    type Output = str;

    fn index(&self, name: &str) -> &str {
        self.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn text(random: &mut fastrand::Rng) -> String {
        let length = [0, 1, 3, 62, 63, 64, 65, 4095, 4096, 5000][random.usize(0..10)];
        let kind = random.u8(0..3);
        (0..length).map(|_| [random.char('a'..='c'), random.char('\0'..='\u{7f}'), random.char(..)][usize::from(kind)]).collect()
    }

    #[test]
    fn they_are_what_a_sorted_map_is() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..500 {
            let pairs: Vec<(String, String)> = (0..random.usize(0..8)).map(|_| (text(&mut random), text(&mut random))).collect();
            let map: BTreeMap<&str, &str> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
            let labels: Labels = pairs.iter().map(|(name, value)| (name, value)).collect();
            assert!(labels.iter().eq(map.iter().map(|(name, value)| (*name, *value))), "{pairs:?}");
            assert_eq!((labels.len(), labels.is_empty()), (map.len(), map.is_empty()));
            for name in map.keys().copied().chain(["", "b", "none"]) {
                assert_eq!(labels.get(name), map.get(name).copied());
            }
            assert_eq!(labels, map.iter().collect::<Labels>(), "in whatever order they come");
            assert_eq!(Labels::unpack(labels.packed().into()).as_ref(), Some(&labels));
            assert_eq!(serde_json::from_str::<Labels>(&serde_json::to_string(&map).unwrap()).unwrap(), labels);
            assert_eq!(serde_json::to_string(&labels).unwrap(), serde_json::to_string(&map).unwrap());
        }
    }

    #[test]
    fn lists_share_a_text_and_each_is_sorted_by_itself() {
        let mut packer = Packer::default();
        for _ in 0..2 {
            [("b", "1"), ("a", "2"), ("b", "3")].into_iter().for_each(|(name, value)| packer.add(name, value));
            let first = packer.list();
            packer.add("a", "4");
            let second = packer.list();
            let third = packer.text("x");
            let whole = packer.take();
            assert_eq!(Labels::unpack(Piece::of(&whole, first)), Some(Labels::from([("a", "2"), ("b", "3")])));
            assert_eq!(Labels::unpack(Piece::of(&whole, second)), Some(Labels::from([("a", "4")])));
            assert_eq!(&*Piece::of(&whole, third), "x");
        }
    }

    #[test]
    fn what_is_damaged_is_none_or_another_list() {
        let mut random = fastrand::Rng::with_seed(5);
        let good = Labels::from([("alertname", "X"), ("instance", "a"), ("long", &"y".repeat(100))]);
        for _ in 0..20_000 {
            let mut bytes = good.packed().as_bytes().to_vec();
            for _ in 0..random.usize(1..4) {
                let place = random.usize(0..bytes.len());
                bytes[place] = random.u8(0..0x80);
            }
            let text = String::from_utf8(bytes).unwrap();
            if let Some(labels) = Labels::unpack(text.as_str().into()) {
                assert_eq!(labels, labels.iter().collect::<Labels>(), "as if it had been packed here: {text:?}");
            }
        }
        for wrong in ["\u{1}a", "\u{1}a\u{2}b", "\u{1}b\u{1}x\u{1}a\u{1}x", "\u{1}a\u{1}x\u{1}a\u{1}x", "\u{41}\0a\u{1}x", "é"] {
            assert_eq!(Labels::unpack(wrong.into()), None, "{wrong:?}");
        }
    }

    #[test]
    fn they_are_ordered_by_pairs() {
        assert!(Labels::from([("a", "2")]) < Labels::from([("a", "10"), ("b", "1")]).with("a", "3"));
        assert!(Labels::new() < Labels::from([("a", "")]));
    }
}

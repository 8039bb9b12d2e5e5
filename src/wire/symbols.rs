//! The symbol table of a request of 2.0 while it is being made: each text once, found without making a text of it, and labels found by what is known of them already.

use std::ops::Range;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::wire::proto::put_bytes;
use crate::wire::remote_write::Label;

/// The table so far.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    /// As fields of the request.
    fields: Vec<u8>,
    /// Where each symbol's text stands in them; the first is number 1.
    texts: Vec<Range<usize>>,
    /// Hashes of symbols, and their numbers.
    numbers: HashTable<(u64, u32)>,
    /// Of those hashes: a series' own, by which nobody outside can choose texts that collide.
    seed: u64,
    /// Labels that stand in the table, by their part of a series' hash.
    pairs: HashTable<(u64, Pair)>,
    /// Help and unit of the series before: those of one metric come together.
    told: Told,
}

/// Two numbers of the table, as they stand on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    bytes: [u8; 10],
    length: u8,
}

/// What metadata said last, and its numbers.
#[derive(Debug, Default)]
struct Told {
    help: String,
    unit: String,
    numbers: [u32; 2],
}

impl Pair {
    fn of(name: u32, value: u32) -> Pair {
        let (mut bytes, mut length) = ([0; 10], 0);
        for mut number in [name, value] {
            while number >= 0x80 {
                bytes[length] = number as u8 | 0x80;
                (number, length) = (number >> 7, length + 1);
            }
            bytes[length] = number as u8;
            length += 1;
        }
        Pair { bytes, length: length as u8 }
    }

    /// Two varints.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

impl Symbols {
    /// Before anything else of a request; `series`: the hash of its first one.
    pub fn begin(&mut self, series: u64) {
        self.seed = series;
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// A label's two numbers. Its part of the hash, by a secret seed, is as good as the label itself, which is what the whole of sluice knows series by.
    pub fn pair(&mut self, label: &Label<'_>) -> Pair {
        let part = label.part();
        if let Some((_, pair)) = self.pairs.find(part, |(known, _)| *known == part) {
            return *pair;
        }
        let pair = Pair::of(self.number(label.name), self.number(label.value));
        self.pairs.insert_unique(part, (part, pair), |(known, _)| *known);
        pair
    }

    /// Numbers of help and unit.
    pub fn told(&mut self, help: &str, unit: &str) -> [u32; 2] {
        if self.told.help != help || self.told.unit != unit {
            let numbers = [self.number(help), self.number(unit)];
            self.told = Told { help: help.to_owned(), unit: unit.to_owned(), numbers };
        }
        self.told.numbers
    }

    /// The number of this text, where the empty string is number 0.
    pub fn number(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let hash = xxh3_64_with_seed(text.as_bytes(), self.seed);
        let same =
            |number: u32| self.texts.get(number as usize - 1).and_then(|place| self.fields.get(place.clone())) == Some(text.as_bytes());
        if let Some((_, number)) = self.numbers.find(hash, |(known, number)| *known == hash && same(*number)) {
            return *number;
        }
        if self.texts.is_empty() {
            put_bytes(&mut self.fields, 4, b"");
        }
        put_bytes(&mut self.fields, 4, text.as_bytes());
        let end = self.fields.len();
        self.texts.push(end - text.len()..end);
        let number = self.texts.len() as u32;
        self.numbers.insert_unique(hash, (hash, number), |(known, _)| *known);
        number
    }

    /// The table; what comes next begins another one.
    pub fn finish(&mut self) -> Vec<u8> {
        self.texts.clear();
        self.numbers.clear();
        self.pairs.clear();
        self.told = Told::default();
        std::mem::take(&mut self.fields)
    }
}

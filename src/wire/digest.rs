//! The digest: what a shard needs to know of a body to decide, in body order, and nothing that it does not.
//!
//! Every member of a shard reads each digest when it applies the entry; followers never unpack the body. So it is made to be read quickly
//! and to be small beside the body (9 bytes a sample where a request holds one time or few). The version is written first:
//!
//! ```text
//! version  u8        1, or 2 where it has values
//! count    varint    items
//! hashes   8 B LE    each item's series
//! times    varint    each item's zigzag distance from the time before (the first: from 0)
//! kinds    runs      (length varint, kind u8) until `count` is reached
//! values   runs      2 only: (items without varint, items with varint, their values) until `count` is reached; only the last may have none with
//! refused  runs      (length varint) of taken, refused, taken, ... items until `count` is reached; only the first may be 0
//! ```
//!
//! A value is there where a sink wants to know how far counters rise: its bits with the last byte first, as a varint, so that those of a whole number
//! take few bytes.
//!
//! [`Digest::parse`] checks all of it, so that iterating cannot fail and allocates nothing. Hashes of refused items are not looked at.

use super::proto::Reader;
use super::proto::put_varint;
use super::proto::unzigzag;
use super::proto::zigzag;
use crate::model::Item;
use crate::model::Kind;
use crate::model::NO_VALUE;

const VERSION: u8 = 1;
/// With values.
const VALUED: u8 = 2;

/// Why bytes are no digest that this program can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Written by another version of this program.
    #[error("the digest's version is {0}; this program reads {VERSION} and {VALUED}")]
    Version(u8),
    /// Damaged.
    #[error("the digest is damaged")]
    Damaged,
}

/// Appends the digest of these items, in body order.
pub fn encode(items: &[Item], out: &mut Vec<u8>) {
    encode_valued(items, &[], out);
}

/// The same with the bits of values; `NO_VALUE`, and what is not there: none.
pub fn encode_valued(items: &[Item], values: &[u64], out: &mut Vec<u8>) {
    let values = &values[..values.len().min(items.len())];
    let valued = values.iter().any(|bits| *bits != NO_VALUE);
    out.reserve(items.len() * if valued { 16 } else { 10 } + 16);
    out.push(if valued { VALUED } else { VERSION });
    put_varint(out, items.len() as u64);
    for item in items {
        out.extend_from_slice(&item.series.to_le_bytes());
    }
    let mut last = 0i64;
    for item in items {
        put_varint(out, zigzag(item.time.wrapping_sub(last)));
        last = item.time;
    }
    for run in items.chunk_by(|a, b| a.kind == b.kind) {
        put_varint(out, run.len() as u64);
        out.push(run.first().map_or(0, |item| item.kind as u8));
    }
    if valued {
        put_values(values, items.len(), out);
    }
    if items.first().is_some_and(|item| item.refused) {
        put_varint(out, 0);
    }
    for run in items.chunk_by(|a, b| a.refused == b.refused) {
        put_varint(out, run.len() as u64);
    }
}

// What has to do with values stands apart, lest it slow down those that have none.
#[inline(never)]
fn put_values(values: &[u64], count: usize, out: &mut Vec<u8>) {
    let (mut rest, mut left) = (values, count);
    while left > 0 {
        let without = rest.iter().position(|bits| *bits != NO_VALUE);
        let without = without.unwrap_or(left);
        rest = rest.get(without..).unwrap_or_default();
        let with = rest.iter().position(|bits| *bits == NO_VALUE).unwrap_or(rest.len());
        put_varint(out, without as u64);
        put_varint(out, with as u64);
        rest[..with].iter().for_each(|bits| put_varint(out, bits.swap_bytes()));
        rest = &rest[with..];
        left -= without + with;
    }
}

/// How many items a digest says that it has; 0 where it is none.
pub fn count(digest: &[u8]) -> u64 {
    match digest.split_first() {
        Some((&(VERSION | VALUED), rest)) => Reader::new(rest).varint().unwrap_or(0),
        _ => 0,
    }
}

/// A digest whose every byte has been checked.
#[derive(Clone, Copy)]
pub struct Digest<'a> {
    count: usize,
    hashes: &'a [u8],
    times: &'a [u8],
    kinds: &'a [u8],
    /// Empty: it has no values.
    values: &'a [u8],
    refused: &'a [u8],
}

impl<'a> Digest<'a> {
    /// Checks `bytes`, which must be a digest from the first to the last byte.
    pub fn parse(bytes: &'a [u8]) -> Result<Digest<'a>, DigestError> {
        let (version, rest) = bytes.split_first().ok_or(DigestError::Damaged)?;
        match *version {
            VERSION => Digest::parse_columns(rest, false).ok_or(DigestError::Damaged),
            VALUED => Digest::parse_columns(rest, true).ok_or(DigestError::Damaged),
            other => Err(DigestError::Version(other)),
        }
    }

    fn parse_columns(bytes: &'a [u8], valued: bool) -> Option<Digest<'a>> {
        let mut reader = Reader::new(bytes);
        let count = usize::try_from(reader.varint().ok()?).ok()?;
        // Also bounds `count` by the length, before anything is done `count` times. Items are numbered with 32 bits.
        let (hashes, rest) = reader.rest().split_at_checked(count.checked_mul(8)?)?;
        u32::try_from(count).ok()?;
        let mut reader = Reader::new(rest);
        for _ in 0..count {
            reader.varint().ok()?;
        }
        let (times, rest) = rest.split_at_checked(reader.at())?;
        let kinds_length = check_kinds(rest, count)?;
        let (kinds, rest) = rest.split_at_checked(kinds_length)?;
        let values_length = if valued { check_values(rest, count)? } else { 0 };
        let (values, refused) = rest.split_at_checked(values_length)?;
        check_refused(refused, count)?;
        Some(Digest { count, hashes, times, kinds, values, refused })
    }

    /// How many items.
    pub fn len(&self) -> usize {
        self.count
    }

    /// No items at all.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Replaces `into` with the bits of each item's value, `NO_VALUE` where there is none; with nothing if there are no values at all.
    pub fn values(&self, into: &mut Vec<u64>) {
        into.clear();
        if !self.values.is_empty() {
            self.push_values(into);
        }
    }

    #[inline(never)]
    fn push_values(&self, into: &mut Vec<u64>) {
        let mut reader = Reader::new(self.values);
        into.reserve(self.count);
        // Everything has been checked: the defaults in here are never used.
        while into.len() < self.count {
            let (without, with) = (reader.varint().unwrap_or(u64::MAX), reader.varint().unwrap_or_default());
            let without = usize::try_from(without).unwrap_or(usize::MAX).min(self.count - into.len());
            into.resize(into.len() + without, NO_VALUE);
            (0..with).for_each(|_| into.push(reader.varint().unwrap_or_default().swap_bytes()));
        }
    }

    /// The items, in body order.
    pub fn iter(&self) -> Items<'a> {
        Items {
            hashes: self.hashes.chunks_exact(8),
            times: Reader::new(self.times),
            time: 0,
            kinds: Reader::new(self.kinds),
            kind: Kind::Float,
            kind_left: 0,
            refusals: Reader::new(self.refused),
            // Flipped when the first run is read.
            refused: true,
            refused_left: 0,
        }
    }
}

impl<'a> IntoIterator for &Digest<'a> {
    type Item = Item;
    type IntoIter = Items<'a>;

    fn into_iter(self) -> Items<'a> {
        self.iter()
    }
}

/// How many bytes the runs of kinds take.
fn check_kinds(bytes: &[u8], count: usize) -> Option<usize> {
    let mut reader = Reader::new(bytes);
    let mut left = count as u64;
    while left > 0 {
        let run = reader.varint().ok()?;
        Kind::from_number(u8::try_from(reader.varint().ok()?).ok()?)?;
        left = left.checked_sub(run).filter(|_| run > 0)?;
    }
    Some(reader.at())
}

/// How many bytes the runs of values take. None of them says that it is none: then it would not stand there.
#[inline(never)]
fn check_values(bytes: &[u8], count: usize) -> Option<usize> {
    let mut reader = Reader::new(bytes);
    let (mut left, mut first) = (count as u64, true);
    while left > 0 {
        let (without, with) = (reader.varint().ok()?, reader.varint().ok()?);
        left = left.checked_sub(without)?.checked_sub(with)?;
        if with == 0 && (left > 0 || first) || without == 0 && !first {
            return None;
        }
        first = false;
        for _ in 0..with {
            if reader.varint().ok()?.swap_bytes() == NO_VALUE {
                return None;
            }
        }
    }
    (count > 0).then(|| reader.at())
}

/// The runs of taken and refused must fill `bytes` to the last one.
fn check_refused(bytes: &[u8], count: usize) -> Option<()> {
    let mut reader = Reader::new(bytes);
    let (mut left, mut first) = (count as u64, true);
    while left > 0 {
        let run = reader.varint().ok()?;
        left = left.checked_sub(run).filter(|_| run > 0 || first)?;
        first = false;
    }
    reader.rest().is_empty().then_some(())
}

/// The items of a digest. Everything has been checked: the defaults in here are never used.
pub struct Items<'a> {
    hashes: std::slice::ChunksExact<'a, u8>,
    times: Reader<'a>,
    time: i64,
    kinds: Reader<'a>,
    kind: Kind,
    kind_left: u64,
    refusals: Reader<'a>,
    refused: bool,
    refused_left: u64,
}

impl Iterator for Items<'_> {
    type Item = Item;

    #[inline]
    fn next(&mut self) -> Option<Item> {
        let hash = self.hashes.next()?;
        let series = u64::from_le_bytes(hash.first_chunk::<8>().copied().unwrap_or_default());
        self.time = self.time.wrapping_add(unzigzag(self.times.varint().unwrap_or_default()));
        if self.kind_left == 0 {
            self.kind_left = self.kinds.varint().unwrap_or(1);
            let number = self.kinds.varint().unwrap_or_default();
            self.kind = Kind::from_number(number as u8).unwrap_or(Kind::Float);
        }
        self.kind_left -= 1;
        while self.refused_left == 0 {
            self.refused_left = self.refusals.varint().unwrap_or(1);
            self.refused = !self.refused;
        }
        self.refused_left -= 1;
        Some(Item { series, time: self.time, kind: self.kind, refused: self.refused })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.hashes.size_hint()
    }
}

impl ExactSizeIterator for Items<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(random: &mut fastrand::Rng) -> Vec<Item> {
        let count = random.usize(0..200);
        let mut item = Item { series: 0, time: 0, kind: Kind::Float, refused: false };
        let next = |_| {
            if random.u8(..) < 40 {
                item.kind = Kind::from_number(random.u8(0..4)).unwrap();
            }
            if random.u8(..) < 40 {
                item.refused = !item.refused;
            }
            item.time = if random.u8(..) < 20 { random.i64(..) } else { item.time.wrapping_add(random.i64(-3..20_000)) };
            item.series = random.u64(..);
            item
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn items_come_back_as_they_were() {
        for seed in 0..500 {
            let items = random(&mut fastrand::Rng::with_seed(seed));
            let mut bytes = Vec::new();
            encode(&items, &mut bytes);
            let digest = Digest::parse(&bytes).unwrap();
            assert_eq!(digest.len(), items.len());
            assert_eq!(digest.iter().collect::<Vec<_>>(), items, "seed {seed}");
        }
    }

    #[test]
    fn values_come_back_as_they_were_and_only_where_there_are_some() {
        for seed in 0..500 {
            let rng = &mut fastrand::Rng::with_seed(seed);
            let items = random(rng);
            let mut run = NO_VALUE;
            let mut value = |_| {
                if rng.u8(..) < 60 {
                    run = if rng.bool() { NO_VALUE } else { 0 };
                }
                if run == NO_VALUE { run } else { [f64::from(rng.u16(..)).to_bits(), rng.u64(..), 0][rng.usize(..3)] }
            };
            let values: Vec<u64> = (0..items.len()).map(&mut value).collect();
            let (mut bytes, mut plain, mut back) = (Vec::new(), Vec::new(), vec![7]);
            encode_valued(&items, &values, &mut bytes);
            encode(&items, &mut plain);
            let digest = Digest::parse(&bytes).unwrap();
            assert_eq!(digest.iter().collect::<Vec<_>>(), items, "seed {seed}");
            digest.values(&mut back);
            let none = values.iter().all(|bits| *bits == NO_VALUE);
            assert_eq!(back, if none { Vec::new() } else { values }, "seed {seed}");
            assert_eq!((bytes == plain, count(&bytes)), (none, items.len() as u64));
            for end in 0..bytes.len() {
                assert!(Digest::parse(&bytes[..end]).is_err(), "seed {seed}: cut at {end}");
            }
        }
    }

    #[test]
    fn a_counters_value_takes_few_bytes() {
        let item = |series| Item { series, time: 1_790_000_000_123, kind: Kind::Float, refused: false };
        let items: Vec<_> = (0..2000).map(item).collect();
        let values: Vec<u64> = (0..2000).map(|n| f64::from(n * 37).to_bits()).collect();
        let mut bytes = Vec::new();
        encode_valued(&items, &values, &mut bytes);
        assert!(bytes.len() < 2000 * 14 + 40, "{}", bytes.len());
    }

    #[test]
    fn a_sample_of_a_usual_request_takes_nine_bytes() {
        let item = |series| Item { series, time: 1_790_000_000_123, kind: Kind::Float, refused: false };
        let items: Vec<_> = (0..2000).map(item).collect();
        let mut bytes = Vec::new();
        encode(&items, &mut bytes);
        assert!(bytes.len() < 2000 * 9 + 30, "{}", bytes.len());
    }

    #[test]
    fn what_follows_or_lacks_or_is_of_another_version_is_refused() {
        let items = random(&mut fastrand::Rng::with_seed(7));
        let mut bytes = Vec::new();
        encode(&items, &mut bytes);
        for end in 0..bytes.len() {
            assert!(Digest::parse(&bytes[..end]).is_err());
        }
        bytes.push(0);
        assert_eq!(Digest::parse(&bytes).err(), Some(DigestError::Damaged));
        bytes[0] = 9;
        assert_eq!(Digest::parse(&bytes).err(), Some(DigestError::Version(9)));
    }

    #[test]
    fn an_unknown_kind_and_an_empty_run_are_refused() {
        let digest = |kinds: &[u8], refused: &[u8]| {
            let mut bytes = vec![VERSION, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2];
            bytes.extend_from_slice(kinds);
            bytes.extend_from_slice(refused);
            Digest::parse(&bytes).map(|digest| digest.iter().next())
        };
        let item = Item { series: 0, time: 1, kind: Kind::Exemplar, refused: true };
        assert_eq!(digest(&[1, 3], &[0, 1]), Ok(Some(item)));
        assert_eq!(digest(&[1, 4], &[0, 1]), Err(DigestError::Damaged));
        assert_eq!(digest(&[0, 3, 1, 3], &[0, 1]), Err(DigestError::Damaged));
        assert_eq!(digest(&[2, 3], &[0, 1]), Err(DigestError::Damaged));
        assert_eq!(digest(&[1, 3], &[0, 0, 1]), Err(DigestError::Damaged));
        assert_eq!(digest(&[1, 3], &[2]), Err(DigestError::Damaged));
    }

    #[test]
    fn an_impossible_count_is_refused_at_once() {
        let mut bytes = vec![VERSION];
        put_varint(&mut bytes, u64::MAX / 8);
        bytes.extend_from_slice(&[0; 64]);
        assert_eq!(Digest::parse(&bytes).err(), Some(DigestError::Damaged));
    }
}

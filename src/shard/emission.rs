//! What passed: numbered lists of places in entries. Sinks read these, in order, and fetch the bodies.

use crate::model::Pick;
use crate::shard::codec::Malformed;
use crate::shard::codec::Reader;
use crate::shard::codec::Writer;

/// At most so many picks are in one emission.
pub const MAX_PICKS: usize = 10_000;

/// Samples of one entry that go out together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Emission {
    /// Per shard, from 1, without gaps.
    pub number: u64,
    /// The entry whose body holds the samples.
    pub entry: u64,
    /// The shard's time when they passed, ms.
    pub at: i64,
    /// The group.
    pub group: String,
    /// The replica that sent them.
    pub replica: String,
    /// Samples emitted by this shard before this emission.
    pub samples_before: u64,
    /// Log bytes that this shard kept for sinks before this emission.
    pub bytes_before: u64,
    /// Neither this emission nor a later one needs an entry below.
    pub floor: u64,
    /// Ascending by item.
    pub picks: Vec<Pick>,
}

/// Raised when the layout changes.
const VERSION: u8 = 1;

impl Emission {
    /// Samples emitted up to and with this one.
    pub fn samples_after(&self) -> u64 {
        self.samples_before + self.picks.len() as u64
    }

    /// As it is kept. The picks are runs of neighbours with the same mark: a whole request takes a few bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        let mut out = Writer(&mut bytes);
        out.byte(VERSION);
        out.number(self.number);
        out.number(self.entry);
        out.signed(self.at);
        out.text(&self.group);
        out.text(&self.replica);
        out.number(self.samples_before);
        out.number(self.bytes_before);
        out.number(self.floor);
        let mut next = 0;
        for run in self.picks.chunk_by(|a, b| a.late == b.late && a.item + 1 == b.item) {
            let Some(first) = run.first() else { continue };
            out.number(u64::from(first.item - next));
            out.number((run.len() as u64) << 1 | u64::from(first.late));
            next = first.item + run.len() as u32;
        }
        bytes
    }

    /// As it was kept.
    pub fn decode(bytes: &[u8]) -> Result<Emission, Malformed> {
        let mut from = Reader(bytes);
        match from.byte()? {
            VERSION => {}
            other => return Err(Malformed::Version(other)),
        }
        let mut emission = Emission {
            number: from.number()?,
            entry: from.number()?,
            at: from.signed()?,
            group: from.text()?.to_owned(),
            replica: from.text()?.to_owned(),
            samples_before: from.number()?,
            bytes_before: from.number()?,
            floor: from.number()?,
            picks: Vec::new(),
        };
        let mut next = 0_u32;
        while !from.0.is_empty() {
            let (skip, run) = (from.small::<u32>()?, from.number()?);
            let (late, length) = (run & 1 == 1, run >> 1);
            if length == 0 || length > (MAX_PICKS - emission.picks.len()) as u64 {
                return Err(Malformed::Impossible("an emission that long"));
            }
            let first = next.checked_add(skip).filter(|first| first.checked_add(length as u32).is_some());
            let first = first.ok_or(Malformed::Impossible("an item of this number"))?;
            next = first + length as u32;
            emission.picks.extend((first..next).map(|item| Pick { item, late }));
        }
        Ok(emission)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emissions_read_as_written_and_damage_is_no_panic() {
        let pick = |item, late| Pick { item, late };
        let picks = vec![pick(0, false), pick(1, false), pick(2, true), pick(9, false), pick(10, false), pick(4_000_000, true)];
        let emission = Emission {
            number: 7,
            entry: 1 << 40,
            at: -3,
            group: "g".into(),
            replica: "r".into(),
            samples_before: 12,
            bytes_before: 13,
            floor: 14,
            picks,
        };
        let bytes = emission.encode();
        assert_eq!(Emission::decode(&bytes), Ok(emission));
        for place in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[place / 8] ^= 1 << (place % 8);
            let _ = Emission::decode(&damaged);
        }
        let whole = Emission { picks: (0..MAX_PICKS as u32).map(|item| pick(item, false)).collect(), ..Emission::default() };
        assert!(whole.encode().len() < 20);
    }
}

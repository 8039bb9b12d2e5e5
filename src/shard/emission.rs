//! What passed: numbered lists of places in entries. Sinks read these, in order, and fetch the bodies.

use crate::model::Before;
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
    /// What was forwarded of a series before, by place among the picks, ascending: of those whose value and the one before it are known.
    pub befores: Vec<(u32, Before)>,
}

/// Raised when the layout changes.
const VERSION: u8 = 1;
/// With what was forwarded before: it stands in front of the picks.
const COUNTED: u8 = 2;

impl Emission {
    /// Samples emitted up to and with this one.
    pub fn samples_after(&self) -> u64 {
        self.samples_before + self.picks.len() as u64
    }

    /// As it is kept. The picks are runs of neighbours with the same mark: a whole request takes a few bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        let mut out = Writer(&mut bytes);
        out.byte(if self.befores.is_empty() { VERSION } else { COUNTED });
        out.number(self.number);
        out.number(self.entry);
        out.signed(self.at);
        out.text(&self.group);
        out.text(&self.replica);
        out.number(self.samples_before);
        out.number(self.bytes_before);
        out.number(self.floor);
        if !self.befores.is_empty() {
            write_befores(&self.befores, &mut out);
        }
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
        let counted = match from.byte()? {
            VERSION => false,
            COUNTED => true,
            other => return Err(Malformed::Version(other)),
        };
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
            befores: Vec::new(),
        };
        if counted {
            emission.befores = read_befores(&mut from)?;
        }
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
        if emission.befores.last().is_some_and(|(place, _)| *place as usize >= emission.picks.len()) {
            return Err(Malformed::Impossible("something before a sample that is not there"));
        }
        Ok(emission)
    }
}

/// Runs of neighbours. Of a request most samples before have one time, or few; the bits of whole numbers end in zeros, so their last byte goes first.
fn write_befores(befores: &[(u32, Before)], out: &mut Writer<'_>) {
    out.number(befores.len() as u64);
    let (mut next, mut time) = (0, 0);
    for run in befores.chunk_by(|a, b| a.0 + 1 == b.0) {
        let Some((first, _)) = run.first() else { continue };
        out.number(u64::from(first - next));
        out.number(run.len() as u64);
        for (_, before) in run {
            out.signed(before.time.wrapping_sub(time));
            out.number(before.bits.swap_bytes());
            time = before.time;
        }
        next = first + run.len() as u32;
    }
}

fn read_befores(from: &mut Reader<'_>) -> Result<Vec<(u32, Before)>, Malformed> {
    let wrong = Malformed::Impossible("what was before a sample");
    let count = from.count(2)?;
    let mut befores = Vec::with_capacity(count.min(MAX_PICKS));
    let (mut next, mut time) = (0_u32, 0_i64);
    while befores.len() < count {
        let (skip, length) = (from.small::<u32>()?, from.number()?);
        let first = next.checked_add(skip).ok_or(wrong)?;
        let end = u64::from(first) + length;
        if length == 0 || length > (count - befores.len()) as u64 || end > MAX_PICKS as u64 || skip == 0 && !befores.is_empty() {
            return Err(wrong);
        }
        next = end as u32;
        for place in first..next {
            time = time.wrapping_add(from.signed()?);
            befores.push((place, Before { time, bits: from.number()?.swap_bytes() }));
        }
    }
    if befores.is_empty() { Err(wrong) } else { Ok(befores) }
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
            befores: [(0, 5), (1, 5), (5, -3)].map(|(place, time)| (place, Before { time, bits: f64::to_bits(7.5) })).into(),
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
        let befores = (0..MAX_PICKS as u32).map(|n| (n, Before { time: 1_790_000_000_000, bits: f64::from(n * 3).to_bits() })).collect();
        let counted = Emission { befores, ..whole };
        assert!(counted.encode().len() < 6 * MAX_PICKS);
        assert_eq!(Emission::decode(&counted.encode()), Ok(counted));
    }
}

//! Entries: what stands in a shard's log. Everything that changes a shard's state is one of these.
//!
//! Layout: version, kind, flags, a zero, then `at` (8 bytes, little-endian), then what the kind has. The head has a fixed place so that the
//! shard's leader can stamp an entry that was encoded elsewhere ([`stamp`]): the costly part, copying the body, is done by whoever offers.
//! Kinds and fields are only ever added; a changed meaning takes a new kind. Parsing borrows, and bytes that are no entry are an error.

use crate::shard::codec::Malformed;
use crate::shard::codec::Reader;
use crate::shard::codec::Writer;
use crate::shard::command::Command;
use crate::wire::pack::Packing;
use crate::wire::remote_write::Protocol;

/// Version of the layout: the first byte. Never `0xC2`, by which the log marks Raft's own membership entries.
const VERSION: u8 = 1;
/// Bytes before what the kind has.
const HEAD: usize = 12;
/// The replica led its group when the entry was proposed; says in which family of the log the entry stands.
const FROM_LEADER: u8 = 1;

const SAMPLES: u8 = 1;
const TICK: u8 = 2;
const IMAGE: u8 = 3;
const FORGET: u8 = 4;
/// Kinds from here on are commands (`command`).
pub(super) const COMMANDS: u8 = 16;

/// An entry and when it was proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped<'a> {
    /// The shard leader's time, ms since 1970; never goes back in a log.
    pub at: i64,
    /// What it says.
    pub entry: Entry<'a>,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// One replica's samples.
    Samples(Samples<'a>),
    /// Time goes on: what is due is judged.
    Tick,
    /// Every member takes an image of its state here.
    Image,
    /// Old series and holes of this group are forgotten.
    Forget {
        /// The group.
        group: &'a str,
    },
    /// Everything that is small and rare.
    Command(Command),
}

/// One replica's samples of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Samples<'a> {
    /// The group.
    pub group: &'a str,
    /// The replica; empty: of none.
    pub replica: &'a str,
    /// Digested by these settings.
    pub settings: u64,
    /// How the body is written.
    pub protocol: Protocol,
    /// How the body is packed.
    pub packing: Packing,
    /// Labels that no sink is given.
    pub strip: Vec<&'a str>,
    /// The replica led its group when this was proposed.
    pub from_leader: bool,
    /// `wire::digest`.
    pub digest: &'a [u8],
    /// The packed request.
    pub body: &'a [u8],
}

fn head(kind: u8, flags: u8, at: i64, out: &mut Vec<u8>) {
    out.extend([VERSION, kind, flags, 0]);
    out.extend_from_slice(&at.to_le_bytes());
}

/// Appends an entry.
pub fn encode(at: i64, entry: &Entry<'_>, into: &mut Vec<u8>) {
    match entry {
        Entry::Samples(samples) => {
            into.reserve(HEAD + samples.digest.len() + samples.body.len() + samples.group.len() + samples.replica.len() + 64);
            head(SAMPLES, if samples.from_leader { FROM_LEADER } else { 0 }, at, into);
            let mut out = Writer(into);
            out.text(samples.group);
            out.text(samples.replica);
            out.number(samples.settings);
            out.byte(match samples.protocol {
                Protocol::V1 => 1,
                Protocol::V2 => 2,
            });
            out.byte(match samples.packing {
                Packing::Snappy => 1,
                Packing::Zstd => 2,
            });
            out.number(samples.strip.len() as u64);
            samples.strip.iter().for_each(|label| out.text(label));
            out.bytes(samples.digest);
            out.bytes(samples.body);
        }
        Entry::Tick => head(TICK, 0, at, into),
        Entry::Image => head(IMAGE, 0, at, into),
        Entry::Forget { group } => {
            head(FORGET, 0, at, into);
            Writer(into).text(group);
        }
        Entry::Command(command) => {
            head(command.kind(), 0, at, into);
            command.write(&mut Writer(into));
        }
    }
}

/// Sets the time, and whether its replica leads, of an encoded entry.
pub fn stamp(encoded: &mut [u8], at: i64, from_leader: bool) {
    if let Some(head) = encoded.first_chunk_mut::<HEAD>() {
        head[2] = if from_leader { FROM_LEADER } else { 0 };
        head[4..].copy_from_slice(&at.to_le_bytes());
    }
}

/// Whether an encoded entry is of samples.
pub fn is_samples(encoded: &[u8]) -> bool {
    encoded.first_chunk::<HEAD>().is_some_and(|head| head[1] == SAMPLES)
}

/// Whether an encoded entry stands in the leader's family of the log.
pub fn is_from_leader(encoded: &[u8]) -> bool {
    encoded.first_chunk::<HEAD>().is_some_and(|head| head[1] == SAMPLES && head[2] & FROM_LEADER != 0)
}

/// Reads an entry, all of it.
pub fn parse(encoded: &[u8]) -> Result<Stamped<'_>, Malformed> {
    let (head, rest) = encoded.split_first_chunk::<HEAD>().ok_or(Malformed::Cut)?;
    let [version, kind, flags, _, at @ ..] = *head;
    if version != VERSION {
        return Err(Malformed::Version(version));
    }
    let mut from = Reader(rest);
    let entry = match kind {
        SAMPLES => Entry::Samples(read_samples(flags & FROM_LEADER != 0, &mut from)?),
        TICK => Entry::Tick,
        IMAGE => Entry::Image,
        FORGET => Entry::Forget { group: from.text()? },
        COMMANDS.. => Entry::Command(Command::read(kind, &mut from)?),
        _ => return Err(Malformed::Impossible("an entry of this kind")),
    };
    from.end()?;
    Ok(Stamped { at: i64::from_le_bytes(at), entry })
}

fn read_samples<'a>(from_leader: bool, from: &mut Reader<'a>) -> Result<Samples<'a>, Malformed> {
    let (group, replica, settings) = (from.text()?, from.text()?, from.number()?);
    let protocol = match from.byte()? {
        1 => Protocol::V1,
        2 => Protocol::V2,
        _ => return Err(Malformed::Impossible("a protocol of this number")),
    };
    let packing = match from.byte()? {
        1 => Packing::Snappy,
        2 => Packing::Zstd,
        _ => return Err(Malformed::Impossible("a packing of this number")),
    };
    let strip = (0..from.count(1)?).map(|_| from.text()).collect::<Result<_, _>>()?;
    let (digest, body) = (from.bytes()?, from.bytes()?);
    Ok(Samples { group, replica, settings, protocol, packing, strip, from_leader, digest, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::command::SwitchTo;

    fn samples() -> Entry<'static> {
        Entry::Samples(Samples {
            group: "g",
            replica: "a",
            settings: 300,
            protocol: Protocol::V2,
            packing: Packing::Zstd,
            strip: vec!["__replica__", "other"],
            from_leader: true,
            digest: b"digest",
            body: b"body",
        })
    }

    #[test]
    fn entries_read_as_written_and_any_cut_is_an_error() {
        let switch = Command::Switch(SwitchTo { group: "g".into(), from: "a".into(), to: "b".into(), ..SwitchTo::default() });
        for entry in [samples(), Entry::Tick, Entry::Image, Entry::Forget { group: "x" }, Entry::Command(switch)] {
            let mut bytes = Vec::new();
            encode(-5, &entry, &mut bytes);
            assert_eq!(parse(&bytes), Ok(Stamped { at: -5, entry }));
            for length in 0..bytes.len() {
                assert!(parse(&bytes[..length]).is_err());
            }
            bytes.push(0);
            assert!(parse(&bytes).is_err());
        }
    }

    #[test]
    fn damaged_bytes_never_panic() {
        let mut bytes = Vec::new();
        encode(7, &samples(), &mut bytes);
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[place] ^= 1 << bit;
                let _ = parse(&damaged);
            }
        }
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut noise: Vec<u8> = (0..random.usize(0..60)).map(|_| random.u8(..)).collect();
            if let [version, kind, ..] = &mut noise[..] {
                (*version, *kind) = (VERSION, *kind % 40);
            }
            let _ = parse(&noise);
        }
    }

    #[test]
    fn a_stamp_sets_time_and_family() {
        let mut bytes = Vec::new();
        encode(0, &samples(), &mut bytes);
        stamp(&mut bytes, 1_790_000_000_123, false);
        assert!(!is_from_leader(&bytes));
        let stamped = parse(&bytes).unwrap();
        assert_eq!(stamped.at, 1_790_000_000_123);
        stamp(&mut bytes, 1, true);
        assert!(is_from_leader(&bytes));
    }
}

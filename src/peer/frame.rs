//! What nodes write to each other: batches of Raft's messages, and answers to offers and proposals. In the alphabet of `shard::codec`, because
//! what it carries is written in it too.
//!
//! Reading trusts nothing but that the other side holds a certificate: whatever the bytes are, the answer is a value or an error.

use crate::model::ShardId;
use crate::node::group_limits;
use crate::node::offer::Applied;
use crate::node::offer::OfferError;
use crate::node::offer::ProposeError;
use crate::node::offer::Struck;
use crate::shard::codec::Malformed;
use crate::shard::codec::Reader;
use crate::shard::codec::Writer;
use crate::shard::replica::PeerMessage;
use crate::shard::replica::append_message;
use crate::shard::replica::decode_message;
use crate::shard::replica::message_bytes;

/// Raised when the layout changes.
const VERSION: u8 = 1;
/// Bytes of a batch's length, which stands before it on a stream.
pub const LENGTH: usize = 4;

/// One of Raft's messages and what goes with it.
#[derive(Debug)]
pub struct Letter {
    /// The shard.
    pub shard: ShardId,
    /// Up to here every member has the shard's log.
    pub floor: u64,
    /// The message.
    pub message: PeerMessage,
}

/// A batch as bytes, its length before it.
pub fn write_letters(letters: &[Letter]) -> Vec<u8> {
    let size: usize = letters.iter().map(|letter| message_bytes(&letter.message) + 32).sum();
    let mut bytes = Vec::with_capacity(LENGTH + 1 + size);
    bytes.extend([0; LENGTH]);
    bytes.push(VERSION);
    for letter in letters {
        let mut out = Writer(&mut bytes);
        out.number(u64::from(letter.shard.0));
        out.number(letter.floor);
        append_message(&letter.message, &mut bytes);
    }
    let length = (bytes.len() - LENGTH) as u32;
    bytes[..LENGTH].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// How long the batch is that these bytes begin, if enough of them are there to say.
pub fn length_of(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk::<LENGTH>().map(|length| u32::from_le_bytes(*length) as usize)
}

/// A batch from bytes, which stood behind its length.
pub fn read_letters(bytes: &[u8]) -> Result<Vec<Letter>, Malformed> {
    let mut from = begin(bytes)?;
    let mut letters = Vec::new();
    while !from.0.is_empty() {
        let (shard, floor) = (ShardId(from.small()?), from.number()?);
        let message = decode_message(from.bytes()?).map_err(|_| Malformed::Impossible("a message of Raft"))?;
        letters.push(Letter { shard, floor, message });
    }
    Ok(letters)
}

fn begin(bytes: &[u8]) -> Result<Reader<'_>, Malformed> {
    let mut from = Reader(bytes);
    match from.byte()? {
        VERSION => Ok(from),
        other => Err(Malformed::Version(other)),
    }
}

/// Reasons of `Overloaded`, by number: only ever added to.
const REASONS: [&str; 6] = ["slots", "bytes", "log", "sink_budget", group_limits::SAMPLES, group_limits::NEW_SERIES];

/// An offer's answer.
pub fn write_offered(answer: &Result<(), OfferError>) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    let mut out = Writer(&mut bytes);
    match answer {
        Ok(()) => out.byte(0),
        Err(OfferError::Overloaded { reason }) => {
            out.byte(1);
            out.number(REASONS.iter().position(|known| known == reason).unwrap_or(0) as u64);
        }
        Err(OfferError::DiskFull) => out.byte(2),
        Err(OfferError::Stopping) => out.byte(3),
        Err(OfferError::NotLeader { shard, leader }) => {
            out.byte(4);
            out.number(u64::from(*shard));
            out.number(leader.unwrap_or(0));
        }
        Err(OfferError::Unknown) => out.byte(5),
        Err(OfferError::Settings { offered, applied }) => {
            out.byte(6);
            out.number(*offered);
            out.number(*applied);
        }
        Err(OfferError::Unassigned) => out.byte(7),
        Err(OfferError::TooLarge { bytes, limit }) => {
            out.byte(8);
            out.number(*bytes as u64);
            out.number(*limit as u64);
        }
        Err(OfferError::NewSeries { struck, series, limit }) => {
            out.byte(9);
            [struck.samples, struck.histograms, struck.exemplars, *series, *limit].into_iter().for_each(|number| out.number(number));
        }
    }
    bytes
}

/// An offer's answer, exactly as the leader gave it.
pub fn read_offered(bytes: &[u8]) -> Result<Result<(), OfferError>, Malformed> {
    let mut from = begin(bytes)?;
    let error = match from.byte()? {
        0 => return from.end().map(|()| Ok(())),
        1 => OfferError::Overloaded { reason: REASONS.get(from.small::<usize>()?).copied().unwrap_or(REASONS[0]) },
        2 => OfferError::DiskFull,
        3 => OfferError::Stopping,
        4 => OfferError::NotLeader { shard: from.small()?, leader: Some(from.number()?).filter(|&id| id != 0) },
        5 => OfferError::Unknown,
        6 => OfferError::Settings { offered: from.number()?, applied: from.number()? },
        7 => OfferError::Unassigned,
        8 => OfferError::TooLarge { bytes: from.small()?, limit: from.small()? },
        9 => OfferError::NewSeries {
            struck: Struck { samples: from.number()?, histograms: from.number()?, exemplars: from.number()? },
            series: from.number()?,
            limit: from.number()?,
        },
        _ => return Err(Malformed::Impossible("an answer of this kind")),
    };
    from.end().map(|()| Err(error))
}

/// A proposal's answer.
pub fn write_asked(answer: &Result<Applied, ProposeError>) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    let mut out = Writer(&mut bytes);
    match answer {
        Ok(Applied { index, shard }) => {
            out.byte(0);
            out.number(*index);
            // 0 is the control shard, in which no group is.
            out.number(u64::from(shard.map_or(0, |shard| shard.0)));
        }
        Err(ProposeError::Busy(shard)) => {
            out.byte(1);
            out.number(u64::from(*shard));
        }
        Err(ProposeError::NotLeader(shard)) => {
            out.byte(2);
            out.number(u64::from(*shard));
        }
        Err(ProposeError::Stopping) => out.byte(3),
        Err(ProposeError::Unknown) => out.byte(4),
        Err(ProposeError::NoShard(shard)) => {
            out.byte(5);
            out.number(u64::from(*shard));
        }
        Err(ProposeError::Void(reason)) => {
            out.byte(6);
            out.text(reason);
        }
    }
    bytes
}

/// A proposal's answer, exactly as the leader gave it.
pub fn read_asked(bytes: &[u8]) -> Result<Result<Applied, ProposeError>, Malformed> {
    let mut from = begin(bytes)?;
    let error = match from.byte()? {
        0 => {
            let (index, shard) = (from.number()?, from.small()?);
            return from.end().map(|()| Ok(Applied { index, shard: Some(ShardId(shard)).filter(|shard| *shard != ShardId::CONTROL) }));
        }
        1 => ProposeError::Busy(from.small()?),
        2 => ProposeError::NotLeader(from.small()?),
        3 => ProposeError::Stopping,
        4 => ProposeError::Unknown,
        5 => ProposeError::NoShard(from.small()?),
        6 => ProposeError::Void(from.text()?.to_owned()),
        _ => return Err(Malformed::Impossible("an answer of this kind")),
    };
    from.end().map(|()| Err(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_back_exactly_and_damage_is_no_panic() {
        let offered = [
            Ok(()),
            Err(OfferError::Overloaded { reason: "log" }),
            Err(OfferError::Overloaded { reason: "sink_budget" }),
            Err(OfferError::DiskFull),
            Err(OfferError::Stopping),
            Err(OfferError::NotLeader { shard: 3, leader: None }),
            Err(OfferError::NotLeader { shard: 3, leader: Some(u64::MAX) }),
            Err(OfferError::Unknown),
            Err(OfferError::Settings { offered: 4, applied: 5 }),
            Err(OfferError::Unassigned),
            Err(OfferError::TooLarge { bytes: 1 << 30, limit: 16 << 20 }),
            Err(OfferError::Overloaded { reason: group_limits::NEW_SERIES }),
            Err(OfferError::NewSeries { struck: Struck { samples: 3, histograms: 0, exemplars: 1 }, series: 1000, limit: 1000 }),
        ];
        for answer in offered {
            let bytes = write_offered(&answer);
            assert_eq!(read_offered(&bytes), Ok(answer));
            (0..bytes.len()).for_each(|end| assert!(read_offered(&bytes[..end]).is_err()));
        }
        let asked = [
            Ok(Applied { index: 9, shard: None }),
            Ok(Applied { index: 9, shard: Some(ShardId(2)) }),
            Err(ProposeError::Busy(1)),
            Err(ProposeError::NotLeader(1)),
            Err(ProposeError::Stopping),
            Err(ProposeError::Unknown),
            Err(ProposeError::NoShard(9)),
            Err(ProposeError::Void("no".into())),
        ];
        for answer in asked {
            let bytes = write_asked(&answer);
            assert_eq!(read_asked(&bytes), Ok(answer));
            (0..bytes.len()).for_each(|end| assert!(read_asked(&bytes[..end]).is_err()));
        }
    }

    #[test]
    fn letters_read_as_written() {
        let message = PeerMessage { to: 2, from: 1, term: 7, commit: 9, ..PeerMessage::default() };
        let letters = [Letter { shard: ShardId(4), floor: 300, message: message.clone() }, Letter { shard: ShardId(0), floor: 0, message }];
        let bytes = write_letters(&letters);
        assert_eq!(length_of(&bytes), Some(bytes.len() - LENGTH));
        assert_eq!(length_of(&bytes[..3]), None);
        let bytes = &bytes[LENGTH..];
        let read = read_letters(bytes).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].shard, read[0].floor, &read[0].message), (ShardId(4), 300, &letters[0].message));
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..2_000 {
            let mut damaged = bytes.to_vec();
            let at = random.usize(..damaged.len());
            damaged[at] ^= 1 << random.u8(..8);
            damaged.truncate(random.usize(..=damaged.len()));
            let _ = read_letters(&damaged); // whatever it is
        }
    }
}

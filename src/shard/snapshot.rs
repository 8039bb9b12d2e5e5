//! A snapshot for a member that lacks what the log no longer has: the table's image **and** what the image needs beside it, which is the undelivered
//! log (bodies, waiting samples, emissions) and the dead letters. It is fetched in pieces by the member that needs it: so it goes on where
//! it broke off, goes no faster than the taker writes, and the giver has nothing to remember but the image.
//!
//! Until the last piece is there the member is what it was, votes included: pieces are written beside its own data, behind a guard which says
//! that entries beyond its own end are not its own yet (`Op::Staged`). Then one batch makes it a member whose log begins after the image, and it goes
//! on as after a restart. So a member has all of it or none, and leads only when it has all of it.
//!
//! Left out on purpose: reading and writing the disk, the way between nodes, when to give up (`node`).

use prost::Message as _;
use raft::eraftpb::HardState;
use raft::eraftpb::MessageType;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

use crate::shard::codec::Malformed;
use crate::shard::codec::Reader;
use crate::shard::codec::Writer;
use crate::shard::emission::Emission;
use crate::shard::log::Place;
use crate::shard::log::Remembered;
use crate::shard::member::Numbers;
use crate::shard::member::Op;
use crate::shard::replica::PeerMessage;

/// Raised when the layout of pieces changes.
const VERSION: u8 = 1;

/// What a snapshot consists of, in the order in which it is carried: an emission comes after the body that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Bytes of the sealed image from this offset on.
    Image,
    /// An entry of the standby's family. Before the leader's: while a snapshot is given the giver may delete an entry here, but it has copied it into
    /// the leader's family before that if it is still of use.
    LogStandby,
    /// An entry of the leader's family.
    LogLeader,
    /// An emission.
    Emission,
    /// A dead letter.
    Dead,
}

impl Part {
    /// All, in order.
    pub const ALL: [Part; 5] = [Part::Image, Part::LogStandby, Part::LogLeader, Part::Emission, Part::Dead];

    fn read(from: &mut Reader<'_>) -> Result<Part, Malformed> {
        Part::ALL.get(usize::from(from.byte()?)).copied().ok_or(Malformed::Impossible("a part of a snapshot"))
    }
}

/// Where the next piece begins: part, and number in it.
pub type Bookmark = (Part, u64);

/// What the taker says to the giver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The piece that begins there, of the snapshot at this index.
    Piece(u64, Bookmark),
    /// Everything is taken.
    Taken(u64),
}

impl Request {
    /// As bytes.
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        let mut out = Writer(&mut bytes);
        match self {
            Request::Piece(index, (part, number)) => {
                out.byte(0);
                out.number(index);
                out.byte(part as u8);
                out.number(number);
            }
            Request::Taken(index) => {
                out.byte(1);
                out.number(index);
            }
        }
        bytes
    }

    /// From bytes.
    pub fn decode(bytes: &[u8]) -> Result<Request, Malformed> {
        let mut from = begin(bytes)?;
        let request = match from.byte()? {
            0 => Request::Piece(from.number()?, (Part::read(&mut from)?, from.number()?)),
            1 => Request::Taken(from.number()?),
            _ => return Err(Malformed::Impossible("a request of this kind")),
        };
        from.end().map(|()| request)
    }
}

fn begin(bytes: &[u8]) -> Result<Reader<'_>, Malformed> {
    let mut from = Reader(bytes);
    match from.byte()? {
        VERSION => Ok(from),
        other => Err(Malformed::Version(other)),
    }
}

/// Some of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Of the snapshot at this index.
    pub index: u64,
    /// Where it begins.
    pub first: Bookmark,
    /// Where the next one begins; `None`: this is the last.
    pub next: Option<Bookmark>,
    /// What is in it, in order.
    pub items: Vec<(Part, u64, Vec<u8>)>,
}

impl Piece {
    /// As bytes, with a hash over all of it.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        let mut out = Writer(&mut bytes);
        out.number(self.index);
        out.byte(self.first.0 as u8);
        out.number(self.first.1);
        out.byte(u8::from(self.next.is_some()));
        let (part, number) = self.next.unwrap_or((Part::Dead, 0));
        out.byte(part as u8);
        out.number(number);
        out.number(self.items.len() as u64);
        for (part, number, value) in &self.items {
            out.byte(*part as u8);
            out.number(*number);
            out.bytes(value);
        }
        let hash = xxh3_64(&bytes);
        Writer(&mut bytes).fixed(hash);
        bytes
    }

    /// From bytes.
    pub fn decode(bytes: &[u8]) -> Result<Piece, Malformed> {
        let (bytes, hash) = bytes.split_last_chunk::<8>().ok_or(Malformed::Cut)?;
        if xxh3_64(bytes) != u64::from_le_bytes(*hash) {
            return Err(Malformed::Impossible("a piece whose hash is another one"));
        }
        let mut from = begin(bytes)?;
        let index = from.number()?;
        let first = (Part::read(&mut from)?, from.number()?);
        let (more, part, number) = (from.byte()? != 0, Part::read(&mut from)?, from.number()?);
        let mut items = Vec::new();
        for _ in 0..from.count(3)? {
            items.push((Part::read(&mut from)?, from.number()?, from.bytes()?.to_vec()));
        }
        from.end()?;
        Ok(Piece { index, first, next: more.then_some((part, number)), items })
    }
}

/// A snapshot as it is given: at which index, what the image holds, and the image.
#[derive(Clone, Debug)]
pub struct Given {
    /// The entry after which the image was taken.
    pub index: u64,
    /// The last emission and dead letter that the image holds: what came after it the taker will make from the log.
    pub numbers: Numbers,
    /// Sealed state.
    pub image: Arc<Vec<u8>>,
}

impl Given {
    /// The piece that begins at a bookmark, of about so many bytes. `scan` reads what the disk has of a part, in order from a number on, for
    /// as long as it is answered true.
    pub fn piece<E>(
        &self,
        first: Bookmark,
        most: usize,
        scan: impl Fn(Part, u64, &mut dyn FnMut(u64, &[u8]) -> bool) -> Result<(), E>,
    ) -> Result<Piece, E> {
        let (index, mut number, mut items, mut bytes) = (self.index, first.1, Vec::new(), 0);
        for part in Part::ALL.into_iter().filter(|part| *part >= first.0) {
            let last = match part {
                Part::Image => {
                    let rest = self.image.get(number as usize..).unwrap_or_default();
                    let chunk = &rest[..rest.len().min(most)];
                    items.push((part, number, chunk.to_vec()));
                    if chunk.len() < rest.len() {
                        return Ok(Piece { index, first, next: Some((part, number + chunk.len() as u64)), items });
                    }
                    (bytes, number) = (chunk.len(), 0);
                    continue;
                }
                Part::LogLeader | Part::LogStandby => index,
                Part::Emission => self.numbers.emission,
                Part::Dead => self.numbers.dead,
            };
            let mut next = None;
            scan(part, number, &mut |number, value| {
                if number > last {
                    return false;
                }
                if bytes >= most {
                    next = Some((part, number));
                    return false;
                }
                bytes += value.len() + 16;
                items.push((part, number, value.to_vec()));
                true
            })?;
            if next.is_some() {
                return Ok(Piece { index, first, next, items });
            }
            number = 0;
        }
        Ok(Piece { index, first, next: None, items })
    }
}

/// Who a message of Raft tells of a snapshot, and where it begins; `None`: it is another message.
pub fn announced(message: &PeerMessage) -> Option<(u64, u64)> {
    place(message).map(|place| (message.to, place.index))
}

/// The entry after which the snapshot was taken of which a message of Raft tells.
pub fn place(message: &PeerMessage) -> Option<Place> {
    let metadata = message.snapshot.as_ref()?.metadata.as_ref()?;
    (message.msg_type() == MessageType::MsgSnapshot).then_some(Place { index: metadata.index, term: metadata.term })
}

/// What a member is when it has taken a snapshot. One batch.
#[derive(Debug)]
pub struct Install {
    /// Where the log begins from now on.
    pub place: Place,
    /// Entries of this range of its own are void: they never were committed.
    pub void: (u64, u64),
    /// Entries in the place of those.
    pub entries: Vec<(Part, u64, Vec<u8>)>,
    /// Sealed state.
    pub image: Vec<u8>,
    /// Members, as `Remembered::members_stored` gives them.
    pub members: Vec<u8>,
    /// Term and vote as before, commit at the image.
    pub hard_state: HardState,
}

/// A snapshot being taken.
#[derive(Debug)]
pub struct Intake {
    /// Who gives it.
    pub from: u64,
    place: Place,
    term: u64,
    members: raft::eraftpb::ConfState,
    /// The taker's own log: committed up to, and its end.
    commit: u64,
    last: u64,
    next: Option<Bookmark>,
    image: Vec<u8>,
    held: Vec<(Part, u64, Vec<u8>)>,
}

impl Intake {
    /// A leader says that this member needs a snapshot. `None`: it does not, or has no seat, or the message is of an old leader.
    pub fn begin(message: &PeerMessage, own: u64, hard_state: &HardState, last: u64) -> Option<Intake> {
        announced(message)?;
        let metadata = message.snapshot.as_ref()?.metadata.clone()?;
        let members = metadata.conf_state?;
        let seated = members.voters.contains(&own) || members.learners.contains(&own);
        let place = Place { index: metadata.index, term: metadata.term };
        (seated && message.term >= hard_state.term && place.index > hard_state.commit).then(|| Intake {
            from: message.from,
            place,
            term: message.term,
            members,
            commit: hard_state.commit,
            last,
            next: Some((Part::Image, 0)),
            image: Vec::new(),
            held: Vec::new(),
        })
    }

    /// Where the taker's own log ends.
    pub fn own_end(&self) -> u64 {
        self.last
    }

    /// The snapshot's index.
    pub fn index(&self) -> u64 {
        self.place.index
    }

    /// The entry with which it ends.
    pub fn place(&self) -> Place {
        self.place
    }

    /// What to ask for next; `None`: all is there.
    pub fn wants(&self) -> Option<Request> {
        self.next.map(|next| Request::Piece(self.place.index, next))
    }

    /// Takes a piece: what to write. An error: it is not what was asked for, or not of this snapshot.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Vec<Op>, String> {
        let piece = Piece::decode(bytes).map_err(|error| error.to_string())?;
        let Some(asked) = self.next else { return Err("nothing was asked for".to_owned()) };
        // An answer to what was asked before, of another leader perhaps, would leave a gap.
        if (piece.index, piece.first) != (self.place.index, asked) || piece.next.is_some_and(|next| next <= asked) {
            return Err("it is a piece of another snapshot".to_owned());
        }
        let mut ops = vec![Op::Staged(self.last)];
        for (part, number, value) in piece.items {
            if (part, number) < asked || piece.next.is_some_and(|next| (part, number) >= next) {
                return Err("a piece holds what was not asked for".to_owned());
            }
            match part {
                Part::Image if number == self.image.len() as u64 => self.image.extend_from_slice(&value),
                Part::Image => return Err("there is a gap in the image".to_owned()),
                // What is committed here is the same here.
                Part::LogLeader | Part::LogStandby if number <= self.commit || number > self.place.index => {}
                Part::LogLeader | Part::LogStandby if number <= self.last => self.held.push((part, number, value)),
                Part::Emission => {
                    let emission = Emission::decode(&value).map_err(|error| format!("emission {number}: {error}"))?;
                    // Its body came here by itself, perhaps of a standby, and must outlive that family now.
                    ops.extend((emission.entry <= self.commit).then_some(Op::Copy(emission.entry)));
                    ops.push(Op::Stage(part, number, value));
                }
                Part::LogLeader | Part::LogStandby | Part::Dead => ops.push(Op::Stage(part, number, value)),
            }
        }
        self.next = piece.next;
        Ok(ops)
    }

    /// All is there: what the member remembers from now on, its image, and what to write in one batch. `hard_state`: its own, all of it durable.
    pub fn finish(self, hard_state: HardState) -> (Remembered, Vec<u8>, Op) {
        let mut hard_state = HardState { commit: self.place.index, ..hard_state };
        if hard_state.term < self.term {
            (hard_state.term, hard_state.vote) = (self.term, 0);
        }
        let known = Remembered {
            hard_state: hard_state.clone(),
            members: self.members.clone(),
            truncated: self.place,
            last_index: self.place.index,
            terms: std::collections::BTreeMap::new(),
        };
        let install = Install {
            place: self.place,
            void: (self.commit + 1, self.last),
            entries: self.held,
            image: self.image.clone(),
            members: self.members.encode_to_vec(),
            hard_state,
        };
        (known, self.image, Op::Install(Box::new(install)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::eraftpb::ConfState;
    use raft::eraftpb::Snapshot;
    use raft::eraftpb::SnapshotMetadata;

    fn message(index: u64, to: u64) -> PeerMessage {
        let members = ConfState { voters: vec![1, 2], learners: vec![3], ..ConfState::default() };
        let metadata = SnapshotMetadata { conf_state: Some(members), index, term: 4 };
        let snapshot = Snapshot { metadata: Some(metadata), ..Snapshot::default() };
        let mut message = PeerMessage { to, from: 1, term: 5, snapshot: Some(snapshot), ..PeerMessage::default() };
        message.set_msg_type(MessageType::MsgSnapshot);
        message
    }

    fn hard(term: u64, vote: u64, commit: u64) -> HardState {
        HardState { term, vote, commit }
    }

    fn emission(number: u64, entry: u64) -> Vec<u8> {
        Emission { number, entry, ..Emission::default() }.encode()
    }

    #[test]
    fn only_what_is_lacking_is_written_and_the_rest_waits_for_the_end() {
        let mut intake = Intake::begin(&message(50, 3), 3, &hard(3, 2, 10), 13).unwrap();
        assert_eq!(intake.wants(), Some(Request::Piece(50, (Part::Image, 0))));
        let first = Piece {
            index: 50,
            first: (Part::Image, 0),
            next: Some((Part::LogStandby, 14)),
            items: vec![(Part::Image, 0, b"ab".to_vec()), (Part::Image, 2, b"c".to_vec())],
        };
        let ops = intake.take(&first.encode()).unwrap();
        assert!(matches!(ops[..], [Op::Staged(13)]));
        let item = |part, number| (part, number, vec![number as u8]);
        let mut items = vec![item(Part::LogStandby, 14)];
        items.extend([9, 12, 20, 51].map(|number| item(Part::LogLeader, number)));
        items.extend([(Part::Emission, 3, emission(3, 9)), (Part::Emission, 4, emission(4, 20)), item(Part::Dead, 1)]);
        // What was asked for before, of another leader, comes late.
        let late = Piece { index: 50, first: (Part::LogLeader, 9), next: None, items: items[1..].to_vec() };
        assert!(intake.take(&late.encode()).is_err());
        let ops = intake.take(&Piece { index: 50, first: (Part::LogStandby, 14), next: None, items }.encode()).unwrap();
        let written: Vec<String> = ops.iter().map(|op| format!("{op:?}").chars().take(22).collect()).collect();
        let expected = [
            "Staged(13)",
            "Stage(LogStandby, 14, ",
            "Stage(LogLeader, 20, [",
            "Copy(9)",
            "Stage(Emission, 3, [",
            "Stage(Emission, 4, [",
            "Stage(Dead, 1, [1])",
        ];
        assert!(written.iter().zip(expected).all(|(op, start)| op.starts_with(start)) && written.len() == 7, "{written:?}");
        assert_eq!(intake.wants(), None);
        let (known, image, op) = intake.finish(hard(3, 2, 10));
        assert_eq!((known.last(), image), (Place { index: 50, term: 4 }, b"abc".to_vec()));
        let Op::Install(install) = op else { panic!("{op:?}") };
        assert_eq!((install.void, install.entries), ((11, 13), vec![item(Part::LogLeader, 12)]));
        // The leader's term was later: this member has not voted in it.
        assert_eq!(install.hard_state, hard(5, 0, 50));
    }

    #[test]
    fn who_has_it_already_or_has_no_seat_takes_none_and_old_leaders_are_not_believed() {
        assert!(Intake::begin(&message(50, 3), 3, &hard(5, 0, 50), 60).is_none());
        assert!(Intake::begin(&message(50, 4), 4, &hard(5, 0, 10), 10).is_none());
        assert!(Intake::begin(&message(50, 3), 3, &hard(6, 0, 10), 10).is_none());
        assert!(Intake::begin(&message(50, 3), 3, &hard(5, 0, 10), 10).is_some());
    }

    #[test]
    fn damaged_and_foreign_pieces_are_refused() {
        let piece = Piece {
            index: 50,
            first: (Part::Image, 0),
            next: Some((Part::Emission, 3)),
            items: vec![(Part::Image, 0, vec![7; 30]), (Part::LogLeader, 20, vec![8])],
        };
        let bytes = piece.encode();
        assert_eq!(Piece::decode(&bytes), Ok(piece.clone()));
        (0..bytes.len()).for_each(|end| assert!(Piece::decode(&bytes[..end]).is_err()));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert!(Piece::decode(&damaged).is_err());
        }
        let begin = || Intake::begin(&message(50, 3), 3, &hard(5, 0, 10), 10).unwrap();
        assert!(begin().take(&Piece { index: 51, ..piece.clone() }.encode()).is_err());
        let backwards = Piece { index: 50, first: (Part::Image, 0), next: Some((Part::Image, 0)), items: Vec::new() };
        assert!(begin().take(&backwards.encode()).is_err());
        let gap = Piece { index: 50, first: (Part::Image, 0), next: None, items: vec![(Part::Image, 1, vec![1])] };
        assert!(begin().take(&gap.encode()).is_err());
        for request in [Request::Piece(9, (Part::Dead, u64::MAX)), Request::Taken(4)] {
            let bytes = request.encode();
            assert_eq!(Request::decode(&bytes), Ok(request));
            (0..bytes.len()).for_each(|end| assert!(Request::decode(&bytes[..end]).is_err()));
        }
    }

    /// The giver judges a waiting sample between two pieces: it copies the body into the leader's family, and then deletes the standby's part of the log.
    #[test]
    fn a_body_that_is_copied_while_it_is_given_is_in_the_snapshot() {
        let given = Given { index: 50, numbers: Numbers::default(), image: Arc::new(vec![1]) };
        let (mut leader, mut standby) = (vec![3_u64], vec![4_u64, 5]);
        let (mut next, mut taken) = (Some((Part::Image, 0)), Vec::new());
        while let Some(bookmark) = next {
            let scan = |part: Part, from: u64, take: &mut dyn FnMut(u64, &[u8]) -> bool| {
                let entries = match part {
                    Part::LogLeader => &leader[..],
                    Part::LogStandby => &standby[..],
                    Part::Image | Part::Emission | Part::Dead => &[],
                };
                entries.iter().filter(|index| **index >= from).all(|index| take(*index, &[0]));
                Ok::<_, Malformed>(())
            };
            let piece = given.piece(bookmark, 1, scan).unwrap();
            taken.extend(piece.items.iter().filter(|item| item.0 != Part::Image).map(|item| item.1));
            next = piece.next;
            if taken.len() == 1 {
                (leader, standby) = (vec![3, 5], Vec::new());
            }
        }
        assert!(taken.contains(&5), "{taken:?}");
    }
}

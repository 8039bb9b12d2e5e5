//! The whole state of a data shard as bytes: equal states give equal bytes, so their hash is the state's hash.

use std::collections::VecDeque;
use xxhash_rust::xxh3::xxh3_64;

use crate::dedup::group::Group;
use crate::shard::codec::Malformed;
use crate::shard::codec::Reader;
use crate::shard::codec::Writer;
use crate::shard::command::ShardSettings;
use crate::shard::data::Data;
use crate::shard::data::Place;
use crate::shard::data::Sent;
use crate::shard::data::sinks::Sinks;

/// Raised when the layout changes. 2: dead letters that were sent again stand at the end; 1 is still read.
const VERSION: u8 = 2;

impl Data {
    /// Appends the state.
    pub fn write_image(&self, into: &mut Vec<u8>) {
        let mut out = Writer(into);
        out.byte(VERSION);
        out.number(self.applied);
        out.signed(self.at);
        [self.emissions, self.samples, self.bytes, self.dead.0, self.dead.1, self.image.0, self.image.1]
            .into_iter()
            .for_each(|number| out.number(number));
        self.settings.write(&mut out);
        self.sinks.write(&mut out);
        out.number(self.groups.len() as u64);
        let mut bytes = Vec::new();
        for place in self.groups.values() {
            bytes.clear();
            place.group.write_image(&mut bytes);
            out.bytes(&bytes);
            out.number(place.sent.len() as u64);
            for sent in &place.sent {
                out.number(sent.entry);
                out.text(&sent.replica);
                out.number(sent.bytes);
                out.byte(u8::from(sent.kept));
            }
        }
        out.number(self.resent.len() as u64);
        self.resent.iter().for_each(|number| out.number(*number));
    }

    /// The state whose image this is, all of it.
    pub fn read_image(bytes: &[u8]) -> Result<Data, Malformed> {
        let mut from = Reader(bytes);
        let version = from.byte()?;
        match version {
            1 | VERSION => {}
            other => return Err(Malformed::Version(other)),
        }
        let mut data = Data { applied: from.number()?, at: from.signed()?, ..Data::default() };
        (data.emissions, data.samples, data.bytes) = (from.number()?, from.number()?, from.number()?);
        data.dead = (from.number()?, from.number()?);
        data.image = (from.number()?, from.number()?);
        data.settings = ShardSettings::read(&mut from)?;
        data.sinks = Sinks::read(&mut from)?;
        for _ in 0..from.count(2)? {
            let group = Group::read_image(from.bytes()?).map_err(|_| Malformed::Impossible("the image of a group"))?;
            let mut sent = VecDeque::new();
            for _ in 0..from.count(4)? {
                let (entry, replica) = (from.number()?, from.text()?.to_owned());
                sent.push_back(Sent { entry, replica, bytes: from.number()?, kept: from.byte()? != 0 });
            }
            data.groups.insert(group.name().to_owned(), Place { group, sent });
        }
        if version > 1 {
            data.resent = (0..from.count(1)?).map(|_| from.number()).collect::<Result<_, _>>()?;
        }
        from.end()?;
        Ok(data)
    }

    /// The same on every member that has applied the same entries.
    pub fn state_hash(&self) -> u64 {
        let mut bytes = Vec::new();
        self.write_image(&mut bytes);
        xxh3_64(&bytes)
    }
}

//! A member on a disk that forgets: whatever was not synced may be gone after a crash, from any point on. Thousands of seeds of offers,
//! switches, images, deletions and crashes between any two steps; what was answered must be there, and replay must come to the same state
//! and the same emissions as one that never crashed.

use fastrand::Rng;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::*;
use crate::model::Item;
use crate::model::Kind;
use crate::shard::command::Command;
use crate::shard::command::CursorMove;
use crate::shard::command::Policy;
use crate::shard::command::ShardSettings;
use crate::shard::command::SinkSettings;
use crate::shard::command::Start;
use crate::shard::command::SwitchTo;
use crate::shard::entry::Samples;
use crate::shard::log::to_stored;
use crate::wire::digest;
use crate::wire::pack::Packing;
use crate::wire::remote_write::Protocol;

/// What a disk holds of one shard.
#[derive(Clone, Default)]
pub(crate) struct Contents {
    pub known: Remembered,
    leader: BTreeMap<u64, Vec<u8>>,
    standby: BTreeMap<u64, Vec<u8>>,
    pub emissions: BTreeMap<u64, Emission>,
    pub image: Option<Vec<u8>>,
    /// The entry after which it was taken.
    pub image_index: u64,
    /// Where the member's own log ends while it takes a snapshot.
    staged: Option<u64>,
}

/// One write, atomic.
#[derive(Clone)]
pub(crate) enum Record {
    Log { number: u64, entries: Vec<(u64, Vec<u8>)>, void: Option<(u64, u64)>, terms: Vec<(u64, u64)>, hard: HardState },
    Emission(Emission),
    Copy(u64),
    Image(u64, Vec<u8>, HardState),
    Members(Vec<u8>, HardState),
    Free(Free),
    Staged(u64),
    Stage(Part, u64, Vec<u8>),
    Unstage(u64),
    Install(Rc<Install>),
}

impl Record {
    /// As it is written; `None`: of no concern to these disks.
    pub fn of(op: Op) -> Option<Record> {
        Some(match op {
            Op::Log(write) => {
                let entries = write.entries.iter().map(|entry| (entry.index, to_stored(entry).into_owned())).collect();
                Record::Log { number: write.number, entries, void: write.void, terms: write.terms, hard: write.hard_state }
            }
            Op::Emission(emission) => Record::Emission((*emission).clone()),
            Op::Copy(index) => Record::Copy(index),
            Op::Image(image) => Record::Image(image.index, image.sealed, image.hard_state),
            Op::Members(members, hard) => Record::Members(members, hard),
            Op::Free(free) => Record::Free(free),
            Op::Staged(own_end) => Record::Staged(own_end),
            Op::Stage(part, number, value) => Record::Stage(part, number, value),
            Op::Unstage(own_end) => Record::Unstage(own_end),
            Op::Install(install) => Record::Install(Rc::from(install)),
            Op::Dead(..) | Op::Resent(_) | Op::Closed(_) => return None,
        })
    }
}

impl Contents {
    /// What a disk holds of a member that has not begun yet.
    pub fn fresh(voters: &[u64]) -> Contents {
        Contents { known: Remembered::fresh(voters.to_vec()), ..Contents::default() }
    }

    pub fn put(&mut self, record: Record) {
        match record {
            Record::Log { number: _, entries, void, terms, hard } => {
                if let Some(void) = void {
                    self.void(void);
                }
                self.known.terms.extend(terms);
                self.known.hard_state = hard;
                for (index, bytes) in entries {
                    self.known.last_index = index;
                    if entry::is_from_leader(&bytes) {
                        self.leader.insert(index, bytes)
                    } else {
                        self.standby.insert(index, bytes)
                    };
                }
            }
            Record::Emission(emission) => drop(self.emissions.insert(emission.number, emission)),
            Record::Copy(index) => {
                if let Some(bytes) = self.standby.get(&index) {
                    self.leader.insert(index, bytes.clone());
                }
            }
            Record::Image(index, sealed, hard) => {
                (self.image_index, self.image, self.known.hard_state) = (index, Some(sealed), hard);
            }
            Record::Members(members, hard) => (self.known.members, self.known.hard_state) = (decoded(&members), hard),
            Record::Free(free) => {
                self.known.truncated = free.truncated;
                self.leader = self.leader.split_off(&free.leader_below);
                self.standby = self.standby.split_off(&free.standby_below);
                self.emissions = self.emissions.split_off(&free.emissions_below);
            }
            Record::Staged(own_end) => self.staged = Some(own_end),
            Record::Stage(part, number, value) => self.stage(part, number, value),
            Record::Unstage(own_end) => self.unstage(own_end),
            Record::Install(install) => {
                self.void(install.void);
                install.entries.iter().for_each(|(part, number, value)| self.stage(*part, *number, value.clone()));
                self.known.truncated = install.place;
                self.known.last_index = install.place.index;
                self.known.members = decoded(&install.members);
                (self.image_index, self.image) = (install.place.index, Some(install.image.clone()));
                self.known.hard_state = install.hard_state.clone();
                self.staged = None;
            }
        }
    }

    fn void(&mut self, (from, to): (u64, u64)) {
        self.leader.retain(|index, _| !(from..=to).contains(index));
        self.standby.retain(|index, _| !(from..=to).contains(index));
        self.known.terms.split_off(&from);
    }

    fn stage(&mut self, part: Part, number: u64, value: Vec<u8>) {
        match part {
            Part::LogLeader => drop(self.leader.insert(number, value)),
            Part::LogStandby => drop(self.standby.insert(number, value)),
            Part::Emission => drop(self.emissions.insert(number, Emission::decode(&value).unwrap())),
            Part::Image | Part::Dead => {}
        }
    }

    fn unstage(&mut self, own_end: u64) {
        self.leader.split_off(&(own_end + 1));
        self.standby.split_off(&(own_end + 1));
        self.staged = None;
    }

    /// What is done before a member begins on it: as `Store::forget_staged`, and the log's end is its last entry.
    pub fn open(&mut self, keep_staged: bool) {
        if let Some(own_end) = self.staged.filter(|_| !keep_staged) {
            self.unstage(own_end);
        }
        let last = [&self.leader, &self.standby].into_iter().filter_map(|family| family.last_key_value()).map(|(index, _)| *index).max();
        self.known.last_index = last.unwrap_or_default().max(self.known.truncated.index);
    }

    /// The first entry that should be there and is not.
    pub fn hole(&self) -> Option<u64> {
        (self.known.truncated.index + 1..=self.known.last_index).find(|index| self.entry(*index).is_none())
    }

    /// As `Store::scan`.
    pub fn scan(&self, part: Part, from: u64, take: &mut dyn FnMut(u64, &[u8]) -> bool) {
        match part {
            Part::LogLeader => drop(self.leader.range(from..).all(|(number, value)| take(*number, value))),
            Part::LogStandby => drop(self.standby.range(from..).all(|(number, value)| take(*number, value))),
            Part::Emission => drop(self.emissions.range(from..).all(|(number, emission)| take(*number, &emission.encode()))),
            Part::Image | Part::Dead => {}
        }
    }

    pub fn entry(&self, index: u64) -> Option<&Vec<u8>> {
        self.leader.get(&index).or(self.standby.get(&index))
    }
}

fn decoded(members: &[u8]) -> raft::eraftpb::ConfState {
    raft::eraftpb::ConfState::decode(members).unwrap()
}

#[derive(Default)]
struct Forgetful {
    synced: Contents,
    seen: Contents,
    unsynced: Vec<Record>,
    /// Of the last log write that is durable.
    number: u64,
}

impl Forgetful {
    fn write(&mut self, op: Op) {
        if let Some(record) = Record::of(op) {
            self.seen.put(record.clone());
            self.unsynced.push(record);
        }
    }

    /// Makes the first so many records durable; the number of the last log write that is.
    fn sync(&mut self, records: usize) -> u64 {
        for record in self.unsynced.drain(..records) {
            if let Record::Log { number: of_write, .. } = &record {
                self.number = *of_write;
            }
            self.synced.put(record);
        }
        self.number
    }

    fn sync_all(&mut self) -> u64 {
        self.sync(self.unsynced.len())
    }

    /// Power is lost: of what was not synced, the first so many records are there.
    fn crash(&mut self, random: &mut Rng) {
        let survive = random.usize(0..=self.unsynced.len());
        for record in self.unsynced.drain(..).take(survive) {
            self.synced.put(record);
        }
        self.seen = self.synced.clone();
        self.number = 0;
    }
}

#[derive(Clone)]
struct Handle(Rc<RefCell<Forgetful>>);

impl Disk for Handle {
    fn stored(&self, low: u64, high: u64, most_bytes: u64) -> Result<Vec<Vec<u8>>, String> {
        let disk = self.0.borrow();
        let mut bytes = 0;
        let mut found = Vec::new();
        for index in low..high {
            let stored = disk.seen.entry(index).ok_or_else(|| format!("entry {index} is missing"))?;
            bytes += stored.len() as u64;
            if bytes > most_bytes && !found.is_empty() {
                break;
            }
            found.push(stored.clone());
        }
        Ok(found)
    }
}

struct World {
    random: Rng,
    disk: Handle,
    member: Option<Member<Handle>>,
    now: i64,
    /// Committed entries, applied once by a state that never crashes.
    truth: Data,
    emissions: Vec<Emission>,
    committed: BTreeMap<u64, Vec<u8>>,
    newest: BTreeMap<&'static str, i64>,
    answered: u64,
    crashes: u64,
    seed: u64,
}

const INTERVAL: i64 = 1_000;

impl World {
    fn new(seed: u64) -> World {
        let disk = Forgetful::default();
        let mut world = World {
            random: Rng::with_seed(seed),
            disk: Handle(Rc::new(RefCell::new(disk))),
            member: None,
            now: 0,
            truth: Data::default(),
            emissions: Vec::new(),
            committed: BTreeMap::new(),
            newest: BTreeMap::new(),
            answered: 0,
            crashes: 0,
            seed,
        };
        {
            let mut disk = world.disk.0.borrow_mut();
            disk.synced = Contents::fresh(&[7]);
            disk.seen = disk.synced.clone();
        }
        world.open();
        world
    }

    fn open(&mut self) {
        let (known, image) = {
            let mut disk = self.disk.0.borrow_mut();
            disk.seen.open(false);
            (disk.seen.known.clone(), disk.seen.image.clone())
        };
        let limits = Limits { tail_bytes: 300, committed_bytes: 500, ..Limits::default() };
        let begin = Begin { shard: ShardId(1), id: 7, disk: self.disk.clone(), known, image, limits, entropy: 5 };
        self.member = Some(Member::open(begin).unwrap_or_else(|error| panic!("seed {}: {error}", self.seed)));
    }

    fn member(&mut self) -> &mut Member<Handle> {
        self.member.as_mut().unwrap()
    }

    fn at(&mut self) -> i64 {
        let now = self.now;
        self.member().stamp(now, Some(1_790_000_000_000 + now))
    }

    /// One member's turn; the disk takes what it says, and perhaps syncs it.
    fn turn(&mut self) {
        let mut turn = Turn::default();
        let seed = self.seed;
        self.member().turn(&mut turn).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let done = std::mem::take(&mut turn.done);
        for op in turn.ops {
            if let Op::Emission(emission) = &op
                && let Some(expected) = self.emissions.get(emission.number as usize - 1)
            {
                assert_eq!(**emission, *expected, "seed {seed}: emission {} is another one after replay", emission.number);
            }
            let emission = if let Op::Emission(emission) = &op { Some((**emission).clone()) } else { None };
            self.disk.0.borrow_mut().write(op);
            if let Some(emission) = emission.filter(|emission| emission.number > self.emissions.len() as u64) {
                assert_eq!(emission.number, self.emissions.len() as u64 + 1, "seed {seed}: a gap in emissions");
                self.emissions.push(emission);
            }
        }
        for done in done {
            self.applied(done.place.index);
        }
        if self.random.u8(..) < 150 {
            // A writer that is behind has written some of it.
            let waiting = self.disk.0.borrow().unsynced.len();
            let records = if self.random.bool() { waiting } else { self.random.usize(0..=waiting) };
            let number = self.disk.0.borrow_mut().sync(records);
            if self.random.u8(..) < 240 {
                self.member().replica.persisted(number);
            }
        }
    }

    /// An entry was applied: it is committed for ever.
    fn applied(&mut self, index: u64) {
        let stored = self.disk.0.borrow().seen.entry(index).cloned();
        let Some(stored) = stored else { panic!("seed {}: entry {index} was applied and is not there", self.seed) };
        match self.committed.get(&index) {
            Some(before) => assert_eq!(*before, stored, "seed {}: committed entry {index} changed", self.seed),
            None => {
                assert_eq!(index, self.committed.last_key_value().map_or(ORIGIN.index, |(last, _)| *last) + 1);
                let mut effects = Effects::default();
                self.truth.apply(index, &stored, &mut effects).unwrap();
                self.committed.insert(index, stored);
                self.answered += 1;
            }
        }
    }

    fn offer(&mut self) {
        let replica = ["a", "b"][self.random.usize(..2)];
        let group = ["g", "h"][self.random.usize(..2)];
        let time = self.now + 1_790_000_000_000 - self.random.i64(0..3 * INTERVAL);
        self.newest.insert(replica, time);
        let items: Vec<Item> = (0..self.random.u64(1..6))
            .map(|series| Item { series: self.random.u64(..4) + series, time, kind: Kind::Float, refused: self.random.u8(..) < 5 })
            .collect();
        let mut encoded_digest = Vec::new();
        digest::encode(&items, &mut encoded_digest);
        let samples = Samples {
            group,
            replica,
            settings: 0,
            protocol: Protocol::V1,
            packing: Packing::Snappy,
            strip: vec![],
            from_leader: false,
            digest: &encoded_digest,
            body: b"a body",
        };
        let mut encoded = Vec::new();
        entry::encode(0, &Entry::Samples(samples), &mut encoded);
        let at = self.at();
        let leads = match &self.member().state {
            State::Data(data) => data.leads(group, replica),
            State::Control(_) => false,
        };
        let _ = self.member().propose_samples(at, leads, encoded);
    }

    fn command(&mut self) {
        let at = self.at();
        let sink = if self.random.u8(..) < 150 { "s" } else { "t" };
        let (emissions, cursor, version) = match &self.member().state {
            State::Data(data) => (data.emissions, data.sinks.cursors.get(sink).cloned(), data.settings.version),
            State::Control(_) => return,
        };
        let entry = match self.random.u8(..12) {
            0 => {
                let sinks = ["s", "t"].map(|name| SinkSettings {
                    name: name.into(),
                    start: Start::Oldest,
                    budget_bytes: u64::MAX,
                    budget_ms: i64::MAX,
                    policy: Policy::Refuse,
                });
                let sinks = sinks[..self.random.usize(1..=2)].to_vec();
                let waiting_bytes = if self.random.bool() { 100 } else { 1 << 20 };
                Entry::Command(Command::Settings(ShardSettings { version: version + 1, sinks, waiting_bytes, ..ShardSettings::default() }))
            }
            1..=4 => {
                let Some(cursor) = cursor else { return };
                let emission = self.random.u64(cursor.emission..=emissions);
                let samples = self.emissions[..emission as usize].iter().map(|e| e.picks.len() as u64).sum::<u64>();
                Entry::Command(Command::Cursor(CursorMove {
                    sink: sink.into(),
                    epoch: cursor.epoch,
                    emission,
                    samples,
                    ..CursorMove::default()
                }))
            }
            5 => {
                let to = ["a", "b"][self.random.usize(..2)].to_owned();
                Entry::Command(Command::Switch(SwitchTo { group: "g".into(), to, ..SwitchTo::default() }))
            }
            6 => Entry::Forget { group: "h" },
            7..=9 => Entry::Image,
            _ => Entry::Tick,
        };
        let _ = self.member().propose(at, &entry);
    }

    fn free(&mut self) {
        let disk = self.disk.clone();
        let free = self.member().free(|done| disk.0.borrow().seen.emissions.get(&(done + 1)).map(|emission| emission.floor));
        if let Some(free) = free {
            // The image that this rests on must be durable first; `Op::Free` is synced with all before it.
            self.disk.0.borrow_mut().write(Op::Free(free));
            let number = self.disk.0.borrow_mut().sync_all();
            self.member().replica.persisted(number);
        }
    }

    /// Every emission that a sink still wants has its body.
    fn check_bodies(&mut self) {
        let done = match &self.member().state {
            State::Data(data) => data.done(),
            State::Control(_) => 0,
        };
        let disk = self.disk.0.borrow();
        for emission in self.emissions.iter().skip(done as usize) {
            assert!(disk.seen.entry(emission.entry).is_some(), "seed {}: emission {} has lost its body", self.seed, emission.number);
            assert!(emission.floor <= emission.entry);
        }
        assert!(self.emissions.windows(2).all(|two| two[0].floor <= two[1].floor), "seed {}: a floor went back", self.seed);
    }

    fn crash(&mut self) {
        self.member = None;
        let mut random = self.random.clone();
        self.disk.0.borrow_mut().crash(&mut random);
        self.random = Rng::with_seed(random.u64(..));
        self.crashes += 1;
        self.open();
    }

    fn settle(&mut self) {
        for _ in 0..50 {
            self.turn();
            let number = self.disk.0.borrow_mut().sync_all();
            self.member().replica.persisted(number);
        }
    }
}

fn run(seed: u64) -> (u64, u64, u64) {
    let mut world = World::new(seed);
    for _ in 0..150 {
        world.now += world.random.i64(0..400);
        match world.random.u8(..20) {
            0..=8 => world.offer(),
            9..=11 => world.command(),
            12 => world.free(),
            13 if world.random.bool() => world.crash(),
            14 => world.member().replica.tick(),
            _ => world.turn(),
        }
    }
    world.settle();
    world.check_bodies();
    world.crash();
    world.settle();
    world.check_bodies();
    let hash = world.truth.state_hash();
    // The new leader's empty entry is applied by `truth` too, through `applied`.
    assert_eq!(world.member().state.state_hash(), hash, "seed {seed}: replay came to another state");
    (hash, world.answered, world.crashes)
}

#[test]
fn nothing_answered_is_lost_and_replay_is_the_same_whatever_the_disk_forgets() {
    let (first, count) = match std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => (seed, 1),
        None => (0, 3_000),
    };
    let (mut answered, mut crashes) = (0, 0);
    for seed in first..first + count {
        let (_, more, crashed) = run(seed);
        answered += more;
        crashes += crashed;
    }
    // Otherwise it proves little.
    assert!(answered > 20 * count && crashes > count, "{answered} entries, {crashes} crashes");
}

#[test]
fn a_seed_gives_the_same_run() {
    assert_eq!(run(11), run(11));
    assert_ne!(run(11).0, run(12).0);
}

#[test]
fn a_change_of_members_is_written_with_the_commit_that_made_it() {
    let mut world = World::new(1);
    let turns = |world: &mut World| {
        for _ in 0..5 {
            let mut turn = Turn::default();
            world.member().turn(&mut turn).unwrap();
            turn.ops.into_iter().for_each(|op| world.disk.0.borrow_mut().write(op));
            let number = world.disk.0.borrow_mut().sync_all();
            world.member().replica.persisted(number);
        }
    };
    turns(&mut world);
    assert!(world.member().replica.propose_seat(crate::shard::members::Change::Learner(8)));
    let change = world.member().replica.last().index;
    turns(&mut world);
    let known = &world.disk.0.borrow().synced.known;
    assert_eq!(known.members.learners, [8]);
    assert!(known.hard_state.commit >= change, "{known:?}");
}

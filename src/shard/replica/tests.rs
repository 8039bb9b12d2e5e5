//! Three replicas over a network that loses and reorders, and disks that take their time and forget: what one applies, all apply.

use fastrand::Rng;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::*;
use crate::shard::log::to_stored;

#[derive(Clone, Default)]
struct Contents {
    known: Remembered,
    entries: BTreeMap<u64, Vec<u8>>,
}

/// `seen` is what reads find, `synced` what a crash leaves.
#[derive(Clone, Default)]
struct MemoryDisk(Rc<RefCell<(Contents, Contents)>>);

impl Disk for MemoryDisk {
    fn stored(&self, low: u64, high: u64, _: u64) -> Result<Vec<Vec<u8>>, String> {
        let disk = self.0.borrow();
        (low..high).map(|index| disk.0.entries.get(&index).cloned().ok_or_else(|| format!("entry {index} is missing"))).collect()
    }
}

struct Peer {
    id: u64,
    disk: MemoryDisk,
    replica: Replica<MemoryDisk>,
    unsynced: Option<u64>,
    applied: Vec<(u64, Vec<u8>)>,
}

impl Peer {
    fn new(id: u64) -> Peer {
        let disk = MemoryDisk::default();
        let contents = Contents { known: Remembered::fresh(vec![1, 2, 3]), entries: BTreeMap::new() };
        *disk.0.borrow_mut() = (contents.clone(), contents);
        let replica = Peer::open(id, &disk);
        Peer { id, disk, replica, unsynced: None, applied: Vec::new() }
    }

    fn open(id: u64, disk: &MemoryDisk) -> Replica<MemoryDisk> {
        let known = disk.0.borrow().0.known.clone();
        let applied = known.truncated.index;
        Replica::new(id, disk.clone(), known, applied, Limits { tail_bytes: 40, ..Limits::default() }, id * 77).unwrap()
    }

    fn crash(&mut self) {
        let synced = self.disk.0.borrow().1.clone();
        self.disk.0.borrow_mut().0 = synced;
        (self.unsynced, self.replica) = (None, Peer::open(self.id, &self.disk));
        self.applied.clear();
    }

    fn turn(&mut self, network: &mut Vec<Message>) {
        while let Some(output) = self.replica.output() {
            network.extend(output.messages);
            if let Some(write) = output.write {
                let mut disk = self.disk.0.borrow_mut();
                let contents = &mut disk.0;
                if let Some((from, _)) = write.void {
                    contents.entries.split_off(&from);
                    contents.known.terms.split_off(&from);
                }
                contents.known.terms.extend(write.terms);
                contents.known.hard_state = write.hard_state;
                for entry in write.entries {
                    contents.entries.insert(entry.index, to_stored(&entry).into_owned());
                    contents.known.last_index = entry.index;
                }
                self.unsynced = Some(write.number);
            }
            for entry in output.committed {
                self.replica.applied(entry.index);
                self.applied.push((entry.index, entry.data));
            }
        }
    }

    fn sync(&mut self) {
        let seen = self.disk.0.borrow().0.clone();
        self.disk.0.borrow_mut().1 = seen;
        if let Some(number) = self.unsynced.take() {
            self.replica.persisted(number);
        }
    }
}

/// All that was ever applied, by whoever was first.
fn agree(truth: &mut BTreeMap<u64, Vec<u8>>, peers: &[Peer], seed: u64) {
    for (index, data) in peers.iter().flat_map(|peer| &peer.applied) {
        let known = truth.entry(*index).or_insert_with(|| data.clone());
        assert_eq!(known, data, "seed {seed}: two members applied different entries at {index}");
    }
}

fn run(seed: u64) -> usize {
    let mut random = Rng::with_seed(seed);
    let mut peers: Vec<Peer> = (1..=3).map(Peer::new).collect();
    let (mut network, mut truth, mut proposed) = (Vec::new(), BTreeMap::new(), 0_u64);
    for step in 0..1_500 {
        let heal = step > 1_000; // liveness is owed when the faults are over
        let peer = &mut peers[random.usize(..3)];
        match random.u8(..20) {
            0..=3 => peer.replica.tick(),
            4 | 5 => {
                proposed += 1;
                let _ = peer.replica.propose(proposed.to_le_bytes().to_vec(), false);
            }
            6 if !heal && random.u8(..) < 60 => peer.crash(),
            7..=9 => peer.sync(),
            _ => peer.turn(&mut network),
        }
        if heal {
            peers.iter_mut().for_each(|peer| {
                peer.turn(&mut network);
                peer.sync();
            });
        }
        for _ in 0..network.len().min(3) {
            let message = network.swap_remove(random.usize(..network.len()));
            if heal || random.u8(..) > 25 {
                peers[message.to as usize - 1].replica.step(message);
            }
        }
        agree(&mut truth, &peers, seed);
    }
    for _ in 0..200 {
        for peer in &mut peers {
            peer.replica.tick();
            peer.turn(&mut network);
            peer.sync();
            peer.turn(&mut network);
        }
        std::mem::take(&mut network).into_iter().for_each(|message| peers[message.to as usize - 1].replica.step(message));
    }
    agree(&mut truth, &peers, seed);
    assert_eq!(peers.iter().filter(|peer| peer.replica.leads_surely()).count(), 1, "seed {seed}");
    let last = peers[0].applied.last().map(|(index, _)| *index);
    assert!(peers.iter().all(|peer| peer.applied.last().map(|(index, _)| *index) == last), "seed {seed}: not all caught up");
    truth.len()
}

#[test]
fn what_one_applies_all_apply_whatever_is_lost_or_forgotten() {
    let seeds = 300;
    let applied: usize = (0..seeds).map(run).sum();
    assert!(applied > 20 * seeds as usize, "{applied}");
}

#[test]
fn samples_leave_room_for_what_is_reserved() {
    let disk = MemoryDisk::default();
    let known = Remembered::fresh(vec![1]);
    disk.0.borrow_mut().0.known = known.clone();
    let limits = Limits { uncommitted_bytes: 2 << 20, reserved_bytes: 1 << 20, ..Limits::default() };
    let mut replica = Replica::new(1, disk, known, 1, limits, 0).unwrap();
    assert!(replica.leads());
    while replica.propose(vec![1; 100_000], false).is_ok() {}
    assert!(replica.uncommitted_bytes() <= 1 << 20);
    assert!(replica.propose(vec![1; 100_000], true).is_ok());
}

#[test]
fn a_state_that_is_ahead_of_the_log_is_refused() {
    let known = Remembered::fresh(vec![1]);
    let Err(error) = Replica::new(1, MemoryDisk::default(), known, 9, Limits::default(), 0) else { panic!("it was taken") };
    assert!(error.contains("the state is that of 9"), "{error}");
}

/// A node's entropy is its id and the shard's number: whatever else goes into the timeout must not take the id out again.
#[test]
fn two_members_rarely_wait_equally_long_before_they_ask_for_votes() {
    let timeout = |id: u64, term: u64| {
        let mut known = Remembered::fresh(vec![1, 2, 3]);
        known.hard_state.term = term;
        let entropy = id ^ 0x9E37_79B9_7F4A_7C15;
        let applied = known.truncated.index;
        let replica = Replica::new(id, MemoryDisk::default(), known, applied, Limits::default(), entropy).unwrap();
        replica.node.raft.randomized_election_timeout()
    };
    for (one, other) in [(1, 2), (2, 3), (0xfca3_cac8_a7d9_08b7, 0x6859_bf3a_af13_aca3)] {
        let equal = (1..=200).filter(|term| timeout(one, *term) == timeout(other, *term)).count();
        assert!(equal < 50, "{one} and {other}: in {equal} of 200 terms");
    }
    let drawn: std::collections::BTreeSet<usize> = (1..=200).map(|term| timeout(1, term)).collect();
    assert_eq!(drawn, (10..20).collect(), "every timeout occurs");
}

#[test]
fn what_a_member_begins_from_is_promised_when_it_is_durable() {
    let mut replica = Peer::new(3).replica;
    replica.begins_unsynced();
    let mut message = Message { from: 1, to: 3, term: 1, index: 1, log_term: 1, commit: 1, ..Message::default() };
    message.set_msg_type(MessageType::MsgAppend);
    replica.step(message);
    assert!(std::iter::from_fn(|| replica.output()).all(|output| output.messages.is_empty()));
    replica.persisted(INSTALLED);
    let sent: Vec<Message> = std::iter::from_fn(|| replica.output()).flat_map(|output| output.messages).collect();
    assert!(matches!(&sent[..], [said] if said.msg_type() == MessageType::MsgAppendResponse && said.index == 1), "{sent:?}");
    // Its own writes are numbered on from there.
    let entry = Entry { index: 2, term: 1, data: vec![7], ..Entry::default() };
    let mut message = Message { from: 1, to: 3, term: 1, index: 1, log_term: 1, commit: 1, entries: vec![entry], ..Message::default() };
    message.set_msg_type(MessageType::MsgAppend);
    replica.step(message);
    let write = std::iter::from_fn(|| replica.output()).find_map(|output| output.write).unwrap();
    assert!(write.number > INSTALLED);
    replica.persisted(write.number);
    let said = std::iter::from_fn(|| replica.output()).flat_map(|output| output.messages).next().unwrap();
    assert_eq!((said.msg_type(), said.index), (MessageType::MsgAppendResponse, 2));
}

#[test]
fn a_snapshot_that_is_not_needed_is_known_and_answered() {
    let mut replica = Peer::new(3).replica;
    let entries = (2..=5).map(|index| Entry { index, term: 1, ..Entry::default() }).collect();
    let mut message = Message { from: 1, to: 3, term: 1, index: 1, log_term: 1, commit: 3, entries, ..Message::default() };
    message.set_msg_type(MessageType::MsgAppend);
    replica.step(message);
    let write = std::iter::from_fn(|| replica.output()).find_map(|output| output.write).unwrap();
    replica.persisted(write.number);
    while replica.output().is_some() {}
    let has = [(3, 9), (5, 1), (5, 2), (6, 1)].map(|(index, term)| replica.has(Place { index, term }));
    assert_eq!(has, [true, true, false, false]);
    for (index, answered) in [(6, false), (5, true)] {
        let metadata = raft::eraftpb::SnapshotMetadata { index, term: 1, conf_state: Some(replica.known().members.clone()) };
        let snapshot = Some(raft::eraftpb::Snapshot { metadata: Some(metadata), ..Default::default() });
        let mut message = Message { from: 1, to: 3, term: 1, snapshot, ..Message::default() };
        message.set_msg_type(MessageType::MsgSnapshot);
        replica.step(message);
        let said: Vec<Message> = std::iter::from_fn(|| replica.output()).flat_map(|output| output.messages).collect();
        assert_eq!(said.iter().any(|said| said.msg_type() == MessageType::MsgAppendResponse), answered, "{said:?}");
    }
}

//! The disk alone.

use super::*;
use crate::store::batch::Batch;

#[test]
fn shards_are_ranges_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let store = open::open(directory.path(), 0).unwrap().store;
    let mut batch = Batch::new(&store, 0);
    for shard in 1..=3 {
        for number in 1..=5 {
            batch.put(Family::LogLeader, ShardId(shard), number, &[shard as u8; 2_000]);
        }
    }
    batch.delete(Family::LogLeader, ShardId(2), 0, 4);
    store.write(batch.seal()).unwrap();
    let numbers = |shard| {
        let mut found = Vec::new();
        store
            .scan(Family::LogLeader, ShardId(shard), 2, &mut |number, value| {
                assert_eq!(value[0], shard as u8);
                found.push(number);
                true
            })
            .unwrap();
        found
    };
    assert_eq!((numbers(1), numbers(2), numbers(3)), (vec![2, 3, 4, 5], vec![4, 5], vec![2, 3, 4, 5]));
    assert_eq!(store.last(Family::LogLeader, ShardId(2)).unwrap(), Some(5));
    assert_eq!(store.last(Family::LogLeader, ShardId(9)).unwrap(), None);
}

#[test]
fn an_image_takes_the_place_of_a_longer_one() {
    let directory = tempfile::tempdir().unwrap();
    let store = open::open(directory.path(), 0).unwrap().store;
    for (index, bytes) in [(5, 3_500_000), (9, 10), (12, 0)] {
        let sealed = vec![index as u8; bytes];
        let mut batch = Batch::new(&store, 0);
        batch.image(ShardId(1), index, &sealed);
        store.write(batch.seal()).unwrap();
        assert_eq!(store.image(ShardId(1)).unwrap(), Some((index, sealed)));
    }
    assert_eq!(store.image(ShardId(2)).unwrap(), None);
}

#[test]
fn what_raft_needs_comes_back_and_void_entries_go() {
    let directory = tempfile::tempdir().unwrap();
    let batch_of = |store: &Store| {
        let mut batch = Batch::new(store, 0);
        batch.hard_state(ShardId(1), 3, 7, 4);
        batch.members(ShardId(1), b"members");
        batch.cut(ShardId(1), 2, 1);
        for (index, term) in [(3, 1), (5, 2), (6, 3)] {
            batch.term(ShardId(1), index, term);
        }
        for index in 3..=7 {
            batch.put(Family::LogStandby, ShardId(1), index, b"entry");
        }
        batch.void(ShardId(1), 6, 7);
        batch.put(Family::LogLeader, ShardId(1), 6, b"other");
        batch.term(ShardId(1), 6, 4);
        store.write(batch.seal()).unwrap();
    };
    {
        let store = open::open(directory.path(), 0).unwrap().store;
        batch_of(&store);
        store.close().unwrap();
    }
    let store = open::open(directory.path(), 0).unwrap().store;
    let raft = store.raft(ShardId(1)).unwrap().unwrap();
    assert_eq!((raft.hard_state, &*raft.members, raft.cut, raft.last_index), ((3, 7, 4), &b"members"[..], (2, 1), 6));
    assert_eq!(raft.terms.into_iter().collect::<Vec<_>>(), [(3, 1), (5, 2), (6, 4)]);
    assert_eq!(store.log(ShardId(1), 5, 7, u64::MAX).unwrap(), [&b"entry"[..], b"other"]);
    assert!(store.log(ShardId(1), 6, 8, u64::MAX).is_err());
}

#[test]
fn a_hole_in_the_log_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let store = open::open(directory.path(), 0).unwrap().store;
    let mut batch = Batch::new(&store, 0);
    for index in [2, 3, 5] {
        batch.put(Family::LogStandby, ShardId(1), index, b"entry");
    }
    store.write(batch.seal()).unwrap();
    let raft = open::RaftOnDisk { cut: (1, 1), last_index: 5, ..open::RaftOnDisk::default() };
    assert!(store.verify_log(ShardId(1), &raft).unwrap_err().to_string().contains("entry 4"));
}

#[test]
fn data_of_a_newer_program_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    {
        let store = open::open(directory.path(), 0).unwrap().store;
        let mut batch = Batch::new(&store, 0);
        batch.meta(b"schema", &99_u64.to_le_bytes());
        store.write(batch.seal()).unwrap();
        store.close().unwrap();
    }
    let Err(error) = open::open(directory.path(), 0) else { panic!("it opened") };
    assert!(error.to_string().contains("schema version 99"), "{error}");
}

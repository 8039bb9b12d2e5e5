//! Feature levels: a cluster stays at its level until somebody finalises, and a program that does not know it does not start.

use super::together::Three;
use super::*;
use crate::shard::level::Levels;

fn known(oldest: u64, newest: u64) -> Levels {
    Levels { oldest, newest }
}

#[test]
fn a_program_that_does_not_know_the_level_does_not_start_and_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let with = |levels| Settings { levels, ..settings(directory.path()) };
    let node = start(with(known(1, 2)));
    let handle = node.handle.clone();
    wait(handle.ready()).unwrap();
    assert_eq!(handle.levels().0, 1, "the later program goes on at the level that is there");
    assert!(node.stop().is_empty());
    drop(handle);
    // So the one before can be started again.
    let node = start(with(known(1, 1)));
    let handle = node.handle.clone();
    wait(handle.ready()).unwrap();
    assert!(node.stop().is_empty());
    drop(handle);
    let node = start(with(known(1, 2)));
    let handle = node.handle.clone();
    wait(handle.ready()).unwrap();
    wait(handle.propose(ShardId::CONTROL, Command::Finalize { level: 2, by: "test".into() })).unwrap();
    assert_eq!(handle.levels().0, 2);
    assert!(node.stop().is_empty());
    drop(handle);
    let Err(error) = Node::start(with(known(1, 1)), Box::new(|_| {})) else { panic!("it began") };
    assert!(error.to_string().contains("no way back to this version"), "{error}");
    let Err(error) = Node::start(with(known(3, 4)), Box::new(|_| {})) else { panic!("it began") };
    assert!(error.to_string().contains("a version was left out"), "{error}");
    let node = start(with(known(2, 3)));
    wait(node.handle.ready()).unwrap();
    assert!(node.stop().is_empty());
}

#[test]
fn a_level_that_is_finalised_is_that_of_all_members() {
    let three = Three::knowing(known(1, 2));
    wait(three.handle(2).propose(ShardId::CONTROL, Command::Finalize { level: 2, by: "test".into() })).unwrap();
    eventually(|| (1..=3).all(|id| three.handle(id).levels().0 == 2));
    for mut node in three.nodes {
        assert!(node.take().is_none_or(|node| node.stop().is_empty()));
    }
}

//! What stands still is named, and nothing else; what moves again is well again.

use super::*;
use crate::node::lane::lock;

const MOST: Duration = Duration::from_millis(800);

fn parts(node: &Node) -> Vec<String> {
    node.handle.still(MOST).into_iter().map(|still| still.part).collect()
}

#[test]
fn a_shard_that_stands_still_is_named_and_well_when_it_moves_again() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(settings(directory.path()));
    wait(node.handle.ready()).unwrap();
    eventually(|| parts(&node).is_empty());
    {
        // Its thread shows views every few milliseconds.
        let _held = lock(&node.handle.shared.lanes[1].views);
        eventually(|| parts(&node) == ["the thread of shard 1"]);
    }
    eventually(|| parts(&node).is_empty());
    assert!(node.stop().is_empty());
}

#[test]
fn a_writer_that_is_stuck_is_named_though_the_disk_moves() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = settings(directory.path());
    settings.timing.probe = Duration::from_millis(50);
    let node = start(settings);
    wait(node.handle.ready()).unwrap();
    {
        let _held = lock(&node.handle.shared.writer.held);
        node.handle.tell(ShardId::CONTROL, Command::Assign { group: "shop".to_owned() });
        eventually(|| parts(&node) == ["the writer"]);
        assert!(directory.path().join("disk-probe").exists(), "the disk was asked meanwhile");
    }
    eventually(|| parts(&node).is_empty());
    // Nothing to write is no reason to be late.
    std::thread::sleep(MOST + MOST / 2);
    eventually(|| parts(&node).is_empty());
    assert!(node.stop().is_empty());
}

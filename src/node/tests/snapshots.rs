//! Members that lack what the log no longer has, and members that come and go: three nodes on three disks, joined by a table of handles.

use super::together::FOUNDING;
use super::together::Three;
use super::together::insist;
use super::*;
use crate::shard::members::Node as Seat;
use crate::shard::members::Nodes;
use crate::shard::members::Role;
use crate::store::Store;

/// After so many ticks of 100 ms a member is hopelessly behind here.
const AWAY: u32 = 8;

/// Samples of `from..to`, one scrape of five series a second, by the nodes in turn.
fn write(three: &Three, by: &[u64], from: i64, to: i64) {
    let begin = clock::wall_ms() / 1_000 * 1_000 - 600_000;
    for step in from..to {
        insist(&three.handle(by[step as usize % by.len()]), "g", begin + step * 1_000);
        // Images in between.
        std::thread::sleep(Duration::from_millis(if step % 10 == 0 { 60 } else { 0 }));
    }
}

fn last_and_cut(three: &Three, id: u64, shard: ShardId) -> (u64, u64) {
    let raft = three.handle(id).shared.store.raft(shard).unwrap().unwrap();
    (raft.last_index, raft.cut.0)
}

/// Node 3 is cut off, and the others' logs are cut beyond what it has.
fn leave_behind(three: &Three, from: i64) -> (ShardId, i64) {
    let shard = three.handle(1).group("g").unwrap();
    three.cut(3, true);
    let mut at = from;
    let begin = clock::now();
    let (last, _) = last_and_cut(three, 3, shard);
    while last_and_cut(three, 1, shard).1 <= last || last_and_cut(three, 2, shard).1 <= last {
        assert!(clock::now() - begin < Duration::from_secs(20), "the log is not cut");
        write(three, &[1, 2], at, at + 10);
        at += 10;
    }
    (shard, at)
}

/// Everything that is to be delivered can be read there.
fn bodies_are_there(three: &Three, id: u64, shard: ShardId) {
    for emission in all_emissions(&three.handle(id), shard) {
        assert!(three.handle(id).body(shard, emission.entry).unwrap().is_some(), "the body of entry {} is missing", emission.entry);
    }
}

fn stop(three: Three) {
    for mut node in three.nodes {
        assert!(node.take().is_none_or(|node| node.stop().is_empty()));
    }
}

#[test]
fn who_was_away_for_too_long_takes_a_snapshot_with_all_that_is_undelivered() {
    let mut three = Three::of(3, AWAY);
    write(&three, &[1, 2, 3], 0, 20);
    let shard = three.handle(1).group("g").unwrap();
    three.agree(shard, 100);
    let (shard, at) = leave_behind(&three, 20);
    three.cut(3, false);
    three.agree(shard, 5 * at as usize);
    bodies_are_there(&three, 3, shard);
    // It is one like the others: what comes now it takes from the log, it finds its place again, and it can lead.
    write(&three, &[3, 1, 2], at, at + 10);
    three.down(3);
    three.up(3, true);
    three.agree(shard, 5 * (at as usize + 10));
    bodies_are_there(&three, 3, shard);
    three.down(1);
    write(&three, &[3, 2], at + 10, at + 20);
    three.agree_of(&[2, 3], shard, 5 * (at as usize + 20));
    stop(three);
}

#[test]
fn a_snapshot_that_is_cut_short_leaves_the_member_as_it_was_and_is_taken_again() {
    let mut three = Three::of(3, AWAY);
    write(&three, &[1, 2, 3], 0, 20);
    let shard = three.handle(1).group("g").unwrap();
    three.agree(shard, 100);
    let (shard, at) = leave_behind(&three, 20);
    let (last, cut) = last_and_cut(&three, 3, shard);
    let staged = |store: &Store| [Family::LogLeader, Family::LogStandby].map(|family| store.last(family, shard).unwrap());
    let has_some = |store: &Store| staged(store).into_iter().flatten().max().unwrap() > store.raft(shard).unwrap().unwrap().last_index;
    // A few pieces at a time, until something of the log has come: how many there are, and how often they begin anew, depends on the machine.
    *three.network.pieces.lock().unwrap() = Some((shard, 0));
    three.cut(3, false);
    eventually(|| {
        let some = has_some(&three.handle(3).shared.store);
        if let Some((_, left @ 0)) = three.network.pieces.lock().unwrap().as_mut().filter(|_| !some) {
            *left = 2;
        }
        some
    });
    three.cut(3, true);
    three.down(3);
    let stored = crate::store::open::open(three.directory(3), 0).unwrap().store;
    let raft = stored.raft(shard).unwrap().unwrap();
    assert!(raft.last_index >= last && raft.cut.0 >= cut && raft.cut.0 <= raft.last_index);
    assert!(has_some(&stored), "nothing of the snapshot had come: the test shows nothing");
    drop(stored);
    *three.network.pieces.lock().unwrap() = None;
    three.up(3, true);
    three.cut(3, false);
    three.agree(shard, 5 * at as usize);
    bodies_are_there(&three, 3, shard);
    stop(three);
}

fn seat(id: u64, role: Role) -> Seat {
    Seat { id, name: format!("n{id}"), role }
}

/// Tells the cluster who shall take part, and waits until it is so, as seen from these nodes.
fn change(three: &mut Three, by: u64, seats: Vec<Seat>, of: &[u64]) {
    let version = three.handle(by).nodes().version + 1;
    let nodes = Nodes { version, nodes: seats };
    wait(three.handle(by).propose(ShardId::CONTROL, Command::Nodes(nodes.clone()))).unwrap();
    let begin = clock::now();
    let shards = |handle: &Handle| -> Vec<ShardId> { std::iter::once(ShardId::CONTROL).chain(handle.shards().iter().copied()).collect() };
    while !of.iter().all(|&id| {
        let handle = three.handle(id);
        let nodes = handle.nodes();
        nodes.is_settled() && nodes.version > version && shards(&handle).into_iter().all(|shard| handle.seats(shard).follow(&nodes))
    }) {
        if clock::now() - begin > Duration::from_secs(60) {
            let mut found = String::new();
            for &id in of {
                let handle = three.handle(id);
                for shard in shards(&handle) {
                    let raft = handle.shared.store.raft(shard).unwrap();
                    let raft = raft.map(|raft| (raft.last_index, raft.cut, raft.hard_state));
                    found += &format!("n{id} {shard:?}: {:?} {:?} {raft:?}\n", handle.seats(shard), *handle.progress(shard).borrow());
                }
                found += &format!("{:?}\n", handle.nodes());
            }
            panic!("not in 60 s:\n{found}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_node_that_lost_its_disk_is_replaced_by_a_new_one() {
    let mut three = Three::of(3, AWAY);
    write(&three, &[1, 2, 3], 0, 30);
    let shard = three.handle(1).group("g").unwrap();
    three.agree(shard, 150);
    three.down(3);
    write(&three, &[1, 2], 30, 60);
    three.up(4, false);
    let seats = vec![seat(1, Role::Member), seat(2, Role::Member), seat(3, Role::Leaving), seat(4, Role::Joining)];
    change(&mut three, 2, seats, &[1, 2, 4]);
    write(&three, &[1, 2, 4], 60, 70);
    three.agree_of(&[1, 2, 4], shard, 350);
    bodies_are_there(&three, 4, shard);
    // The new one counts: with it alone the other one has a majority.
    three.down(1);
    write(&three, &[2, 4], 70, 80);
    three.agree_of(&[2, 4], shard, 400);
    stop(three);
}

#[test]
fn one_node_grows_into_three_and_loses_the_first() {
    let mut three = Three::of(1, AWAY);
    write(&three, &[1], 0, 40);
    three.up(2, false);
    three.up(3, false);
    change(&mut three, 1, vec![seat(1, Role::Member), seat(2, Role::Joining), seat(3, Role::Joining)], &[1, 2, 3]);
    let shard = three.handle(1).group("g").unwrap();
    write(&three, &[2, 3], 40, 50);
    three.agree(shard, 250);
    assert_eq!(three.handle(3).hash_seed(), FOUNDING.seed);
    // It leads everything and goes: others take over first.
    change(&mut three, 2, vec![seat(1, Role::Leaving), seat(2, Role::Member), seat(3, Role::Member)], &[2, 3]);
    three.down(1);
    write(&three, &[2, 3], 50, 60);
    three.agree_of(&[2, 3], shard, 300);
    stop(three);
}

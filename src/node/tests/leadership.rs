//! Who leads, where Raft leaves the choice: given away by hand and by a node whose disk does not answer, and not taken back at once.

use super::together::FOUNDING;
use super::together::Three;
use super::together::insist;
use super::*;

fn others(than: u64) -> Vec<u64> {
    (1..=3).filter(|&id| id != than).collect()
}

fn stop(three: Three) {
    for mut node in three.nodes {
        assert!(node.take().is_none_or(|node| node.stop().is_empty()));
    }
}

/// Gives a shard to a node, asked of any one: on a busy machine it may be a moment until that node keeps up.
fn give(asked: &Handle, shard: ShardId, to: u64) {
    eventually(|| wait(asked.transfer(shard, to)).is_ok());
}

#[test]
fn a_person_moves_a_shard_and_balance_does_not_take_it_back() {
    let three = Three::new();
    let led_by = |id: u64| (0..=2).filter(|shard| three.leader(ShardId(*shard), &[id]).is_some()).count();
    for to in [1, 2, 3] {
        for shard in 0..=2 {
            give(&three.handle(1 + u64::from(shard)), ShardId(shard), to);
        }
        eventually(|| led_by(to) == 3);
    }
    // Balance looks every 20 ms here, and would move one at once: this one leads two more than the others.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(led_by(3), 3);
    let refused = wait(three.handle(1).transfer(ShardId(1), 99));
    assert!(matches!(&refused, Err(ProposeError::Void(why)) if why.contains("no vote")), "{refused:?}");
    three.cut(2, true);
    eventually(|| matches!(wait(three.handle(1).transfer(ShardId(1), 2)), Err(ProposeError::Void(why)) if why.contains("keep up")));
    three.cut(2, false);
    stop(three);
}

#[test]
fn a_leader_whose_disk_does_not_answer_gives_away_what_it_leads_and_does_not_take_it_back_at_once() {
    let three = Three::new();
    let now = clock::wall_ms() - 300_000;
    insist(&three.handle(1), "g", now);
    let shard = three.handle(1).group("g").unwrap();
    give(&three.handle(1), shard, 1);
    let handle = three.handle(1);
    let held = handle.shared.writer.held.lock().unwrap();
    // It takes what comes and cannot make it durable; the others can, so this is answered.
    let settings = handle.settings_version(shard);
    let sent = wait(handle.offer(Offer { settings, ..offer(FOUNDING.seed, "g", "a", (5, now + 1_000, 0)) }));
    assert!(sent.is_ok() || sent.as_ref().is_err_and(OfferError::retryable), "{sent:?}");
    eventually(|| three.leader(shard, &others(1)).is_some());
    assert!(handle.has_slow_disk() && handle.stands_aside() && handle.fatal().is_none());
    insist(&three.handle(2), "g", now + 2_000);
    drop(held);
    eventually(|| handle.stats().shards.iter().any(|shard| shard.gave_way > 0));
    assert!(handle.stats().store.slow);
    for step in 3..10 {
        insist(&three.handle(2), "g", now + step * 1_000);
        assert!(three.leader(shard, &[1]).is_none(), "it took it back");
    }
    stop(three);
}

//! Trouble that comes from outside: which, when, how long, by the seed's theme. (Crashes at the bad moments are `Stage::strikes`.)

use super::shape::Theme;
use super::stage::Crash;
use super::stage::Event;
use super::stage::Stage;

/// Something goes wrong, or ends to.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Draw the next one.
    Next,
    /// All trouble ends.
    Heal,
    Crash(usize, Crash),
    /// A process stops in order, and starts again after so long.
    Stop(usize, i64),
    /// Hands over, and now it is gone.
    Stopped(usize, i64),
    /// All machines lose power; they come back in any order.
    Blackout,
    Start(usize),
    Pause(usize, i64),
    /// Ways between nodes are cut, until `Mended`.
    Cut(Vec<(usize, usize)>),
    Mended(Vec<(usize, usize)>),
    /// Of 256 messages so many are lost; 0: none.
    Loss(u8),
    Slow(usize, i64),
    /// Free space is below the reserve.
    Full(usize, i64),
    /// Nothing can be written: the process ends, and cannot start for so long.
    NoSpace(usize, i64),
    /// A node is drained for so long.
    Drain(usize, i64),
    /// A node's wall clock is set.
    Clock(usize, i64),
    /// A sink's Kafka is away for so long.
    KafkaAway(usize, i64),
    /// A node does not reach Kafka.
    KafkaCut(usize),
    KafkaMended(usize),
    /// A node's disk is gone for good: another one takes its place.
    Wipe(usize),
    /// A node's disk will be found to have gone back to what it is now; and is.
    Relapse(usize),
    Relapsed(usize),
    /// Whoever is on its way in loses its disk.
    LoseComer,
    /// An operator takes a living node out of the cluster.
    Remove(usize),
    /// An operator adds a node.
    Add,
    /// A sender stops, is cut off, or dies.
    Sender(usize, SenderFault),
    /// An operator wants another leader in a group, or holds or lets go of the one it has.
    Switch(usize),
    /// An operator changes what the shards are to do.
    Settings,
}

/// What happens to a sender.
#[derive(Clone, Copy, Debug)]
pub enum SenderFault {
    Stop(i64),
    CutOff(i64),
    Die,
}

/// Draws the next trouble, and what ends it.
pub fn draw(senders: usize, stage: &mut Stage) -> Fault {
    use Theme::*;
    let theme = stage.shape.theme;
    let node = stage.random.usize(..stage.shape.nodes);
    let sink = stage.random.usize(..stage.shape.sinks);
    let most = if stage.one_in(4) { 40_000 } else { 8_000 };
    let long = stage.random.i64(1_000..=most);
    // Half of the time what the theme is about.
    let kind = if stage.random.bool() { theme } else { All };
    match (kind, stage.random.u8(..16)) {
        (Quiet, _) | (_, 0..=1) => Fault::Sender(stage.random.usize(..senders), sender(long, stage)),
        (_, 2) if theme != Quiet && stage.one_in(2) => Fault::Settings,
        (_, 2) if theme != Quiet => Fault::Switch(stage.random.usize(..stage.shape.groups.len())),
        _ if theme == Quiet => Fault::Sender(stage.random.usize(..senders), sender(long, stage)),
        (Seats, 3..=5) => Fault::Wipe(node),
        (Seats, 6..=7) => Fault::Relapse(node),
        (Seats, 8..=10) => Fault::Remove(node),
        (Seats, _) => Fault::Add,
        (Drains, 3..=10) | (All, 4) => Fault::Drain(node, long),
        (Drains, _) => cut(node, stage),
        (Clocks, 3..=11) => clock(node, stage),
        (Clocks, _) => Fault::Crash(node, Crash::Kill),
        (Crashes | All, 3) => Fault::Stop(node, long),
        (Crashes | Votes, 13..) => Fault::Blackout,
        (Crashes, _) | (All, 5) => Fault::Crash(node, if stage.random.bool() { Crash::Kill } else { Crash::Power }),
        (Votes, 3..=9) => cut(node, stage),
        (Votes, _) => Fault::Crash(node, Crash::Power),
        (Network, 3..=5) => Fault::Loss(stage.random.u8(5..90)),
        (Network, _) | (All, 6..=8) => cut(node, stage),
        (Pauses, _) | (All, 9..=10) => Fault::Pause(node, if stage.one_in(3) { long + 20_000 } else { long }),
        (Disks, 3..=7) | (All, 11) => Fault::Slow(node, long),
        (Disks, 8..=12) | (All, 12) => Fault::Full(node, long),
        (Disks, _) => Fault::NoSpace(node, long),
        (All, 13) => clock(node, stage),
        (Kafka, 3..=8) | (All, 14) => Fault::KafkaCut(node),
        (Kafka, _) | (All, _) => Fault::KafkaAway(sink, long),
    }
}

/// Clocks are a second off at most, as a rule; a node whose time service is gone may be further off.
fn clock(node: usize, stage: &mut Stage) -> Fault {
    let far = if stage.shape.theme == Theme::Clocks { 60_000 } else { 8_000 };
    let most = if stage.one_in(3) { far } else { 900 };
    Fault::Clock(node, stage.random.i64(-most..=most))
}

fn sender(long: i64, stage: &mut Stage) -> SenderFault {
    match stage.random.u8(..8) {
        0 => SenderFault::Die,
        1..=4 => SenderFault::CutOff(long),
        _ => SenderFault::Stop(long),
    }
}

/// A partition: one node alone, one way only, split in two, or a bridge (two that see each other only through a third).
fn cut(node: usize, stage: &mut Stage) -> Fault {
    let nodes = stage.shape.nodes;
    let other = (node + 1 + stage.random.usize(..nodes - 1)) % nodes;
    let others = (0..nodes).filter(|other| *other != node);
    let mut ways: Vec<(usize, usize)> = match stage.random.u8(..5) {
        0 => others.flat_map(|other| [(node, other), (other, node)]).collect(),
        1 => others.map(|other| (node, other)).collect(),
        2 => others.map(|other| (other, node)).collect(),
        3 => vec![(node, other), (other, node)],
        _ => vec![(node, other)],
    };
    ways.retain(|way| !stage.network.cut.contains(way));
    Fault::Cut(ways)
}

/// Plans what follows a drawn trouble: its end, and the next one.
pub fn follow(fault: &Fault, stage: &mut Stage) {
    let most = if stage.one_in(4) { 30_000 } else { 6_000 };
    let lasts = stage.random.i64(300..most);
    let end = match fault {
        Fault::Cut(ways) => Some(Fault::Mended(ways.clone())),
        Fault::Loss(loss) if *loss > 0 => Some(Fault::Loss(0)),
        Fault::KafkaCut(node) => Some(Fault::KafkaMended(*node)),
        _ => None,
    };
    if let Some(end) = end {
        stage.after(lasts, Event::Fault(end));
    }
    let pause = stage.random.i64(1..=stage.shape.tempo * 2);
    stage.after(pause, Event::Fault(Fault::Next));
}

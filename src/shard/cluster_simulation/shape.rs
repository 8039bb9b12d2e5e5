//! What a seed stands for besides its order of events: how large the cluster is, who writes to it, and which kinds of trouble it has.

use fastrand::Rng;

/// Ticks for which nobody is away in a run.
pub const PATIENT: u32 = 18_000;

/// A kind of trouble that a run has much of; others come now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// Nothing but what senders do.
    Quiet,
    /// Processes die at the bad moments.
    Crashes,
    /// The network loses, delays, and is cut.
    Network,
    /// Nodes stand still and go on.
    Pauses,
    /// Slow and full disks.
    Disks,
    /// Kafka is away, or loses answers.
    Kafka,
    /// Elections, and crashes of those who vote.
    Votes,
    /// Nodes lose their disks, come and go.
    Seats,
    /// Nodes are drained: leadership goes elsewhere while requests are under way.
    Drains,
    /// Clocks are far off.
    Clocks,
    /// Some of everything.
    All,
}

/// What a seed stands for.
#[derive(Clone, Debug)]
pub struct Shape {
    pub theme: Theme,
    /// Places for nodes, and how many of them found the cluster.
    pub nodes: usize,
    pub founders: usize,
    pub data_shards: u16,
    pub sinks: usize,
    /// Scrape interval of each group, ms.
    pub groups: Vec<i64>,
    /// Replicas of each group.
    pub replicas: usize,
    /// How long trouble lasts, ms.
    pub trouble: i64,
    /// A bad moment is fatal one in so many times; 0: never.
    pub strike: u32,
    /// Ms between two troubles, about.
    pub tempo: i64,
    /// Between two images, and between two looks at what may be deleted, ms.
    pub image: i64,
    pub free: i64,
    /// Memory that may wait for a twin, bytes.
    pub waiting: u64,
    /// A member that was not heard of for so many ticks is hopelessly behind.
    pub away: u32,
    /// Bytes of a piece of a snapshot, about.
    pub piece: usize,
    /// How long it takes at most to write one, ms.
    pub slow_piece: i64,
}

impl Shape {
    pub fn new(seed: u64, random: &mut Rng) -> Shape {
        use Theme::*;
        let themes =
            [All, Crashes, Network, Pauses, Disks, Kafka, Votes, All, Crashes, Network, Quiet, Votes, Seats, Seats, Drains, Clocks];
        let theme = themes[(seed % themes.len() as u64) as usize];
        let groups: Vec<i64> = (0..random.usize(1..=3)).map(|_| [1_000, 1_000, 2_000, 5_000, 15_000][random.usize(..5)]).collect();
        let longest = groups.iter().max().copied().unwrap_or(0);
        let nodes = if random.u8(..8) == 0 { 5 } else { 3 };
        Shape {
            theme,
            nodes,
            founders: if theme == Seats && random.u8(..3) == 0 { 1 } else { nodes },
            data_shards: random.u16(1..=2),
            sinks: random.usize(1..=2),
            groups,
            replicas: if random.u8(..6) == 0 { 3 } else { 2 },
            trouble: random.i64(40_000..90_000).max(14 * longest),
            strike: match theme {
                Quiet => 0,
                Crashes => random.u32(600..6_000),
                Votes => random.u32(400..2_000),
                All | Seats => random.u32(1_500..8_000),
                Network | Pauses | Disks | Kafka | Drains | Clocks => 8_000,
            },
            tempo: if theme == Votes { random.i64(400..2_500) } else { random.i64(1_500..12_000) },
            image: random.i64(3_000..20_000),
            free: random.i64(500..4_000),
            // Ten samples or so, or as many as there are.
            waiting: if random.u8(..6) == 0 { 240 } else { 64 << 20 },
            away: if random.bool() { random.u32(15..100) } else { PATIENT },
            piece: random.usize(200..3_000),
            slow_piece: if random.bool() { random.i64(1..2_500) } else { 0 },
        }
    }
}

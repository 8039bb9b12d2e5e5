//! Three nodes on three disks, joined by a table of handles instead of a network: whichever is asked, the same comes out on all.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Mutex;

use super::*;
use crate::dedup::detect::doctor::Oddity;
use crate::node::offer::Applied;
use crate::node::peers::Later;
use crate::node::peers::Peers;
use crate::node::peers::Together;
use crate::node::settings::Timing;
use crate::shard::command::Founding;
use crate::shard::level::KNOWN;
use crate::shard::level::Levels;
use crate::shard::replica::PeerMessage;

pub(super) const FOUNDING: Founding = Founding { cluster: 7, seed: 99, data_shards: 2 };

/// Who can be reached, by id.
#[derive(Default)]
pub(super) struct Network {
    nodes: Mutex<BTreeMap<u64, Handle>>,
    cut: Mutex<BTreeSet<u64>>,
    /// So many pieces of this shard's snapshots may still be fetched; none: all.
    pub pieces: Mutex<Option<(ShardId, usize)>>,
}

/// One node's end of it.
struct End {
    network: Arc<Network>,
    id: u64,
}

impl End {
    fn to(&self, id: u64) -> Option<Handle> {
        let cut = self.network.cut.lock().unwrap();
        let there = self.network.nodes.lock().unwrap().get(&id).cloned();
        there.filter(|_| !cut.contains(&id) && !cut.contains(&self.id))
    }
}

impl Peers for End {
    fn send(&self, shard: ShardId, floor: u64, messages: Vec<PeerMessage>) {
        for message in messages {
            if let Some(peer) = self.to(message.to) {
                peer.take_message(shard, floor, message);
            }
        }
    }

    fn fetch(&self, from: u64, shard: ShardId, request: Vec<u8>, answered: Box<dyn FnOnce(Option<Vec<u8>>) + Send>) {
        let may = match &mut *self.network.pieces.lock().unwrap() {
            Some((of, left)) if *of == shard => {
                let may = *left > 0;
                *left = left.saturating_sub(1);
                may
            }
            _ => true,
        };
        let piece = self.to(from).filter(|_| may).and_then(|peer| peer.take_fetch(shard, self.id, &request).unwrap());
        answered(piece);
    }

    fn tell(&self, to: u64, shard: ShardId, told: Vec<u8>) {
        if let Some(peer) = self.to(to) {
            peer.take_told(shard, &told);
        }
    }

    fn wants_to_lead(&self, node: u64) -> bool {
        self.to(node).is_none_or(|peer| !peer.stands_aside())
    }

    fn offer(&self, to: u64, shard: ShardId, encoded: Vec<u8>) -> Later<Result<(), OfferError>> {
        let peer = self.to(to);
        Box::pin(async move {
            match peer {
                Some(peer) => peer.take_offer(shard, encoded, Box::new(())).await,
                None => Err(OfferError::Unknown),
            }
        })
    }

    fn ask(&self, to: u64, shard: ShardId, encoded: Vec<u8>) -> Later<Result<Applied, ProposeError>> {
        let peer = self.to(to);
        Box::pin(async move {
            match peer {
                Some(peer) => peer.take_ask(shard, &encoded).await,
                None => Err(ProposeError::Unknown),
            }
        })
    }
}

/// Some nodes and what joins them: three, or as many as a test has.
pub(super) struct Three {
    pub network: Arc<Network>,
    founders: Vec<u64>,
    directories: Vec<tempfile::TempDir>,
    pub nodes: Vec<Option<Node>>,
    away_ticks: u32,
    levels: Levels,
    timing: fn(&mut Timing),
}

impl Three {
    pub fn new() -> Three {
        Three::of(3, 18_000)
    }

    /// So many founders; a member is hopelessly behind after so many ticks.
    pub fn of(founders: u64, away_ticks: u32) -> Three {
        Three::begin(founders, away_ticks, KNOWN)
    }

    /// Three whose program knows these feature levels.
    pub fn knowing(levels: Levels) -> Three {
        Three::begin(3, 18_000, levels)
    }

    fn begin(founders: u64, away_ticks: u32, levels: Levels) -> Three {
        let network = Network::default();
        let founders: Vec<u64> = (1..=founders).collect();
        let (directories, nodes) = (0..4).map(|_| (tempfile::tempdir().unwrap(), None)).unzip();
        let mut three =
            Three { network: Arc::new(network), founders: founders.clone(), directories, nodes, away_ticks, levels, timing: |_| {} };
        founders.iter().for_each(|&id| three.up(id, false));
        for id in founders {
            wait(three.handle(id).ready()).unwrap();
            // A sink that takes nothing keeps every emission.
            // Void where another node's came first, until this node knows of it.
            eventually(|| wait(three.handle(id).set_sinks(&[sink("k")], 0)).is_ok());
        }
        three
    }

    pub fn up(&mut self, id: u64, begun: bool) {
        let peers = Arc::new(End { network: Arc::clone(&self.network), id });
        let together = Together { id, members: self.founders.clone(), founding: FOUNDING, begun, peers };
        let mut settings = settings(self.directories[id as usize - 1].path());
        settings.timing.image = Duration::from_millis(200);
        (self.timing)(&mut settings.timing);
        settings.limits.away_ticks = self.away_ticks;
        settings.levels = self.levels;
        let node = Node::start_with(settings, Some(together), Box::new(|reason| panic!("fatal: {reason}"))).unwrap();
        self.network.nodes.lock().unwrap().insert(id, node.handle.clone());
        self.nodes[id as usize - 1] = Some(node);
    }

    pub fn down(&mut self, id: u64) {
        self.network.nodes.lock().unwrap().remove(&id);
        assert_eq!(self.nodes[id as usize - 1].take().unwrap().stop(), Vec::<String>::new());
    }

    /// All founders anew, in another time.
    pub fn restart_with(&mut self, timing: fn(&mut Timing)) {
        self.timing = timing;
        let founders = self.founders.clone();
        founders.iter().for_each(|&id| self.down(id));
        founders.iter().for_each(|&id| self.up(id, true));
    }

    pub fn directory(&self, id: u64) -> &Path {
        self.directories[id as usize - 1].path()
    }

    pub fn handle(&self, id: u64) -> Handle {
        self.nodes[id as usize - 1].as_ref().unwrap().handle.clone()
    }

    pub fn leader(&self, shard: ShardId, of: &[u64]) -> Option<u64> {
        of.iter().copied().find(|&id| self.handle(id).progress(shard).borrow().leads)
    }

    pub fn cut(&self, id: u64, cut: bool) {
        let mut all = self.network.cut.lock().unwrap();
        if cut {
            all.insert(id)
        } else {
            all.remove(&id)
        };
    }

    /// All come to emit the same: so many samples, each emission once and in order.
    pub fn agree(&self, shard: ShardId, samples: usize) {
        self.agree_of(&[1, 2, 3], shard, samples);
    }

    /// The same, of these nodes.
    pub fn agree_of(&self, ids: &[u64], shard: ShardId, samples: usize) {
        let all = || ids.iter().map(|&id| all_emissions(&self.handle(id), shard)).collect::<Vec<_>>();
        let count = |emissions: &[Arc<Emission>]| emissions.iter().map(|emission| emission.picks.len()).sum::<usize>();
        // Whoever is behind comes up; what is answered is applied on a majority, and on the others a moment later.
        eventually(|| all().iter().all(|emissions| count(emissions) >= samples));
        let all = all();
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "the nodes emitted different things");
        let numbers: Vec<u64> = all[0].iter().map(|emission| emission.number).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
        assert_eq!(count(&all[0]), samples);
    }
}

/// As a sender does it: again until it is taken.
pub(super) fn insist(handle: &Handle, group: &str, time: i64) {
    let before = clock::now();
    loop {
        let sent = wait(async {
            let shard = handle.assign(group).await.map_err(|_| OfferError::Unknown)?;
            let settings = handle.settings_version(shard);
            handle.offer(Offer { settings, ..offer(FOUNDING.seed, group, "a", (5, time, 40)) }).await
        });
        match sent {
            Ok(()) => return,
            Err(error) => assert!(error.retryable() && clock::now() - before < Duration::from_secs(20), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn any_node_takes_any_offer_and_all_emit_the_same() {
    let three = Three::new();
    for id in 1..=3 {
        assert_eq!((three.handle(id).hash_seed(), three.handle(id).cluster_id()), (99, format!("{:032x}", 7)));
    }
    let now = clock::wall_ms();
    for step in 0..30 {
        for (group, id) in [("g", 1 + step % 3), ("h", 1 + (step + 1) % 3)] {
            insist(&three.handle(id as u64), group, now - 40_000 + step * 1_000);
        }
    }
    let shards = [three.handle(1).group("g").unwrap(), three.handle(1).group("h").unwrap()];
    assert_ne!(shards[0], shards[1]);
    shards.iter().for_each(|&shard| three.agree(shard, 150));
    // What a person asks of a node that does not lead is done, and seen there at once.
    let follower = (1..=3).find(|&id| three.leader(shards[0], &[id]).is_none()).unwrap();
    let pin = Command::Pin { group: "g".into(), replica: Some("nobody".into()) };
    assert!(matches!(wait(three.handle(follower).propose(shards[0], pin)), Err(ProposeError::Void(_))));
    assert!(matches!(wait(three.handle(follower).step_down("g")), Err(ProposeError::Void(_))));
    for mut node in three.nodes {
        assert!(node.take().is_none_or(|node| node.stop().is_empty()));
    }
}

#[test]
fn a_leader_that_is_cut_off_refuses_and_catches_up_from_the_log_when_it_is_back() {
    let three = Three::new();
    let now = clock::wall_ms() - 300_000;
    for step in 0..5 {
        insist(&three.handle(1), "g", now + step * 1_000);
    }
    let shard = three.handle(1).group("g").unwrap();
    let old = three.leader(shard, &[1, 2, 3]).unwrap();
    let others: Vec<u64> = (1..=3).filter(|&id| id != old).collect();
    three.cut(old, true);
    // It may have been led on for a moment; what it takes then is answered: unknown.
    let settings = three.handle(old).settings_version(shard);
    let first = wait(three.handle(old).offer(Offer { settings, ..offer(FOUNDING.seed, "g", "a", (5, now + 5_000, 0)) }));
    assert!(matches!(first, Err(OfferError::Unknown | OfferError::NotLeader { .. })), "{first:?}");
    for step in 5..100 {
        insist(&three.handle(others[(step % 2) as usize]), "g", now + step * 1_000);
        if step % 10 == 0 {
            // Images in between: without the one that is away the log could be cut here.
            std::thread::sleep(Duration::from_millis(60));
        }
    }
    let refused = wait(three.handle(old).offer(offer(FOUNDING.seed, "g", "a", (5, now, 0))));
    assert_eq!(refused, Err(OfferError::NotLeader { shard: shard.0, leader: None }));
    three.cut(old, false);
    three.agree(shard, 500);
    for mut node in three.nodes {
        assert!(node.take().is_none_or(|node| node.stop().is_empty()));
    }
}

#[test]
fn a_node_that_stops_hands_over_and_finds_its_place_again() {
    let mut three = Three::new();
    let now = clock::wall_ms() - 300_000;
    for step in 0..60 {
        let away = 1 + step / 20;
        if step % 20 == 5 {
            three.down(away as u64);
        }
        let taker = (1..=3).find(|&id| three.nodes[id as usize - 1].is_some()).unwrap();
        insist(&three.handle(taker), "g", now + step * 1_000);
        if step % 20 == 15 {
            three.up(away as u64, true);
        }
    }
    let shard = three.handle(1).group("g").unwrap();
    three.agree(shard, 300);
    for mut node in three.nodes {
        assert!(node.take().is_none_or(|node| node.stop().is_empty()));
    }
}

#[test]
fn a_node_whose_data_is_gone_does_not_begin_again_under_its_old_id() {
    let directory = tempfile::tempdir().unwrap();
    let peers = Arc::new(End { network: Arc::default(), id: 1 });
    let together = Together { id: 1, members: vec![1, 2, 3], founding: FOUNDING, begun: true, peers };
    let Err(error) = Node::start_with(settings(directory.path()), Some(together), Box::new(|_| {})) else { panic!("it began") };
    assert!(error.to_string().contains("the data is gone"), "{error}");
}

#[test]
fn what_only_the_node_that_was_asked_saw_reaches_the_leader_and_what_the_leader_gathered_reaches_all() {
    let mut three = Three::new();
    three.restart_with(|timing| timing.watched = Duration::from_millis(300));
    let bare: Vec<u64> = (1..=64).collect();
    let now = clock::wall_ms() - 300_000;
    let step = std::cell::Cell::new(0);
    let shares = |id: u64, group: &str, with: &str| {
        let groups = three.handle(id).groups();
        let odd = groups.iter().find(|view| view.name == group).map(|view| view.oddities.clone()).unwrap_or_default();
        odd.iter().any(|odd| matches!(odd, Oddity::SharesSeries { with: other, .. } if other == with))
    };
    // Whichever node takes them: two of three do not lead.
    eventually(|| {
        let at = now + step.replace(step.get() + 1) * 1_000;
        for (group, id) in [("g", 1 + step.get() % 3), ("h", 1 + (step.get() + 1) % 3)] {
            let handle = three.handle(id as u64);
            insist(&handle, group, at);
            let settings = handle.settings_version(handle.group(group).unwrap());
            let _ = wait(handle.offer(Offer { settings, bare: bare.clone(), ..offer(FOUNDING.seed, group, "a", (5, at + 500, 40)) }));
        }
        (1..=3).all(|id| shares(id, "g", "h") && shares(id, "h", "g"))
    });
    for mut node in three.nodes {
        assert!(node.take().is_none_or(|node| node.stop().is_empty()));
    }
}

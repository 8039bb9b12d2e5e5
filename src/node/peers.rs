//! What a node needs of the others, and what they may ask of it: Raft's messages, and whatever came to the wrong node.
//!
//! The way there is behind [`Peers`], so that `peer` (HTTP/2 with certificates) and the tests (a table of handles) serve alike. Nothing here waits
//! for a network but the futures of those who ask. Left out on purpose: who the others are and how they are reached.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

use crate::clock;
use crate::model::ShardId;
use crate::node::HOLD;
use crate::node::Handle;
use crate::node::LOOK_AGAIN;
use crate::node::MOST_ENTRY_BYTES;
use crate::node::lane::Lane;
use crate::node::mailbox::Ask;
use crate::node::mailbox::Queued;
use crate::node::mailbox::Wanted;
use crate::node::offer::Applied;
use crate::node::offer::OfferError;
use crate::node::offer::ProposeError;
use crate::shard::command::Founding;
use crate::shard::entry;
use crate::shard::entry::Entry;
use crate::shard::replica::PeerMessage;

/// How long the one who asked waits until this node has applied what another one has committed, so that it sees what it did.
const SEE_WITHIN: Duration = Duration::from_secs(2);
/// The first byte of something asked: an entry follows.
const ASK_ENTRY: u8 = 0;
/// A group's name follows, whose leader shall step down.
const ASK_STEP_DOWN: u8 = 1;
/// The id of a member follows that shall lead the shard.
const ASK_HAND_OVER: u8 = 2;
/// Nothing follows: the node that is asked is about to be given the shard by a person, and keeps it for some time.
pub(super) const ASK_STAY: u8 = 3;

/// An answer that will come.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The way to the other nodes.
pub trait Peers: Send + Sync {
    /// Raft's messages of a shard, each to the node that it names, and up to where every member has the shard's log. Never waits: what does
    /// not fit is dropped, and Raft sends it again.
    fn send(&self, shard: ShardId, floor: u64, messages: Vec<PeerMessage>);
    /// Something of a snapshot that another node gives; `answered` gets the answer, or `None`, later. Never waits.
    fn fetch(&self, from: u64, shard: ShardId, request: Vec<u8>, answered: Box<dyn FnOnce(Option<Vec<u8>>) + Send>);
    /// Whether a node may be given leadership: it is not being drained.
    fn wants_to_lead(&self, _node: u64) -> bool {
        true
    }
    /// Whether a node's disk is full to its reserve, as it said last.
    fn is_full(&self, _node: u64) -> bool {
        false
    }
    /// Evidence for another node. Never waits, and nobody waits for it: it may be lost.
    fn tell(&self, _to: u64, _shard: ShardId, _told: Vec<u8>) {}
    /// An encoded offer for the node that leads the shard; its answer.
    fn offer(&self, to: u64, shard: ShardId, encoded: Vec<u8>) -> Later<Result<(), OfferError>>;
    /// Something else that only the shard's leader can do; its answer.
    fn ask(&self, to: u64, shard: ShardId, encoded: Vec<u8>) -> Later<Result<Applied, ProposeError>>;
}

/// What makes a node one of several.
#[derive(Clone)]
pub struct Together {
    /// This node's id.
    pub id: u64,
    /// The ids of all.
    pub members: Vec<u64>,
    /// What was agreed on when the cluster was founded.
    pub founding: Founding,
    /// This node has begun its part before: its data must be there.
    pub begun: bool,
    /// The way to the others.
    pub peers: Arc<dyn Peers>,
}

impl std::fmt::Debug for Together {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Together").field("id", &self.id).field("members", &self.members).finish_non_exhaustive()
    }
}

/// Where something is to be done.
pub(super) enum Place<'a> {
    Here,
    There(u64, &'a Arc<dyn Peers>),
    /// Nobody leads at the moment.
    Nowhere,
}

impl Handle {
    /// Where the shard is led.
    pub(super) fn place_of(&self, lane: &Lane) -> Place<'_> {
        let Some(together) = &self.shared.together else { return Place::Here };
        match lane.progress.borrow().leader {
            0 => Place::Nowhere,
            leader if leader == together.id => Place::Here,
            leader => Place::There(leader, &together.peers),
        }
    }

    /// Asks the leader of a shard, here or elsewhere, and waits until this node sees what came of it. While leadership moves it is held for a
    /// moment and then goes to whoever leads.
    pub(super) async fn ask(&self, shard: ShardId, wanted: Wanted) -> Result<Applied, ProposeError> {
        let lane = self.lane(shard)?;
        let mut progress = lane.progress.subscribe();
        let until = clock::now() + HOLD;
        loop {
            let answer = self.ask_once(lane, wanted.clone()).await;
            let moved = matches!(answer, Err(ProposeError::NotLeader(_))) && self.shared.together.is_some();
            if !moved || clock::now() >= until || !lane.led_within(HOLD) {
                return answer;
            }
            let _ = tokio::time::timeout(LOOK_AGAIN, progress.changed()).await;
        }
    }

    async fn ask_once(&self, lane: &Lane, wanted: Wanted) -> Result<Applied, ProposeError> {
        let (leader, peers) = match self.place_of(lane) {
            Place::Nowhere => return Err(ProposeError::NotLeader(lane.shard.0)),
            Place::Here => return ask_here(lane, wanted).await,
            Place::There(leader, peers) => (leader, peers),
        };
        let mut encoded = Vec::new();
        match wanted {
            Wanted::Command(command) => {
                encoded.push(ASK_ENTRY);
                entry::encode(0, &Entry::Command(command), &mut encoded);
            }
            Wanted::StepDown(group) => {
                encoded.push(ASK_STEP_DOWN);
                encoded.extend_from_slice(group.as_bytes());
            }
            Wanted::HandOver(to) => {
                encoded.push(ASK_HAND_OVER);
                encoded.extend_from_slice(&to.to_le_bytes());
            }
            Wanted::Evidence(_) => return Ok(Applied::default()), // goes its own way
        }
        let mut progress = lane.progress.subscribe();
        let applied = peers.ask(leader, lane.shard, encoded).await?;
        let seen = progress.wait_for(|progress| progress.applied >= applied.index);
        // Not in time: it is done all the same.
        let _ = tokio::time::timeout(SEE_WITHIN, seen).await;
        Ok(applied)
    }

    /// A peer's Raft message for a shard, and up to where every member has its log. Dropped where too many wait.
    pub fn take_message(&self, shard: ShardId, floor: u64, message: PeerMessage) {
        if let Some(lane) = self.shared.lane(shard) {
            lane.mailbox.message(floor, message);
        }
    }

    /// Messages to this node do not arrive.
    pub fn unreachable(&self, peer: u64) {
        self.shared.lanes.iter().for_each(|lane| lane.mailbox.unreachable(peer));
    }

    /// An offer that a peer took for this node to decide. It is not passed on a second time.
    pub async fn take_offer(&self, shard: ShardId, encoded: Vec<u8>, claim: Box<dyn Send + Sync>) -> Result<(), OfferError> {
        let lane = self.shared.lane(shard).filter(|_| shard != ShardId::CONTROL).ok_or(OfferError::Unassigned)?;
        let answer = self.take_queued(lane, encoded, claim);
        // Refusals are counted where the offer came in: there it may be held and go elsewhere.
        answer?.await.unwrap_or(Err(OfferError::Unknown))
    }

    fn take_queued(
        &self,
        lane: &Lane,
        encoded: Vec<u8>,
        claim: Box<dyn Send + Sync>,
    ) -> Result<oneshot::Receiver<Result<(), OfferError>>, OfferError> {
        self.room_for(lane, encoded.len())?;
        let stamped = entry::parse(&encoded);
        let Ok(entry::Stamped { entry: Entry::Samples(samples), .. }) = stamped else {
            // A peer of another version perhaps; the sender keeps its data.
            return Err(OfferError::Unknown);
        };
        let (group, replica, settings) = (samples.group.to_owned(), samples.replica.to_owned(), samples.settings);
        let (reply, answer) = oneshot::channel();
        self.shared.spend(encoded.len());
        lane.mailbox.offer(Queued { encoded, group, replica, settings, unpacked: None, bare: Vec::new(), claim: Some(claim), reply })?;
        Ok(answer)
    }

    /// What must hold for any offer, wherever it came in.
    pub(super) fn room_for(&self, lane: &Lane, bytes: usize) -> Result<(), OfferError> {
        if self.shared.has_no_room(lane) {
            return Err(OfferError::DiskFull);
        }
        if lane.refuse.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(OfferError::Overloaded { reason: "sink_budget" });
        }
        if bytes > MOST_ENTRY_BYTES {
            return Err(OfferError::TooLarge { bytes, limit: MOST_ENTRY_BYTES });
        }
        Ok(())
    }

    /// Something that a peer was asked and only this node can do. It is not passed on a second time.
    pub async fn take_ask(&self, shard: ShardId, encoded: &[u8]) -> Result<Applied, ProposeError> {
        let lane = self.lane(shard)?;
        let unreadable = || ProposeError::Void("the peer's proposal cannot be read; are both nodes of one version?".to_owned());
        let wanted = match encoded.split_first().ok_or_else(unreadable)? {
            (&ASK_ENTRY, rest) => match entry::parse(rest) {
                Ok(entry::Stamped { entry: Entry::Command(command), .. }) => Wanted::Command(command),
                _ => return Err(unreadable()),
            },
            (&ASK_HAND_OVER, to) => Wanted::HandOver(to.try_into().map(u64::from_le_bytes).map_err(|_| unreadable())?),
            (&ASK_STAY, _) => {
                if let Some(why) = self.aside() {
                    return Err(ProposeError::Void(format!(
                        "that node leads nothing now ({why}): it is being drained, or its clock is wrong, or its disk slow or full"
                    )));
                }
                self.stay(lane);
                return Ok(Applied::default());
            }
            (&ASK_STEP_DOWN, group) => Wanted::StepDown(String::from_utf8(group.to_vec()).map_err(|_| unreadable())?),
            _ => return Err(unreadable()),
        };
        ask_here(lane, wanted).await
    }
}

async fn ask_here(lane: &Lane, wanted: Wanted) -> Result<Applied, ProposeError> {
    let (reply, answer) = oneshot::channel();
    lane.mailbox.ask(Ask { wanted, reply: Some(reply) })?;
    answer.await.unwrap_or(Err(ProposeError::Unknown))
}

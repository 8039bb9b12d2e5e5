//! The way to a shard's thread: offers (Q1), proposals and peers' messages (Q2), and what the writer made durable (the way back of Q3).
//!
//! One lock, one condition: a turn of the shard takes all that waits at once, so that one sync serves many offers. Putting something in never
//! waits: what does not fit is refused. The way back holds one number, so the writer can never be stopped by a shard.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::oneshot;

use crate::node::evidence::Evidence;
use crate::node::offer::Applied;
use crate::node::offer::OfferError;
use crate::node::offer::ProposeError;
use crate::shard::command::Command;
use crate::shard::replica::PeerMessage;
use crate::shard::replica::message_bytes;
use crate::wire::body::Body;

/// Proposals, and messages, that may wait.
const ASKS: usize = 1024;
/// Bytes of messages that may wait: 64 messages of 1 MiB are on their way from a leader at most.
const MESSAGE_BYTES: usize = 64 << 20;

/// An offer, encoded.
pub(super) struct Queued {
    pub encoded: Vec<u8>,
    pub group: String,
    pub replica: String,
    pub settings: u64,
    pub unpacked: Option<Arc<Body>>,
    pub bare: Vec<u64>,
    pub claim: Option<Box<dyn Send + Sync>>,
    pub reply: oneshot::Sender<Result<(), OfferError>>,
}

/// What is wanted of a shard besides taking samples.
#[derive(Clone)]
pub(super) enum Wanted {
    /// To be proposed.
    Command(Command),
    /// Another leader for this group, whichever is best.
    StepDown(String),
    /// This node shall lead the shard: a person wants it.
    HandOver(u64),
    /// Something that is known of a replica; nobody waits for an answer.
    Evidence(Evidence),
}

/// A request, and who waits for its answer.
pub(super) struct Ask {
    pub wanted: Wanted,
    pub reply: Option<oneshot::Sender<Result<Applied, ProposeError>>>,
}

/// All that waited.
#[derive(Default)]
pub(super) struct Mail {
    pub offers: VecDeque<Queued>,
    pub asks: VecDeque<Ask>,
    /// Each with the place up to which every member has the log.
    pub messages: VecDeque<(u64, PeerMessage)>,
    /// Peers that messages do not reach.
    pub unreachable: BTreeSet<u64>,
    /// Members that have taken their snapshot.
    pub taken: BTreeSet<u64>,
    /// The answer to the one piece of a snapshot that was asked for.
    pub piece: Option<Option<Vec<u8>>>,
    /// The highest number reported durable.
    pub persisted: u64,
    pub stop: bool,
}

#[derive(Default)]
struct Inner {
    mail: Mail,
    /// Of offers here or taken and not proposed yet.
    slots: usize,
    bytes: usize,
    message_bytes: usize,
    /// Messages that did not fit, since the beginning.
    dropped: u64,
    news: bool,
}

pub(super) struct Mailbox {
    inner: Mutex<Inner>,
    wake: Condvar,
    most_slots: usize,
    most_bytes: usize,
}

impl Mailbox {
    pub fn new(most_slots: usize, most_bytes: usize) -> Mailbox {
        Mailbox { inner: Mutex::default(), wake: Condvar::new(), most_slots, most_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, mut inner: MutexGuard<'_, Inner>) {
        inner.news = true;
        drop(inner);
        self.wake.notify_one();
    }

    pub fn offer(&self, offer: Queued) -> Result<(), OfferError> {
        let mut inner = self.lock();
        if inner.mail.stop {
            return Err(OfferError::Stopping);
        }
        if inner.slots >= self.most_slots {
            return Err(OfferError::Overloaded { reason: "slots" });
        }
        if inner.bytes > 0 && inner.bytes + offer.encoded.len() > self.most_bytes {
            return Err(OfferError::Overloaded { reason: "bytes" });
        }
        inner.slots += 1;
        inner.bytes += offer.encoded.len();
        inner.mail.offers.push_back(offer);
        self.put(inner);
        Ok(())
    }

    /// An offer of this size has left the queue.
    pub fn left(&self, bytes: usize) {
        let mut inner = self.lock();
        inner.slots -= 1;
        inner.bytes -= bytes;
    }

    /// What waits: offers and bytes.
    pub fn waiting(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.slots, inner.bytes)
    }

    pub fn ask(&self, ask: Ask) -> Result<(), ProposeError> {
        let mut inner = self.lock();
        if inner.mail.stop {
            return Err(ProposeError::Stopping);
        }
        if inner.mail.asks.len() >= ASKS {
            return Err(ProposeError::Busy(0));
        }
        inner.mail.asks.push_back(ask);
        self.put(inner);
        Ok(())
    }

    /// Dropped where too many wait: Raft sends it again.
    pub fn message(&self, floor: u64, message: PeerMessage) {
        let bytes = message_bytes(&message);
        let mut inner = self.lock();
        let fits = inner.mail.messages.len() < ASKS && (inner.message_bytes == 0 || inner.message_bytes + bytes <= MESSAGE_BYTES);
        if !fits {
            inner.dropped += 1;
            return;
        }
        inner.message_bytes += bytes;
        inner.mail.messages.push_back((floor, message));
        self.put(inner);
    }

    /// Messages that did not fit, since the beginning.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    pub fn unreachable(&self, peer: u64) {
        let mut inner = self.lock();
        inner.mail.unreachable.insert(peer);
        self.put(inner);
    }

    /// A member has taken its snapshot.
    pub fn taken(&self, peer: u64) {
        let mut inner = self.lock();
        inner.mail.taken.insert(peer);
        self.put(inner);
    }

    /// The answer to what was asked for: one at a time.
    pub fn piece(&self, answer: Option<Vec<u8>>) {
        let mut inner = self.lock();
        inner.mail.piece = Some(answer);
        self.put(inner);
    }

    /// Numbers begin anew; nothing may be on its way to the disk.
    pub fn forget_persisted(&self) {
        self.lock().mail.persisted = 0;
    }

    pub fn persisted(&self, number: u64) {
        let mut inner = self.lock();
        inner.mail.persisted = inner.mail.persisted.max(number);
        self.put(inner);
    }

    pub fn stop(&self) {
        let mut inner = self.lock();
        inner.mail.stop = true;
        self.put(inner);
    }

    /// Waits for mail, at most so long, and takes it.
    pub fn take(&self, most: Duration) -> Mail {
        let inner = self.lock();
        let waited = self.wake.wait_timeout_while(inner, most, |inner| !inner.news);
        let (mut inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (inner.news, inner.message_bytes) = (false, 0);
        let (persisted, stop) = (inner.mail.persisted, inner.mail.stop);
        std::mem::replace(&mut inner.mail, Mail { persisted, stop, ..Mail::default() })
    }
}

//! Raft's messages on their way to a peer: they wait in an [`Outbox`] (Q4), and leave as the body of one request that does not end, batch behind
//! batch. On the other side [`Batches`] takes the body apart.
//!
//! One request for all of them, because a request and its answer for each batch cost a follower more than what was in them. How much is on its
//! way is bounded by the flow control of HTTP/2: whoever does not read is sent nothing, and what waits for him is dropped when it does not fit.
//!
//! Left out on purpose: answers. What a peer has to say to a message is a message of its own, on the stream that it keeps to this node; and a stream
//! that ends says why in the answer to its request (`link`).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use bytes::BytesMut;
use hyper::body::Body;
use hyper::body::Frame;
use hyper::body::SizeHint;

use crate::clock;
use crate::peer::frame::LENGTH;
use crate::peer::frame::Letter;
use crate::peer::frame::length_of;
use crate::peer::frame::write_letters;
use crate::shard::codec::Malformed;
use crate::shard::replica::message_bytes;

/// Messages that wait for one peer: 7 shards with 64 on their way each fit twice.
const LETTERS: usize = 1024;
/// Their bytes.
const LETTER_BYTES: usize = 64 << 20;
/// In one batch, so that a heartbeat behind it waits for a tenth of a second at 1 Gbit/s.
const BATCH_BYTES: usize = 4 << 20;

#[derive(Default)]
struct Inner {
    letters: VecDeque<Letter>,
    bytes: usize,
    /// Whether there is a connection: without one nothing waits.
    open: bool,
    /// The stream that takes them; one of before takes none.
    stream: u64,
    /// Whoever has found nothing: the stream, or the link while there is none.
    waker: Option<Waker>,
    /// Since when the first of them has been the first.
    since: Option<Instant>,
    sent: u64,
    dropped: u64,
}

impl Inner {
    fn lose_all(&mut self) {
        self.dropped += self.letters.len() as u64;
        self.letters.clear();
        (self.bytes, self.since) = (0, None);
    }
}

/// What waits for one peer.
#[derive(Default)]
pub struct Outbox(Mutex<Inner>);

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never waits. False: it did not fit, or there is no connection.
    pub fn post(&self, letter: Letter) -> bool {
        let bytes = message_bytes(&letter.message);
        let mut inner = self.lock();
        if !inner.open || inner.letters.len() >= LETTERS || inner.bytes > 0 && inner.bytes + bytes > LETTER_BYTES {
            inner.dropped += 1;
            return false;
        }
        if inner.letters.is_empty() {
            inner.since = Some(clock::now());
        }
        inner.bytes += bytes;
        inner.letters.push_back(letter);
        let waker = inner.waker.take();
        drop(inner);
        waker.into_iter().for_each(Waker::wake);
        true
    }

    /// There is a connection.
    pub fn open(&self) {
        self.lock().open = true;
    }

    /// There is none any more: what waits is lost.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.open = false;
        inner.lose_all();
        drop(inner);
        self.end();
    }

    /// The peer does not want what waits.
    pub fn discard(&self) {
        self.lock().lose_all();
    }

    /// The body of a new stream; one that was before ends.
    pub fn begin(self: &Arc<Outbox>) -> Letters {
        let stream = self.end();
        Letters { outbox: Arc::clone(self), stream }
    }

    /// Ends the stream; the number of the next.
    pub fn end(&self) -> u64 {
        let mut inner = self.lock();
        inner.stream += 1;
        let (stream, waker) = (inner.stream, inner.waker.take());
        drop(inner);
        waker.into_iter().for_each(Waker::wake);
        stream
    }

    /// Whether something waits; whoever hears no is woken when it does. For the link, while there is no stream.
    pub fn poll_news(&self, context: &Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if !inner.letters.is_empty() {
            return Poll::Ready(());
        }
        inner.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// The same message has been the first for so long.
    pub fn stands_still(&self, within: Duration) -> bool {
        self.lock().since.is_some_and(|since| clock::now().saturating_duration_since(since) >= within)
    }

    /// Messages that were taken by a stream, and that were dropped, since the beginning.
    pub fn figures(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.sent, inner.dropped)
    }

    /// The next batch of that stream; `None`: the stream is over.
    fn poll_batch(&self, stream: u64, context: &Context<'_>) -> Poll<Option<Vec<Letter>>> {
        let mut inner = self.lock();
        if inner.stream != stream {
            return Poll::Ready(None);
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES
            && let Some(letter) = inner.letters.pop_front()
        {
            bytes += message_bytes(&letter.message);
            batch.push(letter);
        }
        if batch.is_empty() {
            inner.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        inner.bytes = inner.bytes.saturating_sub(bytes);
        inner.since = Some(clock::now()).filter(|_| !inner.letters.is_empty());
        inner.sent += batch.len() as u64;
        Poll::Ready(Some(batch))
    }
}

/// The body of a stream: what the outbox has, as it comes.
pub struct Letters {
    outbox: Arc<Outbox>,
    stream: u64,
}

/// What a node sends: something that is there, or messages as they come.
pub enum Sent {
    /// All of it; `None`: nothing, or nothing any more.
    Whole(Option<Bytes>),
    /// Messages.
    Letters(Letters),
}

impl From<Bytes> for Sent {
    fn from(bytes: Bytes) -> Sent {
        Sent::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.get_mut() {
            Sent::Whole(bytes) => Poll::Ready(bytes.take()),
            Sent::Letters(Letters { outbox, stream }) => {
                outbox.poll_batch(*stream, context).map(|batch| batch.map(|batch| write_letters(&batch).into()))
            }
        };
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Sent::Whole(None))
    }

    /// From which the other side knows what it has to make room for.
    fn size_hint(&self) -> SizeHint {
        match self {
            Sent::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Sent::Letters(_) => SizeHint::default(),
        }
    }
}

/// Takes a stream apart. A batch that comes in one piece is not copied.
#[derive(Default)]
pub struct Batches {
    /// The beginning of a batch whose end has not come.
    begun: BytesMut,
    /// What came last, and was not looked at.
    rest: Bytes,
}

impl Batches {
    /// More of the stream. What came before must have been taken by `next`.
    pub fn push(&mut self, data: Bytes) {
        debug_assert!(self.rest.is_empty());
        self.rest = data;
    }

    /// The next batch that is all there. An error: this is no such stream, or the batch has more than `most` bytes.
    pub fn next(&mut self, most: usize) -> Result<Option<Bytes>, Malformed> {
        if self.begun.is_empty()
            && let Some(end) = whole(&self.rest, most)?.filter(|end| *end <= self.rest.len())
        {
            return Ok(Some(self.rest.split_to(end).split_off(LENGTH)));
        }
        loop {
            let end = whole(&self.begun, most)?;
            if end.is_some_and(|end| self.begun.len() == end) {
                return Ok(Some(std::mem::take(&mut self.begun).freeze().split_off(LENGTH)));
            }
            if self.rest.is_empty() {
                return Ok(None);
            }
            let lacks = end.unwrap_or(LENGTH) - self.begun.len();
            self.begun.extend_from_slice(&self.rest.split_to(lacks.min(self.rest.len())));
        }
    }

    /// How long the batch is that has begun, once that is known.
    pub fn begun(&self) -> Option<usize> {
        length_of(&self.begun)
    }

    /// Whether nothing has begun.
    pub fn is_between(&self) -> bool {
        self.begun.is_empty() && self.rest.is_empty()
    }
}

/// Where the batch ends that these bytes begin.
fn whole(bytes: &[u8], most: usize) -> Result<Option<usize>, Malformed> {
    match length_of(bytes) {
        Some(length) if length > most => Err(Malformed::Impossible("a batch of this size")),
        length => Ok(length.map(|length| LENGTH + length)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;
    use std::task::Wake;

    use super::*;
    use crate::model::ShardId;
    use crate::peer::frame::read_letters;
    use crate::shard::replica::PeerMessage;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn letter(index: u64) -> Letter {
        Letter { shard: ShardId(1), floor: 0, message: PeerMessage { index, ..PeerMessage::default() } }
    }

    fn open() -> Arc<Outbox> {
        let outbox = Arc::<Outbox>::default();
        outbox.open();
        outbox
    }

    /// All that the body has now.
    fn drain(body: &mut Sent, context: &mut Context<'_>) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        loop {
            match Pin::new(&mut *body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => bytes.extend(frame.into_data().unwrap()),
                Poll::Ready(Some(Err(never))) => match never {},
                Poll::Ready(None) => return (bytes, true),
                Poll::Pending => return (bytes, false),
            }
        }
    }

    fn indexes(batch: &[u8]) -> Vec<u64> {
        read_letters(batch).unwrap().into_iter().map(|letter| letter.message.index).collect()
    }

    #[test]
    fn messages_leave_in_their_order_however_the_stream_is_cut() {
        let outbox = open();
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut body = Sent::Letters(outbox.begin());
        let mut stream = Vec::new();
        for first in [0, 3, 6] {
            (first..first + 3).for_each(|index| assert!(outbox.post(letter(index))));
            let (bytes, over) = drain(&mut body, &mut context);
            assert!(!over);
            stream.extend(bytes);
        }
        assert_eq!(woken.0.load(Ordering::Relaxed), 2, "once for what is new, not for every message");
        assert_eq!(outbox.figures(), (9, 0));
        let mut random = fastrand::Rng::with_seed(7);
        for most in [1, 2, 3, 5, 50, 5_000] {
            let (mut batches, mut read, mut at) = (Batches::default(), Vec::new(), 0);
            while at < stream.len() {
                let end = (at + random.usize(1..=most)).min(stream.len());
                batches.push(Bytes::copy_from_slice(&stream[at..end]));
                at = end;
                while let Some(batch) = batches.next(1 << 20).unwrap() {
                    read.extend(indexes(&batch));
                }
            }
            assert!(batches.is_between());
            assert_eq!(read, (0..9).collect::<Vec<_>>(), "{most}");
        }
    }

    #[test]
    fn a_torn_stream_is_seen_and_a_batch_that_is_too_large_is_not_waited_for() {
        let bytes = write_letters(&[letter(1), letter(2)]);
        for end in 1..bytes.len() {
            let mut batches = Batches::default();
            batches.push(Bytes::copy_from_slice(&bytes[..end]));
            assert_eq!(batches.next(1 << 20), Ok(None), "{end}");
            assert!(!batches.is_between());
            assert_eq!(batches.begun(), (end >= LENGTH).then(|| bytes.len() - LENGTH), "{end}");
        }
        let mut batches = Batches::default();
        batches.push(Bytes::from(bytes));
        assert!(batches.next(5).is_err());
        let mut batches = Batches::default();
        batches.push(Bytes::from_static(&[255]));
        assert_eq!(batches.next(1 << 20), Ok(None));
        batches.push(Bytes::from_static(&[255; 9]));
        assert!(batches.next(1 << 20).is_err(), "4 GiB");
    }

    #[test]
    fn a_peer_that_reads_nothing_costs_a_bounded_memory_and_is_noticed() {
        let outbox = open();
        let _unread = outbox.begin();
        assert!(!outbox.stands_still(Duration::ZERO), "nothing waits");
        (0..LETTERS as u64).for_each(|index| assert!(outbox.post(letter(index))));
        assert!(!outbox.post(letter(0)));
        assert!(outbox.stands_still(Duration::ZERO) && !outbox.stands_still(Duration::from_secs(3600)));
        assert_eq!(outbox.figures(), (0, 1));
        outbox.discard();
        let mut large = letter(1);
        large.message.entries = vec![Default::default()];
        large.message.entries[0].data = vec![0; LETTER_BYTES / 2];
        let again = Letter { message: large.message.clone(), ..large };
        assert!(outbox.post(large) && !outbox.post(again), "two of them are too many bytes");
        assert_eq!(outbox.figures(), (0, 1 + LETTERS as u64 + 1));
    }

    #[test]
    fn a_new_stream_takes_over_and_what_waits_is_lost_with_the_connection() {
        let outbox = Arc::<Outbox>::default();
        assert!(!outbox.post(letter(0)), "no connection");
        outbox.open();
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut first = Sent::Letters(outbox.begin());
        assert_eq!(drain(&mut first, &mut context), (Vec::new(), false));
        let mut second = Sent::Letters(outbox.begin());
        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "the first one is told");
        assert!(outbox.post(letter(5)));
        assert_eq!(drain(&mut first, &mut context), (Vec::new(), true));
        let (bytes, over) = drain(&mut second, &mut context);
        assert!(!over);
        assert_eq!(indexes(&bytes[LENGTH..]), [5]);
        assert!(outbox.post(letter(6)));
        outbox.close();
        assert_eq!(drain(&mut second, &mut context), (Vec::new(), true));
        assert_eq!(outbox.figures(), (1, 2));
    }
}

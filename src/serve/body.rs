//! Bodies: those that come in, within bounds of size and time; and those that go out, whole or bit by bit.

use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::combinators::BoxBody;
use hyper::body::Frame;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use crate::clock;

/// A body that goes out.
pub type Body = BoxBody<Bytes, std::convert::Infallible>;

/// A whole body.
pub fn full(content: Bytes) -> Body {
    Full::new(content).boxed()
}

/// A body made of what comes through the channel; it ends when the sender is dropped. A full channel tells the maker to wait.
pub fn stream(parts: mpsc::Receiver<Bytes>) -> Body {
    Parts(parts).boxed()
}

struct Parts(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Parts {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|part| part.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// The least speed of a body that comes in.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Bytes a second, over the whole body.
    pub bytes_per_second: u64,
    /// So long any body may take.
    pub grace: Duration,
}

/// Why a body was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// More than the bound.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The bound.
        limit: usize,
    },
    /// Slower than the bound.
    #[error("the body came slower than {bytes_per_second} bytes a second")]
    Slow {
        /// The bound.
        bytes_per_second: u64,
    },
    /// The budget of all requests together has no room for it.
    #[error("too many bytes are under way")]
    NoRoom,
    /// The sender went away.
    #[error("the body broke off")]
    Broken,
}

/// Reads a body of at most `limit` bytes at no less than `pace`. `room` is asked before bytes are kept; where it says no, reading ends.
pub async fn read(body: &mut Incoming, limit: usize, pace: Pace, room: &mut (dyn FnMut(usize) -> bool + Send)) -> Result<Bytes, ReadError> {
    let hint = hyper::body::Body::size_hint(body);
    if hint.lower() > limit as u64 {
        return Err(ReadError::TooLarge { limit });
    }
    let started = clock::now();
    let mut first: Option<Bytes> = None;
    let mut whole: Vec<u8> = Vec::new();
    let mut seen = 0usize;
    loop {
        let frame = match tokio::time::timeout(left(pace, started, seen), body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => return Err(ReadError::Broken),
            Ok(None) => break,
            Err(_) => return Err(ReadError::Slow { bytes_per_second: pace.bytes_per_second }),
        };
        let Ok(part) = frame.into_data() else { continue };
        seen += part.len();
        if seen > limit {
            return Err(ReadError::TooLarge { limit });
        }
        if !room(part.len()) {
            return Err(ReadError::NoRoom);
        }
        match (&first, whole.is_empty()) {
            (None, true) => first = Some(part),
            (Some(head), true) => {
                // Reserve what is announced at once, but never more than the bound.
                let announced = usize::try_from(hint.lower()).unwrap_or(limit).min(limit);
                whole.reserve(announced.max(head.len() + part.len()));
                whole.extend_from_slice(head);
                whole.extend_from_slice(&part);
            }
            _ => whole.extend_from_slice(&part),
        }
    }
    if whole.is_empty() { Ok(first.unwrap_or_default()) } else { Ok(Bytes::from(whole)) }
}

/// Takes in and forgets what is left of a body, so that an answer given early does not cost the connection. A body that is too large
/// or too slow is left, and then the connection goes with it.
pub async fn discard(mut body: Incoming, limit: usize, pace: Pace) {
    let started = clock::now();
    let mut seen = 0usize;
    while seen <= limit {
        match tokio::time::timeout(left(pace, started, seen), body.frame()).await {
            Ok(Some(Ok(frame))) => seen += frame.data_ref().map_or(0, Bytes::len),
            _ => return,
        }
    }
}

/// How long the next part may take: the time that the bytes seen so far, and the grace, pay for, less what has passed.
fn left(pace: Pace, started: Instant, seen: usize) -> Duration {
    let paid = Duration::from_micros((seen as u64).saturating_mul(1_000_000) / pace.bytes_per_second.max(1));
    (pace.grace + paid).saturating_sub(clock::now().duration_since(started))
}

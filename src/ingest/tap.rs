//! Reading along at the door: requests as they came, and what they were told, for `sluice tap --at in`.
//!
//! Bounded, and nothing at all while nobody listens: then no body is kept a moment longer. Listeners that are too slow miss requests, which they are told.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::broadcast;

use crate::ingest::desk::Parcel;
use crate::ingest::lanes::Refusal;
use crate::wire::pack::Packing;
use crate::wire::remote_write::Protocol;

/// Requests that a listener may be behind: of 1 MiB at most, so 32 MiB at worst.
const BEHIND_MAX: usize = 32;
/// Larger ones are not shown.
const BODY_BYTES: usize = 1 << 20;

/// What came of one replica.
#[derive(Clone, Debug)]
pub struct Came {
    /// The group.
    pub group: String,
    /// The replica.
    pub replica: String,
    /// Which message it is.
    pub protocol: Protocol,
    /// How it is packed.
    pub packing: Packing,
    /// As it came.
    pub body: Bytes,
    /// Its digest: which points were refused.
    pub digest: Vec<u8>,
    /// Why, of the first ones, by their place.
    pub reasons: Vec<(u32, Refusal)>,
    /// `taken`, or why the sender was put off.
    pub told: &'static str,
}

impl Came {
    /// A part of a request; `None`: it is too large to be shown.
    pub fn of(parcel: &Parcel, protocol: Protocol) -> Option<Came> {
        (parcel.body.len() + parcel.digest.len() <= BODY_BYTES).then(|| Came {
            group: parcel.lane.group.clone(),
            replica: parcel.lane.replica.clone(),
            protocol,
            packing: parcel.packing,
            body: parcel.body.clone(),
            digest: parcel.digest.clone(),
            reasons: parcel.reasons.clone(),
            told: "taken",
        })
    }
}

/// Where requests are shown, and listeners subscribe.
#[derive(Debug)]
pub struct Tap {
    requests: broadcast::Sender<Arc<Came>>,
}

/// One listener.
#[derive(Debug)]
pub struct Listener {
    requests: broadcast::Receiver<Arc<Came>>,
}

impl Default for Tap {
    fn default() -> Tap {
        Tap { requests: broadcast::channel(BEHIND_MAX).0 }
    }
}

impl Tap {
    /// Requests from now on.
    pub fn listen(&self) -> Listener {
        Listener { requests: self.requests.subscribe() }
    }

    /// Whether anybody listens.
    pub fn wanted(&self) -> bool {
        self.requests.receiver_count() > 0
    }

    /// Shows one, with what its sender is told.
    pub(super) fn show(&self, came: Option<Came>, told: &'static str) {
        if let Some(came) = came {
            // An error only says that nobody listens any more.
            let _ = self.requests.send(Arc::new(Came { told, ..came }));
        }
    }
}

impl Listener {
    /// The next request, and how many were missed before it; `None`: the node is gone.
    pub async fn next(&mut self) -> Option<(Arc<Came>, u64)> {
        let mut missed = 0;
        loop {
            match self.requests.recv().await {
                Ok(came) => return Some((came, missed)),
                Err(broadcast::error::RecvError::Lagged(requests)) => missed += requests,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

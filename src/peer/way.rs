//! How the shards, and whoever asks them, reach the other nodes: messages are posted, everything else is a request with an answer.
//!
//! Left out on purpose: who leads a shard (`node` knows), and trying again (whoever asks knows until when).

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use tokio::runtime::Handle;

use crate::model::ShardId;
use crate::node::offer::Applied;
use crate::node::offer::OfferError;
use crate::node::offer::ProposeError;
use crate::node::peers::Later;
use crate::node::peers::Peers;
use crate::peer::Common;
use crate::peer::OFFER;
use crate::peer::frame;
use crate::peer::frame::Letter;
use crate::peer::link::Link;
use crate::peer::link::Sight;
use crate::shard::replica::PeerMessage;

/// For a piece of a snapshot.
const FETCH: Duration = Duration::from_secs(10);

/// The way from the shards to the peers.
pub(super) struct Way {
    common: Arc<Common>,
    runtime: Handle,
}

impl Way {
    /// Where the shards go by it. To be called where tasks can be started.
    pub fn new(common: Arc<Common>) -> Arc<Way> {
        Arc::new(Way { common, runtime: Handle::current() })
    }
}

impl Peers for Way {
    fn send(&self, shard: ShardId, floor: u64, messages: Vec<PeerMessage>) {
        for message in messages {
            if let Some(link) = self.common.link_to(message.to) {
                link.post(Letter { shard, floor, message });
            }
        }
    }

    fn fetch(&self, from: u64, shard: ShardId, request: Vec<u8>, answered: Box<dyn FnOnce(Option<Vec<u8>>) + Send>) {
        let (common, link) = (Arc::clone(&self.common), self.common.link_to(from).cloned());
        // One for each shard at most: a shard asks for the next piece when it has the one before.
        self.runtime.spawn(async move {
            let Some(link) = link else { return answered(None) };
            let answer = link.ask(&common, &format!("/snapshot/{}", shard.0), request.into(), FETCH).await;
            answered(match answer {
                Ok(Some((StatusCode::OK, piece))) => Some(piece.into()),
                _ => None,
            });
        });
    }

    fn tell(&self, to: u64, shard: ShardId, told: Vec<u8>) {
        let (common, link) = (Arc::clone(&self.common), self.common.link_to(to).cloned());
        let (Some(link), Ok(turn)) = (link, Arc::clone(&common.telling).try_acquire_owned()) else { return };
        self.runtime.spawn(async move {
            let _turn = turn;
            let _ = link.ask(&common, &format!("/told/{}", shard.0), told.into(), OFFER).await; // it may be lost
        });
    }

    fn wants_to_lead(&self, node: u64) -> bool {
        let draining = |link: &Arc<Link>| matches!(link.sight(), Sight::Greeted { hello, .. } if hello.draining);
        !self.common.link_to(node).is_some_and(draining)
    }

    fn is_full(&self, node: u64) -> bool {
        let full = |link: &Arc<Link>| matches!(link.sight(), Sight::Greeted { hello, .. } if hello.disk_full);
        self.common.link_to(node).is_some_and(full)
    }

    fn offer(&self, to: u64, shard: ShardId, encoded: Vec<u8>) -> Later<Result<(), OfferError>> {
        let (common, link) = (Arc::clone(&self.common), self.common.link_to(to).cloned());
        Box::pin(async move {
            let away = OfferError::NotLeader { shard: shard.0, leader: Some(to) };
            let Some(link) = link else { return Err(away) };
            match link.ask(&common, &format!("/offer/{}", shard.0), encoded.into(), OFFER).await {
                Ok(Some((StatusCode::OK, answer))) => frame::read_offered(&answer).unwrap_or(Err(OfferError::Unknown)),
                Ok(Some((StatusCode::SERVICE_UNAVAILABLE, _))) => Err(OfferError::Overloaded { reason: "bytes" }),
                Ok(_) => Err(OfferError::Unknown),
                Err(()) => Err(away),
            }
        })
    }

    fn ask(&self, to: u64, shard: ShardId, encoded: Vec<u8>) -> Later<Result<Applied, ProposeError>> {
        let (common, link) = (Arc::clone(&self.common), self.common.link_to(to).cloned());
        Box::pin(async move {
            let Some(link) = link else { return Err(ProposeError::NotLeader(shard.0)) };
            match link.ask(&common, &format!("/ask/{}", shard.0), encoded.into(), OFFER).await {
                Ok(Some((StatusCode::OK, answer))) => frame::read_asked(&answer).unwrap_or(Err(ProposeError::Unknown)),
                Ok(Some((StatusCode::SERVICE_UNAVAILABLE, _))) => Err(ProposeError::Busy(shard.0)),
                Ok(_) => Err(ProposeError::Unknown),
                Err(()) => Err(ProposeError::NotLeader(shard.0)),
            }
        })
    }
}

//! Dead letters, sent again after the cause was mended: what any sink does about it, and how it can go wrong.

use std::sync::Arc;

use crate::forward::kafka;
use crate::forward::kafka::Identity;
use crate::forward::remote_write;
use crate::forward::remote_write::settings::StoreSettings;
use crate::forward::settings::KafkaSettings;
use crate::shard::command::DeadLetter;

/// Why a letter was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// Only its beginning was kept, or it was written by a sink of another kind.
    #[error("the letter does not hold a whole row (only 64 KiB are kept)")]
    NotWhole,
    /// The receiver does not have it.
    #[error("{0}")]
    Refused(String),
    /// There was no time left, or the node stops.
    #[error("it was not tried: time was up")]
    NotTried,
}

/// Sends dead letters again, as the sink was set when this was taken from it.
#[derive(Clone, Debug)]
pub enum Resender {
    /// To a topic.
    Kafka(Identity, Arc<KafkaSettings>, tokio::runtime::Handle),
    /// To a store.
    Store(Arc<StoreSettings>, tokio::runtime::Handle),
    /// Files refuse nothing: such letters are of a sink of that name before.
    Files,
}

impl Resender {
    /// Sends the letters in order, for as long as `go_on` says so: one outcome each, or why nobody could be asked. `seed` is that of
    /// the cluster's series hashes. What the receiver took is to be followed by a `Command::Resent`. Blocking.
    pub fn send(
        &self,
        (shard, seed): (u16, u64),
        letters: &[DeadLetter],
        go_on: &dyn Fn() -> bool,
    ) -> Result<Vec<Result<(), ReplayError>>, String> {
        match self {
            Resender::Kafka(identity, settings, runtime) => {
                let identity = Identity { shard, ..identity.clone() };
                let replayed = kafka::replay::replay(settings, &identity, runtime, (seed, letters), go_on);
                replayed.map_err(|error| format!("Kafka was not reached: {error}"))
            }
            Resender::Files => {
                let text =
                    "files take no letters; they are of a Kafka topic or a store that was called so before: make a sink for it again";
                Ok(letters.iter().map(|_| Err(ReplayError::Refused(text.to_owned()))).collect())
            }
            Resender::Store(settings, runtime) => remote_write::replay::replay(settings, runtime, letters, go_on),
        }
    }
}

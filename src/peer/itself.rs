//! What a node says of itself to another one that collects it for a person: files as JSON, which whoever asks reads.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use bytes::Bytes;
use hyper::StatusCode;

use crate::peer::Common;
use crate::peer::OFFER;
use crate::peer::link::Sight;

/// What is asked for, to JSON.
type Itself = Arc<dyn Fn(&str) -> Vec<u8> + Send + Sync>;

/// Who speaks for this node at present: as long as it waits, somebody who knows less.
pub(super) type Slot = Mutex<Option<Itself>>;

impl Common {
    /// What other nodes are told that ask for it, from now on.
    pub fn tell_of_itself(&self, itself: Itself) {
        *self.itself.lock().unwrap_or_else(PoisonError::into_inner) = Some(itself);
    }

    pub(super) fn itself(&self) -> Option<Itself> {
        self.itself.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What each of the others says of itself: its name, and its answer or why there is none.
    pub async fn of_others(&self, what: &str) -> Vec<(String, Result<Vec<u8>, String>)> {
        let mut all = Vec::new();
        for link in &self.links {
            let said = match link.ask(self, "/itself", Bytes::copy_from_slice(what.as_bytes()), OFFER).await {
                Ok(Some((StatusCode::OK, said))) => Ok(said.into()),
                Ok(Some((status, why))) => Err(format!("{status}: {}", String::from_utf8_lossy(&why))),
                Ok(None) => Err(format!("no answer within {} s", OFFER.as_secs())),
                Err(()) => Err(match link.sight() {
                    Sight::Unreachable(why) => why,
                    Sight::Greeted { .. } => "no connection".to_owned(),
                }),
            };
            all.push((link.member.name.clone(), said));
        }
        all
    }
}

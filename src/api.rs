//! What operators and programs ask of a running node, over HTTP and JSON: status, groups, sinks, health, metrics.
//!
//! Every shape is a struct of this module (never a type of the parts below) and stands in docs/api.md. Deliberately absent: remote write
//! (`ingest`), the page itself (`console`), and any knowledge of how sinks or ingest work: `app` hands that in (`deps`).

pub mod deps;

use crate::api::deps::Deps;
use crate::serve::Peer;
use crate::serve::Request;
use crate::serve::Response;

/// Answers everything that is not remote write.
#[derive(Clone)]
pub struct Api {
    deps: std::sync::Arc<Deps>,
}

impl Api {
    /// Of its parts.
    pub fn new(deps: Deps) -> Api {
        Api { deps: std::sync::Arc::new(deps) }
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request, peer: Peer) -> Response {
        let _ = (request, peer, &self.deps);
        crate::serve::answer(hyper::StatusCode::NOT_FOUND, "application/json", "{}")
    }
}

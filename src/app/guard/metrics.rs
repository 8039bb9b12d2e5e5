//! What the guard counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

crate::label_words! {
    /// Why a request was not let in.
    Refusal {
        /// It carries no token, or one that cannot be read.
        Missing = "missing",
        /// It carries one that nobody has.
        Unknown = "unknown",
        /// It carries one that has ended.
        Expired = "expired",
        /// It cannot be known yet: this node may not have heard of its token, or there is none at all.
        Unsure = "unsure",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    reason: Refusal,
}

/// Counters of the guard.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    refused: Family<Labels, Counter>,
}

impl Metrics {
    /// Registers them.
    pub fn register(&self, registry: &mut Registry) {
        for &reason in Refusal::ALL {
            let _ = self.refused.get_or_create(&Labels { reason });
        }
        registry.register("http_unauthenticated_requests", "Requests refused for want of a good token, by reason", self.refused.clone());
    }

    pub(super) fn refused(&self, reason: Refusal) {
        self.refused.get_or_create(&Labels { reason }).inc();
    }
}

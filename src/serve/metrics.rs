//! What the accept loop counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters of the accept loop.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    open: Gauge,
    accepted: Counter,
    beyond_bound: Counter,
    accept_failures: Counter,
    ended: Counter,
    handshake_failures: Counter,
}

impl Metrics {
    /// Registers them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("http_connections", "Open connections", self.open.clone());
        registry.register("http_connections_accepted", "Connections accepted", self.accepted.clone());
        registry.register(
            "http_connections_beyond_bound",
            "Connections beyond limits.connections, answered 503",
            self.beyond_bound.clone(),
        );
        registry.register(
            "http_handshake_failures",
            "Connections that ended before their TLS handshake did: no TLS, a version too old, a certificate that the client does not trust",
            self.handshake_failures.clone(),
        );
        registry.register(
            "http_connections_ended",
            "Connections that this side ended: older than limits.connection_age, or the node is being drained",
            self.ended.clone(),
        );
        registry.register("http_accept_failures", "Connections that the system could not give us", self.accept_failures.clone());
    }

    /// Open connections.
    pub fn open(&self) -> u64 {
        u64::try_from(self.open.get()).unwrap_or(0)
    }

    pub(super) fn opened(&self, beyond_bound: bool) {
        self.open.inc();
        self.accepted.inc();
        if beyond_bound {
            self.beyond_bound.inc();
        }
    }

    pub(super) fn closed(&self) {
        self.open.dec();
    }

    pub(super) fn ended(&self) {
        self.ended.inc();
    }

    pub(super) fn handshake_failed(&self) {
        self.handshake_failures.inc();
    }

    pub(super) fn accept_failed(&self) {
        self.accept_failures.inc();
    }
}

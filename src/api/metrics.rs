//! What the API counts of alerts, under the names that dashboards of Alertmanager read.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::api::alertmanager;
use crate::wire::alerts::Batch;

crate::label_words! {
    /// What an alert said of itself.
    Status {
        /// It holds.
        Firing = "firing",
        /// It is over.
        Resolved = "resolved",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    status: Status,
    version: &'static str,
}

/// Counters of what came in.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    received: Family<Labels, Counter>,
    invalid: Family<Version, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Version {
    version: &'static str,
}

/// Without it Karma asks no further.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
    revision: &'static str,
}

/// The only one that there is.
const VERSION: &str = "v2";

impl Metrics {
    /// Registers them, in a registry whose names begin with `alertmanager_`.
    pub fn register(&self, registry: &mut Registry) {
        for &status in Status::ALL {
            let _ = self.received.get_or_create(&Labels { status, version: VERSION });
        }
        let _ = self.invalid.get_or_create(&Version { version: VERSION });
        let build: Family<Build, Gauge> = Family::default();
        build.get_or_create(&Build { version: alertmanager::VERSION, revision: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build_info", "Whose API this is, and the version that runs; always 1", build);
        registry.register("alerts_received", "Alerts that came, by what they said of themselves", self.received.clone());
        registry.register("alerts_invalid", "Alerts that came and were wrong", self.invalid.clone());
    }

    pub(super) fn alerts(&self, batch: &Batch) {
        for (status, count) in [(Status::Firing, batch.firing), (Status::Resolved, batch.resolved)] {
            self.received.get_or_create(&Labels { status, version: VERSION }).inc_by(count);
        }
        self.invalid.get_or_create(&Version { version: VERSION }).inc_by(batch.wrong.len() as u64);
    }
}

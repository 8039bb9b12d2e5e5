//! What the process says about itself: numbers for `/metrics`, lines for the log.
//!
//! Every part owns a struct of typed counters and registers it here; there are no global counters. Names are `sluice_` + part + what +
//! unit, and stand in docs/metrics.md.

pub mod exposition;
pub mod labels;
pub mod logs;
pub mod process;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use prometheus_client::registry::Registry;

/// The content type of [`Telemetry::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All numbers of the process.
#[derive(Clone)]
pub struct Telemetry {
    /// Guards registration against rendering; nothing waits while it is held.
    registry: Arc<Mutex<Registry>>,
}

impl Default for Telemetry {
    fn default() -> Telemetry {
        Telemetry { registry: Arc::new(Mutex::new(Registry::default())) }
    }
}

impl Telemetry {
    /// Lets a part register its numbers; their names then begin with `sluice_`.
    pub fn register(&self, part: impl FnOnce(&mut Registry)) {
        part(self.registry.lock().unwrap_or_else(PoisonError::into_inner).sub_registry_with_prefix("sluice"));
    }

    /// The same under another name than ours: that of a program whose dashboards are to work here.
    pub fn register_as(&self, name: &'static str, part: impl FnOnce(&mut Registry)) {
        part(self.registry.lock().unwrap_or_else(PoisonError::into_inner).sub_registry_with_prefix(name));
    }

    /// Registers the numbers that every process has, under the names that every exporter gives them.
    pub fn register_process(&self, started_wall_ms: i64) {
        process::register(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner), started_wall_ms);
    }

    /// The exposition.
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(64 << 10);
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        if prometheus_client::encoding::text::encode(&mut text, &registry).is_err() {
            // Writing to a String fails only where a collector of ours does.
            tracing::error!("the metrics could not be written");
        }
        text
    }
}

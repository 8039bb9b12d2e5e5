//! One probe: which prober, and the deadline around it, which holds whatever a prober waits for.

use std::time::Duration;

use crate::config::probe::Kind;
use crate::probe::guard::Guard;
use crate::probe::module::Module;
use crate::probe::outcome::Cause;
use crate::probe::outcome::Outcome;
use crate::probe::record::Record;
use crate::probe::record::Stop;

/// What is asked for.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// A URL, `host:port`, a host or a path: as the prober wants it.
    pub target: &'a str,
    /// How.
    pub module: &'a Module,
    /// How long it may take. `Module::timeout` says what a module has to say about it.
    pub timeout: Duration,
    /// The name that the target should be asked by (HTTP's `Host`, TLS).
    pub hostname: Option<&'a str>,
    /// Where it must not lead; `None`: wherever the target leads, which the configuration wrote.
    pub guard: Option<&'a Guard>,
    /// Somebody wants to read what goes on.
    pub log: bool,
}

impl<'a> Ask<'a> {
    /// Of a target that the configuration wrote.
    pub fn new(target: &'a str, module: &'a Module, timeout: Duration) -> Ask<'a> {
        Ask { target, module, timeout, hostname: None, guard: None, log: false }
    }
}

/// Probes. Never takes longer than the timeout, and never fails: what went wrong is the outcome.
pub async fn probe(ask: &Ask<'_>) -> Outcome {
    let mut record = Record::new(ask.timeout, ask.log);
    let way = match ask.module.kind {
        Kind::Http(_) | Kind::Tcp(_) | Kind::Unix(_) | Kind::Icmp(_) | Kind::Dns(_) | Kind::Grpc(_) => {
            Err(Stop::new(Cause::Other, "this prober is not built yet"))
        }
    };
    record.stop(&way);
    record.outcome(way)
}

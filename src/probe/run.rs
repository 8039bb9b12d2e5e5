//! One probe: which prober, and the deadline around it, which holds whatever a prober waits for.

use std::time::Duration;

use crate::probe::dialogue;
use crate::probe::dns;
use crate::probe::grpc;
use crate::probe::guard::Guard;
use crate::probe::http;
use crate::probe::icmp;
use crate::probe::module::Kind;
use crate::probe::module::Module;
use crate::probe::outcome::Cause;
use crate::probe::outcome::Outcome;
use crate::probe::record::Record;
use crate::probe::record::Stop;
use crate::probe::record::Way;
use crate::probe::tcp;

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
    let strict = ask.module.strict;
    let way = match &ask.module.kind {
        Kind::Http(http) => {
            let mut told = http::Told::default();
            let way = within(ask.timeout, Box::pin(http.run(ask, &mut told, &mut record))).await;
            record.stop(&way);
            http::tell(&told, &mut record, (strict, way.is_err(), http.resolves(ask.target)));
            way
        }
        Kind::Tcp(tcp) => {
            let mut told = dialogue::Told::default();
            let way = within(ask.timeout, Box::pin(tcp.run(ask, &mut told, &mut record))).await;
            record.stop(&way);
            tcp::tell(told, &mut record, (true, strict, way.is_err()));
            way
        }
        Kind::Unix(unix) => {
            let mut told = dialogue::Told::default();
            let way = within(ask.timeout, Box::pin(unix.run(ask, &mut told, &mut record))).await;
            record.stop(&way);
            tcp::tell(told, &mut record, (false, strict, way.is_err()));
            way
        }
        Kind::Icmp(module) => {
            let mut told = icmp::Told::default();
            let way = within(ask.timeout, Box::pin(icmp::run(module, ask, &mut told, &mut record))).await;
            record.stop(&way);
            icmp::tell(&told, &mut record);
            way
        }
        Kind::Dns(dns) => {
            let mut told = dns::Told::default();
            let way = within(ask.timeout, Box::pin(dns.run(ask, &mut told, &mut record))).await;
            record.stop(&way);
            dns::tell(dns, &told, &mut record);
            way
        }
        Kind::Grpc(grpc) => {
            let mut told = grpc::Told::default();
            let way = within(ask.timeout, Box::pin(grpc.run(ask, &mut told, &mut record))).await;
            record.stop(&way);
            let late = way.as_ref().is_err_and(|stop| stop.cause == Cause::Timeout);
            grpc::tell(grpc, &told, &mut record, (strict, way.is_err(), late));
            way
        }
    };
    record.outcome(way)
}

/// Cuts a prober off when its time is up, whatever it waits for.
async fn within(timeout: Duration, work: impl Future<Output = Way<()>>) -> Way<()> {
    match tokio::time::timeout(timeout, work).await {
        Ok(way) => way,
        Err(_) => Err(Stop::new(Cause::Timeout, format!("not done within {} s", timeout.as_secs_f64()))),
    }
}

//! A connection by TCP, or to a socket of this host: that it comes about, with TLS if asked for, and what is said over it.

use std::net::IpAddr;
use std::net::SocketAddr;

use tokio::net::UnixStream;

use crate::config::probe;
use crate::config::probe::Family;
use crate::probe::connect;
use crate::probe::connect::Wire;
use crate::probe::connect::host_port;
use crate::probe::connect::of_io;
use crate::probe::dialogue;
use crate::probe::dialogue::Dialogue;
use crate::probe::record::Record;
use crate::probe::record::Way;
use crate::probe::resolve;
use crate::probe::run::Ask;
use crate::probe::tls;
use crate::probe::tls::Tls;

/// `prober: tcp`
#[derive(Debug)]
pub struct Tcp {
    family: Family,
    source: Option<IpAddr>,
    inner: Inner,
}

/// `prober: unix`
#[derive(Debug)]
pub struct Unix(Inner);

#[derive(Debug)]
struct Inner {
    dialogue: Dialogue,
    with_tls: bool,
    tls: Tls,
}

impl Inner {
    fn computes(&self) -> bool {
        self.with_tls || self.dialogue.starts_tls()
    }

    async fn hold(&self, wire: Wire, host: &str, told: &mut dialogue::Told, record: &mut Record) -> Way<()> {
        let wire = if self.with_tls { Box::new(self.tls.shake(host, wire, record).await?) } else { wire };
        self.dialogue.hold(wire, (&self.tls, host), told, record).await
    }
}

impl Tcp {
    /// Of what the module says.
    pub fn new(module: &probe::Tcp) -> Tcp {
        let inner = Inner { dialogue: Dialogue::new(&module.steps), with_tls: module.tls, tls: Tls::new(&module.tls_config, &[]) };
        Tcp { family: module.family, source: module.source, inner }
    }

    /// There is a handshake.
    pub fn computes(&self) -> bool {
        self.inner.computes()
    }

    /// Probes.
    pub async fn run(&self, ask: &Ask<'_>, told: &mut dialogue::Told, record: &mut Record) -> Way<()> {
        let (host, port) = host_port(ask.target)?;
        let address = resolve::resolve(host, self.family, ask.guard, record).await?;
        let stream = connect::tcp(SocketAddr::new(address, port), self.source, record).await?;
        self.inner.hold(Box::new(stream), ask.hostname.unwrap_or(host), told, record).await
    }
}

impl Unix {
    /// Of what the module says.
    pub fn new(module: &probe::Unix) -> Unix {
        Unix(Inner { dialogue: Dialogue::new(&module.steps), with_tls: module.tls, tls: Tls::new(&module.tls_config, &[]) })
    }

    /// There is a handshake.
    pub fn computes(&self) -> bool {
        self.0.computes()
    }

    /// Probes.
    pub async fn run(&self, ask: &Ask<'_>, told: &mut dialogue::Told, record: &mut Record) -> Way<()> {
        if let Some(guard) = ask.guard {
            guard.judge_path(ask.target)?;
        }
        record.begin("connect", || ask.target.to_owned());
        let stream = UnixStream::connect(ask.target).await.map_err(|error| of_io(&error, ask.target))?;
        record.end();
        // A path is no name: `server_name` says one.
        self.0.hold(Box::new(stream), "", told, record).await
    }
}

/// Metrics of either.
pub fn tell(told: dialogue::Told, record: &mut Record, (resolves, strict, failed): (bool, bool, bool)) {
    if resolves {
        resolve::tell(record);
    }
    dialogue::tell(told, record, strict);
    tls::tell(record, tls::Told::NoCipher, strict, failed);
}

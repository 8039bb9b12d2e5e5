//! Modules, ready to be used: expressions compiled, files named. One value is shared by all probes that use it, so that nothing is compiled or
//! read twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::probe;
use crate::config::probe::Kind as Configured;
use crate::probe::dns::Dns;
use crate::probe::grpc::Grpc;
use crate::probe::http::Http;
use crate::probe::tcp::Tcp;
use crate::probe::tcp::Unix;

/// A module, ready to be used.
#[derive(Debug)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// Of its own; the caller's is used where there is none, or it is shorter.
    pub timeout: Option<Duration>,
    /// What was written, without what may be a secret.
    pub shown: String,
    /// Be wrong where blackbox_exporter is.
    pub strict: bool,
    /// What is done.
    pub(super) kind: Kind,
}

/// A prober with what it is told.
#[derive(Debug)]
pub(super) enum Kind {
    Http(Box<Http>),
    Tcp(Box<Tcp>),
    Unix(Box<Unix>),
    Icmp(probe::Icmp),
    Dns(Box<Dns>),
    Grpc(Box<Grpc>),
}

/// All modules by name.
#[derive(Clone, Debug, Default)]
pub struct Modules(BTreeMap<String, Arc<Module>>);

/// Modules that are there without being written down: those of blackbox_exporter's package that need no word of explanation.
const SHIPPED: &str = include_str!("../../packaging/blackbox.yml");

impl Module {
    /// Of a name and what the configuration says.
    pub fn new(name: &str, module: &probe::Module, strict: bool) -> Module {
        let kind = match &module.kind {
            Configured::Http(http) => Kind::Http(Box::new(Http::new(http))),
            Configured::Tcp(tcp) => Kind::Tcp(Box::new(Tcp::new(tcp))),
            Configured::Unix(unix) => Kind::Unix(Box::new(Unix::new(unix))),
            Configured::Icmp(icmp) => Kind::Icmp(icmp.clone()),
            Configured::Dns(dns) => Kind::Dns(Box::new(Dns::new(dns))),
            Configured::Grpc(grpc) => Kind::Grpc(Box::new(Grpc::new(grpc))),
        };
        Module { name: name.to_owned(), timeout: module.timeout, shown: module.shown.clone(), strict, kind }
    }

    /// `Host`, if it is an HTTP module that says one.
    pub fn host(&self) -> Option<&str> {
        if let Kind::Http(http) = &self.kind { http.host() } else { None }
    }

    /// A look at this target does more than wait: handshakes of TLS and HTTP/2, unpacking, reading files. A redirect may lead to it all the same.
    pub fn computes(&self, target: &str) -> bool {
        match &self.kind {
            Kind::Http(http) => http.computes(target),
            Kind::Tcp(tcp) => tcp.computes(),
            Kind::Unix(unix) => unix.computes(),
            Kind::Icmp(_) => false,
            Kind::Dns(dns) => dns.computes(),
            Kind::Grpc(_) => true,
        }
    }

    /// How long a probe may take if whoever asks has this much time.
    pub fn timeout(&self, most: Duration) -> Duration {
        self.timeout.map_or(most, |own| own.min(most))
    }
}

impl Modules {
    /// Of these modules; later ones of the same name count, all of them more than the shipped ones.
    pub fn new<'a>(modules: impl IntoIterator<Item = &'a (String, probe::Module)>, strict: bool) -> Modules {
        // The file is a part of the program, read by a test.
        let shipped = probe::parse_file(SHIPPED).unwrap_or_default();
        let checked = |(name, module): &(String, probe::Module)| (name.clone(), Arc::new(Module::new(name, module, strict)));
        let mut all: BTreeMap<String, Arc<Module>> = shipped.iter().map(checked).collect();
        all.extend(modules.into_iter().map(checked));
        Modules(all)
    }

    /// By its name.
    pub fn get(&self, name: &str) -> Option<Arc<Module>> {
        self.0.get(name).cloned()
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_computes_is_known_before_it_begins() {
        let text = "modules:\n  packed: { prober: http, http: { compression: gzip } }\n  plain: { prober: http, http: { compression: identity } }\n  \
                    file: { prober: http, http: { authorization: { credentials_file: /x } } }\n  \
                    starts: { prober: tcp, tcp: { query_response: [ { starttls: true } ] } }\n  dot: { prober: dns, dns: { query_name: x, transport_protocol: tcp, dns_over_tls: true } }\n";
        let modules = Modules::new(&probe::parse_file(text).unwrap(), false);
        let computes = |name: &str, target: &str| modules.get(name).unwrap().computes(target);
        for (name, target, expected) in [
            ("http_2xx", "http://h/", false),
            ("http_2xx", "h", false),
            ("http_2xx", "HTTPS://h/", true),
            ("packed", "http://h/", true),
            ("plain", "http://h/", false),
            ("file", "http://h/", true),
            ("tcp_connect", "h:80", false),
            ("tls_connect", "h:443", true),
            ("starts", "h:25", true),
            ("icmp", "h", false),
            ("dns_soa", "h", false),
            ("dot", "h", true),
            ("grpc_plain", "h:80", true),
        ] {
            assert_eq!(computes(name, target), expected, "{name} {target}");
        }
    }
}

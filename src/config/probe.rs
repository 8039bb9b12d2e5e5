//! `probe:` of the configuration: modules in the words of blackbox_exporter's `blackbox.yml`, and whom `/probe` may be pointed at.
//!
//! A module file is read by the same code, so it can be named as it is or written into the configuration. Whatever can be judged without a
//! network is judged here, where the line is known: expressions, names of record types, contradictions. What sluice cannot do (TLS 1.0,
//! HTTP/3, websocket) is refused here and not at the first probe.

pub mod dialogue;
pub mod dns;
pub mod http;
pub mod net;
pub mod tls;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::probe::dialogue::Step;
use crate::config::probe::dns::Dns;
use crate::config::probe::http::Http;
use crate::config::probe::net::Net;
use crate::config::probe::tls::ProbeTls;
use crate::config::read::Node;
use crate::config::read::Problem;
use crate::config::read::Problems;
use crate::config::read::Refusal;
use crate::config::read::Section;
use crate::config::redact;
use crate::config::tree;
use crate::config::values;

/// What the section says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Probe {
    /// Modules written here, by name.
    pub modules: Vec<(String, Module)>,
    /// A `blackbox.yml` with more of them.
    pub modules_file: Option<PathBuf>,
    /// Be wrong where blackbox_exporter is.
    pub strict: bool,
    /// Whom `/probe` may be pointed at.
    pub ad_hoc: AdHoc,
}

/// Whom `/probe` may be pointed at; targets of jobs are not judged by it.
#[derive(Clone, Debug, PartialEq)]
pub struct AdHoc {
    /// Whether there is a `/probe` at all.
    pub enabled: bool,
    /// Only these, unless empty.
    pub allow: Vec<Net>,
    /// None of these.
    pub deny: Vec<Net>,
    /// Probes under way at the same time; above it whoever asks is told to wait.
    pub at_once: usize,
}

/// How something is probed.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// Of its own; the caller's is used where there is none.
    pub timeout: Option<Duration>,
    /// By which prober.
    pub kind: Kind,
    /// What was written, to be shown: without passwords and the like.
    pub shown: String,
}

/// A prober with its options.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A request.
    Http(Box<Http>),
    /// A connection, and what is said over it.
    Tcp(Tcp),
    /// The same over a socket of this host.
    Unix(Unix),
    /// An echo.
    Icmp(Icmp),
    /// A question to a name server.
    Dns(Box<Dns>),
    /// gRPC's health service.
    Grpc(Grpc),
}

/// Which kind of address is preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// IPv4 rather than IPv6.
    pub four: bool,
    /// The other kind will do where there is none of this.
    pub fallback: bool,
}

/// `tcp:`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tcp {
    /// Which address.
    pub family: Family,
    /// From where.
    pub source: Option<IpAddr>,
    /// What is said.
    pub steps: Vec<Step>,
    /// TLS from the first byte.
    pub tls: bool,
    /// How.
    pub tls_config: ProbeTls,
}

/// `unix:`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unix {
    /// What is said.
    pub steps: Vec<Step>,
    /// TLS from the first byte.
    pub tls: bool,
    /// How.
    pub tls_config: ProbeTls,
}

/// `icmp:`
#[derive(Clone, Debug, PartialEq)]
pub struct Icmp {
    /// Which address.
    pub family: Family,
    /// From where.
    pub source: Option<IpAddr>,
    /// Bytes behind the header; 0: 28.
    pub payload_size: usize,
    /// Too long for a link is an error.
    pub dont_fragment: bool,
    /// Routers that it may pass.
    pub ttl: u32,
}

/// `grpc:`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grpc {
    /// Whose health; empty: the server's.
    pub service: String,
    /// Over TLS.
    pub tls: bool,
    /// How.
    pub tls_config: ProbeTls,
    /// Which address.
    pub family: Family,
    /// Sent along.
    pub metadata: Vec<(String, String)>,
}

impl Default for Family {
    fn default() -> Family {
        Family { four: false, fallback: true }
    }
}

impl Default for AdHoc {
    fn default() -> AdHoc {
        // Where clouds keep what a machine may do; nothing that is watched stands there.
        let deny = ["169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128"].iter().filter_map(|net| net::parse(net).ok()).collect();
        AdHoc { enabled: true, allow: Vec::new(), deny, at_once: 2_000 }
    }
}

/// Reads the section.
pub fn read(section: &Section<'_>) -> Probe {
    let mut probe = Probe { modules_file: section.opt("modules_file", path), ..Probe::default() };
    probe.strict = section.or("compat", false, values::one_of(&[("sluice", false), ("strict", true)]));
    if let Some(ad_hoc) = section.below("ad_hoc") {
        probe.ad_hoc.enabled = ad_hoc.or("enabled", true, values::switch);
        let nets = |key| ad_hoc.get(key).map(|node| node.list().iter().filter_map(|net| net.value(net::parse)).collect());
        probe.ad_hoc.allow = nets("allow").unwrap_or_default();
        probe.ad_hoc.deny = nets("deny").unwrap_or(probe.ad_hoc.deny);
        let at_once = ad_hoc.opt("at_once", values::number(1..=100_000)).and_then(|number| usize::try_from(number).ok());
        probe.ad_hoc.at_once = at_once.unwrap_or(probe.ad_hoc.at_once);
        ad_hoc.finish();
    }
    if let Some(modules) = section.below("modules") {
        probe.modules = read_modules(&modules);
    }
    probe
}

/// Reads a `blackbox.yml`, with all ways of YAML that blackbox_exporter takes, or says everything that is wrong with it.
pub fn parse_file(text: &str) -> Result<Vec<(String, Module)>, Vec<Problem>> {
    let tree = tree::parse_foreign(text).map_err(super::broken)?;
    let problems = Problems::default();
    let top = Node::root(&tree, &problems).section();
    let modules = top.below("modules").map(|section| read_modules(&section)).unwrap_or_default();
    top.finish();
    let problems = problems.take();
    if problems.is_empty() { Ok(modules) } else { Err(problems) }
}

fn read_modules(section: &Section<'_>) -> Vec<(String, Module)> {
    section.pairs().filter_map(|(name, node)| Some((name.to_owned(), read_module(node)?))).collect()
}

fn read_module(node: &Node<'_>) -> Option<Module> {
    let section = node.section();
    let timeout = section.opt("timeout", values::duration).filter(|timeout| !timeout.is_zero());
    let words = ["http", "tcp", "icmp", "dns", "grpc", "unix", "websocket"];
    let word = section.must("prober", "write how it is probed: prober: http", |text| match words.iter().find(|word| **word == text) {
        Some(&"websocket") => Err(("is not among sluice's probers yet".into(), "leave this module to blackbox_exporter".into())),
        Some(word) => Ok(*word),
        None => Err((format!("must be one of: {}", words.join(", ")), String::new())),
    });
    // All of them are known keys, as in blackbox_exporter: a module may hold options of probers that it does not use.
    let http = section.below("http").map(|section| http::read(&section));
    let tcp = section.below("tcp").map(|section| read_tcp(&section));
    let icmp = section.below("icmp").map(|section| read_icmp(&section));
    let dns = section.below("dns").and_then(|section| dns::read(&section));
    let grpc = section.below("grpc").map(|section| read_grpc(&section));
    let unix = section.below("unix").map(|section| read_unix(&section));
    let has_dns = section.get("dns").is_some();
    section.get("websocket");
    section.finish();
    let kind = match word? {
        "http" => Kind::Http(Box::new(http.unwrap_or_default())),
        "tcp" => Kind::Tcp(tcp.unwrap_or_default()),
        "icmp" => Kind::Icmp(icmp.unwrap_or_default()),
        "grpc" => Kind::Grpc(grpc.unwrap_or_default()),
        "unix" => Kind::Unix(unix.unwrap_or_default()),
        _ => {
            if !has_dns {
                section.missing("dns", "write what is asked: dns: { query_name: www.example.com, query_type: A }");
            }
            Kind::Dns(Box::new(dns?))
        }
    };
    Some(Module { timeout, kind, shown: redact::shown_tree(node.tree()) })
}

impl Default for Icmp {
    fn default() -> Icmp {
        Icmp { family: Family::default(), source: None, payload_size: 0, dont_fragment: false, ttl: 64 }
    }
}

fn read_tcp(section: &Section<'_>) -> Tcp {
    let tcp = Tcp {
        family: family(section),
        source: source(section),
        steps: section.get("query_response").map(|node| dialogue::read(&node)).unwrap_or_default(),
        tls: section.or("tls", false, switch),
        tls_config: section.below("tls_config").map(|section| tls::read(&section)).unwrap_or_default(),
    };
    section.finish();
    tcp
}

fn read_unix(section: &Section<'_>) -> Unix {
    let unix = Unix {
        steps: section.get("query_response").map(|node| dialogue::read(&node)).unwrap_or_default(),
        tls: section.or("tls", false, switch),
        tls_config: section.below("tls_config").map(|section| tls::read(&section)).unwrap_or_default(),
    };
    section.finish();
    unix
}

fn read_icmp(section: &Section<'_>) -> Icmp {
    let icmp = Icmp {
        family: family(section),
        source: source(section),
        payload_size: usize::try_from(section.or("payload_size", 0, values::number(0..=65_000))).unwrap_or(0),
        dont_fragment: section.or("dont_fragment", false, switch),
        ttl: u32::try_from(section.or("ttl", 64, values::number(0..=255))).unwrap_or(64),
    };
    section.finish();
    icmp
}

fn read_grpc(section: &Section<'_>) -> Grpc {
    let mut metadata = Vec::new();
    if let Some(pairs) = section.below("metadata") {
        for (name, node) in pairs.pairs() {
            if !http::is_token(name) {
                node.complain("is no name of metadata", "letters, digits and hyphens, as x-api-key");
            }
            let values: Vec<&str> = if node.is_single() { node.text().into_iter().collect() } else { texts(node) };
            metadata.extend(values.into_iter().map(|value| (name.to_ascii_lowercase(), value.to_owned())));
        }
    }
    let grpc = Grpc {
        service: section.get("service").and_then(|node| if node.is_empty() { None } else { node.text() }).unwrap_or_default().to_owned(),
        tls: section.or("tls", false, switch),
        tls_config: section.below("tls_config").map(|section| tls::read(&section)).unwrap_or_default(),
        family: family(section),
        metadata,
    };
    section.finish();
    grpc
}

/// Reads which kind of address is preferred.
pub fn family(section: &Section<'_>) -> Family {
    let four = section.or("preferred_ip_protocol", false, values::one_of(&[("ip6", false), ("ip4", true)]));
    Family { four, fallback: section.or("ip_protocol_fallback", true, switch) }
}

/// Reads from which address it is asked.
pub fn source(section: &Section<'_>) -> Option<IpAddr> {
    section.opt("source_ip_address", |text| {
        text.parse().map_err(|_| ("must be an address of this machine".into(), "for example 10.1.2.3".into()))
    })
}

/// The texts of a list.
pub fn texts<'a>(node: &Node<'a>) -> Vec<&'a str> {
    node.list().iter().filter_map(Node::text).collect()
}

/// `true`, `false`, and YAML's other words for them.
pub fn switch(text: &str) -> Result<bool, Refusal> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "on" => Ok(true),
        "no" | "off" => Ok(false),
        word => values::switch(word),
    }
}

/// A regular expression that can be compiled.
pub fn pattern(text: &str) -> Result<String, Refusal> {
    match regex::Regex::new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Err((format!("is not a regular expression: {why}"), "the syntax is RE2's, as in Prometheus".into()))
        }
    }
}

/// A path. In modules a relative one begins where the process runs, as in blackbox_exporter.
pub fn path(text: &str) -> Result<PathBuf, Refusal> {
    if text.is_empty() { Err(("must not be empty".into(), "for example /etc/sluice/blackbox.yml".into())) } else { Ok(PathBuf::from(text)) }
}

#[cfg(test)]
mod tests;

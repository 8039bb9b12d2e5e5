//! `remote_write:` of a sink: a store that is written to by Remote Write. What only the HTTP client can judge (URL, names of headers) is checked by
//! `forward`, which owns the section.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::read::Refusal;
use crate::config::read::Section;
use crate::config::values;

/// A store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteWrite {
    /// Where requests go.
    pub url: String,
    /// Of Remote Write.
    pub protocol: Protocol,
    /// How requests are packed.
    pub compression: Compression,
    /// Sent with every request.
    pub headers: Vec<(String, String)>,
    /// How sluice shows who it is.
    pub login: Option<Login>,
    /// Whom it trusts.
    pub tls: ClientTls,
    /// Requests at the same time, of a shard.
    pub connections: u64,
    /// The most in a request.
    pub samples_per_request: u64,
    /// How long an answer is waited for.
    pub timeout: Duration,
    /// In which order a backlog goes out.
    pub catch_up: CatchUp,
    /// Samples of a tenant go in requests of their own, with its name in `X-Scope-OrgID`.
    pub pass_tenant: bool,
    /// The tenant of samples that have none.
    pub tenant: Option<String>,
}

/// A version of Remote Write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// 1.0, which every store speaks.
    V1,
    /// 2.0.
    V2,
}

/// How requests are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// What the specification asks for.
    Snappy,
    /// VictoriaMetrics' dialect: a third of the bytes.
    Zstd,
}

/// How sluice shows who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// Basic auth.
    Basic {
        /// The user.
        username: String,
        /// The file with the password, read again when it changes.
        password_file: PathBuf,
    },
    /// The file with a bearer token, read again when it changes.
    Bearer(PathBuf),
}

/// Whom sluice trusts, and what it shows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// PEM: the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM: a certificate of its own, and its key.
    pub own: Option<(PathBuf, PathBuf)>,
    /// The name that the store's certificate must have, where it is not the URL's.
    pub server_name: Option<String>,
}

/// In which order a backlog goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// The oldest first.
    InOrder,
    /// What is new goes ahead, the backlog follows between.
    FreshFirst,
}

impl RemoteWrite {
    /// A store with everything else at its default.
    pub fn new(url: &str) -> RemoteWrite {
        RemoteWrite {
            url: url.to_owned(),
            protocol: Protocol::V1,
            compression: Compression::Snappy,
            headers: Vec::new(),
            login: None,
            tls: ClientTls::default(),
            connections: 2,
            samples_per_request: 5000,
            timeout: Duration::from_secs(30),
            catch_up: CatchUp::InOrder,
            pass_tenant: false,
            tenant: None,
        }
    }
}

/// Reads the section.
pub fn read(section: &Section<'_>) -> Option<RemoteWrite> {
    let url = section.must("url", "write where the store takes samples: url: https://store.example/api/v1/write", values::url);
    let mut store = RemoteWrite::new(url.as_deref().unwrap_or_default());
    store.protocol = section.or("protocol", store.protocol, values::one_of(&[("v1", Protocol::V1), ("v2", Protocol::V2)]));
    let compression = section.get("compression");
    let compressions = values::one_of(&[("snappy", Compression::Snappy), ("zstd", Compression::Zstd)]);
    if let Some(chosen) = compression.as_ref().and_then(|node| node.value(compressions)) {
        store.compression = chosen;
    }
    if let Some(node) = compression.filter(|_| (store.protocol, store.compression) == (Protocol::V2, Compression::Zstd)) {
        node.complain("is VictoriaMetrics' dialect of 1.0; 2.0 is packed with snappy", "leave it out, or write protocol: v1");
    }
    store.headers = section.below("headers").map(|section| headers(&section)).unwrap_or_default();
    store.login = login(section);
    store.tls = section.below("tls").map(|section| tls(&section)).unwrap_or_default();
    store.connections = section.or("connections", store.connections, values::number(1..=32));
    store.samples_per_request = section.or("samples_per_request", store.samples_per_request, values::number(1..=100_000));
    store.timeout = section.or("timeout", store.timeout, values::duration_in(Duration::from_secs(1)..=Duration::from_secs(300)));
    let orders = values::one_of(&[("in_order", CatchUp::InOrder), ("fresh_first", CatchUp::FreshFirst)]);
    store.catch_up = section.or("catch_up", store.catch_up, orders);
    store.pass_tenant = section.or("pass_tenant", false, values::switch);
    store.tenant = section.opt("tenant", values::text);
    section.finish();
    url.map(|_| store)
}

fn headers(section: &Section<'_>) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, node) in section.pairs() {
        match owner(name) {
            Some(remedy) => node.complain_unshown("is a header that sluice sets itself", remedy),
            None => headers.extend(node.text().map(|value| (name.to_owned(), value.to_owned()))),
        }
    }
    headers
}

/// What to write instead of a header that is not to be set by hand.
fn owner(name: &str) -> Option<&'static str> {
    match name.to_ascii_lowercase().as_str() {
        "authorization" => Some("write basic_auth or bearer_token_file, so that the secret stays out of the settings"),
        "content-type" | "content-encoding" | "x-prometheus-remote-write-version" | "x-victoriametrics-remote-write-version" => {
            Some("protocol and compression say it")
        }
        "content-length" | "transfer-encoding" | "connection" | "host" | "expect" | "user-agent" | "retry-attempt" => Some("leave it out"),
        _ => None,
    }
}

/// Reads `basic_auth:` or `bearer_token_file:`.
pub fn login(section: &Section<'_>) -> Option<Login> {
    let basic = section.below("basic_auth").and_then(|section| {
        let username = section.must("username", "write the user's name", values::text);
        let remedy = "write the path of a file that holds the password: it must not stand in settings, which all nodes show";
        let password_file = match section.get("password") {
            Some(node) => {
                node.complain_unshown("does not stand here", remedy.replace("write", "write password_file:"));
                section.opt("password_file", absolute)
            }
            None => section.must("password_file", remedy, absolute),
        };
        section.finish();
        Some(Login::Basic { username: username?, password_file: password_file? })
    });
    if let Some(node) = section.get("bearer_token") {
        node.complain_unshown("does not stand here", "write bearer_token_file: the path of a file that holds the token");
    }
    let bearer = section.get("bearer_token_file");
    let token_file = bearer.as_ref().and_then(|node| node.value(absolute)).map(Login::Bearer);
    if let Some(node) = bearer.filter(|_| section.get("basic_auth").is_some()) {
        node.complain("is a second way to show who sluice is, beside basic_auth", "keep one of the two");
    }
    basic.or(token_file)
}

/// Reads `tls:`.
pub fn tls(section: &Section<'_>) -> ClientTls {
    let ca_file = section.opt("ca_file", absolute);
    let server_name = section.opt("server_name", values::text);
    let own = match (section.get("cert_file"), section.get("key_file")) {
        (None, None) => None,
        (Some(certificate), Some(key)) => certificate.value(absolute).zip(key.value(absolute)),
        (Some(node), None) | (None, Some(node)) => {
            node.complain("is half of a pair", "write both cert_file and key_file");
            None
        }
    };
    section.finish();
    ClientTls { ca_file, own, server_name }
}

/// Settings are the same on all nodes, and have no directory.
pub fn absolute(text: &str) -> Result<PathBuf, Refusal> {
    if Path::new(text).is_absolute() {
        return Ok(PathBuf::from(text));
    }
    Err(("must be a whole path, since sinks are the same on all nodes".into(), "for example /etc/sluice/store.password".into()))
}

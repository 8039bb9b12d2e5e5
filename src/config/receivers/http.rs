//! `http_config:` as all programs of Prometheus' family have it: proxy, TLS, passwords and tokens, headers.
//!
//! Left out, and reported where it is written: `oauth2`, proxies by the environment, certificates within the file, and TLS that nobody checks.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::read::Node;
use crate::config::read::Problem;
use crate::config::receivers::Fields;
use crate::config::receivers::Secret;
use crate::config::receivers::TIMEOUT;
use crate::config::remote_write::ClientTls;
use crate::config::values;

/// How something is reached by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// How sluice shows who it is.
    pub login: Option<Login>,
    /// Whom it trusts.
    pub tls: ClientTls,
    /// By way of this one.
    pub proxy: Option<Secret>,
    /// Hosts that are reached without the proxy.
    pub no_proxy: Vec<String>,
    /// Sent with every request.
    pub headers: Vec<(String, Secret)>,
    /// Whether a redirect (307, 308) is followed.
    pub redirects: bool,
    /// How long an answer is waited for, all in all.
    pub timeout: Duration,
    /// What is written and cannot be done.
    pub unserved: Vec<Problem>,
}

/// How sluice shows who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// Basic auth.
    Basic(Secret, Option<Secret>),
    /// `Authorization: SCHEME CREDENTIALS`
    Header(String, Secret),
}

impl Default for Http {
    fn default() -> Http {
        let (tls, headers) = (ClientTls::default(), Vec::new());
        Http { login: None, tls, proxy: None, no_proxy: Vec::new(), headers, redirects: true, timeout: TIMEOUT, unserved: Vec::new() }
    }
}

impl Http {
    /// Reads the section.
    pub fn read(node: &Node<'_>) -> Http {
        let fields = Fields { section: node.section(), unserved: RefCell::default() };
        let section = &fields.section;
        let mut logins = Vec::new();
        if let Some(node) = section.get("basic_auth") {
            logins.extend(basic(&node));
        }
        if let Some(node) = section.get("authorization") {
            let below = Fields { section: node.section(), unserved: RefCell::default() };
            let scheme = below.single("type").map_or_else(|| "Bearer".to_owned(), |(_, text)| text.trim().to_owned());
            let secret = below.must("credentials", "credentials_file", None, "write credentials_file: the path of a file that holds them");
            below.section.finish();
            logins.extend(secret.map(|secret| Login::Header(scheme, secret)));
        }
        logins.extend(fields.secret("bearer_token", "bearer_token_file").map(|secret| Login::Header("Bearer".to_owned(), secret)));
        if logins.len() > 1 {
            let rule = "at most one of basic_auth, authorization, bearer_token & bearer_token_file must be configured";
            node.complain_unshown(rule, "keep one of them");
        }
        let no_proxy = fields.single("no_proxy").map(|(_, text)| text).unwrap_or_default();
        let headers = section.get("http_headers").map(|node| headers(&node)).unwrap_or_default();
        fields.refuse("oauth2", "sluice cannot fetch tokens for receivers", "let a proxy beside it do it, or use a token from a file");
        fields.refuse("proxy_from_environment", "all nodes must do the same, and their environments may differ", "write proxy_url");
        fields.refuse("proxy_connect_header", "sluice gives a proxy no headers", "leave it out");
        let _ = section.opt("enable_http2", values::switch);
        let http = Http {
            login: logins.into_iter().next(),
            tls: section.get("tls_config").map(|node| tls(&node, &fields)).unwrap_or_default(),
            proxy: fields.single("proxy_url").map(|(_, text)| text).filter(|text| !text.is_empty()).map(Secret::Here),
            no_proxy: no_proxy.split(',').map(|host| host.trim().to_owned()).filter(|host| !host.is_empty()).collect(),
            headers,
            redirects: section.or("follow_redirects", true, values::switch),
            ..Http::default()
        };
        fields.section.finish();
        Http { unserved: fields.unserved.into_inner(), ..http }
    }
}

fn basic(node: &Node<'_>) -> Option<Login> {
    let below = Fields { section: node.section(), unserved: RefCell::default() };
    let user = below.must("username", "username_file", None, "write the user's name");
    let password = below.secret("password", "password_file");
    below.section.finish();
    Some(Login::Basic(user?, password))
}

/// Reads `tls_config:`.
pub fn tls(node: &Node<'_>, fields: &Fields<'_>) -> ClientTls {
    let below = Fields { section: node.section(), unserved: RefCell::default() };
    let path = |key| below.single(key).map(|(_, text)| text).filter(|text| !text.is_empty()).map(PathBuf::from);
    let remedy = "name a file with it: ca_file, cert_file, key_file";
    for key in ["ca", "cert", "key"] {
        below.refuse(key, "certificates and keys do not stand in this file", remedy);
    }
    below.refuse("insecure_skip_verify", "sluice speaks to nobody whose certificate is not checked", "name the authority: ca_file");
    let _ = (below.single("min_version"), below.single("max_version"));
    let own = path("cert_file").zip(path("key_file"));
    if own.is_none() && (path("cert_file").is_some() || path("key_file").is_some()) {
        node.complain_unshown("is half of a pair", "write both cert_file and key_file");
    }
    let tls = ClientTls {
        ca_file: path("ca_file"),
        own,
        server_name: below.single("server_name").map(|(_, text)| text).filter(|text| !text.is_empty()),
    };
    below.section.finish();
    fields.unserved.borrow_mut().append(&mut below.unserved.borrow_mut());
    tls
}

/// `http_headers: { X-Name: { values: [], secrets: [], files: [] } }`, and the short form of ours: `X-Name: value`.
pub fn headers(node: &Node<'_>) -> Vec<(String, Secret)> {
    let mut headers = Vec::new();
    for (name, node) in node.section().pairs() {
        let known = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        let ours = ["content-length", "host", "connection", "transfer-encoding"];
        if !known || ours.contains(&name.to_ascii_lowercase().as_str()) {
            node.complain_unshown("is no header that can be set here", "leave it out, or write another name");
            continue;
        }
        let Some(section) = node.section_if_any() else {
            headers.extend(node.text().map(|value| (name.to_owned(), Secret::Here(value.to_owned()))));
            continue;
        };
        let below = Fields { section, unserved: RefCell::default() };
        let here = below.list("values").into_iter().chain(below.list("secrets")).map(Secret::Here);
        let all: Vec<Secret> = here.chain(below.list("files").into_iter().map(|path| Secret::File(path.into()))).collect();
        below.section.finish();
        headers.extend(all.into_iter().map(|secret| (name.to_owned(), secret)));
    }
    headers
}

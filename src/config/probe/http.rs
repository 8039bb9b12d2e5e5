//! `http:` of a module: the request, what the answer must be, and the options that blackbox_exporter takes from Prometheus' HTTP client.

use std::path::PathBuf;

use crate::config::probe::Family;
use crate::config::probe::family;
use crate::config::probe::path;
use crate::config::probe::pattern;
use crate::config::probe::switch;
use crate::config::probe::texts;
use crate::config::probe::tls;
use crate::config::probe::tls::ProbeTls;
use crate::config::read::Node;
use crate::config::read::Refusal;
use crate::config::read::Section;
use crate::config::values;

/// `http:`
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// Good answers; none: 200 to 299.
    pub statuses: Vec<u16>,
    /// Good versions, as `HTTP/1.1`; none: all.
    pub versions: Vec<String>,
    /// GET and so on.
    pub method: String,
    /// Sent along.
    pub headers: Vec<(String, String)>,
    /// Sent along, out of files perhaps.
    pub more_headers: Vec<(String, Value)>,
    /// The request's body.
    pub body: Option<Secret>,
    /// So long may the answer's be; 0: as long as it likes.
    pub body_most: u64,
    /// The body comes packed so.
    pub compression: Option<Compression>,
    /// Goes where it is sent.
    pub follow_redirects: bool,
    /// The last answer must not come over TLS.
    pub fail_if_ssl: bool,
    /// It must.
    pub fail_if_not_ssl: bool,
    /// The body must match none of these,
    pub body_matches: Vec<String>,
    /// and all of these.
    pub body_not_matches: Vec<String>,
    /// The body, as JSON, must not be so.
    pub cel_matches: Option<String>,
    /// It must be so.
    pub cel_not_matches: Option<String>,
    /// No value of this header may match.
    pub header_matches: Vec<HeaderMatch>,
    /// One must.
    pub header_not_matches: Vec<HeaderMatch>,
    /// Which address.
    pub family: Family,
    /// The proxy resolves the name.
    pub skip_resolve_with_proxy: bool,
    /// How sluice shows who it is.
    pub login: Option<Login>,
    /// By way of whom.
    pub proxy: Proxy,
    /// HTTP/2 where the server speaks it.
    pub http2: bool,
    /// TLS.
    pub tls: ProbeTls,
}

/// Values of a header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Value {
    /// Written down.
    pub texts: Vec<String>,
    /// The same, for the host that is asked and no other.
    pub secrets: Vec<String>,
    /// In files, for that host, too.
    pub files: Vec<PathBuf>,
}

/// What may be a secret: written down, or in a file that is read at every probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// Written down.
    Text(String),
    /// In a file.
    File(PathBuf),
}

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// `gzip`
    Gzip,
    /// `br`
    Brotli,
    /// `deflate`
    Deflate,
    /// `identity`
    Identity,
}

/// A header and an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    /// The header's name.
    pub header: String,
    /// The expression.
    pub pattern: String,
    /// A missing header is no failure.
    pub allow_missing: bool,
}

/// How sluice shows who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// Basic auth.
    Basic {
        /// The user.
        username: Secret,
        /// The password.
        password: Secret,
    },
    /// `Authorization: KIND TOKEN`.
    Token {
        /// `Bearer`.
        kind: String,
        /// The token.
        token: Secret,
    },
    /// A token that is fetched first.
    OAuth2(Box<OAuth2>),
}

/// Client credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuth2 {
    /// Who asks.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
    /// For what.
    pub scopes: Vec<String>,
    /// Where tokens are made.
    pub token_url: String,
    /// Sent along.
    pub params: Vec<(String, String)>,
    /// TLS to there.
    pub tls: ProbeTls,
}

/// By way of whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxy {
    /// For http://.
    pub http: Option<String>,
    /// For https://.
    pub https: Option<String>,
    /// Not for these hosts.
    pub except: Option<String>,
    /// Sent with CONNECT.
    pub connect_headers: Vec<(String, String)>,
}

impl Default for Http {
    fn default() -> Http {
        Http {
            statuses: Vec::new(),
            versions: Vec::new(),
            method: "GET".to_owned(),
            headers: Vec::new(),
            more_headers: Vec::new(),
            body: None,
            body_most: 0,
            compression: None,
            follow_redirects: true,
            fail_if_ssl: false,
            fail_if_not_ssl: false,
            body_matches: Vec::new(),
            body_not_matches: Vec::new(),
            cel_matches: None,
            cel_not_matches: None,
            header_matches: Vec::new(),
            header_not_matches: Vec::new(),
            family: Family::default(),
            skip_resolve_with_proxy: false,
            login: None,
            proxy: Proxy::default(),
            http2: true,
            tls: ProbeTls::default(),
        }
    }
}

/// Reads the section.
pub fn read(section: &Section<'_>) -> Http {
    let default = Http::default();
    let patterns =
        |key| section.get(key).map(|node| node.list().iter().filter_map(|node| node.value(pattern)).collect()).unwrap_or_default();
    let matches = |key| section.get(key).map(|node| node.list().iter().filter_map(header_match).collect()).unwrap_or_default();
    let cel = |key| section.get(key).filter(|node| !node.is_empty()).and_then(|node| node.value(expression));
    let mut http = Http {
        statuses: section.get("valid_status_codes").map(|node| statuses(&node)).unwrap_or_default(),
        versions: section.get("valid_http_versions").map(|node| versions(&node)).unwrap_or_default(),
        method: section.get("method").filter(|node| !node.is_empty()).and_then(|node| node.value(method)).unwrap_or(default.method),
        headers: section.below("headers").map(|section| headers(&section)).unwrap_or_default(),
        more_headers: section.below("http_headers").map(|section| more_headers(&section)).unwrap_or_default(),
        body: secret(section, "body", "body_file"),
        body_most: section.or("body_size_limit", 0, base2),
        compression: section.get("compression").filter(|node| !node.is_empty()).and_then(|node| node.value(compression())),
        follow_redirects: section.or("follow_redirects", true, switch),
        fail_if_ssl: section.or("fail_if_ssl", false, switch),
        fail_if_not_ssl: section.or("fail_if_not_ssl", false, switch),
        body_matches: patterns("fail_if_body_matches_regexp"),
        body_not_matches: patterns("fail_if_body_not_matches_regexp"),
        cel_matches: cel("fail_if_body_json_matches_cel"),
        cel_not_matches: cel("fail_if_body_json_not_matches_cel"),
        header_matches: matches("fail_if_header_matches"),
        header_not_matches: matches("fail_if_header_not_matches"),
        family: family(section),
        skip_resolve_with_proxy: section.or("skip_resolve_phase_with_proxy", false, switch),
        login: login(section),
        proxy: proxy(section),
        http2: section.or("enable_http2", true, switch),
        tls: section.below("tls_config").map(|section| tls::read(&section)).unwrap_or_default(),
    };
    if let Some(stay) = section.opt("no_follow_redirects", switch) {
        http.follow_redirects = !stay;
    }
    if let Some(node) = section.get("enable_http3")
        && node.value(switch) == Some(true)
    {
        node.complain("is not spoken by sluice", "leave this module to blackbox_exporter, or probe the server by HTTP/2");
    }
    let accepted = http.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("accept-encoding"));
    if let (Some(word), Some((_, accepted)), Some(node)) = (http.compression.map(Compression::word), accepted, section.get("compression"))
        && !accepts(accepted, word)
    {
        node.complain(
            format!("is ruled out by the header Accept-Encoding: {accepted}"),
            format!("write Accept-Encoding: {word}, or leave it out"),
        );
    }
    section.finish();
    http
}

impl Compression {
    /// As it stands in Accept-Encoding.
    pub fn word(self) -> &'static str {
        match self {
            Compression::Gzip => "gzip",
            Compression::Brotli => "br",
            Compression::Deflate => "deflate",
            Compression::Identity => "identity",
        }
    }
}

/// An expression of CEL.
fn expression(text: &str) -> Result<String, Refusal> {
    match cel::Program::compile(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(errors) => Err((
            format!("is no expression of CEL: {}", errors.to_string().lines().next().unwrap_or_default()),
            "write one in which `body` is the JSON of the answer: body.status == 'ok'".to_owned(),
        )),
    }
}

fn compression() -> impl FnOnce(&str) -> Result<Compression, Refusal> {
    values::one_of(&[
        ("gzip", Compression::Gzip),
        ("br", Compression::Brotli),
        ("deflate", Compression::Deflate),
        ("identity", Compression::Identity),
    ])
}

fn statuses(node: &Node<'_>) -> Vec<u16> {
    node.list().iter().filter_map(|node| node.value(values::number(100..=999))).filter_map(|code| u16::try_from(code).ok()).collect()
}

fn versions(node: &Node<'_>) -> Vec<String> {
    let known = |text: &str| match text {
        "HTTP/1.0" | "HTTP/1.1" | "HTTP/2.0" => Ok(text.to_owned()),
        // Never what Go calls it; written by blackbox_exporter's own example all the same.
        "HTTP/2" => Ok("HTTP/2.0".to_owned()),
        _ => Err(("must be one of: HTTP/1.0, HTTP/1.1, HTTP/2.0".to_owned(), "HTTP/3 is not spoken by sluice".to_owned())),
    };
    node.list().iter().filter_map(|node| node.value(known)).collect()
}

fn method(text: &str) -> Result<String, Refusal> {
    if is_token(text) { Ok(text.to_owned()) } else { Err(("is no method of HTTP".into(), "for example GET".into())) }
}

/// A name of a header or a method, by HTTP's rule.
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn header_value(node: &Node<'_>, name: &str, value: &str) -> bool {
    let good = is_token(name) && value.bytes().all(|byte| byte == b'\t' || byte >= 0x20 && byte != 0x7f);
    if !good {
        node.complain_unshown("is no header of HTTP", "a name of letters, digits and hyphens, a value without line breaks");
    }
    good
}

fn headers(section: &Section<'_>) -> Vec<(String, String)> {
    let pairs = section.pairs().filter_map(|(name, node)| {
        let value = if node.is_empty() { "" } else { node.text()? };
        header_value(node, name, value).then(|| (name.to_owned(), value.to_owned()))
    });
    pairs.collect()
}

fn more_headers(section: &Section<'_>) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for (name, node) in section.pairs() {
        let below = node.section();
        let mut value = Value::default();
        for (key, out) in [("values", &mut value.texts), ("secrets", &mut value.secrets)] {
            let texts = below.get(key).map(|node| texts(&node)).unwrap_or_default();
            out.extend(texts.into_iter().filter(|text| header_value(node, name, text)).map(str::to_owned));
        }
        value.files = below.get("files").map(|node| texts(&node).into_iter().map(PathBuf::from).collect()).unwrap_or_default();
        below.finish();
        all.push((name.to_owned(), value));
    }
    all
}

fn header_match(node: &Node<'_>) -> Option<HeaderMatch> {
    let section = node.section();
    let header = section.must("header", "write the header's name", method);
    let pattern = section.must("regexp", "write the expression", pattern);
    let allow_missing = section.or("allow_missing", false, switch);
    section.finish();
    Some(HeaderMatch { header: header?, pattern: pattern?, allow_missing })
}

/// A text, or the file that holds it.
fn secret(section: &Section<'_>, key: &'static str, file: &'static str) -> Option<Secret> {
    let text =
        section.get(key).filter(|node| !node.is_empty()).and_then(|node| node.text().map(str::to_owned)).filter(|text| !text.is_empty());
    let path = section.opt(file, path);
    match (text, path) {
        (Some(_), Some(_)) => {
            if let Some(node) = section.get(file) {
                node.complain(format!("stands beside {key}"), "keep one of the two");
            }
            None
        }
        (Some(text), None) => Some(Secret::Text(text)),
        (None, path) => path.map(Secret::File),
    }
}

fn login(section: &Section<'_>) -> Option<Login> {
    let mut logins = Vec::new();
    if let Some(basic) = section.below("basic_auth") {
        let empty = || Secret::Text(String::new());
        let username = secret(&basic, "username", "username_file").unwrap_or_else(empty);
        let password = secret(&basic, "password", "password_file").unwrap_or_else(empty);
        basic.finish();
        logins.push(Login::Basic { username, password });
    }
    if let Some(authorization) = section.below("authorization") {
        let kind = authorization.get("type").filter(|node| !node.is_empty()).and_then(|node| node.text()).unwrap_or("Bearer").to_owned();
        if kind.eq_ignore_ascii_case("basic") {
            authorization.node().complain("cannot be basic", "write basic_auth: { username: ..., password_file: ... }");
        }
        let token = secret(&authorization, "credentials", "credentials_file");
        authorization.finish();
        logins.extend(token.map(|token| Login::Token { kind, token }));
    }
    let bearer = secret(section, "bearer_token", "bearer_token_file");
    logins.extend(bearer.map(|token| Login::Token { kind: "Bearer".to_owned(), token }));
    if let Some(below) = section.below("oauth2") {
        logins.extend(oauth2(&below).map(|oauth2| Login::OAuth2(Box::new(oauth2))));
    }
    if logins.len() > 1 {
        section.node().complain_unshown(
            "shows in two ways who sluice is",
            "keep one of basic_auth, authorization, bearer_token, bearer_token_file and oauth2",
        );
    }
    logins.pop()
}

fn oauth2(section: &Section<'_>) -> Option<OAuth2> {
    let client_id = section.must("client_id", "write who asks for the token", values::text);
    let client_secret = secret(section, "client_secret", "client_secret_file");
    if client_secret.is_none() {
        section.missing("client_secret_file", "write the path of a file that holds the secret");
    }
    let token_url = section.must("token_url", "write where tokens are made", values::url);
    let params = section
        .below("endpoint_params")
        .map(|pairs| pairs.pairs().filter_map(|(name, node)| Some((name.to_owned(), node.text()?.to_owned()))).collect());
    let scopes = section.get("scopes").map(|node| texts(&node).into_iter().map(str::to_owned).collect());
    let tls = section.below("tls_config").map(|section| tls::read(&section));
    section.finish();
    Some(OAuth2 {
        client_id: client_id?,
        client_secret: client_secret?,
        scopes: scopes.unwrap_or_default(),
        token_url: token_url?,
        params: params.unwrap_or_default(),
        tls: tls.unwrap_or_default(),
    })
}

fn proxy(section: &Section<'_>) -> Proxy {
    let mut connect_headers = Vec::new();
    if let Some(pairs) = section.below("proxy_connect_header") {
        for (name, node) in pairs.pairs() {
            let values: Vec<&str> = if node.is_single() { node.text().into_iter().collect() } else { texts(node) };
            connect_headers.extend(
                values.into_iter().filter(|value| header_value(node, name, value)).map(|value| (name.to_owned(), value.to_owned())),
            );
        }
    }
    let url = section.get("proxy_url").filter(|node| !node.is_empty());
    let except = section.get("no_proxy").filter(|node| !node.is_empty());
    let from_environment = section.or("proxy_from_environment", false, switch);
    if let (true, Some(node)) = (from_environment, section.get("proxy_from_environment"))
        && (url.is_some() || except.is_some())
    {
        node.complain("stands beside proxy_url or no_proxy", "keep one of them");
    }
    if let Some(node) = except.as_ref().filter(|_| url.is_none()) {
        node.complain("stands without proxy_url", "write proxy_url, or leave it out");
    }
    if from_environment {
        match of_environment(|name| std::env::var(name).ok()) {
            Ok(proxy) => return Proxy { connect_headers, ..proxy },
            Err((rule, remedy)) => section.node().complain_unshown(rule, remedy),
        }
    }
    let url = url.and_then(|node| node.value(proxy_url));
    Proxy { http: url.clone(), https: url, except: except.and_then(|node| node.value(values::text)), connect_headers }
}

/// As curl and Go read it, when the configuration is read. What is wrong is told without the value, in which a password may stand.
fn of_environment(of: impl Fn(&str) -> Option<String>) -> Result<Proxy, Refusal> {
    let named = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, of(name).filter(|value| !value.is_empty())?)));
    let proxy = |names| {
        let Some((name, value)) = named(names) else { return Ok(None) };
        // Without a scheme it is HTTP there.
        let url = if value.contains("://") { value } else { format!("http://{value}") };
        proxy_url(&url)
            .map(Some)
            .map_err(|(_, remedy)| (format!("takes {name} of the environment, which does not begin with http://"), remedy))
    };
    Ok(Proxy {
        http: proxy(["HTTP_PROXY", "http_proxy"])?,
        https: proxy(["HTTPS_PROXY", "https_proxy"])?,
        except: named(["NO_PROXY", "no_proxy"]).map(|(_, value)| value).or(Some(String::new())),
        connect_headers: Vec::new(),
    })
}

/// A proxy is reached by HTTP, in clear; a user and a password may stand in its URL.
fn proxy_url(text: &str) -> Result<String, Refusal> {
    let rest = text.strip_prefix("http://").filter(|rest| !rest.is_empty());
    match rest {
        Some(_) => Ok(text.to_owned()),
        None => Err(("must begin with http://".into(), "other kinds of proxies (https, socks5) are not spoken to by sluice".into())),
    }
}

/// Bytes with units of 1024, whatever they are called: `1MB` is 1048576, as blackbox_exporter reads it.
fn base2(text: &str) -> Result<u64, Refusal> {
    let binary = text.strip_suffix('B').filter(|rest| rest.ends_with(['K', 'M', 'G', 'T'])).map(|rest| format!("{rest}iB"));
    values::size(binary.as_deref().unwrap_or(text))
}

/// Whether a list of encodings with weights takes `wanted`.
pub fn accepts(list: &str, wanted: &str) -> bool {
    let mut parts: Vec<(&str, f32)> = list
        .split(',')
        .map(|part| match part.rsplit_once(';') {
            None => (part.trim(), 1.0),
            Some((name, weight)) => {
                let weight = weight.trim();
                (name.trim(), weight.strip_prefix("q=").unwrap_or(weight).parse().unwrap_or(0.0))
            }
        })
        .collect();
    parts.sort_by(|a, b| b.1.total_cmp(&a.1));
    parts.iter().find(|(name, _)| *name == wanted || *name == "*").is_some_and(|(_, weight)| *weight >= 0.0005)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_of_the_environment_is_http_or_told_to_be_none() {
        let of = |name: &'static str, value: &str| {
            let value = value.to_owned();
            of_environment(move |asked| (asked == name).then(|| value.clone()))
        };
        for good in ["http://u:p@proxy:3128", "u:p@proxy:3128"] {
            let proxy = of("https_proxy", good).unwrap();
            assert_eq!((proxy.http, proxy.https.as_deref()), (None, Some("http://u:p@proxy:3128")));
        }
        for wrong in ["https://u:p@proxy:3128", "socks5://u:p@proxy", "http://"] {
            let (rule, remedy) = of("HTTPS_PROXY", wrong).unwrap_err();
            assert!(rule.contains("HTTPS_PROXY") && !rule.contains("u:p") && !remedy.is_empty(), "{rule}");
        }
        assert_eq!(of("no_proxy", "a").unwrap().except.as_deref(), Some("a"));
        assert_eq!(of("HTTP_PROXY", "").unwrap().http, None);
    }
}

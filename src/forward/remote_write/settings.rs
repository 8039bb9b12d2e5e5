//! What a remote-write sink is told to do, checked: holding [`StoreSettings`] proves that a request can be made of them.
//!
//! Pure: nothing is opened or resolved here. Files (passwords, certificates) may be there on one node and not on another, so what is wrong with them is
//! a trouble of the sink on that node, and no reason to refuse settings that count for all.

use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;

use crate::config::remote_write::CatchUp;
use crate::config::remote_write::ClientTls;
use crate::config::remote_write::Compression;
use crate::config::remote_write::Login;
use crate::config::remote_write::Protocol as Version;
use crate::config::remote_write::RemoteWrite;
use crate::forward::settings::Problem;
use crate::model::tenant;
use crate::wire::pack::Packing;
use crate::wire::remote_write::Protocol;

/// A remote-write sink, checked.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// As written: for people.
    pub url: String,
    /// Where to connect to.
    pub place: Place,
    /// Of Remote Write.
    pub protocol: Protocol,
    /// How requests are packed.
    pub packing: Packing,
    /// Sent with every request. They may hold secrets.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How sluice shows who it is.
    pub login: Option<Login>,
    /// Requests at the same time, of a shard.
    pub connections: usize,
    /// The most in a request.
    pub samples_per_request: usize,
    /// How long an answer is waited for.
    pub timeout: Duration,
    /// After an outage new samples go ahead of the backlog.
    pub fresh_first: bool,
    /// Whether, and how, requests say whose samples they hold.
    pub tenants: Tenants,
}

/// Whether, and how, requests say whose samples they hold: then each holds those of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenants {
    /// In `X-Scope-OrgID`.
    pub header: bool,
    /// In the URL.
    pub url: bool,
    /// Whose samples are that are nobody's.
    pub default: Option<String>,
}

/// Where a URL leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// With TLS.
    pub tls: Option<Tls>,
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Host and port as they stand in the URL: HTTP's `Host`.
    pub authority: String,
    /// Path and query.
    pub path: String,
}

/// TLS towards a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The name that its certificate must have.
    pub name: String,
    /// The authorities to trust instead of the system's.
    pub authorities: Option<PathBuf>,
    /// A certificate of sluice's own, and its key.
    pub own: Option<(PathBuf, PathBuf)>,
}

impl StoreSettings {
    /// Checks everything, and tells everything that is wrong.
    pub fn check(store: &RemoteWrite) -> Result<StoreSettings, Vec<Problem>> {
        let mut problems = Vec::new();
        let place = Place::of(&store.url, &store.tls).map_err(|problem| problems.push(problem)).ok();
        let mut headers = Vec::new();
        for (name, value) in &store.headers {
            // A value that is shown could be a secret.
            let problem = |rule: &str, remedy: &str| Problem {
                key: format!("headers.{name}"),
                value: "(not shown)".to_owned(),
                rule: rule.to_owned(),
                remedy: remedy.to_owned(),
            };
            match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
                (Ok(name), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.push((name, value));
                }
                (Err(_), _) => problems.push(problem("is no name of a header", "letters, digits and hyphens, as X-Scope-OrgID")),
                (_, Err(_)) => problems.push(problem("has a value that no header can have", "printable ASCII, without line breaks")),
            }
        }
        let tenants = tenants(store, &mut problems);
        match place {
            Some(place) if problems.is_empty() => Ok(StoreSettings {
                url: store.url.clone(),
                place,
                protocol: if store.protocol == Version::V2 { Protocol::V2 } else { Protocol::V1 },
                packing: if store.compression == Compression::Zstd { Packing::Zstd } else { Packing::Snappy },
                headers,
                login: store.login.clone(),
                connections: usize::try_from(store.connections).unwrap_or(1).max(1),
                samples_per_request: usize::try_from(store.samples_per_request).unwrap_or(usize::MAX).max(1),
                timeout: store.timeout,
                fresh_first: store.catch_up == CatchUp::FreshFirst,
                tenants,
            }),
            _ => Err(problems),
        }
    }

    /// Whose samples a request is said to hold, of a tenant's or, where that is empty, of nobody's; empty: it says nothing.
    pub fn tenant_of<'a>(&'a self, tenant: &'a str) -> &'a str {
        match (self.tenants.header || self.tenants.url, tenant) {
            (false, _) => "",
            (true, "") => self.tenants.default.as_deref().unwrap_or_default(),
            (true, tenant) => tenant,
        }
    }

    /// The version's number, for people.
    pub fn version(&self) -> &'static str {
        match self.protocol {
            Protocol::V1 => "1.0",
            Protocol::V2 => "2.0",
        }
    }
}

impl Place {
    /// Where this URL leads, with TLS as it is asked for.
    pub fn of(url: &str, tls: &ClientTls) -> Result<Place, Problem> {
        place(url, tls)
    }
}

/// Where a tenant stands in a URL.
pub const SLOT: &str = "{{__tenant__}}";
/// What stands there while the URL is read as one.
const STAND_IN: &str = "__tenant__";

fn tenants(store: &RemoteWrite, problems: &mut Vec<Problem>) -> Tenants {
    let mut problem = |key: &str, value: &str, rule: &str, remedy: &str| {
        problems.push(Problem { key: key.to_owned(), value: value.to_owned(), rule: rule.to_owned(), remedy: remedy.to_owned() });
    };
    let tenants = Tenants { header: store.pass_tenant, url: store.url.contains(SLOT), default: store.tenant.clone() };
    let default = store.tenant.as_deref();
    if let Some(tenant) = default.filter(|tenant| !tenant::legal(tenant)) {
        problem("tenant", tenant, tenant::RULE, "for example anonymous, or 0 for VictoriaMetrics");
    }
    if let Some(tenant) = default.filter(|_| !tenants.header && !tenants.url) {
        let remedy = "write pass_tenant: true, or {{__tenant__}} in the URL; where all is one tenant's, headers: { X-Scope-OrgID: ... } or the URL says it";
        problem("tenant", tenant, "is for samples that have none, where tenants are passed on", remedy);
    }
    if tenants.url && default.is_none() {
        problem("tenant", "", "samples without a tenant have no URL", "write tenant: \"0\", or whose they shall be");
    }
    let said = |(name, _): &(String, String)| name.eq_ignore_ascii_case("X-Scope-OrgID");
    if tenants.header && store.headers.iter().any(said) {
        problem(
            "headers.X-Scope-OrgID",
            "(not shown)",
            "pass_tenant says it",
            "leave it out, and write tenant: for samples that have none",
        );
    }
    tenants
}

fn place(url: &str, tls: &ClientTls) -> Result<Place, Problem> {
    let problem = |key: &str, value: &str, rule: &str, remedy: &str| Problem {
        key: key.to_owned(),
        value: value.to_owned(),
        rule: rule.to_owned(),
        remedy: remedy.to_owned(),
    };
    let wrong = || problem("url", url, "is no URL", "for example https://store.example/api/v1/write");
    let uri: Uri = url.replace(SLOT, STAND_IN).parse().map_err(|_| wrong())?;
    let (Some(authority), Some(host)) = (uri.authority(), uri.host()) else { return Err(wrong()) };
    if authority.as_str().contains(STAND_IN) {
        return Err(problem(
            "url",
            url,
            "has a tenant in its host",
            "a tenant stands in the path: /insert/{{__tenant__}}/prometheus/api/v1/write",
        ));
    }
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let secure = uri.scheme_str() == Some("https");
    if !secure && (tls.ca_file.is_some() || tls.own.is_some() || tls.server_name.is_some()) {
        return Err(problem("tls", url, "says how to use TLS, and the URL wants none", "write https:// or leave tls out"));
    }
    let name = tls.server_name.clone().unwrap_or_else(|| host.clone());
    Ok(Place {
        tls: secure.then(|| Tls { name, authorities: tls.ca_file.clone(), own: tls.own.clone() }),
        host,
        port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
        authority: authority.as_str().to_owned(),
        path: match uri.path_and_query().map_or("/", |path| path.as_str()) {
            path if url.contains(SLOT) => path.replace(STAND_IN, SLOT),
            path => path.to_owned(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_to_connect_to() {
        let place = |url: &str| StoreSettings::check(&RemoteWrite::new(url)).unwrap().place;
        let plain = place("http://store.example/api/v1/write?a=b");
        assert_eq!((plain.tls, plain.port, plain.path.as_str()), (None, 80, "/api/v1/write?a=b"));
        let secure = place("https://[::1]:8443/w");
        assert_eq!((secure.host.as_str(), secure.port, secure.authority.as_str()), ("::1", 8443, "[::1]:8443"));
        assert_eq!(secure.tls.unwrap().name, "::1");
        assert_eq!(place("https://store.example").path, "/");
    }

    #[test]
    fn tenants_are_told_apart_by_header_or_url_and_what_has_none_needs_a_place_there() {
        let mut store = RemoteWrite::new("http://vm:8480/insert/{{__tenant__}}/prometheus/api/v1/write?a={{__tenant__}}");
        let keys = |store: &RemoteWrite| {
            StoreSettings::check(store).err().unwrap_or_default().into_iter().map(|problem| problem.key).collect::<Vec<_>>()
        };
        assert_eq!(keys(&store), ["tenant"]);
        store.tenant = Some("0".into());
        let settings = StoreSettings::check(&store).unwrap();
        assert_eq!(settings.place.path, "/insert/{{__tenant__}}/prometheus/api/v1/write?a={{__tenant__}}");
        assert_eq!([settings.tenant_of(""), settings.tenant_of("12:3")], ["0", "12:3"]);
        store.tenant = Some("a|b".into());
        assert_eq!(keys(&store), ["tenant"]);
        store.url = "http://{{__tenant__}}.store/w".into();
        store.tenant = Some("a".into());
        assert_eq!(keys(&store), ["url"]);
        store.url = "http://store/w".into();
        assert_eq!(keys(&store), ["tenant"], "of no use");
        store.pass_tenant = true;
        assert_eq!(keys(&store), Vec::<String>::new());
        store.headers = vec![("x-scope-orgid".into(), "b".into())];
        assert_eq!(keys(&store), ["headers.X-Scope-OrgID"]);
        (store.headers, store.tenant) = (Vec::new(), None);
        let settings = StoreSettings::check(&store).unwrap();
        assert_eq!([settings.tenant_of(""), settings.tenant_of("a")], ["", "a"]);
        assert_eq!(StoreSettings::check(&RemoteWrite::new("http://store/w")).unwrap().tenant_of("a"), "");
    }

    #[test]
    fn every_problem_is_told_and_no_value_of_a_header() {
        let mut store = RemoteWrite::new("http://h h/w");
        store.headers = vec![("X Y".into(), "canary".into()), ("X-Y".into(), "canary\n".into()), ("X-Scope-OrgID".into(), "nj1".into())];
        let problems = StoreSettings::check(&store).unwrap_err();
        let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, ["url", "headers.X Y", "headers.X-Y"]);
        assert!(!format!("{problems:?}").contains("canary"));
        store.url = "http://h/w".into();
        store.headers.retain(|(name, _)| name == "X-Scope-OrgID");
        assert!(!format!("{:?}", StoreSettings::check(&store).unwrap()).contains("\"nj1\""));
        store.tls.server_name = Some("other".into());
        assert_eq!(StoreSettings::check(&store).unwrap_err()[0].key, "tls");
    }
}

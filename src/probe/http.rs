//! `prober: http`: a request, the redirects it is led through, and what the last answer must be.
//!
//! Passwords and tokens go to the host that was asked and no other. With `follow_redirects: false` the body of the redirect is read like any other.

pub mod beside;
pub mod body;
pub mod cel;
pub mod cookies;
pub mod hop;
pub mod login;
pub mod proxy;
pub mod url;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::Method;
use hyper::Version;
use hyper::header;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use regex::bytes::Regex;

use crate::config::probe::Family;
use crate::config::probe::http;
use crate::config::probe::http::Compression;
use crate::config::probe::http::Secret;
use crate::probe::files;
use crate::probe::guard::Guard;
use crate::probe::http::body::Sink;
use crate::probe::http::body::Unpacker;
use crate::probe::http::cel::Cel;
use crate::probe::http::cookies::Cookies;
use crate::probe::http::hop::Answer;
use crate::probe::http::hop::Ends;
use crate::probe::http::hop::Hop;
use crate::probe::http::login::Login;
use crate::probe::http::proxy::Proxies;
use crate::probe::http::url::Url;
use crate::probe::outcome::Cause;
use crate::probe::record::Record;
use crate::probe::record::Stop;
use crate::probe::record::Way;
use crate::probe::resolve;
use crate::probe::run::Ask;
use crate::probe::tls;
use crate::probe::tls::Tls;

/// Redirects that are followed.
const REDIRECTS: u32 = 10;
/// Who asks, where the module does not say it.
const USER_AGENT: &str = concat!("sluice/", env!("CARGO_PKG_VERSION"));

/// `prober: http`
#[derive(Debug)]
pub struct Http {
    method: Method,
    headers: HeaderMap,
    host: Option<String>,
    login: Login,
    body: Option<Secret>,
    body_most: u64,
    compression: Option<Compression>,
    follow: bool,
    encrypted: Option<bool>,
    statuses: Vec<u16>,
    versions: Vec<String>,
    body_matches: Vec<Regex>,
    body_not_matches: Vec<Regex>,
    cel: Cel,
    header_matches: Vec<HeaderRule>,
    header_not_matches: Vec<HeaderRule>,
    family: Family,
    skip_resolve: bool,
    proxies: Proxies,
    http2: bool,
    tls: Tls,
}

#[derive(Debug)]
struct HeaderRule {
    name: HeaderName,
    pattern: Regex,
    allow_missing: bool,
}

/// What came of it, however far it came.
#[derive(Debug, Default)]
pub struct Told {
    status: u16,
    version: f64,
    length: i64,
    unpacked: u64,
    redirects: u32,
    last_modified: Option<i64>,
    regex: bool,
    /// An expression of CEL was not as it must be; none where none is asked.
    cel: Option<bool>,
    ssl: bool,
    /// The request, and not only its connection, was over TLS.
    answered: bool,
}

impl Http {
    /// Of what the module says, which was found good.
    pub fn new(module: &http::Http) -> Http {
        let mut headers = HeaderMap::new();
        let mut host = None;
        for (name, value) in &module.headers {
            if name.eq_ignore_ascii_case("host") {
                host = Some(value.clone());
            } else if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes())) {
                headers.insert(name, value);
            }
        }
        headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT));
        if let Some(compression) = module.compression {
            headers.entry(header::ACCEPT_ENCODING).or_insert(HeaderValue::from_static(compression.word()));
        }
        let patterns = |texts: &[String]| texts.iter().filter_map(|text| Regex::new(text).ok()).collect();
        let rules = |rules: &[http::HeaderMatch]| {
            let ready = |rule: &http::HeaderMatch| {
                let name = HeaderName::from_bytes(rule.header.as_bytes()).ok()?;
                Some(HeaderRule { name, pattern: Regex::new(&rule.pattern).ok()?, allow_missing: rule.allow_missing })
            };
            rules.iter().filter_map(ready).collect()
        };
        Http {
            method: Method::from_bytes(module.method.as_bytes()).unwrap_or(Method::GET),
            headers,
            host,
            login: Login::new(module),
            body: module.body.clone(),
            body_most: module.body_most,
            compression: module.compression,
            follow: module.follow_redirects,
            encrypted: match (module.fail_if_ssl, module.fail_if_not_ssl) {
                (true, _) => Some(false),
                (false, true) => Some(true),
                (false, false) => None,
            },
            statuses: module.statuses.clone(),
            versions: module.versions.clone(),
            body_matches: patterns(&module.body_matches),
            body_not_matches: patterns(&module.body_not_matches),
            cel: Cel::new(module.cel_matches.as_deref(), module.cel_not_matches.as_deref()),
            header_matches: rules(&module.header_matches),
            header_not_matches: rules(&module.header_not_matches),
            family: module.family,
            skip_resolve: module.skip_resolve_with_proxy,
            proxies: Proxies::new(&module.proxy),
            http2: module.http2,
            tls: Tls::new(&module.tls, if module.http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] }),
        }
    }

    /// `Host`, if the module says one: whoever asks for another is told.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// A request to this target computes or reads files.
    pub fn computes(&self, target: &str) -> bool {
        let packed = !matches!(self.compression, None | Some(Compression::Identity));
        let reads = matches!(self.body, Some(Secret::File(_))) || self.login.takes_work();
        packed || reads || target.get(.."https://".len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
    }

    /// Probes.
    pub async fn run(&self, ask: &Ask<'_>, told: &mut Told, record: &mut Record) -> Way<()> {
        told.cel = (!self.cel.is_empty()).then_some(false);
        let first = Url::of_target(ask.target).map_err(|text| Stop::new(Cause::Target, text))?;
        let named = ask.hostname.or(self.host());
        let content = match &self.body {
            None => Bytes::new(),
            Some(Secret::Text(text)) => Bytes::copy_from_slice(text.as_bytes()),
            Some(Secret::File(path)) => Bytes::from(files::bytes(path)?),
        };
        let authorization = self.login.authorization(first.user.as_deref(), record).await?;
        // Whoever is asked by way of a proxy is judged all the same, so the name must be resolved.
        let judged = ask.guard.is_some_and(Guard::judges);
        let (mut method, mut content) = (self.method.clone(), content);
        let (mut url, mut cookies) = (first.clone(), Cookies::default());
        // As long as redirects name no host, the one that the module names stays.
        let mut same_host = true;
        loop {
            let mut headers = self.headers.clone();
            let trusted = url.host == first.host && (url.tls || !first.tls);
            self.login.more(&mut headers, trusted)?;
            if trusted {
                headers.extend(authorization.clone().map(|value| (header::AUTHORIZATION, value)));
            } else {
                headers.remove(header::AUTHORIZATION);
                headers.remove(header::COOKIE);
            }
            if let Some(value) = cookies.header(&url).and_then(|value| HeaderValue::from_str(&value).ok()) {
                headers.append(header::COOKIE, value);
            }
            let host = named.filter(|_| same_host).map_or_else(|| url.authority(), str::to_owned);
            let proxy = self.proxies.of(&url);
            if let Some(proxy) = proxy.filter(|_| !url.tls) {
                headers.extend(
                    proxy
                        .headers
                        .iter()
                        .filter_map(|(name, value)| Some((HeaderName::from_bytes(name.as_bytes()).ok()?, login::sensitive(value).ok()?))),
                );
            }
            let hop = Hop {
                url: &url,
                tls: Some(&self.tls),
                name: named.filter(|_| same_host).unwrap_or(&url.host),
                family: self.family,
                guard: ask.guard,
                proxy,
                resolves: proxy.is_none() || !self.skip_resolve || judged,
                http2: self.http2,
            };
            let request = hop::Request { method: method.clone(), host, headers, body: content.clone() };
            let keep = !(self.body_matches.is_empty() && self.body_not_matches.is_empty() && self.cel.is_empty());
            let unpacker = Unpacker::new(self.compression, Sink::new(self.body_most, keep, record.until()));
            let mut taker =
                Taker { http: self, told: &mut *told, url: &url, cookies: &mut cookies, unpacker, next: None, wrong: None, broken: None };
            let gone = hop.go(request, &mut taker, record).await;
            let Taker { next, wrong, broken, unpacker, .. } = taker;
            if told.status == 401 {
                self.login.forget();
            }
            if told.answered && next.is_none() {
                return self.judge(gone, (wrong, broken, unpacker), told, record).await;
            }
            gone?;
            let Some(next) = next else { return Err(Stop::new(Cause::Protocol, "no answer came")) };
            same_host = same_host && next.host == url.host && next.port == url.port && next.tls == url.tls;
            if matches!(told.status, 301..=303) && method != Method::HEAD && method != Method::GET {
                (method, content) = (Method::GET, Bytes::new());
            }
            url = next;
        }
    }

    /// What the last answer must be. The first thing that is wrong is the cause.
    async fn judge(
        &self,
        gone: Way<()>,
        (wrong, broken, mut unpacker): (Option<Stop>, Option<Stop>, Unpacker),
        told: &mut Told,
        record: &mut Record,
    ) -> Way<()> {
        let unpacked = match (&gone, broken) {
            (_, Some(stop)) => Err(stop),
            (Err(_), None) => Ok(()),
            (Ok(()), None) => unpacker.finish().map_err(|error| unpacker_stop(&unpacker, &error)),
        };
        told.unpacked = unpacker.sink().count;
        let read = match (gone, unpacked) {
            (_, Err(stop)) | (Err(stop), Ok(())) => Err(stop),
            (Ok(()), Ok(())) => Ok(()),
        };
        if let Some(stop) = wrong {
            return Err(stop);
        }
        read?;
        let body = unpacker.sink().kept.as_deref().unwrap_or_default();
        if let Some(pattern) = self.body_matches.iter().find(|pattern| pattern.is_match(body)) {
            told.regex = true;
            return Err(Stop::new(Cause::Body, format!("the body matches `{pattern}`")));
        }
        if let Some(pattern) = self.body_not_matches.iter().find(|pattern| !pattern.is_match(body)) {
            told.regex = true;
            return Err(Stop::new(Cause::Body, format!("the body does not match `{pattern}`")));
        }
        if !self.cel.is_empty() {
            let body = body.to_vec();
            if let Err(stop) = self.cel.judge_beside(body).await {
                told.cel = Some(true);
                return Err(stop);
            }
        }
        record.note(|| format!("the body has {} bytes", told.unpacked));
        match self.encrypted {
            Some(wanted) if wanted != told.ssl => {
                let text = if wanted { "the last answer did not come over TLS" } else { "the last answer came over TLS" };
                Err(Stop::new(Cause::Encryption, text))
            }
            _ => Ok(()),
        }
    }

    /// Of what stands in the head.
    fn judge_head(&self, answer: &Answer<'_>, told: &mut Told) -> Way<()> {
        let good = if self.statuses.is_empty() { (200..300).contains(&answer.status) } else { self.statuses.contains(&answer.status) };
        if !good {
            let wanted = if self.statuses.is_empty() { "2xx".to_owned() } else { format!("one of {:?}", self.statuses) };
            return Err(Stop::new(Cause::Status, format!("the status is {}, and not {wanted}", answer.status)));
        }
        let rules = self.header_matches.iter().map(|rule| (rule, false)).chain(self.header_not_matches.iter().map(|rule| (rule, true)));
        for (rule, wanted) in rules {
            let mut values = answer.headers.get_all(&rule.name).iter().peekable();
            if values.peek().is_none() {
                if rule.allow_missing {
                    continue;
                }
                told.regex = true;
                return Err(Stop::new(Cause::Header, format!("the header {} is missing", rule.name)));
            }
            if values.any(|value| rule.pattern.is_match(value.as_bytes())) != wanted {
                told.regex = true;
                let verb = if wanted { "does not match" } else { "matches" };
                return Err(Stop::new(Cause::Header, format!("the header {} {verb} `{}`", rule.name, rule.pattern)));
            }
        }
        let version = version(answer.version).0;
        if !self.versions.is_empty() && !self.versions.iter().any(|known| known == version) {
            return Err(Stop::new(Cause::Version, format!("the version is {version}, and none of {:?}", self.versions)));
        }
        Ok(())
    }
}

fn version(version: Version) -> (&'static str, f64) {
    match version {
        Version::HTTP_09 => ("HTTP/0.9", 0.9),
        Version::HTTP_10 => ("HTTP/1.0", 1.0),
        Version::HTTP_2 => ("HTTP/2.0", 2.0),
        _ => ("HTTP/1.1", 1.1),
    }
}

fn unpacker_stop(unpacker: &Unpacker, error: &std::io::Error) -> Stop {
    if unpacker.sink().late {
        return Stop::new(Cause::Timeout, "the body was not unpacked in time");
    }
    if unpacker.sink().over {
        return Stop::new(Cause::Size, "the body is longer than body_size_limit, or than 32 MiB where expressions look at it");
    }
    Stop::new(Cause::Encoding, format!("the body does not unpack: {error}"))
}

/// Takes an answer, and finds out where it leads.
struct Taker<'a> {
    http: &'a Http,
    told: &'a mut Told,
    url: &'a Url,
    cookies: &'a mut Cookies,
    unpacker: Unpacker,
    next: Option<Url>,
    /// What is wrong with the head; the body is read all the same, since its length is told.
    wrong: Option<Stop>,
    broken: Option<Stop>,
}

impl Ends for Taker<'_> {
    fn head(&mut self, answer: &Answer<'_>, record: &mut Record) -> Way<bool> {
        self.cookies.take(answer.headers, self.url);
        let told = &mut *self.told;
        (told.status, told.length, told.answered) = (answer.status, answer.length, true);
        (told.version, told.ssl) = (version(answer.version).1, self.url.tls);
        told.last_modified = answer
            .headers
            .get(header::LAST_MODIFIED)
            .and_then(|value| httpdate::parse_http_date(value.to_str().ok()?).ok())
            .and_then(|time| i64::try_from(time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs()).ok());
        let location = answer.headers.get(header::LOCATION).filter(|_| matches!(answer.status, 301 | 302 | 303 | 307 | 308));
        if let Some(location) = location {
            let location = String::from_utf8_lossy(location.as_bytes());
            told.redirects += 1;
            record.note(|| format!("leads to {}", location.split('?').next().unwrap_or_default()));
            if self.http.follow && told.redirects <= REDIRECTS {
                self.next = Some(self.url.join(&location).map_err(|text| Stop::new(Cause::Redirect, text))?);
                told.answered = false;
                return Ok(false);
            }
            if self.http.follow {
                self.wrong = Some(Stop::new(Cause::Redirect, format!("led on after {REDIRECTS} redirects")));
                return Ok(false);
            }
        }
        if let Err(stop) = self.http.judge_head(answer, told) {
            self.wrong = Some(stop);
        }
        Ok(true)
    }

    fn piece(&mut self, bytes: &[u8]) -> Way<()> {
        if let Err(error) = self.unpacker.write(bytes) {
            self.broken = Some(unpacker_stop(&self.unpacker, &error));
            return Err(Stop::new(Cause::Encoding, "the body is not read to its end"));
        }
        Ok(())
    }
}

/// Metrics.
pub fn tell(told: &Told, record: &mut Record, (strict, failed, resolves): (bool, bool, bool)) {
    if resolves {
        resolve::tell(record);
    }
    let flag = |on: bool| f64::from(u8::from(on));
    let phases: &[&'static str] =
        if resolves { &["resolve", "connect", "tls", "processing", "transfer"] } else { &["connect", "tls", "processing", "transfer"] };
    record.set_phases("probe_http_duration_seconds", "Duration of http request by phase, summed over all redirects", phases);
    record.set("probe_http_content_length", "Length of http content response", told.length as f64);
    record.set("probe_http_uncompressed_body_length", "Length of uncompressed response body", told.unpacked as f64);
    record.set("probe_http_redirects", "The number of redirects", f64::from(told.redirects));
    record.set("probe_http_ssl", "Indicates if SSL was used for the final redirect", flag(told.ssl));
    record.set("probe_http_status_code", "Response HTTP status code", f64::from(told.status));
    record.set("probe_http_version", "Returns the version of HTTP of the probe response", told.version);
    record.set("probe_failed_due_to_regex", "Indicates if probe failed due to regex", flag(told.regex));
    if let Some(failed) = told.cel {
        record.set("probe_failed_due_to_cel", "Indicates if probe failed due to CEL expression", flag(failed));
    }
    if let Some(seconds) = told.last_modified {
        let help = "Returns the Last-Modified HTTP response header in unixtime";
        record.set("probe_http_last_modified_timestamp_seconds", help, seconds as f64);
    }
    // Of the last answer; where there is none, of the last handshake, which says why; blackbox_exporter knows of answers only.
    let certificate = if strict { told.ssl && told.answered } else { told.ssl || !told.answered };
    if certificate {
        tls::tell(record, tls::Told::All, strict, failed);
    }
}

/// Whether a probe of this module resolves names at all.
impl Http {
    /// A proxy may do that.
    pub fn resolves(&self, target: &str) -> bool {
        !self.skip_resolve || Url::of_target(target).is_ok_and(|url| self.proxies.of(&url).is_none())
    }
}

//! One request to a receiver, over a connection of its own, wholly within its time: redirects, proxies and passwords included.
//!
//! A redirect is followed where it keeps the content (307, 308), and never to an address of this host or of its link (169.254.169.254 is where clouds keep their
//! keys), unless the receiver itself was configured to be there; passwords and signatures stay behind where it leads to another host. Errors name hosts, never
//! whole URLs: robots have their key in them. Left out on purpose: connections that are kept, and what an answer means (`judge`).

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Method;
use hyper::Request;
use hyper::Uri;
use hyper::header;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::clock;
use crate::config::receivers::Secret;
use crate::config::receivers::http::Http;
use crate::config::receivers::http::Login;
use crate::config::remote_write::ClientTls;
use crate::secret::token;
use crate::serve::ask;
use crate::serve::tls;

/// Bytes of an answer: all of them are short.
const ANSWER: usize = 64 << 10;
/// Of a proxy's answer.
const PROXY_ANSWER: usize = 8 << 10;
/// Redirects behind each other.
const REDIRECTS: usize = 3;
/// Bytes of a file with a secret.
const SECRET: u64 = 64 << 10;
/// The longest that a receiver's Retry-After is obeyed.
const LATER: Duration = Duration::from_secs(3600);

/// What is asked.
pub struct Asked {
    /// POST, but for tokens.
    pub method: Method,
    /// Where, with all secrets in it.
    pub url: String,
    /// Beside those of the configuration.
    pub headers: Vec<(String, String)>,
    /// The content.
    pub body: Bytes,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP's.
    pub status: u16,
    /// When to come again.
    pub retry_after: Option<Duration>,
    /// The content.
    pub body: Vec<u8>,
    location: Option<String>,
}

/// Where a URL leads.
struct Place {
    secure: bool,
    host: String,
    port: u16,
    authority: String,
    path: String,
    login: Option<String>,
}

/// What a secret is, read anew if it stands in a file.
pub fn reveal(secret: &Secret) -> Result<String, String> {
    let path = match secret {
        Secret::Here(text) => return Ok(text.clone()),
        Secret::File(path) => path,
    };
    let wrong = |error: io::Error| format!("{}: {error}", path.display());
    let size = std::fs::metadata(path).map_err(wrong)?.len();
    if size > SECRET {
        return Err(format!("{}: {size} bytes are no secret, {SECRET} at most", path.display()));
    }
    let text = std::fs::read_to_string(path).map_err(wrong)?;
    Ok(text.trim().to_owned())
}

/// Asks, and takes the answer. Whatever happens, it is over within the time.
pub async fn exchange(http: &Http, asked: Asked) -> Result<Answer, String> {
    match tokio::time::timeout(http.timeout, follow(http, asked)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} s", http.timeout.as_secs_f64())),
    }
}

async fn follow(http: &Http, mut asked: Asked) -> Result<Answer, String> {
    let first = Place::new(&asked.url)?;
    let mut known = true;
    for _ in 0..=REDIRECTS {
        let place = Place::new(&asked.url)?;
        let answer = once(http, &place, &asked, known).await?;
        let (307 | 308, Some(to)) = (answer.status, answer.location.as_deref().filter(|_| http.redirects)) else { return Ok(answer) };
        asked.url = place.joined(to).ok_or("it redirects to what is no URL")?;
        let next = Place::new(&asked.url)?;
        if place.secure && !next.secure {
            return Err(format!("it redirects to {}, away from TLS", next.host));
        }
        known = next.host == first.host;
        if !known {
            // By way of a proxy nobody here looks the name up, but an address is one.
            if let Some(address) = next.host.parse().ok().filter(|address| is_private_to_host(*address)) {
                return Err(not_followed(&next.host, address));
            }
            asked.headers.retain(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        }
    }
    Err(format!("it redirects more than {REDIRECTS} times"))
}

async fn once(http: &Http, place: &Place, asked: &Asked, known: bool) -> Result<Answer, String> {
    let proxy = match &http.proxy {
        Some(proxy) if !http.no_proxy.iter().any(|host| without(host, &place.host)) => Some(Place::new(&reveal(proxy)?)?),
        _ => None,
    };
    let stream = match &proxy {
        Some(proxy) if place.secure => tunnel(connect(proxy, true).await?, proxy, place).await?,
        Some(proxy) => connect(proxy, true).await?,
        None => connect(place, known).await?,
    };
    let plain_proxy = proxy.filter(|_| !place.secure);
    let request = request(http, place, asked, known, plain_proxy.as_ref())?;
    if place.secure { converse(secured(stream, &place.host, &http.tls).await?, request).await } else { converse(stream, request).await }
}

/// Shakes hands as the configuration says.
pub async fn secured(stream: TcpStream, host: &str, with: &ClientTls) -> Result<tls::ClientStream, String> {
    let own = with.own.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
    let trust = tls::Trust { authorities: with.ca_file.as_deref(), own, option: "tls_config.ca_file" };
    tls::connect(stream, with.server_name.as_deref().unwrap_or(host), trust).await
}

/// `.example.com` and `example.com` both stand for the hosts below, as in `no_proxy` everywhere.
fn without(pattern: &str, host: &str) -> bool {
    let pattern = pattern.trim_start_matches('.');
    pattern == "*" || host == pattern || host.strip_suffix(pattern).is_some_and(|before| before.ends_with('.'))
}

async fn connect(place: &Place, known: bool) -> Result<TcpStream, String> {
    let (host, port) = (place.host.as_str(), place.port);
    let found = tokio::net::lookup_host((host, port)).await.map_err(|error| format!("{host}: {error}"))?;
    let addresses: Vec<SocketAddr> = found.collect();
    if !known && let Some(address) = addresses.iter().find(|address| is_private_to_host(address.ip())) {
        return Err(not_followed(host, address.ip()));
    }
    let mut last = format!("{host} has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = format!("{host}:{port}: {error}"),
        }
    }
    Err(last)
}

fn not_followed(host: &str, address: IpAddr) -> String {
    format!("it redirects to {host} ({address}), an address of this host or of its link: not followed")
}

/// Loopback, link-local, unspecified: what nobody else has a reason to send us to.
fn is_private_to_host(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local() || address.is_unspecified() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unspecified() || address.segments()[0] & 0xffc0 == 0xfe80,
    }
}

async fn tunnel(mut stream: TcpStream, proxy: &Place, place: &Place) -> Result<TcpStream, String> {
    let to = format!("{}:{}", if place.host.contains(':') { format!("[{}]", place.host) } else { place.host.clone() }, place.port);
    let login = proxy.login.as_ref().map(|login| format!("Proxy-Authorization: {login}\r\n")).unwrap_or_default();
    let wrong = |error: io::Error| format!("proxy {}: {error}", proxy.host);
    stream.write_all(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{login}\r\n").as_bytes()).await.map_err(wrong)?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= PROXY_ANSWER {
            return Err(format!("proxy {}: its answer is too long", proxy.host));
        }
        answer.push(stream.read_u8().await.map_err(wrong)?);
    }
    let answer = String::from_utf8_lossy(&answer);
    match answer.split(' ').nth(1) {
        Some(status) if status.starts_with('2') => Ok(stream),
        _ => Err(format!("proxy {}: {}", proxy.host, answer.lines().next().unwrap_or_default())),
    }
}

fn request(http: &Http, place: &Place, asked: &Asked, known: bool, proxy: Option<&Place>) -> Result<Request<Full<Bytes>>, String> {
    let target = if proxy.is_some() { format!("http://{}{}", place.authority, place.path) } else { place.path.clone() };
    let mut request = Request::builder()
        .method(asked.method.clone())
        .uri(target)
        .header(header::HOST, place.authority.as_str())
        .header(header::CONNECTION, "close");
    let mut headers = asked.headers.clone();
    if known {
        for (name, value) in &http.headers {
            headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
            headers.push((name.clone(), reveal(value)?));
        }
        let login = match &http.login {
            Some(Login::Basic(user, password)) => {
                Some(token::basic(&reveal(user)?, &password.as_ref().map(reveal).transpose()?.unwrap_or_default()))
            }
            Some(Login::Header(scheme, secret)) => Some(format!("{scheme} {}", reveal(secret)?)),
            None => place.login.clone(),
        };
        headers.extend(login.map(|login| ("Authorization".to_owned(), login)));
    }
    headers.extend(proxy.and_then(|proxy| proxy.login.clone()).map(|login| ("Proxy-Authorization".to_owned(), login)));
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("user-agent")) {
        headers.push(("User-Agent".to_owned(), concat!("sluice/", env!("CARGO_PKG_VERSION")).to_owned()));
    }
    for (name, value) in &headers {
        request = request.header(name, value);
    }
    // What hyper says may hold the header that it does not like.
    request.body(Full::new(asked.body.clone())).map_err(|_| "the URL or a header holds letters that HTTP has no place for".to_owned())
}

async fn converse<Io>(stream: Io, request: Request<Full<Bytes>>) -> Result<Answer, String>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = ask::converse(stream, request, ANSWER).await.map_err(|silence| silence.to_string())?;
    let text = |name| answer.headers.get(name).and_then(|value| value.to_str().ok());
    let location = text(header::LOCATION).map(str::to_owned);
    let retry_after = text(header::RETRY_AFTER).and_then(|text| later(text, clock::wall_ms()));
    Ok(Answer { status: answer.status, retry_after, location, body: answer.body.to_vec() })
}

/// Retry-After as it is obeyed.
fn later(text: &str, now_ms: i64) -> Option<Duration> {
    ask::retry_after(text, now_ms).map(|wait| wait.min(LATER))
}

impl Place {
    fn new(url: &str) -> Result<Place, String> {
        // The URL itself is a secret, so it is not said.
        let uri: Uri = url.trim().parse().map_err(|_| "its URL is none".to_owned())?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("its URL does not begin with http:// or https://".to_owned()),
        };
        let authority = uri.authority().ok_or("its URL has no host")?.as_str();
        let (login, authority) = match authority.rsplit_once('@') {
            Some((login, authority)) => (Some(login), authority),
            None => (None, authority),
        };
        let login = login.map(|login| {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            token::basic(&unescaped(user), &unescaped(password))
        });
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Place { secure, host, port, authority: authority.to_owned(), path, login })
    }

    /// Where a redirect from here leads.
    fn joined(&self, to: &str) -> Option<String> {
        let scheme = if self.secure { "https" } else { "http" };
        if to.starts_with("//") {
            Some(format!("{scheme}:{to}"))
        } else if to.starts_with('/') {
            Some(format!("{scheme}://{}{to}", self.authority))
        } else {
            to.contains("://").then(|| to.to_owned())
        }
    }
}

/// Letters that stand escaped in a URL.
fn unescaped(text: &str) -> String {
    form_urlencoded::parse(format!("x={}", text.replace('+', "%2B")).as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_never_more() {
        let place = Place::new("https://u%40x:p%3Aw@[::1]:8443/hook?key=s").unwrap();
        assert_eq!(
            (place.secure, &*place.host, place.port, &*place.authority, &*place.path),
            (true, "::1", 8443, "[::1]:8443", "/hook?key=s")
        );
        assert_eq!(place.login, Some(token::basic("u@x", "p:w")));
        assert_eq!(Place::new("http://h?x=1").unwrap().path, "/?x=1");
        for wrong in ["", "h", "/hook?key=secret", "ftp://secret/", "http://a b/secret"] {
            assert!(!Place::new(wrong).err().unwrap().contains("secret"), "{wrong}");
        }
        let place = Place::new("https://h/a").unwrap();
        assert_eq!(place.joined("/b").unwrap(), "https://h/b");
        assert_eq!(place.joined("//g/b").unwrap(), "https://g/b");
        assert_eq!(place.joined("b"), None);
    }

    #[test]
    fn addresses_of_this_host_and_of_its_link_are_known() {
        for (address, own) in [
            ("127.0.0.1", true),
            ("169.254.169.254", true),
            ("0.0.0.0", true),
            ("::1", true),
            ("fe80::1", true),
            ("::ffff:169.254.169.254", true),
            ("10.0.0.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_private_to_host(address.parse().unwrap()), own, "{address}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(later("120", 0), Some(Duration::from_secs(120)));
        assert_eq!(later("99999999", 0), Some(LATER));
        assert_eq!(later("Thu, 01 Jan 1970 00:01:00 GMT", 30_000), Some(Duration::from_secs(30)));
        assert_eq!(later("soon", 0), None);
    }

    #[test]
    fn no_proxy_names_hosts_and_domains() {
        assert!(without("example.com", "a.example.com") && without(".example.com", "example.com") && without("*", "x"));
        assert!(!without("example.com", "badexample.com"));
    }
}

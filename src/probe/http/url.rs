//! URLs of targets and redirects: as much of them as a request needs. More is taken than the standard allows (blanks, letters that should be
//! encoded), since it worked before; nothing is decoded.

use std::fmt;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// `https`
    pub tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// If one is written.
    pub port: Option<u16>,
    /// Path and query, encoded, with a slash at the beginning.
    pub path: String,
    /// `user:password`, decoded.
    pub user: Option<String>,
}

impl Url {
    /// Of a target; `http://` is what is meant where nothing is said.
    pub fn of_target(target: &str) -> Result<Url, String> {
        if let Some((scheme, _)) = target.split_once("://") {
            if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
                return Url::absolute(target);
            }
            if !scheme.contains(['/', '?', ':', '.']) {
                return Err(format!("{target}: neither http:// nor https://"));
            }
        }
        Url::absolute(&format!("http://{target}"))
    }

    fn absolute(text: &str) -> Result<Url, String> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| format!("{text}: no URL"))?;
        let tls = scheme.eq_ignore_ascii_case("https");
        if !tls && !scheme.eq_ignore_ascii_case("http") {
            return Err(format!("{text}: neither http:// nor https://"));
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (user, place) = authority.rsplit_once('@').map_or((None, authority), |(user, place)| (Some(decoded(user)), place));
        let (host, port) = match place.strip_prefix('[') {
            Some(bracketed) => {
                let (host, after) = bracketed.split_once(']').ok_or_else(|| format!("{text}: a bracket is missing"))?;
                (host, after.strip_prefix(':'))
            }
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            None | Some("") => None,
            Some(port) => Some(port.parse().map_err(|_| format!("{text}: `{port}` is no port"))?),
        };
        if host.is_empty() || host.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
            return Err(format!("{text}: no host"));
        }
        let path = if path.starts_with('/') { encoded(path) } else { format!("/{}", encoded(path)) };
        Ok(Url { tls, host: host.to_owned(), port, path, user })
    }

    /// Where a `Location` leads from here.
    pub fn join(&self, location: &str) -> Result<Url, String> {
        let location = location.trim();
        let scheme_ends = location.find([':', '/', '?', '#']).filter(|at| location[*at..].starts_with(':'));
        if let Some(at) = scheme_ends
            && at > 0
        {
            return Url::absolute(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Url::absolute(&format!("{}://{rest}", self.scheme()));
        }
        let location = encoded(location.split('#').next().unwrap_or_default());
        let (own_path, _) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let path = if location.is_empty() {
            self.path.clone()
        } else if location.starts_with('?') {
            format!("{own_path}{location}")
        } else if location.starts_with('/') {
            without_dots(&location)
        } else {
            let directory = own_path.rfind('/').map_or("/", |at| &own_path[..=at]);
            without_dots(&format!("{directory}{location}"))
        };
        Ok(Url { path, user: None, ..self.clone() })
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// The port that is connected to.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.tls { 443 } else { 80 })
    }

    /// Host and port as they stand in `Host`.
    pub fn authority(&self) -> String {
        with_port(&self.host, self.port)
    }
}

/// A host with a port if there is one, an address of IPv6 in brackets.
pub fn with_port(host: &str, port: Option<u16>) -> String {
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    match port {
        Some(port) => format!("{bracketed}:{port}"),
        None => bracketed,
    }
}

/// Without the query, which may hold what is not for everybody.
impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}://{}{}", self.scheme(), self.authority(), self.path.split('?').next().unwrap_or_default())
    }
}

fn encoded(text: &str) -> String {
    let stays = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
    if text.bytes().all(stays) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if stays(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Percent-encoding undone; what is none stays.
pub fn decoded(text: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let pair = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok()).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        rest = match (first, pair) {
            (b'%', Some(byte)) => {
                out.push(byte);
                &after[2..]
            }
            _ => {
                out.push(*first);
                after
            }
        };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// `/a/./b/../c` as `/a/c` (RFC 3986, 5.2.4).
fn without_dots(text: &str) -> String {
    let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
    let mut kept: Vec<&str> = Vec::new();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    for (at, part) in parts.iter().enumerate() {
        let last = at + 1 == parts.len();
        match *part {
            "." | ".." => {
                if *part == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            part => kept.push(part),
        }
    }
    let path = format!("/{}", kept.join("/"));
    query.map_or(path.clone(), |query| format!("{path}?{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> String {
        Url::of_target(text).map_or_else(|error| error, |url| format!("{}://{} {}", url.scheme(), url.authority(), url.path))
    }

    #[test]
    fn targets_are_urls_or_what_is_behind_http() {
        for (target, wanted) in [
            ("example.com", "http://example.com /"),
            ("example.com:80/a?b=c#d", "http://example.com:80 /a?b=c"),
            ("HtTpS://example.com", "https://example.com /"),
            ("http://[::1]:8080/ö b", "http://[::1]:8080 /%C3%B6%20b"),
            ("http://u:p%40@h?x=%2F", "http://h /?x=%2F"),
            ("127.0.0.1:9090", "http://127.0.0.1:9090 /"),
        ] {
            assert_eq!(url(target), wanted, "{target}");
        }
        assert_eq!(Url::of_target("http://u:p%40@h").unwrap().user.as_deref(), Some("u:p@"));
        for wrong in ["invalid://x", "http://", "http://:80", "http://a b/", "http://h:x/", "http://[::1/"] {
            assert!(Url::of_target(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn redirects_lead_where_browsers_would_go() {
        let from = Url::of_target("https://h:1/a/b?q=1").unwrap();
        for (location, wanted) in [
            ("http://x/y", "http://x /y"),
            ("//x/y", "https://x /y"),
            ("/y?z", "https://h:1 /y?z"),
            ("y", "https://h:1 /a/y"),
            ("../y/./z/..", "https://h:1 /y/"),
            ("?r=2", "https://h:1 /a/b?r=2"),
            ("#f", "https://h:1 /a/b?q=1"),
            ("../../../y", "https://h:1 /y"),
        ] {
            let led = from.join(location).unwrap();
            assert_eq!(format!("{}://{} {}", led.scheme(), led.authority(), led.path), wanted, "{location}");
        }
        assert!(from.join("mailto:x").is_err() && from.join("ftp://x").is_err());
    }
}

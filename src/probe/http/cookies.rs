//! Cookies that a server sets on the way to where it redirects to; gone with the probe.

use hyper::HeaderMap;
use hyper::header::SET_COOKIE;

use crate::probe::http::url::Url;

/// Those that were set so far.
#[derive(Debug, Default)]
pub struct Cookies(Vec<Cookie>);

#[derive(Debug)]
struct Cookie {
    name: String,
    value: String,
    domain: String,
    /// Hosts below the domain get it, too.
    below: bool,
    path: String,
    secure: bool,
}

impl Cookies {
    /// Takes those of an answer from there.
    pub fn take(&mut self, headers: &HeaderMap, from: &Url) {
        for header in headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok()) {
            if let Some(cookie) = read(header, from) {
                self.0.retain(|known| (&known.name, &known.domain, &known.path) != (&cookie.name, &cookie.domain, &cookie.path));
                self.0.push(cookie);
            }
        }
    }

    /// What is sent to there.
    pub fn header(&self, to: &Url) -> Option<String> {
        let host = to.host.to_ascii_lowercase();
        let path = to.path.split('?').next().unwrap_or_default();
        let fits = |cookie: &&Cookie| {
            let domain = host == cookie.domain || cookie.below && host.ends_with(&format!(".{}", cookie.domain));
            let below = path
                .strip_prefix(cookie.path.as_str())
                .is_some_and(|rest| rest.is_empty() || cookie.path.ends_with('/') || rest.starts_with('/'));
            domain && below && (to.tls || !cookie.secure)
        };
        let pairs: Vec<String> = self.0.iter().filter(fits).map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}

fn read(header: &str, from: &Url) -> Option<Cookie> {
    let mut parts = header.split(';');
    let (name, value) = parts.next()?.split_once('=')?;
    let host = from.host.to_ascii_lowercase();
    let own = from.path.split('?').next().unwrap_or_default();
    let directory = own.rfind('/').filter(|at| *at > 0).map_or("/", |at| &own[..at]);
    let mut cookie = Cookie {
        name: name.trim().to_owned(),
        value: value.trim().to_owned(),
        domain: host.clone(),
        below: false,
        path: directory.to_owned(),
        secure: false,
    };
    for part in parts {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        match key.trim().to_ascii_lowercase().as_str() {
            "domain" => {
                let domain = value.trim().trim_start_matches('.').to_ascii_lowercase();
                let ours = host == domain || host.ends_with(&format!(".{domain}")) && domain.contains('.');
                if !ours {
                    return None;
                }
                (cookie.domain, cookie.below) = (domain, true);
            }
            "path" if value.trim().starts_with('/') => cookie.path = value.trim().to_owned(),
            "secure" => cookie.secure = true,
            "max-age" if value.trim().parse::<i64>().is_ok_and(|age| age <= 0) => return None,
            _ => {}
        }
    }
    (!cookie.name.is_empty()).then_some(cookie)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn cookies_go_where_they_belong() {
        let mut cookies = Cookies::default();
        let mut headers = HeaderMap::new();
        for text in
            ["a=1", "b=2; Path=/deep", "c=3; Domain=example.com; Path=/", "d=4; Secure; Path=/", "e=5; Domain=other.org", "f=6; Max-Age=0"]
        {
            headers.append(SET_COOKIE, HeaderValue::from_static(text));
        }
        cookies.take(&headers, &Url::of_target("http://www.example.com/x/y").unwrap());
        let sent = |target: &str| cookies.header(&Url::of_target(target).unwrap()).unwrap_or_default();
        assert_eq!(sent("http://www.example.com/x/z"), "a=1; c=3");
        assert_eq!(sent("https://www.example.com/deep/er"), "b=2; c=3; d=4");
        assert_eq!(sent("http://api.example.com/deeper"), "c=3");
        assert_eq!(sent("http://other.org/"), "");
    }
}

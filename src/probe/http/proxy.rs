//! By way of whom a request goes: `proxy_url`, unless `no_proxy` excepts the host, in the words of Go and curl.

use std::net::IpAddr;

use crate::config::probe::http::Proxy as Configured;
use crate::config::probe::net;
use crate::probe::http::login::basic;
use crate::probe::http::url::Url;

/// A proxy.
#[derive(Debug)]
pub struct Way {
    /// Where it is.
    pub url: Url,
    /// Sent with every request to it.
    pub headers: Vec<(String, String)>,
}

/// The proxies of a module.
#[derive(Debug)]
pub struct Proxies {
    http: Option<Way>,
    https: Option<Way>,
    except: Option<String>,
}

impl Proxies {
    /// Of what the module says.
    pub fn new(proxy: &Configured) -> Proxies {
        let way = |url: &Option<String>, connects: bool| {
            let url = Url::of_target(url.as_deref()?).ok()?;
            let mut headers = if connects { proxy.connect_headers.clone() } else { Vec::new() };
            if let Some(user) = &url.user {
                headers.push(("Proxy-Authorization".to_owned(), basic(user.clone())));
            }
            Some(Way { url, headers })
        };
        Proxies { http: way(&proxy.http, false), https: way(&proxy.https, true), except: proxy.except.clone() }
    }

    /// By way of whom this URL is asked.
    pub fn of(&self, url: &Url) -> Option<&Way> {
        let way = if url.tls { self.https.as_ref() } else { self.http.as_ref() };
        way.filter(|_| self.except.as_deref().is_none_or(|except| !excepted(except, url)))
    }
}

/// `a.example,.b.example,10.0.0.0/8,c:8080,*`
fn excepted(list: &str, url: &Url) -> bool {
    let host = url.host.to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    // Where exceptions are spoken of at all, this host itself is one.
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    list.split(',').map(|entry| entry.trim().to_ascii_lowercase()).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let Ok(net) = net::parse(&entry) {
            return address.is_some_and(|address| net.holds(address));
        }
        let (name, port) = entry.rsplit_once(':').map_or((entry.as_str(), None), |(name, port)| (name, port.parse::<u16>().ok()));
        if port.is_some_and(|port| port != url.port()) {
            return false;
        }
        let name = name.strip_prefix('*').unwrap_or(name);
        match name.strip_prefix('.') {
            Some(_) => host.ends_with(name),
            None => host == name || host.ends_with(&format!(".{name}")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_gos() {
        let url = |target: &str| Url::of_target(target).unwrap();
        let list = "a.example, .b.example,10.0.0.0/8,c.example:8080,192.0.2.1";
        for (target, excepted_there) in [
            ("a.example", true),
            ("x.a.example", true),
            ("xa.example", false),
            ("b.example", false),
            ("x.b.example", true),
            ("10.9.9.9", true),
            ("11.9.9.9", false),
            ("c.example:8080", true),
            ("c.example", false),
            ("192.0.2.1", true),
            ("127.0.0.1", true),
        ] {
            assert_eq!(excepted(list, &url(target)), excepted_there, "{target}");
        }
        assert!(excepted("*", &url("any")));
        let proxies = Proxies::new(&Configured {
            http: Some("http://u:p@proxy:3128".into()),
            https: None,
            except: None,
            connect_headers: Vec::new(),
        });
        let way = proxies.of(&url("http://127.0.0.1/")).unwrap();
        assert_eq!((way.url.port(), way.headers[0].1.as_str()), (3128, "Basic dTpw"));
        assert!(proxies.of(&url("https://x")).is_none());
    }
}

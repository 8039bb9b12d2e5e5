//! The ways to a target, as the real blackbox_exporter and sluice go them: HTTP/2, proxies, tokens that are fetched first, DNS by TCP and over TLS, gRPC's health service.
//!
//! As in `blackbox`: the same modules and targets, the same metrics and values; and here what proxies and servers of tokens were asked is the same, too.

use crate::support::blackbox::{Pair, answer, name_server, name_server_by_tcp, over_tls, request, secure, serve, speaking};
use crate::support::http2::{Said, serve_http2};
use crate::support::peers::{Peer, need};
use crate::support::process::Scratch;
use crate::support::tls::{Authority, demanding};
use hyper::http::request::Parts;
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::TLS12;

/// Metrics of a certificate.
const CERTIFICATE: &[&str] = &[
    "probe_ssl_earliest_cert_expiry",
    "probe_ssl_last_chain_expiry_timestamp_seconds",
    "probe_ssl_last_chain_info",
    "probe_tls_version_info",
];

/// 0.23 tells an end of 1970 where there is no certificate at all.
const NONE: &[&str] = &["probe_ssl_earliest_cert_expiry"];

fn closed() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound")
}

/// What a server was asked: sluice is asked first (`Pair::same`), then blackbox_exporter.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn note(&self, asked: &str) {
        self.0.lock().expect("no panic").push(asked.to_owned());
    }

    /// Both asked the same so often, in what `part` sees of a request; gives the last of it.
    #[track_caller]
    fn same(&self, times: usize, part: impl Fn(&str) -> String) -> String {
        let all: Vec<String> = std::mem::take(&mut *self.0.lock().expect("no panic"));
        assert_eq!(all.len(), 2 * times, "{all:#?}");
        let (ours, theirs) = all.split_at(times);
        let seen = |asked: &[String]| asked.iter().map(|one| part(one)).collect::<Vec<_>>();
        assert_eq!(seen(ours), seen(theirs));
        part(&theirs[times - 1])
    }
}

/// The first line of a request and these headers of it.
fn head(asked: &str, names: &[&str]) -> String {
    let mut lines = asked.lines();
    let first = lines.next().unwrap_or_default().to_owned();
    let mut headers: Vec<String> = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .filter(|(name, _)| names.contains(&&**name))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    headers.sort();
    std::iter::once(first).chain(headers).collect::<Vec<_>>().join("\n")
}

fn pages_of_http2(head: &Parts, body: &[u8]) -> Option<Said> {
    let said = |status, body: &[u8]| Said { status, body: body.to_vec(), ..Said::default() };
    let found = |place: &str| Said { headers: vec![("location", place.to_owned())], ..said(302, b"moved") };
    Some(match head.uri.path() {
        "/" => Said { headers: vec![("last-modified", "Tue, 15 Nov 1994 12:45:26 GMT".to_owned())], ..said(200, b"Hello, world") },
        "/empty" => said(204, b""),
        "/endless" => Said { endless: true, ..said(200, b"Hello") },
        "/once" => found("/"),
        "/loop" => found("/loop"),
        "/post" if head.method == "POST" && body == br#"{"a": 1}"# => said(201, b"made"),
        "/auth" if head.headers.get("authorization").is_some_and(|value| value == "Basic dXNlcjpwYXNz") => said(200, b"in"),
        "/host" if head.uri.authority().is_some_and(|authority| authority == "my.host") => said(200, b"in"),
        "/trailers" => Said { trailers: vec![("x-sum", "1".to_owned())], ..said(200, b"Hello") },
        "/reset" => return None,
        _ => said(404, b"not here"),
    })
}

#[test]
fn http_2_as_blackbox_exporter_speaks_it() {
    if !need(&[Peer::Blackbox]) {
        return;
    }
    let scratch = Scratch::new("blackbox-http2");
    let authority = Authority::new(scratch.sub("authority"));
    authority.renew();
    let module = |more: &str, tls: &str| {
        let ca = authority.trusted();
        format!("{{prober: http, timeout: 5s, http: {{preferred_ip_protocol: ip4, {more}tls_config: {{ca_file: {}{tls}}}}}}}", ca.display())
    };
    let modules = format!(
        "modules:\n  any: {}\n  two: {}\n  one: {}\n  off: {}\n  has: {}\n  short: {}\n  post: {}\n  head: {}\n  basic: {}\n  host: {}\n  stay: {}\n",
        module("", ""),
        module("valid_http_versions: [HTTP/2.0], ", ""),
        module("valid_http_versions: [HTTP/1.1], ", ""),
        module("enable_http2: false, ", ""),
        module("fail_if_body_not_matches_regexp: [Hello], ", ""),
        module("body_size_limit: 5B, ", ""),
        module("method: POST, body: '{\"a\": 1}', headers: {Content-Type: application/json}, ", ""),
        module("method: HEAD, ", ""),
        module("basic_auth: {username: user, password: pass}, ", ""),
        module("headers: {Host: my.host}, ", ", server_name: localhost"),
        module("follow_redirects: false, valid_status_codes: [302], ", ""),
    );
    let mut pair = Pair::start(&scratch, &modules);
    let serves = |protocols: &[&str]| {
        let config = speaking(protocols, &authority.certificate(), &authority.key());
        let address = serve_http2(Some(config), pages_of_http2);
        move |path: &str| format!("https://{address}{path}")
    };
    let (both, old) = (serves(&["h2", "http/1.1"]), serves(&["http/1.1"]));
    for (module, path) in [
        ("any", "/"),
        ("any", "/empty"),
        ("any", "/endless"),
        ("any", "/once"),
        ("any", "/trailers"),
        ("two", "/"),
        ("two", "/once"),
        ("off", "/"),
        ("has", "/once"),
        ("has", "/endless"),
        ("post", "/post"),
        ("head", "/"),
        ("basic", "/auth"),
        ("host", "/host"),
    ] {
        pair.good(module, both(path));
    }
    for (module, path) in [
        ("one", "/"),
        ("any", "/404"),
        ("any", "/loop"),
        ("any", "/reset"),
        ("has", "/empty"),
        ("short", "/"),
        ("basic", "/post"),
        ("host", "/auth"),
    ] {
        pair.bad(module, both(path), &[]);
    }
    pair.good("any", old("/"));
    pair.good("one", old("/"));
    pair.bad("two", old("/"), &[]);
    // The body of a redirect that is not followed is read: docs/probing.md.
    assert!(pair.same("stay", &both("/once"), &["probe_http_uncompressed_body_length"]));
}

/// Both ways until one side has no more to say.
fn pump(one: TcpStream, other: TcpStream) {
    let (from, to) = (one.try_clone().expect("a socket"), other.try_clone().expect("a socket"));
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        drop(std::io::copy(&mut from, &mut to));
        drop(to.shutdown(Shutdown::Write));
    };
    let there = std::thread::spawn(move || copy(from, to));
    copy(other, one);
    drop(there.join());
}

/// A proxy: answers plain requests itself, and connects where `open` allows it.
fn proxy(heard: Heard, open: bool) -> SocketAddr {
    serve(move |stream| {
        let mut reader = BufReader::new(stream);
        let asked = request(&mut reader);
        heard.note(&asked);
        let place = asked.split(' ').nth(1).unwrap_or_default();
        if asked.starts_with("CONNECT ") {
            let Some(target) = open.then(|| TcpStream::connect(place).ok()).flatten() else {
                drop(reader.get_mut().write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"));
                return;
            };
            drop(reader.get_mut().write_all(b"HTTP/1.1 200 Connected\r\n\r\n"));
            pump(reader.into_inner(), target);
            return;
        }
        let said = match place.splitn(4, '/').nth(3).unwrap_or_default() {
            "once" => answer(302, "Location: /\r\n", b"moved"),
            "who" => answer(407, "Proxy-Authenticate: Basic\r\n", b"who?"),
            _ => answer(200, "", b"by proxy"),
        };
        drop(reader.get_mut().write_all(&said));
    })
}

#[test]
fn proxies_as_blackbox_exporter_asks_them() {
    if !need(&[Peer::Blackbox]) {
        return;
    }
    let scratch = Scratch::new("blackbox-proxies");
    let authority = Authority::new(scratch.sub("authority"));
    authority.renew();
    let heard = Heard::default();
    let (open, shut) = (proxy(heard.clone(), true), proxy(heard.clone(), false));
    let module = |proxy: &str, more: &str| {
        let ca = authority.trusted();
        let options = format!("preferred_ip_protocol: ip4, proxy_url: '{proxy}', {more}tls_config: {{ca_file: {}}}", ca.display());
        format!("{{prober: http, timeout: 5s, http: {{{options}}}}}")
    };
    let modules = format!(
        "modules:\n  by: {}\n  user: {}\n  extra: {}\n  skip: {}\n  shut: {}\n  gone: {}\n",
        module(&format!("http://{open}"), ""),
        module(&format!("http://user:pass@{open}"), ""),
        module(&format!("http://{open}"), "proxy_connect_header: {X-C: [d]}, "),
        module(&format!("http://{open}"), "skip_resolve_phase_with_proxy: true, "),
        module(&format!("http://{shut}"), ""),
        module(&format!("http://{}", closed()), ""),
    );
    // With names that are to be resolved by the proxy, nothing is judged here: docs/probing.md.
    let mut pair = Pair::start_with(&scratch, &modules, "  ad_hoc: { deny: [] }\n");
    let asked = |times| heard.same(times, |one| head(one, &["host", "proxy-authorization", "x-c"]));

    pair.good("by", "http://127.0.0.1:9/x");
    assert_eq!(asked(1), "GET http://127.0.0.1:9/x HTTP/1.1\nhost: 127.0.0.1:9");
    pair.good("by", "http://localhost:9/x?a=b");
    asked(1);
    pair.good("by", "http://127.0.0.1:9/once");
    asked(2);
    pair.good("user", "http://127.0.0.1:9/x");
    assert!(asked(1).ends_with("proxy-authorization: Basic dXNlcjpwYXNz"));
    pair.bad("by", "http://127.0.0.1:9/who", &[]);
    asked(1);
    pair.good("skip", "http://no-such-name.invalid/x");
    assert!(asked(1).starts_with("GET http://no-such-name.invalid/x "));
    pair.bad("by", "http://no-such-name.invalid/", &["probe_http_duration_seconds"]);
    pair.bad("gone", "http://127.0.0.1:9/x", &[]);

    let secured = secure(&authority.certificate(), &authority.key());
    let https = serve(move |stream| {
        let mut reader = BufReader::new(over_tls(&secured, stream));
        request(&mut reader);
        drop(reader.get_mut().write_all(&answer(200, "", b"Hello, world")));
        reader.get_mut().conn.send_close_notify();
        drop(reader.get_mut().flush());
    });
    pair.good("by", format!("https://{https}/"));
    assert_eq!(asked(1), format!("CONNECT {https} HTTP/1.1\nhost: {https}"));
    pair.good("by", format!("https://localhost:{}/", https.port()));
    asked(1);
    pair.good("user", format!("https://{https}/"));
    assert!(asked(1).ends_with("proxy-authorization: Basic dXNlcjpwYXNz"));
    pair.good("extra", format!("https://{https}/"));
    assert!(asked(1).ends_with("x-c: d"));
    pair.good("skip", format!("https://localhost:{}/", https.port()));
    assert!(asked(1).starts_with("CONNECT localhost:"));
    pair.bad("shut", format!("https://{https}/"), &[]);
    asked(1);
    pair.bad("by", format!("https://{}/", closed()), &[]);
    pair.bad("gone", format!("https://{https}/"), &[]);
    // HTTP/2 behind a tunnel.
    let config = speaking(&["h2"], &authority.certificate(), &authority.key());
    let two = serve_http2(Some(config), pages_of_http2);
    pair.good("by", format!("https://{two}/once"));
}

/// Makes tokens, and does not; by path.
fn tokens(heard: Heard) -> SocketAddr {
    serve(move |stream| {
        let mut reader = BufReader::new(stream);
        let asked = request(&mut reader);
        heard.note(&asked);
        let json = "Content-Type: application/json\r\n";
        let said = match asked.split(' ').nth(1).unwrap_or_default() {
            // Wants to be told by the content who asks.
            "/content" if !asked.contains("client_secret=") => answer(401, json, br#"{"error": "invalid_client"}"#),
            "/good" | "/content" => answer(200, json, br#"{"access_token": "T", "token_type": "bearer", "expires_in": 3600}"#),
            "/bare" => answer(200, json, br#"{"access_token": "T"}"#),
            "/other" => answer(200, json, br#"{"access_token": "other", "token_type": "bearer"}"#),
            "/none" => answer(200, json, br#"{"token_type": "bearer"}"#),
            "/noise" => answer(200, json, b"<html>"),
            "/ill" => answer(500, "", b"not today"),
            _ => answer(401, json, br#"{"error": "invalid_client"}"#),
        };
        drop(reader.get_mut().write_all(&said));
    })
}

#[test]
fn tokens_as_blackbox_exporter_fetches_them() {
    if !need(&[Peer::Blackbox]) {
        return;
    }
    let scratch = Scratch::new("blackbox-tokens");
    let heard = Heard::default();
    let server = tokens(heard.clone());
    let secret = scratch.join("secret");
    std::fs::write(&secret, "from a file\n").expect("written");
    let module = |path: &str, secret: &str, more: &str| {
        let oauth2 = format!("{{client_id: id, {secret}, token_url: 'http://{server}/{path}'{more}}}");
        format!("{{prober: http, timeout: 5s, http: {{preferred_ip_protocol: ip4, oauth2: {oauth2}}}}}")
    };
    let plain = "client_secret: 's e:c'";
    let mut modules = String::from("modules:\n");
    for (name, module) in [
        ("good", module("good", plain, "")),
        ("file", module("good", &format!("client_secret_file: {}", secret.display()), "")),
        ("scopes", module("good", plain, ", scopes: [a, 'b c'], endpoint_params: {audience: 'x y'}")),
        ("bare", module("bare", plain, "")),
        ("content", module("content", plain, "")),
        ("other", module("other", plain, "")),
        ("none", module("none", plain, "")),
        ("noise", module("noise", plain, "")),
        ("ill", module("ill", plain, "")),
        ("refused", module("refused", plain, "")),
    ] {
        modules.push_str(&format!("  {name}: {module}\n"));
    }
    let mut pair = Pair::start(&scratch, &modules);
    let target = serve(|stream| {
        let mut reader = BufReader::new(stream);
        let said = if request(&mut reader).contains("Bearer T\r\n") { answer(200, "", b"in") } else { answer(401, "", b"out") };
        drop(reader.get_mut().write_all(&said));
    });
    // The form, in whatever order.
    let asked = |one: &str| {
        let mut pairs: Vec<&str> = one.split("\r\n\r\n").nth(1).unwrap_or_default().split('&').collect();
        pairs.sort_unstable();
        format!("{}\n{}", head(one, &["authorization", "content-type"]), pairs.join("&"))
    };
    for module in ["good", "file", "scopes", "bare"] {
        pair.good(module, target);
        let asked = heard.same(1, asked);
        assert!(asked.contains("grant_type=client_credentials"), "{asked}");
        if module == "scopes" {
            assert!(asked.ends_with("audience=x+y&grant_type=client_credentials&scope=a+b+c"), "{asked}");
        }
    }
    pair.good("content", target);
    assert!(heard.same(2, asked).contains("client_id=id&client_secret=s+e%3Ac"));
    pair.bad("other", target, &[]);
    // Without a token the target is not asked for, nor is its name.
    for module in ["none", "noise", "ill", "refused"] {
        pair.bad(module, target, &["probe_ip_protocol", "probe_ip_addr_hash"]);
    }
}

#[test]
fn names_by_tcp_and_over_tls_as_blackbox_exporter_asks_for_them() {
    if !need(&[Peer::Blackbox]) {
        return;
    }
    let scratch = Scratch::new("blackbox-dns-tcp");
    let authority = Authority::new(scratch.sub("authority"));
    authority.renew();
    let dns = |more: &str| format!("{{prober: dns, timeout: 5s, dns: {{preferred_ip_protocol: ip4, {more}}}}}");
    let ca = format!("tls_config: {{ca_file: {}}}", authority.trusted().display());
    let modules = format!(
        "modules:\n  a: {}\n  soa: {}\n  nil: {}\n  none: {}\n  big: {}\n  big_tcp: {}\n  tls: {}\n  tls_nil: {}\n  tls_stranger: {}\n  tls_any: {}\n",
        dns("transport_protocol: tcp, query_name: www.example.com, query_type: A"),
        dns("transport_protocol: tcp, query_name: www.example.com, query_type: SOA"),
        dns("transport_protocol: tcp, query_name: nil.example.com, query_type: A"),
        dns("transport_protocol: tcp, query_name: www.example.com, query_type: A, validate_answer_rrs: {fail_if_matches_regexp: [127]}"),
        dns("query_name: big.example.com, query_type: A"),
        dns("transport_protocol: tcp, query_name: big.example.com, query_type: A"),
        dns(&format!("transport_protocol: tcp, dns_over_tls: true, query_name: www.example.com, query_type: A, {ca}")),
        dns(&format!("transport_protocol: tcp, dns_over_tls: true, query_name: nil.example.com, query_type: A, {ca}")),
        dns("transport_protocol: tcp, dns_over_tls: true, query_name: www.example.com, query_type: A"),
        dns(
            "transport_protocol: tcp, dns_over_tls: true, query_name: www.example.com, query_type: A, tls_config: {insecure_skip_verify: true}"
        ),
    );
    let mut pair = Pair::start(&scratch, &modules);
    let (udp, tcp) = (name_server(), name_server_by_tcp(|stream| stream));
    let secured = secure(&authority.certificate(), &authority.key());
    let over = name_server_by_tcp(move |stream| over_tls(&secured, stream));
    for module in ["a", "soa", "big_tcp"] {
        pair.good(module, tcp);
    }
    pair.bad("nil", tcp, &[]);
    pair.bad("none", tcp, &[]);
    // What did not fit counts as it came: `compat: strict`.
    pair.good("big", udp);
    // Nobody, one that hangs up, one that says something else.
    pair.bad("a", closed(), &[]);
    pair.bad("a", serve(drop), &[]);
    let noise = serve(|mut stream| {
        drop(stream.read(&mut [0; 64]));
        drop(stream.write_all(b"\0\x03abc"));
    });
    pair.bad("a", noise, &[]);
    for module in ["tls", "tls_any"] {
        assert!(pair.same(module, &over.to_string(), CERTIFICATE), "{module}");
    }
    assert!(pair.same("tls", &format!("localhost:{}", over.port()), CERTIFICATE));
    pair.bad("tls_nil", over, CERTIFICATE);
    pair.bad("tls_stranger", over, CERTIFICATE);
    pair.bad("tls", tcp, CERTIFICATE);
    pair.bad("a", over, &[]);
}

/// The health service: says a state for a service, or a code.
fn health(head: &Parts, body: &[u8]) -> Option<Said> {
    let asked = (head.uri.path(), head.headers.get("content-type").map(|value| value.as_bytes()));
    let known = asked == ("/grpc.health.v1.Health/Check", Some(&b"application/grpc"[..]));
    let service = String::from_utf8_lossy(body.get(7..).unwrap_or_default()).into_owned();
    let said = |body: Vec<u8>, code: u8| {
        let (headers, trailers) = (vec![("content-type", "application/grpc".to_owned())], vec![("grpc-status", code.to_string())]);
        Some(Said { status: 200, headers, body, trailers, endless: true })
    };
    match &*service {
        _ if !known => said(Vec::new(), 12),
        "" | "fine" => said(vec![0, 0, 0, 0, 2, 8, 1], 0),
        "ill" => said(vec![0, 0, 0, 0, 2, 8, 2], 0),
        "unsaid" => said(vec![0, 0, 0, 0, 0], 0),
        "old" => said(Vec::new(), 12),
        "page" => Some(Said { status: 503, body: b"not today".to_vec(), ..Said::default() }),
        "reset" => None,
        _ => said(Vec::new(), 5),
    }
}

#[test]
fn grpcs_health_as_blackbox_exporter_sees_it() {
    if !need(&[Peer::Blackbox]) {
        return;
    }
    let scratch = Scratch::new("blackbox-grpc");
    let authority = Authority::new(scratch.sub("authority"));
    authority.renew();
    let grpc = |more: &str| format!("{{prober: grpc, timeout: 5s, grpc: {{preferred_ip_protocol: ip4, {more}}}}}");
    let ca = format!("tls_config: {{ca_file: {}}}", authority.trusted().display());
    let mut modules = format!("modules:\n  tls: {}\n  tls_stranger: {}\n", grpc(&format!("tls: true, {ca}")), grpc("tls: true"));
    modules.push_str(&format!("  tls_any: {}\n", grpc("tls: true, tls_config: {insecure_skip_verify: true}")));
    modules.push_str(&format!("  tls_ill: {}\n  plain: {}\n", grpc(&format!("tls: true, service: ill, {ca}")), grpc("")));
    for service in ["fine", "ill", "unsaid", "old", "page", "reset", "unknown"] {
        modules.push_str(&format!("  {service}: {}\n", grpc(&format!("service: {service}"))));
    }
    let mut pair = Pair::start(&scratch, &modules);
    let plain = serve_http2(None, health);
    let secured = serve_http2(Some(speaking(&["h2"], &authority.certificate(), &authority.key())), health);
    for (module, target) in [("plain", plain.to_string()), ("plain", format!("localhost:{}", plain.port())), ("fine", plain.to_string())] {
        assert!(pair.same(module, &target, NONE), "{module} {target}");
    }
    for module in ["ill", "unsaid", "old", "page", "unknown"] {
        pair.bad(module, plain, NONE);
    }
    // Why a stream was reset is not told to us.
    pair.bad("reset", plain, &[NONE[0], "probe_grpc_status_code"]);
    pair.good("tls", secured);
    pair.good("tls", format!("localhost:{}", secured.port()));
    pair.good("tls_any", secured);
    pair.bad("tls_ill", secured, &[]);
    pair.bad("tls_stranger", secured, CERTIFICATE);
    pair.bad("tls", plain, CERTIFICATE);
    pair.bad("plain", secured, CERTIFICATE);
}

#[test]
fn versions_and_certificates_of_its_own_as_blackbox_exporter_shows_them() {
    if !need(&[Peer::Blackbox]) {
        return;
    }
    let scratch = Scratch::new("blackbox-own");
    let authority = Authority::new(scratch.sub("authority"));
    authority.renew();
    let (ca, own) = (authority.trusted(), (authority.certificate(), authority.key()));
    let module = |prober: &str, more: &str| {
        let tls = if prober == "tcp" { "tls: true, " } else { "" };
        let config = format!("tls_config: {{ca_file: {}{more}}}", ca.display());
        format!("{{prober: {prober}, timeout: 5s, {prober}: {{preferred_ip_protocol: ip4, {tls}{config}}}}}")
    };
    let shown = format!(", cert_file: {}, key_file: {}", own.0.display(), own.1.display());
    let modules = format!(
        "modules:\n  plain: {}\n  own: {}\n  old: {}\n  new: {}\n  tcp_own: {}\n  tcp_plain: {}\n  tcp_old: {}\n",
        module("http", ""),
        module("http", &shown),
        module("http", ", max_version: TLS12"),
        module("http", ", min_version: TLS13"),
        module("tcp", &shown),
        module("tcp", ""),
        module("tcp", ", min_version: TLS12, max_version: TLS12"),
    );
    let mut pair = Pair::start(&scratch, &modules);
    let serves = |config: Arc<ServerConfig>| {
        let address = serve(move |stream| {
            let mut reader = BufReader::new(over_tls(&config, stream));
            request(&mut reader);
            drop(reader.get_mut().write_all(&answer(200, "", b"Hello, world")));
            reader.get_mut().conn.send_close_notify();
            drop(reader.get_mut().flush());
        });
        (address, format!("https://{address}/"))
    };
    let (any, any_page) = serves(secure(&own.0, &own.1));
    let (_, closed_page) = serves(demanding(&authority));
    for module in ["plain", "own", "old", "new"] {
        pair.good(module, &any_page);
    }
    for module in ["tcp_own", "tcp_plain", "tcp_old"] {
        pair.good(module, any);
    }
    pair.good("own", &closed_page);
    // By TLS 1.3 the refusal comes after the handshake.
    pair.bad("plain", &closed_page, &[]);
    pair.bad("old", &closed_page, &[]);
    // A server that speaks 1.2 and nothing newer.
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS12]).expect("versions").with_no_client_auth();
    let chain = vec![CertificateDer::from_pem_file(&own.0).expect("a certificate")];
    let twelve = Arc::new(config.with_single_cert(chain, PrivateKeyDer::from_pem_file(&own.1).expect("a key")).expect("a pair"));
    let (old, old_page) = serves(twelve);
    pair.good("plain", &old_page);
    pair.good("old", &old_page);
    pair.good("tcp_old", old);
    pair.bad("new", &old_page, &[]);
}

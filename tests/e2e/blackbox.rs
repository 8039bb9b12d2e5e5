//! The real blackbox_exporter and sluice, with the same modules (`compat: strict`) and the same targets: the same metrics, and the same values
//! wherever a value is determined. What blackbox_exporter 0.23 (Debian's) does not have yet is listed in `support/blackbox.rs`; where sluice differs on purpose stands
//! in docs/probing.md, and what 0.23 lacks as a whole, too, with the tests of our own that look at it. HTTP/2, proxies, tokens, DNS by TCP and gRPC: `blackbox_ways`.

use crate::support::blackbox::{Pair, answer, name, name_server, over_tls, read, request, secure, serve};
use crate::support::http::Client;
use crate::support::peers::{Peer, need};
use crate::support::process::Scratch;
use crate::support::sluice::Sluice;
use crate::support::tls::Authority;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::rustls::ServerConfig;

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).expect("in memory");
    encoder.finish().expect("in memory")
}

fn pages(asked: &str) -> Vec<u8> {
    let path = asked.split(' ').nth(1).unwrap_or("/");
    let found = |location: &str| answer(302, &format!("Location: {location}\r\n"), b"moved");
    match path {
        "/" => answer(200, "Last-Modified: Tue, 15 Nov 1994 12:45:26 GMT\r\n", b"Hello, world"),
        "/404" => answer(404, "", b"not here"),
        "/empty" => answer(204, "", b""),
        "/chunked" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nHello\r\n0\r\n\r\n".to_vec(),
        "/old" => b"HTTP/1.0 200 OK\r\n\r\nHello until the end".to_vec(),
        "/once" => found("/"),
        "/lost" => found("/404"),
        "/loop" => found("/loop"),
        "/gzip" => answer(200, "Content-Encoding: gzip\r\n", &gzip(b"Hello, world")),
        "/headers" => answer(200, "Set-Cookie: a=b\r\nAccess-Control-Allow-Origin: example.com\r\n", b""),
        "/post" if asked.starts_with("POST") && asked.ends_with("{\"a\": 1}") => answer(201, "", b"made"),
        "/auth" if asked.contains("Basic dXNlcjpwYXNz") || asked.contains("basic dXNlcjpwYXNz") => answer(200, "", b"in"),
        "/token" if asked.contains("Bearer abc") => answer(200, "", b"in"),
        "/host" if asked.contains("my.host") => answer(200, "", b"in"),
        _ => answer(400, "", b"what?"),
    }
}

const HTTP: &str = r#"
  http_2xx: {prober: http, http: {preferred_ip_protocol: ip4}}
  http_six: {prober: http, http: {ip_protocol_fallback: false}}
  http_404: {prober: http, http: {valid_status_codes: [404]}}
  http_stay: {prober: http, http: {follow_redirects: false}}
  http_stay_302: {prober: http, http: {follow_redirects: false, valid_status_codes: [302]}}
  http_old: {prober: http, http: {valid_http_versions: [HTTP/1.0]}}
  http_has: {prober: http, http: {fail_if_body_not_matches_regexp: ["Hello"]}}
  http_has_not: {prober: http, http: {fail_if_body_matches_regexp: ["Hello"]}}
  http_cookie: {prober: http, http: {fail_if_header_matches: [{header: Set-Cookie, allow_missing: true, regexp: ".*"}]}}
  http_origin: {prober: http, http: {fail_if_header_not_matches: [{header: Access-Control-Allow-Origin, regexp: '(\*|example\.com)'}]}}
  http_gzip: {prober: http, http: {compression: gzip}}
  http_deflate: {prober: http, http: {compression: deflate}}
  http_short: {prober: http, http: {body_size_limit: 5B}}
  http_post: {prober: http, http: {method: POST, body: '{"a": 1}', headers: {Content-Type: application/json}}}
  http_head: {prober: http, http: {method: HEAD}}
  http_basic: {prober: http, http: {basic_auth: {username: user, password: pass}}}
  http_bearer: {prober: http, http: {bearer_token: abc}}
  http_host: {prober: http, http: {headers: {Host: my.host}}}
  http_not_ssl: {prober: http, http: {fail_if_ssl: true}}
  http_ssl: {prober: http, http: {fail_if_not_ssl: true}}
"#;

#[test]
fn http_as_blackbox_exporter_sees_it() {
    if !need(&[Peer::Blackbox]) {
        return;
    }
    let scratch = Scratch::new("blackbox-http");
    let mut pair = Pair::start(&scratch, &format!("modules:{HTTP}"));
    let address = serve(|stream| {
        let mut reader = BufReader::new(stream);
        let asked = request(&mut reader);
        let _ = reader.get_mut().write_all(&pages(&asked));
    });
    let at = |path: &str| format!("http://{address}{path}");
    for (module, path) in [
        ("http_2xx", "/"),
        ("http_2xx", "/empty"),
        ("http_2xx", "/chunked"),
        ("http_2xx", "/old"),
        ("http_2xx", "/once"),
        ("http_2xx", "/gzip"),
        ("http_404", "/404"),
        ("http_404", "/lost"),
        ("http_old", "/old"),
        ("http_has", "/"),
        ("http_has", "/once"),
        ("http_cookie", "/"),
        ("http_origin", "/headers"),
        ("http_gzip", "/gzip"),
        ("http_post", "/post"),
        ("http_head", "/"),
        ("http_basic", "/auth"),
        ("http_bearer", "/token"),
        ("http_host", "/host"),
        ("http_not_ssl", "/"),
    ] {
        pair.good(module, at(path));
    }
    pair.good("http_2xx", format!("{address}/"));
    // The body of a redirect that is not followed is read: docs/probing.md.
    let unread: &[&str] = &["probe_http_uncompressed_body_length"];
    assert!(pair.same("http_stay_302", &at("/once"), unread));
    pair.bad("http_stay", at("/once"), unread);
    for (module, path) in [
        ("http_2xx", "/404"),
        ("http_2xx", "/lost"),
        ("http_2xx", "/loop"),
        ("http_404", "/"),
        ("http_old", "/"),
        ("http_has", "/404"),
        ("http_has_not", "/"),
        ("http_has_not", "/chunked"),
        ("http_cookie", "/headers"),
        ("http_origin", "/"),
        ("http_deflate", "/gzip"),
        ("http_gzip", "/"),
        ("http_short", "/"),
        ("http_basic", "/token"),
        ("http_ssl", "/"),
    ] {
        pair.bad(module, at(path), &[]);
    }
    // Phases that were never reached are told as 0, there not at all.
    pair.bad("http_six", at("/"), &["probe_http_duration_seconds"]);
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    pair.bad("http_2xx", closed, &[]);
    pair.bad("http_2xx", "http://no-such-name.invalid/", &["probe_http_duration_seconds"]);
    pair.bad(
        "http_2xx",
        "invalid://x",
        &["probe_ip_protocol", "probe_ip_addr_hash", "probe_dns_lookup_time_seconds", "probe_http_duration_seconds"],
    );
    // What is no probe is answered in the same way.
    for path in ["/probe?module=none&target=x", "/probe?module=http_2xx", "/probe?module=http_host&hostname=other.host&target=x"] {
        let status = |client: &mut Client| {
            client.hang_up();
            client.call("GET", path).expect("an answer").status()
        };
        assert_eq!((status(&mut pair.sluice), status(&mut pair.rival)), (400, 400), "{path}");
    }
    pair.sluice.hang_up();
    let debug = pair.sluice.call("GET", &format!("/probe?module=http_basic&target={address}/auth&debug=true")).expect("an answer").text();
    for words in ["Logs for the probe:", "Metrics that would have been returned:", "Module configuration:", "prober: http", "(hidden)"] {
        assert!(debug.contains(words), "{words} is not in\n{debug}");
    }
    assert!(!debug.contains("pass\n") && !debug.contains("dXNlcjpwYXNz"), "{debug}");
}

/// A certificate that ended yesterday, for 127.0.0.1.
fn expired(dir: &Path) -> (PathBuf, PathBuf) {
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
    let key = rcgen::KeyPair::generate().expect("a key");
    let own = params.self_signed(&key).expect("signed");
    let files = (dir.join("expired.pem"), dir.join("expired.key"));
    std::fs::write(&files.0, own.pem()).expect("written");
    std::fs::write(&files.1, key.serialize_pem()).expect("written");
    files
}

/// Waits for a line that begins so (nothing: does not wait), then says that.
fn play(stream: &mut BufReader<impl Read + Write>, steps: &[(&str, &str)]) {
    for (wanted, say) in steps {
        let mut line = String::new();
        if !wanted.is_empty() && (stream.read_line(&mut line).is_err() || !line.starts_with(wanted)) {
            return;
        }
        let _ = stream.get_mut().write_all(say.as_bytes());
    }
    let _ = stream.get_mut().flush();
}

#[test]
fn tls_and_dialogues_as_blackbox_exporter_sees_them() {
    if !need(&[Peer::Blackbox]) {
        return;
    }
    let scratch = Scratch::new("blackbox-tls");
    let authority = Authority::new(scratch.sub("authority"));
    authority.renew();
    let ca = format!("tls_config: {{ca_file: {}}}", authority.trusted().display());
    let modules = format!(
        r#"modules:
  https: {{prober: http, http: {{preferred_ip_protocol: ip4, {ca}}}}}
  https_any: {{prober: http, http: {{preferred_ip_protocol: ip4, fail_if_not_ssl: true, tls_config: {{insecure_skip_verify: true}}}}}}
  https_name: {{prober: http, http: {{preferred_ip_protocol: ip4, tls_config: {{ca_file: {file}, server_name: localhost}}}}}}
  https_other: {{prober: http, http: {{preferred_ip_protocol: ip4, tls_config: {{ca_file: {file}, server_name: other.example}}}}}}
  https_not: {{prober: http, http: {{preferred_ip_protocol: ip4, fail_if_ssl: true, {ca}}}}}
  tcp: {{prober: tcp, tcp: {{preferred_ip_protocol: ip4}}}}
  tls: {{prober: tcp, tcp: {{preferred_ip_protocol: ip4, tls: true, {ca}}}}}
  pop3s: {{prober: tcp, tcp: {{preferred_ip_protocol: ip4, tls: true, {ca}, query_response: [{{expect: "^[+]OK"}}]}}}}
  smtp:
    prober: tcp
    timeout: 2s
    tcp:
      preferred_ip_protocol: ip4
      {ca}
      query_response:
        - expect: "^220 ([^ ]+) ESMTP (.+)$"
        - send: "EHLO prober\r"
        - expect: "^250-STARTTLS"
        - send: "STARTTLS\r"
        - expect: "^220"
        - starttls: true
        - send: "EHLO prober\r"
        - expect: "^250-AUTH"
        - send: "QUIT\r"
  irc:
    prober: tcp
    tcp:
      preferred_ip_protocol: ip4
      query_response:
        - send: "NICK prober"
        - send: "USER prober prober prober :prober"
        - expect: "PING :([^ ]+)"
          send: "PONG ${{1}}"
        - expect: "^:[^ ]+ 001"
"#,
        file = authority.trusted().display()
    );
    let mut pair = Pair::start(&scratch, &modules);
    let good = secure(&authority.certificate(), &authority.key());
    let (certificate, key) = expired(scratch.path());
    let ended = secure(&certificate, &key);
    let https = |config: Arc<ServerConfig>| {
        serve(move |stream| {
            let mut reader = BufReader::new(over_tls(&config, stream));
            let asked = request(&mut reader);
            let _ = reader.get_mut().write_all(&pages(&asked));
            reader.get_mut().conn.send_close_notify();
            let _ = reader.get_mut().flush();
        })
    };
    let (fine, over) = (https(Arc::clone(&good)), https(ended));
    pair.good("https", format!("https://{fine}/"));
    pair.good("https", format!("https://localhost:{}/once", fine.port()));
    pair.good("https_any", format!("https://{fine}/"));
    pair.good("https_any", format!("https://{over}/"));
    pair.good("https_name", format!("https://{fine}/"));
    pair.bad("https_not", format!("https://{fine}/"), &[]);
    pair.bad("https", format!("https://{over}/"), &[]);
    pair.bad("https_other", format!("https://{fine}/"), &[]);
    let plain = serve(|stream| {
        let mut reader = BufReader::new(stream);
        let asked = request(&mut reader);
        let _ = reader.get_mut().write_all(&pages(&asked));
    });
    pair.bad("https_any", format!("http://{plain}/"), &[]);
    pair.good("tcp", plain);
    let secured = Arc::clone(&good);
    let pop3s = serve(move |stream| play(&mut BufReader::new(over_tls(&secured, stream)), &[("", "+OK ready\r\n")]));
    pair.good("tls", pop3s);
    pair.good("pop3s", format!("localhost:{}", pop3s.port()));
    pair.bad("tls", over, &[]);
    let smtp = serve(move |stream| {
        let mut reader = BufReader::new(stream);
        play(&mut reader, &[("", "220 me ESMTP hello\r\n"), ("EHLO", "250-me\r\n250-STARTTLS\r\n250 OK\r\n"), ("STARTTLS", "220 go\r\n")]);
        let mut secured = BufReader::new(over_tls(&good, reader.into_inner()));
        play(&mut secured, &[("EHLO", "250-me\r\n250-AUTH PLAIN\r\n"), ("QUIT", "")]);
    });
    pair.good("smtp", smtp);
    pair.bad("smtp", pop3s, &["probe_failed_due_to_regex"]);
    let irc = serve(|stream| {
        let steps = [("NICK", ":x NOTICE hello\r\n:y whatever\r\n"), ("USER", "PING :abc\r\n"), ("PONG abc", ":ircd 001 welcome\r\n")];
        play(&mut BufReader::new(stream), &steps);
    });
    pair.good("irc", irc);
    let rude = serve(|stream| play(&mut BufReader::new(stream), &[("NICK", ""), ("USER", "ERROR no\r\n")]));
    pair.bad("irc", rude, &[]);
}

#[test]
fn names_echoes_and_grpc_as_blackbox_exporter_sees_them() {
    if !need(&[Peer::Blackbox]) {
        return;
    }
    let scratch = Scratch::new("blackbox-dns");
    let dns = |more: &str| format!("{{prober: dns, timeout: 5s, dns: {{preferred_ip_protocol: ip4, {more}}}}}");
    let modules = format!(
        r#"modules:
  a: {}
  soa: {}
  nil: {}
  nil_good: {}
  exact: {}
  none: {}
  all: {}
  not_all: {}
  authority: {}
  icmp: {{prober: icmp, timeout: 5s, icmp: {{preferred_ip_protocol: ip4}}}}
  icmp_large: {{prober: icmp, timeout: 5s, icmp: {{preferred_ip_protocol: ip4, payload_size: 1000, ttl: 7}}}}
  grpc: {{prober: grpc, timeout: 5s, grpc: {{preferred_ip_protocol: ip4}}}}
"#,
        dns("query_name: www.example.com, query_type: A"),
        dns("query_name: www.example.com, query_type: SOA"),
        dns("query_name: nil.example.com, query_type: A"),
        dns("query_name: nil.example.com, query_type: A, valid_rcodes: [NXDOMAIN]"),
        dns(
            r#"query_name: www.example.com, query_type: A, validate_answer_rrs: {fail_if_not_matches_regexp: ["^www.example.com.\t3600\tIN\tA\t127.0.0.1$"]}"#
        ),
        dns("query_name: www.example.com, query_type: A, validate_answer_rrs: {fail_if_matches_regexp: [127]}"),
        dns("query_name: www.example.com, query_type: A, validate_answer_rrs: {fail_if_all_match_regexp: [127]}"),
        dns("query_name: www.example.com, query_type: A, validate_answer_rrs: {fail_if_all_match_regexp: [128]}"),
        dns(
            r#"query_name: www.example.com, query_type: A, validate_authority_rrs: {fail_if_none_matches_regexp: ["NS\tns.www.example.com.$"]}"#
        ),
    );
    let mut pair = Pair::start(&scratch, &modules);
    let server = name_server();
    for module in ["a", "soa", "nil_good", "exact", "all", "authority"] {
        pair.good(module, server);
    }
    for module in ["nil", "none", "not_all"] {
        pair.bad(module, server, &[]);
    }
    // A datagram socket does not show the hop limit without code that this project forbids itself.
    for module in ["icmp", "icmp_large"] {
        let icmp = pair.same(module, "127.0.0.1", &["probe_icmp_reply_hop_limit"]);
        assert!(icmp, "this host lets neither of them send echoes");
    }
    // Nobody listens: the code is the same. There, a certificate that never came ends in 1970.
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    pair.bad("grpc", closed, &["probe_ssl_earliest_cert_expiry"]);
}

#[test]
fn every_metric_that_the_manual_names_for_dashboards_is_answered() {
    let manual = include_str!("../../docs/probing.md").split("### For dashboards").nth(1).expect("the chapter");
    let table = manual.split("\n## ").next().expect("its end").lines().filter(|line| line.starts_with("| `"));
    let named: BTreeSet<&str> = table.flat_map(|line| line.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2)).collect();
    assert!(named.len() > 20, "{named:?}");
    let scratch = Scratch::new("blackbox-manual");
    let authority = Authority::new(scratch.sub("authority"));
    authority.renew();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/blackbox.yml");
    let sinks = format!(
        "  - name: rows\n    file: {{ directory: {} }}\nprobe:\n  modules_file: {shipped}\n  modules:\n    ours: {{ prober: http, http: {{ tls_config: {{ ca_file: {} }} }} }}\n",
        scratch.sub("rows").display(),
        authority.trusted().display()
    );
    let mut sluice = Sluice::prepare_with(&scratch, "manual", &sinks, None);
    sluice.up();
    let config = secure(&authority.certificate(), &authority.key());
    let https = serve(move |stream| {
        let mut reader = BufReader::new(over_tls(&config, stream));
        let asked = request(&mut reader);
        let _ = reader.get_mut().write_all(&pages(&asked));
        reader.get_mut().conn.send_close_notify();
        let _ = reader.get_mut().flush();
    });
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let mut answered = BTreeSet::new();
    for (module, target) in [
        ("ours", format!("https://{https}/once")),
        ("http_2xx", format!("http://{closed}/")),
        ("tcp_connect", https.to_string()),
        ("smtp_starttls", closed.to_string()),
        ("dns_soa", name_server().to_string()),
        ("icmp", "127.0.0.1".to_owned()),
        ("grpc_plain", closed.to_string()),
    ] {
        let answer = sluice.get(&format!("/probe?module={module}&target={target}"));
        assert_eq!(answer.status(), 200, "{module}: {}", answer.text());
        answered.extend(read(&answer.text()).into_keys().map(|series| name(&series).to_owned()));
    }
    let missing: Vec<&&str> = named.iter().filter(|metric| !answered.contains(**metric)).collect();
    assert!(missing.is_empty(), "{missing:?} of {answered:?}");
}

//! What modules may say, and what is told where they say anything else.

use super::*;
use crate::config::probe::http::accepts;

fn modules(text: &str) -> Vec<(String, Module)> {
    match parse_file(text) {
        Ok(modules) => modules,
        Err(problems) => panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

fn wrong(text: &str) -> String {
    parse_file(text).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn defaults_are_those_of_blackbox_exporter() {
    let all = modules(
        "modules:\n  h: {prober: http}\n  t: {prober: tcp}\n  i: {prober: icmp}\n  g: {prober: grpc}\n  u: {prober: unix}\n  d: {prober: dns, dns: {query_name: a.example}}\n",
    );
    let kind = |name: &str| all.iter().find(|(known, _)| known == name).map(|(_, module)| &module.kind).unwrap();
    let Kind::Http(http) = kind("h") else { panic!() };
    assert_eq!(
        (http.method.as_str(), http.follow_redirects, http.http2, http.family.four, http.family.fallback),
        ("GET", true, true, false, true)
    );
    let Kind::Icmp(icmp) = kind("i") else { panic!() };
    assert_eq!((icmp.ttl, icmp.payload_size, icmp.dont_fragment), (64, 0, false));
    // Without a block of its own, blackbox_exporter (before 0.28) did not fall back to IPv4.
    let Kind::Grpc(grpc) = kind("g") else { panic!() };
    assert!(grpc.family.fallback && !grpc.tls);
    let Kind::Dns(dns) = kind("d") else { panic!() };
    assert_eq!((dns.kind, dns.class, dns.recursion, dns.tcp, dns.rcodes.as_slice()), (255, 1, true, false, &[0][..]));
}

#[test]
fn every_field_is_read() {
    let all = modules(include_str!("../../../tests/support/blackbox-all.yml"));
    assert_eq!(all.len(), 15);
    let kind = |name: &str| all.iter().find(|(known, _)| known == name).map(|(_, module)| &module.kind).unwrap();
    let Kind::Tcp(tcp) = kind("postgresql") else { panic!() };
    assert_eq!(tcp.steps[0].send.as_deref(), Some(&[0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f][..]));
    assert_eq!(tcp.steps[1].expect_bytes.as_deref(), Some(&b"S"[..]));
    let Kind::Http(http) = kind("http_everything") else { panic!() };
    assert_eq!((http.body_most, http.versions.as_slice()), (1 << 20, &["HTTP/1.1".to_owned(), "HTTP/2.0".to_owned()][..]));
    let shown = &all.iter().find(|(name, _)| name == "http_everything").unwrap().1.shown;
    assert!(!shown.contains("canary") && shown.contains("http.method: POST") && shown.contains("(hidden)"), "{shown}");
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let cases = [
        ("modules:\n  a: {prober: http, htp: {}}", "did you mean `http`?"),
        ("modules:\n  a: {prober: ftp}", "must be one of: http"),
        ("modules:\n  a: {}", "modules.a.prober\n    is missing"),
        ("modules:\n  a: {prober: websocket}", "leave this module to blackbox_exporter"),
        ("modules:\n  a: {prober: dns}", "query_name"),
        ("modules:\n  a: {prober: dns, dns: {query_name: x, query_type: CNAM}}", "did you mean `CNAME`?"),
        ("modules:\n  a: {prober: dns, dns: {query_name: x, query_class: XX}}", "is not known to DNS"),
        ("modules:\n  a: {prober: dns, dns: {query_name: x, valid_rcodes: [NOERR]}}", "did you mean `NOERROR`?"),
        ("modules:\n  a: {prober: dns, dns: {query_name: x, dns_over_tls: true}}", "transport_protocol: tcp"),
        (
            "modules:\n  a: {prober: dns, dns: {query_name: x, validate_answer_rrs: {fail_if_matches_regexp: ['(']}}}",
            "is not a regular expression",
        ),
        ("modules:\n  a: {prober: http, http: {fail_if_body_matches_regexp: ['[']}}", "is not a regular expression"),
        ("modules:\n  a: {prober: http, http: {fail_if_body_not_matches_regexp: ['*']}}", "is not a regular expression"),
        ("modules:\n  a: {prober: http, http: {fail_if_body_json_matches_cel: 'body.a =='}}", "is no expression of CEL"),
        ("modules:\n  a: {prober: http, http: {fail_if_header_matches: [{regexp: x}]}}", "header\n    is missing"),
        ("modules:\n  a: {prober: http, http: {fail_if_header_matches: [{header: x}]}}", "regexp\n    is missing"),
        ("modules:\n  a: {prober: http, http: {fail_if_header_not_matches: [{header: x, regexp: '('}]}}", "is not a regular expression"),
        ("modules:\n  a: {prober: http, http: {body: x, body_file: y}}", "stands beside body"),
        ("modules:\n  a: {prober: http, http: {bearer_token: x, bearer_token_file: y}}", "stands beside bearer_token"),
        ("modules:\n  a: {prober: http, http: {bearer_token: x, basic_auth: {username: y}}}", "in two ways"),
        ("modules:\n  a: {prober: http, http: {compression: gzip, headers: {Accept-Encoding: deflate}}}", "is ruled out by"),
        ("modules:\n  a: {prober: http, http: {compression: gzip, headers: {accept-encoding: '*;q=0.0'}}}", "is ruled out by"),
        ("modules:\n  a: {prober: http, http: {enable_http3: true}}", "is not spoken"),
        ("modules:\n  a: {prober: http, http: {valid_http_versions: [HTTP/3.0]}}", "HTTP/3 is not spoken"),
        ("modules:\n  a: {prober: http, http: {tls_config: {max_version: TLS10}}}", "RFC 8996"),
        ("modules:\n  a: {prober: http, http: {tls_config: {min_version: TLS13, max_version: TLS12}}}", "older than min_version"),
        ("modules:\n  a: {prober: http, http: {tls_config: {cert_file: /x}}}", "half of a pair"),
        ("modules:\n  a: {prober: http, http: {proxy_url: 'socks5://x'}}", "must begin with http://"),
        ("modules:\n  a: {prober: icmp, icmp: {ttl: -1}}", "0 to 255"),
        ("modules:\n  a: {prober: icmp, icmp: {ttl: 256}}", "0 to 255"),
        ("modules:\n  a: {prober: tcp, tcp: {query_response: [{expect: '('}]}}", "is not a regular expression"),
        ("modules:\n  a: {prober: unix, unix: {query_response: [{expect: '('}]}}", "is not a regular expression"),
        ("modules:\n  a: {prober: tcp, tcp: {query_response: [{expect: a, expect_bytes: b}]}}", "stands beside expect"),
        ("modules:\n  a: {prober: tcp, tcp: {query_response: [{send: !!binary '%'}]}}", "is no base64"),
    ];
    for (text, words) in cases {
        let told = wrong(text);
        assert!(told.starts_with("line 2: modules.a") && told.contains(words), "{text}\n{told}");
    }
}

#[test]
fn encodings_are_weighed_as_blackbox_exporter_weighs_them() {
    for (wanted, list, good) in [
        ("gzip", "gzip", true),
        ("gzip", "br, gzip", true),
        ("gzip", "*", true),
        ("gzip", "deflate", false),
        ("gzip", "gzip;q=0.5, br", true),
        ("gzip", " gzip ; q=0.8 ", true),
        ("gzip", "br;q=0.9, gzip;q=0.0", false),
        ("br", "br;q=0.0", false),
        ("gzip", "*;q=0.0", false),
        ("gzip", "gzip;q=0.0, *;q=0.5", true),
    ] {
        assert_eq!(accepts(list, wanted), good, "{wanted} in {list}");
    }
}

#[test]
fn anchors_aliases_and_merge_keys_are_written_out() {
    let all = modules(
        "modules:\n  base: &base\n    prober: http\n    timeout: 5s\n    http: &options {preferred_ip_protocol: ip4, method: HEAD, headers: &headers {X-A: b}}\n\
         \u{20} same: *base\n\
         \u{20} more: {<<: *base, timeout: 7s, http: {<<: *options, method: POST, headers: {<<: *headers, X-C: d}}}\n\
         \u{20} several: {prober: http, http: {<<: [{method: PUT}, *options], valid_status_codes: &codes [200, 404]}}\n\
         \u{20} list: {prober: http, http: {valid_status_codes: *codes}}\n",
    );
    let http = |name: &str| {
        let module = all.iter().find(|(known, _)| known == name).map(|(_, module)| module).unwrap();
        let Kind::Http(http) = &module.kind else { panic!("{module:?}") };
        (module.timeout.map(|timeout| timeout.as_secs()), http.method.clone(), http.family.four, http.headers.len(), http.statuses.clone())
    };
    assert_eq!(http("base"), (Some(5), "HEAD".to_owned(), true, 1, Vec::new()));
    assert_eq!(http("same"), http("base"));
    assert_eq!(http("more"), (Some(7), "POST".to_owned(), true, 2, Vec::new()));
    assert_eq!(http("several"), (None, "PUT".to_owned(), true, 1, vec![200, 404]), "the first of several counts");
    assert_eq!(http("list").4, [200, 404]);
}

#[test]
fn aliases_that_multiply_or_mean_nothing_are_refused() {
    let mut bomb = String::from("modules:\n  m0: &m0 {prober: icmp}\n");
    for step in 1..9 {
        bomb.push_str(&format!("  m{step}: &m{step} [{}]\n", vec![format!("*m{}", step - 1); 20].join(", ")));
    }
    assert!(wrong(&bomb).contains("its aliases make it too large"), "{}", wrong(&bomb));
    for (text, words) in [
        ("modules:\n  a: &a {prober: tcp, tcp: *a}\n", "this alias stands within what it names"),
        ("modules:\n  a: *nobody\n", "anchor"),
        ("modules:\n  a: {prober: &word icmp}\n  b: {<<: *word, prober: icmp}\n", "line 3"),
        ("modules:\n  a: {prober: icmp}\n  b: {<<: 7, prober: icmp}\n", "`<<` takes keys"),
        ("modules:\n  a: &a {prober: icmp, icmp: {tll: 3}}\n  b: *a\n", "tll"),
    ] {
        assert!(wrong(text).contains(words), "{text}: {}", wrong(text));
    }
    // In a configuration of ours nothing has changed.
    let own = "data_dir: /d\nsinks: []\nprobe: {modules: {a: &a {prober: icmp}, b: *a}}\n";
    assert!(crate::config::Config::parse(own).unwrap_err()[0].rule.contains("aliases"));
}

#[test]
fn the_section_says_whom_probe_may_be_pointed_at() {
    let config = crate::config::Config::parse(
        "data_dir: /d\nsinks: [{name: p, kafka: {brokers: [\"h:1\"], topic: t}}]\nprobe:\n  compat: strict\n  modules_file: /m.yml\n  ad_hoc: {allow: [10.0.0.0/8], deny: [], at_once: 7}\n  modules: {a: {prober: icmp}}\n",
    );
    let probe = config.unwrap().probe;
    assert!(
        probe.strict
            && probe.ad_hoc.deny.is_empty()
            && probe.ad_hoc.allow.len() == 1
            && probe.ad_hoc.at_once == 7
            && probe.modules.len() == 1
    );
    let default = crate::config::Config::parse("data_dir: /d\nsinks: [{name: p, kafka: {brokers: [\"h:1\"], topic: t}}]\n").unwrap().probe;
    assert!(default.ad_hoc.enabled && default.ad_hoc.deny.iter().any(|net| net.holds("169.254.169.254".parse().unwrap())));
}

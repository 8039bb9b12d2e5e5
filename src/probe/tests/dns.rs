//! DNS: codes, records and their rules, UDP that does not fit, TCP, TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::UdpSocket;
use tokio_rustls::rustls::version::TLS13;

use super::module;
use super::probe;
use super::probe_so;
use super::stub;
use super::tls::Authority;
use super::tls::Said;
use super::tls::acceptor;
use crate::probe::outcome::Cause;

/// An answer to a question: code, whether it was cut off, records of the three sections as (type, data), all of the asked name.
fn answer(question: &[u8], rcode: u8, cut: bool, sections: [&[(u16, &[u8])]; 3]) -> Vec<u8> {
    let mut out = question.to_vec();
    out[2] |= 0x80 | if cut { 2 } else { 0 };
    out[3] = rcode;
    for (at, section) in sections.iter().enumerate() {
        out[7 + 2 * at] = if cut { 0 } else { u8::try_from(section.len()).unwrap() };
        for (kind, data) in section.iter().filter(|_| !cut) {
            out.extend_from_slice(&[0xc0, 12]);
            out.extend_from_slice(&kind.to_be_bytes());
            out.extend_from_slice(&[0, 1, 0, 0, 0x0e, 0x10]);
            out.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
            out.extend_from_slice(data);
        }
    }
    out
}

/// A server by UDP and TCP at the same port. `reply` is told whether it is asked by TCP.
async fn server(reply: impl Fn(&[u8], bool) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            break (udp, tcp);
        }
    };
    let address = udp.local_addr().unwrap();
    let reply = Arc::new(reply);
    let by_tcp = Arc::clone(&reply);
    tokio::spawn(async move {
        let mut bytes = [0; 512];
        while let Ok((length, from)) = udp.recv_from(&mut bytes).await {
            let _ = udp.send_to(&reply(&bytes[..length], false), from).await;
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let mut bytes = vec![0; usize::from(stream.read_u16().await.unwrap_or(0))];
            if stream.read_exact(&mut bytes).await.is_ok() {
                let answer = by_tcp(&bytes, true);
                let _ = stream.write_u16(u16::try_from(answer.len()).unwrap()).await;
                let _ = stream.write_all(&answer).await;
            }
        }
    });
    address
}

fn dns(options: &str) -> String {
    format!("prober: dns\ntimeout: 1s\ndns: {{preferred_ip_protocol: ip4, query_name: example.com, {options}}}")
}

const A: (u16, &[u8]) = (1, &[127, 0, 0, 1]);
const B: (u16, &[u8]) = (1, &[127, 0, 0, 2]);
const NS: (u16, &[u8]) = (2, &[2, b'n', b's', 0xc0, 12]);

#[tokio::test]
async fn sections_are_counted_and_codes_compared() {
    for tcp in [false, true] {
        let transport = if tcp { "transport_protocol: tcp, " } else { "" };
        let address = server(move |question, by_tcp| {
            assert_eq!(by_tcp, tcp);
            answer(question, 0, false, [&[A], &[NS, NS], &[A, A, A]])
        })
        .await;
        let outcome = probe(&dns(&format!("{transport}query_type: A")), &address.to_string()).await;
        outcome.good();
        outcome.is("probe_dns_answer_rrs", 1.0);
        outcome.is("probe_dns_authority_rrs", 2.0);
        outcome.is("probe_dns_additional_rrs", 3.0);
        outcome.is("probe_dns_query_succeeded", 1.0);
        outcome.is("sluice_probe_dns_rcode", 0.0);
        assert!(
            outcome.value("probe_dns_duration_seconds{phase=\"request\"}").unwrap() > 0.0 && outcome.value("probe_dns_serial").is_none()
        );
    }
    let failing = server(|question, _| answer(question, 2, false, [&[], &[], &[]])).await;
    let outcome = probe(&dns(""), &failing.to_string()).await;
    outcome.failed(Cause::Status, "request");
    outcome.is("probe_dns_query_succeeded", 1.0);
    outcome.is("sluice_probe_dns_rcode", 2.0);
    probe(&dns("valid_rcodes: [SERVFAIL, NXDOMAIN]"), &failing.to_string()).await.good();
}

#[tokio::test]
async fn the_question_is_what_the_module_says() {
    let address = server(|question, _| {
        let recursion = question[2] & 1;
        let class = question[question.len() - 1];
        let kind = question[question.len() - 3];
        answer(question, if (recursion, class, kind) == (0, 3, 16) { 0 } else { 5 }, false, [&[(16, b"\x02v1")], &[], &[]])
    })
    .await;
    let chaos = "query_class: CH, query_type: TXT, recursion_desired: false, validate_answer_rrs: {fail_if_not_matches_regexp: ['\"v1\"']}";
    probe(&dns(chaos), &address.to_string()).await.good();
    probe(&dns("query_class: CH, query_type: TXT"), &address.to_string()).await.failed(Cause::Status, "request");
}

#[tokio::test]
async fn the_serial_of_a_zone_is_told() {
    let soa = [&[0xc0, 12, 0xc0, 12][..], &1000_u32.to_be_bytes(), &[0; 16]].concat();
    let address = server(move |question, _| answer(question, 0, false, [&[(6, &soa)], &[], &[]])).await;
    let outcome = probe(&dns("query_type: SOA"), &address.to_string()).await;
    outcome.good();
    outcome.is("probe_dns_serial", 1000.0);
}

#[tokio::test]
async fn records_are_looked_at() {
    let address = server(|question, _| answer(question, 0, false, [&[A, B], &[], &[]])).await;
    for (rule, good) in [
        ("fail_if_matches_regexp: ['127.0.0.2']", false),
        ("fail_if_matches_regexp: ['127.0.0.3']", true),
        ("fail_if_not_matches_regexp: ['127.0.0.1']", false),
        (r#"fail_if_not_matches_regexp: ["example.com.\t3600\tIN\tA\t127.0.0.\\d"]"#, true),
        ("fail_if_none_matches_regexp: ['127.0.0.3']", false),
        ("fail_if_none_matches_regexp: ['127.0.0.3', '127.0.0.2']", true),
        // What the name says: all match.
        ("fail_if_all_match_regexp: ['127.0.0']", false),
        ("fail_if_all_match_regexp: ['127.0.0.1']", true),
    ] {
        let lines = dns(&format!("validate_answer_rrs: {{{rule}}}"));
        let outcome = probe(&lines, &address.to_string()).await;
        assert_eq!(outcome.success, good, "{rule}");
        if !good {
            outcome.failed(Cause::Body, "request");
        }
        if rule.contains("all_match") {
            let strict = probe_so(&module(&lines, true), &address.to_string(), None).await;
            assert_eq!(strict.success, !good, "blackbox_exporter has it the other way around");
        }
    }
    let empty = server(|question, _| answer(question, 0, false, [&[], &[], &[]])).await;
    probe(&dns("validate_authority_rrs: {fail_if_not_matches_regexp: [x]}"), &empty.to_string()).await.failed(Cause::Body, "request");
    probe(&dns("validate_additional_rrs: {fail_if_matches_regexp: [x]}"), &empty.to_string()).await.good();
}

#[tokio::test]
async fn what_did_not_fit_is_asked_for_again() {
    let address = server(|question, by_tcp| answer(question, 0, !by_tcp, [&[A, A], &[], &[]])).await;
    let outcome = probe(&dns(""), &address.to_string()).await;
    outcome.good();
    outcome.is("probe_dns_answer_rrs", 2.0);
    let strict = probe_so(&module(&dns(""), true), &address.to_string(), None).await;
    strict.good();
    strict.is("probe_dns_answer_rrs", 0.0);
}

#[tokio::test]
async fn what_is_no_answer_is_told() {
    let noise = server(|_, _| b"no".to_vec()).await;
    let outcome = probe(&dns(""), &noise.to_string()).await;
    outcome.failed(Cause::Protocol, "request");
    outcome.is("probe_dns_query_succeeded", 0.0);
    // An answer to another question is no answer.
    let other = server(|question, _| {
        let mut answer = answer(question, 0, false, [&[A], &[], &[]]);
        answer[0] ^= 1;
        answer
    })
    .await;
    probe(&dns(""), &other.to_string()).await.failed(Cause::Timeout, "request");
    let listener = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    probe(&dns(""), &closed.to_string()).await.failed(Cause::Refused, "request");
}

#[tokio::test]
async fn tls_is_spoken_too() {
    let authority = Authority::new(40 * 86_400);
    let acceptor = acceptor(authority.signs(&Said::default()), &[&TLS13]);
    let address = stub::tcp(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut bytes = vec![0; usize::from(stream.read_u16().await.unwrap_or(0))];
            if stream.read_exact(&mut bytes).await.is_ok() {
                let answer = answer(&bytes, 0, false, [&[A], &[], &[]]);
                let _ = stream.write_u16(u16::try_from(answer.len()).unwrap()).await;
                let _ = stream.write_all(&answer).await;
                let _ = stream.flush().await;
            }
        }
    })
    .await;
    let lines = dns(&format!("transport_protocol: tcp, dns_over_tls: true, tls_config: {{ca_file: {}}}", authority.file().display()));
    let outcome = probe(&lines, &format!("localhost:{}", address.port())).await;
    outcome.good();
    assert!(outcome.value("probe_ssl_earliest_cert_expiry").is_some());
}

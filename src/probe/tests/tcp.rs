//! TCP and sockets of this host: connections, dialogues, TLS in the middle of one.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio_rustls::rustls::version::TLS13;

use super::module;
use super::probe;
use super::probe_so;
use super::stub;
use super::tls::Authority;
use super::tls::Said;
use super::tls::acceptor;
use crate::probe::outcome::Cause;

fn tcp(steps: &str) -> String {
    format!("prober: tcp\ntimeout: 2s\ntcp:\n  preferred_ip_protocol: ip4\n  query_response:\n{steps}")
}

#[tokio::test]
async fn a_connection_is_enough() {
    let address = stub::lines(&[]).await;
    let outcome = probe("prober: tcp", &address.to_string()).await;
    outcome.good();
    outcome.is("probe_failed_due_to_regex", 0.0);
    outcome.is("probe_failed_due_to_bytes", 0.0);
    assert!(outcome.value("sluice_probe_duration_seconds{phase=\"connect\"}").is_some());
    for (target, cause) in [("localhost", Cause::Target), ("::1:80", Cause::Target), ("localhost:x", Cause::Target)] {
        probe("prober: tcp", target).await.failed(cause, "");
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    probe("prober: tcp", &closed.to_string()).await.failed(Cause::Refused, "connect");
    probe("prober: tcp\ntcp: {source_ip_address: 192.0.2.77}", &address.to_string()).await.failed(Cause::Unreachable, "connect");
    probe("prober: tcp\ntcp: {source_ip_address: 127.0.0.3}", &address.to_string()).await.good();
}

#[tokio::test]
async fn lines_are_waited_for_and_what_matched_is_sent_back() {
    let irc =
        stub::lines(&[("NICK", ":x NOTICE hello\r\n:y whatever\r\n"), ("USER", "PING :abc\r\n"), ("PONG abc", ":ircd 001 welcome\r\n")])
            .await;
    let steps = "  - send: \"NICK prober\"\n  - send: \"USER prober\"\n  - expect: \"PING :([^ ]+)\"\n    send: \"PONG ${1}\"\n  - expect: \"^:[^ ]+ 001\"\n";
    let steps = steps.replace("  - ", "    - ").replace("    send", "      send");
    probe(&tcp(&steps.replace("      send: \"NICK", "    - send: \"NICK")), &irc.to_string()).await.good();
    let outcome =
        probe(&tcp("    - send: NICK\n    - expect: \"^nothing\"\n"), &stub::lines(&[("NICK", "something\n")]).await.to_string()).await;
    outcome.failed(Cause::Body, "dialogue");
    outcome.is("probe_failed_due_to_regex", 1.0);
}

#[tokio::test]
async fn a_line_that_never_comes_is_told() {
    let silent = stub::tcp(|mut stream| async move {
        let _ = stream.write_all(b"no end of a line").await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
    let lines = "prober: tcp\ntimeout: 300ms\ntcp: {preferred_ip_protocol: ip4, query_response: [{expect: x}]}";
    let outcome = probe(lines, &silent.to_string()).await;
    outcome.failed(Cause::Timeout, "dialogue");
    outcome.is("probe_failed_due_to_regex", 1.0);
    assert!(outcome.value("sluice_probe_duration_seconds{phase=\"dialogue\"}").unwrap() > 0.2);
    probe_so(&module(lines, true), &silent.to_string(), None).await.is("probe_failed_due_to_regex", 0.0);
}

#[tokio::test]
async fn what_matched_becomes_labels() {
    let ssh = stub::lines(&[("", "SSH-2.0-OpenSSH_6.9p1 Debian-8\r\n"), ("SSH-2.0-prober", "")]).await;
    let steps = "    - expect: \"^SSH-2.0-([^ -]+)(?: (.*))?$\"\n      send: \"SSH-2.0-prober\"\n      labels:\n      - {name: version, value: \"${1}\"}\n      - {name: comments, value: \"${2}\"}\n";
    let outcome = probe(&tcp(steps), &ssh.to_string()).await;
    outcome.good();
    outcome.is("probe_expect_info{version=\"OpenSSH_6.9p1\",comments=\"Debian-8\"}", 1.0);
    // Twice the same labels: blackbox_exporter ends with a panic.
    let twice = stub::lines(&[("", "a\nb\n")]).await;
    let step = "    - expect: \"^([ab])$\"\n      labels: [{name: it, value: \"${1}\"}]\n";
    let outcome = probe(&tcp(&format!("{step}{step}")), &twice.to_string()).await;
    outcome.good();
    outcome.is("probe_expect_info{it=\"a\"}", 1.0);
    outcome.is("probe_expect_info{it=\"b\"}", 1.0);
}

#[tokio::test]
async fn bytes_are_waited_for_in_however_many_pieces() {
    let postgres = stub::tcp(|mut stream| async move {
        let mut asked = [0; 9];
        if stream.read_exact(&mut asked).await.is_ok() && asked == [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f, b'\n'] {
            for byte in b"SSL yes" {
                let _ = stream.write_all(&[*byte]).await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    })
    .await;
    let steps = "    - send: !!binary AAAACATSFi8=\n    - expect_bytes: SSL\n    - expect: yes\n";
    probe(&tcp(steps), &postgres.to_string()).await.good();
    let outcome = probe(&tcp("    - send: !!binary AAAACATSFi8=\n    - expect_bytes: N\n"), &postgres.to_string()).await;
    outcome.failed(Cause::Body, "dialogue");
    outcome.is("probe_failed_due_to_bytes", 1.0);
    let short = stub::lines(&[("", "SS")]).await;
    probe(&tcp("    - expect_bytes: SSL\n"), &short.to_string()).await.failed(Cause::Closed, "dialogue");
}

#[tokio::test]
async fn tls_begins_at_once_or_in_the_middle() {
    let authority = Authority::new(40 * 86_400);
    let (first, second) = (acceptor(authority.signs(&Said::default()), &[&TLS13]), acceptor(authority.signs(&Said::default()), &[&TLS13]));
    let pop3s = stub::tcp(move |stream| {
        let acceptor = first.clone();
        async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                stub::play(&mut stream, &[("", "+OK ready\r\n")]).await;
            }
        }
    })
    .await;
    let config = format!("tls_config: {{ca_file: {}}}", authority.file().display());
    let lines = |tls: bool, steps: &str| {
        format!("prober: tcp\ntimeout: 5s\ntcp:\n  preferred_ip_protocol: ip4\n  tls: {tls}\n  {config}\n  query_response:\n{steps}")
    };
    let target = format!("localhost:{}", pop3s.port());
    // As it is shipped, but for whom it trusts.
    let shipped = include_str!("../../../packaging/blackbox.yml");
    let banner = shipped.split("pop3s_banner:").nth(1).and_then(|rest| rest.lines().find(|line| line.contains("expect:"))).unwrap();
    let outcome = probe(&lines(true, &format!("    {}\n", banner.trim())), &target).await;
    outcome.good();
    outcome.is("probe_tls_version_info{version=\"TLS 1.3\"}", 1.0);
    assert!(
        outcome.value("probe_ssl_earliest_cert_expiry").is_some()
            && !outcome.metrics.iter().any(|metric| metric.name == "probe_tls_cipher_info")
    );
    let other = module(&lines(true, "    - expect: \"^[+]OK\"\n"), false);
    probe_so(&other, &target, Some("other.example")).await.failed(Cause::CertificateName, "tls");
    let hostname = probe_so(
        &module(&lines(true, "    []\n").replace("query_response:\n    []\n", ""), false),
        &format!("127.0.0.1:{}", pop3s.port()),
        Some("localhost"),
    )
    .await;
    hostname.good();
    let smtp = stub::tcp(move |mut stream| {
        let acceptor = second.clone();
        async move {
            stub_play_open(
                &mut stream,
                &[("", "220 me ESMTP\r\n"), ("EHLO", "250-me\r\n250-STARTTLS\r\n250 OK\r\n"), ("STARTTLS", "220 go\r\n")],
            )
            .await;
            if let Ok(mut stream) = acceptor.accept(stream).await {
                stub::play(&mut stream, &[("EHLO", "250-me\r\n250-AUTH\r\n"), ("QUIT", "")]).await;
            }
        }
    })
    .await;
    let steps = "    - expect: \"^220 ([^ ]+) ESMTP\"\n    - send: \"EHLO prober\\r\"\n    - expect: \"^250-STARTTLS\"\n    - send: \"STARTTLS\\r\"\n    - expect: \"^220\"\n    - starttls: true\n    - send: \"EHLO prober\\r\"\n    - expect: \"^250-AUTH\"\n    - send: \"QUIT\\r\"\n";
    let outcome = probe(&lines(false, steps), &format!("localhost:{}", smtp.port())).await;
    outcome.good();
    assert!(outcome.value("probe_ssl_last_chain_expiry_timestamp_seconds").is_some());
}

/// As `stub::play`, and the connection goes on.
async fn stub_play_open(stream: &mut tokio::net::TcpStream, steps: &[(&str, &str)]) {
    for (wanted, say) in steps {
        let mut line = Vec::new();
        while !wanted.is_empty() && !line.ends_with(b"\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            line.push(byte);
        }
        assert!(line.starts_with(wanted.as_bytes()), "{wanted}");
        let _ = stream.write_all(say.as_bytes()).await;
    }
}

#[tokio::test]
async fn a_socket_of_this_host_is_spoken_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stub::play(&mut stream, &[("PING", "PONG\n")]).await;
        }
    });
    let lines = "prober: unix\nunix: {query_response: [{send: PING}, {expect: PONG}]}";
    let outcome = probe(lines, &path.display().to_string()).await;
    outcome.good();
    assert!(outcome.value("probe_ip_protocol").is_none());
    let missing = probe(lines, &dir.path().join("none").display().to_string()).await;
    assert!(!missing.success && missing.failure.is_some_and(|failure| failure.phase == "connect"));
}

//! gRPC's health service, and echoes.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::HeaderMap;
use hyper::Response;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use socket2::Domain;
use socket2::Protocol;
use socket2::Socket;
use socket2::Type;
use tokio_rustls::rustls::version::TLS13;

use super::probe;
use super::stub;
use super::tls::Authority;
use super::tls::Said;
use crate::probe::outcome::Cause;

/// A server of the health service: says a state for a service, or a code.
async fn health(say: fn(&str, &HeaderMap) -> Result<u8, u8>) -> std::net::SocketAddr {
    stub::tcp(move |stream| serve(stream, say)).await
}

async fn serve(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, say: fn(&str, &HeaderMap) -> Result<u8, u8>) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| async move {
        assert_eq!(
            (request.uri().path(), request.headers()["content-type"].as_bytes()),
            ("/grpc.health.v1.Health/Check", &b"application/grpc"[..])
        );
        let headers = request.headers().clone();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let service = String::from_utf8_lossy(body.get(7..).unwrap_or_default()).into_owned();
        let said = say(&service, &headers);
        let (content, code) = match said {
            Ok(state) => (vec![0, 0, 0, 0, 2, 8, state], 0),
            Err(code) => (Vec::new(), code),
        };
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", code.to_string().parse().unwrap());
        let body = Full::new(Bytes::from(content)).with_trailers(std::future::ready(Some(Ok(trailers))));
        Ok::<_, std::convert::Infallible>(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
    });
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

/// Answers everything with this code of HTTP and nothing of gRPC's, or with this message in its trailers.
async fn answers(status: u16, message: Option<&'static str>) -> std::net::SocketAddr {
    stub::tcp(move |stream| async move {
        let service = service_fn(move |_: hyper::Request<hyper::body::Incoming>| async move {
            let trailers = message.map(|message| {
                let pairs = [("grpc-status", "5"), ("grpc-message", message)];
                Ok(pairs.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect::<HeaderMap>())
            });
            let body = Full::new(Bytes::new()).with_trailers(std::future::ready(trailers));
            Ok::<_, std::convert::Infallible>(Response::builder().status(status).body(body).unwrap())
        });
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
    })
    .await
}

#[tokio::test]
async fn codes_of_http_are_read_as_grpc_reads_them() {
    for (status, code) in
        [(400, 13.0), (401, 16.0), (403, 7.0), (404, 12.0), (429, 14.0), (502, 14.0), (503, 14.0), (504, 14.0), (500, 2.0), (302, 2.0)]
    {
        let outcome = probe(&grpc(""), &answers(status, None).await.to_string()).await;
        outcome.failed(Cause::Protocol, "check");
        outcome.is("probe_grpc_status_code", code);
    }
    let outcome = probe(&grpc(""), &answers(200, Some("no%20such service")).await.to_string()).await;
    outcome.failed(Cause::Status, "check");
    let text = outcome.failure.unwrap().text;
    assert!(text.ends_with("5 no such service"), "{text}");
}

#[test]
fn a_probe_by_http2_starts_no_task() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (servers, probers) = (runtime(), runtime());
    let address = servers.block_on(health(several));
    let outcome = probers.block_on(async {
        let outcome = probe(&grpc(""), &address.to_string()).await;
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
        outcome
    });
    outcome.good();
}

fn grpc(options: &str) -> String {
    format!("prober: grpc\ntimeout: 2s\ngrpc: {{preferred_ip_protocol: ip4, {options}}}")
}

fn several(service: &str, headers: &HeaderMap) -> Result<u8, u8> {
    match service {
        "" | "fine" => Ok(1),
        "ill" => Ok(2),
        "tenant" if headers.get("x-tenant").is_some_and(|value| value == "a") => Ok(1),
        "tenant" => Err(16),
        "old" => Err(12),
        _ => Err(5),
    }
}

#[tokio::test]
async fn services_say_how_they_are() {
    let address = health(several).await;
    for (options, code, state, cause) in [
        ("", 0.0, "SERVING", None),
        ("service: fine", 0.0, "SERVING", None),
        ("service: ill", 0.0, "NOT_SERVING", Some(Cause::NotServing)),
        ("service: unknown", 5.0, "", Some(Cause::Status)),
        ("service: old", 12.0, "", Some(Cause::Status)),
        ("service: tenant", 16.0, "", Some(Cause::Status)),
        ("service: tenant, metadata: {X-Tenant: [a]}", 0.0, "SERVING", None),
    ] {
        let outcome = probe(&grpc(options), &address.to_string()).await;
        match cause {
            None => outcome.good(),
            Some(cause) => outcome.failed(cause, "check"),
        }
        outcome.is("probe_grpc_status_code", code);
        outcome.is("probe_grpc_ssl", 0.0);
        for known in ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"] {
            outcome.is(&format!("probe_grpc_healthcheck_response{{serving_status=\"{known}\"}}"), f64::from(u8::from(known == state)));
        }
        assert!(outcome.value("probe_grpc_duration_seconds{phase=\"check\"}").unwrap() > 0.0);
    }
    // Without options of its own, and with a scheme.
    probe("prober: grpc", &format!("http://{address}")).await.good();
}

#[tokio::test]
async fn certificates_of_grpc_are_told() {
    let authority = Authority::new(40 * 86_400);
    let (chain, key) = authority.signs(&Said::default());
    let config = tokio_rustls::rustls::ServerConfig::builder_with_provider(std::sync::Arc::new(
        tokio_rustls::rustls::crypto::ring::default_provider(),
    ));
    let mut config = config.with_protocol_versions(&[&TLS13]).unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let address = stub::tcp(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream, several).await;
            }
        }
    })
    .await;
    let target = format!("localhost:{}", address.port());
    let outcome = probe(&grpc(&format!("tls: true, tls_config: {{ca_file: {}}}", authority.file().display())), &target).await;
    outcome.good();
    outcome.is("probe_grpc_ssl", 1.0);
    outcome.is("probe_tls_version_info{version=\"TLS 1.3\"}", 1.0);
    assert!(outcome.value("probe_ssl_earliest_cert_expiry").is_some());
    assert!(outcome.value("probe_ssl_last_chain_expiry_timestamp_seconds").is_none(), "blackbox_exporter has it not for gRPC");
    let outcome = probe(&grpc("tls: true"), &target).await;
    outcome.failed(Cause::CertificateAuthority, "tls");
    outcome.is("probe_grpc_status_code", 14.0);
}

#[tokio::test]
async fn a_silent_server_does_not_hold_the_probe() {
    let silent = stub::tcp(|stream| async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(stream);
    })
    .await;
    let outcome = probe("prober: grpc\ntimeout: 300ms\ngrpc: {preferred_ip_protocol: ip4}", &silent.to_string()).await;
    outcome.failed(Cause::Timeout, "check");
    outcome.is("probe_grpc_status_code", 4.0);
    let plain = stub::http(|_| stub::answer(200, "", "")).await;
    let outcome = probe(&grpc(""), &plain.to_string()).await;
    assert!(!outcome.success && outcome.failure.is_some_and(|failure| failure.phase == "check"));
}

/// By what kind of socket echoes can be sent here.
fn mode() -> &'static str {
    let open = |kind| Socket::new(Domain::IPV4, kind, Some(Protocol::ICMPV4)).is_ok();
    if open(Type::DGRAM) {
        "datagram"
    } else if open(Type::RAW) {
        "raw"
    } else {
        "none"
    }
}

#[tokio::test]
async fn echoes_come_back() {
    if mode() == "none" {
        probe("prober: icmp", "127.0.0.1").await.failed(Cause::NotPermitted, "setup");
        return;
    }
    for lines in [
        "prober: icmp",
        "prober: icmp\nicmp: {payload_size: 3}",
        "prober: icmp\nicmp: {payload_size: 1400, ttl: 3, source_ip_address: 127.0.0.1}",
    ] {
        let outcome =
            probe(&format!("{}\ntimeout: 2s", lines.replace("icmp: {", "icmp: {preferred_ip_protocol: ip4, ")), "127.0.0.1").await;
        outcome.good();
        assert!(outcome.value("probe_icmp_duration_seconds{phase=\"rtt\"}").unwrap() > 0.0);
        assert_eq!(outcome.value("probe_icmp_reply_hop_limit").is_some(), mode() == "raw");
    }
    if mode() == "raw" {
        probe("prober: icmp\ntimeout: 2s\nicmp: {dont_fragment: true}", "127.0.0.1").await.good();
    }
}

#[tokio::test]
async fn many_echoes_at_once_find_their_own_replies() {
    if mode() == "none" {
        return;
    }
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..50 {
        all.spawn(async { probe("prober: icmp\ntimeout: 5s", "127.0.0.1").await.success });
    }
    assert!(all.join_all().await.into_iter().all(|good| good));
}

//! TLS: good certificates, all kinds of bad ones, and that what came is told either way.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::SupportedProtocolVersion;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::version::TLS12;
use tokio_rustls::rustls::version::TLS13;

use super::module;
use super::probe;
use super::probe_so;
use super::stub;
use crate::clock;
use crate::probe::outcome::Cause;
use crate::probe::outcome::Outcome;

const DAY: i64 = 86_400;

/// What a certificate is to say.
pub struct Said {
    pub names: &'static [&'static str],
    pub begins_in: i64,
    pub ends_in: i64,
    pub authority: bool,
}

impl Default for Said {
    fn default() -> Said {
        Said { names: &["localhost", "127.0.0.1"], begins_in: -DAY, ends_in: 30 * DAY, authority: false }
    }
}

fn params(said: &Said) -> CertificateParams {
    let mut params = CertificateParams::new(said.names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    let at = |seconds: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(now() + seconds).unwrap());
    (params.not_before, params.not_after) = (at(said.begins_in), at(said.ends_in));
    if said.authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}

pub fn now() -> i64 {
    clock::wall_ms() / 1000
}

/// An authority with its certificate in a file.
pub struct Authority {
    dir: tempfile::TempDir,
    key: KeyPair,
    issuer: Issuer<'static, KeyPair>,
    own: CertificateDer<'static>,
}

impl Authority {
    pub fn new(ends_in: i64) -> Authority {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut of_authority = params(&Said { names: &[], ends_in, authority: true, ..Said::default() });
        of_authority.distinguished_name.push(rcgen::DnType::CommonName, "tests");
        let own = of_authority.self_signed(&key).unwrap();
        std::fs::write(dir.path().join("ca.pem"), own.pem()).unwrap();
        let again = KeyPair::from_pem(&key.serialize_pem()).unwrap();
        Authority { dir, key: again, issuer: Issuer::new(of_authority, key), own: own.der().clone() }
    }

    /// The same authority with another end.
    fn again(&self, ends_in: i64) -> CertificateDer<'static> {
        let mut of_authority = params(&Said { names: &[], ends_in, authority: true, ..Said::default() });
        of_authority.distinguished_name.push(rcgen::DnType::CommonName, "tests");
        of_authority.self_signed(&self.key).unwrap().der().clone()
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    pub fn signs(&self, said: &Said) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let certificate = params(said).signed_by(&key, &self.issuer).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

pub fn acceptor(
    (chain, key): (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    versions: &[&'static SupportedProtocolVersion],
) -> TlsAcceptor {
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider())).with_protocol_versions(versions).unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

fn https(authority: &Authority, more: &str) -> String {
    format!(
        "prober: http\ntimeout: 10s\nhttp: {{preferred_ip_protocol: ip4, tls_config: {{ca_file: {}{more}}}}}",
        authority.file().display()
    )
}

async fn served(pair: (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)) -> String {
    let address = stub::https(acceptor(pair, &[&TLS13, &TLS12]), |_| stub::answer(200, "", "x")).await;
    format!("https://localhost:{}/", address.port())
}

#[track_caller]
fn near(outcome: &Outcome, name: &str, seconds: i64) {
    let value = outcome.value(name).unwrap_or_else(|| panic!("{name} is missing: {:?}", outcome.failure));
    assert!((value - seconds as f64).abs() < 60.0, "{name} {value} {seconds}");
}

#[tokio::test]
async fn a_good_certificate_is_told() {
    let authority = Authority::new(60 * DAY);
    let target = served(authority.signs(&Said::default())).await;
    let outcome = probe(&https(&authority, ""), &target).await;
    outcome.good();
    outcome.is("probe_http_ssl", 1.0);
    outcome.is("probe_tls_version_info{version=\"TLS 1.3\"}", 1.0);
    assert!(outcome.metrics.iter().any(|metric| metric.name == "probe_tls_cipher_info" && metric.labels[0].1.starts_with("TLS_")));
    near(&outcome, "probe_ssl_earliest_cert_expiry", now() + 30 * DAY);
    near(&outcome, "probe_ssl_last_chain_expiry_timestamp_seconds", now() + 30 * DAY);
    let info = outcome.metrics.iter().find(|metric| metric.name == "probe_ssl_last_chain_info").unwrap();
    let names: Vec<&str> = info.labels.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["fingerprint_sha256", "issuer", "serialnumber", "subject", "subjectalternative"]);
    assert_eq!(info.labels[4].1, "localhost");
    assert!(outcome.value("probe_http_duration_seconds{phase=\"tls\"}").unwrap() > 0.0);
    // Told as 1.2 where no more is spoken.
    let address = stub::https(acceptor(authority.signs(&Said::default()), &[&TLS12]), |_| stub::answer(200, "", "")).await;
    let target = format!("https://127.0.0.1:{}/", address.port());
    let outcome = probe(&https(&authority, ""), &target).await;
    outcome.good();
    outcome.is("probe_tls_version_info{version=\"TLS 1.2\"}", 1.0);
    probe(&https(&authority, ", min_version: TLS13"), &target).await.failed(Cause::Tls, "tls");
}

#[tokio::test]
async fn a_bad_certificate_is_told_all_the_same_and_nothing_is_sent() {
    let authority = Authority::new(60 * DAY);
    let stranger = Authority::new(60 * DAY);
    let expired = Said { begins_in: -9 * DAY, ends_in: -DAY, ..Said::default() };
    let early = Said { begins_in: DAY, ..Said::default() };
    let other = Said { names: &["other.example"], ..Said::default() };
    for (pair, cause, ends) in [
        (authority.signs(&expired), Cause::CertificateExpired, -DAY),
        (authority.signs(&early), Cause::CertificateNotYet, 30 * DAY),
        (authority.signs(&other), Cause::CertificateName, 30 * DAY),
        (stranger.signs(&Said::default()), Cause::CertificateAuthority, 30 * DAY),
    ] {
        let address = stub::https(acceptor(pair, &[&TLS13]), |request| panic!("a request came: {request}")).await;
        let target = format!("https://localhost:{}/", address.port());
        let outcome = probe(&https(&authority, ""), &target).await;
        outcome.failed(cause, "tls");
        near(&outcome, "probe_ssl_earliest_cert_expiry", now() + ends);
        assert_eq!(outcome.certificates.len(), 1);
        assert!(outcome.value("probe_http_duration_seconds{phase=\"tls\"}").unwrap() > 0.0);
        // blackbox_exporter says nothing of it.
        let strict = probe_so(&module(&https(&authority, ""), true), &target, None).await;
        assert!(!strict.success && strict.value("probe_ssl_earliest_cert_expiry").is_none());
    }
}

#[tokio::test]
async fn any_certificate_will_do_where_the_module_says_so() {
    let authority = Authority::new(60 * DAY);
    let target = served(Authority::new(60 * DAY).signs(&Said { ends_in: -3600, names: &["other.example"], ..Said::default() })).await;
    let lines = https(&authority, ", insecure_skip_verify: true");
    let outcome = probe(&lines, &target).await;
    outcome.good();
    near(&outcome, "probe_ssl_earliest_cert_expiry", now() - 3600);
    near(&outcome, "probe_ssl_last_chain_expiry_timestamp_seconds", now() - 3600);
    let strict = probe_so(&module(&lines, true), &target, None).await;
    strict.good();
    strict.is("probe_ssl_last_chain_expiry_timestamp_seconds", -62_135_596_800.0);
}

#[tokio::test]
async fn the_name_may_be_another_than_the_targets() {
    let authority = Authority::new(60 * DAY);
    let target = served(authority.signs(&Said { names: &["other.example"], ..Said::default() })).await;
    probe(&https(&authority, ", server_name: other.example"), &target).await.good();
    probe_so(&module(&https(&authority, ""), false), &target, Some("other.example")).await.good();
    let by_header = https(&authority, "").replace("{preferred", "{headers: {Host: other.example}, preferred");
    probe(&by_header, &target).await.good();
}

#[tokio::test]
async fn a_certificate_that_is_its_own_authority_is_good_where_it_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let own = params(&Said { authority: true, ..Said::default() }).self_signed(&key).unwrap();
    std::fs::write(dir.path().join("own.pem"), own.pem()).unwrap();
    let target = served((vec![own.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())).await;
    let trusting =
        format!("prober: http\nhttp: {{preferred_ip_protocol: ip4, tls_config: {{ca_file: {}}}}}", dir.path().join("own.pem").display());
    let outcome = probe(&trusting, &target).await;
    outcome.good();
    near(&outcome, "probe_ssl_last_chain_expiry_timestamp_seconds", now() + 30 * DAY);
    probe(&https(&Authority::new(DAY), ""), &target).await.failed(Cause::CertificateAuthority, "tls");
    // Its name is looked at like any other.
    probe_so(&module(&trusting, false), &target, Some("other.example")).await.failed(Cause::CertificateName, "tls");
}

#[tokio::test]
async fn the_longest_chain_counts_and_the_earliest_end_of_those_that_came() {
    let authority = Authority::new(2 * DAY);
    let (mut chain, key) = authority.signs(&Said { ends_in: 3 * DAY, ..Said::default() });
    chain.push(authority.again(DAY));
    assert_ne!(chain[1], authority.own);
    let outcome = probe(&https(&authority, ""), &served((chain, key)).await).await;
    outcome.good();
    near(&outcome, "probe_ssl_earliest_cert_expiry", now() + DAY);
    near(&outcome, "probe_ssl_last_chain_expiry_timestamp_seconds", now() + 2 * DAY);
    assert_eq!(outcome.certificates.len(), 2);
}

#[tokio::test]
async fn files_are_read_again_when_they_change() {
    let (authority, other) = (Authority::new(60 * DAY), Authority::new(60 * DAY));
    let target = served(authority.signs(&Said::default())).await;
    let module = module(&https(&other, ""), false);
    probe_so(&module, &target, None).await.failed(Cause::CertificateAuthority, "tls");
    std::fs::copy(authority.file(), other.file()).unwrap();
    let text = std::fs::read_to_string(other.file()).unwrap();
    std::fs::write(other.file(), format!("{text}\n# longer\n")).unwrap();
    probe_so(&module, &target, None).await.good();
    std::fs::remove_file(other.file()).unwrap();
    probe_so(&module, &target, None).await.failed(Cause::File, "tls");
}

#[tokio::test]
async fn redirects_to_tls_are_told_as_tls() {
    let authority = Authority::new(60 * DAY);
    let target = served(authority.signs(&Said::default())).await;
    let to = target.clone();
    let address = stub::http(move |_| stub::answer(301, &format!("Location: {to}\r\n"), "")).await;
    let outcome = probe(&https(&authority, "").replace("{preferred", "{fail_if_not_ssl: true, preferred"), &address.to_string()).await;
    outcome.good();
    outcome.is("probe_http_ssl", 1.0);
    outcome.is("probe_http_redirects", 1.0);
    // And back: the last answer came in clear.
    let plain = stub::http(|_| stub::answer(200, "", "")).await;
    let address = stub::https(acceptor(authority.signs(&Said::default()), &[&TLS13]), move |_| {
        stub::answer(302, &format!("Location: http://{plain}/\r\n"), "")
    })
    .await;
    let outcome = probe(&https(&authority, ""), &format!("https://{address}")).await;
    outcome.good();
    outcome.is("probe_http_ssl", 0.0);
    assert!(outcome.value("probe_ssl_earliest_cert_expiry").is_none());
}

#[tokio::test]
async fn http_2_is_spoken_where_both_speak_it() {
    let authority = Authority::new(60 * DAY);
    let (chain, key) = authority.signs(&Said::default());
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider())).with_protocol_versions(&[&TLS13]).unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let address = stub::tcp(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let answer = hyper::service::service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
                assert_eq!(request.uri().authority().map(|authority| authority.host().to_owned()).as_deref(), Some("localhost"));
                Ok::<_, std::convert::Infallible>(hyper::Response::new(http_body_util::Full::new(bytes::Bytes::from("two"))))
            });
            let io = hyper_util::rt::TokioIo::new(stream);
            let _ = hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new()).serve_connection(io, answer).await;
        }
    })
    .await;
    let target = format!("https://localhost:{}/x", address.port());
    let lines =
        https(&authority, "").replace("{preferred", "{valid_http_versions: [HTTP/2.0], fail_if_body_not_matches_regexp: [two], preferred");
    let outcome = probe(&lines, &target).await;
    outcome.good();
    outcome.is("probe_http_version", 2.0);
    outcome.is("probe_http_content_length", 3.0);
}

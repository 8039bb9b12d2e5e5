//! TLS towards what is probed: whatever certificates come are written down first and judged afterwards, so that an expired one is told with its
//! date. Nothing is sent over a connection whose certificate is not good.
//!
//! Two things differ from rustls' own verifier. All ways from the server's certificate to trusted ones are looked at, since the metric is the end
//! of the longest. And a certificate that is its own authority is accepted when that very certificate is trusted, as Go does: `openssl req -x509` makes such.

use std::borrow::Cow;
use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::SystemTime;

use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::DigitallySignedStruct;
use tokio_rustls::rustls::ProtocolVersion;
use tokio_rustls::rustls::SignatureScheme;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::client::danger::ServerCertVerified;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::crypto::ring as provider;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::pki_types::TrustAnchor;
use tokio_rustls::rustls::pki_types::UnixTime;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::version::TLS12;
use tokio_rustls::rustls::version::TLS13;

use crate::clock;
use crate::config::probe::tls::ProbeTls;
use crate::config::probe::tls::Version;
use crate::probe::certificate;
use crate::probe::connect::Io;
use crate::probe::connect::of_io;
use crate::probe::files;
use crate::probe::outcome::Cause;
use crate::probe::outcome::Metric;
use crate::probe::record::Encrypted;
use crate::probe::record::Record;
use crate::probe::record::Stop;
use crate::probe::record::Way;
use crate::serve::tls::SYSTEM_ROOTS;

/// Go's time of nothing, which blackbox_exporter shows where no chain was verified.
const YEAR_ONE: f64 = -62_135_596_800.0;

/// TLS of a module. What is read of files is kept until one of them changes.
#[derive(Debug)]
pub struct Tls {
    settings: ProbeTls,
    protocols: &'static [&'static [u8]],
    kept: Mutex<Option<Kept>>,
}

/// What was read, and of which files.
type Kept = (Vec<Option<Stamp>>, Arc<Client>);
/// By this a changed file is told.
type Stamp = (u64, SystemTime);

/// An end of connections.
#[derive(Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
    /// Whom it trusts, each at its place in both.
    anchors: Vec<TrustAnchor<'static>>,
    trusted: Vec<Trusted>,
    skip_verify: bool,
}

#[derive(Debug)]
struct Trusted {
    der: CertificateDer<'static>,
    ends_ms: i64,
}

impl Tls {
    /// Of what the module says; `protocols` are offered in this order.
    pub fn new(settings: &ProbeTls, protocols: &'static [&'static [u8]]) -> Tls {
        Tls { settings: settings.clone(), protocols, kept: Mutex::new(None) }
    }

    /// The name that the certificate must have, if the module says one.
    pub fn name(&self) -> Option<&str> {
        self.settings.server_name.as_deref()
    }

    /// Ready to connect.
    fn client(&self) -> Way<Arc<Client>> {
        let authorities = match (&self.settings.ca_file, &self.settings.ca) {
            (Some(file), _) => Some(file.clone()),
            (None, Some(_)) => None,
            (None, None) => SYSTEM_ROOTS.iter().map(PathBuf::from).find(|path| path.exists()),
        };
        let own = self.settings.own_files.as_ref();
        let stamps: Vec<Option<Stamp>> =
            authorities.iter().chain(own.map(|own| &own.0)).chain(own.map(|own| &own.1)).map(|file| stamp(file)).collect();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, client)) = &*kept
            && *known == stamps
        {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(self.read(authorities.as_deref())?);
        *kept = Some((stamps, Arc::clone(&client)));
        Ok(client)
    }

    fn read(&self, authorities: Option<&Path>) -> Way<Client> {
        let settings = &self.settings;
        let (anchors, trusted) = match (authorities, &settings.ca) {
            (Some(file), _) => trusted(&files::bytes(file)?, file)?,
            (None, Some(text)) => trusted(text.as_bytes(), Path::new("ca"))?,
            // Whatever comes will be unknown then.
            (None, None) => (Vec::new(), Vec::new()),
        };
        let provider = Arc::new(provider::default_provider());
        let recorder = Arc::new(Recorder(Arc::clone(&provider)));
        let versions: &[&rustls::SupportedProtocolVersion] = match (settings.min, settings.max) {
            (Some(Version::Tls13), _) => &[&TLS13],
            (_, Some(Version::Tls12)) => &[&TLS12],
            _ => &[&TLS13, &TLS12],
        };
        let wrong = |error: rustls::Error| Stop::new(Cause::File, error.to_string());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).map_err(wrong)?;
        let config = config.dangerous().with_custom_certificate_verifier(recorder);
        let mut config = match (&settings.own_files, &settings.own) {
            (Some((certificate, key)), _) => {
                let (chain, key) = own(&files::bytes(certificate)?, &files::bytes(key)?, &certificate.display().to_string())?;
                config.with_client_auth_cert(chain, key).map_err(wrong)?
            }
            (None, Some((certificate, key))) => {
                let (chain, key) = own(certificate.as_bytes(), key.as_bytes(), "cert")?;
                config.with_client_auth_cert(chain, key).map_err(wrong)?
            }
            (None, None) => config.with_no_client_auth(),
        };
        config.alpn_protocols = self.protocols.iter().map(|protocol| protocol.to_vec()).collect();
        // A connection that goes on with an older one shows no certificate.
        config.resumption = Resumption::disabled();
        Ok(Client { config: Arc::new(config), anchors, trusted, skip_verify: settings.insecure_skip_verify })
    }

    /// Shakes hands over a connection, writes down what came, and judges it. `target` is the name where the module says none.
    pub async fn shake<S: Io>(&self, target: &str, stream: S, record: &mut Record) -> Way<TlsStream<S>> {
        let name = self.name().unwrap_or(target);
        record.begin("tls", || name.to_owned());
        let client = self.client()?;
        let bare = name.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        let server = ServerName::try_from(bare.to_owned()).ok();
        let server = match (server, client.skip_verify) {
            (Some(server), _) => server,
            // No name is sent along with an address.
            (None, true) => ServerName::from(std::net::IpAddr::from([0, 0, 0, 0])),
            (None, false) => {
                return Err(Stop::new(Cause::CertificateName, format!("`{name}` is no name of a server; tls_config.server_name says one")));
            }
        };
        let connected = TlsConnector::from(Arc::clone(&client.config)).connect(server.clone(), stream).await;
        let stream = connected.map_err(|error| of_handshake(&error, name))?;
        let (_, connection) = stream.get_ref();
        let chain = connection.peer_certificates().unwrap_or_default();
        record.certificates = chain.iter().filter_map(|der| certificate::read(der)).collect();
        let (last_chain_ms, judged) = client.judge(chain, &server);
        record.encrypted = Some(Encrypted {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
                Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
                _ => "unknown",
            },
            cipher: connection
                .negotiated_cipher_suite()
                .map(|suite| format!("{:?}", suite.suite()).replace("TLS13_", "TLS_"))
                .unwrap_or_default(),
            last_chain_ms: last_chain_ms.filter(|_| judged.is_ok()),
            skipped: client.skip_verify,
        });
        if !client.skip_verify {
            judged?;
        }
        record.note(|| format!("TLS with {name}"));
        record.end();
        Ok(stream)
    }
}

impl Client {
    /// When the longest of the ways to a trusted certificate ends, and whether there is one and the certificate is for this name.
    fn judge(&self, chain: &[CertificateDer<'_>], name: &ServerName<'_>) -> (Option<i64>, Way<()>) {
        let Some((leaf, others)) = chain.split_first() else {
            return (None, Err(Stop::new(Cause::Certificate, "it shows no certificate")));
        };
        let end_entity = match webpki::EndEntityCert::try_from(leaf) {
            Ok(end_entity) => end_entity,
            Err(error) => return (None, Err(of_webpki(&error))),
        };
        let (found, mut judged) = match self.trusted.iter().find(|trusted| trusted.der == *leaf) {
            Some(itself) => (Some(itself.ends_ms), in_time(leaf)),
            None => self.ways(&end_entity, others),
        };
        if judged.is_ok() {
            judged = end_entity.verify_is_valid_for_subject_name(name).map_err(|error| of_webpki(&error));
        }
        (found, judged)
    }

    fn ways(&self, leaf: &webpki::EndEntityCert<'_>, others: &[CertificateDer<'_>]) -> (Option<i64>, Way<()>) {
        let best: Cell<Option<i64>> = Cell::new(None);
        let look = |path: &webpki::VerifiedPath<'_>| {
            let of_chain = path.intermediate_certificates().map(|certificate| certificate.der());
            let ends = of_chain.chain([path.end_entity().der()]).filter_map(|der| crate::secret::validity::ends_ms(&der));
            let anchor = path.anchor();
            let same = |known: &TrustAnchor<'_>| {
                known.subject == anchor.subject && known.subject_public_key_info == anchor.subject_public_key_info
            };
            let root = self.anchors.iter().position(same).and_then(|at| self.trusted.get(at)).map(|trusted| trusted.ends_ms);
            let earliest = ends.chain(root).min();
            best.set(best.get().max(earliest));
            // This makes it look for another way.
            Err(webpki::Error::UnknownIssuer)
        };
        let now = UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(clock::wall_ms()).unwrap_or(0)));
        let verified = leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &self.anchors,
            others,
            now,
            webpki::KeyUsage::server_auth(),
            None,
            Some(&look),
        );
        match (best.get(), verified) {
            (Some(ends), _) => (Some(ends), Ok(())),
            (None, Ok(_)) => (None, Ok(())),
            (None, Err(error)) => (None, Err(of_webpki(&error))),
        }
    }
}

fn in_time(der: &[u8]) -> Way<()> {
    let Some(certificate) = certificate::read(der) else { return Err(Stop::new(Cause::Certificate, "it cannot be read")) };
    let now = clock::wall_ms();
    if now > certificate.ends_ms {
        return Err(Stop::new(Cause::CertificateExpired, format!("the certificate ended at {}", clock::rfc3339(certificate.ends_ms))));
    }
    if now < certificate.begins_ms {
        return Err(Stop::new(Cause::CertificateNotYet, format!("the certificate begins at {}", clock::rfc3339(certificate.begins_ms))));
    }
    Ok(())
}

fn of_webpki(error: &webpki::Error) -> Stop {
    let seconds = |time: &UnixTime| clock::rfc3339(i64::try_from(time.as_secs()).unwrap_or(0) * 1000);
    match error {
        webpki::Error::CertExpired { not_after, .. } => {
            Stop::new(Cause::CertificateExpired, format!("a certificate ended at {}", seconds(not_after)))
        }
        webpki::Error::CertNotValidYet { not_before, .. } => {
            Stop::new(Cause::CertificateNotYet, format!("a certificate begins at {}", seconds(not_before)))
        }
        webpki::Error::CertNotValidForName(_) => Stop::new(Cause::CertificateName, format!("the certificate is for another name: {error}")),
        webpki::Error::UnknownIssuer => Stop::new(Cause::CertificateAuthority, "nobody who is trusted has signed the certificate"),
        webpki::Error::InvalidSignatureForPublicKey => Stop::new(
            Cause::CertificateAuthority,
            "the certificate was signed by somebody who has the name of one who is trusted, and another key",
        ),
        // Its own authority, and nobody's who is trusted.
        webpki::Error::CaUsedAsEndEntity => {
            Stop::new(Cause::CertificateAuthority, "the certificate is an authority's own, which is not trusted")
        }
        _ => Stop::new(Cause::Certificate, format!("the certificate is no good: {error}")),
    }
}

fn of_handshake(error: &std::io::Error, name: &str) -> Stop {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidMessage(why)) => Stop::new(Cause::Tls, format!("{name} speaks no TLS: {why:?}")),
        Some(inner) => Stop::new(Cause::Tls, format!("{name}: {inner}")),
        None => of_io(error, name),
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    let found = fs::metadata(file).ok()?;
    Some((found.len(), found.modified().ok()?))
}

fn trusted(pem: &[u8], file: &Path) -> Way<(Vec<TrustAnchor<'static>>, Vec<Trusted>)> {
    let (mut anchors, mut all) = (Vec::new(), Vec::new());
    for der in CertificateDer::pem_slice_iter(pem) {
        let der = der.map_err(|error| Stop::new(Cause::File, format!("{}: {error}", file.display())))?;
        // One of the hundreds that a system trusts may be of a kind that is not understood here.
        let anchor = webpki::anchor_from_trusted_cert(&der).map(|anchor| anchor.to_owned());
        if let (Ok(anchor), Some(ends_ms)) = (anchor, crate::secret::validity::ends_ms(&der)) {
            anchors.push(anchor);
            all.push(Trusted { der, ends_ms });
        }
    }
    if all.is_empty() {
        return Err(Stop::new(Cause::File, format!("{}: holds no authority", file.display())));
    }
    Ok((anchors, all))
}

fn own(certificate: &[u8], key: &[u8], about: &str) -> Way<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let wrong = |error: rustls::pki_types::pem::Error| Stop::new(Cause::File, format!("{about}: {error}"));
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>().map_err(wrong)?;
    Ok((chain, PrivateKeyDer::from_pem_slice(key).map_err(wrong)?))
}

/// Takes any certificate, for it is judged afterwards, but only from somebody who has its key.
#[derive(Debug)]
struct Recorder(Arc<CryptoProvider>);

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Which metrics of a certificate a prober has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// All of them.
    All,
    /// No cipher: TCP and sockets of this host.
    NoCipher,
    /// Neither cipher nor the end of the chain: gRPC.
    Few,
}

/// Metrics of the last certificate that came.
pub fn tell(record: &mut Record, told: Told, strict: bool, failed: bool) {
    let Some(encrypted) = record.encrypted.take() else { return };
    // There, nothing is said of a certificate that was refused.
    let refused = encrypted.last_chain_ms.is_none() && !encrypted.skipped;
    let Some(own) = record.certificates.first().filter(|_| !(strict && failed && refused)).cloned() else {
        record.encrypted = Some(encrypted);
        return;
    };
    let earliest = record.certificates.iter().map(|certificate| certificate.ends_ms).min().unwrap_or(own.ends_ms);
    let seconds = |ms: i64| ms.div_euclid(1000) as f64;
    record.set("probe_ssl_earliest_cert_expiry", "Returns last SSL chain expiry in unixtime", seconds(earliest));
    record.metrics.push(Metric {
        name: "probe_ssl_last_chain_info",
        help: "Contains SSL leaf certificate information",
        labels: vec![
            ("fingerprint_sha256".into(), own.fingerprint.into()),
            ("issuer".into(), own.issuer.into()),
            ("serialnumber".into(), own.serial.into()),
            ("subject".into(), own.subject.into()),
            ("subjectalternative".into(), own.names.join(",").into()),
        ],
        value: 1.0,
    });
    let (name, help) = ("probe_tls_version_info", "Returns the TLS version used or NaN when unknown");
    record.metrics.push(Metric::with(name, help, ("version", Cow::Borrowed(encrypted.version)), 1.0));
    if told != Told::Few {
        // Nothing was verified: what is shown must not look like the year 1, nor hide that the end is near.
        let last = match encrypted.last_chain_ms {
            Some(ms) if !(strict && encrypted.skipped) => seconds(ms),
            _ if strict => YEAR_ONE,
            _ => seconds(earliest),
        };
        record.set("probe_ssl_last_chain_expiry_timestamp_seconds", "Returns last SSL chain expiry in timestamp", last);
    }
    if told == Told::All {
        let (name, help) = ("probe_tls_cipher_info", "Returns the TLS cipher negotiated during handshake");
        record.metrics.push(Metric::with(name, help, ("cipher", encrypted.cipher.clone().into()), 1.0));
    }
    record.encrypted = Some(encrypted);
}

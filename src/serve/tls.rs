//! TLS of the public listener: the operator's certificate, which new connections get and which is exchanged while the listener runs; and the
//! client's side, for verbs that ask such a listener and for sinks that write to a store.
//!
//! Version 1.2 at least. What is read is judged wholly before it takes the place of what was there, so a file that is wrong, or only half written,
//! changes nothing. Left out on purpose: certificates of clients (who may do what is said by tokens), and when files are looked at (`app`).

use std::fmt::Display;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::version::TLS12;
use tokio_rustls::rustls::version::TLS13;

use crate::secret::validity;

/// To shake hands, waiting for one's turn included: some round trips across a continent, and the senders' patience is 30 s.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at the same time. One costs a millisecond of CPU and some 50 KiB until it is done; the others wait their turn.
const HANDSHAKES: usize = 256;
/// A certificate with its chain, or a key, is some KiB.
const FILE_BYTES: u64 = 1 << 20;
/// Where systems keep the authorities that they trust: Debian, Red Hat, SUSE.
pub const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/var/lib/ca-certificates/ca-bundle.pem"];

/// An end of a connection with TLS, as a client has it.
pub type ClientStream = tokio_rustls::client::TlsStream<TcpStream>;
/// The same, as the server has it.
pub type ServerStream = tokio_rustls::server::TlsStream<TcpStream>;

/// Where certificate and key stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// PEM: the certificate, then those between it and the authority.
    pub certificate: PathBuf,
    /// PEM: its key.
    pub key: PathBuf,
}

/// What is wrong with the files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {rule}; {remedy}", path = path.display())]
pub struct Wrong {
    /// The key of the configuration that names the file: `cert_file` or `key_file`.
    pub key: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is demanded.
    pub rule: String,
    /// What to do.
    pub remedy: String,
}

/// A certificate with its key, read and found good.
#[derive(Clone)]
pub struct Certificate {
    config: Arc<ServerConfig>,
    chain: Vec<CertificateDer<'static>>,
    /// When it ends, ms since 1970; `None`: it does not say so in a way that is understood here.
    pub ends_ms: Option<i64>,
}

impl Certificate {
    /// Reads and judges both files; everything that is wrong with them.
    pub fn load(files: &Files) -> Result<Certificate, Vec<Wrong>> {
        let of_certificate = At { key: "cert_file", path: &files.certificate };
        let of_key = At { key: "key_file", path: &files.key };
        let chain = of_certificate.read().and_then(|pem| {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
            let chain = chain
                .map_err(|error| of_certificate.wrong(format!("is no PEM: {error}"), "write the certificate as PEM, then its chain"))?;
            let none = || of_certificate.wrong("holds no certificate", "a PEM file with -----BEGIN CERTIFICATE----- is expected");
            if chain.is_empty() { Err(none()) } else { Ok(chain) }
        });
        let key = of_key.read().and_then(|pem| {
            let remedy = "a PEM file with -----BEGIN PRIVATE KEY----- is expected, and without a password";
            PrivateKeyDer::from_pem_slice(&pem).map_err(|error| of_key.wrong(format!("holds no key: {error}"), remedy))
        });
        let (chain, key) = match (chain, key) {
            (Ok(chain), Ok(key)) => (chain, key),
            (chain, key) => return Err(chain.err().into_iter().chain(key.err()).collect()),
        };
        let ends_ms = chain.first().and_then(|own| validity::ends_ms(own));
        let config = server(chain.clone(), key);
        let config = config.map_err(|error| {
            let rule = format!("does not go with {}: {error}", files.certificate.display());
            vec![of_key.wrong(rule, "name the key of this certificate")]
        })?;
        Ok(Certificate { config: Arc::new(config), chain, ends_ms })
    }

    /// Whether it ended before this moment, ms since 1970.
    pub fn ended(&self, now_ms: i64) -> bool {
        self.ends_ms.is_some_and(|ends| ends < now_ms)
    }
}

/// One of the two files.
struct At<'a> {
    key: &'static str,
    path: &'a Path,
}

impl At<'_> {
    fn wrong(&self, rule: impl Into<String>, remedy: &str) -> Wrong {
        Wrong { key: self.key, path: self.path.to_owned(), rule: rule.into(), remedy: remedy.to_owned() }
    }

    fn read(&self) -> Result<Vec<u8>, Wrong> {
        let cannot = |error: std::io::Error| {
            let remedy = match error.kind() {
                std::io::ErrorKind::NotFound => "is the path right? A relative one begins at the configuration file",
                std::io::ErrorKind::PermissionDenied => "let the user that runs sluice read it, and enter its directories",
                _ => "name a file in PEM",
            };
            self.wrong(format!("cannot be read: {error}"), remedy)
        };
        let size = std::fs::metadata(self.path).map_err(cannot)?.len();
        if size > FILE_BYTES {
            return Err(self.wrong(format!("is {size} bytes long, {FILE_BYTES} at most"), "name a file in PEM"));
        }
        std::fs::read(self.path).map_err(cannot)
    }
}

fn server(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<ServerConfig, tokio_rustls::rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13, &TLS12])?;
    let mut config = config.with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// What a listener with TLS has: a certificate, exchanged while it runs.
pub struct Tls {
    current: RwLock<Certificate>,
    turns: Semaphore,
    /// How long a handshake may take.
    pub(super) within: Duration,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("the handshake takes too long")]
    Slow,
    #[error("it speaks no TLS")]
    NotTls,
    #[error("{0}")]
    Refused(std::io::Error),
}

impl Tls {
    /// With its first certificate.
    pub fn new(certificate: Certificate) -> Tls {
        Tls { current: RwLock::new(certificate), turns: Semaphore::new(HANDSHAKES), within: HANDSHAKE }
    }

    /// New connections get this one from now on. False: it is the one that they got already.
    pub fn exchange(&self, certificate: Certificate) -> bool {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *current, certificate);
        before.chain != current.chain
    }

    /// When the certificate ends, ms since 1970.
    pub fn ends_ms(&self) -> Option<i64> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).ends_ms
    }

    /// Shakes hands; whether HTTP/2 was agreed on.
    pub(super) async fn accept(&self, stream: TcpStream) -> Result<(ServerStream, bool), HandshakeError> {
        let shaken = tokio::time::timeout(self.within, async {
            if !begins_as_tls(&stream).await.map_err(HandshakeError::Refused)? {
                tell_plainly(stream).await;
                return Err(HandshakeError::NotTls);
            }
            // Closed never, so there is always a turn.
            let _turn = self.turns.acquire().await;
            let config = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).config);
            TlsAcceptor::from(config).accept(stream).await.map_err(HandshakeError::Refused)
        });
        let stream = shaken.await.unwrap_or(Err(HandshakeError::Slow))?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((stream, http2))
    }
}

#[cfg(test)]
impl Tls {
    /// The server's side, for tests of what speaks as a client.
    pub async fn accept_in_a_test(&self, stream: TcpStream) -> Option<ServerStream> {
        self.accept(stream).await.ok().map(|(stream, _)| stream)
    }
}

/// Looks at the first byte without taking it: the record of a handshake is 22, and nothing that is text begins so.
async fn begins_as_tls(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0];
    match stream.peek(&mut first).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(first[0] == 22),
    }
}

/// Whoever speaks plain HTTP here is told so in plain HTTP, since nothing else reaches a person.
async fn tell_plainly(mut stream: TcpStream) {
    use tokio::io::AsyncWriteExt;
    let text = "this port speaks TLS: write https:// instead of http://\n";
    let length = text.len();
    let answer =
        format!("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}");
    if stream.write_all(answer.as_bytes()).await.is_ok() {
        let _ = stream.shutdown().await;
        // Bytes of the request that nobody read would make the system throw the answer away: they are taken first, a few of them.
        let _ = tokio::io::copy(&mut tokio::io::AsyncReadExt::take(&mut stream, 64 << 10), &mut tokio::io::sink()).await;
    }
}

/// Whom a client trusts, and what it shows of itself.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// A PEM file with the authorities; `None`: those that this system trusts.
    pub authorities: Option<&'a Path>,
    /// PEM files of the client's own certificate and its key, where the server asks for them.
    pub own: Option<(&'a Path, &'a Path)>,
    /// How a person names the file of authorities.
    pub option: &'a str,
}

/// Connects with TLS to a server of this name. The error says what to do.
pub async fn connect(stream: TcpStream, host: &str, trust: Trust<'_>) -> Result<ClientStream, String> {
    let (path, roots) = roots(trust)?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("{host} is no name of a server: {error}"))?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_protocol_versions(&[&TLS13, &TLS12]);
    let config = config.map_err(|error| error.to_string())?.with_root_certificates(roots);
    let config = match trust.own {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let (chain, secret) = own(certificate, key)?;
            let wrong = |error| format!("{} and {} do not go together: {error}", certificate.display(), key.display());
            config.with_client_auth_cert(chain, secret).map_err(wrong)?
        }
    };
    let wrong = |error: &dyn Display| {
        format!("{error}; trusted were the authorities of {}, {} names a file with others", path.display(), trust.option)
    };
    match tokio::time::timeout(HANDSHAKE, TlsConnector::from(Arc::new(config)).connect(name, stream)).await {
        Ok(connected) => connected.map_err(|error| wrong(&error)),
        Err(_) => Err(HandshakeError::Slow.to_string()),
    }
}

/// A client's own certificate, and its key.
fn own(certificate: &Path, key: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(certificate)?).collect();
    let chain = chain.map_err(|error| format!("{}: is no PEM: {error}", certificate.display()))?;
    if chain.is_empty() {
        return Err(format!("{}: holds no certificate", certificate.display()));
    }
    let secret = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| format!("{}: holds no key: {error}", key.display()))?;
    Ok((chain, secret))
}

fn roots(trust: Trust<'_>) -> Result<(PathBuf, RootCertStore), String> {
    let system = || SYSTEM_ROOTS.iter().map(Path::new).find(|path| path.exists());
    let option = trust.option;
    let none = || format!("this system has no file of trusted authorities; {option} names one");
    let path = trust.authorities.or_else(system).ok_or_else(none)?;
    let wrong = |error: &dyn Display| format!("{}: {error}; {option} names a PEM file with the authorities to trust", path.display());
    let pem = std::fs::read(path).map_err(|error| wrong(&error))?;
    let mut roots = RootCertStore::empty();
    for one in CertificateDer::pem_slice_iter(&pem) {
        // One of the hundreds that a system trusts may be of a kind that is not understood here.
        let _ = roots.add(one.map_err(|error| wrong(&error))?);
    }
    if roots.is_empty() { Err(wrong(&"holds no authority")) } else { Ok((path.to_owned(), roots)) }
}

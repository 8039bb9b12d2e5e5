//! An authority of the tests' own, certificates by it, and the client's side of TLS, independent of the code under test.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SerialNumber};
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

/// A connection with TLS.
pub type Secure = StreamOwned<ClientConnection, TcpStream>;

/// An authority that signs certificates for 127.0.0.1 and localhost.
pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    serial: AtomicU64,
}

impl Authority {
    /// Its own certificate is `ca.pem` of the directory.
    pub fn new(dir: PathBuf) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "sluice tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        std::fs::write(dir.join("ca.pem"), params.self_signed(&key).expect("signed").pem()).expect("ca.pem");
        Authority { dir, issuer: Issuer::new(params, key), serial: AtomicU64::new(1) }
    }

    pub fn trusted(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    pub fn certificate(&self) -> PathBuf {
        self.dir.join("sluice.pem")
    }

    pub fn key(&self) -> PathBuf {
        self.dir.join("sluice.key")
    }

    /// Lines for sluice's configuration.
    pub fn configuration(&self) -> String {
        format!("tls: {{ cert_file: {}, key_file: {} }}\n", self.certificate().display(), self.key().display())
    }

    /// Writes a new certificate and its key over those before; gives it as it goes over the wire.
    pub fn renew(&self) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).expect("names");
        params.serial_number = Some(SerialNumber::from(self.serial.fetch_add(1, Ordering::Relaxed)));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        std::fs::write(self.certificate(), certificate.pem()).expect("sluice.pem");
        std::fs::write(self.key(), key.serialize_pem()).expect("sluice.key");
        certificate.der().to_vec()
    }

    /// For clients that trust this authority.
    pub fn client(&self) -> Arc<ClientConfig> {
        trusting(&self.trusted(), None)
    }
}

/// For servers that show this authority's certificate and want one by it.
pub fn demanding(authority: &Authority) -> Arc<ServerConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.trusted()).expect("a certificate")).expect("an authority");
    let provider = Arc::new(default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().expect("a verifier");
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let certificate = CertificateDer::from_pem_file(authority.certificate()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(authority.key()).expect("a key");
    Arc::new(config.with_client_cert_verifier(verifier).with_single_cert(vec![certificate], key).expect("a pair"))
}

/// For clients that trust this authority, with a certificate and a key of their own if it is asked for.
pub fn trusting(authority: &Path, own: Option<(&Path, &Path)>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).expect("a certificate")).expect("an authority");
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_root_certificates(roots);
    Arc::new(match own {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
            config.with_client_auth_cert(vec![certificate], PrivateKeyDer::from_pem_file(key).expect("a key")).expect("a pair")
        }
    })
}

/// Shakes hands with whoever listens there under this name.
pub fn connect(config: &Arc<ClientConfig>, address: SocketAddr, name: &str) -> std::io::Result<Secure> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let connection = ClientConnection::new(Arc::clone(config), name).map_err(std::io::Error::other)?;
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30)))?;
    let mut secure = StreamOwned::new(connection, stream);
    secure.conn.complete_io(&mut secure.sock)?;
    Ok(secure)
}

/// The certificate that a listener shows to a new connection.
pub fn shown(config: &Arc<ClientConfig>, address: SocketAddr, name: &str) -> std::io::Result<Vec<u8>> {
    let secure = connect(config, address, name)?;
    Ok(secure.conn.peer_certificates().expect("shaken hands")[0].to_vec())
}

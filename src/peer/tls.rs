//! TLS between nodes: version 1.3 only, both sides with a certificate of the cluster's authority, and the id that it names.

use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::TLS13;

use crate::secret::NODE_URI;
use crate::secret::NodeSecrets;

/// Both ends of a node.
pub struct Tls {
    /// For connections that come in.
    pub acceptor: TlsAcceptor,
    /// For connections to others.
    pub connector: TlsConnector,
}

/// Of a node's files; the error says which of them is wrong.
pub fn of(secrets: &NodeSecrets) -> Result<Tls, String> {
    let wrong = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}; `sluice cluster join BUNDLE` writes it anew");
    let authority = CertificateDer::from_pem_slice(secrets.authority.as_bytes()).map_err(|error| wrong("cluster/ca.pem", &error))?;
    let own = CertificateDer::from_pem_slice(secrets.certificate.as_bytes()).map_err(|error| wrong("cluster/node.pem", &error))?;
    let key = PrivateKeyDer::from_pem_slice(secrets.key.as_bytes()).map_err(|error| wrong("cluster/node.key", &error))?;
    let mut roots = RootCertStore::empty();
    roots.add(authority).map_err(|error| wrong("cluster/ca.pem", &error))?;
    let roots = Arc::new(roots);
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
        .build()
        .map_err(|error| wrong("cluster/ca.pem", &error))?;
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[&TLS13]);
    let mut server = server
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![own.clone()], key.clone_key())
        .map_err(|error| wrong("cluster/node.pem and node.key", &error))?;
    server.alpn_protocols = vec![b"h2".to_vec()];
    let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]);
    let mut client = client
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![own], key)
        .map_err(|error| wrong("cluster/node.pem and node.key", &error))?;
    client.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(server)), connector: TlsConnector::from(Arc::new(client)) })
}

/// The id in a certificate that has been verified.
pub fn id_of(certificates: Option<&[CertificateDer<'_>]>) -> Option<u64> {
    let certificate = webpki::EndEntityCert::try_from(certificates?.first()?).ok()?;
    let id = certificate.valid_uri_names().find_map(|uri| uri.strip_prefix(NODE_URI))?;
    u64::from_str_radix(id, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::secret::Bundle;

    #[test]
    fn a_certificate_names_its_node() {
        let bundle = Bundle::make("dc1", &["mon1.example".into()], clock::wall_ms()).unwrap();
        let secrets = bundle.admit(0xfeed_0000_0000_0001, "mon1.example", clock::wall_ms()).unwrap();
        assert!(of(&secrets).is_ok());
        let der = CertificateDer::from_pem_slice(secrets.certificate.as_bytes()).unwrap();
        assert_eq!(id_of(Some(&[der])), Some(0xfeed_0000_0000_0001));
        let mut mixed = bundle.admit(2, "mon1.example", clock::wall_ms()).unwrap();
        mixed.key = secrets.key;
        assert!(of(&mixed).is_err_and(|error| error.contains("node.key")));
    }
}

//! TLS between nodes: version 1.3 only, both sides with a certificate of the cluster's authority, and the id that it names. A node's certificate is
//! exchanged while it runs: connections that are there stay, new ones use the new one.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;

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

use crate::secret::Card;
use crate::secret::NODE_URI;
use crate::secret::NodeSecrets;

/// Both ends of a node.
pub struct Tls {
    /// For connections that come in.
    pub acceptor: TlsAcceptor,
    /// For connections to others.
    pub connector: TlsConnector,
    /// What it was made of.
    secrets: NodeSecrets,
}

/// The certificate in use.
pub struct Current(RwLock<Arc<Tls>>);

impl Current {
    /// The first one.
    pub fn new(tls: Tls) -> Current {
        Current(RwLock::new(Arc::new(tls)))
    }

    /// For a new connection.
    pub fn get(&self) -> Arc<Tls> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes what `join` has written meanwhile, if it is for this very node. False: it is what is in use already.
    pub fn renew(&self, secrets: NodeSecrets) -> Result<bool, String> {
        let tls = of(&secrets)?;
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let own = &current.secrets;
        let what = |card: &Card| format!("{} (node {})", card.name, card.node);
        if (own.id, &own.card.name) != (secrets.id, &secrets.card.name) {
            return Err(format!(
                "it is of {}, and this node runs as {}; restart it to become the other one",
                what(&secrets.card),
                what(&own.card)
            ));
        }
        if own.authority != secrets.authority {
            let text = "it is of another bundle, whose nodes trust only each other; join by the bundle of this cluster, or restart all nodes with the new one";
            return Err(text.to_owned());
        }
        let new = own.certificate != secrets.certificate;
        *current = Arc::new(tls);
        Ok(new)
    }
}

impl Tls {
    /// When the certificate ends, ms since 1970.
    pub fn expires_ms(&self) -> i64 {
        self.secrets.card.expires_ms
    }
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
    let (acceptor, connector) = (TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client)));
    Ok(Tls { acceptor, connector, secrets: secrets.clone() })
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

    #[test]
    fn a_certificate_is_exchanged_for_one_of_the_same_node_and_authority_only() {
        let now = clock::wall_ms();
        let bundle = Bundle::make("dc1", &["n1".into(), "n2".into()], now).unwrap();
        let first = bundle.admit(1, "n1", now - 86_400_000).unwrap();
        let current = Current::new(of(&first).unwrap());
        assert_eq!(current.renew(first.clone()), Ok(false));
        let ends = current.get().expires_ms();
        assert_eq!(current.renew(bundle.admit(1, "n1", now).unwrap()), Ok(true));
        assert_eq!(current.get().expires_ms(), ends + 86_400_000);
        let other = Bundle::make("dc1", &["n1".into()], now).unwrap().admit(1, "n1", now).unwrap();
        assert!(current.renew(other).unwrap_err().contains("another bundle"));
        for (id, name) in [(2, "n1"), (1, "n2")] {
            assert!(current.renew(bundle.admit(id, name, now).unwrap()).unwrap_err().contains("runs as n1"), "{id} {name}");
        }
        let mut half = bundle.admit(1, "n1", now).unwrap();
        half.key = first.key;
        assert!(current.renew(half).unwrap_err().contains("node.key"));
        assert_eq!(current.get().expires_ms(), ends + 86_400_000, "what was refused changed nothing");
    }
}

//! Who may speak to whom: the cluster's own authority (CA), the bundle by which nodes join, and each node's certificate with its id in it.
//!
//! `prepare` makes the authority once; its key stands in the bundle and nowhere else, so whoever holds the bundle can let nodes in. `join` makes a
//! key on the node, signs its certificate, and leaves three files beside the node's data. A node's id is in its certificate as a URI
//! (`sluice://node/<16 hexadecimal digits>`), so a peer's word for who it is is never taken.
//!
//! `token` makes and compares bearer tokens, `sign` signs messages and `signed` knows who signed one, `validity` reads when a certificate ends. Left out on purpose:
//! TLS connections (`peer`, and `serve` for the public listener).

pub mod sign;
pub mod signed;
pub mod token;
pub mod validity;

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::SanType;
use serde::Deserialize;
use serde::Serialize;

use crate::secret::token::Hash;
use crate::secret::token::Token;

use crate::failpoint;

/// Before a node's id in its certificate.
pub const NODE_URI: &str = "sluice://node/";
/// An authority outlives the machines; nothing else is signed by it.
const AUTHORITY_MS: i64 = 20 * 365 * 86_400_000;
/// A node's certificate; `join` with the same bundle makes a new one for the same node.
const NODE_MS: i64 = 3 * 365 * 86_400_000;
/// Clocks differ, and a certificate that begins in somebody's future is refused.
const BEFORE_MS: i64 = 86_400_000;
/// Where in the data directory a node's certificate lives.
const FOLDER: &str = "cluster";
/// In it: the hash of the token that the cluster begins with.
const FIRST_TOKEN: &str = "first-token.json";

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// A file.
    #[error("{path}: {error}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// What is in it.
    #[error("{path} is no {what}: {why}", path = path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// Why it is not.
        why: String,
    },
    /// Making a key or a certificate.
    #[error("a certificate cannot be made: {0}")]
    Make(String),
    /// It would take the place of something that is in use.
    #[error("{0}")]
    Exists(String),
}

fn making(error: rcgen::Error) -> SecretError {
    SecretError::Make(error.to_string())
}

/// The authority with its key, as `prepare` writes it. Whoever has it can let nodes into the cluster.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Of the layout.
    pub version: u32,
    /// The cluster's name.
    pub cluster: String,
    /// The names of its nodes.
    pub nodes: Vec<String>,
    /// When it was made, ms since 1970.
    pub made_ms: i64,
    authority: String,
    authority_key: String,
    /// The token that the cluster begins with, as its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_token: Option<FirstToken>,
}

/// A token that is there before the cluster is, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstToken {
    /// SHA-256, 64 hexadecimal digits.
    sha256: String,
    /// Its last letters.
    pub hint: String,
}

impl FirstToken {
    /// Of the token in clear.
    fn of(token: &Token) -> FirstToken {
        FirstToken { sha256: hex(&token.hash()), hint: token.hint() }
    }

    /// SHA-256; `None`: the file was damaged.
    pub fn hash(&self) -> Option<Hash> {
        let digits = self.sha256.as_bytes();
        let bytes: Option<Vec<u8>> = digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok()).collect();
        bytes?.try_into().ok()
    }
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Bundle").field("cluster", &self.cluster).field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

/// What a node knows of itself besides its certificate (`node.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Its id, 16 hexadecimal digits.
    pub node: String,
    /// Its name.
    pub name: String,
    /// The cluster's name.
    pub cluster: String,
    /// When the certificate ends, ms since 1970.
    pub expires_ms: i64,
    /// When the authority ends, ms since 1970.
    pub authority_expires_ms: i64,
}

/// A node's part of the cluster's trust, as `join` left it.
#[derive(Clone)]
pub struct NodeSecrets {
    /// The node's id.
    pub id: u64,
    /// Name, and when the certificate ends.
    pub card: Card,
    /// PEM of the authority.
    pub authority: String,
    /// PEM of the node's certificate.
    pub certificate: String,
    /// PEM of its key.
    pub key: String,
    /// What the cluster begins with.
    pub first_token: Option<FirstToken>,
}

impl std::fmt::Debug for NodeSecrets {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("NodeSecrets").field("card", &self.card).finish_non_exhaustive()
    }
}

fn authority_of(cluster: &str, made_ms: i64) -> Result<CertificateParams, SecretError> {
    let mut params = CertificateParams::new(Vec::new()).map_err(making)?;
    params.distinguished_name.push(DnType::CommonName, format!("sluice {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    lives(&mut params, made_ms, AUTHORITY_MS);
    Ok(params)
}

fn lives(params: &mut CertificateParams, from_ms: i64, for_ms: i64) {
    let at = |ms: i64| rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    params.not_before = at(from_ms - BEFORE_MS);
    params.not_after = at(from_ms + for_ms);
}

impl Bundle {
    /// A new authority.
    pub fn make(cluster: &str, nodes: &[String], now_ms: i64) -> Result<Bundle, SecretError> {
        let key = KeyPair::generate().map_err(making)?;
        let authority = authority_of(cluster, now_ms)?.self_signed(&key).map_err(making)?;
        Ok(Bundle {
            version: 1,
            cluster: cluster.to_owned(),
            nodes: nodes.to_vec(),
            made_ms: now_ms,
            authority: authority.pem(),
            authority_key: key.serialize_pem(),
            first_token: None,
        })
    }

    /// The cluster that is founded by it begins with this token.
    pub fn begin_with(&mut self, token: &Token) {
        self.first_token = Some(FirstToken::of(token));
    }

    /// Writes it for its owner's eyes only; never over another one.
    pub fn write(&self, path: &Path) -> Result<(), SecretError> {
        if path.exists() {
            let text = format!(
                "{} is there already: nodes that joined by it trust only each other. Name another file with --bundle, or remove it if no node joined yet",
                path.display()
            );
            return Err(SecretError::Exists(text));
        }
        let text = serde_json::to_string_pretty(self).map_err(|error| SecretError::Make(error.to_string()))?;
        write(path, &text)
    }

    /// As it was written.
    pub fn read(path: &Path) -> Result<Bundle, SecretError> {
        read_json(path, "join bundle of `sluice cluster prepare`")
    }

    /// A certificate for a node, with a key of its own.
    pub fn admit(&self, node: u64, name: &str, now_ms: i64) -> Result<NodeSecrets, SecretError> {
        let authority_key = KeyPair::from_pem(&self.authority_key).map_err(making)?;
        let issuer = Issuer::new(authority_of(&self.cluster, self.made_ms)?, authority_key);
        let key = KeyPair::generate().map_err(making)?;
        let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(making)?;
        params.distinguished_name.push(DnType::CommonName, name);
        let uri = format!("{NODE_URI}{node:016x}");
        params.subject_alt_names.push(SanType::URI(uri.as_str().try_into().map_err(making)?));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        lives(&mut params, now_ms, NODE_MS);
        let certificate = params.signed_by(&key, &issuer).map_err(making)?;
        let card = Card {
            node: format!("{node:016x}"),
            name: name.to_owned(),
            cluster: self.cluster.clone(),
            expires_ms: now_ms + NODE_MS,
            authority_expires_ms: self.made_ms + AUTHORITY_MS,
        };
        Ok(NodeSecrets {
            id: node,
            card,
            authority: self.authority.clone(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            first_token: self.first_token.clone(),
        })
    }
}

/// Where a node's certificate and what it knows of its cluster live.
pub fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join(FOLDER)
}

impl NodeSecrets {
    /// Writes the files; the key for its owner's eyes only. Takes the place of older ones of the same node.
    pub fn write(&self, data_dir: &Path) -> Result<(), SecretError> {
        let folder = folder(data_dir);
        std::fs::create_dir_all(&folder).map_err(|error| SecretError::File { path: folder.clone(), error })?;
        let json = |error: serde_json::Error| SecretError::Make(error.to_string());
        if let Some(first) = &self.first_token {
            write(&folder.join(FIRST_TOKEN), &serde_json::to_string_pretty(first).map_err(json)?)?;
        }
        let card = serde_json::to_string_pretty(&self.card).map_err(json)?;
        for (name, text) in [("ca.pem", &self.authority), ("node.key", &self.key), ("node.pem", &self.certificate), ("node.json", &card)] {
            write(&folder.join(name), text)?;
            failpoint::reach(failpoint::Place::JoinHalf);
        }
        Ok(())
    }

    /// As `join` left them; `None`: this node has not joined.
    pub fn read(data_dir: &Path) -> Result<Option<NodeSecrets>, SecretError> {
        let folder = folder(data_dir);
        let card_path = folder.join("node.json");
        if !card_path.exists() {
            return Ok(None);
        }
        let card: Card = read_json(&card_path, "node's card")?;
        let wrong = |_| SecretError::Unreadable { path: card_path.clone(), what: "node's card", why: format!("`{}` is no id", card.node) };
        let id = u64::from_str_radix(&card.node, 16).map_err(wrong)?;
        let text = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).map_err(|error| SecretError::File { path, error })
        };
        let first = folder.join(FIRST_TOKEN);
        let first_token = if first.exists() { Some(read_json(&first, "token to begin with")?) } else { None };
        Ok(Some(NodeSecrets { id, authority: text("ca.pem")?, certificate: text("node.pem")?, key: text("node.key")?, card, first_token }))
    }
}

/// Two hexadecimal digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        for digit in [byte >> 4, byte & 15] {
            out.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
        out
    })
}

/// Eight bytes that nobody can guess.
pub fn random() -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Reads JSON.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path, what: &'static str) -> Result<T, SecretError> {
    let bytes = std::fs::read(path).map_err(|error| SecretError::File { path: path.to_owned(), error })?;
    serde_json::from_slice(&bytes).map_err(|error| SecretError::Unreadable { path: path.to_owned(), what, why: error.to_string() })
}

/// Writes a file for its owner's eyes only, so that it is there wholly or not at all.
pub fn write(path: &Path, text: &str) -> Result<(), SecretError> {
    let temporary = PathBuf::from(format!("{}.new", path.display()));
    let make = || {
        let _ = std::fs::remove_file(&temporary); // of a write that was cut short, perhaps with other rights
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => std::fs::File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    };
    make().map_err(|error: std::io::Error| SecretError::File { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_written_is_read_and_only_its_owner_can() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dc1.bundle");
        Bundle::make("dc1", &["a".into(), "b".into()], 1_790_000_000_000).unwrap().write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let bundle = Bundle::read(&path).unwrap();
        assert!(matches!(bundle.write(&path), Err(SecretError::Exists(_))), "it would lock out who joined by the first");
        let data = directory.path().join("data");
        assert!(NodeSecrets::read(&data).unwrap().is_none());
        bundle.admit(0xabc, "a", 1_790_000_000_000).unwrap().write(&data).unwrap();
        let read = NodeSecrets::read(&data).unwrap().unwrap();
        assert_eq!(read.first_token, None);
        assert_eq!((read.id, &*read.card.name, &*read.card.cluster), (0xabc, "a", "dc1"));
        assert_eq!(std::fs::metadata(data.join("cluster/node.key")).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{read:?} {bundle:?}").contains("PRIVATE"));
    }

    #[test]
    fn the_first_token_travels_as_its_hash() {
        let directory = tempfile::tempdir().unwrap();
        let (path, token) = (directory.path().join("dc1.bundle"), Token::make().unwrap());
        let mut bundle = Bundle::make("dc1", &["a".into()], 1_790_000_000_000).unwrap();
        bundle.begin_with(&token);
        bundle.write(&path).unwrap();
        assert!(!std::fs::read_to_string(&path).unwrap().contains(token.reveal()));
        Bundle::read(&path).unwrap().admit(1, "a", 1_790_000_000_000).unwrap().write(directory.path()).unwrap();
        let first = NodeSecrets::read(directory.path()).unwrap().unwrap().first_token.unwrap();
        assert_eq!((first.hash(), first.hint.clone()), (Some(token.hash()), token.hint()));
        for wrong in ["", "ab", &"zz".repeat(32), &"ü".repeat(32)] {
            assert_eq!(FirstToken { sha256: wrong.to_owned(), ..first.clone() }.hash(), None, "{wrong}");
        }
    }
}

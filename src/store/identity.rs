//! Who this node is: a number made once for each new data directory. A wiped disk is a new member, never the old one with a short memory.

use serde::Deserialize;
use serde::Serialize;
use std::fs::File;
use std::io::Read as _;
use std::io::Write as _;
use std::path::Path;

use crate::store::StoreError;

/// `identity.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The node's number among all members; never 0, never used again.
    pub node: u64,
    /// When it was made, ms since 1970.
    pub created_ms: i64,
}

const NAME: &str = "identity.json";

impl Identity {
    /// Of this directory, if it has one.
    pub fn read(directory: &Path) -> Result<Option<Identity>, StoreError> {
        let path = directory.join(NAME);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::File { path, error }),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| StoreError::File { path, error: error.into() })
    }

    /// A new one, written so that it is there wholly or not at all. `node`: the number, where a certificate names it already.
    pub fn create(directory: &Path, node: Option<u64>, now_ms: i64) -> Result<Identity, StoreError> {
        let path = directory.join(NAME);
        let make = || {
            let identity = Identity { node: node.map_or_else(random, Ok)?.max(1), created_ms: now_ms };
            let temporary = directory.join("identity.json.new");
            let mut file = File::create(&temporary)?;
            file.write_all(&serde_json::to_vec(&identity)?)?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)?;
            File::open(directory)?.sync_all()?;
            Ok(identity)
        };
        make().map_err(|error| StoreError::File { path: path.clone(), error })
    }
}

/// Eight bytes that nobody can guess.
pub fn random() -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_identity_is_an_error_and_names_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let identity = Identity::create(directory.path(), None, 1_790_000_000_000).unwrap();
        assert_eq!(Identity::read(directory.path()).unwrap(), Some(identity));
        let path = directory.path().join(NAME);
        let text = std::fs::read(&path).unwrap();
        let mut refused = 0;
        for seed in crate::mutate::seeds(500) {
            let mut damaged = text.clone();
            crate::mutate::damage(&mut fastrand::Rng::with_seed(seed), &mut damaged);
            std::fs::write(&path, damaged).unwrap();
            if let Err(error) = Identity::read(directory.path()) {
                refused += 1;
                assert!(error.to_string().contains(NAME), "SEED={seed}: {error}");
            }
        }
        assert!(refused > 0 || std::env::var("SEED").is_ok());
    }
}

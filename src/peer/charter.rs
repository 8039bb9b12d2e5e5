//! What a node keeps of the cluster it belongs to (`cluster/cluster.json` beside its certificate): written when the cluster is founded or
//! the node admitted, and whenever the list of nodes changes.

use std::path::Path;

use serde::Deserialize;
use serde::Serialize;

use crate::secret;
use crate::secret::SecretError;
use crate::shard::command::Founding;

const NAME: &str = "cluster.json";

/// A cluster, as founded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Charter {
    /// Its identity, 32 hexadecimal digits.
    pub cluster: String,
    /// Seed of all series hashes, 16 hexadecimal digits.
    pub seed: String,
    /// How many data shards it has.
    pub data_shards: u16,
    /// Its members.
    pub nodes: Vec<Founder>,
    /// When, ms since 1970.
    pub founded_ms: i64,
    /// This node has begun its data.
    pub begun: bool,
    /// This node was admitted later: it begins without a vote.
    #[serde(default)]
    pub admitted: bool,
    /// This node goes on alone since the majority was lost, and has not started since.
    #[serde(default)]
    pub recovered: bool,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Founder {
    /// Its id, 16 hexadecimal digits.
    pub id: String,
    /// Its name in the configuration.
    pub name: String,
}

impl Founder {
    /// The id as a number; 0, which no node has, where it is none.
    pub fn number(&self) -> u64 {
        u64::from_str_radix(&self.id, 16).unwrap_or(0)
    }
}

impl Charter {
    /// As it was written; `None`: the node belongs to no cluster yet.
    pub fn read(data_dir: &Path) -> Result<Option<Charter>, SecretError> {
        let path = secret::folder(data_dir).join(NAME);
        if !path.exists() {
            return Ok(None);
        }
        let charter: Charter = secret::read_json(&path, "record of a cluster")?;
        match charter.check() {
            Ok(_) => Ok(Some(charter)),
            Err(why) => Err(SecretError::Unreadable { path, what: "record of a cluster", why }),
        }
    }

    /// Writes it, synced.
    pub fn write(&self, data_dir: &Path) -> Result<(), SecretError> {
        let text = serde_json::to_string_pretty(self).map_err(|error| SecretError::Make(error.to_string()))?;
        secret::write(&secret::folder(data_dir).join(NAME), &text)
    }

    /// For the shards; an error says what cannot be.
    pub fn check(&self) -> Result<Founding, String> {
        let cluster = u128::from_str_radix(&self.cluster, 16).map_err(|_| format!("`{}` is no id of a cluster", self.cluster))?;
        let seed = u64::from_str_radix(&self.seed, 16).map_err(|_| format!("`{}` is no seed", self.seed))?;
        if self.nodes.iter().any(|node| node.number() == 0) || self.nodes.is_empty() || cluster == 0 {
            return Err("a node, or the cluster, has no id".to_owned());
        }
        Ok(Founding { cluster, seed, data_shards: self.data_shards })
    }
}

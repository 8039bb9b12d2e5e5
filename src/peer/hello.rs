//! What nodes tell each other about themselves, once a second and before anything else.

use serde::Deserialize;
use serde::Serialize;

/// A greeting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The program's version.
    pub version: String,
    /// The node's id, 16 hexadecimal digits.
    pub node: String,
    /// Its name.
    pub name: String,
    /// The cluster it belongs to; `None`: to none yet.
    pub cluster: Option<String>,
    /// A hash of what all nodes' files must say alike.
    pub agreed: String,
    /// It has data, of whatever cluster.
    pub data: bool,
    /// It takes part in the shards now.
    pub running: bool,
    /// It shall lead nothing, for whatever reason.
    #[serde(default)]
    pub draining: bool,
    /// The reason: `draining`, `clock`, `slow_disk` or `full_disk`.
    #[serde(default)]
    pub aside: Option<String>,
    /// Free bytes of its disk.
    #[serde(default)]
    pub free_bytes: Option<u64>,
    /// Below so many it takes no samples.
    #[serde(default)]
    pub reserve_bytes: Option<u64>,
    /// The feature levels that its program knows: the oldest and the newest; `None`: it knows of none but the first.
    #[serde(default)]
    pub levels: Option<(u64, u64)>,
    /// In an answer: what the one who asks is to it, `member`, `removed` (it was one) or `stranger`; `None`: it does not say.
    #[serde(default)]
    pub you_are: Option<String>,
    /// Its disk is full to its reserve.
    #[serde(default)]
    pub disk_full: bool,
    /// Its wall clock, ms since 1970.
    pub now_ms: i64,
    /// Its shards.
    pub shards: Vec<Standing>,
    /// When its certificate ends, ms since 1970.
    pub expires_ms: i64,
    /// When the certificate of its public listener ends, ms since 1970; `None`: it has none, or does not say.
    #[serde(default)]
    pub public_expires_ms: Option<i64>,
}

/// A shard, as the greeting node knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Which.
    pub shard: u16,
    /// Who leads it: a node's id, 16 hexadecimal digits; `None`: nobody.
    pub leader: Option<String>,
    /// Index of the last entry that is applied there.
    pub applied: u64,
    /// The entry of which its last image was taken; 0: none since its start.
    #[serde(default)]
    pub image: u64,
    /// The image's hash, 16 hexadecimal digits.
    #[serde(default)]
    pub hash: String,
}

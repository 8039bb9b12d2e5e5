//! An alert, wherever it comes from: the words that inputs, the state, routes and receivers share.
//!
//! Left out on purpose: how it is written (`api`, `notify`), how it is kept (`shard::alerts`), whom it goes to (`alert`).

use crate::model::labels::Labels;
use crate::model::labels::Piece;

/// So far apart the clock of whoever said something and the time of the entry that holds it may be, ms.
const APART_MS: i64 = 5_000;

/// What a source says of an alert.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alert {
    /// Which alert it is: all of them, and nothing else, make its identity. At least one, none of them empty.
    pub labels: Labels,
    /// For people.
    pub annotations: Labels,
    /// Where it was made; may be empty.
    pub generator: Piece,
    /// Since when it holds, ms since 1970.
    pub starts: i64,
    /// Until when it holds unless somebody says it again: it is over from then on.
    pub ends: i64,
    /// The source did not say `ends`; it is so long after the last word of it as `resolve_timeout` says.
    pub times_out: bool,
    /// When it was last said, ms since 1970.
    pub updated: i64,
}

impl Alert {
    /// Whether it is over at this time.
    pub fn is_over(&self, now: i64) -> bool {
        self.ends <= now
    }

    /// Of one that is over: whether nobody said so, and it is over only since nobody has said again that it holds.
    pub fn is_unconfirmed(&self) -> bool {
        self.ends > self.updated.saturating_add(APART_MS)
    }

    /// See [`fingerprint`].
    pub fn fingerprint(&self) -> u64 {
        fingerprint(&self.labels)
    }
}

/// An alert's name; may be empty.
pub fn name(labels: &Labels) -> &str {
    labels.get("alertname").unwrap_or_default()
}

/// An alert's identity as Alertmanager writes it (in `%016x`): FNV-1a of 64 bits over `name 0xff value 0xff`, sorted by name (`model.LabelSet.Fingerprint` of
/// prometheus/common). Not safe against labels made to collide: where it is a key, labels are compared, too.
pub fn fingerprint(labels: &Labels) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    for (name, value) in labels {
        name.bytes().chain([0xff]).chain(value.bytes()).chain([0xff]).for_each(&mut add);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(pairs: &[(&str, &str)]) -> String {
        let labels = pairs.iter().copied().collect();
        format!("{:016x}", fingerprint(&labels))
    }

    #[test]
    fn fingerprints_are_alertmanagers() {
        let rest = [
            ("alertname", "InstanceDown"),
            ("code", "200"),
            ("job", "prometheus"),
            ("monitor", "codelab-monitor"),
            ("severity", "critical"),
        ];
        let of = |instance| print(&[&rest[..], &[("instance", instance)]].concat());
        assert_eq!(of("127.0.0.1:9090"), "791cec13fcba0368");
        assert_eq!(of("localhost:9090"), "8df98227bdd81384");
    }
}

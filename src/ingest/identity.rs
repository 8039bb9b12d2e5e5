//! Which group and replica a series is of, decided series by series.
//!
//! Per series and not per request, because a scraped series may carry its own `cluster` label, which wins over the external one, and
//! because relays merge senders. Nearly every series has the identity of the one before it, so callers compare before they look anything up.

use crate::config::groups::Groups;
use crate::config::groups::LabelPair;
use crate::ingest::head::Hint;
use crate::label_words;
use crate::model::NO_GROUP;
use crate::model::NO_REPLICA;
use crate::model::tenant;
use crate::wire::remote_write::Label;

label_words! {
    /// What is missing where a series does not say whose it is.
    Unidentified {
        /// None of the configured labels.
        NoLabels = "no_labels",
        /// A group's label without the replica's.
        NoReplica = "no_replica",
        /// A replica's label without the group's.
        NoGroup = "no_group",
    }
}

/// Whose a series is, in words that borrow from its labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The group's label, or [`NO_GROUP`].
    pub group: &'a str,
    /// The shard in the replica's name that belongs to the group (Operator); empty mostly.
    pub shard: &'a str,
    /// The replica's label, or [`NO_REPLICA`].
    pub replica: &'a str,
    /// What is missing.
    pub missing: Option<Unidentified>,
    /// Sum of the hashes of the labels that name groups: what a series' hash has of them.
    pub own: u64,
    /// Sum of the hashes of the labels that name replicas: what a series' hash must not have of them.
    pub replicas: u64,
}

impl Identity<'_> {
    /// The group's name: with the Operator's shard where there is one.
    pub fn group_name(&self) -> String {
        if self.shard.is_empty() { self.group.to_string() } else { format!("{}/{}", self.group, self.shard) }
    }
}

/// The rule by which series are identified, made ready.
#[derive(Debug)]
pub struct Identifier {
    pairs: Vec<LabelPair>,
    /// Bit n: some label of interest has a name of n bytes (63: or more). Most labels are passed over by this alone.
    lengths: u64,
    strip: Vec<String>,
}

/// Requests of one minute in nine show their series for comparison with other groups': whoever watches for ten minutes sees one such
/// minute whole, and with it each series of any usual interval.
pub fn now_and_then(now_ms: i64) -> bool {
    const EVERY: i64 = 1 << 19; // 524 s
    const FOR: i64 = 1 << 16; // 66 s
    now_ms % EVERY < FOR
}

/// More pairs than this make no sense, and the search below keeps its finds in an array.
const PAIRS_MAX: usize = 8;

impl Identifier {
    /// Of a configuration.
    pub fn new(groups: &Groups) -> Identifier {
        let pairs: Vec<LabelPair> = groups.labels.iter().take(PAIRS_MAX).cloned().collect();
        let lengths = pairs.iter().flat_map(|pair| [&pair.group, &pair.replica]).fold(0, |mask, name| mask | bit(name));
        let lengths = lengths | bit(tenant::LABEL);
        let mut strip: Vec<String> = pairs.iter().map(|pair| pair.replica.clone()).collect();
        // A sender does not name its tenant in a label: rules and stores would believe it.
        strip.push(tenant::LABEL.to_owned());
        strip.sort();
        strip.dedup();
        Identifier { pairs, lengths, strip }
    }

    /// The replica labels and the tenant's, which no sink is given and no hash covers.
    pub fn strip(&self) -> &[String] {
        &self.strip
    }

    /// Whose the series with these labels is.
    ///
    /// The first pair decides of which both labels are there; else the first of which the group's is; else it is of nobody.
    pub fn identify<'a>(&'a self, labels: &[Label<'a>], hint: &'a Hint) -> Identity<'a> {
        let mut found: [(&str, &str); PAIRS_MAX] = [("", ""); PAIRS_MAX];
        let (mut own, mut replicas) = (0_u64, 0_u64);
        for label in labels {
            if self.lengths & bit(label.name) == 0 {
                continue;
            }
            let (mut names_group, mut names_replica) = (false, label.name == tenant::LABEL);
            for (pair, find) in self.pairs.iter().zip(&mut found) {
                if label.name == pair.group {
                    find.0 = label.value;
                    names_group = true;
                } else if label.name == pair.replica {
                    find.1 = label.value;
                    names_replica = true;
                }
            }
            // A replica's label is in no hash.
            if names_replica {
                replicas = replicas.wrapping_add(label.part());
            } else if names_group {
                own = own.wrapping_add(label.part());
            }
        }
        let finds = || self.pairs.iter().zip(&found);
        let whole = finds().find(|(_, (group, replica))| !group.is_empty() && !replica.is_empty());
        let mut identity = match whole {
            Some((pair, (group, replica))) => {
                let shard = if pair.operator_shards { operator_shard(replica) } else { "" };
                Identity { group, shard, replica, missing: None, own, replicas }
            }
            None => match (finds().find(|(_, find)| !find.0.is_empty()), finds().find(|(_, find)| !find.1.is_empty())) {
                (Some((_, (group, _))), _) => {
                    Identity { group, shard: "", replica: NO_REPLICA, missing: Some(Unidentified::NoReplica), own, replicas }
                }
                (None, Some((_, (_, replica)))) => {
                    Identity { group: NO_GROUP, shard: "", replica, missing: Some(Unidentified::NoGroup), own, replicas }
                }
                (None, None) => {
                    Identity { group: NO_GROUP, shard: "", replica: NO_REPLICA, missing: Some(Unidentified::NoLabels), own, replicas }
                }
            },
        };
        if let Some(group) = &hint.group {
            (identity.group, identity.shard) = (group, "");
            identity.missing = identity.replica.is_empty().then_some(Unidentified::NoReplica);
        }
        if let Some(replica) = &hint.replica {
            identity.replica = replica;
            identity.missing = (identity.group == NO_GROUP).then_some(Unidentified::NoGroup);
        }
        if identity.missing == Some(Unidentified::NoGroup) {
            // A replica of no group would compete with everybody else's replica of that name.
            identity.replica = NO_REPLICA;
        }
        identity
    }
}

fn bit(name: &str) -> u64 {
    1 << name.len().min(63)
}

/// `shard-3` of `prometheus-k8s-shard-3-0`; the Operator names the pods of its first shard without one.
fn operator_shard(replica: &str) -> &str {
    // Asked for every series, so without the search tables that `str::rfind` would make each time.
    let Some(at) = replica.as_bytes().windows(7).rposition(|part| part == b"-shard-") else { return "" };
    let from = at + 1;
    let digits = replica[from + "shard-".len()..].bytes().take_while(u8::is_ascii_digit).count();
    let end = from + "shard-".len() + digits;
    if digits > 0 && replica[end..].starts_with('-') { &replica[from..end] } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(labels: &[(&'static str, &'static str)], hint: &Hint, expected: (&str, &str, Option<Unidentified>)) {
        let identifier = Identifier::new(&Groups::default());
        let labels: Vec<Label<'_>> = labels.iter().map(|(name, value)| Label::new(0, name, value)).collect();
        let identity = identifier.identify(&labels, hint);
        assert_eq!((identity.group_name().as_str(), identity.replica, identity.missing), expected);
    }

    #[test]
    fn the_first_whole_pair_decides() {
        let none = Hint::default();
        check(&[("cluster", "c"), ("__replica__", "a")], &none, ("c", "a", None));
        check(&[("cluster", "c"), ("prometheus", "m/k"), ("prometheus_replica", "p-0")], &none, ("m/k", "p-0", None));
        check(&[("__replica__", "a"), ("cluster", "c"), ("prometheus", "own")], &none, ("c", "a", None));
    }

    #[test]
    fn what_is_missing_is_said() {
        let none = Hint::default();
        check(&[("job", "x")], &none, (NO_GROUP, NO_REPLICA, Some(Unidentified::NoLabels)));
        check(&[("cluster", "c")], &none, ("c", NO_REPLICA, Some(Unidentified::NoReplica)));
        check(&[("__replica__", "a")], &none, (NO_GROUP, NO_REPLICA, Some(Unidentified::NoGroup)));
    }

    #[test]
    fn an_operator_shard_belongs_to_the_group() {
        let pair = |replica| [("prometheus", "m/k"), ("prometheus_replica", replica)];
        let none = Hint::default();
        check(&pair("prometheus-k-shard-1-0"), &none, ("m/k/shard-1", "prometheus-k-shard-1-0", None));
        check(&pair("prometheus-k-0"), &none, ("m/k", "prometheus-k-0", None));
        check(&pair("prometheus-shard-x-0"), &none, ("m/k", "prometheus-shard-x-0", None));
        check(&[("cluster", "c"), ("__replica__", "a-shard-1-0")], &none, ("c", "a-shard-1-0", None));
    }

    #[test]
    fn the_url_wins_over_labels() {
        let hint = |group: Option<&str>, replica: Option<&str>| Hint {
            group: group.map(Into::into),
            replica: replica.map(Into::into),
            tenant: None,
        };
        let labels = [("cluster", "c"), ("__replica__", "a")];
        check(&labels, &hint(Some("g"), Some("r")), ("g", "r", None));
        check(&labels, &hint(Some("g"), None), ("g", "a", None));
        check(&labels, &hint(None, Some("r")), ("c", "r", None));
        check(&[("job", "x")], &hint(Some("g"), None), ("g", NO_REPLICA, Some(Unidentified::NoReplica)));
        check(&[("job", "x")], &hint(None, Some("r")), (NO_GROUP, NO_REPLICA, Some(Unidentified::NoGroup)));
    }

    #[test]
    fn a_tenant_in_a_label_is_taken_off_and_in_no_hash() {
        let identifier = Identifier::new(&Groups::default());
        let labels = [Label::new(3, "__tenant__", "a"), Label::new(3, "cluster", "c")];
        assert_eq!(identifier.identify(&labels, &Hint::default()).replicas, labels[0].part());
        assert!(identifier.strip().iter().any(|name| name == "__tenant__"));
    }

    #[test]
    fn whoever_watches_for_ten_minutes_sees_a_minute_whole() {
        let seconds: Vec<bool> = (0..4000).map(|second| now_and_then(1_790_000_000_000 + second * 1000)).collect();
        assert!(seconds.windows(600).all(|ten_minutes| ten_minutes.windows(60).any(|minute| minute.iter().all(|shown| *shown))));
        assert!(seconds.iter().filter(|shown| **shown).count() < 600, "now and then");
    }

    #[test]
    fn a_groups_own_labels_are_known_by_their_hashes() {
        let identifier = Identifier::new(&Groups::default());
        let pairs = [("__replica__", "a"), ("cluster", "c"), ("job", "x"), ("prometheus", "m/k"), ("prometheus_replica", "p-0")];
        let labels = pairs.map(|(name, value)| Label::new(3, name, value));
        let none = Hint::default();
        assert_eq!(identifier.identify(&labels, &none).own, labels[1].part().wrapping_add(labels[3].part()));
        assert_eq!(identifier.identify(&labels, &none).replicas, labels[0].part().wrapping_add(labels[4].part()));
        let found = identifier.identify(&labels[2..3], &none);
        assert_eq!((found.own, found.replicas), (0, 0));
    }
}

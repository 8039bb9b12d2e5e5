//! What is odd about a group's set-up, for `group list`: things that lose nothing, but that somebody should mend.

use super::Detector;
use super::sketch::Sketch;
use crate::dedup::group::Group;
use crate::model::tenant;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A group needs to have been watched for so long, ms.
pub const WATCHED: u64 = 600_000;
/// A replica is active when its last entry is no older than this, ms.
const ACTIVE: i64 = 600_000;
/// Replicas that share less than this percent of their series are no copies.
const HARDLY: u32 = 20;
/// Groups that share at least this percent are one.
const MOST: u32 = 80;
/// Groups that share series with one and are named for it.
const NAMED: usize = 3;
/// Smallest hashes of a group, without its own labels, by which groups are compared.
pub const BARE: usize = 64;
/// They.
pub type Bare = Sketch<BARE>;
/// With fewer sampled series than this a share says nothing.
const FEW: usize = 16;

/// Something odd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// Nobody covers for its only replica.
    OneReplica {
        /// The replica.
        replica: String,
    },
    /// Two replicas send different series: Operator shards under one name, or two groups.
    HardlyOverlap {
        /// One.
        one: String,
        /// The other.
        other: String,
        /// Percent of the smaller share.
        percent: u32,
    },
    /// Names come and go: the replica label holds something that changes at each restart.
    NameChanges {
        /// Names known.
        names: usize,
        /// Of these, the ones that send.
        active: usize,
        /// Items refused since there were eight names already.
        refused: u64,
    },
    /// Two groups send the same series: the group label differs per replica.
    SharesSeries {
        /// The other group.
        with: String,
        /// Percent of this group's.
        percent: u32,
    },
}

impl std::fmt::Display for Oddity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Oddity::OneReplica { replica } => write!(f, "only {replica} sends: nothing covers for it"),
            Oddity::HardlyOverlap { one, other, percent } => {
                write!(
                    f,
                    "{one} and {other} share {percent} % of their series: they are no copies of each other (does the group lack the shard?)"
                )
            }
            Oddity::NameChanges { names, active, refused } => {
                write!(
                    f,
                    "{names} replica names, {active} of them active, {refused} samples refused: the replica label changes at each restart"
                )
            }
            Oddity::SharesSeries { with, percent } => {
                write!(f, "{percent} % of its series are also in the group {with}: is the group label different in each replica?")
            }
        }
    }
}

/// Which groups share most of their series, of all groups of all shards: by name, what is odd about it.
///
/// Groups that share most share a smallest hash, so only such are compared: 1000 groups are 64,000 hashes to sort.
pub fn sharing(groups: &[(String, Arc<Bare>)]) -> BTreeMap<String, Vec<Oddity>> {
    let enough = |at: &usize| groups[*at].1.len() >= FEW;
    let mut hashes: Vec<(u64, usize)> =
        (0..groups.len()).filter(enough).flat_map(|at| groups[at].1.hashes().iter().map(move |&hash| (hash, at))).collect();
    hashes.sort_unstable();
    let mut pairs = BTreeSet::new();
    for run in hashes.chunk_by(|one, other| one.0 == other.0) {
        // Of a thousand groups with the same series each is compared with its neighbours.
        for (place, (_, one)) in run.iter().enumerate() {
            // Two tenants may well watch the same things.
            let other = run[place + 1..].iter().filter(|(_, other)| tenant::of(&groups[*one].0) == tenant::of(&groups[*other].0));
            pairs.extend(other.take(NAMED).map(|(_, other)| (*one, *other)));
        }
    }
    let mut odd: BTreeMap<String, Vec<Oddity>> = BTreeMap::new();
    for (one, other) in pairs.into_iter().flat_map(|(one, other)| [(one, other), (other, one)]) {
        let ((name, bare), (with, others)) = (&groups[one], &groups[other]);
        let all = odd.entry(name.clone()).or_default();
        if let Some(percent) = bare.share_in(others).filter(|&percent| percent >= MOST && all.len() < NAMED) {
            all.push(Oddity::SharesSeries { with: with.clone(), percent });
        }
    }
    odd
}

impl Detector {
    /// What is odd about a group.
    pub fn oddities(&self, now: u64, group: &Group) -> Vec<Oddity> {
        let mut odd = Vec::new();
        let Some(watch) = self.watches.get(group.name()).filter(|watch| now.saturating_sub(watch.begin) >= self.watched) else {
            return odd;
        };
        let active: Vec<&str> = group.replicas().filter(|r| group.at() - r.last_seen <= ACTIVE).map(|r| &*r.name).collect();
        if let [replica] = active[..] {
            odd.push(Oddity::OneReplica { replica: replica.to_owned() });
        }
        let (names, refused) = (group.replicas().count(), group.counts().ninth);
        if refused > 0 || names >= active.len() + 2 {
            odd.push(Oddity::NameChanges { names, active: active.len(), refused });
        }
        for (at, &one) in active.iter().enumerate() {
            for &other in &active[at + 1..] {
                let (Some(a), Some(b)) = (watch.senders.get(one), watch.senders.get(other)) else { continue };
                let share = a.before.share_in(&b.before).min(b.before.share_in(&a.before));
                if let Some(percent) = share.filter(|&percent| percent < HARDLY && a.before.len().min(b.before.len()) >= FEW) {
                    odd.push(Oddity::HardlyOverlap { one: one.to_owned(), other: other.to_owned(), percent });
                }
            }
        }
        odd
    }
}

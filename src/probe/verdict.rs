//! What the nodes together make of a target: it is down when enough of them say so, and nothing is said on the word of one that may itself be cut off.
//!
//! Each node says once a second what it finds down (its ballot); what it does not name it has no complaint about. Whoever leads the control shard counts.
//! - Down: `k` nodes say so; fewer where fewer live, but never fewer than a majority of those there are could be, or `k`.
//! - Up again: fewer than that would say so, even if every node that lives and has no vote on it now did: silence of one that said "down" is no "up".
//! - A node has no vote on what was found down and which it has not looked at since it began.
//! - A node that doubts itself (its own references do not answer, it is late, it has only begun) keeps its vote back; then nothing is decided by fewer.
//!
//! Pure: ballots and their ages go in, changes come out. Left out on purpose: who is asked to look (`jobs`), and what a change leads to.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::shard::codec::Malformed;
use crate::shard::codec::Reader;
use crate::shard::codec::Writer;

/// A ballot older than this is none, ms: they come each second.
pub const GOOD_FOR: u64 = 4_000;
/// Targets that a ballot names.
const MOST: usize = 20_000;
/// Raised when the layout changes.
const VERSION: u8 = 2;

/// What a node finds down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ballot {
    /// The node doubts itself: it has no vote now.
    pub withheld: bool,
    /// By key (`schedule::key`): why, in a word.
    pub down: BTreeMap<u64, String>,
    /// By key: what is to be said of a target that is up.
    pub remarks: BTreeMap<u64, Remark>,
    /// Found down by verdict, and not yet looked at by this node: it has no vote on these.
    pub unlooked: BTreeSet<u64>,
}

/// What a node remarks on a target beside whether it is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remark {
    /// Its certificate ends sooner than its job allows: when, ms since 1970.
    pub certificate_ends_ms: Option<i64>,
    /// Since when looks take longer than its job allows, ms since 1970.
    pub slow_since_ms: Option<i64>,
}

impl Ballot {
    /// For another node.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, u8::from(self.withheld)];
        let mut out = Writer(&mut bytes);
        out.number(self.down.len().min(MOST) as u64);
        for (key, cause) in self.down.iter().take(MOST) {
            out.fixed(*key);
            out.text(cause);
        }
        out.number(self.remarks.len().min(MOST) as u64);
        for (key, remark) in self.remarks.iter().take(MOST) {
            out.fixed(*key);
            out.signed(remark.certificate_ends_ms.unwrap_or(0));
            out.signed(remark.slow_since_ms.unwrap_or(0));
        }
        out.number(self.unlooked.len().min(MOST) as u64);
        self.unlooked.iter().take(MOST).for_each(|key| out.fixed(*key));
        bytes
    }

    /// As it was written.
    pub fn read(bytes: &[u8]) -> Result<Ballot, Malformed> {
        let mut from = Reader(bytes);
        let (version, withheld) = (from.byte()?, from.byte()? != 0);
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        let mut ballot = Ballot { withheld, ..Ballot::default() };
        for _ in 0..from.count(9)? {
            ballot.down.insert(from.fixed()?, from.text()?.to_owned());
        }
        for _ in 0..from.count(10)? {
            let (key, certificate, slow) = (from.fixed()?, from.signed()?, from.signed()?);
            let some = |at: i64| (at != 0).then_some(at);
            ballot.remarks.insert(key, Remark { certificate_ends_ms: some(certificate), slow_since_ms: some(slow) });
        }
        for _ in 0..from.count(8)? {
            ballot.unlooked.insert(from.fixed()?);
        }
        from.end()?;
        Ok(ballot)
    }
}

/// All ballots at one time.
#[derive(Clone, Debug, Default)]
pub struct Count {
    /// Nodes that there are.
    members: usize,
    /// Those that said something lately.
    living: usize,
    /// Of those that have a vote.
    votes: BTreeMap<u64, Ballot>,
}

/// A target that is down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Down {
    /// Why, as most nodes say.
    pub cause: String,
    /// Who says so.
    pub by: Vec<u64>,
}

impl Count {
    /// Of ballots and their ages, ms; those of nodes that are no members do not count.
    pub fn new(members: &[u64], ballots: impl IntoIterator<Item = (u64, u64, Ballot)>) -> Count {
        let mut count = Count { members: members.len(), ..Count::default() };
        let mut living = BTreeSet::new();
        for (node, _, ballot) in ballots.into_iter().filter(|(node, age, _)| *age <= GOOD_FOR && members.contains(node)) {
            living.insert(node);
            if !ballot.withheld {
                count.votes.insert(node, ballot);
            }
        }
        count.living = living.len();
        count
    }

    /// Nodes that must say that something is down, where `wanted` would be enough.
    fn enough(&self, wanted: usize) -> usize {
        let majority = self.members / 2 + 1;
        wanted.min(self.living.max(majority)).max(1)
    }

    /// Everything that any node finds down.
    pub fn complaints(&self) -> BTreeSet<u64> {
        self.votes.values().flat_map(|ballot| ballot.down.keys()).copied().collect()
    }

    /// What is to be said of a target where `wanted` nodes decide and it `was_down`; `None`: it is up.
    pub fn judge(&self, key: u64, wanted: usize, was_down: Option<&Down>) -> Option<Down> {
        let named = || self.votes.iter().filter_map(move |(node, ballot)| Some((*node, ballot.down.get(&key)?)));
        let by: Vec<u64> = named().map(|(node, _)| node).collect();
        let enough = self.enough(wanted);
        if by.len() >= enough {
            let mut causes: BTreeMap<&str, usize> = BTreeMap::new();
            named().for_each(|(_, cause)| *causes.entry(cause).or_default() += 1);
            let cause = causes.into_iter().max_by_key(|(cause, times)| (*times, std::cmp::Reverse(*cause)));
            return Some(Down { cause: cause.map_or_else(String::new, |(cause, _)| cause.to_owned()), by });
        }
        let votes = self.votes.values().filter(|ballot| ballot.down.contains_key(&key) || !ballot.unlooked.contains(&key)).count();
        // Whoever lives and says nothing of it may find it down.
        let silent = self.living.saturating_sub(votes);
        let is_up = self.living >= enough && by.len() + silent < enough;
        was_down.filter(|_| !is_up).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: u64 = 77;

    /// Of three nodes: `d` finds it down, `u` does not, `w` withholds its vote, `n` has not looked, `-` says nothing, `o` said it is down, too long ago.
    fn count(words: &str) -> Count {
        let members: Vec<u64> = (1..=words.len() as u64).collect();
        let ballots = words.chars().zip(1..).filter(|(word, _)| *word != '-').map(|(word, node)| {
            let down = if matches!(word, 'u' | 'n') { BTreeMap::new() } else { [(WEB, "refused".to_owned())].into() };
            let unlooked = if word == 'n' { [WEB].into() } else { BTreeSet::new() };
            (node, if word == 'o' { GOOD_FOR + 1 } else { 900 }, Ballot { withheld: word == 'w', down, unlooked, ..Ballot::default() })
        });
        Count::new(&members, ballots)
    }

    #[track_caller]
    fn check(words: &str, wanted: usize, was: bool, is: bool) {
        let before = was.then(Down::default);
        assert_eq!(count(words).judge(WEB, wanted, before.as_ref()).is_some(), is, "{words}, {wanted} wanted, was down: {was}");
    }

    #[test]
    fn enough_nodes_say_down() {
        for (words, wanted, is) in [
            ("ddu", 2, true),
            ("duu", 2, false),
            ("duu", 1, true),
            ("ddd", 3, true),
            ("ddu", 3, false),
            ("d", 2, true),
            // One of three is dead: the two that are left decide together.
            ("dd-", 3, true),
            ("du-", 2, false),
            // Two are dead: one alone says nothing (and could write nothing down).
            ("d--", 2, false),
            ("d-o", 2, false),
            // Nodes that doubt themselves neither vote nor make it easier for others.
            ("dww", 2, false),
            ("ddw", 2, true),
            ("www", 1, false),
        ] {
            check(words, wanted, false, is);
        }
    }

    #[test]
    fn it_is_up_again_when_nobody_who_could_complain_is_missing() {
        for (words, is) in [
            ("ddd", true),
            ("uuu", false),
            ("duu", false),
            ("uu-", false),
            // One that said "down" is silent, another still says so: no reason to think otherwise.
            ("dw-", true),
            ("duw", true),
            ("---", true),
            ("www", true),
            ("du-", false),
            // One alone knows too little, while two more may find it down.
            ("u--", true),
            ("uww", true),
            ("unn", true),
            ("dun", true),
            // Whatever the one that is silent found: it would be the only one.
            ("uuw", false),
            ("uun", false),
        ] {
            check(words, 2, true, is);
        }
    }

    #[test]
    fn a_node_that_is_cut_off_from_all_targets_brings_none_down() {
        let all: BTreeMap<u64, String> = (0..1000).map(|key| (key, "unreachable".to_owned())).collect();
        let cut_off = |node| (node, 100, Ballot { down: all.clone(), ..Ballot::default() });
        let well = |node| (node, 100, Ballot::default());
        let count = Count::new(&[1, 2, 3], [cut_off(1), well(2), well(3)]);
        assert_eq!(count.complaints().len(), 1000);
        assert!(count.complaints().into_iter().all(|key| count.judge(key, 2, None).is_none()));
        // Nor does it when it is cut off from the others, too, and knows their last word only.
        let alone = Count::new(&[1, 2, 3], [cut_off(1)]);
        assert!((0..1000).all(|key| alone.judge(key, 2, None).is_none()));
    }

    #[test]
    fn the_cause_that_most_name_is_the_cause() {
        let ballot = |node, cause: &str| (node, 0, Ballot { down: [(WEB, cause.to_owned())].into(), ..Ballot::default() });
        let count = Count::new(&[1, 2, 3], [ballot(1, "timeout"), ballot(2, "refused"), ballot(3, "timeout")]);
        let expected = Down { cause: "timeout".into(), by: vec![1, 2, 3] };
        assert_eq!(count.judge(WEB, 2, None), Some(expected));
    }

    /// Whatever votes come and go: it is never down on fewer voices than wanted, living or a majority, and one liar of three never decides.
    #[test]
    fn no_order_of_votes_lets_one_node_decide() {
        for seed in 0..2_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut state: Option<Down> = None;
            for _ in 0..40 {
                // Node 1 says what it likes; the others tell the truth (it is up), or nothing, or withhold.
                let words: String = (0..3)
                    .map(|node| {
                        if node == 0 { random.choice(['d', 'u', 'w', '-']) } else { random.choice(['u', 'u', 'w', '-']) }.unwrap_or('u')
                    })
                    .collect();
                state = count(&words).judge(WEB, 2, state.as_ref());
                assert_eq!(state, None, "seed {seed}: {words}");
            }
        }
    }

    #[test]
    fn ballots_are_read_as_written_and_nonsense_is_none() {
        let remark = Remark { certificate_ends_ms: Some(5), slow_since_ms: None };
        let down = [(7, "refused".to_owned()), (u64::MAX, String::new())].into();
        let ballot = Ballot { withheld: true, down, remarks: [(9, remark)].into(), unlooked: [4].into() };
        let bytes = ballot.encode();
        assert_eq!(Ballot::read(&bytes), Ok(ballot));
        for end in 0..bytes.len() {
            assert!(Ballot::read(&bytes[..end]).is_err());
        }
        assert!(Ballot::read(&[1, 0, 0, 0, 0]).is_err());
        for seed in crate::mutate::seeds(2_000) {
            let mut damaged = bytes.clone();
            crate::mutate::damage(&mut fastrand::Rng::with_seed(seed), &mut damaged);
            // Whatever another node sends: it is a ballot or it is none.
            let _ = Ballot::read(&damaged).map(|ballot| Count::new(&[1], [(1, 0, ballot)]).judge(7, 1, None));
        }
    }
}

//! Signatures with a time that were shown and taken, for as long as that time counts: what comes once more changes nothing.
//!
//! A repeat is answered as the first one was, and not refused, since one need not be an attack: what stands between (a proxy that asks another node, a client
//! whose connection broke before the answer) sends the same bytes again, and two replicas or contact points that tell the same within one second sign
//! alike. Grafana's own next try is signed anew. Bounded, and each node's own: what was forgotten, or shown to another node, says the same once more.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::PoisonError;

use xxhash_rust::xxh3::Xxh3;

/// Signatures that are remembered: forty a second for the longest time that one may count, some 800 KB.
const MOST: usize = 24_000;

/// One of them: the signed time, seconds since 1970, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(i64, u128);

impl Mark {
    /// Of a signature in hexadecimal digits that is right: nobody who lacks the secret makes two that come to one mark.
    pub fn of(source: &str, at: i64, signature: &str) -> Mark {
        let mut hash = Xxh3::new();
        hash.update(&(source.len() as u64).to_le_bytes());
        hash.update(source.as_bytes());
        hash.update(signature.trim().to_ascii_lowercase().as_bytes());
        Mark(at, hash.digest128())
    }
}

/// Those that were taken.
#[derive(Debug, Default)]
pub struct Signatures(Mutex<BTreeSet<Mark>>);

impl Signatures {
    /// Whether this one was taken here.
    pub fn knows(&self, mark: &Mark) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(mark)
    }

    /// It was taken. The oldest are forgotten where there are too many.
    pub fn take(&self, mark: Mark) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(mark);
        while all.len() > MOST {
            all.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_known_in_any_letters_by_source_and_the_oldest_are_forgotten() {
        let (all, first) = (Signatures::default(), Mark::of("grafana", 100, "0aFF"));
        all.take(first);
        assert!(all.knows(&Mark::of("grafana", 100, " 0Aff ")));
        for other in [Mark::of("grafana", 101, "0aff"), Mark::of("graf", 100, "0aff"), Mark::of("grafana", 100, "0afe")] {
            assert!(!all.knows(&other), "{other:?}");
        }
        (0..MOST).for_each(|at| all.take(Mark::of("grafana", 101 + at as i64, "00")));
        assert!(!all.knows(&first) && all.0.lock().unwrap().len() == MOST);
    }
}

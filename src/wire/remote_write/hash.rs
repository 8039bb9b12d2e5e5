//! The identity of a series: a 64-bit hash of its labels, the same whichever protocol carried them.
//!
//! A label's hash folds the xxh3-64 of its name and of its value; a series' hash is the finished sum of its labels' hashes. A sum needs no
//! order and no copy: in 2.0 each symbol is hashed once a request however many series use it, and a replica label is left out by not
//! adding it. Names are unique within a series (checked), so that a sum over the set is as good as a hash over the list. The cluster's seed
//! goes into every part; without knowing it nobody can aim at a collision.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Label;

/// Odd constants that keep name and value apart (2^64 divided by the golden ratio; xxh64's second prime).
const NAME: u64 = 0x9e37_79b9_7f4a_7c15;
const VALUE: u64 = 0xc2b2_ae3d_27d4_eb4f;

/// A name's or value's part.
pub(crate) fn part(seed: u64, text: &str) -> u64 {
    xxh3_64_with_seed(text.as_bytes(), seed)
}

/// A label's part, from those of its name and value.
#[inline(always)]
pub(crate) fn fold(name: u64, value: u64) -> u64 {
    let product = u128::from(name ^ NAME) * u128::from(value.rotate_left(32) ^ VALUE);
    (product >> 64) as u64 ^ product as u64
}

/// The sum's end: xxh3's avalanche, so that every bit depends on every label.
#[inline(always)]
pub(crate) fn finish(sum: u64) -> u64 {
    let mixed = (sum ^ (sum >> 37)).wrapping_mul(0x1656_6791_9e37_79f9);
    mixed ^ (mixed >> 32)
}

/// [`finish`] backwards: each of its steps can be undone.
#[inline(always)]
fn unfinish(hash: u64) -> u64 {
    /// 0x1656_6791_9e37_79f9 times this is 1.
    const UNDO: u64 = {
        let (odd, mut inverse, mut step) = (0x1656_6791_9e37_79f9_u64, 1_u64, 0);
        // Newton: each step doubles the bits that are right.
        while step < 7 {
            inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
            step += 1;
        }
        inverse
    };
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(UNDO);
    mixed ^ (mixed >> 37)
}

/// The hash that a series would have without some of its labels, whose parts have this sum: some nanoseconds, however many labels it has.
#[inline(always)]
pub fn without(series: u64, parts: u64) -> u64 {
    finish(unfinish(series).wrapping_sub(parts))
}

/// The hash of a series with these labels, but for those named in `leave_out`: the replica labels, which differ between copies.
///
/// The labels' own parts are used, as computed with the walker's seed.
pub fn series_hash(labels: &[Label<'_>], leave_out: &[&str]) -> u64 {
    let kept = labels.iter().filter(|label| !leave_out.contains(&label.name));
    finish(kept.fold(0, |sum, label| sum.wrapping_add(label.hash)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_can_be_taken_out_of_a_hash() {
        let labels =
            [("__name__", "up"), ("cluster", "c"), ("job", "node"), ("prometheus", "m/k")].map(|(name, value)| Label::new(9, name, value));
        let all = series_hash(&labels, &[]);
        assert_eq!(without(all, 0), all);
        assert_eq!(without(all, labels[1].hash.wrapping_add(labels[3].hash)), series_hash(&labels, &["cluster", "prometheus"]));
        assert_ne!(without(all, labels[1].hash), series_hash(&labels, &["prometheus"]));
    }
}

//! Which series a replica sends, by sample: the smallest hashes it has shown in a stretch of time.
//!
//! Two sketches tell how much of one set the other holds, whatever the sets' size, at a cost of one comparison for nearly every sample.

/// The smallest distinct hashes of a set, ascending: at most `KEPT`. 256 tell a share within about 3 percent, 64 within 6.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch<const KEPT: usize = 256> {
    smallest: Vec<u64>,
}

impl<const KEPT: usize> Sketch<KEPT> {
    /// The set has this one, too.
    #[inline]
    pub fn insert(&mut self, hash: u64) {
        if self.smallest.len() == KEPT && self.smallest.last().is_some_and(|&last| hash >= last) {
            return;
        }
        if let Err(place) = self.smallest.binary_search(&hash) {
            self.smallest.truncate(KEPT - 1);
            self.smallest.insert(place, hash);
        }
    }

    /// The hashes.
    pub fn hashes(&self) -> &[u64] {
        &self.smallest
    }

    /// The same, without the rest.
    pub fn into_hashes(self) -> Vec<u64> {
        self.smallest
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.smallest.len()
    }

    /// Whether nothing was inserted.
    pub fn is_empty(&self) -> bool {
        self.smallest.is_empty()
    }

    /// Percent of this set that the other has; `None` while this one is empty.
    pub fn share_in(&self, other: &Sketch<KEPT>) -> Option<u32> {
        // Above a full sketch's largest hash nothing is known of its set.
        let end = [self, other].iter().filter(|sketch| sketch.len() == KEPT).filter_map(|sketch| sketch.smallest.last()).min();
        let end = end.copied().unwrap_or(u64::MAX);
        let (mut mine, mut both) = (0_u32, 0_u32);
        for hash in self.smallest.iter().take_while(|&&hash| hash <= end) {
            mine += 1;
            both += u32::from(other.smallest.binary_search(hash).is_ok());
        }
        (both * 100).checked_div(mine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(range: std::ops::Range<u64>) -> Sketch {
        let mut sketch = Sketch::<256>::default();
        range.for_each(|n| sketch.insert(n.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31).wrapping_mul(0xBF58_476D_1CE4_E5B9)));
        sketch
    }

    #[test]
    fn shares_are_those_of_the_sets() {
        let near = |share: Option<u32>, right: u32| share.is_some_and(|share| share.abs_diff(right) <= 9);
        let (all, half, other) = (of(0..100_000), of(0..50_000), of(200_000..300_000));
        assert!(near(half.share_in(&all), 100), "{:?}", half.share_in(&all));
        assert!(near(all.share_in(&half), 50), "{:?}", all.share_in(&half));
        assert_eq!(all.share_in(&other), Some(0));
        assert_eq!(of(0..10).share_in(&of(5..10)), Some(50));
        assert_eq!(Sketch::<256>::default().share_in(&all), None);
    }
}

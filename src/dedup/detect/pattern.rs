//! How long a replica is usually silent between two advances of its data time, learned from itself.

/// Shortest and longest silence after which a replica may be called silent, ms. Two batch deadlines of Prometheus (5 s), and what one
/// target scraped each minute needs.
const SHORTEST: u64 = 10_000;
const LONGEST: u64 = 300_000;
/// While little is known, ms.
const UNKNOWN: u64 = 60_000;
/// Silences from which on the pattern is known, and well known.
const KNOWN: u32 = 8;
const WELL_KNOWN: u32 = 256;
/// When so many silences are counted all counts are halved: the pattern follows the last hours.
const MOST: u32 = 8192;
/// Unusual silences in a row that are a new pattern, not trouble.
const NEW_PATTERN: u32 = 4;
/// Four a doubling, up to 2^24 ms.
const BUCKETS: usize = 96;

/// A histogram of silences.
#[derive(Clone, Debug)]
pub struct Pattern {
    counts: [u32; BUCKETS],
    total: u32,
    unusual: u32,
}

impl Default for Pattern {
    fn default() -> Self {
        Pattern { counts: [0; BUCKETS], total: 0, unusual: 0 }
    }
}

impl Pattern {
    /// A silence ended. One longer than the limit is trouble and teaches nothing, unless there are several in a row.
    pub fn learn(&mut self, silence: u64) {
        if self.total >= KNOWN && silence > self.limit() {
            self.unusual += 1;
            if self.unusual < NEW_PATTERN {
                return;
            }
        } else {
            self.unusual = 0;
        }
        self.counts[bucket(silence)] += 1;
        self.total += 1;
        if self.total > MOST {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
    }

    /// The silence that 999 of 1000 do not exceed, ms, rounded up by at most a quarter; 0: none is known.
    pub fn usual(&self) -> u64 {
        let enough = self.total - self.total / 1000;
        let mut below = 0;
        for (number, count) in self.counts.iter().enumerate() {
            below += count;
            if *count > 0 && below >= enough {
                return end_of(number);
            }
        }
        0
    }

    /// How long a silence may last, ms: two and a half times the usual one, four times while that is not well known.
    pub fn limit(&self) -> u64 {
        match self.total {
            0..KNOWN => UNKNOWN,
            KNOWN..WELL_KNOWN => (self.usual() * 4).clamp(SHORTEST, LONGEST),
            _ => (self.usual() * 5 / 2).clamp(SHORTEST, LONGEST),
        }
    }
}

fn bucket(silence: u64) -> usize {
    let silence = silence.clamp(4, (1 << 24) - 1);
    let power = silence.ilog2();
    (power as usize) * 4 + (silence >> (power - 2) & 3) as usize
}

/// The largest silence of a bucket.
fn end_of(number: usize) -> u64 {
    let (power, quarter) = (number as u32 / 4, number as u64 % 4);
    ((5 + quarter) << power >> 2) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_they_say() {
        for silence in [4, 5, 7, 8, 999, 5000, 15_000, 60_000, 299_999] {
            let number = bucket(silence);
            assert!(end_of(number) >= silence && end_of(number) <= silence * 5 / 4, "{silence}");
            assert!(end_of(number - 1) < silence || number == 8, "{silence}");
        }
    }

    #[test]
    fn the_limit_follows_the_pattern_and_not_the_trouble() {
        let mut pattern = Pattern::default();
        assert_eq!(pattern.limit(), 60_000);
        (0..2000).for_each(|_| pattern.learn(5000));
        let limit = pattern.limit();
        assert!((12_000..16_000).contains(&limit), "{limit}");
        (0..3).for_each(|_| pattern.learn(200_000));
        assert_eq!(pattern.limit(), limit, "trouble teaches nothing");
        (0..200).for_each(|_| pattern.learn(60_000));
        assert!(pattern.limit() > 120_000, "a new pattern is learned: {}", pattern.limit());
    }
}

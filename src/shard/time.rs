//! The time that stands in entries (`at`): a fact once written, and never going back.
//!
//! It grows by the shard leader's monotonic clock and leans towards its wall clock: while behind by less than [`STEP`] it runs a tenth
//! faster, while ahead a tenth slower. Further behind, it steps at once: after an outage of the whole cluster, or of the machine's sleep, it
//! must not lag for hours, since samples ahead of it are not believed; stepping forward only makes due what waits.

/// Behind the wall clock by more than this, ms, it steps.
pub const STEP: i64 = 2_000;
/// The share of passed time by which it is faster or slower: one tenth.
const LEAN: i64 = 10;

/// The source of `at` while this member leads. All times in ms.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShardTime {
    at: i64,
    mono: i64,
    /// What was left over when a tenth of the passed time was taken.
    rest: i64,
}

impl ShardTime {
    /// An entry was applied: what comes after cannot be older.
    pub fn saw(&mut self, at: i64) {
        self.at = self.at.max(at);
    }

    /// The time for an entry that is proposed now. `mono` never goes back; `wall` is ms since 1970.
    pub fn stamp(&mut self, mono: i64, wall: i64) -> i64 {
        let passed = (mono - self.mono).max(0);
        self.mono = mono;
        if wall - self.at > STEP + passed {
            self.at = wall;
            return self.at;
        }
        let lean = (passed + self.rest) / LEAN;
        self.rest = (passed + self.rest) % LEAN;
        let straight = self.at + passed;
        self.at = if straight < wall { (straight + lean).min(wall) } else { (straight - lean).max(wall).max(self.at) };
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_goes_back_and_comes_to_the_wall_clock() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..200 {
            let (mut time, mut mono, mut offset, mut last) = (ShardTime::default(), 0, 1_790_000_000_000_i64, 0);
            for _ in 0..500 {
                mono += random.i64(0..400);
                if random.u8(..) == 0 {
                    offset += random.i64(-5_000..5_000);
                }
                if random.u8(..) == 0 {
                    time.saw(last + random.i64(0..3_000));
                }
                let at = time.stamp(mono, mono + offset);
                assert!(at >= last);
                last = at;
            }
            for _ in 0..4_000 {
                mono += 100;
                last = time.stamp(mono, mono + offset);
            }
            assert_eq!(last, mono + offset);
        }
    }

    #[test]
    fn after_an_outage_it_steps_and_behind_a_little_it_leans() {
        let mut time = ShardTime::default();
        time.saw(1_000_000);
        assert_eq!(time.stamp(50, 9_000_000), 9_000_000);
        assert_eq!(time.stamp(150, 9_001_100), 9_000_110);
        assert_eq!(time.stamp(250, 9_000_000), 9_000_200); // ahead: a tenth slower
    }
}

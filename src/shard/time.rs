//! The time that stands in entries (`at`): a fact once written, and never going back.
//!
//! It grows by the shard leader's monotonic clock and leans towards its wall clock: while behind by less than [`STEP`] it runs a tenth
//! faster, while ahead a tenth slower. Further behind, it steps at once: after an outage of the whole cluster, or of the machine's sleep, it
//! must not lag for hours, since samples ahead of it are not believed; stepping forward only makes due what waits.

/// Behind the wall clock by more than this, ms, it steps.
pub const STEP: i64 = 2_000;
/// The share of passed time by which it is faster or slower: one tenth.
const LEAN: i64 = 10;

/// The source of `at`. All times in ms.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShardTime {
    at: i64,
    mono: i64,
    /// What was left over when a tenth of the passed time was taken.
    rest: i64,
    /// The newest time in an entry, and whether it has come since time last passed here.
    seen: i64,
    fresh: bool,
}

impl ShardTime {
    /// An entry was applied: what comes after cannot be older.
    pub fn saw(&mut self, at: i64) {
        self.fresh |= at > self.seen;
        self.seen = self.seen.max(at);
        self.at = self.at.max(at);
    }

    /// While another member leads: time passes here from what it wrote last, whatever this node's wall clock says, so that a change of leader
    /// is no jump.
    pub fn follow(&mut self, mono: i64) -> i64 {
        let passed = self.pass(mono);
        self.at = if std::mem::take(&mut self.fresh) { self.seen } else { self.at + passed };
        self.at
    }

    /// The time for an entry that is proposed now, by the member that leads. `mono` never goes back; `wall` is ms since 1970, or nothing where that clock
    /// is known to be wrong: then time only passes, so that whoever leads for a moment with such a clock moves nothing.
    pub fn stamp(&mut self, mono: i64, wall: Option<i64>) -> i64 {
        let passed = self.pass(mono);
        let wall = wall.unwrap_or(self.at + passed);
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

    fn pass(&mut self, mono: i64) -> i64 {
        let passed = (mono - self.mono).max(0);
        self.mono = mono;
        passed
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
                let at = time.stamp(mono, Some(mono + offset));
                assert!(at >= last);
                last = at;
            }
            for _ in 0..4_000 {
                mono += 100;
                last = time.stamp(mono, Some(mono + offset));
            }
            assert_eq!(last, mono + offset);
        }
    }

    #[test]
    fn after_an_outage_it_steps_and_behind_a_little_it_leans() {
        let mut time = ShardTime::default();
        time.saw(1_000_000);
        assert_eq!(time.stamp(50, Some(9_000_000)), 9_000_000);
        assert_eq!(time.stamp(150, Some(9_001_100)), 9_000_110);
        assert_eq!(time.stamp(250, Some(9_000_000)), 9_000_200); // ahead: a tenth slower
    }

    #[test]
    fn a_followers_wall_clock_moves_nothing_and_a_wrong_one_does_not_when_it_leads() {
        let mut time = ShardTime::default();
        time.saw(1_000_000);
        assert_eq!(time.follow(100), 1_000_000);
        assert_eq!(time.follow(300), 1_000_200, "nothing is written, time passes all the same");
        time.saw(1_000_150);
        assert_eq!(time.follow(400), 1_000_150, "what is written counts");
        assert_eq!(time.stamp(500, None), 1_000_250, "whatever its clock says");
        // A clock that is believed is leant towards, or stepped to.
        assert_eq!(time.stamp(600, Some(1_001_000)), 1_000_360);
        assert_eq!(time.stamp(700, Some(1_009_000)), 1_009_000);
    }
}

//! How often a target may be sent to: fewer times a minute than it takes, and not at all after it said that it is too much.
//!
//! Kept by this process alone: where another node leads, it begins anew, so numbers stay below the published ones.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

/// Over which it is counted.
const MINUTE: Duration = Duration::from_secs(60);
/// Targets that are remembered; beyond it those that were sent to longest ago are forgotten.
const TARGETS: usize = 4096;

/// When what was sent where.
#[derive(Debug, Default)]
pub struct Rates(Mutex<BTreeMap<String, Target>>);

#[derive(Debug, Default)]
struct Target {
    sent: VecDeque<Instant>,
    not_before: Option<Instant>,
}

impl Rates {
    /// Takes one of a target's turns, or says how long it is until there is one. `spacing` is the least time between two.
    pub fn turn(&self, target: &str, per_minute: usize, spacing: Duration, now: Instant) -> Result<(), Duration> {
        let mut targets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if targets.len() >= TARGETS && !targets.contains_key(target) {
            targets.retain(|_, target| {
                target.not_before.is_some_and(|when| when > now)
                    || target.sent.back().is_some_and(|last| now.saturating_duration_since(*last) < MINUTE)
            });
        }
        let target = targets.entry(target.to_owned()).or_default();
        while target.sent.front().is_some_and(|first| now.saturating_duration_since(*first) >= MINUTE) {
            target.sent.pop_front();
        }
        let wait = |until: Instant| until.checked_duration_since(now).filter(|wait| !wait.is_zero());
        let blocked = target.not_before.and_then(wait);
        let close = target.sent.back().and_then(|last| wait(*last + spacing));
        let full = if per_minute > 0 && target.sent.len() >= per_minute {
            target.sent.front().and_then(|first| wait(*first + MINUTE))
        } else {
            None
        };
        match [blocked, close, full].into_iter().flatten().max() {
            Some(wait) => Err(wait),
            None => {
                if per_minute > 0 || !spacing.is_zero() {
                    target.sent.push_back(now);
                }
                Ok(())
            }
        }
    }

    /// The target said that it is not to be sent to for so long.
    pub fn later(&self, target: &str, wait: Duration, now: Instant) {
        let mut targets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let target = targets.entry(target.to_owned()).or_default();
        target.not_before = target.not_before.max(Some(now + wait));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn no_more_than_a_minutes_number_and_the_target_is_obeyed() {
        let (rates, start) = (Rates::default(), clock::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in 0..3 {
            assert_eq!(rates.turn("a", 3, Duration::ZERO, at(second)), Ok(()));
        }
        assert_eq!(rates.turn("a", 3, Duration::ZERO, at(10)), Err(Duration::from_secs(50)));
        assert_eq!(rates.turn("b", 3, Duration::ZERO, at(10)), Ok(()), "each by itself");
        assert_eq!(rates.turn("a", 3, Duration::ZERO, at(60)), Ok(()));
        assert_eq!(rates.turn("a", 3, Duration::ZERO, at(60)), Err(Duration::from_secs(1)));
        rates.later("b", Duration::from_secs(600), at(10));
        assert_eq!(rates.turn("b", 3, Duration::ZERO, at(100)), Err(Duration::from_secs(510)));
        assert_eq!(rates.turn("c", 0, Duration::from_secs(1), at(0)), Ok(()));
        assert_eq!(rates.turn("c", 0, Duration::from_secs(1), at(0)), Err(Duration::from_secs(1)));
    }
}

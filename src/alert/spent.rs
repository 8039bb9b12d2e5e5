//! When receivers with windows (`alerting.throttle`) were told anything: kept in the book, so that whoever leads next counts on from there.
//!
//! Only times are kept, of so many messages as a window may have at most, since apply knows no configuration: what windows there are says whoever asks.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::alert::told::Whom;
use crate::config::telling::MOST_MESSAGES;

/// A window is a day at most, ms.
const LONGEST: i64 = 86_400_000;
/// Targets that are remembered; beyond it those that were told longest ago are forgotten.
const TARGETS: usize = 4_096;

/// An integration of a receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The receiver.
    pub receiver: Arc<str>,
    /// Which of its integrations.
    pub integration: u32,
}

/// When each was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spent(BTreeMap<Target, Times>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Times {
    /// Of the last message, whose groups count once; 0: it had one.
    bundle: u64,
    /// The oldest first, ms since 1970.
    at: VecDeque<i64>,
}

impl Target {
    /// Whose log it is.
    pub fn of(whom: &Whom) -> Target {
        Target { receiver: Arc::clone(&whom.receiver), integration: whom.integration }
    }
}

impl Spent {
    /// A message is on its way.
    pub(super) fn add(&mut self, whom: &Whom, bundle: u64, at: i64) {
        let target = Target::of(whom);
        if self.0.len() >= TARGETS && !self.0.contains_key(&target) {
            let oldest = self.0.iter().min_by_key(|(_, times)| times.at.back().copied()).map(|(target, _)| target.clone());
            oldest.and_then(|oldest| self.0.remove(&oldest));
        }
        let times = self.0.entry(target).or_default();
        let counted = bundle != 0 && times.bundle == bundle;
        times.bundle = bundle;
        if counted {
            return;
        }
        times.at.push_back(at);
        while times.at.len() as u64 > MOST_MESSAGES || times.at.front().is_some_and(|first| at - first > LONGEST) {
            times.at.pop_front();
        }
    }

    /// How many messages a target may be told now, and where that is none, when it may be told one.
    pub fn room(&self, target: &Target, windows: &[(usize, i64)], now: i64) -> Result<usize, i64> {
        let none = VecDeque::new();
        let times = self.0.get(target).map_or(&none, |times| &times.at);
        let (mut room, mut opens) = (usize::MAX, i64::MIN);
        for (messages, per) in windows {
            let within = times.iter().rev().take_while(|at| **at > now - per).count();
            room = room.min(messages.saturating_sub(within));
            if within >= *messages
                && let Some(at) = times.len().checked_sub(*messages).and_then(|place| times.get(place))
            {
                opens = opens.max(at + per);
            }
        }
        if room > 0 { Ok(room) } else { Err(opens) }
    }

    /// All of it: target, the last message's bundle, times.
    pub fn all(&self) -> impl Iterator<Item = (&Target, u64, &VecDeque<i64>)> {
        self.0.iter().map(|(target, times)| (target, times.bundle, &times.at))
    }

    /// Puts back what was written.
    pub fn restore(&mut self, target: Target, bundle: u64, at: VecDeque<i64>) {
        self.0.insert(target, Times { bundle, at });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_windows_hold_and_groups_of_one_message_count_once() {
        let whom = Whom { receiver: "chat".into(), ..Whom::default() };
        let (mut spent, target) = (Spent::default(), Target::of(&whom));
        let windows = [(2, 60_000), (4, 3_600_000)];
        assert_eq!(spent.room(&target, &windows, 0), Ok(2));
        spent.add(&whom, 0, 0);
        (0..3).for_each(|_| spent.add(&whom, 7, 10_000));
        assert_eq!(spent.room(&target, &windows, 20_000), Err(60_000), "the first falls out of the minute");
        assert_eq!(spent.room(&target, &windows, 60_000), Ok(1));
        spent.add(&whom, 0, 60_000);
        spent.add(&whom, 0, 70_000);
        assert_eq!(spent.room(&target, &windows, 200_000), Err(3_600_000), "four within the hour");
        assert_eq!(spent.room(&target, &[], 200_000), Ok(usize::MAX));
        // Only what a window may hold is kept.
        (0..1_000).for_each(|at| spent.add(&whom, 0, 300_000 + at));
        assert_eq!(spent.all().map(|(_, _, times)| times.len()).collect::<Vec<_>>(), [600]);
        spent.add(&whom, 0, 300_000 + 2 * LONGEST);
        assert_eq!(spent.all().map(|(_, _, times)| times.len()).collect::<Vec<_>>(), [1]);
    }
}

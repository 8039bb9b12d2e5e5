//! What is learned of episodes: of each alert's name, how many ended by themselves, and within what time. So it can be known that most of them are over before
//! anybody could have looked (`policy::Transient`).
//!
//! A histogram with edges that never change, counted as episodes are closed, in whole numbers: every node comes to the same. It is learned whatever the
//! policies say, so that one that is switched on knows already. Left out on purpose: who waits because of it (`noted`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::alert::policy::Transient;

/// Upper edges of the histogram, seconds.
pub const EDGES_S: [u16; 16] = [5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600, 900, 1200, 1800, 3600];
/// Names of which something is known; of more, that one is forgotten of which nothing was heard for the longest time.
const MOST_NAMES: usize = 2_000;
/// From so many episodes on all counts are halved: what happened lately counts more. Twice as many as a policy may demand.
const FULL: u64 = 1_000;

/// What is known of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lesson {
    /// Episodes that ended by themselves, by the first edge that they did not exceed.
    pub short: [u32; EDGES_S.len()],
    /// Others: longer ones, those of which somebody took care, those that nobody confirmed any more.
    pub others: u32,
    /// When the last one was closed.
    pub last: i64,
}

/// What is known of all names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lessons {
    by_name: Arc<BTreeMap<Arc<str>, Lesson>>,
}

impl Lesson {
    /// Episodes that were counted.
    pub fn total(&self) -> u64 {
        self.short.iter().chain([&self.others]).map(|count| u64::from(*count)).sum()
    }

    /// Those that ended by themselves within so many ms.
    pub fn within(&self, ms: i64) -> u64 {
        let counted = EDGES_S.iter().zip(&self.short).filter(|(edge, _)| i64::from(**edge) * 1000 <= ms);
        counted.map(|(_, count)| u64::from(*count)).sum()
    }

    /// How long to wait whether such an alert ends by itself, ms; `None`: most do not, or too little is known.
    pub fn delay(&self, policy: &Transient) -> Option<i64> {
        let (total, short) = (self.total(), self.within(policy.within));
        if short == 0 || total < policy.least || short * 100 < total * u64::from(policy.share) {
            return None;
        }
        let mut counted = 0;
        let enough = EDGES_S.iter().zip(&self.short).find(|(_, count)| {
            counted += u64::from(**count);
            counted * 100 >= short * u64::from(policy.percentile)
        });
        enough.map(|(edge, _)| (i64::from(*edge) * 1000).min(policy.most))
    }

    fn count(&mut self, lasted: Option<i64>, at: i64) {
        let bucket = lasted.and_then(|ms| EDGES_S.iter().position(|edge| ms <= i64::from(*edge) * 1000));
        match bucket.and_then(|bucket| self.short.get_mut(bucket)) {
            Some(count) => *count = count.saturating_add(1),
            None => self.others = self.others.saturating_add(1),
        }
        if self.total() >= FULL {
            self.short.iter_mut().for_each(|count| *count /= 2);
            self.others /= 2;
        }
        self.last = at;
    }
}

impl Lessons {
    /// By name.
    pub fn all(&self) -> &BTreeMap<Arc<str>, Lesson> {
        &self.by_name
    }

    /// Of a name.
    pub fn of(&self, name: &str) -> Option<&Lesson> {
        self.by_name.get(name)
    }

    /// An episode was closed; `lasted`: it ended by itself after so many ms.
    pub fn learn(&mut self, name: &str, lasted: Option<i64>, at: i64) {
        let all = Arc::make_mut(&mut self.by_name);
        if let Some(known) = all.get_mut(name) {
            return known.count(lasted, at);
        }
        if all.len() >= MOST_NAMES
            && let Some(oldest) = all.iter().min_by_key(|(_, lesson)| lesson.last).map(|(name, _)| Arc::clone(name))
        {
            all.remove(&oldest);
        }
        let mut lesson = Lesson::default();
        lesson.count(lasted, at);
        all.insert(Arc::from(name), lesson);
    }

    /// Puts back what was written.
    pub fn restore(&mut self, name: Arc<str>, lesson: Lesson) {
        Arc::make_mut(&mut self.by_name).insert(name, lesson);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Transient = Transient { within: 120_000, share: 80, least: 20, percentile: 90, most: 300_000 };

    #[test]
    fn what_mostly_ends_by_itself_waits_for_as_long_as_most_take() {
        let mut lessons = Lessons::default();
        for number in 0..19 {
            lessons.learn("A", Some(20_000 + number % 2 * 20_000), number);
        }
        assert_eq!(lessons.of("A").unwrap().delay(&POLICY), None, "too little is known");
        lessons.learn("A", None, 19);
        assert_eq!(lessons.of("A").unwrap().delay(&POLICY), Some(45_000));
        assert_eq!(lessons.of("A").unwrap().delay(&Transient { percentile: 50, ..POLICY }), Some(20_000));
        assert_eq!(lessons.of("A").unwrap().delay(&Transient { most: 30_000, ..POLICY }), Some(30_000));
        for number in 20..24 {
            lessons.learn("A", Some(3_000_000), number);
        }
        assert_eq!(lessons.of("A").unwrap().delay(&POLICY), None, "19 of 24 are fewer than four of five");
    }

    #[test]
    fn what_happened_lately_counts_more_and_names_do_not_grow_without_end() {
        let mut lessons = Lessons::default();
        (0..2_000).for_each(|at| lessons.learn("A", Some(1_000), at));
        (2_000..4_500).for_each(|at| lessons.learn("A", None, at));
        let known = lessons.of("A").unwrap();
        assert!(known.total() < FULL && known.within(5_000) * 5 < known.total(), "{known:?}");
        (0..MOST_NAMES as i64).for_each(|at| lessons.learn(&format!("n{at}"), None, 10_000 + at));
        assert!(lessons.all().len() == MOST_NAMES && lessons.of("A").is_none() && lessons.of("n0").is_some());
    }
}

//! The replicas of a group: at most eight names, what each has shown, and how far ahead a time may be to be believed.

use super::rows::NEVER;

/// Names a group may have. A ninth is refused, loudly: more than that is a name that changes, not a copy.
pub const REPLICAS: usize = 8;
/// Further ahead of `at` and of the other replicas than this, a time is not believed, ms.
pub(super) const AHEAD: i64 = 10_000;
/// A replica silent for this long is forgotten by an entry, ms.
pub const SILENT: i64 = 3_600_000;
/// An arrival lag above this counts as this, ms: no wait is longer for it.
const MOST_LAG: i64 = 30_000;

/// What is known of one replica. Times in ms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// As its label says.
    pub name: String,
    /// Usual arrival lag: rises at once, sinks slowly.
    pub lag: i64,
    /// `at` of its last entry.
    pub last_seen: i64,
    /// Items received of it.
    pub received: u64,
    /// Of these, forwarded.
    pub emitted: u64,
    /// Of these, forwarded while another replica led.
    pub filled: u64,
    /// Of these, dropped since another's copy was forwarded.
    pub covered: u64,
    pub(super) newest: i64,
}

impl Replica {
    /// The newest time it sent, if it sent any.
    pub fn newest(&self) -> Option<i64> {
        (self.newest != NEVER).then_some(self.newest)
    }

    /// Its entry at `now` held times not ahead of `now`, the oldest `oldest`.
    pub(super) fn lagged(&mut self, now: i64, oldest: i64) {
        let new = (now - oldest).min(MOST_LAG);
        self.lag = if new > self.lag { new } else { self.lag - (self.lag - new) / 64 };
    }
}

/// The replicas by number. A number stays a name's until the name is forgotten.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    pub all: [Option<Replica>; REPLICAS],
}

impl Replicas {
    pub fn find(&self, name: &str) -> Option<u8> {
        let same = |known: &Option<Replica>| known.as_ref().is_some_and(|replica| replica.name == name);
        self.all.iter().position(same).map(|number| number as u8)
    }

    pub fn join(&mut self, name: &str, now: i64) -> Option<u8> {
        let number = self.all.iter().position(Option::is_none)?;
        self.all[number] =
            Some(Replica { name: name.to_owned(), lag: 0, last_seen: now, received: 0, emitted: 0, filled: 0, covered: 0, newest: NEVER });
        Some(number as u8)
    }

    pub fn get(&self, number: u8) -> Option<&Replica> {
        self.all.get(usize::from(number))?.as_ref()
    }

    pub fn get_mut(&mut self, number: u8) -> Option<&mut Replica> {
        self.all.get_mut(usize::from(number))?.as_mut()
    }

    pub fn name(&self, number: u8) -> &str {
        self.get(number).map_or("", |replica| &replica.name)
    }

    pub fn lag(&self, number: u8) -> i64 {
        self.get(number).map_or(0, |replica| replica.lag)
    }

    /// The latest time that is believed of this replica at `now`; of samples of no replica with `NOBODY`.
    pub fn believed(&self, number: u8, now: i64) -> i64 {
        let others = self.all.iter().enumerate().filter(|&(other, _)| other != usize::from(number));
        let shown = others.filter_map(|(_, replica)| replica.as_ref()).map(|replica| replica.newest);
        shown.fold(now, i64::max) + AHEAD
    }
}

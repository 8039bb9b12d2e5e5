//! A silence: conditions, a time, and who wanted it.
//!
//! Only the words. How silences are kept, changed and forgotten is the control shard's; how they are written in JSON is `api`'s.

use crate::alert::matcher::Matcher;
use crate::model::labels::Labels;

/// No alert that fits is told while it lasts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Silence {
    /// A UUID in lower case; empty: none was given yet.
    pub id: String,
    /// All must hold; as they were written, in this order.
    pub matchers: Vec<Matcher>,
    /// From when on, ms since 1970.
    pub starts: i64,
    /// Until when.
    pub ends: i64,
    /// When it was last changed.
    pub updated: i64,
    /// Who wanted it.
    pub by: String,
    /// Why.
    pub comment: String,
    /// For programs.
    pub annotations: Labels,
}

/// What a silence does at a time. In the order in which they are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It holds.
    Active,
    /// It will.
    Pending,
    /// It did.
    Expired,
}

impl Phase {
    /// As Alertmanager writes it.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Active => "active",
            Phase::Pending => "pending",
            Phase::Expired => "expired",
        }
    }
}

impl Silence {
    /// What it does at this time, ms since 1970.
    pub fn phase(&self, now: i64) -> Phase {
        match now {
            now if now >= self.ends => Phase::Expired,
            now if now < self.starts => Phase::Pending,
            _ => Phase::Active,
        }
    }

    /// Whether an alert with these labels fits, whatever the time.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matchers.iter().all(|matcher| matcher.matches(labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_from_its_start_until_before_its_end() {
        let silence = Silence { starts: 10, ends: 20, ..Silence::default() };
        let phases = [9, 10, 19, 20].map(|now| silence.phase(now).word());
        assert_eq!(phases, ["pending", "active", "active", "expired"]);
    }
}

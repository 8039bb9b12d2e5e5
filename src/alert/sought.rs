//! Which of many sets of matchers may fit an alert, without trying all: most of them ask for one value of one label.
//!
//! For silences and rules of inhibition, of which there may be thousands, and 100,000 alerts. It only narrows: who asks still matches. A set goes where its
//! first matcher that asks for one value (not the empty one) leads, or among the rest.

use std::collections::BTreeMap;

use crate::alert::matcher::Matcher;
use crate::alert::matcher::Op;
use crate::model::labels::Labels;

/// Keys of sets of matchers.
#[derive(Clone, Debug)]
pub struct Sought<K> {
    by_pair: BTreeMap<String, BTreeMap<String, Vec<K>>>,
    rest: Vec<K>,
}

impl<K> Default for Sought<K> {
    fn default() -> Sought<K> {
        Sought { by_pair: BTreeMap::new(), rest: Vec::new() }
    }
}

impl<K: Clone + PartialEq> Sought<K> {
    fn place<'m>(&mut self, matchers: impl IntoIterator<Item = &'m Matcher>) -> &mut Vec<K> {
        let one = matchers.into_iter().find(|matcher| matcher.op == Op::Equal && !matcher.value.is_empty());
        match one {
            Some(one) => self.by_pair.entry(one.name.clone()).or_default().entry(one.value.clone()).or_default(),
            None => &mut self.rest,
        }
    }

    /// Adds a set.
    pub fn add<'m>(&mut self, matchers: impl IntoIterator<Item = &'m Matcher>, key: K) {
        self.place(matchers).push(key);
    }

    /// Takes one out.
    pub fn remove<'m>(&mut self, matchers: impl IntoIterator<Item = &'m Matcher>, key: &K) {
        self.place(matchers).retain(|known| known != key);
    }

    /// Those that may fit.
    pub fn of<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = &'a K> {
        let some = (!self.by_pair.is_empty()).then_some(labels);
        let pairs = some.into_iter().flatten().filter_map(|(name, value)| self.by_pair.get(name)?.get(value));
        pairs.flatten().chain(&self.rest)
    }
}

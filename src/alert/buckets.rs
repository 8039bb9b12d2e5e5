//! A map that many may hold as it was while one goes on changing it: what is shared is copied a bucket at a time, and two of them are compared
//! by what they share.
//!
//! For the state of alerts, of which each applied entry makes another one and 100,000 alerts must not be copied for it. Keys are hashes, so that their
//! lowest bits spread. Left out on purpose: what is kept.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::iter::repeat_n;
use std::sync::Arc;

/// So many that a bucket of 100,000 things has some twenty-five.
const BUCKETS: usize = SHELF * SHELF;
/// Buckets stand on shelves, as many as there are shelves: a change copies pointers of one shelf and to all shelves, not those to all buckets, which would be
/// thousands of counters to raise and to lower for each entry.
const SHELF: usize = 64;

type Bucket<V> = BTreeMap<u64, Arc<V>>;
type Shelf<V> = Vec<Arc<Bucket<V>>>;

/// Things by hash.
#[derive(Debug, PartialEq, Eq)]
pub struct Buckets<V> {
    /// Behind a pointer, so that an entry that changes nothing here copies nothing, and nothing need be looked for.
    shelves: Arc<Vec<Arc<Shelf<V>>>>,
    len: usize,
}

impl<V> Default for Buckets<V> {
    fn default() -> Buckets<V> {
        // One empty bucket, and one shelf of it, stand for all, until something is put there.
        let shelf: Arc<Shelf<V>> = Arc::new(repeat_n(Arc::default(), SHELF).collect());
        Buckets { shelves: Arc::new(repeat_n(shelf, SHELF).collect()), len: 0 }
    }
}

impl<V> Clone for Buckets<V> {
    fn clone(&self) -> Buckets<V> {
        Buckets { shelves: Arc::clone(&self.shelves), len: self.len }
    }
}

/// Which shelf, and where on it.
fn place(key: u64) -> (usize, usize) {
    let bucket = (key % BUCKETS as u64) as usize;
    (bucket / SHELF, bucket % SHELF)
}

impl<V> Buckets<V> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One of them.
    pub fn get(&self, key: u64) -> Option<&Arc<V>> {
        let (shelf, bucket) = place(key);
        self.shelves.get(shelf)?.get(bucket)?.get(&key)
    }

    /// The bucket of a key, for this one alone.
    fn bucket(&mut self, key: u64) -> Option<&mut Bucket<V>> {
        let (shelf, bucket) = place(key);
        let shelf = Arc::make_mut(Arc::make_mut(&mut self.shelves).get_mut(shelf)?);
        shelf.get_mut(bucket).map(Arc::make_mut)
    }

    /// Puts one in the place of what was there.
    pub fn set(&mut self, key: u64, value: V) -> Option<Arc<V>> {
        let before = self.bucket(key).and_then(|bucket| bucket.insert(key, Arc::new(value)));
        self.len += usize::from(before.is_none());
        before
    }

    /// Takes one out.
    pub fn remove(&mut self, key: u64) -> Option<Arc<V>> {
        self.get(key)?;
        let gone = self.bucket(key)?.remove(&key);
        self.len -= usize::from(gone.is_some());
        gone
    }

    /// All of them, always in the same order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Arc<V>)> {
        self.shelves.iter().flat_map(|shelf| shelf.iter()).flat_map(|bucket| bucket.iter().map(|(key, value)| (*key, value)))
    }

    /// What is different from `before`: key, what was, and what is. Work for what changed and its neighbours, not for all.
    pub fn changes<'a>(&'a self, before: &'a Buckets<V>) -> Vec<Change<'a, V>> {
        let mut found = Vec::new();
        if Arc::ptr_eq(&self.shelves, &before.shelves) {
            return found;
        }
        let shelves = self.shelves.iter().zip(before.shelves.iter()).filter(|(new, old)| !Arc::ptr_eq(new, old));
        for (new, old) in shelves.flat_map(|(new, old)| new.iter().zip(old.iter())) {
            if !Arc::ptr_eq(new, old) {
                both(old.iter().peekable(), new.iter().peekable(), &mut found);
            }
        }
        found
    }
}

/// What happened to one: key, what was, and what is.
pub type Change<'a, V> = (u64, Option<&'a Arc<V>>, Option<&'a Arc<V>>);

type Walk<'a, V> = std::iter::Peekable<btree_map::Iter<'a, u64, Arc<V>>>;

fn both<'a, V>(mut old: Walk<'a, V>, mut new: Walk<'a, V>, found: &mut Vec<Change<'a, V>>) {
    loop {
        let (before, after) = (old.peek().map(|(key, _)| **key), new.peek().map(|(key, _)| **key));
        let Some(key) = before.into_iter().chain(after).min() else { return };
        let was = if before == Some(key) { old.next().map(|(_, value)| value) } else { None };
        let is = if after == Some(key) { new.next().map(|(_, value)| value) } else { None };
        if !matches!((was, is), (Some(was), Some(is)) if Arc::ptr_eq(was, is)) {
            found.push((key, was, is));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_found_and_what_was_held_stays() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut now, mut plain) = (Buckets::default(), BTreeMap::new());
        for _ in 0..200 {
            let (before, plain_before) = (now.clone(), plain.clone());
            for _ in 0..random.usize(0..30) {
                let (key, value) = (random.u64(0..500), random.u8(..));
                if random.bool() {
                    now.set(key, value);
                    plain.insert(key, value);
                } else {
                    assert_eq!(now.remove(key).map(|value| *value), plain.remove(&key));
                }
            }
            assert_eq!(now.len(), plain.len());
            assert!(now.iter().all(|(key, value)| plain.get(&key) == Some(&**value)));
            assert!(now.shelves.len() == SHELF && now.shelves.iter().all(|shelf| shelf.len() == SHELF));
            let changed: BTreeMap<u64, _> =
                now.changes(&before).into_iter().map(|(key, was, is)| (key, (was.map(|v| **v), is.map(|v| **v)))).collect();
            for key in 0..500 {
                let (was, is) = (plain_before.get(&key).copied(), plain.get(&key).copied());
                assert!(was == is || changed.get(&key) == Some(&(was, is)), "{key}");
            }
        }
    }
    #[test]
    fn a_change_copies_its_own_shelf() {
        let mut now: Buckets<u64> = Buckets::default();
        (0..100_000).for_each(|key| drop(now.set(key * 0x9E37_79B9, key)));
        let before = now.clone();
        now.set(7, 7);
        let copied: Vec<usize> = (0..SHELF).filter(|place| !Arc::ptr_eq(&now.shelves[*place], &before.shelves[*place])).collect();
        assert_eq!(copied, [place(7).0]);
        assert_eq!(now.changes(&before).len(), 1);
        let keys: Vec<u64> = now.iter().map(|(key, _)| key).collect();
        assert!(keys.is_sorted_by_key(|key| (key % BUCKETS as u64, *key)), "images are written in this order");
    }
}

//! A map that somebody may hold as it was while one goes on changing it, and that says what changed of late.
//!
//! For the state of alerts: of 100,000 of them an entry changes some hundred. As long as nobody holds it, it is changed where it stands; what somebody holds is
//! copied a bucket at a time. Who keeps something up with it asks what is new since he looked last, and need not hold anything meanwhile. Keys are hashes,
//! so that their lowest bits spread, and so that a plain map of them need not hash them again ([`ByHash`]). Left out on purpose: what is kept.

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::hash::BuildHasherDefault;
use std::hash::Hasher;
use std::sync::Arc;

/// So many that a bucket of 100,000 things has some twenty-five.
const BUCKETS: usize = 4096;
/// So many of the last changes are known: those of sixty requests of 256 alerts, more than come between two looks, which are some hundredths of a second apart.
const NEWS: usize = 16_384;

/// Sorted by key.
type Bucket<V> = Vec<(u64, Arc<V>)>;

/// Things by hash.
#[derive(Debug)]
pub struct Buckets<V> {
    /// Behind a pointer, so that it is held without a copy. Empty as long as there is nothing.
    buckets: Arc<Vec<Arc<Bucket<V>>>>,
    len: usize,
    news: News,
}

/// What changed of late.
#[derive(Clone, Debug, Default)]
struct News {
    /// Whose changes these are: no other map has the same, but the copies of this one.
    whose: Arc<()>,
    /// So many are not known any more.
    forgotten: u64,
    keys: Arc<VecDeque<u64>>,
}

/// How far somebody has looked at the news of a map.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    whose: Arc<()>,
    changes: u64,
}

impl<V> Default for Buckets<V> {
    fn default() -> Buckets<V> {
        Buckets { buckets: Arc::default(), len: 0, news: News::default() }
    }
}

impl<V> Clone for Buckets<V> {
    fn clone(&self) -> Buckets<V> {
        Buckets { buckets: Arc::clone(&self.buckets), len: self.len, news: self.news.clone() }
    }
}

/// By what is in them, however it came there.
impl<V: PartialEq> PartialEq for Buckets<V> {
    fn eq(&self, other: &Buckets<V>) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<V: Eq> Eq for Buckets<V> {}

/// Takes a key as it is: it is a hash, and with a seed that nobody outside knows (`book::id`).
#[derive(Clone, Debug, Default)]
pub struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Things by such a key, in no order.
pub type ByHash<V> = HashMap<u64, V, BuildHasherDefault<AsItIs>>;

/// None twice, in the order in which they come first.
pub fn each_once(keys: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut known = HashSet::<u64, BuildHasherDefault<AsItIs>>::with_capacity_and_hasher(keys.size_hint().0, BuildHasherDefault::default());
    keys.filter(|key| known.insert(*key)).collect()
}

fn place(key: u64) -> usize {
    (key % BUCKETS as u64) as usize
}

fn find<V>(bucket: &[(u64, Arc<V>)], key: u64) -> Result<usize, usize> {
    bucket.binary_search_by_key(&key, |(key, _)| *key)
}

impl News {
    fn add(&mut self, key: u64) {
        let keys = Arc::make_mut(&mut self.keys);
        if keys.len() >= NEWS {
            keys.pop_front();
            self.forgotten += 1;
        }
        keys.push_back(key);
    }
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
        let bucket = self.buckets.get(place(key))?;
        bucket.get(find(bucket, key).ok()?).map(|(_, value)| value)
    }

    /// Has the processor fetch what is asked for next: for all of these at the same time, where one after the other would wait for some five places of memory.
    pub fn fetch(&self, keys: &[u64]) {
        for key in keys {
            std::hint::black_box(self.get(*key).map(Arc::strong_count));
        }
    }

    fn bucket(&mut self, key: u64) -> Option<&mut Bucket<V>> {
        let buckets = Arc::make_mut(&mut self.buckets);
        if buckets.is_empty() {
            buckets.resize_with(BUCKETS, Arc::default);
        }
        buckets.get_mut(place(key)).map(Arc::make_mut)
    }

    /// Puts one in the place of what was there.
    pub fn set(&mut self, key: u64, value: V) -> Option<Arc<V>> {
        self.news.add(key);
        let (value, bucket) = (Arc::new(value), self.bucket(key)?);
        match find(bucket, key) {
            Ok(place) => bucket.get_mut(place).map(|(_, known)| std::mem::replace(known, value)),
            Err(place) => {
                bucket.insert(place, (key, value));
                self.len += 1;
                None
            }
        }
    }

    /// Takes one out.
    pub fn remove(&mut self, key: u64) -> Option<Arc<V>> {
        self.get(key)?;
        self.news.add(key);
        let bucket = self.bucket(key)?;
        let place = find(bucket, key).ok()?;
        let (_, gone) = bucket.remove(place);
        self.len -= 1;
        Some(gone)
    }

    /// Changes one, if it is there, in a way that is no news.
    pub fn alter(&mut self, key: u64, change: impl FnOnce(&mut V))
    where
        V: Clone,
    {
        if let Some(bucket) = self.bucket(key)
            && let Ok(place) = find(bucket, key)
            && let Some((_, value)) = bucket.get_mut(place)
        {
            change(Arc::make_mut(value));
        }
    }

    /// All of them, always in the same order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Arc<V>)> {
        self.buckets.iter().flat_map(|bucket| bucket.iter().map(|(key, value)| (*key, value)))
    }

    /// As far as there is.
    pub fn seen(&self) -> Seen {
        Seen { whose: Arc::clone(&self.news.whose), changes: self.news.forgotten + self.news.keys.len() as u64 }
    }

    /// The keys of what was set or taken out since then, each once, in the order in which they came first: so what came together stands together in memory.
    /// None where that is not known: then anything may be different, if it is the same map at all.
    pub fn since(&self, seen: &Seen) -> Option<Vec<u64>> {
        let known = seen.changes.checked_sub(self.news.forgotten)?;
        let from = usize::try_from(known).ok().filter(|from| *from <= self.news.keys.len())?;
        Arc::ptr_eq(&seen.whose, &self.news.whose).then(|| each_once(self.news.keys.range(from..).copied()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_changed_is_said_and_what_is_held_stays() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut now, mut plain) = (Buckets::default(), BTreeMap::new());
        for _ in 0..200 {
            let (held, before) = (now.clone(), plain.clone());
            let seen = now.seen();
            for _ in 0..random.usize(0..30) {
                let (key, value) = (random.u64(0..500), random.u8(..));
                match random.u8(0..3) {
                    0 => assert_eq!(now.set(key, value).map(|value| *value), plain.insert(key, value)),
                    1 => assert_eq!(now.remove(key).map(|value| *value), plain.remove(&key)),
                    _ => {
                        now.alter(key, |known| *known = value);
                        plain.entry(key).and_modify(|known| *known = value);
                    }
                }
            }
            let is = |buckets: &Buckets<u8>, plain: &BTreeMap<u64, u8>| {
                buckets.len() == plain.len() && buckets.iter().all(|(key, value)| plain.get(&key) == Some(&**value))
            };
            assert!(is(&now, &plain) && is(&held, &before));
            let news = now.since(&seen).unwrap();
            assert!(news.iter().enumerate().all(|(at, key)| !news[..at].contains(key)));
            for key in 0..500 {
                let (was, is) = (before.contains_key(&key), plain.contains_key(&key));
                assert!(was == is || news.contains(&key), "{key}");
            }
            assert!(plain.keys().all(|key| now.get(*key).map(|value| **value) == plain.get(key).copied()));
        }
    }

    #[test]
    fn what_is_too_long_ago_or_of_another_map_is_not_known() {
        let (mut now, nothing) = (Buckets::default(), Seen::default());
        let begun = now.seen();
        assert_eq!((now.since(&nothing), now.since(&begun)), (None, Some(Vec::new())));
        (0..NEWS as u64).rev().for_each(|key| drop(now.set(key, ())));
        assert_eq!(now.since(&begun).map(|news| news.len()), Some(NEWS));
        now.set(1, ());
        assert_eq!(now.since(&begun), None);
        let other = Buckets::<()>::default();
        assert_eq!((now.since(&other.seen()), other.since(&now.seen())), (None, None));
        let copy = now.clone();
        assert_eq!(copy.since(&now.seen()), Some(Vec::new()));
    }
}

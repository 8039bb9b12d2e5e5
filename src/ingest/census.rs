//! Which series a group has, by sample: what `sluice group cardinality` is drawn from.
//!
//! Of each group the series with the smallest hashes are kept, with their labels: a fair sample of its distinct series, whatever their number, in bounded memory
//! (64 to 2,048 series a group, 65,536 in all, at most twice that where many groups come at once: some 30 MB). Below its largest hash the sample is complete, which is what tells a new series from one that has been
//! there; and samples of several nodes are one when put together, since all nodes hash alike.
//!
//! Only requests of one minute in nine are looked at, and those of a group's first two minutes, so "new" is true to some ten minutes. A table of this node,
//! lost with it. Left out on purpose: adding up (`api::cardinality`).

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use crate::wire::remote_write::Label;

/// Series kept of all groups.
const IN_ALL: usize = 65_536;
/// Of one group.
const MOST: usize = 2_048;
const LEAST: usize = 64;
/// Groups that are sampled; those beyond are not.
const GROUPS_MAX: usize = IN_ALL / LEAST;
/// A group that is so young is looked at all the time, ms.
const YOUNG_MS: i64 = 120_000;
/// After so long every series that is there has been seen, ms: two rounds of one minute in nine.
const SETTLED_MS: i64 = 1_200_000;
/// Series that were not seen for so long are gone, ms.
const GONE_MS: i64 = 7_200_000;
/// Between two looks for those, ms.
const TIDY_MS: i64 = 600_000;
/// Bytes of labels that are kept of a series.
const LABELS_BYTES: usize = 2_048;

/// The samples of all groups.
#[derive(Debug, Default)]
pub struct Census {
    /// Held only to look one up, or to add one.
    groups: RwLock<HashMap<String, Arc<Sample>>>,
    /// Series kept of all of them.
    total: Arc<AtomicUsize>,
}

/// The sample of one group.
#[derive(Debug)]
pub struct Sample {
    began_ms: i64,
    /// Series with smaller hashes are in the sample.
    below: AtomicU64,
    /// See [`Census`].
    total: Arc<AtomicUsize>,
    /// Nothing waits while it is held.
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    series: BTreeMap<u64, Held>,
    /// Whatever is below and comes now was not there before.
    settled_below: u64,
    /// Since when `below` is at least as high as it is.
    raised_ms: i64,
    tidied_ms: i64,
}

/// A series as it is kept.
#[derive(Debug)]
struct Held {
    /// One piece of memory: lengths (two bytes each) and texts of names and values, in turn. As two texts a label the samples of a thousand groups tore the
    /// heap into so many pieces that it took three times as much.
    labels: Box<[u8]>,
    first_ms: i64,
    last_ms: i64,
    fresh: bool,
}

/// A series of the sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// Without the replica's; long ones are left out.
    pub labels: Vec<(Box<str>, Box<str>)>,
    /// When it was first seen, ms since 1970.
    pub first_ms: i64,
    /// When it was last seen.
    pub last_ms: i64,
    /// It was not there before it was first seen; false where that is not known.
    pub fresh: bool,
}

/// A copy of a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The group.
    pub group: String,
    /// Since when it is watched, ms since 1970.
    pub since_ms: i64,
    /// The sample holds all series with smaller hashes; `u64::MAX`: all that there are.
    pub below: u64,
    /// By hash.
    pub series: Vec<(u64, Series)>,
}

impl Census {
    /// The sample of a group if its series are to be looked at now. `look`: it is one of the minutes in which all are.
    pub fn of(&self, group: &str, now_ms: i64, look: bool) -> Option<Arc<Sample>> {
        let known = self.groups.read().unwrap_or_else(PoisonError::into_inner).get(group).cloned();
        let sample = match known {
            Some(sample) => sample,
            None => {
                let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
                if groups.len() >= GROUPS_MAX {
                    return None;
                }
                Arc::clone(groups.entry(group.to_owned()).or_insert_with(|| Arc::new(Sample::new(now_ms, Arc::clone(&self.total)))))
            }
        };
        (look || now_ms - sample.began_ms < YOUNG_MS).then_some(sample)
    }

    /// How many series of one group are kept at most.
    pub fn most(&self) -> usize {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner).len();
        (IN_ALL / groups.max(1)).clamp(LEAST, MOST)
    }

    /// A copy of the sample of one group.
    pub fn show(&self, group: &str) -> Option<Shown> {
        let sample = self.groups.read().unwrap_or_else(PoisonError::into_inner).get(group).cloned()?;
        Some(sample.show(group))
    }

    /// Copies of all samples, by name.
    pub fn all(&self) -> Vec<Shown> {
        let groups: BTreeMap<String, Arc<Sample>> = self
            .groups
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|(name, sample)| (name.clone(), Arc::clone(sample)))
            .collect();
        groups.iter().map(|(name, sample)| sample.show(name)).collect()
    }
}

impl Sample {
    fn new(now_ms: i64, total: Arc<AtomicUsize>) -> Sample {
        let kept = Kept { series: BTreeMap::new(), settled_below: 0, raised_ms: now_ms, tidied_ms: now_ms };
        Sample { began_ms: now_ms, below: AtomicU64::new(u64::MAX), total, kept: Mutex::new(kept) }
    }

    /// A series was sent. Nearly all of a large group's are passed over by one comparison.
    #[inline]
    pub fn saw(&self, hash: u64, labels: &[Label<'_>], (strip, most): (&[String], usize), now_ms: i64) {
        if hash < self.below.load(Ordering::Relaxed) {
            self.keep(hash, labels, (strip, most), now_ms);
        }
    }

    fn keep(&self, hash: u64, labels: &[Label<'_>], (strip, most): (&[String], usize), now_ms: i64) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = kept.series.get_mut(&hash) {
            series.last_ms = now_ms;
            return;
        }
        if now_ms - kept.raised_ms >= SETTLED_MS {
            kept.settled_below = self.below.load(Ordering::Relaxed);
        }
        let fresh = hash < kept.settled_below;
        let mut room = LABELS_BYTES;
        let mut fits = |label: &&Label<'_>| {
            let bytes = label.name.len() + label.value.len();
            let fits = bytes <= room && !strip.iter().any(|name| name == label.name);
            room -= if fits { bytes } else { 0 };
            fits
        };
        let labels = pack(labels.iter().filter(|label| fits(label)));
        // Where there is no room left, those that are small grow, and others not: they give back what is too much as they are seen.
        let full = self.total.load(Ordering::Relaxed) >= IN_ALL;
        let most = if full { most.min(kept.series.len().max(LEAST)) } else { most };
        kept.series.insert(hash, Held { labels, first_ms: now_ms, last_ms: now_ms, fresh });
        self.total.fetch_add(1, Ordering::Relaxed);
        while kept.series.len() > most {
            let Some((largest, _)) = kept.series.pop_last() else { break };
            self.total.fetch_sub(1, Ordering::Relaxed);
            self.below.store(largest, Ordering::Relaxed);
            kept.settled_below = kept.settled_below.min(largest);
        }
        if now_ms - kept.tidied_ms >= TIDY_MS {
            self.tidy(&mut kept, most, now_ms);
        }
    }

    /// What is gone makes room for others, of which nobody knows whether they are new.
    fn tidy(&self, kept: &mut Kept, most: usize, now_ms: i64) {
        kept.tidied_ms = now_ms;
        let before = kept.series.len();
        kept.series.retain(|_, series| now_ms - series.last_ms < GONE_MS);
        let (left, below) = (kept.series.len(), self.below.load(Ordering::Relaxed));
        self.total.fetch_sub(before - left, Ordering::Relaxed);
        if left < before && left * 4 < most * 3 && below != u64::MAX {
            let higher = u128::from(below) * most as u128 / left.max(1) as u128;
            self.below.store(u64::try_from(higher).unwrap_or(u64::MAX), Ordering::Relaxed);
            kept.raised_ms = now_ms;
        }
    }

    fn show(&self, group: &str) -> Shown {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let series = kept.series.iter().map(|(hash, held)| (*hash, held.show())).collect();
        Shown { group: group.to_owned(), since_ms: self.began_ms, below: self.below.load(Ordering::Relaxed), series }
    }
}

impl Held {
    fn show(&self) -> Series {
        let (mut texts, mut rest) = (Vec::new(), &*self.labels);
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            let (text, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*length))).unwrap_or((after, &[]));
            texts.push(Box::<str>::from(String::from_utf8_lossy(text)));
            rest = after;
        }
        let mut texts = texts.into_iter();
        let labels = std::iter::from_fn(|| texts.next().zip(texts.next())).collect();
        Series { labels, first_ms: self.first_ms, last_ms: self.last_ms, fresh: self.fresh }
    }
}

/// Labels, at most [`LABELS_BYTES`] of them, as one piece.
fn pack<'l>(labels: impl Iterator<Item = &'l Label<'l>>) -> Box<[u8]> {
    let mut packed = Vec::with_capacity(LABELS_BYTES / 4);
    for text in labels.flat_map(|label| [label.name, label.value]) {
        packed.extend_from_slice(&u16::try_from(text.len()).unwrap_or(0).to_le_bytes());
        packed.extend_from_slice(text.as_bytes());
    }
    packed.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRIP: &[String] = &[];

    fn hash(number: u64) -> u64 {
        number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31).wrapping_mul(0xBF58_476D_1CE4_E5B9)
    }

    fn send(sample: &Sample, numbers: std::ops::Range<u64>, most: usize, now_ms: i64) {
        for number in numbers {
            let value = number.to_string();
            let labels = [Label::new(0, "__name__", "m"), Label::new(0, "number", &value)];
            sample.saw(hash(number), &labels, (STRIP, most), now_ms);
        }
    }

    #[test]
    fn a_sample_is_fair_bounded_and_tells_new_series_from_old_ones() {
        let census = Census::default();
        let sample = census.of("g", 0, false).expect("a young group is looked at");
        send(&sample, 0..100_000, 1000, 0);
        let shown = census.show("g").unwrap();
        assert_eq!(shown.series.len(), 1000);
        let estimate = shown.series.len() as f64 * 2_f64.powi(64) / shown.below as f64;
        assert!((90_000.0..110_000.0).contains(&estimate), "{estimate}");
        assert!(shown.series.iter().all(|(_, series)| !series.fresh), "nobody knows what was there before");
        assert!(census.of("g", YOUNG_MS, false).is_none(), "it is not young any more");
        // An hour later the same ones are there, and ten thousand more.
        send(&sample, 0..110_000, 1000, 3_600_000);
        let fresh = census.show("g").unwrap().series.iter().filter(|(_, series)| series.fresh).count();
        assert!((60..130).contains(&fresh), "{fresh} of 1000; a tenth of a ninth more are new");
    }

    #[test]
    fn many_groups_at_once_keep_no_more_than_twice_what_all_may() {
        let census = Census::default();
        for group in 0..GROUPS_MAX {
            let sample = census.of(&group.to_string(), 0, true).expect("room");
            send(&sample, 0..3_000, census.most(), 0);
        }
        let all: Vec<usize> = census.all().iter().map(|shown| shown.series.len()).collect();
        assert!(all.iter().sum::<usize>() <= 2 * IN_ALL, "{}", all.iter().sum::<usize>());
        assert!(all.iter().all(|kept| *kept >= LEAST));
        assert_eq!(all.iter().sum::<usize>(), census.total.load(Ordering::Relaxed));
    }

    #[test]
    fn what_is_gone_makes_room() {
        let sample = Sample::new(0, Arc::default());
        send(&sample, 0..10_000, 1000, 0);
        send(&sample, 20_000..20_500, 1000, 2 * GONE_MS);
        // Those that follow find room, and are not taken for new ones.
        send(&sample, 20_000..20_500, 1000, 2 * GONE_MS + TIDY_MS);
        send(&sample, 20_000..20_500, 1000, 2 * GONE_MS + TIDY_MS + 1000);
        let shown = sample.show("g");
        assert!(shown.series.iter().all(|(_, series)| series.last_ms > 0), "the old ones are gone");
        assert!(shown.series.len() > 400, "{} of 500 are in a sample of 1000", shown.series.len());
        assert!(shown.series.iter().filter(|(_, series)| series.fresh).count() < 100);
    }

    #[test]
    fn replica_labels_and_endless_ones_are_left_out() {
        let (sample, long) = (Sample::new(0, Arc::default()), "x".repeat(5000));
        let labels = [Label::new(0, "__replica__", "a"), Label::new(0, "long", &long), Label::new(0, "zone", "z")];
        sample.saw(7, &labels, (&["__replica__".to_owned()], 10), 0);
        assert_eq!(sample.show("g").series[0].1.labels, [("zone".into(), "z".into())]);
        let empty = [Label::new(0, "a", ""), Label::new(0, "b", "c\u{0}ü")];
        sample.saw(8, &empty, (STRIP, 10), 0);
        assert_eq!(sample.show("g").series[1].1.labels, [("a".into(), "".into()), ("b".into(), "c\u{0}ü".into())]);
    }
}

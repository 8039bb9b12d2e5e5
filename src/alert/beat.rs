//! How often the sources of an alert say again that it holds, learned from the times of their words; and from when on they are silent for longer than they usually are.
//!
//! Nobody says how often it is said: Prometheus every minute unless a flag says otherwise, Grafana every interval of a rule's group, two replicas of each at their own times, each to
//! several nodes. So the longest gap counts, and what is shorter wears it down slowly. Left out on purpose: any consequence but that it is shown. When the alert is over
//! without a word is what the last word said, as ever.

/// Gaps below this are the same word through several nodes, ms.
const SAME_MS: i64 = 1_000;
/// So many gaps must be known: two replicas come a few seconds one after the other, and then not for a minute.
const ENOUGH: u8 = 3;
/// By this part a shorter gap wears the longest down: of twenty words in an interval the other nineteen leave more than half of it.
const WEAR: u32 = 32;

/// What is known of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// About the longest gap, ms.
    pub ms: u32,
    /// Gaps that were seen, as far as that matters.
    pub seen: u8,
}

impl Beat {
    /// It was said once more after so many ms.
    pub fn said_after(self, gap: i64) -> Beat {
        if gap < SAME_MS {
            return self;
        }
        let gap = u32::try_from(gap).unwrap_or(u32::MAX);
        Beat { ms: gap.max(self.ms - self.ms / WEAR), seen: self.seen.saturating_add(1).min(ENOUGH) }
    }

    /// How often it is usually said, ms; nothing: not known yet.
    pub fn usual(self) -> Option<i64> {
        (self.seen >= ENOUGH).then_some(i64::from(self.ms))
    }

    /// When two words will have been missed, where the last one was said at `updated`. A quarter of an interval more, since nobody is punctual.
    pub fn missed(self, updated: i64) -> Option<i64> {
        self.usual().map(|usual| updated.saturating_add(usual * 2 + usual / 4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_words_must_be_missed_of_what_is_usual() {
        let mut beat = Beat::default().said_after(60_000).said_after(60_000);
        assert_eq!(beat.missed(0), None, "too little is known");
        beat = beat.said_after(60_000);
        assert_eq!(beat.missed(1_000), Some(136_000));
        // Once it was late: that wears off.
        beat = beat.said_after(300_000);
        assert_eq!(beat.usual(), Some(300_000));
        (0..60).for_each(|_| beat = beat.said_after(60_000));
        assert!(beat.usual().unwrap() < 70_000);
    }

    /// One replica or two at any distance, each through some nodes: while both speak, and when one fell silent, nothing is missed; and when both did, it is,
    /// before four intervals have passed, which is how long Prometheus lets an alert live.
    #[test]
    fn replicas_and_nodes_are_not_mistaken_for_silence() {
        for seed in crate::mutate::seeds(60) {
            let mut random = fastrand::Rng::with_seed(seed);
            let interval = random.i64(10_000..300_000);
            let offsets: Vec<i64> = (0..random.usize(1..3)).map(|_| random.i64(0..interval)).collect();
            let nodes = random.i64(1..4);
            let (mut beat, mut last) = (Beat::default(), 0);
            let mut say = |beat: &mut Beat, random: &mut fastrand::Rng, at: i64| {
                for node in 0..nodes {
                    let at = at + node * random.i64(0..400);
                    if last > 0 && at > last {
                        assert!(beat.missed(last).is_none_or(|missed| missed > at), "SEED={seed} {interval} {offsets:?} {beat:?}");
                        *beat = beat.said_after(at - last);
                    }
                    last = last.max(at);
                }
                last
            };
            let mut words: Vec<i64> = (1..40).flat_map(|round| offsets.iter().map(move |offset| round * interval + offset)).collect();
            words.sort_unstable();
            for at in words {
                let late = random.i64(0..interval / 50);
                say(&mut beat, &mut random, at + late);
            }
            let alone = offsets[0];
            let end = (40..60).map(|round| say(&mut beat, &mut random, round * interval + alone)).last().unwrap();
            let missed = beat.missed(end).unwrap();
            assert!(missed > end + interval && missed < end + 4 * interval, "SEED={seed} {interval} {offsets:?} {beat:?}");
        }
    }
}

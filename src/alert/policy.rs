//! The policies that the book must know to say what an alert's episode is: how bad it is, whether its end counts yet, whether it flaps, whether it waits.
//!
//! They are no configuration here: the node that leads notes what the settings say as an entry, so that every node judges alike what comes behind it.
//! Windows of maintenance are not among them: whether one lasts is asked by whoever tells (`maintenance`), since rules of time zones may differ between two
//! versions of the program. What they come to for one alert stands in `noted`.

use crate::alert::listed;
use crate::alert::listed::Listed;
use crate::alert::message;
use crate::config::policies::Policies;
use crate::config::read::Problem;
use crate::model::labels::Labels;

/// All of them; nothing at all by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpisodeRules {
    /// How bad an alert is, 1 to 5.
    pub levels: Listed<u8>,
    /// How long its end is watched before it counts, ms.
    pub recovery: Listed<i64>,
    /// What flapping is.
    pub flapping: Listed<Flapping>,
    /// Whether it waits.
    pub transient: Listed<Transient>,
}

/// What flapping is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flapping {
    /// So many beginnings and ends
    pub changes: u64,
    /// within so long, ms,
    pub within: i64,
    /// until there was none for so long, ms.
    pub calm: i64,
}

/// Which alerts wait whether they end by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transient {
    /// An episode is short that ended by itself within this, ms.
    pub within: i64,
    /// So many of a hundred must have been short,
    pub share: u8,
    /// of so many, at least.
    pub least: u64,
    /// It is waited until so many of a hundred short ones were over,
    pub percentile: u8,
    /// and no longer than this, ms.
    pub most: i64,
}

fn ms(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

impl EpisodeRules {
    /// What is written means this, or all that is wrong with it.
    pub fn new(written: &Policies) -> Result<EpisodeRules, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut read = |matching| listed::matchers(matching, &mut problems);
        let levels = written.levels.iter().map(|one| (read(&one.matchers), one.level)).collect();
        let recovery = written.recovery.iter().map(|one| (read(&one.matchers), ms(one.observe))).collect();
        let flapping = written
            .flapping
            .iter()
            .map(|one| (read(&one.matchers), Flapping { changes: one.changes, within: ms(one.within), calm: ms(one.calm) }));
        let flapping = flapping.collect();
        let transient = written.transient.iter().map(|one| {
            let (within, most) = (ms(one.within), ms(one.most));
            (read(&one.matchers), Transient { within, share: one.share, least: one.least, percentile: one.percentile, most })
        });
        let transient = transient.collect();
        let rules = EpisodeRules {
            levels: Listed::new(levels),
            recovery: Listed::new(recovery),
            flapping: Listed::new(flapping),
            transient: Listed::new(transient),
        };
        if problems.is_empty() { Ok(rules) } else { Err(problems) }
    }

    /// How bad an alert is, 1 (the worst) to 5: what the rules say, else what its labels do.
    pub fn level(&self, labels: &Labels) -> u8 {
        self.levels.first(labels).copied().unwrap_or_else(|| message::level(labels))
    }
}

//! The policies of the settings become those of the book: noted by the node that leads, so that every node judges by them what comes behind that entry.
//!
//! And how they are shown for one alert. Left out on purpose: what they mean (`alert::policy`).

use std::sync::Arc;

use crate::alert::book::Book;
use crate::alert::book::Kept;
use crate::alert::groups;
use crate::api::alerting::Policed;
use crate::app::alerting::Alerting;
use crate::app::alerting::Current;
use crate::config::values::shown_duration;
use crate::model::alert::name;
use crate::shard::alerting::Change;

impl Alerting {
    /// Notes the policies where the book has others. What is not noted is noted a turn later.
    pub(super) async fn agree(&self, current: &Current) {
        if **self.node.book().rules() != current.rules && self.note(Change::Rules(Box::new(current.rules.clone()))).await.is_ok() {
            tracing::info!("the policies for alerts are others from now on");
        }
    }
}

fn seconds(ms: i64) -> String {
    shown_duration(std::time::Duration::from_millis(ms.unsigned_abs()))
}

/// Why an alert waits.
fn why(book: &Book, kept: &Kept, how: &groups::standing::Standing) -> Arc<str> {
    if kept.noted.released < how.released {
        return Arc::from(format!(
            "it began within maintenance {}, and is told afterwards if it still holds",
            how.maintained_by.join(", ")
        ));
    }
    let labels = &kept.alert.labels;
    let known = book.lessons().of(name(labels)).zip(book.rules().transient.first(labels));
    Arc::from(match known {
        Some((lesson, policy)) => format!(
            "{} of the last {} episodes of {} ended by themselves within {}, most of them within {}: if this one does not, it is told",
            lesson.within(policy.within),
            lesson.total(),
            name(labels),
            seconds(policy.within),
            seconds(kept.noted.released - kept.came),
        ),
        None => "it mostly ended by itself".to_owned(),
    })
}

/// What the policies come to for an alert that stands so.
pub fn policed(book: &Book, kept: &Kept, how: &groups::standing::Standing, now: i64) -> Policed {
    Policed {
        level: kept.level(),
        worst: kept.worst(),
        flaps: Some(kept.noted.flaps).filter(|_| kept.flaps_at(now)),
        waits: (how.released > now).then(|| (how.released, why(book, kept, how))),
        watched: Some(kept.counts()).filter(|_| kept.alert.is_over(now)),
        again: kept.noted.again,
        unconfirmed: kept.unconfirmed_since(now).zip(kept.beat.usual()),
        escalation: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::listed::Listed;
    use crate::alert::policy::EpisodeRules;
    use crate::alert::policy::Transient;
    use crate::app::alerting::judge;
    use crate::config::Config;
    use crate::model::alert::Alert;
    use crate::model::labels::Labels;

    #[test]
    fn what_is_wrong_with_policies_is_said_together_with_what_is_wrong_with_routes() {
        let text = "data_dir: /x\nsinks: []\nalerting:\n  config: { route: { receiver: b }, receivers: [{ name: a }] }\n  levels: [{ matchers: ['a=~('], level: P1 }]\n  maintenance: [{ name: w, matchers: [a=b], from: today, to: tomorrow }]\n";
        let written = Config::parse(text).unwrap().alerting.unwrap();
        let problems = judge(&written).err().unwrap();
        let said = |words: &str| problems.iter().filter(|problem| problem.contains(words)).count();
        assert_eq!(
            (said("undefined receiver"), said("alerting.levels[0].matchers[0]"), said("alerting.maintenance[0]")),
            (1, 1, 2),
            "{problems:?}"
        );
    }

    #[test]
    fn it_is_said_why_an_alert_waits() {
        let policy = Transient { within: 120_000, share: 80, least: 20, percentile: 90, most: 300_000 };
        let mut book = Book::default();
        book.change_rules(EpisodeRules { transient: Listed::new(vec![(vec![], policy)]), ..EpisodeRules::default() }, 0);
        let labels = Labels::from([("alertname", "Slow")]);
        let word = |starts: i64, ends: i64, updated: i64| Alert { labels: labels.clone(), starts, ends, updated, ..Alert::default() };
        let mut at = 0;
        for _ in 0..21 {
            book.post(7, vec![word(at, at + 60_000, at)], at).unwrap();
            book.post(7, vec![word(at, at + 40_000, at + 40_000)], at + 40_000).unwrap();
            at += 100_000;
        }
        book.post(7, vec![word(at, at + 60_000, at)], at).unwrap();
        let (_, kept) = book.alerts().iter().next().unwrap();
        let how = groups::standing::Standing { released: kept.noted.released, ..groups::standing::Standing::default() };
        let policed = policed(&book, kept, &how, at);
        let (until, why) = policed.waits.unwrap();
        assert_eq!((until, policed.level, policed.flaps, policed.watched), (at + 45_000, 3, None, None));
        assert_eq!(
            &*why,
            "21 of the last 21 episodes of Slow ended by themselves within 2m, most of them within 45s: if this one does not, it is told"
        );
    }
}

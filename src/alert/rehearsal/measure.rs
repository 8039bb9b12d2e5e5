//! What it costs to live through episodes of the past, which decides how many days a dry run may take. What `sluice bench alerts` prints. The clock is the caller's.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Script;
use super::Watch;
use super::rehearse;
use crate::alert::book::Wanted;
use crate::alert::episode::Episode;
use crate::alert::groups::Plan;
use crate::alert::lesson::Lessons;
use crate::alert::listed::Listed;
use crate::alert::policy::EpisodeRules;
use crate::alert::policy::Flapping;
use crate::alert::route::Routing;
use crate::config::routing;
use crate::model::alert::Alert;
use crate::model::labels::Labels;

/// The episodes are of so many ms,
const WEEK_MS: i64 = 7 * 86_400_000;
/// from then on.
const BEGIN: i64 = 1_790_000_000_000;
const FILE: &str =
    "receivers: [{ name: all }]\nroute: { receiver: all, group_by: [alertname, cluster], group_wait: 30s, group_interval: 5m }\n";

/// Nobody looks on.
struct Nobody;

impl Watch for Nobody {
    fn told(&mut self, _: &Wanted, _: i64) {}

    fn goes_on(&mut self, _: usize) -> bool {
        true
    }
}

/// One of a week: 200 rules, 50 clusters, each alert some times, for some minutes or for hours.
fn episode(number: usize, all: usize) -> Episode {
    let alert = number * 7_919 % (all / 3).max(1);
    let pairs = [
        ("alertname", format!("Alert{}", alert % 200)),
        ("cluster", format!("c{}", alert % 50)),
        ("instance", format!("web{alert}:9100")),
        ("severity", if alert.is_multiple_of(3) { "warning" } else { "critical" }.to_owned()),
    ];
    let labels: Labels = pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let came = BEGIN + WEEK_MS / i64::try_from(all.max(1)).unwrap_or(1) * i64::try_from(number).unwrap_or(0);
    let lasts = if number.is_multiple_of(10) { 6 * 3_600_000 } else { 60_000 + 7_000 * i64::try_from(number % 100).unwrap_or(0) };
    let ends = came + lasts;
    let alert = Alert { labels, starts: came, ends, updated: ends, ..Alert::default() };
    Episode { alert, came, closed: ends + 1_200_000, ..Episode::default() }
}

/// Nanoseconds an episode, and messages.
pub fn measure(episodes: usize, clock: &dyn Fn() -> u64) -> Option<(f64, u64)> {
    let all: Vec<Episode> = (0..episodes).map(|number| episode(number, episodes)).collect();
    let routing = Routing::new(&routing::parse(FILE).ok()?).ok()?;
    let plan = Arc::new(Plan::new(routing, BTreeMap::from([("all".to_owned(), vec![true])])));
    let flapping = Listed::new(vec![(Vec::new(), Flapping { changes: 4, within: 3_600_000, calm: 900_000 })]);
    let rules = EpisodeRules { flapping, recovery: Listed::new(vec![(Vec::new(), 120_000)]), ..EpisodeRules::default() };
    let begin = clock();
    let outcome = rehearse(&all, Script { plan, rules, lessons: Lessons::default() }, &mut Nobody);
    Some((clock().saturating_sub(begin) as f64 / episodes.max(1) as f64, outcome.messages))
}

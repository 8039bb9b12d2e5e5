//! What would have been told within the last days with other policies: the history of this node, lived through with those in force and with others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::alert::book::Wanted;
use crate::alert::groups::Plan;
use crate::alert::maintenance::Windows;
use crate::alert::policy::EpisodeRules;
use crate::alert::rehearsal;
use crate::alert::rehearsal::Kept;
use crate::alert::rehearsal::Outcome;
use crate::alert::rehearsal::Script;
use crate::alert::rehearsal::Tally;
use crate::alert::rehearsal::Watch;
use crate::alert::telling;
use crate::api::alerting::Refused;
use crate::api::alerting::Rehearsal;
use crate::api::alerting::Rehearsed;
use crate::api::alerting::RehearsedName;
use crate::api::alerting::Told;
use crate::api::deps::Later;
use crate::app::alerting::history;
use crate::app::alerting::shown::View;
use crate::clock;
use crate::config::policies;
use crate::config::read::Problem;
use crate::model::alert::name;

/// Episodes of one rehearsal, the latest ones.
const MOST: usize = 50_000;
/// So long both rehearsals take at most together: whoever asks waits for half a minute.
const PATIENCE: Duration = Duration::from_secs(25);

/// Nobody looks at the messages themselves: they are counted.
struct Hurried {
    until: Instant,
}

impl Watch for Hurried {
    fn told(&mut self, _: &Wanted, _: i64) {}

    fn goes_on(&mut self, begun: usize) -> bool {
        !begun.is_multiple_of(64) || clock::now() < self.until
    }
}

/// Lives through them.
pub fn rehearse(view: &View, asked: Rehearsal) -> Later<'static, Result<Rehearsed, Refused>> {
    let (alerting, current) = (Arc::clone(&view.alerting), Arc::clone(&view.current));
    let run = move || {
        let until = clock::now() + PATIENCE;
        let _turn = alerting.rehearsing.try_acquire().map_err(|_| Refused::Later("another rehearsal is under way".to_owned()))?;
        let said = |problems: Vec<Problem>| Refused::Wrong(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
        let (written, besides) = policies::of_text(&asked.policies).map_err(said)?;
        let rules = EpisodeRules::new(&written).map_err(said)?;
        let windows = Windows::new(&written.maintenance).map_err(said)?;
        let mut proposed = Plan::clone(&current.plan).with_windows(windows);
        if let Some(file) = &current.written.routing {
            proposed = proposed.with_telling(telling::TellingRules::new(&besides, file).map_err(said)?);
        }
        let past = history::episodes(&alerting.node, (asked.from, asked.to), MOST)?;
        let lessons = alerting.node.book().lessons().clone();
        let live = |plan: &Arc<Plan>, rules: &EpisodeRules| {
            let script = Script { plan: Arc::clone(plan), rules: rules.clone(), lessons: lessons.clone() };
            let outcome = rehearsal::rehearse(&past.episodes, script, &mut Hurried { until });
            let slow = || {
                format!("{} episodes take longer than {} s to live through: ask for fewer days", past.episodes.len(), PATIENCE.as_secs())
            };
            if outcome.broken_off { Err(Refused::Wrong(slow())) } else { Ok(outcome) }
        };
        let in_force = live(&current.plan, &current.rules)?;
        let proposed = live(&Arc::new(proposed), &rules)?;
        Ok(rehearsed(&past, &in_force, &proposed))
    };
    Box::pin(async move {
        match tokio::task::spawn_blocking(run).await {
            Ok(done) => done,
            Err(_) => Err(Refused::Later("the rehearsal was given up".to_owned())),
        }
    })
}

fn rehearsed(past: &history::Lived, in_force: &Outcome, proposed: &Outcome) -> Rehearsed {
    let now = rehearsal::tally(&past.episodes, in_force, None);
    let then = rehearsal::tally(&past.episodes, proposed, Some(in_force));
    let told = |tally: &Tally| Told {
        told: tally.told,
        over: tally.over,
        waited: kept(tally, Kept::Waited),
        joined: kept(tally, Kept::Joined),
        maintained: kept(tally, Kept::Maintained),
        otherwise: kept(tally, Kept::Otherwise),
        later: tally.later.0,
        later_mean_ms: tally.later.1.unsigned_abs().checked_div(tally.later.0).unwrap_or(0),
        later_most_ms: tally.later.2.unsigned_abs(),
    };
    let mut told_then = BTreeMap::<&str, u64>::new();
    for episode in past.episodes.iter().filter(|episode| !episode.told.is_empty()) {
        *told_then.entry(name(&episode.alert.labels)).or_default() += 1;
    }
    let names = then.iter().map(|(alert, tally)| RehearsedName {
        alert: alert.clone(),
        episodes: tally.episodes,
        silenced: kept(tally, Kept::Silenced),
        told_then: told_then.get(alert.as_str()).copied().unwrap_or(0),
        in_force: now.get(alert).map(told).unwrap_or_default(),
        proposed: told(tally),
    });
    Rehearsed {
        episodes: past.episodes.len() as u64,
        missing: past.missing,
        since: past.since,
        messages: (in_force.messages, proposed.messages),
        names: names.collect(),
    }
}

fn kept(tally: &Tally, why: Kept) -> u64 {
    tally.kept.get(&why).copied().unwrap_or(0)
}

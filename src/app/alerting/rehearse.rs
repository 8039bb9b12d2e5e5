//! What would have been told within the last days with other policies: the history of this node, lived through with those in force and with others, one rehearsal at a
//! time, beside the requests. What came of the last one is kept, for whoever asked to fetch it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::watch;

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
use crate::api::alerting::Rehearsing;
use crate::api::alerting::Told;
use crate::app::alerting::Alerting;
use crate::app::alerting::Current;
use crate::app::alerting::history;
use crate::app::alerting::lock;
use crate::app::alerting::shown::View;
use crate::clock;
use crate::config::policies;
use crate::config::read::Problem;
use crate::model::alert::name;

/// Episodes of one rehearsal, the latest ones.
const MOST: usize = 50_000;
/// So long both halves take at most together: what needs longer holds for months and is looked at every few seconds.
const PATIENCE: Duration = Duration::from_secs(600);
/// It is looked so often whether it is to go on: of this many times that it is asked, once.
const LOOKS: u32 = 64;

/// A rehearsal, and what came of it: kept until the next one.
pub struct Job {
    id: String,
    /// Of the episodes of both halves those that were lived through,
    lived: AtomicU64,
    /// and how many there are; 0: they are still being read.
    of: AtomicU64,
    outcome: OnceLock<Result<Arc<Rehearsed>, Refused>>,
}

/// However a rehearsal ends, it has.
struct Ends(Arc<Job>);

impl Drop for Ends {
    fn drop(&mut self) {
        // Where something came of it, that stands.
        let _ = self.0.outcome.set(Err(Refused::Wrong("the rehearsal was given up; the node's log says why".to_owned())));
    }
}

/// Nobody looks at the messages themselves: they are counted.
struct Hurried<'j> {
    job: &'j Job,
    stop: &'j watch::Receiver<bool>,
    until: Instant,
    /// Lived through before this half.
    before: u64,
    asked: u32,
}

impl Watch for Hurried<'_> {
    fn told(&mut self, _: &Wanted, _: i64) {}

    fn goes_on(&mut self, begun: usize) -> bool {
        self.asked += 1;
        if !self.asked.is_multiple_of(LOOKS) {
            return true;
        }
        self.job.lived.store(self.before + begun as u64, Ordering::Relaxed);
        clock::now() < self.until && !*self.stop.borrow()
    }
}

/// What is lived through, and by which policies besides those in force.
struct Proposal {
    asked: Rehearsal,
    plan: Plan,
    rules: EpisodeRules,
}

/// Begins one beside the requests; comes to its id.
pub fn begin(view: &View, asked: Rehearsal) -> Result<String, Refused> {
    let (alerting, current) = (Arc::clone(&view.alerting), Arc::clone(&view.current));
    let proposal = proposed(&current, asked)?;
    let mut last = lock(&alerting.rehearsal);
    if last.as_ref().is_some_and(|job| job.outcome.get().is_none()) {
        return Err(Refused::Later("another rehearsal is under way".to_owned()));
    }
    let id = format!("{:016x}", fastrand::u64(..));
    let job = Arc::new(Job { id: id.clone(), lived: AtomicU64::new(0), of: AtomicU64::new(0), outcome: OnceLock::new() });
    *last = Some(Arc::clone(&job));
    drop(last);
    let ends = Ends(job);
    // Not waited for: whoever wants to know asks.
    drop(tokio::task::spawn_blocking(move || {
        let outcome = run(&alerting, &current, proposal, &ends.0);
        let _ = ends.0.outcome.set(outcome.map(Arc::new));
    }));
    Ok(id)
}

/// How far one is, or what came of it.
pub fn look(view: &View, id: &str) -> Result<Rehearsing, Refused> {
    let job = lock(&view.alerting.rehearsal).clone().filter(|job| job.id == id).ok_or(Refused::Unknown)?;
    match job.outcome.get() {
        Some(Ok(done)) => Ok(Rehearsing::Done(Arc::clone(done))),
        Some(Err(why)) => Err(why.clone()),
        None => Ok(Rehearsing::UnderWay { lived: job.lived.load(Ordering::Relaxed), of: job.of.load(Ordering::Relaxed) }),
    }
}

fn proposed(current: &Current, asked: Rehearsal) -> Result<Proposal, Refused> {
    let said = |problems: Vec<Problem>| Refused::Wrong(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    let (written, besides) = policies::of_text(&asked.policies).map_err(said)?;
    let rules = EpisodeRules::new(&written).map_err(said)?;
    let windows = Windows::new(&written.maintenance).map_err(said)?;
    let mut plan = Plan::clone(&current.plan).with_windows(windows);
    if let Some(file) = &current.written.routing {
        plan = plan.with_telling(telling::TellingRules::new(&besides, file).map_err(said)?);
    }
    Ok(Proposal { asked, plan, rules })
}

/// Lives through all of it twice.
fn run(alerting: &Alerting, current: &Current, proposal: Proposal, job: &Job) -> Result<Rehearsed, Refused> {
    let Proposal { asked, plan, rules } = proposal;
    let until = clock::now() + PATIENCE;
    let past = history::episodes(&alerting.node, (asked.from, asked.to), MOST)?;
    let all = past.episodes.len() as u64;
    job.of.store(2 * all, Ordering::Relaxed);
    let lessons = alerting.node.book().lessons().clone();
    let live = |plan: Arc<Plan>, rules: &EpisodeRules, before: u64| {
        let script = Script { plan, rules: rules.clone(), lessons: lessons.clone() };
        let outcome = rehearsal::rehearse(&past.episodes, script, &mut Hurried { job, stop: &alerting.stop, until, before, asked: 0 });
        let slow = || format!("{all} episodes take longer than {} s to live through: ask for fewer days", PATIENCE.as_secs());
        if outcome.broken_off { Err(Refused::Wrong(slow())) } else { Ok(outcome) }
    };
    let in_force = live(Arc::clone(&current.plan), &current.rules, 0)?;
    let proposed = live(Arc::new(plan), &rules, all)?;
    Ok(rehearsed(&asked, &past, &in_force, &proposed))
}

fn rehearsed(asked: &Rehearsal, past: &history::Lived, in_force: &Outcome, proposed: &Outcome) -> Rehearsed {
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
        from: asked.from,
        to: asked.to,
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

//! Alerts of everybody, from what comes in to what is told: what the settings' `alerting:` says, together with the book that the control shard keeps.
//!
//! Every node takes alerts and shows them; the one that leads the control shard tells receivers (`teller`). Left out on purpose: the rules (`alert`), how
//! receivers are asked (`notify`), how the API writes it (`api`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::alert::groups::Groups;
use crate::alert::groups::Plan;
use crate::alert::maintenance::Windows;
use crate::alert::policy::EpisodeRules;
use crate::alert::route::Routing;
use crate::alert::telling;
use crate::api;
use crate::api::alerting::Off;
use crate::api::alerting::Source;
use crate::app::alerting::metrics::Metrics;
use crate::app::alerting::shown::View;
use crate::app::check;
use crate::app::cluster::Seen;
use crate::clock;
use crate::config::alerting::Alerting as Written;
use crate::config::alerting::KEEP;
use crate::config::inputs::Input;
use crate::model::ShardId;
use crate::node::Handle;
use crate::notify::Receivers;
use crate::notify::doubts;

pub mod agreed;
pub mod degraded;
pub mod export;
pub mod heartbeat;
pub mod history;
pub mod metrics;
pub mod own;
pub mod receivers;
pub mod rehearse;
pub mod shown;
pub mod teller;

/// What the section says, ready for use.
pub struct Current {
    written: Written,
    plan: Arc<Plan>,
    /// What the book has to know.
    rules: EpisodeRules,
    receivers: Arc<Receivers>,
    inputs: Arc<[Input]>,
}

/// What a section means.
pub struct Judged {
    routing: Routing,
    telling: telling::TellingRules,
    rules: EpisodeRules,
    windows: Windows,
}

/// Alerts of everybody.
pub struct Alerting {
    node: Handle,
    seen: Option<Arc<Seen>>,
    /// This node's name.
    name: String,
    /// Where this node is, for whoever is told, unless `external_url` says otherwise.
    sender: String,
    started: Instant,
    current: Mutex<Option<Arc<Current>>>,
    groups: Mutex<Option<(Arc<Current>, Groups)>>,
    /// Why receivers did not take what they were told last.
    trouble: Mutex<BTreeMap<(String, u32), String>>,
    /// Why whoever waits for a sign of life did not take it.
    unheard: Mutex<Option<String>>,
    /// Why the history does not reach Kafka.
    unexported: Mutex<Option<String>>,
    metrics: Metrics,
    /// The last one, under way or done: one at a time, since it takes a core.
    rehearsal: Mutex<Option<Arc<rehearse::Job>>>,
    /// The node ends.
    stop: watch::Receiver<bool>,
}

/// What alerts need of the rest of the program.
pub struct Parts {
    /// The shards.
    pub node: Handle,
    /// The other nodes; `None`: there are none.
    pub seen: Option<Arc<Seen>>,
    /// This node's name.
    pub name: String,
    /// Where it is.
    pub sender: String,
    /// What the settings in force say.
    pub written: watch::Receiver<Option<Written>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a section means; an error says what is wrong with it.
pub fn judge(written: &Written) -> Result<Judged, Vec<String>> {
    let Some(routing) = &written.routing else { return Err(vec!["alerting: its file was not read".to_owned()]) };
    let policies = &written.policies;
    let of_topic = written.kafka.as_ref().and_then(|kafka| check::topic(kafka).err()).unwrap_or_default();
    let read = (telling::judge(&written.telling, routing), EpisodeRules::new(policies), Windows::new(&policies.maintenance));
    match read {
        (Ok((routing, telling)), Ok(rules), Ok(windows)) if of_topic.is_empty() => Ok(Judged { routing, telling, rules, windows }),
        (routing, rules, windows) => {
            let problems = [routing.err(), rules.err(), windows.err()].into_iter().flatten().flatten();
            Err(of_topic.iter().map(ToString::to_string).chain(problems.map(|problem| problem.to_string())).collect())
        }
    }
}

impl Alerting {
    /// Starts it all.
    pub fn start(parts: Parts, stop: &watch::Receiver<bool>, tasks: &mut JoinSet<()>) -> Arc<Alerting> {
        let Parts { node, seen, name, sender, written } = parts;
        let (current, groups, trouble, metrics) = (Mutex::default(), Mutex::default(), Mutex::default(), Metrics::default());
        let (unheard, unexported, rehearsal) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (started, stops) = (clock::now(), stop.clone());
        let alerting =
            Alerting { node, seen, name, sender, started, current, groups, trouble, unheard, unexported, metrics, rehearsal, stop: stops };
        let alerting = Arc::new(alerting);
        alerting.take(written.borrow().as_ref());
        tasks.spawn(heartbeat::keep(Arc::clone(&alerting), stop.clone()));
        tasks.spawn(export::keep(Arc::clone(&alerting), stop.clone()));
        tasks.spawn(teller::keep(Arc::clone(&alerting), written, stop.clone()));
        alerting
    }

    /// What the section says from now on.
    fn take(&self, written: Option<&Written>) {
        let before = self.current();
        let resets = written.is_some_and(|written| written.compat.reload_resets_timers);
        if before.as_ref().map(|before| &before.written) == written && !resets {
            return;
        }
        let current = written.and_then(|written| match judge(written) {
            Ok(judged) => self.made(written, judged, before.as_deref()).map(Arc::new),
            // Judged before it was taken: it was made by another version.
            Err(problems) => {
                tracing::error!("alerts go the ways they went before: {}", problems.join("; "));
                before.clone()
            }
        });
        let keep = current.as_ref().and_then(|current| current.written.keep).unwrap_or(KEEP);
        self.node.keep_history(keep);
        lock(&self.trouble).clear();
        *lock(&self.current) = current;
    }

    fn made(&self, written: &Written, judged: Judged, before: Option<&Current>) -> Option<Current> {
        let file = written.routing.as_deref()?;
        for doubt in doubts::doubts(file, &[]) {
            tracing::warn!(key = doubt.key, "a receiver will not be told as it is written: {}; {}", doubt.rule, doubt.remedy);
        }
        let external = written.external.as_deref().unwrap_or(&self.sender);
        let receivers = Arc::new(Receivers::new(file, external, before.map(|before| &*before.receivers)));
        let wants = |name: &str| (0..receivers.integrations(name)).map(|number| receivers.send_resolved(name, number)).collect();
        let all = file.receivers.iter().map(|receiver| (receiver.name.clone(), wants(&receiver.name)));
        let of = |name: &String| (0..receivers.integrations(name)).map(|number| (name.clone(), number)).collect::<Vec<_>>();
        let integrations = file.receivers.iter().flat_map(|receiver| of(&receiver.name));
        let single = integrations.filter(|(name, number)| !receivers.takes_several(name, *number));
        let single = single.filter_map(|(name, number)| Some((name, u32::try_from(number).ok()?))).collect();
        let plan = Plan::new(judged.routing, all.collect()).with_windows(judged.windows).with_telling(judged.telling).with_single(single);
        let plan = if written.compat.reload_resets_timers { plan.anew(self.now()) } else { plan };
        let inputs = written.inputs.clone().into();
        Some(Current { written: written.clone(), plan: Arc::new(plan), rules: judged.rules, receivers, inputs })
    }

    fn current(&self) -> Option<Arc<Current>> {
        lock(&self.current).clone()
    }

    /// Now, ms since 1970: never before what was applied, whichever node's clock that was by.
    fn now(&self) -> i64 {
        clock::wall_ms().max(self.node.progress(ShardId::CONTROL).borrow().at)
    }

    /// Asks the groups, as the book is now.
    fn with_groups<T>(&self, current: &Arc<Current>, ask: impl FnOnce(&mut Groups) -> T) -> T {
        let mut kept = lock(&self.groups);
        let known = kept.take().filter(|(of, _)| Arc::ptr_eq(of, current));
        let (of, mut groups) =
            known.unwrap_or_else(|| (Arc::clone(current), Groups::new(Arc::clone(&current.plan), self.node.hash_seed())));
        groups.look(&self.node.book());
        let answer = ask(&mut groups);
        groups.rest();
        *kept = Some((of, groups));
        answer
    }

    /// For the API: asked anew at each request.
    pub fn source(self: &Arc<Alerting>) -> Arc<Source> {
        let alerting = Arc::clone(self);
        Arc::new(move || match alerting.current() {
            Some(current) => Ok(Arc::new(View { alerting: Arc::clone(&alerting), current }) as Arc<dyn api::alerting::Alerting>),
            None => Err(Off::NoSection),
        })
    }

    /// What an operator should know.
    pub fn problems(&self) -> Vec<api::deps::Problem> {
        let problem = |((receiver, integration), why): (&(String, u32), &String)| api::deps::Problem {
            severity: api::deps::Severity::Warning,
            code: "receiver".to_owned(),
            about: format!("receiver {receiver}"),
            text: format!("integration {integration} of {receiver} does not take alerts: {why}"),
            remedy: "look at its side, or write it anew in alerting (`sluice config apply`); what it was to be told waits meanwhile"
                .to_owned(),
        };
        let unheard = lock(&self.unheard).as_ref().map(|why| api::deps::Problem {
            severity: api::deps::Severity::Warning,
            code: "heartbeat".to_owned(),
            about: "the heartbeat".to_owned(),
            text: format!("whoever waits for a sign of life does not take it: {why}"),
            remedy: "look at its side, or at alerting.heartbeat".to_owned(),
        });
        let unexported = lock(&self.unexported).as_ref().map(|why| api::deps::Problem {
            severity: api::deps::Severity::Warning,
            code: "alert-history".to_owned(),
            about: "the history of alerts".to_owned(),
            text: format!("it does not reach Kafka: {why}"),
            remedy: "look at the brokers, or at alerting.history.kafka; what is closed meanwhile is sent later".to_owned(),
        });
        lock(&self.trouble).iter().map(problem).chain(unheard).chain(unexported).collect()
    }
}

//! What the API asks of the state of alerts, as `app` hands it in: the alerts and how they stand, their groups, silences. A trait, so that the tests of
//! `api` need no shard. How it is written in Alertmanager's JSON stands in `api::alertmanager`.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::alert::episode::Episode;
use crate::alert::groups::outlook::Escalation;
use crate::alert::groups::outlook::Outlook;
use crate::alert::matcher::Matcher;
use crate::alert::silence::Silence;
use crate::api::deps::Later;
use crate::config::inputs::Input;
use crate::model::alert::Alert;
use crate::model::labels::Labels;

/// The state of alerts, as one node sees it.
pub trait Alerting: Send + Sync {
    /// Keeps alerts, and resolves when a majority has them. They are whole (see `wire::alerts`): labels without empty values, `starts`, `ends`, `updated`.
    /// What says nothing new costs no entry.
    fn post(&self, alerts: Vec<Alert>) -> Later<'_, Result<(), Refused>>;
    /// All alerts that are not over, or whose end is still watched, sorted by fingerprint, as they stand at this time.
    fn alerts(&self, now: i64) -> Vec<Standing>;
    /// The groups in which they are told, in any order. Alerts that are over are left out, and groups that have no other.
    fn groups(&self, now: i64) -> Vec<Group>;
    /// All that are kept, in any order.
    fn silences(&self) -> Vec<Arc<Silence>>;
    /// Makes a silence, or changes the one of its `id`, by Alertmanager's rules of what can be changed in place; comes to the id under which it is kept.
    /// It is right in itself (see `api::alertmanager::silences`); one that would begin in the past begins now.
    fn silence(&self, silence: Silence) -> Later<'_, Result<String, Refused>>;
    /// Lets one be over from now on.
    fn expire<'a>(&'a self, id: &'a str) -> Later<'a, Result<(), Refused>>;
    /// Somebody takes care of an alert.
    fn acknowledge(&self, fingerprint: u64, acknowledged: Acknowledged) -> Later<'_, Result<(), Refused>>;
    /// Alerts that are over, the latest first.
    fn history(&self, _: Wanted) -> Later<'_, Result<Past, Refused>> {
        Box::pin(std::future::ready(Ok(Past::default())))
    }
    /// Begins to find out what would have been told with other policies; nothing is told. Comes to an id to ask for it by.
    fn rehearse(&self, _: Rehearsal) -> Result<String, Refused> {
        Err(Refused::Unknown)
    }
    /// How far that is. `Refused::Unknown`: there is no such rehearsal, or a later one took its place.
    fn rehearsed(&self, _: &str) -> Result<Rehearsing, Refused> {
        Err(Refused::Unknown)
    }
    /// What each integration of each receiver is not told yet, in the order of the file; and whether this node is the one that tells.
    fn receivers(&self, _: i64) -> (Vec<Receiving>, bool) {
        (Vec::new(), false)
    }
    /// What is in force.
    fn status(&self) -> Status;
    /// How long an alert holds after its last word where the source does not say.
    fn resolve_timeout(&self) -> Duration;
    /// How long an alert that is posted to Alertmanager's API holds after its last word whatever the source says, where the settings say so.
    fn stale_after(&self) -> Option<Duration> {
        None
    }
    /// What is known of the alert with these labels, also where it is over.
    fn known(&self, labels: &Labels) -> Option<Alert>;
    /// What a receiver would be sent, text by text; nothing is sent. `Refused::Wrong`: a text that was asked for is no template.
    fn preview(&self, asked: Preview) -> Result<Vec<Previewed>, Refused> {
        drop(asked);
        Err(Refused::Unknown)
    }
    /// What the settings say of webhooks that bring alerts; others bring them in shapes that are known.
    fn inputs(&self) -> Arc<[Input]> {
        Arc::from([])
    }
    /// How far the time of entries is, which another node's clock may have set: what was noted counts by it, though this host's clock has not come as far.
    fn noted_until(&self) -> i64 {
        i64::MIN
    }
    /// Names of labels are of the old sort: ASCII letters, digits and `_`.
    fn classic_names(&self) -> bool {
        false
    }
    /// Sites whose pages may ask Alertmanager's API, as browsers say them in `Origin`.
    fn pages(&self) -> &[String] {
        &[]
    }
}

/// A time of the past, and policies to live through it with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearsal {
    /// As they would stand below `alerting`, or with it.
    pub policies: String,
    /// Episodes that began from then, ms since 1970,
    pub from: i64,
    /// to then.
    pub to: i64,
}

/// How far a rehearsal is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rehearsing {
    /// It goes on.
    UnderWay {
        /// Episodes that were lived through, those in force and those proposed,
        lived: u64,
        /// of so many; 0: they are still being read.
        of: u64,
    },
    /// What came of it.
    Done(Arc<Rehearsed>),
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rehearsed {
    /// Episodes that began from then, ms since 1970,
    pub from: i64,
    /// to then.
    pub to: i64,
    /// Episodes that were lived through.
    pub episodes: u64,
    /// So many are not at this node.
    pub missing: u64,
    /// There were too many: those before this, ms since 1970, were left out.
    pub since: Option<i64>,
    /// Messages with the policies in force, and with the others.
    pub messages: (u64, u64),
    /// By the alert's name.
    pub names: Vec<RehearsedName>,
}

/// What came of the episodes of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RehearsedName {
    /// The alert's name.
    pub alert: String,
    /// Episodes.
    pub episodes: u64,
    /// A silence kept them back then, and would again.
    pub silenced: u64,
    /// Of which somebody was told then.
    pub told_then: u64,
    /// With the policies in force,
    pub in_force: Told,
    /// and with the others.
    pub proposed: Told,
}

/// Of how many episodes somebody would have been told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// That they hold,
    pub told: u64,
    /// and that they are over.
    pub over: u64,
    /// Nobody: they ended while they waited whether they do.
    pub waited: u64,
    /// Nobody anew: they came while the end of another one was watched, or while it flapped.
    pub joined: u64,
    /// Nobody: maintenance.
    pub maintained: u64,
    /// Nobody: they were over before their group was looked at, or something else explained or muted them.
    pub otherwise: u64,
    /// Of those that would have been told: later than with the policies in force,
    pub later: u64,
    /// by so much on average,
    pub later_mean_ms: u64,
    /// and at most.
    pub later_most_ms: u64,
}

/// An alert that somebody has thought up, to see what would be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// To whom.
    pub receiver: String,
    /// The alert's.
    pub labels: Labels,
    /// The alert's.
    pub annotations: Labels,
    /// It is over.
    pub resolved: bool,
    /// This text instead of the receiver's own.
    pub text: Option<String>,
    /// When, ms since 1970.
    pub at: i64,
}

/// A text as it would be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previewed {
    /// Where it stands.
    pub key: String,
    /// The text.
    pub text: String,
    /// Why it is not what is written.
    pub instead: Option<String>,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no such silence or alert.
    Unknown,
    /// It is not right (400): why.
    Wrong(String),
    /// There are as many as there may be (503): what, and how many.
    Full(String),
    /// No majority, or not yet (503): why. Senders say it again.
    Later(String),
}

/// What is to be seen of the history.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// All must fit the labels.
    pub matchers: Vec<Matcher>,
    /// What held at some time from then, ms since 1970,
    pub from: i64,
    /// to then.
    pub to: i64,
    /// Only what has a smaller number.
    pub before: Option<u64>,
    /// So many at most.
    pub limit: usize,
}

/// Alerts that are over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Without a number: it may still be said to somebody that it is over.
    pub episodes: Vec<(Option<u64>, Episode)>,
    /// So many of those that were looked at are not at this node, which was not there.
    pub missing: u64,
    /// There may be more below this number.
    pub next: Option<u64>,
}

/// An alert, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The alert.
    pub alert: Alert,
    /// Its identity.
    pub fingerprint: u64,
    /// Whether it is told.
    pub state: State,
    /// By which silences it is not told, sorted.
    pub silenced_by: Arc<[String]>,
    /// By which alerts it is not told: fingerprints in `%016x`, sorted.
    pub inhibited_by: Arc<[String]>,
    /// By which time intervals it is not told, sorted.
    pub muted_by: Arc<[String]>,
    /// Whom it goes to, in the order of the routes.
    pub receivers: Arc<[String]>,
    /// Who takes care of it.
    pub acknowledged: Option<Arc<Acknowledged>>,
    /// What the policies come to for it.
    pub policed: Policed,
}

/// What the policies come to for an alert.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policed {
    /// How bad it is, 1 (the worst) to 5.
    pub level: u8,
    /// How bad it was at its worst, since it came.
    pub worst: u8,
    /// Since when it flaps, ms since 1970.
    pub flaps: Option<i64>,
    /// Until when nobody is told, and why.
    pub waits: Option<(i64, Arc<str>)>,
    /// It is over, and that counts from then on.
    pub watched: Option<i64>,
    /// So often it came again while its end was watched.
    pub again: u64,
    /// Since when nobody says it as often as it usually is said, and how often that is, ms.
    pub unconfirmed: Option<(i64, i64)>,
    /// Who is told besides, and when.
    pub escalation: Vec<Escalation>,
}

/// An integration of a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiving {
    /// The receiver.
    pub receiver: String,
    /// Which of its integrations.
    pub integration: u32,
    /// Of which sort it is, as in the metrics.
    pub kind: &'static str,
    /// What it is not told yet.
    pub outlook: Outlook,
    /// Why it did not take what it was told last, as far as this node knows.
    pub trouble: Option<String>,
}

/// Whether an alert is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody looked at it yet.
    Unprocessed,
    /// It is.
    Active,
    /// It is not.
    Suppressed,
}

impl State {
    /// As Alertmanager writes it.
    pub fn word(self) -> &'static str {
        match self {
            State::Unprocessed => "unprocessed",
            State::Active => "active",
            State::Suppressed => "suppressed",
        }
    }
}

/// That somebody takes care.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// Who.
    pub by: String,
    /// What they say.
    pub comment: String,
    /// When, ms since 1970.
    pub at: i64,
}

/// Alerts that are told together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What they have in common by the route.
    pub labels: Labels,
    /// Labels of the route itself.
    pub route_labels: Labels,
    /// Its key, as in what is sent.
    pub key: String,
    /// The receiver.
    pub receiver: String,
    /// By which time intervals it is not told now.
    pub muted_by: Arc<[String]>,
    /// Its alerts, in any order; their `receivers` are all of them, not only this group's.
    pub alerts: Vec<Standing>,
}

/// What is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The routing as a file of Alertmanager, without secrets; empty: there is none.
    pub original: String,
    /// Its receivers, in the file's order.
    pub receivers: Vec<Receiver>,
    /// The nodes: name and address, this one among them; one of one node is alone.
    pub peers: Vec<(String, String)>,
    /// This node's name.
    pub name: String,
    /// Whether the nodes have a majority.
    pub ready: bool,
}

/// Somebody who is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receiver {
    /// The name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
}

/// Why there is no such state at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Off {
    /// The settings have no section `alerting`.
    NoSection,
    /// The node is only starting.
    Starting,
}

/// The state of alerts, asked anew at each request: a reload may bring it.
pub type Source = dyn Fn() -> Result<Arc<dyn Alerting>, Off> + Send + Sync;

//! Changing what runs without stopping it: the node's file read again, or the cluster's settings changed by whomever. Everything is prepared and
//! judged first, then swapped; a file with one problem changes nothing. What can change: sinks, groups, limits, certificates, access. What cannot
//! is refused with its reason.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex as SyncMutex;
use std::sync::PoisonError;

use tokio::sync::Mutex;
use tokio::sync::watch;

use crate::api::cluster::SETTINGS;
use crate::api::deps::Later;
use crate::api::deps::Problem;
use crate::api::deps::Severity;
use crate::api::settings;
use crate::api::settings::Refused;
use crate::api::settings::Wanted;
use crate::app::Fault;
use crate::app::certificates::Certificates;
use crate::app::check;
use crate::app::guard::Guard;
use crate::app::probes::Agreed;
use crate::app::probes::Told;
use crate::app::probing::Probing;
use crate::app::settings as agreed;
use crate::app::sinks::SinkSet;
use crate::app::translate;
use crate::config::Config;
use crate::config::alerting::Alerting;
use crate::config::groups::Groups;
use crate::config::push::Push;
use crate::failpoint;
use crate::ingest::Ingest;
use crate::node::Handle;
use crate::node::offer::ProposeError;
use crate::shard::settings::Version;

/// What takes a new configuration.
pub struct Parts {
    /// The shards.
    pub node: Handle,
    /// The sinks.
    pub sinks: Arc<SinkSet>,
    /// Remote write.
    pub ingest: Arc<Ingest<Handle>>,
    /// Listener's and node's certificates.
    pub certificates: Arc<Certificates>,
    /// Who is let in.
    pub guard: Arc<Guard>,
    /// Modules of probes.
    pub probing: Arc<Probing>,
}

/// What is in force.
struct State {
    /// The node's file as it was read last.
    file: Config,
    /// What runs: the node's own part of its file, and the settings of `version`.
    in_force: Config,
    version: u64,
}

/// What a reload needs.
pub struct Reload {
    /// Held over the whole of a change, so that two do not mix.
    state: Mutex<State>,
    path: Option<PathBuf>,
    /// The node's name.
    name: String,
    /// The node is all there is: its file counts.
    alone: bool,
    parts: Parts,
    /// For whoever acts on groups by itself (`pins`).
    groups: watch::Sender<Groups>,
    /// For the probes and whoever tells of alerts.
    looked_at: watch::Sender<Agreed>,
    /// For whoever tells of all alerts.
    alerting: watch::Sender<Option<Alerting>>,
    /// For whoever makes samples of what was pushed.
    push: watch::Sender<Push>,
    /// What a person should know of file and settings.
    trouble: SyncMutex<Vec<Problem>>,
}

impl Reload {
    /// Of the running parts. `file` as it was read, `in_force` as it runs.
    pub fn new((file, path): (Config, Option<PathBuf>), in_force: Config, name: String, alone: bool, parts: Parts) -> Reload {
        let groups = watch::Sender::new(in_force.groups.clone());
        let looked_at = watch::Sender::new(looked_at(&in_force));
        let push = watch::Sender::new(in_force.push.clone());
        let alerting = watch::Sender::new(in_force.alerting.clone());
        parts.node.limit_groups(translate::group_limits(&in_force.groups, in_force.limits.per_group));
        // Which version that was is found out by the first look, which changes nothing then.
        let state = State { file, in_force, version: 0 };
        Reload { state: Mutex::new(state), path, name, alone, parts, groups, looked_at, alerting, push, trouble: SyncMutex::default() }
    }

    /// The groups' settings in force; changes with every reload, even one that changes nothing in them.
    pub fn groups(&self) -> watch::Receiver<Groups> {
        self.groups.subscribe()
    }

    /// Jobs of probes, and whom alerts are told to; as `groups`.
    pub fn looked_at(&self) -> watch::Receiver<Agreed> {
        self.looked_at.subscribe()
    }

    /// Who is told of all alerts; as `groups`.
    pub fn alerting(&self) -> watch::Receiver<Option<Alerting>> {
        self.alerting.subscribe()
    }

    /// What is done with what is pushed; as `groups`.
    pub fn push(&self) -> watch::Receiver<Push> {
        self.push.subscribe()
    }

    /// What is wrong between file and settings.
    pub fn problems(&self) -> Vec<Problem> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn read(&self) -> Result<Config, Vec<String>> {
        let Some(file) = &self.path else {
            return Err(vec!["this node has no configuration file (`sluice dev`); start it with `sluice run --config FILE`".to_owned()]);
        };
        check::file(file).map_err(|fault| match fault {
            Fault::Config(problems) => problems,
            other => vec![other.to_string()],
        })
    }

    /// Reads the file again. Says what changed, or everything that is wrong.
    pub async fn run(&self) -> Result<String, Vec<String>> {
        let mut state = self.state.lock().await;
        let new = self.read()?;
        let fixed = state.file.fixed_while_running(&new);
        if !fixed.is_empty() {
            return Err(fixed.iter().map(|(key, reason)| format!("{key}: {reason}")).collect());
        }
        // Of several nodes a file proposes only what was changed in it while the node ran: one that was forgotten brings nothing old back.
        let proposes = !new.agrees_with(&state.in_force) && (self.alone || !new.agrees_with(&state.file));
        if proposes {
            agreed::undelivered(&self.parts.node, &state.in_force, &new, &[]).map_err(|refused| vec![in_words(refused)])?;
        }
        // Certificates first: they are all prepared before one is exchanged, and nobody else has to agree.
        let mut changed = self.parts.certificates.reload(new.tls.as_ref())?;
        if proposes {
            let before = self.parts.node.cluster_settings().current.number;
            agreed::propose(&self.parts.node, before, &new.settings, agreed::by_file(&self.name))
                .await
                .map_err(|error| vec![format!("the settings were not taken: {error}")])?;
        }
        if self.parts.guard.reload(new.access) {
            changed.push("access changed".to_owned());
        }
        if self.parts.probing.reload(&new.probe) {
            changed.push("probe changed".to_owned());
        }
        if state.in_force.limits != new.limits {
            changed.push("limits changed".to_owned());
        }
        state.in_force = new.with_settings_of(&state.in_force);
        state.file = new;
        changed.extend(self.bring_in_force(&mut state).await?);
        self.take_over(&state);
        if !state.file.agrees_with(&state.in_force) {
            changed.push(format!(
                "its groups and sinks are not those of version {} of the cluster's settings and were not changed just now: `sluice config diff` shows how, `sluice config apply` makes them so",
                state.version
            ));
        }
        Ok(if changed.is_empty() { "nothing changed".to_owned() } else { changed.join(", ") })
    }

    /// Makes a text the next version of the settings, and carries it out here.
    async fn apply(&self, wanted: Wanted, by: &str) -> Result<String, Refused> {
        let mut state = self.state.lock().await;
        let current = self.parts.node.cluster_settings().current.number;
        if let Some(base) = wanted.base.filter(|base| *base != current) {
            return Err(Refused::Moved(format!(
                "this is meant to follow version {base} of the settings, and version {current} is in force"
            )));
        }
        let new = agreed::judge(&state.in_force, &wanted.text).map_err(Refused::Wrong)?;
        if let Some(unknown) = wanted.discard.iter().find(|name| !state.in_force.sinks.iter().any(|sink| sink.name == **name)) {
            return Err(Refused::Wrong(vec![format!("no sink is called `{unknown}`: nothing of it can be discarded")]));
        }
        agreed::undelivered(&self.parts.node, &state.in_force, &new, &wanted.discard)?;
        agreed::propose(&self.parts.node, current, &wanted.text, by.to_owned()).await.map_err(|error| match error {
            ProposeError::Void(reason) => Refused::Moved(reason),
            other => Refused::Later(other.to_string()),
        })?;
        let changed = self.bring_in_force(&mut state).await.map_err(|problems| Refused::Later(problems.join("; ")))?;
        self.take_over(&state);
        Ok(if changed.is_empty() { "nothing changed".to_owned() } else { changed.join(", ") })
    }

    /// Carries out the newest version if this node has not yet.
    pub async fn follow(&self) {
        let mut state = self.state.lock().await;
        if self.parts.node.cluster_settings().current.number == state.version {
            return;
        }
        match self.bring_in_force(&mut state).await {
            Ok(changed) => {
                if !changed.is_empty() {
                    tracing::info!(version = state.version, "the cluster's settings: {}", changed.join(", "));
                    self.take_over(&state);
                }
                self.tell(&state, None);
            }
            Err(problems) => {
                // Said once a version; the node goes on with what it has.
                let problems = problems.join("; ");
                state.version = self.parts.node.cluster_settings().current.number;
                tracing::error!(version = state.version, "the cluster's settings are not carried out here: {problems}");
                self.tell(&state, Some(problems));
            }
        }
    }

    /// Groups and limits, for those who look at each request.
    fn take_over(&self, state: &State) {
        self.parts.ingest.reload(&state.in_force.groups, &state.in_force.limits, &check::asked(&state.in_force));
        self.parts.node.limit_groups(translate::group_limits(&state.in_force.groups, state.in_force.limits.per_group));
        self.groups.send_replace(state.in_force.groups.clone());
        self.looked_at.send_replace(looked_at(&state.in_force));
        self.alerting.send_replace(state.in_force.alerting.clone());
        self.push.send_replace(state.in_force.push.clone());
        self.tell(state, None);
    }

    fn tell(&self, state: &State, problems: Option<String>) {
        let mut trouble = Vec::new();
        let problem = |code: &str, severity, text, remedy: &str| Problem {
            severity,
            code: code.to_owned(),
            about: SETTINGS.to_owned(),
            text,
            remedy: remedy.to_owned(),
        };
        if let Some(problems) = problems {
            let text = format!("version {} is not carried out on this node, which goes on with what it had: {problems}", state.version);
            trouble.push(problem(
                "settings_failed",
                Severity::Error,
                text,
                "mend it by another version (`sluice config apply`), or upgrade this node",
            ));
        }
        if !self.alone && !state.file.agrees_with(&state.in_force) {
            let text = format!(
                "this node's file says other groups or sinks than version {} of the cluster's settings, which counts",
                state.version
            );
            trouble.push(problem(
                "settings_differ",
                Severity::Warning,
                text,
                "`sluice config diff` shows it; change the file, or `sluice config apply` it",
            ));
        }
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// From what runs to the newest version. Says what changed.
    async fn bring_in_force(&self, state: &mut State) -> Result<Vec<String>, Vec<String>> {
        let version = self.parts.node.cluster_settings().current.clone();
        let new = agreed::read(&state.in_force, &version).map_err(|problem| vec![problem])?;
        let changed = changes(&state.in_force, &new);
        if !changed.is_empty() {
            failpoint::reach(failpoint::Place::SettingsAgreed);
            // Sinks leave before the shards forget them, and come after the shards know them: neither loses its place.
            let mut between = new.clone();
            between.sinks.retain(|sink| state.in_force.sinks.contains(sink));
            self.arrange(between).await?;
            failpoint::reach(failpoint::Place::SettingsHalf);
            agreed::spread(&self.parts.node, &new).await;
            self.arrange(new.clone()).await?;
        }
        (state.in_force, state.version) = (new, version.number);
        Ok(changed)
    }

    /// Stops and starts sinks off the async workers: it may wait for Kafka.
    async fn arrange(&self, config: Config) -> Result<(), Vec<String>> {
        let sinks = Arc::clone(&self.parts.sinks);
        let arranged = tokio::task::spawn_blocking(move || sinks.arrange(&config)).await;
        match arranged {
            Ok(Ok(undone)) => {
                undone.iter().for_each(|what| tracing::warn!("aborted: {what}"));
                Ok(())
            }
            Ok(Err(error)) => Err(vec![error]),
            Err(_) => Err(vec!["a sink panicked".to_owned()]),
        }
    }
}

impl settings::Settings for Reload {
    fn version(&self, number: Option<u64>) -> Option<Version> {
        let settings = self.parts.node.cluster_settings();
        match number {
            None => Some(settings.current.clone()),
            Some(number) => settings.version(number).cloned(),
        }
    }

    fn earlier(&self) -> Vec<Version> {
        self.parts.node.cluster_settings().earlier.clone()
    }

    fn file(&self) -> Result<Option<String>, Vec<String>> {
        if self.path.is_none() {
            return Ok(None);
        }
        self.read().map(|config| Some(config.settings))
    }

    fn apply<'a>(&'a self, wanted: Wanted, by: &'a str) -> Later<'a, Result<String, Refused>> {
        Box::pin(Reload::apply(self, wanted, by))
    }
}

fn looked_at(config: &Config) -> Agreed {
    // Where there are routes, sluice's own alerts go by them, too.
    let told = Told { notify: config.notify.clone(), by_routes: config.alerting.is_some() };
    (config.jobs.clone(), told, config.probe.clone())
}

fn in_words(refused: Refused) -> String {
    match refused {
        Refused::Undelivered(losing) => {
            let each: Vec<String> = losing.iter().map(|(sink, bytes)| format!("{sink} ({bytes} bytes)")).collect();
            let names: Vec<String> = losing.iter().map(|(sink, _)| format!("--discard {sink}")).collect();
            format!(
                "sinks would go with what they have not delivered: {}; keep them until they have, or `sluice config apply FILE {}`",
                each.join(", "),
                names.join(" ")
            )
        }
        Refused::Wrong(problems) => problems.join("; "),
        Refused::Moved(text) | Refused::Later(text) => text,
    }
}

fn changes(present: &Config, new: &Config) -> Vec<String> {
    let mut changed = Vec::new();
    for sink in &new.sinks {
        match present.sinks.iter().find(|other| other.name == sink.name) {
            None => changed.push(format!("sink {} added", sink.name)),
            Some(other) if other != sink => changed.push(format!("sink {} changed", sink.name)),
            Some(_) => {}
        }
    }
    let gone = present.sinks.iter().filter(|sink| !new.sinks.iter().any(|other| other.name == sink.name));
    changed.extend(gone.map(|sink| format!("sink {} removed", sink.name)));
    if present.groups != new.groups {
        changed.push("groups changed".to_owned());
    }
    if present.jobs != new.jobs {
        changed.push("probe jobs changed".to_owned());
    }
    if present.notify != new.notify {
        changed.push("notify changed".to_owned());
    }
    if present.alerting != new.alerting {
        changed.push("alerting changed".to_owned());
    }
    if present.push != new.push {
        changed.push("push changed".to_owned());
    }
    changed
}

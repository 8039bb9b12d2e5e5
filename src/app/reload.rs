//! Reading the configuration again while running: everything is prepared and judged first, then swapped; a file with one problem changes
//! nothing. What can change: sinks, groups, limits, certificates. What cannot is refused with its reason.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::sync::watch;

use crate::app::Fault;
use crate::app::certificates::Certificates;
use crate::app::check;
use crate::app::guard::Guard;
use crate::app::sinks::SinkSet;
use crate::app::translate;
use crate::config::Config;
use crate::config::groups::Groups;
use crate::ingest::Ingest;
use crate::node::Handle;

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
}

/// What a reload needs.
pub struct Reload {
    /// As it is in force. Held over the whole reload, so that two do not mix.
    config: Mutex<Config>,
    file: Option<PathBuf>,
    parts: Parts,
    /// For whoever acts on groups by itself (`pins`).
    groups: watch::Sender<Groups>,
}

impl Reload {
    /// Of the running parts.
    pub fn new(config: Config, file: Option<PathBuf>, parts: Parts) -> Reload {
        let groups = watch::Sender::new(config.groups.clone());
        Reload { config: Mutex::new(config), file, parts, groups }
    }

    /// The groups' settings in force; changes with every reload, even one that changes nothing in them.
    pub fn groups(&self) -> watch::Receiver<Groups> {
        self.groups.subscribe()
    }

    /// Says what changed, or everything that is wrong.
    pub async fn run(&self) -> Result<String, Vec<String>> {
        let Some(file) = &self.file else {
            return Err(vec!["this node has no configuration file (`sluice dev`); start it with `sluice run --config FILE`".to_owned()]);
        };
        let mut present = self.config.lock().await;
        let new = check::file(file).map_err(|fault| match fault {
            Fault::Config(problems) => problems,
            other => vec![other.to_string()],
        })?;
        let fixed = present.fixed_while_running(&new);
        if !fixed.is_empty() {
            return Err(fixed.iter().map(|(key, reason)| format!("{key}: {reason}")).collect());
        }
        // Certificates first: they are all prepared before one is exchanged, and nobody else has to agree.
        let mut changed = self.parts.certificates.reload(new.tls.as_ref())?;
        changed.extend(changes(&present, &new));
        // Sinks leave before the shards forget them, and come after the shards know them: neither loses its place.
        let mut between = new.clone();
        between.sinks.retain(|sink| present.sinks.contains(sink));
        self.arrange(between).await?;
        let settings = translate::sinks(&new, self.parts.node.shards().len());
        self.parts.node.set_sinks(&settings).await.map_err(|error| vec![format!("the shards did not take the settings: {error}")])?;
        self.arrange(new.clone()).await?;
        if self.parts.guard.reload(new.access) {
            changed.push("access changed".to_owned());
        }
        self.parts.ingest.reload(&new.groups, &new.limits);
        self.groups.send_replace(new.groups.clone());
        *present = new;
        Ok(if changed.is_empty() { "nothing changed".to_owned() } else { changed.join(", ") })
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
    if present.limits != new.limits {
        changed.push("limits changed".to_owned());
    }
    changed
}

//! The configuration: YAML in, plain values out, and every problem at once.
//!
//! This module reads text. It opens no socket, resolves no name and knows no other part; what only another part can judge (a property
//! that librdkafka does not know) that part checks, and `app` shows it beside what is found here. Holding a [`Config`] means that
//! every rule written here held.

pub mod alerting;
pub mod cases;
pub mod cluster;
pub mod compat;
pub mod file;
pub mod groups;
pub mod import;
pub mod inputs;
pub mod jobs;
pub mod kafka;
pub mod limits;
pub mod notify;
pub mod policies;
pub mod probe;
pub mod push;
pub mod read;
pub mod receivers;
pub mod redact;
pub mod remote_write;
pub mod routing;
pub mod settings;
pub mod shape;
pub mod sinks;
pub mod telling;
pub mod tls;
pub mod tree;
pub mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::alerting::Alerting;
use crate::config::cluster::Cluster;
use crate::config::groups::Groups;
use crate::config::jobs::Jobs;
use crate::config::limits::Limits;
use crate::config::notify::Notify;
use crate::config::probe::Probe;
use crate::config::push::Push;
use crate::config::read::Node;
use crate::config::read::Problem;
use crate::config::read::Problems;
use crate::config::read::Section;
use crate::config::sinks::Sink;
use crate::config::tls::Tls;

/// What one file says, with every default filled in.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of this sluice towards the outside: Kafka's transactional ids, headers of rows.
    pub name: String,
    /// Remote write, API, status page, metrics.
    pub listen: SocketAddr,
    /// The listener's certificate; `None`: it speaks without TLS.
    pub tls: Option<Tls>,
    /// Where a token is wanted.
    pub access: Access,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Number of data shards, fixed at the first start.
    pub shards: u16,
    /// The nodes; `None`: this one is all there is.
    pub cluster: Option<Cluster>,
    /// How series find their group and replica.
    pub groups: Groups,
    /// Bounds on what senders may do.
    pub limits: Limits,
    /// Where rows go.
    pub sinks: Vec<Sink>,
    /// This node's own metrics go through the sinks, as group `sluice`.
    pub own_metrics: bool,
    /// How things are probed, and whom `/probe` may be pointed at.
    pub probe: Probe,
    /// What is looked at from outside without being asked for.
    pub jobs: Jobs,
    /// Whom alerts are told to.
    pub notify: Notify,
    /// Who is told of all alerts; `None`: sluice takes none, and tells of its own by `notify`.
    pub alerting: Option<Alerting>,
    /// What is done with what short-lived jobs push.
    pub push: Push,
    /// The replicated log on disk.
    pub log: Log,
    /// What the process says about itself.
    pub logging: Logging,
    /// `groups` and `sinks` as text of their own: what nodes agree on.
    pub settings: String,
    /// On which line every key stands, for problems that are found later.
    lines: Vec<(String, usize)>,
}

/// Where a token is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Nowhere, whoever listens and whatever tokens there are.
    pub allow_unauthenticated: bool,
    /// Not for `/metrics`.
    pub metrics_without_token: bool,
}

/// The replicated log on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// How long bodies are kept that no sink needs any more.
    pub keep: Duration,
    /// Share of the disk, in percent, below which no more samples are taken.
    pub reserve_percent: u8,
}

/// What the process says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Logging {
    /// The least that is said.
    pub level: Level,
    /// For people or for machines.
    pub format: Format,
}

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Somebody must act.
    Error,
    /// Recovered alone.
    Warn,
    /// An operator's action worked.
    Info,
    /// For the makers.
    Debug,
}

/// How it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One line of text each.
    Text,
    /// One JSON object each.
    Json,
}

impl Default for Log {
    fn default() -> Log {
        Log { keep: Duration::from_secs(60), reserve_percent: 10 }
    }
}

impl Default for Logging {
    fn default() -> Logging {
        Logging { level: Level::Info, format: Format::Text }
    }
}

/// The address that is listened on, and asked, unless something else is said.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:9201";
/// Data shards unless the file says otherwise: enough to spread over three nodes twice.
pub const SHARDS_DEFAULT: u16 = 6;

impl Config {
    /// What all nodes of a cluster must say alike, as text to be compared: everything but addresses of this node, paths, memory and logging.
    pub fn agreed(&self) -> String {
        let nodes = self.cluster.as_ref().map(|cluster| &cluster.nodes);
        format!(
            "{:?}",
            (
                &self.name,
                self.shards,
                nodes,
                &self.groups,
                &self.sinks,
                self.log.keep,
                &self.jobs,
                (&self.notify, &self.alerting, &self.push)
            )
        )
    }

    /// Reads a configuration, or says everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Config, Vec<Problem>> {
        let tree = tree_of(text)?;
        let problems = Problems::default();
        let config = read(&Node::root(&tree, &problems).section());
        match (config, problems.take()) {
            (Some(mut config), problems) if problems.is_empty() => {
                config.settings = settings::of_file(&tree);
                lines(&tree, String::new(), &mut config.lines);
                Ok(config)
            }
            (_, problems) => Err(problems),
        }
    }

    /// This node's own part, with other settings.
    pub fn with_settings(&self, text: &str) -> Result<Config, Vec<Problem>> {
        let settings::Settings { groups, sinks, keep, jobs, notify, alerting, push } = settings::parse(text)?;
        let log = Log { keep, ..self.log };
        Ok(Config { groups, sinks, log, jobs, notify, alerting, push, settings: text.to_owned(), ..self.clone() })
    }

    /// This node's own part, with the settings of another.
    pub fn with_settings_of(&self, other: &Config) -> Config {
        let log = Log { keep: other.log.keep, ..self.log };
        let (groups, sinks) = (other.groups.clone(), other.sinks.clone());
        let (jobs, notify, alerting, push) = (other.jobs.clone(), other.notify.clone(), other.alerting.clone(), other.push.clone());
        Config { groups, sinks, log, jobs, notify, alerting, push, settings: other.settings.clone(), ..self.clone() }
    }

    /// Whether both say the same of what nodes agree on, however it is written.
    pub fn agrees_with(&self, other: &Config) -> bool {
        (&self.groups, &self.sinks, self.log.keep, &self.jobs, &self.notify, (&self.alerting, &self.push))
            == (&other.groups, &other.sinks, other.log.keep, &other.jobs, &other.notify, (&other.alerting, &other.push))
    }

    /// The line of a key such as `sinks[0].kafka.topic`; where it is not written, of the nearest section around it.
    pub fn line_of(&self, key: &str) -> usize {
        let mut key = key;
        loop {
            if let Some((_, line)) = self.lines.iter().find(|(known, _)| known == key) {
                return *line;
            }
            match key.rfind(['.', '[']) {
                Some(end) => key = &key[..end],
                None => return 0,
            }
        }
    }

    /// The configuration of `sluice dev`: everything at its default, no sink.
    pub fn for_dev(listen: SocketAddr, data_dir: PathBuf) -> Config {
        Config {
            name: "dev".into(),
            listen,
            tls: None,
            // A node to look at. On loopback tokens work as anywhere; elsewhere it is for whoever can reach it, which `dev` says.
            access: Access { allow_unauthenticated: !listen.ip().is_loopback(), ..Access::default() },
            data_dir,
            shards: 2,
            cluster: None,
            groups: Groups::default(),
            limits: Limits::default(),
            sinks: Vec::new(),
            own_metrics: true,
            probe: Probe::default(),
            jobs: Jobs::default(),
            notify: Notify::default(),
            alerting: None,
            push: Push::default(),
            log: Log::default(),
            logging: Logging { level: Level::Warn, format: Format::Text },
            settings: String::new(),
            lines: Vec::new(),
        }
    }

    /// The keys that differ between `self` and `new` and cannot change while the process runs, each with the reason.
    pub fn fixed_while_running(&self, new: &Config) -> Vec<(&'static str, &'static str)> {
        let mut fixed = Vec::new();
        let mut check = |differs: bool, key, reason| {
            if differs {
                fixed.push((key, reason));
            }
        };
        check(self.name != new.name, "name", "it is part of Kafka's transactional ids; restart to change it");
        check(self.listen != new.listen, "listen", "the socket is open; restart to change it");
        let both = self.tls.is_some() == new.tls.is_some();
        check(!both, "tls", "the listener began with it, or without it; restart to change that (other files may be named at any time)");
        check(self.data_dir != new.data_dir, "data_dir", "the data is open there; restart to change it");
        check(self.shards != new.shards, "shards", "every group belongs to one of the shards for good");
        check(self.cluster != new.cluster, "cluster", "members do not change by the file; restart where only an address changed");
        check(self.log != new.log, "log", "the store is open with it; restart to change it");
        let connections = |config: &Config| config.limits.connections;
        check(connections(self) != connections(new), "limits.connections", "the listener has it; restart to change it");
        let age = |config: &Config| config.limits.connection_age;
        check(age(self) != age(new), "limits.connection_age", "the listener has it; restart to change it");
        check(self.own_metrics != new.own_metrics, "own_metrics", "it is set up once; restart to change it");
        check(self.logging != new.logging, "logging", "it is set up once; restart to change it");
        fixed
    }
}

fn tree_of(text: &str) -> Result<tree::Tree, Vec<Problem>> {
    tree::parse(text).map_err(broken)
}

fn broken(broken: tree::Broken) -> Vec<Problem> {
    vec![Problem {
        line: broken.line,
        key: "(the file)".into(),
        value: String::new(),
        rule: format!("is no YAML: {}", broken.reason),
        remedy: "look at this line and those next to it: indentation, tabs, a missing `:` or quote".into(),
    }]
}

fn read(top: &Section<'_>) -> Option<Config> {
    let name = top.or("name", "sluice".to_string(), values::name);
    let listen_default = SocketAddr::from(([127, 0, 0, 1], 9201));
    let listen = top.or("listen", listen_default, values::listen);
    let data_dir = top.must("data_dir", "write where sluice may keep its data: data_dir: /var/lib/sluice", path);
    let access = Access {
        allow_unauthenticated: top.or("allow_unauthenticated", false, values::switch),
        metrics_without_token: top.or("metrics_without_token", false, values::switch),
    };
    let tls = top.below("tls").and_then(|section| tls::read(&section));
    let shards = top.or("shards", u64::from(SHARDS_DEFAULT), values::number(1..=256));
    let groups = top.below("groups").map(|section| groups::read(&section)).unwrap_or_default();
    let limits = top.below("limits").map(|section| limits::read(&section)).unwrap_or_default();
    let sinks = sinks::read(top);
    let own_metrics = top.or("own_metrics", true, values::switch);
    let probe = top.below("probe").map(|section| {
        let read = (probe::read(&section), jobs::read(&section));
        section.finish();
        read
    });
    let (probe, jobs) = probe.unwrap_or_default();
    let notify = top.below("notify").map(|section| notify::read(&section)).unwrap_or_default();
    let alerting = top.below("alerting").map(|section| alerting::read(&section));
    let push = top.below("push").map(|section| push::read(&section)).unwrap_or_default();
    let log = top.below("log").map(|section| read_log(&section)).unwrap_or_default();
    let logging = top.below("logging").map(|section| read_logging(&section)).unwrap_or_default();
    let (cluster, cluster_name) = top.below("cluster").map_or((None, None), |section| cluster::read(&section));
    let name = cluster_name.unwrap_or(name);
    top.finish();
    let shards = u16::try_from(shards).unwrap_or(SHARDS_DEFAULT);
    Some(Config {
        name,
        listen,
        tls,
        access,
        data_dir: data_dir?,
        shards,
        cluster,
        groups,
        limits,
        sinks,
        own_metrics,
        probe,
        jobs,
        notify,
        alerting,
        push,
        log,
        logging,
        settings: String::new(),
        lines: Vec::new(),
    })
}

fn lines(tree: &tree::Tree, key: String, out: &mut Vec<(String, usize)>) {
    match &tree.value {
        tree::Value::Pairs(pairs) => {
            for (name, value) in pairs {
                let tree::Value::Scalar(word) = &name.value else { continue };
                let below = if key.is_empty() { word.clone() } else { format!("{key}.{word}") };
                out.push((below.clone(), name.line));
                lines(value, below, out);
            }
        }
        tree::Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                let below = format!("{key}[{index}]");
                out.push((below.clone(), item.line));
                lines(item, below, out);
            }
        }
        tree::Value::Scalar(_) | tree::Value::Empty => {}
    }
}

fn path(text: &str) -> Result<PathBuf, read::Refusal> {
    if text.is_empty() {
        return Err(("must not be empty".into(), "for example /var/lib/sluice".into()));
    }
    Ok(PathBuf::from(text))
}

fn read_log(section: &Section<'_>) -> Log {
    let default = Log::default();
    let keep = read_keep(section);
    let reserve_percent = section.or("reserve", default.reserve_percent, values::percent);
    section.finish();
    Log { keep, reserve_percent }
}

fn read_keep(section: &Section<'_>) -> Duration {
    section.or("keep", Log::default().keep, values::duration_in(Duration::ZERO..=Duration::from_secs(7 * 86_400)))
}

fn read_logging(section: &Section<'_>) -> Logging {
    let levels = values::one_of(&[("error", Level::Error), ("warn", Level::Warn), ("info", Level::Info), ("debug", Level::Debug)]);
    let level = section.or("level", Level::Info, levels);
    let format = section.or("format", Format::Text, values::one_of(&[("text", Format::Text), ("json", Format::Json)]));
    section.finish();
    Logging { level, format }
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;

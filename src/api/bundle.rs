//! Everything that somebody who is to find out what is wrong would ask for, as files of text: what this node shows of itself, and what the other nodes
//! show of themselves. Nothing in it lets anybody in: no password, no token (not even its hash), no key.

use std::sync::Arc;
use std::sync::Weak;

use serde::Deserialize;
use serde::Serialize;

use crate::api::cardinality;
use crate::api::checkup;
use crate::api::cluster;
use crate::api::deps::Deps;
use crate::api::groups;
use crate::api::senders;
use crate::api::sinks;
use crate::api::status;
use crate::clock;
use crate::config::redact::redacted;
use crate::telemetry::logs;

/// `GET /api/v1/cluster/debug`.
#[derive(Debug, Serialize)]
pub struct Bundle {
    /// In no order that means anything.
    files: Vec<File>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// A path: the node's name, a slash, the file's name.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// What a node says when another one asks it for its own part, as JSON: of a bundle (nothing is named), of the senders, of a group's series.
pub type Itself = Arc<dyn Fn(&str) -> Vec<u8> + Send + Sync>;

/// A node's own part, for as long as there is one to tell of.
pub(super) fn itself(deps: Weak<Deps>) -> Itself {
    Arc::new(move |what| {
        let Some(deps) = deps.upgrade() else { return Vec::new() };
        let now = clock::wall_ms();
        match what {
            senders::ASKED => senders::itself(&deps, now),
            _ => match what.strip_prefix(cardinality::ASKED) {
                Some(group) => cardinality::itself(&deps, group),
                None => serde_json::to_vec(&own(&deps, now)).unwrap_or_default(),
            },
        }
    })
}

/// Of this node and all that answer.
pub async fn bundle(deps: &Deps, now: i64) -> Bundle {
    let mut files = own(deps, now);
    if let Some(cluster) = &deps.cluster {
        for (node, said) in cluster.of_others("").await {
            match said.and_then(|said| serde_json::from_slice::<Vec<File>>(&said).map_err(|error| error.to_string())) {
                Ok(theirs) => files.extend(theirs),
                Err(why) => files.push(File { name: format!("{node}/not-reached.txt"), text: format!("{why}\n") }),
            }
        }
    }
    Bundle { files }
}

/// The settings that all nodes agree on, without secrets.
fn in_force(deps: &Deps) -> String {
    let version = deps.settings.as_ref().and_then(|settings| settings.version(None));
    version.map_or_else(
        || "none yet\n".to_owned(),
        |version| format!("# version {} by {}, {} ms since 1970\n{}", version.number, version.by, version.at, redacted(&version.text)),
    )
}

/// The node's file as it is now, without secrets.
fn of_file(deps: &Deps) -> String {
    match deps.file.as_ref().map(std::fs::read_to_string) {
        Some(Ok(text)) => redacted(&text),
        Some(Err(error)) => format!("{error}\n"),
        None => "this node has none\n".to_owned(),
    }
}

/// Why it takes no samples, if it does not: what it waits for, where it has not begun.
fn ready(reasons: &[String]) -> String {
    if reasons.is_empty() { "ready\n".to_owned() } else { reasons.iter().map(|reason| format!("not ready: {reason}\n")).collect() }
}

fn own(deps: &Deps, now: i64) -> Vec<File> {
    let view = deps.cluster.as_ref().map(|cluster| cluster.view());
    let this = cluster::this_node(deps);
    let json = |value: Result<String, serde_json::Error>| value.unwrap_or_else(|error| error.to_string()) + "\n";
    let all_sinks = sinks::Sinks { sinks: deps.sinks.list().into_iter().map(sinks::one).collect() };
    let mut texts = vec![
        ("status.json", json(serde_json::to_string_pretty(&status::status(deps, now)))),
        ("doctor.json", json(serde_json::to_string_pretty(&checkup::checkup(deps, now)))),
        ("groups.json", json(serde_json::to_string_pretty(&groups::all(&deps.node.groups())))),
        ("sinks.json", json(serde_json::to_string_pretty(&all_sinks))),
        ("senders.json", json(serde_json::to_string_pretty(&(deps.senders)(now)))),
        ("metrics.txt", (deps.metrics)()),
        ("settings.txt", in_force(deps)),
        ("file.txt", of_file(deps)),
        ("log.txt", logs::recent()),
        ("ready.txt", ready(&(deps.not_ready)())),
        ("disk.txt", (deps.disk)()),
        ("version.txt", format!("sluice {}\nbegun {} ms, asked {now} ms since 1970\n", deps.version, deps.started_ms)),
    ];
    if let (Some(view), Ok(upgrade)) = (&view, crate::api::upgrade::show(deps)) {
        let view: &cluster::View = view;
        texts.push(("cluster.json", json(serde_json::to_string_pretty(view))));
        texts.push(("upgrade.json", json(serde_json::to_string_pretty(&upgrade))));
    }
    texts.into_iter().map(|(name, text)| File { name: format!("{this}/{name}"), text }).collect()
}

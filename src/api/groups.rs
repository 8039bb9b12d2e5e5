//! Groups as they are published, and what operators may ask of them: pin, unpin, step down.

use serde::Deserialize;
use serde::Serialize;

use crate::api::Call;
use crate::api::answer::Failure;
use crate::api::deps::Node;
use crate::api::doctor;
use crate::api::doctor::Hint;
use crate::api::route::OfGroup;
use crate::clock;
use crate::model::ShardId;
use crate::node::view::GroupView;
use crate::node::view::SwitchView;
use crate::serve::Who;
use crate::shard::command::Command;
use crate::shard::command::SwitchTo;

/// `GET /api/v1/groups`.
#[derive(Debug, Serialize)]
pub struct Groups {
    /// By name.
    pub groups: Vec<Group>,
}

/// One group.
#[derive(Debug, Serialize)]
pub struct Group {
    name: String,
    shard: u16,
    leader: Option<String>,
    pinned: Option<String>,
    since: Option<i64>,
    series: u64,
    interval_ms: i64,
    replicas: Vec<Replica>,
    counts: Counts,
    hints: Vec<Hint>,
}

/// One replica of a group.
#[derive(Debug, Serialize)]
pub struct Replica {
    name: String,
    leader: bool,
    lag_ms: i64,
    newest: i64,
    last_seen: i64,
    samples: u64,
    emitted: u64,
    covered: u64,
    filled: u64,
    share: f64,
}

/// received = emitted + covered + repeated + refused + waiting.
#[derive(Debug, Serialize)]
pub struct Counts {
    received: u64,
    emitted: u64,
    covered: u64,
    repeated: u64,
    refused: u64,
    waiting: u64,
    late: u64,
    filled: u64,
}

/// `GET /api/v1/groups/{name}/history`.
#[derive(Debug, Serialize)]
pub struct History {
    group: String,
    switches: Vec<Switch>,
}

/// One switch of a group's leader.
#[derive(Debug, Serialize)]
pub struct Switch {
    group: String,
    at: i64,
    at_text: String,
    from: String,
    to: String,
    reason: String,
    evidence: String,
    gap_ms: i64,
    overlap: u64,
    late: u64,
    filled: u64,
}

/// What came of a request to change something.
#[derive(Debug, Serialize)]
pub struct Done {
    /// For people.
    pub done: String,
}

/// Shown where a group is unknown.
const LIST: &str = "`sluice group list` or GET /api/v1/groups shows them; a slash in a name is written %2F";
/// Switches of all groups that the status shows.
const SWITCHES_SHOWN: usize = 20;
/// Who has not been heard of for so long is no successor, ms. Four intervals of a minute, the longest in common use.
const ALIVE_MS: i64 = 240_000;

/// All groups, by name.
pub fn all(views: &[GroupView]) -> Groups {
    let mut groups: Vec<Group> = views.iter().map(one).collect();
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    Groups { groups }
}

/// One group as it is published.
pub fn one(view: &GroupView) -> Group {
    let of_all: u64 = view.replicas.iter().map(|replica| replica.samples).sum();
    let replicas = view.replicas.iter().map(|replica| Replica {
        name: replica.name.clone(),
        leader: view.leader.as_ref() == Some(&replica.name),
        lag_ms: replica.lag,
        newest: replica.newest,
        last_seen: replica.last_seen,
        samples: replica.samples,
        emitted: replica.emitted,
        covered: replica.covered,
        filled: replica.filled,
        // Three digits: the fourth of a share of billions means nothing, and makes shapes restless.
        share: if of_all == 0 { 0.0 } else { (replica.samples as f64 / of_all as f64 * 1000.0).round() / 1000.0 },
    });
    let counts = view.counts;
    Group {
        name: view.name.clone(),
        shard: view.shard,
        leader: view.leader.clone(),
        pinned: view.pinned.clone(),
        since: (view.since > 0).then_some(view.since),
        series: view.series,
        interval_ms: view.interval,
        replicas: replicas.collect(),
        counts: Counts {
            received: counts.received,
            emitted: counts.emitted,
            covered: counts.covered,
            repeated: counts.repeated,
            refused: counts.refused,
            waiting: counts.waiting,
            late: counts.late,
            filled: counts.filled,
        },
        hints: doctor::hints(view),
    }
}

fn switch(group: &str, view: &SwitchView) -> Switch {
    Switch {
        group: group.to_owned(),
        at: view.at,
        at_text: clock::rfc3339(view.at),
        from: view.from.clone(),
        to: view.to.clone(),
        reason: view.reason.clone(),
        evidence: view.evidence.clone(),
        gap_ms: view.gap,
        overlap: view.overlap,
        late: view.late,
        filled: view.filled,
    }
}

/// The last switches of all groups, newest first.
pub fn last_switches(views: &[GroupView]) -> Vec<Switch> {
    let mut all: Vec<(&str, &SwitchView)> =
        views.iter().flat_map(|view| view.switches.iter().map(|switch| (view.name.as_str(), switch))).collect();
    all.sort_by(|a, b| b.1.at.cmp(&a.1.at).then(a.0.cmp(b.0)));
    all.into_iter().take(SWITCHES_SHOWN).map(|(group, view)| switch(group, view)).collect()
}

/// The switches of one group, oldest first.
pub fn history(view: &GroupView) -> History {
    History { group: view.name.clone(), switches: view.switches.iter().map(|record| switch(&view.name, record)).collect() }
}

/// The group of this name.
pub fn find(node: &dyn Node, name: &str) -> Result<GroupView, Failure> {
    node.groups().into_iter().find(|view| view.name == name).ok_or_else(|| Failure::unknown("group", name, LIST))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PinTo {
    replica: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepDown {
    to: Option<String>,
}

/// Carries out a change.
pub(super) async fn change(node: &dyn Node, name: &str, what: OfGroup, call: &Call, now: i64) -> Result<Done, Failure> {
    let body: &[u8] = &call.body;
    let view = find(node, name)?;
    let (command, done) = match what {
        OfGroup::Pin => pin(&view, body)?,
        OfGroup::Unpin => match &view.pinned {
            Some(_) => (Command::Pin { group: name.to_owned(), replica: None }, "unpinned: detection chooses the leader again".to_owned()),
            None => return Ok(Done { done: "was not pinned".into() }),
        },
        _ => step_down(&view, body, &call.who, now)?,
    };
    node.propose(ShardId(view.shard), command).await.map_err(Failure::of_command)?;
    Ok(Done { done })
}

fn pin(view: &GroupView, body: &[u8]) -> Result<(Command, String), Failure> {
    let wanted: PinTo = serde_json::from_slice(body)
        .map_err(|error| Failure::wrong(format!("the body is not as expected: {error}"), r#"send {"replica": "NAME"}"#))?;
    known(view, &wanted.replica)?;
    let command = Command::Pin { group: view.name.clone(), replica: Some(wanted.replica.clone()) };
    Ok((command, format!("pinned to {}: it leads, whatever is seen of it, until unpin", wanted.replica)))
}

fn step_down(view: &GroupView, body: &[u8], who: &Who, now: i64) -> Result<(Command, String), Failure> {
    let wanted: StepDown = if body.trim_ascii().is_empty() {
        StepDown::default()
    } else {
        serde_json::from_slice(body)
            .map_err(|error| Failure::wrong(format!("the body is not as expected: {error}"), r#"send nothing, or {"to": "NAME"}"#))?
    };
    if let Some(pinned) = &view.pinned {
        return Err(Failure::conflict(format!("group {} is pinned to {pinned}", view.name), "unpin it first"));
    }
    let Some(leader) = &view.leader else {
        return Err(Failure::conflict(format!("group {} has no leader", view.name), "wait until one of its replicas has written"));
    };
    let to = match wanted.to {
        Some(to) if to == *leader => return Err(Failure::conflict(format!("{to} leads already"), "name another replica, or none")),
        Some(to) => {
            known(view, &to)?;
            to
        }
        None => {
            let alive = view.replicas.iter().filter(|replica| replica.name != *leader && now - replica.last_seen <= ALIVE_MS);
            let Some(best) = alive.max_by_key(|replica| replica.newest) else {
                let text = format!("no other replica of group {} has written within {} s", view.name, ALIVE_MS / 1000);
                return Err(Failure::conflict(text, "start its twin, or name a replica yourself: {\"to\": \"NAME\"}"));
            };
            best.name.clone()
        }
    };
    let done = format!("{leader} stepped down, {to} leads");
    let evidence = format!("asked for by {}", who.0);
    // The word that detection does not count among its own switches.
    let reason = "step-down".to_owned();
    Ok((Command::Switch(SwitchTo { group: view.name.clone(), from: leader.clone(), to, reason, evidence }), done))
}

fn known(view: &GroupView, replica: &str) -> Result<(), Failure> {
    if view.replicas.iter().any(|known| known.name == replica) {
        return Ok(());
    }
    let names: Vec<&str> = view.replicas.iter().map(|replica| replica.name.as_str()).collect();
    Err(Failure::wrong(format!("group {} has no replica `{replica}`", view.name), format!("its replicas are: {}", names.join(", "))))
}

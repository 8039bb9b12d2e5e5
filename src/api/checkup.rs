//! What an operator would look at by hand, one line each: well, to be looked at, or bad; with a remedy. `sluice cluster doctor` prints it.
//!
//! It draws on the same problems as the status page, sorted by what was looked at, and adds what is no problem by itself: who could be lost now,
//! versions, other nodes' disks, hints about groups. A problem that belongs nowhere stands at the end: none is left out.

use serde::Serialize;

use crate::api::cluster::BEHIND;
use crate::api::cluster::Node;
use crate::api::cluster::Shard;
use crate::api::cluster::View;
use crate::api::deps::Deps;
use crate::api::deps::Problem;
use crate::api::deps::Severity;
use crate::api::doctor;
use crate::api::status;
use crate::model::tenant;
use crate::node::view::GroupView;
use crate::node::view::StoreStats;

/// `GET /api/v1/cluster/doctor`.
#[derive(Debug, Serialize)]
pub struct Checkup {
    /// The worst of them.
    verdict: Verdict,
    checks: Vec<Check>,
}

/// How it is; the worst stands last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    /// It works, somebody should look.
    Warn,
    /// Samples are refused or lost, or will be.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    check: &'static str,
    verdict: Verdict,
    text: String,
    remedy: Option<String>,
}

/// A clock that is so far off the median is to be looked at, ms: no cluster is founded with it.
const CLOCK_OFF_MS: i64 = 1_000;

/// What is looked at, and the codes of problems that belong there. Those of groups, sinks and tokens are known by what they are about.
const CHECKS: [(&str, &[&str]); 12] = [
    ("majority", &[]),
    ("leaders", &["no_leader", "not_founded"]),
    ("nodes", &["node_unreachable", "not_admitted", "removed"]),
    ("lag", &["behind"]),
    ("state", &["state_differs"]),
    ("versions", &[]),
    ("clocks", &["clock", "own_clock"]),
    ("certificates", &["certificate", "public_certificate", "certificate_file"]),
    ("disk", &["disk_full", "disk_low", "slow_disk"]),
    ("settings", &["file_differs", "settings_differ", "settings_failed"]),
    ("sinks", &["dead_letters", "budget"]),
    ("groups", &["unidentified"]),
];

/// The check that a problem belongs to.
fn place(problem: &Problem) -> &'static str {
    let by_code = CHECKS.iter().find(|(_, codes)| codes.contains(&problem.code.as_str())).map(|(check, _)| *check);
    let by_what = || {
        let kinds = [("sink ", "sinks"), ("group ", "groups"), ("token ", "tokens")];
        kinds.iter().find(|(prefix, _)| problem.about.starts_with(prefix)).map(|(_, check)| *check)
    };
    let token = (problem.code == "no_token").then_some("tokens");
    by_code.or_else(by_what).or(token).unwrap_or("other")
}

fn of_problem(problem: &Problem) -> Check {
    let verdict = if problem.severity == Severity::Error { Verdict::Bad } else { Verdict::Warn };
    let text = format!("{}: {}", problem.about, problem.text);
    Check { check: place(problem), verdict, text, remedy: Some(problem.remedy.clone()) }
}

fn well(check: &'static str, text: String) -> Check {
    Check { check, verdict: Verdict::Ok, text, remedy: None }
}

fn wrong(check: &'static str, verdict: Verdict, text: String, remedy: &str) -> Check {
    Check { check, verdict, text, remedy: Some(remedy.to_owned()) }
}

/// Looks at everything.
pub fn checkup(deps: &Deps, now: i64) -> Checkup {
    let mut found: Vec<Check> = status::status(deps, now).problems.iter().map(of_problem).collect();
    let (groups, stats) = (deps.node.groups(), deps.node.stats());
    found.extend(groups.iter().filter(|group| !tenant::is_no_group(&group.name)).flat_map(of_hints));
    let view = deps.cluster.as_ref().map(|cluster| cluster.view());
    let mut fine = Vec::new();
    match &view {
        Some(view) => {
            found.extend(of_cluster(view));
            fine.extend(fine_of_cluster(view, now));
        }
        None => {
            let led = stats.shards.iter().filter(|shard| shard.leads).count();
            fine.push(well("leaders", format!("this node is all there is, and leads {led} of {} shards", stats.shards.len())));
        }
    }
    fine.push(well("disk", of_disk(&stats.store)));
    fine.push(well("sinks", format!("{}, none of them in trouble", deps.sinks.list().len())));
    fine.push(well("groups", format!("{}, nothing odd about them", groups.len())));
    let listens = if deps.listen.ip().to_canonical().is_loopback() { "on loopback only" } else { "beyond this host" };
    fine.push(well("tokens", format!("{}; the node listens {listens}", deps.node.tokens().all().count())));
    in_order(found, fine)
}

/// What was found, in the order in which things are looked at; where nothing was, that it is well.
fn in_order(found: Vec<Check>, fine: Vec<Check>) -> Checkup {
    let mut checks = Vec::new();
    for name in CHECKS.iter().map(|(check, _)| *check).chain(["tokens", "other"]) {
        let before = checks.len();
        checks.extend(found.iter().filter(|check| check.check == name).cloned());
        if checks.len() == before {
            checks.extend(fine.iter().filter(|check| check.check == name).cloned());
        }
    }
    Checkup { verdict: checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Ok), checks }
}

fn of_hints(group: &GroupView) -> Vec<Check> {
    let of_hint = |hint: doctor::Hint| wrong("groups", Verdict::Warn, format!("group {}: {}", group.name, hint.text), hint.remedy);
    doctor::hints(group).into_iter().map(of_hint).collect()
}

fn of_disk(store: &StoreStats) -> String {
    format!("{} MiB are free; below {} MiB samples would be refused", store.free_bytes >> 20, store.reserve_bytes >> 20)
}

/// How many more of a shard's members than a majority are there and up to date.
fn spare(shard: &Shard, nodes: &[Node]) -> i64 {
    let there = |name: &&String| {
        let behind = shard.applied.iter().find(|applied| applied.node == **name).map(|applied| applied.behind);
        let answers = nodes.iter().any(|node| node.name == **name && node.state != "unreachable");
        answers && behind.is_some_and(|behind| behind <= BEHIND)
    };
    let count = shard.voters.iter().filter(there).count() as i64;
    count - (shard.voters.len() as i64 / 2 + 1)
}

/// How many nodes may be lost now, and whether the number is what it can be.
fn of_majority(view: &View) -> Option<Check> {
    let shards = || view.shards.iter().filter(|shard| !shard.voters.is_empty());
    let (left, all) = (shards().map(|shard| spare(shard, &view.nodes)).min()?, shards().map(|shard| shard.voters.len()).min()?);
    Some(match left {
        i64::MIN..0 => {
            let text = "a shard has no majority of members that are there and up to date: no more samples can be taken for it".to_owned();
            wrong("majority", Verdict::Bad, text, "start the nodes that are away, or look at the network between them")
        }
        0 if all < 3 => {
            let text = format!("no node may be lost: there are only {all} with a vote");
            wrong("majority", Verdict::Warn, text, "`sluice cluster add` makes three of them")
        }
        0 => {
            let text = "no further node may be lost now".to_owned();
            wrong("majority", Verdict::Warn, text, "bring back who is away, or `sluice cluster replace` it; wait for who is behind")
        }
        left => well("majority", format!("every shard has one; {left} of {} nodes may be lost now", view.nodes.len())),
    })
}

/// What is wrong with several nodes, and stands in no list of problems.
fn of_cluster(view: &View) -> Vec<Check> {
    let mut found: Vec<Check> = of_majority(view).into_iter().collect();
    let mut versions: Vec<&str> = view.nodes.iter().filter_map(|node| node.version.as_deref()).collect();
    versions.sort_unstable();
    versions.dedup();
    if versions.len() > 1 {
        let text = format!("not all nodes run the same version: {}", versions.join(", "));
        found.push(wrong("versions", Verdict::Warn, text, "in the middle of an upgrade that is as it should be: go on with the next node"));
    }
    for node in view.nodes.iter().filter(|node| node.state != "this") {
        let (Some(free), Some(reserve)) = (node.free_bytes, node.reserve_bytes) else { continue };
        let (verdict, what) = match free {
            free if free < reserve => (Verdict::Bad, "below its reserve: it takes no samples"),
            free if reserve > 0 && free < reserve.saturating_add(reserve / 2) => (Verdict::Warn, "not far above its reserve"),
            _ => continue,
        };
        let text = format!("node {}: {} MiB are free, {what} ({} MiB)", node.name, free >> 20, reserve >> 20);
        found.push(wrong("disk", verdict, text, "make room on the file system of its data_dir, or lower the sinks' budgets"));
    }
    // Beyond 2 s it is a problem anyhow, and the node leads nothing.
    for (name, off) in off_median(view).into_iter().filter(|(_, off)| (CLOCK_OFF_MS..=2_000).contains(&off.abs())) {
        found.push(wrong("clocks", Verdict::Warn, format!("node {name}: its clock is {off} ms off the median of all"), "set it by NTP"));
    }
    if view.changing {
        found.push(wrong(
            "nodes",
            Verdict::Warn,
            "nodes come or go just now".to_owned(),
            "it goes on by itself; `sluice cluster status` shows how far",
        ));
    }
    for node in view.nodes.iter().filter(|node| node.aside.as_deref() == Some("draining")) {
        let remedy = "restart it, or `sluice cluster drain --off` on it";
        found.push(wrong("leaders", Verdict::Warn, format!("node {} is being drained: it leads nothing", node.name), remedy));
    }
    found
}

/// How far each node's clock that is known is from the median of all, ms.
fn off_median(view: &View) -> Vec<(&str, i64)> {
    let known = view.nodes.iter().filter_map(|node| {
        let off = if node.state == "this" { Some(0) } else { node.clock_off_ms };
        Some((node.name.as_str(), off?))
    });
    let known: Vec<(&str, i64)> = known.collect();
    let mut sorted: Vec<i64> = known.iter().map(|(_, off)| *off).collect();
    sorted.sort_unstable();
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
    known.into_iter().map(|(name, off)| (name, off - median)).collect()
}

fn fine_of_cluster(view: &View, now: i64) -> Vec<Check> {
    let ends = view.nodes.iter().flat_map(|node| [node.certificate_expires, node.public_certificate_expires]).flatten().min();
    let behind = view.shards.iter().flat_map(|shard| &shard.applied).map(|applied| applied.behind).max().unwrap_or(0);
    let compared = view.shards.iter().filter(|shard| shard.same_state == Some(true)).count();
    let version = view.nodes.iter().find_map(|node| node.version.as_deref()).unwrap_or("unknown");
    vec![
        well("leaders", format!("all {} shards are led", view.shards.len())),
        well("nodes", format!("all {} answer", view.nodes.len())),
        well("lag", format!("nobody is more than {behind} entries behind")),
        well("state", format!("compared in {compared} of {} shards just now, and the same", view.shards.len())),
        well("versions", format!("all nodes run {version}")),
        well("clocks", format!("within {} ms of their median", off_median(view).iter().map(|(_, off)| off.abs()).max().unwrap_or(0))),
        well("certificates", ends.map_or("none".to_owned(), |ends| format!("the first one ends in {} days", (ends - now) / 86_400_000))),
        well("settings", "all nodes have the same file, and it is what is in force".to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cluster::Applied;
    use crate::api::cluster::Health;
    use crate::api::cluster::Phase;

    fn shard(voters: &[&str], behind: u64) -> Shard {
        let voters: Vec<String> = voters.iter().map(|name| (*name).to_owned()).collect();
        let applied = voters.iter().map(|node| Applied { node: node.clone(), index: 9, behind: if node == "c" { behind } else { 0 } });
        Shard { shard: 1, leader: Some("a".into()), applied: applied.collect(), voters, ..Shard::default() }
    }

    fn nodes(away: &str) -> Vec<Node> {
        let state = |name: &str| if name == away { "unreachable" } else { "connected" };
        ["a", "b", "c"].iter().map(|name| Node { name: (*name).into(), state: state(name).into(), ..Node::default() }).collect()
    }

    #[test]
    fn who_may_be_lost_is_counted_per_shard_by_those_who_are_there_and_up_to_date() {
        assert_eq!(spare(&shard(&["a", "b", "c"], 0), &nodes("")), 1);
        assert_eq!(spare(&shard(&["a", "b", "c"], BEHIND + 1), &nodes("")), 0, "one has to catch up first");
        assert_eq!(spare(&shard(&["a", "b", "c"], 0), &nodes("b")), 0);
        assert_eq!(spare(&shard(&["a", "b", "c"], BEHIND + 1), &nodes("b")), -1);
        assert_eq!(spare(&shard(&["a"], 0), &nodes("")), 0, "a cluster of one can lose nobody");
    }

    #[test]
    fn clocks_are_measured_against_their_median() {
        let node = |name: &str, state: &str, off| Node { name: name.into(), state: state.into(), clock_off_ms: off, ..Node::default() };
        let nodes = vec![
            node("a", "this", None),
            node("b", "connected", Some(1_500)),
            node("c", "connected", Some(1_490)),
            node("d", "unreachable", None),
        ];
        let view = View {
            name: "x".into(),
            id: None,
            phase: Phase::Running,
            health: Health::Ok,
            nodes,
            draining: false,
            unsafe_to_stop: Vec::new(),
            changing: false,
            shards: Vec::new(),
            problems: Vec::new(),
        };
        assert_eq!(off_median(&view), [("a", -1_490), ("b", 10), ("c", 0)], "the one that asks is the one that is off");
        let found = of_cluster(&view);
        assert!(found.len() == 1 && found[0].check == "clocks" && found[0].text.contains("node a: its clock is -1490 ms off"), "{found:?}");
    }

    #[test]
    fn every_problem_stands_somewhere_and_where_there_is_none_it_is_well() {
        let problem = |code: &str, about: &str| Problem {
            severity: Severity::Warning,
            code: code.into(),
            about: about.into(),
            text: "t".into(),
            remedy: "r".into(),
        };
        let found: Vec<Check> = [("behind", "node a"), ("fenced", "sink k"), ("odd", "moon")]
            .iter()
            .map(|(code, about)| of_problem(&problem(code, about)))
            .collect();
        let checkup = in_order(found, vec![well("lag", "no".into()), well("clocks", "yes".into())]);
        let shown: Vec<(&str, Verdict)> = checkup.checks.iter().map(|check| (check.check, check.verdict)).collect();
        assert_eq!(shown, [("lag", Verdict::Warn), ("clocks", Verdict::Ok), ("sinks", Verdict::Warn), ("other", Verdict::Warn)]);
        assert_eq!(checkup.verdict, Verdict::Warn);
        assert_eq!(in_order(Vec::new(), Vec::new()).verdict, Verdict::Ok);
    }
}

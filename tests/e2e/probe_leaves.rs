//! Targets that leave their job, and nodes that leave the cluster: the series of the one end with a stale marker, those of the other go on at another node.

use super::files::read_back;
use crate::support::http::{Http, Server};
use crate::support::process::{Scratch, eventually, let_pass};
use crate::support::series::{Series, Value};
use crate::support::sluice::Sluice;
use crate::support::trio::Trio;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// Probes' rows of a directory, by series and in order of time.
fn rows(dir: &Path) -> BTreeMap<Series, Vec<(i64, Value)>> {
    let mut all: BTreeMap<Series, Vec<(i64, Value)>> = BTreeMap::new();
    for ((series, time), value) in read_back(dir).0 {
        if series.contains("job=\"leaving\"") || series.contains("job=\"ended\"") {
            all.entry(series).or_default().push((time, value));
        }
    }
    assert!(all.len() > 10, "{:?}", all.keys());
    all
}

fn of<'a>(all: &'a BTreeMap<Series, Vec<(i64, Value)>>, label: &str) -> Vec<(&'a Series, &'a Vec<(i64, Value)>)> {
    let found: Vec<_> = all.iter().filter(|(series, _)| series.contains(label)).collect();
    assert!(!found.is_empty(), "{label} is in none of {:?}", all.keys());
    found
}

/// Samples, then one marker, then nothing.
#[track_caller]
fn ends_once(all: &BTreeMap<Series, Vec<(i64, Value)>>, label: &str) {
    for (series, rows) in of(all, label) {
        let markers = rows.iter().filter(|(_, value)| *value == Value::Stale).count();
        assert!(markers == 1 && rows.len() > 2 && rows[rows.len() - 1].1 == Value::Stale, "{series}: {rows:?}");
    }
}

#[track_caller]
fn goes_on(all: &BTreeMap<Series, Vec<(i64, Value)>>, label: &str) {
    for (series, rows) in of(all, label) {
        assert!(rows.iter().all(|(_, value)| *value != Value::Stale), "{series}: {rows:?}");
    }
}

fn targets(file: &Path, addresses: &[String]) {
    // In one step, so that nobody reads the half of it.
    let beside = file.with_extension("new");
    std::fs::write(&beside, serde_json::json!([{ "targets": addresses }]).to_string()).unwrap();
    std::fs::rename(&beside, file).unwrap();
}

fn jobs(file: &Path, more: &str) -> String {
    let found = format!("file_sd_configs: [ {{ files: [\"{}\"], refresh_interval: 1s }} ]", file.display());
    format!("probe:\n  jobs:\n    - {{ name: leaving, module: tcp_connect, interval: 1s, {found} }}\n{more}")
}

fn listener() -> (Server, String) {
    let server = Server::start(|_: &Http| None);
    let address = server.address.to_string();
    (server, address)
}

fn emitted(sluice: &Sluice, more: f64) {
    let seen = || sluice.metric("sluice_group_emitted_samples_total", "group=\"probes\"");
    let before = seen();
    eventually(SOON, "samples of the targets", || if seen() > before + more { Ok(()) } else { Err(seen().to_string()) });
}

#[test]
fn a_target_or_a_job_that_leaves_ends_with_stale_markers_and_so_does_why_one_failed() {
    let scratch = Scratch::new("probe-leaves");
    let (dir, file) = (scratch.sub("rows"), scratch.join("targets.json"));
    let ((_first, stays), (_second, leaves)) = (listener(), listener());
    targets(&file, &[stays.clone(), leaves.clone()]);
    let sink = format!("  - name: rows\n    file: {{ directory: {}, sync: 100ms, rotate: {{ age: 1s }} }}\n", dir.display());
    let (failing, failing_at) = listener();
    let ended = format!("    - {{ name: ended, module: tcp_connect, interval: 1s, targets: [\"{failing_at}\"] }}\n");
    let mut sluice = Sluice::prepare_with(&scratch, "probe-leaves", &format!("{sink}{}", jobs(&file, &ended)), None);
    sluice.up();
    emitted(&sluice, 100.0);
    drop(failing);
    eventually(SOON, "one to be down", || {
        let all = sluice.get("/api/v1/probes").json();
        let down = all["targets"].as_array().into_iter().flatten().filter(|one| one["verdict"] == "down").count();
        if down == 1 { Ok(()) } else { Err(all.to_string()) }
    });
    emitted(&sluice, 100.0);
    // One target leaves its list, and the other job leaves the configuration.
    targets(&file, std::slice::from_ref(&stays));
    let text = std::fs::read_to_string(sluice.config()).unwrap();
    std::fs::write(sluice.config(), text.replace(&ended, "")).unwrap();
    assert_eq!(sluice.post("/-/reload").status(), 200);
    eventually(SOON, "one target to be left", || {
        let left = sluice.get("/api/v1/probes").json()["targets"].as_array().map_or(0, Vec::len);
        if left == 1 { Ok(()) } else { Err(left.to_string()) }
    });
    emitted(&sluice, 50.0);
    sluice.stop();
    let all = rows(&dir);
    ends_once(&all, &format!("instance=\"{leaves}\""));
    ends_once(&all, "job=\"ended\"");
    assert_eq!(of(&all, "sluice_probe_failure_info").len(), 1, "it failed for one reason");
    goes_on(&all, &format!("instance=\"{stays}\""));
}

#[test]
fn a_target_whose_node_dies_and_comes_back_ends_nowhere_until_it_leaves() {
    let scratch = Scratch::new("probe-owners");
    let (dir, file) = (scratch.join("shared"), scratch.join("targets.json"));
    let servers: Vec<(Server, String)> = (0..9).map(|_| listener()).collect();
    let addresses: Vec<String> = servers.iter().map(|(_, address)| address.clone()).collect();
    targets(&file, &addresses);
    let sink = format!("  - name: rows\n    file: {{ directory: {}, rotate: {{ age: 3s }} }}\n", dir.display());
    let mut trio = Trio::up(&scratch, &format!("sinks:\n{sink}{}", jobs(&file, "")));
    let ours = |trio: &Trio, node: usize| -> Result<usize, String> {
        let answer = trio.nodes[node].json("/api/v1/probes")?;
        Ok(answer["targets"].as_array().into_iter().flatten().filter(|one| one["ours"] == true).count())
    };
    let shared = |trio: &Trio, nodes: &[usize]| {
        eventually(SOON, "the targets to be shared", || {
            let each = nodes.iter().map(|node| ours(trio, *node)).collect::<Result<Vec<_>, _>>()?;
            if each.iter().sum::<usize>() == 9 { Ok(each) } else { Err(format!("{each:?}")) }
        })
    };
    let shares = shared(&trio, &[0, 1, 2]);
    let leaves = (0..3).max_by_key(|node| shares[*node]).unwrap();
    let others: Vec<usize> = (0..3).filter(|node| *node != leaves).collect();
    let_pass(Duration::from_secs(4));
    trio.nodes[leaves].sluice.kill();
    shared(&trio, &others);
    let_pass(Duration::from_secs(5));
    trio.nodes[leaves].sluice.up();
    shared(&trio, &[0, 1, 2]);
    let_pass(Duration::from_secs(5));
    targets(&file, &addresses[..4]);
    let_pass(Duration::from_secs(5));
    trio.nodes.iter_mut().for_each(|node| node.sluice.stop());
    let all = rows(&dir);
    addresses[..4].iter().for_each(|address| goes_on(&all, &format!("instance=\"{address}\"")));
    addresses[4..].iter().for_each(|address| ends_once(&all, &format!("instance=\"{address}\"")));
}

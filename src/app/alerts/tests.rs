//! What holds, by example, and when that becomes an alert.

use std::sync::Arc;

use super::*;
use crate::config::Config;
use crate::node::view::ReplicaView;
use crate::probe::targets;
use crate::probe::targets::Ready;
use crate::shard::command::Command;
use crate::shard::control::Control;
use crate::shard::control::ControlEffects;
use crate::shard::entry;
use crate::shard::entry::Entry;
use crate::shard::verdicts;

const NOW: i64 = 1_790_000_000_000;

/// The control shard's state after these commands, a second apart.
fn applied(commands: Vec<Command>) -> Control {
    let mut control = Control::default();
    for (number, command) in commands.into_iter().enumerate() {
        let mut bytes = Vec::new();
        entry::encode(NOW - 60_000 + number as i64 * 1000, &Entry::Command(command), &mut bytes);
        control.apply(number as u64 + 1, &bytes, &mut ControlEffects::default()).unwrap();
    }
    control
}

fn down(job: &str, instance: &str) -> Command {
    Command::Verdicts(vec![verdicts::Change { job: job.into(), instance: instance.into(), down: Some(("refused".into(), vec![1, 2])) }])
}

fn names(all: &All) -> Vec<&str> {
    all.values().map(|holds| &*holds.said.name).collect()
}

fn prometheus(state: State) -> BTreeMap<(String, String), Seen> {
    let seen = Seen { state, worked: true, since_ms: NOW - 5_000, url: "http://h:9090".into(), ..Seen::default() };
    [(("g".to_owned(), "a".to_owned()), seen)].into()
}

fn target(alert: &str) -> BTreeMap<u64, Target> {
    let text = format!(
        "listen: 127.0.0.1:1\ndata_dir: /x\nsinks: []\nprobe:\n  jobs:\n    - {{ name: web, targets: [h], labels: {{ team: x }}, alert: {{ {alert} }} }}\n"
    );
    let config = Config::parse(&text).unwrap_or_else(|problems| panic!("{problems:#?}"));
    targets::all([(&Arc::new(Ready::new(&config.jobs.jobs[0]).unwrap()), &[][..])]).0
}

#[test]
fn a_target_that_is_down_is_an_alert_with_its_labels() {
    let control = applied(vec![down("web", "h")]);
    let names: BTreeMap<u64, String> = [(1, "n1".to_owned()), (2, "n2".to_owned())].into();
    let targets = target("for: 30s, level: P1, labels: { page: night }, annotations: { runbook: 'https://r' }");
    let facts = Facts { now: NOW, verdicts: Some(&control.verdicts), targets, names, ..Facts::default() };
    let all = holding(&facts, &Notify::default());
    let holds = all.values().next().unwrap();
    assert_eq!((all.len(), holds.after.as_secs(), holds.said.level, holds.said.since), (1, 30, 1, NOW - 60_000));
    let labels = [("cause", "refused"), ("instance", "h"), ("job", "web"), ("page", "night"), ("team", "x")];
    assert_eq!(holds.said.labels, pairs(&labels));
    assert_eq!(holds.said.annotations[1].1, "h of web is down (refused), seen from n1, n2");
    let quiet = Facts { targets: target("enabled: false"), verdicts: Some(&control.verdicts), ..Facts::default() };
    assert!(holding(&quiet, &Notify::default()).is_empty());
}

#[test]
fn certificates_and_slowness_are_alerts_of_their_own() {
    let targets = target("certificate_days: 10, latency: 1s, for: 1m");
    let key = *targets.keys().next().unwrap();
    let remark = Remark { certificate_ends_ms: Some(NOW + 3 * 86_400_000), slow_since_ms: Some(NOW - 5) };
    let facts = Facts { now: NOW, targets, remarks: [(key, remark)].into(), ..Facts::default() };
    let all = holding(&facts, &Notify::default());
    assert_eq!(names(&all), ["ProbeCertificateEnds", "ProbeSlow"]);
    assert_eq!(all.values().map(|holds| holds.after.as_secs()).collect::<Vec<_>>(), [0, 60]);
    assert!(all.values().next().unwrap().said.annotations[0].1.ends_with("ends in 3 days"));
    let control = applied(vec![down("web", "h")]);
    let and_down = holding(&Facts { verdicts: Some(&control.verdicts), ..facts }, &Notify::default());
    assert_eq!(names(&and_down), ["ProbeCertificateEnds", "ProbeDown", "ProbeSlow"], "that it is down ends nothing else");
}

#[test]
fn a_long_alert_is_found_again_and_is_no_other_one() {
    let long = |end: &str| Facts { now: NOW, nodes_down: vec!["ü".repeat(2_000) + end], ..Facts::default() };
    let mut memory = Memory::default();
    let mut raise = |end: &str, present: &Alerts| {
        memory.changes(NOW, holding(&long(end), &Notify::default()), &Alerts::default(), true);
        memory.changes(NOW + 60_000, holding(&long(end), &Notify::default()), present, true)
    };
    let open = applied(vec![Command::Alerts(raise("a", &Alerts::default()))]);
    assert_eq!(open.alerts.all().count(), 1);
    assert_eq!(raise("a", &open.alerts), [], "it is the same");
    assert_eq!(raise("b", &open.alerts).len(), 2, "another begins, and the first is over");
}

#[test]
fn a_prometheus_is_down_by_verdict_and_sick_by_its_own_words() {
    let control = applied(vec![down("prometheus", "g/a")]);
    let of = |verdicts, state| {
        let facts = Facts { now: NOW, verdicts, prometheus: prometheus(state), ..Facts::default() };
        names(&holding(&facts, &Notify::default())).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of(Some(&*control.verdicts), State::Down), ["PrometheusDown"]);
    assert_eq!(of(None, State::Down), [""; 0], "one node's word is no verdict");
    assert_eq!(of(None, State::Starting), ["PrometheusSick"]);
    assert_eq!(of(None, State::Up), [""; 0]);
}

#[test]
fn groups_sinks_and_nodes() {
    let replica = |name: &str, ago: i64| ReplicaView { name: name.into(), last_seen: NOW - ago, ..ReplicaView::default() };
    let group = |name: &str, replicas| GroupView { name: name.into(), replicas, ..GroupView::default() };
    let groups = vec![
        group("whole", vec![replica("a", 0), replica("b", 60_000)]),
        group("half", vec![replica("a", 0), replica("b", 121_000)]),
        group("none", vec![replica("a", 500_000)]),
        group("only ever one", vec![replica("a", 0), replica("", 0)]),
        group("sluice", vec![replica("", 0)]),
    ];
    let sink =
        |name: &str, lag_ms, pending_bytes, paused| SinkFacts { name: name.into(), lag_ms, pending_bytes, budget_bytes: 100, paused };
    let sinks = vec![sink("well", 1_000, 79, false), sink("slow", 300_001, 80, false), sink("held", 900_000, 90, true)];
    let facts = Facts { now: NOW, groups, sinks, nodes_down: vec!["n3".into()], ..Facts::default() };
    let all = holding(&facts, &Notify::default());
    let expected =
        [r#"BudgetNearlyUsed{sink="slow"}"#, r#"NodeDown{node="n3"}"#, r#"ReplicaMissing{group="half"}"#, r#"SinkLagging{sink="slow"}"#];
    assert_eq!(all.keys().collect::<Vec<_>>(), expected);
    let mut notify = Notify::default();
    let off = crate::config::notify::Different { off: true, ..Default::default() };
    notify.shipped = expected.iter().map(|id| (id.split('{').next().unwrap().to_owned(), off.clone())).collect();
    assert!(holding(&facts, &notify).is_empty(), "each can be turned off");
}

#[test]
fn what_holds_for_long_enough_is_raised_once_and_ended_when_it_is_known_to_be_over() {
    let node = |present: bool| {
        let facts = Facts { now: NOW, nodes_down: if present { vec!["n3".into()] } else { Vec::new() }, ..Facts::default() };
        holding(&facts, &Notify::default())
    };
    let mut memory = Memory::default();
    let nothing = Alerts::default();
    assert_eq!(memory.changes(NOW, node(true), &nothing, true), []);
    assert_eq!(memory.changes(NOW + 29_000, node(true), &nothing, true), []);
    assert_eq!(memory.changes(NOW + 29_500, node(false), &nothing, true), [], "it was away, and counts anew");
    assert_eq!(memory.changes(NOW + 30_000, node(true), &nothing, true), []);
    let raised = memory.changes(NOW + 60_000, node(true), &nothing, true);
    let [Change::Raise { said, .. }] = &raised[..] else { panic!("{raised:?}") };
    assert_eq!(said.since, NOW + 30_000);
    let open = applied(vec![Command::Alerts(raised.clone())]);
    assert_eq!(memory.changes(NOW + 61_000, node(true), &open.alerts, true), []);
    assert_eq!(memory.changes(NOW + 62_000, node(false), &open.alerts, false), [], "a node that has only begun to lead knows too little");
    let ended = memory.changes(NOW + 62_000, node(false), &open.alerts, true);
    assert!(matches!(&ended[..], [Change::End { .. }]), "{ended:?}");
}

#[test]
fn a_prometheus_that_cannot_write_to_its_log_is_sick() {
    let mut prometheus = prometheus(State::Up);
    let facts = |prometheus: &BTreeMap<(String, String), Seen>| Facts { now: NOW, prometheus: prometheus.clone(), ..Facts::default() };
    assert!(holding(&facts(&prometheus), &Notify::default()).is_empty());
    prometheus.values_mut().for_each(|seen| seen.failing = true);
    assert_eq!(names(&holding(&facts(&prometheus), &Notify::default())), ["PrometheusSick"]);
}

#[test]
fn an_open_alert_that_says_something_else_is_raised_anew_at_most_each_ten_seconds() {
    let starting = |replay| {
        let mut prometheus = prometheus(State::Starting);
        prometheus.values_mut().for_each(|seen| seen.replay = replay);
        holding(&Facts { now: NOW, prometheus, ..Facts::default() }, &Notify::default())
    };
    let words = |changes: &[Change]| match changes {
        [Change::Raise { said, .. }] => said.annotations.iter().find(|(name, _)| name == "summary").unwrap().1.clone(),
        other => panic!("{other:?}"),
    };
    let mut memory = Memory::default();
    // It begins before it is known how much there is to replay.
    let raised = memory.changes(NOW + 600_000, starting(None), &Alerts::default(), true);
    assert!(words(&raised).ends_with("is not ready"), "{raised:?}");
    let open = applied(vec![Command::Alerts(raised)]).alerts;
    assert_eq!(memory.changes(NOW + 609_999, starting(Some((1, 9))), &open, true), [], "too early");
    assert_eq!(memory.changes(NOW + 610_000, starting(None), &open, true), [], "nothing new");
    let renewed = memory.changes(NOW + 610_001, starting(Some((1, 9))), &open, true);
    assert!(words(&renewed).ends_with("is not ready, 1 of 9 segments of its log replayed"), "{renewed:?}");
    let open = applied(vec![Command::Alerts(renewed)]).alerts;
    assert_eq!(memory.changes(NOW + 610_002, starting(Some((2, 9))), &open, true), []);
    assert_eq!(words(&memory.changes(NOW + 620_001, starting(Some((2, 9))), &open, true)).matches("2 of 9").count(), 1);
}

#[test]
fn words_that_are_too_long_to_be_kept_whole_are_not_new_each_time() {
    let facts = Facts { now: NOW, nodes_down: vec!["n".repeat(5000)], ..Facts::default() };
    let mut memory = Memory::default();
    assert_eq!(memory.changes(NOW, holding(&facts, &Notify::default()), &Alerts::default(), true), []);
    let raised = memory.changes(NOW + 60_000, holding(&facts, &Notify::default()), &Alerts::default(), true);
    let open = applied(vec![Command::Alerts(raised)]).alerts;
    assert_eq!(open.all().count(), 1);
    assert_eq!(memory.changes(NOW + 90_000, holding(&facts, &Notify::default()), &open, true), []);
}

//! What Alertmanager's acceptance suite checks and only real processes show: how an alert stands, at once after each request; and that three nodes, all of which are told
//! everything, tell what one node tells. (Its timelines are played in `alert::groups::timelines`, reloads in `alert_reloads`.)

use super::alerting::{Heard, post, rfc3339, send};
use crate::support::http::Client;
use crate::support::process::{Scratch, let_pass, now_ms};
use crate::support::sluice::Sluice;
use crate::support::trio::{NOWHERE, Trio};
use serde_json::{Value, json};
use std::time::Duration;

fn alone(scratch: &Scratch, section: &str) -> Sluice {
    let sinks = NOWHERE.strip_prefix("sinks:\n").unwrap();
    let mut sluice = Sluice::prepare_with(scratch, "suite", &format!("{sinks}{section}"), None);
    sluice.up();
    sluice
}

/// `TestAlertGetReturnsCurrentAlertStatus`.
#[test]
fn an_alert_says_how_it_stands_at_once_after_each_change() {
    let scratch = Scratch::new("alert-standing");
    let sluice = alone(
        &scratch,
        "alerting:\n  config:\n    route: { receiver: none, group_wait: 1s, group_interval: 10m }\n    receivers: [{ name: none }]\n    \
         inhibit_rules: [{ source_match: { severity: critical }, target_match: { severity: warning }, equal: [alertname] }]\n",
    );
    let say = |severity: &str| {
        let word = json!([{ "labels": { "alertname": "X", "severity": severity }, "endsAt": rfc3339(now_ms() + 300_000) }]);
        assert_eq!(send(&sluice, "/api/v2/alerts", &word).unwrap().status(), 200);
    };
    // Of the warning and of the critical one: its state, how many silences, and how many alerts that inhibit it.
    let standing = || {
        let all = sluice.get("/api/v2/alerts").json();
        let of = |severity: &str| {
            let found = all.as_array().unwrap().iter().find(|alert| alert["labels"]["severity"] == severity)?;
            let status = &found["status"];
            let number = |key: &str| status[key].as_array().unwrap().len();
            Some((status["state"].as_str().unwrap().to_owned(), number("silencedBy"), number("inhibitedBy")))
        };
        (of("warning"), of("critical"))
    };
    let is = |state: &str, silences, inhibits| Some((state.to_owned(), silences, inhibits));
    say("warning");
    assert_eq!(standing(), (is("active", 0, 0), None));
    let silence = json!({ "matchers": [{ "name": "alertname", "value": "X", "isRegex": false }], "createdBy": "a", "comment": "a",
        "startsAt": rfc3339(now_ms()), "endsAt": rfc3339(now_ms() + 300_000) });
    let made = send(&sluice, "/api/v2/silences", &silence).unwrap();
    assert_eq!(standing(), (is("suppressed", 1, 0), None));
    say("critical");
    assert_eq!(standing(), (is("suppressed", 1, 1), is("suppressed", 1, 0)));
    let prints = sluice.get("/api/v2/alerts?filter=severity%3Dcritical").json()[0]["fingerprint"].clone();
    let inhibited = sluice.get("/api/v2/alerts?filter=severity%3Dwarning").json()[0]["status"]["inhibitedBy"].clone();
    assert_eq!(inhibited, json!([prints]));
    let id = made.json()["silenceID"].as_str().unwrap().to_owned();
    assert_eq!(Client::new(sluice.address()).call("DELETE", &format!("/api/v2/silence/{id}")).unwrap().status(), 200);
    assert_eq!(standing(), (is("suppressed", 0, 1), is("active", 0, 0)));
}

/// `TestClusterDeduplication` and `TestClusterVSInstance`.
#[test]
fn three_nodes_that_are_all_told_everything_tell_what_one_node_tells() {
    let (scratch, of_one, of_three) = (Scratch::new("alert-cluster"), Heard::default(), Heard::default());
    let (hook_of_one, hook_of_three) = (of_one.server(), of_three.server());
    let section = |address| {
        format!(
            "alerting:\n  config:\n    route: {{ receiver: hook, group_by: [alertname], group_wait: 1s, group_interval: 1s, repeat_interval: 1h }}\n    \
             receivers: [{{ name: hook, webhook_configs: [{{ url: \"http://{address}/hook\" }}] }}]\n"
        )
    };
    let single = alone(&scratch, &section(hook_of_one.address));
    let trio = Trio::up(&scratch, &format!("{NOWHERE}{}", section(hook_of_three.address)));
    let status = trio.nodes[1].json("/api/v2/status").unwrap();
    let peers = status["cluster"]["peers"].as_array().unwrap();
    for (node, peer) in peers.iter().enumerate() {
        assert_eq!(peer["address"], trio.peer_address(node).to_string(), "{status}");
    }
    assert_eq!(
        single.get("/api/v2/status").json()["cluster"]["peers"],
        json!([{ "name": "suite", "address": single.address().to_string() }])
    );
    let names = ["A", "B", "C", "D", "E"];
    for (number, name) in names.into_iter().enumerate() {
        post(&single, &[(name, "1")], 3_600);
        for node in 0..3 {
            post(&trio.nodes[(node + number) % 3].sluice, &[(name, "1")], 3_600);
        }
        let_pass(Duration::from_millis(700));
    }
    let expected: Vec<String> = names.iter().map(|name| format!("{name} firing 1")).collect();
    expected.iter().for_each(|told| [&of_one, &of_three].into_iter().for_each(|heard| heard.wait(told)));
    let_pass(Duration::from_secs(3));
    let sorted = |heard: &Heard| {
        let mut all = heard.all();
        all.sort();
        all
    };
    assert_eq!((sorted(&of_one), sorted(&of_three)), (expected.clone(), expected));
    let mut ids: Vec<Value> = of_three.messages.lock().unwrap().iter().map(|(id, _)| json!(id)).collect();
    ids.dedup();
    assert_eq!(ids.len(), names.len());
}

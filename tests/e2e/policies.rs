//! Policies for alerts at real nodes with a real webhook: levels, an end that is watched, what flaps, maintenance, an end that nobody has said, a wait that was
//! learned; and that they hold over a restart, and over the death of the node that leads.

use super::alerting::{leads, post, rfc3339};
use crate::support::http::{Http, Server};
use crate::support::process::{Scratch, eventually, let_pass, now_ms};
use crate::support::sluice::Sluice;
use crate::support::trio::{NOWHERE, Trio};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// What an alert center was told: of each message its group's name, its state, its level, and whether its first alert flaps or ended unconfirmed.
#[derive(Clone, Default)]
struct Center(Arc<Mutex<Vec<Value>>>);

impl Center {
    fn server(&self) -> Server {
        let center = self.clone();
        Server::start(move |request: &Http| {
            center.0.lock().unwrap().push(request.json());
            Some(Http::answer(200, ""))
        })
    }

    fn of(&self, name: &str) -> Vec<String> {
        let all = self.0.lock().unwrap();
        let of = all.iter().filter(|body| body["groupLabels"]["alertname"] == name);
        let one = |body: &Value| {
            let alert = &body["alerts"][0];
            let word = |key: &str| if alert[key] == json!(true) { format!(" {key}") } else { String::new() };
            format!("{} P{}{}{}", body["status"].as_str().unwrap(), body["level"], word("flapping"), word("unconfirmed"))
        };
        of.map(one).collect()
    }

    #[track_caller]
    fn wait(&self, name: &str, expected: &[&str]) {
        eventually(SOON, &format!("{name} to be told as {expected:?}"), || {
            let all = self.of(name);
            if all == expected { Ok(()) } else { Err(format!("{all:?}")) }
        });
    }
}

fn section(center: &Server) -> String {
    format!(
        r#"alerting:
  config:
    route: {{ receiver: center, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1h }}
    receivers: [{{ name: center, alert_center_configs: [{{ url: "http://{}/v1" }}] }}]
  levels: [{{ matchers: ['alertname=~"First|Leveled"'], level: P2 }}]
  recovery: {{ matchers: [alertname="Watched"], observe: 25s }}
  flapping: {{ matchers: [alertname="Flaps"], changes: 4, within: 1m, calm: 10s }}
  transient: {{ matchers: [alertname="Short"], within: 30s, least: 5, max: 30s }}
  maintenance:
  - {{ name: disks, matchers: [alertname="Work"], from: "{}", to: "{}" }}
  - {{ name: later, matchers: [alertname="Later"], from: "{}", to: "{}", mode: decide_after }}
"#,
        center.address,
        rfc3339(now_ms() - 60_000),
        rfc3339(now_ms() + 3_600_000),
        rfc3339(now_ms() - 60_000),
        rfc3339(now_ms() + 45_000),
    )
}

fn active(sluice: &Sluice, name: &str) -> Value {
    let all = sluice.get(&format!("/api/v1/alerts/active?filter=alertname%3D%22{name}%22")).json();
    all[0].clone()
}

#[test]
fn policies_hold_over_a_restart() {
    let (scratch, center) = (Scratch::new("policies"), Center::default());
    let server = center.server();
    let sinks = NOWHERE.strip_prefix("sinks:\n").unwrap();
    let mut sluice = Sluice::prepare_with(&scratch, "policies", &format!("{sinks}{}", section(&server)), None);
    sluice.up();
    // The leader notes the policies in its first turn.
    eventually(SOON, "the level of the settings", || {
        post(&sluice, &[("First", "1")], 3_600);
        if active(&sluice, "First")["level"] == "P2" { Ok(()) } else { Err("another one".to_owned()) }
    });
    post(&sluice, &[("Leveled", "1")], 3_600);
    post(&sluice, &[("Work", "1"), ("Later", "1"), ("Watched", "1"), ("Flaps", "1")], 3_600);
    post(&sluice, &[("Later", "2")], 1);
    center.wait("Leveled", &["firing P2"]);
    center.wait("Watched", &["firing P3"]);
    center.wait("Flaps", &["firing P3"]);
    let work = active(&sluice, "Work");
    assert_eq!((&work["status"]["state"], &work["status"]["mutedBy"]), (&json!("suppressed"), &json!(["maintenance:disks"])));
    assert_eq!(active(&sluice, "Later")["status"]["mutedBy"], json!(["maintenance:later"]));

    // It comes again while its end is watched: nothing is told, also when the node starts anew in between.
    post(&sluice, &[("Watched", "1")], 0);
    sluice.kill();
    sluice.up();
    assert_eq!(sluice.get("/api/v1/config").json()["version"], 1, "the file says what is in force");
    assert!(active(&sluice, "Watched")["watchedUntil"].is_string(), "{}", active(&sluice, "Watched"));
    let listed = sluice.get("/api/v2/alerts").json();
    assert!(
        listed.as_array().unwrap().iter().all(|alert| alert["labels"]["alertname"] != "Watched"),
        "for Alertmanager's clients it is over"
    );
    post(&sluice, &[("Watched", "1")], 3_600);

    for _ in 0..2 {
        post(&sluice, &[("Flaps", "1")], 0);
        let_pass(Duration::from_secs(2));
        post(&sluice, &[("Flaps", "1")], 3_600);
        let_pass(Duration::from_secs(2));
    }
    assert!(active(&sluice, "Flaps")["flappingSince"].is_string());
    post(&sluice, &[("Flaps", "1")], 0);
    eventually(SOON, "that it flaps, once, and then its end", || {
        let told = center.of("Flaps");
        let flaps = told.iter().filter(|told| *told == "firing P3 flapping").count();
        if flaps == 1 && told.last().is_some_and(|last| last == "resolved P3") { Ok(()) } else { Err(format!("{told:?}")) }
    });

    // Five times it ended by itself: that is learned when it comes again.
    for _ in 0..5 {
        post(&sluice, &[("Short", "1")], 3_600);
        post(&sluice, &[("Short", "1")], 0);
    }
    post(&sluice, &[("Short", "1")], 3_600);
    // The fifth is closed by the sixth, so that it is the seventh that waits.
    post(&sluice, &[("Short", "1")], 0);
    let_pass(Duration::from_secs(3));
    eventually(SOON, "its end to be told", || {
        let all = center.of("Short");
        if all.last().is_none_or(|last| last == "resolved P3") { Ok(()) } else { Err(format!("{all:?}")) }
    });
    let told = center.of("Short").len();
    post(&sluice, &[("Short", "1")], 3_600);
    let short = active(&sluice, "Short");
    let shown = sluice.ask(&["alert", "show", short["fingerprint"].as_str().unwrap()]);
    assert!(shown.contains("waits until") && shown.contains("episodes of Short ended by themselves within 30s"), "{shown}");
    assert_eq!(short["status"]["state"], "unprocessed");
    let firing = |all: &[String]| all.iter().filter(|told| *told == "firing P3").count();
    assert_eq!(firing(&center.of("Short")), firing(&center.of("Short")[..told]), "it waits");
    eventually(SOON, "it to be told all the same", || {
        let all = center.of("Short");
        if all.len() > told && all.last().is_some_and(|last| last == "firing P3") { Ok(()) } else { Err(format!("{all:?}")) }
    });

    let_pass(Duration::from_secs(10));
    assert_eq!(center.of("Watched"), ["firing P3"]);
    post(&sluice, &[("Watched", "1")], 0);
    center.wait("Watched", &["firing P3", "resolved P3"]);
    // What its source stops to say is over without a word of it.
    post(&sluice, &[("Forgotten", "1")], 8);
    center.wait("Forgotten", &["firing P3", "resolved P3 unconfirmed"]);
    center.wait("Later", &["firing P3"]);
    let later = center.0.lock().unwrap().iter().find(|body| body["groupLabels"]["alertname"] == "Later").cloned().unwrap();
    assert_eq!(later["alerts"].as_array().unwrap().len(), 1, "what came and went is not told");
    assert!(center.of("Work").is_empty());

    // The same again without a policy: what was joined then was one episode, so that there is nothing more to tell.
    let file = scratch.join("policies.yaml");
    std::fs::write(&file, "recovery: { observe: 10m }\n").unwrap();
    let text = sluice.ask(&["alert", "dry-run", "--policy", file.to_str().unwrap(), "--days", "1", "--json"]);
    let answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let of = |name: &str| answer["alerts"].as_array().unwrap().iter().find(|one| one["alertname"] == name).cloned().unwrap_or_default();
    assert_eq!((&of("Forgotten")["inForce"]["told"], &of("Forgotten")["proposed"]["told"]), (&json!(1), &json!(1)), "{text}");
    assert_eq!(of("Later")["inForce"]["maintained"], json!(1), "{text}");
    assert_eq!((&of("Later")["proposed"]["told"], &of("Later")["toldThen"]), (&json!(1), &json!(0)), "without the window: {text}");
    assert!(of("Flaps")["inForce"]["told"].as_u64().unwrap() > of("Flaps")["proposed"]["told"].as_u64().unwrap(), "{text}");
    sluice.stop();
}

#[test]
fn another_leader_judges_as_the_one_before_did() {
    let (scratch, center) = (Scratch::new("policies-trio"), Center::default());
    let server = center.server();
    let mut trio = Trio::up(&scratch, &format!("{NOWHERE}{}", section(&server)));
    let first = leads(&trio, 0).unwrap();
    let other = (first + 1) % 3;
    eventually(SOON, "the level of the settings", || {
        post(&trio.nodes[other].sluice, &[("First", "1")], 3_600);
        if active(&trio.nodes[other].sluice, "First")["level"] == "P2" { Ok(()) } else { Err("another one".to_owned()) }
    });
    post(&trio.nodes[other].sluice, &[("Watched", "1"), ("Flaps", "1")], 3_600);
    center.wait("Watched", &["firing P3"]);
    for _ in 0..2 {
        post(&trio.nodes[other].sluice, &[("Flaps", "1")], 0);
        let_pass(Duration::from_secs(2));
        post(&trio.nodes[other].sluice, &[("Flaps", "1")], 3_600);
    }
    let flaps = |node: usize| active(&trio.nodes[node].sluice, "Flaps")["flappingSince"].clone();
    let since = flaps(other);
    assert!(since.is_string());
    post(&trio.nodes[other].sluice, &[("Watched", "1")], 0);
    let until = active(&trio.nodes[other].sluice, "Watched")["watchedUntil"].clone();
    trio.nodes[first].sluice.kill();
    eventually(SOON, "another one to lead", || match leads(&trio, other) {
        Ok(node) if node != first => Ok(()),
        other => Err(format!("{other:?}")),
    });
    // What was noted is what was noted, whoever is asked.
    for node in [other, (first + 2) % 3] {
        eventually(SOON, "what the other node knows", || {
            let watched = active(&trio.nodes[node].sluice, "Watched")["watchedUntil"].clone();
            let flaps = active(&trio.nodes[node].sluice, "Flaps")["flappingSince"].clone();
            if (&watched, &flaps) == (&until, &since) { Ok(()) } else { Err(format!("{watched} {flaps}")) }
        });
    }
    post(&trio.nodes[other].sluice, &[("Watched", "1")], 3_600);
    let_pass(Duration::from_secs(26));
    assert_eq!(center.of("Watched"), ["firing P3"]);
    post(&trio.nodes[other].sluice, &[("Watched", "1"), ("Flaps", "1")], 0);
    center.wait("Watched", &["firing P3", "resolved P3"]);
    assert_eq!(center.of("Flaps").iter().filter(|told| *told == "firing P3 flapping").count(), 1, "{:?}", center.of("Flaps"));
}

#[test]
fn an_alert_whose_source_fell_silent_is_shown_so_before_it_ends() {
    let (scratch, center) = (Scratch::new("unconfirmed"), Center::default());
    let server = center.server();
    let sinks = NOWHERE.strip_prefix("sinks:\n").unwrap();
    let mut sluice = Sluice::prepare_with(&scratch, "unconfirmed", &format!("{sinks}{}", section(&server)), None);
    sluice.up();
    for _ in 0..4 {
        post(&sluice, &[("Silent", "1")], 120);
        let_pass(Duration::from_secs(2));
    }
    // What was learned of it survives.
    sluice.kill();
    sluice.up();
    let silent = eventually(SOON, "two words to be missed", || {
        let silent = active(&sluice, "Silent");
        if silent["unconfirmedSince"].is_string() { Ok(silent) } else { Err(silent.to_string()) }
    });
    assert!(silent["usuallySaidEveryMs"].as_i64().unwrap() >= 2_000 && silent["status"]["state"] == "active", "{silent}");
    assert!(sluice.ask(&["alert", "list", "Silent"]).contains("active, unconfirmed"));
    assert!(sluice.get("/metrics").text().lines().any(|line| line == "sluice_alert_unconfirmed 1.0"));
    assert_eq!(center.of("Silent"), ["firing P3"], "it is shown, no more");
    post(&sluice, &[("Silent", "1")], 120);
    assert_eq!(active(&sluice, "Silent")["unconfirmedSince"], Value::Null, "it is said again");
    sluice.stop();
}

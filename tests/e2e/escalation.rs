//! Policies of telling, with real nodes and webhooks: who is told besides when nobody takes care, over an acknowledgement, an end, and a leader that dies between
//! noting an escalation and sending it.

use super::alerting::{leads, post};
use crate::support::http::{Client, Http, Server};
use crate::support::kafka::Kafka;
use crate::support::process::{Scratch, eventually, let_pass};
use crate::support::sluice::Sluice;
use crate::support::trio::{NAMES, NOWHERE, Trio};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);

/// A message: to whom, its id, and what it says.
#[derive(Clone, Debug)]
struct Message {
    to: String,
    id: String,
    body: Value,
}

/// What webhooks were told, by the path of each.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Message>>>);

impl Heard {
    fn server(&self) -> Server {
        let heard = self.clone();
        Server::start(move |request: &Http| {
            let to = request.target().1.trim_start_matches('/').to_owned();
            let id = request.header("idempotency-key").unwrap_or_default().to_owned();
            heard.0.lock().unwrap().push(Message { to, id, body: request.json() });
            Some(Http::answer(200, ""))
        })
    }

    fn all(&self) -> Vec<Message> {
        self.0.lock().unwrap().clone()
    }

    /// Of each message to whom, its state, its alerts by their label `i`, and its step.
    fn said(&self) -> Vec<String> {
        let one = |message: &Message| {
            let alerts = message.body["alerts"].as_array().unwrap();
            let ids: Vec<&str> = alerts.iter().map(|alert| alert["labels"]["i"].as_str().unwrap_or_default()).collect();
            let step = match &message.body["escalation"] {
                Value::Null => String::new(),
                step => format!(" {}/{}", step["policy"].as_str().unwrap(), step["step"]),
            };
            format!("{} {} {}{step}", message.to, message.body["status"].as_str().unwrap(), ids.join(","))
        };
        self.all().iter().map(one).collect()
    }

    #[track_caller]
    fn wait(&self, expected: &str) {
        eventually(SOON, &format!("to be told {expected}"), || {
            let all = self.said();
            if all.iter().any(|told| told == expected) { Ok(()) } else { Err(format!("{all:?}")) }
        });
    }

    fn times(&self, expected: &str) -> usize {
        self.said().iter().filter(|told| *told == expected).count()
    }
}

/// Alerts with a label `i` go to `hook`, sluice's own to nobody; `second` and `boss` are there for who is told besides.
fn section(hook: &Server, beside: &str) -> String {
    let receiver = |name: &str| format!("{{ name: {name}, webhook_configs: [{{ url: \"http://{}/{name}\" }}] }}", hook.address);
    let receivers = ["hook", "second", "boss"].map(receiver).join(", ");
    format!(
        "alerting:\n{beside}  config:\n    route: {{ receiver: nobody, routes: [{{ receiver: hook, matchers: ['i=~\".+\"'], group_by: [alertname], group_wait: 500ms, group_interval: 1s, \
         repeat_interval: 1h }}] }}\n    receivers: [{{ name: nobody }}, {receivers}]\n"
    )
}

fn one(scratch: &Scratch, name: &str, section: &str) -> Sluice {
    let sinks = NOWHERE.strip_prefix("sinks:\n").unwrap();
    let mut sluice = Sluice::prepare_with(scratch, name, &format!("{sinks}{section}"), None);
    sluice.up();
    sluice
}

fn acknowledge(sluice: &Sluice, name: &str) {
    let alerts = sluice.get("/api/v2/alerts").json();
    let known = alerts.as_array().unwrap().iter().find(|alert| alert["labels"]["alertname"] == name).unwrap().clone();
    let request = Http {
        first: format!("POST /api/v1/alerts/{}/ack HTTP/1.1", known["fingerprint"].as_str().unwrap()),
        headers: vec![("Host".into(), "x".into()), ("Content-Type".into(), "application/json".into())],
        body: json!({ "by": "ann", "comment": "on it" }).to_string().into(),
    };
    assert_eq!(Client::new(sluice.address()).send(&request).unwrap().status(), 200);
}

const STEPS: &str =
    "  escalation:\n    - { name: oncall, receivers: [hook], steps: [{ after: 4s, receiver: second }, { after: 10s, receiver: boss }] }\n";

#[test]
fn who_is_told_besides_when_nobody_takes_care() {
    let (scratch, heard) = (Scratch::new("escalation"), Heard::default());
    let hook = heard.server();
    let mut sluice = one(&scratch, "escalation", &section(&hook, STEPS));
    post(&sluice, &[("Taken", "1"), ("Left", "2")], 3_600);
    heard.wait("hook firing 1");
    heard.wait("hook firing 2");
    acknowledge(&sluice, "Taken");
    heard.wait("second firing 2 oncall/1");
    let group = |to: &str| heard.all().iter().find(|message| message.to == to).unwrap().body["groupKey"].clone();
    assert!(
        group("second").as_str().unwrap().ends_with(":{alertname=\"Left\"}"),
        "as the route's own receiver is told: {}",
        group("second")
    );

    // What is noted survives, the time that has passed as well.
    sluice.kill();
    sluice.up();
    heard.wait("boss firing 2 oncall/2");
    post(&sluice, &[("Taken", "1"), ("Left", "2")], 0);
    for told in ["hook resolved 1", "hook resolved 2", "second resolved 2 oncall/1", "boss resolved 2 oncall/2"] {
        heard.wait(told);
    }
    let_pass(Duration::from_secs(3));
    assert_eq!(heard.said().len(), 8, "{:?}", heard.said());
    sluice.stop();
}

#[test]
fn a_leader_that_dies_between_noting_an_escalation_and_sending_it_leaves_it_to_the_next() {
    let (scratch, heard) = (Scratch::new("escalation-trio"), Heard::default());
    let hook = heard.server();
    let steps = "  escalation:\n    - { name: oncall, receivers: [hook], steps: [{ after: 45s, receiver: second }] }\n";
    let mut trio = Trio::up(&scratch, &format!("{NOWHERE}{}", section(&hook, steps)));
    // Before it is told: what is measured from here is never too short.
    let told = Instant::now();
    post(&trio.nodes[0].sluice, &[("X", "1")], 3_600);
    heard.wait("hook firing 1");
    let node = leads(&trio, 0).unwrap();
    let other = (node + 1) % 3;
    trio.nodes[node].sluice.kill();
    trio.nodes[node].sluice.launch_armed("alert.claimed");
    trio.nodes[node].sluice.wait_ready(SOON);
    eventually(SOON, "the armed node to lead", || {
        drop(trio.nodes[other].run(&["cluster", "transfer", "--all", "--to", NAMES[node]]));
        if leads(&trio, other)? == node { Ok(()) } else { Err("another one leads".into()) }
    });
    assert!(told.elapsed() < Duration::from_secs(43), "the armed node must lead before the step comes");
    let (_, log) = trio.nodes[node].sluice.wait_death(SOON);
    assert!(log.contains("fail point alert.claimed: ") && told.elapsed() >= Duration::from_secs(44), "{:?} {log}", told.elapsed());
    assert_eq!(heard.times("second firing 1 oncall/1"), 0, "noted, and not sent");
    heard.wait("second firing 1 oncall/1");
    trio.nodes[node].sluice.up();
    trio.wait_well();
    post(&trio.nodes[other].sluice, &[("X", "1")], 0);
    heard.wait("second resolved 1 oncall/1");
    let ids: Vec<String> = heard.all().iter().filter(|message| message.to == "second").map(|message| message.id.clone()).collect();
    assert_eq!((ids.len(), heard.times("hook firing 1"), heard.times("hook resolved 1")), (2, 1, 1), "{:?}", heard.said());
}

#[test]
fn what_a_window_holds_back_is_told_in_one_message_over_a_restart() {
    let (scratch, heard) = (Scratch::new("throttle"), Heard::default());
    let hook = heard.server();
    let throttle = "  throttle: [{ receivers: [hook], windows: [{ messages: 2, per: 20s }] }]\n";
    let mut sluice = one(&scratch, "throttle", &section(&hook, throttle));
    let names: Vec<String> = (1..=6).map(|number| number.to_string()).collect();
    let all: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
    post(&sluice, &all, 3_600);
    heard.wait("hook firing 1,2,3,4,5,6");
    let first = heard.all().remove(0);
    assert_eq!(first.body["groups"].as_array().unwrap().len(), 6, "six groups, and room for two messages: {}", first.body);
    assert_eq!((&first.body["groups"][0]["firing"], &first.body["version"]), (&json!(1), &json!("4")));
    post(&sluice, &[("A", "7")], 3_600);
    heard.wait("hook firing 7");
    let full = Instant::now();
    post(&sluice, &[("B", "8"), ("C", "9")], 3_600);
    let_pass(Duration::from_secs(2));
    sluice.kill();
    sluice.up();
    // One is over by then, and told so; the end of what was told waits for nothing.
    post(&sluice, &[("B", "8"), ("A", "7")], 0);
    heard.wait("hook resolved 7");
    heard.wait("hook firing 9,8");
    assert!(full.elapsed() >= Duration::from_secs(8), "the first message falls out of the window: {:?}", full.elapsed());
    let_pass(Duration::from_secs(3));
    assert_eq!(heard.said(), ["hook firing 1,2,3,4,5,6", "hook firing 7", "hook resolved 7", "hook firing 9,8"]);
    sluice.stop();
}

#[test]
fn a_storm_is_told_by_digests_and_the_history_says_so() {
    let (scratch, heard) = (Scratch::new("storm"), Heard::default());
    let hook = heard.server();
    let storm = "  storm: [{ receivers: [hook], alerts: 10, within: 30s, calm: 15s }]\n";
    let mut sluice = one(&scratch, "storm", &section(&hook, storm));
    let names: Vec<String> = (0..30).map(|number| number.to_string()).collect();
    let all: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
    post(&sluice, &all, 3_600);
    let digest =
        eventually(SOON, "a digest", || heard.all().into_iter().find(|message| !message.body["digest"].is_null()).ok_or("none".to_owned()));
    let said = (&digest.body["digest"]["firing"], digest.body["alerts"].as_array().unwrap().len(), &digest.body["truncatedAlerts"]);
    assert_eq!(said, (&json!(30), 20, &json!(10)));
    assert_eq!(digest.body["digest"]["top"]["alertname"].as_array().unwrap().len(), 5);
    post(&sluice, &[("0", "0")], 0);
    heard.wait("hook firing 29");
    eventually(SOON, "what still holds to be told by its groups", || {
        let alone = heard.all().iter().filter(|message| message.body["digest"].is_null()).count();
        if alone == 29 { Ok(()) } else { Err(alone.to_string()) }
    });
    let history = sluice.get("/api/v1/alerts/history?filter=alertname%3D0").json();
    assert_eq!(history["episodes"][0]["told"][0]["digest"], json!(true), "{history}");
    // Whoever was told by a digest alone hears the end by one.
    eventually(Duration::from_secs(100), "the end of what was over in the storm", || {
        let ends = heard.all().into_iter().filter(|message| message.body["digest"]["resolved"] == json!(1)).count();
        if ends == 1 { Ok(()) } else { Err(format!("{:?}", heard.said())) }
    });
    assert_eq!(heard.times("hook firing 0"), 0);
    sluice.stop();
}

#[test]
fn closed_episodes_reach_a_topic_and_a_restart_goes_on_from_there() {
    let (scratch, heard, kafka) = (Scratch::new("alert-export"), Heard::default(), Kafka::shared());
    let hook = heard.server();
    let topic = "alert-episodes";
    let beside = format!(
        "  history: {{ kafka: {{ brokers: [\"{}\"], topic: {topic}, create_topic: {{ partitions: 2, replication: 1 }} }} }}\n",
        kafka.address()
    );
    let mut sluice = one(&scratch, "alert-export", &section(&hook, &beside));
    let records = || -> Vec<Value> {
        let all = kafka.reader(topic).drain();
        all.iter().map(|record| serde_json::from_slice(&record.payload).unwrap()).collect()
    };
    for round in 1..=2_usize {
        post(&sluice, &[("A", "1")], 3_600);
        eventually(SOON, "to be told", || if heard.times("hook firing 1") >= round { Ok(()) } else { Err(format!("{:?}", heard.said())) });
        post(&sluice, &[("A", "1")], 0);
        eventually(SOON, "to be told the end", || {
            if heard.times("hook resolved 1") >= round { Ok(()) } else { Err(format!("{:?}", heard.said())) }
        });
        // That it fires again closes what was before.
        post(&sluice, &[("A", "1")], 3_600);
        let all = eventually(SOON, "a record", || {
            let all = records();
            if all.len() >= round { Ok(all) } else { Err(format!("{all:?}")) }
        });
        let last = &all[round - 1];
        assert_eq!(
            (&last["row"], &last["number"], &last["labels"]["alertname"]),
            (&json!("alert-episode/1"), &json!(round), &json!("A")),
            "{last}"
        );
        assert!(last["told"][0]["overAt"].is_string() && last["closedAt"].is_string(), "{last}");
        let_pass(Duration::from_secs(2));
        sluice.kill();
        sluice.up();
        post(&sluice, &[("A", "1")], 0);
        let_pass(Duration::from_secs(3));
    }
    let numbers: Vec<u64> = records().iter().map(|record| record["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<u64>>(), "each once, and of one alert in order");
    sluice.stop();
}

#[test]
fn several_groups_in_one_message_go_once_more_with_the_same_id() {
    let (scratch, heard) = (Scratch::new("bundle-trio"), Heard::default());
    let hook = heard.server();
    let bundle = "  bundle: [{ receivers: [hook], within: 1s }]\n";
    let mut trio = Trio::up(&scratch, &format!("{NOWHERE}{}", section(&hook, bundle)));
    let node = leads(&trio, 0).unwrap();
    let other = (node + 1) % 3;
    trio.nodes[node].sluice.kill();
    trio.nodes[node].sluice.launch_armed("alert.sent");
    trio.nodes[node].sluice.wait_ready(SOON);
    eventually(SOON, "the armed node to lead", || {
        drop(trio.nodes[other].run(&["cluster", "transfer", "--all", "--to", NAMES[node]]));
        if leads(&trio, other)? == node { Ok(()) } else { Err("another one leads".into()) }
    });
    post(&trio.nodes[other].sluice, &[("A", "1"), ("B", "2"), ("C", "3")], 3_600);
    let (_, log) = trio.nodes[node].sluice.wait_death(SOON);
    assert!(log.contains("fail point alert.sent: "), "{log}");
    eventually(SOON, "another leader to tell once more", || {
        let times = heard.times("hook firing 1,2,3");
        if times == 2 { Ok(()) } else { Err(format!("{times} {:?}", heard.said())) }
    });
    trio.nodes[node].sluice.up();
    trio.wait_well();
    post(&trio.nodes[other].sluice, &[("A", "1"), ("B", "2"), ("C", "3")], 0);
    heard.wait("hook resolved 1,2,3");
    let ids: Vec<String> = heard.all().into_iter().map(|message| message.id).collect();
    assert!(ids.len() == 3 && ids[0] == ids[1] && ids[1] != ids[2], "one message, one id: {ids:?}");
}

/// What a node says of a receiver.
fn receiver(sluice: &Sluice, name: &str) -> Value {
    let answer = sluice.get("/api/v1/alerts/receivers").json();
    let of = answer["receivers"].as_array().unwrap().iter().find(|one| one["receiver"] == name).unwrap().clone();
    json!({ "tells": answer["tells"], "of": of })
}

#[test]
fn every_node_shows_what_is_kept_back_and_who_is_told_next() {
    let (scratch, heard) = (Scratch::new("outlook"), Heard::default());
    let hook = heard.server();
    let beside = "  escalation:\n    - { name: oncall, receivers: [hook], steps: [{ after: 3s, receiver: second }, { after: 1h, receiver: boss }] }\n  \
                  throttle: [{ receivers: [hook], windows: [{ messages: 1, per: 1h }] }]\n";
    let mut trio = Trio::up(&scratch, &format!("{NOWHERE}{}", section(&hook, beside)));
    let leader = leads(&trio, 0).unwrap();
    post(&trio.nodes[0].sluice, &[("X", "1")], 3_600);
    heard.wait("hook firing 1");
    heard.wait("second firing 1 oncall/1");
    post(&trio.nodes[0].sluice, &[("Y", "2"), ("Z", "3"), ("Z", "4")], 3_600);
    for (number, node) in trio.nodes.iter_mut().enumerate() {
        eventually(SOON, &format!("{} to show what is held", node.name), || {
            let shown = receiver(&node.sluice, "hook");
            let held = &shown["of"]["held"];
            if (&held["groups"], &held["alerts"]) == (&json!(2), &json!(3)) { Ok(()) } else { Err(shown.to_string()) }
        });
        let shown = receiver(&node.sluice, "hook");
        let (of, tells) = (&shown["of"], number == leader);
        assert_eq!((&shown["tells"], &of["kind"], &of["windows"][0]["used"]), (&json!(tells), &json!("webhook"), &json!(1)), "{shown}");
        assert!(of["held"]["until"].is_string() && of["held"]["until"] == of["windows"][0]["opensAt"], "{shown}");
        assert_eq!(of["waiting"]["for"], if tells { json!("window") } else { Value::Null }, "{shown}");
        let active = node.sluice.get("/api/v1/alerts/active?filter=alertname%3DX").json();
        let steps = &active[0]["escalation"][0];
        assert_eq!((&steps["policy"], &steps["last"]["receiver"], &steps["next"]["step"]), (&json!("oncall"), &json!("second"), &json!(2)));
        assert!(steps["last"]["at"].is_string() && steps["next"]["at"].is_string(), "{steps}");
        let metrics = node.sluice.get("/metrics").text();
        let line = "sluice_alert_held{integration=\"webhook\",receiver_name=\"hook\"} 3.0";
        assert!(metrics.lines().any(|known| known == line), "{line}: {metrics}");
    }
    let shown = trio.nodes[leader].run(&["alert", "receivers", "--waiting"]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(text.contains("3 alerts of 2 groups") && text.contains("1/1 in 60 min") && !text.contains("boss"), "{text}");
    let listed = trio.nodes[leader].run(&["alert", "list", "X"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("boss in 60 min"), "{}", String::from_utf8_lossy(&listed.stdout));
}

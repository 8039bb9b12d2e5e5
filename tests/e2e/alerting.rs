//! Alerts posted to real nodes and told to a webhook: what is told and when, over restarts; and a leader that dies between noting a message, sending it, and noting
//! that it was taken.

use crate::support::http::{Http, Server};
use crate::support::process::{Scratch, eventually, let_pass, now_ms};
use crate::support::sluice::Sluice;
use crate::support::trio::{NAMES, NOWHERE, Trio};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// Places at which a process dies here.
pub const PLACES: &[&str] = &["alert.claimed", "alert.sent"];

/// What a webhook was told, and whether it takes anything now.
#[derive(Clone, Default)]
pub struct Heard {
    pub messages: Arc<Mutex<Vec<(String, Value)>>>,
    away: Arc<AtomicBool>,
}

impl Heard {
    pub fn server(&self) -> Server {
        let heard = self.clone();
        Server::start(move |request: &Http| {
            if heard.away.load(Ordering::Relaxed) {
                return Some(Http::answer(503, "not now"));
            }
            let id = request.header("idempotency-key").unwrap_or_default().to_owned();
            heard.messages.lock().unwrap().push((id, request.json()));
            Some(Http::answer(200, ""))
        })
    }

    /// Of each message its group's name, its state, and its alerts by their label `i`.
    pub fn all(&self) -> Vec<String> {
        let one = |(_, body): &(String, Value)| {
            let alerts = body["alerts"].as_array().unwrap();
            let ids: String = alerts.iter().map(|alert| alert["labels"]["i"].as_str().unwrap_or_default()).collect();
            format!("{} {} {ids}", body["groupLabels"]["alertname"].as_str().unwrap(), body["status"].as_str().unwrap())
        };
        self.messages.lock().unwrap().iter().map(one).collect()
    }

    #[track_caller]
    pub fn wait(&self, expected: &str) {
        eventually(SOON, &format!("to be told {expected}"), || {
            let all = self.all();
            if all.iter().any(|told| told == expected) { Ok(()) } else { Err(format!("{all:?}")) }
        });
    }

    pub fn times(&self, expected: &str) -> usize {
        self.all().iter().filter(|told| *told == expected).count()
    }
}

fn section(hook: &Server, group_wait: &str) -> String {
    format!(
        "alerting:\n  config:\n    route: {{ receiver: hook, group_by: [alertname], group_wait: {group_wait}, group_interval: 2s, repeat_interval: 1h }}\n    \
         receivers: [{{ name: hook, webhook_configs: [{{ url: \"http://{}/hook\" }}] }}]\n",
        hook.address
    )
}

/// Posts alerts that hold for so long from now, seconds; 0: they are over.
#[track_caller]
pub fn post(sluice: &Sluice, alerts: &[(&str, &str)], seconds: i64) {
    let (starts, ends) = (rfc3339(now_ms() - 60_000), rfc3339(now_ms() + seconds * 1000));
    let all: Vec<Value> =
        alerts.iter().map(|(name, i)| json!({ "labels": { "alertname": name, "i": i }, "startsAt": starts, "endsAt": ends })).collect();
    eventually(SOON, "alerts to be taken", || {
        let answer = send(sluice, "/api/v2/alerts", &Value::from(all.clone()))?;
        if answer.status() == 200 { Ok(()) } else { Err(format!("{} {}", answer.status(), answer.text())) }
    });
}

pub fn send(sluice: &Sluice, path: &str, body: &Value) -> Result<Http, String> {
    let request = Http {
        first: format!("POST {path} HTTP/1.1"),
        headers: vec![("Host".into(), "x".into()), ("Content-Type".into(), "application/json".into())],
        body: body.to_string().into(),
    };
    crate::support::http::Client::new(sluice.address()).send(&request).map_err(|error| error.to_string())
}

/// `2026-11-26T12:00:00.000Z` of ms since 1970.
pub fn rfc3339(ms: i64) -> String {
    let (days, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Civil from days, after Howard Hinnant's description of the calendar.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second, milli) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60, rest % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

#[test]
fn alerts_are_told_by_their_groups_over_restarts_and_silences() {
    let (scratch, heard) = (Scratch::new("alerting"), Heard::default());
    let hook = heard.server();
    let sinks = NOWHERE.strip_prefix("sinks:\n").unwrap();
    let mut sluice = Sluice::prepare_with(&scratch, "alerting", &format!("{sinks}{}", section(&hook, "1s")), None);
    sluice.up();
    post(&sluice, &[("A", "1"), ("A", "2")], 3_600);
    post(&sluice, &[("A", "1")], 3_600);
    heard.wait("A firing 12");

    // What is noted survives: nothing is told again, and what comes then is told as an addition.
    sluice.kill();
    sluice.up();
    let_pass(Duration::from_secs(5));
    assert_eq!(heard.all(), ["A firing 12"]);
    post(&sluice, &[("A", "3")], 3_600);
    heard.wait("A firing 123");

    let silence = json!({
        "matchers": [{ "name": "alertname", "value": "B", "isRegex": false, "isEqual": true }],
        "startsAt": rfc3339(now_ms()), "endsAt": rfc3339(now_ms() + 3_600_000), "createdBy": "ann", "comment": "work",
    });
    let made = send(&sluice, "/api/v2/silences", &silence).unwrap();
    assert_eq!(made.status(), 200, "{}", made.text());
    let id = made.json()["silenceID"].as_str().unwrap().to_owned();
    post(&sluice, &[("B", "1"), ("C", "1")], 3_600);
    heard.wait("C firing 1");
    let_pass(Duration::from_secs(3));
    let alerts = sluice.get("/api/v2/alerts").json();
    let of_b = alerts.as_array().unwrap().iter().find(|alert| alert["labels"]["alertname"] == "B").unwrap().clone();
    assert_eq!((&of_b["status"]["state"], &of_b["status"]["silencedBy"]), (&json!("suppressed"), &json!([id])));
    assert_eq!(heard.times("B firing 1"), 0);

    // A receiver that is away through an end hears of it, and what was silenced is told when the silence is over.
    heard.away.store(true, Ordering::Relaxed);
    post(&sluice, &[("D", "1")], 3_600);
    let_pass(Duration::from_secs(3));
    post(&sluice, &[("D", "1")], 0);
    let_pass(Duration::from_secs(3));
    // What the shipped rules about receivers ask for.
    let metrics = sluice.get("/metrics").text();
    for name in ["failed_total", "total", "open"] {
        let name = format!("alertmanager_notifications_{name}");
        assert!(metrics.lines().any(|line| line.starts_with(&name)), "{name}");
    }
    sluice.kill();
    heard.away.store(false, Ordering::Relaxed);
    sluice.up();
    heard.wait("D firing 1");
    heard.wait("D resolved 1");
    post(&sluice, &[("A", "1"), ("A", "2"), ("A", "3")], 0);
    heard.wait("A resolved 123");
    let expired = crate::support::http::Client::new(sluice.address()).call("DELETE", &format!("/api/v2/silence/{id}")).unwrap();
    assert_eq!(expired.status(), 200);
    heard.wait("B firing 1");
    let ids: Vec<String> = heard.messages.lock().unwrap().iter().map(|(id, _)| id.clone()).collect();
    let mut once = ids.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), ids.len(), "each message has its own id: {ids:?}");
    sluice.stop();
}

/// The node that leads the control shard, as another one sees it.
pub fn leads(trio: &Trio, asked: usize) -> Result<usize, String> {
    let view = trio.nodes[asked].json("/api/v1/cluster")?;
    let shard =
        view["shards"].as_array().and_then(|shards| shards.iter().find(|shard| shard["shard"] == 0)).cloned().ok_or("no shard 0")?;
    NAMES.iter().position(|name| shard["leader"] == **name).ok_or(format!("{shard}"))
}

#[test]
fn a_leader_that_dies_while_it_tells_has_told_or_another_one_does_and_with_the_same_id() {
    let (scratch, heard) = (Scratch::new("alerting-trio"), Heard::default());
    let hook = heard.server();
    let mut trio = Trio::up(&scratch, &format!("{NOWHERE}{}", section(&hook, "500ms")));
    for (place, name) in [("alert.claimed", "Claimed"), ("alert.sent", "Sent")] {
        let node = leads(&trio, 0).unwrap();
        let other = (node + 1) % 3;
        trio.nodes[node].sluice.kill();
        trio.nodes[node].sluice.launch_armed(place);
        trio.nodes[node].sluice.wait_ready(SOON);
        eventually(SOON, "the armed node to lead", || {
            drop(trio.nodes[other].run(&["cluster", "transfer", "--all", "--to", NAMES[node]]));
            if leads(&trio, other)? == node { Ok(()) } else { Err("another one leads".into()) }
        });
        post(&trio.nodes[other].sluice, &[(name, "1")], 3_600);
        let (_, log) = trio.nodes[node].sluice.wait_death(SOON);
        assert!(log.contains(&format!("fail point {place}: ")), "{log}");
        heard.wait(&format!("{name} firing 1"));
        trio.nodes[node].sluice.up();
        trio.wait_well();
        let_pass(Duration::from_secs(3));
        let messages = heard.messages.lock().unwrap().clone();
        let mut ids: Vec<&String> =
            messages.iter().filter(|(_, body)| body["groupLabels"]["alertname"] == name).map(|(id, _)| id).collect();
        assert!(!ids.is_empty() && ids.len() <= 2, "{place}: {ids:?}");
        ids.dedup();
        assert_eq!(ids.len(), 1, "{place}: one message, one id");
    }
}

#[test]
fn an_episode_is_in_the_history_once_over_restarts() {
    let (scratch, heard) = (Scratch::new("alert-history"), Heard::default());
    let hook = heard.server();
    let sinks = NOWHERE.strip_prefix("sinks:\n").unwrap();
    let mut sluice = Sluice::prepare_with(&scratch, "alert-history", &format!("{sinks}{}", section(&hook, "500ms")), None);
    sluice.up();
    let history = |sluice: &Sluice, query: &str| sluice.get(&format!("/api/v1/alerts/history?{query}")).json();
    post(&sluice, &[("A", "1")], 3_600);
    heard.wait("A firing 1");
    let known = sluice.get("/api/v2/alerts").json();
    let ack = format!("/api/v1/alerts/{}/ack", known[0]["fingerprint"].as_str().unwrap());
    assert_eq!(send(&sluice, &ack, &json!({ "by": "ann", "comment": "on it" })).unwrap().status(), 200);
    assert_eq!(history(&sluice, "")["episodes"], json!([]), "it holds");
    sluice.kill();
    sluice.up();
    post(&sluice, &[("A", "1")], 0);
    heard.wait("A resolved 1");

    // Over, and kept in the book: somebody may still have to be told.
    eventually(SOON, "the end to be noted", || {
        let all = history(&sluice, "filter=alertname%3DA");
        let one = &all["episodes"][0];
        if one["number"].is_null() && one["told"][0]["overAt"].is_string() { Ok(()) } else { Err(all.to_string()) }
    });
    sluice.kill();
    sluice.up();
    post(&sluice, &[("A", "1")], 3_600);
    heard.wait("A firing 1");
    for _ in 0..2 {
        // The row is on its way to the disk when the alert is answered.
        eventually(SOON, "the row of the first episode", || {
            let all = history(&sluice, "");
            if all["missing"] == 0 && all["episodes"][0]["number"] == 1 { Ok(()) } else { Err(all.to_string()) }
        });
        let all = history(&sluice, "");
        let one = &all["episodes"][0];
        assert_eq!(all["episodes"].as_array().unwrap().len(), 1, "{all}");
        assert_eq!((&one["told"][0]["receiver"], &one["acknowledged"]["by"]), (&json!("hook"), &json!("ann")), "{all}");
        assert!(one["told"][0]["overAt"].is_string() && one["acknowledged"]["afterMs"].as_i64().unwrap() >= 60_000, "{all}");
        // What is not yet in an image is applied once more.
        sluice.kill();
        sluice.up();
    }
    assert_eq!(history(&sluice, "filter=alertname%3DB")["episodes"], json!([]));
    assert_eq!(sluice.get("/api/v1/alerts/history?from=now").status(), 400);
    sluice.stop();
}

#[test]
fn a_heartbeat_goes_out_from_the_leader_for_as_long_as_there_is_a_majority() {
    let (scratch, heard, beats) = (Scratch::new("heartbeat"), Heard::default(), Arc::new(Mutex::new(Vec::<String>::new())));
    let hook = heard.server();
    let kept = Arc::clone(&beats);
    let watch = Server::start(move |request: &Http| {
        kept.lock().unwrap().push(request.json()["node"].as_str().unwrap_or_default().to_owned());
        Some(Http::answer(204, ""))
    });
    let beat = format!("  heartbeat: {{ url: \"http://{}/ping\", interval: 1s }}\n", watch.address);
    let mut trio = Trio::up(&scratch, &format!("{NOWHERE}{}{beat}", section(&hook, "500ms")));
    let leader = leads(&trio, 0).unwrap();
    let from = |name: &str| {
        beats.lock().unwrap().clear();
        eventually(SOON, &format!("beats of {name}"), || {
            let all = beats.lock().unwrap().clone();
            if all.len() >= 2 && all.iter().all(|node| node == name) { Ok(()) } else { Err(format!("{all:?}")) }
        });
    };
    from(NAMES[leader]);
    trio.nodes[leader].sluice.kill();
    let other = (leader + 1) % 3;
    eventually(SOON, "another leader", || {
        let now = leads(&trio, other)?;
        if now != leader { Ok(()) } else { Err("the dead one".into()) }
    });
    from(NAMES[leads(&trio, other).unwrap()]);
    trio.nodes[(leader + 2) % 3].sluice.kill();
    // Whoever is left notices within some seconds, and until then nothing it proposes is noted.
    let_pass(Duration::from_secs(8));
    beats.lock().unwrap().clear();
    let_pass(Duration::from_secs(6));
    assert_eq!(beats.lock().unwrap().len(), 0, "there is no majority");
    trio.nodes[leader].sluice.up();
    trio.nodes[(leader + 2) % 3].sluice.up();
    eventually(SOON, "beats again", || if beats.lock().unwrap().is_empty() { Err("none".into()) } else { Ok(()) });
}

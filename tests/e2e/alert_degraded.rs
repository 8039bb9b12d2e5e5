//! Two of three nodes die while an alert waits to be told: the third one tells by itself, marked, and of no end; and when there is a majority again nothing is said that
//! contradicts it, and what it told comes with the same id.

use super::alerting::{Heard, leads, post, rfc3339, send};
use crate::support::process::{Scratch, let_pass, now_ms};
use crate::support::trio::{NOWHERE, Trio};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Of all messages of a group: id, state and mark, in the order in which they came.
fn story(heard: &Heard, name: &str) -> Vec<(String, String, bool)> {
    let messages = heard.messages.lock().unwrap();
    let of = messages.iter().filter(|(_, body)| body["groupLabels"]["alertname"] == name);
    of.map(|(id, body)| (id.clone(), body["status"].as_str().unwrap().to_owned(), body["degraded"] == true)).collect()
}

#[test]
fn without_a_majority_a_node_tells_by_itself_and_with_one_again_nothing_contradicts_it() {
    let (scratch, heard) = (Scratch::new("degraded"), Heard::default());
    let hook = heard.server();
    let section = format!(
        "alerting:\n  config:\n    route: {{ receiver: center, group_by: [alertname], group_wait: 8s, group_interval: 2s, repeat_interval: 1h }}\n    \
         receivers: [{{ name: center, alert_center_configs: [{{ url: \"http://{}/hook\" }}] }}]\n",
        hook.address
    );
    let mut trio = Trio::up(&scratch, &format!("{NOWHERE}{section}"));
    let leader = leads(&trio, 0).unwrap();
    let (other, left) = ((leader + 1) % 3, (leader + 2) % 3);
    // One that was told and goes on, and one that was told and that nobody says again.
    post(&trio.nodes[left].sluice, &[("Told", "1")], 3_600);
    post(&trio.nodes[left].sluice, &[("Short", "1")], 30);
    heard.wait("Told firing 1");
    heard.wait("Short firing 1");
    post(&trio.nodes[left].sluice, &[("Waits", "1")], 3_600);
    let posted = Instant::now();
    [leader, other].into_iter().for_each(|node| trio.nodes[node].sluice.kill());
    assert!(posted.elapsed() < Duration::from_secs(6), "they died too late: it may have been told");

    heard.wait("Waits firing 1");
    assert!(posted.elapsed() > Duration::from_secs(30), "a majority may come back: half a minute is waited");
    let degraded = story(&heard, "Waits");
    assert!(matches!(&degraded[..], [(_, status, true)] if status == "firing"), "{degraded:?}");
    let refused = send(
        &trio.nodes[left].sluice,
        "/api/v2/alerts",
        &json!([{ "labels": { "alertname": "New" }, "endsAt": rfc3339(now_ms() + 60_000) }]),
    );
    assert_eq!(refused.unwrap().status(), 503, "nobody could keep it");
    let_pass(Duration::from_secs(8));
    assert_eq!(story(&heard, "Waits"), degraded, "once");
    for name in ["Told", "Short"] {
        assert_eq!(story(&heard, name).len(), 1, "{name} was told before, and an end may only mean that nobody could say it again");
    }

    [leader, other].into_iter().for_each(|node| trio.nodes[node].sluice.up());
    trio.wait_well();
    // Now that everybody could have been heard, it is over.
    heard.wait("Short resolved 1");
    post(&trio.nodes[other].sluice, &[("Waits", "1")], 0);
    heard.wait("Waits resolved 1");
    let all = story(&heard, "Waits");
    let (ends, fires): (Vec<_>, Vec<_>) = all.iter().partition(|(_, status, _)| status == "resolved");
    assert!(fires.iter().all(|(id, ..)| *id == degraded[0].0), "the next leader tells it under the same id, if it does: {all:?}");
    assert_eq!((ends.len(), all.last().map(|(_, status, mark)| (&**status, *mark))), (1, Some(("resolved", false))), "{all:?}");
    let marked: Vec<Value> =
        heard.messages.lock().unwrap().iter().map(|(_, body)| body.clone()).filter(|body| body["degraded"] == true).collect();
    assert_eq!(marked.len(), 1, "{marked:?}");
    assert_eq!(story(&heard, "Told").len(), 1);
}

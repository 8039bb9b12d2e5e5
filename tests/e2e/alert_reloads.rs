//! `alerting:` changed by a reload while alerts wait: timers go on, unless they are to begin anew as Alertmanager's do. And sluice's own alerts on the ways that the
//! settings have for all: routes, groups, silences, over the death of the node that leads.

use super::alerting::{Heard, leads, post, rfc3339, send};
use crate::support::http::{Http, Server};
use crate::support::process::{Scratch, eventually, now_ms};
use crate::support::sluice::Sluice;
use crate::support::trio::{NOWHERE, Trio};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);

/// One node that tells this webhook, with more below `alerting:`.
fn node(scratch: &Scratch, hook: &Server, waits: &str, more: &str) -> Sluice {
    let sinks = NOWHERE.strip_prefix("sinks:\n").unwrap();
    let section = format!(
        "alerting:\n{more}  config:\n    route: {{ receiver: hook, group_by: [alertname], {waits}, repeat_interval: 1h }}\n    \
         receivers: [{{ name: hook, webhook_configs: [{{ url: \"http://{}/hook\" }}] }}]\n",
        hook.address
    );
    Sluice::prepare_with(scratch, "reloads", &format!("{sinks}{section}"), None)
}

/// Seconds from `begin` until it is told.
fn told_after(heard: &Heard, expected: &str, begin: Instant) -> f64 {
    heard.wait(expected);
    begin.elapsed().as_secs_f64()
}

fn sleep_until(begin: Instant, seconds: u64) {
    std::thread::sleep((begin + Duration::from_secs(seconds)).saturating_duration_since(Instant::now()));
}

fn reload(sluice: &Sluice, says: &str) {
    let answer = sluice.post("/-/reload");
    assert!(answer.status() == 200 && answer.text().contains(says), "{}", answer.text());
}

#[test]
fn timers_go_on_through_a_reload_that_changes_the_routes() {
    let (scratch, heard) = (Scratch::new("alert-reload"), Heard::default());
    let hook = heard.server();
    let mut sluice = node(&scratch, &hook, "group_wait: 8s, group_interval: 8s", "");
    sluice.up();
    let change = |from: &str, to: &str| {
        let text = std::fs::read_to_string(sluice.config()).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(sluice.config(), text.replace(from, to)).unwrap();
        reload(&sluice, "alerting");
    };
    let begin = Instant::now();
    post(&sluice, &[("A", "1")], 3_600);
    // So late that a timer that began anew then would be over long after this one.
    sleep_until(begin, 6);
    change("repeat_interval: 1h", "repeat_interval: 2h");
    let first = told_after(&heard, "A firing 1", begin);
    assert!((8.0..13.5).contains(&first), "group_wait counts from when it came, 14 s would be from the reload: {first}");
    let begin = Instant::now();
    post(&sluice, &[("A", "2")], 3_600);
    sleep_until(begin, 6);
    change("receivers: [{", "receivers: [{ name: more }, {");
    let second = told_after(&heard, "A firing 12", begin);
    assert!((6.5..13.5).contains(&second), "group_interval counts from when it was told: {second}");
    assert_eq!(heard.all(), ["A firing 1", "A firing 12"]);
    sluice.stop();
}

/// Alertmanager's `TestReload` and `TestColdStart`, where the settings say so.
#[test]
fn timers_begin_anew_and_a_start_is_waited_for_where_the_settings_say_so() {
    let (scratch, heard) = (Scratch::new("alert-compat"), Heard::default());
    let hook = heard.server();
    let compat = "  compat: { reload_resets_timers: true, start_delay: 6s }\n";
    let mut sluice = node(&scratch, &hook, "group_wait: 500ms, group_interval: 4s", compat);
    let started = Instant::now();
    sluice.up();
    post(&sluice, &[("A", "1")], 3_600);
    post(&sluice, &[("A", "2")], 3_600);
    let first = told_after(&heard, "A firing 12", started);
    assert!(first > 6.0, "{first}");
    let begin = Instant::now();
    post(&sluice, &[("A", "3")], 3_600);
    sleep_until(begin, 3);
    reload(&sluice, "nothing changed");
    let second = told_after(&heard, "A firing 123", begin);
    assert!(second > 6.5, "four seconds from the reload: {second}");
    assert_eq!(heard.all(), ["A firing 12", "A firing 123"]);
    sluice.stop();
}

#[test]
fn sluices_own_alerts_go_by_routes_and_silences_as_all_others_do() {
    let scratch = Scratch::new("own-alerts");
    let well = Arc::new(AtomicBool::new(true));
    let shop = {
        let well = Arc::clone(&well);
        Server::start(move |_: &Http| Some(Http::answer(if well.load(Ordering::Relaxed) { 200 } else { 500 }, "")))
    };
    let (all, nodes) = (Heard::default(), Heard::default());
    let (hook, hook_of_nodes) = (all.server(), nodes.server());
    let more = format!(
        "probe:\n  jobs:\n    - name: shops\n      interval: 1s\n      timeout: 1s\n      targets: [\"http://{}\"]\n      labels: {{ i: shop }}\n\
         notify: {{ alerts: {{ NodeDown: {{ for: 1s }} }} }}\n\
         alerting:\n  config:\n    route:\n      {{ receiver: all, group_by: [alertname], group_wait: 500ms, group_interval: 1s, repeat_interval: 1h,\n        \
         routes: [{{ matchers: [alertname=NodeDown], receiver: nodes }}] }}\n    receivers:\n      - {{ name: all, webhook_configs: [{{ url: \"http://{}/\" }}] }}\n      \
         - {{ name: nodes, webhook_configs: [{{ url: \"http://{}/\" }}] }}\n",
        shop.address, hook.address, hook_of_nodes.address
    );
    let mut trio = Trio::up(&scratch, &format!("{NOWHERE}{more}"));
    well.store(false, Ordering::Relaxed);
    all.wait("ProbeDown firing shop");
    let listed = trio.nodes[1].json("/api/v2/alerts?filter=alertname%3DProbeDown").unwrap();
    let labels = ["job", "level", "severity"].map(|name| listed[0]["labels"][name].as_str().unwrap_or_default().to_owned());
    assert_eq!(labels, ["shops", "P3", "warning"], "{listed}");
    assert_eq!(listed[0]["receivers"], json!([{ "name": "all" }]), "{listed}");

    // A silence holds for them, too; and who is dead is told by whoever leads next.
    let silence = json!({
        "matchers": [{ "name": "alertname", "value": "NodeDown", "isRegex": false }, { "name": "quiet", "value": "never", "isRegex": false, "isEqual": false }],
        "startsAt": rfc3339(now_ms()), "endsAt": rfc3339(now_ms() + 3_600_000), "createdBy": "ann", "comment": "work",
    });
    let made = send(&trio.nodes[0].sluice, "/api/v2/silences", &silence).unwrap();
    assert_eq!(made.status(), 200, "{}", made.text());
    let leader = leads(&trio, 0).unwrap();
    trio.nodes[leader].sluice.kill();
    let other = (leader + 1) % 3;
    let suppressed = eventually(SOON, "the dead node to be known", || {
        let listed = trio.nodes[other].json("/api/v2/alerts?filter=alertname%3DNodeDown")?;
        if listed[0]["status"]["state"] == "suppressed" { Ok(listed) } else { Err(listed.to_string()) }
    });
    assert_eq!(suppressed[0]["status"]["silencedBy"], json!([made.json()["silenceID"]]));
    well.store(true, Ordering::Relaxed);
    all.wait("ProbeDown resolved shop");
    assert_eq!(nodes.all(), [""; 0], "it is silenced");
    let expire = format!("/api/v2/silence/{}", made.json()["silenceID"].as_str().unwrap());
    let expired = crate::support::http::Client::new(trio.nodes[other].sluice.address()).call("DELETE", &expire).unwrap();
    assert_eq!(expired.status(), 200);
    nodes.wait("NodeDown firing ");
    trio.nodes[leader].sluice.up();
    nodes.wait("NodeDown resolved ");
    let told = all.all().into_iter().filter(|told| told.starts_with("ProbeDown")).collect::<Vec<_>>();
    assert_eq!(told, ["ProbeDown firing shop", "ProbeDown resolved shop"], "each once, though the leader died");
}

//! Where sluice differs from Alertmanager on purpose, as docs/compat.md lists it: each shown at both, so that the list is true of either.
//!
//! `alert_streams` shows that there is nothing else.

use super::alert_streams::{Side, Two, text};
use super::alerting::rfc3339;
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, let_pass, now_ms};
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
/// Longer than `group_wait` and `group_interval` of the file.
const SETTLES: Duration = Duration::from_secs(4);

const FILE: &str = r"
route:
  receiver: all
  group_by: [alertname]
  group_wait: 1s
  group_interval: 2s
  repeat_interval: 1h
  routes:
  - { matchers: [alertname=NoEnds], receiver: fires }
  - { matchers: [alertname=Old], group_wait: 12s }
inhibit_rules:
- { source_matchers: [alertname=Source], target_matchers: [alertname=Old] }
receivers:
- name: all
  webhook_configs: [{ url: 'http://{hook}/' }]
- name: fires
  webhook_configs: [{ url: 'http://{hook}/', send_resolved: false }]
";

/// Name, number, since when, until when: ms from now.
type Word<'a> = (&'a str, &'a str, i64, i64);

fn post(two: &mut Two, words: &[Word<'_>]) {
    let now = now_ms();
    let one = |(name, i, starts, ends): &Word<'_>| json!({ "labels": { "alertname": name, "i": i }, "startsAt": rfc3339(now + starts), "endsAt": rfc3339(now + ends) });
    let body = Value::Array(words.iter().map(one).collect());
    for side in [&mut two.theirs, &mut two.ours] {
        side.post("/api/v2/alerts", &body);
    }
}

fn silence(two: &mut Two, alert: &str) {
    let body = json!({
        "matchers": [{ "name": "i", "value": alert, "isRegex": false, "isEqual": true }],
        "startsAt": rfc3339(now_ms()), "endsAt": rfc3339(now_ms() + 3_600_000), "createdBy": "ann", "comment": "work",
    });
    for side in [&mut two.theirs, &mut two.ours] {
        let id = text(&side.post("/api/v2/silences", &body).json()["silenceID"]);
        side.silences.push(id);
    }
}

fn expire(two: &mut Two, silence: usize) {
    for side in [&mut two.theirs, &mut two.ours] {
        let path = format!("/api/v2/silence/{}", side.silences[silence]);
        assert_eq!(side.client.call("DELETE", &path).expect("an answer").status(), 200);
    }
}

/// Of an alert `F` (told that it holds) and `R` (that it is over), in turn.
fn told(side: &Side, alert: &str) -> String {
    side.story().values().filter_map(|story| story.alerts.get(alert).cloned()).collect()
}

/// Messages of its group.
fn messages(side: &Side, alert: &str) -> usize {
    side.story().values().filter(|story| story.alerts.contains_key(alert)).map(|story| story.messages).sum()
}

fn both<T>(two: &Two, ask: impl Fn(&Side) -> T) -> (T, T) {
    (ask(&two.theirs), ask(&two.ours))
}

#[test]
fn each_difference_from_alertmanager_is_as_it_is_listed() {
    if !need(&[Peer::Amtool]) {
        return;
    }
    const HOUR: i64 = 3_600_000;
    let scratch = Scratch::new("alert-differences");
    let mut two = Two::up(&scratch, FILE);
    post(&mut two, &[("End", "e1", 0, HOUR), ("End", "e2", 0, HOUR), ("Back", "b1", 0, HOUR), ("Late", "l1", 0, HOUR)]);
    post(&mut two, &[("NoEnds", "n1", 0, HOUR), ("NoEnds", "n2", 0, HOUR)]);
    // Began long ago: Alertmanager does not wait for what inhibits it.
    post(&mut two, &[("Old", "o1", -HOUR, HOUR)]);
    eventually(SOON, "what began long ago to be told", || if told(&two.theirs, "o1") == "F" { Ok(()) } else { Err("not yet".to_owned()) });
    post(&mut two, &[("Source", "s1", 0, HOUR)]);
    let_pass(SETTLES);
    for alert in ["e1", "e2", "b1", "l1", "n1", "n2", "s1"] {
        eventually(SOON, &format!("{alert} to be told"), || match both(&two, |side| told(side, alert)) {
            (theirs, ours) if theirs == "F" && ours == "F" => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    // Ends while it is silenced; another of the group comes while one is silenced; one that was over when it came; one of whose end nobody wants to hear.
    silence(&mut two, "e1");
    silence(&mut two, "b1");
    post(&mut two, &[("End", "e1", -10_000, 0), ("Back", "b2", 0, HOUR), ("Late", "l2", -10_000, -5_000), ("NoEnds", "n1", -10_000, 0)]);
    let_pass(SETTLES);
    eventually(SOON, "the end of what is silenced", || if told(&two.ours, "e1") == "FR" { Ok(()) } else { Err("not yet".to_owned()) });
    eventually(SOON, "what came", || match both(&two, |side| told(side, "b2")) {
        (theirs, ours) if theirs == "F" && ours == "F" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(told(&two.theirs, "e1"), "F");
    let untold = |side: &Side| side.story().values().any(|story| story.untold.contains("l2"));
    assert_eq!(both(&two, untold), (true, false), "over when it came");

    // The silences end, and what ended holds again.
    let before = (both(&two, |side| messages(side, "b1")), both(&two, |side| messages(side, "n1")));
    expire(&mut two, 0);
    expire(&mut two, 1);
    post(&mut two, &[("End", "e1", 0, HOUR), ("NoEnds", "n1", 0, HOUR)]);
    let_pass(SETTLES);
    eventually(SOON, "what holds again to be told", || if told(&two.ours, "e1") == "FRF" { Ok(()) } else { Err("not yet".to_owned()) });
    eventually(SOON, "Alertmanager to tell what was silenced", || {
        if messages(&two.theirs, "b1") > before.0.0 { Ok(()) } else { Err("not yet".to_owned()) }
    });
    eventually(SOON, "the one without ends to be told", || {
        if messages(&two.ours, "n1") > before.1.1 { Ok(()) } else { Err("not yet".to_owned()) }
    });
    let_pass(SETTLES);
    assert_eq!(told(&two.theirs, "e1"), "F", "Alertmanager believes that it never ended");
    assert_eq!(messages(&two.ours, "b1"), before.0.1, "it was told before");
    assert_eq!(messages(&two.theirs, "n1"), before.1.0);
    assert_eq!(both(&two, |side| told(side, "o1")), ("F".to_owned(), String::new()), "it was inhibited before its time");
    two.sluice.stop();
}

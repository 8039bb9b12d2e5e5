//! The set-ups of docs/alerting.md that tell an alert center and chats, as they are written there: a real node, with servers on this host in the place of theirs.

use crate::support::http::{Client, Http, Server};
use crate::support::process::{Scratch, eventually};
use crate::support::sluice::Sluice;
use crate::support::trio::NOWHERE;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// The example below a heading.
fn example(heading: &str) -> String {
    let manual = include_str!("../../docs/alerting.md");
    let below = manual.split(&format!("## {heading}\n")).nth(1).unwrap();
    below.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap().to_owned()
}

/// What came, and a server that answers each as such a receiver does.
fn listen(answer: &'static str) -> (Arc<Mutex<Vec<Http>>>, Server) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let known = Arc::clone(&seen);
    let server = Server::start(move |request: &Http| {
        known.lock().unwrap().push(request.clone());
        Some(Http::answer(200, answer))
    });
    (seen, server)
}

fn up(scratch: &Scratch, file: &str) -> Sluice {
    std::fs::write(scratch.join("alertmanager.yml"), file).unwrap();
    let sinks = NOWHERE.strip_prefix("sinks:\n").unwrap();
    let below: String = file.lines().map(|line| format!("    {line}\n")).collect();
    let mut sluice = Sluice::prepare_with(
        scratch,
        "receivers",
        &format!("{sinks}alerting:\n  external_url: http://sluice.example\n  config:\n{below}"),
        None,
    );
    sluice.up();
    sluice
}

fn post(sluice: &Sluice, labels: &Value) {
    let body = json!([{ "labels": labels, "annotations": { "summary": "it is full" } }]);
    let request = Http {
        first: "POST /api/v2/alerts HTTP/1.1".into(),
        headers: vec![("Host".into(), "x".into()), ("Content-Type".into(), "application/json".into())],
        body: body.to_string().into(),
    };
    eventually(SOON, "the alert to be taken", || {
        let answer = Client::new(sluice.address()).send(&request).map_err(|error| error.to_string())?;
        if answer.status() == 200 { Ok(()) } else { Err(format!("{} {}", answer.status(), answer.text())) }
    });
}

fn first(seen: &Mutex<Vec<Http>>) -> Result<Http, String> {
    seen.lock().unwrap().first().cloned().ok_or_else(|| "nothing came".to_owned())
}

#[test]
fn the_alert_center_of_the_manual_is_told() {
    let scratch = Scratch::new("center");
    let (seen, server) = listen("{\"code\": 0}");
    let secret = scratch.join("center.secret");
    std::fs::write(&secret, "s3\n").unwrap();
    let file = example("Set-up: the alert center").replace("https://alerts.example", &format!("http://{}", server.address));
    let file = file.replace("/etc/sluice/center.secret", secret.to_str().unwrap()).replace("group_wait: 10s", "group_wait: 1s");
    let mut sluice = up(&scratch, &file);
    post(&sluice, &json!({ "alertname": "DiskFull", "cluster": "a" }));
    let came = eventually(SOON, "the center to be told", || first(&seen));
    let body = came.json();
    assert_eq!((&body["status"], &body["receiver"], &body["groupLabels"]["cluster"]), (&json!("firing"), &json!("center"), &json!("a")));
    assert_eq!(came.header("idempotency-key"), body["eventId"].as_str());
    assert!(came.header("x-alert-signature").unwrap().starts_with("t=1"), "{:?}", came.headers);
    sluice.stop();
}

#[test]
fn the_chats_of_the_manual_are_told() {
    let scratch = Scratch::new("chats");
    let (seen, server) = listen("{\"errcode\": 0, \"code\": 0}");
    let mut file = example("Set-up: chats").replace("group_wait: 10s", "group_wait: 1s");
    for name in ["wecom", "dingtalk", "feishu"] {
        for (kind, text) in [("url", format!("http://{}/{name}?key=k", server.address)), ("secret", "s3".to_owned())] {
            let path = scratch.join(&format!("{name}.{kind}"));
            std::fs::write(&path, text).unwrap();
            file = file.replace(&format!("/etc/sluice/{name}.{kind}"), path.to_str().unwrap());
        }
    }
    let mut sluice = up(&scratch, &file);
    post(&sluice, &json!({ "alertname": "DiskFull", "team": "db", "severity": "critical" }));
    post(&sluice, &json!({ "alertname": "Other" }));
    // What will be read is shown without sending it.
    let request = Http {
        first: "POST /api/v1/receivers/dingtalk/preview HTTP/1.1".into(),
        headers: vec![("Host".into(), "x".into())],
        body: json!({ "labels": { "alertname": "DiskFull", "team": "db" } }).to_string().into(),
    };
    let shown = Client::new(sluice.address()).send(&request).unwrap();
    assert_eq!(shown.status(), 200, "{}", shown.text());
    assert!(shown.json()["texts"][0]["text"].as_str().unwrap().starts_with("[P2] [FIRING:1] DiskFull"), "{}", shown.text());
    for name in ["wecom", "dingtalk", "feishu"] {
        eventually(SOON, &format!("{name} to be told"), || {
            let came = seen
                .lock()
                .unwrap()
                .iter()
                .any(|request| request.first.contains(&format!("/{name}?key=k")) && request.text().contains("FIRING:1"));
            if came { Ok(()) } else { Err(format!("{} requests", seen.lock().unwrap().len())) }
        });
    }
    sluice.stop();
}

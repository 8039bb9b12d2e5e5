//! Who brings alerts and asks for them in earnest: amtool with each of its commands, two real Prometheus at three nodes, vmalert, Grafana's payloads, our own verbs.

use crate::support::http::{Client, Http, Server};
use crate::support::peers::{Peer, need};
use crate::support::process::{Process, Scratch, eventually, free_port, let_pass, now_ms};
use crate::support::prometheus::Prometheus;
use crate::support::sluice::Sluice;
use crate::support::stores::{Kind, Store};
use crate::support::trio::{NOWHERE, Trio};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// Routes of two receivers, the second for team db. Nobody is told within the test unless `hook` is asked.
fn section(hook: &str, wait: &str) -> String {
    format!(
        r#"alerting:
  inputs:
    - {{ name: nagios, mapping: {{ labels: {{ alertname: "{{check}}", host: "{{host}}" }}, status: "{{state}}", resolved: [OK] }} }}
  config:
    route:
      receiver: all
      group_by: [alertname]
      group_wait: {wait}
      group_interval: 2s
      routes: [{{ receiver: db, matchers: [team=db], group_wait: {wait} }}]
    receivers: [{{ name: all, webhook_configs: [{{ url: "{hook}" }}] }}, {{ name: db }}]
"#
    )
}

fn one(scratch: &Scratch) -> Sluice {
    let sinks = NOWHERE.strip_prefix("sinks:\n").unwrap();
    let mut sluice = Sluice::prepare_with(scratch, "clients", &format!("{sinks}{}", section("http://127.0.0.1:9/", "1h")), None);
    sluice.up();
    sluice
}

struct Amtool<'a> {
    url: String,
    scratch: &'a Scratch,
}

impl Amtool<'_> {
    fn run(&self, args: &[&str]) -> (bool, String, String) {
        let url = format!("--alertmanager.url={}", self.url);
        let output = Command::new("amtool").args(args).arg(url).env("HOME", self.scratch.path()).output().expect("amtool");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    }

    #[track_caller]
    fn good(&self, args: &[&str]) -> String {
        let (good, out, err) = self.run(args);
        assert!(good, "amtool {args:?}: {out}{err}");
        out
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        let out = self.good(&[args, &["--output=json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("amtool {args:?}: {error}: {out}"))
    }

    /// The names of alerts that a query finds.
    #[track_caller]
    fn alerts(&self, args: &[&str]) -> String {
        let found = self.json(&[&["alert", "query"], args].concat());
        let mut names: Vec<String> =
            found.as_array().unwrap().iter().map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names.join(" ")
    }
}

#[test]
fn amtool_finds_alertmanager_here() {
    if !need(&[Peer::Amtool]) {
        return;
    }
    let scratch = Scratch::new("amtool");
    let mut sluice = one(&scratch);
    let amtool = Amtool { url: format!("http://{}", sluice.address()), scratch: &scratch };

    // Alerts.
    amtool.good(&[
        "alert",
        "add",
        "DiskFull",
        "team=db",
        "instance=a",
        "--annotation=summary=full",
        "--generator-url=http://p/graph",
        "--end=2099-01-01T00:00:00Z",
    ]);
    amtool.good(&["alert", "add", "alertname=Slow", "team=web"]);
    let (good, _, err) = amtool.run(&["alert", "add", "Never", "--start=2099-01-01T00:00:00Z", "--end=2020-01-01T00:00:00Z"]);
    assert!(!good && err.contains("start time must be before end time"), "{err}");
    assert_eq!(amtool.alerts(&[]), "DiskFull Slow");
    assert_eq!(amtool.alerts(&["team=db"]), "DiskFull");
    assert_eq!(amtool.alerts(&["team=~d.|x", "instance!=b"]), "DiskFull");
    assert_eq!(amtool.alerts(&["Slow"]), "Slow");
    assert_eq!(amtool.alerts(&["--receiver=db"]), "DiskFull");
    assert!(amtool.good(&["alert"]).contains("DiskFull") && amtool.good(&["alert", "--output=extended"]).contains("instance=\"a\""));

    // Silences.
    let id = amtool.good(&["silence", "add", "team=db", "--comment=works", "--author=ann", "--duration=1h"]).trim().to_owned();
    assert_eq!((amtool.alerts(&[]).as_str(), amtool.alerts(&["--silenced"]).as_str()), ("Slow", "DiskFull"));
    assert_eq!(amtool.good(&["silence", "query", "-q", "team=db"]).trim(), id);
    assert_eq!(amtool.good(&["silence", "query", "-q", "--created-by=ann", "--within=2h"]).trim(), id);
    assert_eq!(amtool.good(&["silence", "query", "-q", "--created-by=bob"]).trim(), "");
    let updated = amtool.json(&["silence", "update", &id, "--duration=2h", "--comment=longer"]);
    assert_eq!(updated[0]["comment"], "longer", "{updated:#}");
    let held = amtool.json(&["silence", "query"]);
    assert_eq!((held.as_array().unwrap().len(), &held[0]["comment"], &held[0]["createdBy"]), (1, &"longer".into(), &"ann".into()));
    let id = held[0]["id"].as_str().unwrap().to_owned();
    amtool.good(&["silence", "expire", &id]);
    assert_eq!(amtool.alerts(&[]), "DiskFull Slow");
    assert_eq!(amtool.good(&["silence", "query", "-q", "--expired"]).trim(), id);
    let (good, ..) = amtool.run(&["silence", "expire", "791cec13-fcba-4036-8791-000000000000"]);
    assert!(!good, "there is no such silence");
    let (good, _, err) = amtool.run(&["silence", "add", "team=~.*", "--comment=all"]);
    assert!(!good && err.contains("at least one matcher must not match the empty string"), "{err}");

    // What is known under an id that this one does not know is made anew.
    let exported = amtool.json(&["silence", "query", "--expired"]);
    let file = scratch.join("silences.json");
    let future = serde_json::to_string(&exported).unwrap().replace(&id, "791cec13-fcba-4036-8791-000000000000");
    let ends = exported[0]["endsAt"].as_str().unwrap();
    std::fs::write(&file, future.replace(ends, "2099-01-01T00:00:00.000Z")).unwrap();
    amtool.good(&["silence", "import", &file.display().to_string()]);
    assert_eq!(amtool.alerts(&[]), "Slow");

    // The state of the cluster, and the file.
    assert!(amtool.good(&["cluster", "show"]).contains("ready"));
    assert!(amtool.good(&["config", "show"]).contains("group_by"));
    assert!(amtool.good(&["config", "routes", "show"]).contains("receiver: db"));
    assert_eq!(amtool.good(&["config", "routes", "test", "team=db"]).trim(), "db");
    amtool.good(&["config", "routes", "test", "--verify.receivers=all", "team=web"]);
    sluice.stop();
}

#[test]
fn verbs_show_alerts_silence_them_and_take_care() {
    let scratch = Scratch::new("alert-verbs");
    let mut sluice = one(&scratch);
    let list =
        |args: &[&str]| -> Value { serde_json::from_str(&sluice.ask(&[&["alert", "list", "--json"], args].concat())).expect("JSON") };
    let sent = sluice.ask(&["alert", "send-test"]);
    let print = sent.split(": ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
    sluice.ask(&["alert", "send-test", "alertname=Other", "team=db", "--for", "1h", "--annotation", "summary=two"]);
    assert_eq!(list(&[]).as_array().unwrap().len(), 2);
    assert_eq!(list(&["SluiceTest"])[0]["fingerprint"], print.as_str());
    let shown = sluice.ask(&["alert", "show", &print[..6]]);
    assert!(shown.contains("state         active") && shown.contains("receivers     all"), "{shown}");
    let id = sluice.ask(&["silence", "add", "team=db", "--for", "2h", "--comment", "works", "--by", "ann"]).trim().to_owned();
    assert_eq!(list(&["--active"]).as_array().unwrap().len(), 1);
    assert!(sluice.ask(&["alert", "list", "Other"]).contains("silenced"));
    let silences = sluice.ask(&["silence", "list"]);
    assert!(silences.contains("team=\"db\"") && silences.contains("works") && silences.contains("ann"), "{silences}");
    sluice.ask(&["silence", "expire", &id[..8]]);
    assert_eq!(list(&["--active"]).as_array().unwrap().len(), 2);
    assert!(sluice.ask(&["silence", "list"]).contains("no silence") && sluice.ask(&["silence", "list", "--expired"]).contains(&id));
    sluice.ask(&["alert", "ack", &print, "--comment", "on it", "--by", "bob"]);
    let shown = sluice.ask(&["alert", "show", &print]);
    assert!(shown.contains("taken by      bob, ") && shown.contains(": on it"), "{shown}");
    sluice.ask(&["alert", "send-test", "--resolved"]);
    assert_eq!(list(&[])[0]["labels"]["alertname"], "Other");

    // JSON that the settings explain.
    let post = |body: &str| {
        let first = "POST /api/v1/alerts/in/nagios HTTP/1.1".to_owned();
        let answer = Client::new(sluice.address()).send(&Http { first, headers: vec![("Host".into(), "x".into())], body: body.into() });
        answer.expect("an answer").text()
    };
    assert_eq!(post(r#"{"check":"load","host":"h","state":"BAD"}"#), r#"{"kind":"mapped","alerts":1}"#);
    assert_eq!(list(&["host=h"])[0]["labels"]["alertname"], "load");
    post(r#"{"check":"load","host":"h","state":"OK"}"#);
    assert_eq!(list(&["host=h"]).as_array().unwrap().len(), 0);
    assert!(sluice.metric("alertmanager_alerts_received_total", "firing") >= 3.0);
    sluice.stop();
}

/// What a webhook was told: state and labels of each alert.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn server(&self) -> Server {
        let heard = self.clone();
        Server::start(move |request: &Http| {
            let body = request.json();
            let told: Vec<String> = body["alerts"]
                .as_array()
                .unwrap()
                .iter()
                .map(|alert| {
                    let label = |name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
                    format!("{} {}{}", alert["status"].as_str().unwrap(), label("alertname"), label("instance"))
                })
                .collect();
            heard.0.lock().unwrap().push(told.join(", "));
            Some(Http::answer(200, ""))
        })
    }

    #[track_caller]
    fn wait(&self, deadline: Duration, expected: &str) {
        eventually(deadline, &format!("to be told {expected}"), || {
            let all = self.0.lock().unwrap().clone();
            if all.iter().any(|told| told == expected) { Ok(()) } else { Err(format!("{all:?}")) }
        });
    }
}

/// A Prometheus whose one rule holds between two times, seconds since 1970, and that tells these of it. Not at once: it knows whom to tell after five seconds, and what it could tell nobody
/// it says again after a minute.
fn prometheus(scratch: &Scratch, name: &str, (from, until): (i64, i64), nodes: &[String]) -> Prometheus {
    let rules = scratch.join(&format!("rules-{name}.yml"));
    let rule = format!(
        "groups: [{{ name: g, interval: 1s, rules: [{{ alert: Storm, expr: 'vector(time()) > {from} < {until}', labels: {{ severity: page }} }}] }}]\n"
    );
    std::fs::write(&rules, rule).unwrap();
    let targets: Vec<String> = nodes.iter().map(|node| format!("'{node}'")).collect();
    let configuration = format!(
        "global: {{ evaluation_interval: 1s, external_labels: {{ cluster: c, replica: {name} }} }}\nrule_files: ['{}']\nalerting:\n  alert_relabel_configs: [{{ \
         action: labeldrop, regex: replica }}]\n  alertmanagers: [{{ api_version: v2, static_configs: [{{ targets: [{}] }}] }}]\n",
        rules.display(),
        targets.join(", ")
    );
    Prometheus::start_as(scratch, name, &configuration)
}

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hooks").join(name)).expect("a payload")
}

#[test]
fn one_alert_of_two_senders_through_several_nodes_is_told_once() {
    if !need(&[Peer::Prometheus]) {
        return;
    }
    let (scratch, heard) = (Scratch::new("alert-twins"), Heard::default());
    let hook = heard.server();
    let trio = Trio::up(&scratch, &format!("{NOWHERE}{}", section(&format!("http://{}/", hook.address), "2s")));
    let address = |node: usize| trio.nodes[node].sluice.address().to_string();
    let times = (now_ms() / 1000 + 15, now_ms() / 1000 + 45);
    let _a = prometheus(&scratch, "a", times, &[address(0), address(1)]);
    let _b = prometheus(&scratch, "b", times, &[address(1), address(2)]);
    heard.wait(SOON, "firing Storm");

    // Two replicas of Grafana, each at a node of its own, and one of them as a client of the API as well.
    for (node, path, file) in [
        (0, "/api/v1/alerts/in/grafana", "grafana-13-a.json"),
        (1, "/api/v1/alerts/in/grafana", "grafana-13-b.json"),
        (2, "/api/v2/alerts", "grafana-13-external.json"),
    ] {
        let headers = vec![("Host".to_owned(), "x".to_owned()), ("Content-Type".to_owned(), "application/json".to_owned())];
        // What the files say ended at some time in the past; what the client of the API says is to hold.
        let text = String::from_utf8(golden(file)).unwrap().replace("2026-09-21T14:16:40.000Z", "2099-01-01T00:00:00.000Z");
        let request = Http { first: format!("POST {path} HTTP/1.1"), headers, body: text.into_bytes() };
        eventually(SOON, "an answer", || {
            let answer = Client::new(trio.nodes[node].sluice.address()).send(&request).map_err(|error| error.to_string())?;
            if answer.status() == 200 { Ok(()) } else { Err(answer.text()) }
        });
    }
    heard.wait(SOON, "firing DiskFullweb1:9100");
    heard.wait(Duration::from_secs(120), "resolved Storm");
    let_pass(Duration::from_secs(3));
    let all = heard.0.lock().unwrap().clone();
    let times = |told: &str| all.iter().filter(|one| *one == told).count();
    assert_eq!((times("firing Storm"), times("resolved Storm"), times("firing DiskFullweb1:9100")), (1, 1, 1), "{all:?}");
    for node in &trio.nodes {
        let alerts = node.sluice.get("/api/v2/alerts").json();
        assert_eq!(alerts.as_array().unwrap().len(), 1, "{alerts:#}");
    }
}

#[test]
fn what_vmalert_finds_is_told_and_its_end_too() {
    if !need(&[Peer::VictoriaMetrics, Peer::Vmalert]) {
        return;
    }
    let (scratch, heard) = (Scratch::new("alert-vmalert"), Heard::default());
    let hook = heard.server();
    let sinks = NOWHERE.strip_prefix("sinks:\n").unwrap();
    let section = section(&format!("http://{}/", hook.address), "1s");
    let mut sluice = Sluice::prepare_with(&scratch, "vmalert", &format!("{sinks}{section}"), None);
    sluice.up();
    let store = Store::start(&scratch, Kind::VictoriaMetrics);
    // VictoriaMetrics answers as of half a minute ago.
    let expression = format!("vector(time()) < {}", now_ms() / 1000 - 10);
    let rules = format!(
        "groups: [{{ name: g, interval: 1s, rules: [{{ alert: Storm, expr: '{expression}', labels: {{ severity: page, instance: x }} }}] }}]\n"
    );
    std::fs::write(scratch.join("rules.yml"), rules).unwrap();
    let arguments = [
        format!("-rule={}", scratch.join("rules.yml").display()),
        format!("-datasource.url=http://{}", store.address()),
        format!("-notifier.url=http://{}", sluice.address()),
        "-evaluationInterval=1s".to_owned(),
        format!("-httpListenAddr=127.0.0.1:{}", free_port()),
    ];
    let _vmalert = Process::start("vmalert", "vmalert", &arguments, scratch.path(), &scratch.join("vmalert.log"));
    heard.wait(SOON, "firing Stormx");
    let held = sluice.get("/api/v2/alerts").json();
    assert_eq!((&held[0]["labels"]["severity"], &held[0]["labels"]["alertgroup"]), (&Value::from("page"), &Value::from("g")), "{held}");
    heard.wait(SOON, "resolved Stormx");
    let_pass(Duration::from_secs(3));
    assert_eq!(*heard.0.lock().unwrap(), ["firing Stormx", "resolved Stormx"]);
    sluice.stop();
}

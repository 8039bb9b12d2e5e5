//! Alertmanager's API, webhooks and acknowledgements against a state of alerts that only remembers. What is expected of errors was answered so by Alertmanager.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use super::super::alerting::*;
use super::super::deps::Later;
use super::*;
use crate::alert::book;
use crate::alert::episode::Episode;
use crate::alert::episode::Telling;
use crate::alert::groups::outlook::Escalation;
use crate::alert::groups::outlook::Held;
use crate::alert::groups::outlook::Outlook;
use crate::alert::groups::outlook::Rung;
use crate::alert::groups::outlook::Storm;
use crate::alert::groups::outlook::WaitsFor;
use crate::alert::groups::outlook::Window;
use crate::alert::message;
use crate::alert::silence::Silence;
use crate::config::inputs::Input;
use crate::config::inputs::Mapping;
use crate::config::inputs::Signature;
use crate::config::inputs::TOLERANCE;
use crate::config::inputs::text;
use crate::model::alert::Alert;
use crate::model::labels::Labels;

mod rehearsal;
mod webhooks;

/// Two receivers: `db` gets what is of team db, `all` the rest; groups by alertname.
#[derive(Default)]
pub struct StandInAlerting {
    ahead: i64,
    alerts: Mutex<BTreeMap<u64, Alert>>,
    silences: Mutex<Vec<Arc<Silence>>>,
    acknowledged: Mutex<BTreeMap<u64, Arc<Acknowledged>>>,
    inputs: Vec<Input>,
    no_majority: bool,
    classic: bool,
    pages: Vec<String>,
    past: Vec<(Option<u64>, Episode)>,
    stale_after: Option<Duration>,
}

/// With one alert that is over, and one that holds and waits, as the manual shows them.
pub fn with_a_past() -> Arc<Source> {
    let labels = Labels::from([("alertname", "DiskFull"), ("team", "db")]);
    let alert = Alert { labels, starts: 1_000, ends: 61_000, ..Alert::default() };
    let acknowledged = Some(Arc::new(book::Acknowledged { by: "ann".into(), comment: "on it".into(), at: 31_000 }));
    let told = vec![Telling { receiver: "db".into(), at: 2_000, over: 62_000, digest: false }];
    let episode = Episode { alert, came: 1_500, closed: 70_000, acknowledged, told, level: 1, ..Episode::default() };
    let state = StandInAlerting { past: vec![(Some(17), episode)], ..StandInAlerting::default() };
    let labels = Labels::from([("alertname", "DiskBusy"), ("team", "db")]);
    let waiting = Alert { labels, starts: NOW, ends: NOW + 60_000, ..Alert::default() };
    state.alerts.lock().unwrap().insert(waiting.fingerprint(), waiting);
    let state: Arc<dyn Alerting> = Arc::new(state);
    Arc::new(move || Ok(Arc::clone(&state)))
}

fn names(names: &[&str]) -> Arc<[String]> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A step was told, and another one is to come.
fn escalation(now: i64) -> Escalation {
    let rung = |step, receiver: &str, at| Some(Rung { step, receiver: receiver.into(), after: 600_000, at: Some(at) });
    Escalation { policy: "oncall".into(), last: rung(1, "second-line", now - 60_000), next: rung(2, "manager", now + 60_000) }
}

impl StandInAlerting {
    fn standing(&self, fingerprint: u64, alert: &Alert, now: i64) -> Standing {
        let silences = self.silences.lock().unwrap();
        let by = silences.iter().filter(|one| one.phase(now).word() == "active" && one.matches(&alert.labels)).map(|one| one.id.clone());
        let silenced_by: Arc<[String]> = by.collect();
        Standing {
            alert: alert.clone(),
            fingerprint,
            state: if silenced_by.is_empty() { State::Active } else { State::Suppressed },
            silenced_by,
            inhibited_by: names(&[]),
            muted_by: names(&[]),
            receivers: match (alert.labels.get("team"), alert.labels.contains_key("both")) {
                (_, true) => names(&["db", "all"]),
                (Some("db"), false) => names(&["db"]),
                (_, false) => names(&["all"]),
            },
            acknowledged: self.acknowledged.lock().unwrap().get(&fingerprint).cloned(),
            policed: Policed {
                level: message::level(&alert.labels),
                worst: message::level(&alert.labels),
                waits: alert.labels.get("alertname").filter(|name| *name == "DiskBusy").map(|_| (now + 30_000, "it waits".into())),
                escalation: if alert.labels.contains_key("team") { vec![escalation(now)] } else { Vec::new() },
                ..Policed::default()
            },
        }
    }
}

impl Alerting for StandInAlerting {
    fn post(&self, alerts: Vec<Alert>) -> Later<'_, Result<(), Refused>> {
        if self.no_majority {
            return Box::pin(std::future::ready(Err(Refused::Later("no majority of the nodes answers".into()))));
        }
        self.alerts.lock().unwrap().extend(alerts.into_iter().map(|alert| (alert.fingerprint(), alert)));
        Box::pin(std::future::ready(Ok(())))
    }

    fn alerts(&self, now: i64) -> Vec<Standing> {
        let alerts = self.alerts.lock().unwrap();
        alerts.iter().filter(|(_, alert)| !alert.is_over(now)).map(|(print, alert)| self.standing(*print, alert, now)).collect()
    }

    fn groups(&self, now: i64) -> Vec<Group> {
        let mut groups: BTreeMap<(String, String), Vec<Standing>> = BTreeMap::new();
        for one in self.alerts(now).into_iter().rev() {
            let key = (one.alert.labels.get("alertname").unwrap_or_default().to_owned(), one.receivers[0].clone());
            groups.entry(key).or_default().push(one);
        }
        let group = |((name, receiver), alerts): ((String, String), Vec<Standing>)| Group {
            labels: Labels::from([("alertname", name)]),
            route_labels: Labels::new(),
            key: String::new(),
            muted_by: if receiver == "db" { names(&["nights"]) } else { names(&[]) },
            receiver,
            alerts,
        };
        groups.into_iter().rev().map(group).collect()
    }

    fn rehearse(&self, asked: Rehearsal) -> Result<String, Refused> {
        if asked.policies.is_empty() { Err(Refused::Later("another rehearsal is under way".into())) } else { Ok("5f0c".into()) }
    }

    fn rehearsed(&self, id: &str) -> Result<Rehearsing, Refused> {
        match id {
            "5f0c" => Ok(Rehearsing::UnderWay { lived: 10, of: 40 }),
            "d0e" => {
                Ok(Rehearsing::Done(Arc::new(Rehearsed { from: 0, to: 1_000, episodes: 20, messages: (9, 4), ..Rehearsed::default() })))
            }
            _ => Err(Refused::Unknown),
        }
    }

    fn receivers(&self, now: i64) -> (Vec<Receiving>, bool) {
        let outlook = Outlook {
            windows: vec![Window { messages: 10, per: 60_000, used: 10, opens: Some(now + 30_000) }],
            held: Held { groups: 3, alerts: 14 },
            opens: Some(now + 30_000),
            waiting: Some((3, WaitsFor::Window, now + 30_000)),
            storm: Some(Storm { until: now + 60_000, told: 120 }),
            open: 1,
        };
        (vec![Receiving { receiver: "db".into(), integration: 0, kind: "slack", outlook, trouble: None }], true)
    }

    fn noted_until(&self) -> i64 {
        NOW + self.ahead
    }

    fn silences(&self) -> Vec<Arc<Silence>> {
        self.silences.lock().unwrap().clone()
    }

    fn silence(&self, mut silence: Silence) -> Later<'_, Result<String, Refused>> {
        let mut silences = self.silences.lock().unwrap();
        let known = silences.iter().position(|known| known.id == silence.id);
        let made = match (silence.id.is_empty(), known) {
            (true, _) => {
                silence.id = format!("00000000-0000-4000-8000-{:012}", silences.len());
                silences.push(Arc::new(silence.clone()));
                Ok(silence.id)
            }
            (false, None) => Err(Refused::Unknown),
            (false, Some(at)) => {
                silences[at] = Arc::new(silence.clone());
                Ok(silence.id)
            }
        };
        Box::pin(std::future::ready(made))
    }

    fn expire<'a>(&'a self, id: &'a str) -> Later<'a, Result<(), Refused>> {
        let mut silences = self.silences.lock().unwrap();
        let known = silences.iter_mut().find(|known| known.id == id);
        let done = known.map(|known| Arc::make_mut(known).ends = NOW + self.ahead).ok_or(Refused::Unknown);
        Box::pin(std::future::ready(done))
    }

    fn acknowledge(&self, fingerprint: u64, acknowledged: Acknowledged) -> Later<'_, Result<(), Refused>> {
        let known = self.alerts.lock().unwrap().contains_key(&fingerprint);
        if known {
            self.acknowledged.lock().unwrap().insert(fingerprint, Arc::new(acknowledged));
        }
        Box::pin(std::future::ready(if known { Ok(()) } else { Err(Refused::Unknown) }))
    }

    fn history(&self, _: Wanted) -> Later<'_, Result<Past, Refused>> {
        Box::pin(std::future::ready(Ok(Past { episodes: self.past.clone(), missing: 0, next: None })))
    }

    fn preview(&self, asked: Preview) -> Result<Vec<Previewed>, Refused> {
        match (asked.receiver.as_str(), asked.text) {
            ("all", Some(_)) => Err(Refused::Wrong("is no template".into())),
            ("all", None) => Ok(vec![Previewed { key: "k".into(), text: asked.labels["alertname"].to_owned(), instead: None }]),
            _ => Err(Refused::Unknown),
        }
    }

    fn status(&self) -> Status {
        let receiver = |name: &str, owner: &str| Receiver { name: name.into(), labels: Labels::from([("owner", owner)]) };
        Status {
            original: "route:\n  receiver: all\n".into(),
            receivers: vec![receiver("all", "ops"), receiver("db", "dba")],
            peers: vec![("n2".into(), "10.0.0.2:9201".into()), ("n1".into(), "10.0.0.1:9201".into())],
            name: "n1".into(),
            ready: true,
        }
    }

    fn resolve_timeout(&self) -> Duration {
        Duration::from_secs(300)
    }

    fn stale_after(&self) -> Option<Duration> {
        self.stale_after
    }

    fn known(&self, labels: &Labels) -> Option<Alert> {
        self.alerts.lock().unwrap().values().find(|alert| alert.labels == *labels).cloned()
    }

    fn inputs(&self) -> Arc<[Input]> {
        self.inputs.clone().into()
    }

    fn classic_names(&self) -> bool {
        self.classic
    }

    fn pages(&self) -> &[String] {
        &self.pages
    }
}

fn api(state: StandInAlerting) -> Api {
    let mut deps = deps(Arc::new(StandIn::default()));
    let state: Arc<dyn Alerting> = Arc::new(state);
    deps.alerting = Arc::new(move || Ok(Arc::clone(&state)));
    Api::new(deps)
}

async fn said(api: &Api, method: &str, path: &str, body: &str) -> (u16, String) {
    let asked = ask_with(api, method, path, body, &[]).await;
    (asked.status.as_u16(), asked.text)
}

const POST: &str = r#"[{"labels":{"alertname":"DiskFull","instance":"b","team":"db"}},{"labels":{"alertname":"DiskFull","instance":"a","team":"db"}},
    {"labels":{"alertname":"Slow","severity":"info"},"generatorURL":"http://p/graph","annotations":{"summary":"it is slow"},"startsAt":"2026-09-21T14:13:00Z"}]"#;

#[tokio::test]
async fn alerts_are_listed_as_alertmanager_lists_them() {
    let api = api(StandInAlerting::default());
    assert_eq!(said(&api, "POST", "/api/v2/alerts", POST).await, (200, String::new()));
    let (status, text) = said(&api, "GET", "/api/v2/alerts?filter=alertname%3DSlow", "").await;
    let expected = concat!(
        r#"[{"annotations":{"summary":"it is slow"},"endsAt":"2026-09-21T14:18:20.000Z","fingerprint":"d03a3d95bc7ed4f6","receivers":[{"name":"all"}],"#,
        r#""startsAt":"2026-09-21T14:13:00.000Z","status":{"inhibitedBy":[],"mutedBy":[],"silencedBy":[],"state":"active"},"#,
        r#""updatedAt":"2026-09-21T14:13:20.000Z","generatorURL":"http://p/graph","labels":{"alertname":"Slow","severity":"info"}}]"#
    );
    let print = text.split("\"fingerprint\":\"").nth(1).unwrap_or_default().split('"').next().unwrap_or_default().to_owned();
    assert_eq!((status, text), (200, expected.replace("d03a3d95bc7ed4f6", &print)));
    for (query, found) in [
        ("", 3),
        ("filter=team%3Ddb", 2),
        ("filter=team%3Ddb&filter=instance%3Da", 1),
        ("filter=team%21%3D%22%22", 2),
        ("filter=team%3D%22%22", 1),
        ("receiver=d.", 2),
        ("receiver=d", 0),
        ("receiver_matchers=owner%3Dops", 1),
        ("active=false", 0),
        ("unprocessed=false", 3),
    ] {
        let asked = ask_with(&api, "GET", &format!("/api/v2/alerts?{query}"), "", &[]).await;
        let found_prints: Vec<String> =
            asked.json().as_array().unwrap().iter().map(|alert| alert["fingerprint"].as_str().unwrap().to_owned()).collect();
        assert_eq!(found_prints.len(), found, "{query}");
        assert!(found_prints.is_sorted(), "{query}");
        assert_eq!(asked.headers["cache-control"], "no-store");
    }
}

#[tokio::test]
async fn groups_are_sorted_and_say_what_mutes_them() {
    let api = api(StandInAlerting::default());
    said(&api, "POST", "/api/v2/alerts", POST).await;
    let groups = ask_with(&api, "GET", "/api/v2/alerts/groups", "", &[]).await.json();
    let names: Vec<&str> = groups.as_array().unwrap().iter().map(|group| group["labels"]["alertname"].as_str().unwrap()).collect();
    assert_eq!(names, ["DiskFull", "Slow"]);
    let of = |at: usize| groups[0]["alerts"][at]["labels"]["instance"].clone();
    assert_eq!((of(0), of(1), &groups[0]["receiver"]["name"]), ("a".into(), "b".into(), &"db".into()));
    let status = serde_json::json!({"inhibitedBy": [], "mutedBy": ["nights"], "silencedBy": [], "state": "suppressed"});
    assert_eq!((&groups[0]["alerts"][0]["status"], &groups[0]["routeLabels"]), (&status, &serde_json::json!({})));
    for (query, found) in [("muted=false", 1), ("receiver=all", 1), ("filter=instance%3Da", 1), ("receiver_matchers=owner%3Ddba", 1)] {
        let groups = ask_with(&api, "GET", &format!("/api/v2/alerts/groups?{query}"), "", &[]).await.json();
        assert_eq!(groups.as_array().unwrap().len(), found, "{query}");
    }
    said(&api, "POST", "/api/v2/alerts", r#"[{"labels":{"alertname":"Two","both":"y"}}]"#).await;
    for (query, receivers) in [("filter=both%3Dy", "all db"), ("filter=both%3Dy&receiver=db", "db")] {
        let groups = ask_with(&api, "GET", &format!("/api/v2/alerts/groups?{query}"), "", &[]).await.json();
        let names = groups[0]["alerts"][0]["receivers"].as_array().unwrap().iter().map(|receiver| receiver["name"].as_str().unwrap());
        assert_eq!(names.collect::<Vec<_>>().join(" "), receivers, "{query}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_in_the_words_of_its_server() {
    let api = api(StandInAlerting::default());
    let one = |field: &str| {
        format!(r#"{{"comment":"c","createdBy":"b","startsAt":"2020-01-01T00:00:00Z","endsAt":"2030-01-01T00:00:00Z",{field}}}"#)
    };
    let matchers = |matchers: &str| one(&format!(r#""matchers":[{matchers}]"#));
    let (good, past) = (r#"{"name":"a","value":"b","isRegex":false}"#, r#""endsAt":"2021-01-01T00:00:00Z""#);
    for (method, path, body, status, text) in [
        ("POST", "alerts", r#"[{"labels":{"a":"1"}},{"labels":null}]"#, 422, r#"{"code":602,"message":"1.labels in body is required"}"#),
        ("POST", "alerts", "", 422, r#"{"code":602,"message":"alerts in body is required"}"#),
        (
            "POST",
            "alerts",
            r#"[{"labels":{}},{"labels":{"":"x"}}]"#,
            400,
            r#""at least one label pair required\ninvalid label set: invalid name \"\"""#,
        ),
        ("GET", "alerts?filter=b", "", 400, r#""bad matcher format: b""#),
        ("GET", "alerts/groups?filter=%7Bb%3D2%7D", "", 400, r#""bad matcher format: {b=2}""#),
        ("PUT", "alerts", "", 405, r#"{"code":405,"message":"method PUT is not allowed, but [GET,POST] are"}"#),
        ("GET", "nothing", "", 404, r#"{"code":404,"message":"path /api/v2/nothing was not found"}"#),
        ("DELETE", "silence/x", "", 422, r#"{"code":601,"message":"silenceID in path must be of type uuid: \"x\""}"#),
        ("GET", "silence/791cec13-fcba-4036-8791-000000000000", "", 404, ""),
        ("DELETE", "silence/791cec13-fcba-4036-8791-000000000000", "", 404, ""),
        ("POST", "silences", "", 422, r#"{"code":602,"message":"silence in body is required"}"#),
        ("POST", "silences", "{}", 422, r#"{"code":602,"message":"comment in body is required"}"#),
        ("POST", "silences", &matchers(""), 422, r#"{"code":612,"message":"matchers in body should have at least 1 items"}"#),
        ("POST", "silences", &matchers("{}"), 422, r#"{"code":602,"message":"matchers.0.isRegex in body is required"}"#),
        (
            "POST",
            "silences",
            &matchers(r#"{"name":"a","value":"","isRegex":false}"#),
            400,
            r#""invalid silence: matcher set 0: at least one matcher must not match the empty string""#,
        ),
        ("POST", "silences", &one(&format!(r#""id":"nope","matchers":[{good}]"#)), 404, r#""silence not found""#),
        (
            "POST",
            "silences",
            &one(&format!(r#""matchers":[{good}]"#)).replace(r#""endsAt":"2030-01-01T00:00:00Z""#, past),
            400,
            r#""Failed to create silence: end time can't be in the past""#,
        ),
        (
            "POST",
            "silences",
            &one(&format!(r#""matchers":[{good}]"#)).replace("2020-01-01", "2030-01-01"),
            400,
            r#""Failed to create silence: start time must be before end time""#,
        ),
    ] {
        assert_eq!(said(&api, method, &format!("/api/v2/{path}"), body).await, (status, text.to_owned()), "{method} {path} {body}");
    }
    let (status, _) =
        said(&api, "POST", "/api/v2/silences", &matchers(r#"{"name":"a","value":"b","isRegex":false,"isEqual":false}"#)).await;
    assert_eq!(status, 200, "all but one value may be silenced");
    for (body, begins) in [("{", "parsing alerts body from \\\"\\\" failed, because "), (r#"[{"labels":{"a":1}}]"#, "parsing alerts body")]
    {
        let (status, text) = said(&api, "POST", "/api/v2/alerts", body).await;
        assert!(status == 400 && text.starts_with(&format!("{{\"code\":400,\"message\":\"{begins}")), "{status} {text}");
    }
    assert_eq!(said(&api, "GET", "/api/v1/alerts", "").await.0, 410);
}

#[tokio::test]
async fn silences_are_made_listed_and_ended() {
    // What is noted may be a moment ahead of this host's clock, and is over all the same.
    let api = api(StandInAlerting { ahead: 1, ..StandInAlerting::default() });
    said(&api, "POST", "/api/v2/alerts", POST).await;
    let silence = |value: &str, from: &str, to: &str| {
        format!(
            r#"{{"comment":"c","createdBy":"b","startsAt":"{from}","endsAt":"{to}","matchers":[{{"name":"team","value":"{value}","isRegex":false}},{{"name":"x","value":"y.*","isRegex":true,"isEqual":false}}]}}"#
        )
    };
    let (before, after, late) = ("2026-09-21T14:00:00Z", "2026-09-22T00:00:00Z", "2026-09-23T00:00:00Z");
    for (body, id) in [(silence("web", after, late), 0), (silence("db", before, late), 1), (silence("ops", before, after), 2)] {
        let id = format!("00000000-0000-4000-8000-{id:012}");
        assert_eq!(said(&api, "POST", "/api/v2/silences", &body).await, (200, format!(r#"{{"silenceID":"{id}"}}"#)));
    }
    let ids = async |query: &str| -> Vec<String> {
        let listed = ask_with(&api, "GET", &format!("/api/v2/silences?{query}"), "", &[]).await.json();
        listed.as_array().unwrap().iter().map(|silence| silence["id"].as_str().unwrap()[35..].to_owned()).collect()
    };
    assert_eq!(ids("").await, ["2", "1", "0"], "the next to end first, then what is to come");
    assert_eq!(ids("active=false").await, ["0"]);
    assert_eq!(ids("filter=team%3Ddb").await, ["1"]);
    assert_eq!(ids("filter=x%21~%22y.*%22&pending=false").await, ["2", "1"]);
    let one = ask_with(&api, "GET", "/api/v2/silence/00000000-0000-4000-8000-000000000001", "", &[]).await.json();
    let matchers = serde_json::json!([{"isEqual": true, "isRegex": false, "name": "team", "value": "db"},
        {"isEqual": false, "isRegex": true, "name": "x", "value": "y.*"}]);
    assert_eq!((&one["status"]["state"], &one["matchers"], &one["annotations"]), (&"active".into(), &matchers, &serde_json::json!({})));
    let listed = ask_with(&api, "GET", "/api/v2/alerts?filter=team%3Ddb", "", &[]).await.json();
    assert_eq!(listed[0]["status"]["silencedBy"][0], "00000000-0000-4000-8000-000000000001");
    assert_eq!(listed[0]["status"]["state"], "suppressed");
    assert_eq!(ask_with(&api, "GET", "/api/v2/alerts?silenced=false", "", &[]).await.json().as_array().unwrap().len(), 1);
    assert_eq!(said(&api, "DELETE", "/api/v2/silence/00000000-0000-4000-8000-000000000001", "").await.0, 200);
    assert_eq!(ids("active=false&pending=false").await, ["1"]);
}

#[tokio::test]
async fn the_status_is_what_clients_read() {
    let api = api(StandInAlerting::default());
    let status = ask_with(&api, "GET", "/api/v2/status", "", &[]).await.json();
    let peers = serde_json::json!([{"address": "10.0.0.1:9201", "name": "n1"}, {"address": "10.0.0.2:9201", "name": "n2"}]);
    assert_eq!((&status["cluster"]["status"], &status["cluster"]["peers"]), (&"ready".into(), &peers));
    assert_eq!(status["config"]["original"], "route:\n  receiver: all\n");
    for key in ["branch", "buildDate", "buildUser", "goVersion", "revision", "version"] {
        assert!(status["versionInfo"][key].is_string(), "{key}");
    }
    let receivers = ask_with(&api, "GET", "/api/v2/receivers?receiver_matchers=owner%3Ddba", "", &[]).await.text;
    assert_eq!(receivers, r#"[{"labels":{"owner":"dba"},"name":"db"}]"#);
    // Grafana takes a server that has both for neither.
    assert_eq!(said(&api, "GET", "/alertmanager/api/v2/status", "").await.0, 404);
}

#[tokio::test]
async fn who_cannot_keep_says_503_and_who_has_no_section_says_so() {
    let full = api(StandInAlerting { no_majority: true, ..StandInAlerting::default() });
    let asked = ask_with(&full, "POST", "/api/v2/alerts", POST, &[]).await;
    assert_eq!((asked.status.as_u16(), asked.headers["retry-after"].to_str().unwrap()), (503, "5"));
    let none = Api::new(deps(Arc::new(StandIn::default())));
    for (method, path) in
        [("GET", "/api/v2/alerts"), ("POST", "/api/v1/alerts/in/grafana"), ("POST", "/api/v1/alerts/791cec13fcba0368/ack")]
    {
        let asked = ask_with(&none, method, path, "", &[]).await;
        assert_eq!((asked.status.as_u16(), asked.json()["code"].as_str()), (404, Some("no_alerting")), "{path}");
    }
    let cross = [("origin", "https://elsewhere.example"), ("host", "sluice:9201")];
    for (method, path) in [("POST", "/api/v2/silences"), ("DELETE", "/api/v2/silence/x"), ("POST", "/api/v1/alerts/in/a")] {
        assert_eq!(ask_with(&full, method, path, "{}", &cross).await.status, StatusCode::FORBIDDEN, "{path}");
    }
}

/// Alertmanager's `TestCannotAddUTF8AlertsInClassicMode`, `TestCannotAddUTF8SilencesInClassicMode`, `TestAddAlerts` and `TestAddSilence`.
#[tokio::test]
async fn classic_names_are_those_of_old_and_values_are_free() {
    let (classic, utf8) = (api(StandInAlerting { classic: true, ..StandInAlerting::default() }), api(StandInAlerting::default()));
    let alerts = r#"[{"labels":{"a":"b","00":"c"}},{"labels":{"a":"b","Σ":"c"}},{"labels":{"a":"Σ","d":"🙂"}},{"labels":{"a":"b"},"annotations":{"x-y":"z"}}]"#;
    let wrong =
        r#""invalid label set: invalid name \"00\"\ninvalid label set: invalid name \"Σ\"\ninvalid annotations: invalid name \"x-y\"""#;
    assert_eq!(said(&classic, "POST", "/api/v2/alerts", alerts).await, (400, wrong.to_owned()));
    let kept = ask_with(&classic, "GET", "/api/v2/alerts", "", &[]).await.json();
    assert_eq!((kept.as_array().unwrap().len(), &kept[0]["labels"]["d"]), (1, &"🙂".into()), "the good one is kept");
    assert_eq!(said(&utf8, "POST", "/api/v2/alerts", alerts).await.0, 200);
    let silence = |name: &str| {
        format!(
            r#"{{"comment":"c","createdBy":"b","startsAt":"2026-09-21T00:00:00Z","endsAt":"2030-01-01T00:00:00Z","matchers":[{{"name":"{name}","value":"bar🙂","isRegex":false}}]}}"#
        )
    };
    let wrong = r#""invalid silence: invalid label matcher 0 in set 0: invalid label name \"fooΣ\"""#;
    assert_eq!(said(&classic, "POST", "/api/v2/silences", &silence("fooΣ")).await, (400, wrong.to_owned()));
    assert_eq!(said(&classic, "POST", "/api/v2/silences", &silence("foo")).await.0, 200);
    assert_eq!(said(&utf8, "POST", "/api/v2/silences", &silence("fooΣ")).await.0, 200);
    let shown = ask_with(&utf8, "GET", "/api/v2/silences?filter=foo%CE%A3%3Dbar%F0%9F%99%82", "", &[]).await.json();
    assert_eq!((shown.as_array().unwrap().len(), &shown[0]["matchers"][0]["name"]), (1, &"fooΣ".into()));
}

/// Alertmanager's `TestAddUTF8Alerts` and `TestFilterAlertRequest`.
#[tokio::test]
async fn alerts_with_names_of_any_letters_are_found_by_them() {
    let api = api(StandInAlerting::default());
    let alerts = r#"[{"labels":{"a":"a","00":"b","Σ":"c","🙂":"dΘ"}},{"labels":{"a":"a","00":"b","Σ":"other"}}]"#;
    assert_eq!(said(&api, "POST", "/api/v2/alerts", alerts).await.0, 200);
    // As Go quotes a name: byte by byte.
    let filter = ["00=b", "Σ=c", r#""\xf0\x9f\x99\x82"=dΘ"#];
    let query: String =
        filter.iter().map(|one| format!("filter={}&", form_urlencoded::byte_serialize(one.as_bytes()).collect::<String>())).collect();
    let found = ask_with(&api, "GET", &format!("/api/v2/alerts?{query}"), "", &[]).await.json();
    assert_eq!((found.as_array().unwrap().len(), &found[0]["labels"]["🙂"]), (1, &"dΘ".into()), "{found}");
    let groups = ask_with(&api, "GET", &format!("/api/v2/alerts/groups?{query}"), "", &[]).await.json();
    assert_eq!((groups.as_array().unwrap().len(), &groups[0]["alerts"][0]["labels"]["Σ"]), (1, &"c".into()), "{groups}");
}

#[tokio::test]
async fn pages_of_named_sites_may_ask_and_no_others() {
    let karma = "https://karma.example";
    let api = api(StandInAlerting { pages: vec![karma.to_owned()], ..StandInAlerting::default() });
    let from = |origin: &'static str| [("origin", origin), ("host", "sluice:9201"), ("sec-fetch-site", "cross-site")];
    let first = [("origin", karma), ("access-control-request-method", "DELETE")];
    let asked = ask_with(&api, "OPTIONS", "/api/v2/silence/791cec13-fcba-4036-8791-000000000000", "", &first).await;
    let header = |asked: &Asked, name: &str| asked.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let said = ["allow-origin", "allow-methods", "allow-headers", "allow-credentials"]
        .map(|name| header(&asked, &format!("access-control-{name}")).unwrap_or_default());
    assert_eq!((asked.status.as_u16(), said), (204, [karma, "DELETE,GET", "authorization, content-type", ""].map(str::to_owned)));
    for (method, path, body, status) in [
        ("GET", "/api/v2/alerts", "", 200),
        ("POST", "/api/v2/alerts", POST, 200),
        ("POST", "/api/v2/silences", "{}", 422),
        ("DELETE", "/api/v2/silence/791cec13-fcba-4036-8791-000000000000", "", 404),
        ("PUT", "/api/v2/alerts", "", 405),
    ] {
        let asked = ask_with(&api, method, path, body, &from("https://Karma.example")).await;
        let told = (asked.status.as_u16(), header(&asked, "access-control-allow-origin"), header(&asked, "vary"));
        assert_eq!(told, (status, Some("https://Karma.example".to_owned()), Some("Origin".to_owned())), "{method} {path}");
    }
    for origin in ["https://karma.example.evil", "http://karma.example", "https://karma.example:8443", "null"] {
        for (method, path, status) in [("POST", "/api/v2/alerts", 403), ("GET", "/api/v2/alerts", 200), ("OPTIONS", "/api/v2/alerts", 403)]
        {
            let asked = ask_with(&api, method, path, POST, &from(origin)).await;
            let told = (asked.status.as_u16(), header(&asked, "access-control-allow-origin"));
            assert_eq!(told, (status, None), "{method} {origin}");
        }
    }
    // And nowhere else.
    let elsewhere = ask_with(&api, "POST", "/api/v1/alerts/in/a", POST, &from("https://karma.example")).await;
    assert_eq!(elsewhere.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_alert_is_acknowledged_by_its_fingerprint() {
    let api = api(StandInAlerting::default());
    said(&api, "POST", "/api/v2/alerts", r#"[{"labels":{"alertname":"X"}}]"#).await;
    let print = ask_with(&api, "GET", "/api/v2/alerts", "", &[]).await.json()[0]["fingerprint"].as_str().unwrap().to_owned();
    let done = ask_with(&api, "POST", &format!("/api/v1/alerts/{print}/ack"), r#"{"comment":"on it"}"#, &[]).await;
    assert_eq!(done.json()["done"], format!("{print} is taken care of by people"));
    let listed = ask_with(&api, "GET", "/api/v2/alerts", "", &[]).await.json();
    assert_eq!(listed[0]["acknowledged"], serde_json::json!({"at": "2026-09-21T14:13:20.000Z", "by": "people", "comment": "on it"}));
    assert_eq!(said(&api, "POST", "/api/v1/alerts/0000000000000001/ack", "").await.0, 404);
    assert_eq!(said(&api, "POST", "/api/v1/alerts/x/ack", "").await.0, 404);
}

#[tokio::test]
async fn a_receivers_texts_are_shown() {
    let api = api(StandInAlerting::default());
    let shown = ask_with(&api, "POST", "/api/v1/receivers/all/preview", r#"{"labels":{"alertname":"X"},"resolved":true}"#, &[]).await;
    assert_eq!(shown.json(), serde_json::json!({"texts": [{"key": "k", "text": "X"}]}));
    for (name, body, status) in [
        ("other", "{}", 404),
        ("all", r#"{"text":"{{"}"#, 400),
        ("all", r#"{"label":{}}"#, 400),
        ("all", "", 400),
        ("all", &format!(r#"{{"text":"{}"}}"#, "x".repeat(70_000)), 400),
    ] {
        assert_eq!(said(&api, "POST", &format!("/api/v1/receivers/{name}/preview"), body).await.0, status, "{name} {body:.40}");
    }
}

#[tokio::test]
async fn alerts_that_hold_are_listed_by_their_level() {
    let api = api(StandInAlerting::default());
    let post = r#"[{"labels":{"alertname":"A","severity":"critical"},"startsAt":"2026-09-21T14:12:00Z"},{"labels":{"alertname":"B"},"startsAt":"2026-09-21T14:13:00Z"},
        {"labels":{"alertname":"C","severity":"info"},"startsAt":"2026-09-21T14:11:00Z"}]"#;
    assert_eq!(said(&api, "POST", "/api/v2/alerts", post).await.0, 200);
    for (query, expected) in
        [("", "B P3, A P1, C P5"), ("?sort=level", "A P1, B P3, C P5"), ("?level=P1,p5", "A P1, C P5"), ("?level=P2", "")]
    {
        let (status, text) = said(&api, "GET", &format!("/api/v1/alerts/active{query}"), "").await;
        let all: serde_json::Value = serde_json::from_str(&text).unwrap();
        let one =
            |alert: &serde_json::Value| format!("{} {}", alert["labels"]["alertname"].as_str().unwrap(), alert["level"].as_str().unwrap());
        let names: Vec<String> = all.as_array().unwrap().iter().map(one).collect();
        assert_eq!((status, names.join(", ").as_str()), (200, expected), "{query}");
    }
    assert_eq!(said(&api, "GET", "/api/v1/alerts/active?level=P9", "").await.0, 400);
}

#[tokio::test]
async fn what_is_posted_holds_for_as_long_as_the_settings_say() {
    let state = Arc::new(StandInAlerting { stale_after: Some(Duration::from_secs(60)), ..StandInAlerting::default() });
    let mut deps = deps(Arc::new(StandIn::default()));
    let shared: Arc<dyn Alerting> = Arc::clone(&state) as Arc<dyn Alerting>;
    deps.alerting = Arc::new(move || Ok(Arc::clone(&shared)));
    let api = Api::new(deps);
    let post = r#"[{"labels":{"alertname":"A"},"endsAt":"2027-01-01T00:00:00Z"},{"labels":{"alertname":"B"},"startsAt":"2026-09-21T14:00:00Z","endsAt":"2026-09-21T14:10:00Z"}]"#;
    assert_eq!(said(&api, "POST", "/api/v2/alerts", post).await.0, 200);
    let ends: Vec<i64> = state.alerts.lock().unwrap().values().map(|alert| alert.ends - NOW).collect();
    assert!(ends.contains(&60_000) && ends.contains(&-200_000), "an end that has come stays: {ends:?}");
}

//! Every path asked as a client would, against a stand-in node; and docs/api.md held to what comes back.

mod alerting;
mod standin;

use http_body_util::BodyExt;
use serde_json::Value;

use super::*;
use crate::shard::command::Command;
use standin::NOW;
use standin::StandIn;
use standin::deps;

struct Asked {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Asked {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

async fn ask_with(api: &Api, method: &str, path: &str, body: &str, headers: &[(&'static str, &str)]) -> Asked {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    let (method, body) = (method.parse().unwrap(), Bytes::copy_from_slice(body.as_bytes()));
    let (path, query, who) = (path.into(), query.into(), Who("people".into()));
    let response = api.call(Call { method, path, query, headers, body, who, tenant: None }, NOW).await;
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Asked { status: head.status, headers: head.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
}

async fn ask_of(node: StandIn, method: &str, path: &str, body: &str) -> (Asked, Vec<(u16, Command)>) {
    let node = Arc::new(node);
    let asked = ask_with(&Api::new(deps(Arc::clone(&node))), method, path, body, &[]).await;
    let proposed = node.proposed.lock().unwrap().clone();
    (asked, proposed)
}

async fn ask(method: &str, path: &str, body: &str) -> Asked {
    ask_of(StandIn::default(), method, path, body).await.0
}

/// All keys of a document: `groups[].counts.late`. Null and empty say nothing about what else could stand there.
fn keys(value: &Value, at: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                out.push(format!("{at}.{key}"));
                keys(value, &format!("{at}.{key}"), out);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, &format!("{at}[]"), out)),
        _ => {}
    }
    if at.is_empty() {
        out.sort();
        out.dedup();
    }
}

/// The examples of docs/api.md: what is asked, the body sent if any, and the answer shown.
fn examples() -> Vec<(String, String, String, Value)> {
    let mut all = Vec::new();
    for part in include_str!("../../docs/api.md").split("\n### ").skip(1) {
        let (heading, text) = part.split_once('\n').unwrap();
        let (method, path) = heading.trim_matches('`').split_once(' ').unwrap();
        let fence = |kind: &str| text.split_once(&format!("```{kind}\n")).map(|(_, rest)| rest.split_once("\n```").unwrap().0);
        let Some(answer) = fence("json") else { continue };
        let path = path
            .replace("{group}", "monitoring%2Fk8s")
            .replace("{sink}", "platform")
            .replace("{token}", "k8s-0")
            .replace("{name}", "before-upgrade");
        let answer = serde_json::from_str(answer).unwrap_or_else(|error| panic!("{heading}: {error}"));
        all.push((method.to_owned(), path, fence("json request").unwrap_or("").to_owned(), answer));
    }
    all
}

#[tokio::test]
async fn the_manual_shows_every_key_that_is_answered_and_no_other() {
    let examples = examples();
    assert!(examples.len() >= 15, "only {} examples found", examples.len());
    for (method, path, body, shown) in examples {
        // The page of groups shows a hint.
        let node = StandIn { pinned: path.ends_with("/unpin"), odd: path == "/api/v1/groups", ..StandIn::default() };
        let mut deps = deps(Arc::new(node));
        if path == "/-/reload" {
            deps.reload = Arc::new(|| Box::pin(async { Ok("reloaded".to_owned()) }));
        }
        if matches!(path.as_str(), "/api/v1/alerts/history" | "/api/v1/alerts/active" | "/api/v1/alerts/receivers") {
            deps.alerting = alerting::with_a_past();
        }
        let asked = ask_with(&Api::new(deps), &method, &path, &body, &[]).await;
        let (mut expected, mut answered) = (Vec::new(), Vec::new());
        keys(&shown, "", &mut expected);
        keys(&asked.json(), "", &mut answered);
        // A hint stands only where something looks wrong: the page of groups shows one.
        let seldom = |key: &String| !key.contains(".hints[]");
        if path != "/api/v1/groups" {
            expected.retain(seldom);
            answered.retain(seldom);
        }
        assert_eq!(answered, expected, "{method} {path}");
    }
}

#[tokio::test]
async fn every_route_is_in_the_manual() {
    let manual = include_str!("../../docs/api.md");
    let words = ["", "/history", "/cardinality", "/pin", "/unpin", "/step-down"].map(|word| format!("/api/v1/groups/{{group}}{word}`"));
    let more =
        ["", "/dead", "/replay", "/test", "/rewind", "/pause", "/resume", "/tap"].map(|word| format!("/api/v1/sinks/{{sink}}{word}`"));
    let plain = [
        "/-/healthy",
        "/-/ready",
        "/-/reload",
        "/metrics",
        "/probe",
        "/api/v1/status",
        "/api/v1/groups",
        "/api/v1/sinks",
        "/api/v1/dev/senders",
    ];
    let plain = plain.into_iter().chain([
        "/api/v1/senders",
        "/api/v1/probes",
        "/api/v1/metrics",
        "/api/v1/tap",
        "/api/v1/cardinality",
        "/api/v1/tokens",
        "/api/v1/tokens/{token}/revoke",
        "/api/v1/explain?sample=up",
        "/api/v1/config",
        "/api/v1/config/diff",
        "/api/v1/config/apply",
        "/api/v1/backups/{name}",
    ]);
    for path in words.into_iter().chain(more).chain(plain.map(|path| format!("{path}`"))) {
        assert!(manual.contains(&path), "docs/api.md lacks {path}");
    }
}

#[tokio::test]
async fn a_bundle_has_what_somebody_who_helps_would_ask_for() {
    let asked = ask("GET", "/api/v1/cluster/debug", "").await.json();
    let names: Vec<&str> = asked["files"].as_array().unwrap().iter().filter_map(|file| file["name"].as_str()).collect();
    let expected = [
        "status.json",
        "doctor.json",
        "groups.json",
        "sinks.json",
        "senders.json",
        "metrics.txt",
        "settings.txt",
        "file.txt",
        "log.txt",
        "ready.txt",
        "disk.txt",
        "version.txt",
    ];
    assert_eq!(names, expected.map(|name| format!("node/{name}")));
    assert!(!asked.to_string().contains("wxyz"), "not even a token's last letters");
}

#[tokio::test]
async fn probes_are_shown_all_or_what_is_not_well() {
    let all = ask("GET", "/api/v1/probes", "").await.json();
    assert_eq!((all["prometheus"].as_array().unwrap().len(), all["targets"].as_array().unwrap().len()), (2, 1));
    let down = ask("GET", "/api/v1/probes?down", "").await.json();
    assert_eq!((&down["prometheus"][0]["replica"], down["targets"].as_array().unwrap().len()), (&Value::from("b"), 0));
    assert_eq!(ask("GET", "/api/v1/probes?up", "").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_unknown_path_says_which_there_are() {
    let asked = ask("GET", "/api/v3/status", "").await;
    assert_eq!(asked.status, StatusCode::NOT_FOUND);
    assert!(asked.json()["remedy"].as_str().unwrap().contains("/api/v1/status"));
    let asked = ask("GET", "/api/v1/groups/nobody%2Fhere", "").await;
    assert_eq!((asked.status, asked.json()["error"].as_str().unwrap()), (StatusCode::NOT_FOUND, "there is no group `nobody/here`"));
    assert_eq!(ask("GET", "/api/v1/sinks/nobody/tap", "").await.status, StatusCode::NOT_FOUND);
    assert_eq!(ask("POST", "/", "").await.status, StatusCode::NOT_FOUND);
    assert_eq!(ask("GET", "/", "").await.text, "page");
}

#[tokio::test]
async fn a_wrong_method_says_which_is_right() {
    for (method, path, allow) in [
        ("POST", "/api/v1/status", "GET, HEAD"),
        ("GET", "/-/reload", "POST"),
        ("DELETE", "/api/v1/groups/monitoring%2Fk8s", "GET, HEAD"),
        ("GET", "/api/v1/groups/monitoring%2Fk8s/pin", "POST"),
        ("PUT", "/api/v1/dev/senders", "GET, HEAD, POST"),
    ] {
        let asked = ask(method, path, "").await;
        assert_eq!((asked.status, asked.headers["allow"].to_str().unwrap()), (StatusCode::METHOD_NOT_ALLOWED, allow), "{method} {path}");
    }
    assert_eq!(ask("HEAD", "/api/v1/status", "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn health_readiness_and_metrics() {
    assert_eq!(ask("GET", "/-/healthy", "").await.status, StatusCode::OK);
    let asked = ask("GET", "/-/ready", "").await;
    assert_eq!((asked.status, &asked.json()["reasons"][0]), (StatusCode::SERVICE_UNAVAILABLE, &Value::from("shard 3 has no leader")));
    let mut ready = deps(Arc::default());
    ready.not_ready = Arc::new(Vec::new);
    assert_eq!(ask_with(&Api::new(ready), "GET", "/-/ready", "", &[]).await.status, StatusCode::OK);
    let asked = ask("GET", "/metrics", "").await;
    assert_eq!((asked.text.as_str(), asked.headers["content-type"].to_str().unwrap()), ("# EOF\n", telemetry::CONTENT_TYPE));
    let asked = ask("POST", "/-/reload", "").await;
    assert_eq!((asked.status, &asked.json()["problems"][0]), (StatusCode::BAD_REQUEST, &Value::from("sinks[0].kafka.topic: missing")));
}

#[tokio::test]
async fn answers_are_not_stored_and_not_sniffed() {
    let asked = ask("GET", "/api/v1/groups", "").await;
    assert_eq!(
        (&asked.headers["cache-control"], &asked.headers["x-content-type-options"]),
        (&"no-store".parse().unwrap(), &"nosniff".parse().unwrap())
    );
}

#[tokio::test]
async fn pin_takes_only_replicas_that_are_known() {
    let (asked, proposed) = ask_of(StandIn::default(), "POST", "/api/v1/groups/monitoring%2Fk8s/pin", r#"{"replica":"k8s-1"}"#).await;
    assert_eq!(asked.status, StatusCode::OK);
    assert_eq!(proposed, [(2, Command::Pin { group: "monitoring/k8s".into(), replica: Some("k8s-1".into()) })]);
    for body in [r#"{"replica":"k8s-7"}"#, "", "{}", r#"{"replica":"k8s-1","now":1}"#] {
        let (asked, proposed) = ask_of(StandIn::default(), "POST", "/api/v1/groups/monitoring%2Fk8s/pin", body).await;
        assert_eq!((asked.status, proposed.len()), (StatusCode::BAD_REQUEST, 0), "{body}");
    }
}

#[tokio::test]
async fn a_token_is_shown_once_and_its_hash_alone_goes_into_the_log() {
    let (asked, proposed) = ask_of(StandIn::default(), "POST", "/api/v1/tokens", r#"{"name":"a","expires_seconds":60}"#).await;
    let created = asked.json();
    let token = created["token"].as_str().unwrap();
    let (shard, Command::CreateToken(new)) = &proposed[0] else { panic!("{proposed:?}") };
    assert_eq!((*shard, &*new.name, &*new.by, new.expires_ms, new.first), (0, "a", "people", Some(NOW + 60_000), false));
    assert!(crate::secret::token::hash(token) == new.hash && token.ends_with(&new.hint) && !format!("{proposed:?}").contains(token));
    assert_eq!(asked.headers["cache-control"], "no-store");
    for body in [
        "",
        "{}",
        r#"{"name":"a b"}"#,
        r#"{"name":""}"#,
        r#"{"name":"a","expires_seconds":0}"#,
        r#"{"name":"a","expires_seconds":9000000000000}"#,
    ] {
        let (asked, proposed) = ask_of(StandIn::default(), "POST", "/api/v1/tokens", body).await;
        assert_eq!((asked.status, proposed.len()), (StatusCode::BAD_REQUEST, 0), "{body}");
    }
    let taken = ask_of(StandIn { void: true, ..StandIn::default() }, "POST", "/api/v1/tokens", r#"{"name":"k8s-0"}"#).await.0;
    assert_eq!(taken.status, StatusCode::CONFLICT);

    let list = ask("GET", "/api/v1/tokens", "").await;
    assert!(!list.text.contains("hash") && list.json()["tokens"][0]["name"] == "k8s-0", "{}", list.text);
    let (_, proposed) = ask_of(StandIn::default(), "POST", "/api/v1/tokens/k8s-0/revoke", "").await;
    assert_eq!(proposed, [(0, Command::RevokeToken { name: "k8s-0".into(), by: "people".into() })]);
    assert_eq!(ask("POST", "/api/v1/tokens/nobody/revoke", "").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_token_that_ends_soon_is_a_problem() {
    let tokens = deps(Arc::default()).node.tokens();
    let day = 86_400_000;
    let at = |now| tokens::problems(&tokens, now).into_iter().map(|problem| problem.text).collect::<Vec<_>>();
    assert!(at(NOW + 45 * day).is_empty());
    assert!(at(NOW + 47 * day)[0].contains("ends in 312 hours"), "{:?}", at(NOW + 47 * day));
    assert!(at(NOW + 61 * day)[0].contains("has ended"));
}

#[tokio::test]
async fn unpin_and_step_down_do_what_the_state_allows() {
    let unpin = "/api/v1/groups/monitoring%2Fk8s/unpin";
    assert_eq!(ask_of(StandIn::default(), "POST", unpin, "").await.1, []);
    let (_, proposed) = ask_of(StandIn { pinned: true, ..StandIn::default() }, "POST", unpin, "").await;
    assert_eq!(proposed, [(2, Command::Pin { group: "monitoring/k8s".into(), replica: None })]);

    let down = "/api/v1/groups/monitoring%2Fk8s/step-down";
    let (asked, proposed) = ask_of(StandIn::default(), "POST", down, "").await;
    assert_eq!(asked.json()["done"], "k8s-0 stepped down, k8s-1 leads");
    let Command::Switch(switch) = &proposed[0].1 else { panic!("{proposed:?}") };
    assert_eq!((switch.from.as_str(), switch.to.as_str(), switch.reason.as_str()), ("k8s-0", "k8s-1", "step-down"));
    assert_eq!(switch.evidence, "asked for by people", "the name of the token");
    for (node, body) in [
        (StandIn { pinned: true, ..StandIn::default() }, ""),
        (StandIn { twin_silent_ms: 300_000, ..StandIn::default() }, ""),
        (StandIn::default(), r#"{"to":"k8s-0"}"#),
        (StandIn { void: true, ..StandIn::default() }, ""),
    ] {
        assert_eq!(ask_of(node, "POST", down, body).await.0.status, StatusCode::CONFLICT, "{body}");
    }
    let silent = StandIn { twin_silent_ms: 300_000, ..StandIn::default() };
    assert_eq!(ask_of(silent, "POST", down, r#"{"to":"k8s-1"}"#).await.0.status, StatusCode::OK);
}

#[tokio::test]
async fn pages_of_other_sites_change_nothing() {
    let (node, path) = (Arc::new(StandIn::default()), "/api/v1/groups/monitoring%2Fk8s/step-down");
    let api = Api::new(deps(Arc::clone(&node)));
    let evil = [("host", "127.0.0.1:9201"), ("origin", "http://evil.example")];
    assert_eq!(ask_with(&api, "POST", path, "", &evil).await.status, StatusCode::FORBIDDEN);
    assert_eq!(ask_with(&api, "POST", path, "", &[("host", "x"), ("origin", "null")]).await.status, StatusCode::FORBIDDEN);
    assert_eq!(ask_with(&api, "POST", path, "", &[("sec-fetch-site", "cross-site")]).await.status, StatusCode::FORBIDDEN);
    assert!(node.proposed.lock().unwrap().is_empty());
    let own = [("host", "127.0.0.1:9201"), ("origin", "http://127.0.0.1:9201"), ("sec-fetch-site", "same-origin")];
    assert_eq!(ask_with(&api, "POST", path, "", &own).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_status_names_what_is_wrong_worst_first() {
    let status = ask("GET", "/api/v1/status", "").await.json();
    let problems: Vec<(&str, &str)> = status["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| (problem["severity"].as_str().unwrap(), problem["code"].as_str().unwrap()))
        .collect();
    assert_eq!(problems, [("error", "unreachable"), ("error", "budget"), ("warning", "unidentified")]);
    let (silent, _) = ask_of(StandIn { twin_silent_ms: 90_000, ..StandIn::default() }, "GET", "/api/v1/status", "").await;
    assert!(silent.text.contains("replica k8s-1 has not written for 92 s"), "{}", silent.text);
    let (odd, _) = ask_of(StandIn { odd: true, ..StandIn::default() }, "GET", "/api/v1/status", "").await;
    assert!(odd.text.contains("switches_withheld"), "{}", odd.text);
    let (empty, _) = ask_of(StandIn { nothing_yet: true, ..StandIn::default() }, "GET", "/api/v1/status", "").await;
    assert_eq!(empty.json()["groups"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn a_sink_is_the_sum_of_its_shards() {
    let sinks = ask("GET", "/api/v1/sinks", "").await.json();
    let sink = &sinks["sinks"][0];
    assert_eq!(
        (&sink["state"], &sink["delivered"], &sink["lag_ms"], &sink["seconds_left"]),
        (&"troubled".into(), &30.into(), &3000.into(), &97.into())
    );
    assert_eq!(
        sink["troubles"],
        serde_json::json!([{"code": "unreachable", "text": "no broker answers", "remedy": "start one", "since": NOW - 3, "shards": [1, 3]}])
    );
}

#[tokio::test]
async fn dead_letters_are_read_in_pages() {
    let dead = ask("GET", "/api/v1/sinks/platform/dead?shard=1&after=1&limit=2", "").await.json();
    let numbers: Vec<u64> = dead["dead"].as_array().unwrap().iter().map(|letter| letter["number"].as_u64().unwrap()).collect();
    assert_eq!((numbers, &dead["more"]), (vec![2, 3], &Value::Bool(true)));
    let dead = ask("GET", "/api/v1/sinks/platform/dead", "").await.json();
    assert_eq!((dead["dead"].as_array().unwrap().len(), &dead["dead"][0]["payload"]), (5, &Value::from("{\"ts\":1}")));
    assert_eq!(ask("GET", "/api/v1/sinks/platform/dead?limit=many", "").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(ask("POST", "/api/v1/sinks/platform/replay", "").await.json()["replayed"], 5);
    assert_eq!(ask("POST", "/api/v1/sinks/platform/replay", r#"{"shard":1,"number":3}"#).await.json()["replayed"], 1);
    assert_eq!(ask("POST", "/api/v1/sinks/platform/replay", r#"{"shard":1}"#).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(ask("POST", "/api/v1/sinks/platform/resume", "").await.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_tap_gives_a_row_a_line_and_ends_with_the_node() {
    let asked = ask("GET", "/api/v1/sinks/platform/tap", "").await;
    assert_eq!(
        (asked.text.as_str(), &asked.headers["content-type"]),
        ("{\"v\":1}\n{\"v\":2}\n{\"v\":3}\n", &"application/x-ndjson".parse().unwrap())
    );
    let mut stopping = deps(Arc::default());
    stopping.stopping = tokio::sync::watch::channel(true).1;
    assert_eq!(ask_with(&Api::new(stopping), "GET", "/api/v1/sinks/platform/tap", "", &[]).await.text, "");
}

#[tokio::test]
async fn synthetic_senders_exist_in_dev_only() {
    assert_eq!(ask("POST", "/api/v1/dev/senders", r#"{"name":"demo/a","running":false}"#).await.status, StatusCode::OK);
    assert_eq!(ask("POST", "/api/v1/dev/senders", r#"{"name":"demo/z","running":false}"#).await.status, StatusCode::NOT_FOUND);
    let mut run = deps(Arc::default());
    run.dev = None;
    let asked = ask_with(&Api::new(run), "GET", "/api/v1/dev/senders", "", &[]).await;
    assert_eq!((asked.status, &asked.json()["code"]), (StatusCode::NOT_FOUND, &Value::from("not_dev")));
}

#[tokio::test]
async fn damaged_calls_are_answered_in_json_and_never_by_a_panic() {
    let corpus = [
        ("POST", "/api/v1/groups/monitoring%2Fk8s/pin", r#"{"replica": "k8s-1"}"#),
        ("POST", "/api/v1/groups/monitoring%2Fk8s/step-down", r#"{"to": "k8s-1"}"#),
        ("GET", "/api/v1/groups/monitoring%2Fk8s/history", ""),
        ("GET", "/api/v1/sinks/platform/dead?shard=1&after=2&limit=3", ""),
        ("POST", "/api/v1/sinks/platform/replay", r#"{"shard": 1, "number": 7}"#),
        ("GET", "/api/v1/explain?sample=up", ""),
        ("POST", "/api/v1/sinks/platform/rewind", r#"{"by_ms": 1000}"#),
        ("POST", "/api/v1/dev/senders", r#"{"name": "a", "running": false}"#),
        ("POST", "/api/v1/tokens", r#"{"name": "a", "expires_seconds": 60}"#),
        ("POST", "/api/v1/tokens/k8s-0/revoke", ""),
    ];
    let api = Api::new(deps(Arc::new(StandIn::default())));
    let mut answered = std::collections::BTreeMap::<u16, u32>::new();
    for seed in crate::mutate::seeds(3_000) {
        let random = &mut fastrand::Rng::with_seed(seed);
        let (method, path, body) = corpus[random.usize(0..corpus.len())];
        let (mut path, mut body) = (path.to_owned(), body.to_owned());
        if random.bool() {
            path = crate::mutate::damage_text(random, &path);
        } else {
            body = crate::mutate::damage_text(random, &body);
        }
        let asked = ask_with(&api, method, &path, &body, &[]).await;
        *answered.entry(asked.status.as_u16()).or_default() += 1;
        assert!(asked.status.as_u16() < 500, "SEED={seed}: {} to {method} {path} {body}", asked.status);
        assert!(asked.status == StatusCode::OK || asked.json()["remedy"].is_string(), "SEED={seed}: {}", asked.text);
        assert!(asked.text.len() < 64 << 10, "SEED={seed}: {} bytes", asked.text.len());
    }
    assert!(
        answered.contains_key(&200) && answered.contains_key(&400) && answered.contains_key(&404) || std::env::var("SEED").is_ok(),
        "{answered:?}"
    );
    // Nested as deep as a body may be long: refused, not followed.
    let deep = format!("{{\"replica\": {}", "[".repeat(60_000));
    assert_eq!(ask_with(&api, "POST", "/api/v1/groups/monitoring%2Fk8s/pin", &deep, &[]).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn settings_are_shown_compared_and_changed() {
    let api = Api::new(deps(Arc::default()));
    let shown = ask_with(&api, "GET", "/api/v1/config?version=1", "", &[]).await.json();
    assert_eq!((&shown["version"], &shown["by"]), (&1.into(), &"alice".into()));
    assert_eq!(ask_with(&api, "GET", "/api/v1/config?version=9", "", &[]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(ask_with(&api, "GET", "/api/v1/config?version=x", "", &[]).await.status, StatusCode::BAD_REQUEST);
    let shown = ask_with(&api, "GET", "/api/v1/config", "", &[]).await.text;
    assert!(shown.contains("sasl.password: (hidden)"), "{shown}");
    let file = ask_with(&api, "GET", "/api/v1/config/diff", "", &[]).await.json();
    assert_eq!(file["lines"], serde_json::json!([" sinks:", "   - name: keeps", "-    sasl.password: (hidden)"]));
    let refused = ask_with(&api, "POST", "/api/v1/config/apply", r#"{"text":"sinks: wrong"}"#, &[]).await;
    assert!(refused.status == StatusCode::BAD_REQUEST && refused.text.contains("line 1: it is wrong"), "{}", refused.text);
    let refused = ask_with(&api, "POST", "/api/v1/config/apply", r#"{"text":"sinks: []"}"#, &[]).await;
    assert_eq!((refused.status, &refused.json()["undelivered"][0]["bytes"]), (StatusCode::CONFLICT, &4096.into()));
    assert!(refused.json()["remedy"].as_str().unwrap().contains("--discard keeps"), "{}", refused.text);
    let moved = ask_with(&api, "POST", "/api/v1/config/apply", r#"{"text":"sinks: [] # keeps","base":1}"#, &[]).await;
    assert!(moved.status == StatusCode::CONFLICT && moved.text.contains("version 2 by now, by alice"), "{}", moved.text);
    let applied = ask_with(&api, "POST", "/api/v1/config/apply", r#"{"text":"sinks: []","base":2,"discard":["keeps"]}"#, &[]).await;
    assert_eq!((applied.status, &applied.json()["version"]), (StatusCode::OK, &3.into()), "{}", applied.text);
    let shown = ask_with(&api, "GET", "/api/v1/config", "", &[]).await.json();
    assert_eq!((&shown["by"], shown["earlier"].as_array().map(Vec::len)), (&"people".into(), Some(2)));
}

#[tokio::test]
async fn backups_have_names_that_are_no_paths() {
    for wrong in
        ["..%2F..%2Fetc", "a%20b", "a?keep=0", "a?keep=367", "a?keep=all", "a?older=1"].map(|name| format!("/api/v1/backups/{name}"))
    {
        assert_eq!(ask("POST", &wrong, "").await.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    assert_eq!(ask("POST", "/api/v1/backups/a?keep=7", "").await.json()["removed"][0], "all but 7");
    assert_eq!(ask("POST", "/api/v1/backups/taken", "").await.status, StatusCode::CONFLICT);
    assert_eq!(ask("GET", "/api/v1/backups/a", "").await.status, StatusCode::METHOD_NOT_ALLOWED);
}

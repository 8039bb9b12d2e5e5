//! Parts tied together as `running` ties them, where a test needs times that no configuration has.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::api;
use crate::app::check;
use crate::clock;
use crate::config::groups::Groups;
use crate::config::limits::Limits;
use crate::ingest;
use crate::ingest::Ingest;
use crate::node::settings::Reserve;
use crate::node::settings::Settings;
use crate::node::start::Node;
use crate::relabel::counters::Asked;
use crate::serve;
use crate::wire::encode::Encoder;
use crate::wire::encode::NewSeries;
use crate::wire::encode::Sample;
use crate::wire::pack;
use crate::wire::remote_write::Protocol;

/// A request of a replica: 300 series.
fn request(group: &str, replica: &str, job: &str) -> Vec<u8> {
    let mut encoder = Encoder::new(Protocol::V1);
    let samples = [Sample::new(clock::wall_ms(), 1.0)];
    for number in 0..300 {
        let number = number.to_string();
        let labels = [("__name__", "m"), ("__replica__", replica), ("cluster", group), ("job", job), ("n", &*number)];
        encoder.push(&NewSeries { labels: &labels, samples: &samples, ..NewSeries::default() });
    }
    let (mut raw, mut packed) = (Vec::new(), Vec::new());
    encoder.finish(&mut raw);
    pack::pack_snappy(&raw, &mut packed);
    packed
}

/// Groups, of those that `GET /api/v1/groups` shows, with the hint that they share most series; and what it says.
fn sharing(node: &Node) -> Vec<(String, String)> {
    let shown = serde_json::to_value(api::groups::all(&node.handle.groups())).unwrap();
    let mut found = Vec::new();
    for group in shown["groups"].as_array().unwrap() {
        for hint in group["hints"].as_array().unwrap().iter().filter(|hint| hint["code"] == "shares_series") {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            found.push((text(&group["name"]), text(&hint["text"])));
        }
    }
    found
}

#[tokio::test]
async fn two_groups_with_the_same_series_are_told_and_others_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = Settings { data_shards: 2, reserve: Reserve::Bytes(1), ..Settings::new(directory.path()) };
    settings.timing.view = Duration::from_millis(20);
    settings.timing.detect = Duration::from_millis(20);
    settings.timing.watched = Duration::from_millis(300);
    let node = Node::start(settings, Box::new(|reason| eprintln!("fatal: {reason}"))).unwrap();
    node.handle.ready().await.unwrap();
    let mut ingest = Ingest::new(node.handle.clone(), &Groups::default(), &Limits::default(), &Asked::default(), 1);
    ingest.show_always();
    let ingest = Arc::new(ingest);
    let listener = serve::Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.address();
    let answerer: serve::Answerer = Arc::new(move |request, peer| {
        let ingest = Arc::clone(&ingest);
        Box::pin(async move { ingest.take(request, peer, ingest::head::route("/api/v1/write", None).unwrap()).await })
    });
    let (_stop, stopping) = tokio::sync::watch::channel(false);
    let bounds = serve::Bounds { connections: 10, age: Duration::ZERO, drain: Duration::from_secs(1) };
    let door = serve::Door { answerer, gone: Arc::new(|_, _| {}) };
    tokio::spawn(serve::run(listener, bounds, door, serve::metrics::Metrics::default(), stopping));
    let client = Client::builder(TokioExecutor::new()).build_http();

    let began = clock::now();
    // `one` and `two` are a pair whose group label differs; `other` watches something else.
    let found = loop {
        for (group, replica, job) in [("one", "a", "node"), ("two", "b", "node"), ("other", "a", "else"), ("other", "b", "else")] {
            let request = hyper::Request::post(format!("http://{address}/api/v1/write"))
                .header("content-type", "application/x-protobuf")
                .header("content-encoding", "snappy")
                .body(Full::<bytes::Bytes>::new(request(group, replica, job).into()))
                .unwrap();
            let answer = client.request(request).await.unwrap();
            let status = answer.status();
            let text = answer.into_body().collect().await.unwrap().to_bytes();
            assert!(status.is_success(), "{status}: {text:?}");
        }
        let found = sharing(&node);
        assert!(clock::now() - began < Duration::from_secs(20), "not in 20 s: {found:?}");
        if found.len() >= 2 {
            break found;
        }
    };
    let names: Vec<&str> = found.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["one", "two"], "{found:?}");
    assert!(found[0].1.contains("100 %") && found[0].1.contains("group two"), "{found:?}");
    assert_ne!(node.handle.group("one"), node.handle.group("two"), "they live in different shards");
    tokio::task::spawn_blocking(move || node.stop()).await.unwrap();
}

#[test]
fn a_file_of_routes_becomes_a_setting_and_what_is_wrong_in_it_is_told_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let routes = |text: &str| std::fs::write(directory.path().join("routes.yml"), text).unwrap();
    let text = "data_dir: /x\nsinks: []\nalerting:\n  file: routes.yml\n";
    let wrong = || check::text(text, directory.path()).unwrap_err().iter().map(ToString::to_string).collect::<String>();
    assert!(wrong().contains("cannot be read"), "{}", wrong());
    routes("route:\n  receiver: a\nreceivers: []\n");
    assert!(wrong().contains("routes.yml") && wrong().contains("line 1: route.receiver") && wrong().contains("undefined receiver"), "{}", wrong());
    routes("receivers: [{ name: a }]\nroute: &r { receiver: a, group_wait: 5s }\n");
    let config = check::text(text, directory.path()).unwrap();
    assert!(config.settings.contains("config:\n") && !config.settings.contains("routes.yml"), "{}", config.settings);
    assert!(config.alerting.as_ref().is_some_and(|written| written.routing.is_some() && written.file.is_none()));
    let again = config.with_settings(&config.settings).unwrap();
    assert!(again.agrees_with(&config));
    assert_eq!(check::with_routes("alerting:\n  file: routes.yml\n", directory.path()).unwrap(), config.settings);
}

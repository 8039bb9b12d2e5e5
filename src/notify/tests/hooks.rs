//! Webhooks, and all that can go wrong between us and a server.

use std::time::Duration;

use serde_json::json;

use super::AT;
use super::alert;
use super::both;
use super::is_again;
use super::is_never;
use super::message;
use super::receivers;
use super::send;
use super::server::Reply;
use super::server::Server;
use super::server::says;
use crate::notify::Outcome;
use crate::notify::data::Data;
use crate::secret::sign;

const GOLDEN: &str = include_str!("webhook-v4.json");

#[tokio::test]
async fn the_webhook_gets_alertmanagers_payload_to_the_byte() {
    let server = Server::new(vec![says(200, "")]).await;
    assert_eq!(send(&format!("  webhook_configs: [{{ url: 'http://{}/hook?a=b' }}]", server.address), &both()).await, Outcome::Taken);
    let seen = server.last();
    assert_eq!((seen.target(), seen.header("content-type")), ("/hook?a=b", Some("application/json")));
    assert_eq!(seen.body, GOLDEN);
    let short = format!("  webhook_configs: [{{ url: 'http://{}/', max_alerts: 1 }}]", server.address);
    assert_eq!(send(&short, &both()).await, Outcome::Taken);
    let seen = server.last().json();
    assert_eq!((&seen["truncatedAlerts"], seen["alerts"].as_array().unwrap().len()), (&json!(1), 1));
    assert_eq!(seen["commonLabels"]["instance"], "a", "what is common is common to what is sent");
}

/// What Alertmanager 0.25 (Debian's) sent for two alerts, as it came. Newer ones have two fields more, and Go's JSON has since then short words for two control
/// letters.
#[test]
fn the_payload_is_what_a_real_alertmanager_sent() {
    let recorded = include_str!("alertmanager-0.25.json").replace("\\u0008\\u000c", "\\b\\f");
    let (mut one, mut other) = (alert("a", "a is full <b>", AT + 1), alert("b", "b \u{2028} \u{8}\u{c}\t is full", AT + 1));
    (one.starts, other.starts, other.generator) = (1_790_000_000_000, 1_790_000_000_500, "".into());
    let message = message(vec![one, other]);
    let sent = String::from_utf8(Data::new(&message, "http://sluice:9201", 0).webhook_body()).unwrap();
    let sent = sent.replace("\"notification_reason\":\"first notification\",", "").replace("\"routeLabels\":{},", "");
    assert_eq!(sent, recorded);
}

#[tokio::test]
async fn answers_are_judged_by_their_status() {
    let later = Reply::Answer(429, "Retry-After: 7\r\n", "too many".to_owned());
    let replies = vec![says(500, "oh \u{1b}[31m"), later, says(404, "<h1>no</h1>"), says(302, ""), says(204, "")];
    let server = Server::new(replies).await;
    let receivers = receivers(&format!("  webhook_configs: [{{ url: 'http://{}/' }}]", server.address));
    let outcome = |after, why: &str| Outcome::Again { after, why: why.to_owned() };
    assert_eq!(receivers.send(&both(), "team.db", 0).await, outcome(None, "it answers 500: oh [31m"));
    assert_eq!(receivers.send(&both(), "team.db", 0).await, outcome(Some(Duration::from_secs(7)), "it answers 429: too many"));
    // It is obeyed: nothing is sent before.
    assert!(is_again(&receivers.send(&both(), "team.db", 0).await) && server.seen().len() == 2);
    // Another process does not know of it.
    let receivers = super::receivers(&format!("  webhook_configs: [{{ url: 'http://{}/' }}]", server.address));
    assert_eq!(receivers.send(&both(), "team.db", 0).await, Outcome::Never { why: "it answers 404: <h1>no</h1>".to_owned() });
    assert!(is_never(&receivers.send(&both(), "team.db", 0).await), "a redirect that would lose the content");
    assert_eq!(receivers.send(&both(), "team.db", 0).await, Outcome::Taken);
    assert!(is_never(&receivers.send(&both(), "team.db", 1).await) && is_never(&receivers.send(&both(), "other", 0).await));
}

#[tokio::test]
async fn a_server_that_hangs_cuts_or_is_gone_is_tried_again() {
    for (reply, word) in [(Reply::Hang, "no answer within"), (Reply::Cut, ""), (Reply::Close, "")] {
        let server = Server::new(vec![reply]).await;
        let lines = format!("  webhook_configs: [{{ url: 'http://{}/secret-key', timeout: 300ms }}]", server.address);
        let Outcome::Again { why, after: None } = send(&lines, &both()).await else { panic!("{lines}") };
        assert!(why.contains(word) && !why.contains("secret-key"), "{why}");
    }
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(is_again(&send(&format!("  webhook_configs: [{{ url: 'http://{gone}/' }}]"), &both()).await));
}

#[tokio::test]
async fn redirects_keep_the_content_and_do_not_lead_to_where_keys_are() {
    let end = Server::new(vec![says(200, "")]).await;
    for (to, taken) in [
        ("Location: /other\r\n", true),
        ("Location: http://169.254.169.254/latest/meta-data\r\n", false),
        ("Location: http://localhost:1/\r\n", false),
        ("Location: http://[::1]:1/\r\n", false),
        ("Location: http://2130706433/\r\n", false),
    ] {
        let server = Server::new(vec![Reply::Answer(307, to, String::new()), says(200, "")]).await;
        let lines = format!(
            "  webhook_configs:\n  - url: 'http://{}/'\n    timeout: 2s\n    http_config: {{ basic_auth: {{ username: u, password: p }} }}",
            server.address
        );
        let outcome = send(&lines, &both()).await;
        assert_eq!(outcome == Outcome::Taken, taken, "{to}: {outcome:?}");
        if taken {
            assert_eq!((server.last().target().to_owned(), server.last().body), ("/other".to_owned(), GOLDEN.to_owned()));
            assert_eq!(server.last().header("authorization"), Some("Basic dTpw"));
        } else {
            assert_eq!(server.seen().len(), 1);
        }
    }
    // Round and round.
    let server = Server::new(vec![Reply::Answer(308, "Location: /\r\n", String::new())]).await;
    let Outcome::Again { why, .. } = send(&format!("  webhook_configs: [{{ url: 'http://{}/' }}]", server.address), &both()).await else {
        panic!()
    };
    assert!(why.contains("redirects more than"), "{why}");
    let lines = format!("  webhook_configs: [{{ url: 'http://{}/', http_config: {{ follow_redirects: false }} }}]", server.address);
    assert!(is_never(&send(&lines, &both()).await));
    assert!(end.seen().is_empty());
}

#[tokio::test]
async fn a_proxy_is_asked_instead() {
    let proxy = Server::new(vec![says(200, "")]).await;
    let lines =
        format!("  webhook_configs: [{{ url: 'http://hook.invalid/x', http_config: {{ proxy_url: 'http://u:p@{}' }} }}]", proxy.address);
    assert_eq!(send(&lines, &both()).await, Outcome::Taken);
    let seen = proxy.last();
    let away = Reply::Answer(307, "Location: http://169.254.169.254/\r\n", String::new());
    let astray = Server::new(vec![away, says(200, "")]).await;
    let lines_astray = lines.replace(&proxy.address.to_string(), &astray.address.to_string());
    assert!(is_again(&send(&lines_astray, &both()).await) && astray.seen().len() == 1);
    assert_eq!(
        (seen.target(), seen.header("host"), seen.header("proxy-authorization")),
        ("http://hook.invalid/x", Some("hook.invalid"), Some("Basic dTpw"))
    );
}

#[tokio::test]
async fn the_alert_center_gets_key_level_and_signature_and_its_body_is_judged() {
    let server = Server::new(vec![
        says(200, "{\"code\":0}"),
        says(200, "{\"code\":7,\"msg\":\"no\"}"),
        says(200, "{\"code\":8}"),
        says(200, "<html>"),
    ])
    .await;
    let lines = format!(
        "  alert_center_configs:\n  - url: 'http://{}/v1'\n    secret: s3\n    headers: {{ X-Team: db }}\n    expect: {{ field: code, values: [0], again: [8] }}",
        server.address
    );
    let receivers = receivers(&lines);
    assert!(receivers.takes_key("team.db", 0) && receivers.send_resolved("team.db", 0));
    assert_eq!(receivers.send(&both(), "team.db", 0).await, Outcome::Taken);
    let seen = server.last();
    assert_eq!(
        (seen.header("idempotency-key"), seen.header("x-alert-level"), seen.header("x-team")),
        (Some("7f3a"), Some("P2"), Some("db"))
    );
    let signature = seen.header("x-alert-signature").unwrap();
    let (time, v1) = signature.split_once(",v1=").unwrap();
    let signed = format!("{}.{}", time.strip_prefix("t=").unwrap(), seen.body);
    assert_eq!(v1, sign::hex(&sign::hmac_sha256(b"s3", signed.as_bytes())));
    let body = seen.json();
    assert_eq!(
        (&body["receiver"], &body["eventId"], &body["level"], &body["version"]),
        (&json!("team.db"), &json!("7f3a"), &json!(2), &json!("4"))
    );
    let first = &body["alerts"][0];
    assert_eq!((&first["level"], &first["flapping"], &first["unconfirmed"]), (&json!(2), &json!(false), &json!(false)));
    assert_eq!(
        receivers.send(&both(), "team.db", 0).await,
        Outcome::Never { why: "it answers 200: {\"code\":7,\"msg\":\"no\"}".to_owned() }
    );
    assert!(is_again(&receivers.send(&both(), "team.db", 0).await));
    assert!(is_again(&receivers.send(&both(), "team.db", 0).await), "nobody knows whether a proxy's page has taken it");
}

#[tokio::test]
async fn a_body_of_ones_own_cannot_be_broken_by_labels() {
    let server = Server::new(vec![says(200, "")]).await;
    let lines = format!(
        "  alert_center_configs:\n  - url: 'http://{}/'\n    body: '{{\"t\": \"{{{{ alerts[0].labels.instance }}}}\", \"all\": {{{{ commonLabels|tojson }}}}}}'",
        server.address
    );
    let hostile = message(vec![alert("\"}, {{ 7*7 }} {% raw %} \\ \n", "s", AT + 1)]);
    assert_eq!(send(&lines, &hostile).await, Outcome::Taken);
    let body = server.last().json();
    assert_eq!(body["t"], "\"}, {{ 7*7 }} {% raw %} \\ \n");
    assert_eq!(body["all"]["team"], "db");
    let broken = format!("  alert_center_configs: [{{ url: 'http://{}/', body: '{{{{ status }}}}' }}]", server.address);
    let Outcome::Never { why } = send(&broken, &hostile).await else { panic!() };
    assert!(why.contains("body comes to is no JSON"), "{why}");
}

#[tokio::test]
async fn the_rate_of_an_alert_center_is_bounded() {
    let server = Server::new(vec![says(200, "")]).await;
    let receivers = receivers(&format!("  alert_center_configs: [{{ url: 'http://{}/', per_minute: 2 }}]", server.address));
    for _ in 0..2 {
        assert_eq!(receivers.send(&both(), "team.db", 0).await, Outcome::Taken);
    }
    let Outcome::Again { after: Some(after), .. } = receivers.send(&both(), "team.db", 0).await else { panic!() };
    assert!(after <= Duration::from_secs(60) && server.seen().len() == 2);
}

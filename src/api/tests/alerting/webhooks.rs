//! Webhooks that bring alerts: whether they are signed, and what of theirs is late, or comes once more.

use super::*;

#[tokio::test]
async fn a_webhook_is_taken_when_it_is_signed() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "s3cr3t\n").unwrap();
    let signature = Signature { secret_file: secret.path().into(), header: "X-Sign".into(), timestamp_header: Some("X-Time".into()) };
    let mapping = Mapping { labels: vec![("alertname".into(), text("{a}").unwrap())], ..Mapping::default() };
    let input = Input { signature: Some(signature), mapping: Some(mapping), ..Input::plain("grafana") };
    let api = api(StandInAlerting { inputs: vec![input], ..StandInAlerting::default() });
    // Of `1790000100:{"a":1}`.
    let good = "6a55b1afbf7c5aeec6e77fe2168a687d05705cb9796a17822f21ae76e2efc19b".to_owned();
    let wrong = good.replace('a', "b");
    for (headers, body, status) in [
        (vec![("x-sign", good.as_str()), ("x-time", "1790000100")], r#"{"a":1}"#, 200),
        (vec![("x-sign", good.as_str()), ("x-time", "1790000100")], r#"{"a":2}"#, 401),
        (vec![("x-sign", good.as_str()), ("x-time", "1790000101")], r#"{"a":1}"#, 401),
        (vec![("x-sign", good.as_str()), ("x-time", "1789999000")], r#"{"a":1}"#, 401),
        (vec![("x-sign", good.as_str())], r#"{"a":1}"#, 401),
        (vec![("x-sign", wrong.as_str()), ("x-time", "1790000100")], r#"{"a":1}"#, 401),
        (vec![], r#"{"a":1}"#, 401),
    ] {
        let asked = ask_with(&api, "POST", "/api/v1/alerts/in/grafana", body, &headers).await;
        assert_eq!(asked.status.as_u16(), status, "{headers:?} {body}: {}", asked.text);
    }
    let listed = ask_with(&api, "GET", "/api/v2/alerts", "", &[]).await.json();
    assert_eq!(listed[0]["labels"], serde_json::json!({"alertname": "1"}));
    // Another one has no secret, and must be of a shape that is known.
    let asked = ask_with(&api, "PUT", "/api/v1/alerts/in/other", r#"[{"labels":{"alertname":"Y"}}]"#, &[]).await;
    assert_eq!(asked.text, r#"{"kind":"alerts","alerts":1}"#);
    let asked = ask_with(&api, "POST", "/api/v1/alerts/in/other", r#"{"a":1}"#, &[]).await;
    assert!(asked.status == StatusCode::BAD_REQUEST && asked.text.contains("alerting.inputs"), "{}", asked.text);
}

/// Of two replicas one may tell that an alert is over, and the other one, whose turn comes later, once more that it holds.
#[tokio::test]
async fn a_replica_that_is_late_does_not_bring_an_alert_back() {
    let api = api(StandInAlerting::default());
    let hook = |status: &str, starts: &str| {
        format!(
            r#"{{"version":"1","orgId":1,"alerts":[{{"status":"{status}","labels":{{"alertname":"X"}},"annotations":{{}},"startsAt":"{starts}","endsAt":"2026-09-21T14:13:00Z"}}]}}"#
        )
    };
    let held = async |api: &Api| ask_with(api, "GET", "/api/v2/alerts", "", &[]).await.json().as_array().unwrap().len();
    for (status, starts, holds) in [
        ("firing", "2026-09-21T14:00:00Z", 1),
        ("resolved", "2026-09-21T14:00:00Z", 0),
        ("firing", "2026-09-21T14:00:00Z", 0),
        // Of the other replica's clock.
        ("firing", "2026-09-21T14:00:02Z", 0),
        ("firing", "2026-09-21T14:13:10Z", 1),
    ] {
        let answer = said(&api, "POST", "/api/v1/alerts/in/grafana", &hook(status, starts)).await;
        assert_eq!(answer.0, 200, "{}", answer.1);
        assert_eq!(held(&api).await, holds, "{status} {starts}");
    }
}

//! Webhooks that bring alerts: whether they are signed, and what of theirs is late, or comes once more.

use super::*;

#[tokio::test]
async fn a_webhook_is_taken_when_it_is_signed() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "s3cr3t\n").unwrap();
    let signature = Signature {
        secret_file: secret.path().into(),
        header: "X-Sign".into(),
        timestamp_header: Some("X-Time".into()),
        tolerance: TOLERANCE,
    };
    let mapping = Mapping { labels: vec![("alertname".into(), text("{a}").unwrap())], ..Mapping::default() };
    let input = Input { signature: Some(signature), mapping: Some(mapping), ..Input::plain("grafana") };
    let api = api(StandInAlerting { inputs: vec![input], ..StandInAlerting::default() });
    // Of `1790000100:{"a":1}`.
    let good = "6a55b1afbf7c5aeec6e77fe2168a687d05705cb9796a17822f21ae76e2efc19b".to_owned();
    let wrong = good.replace('a', "b");
    for (headers, body, status) in [
        (vec![("x-sign", good.as_str()), ("x-time", "1790000100")], r#"{"a":1}"#, 200),
        // Whoever lost the answer sends the same once more, and is not refused.
        (vec![("x-sign", good.to_uppercase().as_str()), ("x-time", "1790000100")], r#"{"a":1}"#, 200),
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

/// What was recorded and is sent again brings nothing back, and what could not be kept when it came first is kept when it comes again.
#[tokio::test]
async fn what_is_signed_and_comes_again_changes_nothing() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "s3cr3t\n").unwrap();
    let (header, timestamp_header) = ("X-Sign".into(), Some("X-Time".into()));
    let signature = Signature { secret_file: secret.path().into(), header, timestamp_header, tolerance: Duration::from_secs(150) };
    let labels = vec![("alertname".into(), text("{a}").unwrap())];
    let (status, resolved) = (Some(text("{over}").unwrap()), vec!["yes".to_owned()]);
    let starts = Some(text("{since}").unwrap());
    let mapping = Mapping { labels, status, resolved, starts, ..Mapping::default() };
    let input = Input { signature: Some(signature), mapping: Some(mapping), ..Input::plain("grafana") };
    let away = api(StandInAlerting { inputs: vec![input.clone()], no_majority: true, ..StandInAlerting::default() });
    let api = api(StandInAlerting { inputs: vec![input], ..StandInAlerting::default() });
    let sign = |time: &str, body: &str| crate::secret::sign::hmac_sha256(b"s3cr3t", format!("{time}:{body}").as_bytes());
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let send = async |api: &Api, time: &str, body: &str| {
        let signature = hex(sign(time, body));
        let asked = ask_with(api, "POST", "/api/v1/alerts/in/grafana", body, &[("x-sign", &signature), ("x-time", time)]).await;
        (asked.status.as_u16(), asked.text)
    };
    let holds = async |api: &Api| ask_with(api, "GET", "/api/v2/alerts", "", &[]).await.json().as_array().unwrap().len();
    let (fires, ends) = (r#"{"a":1,"over":"no","since":1789999900}"#, r#"{"a":1,"over":"yes","since":1789999900}"#);
    for _ in 0..2 {
        assert_eq!(send(&away, "1790000100", fires).await.0, 503, "it was not kept, and so is not known");
    }
    assert_eq!(send(&api, "1790000100", fires).await, (200, r#"{"kind":"mapped","alerts":1}"#.to_owned()));
    assert_eq!((send(&api, "1790000110", ends).await.0, holds(&api).await), (200, 0));
    // Sent once more by whoever saw it go by.
    assert_eq!(send(&api, "1790000100", fires).await, (200, r#"{"kind":"mapped","alerts":1,"repeated":true}"#.to_owned()));
    assert_eq!(holds(&api).await, 0);
    // Fires anew, with a signature of its own; its old end is known by now.
    assert_eq!((send(&api, "1790000120", r#"{"a":1,"over":"no","since":1790000010}"#).await.0, holds(&api).await), (200, 1));
    assert_eq!((send(&api, "1790000110", ends).await.0, holds(&api).await), (200, 1));
    let (status, said) = send(&api, "1789999849", fires).await;
    assert!(status == 401 && said.contains("more than 150 s off"), "{said}");
}

/// Of two replicas one may tell that an alert is over, and the other one, whose turn comes later, once more that it holds.
#[tokio::test]
async fn a_replica_that_is_late_neither_brings_an_alert_back_nor_ends_it() {
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
        // The other one tells of what was before.
        ("resolved", "2026-09-21T14:00:00Z", 1),
    ] {
        let answer = said(&api, "POST", "/api/v1/alerts/in/grafana", &hook(status, starts)).await;
        assert_eq!(answer.0, 200, "{}", answer.1);
        assert_eq!(held(&api).await, holds, "{status} {starts}");
    }
}

//! PagerDuty's Events API v2. A group of alerts is one incident there (`dedup_key`, as Alertmanager makes it), opened and closed by it; the same message twice
//! opens nothing twice.

use std::time::Duration;

use hyper::Method;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::config::receivers::page::PagerDuty;
use crate::notify::Outcome;
use crate::notify::data;
use crate::notify::http;
use crate::notify::http::Asked;
use crate::notify::judge;
use crate::notify::page::Page;
use crate::notify::say;
use crate::notify::say::Dialect;
use crate::secret::sign;

/// Letters of a summary.
const SUMMARY: usize = 1024;
/// An event is 512 KB at most.
const EVENT: usize = 500_000;
/// After "too many": minutes are what PagerDuty asks for.
const TOO_MANY: Duration = Duration::from_secs(60);

/// Sends.
pub async fn send(duty: &PagerDuty, page: &Page<'_>) -> Outcome {
    let key = match http::reveal(&duty.key) {
        Ok(key) => key,
        Err(why) => return Outcome::Again { after: None, why },
    };
    let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    let mut event = body(duty, page, &key).to_string();
    if event.len() > EVENT {
        let mut shorter = body(duty, page, &key);
        shorter["payload"]["custom_details"] =
            json!({ "error": "custom details have been left out, they were longer than PagerDuty takes" });
        event = shorter.to_string();
    }
    let asked = Asked { method: Method::POST, url: duty.url.clone(), headers, body: event.into() };
    let mut answer = http::exchange(&duty.http, asked).await;
    if let Ok(answer) = &mut answer
        && answer.status == 429
    {
        answer.retry_after.get_or_insert(TOO_MANY);
    }
    judge::plain(answer)
}

fn body(duty: &PagerDuty, page: &Page<'_>, key: &str) -> Value {
    let (message, data, plain) = (page.message, &page.data, Dialect::Plain);
    let one = |key: &str, ours: &dyn Fn() -> String| page.one(&duty.texts, key, plain, ours);
    let dedup = sign::sha256_hex(message.group_key.as_bytes());
    if !page.firing() {
        return json!({ "routing_key": key, "event_action": "resolve", "dedup_key": dedup });
    }
    let worst = || match message.level {
        ..=2 => "critical",
        3 => "error",
        4 => "warning",
        _ => "info",
    };
    let severity = one("severity", &|| worst().to_owned()).to_lowercase();
    let severity = if ["critical", "error", "warning", "info"].contains(&severity.as_str()) { severity } else { worst().to_owned() };
    // As in Alertmanager these are there beside those that are written.
    let mut details: Map<String, Value> = Map::new();
    details.insert("firing".to_owned(), say::text(message, data, plain, 60_000).into());
    details.insert("num_firing".to_owned(), data.firing.to_string().into());
    details.insert("num_resolved".to_owned(), (message.alerts.len() - data.firing).to_string().into());
    details.extend(duty.details.iter().map(|(name, text)| (name.clone(), page.part(text, plain).into())));
    let external = || if data.external_url.is_empty() { "sluice".to_owned() } else { data.external_url.to_owned() };
    let mut payload = json!({
        "summary": say::cut(&one("description", &|| say::title(message, data)), SUMMARY),
        "source": one("source", &|| one("client", &external)),
        "severity": severity,
        "timestamp": data::when(message.alerts.iter().filter(|alert| !alert.is_over(message.at)).map(|alert| alert.starts).min().unwrap_or(message.at)),
        "custom_details": details,
    });
    for key in ["class", "component", "group"] {
        let text = one(key, &String::new);
        if !text.is_empty() {
            payload[key] = text.into();
        }
    }
    let table = |rows: &[crate::config::receivers::Texts], must: &str| -> Vec<Value> {
        let rows = rows
            .iter()
            .map(|row| row.iter().map(|(key, text)| ((*key).to_owned(), page.part(text, plain).into())).collect::<Map<_, Value>>());
        rows.filter(|row| row.get(must).and_then(Value::as_str).is_some_and(|text| !text.is_empty())).map(Value::Object).collect()
    };
    let mut event = json!({
        "routing_key": key,
        "event_action": "trigger",
        "dedup_key": dedup,
        "client": one("client", &|| "sluice".to_owned()),
        "payload": payload,
    });
    let url = one("client_url", &|| data.external_url.to_owned());
    if !url.is_empty() {
        event["client_url"] = url.into();
    }
    for (name, rows) in [("links", table(&duty.links, "href")), ("images", table(&duty.images, "src"))] {
        if !rows.is_empty() {
            event[name] = rows.into();
        }
    }
    event
}

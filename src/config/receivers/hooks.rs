//! `webhook_configs` as Alertmanager has them, and `alert_center_configs`: a webhook whose body, headers and answers are those of whoever takes alerts.

use crate::config::receivers::Fields;
use crate::config::receivers::Kind;
use crate::config::receivers::Secret;
use crate::config::receivers::Text;
use crate::config::receivers::global::Global;
use crate::config::receivers::http;
use crate::config::receivers::http::Http;
use crate::config::values;

/// Gets Alertmanager's payload, version 4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// There.
    pub url: Secret,
    /// How it is reached.
    pub http: Http,
    /// Alerts of one request; 0: all of them.
    pub max_alerts: usize,
}

/// A webhook with a body of one's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertCenter {
    /// There.
    pub url: Secret,
    /// How it is reached.
    pub http: Http,
    /// With these, too.
    pub headers: Vec<(String, Secret)>,
    /// Signs what is sent (HMAC-SHA256).
    pub secret: Option<Secret>,
    /// The body; `None`: Alertmanager's payload, with what sluice knows besides.
    pub body: Option<Text>,
    /// What the body is.
    pub content_type: String,
    /// What the answer must say.
    pub expect: Option<Expect>,
    /// Alerts of one request; 0: all of them.
    pub max_alerts: usize,
    /// Requests a minute; 0: without a bound.
    pub per_minute: u32,
}

/// A field of a JSON answer, and the values of it that mean yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// With dots between names: `result.code`.
    pub field: String,
    /// As text: `0`, `true`, `ok`.
    pub values: Vec<String>,
    /// Those that mean: later.
    pub again: Vec<String>,
}

/// Reads one of `webhook_configs`.
pub fn webhook(fields: &Fields<'_>, global: &Global) -> Option<(bool, Kind)> {
    let url = fields.must("url", "url_file", None, "one of url or url_file must be configured: write where alerts are posted");
    let max_alerts = alerts_max(fields);
    fields.refuse("payload", "payload is not served", "write alert_center_configs with a body");
    let (send_resolved, http) = (fields.send_resolved(true), fields.http(global));
    Some((send_resolved, Kind::Webhook(Webhook { url: url?, http, max_alerts })))
}

fn alerts_max(fields: &Fields<'_>) -> usize {
    fields.section.or("max_alerts", 0, values::number(0..=1_000_000)) as usize
}

/// Reads one of `alert_center_configs`.
pub fn alert_center(fields: &Fields<'_>, global: &Global) -> Option<(bool, Kind)> {
    let url = fields.must("url", "url_file", None, "write where alerts are posted: url: https://alerts.example/v1/events");
    let expect = fields.section.get("expect").and_then(|node| {
        let section = node.section();
        let field = section.must("field", "name the field of the answer that says whether it was taken: field: code", values::text);
        let list = |key| {
            let Some(node) = section.get(key) else { return Vec::new() };
            let nodes = if node.is_single() { vec![node] } else { node.list() };
            nodes.iter().filter_map(|node| node.text().map(str::to_owned)).collect()
        };
        let (values, again): (Vec<String>, Vec<String>) = (list("values"), list("again"));
        if values.is_empty() && field.is_some() {
            section.missing("values", "write the values that mean yes: values: [0]");
        }
        section.finish();
        Some(Expect { field: field?, values, again })
    });
    let content_type = fields.single("content_type").map(|(_, text)| text).filter(|text| !text.is_empty());
    let per_minute = fields.section.or("per_minute", 0, values::number(0..=60_000)) as u32;
    let center = AlertCenter {
        headers: fields.section.get("headers").map(|node| http::headers(&node)).unwrap_or_default(),
        secret: fields.secret("secret", "secret_file"),
        body: fields.text("body"),
        content_type: content_type.unwrap_or_else(|| "application/json".to_owned()),
        expect,
        max_alerts: alerts_max(fields),
        per_minute,
        http: fields.http(global),
        url: url.clone().unwrap_or(Secret::Here(String::new())),
    };
    let send_resolved = fields.send_resolved(true);
    url.map(|_| (send_resolved, Kind::AlertCenter(center)))
}

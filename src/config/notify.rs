//! `notify:`: whom alerts are told to, for now one webhook, and what is said differently of the alerts that sluice brings with it.

use std::time::Duration;

use crate::config::jobs;
use crate::config::read::Section;
use crate::config::remote_write;
use crate::config::remote_write::ClientTls;
use crate::config::values;

/// Whom alerts are told to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// Gets what Alertmanager's webhooks get.
    pub webhook: Option<Webhook>,
    /// What is said differently of shipped alerts, by name.
    pub shipped: Vec<(String, Different)>,
}

/// Where alerts are posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// There.
    pub url: String,
    /// With these, too.
    pub headers: Vec<(String, String)>,
    /// Whom sluice trusts, with TLS.
    pub tls: ClientTls,
    /// How long an answer is waited for.
    pub timeout: Duration,
    /// Alerts that hold are told again after this.
    pub repeat: Duration,
}

/// What is said differently of a shipped alert.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Different {
    /// Not at all.
    pub off: bool,
    /// After how long.
    pub after: Option<Duration>,
    /// 1 to 5.
    pub level: Option<u8>,
}

/// The alerts that sluice brings with it: name, after how long, level.
pub const SHIPPED: [(&str, Duration, u8); 6] = [
    ("PrometheusDown", Duration::from_secs(10), 2),
    ("PrometheusSick", Duration::from_secs(60), 3),
    ("ReplicaMissing", Duration::from_secs(300), 3),
    ("SinkLagging", Duration::from_secs(300), 3),
    ("BudgetNearlyUsed", Duration::ZERO, 2),
    ("NodeDown", Duration::from_secs(30), 2),
];

/// Reads the section.
pub fn read(section: &Section<'_>) -> Notify {
    let webhook = section.below("webhook").and_then(|section| read_webhook(&section));
    let mut shipped = Vec::new();
    if let Some(alerts) = section.below("alerts") {
        for (name, ..) in SHIPPED {
            let Some(section) = alerts.below(name) else { continue };
            let different = Different {
                off: !section.or("enabled", true, values::switch),
                after: section.opt("for", values::duration),
                level: section.opt("level", jobs::level),
            };
            section.finish();
            shipped.push((name.to_owned(), different));
        }
        alerts.finish();
    }
    section.finish();
    Notify { webhook, shipped }
}

fn read_webhook(section: &Section<'_>) -> Option<Webhook> {
    let url = section.must("url", "write where alerts are posted: url: https://alerts.example/hook", values::url);
    let mut headers = Vec::new();
    if let Some(section) = section.below("headers") {
        for (name, node) in section.pairs() {
            let known = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') && !name.is_empty();
            let taken = ["content-type", "content-length", "host", "connection", "transfer-encoding", "user-agent"];
            if !known || taken.contains(&name.to_ascii_lowercase().as_str()) {
                node.complain_unshown("is no header that can be set here", "leave it out, or write another name");
            } else if let Some(value) = node.text() {
                headers.push((name.to_owned(), value.to_owned()));
            }
        }
    }
    let tls = section.below("tls").map(|section| remote_write::tls(&section)).unwrap_or_default();
    let timeout = section.or("timeout", Duration::from_secs(10), values::duration_in(Duration::from_millis(100)..=Duration::from_secs(60)));
    let repeat = section.or(
        "repeat",
        Duration::from_secs(4 * 3600),
        values::duration_in(Duration::from_secs(60)..=Duration::from_secs(30 * 86_400)),
    );
    section.finish();
    Some(Webhook { url: url?, headers, tls, timeout, repeat })
}

impl Notify {
    /// After how long a shipped alert is told, and at which level; `None`: not at all.
    pub fn shipped(&self, name: &str) -> Option<(Duration, u8)> {
        let (_, after, level) = SHIPPED.into_iter().find(|(known, ..)| *known == name)?;
        let different = self.shipped.iter().find(|(known, _)| known == name).map(|(_, different)| different.clone()).unwrap_or_default();
        (!different.off).then(|| (different.after.unwrap_or(after), different.level.unwrap_or(level)))
    }
}

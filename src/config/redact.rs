//! A configuration that may be shown to others: every key with its value, but no password, token or key.
//!
//! What is passed on to librdkafka or to a store may be anything, so of `properties` and `headers` only the values of names that are known to be harmless are shown. Elsewhere a value is hidden
//! where its key sounds like a secret, and so are credentials in URLs; of a receiver's URLs, which may be keys themselves, the host is shown. Comments are not shown at all.

use crate::config::tree;
use crate::config::tree::Tree;
use crate::config::tree::Value;

/// Stands where something is hidden.
pub const HIDDEN: &str = "(hidden)";

/// Properties whose values say how Kafka is reached and nothing else, and the header of a tenant.
const HARMLESS: &[&str] = &[
    "X-Scope-OrgID",
    "acks",
    "batch.num.messages",
    "batch.size",
    "broker.address.family",
    "client.id",
    "client.rack",
    "compression.codec",
    "compression.level",
    "compression.type",
    "connections.max.idle.ms",
    "debug",
    "enable.ssl.certificate.verification",
    "linger.ms",
    "message.max.bytes",
    "message.timeout.ms",
    "metadata.max.age.ms",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "sasl.mechanism",
    "sasl.mechanisms",
    "security.protocol",
    "socket.keepalive.enable",
    "socket.timeout.ms",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "statistics.interval.ms",
    "transaction.timeout.ms",
];

/// A key with one of these in it holds a secret, unless it names a file.
const SECRET_WORDS: &[&str] =
    &["auth", "credential", "jaas", "key", "passphrase", "passwd", "password", "pem", "secret", "token", "webhook"];
/// Keys that hold what may be one: what a probe says.
const MAY_BE_SECRETS: &[&str] = &["body", "ca", "cert", "endpoint_params", "expect_bytes", "metadata", "proxy_connect_header", "send"];
/// Keys that sound like one and are none.
const NO_SECRETS: &[&str] = &["allow_unauthenticated", "key", "metrics_without_token", "webhook_configs"];
/// URLs with the key in them, within receivers of alerts and as defaults of them: of these the host alone is shown.
const KEYED_URLS: &[&str] = &["api_url", "slack_api_url", "url", "webhook_url"];

/// The text of a configuration, a line for each value: `sinks[0].kafka.topic: metrics`.
pub fn redacted(text: &str) -> String {
    match tree::parse(text) {
        Ok(tree) => {
            let mut out = String::new();
            write(&tree, "", Around::default(), &mut out);
            out
        }
        // The running process has read it, so it can be read; and what cannot is not to be shown.
        Err(_) => format!("{HIDDEN}\n"),
    }
}

/// A part of a configuration, in the same way.
pub fn shown_tree(tree: &Tree) -> String {
    let mut out = String::new();
    write(tree, "", Around::default(), &mut out);
    out
}

/// What a value stands in.
#[derive(Clone, Copy, Default)]
struct Around {
    /// What is passed on as it is, to Kafka or in a request.
    passed_on: bool,
    /// A receiver of alerts, `global` of its file, or the heartbeat.
    receiver: bool,
}

fn write(tree: &Tree, at: &str, around: Around, out: &mut String) {
    match &tree.value {
        Value::Pairs(pairs) => {
            for (key, value) in pairs {
                let Value::Scalar(word) = &key.value else { continue };
                let below = if at.is_empty() { word.clone() } else { format!("{at}.{word}") };
                match &value.value {
                    Value::Scalar(text) => out.push_str(&format!("{below}: {}\n", shown(word, text, around))),
                    _ if is_secret(word) => out.push_str(&format!("{below}: {HIDDEN}\n")),
                    _ => {
                        let passed_on = around.passed_on || ["properties", "headers", "http_headers"].contains(&word.as_str());
                        let receiver = around.receiver
                            || word.ends_with("_configs") && !word.ends_with("sd_configs")
                            || ["global", "heartbeat"].contains(&word.as_str());
                        write(value, &below, Around { passed_on, receiver }, out);
                    }
                }
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                let below = format!("{at}[{index}]");
                match &item.value {
                    Value::Scalar(_) if around.passed_on => out.push_str(&format!("{below}: {HIDDEN}\n")),
                    Value::Scalar(text) => out.push_str(&format!("{below}: {}\n", without_credentials(text))),
                    _ => write(item, &below, around, out),
                }
            }
        }
        Value::Scalar(_) => out.push_str(&format!("{HIDDEN}\n")),
        Value::Empty => {}
    }
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let names_file = key.ends_with("_file");
    MAY_BE_SECRETS.contains(&key.as_str())
        || !names_file && !NO_SECRETS.contains(&key.as_str()) && SECRET_WORDS.iter().any(|word| key.contains(word))
}

fn shown(key: &str, value: &str, around: Around) -> String {
    // `webhook_url` sounds like a secret, and half of it is none.
    if around.receiver && !around.passed_on && KEYED_URLS.contains(&key) {
        return host_alone(value);
    }
    let harmless = if around.passed_on { HARMLESS.contains(&key) } else { !is_secret(key) };
    if harmless { without_credentials(value) } else { HIDDEN.to_owned() }
}

/// `https://host/(hidden)`
fn host_alone(value: &str) -> String {
    let Some((scheme, rest)) = value.split_once("://") else { return HIDDEN.to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}/{HIDDEN}")
}

/// `https://user:password@host` without what stands before the `@`.
fn without_credentials(value: &str) -> String {
    if value.contains("-----BEGIN") {
        return HIDDEN.to_owned();
    }
    match (value.find("://"), value.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}://{HIDDEN}{}", &value[..scheme], &value[at..]),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_harmless_is_shown_and_no_secret_is() {
        let text = "
data_dir: /d  # canary in a comment
metrics_without_token: true
tls: { cert_file: /c.pem, key_file: /k.pem }
somewhere: { api_token: canary, url: 'https://me:canary@host/x', passwords: [canary] }
sinks:
  - name: a
    kafka:
      brokers: [k1:9092]
      properties:
        linger.ms: 5
        sasl.password: canary
        ssl.key.pem: canary
        sasl.oauthbearer.config: canary
        whatever.comes.next: [canary]
        and: { more: canary }
  - name: b
    remote_write:
      url: https://h/w
      headers: { X-Scope-OrgID: nj1, X-Whatever: canary }
      bearer_token_file: /t
alerting:
  heartbeat: { url: 'https://watch.example/canary' }
  config:
    global: { slack_api_url: 'https://hooks.slack.example/canary', smtp_auth_password: canary, smtp_smarthost: 'mail:25' }
    receivers:
    - name: r
      webhook_configs: [{ url: 'https://u:canary@hook.example/canary', max_alerts: 3, http_config: { http_headers: { X: { values: [canary] } } } }]
      dingtalk_configs: [{ url: 'https://robot.example?access_token=canary', secret: canary, title: x }]
      msteamsv2_configs: [{ webhook_url: 'https://teams.example/canary' }]
      slack_configs: [{ api_url: 'https://slack.example/canary', app_token: canary, channel: '#a' }]
      pagerduty_configs: [{ routing_key: canary }]
";
        let shown = redacted(text);
        assert!(!shown.contains("canary"), "{shown}");
        for line in [
            "data_dir: /d",
            "metrics_without_token: true",
            "tls.key_file: /k.pem",
            "somewhere.url: https://(hidden)@host/x",
            "sinks[0].name: a",
            "sinks[0].kafka.brokers[0]: k1:9092",
            "sinks[0].kafka.properties.linger.ms: 5",
            "sinks[1].remote_write.headers.X-Scope-OrgID: nj1",
            "sinks[1].remote_write.bearer_token_file: /t",
            "sinks[0].kafka.properties.sasl.password: (hidden)",
            "alerting.config.global.slack_api_url: https://hooks.slack.example/(hidden)",
            "alerting.config.global.smtp_smarthost: mail:25",
            "alerting.heartbeat.url: https://watch.example/(hidden)",
            "alerting.config.receivers[0].webhook_configs[0].url: https://hook.example/(hidden)",
            "alerting.config.receivers[0].webhook_configs[0].max_alerts: 3",
            "alerting.config.receivers[0].dingtalk_configs[0].url: https://robot.example/(hidden)",
            "alerting.config.receivers[0].msteamsv2_configs[0].webhook_url: https://teams.example/(hidden)",
            "alerting.config.receivers[0].slack_configs[0].channel: #a",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line} is not in {shown}");
        }
        assert!(!redacted("{a: canary").contains("canary") && !redacted("canary").contains("canary"));
    }
}

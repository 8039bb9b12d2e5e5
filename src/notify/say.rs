//! The text that people get where nobody has written one: a line that says how bad it is and what, then the alerts, then where to look.
//!
//! One text in several dialects, each with its own way to be bold, and its own letters that must not come from a label: nothing in an alert can call people,
//! make a link look like another, or end the text. Cut to what the target takes, at the end of a line, and then it says how many alerts are missing.

use crate::alert::message::Message;
use crate::notify::data::Data;
use crate::notify::data::Escalated;
use crate::notify::data::One;

/// Alerts in full; the others are counted.
const IN_FULL: usize = 20;
/// Bytes of a value; a whole stack trace is none.
const VALUE: usize = 512;

/// How a target writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Nothing but text.
    Plain,
    /// WeCom, DingTalk, Teams: markdown of one kind or another.
    Markdown,
    /// Slack's.
    Mrkdwn,
    /// Feishu's.
    Lark,
    /// Mail.
    Html,
    /// Within a string of JSON.
    Json,
}

impl Dialect {
    /// What stands in an alert, as letters only.
    pub fn escape(self, text: &str) -> String {
        match self {
            Dialect::Plain => text.to_owned(),
            // Letters that look alike: these dialects know no way to write the others without a meaning.
            Dialect::Markdown | Dialect::Lark => text.replace('<', "＜").replace("](", "] (").replace('`', "'"),
            Dialect::Mrkdwn => text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
            Dialect::Html => {
                let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                text.replace('"', "&#34;").replace('\'', "&#39;")
            }
            Dialect::Json => {
                let quoted = serde_json::Value::from(text).to_string();
                quoted[1..quoted.len() - 1].to_owned()
            }
        }
    }

    fn bold(self, text: &str) -> String {
        match self {
            Dialect::Plain | Dialect::Json => text.to_owned(),
            Dialect::Markdown | Dialect::Lark => format!("**{text}**"),
            Dialect::Mrkdwn => format!("*{text}*"),
            Dialect::Html => format!("<b>{text}</b>"),
        }
    }

    fn newline(self) -> &'static str {
        match self {
            // Two spaces at a line's end keep it a line of its own where markdown is the old one.
            Dialect::Markdown => "  \n",
            Dialect::Html => "<br>\n",
            _ => "\n",
        }
    }

    fn link(self, url: &str) -> String {
        match self {
            Dialect::Html => format!("<a href=\"{0}\">{0}</a>", self.escape(url)),
            Dialect::Mrkdwn => format!("<{url}>"),
            _ => url.to_owned(),
        }
    }
}

/// One line: `[P2] [FIRING:2] DiskFull db (a b)`. As Alertmanager's subject, with the level before it.
pub fn title(message: &Message, data: &Data<'_>) -> String {
    format!("[P{}] {}", message.level, subject(data))
}

/// Alertmanager's `__subject`.
pub fn subject(data: &Data<'_>) -> String {
    let mut text = format!("[{}", data.status.to_uppercase());
    if data.status == "firing" {
        text.push_str(&format!(":{}", data.firing));
    }
    if data.digest.is_some() {
        text.push_str("] storm");
        return text;
    }
    let group: Vec<&str> = pairs_sorted(data.group_labels.iter());
    text.push_str(&format!("] {} ", group.join(" ")));
    if data.common_labels.len() > data.group_labels.len() {
        let rest = data.common_labels.iter().filter(|(name, _)| !data.group_labels.contains_key(name));
        text.push_str(&format!("({})", pairs_sorted(rest.map(|(name, value)| (*name, *value))).join(" ")));
    }
    short(text.trim_end(), VALUE).replace(['\n', '\r'], " ")
}

/// Values sorted by name, `alertname` before all others, as Alertmanager's `SortedPairs`.
fn pairs_sorted<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<&'a str> {
    let mut pairs: Vec<(&str, &str)> = pairs.collect();
    pairs.sort_by_key(|(name, _)| (*name != "alertname", *name));
    pairs.into_iter().map(|(_, value)| value).collect()
}

/// The whole text, without its title, in at most so many bytes.
pub fn text(message: &Message, data: &Data<'_>, dialect: Dialect, most: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    if message.degraded {
        lines.push(dialect.escape("Sent without a majority of the nodes: another node may say the same."));
    }
    if let Some(Escalated { policy, step }) = data.escalation.filter(|_| data.status == "firing") {
        lines.push(dialect.escape(&format!("Nobody has taken care of it: step {step} of {policy}.")));
    }
    if !data.groups.is_empty() {
        lines.push(dialect.escape(&format!("{} groups in one message.", data.groups.len())));
    }
    if let Some(digest) = &data.digest {
        lines.push(
            dialect.escape(&format!("A storm: {} alerts fire, {} are over. Groups wait until it is calm.", digest.firing, digest.resolved)),
        );
        for (name, values) in &digest.top {
            let values: Vec<String> = values.iter().map(|one| format!("{} ({})", one_line(one.value), one.alerts)).collect();
            lines.push(dialect.escape(&format!("{name}: {}", values.join(", "))));
        }
    }
    let missing_before = data.truncated_alerts;
    let mut blocks: Vec<String> = data.alerts.iter().take(IN_FULL).map(|alert| block(alert, data, dialect)).collect();
    let tail = |missing: usize| {
        let mut tail = Vec::new();
        if missing > 0 {
            tail.push(format!("… {missing} more"));
        }
        if !data.external_url.is_empty() {
            tail.push(dialect.link(data.external_url));
        }
        tail.join(dialect.newline())
    };
    loop {
        let missing = missing_before + data.alerts.len() - blocks.len();
        let parts: Vec<String> = lines.iter().chain(&blocks).cloned().chain([tail(missing)]).filter(|part| !part.is_empty()).collect();
        let all = parts.join(dialect.newline());
        if all.len() <= most {
            return all;
        }
        if blocks.pop().is_none() {
            return short(&all, most).to_owned();
        }
    }
}

fn block(alert: &One<'_>, data: &Data<'_>, dialect: Dialect) -> String {
    let note = |name: &str| alert.annotations.get(name).map(str::trim).filter(|text| !text.is_empty());
    let name = alert.labels.get("alertname").unwrap_or("(no name)");
    let what = note("summary").or_else(|| note("message")).or_else(|| note("description")).unwrap_or(name);
    let what = one_line(what);
    let mut lines = vec![format!("{}: {}", dialect.bold(alert.word()), dialect.escape(&what))];
    let own = alert.labels.iter().filter(|(name, _)| !data.group_labels.contains_key(name) && *name != "alertname");
    let own: Vec<String> = own.map(|(name, value)| dialect.escape(&format!("{name}={}", one_line(value)))).collect();
    if !own.is_empty() {
        lines.push(own.join(", "));
    }
    let description = note("description").filter(|text| one_line(text) != what);
    lines.extend(description.map(|text| dialect.escape(&one_line(text))));
    let until = if alert.status == "firing" { String::new() } else { format!(" until {}", alert.ends_at) };
    lines.push(format!("since {}{until}", alert.starts_at));
    if alert.mark.flapping {
        lines.push("it fires and is over again and again: nothing more is told until it does not".to_owned());
    }
    if alert.unconfirmed {
        lines.push("its source does not say any more that it fires, and has not said that it is over".to_owned());
    }
    lines.extend(note("runbook_url").map(|url| dialect.escape(&one_line(url))));
    lines.join(dialect.newline())
}

fn one_line(text: &str) -> String {
    short(&text.split_whitespace().collect::<Vec<_>>().join(" "), VALUE).to_owned()
}

/// At most so many bytes, whole letters.
pub fn short(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text;
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

/// At most so many bytes, and it says that something is missing.
pub fn cut(text: &str, most: usize) -> String {
    const NOTE: &str = "… (cut)";
    if text.len() <= most { text.to_owned() } else { format!("{}{NOTE}", short(text, most.saturating_sub(NOTE.len()))) }
}

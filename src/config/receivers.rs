//! Integrations of receivers, as a file of Alertmanager has them, and those of ours in the same way: how each is reached, and the texts that it gets.
//!
//! Keys, defaults and what is refused are Alertmanager's. What it knows and sluice cannot do (a kind of receiver, `oauth2`) keeps no file from being read: it is
//! kept with its line, and whoever sends says so. Left out on purpose: whether a text is a template, and what is in files of secrets (`notify`).

pub mod chat;
pub mod global;
pub mod hooks;
pub mod http;
pub mod page;

use std::cell::RefCell;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::read::Node;
use crate::config::read::Problem;
use crate::config::read::Section;
use crate::config::receivers::chat::Bot;
use crate::config::receivers::chat::Slack;
use crate::config::receivers::chat::Teams;
use crate::config::receivers::chat::WeChat;
use crate::config::receivers::global::Global;
use crate::config::receivers::hooks::AlertCenter;
use crate::config::receivers::hooks::Webhook;
use crate::config::receivers::http::Http;
use crate::config::receivers::page::Mail;
use crate::config::receivers::page::PagerDuty;
use crate::config::routing::Place;
use crate::config::values;

/// How long an answer is waited for where nothing else is said.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Kinds that Alertmanager 0.34 knows and sluice does not send to.
const FOREIGN: [(&str, &str); 12] = [
    ("discord_configs", ""),
    ("incidentio_configs", ""),
    ("jira_configs", ""),
    ("mattermost_configs", "Mattermost takes slack_configs: let api_url be its incoming webhook"),
    ("msteams_configs", "Microsoft has switched Office connectors off: make a workflow in Teams, and write msteamsv2_configs with its URL"),
    ("opsgenie_configs", ""),
    ("pushover_configs", ""),
    ("rocketchat_configs", "Rocket.Chat takes slack_configs: let api_url be its incoming webhook"),
    ("sns_configs", ""),
    ("telegram_configs", ""),
    ("victorops_configs", ""),
    ("webex_configs", ""),
];
/// What else can be done for a kind that is not served.
const ELSE: &str = "reach it by webhook_configs or alert_center_configs (a template makes its body)";

/// One of a receiver's ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Integration {
    /// Where it stands.
    pub place: Place,
    /// Whether it hears that alerts are over.
    pub send_resolved: bool,
    /// What it is.
    pub kind: Kind,
    /// What is written and cannot be done; if anything is, nothing is sent to it.
    pub unserved: Vec<Problem>,
}

/// The kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `webhook_configs`
    Webhook(Webhook),
    /// `alert_center_configs`
    AlertCenter(AlertCenter),
    /// `slack_configs`
    Slack(Box<Slack>),
    /// `pagerduty_configs`
    PagerDuty(Box<PagerDuty>),
    /// `email_configs`
    Mail(Box<Mail>),
    /// `msteamsv2_configs`
    Teams(Teams),
    /// `wechat_configs`
    WeChat(WeChat),
    /// `wecom_configs`
    WeCom(Bot),
    /// `dingtalk_configs`
    DingTalk(Bot),
    /// `feishu_configs`
    Feishu(Bot),
    /// One of Alertmanager's that sluice does not send to, or one that is wrong.
    None(&'static str),
}

impl Kind {
    /// As Alertmanager's metrics call it.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Webhook(_) => "webhook",
            Kind::AlertCenter(_) => "alert_center",
            Kind::Slack(_) => "slack",
            Kind::PagerDuty(_) => "pagerduty",
            Kind::Mail(_) => "email",
            Kind::Teams(_) => "msteamsv2",
            Kind::WeChat(_) => "wechat",
            Kind::WeCom(_) => "wecom",
            Kind::DingTalk(_) => "dingtalk",
            Kind::Feishu(_) => "feishu",
            Kind::None(key) => key.trim_end_matches("_configs"),
        }
    }

    /// Everything of it that may be a template.
    pub fn texts(&self) -> Vec<&Text> {
        match self {
            Kind::Webhook(_) | Kind::None(_) => Vec::new(),
            Kind::AlertCenter(center) => center.body.iter().collect(),
            Kind::Slack(slack) => {
                let fields = slack.fields.iter().flat_map(|field| [&field.title, &field.value]);
                let actions = slack.actions.iter().flat_map(|action| action.iter().map(|(_, text)| text));
                slack.texts.iter().map(|(_, text)| text).chain(fields).chain(actions).collect()
            }
            Kind::PagerDuty(duty) => {
                let links = duty.links.iter().chain(&duty.images).flat_map(|link| link.iter().map(|(_, text)| text));
                duty.texts.iter().map(|(_, text)| text).chain(duty.details.iter().map(|(_, text)| text)).chain(links).collect()
            }
            Kind::Mail(mail) => {
                let headers = mail.headers.iter().map(|(_, text)| text);
                [&mail.to, &mail.from].into_iter().chain(headers).chain(&mail.html).chain(&mail.text).collect()
            }
            Kind::Teams(teams) => teams.title.iter().chain(&teams.text).collect(),
            Kind::WeChat(chat) => chat.texts.iter().map(|(_, text)| text).collect(),
            Kind::WeCom(bot) | Kind::DingTalk(bot) | Kind::Feishu(bot) => bot.title.iter().chain(&bot.text).collect(),
        }
    }
}

/// What nobody may see, or the file that holds it.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// Written in the file itself.
    Here(String),
    /// Read anew each time.
    File(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secret::Here(_) => out.write_str("Secret(..)"),
            Secret::File(path) => write!(out, "Secret({})", path.display()),
        }
    }
}

/// A text that may be a template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// Where it stands.
    pub place: Place,
    /// As it is written.
    pub text: String,
}

/// Texts by key.
pub type Texts = Vec<(&'static str, Text)>;

/// All integrations of a receiver's section.
pub fn read(section: &Section<'_>, global: &Global) -> Vec<Integration> {
    type Reader = fn(&Fields<'_>, &Global) -> Option<(bool, Kind)>;
    let kinds: [(&'static str, Reader); 10] = [
        ("webhook_configs", hooks::webhook),
        ("alert_center_configs", hooks::alert_center),
        ("slack_configs", chat::slack),
        ("pagerduty_configs", page::pagerduty),
        ("email_configs", page::mail),
        ("msteamsv2_configs", chat::teams),
        ("wechat_configs", chat::wechat),
        ("wecom_configs", chat::wecom),
        ("dingtalk_configs", chat::dingtalk),
        ("feishu_configs", chat::feishu),
    ];
    let mut found = Vec::new();
    for (key, reader) in kinds {
        for node in section.get(key).map(|node| node.list()).unwrap_or_default() {
            let fields = Fields { section: node.section(), unserved: RefCell::default() };
            let (send_resolved, kind) = reader(&fields, global).unwrap_or((false, Kind::None(key)));
            fields.section.finish();
            let place = Place { line: node.line(), key: node.key().to_owned() };
            found.push(Integration { place, send_resolved, kind, unserved: fields.unserved.into_inner() });
        }
    }
    for (key, remedy) in FOREIGN {
        for node in section.get(key).map(|node| node.list()).unwrap_or_default() {
            let place = Place { line: node.line(), key: node.key().to_owned() };
            let problem = unserved(
                &place,
                "is of a kind that sluice does not send to: nothing is sent",
                if remedy.is_empty() { ELSE } else { remedy },
            );
            found.push(Integration { place, send_resolved: false, kind: Kind::None(key), unserved: vec![problem] });
        }
    }
    found
}

fn unserved(place: &Place, rule: &str, remedy: &str) -> Problem {
    Problem { line: place.line, key: place.key.clone(), value: String::new(), rule: rule.to_owned(), remedy: remedy.to_owned() }
}

/// A section whose keys are texts, secrets, and some that cannot be served.
pub struct Fields<'a> {
    /// As it is written.
    pub section: Section<'a>,
    unserved: RefCell<Vec<Problem>>,
}

impl<'a> Fields<'a> {
    /// A single value; what is empty is the empty text.
    pub fn single(&self, key: &'static str) -> Option<(Node<'a>, String)> {
        let node = self.section.get(key)?;
        let text = if node.is_empty() { String::new() } else { node.text()?.to_owned() };
        Some((node, text))
    }

    /// A text that may be a template.
    pub fn text(&self, key: &'static str) -> Option<Text> {
        let (node, text) = self.single(key)?;
        Some(Text { place: Place { line: node.line(), key: node.key().to_owned() }, text })
    }

    /// Those of the keys that are written.
    pub fn texts(&self, keys: &[&'static str]) -> Texts {
        keys.iter().filter_map(|key| Some((*key, self.text(key)?))).collect()
    }

    /// Written here or in a file; both at once are refused, as Alertmanager does.
    pub fn secret(&self, key: &'static str, file: &'static str) -> Option<Secret> {
        let (here, there) = (self.single(key), self.single(file));
        if let Some((node, text)) = here.as_ref().filter(|_| key.ends_with("url")) {
            web(node, text);
        }
        match (here, there) {
            (Some((_, text)), None) if !text.is_empty() => Some(Secret::Here(text)),
            (None, Some((_, path))) if !path.is_empty() => Some(Secret::File(PathBuf::from(path))),
            (Some((node, text)), Some((_, path))) if !text.is_empty() && !path.is_empty() => {
                node.complain_unshown(format!("at most one of {key} & {file} must be configured"), "keep one of the two");
                None
            }
            (Some((_, text)), Some(_)) if !text.is_empty() => Some(Secret::Here(text)),
            (Some(_), Some((_, path))) if !path.is_empty() => Some(Secret::File(PathBuf::from(path))),
            _ => None,
        }
    }

    /// As [`Fields::secret`], which must be there, here or by default.
    pub fn must(&self, key: &'static str, file: &'static str, default: Option<&Secret>, remedy: &str) -> Option<Secret> {
        let (section, written) = (&self.section, self.secret(key, file));
        let found = written.or_else(|| default.cloned());
        // What is wrong with what is written has been said.
        if found.is_none() && !(section.get(key).is_some() && section.get(file).is_some()) {
            section.missing(key, remedy);
        }
        found
    }

    /// Whether it hears that alerts are over.
    pub fn send_resolved(&self, default: bool) -> bool {
        self.section.or("send_resolved", default, values::switch)
    }

    /// How long an answer is waited for.
    pub fn timeout(&self) -> Duration {
        let written = self.section.opt("timeout", |text| if text == "0" { Ok(Duration::ZERO) } else { values::duration(text) });
        written.filter(|span| !span.is_zero()).map_or(TIMEOUT, |span| span.min(Duration::from_secs(300)))
    }

    /// How it is reached by HTTP; what is not said here is said for all.
    pub fn http(&self, global: &Global) -> Http {
        let mut http = match self.section.get("http_config") {
            Some(node) if !node.is_empty() => Http::read(&node),
            _ => global.http.clone(),
        };
        self.unserved.borrow_mut().append(&mut http.unserved);
        http.timeout = self.timeout();
        http
    }

    /// A list of single values.
    pub fn list(&self, key: &'static str) -> Vec<String> {
        let nodes = self.section.get(key).map(|node| node.list()).unwrap_or_default();
        nodes.iter().filter_map(|node| node.text().map(str::to_owned)).collect()
    }

    /// A key that is known and cannot be served: said, and nothing is sent.
    pub fn refuse(&self, key: &'static str, why: &str, remedy: &str) {
        if let Some(node) = self.section.get(key) {
            let nothing = node.is_empty() || node.is_single() && node.text().is_some_and(|text| text == "false" || text.is_empty());
            if !nothing {
                let place = Place { line: node.line(), key: node.key().to_owned() };
                self.unserved.borrow_mut().push(unserved(&place, &format!("{why}: nothing is sent"), remedy));
            }
        }
    }

    /// Requests a minute that the target is given at most.
    pub fn per_minute(&self, default: u32) -> u32 {
        self.section.or("per_minute", u64::from(default), values::number(1..=6000)).try_into().unwrap_or(default)
    }
}

/// Complains about what is no URL of the web; what is empty or a template is judged later.
fn web(node: &Node<'_>, text: &str) {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let good =
        host.is_some_and(|host| !host.is_empty() && !host.starts_with(['/', '?']) && text.bytes().all(|byte| byte.is_ascii_graphic()));
    if !(good || text.is_empty() || text.contains("{{")) {
        node.complain_unshown("is no URL that begins with http:// or https://", "for example https://alerts.example/hook");
    }
}

#[cfg(test)]
mod tests;

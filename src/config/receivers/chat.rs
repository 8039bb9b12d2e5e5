//! Receivers that people chat in: Slack, Teams, WeChat's app as Alertmanager has them; the group robots of WeCom, DingTalk and Feishu in the same way.

use crate::config::read::Node;
use crate::config::read::Section;
use crate::config::receivers::Fields;
use crate::config::receivers::Kind;
use crate::config::receivers::Secret;
use crate::config::receivers::Text;
use crate::config::receivers::Texts;
use crate::config::receivers::global::Global;
use crate::config::receivers::http::Http;
use crate::config::routing::Place;
use crate::config::values;

/// Slack, and what speaks like its incoming webhooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slack {
    /// An incoming webhook, or the method that an app posts by.
    pub url: Secret,
    /// The app's token; `None`: the URL is an incoming webhook.
    pub token: Option<Secret>,
    /// How it is reached.
    pub http: Http,
    /// What is written of `channel`, `title`, `text` and so on.
    pub texts: Texts,
    /// Tables of two columns.
    pub fields: Vec<Field>,
    /// Buttons.
    pub actions: Vec<Texts>,
    /// Whether fields are short where they do not say it.
    pub short_fields: bool,
    /// Whether names become links.
    pub link_names: bool,
    /// Which parts hold mrkdwn.
    pub mrkdwn_in: Vec<String>,
}

/// A field of Slack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Left.
    pub title: Text,
    /// Right.
    pub value: Text,
    /// Whether another fits beside it.
    pub short: Option<bool>,
}

/// A workflow of Teams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Teams {
    /// The workflow's.
    pub url: Secret,
    /// How it is reached.
    pub http: Http,
    /// In bold.
    pub title: Option<Text>,
    /// Below it.
    pub text: Option<Text>,
}

/// An app of WeChat's for companies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeChat {
    /// Where its methods are.
    pub url: String,
    /// The app's.
    pub secret: Secret,
    /// How it is reached.
    pub http: Http,
    /// What is written of `message`, `to_user` and so on.
    pub texts: Texts,
    /// In markdown.
    pub markdown: bool,
}

/// A group robot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bot {
    /// With the key in it.
    pub url: Secret,
    /// Signs, where the robot wants it.
    pub secret: Option<Secret>,
    /// How it is reached.
    pub http: Http,
    /// In markdown, or a card; otherwise plain.
    pub markdown: bool,
    /// Above.
    pub title: Option<Text>,
    /// The message.
    pub text: Option<Text>,
    /// Users who are called by it.
    pub users: Vec<String>,
    /// Telephones of users who are called by it.
    pub mobiles: Vec<String>,
    /// Everybody is called by it.
    pub all: bool,
    /// Messages a minute, which the robot refuses beyond a number of its own.
    pub per_minute: u32,
}

/// Texts of Slack that are written as they are sent.
pub const SLACK_TEXTS: [&str; 14] = [
    "channel",
    "username",
    "color",
    "title",
    "title_link",
    "pretext",
    "text",
    "fallback",
    "callback_id",
    "icon_emoji",
    "icon_url",
    "image_url",
    "thumb_url",
    "footer",
];

/// Reads one of `slack_configs`.
pub fn slack(fields: &Fields<'_>, global: &Global) -> Option<(bool, Kind)> {
    let (hook, token) = (fields.secret("api_url", "api_url_file"), fields.secret("app_token", "app_token_file"));
    let app_url = fields.single("app_url").map(|(_, text)| text).filter(|text| !text.is_empty());
    // As Alertmanager: what is written here wins over what is said for all, and a webhook over an app.
    let token = token.or_else(|| if hook.is_none() && global.slack_url.is_none() { global.slack_token.clone() } else { None });
    let url = if token.is_some() {
        let app = app_url.or_else(|| global.slack_app_url.clone());
        hook.or(Some(Secret::Here(app.unwrap_or_else(|| "https://slack.com/api/chat.postMessage".to_owned()))))
    } else {
        hook.or_else(|| global.slack_url.clone())
    };
    if url.is_none() {
        fields.section.missing("api_url", "no global Slack API URL set either inline or in a file: write api_url_file");
    }
    let texts = fields.texts(&SLACK_TEXTS);
    fields.refuse("message_text", "message_text is not served", "write title and text");
    fields.refuse("update_message", "messages are not changed after they were sent", "leave it out");
    let table = fields.section.get("fields").map(|node| node.list()).unwrap_or_default();
    let table = table.iter().filter_map(field).collect();
    let actions = fields.section.get("actions").map(|node| node.list()).unwrap_or_default();
    let actions = actions.iter().map(action).collect();
    let (short_fields, link_names) =
        (fields.section.or("short_fields", false, values::switch), fields.section.or("link_names", false, values::switch));
    let mut mrkdwn_in = fields.list("mrkdwn_in");
    if mrkdwn_in.is_empty() {
        mrkdwn_in = ["fallback", "pretext", "text"].map(str::to_owned).into();
    }
    let (send_resolved, http) = (fields.send_resolved(false), fields.http(global));
    let slack = Slack { url: url?, token, http, texts, fields: table, actions, short_fields, link_names, mrkdwn_in };
    Some((send_resolved, Kind::Slack(Box::new(slack))))
}

fn texts_of(section: &Section<'_>, keys: &[&'static str]) -> Texts {
    let mut texts = Texts::new();
    for key in keys {
        let Some(node) = section.get(key) else { continue };
        let place = Place { line: node.line(), key: node.key().to_owned() };
        let text = if node.is_empty() { Some("") } else { node.text() };
        texts.extend(text.map(|text| (*key, Text { place, text: text.to_owned() })));
    }
    texts
}

fn field(node: &Node<'_>) -> Option<Field> {
    let section = node.section();
    let mut texts = texts_of(&section, &["title", "value"]).into_iter();
    let short = section.opt("short", values::switch);
    section.finish();
    match (texts.next(), texts.next()) {
        (Some((_, title)), Some((_, value))) => Some(Field { title, value, short }),
        _ => {
            section.missing("value", "missing title or value in Slack field configuration: write both");
            None
        }
    }
}

fn action(node: &Node<'_>) -> Texts {
    let section = node.section();
    let texts = texts_of(&section, &["type", "text", "url", "style", "name", "value"]);
    if let Some(node) = section.get("confirm").filter(|node| !node.is_empty()) {
        node.complain("is not served: buttons that ask back need an app that answers", "leave it out");
    }
    section.finish();
    texts
}

/// Reads one of `msteamsv2_configs`.
pub fn teams(fields: &Fields<'_>, global: &Global) -> Option<(bool, Kind)> {
    let url = fields.must("webhook_url", "webhook_url_file", None, "one of webhook_url or webhook_url_file must be configured");
    let (title, text) = (fields.text("title"), fields.text("text"));
    let (send_resolved, http) = (fields.send_resolved(true), fields.http(global));
    Some((send_resolved, Kind::Teams(Teams { url: url?, http, title, text })))
}

/// Reads one of `wechat_configs`.
pub fn wechat(fields: &Fields<'_>, global: &Global) -> Option<(bool, Kind)> {
    let secret = fields.must(
        "api_secret",
        "api_secret_file",
        global.wechat_secret.as_ref(),
        "no global Wechat Api Secret set: write api_secret_file",
    );
    let mut texts = fields.texts(&["corp_id", "message", "to_user", "to_party", "to_tag", "agent_id"]);
    if !texts.iter().any(|(key, _)| *key == "corp_id") {
        match &global.wechat_corp {
            Some(text) => texts.push(("corp_id", text.clone())),
            None => fields.section.missing("corp_id", "no global Wechat CorpID set: write it here or as wechat_api_corp_id"),
        }
    }
    let url = fields.single("api_url").map(|(node, text)| {
        super::web(&node, &text);
        text
    });
    let url = url.filter(|text| !text.is_empty());
    let url = url.or_else(|| global.wechat_url.clone()).unwrap_or_else(|| "https://qyapi.weixin.qq.com/cgi-bin/".to_owned());
    let markdown = fields.section.or("message_type", false, values::one_of(&[("text", false), ("markdown", true)]));
    let (send_resolved, http) = (fields.send_resolved(false), fields.http(global));
    Some((send_resolved, Kind::WeChat(WeChat { url, secret: secret?, http, texts, markdown })))
}

fn bot(fields: &Fields<'_>, global: &Global, (per_minute, remedy): (u32, &str)) -> Option<(bool, Bot)> {
    let url = fields.must("url", "url_file", None, remedy);
    let bot = Bot {
        url: url.clone().unwrap_or(Secret::Here(String::new())),
        secret: fields.secret("secret", "secret_file"),
        http: fields.http(global),
        markdown: fields.section.or("message_type", true, values::one_of(&[("text", false), ("markdown", true)])),
        title: fields.text("title"),
        text: fields.text("text"),
        users: fields.list("mention_users"),
        mobiles: fields.list("mention_mobiles"),
        all: fields.section.or("mention_all", false, values::switch),
        per_minute: fields.per_minute(per_minute),
    };
    let send_resolved = fields.send_resolved(true);
    url.map(|_| (send_resolved, bot))
}

/// Reads one of `wecom_configs`. 20 messages a minute are what the robot takes.
pub fn wecom(fields: &Fields<'_>, global: &Global) -> Option<(bool, Kind)> {
    let remedy = "write url_file: a file with the robot's address, https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=...";
    bot(fields, global, (18, remedy)).map(|(send_resolved, bot)| (send_resolved, Kind::WeCom(bot)))
}

/// Reads one of `dingtalk_configs`. 20 messages a minute are what the robot takes; whoever sends more is not heard for ten minutes.
pub fn dingtalk(fields: &Fields<'_>, global: &Global) -> Option<(bool, Kind)> {
    let remedy = "write url_file: a file with the robot's address, https://oapi.dingtalk.com/robot/send?access_token=...";
    bot(fields, global, (18, remedy)).map(|(send_resolved, bot)| (send_resolved, Kind::DingTalk(bot)))
}

/// Reads one of `feishu_configs`. 100 messages a minute and 5 a second are what the robot takes.
pub fn feishu(fields: &Fields<'_>, global: &Global) -> Option<(bool, Kind)> {
    let remedy = "write url_file: a file with the robot's address, https://open.feishu.cn/open-apis/bot/v2/hook/...";
    bot(fields, global, (90, remedy)).map(|(send_resolved, bot)| (send_resolved, Kind::Feishu(bot)))
}

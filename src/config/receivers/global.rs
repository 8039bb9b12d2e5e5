//! `global:`: what receivers have where they say nothing else.
//!
//! Defaults of kinds that sluice does not send to are known and not read.

use std::cell::RefCell;

use crate::config::read::Section;
use crate::config::receivers::Fields;
use crate::config::receivers::Secret;
use crate::config::receivers::Text;
use crate::config::receivers::http;
use crate::config::receivers::http::Http;
use crate::config::remote_write::ClientTls;
use crate::config::values;

/// Of kinds that are not served.
const UNREAD: [&str; 17] = [
    "jira_api_url",
    "mattermost_webhook_url",
    "mattermost_webhook_url_file",
    "opsgenie_api_key",
    "opsgenie_api_key_file",
    "opsgenie_api_url",
    "rocketchat_api_url",
    "rocketchat_token",
    "rocketchat_token_file",
    "rocketchat_token_id",
    "rocketchat_token_id_file",
    "telegram_api_url",
    "telegram_bot_token",
    "telegram_bot_token_file",
    "victorops_api_key",
    "victorops_api_key_file",
    "victorops_api_url",
];

/// What receivers have where they say nothing else.
#[derive(Clone, Debug, Default)]
pub struct Global {
    /// How all are reached.
    pub http: Http,
    /// Mail.
    pub smtp: Smtp,
    /// An incoming webhook of Slack.
    pub slack_url: Option<Secret>,
    /// An app's token.
    pub slack_token: Option<Secret>,
    /// Where an app posts.
    pub slack_app_url: Option<String>,
    /// Where events are posted.
    pub pagerduty_url: Option<String>,
    /// Where messages to WeChat's app are posted.
    pub wechat_url: Option<String>,
    /// The app's secret.
    pub wechat_secret: Option<Secret>,
    /// The company.
    pub wechat_corp: Option<Text>,
}

/// How mail goes out.
#[derive(Clone, Debug, Default)]
pub struct Smtp {
    /// The sender's address.
    pub from: Option<Text>,
    /// Host and port.
    pub smarthost: Option<String>,
    /// What sluice calls itself.
    pub hello: Option<String>,
    /// The user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// PLAIN's identity.
    pub identity: Option<String>,
    /// Whether mail may go without TLS.
    pub require_tls: Option<bool>,
    /// Whether TLS begins with the connection.
    pub implicit_tls: Option<bool>,
    /// Whom sluice trusts.
    pub tls: Option<ClientTls>,
}

/// Reads the section.
pub fn read(section: Section<'_>) -> Global {
    let fields = Fields { section, unserved: RefCell::default() };
    let section = &fields.section;
    for key in UNREAD {
        let _ = section.get(key);
    }
    let _ = (section.get("webex_api_url"), section.get("resolve_timeout"));
    let single = |key| fields.single(key).map(|(_, text)| text).filter(|text| !text.is_empty());
    // CRAM-MD5's secret: PLAIN and LOGIN are what is spoken here.
    let _ = fields.secret("smtp_auth_secret", "smtp_auth_secret_file");
    let global = Global {
        smtp: Smtp {
            from: fields.text("smtp_from"),
            smarthost: single("smtp_smarthost"),
            hello: single("smtp_hello"),
            username: single("smtp_auth_username"),
            password: fields.secret("smtp_auth_password", "smtp_auth_password_file"),
            identity: single("smtp_auth_identity"),
            require_tls: section.opt("smtp_require_tls", values::switch),
            implicit_tls: section.opt("smtp_force_implicit_tls", values::switch),
            tls: section.get("smtp_tls_config").map(|node| http::tls(&node, &fields)),
        },
        slack_url: fields.secret("slack_api_url", "slack_api_url_file"),
        slack_token: fields.secret("slack_app_token", "slack_app_token_file"),
        slack_app_url: single("slack_app_url"),
        pagerduty_url: single("pagerduty_url"),
        wechat_url: single("wechat_api_url"),
        wechat_secret: fields.secret("wechat_api_secret", "wechat_api_secret_file"),
        wechat_corp: fields.text("wechat_api_corp_id"),
        http: section.get("http_config").filter(|node| !node.is_empty()).map(|node| Http::read(&node)).unwrap_or_default(),
    };
    section.finish();
    let unserved = fields.unserved.take();
    let mut global = global;
    global.http.unserved.extend(unserved);
    global
}

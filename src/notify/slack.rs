//! Slack's incoming webhooks and its method `chat.postMessage`, with the attachment that Alertmanager makes; and what speaks like them.

use std::time::Duration;

use hyper::Method;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::config::receivers::chat::Slack;
use crate::notify::Outcome;
use crate::notify::http;
use crate::notify::http::Asked;
use crate::notify::judge;
use crate::notify::page::Page;
use crate::notify::say;
use crate::notify::say::Dialect;

/// Slack takes about one message a second and channel.
pub const SPACING: Duration = Duration::from_secs(1);
/// Bytes of a text: an attachment's is folded beyond some thousand letters, and cut beyond 40,000.
const TEXT: usize = 8_000;
/// Of a title, as Alertmanager cuts it.
const TITLE: usize = 1024;

/// Sends.
pub async fn send(slack: &Slack, page: &Page<'_>) -> Outcome {
    let body = match body(slack, page) {
        Ok(body) => body,
        Err(outcome) => return outcome,
    };
    let found = http::reveal(&slack.url).and_then(|url| Ok((url, slack.token.as_ref().map(http::reveal).transpose()?)));
    let (url, token) = match found {
        Ok(found) => found,
        Err(why) => return Outcome::Again { after: None, why },
    };
    let mut headers = vec![("Content-Type".to_owned(), "application/json; charset=utf-8".to_owned())];
    let method = token.is_some();
    headers.extend(token.map(|token| ("Authorization".to_owned(), format!("Bearer {token}"))));
    judge::slack(http::exchange(&slack.http, Asked { method: Method::POST, url, headers, body: body.to_string().into() }).await, method)
}

fn body(slack: &Slack, page: &Page<'_>) -> Result<Value, Outcome> {
    let mrkdwn = Dialect::Mrkdwn;
    let one = |key: &str, ours: &dyn Fn() -> String| page.one(&slack.texts, key, mrkdwn, ours);
    let title = || mrkdwn.escape(&say::title(page.message, &page.data));
    let external = || page.data.external_url.to_owned();
    let mut attachment = Map::new();
    let mut put = |key: &str, text: String| {
        if !text.is_empty() {
            attachment.insert(key.to_owned(), text.into());
        }
    };
    put("title", say::cut(&one("title", &title), TITLE));
    put("title_link", one("title_link", &external));
    put("pretext", one("pretext", &String::new));
    put("text", say::cut(&one("text", &|| say::text(page.message, &page.data, mrkdwn, TEXT)), TEXT));
    put("fallback", say::cut(&one("fallback", &title), TITLE));
    put("callback_id", one("callback_id", &String::new));
    put("image_url", one("image_url", &String::new));
    put("thumb_url", one("thumb_url", &String::new));
    put("footer", one("footer", &String::new));
    put("color", one("color", &|| if page.firing() { "danger" } else { "good" }.to_owned()));
    attachment.insert("mrkdwn_in".to_owned(), json!(slack.mrkdwn_in));
    let fields: Vec<Value> = slack
        .fields
        .iter()
        .map(|field| {
            let short = field.short.unwrap_or(slack.short_fields);
            json!({ "title": page.part(&field.title, mrkdwn), "value": page.part(&field.value, mrkdwn), "short": short })
        })
        .collect();
    if !fields.is_empty() {
        attachment.insert("fields".to_owned(), fields.into());
    }
    let actions: Vec<Value> = slack
        .actions
        .iter()
        .map(|action| Value::Object(action.iter().map(|(key, text)| ((*key).to_owned(), page.part(text, mrkdwn).into())).collect()))
        .collect();
    if !actions.is_empty() {
        attachment.insert("actions".to_owned(), actions.into());
    }
    let mut body = json!({ "attachments": [attachment] });
    for key in ["channel", "username", "icon_emoji", "icon_url"] {
        if let Some((_, written)) = slack.texts.iter().find(|(known, _)| *known == key) {
            // Into which channel it goes must be right; how sluice looks there need not.
            let text = if key == "channel" { page.address(written)? } else { page.part(written, mrkdwn) };
            if !text.is_empty() {
                body[key] = text.into();
            }
        }
    }
    if slack.link_names {
        body["link_names"] = true.into();
    }
    Ok(body)
}

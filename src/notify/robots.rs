//! Robots of chat groups: WeCom, DingTalk, Feishu. They answer 200 to everything and say in the body whether they took it; each counts messages of a minute.
//!
//! The signatures of two of them look alike and are not: DingTalk signs with the secret and puts it into the URL, Feishu signs nothing with time and secret as
//! its key and puts it into the body.

use hyper::Method;
use serde_json::Value;
use serde_json::json;

use crate::config::receivers::chat::Bot;
use crate::notify::Outcome;
use crate::notify::http;
use crate::notify::http::Answer;
use crate::notify::http::Asked;
use crate::notify::judge;
use crate::notify::page::Page;
use crate::notify::say;
use crate::notify::say::Dialect;
use crate::secret::sign;

/// WeCom takes 2048 bytes of text and 4096 of markdown; DingTalk a body of 20,000 with all escapes; Feishu one of 20 KiB.
const WECOM: (usize, usize) = (2000, 4000);
const DINGTALK: usize = 9_000;
const FEISHU: usize = 9_000;
/// Of a title.
const TITLE: usize = 256;

async fn post(bot: &Bot, url: String, body: &Value) -> Result<Answer, String> {
    let headers = vec![("Content-Type".to_owned(), "application/json; charset=utf-8".to_owned())];
    http::exchange(&bot.http, Asked { method: Method::POST, url, headers, body: body.to_string().into() }).await
}

/// Title and text, in at most so many bytes both together.
fn words(bot: &Bot, page: &Page<'_>, dialect: Dialect, most: usize) -> (String, String) {
    let title = page.text(bot.title.as_ref(), dialect, || dialect.escape(&say::title(page.message, &page.data)));
    let title = say::cut(title.lines().next().unwrap_or_default().trim(), TITLE);
    let most = most.saturating_sub(title.len() + 16);
    let text = page.text(bot.text.as_ref(), dialect, || say::text(page.message, &page.data, dialect, most));
    (title, say::cut(&text, most))
}

/// WeCom.
pub async fn wecom(bot: &Bot, page: &Page<'_>) -> Outcome {
    let url = match http::reveal(&bot.url) {
        Ok(url) => url,
        Err(why) => return Outcome::Again { after: None, why },
    };
    judge::wecom(post(bot, url, &wecom_body(bot, page)).await)
}

fn wecom_body(bot: &Bot, page: &Page<'_>) -> Value {
    if bot.markdown {
        let calls: String = bot.users.iter().map(|user| format!("<@{user}>")).collect();
        let (title, text) = words(bot, page, Dialect::Markdown, WECOM.1.saturating_sub(calls.len()));
        let color = if page.firing() { "warning" } else { "info" };
        let content = format!("**<font color=\"{color}\">{title}</font>**\n{text}\n{calls}");
        return json!({ "msgtype": "markdown", "markdown": { "content": say::cut(content.trim_end(), 4096) } });
    }
    let (title, text) = words(bot, page, Dialect::Plain, WECOM.0);
    let mut said = json!({ "content": format!("{title}\n{text}") });
    let all = bot.all.then(|| "@all".to_owned());
    let users: Vec<String> = bot.users.iter().cloned().chain(all).collect();
    if !users.is_empty() {
        said["mentioned_list"] = json!(users);
    }
    if !bot.mobiles.is_empty() {
        said["mentioned_mobile_list"] = json!(bot.mobiles);
    }
    json!({ "msgtype": "text", "text": said })
}

/// DingTalk.
pub async fn dingtalk(bot: &Bot, page: &Page<'_>, at_ms: i64) -> Outcome {
    let found = http::reveal(&bot.url).and_then(|url| Ok((url, bot.secret.as_ref().map(http::reveal).transpose()?)));
    let (url, secret) = match found {
        Ok(found) => found,
        Err(why) => return Outcome::Again { after: None, why },
    };
    let url = match secret {
        Some(secret) => {
            format!("{url}{}timestamp={at_ms}&sign={}", if url.contains('?') { "&" } else { "?" }, dingtalk_sign(&secret, at_ms))
        }
        None => url,
    };
    judge::dingtalk(post(bot, url, &dingtalk_body(bot, page)).await)
}

fn dingtalk_sign(secret: &str, at_ms: i64) -> String {
    let signed = sign::hmac_sha256(secret.as_bytes(), format!("{at_ms}\n{secret}").as_bytes());
    form_urlencoded::byte_serialize(sign::base64(&signed).as_bytes()).collect()
}

fn dingtalk_body(bot: &Bot, page: &Page<'_>) -> Value {
    // People are called only where the text says so, too.
    let calls: String = bot.mobiles.iter().chain(&bot.users).map(|who| format!("@{who} ")).collect();
    let at = json!({ "atMobiles": bot.mobiles, "atUserIds": bot.users, "isAtAll": bot.all });
    let dialect = if bot.markdown { Dialect::Markdown } else { Dialect::Plain };
    let (title, text) = words(bot, page, dialect, DINGTALK);
    if bot.markdown {
        let text = format!("### {title}\n{text}\n\n{calls}");
        return json!({ "msgtype": "markdown", "markdown": { "title": title, "text": text.trim_end() }, "at": at });
    }
    json!({ "msgtype": "text", "text": { "content": format!("{title}\n{text}\n{calls}").trim_end() }, "at": at })
}

/// Feishu, and Lark.
pub async fn feishu(bot: &Bot, page: &Page<'_>, at_ms: i64) -> Outcome {
    let found = http::reveal(&bot.url).and_then(|url| Ok((url, bot.secret.as_ref().map(http::reveal).transpose()?)));
    let (url, secret) = match found {
        Ok(found) => found,
        Err(why) => return Outcome::Again { after: None, why },
    };
    let mut body = feishu_body(bot, page);
    if let Some(secret) = secret {
        let seconds = at_ms.div_euclid(1000);
        body["timestamp"] = seconds.to_string().into();
        body["sign"] = feishu_sign(&secret, seconds).into();
    }
    judge::feishu(post(bot, url, &body).await)
}

fn feishu_sign(secret: &str, seconds: i64) -> String {
    sign::base64(&sign::hmac_sha256(format!("{seconds}\n{secret}").as_bytes(), b""))
}

fn feishu_body(bot: &Bot, page: &Page<'_>) -> Value {
    if !bot.markdown {
        let (title, text) = words(bot, page, Dialect::Plain, FEISHU);
        let calls: String = bot.users.iter().map(|user| format!("<at user_id=\"{user}\"></at>")).collect();
        let all = if bot.all { "<at user_id=\"all\"></at>" } else { "" };
        // A text of Feishu's knows one tag, which must not come from a label.
        let said = format!("{title}\n{text}").replace("<at", "＜at");
        return json!({ "msg_type": "text", "content": { "text": format!("{said}\n{calls}{all}").trim_end() } });
    }
    let (title, text) = words(bot, page, Dialect::Lark, FEISHU);
    let calls: String = bot.users.iter().map(|user| format!("<at id={user}></at>")).collect();
    let all = if bot.all { "<at id=all></at>" } else { "" };
    let template = match (page.firing(), page.message.level) {
        (false, _) => "green",
        (true, ..=2) => "red",
        (true, 3) => "orange",
        (true, _) => "blue",
    };
    json!({
        "msg_type": "interactive",
        "card": {
            "config": { "wide_screen_mode": true },
            "header": { "template": template, "title": { "tag": "plain_text", "content": title } },
            "elements": [{ "tag": "div", "text": { "tag": "lark_md", "content": format!("{text}\n{calls}{all}").trim_end() } }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both vectors were computed by another program.
    #[test]
    fn the_two_signatures_look_alike_and_are_not() {
        assert_eq!(dingtalk_sign("testsecret", 1_599_360_473_000), "8F0F3i4N0rjF6shcEQ9VAdVPGPrCyA5RvIDdG%2BV0900%3D");
        assert_eq!(feishu_sign("testsecret", 1_599_360_473), "363UeKLKin0EeG+hrOQd23TNUSH+orqAFf6mWFdhcD4=");
    }
}

//! Messages of an app of WeChat's for companies, as Alertmanager's `wechat_configs` have them: a token first, then the message.
//!
//! The token is fetched for each message: messages are few, and a token that is kept is one that can be wrong.

use hyper::Method;
use serde_json::Value;
use serde_json::json;

use crate::config::receivers::chat::WeChat;
use crate::notify::Outcome;
use crate::notify::http;
use crate::notify::http::Asked;
use crate::notify::judge;
use crate::notify::page::Page;
use crate::notify::say;
use crate::notify::say::Dialect;

/// Bytes of a message.
const TEXT: usize = 2_000;

/// Sends.
pub async fn send(chat: &WeChat, page: &Page<'_>) -> Outcome {
    match try_send(chat, page).await {
        Ok(outcome) | Err(outcome) => outcome,
    }
}

async fn try_send(chat: &WeChat, page: &Page<'_>) -> Result<Outcome, Outcome> {
    let exact = |key: &str| match chat.texts.iter().find(|(known, _)| *known == key) {
        Some((_, text)) => page.address(text),
        None => Ok(String::new()),
    };
    let escaped = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let secret = http::reveal(&chat.secret).map_err(|why| Outcome::Again { after: None, why })?;
    let base = chat.url.trim_end_matches('/');
    let url = format!("{base}/gettoken?corpid={}&corpsecret={}", escaped(&exact("corp_id")?), escaped(&secret));
    let asked = Asked { method: Method::GET, url, headers: Vec::new(), body: Default::default() };
    let answer = judge::status(http::exchange(&chat.http, asked).await)?;
    let token = serde_json::from_slice::<Value>(&answer.body).ok().and_then(|body| Some(body.get("access_token")?.as_str()?.to_owned()));
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        // No token: the body says why, as it does of a message.
        return Err(match judge::wecom(Ok(answer)) {
            Outcome::Taken => Outcome::Again { after: None, why: "it gives no access_token".to_owned() },
            outcome => outcome,
        });
    };
    let kind = if chat.markdown { "markdown" } else { "text" };
    let dialect = if chat.markdown { Dialect::Markdown } else { Dialect::Plain };
    let ours = || {
        format!("{}\n{}", dialect.escape(&say::title(page.message, &page.data)), say::text(page.message, &page.data, dialect, TEXT - 600))
    };
    let content = say::cut(&page.one(&chat.texts, "message", dialect, ours), TEXT);
    let mut body = json!({ "msgtype": kind, kind: { "content": content }, "safe": "0" });
    for (key, name) in [("to_user", "touser"), ("to_party", "toparty"), ("to_tag", "totag"), ("agent_id", "agentid")] {
        let text = exact(key)?;
        if !text.is_empty() {
            body[name] = text.into();
        }
    }
    let url = format!("{base}/message/send?access_token={}", escaped(&token));
    let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    let asked = Asked { method: Method::POST, url, headers, body: body.to_string().into() };
    Ok(judge::wecom(http::exchange(&chat.http, asked).await))
}

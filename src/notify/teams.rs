//! A workflow of Microsoft Teams that posts what it gets to a channel: one adaptive card.

use std::time::Duration;

use hyper::Method;
use serde_json::Value;
use serde_json::json;

use crate::config::receivers::chat::Teams;
use crate::notify::Outcome;
use crate::notify::http;
use crate::notify::http::Asked;
use crate::notify::judge;
use crate::notify::page::Page;
use crate::notify::say;
use crate::notify::say::Dialect;

/// Four requests a second are what a workflow takes.
pub const SPACING: Duration = Duration::from_millis(300);
/// A message is 28 KB at most, escapes and all.
const TEXT: usize = 12_000;

/// Sends.
pub async fn send(teams: &Teams, page: &Page<'_>) -> Outcome {
    let url = match http::reveal(&teams.url) {
        Ok(url) => url,
        Err(why) => return Outcome::Again { after: None, why },
    };
    let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    let asked = Asked { method: Method::POST, url, headers, body: body(teams, page).to_string().into() };
    judge::plain(http::exchange(&teams.http, asked).await)
}

fn body(teams: &Teams, page: &Page<'_>) -> Value {
    let markdown = Dialect::Markdown;
    let title = page.text(teams.title.as_ref(), markdown, || markdown.escape(&say::title(page.message, &page.data)));
    // A card's lines are paragraphs.
    let ours = || say::text(page.message, &page.data, markdown, TEXT).replace("  \n", "\n\n");
    let text = say::cut(&page.text(teams.text.as_ref(), markdown, ours), TEXT);
    let color = if page.firing() { "Attention" } else { "Good" };
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": [
                    { "type": "TextBlock", "text": say::cut(&title, 1024), "weight": "Bolder", "size": "Medium", "wrap": true, "style": "heading", "color": color },
                    { "type": "TextBlock", "text": text, "wrap": true },
                ],
                "msteams": { "width": "full" },
            },
        }],
    })
}

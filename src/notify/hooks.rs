//! Webhooks: Alertmanager's own, version 4 to the byte; and the alert center, which gets besides how bad it is, a key by which it knows what it has already, and
//! a signature, or a body of its own.

use hyper::Method;

use crate::config::receivers::hooks::AlertCenter;
use crate::config::receivers::hooks::Webhook;
use crate::notify::Outcome;
use crate::notify::http;
use crate::notify::http::Asked;
use crate::notify::judge;
use crate::notify::page::Page;
use crate::notify::say::Dialect;
use crate::notify::template;
use crate::secret::sign;

/// Alertmanager's.
pub async fn webhook(hook: &Webhook, page: &Page<'_>) -> Outcome {
    let url = match http::reveal(&hook.url).map_err(|why| Outcome::Again { after: None, why }).and_then(|url| filled(&url, page)) {
        Ok(url) => url,
        Err(outcome) => return outcome,
    };
    // No receiver of Alertmanager's looks at it, and one that does is told once.
    let headers = vec![("Content-Type".to_owned(), "application/json".to_owned()), ("Idempotency-Key".to_owned(), page.message.id.clone())];
    let asked = Asked { method: Method::POST, url, headers, body: page.data.webhook_body().into() };
    judge::plain(http::exchange(&hook.http, asked).await)
}

/// A URL may be a template, as in Alertmanager since 0.31.
fn filled(url: &str, page: &Page<'_>) -> Result<String, Outcome> {
    if !template::is_template(url) {
        return Ok(url.to_owned());
    }
    let ours = if template::check(url).is_ok() { Some(url.to_owned()) } else { crate::alert::translate::translate(url) };
    let never = |why: &str| Outcome::Never { why: format!("its url is a template that cannot be carried out: {why}") };
    let ours = ours.ok_or_else(|| never("write it in MiniJinja"))?;
    template::render(&ours, page.message, &page.data, Dialect::Plain).map_err(|why| never(&why))
}

/// The alert center's.
pub async fn alert_center(center: &AlertCenter, page: &Page<'_>, at_ms: i64) -> Outcome {
    let asked = match request(center, page, at_ms) {
        Ok(asked) => asked,
        Err(outcome) => return outcome,
    };
    judge::expected(http::exchange(&center.http, asked).await, center.expect.as_ref())
}

fn request(center: &AlertCenter, page: &Page<'_>, at_ms: i64) -> Result<Asked, Outcome> {
    let again = |why| Outcome::Again { after: None, why };
    let url = http::reveal(&center.url).map_err(again)?;
    let url = filled(&url, page)?;
    let ours = || {
        let mut body = serde_json::to_value(&page.data).unwrap_or_default();
        body["receiver"] = page.message.receiver.as_str().into();
        body["eventId"] = page.message.id.as_str().into();
        body["level"] = page.message.level.into();
        body["degraded"] = page.message.degraded.into();
        for (shown, one) in body["alerts"].as_array_mut().into_iter().flatten().zip(&page.data.alerts) {
            shown["level"] = one.mark.level.into();
            shown["flapping"] = one.mark.flapping.into();
            shown["unconfirmed"] = one.unconfirmed.into();
        }
        body.to_string()
    };
    let dialect = if center.content_type.contains("json") { Dialect::Json } else { Dialect::Plain };
    let body = page.text(center.body.as_ref(), dialect, ours);
    if dialect == Dialect::Json && serde_json::from_str::<serde::de::IgnoredAny>(&body).is_err() {
        let key = center.body.as_ref().map(|text| text.place.key.as_str()).unwrap_or_default();
        return Err(Outcome::Never { why: format!("what {key} comes to is no JSON") });
    }
    let mut headers = vec![
        ("Content-Type".to_owned(), center.content_type.clone()),
        ("Idempotency-Key".to_owned(), page.message.id.clone()),
        ("X-Alert-Level".to_owned(), format!("P{}", page.message.level)),
    ];
    if page.message.degraded {
        headers.push(("X-Degraded".to_owned(), "1".to_owned()));
    }
    if let Some(secret) = &center.secret {
        let (secret, seconds) = (http::reveal(secret).map_err(again)?, at_ms.div_euclid(1000));
        headers.push(("X-Alert-Signature".to_owned(), signature(&secret, seconds, &body)));
    }
    for (name, value) in &center.headers {
        headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        headers.push((name.clone(), http::reveal(value).map_err(again)?));
    }
    Ok(Asked { method: Method::POST, url, headers, body: body.into() })
}

/// `t=SECONDS,v1=HEX`: of the seconds, a dot, and the body, so that an old message cannot be sent again as a new one.
fn signature(secret: &str, seconds: i64, body: &str) -> String {
    let signed = sign::hmac_sha256(secret.as_bytes(), format!("{seconds}.{body}").as_bytes());
    format!("t={seconds},v1={}", sign::hex(&signed))
}

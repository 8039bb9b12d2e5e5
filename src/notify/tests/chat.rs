//! Chats and pagers: what each is sent, as files, and what its answers mean.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use super::AT;
use super::alert;
use super::both;
use super::is_again;
use super::is_never;
use super::message;
use super::receivers;
use super::send;
use super::server::Reply;
use super::server::Server;
use super::server::says;
use crate::alert::message::Message;
use crate::notify::Outcome;

/// Compares with a file of these tests.
fn golden(name: &str, sent: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/notify/tests").join(name);
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let sent = format!("{sent:#}\n");
    assert!(sent == expected, "{name} is not what is sent:\n{sent}");
}

/// One whose labels would call everybody, make links and end texts, if they could.
fn hostile() -> Message {
    message(vec![alert("<!channel> <@all> [bill](http://evil) `x` <at id=all></at> & <font>", "\u{1b}[31m a\nb", AT + 1)])
}

#[tokio::test]
async fn wecom() {
    let server = Server::new(vec![
        says(200, "{\"errcode\":0,\"errmsg\":\"ok\"}"),
        says(200, "{\"errcode\":0}"),
        says(200, "{\"errcode\":45009}"),
        says(200, "{\"errcode\":93000}"),
    ])
    .await;
    let markdown = format!("  wecom_configs: [{{ url: 'http://{}/cgi-bin/webhook/send?key=k', mention_users: [wang] }}]", server.address);
    assert_eq!(send(&markdown, &both()).await, Outcome::Taken);
    golden("wecom.json", &server.last().json());
    let text = format!(
        "  wecom_configs: [{{ url: 'http://{}/send?key=k', message_type: text, mention_all: true, mention_mobiles: ['1380000'] }}]",
        server.address
    );
    assert_eq!(send(&text, &hostile()).await, Outcome::Taken);
    let sent = server.last().json();
    assert_eq!(
        (&sent["msgtype"], &sent["text"]["mentioned_list"], &sent["text"]["mentioned_mobile_list"]),
        (&json!("text"), &json!(["@all"]), &json!(["1380000"]))
    );
    let receivers = receivers(&markdown);
    let Outcome::Again { after, .. } = receivers.send(&hostile(), "team.db", 0).await else { panic!() };
    assert_eq!(after, Some(Duration::from_secs(60)));
    let content = server.last().json()["markdown"]["content"].as_str().unwrap().to_owned();
    assert!(!content.contains("<@all>") && !content.contains("](http") && content.contains("<@wang>"), "{content}");
    assert!(is_again(&receivers.send(&both(), "team.db", 0).await) && server.seen().len() == 3, "it is not asked before it may be");
    assert!(is_never(&send(&markdown, &both()).await));
}

#[tokio::test]
async fn dingtalk() {
    let server = Server::new(vec![
        says(200, "{\"errcode\":0,\"errmsg\":\"ok\"}"),
        says(200, "{\"errcode\":130101}"),
        says(200, "{\"errcode\":310000,\"errmsg\":\"sign not match\"}"),
    ])
    .await;
    let lines = format!(
        "  dingtalk_configs: [{{ url: 'http://{}/robot/send?access_token=t', secret: testsecret, mention_mobiles: ['1380000'] }}]",
        server.address
    );
    assert_eq!(send(&lines, &both()).await, Outcome::Taken);
    golden("dingtalk.json", &server.last().json());
    let target = server.last().target().to_owned();
    assert!(target.starts_with("/robot/send?access_token=t&timestamp=1") && target.contains("&sign="), "{target}");
    // Whoever goes on is not heard for ten minutes.
    let Outcome::Again { after, .. } = send(&lines, &hostile()).await else { panic!() };
    assert_eq!(after, Some(Duration::from_secs(600)));
    assert!(!server.last().body.contains("](http"));
    assert!(is_never(&send(&lines, &both()).await));
}

#[tokio::test]
async fn feishu() {
    let replies = vec![
        says(200, "{\"code\":0}"),
        says(200, "{\"StatusCode\":0}"),
        says(200, "{\"code\":11232}"),
        says(200, "{\"code\":19021,\"msg\":\"sign match fail\"}"),
    ];
    let server = Server::new(replies).await;
    let lines = format!(
        "  feishu_configs: [{{ url: 'http://{}/open-apis/bot/v2/hook/h', secret: testsecret, mention_all: true }}]",
        server.address
    );
    assert_eq!(send(&lines, &both()).await, Outcome::Taken);
    let mut sent = server.last().json();
    assert!(sent["timestamp"].as_str().unwrap().len() == 10 && sent["sign"].as_str().unwrap().len() == 44, "{sent}");
    (sent["timestamp"], sent["sign"]) = (json!("1599360473"), json!("..."));
    golden("feishu.json", &sent);
    let text = format!("  feishu_configs: [{{ url: 'http://{}/h', message_type: text }}]", server.address);
    assert_eq!(send(&text, &hostile()).await, Outcome::Taken);
    assert!(!server.last().body.contains("<at"), "{}", server.last().body);
    assert!(is_again(&send(&lines, &hostile()).await));
    let body = server.last().body;
    assert_eq!(body.matches("<at").count(), 1, "the one that was configured: {body}");
    assert!(is_never(&send(&lines, &both()).await));
}

#[tokio::test]
async fn slack() {
    let replies = vec![says(200, "ok"), says(403, "invalid_token"), Reply::Answer(429, "Retry-After: 30\r\n", String::new())];
    let server = Server::new(replies).await;
    let lines = format!(
        "  slack_configs:\n  - api_url: 'http://{}/services/T/B/X'\n    channel: '#{{{{ groupLabels.alertname }}}}'\n    send_resolved: true\n    fields: [{{ title: Team, value: '{{{{ .CommonLabels.team }}}}', short: true }}]\n    actions: [{{ type: button, text: Runbook, url: 'http://r' }}]",
        server.address
    );
    assert_eq!(send(&lines, &both()).await, Outcome::Taken);
    golden("slack.json", &server.last().json());
    assert!(is_never(&send(&lines, &hostile()).await));
    let body = server.last().body;
    assert!(!body.contains("<!channel>") && body.contains("&lt;!channel&gt;"), "{body}");
    let Outcome::Again { after, .. } = send(&lines, &both()).await else { panic!() };
    assert_eq!(after, Some(Duration::from_secs(30)));
    // The method says in its body whether it worked.
    let server = Server::new(vec![
        says(200, "{\"ok\":true}"),
        says(200, "{\"ok\":false,\"error\":\"channel_not_found\"}"),
        says(200, "{\"ok\":false,\"error\":\"ratelimited\"}"),
        says(200, "hello"),
    ])
    .await;
    let lines = format!("  slack_configs: [{{ app_token: xoxb, app_url: 'http://{}/api/chat.postMessage', channel: c }}]", server.address);
    assert_eq!(send(&lines, &both()).await, Outcome::Taken);
    assert_eq!(server.last().header("authorization"), Some("Bearer xoxb"));
    assert!(is_never(&send(&lines, &both()).await));
    assert!(is_again(&send(&lines, &both()).await));
    assert!(is_again(&send(&lines, &both()).await));
}

#[tokio::test]
async fn one_message_a_second_goes_to_a_channel_of_slack() {
    let server = Server::new(vec![says(200, "ok")]).await;
    let receivers = receivers(&format!(
        "  slack_configs: [{{ api_url: 'http://{}/', channel: a }}, {{ api_url: 'http://{0}/', channel: b }}]",
        server.address
    ));
    assert_eq!(receivers.send(&both(), "team.db", 0).await, Outcome::Taken);
    assert_eq!(receivers.send(&both(), "team.db", 1).await, Outcome::Taken, "another channel");
    assert!(is_again(&receivers.send(&both(), "team.db", 0).await) && server.seen().len() == 2);
}

#[tokio::test]
async fn teams() {
    let server = Server::new(vec![says(202, ""), says(429, "")]).await;
    let lines = format!(
        "  msteamsv2_configs: [{{ webhook_url: 'http://{}/workflows/x', title: '{{{{ template \"msteamsv2.default.title\" . }}}}' }}]",
        server.address
    );
    assert_eq!(send(&lines, &both()).await, Outcome::Taken);
    golden("teams.json", &server.last().json());
    assert!(is_again(&send(&lines, &hostile()).await));
}

#[tokio::test]
async fn pagerduty() {
    let server =
        Server::new(vec![says(202, "{\"status\":\"success\"}"), says(202, ""), says(429, ""), says(400, "{\"status\":\"invalid event\"}")])
            .await;
    let lines = format!(
        "  pagerduty_configs: [{{ url: 'http://{}/v2/enqueue', routing_key: rk, severity: '{{{{ commonLabels.severity or \"error\" }}}}', details: {{ team: '{{{{ .CommonLabels.team }}}}' }} }}]",
        server.address
    );
    let receivers = receivers(&lines);
    assert!(receivers.takes_key("team.db", 0));
    assert_eq!(receivers.send(&both(), "team.db", 0).await, Outcome::Taken);
    let opened = server.last().json();
    // The dedup_key is the one that a real Alertmanager sent for this group: it closes what the other opened.
    golden("pagerduty.json", &opened);
    let over = message(vec![alert("a", "s", AT)]);
    assert_eq!(receivers.send(&over, "team.db", 0).await, Outcome::Taken);
    let closed = server.last().json();
    assert_eq!((&closed["event_action"], &closed["dedup_key"]), (&json!("resolve"), &opened["dedup_key"]));
    let Outcome::Again { after, .. } = receivers.send(&both(), "team.db", 0).await else { panic!() };
    assert_eq!(after, Some(Duration::from_secs(60)));
    assert!(is_never(&send(&lines, &both()).await));
}

#[tokio::test]
async fn wechat() {
    let replies = vec![
        says(200, "{\"errcode\":0,\"access_token\":\"tok\"}"),
        says(200, "{\"errcode\":0}"),
        says(200, "{\"errcode\":40001,\"errmsg\":\"invalid secret\"}"),
    ];
    let server = Server::new(replies).await;
    let lines = format!(
        "  wechat_configs: [{{ api_url: 'http://{}/cgi-bin/', api_secret: 'a b', corp_id: ww1, to_user: '@all', agent_id: '7' }}]",
        server.address
    );
    assert_eq!(send(&lines, &both()).await, Outcome::Taken);
    let seen = server.seen();
    assert_eq!(seen[0].target(), "/cgi-bin/gettoken?corpid=ww1&corpsecret=a+b");
    assert_eq!(seen[1].target(), "/cgi-bin/message/send?access_token=tok");
    let sent = seen[1].json();
    assert_eq!(
        (&sent["msgtype"], &sent["touser"], &sent["agentid"], &sent["safe"]),
        (&json!("text"), &json!("@all"), &json!("7"), &json!("0"))
    );
    let Outcome::Never { why } = send(&lines, &both()).await else { panic!() };
    assert!(why.contains("invalid secret") && !why.contains("a+b"), "{why}");
}

#[tokio::test]
async fn a_storm_is_one_message_that_says_how_large_it_is() {
    let server = Server::new(vec![says(200, "{\"errcode\":0}")]).await;
    let storm: Vec<_> = (0..20_000).map(|number| alert(&number.to_string(), "s", AT + 1)).collect();
    assert_eq!(send(&format!("  wecom_configs: [{{ url: 'http://{}/' }}]", server.address), &message(storm)).await, Outcome::Taken);
    let content = server.last().json()["markdown"]["content"].as_str().unwrap().to_owned();
    assert!(content.contains("[FIRING:20000]") && content.contains("… 19980 more"), "{content}");
}

#[tokio::test]
async fn texts_are_cut_to_what_a_target_takes_and_say_so() {
    let many: Vec<_> = (0..200).map(|number| alert(&format!("host-{number}-{}", "ü".repeat(200)), &"é".repeat(5_000), AT + 1)).collect();
    let server = Server::new(vec![says(200, "{\"errcode\":0,\"code\":0}")]).await;
    for (kind, most) in [("wecom", 4096), ("dingtalk", 20_000), ("feishu", 20_000)] {
        let lines = format!("  {kind}_configs: [{{ url: 'http://{}/' }}]", server.address);
        assert_eq!(send(&lines, &message(many.clone())).await, Outcome::Taken, "{kind}");
        let body = server.last().body;
        assert!(body.len() < most && body.contains(" more") && body.contains("http://sluice:9201"), "{kind} {}", body.len());
        let written = format!(
            "  {kind}_configs: [{{ url: 'http://{}/', text: '{{% for a in alerts[:20] %}}{{{{ a.annotations.summary }}}}{{% endfor %}}' }}]",
            server.address
        );
        assert_eq!(send(&written, &message(many.clone())).await, Outcome::Taken, "{kind}");
        let body = server.last().body;
        assert!(body.len() < most && body.contains("(cut)"), "{kind} {}", body.len());
    }
}

/// Every kind, and every way in which a server can fail.
#[tokio::test]
async fn whoever_fails_is_tried_again_and_no_secret_is_said() {
    let kinds = [
        "webhook_configs: [{ url: 'URL'",
        "alert_center_configs: [{ url: 'URL', secret: canary",
        "slack_configs: [{ api_url: 'URL', channel: c",
        "pagerduty_configs: [{ url: 'URL', routing_key: canary",
        "msteamsv2_configs: [{ webhook_url: 'URL'",
        "wechat_configs: [{ api_url: 'URL', api_secret: canary, corp_id: w",
        "wecom_configs: [{ url: 'URL'",
        "dingtalk_configs: [{ url: 'URL', secret: canary",
        "feishu_configs: [{ url: 'URL', secret: canary",
    ];
    for kind in kinds {
        let away = Reply::Answer(307, "Location: http://169.254.169.254/latest/meta-data\r\n", String::new());
        for reply in [Reply::Hang, Reply::Cut, Reply::Close, says(500, "canary in a page"), says(503, ""), says(429, ""), away] {
            let server = Server::new(vec![reply]).await;
            let lines =
                format!("  {}, timeout: 300ms }}]", kind.replace("URL", &format!("http://u:canary@{}/canary?key=canary", server.address)));
            let outcome = send(&lines, &both()).await;
            assert!(is_again(&outcome), "{lines}: {outcome:?}");
            let said = format!("{outcome:?}").replace("canary in a page", "");
            assert!(!said.contains("canary"), "{lines}: {said}");
        }
    }
}

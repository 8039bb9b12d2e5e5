//! What a receiver would be sent, without sending it: for people who write templates.

use crate::alert::message::Mark;
use crate::alert::message::Message;
use crate::alert::message::Reason;
use crate::config::receivers::Kind;
use crate::config::routing::Receiver;
use crate::model::alert::Alert;
use crate::model::labels::Labels;
use crate::notify::data::Data;
use crate::notify::doubts;
use crate::notify::page;
use crate::notify::page::Written;
use crate::notify::say;
use crate::notify::say::Dialect;
use crate::notify::template;

/// Half of it is enough to be told of.
const LASTS: i64 = 600_000;

/// One text of a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Where it stands, or the integration where it is sluice's own.
    pub key: String,
    /// From 1; 0: nobody has written it.
    pub line: usize,
    /// As it would be sent.
    pub text: String,
    /// Why it is not what is written.
    pub instead: Option<String>,
}

/// A group of one alert, as if it were told now for the first time.
pub fn message(labels: &Labels, annotations: Labels, receiver: &str, (resolved, now): (bool, i64)) -> Message {
    let alert = Alert {
        labels: labels.clone(),
        annotations,
        generator: "https://prometheus.example/graph".into(),
        starts: now - LASTS / 2,
        ends: if resolved { now } else { now + LASTS / 2 },
        times_out: true,
        updated: now,
    };
    let name = labels.get("alertname").unwrap_or_default();
    Message {
        id: "0123456789abcdef".to_owned(),
        receiver: receiver.to_owned(),
        group_key: format!("{{}}:{{alertname={name:?}}}"),
        group_labels: [("alertname", name)].into(),
        reason: if resolved { Reason::AllOver } else { Reason::First },
        at: now,
        level: 2,
        alerts: vec![alert],
        marks: vec![Mark { level: 2, flapping: false }],
        degraded: false,
        escalation: None,
        parts: Vec::new(),
        digest: None,
        left_out: 0,
    }
}

/// Every text of a receiver, as it would be sent; and sluice's own for integrations without one.
pub fn shown(receiver: &Receiver, message: &Message, external: &str) -> Vec<Shown> {
    let data = Data::new(message, external, 0);
    let mut all = Vec::new();
    for integration in &receiver.integrations {
        let dialect = dialect(&integration.kind);
        let own = || format!("{}\n{}", dialect.escape(&say::title(message, &data)), say::text(message, &data, dialect, 64 << 10));
        let texts = integration.kind.texts();
        if texts.is_empty() {
            let text = match &integration.kind {
                Kind::Webhook(_) | Kind::AlertCenter(_) => String::from_utf8_lossy(&data.webhook_body()).trim_end().to_owned(),
                Kind::None(_) => String::new(),
                _ => own(),
            };
            let instead = integration.unserved.first().map(|problem| problem.rule.clone());
            all.push(Shown { key: integration.place.key.clone(), line: 0, text, instead });
        }
        for written in texts {
            let (text, instead) = match page::judge(&written.text) {
                Written::Plain => (written.text.clone(), None),
                Written::Ours => match template::render(&written.text, message, &data, dialect) {
                    Ok(text) => (text, None),
                    Err(why) => (own(), Some(why)),
                },
                Written::Default => (own(), None),
                Written::Go(Some(ours)) if doubts::is_exact(written) => (
                    template::render(&ours, message, &data, dialect).unwrap_or_default(),
                    Some("is in Go's template language, and was translated".to_owned()),
                ),
                Written::Go(_) => (own(), Some("is in Go's template language".to_owned())),
                Written::Broken(why) => (own(), Some(why)),
            };
            all.push(Shown { key: written.place.key.clone(), line: written.place.line, text, instead });
        }
    }
    all
}

/// One text, as letters.
pub fn text(text: &str, message: &Message, external: &str) -> Result<String, String> {
    template::render(text, message, &Data::new(message, external, 0), Dialect::Plain)
}

fn dialect(kind: &Kind) -> Dialect {
    match kind {
        Kind::Slack(_) => Dialect::Mrkdwn,
        Kind::WeCom(_) | Kind::DingTalk(_) | Kind::Teams(_) => Dialect::Markdown,
        Kind::Feishu(_) => Dialect::Lark,
        Kind::AlertCenter(center) if center.content_type.contains("json") => Dialect::Json,
        _ => Dialect::Plain,
    }
}

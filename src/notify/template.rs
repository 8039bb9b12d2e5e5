//! Texts that somebody has written, in MiniJinja, with the words of Alertmanager's templates: `{{ commonLabels.alertname }}`,
//! `{% for alert in alerts.firing %}`.
//!
//! What comes of labels is escaped as the target wants it, since anybody who can raise an alert writes them; they are never templates themselves. A text cannot
//! run without end nor take memory without end (fuel), and reaches nothing but the message: no files, no network, no environment.

use std::io;
use std::sync::Arc;

use minijinja::AutoEscape;
use minijinja::Environment;
use minijinja::Error;
use minijinja::ErrorKind;
use minijinja::UndefinedBehavior;
use minijinja::Value;
use minijinja::context;
use minijinja::value::Enumerator;
use minijinja::value::Object;
use minijinja::value::ObjectRepr;
use minijinja::value::ValueKind;

use crate::alert::message::Message;
use crate::model::labels::Labels;
use crate::notify::data::Counted;
use crate::notify::data::Data;
use crate::notify::data::Digested;
use crate::notify::data::OfGroup;
use crate::notify::data::One;
use crate::notify::filters;
use crate::notify::say::Dialect;

/// Steps, and 64 bytes of memory each: some 40 MiB, and a tenth of a second.
const FUEL: u64 = 600_000;
/// No target takes more.
const BYTES: usize = 1 << 20;

/// Whether a text is one at all.
pub fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%") || text.contains("{#")
}

/// Why a text is no template of MiniJinja; what it says about the line is counted from the text's first.
pub fn check(text: &str) -> Result<(), String> {
    environment(Dialect::Plain).template_from_str(text).map(|_| ()).map_err(|error| said(&error))
}

/// The text with the message's words in it. The error is for people.
pub fn render(text: &str, message: &Message, data: &Data<'_>, dialect: Dialect) -> Result<String, String> {
    let environment = environment(dialect);
    let template = environment.template_from_str(text).map_err(|error| said(&error))?;
    let mut out = Bounded(Vec::new());
    template.render_captured_to(words(message, data), &mut out).map_err(|error| said(&error))?;
    String::from_utf8(out.0).map_err(|error| error.to_string())
}

fn said(error: &Error) -> String {
    match error.kind() {
        ErrorKind::OutOfFuel => "takes too many steps, or too much memory".to_owned(),
        _ => {
            let line = error.line().map(|line| format!(" (its line {line})")).unwrap_or_default();
            format!("{}{line}", error.detail().map_or_else(|| error.kind().to_string(), str::to_owned))
        }
    }
}

struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > BYTES {
            return Err(io::Error::other("the text is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn environment(dialect: Dialect) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(100);
    // A label that is not there is empty, as in Alertmanager.
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment
        .set_auto_escape_callback(move |_| if dialect == Dialect::Plain { AutoEscape::None } else { AutoEscape::Custom("target".into()) });
    environment.set_formatter(move |out, _, value| {
        if value.is_undefined() || value.is_none() {
            return Ok(());
        }
        // JSON's words, and Go's, where Jinja has Python's.
        let text = if value.kind() == ValueKind::Bool { value.is_true().to_string() } else { value.to_string() };
        let text = if value.is_safe() { text } else { dialect.escape(&text) };
        out.write_str(&text).map_err(|_| Error::new(ErrorKind::WriteFailure, "the text is too long"))
    });
    filters::add(&mut environment);
    environment
}

/// What a template can say.
fn words(message: &Message, data: &Data<'_>) -> Value {
    let alerts = Alerts::new(data);
    context! {
        status => data.status,
        receiver => message.receiver.as_str(),
        level => i64::from(message.level),
        id => message.id.as_str(),
        degraded => message.degraded,
        alerts => Value::from_object(alerts),
        groupLabels => labels(&message.group_labels),
        commonLabels => pairs(data.common_labels.iter()),
        commonAnnotations => pairs(data.common_annotations.iter()),
        externalURL => data.external_url,
        groupKey => data.group_key,
        truncatedAlerts => data.truncated_alerts as i64,
        notificationReason => data.notification_reason,
        groups => data.groups.iter().map(group).collect::<Vec<_>>(),
        digest => data.digest.as_ref().map(digest),
        escalation => message.escalation.as_ref().map(|known| context! { policy => known.policy.as_str(), step => i64::from(known.step) }),
        subject => crate::notify::say::subject(data),
    }
}

fn group(group: &OfGroup<'_>) -> Value {
    context! {
        groupKey => group.group_key,
        groupLabels => labels(group.group_labels),
        firing => group.firing as i64,
        resolved => group.resolved as i64,
    }
}

fn digest(digest: &Digested<'_>) -> Value {
    let one = |counted: &Counted<'_>| context! { value => counted.value, alerts => counted.alerts as i64 };
    let of = |values: &[Counted<'_>]| Value::from(values.iter().map(one).collect::<Vec<Value>>());
    let top = Value::from_pairs(digest.top.iter().map(|(name, values)| (*name, of(values))));
    context! { firing => digest.firing as i64, resolved => digest.resolved as i64, top => top }
}

fn labels(labels: &Labels) -> Value {
    Value::from_pairs(labels.iter())
}

fn pairs<'a>(pairs: impl Iterator<Item = (&'a &'a str, &'a &'a str)>) -> Value {
    Value::from_pairs(pairs.map(|(name, value)| (*name, *value)))
}

fn alert(one: &One<'_>) -> Value {
    context! {
        status => one.status,
        labels => labels(one.labels),
        annotations => labels(one.annotations),
        startsAt => one.starts_at.as_str(),
        endsAt => one.ends_at.as_str(),
        generatorURL => one.generator,
        fingerprint => one.fingerprint.as_str(),
        level => i64::from(one.mark.level),
        flapping => one.mark.flapping,
        unconfirmed => one.unconfirmed,
    }
}

/// A list with two lists of it: `alerts`, `alerts.firing`, `alerts.resolved`.
#[derive(Debug)]
struct Alerts {
    all: Vec<Value>,
    firing: Value,
    resolved: Value,
}

impl Alerts {
    fn new(data: &Data<'_>) -> Alerts {
        let of = |status: &str| Value::from(data.alerts.iter().filter(|one| one.status == status).map(alert).collect::<Vec<_>>());
        Alerts { all: data.alerts.iter().map(alert).collect(), firing: of("firing"), resolved: of("resolved") }
    }
}

impl Object for Alerts {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str() {
            Some("firing") => Some(self.firing.clone()),
            Some("resolved") => Some(self.resolved.clone()),
            Some(_) => None,
            None => self.all.get(key.as_usize()?).cloned(),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.all.len())
    }
}

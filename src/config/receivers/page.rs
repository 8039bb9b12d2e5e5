//! Receivers that wake people: PagerDuty (Events API v2), and mail.

use crate::config::read::Node;
use crate::config::receivers::Fields;
use crate::config::receivers::Kind;
use crate::config::receivers::Secret;
use crate::config::receivers::Text;
use crate::config::receivers::Texts;
use crate::config::receivers::global::Global;
use crate::config::receivers::http;
use crate::config::receivers::http::Http;
use crate::config::remote_write::ClientTls;
use crate::config::routing::Place;
use crate::config::values;

/// A service of PagerDuty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PagerDuty {
    /// Where events are posted.
    pub url: String,
    /// The integration's key.
    pub key: Secret,
    /// How it is reached.
    pub http: Http,
    /// What is written of `description`, `severity` and so on.
    pub texts: Texts,
    /// For `custom_details`.
    pub details: Vec<(String, Text)>,
    /// `href`, `text`
    pub links: Vec<Texts>,
    /// `src`, `alt`, `href`
    pub images: Vec<Texts>,
}

/// Mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// With commas between them.
    pub to: Text,
    /// The sender.
    pub from: Text,
    /// The server's name.
    pub host: String,
    /// And its port.
    pub port: u16,
    /// What sluice calls itself.
    pub hello: String,
    /// User, password and PLAIN's identity.
    pub login: Option<(String, Secret, String)>,
    /// `Subject` among them.
    pub headers: Vec<(String, Text)>,
    /// The message.
    pub html: Option<Text>,
    /// The message for whoever reads no HTML.
    pub text: Option<Text>,
    /// Without STARTTLS nothing is sent.
    pub require_tls: bool,
    /// TLS begins with the connection.
    pub implicit_tls: bool,
    /// Whom sluice trusts.
    pub tls: ClientTls,
    /// The whole dialogue.
    pub timeout: std::time::Duration,
}

/// Texts of PagerDuty.
pub const PAGERDUTY_TEXTS: [&str; 8] = ["client", "client_url", "description", "source", "severity", "class", "component", "group"];

/// Reads one of `pagerduty_configs`.
pub fn pagerduty(fields: &Fields<'_>, global: &Global) -> Option<(bool, Kind)> {
    let events = fields.secret("routing_key", "routing_key_file");
    if events.is_none() && (fields.section.get("service_key").is_some() || fields.section.get("service_key_file").is_some()) {
        for key in ["service_key", "service_key_file"] {
            fields.refuse(
                key,
                "is the key of an integration of PagerDuty's old Events API",
                "make one of Events API v2, and write its routing_key_file",
            );
        }
    } else {
        let _ = fields.secret("service_key", "service_key_file");
        if events.is_none() {
            fields.section.missing("routing_key", "missing service or routing key in PagerDuty config: write routing_key_file");
        }
    }
    let url = fields.single("url").map(|(node, text)| {
        super::web(&node, &text);
        text
    });
    let url = url.filter(|text| !text.is_empty());
    let texts = fields.texts(&PAGERDUTY_TEXTS);
    let mut details = Vec::new();
    if let Some(node) = fields.section.get("details") {
        for (name, node) in node.section().pairs() {
            let text = if node.is_empty() { Some("") } else { node.text() };
            details.extend(text.map(|text| (name.to_owned(), of(node, text))));
        }
    }
    let table = |key, keys: &[&'static str]| {
        let nodes = fields.section.get(key).map(|node| node.list()).unwrap_or_default();
        nodes.iter().map(|node| row(node, keys)).collect::<Vec<_>>()
    };
    let (links, images) = (table("links", &["href", "text"]), table("images", &["src", "alt", "href"]));
    let (send_resolved, http) = (fields.send_resolved(true), fields.http(global));
    let url = url.or_else(|| global.pagerduty_url.clone()).unwrap_or_else(|| "https://events.pagerduty.com/v2/enqueue".to_owned());
    let duty = PagerDuty { url, key: events?, http, texts, details, links, images };
    Some((send_resolved, Kind::PagerDuty(Box::new(duty))))
}

fn of(node: &Node<'_>, text: &str) -> Text {
    Text { place: Place { line: node.line(), key: node.key().to_owned() }, text: text.to_owned() }
}

fn row(node: &Node<'_>, keys: &[&'static str]) -> Texts {
    let section = node.section();
    let written = keys.iter().filter_map(|key| {
        let node = section.get(key)?;
        Some((*key, of(&node, node.text()?)))
    });
    let texts = written.collect();
    section.finish();
    texts
}

/// Reads one of `email_configs`.
pub fn mail(fields: &Fields<'_>, global: &Global) -> Option<(bool, Kind)> {
    let smtp = &global.smtp;
    let single = |key| fields.single(key).map(|(_, text)| text).filter(|text| !text.is_empty());
    let to = fields.text("to").filter(|text| !text.text.is_empty());
    if to.is_none() {
        fields.section.missing("to", "missing to address in email config: write to: oncall@example.com");
    }
    let from = fields.text("from").or_else(|| smtp.from.clone());
    if from.is_none() {
        fields.section.missing("from", "no global SMTP from set: write it here or as smtp_from");
    }
    let smarthost = single("smarthost").or_else(|| smtp.smarthost.clone());
    let place = smarthost.as_deref().and_then(host_and_port);
    match (&smarthost, &place) {
        (None, _) => {
            fields.section.missing("smarthost", "no global SMTP smarthost set: write it here or as smtp_smarthost: mail.example.com:587")
        }
        (Some(_), None) => {
            fields.section.node().complain_unshown("its smarthost is no host and port", "for example smarthost: mail.example.com:587")
        }
        _ => {}
    }
    let username = single("auth_username").or_else(|| smtp.username.clone());
    let password = fields.secret("auth_password", "auth_password_file").or_else(|| smtp.password.clone());
    let _ = fields.secret("auth_secret", "auth_secret_file");
    if username.is_some() && password.is_none() {
        let node = fields.section.node();
        let place = Place { line: node.line(), key: node.key().to_owned() };
        let rule = "has a user and no password (CRAM-MD5, whose secret is auth_secret, is not spoken): nothing is sent";
        fields.unserved.borrow_mut().push(super::unserved(&place, rule, "write auth_password_file"));
    }
    let identity = single("auth_identity").or_else(|| smtp.identity.clone()).unwrap_or_default();
    let hello = single("hello").or_else(|| smtp.hello.clone()).unwrap_or_else(|| "localhost".to_owned());
    let mut headers: Vec<(String, Text)> = Vec::new();
    if let Some(node) = fields.section.get("headers") {
        for (name, node) in node.section().pairs() {
            let known = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            if !known || headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
                node.complain("is no header, or stands here twice", "write names like Subject, each once");
            } else if let Some(text) = node.text() {
                headers.push((name.to_owned(), of(node, text)));
            }
        }
    }
    fields.refuse("threading", "mails are not threaded", "leave it out");
    let timeout = fields.timeout();
    let (html, text) = (fields.text("html"), fields.text("text"));
    let require_tls = fields.section.opt("require_tls", values::switch).or(smtp.require_tls).unwrap_or(true);
    let implicit_tls = fields.section.opt("force_implicit_tls", values::switch).or(smtp.implicit_tls);
    let tls = fields.section.get("tls_config").map(|node| http::tls(&node, fields)).or_else(|| smtp.tls.clone()).unwrap_or_default();
    let send_resolved = fields.send_resolved(false);
    let (host, port) = place?;
    let implicit_tls = implicit_tls.unwrap_or(port == 465);
    let login = username.zip(password).map(|(user, password)| (user, password, identity));
    let mail = Mail { to: to?, from: from?, host, port, hello, login, headers, html, text, require_tls, implicit_tls, tls, timeout };
    Some((send_resolved, Kind::Mail(Box::new(mail))))
}

fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then_some((host.to_owned(), port.parse().ok().filter(|port| *port > 0)?))
}

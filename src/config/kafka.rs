//! What only a Kafka sink has, beside its brokers and its topic: which topics a template may lead to, the key, who sluice is and whom it trusts,
//! the schema registry. `config::sinks` has the rest; what librdkafka or the HTTP client alone can judge, `forward` checks.

use std::path::PathBuf;

use crate::config::read::Node;
use crate::config::read::Refusal;
use crate::config::read::Section;
use crate::config::remote_write;
use crate::config::remote_write::ClientTls;
use crate::config::remote_write::Login;
use crate::config::values;

/// Where a template may lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// Patterns with `*`; empty: every topic that the template gives.
    pub allow: Vec<String>,
    /// How many different ones.
    pub max: u64,
    /// Where rows go that have no other place.
    pub fallback: String,
}

/// What decides the partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// The series.
    Series,
    /// These labels.
    Labels(Vec<String>),
    /// Nothing.
    None,
}

/// How sluice shows who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sasl {
    /// By a name and a password.
    Password {
        /// Kafka's word for how.
        mechanism: Mechanism,
        /// The user.
        username: String,
        /// The file with the password, read again when it changes.
        password_file: PathBuf,
    },
    /// OAUTHBEARER, with the token in this file, which somebody else renews.
    TokenFile(PathBuf),
    /// OAUTHBEARER, with tokens from an authorization server.
    Client(OauthClient),
}

/// Who asks an authorization server for tokens (client credentials).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OauthClient {
    /// Where tokens are given.
    pub url: String,
    /// The client.
    pub id: String,
    /// The file with its secret.
    pub secret_file: PathBuf,
    /// What the token is to be good for.
    pub scope: Option<String>,
    /// Whom sluice trusts at that URL.
    pub tls: ClientTls,
}

/// Kafka's ways to check a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// In clear; within TLS only.
    Plain,
    /// SCRAM with SHA-256.
    ScramSha256,
    /// SCRAM with SHA-512.
    ScramSha512,
}

impl Mechanism {
    /// Kafka's word.
    pub fn word(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// A schema registry that speaks Confluent's API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// Where it is.
    pub url: String,
    /// How sluice shows who it is.
    pub login: Option<Login>,
    /// Whom it trusts there.
    pub tls: ClientTls,
    /// The subject instead of the topic's name and `-value`.
    pub subject: Option<String>,
    /// The schema is registered where it is not there.
    pub register: bool,
}

/// A topic's name, or a template for names (`metrics.{{datacenter}}`), which `forward` judges.
pub fn topic(text: &str) -> Result<String, Refusal> {
    if text.contains("{{") || text.contains("}}") { Ok(text.to_owned()) } else { values::topic(text) }
}

/// Reads `topics:`.
pub fn topics(section: &Section<'_>) -> Option<Topics> {
    let fallback = section.must("fallback", "write the topic for rows that have no other place: fallback: metrics.other", values::topic);
    let allow = section.get("allow").map(|node| texts(&node)).unwrap_or_default();
    let max = section.or("max", 20, values::number(1..=200));
    section.finish();
    Some(Topics { allow, max, fallback: fallback? })
}

/// Reads `key:`, which is a word or `{ labels: [...] }`.
pub fn key(node: &Node<'_>) -> Option<Key> {
    if let Some(section) = node.section_if_any() {
        let labels = section.get("labels").map(|node| labels(&node));
        section.finish();
        if labels.as_ref().is_none_or(Vec::is_empty) {
            node.complain("names no label", "for example: key: { labels: [instance] }");
        }
        return labels.map(Key::Labels);
    }
    node.value(|word| match word {
        "series" => Ok(Key::Series),
        "none" => Ok(Key::None),
        _ => Err(("must be series, none, or labels".into(), "for example: key: { labels: [instance] }".into())),
    })
}

fn texts(node: &Node<'_>) -> Vec<String> {
    node.list().iter().filter_map(|item| item.value(values::text)).collect()
}

fn labels(node: &Node<'_>) -> Vec<String> {
    node.list().iter().filter_map(|item| item.value(values::label)).collect()
}

/// Reads `sasl:`.
pub fn sasl(section: &Section<'_>) -> Option<Sasl> {
    #[derive(Clone, Copy)]
    enum Way {
        Password(Mechanism),
        Bearer,
    }
    let ways = values::one_of(&[
        ("PLAIN", Way::Password(Mechanism::Plain)),
        ("SCRAM-SHA-256", Way::Password(Mechanism::ScramSha256)),
        ("SCRAM-SHA-512", Way::Password(Mechanism::ScramSha512)),
        ("OAUTHBEARER", Way::Bearer),
    ]);
    let way = section.must("mechanism", "write mechanism: SCRAM-SHA-512, or what the brokers ask for", ways);
    for (wrong, right) in [("password", "password_file"), ("token", "token_file")] {
        if let Some(node) = section.get(wrong) {
            let remedy = format!("write {right}: the path of a file that holds it, for settings are shown by all nodes");
            node.complain_unshown("does not stand here", remedy);
        }
    }
    let sasl = match way {
        Some(Way::Password(mechanism)) => {
            let username = section.must("username", "write the user's name", values::text);
            let file = section.must("password_file", "write the path of a file that holds the password", remote_write::absolute);
            username.zip(file).map(|(username, password_file)| Sasl::Password { mechanism, username, password_file })
        }
        Some(Way::Bearer) => bearer(section),
        None => None,
    };
    section.finish();
    sasl
}

fn bearer(section: &Section<'_>) -> Option<Sasl> {
    let file = section.get("token_file");
    match (file, section.below("client")) {
        (Some(node), None) => node.value(remote_write::absolute).map(Sasl::TokenFile),
        (None, Some(client)) => {
            let url = client.must("url", "write where tokens are given: url: https://login.example/oauth2/token", values::url);
            let id = client.must("id", "write the client's id", values::text);
            let remedy = "write the path of a file that holds the client's secret";
            let secret_file = client.must("secret_file", remedy, remote_write::absolute);
            let scope = client.opt("scope", values::text);
            let tls = client.below("tls").map(|section| remote_write::tls(&section)).unwrap_or_default();
            client.finish();
            Some(Sasl::Client(OauthClient { url: url?, id: id?, secret_file: secret_file?, scope, tls }))
        }
        (Some(node), Some(_)) => {
            node.complain("is a second way to a token, beside client", "keep one of the two");
            None
        }
        (None, None) => {
            section.missing("token_file", "write token_file: the path of a file that holds a token, or client: { url, id, secret_file }");
            None
        }
    }
}

/// Reads `schema_registry:`.
pub fn registry(section: &Section<'_>) -> Option<Registry> {
    let url = section.must("url", "write where the registry is: url: https://registry.example:8081", values::url);
    let login = remote_write::login(section);
    let tls = section.below("tls").map(|section| remote_write::tls(&section)).unwrap_or_default();
    let subject = section.opt("subject", values::text);
    let register = section.or("register", true, values::switch);
    section.finish();
    Some(Registry { url: url?, login, tls, subject, register })
}

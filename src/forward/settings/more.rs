//! The rest of a Kafka sink's rules: its topics and keys, how it gets in, its schema registry, and what goes with which format only.

use crate::config::kafka as written;
use crate::config::remote_write::ClientTls;
use crate::forward::format::Format;
use crate::forward::remote_write::settings::Place;
use crate::forward::route::Key;
use crate::forward::route::Template;
use crate::forward::route::legal_topic;
use crate::forward::settings::Access;
use crate::forward::settings::KafkaDraft;
use crate::forward::settings::Problem;
use crate::forward::settings::RegistrySettings;
use crate::forward::settings::Routes;
use crate::forward::settings::Sasl;
use crate::model::tenant;

/// What was found good.
pub(super) struct More {
    pub access: Access,
    pub registry: Option<RegistrySettings>,
}

/// Properties that `tls` and `sasl` say, so that one thing is not said twice.
const SAID_BY_TLS: [&str; 7] = [
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.key.location",
    "ssl.key.pem",
    "ssl.keystore.location",
];
const SAID_BY_SASL: [&str; 4] = ["sasl.mechanism", "sasl.mechanisms", "sasl.username", "sasl.password"];

/// Checks; what is wrong goes to the problems.
pub(super) fn check(draft: &KafkaDraft, format: Format, problems: &mut Vec<Problem>) -> More {
    of_format(draft, format, problems);
    twice(draft, problems);
    if draft.tls.as_ref().is_some_and(|tls| tls.server_name.is_some()) {
        let rule = "a broker's certificate must have the name under which the broker is known to its clients";
        let remedy = "leave it out; properties: { ssl.endpoint.identification.algorithm: none } checks the authority only";
        problems.push(problem("tls.server_name", "", rule, remedy));
    }
    let sasl = draft.sasl.as_ref().and_then(|sasl| match sasl {
        written::Sasl::Password { mechanism, username, password_file } => {
            Some(Sasl::Password(*mechanism, username.clone(), password_file.clone()))
        }
        written::Sasl::TokenFile(file) => Some(Sasl::TokenFile(file.clone())),
        written::Sasl::Client(client) => {
            let place = place("sasl.client", &client.url, &client.tls, problems)?;
            Some(Sasl::Client(Box::new(client.clone()), place))
        }
    });
    let registry = draft.registry.as_ref().and_then(|registry| {
        let place = place("schema_registry", &registry.url, &registry.tls, problems)?;
        let written::Registry { url, login, subject, register, .. } = registry.clone();
        Some(RegistrySettings { url, place, login, subject, register })
    });
    More { access: Access { tls: draft.tls.clone(), sasl }, registry }
}

fn problem(key: &str, value: &str, rule: &str, remedy: &str) -> Problem {
    Problem { key: key.to_owned(), value: value.to_owned(), rule: rule.to_owned(), remedy: remedy.to_owned() }
}

fn place(section: &str, url: &str, tls: &ClientTls, problems: &mut Vec<Problem>) -> Option<Place> {
    let place = Place::of(url, tls).map_err(|wrong| Problem { key: format!("{section}.{}", wrong.key), ..wrong });
    place.map_err(|wrong| problems.push(wrong)).ok()
}

fn of_format(draft: &KafkaDraft, format: Format, problems: &mut Vec<Problem>) {
    let word = format.word();
    if draft.columns.is_some() && !format.has_columns() {
        problems.push(problem("columns", word, "only rows and row have columns", "leave them out: all labels are in every message"));
    }
    match (format, &draft.tenant) {
        (Format::Mimir, None) => {
            problems.push(problem(
                "tenant",
                "",
                "Mimir reads the tenant from a record's key",
                "write tenant: anonymous, or the tenant's id",
            ));
        }
        (Format::Mimir, Some(tenant)) if !tenant::legal(tenant) => {
            problems.push(problem("tenant", tenant, tenant::RULE, "write tenant: anonymous, or the tenant's id"));
        }
        (Format::Mimir, _) | (_, None) => {}
        (_, Some(tenant)) => problems.push(problem("tenant", tenant, "only mimir has a tenant", "leave it out, or write format: mimir")),
    }
    if draft.no_buckets && !format.has_columns() {
        let rule = "only rows and row can leave buckets out";
        problems.push(problem("histograms.buckets", word, rule, "leave it out, or write format: rows"));
    }
    if draft.pass_tenant && format != Format::Mimir {
        let remedy =
            "leave it out: a template has {{__tenant__}}, and a rule makes a label of it (docs/tenants.md); or write format: mimir";
        problems.push(problem("pass_tenant", "true", "only mimir has a place for it", remedy));
    }
    if draft.registry.is_some() && format != Format::Avro {
        problems.push(problem("schema_registry", word, "only avro has a schema", "leave it out, or write format: avro"));
    }
    if draft.key.is_some() && format == Format::Mimir {
        problems.push(problem("key", word, "the key of a record is the tenant", "leave it out: series are spread by their hash"));
    }
    let bearer = matches!(draft.sasl, Some(written::Sasl::TokenFile(_) | written::Sasl::Client(_)));
    if bearer && draft.create_topic.is_some() {
        let rule = "does not go with OAUTHBEARER: the client that makes topics takes no token";
        problems.push(problem("create_topic", "OAUTHBEARER", rule, "make the topic by hand: kafka-topics.sh --create --topic NAME"));
    }
}

/// What stands under `properties` and in a section of its own as well.
fn twice(draft: &KafkaDraft, problems: &mut Vec<Problem>) {
    let mut said = |names: &[&str], section: &str| {
        for name in names.iter().filter(|name| draft.properties.contains_key(**name)) {
            let rule = format!("`{section}` says it");
            problems.push(problem(&format!("properties.{name}"), "(not shown)", &rule, "leave it out"));
        }
    };
    if draft.tls.is_some() {
        said(&SAID_BY_TLS, "tls");
    }
    if draft.sasl.is_some() {
        said(&SAID_BY_SASL, "sasl");
    }
    if draft.tls.is_some() || draft.sasl.is_some() {
        said(&["security.protocol"], "tls and sasl");
    }
}

/// The topic of the position, and those of a template.
pub(super) fn topics(draft: &KafkaDraft, problems: &mut Vec<Problem>) -> (String, Option<Routes>) {
    let mut wrong = |key: &str, value: &str, rule: &str, remedy: &str| {
        problems.push(Problem { key: key.into(), value: value.into(), rule: rule.into(), remedy: remedy.into() });
    };
    const RULE: &str = "a topic has 1 to 249 letters, digits, dots, underscores and hyphens";
    if !Template::is_one(&draft.topic) {
        if !legal_topic(&draft.topic) {
            wrong("topic", &draft.topic, RULE, "write for instance metrics");
        }
        if draft.topics.is_some() {
            wrong(
                "topics",
                &draft.topic,
                "says where a template may lead, and topic is none",
                "leave topics out, or write topic: metrics.{{job}}",
            );
        }
        return (draft.topic.clone(), None);
    }
    let template = Template::parse(&draft.topic).map_err(|rule| wrong("topic", &draft.topic, &rule, "for example metrics.{{datacenter}}"));
    let Some(topics) = &draft.topics else {
        let remedy = "write topics: { fallback: metrics.other, allow: [\"metrics.*\"] }";
        wrong("topics", &draft.topic, "a template needs a topic for rows that have no other place", remedy);
        return (String::new(), None);
    };
    if !legal_topic(&topics.fallback) {
        wrong("topics.fallback", &topics.fallback, RULE, "write for instance metrics.other");
    }
    for pattern in &topics.allow {
        if !legal_topic(&pattern.replace('*', "x")) {
            wrong("topics.allow", pattern, "fits no topic", "a topic's name, in which * stands for anything");
        }
    }
    let max = usize::try_from(topics.max).unwrap_or(usize::MAX);
    (topics.fallback.clone(), template.ok().map(|template| Routes { template, allow: topics.allow.clone(), max }))
}

/// What decides the partition.
pub(super) fn key(draft: &KafkaDraft, problems: &mut Vec<Problem>) -> Key {
    match &draft.key {
        None | Some(written::Key::Series) => Key::Series,
        Some(written::Key::None) => Key::None,
        Some(written::Key::Labels(names)) => {
            let problem = |value: String, rule: &str| Problem {
                key: "key.labels".to_owned(),
                value,
                rule: rule.to_owned(),
                remedy: "for example: key: { labels: [instance] }".to_owned(),
            };
            if names.is_empty() || names.len() > 8 {
                problems.push(problem(names.join(", "), "between 1 and 8 labels"));
            }
            if let Some((_, twice)) = names.iter().enumerate().find(|(place, name)| names[..*place].contains(name)) {
                problems.push(problem(twice.clone(), "is named twice"));
            }
            Key::Labels(names.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::kafka::OauthClient;
    use crate::config::kafka::Topics;
    use crate::forward::settings::KafkaSettings;

    fn draft(format: &str) -> KafkaDraft {
        KafkaDraft { brokers: vec!["127.0.0.1:9092".into()], topic: "metrics".into(), format: Some(format.into()), ..KafkaDraft::default() }
    }

    fn with(mut draft: KafkaDraft, change: impl FnOnce(&mut KafkaDraft)) -> KafkaDraft {
        change(&mut draft);
        draft
    }

    fn properties(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[track_caller]
    fn keys(draft: &KafkaDraft) -> Vec<String> {
        KafkaSettings::check(draft).err().unwrap_or_default().into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn what_goes_with_one_format_only_is_told_for_the_others() {
        let none: [&str; 0] = [];
        assert_eq!(keys(&draft("avro")), none);
        assert_eq!(keys(&draft("mimir")), ["tenant"]);
        assert_eq!(keys(&with(draft("mimir"), |draft| draft.tenant = Some("nj1".into()))), none);
        assert_eq!(keys(&with(draft("rows"), |draft| draft.tenant = Some("nj1".into()))), ["tenant"]);
        assert_eq!(keys(&with(draft("avro"), |draft| draft.columns = Some(vec!["job".into()]))), ["columns"]);
        let registry =
            |url: &str| written::Registry { url: url.into(), login: None, tls: ClientTls::default(), subject: None, register: true };
        assert_eq!(keys(&with(draft("avro"), |draft| draft.registry = Some(registry("https://r:8081")))), none);
        assert_eq!(keys(&with(draft("row"), |draft| draft.registry = Some(registry("https://r:8081")))), ["schema_registry"]);
        let untrusting = |draft: &mut KafkaDraft| {
            draft.registry =
                Some(written::Registry { tls: ClientTls { ca_file: Some("/ca".into()), ..ClientTls::default() }, ..registry("http://r") });
        };
        assert_eq!(keys(&with(draft("avro"), untrusting)), ["schema_registry.tls"]);
        assert_eq!(KafkaSettings::check(&draft("remote-write")).unwrap().compression, "none");
        assert_eq!(
            KafkaSettings::check(&with(draft("remote-write"), |draft| draft.compression = Some("zstd".into()))).unwrap().compression,
            "zstd"
        );
    }

    #[test]
    fn one_thing_is_said_once() {
        let mut secured = draft("rows");
        secured.tls = Some(ClientTls { server_name: Some("kafka".into()), ..ClientTls::default() });
        secured.sasl = Some(written::Sasl::TokenFile("/token".into()));
        secured.create_topic = Some(crate::forward::settings::CreateTopic { partitions: 1, replication: 1 });
        secured.properties = properties(&[("ssl.ca.location", "/ca"), ("sasl.username", "u"), ("security.protocol", "SSL")]);
        assert_eq!(
            keys(&secured),
            ["create_topic", "properties.ssl.ca.location", "properties.sasl.username", "properties.security.protocol", "tls.server_name"]
        );
        let client =
            OauthClient { url: "ftp://x".into(), id: "i".into(), secret_file: "/s".into(), scope: None, tls: ClientTls::default() };
        let mut client = with(draft("rows"), |draft| draft.sasl = Some(written::Sasl::Client(client)));
        assert!(KafkaSettings::check(&client).is_ok(), "the scheme is judged by config");
        if let Some(written::Sasl::Client(client)) = &mut client.sasl {
            client.url = "https://".into();
        }
        assert_eq!(keys(&client), ["sasl.client.url"]);
    }

    #[test]
    fn templates_keys_and_patterns_are_judged() {
        let topics = |allow: &str, fallback: &str| Some(Topics { allow: vec![allow.into()], max: 5, fallback: fallback.into() });
        assert_eq!(keys(&with(draft("rows"), |draft| draft.topic = "m.{{job}}".into())), ["topics"]);
        assert_eq!(keys(&with(draft("rows"), |draft| draft.topics = topics("m.*", "other"))), ["topics"]);
        let wrong = with(draft("rows"), |draft| (draft.topic, draft.topics) = ("m.{{job".into(), topics("m/*", "a b")));
        assert_eq!(keys(&wrong), ["topic", "topics.fallback", "topics.allow"]);
        let right = with(draft("rows"), |draft| (draft.topic, draft.topics) = ("m.{{job}}".into(), topics("m.*", "other")));
        let settings = KafkaSettings::check(&right).unwrap();
        assert_eq!((settings.topic.as_str(), settings.shown_topic()), ("other", "m.{{job}}"));
        let keyed = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            keys(&with(draft("row"), |draft| draft.key = Some(written::Key::Labels(names))))
        };
        assert_eq!(
            (keyed(&[]), keyed(&["a", "a"]), keyed(&["a"])),
            (vec!["key.labels".to_owned()], vec!["key.labels".to_owned()], Vec::new())
        );
    }

    #[test]
    fn properties_that_run_code_or_do_not_go_together_are_refused() {
        for name in ["plugin.library.paths", "ssl.engine.location", "sasl.kerberos.kinit.cmd", "sasl.oauthbearer.method"] {
            let problems = KafkaSettings::check(&with(draft("rows"), |draft| draft.properties = properties(&[(name, "x")]))).unwrap_err();
            assert!(problems[0].key.ends_with(name) && problems[0].rule.starts_with("is not to be set"), "{problems:?}");
        }
        let together = with(draft("rows"), |draft| draft.properties = properties(&[("max.in.flight.requests.per.connection", "100")]));
        let problems = KafkaSettings::check(&together).unwrap_err();
        assert!(problems[0].key == "properties" && problems[0].rule.contains("max.in.flight"), "{problems:?}");
        let fine = with(draft("rows"), |draft| {
            draft.properties = properties(&[("linger.ms", "50"), ("client.id", "own"), ("ssl.ca.location", "/not/here")])
        });
        assert!(KafkaSettings::check(&fine).is_ok());
    }
}

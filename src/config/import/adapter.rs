//! The environment of prometheus-kafka-adapter (1.9), as a file of `NAME=value` lines or as it is around a process: one sink that writes the same messages.
//!
//! Names and defaults are those of its README and its config.go. What it does otherwise than sluice (it answers before Kafka has anything, spreads a series over
//! partitions, takes both replicas of a pair) stands in no variable and is told all the same.

use crate::config::import;
use crate::config::import::Content;
use crate::config::import::Input;
use crate::config::import::draft::Draft;
use crate::config::import::draft::Said;
use crate::config::import::draft::list;
use crate::config::import::draft::quoted;
use crate::config::read::Problem;
use crate::config::tree;
use crate::config::tree::Value;
use crate::config::values;

/// All variables that it reads.
pub const VARIABLES: [&str; 20] = [
    "BASIC_AUTH_PASSWORD",
    "BASIC_AUTH_USERNAME",
    "GIN_MODE",
    "KAFKA_ACKS",
    "KAFKA_BATCH_NUM_MESSAGES",
    "KAFKA_BROKER_LIST",
    "KAFKA_COMPRESSION",
    "KAFKA_SASL_MECHANISM",
    "KAFKA_SASL_PASSWORD",
    "KAFKA_SASL_USERNAME",
    "KAFKA_SECURITY_PROTOCOL",
    "KAFKA_SSL_CA_CERT_FILE",
    "KAFKA_SSL_CLIENT_CERT_FILE",
    "KAFKA_SSL_CLIENT_KEY_FILE",
    "KAFKA_SSL_CLIENT_KEY_PASS",
    "KAFKA_TOPIC",
    "LOG_LEVEL",
    "MATCH",
    "PORT",
    "SERIALIZATION_FORMAT",
];

/// A variable and its line; 0 in an environment.
struct Variable {
    line: usize,
    name: String,
    value: String,
}

impl Variable {
    fn said(&self) -> Said {
        Said::new(self.line, &self.name, &self.value)
    }

    fn unshown(&self) -> Said {
        Said::new(self.line, &self.name, "")
    }
}

struct Environment(Vec<Variable>);

impl Environment {
    /// The variable, unless it is empty, which counts as not there; of several the last.
    fn get(&self, name: &str) -> Option<&Variable> {
        self.0.iter().rfind(|variable| variable.name == name).filter(|variable| !variable.value.is_empty())
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(|variable| variable.value.as_str())
    }
}

/// Reads one.
pub fn import(input: &Input, draft: &mut Draft) -> Result<(), Vec<Problem>> {
    let environment = Environment(read(&input.content)?);
    let known = |variable: &&Variable| VARIABLES.contains(&variable.name.as_str());
    if !environment.0.iter().any(|variable| known(&variable)) {
        let remedy = "is it prometheus-kafka-adapter's? Its variables are KAFKA_BROKER_LIST, KAFKA_TOPIC ...";
        return Err(vec![import::wrong(0, "(the environment)", "holds no variable of prometheus-kafka-adapter", remedy)]);
    }
    let mut lines = vec!["kafka:".to_owned()];
    let mut problems = Vec::new();
    brokers(&environment, &mut lines, draft).unwrap_or_else(|problem| problems.push(problem));
    topic(&environment, &mut lines, draft);
    format(&environment, &mut lines, draft);
    packing(&environment, &mut lines, draft).unwrap_or_else(|mut found| problems.append(&mut found));
    security(&environment, &mut lines, draft);
    selection(&environment, &mut lines, draft).unwrap_or_else(|problem| problems.push(problem));
    if !problems.is_empty() {
        return Err(problems);
    }
    draft.sink("kafka-adapter", lines);
    door(&environment, draft);
    for variable in environment.0.iter().filter(|variable| !known(variable)) {
        draft.missing(
            &variable.unshown(),
            "is no variable of prometheus-kafka-adapter that is known here",
            "it may belong to something else in the same environment",
        );
    }
    for variable in &environment.0 {
        if !draft.has_told(&variable.unshown()) {
            draft.missing(&variable.unshown(), "is empty, or said again further down: it has no effect", "");
        }
    }
    silent(draft);
    Ok(())
}

fn read(content: &Content) -> Result<Vec<Variable>, Vec<Problem>> {
    let text = match content {
        Content::Text(text) => text,
        Content::Variables(pairs) => {
            return Ok(pairs.iter().map(|(name, value)| Variable { line: 0, name: name.clone(), value: value.clone() }).collect());
        }
        Content::Words(_) => return Err(vec![import::wrong(0, "(the input)", "is no environment", "name a file of NAME=value lines")]),
    };
    let (mut variables, mut problems) = (Vec::new(), Vec::new());
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let pair = line.strip_prefix("export ").unwrap_or(line).split_once('=');
        match pair.filter(|(name, _)| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')) {
            Some((name, value)) => {
                variables.push(Variable { line: at + 1, name: name.to_owned(), value: unquoted(value.trim()).to_owned() })
            }
            None => {
                problems.push(import::wrong(at + 1, "(this line)", "is no NAME=value", "write one variable a line, as `env` prints them"))
            }
        }
    }
    if problems.is_empty() { Ok(variables) } else { Err(problems) }
}

fn unquoted(value: &str) -> &str {
    let within = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    within('"').or_else(|| within('\'')).unwrap_or(value)
}

fn brokers(environment: &Environment, lines: &mut Vec<String>, draft: &mut Draft) -> Result<(), Problem> {
    let named = environment.get("KAFKA_BROKER_LIST");
    let mut brokers = Vec::new();
    for broker in named.map_or("kafka:9092", |variable| &variable.value).split(',').map(str::trim).filter(|one| !one.is_empty()) {
        let broker = broker.split_once("://").map_or(broker, |(_, rest)| rest);
        // As librdkafka: 9092 where no port is written.
        let broker = if broker.contains(':') { broker.to_owned() } else { format!("{broker}:9092") };
        let broker = values::host_port(&broker).map_err(|(rule, remedy)| {
            let line = named.map_or(0, |variable| variable.line);
            Problem { line, key: "KAFKA_BROKER_LIST".to_owned(), value: broker, rule, remedy }
        })?;
        brokers.push(broker);
    }
    lines.push(format!("  brokers: {}", list(&brokers)));
    match named {
        Some(variable) => draft.taken(&variable.said(), "kafka.brokers"),
        None => draft.taken(&Said::new(0, "KAFKA_BROKER_LIST", ""), "kafka.brokers: kafka:9092, the adapter's default"),
    }
    Ok(())
}

fn topic(environment: &Environment, lines: &mut Vec<String>, draft: &mut Draft) {
    let Some(variable) = environment.get("KAFKA_TOPIC") else {
        lines.push("  topic: metrics".to_owned());
        draft.taken(&Said::new(0, "KAFKA_TOPIC", ""), "kafka.topic: metrics, the adapter's default");
        return;
    };
    if !variable.value.contains("{{") {
        lines.push(format!("  topic: {}", quoted(&variable.value)));
        draft.taken(&variable.said(), "kafka.topic");
        return;
    }
    match template(&variable.value) {
        Ok(ours) => {
            let fallback = fallback(&ours);
            lines.push(format!("  topic: {}", quoted(&ours)));
            lines.push(format!(
                "  topics: {{ fallback: {}, max: 200 }}   # rows without these labels go to the fallback",
                quoted(&fallback)
            ));
            let text = format!("kafka.topic: {ours}; a label that is not there leads to {fallback}, and so does the 201st topic");
            draft.different(
                &variable.said(),
                text,
                "choose topics.fallback, name the topics that are meant under topics.allow, and let them exist",
            );
        }
        Err(piece) => {
            lines.push("  topic: metrics   # to be mended: the adapter's was a template that sluice has not".to_owned());
            let text =
                format!("{{{{{piece}}}}} calls a function; sluice's templates hold labels alone. topic: metrics stands in its place");
            let remedy = "make the label with relabel_configs of the sink, and write topic: \"metrics.{{that_label}}\" (docs/sinks.md)";
            draft.missing(&variable.said(), text, remedy);
        }
    }
}

/// Go's template as sluice's: `{{ index . "job" }}` and `{{ .job }}` become `{{job}}`. Else the piece that is neither.
fn template(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (piece, behind) = after.split_once("}}").ok_or_else(|| after.to_owned())?;
        let words = piece.trim().trim_matches('-').trim();
        let indexed = words.strip_prefix("index").map(str::trim_start).and_then(|rest| rest.strip_prefix('.')).map(str::trim);
        let name = indexed.map(|name| unquoted(name).trim_matches('`')).or_else(|| words.strip_prefix('.'));
        let is_label = |name: &&str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let name = name.filter(is_label).ok_or_else(|| piece.to_owned())?;
        out.push_str(&format!("{before}{{{{{name}}}}}"));
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

/// What stands before the first label, with a word of its own.
fn fallback(template: &str) -> String {
    let before = template.split("{{").next().unwrap_or_default();
    if before.is_empty() { "metrics.other".to_owned() } else { format!("{before}other") }
}

fn format(environment: &Environment, lines: &mut Vec<String>, draft: &mut Draft) {
    lines.push(
        "  format: adapter             # byte for byte what it sent; rows carry milliseconds, numbers and keys: docs/rows.md".to_owned(),
    );
    let Some(variable) = environment.get("SERIALIZATION_FORMAT") else { return };
    match variable.value.as_str() {
        "json" => draft.taken(&variable.said(), "kafka.format: adapter"),
        "avro-json" => {
            let text =
                "kafka.format: adapter: the same four fields as JSON, which is what Avro's JSON of this schema is; their order may differ";
            draft.different(&variable.said(), text, "whoever reads Avro in binary: format: avro, another schema (docs/rows.md)");
        }
        _ => draft.taken(&variable.said(), "kafka.format: adapter; the adapter does not know the word either, and wrote json"),
    }
}

fn packing(environment: &Environment, lines: &mut Vec<String>, draft: &mut Draft) -> Result<(), Vec<Problem>> {
    let mut problems = Vec::new();
    let compression = environment.value("KAFKA_COMPRESSION").unwrap_or("none").to_lowercase();
    if ["none", "gzip", "snappy", "lz4", "zstd"].contains(&compression.as_str()) {
        lines.push(format!("  compression: {compression}"));
        let text = format!("kafka.compression: {compression}");
        draft.taken(&environment.get("KAFKA_COMPRESSION").map_or(Said::new(0, "KAFKA_COMPRESSION", ""), Variable::said), text);
    } else if let Some(variable) = environment.get("KAFKA_COMPRESSION") {
        let rule = format!("{}: must be one of none, gzip, snappy, lz4, zstd", variable.value);
        problems.push(import::wrong(variable.line, &variable.name, rule, "librdkafka knows no other"));
    }
    if let Some(variable) = environment.get("KAFKA_BATCH_NUM_MESSAGES") {
        match variable.value.parse::<u32>() {
            Ok(10_000) => draft.taken(&variable.said(), "kafka.properties batch.num.messages: sluice's default"),
            Ok(number @ 1..=1_000_000) => {
                lines.push(format!("  properties: {{ batch.num.messages: {number} }}"));
                draft.taken(&variable.said(), "kafka.properties: { batch.num.messages }");
            }
            _ => {
                let rule = format!("{}: must be a number, 1 to 1000000", variable.value);
                problems.push(import::wrong(variable.line, &variable.name, rule, "as librdkafka has it"));
            }
        }
    }
    match environment.get("KAFKA_ACKS") {
        Some(variable) if matches!(variable.value.as_str(), "all" | "-1") => draft.taken(&variable.said(), "acks=all, always"),
        Some(variable) => draft.different(&variable.said(), "acks=all, always: anything else loses rows when a broker dies", ""),
        None => {}
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn security(environment: &Environment, lines: &mut Vec<String>, draft: &mut Draft) {
    let protocol = environment.value("KAFKA_SECURITY_PROTOCOL").unwrap_or_default().to_lowercase();
    let mut tls = Vec::new();
    let pair = ["KAFKA_SSL_CLIENT_CERT_FILE", "KAFKA_SSL_CLIENT_KEY_FILE"].map(|name| environment.get(name));
    let both = pair.iter().all(Option::is_some);
    for (name, key) in
        [("KAFKA_SSL_CA_CERT_FILE", "ca_file"), ("KAFKA_SSL_CLIENT_CERT_FILE", "cert_file"), ("KAFKA_SSL_CLIENT_KEY_FILE", "key_file")]
    {
        let Some(variable) = environment.get(name) else { continue };
        if key != "ca_file" && !both {
            draft.missing(
                &variable.said(),
                "is half of a pair; a certificate and its key go together",
                "write both cert_file and key_file",
            );
        } else if !variable.value.starts_with('/') {
            let text = "is no whole path, and sinks are the same on all nodes; it is left out";
            draft.missing(&variable.said(), text, &format!("write kafka.tls.{key}: the whole path"));
        } else {
            tls.push(format!("{key}: {}", quoted(&variable.value)));
            draft.taken(&variable.said(), format!("kafka.tls.{key}"));
        }
    }
    if let Some(variable) = environment.get("KAFKA_SSL_CLIENT_KEY_PASS") {
        let remedy =
            "take the password off: openssl pkey -in KEY -out KEY.plain, readable by the user that runs sluice alone, and name that file";
        draft.missing(&variable.unshown(), "sluice reads keys without a password", remedy);
    }
    if let Some(variable) = environment.get("KAFKA_SECURITY_PROTOCOL") {
        match protocol.as_str() {
            "plaintext" | "ssl" | "sasl_plaintext" | "sasl_ssl" => {
                draft.taken(&variable.said(), "whether kafka.tls and kafka.sasl are there")
            }
            _ => draft.missing(
                &variable.said(),
                "must be plaintext, ssl, sasl_plaintext or sasl_ssl",
                "write kafka.tls and kafka.sasl by hand",
            ),
        }
    }
    if !tls.is_empty() || protocol.ends_with("ssl") {
        lines.push(format!("  tls: {{ {} }}", tls.join(", ")).replace("{  }", "{}"));
    }
    sasl(environment, lines, draft);
}

fn sasl(environment: &Environment, lines: &mut Vec<String>, draft: &mut Draft) {
    let names = ["KAFKA_SASL_MECHANISM", "KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD"];
    let [mechanism, user, password] = names.map(|name| environment.get(name));
    let said = |variable: &Variable| if variable.name.ends_with("PASSWORD") { variable.unshown() } else { variable.said() };
    match (mechanism, user, password) {
        (None, None, None) => {}
        (Some(way), Some(user), Some(password))
            if ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"].contains(&way.value.to_uppercase().as_str()) =>
        {
            let file = draft.secret(&password.unshown(), "kafka-adapter.password", &password.value);
            let (way_word, name) = (way.value.to_uppercase(), quoted(&user.value));
            lines.push(format!("  sasl: {{ mechanism: {way_word}, username: {name}, password_file: {} }}", quoted(&file)));
            draft.taken(&way.said(), "kafka.sasl.mechanism");
            draft.taken(&user.said(), "kafka.sasl.username");
        }
        (way, user, password) => {
            let remedy = "write kafka.sasl: mechanism PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512 with username and password_file, or OAUTHBEARER (docs/configuration.md)";
            let text = "a mechanism that is served, a user and a password go together; sasl is left out";
            [way, user, password].into_iter().flatten().for_each(|variable| draft.missing(&said(variable), text, remedy));
        }
    }
}

/// `MATCH`: a list of metrics, with or without labels, of which a series must be one. PromQL's selectors say the same.
fn selection(environment: &Environment, lines: &mut Vec<String>, draft: &mut Draft) -> Result<(), Problem> {
    let Some(variable) = environment.get("MATCH") else { return Ok(()) };
    let broken = || {
        let remedy = "as MATCH='[\"up\", \"node_cpu_seconds_total{mode=\\\"idle\\\"}\"]'";
        import::wrong(variable.line, "MATCH", "is no list of metrics in YAML", remedy)
    };
    let tree = tree::parse(&variable.value).map_err(|_| broken())?;
    let Value::List(items) = tree.value else { return Err(broken()) };
    let selectors: Option<Vec<String>> = items
        .into_iter()
        .map(|item| match item.value {
            Value::Scalar(text) => Some(text.trim().to_owned()),
            Value::Empty | Value::List(_) | Value::Pairs(_) => None,
        })
        .collect();
    let selectors = selectors.ok_or_else(broken)?;
    if !selectors.is_empty() {
        lines.push(format!("match: {}", list(&selectors)));
    }
    draft.taken(&variable.said(), format!("match: {} selectors", selectors.len()));
    Ok(())
}

/// Where it listens, who is let in, what it says.
fn door(environment: &Environment, draft: &mut Draft) {
    if let Some(variable) = environment.get("PORT") {
        draft.listen(&variable.said(), format!(":{}", variable.value));
    }
    let remedy = "`sluice token create NAME`; in the sender's basic_auth any user, and the token as the password, or authorization";
    for name in ["BASIC_AUTH_USERNAME", "BASIC_AUTH_PASSWORD"] {
        if let Some(variable) = environment.get(name) {
            draft.different(&variable.unshown(), "senders show tokens of sluice's own, each its own, which it makes itself", remedy);
        }
    }
    if let Some(variable) = environment.get("LOG_LEVEL") {
        match variable.value.to_lowercase().as_str() {
            level @ ("error" | "info" | "debug") => draft.logging(&variable.said(), "level", level),
            "warn" | "warning" => draft.logging(&variable.said(), "level", "warn"),
            "trace" => draft.logging(&variable.said(), "level", "debug"),
            "fatal" | "panic" => draft.logging(&variable.said(), "level", "error"),
            _ => draft.missing(&variable.said(), "is no level; the adapter wrote info, as sluice does", ""),
        }
    }
    if let Some(variable) = environment.get("GIN_MODE") {
        draft.missing(&variable.said(), "there is no such mode", "");
    }
}

/// What stands in no variable.
fn silent(draft: &mut Draft) {
    let whole = Said::whole();
    draft.different(&whole, "senders write to /api/v1/write instead of /receive", "change url: of remote_write in each Prometheus");
    draft.different(
        &whole,
        "a pair of Prometheus is one stream: each sample once, where the adapter wrote both replicas'",
        "give each pair external_labels that say which it is (docs/senders.md)",
    );
    draft.different(
        &whole,
        "rows and position go in one Kafka transaction; the adapter answered before Kafka had anything",
        "the user needs rights to transactional ids (docs/kafka.md), or delivery: at_least_once; readers: isolation.level=read_committed",
    );
    draft.different(
        &whole,
        "the topic must exist, and partitions go by the series' hash; the adapter spread each series over all of them",
        "let it exist, or write create_topic",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_of_labels_are_taken_and_others_are_named() {
        assert_eq!(template("metrics.{{ index . \"__name__\" }}").unwrap(), "metrics.{{__name__}}");
        assert_eq!(template("{{.job}}-{{ index . `dc` }}").unwrap(), "{{job}}-{{dc}}");
        assert_eq!(template("m.{{ index . \"job\" | replace \"a\" \"b\" }}").unwrap_err(), " index . \"job\" | replace \"a\" \"b\" ");
        assert!(template("m.{{ .job").is_err());
        assert_eq!(fallback("metrics.{{job}}"), "metrics.other");
    }
}

//! vmagent's flags: a sink for each `-remoteWrite.url`, with its relabelling, login and budget; the listener; limits.
//!
//! Flags with several values follow vmagent's own rule: one value is for all URLs, of several the first is for the first URL and so on. What vmagent does beside passing samples on
//! (scraping, aggregating, taking other protocols) has no counterpart here; `elsewhere` knows these flags and what becomes of each.

mod elsewhere;

use std::path::Path;

use crate::config::import;
use crate::config::import::Around;
use crate::config::import::Input;
use crate::config::import::draft::Draft;
use crate::config::import::draft::Said;
use crate::config::import::draft::list;
use crate::config::import::draft::quoted;
use crate::config::import::flags;
use crate::config::import::flags::Flag;
use crate::config::import::rules;
use crate::config::read::Problem;
use crate::config::values;

/// Flags that are read below.
const HANDLED: [&str; 34] = [
    "httpListenAddr",
    "loggerFormat",
    "loggerLevel",
    "maxInsertRequestSize",
    "maxLabelNameLen",
    "maxLabelValueLen",
    "maxLabelsPerTimeseries",
    "remoteWrite.basicAuth.password",
    "remoteWrite.basicAuth.passwordFile",
    "remoteWrite.basicAuth.username",
    "remoteWrite.bearerToken",
    "remoteWrite.bearerTokenFile",
    "remoteWrite.forcePromProto",
    "remoteWrite.forceVMProto",
    "remoteWrite.headers",
    "remoteWrite.label",
    "remoteWrite.maxDiskUsagePerURL",
    "remoteWrite.maxRowsPerBlock",
    "remoteWrite.multitenantURL",
    "remoteWrite.relabelConfig",
    "remoteWrite.sendTimeout",
    "remoteWrite.streamAggr.dropInputLabels",
    "remoteWrite.tlsCAFile",
    "remoteWrite.tlsCertFile",
    "remoteWrite.tlsInsecureSkipVerify",
    "remoteWrite.tlsKeyFile",
    "remoteWrite.tlsServerName",
    "remoteWrite.url",
    "remoteWrite.urlRelabelConfig",
    "streamAggr.dedupInterval",
    "streamAggr.dropInputLabels",
    "tls",
    "tlsCertFile",
    "tlsKeyFile",
];

/// All flags.
struct Flags(Vec<Flag>);

impl Flags {
    /// The values of a list flag, each with its flag.
    fn all(&self, name: &str) -> Vec<Flag> {
        let named = self.0.iter().filter(|flag| flag.name == name);
        named.flat_map(|flag| flags::members(&flag.value).into_iter().map(|value| Flag { value, ..flag.clone() })).collect()
    }

    /// What a list flag says for this URL.
    fn of(&self, name: &str, url: usize) -> Option<Flag> {
        let all = self.all(name);
        let found = if all.len() == 1 { all.first() } else { all.get(url) };
        found.filter(|flag| !flag.value.is_empty()).cloned()
    }

    /// A flag with one value; of several the last.
    fn one(&self, name: &str) -> Option<&Flag> {
        self.0.iter().rfind(|flag| flag.name == name).filter(|flag| !flag.value.is_empty())
    }
}

/// Reads them.
pub fn import(input: &Input, around: &Around<'_>, draft: &mut Draft) -> Result<(), Vec<Problem>> {
    let flags = Flags(flags::read(&input.content)?);
    let mut urls = flags.all("remoteWrite.url");
    let several = urls.len();
    urls.extend(flags.all("remoteWrite.multitenantURL"));
    if urls.is_empty() {
        let remedy = "vmagent does not start without one; name its whole command line";
        return Err(vec![import::wrong(0, "-remoteWrite.url", "is missing", remedy)]);
    }
    let mut problems = Vec::new();
    let global = rules_of(flags.one("remoteWrite.relabelConfig"), around, draft, &mut problems);
    for (index, url) in urls.iter().enumerate() {
        let Some(mut lines) = target(&flags, (index, url), index >= several, draft, &mut problems) else { continue };
        lines.extend(budget(&flags, index, draft));
        let mut rules = global.clone();
        rules.extend(rules_of(flags.of("remoteWrite.urlRelabelConfig", index).as_ref(), around, draft, &mut problems));
        rules.extend(labels(&flags, index == 0, draft, &mut problems));
        if !rules.is_empty() {
            lines.push("relabel_configs:".to_owned());
            lines.extend(rules.iter().map(|rule| format!("  {rule}")));
            if rules.iter().all(|rule| rule.starts_with('#')) {
                lines.push("  []".to_owned());
            }
        }
        let name = draft.sink("vmagent", lines);
        draft.taken(&Said { value: without_login(&url.value), ..url.said() }, format!("sink {name}"));
    }
    node(&flags, draft);
    pairs(&flags, draft);
    for flag in flags.0.iter().filter(|flag| !HANDLED.contains(&flag.name.as_str())) {
        elsewhere::tell(flag, draft);
    }
    for flag in &flags.0 {
        if flag.value.contains("%{") {
            let text = "%{NAME} is filled in from vmagent's environment; here it stands as it is written";
            draft.different(&flag.unshown(), text, "write what it stands for in its place");
        }
        if !draft.has_told(&flag.unshown()) {
            draft.missing(&flag.unshown(), "has no effect beside the others, or is the default", "");
        }
    }
    silent(draft);
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// A URL as it may be shown.
fn without_login(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{}", path.split('?').next().unwrap_or_default())
        }
        None => url.to_owned(),
    }
}

/// The lines of what a sink writes to; none where it cannot.
fn target(
    flags: &Flags,
    (index, url): (usize, &Flag),
    tenants: bool,
    draft: &mut Draft,
    problems: &mut Vec<Problem>,
) -> Option<Vec<String>> {
    match url.value.split_once("://").map(|(scheme, _)| scheme) {
        Some("http" | "https") => store(flags, (index, url), tenants, draft, problems),
        Some("kafka") => kafka(flags, (index, url), draft, problems),
        Some(scheme @ ("gcppubsub" | "pubsub" | "nats")) => {
            draft.missing(
                &url.said(),
                format!("sluice does not write to {scheme}"),
                "keep a vmagent for it, and write to that by a sink remote_write",
            );
            None
        }
        _ => {
            let remedy = "vmagent takes http://, https:// and kafka://";
            problems.push(import::wrong(
                url.line,
                "-remoteWrite.url",
                format!("{}: is no URL of a store", without_login(&url.value)),
                remedy,
            ));
            None
        }
    }
}

/// A store.
fn store(
    flags: &Flags,
    (index, url): (usize, &Flag),
    tenants: bool,
    draft: &mut Draft,
    problems: &mut Vec<Problem>,
) -> Option<Vec<String>> {
    let mut lines = vec!["remote_write:".to_owned()];
    let mut address = without_credentials(&url.value);
    if tenants {
        address = format!("{}/insert/{{{{__tenant__}}}}/prometheus/api/v1/write", address.trim_end_matches('/'));
    }
    match values::url(&address) {
        Ok(address) => lines.push(format!("  url: {}", quoted(&address))),
        Err((rule, remedy)) => {
            problems.push(import::wrong(url.line, "-remoteWrite.url", format!("{}: {rule}", without_login(&url.value)), &remedy));
            return None;
        }
    }
    if tenants {
        lines.push("  tenant: \"0\"   # of samples that have none".to_owned());
    }
    if let Some(flag) = flags.of("remoteWrite.forceVMProto", index).filter(|flag| flag.value == "true") {
        lines.push("  compression: zstd   # VictoriaMetrics' dialect".to_owned());
        draft.taken(&flag.said(), "remote_write.compression: zstd");
    }
    if let Some(flag) = flags.of("remoteWrite.forcePromProto", index) {
        draft.taken(&flag.said(), "remote_write.compression: snappy, which is the default");
    }
    login(flags, (index, url), &mut lines, draft);
    headers(flags, index, &mut lines, draft);
    tls(flags, index, &mut lines, draft);
    if let Some(flag) = flags.one("remoteWrite.sendTimeout") {
        match values::duration(&flag.value) {
            Ok(span) if (1..=300).contains(&span.as_secs()) => {
                lines.push(format!("  timeout: {}", values::shown_duration(span)));
                draft.taken(&flag.said(), "remote_write.timeout");
            }
            _ => draft.missing(&flag.said(), "a timeout is 1s to 5m; 30s is the default", "write remote_write.timeout"),
        }
    }
    if let Some(flag) = flags.one("remoteWrite.maxRowsPerBlock") {
        match flag.value.parse::<u64>() {
            Ok(rows @ 1..=100_000) => {
                lines.push(format!("  samples_per_request: {rows}"));
                draft.taken(&flag.said(), "remote_write.samples_per_request");
            }
            _ => draft.missing(
                &flag.said(),
                "samples of a request are 1 to 100000; 5000 is the default",
                "write remote_write.samples_per_request",
            ),
        }
    }
    Some(lines)
}

/// A URL without user and password.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    format!("{scheme}://{}{path}", authority.rsplit_once('@').map_or(authority, |(_, host)| host))
}

/// Who vmagent says that it is, by flags or within the URL.
fn login(flags: &Flags, (index, url): (usize, &Flag), lines: &mut Vec<String>, draft: &mut Draft) {
    let number = index + 1;
    let rest = url.value.split_once("://").map_or("", |(_, rest)| rest);
    let inside =
        rest.split(['/', '?']).next().and_then(|authority| authority.rsplit_once('@')).and_then(|(login, _)| login.split_once(':'));
    let user = flags.of("remoteWrite.basicAuth.username", index);
    let password = flags.of("remoteWrite.basicAuth.password", index);
    let password_file = flags.of("remoteWrite.basicAuth.passwordFile", index);
    if let Some(user) = &user {
        let file = match (&password_file, &password) {
            (Some(file), _) => whole(file, draft, "basic_auth.password_file"),
            (None, Some(password)) => Some(draft.secret(&password.unshown(), &format!("vmagent-{number}.password"), &password.value)),
            (None, None) => None,
        };
        match file {
            Some(file) => {
                lines.push(format!("  basic_auth: {{ username: {}, password_file: {} }}", quoted(&user.value), quoted(&file)));
                draft.taken(&user.said(), "remote_write.basic_auth");
            }
            None => draft.missing(
                &user.said(),
                "has no password that can be named",
                "write remote_write.basic_auth: username and password_file",
            ),
        }
        return;
    }
    if let Some((user, password)) = inside {
        let file = draft.secret(&url.unshown(), &format!("vmagent-{number}.password"), password);
        lines.push(format!("  basic_auth: {{ username: {}, password_file: {} }}", quoted(user), quoted(&file)));
        return;
    }
    let token_file = flags.of("remoteWrite.bearerTokenFile", index);
    let file = match (&token_file, flags.of("remoteWrite.bearerToken", index)) {
        (Some(file), _) => whole(file, draft, "bearer_token_file"),
        (None, Some(token)) => Some(draft.secret(&token.unshown(), &format!("vmagent-{number}.token"), &token.value)),
        (None, None) => None,
    };
    lines.extend(file.map(|file| format!("  bearer_token_file: {}", quoted(&file))));
}

/// The path that a flag names, which must be a whole one.
fn whole(flag: &Flag, draft: &mut Draft, key: &str) -> Option<String> {
    if Path::new(&flag.value).is_absolute() {
        draft.taken(&flag.said(), key);
        return Some(flag.value.clone());
    }
    let text = "is no whole path, and sinks are the same on all nodes; it is left out";
    draft.missing(&flag.said(), text, &format!("write {key}: the whole path"));
    None
}

fn headers(flags: &Flags, index: usize, lines: &mut Vec<String>, draft: &mut Draft) {
    let Some(flag) = flags.of("remoteWrite.headers", index) else { return };
    let mut pairs = Vec::new();
    for header in flag.value.split("^^").filter(|header| !header.is_empty()) {
        let Some((name, value)) = header.split_once(':') else { continue };
        if name.trim().eq_ignore_ascii_case("authorization") {
            let remedy = "write bearer_token_file or basic_auth, so that the secret stays out of the settings";
            draft.missing(&flag.unshown(), "Authorization is no header that is written here; it is left out", remedy);
            continue;
        }
        pairs.push(format!("{}: {}", quoted(name.trim()), quoted(value.trim())));
    }
    if !pairs.is_empty() {
        lines.push(format!("  headers: {{ {} }}", pairs.join(", ")));
        draft.taken(&flag.unshown(), format!("remote_write.headers: {} of them", pairs.len()));
    }
}

fn tls(flags: &Flags, index: usize, lines: &mut Vec<String>, draft: &mut Draft) {
    let mut pairs = Vec::new();
    let named = ["remoteWrite.tlsCertFile", "remoteWrite.tlsKeyFile"].map(|name| flags.of(name, index));
    let both = named.iter().all(Option::is_some);
    for (name, key) in
        [("remoteWrite.tlsCAFile", "ca_file"), ("remoteWrite.tlsCertFile", "cert_file"), ("remoteWrite.tlsKeyFile", "key_file")]
    {
        let Some(flag) = flags.of(name, index) else { continue };
        if key != "ca_file" && !both {
            draft.missing(&flag.said(), "is half of a pair: a certificate and its key go together", "write both cert_file and key_file");
            continue;
        }
        pairs.extend(whole(&flag, draft, &format!("tls.{key}")).map(|file| format!("{key}: {}", quoted(&file))));
    }
    if let Some(flag) = flags.of("remoteWrite.tlsServerName", index) {
        pairs.push(format!("server_name: {}", quoted(&flag.value)));
        draft.taken(&flag.said(), "tls.server_name");
    }
    if let Some(flag) = flags.of("remoteWrite.tlsInsecureSkipVerify", index).filter(|flag| flag.value == "true") {
        draft.missing(
            &flag.said(),
            "certificates are always checked",
            "write tls.ca_file: the store's own authority, and tls.server_name if its name differs",
        );
    }
    if !pairs.is_empty() {
        lines.push(format!("  tls: {{ {} }}", pairs.join(", ")));
    }
}

/// `kafka://host:9092,host:9092/?topic=T&property=value`, of vmagent's enterprise version.
fn kafka(flags: &Flags, (index, url): (usize, &Flag), draft: &mut Draft, problems: &mut Vec<Problem>) -> Option<Vec<String>> {
    let rest = url.value.split_once("://").map_or("", |(_, rest)| rest);
    let (hosts, query) = rest.split_once('?').unwrap_or((rest, ""));
    let hosts: Vec<&str> = hosts.trim_end_matches('/').split(',').filter(|host| !host.is_empty()).collect();
    let pairs: Vec<(&str, &str)> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let get = |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    let (Some(topic), false) = (get("topic"), hosts.iter().any(|host| values::host_port(host).is_err()) || hosts.is_empty()) else {
        let remedy = "as kafka://kafka-1.example:9092/?topic=metrics";
        problems.push(import::wrong(url.line, "-remoteWrite.url", "names no brokers as host:port, or no topic", remedy));
        return None;
    };
    let mut lines = vec!["kafka:".to_owned(), format!("  brokers: {}", list(&hosts)), format!("  topic: {}", quoted(topic))];
    lines.push("  format: remote-write   # the messages that vmagent writes; rows for Druid and others: docs/rows.md".to_owned());
    let protocol = get("security.protocol").unwrap_or_default().to_lowercase();
    let ca = flags.of("remoteWrite.tlsCAFile", index).and_then(|flag| whole(&flag, draft, "kafka.tls.ca_file"));
    if protocol.ends_with("ssl") || ca.is_some() {
        lines.push(ca.map_or("  tls: {}".to_owned(), |file| format!("  tls: {{ ca_file: {} }}", quoted(&file))));
    }
    let mechanism = get("sasl.mechanisms").or(get("sasl.mechanism")).unwrap_or("PLAIN").to_uppercase();
    if let Some(user) = flags.of("remoteWrite.basicAuth.username", index) {
        let file = match (flags.of("remoteWrite.basicAuth.passwordFile", index), flags.of("remoteWrite.basicAuth.password", index)) {
            (Some(file), _) => whole(&file, draft, "kafka.sasl.password_file"),
            (None, Some(password)) => Some(draft.secret(&password.unshown(), &format!("vmagent-{}.password", index + 1), &password.value)),
            (None, None) => None,
        };
        match file.filter(|_| ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"].contains(&mechanism.as_str())) {
            Some(file) => {
                let user_name = quoted(&user.value);
                lines.push(format!("  sasl: {{ mechanism: {mechanism}, username: {user_name}, password_file: {} }}", quoted(&file)));
                draft.taken(&user.said(), "kafka.sasl");
            }
            None => draft.missing(
                &user.said(),
                "has no password that can be named, or another mechanism",
                "write kafka.sasl (docs/configuration.md)",
            ),
        }
    }
    let said_above = ["topic", "security.protocol", "sasl.mechanisms", "sasl.mechanism"];
    for (name, _) in pairs.iter().filter(|(name, _)| !said_above.contains(name)) {
        let said = Said { key: format!("-remoteWrite.url {name}"), ..url.unshown() };
        draft.missing(
            &said,
            "sluice sets what its promises rest on, and speed, by itself; it is left out",
            "kafka.properties takes librdkafka's other names",
        );
    }
    Some(lines)
}

fn budget(flags: &Flags, index: usize, draft: &mut Draft) -> Option<String> {
    let Some(flag) = flags.of("remoteWrite.maxDiskUsagePerURL", index) else {
        if index == 0 {
            let said = Said::new(0, "-remoteWrite.maxDiskUsagePerURL", "");
            let text = "vmagent's queue has no bound where nothing is said; a sink keeps 64GiB and 24h on each node";
            draft.different(&said, text, "write budget: { bytes, age } by docs/sizing.md: it is the outage that is survived");
        }
        return None;
    };
    let text = flag.value.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let bytes = values::size(&flag.value).or_else(|_| values::size(text));
    match bytes {
        Ok(bytes) if bytes >= 1 << 20 => {
            let text = "budget.bytes: of each node, for all shards; vmagent's was of one process. Beyond it the oldest goes, as there";
            draft.different(&flag.said(), text, "docs/sizing.md says how long an outage that is");
            let size = [("GiB", 30), ("MiB", 20)].into_iter().find(|(_, bits)| bytes.trailing_zeros() >= *bits);
            Some(format!("budget: {{ bytes: {} }}", size.map_or(format!("{bytes}B"), |(unit, bits)| format!("{}{unit}", bytes >> bits))))
        }
        _ => {
            draft.different(
                &flag.said(),
                "no bound there; a sink keeps 64GiB and 24h on each node",
                "write budget: { bytes, age } by docs/sizing.md",
            );
            None
        }
    }
}

fn rules_of(flag: Option<&Flag>, around: &Around<'_>, draft: &mut Draft, problems: &mut Vec<Problem>) -> Vec<String> {
    let Some(flag) = flag else { return Vec::new() };
    match (around.read)(Path::new(&flag.value)) {
        Ok(text) => rules::import(&flag.value, &text, &flag.said(), draft).unwrap_or_else(|mut found| {
            problems.append(&mut found);
            Vec::new()
        }),
        Err(why) => {
            let rule = format!("{}: {why}", flag.value);
            problems.push(import::wrong(flag.line, &format!("-{}", flag.name), rule, "bring the file: its rules are part of the sink"));
            Vec::new()
        }
    }
}

/// `-remoteWrite.label`: after all rules, and over what a series has.
fn labels(flags: &Flags, tell: bool, draft: &mut Draft, problems: &mut Vec<Problem>) -> Vec<String> {
    let mut rules = Vec::new();
    for flag in flags.all("remoteWrite.label") {
        match flag.value.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                rules.push(format!("- {{ target_label: {}, replacement: {} }}", quoted(name), quoted(&value.replace('$', "$$"))));
                if tell {
                    draft.taken(&flag.said(), "relabel_configs: the last rule of each sink");
                }
            }
            _ if tell => {
                problems.push(import::wrong(flag.line, "-remoteWrite.label", format!("{}: is no name=value", flag.value), "as dc=nj1"))
            }
            _ => {}
        }
    }
    rules
}

/// What is the node's own: address, certificate, log, limits.
fn node(flags: &Flags, draft: &mut Draft) {
    let listeners = flags.all("httpListenAddr");
    if let Some(first) = listeners.first() {
        match values::listen(&first.value) {
            Ok(_) => draft.listen(&first.said(), first.value.clone()),
            Err(_) => draft.missing(&first.said(), "is no address of this machine and a port", "write listen: as 0.0.0.0:9201"),
        }
    }
    for other in listeners.iter().skip(1) {
        draft.missing(&other.said(), "a node listens on one address", "listen on all addresses: listen: \":PORT\"");
    }
    let files = ["tlsCertFile", "tlsKeyFile"].map(|name| flags.one(name));
    if let [Some(certificate), Some(key)] = files {
        draft.tls = Some((certificate.value.clone(), key.value.clone()));
        draft.taken(&certificate.said(), "tls.cert_file");
        draft.taken(&key.said(), "tls.key_file");
    } else if let Some(flag) = flags.one("tls").filter(|flag| flag.value == "true") {
        draft.missing(&flag.said(), "certificate and key are not named", "write tls: { cert_file, key_file }");
    }
    if let Some(flag) = flags.one("loggerLevel") {
        match flag.value.as_str() {
            "INFO" => draft.logging(&flag.said(), "level", "info"),
            "WARN" => draft.logging(&flag.said(), "level", "warn"),
            "ERROR" | "FATAL" | "PANIC" => draft.logging(&flag.said(), "level", "error"),
            _ => draft.missing(&flag.said(), "is no level of vmagent", ""),
        }
    }
    if let Some(flag) = flags.one("loggerFormat") {
        draft.logging(&flag.said(), "format", if flag.value == "json" { "json" } else { "text" });
    }
    let limits = [
        ("maxLabelsPerTimeseries", "labels_per_series", 65_536),
        ("maxLabelNameLen", "label_name_bytes", 1 << 20),
        ("maxLabelValueLen", "label_value_bytes", 1 << 24),
        ("maxInsertRequestSize", "unpacked_bytes", 1 << 30),
    ];
    for (name, key, most) in limits {
        let Some(flag) = flags.one(name) else { continue };
        match values::size(&flag.value) {
            Ok(number) if (1..=most).contains(&number) => draft.limit(&flag.said(), key, number.to_string()),
            _ => draft.missing(
                &flag.said(),
                format!("sluice's own default holds; 1 to {most} can be written"),
                &format!("write limits.{key}"),
            ),
        }
    }
}

/// Deduplication by intervals becomes groups of replicas.
fn pairs(flags: &Flags, draft: &mut Draft) {
    for name in ["streamAggr.dropInputLabels", "remoteWrite.streamAggr.dropInputLabels"] {
        for flag in flags.all(name) {
            for replica in flag.value.split("^^").filter(|replica| !replica.is_empty()) {
                draft.pair("cluster", replica);
                let text = format!("groups.labels: `{replica}` names the replica, and `cluster` the pair; vmagent knew no pairs");
                draft.different(
                    &flag.said(),
                    text,
                    "give the two Prometheus of a pair the same external label cluster, and each pair another one (docs/senders.md)",
                );
            }
        }
    }
    if let Some(flag) = flags.one("streamAggr.dedupInterval") {
        let text =
            "no interval decides: of each scrape one copy passes, at once and with its own time; vmagent kept the last of an interval";
        draft.different(&flag.said(), text, "groups.labels says which series are copies of each other");
    }
}

fn silent(draft: &mut Draft) {
    let whole = Said::whole();
    draft.different(&whole, "a request is answered when a majority of nodes has it on disk; vmagent answered when it was in memory", "");
    let text = "the queue of a sink is sluice's log, by docs/configuration.md; what vmagent has not sent yet it must send itself";
    draft.different(&whole, text, "stop vmagent when vmagent_remotewrite_pending_data_bytes is 0 (docs/migration.md)");
}

//! Pushgateway's API: metrics of short-lived jobs are pushed into groups, each known by the labels of its path, and read back as text or JSON.
//!
//! Paths, methods, status codes and what is refused are Pushgateway's, so that client libraries need another address and nothing else. Left out on purpose: what
//! fits together (`shard::pushed`), and who makes samples of it (`app::pushed`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::GeneralPurpose;
use base64::engine::GeneralPurposeConfig;
use hyper::HeaderMap;
use hyper::Method;
use hyper::StatusCode;
use hyper::header::CONTENT_ENCODING;
use hyper::header::CONTENT_TYPE;
use serde_json::Value;
use serde_json::json;

use crate::api::answer;
use crate::api::answer::Failure;
use crate::api::deps::Deps;
use crate::api::deps::Pushing;
use crate::api::route;
use crate::clock;
use crate::config::groups::Tenant;
use crate::model::ShardId;
use crate::model::tenant;
use crate::node::offer::ProposeError;
use crate::serve;
use crate::serve::Response;
use crate::serve::body;
use crate::shard::command::Command;
use crate::shard::pushed::Change;
use crate::shard::pushed::Group;
use crate::shard::pushed::Key;
use crate::shard::pushed::MOST_GROUP_BYTES;
use crate::shard::pushed::Stored;
use crate::shard::pushed::TIMES;
use crate::wire::families;
use crate::wire::families::Family;
use crate::wire::families::Labels;
use crate::wire::families::Read;
use crate::wire::families::delimited;
use crate::wire::families::text;
use crate::wire::pack;
use crate::wire::pack::Stream;

/// The largest body, packed or not: a group may have as many bytes as it is kept.
pub const BODY_BYTES: usize = 4 << 20;
/// Bodies that are read at the same time: with what they come to, 200 MB at the worst.
pub const AT_A_TIME: usize = 4;
/// Whoever dawdles takes others' turn.
pub const PACE: body::Pace = body::Pace { bytes_per_second: 64 << 10, grace: Duration::from_secs(10) };
/// Bytes of a path. Everything in it stands on each of the group's metrics.
const PATH_BYTES: usize = 4 << 10;
/// Text for a scrape.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// What whoever pushes has to do.
const REMEDY: &str = "docs/push.md shows paths and bodies; they are Pushgateway's";

/// As in URLs, its padding there or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true).with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// `/metrics/job/...`, behind `/metrics/` and as it came: a group is pushed or deleted.
    Group(String),
    /// `/pushgateway/metrics`: all of it as text.
    Text,
    /// `/api/v1/metrics`: all of it as JSON.
    Json,
    /// `/pushgateway/api/v1/status`
    Status,
}

/// Of a path without the tenant's part.
pub fn what(path: &str) -> Option<What> {
    let below = path.strip_prefix("/pushgateway");
    let group = below.unwrap_or(path).strip_prefix("/metrics/").filter(|rest| ["job", "job@base64"].contains(&first(rest)));
    if let Some(group) = group {
        return Some(What::Group(group.to_owned()));
    }
    match (path, below) {
        ("/api/v1/metrics", _) | (_, Some("/api/v1/metrics")) => Some(What::Json),
        (_, Some("/metrics")) => Some(What::Text),
        (_, Some("/api/v1/status")) => Some(What::Status),
        _ => None,
    }
}

fn first(path: &str) -> &str {
    path.split('/').next().unwrap_or_default()
}

/// A request.
pub struct Call<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body.
    pub body: &'a [u8],
    /// The tenant that its path names.
    pub named: Option<String>,
    /// The tenant of its token.
    pub token: Option<&'a str>,
}

/// Answers.
pub async fn answer(deps: &Deps, what: What, call: Call<'_>) -> Result<Response, Failure> {
    let Pushing { enabled, tenant: rule } = (deps.push)();
    if !enabled {
        let text = "metrics cannot be pushed here (push.enabled: false)";
        return Err(Failure::new(StatusCode::NOT_FOUND, "off", text, "write `push: { enabled: true }`, or push to a Pushgateway"));
    }
    // The gateway itself is nobody's.
    let tenant = if what == What::Status { String::new() } else { whose(&call, &rule)? };
    match what {
        What::Group(path) => {
            let labels = grouping(&path).map_err(|why| Failure::wrong(why, REMEDY))?;
            change(deps, Key { tenant, labels }, &call).await
        }
        What::Text => shown(deps, tenant, TEXT, |groups| families::write(groups.iter().flat_map(|(key, group)| group.all(key)))).await,
        What::Json => {
            let all = |groups: &[(Key, Arc<Group>)]| {
                success(Value::Array(groups.iter().map(|(key, group)| json_group(key, group)).collect())).to_string()
            };
            shown(deps, tenant, "application/json", all).await
        }
        What::Status => {
            let status = json!({
                "build_information": { "version": deps.version },
                "flags": {},
                "start_time": clock::rfc3339(deps.started_ms),
            });
            Ok(answer::json(StatusCode::OK, &success(status)))
        }
    }
}

/// As whose samples a remote write is taken, by the same rules.
fn whose(call: &Call<'_>, rule: &Tenant) -> Result<String, Failure> {
    let said = rule.header.as_deref().and_then(|name| serve::tenant_in(call.headers, name));
    let header = rule.header.as_deref().unwrap_or("the header");
    let places = [("its token", call.token), ("the URL", call.named.as_deref()), (header, said.as_deref())];
    let wrong = |text: String| Failure::new(StatusCode::BAD_REQUEST, "tenant", text, "docs/tenants.md says where a tenant comes from");
    match tenant::agreed(&places).map_err(wrong)? {
        None if rule.required => Err(wrong(tenant::missing(rule.header.as_deref()))),
        tenant => Ok(tenant.unwrap_or_default().to_owned()),
    }
}

/// The labels of a path such as `job/backup/host@base64/L3Zhcg`, by name.
fn grouping(path: &str) -> Result<Labels, String> {
    if path.len() > PATH_BYTES {
        return Err(format!("the path has {} bytes, {PATH_BYTES} are the most", path.len()));
    }
    let parts: Vec<&str> = path.split('/').collect();
    let mut labels = BTreeMap::new();
    for pair in parts.chunks(2) {
        let &[name, value] = pair else {
            return Err(match parts.len() {
                1 => "job name is required".to_owned(),
                _ => format!("odd number of components in label string {path:?}: a `/` within a value is written with @base64"),
            });
        };
        let plain = |text: &str| route::decode(text).ok_or_else(|| format!("{text:?} is not percent-encoded UTF-8"));
        let (name, packed) = match name.strip_suffix("@base64") {
            Some(name) => (plain(name)?, true),
            None => (plain(name)?, false),
        };
        let mut value = plain(value)?;
        if packed {
            let bytes = BASE64.decode(value.trim_end_matches('=').as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            value = bytes.ok_or_else(|| format!("invalid base64 encoding for label {name}={value:?}"))?;
        }
        if name == "job" && value.is_empty() {
            return Err("job name is required".to_owned());
        }
        let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
        let legal = name.bytes().next().is_some_and(letter) && name.bytes().all(|byte| letter(byte) || byte.is_ascii_digit());
        if !legal || name.starts_with("__") {
            return Err(format!("improper label name {name:?}"));
        }
        // The job is what stands first, whatever a label of the same name says.
        if name != "job" || labels.is_empty() {
            labels.insert(name, value);
        }
    }
    Ok(labels.into_iter().collect())
}

/// Pushes or deletes.
async fn change(deps: &Deps, group: Key, call: &Call<'_>) -> Result<Response, Failure> {
    let replace = match *call.method {
        Method::PUT => true,
        Method::POST => false,
        Method::DELETE => {
            propose(deps, Change::Delete(group)).await?;
            return Ok(empty(StatusCode::ACCEPTED));
        }
        _ => {
            let allow = "PUT, POST, DELETE";
            let text = format!("a group of pushed metrics is not for {}", call.method);
            let failure = Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method", text, "GET /pushgateway/metrics shows all of them");
            return Err(Failure { allow: Some(allow), ..failure });
        }
    };
    let Read { families, refused } = read(call)?;
    if let Some(why) = refused {
        propose(deps, Change::Failed(group)).await?;
        return Err(inconsistent(&why));
    }
    // Each metric gets all labels of the path: many of the one and many of the other would be more than there is.
    let added = group.labels.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>();
    let metrics = families.iter().map(|family| family.metrics.len()).sum::<usize>();
    if metrics.saturating_mul(added) > MOST_GROUP_BYTES {
        return Err(inconsistent("its metrics, each with the labels of the path, would be more than a group may have"));
    }
    let stored = |mut family: Family| {
        family.label(&group.labels);
        (family.name.clone(), Stored::new(&family))
    };
    let families = families.into_iter().map(stored).collect();
    propose(deps, Change::Push { group, replace, families }).await?;
    Ok(empty(StatusCode::OK))
}

fn read(call: &Call<'_>) -> Result<Read, Failure> {
    let header = |name| call.headers.get(name).map(|value| value.to_str().unwrap_or_default().to_ascii_lowercase());
    let stream = match header(CONTENT_ENCODING).as_deref() {
        Some("gzip") => Some(Stream::Gzip),
        Some("snappy") => Some(Stream::Snappy),
        _ => None,
    };
    let unpacked = match stream.map(|stream| pack::unpack_stream(stream, call.body, BODY_BYTES)) {
        None => None,
        Some(Ok(Some(unpacked))) => Some(unpacked),
        Some(Ok(None)) => {
            let text = format!("unpacked the body has more than {BODY_BYTES} bytes");
            return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text, "push less of it, or several groups"));
        }
        Some(Err(error)) => return Err(Failure::wrong(format!("the body cannot be unpacked: {error}"), REMEDY)),
    };
    let body = unpacked.as_deref().unwrap_or(call.body);
    let read = if is_delimited(&header(CONTENT_TYPE).unwrap_or_default()) { delimited::read(body) } else { text::read(body) };
    read.map_err(|wrong| Failure::wrong(wrong.to_string(), REMEDY))
}

/// What is nothing else is text, as a Pushgateway has it.
fn is_delimited(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let parameters: Vec<(&str, &str)> = parts
        .clone()
        .skip(1)
        .filter_map(|part| part.split_once('='))
        .map(|(name, value)| (name.trim(), value.trim().trim_matches('"')))
        .collect();
    parts.next() == Some("application/vnd.google.protobuf")
        && [("encoding", "delimited"), ("proto", "io.prometheus.client.metricfamily")].iter().all(|wanted| parameters.contains(wanted))
}

fn inconsistent(why: &str) -> Failure {
    let text = format!("pushed metrics are invalid or inconsistent with existing metrics: {why}");
    Failure::new(StatusCode::BAD_REQUEST, "inconsistent", text, REMEDY)
}

async fn propose(deps: &Deps, change: Change) -> Result<(), Failure> {
    match deps.node.propose(ShardId::CONTROL, Command::Push(change)).await {
        Ok(_) => Ok(()),
        Err(ProposeError::Void(why)) => Err(inconsistent(&why)),
        Err(error) => Err(Failure::of_command(error)),
    }
}

fn empty(status: StatusCode) -> Response {
    serve::answer(status, "text/plain; charset=utf-8", "")
}

fn success(data: Value) -> Value {
    json!({ "status": "success", "data": data })
}

/// The tenant's groups, written by `write` beside the tasks that answer others: it may be tens of megabytes.
async fn shown<W>(deps: &Deps, tenant: String, kind: &'static str, write: W) -> Result<Response, Failure>
where
    W: FnOnce(&[(Key, Arc<Group>)]) -> String + Send + 'static,
{
    let all = deps.node.pushed();
    let written = tokio::task::spawn_blocking(move || {
        let groups = all.iter().filter(|(key, _)| key.tenant == tenant).map(|(key, group)| (key.clone(), Arc::clone(group)));
        write(&groups.collect::<Vec<_>>())
    });
    let text = written
        .await
        .map_err(|_| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "defect", "it cannot be shown", "report this with the node's log"))?;
    let mut response = serve::answer(StatusCode::OK, kind, text);
    answer::unstored(&mut response, &[]);
    Ok(response)
}

fn json_group(key: &Key, group: &Group) -> Value {
    let labels = |labels: &Labels| Value::Object(labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect());
    let mut all = serde_json::Map::new();
    for family in group.all(key) {
        let at = match TIMES.iter().position(|(name, _)| *name == family.name) {
            Some(0) => group.pushed,
            Some(_) => group.failed,
            None => group.families.get(&family.name).map_or(0, |stored| stored.at),
        };
        let metric = |metric: &families::Metric| {
            let mut shown = json!({ "labels": labels(&metric.labels) });
            match &metric.value {
                families::Value::Single(value) => shown["value"] = json!(families::number(*value)),
                families::Value::Parts(parts) => {
                    let steps = parts.steps.iter().map(|(step, value)| (families::number(*step), json!(families::number(*value))));
                    let name = if family.kind == families::Kind::Summary { "quantiles" } else { "buckets" };
                    shown[name] = Value::Object(steps.collect());
                    shown["count"] = json!(families::number(parts.count));
                    shown["sum"] = json!(families::number(parts.sum));
                }
            }
            shown
        };
        let mut shown = json!({
            "time_stamp": clock::rfc3339(at),
            "type": family.kind.word().to_ascii_uppercase(),
            "metrics": family.metrics.iter().map(metric).collect::<Vec<_>>(),
        });
        if let Some(help) = family.help.as_ref().filter(|help| !help.is_empty()) {
            shown["help"] = json!(help);
        }
        all.insert(family.name, shown);
    }
    all.insert("labels".to_owned(), labels(&key.labels));
    all.insert("last_push_successful".to_owned(), json!(group.pushed > group.failed));
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(path: &str) -> Result<Vec<(String, String)>, String> {
        grouping(path)
    }

    fn pairs(pairs: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
        Ok(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn a_groups_labels_stand_in_its_path() {
        assert_eq!(labels("job/backup"), pairs(&[("job", "backup")]));
        assert_eq!(labels("job/titan/name/%CE%A0%CF%81"), pairs(&[("job", "titan"), ("name", "Πρ")]));
        assert_eq!(labels("job/directory_cleaner/path@base64/L3Zhci90bXA"), pairs(&[("job", "directory_cleaner"), ("path", "/var/tmp")]));
        assert_eq!(labels("job@base64/L3Zhci90bXA=/a/b"), pairs(&[("a", "b"), ("job", "/var/tmp")]));
        assert_eq!(labels("job/x/first@base64/=/second/y"), pairs(&[("first", ""), ("job", "x"), ("second", "y")]));
        assert_eq!(labels("job/x/job/y"), pairs(&[("job", "x")]));
        for (path, why) in [
            ("job", "job name is required"),
            ("job@base64/=", "job name is required"),
            ("job/x/a", "odd number of components"),
            ("job/x/__a/b", "improper label name"),
            ("job/x/1a/b", "improper label name"),
            ("job/x/a@base64/!", "invalid base64"),
            ("job/x/a/%ff", "not percent-encoded"),
            (&format!("job/{}", "x".repeat(5_000)), "are the most"),
        ] {
            let told = labels(path).unwrap_err();
            assert!(told.contains(why), "{path}: {told}");
        }
    }

    #[test]
    fn paths_are_pushgateways_with_and_without_a_prefix() {
        let group = |path: &str| Some(What::Group(path.to_owned()));
        assert_eq!(what("/metrics/job/a/b/c"), group("job/a/b/c"));
        assert_eq!(what("/pushgateway/metrics/job@base64/YQ"), group("job@base64/YQ"));
        assert_eq!((what("/pushgateway/metrics"), what("/api/v1/metrics")), (Some(What::Text), Some(What::Json)));
        assert_eq!((what("/pushgateway/api/v1/metrics"), what("/pushgateway/api/v1/status")), (Some(What::Json), Some(What::Status)));
        for path in ["/metrics", "/metrics/jobs/x", "/api/v1/status", "/pushgateway", "/pushgateway/x"] {
            assert_eq!(what(path), None, "{path}");
        }
    }

    #[test]
    fn a_push_is_its_tokens_its_paths_or_its_headers_tenants() {
        let whose = |named: Option<&str>, token: Option<&str>, header: &[&str], (believed, required): (bool, bool)| {
            let headers: HeaderMap = header.iter().map(|value| ("x-scope-orgid".parse().unwrap(), value.parse().unwrap())).collect();
            let rule = Tenant { header: believed.then(|| "x-scope-orgid".to_owned()), required };
            let call = Call { method: &Method::PUT, headers: &headers, body: b"", named: named.map(str::to_owned), token };
            whose(&call, &rule).map_err(|failure| format!("{} {}", failure.status, failure.text))
        };
        let (off, on, must) = ((false, false), (true, false), (true, true));
        assert_eq!(whose(None, None, &[], on), Ok(String::new()));
        assert_eq!(whose(None, None, &["a"], off), Ok(String::new()), "no header is believed that the settings do not name");
        for (named, token, header) in
            [(Some("a"), None, &[][..]), (None, Some("a"), &[]), (None, None, &["a"]), (Some("a"), Some("a"), &["a"])]
        {
            assert_eq!(whose(named, token, header, must), Ok("a".to_owned()));
        }
        for (named, token, header, rule, words) in [
            (None, None, &[][..], must, "400 Bad Request it names no tenant (groups.tenant.required)"),
            (None, None, &[], (false, true), "it names no tenant"),
            (Some("a"), Some("b"), &[], off, "its token is of tenant \"b\" and the URL says \"a\""),
            (Some("a"), None, &["b"], on, "x-scope-orgid says \"b\""),
            (None, None, &["a", "a"], on, "x-scope-orgid names \"\" as tenant"),
            (Some("a|b"), None, &[], off, "the URL names \"a|b\" as tenant"),
        ] {
            let told = whose(named, token, header, rule).unwrap_err();
            assert!(told.contains(words), "{told}");
        }
    }

    #[test]
    fn only_what_says_so_is_protobuf() {
        assert!(is_delimited("application/vnd.google.protobuf; proto=io.prometheus.client.metricfamily; encoding=delimited"));
        assert!(!is_delimited("application/vnd.google.protobuf") && !is_delimited("") && !is_delimited("text/plain; encoding=delimited"));
    }
}

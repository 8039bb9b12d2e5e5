//! What can be said about a request before its body is touched: path, method, content type, encoding, in this order.
//!
//! The order matters: the compliance suite sends a corrupt body under a wrong content type and wants 415, and a body need not be read to be
//! refused for its type.

use hyper::HeaderMap;
use hyper::Method;
use hyper::header::CONTENT_ENCODING;
use hyper::header::CONTENT_TYPE;
use hyper::header::HeaderValue;

use crate::wire::pack::Packing;
use crate::wire::remote_write::Protocol;

/// Paths that take remote write: ours and Prometheus', Mimir's, Cortex', Thanos'.
pub const PATHS: &[&str] = &["/api/v1/write", "/api/v1/push", "/api/prom/push", "/api/v1/receive"];

/// A group, a replica and a tenant named by the URL; a group and a replica that are not are taken from the series' labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// The group.
    pub group: Option<String>,
    /// The replica.
    pub replica: Option<String>,
    /// The tenant.
    pub tenant: Option<String>,
}

/// What the URL says, or nothing where this is no path of ours. `/tenants/NAME` and `/groups/NAME/replicas/NAME` may stand before any of the paths, in this order, and
/// `?group=NAME&replica=NAME` behind; in a name `%2F` stands for `/`. `/insert/NAME/prometheus`, VictoriaMetrics' way to name a tenant, is one as well.
pub fn route(path: &str, query: Option<&str>) -> Option<Hint> {
    let mut hint = Hint::default();
    let mut rest = path;
    if let Some((name, after)) = rest.strip_prefix("/tenants/").map(next_name) {
        hint.tenant = Some(name);
        rest = after;
    } else if let Some((name, after)) = rest.strip_prefix("/insert/").map(next_name) {
        hint.tenant = Some(name);
        rest = after.strip_prefix("/prometheus")?;
    }
    if let Some((name, after)) = rest.strip_prefix("/groups/").map(next_name) {
        hint.group = Some(name);
        rest = after;
        if let Some((name, after)) = rest.strip_prefix("/replicas/").map(next_name) {
            hint.replica = Some(name);
            rest = after;
        }
    }
    let known = PATHS.iter().any(|known| *known == rest || rest.strip_suffix('/') == Some(known));
    if !known {
        return None;
    }
    for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*key {
            "group" if !value.is_empty() => hint.group = Some(value.into_owned()),
            "replica" if !value.is_empty() => hint.replica = Some(value.into_owned()),
            _ => {}
        }
    }
    hint.group = hint.group.filter(|name| !name.is_empty());
    hint.replica = hint.replica.filter(|name| !name.is_empty());
    Some(hint)
}

fn next_name(rest: &str) -> (String, &str) {
    let (name, after) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // A path's `+` is a plus and no blank, unlike a query's.
    let plain = form_urlencoded::parse(name.replace('+', "%2B").as_bytes()).next().map_or_else(String::new, |(key, _)| key.into_owned());
    (plain, after)
}

/// vmagent asks before it sends zstd (VictoriaMetrics' dialect): by a POST without a body. One with a body is data, whatever its query says.
pub fn is_handshake(method: &Method, empty: bool, query: Option<&str>) -> bool {
    (method == Method::GET || (method == Method::POST && empty))
        && form_urlencoded::parse(query.unwrap_or_default().as_bytes()).any(|(key, _)| key == "get_vm_proto_version")
}

/// A header's value that is none of ours, cut for the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown(pub String);

fn unknown(value: &HeaderValue) -> Unknown {
    Unknown(String::from_utf8_lossy(value.as_bytes()).chars().take(100).collect())
}

/// Which message the body is. Without the header it is 1.0, as old senders mean it.
pub fn protocol(headers: &HeaderMap) -> Result<Protocol, Unknown> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(Protocol::V1) };
    let text = value.to_str().map_err(|_| unknown(value))?;
    let mut parts = text.split(';').map(str::trim);
    if !parts.next().unwrap_or_default().eq_ignore_ascii_case("application/x-protobuf") {
        return Err(unknown(value));
    }
    // RFC 9110: names in any case, blanks around `;`, values perhaps quoted; other parameters mean nothing to us.
    let proto = parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.trim().eq_ignore_ascii_case("proto"));
    match proto.map(|(_, value)| value.trim().trim_matches('"')) {
        None | Some("prometheus.WriteRequest") => Ok(Protocol::V1),
        Some("io.prometheus.write.v2.Request") => Ok(Protocol::V2),
        Some(_) => Err(unknown(value)),
    }
}

/// How the body is packed. Without the header it is snappy.
pub fn packing(headers: &HeaderMap) -> Result<Packing, Unknown> {
    let Some(value) = headers.get(CONTENT_ENCODING) else { return Ok(Packing::Snappy) };
    match value.to_str().map(str::trim) {
        Ok(text) if text.eq_ignore_ascii_case("snappy") => Ok(Packing::Snappy),
        Ok(text) if text.eq_ignore_ascii_case("zstd") => Ok(Packing::Zstd),
        Ok(_) | Err(_) => Err(unknown(value)),
    }
}

/// How often the sender has tried this request before.
pub fn retries(headers: &HeaderMap) -> u32 {
    headers.get("retry-attempt").and_then(|value| value.to_str().ok()).and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(value: &'static str) -> Result<Protocol, Unknown> {
        protocol(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]))
    }

    #[test]
    fn content_types_are_read_by_rfc_9110() {
        assert_eq!(protocol(&HeaderMap::new()), Ok(Protocol::V1));
        assert_eq!(typed("application/x-protobuf"), Ok(Protocol::V1));
        assert_eq!(typed("Application/X-Protobuf;proto=prometheus.WriteRequest"), Ok(Protocol::V1));
        assert_eq!(typed("application/x-protobuf; Proto=\"io.prometheus.write.v2.Request\""), Ok(Protocol::V2));
        assert_eq!(typed("application/x-protobuf;charset=utf-8 ; proto = io.prometheus.write.v2.Request"), Ok(Protocol::V2));
        for wrong in ["application/json", "image/png", "application/x-protobuf;proto=yolo", "", "application/x-protobuf2"] {
            assert!(typed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn damaged_targets_and_headers_name_nobody_they_should_not_and_never_panic() {
        let targets = [
            "/groups/monitoring%2Fk8s/replicas/p+0/api/v1/write",
            "/api/v1/write?group=eu%2Fk8s&replica=a",
            "/groups/x/api/prom/push?replica=b&get_vm_proto_version=1",
            "/tenants/a%2Fb/groups/x/api/v1/write",
            "/insert/12:3/prometheus/api/v1/write",
        ];
        let values = ["application/x-protobuf;proto=io.prometheus.write.v2.Request", "snappy", "18446744073709551616"];
        let mut known = 0;
        for seed in crate::mutate::seeds(20_000) {
            let random = &mut fastrand::Rng::with_seed(seed);
            let target = targets[random.usize(0..targets.len())];
            let target = crate::mutate::damage_text(random, target);
            let (path, query) = target.split_once('?').map_or((&target[..], None), |(path, query)| (path, Some(query)));
            is_handshake(&Method::POST, true, query);
            if let Some(hint) = route(path, query) {
                known += 1;
                let names = [hint.group, hint.replica];
                // A replacement character may stand for one byte, hence the 3.
                assert!(names.iter().flatten().all(|name| !name.is_empty() && name.len() <= 3 * target.len()), "SEED={seed}: {names:?}");
            }
            let mut value = values[random.usize(0..values.len())].as_bytes().to_vec();
            crate::mutate::damage(random, &mut value);
            let Ok(value) = HeaderValue::from_bytes(&value) else { continue };
            let headers = HeaderMap::from_iter([
                (CONTENT_TYPE, value.clone()),
                (CONTENT_ENCODING, value.clone()),
                (hyper::header::HeaderName::from_static("retry-attempt"), value),
            ]);
            for refused in [protocol(&headers).err(), packing(&headers).err()].into_iter().flatten() {
                assert!(refused.0.chars().count() <= 100, "SEED={seed}");
            }
            retries(&headers);
        }
        assert!(known > 1_000 || std::env::var("SEED").is_ok(), "{known} known");
    }

    #[test]
    fn encodings() {
        let packed = |value| packing(&HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(value))]));
        assert_eq!(packing(&HeaderMap::new()), Ok(Packing::Snappy));
        assert_eq!(packed("Snappy"), Ok(Packing::Snappy));
        assert_eq!(packed("zstd"), Ok(Packing::Zstd));
        assert_eq!(packed("gzip"), Err(Unknown("gzip".into())));
    }

    #[test]
    fn group_and_replica_may_stand_in_the_url() {
        let hint = |group: &str, replica: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_string());
            Some(Hint { group: some(group), replica: some(replica), tenant: None })
        };
        assert_eq!(route("/api/v1/write", None), hint("", ""));
        assert_eq!(route("/api/v1/push/", None), hint("", ""));
        assert_eq!(route("/api/v1/write", Some("group=eu%2Fk8s&replica=a")), hint("eu/k8s", "a"));
        assert_eq!(route("/groups/monitoring%2Fk8s/replicas/p+0/api/v1/write", None), hint("monitoring/k8s", "p+0"));
        assert_eq!(route("/groups/x/api/prom/push", Some("replica=b")), hint("x", "b"));
        assert_eq!(route("/api/v1/query", None), None);
        assert_eq!(route("/groups/x", None), None);
    }

    #[test]
    fn a_tenant_may_stand_in_the_url() {
        let tenant = |path: &str| route(path, None).map(|hint| hint.tenant.unwrap_or_default());
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(tenant("/tenants/team-a/api/v1/write"), named("team-a"));
        assert_eq!(tenant("/insert/12:3/prometheus/api/v1/write"), named("12:3"));
        assert_eq!(tenant("/insert/0/prometheus/api/v1/push"), named("0"));
        assert_eq!(tenant("/tenants//api/v1/write"), named(""), "told to be none, later");
        for other in [
            "/insert/0/api/v1/write",
            "/insert/0/prometheus",
            "/tenants/a",
            "/insert/0/prometheus/api/v1/query",
            "/tenants/a/insert/0/prometheus/api/v1/write",
        ] {
            assert_eq!(tenant(other), None, "{other}");
        }
        let both = route("/tenants/a/groups/g/replicas/r/api/v1/write", None).unwrap();
        assert_eq!(both, Hint { group: named("g"), replica: named("r"), tenant: named("a") });
    }

    #[test]
    fn vmagent_shakes_hands() {
        assert!(is_handshake(&Method::POST, true, Some("get_vm_proto_version=1")));
        assert!(is_handshake(&Method::GET, true, Some("get_vm_proto_version=1")));
        assert!(!is_handshake(&Method::POST, false, Some("get_vm_proto_version=1")));
        assert!(!is_handshake(&Method::POST, true, None));
    }
}

//! The rules of the configuration, each by the words in which a breach is reported.

use std::path::Path;

use super::*;
use crate::config::file::Files;
use crate::config::remote_write::CatchUp;
use crate::config::remote_write::ClientTls;
use crate::config::remote_write::Login;
use crate::config::remote_write::Protocol;
use crate::config::remote_write::RemoteWrite;
use crate::config::shape::Increase;
use crate::config::sinks::Delivery;
use crate::config::sinks::Target;

/// Every problem as one line: `line key: value | rule | remedy`.
fn problems(text: &str) -> Vec<String> {
    let say = |p: Problem| format!("{} {}: {} | {} | {}", p.line, p.key, p.value, p.rule, p.remedy);
    Config::parse(text).err().unwrap_or_default().into_iter().map(say).collect()
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(problems(text), expected);
}

const SMALLEST: &str = r#"listen: 127.0.0.1:9201        # remote write, API, status page, /metrics
data_dir: /var/lib/sluice
sinks:
  - name: platform
    kafka: { brokers: ["127.0.0.1:9092"], topic: metrics, format: rows }
"#;

#[test]
fn six_lines_are_a_complete_configuration() {
    let config = Config::parse(SMALLEST).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:9201");
    assert_eq!((config.shards, config.limits.packed_bytes, config.limits.unpacked_bytes), (6, 32 << 20, 64 << 20));
    let Target::Kafka(kafka) = &config.sinks[0].target else { panic!("{:?}", config.sinks) };
    assert_eq!((kafka.topic.as_str(), kafka.delivery, kafka.compression), ("metrics", Delivery::ExactlyOnce, None));
    assert_eq!(config.groups.labels[0].replica, "prometheus_replica");
}

#[test]
fn the_shipped_example_is_a_configuration_and_shows_every_section() {
    let text = include_str!("../../config/sluice.yaml");
    let config = Config::parse(text).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert!(!config.sinks.is_empty() && !config.groups.labels.is_empty());
    // Every line that is commented out (`#key: value`) must be a key that is known, too.
    let is_prose = |rest: &str| rest.starts_with(' ') && !rest.starts_with("  ");
    let all: String =
        text.lines().map(|line| format!("{}\n", line.strip_prefix('#').filter(|rest| !is_prose(rest)).unwrap_or(line))).collect();
    Config::parse(&all).unwrap_or_else(|problems| panic!("with all lines in force: {problems:#?}\n{all}"));
}

#[test]
fn all_problems_are_reported_at_once_with_line_key_value_rule_and_remedy() {
    let text = "listn: 127.0.0.1:9201\nshards: 0\nlimits:\n  packed_bytes: 32 megabytes\n  unpacked_byte: 1MiB\nsinks:\n  - name: a b\n    kafka: { brokers: [kafka], topic: metrics, format: row5 }\n    budget: { policy: drop }\n";
    check(
        text,
        &[
            "1 data_dir:  | is missing | write where sluice may keep its data: data_dir: /var/lib/sluice",
            "1 listn: 127.0.0.1:9201 | is no key known here | did you mean `listen`?",
            "2 shards: 0 | must be 1 to 256 | write a number in that range",
            "4 limits.packed_bytes: 32 megabytes | must be a size: a number and B, KiB, MiB, GiB, TiB (or KB, MB, GB, TB) | for example 64MiB",
            "5 limits.unpacked_byte: 1MiB | is no key known here | did you mean `unpacked_bytes`?",
            "7 sinks[0].name: a b | must be 1 to 64 letters, digits, `-`, `_` or `.` | for example `platform`",
            "8 sinks[0].kafka.brokers[0]: kafka | must be host:port | for example kafka-1.example:9092",
            "8 sinks[0].kafka.format: row5 | must be one of: rows, row, adapter, remote-write, mimir, avro | did you mean `row`?",
            "9 sinks[0].budget.policy: drop | must be one of: drop_oldest, refuse | ",
        ],
    );
}

#[test]
fn a_key_may_stand_only_once() {
    check(&format!("{SMALLEST}data_dir: /elsewhere\n"), &["6 data_dir: /elsewhere | stands here a second time | keep one of the two"]);
}

#[test]
fn what_is_no_yaml_is_reported_with_its_line() {
    let problems = problems("listen: 1.2.3.4:1\nsinks: [\n");
    assert!(problems[0].contains("is no YAML"), "{problems:?}");
    assert!(super::Config::parse("a: &x 1\nb: *x\n").is_err());
}

#[test]
fn every_key_has_its_line_for_those_who_judge_later() {
    let config = Config::parse(SMALLEST).unwrap();
    assert_eq!(
        (config.line_of("sinks[0].name"), config.line_of("sinks[0].kafka.topic"), config.line_of("sinks[0].kafka.properties.x")),
        (4, 5, 5)
    );
}

#[test]
fn two_sinks_may_not_share_a_name() {
    let text = format!("{SMALLEST}  - name: platform\n    kafka: {{ brokers: [\"b:1\"], topic: t }}\n");
    check(&text, &["6 sinks[1]: {2 keys} | the name `platform` is taken by a sink above | give each sink a name of its own"]);
}

const STORE: &str = "\
listen: 127.0.0.1:9201
data_dir: /x
sinks:
  - name: store
    remote_write:
      url: https://store.example/api/v1/write
";

#[test]
fn a_store_needs_a_url_and_can_be_told_more() {
    let store = |text: &str| match Config::parse(text).unwrap().sinks.remove(0).target {
        Target::RemoteWrite(store) => store,
        other => panic!("{other:?}"),
    };
    assert_eq!(store(STORE), RemoteWrite::new("https://store.example/api/v1/write"));
    let more = "      protocol: v2
      headers: { X-Scope-OrgID: nj1 }
      basic_auth: { username: u, password_file: /etc/p }
      tls: { ca_file: /etc/ca.pem, cert_file: /etc/c.pem, key_file: /etc/k.pem, server_name: other }
      connections: 4
      samples_per_request: 2000
      timeout: 10s
      catch_up: fresh_first
";
    let told = store(&format!("{STORE}{more}"));
    let expected = RemoteWrite {
        protocol: Protocol::V2,
        headers: vec![("X-Scope-OrgID".into(), "nj1".into())],
        login: Some(Login::Basic { username: "u".into(), password_file: "/etc/p".into() }),
        tls: ClientTls {
            ca_file: Some("/etc/ca.pem".into()),
            own: Some(("/etc/c.pem".into(), "/etc/k.pem".into())),
            server_name: Some("other".into()),
        },
        connections: 4,
        samples_per_request: 2000,
        timeout: std::time::Duration::from_secs(10),
        catch_up: CatchUp::FreshFirst,
        ..RemoteWrite::new("https://store.example/api/v1/write")
    };
    assert_eq!(told, expected);
    assert_eq!(store(&format!("{STORE}      bearer_token_file: /t\n")).login, Some(Login::Bearer("/t".into())));
}

#[test]
fn a_sink_says_what_it_takes_and_as_what() {
    let text = format!(
        "{}    match: up\n    late: drop\n    relabel_configs:\n      - {{ source_labels: [a, b], target_label: c, replacement: \"\" }}\n      - {{ action: labeldrop, regex: x.* }}\nexternal_labels: {{ zone: z, datacenter: nj1 }}\n",
        SMALLEST
    );
    let config = Config::parse(&text).unwrap();
    let shape = &config.sinks[0].shape;
    assert_eq!((shape.selectors.as_slice(), shape.drops_late), (["up".to_owned()].as_slice(), true));
    assert_eq!(shape.external, [("datacenter", "nj1"), ("zone", "z")].map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(shape.rules[0].source_labels, Some(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(
        (shape.rules[0].replacement.as_deref(), shape.rules[0].regex.as_deref()),
        (Some(""), None),
        "empty is a value, absent is none"
    );
    assert_eq!(shape.rules[1].regex.as_deref(), Some("x.*"));
    assert_eq!(settings::parse(&config.settings).unwrap().sinks, config.sinks, "external labels are settings of the cluster");
    let several = text.replace("match: up", "match: ['up', '{job=\"a\"}']");
    assert_eq!(Config::parse(&several).unwrap().sinks[0].shape.selectors.len(), 2);
    let increase = |text: &str| Config::parse(&format!("{SMALLEST}    increase: {text}\n")).unwrap().sinks.remove(0).shape.increase;
    assert_eq!((increase("true"), increase("false")), (Some(Increase::default()), None));
    assert_eq!(increase("{ match: [a, b] }").unwrap().selectors, ["a", "b"]);
    check(
        &format!("{SMALLEST}    increase: {{}}\n"),
        &[
            "6 sinks[0].increase.match:  | is missing | write which series are counters: match: '{__name__=~\".+_total\"}'; or increase: true, which goes by their names",
        ],
    );
    check(
        &format!("{SMALLEST}external_labels: {{ __name__: x }}\n"),
        &["6 external_labels.__name__: x | is the metric's name, which every series has | name another label, for example datacenter"],
    );
}

#[test]
fn what_is_wrong_with_a_store_is_told_at_once() {
    let wrong = "      protocol: v2
      compression: zstd
      headers: { Authorization: x }
      basic_auth: { username: u, password: canary }
      bearer_token_file: t
      tls: { cert_file: /c.pem }
      connections: 0
";
    check(
        &format!("{STORE}{wrong}"),
        &[
            "8 sinks[0].remote_write.compression: zstd | is VictoriaMetrics' dialect of 1.0; 2.0 is packed with snappy | leave it out, or write protocol: v1",
            "9 sinks[0].remote_write.headers.Authorization: (not shown) | is a header that sluice sets itself | write basic_auth or bearer_token_file, so that the secret stays out of the settings",
            "10 sinks[0].remote_write.basic_auth.password: (not shown) | does not stand here | write password_file: the path of a file that holds the password: it must not stand in settings, which all nodes show",
            "11 sinks[0].remote_write.bearer_token_file: t | must be a whole path, since sinks are the same on all nodes | for example /etc/sluice/store.password",
            "11 sinks[0].remote_write.bearer_token_file: t | is a second way to show who sluice is, beside basic_auth | keep one of the two",
            "12 sinks[0].remote_write.tls.cert_file: /c.pem | is half of a pair | write both cert_file and key_file",
            "13 sinks[0].remote_write.connections: 0 | must be 1 to 32 | write a number in that range",
        ],
    );
    let both = STORE.replace("remote_write:", "kafka: { brokers: [\"b:1\"], topic: t }\n    remote_write:");
    check(
        &both,
        &["6 sinks[0].remote_write: {1 keys} | is a second thing to write to | make two sinks of it, each with a name of its own"],
    );
    let none = "listen: 127.0.0.1:9201\ndata_dir: /x\nsinks: [{ name: a }]\n";
    assert!(problems(none)[0].contains("remote_write: { url:"), "{:?}", problems(none));
}

const FILES: &str = "\
listen: 127.0.0.1:9201
data_dir: /x
sinks:
  - name: archive
    file:
      directory: /var/lib/sluice-rows
";

#[test]
fn files_need_a_directory_and_can_be_told_more() {
    let files = |text: &str| match Config::parse(text).unwrap().sinks.remove(0).target {
        Target::Files(files) => files,
        other => panic!("{other:?}"),
    };
    let least = Files::new(Path::new("/var/lib/sluice-rows"));
    assert_eq!(files(FILES), least);
    let more = "      columns: [job]\n      compression: gzip\n      sync: 5s\n      rotate: { bytes: 1MiB, age: 10m }\n      keep: { bytes: 1GiB, age: 7d }\n";
    let told = Files {
        columns: vec!["job".into()],
        compression: file::Compression::Gzip,
        sync: Duration::from_secs(5),
        rotate_bytes: 1 << 20,
        rotate_age: Duration::from_secs(600),
        keep_bytes: 1 << 30,
        keep_age: Some(Duration::from_secs(7 * 86_400)),
        ..least
    };
    assert_eq!(files(&format!("{FILES}{more}")), told);
    let wrong = FILES.replace("/var", "var") + "      sync: 1ms\n      keep: { files: 3 }\n";
    check(
        &wrong,
        &[
            "6 sinks[0].file.directory: var/lib/sluice-rows | must be a whole path, since sinks are the same on all nodes | for example /var/lib/sluice-rows",
            "7 sinks[0].file.sync: 1ms | must be 100ms to 1m | write a time span in that range",
            "8 sinks[0].file.keep.files: 3 | is no key known here | known here: bytes, age",
        ],
    );
}

#[test]
fn a_certificate_needs_both_of_its_files() {
    check(
        &format!("{SMALLEST}tls: {{ cert_file: sluice.pem, keyfile: sluice.key }}\n"),
        &[
            "6 tls.key_file:  | is missing | name the certificate's key: tls: { cert_file: sluice.pem, key_file: sluice.key }",
            "6 tls.keyfile: sluice.key | is no key known here | did you mean `key_file`?",
        ],
    );
    let mut tls =
        Config::parse(&format!("{SMALLEST}tls: {{ cert_file: own/sluice.pem, key_file: /keys/sluice.key }}\n")).unwrap().tls.unwrap();
    tls.beside(std::path::Path::new("/etc/sluice"));
    assert_eq!((tls.cert_file.to_str(), tls.key_file.to_str()), (Some("/etc/sluice/own/sluice.pem"), Some("/keys/sluice.key")));
}

#[test]
fn what_cannot_change_while_running_is_named() {
    let old = Config::parse(SMALLEST).unwrap();
    let new = Config::parse(&format!(
        "shards: 3\nlimits: {{ connections: 5, connection_age: 0s }}\ntls: {{ cert_file: a, key_file: b }}\n{}",
        SMALLEST.replace("topic: metrics", "topic: other").replace("9201", "9301")
    ))
    .unwrap();
    let keys: Vec<&str> = old.fixed_while_running(&new).iter().map(|(key, _)| *key).collect();
    assert_eq!(keys, ["listen", "tls", "shards", "limits.connections", "limits.connection_age"]);
}

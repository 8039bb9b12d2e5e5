//! Requests as they come, wrong ones, damaged ones; and how long reading takes.

use super::*;
use crate::mutate::damage;
use crate::mutate::seeds;

const NOW: i64 = 1_790_000_000_000;
const TIMEOUT: i64 = 300_000;

const PROMETHEUS: &str = r#"[{"annotations":{"summary":"disk of web1 is full"},"endsAt":"2026-09-21T14:17:20.123Z","startsAt":"2026-09-21T14:13:05.123Z",
"generatorURL":"http://prom:9090/graph?g0.expr=up","labels":{"alertname":"DiskFull","instance":"web1:9100","severity":"critical"}}]"#;

fn batch(body: &str) -> Batch {
    read(body.as_bytes(), NOW, TIMEOUT).unwrap_or_else(|error| panic!("{error:?}: {body}"))
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().copied().collect()
}

#[test]
fn what_prometheus_posts() {
    let read = batch(PROMETHEUS);
    let alert = Alert {
        labels: labels(&[("alertname", "DiskFull"), ("instance", "web1:9100"), ("severity", "critical")]),
        annotations: labels(&[("summary", "disk of web1 is full")]),
        generator: "http://prom:9090/graph?g0.expr=up".into(),
        starts: NOW - 14_877,
        ends: NOW + 240_123,
        times_out: false,
        updated: NOW,
    };
    assert_eq!(read, Batch { good: vec![alert], wrong: vec![], firing: 1, resolved: 0 });
}

#[test]
fn what_is_not_said_is_filled_in() {
    for (body, starts, ends, times_out) in [
        (r#"[{"labels":{"a":"b"}}]"#, NOW, NOW + TIMEOUT, true),
        (r#"[{"labels":{"a":"b"},"startsAt":null,"endsAt":"0001-01-01T00:00:00Z","annotations":null}]"#, NOW, NOW + TIMEOUT, true),
        (r#"[{"labels":{"a":"b"},"endsAt":"2026-09-21T14:13:20Z"}]"#, NOW, NOW, false),
        (r#"[{"labels":{"a":"b"},"startsAt":"2026-09-21T14:13:10Z"}]"#, NOW - 10_000, NOW + TIMEOUT, true),
        (r#"[{"LABELS":{"a":"b","gone":""},"more":[1,{"x":null}]}]"#, NOW, NOW + TIMEOUT, true),
    ] {
        let read = batch(body);
        let [alert] = &read.good[..] else { panic!("{read:?}") };
        assert_eq!((alert.starts, alert.ends, alert.times_out), (starts, ends, times_out), "{body}");
        assert_eq!(alert.labels, labels(&[("a", "b")]));
    }
    assert_eq!((batch("[]"), batch("null")), (Batch::default(), Batch::default()));
}

#[test]
fn organisations_of_grafana_are_told_apart() {
    let read = batch(r#"[{"labels":{"a":"b"},"annotations":{"__orgId__":"7"}},{"labels":{"a":"b"},"annotations":{"__orgId__":"1"}}]"#);
    let labels_of: Vec<&Labels> = read.good.iter().map(|alert| &alert.labels).collect();
    assert_eq!(labels_of, [&labels(&[("a", "b"), ("grafana_org", "7")]), &labels(&[("a", "b")])]);
}

#[test]
fn a_wrong_alert_spoils_itself_alone() {
    let read = batch(
        r#"[{"labels":{"a":"1"}}, {"labels":{}}, {"labels":{"a":""}}, {"labels":{"":"b"}},
            {"labels":{"a":"2"},"startsAt":"2026-09-21T14:13:20Z","endsAt":"2026-09-21T14:13:10Z"}, {"labels":{"a":"3"},"annotations":{"":"x"}}, {"labels":{"a":"4"}}]"#,
    );
    assert_eq!(read.good.iter().map(|alert| &alert.labels["a"]).collect::<Vec<_>>(), ["1", "4"]);
    assert_eq!(
        read.wrong,
        [
            "at least one label pair required",
            "at least one label pair required",
            "invalid label set: invalid name \"\"",
            "start time must be before end time",
            "invalid annotations: invalid name \"\"",
        ]
    );
    assert_eq!((read.firing, read.resolved), (6, 1));
}

#[test]
fn bounds_are_told() {
    let many: Vec<String> = (0..=MOST_LABELS).map(|n| format!(r#""l{n}":"v""#)).collect();
    let wide = format!(r#"[{{"labels":{{{}}}}},{{"labels":{{"a":"b"}}}}]"#, many.join(","));
    assert_eq!(batch(&wide).wrong, ["invalid label set: more than 256 of them"]);
    let long = format!(r#"[{{"labels":{{"a":"{}"}}}},{{"labels":{{"a":"b"}}}}]"#, "x".repeat(MOST_BYTES));
    assert_eq!(batch(&long).wrong, ["an alert of 65541 bytes, and 65536 may be"]);
    assert_eq!((batch(&wide).good.len(), batch(&long).good.len()), (1, 1));
    let crowd = format!("[{}]", vec![r#"{"labels":{"a":"b"}}"#; MOST_ALERTS + 1].join(","));
    assert!(matches!(read(crowd.as_bytes(), NOW, TIMEOUT), Err(Unreadable::Malformed(why)) if why.contains("more than 20000 alerts")));
}

#[test]
fn what_spoils_all() {
    for (body, lacks) in [("", ""), (" \n", ""), (r#"[{"labels":{"a":"b"}},{}]"#, "1.labels"), (r#"[{"labels":null}]"#, "0.labels")] {
        assert_eq!(read(body.as_bytes(), NOW, TIMEOUT), Err(Unreadable::Lacks(lacks.to_owned())), "{body}");
    }
    for body in [
        "{}",
        "[",
        "[null]",
        "[] []",
        r#"[{"labels":{"a":1}}]"#,
        r#"[{"labels":["a"]}]"#,
        r#"[{"labels":{"a":"b"},"startsAt":"yesterday"}]"#,
        r#"[{"labels":{"a":"b"},"startsAt":7}]"#,
        "\u{feff}[]",
    ] {
        assert!(matches!(read(body.as_bytes(), NOW, TIMEOUT), Err(Unreadable::Malformed(_))), "{body}");
    }
    let deep = format!(r#"[{{"labels":{{"a":"b"}},"x":{}}}]"#, "[".repeat(100_000));
    assert!(matches!(read(deep.as_bytes(), NOW, TIMEOUT), Err(Unreadable::Malformed(_))), "depth is bounded");
}

/// Damaged requests never panic, and never bring an alert that breaks a rule.
#[test]
fn damaged_requests_never_panic() {
    let corpus = [
        PROMETHEUS,
        r#"[{"labels":{"a":"\u00e9\n","b":""},"endsAt":"2026-09-21T14:13:20+02:00"},{"labels":{"c":"d"},"annotations":{"x":"y"}}]"#,
    ];
    let (mut taken, mut refused) = (0, 0);
    for seed in seeds(20_000) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = corpus[random.usize(0..corpus.len())].as_bytes().to_vec();
        damage(&mut random, &mut bytes);
        match read(&bytes, NOW, TIMEOUT) {
            Ok(batch) => {
                taken += 1;
                for alert in &batch.good {
                    assert!(!alert.labels.is_empty() && alert.labels.values().all(|value| !value.is_empty()), "SEED={seed}");
                    assert!(alert.starts <= alert.ends && !alert.labels.contains_key(""), "SEED={seed}");
                }
            }
            Err(_) => refused += 1,
        }
    }
    assert!(taken > 0 && refused > 0, "{taken} {refused}");
}

#[test]
fn what_is_measured_is_read() {
    let ticks = std::cell::Cell::new(0);
    let clock = || {
        ticks.set(ticks.get() + 256);
        ticks.get()
    };
    let figures = measure::measure(3, &clock).unwrap();
    assert!(figures.least_ns >= 1.0 && figures.bytes > 400.0, "{figures:?}");
}

//! Reports by a real Druid, with the supervisors and the SQL that are shipped: sums of `d` are what a real Prometheus' `increase()` says, whatever died
//! meanwhile.

use super::increase::{Window, die_and_begin_anew, extrapolated};
use crate::support::druid::Druid;
use crate::support::kafka::Kafka;
use crate::support::pair::{Pair, SERIES, Setup, TARGETS};
use crate::support::peers::{Peer, need};
use crate::support::process::{eventually, now_ms};
use crate::support::series::Value;
use serde_json::Value as Json;
use std::collections::HashMap;
use std::time::Duration;

const PEERS: [Peer; 3] = [Peer::Druid, Peer::Kafka, Peer::Prometheus];

/// The second sink: few labels, in a topic of its own, as docs/druid.md has it.
fn reports(topic: &str) -> String {
    let brokers = Kafka::shared().address();
    format!(
        "    increase: true\n  - name: reports\n    match: ['demo_counter_total', 'up']\n    increase: true\n    relabel_configs:\n\
         \x20     - {{ regex: \"__name__|datacenter|cluster|namespace|job|code|le\", action: labelkeep }}\n    kafka:\n      brokers: [\"{brokers}\"]\n\
         \x20     topic: {topic}\n      columns: [datacenter, cluster, namespace, job, code, le]\n"
    )
}

/// A number of a row of SQL's.
fn number(row: &Json, column: &str) -> f64 {
    row[column].as_f64().unwrap_or_else(|| panic!("`{column}` is no number: {row}"))
}

#[test]
fn reports_of_a_real_druid_are_those_of_promql() {
    if !need(&PEERS) {
        return;
    }
    let druid = Druid::launch("druid");
    let topic = format!("reports-{}", fastrand::u32(..));
    Kafka::shared().create_topic(&topic, 4);
    let mut pair = Pair::start(Setup { node_exporter: false, sink: &reports(&topic), ..Setup::pair("druid", 1) });
    druid.wait_ready();
    druid.supervise(include_str!("../../packaging/druid/rows.json"), &Kafka::shared().address(), pair.topic());
    druid.supervise(include_str!("../../packaging/druid/reports.json"), &Kafka::shared().address(), &topic);
    let from = die_and_begin_anew(&mut pair);
    pair.scrape(6);
    let to = now_ms();
    // Everything up to then has been scraped.
    pair.scrape(3);
    let increases = pair.replicas[1].query(&format!("increase(demo_counter_total[{}ms])", to - from), to);
    let (_, received) = pair.finish_and_read();

    let count = |table: &str, rows: &str| druid.sql(&format!("SELECT {rows} AS \"n\" FROM \"{table}\"")).map(|all| number(&all[0], "n"));
    let of = |name: &'static str| received.iter().filter(move |(series, _)| series.contains(name)).flat_map(|(_, rows)| rows);
    let all = received.values().map(Vec::len).sum::<usize>() as f64;
    let few = (of("\"demo_counter_total\"").count() + of("__name__=\"up\"").count()) as f64;
    for (table, rows, wanted) in [("rows", "COUNT(*)", all), ("reports", "SUM(\"n\")", few)] {
        eventually(Duration::from_secs(600), "Druid to hold every row", || match count(table, rows)? {
            there if there == wanted => Ok(()),
            there => Err(format!("{there} of {wanted} in {table}")),
        });
    }

    // Each counter by itself, over the window.
    let windows = druid.sql(&format!(
        "SELECT \"instance\", JSON_VALUE(\"labels\", '$.number') AS \"number\", COUNT(*) AS \"n\", SUM(\"d\") - EARLIEST(\"d\") AS \"d\", EARLIEST(\"v\") AS \"v\", \
         TIMESTAMP_TO_MILLIS(MIN(__time)) AS \"first\", TIMESTAMP_TO_MILLIS(MAX(__time)) AS \"last\" FROM \"rows\" WHERE \"name\" = 'demo_counter_total' \
         AND __time BETWEEN MILLIS_TO_TIMESTAMP({from}) AND MILLIS_TO_TIMESTAMP({to}) GROUP BY 1, 2"
    ));
    let windows = windows.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((windows.len(), increases.len()), (TARGETS * SERIES / 2, TARGETS * SERIES / 2));
    let mut ours: HashMap<[String; 2], f64> = HashMap::new();
    for row in &windows {
        let at = |column| row[column].as_i64().expect("a time");
        let (first, last, rows) = (at("first"), at("last"), row["n"].as_u64().expect("a number"));
        let window = Window { first, last, rows, at_first: number(row, "v"), sum: number(row, "d") };
        let key = ["instance", "number"].map(|column| format!("{column}={}", row[column]));
        ours.insert(key, extrapolated(&window, (from, to)));
    }
    for (series, increase) in increases {
        let found = ours.iter().find(|(key, _)| key.iter().all(|pair| series.contains(pair.as_str())));
        let (_, ours) = found.unwrap_or_else(|| panic!("{series} is not in {:?}", ours.keys()));
        assert!((ours - increase).abs() <= 1e-9 * increase, "{series}: by Druid {ours}, by PromQL {increase}");
    }

    // All of them together, rolled up.
    let expected: f64 = of("\"demo_counter_total\"").filter_map(|one| one.row.rise).map(|(rise, _)| rise).sum();
    for table in ["rows", "reports"] {
        let sum = druid.sql(&format!("SELECT SUM(\"d\") AS \"d\" FROM \"{table}\" WHERE \"name\" = 'demo_counter_total'"));
        let sum = number(&sum.unwrap_or_else(|error| panic!("{error}"))[0], "d");
        assert!((sum - expected).abs() <= 1e-9 * expected, "{table}: {sum}, and the rows say {expected}");
    }
    let up: Vec<f64> =
        of("__name__=\"up\"").filter_map(|one| if let Value::Number(value) = one.row.value { Some(value) } else { None }).collect();
    the_pages_reports(&druid, expected, up.iter().sum::<f64>() / up.len() as f64);
}

/// The page's SQL, on these metrics.
fn the_pages_reports(druid: &Druid, expected: f64, available: f64) {
    let page = include_str!("../../docs/druid.md").replace("http_requests_total", "demo_counter_total");
    let queries: Vec<&str> = page.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(queries.len(), 5);
    for query in queries {
        let rows = druid.sql(query).unwrap_or_else(|error| panic!("{error}\n{query}"));
        // There is no histogram here; the report must be good SQL nevertheless.
        assert!(!rows.is_empty() || query.contains("_bucket"), "{query}");
        if query.contains("\"requests\"") {
            let requests: f64 = rows.iter().map(|row| number(row, "requests")).sum();
            assert!((requests - expected).abs() <= 1e-9 * expected, "{requests}, and the rows say {expected}:\n{query}");
        }
        if query.contains("\"availability\"") {
            let up = number(&rows[0], "availability");
            assert!((up - available).abs() <= 1e-9, "{rows:?}, and the rows say {available}");
        }
    }
}

//! The harness checked by itself, without sluice: its peers start and work, and its checkers find what is wrong.

use crate::support::check::{Case, Placed, Received};
use crate::support::disk::SmallDisk;
use crate::support::exporter::Exporter;
use crate::support::gate::{Gate, Mode, Samples};
use crate::support::http::{Http, Server};
use crate::support::kafka::Kafka;
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, Signal, eventually, let_pass, now_ms};
use crate::support::prometheus::{NodeExporter, Prometheus, Replica};
use crate::support::series::{Row, Series, Value, parse_row};
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use std::time::Duration;

#[test]
fn a_reader_sees_committed_transactions_only_also_after_the_broker_was_killed() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let kafka = Kafka::start("harness-kafka");
    kafka.create_topic("t", 2);
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.address()).set("transactional.id", "harness");
    let producer: ThreadedProducer<rdkafka::producer::DefaultProducerContext> = config.create().expect("producer");
    producer.init_transactions(Duration::from_secs(30)).expect("init");
    let send = |text: &str, partition: i32| producer.send(BaseRecord::<(), str>::to("t").partition(partition).payload(text)).expect("sent");
    producer.begin_transaction().expect("begin");
    send("kept 0", 0);
    send("kept 1", 1);
    producer.commit_transaction(Duration::from_secs(30)).expect("commit");
    producer.begin_transaction().expect("begin");
    send("aborted", 0);
    producer.flush(Duration::from_secs(30)).expect("flush");
    producer.abort_transaction(Duration::from_secs(30)).expect("abort");

    let reader = kafka.reader("t");
    let texts = |records: Vec<crate::support::kafka::Record>| {
        let mut texts: Vec<String> = records.iter().map(|one| String::from_utf8_lossy(&one.payload).into_owned()).collect();
        texts.sort();
        texts
    };
    assert_eq!(texts(reader.drain()), ["kept 0", "kept 1"]);
    kafka.down();
    kafka.up();
    producer.begin_transaction().expect("begin");
    send("kept 2", 0);
    producer.commit_transaction(Duration::from_secs(30)).expect("commit");
    assert_eq!(texts(reader.drain()), ["kept 2"]);
    assert_eq!(texts(kafka.reader("t").drain()), ["kept 0", "kept 1", "kept 2"]);
}

/// Two real replicas before a receiver that takes everything; then rows are made up from what the gates saw.
#[test]
fn gates_see_what_two_real_replicas_send_and_the_checker_tells_good_from_bad() {
    if !need(&[Peer::Prometheus, Peer::NodeExporter]) {
        return;
    }
    let scratch = Scratch::new("harness");
    let stub = Server::start(|_| Some(Http::answer(204, "")));
    let exporter = Exporter::start(4, 10);
    let node = NodeExporter::start(&scratch);
    let mut gates = Vec::new();
    let mut replicas = Vec::new();
    for name in ["a", "b"] {
        let gate = Gate::to(stub.address);
        let labels = vec![("cluster".to_owned(), "c".to_owned()), ("__replica__".to_owned(), name.to_owned())];
        let replica =
            Replica { name: name.to_owned(), labels, interval: 1, write_to: gate.address().to_string(), targets: (0..4).collect() };
        replicas.push(Prometheus::start(&scratch, replica, &exporter, Some(&node)));
        gates.push(gate);
    }
    for gate in &gates {
        let now = now_ms();
        eventually(Duration::from_secs(40), "the first samples", || if gate.newest() > now { Ok(()) } else { Err("none yet".to_owned()) });
    }
    // The first three intervals of a series do not count.
    let_pass(Duration::from_secs(5));
    replicas[0].process().signal(Signal::STOP);
    let_pass(Duration::from_secs(4));
    replicas[0].process().signal(Signal::CONT);
    gates[1].set(Mode::Cut);
    let_pass(Duration::from_secs(3));
    gates[1].set(Mode::Open);
    let_pass(Duration::from_secs(3));
    for replica in &mut replicas {
        replica.stop();
    }
    let acknowledged: Vec<Samples> = gates.iter().map(Gate::acknowledged).collect();
    let offered: Vec<Samples> = gates.iter().map(Gate::offered).collect();
    assert!(acknowledged[0].len() > 300, "node exporter and ours, without the replica's label: {}", acknowledged[0].len());
    assert_eq!(acknowledged[0].keys().filter(|one| one.contains("demo_counter_total")).count(), 4 * 5);
    assert!(acknowledged[0].keys().all(|one| !one.contains("__replica__")));
    let case = Case { interval: 1000, acknowledged: &acknowledged, offered: &offered };

    // What B sent has no hole, for its gate was cut and its backlog came after.
    let good = made_up(&acknowledged[1..]);
    case.check(&good).expect("one replica that missed nothing");
    // A was stopped for four seconds.
    let holes = case.check(&made_up(&acknowledged[..1])).expect_err("a replica that missed something");
    assert!(holes.contains("a hole of"), "{holes}");
    let both = case.check(&made_up(&acknowledged)).expect_err("both replicas' samples");
    assert!(both.contains("ms apart") || both.contains("times"), "{both}");
}

/// Rows as a forwarder would write them that lets all these samples through, in order.
fn made_up(replicas: &[Samples]) -> Received {
    let mut received = Received::new();
    for (series, times) in replicas.iter().flatten() {
        let rows = received.entry(series.clone()).or_default();
        rows.extend(times.iter().map(|(time, value)| placed(series, *time, value.clone(), false)));
        rows.sort_by_key(|one| one.row.time);
    }
    received
}

fn placed(series: &Series, time: i64, value: Value, late: bool) -> Placed {
    Placed { partition: 0, row: Row { series: series.clone(), time, value, late, rise: None } }
}

/// Ten samples a second apart of one series, changed by `plant`; the checker must complain in these words.
fn expect_complaint(words: &str, plant: impl FnOnce(&mut Vec<Placed>)) {
    let series: Series = "{__name__=\"x\"}".into();
    let times = (0..10).map(|second| (second * 1000, Value::Number(second as f64)));
    let sent: Samples = [(series.clone(), times.clone().collect())].into();
    let mut rows: Vec<Placed> = times.map(|(time, value)| placed(&series, time, value, false)).collect();
    plant(&mut rows);
    let sent = [sent];
    let case = Case { interval: 1000, acknowledged: &sent, offered: &sent };
    match case.check(&[(series, rows)].into()) {
        Ok(seen) => assert_eq!(words, "", "not found; seen: {seen:?}"),
        Err(problems) => assert!(!words.is_empty() && problems.contains(words), "`{words}` is not in: {problems}"),
    }
}

#[test]
fn the_checker_finds_each_planted_fault() {
    expect_complaint("", |_| {});
    expect_complaint("is there 2 times", |rows| rows.insert(6, rows[5].clone()));
    expect_complaint("is not marked late", |rows| rows.swap(5, 6));
    expect_complaint("", |rows| {
        rows.swap(5, 6);
        rows[6].row.late = true;
    });
    expect_complaint("is marked late", |rows| rows[5].row.late = true);
    expect_complaint("nobody sent", |rows| rows[5].row.value = Value::Number(99.0));
    expect_complaint("a hole of", |rows| drop(rows.remove(6)));
    expect_complaint("200 ms apart", |rows| rows.insert(6, placed(&rows[5].row.series, 5200, Value::Number(5.0), false)));
    expect_complaint("more than one partition", |rows| rows[5].partition = 3);
    expect_complaint("the last acknowledged is", |rows| rows.truncate(7));
    expect_complaint("the first acknowledged is", |rows| drop(rows.drain(..4)));
    let rises = |rows: &mut Vec<Placed>| rows.iter_mut().skip(1).for_each(|one| one.row.rise = Some((1.0, 1000)));
    expect_complaint("", rises);
    expect_complaint("it says that it rose by", |rows| {
        rises(rows);
        rows[5].row.rise = None;
    });
    expect_complaint("it says that it rose by", |rows| {
        rises(rows);
        rows.swap(5, 6);
        rows[6].row.late = true;
    });
}

#[test]
fn a_row_is_read_as_the_contract_says() {
    let row = parse_row(r#"{"ts":5,"name":"up","v":1,"job":"a","late":true,"labels":{"x":"\"ü\n"}}"#);
    assert_eq!(
        (&*row.series, row.time, row.late, row.value),
        ("{__name__=\"up\", job=\"a\", x=\"\\\"ü\\n\"}", 5, true, Value::Number(1.0))
    );
    let value = |text: &str| parse_row(&format!(r#"{{"ts":5,"name":"up",{text},"labels":{{}}}}"#)).value;
    assert_eq!(value(r#""v":null,"nan":true"#), Value::Nan);
    assert_eq!(value(r#""v":null,"inf":-1"#), Value::Number(f64::NEG_INFINITY));
    assert_eq!(value(r#""v":null,"stale":true"#), Value::Stale);
}

#[test]
fn a_small_disk_fills_up_and_empties() {
    if !need(&[Peer::Tmpfs]) {
        return;
    }
    let scratch = Scratch::new("harness-disk");
    let disk = SmallDisk::new(&scratch, 4);
    disk.fill();
    std::fs::write(disk.outside().join("more"), [0; 4096]).expect_err("the disk is full");
    disk.free();
    eventually(Duration::from_secs(5), "room", || {
        std::fs::write(disk.outside().join("more"), [0; 4096]).map_err(|error| error.to_string())
    });
    let mut enter = disk.enter();
    let status = std::process::Command::new(enter.remove(0)).args(enter).args(["test", "-f"]).arg(disk.mount().join("more")).status();
    assert!(status.expect("nsenter").success(), "a program inside sees the file");
}

//! Sinks tried on purpose: a configuration whose receivers are reached before there is a node, and a record of a sink's own.

use crate::support::kafka::Kafka;
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, free_port};
use crate::support::series::parse_rows;
use crate::support::sluice::{BINARY, Sluice};
use crate::support::stores::{Kind, Store};
use std::process::Command;
use std::time::Duration;

/// What a verb prints, and its exit code.
fn run(sluice: &Sluice, args: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(BINARY)
        .args(args)
        .env("SLUICE_SERVER", format!("http://{}", sluice.address()))
        .env("SLUICE_DATA_DIR", sluice.data())
        .output()
        .expect("the binary");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (text, output.status.code())
}

#[test]
fn receivers_are_reached_without_a_node_and_tried_with_one_record() {
    if !need(&[Peer::Kafka, Peer::VictoriaMetrics]) {
        return;
    }
    let scratch = Scratch::new("trials");
    let kafka = Kafka::shared();
    let topic = format!("trials-{}", fastrand::u32(..));
    let store = Store::start(&scratch, Kind::VictoriaMetrics);
    let nobody = free_port();
    let sinks = format!(
        "  - name: platform\n    kafka: {{ brokers: [\"{}\"], topic: {topic} }}\n  - name: victoria\n    remote_write: {{ url: \"{}\" }}\n  \
         - name: nobody\n    remote_write: {{ url: \"http://127.0.0.1:{nobody}/w\", timeout: 2s }}\n  - name: files\n    file: {{ directory: \"{}\" }}\n",
        kafka.address(),
        store.url(),
        scratch.join("rows").display()
    );
    let mut sluice = Sluice::prepare_with(&scratch, &format!("trials-{}", fastrand::u32(..)), &sinks, None);

    let (told, code) = run(&sluice, &["check", &sluice.config(), "--connect"]);
    assert_eq!(code, Some(1), "{told}");
    for line in [
        "ok      data_dir: ",
        &format!("FAILED  sink platform: topic {topic} does not exist"),
        "ok      sink victoria: ",
        "FAILED  sink nobody: ",
        "ok      sink files: ",
        "2 of 5 were not reached",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    kafka.create_topic(&topic, 3);
    let (told, _) = run(&sluice, &["check", &sluice.config(), "--connect"]);
    assert!(told.contains(&format!("ok      sink platform: {} has topic {topic} with 3 partitions", kafka.address())), "{told}");
    assert!(kafka.reader(&topic).drain().is_empty() && store.samples().is_empty(), "nothing was sent");

    sluice.up();
    for sink in ["platform", "victoria"] {
        let (told, code) = run(&sluice, &["sink", "test", sink]);
        assert!(code == Some(0) && told.starts_with("sluice_sink_test{") && told.contains(" 1: taken after "), "{told}");
    }
    let reader = kafka.reader(&topic);
    let row = eventually(Duration::from_secs(30), "the record", || {
        reader
            .drain()
            .iter()
            .flat_map(|record| parse_rows(&record.payload))
            .find(|row| row.series.contains("sluice_sink_test"))
            .ok_or("none yet".to_owned())
    });
    assert!(row.series.contains("sink=\"platform\""), "{}", row.series);
    eventually(Duration::from_secs(30), "the sample", || {
        let there = store.samples().keys().any(|series| series.contains("sink=\"victoria\""));
        if there { Ok(()) } else { Err("not yet".to_owned()) }
    });
    let (told, code) = run(&sluice, &["sink", "test", "nobody"]);
    assert!(code == Some(1) && told.contains("not taken") && told.contains("refused"), "{told}");
    let (told, code) = run(&sluice, &["sink", "test", "files"]);
    assert!(code == Some(1) && told.contains("files take no single record"), "{told}");
    assert_eq!(run(&sluice, &["sink", "test", "unknown"]).1, Some(1));
    sluice.stop();
}

//! Rows that Kafka refuses for good, and what becomes of them once the cause is mended.

use crate::support::check::{Received, receive};
use crate::support::kafka::Kafka;
use crate::support::load::Sender;
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, now_ms};
use crate::support::prompb::{Label, Sample, TimeSeries, encode_v1};
use crate::support::series::samples_of;
use crate::support::sluice::{BINARY, Sluice};
use serde_json::Value as Json;
use std::time::Duration;

/// A series of which a row is some 6 kB, whatever compression does.
pub(super) fn long_series(time: i64) -> TimeSeries {
    let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
    let noise = |_| std::iter::repeat_with(fastrand::alphanumeric).take(1_900).collect::<String>();
    let noise: Vec<String> = (0..3).map(noise).collect();
    TimeSeries {
        labels: vec![
            label("__name__", "long"),
            label("__replica__", "a"),
            label("cluster", "letters"),
            label("x", &noise[0]),
            label("y", &noise[1]),
            label("z", &noise[2]),
        ],
        samples: vec![Sample { value: 7.5, timestamp: time }],
        ..TimeSeries::default()
    }
}

fn json(sluice: &Sluice, args: &[&str]) -> Json {
    let text = sluice.ask(args);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
}

pub(super) fn dead(sluice: &Sluice) -> Vec<Json> {
    json(sluice, &["sink", "dead", "platform", "--json"])["dead"].as_array().expect("a list").clone()
}

#[test]
fn a_dead_letter_is_sent_again_once_and_is_none_any_more() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let kafka = Kafka::shared();
    let topic = format!("letters-{}", fastrand::u32(..));
    kafka.create_topic(&topic, 2);
    kafka.bound_messages(&topic, 3_000);
    let scratch = Scratch::new("letters");
    let mut sluice = Sluice::start(&scratch, &kafka.address(), &topic, "");
    let time = now_ms();
    let ordinary = Sender { group: "letters".to_owned(), replica: "a".to_owned(), series: 20, interval: 1000, offset: 0 };
    let long = long_series(time);
    let (long_name, ..) = samples_of(std::slice::from_ref(&long)).remove(0);
    for body in [ordinary.body(time - 1), encode_v1(vec![long]), ordinary.body(time + 1_000)] {
        let answer = sluice.write(body).expect("an answer");
        assert_eq!(answer.status() / 100, 2, "{}", answer.text());
    }

    let reader = kafka.reader(&topic);
    let mut received = Received::new();
    let mut rows = |long: usize| {
        eventually(Duration::from_secs(60), "the rows", || {
            receive(&mut received, &reader.drain());
            let count = |name: bool| {
                received.iter().filter(|(series, _)| (***series == *long_name) == name).map(|(_, rows)| rows.len()).sum::<usize>()
            };
            if (count(false), count(true)) == (40, long) {
                Ok(())
            } else {
                Err(format!("{} rows, {} long ones", count(false), count(true)))
            }
        });
        received.get(&long_name).cloned().unwrap_or_default()
    };
    rows(0);
    let letters = dead(&sluice);
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert!(letters[0]["reason"].as_str().is_some_and(|reason| reason.contains("too large")), "{letters:?}");

    // The cause is still there: the letter stays, and the verb says so.
    eventually(Duration::from_secs(20), "a refusal by Kafka", || {
        let output = std::process::Command::new(BINARY)
            .args(["sink", "replay", "platform", "--server", &sluice.address().to_string()])
            .output()
            .expect("the binary");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{text}");
        if text.contains("kafka did not take it") && text.contains("mend the cause") { Ok(()) } else { Err(text) }
    });
    assert_eq!(dead(&sluice), letters);

    kafka.bound_messages(&topic, 100_000);
    let replayed = eventually(Duration::from_secs(30), "the broker to take longer rows", || {
        let answer = sluice.post("/api/v1/sinks/platform/replay").json();
        if answer["replayed"] == 1 { Ok(answer) } else { Err(answer.to_string()) }
    });
    assert_eq!((&replayed["failed"], &replayed["more"]), (&Json::from(0), &Json::from(false)), "{replayed}");
    assert_eq!(dead(&sluice), Vec::<Json>::new());
    assert_eq!(json(&sluice, &["sink", "replay", "platform", "--json"])["replayed"], 0);

    // Not after a restart either, which reads the log again.
    sluice.kill();
    sluice.up();
    assert_eq!(dead(&sluice), Vec::<Json>::new());
    assert_eq!(sluice.ask(&["sink", "replay", "platform"]), "0 sent again\n");
    assert_eq!(sluice.metric("sluice_shard_dead_letters", ""), 0.0);
    let again = rows(1);
    assert!(again[0].row.late, "{again:?}");
    sluice.stop();
    assert_eq!(rows(1).len(), 1);
}

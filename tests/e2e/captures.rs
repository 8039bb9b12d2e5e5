//! What a real Prometheus 3.14 sent, in both protocols, sent again and read back from Kafka value for value.

use crate::support::check::{Received, first_few, order, receive};
use crate::support::gate::{Samples, note};
use crate::support::http::{Client, Http};
use crate::support::kafka::Kafka;
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually};
use crate::support::prompb::{TimeSeries, decode_v1, decode_v2};
use crate::support::series::{Value, normal, samples_of};
use crate::support::sluice::Sluice;
use std::time::Duration;

/// Requests of a capture file; its format stands in tests/captures/README.md.
pub(super) fn requests(file: &str) -> Vec<Http> {
    let bytes = std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(file)).expect("capture");
    let mut rest = &*bytes;
    let mut take = |length: usize| {
        let (taken, left) = rest.split_at(length);
        rest = left;
        taken
    };
    let mut all = Vec::new();
    let mut left = bytes.len();
    while left > 0 {
        let mut number = || u32::from_le_bytes(take(4).try_into().expect("four bytes")) as usize;
        let (header, body) = (number(), number());
        let headers = String::from_utf8_lossy(take(header)).into_owned();
        let headers =
            headers.lines().filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        all.push(Http { first: "POST /api/v1/write HTTP/1.1".to_owned(), headers, body: take(body).to_vec() });
        left -= 8 + header + body;
    }
    all
}

/// The `X-Prometheus-Remote-Write-*-Written` of an answer.
fn written(answer: &Http) -> [Option<usize>; 3] {
    ["Samples", "Histograms", "Exemplars"].map(|what| answer.header(&format!("X-Prometheus-Remote-Write-{what}-Written"))?.parse().ok())
}

fn send_and_read_back(name: &str, file: &str, decode: impl Fn(&[u8]) -> Vec<TimeSeries>, counts: bool) {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let kafka = Kafka::shared();
    let topic = format!("{name}-{}", fastrand::u32(..));
    kafka.create_topic(&topic, 4);
    let scratch = Scratch::new(name);
    let mut sluice = Sluice::start(&scratch, &kafka.address(), &topic, "");
    let mut client = Client::new(sluice.address());
    let mut sent = Samples::new();
    let mut answered = [0; 3];
    let mut expected = [0; 3];
    for request in requests(file) {
        let series = decode(&request.body);
        for one in &series {
            expected = [expected[0] + one.samples.len(), expected[1] + one.histograms.len(), expected[2] + one.exemplars.len()];
        }
        note(&mut sent, &samples_of(&series));
        let answer = client.send(&request).expect("an answer");
        assert_eq!(answer.status() / 100, 2, "{}: {}", answer.first, answer.text());
        let written = written(&answer);
        assert_eq!(
            written.iter().all(Option::is_some),
            counts,
            "answers to 2.0 say what was written, answers to 1.0 do not: {:?}",
            answer.headers
        );
        (0..3).for_each(|kind| answered[kind] += written[kind].unwrap_or(0));
    }
    if counts {
        assert_eq!(answered, expected, "samples, histograms, exemplars written");
    }
    // As tests/captures/README.md counts them: the same run in both files.
    assert_eq!(expected, [7723, 200, 400]);

    let reader = kafka.reader(&topic);
    let mut received = Received::new();
    eventually(Duration::from_secs(100), "every sample in Kafka", || {
        receive(&mut received, &reader.drain());
        let problems = compare(&sent, &received);
        if problems.is_empty() { Ok(()) } else { Err(format!("{} problems, among them:\n{}", problems.len(), first_few(&problems))) }
    });
    sluice.stop();
    receive(&mut received, &reader.drain());
    let problems: Vec<String> =
        compare(&sent, &received).into_iter().chain(received.iter().flat_map(|(series, rows)| order(series, rows))).collect();
    assert!(problems.is_empty(), "{}", first_few(&problems));
}

/// Differences between what was sent and what came.
fn compare(sent: &Samples, received: &Received) -> Vec<String> {
    let mut problems = Vec::new();
    for (series, times) in sent {
        let rows = received.get(series).map(Vec::as_slice).unwrap_or_default();
        for (time, value) in times {
            let found = rows.iter().find(|one| one.row.time == *time).map(|one| &one.row.value);
            let same = match (value, found) {
                (Value::Histogram(sent), Some(Value::Histogram(got))) => normal(sent) == normal(got),
                (sent, got) => Some(sent) == got,
            };
            if !same {
                problems.push(format!("{series} at {time}: sent {value:?}, came {found:?}"));
            }
        }
    }
    problems.extend(received.keys().filter(|series| !sent.contains_key(*series)).map(|series| format!("{series}: nobody sent it")));
    problems
}

#[test]
fn captured_requests_of_1_0_arrive_value_for_value() {
    send_and_read_back("capture-v1", "prometheus-3.14-v1.cap", decode_v1, false);
}

#[test]
fn captured_requests_of_2_0_arrive_value_for_value() {
    send_and_read_back("capture-v2", "prometheus-3.14-v2.cap", decode_v2, true);
}

#[test]
fn the_captures_hold_what_their_readme_says() {
    for (file, decode) in [("prometheus-3.14-v1.cap", decode_v1 as fn(&[u8]) -> Vec<TimeSeries>), ("prometheus-3.14-v2.cap", decode_v2)] {
        let series: Vec<TimeSeries> = requests(file).iter().flat_map(|request| decode(&request.body)).collect();
        let samples: usize = series.iter().map(|one| one.samples.len()).sum();
        let histograms: usize = series.iter().map(|one| one.histograms.len()).sum();
        let exemplars: usize = series.iter().map(|one| one.exemplars.len()).sum();
        assert_eq!((samples, histograms, exemplars), (7723, 200, 400), "{file}");
        let stale = samples_of(&series).iter().filter(|(_, _, value)| *value == Value::Stale).count();
        assert_eq!(stale, 10, "{file}");
    }
}

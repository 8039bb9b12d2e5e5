//! A sink goes back in time: what it has delivered since comes once more, once; what is older does not.

use crate::support::kafka::{Kafka, Reader};
use crate::support::load::Sender;
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, let_pass, now_ms};
use crate::support::series::{Series, parse_rows};
use crate::support::sluice::Sluice;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often each row is there, and the epochs that the headers name.
type Rows = BTreeMap<(Series, i64), Vec<String>>;

fn read(reader: &Reader, rows: &mut Rows) -> usize {
    for record in reader.drain() {
        let epoch = record.headers.iter().find(|(name, _)| name == "sluice-epoch").map(|(_, value)| value.clone()).unwrap_or_default();
        for row in parse_rows(&record.payload) {
            rows.entry((row.series, row.time)).or_default().push(epoch.clone());
        }
    }
    rows.values().map(Vec::len).sum()
}

#[test]
fn a_sink_goes_back_as_far_as_the_log_is_kept_and_delivers_once_more() {
    if !need(&[Peer::Kafka]) {
        return;
    }
    let scratch = Scratch::new("rewind");
    let kafka = Kafka::shared();
    let topic = format!("rewind-{}", fastrand::u32(..));
    kafka.create_topic(&topic, 2);
    let mut sluice = Sluice::start(&scratch, &kafka.address(), &topic, "log: { keep: 1h }\n");
    let sender = Sender { group: "g".to_owned(), replica: "a".to_owned(), series: 20, interval: 500, offset: 0 };
    let write = |times: std::ops::Range<i64>| {
        for time in times.step_by(500) {
            assert_eq!(sluice.write(sender.body(time)).expect("an answer").status() / 100, 2);
            let_pass(Duration::from_millis(100));
        }
    };
    let start = now_ms();
    write(start..start + 5_000);
    let_pass(Duration::from_secs(1));
    let middle = now_ms();
    let_pass(Duration::from_secs(1));
    write(start + 5_000..start + 10_000);
    let (reader, mut rows) = (kafka.reader(&topic), Rows::new());
    let came = |wanted: usize, rows: &mut Rows| {
        eventually(Duration::from_secs(60), &format!("{wanted} rows"), || match read(&reader, rows) {
            count if count == wanted => Ok(()),
            count => Err(format!("{count} rows")),
        });
        let_pass(Duration::from_secs(2));
        assert_eq!(read(&reader, rows), wanted, "and no more");
    };
    came(400, &mut rows);

    // What came in the second half, once more; the emission's time decides, which is that of its arrival.
    let said = sluice.ask(&["sink", "rewind", "platform", "--to", &middle.to_string()]);
    assert_eq!(said, "200 samples will be delivered once more\n");
    came(600, &mut rows);
    for ((series, time), epochs) in &rows {
        let twice: &[&str] = if *time < start + 5_000 { &["1"] } else { &["1", "2"] };
        assert_eq!(epochs, twice, "{series} at {time}");
    }
    // Everything, after a death on the way.
    assert!(sluice.ask(&["sink", "rewind", "platform", "--by", "1h"]).starts_with("400 samples"));
    sluice.kill();
    sluice.up();
    came(1000, &mut rows);
    assert!(rows.values().all(|epochs| epochs.last().is_some_and(|last| last == "3")), "once more, under the new epoch");
    // Back again is nowhere.
    assert_eq!(sluice.get("/api/v1/sinks").json()["sinks"][0]["pending"], 0);
    sluice.stop();
}

//! Tenants on their way to Kafka: a topic for each, within bounds, and Mimir's key.

use super::formats::requests;
use super::*;
use crate::config::kafka::Topics;

fn emit(bench: &Bench, emissions: u64) {
    for number in 0..emissions {
        bench.shard.emit_these((0..7).map(|series| Sample { series, number, filling: 100, exemplar: false }).collect());
    }
}

#[test]
fn tenants_choose_topics_and_no_more_of_them_than_there_may_be() {
    for delivery in ["exactly_once", "at_least_once"] {
        let mut bench = bench().delivery(delivery);
        bench.draft.topic = "m.{{__tenant__}}".into();
        bench.draft.topics = Some(Topics { allow: vec!["m.*".into()], max: 2, fallback: "metrics".into() });
        for topic in ["m.a", "m.b", "m.c"] {
            bench.kafka.cluster().create_topic(topic, 1, 1).unwrap();
        }
        bench.shard.of_tenants(&["a", "b", "c", "", "b"]);
        emit(&bench, 10);
        let sink = bench.start();
        delivered(&bench, &sink);
        let shown = view(&sink);
        stop(sink);
        // `c` is one more than there may be, and nobody has no topic.
        assert_eq!((shown.sums.rows, shown.sums.aside), (70, 28), "{delivery}");
        let counts = ["m.a", "m.b"].map(|topic| bench.read_topic(topic, 1, 14).iter().map(|message| message.rows.len()).sum::<usize>());
        assert_eq!(counts, [14, 28], "{delivery}");
        assert_eq!(bench.read(28).iter().map(|message| message.rows.len()).sum::<usize>(), 28);
        assert_eq!(bench.read_topic("m.c", 1, 0).len(), 0, "nothing went there");
    }
}

#[test]
fn a_record_for_mimir_holds_samples_of_one_tenant() {
    let mut bench = bench().format("mimir");
    (bench.draft.tenant, bench.draft.pass_tenant) = (Some("nobody".into()), true);
    bench.shard.of_tenants(&["a", "", "b"]);
    emit(&bench, 300);
    let sink = bench.start();
    delivered(&bench, &sink);
    stop(sink);
    let got = bench.read(9);
    for (tenant, remainder) in [("a", 0), ("nobody", 1), ("b", 2)] {
        let own: Vec<Got> = got.iter().filter(|message| message.key.as_deref() == Some(tenant)).cloned().collect();
        let series = requests(&own, <[u8]>::to_vec);
        let expected: Vec<u64> = (0..300).filter(|number| number % 3 == remainder).collect();
        assert!(series.len() == 7 && series.values().all(|numbers| *numbers == expected), "{tenant}: {series:?}");
    }
}

/// The tenant of a row that is too large stands in its letter, with which it finds its topic again.
#[test]
fn a_dead_letter_knows_whose_it_is() {
    let mut bench = bench();
    bench.shard.of_tenants(&["a", "b"]);
    bench.draft.format = Some("row".into());
    emit(&bench, 1);
    bench.shard.emit_these(vec![Sample { series: 0, number: 1, filling: 1_500_000, exemplar: false }]);
    let sink = bench.start();
    delivered(&bench, &sink);
    stop(sink);
    assert_eq!(bench.shard.dead().iter().map(|dead| (dead.emission, dead.tenant.as_str())).collect::<Vec<_>>(), [(2, "b")]);
}

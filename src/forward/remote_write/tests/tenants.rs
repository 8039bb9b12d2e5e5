//! Tenants passed on to a store: requests never mix them, each says whose it is, and order is kept per series and tenant.

use std::collections::BTreeMap;

use super::Got;
use super::Store;
use super::bench;
use super::plain;
use super::taken;
use crate::forward::resend::Resender;
use crate::forward::standin::Sample;
use crate::forward::standin::view;
use crate::shard::command::DeadLetter;

/// What was taken of each tenant, by what a request says of it.
fn by(store: &Store, whose: impl Fn(&Got) -> String) -> BTreeMap<String, BTreeMap<u64, Vec<u64>>> {
    let mut all: BTreeMap<String, BTreeMap<u64, Vec<u64>>> = BTreeMap::new();
    for got in store.got().iter().filter(|got| got.status / 100 == 2) {
        let of = all.entry(whose(got)).or_default();
        got.samples.iter().for_each(|(series, number)| of.entry(*series).or_default().push(*number));
    }
    all
}

fn header(got: &Got) -> String {
    got.headers.get("x-scope-orgid").cloned().unwrap_or_default()
}

fn path(got: &Got) -> String {
    got.headers["request"].split(' ').nth(1).unwrap().to_owned()
}

/// Emissions of tenants `a`, `b` and nobody, in turn, each with the same series.
#[test]
fn a_request_holds_samples_of_one_tenant_and_says_whose_by_header_or_url() {
    for by_url in [false, true] {
        let store = Store::start(taken);
        let mut bench = bench(&store);
        if by_url {
            bench.wanted.url = format!("http://{}/insert/{{{{__tenant__}}}}/prometheus/api/v1/write", store.address);
            bench.wanted.tenant = Some("0".into());
        } else {
            bench.wanted.pass_tenant = true;
        }
        bench.shard.of_tenants(&["team-a", "12:3", ""]);
        let sink = bench.start();
        for round in 0..30 {
            let sample = |series| Sample { series, number: round / 3, filling: 200, exemplar: false };
            bench.shard.emit_these((0..50).map(sample).collect());
        }
        bench.finish(sink);
        let (got, expected) = match by_url {
            true => (by(&store, path), ["12:3", "0", "team-a"].map(|name| format!("/insert/{name}/prometheus/api/v1/write"))),
            false => (by(&store, header), ["", "12:3", "team-a"].map(str::to_owned)),
        };
        assert_eq!(got.keys().collect::<std::collections::BTreeSet<_>>(), expected.iter().collect(), "by URL: {by_url}");
        let each: Vec<u64> = (0..10).collect();
        assert!(got.values().all(|series| series.len() == 50 && series.values().all(|numbers| *numbers == each)), "{got:?}");
        assert_eq!(bench.shard.cursor_now().delivered, 1_500);
        assert!(store.got().iter().all(|got| by_url != got.headers.contains_key("x-scope-orgid") || header(got).is_empty()));
    }
}

#[test]
fn tenants_are_mixed_and_not_named_where_the_sink_does_not_pass_them_on() {
    let store = Store::start(taken);
    let bench = bench(&store);
    bench.shard.of_tenants(&["a", "b"]);
    bench.shard.emit(7, 30);
    bench.shard.emit(7, 30);
    let sink = bench.start();
    bench.finish(sink);
    assert!(store.got().iter().all(|got| header(got).is_empty()));
    assert!(store.got().len() <= 2, "one request a connection: {}", store.got().len());
}

/// A letter knows whose it is, and is sent again as theirs.
#[test]
fn a_tenants_dead_letter_goes_to_that_tenant_when_it_is_sent_again() {
    let store = Store::start(|got| {
        let bad = got.samples.contains(&(3, 0)) && header(got) == "a" && !got.headers.contains_key("retry-attempt");
        if bad { plain(400, "too long") } else { taken(got) }
    });
    let mut bench = bench(&store);
    (bench.wanted.pass_tenant, bench.wanted.tenant) = (true, Some("nobody".into()));
    bench.shard.of_tenants(&["a", ""]);
    bench.shard.emit(7, 7);
    bench.shard.emit(7, 7);
    let sink = bench.start();
    bench.delivered(&sink);
    assert!(view(&sink).notes.iter().any(|note| note.code == "samples_refused"));
    let Resender::Store(settings, _) = sink.resender() else { panic!() };
    bench.finish(sink);
    let dead = bench.shard.dead();
    assert_eq!(dead.iter().map(|dead| (dead.tenant.as_str(), dead.emission, dead.item)).collect::<Vec<_>>(), [("a", 1, 3)]);
    let letter = |tenant: &str| DeadLetter { payload: dead[0].payload.clone(), tenant: tenant.into(), ..DeadLetter::default() };
    let before = store.got().len();
    drop(super::super::replay::replay(&settings, bench.runtime.handle(), &[letter("b"), letter("")], &|| true).unwrap());
    let again: Vec<String> = store.got()[before..].iter().map(header).collect();
    assert_eq!(again, ["b", "nobody"]);
}

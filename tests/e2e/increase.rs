//! How far counters rose, as rows say it, against a real Prometheus' `increase()`: across a replica's death, counters that begin anew, and a killed
//! sluice. That every row says what the rows themselves say is checked wherever rows say it (`check::order`): here, and in all tests of three nodes.

use crate::support::check::Placed;
use crate::support::pair::{Pair, SERIES, Setup, TARGETS};
use crate::support::peers::{Peer, need};
use crate::support::process::now_ms;
use crate::support::series::{Series, Value};
use std::collections::HashMap;

const PEERS: [Peer; 3] = [Peer::Kafka, Peer::Prometheus, Peer::NodeExporter];

/// The first replica dies, then all counters begin anew, then sluice dies and is back. Since when every row is one of the other replica's samples.
pub(super) fn die_and_begin_anew(pair: &mut Pair) -> i64 {
    pair.replicas[0].kill();
    // What waited of the other one's is judged.
    pair.scrape(6);
    let from = now_ms();
    pair.scrape(6);
    pair.exporter.begin_anew();
    pair.scrape(6);
    pair.sluice.kill();
    pair.sluice.up();
    pair.wait_for_news(1);
    from
}

#[test]
fn increases_are_those_of_promql_across_deaths_and_counters_that_begin_anew() {
    if !need(&PEERS) {
        return;
    }
    let mut pair = Pair::start(Setup { sink: "    increase: true\n", ..Setup::pair("increase", 1) });
    pair.scrape(12);
    let from = die_and_begin_anew(&mut pair);
    pair.scrape(4);
    pair.exporter.begin_anew();
    pair.scrape(6);
    let to = now_ms();
    // Everything up to then has been scraped.
    pair.scrape(3);
    let window = format!("demo_counter_total[{}ms]", to - from);
    let increases = pair.replicas[1].query(&format!("increase({window})"), to);
    let counts: HashMap<Series, f64> = pair.replicas[1].query(&format!("count_over_time({window})"), to).into_iter().collect();
    let (_, received) = pair.finish_and_read();
    assert_eq!((increases.len(), counts.len()), (TARGETS * SERIES / 2, TARGETS * SERIES / 2));
    for (series, increase) in increases {
        // PromQL's functions drop the name.
        let named = series.replacen('{', "{__name__=\"demo_counter_total\", ", 1);
        let rows = received.get(named.as_str()).unwrap_or_else(|| panic!("no rows of {named}"));
        let rows: Vec<&Placed> = rows.iter().filter(|one| (from..=to).contains(&one.row.time)).collect();
        assert_eq!(Some(rows.len() as f64), counts.get(&series).copied(), "{named}");
        let ours = extrapolated(&Window::of(&rows), (from, to));
        assert!((ours - increase).abs() <= 1e-9 * increase, "{named}: by the rows {ours}, by PromQL {increase}");
    }
    let gauges = received.iter().filter(|(series, _)| series.contains("demo_gauge"));
    assert!(gauges.flat_map(|(_, rows)| rows).all(|one| one.row.rise.is_none()), "gauges do not count");
}

/// What a counter's rows in a window of time say.
pub struct Window {
    pub first: i64,
    pub last: i64,
    pub rows: u64,
    /// The value in the first one.
    pub at_first: f64,
    /// What it rose from the first to the last.
    pub sum: f64,
}

impl Window {
    /// Of these. The first one's increase began before the window.
    fn of(rows: &[&Placed]) -> Window {
        let sum = rows.iter().skip(1).map(|one| one.row.rise.expect("a counter's row").0).sum();
        let (first, last) = (&rows[0].row, &rows[rows.len() - 1].row);
        let Value::Number(at_first) = first.value else { panic!("{first:?}") };
        Window { first: first.time, last: last.time, rows: rows.len() as u64, at_first, sum }
    }
}

/// What PromQL makes of it: it guesses what was counted between the ends of its range and the samples next to them.
pub fn extrapolated(window: &Window, (from, to): (i64, i64)) -> f64 {
    let sampled = (window.last - window.first) as f64 / 1000.0;
    let average = sampled / (window.rows - 1) as f64;
    let to_start = ((window.first - from) as f64 / 1000.0).min(sampled * window.at_first / window.sum);
    let to_end = (to - window.last) as f64 / 1000.0;
    let beyond = |distance: f64| if distance < average * 1.1 { distance } else { average / 2.0 };
    window.sum * (sampled + beyond(to_start) + beyond(to_end)) / sampled
}

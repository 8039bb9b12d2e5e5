//! A day of a cluster whose pods come and go, through a whole node on a disk: what it knows follows what lives, and its memory with it.
//!
//! The day lies in the past and takes seconds: forgetting goes by the data's own time, and only how often it is asked for (`Timing::forget`)
//! and how much may wait for a twin are made fit for the speed. Runs in a process of its own, since other tests' memory is nobody's churn.
//! `dedup::tests::churn` has the same day sample by sample. `HOURS=96 cargo test --lib memory_follows -- --nocapture` lets it go on for longer.

use super::*;
use crate::telemetry::process::usage;

const CHILD: &str = "SLUICE_CHURN_CHILD";
const HOUR: i64 = 3_600_000;
const STEP: i64 = HOUR / 12;
const PODS: u64 = 500;
const SERIES_OF_A_POD: u64 = 6;
/// Pods replaced each hour: 4 %.
const REPLACED: u64 = PODS * 4 / 100;

/// The pods of an hour. Pod 0 goes with the first and comes back in the twelfth, long forgotten.
fn pods(hour: i64) -> Vec<u64> {
    let first = hour as u64 * REPLACED;
    (first..first + PODS).chain((hour == 12).then_some(0)).collect()
}

/// How long the day is: 24 hours, or `HOURS`.
fn hours() -> i64 {
    std::env::var("HOURS").ok().and_then(|hours| hours.parse().ok()).unwrap_or(24)
}

/// A scrape of all pods.
fn scrape(seed: u64, replica: &str, hour: i64, time: i64) -> Offer {
    let mut encoder = Encoder::new(Protocol::V1);
    let names: Vec<String> = (0..SERIES_OF_A_POD).map(|number| number.to_string()).collect();
    for pod in pods(hour) {
        let pod = format!("pod-{pod}");
        for name in &names {
            let labels = [("__name__", "m"), ("__replica__", replica), ("n", &**name), ("pod", &*pod)];
            encoder.push(&NewSeries { labels: &labels, samples: &[Sample::new(time, 1.0)], ..NewSeries::default() });
        }
    }
    let (mut raw, mut packed, mut items, mut encoded) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    encoder.finish(&mut raw);
    let strip = vec!["__replica__".to_owned()];
    measure::digest_of(&mut Walker::new(seed), (Protocol::V1, &raw), &Limits::default(), &mut items).unwrap();
    pack::pack_snappy(&raw, &mut packed);
    digest::encode(&items, &mut encoded);
    let body = Bytes::from(packed);
    let (group, replica) = ("g".to_owned(), replica.to_owned());
    Offer {
        group,
        replica,
        protocol: Protocol::V1,
        packing: Packing::Snappy,
        strip,
        settings: 0,
        digest: encoded,
        body,
        bare: Vec::new(),
        unpacked: None,
        claim: None,
    }
}

/// The day, in this process.
fn day() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = Settings { data_shards: 1, body_bytes: 4 << 20, ..settings(directory.path()) };
    settings.timing.forget = Duration::from_millis(20);
    let node = start(settings);
    let handle = node.handle.clone();
    wait(handle.ready()).unwrap();
    wait(handle.set_sinks(&[sink("k")], 0)).unwrap();
    wait(handle.configure(|settings| settings.waiting_bytes = 1 << 20)).unwrap();
    let seed = handle.hash_seed();
    let quarter = hours() / 4 * HOUR;
    let begin = (clock::wall_ms() - 4 * quarter) / STEP * STEP;
    let (mut taken, mut sent, mut passed, mut of_pod_0) = (0, 0_u64, 0_u64, Vec::new());
    let mut seen = Vec::new();
    let age = forget_age(&handle);
    for step in 0..4 * quarter / STEP {
        let (hour, time) = (step * STEP / HOUR, begin + step * STEP);
        for (replica, offset) in [("a", 0), ("b", 20_000)] {
            send(&handle, scrape(seed, replica, hour, time + offset)).unwrap();
        }
        sent += pods(hour).len() as u64 * SERIES_OF_A_POD;
        // As a sink does: read, and say how far.
        let shard = handle.group("g").unwrap();
        let emissions = handle.emissions(shard, taken, 100).unwrap();
        for emission in &emissions {
            taken = emission.number;
            passed += emission.picks.len() as u64;
            if !matches!(hour, 0 | 1 | 12 | 13) {
                continue;
            }
            let body = handle.body(shard, emission.entry).unwrap().expect("kept for the sink");
            body.pick(&mut Walker::new(seed), &emission.picks, &mut |picked| {
                if picked.labels.iter().any(|label| label.name == "pod" && label.value == "pod-0") {
                    of_pod_0.push((picked.series, picked.point.time));
                }
            })
            .unwrap();
        }
        let moved = CursorMove { sink: "k".into(), epoch: 1, emission: taken, ..CursorMove::default() };
        wait(handle.propose(shard, Command::Cursor(moved))).unwrap();
        if (step + 1) % (quarter / STEP) == 0 {
            // What lives, what died within the age, and an hour for what is being forgotten.
            let bound = (PODS + REPLACED * (age / HOUR + 1) as u64 + 1) * SERIES_OF_A_POD;
            let mut known = 0;
            eventually(|| {
                known = handle.groups().first().map_or(u64::MAX, |group| group.series);
                known <= bound
            });
            seen.push((hour + 1, known, usage().resident_bytes >> 20));
        }
    }
    println!("hour, series known, MiB resident: {seen:?}; {sent} samples of each replica, {passed} passed");
    // In the group's first scrape no interval is known, and both copies pass.
    assert!(passed >= sent && passed - sent <= PODS * SERIES_OF_A_POD, "{passed} passed of {sent}");
    let back: Vec<i64> = of_pod_0.iter().map(|(_, time)| *time).filter(|time| *time >= begin + 12 * HOUR).collect();
    let mut once: Vec<_> = of_pod_0.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), of_pod_0.len(), "a sample twice");
    assert_eq!(back.len() as u64, SERIES_OF_A_POD * 12, "what came back is there once a scrape");
    let (quarter, end) = (seen[0], seen[3]);
    assert!(end.1 <= quarter.1 * 11 / 10, "{seen:?}");
    // The disk's buffers fill up during the first hours: up to 32 MiB for each of two families, and their caches.
    assert!(end.2 <= quarter.2 + quarter.2 / 2 + 96, "{seen:?}");
    assert!(node.stop().is_empty());
}

/// The age at which a series is forgotten, ms.
fn forget_age(handle: &Handle) -> i64 {
    let age = std::cell::Cell::new(0);
    wait(handle.configure(|settings| age.set(settings.forget_series_ms))).unwrap();
    age.get()
}

#[test]
fn memory_follows_the_living_through_a_day_of_churn() {
    if std::env::var_os(CHILD).is_some() {
        return day();
    }
    let name = "node::tests::churn::memory_follows_the_living_through_a_day_of_churn";
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(program).args([name, "--exact", "--nocapture"]).env(CHILD, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let told = text.lines().find(|line| line.contains("series known"));
    println!("{}", told.expect("the child ran the day"));
}

//! `match` and `relabel_configs` of a sink against a real Prometheus' `write_relabel_configs`: it sends the same samples to two places, to a store with its
//! own rules, and to sluice, whose sink to another store has the same rules, letter by letter. Both stores must hold the same.

use crate::support::exporter::Exporter;
use crate::support::gate::Samples;
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, let_pass};
use crate::support::prometheus::Prometheus;
use crate::support::sluice::Sluice;
use crate::support::stores::{Kind, Store};
use std::collections::BTreeMap;
use std::time::Duration;

/// Every action, in ways that show whether values are joined, texts caught, names made and order kept as Prometheus does.
const RULES: &str = r#"
      - { source_labels: [job, instance], separator: "@", target_label: joined }
      - { source_labels: [job, instance], target_label: default_separator }
      - { source_labels: [zone], regex: "z-(\\d+)", target_label: zone_number, replacement: "$1" }
      - { source_labels: [zone], regex: "z-(?P<digits>\\d+)", target_label: "zone_${digits}", replacement: "${digits}x$$" }
      - { source_labels: [zone], regex: "(z).*", target_label: not_there, replacement: "$1x" }
      - { source_labels: [zone], regex: "z", target_label: unanchored, replacement: "matched" }
      - { source_labels: [absent], target_label: made, replacement: "of nothing" }
      - { source_labels: [absent], target_label: gone }
      - { source_labels: [team], target_label: team, action: lowercase }
      - { source_labels: [team], target_label: loud, action: uppercase }
      - { source_labels: [__name__, number], target_label: part, modulus: 7, action: hashmod }
      - { source_labels: [instance], target_label: part_of_one, modulus: 1000, action: hashmod }
      - { regex: "scrub_(.+)", replacement: "clean_$1", action: labelmap }
      - { regex: "scrub_.*", action: labeldrop }
      - { source_labels: [__name__], regex: "scrape_.*|up", action: drop }
      - { source_labels: [part], regex: "[0-4]", action: keep }
      - { source_labels: [number], target_label: same, action: dropequal }
      - { source_labels: [kept], target_label: kept_too, action: keepequal }
      - { source_labels: [unicode], regex: "\\w+", target_label: never }
      - { regex: "(never|__name__|job|instance|number|joined|default_separator|zone.*|not_there|unanchored|made|gone|team|loud|part.*|clean_.*|kept)", action: labelkeep }
      - { source_labels: [__name__], regex: "demo_(.*)_total", target_label: __name__, replacement: "renamed:$1" }
"#;

#[test]
fn a_sink_relabels_as_prometheus_does() {
    if !need(&[Peer::Prometheus]) {
        return;
    }
    let scratch = Scratch::new("relabel");
    let exporter = Exporter::start(2, 40);
    let (theirs, ours) = (scratch_store("theirs"), scratch_store("ours"));
    // What every series gets is taken away by `labelkeep`, since their side has no such label; `zone` is there already.
    let sinks = format!(
        "  - name: ours\n    remote_write: {{ url: \"{}\" }}\n    match: ['{{job=\"demo\"}}', 'nothing']\n    relabel_configs:{RULES}external_labels: {{ datacenter: nj1, zone: other }}\n",
        ours.1.url()
    );
    let mut sluice = Sluice::prepare_with(&scratch, &format!("relabel-{}", fastrand::u32(..)), &sinks, None);
    sluice.up();
    let targets: String = (0..2)
        .map(|target| {
            format!(
                "  - {{ targets: ['{}'], labels: {{ __metrics_path__: /t/{target}, instance: t{target}, zone: z-{}, team: CoRe, scrub_a: x, scrub_b: y, \
                 kept: k, kept_too: k, gone: soon, unicode: \"ü\" }} }}\n",
                exporter.address(),
                target + 10
            )
        })
        .collect();
    let text = format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nremote_write:\n- url: {}\n  write_relabel_configs:{RULES}- url: http://{}/api/v1/write\n\
         scrape_configs:\n- job_name: demo\n  static_configs:\n{targets}",
        theirs.1.url(),
        sluice.address()
    );
    let mut prometheus = Prometheus::start_as(&scratch, "sender", &text);
    let_pass(Duration::from_secs(6));
    prometheus.stop();
    let held = eventually(Duration::from_secs(60), "both stores to hold the same", || {
        let (mut theirs, mut ours) = (theirs.1.samples(), ours.1.samples());
        // A Prometheus that ends does not wait for long until all is taken: what one of the two got last, the other may never get.
        let newest = |samples: &Samples| samples.values().filter_map(|of| of.keys().next_back().copied()).max();
        if let (Some(one), Some(other)) = (newest(&theirs), newest(&ours)) {
            for samples in [&mut theirs, &mut ours] {
                samples.values_mut().for_each(|of| of.retain(|time, _| *time <= one.min(other)));
                samples.retain(|_, of| !of.is_empty());
            }
        }
        let sample = |samples: &Samples| samples.values().map(BTreeMap::len).sum::<usize>();
        if theirs == ours && sample(&theirs) > 50 {
            return Ok(theirs);
        }
        let only = |a: &Samples, b: &Samples| a.keys().filter(|series| !b.contains_key(*series)).take(3).cloned().collect::<Vec<_>>();
        Err(format!(
            "{} and {} samples; only theirs {:?}, only ours {:?}",
            sample(&theirs),
            sample(&ours),
            only(&theirs, &ours),
            only(&ours, &theirs)
        ))
    });
    // The rules did something: two thirds of the series are kept, and none as it was.
    assert!(held.len() > 20 && held.len() < 75, "{}", held.len());
    let first = held.keys().next().expect("a series");
    for label in ["clean_a=", "joined=", "zone_10=", "zone_number=", "loud=", "made=", "part_of_one="] {
        assert!(held.keys().any(|series| series.contains(label)), "{label} {first}");
    }
    assert!(held.keys().any(|series| series.contains("renamed:counter")) && !held.keys().any(|series| series.contains("gone=")));
    sluice.stop();
}

fn scratch_store(name: &str) -> (Scratch, Store) {
    let scratch = Scratch::new(&format!("relabel-{name}"));
    let store = Store::start(&scratch, Kind::Prometheus);
    (scratch, store)
}

//! What sluice says about itself: through its own sinks, and in what is shipped to look at it.

use super::manual::root;
use crate::support::load::Sender;
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, free_port, now_ms};
use crate::support::sluice::Sluice;
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const RULES: &str = "packaging/prometheus/sluice.rules.yml";
const DASHBOARD: &str = "packaging/grafana/sluice.json";

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Names of our metrics in a text, without what a histogram's series end in.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let ours = words.filter(|word| ["sluice_", "process_", "alertmanager_"].iter().any(|begin| word.starts_with(begin)));
    ours.map(|word| ["_bucket", "_sum", "_count"].iter().fold(word, |word, end| word.strip_suffix(end).unwrap_or(word)).to_owned())
        .collect()
}

/// Those of docs/metrics.md.
fn documented() -> BTreeSet<String> {
    names(
        &text("docs/metrics.md")
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| line.split('|').nth(1).unwrap_or(""))
            .collect::<Vec<_>>()
            .join(" "),
    )
}

/// The sources that register metrics.
fn sources(dir: &Path, out: &mut String) {
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.ends_with("metrics.rs") || path.ends_with("telemetry/process.rs") {
            out.push_str(&std::fs::read_to_string(&path).expect("text"));
        }
    }
}

#[test]
fn the_dashboard_the_rules_and_the_page_name_metrics_that_are_there() {
    let (documented, mut code) = (documented(), String::new());
    sources(&root().join("src"), &mut code);
    assert!(documented.len() > 80, "{documented:?}");
    for name in &documented {
        let plain = name.strip_prefix("sluice_").or(name.strip_prefix("alertmanager_")).unwrap_or(name);
        let plain = plain.strip_suffix("_total").unwrap_or(plain);
        assert!(
            code.contains(&format!("\"{plain}\"")) || code.contains(&format!("\"sluice_{plain}\"")),
            "docs/metrics.md: `{name}` is registered nowhere"
        );
    }
    for file in [RULES, DASHBOARD] {
        let named = names(&text(file));
        assert!(named.len() >= 15, "{file}: {named:?}");
        let unknown: Vec<&String> = named.difference(&documented).collect();
        assert!(unknown.is_empty(), "{file} names what docs/metrics.md does not: {unknown:?}");
    }
    let dashboard: Json = serde_json::from_str(&text(DASHBOARD)).expect("JSON");
    assert!(dashboard["panels"].as_array().expect("panels").len() > 20);
    if need(&[Peer::Prometheus]) {
        let checked = Command::new("promtool").args(["check", "rules"]).arg(root().join(RULES)).output().expect("promtool");
        assert!(checked.status.success(), "{}{}", String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    }
}

#[test]
fn own_metrics_go_through_the_sinks_and_do_not_feed_on_themselves() {
    let scratch = Scratch::new("own-metrics");
    let (dir, port, files) = (scratch.sub("sluice"), free_port(), scratch.sub("files"));
    let config = format!(
        "listen: 127.0.0.1:{port}\ndata_dir: {}\nown_metrics: true\nsinks:\n  - name: files\n    file: {{ directory: {} }}\n",
        dir.join("data").display(),
        files.display()
    );
    let mut sluice = Sluice::prepare_as("sluice", dir, ([127, 0, 0, 1], port).into(), &config, None);
    sluice.up();
    let sender = Sender { group: "g".to_owned(), replica: "a".to_owned(), series: 10, interval: 1000, offset: 0 };
    assert_eq!(sluice.write(sender.body(now_ms())).unwrap().status(), 204);
    let group = || -> Result<(u64, u64), String> {
        let list: Json = serde_json::from_str(&sluice.ask(&["group", "list", "--json"])).expect("JSON");
        let own =
            list["groups"].as_array().expect("groups").iter().find(|one| one["name"] == "sluice").ok_or("no group sluice yet")?.clone();
        assert!(own["hints"].as_array().expect("hints").is_empty() && own["counts"]["refused"] == 0, "{own:#}");
        Ok((own["series"].as_u64().unwrap(), own["counts"]["emitted"].as_u64().unwrap()))
    };
    // Two rounds, which bring the same series but for those of what the first one brought about.
    let first = eventually(Duration::from_secs(60), "a round", group);
    let second = eventually(Duration::from_secs(60), "another round", || {
        let now = group()?;
        if now.1 > first.1 { Ok(now) } else { Err(format!("{now:?}")) }
    });
    assert!(first.0 > 100 && second.0 < first.0 + 100, "{first:?} {second:?}");
    let row: Json = serde_json::from_str(
        sluice.ask(&["tap", "--at", "files", "--match", r#"{__name__="sluice_group_series",group="g"}"#, "-n", "1"]).trim(),
    )
    .expect("a row");
    assert_eq!((&row["name"], row["v"].as_f64(), &row["job"]), (&"sluice_group_series".into(), Some(10.0), &"sluice".into()), "{row:#}");
    assert!(row["instance"].as_str().is_some_and(|instance| instance.ends_with(&port.to_string())), "{row:#}");
    assert_eq!(row["labels"]["node"].as_str().map(str::len), Some(16), "{row:#}");
    // And whatever /metrics says stands in the page.
    let metrics = sluice.get("/metrics").text();
    let families = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")).filter_map(|line| line.split(' ').next());
    let documented = documented();
    let missing: Vec<&str> =
        families.filter(|name| !documented.contains(*name) && !documented.contains(&format!("{name}_total"))).collect();
    assert!(missing.is_empty(), "docs/metrics.md lacks {missing:?}");
}

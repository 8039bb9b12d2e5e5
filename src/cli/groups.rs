//! `sluice group`: pairs of Prometheus, who leads them, and why that changed.

use clap::Args;
use clap::Subcommand;
use serde_json::Value;
use serde_json::json;

use crate::cli::Asked;
use crate::cli::Failure;
use crate::cli::client::segment;
use crate::cli::table::Table;
use crate::cli::table::cell;
use crate::cli::table::span;

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// All groups: leader, standbys, series, and what looks wrong about them.
    List(Asked),
    /// One group: its replicas, and where every received sample went.
    Show(One),
    /// Let one replica lead until `unpin`, whatever is seen of it.
    Pin {
        /// The group, as `group list` shows it.
        group: String,
        /// The replica that shall lead.
        replica: String,
        #[command(flatten)]
        asked: Asked,
    },
    /// Let detection choose the leader again.
    Unpin(One),
    /// Let another replica lead, now.
    StepDown(One),
    /// The last switches: reason, evidence, and what they cost.
    History(One),
    /// What its series are: metrics and labels with most of them, and with most new ones within the hour.
    Cardinality {
        /// The group; without it all groups in a line each.
        group: Option<String>,
        /// Metrics, labels and pairs to name.
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
        top: u16,
        /// What comes first.
        #[arg(long, value_enum, default_value_t = By::Series)]
        by: By,
        #[command(flatten)]
        asked: Asked,
    },
}

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// Most series.
    Series,
    /// Most new ones.
    Churn,
}

/// A verb about one group.
#[derive(Debug, Args)]
pub struct One {
    /// The group, as `group list` shows it.
    group: String,
    #[command(flatten)]
    asked: Asked,
}

/// Does it.
pub async fn carry_out(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List(asked) => show(&asked, "/api/v1/groups", list).await,
        Verb::Show(one) => show(&one.asked, &path(&one.group, ""), one_group).await,
        Verb::History(one) => show(&one.asked, &path(&one.group, "/history"), history).await,
        Verb::Pin { group, replica, asked } => change(&asked, &group, "pin", json!({ "replica": replica })).await,
        Verb::Cardinality { group: None, asked, .. } => show(&asked, "/api/v1/cardinality", cardinalities).await,
        Verb::Cardinality { group: Some(group), top, by, asked } => {
            let by = if by == By::Churn { "churn" } else { "series" };
            show(&asked, &path(&group, &format!("/cardinality?top={top}&by={by}")), cardinality).await
        }
        Verb::Unpin(one) => change(&one.asked, &one.group, "unpin", json!({})).await,
        Verb::StepDown(one) => change(&one.asked, &one.group, "step-down", json!({})).await,
    }
}

fn path(group: &str, rest: &str) -> String {
    format!("/api/v1/groups/{}{rest}", segment(group))
}

async fn show(asked: &Asked, path: &str, text: fn(&Value) -> String) -> Result<(), Failure> {
    let answer = asked.client().get(path).await?;
    if asked.json {
        println!("{answer:#}");
    } else {
        print!("{}", text(&answer));
    }
    Ok(())
}

async fn change(asked: &Asked, group: &str, verb: &str, body: Value) -> Result<(), Failure> {
    let answer = asked.client().post(&path(group, &format!("/{verb}")), &body).await?;
    if asked.json {
        println!("{answer:#}");
    } else {
        println!("{group}: {}", answer.get("done").and_then(Value::as_str).unwrap_or("done"));
    }
    Ok(())
}

fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn list(answer: &Value) -> String {
    let mut table = Table::new(&["GROUP", "LEADER", "STANDBY", "SERIES", "SHARD", "WAITING", "LATE", "FILLED", "PINNED"]);
    let mut hints = String::new();
    for group in items(answer, "groups") {
        let leader = cell(&group["leader"]);
        let standbys: Vec<String> =
            items(group, "replicas").iter().map(|replica| cell(&replica["name"])).filter(|name| *name != leader).collect();
        let counts = &group["counts"];
        table.row(vec![
            cell(&group["name"]),
            leader,
            if standbys.is_empty() { "-".into() } else { standbys.join(",") },
            cell(&group["series"]),
            cell(&group["shard"]),
            cell(&counts["waiting"]),
            cell(&counts["late"]),
            cell(&counts["filled"]),
            cell(&group["pinned"]),
        ]);
        for hint in items(group, "hints") {
            let text = hint.as_str().map_or_else(|| cell(&hint["text"]), str::to_owned);
            hints.push_str(&format!("! {}: {text}\n", cell(&group["name"])));
        }
    }
    format!("{}{hints}", table.text("no group has written yet; docs/senders.md shows how to point a Prometheus here"))
}

fn one_group(group: &Value) -> String {
    let mut out = format!(
        "group    {}\nshard    {}\nleader   {}\npinned   {}\nseries   {}\n\n",
        cell(&group["name"]),
        cell(&group["shard"]),
        cell(&group["leader"]),
        cell(&group["pinned"]),
        cell(&group["series"])
    );
    let mut replicas = Table::new(&["REPLICA", "ROLE", "LAG", "SAMPLES"]);
    for replica in items(group, "replicas") {
        let role = if replica["name"] == group["leader"] { "leader" } else { "standby" };
        replicas.row(vec![cell(&replica["name"]), role.into(), span(&replica["lag_ms"]), cell(&replica["samples"])]);
    }
    out.push_str(&replicas.text("no replica is known"));
    out.push_str("\nreceived = emitted + covered + repeated + refused + waiting\n");
    let mut counts = Table::new(&["RECEIVED", "EMITTED", "COVERED", "REPEATED", "REFUSED", "WAITING", "LATE", "FILLED"]);
    let names = ["received", "emitted", "covered", "repeated", "refused", "waiting", "late", "filled"];
    counts.row(names.iter().map(|name| cell(&group["counts"][name])).collect());
    out.push_str(&counts.text(""));
    for hint in items(group, "hints") {
        out.push_str(&format!("! {}\n", hint.as_str().map_or_else(|| cell(&hint["text"]), str::to_owned)));
    }
    out
}

fn history(answer: &Value) -> String {
    let mut out = String::new();
    for switch in items(answer, "switches") {
        out.push_str(&format!(
            "{}  {} -> {}  ({})\n  {}\n  gap {}; samples: overlap {}, late {}, filled {}\n",
            switch.get("at_text").map_or_else(|| at(&switch["at"]), cell),
            cell(&switch["from"]),
            cell(&switch["to"]),
            cell(&switch["reason"]),
            cell(&switch["evidence"]),
            span(switch.get("gap_ms").unwrap_or(&switch["gap"])),
            cell(&switch["overlap"]),
            cell(&switch["late"]),
            cell(&switch["filled"]),
        ));
    }
    if out.is_empty() { "this group's leader has never changed\n".into() } else { out }
}

fn cardinalities(answer: &Value) -> String {
    let mut table = Table::new(&["GROUP", "SERIES", "NEW/H", "TOP METRIC", "TOP LABEL"]);
    for group in items(answer, "groups") {
        let about = |count: &Value| if group["exact"] == true { cell(count) } else { format!("~{}", cell(count)) };
        table.row(vec![
            cell(&group["group"]),
            cell(&group["series"]),
            about(&group["new_series"]),
            cell(&group["top_metric"]),
            cell(&group["top_label"]),
        ]);
    }
    table.text("no group has written yet")
}

fn cardinality(answer: &Value) -> String {
    let exact = answer["exact"] == true;
    let mut out = format!(
        "group    {}\nseries   {}\nnew      {} within the hour\nby       {}\n",
        cell(&answer["group"]),
        cell(&answer["series"]),
        cell(&answer["new_series"]),
        if exact { "counting".to_owned() } else { format!("a sample of {} series: figures below are estimates", cell(&answer["sampled"])) }
    );
    let mut metrics = Table::new(&["METRIC", "SERIES", "NEW/H"]);
    for metric in items(answer, "metrics") {
        metrics.row(vec![cell(&metric["name"]), cell(&metric["series"]), cell(&metric["new_series"])]);
    }
    let mut labels = Table::new(&["LABEL", if exact { "VALUES" } else { "VALUES (AT LEAST)" }, "NEW/H"]);
    for label in items(answer, "labels") {
        labels.row(vec![cell(&label["name"]), cell(&label["values"]), cell(&label["new_values"])]);
    }
    let mut pairs = Table::new(&["PAIR", "SERIES", "NEW/H"]);
    for pair in items(answer, "pairs") {
        let text = format!("{}={}", cell(&pair["label"]), pair["value"]);
        pairs.row(vec![text, cell(&pair["series"]), cell(&pair["new_series"])]);
    }
    for table in [metrics, labels, pairs] {
        out.push_str(&format!("\n{}", table.text("nothing was seen yet: of old groups one minute in nine is looked at")));
    }
    for node in items(answer, "unreachable") {
        out.push_str(&format!("! {} does not answer, what it saw is missing: {}\n", cell(&node["node"]), cell(&node["reason"])));
    }
    out
}

fn at(value: &Value) -> String {
    value.as_i64().map_or_else(|| cell(value), crate::clock::rfc3339)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_leader_standbys_and_what_looks_wrong() {
        let answer = json!({"groups": [{"name": "monitoring/k8s", "leader": "k8s-0", "series": 1200, "shard": 2, "pinned": null,
            "replicas": [{"name": "k8s-0"}, {"name": "k8s-1"}], "counts": {"waiting": 3, "late": 0, "filled": 7},
            "hints": ["one replica only"]}]});
        let text = list(&answer);
        let row = text.lines().nth(1).unwrap();
        assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["monitoring/k8s", "k8s-0", "k8s-1", "1200", "2", "3", "0", "7", "-"]);
        assert!(text.ends_with("! monitoring/k8s: one replica only\n"));
        assert!(list(&json!({"groups": []})).contains("docs/senders.md"));
    }

    #[test]
    fn cardinality_says_when_it_estimates() {
        let answer = json!({"group": "g", "series": 90_000, "new_series": 880, "sampled": 2048, "exact": false,
            "metrics": [{"name": "up", "series": 44_000, "new_series": 880}], "labels": [{"name": "pod", "values": 900, "new_values": 20}],
            "pairs": [{"label": "job", "value": "a b", "series": 90_000, "new_series": 880}], "unreachable": []});
        let text = cardinality(&answer);
        assert!(text.contains("a sample of 2048 series") && text.contains("VALUES (AT LEAST)"), "{text}");
        assert!(text.contains("job=\"a b\"   90000    880\n"), "{text}");
    }
}

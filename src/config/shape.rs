//! What a sink takes, and as what: `match`, `relabel_configs`, `late` and `increase` of a sink, and `external_labels`, which all sinks get. Read as written; `relabel`
//! knows what selectors and rules mean, and `app` has them checked.

use crate::config::read::Node;
use crate::config::read::Section;
use crate::config::values;

/// A sink's choice of samples and labels, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// PromQL selectors; a series must be taken by one of them, if there are any.
    pub selectors: Vec<String>,
    /// Prometheus' relabelling.
    pub rules: Vec<Relabel>,
    /// Samples older than what was forwarded of their series stay behind.
    pub drops_late: bool,
    /// Rows say how far counters rose.
    pub increase: Option<Increase>,
    /// Go onto every series that lacks them; by name. The cluster's, the same for all sinks.
    pub external: Vec<(String, String)>,
}

/// Of which series a sink's rows say how far they rose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Increase {
    /// PromQL selectors; none: the series' names decide.
    pub selectors: Vec<String>,
}

/// One of `relabel_configs`; `None` is "not said".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relabel {
    /// `source_labels`
    pub source_labels: Option<Vec<String>>,
    /// `separator`
    pub separator: Option<String>,
    /// `target_label`
    pub target_label: Option<String>,
    /// `regex`
    pub regex: Option<String>,
    /// `modulus`
    pub modulus: Option<u64>,
    /// `replacement`
    pub replacement: Option<String>,
    /// `action`
    pub action: Option<String>,
}

/// Reads a sink's part.
pub fn read(section: &Section<'_>) -> Shape {
    let selectors = section.get("match").map(|node| texts(&node)).unwrap_or_default();
    let rules = section.get("relabel_configs").map(|node| node.list().iter().map(rule).collect()).unwrap_or_default();
    let drops_late = section.or("late", false, values::one_of(&[("forward", false), ("drop", true)]));
    let increase = section.get("increase").and_then(|node| increase(&node));
    Shape { selectors, rules, drops_late, increase, external: Vec::new() }
}

/// `increase: true`, or `increase: { match: up }`.
fn increase(node: &Node<'_>) -> Option<Increase> {
    if node.is_single() {
        return node.value(values::switch).filter(|wanted| *wanted).map(|_| Increase::default());
    }
    let section = node.section();
    let selectors = section.get("match").map(|node| texts(&node)).unwrap_or_default();
    if selectors.is_empty() {
        section.missing(
            "match",
            "write which series are counters: match: '{__name__=~\".+_total\"}'; or increase: true, which goes by their names",
        );
    }
    section.finish();
    Some(Increase { selectors })
}

/// One text, or a list of them: `match: up` as well as `match: [up, down]`.
fn texts(node: &Node<'_>) -> Vec<String> {
    if node.is_single() {
        return node.value(values::text).into_iter().collect();
    }
    node.list().iter().filter_map(|item| item.value(values::text)).collect()
}

/// Reads one of `relabel_configs`.
pub fn rule(node: &Node<'_>) -> Relabel {
    let section = node.section();
    // An empty text is a value here: `replacement: ""` takes a label away.
    let text = |key| section.get(key).map(|node| if node.is_empty() { String::new() } else { node.text().unwrap_or_default().to_owned() });
    let rule = Relabel {
        source_labels: section.get("source_labels").map(|node| node.list().iter().filter_map(|item| item.value(values::label)).collect()),
        separator: text("separator"),
        target_label: text("target_label"),
        regex: text("regex"),
        modulus: section.opt("modulus", values::number(1..=u64::MAX)),
        replacement: text("replacement"),
        action: text("action"),
    };
    section.finish();
    rule
}

/// Reads `external_labels:` of the file.
pub fn external(top: &Section<'_>) -> Vec<(String, String)> {
    let mut labels: Vec<(String, String)> = Vec::new();
    for (name, node) in top.below("external_labels").iter().flat_map(Section::pairs) {
        if name == "__name__" {
            node.complain("is the metric's name, which every series has", "name another label, for example datacenter");
        } else if name == "__tenant__" {
            node.complain("is the tenant's, which a sender or its token names", "name another label, for example datacenter");
        } else if let Some(value) = node.text() {
            labels.push((name.to_owned(), value.to_owned()));
        }
    }
    labels.sort_unstable();
    labels
}

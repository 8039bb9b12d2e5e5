//! Families of metrics, as programs expose and push them: read from Prometheus' text format (`text`) and its delimited protobuf (`delimited`), written as text.
//!
//! Numbers are written as Go writes them, so that what was pushed here looks as it does at a Pushgateway. Left out on purpose: native histograms and exemplars
//! (a native histogram is taken with its sum and its count), OpenMetrics' own types, and what becomes of families (`shard::pushed`).

pub mod delimited;
pub mod text;

use std::fmt::Write;

/// What a family of metrics is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Quantiles, a sum and a count.
    Summary,
    /// Nobody said.
    Untyped,
    /// Buckets, a sum and a count.
    Histogram,
}

/// All kinds with their words, in the order of their numbers in protobuf.
const KINDS: [(Kind, &str); 5] = [
    (Kind::Counter, "counter"),
    (Kind::Gauge, "gauge"),
    (Kind::Summary, "summary"),
    (Kind::Untyped, "untyped"),
    (Kind::Histogram, "histogram"),
];

impl Kind {
    /// Its number in protobuf.
    pub fn number(self) -> u8 {
        KINDS.iter().position(|(kind, _)| *kind == self).unwrap_or(0) as u8
    }

    /// Of this number.
    pub fn of(number: u64) -> Option<Kind> {
        KINDS.get(usize::try_from(number).ok()?).map(|(kind, _)| *kind)
    }

    /// Behind `# TYPE`.
    pub fn word(self) -> &'static str {
        KINDS[usize::from(self.number())].1
    }

    fn of_word(word: &str) -> Option<Kind> {
        KINDS.iter().find(|(_, known)| known.eq_ignore_ascii_case(word)).map(|(kind, _)| *kind)
    }

    /// The suffixes by which its parts are called, if it has parts.
    pub fn suffixes(self) -> &'static [&'static str] {
        match self {
            Kind::Summary => &["_sum", "_count"],
            Kind::Histogram => &["_sum", "_count", "_bucket"],
            Kind::Counter | Kind::Gauge | Kind::Untyped => &[],
        }
    }

    /// The label that tells its steps apart.
    fn step_label(self) -> &'static str {
        if self == Kind::Summary { "quantile" } else { "le" }
    }
}

/// Names and values.
pub type Labels = Vec<(String, String)>;

/// Sees a sample: its name, its labels, the label of a part, its value.
pub type Visit<'v> = dyn FnMut(&str, &[(String, String)], Option<(&str, &str)>, f64) + 'v;

/// Metrics of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Their name.
    pub name: String,
    /// For people.
    pub help: Option<String>,
    /// What they are.
    pub kind: Kind,
    /// One for each set of labels.
    pub metrics: Vec<Metric>,
}

/// One metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its labels, without those of its parts.
    pub labels: Labels,
    /// What it says.
    pub value: Value,
}

/// What a metric says.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of counters, gauges and what has no type.
    Single(f64),
    /// Of summaries and histograms.
    Parts(Parts),
}

/// What a summary or a histogram says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parts {
    /// How many were observed.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// Quantiles with their values, or upper bounds with how many were not above.
    pub steps: Vec<(f64, f64)>,
}

/// What came in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Read {
    /// As written, one of a name.
    pub families: Vec<Family>,
    /// It can be read, and yet must not be taken: why.
    pub refused: Option<String>,
}

/// Metrics, labels and steps of one body together: some 40 MB of memory, and more than fit into a group.
pub(crate) const MOST_ITEMS: usize = 400_000;

/// Timestamps would tell a store that what is there now was there once.
pub(crate) const NO_TIMES: &str = "pushed metrics must not have timestamps";

/// Why bytes are no metrics.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// The text format is broken.
    #[error("text format parsing error in line {line}: {what}")]
    Text {
        /// From 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// The protobuf is.
    #[error("this is no delimited protobuf: {0}")]
    Protobuf(String),
}

impl Family {
    /// Visits each sample that a Prometheus would make of it: name, labels, the label of a part, value.
    pub fn samples(&self, visit: &mut Visit<'_>) {
        let [sum, count, bucket] = ["_sum", "_count", "_bucket"].map(|suffix| format!("{}{suffix}", self.name));
        for Metric { labels, value } in &self.metrics {
            let parts = match value {
                Value::Single(value) => {
                    visit(&self.name, labels, None, *value);
                    continue;
                }
                Value::Parts(parts) => parts,
            };
            let step_name = if self.kind == Kind::Histogram { &bucket } else { &self.name };
            for (step, value) in &parts.steps {
                visit(step_name, labels, Some((self.kind.step_label(), &number(*step))), *value);
            }
            let whole = parts.steps.iter().any(|(bound, _)| *bound == f64::INFINITY);
            if self.kind == Kind::Histogram && !whole {
                visit(step_name, labels, Some((self.kind.step_label(), "+Inf")), parts.count);
            }
            visit(&sum, labels, None, parts.sum);
            visit(&count, labels, None, parts.count);
        }
    }

    /// Every metric gets these labels, whatever it says itself, and an `instance`, empty where nobody says one: else a Prometheus would write its own there.
    pub fn label(&mut self, grouping: &[(String, String)]) {
        for metric in &mut self.metrics {
            metric.labels.retain(|(name, _)| !grouping.iter().any(|(other, _)| other == name));
            metric.labels.extend(grouping.iter().cloned());
            if !metric.labels.iter().any(|(name, _)| name == "instance") {
                metric.labels.push(("instance".to_owned(), String::new()));
            }
            metric.labels.sort();
        }
    }

    /// Appends it as text, its metrics in order.
    pub fn write(&self, out: &mut String) {
        if let Some(help) = &self.help {
            let _ = write!(out, "# HELP {} ", self.name);
            escape(help, false, out);
            out.push('\n');
        }
        let _ = writeln!(out, "# TYPE {} {}", self.name, self.kind.word());
        self.samples(&mut |name, labels, part, value| {
            out.push_str(name);
            let pairs = labels.iter().map(|(name, value)| (&**name, &**value)).chain(part);
            let mut before = '{';
            for (name, value) in pairs {
                out.push(before);
                out.push_str(name);
                out.push_str("=\"");
                escape(value, true, out);
                out.push('"');
                before = ',';
            }
            if before == ',' {
                out.push('}');
            }
            let _ = writeln!(out, " {}", number(value));
        });
    }
}

/// All of them as text: by name, and each family's metrics as Prometheus' own library has them. Families of one name come to be one; the last one's words count.
pub fn write(families: impl IntoIterator<Item = Family>) -> String {
    let mut by_name = std::collections::BTreeMap::<String, Family>::new();
    for family in families {
        match by_name.get_mut(&family.name) {
            None => drop(by_name.insert(family.name.clone(), family)),
            Some(known) => {
                known.help = family.help.or(known.help.take());
                known.metrics.extend(family.metrics);
            }
        }
    }
    let mut out = String::new();
    for family in by_name.values_mut() {
        let values = |metric: &Metric| metric.labels.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>();
        family.metrics.sort_by_cached_key(|metric| (metric.labels.len(), values(metric)));
        family.write(&mut out);
    }
    out
}

fn escape(text: &str, quoted: bool, out: &mut String) {
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quoted => out.push_str("\\\""),
            letter => out.push(letter),
        }
    }
}

/// As Go writes a float with as few digits as there must be: with an exponent below 0.0001 and from 1,000,000 on.
pub fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    // Prometheus' library writes a zero without its sign.
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

#[cfg(test)]
mod tests;

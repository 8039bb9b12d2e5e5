//! An outcome as text: for Prometheus, and for people who want to see all of it.

use std::fmt::Write;

use crate::alert::quoted;
use crate::probe::module::Module;
use crate::probe::outcome::Metric;
use crate::probe::outcome::Outcome;

/// What it is for HTTP.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics by name, each with its help and type.
pub fn text(metrics: &[Metric]) -> String {
    let mut sorted: Vec<&Metric> = metrics.iter().collect();
    sorted.sort_by(|a, b| (a.name, &a.labels).cmp(&(b.name, &b.labels)));
    let mut out = String::with_capacity(sorted.len() * 160);
    let mut before = "";
    for metric in sorted {
        if metric.name != before {
            let _ = writeln!(out, "# HELP {} {}\n# TYPE {} gauge", metric.name, metric.help, metric.name);
            before = metric.name;
        }
        out.push_str(metric.name);
        for (at, (name, value)) in metric.labels.iter().enumerate() {
            out.push(if at == 0 { '{' } else { ',' });
            out.push_str(name);
            out.push('=');
            quoted::write(value, &mut out);
        }
        if !metric.labels.is_empty() {
            out.push('}');
        }
        let _ = writeln!(out, " {}", number(metric.value));
    }
    out
}

fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        value.to_string()
    }
}

/// What went on, what came of it, and how it was asked for.
pub fn debug(outcome: &Outcome, module: &Module, target: &str) -> String {
    let mut out =
        format!("Logs for the probe:\nmodule={} target={target} timeout_seconds={}\n", module.name, outcome.timeout.as_secs_f64());
    for line in &outcome.log {
        let _ = writeln!(out, "{:>9.3} ms  {}", line.at.as_secs_f64() * 1000.0, line.text);
    }
    let _ = writeln!(out, "{:>9.3} ms  {}", outcome.duration.as_secs_f64() * 1000.0, if outcome.success { "success" } else { "failure" });
    let _ = write!(
        out,
        "\n\n\nMetrics that would have been returned:\n{}\n\n\nModule configuration:\n{}",
        text(&outcome.metrics),
        module.shown
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_stand_by_name_and_labels() {
        let with = |name, label: &'static str, value| Metric::with(name, "Help", ("phase", label.into()), value);
        let shown = text(&[with("b", "z", 0.5), Metric::plain("a", "First", 1.0), with("b", "a\"\\\n", f64::NAN)]);
        assert_eq!(
            shown,
            "# HELP a First\n# TYPE a gauge\na 1\n# HELP b Help\n# TYPE b gauge\nb{phase=\"a\\\"\\\\\\n\"} NaN\nb{phase=\"z\"} 0.5\n"
        );
    }
}

//! A file of vmagent's relabelling as rules of a sink. Prometheus' own are taken as they are; of VictoriaMetrics' additions those that Prometheus' rules can say,
//! too. What is left stands in the configuration as a comment, at its place, and among the findings.

use crate::config;
use crate::config::import;
use crate::config::import::draft::Draft;
use crate::config::import::draft::Said;
use crate::config::import::draft::quoted;
use crate::config::read::Problem;
use crate::config::tree;
use crate::config::tree::Tree;
use crate::config::tree::Value;

/// Prometheus' keys.
const KEYS: [&str; 7] = ["source_labels", "separator", "target_label", "regex", "modulus", "replacement", "action"];
/// Prometheus' actions.
const ACTIONS: [&str; 11] =
    ["replace", "keep", "drop", "keepequal", "dropequal", "hashmod", "labelmap", "labeldrop", "labelkeep", "lowercase", "uppercase"];

/// A rule as it is written.
#[derive(Default)]
struct Written {
    keys: Vec<(String, Vec<String>)>,
}

impl Written {
    fn get(&self, name: &str) -> Option<&[String]> {
        self.keys.iter().find(|(key, _)| key == name).map(|(_, values)| values.as_slice())
    }

    fn action(&self) -> String {
        self.get("action").and_then(<[String]>::first).map_or("replace".to_owned(), |action| action.to_lowercase())
    }
}

/// Reads a file; the lines of its rules, each a member of a list. `flag` is what named it.
pub fn import(file: &str, text: &str, flag: &Said, draft: &mut Draft) -> Result<Vec<String>, Vec<Problem>> {
    let tree = tree::parse_foreign(text).map_err(config::broken);
    let tree = tree.map_err(|problems| problems.into_iter().map(|problem| named(file, problem)).collect::<Vec<_>>())?;
    let items = match &tree.value {
        Value::List(items) => items.as_slice(),
        Value::Empty => &[],
        Value::Scalar(_) | Value::Pairs(_) => {
            let problem =
                import::wrong(tree.line, "(the file)", "is no list of rules", "each rule begins with a hyphen, as `- action: drop`");
            return Err(vec![named(file, problem)]);
        }
    };
    let mut lines = Vec::new();
    for item in items {
        let said = Said::new(flag.line, &format!("{} {file}:{}", flag.key, item.line), "");
        match translated(item) {
            Ok(rule) => lines.push(format!("- {{ {} }}", rule.join(", "))),
            Err(why) => {
                lines.push(format!("# line {} of {file}: {why}", item.line));
                let remedy = "say it by source_labels, regex and action at this place (docs/sinks.md): the rules behind it may rest on it";
                draft.missing(&said, format!("{why}; the rule is left out"), remedy);
            }
        }
    }
    draft.taken(&Said { value: file.to_owned(), ..flag.clone() }, format!("relabel_configs: {} rules", items.len()));
    Ok(lines)
}

fn named(file: &str, problem: Problem) -> Problem {
    Problem { key: format!("{file}: {}", problem.key), ..problem }
}

fn read(item: &Tree) -> Option<Written> {
    let Value::Pairs(pairs) = &item.value else { return None };
    let mut written = Written::default();
    for (key, value) in pairs {
        let Value::Scalar(name) = &key.value else { return None };
        let values = match &value.value {
            Value::Scalar(text) => vec![text.clone()],
            Value::Empty => vec![String::new()],
            Value::List(items) => {
                let text = |item: &Tree| match &item.value {
                    Value::Scalar(text) => Some(text.clone()),
                    Value::Empty | Value::List(_) | Value::Pairs(_) => None,
                };
                items.iter().map(text).collect::<Option<Vec<_>>>()?
            }
            Value::Pairs(_) => return None,
        };
        written.keys.push((name.clone(), values));
    }
    Some(written)
}

/// The pairs of the rule; or why there is none.
fn translated(item: &Tree) -> Result<Vec<String>, String> {
    let written = read(item).ok_or("is no section of keys with texts or lists")?;
    let foreign: Vec<&str> = written.keys.iter().map(|(key, _)| key.as_str()).filter(|key| !KEYS.contains(key)).collect();
    if !foreign.is_empty() {
        return Err(format!("`{}` is VictoriaMetrics' own", foreign.join("`, `")));
    }
    let action = written.action();
    let sources = written.get("source_labels").unwrap_or_default();
    let equal = |word: &str| match sources {
        [first, second] => {
            Ok(vec![format!("source_labels: [{}]", quoted(first)), format!("target_label: {}", quoted(second)), format!("action: {word}")])
        }
        _ => Err(format!("`{action}` of {} labels; Prometheus' {word} compares two", sources.len())),
    };
    let metrics = |word: &str| {
        let pattern = written.get("regex").unwrap_or_default().join("|");
        vec!["source_labels: [__name__]".to_owned(), format!("regex: {}", quoted(&pattern)), format!("action: {word}")]
    };
    match action.as_str() {
        "keep_if_equal" => equal("keepequal"),
        "drop_if_equal" => equal("dropequal"),
        "keep_metrics" => Ok(metrics("keep")),
        "drop_metrics" => Ok(metrics("drop")),
        word if ACTIONS.contains(&word) => Ok(written.keys.iter().map(|(key, values)| pair(key, values)).collect()),
        other => Err(format!("`action: {other}` is VictoriaMetrics' own")),
    }
}

fn pair(key: &str, values: &[String]) -> String {
    match key {
        "source_labels" => {
            let labels: Vec<String> = values.iter().map(|label| quoted(label)).collect();
            format!("source_labels: [{}]", labels.join(", "))
        }
        // Several expressions are VictoriaMetrics' way to write alternatives.
        "regex" => format!("regex: {}", quoted(&values.join("|"))),
        _ => format!("{key}: {}", quoted(values.first().map_or("", String::as_str))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn rules_of_both_kinds() {
        let text = "- action: drop_metrics\n  regex: [go_.*, process_.*]\n- source_labels: [a, b]\n  action: keep_if_equal\n- if: '{x=\"y\"}'\n  action: drop\n- target_label: dc\n  replacement: nj1\n";
        let mut draft = Draft::new(PathBuf::new());
        let lines = import("r.yml", text, &Said::new(7, "-remoteWrite.relabelConfig", "r.yml"), &mut draft).unwrap();
        assert_eq!(
            lines,
            [
                "- { source_labels: [__name__], regex: \"go_.*|process_.*\", action: drop }",
                "- { source_labels: [a], target_label: b, action: keepequal }",
                "# line 5 of r.yml: `if` is VictoriaMetrics' own",
                "- { target_label: dc, replacement: nj1 }",
            ]
        );
    }
}

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
    if let Some(condition) = written.get("if") {
        return conditional(&written, condition);
    }
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

/// A rule with `if`, where source labels and an expression say the same: it has none of its own, and what is asked is that labels have values, not that they lack them.
fn conditional(written: &Written, condition: &[String]) -> Result<Vec<String>, String> {
    let [condition] = condition else { return Err("`if` has several conditions".to_owned()) };
    // It stands in a comment, which has one line.
    let own = || format!("`if: {}` is VictoriaMetrics' own", condition.split_whitespace().collect::<Vec<_>>().join(" "));
    let more = ["source_labels", "regex", "separator"].iter().any(|key| written.get(key).is_some());
    let replacement = written.get("replacement").and_then(<[String]>::first);
    let fits = match written.action().as_str() {
        "keep" | "drop" => true,
        "replace" => replacement.is_some_and(|text| !text.contains('$')),
        _ => false,
    };
    let parts = matchers(condition).filter(|parts| fits && !more && !parts.is_empty()).ok_or_else(own)?;
    let labels: Vec<String> = parts.iter().map(|(label, _)| quoted(label)).collect();
    let expressions: Vec<&str> = parts.iter().map(|(_, expression)| expression.as_str()).collect();
    let mut rule = vec![format!("source_labels: [{}]", labels.join(", ")), format!("regex: {}", quoted(&expressions.join(";")))];
    rule.extend(written.keys.iter().filter(|(key, _)| key != "if").map(|(key, values)| pair(key, values)));
    Ok(rule)
}

/// `name{a="x",b=~"y.*"}` as labels and expressions that their values must be; nothing where a value must *not* be something, or in any other notation.
fn matchers(selector: &str) -> Option<Vec<(String, String)>> {
    let (name, rest) = selector.trim().split_once('{').unwrap_or((selector.trim(), "}"));
    let is_name = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'));
    let mut found = Vec::new();
    if !is_name(name) {
        return None;
    }
    if !name.is_empty() {
        found.push(("__name__".to_owned(), name.to_owned()));
    }
    let mut rest = rest.strip_suffix('}')?.trim();
    while !rest.is_empty() {
        let (label, behind) = rest.split_once('=')?;
        let label = label.trim();
        let (is_expression, behind) = behind.strip_prefix('~').map_or((false, behind), |behind| (true, behind));
        let (value, behind) = text(behind.trim_start())?;
        // `!=` and `!~` leave their mark at the label's end.
        if label.is_empty() || !is_name(label) {
            return None;
        }
        found.push((label.to_owned(), if is_expression { format!("(?:{value})") } else { regex::escape(&value) }));
        rest = behind.trim_start().strip_prefix(',').unwrap_or(behind).trim_start();
        if rest.starts_with(|letter: char| !letter.is_ascii_alphabetic() && letter != '_') {
            return None;
        }
    }
    Some(found)
}

/// A text in double quotes, in which quotes and backslashes alone are escaped, and what stands behind it.
fn text(quoted: &str) -> Option<(String, &str)> {
    let inside = quoted.strip_prefix('"')?;
    let mut value = String::new();
    let mut letters = inside.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &inside[at + 1..])),
            '\\' => value.push(letters.next().map(|(_, escaped)| escaped).filter(|escaped| matches!(escaped, '"' | '\\'))?),
            letter => value.push(letter),
        }
    }
    None
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
        let text = "- action: drop_metrics\n  regex: [go_.*, process_.*]\n- source_labels: [a, b]\n  action: keep_if_equal\n- if: '{x!=\"y\"}'\n  action: drop\n- target_label: dc\n  replacement: nj1\n";
        let mut draft = Draft::new(PathBuf::new());
        let lines = import("r.yml", text, &Said::new(7, "-remoteWrite.relabelConfig", "r.yml"), &mut draft).unwrap();
        assert_eq!(
            lines,
            [
                "- { source_labels: [__name__], regex: \"go_.*|process_.*\", action: drop }",
                "- { source_labels: [a], target_label: b, action: keepequal }",
                "# line 5 of r.yml: `if: {x!=\"y\"}` is VictoriaMetrics' own",
                "- { target_label: dc, replacement: nj1 }",
            ]
        );
    }

    #[test]
    fn conditions_that_labels_have_values_are_said_by_source_labels() {
        let of = |rule: &str| translated(&tree::parse_foreign(rule).unwrap()).map(|pairs| pairs.join(", "));
        let drop = "{ action: drop, if: 'up{job=\"a.b\", mode=~\"idle|\\\\d\"}' }";
        assert_eq!(of(drop).unwrap(), "source_labels: [__name__, job, mode], regex: \"up;a\\\\.b;(?:idle|\\\\d)\", action: drop");
        let replace = "{ if: '{job=\"a\"}', target_label: team, replacement: x }";
        assert_eq!(of(replace).unwrap(), "source_labels: [job], regex: a, target_label: team, replacement: x");
        for other in [
            "{ action: drop, if: '{job!=\"a\"}' }",
            "{ action: drop, if: '{job!~\"a\"}' }",
            "{ action: drop, if: '{job=\"a\" or x=\"b\"}' }",
            "{ action: drop, if: ['up', 'down'] }",
            "{ action: labeldrop, if: up, regex: x }",
            "{ if: up, target_label: a, replacement: '$1' }",
            "{ action: drop, if: '{}' }",
            "{ action: drop, if: '{job=\"a' }",
            "action: drop\nif: |\n  {job=\"a\",\n   x!=\"b\"}\n",
        ] {
            assert!(of(other).is_err_and(|why| !why.contains('\n')), "{other}");
        }
    }
}

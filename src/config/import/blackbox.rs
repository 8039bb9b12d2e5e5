//! A `blackbox.yml`: sluice reads the file as it is, so the configuration names it. Where single modules hold what sluice refuses, or YAML's anchors, the good
//! modules are written out and the others left out as a whole: a module without one of its conditions would find good what is not.

use crate::config;
use crate::config::import;
use crate::config::import::Input;
use crate::config::import::draft::Draft;
use crate::config::import::draft::Said;
use crate::config::import::draft::quoted;
use crate::config::probe;
use crate::config::read::Problem;
use crate::config::settings;
use crate::config::tree;
use crate::config::tree::Tree;
use crate::config::tree::Value;

/// Reads one.
pub fn import(input: &Input, draft: &mut Draft) -> Result<(), Vec<Problem>> {
    let text = import::text_of(input)?;
    let modules = modules_of(text)?;
    let as_it_is = probe::parse_file(text);
    if let Ok(read) = &as_it_is {
        draft.probe = vec![format!("modules_file: {}   # read as it is", quoted(&input.path.display().to_string()))];
        draft.taken(&Said::whole(), format!("probe.modules_file; {} modules", read.len()));
    } else {
        written_out(&modules, draft);
    }
    let text = "/probe is asked of sluice, with a token where one is needed; metrics have the same names";
    let remedy = "in the scrape configuration change the address, and add authorization (docs/probing.md); or let sluice probe by itself (probe.jobs)";
    draft.different(&Said::whole(), text, remedy);
    Ok(())
}

/// The modules by themselves, each as a file of its own would have it.
fn modules_of(text: &str) -> Result<Vec<(String, usize, Tree)>, Vec<Problem>> {
    let tree = tree::parse_foreign(text).map_err(config::broken)?;
    let is = |key: &Tree, name: &str| matches!(&key.value, Value::Scalar(text) if text == name);
    let found = match &tree.value {
        Value::Pairs(pairs) => pairs.iter().find(|(key, _)| is(key, "modules")).map(|(_, value)| value),
        Value::Empty | Value::Scalar(_) | Value::List(_) => None,
    };
    let Some(Tree { value: Value::Pairs(modules), .. }) = found else {
        return Err(vec![import::wrong(
            tree.line,
            "modules",
            "is missing, or no section",
            "is it a blackbox.yml? It begins with modules:",
        )]);
    };
    let named = modules.iter().filter_map(|(key, value)| match &key.value {
        Value::Scalar(name) => Some((name.clone(), key.line, value.clone())),
        Value::Empty | Value::List(_) | Value::Pairs(_) => None,
    });
    Ok(named.collect())
}

fn written_out(modules: &[(String, usize, Tree)], draft: &mut Draft) {
    let mut lines = Vec::new();
    for (name, line, module) in modules {
        let alone = |value: Value| Tree { line: 1, value, binary: false };
        let key = alone(Value::Scalar(name.clone()));
        let one = alone(Value::Pairs(vec![(key, module.clone())]));
        let written = settings::lines_of(&one);
        let indented: String = written.lines().map(|line| format!("  {line}\n")).collect();
        let said = Said::new(*line, &format!("modules.{name}"), "");
        match probe::parse_file(&format!("modules:\n{indented}")) {
            Ok(_) => {
                draft.taken(&said, format!("probe.modules.{name}"));
                lines.extend(written.lines().map(|line| format!("  {line}")));
            }
            Err(problems) => {
                for problem in &problems {
                    let text = format!("{} {}: the whole module is left out", problem.key, problem.rule);
                    draft.missing(&said, text, &problem.remedy);
                }
            }
        }
    }
    if lines.is_empty() {
        return;
    }
    draft.probe =
        std::iter::once("modules:   # written out, since not all of the file can be taken as it is".to_owned()).chain(lines).collect();
}

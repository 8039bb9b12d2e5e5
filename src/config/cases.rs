//! A file of cases for a configuration: samples in, and what each sink is to make of them. Read as written; `app` runs them.

use crate::config::read::Node;
use crate::config::read::Problem;
use crate::config::read::Problems;
use crate::config::values;

/// A file of cases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cases {
    /// The configuration's path; a relative one begins at the file of cases.
    pub config: String,
    /// In the file's order.
    pub cases: Vec<Case>,
}

/// A sample, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Where it stands.
    pub line: usize,
    /// What it is about; the sample itself where nothing is said.
    pub name: String,
    /// A series, a value and a time.
    pub sample: String,
    /// By sink: `taken`, `left`, a series, or a record.
    pub expect: Vec<(String, String)>,
}

/// Reads a file, or says everything that is wrong with it.
pub fn parse(text: &str) -> Result<Cases, Vec<Problem>> {
    let tree = super::tree_of(text)?;
    let problems = Problems::default();
    let top = Node::root(&tree, &problems).section();
    let config = top.must("config", "write the path of the configuration: config: sluice.yaml", values::text);
    let cases: Vec<Case> = match top.get("cases") {
        Some(node) => node.list().iter().filter_map(case).collect(),
        None => {
            top.missing("cases", "write: cases: [{ sample: 'up{job=\"node\"}', expect: { platform: taken } }]");
            Vec::new()
        }
    };
    top.finish();
    let problems = problems.take();
    match config {
        Some(config) if problems.is_empty() => Ok(Cases { config, cases }),
        _ => Err(problems),
    }
}

fn case(node: &Node<'_>) -> Option<Case> {
    let section = node.section();
    let sample =
        section.must("sample", "write a series as PromQL does, a value and a time if they matter: 'up{job=\"node\"} 1'", values::text);
    let name = section.opt("name", values::text);
    let expect = section
        .below("expect")
        .map(|section| section.pairs().filter_map(|(sink, node)| Some((sink.to_owned(), node.text()?.to_owned()))).collect::<Vec<_>>());
    if expect.as_ref().is_none_or(Vec::is_empty) {
        section.missing("expect", "say what sinks are to make of it: expect: { platform: taken, store: left }");
    }
    section.finish();
    let sample = sample?;
    Some(Case { line: node.line(), name: name.unwrap_or_else(|| sample.clone()), sample, expect: expect? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_read_and_mistakes_told() {
        let cases = parse("config: a.yaml\ncases:\n  - { sample: 'up 1', expect: { p: taken } }\n  - name: n\n    sample: down\n    expect: { p: left, q: down }\n").unwrap();
        assert_eq!((cases.config.as_str(), cases.cases.len(), cases.cases[1].line), ("a.yaml", 2, 4));
        assert_eq!((cases.cases[0].name.as_str(), cases.cases[1].name.as_str()), ("up 1", "n"));
        let wrong: Vec<String> = parse("cases:\n  - { sampel: up }\n").unwrap_err().into_iter().map(|problem| problem.key).collect();
        assert_eq!(wrong, ["config", "cases[0].sample", "cases[0].expect", "cases[0].sampel"]);
    }
}

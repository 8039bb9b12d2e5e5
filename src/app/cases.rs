//! `sluice test FILE`: cases for a configuration, run without a node, so that a change of rules can be tried where configurations are reviewed.

use std::path::Path;

use serde_json::Value;

use crate::api::deps::Explained;
use crate::app::Fault;
use crate::app::check;
use crate::app::explain;
use crate::app::explain::Sample;
use crate::config::Config;
use crate::config::cases;
use crate::config::cases::Case;
use crate::forward::preview;
use crate::relabel::selector::Selector;

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Where it stands in the file.
    pub line: usize,
    /// Its name.
    pub name: String,
    /// What was not as expected; nothing: it holds.
    pub wrong: Vec<String>,
}

/// Runs all cases of a file.
pub fn run(path: &Path) -> Result<Vec<Outcome>, Fault> {
    let read = std::fs::read_to_string(path);
    let text = read.map_err(|error| Fault::Config(vec![format!("{}: cannot be read: {error}", path.display())]))?;
    let cases = cases::parse(&text).map_err(|problems| Fault::Config(check::lines(path, &problems)))?;
    let config = check::file(&path.parent().unwrap_or(Path::new("")).join(&cases.config))?;
    Ok(cases.cases.iter().map(|case| outcome(&config, case)).collect())
}

fn outcome(config: &Config, case: &Case) -> Outcome {
    let wrong = match Sample::parse(&case.sample) {
        Ok(sample) => case.expect.iter().filter_map(|(sink, expected)| differs(config, &sample, (sink, expected)).err()).collect(),
        Err(text) => vec![text],
    };
    Outcome { line: case.line, name: case.name.clone(), wrong }
}

/// An error: how it is, and how it was to be.
fn differs(config: &Config, sample: &Sample, (name, expected): (&str, &str)) -> Result<(), String> {
    let Some(sink) = config.sinks.iter().find(|sink| sink.name == name) else {
        let known: Vec<&str> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
        return Err(format!("there is no sink {name}; there are: {}", known.join(", ")));
    };
    let explained = explain::at(sink, sample)?;
    let got = got(&explained);
    let fits = match expected.trim() {
        "taken" => explained.taken,
        "left" => !explained.taken,
        text if text.starts_with('{') && serde_json::from_str::<Value>(text).is_ok() => {
            let json = |text: &str| serde_json::from_str::<Value>(text).ok();
            let both = explained.record.as_deref().and_then(json).zip(json(text));
            both.is_some_and(|(got, expected)| same(&got, &expected))
        }
        text => {
            let selector = Selector::parse(text)
                .map_err(|wrong| format!("{name}: {text:?} is neither `taken` nor `left`, no record of JSON and no series ({wrong})"))?;
            let labels = selector.labels().map_err(|label| format!("{name}: {text:?} is no series: label `{label}` has not one value"))?;
            explained.series.as_deref() == Some(&preview::series(&labels))
        }
    };
    if fits { Ok(()) } else { Err(format!("{name}: expected {expected}\n{:width$}  got      {got}", "", width = name.len())) }
}

/// Whether two records say the same: 2 and 2.0 are one number.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other)),
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len() && one.iter().all(|(key, one)| other.get(key).is_some_and(|other| same(one, other)))
        }
        (one, other) => one == other,
    }
}

fn got(explained: &Explained) -> String {
    match (&explained.why, &explained.record) {
        (Some(why), _) => format!("left: {why}"),
        (None, Some(record)) => record.clone(),
        (None, None) => "taken".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    const CONFIG: &str = "listen: 127.0.0.1:9201\ndata_dir: /x\nsinks:\n  - name: platform\n    match: '{job=\"node\"}'\n    kafka: { brokers: [\"127.0.0.1:9092\"], topic: metrics }\n  - name: store\n    remote_write: { url: \"http://store/w\" }\n";

    /// The page's cases, on the page's configuration.
    #[test]
    fn the_cases_of_the_page_hold() {
        let page = include_str!("../../docs/sinks.md");
        let block = |with: &str| {
            let mut blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
            blocks.find(|block| block.starts_with(with)).unwrap().to_owned()
        };
        let dir = tempfile::tempdir().unwrap();
        let config = format!("listen: 127.0.0.1:9201\ndata_dir: /x\n{}", block("external_labels:"));
        std::fs::write(dir.path().join("sluice.yaml"), config).unwrap();
        let path = dir.path().join("cases.yaml");
        std::fs::write(&path, block("config:")).unwrap();
        let outcomes = super::run(&path).unwrap();
        assert!(outcomes.len() == 2 && outcomes.iter().all(|outcome| outcome.wrong.is_empty()), "{outcomes:#?}");
    }

    /// Those of increases, on their configuration.
    #[test]
    fn increases_of_the_page_are_counted() {
        let page = include_str!("../../docs/sinks.md");
        let block = |with: &str| page.split("```yaml\n").find(|rest| rest.starts_with(with)).unwrap().split("```").next().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = format!("listen: 127.0.0.1:9201\ndata_dir: /x\n{}", block("# increases"));
        std::fs::write(dir.path().join("sluice.yaml"), config).unwrap();
        let path = dir.path().join("cases.yaml");
        std::fs::write(&path, block("# cases of increases")).unwrap();
        let outcomes = super::run(&path).unwrap();
        assert!(outcomes.len() == 2 && outcomes.iter().all(|outcome| outcome.wrong.is_empty()), "{outcomes:#?}");
    }

    #[test]
    fn cases_hold_or_say_what_they_got() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("sluice.yaml"), CONFIG).unwrap();
        let run = |cases: &str| {
            let path = dir.path().join("cases.yaml");
            std::fs::write(&path, format!("config: sluice.yaml\ncases:\n{cases}")).unwrap();
            super::run(&path).unwrap().into_iter().flat_map(|outcome| outcome.wrong).collect::<Vec<String>>()
        };
        let good = r#"
  - sample: 'up{job="node"} 2 1700000000000'
    expect:
      platform: '{"ts":1700000000000,"name":"up","job":"node","v":2.0,"labels":{}}'
      store: 'up{job="node"}'
  - sample: 'up{job="x"}'
    expect: { platform: left, store: taken }
"#;
        assert_eq!(run(good), Vec::<String>::new());
        let wrong = run("  - sample: 'up{job=\"x\"}'\n    expect: { platform: taken, store: 'up{job=\"y\"}', other: left }\n");
        assert_eq!(wrong.len(), 3, "{wrong:#?}");
        assert!(wrong[0].contains("got      left: no selector of `match` takes it"), "{wrong:#?}");
        assert!(wrong[1].contains("up{job=\"x\"} 1 "), "{wrong:#?}");
        assert!(wrong[2].contains("there is no sink other; there are: platform, store"), "{wrong:#?}");
        assert_eq!(run("  - { sample: 'up{', expect: { platform: taken } }\n").len(), 1);
        assert_eq!(run("  - { sample: up, expect: { platform: 'x y' } }\n").len(), 1);
    }
}

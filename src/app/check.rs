//! A configuration file, judged as a whole: by `config`, and by the parts that own a section. All problems at once, in the order of lines.

use std::path::Path;
use std::sync::Arc;

use crate::alert::route::Routing;
use crate::alert::telling;
use crate::app::Fault;
use crate::config;
use crate::config::Config;
use crate::config::read::Problem;
use crate::config::routing;
use crate::config::sinks;
use crate::config::sinks::Target;
use crate::config::tls::Tls;
use crate::forward;
use crate::forward::file::settings::FileSettings;
use crate::forward::remote_write::settings::StoreSettings;
use crate::forward::settings::CreateTopic;
use crate::forward::settings::KafkaDraft;
use crate::forward::settings::KafkaSettings;
use crate::forward::shape::Shape;
use crate::probe::targets;
use crate::relabel::counters::Asked;
use crate::relabel::counters::Counters;
use crate::relabel::rules::Rule;
use crate::relabel::rules::Rules;
use crate::relabel::selector::Selector;
use crate::serve::tls::Certificate;
use crate::serve::tls::Files;
use crate::serve::tls::Wrong;

/// Reads and judges a file.
pub fn file(path: &Path) -> Result<Config, Fault> {
    let cannot =
        |error: &dyn std::fmt::Display, remedy| Fault::Config(vec![format!("{}: cannot be read: {error}\n    {remedy}", path.display())]);
    let bytes = std::fs::read(path).map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => "is the path right? config/sluice.yaml shows every key, and the README a file of six lines",
            std::io::ErrorKind::PermissionDenied => "let the user that runs sluice read it, and enter its directories",
            _ => "name a file with the configuration (docs/configuration.md)",
        };
        cannot(&error, remedy)
    })?;
    let text = String::from_utf8(bytes).map_err(|error| cannot(&error.utf8_error(), "is it the YAML file? Save it as UTF-8"))?;
    let dir = path.parent().unwrap_or(Path::new(""));
    self::text(&text, dir).map_err(|problems| Fault::Config(lines(path, &problems)))
}

/// Judges the text of a file of this directory.
pub fn text(text: &str, dir: &Path) -> Result<Config, Vec<Problem>> {
    let mut config = Config::parse(text)?;
    if let Some(tls) = &mut config.tls {
        tls.beside(dir);
    }
    let mut problems = of_certificate(&config);
    problems.extend(read_modules(&mut config, dir));
    for (index, sink) in config.sinks.iter().enumerate() {
        for found in judged(sink).err().unwrap_or_default() {
            let key = format!("sinks[{index}].{}", found.key);
            let line = config.line_of(&key);
            problems.push(Problem { line, key, value: found.value, rule: found.rule, remedy: found.remedy });
        }
    }
    problems.extend(of_jobs(&config));
    problems.extend(of_directories(&config));
    for found in config.alerting.iter().filter_map(|alerting| topic(alerting.kafka.as_ref()?).err()).flatten() {
        let line = config.line_of(&found.key);
        problems.push(Problem { line, key: found.key, value: found.value, rule: found.rule, remedy: found.remedy });
    }
    problems.extend(of_alerting(&mut config, dir));
    problems.sort_by_key(|problem| problem.line);
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

/// Rules of jobs that mean nothing.
fn of_jobs(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (job, written) in config.jobs.jobs.iter().enumerate() {
        for (rule, wrong) in targets::Ready::check(written).err().unwrap_or_default() {
            let key = format!("probe.jobs[{job}].relabel_configs[{rule}].{}", wrong.key);
            problems.push(Problem { line: config.line_of(&key), key, value: wrong.value, rule: wrong.rule, remedy: wrong.remedy });
        }
    }
    problems
}

/// Something is wrong with a file that the configuration names, at this line, under this key.
fn in_file(file: &Path, (line, key): (usize, &str), rule: String, remedy: &str) -> Problem {
    Problem { line, key: key.to_owned(), value: file.display().to_string(), rule, remedy: remedy.to_owned() }
}

/// The text of such a file.
fn beside(file: &Path, place: (usize, &str)) -> Result<String, Problem> {
    let remedy = "is the path right? A relative one begins at this file";
    std::fs::read_to_string(file).map_err(|error| in_file(file, place, format!("cannot be read: {error}"), remedy))
}

/// Reads the file of routes, if one is named, into the settings; and whether the routes mean something.
fn of_alerting(config: &mut Config, dir: &Path) -> Vec<Problem> {
    let Some(written) = &config.alerting else { return Vec::new() };
    let Some(file) = written.file.as_ref().map(|file| dir.join(file)) else {
        let meaning = written.routing.as_deref().map(|routing| Routing::new(routing).err().unwrap_or_default());
        let placed = |problem: Problem| {
            let key = format!("alerting.config.{}", problem.key);
            Problem { line: config.line_of(&key), key, ..problem }
        };
        let rules =
            written.routing.as_deref().map(|routing| telling::TellingRules::new(&written.telling, routing).err().unwrap_or_default());
        return meaning.unwrap_or_default().into_iter().map(placed).chain(rules.unwrap_or_default()).collect();
    };
    let (line, key) = (config.line_of("alerting.file"), "alerting.file");
    let text = match beside(&file, (line, key)) {
        Ok(text) => text,
        Err(problem) => return vec![problem],
    };
    let routing = routing::parse(&text);
    // What is wrong beside the file is told beside what is wrong in it.
    let rules =
        routing.as_ref().map(|routing| telling::TellingRules::new(&written.telling, routing).err().unwrap_or_default()).unwrap_or_default();
    let read = routing.and_then(|read| Routing::new(&read)).map(drop);
    let settings = read.and_then(|()| config::alerting::with_content(&config.settings, &text));
    match settings.and_then(|settings| Ok((config::settings::parse(&settings)?, settings))) {
        Ok((read, settings)) => {
            (config.alerting, config.settings) = (read.alerting, settings);
            rules
        }
        Err(found) => found.iter().map(|found| in_file(&file, (line, key), found.to_string(), "")).chain(rules).collect(),
    }
}

/// Settings with the routes of the file that they name, if they do, in the place of its name.
pub fn with_routes(settings: &str, dir: &Path) -> Result<String, Vec<Problem>> {
    let Some(file) = config::alerting::named(settings).map(|file| dir.join(file)) else { return Ok(settings.to_owned()) };
    let text = beside(&file, (0, "alerting.file")).map_err(|problem| vec![problem])?;
    config::alerting::with_content(settings, &text)
}

/// Files of a sink have no place among the node's own: a backup and a replacement treat that directory as one thing.
fn of_directories(config: &Config) -> Vec<Problem> {
    let inside = |(index, sink): (usize, &sinks::Sink)| {
        let Target::Files(files) = &sink.target else { return None };
        let key = format!("sinks[{index}].file.directory");
        files.directory.starts_with(&config.data_dir).then(|| Problem {
            line: config.line_of(&key),
            key,
            value: files.directory.display().to_string(),
            rule: "is inside data_dir".to_owned(),
            remedy: "write a directory outside of it, best on another disk".to_owned(),
        })
    };
    config.sinks.iter().enumerate().filter_map(inside).collect()
}

/// Reads the file of modules, if one is named: those that are written into the configuration count more.
fn read_modules(config: &mut Config, dir: &Path) -> Vec<Problem> {
    let Some(file) = &config.probe.modules_file else { return Vec::new() };
    let file = dir.join(file);
    let (line, key) = (config.line_of("probe.modules_file"), "probe.modules_file");
    let text = match beside(&file, (line, key)) {
        Ok(text) => text,
        Err(problem) => return vec![problem],
    };
    match config::probe::parse_file(&text) {
        Ok(mut modules) => {
            modules.append(&mut config.probe.modules);
            config.probe.modules = modules;
            Vec::new()
        }
        Err(found) => found.iter().map(|found| in_file(&file, (line, key), found.to_string(), "")).collect(),
    }
}

/// What is wrong with the files of `tls:`.
fn of_certificate(config: &Config) -> Vec<Problem> {
    let wrong = config.tls.as_ref().and_then(|tls| Certificate::load(&files(tls)).err()).unwrap_or_default();
    let problem = |wrong: Wrong| {
        let key = format!("tls.{}", wrong.key);
        Problem { line: config.line_of(&key), key, value: wrong.path.display().to_string(), rule: wrong.rule, remedy: wrong.remedy }
    };
    wrong.into_iter().map(problem).collect()
}

/// The listener's files.
pub fn files(tls: &Tls) -> Files {
    Files { certificate: tls.cert_file.clone(), key: tls.key_file.clone() }
}

/// A line for each problem, file first.
pub fn lines(path: &Path, problems: &[Problem]) -> Vec<String> {
    problems.iter().map(|problem| format!("{}: {problem}", path.display())).collect()
}

/// What a sink writes to, and what it takes and as what.
pub type Judged = (forward::Target, Arc<Shape>);

/// A sink, judged by the parts that carry it out; keys are those below the sink.
pub fn judged(sink: &sinks::Sink) -> Result<Judged, Vec<forward::settings::Problem>> {
    let mut problems = Vec::new();
    let shape = shape(&sink.shape, &mut problems);
    problems.extend(no_increase(sink));
    let target = match &sink.target {
        Target::Kafka(kafka) => KafkaSettings::check(&draft(kafka)).map(|settings| forward::Target::Kafka(Arc::new(settings))),
        Target::RemoteWrite(store) => StoreSettings::check(store).map(|settings| forward::Target::Store(Arc::new(settings))),
        Target::Files(files) => FileSettings::check(files).map(|settings| forward::Target::Files(Arc::new(settings))),
    };
    match target {
        Ok(target) if problems.is_empty() => Ok((target, Arc::new(shape))),
        target => {
            let below =
                |found: forward::settings::Problem| forward::settings::Problem { key: format!("{}.{}", section(sink), found.key), ..found };
            problems.extend(target.err().unwrap_or_default().into_iter().map(below));
            Err(problems)
        }
    }
}

/// Selectors and rules, judged by `relabel`.
fn shape(wanted: &config::shape::Shape, problems: &mut Vec<forward::settings::Problem>) -> Shape {
    let mut complain = |key: String, value: &str, rule: String, remedy: &str| {
        problems.push(forward::settings::Problem { key, value: value.to_owned(), rule, remedy: remedy.to_owned() });
    };
    let mut parsed = |key: &str, texts: &[String]| {
        let mut selectors = Vec::new();
        for (number, text) in texts.iter().enumerate() {
            match Selector::parse(text) {
                Ok(selector) => selectors.push(selector),
                Err(wrong) => {
                    let (key, rule) = (format!("{key}[{number}]"), format!("is no selector of series: {wrong}"));
                    complain(key, text, rule, "for example '{job=\"node\", mode!~\"idle|iowait\"}'");
                }
            }
        }
        selectors
    };
    let selectors = parsed("match", &wanted.selectors);
    let counters = wanted.increase.as_ref().map(|increase| Counters::new(parsed("increase.match", &increase.selectors)));
    let mut rules = Vec::new();
    for (number, relabel) in wanted.rules.iter().enumerate() {
        match Rule::check(relabel) {
            Ok(rule) => rules.push(rule),
            Err(wrong) => {
                for wrong in wrong {
                    complain(format!("relabel_configs[{number}].{}", wrong.key), &wrong.value, wrong.rule, &wrong.remedy);
                }
            }
        }
    }
    Shape { external: wanted.external.clone(), selectors, rules: Rules::new(rules), drops_late: wanted.drops_late, counters }
}

/// `increase` where no row has a place for it.
fn no_increase(sink: &sinks::Sink) -> Option<forward::settings::Problem> {
    let (rule, remedy) = match &sink.target {
        Target::RemoteWrite(_) => ("stores count increases themselves, with PromQL's increase()", "take it out"),
        Target::Kafka(kafka) if !matches!(kafka.format, sinks::Format::Rows | sinks::Format::Row | sinks::Format::Avro) => {
            ("the messages of this format have no place for it", "take it out, or write format: rows, row or avro")
        }
        Target::Kafka(_) | Target::Files(_) => return None,
    };
    let problem = |_| forward::settings::Problem {
        key: "increase".to_owned(),
        value: "true".to_owned(),
        rule: rule.to_owned(),
        remedy: remedy.to_owned(),
    };
    sink.shape.increase.as_ref().map(problem)
}

/// The counters of which sinks want to be told how far they rise.
pub fn asked(config: &Config) -> Asked {
    let counters = config.sinks.iter().filter_map(|sink| shape(&sink.shape, &mut Vec::new()).counters);
    let external = config.sinks.first().map(|sink| sink.shape.external.as_slice()).unwrap_or_default();
    Asked::new(counters, external)
}

/// The same, with what is wrong as one sentence.
pub fn judged_or_why(sink: &sinks::Sink) -> Result<Judged, String> {
    judged(sink).map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        format!("sink {}: {}", sink.name, problems.join("; "))
    })
}

/// A topic for records that are no samples, judged.
pub fn topic(kafka: &sinks::Kafka) -> Result<KafkaSettings, Vec<forward::settings::Problem>> {
    let below =
        |found: forward::settings::Problem| forward::settings::Problem { key: format!("alerting.history.kafka.{}", found.key), ..found };
    KafkaSettings::check(&draft(kafka)).map_err(|problems| problems.into_iter().map(below).collect())
}

/// The key under which a sink's target stands.
fn section(sink: &sinks::Sink) -> &'static str {
    match sink.target {
        Target::Kafka(_) => "kafka",
        Target::RemoteWrite(_) => "remote_write",
        Target::Files(_) => "file",
    }
}

fn draft(kafka: &sinks::Kafka) -> KafkaDraft {
    let number = |number: Option<u64>| number.map(|number| usize::try_from(number).unwrap_or(usize::MAX));
    KafkaDraft {
        brokers: kafka.brokers.clone(),
        topic: kafka.topic.clone(),
        topics: kafka.topics.clone(),
        key: kafka.key.clone(),
        tenant: kafka.tenant.clone(),
        pass_tenant: kafka.pass_tenant,
        registry: kafka.registry.clone(),
        tls: kafka.tls.clone(),
        sasl: kafka.sasl.clone(),
        format: Some(kafka.format.word().to_owned()),
        columns: kafka.columns.clone(),
        no_buckets: !kafka.buckets,
        delivery: Some(kafka.delivery.word().to_owned()),
        create_topic: kafka
            .create_topic
            .map(|topic| CreateTopic { partitions: i32::from(topic.partitions), replication: i32::from(topic.replication) }),
        compression: kafka.compression.map(|compression| compression.word().to_owned()),
        rows_per_message: number(kafka.rows_per_message),
        bytes_per_message: number(kafka.bytes_per_message),
        transaction_bytes: number(kafka.transaction_bytes),
        transaction_ms: kafka.transaction_age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        properties: kafka.properties.iter().cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIX_LINES: &str = "\
listen: 127.0.0.1:9201
data_dir: /var/lib/sluice
sinks:
  - name: platform
    kafka: { brokers: [\"127.0.0.1:9092\"], topic: metrics, format: rows }
";

    fn judged(text: &str) -> Result<Config, Vec<Problem>> {
        super::text(text, Path::new("/nowhere"))
    }

    #[test]
    fn six_lines_are_a_complete_configuration() {
        assert_eq!(judged(SIX_LINES).unwrap().sinks.len(), 1);
    }

    #[test]
    fn what_librdkafka_alone_can_judge_is_told_with_its_line() {
        let wrong = SIX_LINES.replace("format: rows }", "format: rows, properties: { linger.mss: 5 } }");
        let problems = judged(&wrong).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].line, 5);
        assert!(problems[0].to_string().contains("linger.mss"), "{}", problems[0]);
    }

    #[test]
    fn what_the_client_alone_can_judge_of_a_store_is_told_with_its_line() {
        let store = |more: &str| {
            let text = "listen: 127.0.0.1:9201\ndata_dir: /x\nsinks:\n  - name: store\n    remote_write:\n      url: http://h/w\n";
            judged(&format!("{text}{more}"))
        };
        assert!(store("").is_ok());
        let problems = store("      headers: { \"X Y\": canary }\n").unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].to_string().starts_with("line 7: sinks[0].remote_write.headers.X Y"), "{}", problems[0]);
        assert!(!problems[0].to_string().contains("canary"));
    }

    #[test]
    fn files_of_a_sink_have_no_place_among_the_nodes_own() {
        let files = |directory: &str| {
            let text = format!("listen: 127.0.0.1:9201\ndata_dir: /x\nsinks:\n  - name: a\n    file:\n      directory: {directory}\n");
            judged(&text)
        };
        assert!(files("/xy").is_ok());
        let problems = files("/x/rows").unwrap_err();
        assert!(problems[0].to_string().starts_with("line 6: sinks[0].file.directory: /x/rows\n    is inside data_dir"), "{}", problems[0]);
    }

    #[test]
    fn what_is_wrong_with_selectors_and_rules_is_told_with_its_line() {
        let wrong = format!(
            "{SIX_LINES}    match: ['{{job=~\"(\"}}']\n    relabel_configs:\n      - action: keep\n        regex: \"[\"\n      - action: hashmod\n        target_label: x\n"
        );
        let problems: Vec<String> = judged(&wrong).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 3, "{problems:#?}");
        assert!(problems[0].starts_with("line 6: sinks[0].match[0]: {job=~") && problems[0].contains("at letter 7"), "{problems:#?}");
        assert!(problems[1].starts_with("line 9: sinks[0].relabel_configs[0].regex: ["), "{problems:#?}");
        assert!(problems[2].starts_with("line 10: sinks[0].relabel_configs[1].modulus\n"), "{problems:#?}");
    }

    #[test]
    fn increases_are_for_what_has_a_place_for_them() {
        let text = |target: &str| {
            format!("listen: 127.0.0.1:9201\ndata_dir: /x\nsinks:\n  - name: s\n    increase: {{ match: [up] }}\n    {target}\n")
        };
        let kafka = |format: &str| text(&format!("kafka: {{ brokers: [\"a:1\"], topic: t, format: {format} }}"));
        for format in ["rows", "row", "avro"] {
            let config = judged(&kafka(format)).unwrap();
            let asked = asked(&config);
            assert!(asked.takes(|name| (name == "__name__").then_some("up")) && !asked.takes(|_| Some("down")), "{format}");
        }
        judged(&text("file: { directory: /rows }")).unwrap();
        for refused in [kafka("adapter"), kafka("remote-write"), text("remote_write: { url: \"http://store/w\" }")] {
            let problems = judged(&refused).unwrap_err();
            assert!(problems.len() == 1 && problems[0].key == "sinks[0].increase" && problems[0].line == 5, "{problems:#?}");
        }
        let wrong = judged(&kafka("rows").replace("[up]", "[\"up{\"]")).unwrap_err();
        assert_eq!(wrong[0].key, "sinks[0].increase.match[0]");
    }

    /// The pages' examples are judged as they stand.
    #[test]
    fn the_examples_of_the_pages_are_good() {
        let pages = [
            include_str!("../../docs/sinks.md"),
            include_str!("../../docs/kafka.md"),
            include_str!("../../docs/configuration.md"),
            include_str!("../../docs/druid.md"),
            include_str!("../../docs/tenants.md"),
        ];
        let mut judged = 0;
        for page in pages {
            for example in
                page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).filter(|text| text.contains("sinks:"))
            {
                let own = if example.contains("data_dir:") { "" } else { "listen: 127.0.0.1:9201\ndata_dir: /x\n" };
                text(&format!("{own}{example}"), Path::new("/nowhere")).unwrap_or_else(|problems| panic!("{problems:#?} in {example}"));
                judged += 1;
            }
        }
        assert!(judged >= 6, "{judged}");
    }

    /// Whatever a sink's section reads stands in an example of docs/sinks.md, which the test above judges.
    #[test]
    fn every_option_of_a_sink_stands_in_an_example_of_the_page() {
        let page = include_str!("../../docs/sinks.md");
        let examples: Vec<&str> = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        let shown = |key: &str| {
            let (written, before) = (format!("{key}:"), [' ', '{', '\n', ',']);
            examples.iter().any(|text| {
                text.match_indices(&written).any(|(at, _)| text[..at].chars().next_back().is_none_or(|one| before.contains(&one)))
            })
        };
        // Read only to be refused: secrets stand in files.
        let refused = ["password", "token", "bearer_token"];
        let sources = [
            include_str!("../config/sinks.rs"),
            include_str!("../config/kafka.rs"),
            include_str!("../config/remote_write.rs"),
            include_str!("../config/shape.rs"),
            include_str!("../config/file.rs"),
        ];
        let mut keys = 0;
        for source in sources.map(|source| source.split("#[cfg(test)]").next().unwrap()) {
            for reads in [".get(\"", ".or(\"", ".opt(\"", ".must(\"", ".below(\"", "number(\"", " text(\""] {
                for key in source.split(reads).skip(1).filter_map(|rest| rest.split('"').next()).filter(|key| !refused.contains(key)) {
                    keys += 1;
                    assert!(shown(key), "`{key}` is read by a sink's section and stands in no example of docs/sinks.md");
                }
            }
        }
        assert!(keys > 60, "{keys}");
    }

    #[test]
    fn the_shipped_file_is_good() {
        judged(include_str!("../../config/sluice.yaml")).unwrap();
    }

    #[test]
    fn both_files_of_a_certificate_are_judged_beside_everything_else() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("own.key"), "nothing").unwrap();
        let wrong = SIX_LINES.replace("format: rows }", "format: rows, properties: { linger.mss: 5 } }")
            + "tls: { cert_file: absent.pem, key_file: own.key }\n";
        let problems: Vec<String> = text(&wrong, dir.path()).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 3, "{problems:#?}");
        let absent = dir.path().join("absent.pem").display().to_string();
        assert!(problems[0].contains("linger.mss"), "in the order of lines: {problems:#?}");
        for words in ["line 6: tls.cert_file", &absent, "cannot be read", "is the path right?"] {
            assert!(problems[1].contains(words), "{words}: {}", problems[1]);
        }
        assert!(problems[2].contains("line 6: tls.key_file") && problems[2].contains("holds no key"), "{}", problems[2]);
    }
}

//! Realistic inputs of every kind (tests/import), the configuration and the report that come of them (`.golden`; `UPDATE_GOLDEN=1` writes these anew), and what is said of bad ones.

use super::*;
use clap::CommandFactory;
use clap::Parser;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import")
}

/// An input as if it stood in /etc.
fn input(kind: Kind, name: &str) -> Input {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    Input { kind, name: name.to_owned(), path: Path::new("/etc/sluice").join(name), content: Content::Text(text) }
}

fn text(kind: Kind, text: &str) -> Input {
    Input { kind, name: "input".to_owned(), path: PathBuf::from("/etc/sluice/input"), content: Content::Text(text.to_owned()) }
}

fn translated(inputs: &[Input]) -> Outcome {
    let read = |path: &Path| match path.to_str() {
        Some("/etc/vmagent/relabel.yml") => read_text(&folder().join("relabel.yml")),
        Some("/etc/vmagent/mimir.yml") => read_text(&folder().join("relabel-mimir.yml")),
        _ => Err("is not there".to_owned()),
    };
    let around = Around { secrets: PathBuf::from(SECRETS_AT), read: &read };
    let mut outcome = import::translate(inputs, &around).unwrap_or_else(|unreadable| panic!("{}", refused(&unreadable)));
    look_at_templates(inputs, &mut outcome.findings);
    outcome
}

fn refusal(input: Input) -> String {
    let around = Around { secrets: PathBuf::from(SECRETS_AT), read: &|_| Err("is not there".to_owned()) };
    refused(&import::translate(&[input], &around).err().unwrap_or_default())
}

/// `sluice check` finds it good, with the files that it names where they are in this test; no secret is in it or in the report; and both are as they were.
#[track_caller]
fn holds(name: &str, inputs: &[Input]) -> Outcome {
    let outcome = translated(inputs);
    let here = outcome.text.replace("/etc/sluice/", &format!("{}/", folder().display()));
    if let Err(problems) = app::check::text(&here, Path::new("/")) {
        panic!("{}\n{here}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }
    let whole = format!("{}\n# ---\n{}", outcome.text, report(&outcome.findings));
    assert!(!whole.contains("hunter2"), "{whole}");
    let golden = folder().join(format!("{name}.golden"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &whole).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&golden).unwrap_or_default(), whole, "UPDATE_GOLDEN=1 writes {}", golden.display());
    outcome
}

#[track_caller]
fn fate(outcome: &Outcome, line: usize, key: &str) -> Fate {
    let found = outcome.findings.iter().find(|found| found.line == line && found.key.contains(key));
    found.unwrap_or_else(|| panic!("nothing is said of {key} in line {line}:\n{}", report(&outcome.findings))).fate
}

#[test]
fn an_alertmanager_yml_is_named_and_what_is_not_served_is_told() {
    let outcome = holds("alertmanager.yml", &[input(Kind::Alertmanager, "alertmanager.yml")]);
    assert_eq!(fate(&outcome, 32, "opsgenie_configs"), Fate::Missing);
    assert_eq!([fate(&outcome, 26, "title"), fate(&outcome, 6, "slack_api_url")], [Fate::Different; 2]);
}

#[test]
fn keys_of_an_alertmanager_yml_that_are_not_known_are_left_out_and_named() {
    let outcome = holds("alertmanager-newer.yml", &[input(Kind::Alertmanager, "alertmanager-newer.yml")]);
    for (line, key) in [(4, "gossip_cost"), (9, "carrier_pigeon_configs"), (13, "patience")] {
        assert_eq!(fate(&outcome, line, key), Fate::Missing);
    }
    assert!(outcome.text.contains("http://hooks.example/in") && !outcome.text.contains("loft"));
}

#[test]
fn good_modules_of_a_blackbox_yml_are_taken_and_others_left_out_as_a_whole() {
    let outcome = holds("blackbox.yml", &[input(Kind::Blackbox, "blackbox.yml")]);
    assert_eq!(
        [fate(&outcome, 11, "http_3"), fate(&outcome, 16, "chat"), fate(&outcome, 8, "http_2xx_v6")],
        [Fate::Missing, Fate::Missing, Fate::Taken]
    );
    assert!(!outcome.text.contains("http_3"));
    let good = translated(&[text(Kind::Blackbox, "modules: { up: { prober: tcp } }\n")]);
    assert!(good.text.contains("modules_file: /etc/sluice/input"));
}

#[test]
fn the_adapters_environment_becomes_a_sink() {
    let outcome = holds("kafka-adapter.env", &[input(Kind::KafkaAdapter, "kafka-adapter.env")]);
    assert_eq!([fate(&outcome, 20, "KAFKA_LINGER_MS"), fate(&outcome, 13, "KEY_PASS")], [Fate::Missing; 2]);
    assert_eq!(outcome.secrets.len(), 1);
    assert_eq!(
        (outcome.secrets[0].path.to_str(), outcome.secrets[0].value.as_str()),
        (Some("/etc/sluice/kafka-adapter.password"), "hunter2-of-kafka")
    );
    let variables = vec![("KAFKA_TOPIC".to_owned(), "m.{{ index . \"job\" | replace \"a\" \"b\" }}".to_owned())];
    let of_process = translated(&[nameless(Kind::KafkaAdapter, "(environment)", Content::Variables(variables))]);
    assert_eq!(fate(&of_process, 0, "KAFKA_TOPIC"), Fate::Missing);
    app::check::text(&of_process.text, Path::new("/")).unwrap();
}

#[test]
fn mimirs_limits_become_those_of_groups() {
    let outcome = holds("mimir.yaml", &[input(Kind::Mimir, "mimir.yaml")]);
    assert_eq!(fate(&outcome, 30, "max_wishes_per_user"), Fate::Missing);
    assert_eq!(fate(&outcome, 33, "overrides.team-a.ingestion_rate"), Fate::Different);
    // What stands there as a comment is right, too.
    let uncommented = outcome.text.replace("  # overrides:", "  overrides:").replace("  #   ", "    ");
    let config = app::check::text(&uncommented, Path::new("/")).unwrap();
    assert_eq!(config.groups.overrides[0].limits.samples_per_second, Some(2_000_000));
}

#[test]
fn vmagents_flags_become_a_sink_for_each_url() {
    let outcome = holds("vmagent.service", &[input(Kind::Vmagent, "vmagent.service")]);
    for (line, key) in
        [(2, "promscrape.config"), (18, "shardByURL"), (21, "streamAggr.config"), (26, "teleport"), (13, "relabel.yml:3"), (7, "linger.ms")]
    {
        assert_eq!(fate(&outcome, line, key), Fate::Missing, "{key}");
    }
    let config = app::check::text(&outcome.text, Path::new("/")).unwrap();
    assert_eq!(config.sinks.iter().map(|sink| sink.shape.rules.len()).collect::<Vec<_>>(), [4, 5, 4]);
}

#[test]
fn every_flag_and_variable_is_told_of() {
    let file = std::fs::read_to_string(folder().join("vmagent.service")).unwrap();
    let outcome = translated(&[input(Kind::Vmagent, "vmagent.service")]);
    for (at, line) in file.lines().enumerate() {
        for name in line.split_whitespace().filter_map(|word| word.strip_prefix('-')).filter_map(|word| word.split('=').next()) {
            fate(&outcome, at + 1, name);
        }
    }
    let file = std::fs::read_to_string(folder().join("kafka-adapter.env")).unwrap();
    let outcome = translated(&[input(Kind::KafkaAdapter, "kafka-adapter.env")]);
    for (at, line) in file.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
        fate(&outcome, at + 1, line.trim_start_matches("export ").split('=').next().unwrap());
    }
}

#[test]
fn several_inputs_make_one_configuration() {
    let inputs = [
        input(Kind::Alertmanager, "alertmanager.yml"),
        input(Kind::Blackbox, "blackbox.yml"),
        input(Kind::KafkaAdapter, "kafka-adapter.env"),
        input(Kind::Mimir, "mimir.yaml"),
        input(Kind::Vmagent, "vmagent.service"),
    ];
    let outcome = holds("all", &inputs);
    let listens = outcome.findings.iter().find(|found| found.key == "-httpListenAddr").unwrap();
    assert_eq!(listens.fate, Fate::Different, "the adapter listens on 8080 already");
}

#[test]
fn what_cannot_be_read_is_told_with_its_line() {
    let said = [
        (Kind::Alertmanager, "route: { receiver: a }\nreceivers: [ { name: a } ]\ninhibit_rules: 7\n", "line 3: inhibit_rules"),
        (Kind::Alertmanager, "a: [\n", "is no YAML"),
        (Kind::Alertmanager, "route: { receiver: a, matchrs: [ 'a=b' ] }\nreceivers: [ { name: a } ]\n", "route.matchrs"),
        (Kind::Blackbox, "moduls: {}\n", "is it a blackbox.yml?"),
        (Kind::KafkaAdapter, "PATH=/bin\n", "holds no variable of prometheus-kafka-adapter"),
        (Kind::KafkaAdapter, "KAFKA_TOPIC=a\nwhat\n", "line 2: (this line)"),
        (Kind::KafkaAdapter, "KAFKA_BROKER_LIST=a:b\n", "line 1: KAFKA_BROKER_LIST: a:b"),
        (Kind::KafkaAdapter, "KAFKA_COMPRESSION=brotli\n", "must be one of none, gzip"),
        (Kind::KafkaAdapter, "MATCH=up\n", "is no list of metrics"),
        (Kind::Mimir, "server: {}\n", "is it Mimir's configuration"),
        (Kind::Mimir, "limits: { ingestion_rate: fast }\n", "line 1: limits.ingestion_rate: fast"),
        (Kind::Vmagent, "-httpListenAddr=:1\n", "-remoteWrite.url\n    is missing"),
        (Kind::Vmagent, "-remoteWrite.url=ftp://a/b\n", "is no URL of a store"),
        (
            Kind::Vmagent,
            "-remoteWrite.url=http://a/b\n-remoteWrite.relabelConfig=/r.yml\n",
            "line 2: -remoteWrite.relabelConfig\n    /r.yml: is not there",
        ),
    ];
    for (kind, input, expected) in said {
        let told = refusal(text(kind, input));
        assert!(told.contains(expected), "{}: {input:?}: {told}", kind.word());
    }
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    import: Import,
}

fn run(words: &[&str]) -> Result<(), String> {
    let line = Line::try_parse_from([&["import"], words].concat()).map_err(|error| error.to_string())?;
    carry_out(&line.import).map_err(|failure| failure.to_string())
}

#[test]
fn files_that_are_there_stay_and_secrets_are_for_their_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = tempfile::tempdir().unwrap();
    let [output, secrets] = ["sluice.yaml", "secrets"].map(|name| scratch.path().join(name));
    std::fs::create_dir(&secrets).unwrap();
    let env = folder().join("kafka-adapter.env");
    let words = ["kafka-adapter", env.to_str().unwrap(), "--output", output.to_str().unwrap(), "--secrets", secrets.to_str().unwrap()];
    run(&words).unwrap();
    let file = secrets.join("kafka-adapter.password");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "hunter2-of-kafka");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(&output).unwrap().contains(file.to_str().unwrap()));
    assert!(run(&words).unwrap_err().contains("--force"));
    run(&[&words[..], &["--force"]].concat()).unwrap();
}

#[test]
fn what_the_command_line_may_not_say_is_told() {
    for (words, expected) in [
        (&["mimir"][..], "no file is named"),
        (&["vmagent"], "neither a file nor flags"),
        (&["consul", "x"], "known: alertmanager, blackbox"),
        (&["blackbox", "/nowhere/blackbox.yml"], "cannot be read"),
        (&["blackbox", "x", "--", "-remoteWrite.url=http://a/b"], "x: cannot be read"),
    ] {
        let told = run(words).unwrap_err();
        assert!(told.contains(expected), "{words:?}: {told}");
    }
}

#[test]
fn the_help_fits_a_narrow_terminal() {
    for line in AFTER.lines() {
        assert!(line.chars().count() <= 90, "{line}");
    }
    assert!(Line::command().render_long_help().to_string().contains("sluice import alertmanager"));
}

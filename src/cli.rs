//! The command line: what can be said, and which part answers.
//!
//! `run`, `check` and `dev` are this process's own business and go to `app`. Every other verb asks a running node over HTTP, as anybody
//! could with curl (docs/api.md); nothing here reads the data directory of a running node.
//!
//! Exit codes: 0 done; 1 it failed (the reason is on standard error); 2 the command or the configuration is wrong; 3 no answer from the node.

mod alerts;
mod archive;
mod backup;
pub mod bench;
mod client;
mod cluster;
mod config;
mod episodes;
mod groups;
mod import;
mod man;
mod owner;
mod probe;
mod probes;
mod processor;
mod receivers;
mod rehearsal;
mod routes;
mod senders;
mod silences;
mod sinks;
mod status;
mod table;
mod tap;
mod template;
mod tokens;
mod top;
mod version;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap::CommandFactory;
use clap::Parser;
use clap::Subcommand;

use crate::app;
use crate::cli::client::Client;
use crate::cli::client::Shown;
use crate::failpoint;
use crate::notify::doubts;
use crate::secret::token::LOCAL_FILE;

/// Takes remote-write from pairs of Prometheus, lets each sample through once, forwards it to Kafka.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, after_help = AFTER)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

const AFTER: &str = "\
First steps:
  sluice dev                        try it: node, Kafka, senders in one process
  sluice check sluice.yaml          what is wrong with a configuration
  sluice run --config sluice.yaml   run a node
  sluice status                     what a running node does; what is wrong
  sluice group list                 who leads, who stands by, what was covered

Exit codes: 0 done, 1 failed, 2 wrong command or configuration,
            3 no answer from the node.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a node until SIGTERM; SIGHUP reads the configuration again.
    Run {
        /// The configuration (docs/configuration.md); six lines are enough.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Say all that is wrong with a configuration: line, rule, remedy.
    Check {
        /// The configuration.
        file: PathBuf,
        /// Reach what it names, too: the disk, brokers, topics, stores. No sample is sent.
        #[arg(long)]
        connect: bool,
    },
    /// Try a configuration: samples in, and what each sink is to make of them (docs/sinks.md).
    Test {
        /// A file of cases.
        file: PathBuf,
    },
    /// Write a configuration of what another program has: Alertmanager, blackbox_exporter, prometheus-kafka-adapter, Mimir, vmagent (docs/migration.md).
    Import(import::Import),
    /// Run a node to look at, with a Kafka and senders of its own.
    Dev(Dev),
    /// What the node does now: groups, sinks, problems.
    Status(Asked),
    /// Several nodes as one: founding it, and how it is (docs/cluster.md).
    #[command(subcommand)]
    Cluster(cluster::Verb),
    /// What all nodes agree on: groups and sinks, in force and in files.
    #[command(subcommand)]
    Config(config::Verb),
    /// Groups: pairs of Prometheus and who of them leads.
    #[command(subcommand)]
    Group(groups::Verb),
    /// Alerts that hold: who is told of them, and who takes care (docs/alerting.md).
    #[command(subcommand)]
    Alert(alerts::Verb),
    /// Silences: alerts that shall not be told for a time.
    #[command(subcommand)]
    Silence(silences::Verb),
    /// Alerts' ways by an alertmanager.yml: what is wrong with it, and where an alert would go (docs/alerting.md).
    #[command(subcommand)]
    Route(routes::Verb),
    /// Texts of receivers of an alertmanager.yml: what would be sent for an alert, and Go's templates written anew. Works without a node.
    #[command(subcommand)]
    Template(template::Verb),
    /// Senders: who writes, how fast, and what they were told.
    #[command(subcommand)]
    Sender(senders::Verb),
    /// What is looked at from outside: the Prometheus of the groups, probe jobs; what is down, and alerts (docs/verdicts.md).
    Probes(probes::Probes),
    /// Sinks: where samples go, how far they are, what they refused.
    #[command(subcommand)]
    Sink(sinks::Verb),
    /// Probe something from here, once: each phase with its time, and why it failed (docs/probing.md).
    Probe(probe::Probe),
    /// Tokens: who may ask a node, and write to it (docs/security.md).
    #[command(subcommand)]
    Token(tokens::Verb),
    /// Groups and sinks live: rates, leaders, ages, lag, trouble.
    Top(top::Top),
    /// Samples as they go by, one a line: at the door, where it is decided which pass, or as a sink delivers them.
    Tap(tap::Tap),
    /// Measure this machine or a running node.
    #[command(subcommand)]
    Bench(bench::Verb),
    /// Print the schema of what sinks write to Kafka.
    Schema {
        /// Of which format.
        #[arg(value_enum)]
        of: Schema,
    },
    /// Which version this is; with --verbose also of what it is made, for whoever helps.
    Version(version::Version),
    /// Write a page of the manual for each verb into a directory. For packages.
    #[command(hide = true)]
    Man {
        /// Where to; made if it is missing.
        directory: PathBuf,
    },
    /// Print completion for a shell: `source <(sluice completion bash)`.
    Completion {
        /// bash, zsh, fish, elvish or powershell.
        shell: clap_complete::Shell,
    },
}

/// A schema that is shipped.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Schema {
    /// Avro's, of `format: avro`.
    Avro,
    /// JSON schema of a row, of `format: rows` and `row`.
    Rows,
}

impl Schema {
    fn text(self) -> &'static str {
        match self {
            Schema::Avro => crate::forward::avro::SCHEMA,
            Schema::Rows => include_str!("../docs/rows.schema.json"),
        }
    }
}

/// `sluice dev`.
#[derive(Debug, Args)]
struct Dev {
    /// Where to listen: remote write, API, status page.
    #[arg(long, value_name = "ADDRESS", default_value = crate::config::LISTEN_DEFAULT)]
    listen: SocketAddr,
    /// No synthetic senders: a Prometheus of yours will write (the page shows the snippet for its configuration).
    #[arg(long)]
    no_synthetic: bool,
    /// A real Kafka instead of the in-process one.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// The topic to write to.
    #[arg(long, default_value = "metrics")]
    topic: String,
    /// Keep the data there; without it a temporary directory is used and removed.
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
    /// Seconds between two scrapes of the synthetic senders.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    interval: u64,
}

/// Which running node is asked.
#[derive(Clone, Debug, Args)]
pub struct Node {
    /// The node to ask.
    #[arg(long, env = "SLUICE_SERVER", value_name = "URL", default_value = "http://127.0.0.1:9201")]
    server: String,
    /// With https://: a PEM file with the authorities to trust instead of the system's.
    #[arg(long, env = "SLUICE_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Show this token; better said by the environment, which others cannot read.
    #[arg(long, env = "SLUICE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// Show the token in this file.
    #[arg(long, env = "SLUICE_TOKEN_FILE", value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// Where a node on this host has its data: its own token is shown if none is named, you may read it, and the node is on this host.
    #[arg(long, env = "SLUICE_DATA_DIR", value_name = "DIRECTORY", default_value = "/var/lib/sluice")]
    data_dir: PathBuf,
}

impl Node {
    fn client(&self) -> Client {
        let shown = match (&self.token, &self.token_file) {
            (Some(token), _) => Shown::Token(token.clone()),
            (None, Some(file)) => Shown::File(file.clone()),
            (None, None) => Shown::Local(self.data_dir.join(LOCAL_FILE)),
        };
        Client::new(&self.server, self.ca_file.clone(), shown)
    }
}

/// For every verb that asks a running node and shows its answer.
#[derive(Clone, Debug, Args)]
pub struct Asked {
    #[command(flatten)]
    node: Node,
    /// Print the node's JSON (docs/api.md) instead of a table.
    #[arg(long)]
    json: bool,
}

impl Asked {
    fn client(&self) -> Client {
        self.node.client()
    }
}

/// Why a verb failed, and with which exit code.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It could not be done.
    #[error("{0}")]
    Failed(String),
    /// The command or the configuration is wrong.
    #[error("{0}")]
    Wrong(String),
    /// The node gave no answer.
    #[error("{0}")]
    NoAnswer(String),
    /// `cluster status` has said what is wrong: samples are refused.
    #[error("")]
    Critical,
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Failed(_) => ExitCode::from(1),
            Failure::Wrong(_) | Failure::Critical => ExitCode::from(2),
            Failure::NoAnswer(_) => ExitCode::from(3),
        }
    }
}

/// Reads the arguments and does what they say.
pub fn main() -> ExitCode {
    if let Err(text) = processor::suffices() {
        eprintln!("sluice: {text}");
        return ExitCode::from(2);
    }
    let arguments = Arguments::parse();
    if let Err(text) = failpoint::arm() {
        eprintln!("sluice: {text}");
        return ExitCode::from(2);
    }
    match carry_out(arguments.verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let text = failure.to_string();
            if !text.is_empty() {
                eprintln!("sluice: {text}");
            }
            failure.exit_code()
        }
    }
}

fn carry_out(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Run { config } => app::run(&config).map_err(Failure::from),
        Verb::Check { file, connect } => check(&file, connect),
        Verb::Test { file } => test(&file),
        Verb::Import(wanted) => import::carry_out(&wanted),
        Verb::Dev(dev) => app::dev::run(dev.into()).map_err(Failure::from),
        Verb::Schema { of } => {
            print!("{}", of.text());
            Ok(())
        }
        Verb::Completion { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "sluice", &mut std::io::stdout());
            Ok(())
        }
        Verb::Version(asked) => {
            print!("{}", version::text(&asked));
            Ok(())
        }
        Verb::Man { directory } => man::write(Arguments::command(), &directory),
        Verb::Status(asked) => wait_for(status::show(&asked)),
        Verb::Cluster(verb) => wait_for(cluster::carry_out(verb)),
        Verb::Config(verb) => wait_for(config::carry_out(verb)),
        Verb::Group(verb) => wait_for(groups::carry_out(verb)),
        Verb::Probes(probes) => wait_for(probes::carry_out(probes)),
        Verb::Alert(verb) => wait_for(alerts::carry_out(verb)),
        Verb::Silence(verb) => wait_for(silences::carry_out(verb)),
        Verb::Route(verb) => routes::carry_out(verb),
        Verb::Template(verb) => template::carry_out(verb),
        Verb::Sender(verb) => wait_for(senders::carry_out(verb)),
        Verb::Sink(verb) => wait_for(sinks::carry_out(verb)),
        Verb::Probe(asked) => wait_for(probe::carry_out(asked)),
        Verb::Token(verb) => wait_for(tokens::carry_out(verb)),
        Verb::Top(top) => wait_for(top::carry_out(top)),
        Verb::Tap(tap) => wait_for(tap::carry_out(tap)),
        Verb::Bench(verb) => bench::carry_out(verb),
    }
}

impl From<app::Fault> for Failure {
    fn from(fault: app::Fault) -> Failure {
        match fault {
            app::Fault::Config(_) => Failure::Wrong(fault.to_string()),
            app::Fault::Start(_) | app::Fault::Ended(_) | app::Fault::Quit => Failure::Failed(fault.to_string()),
        }
    }
}

impl From<Dev> for app::dev::Options {
    fn from(dev: Dev) -> app::dev::Options {
        app::dev::Options {
            listen: dev.listen,
            synthetic: !dev.no_synthetic,
            kafka: dev.kafka,
            topic: dev.topic,
            data_dir: dev.data_dir,
            interval: std::time::Duration::from_secs(dev.interval),
        }
    }
}

fn check(file: &std::path::Path, connect: bool) -> Result<(), Failure> {
    let config = app::check::file(file)?;
    let sinks = config.sinks.len();
    println!("{}: good; listens on {}, {sinks} {}", file.display(), config.listen, if sinks == 1 { "sink" } else { "sinks" });
    let routing = config.alerting.as_ref().and_then(|alerting| alerting.routing.as_deref());
    for doubt in routing.map(|routing| doubts::doubts(routing, &[])).unwrap_or_default() {
        println!("doubt: alerting: {}\n    {}\n    {}", doubt.key, doubt.rule, doubt.remedy);
    }
    if !connect {
        return Ok(());
    }
    let reached = app::trial::reach(&config);
    for (what, outcome) in &reached {
        match outcome {
            Ok(found) => println!("ok      {what}: {found}"),
            Err(wrong) => println!("FAILED  {what}: {wrong}"),
        }
    }
    match reached.iter().filter(|(_, outcome)| outcome.is_err()).count() {
        0 => Ok(()),
        failed => Err(Failure::Failed(format!("{failed} of {} were not reached", reached.len()))),
    }
}

fn test(file: &std::path::Path) -> Result<(), Failure> {
    let outcomes = app::cases::run(file)?;
    for outcome in &outcomes {
        println!("{}  {}:{}: {}", if outcome.wrong.is_empty() { "ok    " } else { "FAILED" }, file.display(), outcome.line, outcome.name);
        for wrong in &outcome.wrong {
            println!("        {}", wrong.replace('\n', "\n        "));
        }
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.wrong.is_empty()).count();
    match failed {
        0 => {
            println!("{} cases hold", outcomes.len());
            Ok(())
        }
        failed => Err(Failure::Failed(format!("{failed} of {} cases do not hold", outcomes.len()))),
    }
}

/// Client verbs need no more than one thread.
fn wait_for<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::Failed(format!("cannot start the runtime: {error}")))?.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_first_page_fits_a_narrow_terminal() {
        let page = Arguments::command().term_width(80).render_long_help().to_string();
        for line in AFTER.lines().chain(page.lines()) {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(AFTER.lines().all(|line| page.contains(line)), "nothing is wrapped: {page}");
    }

    #[test]
    fn every_verb_explains_itself() {
        fn visit(command: &clap::Command) {
            assert!(command.get_about().is_some(), "`{}` has no text", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "`{} {}` has no text", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(visit);
        }
        visit(&Arguments::command());
    }

    /// Commands in the blocks of a page, with a host before them or not, without comments, redirections and what follows a pipe.
    fn commands(page: &str) -> Vec<String> {
        let mut found = Vec::new();
        for block in page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            for line in block.replace("\\\n", " ").lines() {
                let line = line.split_once("$ ").map_or(line, |(host, rest)| if host.contains(' ') { line } else { rest });
                let line = line.split(" #").next().unwrap_or(line);
                let each =
                    line.split(" > ").take(1).flat_map(|line| line.split(['|', ';'])).flat_map(|part| part.split("&&")).map(str::trim);
                found.extend(each.filter(|command| command.starts_with("sluice ")).map(str::to_owned));
            }
        }
        found
    }

    /// As a shell tells them apart: what stands in quotes is one.
    fn words(command: &str) -> Vec<String> {
        let (mut words, mut open, mut quote) = (Vec::new(), None::<String>, None);
        for letter in command.chars() {
            match (letter, quote) {
                (letter, Some(ends)) if letter == ends => quote = None,
                ('"' | '\'', None) => {
                    quote = Some(letter);
                    open.get_or_insert_default();
                }
                (letter, None) if letter.is_whitespace() => words.extend(open.take()),
                (letter, _) => open.get_or_insert_default().push(letter),
            }
        }
        words.extend(open);
        words
    }

    #[test]
    fn every_command_in_the_pages_is_one() {
        let mut seen = 0;
        let pages = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/docs")).unwrap().map(|entry| entry.unwrap().path());
        for page in pages
            .chain([concat!(env!("CARGO_MANIFEST_DIR"), "/README.md").into()])
            .filter(|page| page.extension().is_some_and(|end| end == "md"))
        {
            for command in commands(&std::fs::read_to_string(&page).unwrap()) {
                let words = words(&command);
                if let Err(error) = Arguments::try_parse_from(words) {
                    assert!(!error.use_stderr(), "{}: {command}\n{error}", page.display());
                }
                seen += 1;
            }
        }
        assert!(seen > 30, "only {seen} commands were found");
    }
}

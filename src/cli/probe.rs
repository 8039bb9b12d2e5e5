//! `sluice probe`: one probe from here and now, by a module of a file or a shipped one; phases as a timeline for people, all of it as JSON for programs.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::app;
use crate::cli::Failure;
use crate::clock;
use crate::config::probe;
use crate::probe::exposition;
use crate::probe::module::Modules;
use crate::probe::outcome::Cause;
use crate::probe::outcome::Certificate;
use crate::probe::outcome::Outcome;
use crate::probe::run;
use crate::probe::run::Ask;

/// Letters of the timeline.
const WIDTH: f64 = 40.0;

/// `sluice probe`.
#[derive(Debug, Args)]
pub struct Probe {
    /// What is probed: a URL, host:port, a host or a path, as the module's prober wants it.
    target: String,
    /// How: the name of a module.
    #[arg(long, short, value_name = "NAME", default_value = "http_2xx")]
    module: String,
    /// A sluice configuration with `probe:`.
    #[arg(long, value_name = "FILE", conflicts_with = "modules")]
    config: Option<PathBuf>,
    /// A blackbox.yml.
    #[arg(long, value_name = "FILE")]
    modules: Option<PathBuf>,
    /// How long it may take, in seconds, unless the module says less.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    timeout: f64,
    /// The name it is asked by: HTTP's Host, and the certificate's.
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Also say what went on and show all metrics, as /probe?debug=true does.
    #[arg(long, short)]
    verbose: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Shown<'a> {
    target: &'a str,
    module: &'a str,
    success: bool,
    cause: Option<Cause>,
    phase: Option<&'a str>,
    reason: Option<&'a str>,
    address: Option<String>,
    duration_seconds: f64,
    timeout_seconds: f64,
    phases: Vec<ShownPhase<'a>>,
    certificates: &'a [Certificate],
    metrics: Vec<ShownMetric<'a>>,
}

#[derive(Serialize)]
struct ShownPhase<'a> {
    name: &'a str,
    about: &'a str,
    from_seconds: f64,
    seconds: f64,
    done: bool,
}

#[derive(Serialize)]
struct ShownMetric<'a> {
    name: &'a str,
    labels: std::collections::BTreeMap<&'a str, &'a str>,
    value: f64,
}

/// Does it.
pub async fn carry_out(asked: Probe) -> Result<(), Failure> {
    let (modules, strict) = match (&asked.config, &asked.modules) {
        (Some(file), _) => {
            let config = app::check::file(file)?;
            (config.probe.modules, config.probe.strict)
        }
        (None, Some(file)) => (of_file(file)?, false),
        (None, None) => (Vec::new(), false),
    };
    let modules = Modules::new(&modules, strict);
    let Some(module) = modules.get(&asked.module) else {
        let names: Vec<&str> = modules.names().collect();
        return Err(Failure::Wrong(format!("there is no module `{}`; there are: {}", asked.module, names.join(", "))));
    };
    let most = Duration::try_from_secs_f64(asked.timeout).ok().filter(|timeout| !timeout.is_zero());
    let most = most.ok_or_else(|| Failure::Wrong("--timeout must be more than 0".to_owned()))?;
    let hostname = asked.hostname.as_deref();
    // For what phases were about, which is shown in any case.
    let ask = Ask { hostname, log: true, ..Ask::new(&asked.target, &module, module.timeout(most)) };
    let outcome = run::probe(&ask).await;
    if asked.json {
        let text = serde_json::to_string_pretty(&shown(&asked, &outcome)).unwrap_or_default();
        println!("{text}");
    } else {
        print!("{}", timeline(&asked.target, &asked.module, &outcome, clock::wall_ms()));
        if asked.verbose {
            print!("\n{}", exposition::debug(&outcome, &module, &asked.target));
        }
    }
    if outcome.success { Ok(()) } else { Err(Failure::Failed(String::new())) }
}

fn of_file(file: &Path) -> Result<Vec<(String, probe::Module)>, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| Failure::Wrong(format!("{}: {error}", file.display())))?;
    probe::parse_file(&text).map_err(|problems| Failure::Wrong(app::check::lines(file, &problems).join("\n")))
}

fn shown<'a>(asked: &'a Probe, outcome: &'a Outcome) -> Shown<'a> {
    let phase = |phase: &'a crate::probe::outcome::Phase| ShownPhase {
        name: phase.name,
        about: &phase.about,
        from_seconds: phase.from.as_secs_f64(),
        seconds: phase.took.as_secs_f64(),
        done: phase.done,
    };
    let metric = |metric: &'a crate::probe::outcome::Metric| ShownMetric {
        name: metric.name,
        labels: metric.labels.iter().map(|(name, value)| (&**name, &**value)).collect(),
        value: metric.value,
    };
    let failure = outcome.failure.as_ref();
    Shown {
        target: &asked.target,
        module: &asked.module,
        success: outcome.success,
        cause: failure.map(|failure| failure.cause),
        phase: failure.map(|failure| failure.phase),
        reason: failure.map(|failure| failure.text.as_str()),
        address: outcome.address.map(|address| address.to_string()),
        duration_seconds: outcome.duration.as_secs_f64(),
        timeout_seconds: outcome.timeout.as_secs_f64(),
        phases: outcome.phases.iter().map(phase).collect(),
        certificates: &outcome.certificates,
        metrics: outcome.metrics.iter().map(metric).collect(),
    }
}

/// For people.
fn timeline(target: &str, module: &str, outcome: &Outcome, now_ms: i64) -> String {
    let ms = |span: Duration| span.as_secs_f64() * 1000.0;
    let verdict = if outcome.success { "good" } else { "FAILED" };
    let mut out = format!("{verdict}  {target}  {module}  {:.1} ms of at most {:.0} ms\n", ms(outcome.duration), ms(outcome.timeout));
    if let Some(failure) = &outcome.failure {
        let during = if failure.phase.is_empty() { String::new() } else { format!(" during {}", failure.phase) };
        out.push_str(&format!("  {}{during}: {}\n", failure.cause.word(), failure.text));
    }
    let whole = ms(outcome.duration).max(0.001);
    for phase in &outcome.phases {
        let letters = |span: f64| (span / whole * WIDTH).round().clamp(0.0, WIDTH) as usize;
        let before = letters(ms(phase.from)).min(WIDTH as usize - 1);
        let bar = letters(ms(phase.took)).clamp(1, WIDTH as usize - before);
        let mark = if phase.done { "#" } else { "x" };
        let line = format!("{}{}", " ".repeat(before), mark.repeat(bar));
        let text = format!("  {:<10} {:>9.2} ms  |{line:<width$}|  {}", phase.name, ms(phase.took), phase.about, width = WIDTH as usize);
        out.push_str(text.trim_end());
        out.push('\n');
    }
    for certificate in &outcome.certificates {
        let days = (certificate.ends_ms - now_ms).div_euclid(86_400_000);
        let left = if days < 0 { format!("over for {} days", -days) } else { format!("{days} days left") };
        out.push_str(&format!(
            "  certificate  {}  until {} ({left}), by {}\n",
            certificate.subject,
            clock::rfc3339(certificate.ends_ms),
            certificate.issuer
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::outcome::Failure;
    use crate::probe::outcome::Phase;

    #[test]
    fn a_timeline_shows_where_the_time_went() {
        let phase = |name, from, took, done| Phase {
            name,
            from: Duration::from_millis(from),
            took: Duration::from_millis(took),
            done,
            about: "192.0.2.1:80".to_owned(),
        };
        let outcome = Outcome {
            success: false,
            failure: Some(Failure { cause: Cause::Timeout, phase: "connect", text: "not done within 0.1 s".to_owned() }),
            duration: Duration::from_millis(100),
            timeout: Duration::from_millis(100),
            phases: vec![phase("resolve", 0, 25, true), phase("connect", 25, 75, false)],
            address: None,
            certificates: vec![Certificate {
                subject: "CN=a".to_owned(),
                issuer: "CN=b".to_owned(),
                ends_ms: 86_400_000,
                ..Certificate::default()
            }],
            metrics: Vec::new(),
            log: Vec::new(),
        };
        let shown = timeline("a:80", "http_2xx", &outcome, 0);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "FAILED  a:80  http_2xx  100.0 ms of at most 100 ms");
        assert_eq!(lines[1], "  timeout during connect: not done within 0.1 s");
        assert_eq!(lines[2], format!("  resolve        25.00 ms  |{:<40}|  192.0.2.1:80", "#".repeat(10)));
        assert_eq!(lines[3], format!("  connect        75.00 ms  |{}{}|  192.0.2.1:80", " ".repeat(10), "x".repeat(30)));
        assert_eq!(lines[4], "  certificate  CN=a  until 1970-01-02T00:00:00.000Z (1 days left), by CN=b");
    }
}

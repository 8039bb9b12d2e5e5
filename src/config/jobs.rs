//! `probe.jobs`: what is looked at from outside, how often, when it counts as down, and what alert that is. Fields that Prometheus' scrape configurations
//! have as well are called as there (`static_configs`, `file_sd_configs`, `http_sd_configs`, `relabel_configs`).
//!
//! All of it is what nodes agree on. What a module is stands in `probe`; whether a rule of `relabel_configs` means anything, `relabel` knows.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::read::Node;
use crate::config::read::Problems;
use crate::config::read::Refusal;
use crate::config::read::Section;
use crate::config::remote_write;
use crate::config::remote_write::ClientTls;
use crate::config::shape;
use crate::config::shape::Relabel;
use crate::config::tree;
use crate::config::values;

/// What nodes agree on of `probe:`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Jobs {
    /// Each with its targets.
    pub jobs: Vec<Job>,
    /// `host:port` that every node reaches when it is well: one that reaches none of them keeps its vote back.
    pub references: Vec<String>,
}

/// Targets that are looked at alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Label `job`.
    pub name: String,
    /// How one looks.
    pub module: String,
    /// Between two looks at a target.
    pub interval: Duration,
    /// What one may take.
    pub timeout: Duration,
    /// Targets written here.
    pub groups: Vec<TargetGroup>,
    /// Targets in files.
    pub files: Vec<FileSd>,
    /// Targets that a server names.
    pub servers: Vec<HttpSd>,
    /// Onto all its series.
    pub labels: Vec<(String, String)>,
    /// Prometheus' relabelling of targets.
    pub rules: Vec<Relabel>,
    /// Looks that are repeated at once before one counts as failed.
    pub retries: u32,
    /// So many nodes must find a target down.
    pub nodes: usize,
    /// What is told of it.
    pub alert: JobAlert,
}

/// Targets, and labels of theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetGroup {
    /// As the module wants them.
    pub targets: Vec<String>,
    /// Theirs.
    pub labels: Vec<(String, String)>,
}

/// `file_sd_configs`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSd {
    /// Paths; the last part may hold one `*`.
    pub files: Vec<PathBuf>,
    /// Between two readings.
    pub refresh: Duration,
}

/// `http_sd_configs`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSd {
    /// Answers with a list of targets.
    pub url: String,
    /// Whom sluice trusts, with TLS.
    pub tls: ClientTls,
    /// Between two questions.
    pub refresh: Duration,
}

/// What is told of a job's targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobAlert {
    /// Anything at all.
    pub enabled: bool,
    /// A target must have been down for so long.
    pub after: Duration,
    /// 1 (the worst) to 5.
    pub level: u8,
    /// Beside the target's own.
    pub labels: Vec<(String, String)>,
    /// For people.
    pub annotations: Vec<(String, String)>,
    /// A certificate that ends within so many days is an alert of its own.
    pub certificate_days: Option<u64>,
    /// Looks that take longer are one, too.
    pub latency: Option<Duration>,
}

impl Default for JobAlert {
    fn default() -> JobAlert {
        JobAlert {
            enabled: true,
            after: Duration::ZERO,
            level: 3,
            labels: Vec::new(),
            annotations: Vec::new(),
            certificate_days: None,
            latency: None,
        }
    }
}

/// Bytes of a job's name: it is in every sample, verdict and alert of its targets.
const NAME: usize = 200;

/// The keys of `probe:` that are read here.
pub const KEYS: [&str; 2] = ["jobs", "references"];

/// Reads them.
pub fn read(section: &Section<'_>) -> Jobs {
    let mut jobs: Vec<Job> = Vec::new();
    for node in section.get("jobs").iter().flat_map(Node::list) {
        let Some(job) = read_job(&node) else { continue };
        if jobs.iter().any(|known| known.name == job.name) {
            node.complain(format!("the job `{}` stands here a second time", job.name), "give each a name of its own");
        }
        jobs.push(job);
    }
    let references = section.get("references").iter().flat_map(Node::list).filter_map(|node| node.value(values::host_port)).collect();
    Jobs { jobs, references }
}

fn read_job(node: &Node<'_>) -> Option<Job> {
    let section = node.section();
    let name = section.must("name", "write the job's name, which is the label `job` of its series", job_name);
    let module = section.or("module", "http_2xx".to_owned(), values::text);
    let interval =
        section.or("interval", Duration::from_secs(15), values::duration_in(Duration::from_millis(500)..=Duration::from_secs(86_400)));
    let timeout = section.opt("timeout", values::duration_in(Duration::from_millis(50)..=Duration::from_secs(300)));
    if timeout.is_some_and(|timeout| timeout > interval)
        && let Some(node) = section.get("timeout")
    {
        node.complain("is longer than the interval", "write a shorter one, or leave it out");
    }
    let timeout = timeout.unwrap_or_else(|| interval.min(Duration::from_secs(10)));
    let mut groups: Vec<TargetGroup> = section.get("static_configs").iter().flat_map(Node::list).map(|node| target_group(&node)).collect();
    if let Some(node) = section.get("targets") {
        groups.push(TargetGroup { targets: texts(&node), labels: Vec::new() });
    }
    let files = section.get("file_sd_configs").iter().flat_map(Node::list).map(|node| file_sd(&node)).collect();
    let servers = section.get("http_sd_configs").iter().flat_map(Node::list).filter_map(|node| http_sd(&node)).collect();
    let labels = pairs(&section, "labels");
    let rules = section.get("relabel_configs").iter().flat_map(Node::list).map(|node| shape::rule(&node)).collect();
    let retries = section.or("retries", 1, values::number(0..=10));
    let nodes = section.below("verdict").map_or(2, |section| {
        let nodes = section.or("nodes", 2, values::number(1..=9));
        section.finish();
        nodes
    });
    let alert = section.below("alert").map(|section| read_alert(&section)).unwrap_or_default();
    section.finish();
    Some(Job {
        name: name?,
        module,
        interval,
        timeout,
        groups,
        files,
        servers,
        labels,
        rules,
        retries: u32::try_from(retries).unwrap_or(1),
        nodes: usize::try_from(nodes).unwrap_or(2),
        alert,
    })
}

/// `prometheus` is what the Prometheus of the groups are known by.
fn job_name(text: &str) -> Result<String, Refusal> {
    if text.is_empty() || text == "prometheus" {
        return Err((
            "must be a name other than `prometheus`, by which the Prometheus of the groups are known".into(),
            "for example shops".into(),
        ));
    }
    if text.len() > NAME {
        return Err((format!("must not be longer than {NAME} bytes"), "for example shops".into()));
    }
    Ok(text.to_owned())
}

fn read_alert(section: &Section<'_>) -> JobAlert {
    let default = JobAlert::default();
    let alert = JobAlert {
        enabled: section.or("enabled", true, values::switch),
        after: section.or("for", default.after, values::duration),
        level: section.or("level", default.level, level),
        labels: pairs(section, "labels"),
        annotations: pairs(section, "annotations"),
        certificate_days: section.opt("certificate_days", values::number(1..=3650)),
        latency: section.opt("latency", values::duration_in(Duration::from_millis(1)..=Duration::from_secs(300))),
    };
    section.finish();
    alert
}

/// `P1` to `P5`.
pub fn level(text: &str) -> Result<u8, Refusal> {
    match text {
        "P1" => Ok(1),
        "P2" => Ok(2),
        "P3" => Ok(3),
        "P4" => Ok(4),
        "P5" => Ok(5),
        _ => Err(("must be P1 (the worst) to P5".into(), "for example P3".into())),
    }
}

fn pairs(section: &Section<'_>, key: &'static str) -> Vec<(String, String)> {
    let Some(section) = section.below(key) else { return Vec::new() };
    section.pairs().filter_map(|(name, node)| Some((name.to_owned(), node.value(values::text)?))).collect()
}

fn texts(node: &Node<'_>) -> Vec<String> {
    node.list().iter().filter_map(|item| item.value(values::text)).collect()
}

fn target_group(node: &Node<'_>) -> TargetGroup {
    let section = node.section();
    let targets = section.get("targets").map(|node| texts(&node)).unwrap_or_default();
    let labels = pairs(&section, "labels");
    section.finish();
    TargetGroup { targets, labels }
}

fn refresh(section: &Section<'_>, default: Duration) -> Duration {
    section.or("refresh_interval", default, values::duration_in(Duration::from_secs(1)..=Duration::from_secs(86_400)))
}

fn file_sd(node: &Node<'_>) -> FileSd {
    let section = node.section();
    let files = section.get("files").iter().flat_map(Node::list).filter_map(|node| node.value(remote_write::absolute)).collect();
    let refresh = refresh(&section, Duration::from_secs(300));
    section.finish();
    FileSd { files, refresh }
}

fn http_sd(node: &Node<'_>) -> Option<HttpSd> {
    let section = node.section();
    let url = section.must("url", "write where the list of targets is: url: https://inventory.example/targets", values::url);
    let tls = section.below("tls_config").map(|section| remote_write::tls(&section)).unwrap_or_default();
    let refresh = refresh(&section, Duration::from_secs(60));
    section.finish();
    Some(HttpSd { url: url?, tls, refresh })
}

/// A list of targets as files and servers give it, in JSON or YAML, with what YAML has for those who do not like to repeat themselves. The error is for people.
pub fn target_groups(text: &str) -> Result<Vec<TargetGroup>, String> {
    let tree = tree::parse_foreign(text).map_err(|broken| format!("line {}: {}", broken.line, broken.reason))?;
    let problems = Problems::default();
    let groups = Node::root(&tree, &problems).list().iter().map(target_group).collect();
    match problems.take().first() {
        None => Ok(groups),
        Some(problem) => Err(problem.to_string().replace("\n    ", "; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Jobs, Vec<String>) {
        let tree = tree::parse(text).unwrap();
        let problems = Problems::default();
        let section = Node::root(&tree, &problems).section();
        let jobs = read(&section);
        section.finish();
        (jobs, problems.take().iter().map(|problem| format!("{}: {}", problem.key, problem.rule)).collect())
    }

    #[test]
    fn the_manuals_example_is_read() {
        let manual = include_str!("../../docs/verdicts.md");
        let example = manual.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let config = super::super::Config::parse(example).unwrap_or_else(|problems| panic!("{problems:#?}"));
        assert!(!config.jobs.jobs.is_empty() && !config.groups.overrides.is_empty() && config.notify.webhook.is_some());
        assert_eq!(super::super::settings::parse(&config.settings).unwrap().jobs, config.jobs);
    }

    #[test]
    fn a_job_needs_a_name_and_has_defaults_for_all_else() {
        let (jobs, problems) = parse("jobs: [ { name: web, targets: [ 'http://h' ] } ]");
        assert_eq!(problems, [""; 0]);
        let job = &jobs.jobs[0];
        assert_eq!((&*job.module, job.interval.as_secs(), job.timeout.as_secs(), job.retries, job.nodes), ("http_2xx", 15, 10, 1, 2));
        assert_eq!(job.alert, JobAlert::default());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_key() {
        let text = "references: [ nowhere ]\njobs:\n  - { interval: 5s, timeout: 6s }\n  - { name: prometheus }\n  - { name: a, alert: { level: P9 } }\n  \
                    - { name: a, file_sd_configs: [ { files: [ relative.json ] } ], modul: x }\n";
        let (_, long) = parse(&format!("jobs: [ {{ name: {} }}, {{ name: {} }} ]", "a".repeat(NAME), "b".repeat(NAME + 1)));
        assert!(matches!(&long[..], [one] if one.starts_with("jobs[1].name: ")), "{long:?}");
        let (_, problems) = parse(text);
        for key in [
            "references[0]",
            "jobs[0].name",
            "jobs[0].timeout",
            "jobs[1].name",
            "jobs[2].alert.level",
            "jobs[3]",
            "jobs[3].modul",
            "jobs[3].file_sd_configs[0].files[0]",
        ] {
            assert!(problems.iter().any(|problem| problem.starts_with(&format!("{key}: "))), "{key} in {problems:#?}");
        }
    }

    #[test]
    fn lists_of_targets_come_as_json_or_yaml() {
        let expected = vec![TargetGroup { targets: vec!["a:1".into(), "b:2".into()], labels: vec![("x".into(), "y".into())] }];
        assert_eq!(target_groups(r#"[{"targets": ["a:1", "b:2"], "labels": {"x": "y"}}]"#).as_ref(), Ok(&expected));
        let shared = target_groups("- targets: [c]\n  labels: &shared {x: y}\n- {targets: ['a:1', 'b:2'], labels: *shared}\n").unwrap();
        assert_eq!(shared[1], expected[0]);
        assert!(target_groups("- &a [*a]\n").unwrap_err().contains("within what it names"));
        assert_eq!(target_groups("- targets: ['a:1', 'b:2']\n  labels: { x: y }\n").as_ref(), Ok(&expected));
        assert_eq!(target_groups("[]"), Ok(Vec::new()));
        assert!(target_groups("{\"targets\": 1}").is_err() && target_groups("[{\"targets\": 1}]").is_err() && target_groups("[").is_err());
    }
}

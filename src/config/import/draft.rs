//! The configuration that an import writes, section by section, and what it has to say of its inputs. Several inputs write into one draft: what one
//! of them has said, the next one does not change, and that is a finding.

use std::path::PathBuf;

use crate::config::import::Content;
use crate::config::import::Fate;
use crate::config::import::Finding;
use crate::config::import::Input;
use crate::config::import::Kind;
use crate::config::import::Outcome;
use crate::config::import::Secret;
use crate::config::settings;

/// Something that an input says, for a finding about it.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// Its line.
    pub line: usize,
    /// The key, the variable or the flag.
    pub key: String,
    /// What stands there; empty for secrets.
    pub value: String,
}

impl Said {
    /// Something with its value.
    pub fn new(line: usize, key: &str, value: &str) -> Said {
        // A finding is a line for a person: long values are cut.
        Said { line, key: key.to_owned(), value: value.chars().take(120).collect() }
    }

    /// Something about the input as a whole.
    pub fn whole() -> Said {
        Said::default()
    }
}

/// The draft.
pub struct Draft {
    source: String,
    secrets_at: PathBuf,
    listen: Option<String>,
    /// `tls:` of the listener: certificate and key.
    pub tls: Option<(String, String)>,
    logging: Vec<(&'static str, String)>,
    limits: Vec<(&'static str, String)>,
    per_group: Vec<(&'static str, String)>,
    pairs: Vec<(String, String)>,
    /// Senders name their tenant in this header.
    pub tenant_header: Option<&'static str>,
    /// Lines that stand commented out below `groups:`.
    pub overrides: Vec<String>,
    sinks: Vec<(String, Vec<String>)>,
    /// Lines below `probe:`.
    pub probe: Vec<String>,
    /// Lines below `alerting:`.
    pub alerting: Vec<String>,
    findings: Vec<Finding>,
    secrets: Vec<Secret>,
}

impl Draft {
    /// An empty one.
    pub fn new(secrets_at: PathBuf) -> Draft {
        Draft {
            source: String::new(),
            secrets_at,
            listen: None,
            tls: None,
            logging: Vec::new(),
            limits: Vec::new(),
            per_group: Vec::new(),
            pairs: Vec::new(),
            tenant_header: None,
            overrides: Vec::new(),
            sinks: Vec::new(),
            probe: Vec::new(),
            alerting: Vec::new(),
            findings: Vec::new(),
            secrets: Vec::new(),
        }
    }

    /// What comes is said by this input.
    pub fn begin(&mut self, input: &Input) {
        self.source.clone_from(&input.name);
    }

    /// It is there, as it was.
    pub fn taken(&mut self, said: &Said, text: impl Into<String>) {
        self.find(Fate::Taken, said, text.into(), "");
    }

    /// It is there, and not quite the same.
    pub fn different(&mut self, said: &Said, text: impl Into<String>, remedy: &str) {
        self.find(Fate::Different, said, text.into(), remedy);
    }

    /// There is nothing like it.
    pub fn missing(&mut self, said: &Said, text: impl Into<String>, remedy: &str) {
        self.find(Fate::Missing, said, text.into(), remedy);
    }

    fn find(&mut self, fate: Fate, said: &Said, text: String, remedy: &str) {
        let Said { line, key, value } = said.clone();
        let found = Finding { fate, source: self.source.clone(), line, key, value, text, remedy: remedy.to_owned() };
        // What counts for several sinks is said once.
        if !self.findings.contains(&found) {
            self.findings.push(found);
        }
    }

    /// Whether anything was said of this already.
    pub fn has_told(&self, said: &Said) -> bool {
        self.findings.iter().any(|found| found.source == self.source && (found.line, &found.key) == (said.line, &said.key))
    }

    /// Where sluice listens.
    pub fn listen(&mut self, said: &Said, address: String) {
        match &self.listen {
            Some(other) if *other != address => {
                let text = format!("listens on {other}, as another input says; one address takes all");
                self.different(said, text, "point what wrote to this port at that one");
            }
            _ => {
                self.taken(said, format!("listen: {address}"));
                self.listen = Some(address);
            }
        }
    }

    /// A key of `limits:`.
    pub fn limit(&mut self, said: &Said, key: &'static str, value: String) {
        let known = self.limits.iter().find(|(known, _)| *known == key).map(|(_, value)| value.clone());
        self.once(said, ("limits", key), known, &value);
        self.set_limit(key, value);
    }

    /// The same, where the finding is the caller's, since it is not quite the same.
    pub fn set_limit(&mut self, key: &'static str, value: String) {
        if !self.limits.iter().any(|(known, _)| *known == key) {
            self.limits.push((key, value));
        }
    }

    /// A key of `limits.per_group:`; the finding is the caller's, since what is bounded there is never quite the same.
    pub fn per_group(&mut self, key: &'static str, value: String) {
        if !self.per_group.iter().any(|(known, _)| *known == key) {
            self.per_group.push((key, value));
        }
    }

    /// A key of `logging:`.
    pub fn logging(&mut self, said: &Said, key: &'static str, value: &str) {
        let known = self.logging.iter().find(|(known, _)| *known == key).map(|(_, value)| value.clone());
        self.once(said, ("logging", key), known, value);
        if !self.logging.iter().any(|(known, _)| *known == key) {
            self.logging.push((key, value.to_owned()));
        }
    }

    fn once(&mut self, said: &Said, (section, key): (&str, &str), known: Option<String>, value: &str) {
        match known {
            Some(known) if known != value => {
                let text = format!("{section}.{key} is {known} already, as another input says");
                self.different(said, text, "one node has one: choose");
            }
            _ => self.taken(said, format!("{section}.{key}: {value}")),
        }
    }

    /// Labels that name a group and the replica in it.
    pub fn pair(&mut self, group: &str, replica: &str) {
        let pair = (group.to_owned(), replica.to_owned());
        if !self.pairs.contains(&pair) {
            self.pairs.push(pair);
        }
    }

    /// A sink of this name, or one that is free: the lines below its name.
    pub fn sink(&mut self, name: &str, lines: Vec<String>) -> String {
        let free = |name: &str| self.sinks.iter().all(|(known, _)| known != name);
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let name = std::iter::once(name.to_owned()).chain(numbered).find(|name| free(name)).unwrap_or_default();
        self.sinks.push((name.clone(), lines));
        name
    }

    /// A file for a secret: the path to name in the configuration.
    pub fn secret(&mut self, said: &Said, name: &str, value: &str) -> String {
        let path = self.secrets_at.join(name);
        let shown = path.display().to_string();
        let remedy =
            "write it there, readable by the user that runs sluice alone (mode 0600), on every node; --secrets DIRECTORY does it here";
        self.different(said, format!("a secret stands in no configuration: {shown} is to hold it"), remedy);
        self.secrets.push(Secret { path, value: value.to_owned() });
        shown
    }

    /// The text, and all that was found.
    pub fn finish(mut self, inputs: &[Input]) -> Outcome {
        self.findings.sort_by_key(|found| (inputs.iter().position(|input| input.name == found.source), found.fate, found.line));
        let text = self.text(inputs);
        Outcome { text, findings: self.findings, secrets: self.secrets }
    }

    fn text(&self, inputs: &[Input]) -> String {
        let mut out = String::from("# Written by `sluice import` from:\n");
        for input in inputs {
            out.push_str(&format!("#   {} {}\n", input.kind.word(), shown_name(input)));
        }
        out.push_str(
            "# What became of each of their settings, and what did not, it has told. docs/migration.md says in which order to move over;\n",
        );
        out.push_str("# docs/configuration.md knows every key. Nothing is in force before `sluice check` finds this file good.\n\n");
        let listen = self.listen.as_deref().unwrap_or(":9201");
        out.push_str(&format!("listen: {}   # beyond loopback every request needs a token (docs/security.md)\n", quoted(listen)));
        out.push_str("data_dir: /var/lib/sluice\n");
        if let Some((certificate, key)) = &self.tls {
            out.push_str(&format!("tls:\n  cert_file: {}\n  key_file: {}\n", quoted(certificate), quoted(key)));
        }
        self.write_sinks(&mut out);
        self.write_groups(&mut out);
        self.write_limits(&mut out);
        section("probe", &self.probe, &mut out);
        section("alerting", &self.alerting, &mut out);
        let logging: Vec<String> = self.logging.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        section("logging", &logging, &mut out);
        out
    }

    fn write_sinks(&self, out: &mut String) {
        if self.sinks.is_empty() {
            out.push_str("\nsinks: []   # none of the inputs says where samples go: docs/sinks.md\n");
            return;
        }
        out.push_str("\nsinks:\n");
        for (name, lines) in &self.sinks {
            out.push_str(&format!("  - name: {}\n", quoted(name)));
            lines.iter().for_each(|line| out.push_str(&format!("    {line}\n")));
        }
    }

    fn write_groups(&self, out: &mut String) {
        let mut lines = Vec::new();
        if !self.pairs.is_empty() {
            lines.push(
                "labels:   # of a series with both, the first names its pair of Prometheus, the second which of the pair it is from"
                    .to_owned(),
            );
            let pair = |(group, replica): &(String, String)| format!("  - {{ group: {}, replica: {} }}", quoted(group), quoted(replica));
            lines.extend(self.pairs.iter().map(pair));
        }
        if let Some(header) = self.tenant_header {
            lines.push("tenant:".to_owned());
            lines.push(format!("  header: {header}"));
            lines.push("  required: true   # as a request without it was refused before".to_owned());
        }
        if lines.is_empty() && !self.overrides.is_empty() {
            lines.push("unidentified: forward   # the default".to_owned());
        }
        lines.extend(self.overrides.iter().map(|line| format!("# {line}")));
        section("groups", &lines, out);
    }

    fn write_limits(&self, out: &mut String) {
        let mut lines: Vec<String> = self.limits.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        if !self.per_group.is_empty() {
            lines.push("per_group:".to_owned());
            lines.extend(self.per_group.iter().map(|(key, value)| format!("  {key}: {value}")));
        }
        section("limits", &lines, out);
    }
}

fn section(name: &str, lines: &[String], out: &mut String) {
    if lines.is_empty() {
        return;
    }
    out.push_str(&format!("\n{name}:\n"));
    lines.iter().for_each(|line| out.push_str(&format!("  {line}\n")));
}

/// Where the input is from; that of an environment or of arguments has no path.
fn shown_name(input: &Input) -> String {
    match (&input.content, input.kind) {
        (Content::Text(_), _) => input.path.display().to_string(),
        (Content::Variables(_), _) => "(the environment)".to_owned(),
        (Content::Words(_), Kind::Vmagent) => "(flags on the command line)".to_owned(),
        (Content::Words(_), _) => input.name.clone(),
    }
}

/// A scalar of YAML that is read as this text, whatever it looks like.
pub fn quoted(text: &str) -> String {
    settings::scalar(text)
}

/// A list of them.
pub fn list<T: AsRef<str>>(texts: &[T]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quoted(text.as_ref())).collect();
    format!("[{}]", texts.join(", "))
}

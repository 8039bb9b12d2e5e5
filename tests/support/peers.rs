//! What must be installed for a test to run, and the one way to go without it.
//!
//! A missing peer fails the test that needs it. Only `SLUICE_ALLOW_MISSING=kafka,prometheus,...` turns that into "did not run", which
//! `scripts/test` lists at its end (it reads the file named by `SLUICE_NOT_RUN`).

use std::io::Write;
use std::path::PathBuf;

/// A program or a set of jars that a test runs beside sluice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Kafka,
    /// The OLAP store, five processes of Java.
    Druid,
    Prometheus,
    NodeExporter,
    Kcat,
    Jq,
    Strace,
    /// Room to mount a small tmpfs: root, or user namespaces.
    Tmpfs,
    Python,
    Curl,
    Chromium,
    /// VictoriaMetrics' agent.
    Vmagent,
    /// Rules that are asked of a store, and alerts of what they find.
    Vmalert,
    /// The store, as one process.
    VictoriaMetrics,
    Haproxy,
    /// What probes are compared with.
    Blackbox,
    /// What pushes are compared with, as Debian calls it.
    Pushgateway,
    /// Alertmanager and its tool.
    Amtool,
    /// Wrong clocks.
    Faketime,
    /// The right to listen at port 53, and to make a mount namespace.
    NameServer,
    /// Tools that make, install and check packages, and the right to have machines to install them on.
    Packages,
}

impl Peer {
    /// The name that `SLUICE_ALLOW_MISSING` knows.
    fn name(self) -> &'static str {
        match self {
            Peer::Kafka => "kafka",
            Peer::Druid => "druid",
            Peer::Prometheus => "prometheus",
            Peer::NodeExporter => "node-exporter",
            Peer::Kcat => "kcat",
            Peer::Jq => "jq",
            Peer::Strace => "strace",
            Peer::Tmpfs => "tmpfs",
            Peer::Python => "python3",
            Peer::Curl => "curl",
            Peer::Chromium => "chromium",
            Peer::Vmagent => "vmagent",
            Peer::Vmalert => "vmalert",
            Peer::VictoriaMetrics => "victoria-metrics",
            Peer::Haproxy => "haproxy",
            Peer::Blackbox => "prometheus-blackbox-exporter",
            Peer::Pushgateway => "prometheus-pushgateway",
            Peer::Amtool => "amtool",
            Peer::Faketime => "faketime",
            Peer::NameServer => "name-server",
            Peer::Packages => "packages",
        }
    }

    /// Why it cannot be used, if so.
    fn fault(self) -> Option<String> {
        let program = |names: &[&str]| (!names.iter().any(|name| on_path(name))).then(|| format!("`{}` is not installed", names[0]));
        match self {
            Peer::Kafka => program(&["java"]).or_else(|| {
                let libs = kafka_libs();
                (!libs.join("complete").exists()).then(|| format!("the broker's jars are not in {}", libs.display()))
            }),
            Peer::Druid => program(&["java"]).or_else(|| {
                let libs = druid_libs();
                (!libs.join("complete").exists()).then(|| format!("Druid's jars are not in {}", libs.display()))
            }),
            Peer::NodeExporter => program(&NODE_EXPORTERS),
            Peer::Blackbox => program(&BLACKBOX_EXPORTERS),
            Peer::Amtool => program(&[self.name()]).or_else(|| program(&ALERTMANAGERS)),
            Peer::Tmpfs => program(&["unshare"]).or_else(|| {
                let status = std::process::Command::new("unshare").args(super::disk::NAMESPACE).arg("true").status();
                (!status.is_ok_and(|status| status.success())).then(|| "this user may not make a mount namespace".to_owned())
            }),
            Peer::NameServer => {
                let may = super::names::can_serve();
                (!may).then(|| "this user may not listen at port 53".to_owned()).or_else(|| Peer::Tmpfs.fault())
            }
            Peer::Packages => {
                let tools = [
                    "rpm",
                    "rpmbuild",
                    "rpm2cpio",
                    "cpio",
                    "rpmlint",
                    "dpkg",
                    "dpkg-deb",
                    "lintian",
                    "systemd-analyze",
                    "python3",
                    "strip",
                ];
                tools.iter().find_map(|tool| program(&[tool])).or_else(super::packages::Root::fault)
            }
            Peer::Prometheus
            | Peer::Vmagent
            | Peer::Vmalert
            | Peer::VictoriaMetrics
            | Peer::Kcat
            | Peer::Jq
            | Peer::Strace
            | Peer::Python
            | Peer::Curl
            | Peer::Chromium
            | Peer::Haproxy
            | Peer::Pushgateway
            | Peer::Faketime => program(&[self.name()]),
        }
    }
}

/// As Debian and as everyone else calls it.
pub const NODE_EXPORTERS: [&str; 2] = ["prometheus-node-exporter", "node_exporter"];
pub const BLACKBOX_EXPORTERS: [&str; 2] = ["prometheus-blackbox-exporter", "blackbox_exporter"];

pub const ALERTMANAGERS: [&str; 2] = ["prometheus-alertmanager", "alertmanager"];

/// Whether the test can run. Panics when a peer is missing that is not allowed to be.
pub fn need(peers: &[Peer]) -> bool {
    super::costs::begin();
    let allowed = std::env::var("SLUICE_ALLOW_MISSING").unwrap_or_default();
    for peer in peers {
        let Some(fault) = peer.fault() else { continue };
        let name = peer.name();
        assert!(
            allowed.split(',').any(|one| one == name),
            "this test needs {name}, and {fault}. scripts/test installs it; SLUICE_ALLOW_MISSING={name} leaves the test out."
        );
        did_not_run(&format!("{name} is allowed to be missing, and {fault}"));
        return false;
    }
    true
}

/// Adds this test to the list at the end of `scripts/test`.
pub fn did_not_run(why: &str) {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    eprintln!("did not run: {test}: {why}");
    let Some(list) = std::env::var_os("SLUICE_NOT_RUN") else { return };
    let mut list = std::fs::File::options().append(true).create(true).open(list).expect("SLUICE_NOT_RUN");
    writeln!(list, "{test}: {why}").expect("SLUICE_NOT_RUN");
}

/// Where `scripts/test` puts the broker's jars.
pub fn kafka_libs() -> PathBuf {
    libs("SLUICE_KAFKA_LIBS", "kafka-4.1.1")
}

/// The same of Druid's.
pub fn druid_libs() -> PathBuf {
    libs("SLUICE_DRUID_LIBS", "druid-33.0.0")
}

fn libs(variable: &str, what: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"), PathBuf::from);
    cache.join("sluice").join(what).join("libs")
}

/// The first of the names that is a program on the path.
pub fn on_path(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
}

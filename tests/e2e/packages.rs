//! Packages as they are asked, installed, upgraded and erased; and the unit, verified, scored and held against what a node does. Of the binary under test, so what is not shown here is
//! that a release runs on an older system: `scripts/package` refuses to pack a program that needs more than glibc 2.28, and RHEL itself was not there to try.

use crate::support::load::Sender;
use crate::support::manager::Manager;
use crate::support::packages::{Root, VERSIONS, build, built, deb, must, rpm};
use crate::support::peers::{Peer, did_not_run, need};
use crate::support::process::{Process, Scratch, eventually, let_pass};
use crate::support::sluice::{BINARY, Sluice};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const CONFIG: &str = "/etc/sluice/sluice.yaml";
const DATA: &str = "/var/lib/sluice/of-an-operator";

fn ours(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).display().to_string()
}

#[test]
fn an_rpm_says_what_it_brings_what_it_needs_and_what_it_does() {
    if !need(&[Peer::Packages]) {
        return;
    }
    let file = rpm(VERSIONS[0]).display().to_string();
    let ask = |what: &[&str]| must("rpm", &[&["-qp"], what, &[&*file]].concat());
    let listed = ask(&["-lv"]);
    let brings = [
        ("-rwxr-xr-x", "root     root", "/usr/bin/sluice"),
        ("-rw-r--r--", "root     root", "/usr/lib/systemd/system/sluice.service"),
        ("-rw-r--r--", "root     root", "/usr/lib/systemd/system/sluice-backup.service"),
        ("-rw-r--r--", "root     root", "/usr/lib/systemd/system/sluice-backup.timer"),
        ("-rw-r--r--", "root     root", "/usr/lib/sysusers.d/sluice.conf"),
        ("-rw-r--r--", "root     root", "/usr/lib/firewalld/services/sluice.xml"),
        ("drwxr-x---", "root     sluice", "/etc/sluice"),
        ("-rw-r-----", "root     sluice", CONFIG),
        ("-rw-r-----", "root     root", "/etc/sysconfig/sluice"),
        ("drwxr-x---", "sluice   sluice", "/var/lib/sluice"),
        ("-rw-r--r--", "root     root", "/usr/share/man/man8/sluice.8.gz"),
        ("-rw-r--r--", "root     root", "/usr/share/man/man8/sluice-cluster-init.8.gz"),
        ("-rw-r--r--", "root     root", "/usr/share/bash-completion/completions/sluice"),
        ("-rw-r--r--", "root     root", "/usr/share/zsh/site-functions/_sluice"),
        ("-rw-r--r--", "root     root", "/usr/share/fish/vendor_completions.d/sluice.fish"),
        ("-rw-r--r--", "root     root", "/usr/share/sluice/sbom.cdx.json"),
        ("-rw-r--r--", "root     root", "/usr/share/sluice/grafana/sluice.json"),
        ("-rw-r--r--", "root     root", "/usr/share/sluice/prometheus/sluice.rules.yml"),
        ("-rw-r--r--", "root     root", "/usr/share/sluice/examples/systemd/raw-icmp.conf"),
        ("-rw-r--r--", "root     root", "/usr/share/licenses/sluice/LICENSE"),
        ("-rw-r--r--", "root     root", "/usr/share/licenses/sluice/THIRD-PARTY.md"),
        ("-rw-r--r--", "root     root", "/usr/share/doc/sluice/docs/configuration.md"),
    ];
    for (mode, owner, path) in brings {
        let line = listed.lines().find(|line| line.ends_with(&format!(" {path}"))).unwrap_or_else(|| panic!("{path} is missing: {listed}"));
        assert!(line.starts_with(mode) && line.contains(owner), "{line}");
    }
    let config = ask(&["-c"]);
    assert_eq!(config.lines().collect::<Vec<_>>(), [CONFIG, "/etc/sysconfig/sluice"]);
    let requires = ask(&["--requires"]);
    for needed in ["libc.so.6(GLIBC_", "rpmlib(PayloadIsZstd)", "/bin/sh", "shadow-utils", "systemd"] {
        assert!(requires.contains(needed), "{needed}: {requires}");
    }
    assert!(!requires.contains("libssl") && !requires.contains("librdkafka"), "they are in it: {requires}");
    assert!(ask(&["--provides"]).contains("user(sluice)"));
    // A node of a cluster is restarted by whoever operates the cluster, and data are nobody's but the operator's.
    let scripts = ask(&["--scripts"]);
    for (at, line) in scripts.lines().enumerate() {
        let does = line.trim_start();
        for never in ["rm ", "userdel", "groupdel", "try-restart", "condrestart"] {
            assert!(!does.contains(never), "line {at}: {line}");
        }
        assert!(!does.starts_with("systemctl restart") && !does.starts_with("systemctl start"), "{line}");
    }
}

#[test]
fn a_program_that_older_systems_do_not_run_is_no_release() {
    if !need(&[Peer::Packages]) {
        return;
    }
    let judged = Command::new(ours("scripts/package")).args(["--only", "gate", "--binary", BINARY]).output().expect("scripts/package");
    let said = String::from_utf8_lossy(&judged.stderr);
    // Linked on this machine, against its own C library and C++'s; and cargo-auditable had no part in it.
    assert!(
        !judged.status.success()
            && ["GLIBC_2.28", "libstdc++", "list of its crates", "host's gcc"].iter().any(|words| said.contains(words)),
        "{said}"
    );
    // Where somebody has built a release, that one is.
    let cache = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default().join(".cache/sluice/target-zig");
    let released = cache.join(format!("{}-unknown-linux-gnu/release/sluice", std::env::consts::ARCH)).display().to_string();
    if !Path::new(&released).exists() {
        return did_not_run("no release was built here (scripts/package), so none was judged");
    }
    let said = must(&ours("scripts/package"), &["--only", "gate", "--binary", &released]);
    assert!(said.contains("needs GLIBC_2.28 at most"), "{said}");
}

#[test]
fn the_bill_of_materials_names_the_libraries_that_the_program_names() {
    if !need(&[Peer::Python]) {
        return;
    }
    let scratch = Scratch::new("packages-sbom");
    let (target, into) = (format!("{}-unknown-linux-gnu", std::env::consts::ARCH), scratch.path().display().to_string());
    let made = Command::new(ours("scripts/sbom")).args([&target, &into]).current_dir(ours("")).output().expect("scripts/sbom");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let text = std::fs::read_to_string(scratch.join("sbom.cdx.json")).unwrap();
    let bill: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(bill["bomFormat"] == "CycloneDX" && bill["metadata"]["component"]["name"] == "sluice");
    let parts = bill["components"].as_array().unwrap();
    let whole = |part: &serde_json::Value| part["licenses"][0]["expression"].is_string() && part["hashes"].is_array();
    assert!(parts.len() > 150 && parts.iter().all(whole), "{} parts", parts.len());
    let within = parts.iter().flat_map(|part| part["components"].as_array().cloned().unwrap_or_default());
    let called = |library: serde_json::Value| format!("{} {}", library["name"].as_str().unwrap(), library["version"].as_str().unwrap());
    let within: Vec<String> = within.map(called).collect();
    let told = must(BINARY, &["version", "--verbose"]);
    let bundled = told.lines().find_map(|line| line.strip_prefix("bundled")).expect("what is bundled");
    for library in bundled.trim().split(", ") {
        assert!(within.iter().any(|one| one == library), "{library} is not in {within:?}");
    }
    assert!(!text.contains("apache-avro"), "what only tests need is no part of it");
    let notice = std::fs::read_to_string(scratch.join("THIRD-PARTY.md")).unwrap();
    for words in ["Redistribution and use in source and binary forms", "Apache License", "zlib", "Permission is hereby granted"] {
        assert!(notice.contains(words), "{words}");
    }
}

#[test]
fn two_builds_are_the_same_bytes() {
    if !need(&[Peer::Packages]) {
        return;
    }
    let scratch = Scratch::new("packages-again");
    build(scratch.path(), VERSIONS[0], "rpm deb tar");
    let mut seen = 0;
    for entry in std::fs::read_dir(scratch.path()).unwrap() {
        let again = entry.unwrap().path();
        let name = again.file_name().unwrap();
        if name != "SHA256SUMS" {
            assert!(std::fs::read(&again).unwrap() == std::fs::read(built().join(name)).unwrap(), "{} differs", again.display());
            seen += 1;
        }
    }
    assert_eq!(seen, 3);
    let sums = must("sh", &["-c", &format!("cd '{}' && sha256sum -c SHA256SUMS", scratch.path().display())]);
    assert_eq!(sums.matches(": OK").count(), 3, "{sums}");
}

/// A checkout of its own of what is committed here. `None`: this is no checkout, as where sources came as an archive.
fn checkout(scratch: &Scratch) -> Option<PathBuf> {
    let to = scratch.join("checkout");
    let into = to.display().to_string();
    let cloned = Command::new("git").args(["-c", "safe.directory=*", "clone", "--quiet", env!("CARGO_MANIFEST_DIR"), &into]).status();
    cloned.is_ok_and(|status| status.success()).then_some(to)
}

#[test]
fn a_release_is_made_of_what_is_committed_and_only_of_that() {
    if !need(&[Peer::Packages]) {
        return;
    }
    let scratch = Scratch::new("packages-release");
    let Some(there) = checkout(&scratch) else { return eprintln!("did not run: this is no checkout") };
    let within = |program: &str, args: &[&str]| {
        let who =
            ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"].map(|name| (name, "tests@localhost"));
        let done = Command::new(program).args(args).current_dir(&there).envs(who).env("CARGO_TARGET_DIR", scratch.join("target")).output();
        let done = done.expect(program);
        (done.status.success(), format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr)))
    };
    let release = |args: &[&str]| within("scripts/release", args);
    let (ok, said) = release(&["97.0.0", "--dry-run"]);
    assert!(ok && said.contains("version = \"97.0.0\"") && said.contains("tag it v97.0.0"), "{said}");
    let (ok, said) = release(&["0.0.1", "--dry-run"]);
    assert!(!ok && said.contains("is not newer"), "{said}");
    std::fs::write(there.join("README.md"), "changed").unwrap();
    let (ok, said) = release(&["97.0.0"]);
    assert!(!ok && said.contains("is not clean"), "{said}");
    assert!(within("git", &["checkout", "--quiet", "README.md"]).0);
    let (ok, said) = release(&["97.0.0", "--binary", BINARY]);
    assert!(ok, "{said}");
    assert!(within("git", &["describe"]).1.trim() == "v97.0.0" && within("git", &["status", "--porcelain"]).1.is_empty());
    let [manifest, changelog] = ["Cargo.toml", "CHANGELOG.md"].map(|file| std::fs::read_to_string(there.join(file)).unwrap());
    assert!(manifest.contains("\nversion = \"97.0.0\"") && changelog.contains("## Unreleased\n\n## [97.0.0] - 2"));
    let out = scratch.join("target/packages/97.0.0");
    let sums = must("sh", &["-c", &format!("cd '{}' && sha256sum -c SHA256SUMS", out.display())]);
    assert_eq!(sums.matches(": OK").count(), 3, "{sums}");
    assert!(std::fs::read_to_string(out.join("NOTES.md")).unwrap().contains("### Added"));
    let (ok, said) = release(&["98.0.0"]);
    assert!(!ok && said.contains("nothing under"), "{said}");
}

/// What an operator has changed and what the node has written since the installation.
fn use_it(machine: &Root, environment: &str) {
    let edited = machine.read(CONFIG).replace("topic: metrics", "topic: of-an-operator");
    std::fs::write(machine.outside(CONFIG), edited).unwrap();
    std::fs::write(machine.outside(DATA), "samples").unwrap();
    machine.must(&["chown", "sluice:sluice", DATA]);
    assert!(machine.has(environment));
}

fn as_installed(machine: &Root, environment: &str) {
    assert_eq!(machine.owner("/etc/sluice"), "750 root:sluice");
    assert_eq!(machine.owner(CONFIG), "640 root:sluice");
    assert_eq!(machine.owner(environment), "640 root:root");
    assert_eq!(machine.owner("/var/lib/sluice"), "750 sluice:sluice");
    assert!(machine.must(&["getent", "passwd", "sluice"]).contains(":/var/lib/sluice:"));
    assert!(machine.must(&["sluice", "check", CONFIG]).contains("good"));
    // Not enabled: the distribution's presets say nothing of it, and Debian's say nothing at all.
    let enabled = machine.run(&["systemctl", "is-enabled", "sluice.service"]);
    assert!(matches!(String::from_utf8_lossy(&enabled.stdout).trim(), "disabled" | "enabled"), "the unit is known");
    let enabled = machine.run(&["systemctl", "is-enabled", "sluice-backup.timer"]);
    assert_eq!(String::from_utf8_lossy(&enabled.stdout).trim(), "disabled", "no preset of anybody's is asked for it");
}

#[test]
fn an_rpm_keeps_what_an_operator_changed_and_leaves_data_where_they_are() {
    if !need(&[Peer::Packages]) {
        return;
    }
    let scratch = Scratch::new("packages-rpm");
    let machine = Root::new(&scratch, "rpm");
    machine.rpm(&["-i", &rpm(VERSIONS[0]).display().to_string()]);
    as_installed(&machine, "/etc/sysconfig/sluice");
    use_it(&machine, "/etc/sysconfig/sluice");
    // The next version, whose file has another default.
    let next = rpm(VERSIONS[1]).display().to_string();
    machine.rpm(&["-U", &next]);
    assert!(machine.rpm(&["-q", "sluice"]).contains(VERSIONS[1]));
    assert!(machine.read(CONFIG).contains("of-an-operator"), "an edited file stays");
    assert_eq!((machine.read(DATA).as_str(), machine.owner(DATA).as_str()), ("samples", "644 sluice:sluice"));
    as_installed(&machine, "/etc/sysconfig/sluice");
    // And back, as long as nothing was finalised.
    machine.rpm(&["-U", "--oldpackage", &rpm(VERSIONS[0]).display().to_string()]);
    assert!(machine.rpm(&["-q", "sluice"]).contains(VERSIONS[0]));
    machine.rpm(&["-e", "sluice"]);
    assert!(!machine.has("/usr/bin/sluice") && !machine.has("/usr/lib/systemd/system/sluice.service"));
    assert!(machine.read("/etc/sluice/sluice.yaml.rpmsave").contains("of-an-operator"));
    assert_eq!(machine.read(DATA), "samples");
    assert!(machine.must(&["getent", "passwd", "sluice"]).contains("sluice"), "whoever owns data stays");
    // Whoever installs it again finds them.
    machine.rpm(&["-i", &next]);
    assert_eq!(machine.owner(DATA), "644 sluice:sluice");
}

#[test]
fn a_default_that_changed_comes_beside_an_edited_file() {
    if !need(&[Peer::Packages]) {
        return;
    }
    let scratch = Scratch::new("packages-rpmnew");
    let machine = Root::new(&scratch, "rpm");
    // Version 1.0.0 as it would have been with another default: only what a package's files are matters here.
    let old = scratch.sub("old");
    let spec = std::fs::read_to_string(ours("packaging/rpm/sluice.spec")).unwrap();
    let tree = scratch.sub("tree");
    must("sh", &["-c", &format!("cd '{}' && rpm2cpio '{}' | cpio -id --quiet", tree.display(), rpm(VERSIONS[0]).display())]);
    let config = tree.join("etc/sluice/sluice.yaml");
    let other = std::fs::read_to_string(&config).unwrap().replace("listen: 127.0.0.1:9201", "listen: 127.0.0.1:9200");
    std::fs::write(&config, other).unwrap();
    let file = scratch.join("old.spec");
    std::fs::write(&file, spec).unwrap();
    let define = |name: &str, value: &str| format!("{name} {value}");
    let defined = [
        define("_topdir", &old.display().to_string()),
        define("sluice_version", "0.9.0"),
        define("sluice_tree", &tree.display().to_string()),
        define("sluice_effort", "1"),
    ];
    let defined: Vec<&str> = defined.iter().flat_map(|one| ["--define", one.as_str()]).collect();
    must("rpmbuild", &[&["-bb", "--quiet"], &defined[..], &[&file.display().to_string()]].concat());
    let arch = std::env::consts::ARCH;
    machine.rpm(&["-i", &old.join(format!("RPMS/{arch}/sluice-0.9.0-1.{arch}.rpm")).display().to_string()]);
    use_it(&machine, "/etc/sysconfig/sluice");
    machine.rpm(&["-U", &rpm(VERSIONS[0]).display().to_string()]);
    assert!(machine.read(CONFIG).contains("of-an-operator") && machine.read(CONFIG).contains("127.0.0.1:9200"));
    let new = machine.read("/etc/sluice/sluice.yaml.rpmnew");
    assert!(new.contains("listen: 127.0.0.1:9201") && !new.contains("of-an-operator"), "the new default lies beside it");
}

#[test]
fn a_deb_keeps_what_an_operator_changed_and_leaves_data_where_they_are() {
    if !need(&[Peer::Packages]) {
        return;
    }
    let scratch = Scratch::new("packages-deb");
    let machine = Root::new(&scratch, "deb");
    let control = must("dpkg-deb", &["-I", &deb(VERSIONS[0]).display().to_string()]);
    assert!(control.contains("Depends: libc6 (>= 2.28), adduser"), "{control}");
    let listed = must("dpkg-deb", &["-c", &deb(VERSIONS[0]).display().to_string()]);
    let units = ["sluice.service", "sluice-backup.service", "sluice-backup.timer"].map(|unit| format!("./usr/lib/systemd/system/{unit}"));
    let files = ["./usr/bin/sluice", "./etc/default/sluice", "./usr/share/doc/sluice/copyright"].map(str::to_owned);
    for path in files.iter().chain(&units) {
        assert!(listed.lines().any(|line| line.ends_with(path.as_str()) && line.contains("root/root")), "{path}: {listed}");
    }
    machine.dpkg(&["-i", &deb(VERSIONS[0]).display().to_string()]);
    as_installed(&machine, "/etc/default/sluice");
    use_it(&machine, "/etc/default/sluice");
    machine.dpkg(&["-i", &deb(VERSIONS[1]).display().to_string()]);
    assert!(machine.read(CONFIG).contains("of-an-operator"));
    as_installed(&machine, "/etc/default/sluice");
    machine.dpkg(&["-r", "sluice"]);
    assert!(
        !machine.has("/usr/bin/sluice") && machine.read(CONFIG).contains("of-an-operator"),
        "a removed package leaves its configuration"
    );
    machine.dpkg(&["-P", "sluice"]);
    assert!(!machine.has(CONFIG), "a purged one does not");
    assert_eq!(machine.read(DATA), "samples", "data are nobody's but the operator's");
    assert!(machine.must(&["getent", "passwd", "sluice"]).contains("sluice"));
}

#[test]
fn linters_have_nothing_to_say_that_was_not_answered() {
    if !need(&[Peer::Packages]) {
        return;
    }
    let filter = ours("packaging/rpm/rpmlint.toml");
    let said = must("rpmlint", &["--config", &filter, &rpm(VERSIONS[0]).display().to_string()]);
    assert!(said.contains("0 errors, 0 warnings"), "{said}");
    let said = must(
        "lintian",
        &[
            "--fail-on",
            "error,warning",
            "--suppress-tags-from-file",
            &ours("packaging/deb/lintian-tags"),
            &deb(VERSIONS[0]).display().to_string(),
        ],
    );
    assert_eq!(said.lines().filter(|line| line.starts_with("E:") || line.starts_with("W:")).count(), 0, "{said}");
}

#[test]
fn the_units_are_verified_and_exposed_as_little_as_promised() {
    if !need(&[Peer::Packages]) {
        return;
    }
    let scratch = Scratch::new("packages-unit");
    let machine = Root::new(&scratch, "unit");
    machine.rpm(&["-i", &rpm(VERSIONS[0]).display().to_string()]);
    let unit = |name: &str| format!("/usr/lib/systemd/system/{name}");
    let verified =
        machine.must(&["systemd-analyze", "verify", &unit("sluice.service"), &unit("sluice-backup.timer"), &unit("sluice-backup.service")]);
    assert!(!verified.contains("sluice.service:") && !verified.contains("sluice-backup."), "{verified}");
    for service in ["sluice.service", "sluice-backup.service"] {
        // 16: 1.6 of 10. The tool fails above it.
        let scored = machine.must(&["systemd-analyze", "security", "--offline=true", "--threshold=16", &unit(service)]);
        assert!(scored.contains("Overall exposure level"), "{scored}");
    }
    machine.must(&[
        "sh",
        "-c",
        "mkdir -p /etc/systemd/system/sluice.service.d && cp /usr/share/sluice/examples/systemd/* /etc/systemd/system/sluice.service.d/",
    ]);
    let verified = machine.must(&["systemd-analyze", "verify", "/usr/lib/systemd/system/sluice.service"]);
    assert!(!verified.contains("sluice.service:") && !verified.contains(".conf:"), "{verified}");
}

/// Names of a filter's system calls: sets are expanded as systemd does it.
fn expand(set: &str) -> BTreeSet<String> {
    let told = must("systemd-analyze", &["syscall-filter", "--no-pager", set]);
    let mut names = BTreeSet::new();
    for word in told.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match word.starts_with('@') {
            true => names.extend(expand(word)),
            false => names.extend([word.to_owned()]),
        }
    }
    names
}

#[test]
fn a_node_makes_no_system_call_that_its_unit_forbids() {
    if !need(&[Peer::Packages, Peer::Strace]) {
        return;
    }
    let unit = std::fs::read_to_string(ours("packaging/systemd/sluice.service")).unwrap();
    let filters: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")).collect();
    assert_eq!(filters, ["@system-service", "~@privileged @resources"], "this test knows these");
    // What the sets before allow and the ones after take away again; and what systemd always allows.
    let mut allowed = expand("@system-service");
    let taken: BTreeSet<String> = expand("@privileged").union(&expand("@resources")).cloned().collect();
    allowed.retain(|name| !taken.contains(name));
    allowed.extend(expand("@default"));
    let scratch = Scratch::new("packages-calls");
    let manager = Manager::new(&scratch, "calls");
    let mut sluice = Sluice::prepare(&scratch, "127.0.0.1:9", "nowhere", "", None);
    let calls = scratch.join("calls");
    sluice.launch_traced(manager.path(), &calls);
    sluice.wait_ready(Duration::from_secs(120));
    let load = Sender { group: "shop".to_owned(), replica: "a".to_owned(), series: 20, interval: 200, offset: 0 }.start(sluice.address());
    eventually(Duration::from_secs(60), "samples to be taken", || {
        if load.acknowledged() > 500 { Ok(()) } else { Err(load.acknowledged().to_string()) }
    });
    let _probe: Vec<u16> =
        ["http_2xx", "icmp"].map(|module| sluice.get(&format!("/probe?module={module}&target=127.0.0.1")).status()).into();
    let _page = sluice.get("/metrics");
    let_pass(Duration::from_secs(2));
    drop(load.stop());
    sluice.stop();
    let used = eventually(Duration::from_secs(20), "strace to say what it saw", || {
        std::fs::read_to_string(&calls).ok().filter(|text| text.contains("total")).ok_or_else(|| "nothing yet".to_owned())
    });
    let used: BTreeSet<&str> = used
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .filter(|name| name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_'))
        .collect();
    assert!(used.contains("fdatasync") && used.contains("sendto") || used.contains("write"), "{used:?}");
    // strace runs the program, and these are the first words of any: the manager has said them before the filter is there.
    let forbidden: Vec<&&str> =
        used.iter().filter(|name| !allowed.contains(**name) && !["execve", "total", "calls", "syscall"].contains(*name)).collect();
    assert!(forbidden.is_empty(), "the unit forbids {forbidden:?}");
}

/// What a process is told to run by a unit.
fn exec_start(unit: &str) -> Vec<String> {
    let unit = std::fs::read_to_string(ours(&format!("packaging/systemd/{unit}"))).unwrap();
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("ExecStart");
    line.split(' ').map(str::to_owned).collect()
}

/// A node that is all there is, installed by an RPM, founded and running as its unit says.
struct Installed {
    machine: Root,
    process: Process,
    server: String,
}

impl Installed {
    fn new(scratch: &Scratch) -> Installed {
        let machine = Root::new(scratch, "run");
        machine.rpm(&["-i", &rpm(VERSIONS[0]).display().to_string()]);
        let port = crate::support::process::free_port();
        let config = format!(
            "listen: 127.0.0.1:{port}\ndata_dir: /var/lib/sluice\ncluster:\n  name: one-{port}\n  listen: 127.0.0.1:{}\n  nodes: [n1/127.0.0.1:{}]\nsinks:\n  - name: nowhere\n    kafka: {{ brokers: [\"127.0.0.1:9\"], topic: t, format: rows }}\n",
            port + 1,
            port + 1
        );
        std::fs::write(machine.outside(CONFIG), config).unwrap();
        machine.must(&["sluice", "cluster", "prepare", "--config", CONFIG, "--bundle", "/srv/sluice-join.bundle"]);
        machine.must(&["sluice", "cluster", "join", "/srv/sluice-join.bundle", "--config", CONFIG, "--node", "n1"]);
        assert_eq!(machine.owner("/var/lib/sluice/cluster/node.key"), "600 sluice:sluice");
        let manager = Manager::hidden();
        let mut line: Vec<String> = machine.enter_as_sluice();
        line.extend(["env".to_owned(), format!("NOTIFY_SOCKET={}", manager.path().display())]);
        line.extend(exec_start("sluice.service"));
        let process = Process::start("sluice", &line[0], &line[1..], scratch.path(), &scratch.join("log"));
        manager.wait_more("READY=1\nSTATUS=waits: this node belongs to no cluster yet", 0, Duration::from_secs(60));
        machine.must(&["sluice", "--version"]);
        let server = format!("http://127.0.0.1:{port}");
        eventually(Duration::from_secs(60), "the cluster to be founded", || {
            let asked = machine.run(&["sluice", "cluster", "init", "--server", &server]);
            if asked.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&asked.stderr).into_owned()) }
        });
        manager.wait_more("STATUS=leads ", 0, Duration::from_secs(60));
        Installed { machine, process, server }
    }

    fn stop(&mut self) {
        assert!(self.process.terminate(Duration::from_secs(60)).success(), "{}", self.process.log_tail(2000));
    }
}

#[test]
fn an_installed_node_runs_as_its_unit_says_and_verbs_of_root_leave_nothing_that_it_may_not_read() {
    if !need(&[Peer::Packages]) {
        return;
    }
    let scratch = Scratch::new("packages-run");
    Installed::new(&scratch).stop();
}

#[test]
fn the_unit_of_backups_writes_one_as_it_stands_there_and_removes_the_oldest_of_its_own() {
    if !need(&[Peer::Packages]) {
        return;
    }
    let scratch = Scratch::new("packages-backup");
    let mut node = Installed::new(&scratch);
    let backups = |node: &Installed| -> BTreeSet<String> {
        let listed = node.machine.must(&["ls", "/var/lib/sluice/backups"]);
        listed.lines().map(str::to_owned).collect()
    };
    // Of nights before, and one that somebody named.
    let nights: Vec<String> = (1..=9).map(|day| format!("2026-01-0{day}T02-30-00")).collect();
    for name in nights.iter().map(String::as_str).chain(["before-upgrade"]) {
        node.machine.must(&["sluice", "cluster", "backup", name, "--server", &node.server]);
    }
    let before = backups(&node);
    // What the unit runs, as whom it runs it, with the environment that its file gives it.
    let mut line = node.machine.enter_as_sluice();
    line.extend(["env".to_owned(), format!("SLUICE_SERVER={}", node.server)]);
    line.extend(exec_start("sluice-backup.service"));
    let said = must(&line[0], &line[1..].iter().map(String::as_str).collect::<Vec<_>>());
    let after = backups(&node);
    let new: Vec<&String> = after.difference(&before).collect();
    assert!(new.len() == 1 && said.contains(new[0].as_str()), "{said}: {after:?}");
    let mut left: BTreeSet<String> = nights[3..].iter().cloned().collect();
    left.extend(["before-upgrade".to_owned(), new[0].clone()]);
    assert_eq!(after, left, "seven, and the one with a name: {said}");
    assert_eq!(node.machine.owner(&format!("/var/lib/sluice/backups/{}", new[0])), "700 sluice:sluice");
    assert!(node.machine.has(&format!("/var/lib/sluice/backups/{}/backup.json", new[0])));
    // Where no node answers it says so, and fails.
    node.stop();
    let asked = Command::new(&line[0]).args(&line[1..]).output().expect("nsenter");
    assert!(!asked.status.success() && String::from_utf8_lossy(&asked.stderr).contains("no answer from"), "{asked:?}");
}

//! The way of an operator, as docs/install.md and docs/operations.md say it: three machines and an RPM; prepare, join, start, init; two Prometheus; the next version, one node after
//! the other, under load; a machine that burns and is replaced; a backup that becomes a new cluster; and an end that leaves the data.
//!
//! Machines are root directories (`support::packages`) on one network, so nodes differ in their ports, which three hosts need not; the service manager is a socket. Both versions
//! carry the same program, since there is one of it: what two programs say to each other is not tried here.

use crate::support::check::{Case, Received, receive};
use crate::support::exporter::Exporter;
use crate::support::gate::{Gate, Samples};
use crate::support::kafka::Kafka;
use crate::support::manager::Manager;
use crate::support::packages::{Root, VERSIONS, rpm};
use crate::support::pair::settle;
use crate::support::peers::{Peer, need};
use crate::support::process::{Scratch, eventually, free_port, let_pass, now_ms};
use crate::support::prometheus::{Prometheus, Replica};
use crate::support::sluice::Sluice;
use crate::support::trio::{Member, NAMES};
use std::net::SocketAddr;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const CONFIG: &str = "/etc/sluice/sluice.yaml";
const BUNDLE: &str = "/srv/sluice-join.bundle";
const WATCHDOG: Duration = Duration::from_secs(60);
/// Seconds between scrapes.
const INTERVAL: u32 = 1;

struct Host {
    machine: Root,
    member: Member,
    manager: Manager,
}

/// Three machines with the first version installed and the same file on each, but for where a node listens.
fn three_hosts(scratch: &Scratch, kafka: &Kafka, topic: &str) -> Vec<Host> {
    let peers: Vec<u16> = NAMES.iter().map(|_| free_port()).collect();
    let nodes: Vec<String> = NAMES.iter().zip(&peers).map(|(name, port)| format!("{name}/127.0.0.1:{port}")).collect();
    let host = |(name, peer): (&'static str, &u16)| {
        let machine = Root::new(scratch, &format!("machine-{name}"));
        machine.rpm(&["-i", &rpm(VERSIONS[0]).display().to_string()]);
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let config = format!(
            "own_metrics: false\nlisten: {address}\ndata_dir: /var/lib/sluice\nshards: 3\ncluster:\n  name: {topic}\n  listen: 127.0.0.1:{peer}\n  nodes: [{}]\n  \
             slow_sync: 30s\nsinks:\n  - name: platform\n    kafka: {{ brokers: [\"{}\"], topic: {topic}, format: rows }}\n",
            nodes.join(", "),
            kafka.address()
        );
        std::fs::write(machine.outside(CONFIG), config).expect("configuration");
        let member = Member { name, sluice: Sluice::installed(name, scratch.sub(name), address, &machine) };
        Host { machine, member, manager: Manager::hidden() }
    };
    NAMES.into_iter().zip(&peers).map(host).collect()
}

impl Host {
    /// `systemctl start sluice`.
    fn start(&mut self) {
        let before = self.manager.count("READY=1");
        self.member.sluice.launch_as_service(self.manager.path(), WATCHDOG, None);
        self.manager.wait_more("READY=1", before, SOON);
    }

    /// Root copies the bundle here and types `join`.
    fn join(&self, bundle: &[u8]) {
        std::fs::write(self.machine.outside(BUNDLE), bundle).expect("the bundle");
        self.member.must(&["cluster", "join", BUNDLE, "--config", CONFIG, "--node", self.member.name]);
    }
}

#[track_caller]
fn all_well(hosts: &mut [Host]) {
    hosts.iter_mut().for_each(|host| host.member.sluice.wait_ready(SOON));
    for host in hosts.iter() {
        eventually(SOON, "all to be well", || host.member.ask(&["cluster", "status"]).map(drop));
    }
}

/// A pair of real Prometheus that writes to the first two nodes.
struct Senders {
    gates: Vec<Gate>,
    replicas: Vec<Prometheus>,
    _exporter: Exporter,
}

impl Senders {
    fn start(scratch: &Scratch, hosts: &[Host]) -> Senders {
        let exporter = Exporter::start(4, 20);
        let (mut gates, mut replicas) = (Vec::new(), Vec::new());
        for (name, host) in ["a", "b"].into_iter().zip(hosts) {
            let gate = Gate::to(host.member.sluice.address());
            let labels = [("cluster", "shop"), ("__replica__", name)].map(|(label, value)| (label.to_owned(), value.to_owned()));
            let (write_to, targets) = (gate.address().to_string(), (0..4).collect());
            let replica = Replica { name: name.to_owned(), labels: labels.into(), interval: INTERVAL, write_to, targets };
            replicas.push(Prometheus::start(scratch, replica, &exporter, None));
            gates.push(gate);
        }
        Senders { gates, replicas, _exporter: exporter }
    }

    /// Waits until of each replica something was acknowledged that was scraped after this call.
    #[track_caller]
    fn flow(&self) {
        let now = now_ms();
        for gate in &self.gates {
            eventually(
                SOON,
                "new samples to be acknowledged",
                || if gate.newest() > now { Ok(()) } else { Err(gate.newest().to_string()) },
            );
        }
    }

    /// They end, and Kafka holds what was acknowledged, once.
    #[track_caller]
    fn finish(mut self, kafka: &Kafka, topic: &str) {
        self.replicas.iter_mut().for_each(Prometheus::stop);
        let acknowledged: Vec<Samples> = self.gates.iter().map(Gate::acknowledged).collect();
        let offered: Vec<Samples> = self.gates.iter().map(Gate::offered).collect();
        for gate in &self.gates {
            assert_eq!(gate.refusals(), Vec::<String>::new(), "refused for good");
        }
        let case = Case { interval: i64::from(INTERVAL) * 1000, acknowledged: &acknowledged, offered: &offered };
        let (reader, mut received) = (kafka.reader(topic), Received::new());
        let seen = eventually(Duration::from_secs(100), "Kafka to hold what was acknowledged", || {
            receive(&mut received, &reader.drain());
            case.check(&received)
        });
        settle(&reader, &mut received, &case);
        eprintln!("the way of an operator: {seen:?}");
    }
}

/// The next version, one node after the other: installing it leaves the node running; then it is drained, restarted, and well before the next one is touched.
#[track_caller]
fn upgrade(hosts: &mut [Host], senders: &Senders, version: &str) {
    for number in 0..hosts.len() {
        let host = &mut hosts[number];
        let (pid, said) = (host.member.sluice.process_ref().pid(), host.manager.count("STOPPING=1"));
        host.machine.rpm(&["-U", "--oldpackage", &rpm(version).display().to_string()]);
        senders.flow();
        let host = &mut hosts[number];
        assert!(
            host.member.sluice.process().ended().is_none() && host.member.sluice.process_ref().pid() == pid,
            "no script touches a running node"
        );
        assert_eq!(host.manager.count("STOPPING=1"), said);
        eventually(SOON, "it to be safe to stop", || host.member.ask(&["cluster", "safe-to-stop"]).map(drop));
        host.member.must(&["cluster", "drain"]);
        host.member.sluice.stop();
        host.start();
        all_well(hosts);
        senders.flow();
        assert!(hosts[number].machine.rpm(&["-q", "sluice"]).contains(version));
    }
}

#[test]
fn from_three_packages_through_upgrade_replacement_and_restoration_to_the_end() {
    if !need(&[Peer::Packages, Peer::Kafka, Peer::Prometheus]) {
        return;
    }
    let kafka = Kafka::shared();
    let topic = format!("operator-{}", fastrand::u32(..));
    kafka.create_topic(&topic, 4);
    let scratch = Scratch::new("operator");
    let mut hosts = three_hosts(&scratch, &kafka, &topic);

    // Founding. Root types; the service runs as sluice.
    hosts[0].member.must(&["cluster", "prepare", "--config", CONFIG, "--bundle", BUNDLE]);
    let bundle = std::fs::read(hosts[0].machine.outside(BUNDLE)).expect("the bundle");
    hosts.iter().for_each(|host| host.join(&bundle));
    assert_eq!(hosts[1].machine.owner("/var/lib/sluice/cluster/node.key"), "600 sluice:sluice");
    hosts.iter_mut().for_each(Host::start);
    hosts.iter().for_each(|host| assert!(host.manager.count("STATUS=waits: this node belongs to no cluster yet") > 0));
    eventually(SOON, "the cluster to be founded", || hosts[0].member.ask(&["cluster", "init"]).map(drop));
    all_well(&mut hosts);

    // Samples of a pair, in Kafka.
    let senders = Senders::start(&scratch, &hosts);
    senders.flow();
    eventually(SOON, "rows in Kafka", || if kafka.reader(&topic).drain().is_empty() { Err("none".to_owned()) } else { Ok(()) });
    let_pass(Duration::from_secs(3));

    // The next version, and nothing is lost.
    upgrade(&mut hosts, &senders, VERSIONS[1]);

    // A backup, kept elsewhere; then a machine burns and is replaced.
    hosts[1].member.must(&["cluster", "backup", "kept"]);
    let kept = hosts[1].machine.outside("/var/lib/sluice/backups/kept");
    let copied = |to: &Root| {
        let into = to.outside("/srv");
        let done = std::process::Command::new("cp").args(["-r".as_ref(), kept.as_os_str(), into.as_os_str()]).status();
        assert!(done.expect("cp").success());
    };
    hosts[2].member.sluice.kill();
    hosts[2].machine.must(&["sh", "-c", "rm -r /var/lib/sluice/*"]);
    hosts[2].join(&bundle);
    hosts[2].start();
    eventually(SOON, "it to be replaced", || hosts[0].member.ask(&["cluster", "replace", NAMES[2]]).map(drop));
    all_well(&mut hosts);
    senders.flow();
    senders.finish(&kafka, &topic);

    // The end of two: erased, with their data left.
    let old = hosts[0].member.json("/api/v1/cluster").unwrap()["id"].clone();
    hosts.iter_mut().for_each(|host| host.member.sluice.stop());
    for host in &hosts[1..] {
        host.machine.rpm(&["-e", "sluice"]);
        assert!(
            !host.machine.has("/usr/bin/sluice")
                && host.machine.has("/var/lib/sluice/db/CURRENT")
                && host.machine.has("/etc/sluice/sluice.yaml.rpmsave")
        );
    }

    // The first one begins anew with the backup: a cluster of its own, that knows the group.
    let first = &mut hosts[0];
    copied(&first.machine);
    first.machine.must(&["sh", "-c", "rm -r /var/lib/sluice/*"]);
    first.join(&bundle);
    let restored = first.member.must(&["cluster", "restore", "/srv/kept", "--config", CONFIG]);
    assert!(restored.contains("a cluster of its own"), "{restored}");
    first.start();
    first.member.sluice.wait_ready(SOON);
    let new = first.member.json("/api/v1/cluster").unwrap()["id"].clone();
    assert!(new.is_string() && new != old, "{old} {new}");
    eventually(SOON, "the group to be known", || {
        let groups = first.member.json("/api/v1/groups")?;
        if groups["groups"].to_string().contains("shop") { Ok(()) } else { Err(groups.to_string()) }
    });
    first.member.sluice.stop();
}

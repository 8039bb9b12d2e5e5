//! Three nodes on loopback, made one cluster with the commands that an operator types.

use super::disk::SmallDisk;
use super::faults::{Faults, home};
use super::http::{Client, Http};
use super::process::{Scratch, eventually, free_port, let_pass};
use super::sluice::Sluice;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// The nodes' names.
pub const NAMES: [&str; 3] = ["n1", "n2", "n3"];
/// YAML of a sink that reaches nobody, for tests of the door only.
pub const NOWHERE: &str = "sinks:\n  - name: nowhere\n    kafka: { brokers: [\"127.0.0.1:9\"], topic: t, format: rows }\n";

pub struct Member {
    pub name: &'static str,
    pub sluice: Sluice,
}

pub struct Trio {
    dir: PathBuf,
    peers: Vec<SocketAddr>,
    faults: Option<Faults>,
    pub nodes: Vec<Member>,
}

/// What a trio is made of, beside what every one is.
#[derive(Default)]
pub struct Shape<'a> {
    /// YAML of the sinks.
    pub sinks: &'a str,
    /// YAML for `cluster:`.
    pub more: &'a str,
    /// Whether what the nodes say to each other goes through [`Faults`].
    pub faults: bool,
    /// Where a node's data is, if not beside its configuration.
    pub disks: [Option<&'a SmallDisk>; 3],
    /// Where the nodes take requests, if not each at a port of its own.
    pub doors: Option<[SocketAddr; 3]>,
}

impl Trio {
    /// Writes three files that differ only in addresses and paths: on three hosts they would be one file.
    pub fn prepare(scratch: &Scratch, sinks: &str) -> Trio {
        Trio::prepare_with(scratch, sinks, "")
    }

    /// The same with more in `cluster:`.
    pub fn prepare_with(scratch: &Scratch, sinks: &str, more: &str) -> Trio {
        Trio::prepare_as(scratch, &Shape { sinks, more, ..Shape::default() })
    }

    /// The same of any shape.
    pub fn prepare_as(scratch: &Scratch, shape: &Shape<'_>) -> Trio {
        let dir = scratch.sub("trio");
        let ports: Vec<u16> = NAMES.iter().map(|_| free_port()).collect();
        let faults = shape.faults.then(|| Faults::between(&ports));
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let peers = ports.iter().enumerate().map(|(node, port)| SocketAddr::new(if shape.faults { home(node) } else { loopback }, *port));
        let peers: Vec<SocketAddr> = peers.collect();
        let reached = |node: usize| faults.as_ref().map_or(peers[node], |faults| faults.address(node));
        let list: Vec<String> = NAMES.iter().enumerate().map(|(node, name)| format!("{name}/{}", reached(node))).collect();
        let (cluster, more, sinks) = (format!("trio-{}-{}", ports[0], fastrand::u32(..)), shape.more, shape.sinks);
        let member = |(node, name): (usize, &'static str)| {
            let dir = scratch.sub(name);
            let door = shape.doors.map_or_else(|| SocketAddr::new(loopback, free_port()), |doors| doors[node]);
            let data = shape.disks[node].map_or_else(|| dir.join("data"), |disk| disk.mount().join("data"));
            // Tests run beside each other on machines whose disks do take a second.
            let text = format!(
                "listen: {door}\ndata_dir: {}\nshards: 3\ncluster:\n  name: {cluster}\n  listen: {}\n  nodes: [{}]\n  slow_sync: 30s\n{more}{sinks}",
                data.display(),
                peers[node],
                list.join(", ")
            );
            Member { name, sluice: Sluice::prepare_as(name, dir, door, &text, shape.disks[node]) }
        };
        let nodes = NAMES.into_iter().enumerate().map(member).collect();
        Trio { dir, nodes, peers, faults }
    }

    /// `prepare` once, `join` on each.
    #[track_caller]
    pub fn join(&self) {
        self.nodes[0].must(&["cluster", "prepare", "--bundle", &self.bundle(), "--config", &self.nodes[0].sluice.config()]);
        for node in &self.nodes {
            node.must(&["cluster", "join", &self.bundle(), "--config", &node.sluice.config(), "--node", node.name]);
        }
    }

    /// Where a node listens for the others.
    pub fn peer_address(&self, node: usize) -> SocketAddr {
        self.peers[node]
    }

    /// The network between the nodes, where the trio's shape has one.
    pub fn faults(&self) -> &Faults {
        self.faults.as_ref().expect("a shape with faults")
    }

    pub fn bundle(&self) -> String {
        self.dir.join("join.bundle").display().to_string()
    }

    /// All three, from nothing to ready.
    #[track_caller]
    pub fn up(scratch: &Scratch, sinks: &str) -> Trio {
        Trio::up_with(scratch, sinks, "")
    }

    /// The same with more in `cluster:`.
    #[track_caller]
    pub fn up_with(scratch: &Scratch, sinks: &str, more: &str) -> Trio {
        Trio::up_as(scratch, &Shape { sinks, more, ..Shape::default() })
    }

    /// The same of any shape.
    #[track_caller]
    pub fn up_as(scratch: &Scratch, shape: &Shape<'_>) -> Trio {
        let mut trio = Trio::prepare_as(scratch, shape);
        trio.join();
        trio.nodes.iter_mut().for_each(|node| node.sluice.launch());
        trio.init();
        trio.nodes.iter_mut().for_each(|node| node.sluice.wait_ready(Duration::from_secs(60)));
        trio
    }

    /// `init`, as soon as nothing is in its way.
    #[track_caller]
    pub fn init(&self) {
        eventually(Duration::from_secs(60), "the cluster to be founded", || self.nodes[0].ask(&["cluster", "init"]).map(drop));
    }

    /// The node that leads a group's shard, asked of a node.
    pub fn leader_of(&self, group: &str, asked: usize) -> Result<usize, String> {
        let groups = self.nodes[asked].json("/api/v1/groups")?;
        let named = |one: &&serde_json::Value| one["name"].as_str().is_some_and(|name| name == group);
        let shard = groups["groups"].as_array().into_iter().flatten().find(named).map(|one| one["shard"].clone()).ok_or("no such group")?;
        let view = self.nodes[asked].json("/api/v1/cluster")?;
        let found = view["shards"].as_array().into_iter().flatten().find(|one| one["shard"] == shard).ok_or("no such shard")?;
        NAMES.iter().position(|name| found["leader"] == **name).ok_or_else(|| "no leader".to_owned())
    }

    /// The leader of this group's shard dies so many times under load, and comes back, every second time when another one has taken over for good. A node in turn is asked who leads.
    #[track_caller]
    pub fn kill_leaders(&mut self, group: &str, kills: usize) {
        for kill in 0..kills {
            let leader = eventually(Duration::from_secs(60), "a leader", || self.leader_of(group, kill % 3));
            let_pass(Duration::from_millis(500 + fastrand::u64(0..1500)));
            self.nodes[leader].sluice.kill();
            if kill % 2 == 0 {
                let_pass(Duration::from_secs(3));
            }
            self.nodes[leader].sluice.up();
            self.wait_well();
        }
    }

    /// Every node says that all is well.
    #[track_caller]
    pub fn wait_well(&self) {
        for node in &self.nodes {
            eventually(Duration::from_secs(60), "all to be well", || node.ask(&["cluster", "status"]).map(drop));
        }
    }
}

impl Member {
    pub fn get(&self, path: &str) -> Result<Http, String> {
        Client::new(self.sluice.address()).call("GET", path).map_err(|error| error.to_string())
    }

    pub fn post(&self, path: &str) -> Result<Http, String> {
        Client::new(self.sluice.address()).call("POST", path).map_err(|error| error.to_string())
    }

    pub fn json(&self, path: &str) -> Result<serde_json::Value, String> {
        let answer = self.get(path)?;
        serde_json::from_slice(&answer.body).map_err(|error| format!("{error}: {}", answer.text()))
    }

    pub fn write(&self, body: Vec<u8>) -> Result<Http, String> {
        self.sluice.write(body).map_err(|error| error.to_string())
    }

    /// Runs a verb and gives what came of it.
    pub fn run(&self, args: &[&str]) -> Output {
        self.verb(args).output().expect("the binary")
    }

    /// The same, and it dies at a place of `src/failpoint.rs`.
    pub fn run_armed(&self, place: &str, args: &[&str]) -> Output {
        self.verb(args).env("SLUICE_FAILPOINT", place).output().expect("the binary")
    }

    fn verb(&self, args: &[&str]) -> Command {
        let server = format!("http://{}", self.sluice.address());
        let mut line = self.sluice.verb();
        let mut command = Command::new(line.remove(0));
        command.args(line).args(args).env("SLUICE_SERVER", server).env("SLUICE_DATA_DIR", self.sluice.data());
        command
    }

    /// What it printed; an error is what it complained of.
    pub fn ask(&self, args: &[&str]) -> Result<String, String> {
        let output = self.run(args);
        let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(out) } else { Err(format!("{}: {out}{err}", output.status)) }
    }

    #[track_caller]
    pub fn must(&self, args: &[&str]) -> String {
        self.ask(args).unwrap_or_else(|error| panic!("sluice {args:?} ended with {error}"))
    }
}

/// Whether only its owner can read a file.
pub fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 == 0)
}

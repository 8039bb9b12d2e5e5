//! Three nodes on loopback, made one cluster with the commands that an operator types.

use super::http::{Client, Http};
use super::process::{Process, Scratch, eventually, free_port};
use super::sluice::{BINARY, write_request};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

/// The nodes' names.
pub const NAMES: [&str; 3] = ["n1", "n2", "n3"];

pub struct Member {
    pub name: &'static str,
    dir: PathBuf,
    port: u16,
    process: Option<Process>,
}

pub struct Trio {
    dir: PathBuf,
    pub nodes: Vec<Member>,
}

impl Trio {
    /// Writes three files that differ only in addresses and paths: on three hosts they would be one file.
    pub fn prepare(scratch: &Scratch, sinks: &str) -> Trio {
        let dir = scratch.sub("trio");
        let peers: Vec<u16> = NAMES.iter().map(|_| free_port()).collect();
        let list: Vec<String> = NAMES.iter().zip(&peers).map(|(name, port)| format!("{name}/127.0.0.1:{port}")).collect();
        let cluster = format!("trio-{}-{}", peers[0], fastrand::u32(..));
        let node = |(name, peer): (&'static str, &u16)| {
            let (dir, port) = (scratch.sub(name), free_port());
            let text = format!(
                "listen: 127.0.0.1:{port}\ndata_dir: {}\nshards: 3\ncluster:\n  name: {cluster}\n  listen: 127.0.0.1:{peer}\n  nodes: [{}]\n{sinks}",
                dir.join("data").display(),
                list.join(", ")
            );
            std::fs::write(dir.join("sluice.yaml"), text).expect("configuration");
            Member { name, dir, port, process: None }
        };
        Trio { dir, nodes: NAMES.into_iter().zip(&peers).map(node).collect() }
    }

    /// `prepare` once, `join` on each.
    #[track_caller]
    pub fn join(&self) {
        self.nodes[0].must(&["cluster", "prepare", "--bundle", &self.bundle(), "--config", &self.nodes[0].config()]);
        for node in &self.nodes {
            node.must(&["cluster", "join", &self.bundle(), "--config", &node.config(), "--node", node.name]);
        }
    }

    pub fn bundle(&self) -> String {
        self.dir.join("join.bundle").display().to_string()
    }

    /// All three, from nothing to ready.
    #[track_caller]
    pub fn up(scratch: &Scratch, sinks: &str) -> Trio {
        let mut trio = Trio::prepare(scratch, sinks);
        trio.join();
        trio.nodes.iter_mut().for_each(Member::launch);
        trio.init();
        trio.nodes.iter_mut().for_each(|node| node.wait_ready(Duration::from_secs(60)));
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

    /// Every node says that all is well.
    #[track_caller]
    pub fn wait_well(&self) {
        for node in &self.nodes {
            eventually(Duration::from_secs(60), "all to be well", || node.ask(&["cluster", "status"]).map(drop));
        }
    }
}

impl Member {
    pub fn config(&self) -> String {
        self.dir.join("sluice.yaml").display().to_string()
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    pub fn launch(&mut self) {
        let args = ["run", "--config", &self.config()].map(str::to_owned);
        self.process = Some(Process::start(self.name, BINARY, &args, &self.dir, &self.log()));
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it runs")
    }

    #[track_caller]
    pub fn wait_ready(&mut self, deadline: Duration) {
        let (mut client, name) = (Client::new(self.address()), self.name);
        let process = self.process.as_mut().expect("launched");
        eventually(deadline, &format!("{name} to be ready"), || {
            assert!(process.ended().is_none(), "{name} ended instead of becoming ready:\n{}", process.log_tail(3000));
            let answer = client.call("GET", "/-/ready").map_err(|error| error.to_string())?;
            if answer.status() == 200 { Ok(()) } else { Err(answer.text()) }
        });
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// SIGTERM: it must end in order and say so.
    #[track_caller]
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        let status = process.terminate(Duration::from_secs(60));
        assert!(status.success(), "after SIGTERM {} ended with {status}:\n{}", self.name, process.log_tail(3000));
    }

    pub fn get(&self, path: &str) -> Result<Http, String> {
        Client::new(self.address()).call("GET", path).map_err(|error| error.to_string())
    }

    pub fn json(&self, path: &str) -> Result<serde_json::Value, String> {
        let answer = self.get(path)?;
        serde_json::from_slice(&answer.body).map_err(|error| format!("{error}: {}", answer.text()))
    }

    pub fn write(&self, body: Vec<u8>) -> Result<Http, String> {
        Client::new(self.address()).send(&write_request(body)).map_err(|error| error.to_string())
    }

    /// Runs a verb and gives what came of it.
    pub fn run(&self, args: &[&str]) -> Output {
        let server = format!("http://{}", self.address());
        std::process::Command::new(BINARY).args(args).env("SLUICE_SERVER", server).current_dir(&self.dir).output().expect("the binary")
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

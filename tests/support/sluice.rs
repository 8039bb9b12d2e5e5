//! The binary under test: its configuration, its start, its deaths, its answers.

use super::disk::SmallDisk;
use super::http::{Client, Http};
use super::packages::Root;
use super::process::{Process, Scratch, eventually, free_port};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The binary that cargo built for these tests.
pub const BINARY: &str = env!("CARGO_BIN_EXE_sluice");

pub struct Sluice {
    /// For messages, where there are several.
    name: &'static str,
    dir: PathBuf,
    config: PathBuf,
    data: PathBuf,
    address: SocketAddr,
    program: String,
    enter: Vec<String>,
    /// The same for verbs, which root types where packages are installed.
    enter_for_verbs: Vec<String>,
    process: Option<Process>,
}

/// Tests count samples: its own metrics go through the sinks only where a test is about them.
fn quiet(text: &str) -> String {
    if text.contains("own_metrics:") { text.to_owned() } else { format!("own_metrics: false\n{text}") }
}

impl Sluice {
    /// Starts one with a Kafka sink, and waits until it is ready. `more` is YAML for the end of its configuration.
    pub fn start(scratch: &Scratch, brokers: &str, topic: &str, more: &str) -> Sluice {
        let mut sluice = Sluice::prepare(scratch, brokers, topic, more, None);
        sluice.up();
        sluice
    }

    /// The same with its data on a small disk.
    pub fn on_small_disk(scratch: &Scratch, disk: &SmallDisk, brokers: &str, topic: &str, more: &str) -> Sluice {
        let mut sluice = Sluice::prepare(scratch, brokers, topic, more, Some(disk));
        sluice.up();
        sluice
    }

    /// Writes its configuration and does not start it.
    pub fn prepare(scratch: &Scratch, brokers: &str, topic: &str, more: &str, disk: Option<&SmallDisk>) -> Sluice {
        // Scenarios share a broker, and clusters of one name would fence each other's producers.
        let name = format!("test-{}-{}", std::process::id(), fastrand::u32(..));
        let sinks = format!("  - name: platform\n    kafka: {{ brokers: [\"{brokers}\"], topic: {topic}, format: rows }}\n{more}");
        Sluice::prepare_with(scratch, &name, &sinks, disk)
    }

    /// Writes a configuration with these sinks (YAML, and what shall stand after it).
    pub fn prepare_with(scratch: &Scratch, name: &str, sinks: &str, disk: Option<&SmallDisk>) -> Sluice {
        let dir = scratch.sub("sluice");
        let port = free_port();
        let data = disk.map_or_else(|| dir.join("data"), |disk| disk.mount().join("data"));
        let config = dir.join("sluice.yaml");
        let text = quiet(&format!("name: {name}\nlisten: 127.0.0.1:{port}\ndata_dir: {}\nsinks:\n{sinks}", data.display()));
        std::fs::write(&config, text).expect("configuration");
        let enter = disk.map(SmallDisk::enter).unwrap_or_default();
        let (address, program) = (SocketAddr::from(([127, 0, 0, 1], port)), BINARY.to_owned());
        Sluice { name: "sluice", dir, config, data, address, program, enter_for_verbs: enter.clone(), enter, process: None }
    }

    /// One of several, with a configuration that says where it listens; its data beside it, or on a disk of its own.
    pub fn prepare_as(name: &'static str, dir: PathBuf, address: SocketAddr, text: &str, disk: Option<&SmallDisk>) -> Sluice {
        let (config, data) = (dir.join("sluice.yaml"), disk.map_or_else(|| dir.join("data"), |disk| disk.mount().join("data")));
        std::fs::write(&config, quiet(text)).expect("configuration");
        let enter = disk.map(SmallDisk::enter).unwrap_or_default();
        let program = BINARY.to_owned();
        Sluice { name, dir, config, data, address, program, enter_for_verbs: enter.clone(), enter, process: None }
    }

    /// One that was installed from a package, where the package puts it.
    pub fn installed(name: &'static str, dir: PathBuf, address: SocketAddr, machine: &Root) -> Sluice {
        let [config, data] = ["/etc/sluice/sluice.yaml", "/var/lib/sluice"].map(PathBuf::from);
        let (program, enter, enter_for_verbs) = ("/usr/bin/sluice".to_owned(), machine.enter_as_sluice(), machine.enter());
        Sluice { name, dir, config, data, address, program, enter, enter_for_verbs, process: None }
    }

    /// Starts it (again) on its data, and waits until it is ready.
    pub fn up(&mut self) {
        self.launch();
        self.wait_ready(Duration::from_secs(60));
    }

    /// Starts it and does not wait.
    pub fn launch(&mut self) {
        self.launch_with(&[]);
    }

    /// Starts it so that it dies at a place of `src/failpoint.rs`, and does not wait.
    pub fn launch_armed(&mut self, place: &str) {
        self.launch_with(&["env".to_owned(), format!("SLUICE_FAILPOINT={place}")]);
    }

    /// Starts it as a service manager that listens there would, and does not wait; `place` is one of `src/failpoint.rs`.
    pub fn launch_as_service(&mut self, socket: &Path, watchdog: Duration, place: Option<&str>) {
        let socket = format!("NOTIFY_SOCKET={}", socket.display());
        let place = place.map(|place| format!("SLUICE_FAILPOINT={place}"));
        // Its log stands for the journal's stream.
        let log = std::fs::File::options().create(true).append(true).open(self.log()).and_then(|file| file.metadata()).expect("its log");
        let journal = format!("JOURNAL_STREAM={}:{}", log.dev(), log.ino());
        let before = ["env".to_owned(), socket, journal, format!("WATCHDOG_USEC={}", watchdog.as_micros())];
        self.launch_with(&before.into_iter().chain(place).collect::<Vec<_>>());
    }

    /// The same, with the names of all system calls that it makes in a file when it has ended.
    pub fn launch_traced(&mut self, socket: &Path, calls: &Path) {
        let socket = format!("NOTIFY_SOCKET={}", socket.display());
        // `-D`: strace is the child, and the process is ours to signal.
        let before =
            ["env", &socket, "strace", "-D", "-f", "-qq", "-c", "-U", "name", "-o", &calls.display().to_string()].map(str::to_owned);
        self.launch_with(&before);
    }

    /// Starts it with a wall clock that is so far off (`+10s`), and does not wait.
    pub fn launch_at(&mut self, off: &str) {
        // `faketime` itself would stand between us and the process that is to be signalled; where its library is, it knows best.
        let asked = std::process::Command::new("faketime").args(["-f", off, "printenv", "LD_PRELOAD"]).output().expect("faketime");
        let library = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
        let variables = [format!("LD_PRELOAD={library}"), format!("FAKETIME={off}"), "DONT_FAKE_MONOTONIC=1".to_owned()];
        self.launch_with(&["env".to_owned()].into_iter().chain(variables).collect::<Vec<_>>());
    }

    fn launch_with(&mut self, before: &[String]) {
        let run = [&*self.program, "run", "--config", &self.config.display().to_string()].map(str::to_owned);
        let mut line: Vec<String> = self.enter.iter().chain(before).cloned().chain(run).collect();
        let program = line.remove(0);
        self.process = Some(Process::start(self.name, &program, &line, &self.dir, &self.log()));
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

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn config(&self) -> String {
        self.config.display().to_string()
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A verb's first words, where its data are.
    pub fn verb(&self) -> Vec<String> {
        self.enter_for_verbs.iter().cloned().chain([self.program.clone()]).collect()
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// To be signalled.
    pub fn process_ref(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it runs")
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

    /// Waits until it has ended by itself and gives its log's end.
    pub fn wait_death(&mut self, deadline: Duration) -> (std::process::ExitStatus, String) {
        let mut process = self.process.take().expect("it was launched");
        let status = process.wait_end(deadline);
        (status, process.log_tail(8000))
    }

    /// Calls its API.
    #[track_caller]
    pub fn get(&self, path: &str) -> Http {
        Client::new(self.address()).call("GET", path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// The same with POST.
    #[track_caller]
    pub fn post(&self, path: &str) -> Http {
        Client::new(self.address()).call("POST", path).unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// The sum of a metric over all its label sets whose text holds `labels`.
    pub fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = self.get("/metrics").text();
        let lines =
            text.lines().filter(|line| line.starts_with(name) && line[name.len()..].starts_with(['{', ' ']) && line.contains(labels));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Runs a verb of the command line against it and gives what it printed.
    #[track_caller]
    pub fn ask(&self, args: &[&str]) -> String {
        let output = std::process::Command::new(BINARY)
            .args(args)
            .env("SLUICE_SERVER", format!("http://{}", self.address()))
            .env("SLUICE_DATA_DIR", &self.data)
            .output()
            .expect("the binary");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "sluice {args:?} ended with {}: {out}{err}", output.status);
        out.into_owned()
    }

    /// Posts a packed 1.0 request.
    pub fn write(&self, body: Vec<u8>) -> std::io::Result<Http> {
        Client::new(self.address()).send(&write_request(body))
    }
}

/// A 1.0 request as Prometheus sends it.
pub fn write_request(body: Vec<u8>) -> Http {
    let headers = [
        ("Host", "sluice"),
        ("User-Agent", "Prometheus/2.42.0"),
        ("Content-Encoding", "snappy"),
        ("Content-Type", "application/x-protobuf"),
        ("X-Prometheus-Remote-Write-Version", "0.1.0"),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Http { first: "POST /api/v1/write HTTP/1.1".to_owned(), headers, body }
}

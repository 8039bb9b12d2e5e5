//! Real Prometheus servers and the node exporter of the machine's packages, with configurations and directories of their own.

use super::disk::SmallDisk;
use super::exporter::Exporter;
use super::gate::Samples;
use super::http::Client;
use super::names::Names;
use super::peers::{NODE_EXPORTERS, on_path};
use super::process::{Process, Scratch, eventually, free_port};
use super::series::{Series, Value, series_name};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What a replica is and where it writes.
#[derive(Clone)]
pub struct Replica {
    /// Its name, and the value that our exporter knows it by.
    pub name: String,
    /// External labels, the replica's included.
    pub labels: Vec<(String, String)>,
    /// Seconds between scrapes.
    pub interval: u32,
    /// Host and port of the remote-write receiver.
    pub write_to: String,
    /// Numbers of our exporter's targets that it scrapes.
    pub targets: Vec<usize>,
}

pub struct Prometheus {
    name: String,
    /// External labels.
    labels: Vec<(String, String)>,
    dir: PathBuf,
    port: u16,
    before: Vec<String>,
    process: Option<Process>,
}

impl Prometheus {
    /// Starts it and waits until it is ready.
    pub fn start(scratch: &Scratch, replica: Replica, exporter: &Exporter, node: Option<&NodeExporter>) -> Prometheus {
        Prometheus::begin(scratch, (&replica.name, &replica.labels), &configuration(&replica, exporter, node), Vec::new())
    }

    /// The same where names mean what these say.
    pub fn start_among(scratch: &Scratch, replica: Replica, exporter: &Exporter, names: &Names) -> Prometheus {
        Prometheus::begin(scratch, (&replica.name, &replica.labels), &configuration(&replica, exporter, None), names.enter())
    }

    /// Starts one with this configuration and waits until it is ready.
    pub fn start_as(scratch: &Scratch, name: &str, configuration: &str) -> Prometheus {
        Prometheus::begin(scratch, (name, &[]), configuration, Vec::new())
    }

    /// The same with its data on a small disk.
    pub fn start_on(scratch: &Scratch, name: &str, configuration: &str, disk: &SmallDisk) -> Prometheus {
        let dir = scratch.sub(&format!("prometheus-{name}"));
        std::fs::create_dir(disk.outside().join("prometheus")).expect("a directory on it");
        std::os::unix::fs::symlink(disk.mount().join("prometheus"), dir.join("data")).expect("a link to it");
        Prometheus::begin(scratch, (name, &[]), configuration, disk.enter())
    }

    fn begin(scratch: &Scratch, (name, labels): (&str, &[(String, String)]), configuration: &str, before: Vec<String>) -> Prometheus {
        let dir = scratch.sub(&format!("prometheus-{name}"));
        std::fs::write(dir.join("prometheus.yml"), configuration).expect("configuration");
        let mut prometheus = Prometheus { name: name.to_owned(), labels: labels.to_vec(), dir, port: free_port(), before, process: None };
        prometheus.up();
        prometheus
    }

    fn args(&self) -> [String; 4] {
        // Whole paths: whoever enters another mount namespace is at its root.
        [
            format!("--config.file={}", self.dir.join("prometheus.yml").display()),
            format!("--storage.tsdb.path={}", self.dir.join("data").display()),
            "--storage.remote.flush-deadline=10s".to_owned(),
            format!("--web.listen-address=127.0.0.1:{}", self.port),
        ]
    }

    /// Starts it again so that each read of its log takes so long, and does not wait.
    pub fn up_slowly(&mut self, by: Duration) -> Process {
        let delay = format!("inject=read,pread64:delay_enter={}", by.as_micros());
        let mut line = ["-f", "-qq", "-o", "/dev/null", "-e", "trace=read,pread64", "-e", &delay].map(str::to_owned).to_vec();
        let segments = std::fs::read_dir(self.dir.join("data/wal")).expect("its log").map(|entry| entry.expect("a segment").path());
        line.extend(segments.filter(|path| path.is_file()).flat_map(|path| ["-P".to_owned(), path.display().to_string()]));
        line.push("prometheus".to_owned());
        line.extend(self.args());
        Process::start(&format!("prometheus {}", self.name), "strace", &line, &self.dir, &self.dir.join("log"))
    }

    /// Starts it (again), on its old data.
    pub fn up(&mut self) {
        let args = self.args();
        let name = format!("prometheus {}", self.name);
        let mut line: Vec<String> = self.before.iter().cloned().chain(["prometheus".to_owned()]).chain(args).collect();
        let program = line.remove(0);
        let address = self.address();
        let process = self.process.insert(Process::start(&name, &program, &line, &self.dir, &self.dir.join("log")));
        let mut client = Client::new(address);
        eventually(Duration::from_secs(60), &name, || {
            assert!(process.ended().is_none(), "{name} ended instead of becoming ready");
            let answer = client.call("GET", "/-/ready").map_err(|error| error.to_string())?;
            if answer.status() == 200 { Ok(()) } else { Err(answer.text()) }
        });
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The sum of one of its own metrics.
    pub fn metric(&self, name: &str) -> f64 {
        let text = Client::new(self.address()).call("GET", "/metrics").expect("its metrics").text();
        let lines = text.lines().filter(|line| line.starts_with(name) && line[name.len()..].starts_with(['{', ' ']));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// A query at a time: series (without the name and with external labels), value.
    pub fn query(&self, expression: &str, time: i64) -> Vec<(Series, f64)> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("/api/v1/query?time={}.{:03}&query={encoded}", time / 1000, time % 1000);
        let answer = Client::new(self.address()).call("GET", &path).expect("its samples").json();
        let result = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{expression}: {answer}"));
        let value = |one: &serde_json::Value| {
            let mut labels = self.external();
            let own = one["metric"].as_object().expect("labels");
            labels.extend(own.iter().map(|(name, value)| (name.clone(), value.as_str().expect("text").to_owned())));
            (series_name(&labels), one["value"][1].as_str().expect("text").parse().expect("a number"))
        };
        result.iter().map(value).collect()
    }

    /// External labels, as sinks get them.
    fn external(&self) -> BTreeMap<String, String> {
        let mut labels: BTreeMap<String, String> = self.labels.iter().cloned().collect();
        labels.retain(|name, _| !super::series::REPLICA_LABELS.contains(&name.as_str()));
        labels
    }

    /// What it has scraped of our exporter within the last minutes, stale markers apart, as it is sent.
    pub fn scraped(&self) -> Samples {
        let path = "/api/v1/query?query=%7Bjob%3D%22demo%22%7D%5B20m%5D";
        let answer = Client::new(self.address()).call("GET", path).expect("its samples").json();
        let mut all = Samples::new();
        for one in answer["data"]["result"].as_array().expect("a matrix") {
            let mut labels = self.external();
            let own = one["metric"].as_object().expect("labels");
            labels.extend(own.iter().map(|(name, value)| (name.clone(), value.as_str().expect("text").to_owned())));
            let sample = |pair: &serde_json::Value| {
                let (time, value) = (pair[0].as_f64().expect("seconds"), pair[1].as_str().expect("text").parse().expect("a number"));
                ((time * 1000.0).round() as i64, Value::of(value))
            };
            let samples = one["values"].as_array().expect("samples").iter().map(sample);
            all.entry(series_name(&labels)).or_default().extend(samples);
        }
        all
    }

    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// SIGTERM: it sends what it has, then ends.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.terminate(Duration::from_secs(60));
        }
    }
}

/// A scrape each `interval`, whatever is scraped sent within a second of it.
fn configuration(replica: &Replica, exporter: &Exporter, node: Option<&NodeExporter>) -> String {
    let labels: Vec<String> = replica.labels.iter().map(|(name, value)| format!("    {name}: {value:?}\n")).collect();
    let mut text = format!(
        "global:\n  scrape_interval: {0}s\n  scrape_timeout: {0}s\n  external_labels:\n{1}remote_write:\n- url: http://{2}/api/v1/write\n  \
         remote_timeout: 5s\n  queue_config: {{ batch_send_deadline: 500ms, max_backoff: 1s, max_shards: 4 }}\nscrape_configs:\n",
        replica.interval,
        labels.concat(),
        replica.write_to
    );
    if let Some(node) = node {
        text.push_str(&format!("- job_name: node\n  static_configs: [{{ targets: ['{}'] }}]\n", node.address));
    }
    text.push_str(&format!("- job_name: demo\n  params: {{ replica: [{:?}] }}\n  static_configs:\n", replica.name));
    for target in &replica.targets {
        text.push_str(&format!(
            "  - {{ targets: ['{}'], labels: {{ __metrics_path__: /t/{target}, instance: t{target} }} }}\n",
            exporter.address()
        ));
    }
    text
}

/// The machine's node exporter.
pub struct NodeExporter {
    address: SocketAddr,
    _process: Process,
}

impl NodeExporter {
    pub fn start(scratch: &Scratch) -> NodeExporter {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let program = NODE_EXPORTERS.into_iter().find(|name| on_path(name)).expect("need(NodeExporter) was asked");
        let process = Process::start(
            "node exporter",
            program,
            &[format!("--web.listen-address={address}"), "--log.level=error".to_owned(), "--no-collector.systemd".to_owned()],
            scratch.path(),
            &scratch.join("node.log"),
        );
        let mut client = Client::new(address);
        eventually(Duration::from_secs(20), "the node exporter", || client.call("GET", "/").map(drop).map_err(|error| error.to_string()));
        NodeExporter { address, _process: process }
    }
}

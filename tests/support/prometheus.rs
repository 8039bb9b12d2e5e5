//! Real Prometheus servers and the node exporter of the machine's packages, with configurations and directories of their own.

use super::exporter::Exporter;
use super::http::Client;
use super::peers::{NODE_EXPORTERS, on_path};
use super::process::{Process, Scratch, eventually, free_port};
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
    /// Address of the remote-write receiver.
    pub write_to: SocketAddr,
    /// Numbers of our exporter's targets that it scrapes.
    pub targets: Vec<usize>,
}

pub struct Prometheus {
    name: String,
    dir: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Prometheus {
    /// Starts it and waits until it is ready.
    pub fn start(scratch: &Scratch, replica: Replica, exporter: &Exporter, node: Option<&NodeExporter>) -> Prometheus {
        Prometheus::start_as(scratch, &replica.name, &configuration(&replica, exporter, node))
    }

    /// Starts one with this configuration and waits until it is ready.
    pub fn start_as(scratch: &Scratch, name: &str, configuration: &str) -> Prometheus {
        let dir = scratch.sub(&format!("prometheus-{name}"));
        std::fs::write(dir.join("prometheus.yml"), configuration).expect("configuration");
        let mut prometheus = Prometheus { name: name.to_owned(), dir, port: free_port(), process: None };
        prometheus.up();
        prometheus
    }

    /// Starts it (again), on its old data.
    pub fn up(&mut self) {
        let args = [
            "--config.file=prometheus.yml".to_owned(),
            "--storage.tsdb.path=data".to_owned(),
            "--storage.remote.flush-deadline=10s".to_owned(),
            format!("--web.listen-address=127.0.0.1:{}", self.port),
        ];
        let name = format!("prometheus {}", self.name);
        let process = self.process.insert(Process::start(&name, "prometheus", &args, &self.dir, &self.dir.join("log")));
        let mut client = Client::new(SocketAddr::from(([127, 0, 0, 1], self.port)));
        eventually(Duration::from_secs(60), &name, || {
            assert!(process.ended().is_none(), "{name} ended instead of becoming ready");
            let answer = client.call("GET", "/-/ready").map_err(|error| error.to_string())?;
            if answer.status() == 200 { Ok(()) } else { Err(answer.text()) }
        });
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

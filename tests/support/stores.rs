//! Stores that take remote write, as real programs: VictoriaMetrics, and a Prometheus that receives. Read back by their own interfaces, decoded here.

use super::gate::{Samples, note};
use super::http::{Client, Http};
use super::process::{Process, Scratch, eventually, free_port};
use super::prompb::{TimeSeries, read_all, read_answer};
use super::series::{Value, samples_of, series_name};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Which program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    VictoriaMetrics,
    /// It knows native histograms, and refuses what is out of order.
    Prometheus,
}

pub struct Store {
    kind: Kind,
    dir: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Store {
    /// Starts one and waits until it answers.
    pub fn start(scratch: &Scratch, kind: Kind) -> Store {
        let port = free_port();
        let dir = scratch.sub(&format!("store-{port}"));
        std::fs::write(dir.join("prometheus.yml"), "global: { scrape_interval: 1h }\n").expect("configuration");
        let mut store = Store { kind, dir, port, process: None };
        store.up();
        store
    }

    /// Starts it (again), on its old data.
    pub fn up(&mut self) {
        let (program, args) = match self.kind {
            Kind::VictoriaMetrics => (
                "victoria-metrics",
                vec![
                    "-storageDataPath=data".to_owned(),
                    // Requests of which nobody knew whether they were taken come twice.
                    "-dedup.minScrapeInterval=1ms".to_owned(),
                    "-retentionPeriod=100y".to_owned(),
                    format!("-httpListenAddr=127.0.0.1:{}", self.port),
                ],
            ),
            Kind::Prometheus => (
                "prometheus",
                vec![
                    "--config.file=prometheus.yml".to_owned(),
                    "--storage.tsdb.path=data".to_owned(),
                    "--storage.tsdb.retention.time=100y".to_owned(),
                    "--web.enable-remote-write-receiver".to_owned(),
                    "--enable-feature=native-histograms,exemplar-storage".to_owned(),
                    format!("--web.listen-address=127.0.0.1:{}", self.port),
                ],
            ),
        };
        let name = format!("store {program}");
        let process = self.process.insert(Process::start(&name, program, &args, &self.dir, &self.dir.join("log")));
        let path = if self.kind == Kind::Prometheus { "/-/ready" } else { "/health" };
        let mut client = Client::new(SocketAddr::from(([127, 0, 0, 1], self.port)));
        eventually(Duration::from_secs(60), &name, || {
            assert!(process.ended().is_none(), "{name} ended instead of becoming ready:\n{}", process.log_tail(3000));
            let answer = client.call("GET", path).map_err(|error| error.to_string())?;
            if answer.status() == 200 { Ok(()) } else { Err(answer.text()) }
        });
    }

    /// SIGTERM: it keeps what it has taken.
    pub fn down(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.terminate(Duration::from_secs(60));
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Where it takes samples.
    pub fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.address())
    }

    /// All it has.
    #[track_caller]
    pub fn samples(&self) -> Samples {
        match self.kind {
            Kind::VictoriaMetrics => self.export(),
            Kind::Prometheus => {
                let mut samples = Samples::new();
                note(&mut samples, &samples_of(&self.series()));
                self.histograms(&mut samples);
                samples
            }
        }
    }

    /// All that a Prometheus has, as it was written.
    #[track_caller]
    pub fn series(&self) -> Vec<TimeSeries> {
        let headers = [("Host", "store"), ("Content-Type", "application/x-protobuf"), ("Content-Encoding", "snappy")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let request = Http { first: "POST /api/v1/read HTTP/1.1".to_owned(), headers, body: read_all() };
        let answer = Client::new(self.address()).send(&request).expect("an answer");
        assert_eq!(answer.status(), 200, "{}", answer.text());
        read_answer(&answer.body)
    }

    /// Native histograms, which remote read of older versions leaves out: count and sum, and the buckets that are not empty.
    fn histograms(&self, samples: &mut Samples) {
        let newest = samples.values().flat_map(BTreeMap::keys).max().copied().unwrap_or(0) / 1000 + 1;
        let path = format!("/api/v1/query?query=%7B__name__%3D~%22.%2B%22%7D%5B1h%5D&time={newest}");
        let answer = Client::new(self.address()).call("GET", &path).expect("an answer").json();
        for series in answer["data"]["result"].as_array().expect("a matrix") {
            let labels: BTreeMap<String, String> = serde_json::from_value(series["metric"].clone()).expect("labels");
            for point in series["histograms"].as_array().into_iter().flatten() {
                let time = (point[0].as_f64().expect("seconds") * 1000.0).round() as i64;
                let value = Value::Histogram(Box::new(point[1].clone()));
                samples.entry(series_name(&labels)).or_default().insert(time, value);
            }
        }
    }

    /// VictoriaMetrics: a line of JSON a series.
    fn export(&self) -> Samples {
        let mut client = Client::new(self.address());
        let mut call = |path: &str| {
            let answer = client.call("GET", path).expect("an answer");
            assert_eq!(answer.status(), 200, "{}", answer.text());
            answer.text()
        };
        // What was taken a moment ago is not to be seen otherwise.
        call("/internal/force_flush");
        let lines = call("/api/v1/export?start=0&match%5B%5D=%7B__name__%21%3D%22%22%7D");
        let mut samples = Samples::new();
        for line in lines.lines() {
            // Not quite JSON: older versions write NaN and infinities without quotes.
            let (metric, rest) = line.rsplit_once(",\"values\":[").unwrap_or_else(|| panic!("{line}"));
            let (values, times) = rest.split_once("],\"timestamps\":[").unwrap_or_else(|| panic!("{line}"));
            let metric: Json = serde_json::from_str(&format!("{metric}}}")).unwrap_or_else(|error| panic!("{error}: {line}"));
            let labels: BTreeMap<String, String> = serde_json::from_value(metric["metric"].clone()).expect("labels");
            let times = times.trim_end_matches("]}").split(',').map(|time| time.parse().expect("milliseconds"));
            samples.entry(series_name(&labels)).or_default().extend(times.zip(values.split(',').map(exported)));
        }
        samples
    }
}

/// A value as VictoriaMetrics writes it; the one NaN that it keeps is the stale marker.
fn exported(value: &str) -> Value {
    match value.trim_matches('"') {
        "null" | "NaN" => Value::Stale,
        text => Value::Number(text.replace("Infinity", "inf").parse().unwrap_or_else(|_| panic!("no value: {text}"))),
    }
}

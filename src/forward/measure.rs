//! What a row costs: the encoder alone, and encoding plus handing over to librdkafka. For `sluice bench rows`.
//!
//! The rows look like cAdvisor's under the Prometheus Operator: 14 labels, 490 bytes as a row. CPU is the thread's (encode) or the
//! process' (produce: librdkafka's threads compress and send, and the mock cluster, if it runs in here too, counts as well).

use std::time::Duration;

use rustix::time::ClockId;
use rustix::time::clock_gettime;

use crate::forward::format::Columns;
use crate::forward::rows::Row;
use crate::forward::rows::RowEncoder;
use crate::forward::rows::Value;
use crate::wire::remote_write::Label;

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowCost {
    /// Rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// CPU a row, µs.
    pub micros_a_row: f64,
}

/// Series for measuring: (name, value) of 14 labels each, sorted by name.
pub fn series(count: usize) -> Vec<Vec<(String, String)>> {
    let one = |number: usize| {
        [
            ("__name__", "container_network_receive_bytes_total".to_owned()),
            ("cluster", "prod-east-1".to_owned()),
            ("container", format!("app-{}", number % 17)),
            ("endpoint", "https-metrics".to_owned()),
            ("id", format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{number:08x}_4d2a.slice")),
            ("image", format!("registry.example.com/team/app-{}:v1.{}.0", number % 17, number % 9)),
            ("instance", format!("10.{}.{}.{}:10250", number % 200, number % 250, number % 240)),
            ("interface", "eth0".to_owned()),
            ("job", "kubelet".to_owned()),
            ("metrics_path", "/metrics/cadvisor".to_owned()),
            ("namespace", format!("team-{}", number % 40)),
            ("node", format!("node-{:04}.dc1.example.com", number % 2000)),
            ("pod", format!("app-{}-7d9f8b6c5-{:05x}", number % 17, number)),
            ("service", "prometheus-kube-prometheus-kubelet".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    };
    (0..count).map(one).collect()
}

/// The encoder alone, on this thread.
pub fn encode_rows(count: u64) -> RowCost {
    let series = series(2000);
    let labels: Vec<Vec<Label<'_>>> =
        series.iter().map(|labels| labels.iter().map(|(name, value)| Label::new(0, name, value)).collect()).collect();
    let mut encoder = RowEncoder::new(Columns::default());
    let mut out = Vec::with_capacity(300_000);
    let mut bytes = 0;
    let began = cpu(ClockId::ThreadCPUTime);
    for number in 0..count {
        let place = (number % labels.len() as u64) as usize;
        let value = Value::Float(if number % 3 == 0 { number as f64 * 0.37 } else { number as f64 });
        let row = Row { labels: &labels[place], time: 1_790_000_000_000 + number as i64, value, late: false, series: number, item: 0 };
        encoder.encode(&row, &mut out);
        out.push(b'\n');
        if out.len() > 250_000 {
            bytes += std::hint::black_box(&out).len() as u64;
            out.clear();
        }
    }
    bytes += out.len() as u64;
    RowCost { rows: count, bytes, micros_a_row: micros(cpu(ClockId::ThreadCPUTime) - began, count) }
}

/// CPU time so far.
pub fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// CPU time of this process so far.
pub fn process_cpu() -> Duration {
    cpu(ClockId::ProcessCPUTime)
}

/// µs of CPU a row.
pub fn micros(time: Duration, rows: u64) -> f64 {
    time.as_secs_f64() * 1e6 / rows.max(1) as f64
}

//! The process itself: CPU time, memory, descriptors, threads, age, version. Read from `/proc/self` when asked.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Registers the process' numbers.
pub fn register(registry: &mut Registry, started_wall_ms: i64) {
    let info: Family<Vec<(&'static str, &'static str)>, Gauge> = Family::default();
    info.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION"))]).set(1);
    registry.register("sluice_build_info", "The version that runs; always 1", info);
    registry.register_collector(Box::new(Process { started: started_wall_ms as f64 / 1000.0 }));
}

/// What a process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// User and system time, seconds.
    pub cpu_seconds: f64,
    /// Bytes of memory in use.
    pub resident_bytes: u64,
    /// Open files and sockets.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
}

/// What this process uses now; zeros where `/proc` is not there.
pub fn usage() -> Usage {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    let mut usage = of_stat(&stat, rustix::param::clock_ticks_per_second(), rustix::param::page_size() as u64);
    usage.descriptors = descriptors;
    usage
}

/// Fields as in proc(5): 14 utime, 15 stime, 20 threads, 24 rss; the second is in parentheses and may hold blanks.
fn of_stat(stat: &str, ticks_per_second: u64, page: u64) -> Usage {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<u64> = after_name.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    Usage {
        cpu_seconds: (field(14) + field(15)) as f64 / ticks_per_second.max(1) as f64,
        resident_bytes: field(24) * page,
        descriptors: 0,
        threads: field(20),
    }
}

#[derive(Debug)]
struct Process {
    started: f64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let usage = usage();
        let mut counter = |name, help, value: f64| {
            let metric = ConstCounter::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, prometheus_client::metrics::MetricType::Counter)?)
        };
        counter("process_cpu_seconds", "User and system time of the process", usage.cpu_seconds)?;
        let mut gauge = |name, help, value: f64| {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, prometheus_client::metrics::MetricType::Gauge)?)
        };
        gauge("process_resident_memory_bytes", "Memory in use", usage.resident_bytes as f64)?;
        gauge("process_open_fds", "Open files and sockets", usage.descriptors as f64)?;
        gauge("process_threads", "Threads", usage.threads as f64)?;
        gauge("process_start_time_seconds", "When the process began, seconds since 1970", self.started)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_shifts_no_field() {
        let stat = "7 (a) b) S 1 1 1 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 9 0 100 1000 25 184467";
        let usage = of_stat(stat, 100, 4096);
        assert_eq!(usage, Usage { cpu_seconds: 2.0, resident_bytes: 25 * 4096, descriptors: 0, threads: 9 });
    }

    #[test]
    fn this_process_uses_something() {
        assert!(usage().resident_bytes > 0 && usage().descriptors > 0);
    }
}

//! Requests of a made-up cluster, encoded once; before each send only times and values are written over.
//!
//! The series look like cAdvisor's under Prometheus Operator: 14 labels, about 490 B a sample unpacked in 1.0. The load tool must not
//! spend its time encoding, so a template remembers where in the message each sample stands. Real encoding is in `wire::encode`.

use crate::wire::remote_write::Protocol;

/// cAdvisor's metrics that every container has, in the order of its page.
const METRICS: [&str; 25] = [
    "container_blkio_device_usage_total",
    "container_cpu_cfs_periods_total",
    "container_cpu_cfs_throttled_periods_total",
    "container_cpu_cfs_throttled_seconds_total",
    "container_cpu_usage_seconds_total",
    "container_file_descriptors",
    "container_fs_reads_bytes_total",
    "container_fs_reads_total",
    "container_fs_usage_bytes",
    "container_fs_writes_bytes_total",
    "container_fs_writes_total",
    "container_last_seen",
    "container_memory_cache",
    "container_memory_failcnt",
    "container_memory_failures_total",
    "container_memory_mapped_file",
    "container_memory_max_usage_bytes",
    "container_memory_rss",
    "container_memory_swap",
    "container_memory_usage_bytes",
    "container_memory_working_set_bytes",
    "container_processes",
    "container_sockets",
    "container_start_time_seconds",
    "container_threads",
];

/// Bytes of a time as varint: milliseconds between 2004 and 2109 take six bytes.
const TIME_BYTES: usize = 6;

/// One request, ready but for its times and values.
#[derive(Clone, Debug)]
pub struct Template {
    raw: Vec<u8>,
    /// Where the eight bytes of each sample's value stand; its time stands one key byte further.
    values: Vec<usize>,
}

impl Template {
    /// The request for the series `first .. first + count` as the replica `replica` of `group` sends it.
    pub fn new(protocol: Protocol, group: &str, replica: &str, first: usize, count: usize) -> Template {
        match protocol {
            Protocol::V1 => Template::version_1(group, replica, first, count),
            Protocol::V2 => Template::version_2(group, replica, first, count),
        }
    }

    /// How many samples the request holds.
    pub fn samples(&self) -> usize {
        self.values.len()
    }

    /// The message with this time on every sample and values that grow with it, as counters do.
    pub fn at(&mut self, time_ms: i64) -> &[u8] {
        for (n, &place) in self.values.iter().enumerate() {
            let value = (time_ms / 1000 % 1_000_000) as f64 * (n % 97 + 1) as f64 * 0.25;
            self.raw[place..place + 8].copy_from_slice(&value.to_le_bytes());
            write_time(&mut self.raw[place + 9..place + 9 + TIME_BYTES], time_ms);
        }
        &self.raw
    }

    fn version_1(group: &str, replica: &str, first: usize, count: usize) -> Template {
        let mut template = Template { raw: Vec::with_capacity(count * 512), values: Vec::with_capacity(count) };
        let mut series = Vec::new();
        for n in first..first + count {
            series.clear();
            for (name, value) in labels(n, group, replica) {
                let mut label = Vec::with_capacity(name.len() + value.len() + 6);
                bytes_field(&mut label, 0x0a, name.as_bytes());
                bytes_field(&mut label, 0x12, value.as_bytes());
                bytes_field(&mut series, 0x0a, &label);
            }
            template.push_series(0x0a, &series);
        }
        template
    }

    fn version_2(group: &str, replica: &str, first: usize, count: usize) -> Template {
        let mut symbols: Vec<String> = vec![String::new()];
        let mut known = std::collections::HashMap::from([(String::new(), 0_u64)]);
        let mut refs_of = Vec::with_capacity(count);
        for n in first..first + count {
            let mut refs = Vec::new();
            for text in labels(n, group, replica).into_iter().flat_map(|(name, value)| [name.to_owned(), value]) {
                let next = symbols.len() as u64;
                let number = *known.entry(text.clone()).or_insert_with(|| {
                    symbols.push(text);
                    next
                });
                varint(&mut refs, number);
            }
            refs_of.push(refs);
        }
        let mut template = Template { raw: Vec::with_capacity(count * 80), values: Vec::with_capacity(count) };
        for symbol in &symbols {
            bytes_field(&mut template.raw, 0x22, symbol.as_bytes());
        }
        let mut series = Vec::new();
        for refs in &refs_of {
            series.clear();
            bytes_field(&mut series, 0x0a, refs);
            template.push_series(0x2a, &series);
        }
        template
    }

    /// A series message: the labels as encoded, then one sample whose place is remembered.
    fn push_series(&mut self, key: u8, labels: &[u8]) {
        let sample_bytes = 1 + 8 + 1 + TIME_BYTES;
        self.raw.push(key);
        varint(&mut self.raw, (labels.len() + 2 + sample_bytes) as u64);
        self.raw.extend_from_slice(labels);
        self.raw.extend_from_slice(&[0x12, sample_bytes as u8, 0x09]);
        self.values.push(self.raw.len());
        self.raw.extend_from_slice(&[0; 8]);
        self.raw.push(0x10);
        self.raw.extend_from_slice(&[0; TIME_BYTES]);
    }
}

/// The labels of series `n`, sorted by name. 25 metrics make a container, one container a pod, 40 pods a machine.
fn labels(n: usize, group: &str, replica: &str) -> Vec<(&'static str, String)> {
    let (metric, pod) = (n % METRICS.len(), n / METRICS.len());
    let machine = pod / 40;
    let mut random = fastrand::Rng::with_seed(pod as u64);
    let mut hex = |digits: usize| (0..digits).map(|_| char::from_digit(random.u32(0..16), 16).unwrap_or('0')).collect::<String>();
    let (uid, container) = (hex(32), hex(64));
    let app = ["checkout", "catalog", "billing", "gateway", "search", "session", "stock", "mailer"][pod % 8];
    vec![
        ("__name__", METRICS[metric].to_owned()),
        ("container", app.to_owned()),
        ("endpoint", "https-metrics".to_owned()),
        ("id", format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice/cri-containerd-{container}.scope")),
        ("image", format!("images.example.com/shop/{app}:v2.{}.{}", pod % 30, pod % 7)),
        ("instance", format!("10.{}.{}.{}:10250", machine / 65536 % 256, machine / 256 % 256, machine % 256)),
        ("job", "kubelet".to_owned()),
        ("metrics_path", "/metrics/cadvisor".to_owned()),
        ("namespace", format!("shop-{}", pod % 12)),
        ("node", format!("worker-{machine}")),
        ("pod", format!("{app}-{:x}-{}", pod % 65536 + 0x10000, &container[..5])),
        ("prometheus", group.to_owned()),
        ("prometheus_replica", replica.to_owned()),
        ("service", "kubelet".to_owned()),
    ]
}

fn bytes_field(out: &mut Vec<u8>, key: u8, bytes: &[u8]) {
    out.push(key);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A time as a varint of exactly [`TIME_BYTES`] bytes.
fn write_time(out: &mut [u8], time_ms: i64) {
    let mut rest = time_ms as u64;
    for byte in &mut out[..TIME_BYTES - 1] {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    out[TIME_BYTES - 1] = rest as u8 & 0x7f;
}

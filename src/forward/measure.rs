//! What a row costs: the encoder alone, and encoding plus handing over to librdkafka; and a sample in a request to a store. For `sluice bench rows`.
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
use crate::model::Pick;
use crate::wire::body::Body;
use crate::wire::body::Picked;
use crate::wire::encode::Encoder;
use crate::wire::encode::NewSeries;
use crate::wire::encode::Sample;
use crate::wire::outgoing::Outgoing;
use crate::wire::remote_write::DecodeError;
use crate::wire::remote_write::Label;
use crate::wire::remote_write::Protocol;
use crate::wire::remote_write::Walker;

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
        let row = Row {
            labels: &labels[place],
            time: 1_790_000_000_000 + number as i64,
            value,
            late: false,
            series: number,
            item: 0,
            before: None,
            tenant: "",
        };
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

/// What a sample in a request costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RequestCost {
    /// Finding it in its body, µs of CPU.
    pub walk: f64,
    /// Finding it and copying its labels into the request.
    pub copied: f64,
    /// Finding it and writing its labels anew.
    pub anew: f64,
}

/// A request made of one of the same version that came, on this thread: 2,000 samples, without the label of their replica.
pub fn encode_requests(rounds: u64, protocol: Protocol) -> Result<RequestCost, DecodeError> {
    let mut encoder = Encoder::new(protocol);
    let series = series(2000);
    for labels in &series {
        let mut labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        labels.insert(1, ("__replica__", "replica-1"));
        encoder.push(&NewSeries { labels: &labels, samples: &[Sample::new(1_790_000_000_000, 0.37)], ..NewSeries::default() });
    }
    let mut raw = Vec::new();
    encoder.finish(&mut raw);
    let body = Body { protocol, raw, strip: vec!["__replica__".to_owned()], tenant: String::new() };
    let picks: Vec<Pick> = (0..series.len() as u32).map(|item| Pick { item, late: false }).collect();
    let (mut walker, mut outgoing) = (Walker::new(0x5eed), Outgoing::new(protocol));
    let mut time = |way: &mut dyn FnMut(&Picked<'_, '_>, &mut Outgoing)| {
        let began = cpu(ClockId::ThreadCPUTime);
        for _ in 0..rounds.max(1) {
            body.pick(&mut walker, &picks, &mut |picked| way(&picked, &mut outgoing))?;
            std::hint::black_box(outgoing.finish());
        }
        Ok::<f64, DecodeError>(micros(cpu(ClockId::ThreadCPUTime) - began, rounds.max(1) * picks.len() as u64))
    };
    let walk = time(&mut |picked, _| {
        std::hint::black_box(picked.series);
    })?;
    let copied = time(&mut |picked, outgoing| {
        outgoing.push(picked);
    })?;
    // A list of its own, as a rule makes one: that it says the same is not known to whoever writes it.
    let anew = time(&mut |picked, outgoing| {
        let labels: Vec<Label<'_>> = picked.labels.to_vec();
        outgoing.push(&Picked {
            labels: &labels,
            point: picked.point,
            late: picked.late,
            series: picked.series,
            item: picked.item,
            before: None,
            tenant: picked.tenant,
            from: picked.from,
        });
    })?;
    Ok(RequestCost { walk, copied, anew })
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

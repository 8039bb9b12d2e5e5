//! What the log costs: offers through commit, apply and emissions on a real disk, for `sluice bench log` and docs/benchmarks.md.
//!
//! Requests are made before the clock starts: the bodies once (nothing on this path looks into them), the digests for every request. A
//! reader follows the emissions and moves a cursor, so that space is given back as in production. Left out: HTTP, unpacking, sinks.

use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock;
use crate::model::Item;
use crate::model::Kind;
use crate::model::ShardId;
use crate::node::Handle;
use crate::node::offer::Offer;
use crate::node::settings::Settings;
use crate::node::start::Node;
use crate::shard::command::Command;
use crate::shard::command::CursorMove;
use crate::shard::command::Policy;
use crate::shard::command::SinkSettings;
use crate::shard::command::Start;
use crate::wire::digest;
use crate::wire::pack::Packing;
use crate::wire::remote_write::Protocol;

/// What to send.
#[derive(Clone, Debug)]
pub struct Load {
    /// Requests in all.
    pub requests: usize,
    /// Samples in each: Prometheus' default.
    pub samples: usize,
    /// Packed bytes of each: 42 B a sample, as cAdvisor's series have.
    pub body_bytes: usize,
    /// Requests on their way at a time.
    pub in_flight: usize,
    /// Groups, spread over the shards.
    pub groups: usize,
    /// A second replica sends the same.
    pub standby: bool,
}

impl Default for Load {
    fn default() -> Load {
        Load { requests: 6_000, samples: 2_000, body_bytes: 84_000, in_flight: 16, groups: 3, standby: false }
    }
}

/// What it cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Samples committed.
    pub samples: u64,
    /// Samples emitted, as the reader saw them.
    pub emitted: u64,
    /// Seconds.
    pub seconds: f64,
    /// Process CPU per committed sample, microseconds.
    pub cpu_micros: f64,
    /// Bytes of requests (bodies and digests).
    pub offered_bytes: u64,
    /// Bytes given to the disk by the process, per byte of requests.
    pub written_per_byte: f64,
    /// Syncs per second.
    pub syncs_per_second: f64,
    /// Milliseconds from offer to answer: half, and 99 of 100, do not exceed it.
    pub p50_ms: f64,
    /// See `p50_ms`.
    pub p99_ms: f64,
}

/// Nanoseconds of CPU that this process has used.
fn cpu_nanos() -> u64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.tv_sec as u64 * 1_000_000_000 + used.tv_nsec as u64
}

/// Bytes that this process has given to disks; 0 where the system does not say.
fn disk_bytes() -> u64 {
    let about = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = about.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

fn offers(load: &Load, settings: u64) -> Vec<Offer> {
    let mut random = fastrand::Rng::with_seed(1);
    let body = Bytes::from_iter(std::iter::repeat_with(|| random.u8(..)).take(load.body_bytes));
    // Ten requests are one scrape of a group: 20,000 series.
    let scrape = load.groups * 10;
    let begin = clock::wall_ms() - (load.requests / scrape) as i64 * 15_000;
    let mut offers = Vec::with_capacity(load.requests);
    for number in 0..load.requests {
        let (group, part) = (number % load.groups, (number / load.groups % 10) as u64);
        let time = begin + (number / scrape) as i64 * 15_000;
        let series = |place: usize| (part << 32 | place as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let items: Vec<Item> =
            (0..load.samples).map(|place| Item { series: series(place), time, kind: Kind::Float, refused: false }).collect();
        let mut encoded = Vec::new();
        digest::encode(&items, &mut encoded);
        offers.push(Offer {
            group: format!("group-{group}"),
            replica: "a".to_owned(),
            protocol: Protocol::V1,
            packing: Packing::Snappy,
            strip: vec!["__replica__".to_owned()],
            settings,
            digest: encoded,
            body: body.clone(),
            unpacked: None,
            bare: Vec::new(),
            claim: None,
        });
    }
    offers
}

fn as_standby(offer: &Offer) -> Offer {
    Offer {
        group: offer.group.clone(),
        replica: "b".to_owned(),
        strip: offer.strip.clone(),
        digest: offer.digest.clone(),
        body: offer.body.clone(),
        unpacked: None,
        bare: Vec::new(),
        claim: None,
        ..*offer
    }
}

/// Follows the emissions of a shard as a sink would; the samples it saw.
fn follow(handle: &Handle, shard: ShardId, stop: &AtomicBool) -> u64 {
    let (mut after, mut samples) = (0, 0);
    loop {
        let last = stop.load(Ordering::Acquire);
        let found = handle.emissions(shard, after, 100_000).unwrap_or_default();
        let Some(newest) = found.last() else {
            if last {
                return samples;
            }
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        after = newest.number;
        samples += found.iter().map(|emission| emission.picks.len() as u64).sum::<u64>();
        let moved = CursorMove { sink: "bench".to_owned(), epoch: 1, emission: after, ..CursorMove::default() };
        handle.tell(shard, Command::Cursor(moved));
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Runs the load against a new node in `directory`, which should be empty.
pub fn log(directory: &Path, load: &Load) -> Result<Cost, String> {
    let settings = Settings { data_shards: load.groups as u16, ..Settings::new(directory) };
    let node = Node::start(settings, Box::new(|reason| tracing::error!("{reason}"))).map_err(|error| error.to_string())?;
    let handle = node.handle.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(|error| error.to_string())?;
    let sink = SinkSettings {
        name: "bench".to_owned(),
        start: Start::Oldest,
        budget_bytes: u64::MAX,
        budget_ms: i64::MAX / 2,
        policy: Policy::Refuse,
    };
    runtime
        .block_on(async {
            handle.ready().await?;
            handle.set_sinks(&[sink], 0).await?;
            for group in 0..load.groups {
                handle.assign(&format!("group-{group}")).await?;
            }
            Ok(())
        })
        .map_err(|error: crate::node::offer::ProposeError| error.to_string())?;
    let version = handle.shards().first().map_or(0, |&shard| handle.settings_version(shard));
    let offers = offers(load, version);
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = handle
        .shards()
        .to_vec()
        .into_iter()
        .map(|shard| {
            let (handle, stop) = (handle.clone(), Arc::clone(&stop));
            std::thread::spawn(move || follow(&handle, shard, &stop))
        })
        .collect();
    let (cpu, disk, syncs, begin) = (cpu_nanos(), disk_bytes(), handle.stats().store.syncs, clock::now());
    let sent = runtime.block_on(send(&handle, load, offers))?;
    let (seconds, cpu) = ((clock::now() - begin).as_secs_f64(), cpu_nanos() - cpu);
    let (disk, syncs) = (disk_bytes() - disk, handle.stats().store.syncs - syncs);
    stop.store(true, Ordering::Release);
    let emitted = readers.into_iter().map(|reader| reader.join().unwrap_or(0)).sum();
    let aborted = node.stop();
    if !aborted.is_empty() {
        return Err(aborted.join("; "));
    }
    let mut micros = sent.micros;
    micros.sort_unstable();
    let of = |percent: usize| micros.get(micros.len() * percent / 100).map_or(0.0, |&micros| micros as f64 / 1e3);
    Ok(Cost {
        samples: sent.samples,
        emitted,
        seconds,
        cpu_micros: cpu as f64 / 1e3 / sent.samples as f64,
        offered_bytes: sent.bytes,
        written_per_byte: disk as f64 / sent.bytes as f64,
        syncs_per_second: syncs as f64 / seconds,
        p50_ms: of(50),
        p99_ms: of(99),
    })
}

#[derive(Default)]
struct Sent {
    samples: u64,
    bytes: u64,
    micros: Vec<u64>,
}

async fn send(handle: &Handle, load: &Load, offers: Vec<Offer>) -> Result<Sent, String> {
    let (mut sent, mut answers) = (Sent::default(), tokio::task::JoinSet::new());
    let mut settle = |answer: Result<Result<u64, String>, tokio::task::JoinError>| -> Result<(), String> {
        sent.micros.push(answer.map_err(|error| error.to_string())??);
        sent.samples += load.samples as u64;
        Ok(())
    };
    let mut bytes = 0;
    for offer in offers {
        let twin = load.standby.then(|| as_standby(&offer));
        for offer in [Some(offer), twin].into_iter().flatten() {
            if answers.len() >= load.in_flight
                && let Some(answer) = answers.join_next().await
            {
                settle(answer)?;
            }
            bytes += (offer.body.len() + offer.digest.len()) as u64;
            let handle = handle.clone();
            answers.spawn(async move {
                let begin = clock::now();
                handle.offer(offer).await.map_err(|error| error.to_string())?;
                Ok((clock::now() - begin).as_micros() as u64)
            });
        }
    }
    while let Some(answer) = answers.join_next().await {
        settle(answer)?;
    }
    sent.bytes = bytes;
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small here; `SLUICE_MEASURE=1` makes it the real load and prints what it cost.
    #[test]
    fn every_sample_of_the_load_is_emitted_once() {
        let real = std::env::var_os("SLUICE_MEASURE").is_some();
        let mut load = if real { Load::default() } else { Load { requests: 120, samples: 100, body_bytes: 4_200, ..Load::default() } };
        for standby in [false, true] {
            load.standby = standby;
            let directory =
                tempfile::tempdir_in(std::env::var_os("SLUICE_MEASURE_DIR").unwrap_or_else(|| std::env::temp_dir().into())).unwrap();
            let cost = log(directory.path(), &load).unwrap();
            assert_eq!(cost.emitted, (load.requests * load.samples) as u64);
            assert_eq!(cost.samples, cost.emitted * (1 + u64::from(standby)));
            if real {
                println!("standby: {standby}: {cost:#?}");
            }
        }
    }
}

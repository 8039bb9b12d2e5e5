//! How fast a group decides and how much memory a series takes: what `sluice bench dedup` runs.
//!
//! The clock comes from the caller, since this layer has none. Memory is what the parts say they hold (see the test for the process's).

use super::detect::Detector;
use super::group::Group;
use super::image::ImageError;
use super::judged::Judged;
use crate::model::Item;
use crate::model::Kind;

/// Samples of a request: what Prometheus sends by default.
const REQUEST: usize = 2000;
/// Between two scrapes, ms.
const INTERVAL: i64 = 15_000;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Series of the group; two replicas send each.
    pub series: usize,
    /// Scrapes of each replica, measured after the first two.
    pub scrapes: usize,
    /// Senders keep no order (Prometheus does): every sample asks the index.
    pub scattered: bool,
}

/// Nanoseconds a sample, and bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// A sample of the leader, passed.
    pub leader_ns: f64,
    /// The same, where a sink asks how far counters rise and all series are counters.
    pub counted_ns: f64,
    /// A sample of the standby until it waits.
    pub waits_ns: f64,
    /// A sample of the standby that waited, until it is known to be covered.
    pub covered_ns: f64,
    /// A sample that the detector of the shard's leader looks at.
    pub observe_ns: f64,
    /// Memory a series, rows and index, nothing waiting.
    pub bytes_per_series: f64,
    /// The same, where a sink asks.
    pub counted_bytes: f64,
    /// Bytes of the image a series.
    pub image_bytes: f64,
    /// Writing the image, a series.
    pub write_ns: f64,
    /// Reading it, a series.
    pub read_ns: f64,
    /// A switch of the leader, ms in all.
    pub switch_ms: f64,
}

fn items(load: Load, scrape: i64, offset: i64) -> Vec<Vec<Item>> {
    // Multiplying by an odd number visits each residue of a power of two once: another order at each scrape.
    let slots = load.series.next_power_of_two();
    let odd = 0x9E37_79B9 + 2 * scrape as usize;
    let place = |n: usize| if load.scattered { n.wrapping_mul(odd) % slots } else { n };
    let all = (0..slots).map(place).filter(|&n| n < load.series);
    // Spread over all bits, as xxh3 would.
    let hash = |n: usize| (n as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (n as u64) << 7;
    let time = 1_790_000_000_000 + scrape * INTERVAL + offset;
    let all: Vec<Item> = all.map(|n| Item { series: hash(n), time: time + (n % 1000) as i64, kind: Kind::Float, refused: false }).collect();
    all.chunks(REQUEST).map(<[Item]>::to_vec).collect()
}

/// Two replicas, one group; `clock` is monotonic, ns. Fails only if an image cannot be read back.
pub fn measure(load: Load, clock: &mut dyn FnMut() -> u64) -> Result<Figures, ImageError> {
    let (mut group, mut out) = (Group::new("bench"), Judged::new());
    let mut figures = Figures::default();
    let mut spent = [0_u64; 4];
    let mut detector = Detector::new();
    let mut entry = 0;
    for scrape in 0..load.scrapes as i64 + 2 {
        for (which, replica) in ["a", "b"].into_iter().enumerate() {
            let requests = items(load, scrape, which as i64 * 3000);
            let at = requests[0][0].time + 1500;
            let begin = clock();
            for request in &requests {
                detector.observe("bench", replica, (at as u64, at), request.iter().copied());
            }
            spent[3] += clock() - begin;
            // The other's are due by now; judged apart from the samples of this entry.
            let begin = clock();
            group.tick(at, &mut out);
            spent[2] += if scrape > 2 { clock() - begin } else { 0 };
            out.clear();
            let begin = clock();
            for request in &requests {
                group.samples(entry, replica, at, request.iter().copied(), &mut out);
                entry += 1;
                out.clear();
            }
            spent[which] += if scrape >= 2 { clock() - begin } else { 0 };
            if scrape == 0 && which == 0 {
                figures.bytes_per_series = group.memory_bytes() as f64 / load.series as f64;
            }
        }
    }
    let samples = (load.series * load.scrapes) as f64;
    figures.observe_ns = spent[3] as f64 / (2.0 * samples + 4.0 * load.series as f64);
    figures.leader_ns = spent[0] as f64 / samples;
    figures.waits_ns = spent[1] as f64 / samples;
    figures.covered_ns = spent[2] as f64 / (samples - load.series as f64).max(1.0);
    group.tick(group.at() + 100_000, &mut out);
    let (mut image, begin) = (Vec::new(), clock());
    group.write_image(&mut image);
    let written = clock();
    let mut group = Group::read_image(&image)?;
    let read = clock();
    figures.image_bytes = image.len() as f64 / load.series as f64;
    figures.write_ns = (written - begin) as f64 / load.series as f64;
    figures.read_ns = (read - written) as f64 / load.series as f64;
    (figures.counted_ns, figures.counted_bytes) = counted(load, clock);
    let order = super::group::Switch { from: "a", to: "b", reason: "bench", evidence: "" };
    let begin = clock();
    group.switch(&order, 0, &mut out);
    figures.switch_ms = (clock() - begin) as f64 / 1e6;
    Ok(figures)
}

/// A leader's samples with values: nanoseconds each, and bytes of memory a series.
fn counted(load: Load, clock: &mut dyn FnMut() -> u64) -> (f64, f64) {
    let (mut group, mut out, mut spent) = (Group::new("bench"), Judged::new(), 0);
    for scrape in 0..load.scrapes as i64 + 2 {
        for (entry, request) in items(load, scrape, 0).iter().enumerate() {
            let at = request.first().map_or(0, |item| item.time + 1500);
            let values: Vec<u64> = request.iter().map(|item| (item.time as f64).to_bits()).collect();
            let say = |into: &mut Vec<u64>| {
                into.clear();
                into.extend_from_slice(&values);
            };
            let begin = clock();
            group.valued_samples((entry as u64, "a"), at, request.iter().copied(), say, &mut out);
            out.clear();
            spent += if scrape >= 2 { clock() - begin } else { 0 };
        }
    }
    (spent as f64 / (load.series * load.scrapes) as f64, group.memory_bytes() as f64 / load.series as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prints figures with `--nocapture`; `SLUICE_BENCH_SERIES=n` asks for more series than a test needs.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]
    fn a_series_takes_64_bytes_at_most() {
        let most = std::env::var("SLUICE_BENCH_SERIES").map_or(100_000, |text| text.parse().unwrap());
        let (mut group, mut out) = (Group::new("g"), Judged::new());
        let requests = items(Load { series: 1_000_000, scrapes: 1, scattered: false }, 0, 0);
        let before = resident();
        for request in &requests {
            group.samples(0, "a", request[0].time, request.iter().copied(), &mut out);
            out.clear();
        }
        // RSS counts what other tests do meanwhile: shown, while what the parts hold is checked.
        let (held, resident) = (group.memory_bytes(), resident().saturating_sub(before));
        println!("1000000 series: {:.1} bytes each held, {:.1} resident", held as f64 / 1e6, resident as f64 / 1e6);
        assert!(held <= 64_000_000, "{held}");
        drop(group);
        let begin = std::time::Instant::now();
        for (series, scattered) in [(most / 10, false), (most, false), (most, true)] {
            let mut clock = || begin.elapsed().as_nanos() as u64;
            let figures = measure(Load { series, scrapes: 8, scattered }, &mut clock).unwrap();
            println!("{series} series, scattered {scattered}: {figures:.1?}");
        }
    }

    fn resident() -> u64 {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }
}

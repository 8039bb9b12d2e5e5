//! How long unpacking, walking and digesting take on given requests: what `sluice bench decode FILE` prints.
//!
//! The clock is the caller's, since nothing in `wire` reads one. The minimum over the rounds is given beside the median: on a machine
//! shared with others the minimum is what the code costs, the median what one gets.

use super::digest;
use super::pack::Bounds;
use super::pack::Packing;
use super::pack::UnpackError;
use super::pack::unpack;
use super::remote_write::DecodeError;
use super::remote_write::Limits;
use super::remote_write::Protocol;
use super::remote_write::Totals;
use super::remote_write::Walker;
use crate::model::Item;

/// One request to measure with, as it comes over the wire.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Which message it is.
    pub protocol: Protocol,
    /// How it is packed.
    pub packing: Packing,
    /// The body.
    pub packed: &'a [u8],
}

/// Nanoseconds for one pass over all requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Step {
    /// The fastest round.
    pub least: u64,
    /// The middle one.
    pub median: u64,
}

/// What was measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    /// Samples, histograms and exemplars.
    pub points: usize,
    /// Bytes on the wire.
    pub packed_bytes: usize,
    /// Bytes unpacked.
    pub unpacked_bytes: usize,
    /// Bytes of the digests.
    pub digest_bytes: usize,
    /// Unpacking.
    pub unpack: Step,
    /// Walking alone: labels, faults, order.
    pub walk: Step,
    /// Walking with the series' hash and the list of items.
    pub walk_and_hash: Step,
    /// Writing the digest.
    pub encode: Step,
    /// Reading the digest back, checks included.
    pub parse: Step,
}

/// Why a request cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// It cannot be unpacked.
    #[error("a request cannot be unpacked")]
    Unpack(#[from] UnpackError),
    /// It cannot be read.
    #[error("a request cannot be read")]
    Decode(#[from] DecodeError),
}

/// Labels left out of the hash: what the common pairs use.
const LEFT_OUT: [&str; 2] = ["__replica__", "prometheus_replica"];

/// Goes over `requests` `rounds` times; `now` gives nanoseconds.
pub fn decode(requests: &[Request<'_>], rounds: usize, now: &dyn Fn() -> u64) -> Result<Measured, MeasureError> {
    let mut measured = Measured::default();
    let mut walker = Walker::new(0x5eed);
    let (limits, bounds) = (Limits::default(), Bounds::default());
    let (mut raw, mut items, mut out) = (Vec::new(), Vec::new(), Vec::new());
    let mut times = vec![Vec::new(); 5];
    for _ in 0..rounds.max(1) {
        let mut spent = [0u64; 5];
        let mut totals = (0, 0, 0, 0);
        for request in requests {
            let mut mark = now();
            let mut lap = |step: usize| {
                let next = now();
                spent[step] += next.saturating_sub(mark);
                mark = next;
            };
            unpack(request.packing, request.packed, bounds, &mut raw)?;
            lap(0);
            let seen = walker.walk(request.protocol, &raw, &limits, &mut |series| {
                std::hint::black_box(series.points.len());
            })?;
            lap(1);
            digest_of(&mut walker, (request.protocol, &raw), &limits, &mut items)?;
            lap(2);
            out.clear();
            digest::encode(&items, &mut out);
            lap(3);
            let parsed = digest::Digest::parse(&out).map(|digest| digest.iter().fold(0, |sum, item| sum ^ item.series ^ item.time as u64));
            std::hint::black_box(parsed.is_ok());
            lap(4);
            totals = (totals.0 + seen.points, totals.1 + raw.len(), totals.2 + request.packed.len(), totals.3 + out.len());
        }
        (measured.points, measured.unpacked_bytes, measured.packed_bytes, measured.digest_bytes) = totals;
        spent.into_iter().zip(&mut times).for_each(|(nanos, list)| list.push(nanos));
    }
    let mut steps = times.into_iter().map(|mut list| {
        list.sort_unstable();
        Step { least: list.first().copied().unwrap_or_default(), median: list.get(list.len() / 2).copied().unwrap_or_default() }
    });
    let mut next = || steps.next().unwrap_or_default();
    (measured.unpack, measured.walk, measured.walk_and_hash, measured.encode, measured.parse) = (next(), next(), next(), next(), next());
    Ok(measured)
}

/// The items of a body, as ingest makes them (without its time bounds and limits).
pub fn digest_of(
    walker: &mut Walker,
    (protocol, raw): (Protocol, &[u8]),
    limits: &Limits,
    items: &mut Vec<Item>,
) -> Result<Totals, DecodeError> {
    items.clear();
    walker.walk(protocol, raw, limits, &mut |series| {
        let refused = series.fault.is_some();
        let hash = if refused { 0 } else { series.hash(&LEFT_OUT) };
        items.extend(series.points.iter().map(|point| Item { series: hash, time: point.time, kind: point.kind, refused }));
    })
}

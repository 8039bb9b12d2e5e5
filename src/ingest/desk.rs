//! The part of a request that costs CPU: unpack, walk, digest, part by lane. Done at one of a few desks, off the async workers.
//!
//! As many desks as cores: more would only share them, and each keeps its scratch memory from request to request. 2,000 samples
//! take about half a millisecond, which on an async worker would hold up every other connection's bytes.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::clock;
use crate::ingest::census::Census;
use crate::ingest::head::Hint;
use crate::ingest::lanes::Door;
use crate::ingest::lanes::Lane;
use crate::ingest::lanes::Lanes;
use crate::ingest::lanes::Look;
use crate::ingest::lanes::Refusal;
use crate::ingest::offenders::Offenders;
use crate::model::Item;
use crate::wire::body;
use crate::wire::digest;
use crate::wire::pack;
use crate::wire::pack::Bounds;
use crate::wire::pack::Packing;
use crate::wire::remote_write::DecodeError;
use crate::wire::remote_write::Protocol;
use crate::wire::remote_write::Totals;
use crate::wire::remote_write::Walker;

/// A body to be read.
#[derive(Clone, Debug)]
pub struct Job {
    /// As it came.
    pub packed: Bytes,
    /// How it is packed.
    pub packing: Packing,
    /// Which message it is.
    pub protocol: Protocol,
    /// What the URL said.
    pub hint: Hint,
    /// The node's wall clock.
    pub now_ms: i64,
    /// Whether its series are shown for comparison with other groups'.
    pub bare: bool,
    /// Bound of the unpacked body.
    pub unpacked_bytes: usize,
    /// Somebody reads along, and wants to see what is refused as a whole, too.
    pub tapped: bool,
}

/// What one lane sends on.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Whose it is, and how much.
    pub lane: Lane,
    /// Its digest.
    pub digest: Vec<u8>,
    /// Its body: the sender's own bytes, unless the request mixes lanes.
    pub body: Bytes,
    /// How the body is packed.
    pub packing: Packing,
    /// Points in the digest.
    pub points: u32,
    /// Why points were refused, the first ones.
    pub reasons: Vec<(u32, Refusal)>,
}

/// A body that was read.
#[derive(Debug)]
pub struct Decoded {
    /// One for each lane that has something good.
    pub parcels: Vec<Parcel>,
    /// One for each lane that has not, where somebody reads along.
    pub nothing_good: Vec<Parcel>,
    /// All lanes' groups by number: names for what was refused.
    pub groups: Vec<String>,
    /// What was refused.
    pub refused: Offenders,
    /// What the walk counted.
    pub totals: Totals,
    /// Bytes unpacked.
    pub unpacked: usize,
    /// How long it took at the desk.
    pub took: Duration,
}

/// Why a body was not read.
#[derive(Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Above a bound.
    TooLarge(String),
    /// Not what it should be.
    Undecodable(String),
}

/// Scratch that is larger than this goes back to the system after use: a rare large request must not hold its memory for ever.
const SCRATCH_KEPT: usize = 16 << 20;

/// One desk: the scratch memory of one request at a time.
struct Desk {
    walker: Walker,
    raw: Vec<u8>,
    subset: Vec<u8>,
    lanes: Lanes,
    items: Vec<Item>,
    values: Vec<u64>,
}

/// All desks.
pub struct Desks {
    seed: u64,
    census: Census,
    slots: Semaphore,
    /// Those not in use. Held only to take or return one.
    free: Mutex<Vec<Desk>>,
}

impl Desks {
    /// So many, whose series hashes use this seed.
    pub fn new(count: usize, seed: u64) -> Desks {
        Desks { seed, census: Census::default(), slots: Semaphore::new(count.max(1)), free: Mutex::new(Vec::new()) }
    }

    /// Which series groups have, by sample.
    pub fn census(&self) -> &Census {
        &self.census
    }

    /// Reads a body at the next free desk.
    pub async fn decode(self: &std::sync::Arc<Self>, job: Job, door: std::sync::Arc<Door>) -> Result<Decoded, Unreadable> {
        // The semaphore is never closed.
        let _slot = self.slots.acquire().await;
        let desks = std::sync::Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || {
            let mut desk = desks.take();
            let outcome = desk.decode(&job, &door, &desks.census);
            desks.put_back(desk);
            outcome
        });
        work.await.unwrap_or_else(|error| {
            // A defect of ours. 503 would have the sender repeat these bytes for ever and hold up what is behind them.
            tracing::error!(%error, "decoding a request failed; please report it");
            Err(Unreadable::Undecodable("sluice failed to decode it; see its log".into()))
        })
    }

    fn take(&self) -> Desk {
        let kept = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| Desk {
            walker: Walker::new(self.seed),
            raw: Vec::new(),
            subset: Vec::new(),
            lanes: Lanes::default(),
            items: Vec::new(),
            values: Vec::new(),
        })
    }

    fn put_back(&self, mut desk: Desk) {
        if desk.raw.capacity() + desk.subset.capacity() > SCRATCH_KEPT {
            desk.raw = Vec::new();
            desk.subset = Vec::new();
        }
        if desk.lanes.items.capacity() * size_of::<Item>() > SCRATCH_KEPT {
            desk.lanes = Lanes::default();
            desk.items = Vec::new();
            desk.values = Vec::new();
        }
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(desk);
    }
}

impl Desk {
    fn decode(&mut self, job: &Job, door: &Door, census: &Census) -> Result<Decoded, Unreadable> {
        let started = clock::now();
        let bounds = Bounds { unpacked_bytes: job.unpacked_bytes };
        pack::unpack(job.packing, &job.packed, bounds, &mut self.raw).map_err(|error| match error.is_size() {
            true => Unreadable::TooLarge(error.to_string()),
            false => Unreadable::Undecodable(error.to_string()),
        })?;
        let undecodable = |error: DecodeError| match error.is_size() {
            true => Unreadable::TooLarge(error.to_string()),
            false => Unreadable::Undecodable(error.to_string()),
        };
        let look = Look { now_ms: job.now_ms, bare: job.bare, most: census.most(), census };
        let totals = self.lanes.walk(&mut self.walker, (job.protocol, &self.raw), door, &job.hint, look).map_err(undecodable)?;
        let groups = self.lanes.lanes.iter().map(|lane| lane.group.clone()).collect();
        let mut parcels = Vec::with_capacity(self.lanes.lanes.len());
        match self.lanes.lanes.as_slice() {
            [] => {}
            [lane] => {
                if lane.good.total() > 0 || job.tapped {
                    let digest = encoded(&self.lanes.items, &self.lanes.values);
                    let points = self.lanes.items.len() as u32;
                    let (lane, reasons) = (lane.clone(), self.lanes.reasons_of(0));
                    parcels.push(Parcel { lane, digest, body: job.packed.clone(), packing: job.packing, points, reasons });
                }
            }
            _ => self.part((job.protocol, job.tapped), &mut parcels).map_err(undecodable)?,
        }
        let (parcels, nothing_good) = parcels.into_iter().partition(|parcel| parcel.lane.good.total() > 0);
        let refused = std::mem::take(&mut self.lanes.offenders);
        let took = clock::now().duration_since(started);
        Ok(Decoded { parcels, nothing_good, groups, refused, totals, unpacked: self.raw.len(), took })
    }

    /// A body for each lane of a mixed request.
    fn part(&mut self, (protocol, tapped): (Protocol, bool), parcels: &mut Vec<Parcel>) -> Result<(), DecodeError> {
        for (number, lane) in self.lanes.lanes.iter().enumerate() {
            if lane.good.total() == 0 && !tapped {
                continue;
            }
            self.subset.clear();
            body::subset(protocol, &self.raw, &mut self.lanes.holds(number), &mut self.subset)?;
            let mut packed = Vec::new();
            pack::pack_snappy(&self.subset, &mut packed);
            self.lanes.items_of(number, &mut self.items, &mut self.values);
            let (digest, points) = (encoded(&self.items, &self.values), self.items.len() as u32);
            let (lane, body, reasons) = (lane.clone(), Bytes::from(packed), self.lanes.reasons_of(number));
            parcels.push(Parcel { lane, digest, body, packing: Packing::Snappy, points, reasons });
        }
        Ok(())
    }
}

fn encoded(items: &[Item], values: &[u64]) -> Vec<u8> {
    let mut digest = Vec::with_capacity(items.len() * if values.is_empty() { 11 } else { 17 } + 16);
    digest::encode_valued(items, values, &mut digest);
    digest
}

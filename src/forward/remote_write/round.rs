//! Emissions as requests: points go to the connection that their series' hash says, so that each series has one and its order is kept, and wait
//! there in batches.
//!
//! A *round* is some emissions and all the batches they make; the position moves when all of them are taken. Late samples stand in batches of their own,
//! since a store may refuse them.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::forward::book::Tally;
use crate::forward::remote_write::lane::Parcel;
use crate::forward::remote_write::settings::StoreSettings;
use crate::model::Kind;
use crate::wire::body::Picked;
use crate::wire::outgoing::Outgoing;
use crate::wire::outgoing::Pushed;
use crate::wire::outgoing::Request;
use crate::wire::pack::Packing;
use crate::wire::pack::pack_snappy;
use crate::wire::pack::pack_zstd;
use crate::wire::remote_write::Protocol;

/// A request is closed when it has so many bytes: receivers take 32 MiB unpacked, and hold it in memory.
const BYTES_A_REQUEST: usize = 4 << 20;
/// A round takes no further emission when it holds so much, whatever may be in its requests.
const BYTES_A_ROUND: u64 = 16 << 20;
/// Full requests that a connection may have in a round: enough that an idle store never waits for us, little enough to be sent again.
const REQUESTS_A_ROUND: usize = 2;

/// Which point it is: its emission, and its place in body order.
pub type Mark = (u64, u32);

/// A request, the points in it, and what has become of it so far.
#[derive(Clone, Debug)]
pub struct Batch {
    /// What is sent.
    pub request: Request,
    /// The points, in the request's order.
    pub marks: Vec<Mark>,
    /// Of those, samples and histograms: what a store counts.
    pub samples: u64,
    /// They are older than what was sent of their series.
    pub late: bool,
    /// The store may have it already.
    pub again: bool,
    /// What came of trying zstd.
    pub zstd: Zstd,
    /// How often it was sent.
    pub attempts: u32,
    /// Whose samples it holds, as the store is told; empty: it is not.
    pub tenant: Arc<str>,
    packed: Option<(Packing, Bytes)>,
}

/// Whether a batch may be sent as zstd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Zstd {
    /// As the sink is set.
    #[default]
    Open,
    /// It was refused so, in these words; snappy will tell what the reason was.
    Refused(String),
    /// It was refused as snappy, too.
    NoMatter,
}

impl Batch {
    /// As it goes over the wire.
    pub fn parcel(&mut self, packing: Packing) -> Parcel {
        let packing = if self.zstd == Zstd::Open { packing } else { Packing::Snappy };
        let known = self.packed.take().filter(|(known, _)| *known == packing);
        let (packing, body) = known.unwrap_or_else(|| packed(packing, &self.request));
        self.packed = Some((packing, body.clone()));
        Parcel { body, packing, attempt: self.attempts, tenant: Arc::clone(&self.tenant) }
    }

    /// How it was packed when it was sent last.
    pub fn sent_as(&self) -> Option<Packing> {
        self.packed.as_ref().map(|(packing, _)| *packing)
    }

    /// Two halves of it.
    pub fn halves(self) -> (Batch, Batch) {
        let count = self.marks.len() / 2;
        let mut marks = self.marks;
        let others = marks.split_off(count);
        let (first, second) = self.request.cut(count);
        let half = |request: Request, marks: Vec<Mark>| Batch {
            samples: marks.len() as u64,
            request,
            marks,
            late: self.late,
            again: self.again,
            zstd: self.zstd.clone(),
            attempts: 0,
            tenant: Arc::clone(&self.tenant),
            packed: None,
        };
        (half(first, marks), half(second, others))
    }
}

/// A packed body, and how it is packed: as wanted, or as snappy where zstd fails (it does where there is no memory). Never an empty body, which a store
/// may take for a request without samples.
pub fn packed(packing: Packing, request: &Request) -> (Packing, Bytes) {
    let raw = request.body();
    if packing == Packing::Zstd
        && let Ok(body) = pack_zstd(&raw)
    {
        return (Packing::Zstd, body.into());
    }
    let mut body = Vec::new();
    pack_snappy(&raw, &mut body);
    (Packing::Snappy, body.into())
}

/// A request that is being filled.
#[derive(Debug)]
struct Open {
    outgoing: Outgoing,
    marks: Vec<Mark>,
    samples: u64,
}

/// What goes over one connection.
#[derive(Debug)]
struct Filling {
    /// One for each tenant, where the store is to know of tenants.
    open: Vec<OfTenant>,
    /// The one that took something last.
    last: usize,
    /// In order, and late.
    full: [VecDeque<Batch>; 2],
}

/// What is begun of a tenant.
#[derive(Debug)]
struct OfTenant {
    tenant: Arc<str>,
    /// In order, and late.
    open: [Open; 2],
}

impl Filling {
    fn of(&mut self, tenant: &str, protocol: Protocol) -> &mut OfTenant {
        let same = |one: &OfTenant| *one.tenant == *tenant;
        if !self.open.get(self.last).is_some_and(same) {
            self.last = self.open.iter().position(same).unwrap_or_else(|| {
                let open = || Open { outgoing: Outgoing::new(protocol), marks: Vec::new(), samples: 0 };
                self.open.push(OfTenant { tenant: tenant.into(), open: [open(), open()] });
                self.open.len() - 1
            });
        }
        &mut self.open[self.last]
    }
}

/// Some emissions.
#[derive(Debug)]
pub struct Round {
    /// The last emission in it.
    pub upto: u64,
    /// What becomes of its samples.
    pub tally: Tally,
    /// Bytes of its requests, unpacked.
    pub bytes: u64,
    /// Requests for each connection, in order.
    pub queues: Vec<VecDeque<Batch>>,
    /// Rows for those who read along.
    pub tapped: Vec<Arc<[u8]>>,
    /// Rows that they do not get to see.
    pub untapped: u64,
    /// Newer samples of its series may be in the store already: they went ahead.
    pub behind: bool,
    filling: Vec<Filling>,
    settings: Arc<StoreSettings>,
}

impl Round {
    /// Nothing in it yet, after this emission.
    pub fn new(settings: &Arc<StoreSettings>, after: u64) -> Round {
        let filling = || Filling { open: Vec::new(), last: 0, full: [VecDeque::new(), VecDeque::new()] };
        Round {
            upto: after,
            tally: Tally::default(),
            bytes: 0,
            queues: Vec::new(),
            tapped: Vec::new(),
            untapped: 0,
            behind: false,
            filling: (0..settings.connections).map(|_| filling()).collect(),
            settings: Arc::clone(settings),
        }
    }

    /// Adds a point, unless it is one of the dead. Whether it goes out.
    pub fn take(&mut self, picked: &Picked<'_, '_>, emission: u64, dead: &BTreeSet<Mark>) -> bool {
        let mark = (emission, picked.item);
        if !dead.is_empty() && dead.contains(&mark) {
            self.tally.dead += 1;
            return false;
        }
        let lane = (picked.series % self.filling.len() as u64) as usize;
        let filling = &mut self.filling[lane];
        let late = usize::from(picked.late);
        let OfTenant { tenant, open } = filling.of(self.settings.tenant_of(picked.tenant), self.settings.protocol);
        let open = &mut open[late];
        let before = open.outgoing.bytes();
        match open.outgoing.push(picked) {
            Pushed::Own => {}
            // Whatever becomes of its sample becomes of it.
            Pushed::Along => {
                self.tally.delivered += 1;
                return true;
            }
            Pushed::No => {
                self.tally.filtered += 1;
                return false;
            }
        }
        self.tally.delivered += 1;
        self.bytes += (open.outgoing.bytes() - before) as u64;
        open.marks.push(mark);
        open.samples += u64::from(picked.point.kind != Kind::Exemplar);
        if open.marks.len() >= self.settings.samples_per_request || open.outgoing.bytes() >= BYTES_A_REQUEST {
            let batch = open.close(tenant, picked.late);
            filling.full[late].push_back(batch);
        }
        true
    }

    /// Whether it takes no further emission.
    pub fn is_full(&self) -> bool {
        let most = (self.filling.len() * REQUESTS_A_ROUND).saturating_mul(self.settings.samples_per_request) as u64;
        self.tally.delivered >= most || self.bytes >= BYTES_A_ROUND
    }

    /// Nothing comes any more. `doubtful`: what was emitted up to there may be in the store already.
    pub fn close(&mut self, doubtful: u64) {
        for Filling { open, full, .. } in &mut self.filling {
            let mut queue = VecDeque::new();
            for (late, full) in full.iter_mut().enumerate() {
                queue.append(full);
                for OfTenant { tenant, open } in open.iter_mut() {
                    if !open[late].marks.is_empty() {
                        queue.push_back(open[late].close(tenant, late == 1));
                    }
                }
            }
            for batch in &mut queue {
                batch.again = batch.marks.first().is_some_and(|(emission, _)| *emission <= doubtful);
            }
            self.queues.push(queue);
        }
        self.filling.clear();
    }
}

impl Open {
    fn close(&mut self, tenant: &Arc<str>, late: bool) -> Batch {
        Batch {
            request: self.outgoing.finish(),
            marks: std::mem::take(&mut self.marks),
            samples: std::mem::take(&mut self.samples),
            late,
            again: false,
            zstd: Zstd::Open,
            attempts: 0,
            tenant: Arc::clone(tenant),
            packed: None,
        }
    }
}

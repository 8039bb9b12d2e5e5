//! Remote write comes in here: head, body, walk, digest, offer, answer, one request after the other.
//!
//! A request costs in this order: nothing, before its head is right; a claim on memory, while its body comes; a desk, while it is read; and
//! a wait for the shard's majority. What is refused is refused as early as its reason is known and counted under it; what the sender
//! is told is decided in one place ([`answer`]). Ingest decides nothing about leaders and standbys: both are offered alike.

pub mod answer;
pub mod census;
pub mod desk;
pub mod head;
pub mod identity;
pub mod lanes;
pub mod metrics;
pub mod offenders;
mod rooms;
pub mod senders;
pub mod tap;
pub mod target;
mod tenants;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::task::Poll;
use std::time::Duration;

use hyper::Method;
use hyper::StatusCode;
use hyper::body::Body as _;
use xxhash_rust::xxh3::xxh3_64;

use crate::admission::Budget;
use crate::admission::Claim;
use crate::clock;
use crate::config::groups::Groups;
use crate::config::limits::Limits;
use crate::dedup::detect;
use crate::ingest::answer::Answer;
use crate::ingest::answer::Context;
use crate::ingest::answer::Outcome;
use crate::ingest::answer::Unable;
use crate::ingest::census::Census;
use crate::ingest::desk::Decoded;
use crate::ingest::desk::Desks;
use crate::ingest::desk::Job;
use crate::ingest::desk::Parcel;
use crate::ingest::desk::Unreadable;
use crate::ingest::head::Hint;
use crate::ingest::lanes::Door;
use crate::ingest::lanes::Refusal;
use crate::ingest::lanes::Written;
use crate::ingest::metrics::Metrics;
use crate::ingest::rooms::Rooms;
use crate::ingest::senders::Refused;
use crate::ingest::senders::Seen;
use crate::ingest::senders::Senders;
use crate::ingest::tap::Came;
use crate::ingest::tap::Tap;
use crate::ingest::target::Target;
use crate::model::ShardId;
use crate::node::group_limits;
use crate::node::offer::Offer;
use crate::node::offer::OfferError;
use crate::node::offer::Struck;
use crate::relabel::counters::Asked;
use crate::serve;
use crate::serve::body::Pace;
use crate::serve::body::ReadError;
use crate::telemetry::logs::Seldom;
use crate::wire::pack::Packing;
use crate::wire::remote_write::Protocol;

/// A body that comes slowly is given this much before its speed counts.
const GRACE: Duration = Duration::from_secs(10);
/// The connection over which the node's own samples come: none.
const OWN: u64 = u64::MAX;
/// One line about one thing in so long.
const REPEAT: Duration = Duration::from_secs(600);

/// Takes remote write.
pub struct Ingest<T> {
    target: T,
    /// Replaced as a whole on reload; held only to take a copy of the pointer.
    rules: RwLock<Arc<Rules>>,
    budget: Budget,
    /// Bytes under way of each group.
    rooms: Rooms,
    desks: Arc<Desks>,
    metrics: Metrics,
    senders: Senders,
    tap: Tap,
    seldom: Seldom,
    /// Whether requests of this time show their series for comparison with other groups'.
    shows: fn(i64) -> bool,
}

struct Rules {
    limits: Limits,
    door: Arc<Door>,
}

impl Rules {
    fn new(groups: &Groups, limits: &Limits, counters: &Asked) -> Arc<Rules> {
        Arc::new(Rules { limits: limits.clone(), door: Arc::new(Door::new(groups, limits, counters)) })
    }

    /// Bytes that the group may have under way.
    fn room_of(&self, group: &str) -> u64 {
        let usual = self.limits.per_group;
        self.door.groups.of(group).map_or(usual, |special| usual.with(&special.limits)).in_flight_bytes
    }
}

/// What is known of a request apart from its body.
struct Head {
    protocol: Protocol,
    packing: Packing,
    hint: Hint,
    agent: String,
    peer: serve::Peer,
    retries: u32,
    /// A hash of the body as it came.
    body: u64,
}

impl<T: Target> Ingest<T> {
    /// Ready to take requests. `counters`: of which series the shards are told values. `desks`: how many requests are read at the same time.
    pub fn new(target: T, groups: &Groups, limits: &Limits, counters: &Asked, desks: usize) -> Ingest<T> {
        let seed = target.hash_seed();
        Ingest {
            target,
            rules: RwLock::new(Rules::new(groups, limits, counters)),
            budget: Budget::new(limits.in_flight_bytes),
            rooms: Rooms::default(),
            desks: Arc::new(Desks::new(desks, seed)),
            metrics: Metrics::default(),
            senders: Senders::default(),
            tap: Tap::default(),
            seldom: Seldom::every(REPEAT),
            shows: identity::now_and_then,
        }
    }

    /// All requests show their series: for tests that cannot wait for the minute.
    #[cfg(test)]
    pub fn show_always(&mut self) {
        self.shows = |_| true;
    }

    /// Takes new rules; requests under way end by the old ones.
    pub fn reload(&self, groups: &Groups, limits: &Limits, counters: &Asked) {
        self.budget.set_limit(limits.in_flight_bytes);
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Rules::new(groups, limits, counters);
    }

    /// The counters, to be registered.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Bytes under way.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Which series groups have, by sample.
    pub fn census(&self) -> &Census {
        self.desks.census()
    }

    /// Who reads along.
    pub fn tap(&self) -> &Tap {
        &self.tap
    }

    /// Who sends.
    pub fn senders(&self) -> &Senders {
        &self.senders
    }

    /// A connection is gone. Whoever has no other one left may have died: the next silence of theirs counts sooner. Not where this side closed it
    /// (`ours`): then the sender had no choice. Says who is doubted: group and replica.
    pub fn gone(&self, connection: u64, ours: bool) -> Vec<(String, String)> {
        let doubted: Vec<_> = self.senders.gone(connection).into_iter().filter(|_| !ours).collect();
        for (group, replica) in &doubted {
            self.target.doubt(group, replica, detect::Hint::Closed);
        }
        doubted
    }

    /// Takes one request whose path was found to be ours.
    pub async fn take(&self, request: serve::Request, peer: serve::Peer, hint: Hint) -> serve::Response {
        let started = clock::now();
        let retries = head::retries(request.headers());
        // A type that cannot be read is told so without the counts of 2.0: it is not known to be 2.0.
        let protocol = head::protocol(request.headers()).ok();
        let agent = request.headers().get(hyper::header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default().to_string();
        let (address, connection) = (peer.address.ip(), peer.connection);
        let outcome = self.outcome(request, (peer, &agent, retries), hint).await;
        let answer = answer::answer(&outcome, Context { protocol, retries, entropy: fastrand::u64(..) });
        if let Outcome::Busy(unable) | Outcome::Read { unable: Some(unable), .. } = &outcome {
            self.metrics.unable(*unable);
        }
        if answer.status >= 400 {
            let text = answer.text.lines().next().unwrap_or_default();
            self.senders.told(Refused { address, connection, agent: &agent, now_ms: clock::wall_ms(), status: answer.status, text });
        }
        self.metrics.answered(protocol, answer.status, retries, clock::now().duration_since(started));
        response(answer)
    }

    /// Takes the node's own samples: packed 2.0, of a group that they do not name themselves, of no replica. An error: what a sender would be told.
    pub async fn take_own(&self, packed: bytes::Bytes, group: &str) -> Result<(), String> {
        self.take_own_of(packed, group, None).await
    }

    /// The same of a tenant's group.
    pub async fn take_own_of(&self, packed: bytes::Bytes, group: &str, tenant: Option<&str>) -> Result<(), String> {
        let rules = Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner));
        let claim = self.budget.claim(packed.len() as u64).ok_or("in_flight_bytes")?;
        let hint = Hint { group: Some(group.to_owned()), replica: Some(String::new()), tenant: tenant.map(str::to_owned) };
        let peer = serve::Peer { address: ([127, 0, 0, 1], 0).into(), connection: OWN, beyond_bound: false };
        let agent = concat!("sluice/", env!("CARGO_PKG_VERSION")).to_owned();
        let body = xxh3_64(&packed);
        let head = Head { protocol: Protocol::V2, packing: Packing::Snappy, hint, agent, peer, retries: 0, body };
        let outcome = self.decode_and_offer(&head, packed, claim, &rules).await;
        let answer = answer::answer(&outcome, Context { protocol: None, retries: 0, entropy: 0 });
        if answer.status < 300 { Ok(()) } else { Err(answer.text) }
    }

    async fn outcome(&self, request: serve::Request, (peer, agent, retries): (serve::Peer, &str, u32), mut hint: Hint) -> Outcome {
        let rules = Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner));
        let claims = tenants::claims(request.headers(), request.extensions(), &rules.door.groups.tenant);
        if head::is_handshake(request.method(), request.body().is_end_stream(), request.uri().query()) {
            return Outcome::Handshake;
        }
        let known = match (request.method(), head::protocol(request.headers()), head::packing(request.headers())) {
            (&Method::POST, Ok(protocol), Ok(packing)) => Ok((protocol, packing)),
            (&Method::POST, Err(unknown), _) => Err(Outcome::ContentType(unknown.0)),
            (&Method::POST, _, Err(unknown)) => Err(Outcome::Encoding(unknown.0)),
            _ => Err(Outcome::Method),
        };
        let mut body = request.into_body();
        let pace = Pace { bytes_per_second: rules.limits.body_bytes_per_second, grace: GRACE };
        let known =
            known.and_then(|known| tenants::settle(&mut hint, claims, &rules.door.groups.tenant).map(|()| known).map_err(Outcome::Tenant));
        let known = known.and_then(|known| if peer.beyond_bound { Err(Outcome::Busy(Unable::Connections)) } else { Ok(known) });
        let (protocol, packing) = match known {
            Ok(known) => known,
            Err(outcome) => {
                serve::body::discard(body, rules.limits.packed_bytes, pace).await;
                return outcome;
            }
        };
        let mut head = Head { protocol, packing, hint, agent: agent.to_owned(), peer, retries, body: 0 };
        let Some(mut claim) = self.budget.claim(0) else { return Outcome::Busy(Unable::InFlight) };
        let packed = match serve::body::read(&mut body, rules.limits.packed_bytes, pace, &mut |more| claim.grow(more as u64)).await {
            Ok(packed) => packed,
            Err(ReadError::TooLarge { limit }) => return Outcome::PackedTooLarge { limit },
            Err(ReadError::Slow { .. }) => return Outcome::Slow,
            Err(ReadError::Broken) => return Outcome::Broken,
            Err(ReadError::NoRoom) => {
                serve::body::discard(body, rules.limits.packed_bytes, pace).await;
                return Outcome::Busy(Unable::InFlight);
            }
        };
        head.body = xxh3_64(&packed);
        self.decode_and_offer(&head, packed, claim, &rules).await
    }

    async fn decode_and_offer(&self, head: &Head, packed: bytes::Bytes, mut claim: Claim, rules: &Rules) -> Outcome {
        // Twice, because the settings may change between the digest and the shard; what the first round committed is a repeat then.
        for _ in 0..2 {
            let now_ms = clock::wall_ms();
            let job = Job {
                packed: packed.clone(),
                packing: head.packing,
                protocol: head.protocol,
                hint: head.hint.clone(),
                now_ms,
                bare: (self.shows)(now_ms),
                unpacked_bytes: rules.limits.unpacked_bytes,
                tapped: self.tap.wanted(),
            };
            self.metrics.waits(1);
            let decoded = self.desks.decode(job, Arc::clone(&rules.door)).await;
            self.metrics.waits(-1);
            let decoded = match decoded {
                Ok(decoded) => decoded,
                Err(Unreadable::TooLarge(why)) => return Outcome::TooLarge(why),
                Err(Unreadable::Undecodable(why)) => return Outcome::Undecodable(why),
            };
            self.metrics.decoded(packed.len(), decoded.unpacked, &decoded.totals, decoded.groups.len(), decoded.took);
            match self.offer(head, decoded, &mut claim, rules).await {
                Outcome::Read { unable: Some(Unable::Settings), .. } => {}
                outcome => return outcome,
            }
        }
        Outcome::Busy(Unable::Settings)
    }

    async fn offer(&self, head: &Head, decoded: Decoded, claim: &mut Claim, rules: &Rules) -> Outcome {
        let Decoded { parcels, nothing_good, groups, mut refused, .. } = decoded;
        nothing_good.iter().for_each(|parcel| self.tap.show(Came::of(parcel, head.protocol), "refused"));
        let whole = parcels.len() == 1;
        let (mut lanes, mut shown) = (Vec::with_capacity(parcels.len()), Vec::new());
        let mut offers: Vec<Soon<'_, Result<(), OfferError>>> = Vec::with_capacity(parcels.len());
        let mut unable = None;
        for parcel in parcels {
            let came = if self.tap.wanted() { Came::of(&parcel, head.protocol) } else { None };
            let shard = match self.shard_of(&parcel, rules).await {
                Ok(shard) => shard,
                Err(NewGroup::Full) => {
                    self.tap.show(came, Refusal::TooManyGroups.word());
                    let at = groups.iter().position(|group| *group == parcel.lane.group).unwrap_or(0);
                    refused.count(Refusal::TooManyGroups, at, parcel.lane.good.total());
                    refused.show(&[], || {
                        format!("group {:?} is new and limits.groups ({}) are there", parcel.lane.group, rules.limits.groups)
                    });
                    continue;
                }
                Err(NewGroup::Unable(reason)) => {
                    self.tap.show(came, reason.word());
                    unable = Some(reason);
                    continue;
                }
            };
            let bytes = (parcel.body.len() + parcel.digest.len()) as u64;
            let Some(room) = self.rooms.claim(&parcel.lane.group, bytes, rules.room_of(&parcel.lane.group)) else {
                self.metrics.limited(Unable::GroupInFlight, &parcel.lane.group);
                self.tap.show(came, Unable::GroupInFlight.word());
                unable = Some(Unable::GroupInFlight);
                continue;
            };
            let settings = self.target.settings_version(shard);
            // The digest lives as long as the body, and is not small beside it.
            claim.grow(parcel.digest.len() as u64);
            let held = if whole { claim.bytes() } else { bytes };
            let claim: Option<Box<dyn Send + Sync>> = Some(Box::new((claim.split(held), room)));
            lanes.push(parcel.lane.clone());
            shown.push(came);
            let strip = rules.door.identifier.strip().to_vec();
            offers.push(Box::pin(self.target.offer(offer_of(parcel, head.protocol, strip, settings, claim))));
        }
        let answers = all(offers).await;
        let (mut written, mut too_large) = (Written::default(), None);
        for ((lane, came), answer) in lanes.iter_mut().zip(shown).zip(answers) {
            let told = match answer.as_ref().err().map(unable_of) {
                Some(_) if matches!(answer, Err(OfferError::NewSeries { .. })) => "taken",
                Some(reason) => reason.word(),
                None => "taken",
            };
            self.tap.show(came, told);
            match answer {
                Ok(()) => {
                    self.metrics.accepted(lane.good);
                    if let Some(missing) = lane.missing {
                        self.metrics.unidentified(missing, lane.good.total());
                    }
                }
                Err(OfferError::TooLarge { bytes, limit }) => {
                    too_large = Some(format!("{bytes} bytes of one replica; at most {limit} are written at once"));
                    lane.good = Written::default();
                }
                Err(OfferError::NewSeries { struck, series, limit }) => self.strike(lane, struck, (series, limit), (&groups, &mut refused)),
                Err(error) => {
                    let reason = unable_of(&error);
                    if matches!(reason, Unable::GroupSamples | Unable::GroupNewSeries) {
                        self.metrics.limited(reason, &lane.group);
                    }
                    unable = Some(reason);
                    lane.good = Written::default();
                }
            }
            written = written.plus(lane.good);
        }
        self.note(head, &lanes, &groups, &refused);
        match too_large {
            Some(why) if unable.is_none() => Outcome::TooLarge(why),
            _ => Outcome::Read { written, refused, unable },
        }
    }

    /// The shard's leader has struck samples of new series.
    fn strike(
        &self,
        lane: &mut lanes::Lane,
        struck: Struck,
        (series, limit): (u64, u64),
        (groups, refused): (&[String], &mut offenders::Offenders),
    ) {
        let (before, good) = (lane.good.total(), lane.good.without(struck));
        self.metrics.accepted(good);
        let at = groups.iter().position(|group| *group == lane.group).unwrap_or(0);
        refused.count(Refusal::TooManySeries, at, before - good.total());
        refused.show(&[], || full(&lane.group, series, limit));
        (lane.refused, lane.good) = (lane.refused + before - good.total(), good);
    }

    /// The group's shard; a new group is given one, as long as there may be more groups.
    async fn shard_of(&self, parcel: &Parcel, rules: &Rules) -> Result<ShardId, NewGroup> {
        if let Some(shard) = self.target.group(&parcel.lane.group) {
            return Ok(shard);
        }
        if self.target.known_groups() >= rules.limits.groups {
            return Err(NewGroup::Full);
        }
        let assigned = self.target.assign(&parcel.lane.group).await;
        match &assigned {
            Ok(shard) => tracing::info!(group = %parcel.lane.group, shard = shard.0, "a new group was seen and given a shard"),
            Err(error) => tracing::debug!(%error, group = %parcel.lane.group, "a new group got no shard yet"),
        }
        assigned.map_err(|_| NewGroup::Unable(Unable::NoLeader))
    }

    /// Counts, remembers and says what must not pass silently.
    fn note(&self, head: &Head, lanes: &[lanes::Lane], groups: &[String], refused: &offenders::Offenders) {
        let (now, now_ms) = (clock::now(), clock::wall_ms());
        for (refusal, lane, points) in &refused.counts {
            let group = groups.get(*lane).map_or(crate::model::NO_GROUP, String::as_str);
            self.metrics.refused(*refusal, group, *points);
            let thing = format!("{}/{group}", refusal.word());
            if let Some(held_back) = self.seldom.speak(&thing, now) {
                let first = refused.shown.lines().next().unwrap_or_default();
                tracing::warn!(reason = refusal.word(), group, points, first, held_back, "points were refused; the sender was told");
            }
        }
        for lane in lanes {
            let others = self.senders.saw(Seen {
                group: &lane.group,
                replica: &lane.replica,
                address: head.peer.address.ip(),
                connection: head.peer.connection,
                protocol: head.protocol,
                agent: &head.agent,
                body: head.body,
                retry: head.retries > 0,
                now_ms,
                taken: lane.good.total(),
                newest: (lane.good.total() > 0).then_some(lane.newest),
                refused: lane.refused,
                missing: lane.missing.map(identity::Unidentified::word),
            });
            if let Some(others) = others {
                self.metrics.new_name();
                let others = others.join(", ");
                tracing::warn!(group = %lane.group, replica = %lane.replica, others, "a third replica name in a group: does it change at each restart?");
            }
            if let Some(missing) = lane.missing
                && let Some(held_back) = self.seldom.speak(&format!("{}/{}", missing.word(), lane.group), now)
            {
                let sender = head.peer.address.ip();
                let remedy = "set external_labels (docs/senders.md), or name them in the URL: ?group=NAME&replica=NAME";
                tracing::warn!(missing = missing.word(), group = %lane.group, %sender, held_back, remedy, "series do not say whose they are: they pass without deduplication");
            }
        }
    }
}

fn full(group: &str, series: u64, limit: u64) -> String {
    format!(
        "group {group:?} has {series} series and {limit} are taken at most (limits.per_group.series, or of this group alone in \
         groups.overrides): samples of new series are refused, those of known ones are taken"
    )
}

/// Something on its way.
type Soon<'a, R> = Pin<Box<dyn Future<Output = R> + Send + 'a>>;

enum NewGroup {
    Full,
    Unable(Unable),
}

fn offer_of(parcel: Parcel, protocol: Protocol, strip: Vec<String>, settings: u64, claim: Option<Box<dyn Send + Sync>>) -> Offer {
    Offer {
        group: parcel.lane.group,
        replica: parcel.lane.replica,
        protocol,
        packing: parcel.packing,
        strip,
        settings,
        digest: parcel.digest,
        body: parcel.body,
        unpacked: None,
        bare: parcel.lane.bare.into_hashes(),
        claim,
    }
}

fn unable_of(error: &OfferError) -> Unable {
    match error {
        OfferError::Overloaded { reason: "sink_budget" } => Unable::SinkBudget,
        OfferError::Overloaded { reason: group_limits::SAMPLES } => Unable::GroupSamples,
        OfferError::Overloaded { reason: group_limits::NEW_SERIES } => Unable::GroupNewSeries,
        OfferError::Overloaded { .. } | OfferError::TooLarge { .. } | OfferError::NewSeries { .. } => Unable::Overloaded,
        OfferError::DiskFull => Unable::DiskFull,
        OfferError::Stopping => Unable::Stopping,
        OfferError::NotLeader { .. } | OfferError::Unknown | OfferError::Unassigned => Unable::NoLeader,
        OfferError::Settings { .. } => Unable::Settings,
    }
}

/// Waits for all of them at the same time: the entries of a mixed request share their syncs.
async fn all<R>(mut futures: Vec<Soon<'_, R>>) -> Vec<R> {
    let mut results: Vec<Option<R>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, result) in futures.iter_mut().zip(&mut results) {
            if result.is_none()
                && let Poll::Ready(value) = future.as_mut().poll(context)
            {
                *result = Some(value);
            }
        }
        if results.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}

fn response(answer: Answer) -> serve::Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = serve::answer(status, "text/plain; charset=utf-8", answer.text);
    if answer.status == 204 {
        response.headers_mut().remove(hyper::header::CONTENT_TYPE);
    }
    for (name, value) in answer.headers {
        if let Ok(value) = hyper::header::HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests;

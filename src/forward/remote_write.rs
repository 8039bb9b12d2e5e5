//! The remote-write sink: one worker thread for each shard of each sink ([`crate::forward::worker`]), and some connections of it to the store.
//!
//! At least once: a round of requests goes out, over all connections at the same time; what was not taken is sent again until it is; then the
//! position moves. Stores take equal samples twice without harm. What a store refuses for good is cut in halves until the offender stands alone,
//! and becomes a dead letter; what is wrong with the sink as a whole is no fault of the samples, and they wait.
//!
//! Deliberately absent: a queue of samples (the shard's log is it), and a guess about a request without an answer: it is sent again.

mod ahead;
mod flight;
pub mod lane;
pub mod letter;
pub mod login;
pub mod policy;
pub mod replay;
mod round;
pub mod settings;
#[cfg(test)]
mod tests;
pub mod trouble;

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::clock;
use crate::failpoint;
use crate::failpoint::Place;
use crate::forward::book::Book;
use crate::forward::book::Tally;
use crate::forward::format::Columns;
use crate::forward::remote_write::ahead::Ahead;
use crate::forward::remote_write::flight::Drained;
use crate::forward::remote_write::flight::Flight;
use crate::forward::remote_write::flight::To;
use crate::forward::remote_write::lane::Head;
use crate::forward::remote_write::lane::Lane;
use crate::forward::remote_write::lane::Parcel;
use crate::forward::remote_write::login::Credentials;
use crate::forward::remote_write::policy::Answer;
use crate::forward::remote_write::policy::Verdict;
use crate::forward::remote_write::round::Batch;
use crate::forward::remote_write::round::Mark;
use crate::forward::remote_write::round::Round;
use crate::forward::remote_write::round::Zstd;
use crate::forward::remote_write::settings::StoreSettings;
use crate::forward::remote_write::trouble::StoreTrouble;
use crate::forward::rows::Row;
use crate::forward::rows::RowEncoder;
use crate::forward::source::Cursor;
use crate::forward::source::Dead;
use crate::forward::tap::ROWS_A_COMMIT;
use crate::forward::trouble::Trouble;
use crate::forward::worker::Deliver;
use crate::forward::worker::Duty;
use crate::forward::worker::End;
use crate::forward::worker::body_gone;
use crate::forward::worker::log_end;
use crate::forward::worker::since;
use crate::shard::emission::Emission;
use crate::wire::histogram::Histogram;
use crate::wire::outgoing::Request;
use crate::wire::pack::Packing;

/// While requests are under way it is looked so often whether they still should be.
const LOOK: Duration = Duration::from_millis(100);
/// A request without samples is answered soon or not at all; nothing is looked at meanwhile.
const ASK: Duration = Duration::from_secs(4);
/// So many offenders one after the other, and nothing taken between: whatever it is, it is in nearly all of them, and to find each by itself costs two requests a sample.
const OFFENDERS_IN_A_ROW: usize = 32;
/// From then on so many that are refused together become dead letters together.
const TOGETHER: usize = 50;
/// A store that took something so shortly ago is one that takes samples: what it refuses is refused for what it is.
const GOOD_FOR: Duration = Duration::from_secs(10);

/// One shard of one sink.
pub(crate) struct Worker {
    settings: Arc<StoreSettings>,
    sink: String,
    duty: Duty,
    /// Samples that are dead letters, until the position has passed them.
    dead: BTreeSet<Mark>,
    refused: u64,
    repeats: u64,
    rows: RowEncoder,
    histogram: Histogram,
}

/// The way to the store, as long as a session lasts.
struct Way {
    lanes: Vec<Lane>,
    head: Arc<Head>,
    credentials: Credentials,
    packing: Packing,
    /// Made while the one before was under way.
    next: Option<Round>,
    /// When the store last took something.
    took: Option<Instant>,
    /// What was emitted up to there may be in the store already, by a session before this one.
    doubtful: u64,
    /// Of each connection: samples that were found to be offenders since it last had something taken.
    offenders: Vec<usize>,
    /// Attempts that failed since something was taken.
    failures: u32,
    /// Fresh samples go ahead of a backlog.
    ahead: Option<Ahead>,
}

/// Wait, and why.
struct Rest {
    trouble: StoreTrouble,
    after: Option<Duration>,
}

impl Deliver for Worker {
    fn duty(&mut self) -> &mut Duty {
        &mut self.duty
    }

    fn session(&mut self, cursor: Cursor) -> End {
        self.duty.connecting();
        self.duty.report.change(|view| view.epoch = cursor.epoch);
        let mut book = Book::new(&cursor);
        let position = self.duty.seen_of(cursor.epoch).unwrap_or(0).max(cursor.emission);
        if let Err(error) = book.inherit(position, self.duty.source.as_ref()) {
            return log_end(error);
        }
        let mut way = Way {
            lanes: (0..self.settings.connections).map(|_| Lane::default()).collect(),
            head: Arc::new(Head::new(&self.settings, None)),
            credentials: Credentials::default(),
            packing: self.settings.packing,
            next: None,
            took: None,
            doubtful: self.duty.source.standing().last_emission,
            offenders: vec![0; self.settings.connections],
            failures: 0,
            ahead: None,
        };
        self.duty.report.change(|view| view.ahead = 0);
        let end = loop {
            if let Err(end) = self.turn(&mut way, &mut book) {
                break end;
            }
        };
        self.duty.settle_last(&mut book, &self.sink);
        end
    }
}

impl Worker {
    /// Not running yet.
    pub fn new(settings: Arc<StoreSettings>, sink: &str, duty: Duty) -> Worker {
        Worker {
            settings,
            sink: sink.to_owned(),
            duty,
            dead: BTreeSet::new(),
            refused: 0,
            repeats: 0,
            rows: RowEncoder::new(Columns::default()),
            histogram: Histogram::default(),
        }
    }

    /// One round, if there is anything.
    fn turn(&mut self, way: &mut Way, book: &mut Book) -> Result<(), End> {
        self.duty.look_after(book, || None)?;
        let standing = self.duty.source.standing();
        if standing.last_emission <= book.position() {
            self.duty.well();
            self.duty.source.wait(&standing, Duration::from_millis(500));
            return Ok(());
        }
        self.look_ahead(way, book)?;
        if let Some(ahead) = way.ahead.take() {
            return self.turn_ahead(way, ahead, book);
        }
        let mut round = match way.next.take() {
            Some(round) => round,
            None => {
                let mut round = self.fill(book.position(), u64::MAX)?;
                round.close(way.doubtful);
                round
            }
        };
        let sent = self.send(way, &mut round, book);
        if matches!(sent, Err(End::Stopped)) {
            let samples = round.tally.delivered;
            self.duty.report.change(|view| {
                view.aborted = Some(format!(
                    "{samples} samples under way; they stay in the log, and those that the store has taken are sent once more at the next start"
                ));
            });
        }
        sent?;
        self.done(round, book);
        Ok(())
    }

    /// Takes emissions until there is enough for a round, or no more, or the last that is to be in it.
    fn fill(&mut self, after: u64, until: u64) -> Result<Round, End> {
        let mut round = Round::new(&self.settings, after);
        loop {
            let batch = self.duty.read(round.upto)?;
            if batch.is_empty() {
                return Ok(round);
            }
            for emission in batch {
                if emission.number > until {
                    return Ok(round);
                }
                self.take(&emission, &mut round)?;
                round.upto = emission.number;
                if round.is_full() {
                    return Ok(round);
                }
            }
        }
    }

    fn take(&mut self, emission: &Emission, round: &mut Round) -> Result<(), End> {
        let tapped = self.duty.tap.wanted();
        let Worker { duty, dead, rows, histogram, .. } = self;
        let there = duty
            .source
            .points(emission, &mut |picked| {
                if round.take(picked, emission.number, dead) && tapped {
                    show(picked, (&mut *rows, &mut *histogram), round);
                }
            })
            .map_err(log_end)?;
        round.tally.filtered += there.ok_or_else(|| body_gone(emission))?;
        Ok(())
    }

    /// Sends a round until all of it is taken.
    fn send(&mut self, way: &mut Way, round: &mut Round, book: &mut Book) -> Result<(), End> {
        while !self.push(way, round, (book, u64::MAX))? {}
        Ok(())
    }

    /// Sends what is left of a round, and rests where that is called for. Whether all of it is taken. Meanwhile the next round is made, of emissions up to `until`.
    fn push(&mut self, way: &mut Way, round: &mut Round, (book, until): (&mut Book, u64)) -> Result<bool, End> {
        if round.queues.iter().all(VecDeque::is_empty) {
            return Ok(true);
        }
        let mut rest = self.credentials(way);
        if rest.is_none() {
            let drained = self.attempt(way, round, (book, until))?;
            if drained.iter().any(|one| one.taken > 0) {
                way.took = Some(clock::now());
                way.failures = 0;
            }
            for (lane, one) in drained.into_iter().enumerate() {
                if one.taken > 0 {
                    way.offenders[lane] = 0;
                }
                rest = self.follow(way, round, (lane, one))?.or(rest);
            }
        }
        match rest {
            None => self.duty.goes_on(book, || None)?,
            Some(rest) => {
                way.failures += 1;
                self.rest(rest, way.failures);
                self.duty.look_after(book, || None)?;
            }
        }
        Ok(round.queues.iter().all(VecDeque::is_empty))
    }

    /// Who sluice is, by its file as of now.
    fn credentials(&self, way: &mut Way) -> Option<Rest> {
        let login = self.settings.login.as_ref()?;
        match way.credentials.header(login) {
            Ok((header, news)) => {
                if news {
                    way.head = Arc::new(Head::new(&self.settings, Some(header)));
                }
                None
            }
            Err(trouble) => Some(Rest { trouble, after: None }),
        }
    }

    /// Every connection sends what it has, until something is not taken; meanwhile the next round is made.
    fn attempt(&mut self, way: &mut Way, round: &mut Round, (book, until): (&mut Book, u64)) -> Result<Vec<Drained>, End> {
        let to = To { settings: Arc::clone(&self.settings), head: Arc::clone(&way.head), packing: way.packing };
        let mut flight = Flight::begin(&self.duty.runtime, &to, &mut way.lanes, &mut round.queues);
        // Fresh samples that go ahead are few, and what comes after them is the backlog, which is not theirs to fetch.
        let fetches = way.ahead.is_some() == round.behind && round.upto < until;
        if fetches && way.next.is_none() && self.duty.source.standing().last_emission > round.upto {
            let mut next = self.fill(round.upto, until)?;
            next.close(way.doubtful);
            way.next = Some(next);
        }
        loop {
            match flight.landed(&self.duty.runtime, LOOK) {
                Some(Ok(landed)) => {
                    (way.lanes, round.queues) = (landed.lanes, landed.queues);
                    return Ok(landed.drained);
                }
                Some(Err(detail)) => return Err(End::Trouble(Trouble::Broken { code: "panic".to_owned(), detail })),
                // What is under way is let go where it must be: the store may have it, and gets it again.
                None => self.duty.goes_on(book, || None)?,
            }
        }
    }

    /// What follows from one connection's sending.
    fn follow(&mut self, way: &mut Way, round: &mut Round, (lane, drained): (usize, Drained)) -> Result<Option<Rest>, End> {
        let Drained { requests, notes, stuck, .. } = drained;
        let again = matches!(stuck, Some(Verdict::Later(..)));
        let lost = matches!(stuck, Some(Verdict::Later(StoreTrouble::Unreachable { .. }, _)));
        self.duty.report.change(|view| {
            view.sums.messages += requests;
            view.client.retries += u64::from(again);
            view.client.errors += u64::from(lost);
        });
        for note in notes {
            if matches!(note, StoreTrouble::ZstdRefused { .. }) {
                way.packing = Packing::Snappy;
            }
            self.note(note);
        }
        match stuck {
            None | Some(Verdict::Taken(_)) => Ok(None),
            Some(Verdict::Later(trouble, after)) => {
                if matches!(trouble, StoreTrouble::NotLetIn { .. }) {
                    way.credentials.forget();
                }
                if let Some(batch) = round.queues[lane].front_mut() {
                    batch.again = true;
                }
                Ok(Some(Rest { trouble, after }))
            }
            Some(Verdict::Refused(answer)) => self.refused(way, round, (lane, answer)),
        }
    }

    /// Something in the first request of this connection was refused for good: finds out what, and sets it aside.
    fn refused(&mut self, way: &mut Way, round: &mut Round, (lane, answer): (usize, Answer)) -> Result<Option<Rest>, End> {
        let Some(mut batch) = round.queues[lane].pop_front() else { return Ok(None) };
        if batch.zstd == Zstd::Open && batch.sent_as() == Some(Packing::Zstd) && policy::may_be_packing(answer.status) {
            batch.zstd = Zstd::Refused(answer.text);
            round.queues[lane].push_front(batch);
            return Ok(None);
        }
        batch.zstd = Zstd::NoMatter;
        let many = way.offenders[lane] >= OFFENDERS_IN_A_ROW;
        if batch.marks.len() > if many { TOGETHER } else { 1 } {
            let (first, second) = batch.halves();
            round.queues[lane].push_front(second);
            round.queues[lane].push_front(first);
            return Ok(None);
        }
        if round.behind && policy::is_for_age(&answer.text) {
            // Newer ones of its series went ahead, and this store wants none that are older: they wait until somebody has told it to.
            round.queues[lane].push_front(batch);
            if let Some(ahead) = &mut way.ahead {
                ahead.hold();
            }
            let trouble = StoreTrouble::RefusesOlder { url: self.settings.url.clone(), status: answer.status, text: answer.text };
            self.duty.report.trouble(&Trouble::Store(trouble), clock::wall_ms());
            return Ok(None);
        }
        if batch.again && !batch.late && policy::is_repeat(&answer.text) {
            // Its series has one connection, so a newer sample of it went after this one had been answered.
            self.repeats += 1;
            self.note(StoreTrouble::RepeatsRefused { url: self.settings.url.clone(), samples: self.repeats, text: answer.text });
            return Ok(None);
        }
        if let Some(rest) = self.takes_nothing(way, lane, &batch.tenant) {
            round.queues[lane].push_front(batch);
            return Ok(Some(rest));
        }
        way.offenders[lane] += batch.marks.len();
        self.bury(batch, round, &answer)?;
        Ok(None)
    }

    /// Before a sample is blamed: a store that took nothing lately is asked with a request without samples. One that refuses even that
    /// has something against the sink.
    fn takes_nothing(&self, way: &mut Way, lane: usize, tenant: &Arc<str>) -> Option<Rest> {
        if way.took.is_some_and(|at| since(at) < GOOD_FOR) {
            return None;
        }
        let settings = &self.settings;
        let request = Request::empty(settings.protocol);
        let (packing, body) = round::packed(Packing::Snappy, &request);
        let parcel = Parcel { body, packing, attempt: 0, tenant: Arc::clone(tenant) };
        let to = To { settings: Arc::clone(settings), head: Arc::clone(&way.head), packing: Packing::Snappy };
        let ask = flight::one(&mut way.lanes[lane], &to, &parcel, 0);
        let verdict = self.duty.runtime.block_on(async { tokio::time::timeout(ASK, ask).await }).unwrap_or_else(|_| {
            let detail = format!("no answer within {} s to a request without samples", ASK.as_secs());
            Verdict::Later(StoreTrouble::Unreachable { url: settings.url.clone(), detail }, None)
        });
        match verdict {
            Verdict::Taken(_) => {
                way.took = Some(clock::now());
                None
            }
            Verdict::Later(trouble, after) => Some(Rest { trouble, after }),
            Verdict::Refused(Answer { status, text, .. }) => {
                Some(Rest { trouble: StoreTrouble::RefusesAll { url: settings.url.clone(), status, text }, after: None })
            }
        }
    }

    /// What is in this request is refused for good: mostly one sample.
    fn bury(&mut self, batch: Batch, round: &mut Round, answer: &Answer) -> Result<(), End> {
        let mut reason = format!("the store answered {} {}", answer.status, answer.text).trim_end().to_owned();
        let count = batch.marks.len();
        if count > 1 {
            reason.push_str(&format!(" (to {count} samples together, after many that it had refused one by one)"));
        }
        let (mut letters, mut left) = (Vec::new(), batch.request);
        for (emission, item) in &batch.marks {
            let (one, rest) = left.cut(1);
            left = rest;
            let payload = letter::write(&one, batch.late);
            let tenant = batch.tenant.to_string();
            letters.push(Dead { emission: *emission, item: *item, reason: reason.clone(), payload, tenant });
        }
        self.duty.bury_all(letters)?;
        failpoint::reach(Place::StoreBuried);
        self.dead.extend(batch.marks);
        round.tally.delivered -= count as u64;
        round.tally.dead += count as u64;
        self.refused += count as u64;
        self.note(StoreTrouble::SamplesRefused { url: self.settings.url.clone(), samples: self.refused, text: answer.text.clone() });
        Ok(())
    }

    fn note(&self, note: StoreTrouble) {
        self.duty.report.note(&Trouble::Store(note), clock::wall_ms());
    }

    /// Waits; says why unless it may well be over in a moment.
    fn rest(&mut self, rest: Rest, failures: u32) {
        let Rest { trouble, after } = rest;
        if failures > 1 || !trouble.passes() {
            self.duty.report.trouble(&Trouble::Store(trouble), clock::wall_ms());
        }
        let own = self.duty.next_rest();
        self.duty.rest_for(after.map_or(own, |after| after.max(own)));
    }

    /// All of a round is in the store.
    fn done(&mut self, round: Round, book: &mut Book) {
        failpoint::reach(Place::StoreTaken);
        self.arrive(round.upto, &round.tally, book);
        self.told(round);
        self.duty.well();
    }

    /// The position moves.
    fn arrive(&mut self, upto: u64, tally: &Tally, book: &mut Book) {
        book.advance(upto, tally);
        self.duty.seen = Some((book.epoch(), upto));
        self.dead = self.dead.split_off(&(upto + 1, 0));
        self.duty.report.change(|view| view.position = upto);
    }

    /// Whoever reads along or counts gets to know.
    fn told(&self, round: Round) {
        let Round { tally, bytes, tapped, untapped, .. } = round;
        if untapped > 0 {
            self.duty.tap.miss(untapped);
        }
        self.duty.tap.publish(tapped.into_iter());
        self.duty.report.change(|view| {
            view.sums.rows += tally.delivered;
            view.sums.filtered += tally.filtered;
            view.sums.dead += tally.dead;
            view.sums.bytes += bytes;
        });
    }
}

/// A row for whoever reads along.
fn show(picked: &crate::wire::body::Picked<'_, '_>, (rows, histogram): (&mut RowEncoder, &mut Histogram), round: &mut Round) {
    if round.tapped.len() >= ROWS_A_COMMIT {
        round.untapped += 1;
        return;
    }
    let mut text = Vec::new();
    if Row::of(picked, histogram).is_ok_and(|row| rows.encode(&row, &mut text)) {
        round.tapped.push(text.into());
    }
}

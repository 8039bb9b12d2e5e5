//! `catch_up: fresh_first`: after an outage new samples go ahead, and the backlog follows between them, so that dashboards are current at once.
//!
//! The position stays one number, that of the backlog; how far the fresh ones are is known to this process only. When the backlog has reached the place from which they
//! went ahead, the position takes one step to where they are. A node that ends before that sends them once more, with the backlog: at least once, as ever.
//!
//! Left out on purpose: an entry in the log for what went ahead (stores take equal samples without harm), and connections of their own: a round of either kind goes over
//! all connections, so a series keeps its one.

use std::time::Duration;
use std::time::Instant;

use crate::clock;
use crate::forward::book::Book;
use crate::forward::book::Tally;
use crate::forward::remote_write::Way;
use crate::forward::remote_write::Worker;
use crate::forward::remote_write::round::Round;
use crate::forward::worker::End;

/// Where the oldest that waits is older than this, fresh ones go ahead: below it all of it is a matter of a few rounds.
const BEHIND: i64 = 30_000;
/// So long the backlog rests after the store has refused it for its age.
const HELD: Duration = Duration::from_secs(15);

/// How far fresh samples have gone ahead.
#[derive(Debug)]
pub struct Ahead {
    /// The backlog ends here.
    pub from: u64,
    /// Everything after that and up to here is in the store.
    pub upto: u64,
    /// What became of it.
    pub tally: Tally,
    /// The backlog rests until then: the store does not take what is older.
    pub held: Option<Instant>,
    /// Emissions of the backlog of which some requests were not taken yet.
    pub begun: Option<Round>,
}

impl Ahead {
    /// The backlog rests.
    pub fn hold(&mut self) {
        self.held = Some(clock::now() + HELD);
    }

    fn holds(&self) -> bool {
        self.held.is_some_and(|until| clock::now() < until)
    }
}

impl Worker {
    /// Fresh samples go ahead from now on, if that is wanted and worth it.
    pub(super) fn look_ahead(&self, way: &mut Way, book: &Book) -> Result<(), End> {
        if way.ahead.is_some() || !self.settings.fresh_first {
            return Ok(());
        }
        let standing = self.duty.source.standing();
        let oldest = self.duty.read_one(book.position())?;
        if oldest.is_some_and(|oldest| clock::wall_ms() - oldest.at >= BEHIND) {
            let from = standing.last_emission;
            way.ahead = Some(Ahead { from, upto: from, tally: Tally::default(), held: None, begun: None });
        }
        Ok(())
    }

    /// A round of fresh samples if there are any, then one go at the backlog.
    pub(super) fn turn_ahead(&mut self, way: &mut Way, mut ahead: Ahead, book: &mut Book) -> Result<(), End> {
        let fresh = self.duty.source.standing().last_emission > ahead.upto;
        if fresh {
            let mut round = self.fill(ahead.upto, u64::MAX)?;
            round.close(way.doubtful);
            self.send(way, &mut round, book)?;
            ahead.upto = round.upto;
            ahead.tally.add(&round.tally);
            self.told(round);
            let samples = ahead.tally.samples();
            self.duty.report.change(|view| view.ahead = samples);
        }
        if ahead.holds() {
            if !fresh {
                let standing = self.duty.source.standing();
                self.duty.source.wait(&standing, Duration::from_millis(500));
            }
            way.ahead = Some(ahead);
            return Ok(());
        }
        let mut round = match ahead.begun.take().or_else(|| way.next.take()) {
            Some(round) => round,
            None => {
                let mut round = self.fill(book.position(), ahead.from)?;
                round.close(way.doubtful);
                round
            }
        };
        let until = ahead.from;
        way.ahead = Some(ahead);
        round.behind = true;
        let taken = self.push(way, &mut round, (book, until))?;
        let Some(mut ahead) = way.ahead.take() else { return Ok(()) };
        if !taken {
            ahead.begun = Some(round);
        } else {
            ahead.held = None;
            let upto = round.upto;
            self.done(round, book);
            if upto >= ahead.from {
                // Both have met.
                self.arrive(ahead.upto, &ahead.tally, book);
                self.duty.report.change(|view| view.ahead = 0);
                return Ok(());
            }
        }
        way.ahead = Some(ahead);
        Ok(())
    }
}

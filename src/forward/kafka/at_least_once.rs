//! The session of a sink with `delivery: at_least_once`: an idempotent producer, many emissions under way, the position follows the
//! delivery reports.
//!
//! Messages never span emissions and are cut the same way each time, so their headers (epoch, emission) and their order in a partition
//! let a reader tell a repeat. What was under way when a session ends is sent again by the next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::clock;
use crate::forward::book::Book;
use crate::forward::book::Tally;
use crate::forward::kafka::Worker;
use crate::forward::kafka::client::Link;
use crate::forward::kafka::outlet::Outlet;
use crate::forward::trouble;
use crate::forward::trouble::Trouble;
use crate::forward::worker::End;
use crate::forward::worker::since;
use crate::shard::emission::Emission;

/// Bytes of rows under way; a quarter of librdkafka's queue, so that it is never full.
const UNDER_WAY: u64 = 16 << 20;
/// Nothing taken for so long, with rows under way, is worth saying.
const SLOW: Duration = Duration::from_secs(5);

/// A session that makes way for another waits so long for what is under way.
const CLOSE: Duration = Duration::from_secs(10);

/// An emission under way.
struct Going {
    number: u64,
    /// Messages of it that Kafka has not taken yet.
    left: u64,
    messages: u64,
    bytes: u64,
    tally: Tally,
    /// Rows that went to the sink's own topic for want of another.
    aside: u64,
    tapped: Vec<Arc<[u8]>>,
}

/// All of them, in order.
#[derive(Default)]
struct Stream {
    going: VecDeque<Going>,
    bytes: u64,
    taken: Vec<usize>,
}

impl Worker {
    /// Delivers until something ends the session.
    pub(super) fn stream(&mut self, link: &Link, outlet: &mut Outlet, book: &mut Book) -> End {
        let mut stream = Stream::default();
        let mut sent = book.position();
        let mut asked = clock::now();
        let mut moved = clock::now();
        let mut closing = None;
        let end = loop {
            if self.take_reports(link, outlet, &mut stream, book) {
                moved = clock::now();
            }
            if let Some(refusal) = link.signals.refusal() {
                break self.refused(link, outlet, &refusal, None);
            }
            if let Err(end) = self.duty.look_after(book, || Some(link.signals.stats())) {
                break end;
            }
            if closing.is_none() && self.is_outdated(link, outlet, &mut asked) {
                closing = Some(clock::now());
            }
            // What is under way arrives first; if it does not, it is sent again.
            if closing.is_some_and(|at| stream.going.is_empty() || since(at) >= CLOSE) {
                break End::Again;
            }
            let standing = self.duty.source.standing();
            if closing.is_none() && standing.last_emission > sent && stream.bytes < UNDER_WAY {
                match self.send_some(link, outlet, &mut stream, &mut sent) {
                    Ok(()) => continue,
                    Err(end) => break end,
                }
            }
            if stream.going.is_empty() {
                self.duty.well();
                moved = clock::now();
                self.duty.source.wait(&standing, Duration::from_millis(500));
                link.producer.poll(Duration::ZERO);
            } else {
                link.producer.poll(Duration::from_millis(10));
                self.say_if_slow(link, moved);
            }
        };
        self.finish(link, (outlet, &mut stream), book, &end);
        end
    }

    /// Sends emissions until enough are under way.
    fn send_some(&mut self, link: &Link, outlet: &mut Outlet, stream: &mut Stream, sent: &mut u64) -> Result<(), End> {
        for emission in self.duty.read(*sent)? {
            self.send_one(link, outlet, stream, &emission)?;
            *sent = emission.number;
            if stream.bytes >= UNDER_WAY {
                break;
            }
        }
        link.producer.poll(Duration::ZERO);
        Ok(())
    }

    fn send_one(&mut self, link: &Link, outlet: &mut Outlet, stream: &mut Stream, emission: &Emission) -> Result<(), End> {
        let first = outlet.next_id();
        self.emit(link, outlet, emission)?;
        if let Err(unsent) = outlet.flush(link, &self.duty.control) {
            return Err(self.unsent(link, outlet, unsent));
        }
        let messages = (outlet.next_id() - first) as u64;
        if outlet.untapped > 0 {
            self.duty.tap.miss(std::mem::take(&mut outlet.untapped));
        }
        let going = Going {
            number: emission.number,
            left: messages,
            messages,
            bytes: std::mem::take(&mut outlet.bytes),
            tally: std::mem::take(&mut outlet.tally),
            aside: outlet.topics().take_aside(),
            tapped: std::mem::take(&mut outlet.tapped),
        };
        stream.bytes += going.bytes;
        stream.going.push_back(going);
        Ok(())
    }

    /// Moves the position over whatever is complete. Whether it moved.
    fn take_reports(&mut self, link: &Link, outlet: &mut Outlet, stream: &mut Stream, book: &mut Book) -> bool {
        link.signals.drain_taken(&mut stream.taken);
        let Stream { going, bytes, taken } = stream;
        for id in taken.iter() {
            let Some(note) = outlet.taken(*id) else { continue };
            if let Ok(place) = going.binary_search_by_key(&note.first_emission, |going| going.number) {
                going[place].left -= 1;
            }
        }
        let mut moved = false;
        while going.front().is_some_and(|first| first.left == 0) {
            let Some(done) = going.pop_front() else { break };
            *bytes -= done.bytes;
            book.advance(done.number, &done.tally);
            self.duty.seen = Some((book.epoch(), done.number));
            self.duty.tap.publish(done.tapped.into_iter());
            self.duty.report.change(|view| {
                view.position = done.number;
                view.sums.rows += done.tally.delivered;
                view.sums.filtered += done.tally.filtered;
                view.sums.dead += done.tally.dead;
                view.sums.bytes += done.bytes;
                view.sums.messages += done.messages;
                view.sums.aside += done.aside;
            });
            moved = true;
        }
        if moved {
            self.dead = self.dead.split_off(&(book.position() + 1, 0));
            link.signals.clear_error();
            self.duty.well();
        }
        moved
    }

    /// librdkafka sends again for ever; somebody should know.
    fn say_if_slow(&mut self, link: &Link, moved: Instant) {
        let still = since(moved);
        if still < SLOW {
            return;
        }
        let trouble = match link.signals.error() {
            Some((code, reason)) => trouble::of_error(code, &reason, None, &self.maker.identity.names(&self.maker.settings, 0)),
            None => Trouble::Slow { seconds: still.as_secs() },
        };
        self.duty.report.trouble(&trouble, clock::wall_ms());
    }

    /// The end of a session: what is under way may still arrive, within the grace of a stop; otherwise it is sent again.
    fn finish(&mut self, link: &Link, (outlet, stream): (&mut Outlet, &mut Stream), book: &mut Book, end: &End) {
        if matches!(end, End::Stopped | End::Paused) {
            let until = clock::now() + SLOW;
            while !stream.going.is_empty() && !self.duty.control.expired() && clock::now() < until {
                link.producer.poll(Duration::from_millis(10));
                self.take_reports(link, outlet, stream, book);
            }
        }
        if matches!(end, End::Stopped) && !stream.going.is_empty() {
            let samples: u64 = stream.going.iter().map(|going| going.tally.samples()).sum();
            self.duty.report.change(|view| {
                view.aborted =
                    Some(format!("{samples} samples under way; they stay in the log and may be in the topic twice after the next start"));
            });
        }
    }
}

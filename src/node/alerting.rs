//! The book of alerts, for those who read it; and kept from them while the shard changes it.
//!
//! Left out on purpose: what stands in the book (`alert::book`), and changing it (`Handle::propose`).

use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Duration;

use crate::alert::book::Book;
use crate::model::ShardId;
use crate::node::Handle;
use crate::node::lane::read;
use crate::node::worker::Worker;
use crate::shard::member::State;
use crate::shard::member::Turn;

impl Handle {
    /// As far as applied here. Nothing in it is copied; but as long as somebody holds it, what changes is.
    pub fn book(&self) -> Arc<Book> {
        self.shared.lane(ShardId::CONTROL).and_then(|lane| read(&lane.book).clone()).unwrap_or_default()
    }

    /// The same for a short look: it is not changed meanwhile, and the shard waits.
    pub fn with_book<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
        match self.shared.lane(ShardId::CONTROL) {
            Some(lane) => look(read(&lane.book).as_deref().unwrap_or(&Book::default())),
            None => look(&Book::default()),
        }
    }

    /// Whether somebody was known to lead the control shard within this time.
    pub fn control_led_within(&self, span: Duration) -> bool {
        self.shared.lane(ShardId::CONTROL).is_some_and(|lane| lane.led_within(span))
    }
}

impl Worker {
    /// What the replica has to do next. While entries are applied to the control shard nobody reads the book of alerts, and it is not copied for them.
    pub(super) fn advance(&mut self, turn: &mut Turn) -> Result<(), String> {
        if matches!(self.member.state, State::Data(_)) {
            return self.member.turn(turn);
        }
        let mut shown = self.lane.book.write().unwrap_or_else(PoisonError::into_inner);
        *shown = None;
        let done = self.member.turn(turn);
        if let State::Control(control) = &self.member.state {
            *shown = Some(Arc::clone(&control.book));
        }
        done
    }
}

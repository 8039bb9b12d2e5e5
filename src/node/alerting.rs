//! The book of alerts, for those who read it.
//!
//! Left out on purpose: what stands in the book (`alert::book`), and changing it (`Handle::propose`).

use std::sync::Arc;
use std::time::Duration;

use crate::alert::book::Book;
use crate::model::ShardId;
use crate::node::Handle;
use crate::node::lane::read;

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

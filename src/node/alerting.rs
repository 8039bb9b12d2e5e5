//! The book of alerts, for those who read it.
//!
//! Left out on purpose: what stands in the book (`alert::book`), and changing it (`Handle::propose`).

use std::sync::Arc;
use std::time::Duration;

use crate::alert::book::Book;
use crate::model::ShardId;
use crate::node::Handle;
use crate::node::lane::lock;

impl Handle {
    /// As far as applied here. Nothing in it is copied.
    pub fn book(&self) -> Arc<Book> {
        self.shared.lane(ShardId::CONTROL).map(|lane| Arc::clone(&lock(&lane.views).book)).unwrap_or_default()
    }

    /// Whether somebody was known to lead the control shard within this time.
    pub fn control_led_within(&self, span: Duration) -> bool {
        self.shared.lane(ShardId::CONTROL).is_some_and(|lane| lane.led_within(span))
    }
}

//! Reading along: what a sink has delivered, row by row, for people without a Kafka client.
//!
//! Rows are published after they are in Kafka for good, and only while somebody listens. A listener that is too slow misses rows, and the
//! misses are counted; the sink never waits for one.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use tokio::sync::broadcast;

/// Rows that a listener may be behind before it misses some (of 490 bytes: half a megabyte a sink).
const BEHIND_MAX: usize = 1024;
/// Rows published of one transaction; what a person can look at is far less.
pub const ROWS_A_COMMIT: usize = 512;

/// Where a sink's workers publish and listeners subscribe.
#[derive(Clone, Debug)]
pub struct Tap {
    rows: broadcast::Sender<Arc<[u8]>>,
    missed: Arc<AtomicU64>,
}

/// One listener.
#[derive(Debug)]
pub struct Listener {
    rows: broadcast::Receiver<Arc<[u8]>>,
    missed: Arc<AtomicU64>,
}

impl Default for Tap {
    fn default() -> Tap {
        Tap { rows: broadcast::channel(BEHIND_MAX).0, missed: Arc::default() }
    }
}

impl Tap {
    /// Rows delivered from now on.
    pub fn listen(&self) -> Listener {
        Listener { rows: self.rows.subscribe(), missed: Arc::clone(&self.missed) }
    }

    /// Whether anybody listens.
    pub fn wanted(&self) -> bool {
        self.rows.receiver_count() > 0
    }

    /// Rows that slow listeners missed.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// Counts rows that were delivered and not shown, because one transaction held more than [`ROWS_A_COMMIT`].
    pub(crate) fn miss(&self, rows: u64) {
        self.missed.fetch_add(rows, Ordering::Relaxed);
    }

    /// Shows rows to whoever listens.
    pub(crate) fn publish(&self, rows: impl Iterator<Item = Arc<[u8]>>) {
        for row in rows {
            // An error only says that nobody listens any more.
            let _ = self.rows.send(row);
        }
    }
}

impl Listener {
    /// The next row, without a line feed; `None` when the sink is gone.
    pub async fn next(&mut self) -> Option<Arc<[u8]>> {
        loop {
            match self.rows.recv().await {
                Ok(row) => return Some(row),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    self.missed.fetch_add(missed, Ordering::Relaxed);
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_listener_misses_rows_and_they_are_counted() {
        let tap = Tap::default();
        assert!(!tap.wanted());
        let mut listener = tap.listen();
        tap.publish((0..BEHIND_MAX + 10).map(|row| row.to_string().into_bytes().into()));
        assert_eq!(&*listener.next().await.unwrap(), b"10");
        assert_eq!(tap.missed(), 10);
        drop(listener);
        assert!(!tap.wanted());
    }
}

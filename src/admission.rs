//! Memory is claimed before it is used, and the claim travels with the bytes.
//!
//! A [`Budget`] never makes anybody wait: who gets no claim answers 503 at once, because a sender that holds its data for two hours
//! is the better queue. Dropping a [`Claim`], anywhere and for any reason, gives its bytes back.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// A number of bytes that may be held at the same time.
#[derive(Clone, Debug)]
pub struct Budget {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    limit: AtomicU64,
    held: AtomicU64,
    refused: AtomicU64,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Budget {
        Budget { state: Arc::new(State { limit: AtomicU64::new(limit), held: AtomicU64::new(0), refused: AtomicU64::new(0) }) }
    }

    /// Claims `bytes`, or nothing where they do not fit beside what is held.
    pub fn claim(&self, bytes: u64) -> Option<Claim> {
        if !self.take(bytes) {
            return None;
        }
        Some(Claim { state: Arc::clone(&self.state), bytes })
    }

    fn take(&self, bytes: u64) -> bool {
        let limit = self.state.limit.load(Ordering::Relaxed);
        let fits = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= limit);
        let taken = self.state.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if !taken {
            self.state.refused.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// Changes the limit; what is held stays held.
    pub fn set_limit(&self, limit: u64) {
        self.state.limit.store(limit, Ordering::Relaxed);
    }

    /// Bytes held now.
    pub fn held(&self) -> u64 {
        self.state.held.load(Ordering::Relaxed)
    }

    /// The most that may be held.
    pub fn limit(&self) -> u64 {
        self.state.limit.load(Ordering::Relaxed)
    }

    /// How many claims were refused so far.
    pub fn refused(&self) -> u64 {
        self.state.refused.load(Ordering::Relaxed)
    }
}

/// Bytes of a [`Budget`], held until dropped.
#[derive(Debug)]
pub struct Claim {
    state: Arc<State>,
    bytes: u64,
}

impl Claim {
    /// Claims `more` bytes on top. False where they do not fit; then nothing has changed.
    pub fn grow(&mut self, more: u64) -> bool {
        let grown = Budget { state: Arc::clone(&self.state) }.take(more);
        if grown {
            self.bytes += more;
        }
        grown
    }

    /// Gives back all but `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        let back = self.bytes.saturating_sub(bytes);
        self.state.held.fetch_sub(back, Ordering::Relaxed);
        self.bytes -= back;
    }

    /// Splits `bytes` (at most all) off into a claim of their own.
    pub fn split(&mut self, bytes: u64) -> Claim {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Claim { state: Arc::clone(&self.state), bytes }
    }

    /// Bytes held by this claim.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.state.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_what_is_dropped_comes_back() {
        let budget = Budget::new(100);
        let mut first = budget.claim(60).unwrap();
        assert!(budget.claim(41).is_none());
        assert!(!first.grow(41));
        assert!(first.grow(40));
        assert_eq!((budget.held(), budget.refused()), (100, 2));
        let part = first.split(30);
        drop(first);
        assert_eq!(budget.held(), 30);
        drop(part);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn a_claim_gives_back_what_it_does_not_need() {
        let budget = Budget::new(100);
        let mut claim = budget.claim(100).unwrap();
        claim.shrink_to(10);
        claim.shrink_to(50);
        assert_eq!((budget.held(), claim.bytes()), (10, 10));
    }
}

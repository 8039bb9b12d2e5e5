//! What HTTP/2 has to do beside an exchange (the connection's frames, a request's body), done by whoever waits for the answer: no task is started,
//! and when a probe is cut off, all of it is gone.
//!
//! The connection holds this executor and is held by it, which is why what hyper gets is weak.

use std::future::Future;
use std::future::poll_fn;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::task::Poll;

use hyper::rt::Executor;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Whoever does it.
#[derive(Default)]
pub struct Beside(Arc<Mutex<Vec<Work>>>);

/// Takes it from hyper.
#[derive(Clone)]
pub struct Hand(Weak<Mutex<Vec<Work>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Hand {
    fn execute(&self, work: F) {
        if let Some(given) = self.0.upgrade() {
            given.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(work));
        }
    }
}

impl Beside {
    /// For hyper.
    pub fn hand(&self) -> Hand {
        Hand(Arc::downgrade(&self.0))
    }

    /// A connection with all that it gives to do. Has no end: whoever drives it stops when the answer is there.
    pub async fn of(self, connection: impl Future) {
        let mut connection = pin!(connection);
        let (mut over, mut under_way) = (false, Vec::new());
        poll_fn(move |context| {
            over = over || connection.as_mut().poll(context).is_ready();
            loop {
                // Not held while it is done: it may give more to do.
                let given = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
                let more = !given.is_empty();
                under_way.extend(given);
                under_way.retain_mut(|work: &mut Work| work.as_mut().poll(context).is_pending());
                if !more {
                    return Poll::<()>::Pending;
                }
            }
        })
        .await;
    }
}

//! How long a connection may live. A sender keeps its connection for as long as it lasts, so a node that comes back behind a balancer would get nothing
//! until somebody else restarts; connections that end now and then are spread anew.
//!
//! None is cut: over HTTP/1.1 the next answer says `Connection: close`, over HTTP/2 the connection says that it takes no new requests (GOAWAY) and ends
//! with those under way. The age is drawn anew for each connection, up to a fifth longer or shorter, so that those of one moment do not end together.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use hyper::header::CONNECTION;
use hyper::header::HeaderValue;
use tokio::sync::Notify;

use crate::clock;
use crate::serve::Response;

/// The end of one connection, if this side wants it.
#[derive(Debug, Default)]
pub(super) struct Lifetime {
    /// `None`: it may last.
    ends: Option<Instant>,
    /// This side has asked for the end.
    ours: AtomicBool,
    asked: Notify,
}

impl Lifetime {
    /// About so long; 0: for ever. `chance` is 0..1.
    pub fn about(age: Duration, chance: f64) -> Lifetime {
        let ends = (!age.is_zero()).then(|| clock::now() + age.mul_f64(0.8 + 0.4 * chance));
        Lifetime { ends, ..Lifetime::default() }
    }

    /// Whether this side asked for the end: then it says nothing about the other one.
    pub fn is_ours(&self) -> bool {
        self.ours.load(Ordering::Relaxed)
    }

    /// An answer is ready: it says that the connection ends, if it shall.
    pub fn mark(&self, http2: bool, response: &mut Response) {
        let told = response.headers().get(CONNECTION).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
        let old = self.ends.is_some_and(|ends| clock::now() >= ends);
        if http2 {
            // There is no such header in HTTP/2.
            response.headers_mut().remove(CONNECTION);
        }
        if !told && !old {
            return;
        }
        self.ours.store(true, Ordering::Relaxed);
        if http2 {
            self.asked.notify_one();
        } else {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// HTTP/2: resolves when the connection shall end.
    pub async fn over(&self) {
        let old = async {
            match self.ends {
                Some(ends) => tokio::time::sleep(ends.saturating_duration_since(clock::now())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = old => {}
            () = self.asked.notified() => {}
        }
        self.ours.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_spread_by_a_fifth_and_zero_is_for_ever() {
        let about = |chance| Lifetime::about(Duration::from_secs(600), chance).ends.unwrap() - clock::now();
        let (short, long) = (about(0.0).as_secs_f64(), about(1.0).as_secs_f64());
        assert!((479.0..=480.0).contains(&short) && (719.0..=720.0).contains(&long), "{short} {long}");
        assert!(Lifetime::about(Duration::ZERO, 0.5).ends.is_none());
    }
}

//! A connection to a Prometheus over which nothing is ever said. Its host ends it in the moment in which the process dies, whatever it dies of: whoever holds one
//! need not wait for the next look.
//!
//! The end proves nothing (proxies end what is silent) and leads to a look, no further. It is TCP and no more also where the Prometheus speaks TLS, as nobody
//! shakes hands over it. Left out on purpose: what that look comes to (`prometheus`), and deaths of which no host tells (its power, its network): looks find these.

use std::future::Future;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::time::Duration;
use std::time::Instant;

use tokio::net::TcpStream;

use crate::clock;
use crate::probe::prometheus::Sight;
use crate::serve::ask::Place;

/// A line is replaced before anybody ends it for its silence: a Prometheus does after five minutes (`--web.read-timeout`), proxies mostly after one.
const RENEW: Duration = Duration::from_secs(30);
/// Somebody ended it although the Prometheus is well: it is of no use there, and each end costs a look.
const USELESS: Duration = Duration::from_secs(60);

type Opening = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// One to one Prometheus, or none.
#[derive(Default)]
pub struct Line {
    way: Way,
    /// It was ended since the last look.
    ended: bool,
    /// No other one before.
    not_before: Option<Instant>,
}

#[derive(Default)]
enum Way {
    #[default]
    None,
    Opening(Opening),
    Open(TcpStream, Instant),
}

impl Line {
    /// A look came to this: a line is kept while all is well.
    pub fn looked(&mut self, sight: &Sight, now: Instant, (place, within): (&Place, Duration)) {
        let ended = std::mem::take(&mut self.ended);
        if *sight == Sight::Refused {
            // Whoever listens there next is another process.
            *self = Line::default();
        }
        if *sight != Sight::Ready {
            return;
        }
        if ended {
            self.not_before = Some(now + USELESS);
        }
        if self.not_before.is_some_and(|not_before| now < not_before) {
            return;
        }
        let wanted = match &self.way {
            Way::None => true,
            Way::Opening(_) => false,
            Way::Open(_, since) => now.saturating_duration_since(*since) >= RENEW,
        };
        if wanted {
            let place = place.clone();
            let connect = async move { tokio::time::timeout(within, place.connect()).await.unwrap_or(Err(io::ErrorKind::TimedOut.into())) };
            self.way = Way::Opening(Box::pin(connect));
        }
    }

    /// Waits until the other side ends it; for ever where there is none. May be waited for again and again.
    pub async fn ended(&mut self) {
        loop {
            match &mut self.way {
                Way::None => return pending().await,
                Way::Opening(opening) => {
                    let opened = opening.await;
                    self.way = opened.map_or(Way::None, |stream| Way::Open(stream, clock::now()));
                }
                Way::Open(stream, _) => {
                    let _ = stream.readable().await;
                    // Words that nobody asked for are a goodbye: `408 Request Timeout`.
                    let alive = matches!(stream.try_read(&mut [0; 1]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
                    if !alive {
                        (self.way, self.ended) = (Way::None, true);
                        return;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::remote_write::ClientTls;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    const WITHIN: Duration = Duration::from_secs(5);

    struct Bench {
        listener: TcpListener,
        place: Place,
        line: Line,
        now: Instant,
    }

    impl Bench {
        async fn new() -> Bench {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let place = Place::new(&format!("http://{}", listener.local_addr().unwrap()), &ClientTls::default()).unwrap();
            Bench { listener, place, line: Line::default(), now: clock::now() }
        }

        fn looked(&mut self, sight: &Sight) {
            self.line.looked(sight, self.now, (&self.place, WITHIN));
        }

        /// The server's end of a line that is opened now.
        async fn accepted(&mut self) -> TcpStream {
            tokio::select! {
                accepted = self.listener.accept() => accepted.unwrap().0,
                () = self.line.ended() => panic!("it ends before it begins"),
            }
        }

        /// Whether the line ends; if not at once, it does not.
        async fn ends(&mut self) -> bool {
            tokio::time::timeout(Duration::from_millis(200), self.line.ended()).await.is_ok()
        }

        async fn none_is_opened(&mut self) {
            assert!(!self.ends().await);
            assert!(tokio::time::timeout(Duration::from_millis(50), self.listener.accept()).await.is_err());
        }
    }

    #[tokio::test]
    async fn its_end_is_known_at_once_however_it_comes() {
        for how in ["closed", "reset", "words"] {
            let mut bench = Bench::new().await;
            bench.looked(&Sight::Ready);
            let mut stream = bench.accepted().await;
            assert!(!bench.ends().await, "all is well");
            match how {
                "closed" => drop(stream),
                "reset" => {
                    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                    drop(stream);
                }
                _ => {
                    stream.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
                    assert!(bench.ends().await, "{how}");
                    continue;
                }
            }
            assert!(bench.ends().await, "{how}");
            assert!(!bench.ends().await, "it ends once");
        }
    }

    #[tokio::test]
    async fn none_is_kept_where_nothing_is_well() {
        let mut bench = Bench::new().await;
        for sight in [Sight::Refused, Sight::Silent, Sight::Strange(String::new()), Sight::NotReady { stopping: None, replay: None }] {
            bench.looked(&sight);
            bench.none_is_opened().await;
        }
    }

    #[tokio::test]
    async fn one_that_is_ended_while_all_is_well_is_of_no_use_for_a_while() {
        let mut bench = Bench::new().await;
        bench.looked(&Sight::Ready);
        drop(bench.accepted().await);
        assert!(bench.ends().await);
        bench.looked(&Sight::Ready);
        bench.none_is_opened().await;
        bench.now += USELESS;
        bench.looked(&Sight::Ready);
        drop(bench.accepted().await);
        assert!(bench.ends().await);
        // This time it was its death, and another process has taken its place.
        bench.looked(&Sight::Refused);
        bench.looked(&Sight::Ready);
        let _open = bench.accepted().await;
        assert!(!bench.ends().await);
    }

    #[tokio::test]
    async fn it_is_replaced_before_it_is_old() {
        let mut bench = Bench::new().await;
        bench.looked(&Sight::Ready);
        let _first = bench.accepted().await;
        assert!(!bench.ends().await);
        bench.looked(&Sight::Ready);
        bench.none_is_opened().await;
        bench.now = clock::now() + RENEW;
        bench.looked(&Sight::Ready);
        let _second = bench.accepted().await;
        assert!(!bench.ends().await, "its own end of the first one is not the end of the second");
    }

    #[tokio::test]
    async fn where_nobody_listens_there_is_none() {
        let mut bench = Bench::new().await;
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        bench.place = Place::new(&format!("http://{nobody}"), &ClientTls::default()).unwrap();
        bench.looked(&Sight::Ready);
        assert!(!bench.ends().await);
        bench.place = Place::new(&format!("http://{}", bench.listener.local_addr().unwrap()), &ClientTls::default()).unwrap();
        bench.looked(&Sight::Ready);
        let _open = bench.accepted().await;
    }
}

//! The accept loop: connections in, requests to one function, an orderly end. It knows no path and no protocol above HTTP.
//!
//! HTTP/1.1 and HTTP/2: with TLS (`tls`) as client and listener agree, without it for whoever opens with HTTP/2's preface. Beyond the bound on connections a sender is answered 503 and keeps
//! its connection, because a refused connection looks to Prometheus like a dead receiver and is tried again at once; a quarter beyond
//! the bound no more are accepted until one goes.

pub mod ask;
pub mod body;
mod lifetime;
pub mod metrics;
pub mod tls;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::serve::body::Body;
use crate::serve::lifetime::Lifetime;
use crate::serve::metrics::Metrics;
use crate::serve::tls::Tls;

/// A request as it comes in.
pub type Request = hyper::Request<Incoming>;
/// An answer.
pub type Response = hyper::Response<Body>;
/// An answer on its way.
pub type Answering = Pin<Box<dyn Future<Output = Response> + Send>>;
/// What answers requests.
pub type Answerer = Arc<dyn Fn(Request, Peer) -> Answering + Send + Sync>;
/// Is told when a connection is gone: its number, which every request that came over it has named, and whether this side wanted that.
pub type Gone = Arc<dyn Fn(u64, bool) + Send + Sync>;

/// Prometheus closes idle connections after 5 minutes: the receiver must not be the one that closes first, or a request that is just
/// being sent meets a closed connection. Also the most that the head of a request may take.
const IDLE: Duration = Duration::from_secs(6 * 60);
/// How long a new connection may stay silent about which HTTP it speaks.
const PREFACE: Duration = IDLE;
/// The beginning of an HTTP/2 connection; no HTTP/1 method begins like it.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// One h2 connection carries all shards of an old Prometheus: 50 requests of about 100 KB under way.
const HTTP2_WINDOW: u32 = 4 << 20;
/// What a connection without HTTP/2 reads at once at most, and keeps while it is open: hyper's own bound is 400 KiB, which a thousand senders' connections
/// fill. The head of a request must fit.
const READ_BUFFER: usize = 64 << 10;

/// Who sent a request.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The number of its connection, never used again while the process lives.
    pub connection: u64,
    /// It came over a connection beyond the bound.
    pub beyond_bound: bool,
}

/// Who asks, as far as it is known: the name of the token that came with the request, or the address that it came from. An extension of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who(pub Arc<str>);

/// Whose samples come with the token of a request. An extension of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant(pub Arc<str>);

/// The tenant that a header of this name says. Several headers, or bytes that are no text, are a tenant that is none.
pub fn tenant_in(headers: &hyper::HeaderMap, name: &str) -> Option<String> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?;
    let one = if all.next().is_none() { first.to_str().ok() } else { None };
    Some(one.map_or_else(String::new, |text| text.trim().to_owned()))
}

/// Why there is no listening.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error(
        "{0} is taken: another program listens there. Stop it, or choose another address with `listen:` in the file or --listen HOST:PORT"
    )]
    Taken(SocketAddr),
    /// The system refuses.
    #[error("cannot listen on {0}: {1}. Choose another address with `listen:` in the file or --listen HOST:PORT")]
    Refused(SocketAddr, std::io::Error),
}

/// An open socket, not yet answered.
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
}

impl Listener {
    /// Opens the socket.
    pub async fn bind(address: SocketAddr) -> Result<Listener, BindError> {
        let refused = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::AddrInUse => BindError::Taken(address),
            _ => BindError::Refused(address, error),
        };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Listener { listener, address, tls: None })
    }

    /// Connections shake hands first, if there is a certificate.
    pub fn with_tls(self, tls: Option<Arc<Tls>>) -> Listener {
        Listener { tls, ..self }
    }

    /// Where it listens: with the port that the system chose where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Bounds of the accept loop.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// See [`Peer::beyond_bound`].
    pub connections: usize,
    /// After about so long a connection ends with its next answer; 0: never.
    pub age: Duration,
    /// How long requests under way may take once the end has come.
    pub drain: Duration,
}

/// Who answers, and who is told of the end of a connection.
#[derive(Clone)]
pub struct Door {
    /// Answers requests.
    pub answerer: Answerer,
    /// Is told of connections that are gone.
    pub gone: Gone,
}

/// Accepts and answers until `stop` says so, then lets requests under way end. Returns how many connections had to be cut.
pub async fn run(listener: Listener, bounds: Bounds, door: Door, metrics: Metrics, mut stop: watch::Receiver<bool>) -> usize {
    let hard = bounds.connections + (bounds.connections / 4).max(64);
    let open = Arc::new(AtomicUsize::new(0));
    let stopping = stop.clone();
    let mut connections: JoinSet<()> = JoinSet::new();
    let mut last = 0;
    loop {
        let full = connections.len() >= hard;
        tokio::select! {
            biased; // the end first, then room, then new connections
            _ = stopped(&mut stop) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.listener.accept(), if !full => match accepted {
                Ok((stream, address)) => {
                    let number = open.fetch_add(1, Ordering::Relaxed) + 1;
                    last += 1;
                    let peer = Peer { address, connection: last, beyond_bound: number > bounds.connections };
                    metrics.opened(peer.beyond_bound);
                    let lifetime = Arc::new(Lifetime::about(bounds.age, fastrand::f64()));
                    let service = Service { answerer: Arc::clone(&door.answerer), peer, lifetime: Arc::clone(&lifetime) };
                    let (open, gone) = (Arc::clone(&open), Arc::clone(&door.gone));
                    let left = Leaving { open, metrics: metrics.clone(), connection: last, lifetime, gone };
                    connections.spawn(connection(stream, listener.tls.clone(), service, stopping.clone(), left));
                }
                // Out of descriptors or memory: existing connections go on, new ones are tried again.
                Err(error) => {
                    metrics.accept_failed();
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    let all_gone = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(bounds.drain, all_gone).await.is_ok() {
        return 0;
    }
    let cut = connections.len();
    connections.shutdown().await;
    cut
}

/// Ends when the end has come. (Without the guard that `wait_for` returns, which may not be held across an await.)
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Counts a connection as gone, however it ends.
struct Leaving {
    open: Arc<AtomicUsize>,
    metrics: Metrics,
    connection: u64,
    lifetime: Arc<Lifetime>,
    gone: Gone,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.metrics.closed();
        let ours = self.lifetime.is_ours();
        if ours {
            self.metrics.ended();
        }
        (self.gone)(self.connection, ours);
    }
}

/// What requests of one connection need.
struct Service {
    answerer: Answerer,
    peer: Peer,
    lifetime: Arc<Lifetime>,
}

async fn connection(stream: TcpStream, tls: Option<Arc<Tls>>, service: Service, mut stop: watch::Receiver<bool>, left: Leaving) {
    // An answer is one small packet that nothing follows: waiting for more costs the sender 40 ms.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        let http2 = tokio::select! {
            _ = stopped(&mut stop) => return,
            spoken = tokio::time::timeout(PREFACE, speaks_http2(&stream)) => match spoken {
                Ok(Ok(http2)) => http2,
                Ok(Err(_)) | Err(_) => return,
            },
        };
        return converse(TokioIo::new(stream), http2, service, stop).await;
    };
    let shaken = tokio::select! {
        _ = stopped(&mut stop) => return,
        shaken = tls.accept(stream) => shaken,
    };
    match shaken {
        Ok((stream, http2)) => converse(TokioIo::new(stream), http2, service, stop).await,
        Err(error) => {
            left.metrics.handshake_failed();
            tracing::debug!(from = %service.peer.address, %error, "a connection without a handshake");
        }
    }
}

/// Requests and answers, until the connection or the node ends.
async fn converse<Io>(io: TokioIo<Io>, http2: bool, service: Service, mut stop: watch::Receiver<bool>)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Service { answerer, peer, lifetime } = service;
    let of_answers = Arc::clone(&lifetime);
    let service = service_fn(move |request: Request| {
        let (answering, lifetime) = (answerer(request, peer), Arc::clone(&of_answers));
        async move {
            let mut response = answering.await;
            lifetime.mark(http2, &mut response);
            Ok::<Response, Infallible>(response)
        }
    });
    // Errors here are the sender's or the network's (reset, silence): there is nobody left to tell.
    if http2 {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).initial_stream_window_size(HTTP2_WINDOW).initial_connection_window_size(4 * HTTP2_WINDOW);
        builder.max_concurrent_streams(256).keep_alive_interval(Some(Duration::from_secs(60))).keep_alive_timeout(Duration::from_secs(30));
        let mut connection = std::pin::pin!(builder.serve_connection(io, service));
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = stopped(&mut stop) => connection.as_mut().graceful_shutdown(),
            () = lifetime.over() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(IDLE).half_close(true).max_buf_size(READ_BUFFER);
        let mut connection = std::pin::pin!(builder.serve_connection(io, service));
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = stopped(&mut stop) => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}

/// Looks at the first bytes without taking them.
async fn speaks_http2(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0u8; HTTP2_PREFACE.len()];
    loop {
        // Asked before the peek, which then sees all that will ever come.
        let ended = stream.ready(tokio::io::Interest::READABLE).await?.is_read_closed();
        let seen = stream.peek(&mut first).await?;
        if seen == 0 || first[..seen] != HTTP2_PREFACE[..seen] {
            return Ok(false);
        }
        if seen == first.len() {
            return Ok(true);
        }
        if ended {
            return Ok(false);
        }
        // `peek` returns at once while some bytes are there: a sender that dribbles its preface is looked at again a little later.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An answer of one kind of content.
pub fn answer(status: hyper::StatusCode, content_type: &'static str, content: impl Into<Bytes>) -> Response {
    let mut response = Response::new(body::full(content.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests;

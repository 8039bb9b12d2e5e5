//! The way to one peer: one connection, kept up; Raft's messages on one stream behind each other (`stream`), offers and proposals beside it.
//!
//! A message that does not fit into the queue is dropped and counted, and so is all that waits when the connection breaks: Raft sends again.
//! A connection is given up when it says nothing for some seconds, since a stopped process keeps its sockets open, and when messages do not move.
//! The stream begins with the first message: before that the other side may belong to no cluster yet, and would have to refuse it.
//!
//! It leaves from the address that this node listens on for the others, where one was named: on a host with several addresses firewalls, and
//! whoever reads logs, see the node's own.

use std::future::poll_fn;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Limited;
use hyper::Request;
use hyper::StatusCode;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::io::BufStream;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::clock;
use crate::config::cluster::Member;
use crate::peer::CLUSTER_HEADER;
use crate::peer::Common;
use crate::peer::frame::Letter;
use crate::peer::hello::Hello;
use crate::peer::stream::Outbox;
use crate::peer::stream::Sent;
use crate::peer::tls;

/// To connect, to shake hands, to be greeted.
const DIAL: Duration = Duration::from_secs(3);
/// Between two greetings, by which each side knows how the other one is.
const GREET: Duration = Duration::from_secs(1);
/// Messages that do not move for so long cost the connection.
const STILL: Duration = Duration::from_secs(5);
/// Between two tries, at first and at most.
const REDIAL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// No answer of a peer is longer: a piece of a snapshot that ends with an entry of 16 MiB.
const ANSWER_BYTES: usize = 24 << 20;
/// In one call to the system, in each direction: what a pair of Prometheus sends in one request fits, so it wakes the other side once. TLS by itself
/// reads 4 KiB at a time and writes a record of 16.
const CALL_BYTES: usize = 128 << 10;
/// In one frame of HTTP/2, for the same reason: it flushes behind each.
pub(super) const FRAME_BYTES: u32 = 1 << 20;
/// Where the stream of messages goes.
pub(super) const LETTERS_PATH: &str = "/letters";

/// Where a peer stands, as seen from here.
#[derive(Clone, Debug, PartialEq)]
pub enum Sight {
    /// No connection: why.
    Unreachable(String),
    /// It answers.
    Greeted {
        /// What it said last.
        hello: Box<Hello>,
        /// Its clock less ours, ms.
        clock_off_ms: i64,
    },
}

/// The answer to a stream's request: why it ended.
type Ended = Pin<Box<dyn Future<Output = Result<(StatusCode, Bytes), String>> + Send>>;

/// One peer.
pub struct Link {
    /// Its name and address.
    pub member: Member,
    /// Where this node listens for the others.
    listen: IpAddr,
    outbox: Arc<Outbox>,
    connection: Mutex<Option<SendRequest<Sent>>>,
    /// Who is on the other side, by its certificate; 0: nobody.
    id: AtomicU64,
    sight: Mutex<Sight>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The address to leave from; `None`: the system chooses. From an address of loopback no way leads out of the host.
fn leaves_from(listen: IpAddr, to: IpAddr) -> Option<IpAddr> {
    let fits = listen.is_ipv4() == to.is_ipv4() && (!listen.is_loopback() || to.is_loopback());
    Some(listen).filter(|_| fits && !listen.is_unspecified())
}

async fn connect(listen: IpAddr, address: &str) -> std::io::Result<TcpStream> {
    let mut last = None;
    for to in tokio::net::lookup_host(address).await? {
        let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        let bound = leaves_from(listen, to.ip()).map_or(Ok(()), |from| socket.bind(SocketAddr::new(from, 0)));
        match bound {
            Ok(()) => match socket.connect(to).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            },
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| std::io::Error::other("the name has no address")))
}

/// Few large calls to the system instead of many small ones.
pub(super) fn buffered(stream: TcpStream) -> BufStream<TcpStream> {
    BufStream::with_capacity(CALL_BYTES, CALL_BYTES, stream)
}

impl Link {
    /// Not connected yet.
    pub fn new(member: Member, listen: IpAddr) -> Link {
        Link {
            member,
            listen,
            outbox: Arc::default(),
            connection: Mutex::default(),
            id: AtomicU64::new(0),
            sight: Mutex::new(Sight::Unreachable("not tried yet".to_owned())),
        }
    }

    /// Who is on the other side, by its certificate.
    pub fn id(&self) -> Option<u64> {
        Some(self.id.load(Ordering::Acquire)).filter(|id| *id != 0)
    }

    /// Where it stands.
    pub fn sight(&self) -> Sight {
        lock(&self.sight).clone()
    }

    /// Never waits. False: it did not fit, or there is no connection.
    pub fn post(&self, letter: Letter) -> bool {
        self.outbox.post(letter)
    }

    /// Messages that were sent, and that were dropped, since the beginning.
    pub fn figures(&self) -> (u64, u64) {
        self.outbox.figures()
    }

    /// Asks the peer; `None`: no answer, so nobody knows what became of it. An error: there is no connection, so nothing was sent.
    pub async fn ask(&self, common: &Common, path: &str, body: Bytes, within: Duration) -> Result<Option<(StatusCode, Bytes)>, ()> {
        let Some(connection) = lock(&self.connection).clone() else { return Err(()) };
        Ok(tokio::time::timeout(within, request(connection, common, path, body.into())).await.ok().and_then(Result::ok))
    }

    /// Keeps the connection up until the end.
    pub async fn run(self: Arc<Link>, common: Arc<Common>, mut stop: watch::Receiver<bool>) {
        let mut pause = REDIAL.0;
        loop {
            let why = tokio::select! {
                _ = ended(&mut stop) => return,
                why = self.once(&common, &mut pause) => why,
            };
            *lock(&self.connection) = None;
            self.outbox.close();
            let before = std::mem::replace(&mut *lock(&self.sight), Sight::Unreachable(why.clone()));
            if matches!(before, Sight::Greeted { .. }) {
                tracing::warn!(peer = self.member.name, "the connection is gone: {why}");
            }
            let gone = self.id.swap(0, Ordering::AcqRel);
            if gone != 0 {
                common.unreachable(gone);
            }
            let jitter = pause.mul_f64(0.5 + fastrand::f64());
            tokio::select! {
                _ = ended(&mut stop) => return,
                () = tokio::time::sleep(jitter) => pause = (pause * 2).min(REDIAL.1),
            }
        }
    }

    /// One connection, from its making to its end; says why it ended.
    async fn once(&self, common: &Arc<Common>, pause: &mut Duration) -> String {
        let connected = match tokio::time::timeout(DIAL, self.dial(common)).await {
            Ok(connected) => connected,
            Err(_) => Err(format!("{} did not answer within {} s", self.member.address, DIAL.as_secs())),
        };
        let (connection, driver) = match connected {
            Ok(connected) => connected,
            Err(why) => return why,
        };
        let mut driver = std::pin::pin!(driver);
        tokio::select! {
            // The driver moves the bytes; when it ends so has the connection.
            why = driver.as_mut() => why,
            why = self.work(connection, common, pause) => why,
        }
    }

    async fn dial(&self, common: &Arc<Common>) -> Result<(SendRequest<Sent>, impl Future<Output = String> + Send + use<>), String> {
        let address = &self.member.address;
        let stream = connect(self.listen, address).await.map_err(|error| format!("{address}: {error}"))?;
        let _ = stream.set_nodelay(true);
        let name = ServerName::try_from(self.member.name.clone()).map_err(|error| format!("{}: {error}", self.member.name))?;
        let stream = common
            .tls
            .get()
            .connector
            .connect(name, buffered(stream))
            .await
            .map_err(|error| format!("{address}: {error}; was it admitted by the same bundle, under the name {}?", self.member.name))?;
        let id = tls::id_of(stream.get_ref().1.peer_certificates()).ok_or("its certificate names no node")?;
        common.is_expected(&self.member.name, id)?;
        self.id.store(id, Ordering::Release);
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(1)).keep_alive_timeout(Duration::from_secs(2));
        builder.initial_stream_window_size(8 << 20).initial_connection_window_size(32 << 20).max_send_buf_size(4 << 20);
        builder.max_frame_size(FRAME_BYTES);
        let (connection, driver) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| format!("{address}: {error}"))?;
        let address = address.clone();
        let driver = async move {
            match driver.await {
                Ok(()) => format!("{address} closed the connection"),
                Err(error) => format!("{address}: {error}"),
            }
        };
        Ok((connection, driver))
    }

    async fn work(&self, connection: SendRequest<Sent>, common: &Arc<Common>, pause: &mut Duration) -> String {
        let mut greeted = None;
        let mut stream: Option<Ended> = None;
        loop {
            let now = clock::now();
            if greeted.is_none_or(|at| now.saturating_duration_since(at) >= GREET) {
                if let Err(why) = self.greet(&connection, common).await {
                    return why;
                }
                if greeted.is_none() {
                    *pause = REDIAL.0;
                    *lock(&self.connection) = Some(connection.clone());
                    self.outbox.open();
                    tracing::info!(peer = self.member.name, address = self.member.address, "connected");
                }
                greeted = Some(now);
                if self.outbox.stands_still(STILL) {
                    return format!("it has taken no messages for {} s", STILL.as_secs());
                }
            }
            // Either the stream's end or, where there is none, something to begin one for; and the next greeting in time.
            let news = async {
                match &mut stream {
                    Some(ended) => Some(ended.await),
                    None => {
                        poll_fn(|context| self.outbox.poll_news(context)).await;
                        None
                    }
                }
            };
            match tokio::time::timeout(GREET, news).await {
                Err(_) => {}
                Ok(None) => {
                    let (connection, common, letters) = (connection.clone(), Arc::clone(common), Sent::Letters(self.outbox.begin()));
                    stream = Some(Box::pin(async move { request(connection, &common, LETTERS_PATH, letters).await }));
                }
                Ok(Some(ended)) => {
                    stream = None;
                    self.outbox.end();
                    match ended {
                        // It is not (or not yet) a member to that node, which the greetings say, too: the connection stays, to hear when that changes.
                        Ok((StatusCode::FORBIDDEN, _)) => self.outbox.discard(),
                        Ok((status, text)) => return format!("it refuses messages ({status}): {}", String::from_utf8_lossy(&text)),
                        Err(why) => return why,
                    }
                }
            }
        }
    }

    async fn greet(&self, connection: &SendRequest<Sent>, common: &Arc<Common>) -> Result<(), String> {
        let before = clock::wall_ms();
        let body = serde_json::to_vec(&common.hello()).map_err(|error| error.to_string())?;
        let asked = tokio::time::timeout(DIAL, request(connection.clone(), common, "/hello", Bytes::from(body).into())).await;
        let (status, answer) = asked.map_err(|_| format!("no greeting within {} s", DIAL.as_secs()))??;
        if status != StatusCode::OK {
            return Err(format!("it does not greet ({status}): {}", String::from_utf8_lossy(&answer)));
        }
        let hello: Hello = serde_json::from_slice(&answer).map_err(|error| format!("its greeting cannot be read: {error}"))?;
        if let (Some(own), Some(theirs)) = (common.cluster(), &hello.cluster)
            && own != *theirs
        {
            return Err(format!("it belongs to another cluster ({theirs}; this node's is {own})"));
        }
        let middle = (before + clock::wall_ms()) / 2;
        let clock_off_ms = hello.now_ms - middle;
        *lock(&self.sight) = Sight::Greeted { hello: Box::new(hello), clock_off_ms };
        Ok(())
    }
}

async fn request(mut connection: SendRequest<Sent>, common: &Common, path: &str, body: Sent) -> Result<(StatusCode, Bytes), String> {
    let request = Request::post(format!("https://sluice{path}"))
        .header(CLUSTER_HEADER, common.cluster().unwrap_or_default())
        .body(body)
        .map_err(|error| error.to_string())?;
    connection.ready().await.map_err(|error| error.to_string())?;
    let answer = connection.send_request(request).await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await.map_err(|error| error.to_string())?;
    Ok((status, body.to_bytes()))
}

/// Ends when the end has come. (Without the guard that `wait_for` returns, which may not be held across an await.)
pub(super) async fn ended(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use super::leaves_from;

    #[test]
    fn a_connection_leaves_from_the_address_that_the_node_listens_on_where_it_can() {
        let from = |listen: &str, to: &str| leaves_from(listen.parse().unwrap(), to.parse().unwrap()).map(|from| from.to_string());
        assert_eq!(from("10.0.0.1", "10.0.0.2"), Some("10.0.0.1".into()));
        assert_eq!(from("127.0.0.11", "127.0.0.1"), Some("127.0.0.11".into()));
        assert_eq!(from("::1", "::1"), Some("::1".into()));
        for (listen, to) in [("0.0.0.0", "10.0.0.2"), ("::", "fd00::2"), ("10.0.0.1", "fd00::2"), ("127.0.0.1", "10.0.0.2")] {
            assert_eq!(from(listen, to), None, "{listen} {to}");
        }
    }
}
